"""Tests of L{dst.nbd.requests}: however a stream is cut, the same requests come out."""

from __future__ import annotations

import random
from struct import pack

from twisted.trial.unittest import SynchronousTestCase

from dst.errors import PeerError
from dst.geometry import BlockStatus, StatusExtent
from dst.native.nbd import Request
from dst.nbd import constants as nbd
from dst.nbd.requests import (
    SKIPPED_BYTES_MAX,
    RequestParser,
    block_status_reply,
    data_chunk_head,
    done_chunk,
    error_chunk,
    hole_chunk,
    simple_reply,
)


def encode(command: int, flags: int, cookie: int, offset: int, length: int, data: bytes = b"") -> bytes:
    """A request as it is on the wire."""
    return pack(">IHHQQI", nbd.REQUEST_MAGIC, flags, command, cookie, offset, length) + data


def plain(requests: list[Request]) -> list[tuple[object, ...]]:
    """Requests that can be compared."""
    return [(*request[:5], None if request[5] is None else bytes(request[5])) for request in requests]


STREAM: list[tuple[int, int, int, int, int, bytes | None]] = [
    (nbd.CMD_READ, 0, 1, 0, 4096, None),
    (nbd.CMD_WRITE, nbd.CMD_FLAG_FUA, 2, 4096, 5, b"hello"),
    (nbd.CMD_FLUSH, 0, 3, 0, 0, None),
    (nbd.CMD_WRITE, 0, 4, 1 << 40, 0, b""),
    (nbd.CMD_WRITE, 0, 5, 0, 40_000, random.Random(5).randbytes(40_000)),
    (nbd.CMD_TRIM, 0, (1 << 64) - 1, (1 << 64) - 1, (1 << 32) - 1, None),
]
ENCODED = b"".join(encode(*request[:5], request[5] or b"") for request in STREAM)


class ParserTests(SynchronousTestCase):
    """Bytes in, requests out."""

    def parse(self, parser: RequestParser, data: bytes, into_hole: bool = False) -> list[Request]:
        """Feed as a session does, giving leave at once."""
        requests: list[Request] = []
        while data:
            if into_hole and parser.hole is not None:
                taken = min(len(data), len(parser.hole))
                parser.hole[:taken] = data[:taken]
                data = data[taken:]
                requests += parser.filled(taken)
            else:
                requests += parser.feed(data)
                data = b""
            while parser.wanted_bytes:
                requests += parser.allow()
        return requests

    def test_in_one_piece(self) -> None:
        """Every request that is there comes out at once."""
        self.assertEqual(list(STREAM), plain(self.parse(RequestParser(), ENCODED)))

    def test_in_two_pieces(self) -> None:
        """Cut at any byte."""
        cuts = [*range(200), *range(200, len(ENCODED), 997), *range(len(ENCODED) - 100, len(ENCODED))]
        for cut in cuts:
            for into_hole in (False, True):
                parser = RequestParser()
                requests = self.parse(parser, ENCODED[:cut], into_hole) + self.parse(parser, ENCODED[cut:], into_hole)
                self.assertEqual(list(STREAM), plain(requests), cut)
                self.assertIsNone(parser.unfinished)

    def test_in_random_pieces(self) -> None:
        """Cut anywhere, many times."""
        for seed in range(30):
            generator = random.Random(seed)
            parser, at, requests = RequestParser(), 0, []
            while at < len(ENCODED):
                step = generator.choice((1, 3, 27, 28, 29, 500, 5000))
                requests += self.parse(parser, ENCODED[at : at + step], seed % 2 == 0)
                at += step
            self.assertEqual(list(STREAM), plain(requests), f"seed {seed}")

    def test_waits_for_leave(self) -> None:
        """Nothing is allocated, and nothing behind it parsed, before the owner has room for a write's data."""
        parser = RequestParser()
        data = encode(nbd.CMD_WRITE, 0, 1, 0, 1 << 20, b"abc")
        self.assertEqual([], parser.feed(data))
        self.assertEqual((1 << 20, None), (parser.wanted_bytes, parser.hole))
        self.assertEqual([], parser.feed(b"defg"))
        self.assertEqual([], parser.allow())
        assert parser.hole is not None
        self.assertEqual((0, (1 << 20) - 7), (parser.wanted_bytes, len(parser.hole)))

    def test_too_long(self) -> None:
        """A write that is too long is skipped and told without its data; what is behind it is served."""
        for piece in (1000, 5000):
            parser = RequestParser(data_bytes_max=1000)
            stream = encode(nbd.CMD_WRITE, 0, 1, 0, 1001, bytes(1001)) + encode(nbd.CMD_FLUSH, 0, 2, 0, 0)
            requests = []
            for at in range(0, len(stream), piece):
                requests += parser.feed(stream[at : at + piece])
            expected = [(nbd.CMD_WRITE, 0, 1, 0, 1001, None), (nbd.CMD_FLUSH, 0, 2, 0, 0, None)]
            self.assertEqual(expected, plain(requests))

    def test_much_too_long(self) -> None:
        """One that is longer than any mistake ends it."""
        header = encode(nbd.CMD_WRITE, 0, 1, 0, SKIPPED_BYTES_MAX + 1)
        self.assertRaises(PeerError, RequestParser().feed, header)

    def test_bad_magic(self) -> None:
        """Wrong magic is found by its first byte, also behind good requests."""
        good = encode(nbd.CMD_FLUSH, 0, 1, 0, 0)
        for data in (b"\0", good + b"\0", b"%`\x95\x12", good + bytes(28), good[:2] + b"\0"):
            self.assertRaises(PeerError, RequestParser().feed, data)

    def test_small_data_is_copied(self) -> None:
        """The data of a small write does not keep alive the chunk it came in; that of a larger one is not copied."""
        small, large = RequestParser().feed(
            encode(nbd.CMD_WRITE, 0, 1, 0, 4096, bytes(4096)) + encode(nbd.CMD_WRITE, 0, 1, 0, 65536, bytes(65536))
        )
        self.assertIsInstance(small[5], bytes)
        self.assertIsInstance(large[5], memoryview)


class ReplyTests(SynchronousTestCase):
    """Replies, byte for byte."""

    def test_literal(self) -> None:
        """As in the protocol document."""
        for found, expected in (
            (simple_reply(0x1122334455667788), "67446698 00000000 1122334455667788"),
            (simple_reply(1, nbd.ENOSPC), "67446698 0000001c 0000000000000001"),
            (done_chunk(2), "668e33ef 0001 0000 0000000000000002 00000000"),
            (data_chunk_head(3, 4096, 512), "668e33ef 0001 0001 0000000000000003 00000208 0000000000001000"),
            (hole_chunk(4, 4096, 512), "668e33ef 0001 0002 0000000000000004 0000000c 0000000000001000 00000200"),
            (error_chunk(5, 5, "no"), "668e33ef 0001 8001 0000000000000005 00000008 00000005 0002 6e6f"),
            (
                block_status_reply(
                    6, 1, [StatusExtent(512, BlockStatus.DATA), StatusExtent(9999, BlockStatus.HOLE)], 1024
                ),
                "668e33ef 0001 0005 0000000000000006 00000014 00000001 00000200 00000000 00000200 00000001",
            ),
        ):
            self.assertEqual(bytes.fromhex(expected), found)

    def test_long_sentence(self) -> None:
        """A sentence is cut to what the protocol allows, never inside a character."""
        chunk = error_chunk(1, 5, "ä" * 3000)
        self.assertEqual("ä" * 2048, chunk[26:].decode())
