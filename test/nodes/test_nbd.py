"""Tests of L{dst.nodes.nbd}: over this project's own server, and over servers that can do less."""

from __future__ import annotations

from struct import pack
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import (
    DeadlinePassed,
    DSTError,
    IncarnationChanged,
    LimitReached,
    MediaError,
    NotSupported,
    PeerError,
    ReadOnly,
    Unavailable,
)
from dst.exports.nbd_server import NBDServerFactory
from dst.geometry import BlockStatus, StatusExtent
from dst.nbd import constants as nbd
from dst.nodes import nbd_connection
from dst.nodes.memory import MemoryDevice
from dst.nodes.nbd import ZERO_BYTES_MAX, NBDNode
from dst.nodes.nbd_connection import QUEUED_MAX, REQUESTS_MAX
from dst.status import LinkState
from dst.testing import FailedFlushSuite, Specimen, faulty_disk, node_suite
from test.exports.offered import Offered
from test.nbd.pipe import PipeEndpoint


def make_over(**options: Any) -> Any:
    """A maker of NBD nodes over a server of a memory device."""

    def make(case: object) -> Specimen:
        clock = Clock()
        device = MemoryDevice(clock, "m", 3 << 20, **{"transfer_bytes_max": 2 << 20, **options})
        device.open()
        server = NBDServerFactory(clock, Offered(vol=device))

        def node() -> NBDNode:
            return NBDNode(clock, "far", PipeEndpoint(clock, server, piece_bytes=50_001), "vol")

        return Specimen(node(), clock=clock, reopen=node, remembers=False)

    return make


def make_over_faulty_disk(case: object) -> Specimen:
    """A node of a server whose disk can fail a flush."""
    clock = Clock()
    disk = faulty_disk(clock, "m", 3 << 20)
    disk.open()
    endpoint = PipeEndpoint(clock, NBDServerFactory(clock, Offered(vol=disk)), piece_bytes=50_001)

    def fail_flush() -> None:
        disk.fail_next("flush", MediaError("worn out"))

    return Specimen(NBDNode(clock, "far", endpoint, "vol"), clock=clock, fail_flush=fail_flush)


class NBDNodeTests(node_suite(NBDNode, make_over(), make_read_only=make_over(read_only=True))):
    """An NBD node keeps the promises of a node."""


class NBDNodeOfFaultyDiskTests(node_suite(NBDNode, make_over_faulty_disk), FailedFlushSuite):
    """So does one of a server whose disk can fail."""


class NBDNodeOfBlocksTests(node_suite(NBDNode, make_over(block_size=4096))):
    """So does one of a server with a block size."""


class Server(Protocol):
    """
    A server by hand: says what the test tells it to.

    C{options} maps an option to its replies; every request is kept in C{requests}, and answered with the number in
    C{errors} for its command, 0 where there is none; with C{mute} not at all.
    """

    flags = nbd.FLAG_HAS_FLAGS
    size = 1 << 20
    handshake_flags = nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES
    options: dict[int, list[tuple[int, bytes]]] = {}
    errors: dict[int, int] = {}
    mute = False
    instances: list[Server] = []

    def connectionMade(self) -> None:
        self.buffer = b""
        self.phase = "flags"
        self.requests: list[tuple[int, int, int, int]] = []
        self.instances.append(self)
        self.transport.write(pack(">QQH", nbd.INIT_MAGIC, nbd.OPTION_MAGIC, self.handshake_flags))

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        while getattr(self, "take_" + self.phase)():
            pass

    def cut(self, count: int) -> bytes:
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def take_flags(self) -> bool:
        if len(self.buffer) < 4:
            return False
        self.cut(4)
        self.phase = "option"
        return True

    def take_option(self) -> bool:
        if len(self.buffer) < 16:
            return False
        _, option, length = nbd.OPTION.unpack_from(self.buffer)
        if len(self.buffer) < 16 + length:
            return False
        self.cut(16 + length)
        if option == nbd.OPT_EXPORT_NAME:
            padding = 0 if self.handshake_flags & nbd.FLAG_NO_ZEROES else 124
            self.transport.write(pack(">QH", self.size, self.flags) + bytes(padding))
            self.phase = "request"
            return True
        for reply, body in self.options.get(option, [(nbd.REP_ERR_UNSUP, b"")]):
            self.transport.write(pack(">QIII", nbd.OPTION_REPLY_MAGIC, option, reply, len(body)) + body)
            if option == nbd.OPT_GO and reply == nbd.REP_ACK:
                self.phase = "request"
        return True

    def take_request(self) -> bool:
        if len(self.buffer) < 28:
            return False
        _, flags, command, cookie, offset, length = nbd.REQUEST.unpack_from(self.buffer)
        body = length if command == nbd.CMD_WRITE else 0
        if len(self.buffer) < 28 + body:
            return False
        data = self.cut(28 + body)[28:]
        self.requests.append((command, flags, offset, length))
        if not self.mute and command != nbd.CMD_DISC:
            errno = self.errors.get(command, 0)
            self.transport.write(pack(">IIQ", nbd.SIMPLE_REPLY_MAGIC, errno, cookie))
            if command == nbd.CMD_READ and not errno:
                self.transport.write(bytes(length))
            assert command != nbd.CMD_WRITE or len(data) == length
        return True


