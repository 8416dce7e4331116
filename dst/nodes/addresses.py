"""
Where the other end of a network node is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, urlsplit

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from dst.errors import ConfigurationError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["network_endpoint", "network_uri"]


def network_uri(name: str, uri: str, scheme: str, port: int, expected: str) -> tuple[SplitResult, str, int]:
    """
    The parts of C{SCHEME://HOST[:PORT]/...}, its host without brackets, and its port.

    @param name: of the node, for the error.
    @param port: where none is said.
    @raise ConfigurationError: it is no such URI; the sentence ends with C{expected}.
    """
    try:
        parts = urlsplit(uri)
        host, said = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"node {name!r}: {uri}: {error}; {expected}") from None
    if parts.scheme != scheme or not host or parts.fragment or parts.username is not None or said == 0:
        raise ConfigurationError(f"node {name!r}: {uri}: {expected}")
    return parts, host, port if said is None else said


def network_endpoint(reactor: IReactorTime, host: str, port: int) -> tuple[IStreamClientEndpoint, str]:
    """
    How to connect to a TCP server, and its address as people write it.

    @param reactor: the one that providers are given; it is a whole reactor.
    @param host: a name, or an IPv4 or IPv6 address without brackets.
    """
    network = cast(Any, reactor)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(network, host, port), f"[{host}]:{port}"
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isIPAddress(host):
        return TCP4ClientEndpoint(network, host, port), address
    return HostnameEndpoint(network, host, port), address
