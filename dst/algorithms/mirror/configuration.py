"""
Who is in sync, and how a change of that is made to last before it has an effect (R3).

A record is I{stable} when a majority of the votes and every member it names as in sync have it. Until then
nothing is acknowledged that the members it leaves out have not done. Masks of members, not sets: they
are looked at for every block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from dst.algorithms.mirror.ballot import Ballot, not_written
from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.owning import Ownership, fenced
from dst.algorithms.mirror.witness import Witness
from dst.errors import BadMedia, DSTError, Fenced, Unavailable
from dst.label.format import Epoch, Label, MemberEntry, Record, Vote
from dst.label.lineage import Lineage, lineage
from dst.label.votes import needed, next_votes, nodes_vote, words_of
from dst.recovery.label_store import LabelStore
from dst.recovery.record_store import IRecordStore
from dst.status import MemberState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Configuration"]

_log = Logger()

_RETRY_S = 1.0
"""How often a record that got no quorum is tried again; until then nothing is acknowledged without the member."""

FOREVER = float("inf")


class Configuration:
    """
    The configuration of a mirror that serves.

    @ivar record: the one that is stable.
    @ivar newest: the last one that was sent to anybody, stable or not: what media may hold that is not of another
        owner's.
    @ivar in_sync: members of the stable record.
    @ivar sent: those, and members of every record sent since: all count (R3).
    @ivar leaving: counted still, but nothing is sent to them any more; a record without them is under way.
    @ivar stalled: the last members with the data, not to be reached: they never leave, everything waits for them.
    @ivar targets: receive resync and the writes to regions that they have.
    @ivar epoch: what a clear writes as age now.
    @ivar trouble: one sentence why no record can be made stable; C{""}.
    @ivar lease_until: until when, on the ownership's clock, nobody else can own the storage.
    @ivar bars: how often there was no quorum.
    @ivar no_quorum: one sentence: the lease is over, and nothing is served; or C{""}.
    @ivar short_of_copies: fewer copies than C{minimum_copies}: no change is acknowledged.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Sequence[Member],
        store: IRecordStore,
        label: Label,
        committed: Callable[[int], None],
        changed: Callable[[], None],
        ownership: Ownership,
        witnesses: Sequence[Witness] = (),
        votes_of_members: bool = False,
        minimum_copies: int = 1,
    ) -> None:
        """
        @param votes_of_members: members and witnesses vote; otherwise the owner's own store alone, where there is
            one.
        @param label: the storage's facts, with the record that is stable now.
        @param committed: called with the mask of members that are gone, in the turn of the commit.
        @param changed: called when any mask has changed.
        """
        self._clock = clock
        self._members = members
        self._store = store
        self._label = label
        self._committed = committed
        self._changed = changed
        self._ownership = ownership
        self._witnesses = witnesses
        self._votes_of_members = votes_of_members
        self.minimum_copies = minimum_copies
        self.lease_until = FOREVER
        self.no_quorum = ""
        self.bars = 0
        self.record = self.newest = label.record
        self._not_named: set[bytes] = set()
        self.in_sync = 0
        for member in members:
            entry = self.record.entry(member.node_id)
            if entry is not None and entry.in_sync:
                self.in_sync |= member.bit
        self.sent = self.in_sync
        self.leaving = 0
        self.stalled = 0
        self.targets = 0
        self.trouble = ""
        self.stopped = False
        self._released = False
        self._growth: tuple[int, int] | None = None
        self._adding = 0
        self._epoch_number = 1
        self.epoch = Epoch(self.record.claim.tag, self._epoch_number)
        self._wanted: list[Deferred[None]] = []
        self._carried: list[Deferred[None]] = []  # what the record under way is written for
        self._rewrite = False
        self._writing = False
        self._retry: IDelayedCall | None = None
        self._store_trouble = ""

    # -- what the data path asks

    @property
    def usable(self) -> int:
        """Members that an operation is sent to now."""
        return 0 if self.no_quorum else self.sent & ~self.leaving & ~self.stalled

    @property
    def frozen(self) -> bool:
        """No member that has the data can be reached, or nothing may be done with them."""
        return not self.usable

    @property
    def short_of_copies(self) -> bool:
        """Fewer members are in sync than changes are to have."""
        return (self.in_sync & self.usable).bit_count() < self.minimum_copies

    def lease_over(self) -> bool:
        """Another daemon may have been granted the storage by now."""
        return self.lease_until is not FOREVER and self._ownership.now() >= self.lease_until

    def bar(self, reason: str) -> None:
        """There is no quorum: nothing is served, and no member can leave, before there is one again."""
        if not self.no_quorum:
            _log.warn("{reason}", reason=reason)
            self.bars += 1
        self.no_quorum = reason
        self._changed()

    def begin_barred(self, reason: str) -> None:
        """As L{bar}, before anybody is told of anything."""
        self.no_quorum = reason
        self.bars += 1

    def unbar(self) -> None:
        """There is a quorum again, and it is still this daemon's."""
        self.no_quorum = ""
        if self.sent & ~self.leaving & ~self.stalled:
            # Those that failed meanwhile were not the last copies after all.
            gone, self.stalled = self.stalled, 0
            self.leaving |= gone
            self._adding &= ~gone
            self.targets &= ~gone
            for member in members_in(self._members, gone):
                member.become(MemberState.ABSENT, member.reason)
                member.left()
        self._changed()
        self._write_records()

    # -- members leave

    def fail(self, member: Member, reason: str) -> None:
        """C{member} did not do what it was told, or cannot be reached: it leaves, unless it is the last (R3)."""
        bit = member.bit
        if self.stopped or not (self.sent | self.targets) & bit or (self.leaving | self.stalled) & bit:
            return
        if not self.sent & bit:
            self._drop_target(member, reason)
            return
        if not self.usable & ~bit:
            _log.error(
                "{member} was the last copy that could be reached: {reason}", member=member.name, reason=reason
            )
            self.stalled |= bit
            member.become(MemberState.IN_SYNC, reason)
            self._changed()
            return
        _log.warn("{member} leaves: {reason}", member=member.name, reason=reason)
        self.leaving |= bit
        self._adding &= ~bit
        self.targets &= ~bit
        member.become(MemberState.ABSENT, reason)
        member.left()
        self._changed()
        self._write_records()

    def lost(self, member: Member, reason: str, error: Exception) -> None:
        """As L{fail}; if somebody else has claimed the node, see at once who owns the storage."""
        self.fail(member, reason)
        if isinstance(error, Fenced):
            self._ownership.renew_now()

    def _drop_target(self, member: Member, reason: str) -> None:
        """A resync target leaves at once: what it has been told was clean must not look equal later (R3)."""
        _log.warn("{member} leaves in the middle of its resync: {reason}", member=member.name, reason=reason)
        self.targets &= ~member.bit
        self._adding &= ~member.bit  # its record has not been sent: no later one may name it
        member.become(MemberState.ABSENT, reason)
        member.left()
        self._new_epoch()
        self._committed(member.bit)
        self._changed()

    def drop_targets(self, reason: str) -> None:
        """No resync goes on: the storage stops."""
        for member in members_in(self._members, self.targets & ~self.sent):
            self.fail(member, reason)

    def _new_epoch(self) -> None:
        self._epoch_number += 1
        self.epoch = Epoch(self.record.claim.tag, self._epoch_number)

    def returned(self, member: Member) -> bool:
        """
        A member that counts still can be reached again, with the incarnation of the record, while everything waits.

        @return: whether service goes on with it; its unanswered operations are to be sent again.
        """
        if not self.frozen or not self.in_sync & member.bit:
            return False
        if self.stalled != member.bit:
            # Others were last, too, as several can be while there is no quorum. Whatever was acknowledged is on all:
            # go on without them, and without their answers.
            gone = self.stalled & ~self.leaving & ~member.bit  # each leaves once, however often this one returns
            self.leaving = (self.leaving | self.stalled) & ~member.bit
            # One that was being added has missed what this one is about to do.
            self._adding &= ~self.leaving
            self.targets &= ~self.leaving
            for other in members_in(self._members, gone):
                other.become(MemberState.ABSENT, other.reason)
                other.left()
        self.stalled = 0
        assert member.tables is not None
        member.tables.go_on()
        member.become(MemberState.IN_SYNC)
        self._changed()
        self._write_records()
        return True

    # -- members come

    def register(self, member: Member) -> None:
        """A member has been compared and becomes a resync target, in the same turn."""
        assert not (self.sent | self.targets) & member.bit, member.name
        self.targets |= member.bit
        self._changed()

    def add(self, member: Member) -> Deferred[None]:
        """
        A target that has everything, and has been flushed, becomes in sync. It counts from the first send of
        the record; fires when that is stable.
        """
        assert self.targets & member.bit, member.name
        self._adding |= member.bit
        return self.make_stable()

    def add_without_copying(self, member: Member) -> Deferred[None]:
        """A person says that the member has the data."""
        self.targets |= member.bit
        return self.add(member)

    # -- records

    def make_stable(self) -> Deferred[None]:
        """Write a record that says how the members are now; fires when it is stable."""
        if self.stopped:
            return fail(_stopped())
        done: Deferred[None] = Deferred()
        self._wanted.append(done)
        self._rewrite = True
        self._write_records()
        return done

    def label_for(self, member: Member, record: Record, *, consistent: bool) -> Label:
        """What C{member}'s own label says."""
        assert member.labels is not None
        own = member.labels.label
        return self._label.evolve(
            node_id=member.node_id,
            place=member.index,
            consistent=consistent,
            since=self.epoch,
            media_size=own.media_size if own is not None else member.node.geometry.size,
            zone_offset=own.zone_offset if own is not None else 0,
            data_size=record.data_size,
            record=record,
        )

    def grow(self, data_size: int, ready: int) -> Deferred[None]:
        """
        The storage has so many bytes from the next record on, if that names none but C{ready}, the members that have
        room for them, and zeroes there. Fires when it is stable.
        """
        assert data_size >= self.record.data_size, (data_size, self.record.data_size)
        self._growth = (data_size, ready)
        return self.make_stable()

    def grow_no_more(self) -> None:
        """No later record has a new size."""
        self._growth = None

    def _next_size(self, in_sync: int) -> int:
        if self._growth is not None and not in_sync & ~self._growth[1]:
            return self._growth[0]
        return self.record.data_size

    def new_epoch(self) -> None:
        """What is cleared from now on is told from whatever was before."""
        self._new_epoch()

    def remove(self, member: Member) -> Deferred[None]:
        """Names C{member}, which has left, no more; fires when that is stable. If it returns it is foreign."""
        assert not (self.sent | self.targets) & member.bit, member.name
        gone, member.node_id = member.node_id, b""
        self._not_named.add(gone)
        return self.make_stable()

    def stop(self) -> None:
        """No record is written any more."""
        self.stopped = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        wanted = self._carried + self._wanted
        self._carried, self._wanted = [], []
        for done in wanted:
            done.errback(_stopped())

    def release(self) -> Deferred[None]:
        """Say in a last record that everything is stable and no region is hot."""
        self._released = True
        return self.make_stable()

    def next_record(self, in_sync: int) -> Record:
        """The record after the present one that names these members as in sync."""
        ours = {member.node_id for member in self._members}
        entries = [
            MemberEntry(
                member.node_id,
                member.incarnation or bytes(16),
                member.index,
                member.name,
                in_sync=bool(in_sync & member.bit),
                suspended=member.suspended,
                media_size=self._media_size(member),
            )
            for member in self._members
            if member.node_id
        ]
        names = {entry.name for entry in entries}
        entries += [
            evolve(entry, in_sync=False)
            for entry in self.record.members
            if entry.node_id not in ours and entry.name not in names and entry.node_id not in self._not_named
        ]
        claim = self._ownership.owned
        sequence = self.newest.sequence + 1 if claim == self.newest.claim else 1
        return evolve(
            self.record,
            claim=claim,
            sequence=sequence,
            members=tuple(entries),
            released=self._released,
            votes=self._next_votes(),
            data_size=self._next_size(in_sync),
        )

    def _media_size(self, member: Member) -> int:
        """Where its label stands, as far as is known."""
        own = member.labels.label if member.labels is not None else None
        if own is not None and (own.storage_id, own.node_id) == (self._label.storage_id, member.node_id):
            return own.media_size
        before = self.record.entry(member.node_id)
        return before.media_size if before is not None else 0

    # -- votes

    def votes_changed(self) -> None:
        """A vote may have come or gone, or the claim was raised: see whether a record is to say so."""
        self._write_records()

    def available_votes(self) -> list[Vote]:
        """Votes that can be cast now, the owner's own store first."""
        own = self._ownership.own_vote
        votes = [own] if own is not None else []
        for holder in self._holders:
            vote = self._ownership.vote_of(holder)
            if vote is not None and self._has_label(holder):
                votes.append(Vote(*vote, holder.name))
        return votes

    @property
    def votes_of_members(self) -> bool:
        """Members and witnesses vote; otherwise the owner's own store alone."""
        return self._votes_of_members

    @property
    def must_fence(self) -> bool:
        """Another daemon may take over, so nobody can be a member who could not refuse this one then (R8)."""
        return self._votes_of_members and nodes_vote(self.record.votes)

    @property
    def _holders(self) -> list[Member | Witness]:
        return [*self._members, *self._witnesses]

    def _has_label(self, holder: Member | Witness) -> bool:
        """Its medium is known to keep labels of this storage, under the claim it has granted."""
        if holder.labels is None or holder.labels.label is None or holder.found is None:
            return False
        label = holder.labels.label
        ours = label.storage_id == self._label.storage_id and label.node_id == holder.node_id
        return ours and lineage(label.record, self.newest) is not Lineage.DIVERGED

    def _wanted_votes(self, available: Sequence[Vote]) -> Sequence[Vote]:
        """Who is to vote in the end."""
        own = self._ownership.own_vote
        holders = [each for each in self._holders if not each.removed]
        cannot_fence = [holder for holder in holders if holder.ready and fenced(holder.node) is None]
        if (cannot_fence and not self.must_fence) or not (self._votes_of_members or own is None):
            return [own] if own is not None else ()
        wanted = []
        for holder in holders:
            for vote in (*available, *self.record.votes):
                if vote != own and vote.node_id == holder.node_id and holder.node_id:
                    wanted.append(vote)
                    break
            else:
                wanted += [vote for vote in self.record.votes if vote.name == holder.name]
        if own is not None and len(holders) % 2 == 0:
            wanted.append(own)
        return wanted

    def _next_votes(self) -> tuple[Vote, ...]:
        available = self.available_votes()
        wanted = self._wanted_votes(available)
        return next_votes(self.record.votes, wanted, available) if wanted else self.record.votes

    def _write_records(self) -> None:
        if self._writing or self.stopped:
            return
        self._writing = True
        Deferred.fromCoroutine(self._write_until_stable()).addErrback(
            lambda failure: _log.failure("the configuration record could not be written", failure)
        )

    async def _write_until_stable(self) -> None:
        try:
            while not self.stopped and not self.frozen:
                want = (self.in_sync | self._adding) & ~self.leaving
                same_owner = self.record.claim == self._ownership.owned
                if want == self.in_sync and not self._rewrite and same_owner and not self._votes_change():
                    return
                if not await self._write_one(want):
                    continue
        finally:
            self._writing = False

    def _votes_change(self) -> bool:
        return self._next_votes() != self.record.votes

    async def _write_one(self, want: int) -> bool:
        """Propose the record that names C{want}; whether it became stable."""
        record = self.next_record(want)
        self._rewrite = False
        self._carried, self._wanted = self._wanted, []
        # Its place in the order is used up whether or not anybody got it: no two records may share one.
        self.newest = record
        self.sent |= want
        if await self._write_everywhere(record, want) and not self.stopped:
            self._commit(record, want)
            carried, self._carried = self._carried, []
            for done in carried:
                done.callback(None)
            return True
        self._rewrite = self._rewrite or bool(self._carried)
        self._wanted, self._carried = self._carried + self._wanted, []
        return False

    async def _write_everywhere(self, record: Record, want: int) -> bool:
        """
        Until every member of C{want} and a quorum have it; whether that was reached.

        Members first: a record is adopted by whoever sees it, stable or not. One that nobody but a witness has seen
        would make a copy the only source that was gone already when it was written.
        """
        ballot = Ballot(self.record.votes, record.votes, self._ownership)
        for member in members_in(self._members, want):
            ballot.add(self._write_label(member, record), member, wanted=True)
        await ballot.wanted_answered()
        if ballot.wanted_failed or self.stopped:
            return False  # somebody left: the next record says so. Or the records are another service's by now
        ballot.add(self._write_own(record), None, wanted=ballot.needs(self._ownership.own_vote))
        for holder in self._other_voters(want, {vote.node_id for vote in ballot.voters}):
            writing = Deferred.fromCoroutine(self._keep(holder, record))
            ballot.add(writing.addCallbacks(lambda _: True, not_written), holder, wanted=False)
        await ballot.result()
        if ballot.stable:
            self.trouble = ""
            return True
        missing = words_of(vote for vote in ballot.voters if not ballot.has(vote))
        self.trouble = self._store_trouble or (
            f"a record needs {needed(len(record.votes), self._ownership.quorum)} of {len(record.votes)} votes, "
            f"and these cannot be had: {missing}"
        )
        _log.error("{trouble}; nothing is acknowledged that a member has not done", trouble=self.trouble)
        self._changed()
        if not self.stopped:
            await self._pause()
        return False

    def _other_voters(self, want: int, voting: set[bytes]) -> list[Member | Witness]:
        """Those that can keep a record though they are not in sync, or have no data."""
        return [
            holder
            for holder in self._holders
            if not (isinstance(holder, Member) and (holder.bit & want or holder.removed or self._lingers(holder)))
            and holder.node_id in voting
            and self._ownership.vote_of(holder) is not None
            and self._has_label(holder)
        ]

    def _lingers(self, member: Member) -> bool:
        """It leaves, and what it was sent has not ended."""
        return bool(self.leaving & member.bit) and bool(member.outstanding or not member.ready)

    async def _keep(self, holder: Member | Witness, record: Record) -> None:
        """
        One that is not in sync keeps the record, for its vote.  One that is leaving has that, too, when it can be
        reached again: else two that leave together would each wait for the other's.  What its media is by now is
        looked at first.
        """
        labels = holder.labels
        assert labels is not None
        if isinstance(holder, Member) and self.leaving & holder.bit:
            known = labels.label
            labels = LabelStore(holder.device)
            found = (await labels.read([known.media_size] if known is not None else [])).label
            if found is None or (found.storage_id, found.node_id) != (self._label.storage_id, holder.node_id):
                raise BadMedia(f"{holder.name} holds something else now")
            if self.stopped or record is not self.newest or not self.leaving & holder.bit:
                raise Unavailable(f"{holder.name} has taken too long: what was read there may be an old label by now")
        await labels.set_record(record)

    def _write_own(self, record: Record) -> Deferred[bool]:
        async def write() -> bool:
            try:
                label = self._label.evolve(node_id=record.claim.owner, data_size=record.data_size, record=record)
                await self._store.store(label)
            except (DSTError, OSError) as error:
                self._store_trouble = f"the state directory cannot be written: {error}"
                return False
            self._store_trouble = ""
            return True

        return Deferred.fromCoroutine(write())

    def _write_label(self, member: Member, record: Record) -> Deferred[bool]:
        async def write() -> bool:
            assert member.labels is not None
            try:
                writing = Deferred.fromCoroutine(member.labels.write(self.label_for(member, record, consistent=True)))
                await member.unless_left(writing)
            except DSTError as error:
                self.fail(member, f"its label could not be written: {error}")
                return False
            return True

        return Deferred.fromCoroutine(write())

    def _pause(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()

        def go_on() -> None:
            self._retry = None
            done.callback(None)

        self._retry = self._clock.callLater(_RETRY_S, go_on)
        return done

    def _commit(self, record: Record, want: int) -> None:
        gone = (self.in_sync | self.sent | self.leaving) & ~want
        self.record = record
        if self._growth is not None and record.data_size == self._growth[0]:
            self._growth = None
        if self.epoch.tag != record.claim.tag:
            self._new_epoch()
        self.in_sync = self.sent = want
        self.targets &= ~want
        self._adding &= ~want
        # Some may have come back while nothing was served, and may even have been the last ones after that: the
        # record was under way all the time, and is what counts.
        late = gone & ~self.leaving
        self.leaving &= want
        self.stalled &= want
        for member in members_in(self._members, late):
            if member.state is MemberState.IN_SYNC:
                member.become(MemberState.ABSENT, member.reason or "it came back when a record without it was stable")
                member.left()
        if gone:
            self._new_epoch()
        for member in members_in(self._members, want & ~self.leaving):
            member.become(MemberState.IN_SYNC)
            member.progress = None
        self._committed(gone)
        self._changed()


def _stopped() -> Unavailable:
    return Unavailable("the storage is being stopped")
