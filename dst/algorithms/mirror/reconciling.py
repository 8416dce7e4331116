"""
Copies made equal: what an unclean stop left different (R6), and what one of them could not read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.data_path import DataPath
from dst.algorithms.mirror.hot_set import HotSet
from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.sources import HELD_RETRY_S, PIECE_BYTES, Sources, all_of, checksums_of, start
from dst.errors import CorruptData, DSTError, MediaError, Unavailable
from dst.interfaces import Buffer
from dst.recovery.write_order import Extent, ExtentOrder

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Reconciler"]

_log = Logger()

_SIDE_BY_SIDE = 4
"""Regions that are made equal at once: no more than clients would notice."""


class Reconciler:
    """
    Of one serving mirror.

    @ivar reconciled_bytes: what had to be written.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Sequence[Member],
        configuration: Configuration,
        order: ExtentOrder,
        hot: HotSet,
        data_path: DataPath,
        sources: Sources,
        chunks: Callable[[int], list[tuple[int, int]]],
        changed: Callable[[], None],
    ) -> None:
        """
        @param chunks: the parts of a region that can be read at once, as (first, end).
        """
        self._clock = clock
        self._members = members
        self._configuration = configuration
        self._order = order
        self._hot = hot
        self._data_path = data_path
        self._sources = sources
        self._chunks = chunks
        self._changed = changed
        self._reconciling: set[int] = set()
        self._repairing: set[tuple[int, int, int]] = set()
        self._background: dict[Deferred[None], None] = {}
        self.reconciled_bytes = 0

    def stop(self) -> None:
        """Nothing goes on in the background any more."""
        for work in list(self._background):
            work.cancel()

    def in_background(self, work: Coroutine[Any, Any, None], what: str) -> Deferred[None]:
        """Do it, until it ends or the storage stops."""
        done = Deferred.fromCoroutine(work)
        self._background[done] = None

        def ended(result: object) -> None:
            self._background.pop(done, None)
            stopping = self._configuration.stopped
            if isinstance(result, Failure) and not stopping and not result.check(CancelledError):
                _log.failure("{what} failed", result, what=what)

        return done.addBoth(ended)

    # -- after an unclean stop

    async def reconcile_all(self) -> None:
        """Work through everything that is left, a few regions side by side: most of the time is spent waiting."""
        left = deque(sorted(self._hot.unreconciled))
        await all_of([start(self._reconcile_next, left) for _ in range(min(len(left), _SIDE_BY_SIDE))])

    async def _reconcile_next(self, left: deque[int]) -> None:
        while left and not self._configuration.stopped:
            await self.reconcile(left.popleft())

    def reconcile_soon(self, region: int) -> None:
        """Somebody waits for this region."""
        if region not in self._reconciling:
            self.in_background(self.reconcile(region), "reconciling")

    async def reconcile(self, region: int) -> None:
        """Make the copies of one region equal (R6)."""
        while region in self._reconciling:
            await deferLater(self._clock, HELD_RETRY_S)
        if region not in self._hot.unreconciled:
            return
        self._reconciling.add(region)
        try:
            chunks = self._chunks(region)
            extent = Extent(chunks[0][0], chunks[-1][1], self._data_path.shift)
            await self._mark(extent)
            await self._sources.hold(extent)
            try:
                await self._make_equal_on_all(chunks)
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
            if self._configuration.frozen:
                await deferLater(self._clock, HELD_RETRY_S)  # nobody can be marked, which is not that all are
                continue
            again: Deferred[None] = Deferred()
            extent.start = lambda again=again: again.callback(None)  # type: ignore[misc]
            if self._hot.marked(extent, self._configuration.usable):
                return
            await again
        raise Unavailable("the storage is being stopped")

    async def _make_equal_on_all(self, chunks: list[tuple[int, int]]) -> None:
        """
        One that leaves while this goes on was not made equal, and may still be the one that serves in the end: so
        nothing is read from the others before a record without it is stable. Without a quorum nobody is asked at all,
        and no copies are as equal as can be: then it is done once more.
        """
        configuration = self._configuration
        while True:
            bars = configuration.bars
            if self._settled():
                await self._make_equal(chunks)
                if self._settled() and bars == configuration.bars:
                    return
            if configuration.stopped:
                raise Unavailable("the storage is being stopped")
            await deferLater(self._clock, HELD_RETRY_S)

    def _settled(self) -> bool:
        """Everybody who is in sync can be asked."""
        configuration = self._configuration
        return not (configuration.leaving or configuration.stalled or configuration.no_quorum)

    async def _make_equal(self, chunks: list[tuple[int, int]]) -> None:
        for first, end in chunks:
            if await self._are_equal(first, end):
                continue
            for bad_first, bad_end in await self._sources.read_what_can_be_read(first, end, self._overwrite_others):
                _log.error("no copy of {first}+{n} can be read", first=bad_first, n=bad_end - bad_first)

    async def _are_equal(self, first: int, end: int) -> bool:
        """
        Whether the copies say that they are; C{False} where that is not known. Most of what was hot when a storage
        died was not being written in that moment, so this spares reading it from everybody.
        """
        copies = list(members_in(self._members, self._configuration.usable & self._configuration.in_sync))
        asked = [member.unless_left(checksums_of(member.node, first, end - first)) for member in copies]
        try:
            told = await all_of(asked)
        except DSTError:
            return False  # reading will tell what is wrong, and mend it where it can be
        lost = any(member.node.incarnation != member.incarnation for member in copies)
        return not lost and len(set(told)) <= 1

    async def _overwrite_others(self, first: int, data: Buffer) -> None:
        others = members_in(self._members, self._configuration.usable & self._configuration.in_sync)
        await all_of([start(self._overwrite_differences, member, first, bytes(data)) for member in others])

    async def _overwrite_differences(self, member: Member, first: int, wanted: bytes) -> None:
        try:
            try:
                has = bytes(await member.unless_left(member.node.read(first, len(wanted))))
            except (MediaError, CorruptData):
                has = b""
            at = 0
            while at < len(wanted) and has != wanted:
                end = at + PIECE_BYTES
                if has[at:end] == wanted[at:end]:
                    at = end
                    continue
                while end < len(wanted) and has[end : end + PIECE_BYTES] != wanted[end : end + PIECE_BYTES]:
                    end += PIECE_BYTES
                await self._sources.write(member, first + at, wanted[at:end])
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
        self.in_background(self._repair(member, first, end), "a repair").addBoth(
            lambda _: self._repairing.discard(key)
        )

    async def _repair(self, member: Member, first: int, end: int) -> None:
        extent = Extent(first, end, self._data_path.shift)
        await self._sources.hold(extent)
        try:
            if not self._configuration.usable & member.bit:
                return
            # What is written is what every other copy has: each sector is unreadable before and right after, so
            # this needs no mark, and an interrupted repair leaves nothing that is worse.
            data = await self._sources.read(first, end - first, avoid=member.bit)
            await self._sources.write(member, first, data)
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
