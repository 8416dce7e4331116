"""
Threads that do what may block, for one file node.

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
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred

__all__ = ["WAKE_EVERY", "Job", "Lane"]

WAKE_EVERY = 64
"""
Jobs finished before the reactor is woken while more are waiting.  It could answer while the thread goes on, but two
threads that both want the interpreter cost more than they gain: 4, 16, 64 gave 55, 43, 35 us of processor time
per 4 KiB write at depth 32, and writing in the reactor itself 30.
"""


@define(eq=False)
class Job:
    """
    Something to do in a thread.

    @ivar answer: fires in the reactor; C{None} when nobody waits any more.
    @ivar weight_bytes: what it holds in memory.
    @ivar tick: when it was asked for, in ticks of the crew.
    @ivar then: called in the thread when the work went well, instead of telling the reactor: it hands
        the job on to another lane (C{fdatasync} after a forced write).
    @ivar started: it is with a thread, or has been.
    """

    work: Callable[..., Any]
    args: tuple[Any, ...]
    answer: Deferred[Any] | None
    weight_bytes: int = 0
    tick: int = 0
    then: Callable[[Job], None] | None = None
    started: bool = False
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
        @param done: told of every job that ended, in the thread.
        @param wake: called in the thread when it has told all it has, or C{WAKE_EVERY}.
        @param threads_max: how many jobs may be done side by side; with one they are done in order.
        @param together: one execution of the first job's work is enough for all that wait with it.
        """
        self._name = name
        self._done = done
        self._wake = wake
        self._threads_max = threads_max
        self._together = together
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()

    def submit(self, job: Job) -> None:
        """Have C{job} done; from any thread."""
        self._queue.put(job)
        if len(self._threads) < self._threads_max and (not self._threads or self._queue.qsize() > 1):
            self._start_thread()

    def _start_thread(self) -> None:
        with self._starting:
            if len(self._threads) < self._threads_max:
                # A thread that is stuck in the kernel must not keep the process from ending.
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def take_back(self) -> list[Job]:
        """The jobs that no thread has begun; they will not be done."""
        jobs: list[Job] = []
        try:
            while True:
                job = self._queue.get_nowait()
                if job is not None:
                    jobs.append(job)
        except Empty:
            return jobs

    def stop(self) -> None:
        """Let the threads end when they have done what was submitted before."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self) -> None:
        """Wait for threads that were stopped and have nothing more to do."""
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self) -> None:
        """What a thread does."""
        queue = self._queue
        untold = 0
        while True:
            try:
                job = queue.get_nowait()
            except Empty:
                if untold:
                    untold = 0
                    self._wake()
                job = queue.get()
            if job is None:
                if untold:
                    self._wake()
                return
            untold += self._do(job)
            if untold >= WAKE_EVERY:
                untold = 0
                self._wake()

    def _do(self, job: Job) -> int:
        """Do one job and those that are done with it; return how many the reactor should hear of."""
        job.started = True
        jobs = [job, *self._companions()] if self._together else [job]
        try:
            job.result = job.work(*job.args)
        except BaseException as error:  # whatever it is belongs to who asked
            job.error = error
        told = 0
        for each in jobs:
            each.error = job.error
            then, each.then = each.then, None
            if then is not None and each.error is None:
                then(each)
            else:
                self._done(each)
                told += 1
        return told

    def _companions(self) -> list[Job]:
        """Everything that waits at this moment."""
        jobs: list[Job] = []
        try:
            while True:
                job = self._queue.get_nowait()
                if job is None:
                    self._queue.put(None)
                    return jobs
                job.started = True
                jobs.append(job)
        except Empty:
            return jobs
