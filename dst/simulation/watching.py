"""
Who looks at a cluster from outside while it lives: what serves, since when all is well, what is copied.

It notes what a person would notice.  The ages on the media are looked at whenever something changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dst.explaining import ResyncRecord
from dst.interfaces import IAlgorithm
from dst.simulation.checks import check_ages
from dst.simulation.daemons import Daemon
from dst.simulation.excess import different_bytes, drives_of_members
from dst.simulation.injector import Injector
from dst.simulation.outcome import Moment, Outage, Outcome, Resync
from dst.simulation.topologies import Layout
from dst.simulation.workload import Client
from dst.simulation.world import World
from dst.status import Health, MemberState, StatusTree

__all__ = ["CHECK_S", "Watcher"]

CHECK_S = 1.0
"""How often it is looked whether all is well."""

WAITING_S_MAX = 1.0
"""A client that waits for longer than this is not being served."""


class Watcher:
    """
    @ivar begun_s: since when clients are there, by the calendar; C{None}: what does not serve is no outage.
    @ivar well_since: since when all is well, C{None} while it is not.
    """

    def __init__(
        self,
        world: World,
        layout: Layout,
        daemons: Mapping[str, Daemon],
        clients: Sequence[Client],
        injector: Injector,
        outcome: Outcome,
    ) -> None:
        self._world = world
        self._layout = layout
        self._daemons = daemons
        self._clients = clients
        self._injector = injector
        self._outcome = outcome
        self.begun_s: float | None = None
        self.well_since: float | None = None
        self._down_since: dict[str, float | None] = dict.fromkeys(layout.storages)
        self._states: dict[str, str] = {}
        self._resyncs: dict[tuple[str, str], tuple[ResyncRecord, ...]] = {}
        self._bottoms = drives_of_members(layout)

    def well(self) -> bool:
        """Every storage is served, with everything in sync, wherever it is."""
        return all(self._storage_well(storage) for storage in self._layout.storages) and self._inner_well()

    def _storage_well(self, storage: str) -> bool:
        for name in self._layout.storages[storage]:
            device = self._daemons[name].ready(storage)
            if device is not None and _well(device.status()):
                return True
        return False

    def _inner_well(self) -> bool:
        for daemon in self._daemons.values():
            if daemon.cluster is None or not daemon.running:
                return False
            for name, storage in daemon.cluster.devices.storages.items():
                if name not in self._layout.storages and not _well(storage.status()):
                    return False
        return True

    def describe(self, storage: str) -> str:
        """How it is everywhere, for the message of a failure."""
        words = []
        for name in self._layout.storages[storage]:
            device = self._daemons[name].device(storage)
            if device is None:
                words.append(f"{storage} at {name}: its daemon is down")
            else:
                tree = device.status()
                members = ", ".join(
                    f"{child.name} {child.state}" + (f" ({child.reason})" if child.reason else "")
                    for child in tree.children
                )
                words.append(f"{storage} at {name}: {tree.health.value}, {tree.reason or tree.state} [{members}]")
        waiting = sum(client.unanswered for client in self._clients)
        return "; ".join(words) + (f"; {waiting} operations wait" if waiting else "")

    def account(self) -> None:
        """Who is served now."""
        now_s = self._world.calendar_s
        if self.begun_s is None:
            return
        for storage, places in self._layout.storages.items():
            served = any(self._daemons[name].ready(storage) is not None for name in places)
            if served:
                waits = [
                    client.waits_since
                    for client in self._clients
                    if client.storage == storage and client.waits_since is not None and not client.stubborn
                ]
                served = not waits or self._world.now - min(waits) <= WAITING_S_MAX
            since = self._down_since[storage]
            if not served and since is None:
                self._down_since[storage] = now_s
                self.moment(f"{storage} does not serve")
            elif served and since is not None:
                self._down_since[storage] = None
                self._outcome.outages.append(Outage(storage, since, now_s - since))
                self.moment(f"{storage} serves again after {now_s - since:.1f} s")

    def watch(self) -> None:
        """Once a second: the state of everything, and the ages on the media."""
        now = self._world.now
        if self.well():
            self.well_since = now if self.well_since is None else self.well_since
        else:
            self.well_since = None
        changing = self.well_since is None or now - self.well_since < 2 * CHECK_S
        for daemon in self._daemons.values():
            if daemon.cluster is not None and daemon.running:
                for name, storage in daemon.cluster.devices.storages.items():
                    self._watch_resyncs(daemon.name, storage)
                    if changing:
                        self._watch_storage(daemon.name, name, storage.status())
        if changing:
            self._outcome.regions_compared += check_ages(self._injector.drives().values())

    def price(self, daemon: str, member: str, bytes_total: int) -> None:
        """A partial resync begins: what it costs, and what it would have to."""
        drives = self._injector.drives()
        target = drives.get(self._bottoms.get((daemon, member), ""))
        different = None if target is None else different_bytes(target, drives)
        if different is not None:
            self._outcome.missed_bytes += different
            self._outcome.recopied_bytes += bytes_total

    def _watch_storage(self, daemon: str, storage: str, tree: StatusTree) -> None:
        state = f"{tree.health.value}{f': {tree.reason}' if tree.reason else ''}"
        shape = re.sub(r"\d+", "#", state)  # numbers that run down are no news
        if self._states.get(f"{storage} at {daemon}") != shape:
            self._states[f"{storage} at {daemon}"] = shape
            self.moment(f"{storage} at {daemon} is {state}")

    def _watch_resyncs(self, daemon: str, storage: IAlgorithm) -> None:
        """Those that have ended since the last look."""
        key = (daemon, storage.name)
        before = self._resyncs.get(key, ())
        self._resyncs[key] = ended = tuple(storage.resyncs())
        for each in ended:
            if each not in before:
                if self.begun_s is None:
                    continue  # the first ones make the storage
                member, at_s = f"{storage.name}/{each.member}", self._world.calendar_s - each.seconds
                self._outcome.resyncs.append(Resync(member, each.kind, at_s, each.seconds, each.bytes_copied))

    def end(self) -> None:
        """What did not serve when a life ended badly was an outage until then."""
        now_s = self._world.calendar_s
        for storage, since in self._down_since.items():
            if since is not None and self._outcome.failure is not None:
                self._outcome.outages.append(Outage(storage, since, now_s - since))
        if self.begun_s is not None:
            self._outcome.served_s = now_s - self.begun_s

    def moment(self, text: str) -> None:
        """A line of the timeline."""
        self._outcome.timeline.append(Moment(self._world.calendar_s, text))


def _well(tree: StatusTree) -> bool:
    """It is healthy, and so is every member of a mirror."""
    if tree.health is not Health.HEALTHY:
        return False
    if tree.kind == "mirror":
        return all(child.state == MemberState.IN_SYNC.value for child in tree.children)
    return True
