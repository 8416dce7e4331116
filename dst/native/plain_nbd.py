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
    "CMD_READ",
    "CMD_WRITE",
    "COPIED_BYTES_MAX",
    "DATA_CHUNK",
    "HOLE_BYTES_MAX",
    "HOLE_BYTES_MIN",
    "HOLE_CHUNK",
    "REPLY_FLAG_DONE",
    "REPLY_TYPE_OFFSET_DATA",
    "REPLY_TYPE_OFFSET_HOLE",
    "REQUEST",
    "REQUEST_MAGIC",
    "SIMPLE_REPLY",
    "SIMPLE_REPLY_MAGIC",
    "STRUCTURED_REPLY_MAGIC",
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

CMD_READ: Final = 0
CMD_WRITE: Final = 1

REQUEST: Final = Struct(">IHHQQI")
"""Magic, flags, type, cookie, offset, length; a write's data follows."""
REQUEST_MAGIC: Final = 0x25609513
_HEADER_BYTES: Final = REQUEST.size
SIMPLE_REPLY: Final = Struct(">IIQ")
"""Magic, error, cookie; the data of a read that succeeded follows."""
SIMPLE_REPLY_MAGIC: Final = 0x67446698
STRUCTURED_REPLY_MAGIC: Final = 0x668E33EF
REPLY_FLAG_DONE: Final = 1
REPLY_TYPE_OFFSET_DATA: Final = 1
REPLY_TYPE_OFFSET_HOLE: Final = 2
DATA_CHUNK: Final = Struct(">IHHQIQ")
"""A chunk header and the offset that the payload of a data chunk begins with."""
HOLE_CHUNK: Final = Struct(">IHHQIQI")
"""A whole chunk that says: this many bytes from this offset are zero."""

_ZEROES: Final = bytes(HOLE_BYTES_MAX)


def cut(data: bytes, at: int, data_bytes_max: int, requests: list[Request]) -> int:
    """
    Append the requests in C{data} from C{at} on that are complete.

    @return: where it ends or something else begins: the rest of a header, a header with the wrong magic, or a write
        whose data is not complete, or longer than C{data_bytes_max}.
    """
    unpack = REQUEST.unpack_from
    end = len(data)
    if not 0 <= at <= end:
        raise ValueError(f"there is no byte {at} among {end}")
    view: memoryview | None = None
    while end - at >= _HEADER_BYTES:
        magic, flags, command, cookie, offset, length = unpack(data, at)
        if magic != REQUEST_MAGIC:
            break
        if command != CMD_WRITE:
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


def _is_plain(request: Request, wanted: int, rules: tuple[int, int, int], room_bytes: int) -> bool:
    """Whether it is this command without flags, on a good extent for which there is room; rules as below."""
    command, flags, _, offset, length, _ = request
    size, mask, length_max = rules
    return (
        command == wanted
        and not flags
        and 0 < length <= min(length_max, room_bytes)
        and offset + length <= size
        and not (offset | length) & mask
    )


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
    read_bytes = 0
    while at < min(end, len(requests)):
        request = requests[at]
        if not _is_plain(request, CMD_READ, rules, room_bytes - read_bytes):
            break
        _, _, cookie, offset, length, _ = request
        data = read_now(offset, length)
        if data is None or len(data) != length:
            break
        if not structured:
            out.append(SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, cookie))
            out.append(data)
        elif length >= HOLE_BYTES_MIN and is_zero(data):
            out.append(
                HOLE_CHUNK.pack(
                    STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, REPLY_TYPE_OFFSET_HOLE, cookie, 12, offset, length
                )
            )
        else:
            out.append(
                DATA_CHUNK.pack(
                    STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, REPLY_TYPE_OFFSET_DATA, cookie, length + 8, offset
                )
            )
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
    written_bytes = 0
    while at < min(end, len(requests)):
        request = requests[at]
        _, _, cookie, offset, length, data = request
        if data is None or not _is_plain(request, CMD_WRITE, rules, room_bytes - written_bytes):
            break
        writes.append((offset, data))
        cookies.append(cookie)
        written_bytes += length
        at += 1
    return at, written_bytes


def simple_replies(cookies: list[int]) -> bytes:
    """That all of these were done."""
    pack = SIMPLE_REPLY.pack
    return b"".join([pack(SIMPLE_REPLY_MAGIC, 0, cookie) for cookie in cookies])


def is_zero(data: _Buffer) -> bool:
    """Whether C{data}, which is no longer than L{HOLE_BYTES_MAX}, is nothing but zeroes."""
    return len(data) <= HOLE_BYTES_MAX and _ZEROES.startswith(data)
