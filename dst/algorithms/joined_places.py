"""
The members of a linear or a stripe, each at its place.

Each member's label says which storage it is of and which place it has, so that
neither the order in the topology nor mixed-up media can corrupt anything. This module finds the storage on
its media, or makes it, and judges who is there; C{joined} maps operations.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from dst.algorithms.zero_scan import all_zero
from dst.errors import BadMedia, DSTError
from dst.geometry import Geometry
from dst.interfaces import INode
from dst.label.format import Claim, Epoch, FoundLabel, Label, MemberEntry, Record
from dst.label.verdict import MemberInputs, MemberStep, judge_member
from dst.label.zone import PAGE_BYTES, Zone
from dst.observing import ObservableNode
from dst.recovery.label_store import LabelStore
from dst.recovery.write_order import ExtentOrder
from dst.status import LinkState
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["JoinedOptions", "Piece", "Place", "PlacedStorage"]

_log = Logger()

_RETRY_S = 1.0

_ORDER_REGIONS_MAX = 8
"""Larger changes, which may be trims of gigabytes, are few or slow: they are compared with everything."""


@frozen
class JoinedOptions:
    """
    @ivar on_loss: C{"freeze"} or C{"error"}: what happens to operations while a member is away.
    @ivar freeze_s: with C{"error"}: how long they wait first.
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


class Place:
    """One member."""

    def __init__(self, index: int, node: INode, wall_clock_s: Callable[[], float]) -> None:
        self.index = index
        self.node = node
        self.labels = LabelStore(node)
        self.found: FoundLabel | None = None
        self.incarnation = b""
        self.present = False
        self.refused = False
        self.reason = "not seen yet"
        self.row = ""  # the table row that refused it
        self._wall_clock_s = wall_clock_s
        self.since = wall_clock_s()
        self.parked: deque[Callable[[], None]] = deque()

    def say(self, reason: str, *, present: bool = False, refused: bool = False, row: str = "") -> None:
        if (present, refused) != (self.present, self.refused):
            self.since = self._wall_clock_s()
        self.present, self.refused, self.reason, self.row = present, refused, reason, row


