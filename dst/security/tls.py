"""
TLS in front of protocols that know nothing of it.

Unlike Twisted's own wrappers these have the clock that they are given, and they add no delay: the protocols of this
project gather what they send by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from dst.transport.tls_stream import GatheringTLS

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["TLSEndpoint", "behind_tls"]


def behind_tls(
    options: IOpenSSLServerConnectionCreator, factory: IProtocolFactory, clock: IReactorTime
) -> IProtocolFactory:
    """What a port is given, so that C{factory} serves over TLS only."""
    return _Factory(options, False, factory, clock)


class _Factory(TLSMemoryBIOFactory):
    """Unlike Twisted's it knows that a factory may refuse a client."""

    protocol = TLSMemoryBIOProtocol

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override]
        inner = self.wrappedFactory.buildProtocol(addr)
        if inner is None:
            return None
        # Those that move many bytes say where they belong, and gather what they send.
        kind = GatheringTLS if hasattr(inner, "hole_filled") else self.protocol
        return kind(self, inner)  # type: ignore[no-untyped-call]


@implementer(IStreamClientEndpoint)
@frozen
class TLSEndpoint:
    """C{endpoint}, with TLS on top."""

    options: IOpenSSLClientConnectionCreator
    endpoint: IStreamClientEndpoint
    clock: IReactorTime

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}: as there, it fires when the connection is made, before TLS has begun."""

        def inner(outer: IProtocol) -> IProtocol:
            return cast(TLSMemoryBIOProtocol, outer).wrappedProtocol

        return self.endpoint.connect(_Factory(self.options, True, protocolFactory, self.clock)).addCallback(inner)
