"""
Corners of the mirror where two things happen at once: a stop, a leave or a restart between two steps of another.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from dst.algorithms.mirror import Mirror, MirrorOptions, copying
from dst.algorithms.mirror.serving import Serving
from dst.errors import DSTError, InternalError, MediaError, Unavailable
from dst.interfaces import MemberOptions
from dst.label.format import Label, encode_slot
from dst.label.zone import LABELS_BYTES, PAGE_BYTES
from dst.status import Health, LinkState
from dst.testing.disk import SimulatedDisk
from dst.testing.media import SimulatedMedia
from test.algorithms.test_mirror import MirrorCase
from test.scenarios.world import MEDIA_BYTES, REGION_BYTES, MemoryRecordStore, World

SECTORS = REGION_BYTES // 512
"""Sectors of a region."""


class SlowStore(MemoryRecordStore):
    """The owner's own record on a disk that takes its time."""

    def __init__(self, before: MemoryRecordStore) -> None:
        MemoryRecordStore.__init__(self)
        self.kept = before.kept
        self.slow = False
        self.waiting: list[tuple[Label, Deferred[None]]] = []

    def store(self, label: Label) -> Deferred[None]:
        """Keep it, when told to."""
        if not self.slow:
            return MemoryRecordStore.store(self, label)
        done: Deferred[None] = Deferred()
        self.waiting.append((label, done))
        return done

    def go_on(self) -> None:
        """The disk is as fast as ever."""
        self.slow = False
        waiting, self.waiting = self.waiting, []
        for label, done in waiting:
            self.kept = encode_slot(label)
            done.callback(None)


class ReviewCase(MirrorCase):
    """A world with the words these tests share."""

    def serving(self, world: World) -> Serving:
        """The insides."""
        assert world.mirror is not None and world.mirror.serving is not None
        return world.mirror.serving

    def slow_store(self, world: World) -> SlowStore:
        """From now on the owner's record takes its time."""
        store = SlowStore(world.store)
        world.store = store
        assert world.mirror is not None
        world.mirror.store = store
        self.serving(world).configuration._store = store
        store.slow = True
        return store

    def settle(self, world: World) -> None:
        """Until nothing is hot."""
        world.until("cold", lambda: not self.serving(world).hot.regions)


class AddingTests(ReviewCase):
    """A member fails in the turns between having everything and being named in a record."""

    def test_target_fails_before_its_record(self) -> None:
        """A target that misses a write while the record that adds it waits its turn is not added."""
        world = self.served(3)
        world.nodes[1].pull()
        world.advance(0.1)
        self.write(world, 0)
        store = self.slow_store(world)
        world.nodes[2].pull()
        world.advance(0.05)  # the record without n2 is on its way
        world.nodes[1].plug_in()
        world.advance(1)  # n1 has everything, and waits for a record that names it
        world.nodes[1].fail_next("write", MediaError("bad"), extent=(0, 4096))
        done = world.write(0, 8)
        world.advance(0.1)
        store.go_on()
        assert done is not None
        self.assertTrue(world.wait_for(done))
        world.check_invariant()
        first = world.media[0].read(0, 4096)
        for n in world.in_sync:
            self.assertEqual(first, world.media[n].read(0, 4096), f"n{n}")
        world.check_convergence()

    def test_last_copy_returns_beside_one_that_was_being_added(self) -> None:
        """One that was being added and missed a write is not added when the other one is back first."""
        world = self.served(2)
        world.nodes[1].pull()
        world.advance(0.1)
        self.write(world, 3 * SECTORS)
        store = self.slow_store(world)
        world.nodes[1].plug_in()
        world.until("being added", lambda: bool(store.waiting))
        store.slow = False
        self.write(world, 8)  # the region is marked on both
        world.nodes[1].hold("write")
        done = world.write(0, 8)
        world.advance(0.05)
        store.go_on()
        world.nodes[0].pull()
        world.advance(0.01)
        world.nodes[1].pull()
        world.advance(0.1)
        self.assertTrue(self.serving(world).configuration.frozen)
        world.nodes[1].hold("")
        world.nodes[0].plug_in()
        world.nodes[1].plug_in()
        world.advance(0.05)
        world.check_invariant()
        for n in world.in_sync:
            self.assertEqual(world.media[0].read(0, 4096), world.media[n].read(0, 4096), f"n{n}")
        assert done is not None
        self.assertTrue(world.wait_for(done))
        world.check_convergence()


