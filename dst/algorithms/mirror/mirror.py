"""
The mirror as its users see it: one block device that outlives its members.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, DeferredList, TimeoutError, fail
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.copying import Copier
from dst.algorithms.mirror.data_path import DataPath
from dst.algorithms.mirror.hot_set import HotSet
from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.operation import Change, Operation
from dst.algorithms.mirror.returning import Returning
from dst.algorithms.mirror.starting import Started, Starter
from dst.errors import (
    DSTError,
    IncarnationChanged,
    InvalidRequest,
    NotFound,
    NotSupported,
    Unavailable,
)
from dst.geometry import BlockStatus, Geometry, StatusExtent
from dst.interfaces import Buffer, IAlgorithm, INode, MemberOptions
from dst.label.format import Label
from dst.label.zone import REGION_BYTES_MIN
from dst.observing import ObservableNode
from dst.recovery.record_store import IRecordStore, NoRecordStore
from dst.recovery.write_order import ExtentOrder
from dst.status import Health, LinkState, MemberState, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Mirror", "MirrorOptions"]

_log = Logger()

PIECE_BYTES = 32 * 1024 * 1024
"""A change without data can be as long as the device; it is done in pieces that hold a bounded part of it."""

_SUSPENDED = "suspended by hand; `dst resume` uses it again"

_THAW_S = 1.0
"""How often a frozen storage looks whether its last copies can be used again."""

_CLOSE_S_MAX = 10.0
"""How long a stop waits for what has not been answered; after that it is answered with an error."""


@frozen
class MirrorOptions:
    """
    What the topology can say of a mirror.

    @ivar region_size: bytes, a power of two; 0 is the default for the media. Fixed when the storage is made.
    @ivar hot_regions: how many regions may be hot at once.
    @ivar on_loss: C{"freeze"} or C{"error"}: what happens to operations while no copy can be reached.
    @ivar freeze_s: with C{"error"}: how long they wait first.
    @ivar start_wait_s: how long a start waits for further members that have the latest data.
    @ivar grace_s: how long a member may be interrupted before it leaves.
    """

    region_size: int = 0
    hot_regions: int = 256
    on_loss: str = "freeze"
    freeze_s: float = 30.0
    start_wait_s: float = 3.0
    grace_s: float = 8.0

    def __attrs_post_init__(self) -> None:
        size = self.region_size
        assert size == 0 or (size >= REGION_BYTES_MIN and size & (size - 1) == 0), size
        assert self.hot_regions >= 1, self.hot_regions
        assert self.on_loss in ("freeze", "error"), self.on_loss


class _Serving:
    """The parts that exist while a mirror serves."""

    def __init__(self, mirror: Mirror, started: Started) -> None:
        options = mirror.options
        clock, members = mirror.clock, mirror.members
        self.label: Label = started.label
        shift = self.label.region_size.bit_length() - 1
        self.order = ExtentOrder()
        self.configuration = Configuration(
            clock, members, mirror.store, self.label, self._committed, mirror.configuration_changed
        )
        self.data_path = DataPath(
            members, self.configuration, self.order, shift, self._reconcile, self._repair, self._drained
        )
        self.hot = HotSet(
            clock,
            members,
            self.configuration,
            self.order,
            options.hot_regions,
            self.data_path.enter,
            self.data_path.go,
        )
        self.data_path.hot = self.hot
        self.copier = Copier(
            clock,
            members,
            self.configuration,
            self.order,
            self.hot,
            self.data_path,
            self.label.data_size,
            mirror.tell_observers,
        )
        self.returning = Returning(
            clock, members, self.configuration, self.hot, self.copier, self.label, mirror.entropy
        )
        self._members = members
        for member in members:
            member.drained = lambda member=member: self._drained(member)  # type: ignore[misc]
        self.hot.start(sorted(started.hot))
        if len(started.sources) > 1:
            self.hot.unreconciled = set(started.hot)

    def _reconcile(self, region: int) -> None:
        self.copier.reconcile_soon(region)

    def _repair(self, member: Member, first: int, end: int) -> None:
        self.copier.repair(member, first, end)

    def _drained(self, member: Member) -> None:
        self.returning.consider(member)

    def _committed(self, gone: int) -> None:
        self.hot.forget(gone)
        configuration = self.configuration
        if configuration.in_sync & (configuration.in_sync - 1) == 0:
            # One copy is left: there is nothing it could differ from.
            alone, self.hot.unreconciled = self.hot.unreconciled, set()
            for region in alone:
                self.data_path.reconciled(region)
        self.data_path.gone(gone)
        self.hot.left()
        for member in self._members:
            self.returning.consider(member)


@implementer(IAlgorithm)
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
    ) -> None:
        """
        @param entropy: where identities and tags come from: must never repeat.
        @param store: where the owner keeps the record; without one every member is needed to start.
        """
        ObservableNode.__init__(self, clock, name)
        assert nodes, name
        given = member_options or [MemberOptions()] * len(nodes)
        self.options = options or MirrorOptions()
        self.store: IRecordStore = store or NoRecordStore()
        self.members = [
            Member(index, node, each) for index, (node, each) in enumerate(zip(nodes, given, strict=True))
        ]
        self.entropy = entropy
        self._owner = entropy(16)
        self._serving: _Serving | None = None
        self._starter: Starter | None = None
        self._asks = False
        self._closing = False
        self._freeze: IDelayedCall | None = None
        self._thaw: IDelayedCall | None = None
        self._ready: Deferred[None] | None = None

    @property
    def nodes(self) -> Sequence[INode]:
        """The members' nodes, in the order in which they were given."""
        return [member.node for member in self.members if not member.removed]

    # -- life

    def open(self) -> Deferred[None]:
        """See L{dst.interfaces.INode.open}."""
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        for member in self.members:
            member.unobserve = member.node.observe(lambda node, member=member: self._node_changed(member))  # type: ignore[misc]
        opening = DeferredList([member.node.open() for member in self.members], consumeErrors=True)
        failures = [result.value for good, result in await opening if not good]  # type: ignore[attr-defined]
        if failures:
            for member in self.members:
                member.unobserve()
            await DeferredList([member.node.close() for member in self.members], consumeErrors=True)
            raise failures[0]
        ready = self._ready = Deferred()
        self._start()
        await ready

    def _start(self) -> None:
        """Assemble the storage from its media, now or whenever that becomes possible."""
        options = self.options
        self._starter = starter = Starter(
            self.clock,
            self.members,
            self.store,
            self.kind,
            self._owner,
            options.region_size,
            options.start_wait_s,
            self._said,
            self.entropy,
        )
        run = Deferred.fromCoroutine(starter.run())
        run.addCallback(self._started).addErrback(
            lambda failure: self._said(f"the start failed: {failure.getErrorMessage()}", True)
        )

    def _said(self, reason: str, asks: bool) -> None:
        """The start waits for something."""
        self._asks = asks
        if self._serving is None:
            self.changed(LinkState.AWAY, reason)
            self.tell_observers()
        self._opened()

    def _opened(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(None)

    def _started(self, started: Started | None) -> None:
        self._starter = None
        if started is None or self._closing:
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
        if self._closing:
            return
        serving = self._serving = _Serving(self, started)
        self.changed(
            LinkState.READY,
            "",
            geometry=self._geometry(started.label.data_size),
            incarnation=started.label.record.incarnation,
        )
        serving.data_path.choose_readers()
        serving.copier.reconcile_all()
        for member in self.members:
            if member.suspended:
                member.become(MemberState.SUSPENDED, _SUSPENDED)
            if self._serving is serving:
                self._look_at(member)
        self._opened()

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

    def _start_again(self, reason: str) -> None:
        """What the members have become is not what was taken over: begin from their media."""
        serving = self._serving
        if serving is None or self._closing:
            return
        _log.warn("{name} starts again: {reason}", name=self.name, reason=reason)
        self._serving = None
        self._end_freeze()
        self._halt(serving, IncarnationChanged(f"{self.name} had to start again: {reason}"))
        for member in self.members:
            member.found = None
            member.become(MemberState.ABSENT, "waiting for the storage to start")
        self.changed(LinkState.AWAY, reason)
        self._start()

    def _halt(self, serving: _Serving, error: DSTError) -> None:
        serving.configuration.targets = 0
        serving.configuration.stop()
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
        self._closing = True
        if self._starter is not None:
            self._starter.stop()
        serving = self._serving
        if serving is not None:
            await self._release(serving)
            self._serving = None
            self._halt(serving, Unavailable(f"{self.name} was closed"))
        self._end_freeze()
        for member in self.members:
            member.unobserve()
        await DeferredList([member.node.close() for member in self.members], consumeErrors=True)
        self.changed(LinkState.CLOSED, "closed")

    async def _release(self, serving: _Serving) -> None:
        """Stop cleanly: everything stable, nothing hot, and a record that says so."""
        serving.returning.stopped = True
        serving.configuration.targets = 0
        end = self.clock.seconds() + _CLOSE_S_MAX
        while serving.data_path.busy and self.clock.seconds() < end:
            await deferLater(self.clock, 0.01)
        if serving.configuration.frozen or serving.data_path.busy:
            _log.warn("{name} stops without having made everything stable", name=self.name)
            return
        if serving.hot.unreconciled:
            return
        left_s = max(0.1, end - self.clock.seconds())
        try:
            await Deferred.fromCoroutine(self._make_released(serving)).addTimeout(left_s, self.clock)
        except (DSTError, TimeoutError) as error:
            _log.warn("{name} could not be released: {error}", name=self.name, error=error)

    async def _make_released(self, serving: _Serving) -> None:
        if await serving.hot.clear_all() and not serving.hot.regions:
            await serving.data_path.flush()
            await serving.configuration.release()

    # -- members come and go

    def _node_changed(self, member: Member) -> None:
        if self._closing:
            return
        if self._starter is not None:
            self._starter.wake()
        elif self._serving is not None:
            self._look_at(member)
        self.tell_observers()

    def _look_at(self, member: Member) -> None:
        serving = self._serving
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
        if self._serving is serving:
            serving.data_path.choose_readers()
            serving.returning.consider(member)

    def _member_ready(self, serving: _Serving, member: Member, counts: bool) -> None:
        configuration = serving.configuration
        if not counts:
            return
        other = member.node.incarnation != member.incarnation
        shrunk = member.node.geometry.size < serving.label.data_size or member.node.geometry.read_only
        if configuration.frozen and configuration.in_sync & member.bit:
            if other or shrunk:
                self._start_again(f"{member.name} came back and may have lost what it had not flushed")
            elif configuration.returned(member):
                serving.data_path.send_again(member)
                for each in self.members:
                    serving.returning.consider(each)
        elif other or shrunk:
            reason = "it restarted and may have lost what it had not flushed"
            configuration.fail(member, reason if other else "its media has become smaller or read-only")
            if configuration.stalled & member.bit:
                self._start_again(f"{member.name} had the last copy, and {reason}")

    def _grace_over(self, member: Member) -> None:
        member.grace = None
        if self._serving is not None:
            reason = f"it was interrupted for more than {self.options.grace_s:g} s: {member.node.reason}"
            self._serving.configuration.fail(member, reason)

    def configuration_changed(self) -> None:
        """The masks of members have changed."""
        serving = self._serving
        if serving is None:
            return
        serving.data_path.choose_readers()
        serving.hot.look_again()
        if serving.configuration.frozen:
            self._begin_freeze(serving)
        elif self.link is not LinkState.READY:
            self._end_freeze()
            serving.data_path.accept()
            self.changed(LinkState.READY, "")
            serving.data_path.send_unsent()
            serving.hot.left()
        self.tell_observers()

    def _begin_freeze(self, serving: _Serving) -> None:
        last = members_in(self.members, serving.configuration.in_sync)
        reasons = "; ".join(f"{member.name}: {member.reason or member.node.reason}" for member in last)
        self.changed(LinkState.INTERRUPTED, f"no copy with the latest data can be reached ({reasons})")
        if self._thaw is None:
            self._thaw = self.clock.callLater(_THAW_S, self._try_to_thaw, serving)
        if self.options.on_loss == "error" and self._freeze is None:
            self._freeze = self.clock.callLater(self.options.freeze_s, self._freeze_over, serving)

    def _try_to_thaw(self, serving: _Serving) -> None:
        """A last copy that failed an operation without its link breaking tells nobody when it is well again."""
        self._thaw = None
        if serving is not self._serving or not serving.configuration.frozen:
            return
        self._thaw = self.clock.callLater(_THAW_S, self._try_to_thaw, serving)
        for member in members_in(self.members, serving.configuration.in_sync):
            if member.ready and self._serving is serving:
                self._look_at(member)

    def _freeze_over(self, serving: _Serving) -> None:
        self._freeze = None
        self.changed(LinkState.AWAY, self.reason)
        serving.data_path.refuse(Unavailable(f"{self.name}: {self.reason}"))

    def _end_freeze(self) -> None:
        for timer in (self._freeze, self._thaw):
            if timer is not None:
                timer.cancel()
        self._freeze = self._thaw = None

    # -- blocks

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """See L{dst.interfaces.IBlockDevice.read}."""
        serving = self._serving
        if serving is None:
            return fail(self.unavailable())
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        return serving.data_path.read(offset, length)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write}."""
        serving = self._serving
        if serving is None:
            return fail(self.unavailable())
        length = len(data)
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        data_path = serving.data_path
        return data_path.submit(Operation(Change.WRITE, offset, offset + length, data_path.shift, data, fua))

    def flush(self) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.flush}."""
        if self._serving is None:
            return fail(self.unavailable())
        return self._serving.data_path.flush()

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
        serving = self._serving
        if serving is None:
            return fail(self.unavailable())
        try:
            self.geometry.check_extent(offset, length)
        except DSTError as error:
            return fail(error)
        data_path = serving.data_path

        def piece(at: int) -> Deferred[None]:
            end = min(at + PIECE_BYTES, offset + length)
            return data_path.submit(Operation(change, at, end, data_path.shift, b"", fua, no_hole))

        if length <= PIECE_BYTES:
            return piece(offset)

        async def one_after_the_other() -> None:
            for at in range(offset, offset + length, PIECE_BYTES):
                await piece(at)

        return Deferred.fromCoroutine(one_after_the_other())

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        """See L{dst.interfaces.IBlockDevice.block_status}."""
        serving = self._serving
        if serving is None:
            return fail(self.unavailable())
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
        return source.node.block_status(offset, length).addErrback(lambda _: [StatusExtent(length, BlockStatus.DATA)])

    # -- what a person can do

    def initialise(self, keep: str | None = None, *, discard: bool = False) -> Deferred[None]:
        """See L{IAlgorithm.initialise}."""
        if self._starter is None:
            return fail(InvalidRequest(f"{self.name} exists already and serves; nothing was changed"))
        try:
            return self._starter.initialise(keep, discard)
        except DSTError as error:
            return fail(error)

    def _member(self, name: str) -> Member:
        for member in self.members:
            if member.name == name and not member.removed:
                return member
        known = ", ".join(node.name for node in self.nodes)
        raise NotFound(f"{self.name} has no member {name}; its members are {known}")

    def _asked(self, name: str) -> tuple[_Serving, Member]:
        member = self._member(name)
        if self._serving is None:
            raise self.unavailable()
        return self._serving, member

    def _not_last(self, serving: _Serving, member: Member, what: str) -> None:
        configuration = serving.configuration
        if configuration.sent & member.bit and not configuration.usable & ~member.bit:
            raise InvalidRequest(
                f"{member.name} has the last copy of {self.name} that can be reached: it cannot {what}"
            )

    def suspend(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.suspend}."""
        return Deferred.fromCoroutine(self._suspend(name))

    async def _suspend(self, name: str) -> None:
        serving, member = self._asked(name)
        if member.suspended:
            return
        self._not_last(serving, member, "be suspended")
        member.suspended = True
        serving.configuration.fail(member, "suspended by hand")
        await serving.configuration.make_stable()
        member.become(MemberState.SUSPENDED, _SUSPENDED)
        self.tell_observers()

    def resume(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.resume}."""
        return Deferred.fromCoroutine(self._resume(name))

    async def _resume(self, name: str) -> None:
        serving, member = self._asked(name)
        if not member.suspended:
            raise InvalidRequest(f"{name} is not suspended, it is {member.state.value}")
        member.suspended = False
        member.become(MemberState.ABSENT, "resumed" if member.ready else member.node.reason)
        await serving.configuration.make_stable()
        serving.returning.consider(member)

    def mark_dirty(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.mark_dirty}."""
        return Deferred.fromCoroutine(self._mark_dirty(name))

    async def _mark_dirty(self, name: str) -> None:
        serving, member = self._asked(name)
        self._not_last(serving, member, "be marked dirty")
        member.distrusted = True
        if (serving.configuration.sent | serving.configuration.targets) & member.bit:
            serving.configuration.fail(member, "marked dirty by hand: it is copied again as a whole")
            await serving.configuration.make_stable()
        serving.returning.consider(member)

    def mark_clean(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.mark_clean}."""
        return Deferred.fromCoroutine(self._mark_clean(name))

    async def _mark_clean(self, name: str) -> None:
        member = self._member(name)
        if self._starter is not None:
            self._starter.force(name)
            return
        serving, member = self._asked(name)
        configuration = serving.configuration
        if configuration.in_sync & member.bit:
            raise InvalidRequest(f"{name} is in sync already")
        if not configuration.targets & member.bit or member.tables is None:
            raise InvalidRequest(
                f"{name} is {member.state.value}: only a member that is being resynced can be marked clean"
            )
        source = next(members_in(self.members, configuration.in_sync & configuration.usable))
        member.table.take_over(source.table)
        for region in serving.hot.regions:
            member.table.mark(region)
        member.dirty = bytearray(len(member.dirty))
        member.dirty_count = 0
        member.copying = set()
        # The copier finds nothing left to copy and adds it.
        await member.tables.stabilise(range(member.table.regions))

    def replace(self, name: str, node: INode) -> Deferred[None]:
        """See L{IAlgorithm.replace}."""
        return Deferred.fromCoroutine(self._replace(name, node))

    async def _replace(self, name: str, node: INode) -> None:
        serving, member = self._asked(name)
        self._not_last(serving, member, "be replaced")
        await node.open()
        member.suspended = True  # the old node must not come back while it is on its way out
        serving.configuration.fail(member, "replaced by hand")
        await serving.configuration.make_stable()
        old = member.node
        member.unobserve()
        await old.close()
        member.node = node
        member.suspended = False
        member.unobserve = node.observe(lambda _: self._node_changed(member))
        member.become(MemberState.ABSENT, "replaced by hand")
        serving.returning.consider(member)

    def add_node(self, node: INode, options: MemberOptions | None = None) -> Deferred[None]:
        """See L{IAlgorithm.add_node}."""
        return Deferred.fromCoroutine(self._add_node(node, options or MemberOptions()))

    async def _add_node(self, node: INode, options: MemberOptions) -> None:
        if self._serving is None:
            raise self.unavailable()
        if any(each.name == node.name for each in self.nodes):
            raise InvalidRequest(f"{self.name} has a member {node.name} already")
        await node.open()
        member = Member(len(self.members), node, options)
        self.members.append(member)
        member.unobserve = node.observe(lambda _: self._node_changed(member))
        self._serving.returning.consider(member)

    def remove_node(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.remove_node}."""
        return Deferred.fromCoroutine(self._remove_node(name))

    async def _remove_node(self, name: str) -> None:
        serving, member = self._asked(name)
        self._not_last(serving, member, "be removed")
        configuration = serving.configuration
        member.suspended = True
        configuration.fail(member, "removed by hand")
        await configuration.make_stable()
        await configuration.remove(member)
        member.removed = True
        member.unobserve()
        await member.node.close()
        self.tell_observers()

    # -- status

    def status(self) -> StatusTree:
        """See L{dst.interfaces.IBlockDevice.status}."""
        children = tuple(self._member_status(member) for member in self.members if not member.removed)
        tree = StatusTree(
            name=self.name,
            kind=self.kind,
            health=self._health(),
            state=self.link.value,
            reason=self._reason(),
            since=self.since,
            size=self.geometry.size,
            children=children,
        )
        serving = self._serving
        if serving is None:
            return tree
        configuration = serving.configuration
        region_size = serving.label.region_size
        detail: dict[str, object] = {
            "region_size": region_size,
            "hot_regions": len(serving.hot.regions),
            "unreconciled_regions": len(serving.hot.unreconciled),
            "claim": configuration.record.claim.number,
            "record": configuration.record.sequence,
        }
        return evolve(
            tree,
            redundancy=max(0, configuration.usable.bit_count() - 1),
            dirty_bytes=max((child.dirty_bytes for child in children), default=0),
            detail=detail,
        )

    def _health(self) -> Health:
        if self._serving is None:
            return Health.FROZEN if self.link is not LinkState.CLOSED else Health.FAILED
        if self._serving.configuration.frozen:
            return Health.FAILED if self._serving.data_path.refusing is not None else Health.FROZEN
        everybody = sum(member.bit for member in self.members if not member.removed)
        configuration = self._serving.configuration
        below = all(node.status().health is Health.HEALTHY for node in self.nodes)
        whole = configuration.in_sync & ~configuration.leaving == everybody and below
        return Health.HEALTHY if whole else Health.DEGRADED

    def _reason(self) -> str:
        serving = self._serving
        if serving is None or serving.configuration.frozen:
            return self.reason
        if serving.configuration.trouble:
            return serving.configuration.trouble
        words = []
        for state in (MemberState.RESYNCING, MemberState.ABSENT, MemberState.SUSPENDED, MemberState.REFUSED):
            names = [member.name for member in self.members if member.state is state]
            if names:
                words.append(f"{', '.join(names)} {state.value}")
        return "; ".join(words)

    def _member_status(self, member: Member) -> StatusTree:
        below = member.node.status()
        serving = self._serving
        dirty = 0
        if serving is not None:
            dirty = self._dirty_regions(serving, member) * serving.label.region_size
        reason = member.reason
        if member.state is MemberState.IN_SYNC and not member.ready:
            reason = reason or member.node.reason
        return evolve(
            below,
            state=member.state.value,
            reason=reason,
            since=member.since,
            dirty_bytes=min(dirty, self.geometry.size),
            resync=member.progress if member.state is MemberState.RESYNCING else None,
            detail={**below.detail, "link": member.node.link.value},
        )

    def _dirty_regions(self, serving: _Serving, member: Member) -> int:
        configuration = serving.configuration
        if configuration.in_sync & member.bit:
            return 0
        if configuration.targets & member.bit:
            return member.dirty_count
        if member.tables is None:
            return -(-serving.label.data_size // serving.label.region_size)
        source = next(members_in(self.members, configuration.in_sync), None)
        if source is None or source.tables is None:
            return 0
        differ = member.table.differences(source.table)
        for region in serving.hot.regions:
            differ[region] = 1
        return differ.count(1)


def _as_data(length: int) -> Deferred[list[StatusExtent]]:
    done: Deferred[list[StatusExtent]] = Deferred()
    done.callback([StatusExtent(length, BlockStatus.DATA)])
    return done
