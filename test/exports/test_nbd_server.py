"""Tests of L{dst.exports.nbd_server}: a client by hand, byte for byte, in front of real and of stubborn devices."""

from __future__ import annotations

import random
from struct import pack, unpack_from
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer_only

from dst.errors import CorruptData, DSTError, Fenced, LimitReached, MediaError, NoSpace, NotSupported, Unavailable
from dst.exports.nbd_server import NBDLimits, NBDServerFactory
from dst.interfaces import Buffer, INode
from dst.nbd import constants as nbd
from dst.nodes.memory import MemoryDevice
from dst.status import LinkState
from test.exports.offered import Offered
from test.nbd.pipe import join

SIZE = 1 << 20


@implementer_only(INode)
class SlowDevice(MemoryDevice):
    """A memory device that answers when the test says so: C{held} are the operations that wait."""

    holding = True

    def _hold(self, deferred: Deferred[Any]) -> Deferred[Any]:
        if not self.holding:
            return deferred
        held: Deferred[Any] = Deferred()
        self.__dict__.setdefault("held", []).append((held, deferred))
        return held

    def release(self, count: int = 1 << 30) -> None:
        """Answer the oldest."""
        held = self.__dict__.get("held", [])
        for _ in range(min(count, len(held))):
            waiting, deferred = held.pop(0)
            deferred.addBoth(waiting.callback)

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        return self._hold(super().read(offset, length))

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        return self._hold(super().write(offset, data, fua=fua))

    def flush(self) -> Deferred[None]:
        return self._hold(super().flush())


@implementer_only(INode)
class FailingDevice(MemoryDevice):
    """A memory device whose every operation fails with C{error}."""

    error: Exception = MediaError("the platter is scratched")

    def _fail(self, *args: object, **kwargs: object) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        deferred.errback(Failure(self.error))
        return deferred

    read = write = flush = trim = write_zeroes = block_status = _fail  # type: ignore[assignment]


@implementer_only(INode)
class CredulousDevice(MemoryDevice):
    """A device that does whatever it is told, and notes it in C{told}: it relies on the server to check."""

    def _do(self, *told: object) -> Deferred[Any]:
        self.__dict__.setdefault("told", []).append(told)
        return succeed(None)

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        self._do("read", offset, length)
        return succeed(bytes(length))

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        return self._do("write", offset, len(data), fua)

    def flush(self) -> Deferred[None]:
        return self._do("flush")

    def trim(self, offset: int, length: int) -> Deferred[None]:
        return self._do("trim", offset, length)

    def write_zeroes(self, offset: int, length: int, **how: bool) -> Deferred[None]:  # type: ignore[override]
        return self._do("zero", offset, length, how)


class Client(Protocol):
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost = reason

    def take(self, count: int) -> bytes:
        """The next bytes that arrived."""
        taken = bytes(self.received[:count])
        assert len(taken) == count, (count, taken)
        del self.received[:count]
        return taken


def option(number: int, data: bytes = b"") -> bytes:
    """An option as a client sends it."""
    return pack(">QII", nbd.OPTION_MAGIC, number, len(data)) + data


def name(text: str) -> bytes:
    """A string with its length in front."""
    return pack(">I", len(text.encode())) + text.encode()


def go(export: str, *infos: int, number: int = nbd.OPT_GO) -> bytes:
    """Choose an export."""
    return option(number, name(export) + pack(f">H{len(infos)}H", len(infos), *infos))


def request(command: int, cookie: int, offset: int = 0, length: int = 0, flags: int = 0, data: bytes = b"") -> bytes:
    """A request as a client sends it."""
    return pack(">IHHQQI", nbd.REQUEST_MAGIC, flags, command, cookie, offset, length) + data


def write(cookie: int, offset: int, data: bytes, flags: int = 0) -> bytes:
    """A write."""
    return request(nbd.CMD_WRITE, cookie, offset, len(data), flags, data)


