"""
Why a mirror does not serve yet: each row of the verdict tables of a start, in words for a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from dst.algorithms.explained import identity_in_words, record_in_words
from dst.algorithms.mirror.explaining_members import SETTLE_S
from dst.algorithms.mirror.explaining_votes import STANDS_BY, votes_in_words
from dst.explaining import Explanation
from dst.explaining_trees import NOBODY

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror
    from dst.algorithms.mirror.starting import Starter

__all__ = ["STARTS", "StartWords", "explain_start"]


@frozen
class StartWords:
    """
    What follows from a row; C{{storage}} is filled in.

    @ivar next_step: without anybody's help.
    @ivar condition: what that waits for.
    @ivar advice: for a person.
    """

    next_step: str
    condition: str = ""
    advice: tuple[str, ...] = ()


_GOES_ON = "the start goes on by itself"
_SERVES = "it is taken over and served"

STARTS: dict[str, StartWords] = {
    # may it be claimed?
    "claim": StartWords("its nodes are claimed, and it is served"),
    "no-quorum": StartWords(
        "it is claimed and served",
        "enough of the votes can be reached",
        (
            "bring back the nodes that vote, or look at the network to them; nothing is lost",
            "a minority is never served by itself: the majority may be served by another daemon. If the votes are "
            "gone for good and no daemon serves it: `dst mark-clean {storage} NODE` goes on with that copy; what "
            "others have written is lost, and theirs is another history from then on",
        ),
    ),
    "owned-elsewhere": StartWords(
        "it is asked again every second, and claimed when the owner has released it or its lease is over",
        "the owner stops, or cannot be heard by its nodes",
        (
            "nothing has to be done: the owner serves it",
            "`dst storage take-over {storage}` asks the owner to hand it over to this daemon: operations wait for a "
            "moment, nothing is lost",
        ),
    ),
    "standing-by": StartWords(
        "it is taken over and served here when this daemon has waited long enough for the owner",
        "",
        ("`dst storage take-over {storage}` does not wait",),
    ),
    "handed-over": StartWords(
        "the daemon that has asked for it takes it; if it does not, this one claims it again",
        "",
        ("`dst storage take-over {storage}` takes it back",),
    ),
    "nobody-can-decide": StartWords(_GOES_ON, "a person has decided what the sentence above names"),
    "nothing-to-serve": StartWords(_GOES_ON, "what the sentence above names has come"),
    # how does it start?
    "no-member-yet": StartWords(
        _GOES_ON, "a member can be read", ("look why none of the members can be reached: below",)
    ),
    "mixed-storages": StartWords(
        NOBODY,
        "the topology is corrected, or media is taken away",
        (
            "below stands which member belongs to which storage: correct `nodes` of {storage} in the topology and "
            "restart the daemon; nothing is lost",
            "or blank the last 64 KiB of the media that may be overwritten: what it holds is lost",
        ),
    ),
    "another-algorithm": StartWords(
        NOBODY,
        "the topology is corrected",
        ("correct `algorithm` of {storage} in the topology; nothing was touched",),
    ),
    "damaged-first-start": StartWords(
        NOBODY,
        "the media with the damaged label is repaired or taken away",
        (
            "look what has written over the end of that media; nothing was overwritten by DST",
            "if it holds nothing of value, blank its last 64 KiB and restart the daemon",
        ),
    ),
    "first-start-waits": StartWords(
        "a new storage is made",
        "all members are present",
        ("bring them all, once; later any may be away",),
    ),
    "first-start-unknown": StartWords("the members are read to see whether they hold anything"),
    "first-start-zero": StartWords("a new storage is made"),
    "first-start-holds-data": StartWords(
        NOBODY,
        "a person says whose data is kept",
        (
            "`dst init {storage} --keep NODE` adopts the data of that node; what the others hold is lost",
            "`dst init {storage} --discard` adopts nothing; what all of them hold is lost",
        ),
    ),
    "choice-away": StartWords(
        "it is served with the history that was chosen",
        "the member that has it can be read",
        (
            "bring that member back: nothing has been overwritten",
            "`dst storage resolve {storage} --keep NODE` chooses another history",
        ),
    ),
    "forced": StartWords(_SERVES),
    "owner-record-lost": StartWords(
        _GOES_ON,
        "every member that the newest record names has been seen",
        (
            "bring the missing members back, once: nothing is lost",
            "if they are gone for good: `dst mark-clean {storage} NODE` goes on with that node's copy; if another "
            "had newer data, that is lost",
        ),
    ),
    "latest-data-away": StartWords(
        _GOES_ON,
        "a member that has the latest data can be read",
        (
            "bring it back: nothing is lost",
            "if it is lost for ever: `dst mark-clean {storage} NODE` goes on with an older copy; what was written "
            "since is lost, and the newer copy is refused if it returns",
        ),
    ),
    "diverged": StartWords(
        NOBODY,
        "a person chooses the history to go on with",
        (
            "both histories can be read: each member is exported read-only as `{storage}@NODE`; compare them",
            "`dst storage resolve {storage} --keep NODE` goes on with the history of that node; what only the others "
            "have is lost, and the sentence above says how much that is",
        ),
    ),
    "same-media-twice": StartWords(
        NOBODY,
        "the topology is corrected, or the copied label is blanked",
        (
            "correct the topology, if two of its nodes lead to one disk; nothing was touched",
            "if one disk was copied to the other: blank the last 64 KiB of the copy, and everything is copied to it",
        ),
    ),
    "claim-again": StartWords("it is claimed again with a higher number"),
    "forced-not-granted": StartWords(
        "it is claimed again every second", "that node is promised to nobody else, or its owner's lease is over"
    ),
    "lost-quorum": StartWords(
        "it is claimed again every second",
        "enough of the votes can be reached, and are promised to nobody else",
        ("bring back the nodes that vote, or look which daemon has claimed them: below",),
    ),
    "sources-promised": StartWords(
        "it is claimed again every second",
        "the nodes that have the latest data are promised to nobody else",
        ("look at the daemon that they are promised to: below",),
    ),
    "all-sources-retained": StartWords(_SERVES),
    "sources-may-come": StartWords("it is served from the members that are here, unless the others appear before"),
    "some-sources-retained": StartWords(_SERVES),
    "sources-lost-cache": StartWords(_SERVES),
}
"""Claim row or assembly row -> what follows."""

_BY_STEP = {
    "WAIT": StartWords(_GOES_ON, "what the sentence above names has come"),
    "CLAIM_AGAIN": StartWords("it is claimed again every second", "what the sentence above names has ended"),
    "ASK": StartWords(NOBODY, "a person decides", ("the sentence above says what has to be decided",)),
    "INITIALISE": StartWords("a new storage is made"),
    "SERVE": StartWords(_SERVES),
}


def explain_start(mirror: Mirror, explanation: Explanation) -> Explanation:
    """C{explanation} of a mirror that does not serve, with why and what comes."""
    starter = mirror.starter
    evidence = _evidence(mirror, starter)
    explanation = evolve(explanation, summary=f"{mirror.name} does not serve: {mirror.reason}")
    decided = [] if starter is None else [each for each in (starter.verdict, starter.claim_verdict) if each]
    verdict = next((each for each in decided if each.reason and each.reason == mirror.reason), None)
    if starter is None or not decided:
        return evolve(
            explanation,
            evidence=evidence,
            next_step="its members' labels are read, and it is decided how it starts",
            condition="its members answer what they are asked" if starter is not None else "its members are opened",
            within_s=SETTLE_S,
        )
    if verdict is None:
        return evolve(
            explanation,
            evidence=evidence,
            next_step="the start is tried again every second",
            condition="what the sentence above names has ended",
            within_s=SETTLE_S,
            advice=("the sentence above says what is in its way",),
        )
    words = STARTS.get(verdict.row) or _BY_STEP.get(verdict.step.name) or StartWords(_GOES_ON)
    within_s = SETTLE_S if words.next_step != NOBODY else None
    if verdict.row == "sources-may-come" and starter.wait_s_left is not None:
        within_s = starter.wait_s_left + 1.0
    elif verdict.row == "owned-elsewhere":
        within_s = mirror.options.lease_s + (mirror.options.takeover_s if mirror.options.standby else 0.0) + SETTLE_S
    elif verdict.row == "standing-by":
        within_s = mirror.options.takeover_s + SETTLE_S
    elif verdict.row == "handed-over":
        within_s = mirror.handed_s_left + SETTLE_S
    next_step = words.next_step
    if verdict.row == "owned-elsewhere" and mirror.tenure.wanted:
        next_step = (
            "its owner was asked to hand it over; it is claimed when that has released it, or its lease is over"
        )
    condition = words.condition or ("its members answer what they are asked" if starter.looking else "")
    return evolve(
        explanation,
        row=verdict.row,
        summary=f"{mirror.name} {'stands by' if verdict.row in STANDS_BY else 'does not serve'}: {verdict.reason}",
        evidence=evidence,
        next_step=next_step,
        condition=condition,
        within_s=within_s,
        advice=tuple(sentence.format(storage=mirror.name) for sentence in words.advice),
    )


def _evidence(mirror: Mirror, starter: Starter | None) -> tuple[str, ...]:
    facts = [f"it is opened, and {sum(member.ready for member in mirror.members)} of its members can be reached"]
    if starter is None:
        return tuple(facts)
    kept = starter.kept
    if kept is not None:
        facts.append(
            f"this daemon's record of storage {identity_in_words(kept.storage_id)}: {record_in_words(kept.record)}"
        )
    else:
        facts.append("this daemon has no record of it in its state directory")
    verdict = starter.verdict
    if verdict is not None and verdict.record is not None:
        facts.append(f"the newest record that was seen: {record_in_words(verdict.record)}")
    return (*facts, *votes_in_words(mirror))
