"""
One connection to a foreign NBD server: a handshake, then requests and their replies.

What is asked in one turn of the reactor is sent with one call, and what one wake-up brings is handed out in one go,
so that many small requests cost few system calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from dst.errors import DeadlinePassed, DSTError, IncarnationChanged, LimitReached, PeerError, Unavailable
from dst.interfaces import Buffer
from dst.nbd.client_handshake import ClientHandshake, Served
from dst.nbd.constants import CMD_BLOCK_STATUS, CMD_DISC, CMD_READ
from dst.nbd.replies import Reply, ReplyParser, encode_request
from dst.security.reasons import why_lost
from dst.transport.stream import Stream, receive_bytes_after, stream_over
from dst.transport.tls_stream import GatheringTLS

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IOpenSSLClientConnectionCreator, IReactorTime

__all__ = ["NBDConnection"]

REQUESTS_MAX: Final = 256
"""Requests that the server has at a time; more than servers work on at once, so that they are never idle."""

BYTES_MAX: Final = 64 * 1024 * 1024
"""Data of these requests: two of the largest size."""

QUEUED_MAX: Final = 16384
"""Requests that wait for their turn; who asks for more has no limit of his own."""

_IDEMPOTENT: Final = frozenset({CMD_READ, CMD_BLOCK_STATUS})

_Request: TypeAlias = tuple[int, int, int, int, Buffer | None, Deferred[Any], float]
"""Command, flags, offset, length, data, who waits, and since when."""


class NBDConnection(Protocol):
    """
    The client's end.

    @ivar served: what the server offers; set when L{ready} fires.
    @ivar hole: see L{dst.transport.stream.IStreamUser}.
    """

    hole: memoryview | None = None

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        export: str,
        deadline_s: float,
        lost: Callable[[NBDConnection, DSTError], None],
        tls: IOpenSSLClientConnectionCreator | None = None,
    ) -> None:
        """
        @param name: the node's, for sentences.
        @param deadline_s: a request that is not answered in this time ends the connection: NBD knows no other way to
            take it back.
        @param lost: called once when a connection that was ready is gone, before what is in flight fails.
        @param tls: demand TLS.
        """
        self.served = Served()
        self.ready: Deferred[NBDConnection] = Deferred(lambda _: self._abort())
        self._clock = clock
        self._name = name
        self._deadline_s = deadline_s
        self._lost = lost
        self._tls = tls
        self._handshake: ClientHandshake | None = ClientHandshake(export, tls is not None)
        self._stream: Stream | None = None
        self._parser: ReplyParser | None = None
        self._in_flight: dict[int, _Request] = {}
        self._bytes = 0
        self._queue: deque[_Request] = deque()
        self._cookie = 0
        self._out: list[Buffer] = []
        self._turn: IDelayedCall | None = None
        self._watch: IDelayedCall | None = None
        self._idle: list[Deferred[None]] = []
        self._gone: list[Deferred[None]] = []
        self._is_gone = False
        self._reason: DSTError | None = None

    # What Twisted calls

    def connectionMade(self) -> None:
        assert self.transport is not None
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpKeepAlive(True)
        self._stream = stream_over(self.transport, self)

    def dataReceived(self, data: bytes) -> None:
        try:
            if self._parser is not None:
                replies = self._parser.feed(data)
                assert self._stream is not None
                self._stream.receive_bytes = receive_bytes_after(len(data), len(replies))
            else:
                replies = self._negotiate(data)
        except DSTError as error:
            self.end(error)
            return
        self._take(replies)

    def hole_filled(self, count: int) -> None:
        """See L{dst.transport.stream.IStreamUser}."""
        assert self._parser is not None
        try:
            replies = self._parser.filled(count)
        except PeerError as error:
            self.end(error)
            return
        self._take(replies)

    def drained(self) -> None:
        """See L{dst.transport.stream.IStreamUser}."""
        self._schedule()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_gone = True
        if self._stream is not None:
            self._stream.close()
        words = why_lost(self.transport, reason) or reason.getErrorMessage()
        why = f"the connection to its NBD server was lost: {words}"
        self._fail_all(self._reason or Unavailable(f"{self._name}: {why}"))
        gone, self._gone = self._gone, []
        for each in gone:
            each.callback(None)

    # What the node asks

    def request(
        self, command: int, flags: int, offset: int, length: int, data: Buffer | None = None
    ) -> Deferred[Any]:
        """
        Ask the server.

        @return: what came of it, as in L{dst.nbd.replies.Reply}; an error fails it.
        """
        if self._reason is not None or self._is_gone:
            return fail(self._reason or Unavailable(f"{self._name}: the connection to its NBD server is gone"))
        if len(self._queue) >= QUEUED_MAX and command in _IDEMPOTENT:
            # Others are not refused: a mirror has to do without a member that refuses what the others have done.
            return fail(LimitReached(f"{self._name} has {QUEUED_MAX} requests waiting; ask for less at a time"))
        answer: Deferred[Any] = Deferred()
        self._queue.append((command, flags, offset, length, data, answer, self._clock.seconds()))
        if self._turn is None:
            self._schedule()
        return answer

    def idle(self) -> Deferred[None]:
        """Fires when nothing is in flight."""
        if not self._in_flight and not self._queue:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def gone(self) -> Deferred[None]:
        """Fires when the connection is closed."""
        if self._is_gone:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        return gone

    def disconnect(self) -> None:
        """Say goodbye and close; nothing may be in flight."""
        if self._is_gone or self.transport is None:
            return
        if self._stream is not None and self._parser is not None:
            self._stream.send([encode_request(CMD_DISC, 0, self._cookie, 0, 0)])
        self.transport.loseConnection()

    def end(self, error: DSTError) -> None:
        """Cut the connection; what is in flight fails with C{error}."""
        self._fail_all(error)
        self._abort()

    # The handshake

    def _negotiate(self, data: bytes) -> list[Reply]:
        handshake = self._handshake
        if handshake is None or self._stream is None:
            return []
        handshake.receive(data)
        if handshake.outgoing:
            self._stream.send(handshake.outgoing)
            handshake.outgoing = []
        if handshake.starting_tls:
            self._start_tls(handshake)
        if handshake.served is None:
            return []
        self.served = handshake.served
        self._handshake = None
        self._parser = ReplyParser(self._name, self.served.structured, self.served.context_id)
        replies = self._parser.feed(handshake.rest)  # a server that says something unasked is found out here
        self.ready.callback(self)
        return replies

    def _start_tls(self, handshake: ClientHandshake) -> None:
        """Put TLS between this connection and its transport."""
        assert self.transport is not None and self._stream is not None and self._tls is not None
        if self._stream.congested:
            raise PeerError(f"{self._name}: its NBD server agreed to TLS before it had read that it was asked")
        self._stream.release()
        factory = TLSMemoryBIOFactory(self._tls, True, ServerFactory(), self._clock)
        tls = GatheringTLS(factory, self, False)  # type: ignore[no-untyped-call]
        cast(Any, self.transport).protocol = tls
        plain, self.transport = self.transport, tls
        tls.makeConnection(plain)
        self._stream = stream_over(tls, self)
        handshake.secured()
        self._stream.send(handshake.outgoing)
        handshake.outgoing = []

    # Requests and replies

    def _schedule(self) -> None:
        if self._turn is None and self._parser is not None:
            self._turn = self._clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        self._send_queued()

    def _send_queued(self) -> None:
        queue, in_flight, out = self._queue, self._in_flight, self._out
        assert self._stream is not None and self._parser is not None
        while queue and len(in_flight) < REQUESTS_MAX:
            request = queue[0]
            command, flags, offset, length, data, _answer, _since = request
            held = length if data is not None or command == CMD_READ else 0
            if self._bytes and self._bytes + held > BYTES_MAX:
                break
            queue.popleft()
            self._cookie = cookie = self._cookie + 1
            self._bytes += held
            in_flight[cookie] = request
            self._parser.expect(cookie, command, offset, length)
            out.append(encode_request(command, flags, cookie, offset, length))
            if data is not None:
                out.append(data)
        if out:
            self._out = []
            self._stream.send(out)
        if in_flight and self._watch is None:
            self._watch = self._clock.callLater(self._deadline_s, self._look)

    def _take(self, replies: list[Reply]) -> None:
        in_flight = self._in_flight
        for cookie, result in replies:
            request = in_flight.pop(cookie, None)
            if request is None:
                return  # one of the answers before made somebody end this connection
            command, _, _, length, data, answer, _ = request
            if data is not None or command == CMD_READ:
                self._bytes -= length
            if isinstance(result, DSTError):
                answer.errback(Failure(result))
            else:
                answer.callback(result)
        if self._parser is None or self._reason is not None:
            return
        self.hole = self._parser.hole
        if self._queue and self._turn is None:
            self._schedule()
        if not in_flight and not self._queue:
            self._became_idle()

    def _became_idle(self) -> None:
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)

    def _look(self) -> None:
        """The oldest request is the first: see how old it is, or when to look again."""
        self._watch = None
        if not self._in_flight:
            return
        age_s = self._clock.seconds() - next(iter(self._in_flight.values()))[-1]
        if age_s < self._deadline_s:
            self._watch = self._clock.callLater(self._deadline_s - age_s, self._look)
            return
        command = f"{len(self._in_flight)} requests in flight"
        why = f"{self._name}: its NBD server answered nothing for {age_s:.0f} s ({command}); the connection was ended"
        self.end(DeadlinePassed(why))

    def _fail_all(self, error: DSTError) -> None:
        """There will be no more answers."""
        if self._reason is not None:
            return
        self._reason = error
        self.hole = None
        for timer in (self._turn, self._watch):
            if timer is not None:
                timer.cancel()
        self._turn = self._watch = None
        if self._parser is None:
            if not self.ready.called:
                self.ready.errback(Failure(error))
            return
        self._lost(self, error)
        requests = [*self._in_flight.values(), *self._queue]
        self._in_flight.clear()
        self._queue.clear()
        self._out = []
        changes = IncarnationChanged(f"{error.message}; whether it was done is not known")
        for command, _, _, _, _, answer, _ in requests:
            answer.errback(Failure(error if command in _IDEMPOTENT else changes))
        self._became_idle()

    def _abort(self) -> None:
        if self.transport is not None and not self._is_gone:
            cast(ITCPTransport, self.transport).abortConnection()
