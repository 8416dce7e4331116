"""
What a topology says of a node that is an export of any NBD server: C{nbd://} and C{nbd+unix://}, and with TLS
C{nbds://} and C{nbds+unix://}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote, urlsplit

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from zope.interface import implementer

from dst.errors import ConfigurationError
from dst.interfaces import INode, INodeProvider
from dst.nbd.constants import STRING_BYTES_MAX
from dst.nodes.addresses import network_endpoint, network_uri
from dst.nodes.nbd import NBDNode
from dst.nodes.settings import Settings
from dst.security.interfaces import ISecurity

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["PORT", "NBDNodeProvider", "NBDSNodeProvider", "NBDSUNIXNodeProvider", "NBDUNIXNodeProvider"]

PORT: Final = 10809
"""NBD's."""


def _node(
    reactor: IReactorTime,
    endpoint: IStreamClientEndpoint,
    export: str,
    address: str,
    settings: Settings,
    tls: IOpenSSLClientConnectionCreator | None = None,
) -> NBDNode:
    deadline_s = settings.take_seconds("deadline_s", 30.0)
    durable = settings.take_bool("durable")
    settings.finish()
    return NBDNode(
        reactor, settings.name, endpoint, export, address=address, deadline_s=deadline_s, durable=durable, tls=tls
    )


def _tls(host: str, settings: Settings, security: ISecurity | None) -> IOpenSSLClientConnectionCreator:
    peer = settings.take_text("peer") or None
    if security is None:
        raise ConfigurationError(
            f"node {settings.name!r}: {settings.uri} is with TLS, and this daemon has no certificate: `dst join` or "
            "`dst ca issue` makes a security directory; name it as [daemon] security_dir"
        )
    return security.client_options(host, peer, allow_tls_1_2=True)


def _settings(name: str, uri: str, query: str, options: dict[str, object]) -> Settings:
    """What is said of the node, in the URI's query and beside it."""
    settings = Settings(name, f"nbd:?{query}" if query else "nbd:", options)
    settings.uri = uri
    return settings


def _export_name(name: str, uri: str, path: str, expected: str) -> str:
    """The export's name in the path of a URI: what stands behind the first slash, also if it begins with one."""
    try:
        export = unquote(path.removeprefix("/"), errors="strict")
    except ValueError as error:
        raise ConfigurationError(f"node {name!r}: {uri}: {error}; {expected}") from None
    if len(export.encode()) > STRING_BYTES_MAX or "\0" in export:
        raise ConfigurationError(f"node {name!r}: {uri}: the export's name is too long or has a NUL in it")
    return export


@implementer(INodeProvider)
class NBDNodeProvider:
    """
    C{nbd://HOST[:PORT]/EXPORT}, where C{HOST} is a name, an IPv4 address, or an IPv6 address in brackets; without
    C{EXPORT} the server's default export.

    Settings: C{deadline_s}, C{durable}.
    """

    scheme = "nbd"

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> INode:
        """See L{INodeProvider.node_from_uri}."""
        return self._node(reactor, name, uri, options, None, encrypted=False)

    def _node(
        self,
        reactor: IReactorTime,
        name: str,
        uri: str,
        options: dict[str, object],
        security: ISecurity | None,
        *,
        encrypted: bool,
    ) -> INode:
        scheme = self.scheme
        expected = f"expected {scheme}://HOST:PORT/EXPORT, as {scheme}://127.0.0.1:10809/vol or {scheme}://[::1]/vol"
        parts, host, port = network_uri(name, uri, scheme, PORT, expected)
        export = _export_name(name, uri, parts.path, expected)
        settings = _settings(name, uri, parts.query, options)
        endpoint, address = network_endpoint(reactor, host, port)
        tls = _tls(host, settings, security) if encrypted else None
        return _node(reactor, endpoint, export, address, settings, tls)


@implementer(INodeProvider)
class NBDSNodeProvider(NBDNodeProvider):
    """
    C{nbds://HOST[:PORT]/EXPORT}: the same over TLS, with the daemon's certificate.

    The server's has to be for C{HOST}; with C{peer=NAME} it has to call the server that.
    """

    scheme = "nbds"
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
        return self._node(reactor, name, uri, options, security, encrypted=True)


@implementer(INodeProvider)
class NBDUNIXNodeProvider:
    """C{nbd+unix:///EXPORT?socket=PATH}: the same over a UNIX socket.  Settings as with C{nbd}."""

    scheme = "nbd+unix"

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> INode:
        """See L{INodeProvider.node_from_uri}."""
        return self._node(reactor, name, uri, options, None, encrypted=False)

    def _node(
        self,
        reactor: IReactorTime,
        name: str,
        uri: str,
        options: dict[str, object],
        security: ISecurity | None,
        *,
        encrypted: bool,
    ) -> INode:
        scheme = self.scheme
        expected = f"expected {scheme}:///EXPORT?socket=PATH, as {scheme}:///vol?socket=/run/nbd.sock"
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise ConfigurationError(f"node {name!r}: {uri}: {error}; {expected}") from None
        if parts.scheme != self.scheme or parts.netloc or parts.fragment:
            raise ConfigurationError(f"node {name!r}: {uri}: {expected}")
        export = _export_name(name, uri, parts.path, expected)
        settings = _settings(name, uri, parts.query, options)
        path = settings.take_text("socket")
        if not path:
            raise ConfigurationError(f"node {name!r}: {uri} names no socket; {expected}")
        tls = _tls("localhost", settings, security) if encrypted else None
        return _node(reactor, UNIXClientEndpoint(cast(Any, reactor), path), export, path, settings, tls)


@implementer(INodeProvider)
class NBDSUNIXNodeProvider(NBDUNIXNodeProvider):
    """
    C{nbds+unix:///EXPORT?socket=PATH}: the same over TLS.  Settings as with C{nbds}; without C{peer} the server's
    certificate has to be for C{localhost}.
    """

    scheme = "nbds+unix"
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
        return self._node(reactor, name, uri, options, security, encrypted=True)
