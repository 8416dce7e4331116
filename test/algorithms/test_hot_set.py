"""
What a mirror marks together, and for how long it stays hot.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.algorithms.mirror.hot_set import default_hot_regions
from dst.label.zone import ENTRIES_PER_PAGE, REGION_BYTES_MIN
from dst.recovery.record_store import NoRecordStore
from dst.testing import FaultyDevice, SimulatedDisk, SimulatedMedia
from test.scenarios.invariant import check_invariant


def _counted() -> Callable[[int], bytes]:
    """Different bytes each time."""
    number = count(1)
    return lambda length: next(number).to_bytes(length, "little")


class DefaultTests(SynchronousTestCase):
    """How much may be hot when nobody has said."""

    def test_by_size(self) -> None:
        """So many bytes, whatever the size of the regions, within bounds on their number."""
        self.assertEqual(96 << 10, default_hot_regions(1 << 20))
        self.assertEqual(96 << 7, default_hot_regions(8 << 20))
        self.assertEqual(256, default_hot_regions(1 << 30))
        self.assertEqual(1 << 17, default_hot_regions(REGION_BYTES_MIN))


class HotPolicyTests(SynchronousTestCase):
    """What is marked together, and for how long it stays hot."""

    def serve(self, hot_regions: int = 1024) -> None:
        """Two members with a table of three pages."""
        self.clock = Clock()
        media = [SimulatedMedia(3 * ENTRIES_PER_PAGE * REGION_BYTES_MIN) for _ in range(2)]
        self.nodes = [
            FaultyDevice(self.clock, SimulatedDisk(self.clock, f"m{n}", each)) for n, each in enumerate(media)
        ]
        options = MirrorOptions(region_size=REGION_BYTES_MIN, hot_regions=hot_regions)
        self.mirror = Mirror(
            self.clock, "vol", self.nodes, options, NoRecordStore(), entropy=_counted(), owner_name="o"
        )
        self.mirror.open()
        for _ in range(100):
            self.clock.advance(0.1)
        assert self.mirror.serving is not None
        self.hot = self.mirror.serving.hot
        self.marks = 0

    def tearDown(self) -> None:
        """Nothing is left."""
        self.mirror.close()
        self.clock.pump([1.0] * 30)
        self.assertEqual([], self.clock.getDelayedCalls())

    def write(self, region: int) -> None:
        """One block of a region; the durable writes that the second member needed for it are counted."""
        self.nodes[1].history.clear()
        done = self.mirror.write(region * REGION_BYTES_MIN, b"x" * 4096)
        self.clock.advance(0)
        self.successResultOf(done)
        self.marks += sum(o.fua for o in self.nodes[1].history if o.kind == "write")

    def test_a_page_together(self) -> None:
        """Where many regions of one page of the table are hot, the next mark is for all of them."""
        self.serve()
        for n in range(9):
            self.write(2 * n)
        self.assertEqual(9, self.marks)
        self.assertEqual(set(range(ENTRIES_PER_PAGE)), set(self.hot.regions))
        for region in range(ENTRIES_PER_PAGE):
            self.write(region)
        self.assertEqual(9, self.marks)

    def copied_after(self, *missed: int) -> set[int]:
        """The regions copied to the second member, which was away while C{missed} were written to and cleared."""
        self.serve()
        self.settle()
        self.nodes[1].pull()
        self.settle()
        for region in missed:
            self.successResultOf(self.mirror.write(region * REGION_BYTES_MIN, b"m" * 4096))
            self.settle()
        self.assertEqual(0, len(self.hot.regions))
        for region in range(0, 18, 2):
            self.successResultOf(self.mirror.write(region * REGION_BYTES_MIN, b"n" * 4096))
        self.assertEqual(set(range(ENTRIES_PER_PAGE)), set(self.hot.regions))
        self.nodes[1].history.clear()
        self.nodes[1].plug_in()
        self.settle()
        self.assertEqual("healthy", self.mirror.status().health.value)
        regions = {o.offset // REGION_BYTES_MIN for o in self.nodes[1].history if o.kind == "write"}
        return {region for region in regions if region < ENTRIES_PER_PAGE}

    def settle(self) -> None:
        """Everything that takes time has happened."""
        self.clock.pump([0.1] * 300)

    def test_only_marked(self) -> None:
        """A member that comes back is not given what was only marked, ahead of writes that have not come."""
        self.assertEqual(set(range(0, 18, 2)), self.copied_after())

    def test_marked_again(self) -> None:
        """What was written and cleared while it was away it has missed, though by then it is only marked."""
        self.assertEqual({*range(0, 18, 2), 100}, self.copied_after(100))

    def test_never_more_than_the_set_takes(self) -> None:
        """What is marked together does not push out what is used, and fills the set no further than its last part."""
        self.serve(512)
        for region in range(0, 3 * ENTRIES_PER_PAGE - 20, 2):
            self.write(region)
            self.assertLessEqual(len(self.hot.regions), 512)
        self.assertIn(3 * ENTRIES_PER_PAGE - 22, self.hot.regions)

    def test_written_all_over(self) -> None:
        """What is written all over stays hot for longer, until nothing is written any more."""
        self.serve()
        scattered = range(0, 3 * ENTRIES_PER_PAGE - 20, 40)  # too few on each page to be marked with others
        for _ in range(10):
            for region in scattered:
                self.write(region)
            self.clock.pump([1.0] * 10)
        self.assertLessEqual(self.marks, 3 * len(scattered))
        self.clock.pump([1.0] * 30)
        self.assertEqual({}, dict(self.hot.regions))

    def test_written_in_one_place(self) -> None:
        """What is not written to any more is cleared soon while something else is written to."""
        self.serve()
        self.write(0)
        for _ in range(12):
            self.write(300)
            self.clock.advance(1)
        self.assertEqual([300], list(self.hot.regions))

    def test_room_before_it_is_needed(self) -> None:
        """A set that is nearly full is emptied a little: a write to a cold region does not wait for a flush."""
        self.serve(512)
        for region in range(2 * ENTRIES_PER_PAGE - 4):
            self.write(region)
        self.clock.pump([1.0] * 3)
        for node in self.nodes:
            node.hold("flush")
        self.write(2 * ENTRIES_PER_PAGE + 100)
        for node in self.nodes:
            node.release()
        self.clock.pump([0.1] * 10)
        self.assertLess(len(self.hot.regions), 480)

    def test_cleared_by_page(self) -> None:
        """What was written all over and is idle is cleared with one flush and one write of each page of the table."""
        self.serve()
        for region in range(0, 3 * ENTRIES_PER_PAGE - 20, 5):
            self.write(region)
        for node in self.nodes:
            node.history.clear()
        self.clock.pump([1.0] * 15)
        self.assertEqual({}, dict(self.hot.regions))
        for node in self.nodes:
            self.assertEqual(["flush", "write", "write", "write"], sorted(o.kind for o in node.history))


class ManyHotTests(SynchronousTestCase):
    """More regions are hot than are cleared with one flush."""

    regions = 1400

    def setUp(self) -> None:
        self.clock = Clock()
        self.media = [SimulatedMedia(self.regions * REGION_BYTES_MIN) for _ in range(2)]
        self.nodes = [
            FaultyDevice(self.clock, SimulatedDisk(self.clock, f"m{n}", m)) for n, m in enumerate(self.media)
        ]
        options = MirrorOptions(region_size=REGION_BYTES_MIN, hot_regions=4096)
        self.mirror = Mirror(
            self.clock, "vol", self.nodes, options, NoRecordStore(), entropy=_counted(), owner_name="o"
        )
        self.mirror.open()
        self.clock.pump([0.1] * 100)
        for region in range(1300):
            self.successResultOf(self.mirror.write(region * REGION_BYTES_MIN, b"a" * 4096))

    def test_written_while_it_stops(self) -> None:
        """A region of the second clear that somebody writes to during the first is not cleared."""
        assert self.mirror.serving is not None
        hot, last = self.mirror.serving.hot, self.nodes[1]
        for node in self.nodes:
            node.hold("flush")
        cleared = hot.clear_all()
        last.hold("flush write")
        written = self.mirror.write(1290 * REGION_BYTES_MIN, b"b" * 4096)
        self.nodes[0].release()
        for _ in range(10):  # what is asked of the table goes on, and what a client has written hangs
            held, last._held = last._held, []
            for request in held:
                if request.operation.kind == "write" and request.operation.offset == 1290 * REGION_BYTES_MIN:
                    last._held.append(request)
                else:
                    last._start(request)
            self.clock.advance(0.02)
        self.assertTrue(self.successResultOf(cleared))
        self.assertNoResult(written)
        self.assertEqual({1290}, set(hot.regions))
        check_invariant(self.media, lambda: "while a write hangs")
        last.release()
        self.successResultOf(written)
