"""
Threads that do what may block, for one file node: all but ordinary writes.

A disk that hangs stops its own threads and nothing else: neither the reactor nor
another node shares them.  Jobs are handed over without waiting for the
thread, and it takes all that are there before it wakes the reactor, so that one wake-up serves many jobs::

    reactor:  submit submit submit ...            reap(all that are finished)
                 |                                     ^
    thread:      +--> work work work ... --one wake-up-+

L{dst.nodes.file_crew} keeps count of the jobs and of their time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred

from dst.errors import LimitReached

__all__ = ["WAKE_EVERY", "WAKE_EVERY_S", "Job", "Lane"]

WAKE_EVERY = 64
"""
Jobs finished before the reactor is woken while more are waiting.  It could answer while the thread goes on, but two
threads that both want the interpreter cost more than they gain: at depth 32, 4, 16, 64 gave 55, 43, 35 us of
processor time per job.
"""


WAKE_EVERY_S = 0.004
"""The same in time, which the jobs that were measured do not reach: what is done does not wait for many slow ones."""


@define(eq=False)
class Job:
    """
    Something to do in a thread.

    @ivar answer: fires in the reactor; C{None} when nobody waits any more.
    @ivar weight_bytes: what it holds in memory.
    @ivar tick: when it was begun, or given to a lane, in ticks of the crew.
    @ivar lane: where it is done; C{None} for the crew's writer.
    @ivar count: how many operations it is.
    """

    work: Callable[..., Any]
    args: tuple[Any, ...]
    answer: Deferred[Any] | None
    weight_bytes: int = 0
    tick: int = 0
    lane: Lane | None = None
    count: int = 1
    result: Any = None
    error: BaseException | None = None


class Lane:
    """
    A queue and the threads that serve it, started when they are needed.
    """

    def __init__(
        self,
        name: str,
        done: Callable[[Job], None],
        wake: Callable[[], None],
        *,
        threads_max: int = 1,
        together: bool = False,
    ) -> None:
        """
        @param done: told of every job that ended, in the thread; or, of one that no thread can be had for, at once.
        @param wake: called after that; in the thread when it has told all it has, or enough to be heard of.
        @param threads_max: how many jobs may be done side by side; with one they are done in order.
        @param together: one execution of the first job's work is enough for all that wait with it.
        """
        self._name = name
        self._done = done
        self._wake = wake
        self._threads_max = threads_max
        self._together = together
        self._jobs: deque[Job] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()  # to a thread that waits: look at the jobs, or end as well
        self._threads: list[threading.Thread] = []

    def submit(self, job: Job) -> None:
        """Have C{job} done."""
        jobs = self._jobs
        jobs.append(job)
        self._calls.put(True)
        if len(self._threads) < self._threads_max and (not self._threads or len(jobs) > 1):
            self._start_thread()

    def _start_thread(self) -> None:
        # A thread that is stuck in the kernel must not keep the process from ending.
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no room for another one
            if not self._threads:
                self._fail(f"{self._name}: no thread can be started ({error}); ask again later")
            return
        self._threads.append(thread)

    def _fail(self, why: str) -> None:
        """There is nobody who could do what waits."""
        for job in self._companions():
            job.error = LimitReached(why)
            self._done(job)
        self._wake()

    def take_back(self) -> list[Job]:
        """The jobs that no thread has begun; they will not be done."""
        return self._companions()

    def stop(self) -> None:
        """Let the threads end when they have done what was submitted before."""
        for _ in self._threads:
            self._calls.put(False)

    def join(self) -> None:
        """Wait for threads that were stopped and have nothing more to do."""
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self) -> None:
        """What a thread does."""
        jobs, calls = self._jobs, self._calls
        more = True
        while more:
            more = calls.get()
            untold = 0
            told_s = monotonic()
            while True:
                try:
                    job = jobs.popleft()
                except IndexError:
                    break
                untold += self._do(job)
                if untold >= WAKE_EVERY or monotonic() - told_s > WAKE_EVERY_S:
                    untold = 0
                    self._wake()
                    told_s = monotonic()
            if untold:
                self._wake()

    def _do(self, job: Job) -> int:
        """Do one job and those that are done with it; return how many the reactor should hear of."""
        together = self._companions() if self._together else []
        try:
            job.result = job.work(*job.args)
        except BaseException as error:  # whatever it is belongs to who asked
            job.error = error
        self._done(job)
        for each in together:
            each.error = job.error
            self._done(each)
        return 1 + len(together)

    def _companions(self) -> list[Job]:
        """Everything that waits at this moment; each job is taken by one alone."""
        jobs: list[Job] = []
        try:
            while True:
                jobs.append(self._jobs.popleft())
        except IndexError:
            return jobs
