"""Tests of L{dst.algorithms.linear}, and of what it shares with a stripe: who is whose member, and what is away."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.joined_places import JoinedOptions
from dst.algorithms.linear import Linear, LinearProvider
from dst.algorithms.stripe import Stripe
from dst.errors import ConfigurationError, InvalidRequest, MediaError, NotSupported, Unavailable
from dst.label.zone import LABELS_BYTES, label_offset
from dst.status import Health, LinkState
from dst.testing import SimulatedDisk, SimulatedMedia
from test.algorithms.joined_media import JoinedCase, check_pieces, members_bytes

extents = st.integers(1, 60_000)


class MappingTests(SynchronousTestCase):
    """Where the bytes are."""

    @given(st.lists(extents, min_size=1, max_size=8), st.data())
    @settings(deadline=None)
    def test_covers(self, sizes: list[int], data: st.DataObject) -> None:
        """Pieces and runs cover any extent exactly once, and each byte stands behind all members before its own."""
        clock = Clock()
        made = Linear(clock, "vol", [SimulatedDisk(clock, "d", SimulatedMedia(1))])
        members_bytes(made, sizes)
        offset = data.draw(st.integers(0, sum(sizes) - 1))
        length = data.draw(st.integers(1, sum(sizes) - offset))
        check_pieces(self, made, offset, length)
        for piece in made.pieces(offset, length):
            self.assertEqual(offset + piece.start, sum(sizes[: piece.place]) + piece.offset)


class LinearCase(JoinedCase):
    """Three disks of different sizes."""

    kind = Linear

    def setUp(self) -> None:
        self.media = [SimulatedMedia((1 << 20) + n * 50_000, seed=n) for n in range(3)]


class LinearTests(LinearCase):
    """On media."""

    def test_on_media(self) -> None:
        """Data starts at offset 0 of each member, one member behind the other."""
        content = self.made()
        at = 0
        for each in self.media:
            size = label_offset(each.size)
            self.assertEqual(content[at : at + size], each.read(0, size))
            at += size
        self.assertEqual(len(content), at)

    def test_one_member(self) -> None:
        """A linear of one is that one."""
        self.media = self.media[:1]
        content = self.made()
        storage = self.opened()
        self.assertEqual(content, self.result(storage.read(0, len(content))))


class AssemblyTests(LinearCase):
    """The right media at the right place."""

    def refused(self, storage: Linear, name: str) -> str:
        """The storage does not serve, because of this member; its reason."""
        self.assertIs(LinkState.AWAY, storage.link)
        self.assertIn(f"{name}: ", storage.reason)
        (child,) = [child for child in storage.status().children if child.name == name]
        self.assertEqual("refused", child.state)
        return child.reason

    def test_order_in_topology(self) -> None:
        """Given in any order, and under other names, the members assemble as they were."""
        content = self.made()
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            storage = self.opened([self.media[n] for n in order], names="xyz")
            self.assertEqual(content, self.result(storage.read(0, len(content))))
            self.closed(storage)

    def test_first_start_waits(self) -> None:
        """A new storage is made when all members are there; nothing is written before."""
        storage = self.opened(away="b")
        self.assertIs(LinkState.AWAY, storage.link)
        self.assertIn("waiting for b", storage.reason)
        self.assertEqual([bytes(each.size) for each in self.media], self.everything())
        self.disks[1].plug_in()
        self.pass_time()
        self.assertIs(LinkState.READY, storage.link)

    def test_first_start_holds_data(self) -> None:
        """Unlabelled members that hold something are left alone until a person discards it."""
        self.media[1].write(1000, b"somebody's")
        before = self.everything()
        storage = self.opened()
        self.assertIn("--discard", storage.reason)
        self.failureResultOf(storage.initialise("b"), InvalidRequest)
        self.failureResultOf(storage.initialise(), InvalidRequest)
        self.assertEqual(before, self.everything())
        self.result(storage.initialise(discard=True))
        self.assertIs(LinkState.READY, storage.link)

    def test_blank_media(self) -> None:
        """Blank media at a member's place is refused and stays blank: there is no copy of what stood there."""
        self.made()
        self.media[1] = SimulatedMedia(self.media[1].size)
        self.assertIn("no second copy", self.refused(self.opened(), "b"))
        self.assertEqual(bytes(self.media[1].size), self.everything()[1])

    def test_right_media_comes_back(self) -> None:
        """When the right media is back the storage serves, with no command."""
        content = self.made()
        right, self.media[1] = self.media[1], SimulatedMedia(self.media[1].size)
        storage = self.opened()
        self.refused(storage, "b")
        self.disks[1].pull()
        self.disks[1].inner.media = right  # type: ignore[attr-defined]
        self.disks[1].plug_in()
        self.pass_time()
        self.assertEqual(content, self.result(storage.read(0, len(content))))

    def test_mixed_up(self) -> None:
        """Members of two storages make none, and nothing is written to them."""
        self.made()
        ours = self.media
        self.setUp()
        self.media = [SimulatedMedia(each.size, seed=50 + n) for n, each in enumerate(ours)]
        self.made()
        self.media[:2] = ours[:2]
        before = self.everything()
        storage = self.opened()
        self.assertIs(LinkState.AWAY, storage.link)
        self.assertIn("different storages", storage.reason)
        self.assertEqual(before, self.everything())

    def test_foreign_member_of_known_storage(self) -> None:
        """Media of another storage that appears later is refused, named and untouched."""
        self.made()
        ours = self.media
        self.media = [SimulatedMedia(each.size, seed=50 + n) for n, each in enumerate(ours)]
        self.made()
        foreign = self.media[2]
        before = foreign.read(0, foreign.size)
        self.media = [*ours[:2], foreign]
        storage = self.opened(away="c")
        self.disks[2].plug_in()
        self.pass_time()
        self.assertIn("another storage", self.refused(storage, "c"))
        self.assertEqual(before, foreign.read(0, foreign.size))

    def test_cloned_member(self) -> None:
        """Two copies of one member are not two members."""
        self.made()
        self.media[2] = SimulatedMedia(self.media[1].size)
        self.media[2].write(0, self.media[1].read(0, self.media[1].size))
        self.assertIn("another member's place", self.refused(self.opened(), "c"))

    def test_another_algorithm(self) -> None:
        """The members of a linear are no stripe."""
        self.made()
        self.kind = Stripe
        before = self.everything()
        storage = self.opened()
        self.assertIn("those of a linear", storage.reason)
        self.assertIs(LinkState.AWAY, storage.link)
        self.assertEqual(before, self.everything())

    def test_too_few(self) -> None:
        """A topology that names fewer or more members than the storage has is told so."""
        self.made()
        for media in (self.media[:2], [*self.media, SimulatedMedia(1 << 20)]):
            storage = self.opened(media)
            self.assertIs(LinkState.AWAY, storage.link)
            self.assertIn(f"has 3 members and the topology names {len(media)}", storage.reason)
            self.closed(storage)

    def test_damaged_label(self) -> None:
        """A member with one good label slot serves; with none it is refused and left alone."""
        content = self.made()
        at = label_offset(self.media[1].size)
        self.media[1].write(at + 100, b"?")
        storage = self.opened()
        self.assertEqual(content, self.result(storage.read(0, len(content))))
        self.closed(storage)
        self.media[1].write(at + LABELS_BYTES // 2 + 100, b"?")
        before = self.everything()
        self.assertIn("unusable", self.refused(self.opened(), "b"))
        self.assertEqual(before, self.everything())

    def test_no_copies(self) -> None:
        """What needs a second copy says that there is none."""
        storage = self.opened()
        for done in (
            storage.suspend("a"),
            storage.resume("a"),
            storage.mark_clean("a"),
            storage.mark_dirty("a"),
            storage.replace("a", SimulatedDisk(self.clock, "x", SimulatedMedia(1))),
        ):
            error = self.failureResultOf(done, NotSupported).value
            self.assertIn("no second copy", str(error))


class AwayTests(LinearCase):
    """A member is away."""

    def second(self, storage: Linear) -> int:
        """The first byte of the second member."""
        return storage.sizes[0]

    def test_freeze(self) -> None:
        """Operations that need the member wait and are done when it is back; nobody sees an error."""
        content = self.made()
        storage = self.opened()
        self.disks[1].pull()
        self.pass_time(1)
        self.assertIs(LinkState.INTERRUPTED, storage.link)
        self.assertIs(Health.FROZEN, storage.status().health)
        at = self.second(storage)
        write, read = storage.write(at, b"new" * 1000), storage.read(at + 10_000, 100)
        flush = storage.flush()
        self.pass_time(600)
        for done in (write, read, flush):
            self.assertNoResult(done)
        self.disks[1].plug_in()
        self.pass_time()
        self.result(write)
        self.assertEqual(content[at + 10_000 : at + 10_100], self.result(read))
        self.result(flush)
        self.assertEqual(b"new" * 1000, self.media[1].read_stable(0, 3000))
        self.assertIs(LinkState.READY, storage.link)

    def test_others_go_on(self) -> None:
        """Operations on the other members are not held up."""
        content = self.made()
        storage = self.opened()
        self.disks[1].pull()
        self.pass_time(1)
        self.assertEqual(content[:100], self.result(storage.read(0, 100)))
        self.result(storage.write(len(content) - 10, b"x" * 10))

    def test_order_after_freeze(self) -> None:
        """Overlapping writes that waited are done in the order in which they were asked for."""
        self.made()
        storage = self.opened()
        self.disks[1].pull()
        self.pass_time(1)
        at = self.second(storage)
        writes = [storage.write(at - 50, bytes([n]) * 100) for n in range(20)]
        self.disks[1].plug_in()
        self.pass_time()
        for write in writes:
            self.result(write)
        self.assertEqual(bytes([19]) * 100, self.result(storage.read(at - 50, 100)))

    def test_freeze_ends(self) -> None:
        """With C{error} they wait as long as is set, then fail, and later ones at once, until the member is back."""
        self.made()
        storage = self.opened(options=JoinedOptions("error", 30.0))
        self.disks[1].pull()
        self.pass_time(1)
        write = storage.write(self.second(storage), b"new")
        self.pass_time(25)
        self.assertNoResult(write)
        self.pass_time(6)
        self.failureResultOf(write, Unavailable)
        self.assertIs(LinkState.AWAY, storage.link)
        self.failureResultOf(storage.write(self.second(storage), b"new"), Unavailable)
        self.disks[1].plug_in()
        self.pass_time()
        self.assertIs(LinkState.READY, storage.link)
        self.result(storage.write(self.second(storage), b"new"))

    def test_error(self) -> None:
        """Where it is to fail, what needs the member fails at once and says which one."""
        self.made()
        storage = self.opened(options=JoinedOptions("error"))
        self.disks[1].pull()
        at = self.second(storage)
        self.failureResultOf(storage.read(at, 100), Unavailable)
        self.pass_time(1)
        self.assertIs(LinkState.AWAY, storage.link)
        error = self.failureResultOf(storage.read(at, 100), Unavailable).value
        self.assertIn("b: ", str(error))

    def test_restarted_member(self) -> None:
        """A member that may have lost what was not flushed gives the storage another incarnation."""
        self.made()
        storage = self.opened()
        before = storage.incarnation
        self.disks[1].power_cut("none")
        self.disks[1].plug_in()
        self.pass_time()
        self.assertIs(LinkState.READY, storage.link)
        self.assertNotEqual(before, storage.incarnation)

    def test_same_incarnation(self) -> None:
        """A blip, and a restart of the owner, do not."""
        self.made()
        storage = self.opened()
        before = storage.incarnation
        self.disks[1].pull()
        self.pass_time(1)
        self.disks[1].plug_in()
        self.pass_time()
        self.assertEqual(before, storage.incarnation)
        self.closed(storage)
        self.assertEqual(before, self.opened([self.media[n] for n in (2, 0, 1)]).incarnation)

    def test_media_errors_travel(self) -> None:
        """An error of a member's media is the storage's own, and nothing waits for it to go away."""
        self.made()
        storage = self.opened()
        for operation in (
            lambda at: storage.read(at, 10),
            lambda at: storage.write(at, b"x"),
            lambda at: storage.trim(at, 5),
        ):
            self.disks[1].fail_next("read write trim", MediaError("worn out"))
            self.failureResultOf(operation(self.second(storage)), MediaError)

    def test_close_while_frozen(self) -> None:
        """What waits fails when the storage is closed, and no timer is left."""
        self.made()
        storage = self.opened(options=JoinedOptions("freeze", 30.0))
        self.disks[1].pull()
        self.pass_time(1)
        read = storage.read(self.second(storage), 10)
        self.closed(storage)
        self.failureResultOf(read, Unavailable)
        self.pass_time(1)
        self.assertEqual([], self.clock.getDelayedCalls())


class LargeTests(LinearCase):
    """Changes of nearly everything."""

    def setUp(self) -> None:
        self.media = [SimulatedMedia(8 << 20, seed=n) for n in range(3)]

    def test_many_trims(self) -> None:
        """However many large trims wait, they take a place each and not one for every MiB, and a write its turn."""
        self.made()
        storage = self.opened()
        size = storage.geometry.size
        self.disks[1].pull()
        self.pass_time(1)
        changes = [storage.trim(0, size) for _ in range(50)]
        changes += [storage.write_zeroes(0, size, no_hole=True) for _ in range(50)]
        changes.append(storage.write(size // 2, b"new"))
        self.assertEqual(1, sum(len(held) for held in storage._order.by_region.values()))
        self.disks[1].plug_in()
        self.pass_time()
        for change in changes:
            self.result(change)
        self.assertEqual(b"\0new\0", self.result(storage.read(size // 2 - 1, 5)))
        self.assertEqual({}, storage._order.by_region)


class LinearProviderTests(SynchronousTestCase):
    """What a topology may say."""

    def made(self, nodes: int = 2, **options: object) -> Linear:
        clock = Clock()
        disks = [SimulatedDisk(clock, f"d{n}", SimulatedMedia(1)) for n in range(nodes)]
        storage = LinearProvider().storage(clock, "vol", disks, options, None)
        assert isinstance(storage, Linear)
        return storage

    def test_options(self) -> None:
        """Each option reaches the storage, and each has its default."""
        self.assertEqual(JoinedOptions("freeze", 30.0, 0), self.made().options)
        self.assertEqual(JoinedOptions("error", 1.5, 0), self.made(on_loss="error", freeze_s=1.5).options)

    def test_wrong(self) -> None:
        """A linear has no chunks, and needs a member."""
        self.assertRaises(ConfigurationError, self.made, chunk_size=65536)
        self.assertRaises(ConfigurationError, self.made, 0)
