"""What a fence keeps: literal bytes, damage of every kind, and the decision as a table."""

from __future__ import annotations

from attrs import evolve
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import BadMedia, InvalidRequest
from dst.label.promise import LEASE_S_MAX, Kept, check_claim, check_name, decode_kept, encode_kept, judge_fence
from dst.ownership import NO_CLAIM, Claim

KEPT = Kept(bytes(range(16)), Claim(7, 0x1122334455667788, b"o" * 16), False, 3.0, "höst")
KEPT_BYTES = bytes.fromhex(
    "44535446454e4345 0100 0000"  # DSTFENCE, version, held
    "b80b0000"  # lease
    "000102030405060708090a0b0c0d0e0f"  # identity
    "0700000000000000 8877665544332211 6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f"  # claim
    "0500 68c3b67374"  # name
    "1a1f5e4d"  # CRC
)

A, B = b"a" * 16, b"b" * 16


class KeptTests(SynchronousTestCase):
    """The file."""

    def test_literal(self) -> None:
        """What is kept, byte by byte, there and back."""
        self.assertEqual(KEPT_BYTES.hex(), encode_kept(KEPT).hex())
        self.assertEqual(KEPT, decode_kept(KEPT_BYTES))

    def test_released(self) -> None:
        """One that was given back, and one that never was granted."""
        for kept in (evolve(KEPT, released=True), Kept(b"f" * 16)):
            self.assertEqual(kept, decode_kept(encode_kept(kept)))

    def test_truncated(self) -> None:
        """One that was torn is refused wherever it ends: it is not taken for nothing."""
        for end in range(len(KEPT_BYTES)):
            self.assertRaises(BadMedia, decode_kept, KEPT_BYTES[:end])

    def test_every_byte(self) -> None:
        """So is one with any byte changed."""
        for position in range(len(KEPT_BYTES)):
            for flipped in (1, 0x80, 0xFF):
                changed = bytearray(KEPT_BYTES)
                changed[position] ^= flipped
                self.assertRaises(BadMedia, decode_kept, bytes(changed))

    def test_later_version(self) -> None:
        """One that a later DST has written is refused, with both versions in the sentence."""
        later = bytearray(KEPT_BYTES[:-4])
        later[8] = 2
        error = self.assertRaises(BadMedia, decode_kept, bytes(later) + crc32c(bytes(later)).to_bytes(4, "little"))
        self.assertEqual("it has version 2, this DST knows 1", error.message)

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_random(self, noise: bytes) -> None:
        """Noise is refused."""
        self.assertRaises(BadMedia, decode_kept, noise)


class JudgeTests(SynchronousTestCase):
    """Who is granted a claim."""

    def test_table(self) -> None:
        """Promise, claim, silence: granted or not."""
        held = Kept(bytes(16), Claim(5, 50, A), False, 3.0)
        given_back = evolve(held, released=True)
        fresh = Kept(bytes(16))
        for granted, kept, claim, silent_s in (
            (True, fresh, Claim(1, 1, A), 0.0),
            (False, held, Claim(6, 1, B), 0.0),
            (False, held, Claim(6, 1, B), 2.999),
            (True, held, Claim(6, 1, B), 3.0),
            (False, held, Claim(5, 49, B), 9.0),
            (True, held, Claim(5, 51, B), 9.0),
            (False, held, Claim(5, 50, B), 9.0),
            (True, held, Claim(6, 1, A), 0.0),
            (False, held, Claim(5, 50, A), 0.0),
            (False, held, Claim(4, 99, A), 0.0),
            (True, given_back, Claim(6, 1, B), 0.0),
            (False, given_back, Claim(5, 50, A), 9.0),
            (False, given_back, Claim(4, 1, B), 9.0),
        ):
            why = judge_fence(kept, claim, silent_s)
            self.assertEqual(granted, not why, f"{claim} after {kept}: {why}")

    def test_reasons(self) -> None:
        """A refusal says who has it and for how long."""
        held = Kept(bytes(16), Claim(5, 50, A), False, 3.0, "alpha")
        self.assertEqual("alpha may count on its claim for 2.0 s more", judge_fence(held, Claim(6, 1, B), 1.0))

    def test_nonsense(self) -> None:
        """A claim that could never be kept is refused whatever was promised."""
        for claim, lease_s, name in (
            (NO_CLAIM, 3.0, ""),
            (Claim(1, 1, b"short"), 3.0, ""),
            (Claim(1, 1, A), -1.0, ""),
            (Claim(1, 1, A), float("nan"), ""),
            (Claim(1, 1, A), LEASE_S_MAX + 1, ""),
            (Claim(1, 1, A), 3.0, "ä" * 128),
        ):
            self.assertRaises(InvalidRequest, check_claim, claim, lease_s, name)
        check_claim(Claim(1, 1, A), LEASE_S_MAX, "ä" * 127)
        check_name("n" * 255)
