"""Tests of L{dst.testing.faulty} and L{dst.testing.disk}."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import IncarnationChanged, MediaError, Unavailable
from dst.status import LinkState
from dst.testing import (
    FailedFlushSuite,
    FaultyDevice,
    Operation,
    SimulatedDisk,
    SimulatedMedia,
    Specimen,
    faulty_disk,
    node_suite,
)

SIZE = 3 << 20


def make_disk(case: object, **options: object) -> Specimen:
    """A simulated disk, and a second one on the same media."""
    clock, media = Clock(), SimulatedMedia(SIZE)
    options = {"transfer_bytes_max": 2 << 20, **options}
    return Specimen(
        SimulatedDisk(clock, "d", media, **options),
        clock=clock,
        reopen=lambda: SimulatedDisk(clock, "d", media, **options),
    )


def make_read_only_disk(case: object) -> Specimen:
    """One that refuses changes."""
    return make_disk(case, read_only=True)


def make_faulty(case: object) -> Specimen:
    """A faulty device that was told to do nothing wrong."""
    specimen = make_disk(case)
    media = specimen.node.media
    node = FaultyDevice(specimen.clock, specimen.node)
    return Specimen(
        node,
        clock=specimen.clock,
        reopen=lambda: FaultyDevice(specimen.clock, SimulatedDisk(specimen.clock, "d", media)),
        fail_flush=lambda: node.fail_next("flush", MediaError("worn out")),
    )


def make_slow(case: object) -> Specimen:
    """One that takes its time."""
    specimen = make_faulty(case)
    specimen.node.delay_s = 0.05
    return specimen


class SimulatedDiskTests(node_suite(SimulatedDisk, make_disk, make_read_only=make_read_only_disk)):
    """A simulated disk keeps the promises of a node."""


class FaultyDeviceTests(node_suite(FaultyDevice, make_faulty), FailedFlushSuite):
    """A faulty device that is left alone keeps the promises of a node."""


class SlowFaultyDeviceTests(node_suite(FaultyDevice, make_slow)):
    """So does one that is slow."""


class FaultCase(SynchronousTestCase):
    """With a faulty disk that is open."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = faulty_disk(self.clock, "a", 1 << 20)
        self.successResultOf(self.disk.open())
        self.clock.advance(0)

    def read(self, offset: int, length: int) -> bytes:
        """What is there now."""
        return bytes(self.successResultOf(self.disk.read(offset, length)))


class FailTests(FaultCase):
    """Errors on demand."""

    def test_next(self) -> None:
        """The next operation of the kind fails and does nothing; others and later ones go well."""
        self.disk.fail_next("write", MediaError("bad sector"))
        self.assertEqual(bytes(4), self.read(0, 4))
        self.failureResultOf(self.disk.write(0, b"once"), MediaError)
        self.assertEqual(bytes(4), self.read(0, 4))
        self.successResultOf(self.disk.write(0, b"more"))
        self.assertEqual(b"more", self.read(0, 4))

    def test_skip_times_extent(self) -> None:
        """Which of the operations fail is chosen by count and by place."""
        self.disk.fail_next("read", MediaError("bad"), skip=1, times=2, extent=(100, 10))
        outcomes = []
        for offset in (100, 0, 109, 105, 110, 90, 100):
            deferred: Deferred[object] = self.disk.read(offset, 5)
            outcomes.append(not isinstance(deferred.addErrback(lambda _: None).result, bytes))
        self.assertEqual([False, False, True, True, False, False, False], outcomes)

    def test_until_healed(self) -> None:
        """Without a count every operation fails until the disk is healed."""
        self.disk.fail_next("read write", MediaError("dead"), times=None)
        for _ in range(5):
            self.failureResultOf(self.disk.read(0, 1), MediaError)
            self.failureResultOf(self.disk.write(0, b"x"), MediaError)
        self.disk.heal()
        self.successResultOf(self.disk.write(0, b"x"))

    def test_executed(self) -> None:
        """A failure may hide that the operation was done."""
        self.disk.fail_next("write", MediaError("lost answer"), executed=True)
        self.failureResultOf(self.disk.write(0, b"done"), MediaError)
        self.assertEqual(b"done", self.read(0, 4))

    def test_failed_flush(self) -> None:
        """A failed flush loses unflushed data and tells it with another incarnation."""
        seen = []
        self.disk.observe(lambda node: seen.append(node.incarnation))
        before = self.disk.incarnation
        for number in range(64):
            self.successResultOf(self.disk.write(number * 512, b"x" * 512))
        self.disk.fail_next("flush", MediaError("flush failed"))
        self.failureResultOf(self.disk.flush(), MediaError)
        self.clock.advance(0)
        self.assertEqual(1, len(seen))
        self.assertNotEqual(before, seen[0])
        self.assertIn(b"\0", self.read(0, 64 * 512))
        self.successResultOf(self.disk.flush())


