"""Tests of L{dst.transport.tls_stream}: TLS in memory, in pieces of any size, and its ends."""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dst.security.reasons import why_lost
from dst.security.security import Security
from dst.security.tls import behind_tls
from dst.transport import tls_stream
from dst.transport.stream import Stream, stream_over
from dst.transport.tls_records import DIRECT, DirectRecords, OrdinaryRecords
from dst.transport.tls_stream import ENCRYPTED_BYTES, GatheringTLS
from test.security.machines import Machines, World


class End(Protocol):
    """One end; receives the first C{hole_bytes} into a place of its own."""

    stream: Stream

    def __init__(self, hole_bytes: int = 0) -> None:
        self.place = bytearray(hole_bytes)
        self.hole: memoryview | None = memoryview(self.place) if hole_bytes else None
        self.received: list[bytes] = []
        self.drains = 0
        self.lost = ""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.stream = stream_over(self.transport, self)

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def hole_filled(self, count: int) -> None:
        assert self.hole is not None
        self.hole = self.hole[count:] if count < len(self.hole) else None

    def drained(self) -> None:
        self.drains += 1

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.stream.close()
        self.lost = why_lost(self.transport, reason) or str(reason.value)


class Wire(StringTransport):
    """Keeps what was written until somebody takes it; tells its producer to wait when it keeps much."""

    room_bytes = 1 << 30

    def abortConnection(self) -> None:
        self.disconnected = True

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.value()) > self.room_bytes and self.producer is not None:
            self.producer.pauseProducing()

    def take(self, count: int | None = None) -> bytes:
        """What was written, at most C{count} bytes of it."""
        data = self.value()
        taken, rest = (data, b"") if count is None else (data[:count], data[count:])
        self.clear()
        if rest:
            self.io.write(rest)
        elif taken and self.producer is not None:
            self.producer.resumeProducing()
        return taken


