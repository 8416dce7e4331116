"""The benchmark command, for as short as it goes: that it works, and nothing about how fast anything is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from test.integration.debian_tools import needs, run


class BenchmarkTests(TestCase):
    """C{python -m benchmarks}."""

    timeout = 150

    @needs("fio", "nbdkit")
    async def test_quick(self) -> None:
        """One row of one group is measured, told with its goal, and written with what it cost."""
        output = Path(self.mktemp())
        command = ("--quick", "--only", "single", "--row", "read 4 KiB depth 32", "--output", str(output))
        told = await run(sys.executable, "-m", "benchmarks", *command)
        self.assertIn("single: read 4 KiB depth 32 / ", told)
        report = json.loads((output / "results.json").read_text())
        (group,) = report["groups"]
        (row,) = group["rows"]
        for name in ("DST file", "nbdkit"):
            (cell,) = row["servers"][name]["rounds"]
            self.assertGreater(cell["per_s"], 0, name)
            self.assertGreater(cell["server_s"], 0, name)
            self.assertGreater(cell["peak_bytes"], 1 << 20, name)
        self.assertEqual(1.2, row["goal"])
        self.assertIn("<svg", (output / "single.svg").read_text())
        self.assertFalse((output / "partial.json").exists())

    @needs("fio")
    async def test_profile(self) -> None:
        """The profile of a row is written, whatever profiler there is."""
        output = Path(self.mktemp())
        command = ("--quick", "--only", "single", "--profile", "write 4 KiB depth 32", "--output", str(output))
        told = await run(sys.executable, "-m", "benchmarks", *command)
        self.assertIn("written: ", told)
        written = list((output / "profile").iterdir())
        self.assertTrue(any("dst" in path.read_text(errors="replace").lower() for path in written), told)