class StoppingTests(ReviewCase):
    """A stop at every stage: nothing is forgotten, nothing hangs, nothing is left."""

    def test_command_that_waits_for_a_record(self) -> None:
        """Somebody's command that waits for a record is answered when the storage stops first."""
        world = self.served(3)
        assert world.mirror is not None
        self.slow_store(world)
        results: list[Any] = []
        world.mirror.suspend("n1").addBoth(results.append)
        world.advance(0.1)
        self.assertEqual([], results)
        world.wait_for(world.mirror.close())
        self.assertEqual(1, len(results))
        results[0].trap(Unavailable)

    def test_command_after_the_stop(self) -> None:
        """A record asked for after the stop is refused at once."""
        world = self.served(3)
        configuration = self.serving(world).configuration
        assert world.mirror is not None
        world.wait_for(world.mirror.close())
        self.failureResultOf(configuration.make_stable(), Unavailable)

    def test_target_and_a_write_during_the_stop(self) -> None:
        """A resync target that a stop lets go does not look equal to copies that went on without it."""
        world = self.served(2)
        world.nodes[1].pull()
        world.advance(0.1)
        self.write(world, 3 * SECTORS)
        self.settle(world)
        world.nodes[1].fail_next("write", MediaError("bad"), times=None, extent=(3 * REGION_BYTES, REGION_BYTES))
        world.nodes[0].hold("read")
        world.nodes[1].plug_in()
        world.until("resyncing", lambda: self.member(world, 1).state == "resyncing")
        self.write(world, 0)
        self.settle(world)
        world.check_invariant()
        world.nodes[0].hold("read write")
        hung = world.write(SECTORS, 8)  # the stop waits for this one
        assert world.mirror is not None
        closing = world.mirror.close()
        late = world.write(0, 8)
        world.advance(0.05)
        world.nodes[0].release()
        world.wait_for(closing)
        assert hung is not None and late is not None
        self.assertTrue(self.successResultOf(late))
        world.check_invariant()
        world.mirror = None
        world.nodes = []
        world.in_flight.clear()
        world.plugged = [True, True]
        world.start_owner()
        self.until_in_sync(world)
        world.check_convergence()

    def test_stop_while_the_nodes_open(self) -> None:
        """A stop before the nodes are open leaves nothing that starts later."""
        clock = Clock()
        disk = SimulatedDisk(clock, "n0", SimulatedMedia(MEDIA_BYTES))
        opened: Deferred[None] = Deferred()
        opens = disk.open
        disk.open = lambda: opened.addCallback(lambda _: opens())  # type: ignore[method-assign]
        mirror = Mirror(clock, "vol", [disk])
        mirror.open().addErrback(lambda _: None)
        self.successResultOf(mirror.close())
        opened.callback(None)
        clock.advance(0)
        self.assertIs(LinkState.CLOSED, mirror.link)
        self.assertEqual(bytes(MEDIA_BYTES), disk.media.read(0, MEDIA_BYTES))
        self.assertEqual([], clock.getDelayedCalls())

    def test_mark_of_a_reconciled_region(self) -> None:
        """A stop while a region is being marked, to be made equal, ends: the mark is not tried for ever."""
        world = self.served(2)
        world.nodes[1].hold("write")
        world.write(0, 8)
        world.advance(0.05)
        world.nodes[1]._held.clear()  # the mark never arrives there
        world.crash_owner()
        world.delay_s = 0.005
        world.start_owner()
        world.until("serving", lambda: world.mirror.serving is not None)  # type: ignore[union-attr]
        self.assertEqual({0}, self.serving(world).hot.unreconciled)
        hot = self.serving(world).hot.regions[0]
        self.assertEqual((1, 2), (hot.marked, hot.marking))
        assert world.mirror is not None
        world.wait_for(world.mirror.close())
        world.clock.advance(0)  # what observes the storage here is told
        self.assertEqual([], world.clock.getDelayedCalls())

    def test_nothing_is_left_of_a_reconcile(self) -> None:
        """When a stop in the middle of making copies equal has ended no timer is left."""
        world = self.served(2)
        for sector in (0, SECTORS, 2 * SECTORS):
            self.write(world, sector)
        world.crash_owner()
        world.delay_s = 0.005
        world.start_owner()
        world.until("serving", lambda: world.mirror.serving is not None)  # type: ignore[union-attr]
        world.nodes[0].pull(LinkState.INTERRUPTED)
        world.nodes[1].pull(LinkState.INTERRUPTED)
        world.advance(0.1)
        self.assertEqual(3, len(self.serving(world).hot.unreconciled))
        read = world.mirror.read(0, 512)  # type: ignore[union-attr]
        read.addErrback(lambda failure: None)
        world.advance(0.1)
        assert world.mirror is not None
        world.wait_for(world.mirror.close())
        world.clock.advance(0)  # what observes the storage here is told
        self.assertEqual([], world.clock.getDelayedCalls())


