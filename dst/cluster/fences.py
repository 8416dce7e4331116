"""
The fences of a daemon: one for each device that it alone can change, kept in its state directory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import DSTError
from dst.interfaces import IAlgorithm, IExclusive, IFenced, INode
from dst.recovery.fence import Fence
from dst.recovery.fenced_device import UnclaimedNode
from dst.recovery.fenced_node import FencedNode
from dst.recovery.state_files import IStateFiles
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Fences"]

_log = Logger()

_SUFFIX = ".fence"
"""No name of a device can be mistaken for that of a file on its way."""


class Fences:
    """
    Whoever uses a device of this name, here or over any protocol, meets the same fence.
    """

    def __init__(self, reactor: IReactorTime, files: Callable[[], IStateFiles] | None) -> None:
        """
        @param files: where promises are kept, asked for when there is one; C{None}: this daemon makes none.
        """
        self._reactor = reactor
        self._make_files = files
        self._files: IStateFiles | None = None
        self._fences: dict[str, Fence] = {}
        self._unclaimed: dict[str, UnclaimedNode] = {}

    def of(self, name: str, node: INode) -> Fence | None:
        """
        The fence of the device C{node}, known as C{name}.

        @return: C{None} where this daemon cannot promise anything: it has no memory, or others can change the device.
        """
        if self._make_files is None or not (IExclusive.providedBy(node) or IAlgorithm.providedBy(node)):
            return None
        fence = self._fences.get(name)
        if fence is None:
            if self._files is None:
                self._files = self._make_files()
            surroundings = surroundings_of(self._reactor)
            fence = self._fences[name] = Fence(
                self._reactor,
                surroundings.boot_clock_s,
                self._files,
                name,
                surroundings.entropy,
                file_name=name + _SUFFIX,
            )
        return fence

    def claimable(self, name: str, node: INode) -> INode:
        """C{node} for a storage that claims its nodes: as it is, if it fences by itself or not at all."""
        fence = None if IFenced.providedBy(node) else self.of(name, node)
        return node if fence is None else FencedNode(self._reactor, node, fence)

    def unclaimed(self, name: str, node: INode, fence: Fence) -> INode:
        """
        C{node} for users that cannot claim it.

        @raise Unavailable: it is not known what was promised.
        """
        if not fence.identity:
            fence.open().addErrback(_shut)  # whoever asks again may find it open
        fence.usable()
        known = self._unclaimed.get(name)
        if known is None or known.node is not node:
            if known is not None:
                known.leave()
            known = self._unclaimed[name] = UnclaimedNode(self._reactor, node, fence)
        return known

    async def open(self) -> None:
        """
        Read what was promised.  Where that fails the device cannot be used, and the others can.
        """
        opening = [fence.open().addErrback(_warn, fence) for fence in self._fences.values()]
        await DeferredList(opening)


def _shut(failure: Failure) -> None:
    failure.trap(DSTError)


def _warn(failure: Failure, fence: Fence) -> None:
    failure.trap(DSTError)
    _log.error("{device} cannot be used: {why}", device=fence.name, why=failure.getErrorMessage())
