"""
The transmission phase as the server sees it: requests in, replies out.

The parser is made for one purpose: that one wake-up costs little however many requests it
brings.  C{feed} takes a chunk as it came from the socket and returns every request that is complete in
it, as tuples (L{dst.native.nbd.Request}).  A write's data is cut out of the chunk; only where it
does not fit does the parser keep state: the owner is asked for leave (C{wanted_bytes}) and may then let the
rest of the data be received straight into its place (C{hole}, C{filled}), so that a large write is never
copied, and never allocated for a client that is over its limits.
"""

from __future__ import annotations

from typing import Final

from dst.errors import PeerError
from dst.geometry import StatusExtent
from dst.native.files import new_buffer
from dst.native.nbd import Request, cut
from dst.nbd.constants import (
    CHUNK,
    DATA_CHUNK,
    DEFAULT_TRANSFER_BYTES_MAX,
    ERROR_CHUNK,
    HOLE_CHUNK,
    REPLY_FLAG_DONE,
    REPLY_TYPE_BLOCK_STATUS,
    REPLY_TYPE_ERROR,
    REPLY_TYPE_NONE,
    REPLY_TYPE_OFFSET_DATA,
    REPLY_TYPE_OFFSET_HOLE,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRING_BYTES_MAX,
    STRUCTURED_REPLY_MAGIC,
)

__all__ = [
    "RequestParser",
    "block_status_reply",
    "data_chunk_head",
    "done_chunk",
    "error_chunk",
    "hole_chunk",
    "simple_reply",
]

SKIPPED_BYTES_MAX: Final = 2 * DEFAULT_TRANSFER_BYTES_MAX
"""
A write above what one may carry is skipped and answered with an error, so that a client learns of its mistake; above
this it is not a mistake any more, and the connection ends.
"""

_HEADER_BYTES: Final = REQUEST.size
_MAGIC_BYTES: Final = REQUEST_MAGIC.to_bytes(4, "big")


