"""Tests of L{dst.recovery.write_order}."""

from __future__ import annotations

import inspect

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.recovery.write_order import Extent, ExtentOrder

SHIFT = 4
"""Regions of 16 bytes, so that small numbers already cross several."""


def extent(offset: int, end: int) -> Extent:
    return Extent(offset, end, SHIFT)


class NaiveOrder:
    """The same promise said plainly: who may go is found by looking at everybody who came before."""

    def __init__(self) -> None:
        self.came: list[tuple[int, int, int, bool]] = []
        self.started: set[int] = set()
        self.ended: set[int] = set()

    def may_go(self, number: int) -> bool:
        _, start, end, _ = self.came[number]
        return not any(
            other < number and change and other not in self.ended and begin < end and start < stop
            for other, begin, stop, change in self.came
        )


steps = st.lists(
    st.tuples(st.sampled_from(["enter", "wait", "leave"]), st.integers(0, 100), st.integers(1, 60)), max_size=60
)


class ExtentOrderTests(SynchronousTestCase):
    """One order for what overlaps."""

    def setUp(self) -> None:
        self.order = ExtentOrder()
        self.log: list[str] = []

    def named(self, name: str, offset: int, end: int) -> Extent:
        """An extent whose start is noted."""
        made = extent(offset, end)
        made.start = lambda: self.log.append(name)
        return made

    def test_regions(self) -> None:
        """An extent touches the regions of its first and its last byte and those between."""
        touched = [(made.first, made.last) for made in (extent(0, 16), extent(15, 17), extent(16, 17), extent(5, 50))]
        self.assertEqual([(0, 0), (0, 1), (1, 1), (0, 3)], touched)

    def test_apart(self) -> None:
        """Extents that do not overlap go at once, in one region too; a neighbour does not overlap."""
        for offset in (0, 4, 8, 30, 12):
            self.assertTrue(self.order.enter(extent(offset, offset + 4)))

    def test_waits_for_all_before(self) -> None:
        """One that overlaps two goes when both are over, and is itself waited for meanwhile."""
        one, two = extent(0, 20), extent(30, 50)
        three, four = self.named("three", 10, 40), self.named("four", 22, 25)
        self.assertEqual([True, True, False, False], [self.order.enter(each) for each in (one, two, three, four)])
        self.order.leave(two)
        self.assertEqual([], self.log)
        self.order.leave(one)
        self.assertEqual(["three"], self.log)
        self.order.leave(three)
        self.assertEqual(["three", "four"], self.log)

    def test_reads_do_not_hold_up(self) -> None:
        """A read waits for the changes before it; a change never waits for a read."""
        change = extent(0, 40)
        read = self.named("read", 10, 20)
        self.assertTrue(self.order.enter(change))
        self.assertFalse(self.order.wait(read))
        later = self.named("later", 12, 18)
        self.assertFalse(self.order.enter(later))
        self.order.leave(change)
        self.assertEqual(["read", "later"], self.log)
        self.assertTrue(self.order.wait(extent(50, 60)))

    def test_waiting_for_what_has_begun(self) -> None:
        """Only changes of the kind, that overlap, and that nothing holds up."""

        class Change(Extent):
            pass

        first, later = Change(0, 40, SHIFT), Change(10, 20, SHIFT)
        read = self.named("read", 12, 18)
        self.order.enter(extent(0, 100))
        self.assertEqual([], self.order.wait_for_begun(read, Change))
        self.order = ExtentOrder()
        self.order.enter(first)
        later.start = lambda: self.log.append("later")
        self.order.enter(later)
        self.assertEqual({first}, set(self.order.wait_for_begun(read, Change)))
        self.assertEqual([], self.order.wait_for_begun(extent(50, 60), Change))
        self.order.leave(first)
        self.assertEqual(["later", "read"], self.log)

    def test_busy(self) -> None:
        """A region is busy while an extent in it is held or waited for, and nothing is kept afterwards."""
        one, two = self.named("one", 0, 40), self.named("two", 30, 50)
        self.order.enter(one)
        self.order.enter(two)
        self.assertEqual([True, True, True, True, False], [self.order.busy(region) for region in range(5)])
        self.order.leave(one)
        self.assertEqual([False, True, True, True], [self.order.busy(region) for region in (0, 1, 2, 3)])
        self.order.leave(two)
        self.assertEqual({}, self.order.by_region)

    def test_failure_of_one(self) -> None:
        """When starting one raises, the others that became free are started by whoever leaves next."""
        one, bad, good = extent(0, 40), extent(0, 8), self.named("good", 8, 16)
        self.order.enter(one)

        def fails() -> None:
            raise ZeroDivisionError

        bad.start = fails
        self.order.enter(bad)
        self.order.enter(good)
        self.assertRaises(ZeroDivisionError, self.order.leave, one)
        self.order.leave(bad)
        other = extent(20, 24)
        waiter = self.named("waiter", 20, 24)
        self.order.enter(other)
        self.order.enter(waiter)
        self.order.leave(other)
        self.assertEqual(["good", "waiter"], self.log)

    def test_long_queue(self) -> None:
        """5,000 changes of one block that each end at once run in order, without nesting."""
        depths: list[int] = []
        ran: list[int] = []

        def queue(number: int) -> Extent:
            made = extent(0, 8)

            def start() -> None:
                ran.append(number)
                if number % 500 == 0:
                    depths.append(len(inspect.stack(0)))
                self.order.leave(made)

            made.start = start
            return made

        first = extent(0, 8)
        self.order.enter(first)
        for number in range(5_000):
            self.assertFalse(self.order.enter(queue(number)))
        self.order.leave(first)
        self.assertEqual(list(range(5_000)), ran)
        self.assertEqual(1, len(set(depths)), depths)
        self.assertEqual({}, self.order.by_region)

    def test_once(self) -> None:
        """What overlaps in many regions waits once for each that came before, not once for each region."""
        for order in (ExtentOrder(), ExtentOrder(4)):
            entered = [extent(0, 100 * 16) for _ in range(20)]
            for each in entered:
                order.enter(each)
            read = extent(0, 100 * 16)
            self.assertFalse(order.wait(read))
            self.assertEqual([*range(20), 20], [each.blockers for each in [*entered, read]])
            self.assertEqual([*range(20, 0, -1)], [len(each.waiters or ()) for each in entered])

    def test_wide(self) -> None:
        """A change of very many regions takes one place, not one in each of them, and has the same order."""
        self.order = ExtentOrder(4)
        small, wide = self.named("small", 1 << 20, (1 << 20) + 8), self.named("wide", 0, 1 << 50)
        for each in (
            small,
            wide,
            later := self.named("later", 1 << 30, (1 << 30) + 8),
            end := extent(1 << 50, 1 << 51),
        ):
            self.order.enter(each)
        self.assertEqual([0, 1, 1, 0], [each.blockers for each in (small, wide, later, end)])
        self.assertEqual(2, len(self.order.by_region))
        self.order.leave(small)
        self.assertEqual(["wide"], self.log)
        self.order.leave(wide)
        self.order.leave(end)
        self.assertEqual(["wide", "later"], self.log)

    @given(steps, st.sampled_from([None, 1, 2, 3]))
    @settings(deadline=None, max_examples=200)
    def test_model(self, wanted: list[tuple[str, int, int]], regions_max: int | None) -> None:
        """
        Whatever enters and leaves: nobody starts while one that came before and overlaps is not over, everybody
        starts when there is none left, exactly once, and in the end nothing is kept.
        """
        order, naive = ExtentOrder(regions_max), NaiveOrder()
        extents: list[Extent] = []

        def started(number: int) -> None:
            self.assertNotIn(number, naive.started)
            self.assertTrue(naive.may_go(number), (number, naive.came))
            naive.started.add(number)

        def leave(number: int) -> None:
            naive.ended.add(number)
            order.leave(extents[number])
            for other in range(len(naive.came)):
                self.assertEqual(naive.may_go(other), other in naive.started)

        def running() -> list[int]:
            return [n for n, _, _, change in naive.came if change and n in naive.started and n not in naive.ended]

        for what, offset, length in wanted:
            if what == "leave":
                if running():
                    leave(running()[offset % len(running())])
                continue
            number = len(extents)
            made = extent(offset, offset + length)
            made.start = lambda number=number: started(number)  # type: ignore[misc]
            extents.append(made)
            naive.came.append((number, offset, offset + length, what == "enter"))
            at_once = order.enter(made) if what == "enter" else order.wait(made)
            self.assertEqual(naive.may_go(number), at_once)
            if at_once:
                naive.started.add(number)
        while running():
            leave(running()[-1])
        self.assertEqual(set(range(len(extents))), naive.started)
        self.assertEqual({}, order.by_region)
        self.assertTrue(order.enter(extent(0, 1 << 20)))
