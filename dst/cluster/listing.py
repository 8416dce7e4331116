"""
What a cluster serves, where, and to whom: as the operator sees it.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from attrs import fields
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from dst.administration import ExportStatus, ListenerStatus, SessionStatus, Traffic
from dst.cluster.endpoints import absolute_endpoint
from dst.cluster.listening import ListenerSpec, tls_policy
from dst.identity import access_rule_to_plain

if TYPE_CHECKING:
    from dst.cluster.assembly import Cluster

__all__ = ["list_exports", "list_listeners", "list_sessions", "spoken_address"]


def list_exports(cluster: Cluster) -> list[ExportStatus]:
    """What is served, sorted by name."""
    clients = Counter(session.export for session in list_sessions(cluster))
    traffic: dict[str, Traffic] = {}
    for exporter in cluster.exporters.values():
        for name, counted in exporter.traffic().items():
            traffic[name] = _sum(traffic.get(name, Traffic()), counted)
    listed = []
    for spec in sorted(cluster.topology.exports, key=lambda spec: spec.name):
        device = cluster.devices.by_name.get(spec.device)
        listed.append(
            ExportStatus(
                spec.name,
                spec.device,
                spec.read_only,
                0 if device is None else device.geometry.size,
                None if spec.allow is None else tuple(map(access_rule_to_plain, spec.allow)),
                clients[spec.name],
                traffic.get(spec.name, Traffic()),
            )
        )
    return listed


def list_listeners(cluster: Cluster) -> list[ListenerStatus]:
    """Where clients and operators connect, sorted."""
    topology = cluster.topology
    secured = topology.security_dir() is not None
    specs = [spec for several in topology.listeners.values() for spec in several]
    if topology.daemon.admin is not None:
        specs.append(ListenerSpec(topology.daemon.admin, topology.daemon.admin_tls))
    by_endpoint = {absolute_endpoint(spec.endpoint, topology.base_dir): spec for spec in specs}
    listed = []
    for listening in cluster.listening:
        spec = by_endpoint.get(listening.description, ListenerSpec(listening.description))
        listed.append(
            ListenerStatus(
                listening.what,
                spec.endpoint,
                spoken_address(listening.address),
                tls_policy(spec, secured),
                listening.counted.connections,
            )
        )
    return sorted(listed, key=lambda each: (each.protocol, each.endpoint))


def list_sessions(cluster: Cluster) -> list[SessionStatus]:
    """The clients that have an export open, the oldest first."""
    found = [session for exporter in cluster.exporters.values() for session in exporter.sessions()]
    return sorted(found, key=lambda session: (session.since, session.id))


def spoken_address(address: IAddress) -> str:
    """As a person writes it."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"an unnamed socket")
    return str(address)


def _sum(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(*(getattr(one, each.name) + getattr(other, each.name) for each in fields(Traffic)))
