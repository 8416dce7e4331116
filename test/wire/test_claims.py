"""Claims and promises on the wire: literal bytes, and everything that is not one."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import InvalidRequest, PeerError
from dst.ownership import Claim, Promise
from dst.wire.claims import ClaimKind, ClaimRequest, decode_claim, decode_promise, encode_claim, encode_promise

CLAIM = Claim(7, 0x1122334455667788, b"o" * 16)
REQUEST = ClaimRequest(ClaimKind.CLAIM, CLAIM, 3.0, "höst")
REQUEST_BYTES = bytes.fromhex(
    "0100 0000 b80b0000"  # claim, lease
    "0700000000000000 8877665544332211 6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f"
    "0500 68c3b67374"  # name
)
PROMISE = Promise(bytes(range(16)), CLAIM, False, 1.5, "a", "b")
PROMISE_BYTES = bytes.fromhex(
    "000102030405060708090a0b0c0d0e0f"  # identity
    "0700000000000000 8877665544332211 6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f"
    "00000000 dc050000"  # held, for so long
    "0100 61 0100 62"  # owner, wanted by
)


class ClaimTests(SynchronousTestCase):
    """What is asked."""

    def test_literal(self) -> None:
        """A claim, byte by byte, there and back."""
        self.assertEqual(REQUEST_BYTES.hex(), encode_claim(REQUEST).hex())
        self.assertEqual(REQUEST, decode_claim(REQUEST_BYTES))

    def test_kinds(self) -> None:
        """Each kind has its number."""
        self.assertEqual([0, 1, 2, 3, 4], [encode_claim(ClaimRequest(kind))[0] for kind in ClaimKind])
        for kind in ClaimKind:
            self.assertIs(kind, decode_claim(encode_claim(ClaimRequest(kind))).kind)

    def test_unknown_kind(self) -> None:
        """A kind of a later version is refused, by its number."""
        error = self.assertRaises(InvalidRequest, decode_claim, b"\x09" + REQUEST_BYTES[1:])
        self.assertEqual("claims of kind 9 are not known here", error.message)

    def test_truncated(self) -> None:
        """One that ends early is refused wherever it ends."""
        for end in range(len(REQUEST_BYTES)):
            self.assertRaises(InvalidRequest, decode_claim, REQUEST_BYTES[:end])

    def test_later_versions_may_add(self) -> None:
        """What follows is ignored."""
        self.assertEqual(REQUEST, decode_claim(REQUEST_BYTES + b"more"))
        self.assertEqual(PROMISE, decode_promise(PROMISE_BYTES + b"more"))

    def test_long_name(self) -> None:
        """A name is cut between characters."""
        self.assertEqual("ä" * 127, decode_claim(encode_claim(evolve(REQUEST, name="ä" * 200))).name)

    @settings(deadline=None)
    @given(st.binary(max_size=400))
    def test_random(self, noise: bytes) -> None:
        """Noise is a claim or refused; never anything else."""
        for data in (noise, REQUEST_BYTES[:40] + noise):
            try:
                self.assertIsInstance(decode_claim(data), ClaimRequest)
            except InvalidRequest:
                pass


class PromiseTests(SynchronousTestCase):
    """What is answered."""

    def test_literal(self) -> None:
        """A promise, byte by byte, there and back."""
        self.assertEqual(PROMISE_BYTES.hex(), encode_promise(PROMISE).hex())
        self.assertEqual(PROMISE, decode_promise(PROMISE_BYTES))

    def test_released(self) -> None:
        """One that was given back has the bit for it."""
        released = evolve(PROMISE, released=True, held_s=0.0)
        self.assertEqual(b"\x01\x00\x00\x00\x00\x00\x00\x00", encode_promise(released)[48:56])
        self.assertEqual(released, decode_promise(encode_promise(released)))

    def test_never_early(self) -> None:
        """The rest of a lease is rounded up."""
        self.assertEqual(1.001, decode_promise(encode_promise(evolve(PROMISE, held_s=1.0000201))).held_s)

    def test_truncated(self) -> None:
        """One that ends early is refused wherever it ends."""
        for end in range(len(PROMISE_BYTES)):
            self.assertRaises(PeerError, decode_promise, PROMISE_BYTES[:end])

    def test_no_identity(self) -> None:
        """A promise that nobody made is refused."""
        self.assertRaises(PeerError, decode_promise, bytes(16) + PROMISE_BYTES[16:])

    @settings(deadline=None)
    @given(st.binary(max_size=400))
    def test_random(self, noise: bytes) -> None:
        """Noise is a promise or refused; never anything else."""
        for data in (noise, PROMISE_BYTES[:56] + noise):
            try:
                self.assertIsInstance(decode_promise(data), Promise)
            except PeerError:
                pass
