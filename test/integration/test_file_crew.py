"""Tests of L{dst.nodes.file_crew} with real threads, in virtual time."""

from __future__ import annotations

import gc
import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DeadlinePassed, LimitReached, MediaError
from dst.native import load
from dst.nodes.file_crew import HURRIED_BATCHES, TICKS_PER_DEADLINE, Crew
from dst.nodes.file_lane import WAKE_EVERY_S
from test.integration.file_faults import NOT_COMPILED, compiled_writer, python_writer

PATIENCE_S = 60.0
"""For threads: reached only if they never do what they shall."""


class ThreadedClock(Clock):
    """A clock that threads can call, or wake through a descriptor, and that waits for them when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Callable[[], None]] = []
        self._called = os.eventfd(0)
        self._readers: list[Any] = []

    def callFromThread(self, call: Callable[..., Any], *args: object, **keywords: object) -> None:
        """See L{twisted.internet.interfaces.IReactorFromThreads}."""
        self._calls.append(lambda: call(*args, **keywords))
        os.eventfd_write(self._called, 1)

    def addReader(self, reader: Any) -> None:
        """See L{twisted.internet.interfaces.IReactorFDSet}."""
        self._readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        """The same."""
        self._readers.remove(reader)

    def run_threads_call(self) -> None:
        """Wait for a thread to call, and do what it wants."""
        ready, _, _ = select.select([self._called, *self._readers], [], [], PATIENCE_S)
        assert ready, "no thread called"
        if self._called in ready:
            os.eventfd_read(self._called)
            calls, self._calls = self._calls, []
            for call in calls:
                call()
        for reader in ready:
            if reader != self._called:
                reader.doRead()

    @property
    def readers(self) -> int:
        """How many descriptors it looks at."""
        return len(self._readers)

    def close(self) -> None:
        """Give its own descriptor back."""
        os.close(self._called)


class Noted(bytearray):
    """A buffer that can be seen to be gone."""


def no_room(thread: threading.Thread) -> None:
    """What starting a thread does where the system has no room for one."""
    raise RuntimeError("can't start new thread")


class CrewTests(SynchronousTestCase):
    """A crew that writes, changes and lingers, with a writer in Python."""

    make_writer = staticmethod(python_writer)

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.addCleanup(self.clock.close)
        self.events: list[str] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.done: list[int] = []
        self.crew = Crew(
            self.clock,
            "f",
            8.0,
            lambda name: self.make_writer(name, self.write),
            hung=lambda: self.events.append("hung"),
            recovered=lambda: self.events.append("recovered"),
            unclaimed=lambda result: self.events.append(f"unclaimed {result}"),
        )
        self.reads = self.crew.lane("reads")
        self.addCleanup(self.crew.stop)
        self.addCleanup(self.gate.set)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """What a write does: wait for the test, and say that it was done."""
        self.work(offset)
        return len(data)

    def work(self, number: int) -> int:
        """What a job does: the same."""
        self.begun.set()
        assert self.gate.wait(PATIENCE_S)
        self.done.append(number)
        return number

    def ask(self, *numbers: int, length: int = 1) -> Any:
        """Have a batch written."""
        return self.crew.write(0, [(number, bytes(length)) for number in numbers], len(numbers) * length)

    def until_called(self, *answers: Any) -> None:
        """Let the threads work until all these have fired."""
        while not all(answer.called for answer in answers):
            self.clock.run_threads_call()

    def test_at_once(self) -> None:
        """What the writer does in no time is done when the crew returns, and no timer is left."""
        self.gate.set()
        for _ in range(50):  # one of them, at least, on any machine
            answer = self.ask(1, 2, 3)
            if answer is None:
                break
            self.until_called(answer)
        else:
            self.fail("it was never lingered long enough")
        self.assertEqual([1, 2, 3], self.done[-3:])

    def test_slow_write(self) -> None:
        """A write that is not done in no time does not hold up the reactor, and is told of when it is done."""
        answer = self.ask(1)  # returns, with the write undone
        self.assertNoResult(answer)
        self.gate.set()
        self.clock.run_threads_call()
        self.assertIsNone(self.successResultOf(answer))
        self.assertEqual([1], self.done)

    def test_order(self) -> None:
        """Changes are done in the order in which they were asked for, whatever they are and however large."""
        answers = [
            self.ask(0),
            self.ask(1, 2, length=1 << 20),
            self.crew.change(self.work, 3),
            self.ask(4),
            self.ask(5, 6),
            self.crew.change(self.work, 7),
            self.crew.change(self.work, 8),
            self.ask(9),
        ]
        self.gate.set()
        self.until_called(*answers)
        self.assertEqual(list(range(10)), self.done)
        results = [self.successResultOf(answer) for answer in answers]
        self.assertEqual([None, None, 3, None, None, 7, 8, None], results)

    def test_changes_do_not_wait_for_reads(self) -> None:
        """What changes nothing has threads of its own."""
        blocked = threading.Event()
        reading = self.crew.do(self.reads, blocked.wait, (PATIENCE_S,))
        self.gate.set()
        answers = [self.crew.change(self.work, 1), self.crew.change(self.work, 2)]
        self.until_called(*answers)
        self.assertNoResult(reading)
        blocked.set()
        self.until_called(reading)
        self.assertTrue(self.successResultOf(reading))

    def test_slow_jobs(self) -> None:
        """What took long is told of when it is done, though the next one waits and takes longer."""
        first = self.crew.do(self.reads, time.sleep, (2 * WAKE_EVERY_S,))
        second = self.crew.do(self.reads, self.work, (1,))
        self.until_called(first)
        self.assertNoResult(second)
        self.gate.set()
        self.until_called(second)

    def test_impatience(self) -> None:
        """After it was in vain it is not lingered for some batches: a slow disk costs the reactor little."""
        first = self.ask(1)
        self.gate.set()
        self.until_called(first)
        for number in range(HURRIED_BATCHES):
            answer = self.ask(number)
            self.assertIsNotNone(answer)
            self.until_called(answer)

    def test_hanging(self) -> None:
        """What no thread has begun when the disk is found to hang has failed, and is never done."""
        old = self.ask(1, 2)
        self.assertTrue(self.begun.wait(PATIENCE_S))
        for _ in range(TICKS_PER_DEADLINE):
            self.clock.advance(1.0)
        new = [self.ask(3), self.crew.change(self.work, 4), self.ask(5)]
        self.clock.advance(1.0)
        for answer in (old, *new):
            self.failureResultOf(answer, DeadlinePassed)
        self.gate.set()
        self.clock.run_threads_call()
        self.assertEqual(["hung", "unclaimed [0, 125]", "recovered"], self.events)
        self.assertEqual([1], self.done)
        again = [self.crew.change(self.work, 6), self.ask(7)]
        self.until_called(*again)
        self.assertEqual([1, 6, 7], self.done)

    def test_hanging_lets_go(self) -> None:
        """When a hang is over nothing holds the buffers of what has failed, without a search for cycles."""
        gc.disable()
        self.addCleanup(gc.enable)
        buffers = [Noted(b"x"), Noted(b"x"), Noted(b"x")]
        held = [weakref.ref(buffer) for buffer in buffers]
        answers = [self.crew.write(0, [(0, buffers[0])], 1)]
        self.assertTrue(self.begun.wait(PATIENCE_S))
        answers += [self.crew.write(0, [(1, buffers[1])], 1), self.crew.change(self.work, 2)]
        answers += [self.crew.write(0, [(3, buffers[2])], 1)]
        buffers.clear()
        for _ in range(TICKS_PER_DEADLINE + 1):
            self.clock.advance(1.0)
        for answer in answers:
            self.failureResultOf(answer, DeadlinePassed)
        self.assertEqual([True, False, False], [buffer() is not None for buffer in held])
        self.gate.set()
        self.clock.run_threads_call()
        self.assertIsNone(held[0]())

    def test_hanging_change(self) -> None:
        """The same when it is not the writer that hangs."""
        old = self.crew.change(self.work, 1)
        self.assertTrue(self.begun.wait(PATIENCE_S))
        new = [self.ask(2), self.crew.change(self.work, 3)]
        for _ in range(TICKS_PER_DEADLINE + 1):
            self.clock.advance(1.0)
        for answer in (old, *new):
            self.failureResultOf(answer, DeadlinePassed)
        self.gate.set()
        self.clock.run_threads_call()
        self.assertEqual(["hung", "unclaimed 1", "recovered"], self.events)
        again = self.ask(4)
        if again is not None:
            self.until_called(again)
        self.assertEqual([1, 4], self.done)

    def test_no_thread(self) -> None:
        """Where no thread can be started what needs one fails; when there is room again all is as ever."""
        full = self.patch(threading.Thread, "start", no_room)
        answers = [self.crew.do(self.reads, self.work, (1,)), self.crew.change(self.work, 2)]
        self.until_called(*answers)
        full.restore()
        for answer in answers:
            error = self.failureResultOf(answer, LimitReached).value
            self.assertIn("no thread can be started (can't start new thread)", str(error))
        self.gate.set()
        answers = [self.crew.do(self.reads, self.work, (3,)), self.crew.change(self.work, 4)]
        self.until_called(*answers)
        self.assertEqual([3, 4], [self.successResultOf(answer) for answer in answers])

    def test_no_second_thread(self) -> None:
        """Where only one of several can be started it does what there is."""
        lane = self.crew.lane("many", threads_max=4)
        answers = [self.crew.do(lane, self.work, (0,))]
        self.patch(threading.Thread, "start", no_room)
        answers += [self.crew.do(lane, self.work, (number,)) for number in range(1, 4)]
        self.gate.set()
        self.until_called(*answers)
        self.assertEqual([0, 1, 2, 3], self.done)

    def test_no_writer(self) -> None:
        """Where no writer can be had a write fails with an error of ours; the next one tries again."""
        make_writer, tries = self.make_writer, []

        def refuse(name: str, write: Any) -> Any:
            tries.append(name)
            raise OSError(24, "Too many open files")

        self.make_writer = refuse  # type: ignore[method-assign]
        error = self.failureResultOf(self.ask(1), MediaError).value
        self.assertEqual("beginning to write to f failed: Too many open files", str(error))
        change = self.crew.change(self.work, 2)
        behind = self.ask(3)
        self.gate.set()
        self.until_called(change, behind)
        self.failureResultOf(behind, MediaError)
        self.assertEqual(2, len(tries))
        self.make_writer = make_writer  # type: ignore[method-assign]
        last = self.ask(4)
        if last is not None:
            self.until_called(last)
        self.assertEqual([2, 4], self.done)

    def test_stop_while_hanging(self) -> None:
        """A crew that is stopped while it hangs hears of the last thread, and then nothing is left of it."""
        old = self.ask(1)
        self.assertTrue(self.begun.wait(PATIENCE_S))
        for _ in range(TICKS_PER_DEADLINE + 1):
            self.clock.advance(1.0)
        self.failureResultOf(old, DeadlinePassed)
        self.crew.stop()
        self.assertEqual(1, self.clock.readers)
        self.gate.set()
        self.clock.run_threads_call()
        self.assertEqual(["hung", "unclaimed None", "recovered"], self.events)
        self.assertEqual(0, self.clock.readers)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop(self) -> None:
        """Nothing is left of a crew that is stopped."""
        self.gate.set()
        answers = [self.crew.change(self.work, 1), self.ask(2), self.crew.do(self.reads, self.work, (3,))]
        self.until_called(*answers)
        before = threading.active_count()
        self.crew.stop()
        self.assertLessEqual(threading.active_count(), before - 2)
        self.assertEqual((0, []), (self.clock.readers, self.clock.getDelayedCalls()))


class NeverBegun:
    """A writer whose thread gets no processor."""

    def __init__(self, name: str) -> None:
        self.tokens: list[Any] = []

    def submit(self, fd: int, writes: Any, token: Any, wait_s: float) -> bool:
        """See L{dst.native.files.Writer}."""
        self.tokens.append(token)
        return False

    def reap(self) -> list[Any]:
        """The same."""
        return []

    def take_back(self) -> list[Any]:
        """The same."""
        tokens, self.tokens = self.tokens, []
        return tokens

    def stop(self) -> None:
        """The same."""

    def fileno(self) -> int:
        """The same."""
        return -1


class StarvedCrewTests(SynchronousTestCase):
    """A crew that is given no time."""

    def test_nothing_begun(self) -> None:
        """When nothing was begun within the deadline all fails, and as nothing can come back it goes on at once."""
        events: list[str] = []
        clock = ThreadedClock()
        self.addCleanup(clock.close)
        crew = Crew(
            clock,
            "f",
            8.0,
            NeverBegun,
            hung=lambda: events.append("hung"),
            recovered=lambda: events.append("recovered"),
            unclaimed=lambda result: events.append("unclaimed"),
        )
        self.addCleanup(crew.stop)
        answers: list[Any] = [crew.write(0, [(0, b"x")], 1), crew.write(0, [(1, b"x")], 1)]
        for _ in range(TICKS_PER_DEADLINE + 1):
            clock.advance(1.0)
        for answer in answers:
            self.failureResultOf(answer, DeadlinePassed)
        self.assertEqual(["hung", "recovered"], events)
        self.assertFalse(crew.hanging)


class CompiledCrewTests(CrewTests):
    """The same with the compiled writer."""

    make_writer = staticmethod(compiled_writer)
    skip = None if load("_files") else NOT_COMPILED
