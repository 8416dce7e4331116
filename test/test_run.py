"""Tests of L{test.run}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.run import sum_of_closing_lines


class ClosingLineTests(SynchronousTestCase):
    """What a machine reads at the end."""

    def test_sum(self) -> None:
        """The last closing line of each part counts."""
        parts = [
            "1 passed, 1 failed, 1 skipped\nmore\n5 passed, 0 failed, 2 skipped\n",
            "7 passed, 1 failed, 0 skipped\n",
        ]
        self.assertEqual("12 passed, 1 failed, 2 skipped", sum_of_closing_lines(parts))

    def test_cut_off(self) -> None:
        """A part that was killed before its closing line is a failure."""
        self.assertEqual(
            "5 passed, 1 failed, 2 skipped", sum_of_closing_lines(["5 passed, 0 failed, 2 skipped\n", "x"])
        )

    def test_every_directory_is_tests(self) -> None:
        """Nothing is left out: each directory with tests has an C{__init__.py}."""
        here = Path(__file__).parent
        missing = {path.parent for path in here.rglob("test_*.py") if not (path.parent / "__init__.py").exists()}
        self.assertEqual(set(), missing)
