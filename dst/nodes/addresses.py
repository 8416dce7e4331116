"""
Where the other end of a network node is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["network_endpoint"]


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
