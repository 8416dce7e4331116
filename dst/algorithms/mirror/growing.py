"""
A mirror that is made larger while it serves.

The media of its members has grown before. Nobody may see the new size before everybody who has the data has room for
it, and zeroes there; and whenever this is interrupted the storage has the old size or the new one:

 1. Of each member in sync, one after the other, the zone moves to the new end of its media, with a table that has
    entries for the regions to come (L{TableStore.move}); a zone that is far enough out stays and gets the entries.
 2. What is between the old end of the data and the new one becomes zeroes, stable; only then the new regions are
    entered as cold, in an epoch that no other member knows.
 3. A record with the new size is made stable, and then it is announced.

The region in which the data ended is hot from 1 until after 3, with age I{none}: a member that is away may have an
equal age there, and does not have the zeroes behind the old end.

Nobody returns meanwhile; who does later is moved first (C{returning}).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.returning import room_on
from dst.algorithms.mirror.sources import HELD_RETRY_S, all_of, start
from dst.errors import DSTError, InvalidRequest, Unavailable
from dst.geometry import BlockStatus, align_down
from dst.label.format import Epoch, Label
from dst.label.zone import ENTRIES_PER_PAGE, PAGE_BYTES, REGIONS_MAX, Zone
from dst.status import MemberState
from dst.words import size_in_words

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror
    from dst.algorithms.mirror.serving import Serving

__all__ = ["Growing"]

_log = Logger()

_HELD = "the storage is being made larger; it returns after that"

ZERO_BYTES = 16 * 1024 * 1024
"""So much is made zeroes at once: short against the time after which a member is too slow."""

LOOK_S_MAX = 1.0
"""How long a node behind a network may take to say that it is larger now."""

_LOOK_S = 0.05

_ENTRIES_AT_ONCE = 64 * ENTRIES_PER_PAGE
"""So many new entries are written with one turn of the reactor."""


class Growing:
    """
    Of one mirror.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._growth: _Growth | None = None
        self._asked: list[Deferred[None]] = []

    def grow(self) -> Deferred[None]:
        """
        See L{IAlgorithm.grow}. Whoever asks while it goes on waits for the same; who does not want to wait any more
        does not stop it.
        """
        done: Deferred[None] = Deferred()
        self._asked.append(done)
        if len(self._asked) == 1:
            start(self._grow).addBoth(self._told)
        return done

    def _told(self, result: None | Failure) -> None:
        asked, self._asked = self._asked, []
        for done in asked:
            done.callback(result)

    async def _grow(self) -> None:
        mirror = self._mirror
        serving = mirror.serving
        if serving is None:
            raise mirror.unavailable()
        configuration = serving.configuration
        if configuration.frozen:
            raise Unavailable(f"{mirror.name} cannot be made larger while nobody can be written to")
        await self._look_again(serving)
        if mirror.serving is not serving or configuration.frozen:
            raise Unavailable(f"{mirror.name} cannot be made larger now; ask again")
        growth = self._growth = _Growth(mirror, serving, self._new_size(serving))
        try:
            await growth.run()
        finally:
            self._growth = None
            growth.end()
            if mirror.serving is serving:
                for member in mirror.members:
                    serving.returning.consider(member)
                mirror.tell_observers()

    async def _look_again(self, serving: Serving) -> None:
        """Nodes see when they are flushed that their media has grown; of one behind a network it is told later."""
        mirror = self._mirror
        members = [member for member in mirror.members if member.ready and not member.removed]
        flushes = [member.unless_left(member.device.flush()) for member in members]
        await DeferredList(flushes, consumeErrors=True)  # those that fail are found out where it matters
        end = mirror.clock.seconds() + LOOK_S_MAX
        while self._too_small(serving) and mirror.clock.seconds() < end:
            await deferLater(mirror.clock, _LOOK_S)

    def _too_small(self, serving: Serving) -> bool:
        try:
            return not self._new_size(serving)
        except InvalidRequest:
            return True

    def stop(self) -> None:
        """The storage stops: it is as large as its last record says."""
        if self._growth is not None:
            self._growth.end()

    def _new_size(self, serving: Serving) -> int:
        """What all that are here have room for."""
        mirror, label = self._mirror, serving.label
        old = serving.configuration.record.data_size
        rooms = {
            member: room_on(member, self._label_on(serving, member), label.region_size)
            for member in mirror.members
            if not member.removed and self._counts(serving, member)
        }
        size = align_down(min([*rooms.values(), label.region_size * REGIONS_MAX]), PAGE_BYTES)
        if size > old:
            return size
        if old + PAGE_BYTES > label.region_size * REGIONS_MAX:
            raise InvalidRequest(
                f"{mirror.name} cannot be larger than {size_in_words(old)}: with regions of {label.region_size} "
                "bytes its tables are full"
            )
        small = [member.name for member, room in rooms.items() if align_down(room, PAGE_BYTES) <= old]
        zone = old - Zone.at_end_of(old, label.region_size).offset
        raise InvalidRequest(
            f"{mirror.name} has {size_in_words(old)}, and there is no room for more on {', '.join(small)}: make that "
            f"media larger first, by at least {size_in_words(zone + PAGE_BYTES)}. Files and disks see that while "
            "they are open; other nodes when they are connected again"
        )

    def _counts(self, serving: Serving, member: Member) -> bool:
        if serving.configuration.in_sync & member.bit:
            return True
        return member.ready and member.state is not MemberState.REFUSED

    def _label_on(self, serving: Serving, member: Member) -> Label | None:
        """What stands on its media, if it is this storage's."""
        label = member.labels.label if member.labels is not None else None
        ours = label is not None and label.storage_id == serving.label.storage_id
        return label if ours else None


