"""
What TLS does to the bytes of one connection after its handshake, with few calls.

The way of pyOpenSSL costs for each record a buffer of its own, a copy, some checks, and an exception at the end, and
for a block of 4 KiB this is more than to decrypt it.  L{DirectRecords} asks OpenSSL itself, through the same binding
that pyOpenSSL is made with, and decrypts all that has arrived into one place.  It touches names of pyOpenSSL that are
not promised to anybody; where they are not found L{OrdinaryRecords} does the same, through what is promised.

The handshake, the end of a connection, certificates and errors are pyOpenSSL's in any case.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from OpenSSL import SSL

try:
    from cryptography.hazmat.bindings.openssl.binding import Binding
except ImportError:  # it is promised to nobody
    Binding = None  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    from collections.abc import Callable

    from dst.interfaces import Buffer

__all__ = [
    "DIRECT",
    "INCOMING_BYTES_MAX",
    "DirectRecords",
    "IRecords",
    "OrdinaryRecords",
    "outgoing_of",
    "records_of",
]

T = TypeVar("T")

RECORD_BYTES: Final = 16 * 1024
"""The most that one record of TLS carries."""

_OUTGOING_BYTES: Final = 128 * 1024
"""Fetched at once where it is not known how much there is."""

INCOMING_BYTES_MAX: Final = 128 * 1024
"""Given to OpenSSL at once, which keeps a buffer of that size for the rest of the connection."""

_RECORD_OVERHEAD_BYTES: Final = 512
"""More than OpenSSL keeps of a record that has not arrived completely, beside what it carries."""

_openssl: Any = None if Binding is None else Binding.lib
_ffi: Any = None if Binding is None else Binding.ffi

_NEEDED: Final = (
    "BIO_get_mem_data",
    "BIO_read",
    "BIO_write",
    "SSL_ERROR_WANT_READ",
    "SSL_clear_mode",
    "SSL_get_error",
    "SSL_read",
    "SSL_write",
)
_NEEDED_OF_CONNECTION: Final = ("_ssl", "_into_ssl", "_from_ssl", "_raise_ssl_error")


class IRecords(Protocol):
    """
    The records of one connection whose handshake is over.

    @ivar end: why nothing more will be decrypted: C{ZeroReturnError} if the other side has said so, another error if
        the connection is not to be trusted, C{None} while there may be more.
    """

    end: SSL.Error | None

    def receive(self, data: Buffer) -> None:
        """What has arrived; before there is more, all of it is to be decrypted."""

    def fill(self, place: memoryview) -> int:
        """
        Decrypt into C{place}.

        @return: how many bytes; less than there is place for if that was all, or the C{end}.
        """

    def decrypted(self) -> bytes:
        """All the rest of what can be decrypted."""

    def encrypt(self, data: Buffer) -> int:
        """
        @param data: not empty.
        @return: how many bytes of it were encrypted.  If it is not all, something has to arrive first.
        @raise SSL.Error: the connection is at its end.
        """

    def outgoing(self) -> Buffer | None:
        """What is to be sent, or C{None}.  It does not change any more."""


def outgoing_of(connection: SSL.Connection) -> bytes | None:
    """As L{IRecords.outgoing}, also before and while there is a handshake."""
    pieces: list[bytes] = []
    try:
        while True:
            pieces.append(connection.bio_read(_OUTGOING_BYTES))
            if len(pieces[-1]) < _OUTGOING_BYTES:
                break
    except SSL.WantReadError:
        pass
    return b"".join(pieces) if pieces else None


class OrdinaryRecords:
    """With what pyOpenSSL promises."""

    def __init__(self, connection: SSL.Connection) -> None:
        self.end: SSL.Error | None = None
        self._connection = connection
        self._incoming = memoryview(b"")

    def receive(self, data: Buffer) -> None:
        """See L{IRecords}."""
        self._incoming = memoryview(data)

    def fill(self, place: memoryview) -> int:
        """See L{IRecords}."""
        size, filled = len(place), 0
        while filled < size:
            count = self._read(partial(self._connection.recv_into, place[filled:], RECORD_BYTES))
            if not count:
                break
            filled += count
        return filled

    def decrypted(self) -> bytes:
        """See L{IRecords}."""
        pieces: list[bytes] = []
        while piece := self._read(partial(self._connection.recv, RECORD_BYTES)):
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, read: Callable[[], T]) -> T | None:
        """What C{read} returns, given all that has arrived as far as it needs it; C{None}: nothing more."""
        while True:
            try:
                return read()
            except SSL.WantReadError:
                piece, self._incoming = self._incoming[:INCOMING_BYTES_MAX], self._incoming[INCOMING_BYTES_MAX:]
                if not piece:
                    return None
                self._connection.bio_write(piece)
            except SSL.Error as error:
                self.end = error.with_traceback(None)  # which would keep this in a circle
                return None

    def encrypt(self, data: Buffer) -> int:
        """See L{IRecords}."""
        size, sent = len(data), 0
        try:
            while sent < size:
                sent += self._connection.send(memoryview(data)[sent:] if sent else data)
        except SSL.WantReadError:
            pass
        return sent

    def outgoing(self) -> Buffer | None:
        """See L{IRecords}."""
        return outgoing_of(self._connection)


class DirectRecords:
    """
    With OpenSSL's own functions.

    What they return below 1 goes to pyOpenSSL's own words for it, which raise what that raises.
    """

    def __init__(self, connection: SSL.Connection) -> None:
        of_connection: Any = connection
        self.end: SSL.Error | None = None
        self._connection = connection  # whose end would be that of what follows
        self._ssl = of_connection._ssl
        self._into_ssl = of_connection._into_ssl
        self._from_ssl = of_connection._from_ssl
        self._raise: Callable[[object, int], None] = of_connection._raise_ssl_error
        self._at = _ffi.new("char **")
        self._incoming: Buffer = b""
        self._given_bytes = 0  # of that
        # Contexts ask OpenSSL to give up its two buffers after each record, which is good for those who are idle, and
        # is a third of what a small record costs.
        _openssl.SSL_clear_mode(self._ssl, SSL.MODE_RELEASE_BUFFERS)

    def receive(self, data: Buffer) -> None:
        """See L{IRecords}."""
        self._incoming, self._given_bytes = data, 0
        self._give()

    def fill(self, place: memoryview) -> int:
        """See L{IRecords}."""
        ssl, read = self._ssl, _openssl.SSL_read
        start = _ffi.from_buffer(place)
        size, filled = len(place), 0
        while filled < size:
            count = read(ssl, start + filled, size - filled)
            if count > 0:
                filled += count
            elif self._stopped(count):
                break
        return filled

    def decrypted(self) -> bytes:
        """See L{IRecords}."""
        ssl, read = self._ssl, _openssl.SSL_read
        size, filled = len(self._incoming) + RECORD_BYTES + _RECORD_OVERHEAD_BYTES, 0
        start = _allocate("char[]", size)
        while filled < size:
            count = read(ssl, start + filled, size - filled)
            if count > 0:
                filled += count
            elif self._stopped(count):
                return _ffi.buffer(start, filled)[:]  # type: ignore[no-any-return]
        return _ffi.buffer(start, filled)[:] + self.decrypted()  # type: ignore[no-any-return]

    def encrypt(self, data: Buffer) -> int:
        """See L{IRecords}."""
        start, size, done = _ffi.from_buffer(data), len(data), 0
        while done < size:
            count = _openssl.SSL_write(self._ssl, start + done, size - done)
            if count <= 0:
                if _openssl.SSL_get_error(self._ssl, count) != _openssl.SSL_ERROR_WANT_READ:
                    self._raise(self._ssl, count)
                break
            done += count
        return done

    def outgoing(self) -> Buffer | None:
        """See L{IRecords}."""
        size = _openssl.BIO_get_mem_data(self._from_ssl, self._at)
        if size <= 0:
            return None
        made = _allocate("char[]", size)
        if _openssl.BIO_read(self._from_ssl, made, size) != size:
            raise MemoryError("there is no memory for what is to be sent over TLS")
        return _ffi.buffer(made, size)  # type: ignore[no-any-return]

    def _give(self) -> bool:
        """Give OpenSSL more of what has arrived, if there is more."""
        data, at = self._incoming, self._given_bytes
        size = min(len(data) - at, INCOMING_BYTES_MAX)
        if size <= 0:
            self._incoming, self._given_bytes = b"", 0
            return False
        if _openssl.BIO_write(self._into_ssl, _ffi.from_buffer(data) + at, size) != size:
            raise MemoryError("there is no memory for what has arrived over TLS")
        self._given_bytes = at + size
        return True

    def _stopped(self, count: int) -> bool:
        """Whether there is nothing more to be had."""
        if _openssl.SSL_get_error(self._ssl, count) == _openssl.SSL_ERROR_WANT_READ:
            return not self._give()
        try:
            self._raise(self._ssl, count)
        except SSL.Error as error:
            self.end = error.with_traceback(None)  # which would keep this in a circle
        return True


def _has_direct() -> bool:
    return _openssl is not None and all(hasattr(_openssl, name) for name in _NEEDED)


DIRECT: Final = _has_direct()
"""OpenSSL's own functions are where they were in the versions that this was written with."""

_allocate: Any = _ffi.new_allocator(should_clear_after_alloc=False) if DIRECT else None


def records_of(connection: SSL.Connection) -> IRecords:
    """The best there are; C{connection} has just ended its handshake."""
    if DIRECT and all(hasattr(connection, name) for name in _NEEDED_OF_CONNECTION):
        return DirectRecords(connection)
    return OrdinaryRecords(connection)
