"""
How a member comes back into sync (R5, R12, R13).

Read its label, let the verdict table say what it is, load its region table,
compare and register it as a receiver in one turn, copy what is dirty, flush,
and name it in a record. Nobody is asked; what only a person may decide is
refused with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.copying import Copier
from dst.algorithms.mirror.diverged import DIVERGED, losses_in_words
from dst.algorithms.mirror.hot_set import HotSet
from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.owning import Ownership, fenced
from dst.errors import BadMedia, DSTError
from dst.geometry import Geometry
from dst.label.format import Epoch, FoundLabel, Label
from dst.label.region_table import RegionTable
from dst.label.verdict import MemberInputs, MemberStep, MemberVerdict, judge_member
from dst.label.zone import ENTRIES_PER_PAGE, Zone
from dst.recovery.label_store import LabelStore
from dst.recovery.table_store import TableStore
from dst.status import MemberState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Returning", "new_member_label", "room_on", "trouble_with"]

_log = Logger()

_BEFORE = " (before: "

_RETRY_S_FIRST = 1.0
_RETRY_S_MAX = 30.0
"""A member that failed again is held back for longer each time, so that it does not pull the others down."""


def new_member_label(storage: Label, member: Member) -> Label:
    """The first label of media that has just become C{member}'s."""
    size = member.node.geometry.size
    zone = Zone.at_end_of(size, storage.region_size)
    return storage.evolve(
        sequence=0,
        node_id=member.node_id,
        place=member.index,
        consistent=False,
        media_size=size,
        zone_offset=zone.offset,
    )


