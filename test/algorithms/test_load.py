"""
What is seen of clients and members by looking at one operation in some; pauses; and the options for all that.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror.load import LEAST_S, Load, MemberTimes
from dst.algorithms.mirror.provider import MirrorProvider
from dst.algorithms.mirror.resync_run import EXTENTS_TOLD_MAX, Pauses, unreadable_sentence
from dst.errors import ConfigurationError
from dst.nodes.memory import MemoryDevice


class LoadTests(SynchronousTestCase):
    """Counting and timing."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.woken = 0
        self.load = Load(self.clock, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def operations(self, count: int, took_s: float = 0.01) -> int:
        """Clients ask for so many; @return: how many of them were looked at."""
        looked = 0
        for _ in range(count):
            self.load.left -= 1
            if self.load.left <= 0:
                began = self.load.look()
                self.clock.advance(took_s)
                self.load.has_written(1, began)
                self.load.ended(began)
                looked += 1
        return looked

    def test_counts_what_it_does_not_look_at(self) -> None:
        """However many are passed over, the number is right."""
        for count in (7, 1000, 3, 100_000, 50, 0, 1):
            self.operations(count)
            self.assertEqual(count, self.load.take().operations)

    def test_looks_at_few_of_many_and_at_all_of_few(self) -> None:
        """Whatever the rate, some dozens are looked at."""
        self.operations(100_000)
        self.load.take()
        self.assertLess(self.operations(100_000), 64)
        self.operations(40)
        self.load.take()
        self.operations(20)
        self.load.take()
        self.assertEqual(20, self.operations(20))

    def test_medians(self) -> None:
        """Of clients, and of each member; too few say nothing of a member."""
        self.operations(5, took_s=0.25)
        window = self.load.take()
        self.assertEqual((0.25, {1: MemberTimes(0.0, 0.25)}), (window.latency_s, window.members))
        self.operations(2)
        self.assertEqual({1: MemberTimes(0.0, 0.0)}, self.load.take().members)
        self.operations(3, took_s=0.0)
        self.assertEqual(LEAST_S, self.load.take().latency_s)

    def test_the_first_after_a_sleep_wakes(self) -> None:
        """While nobody looks one operation in many thousand would be seen; so the next one is."""
        self.operations(100_000)
        self.load.take()
        self.load.sleep()
        before = self.woken
        self.operations(1)
        self.assertEqual(before + 1, self.woken)


class PausesTests(SynchronousTestCase):
    """Which resyncs are paused."""

    def test_one(self) -> None:
        """One is paused, others are not."""
        pauses = Pauses()
        pauses.pause("a")
        self.assertEqual([True, False], [name in pauses for name in "ab"])
        pauses.resume("a", "ab")
        self.assertNotIn("a", pauses)

    def test_all_but_one(self) -> None:
        """When all were paused and one is resumed the others stay paused."""
        pauses = Pauses()
        pauses.pause(None)
        pauses.resume("a", "abc")
        self.assertEqual([False, True, True], [name in pauses for name in "abc"])
        pauses.resume(None, "abc")
        self.assertEqual([False, False, False], [name in pauses for name in "abc"])

    def test_many_unreadable_places(self) -> None:
        """A sentence stays one, however much cannot be read."""
        bad = {n: [(n * 65536, n * 65536 + 4096)] for n in range(1000)}
        sentence = unreadable_sentence(bad, 30.0)
        self.assertIn(f"and {1000 - EXTENTS_TOLD_MAX} more places", sentence)
        self.assertLess(len(sentence), 400)


class OptionTests(SynchronousTestCase):
    """What a topology can say of it."""

    def refusal(self, **options: object) -> str:
        clock = Clock()
        nodes = [MemoryDevice(clock, name, 1 << 20) for name in "ab"]
        return str(
            self.assertRaises(ConfigurationError, MirrorProvider().storage, clock, "vol", nodes, options, None)
        )

    def test_shares(self) -> None:
        """A share is more than nothing and not more than all, and the floor not above the ceiling."""
        for wrong in (0, 1.5, -1, "much", True):
            self.assertIn("expected a share, from 0.01 to 1", self.refusal(resync_floor=wrong))
        self.assertIn("is above resync_ceiling = 0.2", self.refusal(resync_floor=0.5, resync_ceiling=0.2))

    def test_seconds(self) -> None:
        """Times are times."""
        for key in ("slow_s", "flap_hold_s"):
            self.assertIn("expected seconds", self.refusal(**{key: -1}))

    def test_one_scheduler_for_a_daemon(self) -> None:
        """All mirrors on one reactor share who goes first; those on another do not."""
        provider = MirrorProvider()
        clocks = [Clock(), Clock()]
        mirrors = [
            provider.storage(clock, f"vol{n}", [MemoryDevice(clock, "a", 1 << 20)], {}, None)
            for n, clock in enumerate([clocks[0], clocks[0], clocks[1]])
        ]
        one, same, other = [mirror.scheduler for mirror in mirrors]  # type: ignore[attr-defined]
        self.assertIs(one, same)
        self.assertIsNot(one, other)
