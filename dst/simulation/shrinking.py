"""
From a life that failed to the shortest one that fails in the same way.

Faults are left out, first halves of them, then smaller parts (I{delta debugging}: Zeller and Hildebrandt,
"Simplifying and Isolating Failure-Inducing Input", 2002), as long as the life still fails.  Then what is left is
made shorter: every fault lasts less, and life ends soon after the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve

from dst.simulation.faults import Fault
from dst.simulation.outcome import Outcome

__all__ = ["RUNS_MAX", "shrunk"]

RUNS_MAX = 120
"""Lives that are tried before the shortest one so far is good enough: half a minute, or a few for large clusters."""

Live = Callable[[Sequence[Fault], float], Outcome]


def shrunk(
    failed: Outcome, live: Live, *, runs_max: int = RUNS_MAX, tried: Callable[[int, int], None] | None = None
) -> Outcome:
    """
    A life with as few faults as can be that fails as C{failed} did.

    @param live: lives with these faults, for so many seconds.
    @param tried: told after each try how many faults are left, and how many lives were tried.
    @return: C{failed} itself when no shorter one was found.
    """
    return _Shrinking(failed, live, runs_max, tried).run()


class _Shrinking:
    def __init__(self, failed: Outcome, live: Live, runs_max: int, tried: Callable[[int, int], None] | None) -> None:
        assert failed.failure is not None
        self._kind = type(failed.failure)
        self._live = live
        self._left = runs_max
        self._runs = 0
        self._tried = tried
        self.best = failed
        self.span_s = max(60.0, failed.simulated_s)

    def run(self) -> Outcome:
        """As far as the runs go."""
        last_s = self.best.simulated_s
        begun = [fault for fault in self.best.faults if fault.at_s <= last_s]
        if not self._try(begun, self.span_s):
            return self.best  # it cannot even be repeated: chance plays another part
        self._leave_out()
        self._end_sooner()
        self._shorten()
        return self.best

    def _try(self, faults: Sequence[Fault], span_s: float) -> bool:
        if not self._left:
            return False
        self._left -= 1
        self._runs += 1
        outcome = self._live(list(faults), span_s)
        same = type(outcome.failure) is self._kind
        if same:
            self.best, self.span_s = outcome, span_s
        if self._tried is not None:
            self._tried(len(self.best.faults), self._runs)
        return same

    def _leave_out(self) -> None:
        """Parts of the faults, from halves down to single ones."""
        parts = 2
        while self._left and len(self.best.faults) > 1:
            faults = self.best.faults
            size = max(1, -(-len(faults) // parts))
            for start in range(0, len(faults), size):
                if self._try(faults[:start] + faults[start + size :], self.span_s):
                    parts = max(2, parts - 1)
                    break
            else:
                if size == 1:
                    break
                parts = min(len(faults), 2 * parts)
        if len(self.best.faults) == 1:
            self._try([], self.span_s)

    def _end_sooner(self) -> None:
        faults = self.best.faults
        end_s = max((fault.at_s + fault.lasts_s for fault in faults), default=0.0) + 5.0
        if end_s < self.span_s - 1.0:
            self._try(faults, end_s)

    def _shorten(self) -> None:
        for index in range(len(self.best.faults)):
            fault = self.best.faults[index]
            if fault.lasts_s > 2.0:
                faults = list(self.best.faults)
                faults[index] = evolve(fault, lasts_s=round(fault.lasts_s / 3, 3))
                self._try(faults, self.span_s)
