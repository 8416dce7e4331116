"""
The numbers of the NBD protocol that this project speaks, under the names of the protocol document.

Everything on the wire is big-endian.  See C{docs/specifications/nbd.rst} for
what of the protocol is spoken, and why.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

# What compiled code has to be told, too, is written down once, beside it.
from dst.native.plain_nbd import CMD_READ as CMD_READ
from dst.native.plain_nbd import CMD_WRITE as CMD_WRITE
from dst.native.plain_nbd import DATA_CHUNK as DATA_CHUNK
from dst.native.plain_nbd import HOLE_CHUNK as HOLE_CHUNK
from dst.native.plain_nbd import REPLY_FLAG_DONE as REPLY_FLAG_DONE
from dst.native.plain_nbd import REPLY_TYPE_OFFSET_DATA as REPLY_TYPE_OFFSET_DATA
from dst.native.plain_nbd import REPLY_TYPE_OFFSET_HOLE as REPLY_TYPE_OFFSET_HOLE
from dst.native.plain_nbd import REQUEST as REQUEST
from dst.native.plain_nbd import REQUEST_MAGIC as REQUEST_MAGIC
from dst.native.plain_nbd import SIMPLE_REPLY as SIMPLE_REPLY
from dst.native.plain_nbd import SIMPLE_REPLY_MAGIC as SIMPLE_REPLY_MAGIC
from dst.native.plain_nbd import STRUCTURED_REPLY_MAGIC as STRUCTURED_REPLY_MAGIC

# The greeting.
INIT_MAGIC: Final = 0x4E42444D41474943  # "NBDMAGIC"
OPTION_MAGIC: Final = 0x49484156454F5054  # "IHAVEOPT"
OLDSTYLE_MAGIC: Final = 0x0000420281861253
OPTION_REPLY_MAGIC: Final = 0x0003E889045565A9

FLAG_FIXED_NEWSTYLE: Final = 1 << 0
FLAG_NO_ZEROES: Final = 1 << 1
"""Handshake flags; the client's flags have the same two bits."""

GREETING: Final = Struct(">QQH")
CLIENT_FLAGS: Final = Struct(">I")
OPTION: Final = Struct(">QII")
"""Magic, option, length of the data that follows."""
OPTION_REPLY: Final = Struct(">QIII")
"""Magic, option, reply, length of the data that follows."""
EXPORT_NAME_REPLY: Final = Struct(">QH")
"""Size and transmission flags; then 124 zeroes unless both sides said C{FLAG_NO_ZEROES}."""
EXPORT_NAME_PADDING_BYTES: Final = 124

# Options.
OPT_EXPORT_NAME: Final = 1
OPT_ABORT: Final = 2
OPT_LIST: Final = 3
OPT_STARTTLS: Final = 5
OPT_INFO: Final = 6
OPT_GO: Final = 7
OPT_STRUCTURED_REPLY: Final = 8
OPT_LIST_META_CONTEXT: Final = 9
OPT_SET_META_CONTEXT: Final = 10

# Replies to options.  Bit 31 makes it an error, and its data a sentence.
REP_ACK: Final = 1
REP_SERVER: Final = 2
REP_INFO: Final = 3
REP_META_CONTEXT: Final = 4
REP_FLAG_ERROR: Final = 1 << 31
REP_ERR_UNSUP: Final = REP_FLAG_ERROR + 1
REP_ERR_POLICY: Final = REP_FLAG_ERROR + 2
REP_ERR_INVALID: Final = REP_FLAG_ERROR + 3
REP_ERR_PLATFORM: Final = REP_FLAG_ERROR + 4
REP_ERR_TLS_REQD: Final = REP_FLAG_ERROR + 5
REP_ERR_UNKNOWN: Final = REP_FLAG_ERROR + 6
REP_ERR_SHUTDOWN: Final = REP_FLAG_ERROR + 7
REP_ERR_BLOCK_SIZE_REQD: Final = REP_FLAG_ERROR + 8
REP_ERR_TOO_BIG: Final = REP_FLAG_ERROR + 9

