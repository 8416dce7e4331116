"""
Labels of earlier releases, as the same labels in today's format.

Version 1 was written by release 0.1.  It differs from version 2 in what it did not have yet: a record had no votes
and no size of the storage, a member no size of its media, a fork not the claim that went on from it::

                       version 1                             version 2
    record             claim sequence incarnation            ... and the storage's size in bytes: that of the data of
                                                             a mirror's member, which has all of it; else 0
    fork               claim sequence                        ... and the tag of the claim that went on: 0, not known
    member             identity incarnation place flags      ... and the size of its media: 0, not known
    votes              -                                     none: see Record.votes

Nothing is converted on the media.  Whatever is written next is in today's format, both slots of a label and the
owner's record, and from then on the earlier release refuses the media by its version, untouched.
"""

from __future__ import annotations

import struct
from typing import Final

from dst.errors import BadMedia

__all__ = ["FIRST_VERSION", "FormatTooNew", "from_version_1"]

FIRST_VERSION: Final = 1


class FormatTooNew(BadMedia):
    """
    It was written by a later release, and is whole as far as anybody here can tell: nothing to delete or to repair.
    """


_OWN = struct.Struct("<32x16s24xQ32x")
"""What a label says of its own member is the same in both: its algorithm, and how many bytes are data."""

_RECORD_1 = struct.Struct("<QQ16sQ16sIBBH")
_RECORD_2 = struct.Struct("<QQ16sQ16sQIBBH")
_FORK_1 = struct.Struct("<QQ16sQ")
_FORK_2 = struct.Struct("<QQ16sQQ")
_MEMBER_1 = struct.Struct("<16s16sIHB")
_MEMBER_2 = struct.Struct("<16s16sQIHB")
_VOTES_2 = struct.Struct("<H")

_MIRROR = b"mirror"

_HAD_A_VOTE = 2
"""A member's flag in version 1; every member had it, and it had no effect."""


def from_version_1(body: bytes) -> bytes:
    """
    The body of a label of version 1 as one of version 2.

    @raise BadMedia: it ends before its last field.
    """
    try:
        return _converted(body)
    except struct.error:
        raise BadMedia("the label's body ends before its last field") from None


def _converted(body: bytes) -> bytes:
    algorithm, data_size = _OWN.unpack_from(body)
    storage_size = data_size if algorithm.rstrip(b"\0") == _MIRROR else 0
    at = _OWN.size
    parts = [body[:at]]
    number, tag, owner, sequence, incarnation, flags, reserved, forks, members = _RECORD_1.unpack_from(body, at)
    parts.append(
        _RECORD_2.pack(number, tag, owner, sequence, incarnation, storage_size, flags, reserved, forks, members)
    )
    at += _RECORD_1.size
    for _ in range(forks):
        parts.append(_FORK_2.pack(*_FORK_1.unpack_from(body, at), 0))
        at += _FORK_1.size
    for _ in range(members):
        node_id, incarnation, place, flags, length = _MEMBER_1.unpack_from(body, at)
        at += _MEMBER_1.size
        name = body[at : at + length]
        if len(name) != length:
            raise BadMedia("the label's body ends before its last field")
        at += length
        parts.append(_MEMBER_2.pack(node_id, incarnation, 0, place, flags & ~_HAD_A_VOTE, length) + name)
    parts.append(_VOTES_2.pack(0))
    return b"".join(parts)
