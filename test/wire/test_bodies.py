"""The data of answers: names, extents, status trees, sentences."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import InternalError, InvalidRequest, MediaError, PeerError
from dst.geometry import BlockStatus, StatusExtent
from dst.status import Health, Status, StatusTree
from dst.wire.bodies import (
    decode_block_size,
    decode_checksums,
    decode_error,
    decode_extents,
    decode_names,
    decode_status,
    encode_block_size,
    encode_extents,
    encode_names,
    encode_status,
)
from dst.wire.messages import EXPORTS_MAX, EXTENTS_MAX, STATUS_BYTES_MAX

TREE = StatusTree(
    "vol", "mirror", Health.HEALTHY, "ready", children=(StatusTree("a", "file", Health.HEALTHY, "ready"),)
)
EXTENTS = [StatusExtent(4096, BlockStatus.DATA), StatusExtent(8192, BlockStatus.HOLE | BlockStatus.ZERO)]


class ErrorTests(SynchronousTestCase):
    def test_every_status(self) -> None:
        """Every status comes back as an error of that status, with its sentence."""
        for status in Status:
            if status is not Status.OK:
                error = decode_error(status, b"why")
                self.assertEqual((status, "why"), (error.status, error.message))

    def test_one_line(self) -> None:
        """A sentence is one line of what can be read: it goes into the log of who has asked."""
        for status in (Status.UNAVAILABLE, 250):
            message = decode_error(status, b"a\n2026-11-23 alpha has written\x1b[2J\xff").message
            self.assertTrue(message.isprintable(), message)
            self.assertIn("alpha has written", message)

    def test_without_sentence(self) -> None:
        """Without a sentence the status speaks for itself."""
        error = decode_error(Status.MEDIA_ERROR, b"")
        self.assertIsInstance(error, MediaError)
        self.assertEqual("media error", error.message)

    def test_unknown_status(self) -> None:
        """A status that a newer server knows is an error, and never success."""
        for status in range(len(Status), 256):
            error = decode_error(status, b"why")
            self.assertIsInstance(error, InternalError)
            self.assertEqual(f"the server answered with status {status}, unknown here: why", error.message)

    def test_bad_sentence(self) -> None:
        """A sentence that is too long or not UTF-8 does no harm."""
        self.assertLessEqual(len(decode_error(Status.MEDIA_ERROR, b"\xff" * 100_000).message), 1024)


class NamesTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """Byte by byte, there and back."""
        encoded = b"\x02\x00\x00\x00\x01\x00a\x02\x00\xc3\xb6"
        self.assertEqual(encoded, encode_names(["a", "ö"]))
        self.assertEqual(["a", "ö"], decode_names(encoded))
        self.assertEqual([], decode_names(encode_names([])))

    def test_truncated(self) -> None:
        """Refused wherever it ends."""
        encoded = encode_names(["alpha", "beta"])
        for end in range(len(encoded)):
            self.assertRaises(PeerError, decode_names, encoded[:end])

    def test_many(self) -> None:
        """Only as many as fit are sent, and more are not accepted."""
        self.assertEqual(EXPORTS_MAX, len(decode_names(encode_names(["x"] * (EXPORTS_MAX + 1)))))
        self.assertRaises(PeerError, decode_names, (EXPORTS_MAX + 1).to_bytes(4, "little") + bytes(EXPORTS_MAX * 4))
        self.assertRaises(PeerError, decode_names, b"\xff" * 4)

    @settings(deadline=None)
    @given(st.binary(max_size=60))
    def test_random(self, noise: bytes) -> None:
        """Noise is a list of names or refused."""
        try:
            decode_names(noise)
        except PeerError:
            pass


class ExtentsTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """Byte by byte, there and back."""
        encoded = bytes.fromhex("0010000000000000 00000000 0020000000000000 03000000")
        self.assertEqual(encoded, encode_extents(EXTENTS))
        self.assertEqual(EXTENTS, decode_extents(encoded, 12288))

    def test_shorter_than_asked(self) -> None:
        """They may cover less than what was asked about, never more."""
        self.assertEqual(EXTENTS, decode_extents(encode_extents(EXTENTS), 1 << 20))
        self.assertRaises(PeerError, decode_extents, encode_extents(EXTENTS), 12287)

    def test_unknown_bits(self) -> None:
        """Bits of a newer server are ignored."""
        self.assertEqual(
            [StatusExtent(1, BlockStatus.ZERO)], decode_extents(b"\x01" + bytes(7) + b"\xfe\xff\xff\xff", 1)
        )

    def test_nonsense(self) -> None:
        """None at all, empty ones, or half a one are refused."""
        for data in (b"", bytes(12), encode_extents(EXTENTS)[:-1], bytes(5)):
            self.assertRaises(PeerError, decode_extents, data, 1 << 20)

    def test_many(self) -> None:
        """Only as many as fit are sent, and more are not accepted."""
        extents = EXTENTS * EXTENTS_MAX
        self.assertEqual(extents[:EXTENTS_MAX], decode_extents(encode_extents(extents), 1 << 40))
        self.assertRaises(PeerError, decode_extents, (b"\x01" + bytes(11)) * (EXTENTS_MAX + 1), 1 << 40)


class ChecksumTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """The block size, byte by byte, there and back; the checksums are carried as they are."""
        self.assertEqual(b"\x00\x10\x00\x00", encode_block_size(4096))
        self.assertEqual(4096, decode_block_size(b"\x00\x10\x00\x00"))
        self.assertEqual(bytes(range(32)), decode_checksums(bytes(range(32)), 4097, 4096))

    def test_wrong_number(self) -> None:
        """More or fewer than the blocks that were asked about are refused."""
        for data in (b"", bytes(15), bytes(17), bytes(48)):
            self.assertRaises(PeerError, decode_checksums, data, 8192, 4096)

    def test_no_block_size(self) -> None:
        """What is not four bytes is refused, as the client's mistake in this one request."""
        for data in (b"", bytes(3), bytes(5), bytes(100_000)):
            self.assertRaises(InvalidRequest, decode_block_size, data)

    @given(st.binary(max_size=64), st.integers(1, 1 << 25), st.sampled_from([512, 4096, 1 << 20]))
    def test_anything(self, data: bytes, length: int, block_bytes: int) -> None:
        """Whatever comes, it is taken as checksums only if it can be."""
        try:
            told = decode_checksums(data, length, block_bytes)
        except PeerError:
            return
        self.assertEqual(len(told), 16 * len(range(0, length, block_bytes)))


class StatusTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """A tree comes back equal."""
        self.assertEqual(TREE, decode_status(encode_status(TREE)))

    def test_too_large(self) -> None:
        """A tree that is too large is sent without what is below it, and one that comes is refused."""
        wordy = StatusTree("x", "y" * 500, Health.FAILED, "z" * 500, reason="r" * 500)
        tree = StatusTree("vol", "mirror", Health.DEGRADED, "ready", children=(wordy,) * 1500)
        encoded = encode_status(tree)
        self.assertLess(len(encoded), STATUS_BYTES_MAX)
        self.assertEqual(
            (Health.DEGRADED, {"pruned": 1500}), (decode_status(encoded).health, decode_status(encoded).detail)
        )
        self.assertRaises(PeerError, decode_status, b" " * (STATUS_BYTES_MAX + 1))

    def test_nonsense(self) -> None:
        """What is no JSON, or JSON but no tree, or nested without end, is refused."""
        for data in (b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000, b"NaN"):
            self.assertRaises(PeerError, decode_status, data)

    def test_truncated(self) -> None:
        """Refused wherever it ends."""
        encoded = encode_status(TREE)
        for end in range(len(encoded)):
            self.assertRaises(PeerError, decode_status, encoded[:end])
