"""The parts of C{dst demo} that need no process."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.demo.load import BLOCK_BYTES, Load, block_content


class LoadTests(SynchronousTestCase):
    """L{Load}"""

    def test_a_block_that_changed(self) -> None:
        """A client that reads anything else than what it wrote counts it as wrong."""
        load = Load(Clock(), "nbd://127.0.0.1:1/vol", 64 * BLOCK_BYTES, 64 * BLOCK_BYTES, 1)
        load._generations[3] = 2
        load._compare(0, bytes(3 * BLOCK_BYTES) + block_content(3, 2))
        self.assertEqual(0, load.wrong)
        for bad in (block_content(3, 1), block_content(4, 2), bytes(BLOCK_BYTES), b"\1" + block_content(3, 2)[1:]):
            before = load.wrong
            load._compare(3, bad)
            self.assertEqual(before + 1, load.wrong)
