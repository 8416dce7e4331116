"""Tests of L{dst.nbd.replies}: what a server may answer, and what none may."""

from __future__ import annotations

import random
from struct import pack

from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DSTError, MediaError, NoSpace, NotSupported, PeerError
from dst.geometry import BlockStatus, StatusExtent
from dst.nbd import constants as nbd
from dst.nbd.replies import Reply, ReplyParser, encode_request


def chunk(kind: int, cookie: int, payload: bytes = b"", done: bool = True) -> bytes:
    """A chunk of a structured reply."""
    return pack(">IHHQI", nbd.STRUCTURED_REPLY_MAGIC, done, kind, cookie, len(payload)) + payload


def data(cookie: int, offset: int, payload: bytes, done: bool = True) -> bytes:
    """A data chunk."""
    return chunk(nbd.REPLY_TYPE_OFFSET_DATA, cookie, pack(">Q", offset) + payload, done)


def hole(cookie: int, offset: int, length: int, done: bool = True) -> bytes:
    """A hole."""
    return chunk(nbd.REPLY_TYPE_OFFSET_HOLE, cookie, pack(">QI", offset, length), done)


def error(cookie: int, errno: int, sentence: bytes = b"", done: bool = True) -> bytes:
    """An error chunk."""
    return chunk(nbd.REPLY_TYPE_ERROR, cookie, pack(">IH", errno, len(sentence)) + sentence, done)


def simple(cookie: int, errno: int = 0, payload: bytes = b"") -> bytes:
    """A simple reply."""
    return pack(">IIQ", nbd.SIMPLE_REPLY_MAGIC, errno, cookie) + payload


class ReplyTestCase(SynchronousTestCase):
    """A parser that expects a read, a write and a block status."""

    def parser(self, structured: bool = True) -> ReplyParser:
        """
        Cookie 1 is a read of 1000 bytes at 5000, 2 a write, 3 a block status of 8192 bytes at 0, 4 a large
        read.
        """
        parser = ReplyParser("far", structured, 7)
        parser.expect(1, nbd.CMD_READ, 5000, 1000)
        parser.expect(2, nbd.CMD_WRITE, 0, 10)
        parser.expect(3, nbd.CMD_BLOCK_STATUS, 0, 8192)
        parser.expect(4, nbd.CMD_READ, 0, 100_000)
        return parser

    def plain(self, replies: list[Reply]) -> list[tuple[int, object]]:
        """Replies that can be compared; an error is its class."""
        result: list[tuple[int, object]] = []
        for cookie, value in replies:
            if isinstance(value, DSTError):
                result.append((cookie, type(value)))
            elif isinstance(value, bytes | bytearray | memoryview):
                result.append((cookie, bytes(value)))
            else:
                result.append((cookie, value))
        return result


BODY = random.Random(3).randbytes(1000)
LARGE = random.Random(4).randbytes(100_000)


