"""
The words of the DST wire protocol: operations, flags, limits, and the frame they travel in.

C{docs/specifications/wire.rst} tells the story; the numbers here are part of the format.
"""

from __future__ import annotations

import enum

from dst.geometry import TRANSFER_BYTES_MAX
from dst.native.frames import ANSWER, Frame

__all__ = [
    "ANSWER",
    "CHANGES",
    "DAMAGED",
    "DATA_BYTES_MAX",
    "EXPORTS_MAX",
    "EXTENTS_MAX",
    "HELLO_BYTES_MAX",
    "MESSAGE_BYTES_MAX",
    "NAME_BYTES_MAX",
    "NOTICE_FIRST",
    "STATUS_BYTES_MAX",
    "VERSION",
    "Feature",
    "Flag",
    "Frame",
    "Operation",
]

VERSION = 1

DATA_BYTES_MAX = TRANSFER_BYTES_MAX
"""Data of one frame: nothing that is sent is larger than the largest transfer."""

HELLO_BYTES_MAX = 1024
"""Data of a hello or its answer: the names and some room.  All that a stranger can make us keep."""

NAME_BYTES_MAX = 255
"""A name in UTF-8: what file systems allow too."""

MESSAGE_BYTES_MAX = 1024
"""The sentence of an error."""

EXPORTS_MAX = 4096
"""Names in one list: with the longest names that is 1 MiB."""

EXTENTS_MAX = 4096
"""Extents in one answer to block status; who wants more asks again from the end."""

STATUS_BYTES_MAX = 1024 * 1024
"""A status tree as JSON: some 2000 entries."""

NOTICE_FIRST = 0x40
"""Kinds from here up to L{ANSWER} are notices."""


class Operation(enum.IntEnum):
    """What a frame is about."""

    HELLO = 1
    PING = 2
    LIST_EXPORTS = 3
    STATUS = 4
    CLAIM = 5
    READ = 16
    WRITE = 17
    FLUSH = 18
    TRIM = 19
    WRITE_ZEROES = 20
    BLOCK_STATUS = 21
    CHECKSUMS = 22
    CONFIGURATION = 64
    GOODBYE = 65


CHANGES = frozenset({int(Operation.WRITE), int(Operation.TRIM), int(Operation.WRITE_ZEROES)})
"""The operations that change a device."""


class Flag(enum.IntFlag):
    """Flags of a request."""

    FUA = 1
    NO_HOLE = 2
    FAST_ONLY = 4


DAMAGED = 0x8000
"""A flag of an answer: the data of the request did not arrive as it was sent, and nothing was done."""


class Feature(enum.IntFlag):
    """What both sides may have or lack."""

    CHECKSUMS = 1
    FENCING = 2
    BLOCK_CHECKSUMS = 4
