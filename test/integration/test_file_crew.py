"""Tests of L{dst.nodes.file_crew} with real threads, in virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DeadlinePassed
from dst.nodes.file_crew import TICKS_PER_DEADLINE, Crew

PATIENCE_S = 60.0
"""For threads: reached only if they never do what they shall."""


class ThreadedClock(Clock):
    """A clock that threads can call, and that waits for them when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Callable[[], None]] = []
        self._called = threading.Event()

    def callFromThread(self, call: Callable[..., Any], *args: object, **keywords: object) -> None:
        """See L{twisted.internet.interfaces.IReactorFromThreads}."""
        self._calls.append(lambda: call(*args, **keywords))
        self._called.set()

    def run_threads_call(self) -> None:
        """Wait for a thread to call, and do what it wants."""
        assert self._called.wait(PATIENCE_S), "no thread called"
        self._called.clear()
        self._calls.pop(0)()


class CrewTests(SynchronousTestCase):
    """A crew that holds back the small jobs of a turn, and lingers for them."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.events: list[str] = []
        self.crew = Crew(
            self.clock,
            "f",
            8.0,
            hung=lambda: self.events.append("hung"),
            recovered=lambda: self.events.append("recovered"),
            unclaimed=lambda result: self.events.append(f"unclaimed {result}"),
        )
        self.changes = self.crew.lane("changes")
        self.gate = threading.Event()
        self.addCleanup(self.crew.stop)
        self.addCleanup(self.gate.set)
        self.done: list[int] = []

    def work(self, number: int) -> int:
        """What a job does: wait for the test, and say that it was done."""
        assert self.gate.wait(PATIENCE_S)
        self.done.append(number)
        return number

    def test_slow_job(self) -> None:
        """A job that is not done in no time does not hold up the reactor, and is told of when it is done."""
        answer = self.crew.do(self.changes, self.work, (1,), linger=True)
        self.clock.advance(0)  # returns, with the job undone
        self.assertNoResult(answer)
        self.gate.set()
        self.clock.run_threads_call()
        self.assertEqual(1, self.successResultOf(answer))

    def test_order(self) -> None:
        """The jobs of a turn are done in the order in which they were asked for, whatever they are."""
        answers = [
            self.crew.do(self.changes, self.work, (number,), 1 << 20 if number == 2 else 1, linger=number != 1)
            for number in range(5)
        ]
        self.clock.advance(0)
        answers.append(self.crew.do(self.changes, self.work, (5,), linger=True))
        self.gate.set()
        while not answers[-1].called:
            self.clock.run_threads_call()
        self.assertEqual(list(range(6)), self.done)
        self.assertEqual(list(range(6)), [self.successResultOf(answer) for answer in answers])

    def test_impatience(self) -> None:
        """After it was in vain nothing is held back for some turns: a slow disk costs the reactor little."""
        first = self.crew.do(self.changes, self.work, (1,), linger=True)
        self.clock.advance(0)
        self.gate.set()
        self.clock.run_threads_call()
        self.successResultOf(first)
        second = self.crew.do(self.changes, self.work, (2,), linger=True)
        self.clock.run_threads_call()  # without another turn
        self.assertEqual(2, self.successResultOf(second))

    def test_hanging(self) -> None:
        """What no thread has begun when the disk is found to hang has failed, and is never done."""
        old = self.crew.do(self.changes, self.work, (1,))
        for _ in range(TICKS_PER_DEADLINE):
            self.clock.advance(1.0)
        new = self.crew.do(self.changes, self.work, (2,), linger=True)
        self.clock.advance(1.0)
        self.failureResultOf(old, DeadlinePassed)
        self.failureResultOf(new, DeadlinePassed)
        self.gate.set()
        self.clock.run_threads_call()
        self.assertEqual(["hung", "unclaimed 1", "recovered"], self.events)
        self.assertEqual([1], self.done)
