"""Tests of L{dst.simulation.shrinking}."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from dst.simulation.faults import Fault
from dst.simulation.outcome import Outcome
from dst.simulation.shrinking import shrunk
from dst.simulation.world import NoConvergence, WrongData


class ShrinkingTests(SynchronousTestCase):
    """From a long history to the part of it that matters."""

    def live(self, faults: Sequence[Fault], span_s: float) -> Outcome:
        """A life that fails when faults 3 and 17 are in it, and in another way when only fault 3 is."""
        self.lives += 1
        there = {fault.target for fault in faults if fault.at_s <= span_s}
        failure = None
        if {"3", "17"} <= there:
            failure = WrongData("lost")
        elif "3" in there:
            failure = NoConvergence("stuck")
        return Outcome(1, list(faults), failure, simulated_s=span_s)

    def setUp(self) -> None:
        self.lives = 0
        self.faults = [Fault(float(number), "kill", str(number), 9.0) for number in range(40)]

    def test_smallest(self) -> None:
        """Only what the failure needs is left, it lasts less, and life ends soon after it."""
        told: list[tuple[int, int]] = []
        found = shrunk(self.live(self.faults, 100.0), self.live, tried=lambda *said: told.append(said))
        self.assertEqual(["3", "17"], [fault.target for fault in found.faults])
        self.assertIsInstance(found.failure, WrongData)
        self.assertEqual([3.0, 3.0], [fault.lasts_s for fault in found.faults])
        self.assertLess(found.simulated_s, 40)
        self.assertEqual(2, told[-1][0])
        self.assertLess(self.lives, 60)

    def test_bounded(self) -> None:
        """After so many tries what was found is good enough."""
        found = shrunk(self.live(self.faults, 100.0), self.live, runs_max=5)
        self.assertEqual(6, self.lives)
        self.assertIsInstance(found.failure, WrongData)
        self.assertLess(len(found.faults), 40)

    def test_not_repeatable(self) -> None:
        """What cannot be repeated is given back as it was."""
        failed = self.live(self.faults, 100.0)
        found = shrunk(failed, lambda faults, span_s: Outcome(1, list(faults)))
        self.assertIs(failed, found)

    def test_no_fault_needed(self) -> None:
        """A life that fails by itself is shown without any fault."""

        def live(faults: Sequence[Fault], span_s: float) -> Outcome:
            return Outcome(1, list(faults), WrongData("always"), simulated_s=span_s)

        self.assertEqual([], shrunk(live(self.faults, 100.0), live).faults)
