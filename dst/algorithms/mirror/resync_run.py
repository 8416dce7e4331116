"""
One resync as people see it: how far, how fast, why, why not, and what became of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

from attrs import define, field

from dst.algorithms.mirror.member import Member
from dst.explaining import ResyncRecord
from dst.recovery.pace import Worth
from dst.status import ResyncProgress

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["HISTORY_MAX", "Pauses", "Rate", "ResyncRun", "unreadable_sentence"]

HISTORY_MAX = 64
"""Resyncs that are remembered; a person asks about the last ones."""

RATE_WINDOW_S = 5.0
"""Over how long the rate is told; nothing in so long counts as stalled."""

EXTENTS_TOLD_MAX = 8
"""Unreadable extents that a sentence names; of more it says how many."""


class Pauses:
    """
    Which members nothing is copied to, because a person said so.  Not kept over a restart: a storage that starts
    heals itself, unless somebody says again that it shall not.
    """

    def __init__(self) -> None:
        self._all = False
        self._names: set[str] = set()

    def pause(self, name: str | None) -> None:
        """One member, or all, those that are not there yet too."""
        if name is None:
            self._all = True
        else:
            self._names.add(name)

    def resume(self, name: str | None, others: Collection[str]) -> None:
        """
        One member, or all.

        @param others: everybody: when all were paused and one is resumed, the others stay paused.
        """
        if name is None:
            self._all = False
            self._names.clear()
        elif self._all:
            self._all = False
            self._names = set(others) - {name}
        else:
            self._names.discard(name)

    def __contains__(self, name: str) -> bool:
        return self._all or name in self._names


class Rate:
    """Bytes over the last seconds."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock.seconds(), 0)])

    def at(self, total: int) -> float:
        """So much was done until now."""
        now = self._clock.seconds()
        self._samples.append((now, total))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_WINDOW_S:
            self._samples.popleft()
        then, before = self._samples[0]
        return (total - before) / (now - then) if now > then else 0.0


@define(eq=False)
class ResyncRun:
    """
    A resync that goes on.

    @ivar row: the table row that demanded it.
    @ivar total_bytes: what had to be looked at when it began.
    @ivar seen_bytes: what was looked at: copied, or found to be the same.
    @ivar copied_bytes: what was sent.
    @ivar bad: what nobody can read, by region, as (first, end).
    @ivar bad_until: when that is tried again.
    @ivar reserved: regions that it comes to next, and those that are under way.
    @ivar under_way: regions whose batch has begun, and not ended.
    @ivar waits_for: one sentence while it cannot go on.
    @ivar comparable: both sides can tell checksums, as far as is known.
    """

    clock: IReactorTime
    member: Member
    kind: str
    cause: str
    row: str
    began: float
    total_bytes: int
    worth: Worth
    rate: Rate
    began_at: float
    seen_bytes: int = 0
    copied_bytes: int = 0
    comparable: bool = True
    bad: dict[int, list[tuple[int, int]]] = field(factory=dict)
    bad_until: float = 0.0
    reserved: list[int] = field(factory=list)
    under_way: set[int] = field(factory=set)
    waits_for: str = ""
    _moved_at: float = field(init=False)
    _moved_bytes: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._moved_at = self.began_at

    def progress(self, left_bytes: int) -> ResyncProgress:
        """How far it is."""
        now = self.clock.seconds()
        if self.seen_bytes != self._moved_bytes:
            self._moved_at, self._moved_bytes = now, self.seen_bytes
        stalled = self.waits_for
        if not stalled and now - self._moved_at > RATE_WINDOW_S:
            quiet_s = now - self._moved_at
            stalled = f"{self.member.name}, or who it is copied from, has not answered for {quiet_s:.0f} s"
        return ResyncProgress(
            self.kind,
            self.cause,
            self.total_bytes,
            left_bytes,
            self.copied_bytes,
            self.rate.at(self.seen_bytes),
            stalled,
        )

    def record(self, outcome: str) -> ResyncRecord:
        """It has ended."""
        return ResyncRecord(
            self.member.name,
            self.kind,
            self.cause,
            self.row,
            self.began,
            self.clock.seconds() - self.began_at,
            self.total_bytes,
            self.copied_bytes,
            outcome,
        )


def unreadable_sentence(bad: dict[int, list[tuple[int, int]]], again_s: float) -> str:
    """What cannot be copied, and what becomes of it."""
    extents = [extent for region in sorted(bad) for extent in bad[region]]
    told = ", ".join(f"{end - first} at {first}" for first, end in extents[:EXTENTS_TOLD_MAX])
    more = f" and {len(extents) - EXTENTS_TOLD_MAX} more places" if len(extents) > EXTENTS_TOLD_MAX else ""
    return (
        f"everything is copied but what no member in sync can read (bytes {told}{more}); it is tried again every"
        f" {again_s:g} s, and ends well once something is written there"
    )
