"""
What servers and clients need of a daemon's certificates.
"""

from __future__ import annotations

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface import Attribute, Interface

__all__ = ["ISecurity"]


class ISecurity(Interface):
    """
    The certificates of one daemon, and whom it trusts.

    There is one for each daemon that has a security directory; a daemon without one has C{None} in its place and
    speaks in the clear.

    What the methods return is made once and used for any number of connections.  Each new connection is made with
    the files as they are then: certificates are renewed, authorities added and clients locked out without a restart.
    A connection that there is already is ended when the other side's certificate has been revoked since, or when its
    authority is not trusted any more.

    Whoever is refused is named in the log with the reason, by this object; the user need not.  What a
    protocol is told in C{connectionLost} is put into words by L{dst.security.reasons.why_lost}, and who is at the
    other end is told by L{dst.security.certificates.holder_at}.

    Use it with L{dst.security.tls.behind_tls} in front of a factory, with L{dst.security.tls.TLSEndpoint} on top of
    an endpoint, or with L{dst.transport.tls_stream.GatheringTLS} where a protocol begins without TLS.
    """

    name: str = Attribute("What this daemon's certificate calls it.")

    problem: str = Attribute(
        """
        C{""}, or one sentence: why the files as they are now are not used. Then those before them still are.
        """
    )

    def server_options(
        *, certificate_demanded: bool = True, allow_tls_1_2: bool = False
    ) -> IOpenSSLServerConnectionCreator:
        """
        For those who connect to this daemon.

        @param certificate_demanded: refuse a client that shows none.  Else it is asked for one and may have none, but
            one that it shows has to be good.
        @param allow_tls_1_2: for clients of other makers that know nothing newer; else it is TLS 1.3.
        """

    def client_options(
        host: str, peer: str | None = None, *, allow_tls_1_2: bool = False
    ) -> IOpenSSLClientConnectionCreator:
        """
        For connecting to another daemon, or to a server of another maker with a certificate of the same authority.

        @param host: a name or an address: the other's certificate has to be for it, unless C{peer} is given.
        @param peer: what the other's certificate has to call it, wherever it is.
        """

    def certificate_days_left() -> float:
        """Until this daemon's certificate ends; below 0 when it has."""
