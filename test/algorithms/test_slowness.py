"""
Which member is too slow is decided by comparing.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror.slowness import DRAG_S, DRAG_S_LEAST, Seen, Slowness


class SlownessTests(SynchronousTestCase):
    """Who hangs, who drags, and who may not leave all the same."""

    def setUp(self) -> None:
        self.slowness = Slowness(5.0)

    def judged(self, *seen: Seen, windows: int = 1, spare: int = 1) -> list[int]:
        """Who leaves after so many seconds of this."""
        slow = []
        for _ in range(windows):
            slow = self.slowness.judge(seen, 1.0, spare)
        return [each.index for each in slow]

    def test_who_answers_in_time_stays(self) -> None:
        self.assertEqual([], self.judged(Seen(0, 0.001, 0.001), Seen(1, 0.4, 0.4), windows=60))

    def test_who_has_not_answered_for_too_long_leaves(self) -> None:
        self.assertEqual([], self.judged(Seen(0), Seen(1, waiting_s=4.5)))
        self.assertEqual([1], self.judged(Seen(0), Seen(1, waiting_s=5.0)))

    def test_the_reason_says_what_and_how_long(self) -> None:
        (slow,) = self.slowness.judge([Seen(0), Seen(1, waiting_s=6.0, what="flush")], 1.0, 1)
        self.assertEqual("too slow: it has not answered a flush for 6 s (slow_s = 5)", slow.reason)

    def test_the_last_copies_stay_however_slow(self) -> None:
        self.assertEqual([], self.judged(Seen(0, waiting_s=60.0), Seen(1), spare=0))

    def test_a_target_may_leave_when_no_copy_may(self) -> None:
        self.assertEqual([1], self.judged(Seen(0), Seen(1, waiting_s=60.0, copy=False), spare=0))

    def test_when_all_hang_it_is_not_one_of_them(self) -> None:
        self.assertEqual([], self.judged(Seen(0, waiting_s=60.0), Seen(1, waiting_s=61.0)))
        self.assertEqual([], self.judged(Seen(0, waiting_s=60.0), Seen(1, copy=False)))

    def test_of_several_the_slowest_leaves_first(self) -> None:
        seen = (Seen(0, waiting_s=6.0), Seen(1, waiting_s=9.0), Seen(2, waiting_s=7.0), Seen(3))
        self.assertEqual([1], self.judged(*seen))
        self.assertEqual([1, 2], self.judged(*seen, spare=2))

    def test_who_drags_for_long_enough_leaves(self) -> None:
        seen = (Seen(0, write_s=0.002), Seen(1, write_s=0.8))
        self.assertEqual([], self.judged(*seen, windows=int(DRAG_S) - 1))
        self.assertEqual([1], self.judged(*seen))

    def test_a_good_second_ends_what_was_dragging(self) -> None:
        slow = (Seen(0, write_s=0.002), Seen(1, write_s=0.8))
        self.judged(*slow, windows=int(DRAG_S) - 1)
        self.judged(Seen(0, write_s=0.002), Seen(1, write_s=0.002))
        self.assertEqual([], self.judged(*slow))

    def test_silence_is_not_a_good_second(self) -> None:
        slow = (Seen(0, write_s=0.002), Seen(1, write_s=0.8))
        self.judged(*slow, windows=int(DRAG_S) - 1)
        self.judged(Seen(0), Seen(1))
        self.assertEqual([1], self.judged(*slow))

    def test_nobody_to_compare_with_is_not_a_good_second(self) -> None:
        slow = (Seen(0, write_s=0.002), Seen(1, write_s=0.8))
        self.judged(*slow, windows=int(DRAG_S) - 1)
        self.judged(Seen(0), Seen(1, write_s=0.8))
        self.assertEqual([1], self.judged(*slow))

    def test_all_slow_together_is_nobodys_fault(self) -> None:
        self.assertEqual([], self.judged(Seen(0, write_s=2.0), Seen(1, write_s=3.0), windows=60))

    def test_much_slower_and_still_fast_is_fast(self) -> None:
        seen = (Seen(0, read_s=0.0001), Seen(1, read_s=DRAG_S_LEAST * 0.99))
        self.assertEqual([], self.judged(*seen, windows=60))

    def test_reads_are_not_compared_with_writes(self) -> None:
        self.assertEqual([], self.judged(Seen(0, read_s=0.0001), Seen(1, write_s=2.0), windows=60))

    def test_who_left_begins_anew(self) -> None:
        slow = (Seen(0, write_s=0.002), Seen(1, write_s=0.8))
        self.judged(*slow, windows=int(DRAG_S) - 1)
        self.slowness.forget(1)
        self.assertEqual([], self.judged(*slow))