class _Growth:
    """One attempt."""

    def __init__(self, mirror: Mirror, serving: Serving, size: int) -> None:
        self._mirror = mirror
        self._serving = serving
        self._configuration = serving.configuration
        self._size = size
        self._old = serving.configuration.record.data_size
        self._region_size = serving.label.region_size
        self._regions = -(-size // self._region_size)
        self._ended = False

    async def run(self) -> None:
        """Until the new size has been announced, or with an error; then it has the old one."""
        mirror, configuration = self._mirror, self._configuration
        _log.info("{name}: from {old} to {new} bytes", name=mirror.name, old=self._old, new=self._size)
        try:
            await self._hold()
            for member in self._members():
                await self._on(member, self._make_room(member))
            configuration.new_epoch()
            epoch = configuration.epoch
            ready = list(self._members())
            await all_of([start(self._on, member, self._make_zero(member, epoch)) for member in ready])
            mask = sum(member.bit for member in ready) & configuration.usable
            if mask != configuration.in_sync & configuration.usable:
                raise Unavailable("a member came back that was not made ready for it")
            await configuration.grow(self._size, mask)
            self._check()
            if configuration.record.data_size != self._size:
                raise Unavailable("a member came back that was not made ready for it")
        except DSTError as error:
            self._give_up()
            raise Unavailable(f"{mirror.name} was not made larger: {error}; ask again") from error
        self._serving.hot.count = self._regions
        size = self._size - self._size % mirror.geometry.block_size
        mirror.changed(geometry=mirror.geometry.evolve(size=size))

    def end(self) -> None:
        """Nothing more is done, and nobody is held."""
        if not self._ended:
            self._ended = True
            self._serving.hot.kept = -1
            self._serving.returning.held = ""

    def _give_up(self) -> None:
        """The size stays what it was."""
        if self._mirror.serving is self._serving and not self._configuration.stopped:
            self._configuration.grow_no_more()
            regions = -(-self._configuration.record.data_size // self._region_size)
            for member in self._mirror.members:
                if member.tables is not None and member.table.regions > regions:
                    member.tables.resize(regions)

    def _check(self) -> None:
        """
        @raise Unavailable: it cannot go on.
        """
        if self._ended or self._mirror.serving is not self._serving or self._configuration.stopped:
            raise Unavailable("it was stopped")
        if self._configuration.frozen:
            raise Unavailable("nobody can be written to")

    def _members(self) -> Iterator[Member]:
        """Those that have the data, and can be written to."""
        configuration = self._configuration
        for member in list(members_in(self._mirror.members, configuration.in_sync)):
            self._check()
            if configuration.usable & member.bit:
                yield member

    # -- the steps

    async def _hold(self) -> None:
        """Nobody is on the way back, and the region that gets longer is hot."""
        serving, configuration = self._serving, self._configuration
        serving.returning.held = _HELD
        for member in members_in(self._mirror.members, configuration.targets & ~configuration.sent):
            departures = member.departures
            configuration.fail(member, _HELD)
            member.departures = departures
        await configuration.make_stable()  # who was being added is in sync now
        self._check()
        if self._old % self._region_size:
            last = self._old // self._region_size
            while last in serving.hot.regions and serving.hot.regions[last].held:
                await deferLater(self._mirror.clock, HELD_RETRY_S)
                self._check()
            serving.hot.keep(last)

    async def _on(self, member: Member, step: Deferred[None]) -> None:
        """A step on one member, which leaves if it cannot be done."""
        try:
            await member.unless_left(step)
        except DSTError as error:
            self._configuration.lost(member, f"it could not be made ready for a larger size: {error}", error)
            if member.tables is not None and member.tables.lost and self._configuration.stalled & member.bit:
                self._mirror.start_again(f"{member.name} had the last copy, and its zone was being moved")
        self._check()

    def _make_room(self, member: Member) -> Deferred[None]:
        """Its table gets entries for the regions to come, at the new end of its media if it is in the way."""
        tables, labels = member.tables, member.labels
        assert tables is not None and labels is not None and labels.label is not None
        hot = self._serving.hot
        if hot.kept >= 0:
            member.table.set(hot.kept, Epoch(), hot=True)
        if member.zone_of(labels.label).capacity >= self._size:
            done = start(tables.extend, self._regions)
        else:
            zone = Zone.at_end_of(member.node.geometry.size, self._region_size)
            done = start(tables.move, zone, self._regions, labels, self._size)

        def marked(_: None) -> None:
            if hot.kept in hot.regions:
                hot.regions[hot.kept].marked |= member.bit

        return done.addCallback(marked)

    def _make_zero(self, member: Member, epoch: Epoch) -> Deferred[None]:
        return start(self._zero_and_enter, member, epoch)

    async def _zero_and_enter(self, member: Member, epoch: Epoch) -> None:
        tables = member.tables
        assert tables is not None
        at = self._old
        while at < self._size:
            at = await self._zero_piece(member, at)
            self._check()
        await tables.flush()
        first_new = -(-self._old // self._region_size)
        for first in range(first_new, self._regions, _ENTRIES_AT_ONCE):
            self._check()
            regions = range(first, min(first + _ENTRIES_AT_ONCE, self._regions))
            for region in regions:
                member.table.clear(region, epoch)
            await tables.write_behind(regions)
        await tables.flush()

    async def _zero_piece(self, member: Member, at: int) -> int:
        """@return: the end of what is known to be zeroes."""
        length = min(self._size - at, ZERO_BYTES)
        # What a node promises to read as zeroes it may so far have in a cache only; it is flushed like the rest.
        told = (await member.device.block_status(at, self._size - at))[0]
        if told.status & BlockStatus.ZERO:
            return at + told.length
        await member.device.write_zeroes(at, length)
        return at + length