class ServerTestCase(SynchronousTestCase):
    """Tests with a server by hand."""

    def setUp(self) -> None:
        self.clock = Clock()

    def node(self, deadline_s: float = 30.0, durable: bool = False, **attributes: Any) -> NBDNode:
        """A node of a server whose class has these attributes; it was opened and the dust has settled."""
        self.server_class: type[Server] = type("AServer", (Server,), {"instances": [], **attributes})
        self.endpoint = PipeEndpoint(self.clock, Factory.forProtocol(self.server_class))
        node = NBDNode(
            self.clock, "far", self.endpoint, "vol", deadline_s=deadline_s, durable=durable, address="there:1"
        )
        node.open()
        self.settle()
        return node

    def settle(self, turns: int = 30) -> None:
        """Let what is under way arrive, without time passing."""
        for _ in range(turns):
            self.clock.advance(0)

    def result(self, deferred: Deferred[Any]) -> Any:
        """What C{deferred} fires with soon."""
        self.settle()
        return self.successResultOf(deferred)

    def failure(self, deferred: Deferred[Any], kind: type[DSTError]) -> DSTError:
        """The error that C{deferred} fails with soon."""
        self.settle()
        error = self.failureResultOf(deferred, kind).value
        assert isinstance(error, kind)
        return error

    @property
    def server(self) -> Server:
        """The server's end of the latest connection."""
        return self.server_class.instances[-1]


