"""
Corners of the mirror where two things happen at once: a stop, a leave or a restart between two steps of another thing.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from dst.algorithms.mirror.serving import Serving
from dst.errors import MediaError, Unavailable
from dst.label.format import Label, encode_slot
from dst.status import LinkState
from test.algorithms.test_mirror import MirrorCase
from test.scenarios.world import REGION_BYTES, MemoryRecordStore, World

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
