"""
Who is in sync, and how a change of that is made to last before it has an effect (R3).

A record is I{stable} when the owner's own store and every member it names as in
sync have it. Until then nothing is acknowledged that the members it leaves
out have not done. Masks of members, not sets: they are looked at for every block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from dst.algorithms.mirror.member import Member, members_in
from dst.errors import DSTError, Unavailable
from dst.label.format import Epoch, Label, MemberEntry, Record
from dst.recovery.record_store import IRecordStore
from dst.status import MemberState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Configuration"]

_log = Logger()

_STORE_RETRY_S = 1.0
"""How often the owner's store is tried again while it cannot be written; until then nothing is acknowledged."""


class Configuration:
    """
    The configuration of a mirror that serves.

    @ivar in_sync: members of the stable record.
    @ivar sent: those, and members of every record sent since: all count (R3).
    @ivar leaving: counted still, but nothing is sent to them any more; a record without them is under way.
    @ivar stalled: the last members with the data, not to be reached: they never leave, everything waits for them.
    @ivar targets: receive resync and the writes to regions that they have.
    @ivar epoch: what a clear writes as age now.
    @ivar trouble: one sentence why no record can be made stable; C{""}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Sequence[Member],
        store: IRecordStore,
        label: Label,
        committed: Callable[[int], None],
        changed: Callable[[], None],
    ) -> None:
        """
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
        self.record = label.record
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
        self._adding = 0
        self._epoch_number = 1
        self.epoch = Epoch(self.record.claim.tag, self._epoch_number)
        self._wanted: list[Deferred[None]] = []
        self._carried: list[Deferred[None]] = []  # what the record under way is written for
        self._rewrite = False
        self._writing = False
        self._retry: IDelayedCall | None = None

    # -- what the data path asks

    @property
    def usable(self) -> int:
        """Members that an operation is sent to now."""
        return self.sent & ~self.leaving & ~self.stalled

    @property
    def frozen(self) -> bool:
        """No member that has the data can be reached."""
        return not self.usable

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
        if not self.stalled & member.bit:
            # Another one was last and is still away. Whatever was acknowledged is on both: go on without it.
            self.leaving = (self.leaving | self.stalled) & ~member.bit
            # One that was being added has missed what this one is about to do.
            self._adding &= ~self.leaving
            self.targets &= ~self.leaving
            for other in members_in(self._members, self.leaving):
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
            record=record,
        )

    def remove(self, member: Member) -> Deferred[None]:
        """Names C{member}, which has left, no more; fires when that is stable. If it returns it is foreign."""
        assert not (self.sent | self.targets) & member.bit, member.name
        gone, member.node_id = member.node_id, b""
        members = tuple(entry for entry in self.record.members if entry.node_id != gone)
        self.record = evolve(self.record, members=members)
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
            )
            for member in self._members
            if member.node_id
        ]
        names = {entry.name for entry in entries}
        entries += [
            evolve(entry, in_sync=False)
            for entry in self.record.members
            if entry.node_id not in ours and entry.name not in names
        ]
        sequence = self.record.sequence + 1
        return evolve(self.record, sequence=sequence, members=tuple(entries), released=self._released)

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
                if want == self.in_sync and not self._rewrite:
                    return
                if not await self._write_one(want):
                    continue
        finally:
            self._writing = False

    async def _write_one(self, want: int) -> bool:
        """Propose the record that names C{want}; whether it became stable."""
        record = self.next_record(want)
        self._rewrite = False
        self._carried, self._wanted = self._wanted, []
        # The sequence is used up whether or not anybody got it: no two records may share it.
        self.record = evolve(self.record, sequence=record.sequence)
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
        try:
            await self._store.store(self._label.evolve(node_id=record.claim.owner, record=record))
            self.trouble = ""
        except (DSTError, OSError) as error:
            self.trouble = f"the state directory cannot be written: {error}"
            _log.error("{trouble}; nothing is acknowledged without the member until it can", trouble=self.trouble)
            self._changed()
            await self._pause()
            return False
        good = True
        for member, written in [(m, self._write_label(m, record)) for m in members_in(self._members, want)]:
            failed = await written
            if failed is not None:
                self.fail(member, f"its label could not be written: {failed}")
                good = False
        return good

    def _write_label(self, member: Member, record: Record) -> Deferred[Exception | None]:
        async def write() -> Exception | None:
            assert member.labels is not None
            try:
                writing = Deferred.fromCoroutine(member.labels.write(self.label_for(member, record, consistent=True)))
                await member.unless_left(writing)
            except DSTError as error:
                return error
            return None

        return Deferred.fromCoroutine(write())

    def _pause(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()

        def go_on() -> None:
            self._retry = None
            done.callback(None)

        self._retry = self._clock.callLater(_STORE_RETRY_S, go_on)
        return done

    def _commit(self, record: Record, want: int) -> None:
        gone = (self.in_sync | self.sent | self.leaving) & ~want
        self.record = record
        self.in_sync = self.sent = want
        self.targets &= ~want
        self._adding &= ~want
        self.leaving &= want
        if gone:
            self._new_epoch()
        for member in members_in(self._members, want & ~self.leaving):
            member.become(MemberState.IN_SYNC)
            member.progress = None
        self._committed(gone)
        self._changed()


def _stopped() -> Unavailable:
    return Unavailable("the storage is being stopped")
