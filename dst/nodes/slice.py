"""
A part of another node: bytes C{start} to C{start + size} of it, as a node of its own.

Several slices may lie over one parent.  The first that is opened opens it, the
last that is closed closes it, and nobody else does either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from dst.errors import ConfigurationError, DSTError, NotSupported
from dst.geometry import StatusExtent
from dst.interfaces import Buffer, IChecksums, IExclusive, INode, StopObserving
from dst.observing import ObservableNode
from dst.status import LinkState, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["SliceNode"]

T = TypeVar("T")


class _Sharing:
    """
    How many slices use a parent.

    @ivar users: slices that are open, or have asked for it.
    """

    def __init__(self, parent: INode) -> None:
        self._parent = parent
        self._users = 0
        self._waiting: list[Deferred[None]] | None = None
        self._opened = False
        self._closing: Deferred[None] | None = None

    def open(self) -> Deferred[None]:
        """Fires when the parent's C{open} has, and fails as that did."""
        self._users += 1
        if self._opened:
            return succeed(None)
        answer: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(answer)
            return answer
        self._waiting = [answer]
        before = self._closing or succeed(None)
        before.addCallback(lambda _: self._parent.open()).addBoth(self._ended)
        return answer

    def _ended(self, result: Failure | None) -> None:
        waiting, self._waiting = self._waiting or [], None
        if isinstance(result, Failure):
            self._users -= len(waiting)
        else:
            self._opened = True
        for answer in waiting:
            answer.callback(result)

    def close(self) -> Deferred[None]:
        """One slice less; fires at once, or when the parent is closed if it was the last."""
        self._users -= 1
        if self._users or not self._opened:
            return succeed(None)
        self._opened = False
        closed: Deferred[None] = Deferred()
        self._closing = Deferred()

        def done(result: Failure | None) -> None:
            closing, self._closing = self._closing, None
            if closing is not None:
                closing.callback(None)
            closed.callback(result)

        self._parent.close().addBoth(done)
        return closed


_sharing: WeakKeyDictionary[INode, _Sharing] = WeakKeyDictionary()


