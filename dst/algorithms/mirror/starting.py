"""
From media to a running storage: look at every member, let the verdict table decide, then initialise or take over.

The order of configuration never matters: a storage is assembled from what
stands on its media and in the owner's own store.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.algorithms.mirror.ballot import Ballot, not_written
from dst.algorithms.mirror.member import Member
from dst.algorithms.mirror.owning import Ownership, fenced
from dst.algorithms.mirror.witness import Witness
from dst.algorithms.zero_scan import all_zero
from dst.errors import BadMedia, DSTError, Fenced, InvalidRequest, MediaError, Unavailable
from dst.geometry import align_down
from dst.label.format import Epoch, Fork, FoundLabel, Label, MemberEntry, Record, Vote
from dst.label.region_table import RegionTable
from dst.label.verdict import (
    AssemblyInputs,
    AssemblyStep,
    AssemblyVerdict,
    judge_assembly,
)
from dst.label.votes import words_of
from dst.label.zone import PAGE_BYTES, REGIONS_MAX, Zone, default_region_size
from dst.recovery.label_store import LabelStore
from dst.recovery.record_store import IRecordStore
from dst.recovery.table_store import TableStore
from dst.status import MemberState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Started", "Starter"]

_log = Logger()


class ClaimStep(enum.Enum):
    CLAIM = "claim"


@frozen
class ClaimVerdict:
    row: str
    step: ClaimStep
    reason: str


def judge_claim(inputs: AssemblyInputs) -> ClaimVerdict:
    return ClaimVerdict("claim", ClaimStep.CLAIM, "")


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
        region_size: int,
        wait_s: float,
        said: Callable[[str, bool], None],
        entropy: Callable[[int], bytes],
        ownership: Ownership,
        witnesses: Sequence[Witness] = (),
        votes_of_members: bool = False,
        standby_s: float | None = None,
        handed_to: Callable[[], str] = str,
    ) -> None:
        """
        @param votes_of_members: of a new storage.
        @param standby_s: how long a standby waits when there is no owner any more; C{None} for an owner that was
            configured.
        @param handed_to: tells who the storage was handed over to, while they are expected to take it.
        @param region_size: for a new storage; 0 for the default.
        @param wait_s: how long members that may have the latest data are waited for when others have it too.
        @param said: called with what the start waits for, and whether only a person can help.
        """
        self._clock = clock
        self._members = members
        self._store = store
        self._algorithm = algorithm
        self._region_size = region_size
        self._wait_s = wait_s
        self._said = said
        self._entropy = entropy
        self._ownership = ownership
        self._witnesses = witnesses
        self._votes_of_members = votes_of_members
        self._standby_s = standby_s
        self._handed_to = handed_to
        self._free_since: float | None = None
        self._wanted = False
        self._claimed = False
        self.claim_verdict: ClaimVerdict | None = None
        self.verdict: AssemblyVerdict | None = None
        self.kept: Label | None = None
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
        self._store_failed: Unavailable | None = None

    @property
    def wait_s_left(self) -> float | None:
        """How much longer members that could still come are given."""
        return None if self._timer is None else max(0.0, self._timer.getTime() - self._clock.seconds())

    @property
    def looking(self) -> bool:
        """It is asking its members; otherwise it waits for something to change."""
        return self._wake is None

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

    def take_over(self) -> None:
        """A person's word that the storage is to be owned here."""
        self._wanted = True
        self.wake()

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
        kept = self.kept = await self._store.load()
        await self._look(kept)
        await self._ownership.ask()
        inputs = self._inputs(kept)
        if inputs.data.record is not None:
            claim = self.claim_verdict = judge_claim(inputs)
            _log.debug("{row}: {reason}", row=claim.row, reason=claim.reason)
            if claim.step is not ClaimStep.CLAIM:
                return await self._stand_by(claim)
            await self._claim(inputs.data.record.claim.number, inputs.data.storage_id, kept)
            inputs = self._inputs(kept, claimed=True)
        verdict = self.verdict = judge_assembly(inputs)
        if verdict.row == "first-start-unknown":
            self._zero = await all_zero([member.node for member in self._members])
            verdict = self.verdict = judge_assembly(self._inputs(kept))
        if self._stopped:
            return None
        if inputs.data.record is None and self._standby_s is not None:
            self._said("there is no storage yet, and a standby never makes one; start the daemon that owns it", False)
            self._rest()
            return None
        if verdict.step in (AssemblyStep.ASK, AssemblyStep.WAIT):
            self._said(verdict.reason, verdict.step is AssemblyStep.ASK)
            if self._claimed and self._holds_fences():
                self._rest()
        _log.info("{row}: {reason}", row=verdict.row, reason=verdict.reason)
        if verdict.step is AssemblyStep.SERVE:
            return await self._take_over(verdict, kept)
        if verdict.step is AssemblyStep.INITIALISE:
            return await self._initialise(self._members[0])
        return await self._obey(verdict)

    async def _stand_by(self, verdict: ClaimVerdict) -> None:
        """It is not this daemon's, or not yet."""
        if self._claimed:
            self._claimed = False
            await self._ownership.give_back()
        self._said(verdict.reason, False)
        if self._wanted:
            await self._ownership.want()
        self._rest()

    async def _claim(self, above: int, storage_id: bytes, kept: Label | None) -> None:
        """Claim everything that can be reached and is the storage's, and read again what it says after the grants."""
        holders = [holder for holder in self._holders if self._may_be_claimed(holder, storage_id)]
        ownership = self._ownership
        if self._claimed and all(holder.granted for holder in holders):
            return  # since an earlier look, and renewed
        await ownership.claim_all(above, holders)
        self._claimed = True
        for holder in holders:
            if fenced(holder.node) is not None:
                holder.found = None
        await self._look(kept)

    @property
    def _holders(self) -> list[Member | Witness]:
        return [*self._members, *self._witnesses]

    def _may_be_claimed(self, holder: Member | Witness, storage_id: bytes) -> bool:
        """Not what belongs to another storage, whoever owns that."""
        found = holder.found
        return holder.ready and found is not None and (found.label is None or found.label.storage_id == storage_id)

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

        for witness in self._witnesses:
            if not witness.ready:
                witness.found, witness.reason = None, witness.node.reason
            elif witness.found is None or witness.incarnation != witness.node.incarnation:
                await self._look_at_witness(witness)
                label = witness.found.label if witness.found is not None else None
                witness.node_id = label.node_id if label is not None else b""

    async def _look_at_witness(self, witness: Witness) -> None:
        try:
            await self._ownership.let_go(witness)
        except DSTError as error:
            witness.found, witness.reason = None, f"its promise cannot be asked for: {error}"
        else:
            await witness.look()

    async def _look_at(self, member: Member, kept: Label | None) -> None:
        incarnation = member.node.incarnation
        try:
            await self._ownership.let_go(member)
        except DSTError as error:
            member.found = None
            member.become(MemberState.ABSENT, f"its promise cannot be asked for: {error}")
            self._rest()
            return
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

    def _inputs(self, kept: Label | None, *, claimed: bool = False) -> AssemblyInputs:
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

    def _granted(self, kept: Label | None, storage_id: bytes) -> frozenset[tuple[bytes, bytes]]:
        """The votes that are promised to this daemon and have not lost their memory, by (node id, fence)."""
        votes = set()
        for holder in self._holders:
            label = holder.found.label if holder.found is not None else None
            node = fenced(holder.node)
            if node is not None and holder.granted and label is not None and label.storage_id == storage_id:
                votes.add((label.node_id, node.fence))
        own = self._ownership.own_vote
        if own is not None and kept is not None and kept.storage_id == storage_id:
            votes.add((own.node_id, own.fence))
        return frozenset(votes)

    def _holds_fences(self) -> bool:
        """Somebody may be waiting for what is claimed here."""
        return any(holder.granted and fenced(holder.node) is not None for holder in self._holders)

    def _patient(self) -> bool:
        """Nobody has owned the storage for so long that a standby may."""
        ownership = self._ownership
        if any(ownership.other_owner(promise) for promise in ownership.promises.values()):
            self._free_since = None
            return False
        if self._free_since is None:
            self._free_since = ownership.now()
        return ownership.now() - self._free_since >= (self._standby_s or 0.0)

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
        await self._claim_for_new()
        ownership = self._ownership
        claim = ownership.claim
        for member in self._members:
            member.node_id = self._entropy(16) if member is first else b""
        first.incarnation = first.node.incarnation
        entry = MemberEntry(first.node_id, first.incarnation, first.index, first.name)
        first_fence = fenced(first.node)
        votes: tuple[Vote, ...] = ()
        if first_fence is not None and (self._votes_of_members or ownership.own_vote is None):
            votes = (Vote(first.node_id, first_fence.fence, first.name),)
        elif ownership.own_vote is not None:
            votes = (ownership.own_vote,)
        record = Record(claim, 1, self._entropy(16), (entry,), votes=votes)
        storage_id = self._entropy(16)
        label = Label(0, storage_id, b"", self._algorithm, 0, True, Epoch(), 0, 0, data_size, region_size, 0, record)
        _log.info("a new storage of {size} bytes on {n} members", size=data_size, n=len(self._members))
        await self._label(first, label, Epoch(claim.tag, _FIRST_AGE))
        await self._store.store(label.evolve(node_id=claim.owner))
        return Started(label, frozenset(), (first,))

    async def _claim_for_new(self) -> None:
        """A storage is made of members that nobody else can be making one of."""
        ownership = self._ownership
        await ownership.claim_all(0, [*self._members, *[w for w in self._witnesses if w.ready]])
        refused = [member for member in self._members if not member.granted]
        if refused:
            promise = ownership.promises.get(refused[0].name)
            who = promise.owner_name if promise is not None else ""
            await ownership.give_back()
            raise Fenced(f"{refused[0].name} is promised to {who or 'another daemon'}; no storage is made of it")

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
        ownership = self._ownership
        claim = ownership.claim
        self._claimed = False  # it is used for one record; another attempt makes another claim
        ancestry, votes = record.ancestry, record.votes
        if verdict.row == "forced":
            ancestry = (*ancestry[-15:], Fork(record.claim, record.sequence, claim.tag))
            votes = self._votes_of(sources)
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
        new = Record(claim, 1, incarnation, tuple(entries), False, ancestry, votes)
        label = facts.label.evolve(record=new, sequence=0, node_id=b"", consistent=True, since=Epoch(), place=0)
        await self._make_stable(label, new, sources)
        return Started(label, frozenset(hot), sources)

    def _votes_of(self, sources: Sequence[Member]) -> tuple[Vote, ...]:
        """Whose word counts after a person has forced a start: those who are here."""
        own = self._ownership.own_vote
        if own is not None:
            return (own,)
        votes = [(member.name, self._ownership.vote_of(member)) for member in sources]
        return tuple(Vote(*vote, name) for name, vote in votes if vote is not None)

    async def _make_stable(self, label: Label, record: Record, sources: Sequence[Member]) -> None:
        """
        C{record} on every source and on a quorum.

        @raise Unavailable: there was none; it is tried again, with a higher claim.
        """
        ballot = Ballot(record.votes, record.votes, self._ownership)
        own = Deferred.fromCoroutine(self._store_record(label))
        ballot.add(own, None, wanted=ballot.needs(self._ownership.own_vote) or not record.votes)
        failures: list[Exception] = []

        def failed(failure: Failure) -> bool:
            failure.trap(DSTError)
            failures.append(failure.value)  # type: ignore[arg-type]
            return False

        for member in sources:
            mine = member.labels.label if member.labels else None
            assert mine is not None and member.labels is not None
            consistent = mine.evolve(record=record, consistent=True, since=Epoch(record.claim.tag, 1))
            writing = Deferred.fromCoroutine(member.labels.write(consistent))
            ballot.add(writing.addCallbacks(lambda _: True, failed), member, wanted=True)
        voting = {vote.node_id for vote in record.votes}
        for holder in self._holders:
            mine = holder.found.label if holder.found is not None else None
            votes = mine is not None and mine.node_id in voting and self._ownership.vote_of(holder) is not None
            if votes and holder not in sources and holder.labels is not None:
                writing = Deferred.fromCoroutine(holder.labels.set_record(record))
                ballot.add(writing.addCallbacks(lambda _: True, not_written), holder, wanted=False)
        await ballot.result()
        if failures:
            raise failures[0]
        if not ballot.stable:
            missing = words_of(vote for vote in ballot.voters if not ballot.has(vote))
            raise self._store_failed or Unavailable(
                f"the first record got no quorum; these did not keep it: {missing}"
            )

    async def _store_record(self, label: Label) -> bool:
        try:
            await self._store.store(label.evolve(node_id=label.record.claim.owner))
        except (DSTError, OSError) as error:
            self._store_failed = Unavailable(f"the state directory cannot be written: {error}")
            return False
        return True

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
