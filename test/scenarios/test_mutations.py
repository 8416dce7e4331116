"""
Every rule is needed: with one switched off, the trace that is named for it breaks a promise.
"""

from __future__ import annotations

import unittest

from twisted.trial.unittest import FailTest, SynchronousTestCase

from test.scenarios import test_named_traces, test_owner_traces
from test.scenarios.mutations import RULES, without
from test.scenarios.test_named_traces import PROOFS, TraceCase
from test.scenarios.test_owner_traces import OwnerCase
from test.scenarios.world import Wrong

UNPROVED = {
    "test_torn_table_page_each_slot": "what a damaged page is read as; test.label.test_region_table proves it",
}
"""Traces that no rule of the mirror stands behind."""


class _Outcome(unittest.TestResult):
    """What came of one trace."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[str] = []
        self.mistakes: list[str] = []

    def addError(self, test: object, error: object) -> None:  # type: ignore[override]
        """Twisted gives a C{Failure}, the library a tuple."""
        value = getattr(error, "value", None) or error[1]  # type: ignore[index]
        kind = self.broken if isinstance(value, Wrong | FailTest) else self.mistakes
        kind.append(f"{type(value).__name__}: {value}")

    addFailure = addError  # type: ignore[assignment]


def cases() -> set[type[SynchronousTestCase]]:
    """Everybody who plays traces."""
    return {
        each
        for module in (test_named_traces, test_owner_traces)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, TraceCase | OwnerCase)
    }


def outcome_of(name: str, rule_of: str, *rules_off: str) -> _Outcome:
    """Play one trace, of the class of that name, without some rules."""
    (case,) = [each for each in cases() if each.__qualname__ == rule_of]
    outcome = _Outcome()
    with without(*rules_off):
        case(name).run(outcome)
    return outcome


class RulesAreNeededTests(SynchronousTestCase):
    """A trace that passes without its rule proves nothing."""

    def test_every_trace_has_a_rule(self) -> None:
        """No trace was forgotten here."""
        names = {(case.__name__, name) for case in cases() for name in vars(case) if name.startswith("test_")}
        proved = {(case, name) for case, name, _, _ in PROOFS}
        self.assertEqual(set(), {(case, name) for case, name in names - proved if name not in UNPROVED})

    def test_each_trace_fails_without_its_rule(self) -> None:
        """And passes when only those guards are off that would have hidden it."""
        for case, name, rule, hidden_by in PROOFS:
            if hidden_by:
                passed = outcome_of(name, case, *hidden_by)
                self.assertEqual(([], []), (passed.broken, passed.mistakes), f"{name} needs {hidden_by}, not {rule}")
            failed = outcome_of(name, case, rule, *hidden_by)
            self.assertTrue(
                failed.broken, f"{name} passes though this is off: {RULES[rule].says} ({failed.mistakes})"
            )

    def test_a_rule_that_is_written_differently(self) -> None:
        """A mutation that finds nothing to change says so."""
        rule = type(RULES["told"])("?", (TraceCase, "served", (("no such text", ""),)))
        with self.assertRaisesRegex(AssertionError, "has 0 times"), rule.off():
            pass
