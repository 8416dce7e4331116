"""
What a running cluster notices about itself: its journal, the watch over its health, and who is told.

A daemon that nobody can ask, without an C{admin} endpoint and without hooks, does not watch itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dst import __version__
from dst.administration import DaemonMeasures, HealthFinding
from dst.cluster.daemon_facts import daemon_facts
from dst.cluster.health_watch import HealthWatch
from dst.cluster.journal import Journal
from dst.health import daemon_findings, device_findings
from dst.recovery.state_files import state_files
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.cluster.assembly import Cluster
    from dst.interfaces import INode

__all__ = ["NOTICING_S_MAX", "Noticing", "shown_devices"]

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
    @ivar began: when the daemon did, seconds of the epoch.
    """

    def __init__(self, reactor: IReactorTime, cluster: Cluster) -> None:
        self._reactor = reactor
        self._cluster = cluster
        surroundings = surroundings_of(reactor)
        self._wall_clock_s = surroundings.wall_clock_s
        self.began = surroundings.wall_clock_s()
        self.journal = Journal(surroundings.wall_clock_s)
        self.watch = HealthWatch(
            reactor,
            self.journal,
            lambda: shown_devices(cluster),
            lambda: daemon_facts(cluster, surroundings.wall_clock_s()),
            surroundings.boot_clock_s,
            surroundings.wall_clock_s,
        )

    async def start(self) -> None:
        """Begin to watch, if anybody could ask."""
        topology = self._cluster.topology
        if topology.daemon.admin is None:
            return
        state_dir = self._cluster.state_path
        if state_dir is not None:
            await self.journal.open(state_files(self._reactor, os.path.join(state_dir, "journal")))
        self.journal.record("daemon", "", f"the daemon has started: DST {__version__}")
        self.watch.start()

    async def stop(self) -> None:
        """Watch no more."""
        if self.watch.running:
            self.journal.record("daemon", "", "the daemon stops")
            self.watch.stop()

    def measures(self) -> DaemonMeasures:
        """See L{dst.interfaces.IMeasuresItself.measures}."""
        facts = daemon_facts(self._cluster, self._wall_clock_s())
        lateness = self.watch.lateness
        return DaemonMeasures(
            self.began,
            lateness.total_s,
            lateness.worst_s,
            self.journal.last,
            tuple((each.name, each.ends) for each in facts.certificates),
            facts.state_bytes_free,
        )

    def findings(self) -> list[HealthFinding]:
        """What is not as it should be: what has lasted, where it is watched; else, what is so at the moment."""
        if self.watch.running:
            return self.watch.findings()
        found = [each for device in shown_devices(self._cluster) for each in device_findings(device.status())]
        return found + daemon_findings(daemon_facts(self._cluster, self._wall_clock_s()))
