"""
Devices come, go and change while the daemon runs.

A device that stands alone is opened and closed by the cluster, and opens and closes what is below it.  So it is
these that are compared: one that is the same down to its leaves goes on; any other one is closed, and what the new
topology has in its stead is opened.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, TypeAlias

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from dst.cluster.building import build
from dst.cluster.topology import NodeSpec, SliceSpec, StorageSpec, Topology

if TYPE_CHECKING:
    from dst.cluster.assembly import Cluster

__all__ = ["Reshaping"]

_log = Logger()

Shape: TypeAlias = tuple[object, ...]


class Reshaping:
    """
    The devices of one cluster.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def concerned(self, new: Topology, settled: Collection[str] = ()) -> set[str]:
        """The devices that L{to} closes, with everything below them."""
        old = self._cluster.topology
        leaving = self._leaving(new, settled)
        return {name for root in leaving for name in _below(old, root)}

    async def to(self, new: Topology, settled: Collection[str] = ()) -> None:
        """
        Open and close what C{new} has and has not.

        @param settled: storages that have been changed already, and go on whatever stands below them.
        @raise DSTError: something cannot be opened; it is closed again, and what was closed for it stays so.
        """
        cluster, old = self._cluster, self._cluster.topology
        for root in self._leaving(new, settled):
            await self.close(root)
        there = cluster.devices.by_name
        kept = {name for name in there if name in _names(new)}
        for name in [
            name for name in there if name not in kept or _shape(old, name, settled) != _shape(new, name, settled)
        ]:
            self._forget(name)
        await self._open_what_is_missing(new)

    async def close(self, root: str) -> None:
        """Close a device that stands alone. What is below it can be used by another one then."""
        cluster = self._cluster
        for devices in cluster.opened.values():
            for device in [each for each in devices if each.name == root]:
                devices.remove(device)
                await maybeDeferred(device.close)
        for name in _below(cluster.topology, root):
            if not self._in_use(name):
                self.forget_closed(name)

    def forget_closed(self, name: str) -> None:
        """
        C{name} was closed: whoever wants it again gets a new one.  What is in memory is nowhere else, and stays.
        """
        spec = _specs(self._cluster.topology).get(name)
        if not isinstance(spec, NodeSpec) or spec.scheme != "memory":
            self._forget(name)

    def build(self, new: Topology) -> None:
        """
        Make what C{new} has and nobody has made yet.

        @raise ConfigurationError: it cannot be made.
        """
        cluster = self._cluster
        before = set(cluster.devices.by_name)
        try:
            build(new, cluster.reactor, cluster.providers, cluster.storage_dir, there=cluster.devices)
        except BaseException:
            for name in set(cluster.devices.by_name) - before:
                self._forget(name)
            raise

    async def open_alone(self, name: str) -> None:
        """
        Open a device that stands alone.

        @raise DSTError: it cannot be; it is closed again.
        """
        cluster = self._cluster
        device = cluster.devices.by_name[name]
        kind = "storages" if name in cluster.devices.storages else "nodes"
        if kind == "storages":
            cluster.create_storage_dir(name)
        try:
            await cluster.open_devices(kind, [device])
        except BaseException:
            if device in cluster.opened[kind]:
                cluster.opened[kind].remove(device)
            await maybeDeferred(device.close).addErrback(
                lambda failure: _log.failure("{name} could not be closed", failure, name=name)
            )
            raise

    async def _open_what_is_missing(self, new: Topology) -> None:
        cluster = self._cluster
        self.build(new)
        for spec in new.storages:
            cluster.create_storage_dir(spec.name)
        for name in cluster.devices.by_name:
            if name in _names(new) and name not in new.used() and not self._is_open(name):
                try:
                    await self.open_alone(name)
                except BaseException:
                    for below in _below(new, name):
                        if below not in _names(cluster.topology):
                            self._forget(below)
                    raise

    def _leaving(self, new: Topology, settled: Collection[str]) -> list[str]:
        old = self._cluster.topology
        roots = _names(new) - new.used()
        return [
            device.name
            for devices in (self._cluster.opened["storages"], self._cluster.opened["nodes"])
            for device in devices
            if device.name not in roots or _shape(old, device.name, settled) != _shape(new, device.name, settled)
        ]

    def _is_open(self, name: str) -> bool:
        return any(device.name == name for devices in self._cluster.opened.values() for device in devices)

    def _in_use(self, name: str) -> bool:
        """Another device that is open stands on it: several slices can have one parent."""
        topology = self._cluster.topology
        return any(
            name in _below(topology, device.name) for devices in self._cluster.opened.values() for device in devices
        )

    def _forget(self, name: str) -> None:
        devices = self._cluster.devices
        devices.by_name.pop(name, None)
        devices.storages.pop(name, None)


def _specs(topology: Topology) -> dict[str, NodeSpec | SliceSpec | StorageSpec]:
    return {spec.name: spec for spec in topology.devices()}


def _names(topology: Topology) -> set[str]:
    return {spec.name for spec in topology.devices()}


def _children(spec: NodeSpec | SliceSpec | StorageSpec) -> tuple[str, ...]:
    if isinstance(spec, StorageSpec):
        return (*spec.nodes, *spec.witnesses)
    return (spec.parent,) if isinstance(spec, SliceSpec) else ()


def _below(topology: Topology, name: str) -> list[str]:
    """C{name}, and every device below it."""
    specs, found = _specs(topology), [name]
    for each in found:
        found += [child for child in (_children(specs[each]) if each in specs else ()) if child not in found]
    return found


def _shape(topology: Topology, name: str, settled: Collection[str]) -> Shape:
    """What C{name} is, down to its leaves."""
    specs = _specs(topology)

    def shape(each: str) -> Shape:
        if each in settled:
            return (each,)
        spec = specs.get(each)
        return (spec, *(() if spec is None else map(shape, _children(spec))))

    return shape(name)
