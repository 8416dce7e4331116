"""
What a mirror says of itself in plain words and numbers, for those who watch it: no sentence has to be understood.

The words under C{waits} are names of table rows (L{dst.label.claim_rows}, L{dst.label.assembly_rows}), and one of
their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dst.label.verdict import ClaimStep
from dst.status import LinkState, MemberState

if TYPE_CHECKING:
    from dst.algorithms.mirror.member import Member
    from dst.algorithms.mirror.mirror import Mirror

__all__ = ["TOO_FEW_COPIES", "member_facts", "watched_facts"]

TOO_FEW_COPIES = "too-few-copies"


def watched_facts(mirror: Mirror) -> dict[str, object]:
    """
    Of the storage: what it waits for, whether records can be made stable, its witnesses, and where copies differ.
    """
    facts: dict[str, object] = {}
    waits = _waits(mirror)
    if waits:
        facts["waits"] = waits
    serving = mirror.serving
    if serving is not None:
        votes = serving.configuration.record.votes
        if serving.configuration.trouble:
            facts["record_unstable"] = True
        if len(votes) > 1 and mirror.ownership.own_vote in votes:
            facts["own_vote"] = True
    facts |= _scrubbed(mirror)
    if mirror.witnesses:
        facts["witnesses"] = [
            {
                "name": witness.name,
                "link": witness.node.link.value,
                # Whoever does not own the storage only sees whether it is there.
                "reason": witness.reason if serving is not None else witness.node.reason,
            }
            for witness in mirror.witnesses
        ]
    return facts


def member_facts(mirror: Mirror, member: Member) -> dict[str, object]:
    """Of one member: how often it left lately, whether it was too slow, and what stands between it and a copy."""
    facts: dict[str, object] = {}
    now = mirror.clock.seconds()
    count = member.flaps.count(now)
    if count:
        facts["left_lately"] = count
        facts["held_back_s"] = round(member.flaps.held_s(now), 1)
    if member.flaps.slow and member.state is MemberState.ABSENT:
        facts["slow"] = True
    if member.state is MemberState.REFUSED and member.row:
        facts["row"] = member.row
    if member.state is not MemberState.IN_SYNC and member.name in mirror.pauses:
        facts["resync_paused"] = True
    return facts


def _scrubbed(mirror: Mirror) -> dict[str, object]:
    """What the last comparison of all copies left open; one that goes on has not come to it again yet."""
    scrubs = mirror.scrubs()
    ended = [scrub for scrub in scrubs if scrub.state == "done"][-1:]
    going_on = [scrub for scrub in scrubs[-1:] if scrub.ended is None]
    open_bytes = {
        "undecided_bytes": max((scrub.undecided_bytes for scrub in (*ended, *going_on)), default=0),
        "lost_bytes": max((scrub.lost_bytes for scrub in (*ended, *going_on)), default=0),
    }
    return {name: count for name, count in open_bytes.items() if count}


def _waits(mirror: Mirror) -> str:
    serving = mirror.serving
    if serving is not None:
        configuration = serving.configuration
        if configuration.no_quorum:
            return "no-quorum"
        if configuration.frozen:
            return "latest-data-away"
        return TOO_FEW_COPIES if configuration.short_of_copies else ""
    starter = mirror.starter
    if starter is None or mirror.link is LinkState.CLOSED:
        return ""
    if starter.claim_verdict is not None and starter.claim_verdict.step is ClaimStep.STAND_BY:
        return starter.claim_verdict.row
    return starter.verdict.row if starter.verdict is not None else "starting"
