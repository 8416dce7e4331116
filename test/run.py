"""
The one test command: C{python -m test.run [NAME ...]}.

Trial runs the tests; what it does not do is end with a line that a machine and a person in a hurry can read.

Without names everything is run, in two processes side by side: those tests that start daemons, browsers and machines
wait most of the time, and the others do not wait at all.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

__all__ = ["CLOSING_LINE", "closing_line", "main", "named_failures", "sum_of_closing_lines"]

PARTS = ("--integration", "--others")

FAILED = "failed: "
MESSAGE_LINES_MAX = 20

CLOSING_LINE = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)


def closing_line(result: Any) -> str:
    """
    C{"N passed, N failed, N skipped"}.

    What was expected to fail and did has passed; what was expected to fail and did not has failed.
    """
    passed = result.successes + len(result.expectedFailures)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    return f"{passed} passed, {failed} failed, {len(result.skips)} skipped"


def named_failures(result: Any) -> list[str]:
    """
    A line for each test that failed and, indented, what it said: repeated at the end, where one looks first and
    where a log that was cut is still there.
    """
    lines = []
    for test, failure in [*result.failures, *result.errors]:
        message = failure.getBriefTraceback().rstrip().splitlines()
        lines.append(f"{FAILED}{test.id()}")
        lines += [f"{FAILED}    {line}" for line in message[-MESSAGE_LINES_MAX:]]
    lines += [f"{FAILED}{test.id()}, which was expected to fail" for test, _ in result.unexpectedSuccesses]
    return lines


def sum_of_closing_lines(outputs: list[str]) -> str:
    """
    One closing line of several; a run that has none has not ended as it should, which is one failure.
    """
    sums = [0, 0, 0]
    for output in outputs:
        found = CLOSING_LINE.findall(output)
        counts = [int(count) for count in found[-1]] if found else [0, 1, 0]
        sums = [before + count for before, count in zip(sums, counts, strict=True)]
    return "{} passed, {} failed, {} skipped".format(*sums)


def main(arguments: list[str]) -> int:
    """Run the tests of these modules, or all, and return the exit status."""
    if not arguments:
        return _run_side_by_side()
    if arguments[0] in PARTS:
        suite = unittest.TestSuite(_part(arguments[0] == PARTS[0]))
        # Short: paths of UNIX sockets have some hundred characters at most.
        runner = TrialRunner(TreeReporter, workingDirectory=f"_trial_temp{PARTS.index(arguments[0]) or ''}")
    else:
        suite = TestLoader().loadByNames(arguments, recurse=True)
        runner = TrialRunner(TreeReporter)
    result = runner.run(suite)
    sys.stderr.flush()
    print(*named_failures(result), closing_line(result), sep="\n", flush=True)
    return 0 if result.wasSuccessful() and result.testsRun else 1


def _part(integration: bool) -> Iterator[Any]:
    """The tests that drive real processes, or all others."""
    for entry in sorted(Path(__file__).parent.iterdir()):
        is_tests = (entry / "__init__.py").exists() or (entry.name.startswith("test_") and entry.suffix == ".py")
        if is_tests and (entry.name in ("integration", "campaign")) is integration:
            yield TestLoader().loadByNames([f"test.{entry.stem}"], recurse=True)


def _run_side_by_side() -> int:
    """Show the longer part as it goes, and the other one afterwards."""
    command = [sys.executable, "-m", "test.run"]
    with tempfile.TemporaryFile("w+", errors="replace") as kept:
        other = subprocess.Popen([*command, PARTS[1]], stdout=kept, stderr=subprocess.STDOUT)
        try:
            shown = []
            with subprocess.Popen(
                [*command, PARTS[0]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
            ) as first:
                assert first.stdout is not None
                for line in first.stdout:
                    shown.append(line)
                    print(line, end="", flush=True)
            other.wait()
        finally:
            other.kill()
        kept.seek(0)
        rest = kept.read()
    print(rest, end="", flush=True)
    # Those of the part that was shown last stand there already.
    print("".join(line for line in shown if line.startswith(FAILED)), end="", flush=True)
    print(sum_of_closing_lines(["".join(shown), rest]), flush=True)
    return 1 if first.returncode or other.returncode else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
