"""
The status as it changes: C{GET /v1/events}, server-sent events.

Each event is C{status} with the envelope of C{GET /v1/status} as its data, or C{trouble} with an error
when the status cannot be had.  The first one is sent at once, the next when something has
changed.  Every C{id} is a number that goes up.  A comment is sent while nothing changes, so that both sides notice a
connection that is dead.

An event says how everything is now, so nobody needs those that were missed: a reader
that is slow gets the newest one when it is ready for it, and the memory for it
is one event, whatever happens.  One that reads nothing at all is cut off.

The status is asked for only while somebody listens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.admin.schema import envelope, error_to_json
from dst.errors import DSTError, InternalError, LimitReached
from dst.status import StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["KEEPALIVE_S", "LISTENERS_MAX", "POLL_S", "STALL_S_MAX", "StatusFeed"]

_log = Logger()

POLL_S = 0.5
"""How often the status is looked at while somebody listens: what a person takes for "live"."""

KEEPALIVE_S = 15.0
"""A comment is sent after so much silence; below the idle time of proxies and of our own client."""

STALL_S_MAX = 30.0
"""A listener that has not read what was sent for so long is cut off."""

LISTENERS_MAX = 32
"""Pages and C{dst watch}es at a time; each may hold one event in memory."""


@implementer(IPushProducer)
@define(eq=False)
class _Listener:
    """One reader, and the newest event if it has not been ready for it yet."""

    request: Any
    clock: IReactorTime
    paused_since: float | None = None
    pending: bytes | None = None
    wrote_at: float = 0.0
    gone: bool = False

    def offer(self, event: bytes) -> None:
        if self.gone:
            return
        if self.paused_since is not None:
            self.pending = event
            return
        self.wrote_at = self.clock.seconds()
        self.request.write(event)

    def pauseProducing(self) -> None:
        if self.paused_since is None:
            self.paused_since = self.clock.seconds()

    def resumeProducing(self) -> None:
        self.paused_since = None
        event, self.pending = self.pending, None
        if event is not None:
            self.offer(event)

    def stopProducing(self) -> None:
        self.gone = True
        self.pending = None

    def keep_alive(self, now: float) -> None:
        """Say that we are still here, or give up one who does not hear."""
        if self.paused_since is not None:
            if now - self.paused_since >= STALL_S_MAX:
                self.cut_off()
        elif now - self.wrote_at >= KEEPALIVE_S:
            self.offer(b": still here\n\n")

    def cut_off(self) -> None:
        _log.info("cut off a reader of events that read nothing for {seconds} s", seconds=STALL_S_MAX)
        self.pending = None
        self.request.channel.transport.abortConnection()

    def end(self) -> None:
        if not self.gone:
            self.request.unregisterProducer()
            self.request.finish()


@define(eq=False)
class StatusFeed:
    """
    Tells listeners what C{admin} says, when it changes.

    @ivar now: seconds of the epoch, for the envelope.
    """

    admin: IClusterAdmin
    clock: IReactorTime
    now: Callable[[], float]
    _listeners: list[_Listener] = field(factory=list, init=False)
    _turning: IDelayedCall | None = field(default=None, init=False)
    _asking: bool = field(default=False, init=False)
    _seen: list[StatusTree] | str | None = field(default=None, init=False)  # the trees or the error told last
    _newest: bytes | None = field(default=None, init=False)
    _number: int = field(default=0, init=False)
    _stopped: bool = field(default=False, init=False)

    @property
    def listeners(self) -> int:
        """How many read now."""
        return len(self._listeners)

    def listen(self, request: Any) -> None:
        """
        Send events to C{request} until it or this ends.

        @raise LimitReached: there are L{LISTENERS_MAX} already.
        """
        if len(self._listeners) >= LISTENERS_MAX or self._stopped:
            raise LimitReached(f"{len(self._listeners)} readers of events are connected, and no more are served")
        listener = _Listener(request, self.clock)
        self._listeners.append(listener)

        def gone(_: object) -> None:
            listener.gone = True
            self._listeners.remove(listener)
            if not self._listeners:
                self._rest()

        request.notifyFinish().addBoth(gone)
        request.registerProducer(listener, True)
        listener.offer(b"retry: 1000\n\n")
        if self._newest is not None:
            listener.offer(self._newest)
        if self._turning is None:
            self._turn()

    def stop(self) -> None:
        """End every listener; afterwards no timer is left."""
        self._stopped = True
        for listener in list(self._listeners):
            listener.end()
        self._rest()

    def _rest(self) -> None:
        """Nobody listens: what was seen is old by the time somebody does."""
        if self._turning is not None:
            self._turning.cancel()
            self._turning = None
        self._newest, self._seen = None, None

    def _turn(self) -> None:
        self._turning = self.clock.callLater(POLL_S, self._turn)
        now = self.clock.seconds()
        for listener in list(self._listeners):
            listener.keep_alive(now)
        if not self._asking:
            self._asking = True
            self.admin.status().addCallbacks(self._told, self._failed).addBoth(self._answered)

    def _told(self, trees: list[StatusTree]) -> None:
        if trees != self._seen:
            self._seen = trees
            self._publish("status", envelope(trees, self.now()))

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, DSTError):
            if self._seen != repr(error):
                _log.failure("the status could not be had", failure)
            self._seen, changed = repr(error), self._seen != repr(error)
            error = InternalError("the status could not be had because of a mistake in the daemon")
        else:
            self._seen, changed = repr(error), self._seen != repr(error)
        if changed:
            self._publish("trouble", error_to_json(error))

    def _answered(self, result: object) -> None:
        self._asking = False
        if isinstance(result, Failure):
            _log.failure("the status could not be told", result)
        if not self._listeners:
            self._newest, self._seen = None, None

    def _publish(self, kind: str, value: dict[str, object]) -> None:
        self._number += 1
        data = json.dumps(value, separators=(",", ":"), allow_nan=False)
        self._newest = f"id: {self._number}\nevent: {kind}\ndata: {data}\n\n".encode()
        for listener in list(self._listeners):
            listener.offer(self._newest)
