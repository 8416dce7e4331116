"""
Each trace broke a promise in a draft of the rules. It is played on the real mirror, step by step, and may not again.

The name says what goes wrong when its rule is missing.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror.serving import Serving
from dst.errors import MediaError
from dst.label.zone import PAGE_BYTES, Zone
from dst.status import Health, LinkState
from dst.testing.media import SECTOR_BYTES, CachedWrite, SimulatedMedia
from test.scenarios.world import MEDIA_BYTES, REGION_BYTES, World

SECTORS = REGION_BYTES // SECTOR_BYTES
"""Sectors of a region."""


def not_data(write: CachedWrite) -> bool:
    """For a power cut: only what stands in the zone survives, not the data that was written before it."""
    return write.offset >= Zone.at_end_of(MEDIA_BYTES, REGION_BYTES).offset


class TraceCase(SynchronousTestCase):
    """The words in which traces are told."""

    def served(self, members: int = 2, **options: Any) -> World:
        """Everybody in sync."""
        self.world = world = World(members, **options)
        world.start_owner()
        self.in_sync()
        return world

    @property
    def serving(self) -> Serving:
        """The insides of the owner that runs."""
        assert self.world.mirror is not None and self.world.mirror.serving is not None
        return self.world.mirror.serving

    def in_sync(self, *members: int) -> None:
        """These become in sync, by themselves; all when none is named."""
        wanted = list(members or range(len(self.world.media)))
        self.world.until(f"{wanted} in sync", lambda: self.world.in_sync == wanted)

    def write(self, sector: int, count: int = 8, **how: Any) -> None:
        """An acknowledged write."""
        self.assertTrue(self.world.wait_for(self.started(self.world.write(sector, count, **how))))

    def started(self, done: Deferred[bool] | None) -> Deferred[bool]:
        """It could be asked for."""
        assert done is not None
        return done

    def flush(self) -> None:
        """An acknowledged flush."""
        self.assertTrue(self.world.wait_for(self.started(self.world.flush())))

    def read(self, sector: int, count: int = 8) -> None:
        """A read that is answered, and right."""
        self.assertTrue(self.world.wait_for(self.started(self.world.read(sector, count))))

    def settle(self) -> None:
        """Every region is cleared."""
        self.world.until("cold", lambda: not self.serving.hot.regions)
        self.world.check_invariant()

    def drop(self, n: int) -> None:
        """Member C{n} goes, and a record says so."""
        self.world.nodes[n].pull()
        self.world.plugged[n] = False
        self.world.until("gone", lambda: n not in self.world.in_sync)

    def back(self, n: int) -> None:
        """Member C{n} is there again."""
        self.world.plugged[n] = True
        self.world.nodes[n].plug_in()

    def power(self, n: int, keep: Any = "none") -> None:
        """Member C{n} loses its power."""
        self.world.nodes[n].power_cut(keep)
        self.world.plugged[n] = False

    def owner_dies(self, *reachable: int) -> None:
        """The next owner finds only these members."""
        self.world.crash_owner()
        self.world.plugged = [n in reachable for n in range(len(self.world.media))]
        self.world.start_owner()

    def state(self, n: int) -> Any:
        """What is said of a member."""
        assert self.world.mirror is not None
        return self.world.mirror.status().children[n]

    def dirty_bytes(self, n: int) -> int:
        """What a member is said to miss."""
        return int(self.state(n).dirty_bytes)

    def all_is_well(self) -> None:
        """The invariant holds, everything heals, everybody reads what they may."""
        self.world.check_invariant()
        self.world.check_convergence()


class LeavingTests(TraceCase):
    """What a member missed is known when it returns (R2, R3, R5)."""

    def test_same_epoch_after_leave(self) -> None:
        """n1 leaves, a region is written and cleared without it: the ages differ."""
        self.served()
        self.write(0)
        self.settle()
        self.drop(1)
        self.write(0)
        self.settle()
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def resyncing_target(self) -> World:
        """n1 has region 0 and misses region 3 for as long as reads hang on n0."""
        world = self.served()
        self.drop(1)
        self.write(3 * SECTORS)
        self.settle()
        world.nodes[0].hold("read")
        self.back(1)
        world.until("resyncing", lambda: bool(self.serving.configuration.targets))
        return world

    def test_target_drops_clean(self) -> None:
        """A target leaves with a region that it has; that is written and cleared without it: the ages differ."""
        world = self.resyncing_target()
        self.write(0)
        self.settle_but_copies()
        self.drop_target(1)
        world.nodes[0].release()
        self.write(0)
        self.settle()
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def settle_but_copies(self) -> None:
        """Region 0 is cleared on the target, too."""
        self.world.until("cold", lambda: 0 not in self.serving.hot.regions)
        self.world.check_invariant()

    def drop_target(self, n: int) -> None:
        """The target goes."""
        self.world.nodes[n].pull()
        self.world.plugged[n] = False
        self.world.until("gone", lambda: not self.serving.configuration.targets)

    def test_takeover_alone_clears_hot(self) -> None:
        """A write on n0 only, n0 alone is taken over and clears: n1 is dirty."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("write")
        world.write(0, 8)
        world.advance(0.02)
        world.nodes[1]._held.clear()  # it never arrives there
        self.owner_dies(0)
        self.in_sync(0)
        self.settle()
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def test_cold_but_older(self) -> None:
        """n1 returns cold, and older: only what was written is copied."""
        self.served()
        for region in range(5):
            self.write(region * SECTORS)
        self.settle()
        self.drop(1)
        self.write(2 * SECTORS)
        self.settle()
        self.assertEqual(REGION_BYTES, self.dirty_bytes(1))
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def test_hot_only_at_source(self) -> None:
        """n1 returns while a region that it missed is hot at the source, under the age that n1 has, too."""
        self.served()
        self.drop(1)
        self.write(0)
        source, other = self.serving.configuration._members
        self.assertEqual(source.table.age(0), other.table.age(0))
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def test_hot_only_on_returning(self) -> None:
        """A write that only n1 has is not there any more after n1 came back."""
        world = self.served()
        self.write(SECTORS)
        self.settle()
        world.nodes[0].hold("write")
        world.write(0, 8)
        world.advance(0.02)
        world.nodes[0]._held.clear()
        world.nodes[0].hold("")
        self.owner_dies(0)
        world.advance(1)
        self.in_sync(0)
        self.read(0)
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def test_removed_member_returns(self) -> None:
        """A member that was removed is foreign when it returns: not read, not written."""
        world = self.served(3)
        assert world.mirror is not None
        world.wait_for(world.mirror.remove_node("n2"))
        self.write(0)
        before = world.media[2].read(0, MEDIA_BYTES)
        world.stop_owner()
        world.start_owner()
        world.until("refused", lambda: self.state(2).state == "refused")
        self.assertEqual([0, 1], world.in_sync)
        self.assertEqual(before, world.media[2].read(0, MEDIA_BYTES))
        world.check_invariant()


