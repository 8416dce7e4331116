"""
The transmission phase as the client sees it: requests out, replies in.

The parser keeps the requests that are in flight, because a reply can only be read by one who knows what was
asked: a simple reply to a read is followed by as many bytes as were wanted.

Replies are handed out as tuples, many per wake-up.  The data of a large read is received straight into its
place (C{hole}), see L{dst.nbd.requests}.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias

from dst.errors import DSTError, PeerError
from dst.geometry import BlockStatus, StatusExtent
from dst.interfaces import Buffer
from dst.nbd.constants import (
    CHUNK,
    CMD_BLOCK_STATUS,
    CMD_READ,
    COMMAND_NAMES,
    REPLY_FLAG_DONE,
    REPLY_TYPE_BLOCK_STATUS,
    REPLY_TYPE_ERROR,
    REPLY_TYPE_ERROR_OFFSET,
    REPLY_TYPE_FLAG_ERROR,
    REPLY_TYPE_NONE,
    REPLY_TYPE_OFFSET_DATA,
    REPLY_TYPE_OFFSET_HOLE,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
)
from dst.nbd.errno import error_from_errno

__all__ = ["Reply", "ReplyParser", "encode_request"]

Reply: TypeAlias = tuple[int, DSTError | Buffer | list[StatusExtent] | None]
"""Cookie, and what came of it: an error, a read's data, a block status, or nothing more to say."""

CONTROL_PAYLOAD_BYTES_MAX: Final = 1024 * 1024
"""The longest chunk without data of the device: a block status of 128 thousand extents."""

CHUNKS_MAX: Final = 65536 + 16
"""
Chunks in one reply: a read of 32 MiB may come in sectors of 512 bytes; a server that sends more has no end in
mind.
"""

_U32: Final = Struct(">I")
_OFFSET: Final = Struct(">Q")
_HOLE: Final = Struct(">QI")
_ERROR: Final = Struct(">IH")
_EXTENT: Final = Struct(">II")
_SIMPLE_HEADER_BYTES: Final = SIMPLE_REPLY.size
_CHUNK_HEADER_BYTES: Final = CHUNK.size


def encode_request(command: int, flags: int, cookie: int, offset: int, length: int) -> bytes:
    """A request; a write's data is sent behind it."""
    return REQUEST.pack(REQUEST_MAGIC, flags, command, cookie, offset, length)


class _Pending:
    """One request in flight."""

    __slots__ = ("chunks", "command", "covered", "data", "error", "extents", "length", "offset")

    def __init__(self, command: int, offset: int, length: int) -> None:
        self.command = command
        self.offset = offset
        self.length = length
        self.chunks = 0
        self.covered: list[tuple[int, int]] = []
        self.data: bytearray | None = None
        self.error: DSTError | None = None
        self.extents: list[StatusExtent] | None = None


