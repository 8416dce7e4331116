"""
A few rounds of the crash campaign, so that it is known to run; hundreds of them are C{make crash}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parents[2]

ROUNDS = 4


class SmokeTests(TestCase):
    """The campaign on real daemons."""

    timeout = 150

    async def test_rounds(self) -> None:
        """
        Some rounds with losses of power of everything end with every block verified, every copy equal, and a report
        that says what was done; nothing is left behind.
        """
        directory = Path(self.mktemp()).resolve()
        out, err, code = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "test.campaign", "--one", "--rounds", str(ROUNDS), "--seed", "5", "--shapes", "three-mixed"]
            + ["--scenario", "all killed", "--keep", str(directory)],
            env=dict(os.environ),
            path=str(ROOT),
        )
        self.assertEqual((0, b""), (code, err), out)
        results = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(ROUNDS, len(results))
        for result in results:
            self.assertGreater(result["blocks"], 1000)
            self.assertGreater(result["writes"], 20)
            self.assertGreater(result["ages_compared"], 0)
            self.assertEqual(2, result["faults"]["power loss of node"])
        self.assertEqual([], list(directory.iterdir()))