class OldServerTests(ServerTestCase):
    """Servers that know less than all of the protocol are used for what they can do."""

    def test_export_name_only(self) -> None:
        """A server that knows no option but the oldest is understood, with its padding."""
        for handshake_flags in (0, nbd.FLAG_FIXED_NEWSTYLE, nbd.FLAG_NO_ZEROES):
            node = self.node(handshake_flags=handshake_flags)
            self.assertEqual((LinkState.READY, 1 << 20), (node.link, node.geometry.size), handshake_flags)
            self.assertEqual(bytes(512), bytes(self.result(node.read(0, 512))))
            self.assertEqual([StatusExtent(4096, BlockStatus.DATA)], self.result(node.block_status(0, 4096)))

    def test_fua_is_write_and_flush(self) -> None:
        """Where there is flush and no FUA, a durable write is a write, and a flush when that has completed."""
        node = self.node(flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH)
        self.result(node.write(0, bytes(512), fua=True))
        self.assertEqual([(nbd.CMD_WRITE, 0, 0, 512), (nbd.CMD_FLUSH, 0, 0, 0)], self.server.requests)

    def test_durable_zeroes(self) -> None:
        """So are durable zeroes."""
        node = self.node(flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH | nbd.FLAG_SEND_WRITE_ZEROES)
        self.result(node.write_zeroes(0, 512, fua=True))
        self.assertEqual([(nbd.CMD_WRITE_ZEROES, 0, 0, 512), (nbd.CMD_FLUSH, 0, 0, 0)], self.server.requests)

    def test_fua(self) -> None:
        """Where there is FUA it is used."""
        node = self.node(flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH | nbd.FLAG_SEND_FUA)
        self.result(node.write(0, bytes(512), fua=True))
        self.assertEqual([(nbd.CMD_WRITE, nbd.CMD_FLAG_FUA, 0, 512)], self.server.requests)

    def test_no_flush(self) -> None:
        """A server without flush cannot make anything durable: that is refused before anything is done, and said."""
        node = self.node()
        self.failure(node.flush(), NotSupported)
        self.failure(node.write(0, bytes(512), fua=True), NotSupported)
        self.failure(node.write_zeroes(0, 512, fua=True), NotSupported)
        self.assertEqual([], self.server.requests)
        self.assertIn("refused", str(node.status().detail["durability"]))
        self.result(node.write(0, bytes(512)))

    def test_no_flush_but_durable(self) -> None:
        """Unless the topology vouches for it."""
        node = self.node(durable=True)
        self.result(node.flush())
        self.result(node.write(0, bytes(512), fua=True))
        self.assertEqual([(nbd.CMD_WRITE, 0, 0, 512)], self.server.requests)
        self.assertIn("trust", str(node.status().detail["durability"]))

    def test_trim_writes_zeroes(self) -> None:
        """
        Where there is no command for zeroes, a trim writes them, in pieces; also where NBD's own trim is
        offered.
        """
        node = self.node(size=5 << 19, flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_TRIM)
        self.result(node.trim(512, (5 << 19) - 512))
        self.assertEqual({nbd.CMD_WRITE}, {command for command, _, _, _ in self.server.requests})
        self.assertEqual((5 << 19) - 512, sum(length for _, _, _, length in self.server.requests))

    def test_trim_is_write_zeroes(self) -> None:
        """Where there is, it is used, never for more than every server is known to clear."""
        node = self.node(size=1 << 30, flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_WRITE_ZEROES)
        self.result(node.trim(0, 100 << 20))
        pieces = [(command, offset, length) for command, _, offset, length in self.server.requests]
        step = ZERO_BYTES_MAX
        expected = [(nbd.CMD_WRITE_ZEROES, at, min(step, (100 << 20) - at)) for at in range(0, 100 << 20, step)]
        self.assertEqual(expected, pieces)

    def test_fast_zeroes(self) -> None:
        """C{fast_only} is refused, with nothing done, where the server cannot promise it."""
        node = self.node(flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_WRITE_ZEROES)
        self.failure(node.write_zeroes(0, 4096, fast_only=True), NotSupported)
        self.assertEqual([], self.server.requests)
        node = self.node(flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_WRITE_ZEROES | nbd.FLAG_SEND_FAST_ZERO)
        self.result(node.write_zeroes(0, 4096, fast_only=True, no_hole=True))
        flags = nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE
        self.assertEqual([(nbd.CMD_WRITE_ZEROES, flags, 0, 4096)], self.server.requests)

    def test_read_only(self) -> None:
        """A read-only export is a read-only node, which does not ask the server."""
        node = self.node(flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_READ_ONLY)
        self.assertTrue(node.geometry.read_only)
        self.failure(node.write(0, bytes(512)), ReadOnly)
        self.assertEqual([], self.server.requests)

    def test_block_sizes(self) -> None:
        """Size and limits come from the server's block sizes; what does not fill a block at the end is not used."""
        node = self.node(options=go_options(size=(1 << 20) + 100, blocks=(512, 3000, 0xFFFFFFFF)))
        geometry = node.geometry
        self.assertEqual((1 << 20, 512, 4096), (geometry.size, geometry.block_size, geometry.preferred_block_size))
        self.assertEqual(32 << 20, geometry.transfer_bytes_max)

    def test_senseless_block_sizes(self) -> None:
        """Block sizes that no device can have are refused."""
        for blocks in ((0, 4096, 4096), (3, 4096, 8192), (4096, 4096, 512), (4096, 512, 8192)):
            node = self.node(options=go_options(blocks=blocks))
            self.assertIs(LinkState.AWAY, node.link, blocks)
            self.assertIn("block sizes", node.reason)
            self.result(node.close())

    def test_huge_blocks(self) -> None:
        """So are blocks that are larger than one request may be."""
        node = self.node(options=go_options(size=1 << 30, blocks=(1 << 26, 1 << 26, 1 << 27)))
        self.assertIs(LinkState.AWAY, node.link)
        self.assertIn("too large", node.reason)


def go_options(
    size: int = 1 << 20, flags: int = nbd.FLAG_HAS_FLAGS, blocks: tuple[int, int, int] = (1, 4096, 1 << 25)
) -> dict[int, list[tuple[int, bytes]]]:
    """A server that knows GO."""
    replies = [
        (nbd.REP_INFO, nbd.INFO_BLOCK_SIZE_REPLY.pack(nbd.INFO_BLOCK_SIZE, *blocks)),
        (nbd.REP_INFO, nbd.INFO_EXPORT_REPLY.pack(nbd.INFO_EXPORT, size, flags)),
        (nbd.REP_ACK, b""),
    ]
    return {nbd.OPT_GO: replies}