class SourceTests(ReviewCase):
    """Who a copy or a read is taken from."""

    def test_source_that_has_just_restarted(self) -> None:
        """A copy is not taken from a member that lost what it had not flushed, however soon it is back."""
        world = self.served(3)
        world.nodes[2].pull()
        world.advance(0.1)
        self.write(world, 0)
        world.nodes[0].hold("read")
        world.nodes[1].hold("read")
        world.nodes[2].plug_in()
        world.until("copying", lambda: bool(world.nodes[0].held or world.nodes[1].held))
        for node in world.nodes[:2]:
            node.pull(LinkState.INTERRUPTED)
        world.advance(0.1)  # the copier looks for a source again and again
        world.nodes[0].power_cut("none")
        world.nodes[0].hold("")
        world.clock.callLater(0.001, world.nodes[0].plug_in)
        world.advance(0.2)
        world.nodes[1].release()
        world.nodes[1].plug_in()
        self.until_in_sync(world)
        world.check_convergence()

    def test_dearer_member_reads_what_the_cheap_one_cannot(self) -> None:
        """A read that fails on the member of the lowest cost is answered by another one."""
        world = self.served(2)
        self.write(world, 0)
        assert world.mirror is not None
        world.mirror.members[1].options = MemberOptions(cost=5)
        self.serving(world).data_path.choose_readers()
        world.nodes[0].fail_next("read", MediaError("latent"), extent=(0, 4096))
        done = world.read(0, 8)
        assert done is not None
        self.assertTrue(world.wait_for(done, 5))
        world.check_convergence()

    def test_a_read_error_of_any_kind_is_tried_elsewhere(self) -> None:
        """The client hears of an error only when nobody is left who could know."""
        world = self.served(2)
        self.write(world, 0)
        for node in world.nodes:
            node.fail_next("read", InternalError("a fault of that daemon"), times=None)
            for _ in range(4):
                done = world.read(0, 8)
                assert done is not None
                self.assertTrue(world.wait_for(done, 5))
            node.heal()