class Returning:
    """
    The members of one serving mirror that are not in sync, on their way back.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Sequence[Member],
        configuration: Configuration,
        hot: HotSet,
        copier: Copier,
        storage: Label,
        entropy: Callable[[int], bytes],
        ownership: Ownership,
        geometry: Callable[[], Geometry],
        flap_hold_s: float,
    ) -> None:
        """
        @param geometry: of the storage, as its users know it.
        @param flap_hold_s: see L{Flaps}.

        @ivar held: one sentence why nobody may return now; or C{""}.
        """
        self._entropy = entropy
        self._ownership = ownership
        self._clock = clock
        self._members = members
        self._configuration = configuration
        self._hot = hot
        self._copier = copier
        self._storage = storage
        self._geometry = geometry
        self._flap_hold_s = flap_hold_s
        self._departures = {member.index: member.departures for member in members}
        self._slow: set[int] = set()
        self.held = ""
        self._running: dict[Deferred[None], None] = {}
        self.stopped = False

    def consider(self, member: Member) -> None:
        """Something about C{member} has changed: begin its return if it can be begun."""
        configuration = self._configuration
        self._note_departures(member)
        if (
            self.stopped
            or self.held
            or member.returning
            or member.retry is not None
            or member.suspended
            or member.going
            or member.removed
            or not member.ready
            or member.outstanding
            or (configuration.sent | configuration.targets) & member.bit
            or configuration.frozen
            or not configuration.in_sync & ~configuration.leaving
        ):
            self._say_what_it_waits_for(member)
            return
        held_s = member.flaps.held_s(self._clock.seconds())
        if held_s > 0:
            member.become(MemberState.ABSENT, member.flaps.sentence)
            self._later(member, held_s)
            return
        member.returning = True
        if member.state is MemberState.ABSENT:
            member.reason = _and_before("it is here again: its label and its table are read", member.reason)
        run = Deferred.fromCoroutine(self._return(member))
        self._running[run] = None
        run.addErrback(_report)
        run.addBoth(lambda _: self._ended(member, run))

    def _note_departures(self, member: Member) -> None:
        now = self._departures.get(member.index, 0)
        if member.departures > now:
            self._departures[member.index] = member.departures
            member.flaps.first_s = self._flap_hold_s
            member.flaps.left(self._clock.seconds(), slow=member.index in self._slow)
            self._slow.discard(member.index)

    def too_slow(self, member: Member) -> None:
        """C{member} is about to leave because it is too slow."""
        self._slow.add(member.index)

    def now(self, member: Member) -> None:
        """A person says that it is well again: it is not held back any longer, whatever it did."""
        member.flaps.forgive()
        member.retry_delay_s = 0.0
        if member.retry is not None:
            member.retry.cancel()
            member.retry = None
        self.consider(member)

    def _say_what_it_waits_for(self, member: Member) -> None:
        """It is there, and yet nothing begins."""
        counts = (self._configuration.sent | self._configuration.targets) & member.bit
        if counts or member.state is not MemberState.ABSENT or not member.ready or self.stopped:
            return
        if member.outstanding:
            what = f"{member.outstanding} operations that it was sent before"
            member.reason = _and_before(f"it returns when {what} have ended", member.reason)
        elif member.retry is not None and member.flaps.held_s(self._clock.seconds()):
            member.reason = member.flaps.sentence
        elif self.held and not (member.suspended or member.going or member.removed):
            member.reason = _and_before(self.held, member.reason)

    def _ended(self, member: Member, run: Deferred[None]) -> None:
        self._running.pop(run, None)
        member.returning = False
        if not self.stopped and member.state is MemberState.ABSENT:
            self.consider(member)

    async def _return(self, member: Member) -> None:
        departures = member.departures
        try:
            await self._come_back(member)
            member.retry_delay_s = 0.0
        except CancelledError:
            raise
        except DSTError as error:
            self._configuration.fail(member, f"its return failed: {error}")
            if not self._configuration.sent & member.bit and member.departures == departures:
                member.become(MemberState.ABSENT, f"its return failed: {error}")
            self._try_later(member)

    def _try_later(self, member: Member) -> None:
        delay = min(_RETRY_S_MAX, member.retry_delay_s * 2 or _RETRY_S_FIRST)
        member.retry_delay_s = delay
        self._later(member, delay)

    def _later(self, member: Member, delay_s: float) -> None:
        def again() -> None:
            member.retry = None
            self.consider(member)

        if member.retry is None and not self.stopped:
            member.retry = self._clock.callLater(delay_s, again)

    async def _come_back(self, member: Member) -> None:
        if not member.granted and await self._is_another_storages(member):
            return
        await self._ownership.admit(member)  # claim granted, and what older owners had sent there drained (R8)
        if self._configuration.must_fence and fenced(member.node) is None:
            member.become(
                MemberState.REFUSED,
                "its node cannot refuse an old owner, and another daemon may take this storage over; "
                "give the daemon that exports it a state_dir",
            )
            return
        size = self._configuration.record.data_size
        verdict, found = await self._judge(member, size)
        self._note(member, verdict)
        if verdict.step is MemberStep.REFUSE:
            member.become(MemberState.REFUSED, verdict.reason)
            if verdict.row == DIVERGED:
                await self._say_what_is_lost(member, found, verdict.reason)
            return
        if verdict.step is MemberStep.NEW_MEDIA:
            await self._label_new_media(member, found, size)
        else:
            await self._load_old_media(member, found, size)
        member.resolved = None
        never = found.label is None or found.label.since == Epoch()
        expect_equal = not never and verdict.step is not MemberStep.NEW_MEDIA
        full = not expect_equal or member.distrusted
        member.distrusted = False
        if not self._still_wanted(member) or size != self._configuration.record.data_size:
            return  # and it is considered again
        self._register(member)
        await self._copier.run(member, full, verdict.reason, verdict.row, expect_equal=expect_equal)

    async def _is_another_storages(self, member: Member) -> bool:
        """
        Then it is refused before it is claimed: its owner may be away for a moment only. What cannot be read without
        a claim is judged after that.
        """
        try:
            verdict, _ = await self._judge(member, self._configuration.record.data_size)
        except DSTError:
            return False
        if verdict.row != "another-storage":
            return False
        self._note(member, verdict)
        member.become(MemberState.REFUSED, verdict.reason)
        return True

    def _note(self, member: Member, verdict: MemberVerdict) -> None:
        _log.info("{member}: {row}: {reason}", member=member.name, row=verdict.row, reason=verdict.reason)
        member.row = verdict.row
        member.history = [*member.history[-15:], f"{verdict.row}: {verdict.reason}"]

    async def _say_what_is_lost(self, member: Member, found: FoundLabel, reason: str) -> None:
        """Between two histories a person has to choose."""
        configuration = self._configuration
        source = next(members_in(self._members, configuration.in_sync & ~configuration.leaving), None)
        if found.label is None or source is None or source.tables is None:
            return
        losses = await losses_in_words(member, found.label, source, configuration.record)
        if losses and member.state is MemberState.REFUSED and member.reason == reason:
            member.reason = f"{reason}. {losses}"

    def _still_wanted(self, member: Member) -> bool:
        """It may have gone, or been suspended, while its media was read."""
        configuration = self._configuration
        source = configuration.in_sync & ~configuration.leaving
        here = member.ready and not (member.suspended or member.going or self.held)
        return bool(source) and here and not configuration.frozen and not self.stopped

    async def _judge(self, member: Member, data_size: int) -> tuple[MemberVerdict, FoundLabel]:
        member.labels = labels = LabelStore(member.device)
        found = await labels.read(self._old_sizes())
        member.found = found
        inputs = MemberInputs(
            self._storage.storage_id,
            self._storage.algorithm,
            self._configuration.newest,
            found,
            member.node.geometry.size,
            room_on(member, found.label, self._storage.region_size),
            data_size,
            twin=self._twin(member, found.label),
            resolved=member.given_up,
        )
        return self._unless_trouble(member, judge_member(inputs)), found

    def _old_sizes(self) -> list[int]:
        """What the media of a member may have had, if it has grown."""
        known = [other.labels.label for other in self._members if other.labels is not None]
        entries = self._configuration.record.members
        return [label.media_size for label in known if label is not None] + [entry.media_size for entry in entries]

    def _unless_trouble(self, member: Member, verdict: MemberVerdict) -> MemberVerdict:
        trouble = trouble_with(member.node.geometry, self._geometry())
        if trouble and verdict.step is not MemberStep.REFUSE:
            return MemberVerdict("coarser-media", MemberStep.REFUSE, trouble)
        return verdict

    def _twin(self, member: Member, label: Label | None) -> str:
        """Another member with that identity: two nodes on one media would each undo the other's order of steps."""
        counted = self._configuration.sent | self._configuration.targets
        for other in self._members:
            same = label is not None and other is not member and other.node_id == label.node_id
            if same and (counted & other.bit or other.returning):
                return other.name
        return ""

    async def _label_new_media(self, member: Member, found: FoundLabel, data_size: int) -> None:
        assert member.labels is not None
        member.node_id = self._entropy(16)
        # The record names it before its own label does: a label that no record names would be refused.
        await self._configuration.make_stable()
        if await member.labels.read(self._old_sizes()) != found:
            raise BadMedia("the media was exchanged while it was being labelled")  # and is judged again
        zone = Zone.at_end_of(member.node.geometry.size, self._storage.region_size)
        regions = zone.regions_of(data_size)
        member.tables = TableStore(member.device, zone, RegionTable(regions, self._storage.storage_id))
        await member.tables.create()
        member.labels.label = None
        label = new_member_label(self._storage, member)
        await member.labels.write(label.evolve(record=self._configuration.record, since=Epoch()))

    async def _load_old_media(self, member: Member, found: FoundLabel, data_size: int) -> None:
        label = found.label
        assert label is not None and member.labels is not None
        member.node_id = label.node_id
        zone = member.zone_of(label)
        regions = zone.regions_of(data_size)
        table = RegionTable(min(regions, zone.pages * ENTRIES_PER_PAGE), self._storage.storage_id)
        member.tables = TableStore(member.device, zone, table)
        bad = await member.tables.load()
        if zone.capacity < data_size:
            # The storage has grown while it was away: its zone is in the way of data, and its media has grown, too.
            zone = Zone.at_end_of(member.node.geometry.size, label.region_size)
            await member.tables.move(zone, regions, member.labels, data_size)
        if bad:
            _log.warn("{member}: {bad} pages of the region table were unusable", member=member.name, bad=bad)
        if member.distrusted:
            # Ages that equal nothing say so for as long as it takes, whoever owns the storage then.
            table.fill(Epoch())
            await member.tables.stabilise(range(table.regions))
        # "Target since" stays what it was: a member that never was consistent still is one.
        new = self._configuration.label_for(member, self._configuration.record, consistent=False)
        await member.labels.write(new.evolve(since=label.since if not label.consistent else new.since))

    def _register(self, member: Member) -> None:
        """Compare and become a receiver, in one turn (R5)."""
        configuration = self._configuration
        source = next(members_in(self._members, configuration.in_sync & ~configuration.leaving))
        dirty = member.table.differences(source.table)  # of new media all: its ages equal nothing
        for region, hot in self._hot.regions.items():
            # What was only marked, ahead of a write that has not come, has been the same since it was cold; unless
            # the member has a write of an earlier service that nobody else has.
            only_marked = not hot.written and (hot.ours & member.bit or not member.table.is_hot(region))
            dirty[region] = not only_marked or not member.table.same_age(region, source.table)
        member.dirty = dirty
        member.dirty_count = dirty.count(1)
        member.copying = set()
        member.incarnation = member.node.incarnation
        self._hot.forget(member.bit)
        configuration.register(member)

    def stop(self) -> list[Deferred[None]]:
        """Begin no more; @return: what still runs, cancelled."""
        self.stopped = True
        for member in self._members:
            if member.retry is not None:
                member.retry.cancel()
                member.retry = None
        self._copier.stop()
        running = list(self._running)
        for run in running:
            run.cancel()
        return running