class RefusalTests(ServerTestCase):
    """A server that does not want us is explained, and asked again."""

    def test_refusals(self) -> None:
        """What the server says is in the reason, and the node goes on trying."""
        for reply in (nbd.REP_ERR_POLICY, nbd.REP_ERR_TLS_REQD, nbd.REP_ERR_UNKNOWN, nbd.REP_ERR_SHUTDOWN, 1 << 31):
            node = self.node(options={nbd.OPT_GO: [(reply, b"come back on Monday")]})
            self.assertIs(LinkState.AWAY, node.link)
            self.assertIn("come back on Monday", node.reason)
            self.assertIn("there:1", node.reason)
            self.failure(node.read(0, 512), Unavailable)
            self.server_class.options = go_options()
            self.clock.advance(1)
            self.settle()
            self.assertIs(LinkState.READY, node.link)
            self.result(node.close())

    def test_nobody_listens(self) -> None:
        """C{open} fires although nobody is there, and the node becomes ready when somebody is."""
        node = self.node()
        self.result(node.close())
        self.endpoint.refusing = True
        self.result(node.open())
        self.assertIs(LinkState.AWAY, node.link)
        self.assertIn("next attempt", node.reason)
        self.endpoint.refusing = False
        self.clock.advance(1)
        self.settle()
        self.assertIs(LinkState.READY, node.link)

    def test_not_nbd(self) -> None:
        """Something else that listens there is recognised."""

        class Web(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        endpoint = PipeEndpoint(self.clock, Factory.forProtocol(Web))
        node = NBDNode(self.clock, "far", endpoint, "vol")
        node.open()
        self.settle()
        self.assertIn("no NBD server", node.reason)

    def test_oldstyle(self) -> None:
        """The oldstyle protocol is named."""

        class Old(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(pack(">QQQ", nbd.INIT_MAGIC, nbd.OLDSTYLE_MAGIC, 1 << 20) + bytes(128))

        node = NBDNode(self.clock, "far", PipeEndpoint(self.clock, Factory.forProtocol(Old)), "vol")
        node.open()
        self.settle()
        self.assertIn("oldstyle", node.reason)

    def test_silent(self) -> None:
        """A server that accepts and says nothing does not hold C{open} for ever."""
        node = NBDNode(self.clock, "far", PipeEndpoint(self.clock, Factory.forProtocol(Protocol)), "vol")
        opened = node.open()
        self.settle()
        self.assertNoResult(opened)
        self.clock.advance(60)
        self.settle()
        self.successResultOf(opened)
        self.assertIs(LinkState.AWAY, node.link)
        self.result(node.close())
        self.assertEqual([], self.clock.getDelayedCalls())


class LossTests(ServerTestCase):
    """What happens when the connection breaks, and it is always the same."""

    def test_in_flight(self) -> None:
        """
        Reads fail as unavailable; of writes and flushes it is said that their fate is not known; then it is ready
        again.
        """
        node = self.node(mute=True, flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH)
        before = node.incarnation
        read, write, flush = node.read(0, 512), node.write(0, bytes(512)), node.flush()
        self.settle()
        self.server.transport.abortConnection()
        self.settle()
        self.assertIs(LinkState.AWAY, node.link)
        self.assertNotIsInstance(self.failure(read, Unavailable), IncarnationChanged)
        self.failure(write, IncarnationChanged)
        self.failure(flush, IncarnationChanged)
        self.failure(node.read(0, 512), Unavailable)
        self.clock.advance(1)
        self.settle()
        self.assertIs(LinkState.READY, node.link)
        self.assertNotEqual(before, node.incarnation)
        self.assertEqual(16, len(node.incarnation))

    def test_already_away(self) -> None:
        """Whoever is told that an operation failed finds the node away, and asks somebody else."""
        node = self.node(mute=True)
        links: list[LinkState] = []
        reading = node.read(0, 512)
        reading.addErrback(lambda _: links.append(node.link))
        self.settle()
        self.server.transport.abortConnection()
        self.settle()
        self.assertEqual([LinkState.AWAY], links)

    def test_deadline(self) -> None:
        """A request that is not answered in time ends the connection, from when the request was made."""
        node = self.node(deadline_s=5.0)
        self.result(node.read(0, 512))
        self.clock.advance(4)
        self.server.mute = True
        reading = node.read(0, 512)
        self.settle()
        self.clock.advance(4.9)
        self.settle()
        self.assertNoResult(reading)
        self.clock.advance(0.2)
        self.assertIn("answered nothing", self.failure(reading, DeadlinePassed).message)
        self.assertIn("next attempt", node.reason)

    def test_deadline_is_each_requests(self) -> None:
        """A server that answers others does not make one that it forgot wait for ever."""
        node = self.node(deadline_s=5.0)
        self.server.mute = True
        forgotten = node.read(0, 512)
        self.settle()
        self.server.mute = False
        for _ in range(4):
            self.clock.advance(1.2)
            self.result(node.read(0, 512))
        self.assertNoResult(forgotten)
        self.clock.advance(0.3)
        self.failure(forgotten, DeadlinePassed)

    def test_failed_flush(self) -> None:
        """After a failed flush the incarnation is another: asking again must not look like success."""
        node = self.node(flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH, errors={nbd.CMD_FLUSH: nbd.EIO})
        before = node.incarnation
        self.failure(node.flush(), MediaError)
        self.assertNotEqual(before, node.incarnation)

    def test_broken_protocol(self) -> None:
        """A server that talks nonsense loses the connection; what was in flight fails and says why."""
        node = self.node(mute=True)
        reading = node.read(0, 512)
        self.settle()
        self.server.transport.write(b"nonsense" * 4)
        self.assertIn("began a reply", self.failure(reading, PeerError).message)
        self.assertIs(LinkState.AWAY, node.link)

    def test_unknown_cookie(self) -> None:
        """So does one that answers what was not asked."""
        node = self.node(mute=True)
        reading = node.read(0, 512)
        self.settle()
        self.server.transport.write(pack(">IIQ", nbd.SIMPLE_REPLY_MAGIC, 0, 77))
        self.assertIn("not asked", self.failure(reading, PeerError).message)

    def test_queue_is_limited(self) -> None:
        """Requests beyond all measure are refused, not piled up."""
        node = self.node(mute=True)
        asked = [node.read(0, 512) for _ in range(QUEUED_MAX + 1)]
        self.failure(asked.pop(), LimitReached)
        asked += [node.read(0, 512) for _ in range(REQUESTS_MAX)]  # so many have been sent
        self.failure(node.read(0, 512), LimitReached)
        asked.append(node.write(0, bytes(512)))
        self.assertNoResult(asked[-1])  # a mirror would have to do without a member that refuses it
        self.result(node_ended(node, self))
        for each in asked:
            self.failureResultOf(each, Unavailable)

    def test_requests_in_flight(self) -> None:
        """The server has only so many requests at a time."""
        node = self.node(mute=True)
        asked = [node.read(0, 512) for _ in range(REQUESTS_MAX + 10)]
        self.settle()
        self.assertEqual(REQUESTS_MAX, len(self.server.requests))
        self.result(node_ended(node, self))
        for each in asked:
            self.failureResultOf(each, Unavailable)

    def test_bytes_in_flight(self) -> None:
        """And only so many bytes; as they are answered the next ones are sent."""
        self.patch(nbd_connection, "BYTES_MAX", 10_000)
        node = self.node(mute=True)
        asked = [node.read(0, 4000), node.write(0, bytes(4000)), node.read(0, 4000), node.read(0, 20_000)]
        self.settle()
        self.assertEqual(2, len(self.server.requests))
        self.server.mute = False
        for cookie, data in ((1, bytes(4000)), (2, b"")):
            self.server.transport.write(pack(">IIQ", nbd.SIMPLE_REPLY_MAGIC, 0, cookie) + data)
        self.settle()
        self.assertEqual(4, len(self.server.requests))
        for each in asked:
            self.result(each)

    def test_cancelled(self) -> None:
        """A cancelled read is forgotten; its answer harms nobody."""
        node = self.node()
        cancelled = node.read(0, 512)
        cancelled.addErrback(lambda failure: None)
        other = node.read(512, 512)
        cancelled.cancel()
        self.assertEqual(512, len(self.result(other)))

    def test_close_flushes(self) -> None:
        """C{close} flushes, says goodbye, and leaves no timer."""
        node = self.node(flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH)
        writing = node.write(0, bytes(512))
        self.result(node.close())
        self.successResultOf(writing)
        commands = [command for command, _, _, _ in self.server.requests]
        self.assertEqual([nbd.CMD_WRITE, nbd.CMD_FLUSH, nbd.CMD_DISC], commands)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_close_of_a_dead_server(self) -> None:
        """A server that answers nothing any more cannot keep C{close} for ever."""
        node = self.node(mute=True, flags=nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH)
        writing = node.write(0, bytes(512))
        closing = node.close()
        self.settle()
        self.assertNoResult(closing)
        self.clock.advance(31)
        self.settle()
        self.successResultOf(closing)
        self.failureResultOf(writing, DSTError)
        self.assertEqual([], self.clock.getDelayedCalls())


def node_ended(node: NBDNode, case: ServerTestCase) -> Deferred[None]:
    """Close a node whose server does not answer."""
    case.settle()
    case.server.transport.abortConnection()
    case.settle()
    return node.close()
