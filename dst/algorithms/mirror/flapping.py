"""
A member that comes and goes is held back, for longer each time (R15).

Every return costs: a label, a table, a copy, and a record when it leaves again. One that left once or twice is taken
back at once; one that does so again and again waits, twice as long each time. It is forgotten in time: what is older
than L{REMEMBERED_S} does not count. A person who resumes it by hand overrides all of it.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

__all__ = ["FREE", "HELD_S_MAX", "REMEMBERED_S", "SLOW_HELD_S", "Flaps"]

REMEMBERED_S = 600.0
"""A cable that is changed, a machine that starts again: over within ten minutes."""

FREE = 2
"""So often a member may leave within that time and come back at once."""

HELD_S_MAX = 240.0
"""Long enough to cost next to nothing, short enough to be redundant again before anybody has to look."""

SLOW_HELD_S = 30.0
"""A member that left because it was slow waits at least so long: it was there all the time, and still is."""

_REMEMBERED_MAX = 64
"""Departures that are remembered: after a few more than L{FREE} each makes no difference."""


@define
class Flaps:
    """
    When one member left.

    @ivar first_s: how long the first one above L{FREE} costs; 0: members are never held back.
    @ivar sentence: why it is held back, and for how long.
    @ivar slow: it left because it was too slow, the last time.
    """

    first_s: float
    sentence: str = ""
    slow: bool = False
    _left: deque[float] = field(factory=lambda: deque(maxlen=_REMEMBERED_MAX))
    _until: float = 0.0

    def left(self, now: float, *, slow: bool = False) -> None:
        """It has left, by its own fault."""
        self._left.append(now)
        self.slow = slow
        held_s = 0.0
        count = self.count(now)
        if self.first_s and count > FREE:
            held_s = min(HELD_S_MAX, self.first_s * 2.0 ** min(16, count - FREE - 1))
        if self.first_s and slow:
            held_s = max(held_s, SLOW_HELD_S)
        self._until = now + held_s
        why = "it was too slow, and " if slow else "it "
        times = "once" if count == 1 else f"{count} times"
        self.sentence = (
            f"{why}left {times} in {REMEMBERED_S / 60:.0f} minutes: held back for {held_s:.0f} s; "
            "`dst resume` takes it back now"
        )

    def forgive(self) -> None:
        """A person says that it is well."""
        self._left.clear()
        self.slow = False
        self._until = 0.0

    def count(self, now: float) -> int:
        """How often it left lately."""
        while self._left and self._left[0] < now - REMEMBERED_S:
            self._left.popleft()
        return len(self._left)

    def held_s(self, now: float) -> float:
        """How much longer it is held back; 0 when it may return."""
        return max(0.0, self._until - now)
