"""
The one test command: C{python -m test.run [NAME ...]}.

Trial runs the tests, in this process; what it does not do is end with a line that a machine and a
person in a hurry can read.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

__all__ = ["closing_line", "main"]


def closing_line(result: Any) -> str:
    """
    C{"N passed, N failed, N skipped"}.

    What was expected to fail and did has passed; what was expected to fail and did not has failed.
    """
    passed = result.successes + len(result.expectedFailures)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    return f"{passed} passed, {failed} failed, {len(result.skips)} skipped"


def main(names: list[str]) -> int:
    """Run the tests of these modules, or all, and return the exit status."""
    suite = TestLoader().loadByNames(names or ["test"], recurse=True)
    runner = TrialRunner(TreeReporter)
    result = runner.run(suite)
    sys.stderr.flush()
    print(closing_line(result), flush=True)
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
