"""Tests of L{dst.algorithms.stripe} that are not those of every storage."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.joined_places import JoinedOptions
from dst.algorithms.stripe import CHUNK_BYTES_DEFAULT, Stripe, StripeProvider
from dst.errors import ConfigurationError, Unavailable
from dst.status import LinkState
from dst.testing import FaultyDevice, SimulatedDisk, SimulatedMedia
from test.algorithms.joined_media import JoinedCase, check_pieces, members_bytes

UNIT = 4096


def stripe(width: int, unit: int, chunks: int = 1 << 20) -> Stripe:
    """One whose arithmetic can be asked."""
    clock = Clock()
    nodes = [SimulatedDisk(clock, f"d{n}", SimulatedMedia(1)) for n in range(width)]
    made = Stripe(clock, "vol", nodes, JoinedOptions(unit=unit))
    members_bytes(made, [chunks * unit] * width)
    return made


class MappingTests(SynchronousTestCase):
    """Where the bytes are."""

    @given(st.integers(1, 9), st.sampled_from([4096, 8192, 65536]), st.integers(0, 3 << 20), st.integers(1, 3 << 20))
    @settings(deadline=None)
    def test_covers(self, width: int, unit: int, offset: int, length: int) -> None:
        """Pieces and runs cover any extent exactly once, with one run for each member."""
        check_pieces(self, stripe(width, unit), offset, length)

    @given(st.integers(1, 9), st.sampled_from([4096, 65536]), st.integers(0, 1 << 40))
    @settings(deadline=None)
    def test_inverse(self, width: int, unit: int, offset: int) -> None:
        """From the place and offset of a byte follows where it stands in the content."""
        (piece,) = stripe(width, unit, 1 << 30).pieces(offset, 1)
        row, inside = divmod(piece.offset, unit)
        self.assertEqual(offset, (row * width + piece.place) * unit + inside)

    @given(st.integers(1, 5), st.integers(1, 12))
    @settings(deadline=None)
    def test_every_byte_has_a_place(self, width: int, chunks: int) -> None:
        """The whole content fills the members, each to its end."""
        made = stripe(width, UNIT, chunks)
        runs = made.runs(0, width * chunks * UNIT)
        self.assertEqual([(n, 0, chunks * UNIT) for n in range(width)], [(r.place, r.offset, r.length) for r in runs])

    def test_turns(self) -> None:
        """Chunks go to the members in turn."""
        pieces = stripe(3, UNIT).pieces(2 * UNIT - 10, 3 * UNIT)
        self.assertEqual(
            [
                (1, UNIT - 10, 10, 0),
                (2, 0, UNIT, 10),
                (0, UNIT, UNIT, UNIT + 10),
                (1, UNIT, UNIT - 10, 2 * UNIT + 10),
            ],
            [(piece.place, piece.offset, piece.length, piece.start) for piece in pieces],
        )

    def test_large_trim_is_one_run_each(self) -> None:
        """However large an extent is, what has no data is one operation on each member, found at once."""
        runs = stripe(4, UNIT, 1 << 40).runs(5, 1 << 50)
        self.assertEqual(4, len(runs))
        self.assertEqual(1 << 50, sum(run.length for run in runs))


class StripeTests(JoinedCase):
    """On media."""

    kind = Stripe
    options = JoinedOptions(unit=UNIT)

    def test_on_media(self) -> None:
        """Data starts at offset 0 of each member and is dealt out by chunks."""
        content = self.made()
        for n, each in enumerate(self.media):
            chunks = [content[at : at + UNIT] for at in range(n * UNIT, len(content), 3 * UNIT)]
            self.assertEqual(b"".join(chunks), each.read(0, len(content) // 3))

    def test_smallest_counts(self) -> None:
        """Each member gives as much as the smallest can, in whole chunks."""
        self.media[1] = SimulatedMedia(self.member_bytes - 50_000)
        storage = self.opened()
        capacity = (self.member_bytes - 50_000) // 4096 * 4096 - 65536
        self.assertEqual(3 * capacity, storage.geometry.size)

    def test_chunk_size_of_media(self) -> None:
        """The chunk size on the media counts, whatever the topology says later."""
        content = self.made()
        for unit in (0, UNIT, 1 << 16):
            storage = self.opened(options=JoinedOptions(unit=unit))
            self.assertEqual(content, self.result(storage.read(0, len(content))))
            self.assertEqual({"chunk_size": UNIT}, storage.status().detail)
            self.closed(storage)

    def test_order_in_topology(self) -> None:
        """Given in any order, and under other names, the members assemble as they were."""
        content = self.made()
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            storage = self.opened([self.media[n] for n in order], names="xyz")
            self.assertEqual(content, self.result(storage.read(0, len(content))))
            self.closed(storage)

    def test_too_small(self) -> None:
        """Members without room for a chunk make no storage, and nothing is written to any."""
        self.media[2] = SimulatedMedia(66_000)
        before = self.everything()
        storage = self.opened()
        self.assertIs(LinkState.AWAY, storage.link)
        self.assertIn("too small", storage.reason)
        self.assertEqual(before, self.everything())


class FirstStartTests(SynchronousTestCase):
    """A storage that is being made when something fails."""

    def world(self) -> tuple[Clock, list[FaultyDevice], Stripe]:
        """Three blank members."""
        clock = Clock()
        disks = [
            FaultyDevice(clock, SimulatedDisk(clock, f"d{n}", SimulatedMedia(1 << 20, seed=n))) for n in range(3)
        ]
        return clock, disks, Stripe(clock, "vol", disks, JoinedOptions(unit=4096))

    def test_interrupted_at_every_write(self) -> None:
        """Whichever write of a label fails, the storage is made in the end, by itself."""
        for which in range(3):
            for skip in range(4):
                clock, disks, storage = self.world()
                disks[which].fail_next("write", Unavailable("blip"), skip=skip)
                storage.open()
                clock.pump([1] * 20)
                self.assertIs(LinkState.READY, storage.link, storage.reason)

    def test_owner_dies_at_every_write(self) -> None:
        """Wherever the owner dies, the next one finishes it, and the members are in sync."""
        for steps in range(13):
            clock, disks, storage = self.world()
            for disk in disks:
                disk.hold("write")
            storage.open()
            for step in range(steps):
                disks[step // 2 % 3].release(1)
            again = [FaultyDevice(clock, SimulatedDisk(clock, disk.name, disk.media)) for disk in disks]
            second = Stripe(clock, "vol", again, JoinedOptions(unit=4096))
            second.open()
            clock.pump([1] * 5)
            self.assertIs(LinkState.READY, second.link, second.reason)
            self.assertEqual({"in-sync"}, {child.state for child in second.status().children})
            for disk in disks:
                disk.drop_held(Unavailable("the first owner is dead"))
            storage.close()
            clock.advance(1)

    def test_command_that_fails(self) -> None:
        """A command is answered, whatever happens."""
        clock, disks, storage = self.world()
        disks[0].media.write(0, b"data")
        storage.open()
        clock.advance(1)
        disks[1].fail_next("write", Unavailable("blip"))
        done = storage.initialise(discard=True)
        clock.advance(1)
        self.failureResultOf(done, Unavailable)
        clock.pump([1] * 5)
        self.assertIs(LinkState.READY, storage.link, storage.reason)


class StripeProviderTests(SynchronousTestCase):
    """What a topology may say."""

    def made(self, nodes: int = 2, **options: object) -> Stripe:
        clock = Clock()
        disks = [SimulatedDisk(clock, f"d{n}", SimulatedMedia(1)) for n in range(nodes)]
        storage = StripeProvider().storage(clock, "vol", disks, options, None)
        assert isinstance(storage, Stripe)
        return storage

    def test_options(self) -> None:
        """Each option reaches the storage, and each has its default."""
        self.assertEqual(JoinedOptions("freeze", 30.0, CHUNK_BYTES_DEFAULT), self.made().options)
        chosen = self.made(on_loss="error", freeze_s=7, chunk_size="128K").options
        self.assertEqual(JoinedOptions("error", 7.0, 128 * 1024), chosen)

    def test_wrong(self) -> None:
        """What is wrong is told with what was found and what was expected."""
        wrong: list[tuple[dict[str, object], str]] = [
            ({"chunk_size": 5000}, "5000"),
            ({"chunk_size": 2048}, "4096"),
            ({"on_loss": "panic"}, "panic"),
            ({"freeze_s": -1}, "freeze_s"),
            ({"chunks": 1}, "chunk_size"),
        ]
        for options, says in wrong:
            with self.assertRaises(ConfigurationError) as caught:
                self.made(**options)
            self.assertIn(says, caught.exception.message)
        for count in (0, 257):
            with self.assertRaises(ConfigurationError) as caught:
                self.made(count)
            self.assertIn(f"has {count} nodes", caught.exception.message)
