"""
A copy that has another history than the storage, to look at: read-only, and only as long as it is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dst.errors import DSTError
from dst.geometry import StatusExtent
from dst.interfaces import Buffer, INode
from dst.observing import ObservableNode
from dst.status import LinkState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["HistoryNode"]


@implementer(INode)
class HistoryNode(ObservableNode):
    """
    The data of one member, without the zone behind it.

    Whoever has it open does not keep the member from being resolved: then reads fail.
    """

    kind = "history"

    def __init__(
        self, clock: IReactorTime, name: str, node: INode, data_size: int, still: Callable[[], bool]
    ) -> None:
        """
        @param node: the member's, open.
        @param still: the member has this history, and nobody writes to it.
        """
        super().__init__(clock, name)
        self._node = node
        self._data_size = data_size
        self._still = still
        self._stop = node.observe(lambda _: self.look())
        self.look()

    def look(self) -> None:
        """Be as the member's node is, while there is something to see."""
        node = self._node
        if self.link is LinkState.CLOSED:
            return
        if not self._still():
            self.changed(LinkState.AWAY, "there is one history now: a person has chosen, or the media is another")
        elif node.link is not LinkState.READY:
            self.changed(node.link, f"{node.name} is {node.link.value}: {node.reason}")
        else:
            size = self._data_size - self._data_size % node.geometry.block_size
            geometry = evolve(node.geometry, size=size, read_only=True)
            self.changed(LinkState.READY, "", geometry=geometry, incarnation=node.incarnation)

    def open(self) -> Deferred[None]:
        """See L{INode.open}. The mirror has opened the node."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """See L{INode.close}. The mirror closes the node."""
        self._stop()
        self.changed(LinkState.CLOSED, "it was closed")
        return succeed(None)

    def _why_not(self, offset: int, length: int, *, transfer: bool = False, change: bool = False) -> DSTError | None:
        if self.usable and not self._still():
            self.look()
        return self._refusal(offset, length, transfer=transfer, change=change)

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """See L{dst.interfaces.IBlockDevice.read}."""
        refusal = self._why_not(offset, length, transfer=True)
        return fail(refusal) if refusal else self._node.read(offset, length)

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        """See L{dst.interfaces.IBlockDevice.block_status}."""
        refusal = self._why_not(offset, length)
        return fail(refusal) if refusal else self._node.block_status(offset, length)

    def flush(self) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.flush}. Nothing was ever written."""
        return succeed(None) if self.usable else fail(self.unavailable())

    def _refused(self, offset: int, length: int, *, transfer: bool = False) -> Deferred[None]:
        refusal = self._why_not(offset, length, transfer=transfer, change=True)
        assert refusal is not None, "its geometry says that it is read-only"
        return fail(refusal)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write}."""
        return self._refused(offset, len(data), transfer=True)

    def trim(self, offset: int, length: int) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.trim}."""
        return self._refused(offset, length)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write_zeroes}."""
        return self._refused(offset, length)
