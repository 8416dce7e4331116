"""Tests of L{dst.testing.media}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.testing.media import SECTOR_BYTES, UNFLUSHED_BYTES_MAX, CachedWrite, SimulatedMedia


class SimulatedMediaTests(SynchronousTestCase):
    """What is stable, and what a power cut leaves."""

    def test_unflushed_is_read(self) -> None:
        """A write is read back at once, and is not stable."""
        media = SimulatedMedia(1 << 20)
        media.write(10, b"data")
        self.assertEqual(b"data", media.read(10, 4))
        self.assertEqual(bytes(4), media.read_stable(10, 4))
        self.assertEqual([CachedWrite(10, 4, b"data")], media.unflushed)

    def test_flushed_survives(self) -> None:
        """What was flushed or forced survives a power cut, whatever else is lost."""
        media = SimulatedMedia(1 << 20)
        media.write(0, b"a" * 100)
        media.flush()
        media.write(50, b"b" * 100)
        media.write(60, b"c" * 10, fua=True)
        media.zero(62, 2, fua=True)
        media.lose_unflushed("none")
        expected = b"a" * 60 + b"cc" + bytes(2) + b"c" * 6 + b"a" * 30
        self.assertEqual(expected, media.read(0, 100))
        self.assertEqual(bytes(50), media.read(100, 50))

    def test_older_write_does_not_cover_forced_one(self) -> None:
        """A cached write that survives does not come back over a later one that was forced."""
        media = SimulatedMedia(1 << 20)
        media.write(0, b"old")
        media.write(0, b"new", fua=True)
        media.lose_unflushed("all")
        self.assertEqual(b"new", media.read(0, 3))

    def test_incarnation(self) -> None:
        """Flushing keeps the incarnation; losing the cache changes it."""
        media = SimulatedMedia(1 << 20)
        before = media.incarnation
        media.write(0, b"x")
        media.flush()
        self.assertEqual(before, media.incarnation)
        media.lose_unflushed("all")
        self.assertNotEqual(before, media.incarnation)

    def test_random_loss(self) -> None:
        """Over many seeds a cut leaves each of two writes to a sector, or none, and tears longer ones by sectors."""
        seen = set()
        torn = 0
        for seed in range(100):
            media = SimulatedMedia(1 << 20, seed=seed)
            media.write(0, b"1" * SECTOR_BYTES)
            media.write(0, b"2" * SECTOR_BYTES)
            media.write(4096, b"3" * 4096)
            media.lose_unflushed()
            sector = media.read(0, SECTOR_BYTES)
            self.assertEqual(1, len(set(sector)))
            seen.add(sector[0])
            sectors = [media.read(at, SECTOR_BYTES) for at in range(4096, 8192, SECTOR_BYTES)]
            self.assertLessEqual(set(sectors), {b"3" * SECTOR_BYTES, bytes(SECTOR_BYTES)})
            torn += len(set(sectors)) == 2
        self.assertEqual({0, ord("1"), ord("2")}, seen)
        self.assertGreater(torn, 10)

    def test_seed(self) -> None:
        """The same seed and history lose the same."""

        def left(seed: int) -> bytes:
            media = SimulatedMedia(1 << 20, seed=seed)
            for number in range(50):
                media.write(number * 1000, bytes([number + 1]) * 1000)
            media.lose_unflushed()
            return media.read(0, 50_000)

        self.assertEqual(left(7), left(7))
        self.assertGreater(len({left(seed) for seed in range(5)}), 1)

    def test_chosen_loss(self) -> None:
        """A function chooses write by write what survives."""
        media = SimulatedMedia(1 << 20)
        for number in range(4):
            media.write(number * 512, bytes([number + 1]) * 512)
        media.lose_unflushed(lambda write: write.offset in (512, 1536))
        self.assertEqual([0, 2, 0, 4], [media.read(number * 512, 1)[0] for number in range(4)])

    def test_bounded_cache(self) -> None:
        """The cache writes the oldest back when it is full, so that it cannot grow without end."""
        media = SimulatedMedia(UNFLUSHED_BYTES_MAX)
        for offset in range(0, UNFLUSHED_BYTES_MAX, 1 << 20):
            media.write(offset, b"x" * (1 << 20))
        self.assertEqual(b"x", media.read_stable(0, 1))
        self.assertEqual(b"\0", media.read_stable(UNFLUSHED_BYTES_MAX - 1, 1))

    def test_lying_disk(self) -> None:
        """A disk that ignores flushes loses what it said was stable."""
        media = SimulatedMedia(1 << 20)
        media.ignores_flushes = True
        media.write(0, b"x", fua=True)
        media.flush()
        media.lose_unflushed("none")
        self.assertEqual(b"\0", media.read(0, 1))

    def test_rot(self) -> None:
        """Rot changes the bytes it is told to, for good, and nothing else."""
        media = SimulatedMedia(1 << 20)
        media.write(0, b"abcd")
        media.flush()
        media.rot(1, 2)
        media.lose_unflushed()
        self.assertEqual(b"a" + bytes([ord("b") ^ 1, ord("c") ^ 1]) + b"d", media.read(0, 4))
