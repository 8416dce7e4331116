"""
Moving many bytes over one connection with few system calls and no copies.

Twisted's own transports join what was written, send it at the next turn of the
reactor and at most 128 KiB of it at a time, and receive 64 KiB at a time.  For a
protocol that serves many small blocks per wake-up, or few very large ones, that is
most of the cost.  A L{Stream} sits between the protocol and such a transport:

  - C{send} takes a list of buffers and hands them to the kernel at once and gathered (C{sendmsg}): no
    join, no wait for the next turn, no C{epoll_ctl} to begin and end writing.
  - What the kernel does not take stays in the stream, which is C{congested} until it is gone.
  - What arrives is received in one call, or, when the protocol says where it belongs (C{hole}), straight into its
    place.

It takes over C{doRead} and C{doWrite} of the transport I{instance}, as Twisted's own C{abortConnection} does;
connecting, closing, pausing and being lost stay with Twisted.  Only plain TCP and UNIX connections can be taken
over; for every other transport (TLS, tests) the same interface goes the ordinary road.
"""

from __future__ import annotations

import ctypes
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol, cast

from twisted.internet import main
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport, ITransport
from twisted.internet.tcp import Connection
from zope.interface import implementer

from dst.interfaces import Buffer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["RECEIVE_BYTES", "IStreamUser", "Stream", "keep_freed_memory", "receive_bytes_after", "stream_over"]

RECEIVE_BYTES: Final = (256 + 4) * 1024
"""
Received at once: 64 blocks of 4 KiB, or 4 of 64 KiB, with what stands before each of them.  What is handed out of it
keeps all of it in memory, so it is not more.
"""

RECEIVE_BYTES_OF_LARGE_PIECES: Final = (1024 + 16) * 1024
LARGE_PIECE_BYTES: Final = 16 * 1024
_FULL_BYTES: Final = RECEIVE_BYTES * 15 // 16
"""
What is received at once where pieces have that size on the average: one of 16 KiB keeps no more times its own size in
memory than one of 4 KiB does otherwise.  There is more to come where so much was received; TLS takes away a little.
"""

LARGE_HOLE_BYTES: Final = 128 * 1024
RECEIVE_BYTES_AFTER_LARGE_HOLE: Final = 16 * 1024
"""
After one large write there comes another, as a rule.  Then only its beginning is received, which has to be copied
out, and the rest to its place.
"""

MOVE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Received or sent at once, where nobody wants less: more than kernels take."""

GATHERED_BUFFERS_MAX: Final = 512
"""Buffers in one C{sendmsg}; the kernel's limit is 1024."""


KEPT_BYTES: Final = 64 * 1024 * 1024
"""What the C library may keep of freed memory: the data of a few dozen large requests."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
"""How many pieces may be fetched by themselves. By size, the other way, those of 32 MiB cannot be kept."""


def keep_freed_memory() -> bool:
    """
    Ask the C library not to give memory back to the kernel after every large request.

    Else each block of 1 MiB is fetched from the kernel, page by page, zeroed, and given back: reads of this size were
    half as fast, and so were writes of 32 MiB.  It is for a whole process, so only a program does it, when it starts.

    @return: whether there was such a thing to ask (glibc has it).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = ((_M_TRIM_THRESHOLD, KEPT_BYTES), (_M_MMAP_MAX, 0))
    return all([mallopt(parameter, value) == 1 for parameter, value in wanted])  # noqa: C419 - both are asked


def receive_bytes_after(length: int, pieces: int) -> int:
    """
    How much to receive at once after C{length} bytes that brought so many requests or answers.

    While large ones keep coming faster than they are received, the more of them are dealt with at once the less
    each costs: of writes of 64 KiB a processor does one half more in sixteens than in fours.
    """
    if length >= _FULL_BYTES and length >= pieces * LARGE_PIECE_BYTES:
        return RECEIVE_BYTES_OF_LARGE_PIECES
    return RECEIVE_BYTES


class IStreamUser(Protocol):
    """What the protocol provides."""

    @property
    def hole(self) -> memoryview | None:
        """Where the next bytes belong, or C{None} for C{dataReceived}; looked at before each receiving."""

    def dataReceived(self, data: bytes) -> None:
        """As in Twisted."""

    def hole_filled(self, count: int) -> None:
        """C{count} bytes were received into C{hole}."""

    def drained(self) -> None:
        """The stream was congested and is not any more.  Never called from within C{send}."""


