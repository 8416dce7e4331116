"""
Copying between members: to a resync target, between copies that an unclean stop left unequal, and over a
copy that could not be read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.data_path import DataPath
from dst.algorithms.mirror.hot_set import HotSet
from dst.algorithms.mirror.member import Member, members_in
from dst.errors import CorruptData, DSTError, MediaError, Unavailable
from dst.geometry import BlockStatus, align_down
from dst.interfaces import Buffer
from dst.recovery.write_order import Extent, ExtentOrder
from dst.status import MemberState, ResyncProgress

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Copier"]

_log = Logger()

_T = TypeVar("_T")

CHUNK_BYTES = 256 * 1024
"""One copy step. A client's write to the chunk waits for it, so it must not be long."""

BATCH_REGIONS = 16
"""Regions that share one mark, one flush and one entry write."""

ZERO_RUN_REGIONS = 256
"""Regions that are asked about at once whether they are zero; a client's write to one of them waits that long."""

WINDOW_CHUNKS = 8
"""Chunks in flight while no client asks for anything: 2 MiB keep a fast link busy."""

WINDOW_CHUNKS_LOADED = 2
"""The same while clients work: the copy goes on, and takes its turn behind theirs."""

COMPARE_BYTES = 4096
"""What is compared, and written where it differs, when copies are made equal after an unclean stop."""

_HELD_RETRY_S = 0.02
_RATE_WINDOW_S = 5.0


@define
class _Rate:
    """Bytes over the last seconds."""

    clock: IReactorTime
    samples: deque[tuple[float, int]]

    def add(self, total: int) -> float:
        now = self.clock.seconds()
        self.samples.append((now, total))
        while len(self.samples) > 2 and self.samples[0][0] < now - _RATE_WINDOW_S:
            self.samples.popleft()
        then, before = self.samples[0]
        return (total - before) / (now - then) if now > then else 0.0


