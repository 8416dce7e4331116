"""
A client's session: one connection to one export, from the answer to its hello to its end.

L{connect_session} is the only way to get one.  It says hello inside of the attempt to connect, so that
"connected" means "the server has opened the export for us", and whoever retries connections retries that too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import PeerError, Unavailable
from dst.security.reasons import why_lost
from dst.status import Status
from dst.transport.connection import FrameConnection
from dst.wire.bodies import decode_error
from dst.wire.framing import request_header
from dst.wire.handshake import Configuration, Hello, decode_configuration, encode_hello
from dst.wire.messages import ANSWER, DATA_BYTES_MAX, NOTICE_FIRST, Frame, Operation

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["ClientSession", "SessionOwner", "connect_session"]

_log = Logger()

_HELLO_ID = _PING_ID = (1 << 64) - 1
"""Neither is a transaction's: those count from 1."""


_SILENT_PERIODS_MAX = 2
"""One would cut a server that stood still for a moment when its answer was due."""


class SessionOwner(Protocol):
    """Who is told what happens in a session."""

    def answered(self, frame: Frame) -> None:
        """The answer to a request. @raise PeerError: it makes no sense."""

    def turn_ended(self) -> None:
        """All answers that arrived together were told, or the server reads again: send what waits."""

    def configuration_changed(self, configuration: Configuration) -> None:
        """The server says that the device is different now."""

    def session_lost(self, reason: str) -> None:
        """The session ended, by itself or by L{ClientSession.cut}; called once, and nothing after it."""


