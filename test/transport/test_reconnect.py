"""The backoff that every kind of node reconnects with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DeadlinePassed, Unavailable
from dst.transport.reconnect import ATTEMPTS_PER_S, Reconnector


class Owner:
    """Someone who wants a connection; attempts are answered by hand."""

    def __init__(self, **options: float) -> None:
        self.clock = Clock()
        self.attempts: list[Deferred[str]] = []
        self.connections: list[str] = []
        self.failures: list[tuple[Failure, float]] = []
        self.cancelled = 0
        options.setdefault("jitter", 0.0)
        self.reconnector: Reconnector[str] = Reconnector(
            self.clock,
            self.attempt,
            self.connections.append,
            lambda failure, delay_s: self.failures.append((failure, delay_s)),
            random=Random(1),
            **options,
        )

    def attempt(self) -> Deferred[str]:
        def cancelled(_: Deferred[str]) -> None:
            self.cancelled += 1

        self.attempts.append(Deferred(cancelled))
        return self.attempts[-1]

    def refuse(self) -> float:
        """Fail the newest attempt; the delay that was announced."""
        self.attempts[-1].errback(Unavailable("refused"))
        return self.failures[-1][1]


class CrowdTests(SynchronousTestCase):
    """Many nodes of one daemon are lost in one moment."""

    def connected(self, count: int) -> None:
        """So many connections."""
        self.clock = Clock()
        self.attempts: list[float] = []
        self.answer: Callable[[], Deferred[None]] = lambda: succeed(None)
        self.reconnectors = [
            Reconnector(self.clock, self.attempt, lambda _: None, lambda *_: None, random=Random(seed))
            for seed in range(count)
        ]
        for each in self.reconnectors:
            each.start()

    def attempt(self) -> Deferred[None]:
        """Tell when it was."""
        self.attempts.append(self.clock.seconds())
        return self.answer()

    def all_lost(self) -> list[float]:
        """The delays that are announced."""
        self.clock.advance(10)
        self.attempts.clear()
        self.lost_at = self.clock.seconds()
        return [each.lost() for each in self.reconnectors]

    def most_in(self, window_s: float) -> int:
        """Attempts in one window of that length."""
        return max(Counter(int((at - self.lost_at) / window_s) for at in self.attempts).values())

    def test_few(self) -> None:
        """A few try again as soon as one alone."""
        self.connected(5)
        self.assertLess(max(self.all_lost()), 0.14)

    def test_a_thousand(self) -> None:
        """A thousand do not try in the same tenth of a second, but all within the second and a half."""
        self.connected(1000)
        self.assertLess(max(self.all_lost()), 1.5)
        self.clock.pump([0.01] * 150)
        self.assertEqual(1000, len(self.attempts))
        self.assertLess(self.most_in(0.1), 400)

    def test_as_long_as_it_lasts(self) -> None:
        """Failing attempts stay spread: never more in a second than so many, about."""
        self.connected(1000)
        self.answer = lambda: fail(Unavailable("refused"))
        self.all_lost()
        self.clock.pump([0.01] * 1000)
        self.assertLess(self.most_in(1.0), 1.7 * ATTEMPTS_PER_S)
        self.assertGreater(len(self.attempts), 3000)

    def test_a_crowd_dissolves(self) -> None:
        """Who is connected again, or stopped, does not slow the others down."""
        self.connected(1000)
        self.all_lost()
        self.clock.advance(2)
        self.assertLess(self.reconnectors[0].lost(), 0.3)
        for each in self.reconnectors:
            each.lost()
        for each in self.reconnectors[1:]:
            each.stop()
        self.answer = lambda: fail(Unavailable("refused"))
        self.attempts.clear()
        self.clock.pump([0.01] * 250)
        self.assertGreater(len(self.attempts), 1)
        self.assertEqual([], [call for call in self.clock.getDelayedCalls() if call.getTime() > 100])


class ReconnectorTests(SynchronousTestCase):
    def test_nothing_before_start(self) -> None:
        """Making one touches nothing; starting it begins an attempt at once, and starting it twice only one."""
        owner = Owner()
        self.assertEqual([], owner.attempts)
        owner.reconnector.start()
        owner.reconnector.start()
        self.assertEqual(1, len(owner.attempts))

    def test_delays_grow_up_to_the_maximum(self) -> None:
        """Each failure is followed by a delay twice as long, up to the maximum, and then by another attempt."""
        owner = Owner(delay_s_first=1.0, delay_s_max=5.0)
        owner.reconnector.start()
        delays = []
        for n in range(5):
            delays.append(owner.refuse())
            owner.clock.advance(delays[-1] - 0.01)
            self.assertEqual(n + 1, len(owner.attempts))
            owner.clock.advance(0.02)
            self.assertEqual(n + 2, len(owner.attempts))
        self.assertEqual([1.0, 2.0, 4.0, 5.0, 5.0], delays)

    def test_jitter_spreads_delays(self) -> None:
        """Delays differ from the exact ones by no more than the share asked for, and never pass the maximum."""
        owner = Owner(delay_s_first=1.0, delay_s_max=1.0, jitter=0.3)
        owner.reconnector.start()
        delays = set()
        for _ in range(50):
            delays.add(owner.refuse())
            owner.clock.advance(2.0)
        self.assertTrue(all(0.7 <= delay <= 1.0 for delay in delays), delays)
        self.assertGreater(len(delays), 10)

    def test_no_two_tries_of_many_at_the_longest_delay(self) -> None:
        """At the maximum, too, delays are spread, and not half of them the same."""
        owner = Owner(delay_s_first=1.0, delay_s_max=1.0, jitter=0.3)
        owner.reconnector.start()
        delays = []
        for _ in range(50):
            delays.append(owner.refuse())
            owner.clock.advance(delays[-1])
        self.assertEqual(50, len(set(delays)))

    def test_delay_is_reset_by_a_connection_that_lasted(self) -> None:
        """After a connection that lived for the settling time the first delay is used again."""
        owner = Owner(delay_s_first=1.0, settled_s=5.0)
        owner.reconnector.start()
        owner.clock.advance(owner.refuse())
        owner.clock.advance(owner.refuse())
        owner.attempts[-1].callback("connection")
        self.assertEqual(["connection"], owner.connections)
        owner.clock.advance(5.0)
        self.assertEqual(1.0, owner.reconnector.lost())
        owner.clock.advance(1.0)
        self.assertEqual(4, len(owner.attempts))

    def test_peer_that_hangs_up_at_once_backs_off(self) -> None:
        """A peer that accepts every connection and closes it at once is retried ever more slowly."""
        owner = Owner(delay_s_first=1.0, delay_s_max=8.0)
        owner.reconnector.start()
        delays = []
        for _ in range(5):
            owner.attempts[-1].callback("connection")
            delays.append(owner.reconnector.lost())
            owner.clock.advance(delays[-1])
        self.assertEqual([1.0, 2.0, 4.0, 8.0, 8.0], delays)

    def test_attempt_is_bounded(self) -> None:
        """An attempt that nobody answers is cancelled in time, and reported as what it is."""
        owner = Owner(attempt_s_max=5.0, delay_s_first=1.0)
        owner.reconnector.start()
        owner.clock.advance(5.0)
        self.assertEqual(1, owner.cancelled)
        self.assertTrue(owner.failures[-1][0].check(DeadlinePassed))
        owner.clock.advance(1.0)
        self.assertEqual(2, len(owner.attempts))

    def test_no_timer_bounds_an_established_connection(self) -> None:
        """The bound is of the attempt: a connection stays for as long as it likes."""
        owner = Owner(attempt_s_max=5.0)
        owner.reconnector.start()
        owner.attempts[-1].callback("connection")
        self.assertEqual([], owner.clock.getDelayedCalls())

    def test_stop_while_waiting(self) -> None:
        """Stopped between attempts: no timer is left and nothing is tried again."""
        owner = Owner()
        owner.reconnector.start()
        owner.refuse()
        self.assertIsNone(self.successResultOf(owner.reconnector.stop()))
        self.assertEqual([], owner.clock.getDelayedCalls())

    def test_stop_while_attempting(self) -> None:
        """Stopped during an attempt: it is cancelled, reported to nobody, and stop waits for its end."""
        owner = Owner()
        owner.reconnector.start()
        self.successResultOf(owner.reconnector.stop())
        self.assertEqual(1, owner.cancelled)
        self.assertEqual([], owner.failures)
        self.assertEqual([], owner.clock.getDelayedCalls())

    def test_stop_waits_for_an_attempt_that_clears_up(self) -> None:
        """An attempt that has something to give back when it is cancelled is waited for."""
        clock = Clock()
        clearing: Deferred[None] = Deferred()
        attempt: Deferred[str] = Deferred()
        attempt.addErrback(lambda failure: clearing.addCallback(lambda _: failure))
        reconnector = Reconnector(clock, lambda: attempt, lambda _: None, lambda f, s: None, random=Random(1))
        reconnector.start()
        stopped = reconnector.stop()
        self.assertNoResult(stopped)
        clearing.callback(None)
        self.successResultOf(stopped)

    def test_stop_again(self) -> None:
        """Stopping what is stopped, or was never started, is done at once; starting it later has no effect."""
        owner = Owner()
        self.successResultOf(owner.reconnector.stop())
        self.successResultOf(owner.reconnector.stop())
        owner.reconnector.start()
        self.assertEqual(0.0, owner.reconnector.lost())
        self.assertEqual([], owner.attempts)

    def test_lost_twice(self) -> None:
        """A loss that is told twice begins one attempt."""
        owner = Owner(delay_s_first=1.0)
        owner.reconnector.start()
        owner.attempts[-1].callback("connection")
        owner.reconnector.lost()
        self.assertEqual(0.0, owner.reconnector.lost())
        owner.clock.advance(1.0)
        self.assertEqual(2, len(owner.attempts))

    def test_synchronous_attempts(self) -> None:
        """Attempts that end at once, and one that raises, are like any other."""
        clock = Clock()
        outcomes: list[object] = [fail(Unavailable("no")), RuntimeError("raised"), succeed("yes")]
        seen: list[object] = []

        def attempt() -> Deferred[str]:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            assert isinstance(outcome, Deferred)
            return outcome

        reconnector = Reconnector(
            clock, attempt, seen.append, lambda failure, s: seen.append(failure.type), random=Random(1), jitter=0
        )
        reconnector.start()
        clock.pump([0.1, 0.2])
        self.assertEqual([Unavailable, RuntimeError, "yes"], seen)

    def test_owner_may_stop_from_a_callback(self) -> None:
        """C{failed} may stop everything: no timer is left."""
        clock = Clock()
        stopped: list[Deferred[None]] = []
        reconnector: Reconnector[str] = Reconnector(
            clock,
            lambda: fail(Unavailable("no")),
            lambda _: None,
            lambda failure, s: stopped.append(reconnector.stop()),
            random=Random(1),
        )
        reconnector.start()
        self.successResultOf(stopped[0])
        self.assertEqual([], clock.getDelayedCalls())
