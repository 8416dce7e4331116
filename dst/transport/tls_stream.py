"""
Many bytes over TLS with few calls and few copies.

Twisted's TLS cuts what is written into pieces of 16 KiB, copies each of them, hands each to a buffer of its own, and
sends it at the next turn of the reactor; what arrives it gives to the protocol record by record.  Here

  - everything that one turn sends is encrypted in a few calls and handed to the kernel at once, with the
    stream that plain connections have (L{dst.transport.stream}), which is also what tells that the peer does not
    read;
  - all records that arrived together are given to the protocol together, or, when it says where they belong
    (C{hole}), are decrypted and put to their place.

The handshake, alerts and the end of a connection stay with Twisted, whose class this is a kind of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from OpenSSL import SSL
from twisted.internet.interfaces import ITransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from dst.transport.stream import Stream, stream_over
from dst.transport.tls_records import outgoing_of, records_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dst.interfaces import Buffer
    from dst.transport.stream import IStreamUser
    from dst.transport.tls_records import IRecords

__all__ = ["GatheringTLS"]

ENCRYPTED_BYTES: Final = 128 * 1024
"""Encrypted before it is handed to the kernel; the same holds for it."""

_LARGE_BYTES: Final = 32 * 1024
"""From this size on a buffer is encrypted from where it is; smaller ones are joined first."""


class GatheringTLS(TLSMemoryBIOProtocol):
    """
    TLS below a protocol that is a L{dst.transport.stream.IStreamUser} and says C{stream_over(its transport, itself)}.
    """

    hole: memoryview | None = None
    """What is encrypted has no place of its own."""

    stream: _TLSStream | None = None

    _below: Stream
    _records: IRecords | None = None

    def makeConnection(self, transport: ITransport) -> None:
        self._below = stream_over(transport, self)
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def stream_for(self, user: IStreamUser) -> Stream:
        """See L{stream_over}."""
        self.stream = stream = _TLSStream(self, self._below, user)
        stream.congested = bool(self._appSendBuffer) or self._below.congested
        return stream

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._below.close()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._records = None  # as Twisted does with the connection: else each would keep the other

    def abortConnection(self) -> None:
        """Unlike Twisted's it may come when the connection is lost already."""
        if self._tlsConnection is not None:
            super().abortConnection()  # type: ignore[no-untyped-call]

    # Sending

    def send_gathered(self, buffers: Sequence[Buffer]) -> None:
        """Encrypt and send."""
        if self._records is None or self._appSendBuffer:
            self.write(b"".join(buffers))  # type: ignore[no-untyped-call]
            return
        if self._lostTLSConnection or self._aborted:
            return
        small: list[Buffer] = []
        small_bytes = 0
        for buffer in buffers:
            size = len(buffer)
            if size < _LARGE_BYTES:
                small.append(buffer)
                small_bytes += size
                if small_bytes >= ENCRYPTED_BYTES:
                    self._encrypt(b"".join(small))
                    self._flushSendBIO()
                    small, small_bytes = [], 0
                continue
            if small:
                self._encrypt(b"".join(small))
                small, small_bytes = [], 0
            view = memoryview(buffer)
            for position in range(0, size, ENCRYPTED_BYTES):
                self._encrypt(view[position : position + ENCRYPTED_BYTES])
                self._flushSendBIO()
        if small_bytes:
            self._encrypt(small[0] if len(small) == 1 else b"".join(small))
        self._flushSendBIO()

    def _encrypt(self, data: Buffer) -> None:
        if self._lostTLSConnection:
            return
        if self._appSendBuffer:
            self._appSendBuffer.append(bytes(data))
            return
        assert self._records is not None
        try:
            done = self._records.encrypt(data)
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
            return
        if done < len(data):
            self._bufferedWrite(bytes(memoryview(data)[done:]))

    def _flushSendBIO(self) -> None:
        encrypted = outgoing_of(self._tlsConnection) if self._records is None else self._records.outgoing()
        if encrypted is None:
            return
        self._below.send((encrypted,))
        if self._below.congested and self.stream is not None:
            self.stream.congested = True

    def drained(self) -> None:
        """See L{dst.transport.stream.IStreamUser}."""
        if self.stream is not None and not self._appSendBuffer:
            self.stream.room_again()

    def _bufferedWrite(self, data: bytes) -> None:
        super()._bufferedWrite(data)  # type: ignore[no-untyped-call]
        if self.stream is not None:
            self.stream.congested = True

    def _unbufferPendingWrites(self) -> None:
        super()._unbufferPendingWrites()  # type: ignore[no-untyped-call]
        if not self._appSendBuffer and not self._below.congested and self.stream is not None:
            self.stream.room_again()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Not used: a stream says by itself whether there is room."""
        raise NotImplementedError

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        cast(Any, self.transport).unregisterProducer()  # one would hold back loseConnection
        super()._tlsShutdownFinished(reason)  # type: ignore[no-untyped-call]

    # Receiving

    def hole_filled(self, count: int) -> None:
        """Never called: there is no hole."""
        raise NotImplementedError

    def _checkHandshakeStatus(self) -> None:
        super()._checkHandshakeStatus()  # type: ignore[no-untyped-call]
        if self._handshakeDone and self._records is None and self._tlsConnection is not None:
            self._records = records_of(self._tlsConnection)

    def dataReceived(self, data: bytes) -> None:
        records = self._records
        if records is None:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
            return
        if self._lostTLSConnection:
            return
        records.receive(data)
        if self._appSendBuffer:
            self._unbufferPendingWrites()
        self._flushReceiveBIO()

    def _flushReceiveBIO(self) -> None:
        if self._records is not None:
            self._hand_on(self._records)
        self._flushSendBIO()

    def _hand_on(self, records: IRecords) -> None:
        user = cast("IStreamUser", self.wrappedProtocol)
        while not self._lostTLSConnection and not self._aborted:
            hole = user.hole
            if hole is None:
                data = records.decrypted()
                if data:
                    user.dataReceived(data)
                break
            count = records.fill(hole)
            if count:
                user.hole_filled(count)
            if count < len(hole):
                break
        if records.end is not None and not self._lostTLSConnection:
            self._ended(records.end)

    def _ended(self, error: SSL.Error) -> None:
        """The other side has ended it, or it cannot be trusted any more."""
        if isinstance(error, SSL.ZeroReturnError):
            self._shutdownTLS()  # type: ignore[no-untyped-call]
            self._tlsShutdownFinished(None)
        else:
            self._tlsShutdownFinished(Failure(error))


class _TLSStream:
    """The stream of a protocol above TLS."""

    def __init__(self, transport: GatheringTLS, below: Stream, user: IStreamUser) -> None:
        self.congested = False
        self.move_bytes_max = 0  # what TLS makes of it is not counted
        self._transport = transport
        self._below = below
        self._user = user

    @property
    def progress(self) -> int:
        """See L{Stream}."""
        return self._below.progress

    @property
    def receive_bytes(self) -> int:
        """See L{Stream}."""
        return self._below.receive_bytes

    @receive_bytes.setter
    def receive_bytes(self, count: int) -> None:
        self._below.receive_bytes = count

    def send(self, buffers: Sequence[Buffer]) -> None:
        """See L{Stream.send}."""
        self._transport.send_gathered(buffers)

    def close(self) -> None:
        """See L{Stream.close}."""
        self._transport.stream = None
        self.congested = False

    def release(self) -> None:
        """See L{Stream.release}."""
        assert not self.congested
        self.close()

    def room_again(self) -> None:
        """Nothing waits any more."""
        if self.congested:
            self.congested = False
            self._user.drained()
