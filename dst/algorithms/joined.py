"""
What linear and stripe have in common: members that each hold another part of the content.

There is no second copy, so there is nothing to heal; what matters is that the
right media stands at the right place. Each member's label says which storage
it is of and which place it has, so that neither the order in the
topology nor mixed-up media can corrupt anything. While a member is away
operations wait for it (freeze) or fail (error), by setting.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger

from dst.algorithms.zero_scan import all_zero
from dst.errors import BadMedia, DSTError, InvalidRequest, NotFound, NotSupported, ReadOnly, Unavailable
from dst.geometry import Geometry, StatusExtent, coalesce
from dst.interfaces import Buffer, INode, MemberOptions
from dst.label.format import Claim, Epoch, FoundLabel, Label, MemberEntry, Record
from dst.label.verdict import MemberInputs, MemberStep, judge_member
from dst.label.zone import PAGE_BYTES, Zone
from dst.observing import ObservableNode
from dst.recovery.label_store import LabelStore
from dst.recovery.write_order import Extent, ExtentOrder
from dst.status import Health, LinkState, MemberState, StatusTree, worst_health

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["JoinedOptions", "JoinedStorage", "Piece"]

_log = Logger()

_ORDER_SHIFT = 20
_RETRY_S = 1.0
_STATUS_PIECES_MAX = 256
"""How many parts one answer of block status looks at; the caller asks again from there."""


@frozen
class JoinedOptions:
    """
    @ivar on_loss: C{"freeze"} or C{"error"}: what happens to operations while a member is away.
    @ivar freeze_s: how long they wait at most with C{"freeze"}; 0 for as long as it takes.
    @ivar unit: a stripe's chunk size, else 0.
    """

    on_loss: str = "freeze"
    freeze_s: float = 0.0
    unit: int = 0


@frozen
class Piece:
    """C{length} bytes at C{offset} of the member at C{place}; they stand at C{start} of the request."""

    place: int
    offset: int
    length: int
    start: int


class _Place:
    """One member."""

    def __init__(self, index: int, node: INode) -> None:
        self.index = index
        self.node = node
        self.labels = LabelStore(node)
        self.found: FoundLabel | None = None
        self.incarnation = b""
        self.present = False
        self.refused = False
        self.reason = "not seen yet"
        self.since = time.time()
        self.parked: deque[Callable[[], None]] = deque()

    def say(self, reason: str, *, present: bool = False, refused: bool = False) -> None:
        if (present, refused) != (self.present, self.refused):
            self.since = time.time()
        self.present, self.refused, self.reason = present, refused, reason


class JoinedStorage(ObservableNode):
    """
    The part of a linear or a stripe that is the same for both. A subclass says how sizes add up and
    where an extent lies.
    """

    kind = "joined"

    def __init__(self, clock: IReactorTime, name: str, nodes: Sequence[INode], options: JoinedOptions) -> None:
        ObservableNode.__init__(self, clock, name)
        assert nodes, name
        self.options = options
        self._given = list(nodes)
        self._places = [_Place(index, node) for index, node in enumerate(nodes)]
        self._by_node = {id(place.node): place for place in self._places}
        self._label: Label | None = None
        self._sizes: list[int] = []
        self._order = ExtentOrder()
        self._stops: list[Callable[[], None]] = []
        self._looking = False
        self._look_again = False
        self._closing = False
        self._discard: Deferred[None] | None = None
        self._holds_data = False
        self._retry: IDelayedCall | None = None
        self._freeze: IDelayedCall | None = None
        self._ready: Deferred[None] | None = None

    # -- what differs

    def member_size(self, capacity: int, capacities: list[int]) -> int:
        """How much of a member with C{capacity} is used."""
        raise NotImplementedError

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """Where an extent lies, in its order."""
        raise NotImplementedError

    def runs(self, offset: int, length: int) -> list[Piece]:
        """The same with what is adjacent on a member in one piece, for operations without data."""
        return self.pieces(offset, length)

    # -- life

    @property
    def nodes(self) -> Sequence[INode]:
        """The members' nodes, in the order in which they were given."""
        return list(self._given)

    @property
    def sizes(self) -> list[int]:
        """Bytes of data of each member, by place; empty before the storage is known."""
        return self._sizes

    def open(self) -> Deferred[None]:
        """See L{dst.interfaces.INode.open}."""
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        self._stops = [node.observe(self._node_changed) for node in self._given]
        opened = await DeferredList([node.open() for node in self._given], consumeErrors=True)
        failures = [result.value for good, result in opened if not good]  # type: ignore[attr-defined]
        if failures:
            for stop in self._stops:
                stop()
            await DeferredList([node.close() for node in self._given], consumeErrors=True)
            raise failures[0]
        ready = self._ready = Deferred()
        self._look()
        await ready

    def close(self) -> Deferred[None]:
        """See L{dst.interfaces.INode.close}."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closing = True
        for stop in self._stops:
            stop()
        self._cancel_timers()
        self.changed(LinkState.CLOSED, "closed")
        self._fail_parked()
        await DeferredList([place.node.flush() for place in self._places if place.present], consumeErrors=True)
        await DeferredList([node.close() for node in self._given], consumeErrors=True)

    def _cancel_timers(self) -> None:
        for timer in (self._retry, self._freeze):
            if timer is not None:
                timer.cancel()
        self._retry = self._freeze = None

    # -- members

    def _node_changed(self, node: INode) -> None:
        if not self._closing:
            self._look()

    def _look(self) -> None:
        """See who is here; at most one look at a time."""
        if self._looking:
            self._look_again = True
            return
        self._looking = True
        Deferred.fromCoroutine(self._look_until_quiet()).addErrback(
            lambda failure: _log.failure("looking at the members failed", failure)
        )

    async def _look_until_quiet(self) -> None:
        try:
            while not self._closing:
                self._look_again = False
                try:
                    await self._look_once()
                except DSTError as error:
                    self.changed(LinkState.AWAY, str(error))
                    self._look_later()
                if not self._look_again:
                    break
        finally:
            self._looking = False
            ready, self._ready = self._ready, None
            if ready is not None:
                ready.callback(None)

    def _look_later(self) -> None:
        def again() -> None:
            self._retry = None
            self._look()

        if self._retry is None and not self._closing:
            self._retry = self.clock.callLater(_RETRY_S, again)

    async def _look_once(self) -> None:
        for place in list(self._places):
            node = place.node
            if node.link is not LinkState.READY:
                place.found = None
                place.say(node.reason)
            elif place.found is None or place.incarnation != node.incarnation:
                await self._read_label(place)
        if self._label is None:
            await self._assemble()
        if self._label is not None:
            self._judge_members(self._label)
            self._take_stock(self._label)

    async def _read_label(self, place: _Place) -> None:
        incarnation = place.node.incarnation
        place.found = None
        try:
            if place.node.geometry.block_size > PAGE_BYTES:
                raise BadMedia(f"blocks of {place.node.geometry.block_size} bytes are too large; 4096 is the most")
            place.found = await place.labels.read()
            place.incarnation = incarnation
        except BadMedia as error:
            place.say(str(error), refused=True)
        except DSTError as error:
            place.say(f"its label cannot be read: {error}")
            self._look_later()

    async def _assemble(self) -> None:
        """Find the storage on its members, or make it."""
        labels = [p.found.label for p in self._places if p.found is not None and p.found.label is not None]
        ids = {label.storage_id for label in labels}
        if len(ids) > 1:
            self.changed(LinkState.AWAY, "the members belong to different storages; correct the topology")
        elif labels:
            self._adopt(max(labels, key=lambda label: label.record.order))
        elif any(place.found is None for place in self._places):
            missing = ", ".join(place.node.name for place in self._places if place.found is None)
            self.changed(LinkState.AWAY, f"a new storage is made when all members are present; waiting for {missing}")
        elif damaged := [p.node.name for p in self._places if p.found is not None and not p.found.unlabelled]:
            self.changed(LinkState.AWAY, f"the labels of {', '.join(damaged)} are damaged; nothing is overwritten")
        elif self._discard is not None or await all_zero([place.node for place in self._places]):
            await self._initialise()
        else:
            self._holds_data = True
            self.changed(
                LinkState.AWAY,
                "the members are unlabelled and hold something; "
                f"`dst init {self.name} --discard` makes a new storage and loses it",
            )

    def _adopt(self, label: Label) -> None:
        """The storage is known: put the members at the places that their media says."""
        if label.algorithm != self.kind:
            raise BadMedia(f"the members are those of a {label.algorithm}, the topology says {self.kind}")
        if len(label.record.members) != len(self._places):
            raise BadMedia(
                f"the storage has {len(label.record.members)} members and the topology names {len(self._places)}; "
                f"a {self.kind} cannot be changed that way"
            )
        places: list[_Place | None] = [None] * len(self._places)
        rest = []
        for place in self._places:
            own = place.found.label if place.found is not None else None
            entry = (
                label.record.entry(own.node_id) if own is not None and own.storage_id == label.storage_id else None
            )
            if entry is not None and places[entry.place] is None:
                places[entry.place] = place
            else:
                rest.append(place)
        for index, taken in enumerate(places):
            if taken is None:
                name = next(entry.name for entry in label.record.members if entry.place == index)
                chosen = next((place for place in rest if place.node.name == name), rest[0])
                rest.remove(chosen)
                places[index] = chosen
        self._places = [place for place in places if place is not None]
        for index, place in enumerate(self._places):
            place.index = index
        self._label = label

    async def _initialise(self) -> None:
        capacities = [Zone.at_end_of(place.node.geometry.size, 0).capacity for place in self._places]
        sizes = [self.member_size(capacity, capacities) for capacity in capacities]
        if min(sizes) <= 0:
            raise BadMedia("a member is too small for a label and any data")
        claim = Claim(1, int.from_bytes(os.urandom(8), "little") | 1, os.urandom(16))
        ids = [os.urandom(16) for _ in self._places]
        entries = tuple(
            MemberEntry(ids[n], place.incarnation, n, place.node.name) for n, place in enumerate(self._places)
        )
        record = Record(claim, 1, os.urandom(16), entries)
        storage_id = os.urandom(16)
        for n, place in enumerate(self._places):
            media_size = place.node.geometry.size
            label = Label(
                0,
                storage_id,
                ids[n],
                self.kind,
                n,
                True,
                Epoch(claim.tag, 1),
                media_size,
                Zone.at_end_of(media_size, 0).offset,
                sizes[n],
                0,
                self.options.unit,
                record,
            )
            await place.labels.write(label)
            place.found = FoundLabel(place.labels.label)
        _log.info("{name}: a new {kind} on {n} members", name=self.name, kind=self.kind, n=len(ids))
        done, self._discard = self._discard, None
        self._adopt(place.found.label)  # type: ignore[arg-type, union-attr]
        if done is not None:
            done.callback(None)

    def _judge_members(self, storage: Label) -> None:
        """Is what stands at each place what should stand there?"""
        for place in self._places:
            if place.found is None:
                continue
            size = place.node.geometry.size
            own = place.found.label
            if own is not None and own.storage_id == storage.storage_id:
                size = min(size, own.media_size)
            verdict = judge_member(
                MemberInputs(
                    storage.storage_id,
                    self.kind,
                    storage.record,
                    place.found,
                    place.node.geometry.size,
                    Zone.at_end_of(size, 0).capacity,
                    own.data_size if own is not None else 0,
                    has_copies=False,
                )
            )
            fits = verdict.step is MemberStep.COMPARE and own is not None and own.place == place.index
            if fits:
                place.say("", present=True)
            else:
                reason = verdict.reason if verdict.step is not MemberStep.COMPARE else "it has another member's place"
                place.say(reason, refused=True)

    def _take_stock(self, storage: Label) -> None:
        """All here: serve. Else wait, or fail."""
        missing = [place for place in self._places if not place.present]
        if missing:
            reason = "; ".join(f"{place.node.name}: {place.reason}" for place in missing)
            if self._sizes and self.options.on_loss == "freeze" and self.link is not LinkState.AWAY:
                self.changed(LinkState.INTERRUPTED, f"waiting for a member that no other can stand in for ({reason})")
                if self.options.freeze_s and self._freeze is None:
                    self._freeze = self.clock.callLater(self.options.freeze_s, self._freeze_over)
            else:
                self._lose(f"a member is away that no other can stand in for ({reason})")
            return
        self._sizes = [place.found.label.data_size for place in self._places]  # type: ignore[union-attr]
        if self._freeze is not None:
            self._freeze.cancel()
            self._freeze = None
        digest = hashlib.blake2b(storage.storage_id, digest_size=16)
        for place in self._places:
            digest.update(place.incarnation)
        self.changed(LinkState.READY, "", geometry=self._geometry(), incarnation=digest.digest())
        for place in self._places:
            parked, place.parked = place.parked, deque()
            for again in parked:
                again()

    def _freeze_over(self) -> None:
        self._freeze = None
        self._lose(self.reason)

    def _lose(self, reason: str) -> None:
        self.changed(LinkState.AWAY, reason)
        self._fail_parked()

    def _fail_parked(self) -> None:
        for place in self._places:
            parked, place.parked = place.parked, deque()
            for again in parked:
                again()  # it finds that nothing is usable, and fails

    def _geometry(self) -> Geometry:
        geometries = [place.node.geometry for place in self._places]
        block_size = max(geometry.block_size for geometry in geometries)
        size = sum(self._sizes)
        return Geometry(
            size - size % block_size,
            block_size,
            max(4096, block_size, *(geometry.preferred_block_size for geometry in geometries)),
            min(geometry.transfer_bytes_max for geometry in geometries),
            read_only=any(geometry.read_only for geometry in geometries),
            rotational=any(geometry.rotational for geometry in geometries),
        )

    # -- blocks

    def _ask(self, place: int, call: Callable[[INode], Deferred[Any]]) -> Deferred[Any]:
        """One operation on one member: when the member is away it waits, behind those that wait already."""
        member = self._places[place]
        answer: Deferred[Any] = Deferred()

        def go() -> None:
            if not self.usable:
                answer.errback(self.unavailable())
            elif not member.present or member.parked:
                member.parked.append(go)
            else:
                call(member.node).addCallbacks(answer.callback, failed)

        def failed(failure: Any) -> None:
            if failure.check(Unavailable) and self.options.on_loss == "freeze" and not self._closing:
                if member.present:
                    member.found = None
                    member.say(failure.getErrorMessage())
                    self._look_later()
                member.parked.append(go)
                self._look()
            else:
                answer.errback(failure)

        go()
        return answer

    def _refusal(self, offset: int, length: int, *, transfer: bool = False) -> DSTError | None:
        if not self.usable:
            return self.unavailable()
        try:
            if transfer:
                self.geometry.check_transfer(offset, length)
            else:
                self.geometry.check_extent(offset, length)
        except DSTError as error:
            return error
        return None

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """See L{dst.interfaces.IBlockDevice.read}."""
        refusal = self._refusal(offset, length, transfer=True)
        if refusal is not None:
            return fail(refusal)
        pieces = self.pieces(offset, length)
        if len(pieces) == 1:
            only = pieces[0]
            return self._ask(only.place, lambda node: node.read(only.offset, only.length))
        data = bytearray(length)

        def put(part: Buffer, at: int) -> None:
            data[at : at + len(part)] = part

        parts = [
            self._ask(each.place, lambda node, each=each: node.read(each.offset, each.length)).addCallback(  # type: ignore[misc]
                put, each.start
            )
            for each in pieces
        ]
        return _all_of(parts).addCallback(lambda _: data)

    def _change(
        self, offset: int, length: int, pieces: list[Piece], call: Callable[[INode, Piece], Deferred[None]]
    ) -> Deferred[None]:
        """A change of several members has one order with every other that overlaps it."""
        extent = Extent(offset, offset + length, _ORDER_SHIFT)
        done: Deferred[None] = Deferred()

        def start() -> None:
            parts = [
                self._ask(piece.place, lambda node, piece=piece: call(node, piece))  # type: ignore[misc]
                for piece in pieces
            ]
            _all_of(parts).addBoth(end)

        def end(result: Any) -> None:
            self._order.leave(extent)
            done.callback(result)

        extent.start = start
        if self._order.enter(extent):
            start()
        return done

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write}."""
        length = len(data)
        refusal = self._refusal(offset, length, transfer=True) or self._unless_writable()
        if refusal is not None:
            return fail(refusal)
        view = memoryview(data)
        return self._change(
            offset,
            length,
            self.pieces(offset, length),
            lambda node, each: node.write(each.offset, view[each.start : each.start + each.length], fua=fua),
        )

    def _unless_writable(self) -> DSTError | None:
        return ReadOnly(f"{self.name} is read-only") if self.geometry.read_only else None

    def flush(self) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.flush}."""
        if not self.usable:
            return fail(self.unavailable())
        return _all_of([self._ask(place, lambda node: node.flush()) for place in range(len(self._places))])

    def trim(self, offset: int, length: int) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.trim}."""
        refusal = self._refusal(offset, length) or self._unless_writable()
        if refusal is not None:
            return fail(refusal)
        return self._change(
            offset, length, self.runs(offset, length), lambda node, each: node.trim(each.offset, each.length)
        )

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write_zeroes}."""
        refusal = self._refusal(offset, length) or self._unless_writable()
        if refusal is not None:
            return fail(refusal)
        runs = self.runs(offset, length)
        if fast_only and len(runs) > 1:
            # One member may have done it when another says that it cannot.
            return fail(NotSupported(f"{self.name} cannot promise that all its members write zeroes fast"))
        return self._change(
            offset,
            length,
            runs,
            lambda node, each: node.write_zeroes(
                each.offset, each.length, fua=fua, no_hole=no_hole, fast_only=fast_only
            ),
        )

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        """See L{dst.interfaces.IBlockDevice.block_status}."""
        refusal = self._refusal(offset, length)
        if refusal is not None:
            return fail(refusal)
        return Deferred.fromCoroutine(self._block_status(offset, length))

    async def _block_status(self, offset: int, length: int) -> list[StatusExtent]:
        found: list[StatusExtent] = []
        unit = self.options.unit
        length = min(length, unit * _STATUS_PIECES_MAX) if unit else length
        for each in self.pieces(offset, length):
            extents = await self._ask(each.place, lambda node, each=each: node.block_status(each.offset, each.length))  # type: ignore[misc]
            found += extents
            if sum(extent.length for extent in extents) < each.length:
                break
        return coalesce(found)

    # -- what a person can do

    def initialise(self, keep: str | None = None, *, discard: bool = False) -> Deferred[None]:
        """See L{IAlgorithm.initialise}. There is nothing to keep: each member would be another part."""
        if keep is not None or not discard:
            return fail(
                InvalidRequest(f"a {self.kind} has no copies to adopt one of; say --discard to make a new one")
            )
        if self._label is not None or not self._holds_data:
            return fail(InvalidRequest(f"{self.name} cannot be initialised: {self.reason or 'it exists already'}"))
        done: Deferred[None] = Deferred()
        self._discard = done
        self._look()
        return done

    def _no_copies(self, name: str, what: str) -> Deferred[None]:
        if all(place.node.name != name for place in self._places):
            known = ", ".join(node.name for node in self._given)
            return fail(NotFound(f"{self.name} has no member {name}; its members are {known}"))
        return fail(NotSupported(f"a {self.kind} has no second copy of what {name} holds, so it cannot {what} it"))

    def suspend(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.suspend}."""
        return self._no_copies(name, "do without")

    def resume(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.resume}."""
        return self._no_copies(name, "suspend or resume")

    def replace(self, name: str, node: INode) -> Deferred[None]:
        """See L{IAlgorithm.replace}."""
        return self._no_copies(name, "replace")

    def add_node(self, node: INode, options: MemberOptions | None = None) -> Deferred[None]:
        """See L{IAlgorithm.add_node}."""
        return fail(NotSupported(f"a {self.kind} cannot be widened"))

    def remove_node(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.remove_node}."""
        return self._no_copies(name, "remove")

    def mark_clean(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.mark_clean}."""
        return self._no_copies(name, "resync")

    def mark_dirty(self, name: str) -> Deferred[None]:
        """See L{IAlgorithm.mark_dirty}."""
        return self._no_copies(name, "resync")

    # -- status

    def status(self) -> StatusTree:
        """See L{dst.interfaces.IBlockDevice.status}."""
        children = tuple(self._member_status(place) for place in self._places)
        if self.link is LinkState.READY:
            health = worst_health(Health.HEALTHY, *(child.health for child in children))
        elif self.link is LinkState.INTERRUPTED or (self.link is not LinkState.CLOSED and not self._sizes):
            health = Health.FROZEN
        else:
            health = Health.FAILED
        return StatusTree(
            name=self.name,
            kind=self.kind,
            health=health,
            state=self.link.value,
            reason="" if self.link is LinkState.READY else self.reason,
            since=self.since,
            size=self.geometry.size,
            redundancy=min((child.redundancy for child in children), default=0),
            dirty_bytes=sum(child.dirty_bytes for child in children),
            detail={"chunk_size": self.options.unit} if self.options.unit else {},
            children=children,
        )

    def _member_status(self, place: _Place) -> StatusTree:
        below = place.node.status()
        state = MemberState.REFUSED if place.refused else MemberState.ABSENT
        state = MemberState.IN_SYNC if place.present else state
        reason = place.reason or below.reason
        return evolve(below, state=state.value, reason=reason, since=place.since)


def _all_of(parts: list[Deferred[Any]]) -> Deferred[None]:
    """Fires when all have ended, with the first error there was."""
    if len(parts) == 1:
        return parts[0].addCallback(lambda _: None)

    def judge(results: Any) -> None:
        for good, result in results:
            if not good:
                result.raiseException()

    return DeferredList(parts, consumeErrors=True).addCallback(judge)
