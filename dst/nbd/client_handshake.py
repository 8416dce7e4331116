"""
How a client and a server agree on an export: the client's side.

The options are asked one after the other, each from the answer to the one before::

    STRUCTURED_REPLY --yes--> SET_META_CONTEXT base:allocation --> GO --unknown--> EXPORT_NAME
                     --no-------------------------------------> GO

With C{tls} the first thing to be asked for is STARTTLS.  A server that has it not is refused, and so is whoever
answers in its place: nothing is ever told without TLS then.  The owner begins TLS when
L{ClientHandshake.starting_tls} says so, and then says L{ClientHandshake.secured}.

Every server that speaks "newstyle" is understood, also one so old that it knows only EXPORT_NAME.  "Oldstyle",
where the server decides on the export, is refused.

What a server sends is checked as carefully as what a client sends: replies are limited in number and length.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Final

from attrs import define, evolve, field, frozen

from dst.errors import Denied, DSTError, InvalidRequest, NotFound, NotSupported, PeerError, Unavailable
from dst.geometry import SIZE_BYTES_MAX
from dst.nbd.constants import (
    BASE_ALLOCATION,
    CLIENT_FLAGS,
    DEFAULT_TRANSFER_BYTES_MAX,
    EXPORT_NAME_PADDING_BYTES,
    EXPORT_NAME_REPLY,
    FLAG_FIXED_NEWSTYLE,
    FLAG_HAS_FLAGS,
    FLAG_NO_ZEROES,
    GREETING,
    INFO_BLOCK_SIZE,
    INFO_BLOCK_SIZE_REPLY,
    INFO_EXPORT,
    INFO_EXPORT_REPLY,
    INIT_MAGIC,
    OLDSTYLE_MAGIC,
    OPT_EXPORT_NAME,
    OPT_GO,
    OPT_SET_META_CONTEXT,
    OPT_STARTTLS,
    OPT_STRUCTURED_REPLY,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    REP_ACK,
    REP_ERR_BLOCK_SIZE_REQD,
    REP_ERR_INVALID,
    REP_ERR_PLATFORM,
    REP_ERR_POLICY,
    REP_ERR_SHUTDOWN,
    REP_ERR_TLS_REQD,
    REP_ERR_TOO_BIG,
    REP_ERR_UNKNOWN,
    REP_ERR_UNSUP,
    REP_FLAG_ERROR,
    REP_INFO,
    REP_META_CONTEXT,
    STRING_BYTES_MAX,
)
from dst.words import printable

__all__ = ["ClientHandshake", "Served"]

REPLY_BYTES_MAX: Final = 64 * 1024
"""The longest reply to an option: sentences and names have at most 4 KiB."""

REPLIES_MAX: Final = 256
"""Replies in a whole handshake; a usual one has ten."""

_U16: Final = Struct(">H")
_U32: Final = Struct(">I")

_WORDS: Final[dict[int, tuple[type[DSTError], str]]] = {
    REP_ERR_POLICY: (Denied, "its policy forbids it"),
    REP_ERR_TLS_REQD: (Denied, "it requires TLS"),
    REP_ERR_UNKNOWN: (NotFound, "there is none of that name"),
    REP_ERR_SHUTDOWN: (Unavailable, "it is shutting down"),
    REP_ERR_PLATFORM: (NotSupported, "its platform does not support it"),
    REP_ERR_BLOCK_SIZE_REQD: (InvalidRequest, "it wants its block sizes to be asked for, which was done"),
    REP_ERR_INVALID: (InvalidRequest, "it does not understand the request"),
    REP_ERR_TOO_BIG: (InvalidRequest, "the request is too large for it"),
    REP_ERR_UNSUP: (NotSupported, "it does not know the option"),
}


@frozen
class Served:
    """
    What a server offers.

    @ivar flags: its transmission flags.
    @ivar block_size: requests must be multiples of it.
    @ivar transfer_bytes_max: the most that one read or write may carry.
    @ivar structured: replies may be structured.
    @ivar context_id: the number of C{base:allocation} in replies, or C{None} where block status cannot be asked.
    """

    size: int = 0
    flags: int = 0
    block_size: int = 1
    preferred_block_size: int = 4096
    transfer_bytes_max: int = DEFAULT_TRANSFER_BYTES_MAX
    structured: bool = False
    context_id: int | None = None


@define
class ClientHandshake:
    """
    One connection until both sides agree.

    @ivar export: the name; C{""} is the server's default export.
    @ivar outgoing: what is to be sent; the owner takes it away.
    @ivar tls: TLS is demanded.
    @ivar starting_tls: TLS begins with the next byte in either direction; the owner begins it.
    @ivar served: set at the end; what was received behind it is in L{rest}.
    """

    export: str
    tls: bool = False
    outgoing: list[bytes] = field(factory=list)
    served: Served | None = None
    starting_tls: bool = False
    _buffer: bytearray = field(factory=bytearray)
    _greeted: bool = False
    _asked: int = 0
    _replies: int = 0
    _padding_bytes: int = 0
    _so_far: Served = field(factory=Served)
    _has_info: bool = False

    def receive(self, data: bytes) -> None:
        """
        Take what arrived.

        @raise DSTError: there will be no agreement, and why: L{PeerError} when the server broke the protocol, another
            where it refused.
        """
        self._buffer += data
        while self.served is None and not self.starting_tls and self._advance():
            pass
        if self.starting_tls and self._buffer:
            raise PeerError(f"the NBD server sent {len(self._buffer)} bytes between its agreement to TLS and TLS")

    def secured(self) -> None:
        """TLS has begun: from now on everything that is received came through it."""
        assert self.starting_tls
        self.starting_tls = False
        self._ask(OPT_STRUCTURED_REPLY)

    @property
    def rest(self) -> bytes:
        """What came behind the answer that ended the handshake."""
        return bytes(self._buffer)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _advance(self) -> bool:
        """Deal with the next message, if all of it is here; whether there may be more."""
        if not self._greeted:
            return self._advance_greeting()
        if self._asked == OPT_EXPORT_NAME:
            return self._advance_export_name()
        if len(self._buffer) < OPTION_REPLY.size:
            return False
        magic, option, reply, length = OPTION_REPLY.unpack_from(self._buffer)
        if magic != OPTION_REPLY_MAGIC:
            raise PeerError(f"the NBD server began a reply with {magic:#018x}")
        if length > REPLY_BYTES_MAX:
            raise PeerError(f"the NBD server sent a reply of {length} bytes; {REPLY_BYTES_MAX} are allowed")
        if len(self._buffer) < OPTION_REPLY.size + length:
            return False
        data = self._take(OPTION_REPLY.size + length)[OPTION_REPLY.size :]
        self._replies += 1
        if self._replies > REPLIES_MAX:
            raise PeerError(f"the NBD server sent more than {REPLIES_MAX} replies in one handshake")
        if option != self._asked:
            raise PeerError(f"the NBD server replied to option {option}; option {self._asked} was asked")
        try:
            self._reply(reply, data)
        except error:
            raise PeerError(f"reply {reply:#x} of the NBD server to option {option} is too short") from None
        return True

    def _advance_greeting(self) -> bool:
        start = bytes(self._buffer[:16])
        oldstyle = GREETING.pack(INIT_MAGIC, OLDSTYLE_MAGIC, 0)[:16]
        if len(start) == 16 and start == oldstyle:
            raise NotSupported("the NBD server speaks only the oldstyle protocol, which has no export names")
        if not GREETING.pack(INIT_MAGIC, OPTION_MAGIC, 0).startswith(start) and not oldstyle.startswith(start):
            raise PeerError(f"this is no NBD server: it began with {start!r}")
        if len(self._buffer) < GREETING.size:
            return False
        _, _, flags = GREETING.unpack(self._take(GREETING.size))
        self._greeted = True
        self._padding_bytes = 0 if flags & FLAG_NO_ZEROES else EXPORT_NAME_PADDING_BYTES
        self.outgoing.append(CLIENT_FLAGS.pack(flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)))
        if self.tls and not flags & FLAG_FIXED_NEWSTYLE:
            raise NotSupported("the NBD server is too old for TLS, which is demanded of it")
        if flags & FLAG_FIXED_NEWSTYLE:
            self._ask(OPT_STARTTLS if self.tls else OPT_STRUCTURED_REPLY)
        else:
            self._ask(OPT_EXPORT_NAME, self.export.encode())
        return True

    def _ask(self, option: int, data: bytes = b"") -> None:
        self._asked = option
        self.outgoing.append(OPTION.pack(OPTION_MAGIC, option, len(data)) + data)

    def _ask_go(self) -> None:
        name = self.export.encode()
        wanted = _U16.pack(1) + _U16.pack(INFO_BLOCK_SIZE)
        self._ask(OPT_GO, _U32.pack(len(name)) + name + wanted)

    def _reply(self, reply: int, data: bytes) -> None:
        if self._asked == OPT_STARTTLS:
            self._starttls_reply(reply, data)
        elif self._asked == OPT_STRUCTURED_REPLY:
            self._structured_reply(reply)
        elif self._asked == OPT_SET_META_CONTEXT:
            self._meta_context(reply, data)
        else:
            self._go(reply, data)

    def _starttls_reply(self, reply: int, data: bytes) -> None:
        if reply == REP_ACK:
            self.starting_tls = True
        elif reply & REP_FLAG_ERROR:
            said = printable(data[:STRING_BYTES_MAX].decode(errors="replace").strip())
            raise Denied(f"the NBD server has no TLS, which is demanded of it{said and ': '}{said}")
        else:
            raise self._unexpected(reply)

    def _structured_reply(self, reply: int) -> None:
        if reply & REP_FLAG_ERROR:
            self._ask_go()
        elif reply == REP_ACK:
            self._so_far = evolve(self._so_far, structured=True)
            name, query = self.export.encode(), BASE_ALLOCATION.encode()
            queries = _U32.pack(1) + _U32.pack(len(query)) + query
            self._ask(OPT_SET_META_CONTEXT, _U32.pack(len(name)) + name + queries)
        else:
            raise self._unexpected(reply)

    def _meta_context(self, reply: int, data: bytes) -> None:
        if reply & REP_FLAG_ERROR:
            # Also where the export cannot be had: GO will say so more clearly.
            self._so_far = evolve(self._so_far, context_id=None)
            self._ask_go()
        elif reply == REP_META_CONTEXT:
            (context_id,) = _U32.unpack_from(data)
            if data[_U32.size :] == BASE_ALLOCATION.encode():
                self._so_far = evolve(self._so_far, context_id=context_id)
        elif reply == REP_ACK:
            self._ask_go()
        else:
            raise self._unexpected(reply)

    def _go(self, reply: int, data: bytes) -> None:
        if reply == REP_ERR_UNSUP:
            self._ask(OPT_EXPORT_NAME, self.export.encode())
        elif reply & REP_FLAG_ERROR:
            raise self._refusal(reply, data)
        elif reply == REP_INFO:
            self._info(data)
        elif reply != REP_ACK:
            raise self._unexpected(reply)
        elif not self._has_info:
            raise PeerError("the NBD server agreed and did not say what the export is like")
        else:
            self.served = self._so_far

    def _info(self, data: bytes) -> None:
        (kind,) = _U16.unpack_from(data)
        if kind == INFO_EXPORT:
            _, size, flags = INFO_EXPORT_REPLY.unpack(data)
            self._so_far = evolve(self._so_far, size=_checked_size(size), flags=_checked_flags(flags))
            self._has_info = True
        elif kind == INFO_BLOCK_SIZE:
            _, smallest, preferred, largest = INFO_BLOCK_SIZE_REPLY.unpack(data)
            if not _is_power_of_2(smallest) or smallest > largest or preferred < smallest:
                raise PeerError(f"the NBD server has the senseless block sizes {smallest}, {preferred}, {largest}")
            self._so_far = evolve(
                self._so_far,
                block_size=smallest,
                preferred_block_size=preferred,
                transfer_bytes_max=largest - largest % smallest,
            )

    def _advance_export_name(self) -> bool:
        """There is no reply to it but the export itself, or the end of the connection."""
        if len(self._buffer) < EXPORT_NAME_REPLY.size + self._padding_bytes:
            return False
        size, flags = EXPORT_NAME_REPLY.unpack_from(self._take(EXPORT_NAME_REPLY.size + self._padding_bytes))
        # A context goes with GO; a server that does not know GO has none.
        self.served = evolve(self._so_far, size=_checked_size(size), flags=_checked_flags(flags), context_id=None)
        return False

    def _unexpected(self, reply: int) -> PeerError:
        return PeerError(f"the NBD server gave the unexpected reply {reply:#x} to option {self._asked}")

    def _refusal(self, reply: int, data: bytes) -> DSTError:
        kind, words = _WORDS.get(reply, (PeerError, f"it answered {reply:#x}"))
        said = printable(data[:STRING_BYTES_MAX].decode(errors="replace").strip())
        return kind(f"the NBD server refused the export {self.export!r}: {said or words}")


def _checked_size(size: int) -> int:
    if size > SIZE_BYTES_MAX:
        raise PeerError(f"the NBD server's export has {size} bytes, more than the largest device, {SIZE_BYTES_MAX}")
    return size


def _checked_flags(flags: int) -> int:
    if not flags & FLAG_HAS_FLAGS:
        # So says the protocol; without it the other bits mean nothing.
        return FLAG_HAS_FLAGS
    return flags


def _is_power_of_2(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0