class Copier:
    """
    Copies of one serving mirror.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Sequence[Member],
        configuration: Configuration,
        order: ExtentOrder,
        hot: HotSet,
        data_path: DataPath,
        data_size: int,
        changed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._members = members
        self._configuration = configuration
        self._order = order
        self._hot = hot
        self._data_path = data_path
        self._data_size = data_size
        self._region_size = 1 << data_path.shift
        self._changed = changed
        self._reconciling: set[int] = set()
        self._repairing: set[tuple[int, int, int]] = set()
        self._background: set[Deferred[None]] = set()
        self.reconciled_bytes = 0

    def stop(self) -> None:
        """Nothing goes on in the background any more. A resync belongs to who asked for it."""
        for work in list(self._background):
            work.cancel()

    def _in_background(self, work: Coroutine[Any, Any, None], what: str) -> Deferred[None]:
        done = Deferred.fromCoroutine(work)
        self._background.add(done)

        def ended(result: object) -> None:
            self._background.discard(done)
            stopping = self._configuration.stopped
            if isinstance(result, Failure) and not stopping and not result.check(CancelledError):
                _log.failure("{what} failed", result, what=what)

        return done.addBoth(ended)

    # -- to a resync target

    async def run(self, member: Member, full: bool, cause: str) -> None:
        """Copy all that C{member} has not, until it is in sync or leaves."""
        total = member.dirty_count * self._region_size
        kind = "full" if full else "partial"
        member.progress = ResyncProgress(kind, cause, total, total, 0)
        member.become(MemberState.RESYNCING, cause)
        rate = _Rate(self._clock, deque([(self._clock.seconds(), 0)]))
        _log.info("{member}: {kind} resync of {total} bytes", member=member.name, kind=kind, total=total)
        if full:
            await self._skip_zeroes(member)
        while self._is_target(member):
            batch = await self._next_batch(member)
            if not batch:
                if member.dirty_count:
                    await deferLater(self._clock, _HELD_RETRY_S)
                    continue
                await self._finish(member)
                return
            copied = await self._copy_regions(member, batch)
            assert member.progress is not None
            done = member.progress.bytes_copied + copied
            left = member.dirty_count * self._region_size
            member.progress = ResyncProgress(kind, cause, total, left, done, rate.add(total - left))
            self._changed()

    def _is_target(self, member: Member) -> bool:
        return bool(self._configuration.targets & member.bit)

    async def _finish(self, member: Member) -> None:
        assert member.tables is not None
        await member.unless_left(Deferred.fromCoroutine(member.tables.flush()))
        if self._is_target(member):
            done = member.progress.bytes_copied if member.progress else 0
            _log.info("{member}: copied {done} bytes, becomes in sync", member=member.name, done=done)
            await self._configuration.add(member)

    async def _next_batch(self, member: Member) -> list[int]:
        """Dirty regions that can be copied now."""
        batch: list[int] = []
        at = member.dirty.find(1)
        while at >= 0 and len(batch) < BATCH_REGIONS:
            if at in self._hot.unreconciled:
                await self.reconcile(at)
                if not self._is_target(member):
                    return []
            hot = self._hot.regions.get(at)
            if (hot is None or not hot.held) and member.dirty[at]:
                batch.append(at)
            at = member.dirty.find(1, at + 1)
        return batch

    async def _copy_regions(self, member: Member, regions: list[int]) -> int:
        """@return: bytes that were sent."""
        assert member.tables is not None
        for region in regions:
            member.table.mark(region)
        await member.unless_left(member.tables.stabilise(regions))
        if not self._is_target(member):
            return 0
        for region in regions:
            member.copying.add(region)
            hot = self._hot.regions.get(region)
            if hot is not None:
                hot.marked |= member.bit
        window = DeferredSemaphore(WINDOW_CHUNKS_LOADED if self._data_path.busy else WINDOW_CHUNKS)
        chunks = [chunk for region in regions for chunk in self._chunks(region)]
        copies = [window.run(_start, self._copy_chunk, member, first, end) for first, end in chunks]
        sent = await _all_of(copies)
        await member.unless_left(Deferred.fromCoroutine(member.tables.flush()))
        if self._is_target(member):
            self._write_entries(member, regions)
        return sum(sent)

    def _chunks(self, region: int) -> list[tuple[int, int]]:
        first = region * self._region_size
        end = min(first + self._region_size, self._data_size)
        step = min(self._transfer_bytes(), CHUNK_BYTES)
        return [(at, min(at + step, end)) for at in range(first, end, step)]

    def _transfer_bytes(self) -> int:
        """What every member can be asked for at once."""
        least = min(each.node.geometry.transfer_bytes_max for each in self._members)
        return max(COMPARE_BYTES, align_down(least, COMPARE_BYTES))

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

    async def _copy_chunk(self, member: Member, first: int, end: int) -> int:
        extent = Extent(first, end, self._data_path.shift)
        await self._hold(extent)
        try:
            if not self._is_target(member):
                return 0
            data = await self._read_source(first, end - first)
            if not self._is_target(member):
                return 0
            await self._write(member, first, data)
            return end - first
        finally:
            self._order.leave(extent)

    def _write(self, member: Member, offset: int, data: Buffer) -> Deferred[None]:
        length = len(data)
        if bytes(data).count(0) == length:
            return member.unless_left(member.device.write_zeroes(offset, length))
        return member.unless_left(member.device.write(offset, data))

    async def _hold(self, extent: Extent) -> None:
        """Until nothing overlaps it; then nothing does before it leaves."""
        turn: Deferred[None] = Deferred()
        extent.start = lambda: turn.callback(None)
        if not self._order.enter(extent):
            await turn

    async def _read_source(self, offset: int, length: int, avoid: int = 0) -> Buffer:
        """From any member that is in sync, and lost nothing; a failing one is not asked again."""
        configuration = self._configuration
        tried = avoid
        failure: DSTError | None = None
        while True:
            ready = [
                member
                for member in members_in(self._members, configuration.in_sync & configuration.usable & ~tried)
                if member.ready and member.node.incarnation == member.incarnation
            ]
            if not ready:
                if failure is not None:
                    raise failure
                if not configuration.in_sync & ~tried:
                    raise Unavailable("no other member has it")
                if configuration.stopped:
                    raise Unavailable("the storage is being stopped")
                await deferLater(self._clock, _HELD_RETRY_S)  # a blip, or everything is away: wait for it
                continue
            source = min(ready, key=lambda each: each.reading)
            source.reading += 1
            try:
                data = await source.unless_left(source.node.read(offset, length))
                if source.node.incarnation == source.incarnation:
                    return data
                configuration.fail(source, "it restarted and may have lost what it had not flushed")
            except Unavailable as error:
                configuration.fail(source, f"a read was not answered: {error}")
            except DSTError as error:
                tried |= source.bit
                failure = error
            finally:
                source.reading -= 1

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
        end = min((run[-1] + 1) * self._region_size, self._data_size)
        extent = Extent(first, end, self._data_path.shift)
        await self._hold(extent)
        try:
            if not self._is_target(member):
                return
            source = self._age_source()
            asked = [_start(_zero_bytes_by_region, each, first, end, self._region_size) for each in (source, member)]
            here, there = await _all_of([member.unless_left(source.unless_left(each)) for each in asked])
            if not self._is_target(member) or not self._configuration.usable & source.bit:
                return
            if source.node.incarnation != source.incarnation or member.node.incarnation != member.incarnation:
                return  # it may have lost what was there before it spoke of zeroes
            zero = []
            for region in run:
                length = min(self._region_size, self._data_size - region * self._region_size)
                if region not in self._hot.regions and here.get(region) == length == there.get(region):
                    zero.append(region)
            # A write may have come meanwhile: it waits for this extent, and finds the region clean.
            if zero:
                self._write_entries(member, zero)
        finally:
            self._order.leave(extent)

    # -- copies made equal after an unclean stop

    def reconcile_all(self) -> None:
        """Work through everything that is left, in the background."""

        async def work() -> None:
            while self._hot.unreconciled and not self._configuration.stopped:
                await self.reconcile(min(self._hot.unreconciled))

        self._in_background(work(), "reconciling")

    def reconcile_soon(self, region: int) -> None:
        """Somebody waits for this region."""
        if region not in self._reconciling:
            self._in_background(self.reconcile(region), "reconciling")

    async def reconcile(self, region: int) -> None:
        """Make the copies of one region equal (R6)."""
        while region in self._reconciling:
            await deferLater(self._clock, _HELD_RETRY_S)
        if region not in self._hot.unreconciled:
            return
        self._reconciling.add(region)
        try:
            first = region * self._region_size
            extent = Extent(first, min(first + self._region_size, self._data_size), self._data_path.shift)
            await self._mark(extent)
            await self._hold(extent)
            try:
                await self._make_equal_on_all(region)
            finally:
                self._order.leave(extent)
        finally:
            self._reconciling.discard(region)
        self._hot.unreconciled.discard(region)
        self._data_path.reconciled(region)
        self._changed()

    async def _mark(self, extent: Extent) -> None:
        """All who are in sync have the region's flag, stable."""
        while not self._configuration.stopped:
            again: Deferred[None] = Deferred()
            extent.start = lambda again=again: again.callback(None)  # type: ignore[misc]
            if self._hot.marked(extent, self._configuration.usable):
                return
            await again
        raise Unavailable("the storage is being stopped")

    async def _make_equal_on_all(self, region: int) -> None:
        """
        One that leaves while this goes on was not made equal, and may still be the one that serves in the end: so
        nothing is read from the others before a record without it is stable.
        """
        configuration = self._configuration
        await self._make_equal(region)
        while configuration.leaving or configuration.stalled:
            await deferLater(self._clock, _HELD_RETRY_S)
            if configuration.stopped:
                raise Unavailable("the storage is being stopped")
            if not (configuration.leaving or configuration.stalled):
                await self._make_equal(region)

    async def _make_equal(self, region: int) -> None:
        for first, end in self._chunks(region):
            source_data = b""
            try:
                source_data = bytes(await self._read_source(first, end - first))
            except (MediaError, CorruptData) as error:
                _log.error("no copy of {first}+{n} can be read: {error}", first=first, n=end - first, error=error)
                continue
            others = members_in(self._members, self._configuration.usable & self._configuration.in_sync)
            await _all_of([_start(self._overwrite_differences, member, first, source_data) for member in others])

    async def _overwrite_differences(self, member: Member, first: int, wanted: bytes) -> None:
        try:
            try:
                has = bytes(await member.unless_left(member.node.read(first, len(wanted))))
            except (MediaError, CorruptData):
                has = b""
            at = 0
            while at < len(wanted) and has != wanted:
                end = at + COMPARE_BYTES
                if has[at:end] == wanted[at:end]:
                    at = end
                    continue
                while end < len(wanted) and has[end : end + COMPARE_BYTES] != wanted[end : end + COMPARE_BYTES]:
                    end += COMPARE_BYTES
                await self._write(member, first + at, wanted[at:end])
                self.reconciled_bytes += len(wanted[at:end])
                at = end
        except DSTError as error:
            self._configuration.fail(member, f"its copy could not be made equal: {error}")

    # -- a copy that could not be read

    def repair(self, member: Member, first: int, end: int) -> None:
        """Write what another member has over an extent that C{member} could not read."""
        key = (member.bit, first, end)
        if key in self._repairing or self._configuration.stopped:
            return
        self._repairing.add(key)
        self._in_background(self._repair(member, first, end), "a repair").addBoth(
            lambda _: self._repairing.discard(key)
        )

    async def _repair(self, member: Member, first: int, end: int) -> None:
        extent = Extent(first, end, self._data_path.shift)
        await self._hold(extent)
        try:
            if not self._configuration.usable & member.bit:
                return
            # What is written is what every other copy has: each sector is unreadable before and right after, so
            # this needs no mark, and an interrupted repair leaves nothing that is worse.
            data = await self._read_source(first, end - first, avoid=member.bit)
            await self._write(member, first, data)
            _log.warn(
                "{member}: {n} unreadable bytes at {first} were rewritten",
                member=member.name,
                n=end - first,
                first=first,
            )
        except Unavailable:
            return  # it leaves, or comes back: either way the ages tell
        except DSTError as error:
            self._configuration.fail(
                member, f"{end - first} bytes at {first} can be neither read nor rewritten: {error}"
            )
        finally:
            self._order.leave(extent)


def _start(work: Callable[..., Coroutine[Any, Any, _T]], *args: object) -> Deferred[_T]:
    return Deferred.fromCoroutine(work(*args))


async def _all_of(work: list[Deferred[_T]]) -> list[_T]:
    """The results of all, or the first error once B{all} have ended: nothing of it goes on behind our back."""
    ended = await DeferredList(work, consumeErrors=True)
    for good, result in ended:
        if not good:
            result.raiseException()  # type: ignore[attr-defined]
    return [result for _, result in ended]


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