# Kinds of information in REP_INFO.
INFO_EXPORT: Final = 0
INFO_NAME: Final = 1
INFO_DESCRIPTION: Final = 2
INFO_BLOCK_SIZE: Final = 3

INFO_EXPORT_REPLY: Final = Struct(">HQH")
INFO_BLOCK_SIZE_REPLY: Final = Struct(">HIII")

# Transmission flags.
FLAG_HAS_FLAGS: Final = 1 << 0
FLAG_READ_ONLY: Final = 1 << 1
FLAG_SEND_FLUSH: Final = 1 << 2
FLAG_SEND_FUA: Final = 1 << 3
FLAG_ROTATIONAL: Final = 1 << 4
FLAG_SEND_TRIM: Final = 1 << 5
FLAG_SEND_WRITE_ZEROES: Final = 1 << 6
FLAG_SEND_DF: Final = 1 << 7
FLAG_CAN_MULTI_CONN: Final = 1 << 8
FLAG_SEND_CACHE: Final = 1 << 10
FLAG_SEND_FAST_ZERO: Final = 1 << 11

# Requests.
CMD_DISC: Final = 2
CMD_FLUSH: Final = 3
CMD_TRIM: Final = 4
CMD_CACHE: Final = 5
CMD_WRITE_ZEROES: Final = 6
CMD_BLOCK_STATUS: Final = 7

COMMAND_NAMES: Final = {
    CMD_READ: "read",
    CMD_WRITE: "write",
    CMD_DISC: "disconnect",
    CMD_FLUSH: "flush",
    CMD_TRIM: "trim",
    CMD_CACHE: "cache",
    CMD_WRITE_ZEROES: "write zeroes",
    CMD_BLOCK_STATUS: "block status",
}

CMD_FLAG_FUA: Final = 1 << 0
CMD_FLAG_NO_HOLE: Final = 1 << 1
CMD_FLAG_DF: Final = 1 << 2
CMD_FLAG_REQ_ONE: Final = 1 << 3
CMD_FLAG_FAST_ZERO: Final = 1 << 4


# Replies.
CHUNK: Final = Struct(">IHHQI")
"""Magic, flags, type, cookie, length of the payload that follows."""
ERROR_CHUNK: Final = Struct(">IHHQIIH")
"""A chunk header, the error, and the length of the sentence that follows."""
MAGIC: Final = Struct(">I")

REPLY_TYPE_NONE: Final = 0
REPLY_TYPE_BLOCK_STATUS: Final = 5
REPLY_TYPE_FLAG_ERROR: Final = 1 << 15
REPLY_TYPE_ERROR: Final = REPLY_TYPE_FLAG_ERROR + 1
REPLY_TYPE_ERROR_OFFSET: Final = REPLY_TYPE_FLAG_ERROR + 2

BASE_ALLOCATION: Final = "base:allocation"
"""The metadata context whose bits are those of L{dst.geometry.BlockStatus}."""

# Errors: the protocol's own numbers, whatever the machine's errno.h says.
EPERM: Final = 1
EIO: Final = 5
ENOMEM: Final = 12
EINVAL: Final = 22
ENOSPC: Final = 28
EOVERFLOW: Final = 75
ENOTSUP: Final = 95
ESHUTDOWN: Final = 108

# Limits that the protocol document gives.
STRING_BYTES_MAX: Final = 4096
"""No name, query or sentence is longer."""
DEFAULT_TRANSFER_BYTES_MAX: Final = 32 * 1024 * 1024
"""What a server that says nothing can be expected to take in one read or write."""
UNNEGOTIATED_BLOCK_SIZE_MAX: Final = 512
"""A client that did not ask for block sizes can be expected to keep to this one."""
