"""Importing DST chooses no reactor."""

from __future__ import annotations

import sys

from twisted.trial.unittest import TestCase

from test.integration.cluster import Program

MODULES = ("dst.tap", "dst.admin.cli", "dst.admin.client", "dst.admin.site", "dst.cluster.assembly", "dst.testing")


class ReactorChoiceTests(TestCase):
    """Who owns the process may still choose."""

    timeout = 60.0

    async def test_not_chosen(self) -> None:
        """After every import another reactor than the usual one can be installed."""
        script = (
            f"import {', '.join(MODULES)}\n"
            "from twisted.internet import selectreactor; selectreactor.install()\n"
            "from twisted.internet import reactor; print(type(reactor).__name__)"
        )
        self.assertIn("SelectReactor", await Program(self, sys.executable, "-c", script).success())
