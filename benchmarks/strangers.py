"""
NBD clients that misbehave: C{python -m benchmarks.strangers HOW PORT EXPORT [--connections N] [--bytes B] ...}.

C{flood}
    sends requests as fast as it is let, a given number ahead of the answers, and throws the answers away.
C{deaf}
    asks for as much as it is let, and never reads an answer.

It says C{begun} when it is at it, and goes on until it is ended.
"""

from __future__ import annotations

import argparse
import random
import selectors
import socket
import struct
import sys
from collections.abc import Iterator

__all__ = ["NBDConnection", "main"]

_IHAVEOPT = b"IHAVEOPT"
_FIXED_NO_ZEROES = 3
_OPT_GO = 7
_REP_ACK, _REP_INFO = 1, 3
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_REPLY_BYTES = 16
_REPLY_GOOD = struct.pack(">II", 0x67446698, 0)
_READ, _WRITE = 0, 1
_RECEIVE_BYTES = 1 << 20
_BATCH_BYTES = 256 << 10
"""As much of what it has to send as is made at a time."""


class NBDConnection:
    """
    One connection with simple replies.

    @ivar size: of the export.
    """

    def __init__(self, port: int, export: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.size = self._open(export.encode())

    def close(self) -> None:
        """Go without a word."""
        self.socket.close()

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the server has hung up")
            data += more
        return data

    def _open(self, name: bytes) -> int:
        self._receive(18)
        payload = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        option = _IHAVEOPT + struct.pack(">II", _OPT_GO, len(payload)) + payload
        self.socket.sendall(struct.pack(">I", _FIXED_NO_ZEROES) + option)
        size = 0
        while True:
            _magic, _option, kind, length = struct.unpack(">QIII", self._receive(20))
            told = self._receive(length)
            if kind == _REP_ACK:
                return size
            if kind != _REP_INFO:
                raise ConnectionError(f"the server refused {name!r}: {told!r}")
            if told[:2] == bytes(2):  # NBD_INFO_EXPORT
                (size,) = struct.unpack_from(">Q", told, 2)

    def write(self, offset: int, data: bytes, patience_s: float) -> None:
        """
        Write, and wait for the answer.

        @raise OSError: there was none in time, or it was an error.
        """
        self.socket.settimeout(patience_s)
        self.socket.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _WRITE, 1, offset, len(data)) + data)
        _magic, error, _cookie = struct.unpack(">IIQ", self._receive(_REPLY_BYTES))
        if error:
            raise OSError(error, "the server could not write")


class _Load:
    """What one connection of a stranger sends, and how far it has got."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.connection = NBDConnection(options.port, options.export)
        self.socket = self.connection.socket
        self.socket.setblocking(False)
        self.unanswered_max: int = options.depth
        self._write: bool = options.write
        self._bytes: int = options.bytes
        self._answer_bytes = _REPLY_BYTES + (0 if options.write else options.bytes)
        self._data = random.randbytes(options.bytes) if options.write else b""
        self._asked = 0
        self.received = 0
        self._unsent = memoryview(b"")
        self._requests = self._next_request()

    def _next_request(self) -> Iterator[bytes]:
        blocks = self.connection.size // self._bytes
        while True:
            offset = random.randrange(blocks) * self._bytes
            command = _WRITE if self._write else _READ
            yield _REQUEST.pack(_REQUEST_MAGIC, 0, command, self._asked, offset, self._bytes) + self._data

    @property
    def answered(self) -> int:
        return self.received // self._answer_bytes

    def wants_to_send(self) -> bool:
        """Whether there is something to send now."""
        return bool(self._unsent) or self._asked - self.answered < self.unanswered_max

    def send(self) -> None:
        """As much as the kernel takes."""
        if not self._unsent:
            batch, length = [], 0
            while length < _BATCH_BYTES and self._asked - self.answered < self.unanswered_max:
                batch.append(next(self._requests))
                length += len(batch[-1])
                self._asked += 1
            self._unsent = memoryview(b"".join(batch))
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            pass


def _run(loads: list[_Load], deaf: bool) -> None:
    selector = selectors.SelectSelector() if len(loads) < 100 else selectors.DefaultSelector()
    for load in loads:
        selector.register(load.socket, selectors.EVENT_WRITE, load)
    buffer = bytearray(_RECEIVE_BYTES)
    told = False
    while True:
        for load in loads:
            events = 0 if deaf else selectors.EVENT_READ
            events |= selectors.EVENT_WRITE if load.wants_to_send() else 0
            key = selector.get_map().get(load.socket)
            if key is not None and key.events != events:
                selector.unregister(load.socket)
            if events and (key is None or key.events != events):
                selector.register(load.socket, events, load)
        for key, events in selector.select(1.0):
            load = key.data
            if events & selectors.EVENT_READ:
                count = load.socket.recv_into(buffer)
                if not count:
                    raise ConnectionError("the server has hung up")
                if not load.received and not _REPLY_GOOD.startswith(buffer[: min(count, len(_REPLY_GOOD))]):
                    raise ConnectionError("the server refuses what it is flooded with")
                load.received += count
            if events & selectors.EVENT_WRITE:
                load.send()
        if not told and (deaf or all(load.answered for load in loads)):
            told = True
            print("begun", flush=True)


def main() -> int:
    """Run until ended; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strangers", description="Clients that misbehave.")
    parser.add_argument("how", choices=["flood", "deaf"])
    parser.add_argument("port", type=int)
    parser.add_argument("export")
    parser.add_argument("--connections", type=int, default=1, metavar="N")
    parser.add_argument("--bytes", type=int, default=4096, metavar="B", help="of each request (default 4096)")
    parser.add_argument("--depth", type=int, default=512, metavar="N", help="unanswered requests (default 512)")
    parser.add_argument("--write", action="store_true", help="write instead of reading")
    options = parser.parse_args()
    try:
        _run([_Load(options) for _ in range(options.connections)], options.how == "deaf")
    except OSError as error:
        print(f"benchmarks.strangers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
