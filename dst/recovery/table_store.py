"""
Keeping one member's region table on its media, many marks with one flush.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dst.errors import IncarnationChanged, Unavailable
from dst.interfaces import IBlockDevice
from dst.label.region_table import PageImage, RegionTable
from dst.label.zone import PAGE_BYTES, Zone
from dst.recovery.label_store import LabelStore

__all__ = ["TableStore"]

_LOAD_BYTES = 1024 * 1024
"""How much of the table one read or write of all of it carries."""


class TableStore:
    """
    The table of one member and the writes of its pages.

    All requests that arrive while a batch is under way are the next batch: one
    write per page, then one flush for all. So at most one image of a page is
    under way, and the cost of a mark is shared by everybody who waits for one.

    @ivar table: what it says; may be read and changed at any time.
    @ivar lost: it is not known where the table stands; nothing is written any more.
    """

    def __init__(self, device: IBlockDevice, zone: Zone, table: RegionTable) -> None:
        self._device = device
        self._zone = zone
        self.table = table
        self._pages: set[int] = set()
        self._waiting: list[Deferred[None]] = []
        self._stable_wanted = False
        self._busy = False
        self._incarnation = b""
        self._abandoned = False
        self.lost = False
        self._exclusive: list[Deferred[None]] = []

    # -- the whole table

    async def create(self) -> None:
        """Write a table of a new member: every entry as this table has it, and nothing that stood there before."""
        self._incarnation = self._device.incarnation
        pages = self.table.pages
        images = [self.table.next_image(page) for page in range(pages)]
        await self._write_all([image[3] for image in images])
        for image in images:
            self.table.written(image)
        await self.flush()

    async def load(self, *, settle: bool = True) -> int:
        """
        Read the table from the media, and make what was read stable.

        @param settle: otherwise it is not made stable: it is looked at, and never written.
        @return: how many pages were unusable in both slots (hot with age none).
        """
        self._incarnation = self._device.incarnation
        pages, bad = self.table.pages, 0
        per_read = self._pages_at_once()
        for first in range(0, pages, per_read):
            count = min(per_read, pages - first)
            length = count * PAGE_BYTES
            slots = [bytes(await self._device.read(self._zone.page_offset(first, slot), length)) for slot in (0, 1)]
            for n in range(count):
                at = n * PAGE_BYTES
                bad += not self.table.load_page(first + n, [slot[at : at + PAGE_BYTES] for slot in slots])
        # What was read may stand in a cache only; the next image of a page must not overwrite the last stable one.
        if settle:
            await self._device.flush()
        self._check_incarnation()
        return bad

    def _pages_at_once(self) -> int:
        return max(1, min(_LOAD_BYTES, self._device.geometry.transfer_bytes_max) // PAGE_BYTES)

    async def flush(self) -> None:
        """Flush the member; what had been written of the table is stable then, too."""
        covered = self.table.flush_begins()
        await self._device.flush()
        self._check_incarnation()
        self.table.flushed(covered)

    def _check_incarnation(self) -> None:
        """
        A flush that succeeds after another one has failed says nothing of what that one lost: it succeeds because
        the loss is forgotten.
        """
        if self._device.incarnation != self._incarnation:
            raise IncarnationChanged("the member has lost what it had not flushed")

    # -- parts of it

    def stabilise(self, regions: Iterable[int]) -> Deferred[None]:
        """
        Make the entries of C{regions} stable as they are now or later.
        """
        self._stable_wanted = True
        return self._request(regions)

    def write_behind(self, regions: Iterable[int]) -> Deferred[None]:
        """Write the entries of C{regions}; they become stable with some later flush."""
        return self._request(regions)

    def _request(self, regions: Iterable[int]) -> Deferred[None]:
        page_of = self.table.page_of
        self._pages.update([page_of(region) for region in regions])
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if not self._busy:
            self._next_batch()
        return done

    # -- all of it, while parts of it may be asked for

    async def move(self, zone: Zone, regions: int, labels: LabelStore, data_size: int) -> None:
        """
        Have C{regions} entries, in C{zone} at the end of media that has grown.  Requests wait until that is so.

        Whenever this is interrupted the label leads to a table that is what it was: nothing is written to either
        but this.  When it fails in C{labels.move} that may be either of them: nothing is ever written here again,
        the member must leave and be read again.
        """
        assert zone.offset >= self._zone.media_size, (zone, self._zone)
        await self._alone()
        table, size = self.table, self.table.regions
        moved = False
        try:
            self._check_still_there()
            table.resize(regions)
            images = table.images_elsewhere()
            moving = TableStore(self._device, zone, table)
            await moving._write_all(images)
            await self.flush()
            self._check_still_there()
            moved = True
            await labels.move(zone, data_size)
            self._check_incarnation()
            table.stands_elsewhere()
            self._zone = zone
        except BaseException:
            if moved:
                self._abandoned = self.lost = True
            else:
                self.resize(size)
            raise
        finally:
            self._next_batch()

    async def extend(self, regions: int) -> None:
        """Have C{regions} entries, in the zone where they are; stable when this returns.  Requests wait."""
        await self._alone()
        table, size = self.table, self.table.regions
        pages: set[int] = set()
        try:
            self._check_still_there()
            table.resize(regions)
            pages = set(range(table.page_of(max(0, size - 1)), table.pages))
            await self._write(pages, True)
        except BaseException:
            self._pages |= pages
            self.resize(size)
            raise
        finally:
            self._next_batch()

    def resize(self, regions: int) -> None:
        """Have so many entries, in memory."""
        self.table.resize(regions)
        self._pages = {page for page in self._pages if page < self.table.pages}

    def _check_still_there(self) -> None:
        if self._abandoned:
            raise Unavailable("the member has left")

    def _alone(self) -> Deferred[None]:
        """Fires when no batch is under way; none begins before L{_next_batch} is called."""
        ready: Deferred[None] = Deferred()
        if self._busy:
            self._exclusive.append(ready)
        else:
            self._busy = True
            ready.callback(None)
        return ready

    async def _write_all(self, images: Sequence[bytes]) -> None:
        """All pages into slot 0, and nothing in the other one."""
        per_write = self._pages_at_once()
        await self._device.write_zeroes(self._zone.page_offset(0, 1), len(images) * PAGE_BYTES)
        for first in range(0, len(images), per_write):
            run = images[first : first + per_write]
            await self._device.write(self._zone.page_offset(first, 0), b"".join(run))

    # -- the member goes

    def abandon(self) -> None:
        """The member has left: nothing is written any more, when it is back its table is read again."""
        self._abandoned = True

    def go_on(self) -> None:
        """The member was leaving and stays after all, with what it had: pages that failed are written again."""
        self._abandoned = self.lost

    def _next_batch(self) -> None:
        if self._abandoned and self._waiting:
            waiting, self._waiting = self._waiting, []
            for done in waiting:
                done.errback(Unavailable("the member has left"))
        while self._exclusive:
            alone = self._exclusive.pop(0)
            if not alone.called:
                alone.callback(None)
                return
        if not self._waiting:
            self._busy = False
            return
        self._busy = True
        pages, self._pages = self._pages, set()
        waiting, self._waiting = self._waiting, []
        stable, self._stable_wanted = self._stable_wanted, False
        Deferred.fromCoroutine(self._write(pages, stable)).addCallbacks(
            self._batch_done, self._batch_failed, (waiting,), {}, (waiting, pages), {}
        )

    async def _write(self, pages: set[int], stable: bool) -> None:
        images: list[PageImage] = [self.table.next_image(page) for page in sorted(pages)]
        if stable and len(images) == 1:
            await self._write_one_through(images[0])
            return
        writes = [self._device.write(self._place(image), image[3]).addErrback(_Failed) for image in images]
        # All are waited for, failed or not: the next batch may write the same pages.
        for result in [await write for write in writes]:
            if isinstance(result, _Failed):
                result.failure.raiseException()
        for image in images:
            self.table.written(image)
        if stable:
            await self.flush()

    async def _write_one_through(self, image: PageImage) -> None:
        """One page needs no flush of the whole member, and one round trip less."""
        await self._device.write(self._place(image), image[3], fua=True)
        self._check_incarnation()
        self.table.written(image)
        self.table.flushed({image[0]: (image[1], image[2])})

    def _place(self, image: PageImage) -> int:
        return self._zone.page_offset(image[0], image[1])

    def _batch_done(self, _: None, waiting: list[Deferred[None]]) -> None:
        self._next_batch()
        for done in waiting:
            done.callback(None)

    def _batch_failed(self, failure: Failure, waiting: list[Deferred[None]], pages: set[int]) -> None:
        pages = {page for page in pages if page < self.table.pages}
        self._pages |= pages  # what the media says of them is unknown: the next batch writes them again
        self._next_batch()
        for done in waiting:
            done.errback(failure)


class _Failed:
    """A failure as a value."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
