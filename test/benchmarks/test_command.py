"""The command line of the benchmark."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.__main__ import FLAT, ISOLATION, arguments, chosen, run_group
from benchmarks.fio import Cell
from benchmarks.groups import GROUPS, Group
from benchmarks.processes import Processes
from benchmarks.record import Record
from benchmarks.rows import Row
from benchmarks.subjects import Kind, Served


class CommandTests(SynchronousTestCase):
    """What was asked for."""

    def refused(self, *command: str) -> str:
        """What is said to somebody who asked for nonsense."""
        complaint = io.StringIO()
        with redirect_stderr(complaint):
            self.assertEqual(2, self.assertRaises(SystemExit, arguments, list(command)).code)
        return complaint.getvalue()

    def test_everything(self) -> None:
        """Without options every group is measured, what one slow thing does, and the memory."""
        self.assertEqual([*GROUPS, ISOLATION, FLAT], arguments([]).only)

    def test_rows(self) -> None:
        """A row is a number, or a part of its name in any case."""
        single = GROUPS["single"]
        self.assertEqual([single.rows[0]], chosen(single, ["1"]))
        self.assertEqual(
            ["read 64 KiB depth 16", "write 64 KiB depth 16"], [row.name for row in chosen(single, ["64 kib"])]
        )
        self.assertEqual(list(single.rows), chosen(single, None))
        self.assertNotIn(FLAT, arguments(["--row", "4 KiB"]).only)
        self.assertEqual([ISOLATION], arguments(["--only", ISOLATION, "--row", "a disk hangs"]).only)

    def test_nonsense(self) -> None:
        """What cannot be done is refused with the reason."""
        self.assertIn("no row of single", self.refused("--only", "single", "--row", "9"))
        self.assertIn("no row of", self.refused("--row", "7 KiB"))
        self.assertIn("--seconds", self.refused("--seconds", "0"))
        self.assertIn("--rounds", self.refused("--rounds", "0"))
        self.assertIn("no rows", self.refused("--only", FLAT, "--profile", "1"))
        self.assertIn("no rows", self.refused("--only", ISOLATION, "--profile", "1"))

    def test_profile(self) -> None:
        """A profile is of one group: the first."""
        options = arguments(["--profile", "write 4 KiB depth 32"])
        self.assertEqual((["single"], ["write 4 KiB depth 32"]), (options.only, options.row))
        self.assertEqual(["mirror"], arguments(["--only", "mirror", "--profile", "4"]).only)


class ResumeTests(SynchronousTestCase):
    """A run that goes on."""

    def test_nothing_left(self) -> None:
        """Where everything has been measured no server is started; the rounds stay in their order."""

        def starter(processes: Processes, place: Path, size: int, name: str) -> Served:
            raise AssertionError("there is nothing to be measured")

        row = Row(False, 4096, 1)
        kinds = (Kind("DST", True, (), starter), Kind("peer", False, (), starter))
        group = Group("group", "it", kinds, (row,), {row: 1.0})
        record = Record(Path(self.mktemp()), {})
        for kind, factor in zip(kinds, (2.0, 1.0), strict=True):
            for number in (1, 0):
                record.put("group", row.name, kind.name, number, Cell(factor * (number + 1), 4096, 0.0, 0.0, 0))
        results = run_group(group, [row], 2, 1.0, 4096, record)
        self.assertEqual([2.0, 4.0], [cell.per_s for cell in results.cells[row, "DST"]])
        ratio = results.ratio(row)
        assert ratio is not None
        self.assertEqual(2.0, ratio.middle)
