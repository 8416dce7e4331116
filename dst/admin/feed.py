"""
What changes and what happens, as it does: C{GET /v1/events}, server-sent events.

  - C{status}, with the envelope of C{GET /v1/status}: at once, and again when something has changed.  It says how
    everything is now, so nobody needs those that were missed: a reader that is slow gets the newest one when it is
    ready for it.
  - C{event}, with one entry of the journal, and its number as the C{id}.  None is left out: a reader that is slow,
    or that was away and names the last number it has seen, gets what came after it, as far back as the journal goes.
  - C{gap}, where the journal did not go back far enough: something between two numbers is not known any more.
  - C{trouble}, with an error, when the status cannot be had.

A comment is sent while nothing changes, so that both sides notice a connection that is dead.

The memory for a reader is one status and what its socket takes, whatever happens: events are fetched from the
journal when the reader is ready for them.  One that reads nothing at all is cut off.  The cluster is asked only
while somebody listens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.admin.answers import Refused
from dst.admin.codec import to_json
from dst.admin.schema import API_VERSION, envelope, error_to_json
from dst.administration import Event
from dst.errors import DSTError, InternalError, LimitReached
from dst.status import StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["CHECK_S", "KEEPALIVE_S", "LISTENERS_MAX", "POLL_S", "STALL_S_MAX", "EventFeed"]

_log = Logger()

POLL_S = 0.5
"""How often the cluster is looked at while somebody listens: what a person takes for "live"."""

KEEPALIVE_S = 15.0
"""A comment is sent after so much silence; below the idle time of proxies and of our own client."""

CHECK_S = 5.0
"""So soon whoever may not read any more, because a token was revoked or has ended, is cut off."""

STALL_S_MAX = 30.0
"""A listener that has not read what was sent for so long is cut off."""

LISTENERS_MAX = 32
"""Pages and C{dst watch}es at a time; each may hold one status in memory."""

EVENTS_AT_ONCE = 100
"""How many are written before it is looked whether the reader keeps up."""


@implementer(IPushProducer)
@define(eq=False)
class _Listener:
    """
    One reader.

    @ivar position: the number of the last event it was sent; C{None}: it wants those from now on, and where that is
        has to be asked yet.
    @ivar ready: called when it can take more.
    @ivar check: raises L{Refused} when it may not read any more.
    @ivar pending: the newest status if it has not been ready for it yet.
    """

    request: Any
    clock: IReactorTime
    position: int | None
    ready: Callable[[_Listener], None]
    check: Callable[[], object]
    checked_at: float = 0.0
    paused_since: float | None = None
    pending: bytes | None = None
    wrote_at: float = 0.0
    fetching: bool = False
    gone: bool = False

    def offer_status(self, status: bytes) -> None:
        if self.gone:
            return
        if self.paused_since is not None:
            self.pending = status
            return
        self.write(status)

    def offer_events(self, events: list[Event]) -> None:
        """What came after the last one that it was sent; as many as it can take now."""
        assert self.position is not None
        while events and self.paused_since is None and not self.gone:
            chunk = []
            for event in events[:EVENTS_AT_ONCE]:
                if event.number != self.position + 1:
                    chunk.append(_gap(self.position, event.number))
                chunk.append(_numbered(event))
                self.position = event.number
            del events[:EVENTS_AT_ONCE]
            self.write(b"".join(chunk))

    def write(self, data: bytes) -> None:
        self.wrote_at = self.clock.seconds()
        self.request.write(data)

    def pauseProducing(self) -> None:
        if self.paused_since is None:
            self.paused_since = self.clock.seconds()

    def resumeProducing(self) -> None:
        self.paused_since = None
        status, self.pending = self.pending, None
        if status is not None:
            self.offer_status(status)
        if self.paused_since is None:
            self.ready(self)

    def stopProducing(self) -> None:
        self.gone = True
        self.pending = None

    def keep_alive(self, now: float) -> None:
        """Say that we are still here, or give up one who does not hear, or may not any more."""
        if now - self.checked_at >= CHECK_S and not self.gone:
            self.checked_at = now
            try:
                self.check()
            except Refused:
                self.pending = None
                self.request.channel.transport.abortConnection()
                return
        if self.paused_since is not None:
            if now - self.paused_since >= STALL_S_MAX:
                self.cut_off()
        elif now - self.wrote_at >= KEEPALIVE_S and not self.gone:
            self.write(b": still here\n\n")

    def cut_off(self) -> None:
        _log.info("cut off a reader of events that read nothing for {seconds} s", seconds=STALL_S_MAX)
        self.pending = None
        self.request.channel.transport.abortConnection()

    def end(self) -> None:
        if not self.gone:
            self.request.unregisterProducer()
            self.request.finish()


def _message(kind: str, value: object, number: int | None = None) -> bytes:
    data = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return (f"id: {number}\n" if number is not None else "").encode() + f"event: {kind}\ndata: {data}\n\n".encode()


def _numbered(event: Event) -> bytes:
    return _message("event", {"version": API_VERSION, **to_json(event)}, event.number)


def _gap(after: int, following: int) -> bytes:
    return _message("gap", {"version": API_VERSION, "after": after, "next": following})


@define(eq=False)
class EventFeed:
    """
    Tells listeners what C{admin} says, when it changes, and what happens.

    @ivar now: seconds of the epoch, for the envelope.
    """

    admin: IClusterAdmin
    clock: IReactorTime
    now: Callable[[], float]
    _listeners: list[_Listener] = field(factory=list, init=False)
    _turning: IDelayedCall | None = field(default=None, init=False)
    _asking: bool = field(default=False, init=False)
    _asking_events: bool = field(default=False, init=False)
    _seen: list[StatusTree] | str | None = field(default=None, init=False)  # the trees or the error told last
    _newest: bytes | None = field(default=None, init=False)
    _last: int | None = field(default=None, init=False)  # the number of the last event there is; None: not asked yet
    _events_failed: bool = field(default=False, init=False)
    _stopped: bool = field(default=False, init=False)

    @property
    def listeners(self) -> int:
        """How many read now."""
        return len(self._listeners)

    def listen(
        self, request: Any, after: int | None = None, check: Callable[[], object] = lambda: None
    ) -> Deferred[None]:
        """
        Send events to C{request} until it or this ends.

        @param after: begin behind the event of this number; C{None}: with those that are to come.
        @param check: raises L{Refused} when the reader may not have this any more; asked every L{CHECK_S}.
        @return: fires when it has ended.
        @raise LimitReached: there are L{LISTENERS_MAX} already.
        """
        if len(self._listeners) >= LISTENERS_MAX or self._stopped:
            raise LimitReached(f"{len(self._listeners)} readers of events are connected, and no more are served")
        listener = _Listener(request, self.clock, self._last if after is None else after, self._catch_up, check)
        listener.checked_at = self.clock.seconds()
        self._listeners.append(listener)

        def gone(_: object) -> None:
            listener.gone = True
            self._listeners.remove(listener)
            if not self._listeners:
                self._rest()

        request.notifyFinish().addBoth(gone)
        request.registerProducer(listener, True)
        listener.write(b"retry: 1000\n\n")
        if self._newest is not None:
            listener.offer_status(self._newest)
        if self._turning is None:
            self._turn()
        else:
            self._catch_up(listener)
        ended: Deferred[None] = request.notifyFinish()
        return ended.addErrback(lambda _: None)  # that the reader went away is how it ends

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
        self._newest, self._seen, self._last = None, None, None

    def _turn(self) -> None:
        self._turning = self.clock.callLater(POLL_S, self._turn)
        now = self.clock.seconds()
        for listener in list(self._listeners):
            listener.keep_alive(now)
        if not self._asking:
            self._asking = True
            self.admin.status().addCallbacks(self._told, self._failed).addBoth(self._answered)
        if not self._asking_events:
            self._asking_events = True
            after = self._last
            self.admin.events(after or 0).addCallback(self._happened, after).addBoth(self._heard)

    # -- how everything is

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
        self._newest = _message(kind, value)
        for listener in list(self._listeners):
            listener.offer_status(self._newest)

    # -- what happens

    def _happened(self, events: list[Event], after: int | None) -> None:
        """
        There are new ones, maybe.

        @param after: the number they were asked from; C{None}: all there are.
        """
        self._last = events[-1].number if events else (after or 0)
        for listener in list(self._listeners):
            if listener.position is None:
                listener.position = self._last
            elif listener.position == after and not listener.fetching:
                listener.offer_events(list(events))
            else:
                self._catch_up(listener)

    def _heard(self, result: object) -> None:
        self._asking_events = False
        failed = isinstance(result, Failure)
        if isinstance(result, Failure) and not self._events_failed and not result.check(DSTError):
            _log.failure("the events could not be had", result)  # a DSTError is told with the status
        self._events_failed = failed
        if not self._listeners:
            self._last = None

    def _catch_up(self, listener: _Listener) -> None:
        """One who is behind gets what it has missed, from the journal."""
        if listener.position is None or listener.position == self._last or listener.fetching or listener.gone:
            return
        listener.fetching = True

        def fetched(result: list[Event] | Failure) -> None:
            listener.fetching = False
            if not isinstance(result, Failure):
                listener.offer_events(list(result))
            elif not result.check(DSTError):
                _log.failure("the events could not be had", result)

        self.admin.events(listener.position).addBoth(fetched)
