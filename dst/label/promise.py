"""
What a node that fences has promised, as it is kept and as it is decided.

A promise is kept in a small file of its own, replaced as a whole whenever a claim is granted or given back.  It must
outlive everything: a node that forgets what it promised would let an owner write whom the others have left behind.
So what is damaged is never taken for nothing, and a memory that is really new has a new identity::

    offset  bytes
    0       8      44 53 54 46 45 4e 43 45: "DSTFENCE"
    8       2      version, 1
    10      2      1: released
    12      4      lease in milliseconds
    16      16     identity of this memory
    32      8      claim: number
    40      8      claim: tag
    48      16     claim: owner
    64      2      bytes of the owner's name
    66      ...    the owner's name in UTF-8
    ...     4      CRC-32C of everything before

All numbers are unsigned and little-endian.
"""

from __future__ import annotations

import struct

from attrs import frozen
from crc32c import crc32c

from dst.errors import BadMedia, InvalidRequest
from dst.ownership import FENCE_BYTES, NO_CLAIM, Claim

__all__ = [
    "LEASE_S_MAX",
    "OWNER_NAME_BYTES_MAX",
    "Kept",
    "check_claim",
    "check_name",
    "decode_kept",
    "encode_kept",
    "judge_fence",
]

LEASE_S_MAX = 300.0
"""Whoever dies holding a lease keeps the others away for so long at most."""

OWNER_NAME_BYTES_MAX = 255
"""As long as a name on the wire."""

_MAGIC = b"DSTFENCE"
_VERSION = 1
_RELEASED = 1
_FIXED = struct.Struct("<8sHHI16sQQ16sH")
_CRC = struct.Struct("<I")


@frozen
class Kept:
    """
    What a fence remembers.

    @ivar fence: 16 bytes, the identity of this memory.
    @ivar claim: the highest that was granted.
    @ivar released: the owner gave it back, or there never was one.
    @ivar lease_s: how long nobody else is granted a claim after the owner was heard of.
    @ivar owner_name: for people.
    """

    fence: bytes
    claim: Claim = NO_CLAIM
    released: bool = True
    lease_s: float = 0.0
    owner_name: str = ""

    @property
    def held(self) -> bool:
        """Somebody owns it."""
        return not self.released


def judge_fence(kept: Kept, claim: Claim, silent_s: float) -> str:
    """
    May C{claim} be granted?

    @param silent_s: since when nothing was heard of the owner.
    @return: C{""}, or one sentence why not.
    """
    if claim <= kept.claim:
        return f"claim {claim.number} is not above {kept.claim.number}, which was granted before"
    if claim.owner == kept.claim.owner:
        return ""
    if claim.epoch == kept.claim.epoch:
        return "another owner was granted a claim that looks the same"
    if kept.held and silent_s < kept.lease_s:
        return f"{kept.owner_name or 'another owner'} may count on its claim for {kept.lease_s - silent_s:.1f} s more"
    return ""


def check_claim(claim: Claim, lease_s: float, name: str) -> None:
    """
    @raise InvalidRequest: it makes no sense, whatever was promised.
    """
    if claim.number < 1 or len(claim.owner) != len(NO_CLAIM.owner):
        raise InvalidRequest("a claim needs a number above 0 and an owner")
    if not 0 < lease_s <= LEASE_S_MAX:
        raise InvalidRequest(f"a lease of {lease_s:g} s is not between 0 and {LEASE_S_MAX:g} s")
    check_name(name)


def check_name(name: str) -> None:
    """
    @raise InvalidRequest: the name of a daemon is too long.
    """
    if len(name.encode("utf-8", "surrogatepass")) > OWNER_NAME_BYTES_MAX:
        raise InvalidRequest(f"the name of an owner may have {OWNER_NAME_BYTES_MAX} bytes")


def encode_kept(kept: Kept) -> bytes:
    """What is stored."""
    name = kept.owner_name.encode("utf-8", "replace")
    claim = kept.claim
    body = (
        _FIXED.pack(
            _MAGIC,
            _VERSION,
            _RELEASED if kept.released else 0,
            round(kept.lease_s * 1000),
            kept.fence,
            claim.number,
            claim.tag,
            claim.owner,
            len(name),
        )
        + name
    )
    return body + _CRC.pack(crc32c(body))


def decode_kept(data: bytes) -> Kept:
    """
    What L{encode_kept} made C{data} from.

    @raise BadMedia: nothing is known of what was promised.
    """
    if len(data) < _FIXED.size + _CRC.size or not data.startswith(_MAGIC):
        raise BadMedia("it is not a promise")
    body, (crc,) = data[: -_CRC.size], _CRC.unpack_from(data, len(data) - _CRC.size)
    if crc32c(body) != crc:
        raise BadMedia("its checksum is wrong")
    _, version, flags, lease_ms, fence, number, tag, owner, name_bytes = _FIXED.unpack_from(body)
    if version != _VERSION:
        raise BadMedia(f"it has version {version}, this DST knows {_VERSION}")
    name = body[_FIXED.size :]
    if len(name) != name_bytes or fence == bytes(FENCE_BYTES):
        raise BadMedia("it makes no sense")
    return Kept(
        fence, Claim(number, tag, owner), bool(flags & _RELEASED), lease_ms / 1000, name.decode("utf-8", "replace")
    )
