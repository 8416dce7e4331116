"""
How a client and a server agree on an export: the server's side of "fixed newstyle".

::

    S: NBDMAGIC IHAVEOPT flags
    C: flags
    C: option ...            S: replies to it, the last one ACK or an error
    C: GO or EXPORT_NAME     S: what the export is like;  the transmission phase begins

Bytes go in with C{receive}, C{advance} deals with at most one option, and what is to be
sent collects in C{outgoing}: one option at a time, so that the owner can stop
a client that asks for long answers and does not read them.

Whatever a client sends, this ends: the number of options and the length of each
are limited, and the owner limits the time.

Where there is TLS (C{OPT_STARTTLS}), the owner begins it when L{ServerHandshake.starting_tls} says so, and
then says L{ServerHandshake.secured}.  Whatever a client has sent or agreed on before was sent by anybody who sat in
between, and counts for nothing: bytes behind the option end the connection, and what was agreed on is forgotten.
Where TLS is required nothing else is answered before it, not even which exports there are.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, Protocol

from attrs import define, field, frozen

from dst.errors import Denied, DSTError, NotFound, PeerError
from dst.nbd.constants import (
    BASE_ALLOCATION,
    CLIENT_FLAGS,
    EXPORT_NAME_PADDING_BYTES,
    EXPORT_NAME_REPLY,
    FLAG_FIXED_NEWSTYLE,
    FLAG_HAS_FLAGS,
    FLAG_NO_ZEROES,
    FLAG_SEND_DF,
    GREETING,
    INFO_BLOCK_SIZE,
    INFO_BLOCK_SIZE_REPLY,
    INFO_DESCRIPTION,
    INFO_EXPORT,
    INFO_EXPORT_REPLY,
    INFO_NAME,
    INIT_MAGIC,
    OPT_ABORT,
    OPT_EXPORT_NAME,
    OPT_GO,
    OPT_INFO,
    OPT_LIST,
    OPT_LIST_META_CONTEXT,
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
    REP_ERR_POLICY,
    REP_ERR_TLS_REQD,
    REP_ERR_TOO_BIG,
    REP_ERR_UNKNOWN,
    REP_ERR_UNSUP,
    REP_INFO,
    REP_META_CONTEXT,
    REP_SERVER,
    STRING_BYTES_MAX,
    UNNEGOTIATED_BLOCK_SIZE_MAX,
)

__all__ = ["META_CONTEXT_ID", "Agreement", "ExportInfo", "IOffered", "ServerHandshake"]

OPTION_BYTES_MAX: Final = 64 * 1024
"""The longest data of one option: a name and some queries of 4 KiB each fit, and memory for it is cheap."""

OPTIONS_MAX: Final = 8192
"""Options in one handshake: a client that lists a thousand exports asks for each of them several times."""

META_CONTEXT_ID: Final = 1
"""The number under which a session knows C{base:allocation}."""

_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_NAMESPACE: Final = BASE_ALLOCATION.partition(":")[0] + ":"


@frozen
class ExportInfo:
    """
    What a client is told of an export.

    @ivar name: its own name, also where the client asked for the default one.
    @ivar flags: transmission flags, without those that depend on what the client can do.
    @ivar block_size: requests must be multiples of it.
    @ivar transfer_bytes_max: the most that one read or write may carry.
    """

    name: str
    size: int
    flags: int
    block_size: int
    preferred_block_size: int
    transfer_bytes_max: int
    description: str = ""


@frozen
class Agreement:
    """
    How a handshake ended well.

    @ivar structured: replies are structured.
    @ivar block_status: the client may ask for C{base:allocation}.
    """

    export: ExportInfo
    structured: bool
    block_status: bool


class IOffered(Protocol):
    """What the handshake asks of its owner."""

    def list_exports(self) -> list[str]:
        """The names a client may see."""

    def describe_export(self, name: str) -> ExportInfo:
        """
        @param name: as the client wrote it; C{""} means the default export.
        @raise DSTError: why it cannot have it; the sentence is sent to the client.
        """


@define
class ServerHandshake:
    """
    One connection until both sides agree.

    @ivar tls: C{"off"}, C{"optional"} or C{"required"}.
    @ivar outgoing: what is to be sent; the owner takes it away.
    @ivar starting_tls: TLS begins with the next byte in either direction; the owner sends C{outgoing} and begins it.
    @ivar agreement: set at the end; what was received behind it is in L{rest}.
    @ivar aborted: the client wants no export, and the connection is to be closed when C{outgoing} is sent.
    """

    _offered: IOffered
    tls: str = "off"
    outgoing: list[bytes] = field(factory=list)
    agreement: Agreement | None = None
    aborted: bool = False
    starting_tls: bool = False
    _encrypted: bool = False
    _buffer: bytearray = field(factory=bytearray)
    _client_flags: int | None = None
    _options: int = 0
    _structured: bool = False
    _context_export: str | None = None

    def begin(self) -> None:
        """The server speaks first."""
        self.outgoing.append(GREETING.pack(INIT_MAGIC, OPTION_MAGIC, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES))

    def receive(self, data: bytes) -> None:
        """
        Take what arrived; the owner calls L{advance} next, and does not go on receiving before that returned
        False.
        """
        self._buffer += data

    def secured(self) -> None:
        """TLS has begun: from now on everything that is received came through it."""
        assert self.starting_tls and not self._buffer
        self.starting_tls = False
        self._encrypted = True
        self._structured = False
        self._context_export = None

    @property
    def rest(self) -> bytes:
        """What came behind the option that ended the handshake."""
        return bytes(self._buffer)

    def advance(self) -> bool:
        """
        Deal with the next message, if all of it is here.

        @return: whether there may be more to do.
        @raise PeerError: the client broke the protocol, or wants something that can only be refused by hanging up.
        """
        if self.agreement is not None or self.aborted:
            return False
        if self.starting_tls:
            self._check_nothing_behind()
            return False
        if self._client_flags is None:
            return self._advance_flags()
        buffer = self._buffer
        if len(buffer) < OPTION.size:
            self._check_magic()
            return False
        magic, option, length = OPTION.unpack_from(buffer)
        if magic != OPTION_MAGIC:
            raise PeerError(f"an option began with {magic:#018x} instead of IHAVEOPT")
        if length > OPTION_BYTES_MAX:
            raise PeerError(f"option {option} has {length} bytes of data; {OPTION_BYTES_MAX} are allowed")
        if len(buffer) < OPTION.size + length:
            return False
        self._options += 1
        if self._options > OPTIONS_MAX:
            raise PeerError(f"more than {OPTIONS_MAX} options in one handshake")
        data = bytes(buffer[OPTION.size : OPTION.size + length])
        del buffer[: OPTION.size + length]
        self._option(option, data)
        return True

    def _check_magic(self) -> None:
        """Rubbish is recognised by its first bytes, not waited on."""
        start = bytes(self._buffer[:8])
        if not OPTION.pack(OPTION_MAGIC, 0, 0).startswith(start):
            raise PeerError(f"an option began with {start.hex()} instead of IHAVEOPT")

    def _advance_flags(self) -> bool:
        if len(self._buffer) < CLIENT_FLAGS.size:
            return False
        (flags,) = CLIENT_FLAGS.unpack_from(self._buffer)
        del self._buffer[: CLIENT_FLAGS.size]
        if flags & ~(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES):
            raise PeerError(f"the client answered the greeting with the unknown flags {flags:#x}")
        self._client_flags = flags
        return True

    def _option(self, option: int, data: bytes) -> None:
        assert self._client_flags is not None
        if self.tls == "required" and not self._encrypted and option not in (OPT_STARTTLS, OPT_ABORT):
            if option == OPT_EXPORT_NAME:
                raise PeerError("the client wants an export without TLS, which is required here")
            self._refuse(option, REP_ERR_TLS_REQD, "TLS is required here; begin with it")
        elif option == OPT_EXPORT_NAME:
            self._export_name(data)
        elif not self._client_flags & FLAG_FIXED_NEWSTYLE:
            raise PeerError(f"option {option} without the fixed newstyle flag")
        elif option in (OPT_GO, OPT_INFO):
            self._info(option, data)
        elif option in (OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT):
            self._meta_context(option, data)
        elif option == OPT_ABORT:
            # Data with it would be wrong, and does not matter any more.
            self._reply(option, REP_ACK)
            self.aborted = True
        elif option == OPT_LIST:
            self._list(data)
        elif option == OPT_STRUCTURED_REPLY:
            if data:
                self._refuse(option, REP_ERR_INVALID, "the structured reply option has no data")
            else:
                self._structured = True
                self._reply(option, REP_ACK)
        elif option == OPT_STARTTLS:
            self._start_tls(data)
        else:
            self._refuse(option, REP_ERR_UNSUP, f"option {option} is not known here")

    def _start_tls(self, data: bytes) -> None:
        if data or self._encrypted:
            sentence = "the option to begin TLS has no data" if data else "this is TLS already"
            self._refuse(OPT_STARTTLS, REP_ERR_INVALID, sentence)
        elif self.tls == "off":
            self._refuse(OPT_STARTTLS, REP_ERR_POLICY, "this server does not offer TLS here")
        else:
            self._check_nothing_behind()
            self._reply(OPT_STARTTLS, REP_ACK)
            self.starting_tls = True

    def _check_nothing_behind(self) -> None:
        if self._buffer:
            raise PeerError(f"{len(self._buffer)} bytes came behind the option to begin TLS, and before TLS")

    def _reply(self, option: int, reply: int, data: bytes = b"") -> None:
        self.outgoing.append(OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, reply, len(data)) + data)

    def _refuse(self, option: int, reply: int, sentence: str) -> None:
        self._reply(option, reply, _sentence(sentence))

    def _list(self, data: bytes) -> None:
        if data:
            self._refuse(OPT_LIST, REP_ERR_INVALID, "the list option has no data")
            return
        for name in self._offered.list_exports():
            encoded = name.encode()
            self._reply(OPT_LIST, REP_SERVER, _U32.pack(len(encoded)) + encoded)
        self._reply(OPT_LIST, REP_ACK)

    def _describe(self, name: str) -> ExportInfo | tuple[int, str]:
        """What the export is like, or the error reply and the sentence why it cannot be had."""
        try:
            return self._offered.describe_export(name)
        except NotFound as error:
            return REP_ERR_UNKNOWN, error.message
        except Denied as error:
            return REP_ERR_POLICY, error.message
        except DSTError as error:
            # There is no "not now" among the replies; a policy of ours is what comes nearest, and its sentence is
            # shown.
            return REP_ERR_POLICY, error.message

    def _export_name(self, data: bytes) -> None:
        """Nothing can be answered here but yes: no is to hang up."""
        name = _name(data)
        if name is None:
            raise PeerError(f"the client wants an export whose name of {len(data)} bytes is too long or not UTF-8")
        found = self._describe(name)
        if isinstance(found, tuple):
            raise PeerError(f"the client wants the export {name!r}, and: {found[1]}")
        if found.block_size > UNNEGOTIATED_BLOCK_SIZE_MAX:
            raise PeerError(
                f"the client wants {name!r} and does not know of its block size, {found.block_size} bytes"
            )
        assert self._client_flags is not None
        padding = 0 if self._client_flags & FLAG_NO_ZEROES else EXPORT_NAME_PADDING_BYTES
        self.outgoing.append(EXPORT_NAME_REPLY.pack(found.size, self._flags(found)) + bytes(padding))
        self._agree(name, found)

    def _flags(self, export: ExportInfo) -> int:
        return export.flags | FLAG_HAS_FLAGS | (FLAG_SEND_DF if self._structured else 0)

    def _agree(self, asked_for: str, export: ExportInfo) -> None:
        # A context that was selected for another export counts for nothing.
        self.agreement = Agreement(export, self._structured, self._structured and self._context_export == asked_for)

    def _info(self, option: int, data: bytes) -> None:
        fields = _info_fields(data)
        if fields is None:
            self._refuse(option, REP_ERR_INVALID, "the name and the information wanted do not fill the option")
            return
        name_bytes, wanted = fields
        name = _name(name_bytes)
        if name is None:
            self._refuse(option, REP_ERR_TOO_BIG, f"a name has at most {STRING_BYTES_MAX} bytes of UTF-8")
            return
        found = self._describe(name)
        if isinstance(found, tuple):
            self._refuse(option, *found)
            return
        if INFO_NAME in wanted:
            self._reply(option, REP_INFO, _U16.pack(INFO_NAME) + found.name.encode())
        if INFO_DESCRIPTION in wanted and found.description:
            self._reply(option, REP_INFO, _U16.pack(INFO_DESCRIPTION) + _sentence(found.description))
        # The block sizes are told unasked: they cost nothing, and a client that did not know to ask may still use
        # them.
        sizes = (found.block_size, found.preferred_block_size, found.transfer_bytes_max)
        self._reply(option, REP_INFO, INFO_BLOCK_SIZE_REPLY.pack(INFO_BLOCK_SIZE, *sizes))
        if INFO_BLOCK_SIZE not in wanted and found.block_size > UNNEGOTIATED_BLOCK_SIZE_MAX:
            sentence = f"requests must be multiples of {found.block_size} bytes; ask for the block size"
            self._refuse(option, REP_ERR_BLOCK_SIZE_REQD, sentence)
            return
        self._reply(option, REP_INFO, INFO_EXPORT_REPLY.pack(INFO_EXPORT, found.size, self._flags(found)))
        self._reply(option, REP_ACK)
        if option == OPT_GO:
            self._agree(name, found)

    def _meta_context(self, option: int, data: bytes) -> None:
        if option == OPT_SET_META_CONTEXT:
            self._context_export = None  # also a refused one replaces what was set before
        if not self._structured:
            self._refuse(option, REP_ERR_INVALID, "metadata contexts need structured replies; ask for them first")
            return
        fields = _query_fields(data)
        if fields is None:
            self._refuse(option, REP_ERR_INVALID, "the name and the queries do not fill the option")
            return
        name_bytes, queries = fields
        name = _name(name_bytes)
        if name is None or any(len(query) > STRING_BYTES_MAX for query in queries):
            self._refuse(option, REP_ERR_TOO_BIG, f"a name or query has at most {STRING_BYTES_MAX} bytes of UTF-8")
            return
        found = self._describe(name)
        if isinstance(found, tuple):
            self._refuse(option, *found)
            return
        if option == OPT_LIST_META_CONTEXT:
            if not queries or BASE_ALLOCATION.encode() in queries or _NAMESPACE.encode() in queries:
                self._reply(option, REP_META_CONTEXT, _U32.pack(0) + BASE_ALLOCATION.encode())
        elif BASE_ALLOCATION.encode() in queries:
            self._context_export = name
            self._reply(option, REP_META_CONTEXT, _U32.pack(META_CONTEXT_ID) + BASE_ALLOCATION.encode())
        self._reply(option, REP_ACK)


def _sentence(text: str) -> bytes:
    """Text for people, within the protocol's limit."""
    return text.encode()[:STRING_BYTES_MAX].decode(errors="ignore").encode()