class FlushTests(TraceCase):
    """What was flushed stays (R3, R10, R12)."""

    def test_flush_on_some(self) -> None:
        """A flush that one of two did is not acknowledged; all lose their power, the other is back alone."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("flush")
        flushed = self.started(world.flush())
        world.advance(0.1)
        self.assertNoResult(flushed)
        world.nodes[1]._held.clear()
        world.crash_owner()
        for media in world.media:
            media.lose_unflushed("none")
        world.plugged = [False, True]
        world.start_owner()
        self.in_sync(1)
        self.read(0)
        self.all_is_well()

    def test_power_cycle_inside_grace(self) -> None:
        """A member loses its power and is back in time: it does not acknowledge the flush of what it lost."""
        world = self.served()
        self.write(0)
        world.nodes[0].pull(LinkState.INTERRUPTED)
        flushed = self.started(world.flush())
        world.media[0].lose_unflushed("none")
        world.nodes[0].plug_in()
        self.assertTrue(world.wait_for(flushed))
        self.read(0)
        self.all_is_well()

    def test_unstable_target_joins(self) -> None:
        """A target that joins has flushed; all lose their power, it is back alone: what was flushed is there."""
        world = self.served()
        self.drop(1)
        self.write(3 * SECTORS)
        self.back(1)
        self.write(0)
        self.flush()
        self.in_sync()
        self.power(0)
        self.power(1)
        self.owner_dies(1)
        self.in_sync(1)
        self.read(0)
        self.read(3 * SECTORS)
        self.all_is_well()
        self.assertIn("incarnation changed", world.said)

    def test_age_before_data_stable(self) -> None:
        """A target loses its power when its entries are written: no age says that it has what it lost."""
        world = self.served()
        self.drop(1)
        self.write(0)
        self.settle()
        world.nodes[1].delay_s = 0.001
        self.back(1)
        for _ in range(100):
            world.clock.advance(0.001)
            targets = self.serving.configuration.targets
            if targets and not self.serving.configuration._members[1].dirty_count:
                break
        self.power(1, not_data)
        world.check_invariant()
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def test_fsync_error_then_success(self) -> None:
        """A flush that fails, and then succeeds, proves nothing: the member leaves and is copied."""
        world = self.served()
        self.write(0)
        world.nodes[1].fail_next("flush", MediaError("lost"))
        self.flush()
        self.flush()
        self.power(0)
        self.owner_dies(1)
        self.assertIsNotNone(world.mirror)
        world.advance(5)
        if world.in_sync == [1]:
            self.read(0)
        self.back(0)
        self.in_sync()
        self.all_is_well()


class CopyTests(TraceCase):
    """A copy looks like one only when it is (R7, R12)."""

    def copied_but_not_flushed(self) -> None:
        """n1 is given region 0, and hangs in the flush that comes before its entry."""
        node = self.world.nodes[1]
        node.delay_s = 0.001
        self.back(1)
        old = node.media.read(0, 4096)
        for _ in range(1000):
            if self.serving.configuration.targets:
                node.hold("flush")  # not before: what stood in its cache was flushed when it was compared
            if node.media.read(0, 4096) != old:
                break
            self.world.clock.advance(0.0005)
        self.assertIn("flush", node.held_kinds)
        node.delay_s = 0.0

    def test_half_copied_looks_old(self) -> None:
        """n1 is half copied, n2 is as old as n1 was: they are not taken for equal."""
        world = self.served(3)
        self.drop(1)
        self.drop(2)
        self.write(0, 64)
        self.settle()
        self.copied_but_not_flushed()
        self.assertNotEqual(world.media[1].read(0, 512), world.media[2].read(0, 512))
        world.check_invariant()
        world.advance(0.1)
        world.check_invariant()
        world.nodes[1].release()
        self.back(2)
        self.in_sync()
        self.all_is_well()

    def test_write_behind_the_copy(self) -> None:
        """A write to what is copied already, while the rest of the region is copied: the target has it."""
        world = self.served()
        self.drop(1)
        self.write(0, 64)
        self.settle()
        self.copied_but_not_flushed()
        done = self.started(world.write(0, 8))
        world.advance(0.1)
        self.assertEqual(1, self.serving.configuration._members[1].dirty_count)
        world.nodes[1].release()
        self.assertTrue(world.wait_for(done))
        self.in_sync()
        self.all_is_well()

    def test_slow_member_returns_with_old_queue(self) -> None:
        """A member that left with a write in its queue is not taken back before that is done or dropped."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("write")
        done = self.started(world.write(0, 8))
        world.advance(0.02)
        world.nodes[1].fail_next("flush", MediaError("bad"))
        flushed = self.started(world.flush())
        self.assertTrue(world.wait_for(done))
        self.assertTrue(world.wait_for(flushed))
        self.write(0)
        world.advance(3)
        self.assertEqual([0], world.in_sync)
        self.assertFalse(self.serving.configuration.targets)
        world.nodes[1].release()
        self.in_sync()
        self.all_is_well()

    def test_resend_then_straggler(self) -> None:
        """After a blip what was not answered is sent again, and nothing older is done after something newer."""
        world = self.served()
        self.write(0)
        world.nodes[1].pull(LinkState.INTERRUPTED)
        done = self.started(world.write(0, 8))
        newer = world.mirror.write(0, bytes(4096))  # type: ignore[union-attr]
        world.advance(0.1)
        self.assertNoResult(done)
        world.nodes[1].plug_in()
        world.wait_for(newer)
        world.legal.update({sector: {0} for sector in range(8)})
        self.read(0)
        self.all_is_well()

    def test_trim_on_one(self) -> None:
        """A trim that one member did reads back the same from both when the owner is back."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("trim")
        world.write(0, 8, change="trim")
        world.advance(0.02)
        world.nodes[1]._held.clear()
        self.owner_dies(0, 1)
        for _ in range(4):
            self.read(0)
        self.in_sync()
        self.all_is_well()

    def test_write_fails_on_all(self) -> None:
        """After a write that failed everywhere all reads have one answer, and copies become equal."""
        world = self.served()
        self.write(0)
        for node in world.nodes:
            node.fail_next("write", MediaError("bad"), extent=(0, 4096), executed=node is world.nodes[0])
        self.assertFalse(world.wait_for(self.started(world.write(0, 8))))
        for _ in range(4):
            self.read(0)
        self.in_sync()
        self.all_is_well()


class TakeoverTests(TraceCase):
    """Who may be a source, and what is made equal first (R4, R6)."""

    def test_failover_forgets_acked(self) -> None:
        """n0 lost its cache, the owner dies: what was acknowledged is read from n1."""
        self.served()
        self.write(0)
        self.power(0)
        self.owner_dies(0, 1)
        self.read_when_served(0)
        self.in_sync()
        self.assertEqual([], self.world.said)
        self.all_is_well()

    def read_when_served(self, sector: int) -> None:
        """As soon as the next owner serves."""
        self.world.until("serving", lambda: self.world.in_sync != [])
        self.read(sector)

    def test_lost_cache_not_told(self) -> None:
        """All lost their caches: the incarnation of the storage says so."""
        world = self.served()
        self.write(0)
        self.power(0)
        self.power(1)
        self.owner_dies(0, 1)
        self.read_when_served(0)
        self.assertEqual(["incarnation changed"], world.said)
        self.all_is_well()

    def test_read_goes_back_in_reconcile(self) -> None:
        """What was read once stays, though the owner dies while copies are made equal."""
        for first in (0, 1):
            world = self.served()
            self.write(0)
            world.nodes[1 - first].hold("write")
            world.write(0, 8)
            world.advance(0.02)
            world.nodes[1 - first]._held.clear()
            world.crash_owner()
            world.delay_s = 0.002
            world.start_owner()
            world.until("serving", lambda world=world: world.mirror.serving is not None)  # type: ignore[misc]
            self.read(0)
            world.delay_s = 0.0
            self.owner_dies(first)
            self.read_when_served(0)
            self.owner_dies(1 - first, first)
            self.all_is_well()

    def test_two_copies_two_answers(self) -> None:
        """A write that reached one of two: every read has the same answer."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("write")
        world.write(0, 8)
        world.advance(0.02)
        world.nodes[1]._held.clear()
        self.owner_dies(0, 1)
        for _ in range(4):
            self.read_when_served(0)
        self.all_is_well()

    def test_stale_member_as_source(self) -> None:
        """The last copy is away, an older one is there: it waits."""
        world = self.served()
        self.drop(1)
        self.write(0)
        self.owner_dies(1)
        world.advance(20)
        assert world.mirror is not None
        self.assertEqual([], world.in_sync)
        self.assertIs(Health.FROZEN, world.mirror.status().health)
        self.back(0)
        self.in_sync()
        self.all_is_well()

    def test_target_only_survivor(self) -> None:
        """Only a resync target is left: it waits, and never serves what it has."""
        world = self.served()
        self.drop(1)
        self.write(0)
        self.write(3 * SECTORS)
        world.nodes[0].hold("read")
        self.back(1)
        world.advance(0.1)
        self.owner_dies(1)
        world.advance(20)
        self.assertEqual([], world.in_sync)
        self.back(0)
        self.in_sync()
        self.all_is_well()

    def test_only_in_sync_media_blank(self) -> None:
        """The only media that was in sync is blank: it waits."""
        world = self.served()
        self.drop(1)
        self.write(0)
        world.crash_owner()
        world.media[0] = SimulatedMedia(MEDIA_BYTES, seed=5)
        world.plugged = [True, True]
        world.start_owner()
        world.advance(20)
        assert world.mirror is not None
        self.assertEqual([], world.in_sync)
        self.assertIn("n0", world.mirror.status().reason)

    def test_ack_before_record(self) -> None:
        """n1 cannot be reached and no record without it is stable: nothing is acknowledged that it has not done."""
        world = self.served()
        self.write(0)
        store, slow = world.store.store, Deferred[None]()
        world.store.store = lambda label: slow  # type: ignore[method-assign]
        world.nodes[1].pull()
        world.advance(0.05)
        done = self.started(world.write(0, 8))
        world.advance(0.5)
        self.assertNoResult(done)
        world.store.store = store  # type: ignore[method-assign]
        self.owner_dies(1)
        self.read_when_served(0)
        self.all_is_well()

    def test_abandoned_add(self) -> None:
        """A record that names n1 reached n1 only, and n1 is gone: nothing is acknowledged before another record."""
        world = self.served()
        self.drop(1)
        self.write(3 * SECTORS)
        world.nodes[0].hold("write")
        self.back(1)
        world.until("being added", lambda: bool(self.serving.configuration.sent & 2))
        world.nodes[0].hold("")
        done = self.started(world.write(0, 8))
        world.advance(0.05)
        world.nodes[1].pull()
        world.plugged[1] = False
        world.advance(0.05)
        world.nodes[0].release()
        self.assertTrue(world.wait_for(done))
        self.owner_dies(1)
        world.advance(10)
        self.assertEqual([], world.in_sync)
        self.back(0)
        self.in_sync()
        self.all_is_well()


