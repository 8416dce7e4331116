"""Tests of L{dst.algorithms.mirror.history}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dst.algorithms.mirror.history import HistoryNode
from dst.errors import OutOfBounds, ReadOnly, Unavailable
from dst.interfaces import INode
from dst.status import LinkState
from dst.testing import conformance_tests
from dst.testing.faulty import FaultyDevice, faulty_disk

SIZE = 1 << 20
DATA = SIZE - 4096


class HistoryNodeTests(SynchronousTestCase):
    """
    The copy of a member, to be read.

    The suites of nodes write, so this one stands for them: there is nothing of it that can be written.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.parent: FaultyDevice = faulty_disk(self.clock, "n0", SIZE)
        for step in (self.parent.open, lambda: self.parent.write(0, b"h" * 4096)):
            done = step()
            self.pass_time()
            self.successResultOf(done)
        self.still = True
        self.node = HistoryNode(self.clock, "vol@n0", self.parent, DATA, lambda: self.still)

    def pass_time(self) -> None:
        """What the disk does takes a moment."""
        for _ in range(100):
            self.clock.advance(0.01)

    def read(self, offset: int, length: int) -> bytes:
        """What is read."""
        done = self.node.read(offset, length)
        self.pass_time()
        return bytes(self.successResultOf(done))

    def test_provides(self) -> None:
        """It is a node, ready at once, with the data and not the zone behind it."""
        self.assertTrue(verifyObject(INode, self.node))
        self.assertIsNone(self.successResultOf(self.node.open()))
        self.assertEqual((LinkState.READY, ""), (self.node.link, self.node.reason))
        self.assertEqual((DATA, True), (self.node.geometry.size, self.node.geometry.read_only))
        self.assertEqual(self.parent.incarnation, self.node.incarnation)
        self.assertEqual(("vol@n0", "history"), (self.node.status().name, self.node.status().kind))

    def test_read(self) -> None:
        """The data is read, and nothing behind it."""
        self.assertEqual(b"h" * 4096 + bytes(512), self.read(0, 4608))
        self.failureResultOf(self.node.read(DATA, 512), OutOfBounds)
        status = self.node.block_status(0, 4096)
        self.pass_time()
        self.assertNotEqual([], self.successResultOf(status))
        self.failureResultOf(self.node.block_status(0, SIZE), OutOfBounds)

    def test_read_only(self) -> None:
        """Every change is refused, and nothing is done."""
        self.failureResultOf(self.node.write(0, b"x" * 4096), ReadOnly)
        self.failureResultOf(self.node.write(0, b"x" * 4096, fua=True), ReadOnly)
        self.failureResultOf(self.node.trim(0, 4096), ReadOnly)
        self.failureResultOf(self.node.write_zeroes(0, 4096), ReadOnly)
        self.failureResultOf(self.node.write(DATA, b"x" * 4096), OutOfBounds)
        self.assertIsNone(self.successResultOf(self.node.flush()))
        self.assertEqual(b"h" * 4096, self.read(0, 4096))

    def test_ends(self) -> None:
        """From the moment at which the member is used again nothing is read, whether or not anybody was told."""
        told: list[LinkState] = []
        self.node.observe(lambda node: told.append(node.link))
        self.still = False
        self.failureResultOf(self.node.read(0, 4096), Unavailable)
        self.clock.advance(0)
        self.assertEqual([LinkState.AWAY], told)
        self.failureResultOf(self.node.write(0, b"x" * 4096), Unavailable)
        self.failureResultOf(self.node.flush(), Unavailable)

    def test_follows(self) -> None:
        """It goes and comes with the member's node."""
        self.parent.pull()
        self.pass_time()
        self.assertIsNot(LinkState.READY, self.node.link)
        self.assertIn("n0", self.node.reason)
        self.failureResultOf(self.node.read(0, 4096), Unavailable)
        self.parent.plug_in()
        self.pass_time()
        self.assertEqual(b"h" * 4096, self.read(0, 4096))

    def test_closed(self) -> None:
        """After the close nothing is done or told any more."""
        self.assertIsNone(self.successResultOf(self.node.close()))
        self.assertIs(LinkState.CLOSED, self.node.link)
        self.failureResultOf(self.node.read(0, 4096), Unavailable)
        self.parent.pull()
        self.pass_time()
        self.assertIs(LinkState.CLOSED, self.node.link)
        self.assertEqual([], self.clock.getDelayedCalls())


conformance_tests.setdefault(HistoryNode, []).append(HistoryNodeTests)
