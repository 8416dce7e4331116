"""
Who works for one file node: its lanes, the count of what is in flight, and the clock over it.

Time is kept in coarse ticks while anything is in flight, so that a job costs
no timer of its own.  When the oldest has not come back within the deadline everything in flight fails,
what no thread has begun is taken back, and the crew is I{hanging} until its last thread has
come back.

To hand a small write to a thread costs far more than the write: waking the thread, fighting with it for the
interpreter, being woken through a pipe.  So when an idle crew is asked for small jobs it holds all jobs of this turn
back, hands them over at its end, and I{lingers}: the reactor waits a fraction of a millisecond, in which the
threads have the interpreter for themselves and the page cache takes it all.  A disk that does not answer in
that time is waited for as before, through the reactor, and not lingered for again for some turns: it costs the
reactor that fraction now and then and nothing else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import DeadlinePassed, DSTError, InternalError, LimitReached
from dst.nodes.file_lane import Job, Lane

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime

    class Reactor(IReactorTime, IReactorFromThreads):
        """What a crew needs of one."""


__all__ = ["QUEUED_BYTES_MAX", "QUEUED_JOBS_MAX", "TICKS_PER_DEADLINE", "Crew"]

QUEUED_JOBS_MAX = 16 * 1024
"""Jobs in flight: sessions have tighter limits, this one is for a caller that has none."""

QUEUED_BYTES_MAX = 512 << 20
"""The data that these may hold."""

TICKS_PER_DEADLINE = 8
"""How finely deadlines are kept: a job may take this part of the deadline longer."""

LINGER_S = 0.0003
LINGER_S_PER_JOB = 0.00002
LINGER_S_MAX = 0.002
"""How long the reactor lingers: several times what the page cache takes, and less than anybody notices."""

LINGER_BYTES_MAX = 32 * 1024
"""Larger jobs take their time without the interpreter, and the reactor has better to do meanwhile."""

HURRIED_TURNS = 8
"""After having lingered in vain, so many turns pass before it is tried again."""

T = TypeVar("T")

_log = Logger()


class Crew:
    """
    @ivar hanging: some thread has not come back within the deadline; nothing more may be asked.
    """

    def __init__(
        self,
        reactor: Reactor,
        name: str,
        deadline_s: float,
        *,
        hung: Callable[[], None],
        recovered: Callable[[], None],
        unclaimed: Callable[[object], None],
    ) -> None:
        """
        @param name: the node's, for sentences and threads.
        @param hung: called when it begins to hang, before the jobs fail.
        @param recovered: called when every thread has come back.
        @param unclaimed: called with what a job returned for which nobody waited any more.
        """
        self.hanging = False
        self._reactor = reactor
        self._name = name
        self._deadline_s = deadline_s
        self._hung = hung
        self._recovered = recovered
        self._unclaimed = unclaimed
        self._lanes: list[Lane] = []
        self._jobs: dict[Job, None] = {}  # in flight, oldest first
        self._queued_bytes = 0
        self._stuck: set[Job] = set()
        self._done: deque[Job] = deque()
        self._signalled = False
        self._lingering: IDelayedCall | None = None
        self._held: dict[Lane, list[Job]] = {}  # until the end of this turn
        self._quick = False  # all of them are likely to be done in no time
        self._hurried_turns = 0
        self._waited_for = False
        self._gate = threading.Lock()
        self._drains: list[Deferred[None]] = []
        self._tick = 0
        self._ticking: IDelayedCall | None = None

    def lane(self, what: str, *, threads_max: int = 1, together: bool = False) -> Lane:
        """Another L{Lane} of this crew."""
        name = f"dst {self._name} {what}"
        lane = Lane(name, self._done.append, self._wake, threads_max=threads_max, together=together)
        self._lanes.append(lane)
        return lane

    def do(
        self,
        lane: Lane,
        work: Callable[..., T],
        args: tuple[Any, ...] = (),
        weight_bytes: int = 0,
        then: Callable[[Job], None] | None = None,
        *,
        linger: bool = False,
    ) -> Deferred[T]:
        """
        Have C{work(*args)} done in C{lane}.

        @param linger: it is likely to be done in no time.

        @return: fires with what it returned; fails with what it raised, with L{LimitReached} when too much is
            in flight, or with L{DeadlinePassed}.
        """
        jobs = self._jobs
        if len(jobs) >= QUEUED_JOBS_MAX or self._queued_bytes + weight_bytes > QUEUED_BYTES_MAX:
            burden = f"{len(jobs)} operations with {self._queued_bytes} bytes in flight"
            return fail(LimitReached(f"{self._name} has {burden}; ask again later"))
        answer: Deferred[T] = Deferred()
        job = Job(work, args, answer, weight_bytes, self._tick, then)
        quick = linger and weight_bytes <= LINGER_BYTES_MAX
        if quick and not jobs:
            self._plan_to_linger()
        jobs[job] = None
        self._queued_bytes += weight_bytes
        if self._ticking is None:
            self._ticking = self._reactor.callLater(self._deadline_s / TICKS_PER_DEADLINE, self._on_tick)
        if self._lingering is None:
            lane.submit(job)
        else:
            self._held.setdefault(lane, []).append(job)
            self._quick &= quick
        return answer

    def drain(self) -> Deferred[None]:
        """Fires when nothing is in flight: all has ended, or failed for its deadline."""
        if not self._jobs:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._drains.append(drained)
        return drained

    def stop(self) -> None:
        """Nothing is in flight and nothing will be: let every thread end.  Those that hang do when they come back."""
        assert not self._jobs
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        for lane in self._lanes:
            lane.stop()
        if not self.hanging:
            for lane in self._lanes:
                lane.join()

    # -- in threads --

    def _wake(self) -> None:
        if self._waited_for:
            self._waited_for = False
            try:
                self._gate.release()
            except RuntimeError:
                pass  # another thread was faster
        elif not self._signalled:
            self._signalled = True
            self._reactor.callFromThread(self._reap)

    # -- in the reactor --

    def _plan_to_linger(self) -> None:
        """Hold back the jobs of this turn, unless it was in vain lately."""
        if self._hurried_turns:
            self._hurried_turns -= 1
        else:
            self._quick = True
            self._lingering = self._reactor.callLater(0, self._linger)

    def _linger(self) -> None:
        """Hand over what was held back, and wait for it a little."""
        self._lingering = None
        held, self._held = self._held, {}
        count = sum(map(len, held.values()))
        gate = self._gate
        gate.acquire(False)
        self._waited_for = self._quick
        for lane, jobs in held.items():
            lane.submit_all(jobs)
        if self._quick:
            if not gate.acquire(timeout=min(LINGER_S_MAX, LINGER_S + count * LINGER_S_PER_JOB)):
                self._hurried_turns = HURRIED_TURNS
            # A thread puts what it has done where we look before it looks whether it is waited for: when it finds
            # that it is not any more, we have yet to look.
            self._waited_for = False
            self._reap()

    def _reap(self) -> None:
        self._signalled = False  # before looking: a job that ends from now on wakes again
        done = self._done
        while done:
            job = done.popleft()
            if job.answer is None:
                self._came_back(job)
            else:
                self._end(job)
        self._tell_drained()

    def _end(self, job: Job) -> None:
        del self._jobs[job]
        self._queued_bytes -= job.weight_bytes
        answer, job.answer = job.answer, None
        assert answer is not None
        error = job.error
        if error is None:
            answer.callback(job.result)
        elif isinstance(error, DSTError | OSError):
            answer.errback(Failure(error))
        else:
            _log.failure("a thread of {name} failed", failure=Failure(error), name=self._name)
            answer.errback(Failure(InternalError(f"{self._name} failed by its own fault: {error!r}")))

    def _tell_drained(self) -> None:
        if not self._jobs and self._drains:
            drains, self._drains = self._drains, []
            for drained in drains:
                drained.callback(None)

    def _on_tick(self) -> None:
        self._ticking = None
        if not self._jobs:
            return
        self._tick += 1
        if self._tick - next(iter(self._jobs)).tick > TICKS_PER_DEADLINE:
            self._expire()
        else:
            self._ticking = self._reactor.callLater(self._deadline_s / TICKS_PER_DEADLINE, self._on_tick)

    def _expire(self) -> None:
        """The oldest job took too long: nothing that is in flight is waited for any more."""
        self.hanging = True
        jobs, self._jobs = list(self._jobs), {}
        self._queued_bytes = 0
        taken_back = {job for lane in self._lanes for job in lane.take_back()}
        taken_back.update(job for jobs in self._held.values() for job in jobs)
        self._held.clear()
        self._stuck = {job for job in jobs if job not in taken_back}
        self._hung()
        sentence = f"{self._name} did not answer within {self._deadline_s:g} s; its disk hangs"
        for job in jobs:
            answer, job.answer = job.answer, None
            assert answer is not None
            answer.errback(Failure(DeadlinePassed(sentence)))
        self._tell_drained()

    def _came_back(self, job: Job) -> None:
        """A job that nobody waited for any more has ended."""
        self._stuck.discard(job)
        self._unclaimed(job.result)
        if self.hanging and not self._stuck:
            self.hanging = False
            self._recovered()