class DistrustTests(ReviewCase):
    """A copy that is not trusted is copied as a whole, whatever comes between."""

    def test_fails_in_the_middle(self) -> None:
        """It fails once while it is copied: nothing of the old content is trusted afterwards either."""
        world = self.served(2)
        for region in range(5):
            self.write(world, region * SECTORS)
        self.settle(world)
        world.media[1].rot(4 * REGION_BYTES + 100)
        world.nodes[1].fail_next("write", MediaError("bad"), extent=(0, 4096))
        assert world.mirror is not None
        world.wait_for(world.mirror.mark_dirty("n1"))
        self.until_in_sync(world)
        world.check_convergence()

    def test_owner_dies_in_the_middle(self) -> None:
        """The owner dies while it is copied: the next one does not trust it either."""
        world = self.served(2)
        for region in range(5):
            self.write(world, region * SECTORS)
        self.settle(world)
        world.media[1].rot(4 * REGION_BYTES + 100)
        world.nodes[0].hold("read")
        assert world.mirror is not None
        world.wait_for(world.mirror.mark_dirty("n1"))
        world.until("resyncing", lambda: self.member(world, 1).state == "resyncing")
        world.advance(0.1)
        world.crash_owner()
        world.start_owner()
        self.until_in_sync(world)
        world.check_convergence()

    def test_a_full_resync_goes_on_where_it_was(self) -> None:
        """What new media has been given it is not given again after an interruption."""
        world = self.served(2)
        for region in range(6):
            for sector in range(0, SECTORS, 16):
                if region * SECTORS + sector + 16 <= world.data_sectors:
                    self.write(world, region * SECTORS + sector, 16)
        self.settle(world)
        world.nodes[1].pull()
        world.advance(0.1)
        world.media[1] = world.nodes[1].inner.media = SimulatedMedia(MEDIA_BYTES, seed=77)  # type: ignore[attr-defined]
        self.assertGreater(copying.BATCH_BYTES, REGION_BYTES)
        self.patch(copying, "BATCH_BYTES", REGION_BYTES)
        world.nodes[1].history.clear()
        world.nodes[1].fail_next("write", MediaError("bad"), extent=(4 * REGION_BYTES, 4096))
        world.nodes[1].plug_in()
        self.until_in_sync(world)
        self.assertLess(self.copied(world, 1), 8 * REGION_BYTES)
        world.check_convergence()


class StartingTests(ReviewCase):
    """The start meets the same troubles as everything else."""

    def test_state_directory_full(self) -> None:
        """While the owner's record cannot be written a storage does not start; then it does, by itself."""
        world = self.served(2)
        world.stop_owner()
        store = world.store.store
        world.store.store = lambda label: fail(OSError(28, "No space left on device"))  # type: ignore[method-assign]
        world.start_owner()
        world.advance(3)
        assert world.mirror is not None
        self.assertIn("No space left on device", world.mirror.status().reason)
        world.store.store = store  # type: ignore[method-assign]
        self.until_in_sync(world)

    def test_command_that_the_stop_overtakes(self) -> None:
        """A command that is not obeyed before the stop is answered."""
        world = self.world(2)
        world.media[0].write(100_000, b"somebody's data")
        world.start_owner()
        world.advance(1)
        assert world.mirror is not None
        world.nodes[0].hold("write write_zeroes")
        done = world.mirror.initialise("n0")
        done.addErrback(lambda failure: failure.trap(DSTError))
        world.advance(0.1)
        self.assertNoResult(done)
        again = world.mirror.initialise("n0")
        again.addErrback(lambda failure: failure.trap(DSTError))
        world.wait_for(world.mirror.close())
        self.successResultOf(done)
        self.successResultOf(again)

    def test_media_too_small_for_its_table(self) -> None:
        """Media that has room for a label and not for a table is refused with its size, whatever the regions."""
        for size in (LABELS_BYTES + PAGE_BYTES, LABELS_BYTES + 2 * PAGE_BYTES, LABELS_BYTES + 2 * PAGE_BYTES + 512):
            world = self.world(2, region_size=0)
            world.media[0] = SimulatedMedia(size)
            world.start_owner()
            world.advance(1)
            assert world.mirror is not None
            self.assertEqual("refused", self.member(world, 0).state)
            self.assertIn(str(size), self.member(world, 0).reason)

    def test_members_that_carry_little_at_once(self) -> None:
        """Members that carry no more than 64 KiB in one request are made, resynced and made equal."""
        world = self.world(2)
        for media in world.media:
            media.size = 512 * REGION_BYTES
        clock = Clock()
        nodes = [SimulatedDisk(clock, f"n{n}", m, transfer_bytes_max=LABELS_BYTES) for n, m in enumerate(world.media)]
        mirror = Mirror(clock, "vol", nodes, MirrorOptions(region_size=512 * 1024))
        mirror.open()
        clock.advance(1)
        self.assertIs(LinkState.READY, mirror.link)
        self.assertEqual(LABELS_BYTES, mirror.geometry.transfer_bytes_max)
        self.successResultOf(mirror.write(0, b"something"))
        mirror.mark_dirty("n1")
        for _ in range(100):
            clock.advance(0.1)
        self.assertIs(Health.HEALTHY, mirror.status().health)
        self.assertEqual(b"something", world.media[1].read(0, 9))
        mirror.close()
        clock.advance(20)
