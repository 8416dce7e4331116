"""
Majorities: whose word makes a record stable and grants a claim (R11).

A vote is a medium that keeps labels together with the memory of promises that fences it. The list of votes
is part of the record, and changes by one vote per record; a record that changes it must be stable on a majority of
the old and of the new list, so that any two majorities, of whichever record was seen, have a vote in common.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from dst.label.format import VOTES_MAX, Vote
from dst.ownership import FENCE_BYTES

__all__ = ["Quorum", "has_quorum", "lease_end", "needed", "next_votes", "nodes_vote", "valid_quorum", "words_of"]

_NO_FENCE = bytes(FENCE_BYTES)

Quorum = str | int
"""C{"majority"}, C{"all"}, or how many votes."""


def needed(count: int, quorum: Quorum = "majority") -> int:
    """
    How many of C{count} votes are needed; never less than a majority, whatever was asked for.
    """
    majority = count // 2 + 1 if count else 0
    if quorum == "majority":
        return majority
    if quorum == "all":
        return count
    assert isinstance(quorum, int), quorum
    return min(count, max(majority, quorum))


def valid_quorum(quorum: Quorum, count: int) -> str:
    """
    One sentence what is wrong with the setting for so many votes, or C{""}.
    """
    if isinstance(quorum, int) and not count // 2 < quorum <= count:
        return (
            f"quorum = {quorum} cannot be kept with {count} votes: fewer than {count // 2 + 1} could be had twice "
            f"at the same time, and more than {count} never"
        )
    return ""


def has_quorum(votes: Collection[Vote], given: Collection[tuple[bytes, bytes]], quorum: Quorum = "majority") -> bool:
    """
    Whether C{given}, (node id, fence) of each vote that was had, are enough.  Without any votes they always are.
    """
    return sum((vote.node_id, vote.fence) in given for vote in votes) >= needed(len(votes), quorum)


def lease_end(
    votes: Collection[Vote],
    heard: Callable[[Vote], float],
    lease_s: float,
    quorum: Quorum = "majority",
) -> float:
    """
    Until when an owner may count on nobody else having been granted a quorum.

    @param heard: when the last renewal was sent that the vote has confirmed.
    """
    if not votes:
        return float("inf")
    newest_first = sorted((heard(vote) for vote in votes), reverse=True)
    return newest_first[needed(len(votes), quorum) - 1] + lease_s


def next_votes(present: Sequence[Vote], wanted: Sequence[Vote], available: Iterable[Vote]) -> tuple[Vote, ...]:
    """
    The list of the next record: C{present} with at most one vote added or removed on the way to C{wanted}.

    The vote of an owner's own store gives way before that of another's comes: only its owner can cast it, and with
    two of them in one list nobody else could own the storage, though all nodes were there.

    @param available: votes that can be cast now; no other is added.
    """
    for vote in available:
        if vote in wanted and vote not in present and len(present) < VOTES_MAX:
            former = [each for each in present if each.fence == vote.fence == _NO_FENCE and each not in wanted]
            if former and len(present) > 1:
                return tuple(each for each in present if each != former[0])
            return (*present, vote)
    for vote in present:
        if vote not in wanted and len(present) > 1:
            return tuple(each for each in present if each != vote)
    return tuple(present)


def nodes_vote(votes: Iterable[Vote]) -> bool:
    """Others than an owner's own store vote: another daemon may take over."""
    return any(vote.fence != _NO_FENCE for vote in votes)


def words_of(votes: Iterable[Vote]) -> str:
    """Their names, for people."""
    return ", ".join(sorted(vote.name for vote in votes)) or "none"
