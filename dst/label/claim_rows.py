"""
May this daemon claim the storage now?  A table over what was seen before anything is claimed.

A claim that no service could follow keeps others from serving, so it is not made.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from attrs import frozen

from dst.label.assembly_rows import AssemblyStep, judge_assembly
from dst.label.evidence import AssemblyInputs, words
from dst.label.votes import needed, words_of
from dst.ownership import NO_CLAIM

__all__ = ["CLAIM_ROWS", "ClaimStep", "ClaimVerdict", "judge_claim"]


class ClaimStep(enum.Enum):
    """What to do about ownership."""

    CLAIM = "claim its nodes"
    LOOK = "claim nothing: the assembly's table says what is waited for"
    STAND_BY = "leave it to another daemon, or wait for votes, and ask again"


@frozen
class ClaimVerdict:
    """
    @ivar row: the name of the row that decided.
    @ivar reason: one sentence for people.
    """

    row: str
    step: ClaimStep
    reason: str


def _elsewhere(inputs: AssemblyInputs) -> str:
    """
    Who owns the storage, for people.  Not for how much longer its lease runs: that would be another sentence each
    second, and everybody who follows the status would be told.
    """
    holds = [promise for name in inputs.data.holders if (promise := inputs.promised_elsewhere(name)) is not None]
    newest = max(holds, key=lambda promise: promise.claim)
    return f"{newest.owner_name or 'another daemon'}, which keeps its lease"


def _sources_are_elsewhere(inputs: AssemblyInputs) -> bool:
    """Everybody who has the latest data is another owner's."""
    sources = inputs.data.sources
    return bool(sources) and all(inputs.promised_elsewhere(name) is not None for name in sources)


def _is_ours(inputs: AssemblyInputs) -> bool:
    """This daemon owned it last, and has not given it back: a restart, not a takeover."""
    promises = [inputs.promises[name] for name in inputs.data.holders if name in inputs.promises]
    newest = max((promise.claim for promise in promises), default=NO_CLAIM)
    return any(
        promise.claim == newest and newest.owner == inputs.owner and not promise.released for promise in promises
    )


def _in_the_way(inputs: AssemblyInputs) -> str:
    """Why votes are missing, for each of them."""
    assert inputs.data.record is not None
    _, missing = inputs.data.votes_by(inputs.data.reachable)
    nodes = {vote[0]: vote for vote in inputs.data.reachable}
    changed = [vote for vote in missing if vote.node_id in nodes]
    away = [vote for vote in missing if vote not in changed]
    parts = [f"{words_of(away)} cannot be reached, or is blank"] if away else []
    if changed:
        parts.append(f"{words_of(changed)} has forgotten what it had promised")
    return "; ".join(parts)


_ClaimRow = tuple[str, Callable[[AssemblyInputs], bool], ClaimStep, Callable[[AssemblyInputs], str]]

CLAIM_ROWS: tuple[_ClaimRow, ...] = (
    (
        "nobody-can-decide",
        lambda i: judge_assembly(i).step in (AssemblyStep.ASK, AssemblyStep.INITIALISE),
        ClaimStep.LOOK,
        lambda i: judge_assembly(i).reason,
    ),
    (
        "owned-elsewhere",
        lambda i: (
            (i.data.enough(i.data.reachable, i.quorum) and not i.data.enough(i.data.free, i.quorum, i.data.kept_back))
            or _sources_are_elsewhere(i)
        ),
        ClaimStep.STAND_BY,
        lambda i: f"it is owned by {_elsewhere(i)}",
    ),
    (
        "no-quorum",
        lambda i: not i.forced and not i.data.enough(i.data.reachable, i.quorum),
        ClaimStep.STAND_BY,
        lambda i: (
            f"no quorum: {needed(len(i.data.record.votes), i.quorum)} of {len(i.data.record.votes)} votes are needed "
            f"to own it, and {_in_the_way(i)}"
            if i.data.record is not None
            else ""
        ),
    ),
    (
        "handed-over",
        lambda i: bool(i.handed_to) and not i.wanted,
        ClaimStep.STAND_BY,
        lambda i: f"it was handed over to {i.handed_to}, which is expected to take it",
    ),
    (
        "standing-by",
        lambda i: i.standby and not i.standby_ready and not i.wanted and not i.forced and not _is_ours(i),
        ClaimStep.STAND_BY,
        lambda i: "nobody owns it at the moment; this standby waits for its owner a little longer",
    ),
    (
        "nothing-to-serve",
        lambda i: judge_assembly(i).step is not AssemblyStep.SERVE,
        ClaimStep.LOOK,
        lambda i: judge_assembly(i).reason,
    ),
    (
        "claim",
        lambda i: True,
        ClaimStep.CLAIM,
        lambda i: f"a quorum can be had with {words(vote.name for vote in i.data.votes_by(i.data.free)[0])}",
    ),
)


def judge_claim(inputs: AssemblyInputs) -> ClaimVerdict:
    """
    May this daemon claim the storage now?

    @param inputs: with C{granted} C{None}: nothing is claimed yet.
    """
    assert inputs.granted is None, "asked before the claim"
    for row, holds, step, reason in CLAIM_ROWS:
        if holds(inputs):
            return ClaimVerdict(row, step, reason(inputs))
    raise AssertionError("the last row always holds")