def room_on(member: Member, label: Label | None, region_size: int) -> int:
    """
    How many bytes of data the media of C{member} has room for, if its zone is moved to the end where that helps.

    @param label: what stands on it, C{None} where there is none.
    """
    size = member.node.geometry.size
    if label is None:
        return Zone.at_end_of(size, region_size).capacity
    here, there = member.zone_of(label), Zone.at_end_of(size, label.region_size)
    # The old zone is what counts until the new one is complete.
    return max(here.capacity, there.capacity if there.offset >= here.media_size else 0)


def trouble_with(node: Geometry, storage: Geometry) -> str:
    """Why a member cannot do all that the users of the storage may ask for, as a sentence; C{""} when it can."""
    cure = "users of the storage have been told otherwise; stop and start it while the member is there"
    if node.block_size > storage.block_size:
        return f"its blocks are of {node.block_size} bytes, those of the storage of {storage.block_size}: {cure}"
    if node.transfer_bytes_max < storage.transfer_bytes_max:
        most = f"it takes {node.transfer_bytes_max} bytes at once, the storage {storage.transfer_bytes_max}"
        return f"{most}: {cure}"
    return ""


def _and_before(reason: str, before: str) -> str:
    """What holds it up now, and why it is not in sync at all."""
    why = before.split(_BEFORE, 1)[-1].removesuffix(")") if _BEFORE in before else before
    return f"{reason}{_BEFORE}{why})" if why else reason


def _report(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("the return of a member failed", failure)
