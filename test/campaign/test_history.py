"""Tests of L{test.campaign.history}: what may be found, and what must not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from test.campaign.history import BLOCK_BYTES, SECTORS, History, Violation, block_content, sector_content

ZEROES = bytes(BLOCK_BYTES)


def mixed(block: int, *versions: int) -> bytes:
    """A block whose sectors are of these versions, the last one to the end."""
    wanted = [*versions, *[versions[-1]] * (SECTORS - len(versions))]
    return b"".join(sector_content(block, version, sector) for sector, version in enumerate(wanted))


class HistoryTests(SynchronousTestCase):
    """The judge of what a client reads."""

    def setUp(self) -> None:
        self.history = History(8)

    def written(self, block: int, *, session: int = 1, fua: bool = False, zero: bool = False) -> int:
        """A change that was answered."""
        version = self.history.issue(block, zero=zero)
        self.history.acknowledged(block, version, session, durable=fua)
        return version

    def refused(self, block: int, data: bytes, words: str, *, session: int = 1) -> None:
        """This must not be found there."""
        error = self.assertRaises(Violation, self.history.check, block, data, session)
        self.assertIn(words, str(error))

    def test_never_written(self) -> None:
        """A block that nobody has written is zeroes."""
        self.history.check(3, ZEROES, 1)
        self.refused(3, block_content(3, 1), "never written")

    def test_acknowledged_is_read(self) -> None:
        """What was acknowledged is found, and what was there before is stale, also in one sector."""
        old = self.written(2)
        new = self.written(2)
        self.history.check(2, block_content(2, new), 1)
        self.refused(2, block_content(2, old), "stale")
        self.refused(2, mixed(2, new, old, new), "sector 1 is stale")
        self.refused(2, ZEROES, "stale")

    def test_somebody_elses(self) -> None:
        """The content of another block, or another sector, is named."""
        self.written(2)
        self.written(3)
        self.refused(2, block_content(3, 1), "content of block 3")
        data = block_content(2, 1)
        self.refused(2, data[512:1024] + data[512:], "content of block 2, sector 1")

    def test_mixed_inside_a_sector(self) -> None:
        """A sector that is half of one version and half of another is a mixture."""
        self.written(2)
        self.written(2)
        torn = bytearray(block_content(2, 2))
        torn[256:512] = block_content(2, 1)[256:512]
        self.refused(2, bytes(torn), "mixture")

    def test_unanswered(self) -> None:
        """A change that was not answered may be there or not, sector by sector; what was seen stays."""
        old = self.written(2)
        new = self.history.issue(2)
        self.history.check(2, block_content(2, old), 1)
        self.history.check(2, mixed(2, old, new, old), 1)
        self.refused(2, block_content(2, old), "sector 1 is stale")
        self.history.check(2, block_content(2, new), 1)
        self.refused(2, mixed(2, old, new), "sector 0 is stale")

    def test_settled(self) -> None:
        """What was not there when all had ended does not come later."""
        old = self.written(2)
        late = self.history.issue(2)
        self.history.check(2, block_content(2, old), 1, settle=True)
        self.history.settled()
        self.refused(2, block_content(2, late), "came late")

    def test_overtaken(self) -> None:
        """After something newer was acknowledged, a change that was never answered must not appear."""
        late = self.history.issue(2)
        new = self.written(2, session=2)
        self.history.check(2, block_content(2, new), 2)
        self.refused(2, block_content(2, late), "stale")

    def test_trimmed(self) -> None:
        """What was trimmed reads as zeroes."""
        self.written(2)
        self.written(2, zero=True)
        self.history.check(2, ZEROES, 1)
        self.refused(2, block_content(2, 1), "stale")
        self.refused(2, block_content(2, 2), "never written")

    def test_loss(self) -> None:
        """After a loss of power of everything each sector may be as old as the last flush, and no older."""
        first = self.written(2)
        second = self.written(2)
        self.history.flushed(self.history.flush_issued(1))
        third = self.written(2)
        self.refused(2, block_content(2, second), "stale")
        self.history.power_lost()
        self.refused(2, block_content(2, first), "lost, it was flushed", session=2)
        self.history.check(2, mixed(2, second, third, second), 2)
        self.assertEqual(7, self.history.lost_sectors)

    def test_loss_reads_stay(self) -> None:
        """What was found after a loss, once everything has ended, stays."""
        self.written(2)
        self.history.flushed(self.history.flush_issued(1))
        third = self.written(2)
        self.history.power_lost()
        self.history.check(2, block_content(2, 1), 2, settle=True)
        self.history.settled()
        self.refused(2, block_content(2, third), "came late", session=2)

    def test_loss_must_be_told(self) -> None:
        """Who was told that a write is done does not find it lost in the same session."""
        self.written(2, session=5)
        self.history.power_lost()
        self.refused(2, ZEROES, "session 5 was not told", session=5)
        self.history.check(2, ZEROES, 6)

    def test_forced(self) -> None:
        """What was written with FUA survives, and so does what was flushed after it had been acknowledged."""
        self.written(2, fua=True)
        self.written(3)
        late = self.history.flush_issued(1)
        self.written(4)
        self.history.flushed(late)
        self.history.power_lost()
        self.refused(2, ZEROES, "lost, it was flushed", session=2)
        self.refused(3, ZEROES, "lost, it was flushed", session=2)
        self.history.check(4, ZEROES, 2)

    def test_flush_of_another_session(self) -> None:
        """A flush after a loss proves nothing of what another session was told before it; without a loss it does."""
        self.written(2, session=1)
        self.history.power_lost()
        self.written(3, session=2)
        self.written(4, session=1)  # the answer was under way when the power went
        self.history.flushed(self.history.flush_issued(3))
        self.history.check(2, ZEROES, 3)
        self.history.check(4, ZEROES, 3)
        self.refused(3, ZEROES, "lost, it was flushed", session=3)

    def test_lost_and_flushed(self) -> None:
        """What was found lost is not made durable by the next flush, and what is there is."""
        self.written(2)
        second = self.written(2)
        self.history.power_lost()
        self.history.check(2, block_content(2, 1), 2, settle=True)
        self.history.settled()
        self.history.all_flushed()
        self.history.power_lost()
        self.history.check(2, block_content(2, 1), 3)
        self.refused(2, ZEROES, "lost, it was flushed", session=3)
        self.refused(2, block_content(2, second), "came late", session=3)
