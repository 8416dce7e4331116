"""
What clients ask of a mirror and how its members answer, seen by looking at one operation in some.

Looking costs two readings of the clock; not looking costs a subtraction. How many are passed over follows from how
many there were, so that a busy second is looked at as often as a quiet one.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from attrs import frozen

from dst.algorithms.mirror.slowness import SAMPLES_LEAST

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["NOT_SAMPLED", "Load", "LoadWindow", "MemberTimes"]

SAMPLES_WANTED = 32
"""Operations that are looked at in one window, about."""

EVERY_MAX = 4096
"""However busy it is: one in so many."""

LEAST_S = 1e-6
"""0 means that nothing is known; nobody answers faster than this."""

NOT_SAMPLED = -1.0
"""In place of the time at which an operation began."""


@frozen
class MemberTimes:
    """The median times of one member's answers in a window; 0 where too few were seen."""

    read_s: float = 0.0
    write_s: float = 0.0


@frozen
class LoadWindow:
    """
    @ivar operations: of clients, about; 0 only if there were none.
    @ivar latency_s: their median; 0 if there were none.
    @ivar members: by the member's index.
    """

    operations: int
    latency_s: float
    members: dict[int, MemberTimes]


class Load:
    """
    @ivar tick: counts windows: what is in flight is marked with it, and its age is told by it.
    @ivar wake: see L{__init__}; also called when something else begins that has to be looked at.
    @ivar left: operations until the next one that is looked at. Whoever begins one counts it down, and calls
        C{look} at 0.
    """

    def __init__(self, clock: IReactorTime, wake: Callable[[], None]) -> None:
        """
        @param wake: called when one is looked at: somebody is to call C{take} from time to time.
        """
        self._clock = clock
        self.wake = wake
        self.tick = 0
        self.left = 1
        self._every = 1
        self._counted = 0
        self._client_s: list[float] = []
        self._read_s: dict[int, list[float]] = {}
        self._write_s: dict[int, list[float]] = {}

    def look(self) -> float:
        """This operation is looked at. @return: when it begins."""
        self._counted += self._every
        self.left = self._every
        self.wake()
        return self._clock.seconds()

    def look_at_one_of(self, count: int) -> float:
        """
        As counting C{left} down for each of so many that begin together.

        @return: as L{look}, or L{NOT_SAMPLED}.
        """
        self.left -= count
        if self.left > 0:
            return NOT_SAMPLED
        passed_over, more = divmod(-self.left, self._every)
        began = self.look()
        self._counted += passed_over * self._every
        self.left -= more
        return began

    def now(self) -> float:
        """For an operation that is looked at."""
        return self._clock.seconds()

    def ended(self, began: float) -> None:
        """A client has its answer."""
        self._client_s.append(self._clock.seconds() - began)

    def has_read(self, index: int, began: float) -> None:
        """A member has answered a read."""
        self._read_s.setdefault(index, []).append(self._clock.seconds() - began)

    def has_written(self, index: int, began: float) -> None:
        """A member has answered a change."""
        self._write_s.setdefault(index, []).append(self._clock.seconds() - began)

    def take(self) -> LoadWindow:
        """What was seen since the last time."""
        self.tick += 1
        operations = self._counted - self.left + self._every
        indices = self._read_s.keys() | self._write_s.keys()
        members = {
            index: MemberTimes(_median(self._read_s.get(index, [])), _median(self._write_s.get(index, [])))
            for index in indices
        }
        window = LoadWindow(operations, max(LEAST_S, median(self._client_s)) if self._client_s else 0.0, members)
        self._client_s, self._read_s, self._write_s = [], {}, {}
        self._every = self.left = max(1, min(EVERY_MAX, operations // SAMPLES_WANTED))
        self._counted = 0
        return window

    def sleep(self) -> None:
        """Nobody calls C{take} any more until the next operation."""
        self._every = self.left = 1
        self._counted = 0


def _median(times: list[float]) -> float:
    return max(LEAST_S, median(times)) if len(times) >= SAMPLES_LEAST else 0.0