class GatheringSuite:
    """What is sent is what arrives, however it is cut."""

    kind: ClassVar[type[OrdinaryRecords] | type[DirectRecords]]

    machines: Machines | None = None
    securities: tuple[Security, Security]

    def setUp(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        self.patch(tls_stream, "records_of", self.kind)
        self.clock = World()
        machines = Machines(self.mktemp())
        machines.add("alpha")
        machines.add("beta")
        self.securities = (machines.security("alpha", self.clock), machines.security("beta", self.clock))

    def connect(self, hole_bytes: int = 0) -> None:
        """Alpha serves beta; the handshake has not begun to move."""
        alpha, beta = self.securities
        self.server, self.client = End(hole_bytes), End()
        door: Any = behind_tls(alpha.server_options(), Factory.forProtocol(lambda: self.server), self.clock)
        self.far = door.buildProtocol(None)
        from dst.security.tls import _Factory

        made = _Factory(beta.client_options("localhost"), True, Factory.forProtocol(lambda: self.client), self.clock)
        self.near: Any = made.buildProtocol(None)
        self.assertIsInstance(self.near, GatheringTLS)
        self.near_wire, self.far_wire = Wire(), Wire()
        self.far.makeConnection(self.far_wire)
        self.near.makeConnection(self.near_wire)

    def move(self, count: int | None = None) -> None:
        """Until nothing moves, in pieces of C{count} bytes."""
        while True:
            there, back = self.near_wire.take(count), self.far_wire.take(count)
            if there:
                self.far.dataReceived(there)
            if back:
                self.near.dataReceived(back)
            if not there and not back:
                return

    def test_before_the_handshake(self) -> None:
        """What is sent before TLS has agreed on anything waits, the stream is congested, and says when it is not."""
        self.connect()
        self.client.stream.send([b"hel", b"lo"])
        self.assertTrue(self.client.stream.congested)
        self.move()
        self.assertEqual(b"hello", b"".join(self.server.received))
        self.assertEqual((False, 1), (self.client.stream.congested, self.client.drains))

    def test_byte_by_byte(self) -> None:
        """Handshake and records are put together from single bytes."""
        self.connect()
        self.client.stream.send([b"hello"])
        self.move(1)
        self.server.stream.send([b"x" * 20000, b"y"])
        self.move(1)
        self.assertEqual(b"hello", b"".join(self.server.received))
        self.assertEqual(b"x" * 20000 + b"y", b"".join(self.client.received))

    def test_any_sizes(self) -> None:
        """Buffers of any sizes, cut anywhere, with and without a place for the first of them."""

        @settings(max_examples=40, deadline=None)
        @given(
            st.lists(st.lists(st.integers(0, 3 * ENCRYPTED_BYTES), max_size=6), max_size=4),
            st.integers(200, 100_000),
            st.integers(0, 2 * ENCRYPTED_BYTES),
        )
        def check(turns: list[list[int]], piece: int, hole_bytes: int) -> None:
            self.connect(hole_bytes)
            self.move()
            generator = random.Random(7)
            sent = b""
            for sizes in turns:
                buffers: list[Any] = [generator.randbytes(size) for size in sizes]
                sent += b"".join(buffers)
                self.client.stream.send(
                    [memoryview(each) if index % 2 else each for index, each in enumerate(buffers)]
                )
            self.move(piece)
            filled = min(len(sent), hole_bytes)
            self.assertTrue(sent == bytes(self.server.place[:filled]) + b"".join(self.server.received))
            self.assertFalse(self.client.stream.congested)

        check()

    def test_together(self) -> None:
        """Records that arrive together are handed on together."""
        self.connect()
        self.move()
        self.client.stream.send([bytes(4096) for _ in range(16)])
        self.move()
        self.assertEqual([65536], [len(each) for each in self.server.received])

    def test_congestion(self) -> None:
        """When the road below is full the stream is congested, and says once when it is free."""
        self.connect()
        self.move()
        self.near_wire.room_bytes = 1000
        before = self.client.stream.progress
        self.client.stream.send([bytes(50_000)])
        self.client.stream.send([b"behind"])
        self.assertEqual((True, 0), (self.client.stream.congested, self.client.drains))
        self.move(3000)
        self.assertEqual((False, 1), (self.client.stream.congested, self.client.drains))
        self.assertNotEqual(before, self.client.stream.progress)
        self.assertTrue(b"".join(self.server.received).endswith(b"\0behind"))

    def test_closed_in_order(self) -> None:
        """Whoever closes first sends what there is; the other end hears all of it, then the end."""
        self.connect()
        self.move()
        self.client.stream.send([bytes(300_000)])
        self.near.loseConnection()
        self.move()
        self.assertEqual(300_000, len(b"".join(self.server.received)))
        self.assertTrue(self.far_wire.disconnecting and self.near_wire.disconnecting)
        for each in (self.far, self.near):
            each.connectionLost(Failure(ConnectionDone()))
        self.assertNotEqual("", self.server.lost)
        self.client.stream.send([b"to nobody"])
        self.near.abortConnection()
        self.assertFalse(self.client.stream.congested)

    def test_given_up(self) -> None:
        """Nothing of OpenSSL is kept for a connection that was lost, and what is sent to it goes nowhere."""
        self.connect()
        self.move()
        kept = weakref.ref(self.near.getHandle())
        gc.disable()
        self.addCleanup(gc.enable)
        self.near.connectionLost(Failure(ConnectionDone()))
        self.client.stream.send([b"to nobody"])
        self.assertEqual((None, b""), (kept(), self.far_wire.take()))

    def test_cut(self) -> None:
        """A connection that is cut in the middle of a record hands on what was whole, and nothing else."""
        self.connect()
        self.move()
        self.client.stream.send([b"whole"])
        self.move()
        self.client.stream.send([bytes(10_000)])
        self.far.dataReceived(self.near_wire.take(5000))
        self.far.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([b"whole"], self.server.received)
        self.assertNotEqual("", self.server.lost)

    def test_damaged(self) -> None:
        """A record that was changed on its way ends the connection; nothing of it is handed on."""
        self.connect()
        self.move()
        self.client.stream.send([b"good"])
        self.move()
        self.client.stream.send([bytes(1000)])
        data = bytearray(self.near_wire.take())
        data[500] ^= 1
        self.far.dataReceived(bytes(data))
        self.assertEqual([b"good"], self.server.received)
        self.assertTrue(self.far_wire.disconnecting)
        self.far.connectionLost(Failure(ConnectionDone()))
        self.assertIn("TLS", self.server.lost)

    def test_release(self) -> None:
        """A stream that was given back is told nothing any more."""
        self.connect()
        self.move()
        self.client.stream.release()
        self.near_wire.room_bytes = 10
        self.near.send_gathered([bytes(1000)])
        self.move()
        self.assertEqual(0, self.client.drains)
        self.assertEqual(1000, len(b"".join(self.server.received)))


class OrdinaryTests(GatheringSuite, SynchronousTestCase):
    """With what pyOpenSSL promises."""

    kind = OrdinaryRecords


class DirectTests(GatheringSuite, SynchronousTestCase):
    """With OpenSSL's own functions."""

    kind = DirectRecords

    def setUp(self) -> None:
        if not DIRECT:
            raise SkipTest("this pyOpenSSL, or the binding below it, is made differently")
        super().setUp()
