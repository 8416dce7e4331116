"""
Who works for one file node: its lanes, its writer, the count of what is in flight, and the clock over it.

Time is kept in coarse ticks while anything is in flight, so that a job costs
no timer of its own.  When one has not come back within the deadline everything in flight fails,
what no thread has begun is taken back, and the crew is I{hanging} until its last thread has
come back.  A change that takes long by itself says that it goes on, and the time of what waits behind another change
begins when that has ended: to zero 4 GiB takes a slow disk longer than the deadline.

Writes go to a L{dst.native.files.Writer}, which needs no interpreter, all other changes to a lane.  As they change
the same bytes only one of these two works at a time; what is meant for the other one waits behind it, and what comes
after that waits behind that::

    write write ------------------------- write --> writer
                zero ---> lane                      (only when the lane is idle, and the other way round)

To wake a thread and be woken through a file descriptor costs more than a small write, so the crew I{lingers}: the
reactor waits a fraction of a millisecond for the writer, in which the page cache takes it all.  A disk
that does not answer in that time is waited for through the reactor, and not lingered for again for some
batches: it costs the reactor that fraction now and then and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.errors import DeadlinePassed, DSTError, InternalError, LimitReached
from dst.interfaces import Buffer
from dst.native.files import Writer
from dst.nodes.file_lane import Job, Lane
from dst.nodes.file_media import error_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorFromThreads, IReactorTime

    class Reactor(IReactorTime, IReactorFromThreads, IReactorFDSet):
        """What a crew needs of one."""


__all__ = ["QUEUED_BYTES_MAX", "QUEUED_JOBS_MAX", "TICKS_PER_DEADLINE", "Crew"]

QUEUED_JOBS_MAX = 16 * 1024
"""
Operations in flight: sessions have tighter limits, this one is for a caller that has none.  It does not hold for
changes and flushes: a mirror has to do without a member that refuses what others have done, and the data of a change
is held by whoever asked for it in any case.
"""

QUEUED_BYTES_MAX = 2 << 30
"""
The data that these are about; it holds for the same.  Of reads, only those hold it that are done at the moment.
Clients of NBD may ask for 256 MiB, and each of 1,024 for 1 MiB more.
"""

TICKS_PER_DEADLINE = 8
"""How finely deadlines are kept: a job may take this part of the deadline longer."""

WAITS = -1
"""The tick of a job that is behind another one, and not begun."""

LINGER_S = 0.0003
LINGER_S_PER_WRITE = 0.00002
LINGER_S_PER_BYTE = 1e-9
LINGER_S_MAX = 0.002
"""How long the reactor lingers: several times what the page cache takes, and less than anybody notices."""

LINGER_BYTES_MAX = 2 << 20
"""
What is lingered for.  To be woken for what is small costs more than to wait, and what is large is copied faster
beside the reactor than on another processor, whose cache does not have it; but the larger it is the longer everybody
else waits.
"""

HURRIED_BATCHES = 8
"""After having lingered in vain, so many batches pass before it is tried again."""

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
        new_writer: Callable[[str], Writer],
        *,
        hung: Callable[[], None],
        recovered: Callable[[], None],
        unclaimed: Callable[[object], None],
    ) -> None:
        """
        @param name: the node's, for sentences and threads.
        @param new_writer: called with a name when there is something to write for the first time.
        @param hung: called when it begins to hang, before the jobs fail.
        @param recovered: called when every thread has come back.
        @param unclaimed: called with what a job returned for which nobody waited any more.
        """
        self.hanging = False
        self._stopped = False
        self._reactor = reactor
        self._name = name
        self._deadline_s = deadline_s
        self._new_writer = partial(new_writer, f"dst {name}")
        self._hung = hung
        self._recovered = recovered
        self._unclaimed = unclaimed
        self._done: deque[Job] = deque()
        self._lanes: list[Lane] = []
        self._changes = self.lane("changes")
        self._writer: Writer | None = None
        self._bell: _Bell | None = None
        self._changing = 0  # jobs in the lane of changes
        self._writing = 0  # batches that the writer has
        self._behind: deque[Job] = deque()  # changes that wait for the other of these two
        self._hurried_batches = 0
        self._jobs: dict[Job, None] = {}  # in flight, oldest first
        self._queued = 0
        self._queued_bytes = 0
        self._stuck: set[Job] = set()
        self._signalled = False
        self._drains: list[Deferred[None]] = []
        self._tick = 0
        self._changes_tick = 0  # when the lane of changes last got on; set in its thread, too
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
        *,
        always: bool = False,
    ) -> Deferred[T]:
        """
        Have C{work(*args)} done in C{lane}.

        @param always: however much is in flight.
        @return: fires with what it returned; fails with what it raised, with L{LimitReached} when too much is
            in flight, or with L{DeadlinePassed}.
        """
        refusal = None if always else self._refusal(weight_bytes)
        if refusal is not None:
            return fail(refusal)
        answer: Deferred[T] = Deferred()
        job = Job(work, args, answer, weight_bytes, self._tick, lane)
        self._take(job)
        lane.submit(job)
        return answer

    def change(self, work: Callable[..., T], *args: Any) -> Deferred[T]:
        """As C{do}; it changes what it does after all changes asked for before, and before all asked for later."""
        answer: Deferred[T] = Deferred()
        job = Job(work, args, answer, 0, WAITS, self._changes)
        self._take(job)
        self._behind.append(job)
        self._advance()
        return answer

    def write(
        self, fd: int, writes: Sequence[tuple[int, Buffer]], weight_bytes: int
    ) -> Deferred[list[int] | None] | None:
        """
        Have all C{(offset, data)} written to C{fd}, in the order in which it was asked for.

        @return: C{None} if that is done already; otherwise fires with the C{errno} of each, or C{None} if all are
            done, or fails as C{do} does.
        """
        ticket: list[Job] = []  # the job that this becomes if it is not done at once
        begun = not self._behind and not self._changing
        if begun:
            try:
                if self._hand_over(fd, writes, ticket, self._linger_s(len(writes), weight_bytes)):
                    return None
            except Exception as error:
                return fail(self._fault(error))
            self._writing += 1
        answer: Deferred[list[int] | None] = Deferred()
        tick = self._tick if begun else WAITS
        job = Job(self._hand_over, (fd, writes, ticket, 0.0), answer, weight_bytes, tick, None, len(writes))
        ticket.append(job)
        self._take(job)
        if not begun:
            self._behind.append(job)
        return answer

    @property
    def idle(self) -> bool:
        """No change is under way or waits, so that one made by somebody else overtakes none."""
        return not (self._writing or self._changing or self._behind)

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
        self._stopped = True
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        if self._writer is not None:
            self._writer.stop()
        for lane in self._lanes:
            lane.stop()
        if not self.hanging:
            for lane in self._lanes:
                lane.join()
            self._dismiss_writer()

    # -- in threads --

    def goes_on(self) -> None:
        """To be called by a change that takes long: it does not hang."""
        self._changes_tick = self._tick

    def _wake(self) -> None:
        if not self._signalled:
            self._signalled = True
            self._reactor.callFromThread(self._reap)

    # -- in the reactor --

    def _refusal(self, weight_bytes: int) -> LimitReached | None:
        """Why no more can be taken, if that is so."""
        if self._queued < QUEUED_JOBS_MAX and self._queued_bytes + weight_bytes <= QUEUED_BYTES_MAX:
            return None
        burden = f"{self._queued} operations with {self._queued_bytes} bytes in flight"
        return LimitReached(f"{self._name} has {burden}; ask again later")

    def _take(self, job: Job) -> None:
        """It is in flight from now on."""
        self._jobs[job] = None
        self._queued += job.count
        self._queued_bytes += job.weight_bytes
        if self._ticking is None:
            self._ticking = self._reactor.callLater(self._deadline_s / TICKS_PER_DEADLINE, self._on_tick)

    def _linger_s(self, count: int, weight_bytes: int) -> float:
        """How long to wait for a batch."""
        if self._writing or weight_bytes > LINGER_BYTES_MAX:
            return 0.0
        if self._hurried_batches:
            self._hurried_batches -= 1
            return 0.0
        return min(LINGER_S_MAX, LINGER_S + count * LINGER_S_PER_WRITE + weight_bytes * LINGER_S_PER_BYTE)

    def _hand_over(self, fd: int, writes: Sequence[tuple[int, Buffer]], ticket: list[Job], linger_s: float) -> bool:
        """Give a batch to the writer; whether it was done at once."""
        try:
            writer = self._writer or self._start_writer()
            done = writer.submit(fd, writes, ticket, linger_s)
        except OSError as error:  # no descriptor, no memory, no thread: not the disk's, and asked for once more later
            raise error_of(error, "beginning to write to", self._name) from None
        if linger_s and not done:
            self._hurried_batches = HURRIED_BATCHES
        return done

    def _start_writer(self) -> Writer:
        writer = self._new_writer()
        bell = _Bell(writer, self._reap_writer)
        self._reactor.addReader(bell)
        self._writer, self._bell = writer, bell
        return writer

    def _advance(self) -> None:
        """Begin with what has waited, as far as it may begin now."""
        behind = self._behind
        while behind and not (self._changing if behind[0].lane is None else self._writing):
            job = behind.popleft()
            job.tick = self._tick
            if job.lane is None:
                self._writing += 1
                try:
                    job.work(*job.args)
                except Exception as error:
                    job.error = error
                    self._done.append(job)
                    self._wake()
            else:
                self._changing += 1
                job.lane.submit(job)

    def _reap(self) -> None:
        self._signalled = False  # before looking: a job that ends from now on wakes again
        done = self._done
        while done:
            self._ended(done.popleft())
        self._tell_drained()

    def _reap_writer(self) -> None:
        writer = self._writer
        assert writer is not None
        for ticket, errors in writer.reap():
            (job,) = ticket
            job.result = errors
            self._ended(job)
        self._tell_drained()

    def _ended(self, job: Job) -> None:
        if job.answer is None:
            self._came_back(job)
            return
        del self._jobs[job]
        self._queued -= job.count
        self._queued_bytes -= job.weight_bytes
        if job.lane is None:
            self._writing -= 1
            self._advance()
        elif job.lane is self._changes:
            self._changing -= 1
            self._changes_tick = self._tick
            self._advance()
        answer, job.answer = job.answer, None
        job.args = ()  # the buffers are their owners' again
        error = job.error
        if error is None:
            answer.callback(job.result)
        else:
            answer.errback(Failure(self._fault(error)))

    def _fault(self, error: BaseException) -> BaseException:
        """What whoever asked is told of an error."""
        if isinstance(error, DSTError | OSError):
            return error
        _log.failure("a thread of {name} failed", failure=Failure(error), name=self._name)
        return InternalError(f"{self._name} failed by its own fault: {error!r}")

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
        if self._tick - self._oldest() > TICKS_PER_DEADLINE:
            self._expire()
        else:
            self._ticking = self._reactor.callLater(self._deadline_s / TICKS_PER_DEADLINE, self._on_tick)

    def _oldest(self) -> int:
        """Since which tick something has been waited for.  What is behind something else waits with that."""
        changes, changed = self._changes, self._changes_tick
        return min(
            (max(job.tick, changed) if job.lane is changes else job.tick for job in self._jobs if job.tick != WAITS),
            default=self._tick,
        )

    def _expire(self) -> None:
        """A job took too long: nothing that is in flight is waited for any more."""
        self.hanging = True
        jobs, self._jobs = list(self._jobs), {}
        self._queued = self._queued_bytes = 0
        taken_back = {job for lane in self._lanes for job in lane.take_back()}
        taken_back.update(self._behind)
        if self._writer is not None:
            taken_back.update(job for (job,) in self._writer.take_back())
        self._behind.clear()
        self._changing = self._writing = 0
        self._stuck = {job for job in jobs if job not in taken_back}
        self._hung()
        sentence = f"{self._name} did not answer within {self._deadline_s:g} s; its disk hangs"
        for job in jobs:
            answer, job.answer = job.answer, None
            assert answer is not None
            if job not in self._stuck:
                job.args = ()  # as when it ends; a batch holds its ticket there, which holds the job
            answer.errback(Failure(DeadlinePassed(sentence)))
        self._tell_drained()
        self._look_who_is_back()

    def _came_back(self, job: Job) -> None:
        """A job that nobody waited for any more has ended."""
        job.args = ()
        self._stuck.discard(job)
        self._unclaimed(job.result)
        self._look_who_is_back()

    def _look_who_is_back(self) -> None:
        if self.hanging and not self._stuck:
            self.hanging = False
            if self._stopped:
                self._dismiss_writer()
            self._recovered()

    def _dismiss_writer(self) -> None:
        """It has nothing more to tell."""
        if self._bell is not None:
            self._reactor.removeReader(self._bell)
            self._bell = self._writer = None


@implementer(IReadDescriptor)
class _Bell:
    """How the reactor hears of a writer."""

    def __init__(self, writer: Writer, rung: Callable[[], None]) -> None:
        self._writer = writer
        self.doRead = rung

    def fileno(self) -> int:
        """Where it rings."""
        return self._writer.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """It was taken out of the reactor."""

    def logPrefix(self) -> str:
        """For the reactor's messages."""
        return "file writer"
