"""
What a client asks of an export's fence.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, maybeDeferred

from dst.ownership import Promise
from dst.recovery.fence import Entrance
from dst.wire.claims import ClaimKind, ClaimRequest

__all__ = ["answer_to_claim"]


def answer_to_claim(entrance: Entrance, asked: ClaimRequest) -> Deferred[Promise]:
    """
    Do what C{asked} says, for the client that comes through C{entrance}.

    @return: what is promised then; never fails but with a C{DSTError}.
    """
    fence = entrance.fence
    if asked.kind is ClaimKind.CLAIM:
        return entrance.claim(asked.claim, asked.lease_s, asked.name)
    if asked.kind is ClaimKind.RENEW:
        return maybeDeferred(fence.renew, asked.claim)
    if asked.kind is ClaimKind.RELEASE:
        return maybeDeferred(fence.release, asked.claim)
    if asked.kind is ClaimKind.WANT:
        return maybeDeferred(fence.want, asked.name)
    return maybeDeferred(fence.promise)
