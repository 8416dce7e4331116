"""What is told of a modest client beside something slow."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.fio import Cell
from benchmarks.isolation import SITUATIONS, Found, chosen_situations, table


def cell(per_s: float) -> Cell:
    """One measurement."""
    return Cell(per_s, 1 << 20, 0.1, 0.1, 1 << 20, 100.0, 2000.0)


class FoundTests(SynchronousTestCase):
    """One situation."""

    def found(self, *rounds: tuple[float, float]) -> Found:
        """What was measured with the disturbance and without."""
        pairs = [(cell(disturbed), cell(calm)) for disturbed, calm in rounds]
        return Found(SITUATIONS[0], [one for one, _ in pairs], [other for _, other in pairs])

    def test_ratio(self) -> None:
        """Neighbours in time are compared, and the median of the rounds counts."""
        found = self.found((900, 1000), (95, 100), (10, 20))
        self.assertEqual(("isolation: a disk hangs", "0.90", "0.9", True), found.figure())
        self.assertEqual(("isolation: a disk hangs", "0.50", "0.9", False), self.found((1, 2)).figure())

    def test_told(self) -> None:
        """The table has the range of the rounds and the latencies, the report every round."""
        found = self.found((900, 1000), (95, 100), (10, 20))
        line = table([found]).splitlines()[1]
        for word in ("a disk hangs", "0.50-0.95", "2.0 / 2.0", "met"):
            self.assertIn(word, line)
        plain = found.plain()
        self.assertEqual((0.9, True), (plain["ratio"], plain["met"]))
        rounds = plain["rounds"]
        assert isinstance(rounds, dict)
        self.assertEqual([1000, 100, 20], [each["per_s"] for each in rounds["calm"]])


class ChosenTests(SynchronousTestCase):
    """Which situations are measured."""

    def test_chosen(self) -> None:
        """By number, by a part of the name in any case, or all of them."""
        self.assertEqual(list(SITUATIONS), chosen_situations(None))
        self.assertEqual([SITUATIONS[1]], chosen_situations(["2"]))
        self.assertEqual(["nodes hang", "nodes hang, 16 clients"], [s.name for s in chosen_situations(["Nodes"])])
        self.assertEqual([], chosen_situations(["nothing like it"]))
