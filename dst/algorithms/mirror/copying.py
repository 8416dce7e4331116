"""
Copying to members that have missed something (R5, R12).

By batches of regions: each is marked as hot on the target, copied chunk by chunk, flushed, and only then entered as
being what the source has. While no client works the next batch is marked and copied while one is being flushed. A
chunk holds its extent, so that no client writes over it meanwhile; where that is likely to pay both sides are asked
for checksums first, under the same hold, and only what differs is sent.

Nothing here decides how fast: every chunk waits for its turn with the L{Pacer}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dst.algorithms.mirror.chunk_queue import ChunkQueue
from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.data_path import DataPath
from dst.algorithms.mirror.hot_set import HotSet
from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.pacing import Pacer
from dst.algorithms.mirror.reconciling import Reconciler
from dst.algorithms.mirror.resync_run import Pauses, Rate, ResyncRun, unreadable_sentence
from dst.algorithms.mirror.sources import HELD_RETRY_S, PIECE_BYTES, Sources, all_of, checksums_of, start
from dst.errors import DSTError, NotSupported, Unavailable
from dst.explaining import ResyncRecord
from dst.geometry import BlockStatus, align_down
from dst.interfaces import CHECKSUM_BYTES, Buffer, INode
from dst.recovery.pace import Worth
from dst.recovery.write_order import Extent, ExtentOrder
from dst.status import MemberState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Copier"]

_log = Logger()

BATCH_BYTES = 16 << 20
"""Regions of so many bytes share one mark, one flush and one entry write."""

BATCHES_IDLE = 3
"""Batches under way at once while nothing is held back: one is marked, one copied and one flushed."""

BATCH_S = 1.0
"""While it is held back a batch lasts so long, about: its flush is what a client's flush has to wait for."""

ZERO_RUN_REGIONS = 256
"""Regions that are asked about at once whether they are zero; a client's write to one of them waits that long."""

BAD_RETRY_S = 30.0
"""How often what no source can read is tried again."""

PAUSED_LOOK_S = 1.0
"""How often a paused resync looks whether its member is still there."""

_AFTER_COPIES = 1000

PAUSED = "paused by hand; it goes on when it is resumed"


