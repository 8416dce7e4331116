"""
One order for overlapping extents.

Operations that change something hold their extent from the moment they are let
go until they end; one that overlaps waits for all that came before it. As a
later operation only ever waits for earlier ones, nothing can deadlock, and
since an operation is sent to all its receivers after it was let go, every
receiver sees overlapping ones in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Extent", "ExtentOrder"]


class Extent:
    """
    One operation's claim on C{[offset, end)}.

    @ivar first: the first region it touches.
    @ivar last: the last one, included.
    @ivar start: called, once, when nothing that came before overlaps any more.
    @ivar blockers: how many of those there are.
    @ivar waiters: those that wait for this one, if any ever did; most never have any, and need no list.
    """

    __slots__ = ("blockers", "end", "first", "last", "offset", "start", "waiters")

    def __init__(self, offset: int, end: int, shift: int) -> None:
        self.offset = offset
        self.end = end
        self.first = offset >> shift
        self.last = (end - 1) >> shift
        self.blockers = 0
        self.waiters: list[Extent] | None = None
        self.start: Callable[[], None] = _never

    def hold_up(self, extent: Extent) -> bool:
        """
        C{extent}, which is being entered, waits for this one, too.

        @return: whether that is new; they may overlap in several regions.
        """
        waiters = self.waiters
        if waiters is None:
            self.waiters = [extent]
        elif waiters[-1] is extent:
            return False
        else:
            waiters.append(extent)
        return True


Begun = TypeVar("Begun", bound=Extent)


def _never() -> None:
    raise AssertionError("an extent was let go that nobody waits with")


class ExtentOrder:
    """
    All extents that are held or waited for, by region.

    @ivar by_region: those that are not wide.
    """

    def __init__(self, regions_max: int | None = None) -> None:
        """
        @param regions_max: changes of more regions than this are I{wide}, and not kept by region: a few hundred trims
            of gigabytes would be millions of places, and everything that comes would be compared in each of them.
            Only for who looks neither at C{by_region} nor at what is L{busy} or begun.
        """
        self.by_region: dict[int, list[Extent]] = {}
        self._wide: list[Extent] = []
        self._span_max = 1 << 64 if regions_max is None else regions_max - 1
        self._free: deque[Extent] = deque()
        self._starting = False

    def enter(self, extent: Extent) -> bool:
        """
        Claim the extent for a change.

        @return: whether it may go at once; else C{extent.start} is called later.
        """
        by_region = self.by_region
        first = extent.first
        if first == extent.last and first not in by_region and not self._wide:  # nearly all of them
            by_region[first] = [extent]
            return True
        if self._wide:
            self._wait_for(self._wide, extent)
        if extent.last - first > self._span_max:
            for each in by_region.values():
                self._wait_for(each, extent)
            self._wide.append(extent)
            return extent.blockers == 0
        for region in range(first, extent.last + 1):
            holders = by_region.get(region)
            if holders is None:
                by_region[region] = [extent]
            else:
                self._wait_for(holders, extent)
                holders.append(extent)
        return extent.blockers == 0

    def _wait_for(self, holders: list[Extent], extent: Extent) -> None:
        for other in holders:
            if other.offset < extent.end and extent.offset < other.end and other.hold_up(extent):
                extent.blockers += 1

    def wait(self, extent: Extent) -> bool:
        """
        Wait for the changes that overlap now, without holding up later ones: for reads.

        @return: as L{enter}.
        """
        self._wait_for(self._wide, extent)
        for region in range(extent.first, extent.last + 1):
            holders = self.by_region.get(region)
            if holders is not None:
                self._wait_for(holders, extent)
        return extent.blockers == 0

    def wait_for_begun(self, extent: Extent, kind: type[Begun]) -> list[Begun]:
        """
        Wait for the changes of C{kind} that overlap and have been let go; for those that are held up it need not.

        @return: those waited for; C{extent.start} is called when all of them are over. Empty: it may go at once.
        """
        begun: list[Begun] = []
        for region in range(extent.first, extent.last + 1):
            for other in self.by_region.get(region, ()):
                if not (other.offset < extent.end and extent.offset < other.end) or other.blockers:
                    continue
                if isinstance(other, kind) and other.hold_up(extent):
                    extent.blockers += 1
                    begun.append(other)
        return begun

    def leave(self, extent: Extent) -> None:
        """The change is over, whatever came of it."""
        if extent.last - extent.first > self._span_max:
            self._wide.remove(extent)
        else:
            by_region = self.by_region
            for region in range(extent.first, extent.last + 1):
                holders = by_region[region]
                if len(holders) == 1:
                    assert holders[0] is extent
                    del by_region[region]
                else:
                    holders.remove(extent)
        waiters = extent.waiters
        if waiters is not None:
            extent.waiters = None
            for waiter in waiters:
                waiter.blockers -= 1
                if waiter.blockers == 0:
                    self._free.append(waiter)
            self._start_free()

    def _start_free(self) -> None:
        """In a loop, not by recursion: a thousand writes of one block that each complete at once must not nest."""
        if self._starting:
            return
        self._starting = True
        try:
            while self._free:
                extent = self._free.popleft()
                start, extent.start = extent.start, _never  # it knows the extent: a circle that only gc would find
                start()
        finally:
            self._starting = False

    def busy(self, region: int) -> bool:
        """Something in this region is held or waited for."""
        return region in self.by_region
