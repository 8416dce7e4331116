"""Exports to serve, for tests."""

from __future__ import annotations

from zope.interface import implementer

from dst.errors import Denied, NotFound
from dst.interfaces import IExports, INode, OpenExport


@implementer(IExports)
class Offered:
    """A dictionary of devices.  C{read_only} and C{denied} are names."""

    def __init__(self, **devices: INode) -> None:
        self.devices = devices
        self.read_only: set[str] = set()
        self.denied: set[str] = set()

    def list_exports(self, identity: object | None) -> list[str]:
        return sorted(set(self.devices) - self.denied)

    def open_export(self, name: str, identity: object | None) -> OpenExport:
        if name not in self.devices:
            raise NotFound(f"there is no export {name!r} here")
        if name in self.denied:
            raise Denied(f"the export {name!r} is not for you")
        return OpenExport(self.devices[name], name in self.read_only)