@implementer(INode, IChecksums)
class SliceNode(ObservableNode):
    """
    See the module.

    @ivar parent: the node of which this is a part.
    """

    kind = "slice"

    def __init__(self, clock: IReactorTime, name: str, parent: INode, start: int, size: int) -> None:
        """
        @param start: bytes, a multiple of the parent's block size; so is C{size}.
        """
        super().__init__(clock, name)
        self.parent = parent
        self.start = start
        self.size = size
        self._sharing = _sharing.setdefault(parent, _Sharing(parent))
        self._shares = False
        self._stop: StopObserving | None = None
        self._in_flight = 0
        self._drained: Deferred[None] | None = None
        self._closed: Deferred[None] | None = None
        if IExclusive.providedBy(parent):
            alsoProvides(self, IExclusive)

    def open(self) -> Deferred[None]:
        self.changed(LinkState.CONNECTING, f"opening {self.parent.name}")
        self._closed = None
        self._shares = True
        return self._sharing.open().addCallbacks(self._opened, self._not_opened)

    def _opened(self, _: None) -> None:
        if self.link is LinkState.CLOSED:
            return
        self._stop = self.parent.observe(self._follow)
        self._follow(self.parent)
        if self.parent.link is LinkState.READY and self.link is not LinkState.READY:
            raise ConfigurationError(self.reason)

    def _not_opened(self, failure: Failure) -> Failure:
        self._shares = False
        if self.link is not LinkState.CLOSED:
            self.changed(LinkState.AWAY, str(failure.value))
        return failure

    def _follow(self, parent: INode) -> None:
        """Be as the parent is, as long as this part of it exists."""
        if self.link is LinkState.CLOSED:
            return
        whole = parent.geometry
        if parent.link is not LinkState.READY:
            self.changed(parent.link, f"{parent.name} is {parent.link.value}: {parent.reason}")
        elif self.start + self.size > whole.size:
            self.changed(LinkState.AWAY, self._misfit(f"ends at {self.start + self.size} of {whole.size} bytes"))
        elif (self.start | self.size) & (whole.block_size - 1):
            self.changed(LinkState.AWAY, self._misfit(f"is not a multiple of its blocks of {whole.block_size} bytes"))
        else:
            geometry = evolve(whole, size=self.size)
            self.changed(LinkState.READY, "", geometry=geometry, incarnation=parent.incarnation)

    def _misfit(self, what: str) -> str:
        return f"the slice {self.name} ({self.start}+{self.size}) of {self.parent.name} {what}"

    def close(self) -> Deferred[None]:
        answer: Deferred[None] = Deferred()
        if self._closed is None:
            self._closed = Deferred()
            self.changed(LinkState.CLOSED, "it was closed")
            if self._stop is not None:
                self._stop()
                self._stop = None
            self._drain().addCallback(lambda _: self._leave()).chainDeferred(self._closed)

        def closed(result: Failure | None) -> Failure | None:
            answer.callback(result)
            return None if isinstance(result, Failure) else result

        self._closed.addBoth(closed)
        return answer

    def _drain(self) -> Deferred[None]:
        """Fires when nothing of this slice is in flight."""
        if not self._in_flight:
            return succeed(None)
        self._drained = Deferred()
        return self._drained

    def _leave(self) -> Deferred[None]:
        """Leave nothing unflushed to a parent that others keep open."""
        if not self._shares:
            return succeed(None)
        self._shares = False
        flushed: Deferred[None] = succeed(None)
        if self.parent.link is LinkState.READY:
            flushed = self.parent.flush().addErrback(lambda failure: failure.trap(DSTError) and None)
        return flushed.addCallback(lambda _: self._sharing.close())

    # -- operations --

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        refusal = self._refusal(offset, length, transfer=True)
        return fail(refusal) if refusal else self._count(self.parent.read(self.start + offset, length))

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        refusal = self._refusal(offset, len(data), transfer=True, change=True)
        return fail(refusal) if refusal else self._count(self.parent.write(self.start + offset, data, fua=fua))

    def checksums(self, offset: int, length: int, block_bytes: int) -> Deferred[bytes]:
        if not IChecksums.providedBy(self.parent):
            return fail(NotSupported(f"{self.parent.name} cannot tell checksums"))
        refusal = self._refusal(offset, length, transfer=True)
        if refusal:
            return fail(refusal)
        return self._count(IChecksums(self.parent).checksums(self.start + offset, length, block_bytes))

    def flush(self) -> Deferred[None]:
        if not self.usable:
            return fail(self.unavailable())
        return self._count(self.parent.flush().addBoth(self._flushed))

    def _flushed(self, result: T) -> T:
        """
        Be as the parent is now, not when observers have their turn: a flush succeeds also after one that lost
        something, and whoever asked for it can know that by the incarnation alone.
        """
        self._follow(self.parent)
        return result

    def trim(self, offset: int, length: int) -> Deferred[None]:
        refusal = self._refusal(offset, length, change=True)
        return fail(refusal) if refusal else self._count(self.parent.trim(self.start + offset, length))

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        refusal = self._refusal(offset, length, change=True)
        if refusal:
            return fail(refusal)
        at = self.start + offset
        return self._count(self.parent.write_zeroes(at, length, fua=fua, no_hole=no_hole, fast_only=fast_only))

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        refusal = self._refusal(offset, length)
        return fail(refusal) if refusal else self._count(self.parent.block_status(self.start + offset, length))

    def status(self) -> StatusTree:
        return evolve(super().status(), children=(self.parent.status(),))

    def _count(self, operation: Deferred[T]) -> Deferred[T]:
        """Know of what is in flight, so that C{close} can wait for it while others use the parent."""
        if operation.called and not operation.paused:
            return operation
        self._in_flight += 1
        return operation.addBoth(self._ended)

    def _ended(self, result: T) -> T:
        self._in_flight -= 1
        if not self._in_flight and self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)
        return result
