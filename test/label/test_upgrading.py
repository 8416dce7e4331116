"""Tests of L{dst.label.upgrading}: labels as release 0.1 wrote them."""

from __future__ import annotations

import struct

from crc32c import crc32c
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import BadMedia
from dst.label.format import VERSION, Claim, Epoch, Fork, Label, MemberEntry, Record, decode_slot, encode_slot
from dst.label.upgrading import FormatTooNew

HEADER_BYTES = 64


def numbered(first: int) -> bytes:
    """16 bytes that count from C{first}."""
    return bytes(range(first, first + 16))


SLOT = bytes.fromhex(
    # header
    "44 53 54 4c 41 42 45 4c  01 00 00 00  00 00 00 00"
    "00 00 00 00  28 01 00 00  06 00 00 00 00 00 00 00"
    "32 50 22 99  00 00 00 00 00 00 00 00 00 00 00 00"
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    # the member's own part
    "10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f"
    "20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f"
    "6d 69 72 72 6f 72 00 00 00 00 00 00 00 00 00 00"
    "01 00 00 00  01 00 00 00  00 00 11 00 00 00 00 00"
    "00 e0 0f 00 00 00 00 00  00 00 08 00 00 00 00 00"
    "00 00 01 00 00 00 00 00  00 00 00 00 00 00 00 00"
    "88 77 66 55 44 33 22 11  03 00 00 00  00 00 00 00"
    # the record
    "02 00 00 00 00 00 00 00  88 77 66 55 44 33 22 11"
    "30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f"
    "05 00 00 00 00 00 00 00"
    "40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f"
    "01 00 00 00  00  01  02 00"
    # its ancestry
    "01 00 00 00 00 00 00 00  99 00 00 00 00 00 00 00"
    "80 81 82 83 84 85 86 87 88 89 8a 8b 8c 8d 8e 8f"
    "04 00 00 00 00 00 00 00"
    # its members
    "50 51 52 53 54 55 56 57 58 59 5a 5b 5c 5d 5e 5f"
    "60 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f"
    "00 00 00 00  03 00  01  61"
    "20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f"
    "70 71 72 73 74 75 76 77 78 79 7a 7b 7c 7d 7e 7f"
    "01 00 00 00  06 00  01  62"
)
"""The worked example of the specification of release 0.1."""

LABEL = Label(
    sequence=6,
    storage_id=numbered(0x10),
    node_id=numbered(0x20),
    algorithm="mirror",
    place=1,
    consistent=True,
    since=Epoch(0x1122334455667788, 3),
    media_size=1_114_112,
    zone_offset=1_040_384,
    data_size=524_288,
    region_size=65536,
    unit=0,
    record=Record(
        claim=Claim(2, 0x1122334455667788, numbered(0x30)),
        sequence=5,
        incarnation=numbered(0x40),
        members=(
            MemberEntry(numbered(0x50), numbered(0x60), 0, "a"),
            MemberEntry(numbered(0x20), numbered(0x70), 1, "b", in_sync=False, suspended=True),
        ),
        released=True,
        ancestry=(Fork(Claim(1, 0x99, numbered(0x80)), 4, 0),),
        votes=(),
        data_size=524_288,
    ),
)


def sealed(slot: bytes) -> bytes:
    """C{slot} with the checksum that fits it."""
    (length,) = struct.unpack_from("<I", slot, 20)
    blank = slot[:32] + bytes(4) + slot[36:]
    return slot[:32] + struct.pack("<I", crc32c(blank[: HEADER_BYTES + length])) + slot[36:]


class FirstVersionTests(SynchronousTestCase):
    """What is read of version 1."""

    def test_literal(self) -> None:
        """Every field keeps its meaning; nobody votes; what a mirror's member holds is the size of the storage."""
        self.assertEqual(LABEL, decode_slot(SLOT))

    def test_joined(self) -> None:
        """A member of a linear has a part of the storage only: the record does not say how large it is."""
        label = decode_slot(sealed(SLOT.replace(b"mirror", b"linear")))
        assert label is not None
        self.assertEqual((524_288, 0), (label.data_size, label.record.data_size))

    def test_written_today(self) -> None:
        """What is written next has today's version, and says the same."""
        slot = encode_slot(LABEL)
        self.assertEqual(VERSION, struct.unpack_from("<H", slot, 8)[0])
        self.assertEqual(LABEL, decode_slot(slot))

    def test_every_cut(self) -> None:
        """A body that ends anywhere before its end is refused, even with a checksum that fits."""
        whole = len(SLOT) - HEADER_BYTES
        for length in range(whole):
            cut = sealed(SLOT[:20] + struct.pack("<I", length) + SLOT[24:])
            self.assertIn("ends before", str(self.assertRaises(BadMedia, decode_slot, cut)))

    def test_too_many(self) -> None:
        """Counts above the limits are refused, whether or not there are so many."""
        at = HEADER_BYTES + 112 + 60
        for members in (257, 65535):
            slot = SLOT[:at] + bytes([0, 1]) + struct.pack("<H", members) + SLOT[at + 4 :]
            self.assertRaises(BadMedia, decode_slot, sealed(slot))

    def test_features(self) -> None:
        """Version 1 had no incompatible features: one that says so is not of version 1."""
        self.assertRaises(FormatTooNew, decode_slot, sealed(SLOT[:12] + b"\x01" + SLOT[13:]))

    def test_version_0(self) -> None:
        """There was no version 0."""
        self.assertRaises(BadMedia, decode_slot, sealed(SLOT[:8] + b"\x00" + SLOT[9:]))
