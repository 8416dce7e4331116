"""
Resyncs: how much is copied, what is not copied twice, and that nothing keeps one from ending.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.defer import fail

from dst.algorithms.mirror.copying import BAD_RETRY_S
from dst.algorithms.mirror.member import Member
from dst.errors import MediaError, NotSupported
from dst.explaining import ResyncRecord
from dst.status import MemberState, ResyncProgress
from dst.testing.media import SECTOR_BYTES
from test.scenarios.test_named_traces import SECTORS, TraceCase
from test.scenarios.world import REGION_BYTES, World, versions_in

BLOCK_BYTES = 4096


class ResyncCase(TraceCase):
    """What was written to a member is counted."""

    def copied(self, n: int, since: int = 0) -> int:
        """Bytes of data that member C{n} was sent, those that clients wrote included."""
        size = self.world.data_sectors * SECTOR_BYTES
        changes = [each for each in self.world.nodes[n].history if each.kind == "write" and each.offset < size]
        return sum(each.length for each in changes) - since

    def begin_counting(self, n: int) -> None:
        """From here on."""
        self.world.nodes[n].history.clear()

    def progress(self, n: int) -> ResyncProgress:
        """Of the resync that goes on."""
        progress = self.state(n).resync
        assert progress is not None, self.world.describe()
        return progress

    def history(self) -> list[ResyncRecord]:
        """Resyncs that have ended."""
        assert self.world.mirror is not None
        return list(self.world.mirror.resyncs())

    def fill(self) -> None:
        """Every sector is written."""
        for sector in range(0, self.world.data_sectors, 32):
            self.write(sector, min(32, self.world.data_sectors - sector))
        self.settle()

    def churn(self, sectors: list[int]) -> Iterator[None]:
        """One write after the other, each when the last one was acknowledged."""
        while True:
            for sector in sectors:
                self.write(sector)
                yield

    def without_checksums(self) -> None:
        """No member can tell them."""
        for node in self.world.nodes:
            self.patch(node.inner, "checksums", lambda *args: fail(NotSupported("not here")))


class AmountTests(ResyncCase):
    """What has to be moved, and not more."""

    def test_scattered_writes(self) -> None:
        """An outage under scattered writes moves no more than what was written, in blocks, and the hot set."""
        self.served()
        self.fill()
        self.drop(1)
        written = 0
        for region in range(5):
            self.write(region * SECTORS + 16 * region, 8)
            written += BLOCK_BYTES
        self.begin_counting(1)
        self.back(1)
        self.in_sync()
        self.assertLessEqual(self.copied(1), written)
        self.assertEqual("partial", self.history()[-1].kind)
        self.all_is_well()

    def test_without_checksums(self) -> None:
        """Where checksums cannot be had it is whole regions: those that were written, and those that were hot."""
        self.served()
        self.fill()
        hot = len(self.serving.hot.regions)
        self.drop(1)
        self.write(0)
        self.write(3 * SECTORS)
        self.settle()
        self.without_checksums()
        self.begin_counting(1)
        self.back(1)
        self.in_sync()
        self.assertEqual((2 + hot) * REGION_BYTES, self.copied(1))
        self.all_is_well()

    def test_restart_of_the_owner(self) -> None:
        """What was copied before the owner died is not copied again."""
        world = self.served()
        self.fill()
        self.drop(1)
        assert world.mirror is not None
        for region in range(6):
            for sector in range(0, SECTORS, 32):
                at = region * SECTORS + sector
                if at < world.data_sectors:
                    self.write(at, min(32, world.data_sectors - at))
        self.settle()
        total = world.data_sectors * SECTOR_BYTES
        world.nodes[1].delay_s = 0.05
        self.begin_counting(1)
        self.back(1)
        world.until("half copied", lambda: self.copied(1) >= total // 2)
        world.until("entered", lambda: self.state(1).dirty_bytes < total // 2 + REGION_BYTES)
        before = self.copied(1)
        self.owner_dies(0, 1)
        self.in_sync()
        self.assertLessEqual(before + self.copied(1), total + 2 * REGION_BYTES)
        self.all_is_well()

    def test_what_was_never_written(self) -> None:
        """Regions that are zero on both sides are not copied, in a partial resync neither."""
        self.served()
        self.without_checksums()
        self.write(0)
        self.settle()
        self.drop(1)
        self.write(0)
        self.write(2 * SECTORS, SECTORS, change="trim")
        self.settle()
        self.begin_counting(1)
        self.back(1)
        self.in_sync()
        record = self.history()[-1]
        self.assertEqual(("partial", "in-sync"), (record.kind, record.outcome))
        self.assertEqual(REGION_BYTES, record.bytes_copied)
        self.assertGreaterEqual(record.bytes_dirty, 2 * REGION_BYTES)
        self.all_is_well()

    def test_bit_rot_is_not_taken_for_equal(self) -> None:
        """Where the target holds other data than its age says, a full resync finds it by its checksum."""
        world = self.served()
        self.fill()
        world.media[1].write(5 * BLOCK_BYTES, b"rotten" * 10)
        world.media[1].flush()
        assert world.mirror is not None
        self.begin_counting(1)
        world.wait_for(world.mirror.mark_dirty("n1"))
        self.in_sync()
        self.assertEqual(BLOCK_BYTES, self.copied(1))
        self.all_is_well()

    def test_copies_that_are_equal_after_an_unclean_stop(self) -> None:
        """What was hot when the owner died, and is the same everywhere, is not read to see that it is."""
        world = self.served()
        self.fill()
        for region in range(3):
            self.write(region * SECTORS)
        world.media[1].write(8 * SECTOR_BYTES, b"x" * SECTOR_BYTES)  # as if a write had reached one of them only
        world.legal[8] = world.legal[8] | set(versions_in(world.media[0].read(8 * SECTOR_BYTES, SECTOR_BYTES)))
        world.crash_owner()
        world.start_owner()
        world.until("serving", lambda: bool(world.mirror and world.mirror.serving))
        world.until("equal", lambda: not self.serving.hot.unreconciled)
        read = [each for node in world.nodes for each in node.history if each.kind == "read"]
        size = world.data_sectors * SECTOR_BYTES
        self.assertLessEqual(sum(each.length for each in read if each.offset < size), 3 * REGION_BYTES)
        self.assertEqual("reconcile", self.history()[-1].kind)
        self.all_is_well()


class BatchTests(ResyncCase):
    """Several batches are under way while no client works."""

    def copying_behind_flushes(self) -> World:
        """n1 has missed everything; its flushes, but for those of marks, do not end."""
        world = self.served(hot_regions=12)
        self.fill()
        self.drop(1)
        for region in range(-(-world.data_sectors // SECTORS)):
            self.write(region * SECTORS)
        self.settle()
        self.without_checksums()
        world.nodes[1].delay_s = 0.01
        self.back(1)
        world.until("copying", lambda: bool(self.member(1).copying))
        world.nodes[1].hold("flush")
        world.advance(1)
        return world

    def member(self, n: int) -> Member:
        """What the mirror knows of it."""
        assert self.world.mirror is not None
        return self.world.mirror.members[n]

    def test_the_next_is_copied_while_one_is_flushed(self) -> None:
        """Copying goes on behind a flush, and no region is clean before the flush of its own batch has ended."""
        world = self.copying_behind_flushes()
        self.assertEqual({"flush"}, {each.kind for each in world.nodes[1].held})
        self.assertGreater(len(world.nodes[1].held), 1)  # one for each batch that was copied
        self.assertLessEqual(len(self.member(1).copying), self.serving.hot.copied_at_once)
        dirty = self.member(1).dirty_count
        world.advance(2)
        self.assertEqual(dirty, self.member(1).dirty_count)
        world.check_invariant()
        world.nodes[1].release()
        self.in_sync()
        self.all_is_well()

    def test_the_target_leaves_with_several_under_way(self) -> None:
        """Nothing of them goes on; what was not entered is copied when it is back."""
        world = self.copying_behind_flushes()
        dirty = self.member(1).dirty_count
        world.nodes[1].pull()
        world.until("absent", lambda: self.member(1).state is MemberState.ABSENT)
        self.assertEqual(set(), self.serving.hot.reserved)
        world.advance(1)
        world.check_invariant()
        world.nodes[1].plug_in()
        world.nodes[1].release()
        self.in_sync()
        self.assertGreaterEqual(self.history()[-1].bytes_copied, dirty * REGION_BYTES - SECTORS * SECTOR_BYTES)
        self.all_is_well()

    def test_the_storage_stops_with_several_under_way(self) -> None:
        """It stops, and no copy is left behind."""
        world = self.copying_behind_flushes()
        assert world.mirror is not None
        closed = world.mirror.close()
        world.nodes[1].release()
        world.advance(1)
        self.successResultOf(closed)
        world.check_invariant()

    def test_paused_with_several_under_way(self) -> None:
        """What has begun is brought to its end; then nothing is copied."""
        world = self.copying_behind_flushes()
        assert world.mirror is not None
        self.successResultOf(world.mirror.pause_resync("n1"))
        world.nodes[1].release()
        world.until("paused", lambda: "paused" in self.progress(1).stalled)
        self.assertEqual(set(), self.member(1).copying)
        self.assertEqual(set(), self.serving.hot.reserved)
        self.successResultOf(world.mirror.resume_resync("n1"))
        self.in_sync()
        self.all_is_well()


class StarvationTests(ResyncCase):
    """A resync ends, whatever clients do."""

    def test_few_hot_regions_and_constant_writes(self) -> None:
        """Two regions that are written in turn, with room for one hot region: one is being cleared at any time."""
        world = self.served(hot_regions=1)
        for node in world.nodes:
            node.delay_s = 0.01
        self.fill()
        self.drop(1)
        churn = self.churn([0, 2 * SECTORS])
        for _ in range(10):
            next(churn)
        self.back(1)
        for _ in range(300):
            next(churn)
            if world.in_sync == [0, 1]:
                break
        self.assertEqual([0, 1], world.in_sync)
        self.all_is_well()

    def test_what_a_copy_comes_to_next_stays(self) -> None:
        """A region that a copy waits for is not cleared before: who needs its room waits for that copy."""
        world = self.served(hot_regions=1)
        self.write(0)
        self.serving.hot.reserved = {0}
        done = self.started(world.write(2 * SECTORS, 8))
        world.advance(10)
        self.assertNoResult(done)
        self.serving.hot.reserved = set()
        self.serving.hot.left()
        self.assertTrue(world.wait_for(done, 0.1))

    def test_writes_to_more_regions_than_may_be_hot(self) -> None:
        """Writes go on while a resync pins regions: it takes as few at once as leave room for them."""
        world = self.served(hot_regions=2)
        self.fill()
        self.drop(1)
        for node in world.nodes:
            node.delay_s = 0.01
        churn = self.churn([region * SECTORS for region in range(5)])
        for _ in range(10):
            next(churn)
        self.back(1)
        for _ in range(300):
            next(churn)
            assert world.mirror is not None
            self.assertLessEqual(len(world.mirror.members[1].copying), 1)
            world.advance(0.002)
            if world.in_sync == [0, 1]:
                break
        self.assertEqual([0, 1], world.in_sync)
        self.all_is_well()


class UnreadableTests(ResyncCase):
    """The only source cannot read some of it."""

    def lost_sector(self) -> World:
        """Sector 100 of n0 is unreadable, n1 has missed the region it is in, and two others."""
        world = self.served()
        self.fill()
        self.drop(1)
        for sector in (96, 3 * SECTORS, 4 * SECTORS):
            self.write(sector)
        self.settle()
        self.without_checksums()
        world.nodes[0].fail_next(
            "read", MediaError("bad sector"), times=None, extent=(100 * SECTOR_BYTES, SECTOR_BYTES)
        )
        return world

    def test_the_rest_is_copied(self) -> None:
        """One unreadable sector does not keep the others from being copied; what is missing is said exactly."""
        world = self.lost_sector()
        self.back(1)
        world.until("waiting", lambda: bool(self.state(1).resync and self.state(1).resync.stalled))
        stalled = self.progress(1).stalled
        self.assertIn(f"{BLOCK_BYTES} at {96 * SECTOR_BYTES}", stalled)
        self.assertEqual(REGION_BYTES, self.state(1).dirty_bytes)
        self.assertEqual("resyncing", self.state(1).state)
        self.assertEqual([0], world.in_sync)
        for sector in (3 * SECTORS, 4 * SECTORS):
            at = sector * SECTOR_BYTES
            self.assertEqual(world.media[0].read(at, BLOCK_BYTES), world.media[1].read(at, BLOCK_BYTES))
        world.check_invariant()

    def test_writing_there_heals_it(self) -> None:
        """Once a client has written over it the sector can be read, and the resync ends by itself."""
        world = self.lost_sector()
        self.back(1)
        world.until("waiting", lambda: bool(self.state(1).resync and self.state(1).resync.stalled))
        self.write(96, 8)
        world.nodes[0].heal()  # what was written can be read
        world.until("in sync", lambda: world.in_sync == [0, 1], BAD_RETRY_S + 5)
        self.all_is_well()

    def test_it_is_not_tried_all_the_time(self) -> None:
        """A disk that is dying is not asked for the same sector again and again."""
        world = self.lost_sector()
        self.back(1)
        world.until("waiting", lambda: bool(self.state(1).resync and self.state(1).resync.stalled))
        before = world.nodes[0].counts["read"]
        world.advance(BAD_RETRY_S / 2)
        self.assertEqual(before, world.nodes[0].counts["read"])

    def test_different_sectors_of_copies_to_be_made_equal(self) -> None:
        """After an unclean stop: what one copy cannot read is taken from the other, in both directions."""
        world = self.served()
        self.fill()
        for node in world.nodes:
            node.hold("write")
        world.write(0, 8)
        world.advance(0.1)
        world.crash_owner()
        for media in world.media:
            media.write(64 * SECTOR_BYTES, media.read(64 * SECTOR_BYTES, SECTOR_BYTES))
        world.start_owner()
        world.nodes[0].fail_next("read", MediaError("bad"), times=2, extent=(16 * SECTOR_BYTES, SECTOR_BYTES))
        world.nodes[1].fail_next("read", MediaError("bad"), times=2, extent=(48 * SECTOR_BYTES, SECTOR_BYTES))
        world.until("equal", lambda: bool(world.mirror and world.mirror.serving) and not self.unequal())
        self.all_is_well()

    def unequal(self) -> set[int]:
        """Regions that have to be made equal."""
        return self.serving.hot.unreconciled


class PauseTests(ResyncCase):
    """A person may pause it, and see what was."""

    def test_paused(self) -> None:
        """Nothing is copied while it is paused, and the reason says so; then it goes on."""
        world = self.served()
        self.fill()
        self.drop(1)
        self.write(0)
        self.settle()
        assert world.mirror is not None
        self.successResultOf(world.mirror.pause_resync("n1"))
        self.begin_counting(1)
        self.back(1)
        world.advance(10)
        self.assertEqual(0, self.copied(1))
        self.assertIn("paused by hand", self.progress(1).stalled)
        assert world.mirror.status().detail["resync_pace"]
        self.assertEqual(MemberState.RESYNCING.value, self.state(1).state)
        self.successResultOf(world.mirror.resume_resync())
        self.in_sync()
        self.all_is_well()

    def test_paused_members_leave_and_return(self) -> None:
        """A pause outlives the resync that it paused."""
        world = self.served()
        self.fill()
        self.drop(1)
        self.write(0)
        assert world.mirror is not None
        self.successResultOf(world.mirror.pause_resync())
        for _ in range(2):
            self.back(1)
            world.advance(5)
            self.assertIn("paused", self.progress(1).stalled)
            world.nodes[1].pull()
            world.advance(1)
            self.assertEqual("absent", self.state(1).state)
        self.successResultOf(world.mirror.resume_resync("n1"))
        self.back(1)
        self.in_sync()

    def test_history(self) -> None:
        """What was resynced, why, by which row, how much, and how it ended."""
        world = self.served()
        self.fill()
        self.drop(1)
        self.write(0)
        self.settle()
        world.nodes[0].hold("read")
        self.patch(world.nodes[0].inner, "checksums", lambda *args: world.nodes[0].inner.read(0, 1))
        self.back(1)
        world.advance(0.5)
        world.nodes[1].pull()
        world.nodes[0].release()
        world.advance(1)
        self.back(1)
        self.in_sync()
        first, failed, last = self.history()
        self.assertEqual(("n1", "full", "new-media", "in-sync"), (first.member, first.kind, first.row, first.outcome))
        self.assertEqual(("partial", "returning"), (failed.kind, failed.row))
        self.assertIn("cable", failed.outcome)
        self.assertEqual(("partial", "returning", "in-sync"), (last.kind, last.row, last.outcome))
        self.assertEqual(REGION_BYTES, last.bytes_dirty)
        self.assertGreaterEqual(last.bytes_copied, BLOCK_BYTES)
        self.assertNotEqual("", last.cause)
        self.assertGreater(failed.seconds, 0.4)