class RequestParser:
    """
    Cut a stream into requests.

    @ivar wanted_bytes: the data of the write that comes next did not fit into the chunk, and takes so many bytes of
        memory; nothing is parsed until L{allow} is called.  0: nothing is being waited for.
    @ivar hole: where the next bytes belong, to be received straight into; the owner
        calls L{filled} and feeds nothing meanwhile.
    """

    __slots__ = (
        "_data_bytes_max",
        "_filled_bytes",
        "_rest",
        "_skip_bytes",
        "_target",
        "_write",
        "hole",
        "wanted_bytes",
    )

    def __init__(self, data_bytes_max: int = DEFAULT_TRANSFER_BYTES_MAX) -> None:
        """
        @param data_bytes_max: writes that carry more are skipped.
        """
        self.wanted_bytes = 0
        self.hole: memoryview | None = None
        self._data_bytes_max = data_bytes_max
        self._rest: bytes | memoryview = b""
        self._skip_bytes = 0
        self._write: Request | None = None
        self._target = bytearray()
        self._filled_bytes = 0

    @property
    def unfinished(self) -> object:
        """What has arrived in part, the same object while it is the same large write; C{None}: there is nothing."""
        return self._write or self._rest or None

    def feed(self, data: bytes) -> list[Request]:
        """
        Take the next chunk of the stream.

        @return: the requests that it completes, in order.
        @raise PeerError: this is not, or no longer, a stream of requests.
        """
        if self._rest:
            data = b"".join((self._rest, data))
            self._rest = b""
        if self._write is not None:
            if self.wanted_bytes:
                self._rest = data
                return []
            return self._fill(data)
        return self._parse(data, 0)

    def _parse(self, data: bytes, at: int) -> list[Request]:
        requests: list[Request] = []
        at = cut(data, at, self._data_bytes_max, requests)
        left = len(data) - at
        if left >= _HEADER_BYTES:
            self._begin_write(data, at, requests)
        elif left:
            self._rest = data[at:]
            if not _MAGIC_BYTES.startswith(self._rest[:4]):
                raise PeerError(f"a request began with {self._rest[:4].hex()} instead of {_MAGIC_BYTES.hex()}")
        return requests

    def _begin_write(self, data: bytes, at: int, requests: list[Request]) -> None:
        """A write begins at C{at} whose data is not all there, or too long; or it is no request at all."""
        magic, flags, command, cookie, offset, length = REQUEST.unpack_from(data, at)
        if magic != REQUEST_MAGIC:
            raise PeerError(f"a request began with {magic:#010x} instead of {REQUEST_MAGIC:#010x}")
        if length > SKIPPED_BYTES_MAX:
            raise PeerError(f"a write of {length} bytes; {self._data_bytes_max} are allowed")
        at += _HEADER_BYTES
        self._write = (command, flags, cookie, offset, length, None)
        if length > self._data_bytes_max:
            self._skip_bytes = length
            requests += self._fill(data[at:])
        else:
            self._rest = memoryview(data)[at:]
            self.wanted_bytes = length

    def allow(self) -> list[Request]:
        """
        The owner has room for C{wanted_bytes}: go on.

        @return: as L{feed}.
        """
        assert self._write is not None and self.wanted_bytes
        self._target = new_buffer(self.wanted_bytes)
        self._filled_bytes = 0
        self.wanted_bytes = 0
        rest, self._rest = self._rest, b""
        self.hole = memoryview(self._target)
        return self._fill(rest)

    def _fill(self, data: bytes | memoryview) -> list[Request]:
        """Put what is there of a write's data in its place, or away; then go on with what is behind it."""
        assert self._write is not None
        if self._skip_bytes:
            taken = min(len(data), self._skip_bytes)
            self._skip_bytes -= taken
            if self._skip_bytes:
                return []
            finished, self._write = self._write, None
            return [finished, *self._parse(bytes(data), taken)]
        assert self.hole is not None
        taken = min(len(data), len(self.hole))
        self.hole[:taken] = memoryview(data)[:taken]
        return [*self.filled(taken), *(self._parse(bytes(data), taken) if taken < len(data) else [])]

    def filled(self, count: int) -> list[Request]:
        """
        C{count} bytes were received into C{hole}.

        @return: the write, if that was all of it.
        """
        assert self._write is not None and self.hole is not None
        self._filled_bytes += count
        self.hole = self.hole[count:]
        if len(self.hole):
            return []
        command, flags, cookie, offset, length, _ = self._write
        finished: Request = (command, flags, cookie, offset, length, self._target)
        self._write, self.hole, self._target = None, None, bytearray()
        return [finished]


def simple_reply(cookie: int, errno: int = 0) -> bytes:
    """A simple reply, or what goes before the data of a successful read."""
    return SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, errno, cookie)


def done_chunk(cookie: int) -> bytes:
    """A structured reply that says only that it worked."""
    return CHUNK.pack(STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, REPLY_TYPE_NONE, cookie, 0)


def data_chunk_head(cookie: int, offset: int, length: int) -> bytes:
    """What goes before the data of a read, as its only chunk."""
    return DATA_CHUNK.pack(
        STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, REPLY_TYPE_OFFSET_DATA, cookie, length + 8, offset
    )


def hole_chunk(cookie: int, offset: int, length: int) -> bytes:
    """The reply to a read of zeroes alone."""
    return HOLE_CHUNK.pack(
        STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, REPLY_TYPE_OFFSET_HOLE, cookie, 12, offset, length
    )


def error_chunk(cookie: int, errno: int, sentence: str) -> bytes:
    """The reply to a request that failed, and why."""
    text = sentence.encode()[:STRING_BYTES_MAX].decode(errors="ignore").encode()
    return (
        ERROR_CHUNK.pack(
            STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, REPLY_TYPE_ERROR, cookie, 6 + len(text), errno, len(text)
        )
        + text
    )


def block_status_reply(cookie: int, context_id: int, extents: list[StatusExtent], length: int) -> bytes:
    """
    The reply to a block status request.

    @param extents: at least one; what goes beyond C{length} is cut off.
    """
    payload = [context_id.to_bytes(4, "big")]
    left = length
    for extent in extents:
        size = min(extent.length, left)
        if size == 0:
            break
        payload.append(size.to_bytes(4, "big") + int(extent.status).to_bytes(4, "big"))
        left -= size
    body = b"".join(payload)
    return CHUNK.pack(STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, REPLY_TYPE_BLOCK_STATUS, cookie, len(body)) + body
