"""
A device that misbehaves on demand, around any other device.

Everything it does wrong is asked for by a test, at a moment and in an order
that the test chooses; random choices come from the seed of the media.  Left alone it is a node
like any other and passes their suite.

It is told in the terms of what an operator sees:

  - C{fail_next}: the disk answers with an error.
  - C{hold} and C{release}: the disk hangs, and later goes on.
  - C{delay_s}: the disk is slow.
  - C{pull} and C{plug_in}: the cable, for a moment (transactions are kept) or for good.
  - C{power_cut}: the power of that disk, with what was not flushed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.errors import DSTError, IncarnationChanged, NotSupported, Unavailable
from dst.geometry import StatusExtent
from dst.interfaces import Buffer, IChecksums, INode, StopObserving
from dst.observing import ObservableNode
from dst.status import LinkState
from dst.testing.disk import SimulatedDisk
from dst.testing.media import Keep, SimulatedMedia

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["CHANGES", "HELD_MAX", "HISTORY_MAX", "FaultyDevice", "Operation", "faulty_disk"]

HISTORY_MAX = 100_000
"""Operations that are remembered; a test that needs more looks too late."""

HELD_MAX = 10_000
"""Operations that may wait; more is a mistake of who asks, and fails."""

CHANGES = frozenset({"write", "trim", "write_zeroes"})
"""The kinds of operations that change content.  The others are C{read}, C{flush} and C{block_status}."""


@frozen
class Operation:
    """One operation as it was asked for: for tests that look at what was done, and in which order."""

    kind: str
    offset: int = 0
    length: int = 0
    fua: bool = False


@define(eq=False)
class _Request:
    """An operation on its way."""

    operation: Operation
    run: Callable[[], Deferred[Any]]
    answer: Deferred[Any] | None = None
    timer: IDelayedCall | None = None

    def end(self, result: object) -> None:
        """Fire what the caller waits for, once."""
        answer, self.answer = self.answer, None
        self.stop_timer()
        if answer is not None:
            answer.callback(result)

    def stop_timer(self) -> None:
        """It does not start by itself any more."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()


@define
class _Rule:
    """Fail operations that match."""

    kinds: frozenset[str]
    error: DSTError
    skip: int
    times: int | None
    executed: bool
    extent: tuple[int, int] | None = field(default=None)

    def matches(self, operation: Operation) -> bool:
        """It is this one's turn to fail."""
        if operation.kind not in self.kinds:
            return False
        if self.extent is not None:
            start, length = self.extent
            if operation.offset >= start + length or start >= operation.offset + operation.length:
                return False
        if self.skip:
            self.skip -= 1
            return False
        return True