class GoodTests(ReplyTestCase):
    """Every reply that the protocol allows is understood."""

    def test_request(self) -> None:
        """A request, byte for byte."""
        expected = "25609513 0001 0006 0000000000000009 0000000000001000 00000200"
        self.assertEqual(bytes.fromhex(expected), encode_request(6, 1, 9, 4096, 512))

    def test_simple(self) -> None:
        """Simple replies: data behind a read's, nothing behind others', nothing behind an error."""
        stream = simple(1, 0, BODY) + simple(2, nbd.ENOSPC) + simple(4, nbd.EIO)
        expected = [(1, BODY), (2, NoSpace), (4, MediaError)]
        self.assertEqual(expected, self.plain(self.parser(structured=False).feed(stream)))

    def test_structured(self) -> None:
        """A read in one chunk; in several, in any order, with holes; a status; simple replies between them."""
        for reply, expected in (
            (data(1, 5000, BODY), BODY),
            (data(1, 5000, BODY, False) + chunk(nbd.REPLY_TYPE_NONE, 1), BODY),
            (data(1, 5600, BODY[600:], False) + data(1, 5000, BODY[:600]), BODY),
            (hole(1, 5000, 1000), bytes(1000)),
            (hole(1, 5100, 900, False) + data(1, 5000, BODY[:100]), BODY[:100] + bytes(900)),
            (data(1, 5900, BODY[900:], False) + hole(1, 5000, 900), bytes(900) + BODY[900:]),
            (error(1, nbd.EIO, b"scratched"), MediaError),
            (data(1, 5000, BODY[:10], False) + error(1, nbd.ENOTSUP, b"", False) + hole(1, 5010, 1), NotSupported),
            (chunk(0x8002, 1, pack(">IHQ", 5, 0, 5000)), MediaError),
            (error(1, nbd.EIO, b"scratched", False) + data(1, 5000, BODY), MediaError),
            (chunk(0x8055, 1, pack(">IH", 5, 0) + b"of tomorrow"), MediaError),
        ):
            self.assertEqual([(1, expected)], self.plain(self.parser().feed(reply)), reply[:40])

    def test_interleaved(self) -> None:
        """The chunks of several replies may come in turn."""
        status = pack(">I4I", 7, 4096, 3, 4096, 0)
        stream = data(1, 5000, BODY[:500], False) + chunk(5, 3, status) + simple(2) + data(1, 5500, BODY[500:])
        extents = [StatusExtent(4096, BlockStatus.HOLE | BlockStatus.ZERO), StatusExtent(4096, BlockStatus.DATA)]
        self.assertEqual([(3, extents), (2, None), (1, BODY)], self.plain(self.parser().feed(stream)))

    def test_status_beyond(self) -> None:
        """A last extent that goes beyond the question is cut off."""
        replies = self.parser().feed(chunk(5, 3, pack(">3I", 7, 1 << 31, 3)))
        self.assertEqual([(3, [StatusExtent(8192, BlockStatus(3))])], replies)

    def test_sentences(self) -> None:
        """An error says who, what, and what the server said."""
        ((_, failure),) = self.parser().feed(error(1, nbd.EIO, b"the platter is scratched"))
        assert isinstance(failure, MediaError)
        for part in ("far", "read", "5000+1000", "the platter is scratched"):
            self.assertIn(part, failure.message)

    def test_any_cut(self) -> None:
        """However the stream is cut, and whether data goes straight to its place or not."""
        stream = (
            data(1, 5600, BODY[600:], False)
            + data(4, 0, LARGE)
            + simple(2)
            + hole(1, 5300, 300, False)
            + data(1, 5000, BODY[:300])
        )
        expected = [(4, LARGE), (2, None), (1, BODY[:300] + bytes(300) + BODY[600:])]
        for seed in range(60):
            generator = random.Random(seed)
            parser, at, replies = self.parser(), 0, []
            while at < len(stream):
                step = generator.choice((1, 15, 16, 20, 28, 1000, 70_000))
                if parser.hole is not None and seed % 2:
                    step = min(step, len(parser.hole), len(stream) - at)
                    parser.hole[:step] = stream[at : at + step]
                    replies += parser.filled(step)
                else:
                    replies += parser.feed(stream[at : at + step])
                at += step
            self.assertEqual(expected, self.plain(replies), f"seed {seed}")

    def test_simple_any_cut(self) -> None:
        """So with simple replies."""
        stream = simple(4, 0, LARGE) + simple(2) + simple(1, 0, BODY)
        for step in (1000, 16, 7, 65536, 99_999):
            parser, replies = self.parser(structured=False), []
            for at in range(0, len(stream), step):
                replies += parser.feed(stream[at : at + step])
            self.assertEqual([(4, LARGE), (2, None), (1, BODY)], self.plain(replies), step)


