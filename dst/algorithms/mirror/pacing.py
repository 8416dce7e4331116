"""
Keeping the pace: the copies of one mirror wait here for their turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from dst.algorithms.mirror.load import LoadWindow
from dst.recovery.pace import Pace, PaceLimits, PaceWindow, ResyncScheduler, Seat

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Pacer"]

WAIT_S_MAX = 0.25
"""Who waits looks again so often: clients may have become quiet meanwhile."""


class Pacer:
    """
    @ivar pace: what was decided.
    """

    def __init__(self, clock: IReactorTime, name: str, limits: PaceLimits, scheduler: ResyncScheduler) -> None:
        self._clock = clock
        self._name = name
        self._scheduler = scheduler
        self._seat: Seat | None = None
        self._runs = 0
        self._free_at = 0.0
        self._in_flight = 0
        self._busy_since = 0.0
        self._busy_s = 0.0
        self._copied_bytes = 0
        self.pace = Pace(limits)

    @property
    def active(self) -> bool:
        """Something is being resynced."""
        return self._runs > 0

    def enter(self, redundancy: int) -> None:
        """A resync begins."""
        self._runs += 1
        if self._seat is None:
            self._seat = self._scheduler.enter(self._name, redundancy)

    def leave(self) -> None:
        """It has ended."""
        self._runs -= 1
        if not self._runs:
            self.stop()

    def stop(self) -> None:
        """Nothing is copied any more."""
        seat, self._seat = self._seat, None
        if seat is not None:
            self._scheduler.leave(seat)

    @property
    def why_slow(self) -> str:
        """Why a resync goes no faster, in a sentence; C{""} when nothing holds it back."""
        if self._seat is not None and not self._scheduler.full_speed(self._seat):
            first = ", ".join(seat.name for seat in self._scheduler.ahead_of(self._seat))
            return f"held back to {self.pace.share:.0%}: {first} has less redundancy, or was first"
        if self.pace.share < 1.0:
            return f"held back to {self.pace.share:.0%} while clients work"
        return ""

    async def turn(self, length: int) -> None:
        """Wait until C{length} bytes may be copied."""
        clock = self._clock
        while True:
            rate, now = self.pace.bytes_per_s, clock.seconds()
            if not rate:
                self._free_at = now
                return
            if self._free_at <= now:
                self._free_at = now + length / rate
                return
            await deferLater(clock, min(WAIT_S_MAX, self._free_at - now))

    def begin(self) -> None:
        """A chunk is being copied."""
        if not self._in_flight:
            self._busy_since = self._clock.seconds()
        self._in_flight += 1

    def end(self, copied_bytes: int) -> None:
        """It was."""
        self._in_flight -= 1
        self._copied_bytes += copied_bytes
        if not self._in_flight:
            self._busy_s += self._clock.seconds() - self._busy_since

    def observe(self, window: LoadWindow, redundancy: int) -> None:
        """Some time has passed: decide again."""
        if self._in_flight:
            now = self._clock.seconds()
            self._busy_s += now - self._busy_since
            self._busy_since = now
        seen = PaceWindow(self._copied_bytes, self._busy_s, window.operations, window.latency_s)
        self._copied_bytes, self._busy_s = 0, 0.0
        full_speed = True
        if self._seat is not None:
            self._seat.redundancy = redundancy
            full_speed = self._scheduler.full_speed(self._seat)
        self.pace.observe(seen, full_speed=full_speed)