class HotTests(TraceCase):
    """Mark before data, clear with proof (R1, R2)."""

    def test_read_past_a_write(self) -> None:
        """A read that overlaps a write in flight waits."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("write")
        world.write(0, 8)
        reads = [self.started(world.read(0, 8)) for _ in range(4)]
        world.advance(0.1)
        for read in reads:
            self.assertNoResult(read)
        world.nodes[1].release()
        for read in reads:
            self.assertTrue(world.wait_for(read))
        self.all_is_well()

    def test_clear_with_write_in_flight(self) -> None:
        """A region is not cleared while a write is on one member only."""
        world = self.served(slow_s=0.0)
        self.write(0)
        world.nodes[1].hold("write")
        world.write(0, 8)
        for _ in range(12):
            world.advance(1)
            world.check_invariant()
        self.assertIn(0, self.serving.hot.regions)
        world.nodes[1].release()
        self.settle()
        self.all_is_well()

    def test_clear_before_stable(self) -> None:
        """A region is not cleared before every receiver was flushed."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("flush")
        for _ in range(12):
            world.advance(1)
            world.check_invariant()
        self.power(1, not_data)
        world.check_invariant()
        world.nodes[1].release()
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def test_data_before_mark(self) -> None:
        """No data is sent to a member whose mark is not stable."""
        world = self.served()
        world.nodes[1].hold("write")
        world.write(0, 8)
        for _ in range(5):
            world.advance(0.1)
            world.check_invariant()
        self.assertNotIn(0, [held.offset for held in world.nodes[1].held])
        self.power(0, lambda write: not not_data(write))
        world.check_invariant()
        world.nodes[1].release()
        self.back(0)
        self.in_sync()
        self.all_is_well()

    def test_evict_under_pressure(self) -> None:
        """A full hot set with a member in its grace waits for it, and goes on."""
        world = self.served(hot_regions=2, grace_s=3.0)
        self.write(0)
        self.write(SECTORS)
        world.nodes[1].pull(LinkState.INTERRUPTED)
        done = [self.started(world.write(region * SECTORS, 8)) for region in range(2, 6)]
        world.advance(1)
        for each in done:
            self.assertNoResult(each)
        world.nodes[1].plug_in()
        for each in done:
            self.assertTrue(world.wait_for(each))
        self.assertEqual([0, 1], world.in_sync)
        self.all_is_well()

    def test_torn_table_page_each_slot(self) -> None:
        """Whichever table page is torn, a member's age never says more than it has."""
        zone = Zone.at_end_of(MEDIA_BYTES, REGION_BYTES)
        for slots in ((0,), (1,), (0, 1)):
            world = self.served()
            self.write(0)
            self.settle()
            self.write(0)
            self.owner_dies(0)
            self.in_sync(0)
            self.write(0)
            for slot in slots:
                world.media[1].rot(zone.page_offset(0, slot) + PAGE_BYTES // 2)
            self.back(1)
            self.in_sync()
            self.all_is_well()

    def test_grown_offline_looks_blank(self) -> None:
        """Media that was made larger has its label where it ended: it is not blank."""
        world = self.served()
        for region in range(5):
            self.write(region * SECTORS)
        self.settle()
        self.drop(1)
        self.write(0)
        world.media[1].size += 4 * REGION_BYTES
        world.nodes[1].history.clear()
        self.back(1)
        self.in_sync()
        copied = sum(o.length for o in world.nodes[1].history if o.kind == "write" and o.offset < zone_start())
        self.assertLessEqual(copied, REGION_BYTES)


def zone_start() -> int:
    """Where data ends."""
    return Zone.at_end_of(MEDIA_BYTES, REGION_BYTES).offset
