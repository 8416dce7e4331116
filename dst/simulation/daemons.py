"""
Daemons: a topology each, run by the same code as in earnest, on hosts that lose power and processes that are killed.

What stands in for the world outside is C{file:} (drives of the host), the network below the reactor, and the state
directory.  Everything else (assembly, nodes, servers, algorithms) is what C{twistd dst} runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from dst.cluster.assembly import Cluster
from dst.cluster.providers import Providers
from dst.cluster.topology import Topology
from dst.errors import DSTError
from dst.simulation.drives import Drive, DriveProvider, ForeignDriveProvider
from dst.simulation.files import HostFiles, HostStateDir
from dst.simulation.network import Network
from dst.simulation.reactor import SimulatedReactor
from dst.simulation.world import BrokenCode, Host, Process, World
from dst.status import LinkState

if TYPE_CHECKING:
    from dst.interfaces import INode
    from dst.simulation.world import Event

__all__ = ["Daemon", "installed_providers"]

RESTART_S = (0.3, 1.5)
"""A supervisor starts a daemon that ended by itself again after so long, and an operating system boots no faster."""

_found: list[Providers] = []


def installed_providers() -> Providers:
    """Those of this installation, looked for once."""
    if not _found:
        _found.append(Providers.found())
    return _found[0]


class Daemon:
    """
    One daemon on a host of its own.

    @ivar cluster: what it runs; C{None} while there is no process.
    @ivar wanted: it should be running: whoever finds it dead starts it.
    @ivar started: called with this daemon when its cluster has been built and begins to start.
    @ivar ended: called with the process that is no more.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        name: str,
        topology: Topology,
        size_of: Callable[[Host, str, int | None], int],
    ) -> None:
        self.world = world
        self.network = network
        self.name = name
        self.topology = topology
        self.host = Host(world, name)
        self._size_of = size_of
        self.process: Process | None = None
        self.cluster: Cluster | None = None
        self.holds = 0
        self.starts = 0
        self.started: Callable[[Daemon], None] = lambda daemon: None
        self.ended: Callable[[Process], None] = lambda process: None
        self._stopping = False
        self._restart: Event | None = None

    @property
    def running(self) -> bool:
        """There is a process, and it gets time to run."""
        return self.process is not None and not self.process.standing

    def device(self, name: str) -> INode | None:
        """A device of this daemon, while it runs."""
        return None if self.cluster is None else self.cluster.devices.by_name.get(name)

    def ready(self, name: str) -> INode | None:
        """The device, if it can be used now."""
        device = self.device(name)
        return device if device is not None and device.link is LinkState.READY and self.running else None

    # -- life

    def start(self) -> None:
        """Start it, unless it runs, or something keeps it down."""
        if self._restart is not None and self._restart.active():
            self._restart.cancel()
        self._restart = None
        if self.process is not None or self.holds or not self.host.up:
            return
        self.starts += 1
        process = self.process = Process(self.world, self.host, self.name)
        process.later(0.0, self._run, process)

    def _run(self, process: Process) -> None:
        reactor = SimulatedReactor(process, self.network, lambda directory: HostFiles(process, directory))
        try:
            self.cluster = cluster = Cluster(
                reactor,
                self.topology,
                self._providers(process),
                make_state_dir=lambda path: HostStateDir(process, path),
            )
        except DSTError as error:
            raise BrokenCode(f"{self.name} cannot be built: {error.message}") from error
        process.kept.append(cluster)
        self.started(self)

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError) and self._stopping:
                return  # it was stopped while it started; whoever stops it goes on
            if failure.check(DSTError) is None:
                self.world.fail(BrokenCode(f"{self.name} did not start: {failure.getErrorMessage()}"))
            self._gone(process)

        cluster.start().addErrback(failed)

    def _providers(self, process: Process) -> Providers:
        """Those of the installation, but for what touches a disk or a server of another kind."""
        installed = installed_providers()
        nodes = {**installed.nodes, "file": DriveProvider(process, self._size_of)}
        for scheme in ("nbd", "nbd+unix"):
            if scheme in nodes:
                nodes[scheme] = ForeignDriveProvider(nodes[scheme], process, self._size_of)
        return evolve(installed, nodes=nodes)

    def _gone(self, process: Process) -> None:
        """The process ended by itself."""
        if self.process is process:
            self._bury(silently=False)
            self._later()

    def _later(self) -> None:
        self._restart = self.world.after(
            self.world.generator(f"{self.name} {self.starts}").uniform(*RESTART_S), self.start
        )

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        if self.process is not None:
            self._bury(silently=False)

    def lose_power(self) -> None:
        """The host is dark: its process is gone, nobody is told, and its disks lose what they had not flushed."""
        self.host.up = False
        if self.process is not None:
            self._bury(silently=True)
        for path in sorted(self.host.drives):
            drive: Drive = self.host.drives[path]
            drive.lose_power()

    def power_on(self) -> None:
        """It boots; its daemon starts with it."""
        self.host.up = True
        self.network.wake([self.host])
        self._later()

    def stop(self) -> None:
        """SIGTERM: an orderly stop."""
        process, cluster = self.process, self.cluster
        if process is not None and cluster is not None and not process.standing and not self._stopping:

            def stopped(result: object) -> None:
                self._gone_in_order(process)

            def begin() -> None:
                self._stopping = True
                cluster.stop().addBoth(stopped)

            process.later(0.0, begin)

    def _gone_in_order(self, process: Process) -> None:
        if self.process is process:
            # What is due in this very moment is on its way out; after that nothing may be left.
            self.world.after(0.2, self._check_left, process)

    def _check_left(self, process: Process) -> None:
        if self.process is not process:
            return
        left = self.world.timers_of(process) + [type(each).__name__ for each in process.sockets]
        if left:
            self.world.fail(BrokenCode(f"{self.name} stopped and left behind: {', '.join(left)}"))
        self._bury(silently=False)
        if not self.holds:
            self._later()

    def _bury(self, *, silently: bool) -> None:
        process = self.process
        assert process is not None
        self.process = self.cluster = None
        self._stopping = False
        for disk in list(process.disks):
            disk.died()
        self.network.died(process, silently=silently)
        self.world.bury(process)
        self.ended(process)
