"""
The requests of NBD clients, cut out of what arrives, and the usual answers to them.

The layouts are those of the NBD protocol's transmission phase, in network order::

    request           magic 4 | flags 2 | command 2 | cookie 8 | offset 8 | length 4     the data of a write behind it
    simple reply      magic 4 | error 4 | cookie 8
    structured reply  magic 4 | flags 2 | type 2 | cookie 8 | length 4                   payload behind it
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, TypeAlias

__all__ = [
    "COPIED_BYTES_MAX",
    "HOLE_BYTES_MAX",
    "HOLE_BYTES_MIN",
    "Request",
    "answer_reads",
    "cut",
    "gather_writes",
    "is_zero",
    "simple_replies",
]

_Buffer: TypeAlias = bytes | bytearray | memoryview

Request: TypeAlias = tuple[int, int, int, int, int, _Buffer | None]
"""Command, flags, cookie, offset, length, and the data of a write."""

COPIED_BYTES_MAX: Final = 16 * 1024
"""
Data up to this is copied out of its chunk: cheaper than keeping a whole chunk alive while a slow device writes
it.
"""

HOLE_BYTES_MIN: Final = 32 * 1024
"""Smaller reads are not looked at for zeroes: to say "hole" would save less than to look costs."""

HOLE_BYTES_MAX: Final = 1024 * 1024
"""Nor are larger ones: whoever asks for so much at once wants to have it."""

_READ: Final = 0
_WRITE: Final = 1

_REQUEST: Final = Struct(">IHHQQI")
_REQUEST_MAGIC: Final = 0x25609513
_HEADER_BYTES: Final = _REQUEST.size
_SIMPLE_REPLY: Final = Struct(">IIQ")
_SIMPLE_REPLY_MAGIC: Final = 0x67446698
_STRUCTURED_REPLY_MAGIC: Final = 0x668E33EF
_DONE: Final = 1
_OFFSET_DATA: Final = 1
_OFFSET_HOLE: Final = 2
_DATA_CHUNK: Final = Struct(">IHHQIQ")
_HOLE_CHUNK: Final = Struct(">IHHQIQI")

_ZEROES: Final = bytes(HOLE_BYTES_MAX)


def cut(data: bytes, at: int, data_bytes_max: int, requests: list[Request]) -> int:
    """
    Append the requests in C{data} from C{at} on that are complete.

    @return: where it ends or something else begins: the rest of a header, a header with the wrong magic, or a write
        whose data is not complete, or longer than C{data_bytes_max}.
    """
    unpack = _REQUEST.unpack_from
    end = len(data)
    if not 0 <= at <= end:
        raise ValueError(f"there is no byte {at} among {end}")
    view: memoryview | None = None
    while end - at >= _HEADER_BYTES:
        magic, flags, command, cookie, offset, length = unpack(data, at)
        if magic != _REQUEST_MAGIC:
            break
        if command != _WRITE:
            at += _HEADER_BYTES
            requests.append((command, flags, cookie, offset, length, None))
            continue
        begin = at + _HEADER_BYTES
        after = begin + length
        if length > data_bytes_max or after > end:
            break
        if length <= COPIED_BYTES_MAX:
            payload: _Buffer = data[begin:after]
        else:
            if view is None:
                view = memoryview(data)
            payload = view[begin:after]
        requests.append((command, flags, cookie, offset, length, payload))
        at = after
    return at


def answer_reads(
    requests: list[Request],
    at: int,
    end: int,
    room_bytes: int,
    rules: tuple[int, int, int],
    read_now: Callable[[int, int], _Buffer | None],
    structured: bool,
    out: list[_Buffer],
) -> tuple[int, int]:
    """
    Answer the reads from C{requests[at]} to before C{requests[end]}, until something else comes: another command, one
    with flags, an extent that is not good, more than C{room_bytes}, or what is not at hand.

    @param rules: the size of the device, its block size less one, and the longest read.
    @param read_now: as L{dst.interfaces.IReadsNow}.
    @param structured: answer in structured replies.
    @param out: the answers are appended.
    @return: where it stopped, and the bytes that were read.
    """
    size, mask, length_max = rules
    read_bytes = 0
    while at < min(end, len(requests)):
        command, flags, cookie, offset, length, _ = requests[at]
        if (
            command != _READ
            or flags
            or not 0 < length <= length_max
            or offset + length > size
            or (offset | length) & mask
            or read_bytes + length > room_bytes
        ):
            break
        data = read_now(offset, length)
        if data is None or len(data) != length:
            break
        if not structured:
            out.append(_SIMPLE_REPLY.pack(_SIMPLE_REPLY_MAGIC, 0, cookie))
            out.append(data)
        elif length >= HOLE_BYTES_MIN and is_zero(data):
            out.append(_HOLE_CHUNK.pack(_STRUCTURED_REPLY_MAGIC, _DONE, _OFFSET_HOLE, cookie, 12, offset, length))
        else:
            out.append(_DATA_CHUNK.pack(_STRUCTURED_REPLY_MAGIC, _DONE, _OFFSET_DATA, cookie, length + 8, offset))
            out.append(data)
        read_bytes += length
        at += 1
    return at, read_bytes


def gather_writes(
    requests: list[Request],
    at: int,
    end: int,
    room_bytes: int,
    rules: tuple[int, int, int],
    writes: list[tuple[int, _Buffer]],
    cookies: list[int],
) -> tuple[int, int]:
    """
    Append the writes from C{requests[at]} to before C{requests[end]}, until something else comes, as in
    L{answer_reads}.

    @param writes: C{(offset, data)} of each is appended.
    @param cookies: so is its cookie.
    @return: where it stopped, and the bytes of their data.
    """
    size, mask, length_max = rules
    written_bytes = 0
    while at < min(end, len(requests)):
        command, flags, cookie, offset, length, data = requests[at]
        if (
            command != _WRITE
            or flags
            or data is None
            or not 0 < length <= length_max
            or offset + length > size
            or (offset | length) & mask
            or written_bytes + length > room_bytes
        ):
            break
        writes.append((offset, data))
        cookies.append(cookie)
        written_bytes += length
        at += 1
    return at, written_bytes


def simple_replies(cookies: list[int]) -> bytes:
    """That all of these were done."""
    pack = _SIMPLE_REPLY.pack
    return b"".join([pack(_SIMPLE_REPLY_MAGIC, 0, cookie) for cookie in cookies])


def is_zero(data: _Buffer) -> bool:
    """Whether C{data}, which is no longer than L{HOLE_BYTES_MAX}, is nothing but zeroes."""
    return len(data) <= HOLE_BYTES_MAX and _ZEROES.startswith(data)
