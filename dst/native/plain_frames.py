"""
What C{dst/native/_frames.c} does, in Python; L{dst.native.frames} tells which of them is used.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from attrs import define
from crc32c import crc32c

from dst.interfaces import Buffer

__all__ = [
    "ANSWER",
    "CHECKED_BYTES",
    "HEADER_BYTES",
    "MAGIC",
    "NO_EPOCH",
    "Frame",
    "answer_header",
    "crc32c",
    "cut",
    "done_answers",
    "request_header",
    "unpack_header",
]

MAGIC: Final = b"DST\x01"

HEADER_BYTES: Final = 64

CHECKED_BYTES: Final = 60
"""The part of the header that its own CRC covers."""

NO_EPOCH: Final = bytes(16)

ANSWER: Final = 0x80
"""Added to the operation in its answer."""

_CHECKED = struct.Struct("<4sBBHQQQ16sIII")
_HEADER_CRC = struct.Struct("<I")
assert _CHECKED.size == CHECKED_BYTES and CHECKED_BYTES + _HEADER_CRC.size == HEADER_BYTES

_pack = _CHECKED.pack
_pack_crc = _HEADER_CRC.pack

unpack_header: Final = struct.Struct("<4sBBHQQQ16sIIII").unpack_from
"""Magic, kind, status, flags, id, offset, length, epoch, data_bytes, data_crc, reserved, header_crc."""


@define(eq=False)
class Frame:
    """
    One message, in either direction.  Not frozen only because that makes it three times cheaper: nobody changes one.

    @ivar kind: an C{Operation}, plus L{ANSWER} in an answer; or a number not known here.
    @ivar status: a L{dst.status.Status}, or a number not known here; 0 in requests.
    @ivar epoch: the claim it is made under, 16 bytes.
    @ivar data: may be a view of a larger buffer.
    @ivar intact: C{data} has the checksum that was sent with it.
    """

    kind: int
    status: int
    flags: int
    id: int
    offset: int
    length: int
    epoch: bytes
    data: Buffer
    intact: bool


def cut(piece: Buffer, position: int, data_bytes_max: int, checksums: bool) -> tuple[list[Frame], int]:
    """
    The frames in C{piece}, one after the other from C{position} on, as long as they are good and all there.

    @param data_bytes_max: one that announces more is not good.
    @param checksums: whether data is compared with its checksum.
    @return: the frames, and the position after them.
    """
    frames: list[Frame] = []
    view = memoryview(piece)
    end = len(view)
    if not 0 <= position <= end or view.itemsize != 1:
        raise ValueError("the position is not inside of the piece, or that is not of bytes")
    while end - position >= HEADER_BYTES:
        magic, kind, status, flags, request_id, offset, length, epoch, data_bytes, data_crc, _, header_crc = (
            unpack_header(view, position)
        )
        begin = position + HEADER_BYTES
        if (
            magic != MAGIC
            or crc32c(view[position : position + CHECKED_BYTES]) != header_crc
            or data_bytes > data_bytes_max
            or data_bytes > end - begin
        ):
            break
        position = begin + data_bytes
        if data_bytes:
            data = view[begin:position]
            intact = not checksums or crc32c(data) == data_crc
            frames.append(Frame(kind, status, flags, request_id, offset, length, epoch, data, intact))
        else:
            frames.append(Frame(kind, status, flags, request_id, offset, length, epoch, b"", True))
    return frames, position


def request_header(
    operation: int,
    request_id: int,
    offset: int = 0,
    length: int = 0,
    *,
    status: int = 0,
    flags: int = 0,
    epoch: bytes = NO_EPOCH,
    data: Buffer = b"",
    checksum: bool = True,
    data_crc: int | None = None,
) -> bytes:
    """
    The header of a request, or of a notice, whose data is C{data}.

    @param status: only notices have one.
    @param data_crc: the CRC-32C of C{data}, if that is known already; not looked at without C{checksum}.
    """
    if len(epoch) != len(NO_EPOCH):
        raise ValueError(f"an epoch has {len(NO_EPOCH)} bytes, not {epoch!r}")
    crc = (crc32c(data) if data_crc is None else data_crc) if checksum and data else 0
    header = _pack(MAGIC, operation, status, flags, request_id, offset, length, epoch, len(data), crc, 0)
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


def done_answers(frames: Sequence[Frame]) -> bytes:
    """The answers that say of each request in C{frames}, a list, that it was done, and nothing else."""
    return b"".join([answer_header(frame.kind, frame.id) for frame in frames])