class BadTests(ReplyTestCase):
    """What no server may say ends the connection, with a sentence."""

    def test_broken(self) -> None:
        """Each of them by name."""
        none = nbd.REPLY_TYPE_NONE
        cases = {
            "wrong magic": b"\0" * 16,
            "unknown cookie": simple(99),
            "answered twice": simple(2) + simple(2),
            "simple reply to a structured read": simple(1, 0, BODY),
            "simple reply to a block status": simple(3),
            "data for a write": data(2, 0, b"x" * 10),
            "data before the read": data(1, 4999, b"xy"),
            "data before the read, and more to come": data(1, 4999, b"xy", False),
            "data behind the read": data(1, 5999, b"xy"),
            "empty data": data(1, 5000, b""),
            "no offset": chunk(1, 1, b"1234"),
            "hole of nothing": hole(1, 5000, 0),
            "hole too large": hole(1, 5000, 1001),
            "hole of a wrong length": chunk(2, 1, bytes(11)),
            "overlap": data(1, 5000, BODY[:600], False) + data(1, 5500, BODY[500:]),
            "overlap and gap": data(1, 5000, BODY[:500], False) + data(1, 5250, BODY[500:]),
            "all of it behind a part": data(1, 5000, BODY[:10], False) + data(1, 5000, BODY),
            "gap": data(1, 5000, BODY[:400], False) + data(1, 5500, BODY[500:]),
            "too little": data(1, 5000, BODY[:999]),
            "nothing": chunk(none, 1),
            "none that goes on": chunk(none, 2, b"", False),
            "none with data": chunk(none, 2, b"x"),
            "no status": chunk(none, 3),
            "status for a read": chunk(5, 1, pack(">3I", 7, 512, 0)),
            "status of another context": chunk(5, 3, pack(">3I", 8, 512, 0)),
            "status without extents": chunk(5, 3, pack(">I", 7)),
            "status with an empty extent": chunk(5, 3, pack(">3I", 7, 0, 0)),
            "status with too many extents": chunk(5, 3, pack(">5I", 7, 8192, 0, 1, 0)),
            "status twice": chunk(5, 3, pack(">3I", 7, 512, 0), False) + chunk(5, 3, pack(">3I", 7, 512, 0)),
            "ragged status": chunk(5, 3, pack(">3I", 7, 512, 0) + b"x"),
            "unknown type": chunk(9, 1),
            "short error": chunk(0x8001, 1, b"12345"),
            "error of nothing": error(1, 0, b"fine"),
            "error whose sentence is too long": chunk(0x8001, 1, pack(">IH", 5, 100) + b"short"),
            "endless chunk": pack(">IHHQI", nbd.STRUCTURED_REPLY_MAGIC, 1, 5, 3, 1 << 30),
        }
        for what, stream in cases.items():
            refusal = self.assertRaises(PeerError, self.parser().feed, stream)
            self.assertIn("NBD server", refusal.message, what)

    def test_structured_unasked(self) -> None:
        """Structured replies where they were not agreed on."""
        self.assertRaises(PeerError, self.parser(structured=False).feed, data(1, 5000, BODY))

    def test_endless_chunks(self) -> None:
        """A reply that never ends is ended."""
        parser = self.parser()
        with self.assertRaises(PeerError):
            for _ in range(100):
                parser.feed(error(4, nbd.EIO, b"", False) * 1000)

    def test_every_byte(self) -> None:
        """Whatever byte is flipped or random, the parser says so or goes on; it never does anything else."""
        stream = (
            data(1, 5000, BODY[:100], False) + hole(1, 5100, 900) + simple(2) + chunk(5, 3, pack(">3I", 7, 512, 0))
        )
        generator = random.Random(9)
        refused = 0
        for at in range(len(stream)):
            for bit in range(8):
                variant = stream[:at] + bytes([stream[at] ^ 1 << bit]) + stream[at + 1 :]
                refused += self.survives(variant)
            refused += self.survives(stream[:at] + generator.randbytes(len(stream) - at))
        self.assertGreater(refused, 500)

    def survives(self, stream: bytes) -> bool:
        """Whether it was refused."""
        try:
            self.parser().feed(stream)
        except PeerError:
            return True
        return False
