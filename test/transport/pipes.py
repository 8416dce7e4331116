"""
Connections in virtual time, that fragment, hold back, stall and break.

Unlike C{iosim} they pause a producer that writes more than fits, and deliver as little at a
time as a test wants.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(ITransport, IConsumer, IPushProducer)
class PipeEnd:
    """
    The transport of one end.

    @ivar sent: everything that was ever written here.
    @ivar unread_bytes: what waits to be taken by the other end.
    """

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.protocol: IProtocol | None = None
        self.peer: PipeEnd
        self.sent = bytearray()
        self.buffer = bytearray()
        self.producer: IPushProducer | None = None
        self.producer_paused = False
        self.reading_paused = False
        self.disconnecting = False
        self.connected = True
        self.deliveries = 0

    @property
    def unread_bytes(self) -> int:
        return len(self.buffer)

    def write(self, data: bytes) -> None:
        if not self.connected or self.disconnecting:
            return
        self.sent += data
        self.buffer += data
        self.pipe.schedule()
        if self.producer is not None and not self.producer_paused and len(self.buffer) > self.pipe.capacity_bytes:
            self.producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert streaming and self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self.pipe.schedule()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.pipe.schedule()

    def abortConnection(self) -> None:
        if self.connected:
            self.buffer.clear()
            self.close(ConnectionAborted(), ConnectionLost())

    def pauseProducing(self) -> None:
        self.reading_paused = True

    def resumeProducing(self) -> None:
        self.reading_paused = False
        self.pipe.schedule()

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> object:
        return None

    getHost = getPeer

    def deliver(self) -> None:
        """Let the other end have some of what was written here."""
        if self.pipe.stalled or not self.connected:
            return
        peer = self.peer
        if self.buffer and not peer.reading_paused and peer.protocol is not None:
            piece = bytes(self.buffer[: self.pipe.fragment_bytes])
            del self.buffer[: len(piece)]
            self.deliveries += 1
            peer.protocol.dataReceived(piece)
            if (
                self.producer is not None
                and self.producer_paused
                and len(self.buffer) <= self.pipe.capacity_bytes // 2
            ):
                self.producer_paused = False
                self.producer.resumeProducing()
        if self.buffer:
            if not peer.reading_paused:
                self.pipe.schedule()
        elif self.disconnecting and self.producer is None and self.connected:
            self.close(ConnectionDone(), ConnectionDone())

    def close(self, reason: Exception, peer_reason: Exception) -> None:
        for end, why in ((self, reason), (self.peer, peer_reason)):
            if end.connected:
                end.connected = False
                self.pipe.clock.callLater(0, end.lost, why)

    def lost(self, reason: Exception) -> None:
        if self.producer is not None:
            self.producer.stopProducing()
        assert self.protocol is not None
        self.protocol.connectionLost(Failure(reason))


class Pipe:
    """
    One connection.

    @ivar fragment_bytes: the most that arrives at once.
    @ivar capacity_bytes: what a side may write before its producer is paused.
    @ivar stalled: nothing arrives any more, and nobody is told.
    """

    def __init__(self, clock: Clock, fragment_bytes: int = 1 << 20, capacity_bytes: int = 1 << 18) -> None:
        self.clock = clock
        self.fragment_bytes = fragment_bytes
        self.capacity_bytes = capacity_bytes
        self.stalled = False
        self.scheduled = False
        self.client = PipeEnd(self)
        self.server = PipeEnd(self)
        self.client.peer, self.server.peer = self.server, self.client

    def schedule(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.clock.callLater(0, self.turn)

    def turn(self) -> None:
        self.scheduled = False
        self.client.deliver()
        self.server.deliver()

    def cut(self) -> None:
        """Break it: what was not delivered is lost."""
        if self.client.connected:
            self.client.buffer.clear()
            self.server.buffer.clear()
            self.client.close(ConnectionLost(), ConnectionLost())

    def stall(self, stalled: bool = True) -> None:
        self.stalled = stalled
        self.schedule()


@implementer(IStreamClientEndpoint)
@define(eq=False)
class PipeEndpoint:
    """
    Connects to C{server} in virtual time.

    @ivar refusing: no connection is made.
    @ivar pipes: all that were made, the newest last.
    """

    clock: Clock
    server: Callable[[], IProtocol | None]
    fragment_bytes: int = 1 << 20
    capacity_bytes: int = 1 << 18
    refusing: bool = False
    pipes: list[Pipe] = field(factory=list)

    @property
    def pipe(self) -> Pipe:
        return self.pipes[-1]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        server = None if self.refusing else self.server()
        if server is None:
            return fail(ConnectionRefusedError())
        client = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        assert client is not None
        pipe = Pipe(self.clock, self.fragment_bytes, self.capacity_bytes)
        self.pipes.append(pipe)
        pipe.client.protocol, pipe.server.protocol = client, server
        server.makeConnection(pipe.server)  # type: ignore[arg-type]
        client.makeConnection(pipe.client)  # type: ignore[arg-type]
        return succeed(client)
