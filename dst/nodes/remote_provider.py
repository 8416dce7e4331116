"""
What a topology says of a node that is an export of another daemon: C{dst://} and C{dst+unix://}.
"""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from dst.errors import ConfigurationError
from dst.interfaces import INode, INodeProvider
from dst.nodes.addresses import network_endpoint, network_uri
from dst.nodes.remote import RemoteNode
from dst.nodes.settings import Settings
from dst.security.certificates import NAME
from dst.security.interfaces import ISecurity
from dst.security.tls import TLSEndpoint
from dst.surroundings import surroundings_of
from dst.wire.messages import NAME_BYTES_MAX

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["PORT", "RemoteNodeProvider", "RemoteUNIXNodeProvider"]

PORT: Final = 7450
"""Where a DST daemon listens unless told otherwise."""

_UNIX_PATH_BYTES_MAX: Final = 107
"""The kernel has room for 108, with a zero at the end."""


def _over_tls(
    reactor: IReactorTime,
    endpoint: IStreamClientEndpoint,
    host: str,
    uri: str,
    settings: Settings,
    security: ISecurity | None,
) -> IStreamClientEndpoint:
    """C{endpoint}, with TLS if the settings want it, or if nobody has said that they do not."""
    tls = settings.take_bool("tls", security is not None and not _is_loopback(host))
    peer = settings.take_text("peer") or None
    where = f"node {settings.name!r}: {uri}"
    if not tls:
        if peer is not None:
            raise ConfigurationError(f"{where} has peer={peer!r} and no TLS: without it nobody knows who is there")
        return endpoint
    if security is None:
        raise ConfigurationError(
            f"{where} has tls=on, and this daemon has no certificate: `dst join` or `dst ca issue` makes a security "
            "directory; name it as [daemon] security_dir"
        )
    if peer is not None and not NAME.fullmatch(peer):
        raise ConfigurationError(f"{where} has peer={peer!r}; expected the name in the other daemon's certificate")
    return TLSEndpoint(security.client_options(host, peer), endpoint, reactor)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _node(
    reactor: IReactorTime, endpoint: IStreamClientEndpoint, export: str, address: str, settings: Settings
) -> RemoteNode:
    around = surroundings_of(reactor)
    node = RemoteNode(
        reactor,
        settings.name,
        endpoint,
        export,
        random=around.random(),
        token=around.entropy(16),
        address=address,
        resend_s_max=settings.take_seconds("resend_s_max", 5.0),
        deadline_s=settings.take_seconds("deadline_s", 30.0),
        keepalive_s=settings.take_seconds("keepalive_s", 1.5),
    )
    settings.finish()
    return node


@implementer(INodeProvider)
class RemoteNodeProvider:
    """
    C{dst://HOST[:PORT]/EXPORT}, where C{HOST} is a name, an IPv4 address, or an IPv6 address in brackets.

    Settings: C{resend_s_max}, C{deadline_s}, C{keepalive_s}; C{tls=on} or C{off}, by default on where the daemon has
    certificates and C{HOST} is another machine; C{peer=NAME}, whom to expect there by the certificate, instead of
    one that is for C{HOST}.
    """

    scheme = "dst"
    takes_security = True

    def node_from_uri(
        self,
        reactor: IReactorTime,
        name: str,
        uri: str,
        options: dict[str, object],
        security: ISecurity | None = None,
    ) -> INode:
        """See L{INodeProvider.node_from_uri}."""
        expected = "expected dst://HOST:PORT/EXPORT, as dst://127.0.0.1:7450/vol or dst://[::1]:7450/vol"
        parts, host, port = network_uri(name, uri, self.scheme, PORT, expected)
        settings = Settings(name, f"dst:{parts.path}?{parts.query}" if parts.query else f"dst:{parts.path}", options)
        settings.uri = uri
        export = _export_name(name, uri, settings.path.removeprefix("/"), expected)
        endpoint, address = network_endpoint(reactor, host, port)
        endpoint = _over_tls(reactor, endpoint, host, uri, settings, security)
        return _node(reactor, endpoint, export, address, settings)


@implementer(INodeProvider)
class RemoteUNIXNodeProvider:
    """
    C{dst+unix:///PATH?export=NAME}: the same over a UNIX socket.
    """

    scheme = "dst+unix"

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> INode:
        """See L{INodeProvider.node_from_uri}."""
        expected = "expected dst+unix:///PATH?export=NAME, as dst+unix:///run/dst.sock?export=vol"
        settings = Settings(name, uri, options)
        if not uri.startswith("dst+unix:///") or len(settings.path) < 2:
            raise ConfigurationError(f"node {name!r}: {uri}: {expected}")
        if len(os.fsencode(settings.path)) > _UNIX_PATH_BYTES_MAX:
            raise ConfigurationError(
                f"node {name!r}: {uri}: the path is longer than the {_UNIX_PATH_BYTES_MAX} bytes of a socket's"
            )
        export = _export_name(name, uri, settings.take_text("export", ""), expected)
        endpoint = UNIXClientEndpoint(cast(Any, reactor), settings.path)
        return _node(reactor, endpoint, export, settings.path, settings)


def _export_name(name: str, uri: str, export: str, expected: str) -> str:
    if not export or "/" in export or len(export.encode()) > NAME_BYTES_MAX:
        raise ConfigurationError(f"node {name!r}: {uri}: {export!r} is no export's name; {expected}")
    return export
