"""
Time, chance and processes: the part of a simulation that knows nothing of storage.

A world has one queue of events.  Each belongs to a process, or to nobody (clients, faults, checks).  Running an
event is the only thing that takes place; it takes no time.  Between two events time jumps::

    heap:   12.0031 owner  ClientSession._keep_alive
            12.0034 (wire) 96 bytes from a to owner
            12.0500 -      a client writes

A process that is killed drops its events.  What its objects would still do when they are
collected is cut off as well: they are kept until the world ends, and their reactor is dead.

Equal seeds give equal worlds, event for event: all chance comes from generators that are seeded with the world's
seed and a name, and nothing is ordered by identity or hash.

Quiet stretches
===============

A cluster in which nothing goes wrong still says once a second that it is alive.  A year of that is a billion
events, each of which finds things as the one before did.  L{World.skip} lets the B{calendar} go on and the
processes stand still: their clocks, all timers and everything on the wire are the same before and after.  That
is sound where the stretch would have ended in the state in which it began, but for counters; whoever skips
makes sure of it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from dst.errors import DSTError

__all__ = ["BrokenCode", "Event", "Host", "NoConvergence", "Process", "SimulationFailed", "World", "WrongData"]

EVENTS_PER_SECOND_MAX = 400_000
"""More in one simulated second is something that goes round in circles."""

CALENDAR_START_S = 1_800_000_000.0
"""What the wall clocks show when a world begins."""


class SimulationFailed(DSTError):
    """
    A simulated cluster did not do what is promised.

    @cvar exit_code: of a command that ends with it.
    """

    exit_code = 1
    word = "failed"


class WrongData(SimulationFailed):
    """Something was lost, stale, mixed or different between copies."""

    exit_code = 1
    word = "wrong data"


class BrokenCode(SimulationFailed):
    """Something that can never happen happened: an exception that nobody expected, a leak."""

    exit_code = 1
    word = "broken code"


class NoConvergence(SimulationFailed):
    """All faults were over, and something was not well again in time."""

    exit_code = 2
    word = "no convergence"


@implementer(IDelayedCall)
class Event:
    """
    Something that will be done.

    @ivar at: when, in the world's time.
    @ivar process: whose it is; C{None} for nobody's.
    @ivar timer: it counts on the process's own clock, which a suspended machine stops.
    """

    __slots__ = ("args", "at", "function", "kwargs", "process", "sequence", "state", "timer", "world")

    def __init__(
        self,
        world: World,
        at: float,
        process: Process | None,
        function: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        timer: bool,
    ) -> None:
        self.world = world
        self.at = at
        self.process = process
        self.function: Callable[..., object] = function
        self.args = args
        self.kwargs = kwargs
        self.timer = timer
        self.state = 0  # 0 waits, 1 was done, 2 cancelled
        self.sequence = 0

    def getTime(self) -> float:
        """See L{IDelayedCall.getTime}."""
        return self.at if self.process is None else self.at + self.process.clock_offset_s

    def cancel(self) -> None:
        """See L{IDelayedCall.cancel}."""
        self._check()
        self.state = 2
        self.function = _nothing
        self.args = ()
        self.world.cancelled += 1

    def delay(self, secondsLater: float) -> None:
        """See L{IDelayedCall.delay}."""
        self._check()
        self._move(self.at + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        """See L{IDelayedCall.reset}."""
        self._check()
        self._move(self.world.now + secondsFromNow)

    def active(self) -> bool:
        """See L{IDelayedCall.active}."""
        return self.state == 0

    def _check(self) -> None:
        if self.state == 1:
            raise AlreadyCalled
        if self.state == 2:
            raise AlreadyCancelled

    def _move(self, at: float) -> None:
        if at < self.at:
            self.world.push(self, at)  # the old place in the heap is recognised by its sequence
        self.at = at


def _nothing() -> None:
    """What is left of a cancelled event."""


class Host:
    """
    A machine.

    @ivar up: it has power.
    @ivar drives: its disks by path.
    @ivar files: small files that are always durable, by path.
    @ivar locks: which process has a directory for itself.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.up = True
        self.drives: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.locks: dict[str, Process] = {}
        self.wall_clock_offset_s = 0.0


class Process:
    """
    A process on a host.

    @ivar clock_offset_s: what its clock shows beyond the world's time.
    @ivar standing: it was stopped (SIGSTOP) or its machine suspended: events wait in C{backlog}.
    @ivar sockets: its ends of connections and its ports, in the order in which they were made.
    """

    def __init__(self, world: World, host: Host, name: str) -> None:
        world.births += 1
        self.world = world
        self.host = host
        self.name = name
        self.alive = True
        self.standing = False
        self.backlog: list[Event] = []
        self.random = world.generator(f"process {name} {world.births}")
        self.clock_offset_s = float(self.random.randrange(1000))
        self.slept_s = 0.0
        self.sockets: dict[Any, None] = {}
        self.disks: dict[Any, None] = {}
        self.kept: list[object] = []

    def later(self, delay_s: float, function: Callable[..., object], *args: Any) -> Event:
        """Something from outside that the process is told: not on its own clock."""
        return self.world.call(self.world.now + delay_s, self, function, args, None, timer=False)

    def stand(self) -> None:
        """From now on nothing of it runs."""
        self.standing = True

    def go_on(self, slept_s: float = 0.0) -> None:
        """
        Run again.

        @param slept_s: for so long its machine was suspended: its clock did not see it, and timers wait as long as
            they had to wait before.
        """
        self.standing = False
        world = self.world
        if slept_s:
            self.clock_offset_s -= slept_s
            self.slept_s += slept_s
            world.shift(self, slept_s)
        backlog, self.backlog = self.backlog, []
        for event in backlog:
            if event.state == 0:
                world.push(event, event.at + slept_s if event.timer else world.now)


