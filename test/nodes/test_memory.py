"""Tests of L{dst.nodes.memory}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dst.errors import ConfigurationError, NoSpace
from dst.geometry import BlockStatus, StatusExtent
from dst.interfaces import INodeProvider
from dst.nodes.memory import CHUNK_BYTES, MemoryDevice, MemoryNodeProvider
from dst.testing import Specimen, node_suite

HOLE = BlockStatus.HOLE | BlockStatus.ZERO


def make(case: object, **options: object) -> Specimen:
    """A memory device that is larger than one transfer may be."""
    clock = Clock()
    node = MemoryDevice(clock, "m", 3 << 20, **{"transfer_bytes_max": 2 << 20, **options})

    def reopen() -> MemoryDevice:
        return node

    return Specimen(node, clock=clock, reopen=reopen)


def make_read_only(case: object) -> Specimen:
    """One that refuses changes."""
    return make(case, read_only=True)


def make_blocks(case: object) -> Specimen:
    """One that knows only whole blocks."""
    return make(case, block_size=4096)


class MemoryDeviceTests(node_suite(MemoryDevice, make, make_read_only=make_read_only)):
    """A memory device keeps the promises of a node."""


class MemoryDeviceOfBlocksTests(node_suite(MemoryDevice, make_blocks)):
    """So does one with a block size."""


class SparseTests(SynchronousTestCase):
    """Memory is taken for what was written, up to a limit."""

    def device(self, size: int, **options: int) -> MemoryDevice:
        """A device that is open."""
        device = MemoryDevice(Clock(), "m", size, **options)
        self.successResultOf(device.open())
        return device

    def test_zeroes_cost_nothing(self) -> None:
        """A large device takes no memory until something is written, and then only around that."""
        device = self.device(16 << 30)
        self.assertEqual(bytes(4096), self.successResultOf(device.read(9 << 30, 4096)))
        self.assertEqual(0, device.allocated_bytes)
        self.successResultOf(device.write((9 << 30) - 1, b"ab"))
        self.assertEqual(2 * CHUNK_BYTES, device.allocated_bytes)

    def test_holes_are_told(self) -> None:
        """What has no memory is told as a hole, neighbours of one kind as one extent."""
        device = self.device(16 << 30)
        self.successResultOf(device.write(CHUNK_BYTES, bytes(2 * CHUNK_BYTES)))
        self.assertEqual(
            [
                StatusExtent(CHUNK_BYTES - 10, HOLE),
                StatusExtent(2 * CHUNK_BYTES, BlockStatus.DATA),
                StatusExtent((16 << 30) - 3 * CHUNK_BYTES, HOLE),
            ],
            self.successResultOf(device.block_status(10, (16 << 30) - 10)),
        )

    def test_trim_gives_memory_back(self) -> None:
        """Whole chunks that are trimmed take no memory any more."""
        device = self.device(1 << 20)
        self.successResultOf(device.write(0, b"x" * (4 * CHUNK_BYTES)))
        self.successResultOf(device.trim(10, 3 * CHUNK_BYTES))
        self.assertEqual(2 * CHUNK_BYTES, device.allocated_bytes)

    def test_no_space(self) -> None:
        """Above the limit a write fails with C{NoSpace} and changes nothing; trimming makes room."""
        device = self.device(1 << 20, allocated_bytes_max=2 * CHUNK_BYTES)
        self.successResultOf(device.write(CHUNK_BYTES, b"x" * CHUNK_BYTES))
        error = self.failureResultOf(device.write(0, b"y" * (3 * CHUNK_BYTES)), NoSpace).value
        self.assertEqual("m may take 131072 bytes of memory and has none left; trim or raise its limit", str(error))
        self.failureResultOf(device.write_zeroes(0, 1 << 20, no_hole=True), NoSpace)
        self.assertEqual(b"x" * CHUNK_BYTES, self.successResultOf(device.read(CHUNK_BYTES, CHUNK_BYTES)))
        self.successResultOf(device.write(0, b"y" * CHUNK_BYTES))
        self.failureResultOf(device.write(5 * CHUNK_BYTES, b"z"), NoSpace)
        self.successResultOf(device.trim(0, CHUNK_BYTES))
        self.successResultOf(device.write(5 * CHUNK_BYTES, b"z"))

    def test_long_status_is_told_in_parts(self) -> None:
        """An answer of block status has a bounded number of extents; the next begins where it ends."""
        device = self.device(1 << 30, allocated_bytes_max=1 << 30)
        for index in range(0, 12000, 2):
            self.successResultOf(device.write(index * CHUNK_BYTES, b"x"))
        extents = self.successResultOf(device.block_status(0, 1 << 30))
        self.assertLess(len(extents), 5000)
        covered = sum(extent.length for extent in extents)
        rest = self.successResultOf(device.block_status(covered, (1 << 30) - covered))
        self.assertEqual(BlockStatus.DATA if extents[-1].status else HOLE, rest[0].status)


class MemoryNodeProviderTests(SynchronousTestCase):
    """C{memory:} URIs."""

    def node(self, uri: str, **options: object) -> MemoryDevice:
        """What the provider makes of it."""
        return MemoryNodeProvider().node_from_uri(Clock(), "m", uri, dict(options))

    def test_provides(self) -> None:
        """It is a node provider."""
        self.assertTrue(verifyObject(INodeProvider, MemoryNodeProvider()))

    def test_uri(self) -> None:
        """The URI or the table of the topology says the size and whether it is read-only."""
        for node in (self.node("memory:?size=64M&read_only=true"), self.node("memory:", size="64M", read_only=True)):
            self.successResultOf(node.open())
            self.assertEqual((64 << 20, True), (node.geometry.size, node.geometry.read_only))

    def test_bad(self) -> None:
        """What is wrong is said, with what was expected."""
        for uri, options, sentence in [
            ("memory:", {}, "node 'm': memory: has no size; expected memory:?size=64M"),
            ("memory:?size=64Q", {}, "has a bad size: '64Q' is not a size"),
            ("memory:?size=64M&size=64M", {}, "says 'size' twice"),
            ("memory:?size=64M", {"size": 5}, "says 'size' twice"),
            ("memory:?size=64M&sise=1", {}, "has the unknown setting 'sise'"),
            ("memory:x?size=64M", {}, "has the path 'x'"),
            ("memory:?size", {}, "is not of the form key=value"),
            ("memory:?size=64M&read_only=perhaps", {}, "expected true or false"),
            ("memory:", {"size": 1.5}, "expected a size, as 64M"),
        ]:
            error = self.assertRaises(ConfigurationError, self.node, uri, **options)
            self.assertIn(sentence, str(error))
