"""
What a daemon serves, and to whom: its devices under the names of the topology.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from twisted.logger import Logger
from zope.interface import implementer

from dst.cluster.building import Devices
from dst.cluster.topology import ExportSpec
from dst.errors import NotFound
from dst.identity import Access, Identity, access_for
from dst.interfaces import IExports, IHistories, INode, OpenExport
from dst.transport.peers import Recently

__all__ = ["NamedExports"]

_log = Logger()

_STRANGER = Identity()

REFUSALS_MAX = 20
"""Lines in the log about one client in L{REFUSALS_S}: one that tries every five seconds has twelve."""

REFUSALS_S = 60.0


@implementer(IExports)
class NamedExports:
    """
    Every export, for those whom its access list allows.

    Who may not open an export is not told that there is one: the answer is the same as for a name that nobody has
    given, and only the log knows better.  A device that is not ready is listed; the servers refuse to open it until
    it is.

    While a storage has several histories each of them is there to be read, as C{STORAGE@NODE}. That is so for a
    storage that is exported, or below one that is: who may read that may read these.
    """

    def __init__(
        self,
        specs: Iterable[ExportSpec],
        devices: Devices,
        used: Container[str] = (),
        *,
        clock_s: Callable[[], float] | None = None,
    ) -> None:
        """
        @param devices: looked at each time, so that a device may be replaced by another one.
        @param used: the names of those that are part of another device: they are only changed past a fence.
        @param clock_s: seconds, so that somebody who is refused again and again does not fill the log.
        """
        self._refused = None if clock_s is None else Recently(clock_s, REFUSALS_S, REFUSALS_MAX + 1)
        self._devices = devices
        self.serve(specs, used)

    def serve(self, specs: Iterable[ExportSpec], used: Container[str]) -> None:
        """Serve these from now on; sessions that are open go on as they are."""
        self._used = used
        self._specs = {spec.name: spec for spec in specs}
        devices = self._devices
        for spec in self._specs.values():
            if spec.device in devices.by_name:
                devices.fences.of(spec.device, devices.by_name[spec.device])  # to be read before anybody comes

    def list_exports(self, identity: Identity | None) -> list[str]:
        """See L{IExports.list_exports}."""
        allowed = self._allowed(identity)
        return sorted({*(spec.name for spec in allowed), *self._histories(allowed)})

    def _allowed(self, identity: Identity | None) -> list[ExportSpec]:
        """What C{identity} may open."""
        who = identity or _STRANGER
        return [spec for spec in self._specs.values() if access_for(who, spec.allow) is not None]

    def _histories(self, specs: Iterable[ExportSpec]) -> dict[str, INode]:
        """Copies below some exports that can only be read, by C{STORAGE@NODE}."""
        found: dict[str, INode] = {}
        seen: set[str] = set()
        names = [spec.device for spec in specs]
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

    def open_export(self, name: str, identity: Identity | None) -> OpenExport:
        """See L{IExports.open_export}."""
        spec = self._specs.get(name)
        if spec is None:
            history = self._histories(self._allowed(identity)).get(name)
            if history is not None:
                return OpenExport(history, read_only=True)
            known = name in self._histories(self._specs.values())
            raise self._refusal(name, identity, "it may not read the storage" if known else "there is none")
        access = access_for(identity or _STRANGER, spec.allow)
        if access is None:
            raise self._refusal(name, identity, _why_not(identity or _STRANGER, spec))
        node, fences = self._devices.by_name[spec.device], self._devices.fences
        fence = fences.of(spec.device, node)
        if fence is None:
            return OpenExport(node, spec.read_only or spec.device in self._used or access is Access.READ)
        unclaimed = fences.unclaimed(spec.device, node, fence)
        if access is Access.READ:
            return OpenExport(unclaimed, read_only=True)  # who may not change it may not keep its owner from that
        return OpenExport(unclaimed, spec.read_only, fence, node)

    def _refusal(self, name: str, identity: Identity | None, why: str) -> NotFound:
        """The same words whatever the reason is; the reason goes to the log."""
        who = identity or _STRANGER
        count = 1 if self._refused is None else self._refused.note(str(who))
        if count <= REFUSALS_MAX:
            more = "; more of this minute are not told" if count == REFUSALS_MAX else ""
            _log.warn(
                "{who} was refused the export {export!r}: {why}{more}",
                who=str(who),
                export=name[:80],
                why=why,
                more=more,
            )
        names = ", ".join(self.list_exports(identity)[:12]) or "none"
        return NotFound(f"there is no export {name[:80]!r} here that {who} may use; there are: {names}")


def _why_not(who: Identity, spec: ExportSpec) -> str:
    if spec.allow is None:
        return "without `allow` it is for this machine only"
    if not spec.allow:
        return "its `allow` is empty, which is nobody"
    named = "" if who.name else ", and it has shown no certificate"
    return f"no rule of its `allow` is about it{named}"
