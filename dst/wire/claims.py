"""
The bodies of the operation C{CLAIM}: what is asked of a node's fence, and the promise it answers.
"""

from __future__ import annotations

import enum
import math
import struct

from attrs import frozen

from dst.errors import InvalidRequest, PeerError
from dst.interfaces import Buffer
from dst.ownership import FENCE_BYTES, NO_CLAIM, Claim, Promise
from dst.wire.handshake import read_name, write_name
from dst.wire.messages import NAME_BYTES_MAX

__all__ = ["ClaimKind", "ClaimRequest", "decode_claim", "decode_promise", "encode_claim", "encode_promise"]

_REQUEST = struct.Struct("<HHIQQ16s")
_PROMISE = struct.Struct("<16sQQ16sII")

_RELEASED = 1

_MS_MAX = (1 << 32) - 1


class ClaimKind(enum.IntEnum):
    """What is asked; the methods of L{dst.interfaces.IFenced}."""

    ASK = 0
    CLAIM = 1
    RENEW = 2
    RELEASE = 3
    WANT = 4


@frozen
class ClaimRequest:
    """
    @ivar claim: the one that is asked for, renewed or given back.
    @ivar lease_s: of a claim.
    @ivar name: of the daemon that claims or wants.
    """

    kind: ClaimKind
    claim: Claim = NO_CLAIM
    lease_s: float = 0.0
    name: str = ""


def encode_claim(request: ClaimRequest) -> bytes:
    """The data of the request."""
    claim = request.claim
    return _REQUEST.pack(
        request.kind, 0, _milliseconds(request.lease_s), claim.number, claim.tag, claim.owner
    ) + write_name(_cut(request.name))


def decode_claim(data: Buffer) -> ClaimRequest:
    """
    @raise InvalidRequest: C{data} is not what L{encode_claim} makes, or a kind that is not known here.
    """
    if len(data) < _REQUEST.size:
        raise InvalidRequest(f"a claim of {len(data)} bytes is too short")
    kind, _, lease_ms, number, tag, owner = _REQUEST.unpack_from(data)
    try:
        name, _ = read_name(data, _REQUEST.size)
        known = ClaimKind(kind)
    except PeerError as error:
        raise InvalidRequest(f"a claim cannot be read: {error.message}") from error
    except ValueError:
        raise InvalidRequest(f"claims of kind {kind} are not known here") from None
    return ClaimRequest(known, Claim(number, tag, owner), lease_ms / 1000, name)


def encode_promise(promise: Promise) -> bytes:
    """The data of the answer."""
    claim = promise.claim
    return (
        _PROMISE.pack(
            promise.fence,
            claim.number,
            claim.tag,
            claim.owner,
            _RELEASED if promise.released else 0,
            _milliseconds(promise.held_s),
        )
        + write_name(_cut(promise.owner_name))
        + write_name(_cut(promise.wanted_by))
    )


def decode_promise(data: Buffer) -> Promise:
    """
    @raise PeerError: C{data} is not what L{encode_promise} makes.
    """
    if len(data) < _PROMISE.size:
        raise PeerError(f"a promise of {len(data)} bytes is too short")
    fence, number, tag, owner, flags, held_ms = _PROMISE.unpack_from(data)
    if fence == bytes(FENCE_BYTES):
        raise PeerError("a promise came from a memory without an identity")
    owner_name, position = read_name(data, _PROMISE.size)
    wanted_by, _ = read_name(data, position)
    return Promise(fence, Claim(number, tag, owner), bool(flags & _RELEASED), held_ms / 1000, owner_name, wanted_by)


def _milliseconds(seconds: float) -> int:
    """Rounded up: nobody may think that a lease ends earlier than it does."""
    return min(_MS_MAX, max(0, math.ceil(seconds * 1000 - 1e-6)))


def _cut(name: str) -> str:
    encoded = name.encode("utf-8", "replace")
    return encoded[:NAME_BYTES_MAX].decode("utf-8", "ignore")
