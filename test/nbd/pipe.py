"""
Two transports joined in memory, driven by a clock: bytes arrive in a later turn, in pieces, and whoever writes too
much is paused.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IConsumer, IPushProducer, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

BUFFER_BYTES = 64 * 1024
"""More than this unsent pauses a producer, as in Twisted."""


@implementer(ITransport, IConsumer, IPushProducer)
class PipeTransport:
    """One end.  Set C{piece_bytes} to choose how much arrives at a time, and C{stuck} to let nothing arrive."""

    def __init__(self, clock: Clock, piece_bytes: int = 1 << 16) -> None:
        self.clock = clock
        self.piece_bytes = piece_bytes
        self.peer: PipeTransport
        self.protocol: Any = None
        self.unsent = bytearray()
        self.sent_bytes = 0
        self.writes = 0
        self.stuck = False
        self.reading = True
        self.disconnecting = False
        self.gone = False
        self._producer: Any = None
        self._paused = False
        self._moving = False

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes), type(data)
        if self.gone or self.disconnecting:
            return
        self.writes += 1
        self.unsent += data
        if self._producer is not None and not self._paused and len(self.unsent) > BUFFER_BYTES:
            self._paused = True
            self._producer.pauseProducing()
        self.move()

    def writeSequence(self, buffers: list[bytes]) -> None:
        self.write(b"".join(buffers))

    def move(self) -> None:
        """Let something arrive in a later turn."""
        if not self._moving:
            self._moving = True
            self.clock.callLater(0, self._move)

    def _move(self) -> None:
        self._moving = False
        if self.gone or self.stuck or not self.peer.reading:
            return
        if self.unsent:
            piece = bytes(self.unsent[: self.piece_bytes])
            del self.unsent[: self.piece_bytes]
            self.sent_bytes += len(piece)
            self.peer.protocol.dataReceived(piece)
            if self.gone:
                return
        if self.unsent:
            self.move()
            return
        if self._paused:
            self._paused = False
            self._producer.resumeProducing()
        if self.unsent:
            self.move()
        elif self.disconnecting:
            self.lose(ConnectionDone())

    def lose(self, reason: Exception, peers: Exception | None = None) -> None:
        """The connection ends now, on both sides."""
        if self.gone:
            return
        self.gone = self.peer.gone = True
        for end, why in ((self, reason), (self.peer, peers or ConnectionDone())):
            end.unsent.clear()
            if end._producer is not None:
                end._producer.stopProducing()
            end.protocol.connectionLost(Failure(why))

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.move()

    def abortConnection(self) -> None:
        self.disconnecting = True
        self.clock.callLater(0, self.lose, ConnectionAborted(), ConnectionLost())

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        self.peer.move()

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming and self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 40000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 10809)


def join(clock: Clock, one: Any, other: Any, piece_bytes: int = 1 << 16) -> tuple[PipeTransport, PipeTransport]:
    """Connect two protocols; both are told before this returns."""
    ends = PipeTransport(clock, piece_bytes), PipeTransport(clock, piece_bytes)
    for end, peer, protocol in ((ends[0], ends[1], one), (ends[1], ends[0], other)):
        end.peer, end.protocol = peer, protocol
    other.makeConnection(ends[1])
    one.makeConnection(ends[0])
    return ends


@implementer(IStreamClientEndpoint)
class PipeEndpoint:
    """
    Reaches the server that C{factory} makes.

    @ivar refusing: nobody listens.
    @ivar transports: the client's end of every connection made.
    """

    def __init__(self, clock: Clock, factory: Factory, piece_bytes: int = 1 << 16) -> None:
        self.clock = clock
        self.factory = factory
        self.piece_bytes = piece_bytes
        self.refusing = False
        self.transports: list[PipeTransport] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        server = None if self.refusing else self.factory.buildProtocol(None)
        if server is None:
            return fail(ConnectionRefusedError())
        client = factory.buildProtocol(None)
        self.transports.append(join(self.clock, client, server, self.piece_bytes)[0])
        return succeed(client)
