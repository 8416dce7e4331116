"""Tests of L{dst.transport.stream} on real sockets."""

from __future__ import annotations

import os
import random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol, serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dst.security.security import Security
from dst.security.tls import TLSEndpoint, behind_tls
from dst.transport.stream import GATHERED_BUFFERS_MAX, RECEIVE_BYTES, Stream, keep_freed_memory, stream_over
from test.security.machines import Machines

KINDS = ("tcp", "unix", "tls", "tls over unix")


class End(Protocol):
    """One end of a connection.  Receives the first C{hole_bytes} into a place of its own."""

    hole: memoryview | None = None
    stream: Stream

    def __init__(self, hole_bytes: int = 0) -> None:
        self.place = bytearray(hole_bytes)
        self.hole = memoryview(self.place) if hole_bytes else None
        self.received: list[bytes] = []
        self.received_bytes = 0
        self.drains = 0
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.stream = stream_over(self.transport, self)
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        self.received_bytes += len(data)

    def hole_filled(self, count: int) -> None:
        assert self.hole is not None
        self.received_bytes += count
        self.hole = self.hole[count:] if count < len(self.hole) else None

    def drained(self) -> None:
        self.drains += 1

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.stream.close()
        self.lost.callback(None)


class StreamTests(TestCase):
    """Over TCP and over UNIX sockets, what is sent is what arrives."""

    timeout = 60
    machines: Machines | None = None

    async def pair(self, kind: str, hole_bytes: int = 0) -> tuple[End, End]:
        """Two ends of a new connection; the second has the hole."""
        from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint

        near, far = End(), End(hole_bytes)
        path = f"/tmp/dst-{os.getpid()}-{random.Random().randrange(1 << 32):08x}"
        where = f"unix:{path}" if "unix" in kind else "tcp:0:interface=127.0.0.1"
        factory: Any = Factory.forProtocol(lambda: far)
        if "tls" in kind:
            factory = behind_tls(self.security("alpha").server_options(), factory, reactor)  # type: ignore[arg-type]
        port = await serverFromString(reactor, where).listen(factory)
        endpoint: IStreamClientEndpoint
        if "unix" not in kind:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        else:
            endpoint = UNIXClientEndpoint(reactor, path)
        if "tls" in kind:
            options = self.security("beta").client_options("localhost")
            endpoint = TLSEndpoint(options, endpoint, reactor)  # type: ignore[arg-type]
        await connectProtocol(endpoint, near)
        await far.made
        if "tls" in kind:
            await self.until(lambda: all(end.transport.getHandle().established for end in (near, far)))

        async def close() -> None:
            await port.stopListening()
            for end in (near, far):
                end.transport.abortConnection()
                if not end.lost.called:
                    await end.lost

        self.addCleanup(close)
        return near, far

    def security(self, name: str) -> Security:
        """The certificates of one of two machines."""
        if self.machines is None:
            self.machines = Machines(self.mktemp())
            self.machines.add("alpha")
            self.machines.add("beta")
        return self.machines.security(name, reactor)

    async def until(self, condition: Any) -> None:
        """Wait for something."""
        for _ in range(2000):
            if condition():
                return
            await deferLater(reactor, 0.005)
        self.fail("it did not happen")

    async def test_everything_arrives(self) -> None:
        """Many buffers of all kinds and sizes, in order, also more than one call may gather."""
        for kind in KINDS:
            near, far = await self.pair(kind)
            generator = random.Random(1)
            sent = []
            for size in (0, 1, 100, 70_000, 3_000_000, 0):
                data = generator.randbytes(size)
                sent.append(data)
                near.stream.send([data[: size // 2], bytearray(data[size // 2 :])])
            many = [memoryview(generator.randbytes(5)) for _ in range(3 * GATHERED_BUFFERS_MAX + 1)]
            near.stream.send(many)
            expected = b"".join([*sent, *many])
            await self.until(lambda far=far, expected=expected: far.received_bytes >= len(expected))
            self.assertTrue(expected == b"".join(far.received), kind)

    async def test_congestion(self) -> None:
        """While the peer does not read the stream is congested, and says once when it is not any more."""
        for kind in KINDS:
            near, far = await self.pair(kind)
            far.transport.pauseProducing()
            near.stream.send([b"small"])
            self.assertFalse(near.stream.congested)
            near.stream.send([bytes(32 << 20)])
            self.assertTrue(near.stream.congested)
            near.stream.send([b"behind"])
            await deferLater(reactor, 0.02)
            self.assertEqual((True, 0), (near.stream.congested, near.drains))
            far.transport.resumeProducing()
            await self.until(lambda far=far: far.received_bytes >= (32 << 20) + 11)
            await self.until(lambda near=near: near.drains)
            self.assertEqual((False, 1), (near.stream.congested, near.drains))
            self.assertGreater(near.stream.progress, 0)
            self.assertTrue(b"".join(far.received).endswith(b"\0behind"))

    async def test_little_at_a_time(self) -> None:
        """Over plain connections no more is moved in a turn than was said, and everything arrives."""
        for kind in ("tcp", "unix"):
            near, far = await self.pair(kind, hole_bytes=50_000)
            near.stream.move_bytes_max = far.stream.move_bytes_max = 1000
            data = random.Random(3).randbytes(50_000)
            near.stream.send([data[:20_000], data[20_000:], b"behind"])
            self.assertTrue(near.stream.congested)
            await self.until(lambda far=far: far.received_bytes >= 50_006)
            self.assertTrue(data == bytes(far.place), kind)
            self.assertEqual(b"behind", b"".join(far.received))
            self.assertEqual(50_006, near.stream.progress)
            self.assertFalse(near.stream.congested)

    async def test_received_at_once(self) -> None:
        """Over plain connections as much is received at once as is wanted; said at any time."""
        for kind in ("tcp", "unix"):
            near, far = await self.pair(kind)
            data = random.Random(4).randbytes(400_000)
            for receive_bytes in (RECEIVE_BYTES, 5_000):
                far.stream.receive_bytes = receive_bytes
                far.received.clear()
                far.transport.pauseProducing()
                near.stream.send([data])
                far.transport.resumeProducing()
                await self.until(lambda far=far: sum(map(len, far.received)) == 400_000)
                self.assertTrue(data == b"".join(far.received), kind)
                self.assertLessEqual(max(map(len, far.received)), receive_bytes)
                self.assertGreater(max(map(len, far.received)), 4_096)

    async def test_hole(self) -> None:
        """What belongs somewhere goes straight there, and what is behind it does not."""
        for kind in KINDS:
            near, far = await self.pair(kind, hole_bytes=2_000_000)
            data = random.Random(2).randbytes(2_000_000)
            near.stream.send([data, b"behind"])
            await self.until(lambda far=far: far.received_bytes >= 2_000_006)
            self.assertTrue(data == bytes(far.place), kind)
            self.assertEqual(b"behind", b"".join(far.received))

    async def test_close_sends_the_rest(self) -> None:
        """A connection that is closed first sends what waits."""
        for kind in KINDS:
            near, far = await self.pair(kind)
            near.stream.send([bytes(20 << 20)])
            near.transport.loseConnection()
            await far.lost
            await near.lost
            self.assertEqual(20 << 20, far.received_bytes)

    async def test_peer_gone(self) -> None:
        """Sending to a peer that is gone ends the connection and raises nothing."""
        for kind in KINDS:
            near, far = await self.pair(kind)
            far.transport.abortConnection()
            await far.lost
            for _ in range(20):
                near.stream.send([bytes(100_000)])
                await deferLater(reactor, 0)
            await near.lost
            near.stream.send([b"to nobody"])
            self.assertFalse(near.stream.congested)


class MemoryTests(TestCase):
    """Asking the C library."""

    def test_keep_freed_memory(self) -> None:
        """It can be asked, more than once; whether it has ears is its own business."""
        self.assertEqual(keep_freed_memory(), keep_freed_memory())
