# mypy: disallow-untyped-calls=False
# (the HTTP server of Twisted has no annotations)
"""
The connections of the REST interface, and what each may cost.

Twisted's HTTP server bounds the head of a request, but not its body, not the number of
connections, and not the time that a client takes which sends one byte a second.  This does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request, Site

from dst.admin.answers import write_refusal
from dst.admin.guard import Refusal
from dst.admin.rest import AdminResource, Gate, everybody
from dst.admin.routes.wanting import CONFIGURATION_BYTES_MAX
from dst.admin.schema import BODY_BYTES_MAX
from dst.errors import LimitReached
from dst.transport.peers import Crowd

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = [
    "CONNECTIONS_MAX",
    "CONNECTIONS_PER_ADDRESS_MAX",
    "DRAIN_BYTES_MAX",
    "IDLE_S_MAX",
    "LARGE_BODIES_MAX",
    "RECEIVE_S_MAX",
    "TURNED_AWAY_MAX",
    "AdminSite",
    "make_site",
]

CONNECTIONS_MAX = 128
"""Some browsers keep six each; beyond that it is somebody's mistake or malice."""

CONNECTIONS_PER_ADDRESS_MAX = 32
"""A few browsers and scripts on one machine; one that takes more does not keep the others out."""

TURNED_AWAY_MAX = 32
"""Connections that are told that there are too many, at a time; beyond that they are closed without a word."""

IDLE_S_MAX = 30.0
"""A connection that says nothing for so long, outside of an answer, is closed."""

RECEIVE_S_MAX = 60.0
"""A request must be complete so long after the one before it was answered, however steadily it drips in."""

CLOSE_S_MAX = 2.0
"""How long the last bytes of answers may take when the daemon stops, or when there is no room for a client."""

LARGE_BODIES_MAX = 4
"""Requests at a time whose body is longer than most: a configuration is put by one person at a time."""

DRAIN_BYTES_MAX = 2 * 1024 * 1024
"""
A body that is too long is read to its end and dropped up to here, because a client that is still sending when
the connection closes never reads why.  Beyond it the connection is closed.
"""


