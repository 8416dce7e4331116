"""
Slow is failed (R15): which member answers too late for too long.

A member that neither answers nor breaks holds up every write of the mirror, and some of its reads.  Two rules,
each with its limits; both compare, because a storage that is slow as a whole gains nothing by losing a copy:

  - I{hangs}: it has not answered an operation for C{slow_s} that others have answered.
  - I{drags}: its median is C{DRAG_RATIO} times that of the fastest member, and above C{DRAG_S_LEAST}, in
    every window for C{DRAG_S} together in which both did enough of the same kind to say so.

The last copy never leaves, nor one without which fewer than C{minimum_copies} would be left: rather slow than lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

__all__ = ["DRAG_RATIO", "DRAG_S", "DRAG_S_LEAST", "FLUSH_PATIENCE", "SAMPLES_LEAST", "Seen", "Slow", "Slowness"]

DRAG_RATIO = 10.0
"""A disk is that much slower than a good one only when it is ill; a remote one is slower by the round trip."""

DRAG_S_LEAST = 0.5
"""Below this no member is slow, whatever the others are: a busy rotating disk with a deep queue is not ill."""

DRAG_S = 10.0
"""For how long: a disk that repairs one sector, or a drive that is being cleaned up, is over it by then."""

FLUSH_PATIENCE = 4.0
"""A flush may take so many times as long as other operations: it makes up for what they left to it."""

SAMPLES_LEAST = 3
"""Fewer operations in one window say nothing."""


@frozen
class Seen:
    """
    What was seen of one member in one window.

    @ivar index: which member.
    @ivar read_s: the median of its reads; 0 when there were too few.
    @ivar write_s: the same of its changes.
    @ivar waiting_s: for how long it has owed an answer that others have given, or that does not depend on others;
        that to a flush is counted as if it had been asked for C{FLUSH_PATIENCE} times later.
    @ivar what: that operation, in a word.
    @ivar copy: it is in sync. One that is not is nobody's redundancy and may always leave.
    """

    index: int
    read_s: float = 0.0
    write_s: float = 0.0
    waiting_s: float = 0.0
    what: str = "write"
    copy: bool = True


@frozen
class Slow:
    """A member that has to leave, and why."""

    index: int
    reason: str


class Slowness:
    """What one mirror remembers of how its members answered."""

    def __init__(self, slow_s: float) -> None:
        """
        @param slow_s: see the module.
        """
        self._slow_s = slow_s
        self._dragging_s: dict[int, float] = {}

    def forget(self, index: int) -> None:
        """The member has left, or comes anew."""
        self._dragging_s.pop(index, None)

    def judge(self, seen: Sequence[Seen], seconds: float, spare: int) -> list[Slow]:
        """
        Take one window into account.

        @param seen: the members that count, and the targets of resyncs; what is not seen is not judged.
        @param seconds: how long the window was.
        @param spare: how many copies may leave.
        @return: who has to leave now, the slowest first, at most C{spare} copies among them.
        """
        slow = []
        if any(each.copy and each.waiting_s < self._slow_s for each in seen):  # else it is not one of them
            slow = [(each.waiting_s, each.index, self._hangs(each)) for each in seen if self._is_hanging(each)]
        hanging = {index for _, index, _ in slow}
        for each in seen:
            ratios = [_ratio(each, seen, reads=True), _ratio(each, seen, reads=False)]
            ratio = max((known for known in ratios if known is not None), default=None)
            if ratio is None:
                continue  # this window says nothing
            if ratio < DRAG_RATIO:
                self._dragging_s.pop(each.index, None)
                continue
            dragging_s = self._dragging_s[each.index] = self._dragging_s.get(each.index, 0.0) + seconds
            if dragging_s >= DRAG_S and each.index not in hanging:
                slow.append((0.0, each.index, self._drags(each, ratio)))
        leaving: list[Slow] = []
        copies = {each.index for each in seen if each.copy}
        for _, index, reason in sorted(slow, reverse=True):
            if index in copies:
                spare -= 1
                if spare < 0:
                    continue
            leaving.append(Slow(index, reason))
        return leaving

    def _is_hanging(self, each: Seen) -> bool:
        return each.waiting_s >= self._slow_s

    def _hangs(self, each: Seen) -> str:
        return f"too slow: it has not answered a {each.what} for {each.waiting_s:g} s (slow_s = {self._slow_s:g})"

    def _drags(self, each: Seen, ratio: float) -> str:
        median_s = max(each.read_s, each.write_s)
        return f"too slow: its answers take {median_s:.1f} s, {ratio:.0f} times those of others, for {DRAG_S:g} s"


def _ratio(each: Seen, seen: Sequence[Seen], *, reads: bool) -> float | None:
    """How many times slower than the fastest other; 0 when it is fast enough, C{None} when that is not known."""
    own = each.read_s if reads else each.write_s
    others = [other.read_s if reads else other.write_s for other in seen if other.index != each.index]
    fastest = min((other for other in others if other), default=0.0)
    if not own or (own >= DRAG_S_LEAST and not fastest):
        return None
    return own / fastest if own >= DRAG_S_LEAST else 0.0
