"""
Twins: what is written goes to both devices, and what is read comes from both and is compared.

Two devices may finish two writes to the same place in different order, and both
would be right.  So operations on overlapping extents go one after the other, the same way on either
device; L{dst.recovery.write_order} keeps the order.

There is no label, no repair and no guess which twin is right: this is for devices on probation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.errors import ConfigurationError, CorruptData, DSTError, InvalidRequest, NotFound, NotSupported, ReadOnly
from dst.explaining import Explanation, ResyncRecord
from dst.explaining_trees import explain_tree
from dst.geometry import Geometry, StatusExtent, align_down
from dst.interfaces import Buffer, IAlgorithm, IAlgorithmProvider, INode, MemberOptions
from dst.observing import ObservableNode
from dst.recovery.write_order import Extent, ExtentOrder
from dst.status import LinkState, MemberState, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Twin", "TwinProvider"]

_REGION_SHIFT = 20
"""Extents are looked up by the MiB they touch."""


@implementer(IAlgorithm)
class Twin(ObservableNode):
    """
    Two nodes that hold the same.  Ready while both are.
    """

    kind = "twin"

    def __init__(self, clock: IReactorTime, name: str, first: INode, second: INode) -> None:
        super().__init__(clock, name)
        self.nodes: Sequence[INode] = (first, second)
        self._order = ExtentOrder()
        self._in_flight = 0
        self._idle: list[Deferred[None]] = []
        self._stop_observing: list[Callable[[], None]] = []

    # -- life

    def open(self) -> Deferred[None]:
        """See L{IAlgorithm.open}."""
        self._stop_observing = [node.observe(self._look) for node in self.nodes]
        opening = gatherResults([node.open() for node in self.nodes], consumeErrors=True)
        return opening.addCallbacks(self._opened, _first_error)

    def _opened(self, _: object) -> None:
        self._look(self.nodes[0])

    def _look(self, _: INode) -> None:
        if self.link is LinkState.CLOSED:
            return
        away = [node for node in self.nodes if node.link is not LinkState.READY]
        if away:
            reason = "; ".join(f"{node.name} is {node.link.value}: {node.reason}" for node in away)
            self.changed(LinkState.AWAY, reason)
            return
        first, second = (node.geometry for node in self.nodes)
        block_size = max(first.block_size, second.block_size)
        geometry = Geometry(
            align_down(min(first.size, second.size), block_size),
            block_size=block_size,
            preferred_block_size=max(first.preferred_block_size, second.preferred_block_size, block_size),
            transfer_bytes_max=min(first.transfer_bytes_max, second.transfer_bytes_max),
            read_only=first.read_only or second.read_only,
            rotational=first.rotational or second.rotational,
        )
        both = b"".join(node.incarnation for node in self.nodes)
        incarnation = hashlib.blake2b(both, digest_size=16).digest()
        self.changed(LinkState.READY, "", geometry=geometry, incarnation=incarnation)

    def close(self) -> Deferred[None]:
        """See L{IAlgorithm.close}."""
        for stop in self._stop_observing:
            stop()
        self._stop_observing = []
        self.changed(LinkState.CLOSED, "it was closed")
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._in_flight:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        await gatherResults([node.close() for node in self.nodes])

    # -- blocks

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """See L{IAlgorithm.read}."""
        return self._ordered(
            "transfer", offset, length, lambda node: node.read(offset, length), self._equal_data, change=False
        )

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        """See L{IAlgorithm.write}."""
        return self._ordered("transfer", offset, len(data), lambda node: node.write(offset, data, fua=fua), _nothing)

    def flush(self) -> Deferred[None]:
        """See L{IAlgorithm.flush}."""
        if self.link is not LinkState.READY:
            return fail(self.unavailable())
        return self._both(lambda node: node.flush()).addCallback(_nothing)

    def trim(self, offset: int, length: int) -> Deferred[None]:
        """See L{IAlgorithm.trim}."""
        return self._ordered("extent", offset, length, lambda node: node.trim(offset, length), _nothing)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        """See L{IAlgorithm.write_zeroes}."""

        def zero(node: INode) -> Deferred[None]:
            return node.write_zeroes(offset, length, fua=fua, no_hole=no_hole, fast_only=fast_only)

        return self._ordered("extent", offset, length, zero, _nothing)

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        """What the first device says: the second holds the same."""
        refusal = self._refusal("extent", offset, length, change=False)
        return fail(refusal) if refusal is not None else self.nodes[0].block_status(offset, length)

    def _refusal(self, kind: str, offset: int, length: int, change: bool) -> DSTError | None:
        if self.link is not LinkState.READY:
            return self.unavailable()
        try:
            if kind == "transfer":
                self.geometry.check_transfer(offset, length)
            else:
                self.geometry.check_extent(offset, length)
        except DSTError as error:
            return error
        return ReadOnly(f"{self.name} is read-only") if change and self.geometry.read_only else None

    def _ordered(
        self,
        kind: str,
        offset: int,
        length: int,
        act: Callable[[INode], Deferred[Any]],
        finish: Callable[[list[Any]], Any],
        *,
        change: bool = True,
    ) -> Deferred[Any]:
        """Do C{act} on both devices when nothing that came before overlaps, reads included."""
        refusal = self._refusal(kind, offset, length, change)
        if refusal is not None:
            return fail(refusal)
        done: Deferred[Any] = Deferred(lambda _: None)
        extent = Extent(offset, offset + length, _REGION_SHIFT)

        def start() -> None:
            self._both(act).addCallback(finish).addBoth(end)

        def end(result: object) -> None:
            self._order.leave(extent)
            if not done.called:
                done.callback(result)

        extent.start = start
        if self._order.enter(extent):
            start()
        return done

    def _both(self, act: Callable[[INode], Deferred[Any]]) -> Deferred[Any]:
        """C{act} on both, and what came of it when both have ended: one that failed is not overtaken by a retry."""
        self._in_flight += 1
        done: Deferred[Any] = Deferred()
        answers: list[Any] = [None, None]
        failures: list[Failure] = []
        left = 2

        def ended(result: Any, place: int) -> None:
            nonlocal left
            left -= 1
            if isinstance(result, Failure):
                failures.append(result)
            else:
                answers[place] = result
            if left == 0:
                done.callback(failures[0] if failures else answers)
                self._one_less()

        for place, node in enumerate(self.nodes):
            act(node).addBoth(ended, place)
        return done

    def _one_less(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    def _equal_data(self, copies: list[Buffer]) -> Buffer:
        first, second = copies
        if first != second:
            names = " and ".join(node.name for node in self.nodes)
            raise CorruptData(f"{names} do not hold the same: one of them is damaged; compare them, then replace it")
        return first

    # -- operators

    def status(self) -> StatusTree:
        """A tree with both devices."""
        children = []
        for node in self.nodes:
            ready = node.link is LinkState.READY
            state = MemberState.IN_SYNC if ready else MemberState.ABSENT
            children.append(evolve(node.status(), state=state.value))
        return evolve(super().status(), children=tuple(children))

    def initialise(self, keep: str | None = None, *, discard: bool = False) -> Deferred[None]:
        """There is no label, so there is nothing to initialise."""
        return fail(InvalidRequest(f"{self.name} keeps nothing on its members: there is nothing to initialise"))

    def suspend(self, name: str) -> Deferred[None]:
        """Twins cannot do without each other."""
        return self._refuse(name)

    def resume(self, name: str) -> Deferred[None]:
        """None can be suspended."""
        return self._refuse(name)

    def replace(self, name: str, node: INode) -> Deferred[None]:
        """Nothing is copied here."""
        return self._refuse(name)

    def mark_clean(self, name: str) -> Deferred[None]:
        """There is no dirt to forget."""
        return self._refuse(name)

    def mark_dirty(self, name: str) -> Deferred[None]:
        """There is nothing to copy from."""
        return self._refuse(name)

    def add_node(self, node: INode, options: MemberOptions | None = None) -> Deferred[None]:
        """Twins are two."""
        return fail(NotSupported(f"{self.name} has two members, always"))

    def remove_node(self, name: str) -> Deferred[None]:
        """Twins are two."""
        return fail(NotSupported(f"{self.name} has two members, always"))

    def take_over(self) -> Deferred[None]:
        """Nobody owns a twin."""
        return fail(NotSupported(f"{self.name} has no owner that could be changed"))

    def grow(self) -> Deferred[None]:
        """See L{IAlgorithm.grow}."""
        return fail(NotSupported(f"{self.name} is as large as it was made"))

    def resolve(self, keep: str) -> Deferred[None]:
        """Which twin is right is not for this algorithm to say, nor to be told."""
        return self._refuse(keep)

    def pause_resync(self, name: str | None = None) -> Deferred[None]:
        """Nothing is copied here."""
        return fail(NotSupported(f"{self.name} never copies: there is no resync to pause"))

    def resume_resync(self, name: str | None = None) -> Deferred[None]:
        """Nothing is copied here."""
        return fail(NotSupported(f"{self.name} never copies: there is no resync to resume"))

    def explain(self) -> Explanation:
        """What its status says, and the usual of each twin."""
        return explain_tree(self.status())

    def resyncs(self) -> Sequence[ResyncRecord]:
        """None, ever."""
        return ()

    def _refuse(self, name: str) -> Deferred[None]:
        if name not in [node.name for node in self.nodes]:
            return fail(NotFound(f"storage {self.name!r} has no node {name!r}"))
        return fail(NotSupported(f"{self.name} cannot do this: twins only compare; use a mirror"))


def _nothing(_: object) -> None:
    return None


def _first_error(failure: Any) -> Any:
    return failure.value.subFailure


@implementer(IPlugin, IAlgorithmProvider)
class TwinProvider:
    """Makes twins; they have no options."""

    algorithm = "twin"

    def storage(
        self,
        reactor: IReactorTime,
        name: str,
        nodes: Sequence[INode],
        options: dict[str, object],
        state_dir: str | None,
    ) -> Twin:
        """See L{IAlgorithmProvider.storage}."""
        if options:
            raise ConfigurationError(f"storage {name}: unknown option {min(options)}; twins have no options")
        if len(nodes) != 2:
            raise ConfigurationError(f"storage {name} has {len(nodes)} nodes, expected 2")
        return Twin(reactor, name, nodes[0], nodes[1])
