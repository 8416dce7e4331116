"""
Copying to members that have missed something (R5, R12).

A batch of regions at a time: marked as hot on the target, copied chunk by chunk, flushed, and only then entered as
being what the source has. A chunk holds its extent, so that no client writes over it meanwhile; where that is likely
to pay both sides are asked for checksums first, under the same hold, and only what differs is sent.

Nothing here decides how fast: every chunk waits for its turn with the L{Pacer}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

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

BATCH_REGIONS = 16
"""Regions that share one mark, one flush and one entry write."""

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
        member = run.member
        while self._is_target(member):
            if member.name in self._pauses:
                run.waits_for = PAUSED
                self._tell(run)
                self._reserve(run, [])
                await deferLater(self._clock, PAUSED_LOOK_S)
                continue
            run.waits_for = ""
            batch = await self._next_batch(run)
            if batch:
                await self._copy_regions(run, batch)
                self._tell(run)
            elif not member.dirty_count:
                await self._finish(run)
                return
            elif self._is_target(member):
                await self._wait(run)

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

    def _batch_regions(self) -> int:
        share = self._hot.copied_at_once // max(1, len(self._runs))
        rate = self.pacer.pace.bytes_per_s
        paced = int(rate * BATCH_S) // self._region_size if rate else BATCH_REGIONS
        return max(1, min(BATCH_REGIONS, share, paced))

    async def _next_batch(self, run: ResyncRun) -> list[int]:
        """Dirty regions that can be copied now; they are reserved, so that the others can be in a moment."""
        member, limit = run.member, self._batch_regions()
        retry_bad = self._clock.seconds() >= run.bad_until
        wanted: list[int] = []
        region = member.dirty.find(1)
        while region >= 0 and len(wanted) < limit:
            if retry_bad or region not in run.bad:
                wanted.append(region)
            region = member.dirty.find(1, region + 1)
        self._reserve(run, wanted)
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

    async def _copy_regions(self, run: ResyncRun, regions: list[int]) -> None:
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
        chunks = deque(chunk for region in regions for chunk in self.chunks(region))
        await all_of([start(self._copy_chunks, run, chunks) for _ in range(self.pacer.pace.chunks)])
        await member.unless_left(Deferred.fromCoroutine(member.tables.flush()))
        if self._is_target(member):
            self._write_entries(member, [region for region in regions if region not in run.bad])
            member.copying.difference_update(run.bad)
            if run.bad:
                run.bad_until = max(run.bad_until, self._clock.seconds() + BAD_RETRY_S)

    def chunks(self, region: int) -> list[tuple[int, int]]:
        """The parts of a region that are held and read at once, as (first, end)."""
        first = region * self._region_size
        end = min(first + self._region_size, self._configuration.record.data_size)
        step = min(self._transfer_bytes(), self.pacer.pace.chunk_bytes)
        return [(at, min(at + step, end)) for at in range(first, end, step)]

    def _transfer_bytes(self) -> int:
        """What every member can be asked for at once."""
        least = min(each.node.geometry.transfer_bytes_max for each in self._members)
        return max(PIECE_BYTES, align_down(least, PIECE_BYTES))

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

    async def _copy_chunks(self, run: ResyncRun, chunks: deque[tuple[int, int]]) -> None:
        try:
            while chunks and self._is_target(run.member):
                first, end = chunks.popleft()
                await self.pacer.turn(end - first)
                await self._copy_chunk(run, first, end)
        except BaseException:
            chunks.clear()  # the others stop, too
            raise

    async def _copy_chunk(self, run: ResyncRun, first: int, end: int) -> None:
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
