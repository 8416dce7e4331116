"""
How fast a resync goes is decided from what was seen.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.recovery.pace import (
    CHUNK_BYTES_IDLE,
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    CHUNKS_IDLE,
    CHUNKS_LOADED,
    COMPARE_EVERY,
    Pace,
    PaceLimits,
    PaceWindow,
    ResyncScheduler,
    Worth,
)

MB = 1_000_000


class PaceTests(SynchronousTestCase):
    """Floor and ceiling, and what lies between."""

    def setUp(self) -> None:
        self.pace = Pace(PaceLimits(0.1, 0.6))

    def windows(self, count: int, latency_s: float, *, copied: int = 50 * MB, busy_s: float = 0.5) -> None:
        """Some windows in which clients work."""
        for _ in range(count):
            self.pace.observe(PaceWindow(copied, busy_s, 100, latency_s))

    def test_nothing_is_held_back_while_nobody_asks(self) -> None:
        self.pace.observe(PaceWindow(50 * MB, 0.5, 0, 0.0))
        self.assertEqual((1.0, 0.0, CHUNKS_IDLE), (self.pace.share, self.pace.bytes_per_s, self.pace.chunks))
        self.assertEqual(100 * MB, self.pace.capacity)

    def test_steps_are_long_while_nobody_asks_and_the_members_are_fast(self) -> None:
        self.assertEqual(CHUNK_BYTES_IDLE, self.pace.chunk_bytes)
        for rate, expected in ((400 * MB, CHUNK_BYTES_IDLE), (40 * MB, CHUNK_BYTES_MAX), (MB, CHUNK_BYTES_MAX)):
            self.pace.capacity = rate
            self.assertEqual(expected, self.pace.chunk_bytes)

    def test_steps_are_short_as_soon_as_somebody_asks(self) -> None:
        self.pace.observe(PaceWindow(200 * MB, 0.5, 0, 0.0))
        self.windows(1, 0.001)
        self.assertEqual(CHUNK_BYTES_MAX, self.pace.chunk_bytes)

    def test_capacity_is_measured_while_something_is_copied_and_not_while_it_waits(self) -> None:
        self.pace.observe(PaceWindow(10 * MB, 0.1, 0, 0.0))
        self.assertEqual(100 * MB, self.pace.capacity)

    def test_clients_that_do_not_suffer_let_it_rise_to_its_ceiling(self) -> None:
        self.windows(1, 0.001, copied=0, busy_s=0.0)
        self.windows(30, 0.001)
        self.assertEqual(0.6, self.pace.share)
        self.assertAlmostEqual(60 * MB, self.pace.bytes_per_s)
        self.assertEqual(CHUNKS_LOADED, self.pace.chunks)

    def test_clients_that_suffer_push_it_to_its_floor_and_no_further(self) -> None:
        self.windows(1, 0.001, copied=0, busy_s=0.0)
        self.windows(30, 0.001)
        self.windows(1, 0.010)
        self.assertAlmostEqual(0.3, self.pace.share)
        self.windows(1, 0.010)
        self.assertAlmostEqual(0.15, self.pace.share)
        self.windows(5, 0.010)
        self.assertAlmostEqual(0.1, self.pace.share)
        self.assertGreater(self.pace.bytes_per_s, 9 * MB)

    def test_a_workload_that_became_heavier_by_itself_does_not_keep_it_at_the_floor(self) -> None:
        self.windows(1, 0.001, copied=0, busy_s=0.0)
        self.windows(60, 0.010)
        self.assertGreater(self.pace.share, 0.1)

    def test_what_is_not_known_is_learnt_at_the_floor(self) -> None:
        self.windows(1, 0.010)
        self.assertAlmostEqual(0.1, self.pace.share)
        self.assertEqual(0.010, self.pace.latency_s)

    def test_what_clients_feel_without_a_resync_is_known_when_one_begins(self) -> None:
        self.windows(50, 0.002, copied=0, busy_s=0.0)
        self.assertAlmostEqual(0.002, self.pace.latency_s)
        self.windows(1, 0.020)
        self.assertAlmostEqual(0.1, self.pace.share)
        self.assertAlmostEqual(0.002, self.pace.latency_s, places=2)

    def test_quiet_clients_give_everything_back(self) -> None:
        self.windows(10, 0.010)
        self.pace.observe(PaceWindow(MB, 0.5, 0, 0.0))
        self.assertLess(self.pace.share, 1.0)
        self.pace.observe(PaceWindow(MB, 0.5, 0, 0.0))
        self.assertEqual(1.0, self.pace.share)

    def test_others_in_greater_need_leave_it_its_floor(self) -> None:
        self.pace.observe(PaceWindow(50 * MB, 0.5, 0, 0.0), full_speed=False)
        self.assertEqual(0.1, self.pace.share)
        self.assertAlmostEqual(10 * MB, self.pace.bytes_per_s)

    def test_slow_media_gets_short_steps_while_clients_work(self) -> None:
        self.windows(3, 0.010, copied=2 * MB)
        self.assertEqual(CHUNK_BYTES_MIN, self.pace.chunk_bytes)

    def test_media_that_became_slow_is_noticed(self) -> None:
        self.pace.observe(PaceWindow(500 * MB, 0.5, 0, 0.0))
        for _ in range(200):
            self.pace.observe(PaceWindow(5 * MB, 0.5, 0, 0.0))
        self.assertLess(self.pace.capacity, 25 * MB)

    def test_limits_that_mean_nothing_are_refused(self) -> None:
        for floor, ceiling in ((0.0, 0.5), (0.7, 0.5), (0.1, 1.1)):
            self.assertRaises(AssertionError, PaceLimits, floor, ceiling)


class SchedulerTests(SynchronousTestCase):
    """Of several storages the least redundant go first."""

    def test_a_bounded_number_at_full_speed(self) -> None:
        scheduler = ResyncScheduler(2)
        seats = [scheduler.enter(name, redundancy=0) for name in "abc"]
        self.assertEqual([True, True, False], [scheduler.full_speed(seat) for seat in seats])
        self.assertEqual(["a", "b"], [seat.name for seat in scheduler.ahead_of(seats[2])])

    def test_less_redundancy_comes_first_whenever_it_came(self) -> None:
        scheduler = ResyncScheduler(1)
        safe = scheduler.enter("safe", redundancy=1)
        alone = scheduler.enter("alone", redundancy=0)
        self.assertEqual([False, True], [scheduler.full_speed(seat) for seat in (safe, alone)])
        safe.redundancy = alone.redundancy = 1
        self.assertEqual([True, False], [scheduler.full_speed(seat) for seat in (safe, alone)])

    def test_who_leaves_makes_room_for_the_next(self) -> None:
        scheduler = ResyncScheduler(1)
        first, second = scheduler.enter("first", 0), scheduler.enter("second", 0)
        scheduler.leave(first)
        scheduler.leave(first)
        self.assertTrue(scheduler.full_speed(second))


class WorthTests(SynchronousTestCase):
    """Checksums are asked for where that saves more than it costs."""

    def decisions(self, worth: Worth, count: int) -> int:
        """How many of so many chunks would be compared."""
        return sum(worth.pays() for _ in range(count))

    def test_until_something_was_measured_it_depends_on_what_is_expected(self) -> None:
        self.assertTrue(Worth(1.0).pays())
        self.assertFalse(Worth(0.0).pays())

    def test_a_dear_comparison_of_what_is_mostly_equal_still_pays(self) -> None:
        worth = Worth(1.0)
        worth.compared(0.9, 0.002)
        worth.copied(1.0, 0.010)
        self.assertTrue(worth.pays())

    def test_a_comparison_that_takes_as_long_as_a_copy_still_pays(self) -> None:
        worth = Worth(1.0)
        worth.copied(1.0, 0.010)
        for _ in range(50):
            worth.compared(0.9, 0.010)
        self.assertEqual(99, self.decisions(worth, 99))

    def test_one_that_takes_far_longer_does_not(self) -> None:
        worth = Worth(1.0)
        worth.copied(1.0, 0.010)
        for _ in range(50):
            worth.compared(0.9, 0.050)
        self.assertLess(self.decisions(worth, 99), 10)

    def test_where_little_is_equal_it_is_only_tried_now_and_then(self) -> None:
        worth = Worth(1.0)
        worth.copied(1.0, 0.010)
        for _ in range(50):
            worth.compared(0.0, 0.005)
        self.assertEqual(5, self.decisions(worth, 5 * (COMPARE_EVERY + 1)))

    def test_a_part_of_a_chunk_counts_as_a_part(self) -> None:
        worth = Worth(1.0)
        worth.copied(0.25, 0.010)
        self.assertAlmostEqual(0.040, worth.copy_s)
        worth.copied(0.0, 0.010)
        self.assertAlmostEqual(0.040, worth.copy_s)
