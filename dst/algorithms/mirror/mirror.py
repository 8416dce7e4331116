"""
The mirror as its users see it: one block device that outlives its members.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredList, TimeoutError, fail, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from dst.algorithms.mirror.by_hand import SUSPENDED, ByHand
from dst.algorithms.mirror.diverged import Diverged
from dst.algorithms.mirror.explaining import Explaining
from dst.algorithms.mirror.ground import Started
from dst.algorithms.mirror.growing import Growing
from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.operation import Change, Operation, Together, tell_deferred
from dst.algorithms.mirror.owning import Ownership, fenced
from dst.algorithms.mirror.resync_run import HISTORY_MAX, Pauses
from dst.algorithms.mirror.returning import trouble_with
from dst.algorithms.mirror.scrubbing import Scrubs
from dst.algorithms.mirror.serving import MirrorOptions, Serving
from dst.algorithms.mirror.starting import Starter
from dst.algorithms.mirror.telling import Telling
from dst.algorithms.mirror.tenure import Tenure
from dst.algorithms.mirror.witness import Witness
from dst.errors import (
    DSTError,
    Fenced,
    IncarnationChanged,
    InvalidRequest,
    NotFound,
    NotSupported,
    Unavailable,
)
from dst.explaining import Explanation, ResyncRecord, ScrubRecord
from dst.geometry import BlockStatus, Geometry, StatusExtent
from dst.interfaces import (
    Buffer,
    IAlgorithm,
    IHistories,
    INode,
    IScrubs,
    IWitnessed,
    IWritesTogether,
    MemberOptions,
)
from dst.observing import ObservableNode
from dst.recovery.pace import ResyncScheduler
from dst.recovery.record_store import IRecordStore, NoRecordStore
from dst.recovery.state_files import IStateFiles
from dst.status import LinkState, MemberState, StatusTree
from dst.surroundings import REAL

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Mirror"]

_log = Logger()

PIECE_BYTES = 32 * 1024 * 1024
"""A change without data can be as long as the device; it is done in pieces that hold a bounded part of it."""

_THAW_S = 1.0
"""How often a frozen storage looks whether its last copies can be used again."""

_ELSEWHERE = frozenset({"owned-elsewhere", "handed-over"})
"""Rows of the claim table with which another daemon serves the storage, or is about to."""

_CLOSE_S_MAX = 10.0
"""How long a stop waits for what has not been answered; after that it is answered with an error."""


@implementer(IAlgorithm, IHistories, IScrubs, IWitnessed, IWritesTogether)
class Mirror(ObservableNode):
    """
    Every member has the whole content; ages tell what each one missed.
    """

    kind = "mirror"

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        nodes: Sequence[INode],
        options: MirrorOptions | None = None,
        store: IRecordStore | None = None,
        member_options: Sequence[MemberOptions] | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        *,
        witnesses: Sequence[INode] = (),
        owner_name: str = "",
        now: Callable[[], float] = REAL.boot_clock_s,
        scheduler: ResyncScheduler | None = None,
        files: IStateFiles | None = None,
    ) -> None:
        """
        @param files: where it is kept how far a scrub is.
        @param witnesses: nodes that vote and have no data.
        @param owner_name: what this daemon is called where it claims nodes.
        @param now: the clock of leases, which counts while the machine is suspended.
        @param scheduler: that of all storages of this daemon.
        @param entropy: where identities and tags come from: must never repeat.
        @param store: where the owner keeps the record; without one every member is needed to start.
        """
        ObservableNode.__init__(self, clock, name)
        assert nodes, name
        given = member_options or [MemberOptions()] * len(nodes)
        self.options = options or MirrorOptions()
        self.store: IRecordStore = store or NoRecordStore()
        self.members = [
            Member(index, node, each, self._wall_clock_s)
            for index, (node, each) in enumerate(zip(nodes, given, strict=True))
        ]
        self.entropy = entropy
        self.scheduler = scheduler or ResyncScheduler()
        self.pauses = Pauses()
        self.ended_resyncs: deque[ResyncRecord] = deque(maxlen=HISTORY_MAX)
        self._by_hand = ByHand(self)
        self._diverged = Diverged(self)
        self._growing = Growing(self)
        self._teller = Telling(self)
        self._explainer = Explaining(self)
        self._scrubs = Scrubs(self, self._wall_clock_s, self.options.scrub_s, files)
        self.witnesses = [Witness(node) for node in witnesses]
        self.ownership = Ownership(
            clock,
            name,
            self.store,
            lambda: [*(member for member in self.members if not member.removed), *self.witnesses],
            lease_s=self.options.lease_s,
            quorum=self.options.quorum,
            owner_name=owner_name or name,
            entropy=entropy,
            now=now,
        )
        self.tenure = Tenure(self)
        self.serving: Serving | None = None
        self.starter: Starter | None = None
        self._asks = False
        self.closing = False
        self._freeze: IDelayedCall | None = None
        self._thaw: IDelayedCall | None = None
        self._ready: Deferred[None] | None = None

    @property
    def freeze_timer(self) -> IDelayedCall | None:
        """When operations that wait will fail."""
        return self._freeze

    @property
    def handed_s_left(self) -> float:
        """How much longer the daemon that the storage was handed over to has the first claim on it."""
        return self.tenure.handed_s_left

    @property
    def nodes(self) -> Sequence[INode]:
        """The members' nodes, in the order in which they were given."""
        return [member.node for member in self.members if not member.removed]

    # -- life

    def open(self) -> Deferred[None]:
        """See L{dst.interfaces.INode.open}."""
        return Deferred.fromCoroutine(self._open())

    @property
    def _holders(self) -> list[Member | Witness]:
        return [*(member for member in self.members if not member.removed), *self.witnesses]

    async def _open(self) -> None:
        await self.ownership.open()
        for member in self.members:
            member.unobserve = member.node.observe(lambda node, member=member: self.node_changed(member))  # type: ignore[misc]
        for witness in self.witnesses:
            witness.unobserve = witness.node.observe(lambda node, witness=witness: self.witness_changed(witness))  # type: ignore[misc]
        nodes = [each.node for each in self._holders]
        opening = DeferredList([node.open() for node in nodes], consumeErrors=True)
        failures = [result.value for good, result in await opening if not good]  # type: ignore[attr-defined]
        if failures:
            await self._close_nodes()
            raise failures[0]
        if self.closing:
            # The stop came first; what it closed may have opened after that.
            await self._close_nodes()
            raise Unavailable(f"{self.name} was closed")
        ready = self._ready = Deferred()
        self._start()
        await ready

    def _start(self) -> None:
        """Assemble the storage from its media, now or whenever that becomes possible."""
        options = self.options
        self.starter = starter = Starter(
            self.clock,
            [member for member in self.members if not member.removed],
            self.store,
            self.kind,
            options.region_size,
            options.start_wait_s,
            self._said,
            self.entropy,
            self.ownership,
            self.witnesses,
            options.votes == "members",
            options.takeover_s if options.standby else None,
            self.tenure.handed_to,
        )
        if self.tenure.wanted:
            starter.take_over()
        for member in self.members:
            member.drained = starter.drained
        run = Deferred.fromCoroutine(starter.run())
        run.addCallback(self._started).addErrback(
            lambda failure: self._said(f"the start failed: {failure.getErrorMessage()}", True)
        )

    def _said(self, reason: str, asks: bool) -> None:
        """The start waits for something."""
        self._asks = asks
        if self.serving is None:
            self.changed(LinkState.AWAY, reason)
            self.tell_observers()
        self._opened()

    def _opened(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(None)

    def _started(self, started: Started | None) -> None:
        self.starter = None
        if started is None or self.closing:
            self._opened()
            return
        for member in self.members:
            if member in started.sources:
                member.become(MemberState.IN_SYNC)
        now = started.label.record.incarnation
        if self.incarnation and self.incarnation != now:
            # Unflushed writes may be lost: everybody who could have seen them is told before anything is served.
            self.changed(incarnation=now)
            self.clock.callLater(0, self.clock.callLater, 0, self._serve, started)
        else:
            self._serve(started)

    def _serve(self, started: Started) -> None:
        if self.closing:
            return
        serving = self.serving = Serving(self, started)
        serving.configuration.lease_until = self.ownership.lease_end(started.label.record.votes)
        late = ""
        if serving.configuration.lease_over():
            # This process stood still, or a node took long to answer: somebody else may serve by now.
            late = "the lease was over before the storage could be served; its votes are asked again"
            serving.configuration.begin_barred(late)
            self.ownership.renew_now()
        self.changed(
            LinkState.INTERRUPTED if late else LinkState.READY,
            late,
            geometry=self._geometry(started.label.record.data_size),
            incarnation=started.label.record.incarnation,
        )
        serving.data_path.choose_readers()
        serving.copier.reconcile_all()
        for member in self.members:
            if member.suspended:
                member.become(MemberState.SUSPENDED, SUSPENDED)
            if self.serving is serving:
                self._look_at(member)
        serving.witnesses.consider_all()
        serving.configuration.votes_changed()
        self._opened()
        self.tenure.begun()
        Deferred.fromCoroutine(self._begin_scrubs(serving)).addErrback(
            lambda failure: _log.failure("scrubs could not begin", failure)
        )

    async def _begin_scrubs(self, serving: Serving) -> None:
        await self._scrubs.load()
        if self.serving is serving and not self.closing:
            self._scrubs.serve(serving)

    def _geometry(self, size: int) -> Geometry:
        geometries = [member.node.geometry for member in self.members if member.node.geometry.size]
        block_size = max(geometry.block_size for geometry in geometries)
        return Geometry(
            size - size % block_size,
            block_size,
            max(4096, block_size, *(geometry.preferred_block_size for geometry in geometries)),
            min(geometry.transfer_bytes_max for geometry in geometries),
            rotational=any(geometry.rotational for geometry in geometries),
        )

    def start_again(self, reason: str, error: DSTError | None = None) -> None:
        """What the members have become is not what was taken over: begin from their media."""
        serving = self.serving
        if serving is None or self.closing:
            return
        _log.warn("{name} starts again: {reason}", name=self.name, reason=reason)
        self.serving = None
        self._end_freeze()
        self._halt(serving, error or IncarnationChanged(f"{self.name} had to start again: {reason}"))
        for member in self.members:
            member.found = None
            member.become(MemberState.ABSENT, "waiting for the storage to start")
        self.changed(LinkState.AWAY, reason)
        self._start()

    def force(self, name: str) -> None:
        """A person says, while there is no quorum, that this member has the data and the votes are gone for good."""
        self.start_again(f"a person said that {name} has the data, without a quorum")
        if self.starter is not None:
            self.starter.force(name)

    def _halt(self, serving: Serving, error: DSTError) -> None:
        self._scrubs.rest()
        serving.configuration.targets = 0
        serving.configuration.stop()
        serving.witnesses.stop()
        serving.watch.stop()
        for run in serving.returning.stop():
            run.addErrback(lambda _: None)
        for member in self.members:
            if member.grace is not None:
                member.grace.cancel()
                member.grace = None
        serving.data_path.abandon(error)

    def close(self) -> Deferred[None]:
        """See L{dst.interfaces.INode.close}."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self.closing = True
        if self.starter is not None:
            self.starter.stop()
        serving = self.serving
        if serving is not None:
            await self.release(serving)
            self.serving = None
            self._halt(serving, Unavailable(f"{self.name} was closed"))
        self._end_freeze()
        self.ownership.stop()
        self._diverged.close()
        await self._close_nodes()
        self.changed(LinkState.CLOSED, "closed")
        self.tenure.closed()

    async def _close_nodes(self) -> None:
        for each in self._holders:
            each.unobserve()
        nodes = [each.node for each in self._holders]
        await DeferredList([node.close() for node in nodes], consumeErrors=True)

    async def release(self, serving: Serving) -> bool:
        """
        Stop cleanly: everything stable, nothing hot, and a record that says so; then the nodes are given back.

        @return: whether that is done.
        """
        serving.returning.stopped = True
        self._growing.stop()
        serving.configuration.drop_targets("the storage stops")
        end = self.clock.seconds() + _CLOSE_S_MAX
        while serving.data_path.busy and self.clock.seconds() < end:
            await deferLater(self.clock, 0.01)
        if serving.configuration.frozen or serving.data_path.busy:
            _log.warn("{name} stops without having made everything stable", name=self.name)
            return False
        if serving.hot.unreconciled:
            return False
        left_s = max(0.1, end - self.clock.seconds())
        try:
            return await Deferred.fromCoroutine(self._make_released(serving)).addTimeout(left_s, self.clock)
        except (DSTError, TimeoutError) as error:
            _log.warn("{name} could not be released: {error}", name=self.name, error=error)
        return False

    async def _make_released(self, serving: Serving) -> bool:
        if not await serving.hot.clear_all() or serving.hot.regions:
            return False
        await serving.data_path.flush(at_the_end=True)
        await serving.configuration.release()
        await self.ownership.give_back()
        return True

    def take_over(self) -> Deferred[None]:
        """See L{IAlgorithm.take_over}."""
        return self.tenure.take_over()

    # -- members come and go

    def witness_changed(self, witness: Witness) -> None:
        """Its node can be used, or cannot any more."""
        if self.closing:
            return
        if self.starter is not None:
            self.starter.wake()
        elif self.serving is not None:
            self.serving.witnesses.consider(witness)
            self.serving.configuration.votes_changed()
        self.tell_observers()

    def node_changed(self, member: Member) -> None:
        if self.closing:
            return
        if self.starter is not None:
            self.starter.wake()
        elif self.serving is not None:
            self._look_at(member)
        self.tell_observers()

    def _look_at(self, member: Member) -> None:
        serving = self.serving
        assert serving is not None
        configuration = serving.configuration
        link = member.node.link
        counts = bool((configuration.sent | configuration.targets) & member.bit)
        if member.grace is not None and link is not LinkState.INTERRUPTED:
            member.grace.cancel()
            member.grace = None
        if link is LinkState.READY:
            self._member_ready(serving, member, counts)
        elif link is LinkState.INTERRUPTED:
            if counts and member.grace is None:
                member.grace = self.clock.callLater(self.options.grace_s, self._grace_over, member)
        else:
            configuration.fail(member, member.node.reason)
            if not (configuration.sent | configuration.targets) & member.bit:
                member.become(MemberState.SUSPENDED if member.suspended else MemberState.ABSENT, member.node.reason)
        if self.serving is serving:
            serving.data_path.choose_readers()
            serving.returning.consider(member)

    def _member_ready(self, serving: Serving, member: Member, counts: bool) -> None:
        configuration = serving.configuration
        if not counts:
            return
        other = member.node.incarnation != member.incarnation
        node = member.node.geometry
        shrunk = (
            node.size < configuration.record.data_size or node.read_only or bool(trouble_with(node, self.geometry))
        )
        if configuration.frozen and configuration.in_sync & member.bit:
            if other or shrunk or (member.tables is not None and member.tables.lost):
                self.start_again(f"{member.name} came back and may have lost what it had not flushed")
            elif not member.granted and fenced(member.node) is not None:
                self.tenure.claim_last(serving, member)
            elif configuration.returned(member):
                serving.data_path.send_again(member)
                for each in self.members:
                    serving.returning.consider(each)
        elif other or shrunk:
            reason = "it restarted and may have lost what it had not flushed"
            configuration.fail(member, reason if other else "its media has become smaller, read-only, or coarser")
            if configuration.stalled & member.bit:
                self.start_again(f"{member.name} had the last copy, and {reason}")
        elif not member.granted and fenced(member.node) is not None:
            self.ownership.renew_now()

    def _grace_over(self, member: Member) -> None:
        member.grace = None
        if self.serving is not None:
            reason = f"it was interrupted for more than {self.options.grace_s:g} s: {member.node.reason}"
            self.serving.configuration.fail(member, reason)

    def configuration_changed(self) -> None:
        """The masks of members have changed."""
        serving = self.serving
        if serving is None:
            return
        serving.data_path.choose_readers()
        serving.hot.look_again()
        serving.data_path.send_unsent()
        if self.serving is not serving or self.tenure.handing_over:
            return
        if serving.configuration.frozen or serving.configuration.short_of_copies:
            self._begin_freeze(serving)
        elif self.link is not LinkState.READY:
            self._end_freeze()
            serving.data_path.accept()
            self.changed(LinkState.READY, "")
            serving.data_path.send_unsent()
            serving.hot.left()
        self.tell_observers()

    def _begin_freeze(self, serving: Serving) -> None:
        configuration = serving.configuration
        last = members_in(self.members, configuration.in_sync)
        reasons = "; ".join(f"{member.name}: {member.reason or member.node.reason}" for member in last)
        if configuration.no_quorum:
            reason = configuration.no_quorum
        elif configuration.usable:
            copies = (configuration.in_sync & configuration.usable).bit_count()
            reason = f"{copies} of the {configuration.minimum_copies} copies that changes must have: they wait"
        else:
            reason = f"no copy with the latest data can be reached ({reasons})"
        if self.link is not LinkState.AWAY or self._freeze is None:
            self.changed(LinkState.INTERRUPTED if serving.data_path.refusing is None else LinkState.AWAY, reason)
        if self._thaw is None:
            self._thaw = self.clock.callLater(_THAW_S, self._try_to_thaw, serving)
        if self.options.on_loss == "error" and self._freeze is None:
            self._freeze = self.clock.callLater(self.options.freeze_s, self._freeze_over, serving)

    def _try_to_thaw(self, serving: Serving) -> None:
        """A last copy that failed an operation without its link breaking tells nobody when it is well again."""
        self._thaw = None
        if serving is not self.serving or not serving.configuration.frozen:
            return
        self._thaw = self.clock.callLater(_THAW_S, self._try_to_thaw, serving)
        for member in members_in(self.members, serving.configuration.in_sync):
            if member.ready and self.serving is serving:
                self._look_at(member)

    def _freeze_over(self, serving: Serving) -> None:
        self._freeze = None
        self.changed(LinkState.AWAY, self.reason)
        serving.data_path.refuse(Unavailable(f"{self.name}: {self.reason}"))

    def _end_freeze(self) -> None:
        for timer in (self._freeze, self._thaw):
            if timer is not None:
                timer.cancel()
        self._freeze = self._thaw = None

    # -- blocks

    def _not_here(self) -> DSTError:
        """Why nothing is served: somebody who asks the daemon that owns the storage is better off."""
        starter = self.starter
        verdict = starter.claim_verdict if starter is not None else None
        if verdict is not None and verdict.row in _ELSEWHERE:
            return Fenced(f"{self.name} is not served by this daemon: {self.reason}")
        return self.unavailable()

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """See L{dst.interfaces.IBlockDevice.read}."""
        serving = self.serving
        if serving is None:
            return fail(self._not_here())
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        return serving.data_path.read(offset, length)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write}."""
        serving = self.serving
        if serving is None:
            return fail(self._not_here())
        length = len(data)
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        data_path = serving.data_path
        done: Deferred[None] = Deferred()
        data_path.submit(
            Operation(tell_deferred, done, Change.WRITE, offset, offset + length, data_path.shift, data, fua)
        )
        return done

    def write_together(self, writes: Sequence[tuple[int, Buffer]]) -> Deferred[Sequence[DSTError | None] | None]:
        """See L{dst.interfaces.IWritesTogether.write_together}."""
        serving = self.serving
        if serving is None:
            return succeed([self._not_here() for _ in writes])
        if not writes:
            return succeed(None)
        data_path = serving.data_path
        together, shift, write = Together(len(writes)), data_path.shift, Change.WRITE
        data_path.submit_together(
            [
                Operation(together.told, number, write, offset, offset + len(data), shift, data)
                for number, (offset, data) in enumerate(writes)
            ]
        )
        return together.done

    def flush(self) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.flush}."""
        if self.serving is None:
            return fail(self._not_here())
        return self.serving.data_path.flush()

    def trim(self, offset: int, length: int) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.trim}."""
        return self._in_pieces(Change.TRIM, offset, length, False, False)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write_zeroes}."""
        if fast_only:
            # Not every kind of member can say beforehand whether it is fast, and some having done it is no answer.
            return fail(NotSupported(f"{self.name} cannot promise that all its members write zeroes fast"))
        return self._in_pieces(Change.ZERO, offset, length, fua, no_hole)

    def _in_pieces(self, change: Change, offset: int, length: int, fua: bool, no_hole: bool) -> Deferred[None]:
        serving = self.serving
        if serving is None:
            return fail(self._not_here())
        try:
            self.geometry.check_extent(offset, length)
        except DSTError as error:
            return fail(error)
        data_path = serving.data_path

        def piece(at: int) -> Deferred[None]:
            end = min(at + PIECE_BYTES, offset + length)
            done: Deferred[None] = Deferred()
            data_path.submit(Operation(tell_deferred, done, change, at, end, data_path.shift, b"", fua, no_hole))
            return done

        if length <= PIECE_BYTES:
            return piece(offset)

        async def one_after_the_other() -> None:
            for at in range(offset, offset + length, PIECE_BYTES):
                await piece(at)

        return Deferred.fromCoroutine(one_after_the_other())

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        """See L{dst.interfaces.IBlockDevice.block_status}."""
        serving = self.serving
        if serving is None:
            return fail(self._not_here())
        try:
            self.geometry.check_extent(offset, length)
        except DSTError as error:
            return fail(error)
        for region in range(
            offset >> serving.data_path.shift, ((offset + length - 1) >> serving.data_path.shift) + 1
        ):
            if region in serving.order.by_region or region in serving.hot.unreconciled:
                return _as_data(length)  # it may change while it is asked for; data is never wrong
        in_sync = members_in(self.members, serving.configuration.in_sync & serving.configuration.usable)
        source = next((member for member in in_sync if member.ready), None)
        if source is None:
            return _as_data(length)
        # A member that fails here does so on a read, too; this answer is only ever a help.
        configuration = serving.configuration

        def unless_too_late(extents: list[StatusExtent]) -> list[StatusExtent]:
            # As a read (R9): another daemon may have written there since, and a hole would be left out of a copy.
            return [StatusExtent(length, BlockStatus.DATA)] if configuration.lease_over() else extents

        asked = source.node.block_status(offset, length)
        return asked.addCallbacks(unless_too_late, lambda _: [StatusExtent(length, BlockStatus.DATA)])

    # -- what a person can do

    def initialise(self, keep: str | None = None, *, discard: bool = False) -> Deferred[None]:
        """See L{IAlgorithm.initialise}."""
        if self.starter is None:
            return fail(InvalidRequest(f"{self.name} exists already and serves; nothing was changed"))
        try:
            return self.starter.initialise(keep, discard)
        except DSTError as error:
            return fail(error)

    def suspend(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.suspend}."""
        return Deferred.fromCoroutine(self._by_hand.suspend(name))

    def resume(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.resume}."""
        return Deferred.fromCoroutine(self._by_hand.resume(name))

    def mark_dirty(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.mark_dirty}."""
        return Deferred.fromCoroutine(self._by_hand.mark_dirty(name))

    def mark_clean(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.mark_clean}."""
        return Deferred.fromCoroutine(self._by_hand.mark_clean(name))

    def replace(self, name: str, node: INode) -> Deferred[None]:
        """See L{IAlgorithm.replace}."""
        return Deferred.fromCoroutine(self._by_hand.replace(name, node))

    def add_node(self, node: INode, options: MemberOptions | None = None) -> Deferred[None]:
        """See L{IAlgorithm.add_node}."""
        return Deferred.fromCoroutine(self._by_hand.add_node(node, options or MemberOptions()))

    def grow(self) -> Deferred[None]:
        """See L{IAlgorithm.grow}."""
        return self._growing.grow()

    def remove_node(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.remove_node}."""
        return Deferred.fromCoroutine(self._by_hand.remove_node(name))

    def add_witness(self, node: INode) -> Deferred[None]:
        """See L{IWitnessed.add_witness}."""
        return Deferred.fromCoroutine(self._by_hand.add_witness(node))

    def remove_witness(self, name: str) -> Deferred[None]:
        """See L{IWitnessed.remove_witness}."""
        return Deferred.fromCoroutine(self._by_hand.remove_witness(name))

    def resolve(self, keep: str) -> Deferred[None]:
        """See L{IAlgorithm.resolve}."""
        return Deferred.fromCoroutine(self._diverged.resolve(keep))

    def histories(self) -> Mapping[str, INode]:
        """See L{dst.interfaces.IHistories.histories}."""
        return self._diverged.histories()

    def pause_resync(self, name: str | None = None) -> Deferred[None]:
        """See L{IAlgorithm.pause_resync}."""
        return self._pause(name, True)

    def resume_resync(self, name: str | None = None) -> Deferred[None]:
        """See L{IAlgorithm.resume_resync}."""
        return self._pause(name, False)

    def _pause(self, name: str | None, pause: bool) -> Deferred[None]:
        names = [node.name for node in self.nodes]
        if name is not None and name not in names:
            return fail(NotFound(f"{self.name} has no member {name}; its members are {', '.join(names)}"))
        if pause:
            self.pauses.pause(name)
        else:
            self.pauses.resume(name, names)
        self.tell_observers()
        return succeed(None)

    def scrub(self, *, repair: bool = True) -> Deferred[None]:
        """See L{dst.interfaces.IScrubs.scrub}."""
        if self.serving is None:
            return fail(self.unavailable())
        try:
            self._scrubs.begin(repair)
        except InvalidRequest:
            return fail()
        return succeed(None)

    def stop_scrub(self) -> Deferred[None]:
        """See L{dst.interfaces.IScrubs.stop_scrub}."""
        try:
            self._scrubs.stop()
        except InvalidRequest:
            return fail()
        return succeed(None)

    def scrubs(self) -> Sequence[ScrubRecord]:
        """See L{dst.interfaces.IScrubs.scrubs}."""
        return self._scrubs.records()

    def resyncs(self) -> Sequence[ResyncRecord]:
        """See L{IAlgorithm.resyncs}."""
        return tuple(self.ended_resyncs)

    def explain(self) -> Explanation:
        """See L{IAlgorithm.explain}."""
        return self._explainer.explanation()

    def status(self) -> StatusTree:
        """See L{dst.interfaces.IBlockDevice.status}."""
        return self._teller.tree()


def _as_data(length: int) -> Deferred[list[StatusExtent]]:
    done: Deferred[list[StatusExtent]] = Deferred()
    done.callback([StatusExtent(length, BlockStatus.DATA)])
    return done
