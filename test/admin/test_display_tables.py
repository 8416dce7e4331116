"""Lists as text."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.admin.display_tables import (
    allowed_in_words,
    event_lines,
    operation_sentence,
    plan_lines,
    table_lines,
)
from dst.administration import Event, OperationState, OperationStatus, Plan, PlanStep, Severity


def plain(lines: list[object]) -> list[str]:
    """Without the styles."""
    return [line.plain for line in lines]  # type: ignore[attr-defined]


class TableTests(SynchronousTestCase):
    """L{table_lines}"""

    def test_columns(self) -> None:
        """Columns are as wide as they have to be, numbers stand at the right, and no line ends in spaces."""
        self.assertEqual(
            ["NAME  COUNT  WHY", "a        10  because", "long      2"],
            plain(table_lines(["NAME", "COUNT", "WHY"], [["a", "10", "because"], ["long", "2", ""]])),
        )

    def test_narrow(self) -> None:
        """The last column is wrapped below itself; nothing is wider than the screen."""
        sentence = "a sentence of many words that has no room on one line of this screen"
        lines = plain(table_lines(["NAME", "WHY"], [["a", sentence]], 40))
        self.assertTrue(all(len(line) <= 40 for line in lines), lines)
        self.assertEqual(sentence, " ".join(line[6:].strip() for line in lines[1:]))

    def test_very_narrow(self) -> None:
        """Where the others leave nothing to the last column, the widest of them are cut, and that is seen."""
        lines = plain(table_lines(["NAME", "WHY"], [["n" * 60, "a short reason"]], 50))
        self.assertTrue(all(len(line) <= 50 for line in lines), lines)
        self.assertIn("…", lines[1])

    def test_hostile(self) -> None:
        """What would steer a terminal does not reach it."""
        self.assertNotIn("\x1b", "".join(plain(table_lines(["NAME"], [["\x1b[2J"]]))))

    def test_wide_characters(self) -> None:
        """Cells are counted, not characters."""
        lines = plain(table_lines(["NAME", "X"], [["日本", "y"], ["ab", "z"]]))
        self.assertEqual(["日本  y", "ab    z"], lines[1:])


class PlanTests(SynchronousTestCase):
    """L{plan_lines}"""

    def test_costs(self) -> None:
        """What is copied and for how long redundancy is lower is said for each step and for all."""
        steps = (
            PlanStep("add", "member", "vol/d", "d becomes a member.", bytes_to_copy=1 << 30, seconds_exposed=None),
            PlanStep("remove", "member", "vol/b", "b leaves.", destructive=True, seconds_exposed=90.0),
            PlanStep("change", "daemon", "name", "its name.", after_restart=True),
        )
        lines = plain(plan_lines(Plan("1", steps)))
        self.assertIn("d becomes a member; 1.00 GiB to copy", lines[1])
        self.assertIn("(!) b leaves; redundancy is lower for about 1 min 30 s", lines[2])
        self.assertIn("its name; at the next start", lines[3])
        self.assertIn("1.00 GiB are copied; redundancy is lower for about 1 min 30 s", lines[4])
        self.assertIn("(!)", lines[5])

    def test_harmless(self) -> None:
        """A plan that costs nothing threatens nobody."""
        lines = plain(plan_lines(Plan("1", (PlanStep("add", "export", "vol", "vol is served"),))))
        self.assertEqual(2, len(lines))
        self.assertNotIn("(!)", "".join(lines))


class WordsTests(SynchronousTestCase):
    """What stands in the columns"""

    def test_access(self) -> None:
        """No list, an empty one, and one with lines are three things."""
        self.assertEqual("this machine", allowed_in_words(None))
        self.assertEqual("nobody", allowed_in_words(()))
        rules = ({"access": "write", "identity": "alpha"}, {"access": "read", "network": "10.0.0.0/8"})
        self.assertEqual("alpha: write; anybody at 10.0.0.0/8: read", allowed_in_words(rules))

    def test_operation(self) -> None:
        """While it runs it is said how far it is."""
        running = OperationStatus(
            "1", "change", "vol", OperationState.RUNNING, 0.0, None, "copies", 100 << 20, 25 << 20
        )
        self.assertEqual("copies; 75.0%, 25.0 MiB left", operation_sentence(running))

    def test_event(self) -> None:
        """An event says its code, and a code that is over says so."""
        events = [
            Event(7, 0.0, "health", Severity.WARNING, "vol", "vol is degraded", "STORAGE_DEGRADED"),
            Event(8, 0.0, "health", Severity.INFO, "vol", "vol is healthy", "STORAGE_DEGRADED", cleared=True),
        ]
        lines = plain(event_lines(events))
        self.assertIn("warning   vol is degraded [STORAGE_DEGRADED]", lines[1])
        self.assertIn("over", lines[2])
        self.assertEqual(2, len(event_lines(events, headings=False)))
