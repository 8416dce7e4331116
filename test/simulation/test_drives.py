"""Tests of L{dst.simulation.drives} and L{dst.simulation.files}."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.providers import Providers
from dst.errors import AlreadyInUse, DeadlinePassed, MediaError, NoSpace, Unavailable
from dst.simulation.drives import Drive, DriveNode, DriveProvider, ExclusiveDriveNode, ForeignDriveProvider
from dst.simulation.files import HostFiles, HostStateDir
from dst.simulation.network import Network
from dst.simulation.reactor import SimulatedReactor
from dst.simulation.world import Host, Process, World
from dst.status import LinkState
from dst.testing import Specimen, node_provider_suite, node_suite

SIZE = 3 << 20


class WorldClock:
    """A world as a suite drives it."""

    def __init__(self, world: World, *processes: Process) -> None:
        self._world = world
        self.processes = processes

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._world.advance(seconds)

    def seconds(self) -> float:
        """The world's time."""
        return self._world.now

    def getDelayedCalls(self) -> list[str]:
        """What is still to come."""
        return [name for process in self.processes for name in self._world.timers_of(process)]


class Bench:
    """A host with a process that has a drive."""

    def __init__(self, kind: type[DriveNode] = DriveNode) -> None:
        self.kind = kind
        self.world = World(5)
        self.host = Host(self.world, "h")
        self.process = Process(self.world, self.host, "p")
        self.drive = Drive.on(self.host, "/d.img", SIZE)

    def reactor(self, process: Process | None = None) -> SimulatedReactor:
        """A reactor of the process."""
        return SimulatedReactor(process or self.process, Network(self.world), lambda path: None)

    def node(self, process: Process | None = None) -> DriveNode:
        """The drive, as a process has it."""
        return self.kind(self.reactor(process), "d", self.drive, process or self.process, 30.0)


def make_node(case: object) -> Specimen:
    """A drive of a host."""
    bench = Bench()
    return Specimen(bench.node(), clock=WorldClock(bench.world, bench.process), reopen=bench.node)


def make_exclusive(case: object) -> Specimen:
    """The same, for one process alone."""
    bench = Bench(ExclusiveDriveNode)
    return Specimen(bench.node(), clock=WorldClock(bench.world, bench.process), reopen=bench.node)


class DriveNodeTests(node_suite(DriveNode, make_node)):
    """A drive that nothing is done to is a node like any other."""


class ExclusiveDriveNodeTests(node_suite(ExclusiveDriveNode, make_exclusive)):
    """So is one that its process has for itself."""


class DriveProviderTests(
    node_provider_suite(DriveProvider, ["file:/no/a.img?size=64M"], ["file:", "file:/a?size=0", "file:/a?x=y"]),
):
    """C{file:} of a simulated host."""

    def setUp(self) -> None:
        self.node_provider = DriveProvider(Bench().process, lambda host, path, said: said or SIZE)
        self.reactor = MemoryReactorClock()


class ForeignDriveProviderTests(
    node_provider_suite(
        ForeignDriveProvider,
        ["nbd://127.0.0.1:10809/a", "nbd://host.example"],
        ["nbd:", "nbd://", "nbd://host/a?x=y"],
    ),
):
    """C{nbd:} of a simulated host."""

    def setUp(self) -> None:
        real = Providers.found().nodes["nbd"]
        self.node_provider = ForeignDriveProvider(real, Bench().process, lambda host, path, said: said or SIZE)
        self.reactor = MemoryReactorClock()