def _name(data: bytes) -> str | None:
    if len(data) > STRING_BYTES_MAX:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _string(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The string with its length in front at C{at}, and where it ends; None when it does not lie in C{data}."""
    if len(data) < at + _U32.size:
        return None
    (length,) = _U32.unpack_from(data, at)
    end = at + _U32.size + length
    return (data[at + _U32.size : end], end) if end <= len(data) else None


def _info_fields(data: bytes) -> tuple[bytes, set[int]] | None:
    """Name and kinds of information; None unless they fill C{data} exactly."""
    name = _string(data, 0)
    if name is None or len(data) < name[1] + _U16.size:
        return None
    (count,) = _U16.unpack_from(data, name[1])
    at = name[1] + _U16.size
    if len(data) != at + count * _U16.size:
        return None
    return name[0], {_U16.unpack_from(data, at + index * _U16.size)[0] for index in range(count)}


def _query_fields(data: bytes) -> tuple[bytes, list[bytes]] | None:
    """Name and queries; None unless they fill C{data} exactly."""
    name = _string(data, 0)
    if name is None or len(data) < name[1] + _U32.size:
        return None
    (count,) = _U32.unpack_from(data, name[1])
    at = name[1] + _U32.size
    queries: list[bytes] = []
    while len(queries) < count:  # each takes at least four bytes: the length of the data bounds the loop
        query = _string(data, at)
        if query is None:
            return None
        queries.append(query[0])
        at = query[1]
    return (name[0], queries) if at == len(data) else None
