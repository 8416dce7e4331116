"""
What people see of a mirror: how it starts, what a member's loss costs, what is refused, what they can do by hand.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.algorithms.mirror.member import CountedDevice, Member
from dst.errors import (
    DSTError,
    IncarnationChanged,
    InvalidRequest,
    MediaError,
    NoSpace,
    NotFound,
    Unavailable,
)
from dst.interfaces import MemberOptions
from dst.label.zone import LABELS_BYTES, label_offset
from dst.nodes.memory import MemoryDevice
from dst.status import Health, LinkState
from dst.testing import Specimen, block_device_suite
from dst.testing.disk import SimulatedDisk
from dst.testing.media import SECTOR_BYTES, SimulatedMedia
from test.scenarios.world import MEDIA_BYTES, REGION_BYTES, World


def make_counted(case: Any) -> Specimen:
    """What a mirror uses of its members."""
    clock = Clock()
    disk = SimulatedDisk(clock, "d", SimulatedMedia(1 << 20))
    disk.open()
    return Specimen(CountedDevice(Member(0, disk, MemberOptions())), clock=clock)  # type: ignore[arg-type]


class CountedDeviceTests(block_device_suite(CountedDevice, make_counted)):
    """Counting changes nothing."""


class MirrorCase(SynchronousTestCase):
    """A world with a mirror of three."""

    members = 3

    def world(self, members: int = 3, **options: Any) -> World:
        """One whose owner is not started."""
        world = World(members, **options)
        self.addCleanup(world.end)
        return world

    def served(self, members: int = 3, **options: Any) -> World:
        """One that serves, everything in sync."""
        world = self.world(members, **options)
        world.start_owner()
        self.until_in_sync(world)
        return world

    def until_in_sync(self, world: World) -> None:
        """Nobody is asked."""
        world.until("healthy", lambda: world.mirror.status().health is Health.HEALTHY)  # type: ignore[union-attr]
        self.assertEqual(list(range(len(world.media))), world.in_sync)

    def write(self, world: World, sector: int, count: int = 8) -> None:
        """An acknowledged write."""
        done = world.write(sector, count)
        assert done is not None
        self.assertTrue(world.wait_for(done))

    def flush(self, world: World) -> None:
        """An acknowledged flush."""
        done = world.flush()
        assert done is not None
        self.assertTrue(world.wait_for(done))

    def fails(self, error: type[DSTError], done: Any) -> DSTError:
        """It fails like that."""
        return self.failureResultOf(done, error).value  # type: ignore[no-any-return]

    def member(self, world: World, n: int) -> Any:
        """The status of a member."""
        return world.mirror.status().children[n]  # type: ignore[union-attr]

    def copied(self, world: World, n: int) -> int:
        """Bytes that the device of member C{n} was given as data since its history was cleared."""
        data = world.data_sectors * SECTOR_BYTES
        return sum(o.length for o in world.nodes[n].history if o.kind == "write" and o.offset < data)


class FirstStartTests(MirrorCase):
    """How a storage comes into being."""

    def test_blank(self) -> None:
        """All members present, unlabelled and zero: it is made by itself, and nothing is copied."""
        world = self.served()
        self.assertEqual([0, 0, 0], [self.copied(world, n) for n in range(3)])

    def test_waits_for_all(self) -> None:
        """With a member missing it waits, and names it."""
        world = self.world()
        world.plugged[1] = False
        world.start_owner()
        world.advance(5)
        assert world.mirror is not None
        tree = world.mirror.status()
        self.assertIs(Health.FROZEN, tree.health)
        self.assertIn("waiting for n1", tree.reason)
        world.nodes[1].plug_in()
        self.until_in_sync(world)

    def test_holds_something(self) -> None:
        """A member that holds something is not touched before a person says what becomes of it."""
        world = self.world()
        world.media[2].write(100_000, b"somebody's data")
        before = [media.read(0, MEDIA_BYTES) for media in world.media]
        world.start_owner()
        world.advance(5)
        assert world.mirror is not None
        self.assertIn("dst init", world.mirror.status().reason)
        self.assertEqual(before, [media.read(0, MEDIA_BYTES) for media in world.media])
        self.fails(Unavailable, world.mirror.read(0, 512))

    def test_keep(self) -> None:
        """The kept node's data is adopted and copied to the others."""
        world = self.world()
        world.media[0].write(5000, b"worth nothing")
        world.media[2].write(100_000, b"somebody's data")
        world.start_owner()
        world.advance(1)
        assert world.mirror is not None
        self.fails(InvalidRequest, world.mirror.initialise())
        self.fails(InvalidRequest, world.mirror.initialise("nobody"))
        world.wait_for(world.mirror.initialise("n2"))
        self.until_in_sync(world)
        for media in world.media:
            self.assertEqual(b"somebody's data", media.read(100_000, 15))
            self.assertEqual(bytes(13), media.read(5000, 13))

    def test_keep_interrupted(self) -> None:
        """Whenever the owner dies while it adopts a node's data, that data is what the storage has in the end."""
        for steps in range(12):
            world = self.world(seed=steps)
            world.media[0].write(5000, b"worth nothing")
            world.media[2].write(100_000, b"somebody's data")
            world.start_owner()
            world.advance(1)
            assert world.mirror is not None
            for node in world.nodes:
                node.hold("write write_zeroes flush")
            world.mirror.initialise("n2").addErrback(lambda failure: failure.trap(DSTError))
            for _ in range(steps):
                for node in world.nodes:
                    node.release(1)
                world.clock.advance(0)
            world.crash_owner()
            world.start_owner()
            world.advance(5)
            assert world.mirror is not None
            if world.mirror.link is not LinkState.READY:
                world.wait_for(world.mirror.initialise("n2"))
            self.until_in_sync(world)
            for media in world.media:
                self.assertEqual(b"somebody's data", media.read(100_000, 15), steps)
                self.assertEqual(bytes(13), media.read(5000, 13), steps)

    def test_discard(self) -> None:
        """With C{discard} a storage is made of what is there; all copies are equal."""
        world = self.world()
        world.media[1].write(100_000, b"anything")
        world.start_owner()
        world.advance(1)
        assert world.mirror is not None
        world.wait_for(world.mirror.initialise(discard=True))
        self.until_in_sync(world)
        size = world.data_sectors * SECTOR_BYTES
        self.assertEqual(1, len({media.read(0, size) for media in world.media}))

    def test_exists(self) -> None:
        """A storage that exists is never initialised again."""
        world = self.served()
        assert world.mirror is not None
        self.fails(InvalidRequest, world.mirror.initialise(discard=True))

    def test_media_too_small(self) -> None:
        """Media without room for a label and data is refused, with its size."""
        world = self.world()
        world.media[0] = SimulatedMedia(LABELS_BYTES)
        world.start_owner()
        world.advance(1)
        assert world.mirror is not None
        self.assertEqual("refused", self.member(world, 0).state)
        self.assertIn(str(LABELS_BYTES), self.member(world, 0).reason)


