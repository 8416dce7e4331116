"""
Who owns a mirror, and by whose word, for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dst.algorithms.mirror.configuration import FOREVER
from dst.algorithms.mirror.owning import Holder, fenced
from dst.label.format import Record, Vote
from dst.label.votes import needed
from dst.ownership import NO_CLAIM, Promise
from dst.status import LinkState
from dst.words import duration_in_words

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror

__all__ = [
    "STANDS_BY",
    "lease_s_left",
    "other_owner",
    "owned_elsewhere",
    "ownership_facts",
    "promise_in_words",
    "votes_in_words",
]

STANDS_BY = frozenset({"owned-elsewhere", "standing-by", "handed-over"})
"""Claim rows under which another daemon is, was or will be the owner."""


def ownership_facts(mirror: Mirror) -> dict[str, object]:
    """What the status tree says of it: plain values that change only when something has happened."""
    record = _record(mirror)
    facts: dict[str, object] = {"role": _role(mirror), "owner": _owner_name(mirror)}
    if record is not None:
        facts["votes"] = [{"name": vote.name, "granted": _granted(mirror, vote)} for vote in record.votes]
        facts["quorum"] = needed(len(record.votes), mirror.ownership.quorum)
    return facts


def other_owner(mirror: Mirror) -> tuple[str, float]:
    """Who else has been granted nodes that are not released, and for how much longer at most; C{("", 0)}."""
    found = [
        (promise.claim, promise.owner_name or "another daemon", promise.held_s)
        for promise in mirror.ownership.promises.values()
        if mirror.ownership.other_owner(promise)
    ]
    if not found:
        return "", 0.0
    _, name, _ = max(found)
    return name, max(held_s for _, other, held_s in found if other == name)


def owned_elsewhere(mirror: Mirror) -> bool:
    """Another daemon has it, and is heard by the nodes: this one has nothing to do but to be there."""
    starter = mirror.starter
    claim = starter.claim_verdict if starter is not None and mirror.serving is None else None
    return claim is not None and claim.row == "owned-elsewhere" and mirror.link is not LinkState.CLOSED


def lease_s_left(mirror: Mirror) -> float | None:
    """Until nothing is served any more unless nodes are heard from; C{None} where no lease is needed."""
    serving = mirror.serving
    if serving is None or serving.configuration.lease_until == FOREVER:
        return None
    return max(0.0, serving.configuration.lease_until - mirror.ownership.now())


def votes_in_words(mirror: Mirror) -> list[str]:
    """Sentences on the votes of the newest record, what each node has promised, and the lease."""
    record = _record(mirror)
    ownership = mirror.ownership
    sentences = []
    if record is not None and record.votes and all(vote == ownership.own_vote for vote in record.votes):
        sentences.append("the record in this daemon's state directory is the only vote: no other daemon can own it")
    elif record is not None and record.votes:
        granted = [vote.name for vote in record.votes if _granted(mirror, vote)]
        refused = [vote.name for vote in record.votes if not _granted(mirror, vote)]
        sentences.append(
            f"{len(granted)} of {len(record.votes)} votes are this daemon's ({', '.join(granted) or 'none'}"
            + (f"; not {', '.join(refused)}" if refused else "")
            + f"); {needed(len(record.votes), ownership.quorum)} are needed"
        )
    elif record is not None:
        sentences.append("nobody votes: there is one configured owner, this daemon")
    left_s = lease_s_left(mirror)
    if left_s is not None:
        sentences.append(f"its lease runs for {left_s:.1f} s more, and is renewed all the time")
    sentences.extend(
        f"{name} {promise_in_words(promise, mirror)}" for name, promise in sorted(ownership.promises.items())
    )
    for witness in mirror.witnesses:
        if not witness.ready:
            sentences.append(f"witness {witness.name} is {witness.node.link.value}: {witness.node.reason}")
        elif witness.reason:
            sentences.append(f"witness {witness.name} does not vote: {witness.reason}")
    return sentences


def promise_in_words(promise: Promise, mirror: Mirror) -> str:
    """C{"has promised claim 7 to host-b, which holds it for 2.1 s more"}"""
    if promise.claim == NO_CLAIM:
        return "has promised nothing to anybody"
    whom = "this daemon" if promise.claim.owner == mirror.ownership.owner else promise.owner_name or "another daemon"
    words = f"has promised claim {promise.claim.number} to {whom}"
    if promise.released:
        words += ", which has released it"
    elif promise.claim.owner != mirror.ownership.owner:
        held = duration_in_words(max(1.0, promise.held_s))
        words += f", which holds it for {held} more" if promise.held_s > 0 else ", whose lease is over"
    if promise.wanted_by:
        words += f"; {promise.wanted_by} has asked for it"
    return words


def _record(mirror: Mirror) -> Record | None:
    if mirror.serving is not None:
        return mirror.serving.configuration.record
    starter = mirror.starter
    if starter is None:
        return None
    if starter.verdict is not None and starter.verdict.record is not None:
        return starter.verdict.record
    labels = [member.found.label for member in mirror.members if member.found is not None]
    records = [label.record for label in (*labels, starter.kept) if label is not None]
    return max(records, key=lambda record: record.order, default=None)


def _granted(mirror: Mirror, vote: Vote) -> bool:
    ownership = mirror.ownership
    if vote == ownership.own_vote:
        return mirror.serving is not None or mirror.starter is not None and mirror.starter.kept is not None
    holders: list[Holder] = [*mirror.members, *mirror.witnesses]
    for holder in holders:
        node = fenced(holder.node)
        if node is not None and (holder.node_id, node.fence) == (vote.node_id, vote.fence):
            return ownership.vote_of(holder) is not None
    return False


def _role(mirror: Mirror) -> str:
    if mirror.serving is not None:
        return "owner"
    starter = mirror.starter
    claim = starter.claim_verdict if starter is not None else None
    if claim is not None and claim.row in STANDS_BY:
        return "standby"
    return "starting"


def _owner_name(mirror: Mirror) -> str:
    if mirror.serving is not None:
        return mirror.ownership.owner_name
    return other_owner(mirror)[0]
