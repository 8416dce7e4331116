"""
What a daemon serves: its devices under the names of the topology.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from zope.interface import implementer

from dst.cluster.building import Devices
from dst.cluster.topology import ExportSpec
from dst.errors import NotFound
from dst.interfaces import IExports, IHistories, INode, OpenExport

__all__ = ["NamedExports"]


@implementer(IExports)
class NamedExports:
    """
    Every export, for everybody: identities mean nothing yet.

    A device that is not ready is listed; the servers refuse to open it until it is.

    While a storage has several histories each of them is there to be read, as C{STORAGE@NODE}. That is so for a
    storage that is exported, or below one that is: who may read that may read these.
    """

    def __init__(self, specs: Iterable[ExportSpec], devices: Devices, used: Container[str] = ()) -> None:
        """
        @param devices: looked at each time, so that a device may be replaced by another one.
        @param used: the names of those that are part of another device: they are only changed past a fence.
        """
        self._used = used
        self._specs = {spec.name: spec for spec in specs}
        self._devices = devices
        for spec in self._specs.values():
            if spec.device in devices.by_name:
                devices.fences.of(spec.device, devices.by_name[spec.device])  # to be read before anybody comes

    def list_exports(self, identity: object | None) -> list[str]:
        """See L{IExports.list_exports}."""
        return sorted({*self._specs, *self._histories()})

    def _histories(self) -> dict[str, INode]:
        """Copies that can only be read, by C{STORAGE@NODE}."""
        found: dict[str, INode] = {}
        seen: set[str] = set()
        names = [spec.device for spec in self._specs.values()]
        while names:
            name = names.pop()
            device = self._devices.by_name.get(name)
            if name in seen or device is None:
                continue
            seen.add(name)
            if IHistories.providedBy(device):
                found |= {f"{name}@{member}": node for member, node in device.histories().items()}
            if name in self._devices.storages:
                names += [node.name for node in self._devices.storages[name].nodes]
        return found

    def open_export(self, name: str, identity: object | None) -> OpenExport:
        """See L{IExports.open_export}."""
        spec = self._specs.get(name)
        if spec is None:
            history = self._histories().get(name)
            if history is not None:
                return OpenExport(history, read_only=True)
            names = ", ".join(self.list_exports(identity)[:12]) or "none"
            raise NotFound(f"there is no export {name[:80]!r} here; there are: {names}")
        node, fences = self._devices.by_name[spec.device], self._devices.fences
        fence = fences.of(spec.device, node)
        if fence is None:
            return OpenExport(node, spec.read_only or spec.device in self._used)
        return OpenExport(fences.unclaimed(spec.device, node, fence), spec.read_only, fence, node)
