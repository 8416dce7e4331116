"""Tests of L{dst.simulation.history}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.simulation.history import History, fill, versions_in
from dst.simulation.world import WrongData


class VersionTests(SynchronousTestCase):
    """Sectors that say which write they are of."""

    def test_round(self) -> None:
        """What is written can be read back, sector by sector."""
        self.assertEqual([7, 7, 0, 300], versions_in(fill(7, 2) + bytes(512) + fill(300, 1), 0))

    def test_mixed(self) -> None:
        """A sector of two writes is wrong, wherever the two meet."""
        for at in (1, 8, 300, 504):
            error = self.assertRaises(WrongData, versions_in, bytes(512) + fill(1, 1)[:at] + fill(2, 1)[at:], 10)
            self.assertIn("sector 11", error.message)


class HistoryTests(SynchronousTestCase):
    """What clients may read, by what they did."""

    def setUp(self) -> None:
        self.history = History("vol", lambda: "all is well")
        self.history.met(b"first")

    def write(self, sector: int = 0, count: int = 1, *, forced: bool = False) -> int:
        """An acknowledged write; its version."""
        writing = self.history.write(sector, count, "write", forced)
        self.history.written_well(writing)
        return writing.version

    def read(self, *versions: int, sector: int = 0) -> None:
        """A read that returns these."""
        reading = self.history.read(sector, len(versions))
        self.history.was_read(reading, b"".join(fill(version, 1) for version in versions))

    def wrong(self, *versions: int, sector: int = 0) -> None:
        """A read that returns these breaks a promise."""
        error = self.assertRaises(WrongData, self.read, *versions, sector=sector)
        self.assertIn("it may be", error.message)

    def flush(self) -> None:
        """An acknowledged flush."""
        self.history.flushed(self.history.flush())

    def test_never_written(self) -> None:
        """What was never written is zero."""
        self.read(0, 0)
        self.wrong(1)

    def test_acknowledged(self) -> None:
        """What was acknowledged is read from then on, and nothing older."""
        first = self.write()
        self.read(first)
        second = self.write(0, 2)
        self.read(second, second)
        self.wrong(first)
        self.wrong(0)

    def test_under_way(self) -> None:
        """While a write is under way a read may return either; once the new one was read the old one is no more."""
        old = self.write()
        writing = self.history.write(0, 1, "write", False)
        self.read(old)
        self.read(old)
        early = self.history.read(0, 1)
        self.read(writing.version)
        self.history.was_read(early, fill(old, 1))
        self.history.not_written(writing)
        self.read(writing.version)
        self.wrong(old)

    def test_no_answer(self) -> None:
        """A write without an answer happened or not; what is read first is what it is."""
        old = self.write()
        writing = self.history.write(0, 1, "write", False)
        self.history.not_written(writing)
        self.history.written_well(writing)  # an answer that nobody waits for any more says nothing
        self.read(old)
        self.wrong(writing.version)
        new = self.write()
        self.read(new)
        self.wrong(writing.version)

    def test_together(self) -> None:
        """Two writes that were under way together get either order, once and for all."""
        old = self.write()
        one, other = (self.history.write(0, 1, "write", False) for _ in range(2))
        self.history.written_well(other)
        self.history.written_well(one)
        reading = self.history.read(0, 1)
        self.history.was_read(reading, fill(other.version, 1))
        self.wrong(one.version)
        self.wrong(old)

    def test_one_after_the_other(self) -> None:
        """A write that ended before another one began is overwritten by it, whatever was under way beside both."""
        slow = self.history.write(0, 1, "write", False)
        first = self.write()
        second = self.write()
        self.wrong(first)
        self.read(second)
        self.history.written_well(slow)
        self.wrong(first)

    def test_zeroes(self) -> None:
        """A trim reads as zero."""
        self.write(0, 2)
        self.history.written_well(self.history.write(0, 1, "trim", False))
        self.read(0)
        self.wrong(1)

    def test_told_of_a_loss(self) -> None:
        """When clients were told, unflushed writes may be gone, each sector by itself; flushed ones may not."""
        safe = self.write(0, 2)
        self.flush()
        new = self.write(0, 2)
        self.wrong(safe, new)
        self.history.met(b"second")
        self.assertEqual(1, self.history.told_losses)
        self.read(safe, new)
        self.wrong(new, new)
        self.history.met(b"first")
        self.assertEqual(1, self.history.told_losses)

    def test_not_told(self) -> None:
        """The same loss without a word is wrong."""
        self.write()
        self.flush()
        self.write()
        self.history.met(b"first")
        self.wrong(1)

    def test_forced(self) -> None:
        """A forced write is as good as flushed."""
        self.write()
        forced = self.write(forced=True)
        self.history.met(b"second")
        self.read(forced)
        self.wrong(1)

    def test_flush_covers_what_was_acknowledged(self) -> None:
        """A flush covers what was acknowledged when it was sent, and not what came later."""
        old = self.write()
        flushing = self.history.flush()
        new = self.write()
        self.history.flushed(flushing)
        self.history.met(b"second")
        reading = self.history.read(0, 1)
        self.assertEqual({old, new}, reading.may[0])

    def test_failed_flush(self) -> None:
        """A flush that failed covers nothing."""
        self.write()
        self.history.not_flushed(self.history.flush())
        self.history.met(b"second")
        self.read(0)

    def test_busy(self) -> None:
        """It knows what is still under way."""
        writing, flushing = self.history.write(0, 1, "write", False), self.history.flush()
        self.assertEqual(2, self.history.busy)
        self.history.not_written(writing)
        self.history.not_flushed(flushing)
        self.assertEqual(0, self.history.busy)