@implementer(INode, IChecksums)
class FaultyDevice(ObservableNode):
    """
    The device C{inner}, with faults.

    @ivar inner: who does the work; opened and closed with this one.
    @ivar delay_s: what every operation takes; may be changed at any time.
    @ivar history: the operations that reached the device, the oldest first, bounded.
    @ivar counts: how many of each kind.
    @ivar flush_keeps: what a flush that fails leaves of what was not flushed.
    """

    kind = "faulty"

    def __init__(self, clock: IReactorTime, inner: INode, *, delay_s: float = 0.0) -> None:
        """
        @param inner: a node that nobody else opens.  L{power_cut} needs a L{SimulatedDisk}.
        """
        super().__init__(clock, inner.name)
        self.inner = inner
        self.delay_s = delay_s
        self.history: deque[Operation] = deque(maxlen=HISTORY_MAX)
        self.counts: Counter[str] = Counter()
        self.flush_keeps: Keep = "random"
        self.held_kinds: frozenset[str] = frozenset()
        self._rules: list[_Rule] = []
        self._held: list[_Request] = []
        self._running: dict[_Request, None] = {}  # in the order in which they were asked for
        self._plugged = True
        self._opened = False
        self._stop: StopObserving | None = None

    # -- what a test asks for --

    @property
    def media(self) -> SimulatedMedia:
        """The media below, which survives this node."""
        assert isinstance(self.inner, SimulatedDisk), f"{self.name} is not on simulated media"
        return self.inner.media

    @property
    def held(self) -> list[Operation]:
        """The operations that hang, oldest first."""
        return [request.operation for request in self._held]

    def fail_next(
        self,
        kinds: str,
        error: DSTError,
        *,
        times: int | None = 1,
        skip: int = 0,
        executed: bool = False,
        extent: tuple[int, int] | None = None,
    ) -> None:
        """
        Operations end with C{error}.

        A flush that fails loses unflushed writes and changes the incarnation, where there is simulated media.

        @param kinds: C{"write"}, C{"read flush"}, ...
        @param times: how many; C{None} until L{heal}.
        @param skip: how many that match go well before.
        @param executed: the operation is done all the same: only its answer is bad.
        @param extent: only those that touch C{(offset, length)}.
        """
        self._rules.append(_Rule(frozenset(kinds.split()), error, skip, times, executed, extent))

    def heal(self) -> None:
        """Forget every L{fail_next}."""
        self._rules.clear()

    def hold(self, kinds: str = "read write flush trim write_zeroes block_status") -> None:
        """From now on operations of these kinds hang, until L{release}."""
        self.held_kinds = frozenset(kinds.split())

    def release(self, count: int | None = None) -> None:
        """
        Let what hangs go on, oldest first.

        @param count: only so many, and later ones hang still; C{None}: all, and nothing hangs any more.
        """
        if count is None:
            self.held_kinds = frozenset()
            count = len(self._held)
        going, self._held = self._held[:count], self._held[count:]
        for request in going:
            self._start(request)

    def drop_held(self, error: DSTError) -> None:
        """What hangs fails, and was not done."""
        held, self._held = self._held, []
        for request in held:
            request.end(Failure(error))

    def pull(self, link: LinkState = LinkState.AWAY, reason: str = "its cable was pulled") -> None:
        """
        The link breaks.  C{AWAY}: all in flight fails.  C{INTERRUPTED}: it is kept, and so is what is
        asked for from now on, until L{plug_in} or a second C{pull}.
        """
        assert link in (LinkState.AWAY, LinkState.INTERRUPTED), link
        self._plugged = False
        if self.link is LinkState.CLOSED or not self._opened:
            return
        self.changed(link, reason)
        if link is LinkState.AWAY:
            self._fail_all(Unavailable(f"{self.name} is away: {reason}"))
            return
        kept = [request for request in self._running if request.timer is not None]
        for request in kept:
            del self._running[request]
            request.stop_timer()
        self._held[:0] = kept

    def plug_in(self, new_incarnation: bool = False) -> None:
        """
        The link is back.  What was kept is done in order; with another incarnation it fails with
        L{IncarnationChanged}.

        @param new_incarnation: unflushed writes are lost at random, where there is simulated media.
        """
        self._plugged = True
        if new_incarnation and isinstance(self.inner, SimulatedDisk):
            self.media.lose_unflushed()
        if not self._opened or self.link is LinkState.CLOSED:
            return
        if isinstance(self.inner, SimulatedDisk):
            self.inner.refresh()
        before, after = self.incarnation, self.inner.incarnation
        if new_incarnation and before == after:
            after = bytes(byte ^ 0xFF for byte in before)
        if before != after:
            reason = f"{self.name} came back and may have lost what was not flushed"
            self._fail_all(IncarnationChanged(reason))
        self.changed(LinkState.READY, "", geometry=self.inner.geometry, incarnation=after)
        kept, self._held = self._held, []
        for request in kept:
            if request.operation.kind in self.held_kinds:
                self._held.append(request)
            else:
                self._start(request)

    def power_cut(self, keep: Keep = "random") -> None:
        """
        The disk loses its power: operations in flight fail, what was not flushed is lost, in part or
        whole; what hangs may have been done as much as anything else.  L{plug_in} brings it back.

        @param keep: see L{Keep}.
        """
        media = self.media
        waiting = [*(request for request in self._running if request.timer is not None), *self._held]
        for request in waiting:
            if (
                request.operation.kind in CHANGES
                and keep != "none"
                and (keep != "random" or media.randomness.random() < 0.5)
            ):
                request.run().addErrback(lambda _: None)  # nobody hears how it went
        self.pull(LinkState.AWAY, "its power was cut")
        media.lose_unflushed(keep)

    # -- what a node does --

    def open(self) -> Deferred[None]:
        def opened(_: None) -> None:
            self._opened = True
            self._stop = self.inner.observe(self._inner_changed)
            if self._plugged:
                self._follow()
            else:
                self.changed(LinkState.AWAY, "its cable was pulled")

        return self.inner.open().addCallback(opened)

    def _inner_changed(self, node: INode) -> None:
        if self._plugged and self.link is not LinkState.CLOSED:
            self._follow()

    def _follow(self) -> None:
        inner = self.inner
        self.changed(inner.link, inner.reason, geometry=inner.geometry, incarnation=inner.incarnation)

    def close(self) -> Deferred[None]:
        if self.link is not LinkState.CLOSED:
            self.changed(LinkState.CLOSED, "it was closed")
            self._fail_all(Unavailable(f"{self.name} was closed"))
            if self._stop is not None:
                self._stop()
        return self.inner.close()

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        return self._ask(Operation("read", offset, length), lambda: self.inner.read(offset, length))

    def checksums(self, offset: int, length: int, block_bytes: int) -> Deferred[bytes]:
        inner = self.inner
        if not IChecksums.providedBy(inner):
            return fail(NotSupported(f"{inner.name} cannot tell checksums"))
        run = IChecksums(inner).checksums
        return self._ask(Operation("checksums", offset, length), lambda: run(offset, length, block_bytes))

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        operation = Operation("write", offset, len(data), fua)
        return self._ask(operation, lambda: self.inner.write(offset, data, fua=fua))

    def flush(self) -> Deferred[None]:
        return self._ask(Operation("flush"), self.inner.flush)

    def trim(self, offset: int, length: int) -> Deferred[None]:
        return self._ask(Operation("trim", offset, length), lambda: self.inner.trim(offset, length))

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        operation = Operation("write_zeroes", offset, length, fua)
        run = self.inner.write_zeroes
        return self._ask(operation, lambda: run(offset, length, fua=fua, no_hole=no_hole, fast_only=fast_only))

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        operation = Operation("block_status", offset, length)
        return self._ask(operation, lambda: self.inner.block_status(offset, length))

    # -- how --

    def _ask(self, operation: Operation, run: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        if not self.usable:
            return fail(self.unavailable())
        self.history.append(operation)
        self.counts[operation.kind] += 1
        request = _Request(operation, run)
        answer: Deferred[Any] = Deferred(lambda _: setattr(request, "answer", None))
        request.answer = answer
        if self.link is LinkState.INTERRUPTED or operation.kind in self.held_kinds:
            if len(self._held) >= HELD_MAX:
                return fail(Unavailable(f"{self.name} holds {HELD_MAX} operations already"))
            self._held.append(request)
        else:
            self._start(request)
        return answer

    def _start(self, request: _Request) -> None:
        """Do it after the delay, or at once."""
        self._running[request] = None
        if self.delay_s > 0:
            request.timer = self.clock.callLater(self.delay_s, self._run, request)
        else:
            self._run(request)

    def _run(self, request: _Request) -> None:
        request.timer = None
        rule = next((rule for rule in self._rules if rule.matches(request.operation)), None)
        if rule is None:
            request.run().addBoth(self._ran, request)
            return
        if rule.times is not None:
            rule.times -= 1
            if not rule.times:
                self._rules.remove(rule)
        failure = Failure(rule.error)
        if rule.executed:
            request.run().addBoth(lambda _: self._ran(failure, request))
            return
        if request.operation.kind == "flush" and isinstance(self.inner, SimulatedDisk):
            self.media.lose_unflushed(self.flush_keeps)
            self.inner.refresh()
            self._follow()
        self._ran(failure, request)

    def _ran(self, result: object, request: _Request) -> None:
        if request in self._running:
            del self._running[request]
            request.end(result)

    def _fail_all(self, error: DSTError) -> None:
        """Everything on its way ends; what was not started is never done."""
        ending = [*self._running, *self._held]
        self._running.clear()
        self._held.clear()
        for request in ending:
            request.end(Failure(error))


def faulty_disk(clock: IReactorTime, name: str, size: int, *, seed: int = 0, delay_s: float = 0.0) -> FaultyDevice:
    """A L{FaultyDevice} on new simulated media of its own."""
    return FaultyDevice(clock, SimulatedDisk(clock, name, SimulatedMedia(size, seed=seed)), delay_s=delay_s)
