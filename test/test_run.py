"""Tests of L{test.run}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

from test.run import closing_line, named_failures, sum_of_closing_lines


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

    def test_named_failures(self) -> None:
        """Which tests failed and why is said once more at the end."""

        class Tests(SynchronousTestCase):
            def test_right(self) -> None:
                pass

            def test_wrong(self) -> None:
                self.assertEqual("the sky", "the sea")

            def test_right_after_all(self) -> None:
                pass

            test_right_after_all.todo = "nobody has done it"  # type: ignore[attr-defined]

        result = TestResult()
        for name in ("test_right", "test_wrong", "test_right_after_all"):
            Tests(name).run(result)
        lines = named_failures(result)
        self.assertEqual("1 passed, 2 failed, 0 skipped", closing_line(result))
        self.assertTrue(lines[0].endswith("Tests.test_wrong"), lines[0])
        self.assertIn("the sea", "".join(lines[1:-1]))
        self.assertIn("test_right_after_all, which was expected to fail", lines[-1])
        self.assertEqual([], [line for line in lines if not line.startswith("failed: ")])

    def test_every_directory_is_tests(self) -> None:
        """Nothing is left out: each directory with tests has an C{__init__.py}."""
        here = Path(__file__).parent
        missing = {path.parent for path in here.rglob("test_*.py") if not (path.parent / "__init__.py").exists()}
        self.assertEqual(set(), missing)
