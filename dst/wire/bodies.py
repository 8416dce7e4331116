"""
The data of answers that is not simply a device's: names, extents, status trees, sentences.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from attrs import evolve

from dst.errors import DSTError, InvalidRequest, PeerError, error_for
from dst.geometry import BlockStatus, StatusExtent
from dst.interfaces import CHECKSUM_BYTES, Buffer
from dst.status import Status, StatusTree
from dst.status_json import status_tree_from_plain, status_tree_to_plain
from dst.wire.handshake import read_name, write_name
from dst.wire.messages import EXPORTS_MAX, EXTENTS_MAX, MESSAGE_BYTES_MAX, STATUS_BYTES_MAX
from dst.words import printable

__all__ = [
    "decode_block_size",
    "decode_checksums",
    "decode_error",
    "decode_extents",
    "decode_names",
    "decode_status",
    "encode_block_size",
    "encode_extents",
    "encode_names",
    "encode_status",
]

_COUNT = struct.Struct("<I")
_EXTENT = struct.Struct("<QI")

_STATUS_BY_NUMBER = {int(status): status for status in Status}


def decode_error(status: int, data: Buffer) -> DSTError:
    """The error that an answer with a C{status} other than 0 stands for."""
    message = printable(str(data[:MESSAGE_BYTES_MAX], "utf-8", "replace"))  # it goes into logs
    known = _STATUS_BY_NUMBER.get(status)
    if known is None:
        return error_for(Status.INTERNAL, f"the server answered with status {status}, unknown here: {message}")
    return error_for(known, message)


def encode_names(names: Sequence[str]) -> bytes:
    """The names that fit the limit."""
    names = names[:EXPORTS_MAX]
    return _COUNT.pack(len(names)) + b"".join(map(write_name, names))


def decode_names(data: Buffer) -> list[str]:
    """
    @raise PeerError: C{data} is not what L{encode_names} makes.
    """
    if len(data) < _COUNT.size:
        raise PeerError("a list of names is too short")
    (count,) = _COUNT.unpack_from(data)
    if count > EXPORTS_MAX:
        raise PeerError(f"a list of {count} names is longer than the {EXPORTS_MAX} allowed")
    names, position = [], _COUNT.size
    for _ in range(count):
        name, position = read_name(data, position)
        names.append(name)
    return names


def encode_extents(extents: Sequence[StatusExtent]) -> bytes:
    """The extents that fit the limit."""
    return b"".join([_EXTENT.pack(extent.length, extent.status) for extent in extents[:EXTENTS_MAX]])


def decode_extents(data: Buffer, length: int) -> list[StatusExtent]:
    """
    @param length: how many bytes were asked about.
    @raise PeerError: C{data} is not what L{encode_extents} makes of an extent of C{length} bytes.
    """
    if not data or len(data) % _EXTENT.size or len(data) > _EXTENT.size * EXTENTS_MAX:
        raise PeerError(f"{len(data)} bytes are no list of extents")
    extents = []
    known = BlockStatus.HOLE | BlockStatus.ZERO
    for extent_length, status in _EXTENT.iter_unpack(data):
        length -= extent_length
        if not extent_length or length < 0:
            raise PeerError("the extents of a block status are empty or longer than what was asked about")
        extents.append(StatusExtent(extent_length, BlockStatus(status) & known))
    return extents


def encode_block_size(block_bytes: int) -> bytes:
    """What a request for checksums carries."""
    return _COUNT.pack(block_bytes)


def decode_block_size(data: Buffer) -> int:
    """
    @raise InvalidRequest: it is none.
    """
    if len(data) != _COUNT.size:
        raise InvalidRequest(f"a request for checksums carries {_COUNT.size} bytes, {len(data)} came")
    (block_bytes,) = _COUNT.unpack(data)
    return int(block_bytes)


def decode_checksums(data: Buffer, length: int, block_bytes: int) -> bytes:
    """
    @raise PeerError: C{data} are not the checksums of an extent of C{length} bytes in such blocks.
    """
    expected = -(-length // block_bytes) * CHECKSUM_BYTES
    if len(data) != expected:
        raise PeerError(f"{expected} bytes of checksums were asked for and {len(data)} answered")
    return bytes(data)


def encode_status(tree: StatusTree) -> bytes:
    """C{tree}, without what is below it if that is too much."""
    encoded = json.dumps(status_tree_to_plain(tree), separators=(",", ":")).encode()
    if len(encoded) > STATUS_BYTES_MAX:
        top = evolve(tree, detail={"pruned": len(tree.children)}, children=())
        encoded = json.dumps(status_tree_to_plain(top), separators=(",", ":")).encode()
    return encoded


def decode_status(data: Buffer) -> StatusTree:
    """
    @raise PeerError: C{data} is not a status tree, or too large a one.
    """
    if len(data) > STATUS_BYTES_MAX:
        raise PeerError(f"a status of {len(data)} bytes is larger than the {STATUS_BYTES_MAX} allowed")
    try:
        return status_tree_from_plain(json.loads(bytes(data)))
    except (ValueError, RecursionError, InvalidRequest) as error:
        raise PeerError(f"what came as status is none: {error}")
