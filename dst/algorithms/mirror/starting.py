"""
From media to a running storage: look at every member, let the verdict table decide, then initialise or take over.

The order of configuration never matters: a storage is assembled from what
stands on its media and in the owner's own store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dst.algorithms.mirror.diverged import DIVERGED, Choices
from dst.algorithms.mirror.ground import Ground, Started
from dst.algorithms.mirror.making import Maker
from dst.algorithms.mirror.member import Member
from dst.algorithms.mirror.owning import Ownership, fenced
from dst.algorithms.mirror.taking_over import TakeOver
from dst.algorithms.mirror.witness import Witness
from dst.algorithms.zero_scan import all_zero
from dst.errors import BadMedia, DSTError, InvalidRequest, MediaError
from dst.label.format import Label
from dst.label.verdict import (
    AssemblyInputs,
    AssemblyStep,
    AssemblyVerdict,
    ClaimStep,
    ClaimVerdict,
    judge_assembly,
    judge_claim,
)
from dst.label.votes import nodes_vote
from dst.label.zone import PAGE_BYTES, Zone, default_region_size
from dst.recovery.label_store import LabelStore
from dst.recovery.record_store import IRecordStore
from dst.status import MemberState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Starter"]

_log = Logger()

_RETRY_S = 1.0

_WORD_S = 15.0
"""
How long a person's word on who has the data stands, besides the time for a lease to end and for members to come. What
could not be followed by then may be wrong later: another daemon may go on, and write what that member has not.
"""


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
        self._ownership = ownership
        self._witnesses = witnesses
        self._standby_s = standby_s
        self._handed_to = handed_to
        self._free_since: float | None = None
        self._wanted = False
        self._keep = ""
        self._entropy = entropy
        self._claimed = False
        self.claim_verdict: ClaimVerdict | None = None
        self.verdict: AssemblyVerdict | None = None
        self.kept: Label | None = None
        self._command: _Command | None = None
        self._forced = ""
        self._forced_until = 0.0
        self._waited = False
        self._timer: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._wake: Deferred[None] | None = None
        self._woken = False
        self._zero: bool | None = None
        self._stopped = False
        self._undrained = False
        self._choices = Choices(members)
        self._ground = Ground(members, witnesses, store, ownership, algorithm, region_size, votes_of_members, entropy)

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

    def want_no_more(self) -> None:
        """Nobody waits for that any longer."""
        self._wanted = False

    def force(self, name: str) -> None:
        """A person's word that this member has the data."""
        self._forced = name
        self._forced_until = self._ownership.now() + _WORD_S + self._ownership.lease_s + self._wait_s
        self.wake()

    @property
    def chosen(self) -> str:
        """The member whose history a person has chosen; or C{""}."""
        return self._keep

    def choose(self, name: str) -> None:
        """A person's word that of several histories the one of this member goes on."""
        self._keep = name
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

    def _rest(self, more_s: float = 0.0) -> None:
        """Look again in a while, without being woken."""
        if self._retry is None and not self._stopped:
            self._retry = self._clock.callLater(_RETRY_S + more_s, self._rested)

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
        if self._forced and self._ownership.now() >= self._forced_until:
            _log.warn("that {name} has the data could not be followed, and is forgotten", name=self._forced)
            self._forced = ""
        kept = self.kept = await self._store.load()
        await self._look(kept)
        await self._ownership.ask()
        inputs = self._inputs(kept)
        if inputs.data.record is not None:
            claim = self.claim_verdict = judge_claim(inputs)
            _log.debug("{row}: {reason}", row=claim.row, reason=claim.reason)
            if claim.step is ClaimStep.STAND_BY:
                await self._stand_by(claim)
                return None
            if claim.step is ClaimStep.LOOK and self._claimed:
                self._claimed = False
                await self._ownership.give_back()  # it could not be served from here, perhaps from elsewhere
            if claim.step is ClaimStep.CLAIM:
                await self._claim(inputs.data.number_max, inputs.data.storage_id, kept)
                inputs = self._inputs(kept, claimed=True)
        verdict = self.verdict = judge_assembly(inputs)
        if verdict.row == "first-start-unknown":
            self._zero = await all_zero([member.node for member in self._members])
            verdict = self.verdict = judge_assembly(self._inputs(kept))
        if self._stopped:
            return None
        if inputs.data.record is None and self._standby_s is not None:
            self._said("there is no storage yet, and a standby never makes one; start the daemon that owns it", False)
            self._forget_members()  # somebody else labels them
            self._rest()
            return None
        if verdict.row == DIVERGED:
            await self._choices.say(verdict.storage_id)
        if verdict.step in (AssemblyStep.ASK, AssemblyStep.WAIT):
            self._said(verdict.reason, verdict.step is AssemblyStep.ASK)
            if any(fenced(holder.node) is not None for holder in self._holders):
                self._rest()  # what nodes have promised changes without a word
        _log.info("{row}: {reason}", row=verdict.row, reason=verdict.reason)
        if verdict.step is AssemblyStep.CLAIM_AGAIN:
            self._said(verdict.reason, False)
            self._claimed = False
            await self._ownership.give_back()
            self._rest(self._entropy(1)[0] / 256)  # not both at the same time again
            return None
        if verdict.step is AssemblyStep.SERVE:
            self._claimed = False  # it is used for one record; another attempt makes another claim
            return await TakeOver(self._ground).take_over(verdict)
        if verdict.step is AssemblyStep.INITIALISE:
            return await Maker(self._ground).make(self._members[0])
        return await self._obey(verdict)

    async def _stand_by(self, verdict: ClaimVerdict) -> None:
        """It is not this daemon's, or not yet."""
        if self._claimed or self._ownership.held:  # the latter where it owned the storage until just now
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
            started = await Maker(self._ground).make(first)
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
            elif member.found is None or member.incarnation != member.node.incarnation or _is_open(member):
                await self._look_at(member, kept)
        for witness in self._witnesses:
            if not witness.ready:
                witness.found, witness.reason = None, witness.node.reason
            elif witness.found is None or witness.incarnation != witness.node.incarnation or _is_open(witness):
                await self._look_at_witness(witness)
                label = witness.found.label if witness.found is not None else None
                witness.node_id = label.node_id if label is not None else b""

        for member in self._members:
            if member.found is not None and member.found.label is None and self._old_sizes(kept):
                await self._look_at(member, kept)  # one that was read later may know where its media ended

    def _old_sizes(self, kept: Label | None) -> list[int]:
        """What media may have had, if it has grown: by all labels that were seen, now or at an earlier look."""
        labels = [holder.labels.label for holder in self._holders if holder.labels is not None]
        known = [label for label in [kept, *labels] if label is not None]
        entries = [entry for label in known for entry in label.record.members]
        return [label.media_size for label in known] + [entry.media_size for entry in entries if entry.media_size]

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
        sizes = self._old_sizes(kept)
        member.labels = LabelStore(member.device)
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
        ownership = self._ownership
        storage_ids = {each.found.label.storage_id for each in seen if each.found and each.found.label is not None}
        storage_id = kept.storage_id if kept is not None else next(iter(storage_ids), b"")
        return AssemblyInputs(
            tuple(member.name for member in self._members),
            {member.name: member.found for member in seen if member.found is not None},
            {member.name: member.incarnation for member in seen},
            kept,
            self._waited,
            self._zero,
            self._forced,
            self._algorithm,
            witnesses={witness.name: witness.found for witness in self._witnesses if witness.found is not None},
            promises=dict(ownership.promises),
            owner=ownership.owner,
            claim=ownership.claim,
            granted=self._granted(kept, storage_id) if claimed else None,
            claimed=frozenset(member.name for member in seen if member.granted and self._can_refuse(member)),
            quorum=ownership.quorum,
            standby=self._standby_s is not None,
            standby_ready=self._patient(),
            wanted=self._wanted,
            handed_to=self._handed_to(),
            keep=self._keep,
        )

    def _can_refuse(self, member: Member) -> bool:
        """Where another daemon may take over, nobody is a member who could not refuse this one then (R8)."""
        label = member.found.label if member.found is not None else None
        must = label is not None and self._ground.votes_of_members and nodes_vote(label.record.votes)
        return not must or fenced(member.node) is not None

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

    def _patient(self) -> bool:
        """Nobody has owned the storage for so long that a standby may."""
        ownership = self._ownership
        if any(ownership.other_owner(promise) for promise in ownership.promises.values()):
            self._free_since = None
            return False
        if self._free_since is None:
            self._free_since = ownership.now()
        return ownership.now() - self._free_since >= (self._standby_s or 0.0)


def _is_open(holder: Member | Witness) -> bool:
    """Another owner may have written to it since it was looked at last."""
    return not holder.granted and fenced(holder.node) is not None