class ReplyParser:
    """
    Cut a stream into replies.

    @ivar hole: where the next bytes belong; the owner calls L{filled} and feeds nothing meanwhile.
    """

    __slots__ = ("_context_id", "_filled", "_pending", "_rest", "_structured", "_subject", "hole")

    def __init__(self, subject: str, structured: bool, context_id: int | None) -> None:
        """
        @param subject: the node, for the sentences of errors.
        """
        self.hole: memoryview | None = None
        self._subject = subject
        self._structured = structured
        self._context_id = context_id
        self._pending: dict[int, _Pending] = {}
        self._rest = b""
        self._filled: tuple[int, _Pending, bool] | None = None

    def expect(self, cookie: int, command: int, offset: int, length: int) -> None:
        """A request was sent."""
        self._pending[cookie] = _Pending(command, offset, length)

    def feed(self, data: bytes) -> list[Reply]:
        """
        Take the next chunk of the stream.

        @return: the replies that it completes, in order.
        @raise PeerError: the server broke the protocol; what is in flight will not be answered.
        """
        replies: list[Reply] = []
        if self.hole is not None:
            taken = min(len(data), len(self.hole))
            self.hole[:taken] = memoryview(data)[:taken]
            replies += self.filled(taken)
            if taken == len(data):
                return replies
            data = data[taken:]
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        while end - at >= _SIMPLE_HEADER_BYTES:
            magic = int.from_bytes(data[at : at + 4], "big")
            if magic == SIMPLE_REPLY_MAGIC:
                step = self._simple(data, at, end, replies)
            elif magic == STRUCTURED_REPLY_MAGIC and self._structured:
                step = self._chunk(data, at, end, replies)
            else:
                raise PeerError(f"{self._subject}: the NBD server began a reply with {magic:#010x}")
            if not step:
                break
            at += step
        if at < end:
            self._rest = data[at:]
        return replies

    def filled(self, count: int) -> list[Reply]:
        """
        C{count} bytes were received into C{hole}.

        @return: the reply, if that was all of it.
        """
        assert self.hole is not None and self._filled is not None
        self.hole = self.hole[count:]
        if len(self.hole):
            return []
        cookie, pending, done = self._filled
        self.hole, self._filled = None, None
        return [self._finish(cookie, pending)] if done else []

    def _simple(self, data: bytes, at: int, end: int, replies: list[Reply]) -> int:
        """One simple reply; returns its length, 0 when it is not all here."""
        _, errno, cookie = SIMPLE_REPLY.unpack_from(data, at)
        pending = self._find(cookie)
        if errno:
            del self._pending[cookie]
            replies.append((cookie, self._error(errno, "", pending)))
            return _SIMPLE_HEADER_BYTES
        if pending.command == CMD_BLOCK_STATUS or (pending.command == CMD_READ and self._structured):
            words = COMMAND_NAMES[pending.command]
            raise PeerError(f"{self._subject}: the NBD server answered {words} with a simple reply")
        if pending.command != CMD_READ:
            del self._pending[cookie]
            replies.append((cookie, None))
            return _SIMPLE_HEADER_BYTES
        begin = at + _SIMPLE_HEADER_BYTES
        length = pending.length
        if begin + length <= end:
            del self._pending[cookie]
            replies.append((cookie, data[begin : begin + length]))
            return _SIMPLE_HEADER_BYTES + length
        pending.covered.append((0, length))
        self._dig(cookie, pending, 0, length, memoryview(data)[begin:end], True)
        return end - at

    def _dig(self, cookie: int, pending: _Pending, start: int, length: int, have: memoryview, done: bool) -> None:
        """The next C{length} bytes go straight to their place in the data of a read; C{have} are here already."""
        if pending.data is None:
            pending.data = bytearray(pending.length)
        place = memoryview(pending.data)[start : start + length]
        place[: len(have)] = have
        self.hole = place[len(have) :]
        self._filled = (cookie, pending, done)

    def _chunk(self, data: bytes, at: int, end: int, replies: list[Reply]) -> int:
        """One chunk of a structured reply; returns its length, 0 when it is not all here."""
        if end - at < _CHUNK_HEADER_BYTES:
            return 0
        length: int
        _, flags, kind, cookie, length = CHUNK.unpack_from(data, at)
        pending = self._find(cookie)
        begin = at + _CHUNK_HEADER_BYTES
        done = bool(flags & REPLY_FLAG_DONE)
        if kind == REPLY_TYPE_OFFSET_DATA:
            return self._data_chunk(data, at, end, cookie, pending, length, done, replies)
        if length > CONTROL_PAYLOAD_BYTES_MAX:
            raise self._broken(f"sent a chunk of type {kind} with {length} bytes")
        if begin + length > end:
            return 0
        self._count(pending)
        payload = data[begin : begin + length]
        if kind == REPLY_TYPE_NONE:
            if length or not done:
                raise self._broken("sent an empty chunk that is not empty or not the last")
        elif kind == REPLY_TYPE_OFFSET_HOLE:
            if length != _HOLE.size:
                raise self._broken(f"sent a hole of {length} bytes")
            offset, size = _HOLE.unpack(payload)
            self._cover(pending, offset, size)  # the bytearray is zero already
        elif kind == REPLY_TYPE_BLOCK_STATUS:
            self._block_status(pending, payload)
        elif kind & REPLY_TYPE_FLAG_ERROR:
            self._error_chunk(pending, kind, payload)
        else:
            raise self._broken(f"sent a chunk of the unknown type {kind}")
        if done:
            replies.append(self._finish(cookie, pending))
        return _CHUNK_HEADER_BYTES + length

    def _data_chunk(
        self,
        data: bytes,
        at: int,
        end: int,
        cookie: int,
        pending: _Pending,
        length: int,
        done: bool,
        replies: list[Reply],
    ) -> int:
        begin = at + _CHUNK_HEADER_BYTES
        size = length - _OFFSET.size
        if size <= 0:
            raise self._broken(f"sent a data chunk of {length} bytes")
        if end - begin < _OFFSET.size:
            return 0
        self._count(pending)
        (offset,) = _OFFSET.unpack_from(data, begin)
        begin += _OFFSET.size
        after = begin + size
        whole = done and size == pending.length and offset == pending.offset and not pending.covered
        if whole and after <= end and pending.command == CMD_READ and pending.error is None:
            del self._pending[cookie]
            replies.append((cookie, data[begin:after]))  # the usual case: one chunk, all here
            return after - at
        start = self._cover(pending, offset, size)
        if after > end:
            self._dig(cookie, pending, start, size, memoryview(data)[begin:end], done)
            return end - at
        assert pending.data is not None or pending.covered
        if pending.data is None:
            pending.data = bytearray(pending.length)
        pending.data[start : start + size] = memoryview(data)[begin:after]
        if done:
            replies.append(self._finish(cookie, pending))
        return after - at

    def _find(self, cookie: int) -> _Pending:
        pending = self._pending.get(cookie)
        if pending is None:
            raise self._broken(f"answered the request {cookie:#x}, which was not asked or is answered")
        return pending

    def _broken(self, what: str) -> PeerError:
        return PeerError(f"{self._subject}: the NBD server {what}")

    def _count(self, pending: _Pending) -> None:
        pending.chunks += 1
        if pending.chunks > CHUNKS_MAX:
            raise self._broken(f"sent more than {CHUNKS_MAX} chunks in one reply")

    def _cover(self, pending: _Pending, offset: int, size: int) -> int:
        """Note that a read has this part; returns where it begins in its data."""
        if pending.command != CMD_READ:
            raise self._broken(f"answered {COMMAND_NAMES[pending.command]} with data")
        start = offset - pending.offset
        if start < 0 or size == 0 or start + size > pending.length:
            raise self._broken(f"sent {size} bytes at {offset} for a read of {pending.length} at {pending.offset}")
        pending.covered.append((start, size))
        return start

    def _block_status(self, pending: _Pending, payload: bytes) -> None:
        if pending.command != CMD_BLOCK_STATUS:
            raise self._broken(f"answered {COMMAND_NAMES[pending.command]} with a block status")
        if len(payload) < _U32.size + _EXTENT.size or (len(payload) - _U32.size) % _EXTENT.size:
            raise self._broken(f"sent a block status of {len(payload)} bytes")
        (context_id,) = _U32.unpack_from(payload)
        if context_id != self._context_id or pending.extents is not None:
            raise self._broken(f"sent a block status of the context {context_id}, not asked for or twice")
        left = pending.length
        extents: list[StatusExtent] = []
        for length, status in _EXTENT.iter_unpack(payload[_U32.size :]):
            # The last one may go beyond what was asked; only this project's own servers are known never to do it.
            if length == 0 or left == 0:
                raise self._broken("sent a block status with an empty extent or too many of them")
            size = min(length, left)
            extents.append(StatusExtent(size, BlockStatus(status & 3)))
            left -= size
        pending.extents = extents

    def _error_chunk(self, pending: _Pending, kind: int, payload: bytes) -> None:
        if len(payload) < _ERROR.size:
            raise self._broken(f"sent an error of {len(payload)} bytes")
        errno, size = _ERROR.unpack_from(payload)
        extra = _OFFSET.size if kind == REPLY_TYPE_ERROR_OFFSET else 0
        if _ERROR.size + size + extra > len(payload) or (kind == REPLY_TYPE_ERROR and errno == 0):
            raise self._broken("sent an error chunk that makes no sense")
        sentence = payload[_ERROR.size : _ERROR.size + size].decode(errors="replace")
        if pending.error is None:
            pending.error = self._error(errno, sentence, pending)

    def _error(self, errno: int, sentence: str, pending: _Pending) -> DSTError:
        subject = f"{self._subject}: {COMMAND_NAMES[pending.command]} of {pending.offset}+{pending.length}"
        return error_from_errno(errno, sentence, subject)

    def _finish(self, cookie: int, pending: _Pending) -> Reply:
        """The last of a reply is here: see what it was."""
        del self._pending[cookie]
        if pending.error is not None:
            return cookie, pending.error
        if pending.command == CMD_BLOCK_STATUS:
            if pending.extents is None:
                raise self._broken("answered a block status with none")
            return cookie, pending.extents
        if pending.command != CMD_READ:
            return cookie, None
        at = 0
        for start, size in sorted(pending.covered):
            if start != at:
                raise self._broken("sent a part of a read twice, or not at all")
            at += size
        if at != pending.length:
            raise self._broken(f"sent {at} of {pending.length} bytes of a read and called it done")
        return cookie, bytearray(pending.length) if pending.data is None else pending.data