class DriveTests(SynchronousTestCase):
    """What can happen to a disk."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.world, self.drive = self.bench.world, self.bench.drive
        self.node = self.bench.node()
        self.wait(self.node.open())

    def wait(self, done: object) -> object:
        """What C{done} fires with, soon."""
        self.world.advance(0.2)
        return self.successResultOf(done)

    def fails(self, done: object, error: type[Exception]) -> None:
        """C{done} fails, soon."""
        self.world.advance(0.2)
        self.failureResultOf(done, error)

    def test_takes_time(self) -> None:
        """An operation takes a moment, and longer on a slow disk."""
        done = self.node.write(0, b"x" * 512)
        self.assertNoResult(done)
        self.wait(done)
        self.drive.slow = 10_000.0
        done = self.node.write(0, b"y" * 512)
        self.world.advance(0.1)
        self.assertNoResult(done)
        self.world.advance(10.0)
        self.successResultOf(done)

    def test_outlives_the_process(self) -> None:
        """Kill the process: what was acknowledged is there for the next one, in the same incarnation."""
        self.wait(self.node.write(0, b"kept" * 128))
        incarnation = self.node.incarnation
        self.node.died()
        self.world.bury(self.bench.process)
        again = self.bench.node(Process(self.world, self.bench.host, "p"))
        self.wait(again.open())
        self.assertEqual(b"kept" * 128, self.wait(again.read(0, 512)))
        self.assertEqual(incarnation, again.incarnation)

    def test_power(self) -> None:
        """Without power what was not flushed may be gone, what was flushed is not, and the incarnation is another."""
        self.wait(self.node.write(0, b"safe" * 128))
        self.wait(self.node.flush())
        for sector in range(1, 60):
            self.wait(self.node.write(sector * 512, b"lost" * 128))
        before = self.drive.media.incarnation
        self.drive.lose_power()
        self.assertEqual(b"safe" * 128, self.drive.media.read(0, 512))
        lost = [sector for sector in range(1, 60) if self.drive.media.read(sector * 512, 4) != b"lost"]
        self.assertTrue(0 < len(lost) < 59, len(lost))
        self.assertNotEqual(before, self.drive.media.incarnation)

    def test_errors(self) -> None:
        """The next operations of a kind fail, and no others."""
        self.drive.failing["write"] = 2
        self.fails(self.node.write(0, b"x" * 512), MediaError)
        self.wait(self.node.read(0, 512))
        self.fails(self.node.trim(0, 512), MediaError)
        self.wait(self.node.write(0, b"x" * 512))

    def test_failed_flush(self) -> None:
        """A flush that fails may have lost what it should have made durable: another incarnation."""
        before = self.node.incarnation
        self.wait(self.node.write(0, b"x" * 512))
        self.drive.failing["flush"] = 1
        self.fails(self.node.flush(), MediaError)
        self.assertNotEqual(before, self.node.incarnation)

    def test_bad_sector(self) -> None:
        """A bad sector fails every read of it until it is written."""
        self.drive.bad.append((4096, 512))
        self.fails(self.node.read(0, 8192), MediaError)
        self.wait(self.node.read(0, 4096))
        self.wait(self.node.write(4096, bytes(512)))
        self.wait(self.node.read(0, 8192))

    def test_full(self) -> None:
        """On a full file system what has its place can be written, and nothing else."""
        self.wait(self.node.write(0, b"x" * 512))
        self.drive.full += 1
        self.wait(self.node.write(0, b"y" * 512))
        self.fails(self.node.write(1 << 20, b"z" * 512), NoSpace)
        self.drive.full -= 1
        self.wait(self.node.write(1 << 20, b"z" * 512))

    def test_gone(self) -> None:
        """Unplugged it is away, for the next process too; plugged in it is back with what it holds."""
        self.wait(self.node.write(0, b"kept" * 128))
        self.drive.unplug()
        self.assertIs(LinkState.AWAY, self.node.link)
        self.fails(self.node.read(0, 512), Unavailable)
        self.wait(self.node.close())
        again = self.bench.node()
        self.wait(again.open())
        self.assertIs(LinkState.AWAY, again.link)
        self.drive.plug_in()
        self.assertIs(LinkState.READY, again.link)
        self.assertEqual(b"kept" * 128, self.wait(again.read(0, 512)))

    def test_replaced(self) -> None:
        """A new disk is empty and has another incarnation."""
        self.wait(self.node.write(0, b"old" * 512))
        before = self.node.incarnation
        self.drive.unplug()
        self.drive.replace()
        self.drive.plug_in()
        self.assertEqual(bytes(512), self.wait(self.node.read(0, 512)))
        self.assertNotEqual(before, self.node.incarnation)

    def test_hangs_for_a_moment(self) -> None:
        """A disk that hangs answers when it goes on, and nothing was lost."""
        self.drive.hang()
        done = self.node.write(0, b"late" * 128)
        self.world.advance(10.0)
        self.assertNoResult(done)
        self.drive.go_on()
        self.wait(done)
        self.assertEqual(b"late" * 128, self.wait(self.node.read(0, 512)))

    def test_hangs_for_too_long(self) -> None:
        """After its deadline everything in flight fails and the node is away, until the disk comes back as it was."""
        incarnation = self.node.incarnation
        self.drive.hang()
        done = self.node.write(0, b"late" * 128)
        self.world.advance(31.0)
        self.failureResultOf(done, DeadlinePassed)
        self.assertIs(LinkState.AWAY, self.node.link)
        self.drive.go_on()
        self.assertIs(LinkState.READY, self.node.link)
        self.assertEqual(incarnation, self.node.incarnation)

    def test_killed_in_the_middle(self) -> None:
        """Of what a killed process had asked for some is done and some is not."""
        for sector in range(64):
            self.node.write(sector * 512, b"x" * 512)
        self.node.died()
        there = [sector for sector in range(64) if self.drive.media.read(sector * 512, 1) == b"x"]
        self.assertTrue(0 < len(there) < 64, len(there))


class HostFilesTests(SynchronousTestCase):
    """The small files of a host."""

    def setUp(self) -> None:
        self.world = World(9)
        self.host = Host(self.world, "h")
        self.process = Process(self.world, self.host, "p")
        self.files = HostFiles(self.process, "/state/storages/vol")

    def wait(self, done: object) -> object:
        """What C{done} fires with, soon."""
        self.world.advance(0.1)
        return self.successResultOf(done)

    def test_kept(self) -> None:
        """What was stored is there, for another process as well, and gone when it is deleted."""
        self.assertIs(None, self.wait(self.files.load("record")))
        self.wait(self.files.store("record", b"one"))
        self.world.bury(self.process)
        files = HostFiles(Process(self.world, self.host, "p"), "/state/storages/vol")
        self.assertEqual(b"one", self.wait(files.load("record")))
        self.wait(files.delete("record"))
        self.assertIs(None, self.wait(files.load("record")))

    def test_directories(self) -> None:
        """The same name in another directory is another file."""
        self.wait(self.files.store("record", b"one"))
        other = HostFiles(self.process, "/state/storages/other")
        self.assertIs(None, self.wait(other.load("record")))

    def test_killed_while_storing(self) -> None:
        """Killed in the middle, the file is as it was or as it was to be."""
        seen = set()
        for _ in range(20):
            process = Process(self.world, self.host, "p")
            files = HostFiles(process, "/d")
            self.wait(files.store("f", b"old"))
            files.store("f", b"new")
            files.died()
            self.world.bury(process)
            seen.add(self.host.files["/d/f"])
        self.assertEqual({b"old", b"new"}, seen)

    def test_one_daemon(self) -> None:
        """A state directory is one process's at a time; a killed one does not keep it."""
        first = HostStateDir(self.process, "/state")
        first.lock()
        other = Process(self.world, self.host, "q")
        self.assertRaises(AlreadyInUse, HostStateDir(other, "/state").lock)
        first.unlock()
        HostStateDir(other, "/state").lock()
        self.world.bury(other)
        HostStateDir(self.process, "/state").lock()
