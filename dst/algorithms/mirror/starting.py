"""
From media to a running storage: look at every member, let the verdict table decide, then initialise or take over.

The order of configuration never matters: a storage is assembled from what
stands on its media and in the owner's own store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dst.algorithms.mirror.member import Member
from dst.algorithms.zero_scan import all_zero
from dst.errors import BadMedia, DSTError, InvalidRequest, MediaError
from dst.geometry import align_down
from dst.label.format import Claim, Epoch, Fork, FoundLabel, Label, MemberEntry, Record
from dst.label.region_table import RegionTable
from dst.label.verdict import AssemblyInputs, AssemblyStep, AssemblyVerdict, judge_assembly
from dst.label.zone import PAGE_BYTES, REGIONS_MAX, Zone, default_region_size
from dst.recovery.label_store import LabelStore
from dst.recovery.record_store import IRecordStore
from dst.recovery.table_store import TableStore
from dst.status import MemberState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Started", "Starter"]

_log = Logger()

_FIRST_AGE = 1 << 31
"""The number of the age that a new storage's first member gets: no epoch that is counted up comes near it."""

_RETRY_S = 1.0


@frozen
class Started:
    """
    A storage that was taken over.

    @ivar label: the storage's facts with the record that is stable.
    @ivar hot: regions that are hot on any source.
    @ivar sources: members in sync.
    """

    label: Label
    hot: frozenset[int]
    sources: tuple[Member, ...]


class _Command:
    """C{initialise}, asked for by a person."""

    def __init__(self, keep: str | None, discard: bool) -> None:
        self.keep = keep
        self.discard = discard
        self.done: Deferred[None] = Deferred()


