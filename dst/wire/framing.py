"""
Frames to bytes.

Data is not copied: a frame is given back as its header, and its data goes out after it as it is.
"""

from __future__ import annotations

import struct

from crc32c import crc32c

from dst.errors import DSTError
from dst.interfaces import Buffer
from dst.status import Status
from dst.wire.messages import ANSWER, MESSAGE_BYTES_MAX, Operation

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "NO_EPOCH",
    "answer_header",
    "error_answer",
    "goodbye",
    "notice",
    "request_header",
]

MAGIC = b"DST\x01"

HEADER_BYTES = 64

NO_EPOCH = bytes(16)

CHECKED_BYTES = 60
"""The part of the header that its own CRC covers."""

CHECKED = struct.Struct("<4sBBHQQQ16sIII")
HEADER_CRC = struct.Struct("<I")
assert CHECKED.size == CHECKED_BYTES and CHECKED_BYTES + HEADER_CRC.size == HEADER_BYTES

_pack = CHECKED.pack
_pack_crc = HEADER_CRC.pack


def request_header(
    operation: int,
    request_id: int,
    offset: int = 0,
    length: int = 0,
    *,
    flags: int = 0,
    epoch: bytes = NO_EPOCH,
    data: Buffer = b"",
    checksum: bool = True,
    data_crc: int | None = None,
) -> bytes:
    """
    The header of a request whose data is C{data}.

    @param data_crc: the CRC-32C of C{data}, if that is known already; not looked at without C{checksum}.
    """
    crc = (crc32c(data) if data_crc is None else data_crc) if checksum and data else 0
    header = _pack(MAGIC, operation, 0, flags, request_id, offset, length, epoch, len(data), crc, 0)
    return header + _pack_crc(crc32c(header))


def answer_header(
    operation: int,
    request_id: int,
    *,
    status: int = 0,
    flags: int = 0,
    data: Buffer = b"",
    checksum: bool = True,
    data_crc: int | None = None,
) -> bytes:
    """The header of the answer to request C{request_id}; C{data_crc} as in L{request_header}."""
    crc = (crc32c(data) if data_crc is None else data_crc) if checksum and data else 0
    header = _pack(MAGIC, operation | ANSWER, status, flags, request_id, 0, 0, NO_EPOCH, len(data), crc, 0)
    return header + _pack_crc(crc32c(header))


def error_answer(operation: int, request_id: int, error: DSTError, *, flags: int = 0) -> bytes:
    """The whole answer that says how request C{request_id} failed."""
    message = _sentence(error.message)
    return answer_header(operation, request_id, status=error.status, flags=flags, data=message) + message


def goodbye(error: DSTError) -> bytes:
    """The whole frame with which a server says why it closes the connection."""
    return notice(Operation.GOODBYE, _sentence(error.message), status=error.status)


def notice(operation: Operation, data: bytes, *, status: Status = Status.OK) -> bytes:
    """A whole frame that answers nothing."""
    crc = crc32c(data) if data else 0
    header = _pack(MAGIC, operation, status, 0, 0, 0, 0, NO_EPOCH, len(data), crc, 0)
    return header + _pack_crc(crc32c(header)) + data


def _sentence(text: str) -> bytes:
    """C{text} in UTF-8, cut between characters if it is too long."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > MESSAGE_BYTES_MAX:
        encoded = encoded[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore").encode()
    return encoded
