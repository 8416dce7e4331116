"""
One label and one table page, as values and as the bytes that C{docs/specifications/label.rst} shows.
"""

from __future__ import annotations

from dst.label.format import Claim, Epoch, Fork, Label, MemberEntry, Record, Vote

__all__ = [
    "LABEL",
    "LABEL_BYTES",
    "MEDIA_BYTES",
    "PAGE_AGES",
    "PAGE_BYTES_SHOWN",
    "REGION_BYTES",
    "STORAGE_ID",
    "numbered",
]

MEDIA_BYTES = 1_114_112
"""17 regions of 64 KiB."""

REGION_BYTES = 64 * 1024


def numbered(first: int) -> bytes:
    """16 bytes that count from C{first}."""
    return bytes(range(first, first + 16))


STORAGE_ID = numbered(0x10)

LABEL = Label(
    sequence=6,
    storage_id=STORAGE_ID,
    node_id=numbered(0x20),
    algorithm="mirror",
    place=1,
    consistent=True,
    since=Epoch(0x1122334455667788, 3),
    media_size=MEDIA_BYTES,
    zone_offset=1_040_384,
    data_size=524_288,
    region_size=REGION_BYTES,
    unit=0,
    record=Record(
        claim=Claim(2, 0x1122334455667788, numbered(0x30)),
        sequence=5,
        incarnation=numbered(0x40),
        members=(
            MemberEntry(numbered(0x50), numbered(0x60), 0, "a", media_size=0x110000),
            MemberEntry(numbered(0x20), numbered(0x70), 1, "b", in_sync=False, suspended=True, media_size=0x110000),
        ),
        released=True,
        ancestry=(Fork(Claim(1, 0x99, numbered(0x80)), 4, 0x77),),
        votes=(Vote(numbered(0x50), numbered(0xA0), "a"), Vote(numbered(0x90), bytes(16), "own")),
        data_size=0x80000,
    ),
)

LABEL_BYTES = bytes.fromhex(
    # header
    "44 53 54 4c 41 42 45 4c  02 00 00 00  00 00 00 00"
    "00 00 00 00  90 01 00 00  06 00 00 00 00 00 00 00"
    "90 17 11 74  00 00 00 00 00 00 00 00 00 00 00 00"
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
    "00 00 08 00 00 00 00 00  01 00 00 00  00  01  02 00"
    # its ancestry
    "01 00 00 00 00 00 00 00  99 00 00 00 00 00 00 00"
    "80 81 82 83 84 85 86 87 88 89 8a 8b 8c 8d 8e 8f"
    "04 00 00 00 00 00 00 00  77 00 00 00 00 00 00 00"
    # its members
    "50 51 52 53 54 55 56 57 58 59 5a 5b 5c 5d 5e 5f"
    "60 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f"
    "00 00 11 00 00 00 00 00  00 00 00 00  01 00  01  61"
    "20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f"
    "70 71 72 73 74 75 76 77 78 79 7a 7b 7c 7d 7e 7f"
    "00 00 11 00 00 00 00 00  01 00 00 00  04 00  01  62"
    # its votes
    "02 00"
    "50 51 52 53 54 55 56 57 58 59 5a 5b 5c 5d 5e 5f"
    "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af"
    "01  61"
    "90 91 92 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f"
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "03  6f 77 6e"
)
"""The slot that holds L{LABEL}, without the zeroes behind it."""

PAGE_AGES = ((Epoch(0x1122334455667788, 3), False), (Epoch(), True), (Epoch(0x99, 7), True))
"""Age and whether it is hot, of the three regions of a table."""

PAGE_BYTES_SHOWN = bytes.fromhex(
    # header
    "44 53 54 52  6c 68 39 c0  00 00 00 00  03 00 00 00"
    "09 00 00 00 00 00 00 00  10 11 12 13 14 15 16 17"
    # entries
    "88 77 66 55 44 33 22 11  03 00 00 00  00 00 00 00"
    "00 00 00 00 00 00 00 00  00 00 00 00  01 00 00 00"
    "99 00 00 00 00 00 00 00  07 00 00 00  01 00 00 00"
)
"""Page 0 of that table, image 9, without the zeroes behind it."""
