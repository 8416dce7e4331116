"""
Resyncs between real processes: what an outage costs, and that what was done is not done again.
"""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from test.integration.cluster import MirrorOfThree, differing_bytes, fio, member, verified
from test.integration.debian_tools import needs

MIB = 1 << 20
REGION = 64 << 10
BATCH = 16 * REGION
"""What may have been copied and not been entered when the owner dies."""


@needs("fio")
class ResyncTests(TestCase):
    """A mirror of three daemons."""

    timeout = 150

    async def test_outage_under_scattered_writes(self) -> None:
        """A node is away while fio writes here and there: what is moved is what was written, and the hot set."""
        cluster = MirrorOfThree(self)
        await cluster.start()
        await verified(self, fio(self, cluster.uri, "--rw=write", "--bs=256k", "--iodepth=8", "--size=80M"))
        await cluster.kill("b")
        await cluster.until_state("b", "absent")
        scattered = (
            "--rw=randwrite",
            "--bs=4k",
            "--iodepth=4",
            "--size=80M",
            "--io_size=2M",
            "--verify_state_save=0",
        )
        await verified(self, fio(self, cluster.uri, *scattered, "--randseed=7"))
        hot = (await cluster.status()).detail["hot_regions"]
        assert isinstance(hot, int)
        differed = differing_bytes(cluster.leg("a"), cluster.leg("b"), cluster.size)
        before = len(cluster.copied())
        await cluster.launch("b")
        copied = await cluster.until_copied("b", before)
        self.assertGreaterEqual(copied, differed)
        self.assertLessEqual(copied, differed + hot * REGION)
        await cluster.until_whole()
        self.assertEqual({}, cluster.unequal_legs())
        (record,) = [each for each in await cluster.admin.resyncs("vol") if each.kind == "partial"]
        self.assertEqual(("b", "in-sync", copied), (record.member, record.outcome, record.bytes_copied))
        await cluster.stop()

    async def test_owner_dies_in_mid_resync(self) -> None:
        """What was copied to a node before the owner was killed is not copied again by the next one."""
        cluster = MirrorOfThree(self)
        await cluster.start()
        await cluster.kill("b")
        await cluster.until_state("b", "absent")
        await verified(self, fio(self, cluster.uri, "--rw=write", "--bs=256k", "--iodepth=8", "--size=88M"))
        await cluster.until("no region is hot", lambda tree: tree.detail["hot_regions"] == 0)
        await cluster.admin.pause_resync("vol", "b")
        await cluster.launch("b")
        paused = await cluster.until("paused", lambda tree: bool((r := member(tree, "b").resync) and r.stalled))
        total = member(paused, "b").dirty_bytes
        self.assertGreater(total, 80 * MIB)
        await cluster.admin.resume_resync("vol")
        begun = await cluster.until("begun", lambda tree: member(tree, "b").dirty_bytes < 0.9 * total)
        left = member(begun, "b").dirty_bytes
        self.assertGreater(left, 0, "it was too fast for this test")
        await cluster.kill("owner")
        before = len(cluster.copied())
        await cluster.launch("owner")
        copied = await cluster.until_copied("b", before)
        self.assertLessEqual(copied, left + BATCH)
        await cluster.until_whole()
        self.assertEqual({}, cluster.unequal_legs())
        await cluster.stop()
