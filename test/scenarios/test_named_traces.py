"""
Each trace broke a promise in a draft of the rules. It is played on the real mirror, step by step, and may not again.

The name says what goes wrong when its rule is missing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.algorithms.mirror.serving import Serving
from dst.errors import MediaError
from dst.label.format import Record
from dst.label.zone import PAGE_BYTES, Zone
from dst.status import Health, LinkState
from dst.testing.disk import SimulatedDisk
from dst.testing.faulty import FaultyDevice
from dst.testing.media import SECTOR_BYTES, CachedWrite, SimulatedMedia
from test.scenarios.invariant import what_stands_on
from test.scenarios.world import MEDIA_BYTES, REGION_BYTES, STEP_S, MemoryRecordStore, World

SECTORS = REGION_BYTES // SECTOR_BYTES
"""Sectors of a region."""


def not_data(write: CachedWrite) -> bool:
    """For a power cut: only what stands in the zone survives, not the data that was written before it."""
    return write.offset >= Zone.at_end_of(MEDIA_BYTES, REGION_BYTES).offset


_Test = TypeVar("_Test", bound=Callable[..., None])

PROOFS: list[tuple[str, str, str, tuple[str, ...]]] = []
"""Name of a class and of its test, the rule that it fails without, and other rules that have to be off for that."""


def proves(rule: str, hidden_by: tuple[str, ...] = ()) -> Callable[[_Test], _Test]:
    """
    The test fails when C{rule} is switched off.

    @param hidden_by: guards that would keep the harm away, too: without these alone the test passes.
    """

    def noted(test: _Test) -> _Test:
        case, _, name = test.__qualname__.partition(".")
        PROOFS.append((case, name, rule, hidden_by))
        return test

    return noted


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

    def no_record_gets_stable(self) -> None:
        """As long as this owner lives."""
        store = self.world.store
        kept = store.store
        store.store = lambda label: Deferred()  # type: ignore[method-assign]
        self.records_again = lambda: setattr(store, "store", kept)

    def records_again(self) -> None:
        """Records can get stable."""

    def owner_dies(self, *reachable: int) -> None:
        """The next owner finds only these members."""
        self.world.crash_owner()
        self.records_again()
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

    @proves("epoch_leave")
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

    @proves("epoch_target")
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

    @proves("age_at_clear", hidden_by=("hot_target",))
    def test_takeover_alone_clears_hot(self) -> None:
        """A write on n0 only, n0 alone is taken over and clears: n1 is dirty, whatever else is known of it."""
        world = self.served()
        self.write(0)
        self.settle()
        self.write(0)
        self.write_only_on(0, 1)
        self.owner_dies(0)
        self.in_sync(0)
        self.settle()
        self.back(1)
        self.in_sync()
        self.assertEqual(world.media[0].read(0, 4096), world.media[1].read(0, 4096))
        self.all_is_well()

    def write_only_on(self, there: int, not_there: int) -> None:
        """A write to sector 0 that never arrives at one member; both have marked it before."""
        world = self.world
        world.nodes[not_there].hold("write")
        self.started(world.write(0, 8))
        world.advance(0.02)
        self.assertEqual([0], [held.offset for held in world.nodes[not_there].held])
        world.nodes[not_there]._held.clear()
        world.nodes[not_there].hold("")

    @proves("age_cmp")
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

    @proves("hot_source")
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

    @proves("hot_target", hidden_by=("age_at_clear",))
    def test_hot_only_on_returning(self) -> None:
        """A write that only n1 has is not there any more after n1 came back, whatever its age says."""
        world = self.served()
        self.write(0)
        self.settle()
        self.write(0)
        self.write_only_on(1, 0)
        self.owner_dies(0)
        self.in_sync(0)
        self.read(0)
        self.settle()
        self.back(1)
        self.in_sync()
        self.assertEqual(world.media[0].read(0, 4096), world.media[1].read(0, 4096))
        self.all_is_well()

    @proves("not_listed")
    def test_removed_member_returns(self) -> None:
        """A member that was removed is foreign when it returns: not read, not written."""
        world = self.served(3)
        assert world.mirror is not None
        world.wait_for(world.mirror.remove_node("n2"))
        self.write(0)
        before = world.media[2].read(0, MEDIA_BYTES)
        world.stop_owner()
        world.start_owner()
        world.advance(10)
        self.assertEqual("refused", self.state(2).state)
        self.assertEqual([0, 1], world.in_sync)
        self.assertEqual(before, world.media[2].read(0, MEDIA_BYTES))
        world.check_invariant()


class FlushTests(TraceCase):
    """What was flushed stays (R3, R10, R12)."""

    @proves("flush_all")
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

    @proves("flush_incarnation")
    def test_power_cycle_inside_grace(self) -> None:
        """A member loses its power and is back at once: it does not acknowledge a flush of what it lost."""
        world = self.served()
        self.write(0)
        self.no_record_gets_stable()
        world.nodes[0].pull(LinkState.INTERRUPTED)
        world.media[0].lose_unflushed("none")
        world.nodes[0].plug_in()
        self.started(world.flush())
        world.advance(0.1)
        self.owner_dies(0)
        self.in_sync(0)
        self.read(0)
        self.all_is_well()

    @proves("flush_targets", hidden_by=("flush_add", "copy_flush"))
    @proves("flush_add", hidden_by=("flush_targets", "copy_flush"))
    def test_unstable_target_joins(self) -> None:
        """What a client has flushed is stable on a target that joins: all lose their power, and it is back alone."""
        world = self.served()
        self.drop(1)
        self.write(3 * SECTORS, change="trim")  # so that a copy is needed, and moves nothing that could be lost
        world.nodes[0].hold("read checksums block_status")
        self.back(1)
        world.until("resyncing", lambda: bool(self.serving.configuration.targets))
        self.write(0)
        self.flush()
        world.nodes[0].release()
        self.in_sync()
        self.power(0)
        self.power(1)
        self.owner_dies(1)
        self.in_sync(1)
        self.read(0)
        self.all_is_well()
        self.assertIn("incarnation changed", world.said)

    @proves("copy_flush")
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

    @proves("flush_failure")
    def test_fsync_error_then_success(self) -> None:
        """A member whose flush failed has lost what it should have flushed: it does not acknowledge that flush."""
        world = self.served()
        self.write(0)
        self.no_record_gets_stable()
        world.nodes[1].flush_keeps = "none"
        world.nodes[1].fail_next("flush", MediaError("lost"))
        self.started(world.flush())
        world.advance(0.1)
        self.owner_dies(1)
        self.in_sync(1)
        self.read(0)
        self.all_is_well()

    @proves("flush_incarnation")
    def test_flush_after_a_failed_flush(self) -> None:
        """A flush that succeeds because an earlier one failed proves nothing."""
        world = self.served()
        self.write(0)
        self.no_record_gets_stable()
        world.nodes[1].hold("flush")
        self.started(world.flush())
        self.started(world.flush())
        world.nodes[1].flush_keeps = "none"
        world.nodes[1].fail_next("flush", MediaError("lost"))
        world.nodes[1].release()
        world.advance(0.1)
        self.owner_dies(1)
        self.in_sync(1)
        self.read(0)
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

    @proves("copy_mark")
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

    @proves("copy_writes")
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

    @proves("drained")
    def test_slow_member_returns_with_old_queue(self) -> None:
        """A member that left with a write in its queue is not taken back before that is done or dropped."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("write")
        done = self.started(world.write(0, 8))
        world.advance(0.02)
        world.nodes[1].hold("")  # only what is in its queue by now hangs
        world.nodes[1].fail_next("flush", MediaError("bad"))
        self.flush()
        self.assertTrue(world.wait_for(done))
        self.write(0)
        world.advance(3)
        world.nodes[1].release()
        self.in_sync()
        self.all_is_well()

    @proves("one_order")
    def test_resend_then_straggler(self) -> None:
        """Of two writes to the same place the newer one is not sent before the older one has ended everywhere."""
        world = self.served()
        self.write(0)
        world.nodes[1].hold("write")
        self.started(world.write(0, 8))
        newer = world.mirror.write(0, bytes(4096))  # type: ignore[union-attr]
        world.advance(0.1)
        world.nodes[1]._held.reverse()
        world.nodes[1].release()
        world.wait_for(newer)
        world.legal.update({sector: {0} for sector in range(8)})
        for _ in range(4):
            self.read(0)
        self.all_is_well()

    @proves("reconcile")
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

    @proves("failed_everywhere")
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

    @proves("retained")
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

    @proves("told")
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

    @proves("recon_first", hidden_by=("read_waits",))
    def test_read_goes_back_in_reconcile(self) -> None:
        """What was read once stays, though the owner dies while copies are made equal."""
        for first in (0, 1):
            world = self.served()
            self.write(0)
            self.write_only_on(first, 1 - first)
            world.crash_owner()
            world.delay_s = 0.002
            world.start_owner()
            world.until("serving", lambda world=world: world.mirror.serving is not None)  # type: ignore[misc]
            for node in world.nodes:
                node.hold("write")
            self.started(world.read(0, 8))
            world.advance(0.1)
            for node in world.nodes:
                node._held.clear()
            world.delay_s = 0.0
            self.owner_dies(first)
            self.read_when_served(0)
            world.crash_owner()
            self.assertTrue(world.said == [])
            world.plugged = [True, True]
            self.all_is_well()

    def write_only_on(self, there: int, not_there: int) -> None:
        """A write to sector 0, which is hot, that one member does and that never arrives at the other."""
        world = self.world
        world.nodes[not_there].hold("write")
        self.started(world.write(0, 8))
        world.advance(0.02)
        world.nodes[not_there]._held.clear()
        world.nodes[not_there].hold("")

    @proves("reconcile")
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

    @proves("insync_only")
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

    @proves("adopt_highest")
    def test_last_man_dies_other_returns(self) -> None:
        """n0 went on alone, by a record that n1 never saw, and died; only n1 and a vote are there: it waits."""
        world = self.served()
        self.drop(1)
        self.write(0)
        self.owner_dies(1)
        world.advance(20)
        self.assertEqual([], world.in_sync)
        self.back(0)
        self.in_sync()
        self.all_is_well()

    @proves("insync_only")
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

    @proves("insync_only")
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

    @proves("record_first")
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
        del done  # nobody may have heard that it was done
        world.store.store = store  # type: ignore[method-assign]
        self.owner_dies(1)
        self.read_when_served(0)
        self.all_is_well()

    @proves("union_add")
    def test_abandoned_add(self) -> None:
        """A record that names n1 reached only n1, and n1 is gone: nothing is acknowledged before another one."""
        world = self.served()
        self.drop(1)
        self.write(3 * SECTORS)
        self.no_record_gets_stable()
        self.back(1)
        before = self.record_on(1).sequence
        world.until(
            "named by its own label",
            lambda: len(self.record_on(1).in_sync) == 2 and self.record_on(1).sequence > before,
        )
        world.nodes[1].pull()
        world.plugged[1] = False
        self.started(world.write(0, 8))
        world.advance(1)
        self.owner_dies(1)
        self.in_sync(1)
        self.read(0)
        self.back(0)
        self.in_sync()
        self.all_is_well()

    def record_on(self, n: int) -> Record:
        """What the media of member C{n} says of the configuration."""
        found = what_stands_on(self.world.media[n])
        assert found is not None
        return found[0].record


