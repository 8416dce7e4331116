"""The DST server, spoken to by a client that may say anything."""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import MediaError, NotSupported
from dst.exports.dst_server import Limits
from dst.interfaces import Buffer
from dst.nodes.memory import MemoryDevice
from dst.status import LinkState, Status
from dst.wire.bodies import decode_error, decode_extents, decode_names, decode_status
from dst.wire.framing import request_header
from dst.wire.handshake import Configuration, Hello, decode_configuration, encode_hello
from dst.wire.messages import ANSWER, DAMAGED, DATA_BYTES_MAX, Flag, Frame, Operation
from dst.wire.parser import FrameParser
from test.transport.serving import Serving


class RawClient(Protocol):
    """Says what it is told to, and remembers what it hears."""

    def __init__(self) -> None:
        self.parser = FrameParser(DATA_BYTES_MAX)
        self.frames: list[Frame] = []
        self.lost: Failure | None = None
        self.last_id = 0

    def dataReceived(self, data: bytes) -> None:
        self.frames += self.parser.receive(data)
        assert self.parser.broken is None, self.parser.broken

    def connectionLost(self, reason: Failure | None = None) -> None:
        assert reason is not None
        self.lost = reason

    def say(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def ask(self, operation: int, offset: int = 0, length: int = 0, data: bytes = b"", **more: Any) -> int:
        self.last_id += 1
        self.say(request_header(operation, self.last_id, offset, length, data=data, **more) + data)
        return self.last_id

    def answer(self, request_id: int) -> Frame | None:
        """The one answer to a request, if it came."""
        found = [frame for frame in self.frames if frame.id == request_id]
        assert len(found) <= 1, found
        return found[0] if found else None

    def goodbye(self) -> str:
        """The last words of the server."""
        farewells = [frame for frame in self.frames if frame.kind == Operation.GOODBYE]
        return decode_error(farewells[-1].status, farewells[-1].data).message if farewells else ""


class ServerCase(SynchronousTestCase):
    limits: Limits | None = None
    serving_type = Serving

    def setUp(self) -> None:
        self.serving = self.serving_type(limits=self.limits)
        self.clock = self.serving.clock
        self.device = self.serving.device
        self.tokens = Random(3)

    def tearDown(self) -> None:
        """When all clients have gone and the device has done everything, nothing is left: no timer, no byte."""
        for pipe in self.serving.endpoint.pipes:
            pipe.cut()
        self.device.release()
        self.serving.wait(6)
        self.assertEqual(0, self.serving.server.memory.taken)
        self.assertEqual([], [str(call) for call in self.clock.getDelayedCalls()])
        self.assertEqual(0, len(self.device._observers))

    def connect(self) -> RawClient:
        connected: list[IProtocol] = []
        self.serving.endpoint.connect(Factory.forProtocol(RawClient)).addCallback(connected.append)
        (client,) = connected
        assert isinstance(client, RawClient)
        return client

    def hello(self, export: str = "vol", **more: Any) -> Hello:
        values: dict[str, Any] = {"token": self.tokens.randbytes(16), "attempt": 1, "client": "raw", "export": export}
        return Hello(**values | more)

    def open(self, export: str = "vol", hello: Hello | None = None) -> RawClient:
        client = self.connect()
        data = encode_hello(hello or self.hello(export))
        client.ask(Operation.HELLO, data=data)
        self.serving.turn()
        return client

    def configuration(self, client: RawClient) -> Configuration:
        frame = client.frames[0]
        self.assertEqual((Operation.HELLO | ANSWER, 0), (frame.kind, frame.status), bytes(frame.data))
        return decode_configuration(frame.data)

    def do(self, client: RawClient, operation: int, offset: int = 0, length: int = 0, **more: Any) -> Frame:
        """Ask, and the answer."""
        request_id = client.ask(operation, offset, length, **more)
        self.serving.turn()
        answer = client.answer(request_id)
        assert answer is not None, "no answer came"
        self.assertEqual(operation | ANSWER, answer.kind)
        return answer

    def content(self, offset: int = 0, length: int = 512) -> bytes:
        return bytes(self.serving.result(self.serving.memory.read(offset, length)))

    def assert_serves(self, client: RawClient) -> None:
        """The connection is in order."""
        self.assertEqual(0, self.do(client, Operation.PING).status)
        self.assertIsNone(client.lost)


class RequestTests(ServerCase):
    """Every operation, asked properly."""

    def test_configuration(self) -> None:
        """The answer to the hello says what the device is like and what is allowed."""
        configuration = self.configuration(self.open())
        self.assertEqual(self.device.geometry, configuration.geometry)
        self.assertEqual(self.device.incarnation, configuration.incarnation)
        self.assertEqual(
            (256, 32 << 20, 60), (configuration.requests_max, configuration.bytes_max, configuration.idle_s)
        )

    def test_operations(self) -> None:
        """Write, read, write zeroes, trim, flush and block status do what they say."""
        client = self.open()
        self.assertEqual(0, self.do(client, Operation.WRITE, 1024, 512, data=b"x" * 512).status)
        self.assertEqual(b"x" * 512, self.content(1024))
        self.assertEqual(b"x" * 512, bytes(self.do(client, Operation.READ, 1024, 512).data))
        self.assertEqual(0, self.do(client, Operation.FLUSH).status)
        self.assertEqual(0, self.do(client, Operation.WRITE_ZEROES, 1024, 256).status)
        self.assertEqual(bytes(256) + b"x" * 256, self.content(1024))
        self.assertEqual(0, self.do(client, Operation.TRIM, 1024, 512).status)
        self.assertEqual(bytes(512), self.content(1024))
        extents = decode_extents(self.do(client, Operation.BLOCK_STATUS, 0, 4096).data, 4096)
        self.assertEqual(4096, sum(extent.length for extent in extents))
        self.assertEqual(
            ["write", "read", "flush", "write_zeroes", "trim", "block_status"], [o.kind for o in self.device.history]
        )

    def test_checksums(self) -> None:
        """The checksums of blocks are answered instead of the blocks."""
        client = self.open()
        self.do(client, Operation.WRITE, 4096, 4096, data=b"x" * 4096)
        told = self.do(client, Operation.CHECKSUMS, 0, 8704, data=b"\x00\x10\x00\x00")
        expected = [blake2b(block, digest_size=16).digest() for block in (bytes(4096), b"x" * 4096, bytes(512))]
        self.assertEqual((0, b"".join(expected)), (told.status, bytes(told.data)))

    def test_checksums_of_what_cannot_tell_them(self) -> None:
        """A device that does not tell checksums is read: it is the wire that has to be spared."""
        client = self.open()
        self.device.fail_next("checksums", NotSupported("not now"))
        told = self.do(client, Operation.CHECKSUMS, 0, 4096, data=b"\x00\x10\x00\x00")
        self.assertEqual(blake2b(bytes(4096), digest_size=16).digest(), bytes(told.data))
        self.assertEqual(["checksums", "read"], [o.kind for o in self.device.history])

    def test_checksums_that_cannot_be(self) -> None:
        """A bad extent, bad block sizes, and a media error are said so, and the memory is given back."""
        client = self.open()
        for data in (b"", b"\x00\x10\x00", b"\x00\x10\x00\x00\x00", bytes(4), b"\x01\x10\x00\x00", b"\xff" * 4):
            self.assertEqual(Status.INVALID, self.do(client, Operation.CHECKSUMS, 0, 4096, data=data).status)
        outside = self.do(client, Operation.CHECKSUMS, 1 << 40, 4096, data=b"\x00\x10\x00\x00")
        self.assertEqual(Status.OUT_OF_BOUNDS, outside.status)
        self.device.fail_next("checksums", MediaError("bad sector"))
        failed = self.do(client, Operation.CHECKSUMS, 0, 4096, data=b"\x00\x10\x00\x00")
        self.assertEqual((Status.MEDIA_ERROR, b"bad sector"), (failed.status, bytes(failed.data)))
        self.assert_serves(client)

    def test_many_in_one_piece(self) -> None:
        """What arrives together is answered together, in one write."""
        client = self.open()
        before = self.serving.endpoint.pipe.server.deliveries
        ids = list(range(2, 52))
        client.say(b"".join(request_header(Operation.READ, request_id, 0, 512) for request_id in ids))
        self.serving.turn()
        self.assertEqual(ids, [frame.id for frame in client.frames[1:]])
        self.assertEqual(1, self.serving.endpoint.pipe.server.deliveries - before)

    def test_out_of_order(self) -> None:
        """An operation that takes long does not keep others from being answered."""
        client = self.open()
        self.device.hold("flush")
        flush = client.ask(Operation.FLUSH)
        read = self.do(client, Operation.READ, 0, 512)
        self.assertEqual(0, read.status)
        self.assertIsNone(client.answer(flush))
        self.device.release()
        self.serving.turn()
        self.assertIsNotNone(client.answer(flush))

    def test_list_exports(self) -> None:
        """The names can be asked for, also without opening anything."""
        for export in ("", "vol"):
            self.assertEqual(["vol"], decode_names(self.do(self.open(export), Operation.LIST_EXPORTS).data))

    def test_status(self) -> None:
        """The status of the device that was opened."""
        self.assertEqual(self.device.status(), decode_status(self.do(self.open(), Operation.STATUS).data))

    def test_without_export(self) -> None:
        """Without an export everything that needs one is refused, and the connection goes on."""
        client = self.open("")
        for operation in (*range(16, 22), Operation.STATUS):
            self.assertEqual(Status.INVALID, self.do(client, operation, 0, 512).status)
        self.assert_serves(client)

    def test_without_checksums(self) -> None:
        """A client that does not want checksums gets none and sends none."""
        client = self.open(hello=self.hello(features_wanted=0))
        self.assertFalse(self.configuration(client).checksums)
        self.assertEqual(0, self.do(client, Operation.WRITE, 0, 3, data=b"abc", checksum=False).status)
        client.parser.checksums = False
        self.do(client, Operation.READ, 0, 3)
        self.assertEqual(bytes(4), bytes(self.serving.endpoint.pipe.server.sent[-67:])[52:56])


class PredecessorDefectTests(ServerCase):
    """What went wrong in 2009, and does not here.  (Those of the client's side are in C{test.nodes.test_remote}.)"""

    def test_media_errors_have_a_status(self) -> None:
        """A media error of a read and of a write arrives as what it is."""
        client = self.open()
        for kind, operation, data in (("read", Operation.READ, b""), ("write", Operation.WRITE, bytes(512))):
            self.device.fail_next(kind, MediaError("bad sector 7"))
            answer = self.do(client, operation, 0, 512, data=data)
            self.assertEqual((Status.MEDIA_ERROR, b"bad sector 7"), (answer.status, bytes(answer.data)))

    def test_read_only_is_enforced_by_the_server(self) -> None:
        """Every change of an export that is read-only for this client is refused, whatever the client thinks."""
        client = self.open("ro-vol")
        self.assertTrue(self.configuration(client).geometry.read_only)
        for operation in (Operation.WRITE, Operation.TRIM, Operation.WRITE_ZEROES):
            data = b"x" * 512 if operation is Operation.WRITE else b""
            self.assertEqual(Status.READ_ONLY, self.do(client, operation, 0, 512, data=data).status)
        self.assertEqual([], list(self.device.history))
        self.assertEqual(0, self.do(client, Operation.READ, 0, 512).status)

    def test_bounds_are_checked_by_the_server(self) -> None:
        """An extent that is not inside the device, also by a sum that would overflow 64 bits, reaches nothing."""
        client = self.open()
        size = self.device.geometry.size
        for operation in (
            Operation.READ,
            Operation.WRITE,
            Operation.TRIM,
            Operation.WRITE_ZEROES,
            Operation.BLOCK_STATUS,
        ):
            data = bytes(512) if operation is Operation.WRITE else b""
            for offset in (size - 511, size, 1 << 62, (1 << 64) - 512, (1 << 64) - 1):
                self.assertEqual(Status.OUT_OF_BOUNDS, self.do(client, operation, offset, 512, data=data).status)
        for operation in (Operation.READ, Operation.TRIM, Operation.WRITE_ZEROES, Operation.BLOCK_STATUS):
            self.assertEqual(Status.OUT_OF_BOUNDS, self.do(client, operation, 512, (1 << 64) - 512).status)
        self.assertEqual([], list(self.device.history))
        self.assert_serves(client)

    def test_digest_mismatch_loses_no_request(self) -> None:
        """A write whose data is damaged is answered so, is not done, and may be sent again with the same id."""
        client = self.open()
        header = request_header(Operation.WRITE, 77, 0, 512, data=b"x" * 512)
        client.say(header + b"x" * 511 + b"y")
        self.serving.turn()
        answer = client.answer(77)
        assert answer is not None
        self.assertEqual((Status.CORRUPT, DAMAGED), (answer.status, answer.flags))
        self.assertEqual([], list(self.device.history))
        client.frames.clear()
        client.say(header + b"x" * 512)
        self.serving.turn()
        answer = client.answer(77)
        assert answer is not None
        self.assertEqual(0, answer.status)
        self.assertEqual(b"x" * 512, self.content())

    def test_ping_is_answered(self) -> None:
        """A ping has an answer, also while the device hangs."""
        client = self.open()
        self.device.hold()
        client.ask(Operation.READ, 0, 512)
        self.assert_serves(client)

    def test_flush_flushes(self) -> None:
        """A flush is answered when the device has flushed, and a failure is told."""
        client = self.open()
        self.device.hold("flush")
        request_id = client.ask(Operation.FLUSH)
        self.serving.wait(3)
        self.assertIsNone(client.answer(request_id))
        self.device.fail_next("flush", MediaError("the disk's cache is gone"))
        self.device.release()
        self.serving.turn()
        answer = client.answer(request_id)
        assert answer is not None
        self.assertEqual(Status.MEDIA_ERROR, answer.status)
        self.assertEqual(0, self.do(client, Operation.FLUSH).status)
        self.assertEqual(2, self.device.counts["flush"])

    def test_many_clients_of_one_export(self) -> None:
        """Several clients have the same export open and see each other's writes."""
        clients = [self.open() for _ in range(10)]
        for n, client in enumerate(clients):
            self.assertEqual(0, self.do(client, Operation.WRITE, n * 512, 512, data=bytes([n]) * 512).status)
        for n, client in enumerate(clients):
            other = (n + 1) % 10
            self.assertEqual(bytes([other]) * 512, bytes(self.do(client, Operation.READ, other * 512, 512).data))


class BadRequestTests(ServerCase):
    """What is wrong with one request is said in its answer, and the connection goes on."""

    def test_unknown_operations(self) -> None:
        """Operations that do not exist are answered, and their data is skipped."""
        client = self.open()
        known = set(Operation)
        for kind in [kind for kind in range(5, 64) if kind not in known]:
            for data in (b"", b"some data", bytes(100_000)):
                answer = self.do(client, kind, 1, 2, data=data)
                self.assertEqual(Status.UNSUPPORTED, answer.status)
        self.assert_serves(client)

    def test_unknown_flags(self) -> None:
        """A flag that an operation does not have is refused: to ignore it could break a promise."""
        client = self.open()
        for operation, known in (
            (Operation.READ, 0),
            (Operation.WRITE, 1),
            (Operation.TRIM, 0),
            (Operation.WRITE_ZEROES, 7),
        ):
            for bit in range(16):
                data = bytes(512) if operation is Operation.WRITE else b""
                answer = self.do(client, operation, 0, 512, data=data, flags=1 << bit)
                self.assertEqual(0 if 1 << bit & known else Status.UNSUPPORTED, answer.status, (operation, bit))

    def test_flags_reach_the_device(self) -> None:
        """FUA arrives as FUA."""
        client = self.open()
        self.do(client, Operation.WRITE, 0, 512, data=bytes(512), flags=Flag.FUA)
        self.do(client, Operation.WRITE_ZEROES, 0, 512, flags=Flag.FUA | Flag.NO_HOLE)
        self.assertEqual([True, True], [operation.fua for operation in self.device.history])

    def test_lengths(self) -> None:
        """No bytes, more than a transfer, or data that does not fit its length."""
        client = self.open(hello=self.hello(transfer_bytes_max=4096))
        for operation in (
            Operation.READ,
            Operation.TRIM,
            Operation.WRITE_ZEROES,
            Operation.BLOCK_STATUS,
            Operation.WRITE,
        ):
            self.assertEqual(Status.INVALID, self.do(client, operation, 0, 0).status)
        self.assertEqual(Status.INVALID, self.do(client, Operation.READ, 0, 4097).status)
        self.assertEqual(Status.INVALID, self.do(client, Operation.WRITE, 0, 4097, data=bytes(4097)).status)
        self.assertEqual(Status.INVALID, self.do(client, Operation.WRITE, 0, 512, data=bytes(511)).status)
        self.assertEqual(Status.INVALID, self.do(client, Operation.READ, 0, 512, data=b"x").status)
        self.assertEqual([], list(self.device.history))
        self.assert_serves(client)

    def test_device_that_breaks_its_promises(self) -> None:
        """A device that fails with what is no DSTError, or reads too little, harms one request and is logged."""

        class Wicked(MemoryDevice):
            def read(self, offset: int, length: int) -> Deferred[Buffer]:
                return fail(ZeroDivisionError("oops")) if offset else succeed(b"short")

            def read_now(self, offset: int, length: int) -> Buffer | None:
                return b"short at once" if offset == 1024 else None

            def write_together(self, writes: Any) -> Deferred[Any]:
                return fail(ZeroDivisionError("oops"))

        wicked = Wicked(self.clock, "wicked", 1 << 20)
        wicked.open()
        self.serving.exports.nodes["wicked"] = wicked
        client = self.open("wicked")
        self.assertEqual(Status.INTERNAL, self.do(client, Operation.READ, 0, 512).status)
        self.assertEqual(Status.INTERNAL, self.do(client, Operation.READ, 512, 512).status)
        self.assertEqual(Status.INTERNAL, self.do(client, Operation.READ, 1024, 512).status)
        self.assertEqual(Status.INTERNAL, self.do(client, Operation.WRITE, 0, 512, data=bytes(512)).status)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assert_serves(client)


class HostileTests(ServerCase):
    """What cannot be understood costs the one who said it the connection, with a reason, and nobody else anything."""

    def assert_dropped(self, client: RawClient, why: str) -> None:
        self.serving.turn()
        self.assertIsNotNone(client.lost)
        self.assertIn(why, client.goodbye())

    def test_before_hello(self) -> None:
        """The first thing must be a hello."""
        client = self.connect()
        client.ask(Operation.READ, 0, 512)
        self.assert_dropped(client, "the first thing a client sends must be a hello")

    def test_pipelined_hello(self) -> None:
        """Nothing may follow the hello before it is answered."""
        client = self.connect()
        data = encode_hello(self.hello())
        client.say(request_header(1, 1, data=data) + data + request_header(Operation.READ, 2, 0, 512))
        self.assert_dropped(client, "before its hello was answered")

    def test_second_hello(self) -> None:
        """One hello is enough."""
        client = self.open()
        client.ask(Operation.HELLO, data=encode_hello(self.hello()))
        self.assert_dropped(client, "kind 1")

    def test_answers_and_notices(self) -> None:
        """Clients do not send answers or notices."""
        for kind in (64, 65, 127, 128, 144, 255):
            client = self.open()
            client.ask(kind)
            self.assert_dropped(client, f"kind {kind}")

    def test_other_protocols(self) -> None:
        """Whoever speaks something else is told so."""
        client = self.connect()
        client.say(b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody\r\nAccept: */*\r\n\r\n")
        self.assert_dropped(client, "a frame begins with b'GET '")

    def test_large_hello(self) -> None:
        """A stranger cannot make the server keep much."""
        client = self.connect()
        client.ask(Operation.HELLO, data=bytes(1025))
        self.assert_dropped(client, "a frame announces 1025 bytes")

    def test_large_frame(self) -> None:
        """Nor can a client."""
        client = self.open()
        client.say(request_header(Operation.WRITE, 9, 0, DATA_BYTES_MAX + 1, data=bytes(DATA_BYTES_MAX + 1)))
        self.assert_dropped(client, "announces")

    def test_every_byte_of_a_conversation(self) -> None:
        """
        A conversation in which one byte is wrong, at any place, harms nobody else: the other client is served, and
        nothing that was not asked for is written.
        """
        good = self.open()
        data = encode_hello(self.hello())
        whole = (
            request_header(Operation.HELLO, 1, data=data)
            + data
            + request_header(Operation.WRITE, 2, 0, 4, data=b"data")
            + b"data"
            + request_header(Operation.READ, 3, 0, 512)
        )
        hello_end = 64 + len(data)
        for position in range(len(whole)):
            for flip in (1, 0x80, 0xFF):
                bad = bytearray(whole)
                bad[position] ^= flip
                client = self.connect()
                client.say(bytes(bad[:hello_end]))
                self.serving.turn(4)
                client.say(bytes(bad[hello_end:]))
                self.serving.turn(4)
                self.assertIn(self.content(0, 4), (bytes(4), b"data"))
                assert client.transport is not None
                client.transport.loseConnection()
        self.serving.turn()
        self.assert_serves(good)
        self.assertEqual(1, self.serving.server.connections)

    def test_truncated_at_every_byte(self) -> None:
        """A client that hangs up in the middle of anything leaves nothing behind."""
        data = encode_hello(self.hello())
        whole = request_header(1, 1, data=data) + data
        for end in range(len(whole)):
            client = self.connect()
            client.say(whole[:end])
            self.serving.turn(2)
            assert client.transport is not None
            client.transport.loseConnection()
            self.serving.turn(4)
        client = self.open()
        write = request_header(Operation.WRITE, 2, 0, 512, data=b"x" * 512) + b"x" * 512
        for end in range(len(write)):
            client = self.open()
            client.say(write[:end])
            self.serving.turn(2)
            assert client.transport is not None
            client.transport.loseConnection()
            self.serving.turn(4)
        self.assertEqual([], list(self.device.history))
        self.assertEqual(1, self.serving.server.connections)

    def test_random_bytes(self) -> None:
        """Noise, before and after a hello."""
        noise = Random(8)
        good = self.open()
        for _ in range(200):
            for client in (self.connect(), self.open()):
                client.say(noise.randbytes(noise.randrange(1, 300)))
                self.serving.turn(3)
                assert client.transport is not None
                client.transport.loseConnection()
        self.serving.turn()
        self.assertEqual([], list(self.device.history))
        self.assert_serves(good)

    def test_no_hello(self) -> None:
        """Who says nothing, or too little, is dropped after the time for a hello."""
        silent, slow = self.connect(), self.connect()
        slow.say(request_header(1, 1, data=bytes(100)))
        self.serving.wait(4.9)
        self.assertIsNone(silent.lost)
        self.serving.wait(0.2)
        for client in (silent, slow):
            self.assert_dropped(client, "no hello came within 5 s")

    def test_one_byte_a_second(self) -> None:
        """Who sends a message one byte a second is dropped in bounded time, while the others go on."""
        client, good = self.open(), self.open()
        message = request_header(Operation.WRITE, 9, 0, 512, data=bytes(512)) + bytes(512)
        for second in range(60):
            client.say(message[second : second + 1])
            good.ask(Operation.READ, 0, 512)
            self.serving.wait(1.0, step_s=0.5)
            if client.lost is not None:
                break
        self.assertLessEqual(second, 15)
        self.assert_dropped(client, "a message comes slower than 1024 bytes per second")
        self.assert_serves(good)

    def test_silent_client(self) -> None:
        """Who does not even ping is dropped."""
        client = self.open()
        self.serving.wait(59, step_s=1.0)
        self.assertIsNone(client.lost)
        self.serving.wait(7, step_s=1.0)
        self.assert_dropped(client, "nothing was heard for 60 s")


class LimitTests(ServerCase):
    limits = Limits(connections_max=3, much_connections=2, requests_max=8, bytes_max=1 << 20, unread_s_max=30.0)

    def test_requests_in_flight(self) -> None:
        """However many requests a client sends, no more than allowed are with the device, and all are answered."""
        client = self.open()
        self.device.hold()
        ids = [client.ask(Operation.READ, 0, 512) for _ in range(100)]
        self.serving.turn(200)
        self.assertEqual(8, len(self.device.held))
        while self.device.held:
            self.device.release(4)
            self.serving.turn()
            self.assertLessEqual(len(self.device.held), 8)
        self.assertEqual([0] * 100, [getattr(client.answer(request_id), "status", None) for request_id in ids])

    def test_bytes_in_flight(self) -> None:
        """The same for bytes: one that is too large goes alone."""
        client = self.open()
        self.device.hold()
        for _ in range(8):
            client.ask(Operation.READ, 0, 1 << 20)
        self.serving.turn(100)
        self.assertEqual(1, len(self.device.held))

    def test_stops_reading(self) -> None:
        """What a client sends beyond the limits stays with the client."""
        client = self.open()
        self.device.hold()
        pipe = self.serving.endpoint.pipe
        for _ in range(20_000):
            client.ask(Operation.READ, 0, 512)
        self.serving.turn(100)
        self.assertTrue(pipe.server.reading_paused)
        self.device.release()
        self.serving.turn(500)
        self.assertFalse(pipe.server.reading_paused)
        self.assertEqual(20_001, len(client.frames))

    def test_client_that_does_not_read(self) -> None:
        """For a client that does not read its answers no more is read from the device, and in the end it is cut."""
        client, good = self.open(), self.open()
        pipe = self.serving.endpoint.pipes[0]
        assert client.transport is pipe.client
        pipe.client.pauseProducing()
        for _ in range(100):
            client.ask(Operation.READ, 0, 1 << 18)
            self.serving.turn(3)
        self.assertLess(pipe.server.unread_bytes, 1 << 20)
        self.assertLess(self.device.counts["read"], 8)
        self.assert_serves(good)
        for _ in range(8):
            self.assertIsNone(client.lost)
            self.serving.wait(5, step_s=1.0)
            self.assert_serves(good)
            if client.lost is not None:
                break
        self.assertIsNotNone(client.lost)

    def test_receive_much(self) -> None:
        """Only so many connections may each have a mebibyte at once that nobody was asked for."""
        server = self.serving.server
        sessions = [server.buildProtocol(None) for _ in range(3)]
        self.assertEqual([True, True, False], [session is not None and session.receives_much for session in sessions])

    def test_connections(self) -> None:
        """One connection too many is told so, and many too many are just closed."""
        clients = [self.open() for _ in range(3)]
        refused = self.open()
        answer = refused.frames[0]
        self.assertEqual(Status.LIMIT_REACHED, answer.status)
        self.assertIn(b"3 connections", bytes(answer.data))
        self.assertIsNotNone(refused.lost)
        for client in clients:
            self.assert_serves(client)
        clients[0].transport.loseConnection()  # type: ignore[union-attr]
        self.serving.turn()
        self.assert_serves(self.open())
        silent = [self.serving.server.buildProtocol(None) for _ in range(40)]
        self.assertEqual(16, len([protocol for protocol in silent if protocol is not None]))

    def test_hanging_device_harms_only_its_own(self) -> None:
        """A device that hangs keeps neither other exports nor pings from being answered."""
        other = MemoryDevice(self.clock, "other", 1 << 20)
        other.open()
        self.serving.exports.nodes["other"] = other
        stuck, fine = self.open(), self.open("other")
        self.device.hold()
        stuck.ask(Operation.WRITE, 0, 512, data=bytes(512))
        self.serving.turn()
        self.assert_serves(stuck)
        self.assertEqual(0, self.do(fine, Operation.WRITE, 0, 512, data=bytes(512)).status)


class MemoryTests(ServerCase):
    """What all clients together can make the server keep is bounded, and who holds it without need loses it."""

    limits = Limits(memory_bytes_max=4 << 20)

    @property
    def taken(self) -> int:
        return self.serving.server.memory.taken

    def promise(self, size: int = 1 << 20, sent: int = 1000) -> RawClient:
        """A client that announces a write, sends some of it, and stops."""
        client = self.open()
        data = bytes(size)
        client.say(request_header(Operation.WRITE, 9, 0, size, data=data) + data[:sent])
        self.serving.turn(4)
        return client

    def test_promises_are_counted(self) -> None:
        """Large writes that were announced count; when the memory is taken no more of others is received."""
        for n in range(4):
            self.promise()
            self.assertEqual((n + 1) * ((1 << 20) - 1000), self.taken)
        last = self.promise(sent=100_000)  # the 4 that are short of 4 MiB by 4000 bytes let it in
        self.assertFalse(self.serving.endpoint.pipe.server.reading_paused)
        self.assertIsNone(last.lost)
        for _ in range(10):
            self.promise()
            self.assertTrue(self.serving.endpoint.pipe.server.reading_paused)
        self.assertLess(self.taken, 5 << 20)

    def test_good_client_is_served(self) -> None:
        """While others hold all memory and do nothing, a good client waits some three seconds at most."""
        bad = [self.promise() for _ in range(8)]
        good = self.open()
        request_id = good.ask(Operation.READ, 0, 512)
        self.serving.turn()
        self.assertIsNone(good.answer(request_id))
        self.serving.wait(3.1)
        self.assertIsNotNone(good.answer(request_id))
        self.assertTrue(any(client.lost is not None for client in bad))

    def test_moving_clients_are_not_cut(self) -> None:
        """Clients that send what they announced are not cut, however long others wait."""
        clients = [self.promise() for _ in range(5)]
        good = self.open()
        request_id = good.ask(Operation.READ, 0, 512)
        for _ in range(8):
            for client in clients:
                client.say(bytes(100_000))
            self.serving.wait(1.0, step_s=0.25)
        self.assertEqual([None] * 5, [client.lost for client in clients])
        self.assertIsNone(good.answer(request_id))
        for client in clients:
            client.say(bytes((1 << 20) - 801_000))
        self.serving.turn(50)
        self.assertEqual(5, self.device.counts["write"])
        self.assertIsNotNone(good.answer(request_id))

    def test_unread_answers_are_counted(self) -> None:
        """Answers that a client does not read count until it does, and who does not read while others wait is cut."""
        bad = [self.open() for _ in range(5)]
        for pipe, client in zip(self.serving.endpoint.pipes, bad, strict=True):
            pipe.client.pauseProducing()
            client.ask(Operation.READ, 0, 1 << 20)
        self.serving.turn()
        self.assertEqual(4, self.device.counts["read"])
        good = self.open()
        request_id = good.ask(Operation.READ, 0, 512)
        self.serving.wait(3.1)
        self.assertIsNotNone(good.answer(request_id))
        self.assertTrue(any(client.lost is not None for client in bad))

    def test_reading_gives_back(self) -> None:
        """When the client reads, what it took is there again."""
        client = self.open()
        pipe = self.serving.endpoint.pipe
        pipe.client.pauseProducing()
        client.ask(Operation.READ, 0, 1 << 20)
        self.serving.turn()
        self.assertEqual(1 << 20, self.taken)
        pipe.client.resumeProducing()
        self.serving.turn()
        self.assertEqual(0, self.taken)
        self.assertEqual(1 << 20, len(client.frames[-1].data))

    def test_slow_device(self) -> None:
        """When the memory is taken because the device is slow nobody is cut; all is done in turn."""
        clients = [self.open() for _ in range(8)]
        self.device.hold()
        for client in clients:
            client.ask(Operation.READ, 0, 1 << 20)
        self.serving.wait(20, step_s=0.5)
        self.assertEqual(4, len(self.device.held))
        for _ in range(8):
            self.device.release(1)
            self.serving.turn()
        self.assertEqual([1 << 20] * 8, [len(client.frames[-1].data) for client in clients])


class RefusalTests(ServerCase):
    """Hellos that are not accepted."""

    def refusal(self, hello: Hello) -> tuple[int, str]:
        client = self.open(hello=hello)
        frame = client.frames[0]
        self.assertEqual(Operation.HELLO | ANSWER, frame.kind)
        self.assertIsNotNone(client.lost)
        return frame.status, bytes(frame.data).decode()

    def test_no_such_export(self) -> None:
        """There is none of that name."""
        self.assertEqual((Status.NOT_FOUND, "there is no export 'x' here"), self.refusal(self.hello("x")))

    def test_denied(self) -> None:
        """There is, but not for everybody."""
        self.assertEqual((Status.DENIED, "secret is not for everybody"), self.refusal(self.hello("secret")))

    def test_versions(self) -> None:
        """No version in common."""
        status, why = self.refusal(self.hello(version_min=2, version_max=5))
        self.assertEqual(Status.UNSUPPORTED, status)
        self.assertEqual("the client speaks versions 2 to 5 of the protocol, this server speaks 1", why)

    def test_features(self) -> None:
        """A feature that the client cannot do without."""
        status, why = self.refusal(self.hello(features_required=1 << 9))
        self.assertEqual((Status.UNSUPPORTED, True), (status, "0x200" in why))

    def test_nonsense(self) -> None:
        """A hello that is none."""
        client = self.connect()
        client.ask(Operation.HELLO, data=b"\x01\x00\x01\x00 and then nothing of sense")
        self.serving.turn()
        self.assertEqual(Status.PROTOCOL, client.frames[0].status)
        self.assertIsNotNone(client.lost)

    def test_not_ready(self) -> None:
        """While the device cannot be used its export cannot be opened, and the reason is told."""
        self.device.pull(reason="its cable was pulled")
        status, why = self.refusal(self.hello())
        self.assertEqual(
            (Status.UNAVAILABLE, "vol cannot be used now, it is away: its cable was pulled"), (status, why)
        )
        self.device.plug_in()
        self.assert_serves(self.open())


class TakeoverTests(ServerCase):
    """A client that comes back, while its old connection is not gone yet, or its requests are not."""

    def test_old_connection_is_cut(self) -> None:
        """A new connection of the same client ends the old one before it is answered."""
        hello = self.hello()
        old = self.open(hello=hello)
        new = self.open(hello=evolve(hello, attempt=2))
        self.assertIsNotNone(old.lost)
        self.assert_serves(new)

    def test_late_hello(self) -> None:
        """A hello that arrives after that of a later connection is the old one, and ends nothing."""
        hello = self.hello()
        new = self.open(hello=evolve(hello, attempt=2))
        for attempt in (1, 2):
            late = self.open(hello=evolve(hello, attempt=attempt))
            self.assertEqual(Status.DENIED, late.frames[0].status)
        self.assert_serves(new)

    def test_other_clients_stay(self) -> None:
        """Other clients' connections to the same export are theirs."""
        other = self.open()
        hello = self.hello()
        self.open(hello=hello)
        self.open(hello=evolve(hello, attempt=2))
        self.assert_serves(other)

    def test_waits_for_changes(self) -> None:
        """The hello is answered when the last change of the old connection has ended."""
        hello = self.hello()
        old = self.open(hello=hello)
        self.device.hold("write trim")
        old.ask(Operation.WRITE, 0, 512, data=b"old!" * 128)
        old.ask(Operation.TRIM, 512, 512)
        self.serving.turn()
        new = self.open(hello=evolve(hello, attempt=2))
        self.assertIsNotNone(old.lost)
        self.assertEqual([], new.frames)
        self.device.release(1)
        self.serving.turn()
        self.assertEqual([], new.frames)
        self.device.release()
        self.serving.turn()
        self.configuration(new)
        self.assertEqual(0, self.do(new, Operation.WRITE, 0, 512, data=b"new!" * 128).status)
        self.assertEqual(b"new!" * 128, self.content())

    def test_does_not_wait_for_reads(self) -> None:
        """A read of the old connection that hangs harms nobody and is not waited for."""
        hello = self.hello()
        old = self.open(hello=hello)
        self.device.hold("read flush")
        old.ask(Operation.READ, 0, 512)
        old.ask(Operation.FLUSH)
        self.serving.turn()
        self.configuration(self.open(hello=evolve(hello, attempt=2)))

    def test_waits_for_the_dead(self) -> None:
        """
        Changes of a client that is gone are waited for too: the next owner of the device must not have its writes
        overwritten by those of the last one.
        """
        old = self.open()
        self.device.hold("write")
        old.ask(Operation.WRITE, 0, 512, data=b"old!" * 128)
        self.serving.turn()
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        new = self.open()
        self.assertEqual([], new.frames)
        self.device.release()
        self.serving.turn()
        self.configuration(new)

    def test_what_was_not_begun_never_is(self) -> None:
        """Requests of the old connection that wait for their turn are forgotten."""
        self.serving.limits = Limits(requests_max=1)
        self.serving.server = self.serving.make_server()
        hello = self.hello()
        old = self.open(hello=hello)
        self.device.hold("write")
        old.ask(Operation.WRITE, 0, 512, data=b"1" * 512)
        old.ask(Operation.WRITE, 0, 512, data=b"2" * 512)
        self.serving.turn()
        new = self.open(hello=evolve(hello, attempt=2))
        self.device.release()
        self.serving.turn()
        self.configuration(new)
        self.assertEqual(b"1" * 512, self.content())
        self.assertEqual(1, self.device.counts["write"])

    def test_too_long(self) -> None:
        """If it takes too long the client is told, and comes again later."""
        hello = self.hello()
        old = self.open(hello=hello)
        self.device.hold("write")
        old.ask(Operation.WRITE, 0, 512, data=bytes(512))
        self.serving.turn()
        new = self.open(hello=evolve(hello, attempt=2))
        self.serving.wait(4.1)
        self.assertEqual(Status.UNAVAILABLE, new.frames[0].status)
        self.assertIn(b"1 changes of an earlier connection", bytes(new.frames[0].data))
        self.device.release()
        self.serving.turn()
        self.configuration(self.open(hello=evolve(hello, attempt=3)))

    def test_third_while_the_second_waits(self) -> None:
        """A connection that is replaced while it waits leaves nothing behind."""
        hello = self.hello()
        old = self.open(hello=hello)
        self.device.hold("write")
        old.ask(Operation.WRITE, 0, 512, data=bytes(512))
        self.serving.turn()
        second = self.open(hello=evolve(hello, attempt=2))
        third = self.open(hello=evolve(hello, attempt=3))
        self.assertIsNotNone(second.lost)
        self.device.release()
        self.serving.turn()
        self.assertEqual([], second.frames)
        self.configuration(third)
        self.assertEqual(1, self.serving.server.connections)


class DeviceChangeTests(ServerCase):
    """The device becomes another while clients have it open."""

    def test_grows(self) -> None:
        """A new size is told in a notice, and is usable at once."""
        client = self.open()
        self.serving.memory.changed(geometry=self.serving.memory.geometry.evolve(size=2 << 20))
        self.serving.turn()
        frame = client.frames[-1]
        self.assertEqual((Operation.CONFIGURATION, 0), (frame.kind, frame.id))
        self.assertEqual(2 << 20, decode_configuration(frame.data).geometry.size)
        self.assertNotEqual(Status.OUT_OF_BOUNDS, self.do(client, Operation.TRIM, (2 << 20) - 512, 512).status)

    def test_new_incarnation(self) -> None:
        """A new incarnation ends every session of the device."""
        clients = [self.open(), self.open("ro-vol")]
        self.device.pull(LinkState.INTERRUPTED)
        self.device.plug_in(new_incarnation=True)
        self.serving.turn()
        for client in clients:
            self.assertIsNotNone(client.lost)
            self.assertIn("may have lost what it had not flushed", client.goodbye())

    def test_flush_of_another_incarnation(self) -> None:
        """A flush that completes after the device lost its cache is not answered with success."""
        client = self.open()
        self.device.hold("flush")
        request_id = client.ask(Operation.FLUSH)
        self.serving.turn()
        self.device.incarnation = bytes(16)  # so that no observer is told before the flush completes
        self.device.release()
        self.serving.turn()
        self.assertIsNone(client.answer(request_id))
        self.assertIsNotNone(client.lost)

    def test_away(self) -> None:
        """A device that goes away ends its sessions with the reason; one that is interrupted does not."""
        client = self.open()
        self.device.pull(LinkState.INTERRUPTED, "a blip")
        self.serving.turn()
        self.assert_serves(client)
        self.device.pull(LinkState.AWAY, "its cable was pulled")
        self.serving.turn()
        self.assertIsNotNone(client.lost)
        self.assertEqual("vol is away: its cable was pulled", client.goodbye())

    def test_nobody_is_told_after_the_end(self) -> None:
        """A session that ended observes nothing any more."""
        client = self.open()
        self.assertEqual(1, len(self.device._observers))
        client.transport.loseConnection()  # type: ignore[union-attr]
        self.serving.turn()
        self.assertEqual(0, len(self.device._observers))


class DrainTests(ServerCase):
    def test_nothing_to_do(self) -> None:
        """Without connections it is done at once, and none is taken any more."""
        self.assertIsNone(self.successResultOf(self.serving.server.drain()))
        self.assertIsNone(self.serving.server.buildProtocol(None))

    def test_answers_what_was_begun(self) -> None:
        """What was begun is answered, what comes later is not begun, and then the clients are told goodbye."""
        client, idle = self.open(), self.open()
        self.device.hold()
        begun = client.ask(Operation.WRITE, 0, 512, data=b"x" * 512)
        self.serving.turn()
        drained = self.serving.server.drain()
        self.serving.turn()
        self.assertIsNotNone(idle.lost)
        late = client.ask(Operation.WRITE, 0, 512, data=b"y" * 512)
        self.serving.turn()
        self.assertNoResult(drained)
        self.device.release()
        self.serving.turn()
        self.successResultOf(drained)
        answer = client.answer(begun)
        assert answer is not None
        self.assertEqual(0, answer.status)
        self.assertIsNone(client.answer(late))
        self.assertEqual("the server is stopping", client.goodbye())
        self.assertEqual(b"x" * 512, self.content())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_bounded(self) -> None:
        """A device that hangs does not hold up the stop for longer than its time."""
        client = self.open()
        self.device.hold()
        client.ask(Operation.WRITE, 0, 512, data=bytes(512))
        self.serving.turn()
        drained = self.serving.server.drain()
        self.serving.wait(9.9)
        self.assertNoResult(drained)
        self.serving.wait(0.2)
        self.successResultOf(drained)
        self.assertIsNotNone(client.lost)

    def test_during_hello(self) -> None:
        """Connections that have not said hello, or wait for its answer, end too."""
        self.connect()
        old = self.open()
        self.device.hold()
        old.ask(Operation.WRITE, 0, 512, data=bytes(512))
        self.serving.turn()
        self.serving.endpoint.pipe.cut()
        self.serving.turn()
        self.open()
        drained = self.serving.server.drain()
        self.serving.turn()
        self.successResultOf(drained)
        self.assertEqual([], self.clock.getDelayedCalls())