class ReturnTests(MirrorCase):
    """A member was away."""

    def test_only_what_changed(self) -> None:
        """Only regions written meanwhile are copied, with nobody asked."""
        world = self.served()
        world.nodes[1].pull()
        world.advance(0.1)
        self.write(world, 3 * 128)
        self.assertEqual(REGION_BYTES, self.member(world, 1).dirty_bytes)
        world.nodes[1].history.clear()
        world.nodes[1].plug_in()
        self.until_in_sync(world)
        self.assertLessEqual(self.copied(world, 1), REGION_BYTES)
        self.assertGreater(self.copied(world, 1), 0)

    def test_nothing_changed(self) -> None:
        """When nothing was written nothing is copied."""
        world = self.served()
        world.nodes[1].pull()
        world.advance(0.1)
        world.nodes[1].history.clear()
        world.nodes[1].plug_in()
        self.until_in_sync(world)
        self.assertEqual(0, self.copied(world, 1))

    def test_away_over_restarts_of_the_owner(self) -> None:
        """What a member missed is known after any number of restarts of the owner and other members' absences."""
        world = self.served()
        self.write(world, 0)
        world.advance(10)
        world.nodes[1].pull()
        world.plugged[1] = False
        world.advance(0.1)
        self.write(world, 128)
        world.stop_owner()
        world.start_owner()
        world.until("serving", lambda: world.in_sync == [0, 2])
        self.write(world, 256)
        world.advance(10)
        world.crash_owner()
        world.start_owner()
        world.until("serving", lambda: world.in_sync == [0, 2])
        world.nodes[1].plug_in()
        world.nodes[1].history.clear()
        self.until_in_sync(world)
        self.assertLessEqual(self.copied(world, 1), 2 * REGION_BYTES)
        world.check_convergence()

    def test_blip(self) -> None:
        """A blip is not a failure: nothing leaves, nothing is copied."""
        world = self.served()
        assert world.mirror is not None
        world.nodes[1].pull(LinkState.INTERRUPTED)
        done = world.write(0, 8)
        assert done is not None
        world.advance(0.3)
        self.assertNoResult(done)
        record = world.mirror.status().detail["record"]
        world.nodes[1].plug_in()
        self.assertTrue(world.wait_for(done))
        self.assertEqual(record, world.mirror.status().detail["record"])
        self.assertEqual([0, 1, 2], world.in_sync)

    def test_power_cut_inside_the_grace(self) -> None:
        """A member that lost its cache in a blip leaves, and a flush is not acknowledged by it."""
        world = self.served()
        self.write(world, 0)
        world.nodes[1].power_cut("none")
        world.nodes[1].plug_in()
        self.flush(world)
        self.until_in_sync(world)
        world.check_convergence()

    def test_new_media(self) -> None:
        """Unlabelled media at a member's place is new: everything is copied, nobody is asked; zeroes are not."""
        world = self.served()
        self.write(world, 130)
        world.nodes[0].pull()
        world.advance(0.1)
        world.media[0] = world.nodes[0].inner.media = SimulatedMedia(MEDIA_BYTES, seed=77)  # type: ignore[attr-defined]
        world.nodes[0].history.clear()
        world.nodes[0].plug_in()
        world.until("copying", lambda: "new" in self.member(world, 0).reason or 0 in world.in_sync)
        self.until_in_sync(world)
        self.assertLessEqual(self.copied(world, 0), REGION_BYTES)
        world.check_convergence()

    def test_only_in_sync_media_blank(self) -> None:
        """When the only media with the latest data is gone it waits; an older copy is never taken by itself."""
        world = self.served(2)
        world.nodes[1].pull()
        world.plugged[1] = False
        world.advance(0.1)
        self.write(world, 0)
        world.stop_owner()
        world.media[0] = SimulatedMedia(MEDIA_BYTES, seed=78)
        world.plugged[1] = True
        world.start_owner()
        world.advance(20)
        assert world.mirror is not None
        tree = world.mirror.status()
        self.assertIs(Health.FROZEN, tree.health)
        self.assertIn("latest data is only on n0", tree.reason)

    def test_mark_clean_takes_an_older_copy(self) -> None:
        """A person may go on with an older copy, and loses what was written since."""
        world = self.served(2)
        self.write(world, 0)
        self.flush(world)
        old = world.version
        world.nodes[1].pull()
        world.plugged[1] = False
        world.advance(0.1)
        self.write(world, 0)
        world.stop_owner()
        world.media[0] = SimulatedMedia(MEDIA_BYTES, seed=78)
        world.plugged[1] = True
        world.start_owner()
        world.advance(5)
        assert world.mirror is not None
        before = world.mirror.incarnation
        world.wait_for(world.mirror.mark_clean("n1"))
        world.legal[0] = {old}
        world.legal.update({sector: {old} for sector in range(8)})
        self.until_in_sync(world)
        self.assertNotEqual(before, world.mirror.incarnation)
        world.check_convergence()

    def test_another_storage(self) -> None:
        """A member of another storage is refused with a reason, and not one byte of it changes."""
        world, other = self.served(), self.served(seed=99)
        other.stop_owner()
        foreign = other.media[0]
        before = foreign.read(0, MEDIA_BYTES)
        world.nodes[2].pull()
        world.advance(0.1)
        world.media[2] = world.nodes[2].inner.media = foreign  # type: ignore[attr-defined]
        world.nodes[2].plug_in()
        world.until("refused", lambda: self.member(world, 2).state == "refused")
        self.assertIn("another storage", self.member(world, 2).reason)
        self.write(world, 0)
        world.advance(5)
        self.assertEqual(before, foreign.read(0, MEDIA_BYTES))
        self.assertEqual([0, 1], world.in_sync)

    def test_same_media_twice(self) -> None:
        """Media that is a copy of another member's is refused."""
        world = self.served()
        world.nodes[2].pull()
        world.advance(0.1)
        twin = SimulatedMedia(MEDIA_BYTES, seed=5)
        twin.write(0, world.media[1].read(0, MEDIA_BYTES))
        world.media[2] = world.nodes[2].inner.media = twin  # type: ignore[attr-defined]
        world.nodes[2].plug_in()
        world.until("refused", lambda: self.member(world, 2).state == "refused")
        self.assertIn("same media as n1", self.member(world, 2).reason)

    def test_damaged_label(self) -> None:
        """Media whose labels are both damaged is not overwritten."""
        world = self.served()
        world.nodes[2].pull()
        world.advance(0.1)
        world.media[2].rot(label_offset(MEDIA_BYTES) + 100)
        world.media[2].rot(label_offset(MEDIA_BYTES) + LABELS_BYTES // 2 + 100)
        world.nodes[2].plug_in()
        world.until("refused", lambda: self.member(world, 2).state == "refused")
        self.assertIn("unusable", self.member(world, 2).reason)

    def test_grown_offline(self) -> None:
        """Media that was made larger is found by its label at the old end, and not taken for new."""
        world = self.served()
        world.nodes[1].pull()
        world.advance(0.1)
        self.write(world, 0)
        world.media[1].size = MEDIA_BYTES + 10 * REGION_BYTES
        world.nodes[1].history.clear()
        world.nodes[1].plug_in()
        self.until_in_sync(world)
        self.assertLessEqual(self.copied(world, 1), REGION_BYTES)

    def test_order_of_the_nodes(self) -> None:
        """The order in the topology never matters."""
        world = self.served()
        world.nodes[0].pull()
        world.plugged[0] = False
        world.advance(0.1)
        self.write(world, 0)
        world.stop_owner()
        world.plugged = [True] * 3
        world.media.reverse()
        world.start_owner()
        self.until_in_sync(world)
        world.check_convergence()


class UncleanStopTests(MirrorCase):
    """The owner died."""

    def test_hot_regions_are_made_equal(self) -> None:
        """A write that reached some copies only is on all or none after the restart, and reads stay put."""
        world = self.served()
        self.write(world, 0)
        world.nodes[0].hold("write")
        world.nodes[1].hold("write")
        world.write(0, 8)
        world.advance(0.05)
        for node in world.nodes[:2]:
            node.drop_held(MediaError("never done"))
        world.crash_owner()
        self.assertGreater(len({media.read(0, 4096) for media in world.media}), 1)
        world.start_owner()
        self.until_in_sync(world)
        world.check_convergence()

    def test_clean_stop_leaves_nothing_hot(self) -> None:
        """After an orderly stop there is nothing to make equal."""
        world = self.served()
        for sector in range(0, 384, 64):
            self.write(world, sector)
        world.stop_owner()
        for media in world.media:
            found = world.table_of(media)
            assert found is not None
            self.assertEqual([], list(found[1].hot_regions()))

    def test_owner_record_lost(self) -> None:
        """Without the owner's own record every member must be seen before anything is served."""
        world = self.served()
        world.nodes[2].pull()
        world.advance(0.1)
        self.write(world, 0)
        world.stop_owner()
        world.store.kept = None
        world.plugged = [True, False, True]
        world.start_owner()
        world.advance(10)
        assert world.mirror is not None
        self.assertIn("waiting for n1", world.mirror.status().reason)
        world.nodes[1].plug_in()
        world.plugged = [True] * 3
        self.until_in_sync(world)
        world.check_convergence()

    def test_all_lost_their_caches(self) -> None:
        """When unflushed writes may be gone on all copies the storage's incarnation changes."""
        world = self.served()
        self.write(world, 0)
        self.flush(world)
        self.write(world, 0)
        assert world.mirror is not None
        before = world.mirror.incarnation
        for node in world.nodes:
            node.power_cut("none")
        world.plugged = [False] * 3
        world.crash_owner()
        world.plugged = [True] * 3
        world.start_owner()
        self.until_in_sync(world)
        assert world.mirror is not None
        self.assertNotEqual(before, world.mirror.incarnation)
        world.check_convergence()


class ErrorTests(MirrorCase):
    """Media fails."""

    def test_read_error_is_repaired(self) -> None:
        """A copy that cannot be read is read elsewhere and rewritten; the client sees nothing."""
        world = self.served()
        self.write(world, 0)
        for node in world.nodes[:2]:
            node.fail_next("read", MediaError("latent"), times=1, extent=(0, 4096))
        for _ in range(6):
            done = world.read(0, 8)
            assert done is not None
            self.assertTrue(world.wait_for(done))
        world.advance(0.1)
        rewritten = [o for node in world.nodes[:2] for o in node.history if o.kind == "write" and o.offset == 0]
        self.assertGreaterEqual(len(rewritten), 3)
        self.assertEqual([0, 1, 2], world.in_sync)

    def test_full_disk(self) -> None:
        """A full disk leaves, with that reason; the write is acknowledged by the others."""
        world = self.served()
        world.nodes[1].fail_next("write", NoSpace("no space left on n1"), times=None, extent=(0, 4096))
        self.write(world, 0)
        self.assertEqual([0, 2], world.in_sync)
        self.assertIn("no space left on n1", self.member(world, 1).reason)
        world.nodes[1].heal()
        self.until_in_sync(world)

    def test_last_copy_says_no(self) -> None:
        """When the last copy refuses a write the client hears its own error."""
        world = self.served(2)
        for node in world.nodes:
            node.fail_next("write", NoSpace("full"), times=None, extent=(0, 4096))
        assert world.mirror is not None
        done = world.mirror.write(0, bytes(4096))
        world.advance(0.5)
        self.fails(NoSpace, done)

    def test_freeze(self) -> None:
        """While no copy can be reached operations wait; they go on by themselves."""
        world = self.served()
        assert world.mirror is not None
        for node in world.nodes:
            node.pull()
        done = world.write(0, 8)
        world.advance(30)
        assert done is not None
        self.assertNoResult(done)
        self.assertIs(Health.FROZEN, world.mirror.status().health)
        self.assertIs(LinkState.INTERRUPTED, world.mirror.link)
        for node in world.nodes:
            node.plug_in()
        self.assertTrue(world.wait_for(done))
        self.until_in_sync(world)
        world.check_convergence()

    def test_error_instead(self) -> None:
        """With C{on_loss = "error"} they fail after the set time, and work again when a copy is back."""
        world = self.served(on_loss="error", freeze_s=2.0)
        assert world.mirror is not None
        for node in world.nodes:
            node.pull()
        done = world.mirror.read(0, 512)
        world.advance(1)
        self.assertNoResult(done)
        world.advance(3)
        self.fails(Unavailable, done)
        self.assertIs(Health.FAILED, world.mirror.status().health)
        self.fails(Unavailable, world.mirror.write(0, b"x"))
        for node in world.nodes:
            node.plug_in()
        self.until_in_sync(world)
        self.write(world, 0)

    def test_last_copy_restarts(self) -> None:
        """When the last copy loses its cache what waits fails, and the storage has another incarnation."""
        world = self.served(1)
        assert world.mirror is not None
        self.write(world, 0)
        before = world.mirror.incarnation
        world.nodes[0].power_cut("none")
        done = world.mirror.read(0, 512)
        world.nodes[0].plug_in()
        world.advance(2)
        self.fails(IncarnationChanged, done)
        self.until_in_sync(world)
        self.assertNotEqual(before, world.mirror.incarnation)

    def test_state_directory_full(self) -> None:
        """While the owner's record cannot be written nothing is acknowledged without the member that left."""
        world = self.served()
        assert world.mirror is not None
        store = world.store.store
        world.store.store = lambda label: _failing(OSError(28, "No space left on device"))  # type: ignore[method-assign]
        world.nodes[1].pull()
        done = world.write(0, 8)
        world.advance(3)
        assert done is not None
        self.assertNoResult(done)
        self.assertIn("state directory", world.mirror.status().reason)
        world.store.store = store  # type: ignore[method-assign]
        self.assertTrue(world.wait_for(done))


class ByHandTests(MirrorCase):
    """What a person can do."""

    def test_suspend_survives_a_restart(self) -> None:
        """A suspended member is not used until it is resumed; then it gets what it missed."""
        world = self.served()
        assert world.mirror is not None
        world.wait_for(world.mirror.suspend("n1"))
        self.write(world, 0)
        world.stop_owner()
        world.start_owner()
        world.until("serving", lambda: world.in_sync == [0, 2])
        world.advance(5)
        self.assertEqual([0, 2], world.in_sync)
        self.assertEqual("suspended", self.member(world, 1).state)
        world.wait_for(world.mirror.resume("n1"))
        self.until_in_sync(world)
        world.check_convergence()

    def test_last_copy_stays(self) -> None:
        """The last in-sync member is neither suspended nor marked dirty, replaced or removed."""
        world = self.served(1)
        assert world.mirror is not None
        blank = SimulatedDisk(world.clock, "new", SimulatedMedia(MEDIA_BYTES))
        for done in (
            world.mirror.suspend("n0"),
            world.mirror.mark_dirty("n0"),
            world.mirror.replace("n0", blank),
            world.mirror.remove_node("n0"),
        ):
            self.fails(InvalidRequest, done)

    def test_unknown(self) -> None:
        """A name that is no member's is answered with those that are."""
        world = self.served()
        assert world.mirror is not None
        error = self.fails(NotFound, world.mirror.suspend("x"))
        self.assertIn("n0, n1, n2", str(error))

    def test_mark_dirty(self) -> None:
        """A copy that is not trusted is copied as a whole."""
        world = self.served()
        self.write(world, 0)
        world.media[1].rot(100)
        assert world.mirror is not None
        world.wait_for(world.mirror.mark_dirty("n1"))
        self.until_in_sync(world)
        world.check_convergence()

    def test_killed_while_replacing(self) -> None:
        """What is on its way out is not suspended: a daemon that dies meanwhile heals by itself, with either disk."""
        for crash_after in range(1, 21):
            for change in ("replace", "remove"):
                world = self.served()
                self.write(world, 0)
                assert world.mirror is not None
                for node in world.nodes:
                    node.delay_s = 0.003
                if change == "replace":
                    asked = world.mirror.replace("n1", SimulatedDisk(world.clock, "n1", SimulatedMedia(MEDIA_BYTES)))
                else:
                    asked = world.mirror.remove_node("n1")
                asked.addErrback(lambda _: None)
                for _ in range(crash_after):
                    world.clock.advance(0.001)
                world.crash_owner()
                world.start_owner()
                world.until("as it was", lambda world=world: world.mirror is not None and world.mirror.serving)
                world.advance(5)
                self.assertIn(self.member(world, 1).state, ("in-sync", "refused"), (crash_after, change))

    def test_replace(self) -> None:
        """Another node takes the place, and gets everything; the old media is foreign when it returns."""
        world = self.served()
        self.write(world, 0)
        assert world.mirror is not None
        old = world.media[1]
        world.media[1] = SimulatedMedia(MEDIA_BYTES, seed=9)
        world.wait_for(world.mirror.replace("n1", SimulatedDisk(world.clock, "n1", world.media[1])))
        self.until_in_sync(world)
        world.stop_owner()
        world.media[1], new = old, world.media[1]
        world.start_owner()
        world.until("refused", lambda: self.member(world, 1).state == "refused")
        self.assertIn("replaced or removed", self.member(world, 1).reason)
        world.stop_owner()
        world.media[1] = new
        world.start_owner()
        self.until_in_sync(world)
        world.check_convergence()

    def test_add_and_remove(self) -> None:
        """A mirror is widened and narrowed while it works."""
        world = self.served(2)
        self.write(world, 0)
        assert world.mirror is not None
        media = SimulatedMedia(MEDIA_BYTES, seed=9)
        world.wait_for(world.mirror.add_node(SimulatedDisk(world.clock, "n2", media)))
        world.until("in sync", lambda: world.in_sync == [0, 1, 2])
        self.assertEqual(world.media[0].read(0, 4096), media.read(0, 4096))
        world.wait_for(world.mirror.remove_node("n0"))
        self.write(world, 8)
        self.assertEqual(["n1", "n2"], [child.name for child in world.mirror.status().children])
        self.assertIs(Health.HEALTHY, world.mirror.status().health)
        self.assertNotEqual(world.media[0].read(4096, 512), media.read(4096, 512))


class WidthTests(SynchronousTestCase):
    """A mirror of any width."""

    def test_two_hundred(self) -> None:
        """Two hundred members: they come into sync, one is lost and heals, all are equal."""
        clock = Clock()
        nodes = [MemoryDevice(clock, f"m{n}", 512 * 1024) for n in range(200)]
        mirror = Mirror(clock, "wide", nodes, MirrorOptions(region_size=64 * 1024))
        mirror.open()
        for _ in range(400):
            clock.advance(0.05)
        self.assertIs(Health.HEALTHY, mirror.status().health)
        self.assertEqual(199, mirror.status().redundancy)
        self.successResultOf(mirror.write(70_000, b"to all of them"))
        mirror.suspend("m17")
        clock.advance(0.1)
        self.successResultOf(mirror.write(140_000, b"to all but one"))
        mirror.resume("m17")
        for _ in range(100):
            clock.advance(0.05)
        self.assertIs(Health.HEALTHY, mirror.status().health)
        for node in nodes:
            self.assertEqual(b"to all but one", bytes(self.successResultOf(node.read(140_000, 14))))
            self.assertEqual(b"to all of them", bytes(self.successResultOf(node.read(70_000, 14))))
        mirror.close()
        clock.advance(20)
        self.assertEqual([], clock.getDelayedCalls())


class HotSetTests(MirrorCase):
    """The hot set is bounded."""

    def test_bounded(self) -> None:
        """However many regions are written, no more than the set value are hot, on the media too."""
        world = self.served(hot_regions=2)
        assert world.mirror is not None
        for sector in range(0, world.data_sectors - 8, 128):
            self.write(world, sector)
            self.assertLessEqual(int(world.mirror.status().detail["hot_regions"]), 2)  # type: ignore[call-overload]
            for media in world.media:
                found = world.table_of(media)
                assert found is not None
                self.assertLessEqual(len(list(found[1].hot_regions())), 2)

    def test_idle(self) -> None:
        """A storage that is not written to has nothing hot after a while."""
        world = self.served()
        self.write(world, 0)
        world.advance(12)
        for media in world.media:
            found = world.table_of(media)
            assert found is not None
            self.assertEqual([], list(found[1].hot_regions()))

    def test_mark_before_data(self) -> None:
        """No data is sent to a member before its own flag is stable there."""
        world = self.served()
        for node in world.nodes:
            node.history.clear()
        self.write(world, 0)
        for node in world.nodes:
            data = next(n for n, o in enumerate(node.history) if o.kind == "write" and o.offset == 0)
            marks = [o for o in list(node.history)[:data] if o.kind == "write" and o.fua]
            self.assertEqual(1, len(marks))

    def test_marked_ahead_only(self) -> None:
        """A region that was marked ahead of a writer who never came is not copied to a member that was away."""
        world = self.served(hot_regions=16)
        world.nodes[1].pull()
        world.advance(0.1)
        self.write(world, 0)
        self.write(world, 128)
        assert world.mirror is not None
        self.assertGreater(int(world.mirror.status().detail["hot_regions"]), 2)  # type: ignore[call-overload]
        world.advance(10)
        self.assertEqual(2 * REGION_BYTES, self.member(world, 1).dirty_bytes)
        world.nodes[1].plug_in()
        self.until_in_sync(world)
        world.check_convergence()

    def test_one_mark_for_many_writes(self) -> None:
        """The cost is paid per region, not per write."""
        world = self.served()
        for node in world.nodes:
            node.history.clear()
        for sector in range(0, 64, 8):
            self.write(world, sector)
        for node in world.nodes:
            self.assertEqual(1, len([o for o in node.history if o.kind == "write" and o.fua]))

    def test_nobody_waits_for_an_idle_clear(self) -> None:
        """While members are flushed for a clear of what nobody writes to, it can be written to."""
        world = self.served()
        self.write(world, 0)
        world.nodes[1].hold("flush")
        for _ in range(12):
            world.advance(1)
        self.assertEqual(1, len(world.nodes[1].held))
        self.write(world, 0)
        world.nodes[1].release()
        world.check_convergence()


def _failing(error: Exception) -> Any:
    from twisted.internet.defer import fail

    return fail(error)
