"""
What a port is given: an exporter or the operator's site, behind TLS where the listener says so.

Most protocols are put behind TLS as they are, from the first byte.  One that begins in the clear and then agrees on
TLS, as NBD, is asked for a door of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IProtocolFactory

from dst.cluster.listening import ListenerSpec
from dst.errors import ConfigurationError
from dst.interfaces import INegotiatesTLS
from dst.security.interfaces import ISecurity
from dst.security.tls import behind_tls

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["door"]


def door(
    factory: IProtocolFactory,
    listener: ListenerSpec,
    policy: str,
    security: ISecurity | None,
    clock: IReactorTime,
    *,
    certificate_demanded: bool = True,
) -> IProtocolFactory:
    """
    What the port of C{listener} is given.

    @param policy: C{"off"}, C{"optional"} or C{"required"}.
    @param certificate_demanded: a client without a certificate is nobody; else it may say in another way who it is.
    @raise ConfigurationError: there are no certificates, or the protocol cannot do what is wanted.
    """
    if policy == "off":
        return factory
    if security is None:
        raise ConfigurationError(
            f"{listener.endpoint!r} has tls = {policy!r}, and this daemon has no certificate; "
            "`dst ca init` and `dst ca issue`, or `dst join`, make one"
        )
    if INegotiatesTLS.providedBy(factory):
        options = security.server_options(certificate_demanded=certificate_demanded, allow_tls_1_2=True)
        return factory.door(options, required=policy == "required")
    if policy == "optional":
        raise ConfigurationError(
            f"{listener.endpoint!r} has tls = 'optional', and its protocol cannot begin without TLS and go on with "
            "it; expected off or required"
        )
    return behind_tls(security.server_options(certificate_demanded=certificate_demanded), factory, clock)
