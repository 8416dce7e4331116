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
from dst.errors import DSTError

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
        old = _Shapes(self._cluster.topology, settled)
        return {name for root in self._leaving(old, _Shapes(new, settled)) for name in old.below(root)}

    async def to(self, new: Topology, settled: Collection[str] = ()) -> None:
        """
        Open and close what C{new} has and has not.

        @param settled: storages that have been changed already, and go on whatever stands below them.
        @raise DSTError: something cannot be opened; it is closed again, and what was closed for it stays so.
        """
        before, after = _Shapes(self._cluster.topology, settled), _Shapes(new, settled)
        for root in self._leaving(before, after):
            await self.close(root)
        for name in list(self._cluster.devices.by_name):
            if before.of(name) != after.of(name):
                self._forget(name)
        await self._open_what_is_missing(new, before, after)

    async def back(self, new: Topology, settled: Collection[str] = ()) -> None:
        """
        After L{to} has failed: what was closed for C{new} is opened again as it was, as far as it can be.
        """
        before, after = _Shapes(self._cluster.topology, settled), _Shapes(new, settled)
        for name in list(self._cluster.devices.by_name):
            if before.of(name) != after.of(name):
                if self._is_open(name):
                    await self.close(name)
                self._forget(name)
        self.build(self._cluster.topology)
        for name in [name for name in before.roots if not self._is_open(name)]:
            try:
                await self.open_alone(name)
            except DSTError as error:
                _log.error("{name} could not be opened again: {error}", name=name, error=error.message)

    async def close(self, root: str) -> None:
        """Close a device that stands alone. What is below it can be used by another one then."""
        cluster = self._cluster
        for devices in cluster.opened.values():
            for device in [each for each in devices if each.name == root]:
                devices.remove(device)
                await maybeDeferred(device.close)
        shapes = _Shapes(cluster.topology)
        used = {name for devices in cluster.opened.values() for each in devices for name in shapes.below(each.name)}
        for name in shapes.below(root):
            if name not in used:  # several slices can have one parent
                self.forget_closed(name)

    def forget_closed(self, name: str) -> None:
        """
        C{name} was closed: whoever wants it again gets a new one.  What is in memory is nowhere else, and stays.
        """
        spec = _Shapes(self._cluster.topology).specs.get(name)
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

    async def _open_what_is_missing(self, new: Topology, before: _Shapes, after: _Shapes) -> None:
        cluster = self._cluster
        self.build(new)
        for spec in new.storages:
            cluster.create_storage_dir(spec.name)
        for name in [name for name in after.roots if not self._is_open(name)]:
            try:
                await self.open_alone(name)
            except BaseException:
                for below in after.below(name):
                    if below not in before.specs:
                        self._forget(below)
                raise

    def _leaving(self, before: _Shapes, after: _Shapes) -> list[str]:
        opened = self._cluster.opened
        names = [device.name for devices in (opened["storages"], opened["nodes"]) for device in devices]
        return [name for name in names if name not in after.roots or before.of(name) != after.of(name)]

    def _is_open(self, name: str) -> bool:
        return any(device.name == name for devices in self._cluster.opened.values() for device in devices)

    def _forget(self, name: str) -> None:
        devices = self._cluster.devices
        devices.by_name.pop(name, None)
        devices.storages.pop(name, None)


class _Shapes:
    """
    What the devices of one topology are, down to their leaves.

    @ivar specs: of each, by name.
    @ivar roots: those that stand alone.
    """

    def __init__(self, topology: Topology, settled: Collection[str] = ()) -> None:
        self.specs = {spec.name: spec for spec in topology.devices()}
        used = topology.used()
        self.roots = [name for name in self.specs if name not in used]
        self._settled = settled
        self._known: dict[str, Shape] = {}

    def of(self, name: str) -> Shape:
        """Equal to that of another topology if it is the same device in both."""
        if name in self._settled:
            return (name,)
        shape = self._known.get(name)
        if shape is None:
            spec = self.specs.get(name)
            shape = self._known[name] = (spec, *(() if spec is None else map(self.of, _children(spec))))
        return shape

    def below(self, name: str) -> list[str]:
        """C{name}, and every device below it."""
        found = [name]
        for each in found:
            spec = self.specs.get(each)
            found += [child for child in (() if spec is None else _children(spec)) if child not in found]
        return found


def _children(spec: NodeSpec | SliceSpec | StorageSpec) -> tuple[str, ...]:
    if isinstance(spec, StorageSpec):
        return (*spec.nodes, *spec.witnesses)
    return (spec.parent,) if isinstance(spec, SliceSpec) else ()