class TurnClock(Clock):
    """As a reactor does it: what is to be called soon by what is called now comes in the next turn."""

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        for call in [each for each in self.calls if each.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class ServerTestCase(SynchronousTestCase):
    """A server of the export C{vol}, and clients of it."""

    clock_class: type[Clock] = Clock
    device_class: type[MemoryDevice] = MemoryDevice
    limits = NBDLimits()

    def setUp(self) -> None:
        self.clock = self.clock_class()
        self.device = self.new_device()
        self.offered = Offered(vol=self.device)
        self.server = NBDServerFactory(self.clock, self.offered, limits=self.limits)

    def new_device(self, **options: Any) -> Any:
        """A device that is ready."""
        device = self.device_class(self.clock, "m", options.pop("size", SIZE), **options)
        self.successResultOf(device.open())
        return device

    def settle(self, turns: int = 40) -> None:
        """Let what is under way arrive, without time passing."""
        for _ in range(turns):
            self.clock.advance(0)

    def connect(self, piece_bytes: int = 1 << 16) -> Client:
        """A client that has received the greeting and answered it."""
        client = Client()
        session = self.server.buildProtocol(None)
        assert session is not None
        ends = join(self.clock, client, session, piece_bytes)
        client.near, client.far = ends  # type: ignore[attr-defined]
        self.settle()
        self.assertEqual(pack(">QQH", nbd.INIT_MAGIC, nbd.OPTION_MAGIC, 3), client.take(18))
        self.send(client, pack(">I", 3))
        return client

    def send(self, client: Client, data: bytes) -> None:
        """Send, and let the answers arrive."""
        client.transport.write(data)
        self.settle()

    def replies(self, client: Client, number: int) -> list[tuple[int, bytes]]:
        """The replies to an option that have arrived."""
        replies = []
        while client.received:
            magic, answered, reply, length = unpack_from(">QIII", client.take(20))
            self.assertEqual((nbd.OPTION_REPLY_MAGIC, number), (magic, answered))
            replies.append((reply, client.take(length)))
        return replies

    def ask(self, client: Client, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Send an option and collect its replies."""
        self.send(client, option(number, data))
        return self.replies(client, number)

    def agree(self, export: str = "vol", structured: bool = False, context: bool = False) -> Client:
        """A client in the transmission phase."""
        client = self.connect()
        if structured:
            self.assertEqual([(nbd.REP_ACK, b"")], self.ask(client, nbd.OPT_STRUCTURED_REPLY))
        if context:
            self.ask(client, nbd.OPT_SET_META_CONTEXT, name(export) + pack(">I", 1) + name(nbd.BASE_ALLOCATION))
        self.send(client, go(export, nbd.INFO_BLOCK_SIZE))
        self.assertEqual(nbd.REP_ACK, self.replies(client, nbd.OPT_GO)[-1][0])
        return client

    def simple(self, client: Client) -> tuple[int, int]:
        """Error and cookie of the next simple reply."""
        magic, errno, cookie = unpack_from(">IIQ", client.take(16))
        self.assertEqual(nbd.SIMPLE_REPLY_MAGIC, magic)
        return errno, cookie

    def chunk(self, client: Client) -> tuple[int, int, bytes]:
        """Type, cookie and payload of the next chunk, which is the last of its reply."""
        magic, flags, kind, cookie, length = unpack_from(">IHHQI", client.take(20))
        self.assertEqual((nbd.STRUCTURED_REPLY_MAGIC, nbd.REPLY_FLAG_DONE), (magic, flags))
        return kind, cookie, client.take(length)

    def assert_dropped(self, client: Client, why: str) -> None:
        """The client was cut off."""
        self.settle()
        self.assertIsNotNone(client.lost, why)


class NegotiationTests(ServerTestCase):
    """What a client can ask before it has an export."""

    def test_go(self) -> None:
        """GO tells size, flags, name and block sizes, and begins the transmission."""
        client = self.connect()
        self.send(client, go("vol", nbd.INFO_NAME, nbd.INFO_DESCRIPTION, nbd.INFO_BLOCK_SIZE))
        flags = 0b110101101101  # all but read-only, rotational, DF and resize
        self.assertEqual(
            [
                (nbd.REP_INFO, pack(">H", nbd.INFO_NAME) + b"vol"),
                (nbd.REP_INFO, pack(">HIII", nbd.INFO_BLOCK_SIZE, 1, 4096, 32 << 20)),
                (nbd.REP_INFO, pack(">HQH", nbd.INFO_EXPORT, SIZE, flags)),
                (nbd.REP_ACK, b""),
            ],
            self.replies(client, nbd.OPT_GO),
        )
        self.send(client, request(nbd.CMD_FLUSH, 5))
        self.assertEqual((0, 5), self.simple(client))

    def test_export_name(self) -> None:
        """The oldest option works, with and without its padding."""
        for client_flags, padding in ((1, 124), (3, 0), (0, 124)):
            client = Client()
            join(self.clock, client, self.server.buildProtocol(None))
            self.send(client, pack(">I", client_flags) + option(nbd.OPT_EXPORT_NAME, b"vol"))
            client.take(18)
            size, _flags = unpack_from(">QH", client.take(10))
            self.assertEqual(SIZE, size)
            self.assertEqual(bytes(padding), client.take(padding))
            self.send(client, request(nbd.CMD_READ, 9, 0, 512))
            self.assertEqual((0, 9), self.simple(client))

    def test_export_name_unknown(self) -> None:
        """It can only be refused by hanging up."""
        client = self.connect()
        self.send(client, option(nbd.OPT_EXPORT_NAME, b"nothing"))
        self.assert_dropped(client, "unknown export")

    def test_list(self) -> None:
        """LIST gives the names that the client may see."""
        self.offered.devices.update(other=self.device, secret=self.device)
        self.offered.denied.add("secret")
        replies = self.ask(self.connect(), nbd.OPT_LIST)
        expected = [(nbd.REP_SERVER, name("other")), (nbd.REP_SERVER, name("vol")), (nbd.REP_ACK, b"")]
        self.assertEqual(expected, replies)

    def test_default_export(self) -> None:
        """No name is the only export; where there are two it is nothing."""
        client = self.connect()
        self.assertEqual(nbd.REP_ACK, self.ask(client, nbd.OPT_INFO, name("") + pack(">H", 0))[-1][0])
        self.offered.devices["other"] = self.device
        ((reply, sentence),) = self.ask(client, nbd.OPT_INFO, name("") + pack(">H", 0))
        self.assertEqual(nbd.REP_ERR_UNKNOWN, reply)
        self.assertIn(b"name one", sentence)

    def test_refusals(self) -> None:
        """Who asks for what is not there, not allowed or not ready is told so, and may ask for something else."""
        self.offered.devices.update(secret=self.device, away=MemoryDevice(self.clock, "away", SIZE))
        self.offered.denied.add("secret")
        client = self.connect()
        for export, expected, word in (
            ("nothing", nbd.REP_ERR_UNKNOWN, b"no export"),
            ("secret", nbd.REP_ERR_POLICY, b"not for you"),
            ("away", nbd.REP_ERR_POLICY, b"not opened yet"),
            ("x" * 4097, nbd.REP_ERR_TOO_BIG, b"4096"),
        ):
            ((reply, sentence),) = self.ask(client, nbd.OPT_GO, name(export) + pack(">H", 0))
            self.assertEqual(expected, reply, export[:10])
            self.assertIn(word, sentence)
        self.assertEqual(nbd.REP_ACK, self.ask(client, nbd.OPT_GO, name("vol") + pack(">H", 0))[-1][0])

    def test_malformed_options(self) -> None:
        """An option whose data makes no sense is refused; the handshake goes on."""
        client = self.connect()
        self.ask(client, nbd.OPT_STRUCTURED_REPLY)
        for number, data in (
            (nbd.OPT_LIST, b"x"),
            (nbd.OPT_STRUCTURED_REPLY, b"x"),
            (nbd.OPT_GO, b""),
            (nbd.OPT_GO, name("vol")),
            (nbd.OPT_GO, name("vol") + pack(">H", 2) + pack(">H", 3)),
            (nbd.OPT_GO, name("vol") + pack(">H", 0) + b"x"),
            (nbd.OPT_GO, pack(">I", 0xFFFFFFFF) + b"vol" + pack(">H", 0)),
            (nbd.OPT_SET_META_CONTEXT, name("vol")),
            (nbd.OPT_SET_META_CONTEXT, name("vol") + pack(">I", 2) + name("base:")),
            (nbd.OPT_SET_META_CONTEXT, name("vol") + pack(">I", 0xFFFFFFFF)),
            (nbd.OPT_LIST_META_CONTEXT, name("vol") + pack(">I", 0) + b"x"),
        ):
            ((reply, _),) = self.ask(client, number, data)
            self.assertEqual(nbd.REP_ERR_INVALID, reply, (number, data))
        self.assertEqual(nbd.REP_ACK, self.ask(client, nbd.OPT_GO, name("vol") + pack(">H", 0))[-1][0])

    def test_unknown_options(self) -> None:
        """Options of tomorrow are unsupported, TLS is against policy; neither ends anything."""
        client = self.connect()
        for number in (0, 4, 11, 12, 0xFFFFFFFF):
            self.assertEqual(nbd.REP_ERR_UNSUP, self.ask(client, number, b"abc")[0][0])
        self.assertEqual(nbd.REP_ERR_POLICY, self.ask(client, nbd.OPT_STARTTLS)[0][0])
        self.assertEqual(nbd.REP_ACK, self.ask(client, nbd.OPT_GO, name("vol") + pack(">H", 0))[-1][0])

    def test_meta_contexts(self) -> None:
        """C{base:allocation} can be listed by name, by namespace or without a query, and set by name."""
        client = self.connect()
        base = pack(">I", 0) + b"base:allocation"
        none = [(nbd.REP_ACK, b"")]
        self.assertEqual(
            nbd.REP_ERR_INVALID, self.ask(client, nbd.OPT_LIST_META_CONTEXT, name("vol") + pack(">I", 0))[0][0]
        )
        self.ask(client, nbd.OPT_STRUCTURED_REPLY)
        for queries, found in (([], True), (["base:"], True), (["base:allocation"], True), (["qemu:"], False)):
            data = name("vol") + pack(">I", len(queries)) + b"".join(map(name, queries))
            expected = [(nbd.REP_META_CONTEXT, base)] * found + none
            self.assertEqual(expected, self.ask(client, nbd.OPT_LIST_META_CONTEXT, data), queries)
        for queries, found in (([], False), (["base:"], False), (["x-a:b", "base:allocation"], True)):
            data = name("vol") + pack(">I", len(queries)) + b"".join(map(name, queries))
            reply = [(nbd.REP_META_CONTEXT, pack(">I", 1) + b"base:allocation")] * found + none
            self.assertEqual(reply, self.ask(client, nbd.OPT_SET_META_CONTEXT, data), queries)

    def test_context_of_another_export(self) -> None:
        """A context that was set for one export is not there for another."""
        self.offered.devices["other"] = self.device
        client = self.connect()
        self.ask(client, nbd.OPT_STRUCTURED_REPLY)
        self.ask(client, nbd.OPT_SET_META_CONTEXT, name("other") + pack(">I", 1) + name(nbd.BASE_ALLOCATION))
        self.ask(client, nbd.OPT_GO, name("vol") + pack(">H", 0))
        self.send(client, request(nbd.CMD_BLOCK_STATUS, 3, 0, 4096))
        kind, cookie, payload = self.chunk(client)
        self.assertEqual((nbd.REPLY_TYPE_ERROR, 3, nbd.EINVAL), (kind, cookie, unpack_from(">I", payload)[0]))

    def test_refused_context(self) -> None:
        """A refused option for contexts leaves none selected."""
        client = self.connect()
        self.ask(client, nbd.OPT_STRUCTURED_REPLY)
        self.ask(client, nbd.OPT_SET_META_CONTEXT, name("vol") + pack(">I", 1) + name(nbd.BASE_ALLOCATION))
        self.ask(client, nbd.OPT_SET_META_CONTEXT, name("vol") + pack(">I", 7))
        self.ask(client, nbd.OPT_GO, name("vol") + pack(">H", 0))
        self.send(client, request(nbd.CMD_BLOCK_STATUS, 3, 0, 4096))
        self.assertEqual(nbd.REPLY_TYPE_ERROR, self.chunk(client)[0])

    def test_rotational(self) -> None:
        """A device that seeks says so."""
        self.device.changed(geometry=self.device.geometry.evolve(rotational=True))
        client = self.connect()
        self.send(client, go("vol"))
        info = self.replies(client, nbd.OPT_GO)[-2][1]
        self.assertTrue(unpack_from(">HQH", info)[2] & nbd.FLAG_ROTATIONAL)

    def test_large_blocks(self) -> None:
        """
        Who does not ask for block sizes cannot have an export of large blocks, and learns them from the
        refusal.
        """
        self.offered.devices["blocks"] = self.new_device(block_size=4096)
        client = self.connect()
        replies = self.ask(client, nbd.OPT_GO, name("blocks") + pack(">H", 0))
        self.assertEqual([nbd.REP_INFO, nbd.REP_ERR_BLOCK_SIZE_REQD], [reply for reply, _ in replies])
        self.assertEqual(pack(">HIII", 3, 4096, 4096, 32 << 20), replies[0][1])
        asked = name("blocks") + pack(">HH", 1, nbd.INFO_BLOCK_SIZE)
        self.assertEqual(nbd.REP_ACK, self.ask(client, nbd.OPT_GO, asked)[-1][0])
        self.send(client, request(nbd.CMD_READ, 1, 512, 512))
        self.assertEqual((nbd.EINVAL, 1), self.simple(client))

    def test_abort(self) -> None:
        """ABORT is acknowledged and the connection closed."""
        client = self.connect()
        self.assertEqual([(nbd.REP_ACK, b"")], self.ask(client, nbd.OPT_ABORT))
        self.assertIsNotNone(client.lost)

    def test_hostile(self) -> None:
        """Broken magic, unknown flags, oversized options: the connection ends, at once."""
        for data in (
            b"\0\0\0\x07",
            b"\0\0\0\x03GET / HTTP/1.1",
            b"\0\0\0\x03G",
            b"\0\0\0\x03" + pack(">QII", nbd.OPTION_MAGIC, nbd.OPT_LIST, 1 << 20),
            b"\0\0\0\x03" + pack(">QII", nbd.OPTION_MAGIC, nbd.OPT_EXPORT_NAME, 0xFFFFFFFF),
            b"\0\0\0\x03" + option(nbd.OPT_EXPORT_NAME, b"\xff\xfe"),
            b"\0\0\0\x02" + option(nbd.OPT_LIST),
        ):
            client = Client()
            join(self.clock, client, self.server.buildProtocol(None))
            self.send(client, data)
            self.assert_dropped(client, repr(data))
        self.assertEqual(0, self.server.connections)

    def test_flood_of_options(self) -> None:
        """There is an end to options."""
        client = self.connect()
        for _ in range(17):
            self.send(client, option(nbd.OPT_LIST) * 512)
        self.assert_dropped(client, "options")

    def test_flood_not_read(self) -> None:
        """A client that asks for lists and does not read them is not answered without end."""
        self.offered.devices.update({f"{'x' * 200}{index}": self.device for index in range(1000)})
        client = self.connect()
        client.far.stuck = True
        self.send(client, option(nbd.OPT_LIST) * 1000)
        self.assertLess(len(client.far.unsent), 1 << 20)
        client.far.stuck = False
        client.far.move()
        self.settle(20000)
        self.assertEqual(1000, bytes(client.received).count(pack(">QIII", nbd.OPTION_REPLY_MAGIC, 3, 1, 0)))

    def test_deadline(self) -> None:
        """Who agrees on nothing in time is sent away."""
        client = self.connect()
        self.clock.advance(29)
        self.send(client, option(nbd.OPT_LIST))
        self.assertIsNone(client.lost)
        self.clock.advance(2)
        self.assert_dropped(client, "slow")

    def test_pipelined(self) -> None:
        """Options and requests may come in one piece, or byte by byte."""
        conversation = option(nbd.OPT_STRUCTURED_REPLY) + go("vol") + write(1, 0, b"abcd") + request(nbd.CMD_FLUSH, 2)
        for piece_bytes in (1, 2, 3, 7, 28, 1000):
            client = self.connect(piece_bytes)
            client.transport.write(conversation)
            self.settle(600)
            del client.received[:-32]
            self.assertEqual([(0, 1), (0, 2)], [self.simple(client) for _ in range(2)], piece_bytes)
            client.transport.loseConnection()


class TransmissionTests(ServerTestCase):
    """What a client can ask of an export, and how it is answered."""

    def test_literal_bytes(self) -> None:
        """A conversation, byte for byte."""
        client = self.agree()
        self.send(client, bytes.fromhex("25609513 0000 0001 0000000000000011 0000000000001000 00000004") + b"abcd")
        self.assertEqual(bytes.fromhex("67446698 00000000 0000000000000011"), client.take(16))
        self.send(client, bytes.fromhex("25609513 0000 0000 0000000000000012 0000000000000fff 00000006"))
        self.assertEqual(bytes.fromhex("67446698 00000000 0000000000000012 00 61626364 00"), client.take(22))
        client = self.agree(structured=True)
        self.send(client, bytes.fromhex("25609513 0000 0000 0000000000000013 0000000000001001 00000002"))
        expected = "668e33ef 0001 0001 0000000000000013 0000000a 0000000000001001 6263"
        self.assertEqual(bytes.fromhex(expected), client.take(30))

    def test_read_write(self) -> None:
        """What is written is read, whatever the size and however it is cut, with both kinds of replies."""
        for structured in (False, True):
            client = self.agree(structured=structured)
            for cookie, size in enumerate((1, 28, 4096, 16384, 16385, 200_000)):
                data = random.Random(size).randbytes(size)
                self.send(client, write(cookie, 77, data))
                self.assertEqual((0, cookie), self.simple(client))
                self.send(client, request(nbd.CMD_READ, cookie, 77, size))
                if structured:
                    self.assertEqual((1, cookie, pack(">Q", 77) + data), self.chunk(client))
                else:
                    self.assertEqual((0, cookie), self.simple(client))
                    self.assertEqual(data, client.take(size))

    def test_holes(self) -> None:
        """A large read of zeroes is told as a hole, unless it shall not be fragmented."""
        client = self.agree(structured=True)
        self.send(client, request(nbd.CMD_READ, 1, 512, 65536))
        self.assertEqual((2, 1, pack(">QI", 512, 65536)), self.chunk(client))
        self.send(client, request(nbd.CMD_READ, 2, 512, 65536, nbd.CMD_FLAG_DF))
        self.assertEqual((1, 2, pack(">Q", 512) + bytes(65536)), self.chunk(client))

    def test_one_write_per_turn(self) -> None:
        """However many requests one wake-up brings, the answers are sent in one go."""
        client = self.agree()
        before = client.far.writes
        self.send(client, b"".join(request(nbd.CMD_READ, cookie, 0, 512) for cookie in range(100)))
        self.assertEqual(100 * 528, len(client.received))
        self.assertEqual(1, client.far.writes - before)

    def test_trim_and_zeroes(self) -> None:
        """Trim and write-zeroes read back zeroes, with every flag they may have."""
        client = self.agree()
        for command, flags in (
            (nbd.CMD_TRIM, 0),
            (nbd.CMD_TRIM, nbd.CMD_FLAG_FUA),
            (nbd.CMD_WRITE_ZEROES, 0),
            (nbd.CMD_WRITE_ZEROES, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE),
            (nbd.CMD_WRITE_ZEROES, nbd.CMD_FLAG_FAST_ZERO),
        ):
            self.send(client, write(1, 0, b"x" * 4096) + request(command, 2, 1000, 2000, flags))
            self.assertEqual([(0, 1), (0, 2)], [self.simple(client), self.simple(client)])
            self.send(client, request(nbd.CMD_READ, 3, 999, 2002))
            self.assertEqual((0, 3), self.simple(client))
            self.assertEqual(b"x" + bytes(2000) + b"x", client.take(2002))

    def test_block_status(self) -> None:
        """Block status tells data from holes; with REQ_ONE only the first extent."""
        client = self.agree(structured=True, context=True)
        self.send(client, write(1, 65536, b"x"))
        self.simple(client)
        self.send(client, request(nbd.CMD_BLOCK_STATUS, 2, 0, 200_000))
        extents = pack(">6I", 65536, 3, 65536, 0, 200_000 - 131072, 3)
        self.assertEqual((5, 2, pack(">I", 1) + extents), self.chunk(client))
        self.send(client, request(nbd.CMD_BLOCK_STATUS, 3, 100, 200_000, nbd.CMD_FLAG_REQ_ONE))
        self.assertEqual((5, 3, pack(">3I", 1, 65436, 3)), self.chunk(client))

    def test_cache(self) -> None:
        """CACHE reads what was asked for, however much, and answers when it has."""
        client = self.agree()
        self.send(client, request(nbd.CMD_CACHE, 1, 0, SIZE))
        self.assertEqual((0, 1), self.simple(client))

    def test_disconnect(self) -> None:
        """DISC has no answer; what is behind it is not looked at."""
        client = self.agree()
        self.send(client, request(nbd.CMD_READ, 1, 0, 512) + request(nbd.CMD_DISC, 2) + write(3, 0, b"late"))
        self.assertEqual(16 + 512, len(client.received))
        self.assertIsNotNone(client.lost)
        self.assertEqual(bytes(4), bytes(self.successResultOf(self.device.read(0, 4))))

    def test_bad_requests(self) -> None:
        """Every request that cannot be done gets the error of the protocol, and the next one is served."""
        everything = (1 << 64) - 1
        cases: list[tuple[int, int, int, int, int, bytes]] = [
            (nbd.EINVAL, nbd.CMD_READ, 0, SIZE, 1, b""),
            (nbd.EINVAL, nbd.CMD_READ, 0, SIZE - 1, 2, b""),
            (nbd.EINVAL, nbd.CMD_READ, 0, everything, 512, b""),
            (nbd.EINVAL, nbd.CMD_READ, 0, 0, 0, b""),
            (nbd.EINVAL, nbd.CMD_READ, 0, 0, (32 << 20) + 1, b""),
            (nbd.EINVAL, nbd.CMD_READ, 0, 0, 0xFFFFFFFF, b""),
            (nbd.EINVAL, nbd.CMD_READ, nbd.CMD_FLAG_NO_HOLE, 0, 512, b""),
            (nbd.EINVAL, nbd.CMD_READ, nbd.CMD_FLAG_DF, 0, 512, b""),
            (nbd.ENOSPC, nbd.CMD_WRITE, 0, SIZE, 4, b"abcd"),
            (nbd.ENOSPC, nbd.CMD_WRITE, 0, SIZE - 3, 4, b"abcd"),
            (nbd.EINVAL, nbd.CMD_WRITE, 0, 0, 0, b""),
            (nbd.EINVAL, nbd.CMD_WRITE, nbd.CMD_FLAG_REQ_ONE, 0, 4, b"abcd"),
            (nbd.EINVAL, nbd.CMD_WRITE, 0, 0, (32 << 20) + 4, bytes((32 << 20) + 4)),
            (nbd.ENOSPC, nbd.CMD_TRIM, 0, SIZE - 1, 2, b""),
            (nbd.EINVAL, nbd.CMD_TRIM, 0, 0, 0, b""),
            (nbd.ENOSPC, nbd.CMD_WRITE_ZEROES, 0, 0, 0xFFFFFFFF, b""),
            (nbd.EINVAL, nbd.CMD_BLOCK_STATUS, 0, 0, 512, b""),
            (nbd.EINVAL, nbd.CMD_CACHE, 0, SIZE, 512, b""),
            (nbd.EINVAL, 8, 0, 0, 512, b""),
            (nbd.EINVAL, 0xFFFF, 0xFFFF, 0, 0, b""),
        ]
        for structured in (False, True):
            client = self.agree(structured=structured)
            for number, (errno, command, flags, offset, length, data) in enumerate(cases):
                if structured and flags == nbd.CMD_FLAG_DF:
                    continue  # there it is allowed
                client.transport.write(request(command, number, offset, length, flags, data))
                self.settle(1100 if len(data) > 4 else 10)
                if structured:
                    kind, cookie, payload = self.chunk(client)
                    self.assertEqual((nbd.REPLY_TYPE_ERROR, number), (kind, cookie))
                    found, size = unpack_from(">IH", payload)
                    self.assertEqual(len(payload) - 6, size)
                    self.assertGreater(size, 10)  # it says something
                else:
                    found, cookie = self.simple(client)
                    self.assertEqual(number, cookie)
                self.assertEqual(errno, found, (command, flags, offset, length))
            self.send(client, request(nbd.CMD_READ, 99, SIZE - 512, 512))
            self.assertEqual(20 + 8 + 512 if structured else 16 + 512, len(client.received))
            self.assertEqual(0, bytes(self.successResultOf(self.device.read(0, SIZE))).count(b"a"))
            self.assertEqual(0, self.server.budget.used_bytes)

    def test_absurd_write(self) -> None:
        """A write of 4 GiB is not waited for."""
        client = self.agree()
        self.send(client, request(nbd.CMD_WRITE, 1, 0, 0xFFFFFFFF))
        self.assert_dropped(client, "absurd")

    def test_bad_magic(self) -> None:
        """What is not a request ends the connection as soon as it is seen."""
        for data in (b"\0", b"\x25\x60\x95\x14", request(nbd.CMD_FLUSH, 1) + b"%%", bytes(28)):
            client = self.agree()
            self.send(client, data)
            self.assert_dropped(client, repr(data))

    def test_read_only(self) -> None:
        """A read-only export says so and refuses changes by itself, whatever the device would do."""
        self.offered.read_only.add("vol")
        client = self.connect()
        self.send(client, go("vol"))
        info = self.replies(client, nbd.OPT_GO)[-2][1]
        self.assertTrue(unpack_from(">HQH", info)[2] & nbd.FLAG_READ_ONLY)
        for number, data in enumerate(
            (write(0, 0, b"abcd"), request(nbd.CMD_TRIM, 1, 0, 512), request(nbd.CMD_WRITE_ZEROES, 2, 0, 512))
        ):
            self.send(client, data)
            self.assertEqual((nbd.EPERM, number), self.simple(client))
        self.send(client, request(nbd.CMD_READ, 7, 0, 4) + request(nbd.CMD_FLUSH, 8))
        self.assertEqual((0, 7), self.simple(client))
        self.assertEqual(bytes(4), client.take(4))
        self.assertEqual((0, 8), self.simple(client))

    def test_growth(self) -> None:
        """A device that grew is larger for who is connected, and says so to who connects."""
        client = self.agree()
        larger = self.new_device(size=2 * SIZE)
        self.device._geometry = larger.geometry
        self.device.changed(geometry=larger.geometry)
        self.send(client, write(1, 2 * SIZE - 4, b"tail"))
        self.assertEqual((0, 1), self.simple(client))
        other = self.connect()
        self.send(other, go("vol"))
        self.assertEqual(2 * SIZE, unpack_from(">HQH", self.replies(other, nbd.OPT_GO)[-2][1])[1])

    def test_shrinking(self) -> None:
        """A device that shrank, or whose block size changed, cuts its clients: what they were told is not true."""
        for changes in ({"size": SIZE // 2}, {"block_size": 512}, {"read_only": True}):
            client = self.agree()
            before = self.device.geometry
            self.device.changed(geometry=before.evolve(**changes))
            self.assert_dropped(client, str(changes))
            self.device.changed(geometry=before)
            self.settle()

    def test_new_incarnation(self) -> None:
        """A device that may have lost something cuts its clients: they must know."""
        client = self.agree()
        self.device.changed(incarnation=b"another" + bytes(9))
        self.assert_dropped(client, "incarnation")

    def test_device_away(self) -> None:
        """While the device is away requests fail, and the client stays."""
        client = self.agree()
        self.device.changed(LinkState.AWAY, "somebody pulled the plug")
        self.send(client, request(nbd.CMD_READ, 1, 0, 512) + request(nbd.CMD_FLUSH, 2))
        self.assertEqual([(nbd.EIO, 1), (nbd.EIO, 2)], [self.simple(client), self.simple(client)])
        self.device.changed(LinkState.READY, "")
        self.send(client, request(nbd.CMD_FLUSH, 3))
        self.assertEqual((0, 3), self.simple(client))

    def test_every_byte(self) -> None:
        """
        Whatever byte of a conversation is broken, cut off or random, the server survives, nobody else is harmed, and
        nothing is kept.
        """
        good = (
            pack(">I", 3)
            + option(nbd.OPT_STRUCTURED_REPLY)
            + option(nbd.OPT_LIST)
            + option(nbd.OPT_SET_META_CONTEXT, name("vol") + pack(">I", 1) + name(nbd.BASE_ALLOCATION))
            + go("vol", nbd.INFO_BLOCK_SIZE)
            + write(1, 4096, b"q" * 100)
            + request(nbd.CMD_READ, 2, 4096, 100)
            + request(nbd.CMD_BLOCK_STATUS, 3, 0, 8192)
            + request(nbd.CMD_FLUSH, 4)
        )
        bystander = self.agree()
        generator = random.Random(1)
        variants = [good[:cut] for cut in range(len(good))]
        for at in range(len(good)):
            for bit in (0, 4, 7):
                variants.append(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            variants.append(good[:at] + generator.randbytes(len(good) - at))
        for data in variants:
            client = Client()
            near, _ = join(self.clock, client, self.server.buildProtocol(None))
            client.transport.write(data)
            self.settle(6)
            near.lose(ConnectionError("the client left"))
        self.settle()
        self.assertEqual((1, 0), (self.server.connections, self.server.budget.used_bytes))
        self.send(bystander, request(nbd.CMD_FLUSH, 1))
        self.assertEqual((0, 1), self.simple(bystander))


class CheckTests(ServerTestCase):
    """The server does not rely on the device to refuse what makes no sense, and passes on exactly what was asked."""

    device_class = CredulousDevice

    def test_nothing_passes(self) -> None:
        """What is beyond the end, empty, too large or not aligned never reaches the device."""
        self.offered.devices["vol"] = self.device = self.new_device(block_size=512, transfer_bytes_max=65536)
        client = self.agree()
        for offset, length in ((SIZE, 512), (SIZE - 512, 1024), ((1 << 64) - 512, 512), (0, 0), (1, 512), (512, 511)):
            self.send(client, request(nbd.CMD_READ, 1, offset, length))
            for flags in (0, nbd.CMD_FLAG_FUA):
                self.send(client, write(2, offset, bytes(length), flags))
            self.send(client, request(nbd.CMD_TRIM, 3, offset, length))
            self.send(client, request(nbd.CMD_WRITE_ZEROES, 4, offset, length))
        self.send(client, request(nbd.CMD_READ, 1, 0, 65536 + 512))
        self.send(client, write(2, 0, bytes(65536 + 512)))
        self.assertEqual(6 * 5 + 2, len(client.received) // 16)
        self.assertNotIn("told", self.device.__dict__)

    def test_exactly(self) -> None:
        """Flags arrive at the device as what they mean."""
        client = self.agree()
        for data in (
            write(1, 0, b"abcd"),
            write(2, 4, b"ab", nbd.CMD_FLAG_FUA),
            request(nbd.CMD_TRIM, 3, 0, 8),
            request(nbd.CMD_TRIM, 4, 8, 8, nbd.CMD_FLAG_FUA),
            request(nbd.CMD_WRITE_ZEROES, 5, 0, 9, nbd.CMD_FLAG_NO_HOLE),
            request(nbd.CMD_WRITE_ZEROES, 6, 0, 9, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA),
            request(nbd.CMD_FLUSH, 7),
        ):
            self.send(client, data)
        expected = [
            ("write", 0, 4, False),
            ("write", 4, 2, True),
            ("trim", 0, 8),
            ("trim", 8, 8),
            ("flush",),
            ("zero", 0, 9, {"fua": False, "no_hole": True, "fast_only": False}),
            ("zero", 0, 9, {"fua": True, "no_hole": False, "fast_only": True}),
            ("flush",),
        ]
        self.assertEqual(expected, self.device.told)
        self.assertEqual([(0, cookie) for cookie in range(1, 8)], [self.simple(client) for _ in range(7)])


class ErrorTests(ServerTestCase):
    """Every error of a device reaches the client as what it is."""

    device_class = FailingDevice

    def test_errors(self) -> None:
        """Each kind has its number, and with structured replies its sentence."""
        errors: list[tuple[DSTError, int]] = [
            (MediaError("scratched"), nbd.EIO),
            (NoSpace("full"), nbd.ENOSPC),
            (NotSupported("cannot"), nbd.ENOTSUP),
            (Unavailable("gone"), nbd.EIO),
            (LimitReached("too much"), nbd.ENOMEM),
            (CorruptData("rotten"), nbd.EIO),
        ]
        simple, structured = self.agree(), self.agree(structured=True, context=True)
        for error, errno in errors:
            self.device.error = error
            for cookie, data in enumerate(
                (
                    request(nbd.CMD_READ, 0, 0, 512),
                    write(1, 0, b"abcd"),
                    write(2, 0, b"abcd", nbd.CMD_FLAG_FUA),
                    request(nbd.CMD_FLUSH, 3),
                    request(nbd.CMD_TRIM, 4, 0, 512),
                    request(nbd.CMD_WRITE_ZEROES, 5, 0, 512),
                    request(nbd.CMD_CACHE, 6, 0, 512),
                )
            ):
                self.send(simple, data)
                self.assertEqual((errno, cookie), self.simple(simple), (error, cookie))
                self.send(structured, data)
                kind, found, payload = self.chunk(structured)
                self.assertEqual((nbd.REPLY_TYPE_ERROR, cookie), (kind, found))
                self.assertEqual(pack(">IH", errno, len(error.message)) + error.message.encode(), payload)
            self.send(structured, request(nbd.CMD_BLOCK_STATUS, 9, 0, 512))
            self.assertEqual(nbd.REPLY_TYPE_ERROR, self.chunk(structured)[0])

    def test_moved(self) -> None:
        """
        Where another daemon owns the storage now the session is cut with the request unanswered: the client asks
        again there, and takes nothing for a disk's error.
        """
        client = self.agree()
        self.device.error = Fenced("vol is served by another daemon")
        self.send(client, write(1, 0, b"abcd"))
        self.settle()
        self.assertEqual(b"", bytes(client.received))
        self.assertIsNotNone(client.lost)

    def test_surprise(self) -> None:
        """An error that is no DSTError is logged, and the client is told no secrets."""
        client = self.agree(structured=True)
        self.device.error = KeyError("secret")
        self.send(client, request(nbd.CMD_READ, 1, 0, 512))
        _, _, payload = self.chunk(client)
        self.assertEqual(nbd.EIO, unpack_from(">I", payload)[0])
        self.assertNotIn(b"secret", payload)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))


class LimitTests(ServerTestCase):
    """No client can take more than its share, or more than the server has."""

    device_class = SlowDevice
    limits = NBDLimits(
        connections_max=4,
        requests_max=8,
        session_bytes_max=64 * 1024,
        bytes_max=160 * 1024,
        guaranteed_bytes=32 * 1024,
        turn_requests_max=5,
    )

    def test_requests(self) -> None:
        """Only so many requests of one client are begun; the rest wait, are not lost, and the client is not read."""
        client = self.agree()
        self.send(client, b"".join(request(nbd.CMD_FLUSH, cookie) for cookie in range(20)))
        self.assertEqual(8, len(self.device.held))
        self.assertFalse(client.far.reading)
        self.device.release(3)
        self.settle()
        self.assertEqual(8, len(self.device.held))
        for _ in range(9):
            self.device.release()
            self.settle()
        self.assertEqual([(0, cookie) for cookie in range(20)], [self.simple(client) for _ in range(20)])
        self.assertTrue(client.far.reading)

    def test_addresses(self) -> None:
        """One address of another machine has only so many places; this machine has as many as there are."""
        server = NBDServerFactory(self.clock, self.offered, limits=NBDLimits(connections_per_address_max=2))
        there = IPv4Address("TCP", "192.0.2.1", 1)
        sessions = [server.buildProtocol(there) for _ in range(3)]
        self.assertEqual([True, True, False], [session is not None for session in sessions])
        for address in (
            IPv4Address("TCP", "192.0.2.2", 1),
            *[IPv4Address("TCP", "127.0.0.1", 1)] * 5,
            UNIXAddress(None),
        ):
            self.assertIsNot(None, server.buildProtocol(address))
        assert sessions[0] is not None
        sessions[0].connectionLost(Failure(ConnectionLost()))
        self.assertIsNot(None, server.buildProtocol(there))

    def test_bytes(self) -> None:
        """Only so many bytes of one client are in memory."""
        client = self.agree()
        self.send(client, b"".join(request(nbd.CMD_READ, cookie, 0, 20_000) for cookie in range(6)))
        self.assertEqual(3, len(self.device.held))
        self.assertEqual(60_000, self.server.budget.used_bytes)
        for _ in range(6):
            self.device.release()
            self.settle()
        self.assertEqual(6 * 20_016, len(client.received))
        self.assertEqual(0, self.server.budget.used_bytes)

    def test_one_large_request(self) -> None:
        """A request that is larger than the share is served all the same, alone."""
        client = self.agree()
        self.send(client, write(1, 0, b"z" * 200_000) + request(nbd.CMD_READ, 2, 0, 200_000))
        for _ in range(3):
            self.device.release()
            self.settle()
        self.assertEqual((0, 1), self.simple(client))
        self.assertEqual((0, 2), self.simple(client))
        self.assertEqual(b"z" * 200_000, client.take(200_000))

    def test_budget(self) -> None:
        """
        When all the bytes of the server are taken, others still get a request at a time, and their
        turn when there is room again.
        """
        greedy = [self.agree() for _ in range(3)]
        for client in greedy:
            self.send(client, b"".join(request(nbd.CMD_READ, cookie, 0, 30_000) for cookie in range(4)))
        self.assertLessEqual(self.server.budget.used_bytes, 160 * 1024)
        modest = self.agree()
        self.send(modest, b"".join(request(nbd.CMD_READ, cookie, 0, 20_000) for cookie in range(2)))
        self.assertEqual(5 * 30_000 + 20_000, self.server.budget.used_bytes)
        for _ in range(12):
            self.device.release()
            self.settle()
        self.assertEqual(2 * 20_016, len(modest.received))
        self.assertEqual([4 * 30_016] * 3, [len(client.received) for client in greedy])
        self.assertEqual(0, self.server.budget.used_bytes)

    def test_budget_wakes(self) -> None:
        """A client that waits for the bytes of others, with nothing of its own in flight, gets its turn."""
        self.offered.devices["vol"] = self.device = self.new_device(size=4 << 20)
        greedy, patient = self.agree(), self.agree()
        self.send(greedy, request(nbd.CMD_READ, 1, 0, 20_000))
        self.send(patient, request(nbd.CMD_READ, 2, 0, 2 << 20))
        self.assertEqual(1, len(self.device.held))
        self.device.release()
        self.settle()
        self.assertEqual(1, len(self.device.held))
        self.device.release()
        self.settle(100)
        self.assertEqual((2 << 20) + 16, len(patient.received))

    def test_client_that_does_not_read(self) -> None:
        """A client that does not read its answers is not read from, and after a time not kept."""
        self.device.holding = False
        client = self.agree()
        client.far.stuck = True
        for _ in range(10):
            self.send(client, b"".join(request(nbd.CMD_READ, cookie, 0, 30_000) for cookie in range(10)))
        self.assertLessEqual(len(client.far.unsent), 64 * 1024 + 64 * 1024)  # the transport's, and its own share
        self.assertFalse(client.far.reading)
        for _ in range(4):
            self.clock.advance(30)
            self.assertIsNone(client.lost)
        self.clock.advance(30)
        self.assert_dropped(client, "does not read")
        self.assertEqual(0, self.server.budget.used_bytes)

    def test_client_that_reads_again(self) -> None:
        """One that was only slow gets every answer."""
        self.device.holding = False
        client = self.agree()
        client.far.stuck = True
        self.send(client, b"".join(request(nbd.CMD_READ, cookie, 0, 30_000) for cookie in range(30)))
        self.clock.advance(90)
        client.far.stuck = False
        client.far.move()
        self.settle(200)
        self.assertEqual(30 * 30_016, len(client.received))

    def test_half_a_request(self) -> None:
        """So is one that stops in the middle of a request, but not one that has nothing to ask."""
        idle, half, large = self.agree(), self.agree(), self.agree()
        self.send(half, request(nbd.CMD_FLUSH, 1)[:27])
        self.send(large, write(1, 0, b"x" * 100_000)[:-1])
        self.assertEqual(100_000, self.server.budget.used_bytes)
        for _ in range(6):
            self.clock.advance(30)
        self.settle()
        self.assertEqual([None, True, True], [idle.lost, bool(half.lost), bool(large.lost)])
        self.assertEqual(0, self.server.budget.used_bytes)

    def test_slow_device_is_no_stall(self) -> None:
        """A client that waits for a frozen device is waited with."""
        client = self.agree()
        self.send(client, b"".join(write(cookie, 0, b"x" * 512) for cookie in range(30)))
        for _ in range(100):
            self.clock.advance(30)
        self.assertIsNone(client.lost)
        for _ in range(30):
            self.device.release()
            self.settle()
        self.assertEqual(30 * 16, len(client.received))

    def test_connections(self) -> None:
        """Beyond so many clients the next is sent away, until one leaves."""
        clients = [self.agree() for _ in range(4)]
        self.assertIsNone(self.server.buildProtocol(None))
        clients[0].transport.loseConnection()
        self.settle()
        self.assertIsNotNone(self.server.buildProtocol(None))

    def test_vanished(self) -> None:
        """A client that vanishes with requests in flight leaves nothing behind, and their answers harm nobody."""
        client = self.agree()
        self.send(client, write(1, 0, b"x" * 512) + request(nbd.CMD_READ, 2, 0, 512) + request(nbd.CMD_FLUSH, 3))
        client.near.lose(ConnectionError("vanished"))
        self.settle()
        self.device.release()
        self.settle()
        self.assertEqual((0, 0), (self.server.connections, self.server.budget.used_bytes))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_fairness(self) -> None:
        """A flood of one client is begun in several turns, so that others get theirs."""
        self.device.holding = False
        begun: list[int] = []
        flush = self.device.flush
        self.device.flush = lambda: (begun.append(-1), flush())[1]  # type: ignore[func-returns-value]
        read = self.device.read
        self.device.read = lambda offset, length: (begun.append(offset), read(offset, length))[1]
        client, other = self.agree(), self.agree()
        client.transport.write(b"".join(request(nbd.CMD_FLUSH, cookie) for cookie in range(20)))
        other.transport.write(request(nbd.CMD_READ, 1, 512, 1))
        self.settle()
        self.assertEqual((21, 5), (len(begun), begun.index(512)))
        self.assertEqual(20 * 16, len(client.received))


class StopTests(ServerTestCase):
    """Stopping in order."""

    device_class = SlowDevice

    def test_drain(self) -> None:
        """What was begun is answered, what comes later is not begun, and then the connection is closed."""
        client, negotiating = self.agree(), self.connect()
        self.send(client, write(1, 0, b"x" * 512) + request(nbd.CMD_FLUSH, 2))
        drained = self.server.drain()
        self.send(client, write(3, 0, b"y" * 512))
        self.assertNoResult(drained)
        self.assertIsNotNone(negotiating.lost)
        self.assertIsNone(self.server.buildProtocol(None))
        self.device.release()
        self.settle()
        self.successResultOf(drained)
        self.assertEqual([(0, 1), (0, 2)], [self.simple(client), self.simple(client)])
        self.assertIsNotNone(client.lost)
        self.assertEqual(b"x", bytes(self.successResultOf(MemoryDevice.read(self.device, 0, 1))))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_drain_of_nobody(self) -> None:
        """Without clients there is nothing to wait for."""
        self.successResultOf(self.server.drain())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_drain_of_a_frozen_device(self) -> None:
        """A device that does not answer holds up a stop only so long."""
        client = self.agree()
        self.send(client, request(nbd.CMD_FLUSH, 1))
        drained = self.server.drain()
        self.clock.advance(self.server.limits.drain_s - 1)
        self.assertNoResult(drained)
        self.clock.advance(2)
        self.settle()
        self.successResultOf(drained)
        self.assertIsNotNone(client.lost)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_drain_while_receiving(self) -> None:
        """A write of which only a part has arrived is not waited for."""
        client = self.agree()
        self.send(client, write(1, 0, b"x" * 100_000)[:-1])
        drained = self.server.drain()
        self.settle()
        self.successResultOf(drained)

    def test_drain_of_a_client_that_does_not_read(self) -> None:
        """Nor is a client that does not take its answers."""
        self.device.holding = False
        client = self.agree()
        client.far.stuck = True
        self.send(client, request(nbd.CMD_READ, 1, 0, 500_000))
        drained = self.server.drain()
        self.clock.advance(31)
        self.settle()
        self.successResultOf(drained)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_flush_over_a_new_incarnation(self) -> None:
        """
        A flush that succeeds after the device came back without what it had acknowledged is not told as success, even
        if nobody has been told of the new incarnation yet.
        """
        client = self.agree()
        self.send(client, request(nbd.CMD_FLUSH, 1))
        self.device.incarnation = b"another" + bytes(9)  # the observers' turn has not come
        self.device.release()
        self.settle()
        self.assertEqual(b"", bytes(client.received))
        self.assertIsNotNone(client.lost)

    def test_disconnect_waits(self) -> None:
        """A client that says goodbye while requests are in flight gets their answers."""
        client = self.agree()
        self.send(client, write(1, 0, b"x" * 512) + request(nbd.CMD_DISC, 2))
        self.assertIsNone(client.lost)
        self.device.release()
        self.settle()
        self.assertEqual((0, 1), self.simple(client))
        self.assertIsNotNone(client.lost)