class HoldTests(FaultCase):
    """Hanging and slow disks."""

    def test_hold_and_release(self) -> None:
        """Held operations hang, others go on, and all are done in order when they are released."""
        self.disk.hold("write")
        writes = [self.disk.write(0, b"1111"), self.disk.write(2, b"22")]
        self.assertEqual(bytes(4), self.read(0, 4))
        self.assertEqual([Operation("write", 0, 4), Operation("write", 2, 2)], self.disk.held)
        self.disk.release(1)
        self.successResultOf(writes[0])
        self.assertNoResult(writes[1])
        self.disk.release()
        self.successResultOf(writes[1])
        self.assertEqual(b"1122", self.read(0, 4))
        self.successResultOf(self.disk.write(0, b"3"))

    def test_drop(self) -> None:
        """What hangs may fail instead, and then was not done."""
        self.disk.hold("write")
        write = self.disk.write(0, b"1")
        self.disk.drop_held(MediaError("given up"))
        self.failureResultOf(write, MediaError)
        self.assertEqual(b"\0", self.read(0, 1))

    def test_slow(self) -> None:
        """A slow disk answers after its delay, and closing it leaves no timer."""
        self.disk.delay_s = 2.0
        write, other = self.disk.write(0, b"1"), self.disk.write(1, b"2")
        self.clock.advance(1.9)
        self.assertNoResult(write)
        self.clock.advance(0.2)
        self.successResultOf(write)
        self.successResultOf(other)
        last = self.disk.write(0, b"3")
        self.successResultOf(self.disk.close())
        self.failureResultOf(last, Unavailable)
        self.clock.advance(0)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_history(self) -> None:
        """What was asked for is remembered and counted."""
        self.disk.write(0, b"12", fua=True)
        self.disk.trim(0, 1)
        self.disk.flush()
        expected = [Operation("write", 0, 2, True), Operation("trim", 0, 1), Operation("flush")]
        self.assertEqual(expected, list(self.disk.history))
        self.assertEqual({"write": 1, "trim": 1, "flush": 1}, dict(self.disk.counts))


class LinkTests(FaultCase):
    """Cables and power."""

    def setUp(self) -> None:
        super().setUp()
        self.links: list[LinkState] = []
        self.disk.observe(lambda node: self.links.append(node.link))

    def test_away(self) -> None:
        """A pulled cable fails what is in flight and what comes; plugged in, all is as it was."""
        incarnation = self.disk.incarnation
        self.disk.hold()
        write = self.disk.write(0, b"x")
        self.disk.pull()
        self.failureResultOf(write, Unavailable)
        error = self.failureResultOf(self.disk.read(0, 1), Unavailable).value
        self.assertEqual("a is away: its cable was pulled", str(error))
        self.clock.advance(0)
        self.disk.release()
        self.disk.plug_in()
        self.clock.advance(0)
        self.assertEqual([LinkState.AWAY, LinkState.READY], self.links)
        self.assertEqual((b"\0", incarnation), (self.read(0, 1), self.disk.incarnation))

    def test_blip(self) -> None:
        """Over a blip operations are kept and then done in order; nobody notices."""
        self.disk.delay_s = 1.0
        first = self.disk.write(0, b"1111")
        self.disk.pull(LinkState.INTERRUPTED)
        second = self.disk.write(2, b"22")
        self.clock.advance(5)
        self.assertNoResult(first)
        self.disk.plug_in()
        self.clock.advance(1)
        self.successResultOf(first)
        self.successResultOf(second)
        self.disk.delay_s = 0
        self.assertEqual(b"1122", self.read(0, 4))

    def test_blip_with_another_incarnation(self) -> None:
        """If the disk comes back as another incarnation what was kept fails with that."""
        before = self.disk.incarnation
        self.disk.pull(LinkState.INTERRUPTED)
        write = self.disk.write(0, b"x")
        self.disk.plug_in(new_incarnation=True)
        self.failureResultOf(write, IncarnationChanged)
        self.assertNotEqual(before, self.disk.incarnation)
        self.assertEqual(b"\0", self.read(0, 1))

    def test_blip_that_lasts(self) -> None:
        """A blip can become an absence."""
        self.disk.pull(LinkState.INTERRUPTED)
        write = self.disk.write(0, b"x")
        self.disk.pull()
        self.failureResultOf(write, Unavailable)

    def test_power_cut(self) -> None:
        """A power cut keeps what was flushed, loses the rest as told, and is seen in the incarnation."""
        before = self.disk.incarnation
        self.successResultOf(self.disk.write(0, b"flushed"))
        self.successResultOf(self.disk.flush())
        self.successResultOf(self.disk.write(0, b"unflush"))
        self.disk.power_cut(keep="none")
        self.assertIs(LinkState.AWAY, self.disk.link)
        self.disk.plug_in()
        self.assertNotEqual(before, self.disk.incarnation)
        self.assertEqual(b"flushed", self.read(0, 7))

    def test_power_cut_of_what_hangs(self) -> None:
        """A write that hangs when the power goes has failed, and may have been done or not."""
        done = set()
        for seed in range(30):
            disk = faulty_disk(self.clock, "a", 1 << 20, seed=seed)
            self.successResultOf(disk.open())
            disk.hold("write")
            write = disk.write(0, b"x")
            disk.power_cut()
            self.failureResultOf(write, Unavailable)
            disk.plug_in()
            done.add(bytes(self.successResultOf(disk.read(0, 1))))
        self.assertEqual({b"x", b"\0"}, done)

    def test_media_outlives_node(self) -> None:
        """A node that dies without closing leaves its media to the next, in the same incarnation."""
        self.successResultOf(self.disk.write(0, b"cached"))
        successor = FaultyDevice(self.clock, SimulatedDisk(self.clock, "a", self.disk.media))
        self.successResultOf(successor.open())
        self.assertEqual(self.disk.incarnation, successor.incarnation)
        self.assertEqual(b"cached", bytes(self.successResultOf(successor.read(0, 6))))

    def test_pulled_before_open(self) -> None:
        """A node whose cable is out opens as away."""
        disk = faulty_disk(self.clock, "b", 1 << 20)
        disk.pull()
        self.successResultOf(disk.open())
        self.assertIs(LinkState.AWAY, disk.link)
        disk.plug_in()
        self.assertIs(LinkState.READY, disk.link)
        self.assertEqual(1 << 20, disk.geometry.size)