class Starter:
    """
    One start of one mirror.

    @ivar reason: one sentence what it waits for.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Sequence[Member],
        store: IRecordStore,
        algorithm: str,
        owner: bytes,
        region_size: int,
        wait_s: float,
        said: Callable[[str, bool], None],
        entropy: Callable[[int], bytes],
    ) -> None:
        """
        @param region_size: for a new storage; 0 for the default.
        @param wait_s: how long members that may have the latest data are waited for when others have it too.
        @param said: called with what the start waits for, and whether only a person can help.
        """
        self._clock = clock
        self._members = members
        self._store = store
        self._algorithm = algorithm
        self._owner = owner
        self._region_size = region_size
        self._wait_s = wait_s
        self._said = said
        self._entropy = entropy
        self._command: _Command | None = None
        self._forced = ""
        self._waited = False
        self._timer: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._wake: Deferred[None] | None = None
        self._woken = False
        self._zero: bool | None = None
        self._stopped = False
        self._undrained = False

    # -- from outside

    def wake(self) -> None:
        """A node has changed: look again."""
        self._woken = True
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake.callback(None)

    def drained(self) -> None:
        """A member has ended what was sent to it: look again if that was waited for."""
        if self._undrained:
            self._undrained = False
            self.wake()

    def initialise(self, keep: str | None, discard: bool) -> Deferred[None]:
        """A person's word on members that hold something."""
        if self._command is not None:
            raise InvalidRequest("the storage is being initialised already")
        if keep is not None and discard:
            raise InvalidRequest("say --keep or --discard, not both")
        if keep is None and not discard:
            raise InvalidRequest(
                "say --keep NODE to adopt one member's data, or --discard to lose what all of them hold"
            )
        if keep is not None and keep not in [member.name for member in self._members]:
            known = ", ".join(member.name for member in self._members)
            raise InvalidRequest(f"there is no member {keep}; the members are {known}")
        self._command = command = _Command(keep, discard)
        self.wake()
        return command.done

    def force(self, name: str) -> None:
        """A person's word that this member has the data."""
        self._forced = name
        self.wake()

    def stop(self) -> None:
        """Give up."""
        self._stopped = True
        self._cancel_timers()
        self.wake()

    # -- the loop

    async def run(self) -> Started | None:
        """Until the storage can be served; C{None} when stopped."""
        try:
            return await self._run()
        finally:
            command, self._command = self._command, None
            if command is not None:
                command.done.errback(
                    InvalidRequest("the storage was not initialised: it exists already, or it stops")
                )

    async def _run(self) -> Started | None:
        self._timer = self._clock.callLater(self._wait_s, self._time_is_up)
        while not self._stopped:
            self._woken = False
            try:
                started = await self._step()
            except (DSTError, OSError) as error:
                _log.warn("the start failed and is tried again: {error}", error=error)
                self._said(str(error), False)
                self._forget_members()
                self._rest()
                started = None
            if started is not None:
                self._cancel_timers()
                return started
            if not self._woken and not self._stopped:
                self._wake = Deferred()
                await self._wake
        return None

    def _time_is_up(self) -> None:
        self._timer = None
        self._waited = True
        self.wake()

    def _rest(self) -> None:
        """Look again in a while, without being woken."""
        if self._retry is None and not self._stopped:
            self._retry = self._clock.callLater(_RETRY_S, self._rested)

    def _rested(self) -> None:
        self._retry = None
        self.wake()

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()
        self._timer = self._retry = None

    def _forget_members(self) -> None:
        for member in self._members:
            member.found = None
        self._zero = None

    async def _step(self) -> Started | None:
        kept = await self._store.load()
        await self._look(kept)
        verdict = judge_assembly(self._inputs(kept))
        if verdict.row == "first-start-unknown":
            self._zero = await all_zero([member.node for member in self._members])
            verdict = judge_assembly(self._inputs(kept))
        if self._stopped:
            return None
        if verdict.step in (AssemblyStep.ASK, AssemblyStep.WAIT):
            self._said(verdict.reason, verdict.step is AssemblyStep.ASK)
        _log.info("{row}: {reason}", row=verdict.row, reason=verdict.reason)
        if verdict.step is AssemblyStep.SERVE:
            return await self._take_over(verdict, kept)
        if verdict.step is AssemblyStep.INITIALISE:
            return await self._initialise(self._members[0])
        return await self._obey(verdict)

    async def _obey(self, verdict: AssemblyVerdict) -> Started | None:
        command = self._command
        if command is None:
            return None
        self._command = None
        try:
            if verdict.record is not None or verdict.row != "first-start-holds-data":
                raise InvalidRequest(f"the storage cannot be initialised: {verdict.reason}")
            first = next((m for m in self._members if m.name == command.keep), self._members[0])
            started = await self._initialise(first)
        except DSTError as error:
            command.done.errback(error)
            return None
        except OSError as error:
            command.done.errback(MediaError(f"the storage's record cannot be written: {error}"))
            return None
        command.done.callback(None)
        return started

    # -- looking

    async def _look(self, kept: Label | None) -> None:
        """Read the labels of all members that can be read and were not yet."""
        for member in self._members:
            if not member.ready or member.outstanding:
                # What an earlier service has sent must have ended, or it would land on newer data.
                member.found = None
                self._undrained = self._undrained or bool(member.outstanding)
                reason = member.node.reason or "waiting for what was sent to it before"
                member.become(MemberState.ABSENT, reason)
            elif member.found is None or member.incarnation != member.node.incarnation:
                await self._look_at(member, kept)

    async def _look_at(self, member: Member, kept: Label | None) -> None:
        incarnation = member.node.incarnation
        member.labels = LabelStore(member.device)
        others = [other.labels.label for other in self._members if other.labels is not None]
        sizes = [label.media_size for label in [kept, *others] if label is not None]
        try:
            size = member.node.geometry.size
            region_size = self._region_size or default_region_size(size)
            if Zone.at_end_of(size, region_size).capacity < PAGE_BYTES:
                raise BadMedia(f"{size} bytes are too few for a member")
            if member.node.geometry.block_size > PAGE_BYTES:
                raise BadMedia(f"blocks of {member.node.geometry.block_size} bytes are too large; 4096 is the most")
            if member.node.geometry.read_only:
                raise BadMedia("it is read-only")
            member.found = await member.labels.read(sizes)
        except BadMedia as error:
            member.found = None
            member.become(MemberState.REFUSED, str(error))
            return
        except DSTError as error:
            member.found = None
            member.become(MemberState.ABSENT, f"its label cannot be read: {error}")
            self._rest()
            return
        member.incarnation = incarnation
        member.become(MemberState.ABSENT, "waiting for the storage to start")

    def _inputs(self, kept: Label | None) -> AssemblyInputs:
        seen = [member for member in self._members if member.found is not None]
        return AssemblyInputs(
            tuple(member.name for member in self._members),
            {member.name: member.found for member in seen if member.found is not None},
            {member.name: member.incarnation for member in seen},
            kept,
            self._waited,
            self._zero,
            self._forced,
            self._algorithm,
        )

    # -- a new storage

    async def _initialise(self, first: Member) -> Started:
        """
        A storage of C{first} alone, with its label as the one step that makes it; the others then come as new media.
        Whenever this is interrupted there is no storage yet, or there is one whose only source is known.

        C{first}'s regions get an age at once: nobody else can have it, so it says no more than the record does,
        and a member that missed nothing since needs no copying later.
        """
        sizes = [member.node.geometry.size for member in self._members]
        region_size = self._region_size or default_region_size(max(sizes))
        if max(sizes) > region_size * REGIONS_MAX:
            raise InvalidRequest(
                f"with regions of {region_size} bytes the table would be too large; use a larger one"
            )
        capacity = min(Zone.at_end_of(size, region_size).capacity for size in sizes)
        data_size = align_down(capacity, PAGE_BYTES)
        claim = Claim(1, int.from_bytes(self._entropy(8), "little") | 1, self._owner)
        for member in self._members:
            member.node_id = self._entropy(16) if member is first else b""
        first.incarnation = first.node.incarnation
        entry = MemberEntry(first.node_id, first.incarnation, first.index, first.name)
        record = Record(claim, 1, self._entropy(16), (entry,))
        storage_id = self._entropy(16)
        label = Label(0, storage_id, b"", self._algorithm, 0, True, Epoch(), 0, 0, data_size, region_size, 0, record)
        _log.info("a new storage of {size} bytes on {n} members", size=data_size, n=len(self._members))
        await self._label(first, label, Epoch(claim.tag, _FIRST_AGE))
        await self._store.store(label.evolve(node_id=claim.owner))
        return Started(label, frozenset(), (first,))

    async def _label(self, member: Member, label: Label, age: Epoch) -> None:
        assert member.labels is not None
        size = member.node.geometry.size
        zone = Zone.at_end_of(size, label.region_size)
        table = RegionTable(zone.regions_of(label.data_size), label.storage_id)
        table.fill(age)
        member.tables = TableStore(member.device, zone, table)
        await member.tables.create()
        own = label.evolve(
            node_id=member.node_id,
            place=member.index,
            media_size=size,
            zone_offset=zone.offset,
        )
        await member.labels.write(own)
        member.found = FoundLabel(member.labels.label)

    # -- taking over

    async def _take_over(self, verdict: AssemblyVerdict, kept: Label | None) -> Started:
        """Claim above all that was seen, read the tables, and make a record stable that names the sources."""
        record = verdict.record
        assert record is not None and verdict.sources
        sources = tuple(member for member in self._members if member.name in verdict.sources)
        self._name_members(record, verdict.storage_id)
        facts = sources[0].found
        assert facts is not None and facts.label is not None
        hot: set[int] = set()
        for member in sources:
            hot.update(await self._load(member))
        claim = Claim(record.claim.number + 1, int.from_bytes(self._entropy(8), "little") | 1, self._owner)
        ancestry = record.ancestry
        if verdict.row == "forced":
            ancestry = (*ancestry[-15:], Fork(record.claim, record.sequence, claim.tag))
        incarnation = self._entropy(16) if verdict.lost_cache else record.incarnation
        entries = []
        for entry in record.members:
            known_as = [each for each in self._members if each.node_id == entry.node_id]
            if not known_as:
                entries.append(evolve(entry, in_sync=False))
                continue
            member = known_as[0]
            member.suspended = entry.suspended and member not in sources
            known = member.incarnation if member in sources else entry.incarnation
            entries.append(
                evolve(
                    entry,
                    in_sync=member in sources,
                    name=member.name,
                    place=member.index,
                    incarnation=known,
                    suspended=member.suspended,
                )
            )
        new = Record(claim, 1, incarnation, tuple(entries), False, ancestry)
        label = facts.label.evolve(record=new, sequence=0, node_id=b"", consistent=True, since=Epoch(), place=0)
        await self._store.store(label.evolve(node_id=claim.owner))
        for member in sources:
            own = member.labels.label if member.labels else None
            assert own is not None and member.labels is not None
            await member.labels.write(own.evolve(record=new, consistent=True, since=Epoch(claim.tag, 1)))
        return Started(label, frozenset(hot), sources)

    def _name_members(self, record: Record, storage_id: bytes) -> None:
        """Who is who: by the identity on the media; media that has none stands in for the entry of its name."""
        taken: set[bytes] = set()
        for member in self._members:
            label = member.found.label if member.found is not None else None
            known = label is not None and label.storage_id == storage_id and record.entry(label.node_id) is not None
            member.node_id = label.node_id if label is not None and known and label.node_id not in taken else b""
            taken.add(member.node_id)
        for member in self._members:
            entry = record.named(member.name)
            if not member.node_id and entry is not None and entry.node_id not in taken:
                member.node_id = entry.node_id
                taken.add(entry.node_id)

    async def _load(self, member: Member) -> list[int]:
        label = member.found.label if member.found is not None else None
        assert label is not None
        table = RegionTable(member.zone_of(label).regions_of(label.data_size), label.storage_id)
        member.tables = TableStore(member.device, member.zone_of(label), table)
        bad = await member.tables.load()
        if bad:
            _log.warn("{member}: {bad} pages of the region table were unusable", member=member.name, bad=bad)
        return list(table.hot_regions())
