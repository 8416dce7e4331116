"""
Mark before data, clear with proof (R1, R2).

A region is hot from the moment an operation on it is accepted until it was
cleared. Data goes to a member only when that member's own flag is stable. The
set is bounded: it is what a takeover must look at. Leaving it, because it is
full or nothing was written for a while, is always the same clear.

What is written all over stays hot for longer than what is written in one place,
and is marked a page of the table at a time: a mark is a durable write on every
member, whether it is for one region or for all that share the page.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.member import Member, members_in
from dst.errors import DSTError
from dst.label.zone import ENTRIES_PER_PAGE
from dst.recovery.table_store import TableStore
from dst.recovery.write_order import Extent, ExtentOrder

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["HotRegion", "HotSet", "default_hot_regions"]

_log = Logger()

_TICK_S = 1.0
_IDLE_TICKS = 5
"""A region that saw no operation for so long is cleared, so that an idle storage has nothing to look at."""

_IDLE_TICKS_MAX = 300
"""The same where regions are written all over: what is cleared would soon be marked again."""

_PATIENT_TICKS = 8
"""So often regions are cleared then: a flush makes the disks write what they would have put together."""

_MISSES_MAX = 4
"""More regions that become hot in a tick than this, and they stay hot for longer: each has cost a durable write."""

_RUN_AHEAD = 3
"""Regions marked together with one whose predecessor is hot: a sequential writer then never waits for a mark."""

_MANY_ON_PAGE = 8
"""With so many hot regions on one page of the table, the next mark there is for all of the page."""

_CLEARED_MAX = 1024
"""Regions cleared with one flush: enough for the flush not to matter, few enough for one turn."""

_PAGES_CLEARED_MAX = 16
"""Pages of the table written for them, on each member."""

_LOOKED_AT_MAX = 4096
"""Regions looked at, at once, for some that can be cleared."""

_HOT_BYTES = 96 << 30
"""What is hot at most, unless the topology says otherwise: minutes of comparing after a crash."""

_HOT_REGIONS_MIN, _HOT_REGIONS_MAX = 256, 1 << 17


def default_hot_regions(region_size: int) -> int:
    """How many regions may be hot at once."""
    return min(max(_HOT_BYTES // region_size, _HOT_REGIONS_MIN), _HOT_REGIONS_MAX)


class HotRegion:
    """
    @ivar marked: members whose flag is stable.
    @ivar marking: members whose flag is on its way.
    @ivar held: it is being cleared: nothing may enter.
    @ivar parked: operations that wait until it is cleared.
    @ivar waiters: operations that wait for a mark.
    @ivar tick: when an operation last entered; negative, since a clear has begun that goes on only if none has.
    @ivar written: an operation has entered since it became hot; else it was marked ahead of one, and no member's
        content has changed.
    @ivar ours: members that were in sync and cold when they were marked; the flag of any other may be that of an
        earlier service, which wrote there.
    """

    __slots__ = ("held", "marked", "marking", "ours", "parked", "tick", "waiters", "written")

    def __init__(self, marked: int, tick: int) -> None:
        self.marked = marked
        self.marking = 0
        self.ours = 0
        self.held = False
        self.parked: list[Extent] = []
        self.waiters: list[Extent] = []
        self.tick = tick
        self.written = True


class HotSet:
    """
    The hot regions of one mirror, the least recently used first.

    @ivar unreconciled: regions whose copies may differ; they are not served before they were made equal (R6).
    @ivar reserved: regions that a copy comes to next. They are not cleared before: a few regions that are written
        and cleared all the time would never be found at rest otherwise.
    @ivar kept: a region that stays hot while the storage is made larger; or -1.
    @ivar count: how many regions the storage has.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Sequence[Member],
        configuration: Configuration,
        order: ExtentOrder,
        regions_max: int,
        count: int,
        enter: Callable[[Extent], None],
        go: Callable[[Extent], None],
    ) -> None:
        """
        @param enter: what a parked operation is given to when its region is free.
        @param go: what an operation is given to when the mark it waited for is stable, or has failed.
        """
        self._clock = clock
        self._members = members
        self._configuration = configuration
        self._order = order
        self._regions_max = regions_max
        self._evicted_at = regions_max - min(regions_max // 16, _CLEARED_MAX)
        self.count = count
        self.kept = -1
        self._enter = enter
        self._go = go
        self.regions: OrderedDict[int, HotRegion] = OrderedDict()
        self.unreconciled: set[int] = set()
        self.reserved: set[int] = set()
        self._queue: deque[Extent] = deque()
        self._clearing = 0
        self._tick = 0
        self._idle_ticks = _IDLE_TICKS
        self._missed = 0
        self._full_ticks = 0
        self._proofs = 0
        self._timer: IDelayedCall | None = None
        self._evicting = False
        self._stopped = False

    @property
    def copied_at_once(self) -> int:
        """
        How many regions a copy may take at once. They stay hot until it is done, and what the set has room for is
        what clients can write to meanwhile.
        """
        return max(1, self._regions_max // 4)

    def start(self, hot: Iterable[int]) -> None:
        """Begin with the regions that a member's media shows as hot."""
        for region in hot:
            marked = 0
            for member in members_in(self._members, self._configuration.in_sync):
                if member.table.is_hot(region):
                    marked |= member.bit
            self.regions[region] = HotRegion(marked, self._tick)
        self._timer = self._clock.callLater(_TICK_S, self._ticked)

    def stop(self) -> list[Extent]:
        """No more clearing by itself. @return: the operations that wait for room or for a clear."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self.take_waiting()

    @property
    def delaying(self) -> bool:
        """An operation waits for room, for a clear or for a mark."""
        return bool(self._queue) or any(hot.parked or hot.waiters for hot in self.regions.values())

    def take_waiting(self) -> list[Extent]:
        """The operations that wait for room or for a clear: they are the caller's now."""
        waiting = list(self._queue)
        self._queue.clear()
        for hot in self.regions.values():
            waiting += hot.parked
            hot.parked = []
        return waiting

    # -- operations enter

    def admit(self, extent: Extent) -> bool:
        """
        Make the regions of C{extent} hot, in memory.

        @return: C{False} when it has to wait; it is given to C{enter} again later.
        """
        regions = self.regions
        if extent.first == extent.last:  # nearly always
            hot = regions.get(extent.first)
            if hot is not None and not hot.held:
                if hot.tick != self._tick:
                    hot.tick = self._tick
                    regions.move_to_end(extent.first)
                hot.written = True
                return True
        missing = 0
        for region in range(extent.first, extent.last + 1):
            hot = regions.get(region)
            if hot is None:
                missing += 1
            elif hot.held:
                hot.parked.append(extent)
                return False
            else:
                hot.tick = self._tick
                hot.written = True
                regions.move_to_end(region)
        if missing:
            if len(regions) + missing > self._regions_max and not self._fits(extent):
                self._queue.append(extent)
                self._evict()
                return False
            for region in range(extent.first, extent.last + 1):
                if region not in regions:
                    regions[region] = HotRegion(self._marked_by_copy(region), self._tick)
            self._missed += missing
            if len(regions) > self._evicted_at:
                self._evict()
        return True

    def _fits(self, extent: Extent) -> bool:
        """An operation over more regions than the whole set has room for goes alone, or it would never go."""
        return self._is_wide(extent) and not self._order.by_region

    def _has_room(self, extent: Extent) -> bool:
        """Others may have made room: a clear of what was idle, or an end of the storage's own."""
        missing = sum(region not in self.regions for region in range(extent.first, extent.last + 1))
        return len(self.regions) + missing <= self._regions_max

    def _is_wide(self, extent: Extent) -> bool:
        return extent.last - extent.first >= self._regions_max

    def _marked_by_copy(self, region: int) -> int:
        marked = 0
        for member in members_in(self._members, self._configuration.targets):
            if region in member.copying:
                marked |= member.bit
        return marked

    def marked(self, extent: Extent, need: int) -> bool:
        """
        Whether the flags of all of C{extent}'s regions are stable on the members of C{need}.

        If not, what is missing is asked for and C{extent} is given to C{go} when it may look again.
        """
        if extent.first == extent.last and not need & ~self.regions[extent.first].marked:
            return True
        wait_at: HotRegion | None = None
        for region in range(extent.first, extent.last + 1):
            hot = self.regions[region]
            missing = need & ~hot.marked
            if missing:
                wait_at = hot
                if missing & ~hot.marking:
                    self._mark(region, hot, missing & ~hot.marking)
        if wait_at is None:
            return True
        if not need & ~wait_at.marked:
            return self.marked(extent, need)  # every mark completed at once
        if need & ~wait_at.marked & wait_at.marking:
            wait_at.waiters.append(extent)
        else:
            self._go(extent)  # a mark failed at once: who needs it is different now
        return False

    def look_again(self) -> None:
        """The configuration has changed: a mark that is waited for may not be needed any more."""
        for hot in [each for each in self.regions.values() if each.waiters]:
            waiters, hot.waiters = hot.waiters, []
            for extent in waiters:
                self._go(extent)

    def _mark(self, region: int, hot: HotRegion, members: int) -> None:
        together = [(region, hot), *self._ahead(region, members)]
        regions = [number for number, _ in together]
        for _, each in together:
            each.marking |= members
        for member in members_in(self._members, members):
            in_sync = member.bit & self._configuration.in_sync
            for number, each in together:
                if in_sync and not member.table.is_hot(number):
                    each.ours |= in_sync
                member.table.mark(number)
            assert member.tables is not None
            member.tables.stabilise(regions).addCallbacks(
                self._mark_done, self._mark_failed, (member, member.tables, together), {}, (member, together), {}
            )

    def _ahead(self, marked: int, members: int) -> list[tuple[int, HotRegion]]:
        """Regions that a sequential writer comes to next, or one who writes all over."""
        first = marked - marked % ENTRIES_PER_PAGE
        last = min(first + ENTRIES_PER_PAGE, self.count)
        table = next(members_in(self._members, members)).table
        if table.hot_between(first, last) >= _MANY_ON_PAGE:
            others = chain(range(marked + 1, last), range(first, marked))
        elif marked - 1 in self.regions:
            others = chain(range(marked + 1, min(marked + 1 + _RUN_AHEAD, self.count)))
        else:
            return []
        # Not what would have to leave for others at once.
        room = self._regions_max // 2 if self._full_ticks else self._evicted_at
        ahead = []
        for region in others:
            hot = self.regions.get(region)
            if hot is None and len(self.regions) < room:
                hot = self.regions[region] = HotRegion(self._marked_by_copy(region), self._tick)
                hot.written = False
            if hot is not None and not hot.held and not (hot.marked | hot.marking) & members:
                ahead.append((region, hot))
        return ahead

    def _mark_done(self, _: None, member: Member, store: TableStore, together: list[tuple[int, HotRegion]]) -> None:
        for _number, hot in together:
            hot.marking &= ~member.bit
            if member.tables is store:
                hot.marked |= member.bit
        self._wake(together)

    def _mark_failed(self, failure: Failure, member: Member, together: list[tuple[int, HotRegion]]) -> None:
        for _number, hot in together:
            hot.marking &= ~member.bit
        self._configuration.fail(member, f"a region could not be marked: {_sentence(failure)}")
        self._wake(together)

    def _wake(self, together: list[tuple[int, HotRegion]]) -> None:
        for _number, hot in together:
            waiters, hot.waiters = hot.waiters, []
            for extent in waiters:
                self._go(extent)

    def forget(self, members: int) -> None:
        """These members have left or come anew: none of their flags is known to be stable."""
        if not members:
            return
        for region, hot in self.regions.items():
            hot.marked &= ~members | self._marked_by_copy(region)

    def keep(self, region: int) -> HotRegion:
        """
        C{region} is hot, whether or not anything is written, and is not cleared, until C{kept} is something else.
        It gets another age then.
        """
        self.kept = region
        hot = self.regions.get(region)
        if hot is None:
            hot = self.regions[region] = HotRegion(self._marked_by_copy(region), self._tick)
        hot.written = True
        hot.tick = self._tick
        return hot

    # -- regions leave

    def left(self) -> None:
        """An operation ended: perhaps its region can be cleared for one that waits for room."""
        if self._queue:
            self._evict()

    def _clearable(self, region: int, hot: HotRegion) -> bool:
        if hot.held or hot.marking or hot.waiters or region in self.unreconciled or self._order.busy(region):
            return False
        return region not in self.reserved and region != self.kept and not self._marked_by_copy(region)

    def _evict(self) -> None:
        """Make room for what waits or will come, if that is possible now; one at a time, and never by recursion."""
        configuration = self._configuration
        if self._evicting or self._stopped or configuration.leaving or configuration.stalled:
            return
        self._evicting = True
        self._full_ticks = _IDLE_TICKS_MAX
        Deferred.fromCoroutine(self._evict_while_waiting()).addErrback(
            lambda failure: _log.failure("making room in the hot set failed", failure)
        )

    async def _evict_while_waiting(self) -> None:
        try:
            while not self._stopped and (self._queue or len(self.regions) > self._evicted_at):
                if not self._queue:
                    oldest = next(iter(self.regions.values())).tick
                    # Not what was used in this tick: the operation that is being let in may hold nothing yet.
                    regions = self._old_by_page((oldest + self._tick + 1) // 2)
                    if not regions or not await self._clear_untouched(regions):
                        return  # tried again with the next one that becomes hot
                elif not self._has_room(self._queue[0]):
                    regions = self._oldest_clearable(self._cleared_at_once)
                    if regions:
                        if not await self.clear(regions):
                            return  # tried again when the configuration has changed, or after a tick
                    elif self._order.by_region or not self._is_wide(self._queue[0]):
                        return  # tried again when an operation ends
                self._release_queue()
        finally:
            self._evicting = False

    @property
    def _cleared_at_once(self) -> int:
        return min(max(1, self._regions_max // 4), _CLEARED_MAX)

    def _oldest_clearable(self, count: int, before: int | None = None) -> list[int]:
        """
        Those that were used least lately, but none that the first in the queue needs itself: it would wait again.

        @param before: only those that were used before that tick.
        """
        regions: list[int] = []
        cannot: list[int] = []
        needed = range(self._queue[0].first, self._queue[0].last + 1) if self._queue else range(0)
        for region, hot in islice(self.regions.items(), _LOOKED_AT_MAX):
            if before is not None and hot.tick >= before:
                break
            if self._clearable(region, hot) and region not in needed:
                regions.append(region)
                if len(regions) >= count:
                    break
            else:
                cannot.append(region)
        for region in cannot:  # not looked at again and again: there may be many
            self._not_soon(region)
        return regions

    def _old_by_page(self, before: int) -> list[int]:
        """
        Those that can be cleared and were last used before that tick: of a few pages of the table, or a clear of
        what was written all over would write all of it.
        """
        oldest = self._oldest_clearable(_LOOKED_AT_MAX, before)
        pages = dict.fromkeys(region // ENTRIES_PER_PAGE for region in oldest)
        regions = []
        for page in islice(pages, _PAGES_CLEARED_MAX):
            for region in range(page * ENTRIES_PER_PAGE, (page + 1) * ENTRIES_PER_PAGE):
                hot = self.regions.get(region)
                if hot is not None and hot.tick < before and self._clearable(region, hot):
                    regions.append(region)
        return regions

    def _not_soon(self, region: int) -> None:
        """As if it was used just now."""
        self.regions[region].tick = self._tick
        self.regions.move_to_end(region)

    def _ticked(self) -> None:
        self._timer = self._clock.callLater(_TICK_S, self._ticked)
        self._tick += 1
        self._adapt()
        if self._queue:
            self._evict()
        elif not self._clearing and not self._configuration.leaving and not self._configuration.stalled:
            patient = self._idle_ticks > _IDLE_TICKS
            if patient and self._tick % _PATIENT_TICKS:
                return
            idle = self._old_by_page(self._tick - self._idle_ticks)
            if idle:
                Deferred.fromCoroutine(self._clear_untouched(idle)).addErrback(
                    lambda failure: _log.failure("clearing regions failed", failure)
                )

    def _adapt(self) -> None:
        """For how long regions stay hot: until marks cost little, or nothing is written any more."""
        missed, self._missed = self._missed, 0
        self._full_ticks -= self._full_ticks > 0
        if missed > _MISSES_MAX:
            self._idle_ticks = min(2 * self._idle_ticks, _IDLE_TICKS_MAX)
        elif self._idle_ticks > _IDLE_TICKS:
            self._idle_ticks -= self._tick % _PATIENT_TICKS == 0
            newest = self.regions[next(reversed(self.regions))].tick if self.regions else 0
            if newest < self._tick - 2 * _IDLE_TICKS:
                self._idle_ticks = _IDLE_TICKS

    def clear_all(self) -> Deferred[bool]:
        """Clear everything that can be cleared; for a clean stop."""
        return Deferred.fromCoroutine(self._clear_all())

    async def _clear_all(self) -> bool:
        regions = sorted(region for region, hot in self.regions.items() if self._clearable(region, hot))
        for first in range(0, max(1, len(regions)), _CLEARED_MAX):
            some = [(region, self.regions.get(region)) for region in regions[first : first + _CLEARED_MAX]]
            # Something may have entered them while those before were cleared.
            if not await self.clear([region for region, hot in some if hot and self._clearable(region, hot)]):
                return False
        return True

    async def clear(self, regions: list[int]) -> bool:
        """
        Clear C{regions}: hold, flush every receiver, write (epoch, cold) on each, let go.

        @return: C{False} when a receiver left meanwhile; the regions are then as they were.
        """
        self._clearing += 1
        for region in regions:
            self.regions[region].held = True
        cleared = False
        try:
            cleared = await self._flush_receivers()
            if cleared:
                await self._write_cold(regions)
        finally:
            self._clearing -= 1
            self._let_go(regions, cleared)
        return cleared

    async def _clear_untouched(self, regions: list[int]) -> bool:
        """
        As L{clear}, of those that nothing has entered when the receivers are flushed: nobody waits for the flush.

        @return: whether that were any.
        """
        self._clearing += 1
        self._proofs += 1
        untouched = -self._proofs
        for region in regions:
            self.regions[region].tick = untouched
        held: list[int] = []
        cleared = False
        try:
            if await self._flush_receivers():
                held = self._hold_untouched(regions, untouched)
                if held:
                    await self._write_cold(held)
                    cleared = True
        finally:
            self._clearing -= 1
            for region in regions:
                hot = self.regions.get(region)
                if hot is not None and hot.tick == untouched and not hot.held:
                    self._not_soon(region)
            self._let_go(held, cleared)
        return cleared

    def _hold_untouched(self, regions: list[int], untouched: int) -> list[int]:
        """
        Hold those that nothing has entered since. What a target has got by a copy meanwhile, that has flushed there.
        """
        held = []
        for region in regions:
            hot = self.regions.get(region)
            if hot is not None and hot.tick == untouched and self._clearable(region, hot):
                hot.held = True
                held.append(region)
        return held

    async def _flush_receivers(self) -> bool:
        configuration = self._configuration
        if configuration.leaving or configuration.stalled:
            return False
        good = True
        receivers = list(members_in(self._members, configuration.sent | configuration.targets))
        for member, flushed in [
            (m, _outcome(m.unless_left(Deferred.fromCoroutine(m.tables.flush()))))
            for m in receivers
            if m.tables is not None
        ]:
            error = await flushed
            if error is not None:
                configuration.fail(member, f"it could not be flushed: {error}")
                good = False
        # A receiver that is on its way out must be out, and a new epoch begun, before anything is cleared. And where
        # the storage has been started again meanwhile the members' tables are those of another service.
        return good and not (configuration.leaving or configuration.stalled or configuration.stopped)

    async def _write_cold(self, regions: list[int]) -> None:
        configuration = self._configuration
        epoch = configuration.epoch
        writes = []
        for member in members_in(self._members, configuration.sent | configuration.targets):
            theirs = regions
            if configuration.targets & member.bit:
                theirs = [region for region in regions if not member.dirty[region]]
            for region in theirs:
                hot = self.regions[region]
                # What was only marked keeps its age: a member that is away has missed nothing there.
                member.table.clear(region, epoch if hot.written else member.table.age(region))
                hot.marked &= ~member.bit
            assert member.tables is not None
            writes.append((member, _outcome(member.unless_left(member.tables.write_behind(theirs)))))
        for member, written in writes:
            error = await written
            if error is not None:
                configuration.fail(member, f"its region table could not be written: {error}")

    def _let_go(self, regions: list[int], cleared: bool) -> None:
        parked: list[Extent] = []
        for region in regions:
            hot = self.regions[region]
            hot.held = False
            parked += hot.parked
            hot.parked = []
            if cleared:
                del self.regions[region]
            else:
                self._not_soon(region)
        for extent in parked:
            self._enter(extent)
        if not self._evicting:
            self.left()

    def _release_queue(self) -> None:
        waiting, self._queue = self._queue, deque()
        for extent in waiting:
            self._enter(extent)


def _sentence(failure: Failure) -> str:
    return failure.getErrorMessage()


def _outcome(done: Deferred[None]) -> Deferred[Exception | None]:
    """What came of something that may fail in the ways a member can."""

    def trapped(failure: Failure) -> Exception:
        failure.trap(DSTError)
        return failure.value  # type: ignore[return-value]

    return done.addCallbacks(lambda _: None, trapped)
