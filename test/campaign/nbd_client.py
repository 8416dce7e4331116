"""
A small NBD client of the campaign's own, so that nothing of what it checks is also what checks it.

Blocking sockets and one thread; many requests in flight, simple replies.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

from attrs import define, frozen

__all__ = ["Answer", "NBDClient", "NBDError"]

_NEGOTIATION = struct.Struct(">8s8sH")
_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_OPTION_MAGIC = 0x3E889045565A9
_GO = 7
_ACK, _INFO = 1, 3
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FUA = 1


class NBDError(Exception):
    """The connection cannot be used, or is none."""


@frozen
class Answer:
    """@ivar error: 0, or the server's errno."""

    cookie: int
    error: int
    data: bytes


@define
class _Sent:
    command: int
    length: int


class NBDClient:
    """
    One connection.

    @ivar size: bytes of the export.
    @ivar in_flight: how many requests wait for an answer.
    """

    def __init__(self, port: int, export: str, *, timeout_s: float = 2.0) -> None:
        """@raise NBDError: nobody is there, or it does not serve the export now."""
        self._received = bytearray()
        self._sent: dict[int, _Sent] = {}
        self._cookie = 0
        self._out = bytearray()
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        except OSError as error:
            raise NBDError(f"cannot connect: {error}") from None
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.size = self._negotiate(export.encode())
        except (OSError, struct.error, NBDError) as error:
            self._socket.close()
            raise NBDError(f"cannot negotiate: {error}") from None

    def _negotiate(self, export: bytes) -> int:
        magic, option_magic, flags = _NEGOTIATION.unpack(self._exactly(_NEGOTIATION.size))
        if magic != b"NBDMAGIC" or option_magic != b"IHAVEOPT" or not flags & 1:
            raise NBDError("this is no fixed newstyle server")
        self._socket.sendall(struct.pack(">I", 1 | flags & 2))
        self._socket.sendall(
            _OPTION.pack(b"IHAVEOPT", _GO, 6 + len(export)) + struct.pack(">I", len(export)) + export + bytes(2)
        )
        size = 0
        while True:
            reply_magic, option, kind, length = _OPTION_REPLY.unpack(self._exactly(_OPTION_REPLY.size))
            payload = self._exactly(length)
            if reply_magic != _OPTION_MAGIC or option != _GO:
                raise NBDError("a reply to another option")
            if kind == _ACK:
                return size
            if kind != _INFO:
                raise NBDError(f"refused with {kind:#x}: {payload.decode('utf-8', 'replace')}")
            if payload[:2] == b"\0\0":
                (size,) = struct.unpack_from(">Q", payload, 2)

    def _exactly(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise NBDError("the server hung up")
            parts += part
        return parts

    @property
    def in_flight(self) -> int:
        return len(self._sent)

    # -- requests: queued, and sent with the next `answers`

    def _ask(self, command: int, offset: int, length: int, data: bytes = b"", fua: bool = False) -> int:
        self._cookie += 1
        self._sent[self._cookie] = _Sent(command, length)
        self._out += _REQUEST.pack(0x25609513, FUA if fua else 0, command, self._cookie, offset, length)
        self._out += data
        return self._cookie

    def read(self, offset: int, length: int) -> int:
        return self._ask(READ, offset, length)

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> int:
        return self._ask(WRITE, offset, len(data), data, fua)

    def flush(self) -> int:
        return self._ask(FLUSH, 0, 0)

    def trim(self, offset: int, length: int) -> int:
        return self._ask(TRIM, offset, length)

    def write_zeroes(self, offset: int, length: int) -> int:
        return self._ask(WRITE_ZEROES, offset, length)

    def answers(self, timeout_s: float) -> list[Answer]:
        """
        Send what was asked for, and return what has been answered, perhaps nothing after C{timeout_s}.

        @raise NBDError: the connection broke.
        """
        try:
            readable, writable, _ = select.select([self._socket], [self._socket] if self._out else [], [], timeout_s)
            if writable:
                sent = self._socket.send(self._out)
                del self._out[:sent]
            if readable:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise NBDError("the server hung up")
                self._received += data
        except OSError as error:
            raise NBDError(f"the connection broke: {error}") from None
        return list(self._parsed()) if readable else []

    def _parsed(self) -> Iterator[Answer]:
        received, at = self._received, 0
        while len(received) - at >= _REPLY.size:
            magic, error, cookie = _REPLY.unpack_from(received, at)
            if magic != 0x67446698 or cookie not in self._sent:
                raise NBDError(f"no answer to anything: {bytes(received[at : at + 16]).hex()}")
            sent = self._sent[cookie]
            length = sent.length if sent.command == READ and not error else 0
            end = at + _REPLY.size + length
            if len(received) < end:
                break
            del self._sent[cookie]
            yield Answer(cookie, error, bytes(received[at + _REPLY.size : end]))
            at = end
        del received[:at]

    def wait(self, cookie: int, limit_s: float) -> Answer:
        """The answer to the only request in flight."""
        left_s = limit_s
        while left_s > 0:
            for answer in self.answers(0.1):
                if answer.cookie == cookie:
                    return answer
            left_s -= 0.1
        raise NBDError(f"no answer for {limit_s:g} s")

    def close(self, *, politely: bool = True) -> None:
        """Hang up."""
        try:
            if politely:
                self._socket.sendall(_REQUEST.pack(0x25609513, 0, DISCONNECT, 0, 0, 0))
        except OSError:
            pass
        self._socket.close()