class AdminRequest(Request):
    """
    A request whose body is bounded: what most carry is little, and few may carry more at a time.
    """

    _body_bytes = 0
    _dropped: Refusal | None = None

    def gotLength(self, length: int | None) -> None:
        """The body goes to memory."""
        super().gotLength(min(length or 0, BODY_BYTES_MAX))
        if length is not None and length > DRAIN_BYTES_MAX:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep what is allowed, drop the rest."""
        self._body_bytes += len(data)
        if self._body_bytes > CONFIGURATION_BYTES_MAX:
            self._dropped = _too_long()
        elif self._body_bytes > BODY_BYTES_MAX and self._dropped is None and not self._may_be_large():
            self._dropped = _too_many_large()
        if self._dropped is None:
            super().handleContentChunk(data)
        elif self._body_bytes > DRAIN_BYTES_MAX:
            self._refuse_body()

    def process(self) -> None:
        """Answer, now that all of it is here."""
        if self._dropped is not None:
            write_refusal(self, self._dropped)
            return
        super().process()

    def _may_be_large(self) -> bool:
        """Take one of the few places, until the request ends in whatever way."""
        channel: Any = self.channel
        places: set[AdminRequest] = channel.site.large_bodies
        if self in places:
            return True
        if len(places) >= LARGE_BODIES_MAX:
            return False
        places.add(self)
        self.notifyFinish().addBoth(lambda _: places.discard(self))
        return True

    def _refuse_body(self) -> None:
        """The answer cannot wait for the end of the body."""
        channel: Any = self.channel
        channel.transport.write(
            b"HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        channel.loseConnection()


def _too_long() -> Refusal:
    return Refusal(
        413, LimitReached(f"the body has more than the {CONFIGURATION_BYTES_MAX} bytes allowed"), "send a shorter one"
    )


def _too_many_large() -> Refusal:
    sentence = f"{LARGE_BODIES_MAX} requests with a body of more than {BODY_BYTES_MAX} bytes are there already"
    return Refusal(429, LimitReached(sentence), "ask again in a moment", (("Retry-After", "1"),))


class AdminChannel(HTTPChannel):
    """A connection that has only so long to say what it wants."""

    site: AdminSite
    transport: Any
    address: IAddress | None = None
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """A client has connected."""
        self.site.channels.add(self)
        self._expect_request()
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """
        Something came; nothing that comes once the connection is being closed is looked at.

        With TLS it still comes then, and what has ended a request would be followed by half of one.
        """
        if not getattr(self.transport, "disconnecting", False):
            super().dataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line without an end: say so, and close. Twisted's own way waits for ever with TLS, for a producer."""
        self._respondToBadRequestAndDisconnect()

    def allContentReceived(self) -> None:
        """A request is complete."""
        self._expect_nothing()
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """A request was answered; there may be another one, which may be here already."""
        if self.persistent:
            self._expect_request()
        super().requestDone(request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        self._expect_nothing()
        super().connectionLost(reason)
        self.site.channel_gone(self)

    def _expect_request(self) -> None:
        self._expect_nothing()
        self._deadline = self.site.reactor.callLater(RECEIVE_S_MAX, self._too_slow)

    def _expect_nothing(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self.transport.abortConnection()


class _Full(Protocol):
    """
    Tells a client that there are too many, if it listens at once.

    With TLS nothing can be said before the client has done its part, and one that never does would stay for ever.
    """

    def __init__(self, site: AdminSite) -> None:
        self._site = site
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self._site.turned_away.add(self)
        self._deadline = self._site.reactor.callLater(CLOSE_S_MAX, self.cut)
        self.transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
        )
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()

    def cut(self) -> None:
        """It had its time."""
        self._forget()
        cast("Any", self.transport).abortConnection()

    def _forget(self) -> None:
        self._site.turned_away.discard(self)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()


class AdminSite(Site):
    """
    The REST interface as a factory for an endpoint to listen with.

    When the port stops listening every connection is closed, and no timer is left.

    @ivar channels: the connections there are.
    @ivar turned_away: those that are told that there are too many.
    @ivar large_bodies: the requests whose body takes more memory than most may.
    """

    protocol = AdminChannel  # type: ignore[assignment]  # plain HTTP/1.1, with no proxy that chooses a version

    def __init__(self, resource: AdminResource, clock: IReactorTime) -> None:
        super().__init__(resource, AdminRequest, parsePOSTFormSubmission=False, timeout=IDLE_S_MAX, reactor=clock)
        self.channels: set[AdminChannel] = set()
        self.turned_away: set[_Full] = set()
        self.large_bodies: set[AdminRequest] = set()
        self.stopped = False
        self._crowd = Crowd(CONNECTIONS_PER_ADDRESS_MAX)
        self._closing: list[Deferred[None]] = []
        self._aborting: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A connection, or a word of apology."""
        if len(self.channels) >= CONNECTIONS_MAX or self.stopped or not self._crowd.enter(addr):
            return _Full(self) if len(self.turned_away) < TURNED_AWAY_MAX and not self.stopped else None
        channel = super().buildProtocol(addr)
        channel.address = addr
        return channel

    def startFactory(self) -> None:
        """Nothing: there is no access log file, and so no clock for its dates."""
        self.stopped = False

    def stopFactory(self) -> None:
        """The port is closed, so the connections are."""
        self.close()

    def close(self) -> Deferred[None]:
        """
        Let everybody go; one who does not read to the end has L{CLOSE_S_MAX}.

        @return: fires when no connection and no timer is left.
        """
        self.stopped = True
        self.resource.feed.stop()
        for each in list(self.turned_away):
            each.cut()
        if not self.channels:
            return succeed(None)
        if self._aborting is None:
            self._aborting = self.reactor.callLater(CLOSE_S_MAX, self._abort)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        for channel in list(self.channels):
            channel.loseConnection()
        return closed

    def _abort(self) -> None:
        self._aborting = None
        for channel in list(self.channels):
            channel.transport.abortConnection()

    def channel_gone(self, channel: AdminChannel) -> None:
        """A connection has ended."""
        self.channels.discard(channel)
        self._crowd.leave(channel.address)
        if not self.channels:
            if self._aborting is not None:
                self._aborting.cancel()
                self._aborting = None
            waiting, self._closing = self._closing, []
            for closed in waiting:
                closed.callback(None)

    def log(self, request: Any) -> None:
        """Nothing: what changes something is logged where it is done."""


def make_site(
    admin: IClusterAdmin,
    *,
    clock: IReactorTime,
    hosts: Collection[str] = (),
    now: Callable[[], float] = time.time,
    gate: Gate = everybody,
) -> AdminSite:
    """
    C{admin} over HTTP, with the web page.

    @param hosts: names under which the daemon is reached, besides addresses and C{localhost}.
    @param now: seconds of the epoch, for people.
    @param gate: says who may have what.
    """
    return AdminSite(AdminResource(admin, clock, hosts=hosts, now=now, gate=gate), clock)