class HotTests(TraceCase):
    """Mark before data, clear with proof (R1, R2)."""

    @proves("read_waits")
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

    @proves("clear_idle")
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

    @proves("clear_stable")
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

    @proves("clear_untouched")
    def test_written_while_it_is_proved(self) -> None:
        """A region stays hot that was written to after one receiver was flushed for its clear, before another."""
        world = self.served(slow_s=0.0)
        self.write(0)
        world.nodes[1].hold("flush")
        world.until("a clear has begun", lambda: bool(world.nodes[1].held))
        self.write(0)
        world.nodes[1].release()
        world.advance(0.1)
        world.check_invariant()
        self.assertIn(0, self.serving.hot.regions)
        self.power(0)
        world.check_invariant()
        self.back(0)
        self.in_sync()
        self.all_is_well()

    @proves("mark_first")
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

    @proves("evict_lets_in")
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

    @proves("slot_choice")
    def test_last_stable_page_is_overwritten(self) -> None:
        """A page that is torn on every member does not bring back what was cold before a stable mark."""
        world = self.served()
        self.write(0)
        self.write(SECTORS)
        self.settle()
        self.flush()
        self.write(SECTORS)
        self.write(0)
        self.flush()
        world.nodes[1].hold("write")
        self.started(world.write(0, 8))
        world.advance(0.02)
        world.nodes[1]._held.clear()
        world.nodes[1].hold("")
        self.assertTrue(world.wait_for(Deferred.fromCoroutine(self.serving.hot.clear([1]))))
        for node in world.nodes:
            node.hold("write")
        self.started(world.write(4 * SECTORS, 8))  # a mark
        world.advance(0.02)
        torn = [node.held[0].offset for node in world.nodes]
        for node in world.nodes:
            node._held.clear()
        world.crash_owner()
        for media, offset in zip(world.media, torn, strict=True):
            media.lose_unflushed(lambda write: not not_data(write))
            media.rot(offset + PAGE_BYTES // 2)
        world.check_invariant()
        world.start_owner()
        self.all_is_well()

    @proves("page_in_turn")
    def test_clear_overtakes_mark_in_page(self) -> None:
        """Two images of a page are never on their way at once: the older one could come last, without the mark."""
        world = self.served()
        self.write(SECTORS)
        self.write(0)
        self.settle()
        self.write(SECTORS)
        for node in world.nodes:
            node.hold("write")
        Deferred.fromCoroutine(self.serving.hot.clear([1]))
        world.advance(0.02)
        self.started(world.write(0, 8))
        world.advance(0.02)
        world.nodes[1].delay_s = 0.01
        for node in world.nodes:
            node._held.reverse()
            node.release()
        for _ in range(30):
            world.clock.advance(0.001)
            world.check_invariant()
        self.owner_dies(0, 1)
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

    @proves("old_ends")
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


class NestedTests(TraceCase):
    """A member that is itself a mirror: what its users must be told, and what not."""

    def nested(self) -> None:
        """A mirror of an inner mirror of two, and of a disk."""
        inner = self.served().mirror
        assert inner is not None
        self.clock = Clock()
        inner.open = lambda: succeed(None)  # type: ignore[method-assign]  # it is
        self.edge = FaultyDevice(self.clock, inner)
        self.disk = SimulatedMedia(MEDIA_BYTES, seed=9)
        self.outer = Mirror(
            self.clock,
            "outer",
            [self.edge, FaultyDevice(self.clock, SimulatedDisk(self.clock, "disk", self.disk))],
            MirrorOptions(region_size=REGION_BYTES, start_wait_s=0.5, grace_s=1.0),
            MemoryRecordStore(),
            entropy=random.Random(7).randbytes,
        )
        self.outer.open()
        self.both_until(lambda: self.outer_in_sync() == 3)

    def outer_in_sync(self) -> int:
        """A mask of the outer mirror's members."""
        return self.outer.serving.configuration.in_sync if self.outer.serving is not None else 0

    def both_advance(self, seconds: float) -> None:
        """Time passes for both mirrors."""
        for _ in range(round(seconds / STEP_S)):
            self.world.clock.advance(STEP_S)
            self.clock.advance(STEP_S)

    def both_until(self, condition: Callable[[], bool]) -> None:
        """At most 20 s."""
        for _ in range(1000):
            if condition():
                return
            self.both_advance(0.02)
        self.fail(f"it never came true: {self.outer.status()}")

    def written(self, data: bytes) -> None:
        """Acknowledged by the outer mirror."""
        done: list[object] = []
        self.outer.write(0, data).addBoth(done.append)
        self.both_until(lambda: done == [None])

    def content(self) -> list[int]:
        """The first byte that the outer mirror reads, several times."""
        answers: list[bytes] = []
        for _ in range(4):
            self.outer.read(0, 4096).addBoth(answers.append)
        self.both_until(lambda: len(answers) == 4)
        return [answer[0] for answer in answers]

    def inner_owner_dies(self) -> None:
        """And the next one takes over, before the outer mirror thinks that its member is gone."""
        self.edge.pull(LinkState.INTERRUPTED)
        self.world.crash_owner()
        self.world.plugged = [True, True]
        self.world.start_owner()
        self.world.until("in sync", lambda: self.world.in_sync != [])
        assert self.world.mirror is not None
        self.edge.inner = self.world.mirror
        self.edge.plug_in()

    @proves("told")
    def test_inner_storage_loses_cache(self) -> None:
        """All disks below a member lost their power: it has another incarnation, and is copied to."""
        self.nested()
        self.written(b"\1" * 4096)
        for media in self.world.media:
            media.lose_unflushed("none")
        self.inner_owner_dies()
        self.assertEqual([1] * 4, self.content())
        self.both_until(lambda: self.outer_in_sync() == 3)
        self.both_advance(1)
        self.assertEqual([1] * 4, self.content())
        self.assertEqual([1] * 3, [media.read(0, 1)[0] for media in [self.disk, *self.world.media]])

    @proves("told_truly")
    def test_inner_storage_fails_over_without_loss(self) -> None:
        """One of the disks below a member lost its power, the other has it all: nobody above notices a thing."""
        self.nested()
        self.written(b"\1" * 4096)
        assert self.outer.serving is not None
        before = self.outer.serving.configuration.record
        self.world.media[0].lose_unflushed("none")
        self.inner_owner_dies()
        self.assertEqual([1] * 4, self.content())
        self.both_advance(3)
        self.assertEqual(3, self.outer_in_sync())
        self.assertEqual(before, self.outer.serving.configuration.record)


class StartedAgainTests(TraceCase):
    """What a service that is over still waits for does nothing to the one after it."""

    def starts_again(self) -> None:
        """C{n1} hangs, the storage is served from n0 alone; then n1 goes on, slowly."""
        world = self.world
        world.until("hangs", lambda: world.nodes[1].held)
        assert world.mirror is not None
        world.mirror.start_again("a person wants to see it")
        self.in_sync(0)
        self.write(0)
        self.flush()
        world.nodes[1].delay_s = 0.01
        world.nodes[1].release()

    def is_hot(self, n: int) -> bool:
        """What the media of C{n} says of the region."""
        found = what_stands_on(self.world.media[n])
        return found is not None and found[1][0].hot

    @proves("clear_of_this_service")
    def test_clear_ends_after_the_service(self) -> None:
        """A clear of the service before proves nothing of what was written since, and clears nothing."""
        world = self.served(2)
        self.write(0)
        world.advance(3)
        world.nodes[1].hold("flush")
        self.starts_again()
        for _ in range(30):
            world.advance(STEP_S)
            if not self.is_hot(1):
                break
        world.nodes[1].pull()
        world.advance(0.01)
        self.write(0)
        self.flush()
        self.owner_dies(0, 1)
        self.in_sync()
        for _ in range(4):
            self.read(0)
        self.all_is_well()

    @proves("record_of_this_service")
    def test_record_ends_after_the_service(self) -> None:
        """A record of the service before does not follow the one that says who has the data now."""
        world = self.served(3)
        self.write(0)
        world.advance(0.1)
        world.nodes[1].hold("write")
        world.nodes[2].pull()
        world.plugged[2] = False
        self.starts_again()
        kept = world.store.kept
        world.until("another record", lambda: world.store.kept != kept)
        world.nodes[1].pull()
        self.owner_dies(1)
        world.advance(5)
        self.started(world.read(0, 8))  # it fails, or is right
        world.advance(0.1)
        self.all_is_well()


class NewMediaTests(TraceCase):
    """What stood on the media before there was a storage."""

    @proves("zero_proved")
    def test_never_written_garbage(self) -> None:
        """What nobody has written since is the same on all copies, too, though each had something else there."""
        world = self.world = World(2)
        for n, media in enumerate(world.media):
            for region in range(4):
                media.write(region * REGION_BYTES + 5000, bytes([n + 1]) * 9000)
        world.start_owner()
        world.until("asking", lambda: bool(world.mirror) and "init" in world.mirror.reason)
        assert world.mirror is not None
        world.wait_for(world.mirror.initialise(discard=True))
        self.in_sync()
        size = world.data_sectors * SECTOR_BYTES
        self.assertEqual(1, len({media.read(0, size) for media in world.media}))
        world.check_invariant()


def zone_start() -> int:
    """Where data ends."""
    return Zone.at_end_of(MEDIA_BYTES, REGION_BYTES).offset
