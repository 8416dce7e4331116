"""
A device behind its fence, for who cannot claim it: exporters of protocols without claims, and whoever comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from dst.errors import DSTError
from dst.explaining_trees import explained_status
from dst.geometry import Geometry, StatusExtent
from dst.interfaces import (
    Buffer,
    IAlgorithm,
    IBlockDevice,
    IChecksums,
    INode,
    INodeObserver,
    IReadsNow,
    IWritesTogether,
    StopObserving,
)
from dst.recovery.fence import NO_EPOCH, Entrance, Fence
from dst.status import LinkState, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["FencedDevice", "UnclaimedNode"]

_T = TypeVar("_T")

_log = Logger()

_NO_KEYWORDS: dict[str, object] = {}

_PASSED_ON: tuple[Any, ...] = (IChecksums, IReadsNow, IWritesTogether)
"""What is provided where the device provides it."""


@implementer(IBlockDevice)
class FencedDevice:
    """
    What is asked of C{node} through one entrance of its fence.

    @ivar node: the device itself.
    """

    _entrance: Entrance | None = None
    """C{None} while the device is not open."""

    _change_epoch: bytes = NO_EPOCH
    """What changes are asked for under; what equals no epoch makes each of them ask L{_refusal}."""

    def __init__(self, clock: IReactorTime, node: INode) -> None:
        self._clock = clock
        self._observers: list[INodeObserver] = []
        self.node = node
        self._epoch = NO_EPOCH
        self._changes = 0
        self._quick: Any = node  # the same, for what it need not provide
        for interface in _PASSED_ON:
            if interface.providedBy(self._quick):
                alsoProvides(self, interface)

    @property
    def geometry(self) -> Geometry:
        """That of the device."""
        return self.node.geometry

    @property
    def incarnation(self) -> bytes:
        """That of the device."""
        return self.node.incarnation

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """See L{dst.interfaces.IBlockDevice.read}."""
        entrance = self._entrance
        if entrance is not None and entrance.passes != self._epoch:
            refusal = entrance.refusal(self._epoch, False)
            if refusal is not None:
                return fail(refusal)
        return self.node.read(offset, length)

    def read_now(self, offset: int, length: int) -> Buffer | None:
        """See L{dst.interfaces.IReadsNow}; provided where the device does."""
        entrance = self._entrance
        if (
            entrance is not None
            and entrance.passes != self._epoch
            and entrance.refusal(self._epoch, False) is not None
        ):
            return None  # C{read} says why
        found: Buffer | None = self._quick.read_now(offset, length)
        return found

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write}."""
        entrance = self._entrance
        if entrance is not None and entrance.passes != self._change_epoch:
            refusal = self._refusal(entrance)
            if refusal is not None:
                return fail(refusal)
        return self._counted(self.node.write(offset, data, fua=fua))

    def write_together(self, writes: Sequence[tuple[int, Buffer]]) -> Deferred[Sequence[DSTError | None] | None]:
        """See L{dst.interfaces.IWritesTogether}; provided where the device does.  All of them are one change here."""
        entrance = self._entrance
        if entrance is not None and entrance.passes != self._change_epoch:
            refusal = self._refusal(entrance)
            if refusal is not None:
                return succeed([refusal] * len(writes))
        return self._counted(self._quick.write_together(writes))

    def flush(self) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.flush}."""
        entrance = self._entrance
        if entrance is not None and entrance.passes != self._epoch:
            refusal = entrance.refusal(self._epoch, False)
            if refusal is not None:
                return fail(refusal)
        return self.node.flush()

    def trim(self, offset: int, length: int) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.trim}."""
        entrance = self._entrance
        if entrance is not None and entrance.passes != self._change_epoch:
            refusal = self._refusal(entrance)
            if refusal is not None:
                return fail(refusal)
        return self._counted(self.node.trim(offset, length))

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice.write_zeroes}."""
        entrance = self._entrance
        if entrance is not None and entrance.passes != self._change_epoch:
            refusal = self._refusal(entrance)
            if refusal is not None:
                return fail(refusal)
        return self._counted(self.node.write_zeroes(offset, length, fua=fua, no_hole=no_hole, fast_only=fast_only))

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        """See L{dst.interfaces.IBlockDevice.block_status}."""
        return self._asked(lambda: self.node.block_status(offset, length))

    def checksums(self, offset: int, length: int, block_bytes: int) -> Deferred[bytes]:
        """See L{dst.interfaces.IChecksums.checksums}; provided where the device does."""
        device: Any = self.node
        return self._asked(lambda: device.checksums(offset, length, block_bytes))

    def status(self) -> StatusTree:
        """That of the device, with its explanation if it has one of its own."""
        return explained_status(self.node) if IAlgorithm.providedBy(self.node) else self.node.status()

    def _asked(self, what: Any) -> Deferred[Any]:
        entrance = self._entrance
        refusal = None if entrance is None else entrance.refusal(self._epoch, False)
        answer: Deferred[Any] = what() if refusal is None else fail(refusal)
        return answer

    def _refusal(self, entrance: Entrance) -> DSTError | None:
        return entrance.refusal(self._epoch, True)

    def _counted(self, change: Deferred[_T]) -> Deferred[_T]:
        """
        C{change}, which is under way until the device says so.

        The caller gets a Deferred of its own: one that is cancelled has fired, and its change may still be executed.
        """
        if change.called and (change.result is None or isinstance(change.result, list)):
            return change
        self._changes += 1
        answer: Deferred[_T] = Deferred()
        change.addCallbacks(self._done, self._failed, (answer,), _NO_KEYWORDS, (answer,), _NO_KEYWORDS)
        return answer

    def _done(self, result: _T, answer: Deferred[_T]) -> None:
        self._changes -= 1
        if not self._changes:
            self._settled()
        answer.callback(result)

    def _failed(self, failure: Failure, answer: Deferred[Any]) -> None:
        self._changes -= 1
        if not self._changes:
            self._settled()
        answer.errback(failure)

    def _settled(self) -> None:
        entrance = self._entrance
        if entrance is not None and entrance.awaited:
            entrance.settled()

    def observe(self, observer: INodeObserver) -> StopObserving:
        """See L{dst.interfaces.INode.observe}."""
        entry: INodeObserver = lambda node: observer(node)  # noqa: E731 - each call gets an identity of its own
        self._observers.append(entry)
        stop_device = self.node.observe(lambda _: observer(cast(INode, self)))

        def stop() -> None:
            if entry in self._observers:
                self._observers.remove(entry)
            stop_device()

        return stop

    def _tell(self) -> None:
        """Something is different: tell everybody in a later turn."""
        for entry in list(self._observers):
            self._clock.callLater(0, self._tell_one, entry)

    def _tell_one(self, entry: INodeObserver) -> None:
        if entry not in self._observers:
            return
        try:
            entry(cast(INode, self))
        except Exception:  # one observer's failure harms nobody else
            _log.failure("an observer of {name} failed", name=self.node.name)


@implementer(INode)
class UnclaimedNode(FencedDevice):
    """
    A node that somebody else opens and closes, for users without claims.

    It can be read at any time.  While it belongs to the owner of a storage it is read-only: its observers are told.
    """

    def __init__(self, clock: IReactorTime, node: INode, fence: Fence) -> None:
        """
        @param fence: that of the device, open.
        """
        super().__init__(clock, node)
        self.name = node.name
        self._fence = fence
        self._entrance = fence.enter(lambda: self._changes, self._moved)
        self._claimed = fence.claimed
        self._left = False
        self._open_geometry = self._shut_geometry = Geometry(0, read_only=True)

    @property
    def geometry(self) -> Geometry:
        """That of the device, read-only while somebody owns it."""
        geometry = self.node.geometry
        if not self._claimed:
            return geometry
        if geometry is not self._open_geometry:
            self._open_geometry, self._shut_geometry = geometry, geometry.evolve(read_only=True)
        return self._shut_geometry

    @property
    def kind(self) -> str:
        """That of the device."""
        return getattr(self.node, "kind", "node")

    @property
    def multi_conn(self) -> bool:
        """That of the device: whether all its users see the same."""
        return getattr(self.node, "multi_conn", True)

    @property
    def link(self) -> LinkState:
        """That of the device."""
        return self.node.link

    @property
    def reason(self) -> str:
        """That of the device."""
        return self.node.reason

    def open(self) -> Deferred[None]:
        """Somebody else does that."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Somebody else does that."""
        return succeed(None)

    def leave(self) -> None:
        """Nobody uses it any more; what is still under way is waited for by whoever claims the device."""
        self._left = True
        self._settled()

    def _settled(self) -> None:
        super()._settled()
        if self._left and not self._changes and self._entrance is not None:
            self._entrance.leave()

    def _moved(self) -> None:
        if self._claimed is not self._fence.claimed:
            self._claimed = self._fence.claimed
            self._tell()