class Stream(Protocol):
    """
    The sending half of a connection.

    @ivar congested: something waits for the peer to read; do not make more of it than you can keep.
    @ivar move_bytes_max: no more than this is received or sent in one turn of the reactor, where the stream can tell;
        to be set at any time.
    @ivar receive_bytes: so much is received at once where there is no hole and the stream can tell; to be set at any
        time, see L{receive_bytes_after}.
    """

    congested: bool
    move_bytes_max: int
    receive_bytes: int

    @property
    def progress(self) -> int:
        """How many bytes that waited the peer has taken, as far as the stream can tell; changes whenever it did."""

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send the buffers one after the other.  They must not change until the stream is not congested."""

    def close(self) -> None:
        """The connection was lost: forget what was not sent.  Nothing is called afterwards."""

    def release(self) -> None:
        """
        Give the transport back as it was; the stream is not used any more.  Not while it is congested.
        """


def stream_over(transport: ITransport, user: IStreamUser) -> Stream:
    """
    The best stream there is for C{transport}; called once, when the connection is made.

    On TCP it also switches off Nagle's delay.
    """
    stream_for: Callable[[IStreamUser], Stream] | None = getattr(transport, "stream_for", None)
    if stream_for is not None:
        return stream_for(user)  # which has a stream of its own below, over whatever there is
    if ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)
    # A subclass that does something else on the way (TLS by startTLS) replaces these methods in its class.
    if isinstance(transport, Connection) and not getattr(transport, "TLS", False):
        return _SocketStream(transport, user)
    return _OrdinaryStream(transport, user)


class _SocketStream:
    """A stream that reads and writes the socket by itself."""

    def __init__(self, transport: Connection, user: IStreamUser) -> None:
        self.congested = False
        self.progress = 0
        self.move_bytes_max = MOVE_BYTES_MAX
        self._transport = transport
        self._user = user
        self._socket = transport.socket
        self.receive_bytes = RECEIVE_BYTES
        self._after_large_hole = False
        self._unsent: deque[memoryview] = deque()
        transport.doRead = self._do_read  # type: ignore[method-assign, assignment]
        transport.doWrite = self._do_write  # type: ignore[method-assign]

    def send(self, buffers: Sequence[Buffer]) -> None:
        if self.congested:
            self._unsent.extend(memoryview(buffer) for buffer in buffers if len(buffer))
            return
        if self._transport.disconnected:
            return
        length = sum(map(len, buffers))
        sent = 0
        if len(buffers) <= GATHERED_BUFFERS_MAX and length <= self.move_bytes_max:
            try:
                sent = self._socket.sendmsg(buffers)
            except OSError:
                sent = 0  # would block, or broken: doWrite finds out which, where it can be told
            if sent == length:
                return
        for buffer in buffers:
            if sent >= len(buffer):
                sent -= len(buffer)
            else:
                self._unsent.append(memoryview(buffer)[sent:])
                sent = 0
        if self._unsent:
            self.congested = True
            self._transport.startWriting()

    def close(self) -> None:
        self._unsent.clear()
        self.congested = False

    def release(self) -> None:
        assert not self.congested
        for name in ("doRead", "doWrite"):
            self._transport.__dict__.pop(name, None)

    def _do_read(self) -> Exception | None:
        user = self._user
        hole = user.hole
        try:
            if hole is None:
                if self._after_large_hole:
                    self._after_large_hole = False
                    data = self._socket.recv(RECEIVE_BYTES_AFTER_LARGE_HOLE)
                else:
                    data = self._socket.recv(self.receive_bytes)
                if data:
                    user.dataReceived(data)
                    return None
            else:
                if len(hole) >= LARGE_HOLE_BYTES:
                    self._after_large_hole = True
                count = self._socket.recv_into(hole, min(len(hole), self.move_bytes_max))
                if count:
                    user.hole_filled(count)
                    return None
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return main.CONNECTION_LOST
        return main.CONNECTION_DONE

    def _do_write(self) -> Exception | None:
        unsent = self._unsent
        if unsent:
            gathered = _first(unsent, GATHERED_BUFFERS_MAX, self.move_bytes_max)
            try:
                sent = self._socket.sendmsg(gathered)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                return main.CONNECTION_LOST
            self.progress += sent
            while sent:
                size = len(unsent[0])
                if sent < size:
                    unsent[0] = unsent[0][sent:]
                    break
                unsent.popleft()
                sent -= size
        if unsent:
            return None
        self._transport.stopWriting()
        if self._transport.disconnecting:
            return main.CONNECTION_DONE
        if self.congested:
            self.congested = False
            self._user.drained()
        return None


def _first(unsent: deque[memoryview], count_max: int, bytes_max: int) -> list[memoryview]:
    """What comes first and may be sent at once; at least a part of the first buffer."""
    first: list[memoryview] = []
    for buffer in islice(unsent, count_max):
        if len(buffer) >= bytes_max:
            first.append(buffer[:bytes_max])
            break
        first.append(buffer)
        bytes_max -= len(buffer)
    return first


@implementer(IPushProducer)
class _OrdinaryStream:
    """A stream over any transport."""

    def __init__(self, transport: ITransport, user: IStreamUser) -> None:
        self.congested = False
        self.progress = 0
        self.move_bytes_max = MOVE_BYTES_MAX
        self.receive_bytes = RECEIVE_BYTES
        self._closed = False
        self._sent_bytes = 0
        self._transport = transport
        self._user = user
        cast(IConsumer, transport).registerProducer(self, True)

    def send(self, buffers: Sequence[Buffer]) -> None:
        data = b"".join(buffers)
        self._sent_bytes += len(data)
        self._transport.write(data)

    def close(self) -> None:
        self._closed = True
        self.congested = False

    def release(self) -> None:
        assert not self.congested
        self._closed = True
        cast(IConsumer, self._transport).unregisterProducer()

    def pauseProducing(self) -> None:
        self.congested = not self._closed

    def resumeProducing(self) -> None:
        self.progress = self._sent_bytes
        if self.congested and not self._closed:
            self.congested = False
            self._user.drained()

    def stopProducing(self) -> None:
        """The transport is gone; its protocol is told so."""