class Copier:
    """
    Copies of one serving mirror.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock_s: Callable[[], float],
        members: Sequence[Member],
        configuration: Configuration,
        order: ExtentOrder,
        hot: HotSet,
        data_path: DataPath,
        pacer: Pacer,
        pauses: Pauses,
        ended: Callable[[ResyncRecord], None],
        changed: Callable[[], None],
    ) -> None:
        """
        @param ended: told of every resync that has ended, well or not.
        @param changed: told when there is something new to be seen.
        """
        self._clock = clock
        self._wall_clock_s = wall_clock_s
        self._members = members
        self._configuration = configuration
        self._order = order
        self._hot = hot
        self._data_path = data_path
        self._region_size = 1 << data_path.shift
        self.pacer = pacer
        self._pauses = pauses
        self._history = ended
        self._changed = changed
        self._runs: dict[int, ResyncRun] = {}
        self._sources = Sources(clock, members, configuration, order)
        self._reconciler = Reconciler(
            clock, members, configuration, order, hot, data_path, self._sources, self.chunks, changed
        )
        self.reconcile_soon = self._reconciler.reconcile_soon
        self.reconcile = self._reconciler.reconcile
        self.repair = self._reconciler.repair
        self.hold = self._sources.hold
        self.write = self._sources.write

    @property
    def reconciled_bytes(self) -> int:
        """What had to be written to make copies equal."""
        return self._reconciler.reconciled_bytes

    def stop(self) -> None:
        """Nothing goes on in the background any more. A resync belongs to who asked for it."""
        self._reconciler.stop()
        self.pacer.stop()

    def refresh(self) -> None:
        """Some time has passed: say how far everything is."""
        for run in self._runs.values():
            self._tell(run)

    def _tell(self, run: ResyncRun) -> None:
        run.member.progress = run.progress(run.member.dirty_count * self._region_size)
        self._changed()

    @property
    def redundancy(self) -> int:
        """How many members the storage can still lose."""
        configuration = self._configuration
        return max(0, (configuration.in_sync & configuration.usable).bit_count() - 1)

    @property
    def resyncing(self) -> bool:
        """Something is copied to a member."""
        return bool(self._runs)

    @property
    def rank(self) -> int:
        """As L{redundancy}, for whose turn it is: who only compares comes after everybody who copies."""
        return self.redundancy + (0 if self._runs else _AFTER_COPIES)

    # -- to a resync target

    async def run(self, member: Member, full: bool, cause: str, row: str = "", *, expect_equal: bool = True) -> None:
        """
        Copy all that C{member} has not, until it is in sync or leaves.

        @param row: the table row that demanded it.
        @param expect_equal: it is likely to have most of it already.
        """
        clock = self._clock
        run = ResyncRun(
            clock,
            member,
            "full" if full else "partial",
            cause,
            row,
            self._wall_clock_s(),
            member.dirty_count * self._region_size,
            Worth(1.0 if expect_equal else 0.0),
            Rate(clock),
            clock.seconds(),
        )
        self._runs[member.index] = run
        self.pacer.enter(self.redundancy)
        self._data_path.load.wake()
        member.become(MemberState.RESYNCING, cause)
        self._tell(run)
        _log.info("{member}: {kind} resync of {n} bytes", member=member.name, kind=run.kind, n=run.total_bytes)
        outcome = ""
        try:
            await self._skip_zeroes(member)
            await self._copy_all(run)
        except CancelledError:
            outcome = "the storage stopped"
            raise
        except DSTError as error:
            outcome = member.reason if member.state is MemberState.ABSENT else str(error)
            raise
        finally:
            self._ended(run, outcome)

    def _ended(self, run: ResyncRun, outcome: str) -> None:
        member = run.member
        del self._runs[member.index]
        self._reserve(run, [])
        self.pacer.leave()
        if not outcome:
            in_sync = member.state is MemberState.IN_SYNC
            outcome = "in-sync" if in_sync else member.reason or f"it is {member.state.value}"
        self._history(run.record(outcome))

    async def _copy_all(self, run: ResyncRun) -> None:
        chunks = ChunkQueue(self.pacer, self.chunk_bytes, partial(self._copy_chunk, run))
        batches: deque[Deferred[None]] = deque()
        try:
            while self._is_target(run.member) and not await self._copy_some(run, chunks, batches):
                pass
        finally:
            # Nothing of it goes on behind our back.
            await chunks.stop()
            await DeferredList(list(batches), consumeErrors=True)

    async def _copy_some(self, run: ResyncRun, chunks: ChunkQueue, batches: deque[Deferred[None]]) -> bool:
        """
        Begin a batch, or wait for the oldest of C{batches}.

        @return: C{member} is in sync.
        """
        member = run.member
        paused = member.name in self._pauses
        if not paused:
            run.waits_for = ""
        batch = [] if paused or len(batches) >= BATCHES_IDLE else await self._next_batch(run)
        if batch:
            batches.append(start(self._copy_regions, run, batch, chunks))
        elif batches:
            await batches.popleft()
            self._tell(run)
        elif paused:
            run.waits_for = PAUSED
            self._tell(run)
            self._reserve(run, [])
            await deferLater(self._clock, PAUSED_LOOK_S)
        elif not member.dirty_count:
            await self._finish(run)
            return True
        elif self._is_target(member):
            await self._wait(run)
        return False

    async def _wait(self, run: ResyncRun) -> None:
        """Nothing that is left can be copied now."""
        left_s = run.bad_until - self._clock.seconds()
        if len(run.bad) >= run.member.dirty_count and left_s > 0:
            run.waits_for = unreadable_sentence(run.bad, BAD_RETRY_S)
            self._tell(run)
            await deferLater(self._clock, min(left_s, PAUSED_LOOK_S))
        else:
            await deferLater(self._clock, HELD_RETRY_S)

    def _is_target(self, member: Member) -> bool:
        return bool(self._configuration.targets & member.bit)

    async def _finish(self, run: ResyncRun) -> None:
        member = run.member
        assert member.tables is not None
        await member.unless_left(Deferred.fromCoroutine(member.tables.flush()))
        if self._is_target(member):
            _log.info("{member}: copied {n} bytes, becomes in sync", member=member.name, n=run.copied_bytes)
            await self._configuration.add(member)

    # -- a batch

    def _batch_regions(self, run: ResyncRun) -> int:
        """How many the next batch may have; one after the other while something is held back."""
        region_size, under_way = self._region_size, len(run.under_way)
        share = self._hot.copied_at_once // max(1, len(self._runs))
        rate = self.pacer.pace.bytes_per_s
        if rate:
            paced = min(int(rate * BATCH_S), BATCH_BYTES) // region_size
            return 0 if under_way else max(1, min(share, paced))
        most = min(max(1, BATCH_BYTES // region_size), share // BATCHES_IDLE, share - under_way)
        return max(most, 0 if under_way else 1)

    async def _next_batch(self, run: ResyncRun) -> list[int]:
        """Dirty regions that can be copied now; they are reserved, so that the others can be in a moment."""
        member, limit = run.member, self._batch_regions(run)
        retry_bad = self._clock.seconds() >= run.bad_until
        wanted: list[int] = []
        region = member.dirty.find(1)
        while region >= 0 and len(wanted) < limit:
            if region not in run.under_way and (retry_bad or region not in run.bad):
                wanted.append(region)
            region = member.dirty.find(1, region + 1)
        self._reserve(run, [*run.under_way, *wanted])
        batch: list[int] = []
        for region in wanted:
            if region in self._hot.unreconciled:
                await self._reconciler.reconcile(region)
                if not self._is_target(member):
                    return []
        for region in wanted:
            hot = self._hot.regions.get(region)
            if (hot is None or not hot.held) and member.dirty[region]:
                batch.append(region)
        return batch

    def _reserve(self, run: ResyncRun, regions: list[int]) -> None:
        run.reserved = regions
        self._hot.reserved = {region for each in self._runs.values() for region in each.reserved}
        self._hot.left()

    async def _copy_regions(self, run: ResyncRun, regions: list[int], chunks: ChunkQueue) -> None:
        run.under_way.update(regions)
        try:
            await self._mark_and_copy(run, regions, chunks)
        finally:
            run.under_way.difference_update(regions)

    async def _mark_and_copy(self, run: ResyncRun, regions: list[int], chunks: ChunkQueue) -> None:
        member = run.member
        assert member.tables is not None
        for region in regions:
            member.table.mark(region)
        await member.unless_left(member.tables.stabilise(regions))
        if not self._is_target(member):
            return
        for region in regions:
            run.bad.pop(region, None)
            member.copying.add(region)
            hot = self._hot.regions.get(region)
            if hot is not None:
                hot.marked |= member.bit
        await chunks.copied(map(self._extent_of, regions))
        await member.unless_left(Deferred.fromCoroutine(member.tables.flush()))
        if self._is_target(member):
            self._write_entries(member, [region for region in regions if region not in run.bad])
            bad = [region for region in regions if region in run.bad]
            member.copying.difference_update(bad)
            if bad:
                run.bad_until = max(run.bad_until, self._clock.seconds() + BAD_RETRY_S)

    def _extent_of(self, region: int) -> tuple[int, int]:
        first = region * self._region_size
        return first, min(first + self._region_size, self._configuration.record.data_size)

    def chunks(self, region: int) -> list[tuple[int, int]]:
        """The parts of a region that are held and read at once, as (first, end)."""
        first, end = self._extent_of(region)
        step = self.chunk_bytes()
        return [(at, min(at + step, end)) for at in range(first, end, step)]

    def chunk_bytes(self) -> int:
        """How long a chunk is now: no longer than what every member can be asked for at once."""
        least = min(each.node.geometry.transfer_bytes_max for each in self._members)
        return min(max(PIECE_BYTES, align_down(least, PIECE_BYTES)), self.pacer.pace.chunk_bytes)

    def _write_entries(self, member: Member, regions: list[int]) -> None:
        """In one turn: from here on the target has these regions."""
        source = self._age_source()
        for region in regions:
            member.table.set(region, source.table.age(region), hot=region in self._hot.regions)
            member.set_clean(region)
            member.copying.discard(region)
        assert member.tables is not None
        member.tables.write_behind(regions).addErrback(
            lambda failure: self._configuration.fail(member, f"its region table failed: {failure.getErrorMessage()}")
        )

    def _age_source(self) -> Member:
        configuration = self._configuration
        in_sync = configuration.in_sync & ~configuration.leaving or configuration.in_sync
        for member in members_in(self._members, in_sync):
            return member
        raise Unavailable("nobody is in sync")

    # -- a chunk

    async def _copy_chunk(self, run: ResyncRun, first: int, end: int) -> None:
        if not self._is_target(run.member):
            return
        extent = Extent(first, end, self._data_path.shift)
        await self._sources.hold(extent)
        self.pacer.begin()
        try:
            if self._is_target(run.member):
                await self._make_same(run, first, end)
        finally:
            run.seen_bytes += end - first
            self.pacer.end(end - first)
            self._order.leave(extent)

    async def _make_same(self, run: ResyncRun, first: int, end: int) -> None:
        member, clock = run.member, self._clock

        async def put(offset: int, data: Buffer) -> None:
            if self._is_target(member):
                await self._sources.write(member, offset, data)
                run.copied_bytes += len(data)

        parts = [(first, end)]
        if run.comparable and run.worth.pays():
            parts = await self._differing(run, first, end)
        began, copied_before = clock.seconds(), run.copied_bytes
        for part_first, part_end in parts:
            if not self._is_target(member):
                return
            bad = await self._sources.read_what_can_be_read(part_first, part_end, put)
            if bad:
                run.bad.setdefault(first >> self._data_path.shift, []).extend(bad)
        if len(parts) == 1:
            run.worth.copied((run.copied_bytes - copied_before) / (end - first), clock.seconds() - began)

    async def _differing(self, run: ResyncRun, first: int, end: int) -> list[tuple[int, int]]:
        """Which parts of an extent are not the same on both sides; all of it where that cannot be known."""
        member, began = run.member, self._clock.seconds()
        length = end - first

        def question(node: INode) -> Deferred[bytes]:
            return checksums_of(node, first, length)

        async def theirs() -> bytes:
            return await member.unless_left(question(member.node))

        try:
            here, there = await all_of([start(self._sources.ask, question), start(theirs)])
        except NotSupported:
            run.comparable = False
            return [(first, end)]
        except Unavailable:
            raise
        except DSTError:
            return [(first, end)]  # what one side cannot read is found out, and mended, by copying
        parts: list[tuple[int, int]] = []
        for n in range(0, len(here), CHECKSUM_BYTES):
            if here[n : n + CHECKSUM_BYTES] != there[n : n + CHECKSUM_BYTES]:
                at = first + n // CHECKSUM_BYTES * PIECE_BYTES
                until = min(at + PIECE_BYTES, end)
                if parts and parts[-1][1] == at:
                    parts[-1] = (parts[-1][0], until)
                else:
                    parts.append((at, until))
        differing = sum(until - at for at, until in parts)
        run.worth.compared(1.0 - differing / length, self._clock.seconds() - began)
        return parts if 2 * differing <= length else [(first, end)]

    # -- what need not be copied

    async def _skip_zeroes(self, member: Member) -> None:
        """Nothing is copied where both sides are proved to be zero: a new disk of any size costs what is on it."""
        region = member.dirty.find(1)
        while region >= 0 and self._is_target(member):
            run = [region]
            while len(run) < ZERO_RUN_REGIONS and run[-1] + 1 < len(member.dirty) and member.dirty[run[-1] + 1]:
                run.append(run[-1] + 1)
            await self._skip_zero_run(member, run)
            region = member.dirty.find(1, run[-1] + 1)

    async def _skip_zero_run(self, member: Member, run: list[int]) -> None:
        first = run[0] * self._region_size
        end = min((run[-1] + 1) * self._region_size, self._configuration.record.data_size)
        extent = Extent(first, end, self._data_path.shift)
        await self._sources.hold(extent)
        try:
            if not self._is_target(member):
                return
            source = self._age_source()
            asked = [start(_zero_bytes_by_region, each, first, end, self._region_size) for each in (source, member)]
            here, there = await all_of([member.unless_left(source.unless_left(each)) for each in asked])
            if not self._is_target(member) or not self._configuration.usable & source.bit:
                return
            if source.node.incarnation != source.incarnation or member.node.incarnation != member.incarnation:
                return  # it may have lost what was there before it spoke of zeroes
            zero = []
            for region in run:
                length = min(self._region_size, self._configuration.record.data_size - region * self._region_size)
                idle = region not in self._hot.regions and region not in self._hot.unreconciled
                if idle and here.get(region) == length == there.get(region):
                    zero.append(region)
            # A write may have come meanwhile: it waits for this extent, and finds the region clean.
            if zero:
                self._write_entries(member, zero)
        finally:
            self._order.leave(extent)

    # -- after an unclean stop

    def reconcile_all(self) -> None:
        """Work through everything that is left, in the background."""
        regions = len(self._hot.unreconciled)
        if not regions:
            return
        began, began_at = self._wall_clock_s(), self._clock.seconds()

        async def work() -> None:
            await self._reconciler.reconcile_all()
            self._history(
                ResyncRecord(
                    ", ".join(each.name for each in members_in(self._members, self._configuration.in_sync)),
                    "reconcile",
                    f"{regions} regions were being written when the storage stopped serving without saying so",
                    "hot-at-takeover",
                    began,
                    self._clock.seconds() - began_at,
                    regions * self._region_size,
                    self.reconciled_bytes,
                    "in-sync",
                )
            )

        self._reconciler.in_background(work(), "reconciling")


async def _zero_bytes_by_region(member: Member, first: int, end: int, region_size: int) -> dict[int, int]:
    """How many bytes of each region the device promises to read as zeroes."""
    found: dict[int, int] = {}
    at = first
    while at < end:
        for extent in await member.node.block_status(at, end - at):
            last = at + extent.length
            while at < last:
                region = at // region_size
                step = min(last, (region + 1) * region_size) - at
                if extent.status & BlockStatus.ZERO:
                    found[region] = found.get(region, 0) + step
                at += step
    return found
