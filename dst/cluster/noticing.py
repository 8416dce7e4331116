"""
What a running cluster notices about itself: its journal, the watch over its health, and who is told.

A daemon that nobody can ask, without an C{admin} endpoint and without hooks, does not watch itself.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from attrs import evolve

from dst import __version__
from dst.administration import DaemonMeasures, HealthFinding, SessionStatus
from dst.cluster.daemon_facts import daemon_facts
from dst.cluster.health_watch import HealthWatch
from dst.cluster.hooks import Hooks
from dst.cluster.journal import Journal
from dst.health import DaemonFacts, daemon_findings, device_findings
from dst.recovery.state_files import state_files
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.cluster.assembly import Cluster
    from dst.interfaces import INode

__all__ = ["NOTICING_S_MAX", "Noticing", "shown_devices"]

LAST_WORDS_S = 3.0
"""How long hooks have for what happened last, the end itself among it."""

NOTICING_S_MAX = 10.0
"""How long the end may take: a hook that runs is not waited for any longer."""


def shown_devices(cluster: Cluster) -> list[INode]:
    """Every storage, and every node that is in none, sorted by name."""
    devices, topology = cluster.devices, cluster.topology
    used = {node.name for storage in devices.storages.values() for node in storage.nodes}
    used |= {spec.parent for spec in topology.slices}
    used |= {name for spec in topology.storages for name in spec.witnesses}
    return [
        device for name, device in sorted(devices.by_name.items()) if name not in used or name in devices.storages
    ]


class Noticing:
    """
    @ivar journal: what has happened.
    @ivar watch: what is not as it should be; it may not be running.
    @ivar hooks: who is told of events.
    @ivar began: when the daemon did, seconds of the epoch.
    """

    def __init__(self, reactor: IReactorTime, cluster: Cluster) -> None:
        self._reactor = reactor
        self._cluster = cluster
        surroundings = surroundings_of(reactor)
        self._wall_clock_s = surroundings.wall_clock_s
        self.began = surroundings.wall_clock_s()
        self.journal = Journal(surroundings.wall_clock_s)
        self.hooks: Hooks | None = None
        self.watch = HealthWatch(
            reactor,
            self.journal,
            lambda: shown_devices(cluster),
            lambda: self._facts(),
            surroundings.boot_clock_s,
            surroundings.wall_clock_s,
        )

    async def start(self) -> None:
        """Begin to watch, if anybody could ask."""
        topology = self._cluster.topology
        if topology.daemon.admin is None and not topology.hooks:
            return
        state_dir = self._cluster.state_path
        if state_dir is not None:
            await self.journal.open(state_files(self._reactor, os.path.join(state_dir, "journal")))
        if topology.hooks:
            self._start_hooks()
        self.journal.record("daemon", "", f"the daemon has started: DST {__version__}")
        self.watch.start()

    async def stop(self) -> None:
        """Watch no more."""
        if self.watch.running:
            self.journal.record("daemon", "", "the daemon stops")
            self.watch.stop()
        hooks, self.hooks = self.hooks, None
        if hooks is not None:
            await hooks.finish(LAST_WORDS_S)

    def _start_hooks(self) -> None:
        from dst.cluster.hook_deliveries import Deliveries  # an HTTP client is loaded where there are hooks only

        topology = self._cluster.topology
        self.hooks = Hooks(
            self._reactor,
            topology.hooks,
            self.journal,
            topology.daemon.name or platform.node(),
            Deliveries(self._reactor, topology.path),
            surroundings_of(self._reactor).random(),
        )
        self.hooks.start()

    def _facts(self) -> DaemonFacts:
        facts = daemon_facts(self._cluster, self._wall_clock_s())
        return facts if self.hooks is None else evolve(facts, hooks_failing=self.hooks.failing)

    def measures(self) -> DaemonMeasures:
        """See L{dst.interfaces.IMeasuresItself.measures}."""
        facts = self._facts()
        lateness = self.watch.lateness
        return DaemonMeasures(
            self.began,
            lateness.total_s,
            lateness.worst_s,
            self.journal.last,
            tuple((each.name, each.ends) for each in facts.certificates),
            facts.state_bytes_free,
        )

    def session_ended(self, session: SessionStatus | None) -> None:
        """An operator has cut it off."""
        if session is not None:
            who = session.identity or session.peer
            self.journal.record("session", session.export, f"the {session.protocol} client {who} was cut off")

    def findings(self) -> list[HealthFinding]:
        """What is not as it should be: what has lasted, where it is watched; else, what is so at the moment."""
        if self.watch.running:
            return self.watch.findings()
        found = [each for device in shown_devices(self._cluster) for each in device_findings(device.status())]
        return found + daemon_findings(self._facts())
