"""
What linear and stripe have in common: members that each hold another part of the content.

There is no second copy, so there is nothing to heal; what matters is that the
right media stands at the right place. Each member's label says which storage
it is of and which place it has, so that neither the order in the
topology nor mixed-up media can corrupt anything. While a member is away
operations wait for it (freeze) or fail (error), by setting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredList, fail

from dst.algorithms.joined_explained import explain_joined
from dst.algorithms.joined_places import JoinedOptions, Piece, Place, PlacedStorage
from dst.errors import IncarnationChanged, InvalidRequest, NotFound, NotSupported, Unavailable
from dst.explaining import Explanation, ResyncRecord
from dst.geometry import StatusExtent, coalesce
from dst.interfaces import Buffer, INode, MemberOptions
from dst.recovery.write_order import Extent
from dst.status import Health, LinkState, MemberState, StatusTree, worst_health

__all__ = ["JoinedOptions", "JoinedStorage", "Piece"]

_ORDER_SHIFT = 20
_STATUS_PIECES_MAX = 256
"""How many parts one answer of block status looks at; the caller asks again from there."""


class JoinedStorage(PlacedStorage):
    """
    The part of a linear or a stripe that is the same for both.
    """

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
            waits = self.options.on_loss == "freeze" or self.options.freeze_s
            if failure.check(Unavailable) and waits and not self._closing:
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
        refusal = self._refusal(offset, length, transfer=True, change=True)
        if refusal is not None:
            return fail(refusal)
        view = memoryview(data)
        return self._change(
            offset,
            length,
            self.pieces(offset, length),
            lambda node, each: node.write(each.offset, view[each.start : each.start + each.length], fua=fua),
        )

    def flush(self) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.flush}."""
        if not self.usable:
            return fail(self.unavailable())
        parts = [self._ask(place, lambda node: node.flush()) for place in range(len(self._places))]
        return _all_of(parts).addCallback(self._flushed)

    def _flushed(self, _: None) -> None:
        """
        A member's flush succeeds also after one that lost something.  Its incarnation says so; the storage's own has
        still to follow, as what stands on the member is looked at first.
        """
        if self._incarnation_of([place.node.incarnation for place in self._places]) != self.incarnation:
            raise IncarnationChanged(f"a member of {self.name} may have lost what it had not flushed")

    def trim(self, offset: int, length: int) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.trim}."""
        refusal = self._refusal(offset, length, change=True)
        if refusal is not None:
            return fail(refusal)
        return self._change(
            offset, length, self.runs(offset, length), lambda node, each: node.trim(each.offset, each.length)
        )

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write_zeroes}."""
        refusal = self._refusal(offset, length, change=True)
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

    def take_over(self) -> Deferred[None]:
        """See L{IAlgorithm.take_over}."""
        return fail(
            NotSupported(f"a {self.kind} has one configured owner, this daemon: there is nobody to take it from")
        )

    def grow(self) -> Deferred[None]:
        """See L{IAlgorithm.grow}."""
        return fail(NotSupported(f"a {self.kind} cannot be made larger"))

    def resolve(self, keep: str) -> Deferred[None]:
        """See L{IAlgorithm.resolve}."""
        return self._no_copies(keep, "choose between copies of")

    def pause_resync(self, name: str | None = None) -> Deferred[None]:
        """See L{IAlgorithm.pause_resync}."""
        return fail(NotSupported(f"a {self.kind} has no copies, so there is no resync to pause"))

    def resume_resync(self, name: str | None = None) -> Deferred[None]:
        """See L{IAlgorithm.resume_resync}."""
        return fail(NotSupported(f"a {self.kind} has no copies, so there is no resync to resume"))

    def resyncs(self) -> Sequence[ResyncRecord]:
        """See L{IAlgorithm.resyncs}."""
        return ()

    def explain(self) -> Explanation:
        """See L{IAlgorithm.explain}."""
        return explain_joined(self)

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

    def _member_status(self, place: Place) -> StatusTree:
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
