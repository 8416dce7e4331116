"""
Who owns a storage: claims, and what a node that fences promises.

Everything here is a value. A claim is made by a daemon that wants to own a storage, and granted by the storage's
nodes one by one; each promises to execute nothing any more that an older owner asks for.
"""

from __future__ import annotations

import struct

from attrs import frozen

__all__ = ["EPOCH_BYTES", "FENCE_BYTES", "NO_CLAIM", "Claim", "Promise"]

EPOCH_BYTES = 16
"""What marks a request with the claim it is made under."""

FENCE_BYTES = 16
"""The identity of a node's memory of its promises."""

_EPOCH = struct.Struct("<QQ")


@frozen(order=True)
class Claim:
    """
    One ownership of a storage.  Totally ordered, and no two owners ever make equal ones.

    @ivar number: one above the highest that was seen when it was made; 0 is no claim at all.
    @ivar tag: random; what makes the epochs of two owners who never met differ.
    @ivar owner: 16 bytes, who made it: kept by a daemon over its restarts.
    """

    number: int = 0
    tag: int = 0
    owner: bytes = bytes(16)

    @property
    def epoch(self) -> bytes:
        """What requests under this claim carry."""
        return _EPOCH.pack(self.number, self.tag)


NO_CLAIM = Claim()


@frozen
class Promise:
    """
    What a node that fences has promised, as it stands now.

    @ivar fence: 16 bytes, the identity of the node's memory of promises: another one means that it may have
        forgotten what it promised.
    @ivar claim: the highest claim that was granted; C{NO_CLAIM} when none ever was.
    @ivar released: the owner has given it back (or there never was one): nobody need be waited for.
    @ivar held_s: how much longer nobody but the same owner is granted a claim, in seconds; 0 when the owner's lease
        is over.
    @ivar owner_name: the owner's daemon, for people.
    @ivar wanted_by: the daemon that has asked the owner to hand the storage over, or C{""}.
    """

    fence: bytes
    claim: Claim = NO_CLAIM
    released: bool = True
    held_s: float = 0.0
    owner_name: str = ""
    wanted_by: str = ""