class PlacedStorage(ObservableNode):
    """
    A storage of members that each have a place. A subclass says how sizes add up and where an extent lies.
    """

    kind = "joined"

    def __init__(self, clock: IReactorTime, name: str, nodes: Sequence[INode], options: JoinedOptions) -> None:
        ObservableNode.__init__(self, clock, name)
        assert nodes, name
        self.options = options
        self._given = list(nodes)
        self._places = [Place(index, node, self._wall_clock_s) for index, node in enumerate(nodes)]
        self._by_node = {id(place.node): place for place in self._places}
        self._label: Label | None = None
        self._sizes: list[int] = []
        self._order = ExtentOrder(_ORDER_REGIONS_MAX)
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
    def places(self) -> Sequence[Place]:
        """The members, in the order of their places."""
        return self._places

    @property
    def known_label(self) -> Label | None:
        """What the storage is; C{None} before it is known."""
        return self._label

    @property
    def waits_for_a_person(self) -> bool:
        """It is new, and its members hold something."""
        return self._label is None and self._holds_data

    @property
    def looks_again(self) -> bool:
        """It looks at its members by itself, now or soon; otherwise when one of them changes."""
        return self._looking or self._retry is not None

    @property
    def freeze_s_left(self) -> float | None:
        """When operations that wait will fail; C{None} if they wait for as long as it takes."""
        return None if self._freeze is None else max(0.0, self._freeze.getTime() - self.clock.seconds())

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
        self._answer_discard(self.unavailable())
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
                    self._answer_discard(error)
                    if self._label is None:
                        for place in self._places:
                            place.found = None  # what was being made may stand there by now
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
            await self._complete_labels()
            self._judge_members(self._label)
            self._take_stock(self._label)

    async def _read_label(self, place: Place) -> None:
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
        elif any(label.consistent for label in labels):
            self._adopt(max(labels, key=lambda label: label.record.order))
            await self._complete_labels()
        elif any(place.found is None for place in self._places):
            missing = ", ".join(place.node.name for place in self._places if place.found is None)
            self.changed(LinkState.AWAY, f"a new storage is made when all members are present; waiting for {missing}")
        elif damaged := [p.node.name for p in self._places if p.found and p.found.label is None and p.found.damage]:
            self.changed(LinkState.AWAY, f"the labels of {', '.join(damaged)} are damaged; nothing is overwritten")
        elif labels or self._discard is not None or await all_zero([place.node for place in self._places]):
            # With labels none of which is consistent: the storage was being made, what for is decided already.
            await self._initialise()
        else:
            self._holds_data = True
            self.changed(
                LinkState.AWAY,
                "the members are unlabelled and hold something; "
                f"`dst init {self.name} --discard` makes a new storage and loses it",
            )

    async def _complete_labels(self) -> None:
        """Every member has its label, so the storage exists: let each label say so."""
        assert self._label is not None
        for place in self._places:
            own = place.found.label if place.found is not None else None
            if own is not None and own.storage_id == self._label.storage_id and not own.consistent:
                await place.labels.write(own.evolve(consistent=True))
                place.found = FoundLabel(place.labels.label)

    def _answer_discard(self, error: Exception | None) -> None:
        """Tell who asked for a new storage how it went."""
        done, self._discard = self._discard, None
        if done is None:
            return
        if error is None:
            done.callback(None)
        else:
            done.errback(error)

    def _adopt(self, label: Label) -> None:
        """The storage is known: put the members at the places that their media says."""
        if label.algorithm != self.kind:
            raise BadMedia(f"the members are those of a {label.algorithm}, the topology says {self.kind}")
        if len(label.record.members) != len(self._places):
            raise BadMedia(
                f"the storage has {len(label.record.members)} members and the topology names {len(self._places)}; "
                f"a {self.kind} cannot be changed that way"
            )
        places: list[Place | None] = [None] * len(self._places)
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
        """
        First a label on every member that says that it is being made, then on every member that it is: interrupted
        in the first round there is no storage yet, in the second there is.
        """
        capacities = [Zone.at_end_of(place.node.geometry.size, 0).capacity for place in self._places]
        sizes = [self.member_size(capacity, capacities) for capacity in capacities]
        if min(sizes) <= 0:
            raise BadMedia("a member is too small for a label and any data")
        entropy = surroundings_of(self.clock).entropy
        claim = Claim(1, int.from_bytes(entropy(8), "little") | 1, entropy(16))
        ids = [entropy(16) for _ in self._places]
        entries = tuple(
            MemberEntry(ids[n], place.incarnation, n, place.node.name) for n, place in enumerate(self._places)
        )
        record = Record(claim, 1, entropy(16), entries)
        storage_id = entropy(16)
        for n, place in enumerate(self._places):
            media_size = place.node.geometry.size
            label = Label(
                0,
                storage_id,
                ids[n],
                self.kind,
                n,
                False,
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
        self._adopt(place.found.label)  # type: ignore[arg-type, union-attr]
        await self._complete_labels()
        self._answer_discard(None)

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
                swapped = verdict.step is MemberStep.COMPARE
                reason = "it has another member's place" if swapped else verdict.reason
                place.say(reason, refused=True, row="another-place" if swapped else verdict.row)

    def _take_stock(self, storage: Label) -> None:
        """All here: serve. Else wait, or fail."""
        missing = [place for place in self._places if not place.present]
        if missing:
            reason = "; ".join(f"{place.node.name}: {place.reason}" for place in missing)
            if (
                self._sizes
                and self.link is not LinkState.AWAY
                and (self.options.on_loss == "freeze" or self.options.freeze_s)
            ):
                self.changed(LinkState.INTERRUPTED, f"waiting for a member that no other can stand in for ({reason})")
                if self.options.on_loss == "error" and self._freeze is None:
                    self._freeze = self.clock.callLater(self.options.freeze_s, self._freeze_over)
            else:
                self._lose(f"a member is away that no other can stand in for ({reason})")
            return
        self._sizes = [place.found.label.data_size for place in self._places]  # type: ignore[union-attr]
        if self._freeze is not None:
            self._freeze.cancel()
            self._freeze = None
        incarnation = self._incarnation_of([place.incarnation for place in self._places])
        self.changed(LinkState.READY, "", geometry=self._geometry(), incarnation=incarnation)
        for place in self._places:
            parked, place.parked = place.parked, deque()
            for again in parked:
                again()

    def _incarnation_of(self, incarnations: list[bytes]) -> bytes:
        """That of the storage when its members have these."""
        assert self._label is not None
        return hashlib.blake2b(b"".join([self._label.storage_id, *incarnations]), digest_size=16).digest()

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
