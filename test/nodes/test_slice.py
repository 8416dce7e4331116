"""Tests of L{dst.nodes.slice}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import ConfigurationError, MediaError, OutOfBounds, Unavailable
from dst.nodes.memory import MemoryDevice
from dst.nodes.slice import SliceNode
from dst.status import LinkState
from dst.testing import (
    FailedFlushSuite,
    FaultyDevice,
    SimulatedDisk,
    SimulatedMedia,
    Specimen,
    faulty_disk,
    node_suite,
)

START = 1 << 20
SIZE = 3 << 20


def make(case: object, **options: object) -> Specimen:
    """The middle of a disk."""
    clock, media = Clock(), SimulatedMedia(START + SIZE + (1 << 20))
    options = {"transfer_bytes_max": 2 << 20, **options}

    def slice_node() -> SliceNode:
        return SliceNode(clock, "s", SimulatedDisk(clock, "d", media, **options), START, SIZE)

    return Specimen(slice_node(), clock=clock, reopen=slice_node)


def make_read_only(case: object) -> Specimen:
    """The middle of a disk that refuses changes."""
    return make(case, read_only=True)


def make_blocks(case: object) -> Specimen:
    """The middle of a disk that knows whole blocks only, and is slow."""
    clock, media = Clock(), SimulatedMedia(START + SIZE)

    def slice_node() -> SliceNode:
        disk = SimulatedDisk(clock, "d", media, block_size=4096)
        return SliceNode(clock, "s", FaultyDevice(clock, disk, delay_s=0.03), START, SIZE)

    node = slice_node()
    return Specimen(node, clock=clock, reopen=slice_node, fail_flush=lambda: fail_flush(node))


def make_faulty(case: object) -> Specimen:
    """The middle of a disk that can fail, at once."""
    clock = Clock()
    node = SliceNode(clock, "s", faulty_disk(clock, "d", START + SIZE), START, SIZE)
    return Specimen(node, clock=clock, fail_flush=lambda: fail_flush(node))


def fail_flush(node: SliceNode) -> None:
    """The disk below fails a flush."""
    assert isinstance(node.parent, FaultyDevice)
    node.parent.fail_next("flush", MediaError("worn out"))


class SliceNodeTests(node_suite(SliceNode, make, make_read_only=make_read_only)):
    """A slice keeps the promises of a node."""


class SliceOfBlocksTests(node_suite(SliceNode, make_blocks), FailedFlushSuite):
    """So does one of a slow disk with blocks."""


class SliceOfFaultyDiskTests(node_suite(SliceNode, make_faulty), FailedFlushSuite):
    """So does one of a disk that can fail."""


class SharedParentTests(SynchronousTestCase):
    """Several slices over one parent."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = faulty_disk(self.clock, "d", 1 << 20)
        self.first = SliceNode(self.clock, "first", self.disk, 0, 1 << 19)
        self.second = SliceNode(self.clock, "second", self.disk, 1 << 19, 1 << 19)

    def test_opened_and_closed_once(self) -> None:
        """The first slice opens the parent, the last one closes it, and it can be opened again."""
        for _ in range(2):
            self.successResultOf(self.first.open())
            self.successResultOf(self.second.open())
            self.successResultOf(self.first.close())
            self.assertIs(LinkState.READY, self.disk.link)
            self.successResultOf(self.second.write(0, b"x"))
            self.successResultOf(self.second.close())
            self.assertIs(LinkState.CLOSED, self.disk.link)
            self.disk = FaultyDevice(self.clock, SimulatedDisk(self.clock, "d", self.disk.media))
            self.first = SliceNode(self.clock, "first", self.disk, 0, 1 << 19)
            self.second = SliceNode(self.clock, "second", self.disk, 1 << 19, 1 << 19)

    def test_memory_parent_opened_again(self) -> None:
        """Closed slices over a parent that can be opened again can be so themselves."""
        parent = MemoryDevice(self.clock, "m", 1 << 20)
        node = SliceNode(self.clock, "s", parent, 4096, 4096)
        for _ in range(2):
            self.successResultOf(node.open())
            self.successResultOf(node.write(0, b"x"))
            self.successResultOf(node.close())
            self.assertIs(LinkState.CLOSED, parent.link)

    def test_separate(self) -> None:
        """What is written to one slice is at its place of the parent, and not in the other."""
        self.successResultOf(self.first.open())
        self.successResultOf(self.second.open())
        self.successResultOf(self.second.write(1, b"data"))
        self.assertEqual(b"data", self.disk.media.read((1 << 19) + 1, 4))
        self.failureResultOf(self.first.write((1 << 19) - 1, b"xx"), OutOfBounds)
        self.assertEqual(bytes(1 << 19), self.disk.media.read(0, 1 << 19))

    def test_closing_waits_for_its_own(self) -> None:
        """A slice that closes waits for its operations in flight and flushes them, though the parent stays."""
        self.successResultOf(self.first.open())
        self.successResultOf(self.second.open())
        self.disk.hold("write")
        write = self.first.write(0, b"late")
        closing = self.first.close()
        self.assertNoResult(closing)
        self.disk.release()
        self.successResultOf(write)
        self.successResultOf(closing)
        self.assertEqual(b"late", self.disk.media.read_stable(0, 4))

    def test_link_and_incarnation(self) -> None:
        """A slice is as its parent is, and its observers are told."""
        self.successResultOf(self.first.open())
        seen = []
        self.first.observe(lambda node: seen.append((node.link, node.reason, node.incarnation)))
        before = self.disk.incarnation
        self.clock.advance(0)
        self.disk.pull()
        self.clock.pump([0, 0])
        self.failureResultOf(self.first.read(0, 1), Unavailable)
        self.disk.plug_in(new_incarnation=True)
        self.clock.pump([0, 0])
        self.assertEqual(
            [
                (LinkState.AWAY, "d is away: its cable was pulled", before),
                (LinkState.READY, "", self.disk.incarnation),
            ],
            seen,
        )

    def test_status(self) -> None:
        """The parent is below the slice in the status."""
        self.successResultOf(self.first.open())
        tree = self.first.status()
        self.assertEqual(("first", "slice", 1 << 19), (tree.name, tree.kind, tree.size))
        self.assertEqual(["d"], [child.name for child in tree.children])

    def test_misfit(self) -> None:
        """A slice that is not inside its parent, or cuts its blocks, is refused with the numbers."""
        coarse = SimulatedDisk(self.clock, "d", SimulatedMedia(1 << 20), block_size=4096)
        for parent, start, size, sentence in [
            (self.disk, 4096, 1 << 20, "the slice s (4096+1048576) of d ends at 1052672 of 1048576 bytes"),
            (coarse, 512, 4096, "the slice s (512+4096) of d is not a multiple of its blocks of 4096 bytes"),
        ]:
            node = SliceNode(self.clock, "s", parent, start, size)
            error = self.failureResultOf(node.open(), ConfigurationError).value
            self.assertEqual(sentence, str(error))
            self.assertEqual((LinkState.AWAY, sentence), (node.link, node.reason))
            self.successResultOf(node.close())
            self.assertIs(LinkState.CLOSED, parent.link)

    def test_parent_cannot_open(self) -> None:
        """An error of the parent's C{open} is that of every slice that waited for it."""

        class Broken(SimulatedDisk):
            def open(self):  # type: ignore[no-untyped-def]
                return super().open().addCallback(lambda _: 1 / 0).addErrback(self.refuse)

            def refuse(self, failure: object) -> None:
                raise MediaError("no disk")

        broken = Broken(self.clock, "b", SimulatedMedia(1 << 20))
        node = SliceNode(self.clock, "s", broken, 0, 4096)
        self.failureResultOf(node.open(), MediaError)
        self.assertEqual((LinkState.AWAY, "no disk"), (node.link, node.reason))
        self.successResultOf(node.close())
