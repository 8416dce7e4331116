"""
Cables between the daemons, and between client and owner, that can be pulled.

One thread forwards for all of them.  A cable carries everything, or is cut (connections are reset, perhaps in the
middle of a frame, and new ones are refused), or carries nothing while both ends think that it is there, in both
directions or in one, or is slow.
"""

from __future__ import annotations

import enum
import selectors
import socket
import struct
import threading
import time
from collections import deque

from attrs import define, field

__all__ = ["Cable", "CableState", "Cables"]

CHUNK_BYTES = 64 * 1024
WAITING_BYTES_MAX = 1 << 20
"""What a cable holds of what was sent: as a real one, some buffers' worth."""

_NOW = struct.pack("ii", 1, 0)  # SO_LINGER with no time: a reset


class CableState(enum.Enum):
    """What a cable does."""

    WHOLE = "whole"
    CUT = "cut"
    SILENT = "silent"
    TO_SERVER_ONLY = "one-way to the server"
    TO_CLIENT_ONLY = "one-way to the client"
    SLOW = "slow"


@define(eq=False)
class _Way:
    """One direction of one connection."""

    source: socket.socket
    target: socket.socket
    to_server: bool
    waiting: deque[tuple[float, bytes]] = field(factory=deque)
    waiting_bytes: int = 0
    ended: bool = False


@define(eq=False)
class _Connection:
    cable: Cable
    ways: tuple[_Way, _Way]


@define(eq=False)
class Cable:
    """
    @ivar port: where it begins.
    @ivar target: the port where it ends.
    """

    name: str
    port: int
    target: int
    listener: socket.socket
    state: CableState = CableState.WHOLE
    delay_s: float = 0.0
    connections: list[_Connection] = field(factory=list)


class Cables:
    """All of them, and the thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cables: list[Cable] = []
        self._stopping = False
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="cables", daemon=True)
        self._thread.start()

    def lay(self, name: str, target: int) -> Cable:
        """A new one."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.setblocking(False)
        cable = Cable(name, listener.getsockname()[1], target, listener)
        with self._lock:
            self._cables.append(cable)
        self._wake()
        return cable

    def set(self, cable: Cable, state: CableState, *, delay_s: float = 0.0, reset: bool = False) -> None:
        """
        From now on it is so.

        @param reset: what stands is reset; C{CUT} always does that.
        """
        with self._lock:
            cable.state, cable.delay_s = state, delay_s
            if reset or state is CableState.CUT:
                for connection in list(cable.connections):
                    self._half_forward(connection)
                    self._drop(connection)
        self._wake()

    def stop(self) -> None:
        """Everything is cut, and the thread ends."""
        self._stopping = True
        self._wake()
        self._thread.join()
        with self._lock:
            for cable in self._cables:
                cable.listener.close()
                for connection in list(cable.connections):
                    self._drop(connection)
        self._wake_r.close()
        self._wake_w.close()

    # -- inside

    def _wake(self) -> None:
        try:
            self._wake_w.send(b"x")
        except OSError:
            pass

    def _half_forward(self, connection: _Connection) -> None:
        """Of what is on its way some odd number of bytes still arrives, so that frames are cut in the middle."""
        for way in connection.ways:
            if way.waiting and connection.cable.state is CableState.CUT:
                data = way.waiting[0][1]
                try:
                    way.target.send(data[: len(data) * 5 // 7])
                except OSError:
                    pass

    def _drop(self, connection: _Connection) -> None:
        if connection in connection.cable.connections:
            connection.cable.connections.remove(connection)
        for way in connection.ways:
            try:
                way.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
            except OSError:
                pass
            way.source.close()

    def _run(self) -> None:
        while not self._stopping:
            with selectors.DefaultSelector() as selector:
                with self._lock:
                    timeout_s = self._register(selector)
                events = selector.select(timeout_s)
                with self._lock:
                    self._serve(events)

    def _register(self, selector: selectors.BaseSelector) -> float | None:
        """Everything that can go on; @return: when to look again by ourselves."""
        selector.register(self._wake_r, selectors.EVENT_READ, None)
        timeout_s: float | None = None
        now = time.monotonic()
        for cable in self._cables:
            selector.register(cable.listener, selectors.EVENT_READ, cable)
            for connection in cable.connections:
                interest: dict[socket.socket, int] = {}
                for way in connection.ways:
                    if not way.ended and way.waiting_bytes < WAITING_BYTES_MAX:
                        interest[way.source] = interest.get(way.source, 0) | selectors.EVENT_READ
                    if way.waiting and self._carries(cable, way):
                        due_s = way.waiting[0][0] - now
                        if due_s <= 0:
                            interest[way.target] = interest.get(way.target, 0) | selectors.EVENT_WRITE
                        else:
                            timeout_s = due_s if timeout_s is None else min(due_s, timeout_s)
                for each, mask in interest.items():
                    selector.register(each, mask, connection)
        return timeout_s

    @staticmethod
    def _carries(cable: Cable, way: _Way) -> bool:
        if cable.state is CableState.TO_SERVER_ONLY:
            return way.to_server
        if cable.state is CableState.TO_CLIENT_ONLY:
            return not way.to_server
        return cable.state in (CableState.WHOLE, CableState.SLOW)

    def _serve(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, mask in events:
            if key.data is None:
                self._wake_r.recv(4096)
            elif isinstance(key.data, Cable):
                self._accept(key.data)
            elif key.data in key.data.cable.connections:
                self._forward(key.data, key.fileobj, mask)  # type: ignore[arg-type]

    def _accept(self, cable: Cable) -> None:
        try:
            client, _ = cable.listener.accept()
        except OSError:
            return
        try:
            if cable.state is CableState.CUT:
                raise OSError("cut")
            server = socket.create_connection(("127.0.0.1", cable.target), 0.5)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
            client.close()
            return
        for each in (client, server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = (_Way(client, server, True), _Way(server, client, False))
        cable.connections.append(_Connection(cable, ways))

    def _forward(self, connection: _Connection, which: socket.socket, mask: int) -> None:
        cable = connection.cable
        for way in connection.ways:
            if mask & selectors.EVENT_READ and way.source is which:
                try:
                    data = way.source.recv(CHUNK_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if data:
                    delay_s = cable.delay_s if cable.state is CableState.SLOW else 0.0
                    way.waiting.append((time.monotonic() + delay_s, data))
                    way.waiting_bytes += len(data)
                else:
                    way.ended = True
        for way in connection.ways:
            if self._carries(cable, way) and not self._send(way):
                self._drop(connection)
                return
            if way.ended and (not way.waiting or cable.state is CableState.CUT):
                self._drop(connection)
                return

    @staticmethod
    def _send(way: _Way) -> bool:
        """What may be sent now; false when it cannot."""
        now = time.monotonic()
        while way.waiting and way.waiting[0][0] <= now:
            due, data = way.waiting[0]
            try:
                sent = way.target.send(data)
            except BlockingIOError:
                return True
            except OSError:
                return False
            way.waiting_bytes -= sent
            if sent < len(data):
                way.waiting[0] = (due, data[sent:])
                return True
            way.waiting.popleft()
        return True
