"""
What a daemon serves: its devices under the names of the topology.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zope.interface import implementer

from dst.cluster.topology import ExportSpec
from dst.errors import NotFound
from dst.interfaces import IExports, INode, OpenExport

__all__ = ["NamedExports"]


@implementer(IExports)
class NamedExports:
    """
    Every export, for everybody: identities mean nothing yet.

    A device that is not ready is listed; the servers refuse to open it until it is.
    """

    def __init__(self, specs: Iterable[ExportSpec], devices: Mapping[str, INode]) -> None:
        """
        @param devices: by name; looked at each time, so that a device may be replaced by another one.
        """
        self._specs = {spec.name: spec for spec in specs}
        self._devices = devices

    def list_exports(self, identity: object | None) -> list[str]:
        """See L{IExports.list_exports}."""
        return sorted(self._specs)

    def open_export(self, name: str, identity: object | None) -> OpenExport:
        """See L{IExports.open_export}."""
        spec = self._specs.get(name)
        if spec is None:
            names = ", ".join(sorted(self._specs)[:12]) or "none"
            raise NotFound(f"there is no export {name[:80]!r} here; there are: {names}")
        return OpenExport(self._devices[spec.device], spec.read_only)