class World:
    """
    @ivar now: seconds since it began, on a clock that nothing disturbs.
    @ivar skipped_s: what the calendar is ahead of that.
    @ivar trace: called with one line for each event; C{None}: nobody listens.
    @ivar failure: what went wrong first; L{run_until} raises it.
    """

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.now = 0.0
        self.skipped_s = 0.0
        self.trace = trace
        self.failure: SimulationFailed | None = None
        self.current: Process | None = None
        self.events = 0
        self.cancelled = 0
        self.births = 0
        self.graves: list[Process] = []
        self._heap: list[tuple[float, int, Event]] = []
        self._sequence = 0

    # -- chance

    def generator(self, name: str) -> random.Random:
        """A source of chance of its own for C{name}."""
        digest = blake2b(f"{self.seed} {name}".encode(), digest_size=8).digest()
        return random.Random(int.from_bytes(digest, "little"))

    # -- time

    @property
    def calendar_s(self) -> float:
        """What people's calendars show, from 0 when the world began."""
        return self.now + self.skipped_s

    def call(
        self,
        at: float,
        process: Process | None,
        function: Callable[..., object],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        timer: bool = True,
    ) -> Event:
        """Do something at a time."""
        event = Event(self, at, process, function, args, kwargs, timer)
        if process is None or process.alive:
            self.push(event, at)
        return event

    def after(self, delay_s: float, function: Callable[..., object], *args: Any) -> Event:
        """Something that no process does."""
        return self.call(self.now + delay_s, None, function, args)

    def push(self, event: Event, at: float) -> None:
        """Give the event a place in the queue; an older one counts no more."""
        self._sequence = sequence = self._sequence + 1
        event.at = at
        event.sequence = sequence
        heapq.heappush(self._heap, (at, sequence, event))

    def shift(self, process: Process, seconds: float) -> None:
        """All timers of a process are due later."""
        for at, sequence, event in sorted(self._heap, key=lambda entry: entry[:2]):
            if event.process is process and event.timer and event.state == 0 and event.sequence == sequence:
                self.push(event, max(at, event.at) + seconds)

    def skip(self, seconds: float) -> None:
        """The calendar goes on and nothing else does; see the module."""
        self.skipped_s += seconds
        if self.trace is not None:
            self.trace(f"{self.now:.6f} - nothing happens for {seconds:.0f} s")

    def run_until(self, end: float) -> None:
        """
        Everything that is due until then.

        @raise SimulationFailed: what was found out meanwhile.
        """
        heap = self._heap
        pop = heapq.heappop
        trace = self.trace
        limit = self.events + int(EVENTS_PER_SECOND_MAX * max(1.0, end - self.now))
        while heap and heap[0][0] <= end:
            at, sequence, event = pop(heap)
            if event.state or event.sequence != sequence:
                continue
            if event.at > at:  # it was put off
                self.push(event, event.at)
                continue
            self.now = at
            process = event.process
            if process is not None:
                if not process.alive:
                    continue
                if process.standing:
                    process.backlog.append(event)
                    continue
            event.state = 1
            self.events += 1
            if trace is not None:
                trace(f"{at:.6f} {'-' if process is None else process.name} {_words_for(event.function)}")
            self.current = process
            try:
                if event.kwargs:
                    event.function(*event.args, **event.kwargs)
                else:
                    event.function(*event.args)
            except SimulationFailed as error:
                self.fail(error)
            except Exception as error:
                self.fail(_broken(process, error))
            self.current = None
            if self.failure is not None:
                raise self.failure
            if self.events > limit:
                raise NoConvergence(
                    f"more than {EVENTS_PER_SECOND_MAX} events in a second: something goes in circles"
                )
        self.now = end

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(self.now + seconds)

    def note(self, who: str, what: str) -> None:
        """A line in the trace."""
        if self.trace is not None:
            self.trace(f"{self.now:.6f} {who}: {what}")

    def fail(self, error: SimulationFailed) -> None:
        """Remember what went wrong, if it is the first thing."""
        if self.failure is None:
            self.failure = error

    # -- processes

    def bury(self, process: Process) -> None:
        """It was killed, or has ended: nothing of it runs any more."""
        process.alive = False
        process.standing = False
        process.backlog.clear()
        process.disks.clear()
        self.graves.append(process)

    def timers_of(self, process: Process) -> list[str]:
        """What it still waits for, in words."""
        return [
            _words_for(event.function)
            for _, sequence, event in sorted(self._heap, key=lambda entry: entry[:2])
            if event.process is process and event.state == 0 and event.sequence == sequence and event.timer
        ]


def _words_for(function: Callable[..., object]) -> str:
    """A name that is the same in every run."""
    function = getattr(function, "func", function)
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__name__


def _broken(process: Process | None, error: Exception) -> BrokenCode:
    import traceback

    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"in {where.name}, {where.filename.rpartition('/')[2]}:{where.lineno}"
    who = "the simulation itself" if process is None else process.name
    return BrokenCode(f"{who}: {type(error).__name__}: {error} ({place})")