class ClientSession(FrameConnection):
    """
    @ivar configuration: what the server answered to the hello.
    @ivar owner: set by the one who is given the session, before any answer can arrive.
    """

    configuration: Configuration
    owner: SessionOwner | None = None

    def __init__(self, clock: IReactorTime, hello: Hello, keepalive_s: float) -> None:
        super().__init__(clock)
        self.ready: Deferred[ClientSession] = Deferred(
            lambda _: self.cut("the server did not answer the hello in time")
        )
        self._hello = hello
        self._keepalive_s = keepalive_s
        self._seen: tuple[int, int] = (0, 0)
        self._silent_periods = 0
        self._timer: IDelayedCall | None = None
        self._timer_due = 0.0
        self._reason = ""
        self._closed: list[Deferred[None]] = []
        self._over = False

    def cut(self, reason: str) -> None:
        """End it now, from this side; the owner is told C{reason} when it is closed."""
        self._reason = self._reason or reason
        self.abort()

    def leave(self) -> Deferred[None]:
        """Close it without telling the owner; fires when it is closed, which takes a second at most."""
        self.owner = None
        closed: Deferred[None] = Deferred()
        if self._over:
            closed.callback(None)
            return closed
        self._closed.append(closed)
        self._stop_timer()
        self.close(1.0)
        return closed

    # FrameConnection

    def connectionMade(self) -> None:
        super().connectionMade()
        data = encode_hello(self._hello)
        self.send(request_header(Operation.HELLO, _HELLO_ID, data=data) + data)

    def frames_received(self, frames: list[Frame]) -> None:
        owner = self.owner
        try:
            for frame in frames:
                kind = frame.kind
                if kind > ANSWER and owner is not None and frame.id != _PING_ID:
                    owner.answered(frame)
                else:
                    self._other(frame)
                    owner = self.owner
                if self.gone:
                    return
        except PeerError as error:
            self.stream_broken(error)
            return
        if owner is not None:
            owner.turn_ended()

    def stream_broken(self, error: PeerError) -> None:
        self.cut(error.message)

    def peer_reads_again(self) -> None:
        if self.owner is not None:
            self.owner.turn_ended()

    def ended(self, reason: Failure) -> None:
        self._over = True
        self._stop_timer()
        why = self._reason or why_lost(self.transport, reason)
        if not why and reason.check(ConnectionDone):
            why = "the server closed the connection"
            if not self.received_bytes and not ISSLTransport.providedBy(self.transport):
                why = "the server closed the connection without a word; if it has TLS, say tls=on in the node's URI"
        why = why or reason.getErrorMessage()
        if not self.ready.called:
            self.ready.errback(Unavailable(why))
        elif self.owner is not None:
            owner, self.owner = self.owner, None
            owner.session_lost(why)
        for closed in self._closed:
            closed.callback(None)
        self._closed.clear()

    # The rest

    def _other(self, frame: Frame) -> None:
        kind = frame.kind
        if not self.ready.called:
            self._greeted(frame)
        elif kind == Operation.PING | ANSWER or kind >= ANSWER:
            pass  # a pong, and whatever comes when nobody wants it any more
        elif kind == Operation.CONFIGURATION:
            if not frame.intact:
                raise PeerError("a configuration arrived damaged")
            configuration = decode_configuration(frame.data)
            if self.owner is not None:
                self.owner.configuration_changed(configuration)
        elif kind == Operation.GOODBYE:
            self._reason = (
                decode_error(frame.status, frame.data).message if frame.status else "the server said goodbye"
            )
            self.abort()
        elif kind < NOTICE_FIRST:
            raise PeerError(f"the server sent a request ({kind}), which only clients do")

    def _greeted(self, frame: Frame) -> None:
        """Take the answer to our hello, which must be the first frame that comes, or a goodbye."""
        if frame.kind == Operation.GOODBYE or (frame.kind == Operation.HELLO | ANSWER and frame.status):
            self.ready.errback(decode_error(frame.status or Status.UNAVAILABLE, frame.data))
            self.abort()
            return
        if frame.kind != Operation.HELLO | ANSWER or frame.id != _HELLO_ID or not frame.intact:
            raise PeerError("what answers is not a DST server, or it did not answer the hello")
        self.configuration = configuration = decode_configuration(frame.data)
        self.parser.data_bytes_max = DATA_BYTES_MAX
        self.parser.checksums = configuration.checksums
        self._keepalive_s = min(self._keepalive_s, configuration.idle_s / 3)
        self._schedule()
        self.ready.callback(self)

    def _schedule(self) -> None:
        self._timer_due = self.clock.seconds() + self._keepalive_s
        self._timer = self.clock.callLater(self._keepalive_s, self._keep_alive)

    def _keep_alive(self) -> None:
        self._timer = None
        # If this comes late it was this process that stood still: what the server sent may lie in the kernel, unread.
        late = self.clock.seconds() - self._timer_due > self._keepalive_s / 2
        seen = (self.received_bytes, self.progress)  # that it takes what we send is a sign of life, too
        if seen != self._seen or late:
            self._silent_periods = 0
        else:
            self._silent_periods += 1
            if self._silent_periods == _SILENT_PERIODS_MAX:
                self.cut(f"the server has been silent for {_SILENT_PERIODS_MAX * self._keepalive_s:g} s")
                return
        self._seen = seen
        # Not only when nothing was heard: the server, too, wants to hear something.
        self.send(request_header(Operation.PING, _PING_ID))
        self._schedule()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def connect_session(
    clock: IReactorTime,
    endpoint: IStreamClientEndpoint,
    hello: Hello,
    *,
    keepalive_s: float,
    make_session: Callable[[IReactorTime, Hello, float], ClientSession] = ClientSession,
) -> Deferred[ClientSession]:
    """
    Connect and say C{hello}.

    @param keepalive_s: how often the server is asked for a sign of life; without any twice in a row it is gone.
    @return: the session; its C{owner} must be set when it is given.  Fails with what the server answered,
        C{Unavailable}, or what the endpoint says.  Cancelling closes the connection.
    """

    factory = Factory.forProtocol(lambda: make_session(clock, hello, keepalive_s))
    factory.noisy = False
    connecting = cast("Deferred[ClientSession]", endpoint.connect(factory))
    return connecting.addCallback(lambda session: session.ready)
