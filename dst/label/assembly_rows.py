"""
How a storage starts, from what its members and its owner remember: a table.

It is read twice: before anything is claimed, to see whether service could follow, and after the grants, with the
labels read again, to decide.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from attrs import frozen

from dst.label.evidence import AssemblyInputs, seconds_in_words, words
from dst.label.format import Record
from dst.label.lineage import Lineage, lineage
from dst.label.votes import needed, words_of

__all__ = ["ASSEMBLY_ROWS", "AssemblyStep", "AssemblyVerdict", "judge_assembly"]


class AssemblyStep(enum.Enum):
    """How a storage starts."""

    WAIT = "wait for members"
    ASK = "wait for a person"
    INITIALISE = "make a new storage"
    CLAIM_AGAIN = "give back what was claimed and look again in a while"
    SERVE = "take over and serve"


@frozen
class AssemblyVerdict:
    """
    @ivar sources: with C{SERVE}: the names of the members that are in sync from the start.
    @ivar lost_cache: with C{SERVE}: every source may have lost unflushed writes: the storage gets a new incarnation.
    @ivar new_votes: with C{SERVE}: the votes of the record are gone or passed over; the next record names new ones.
    """

    row: str
    step: AssemblyStep
    reason: str
    storage_id: bytes = b""
    record: Record | None = None
    sources: tuple[str, ...] = ()
    lost_cache: bool = False
    new_votes: bool = False


def _short(identity: bytes) -> str:
    return identity[:4].hex()


def _serve(row: str, reason: str, inputs: AssemblyInputs, sources: tuple[str, ...], lost: bool) -> AssemblyVerdict:
    data = inputs.data
    return AssemblyVerdict(
        row, AssemblyStep.SERVE, reason, data.storage_id, data.record, sources, lost, _votes_are_gone(inputs)
    )


def _votes_are_gone(inputs: AssemblyInputs) -> bool:
    """No votes of this record can make the next one stable: a person has passed over them, or one store is lost."""
    data = inputs.data
    if inputs.forced and inputs.forced in data.labels:
        return True
    return data.record is not None and data.one_store and bool(data.record.votes) and not _one_store_is_here(inputs)


def _one_store_is_here(inputs: AssemblyInputs) -> bool:
    had, _ = inputs.data.votes_by(inputs.data.reachable)
    return bool(had)


_AssemblyRow = tuple[str, Callable[[AssemblyInputs], bool], Callable[[str, AssemblyInputs], AssemblyVerdict]]


def _row(
    name: str, holds: Callable[[AssemblyInputs], bool], step: AssemblyStep, reason: Callable[[AssemblyInputs], str]
) -> _AssemblyRow:
    return (
        name,
        holds,
        lambda row, i: AssemblyVerdict(row, step, reason(i), i.data.storage_id, i.data.record),
    )


def _may_serve(inputs: AssemblyInputs, name: str) -> bool:
    return inputs.granted is None or name in inputs.claimed


def _holders_in_words(inputs: AssemblyInputs, names: tuple[str, ...]) -> str:
    """To whom the nodes are promised that have not granted the claim."""
    parts = []
    for name in sorted(names):
        promise = inputs.promised_elsewhere(name)
        if promise is None:
            parts.append(f"{name} has not granted the claim")
        else:
            who = promise.owner_name or "another daemon"
            parts.append(f"{name} is promised to {who} for {seconds_in_words(promise.held_s)} more")
    return ", ".join(parts)


def _histories(inputs: AssemblyInputs) -> str:
    """Which members have which history, for people."""
    groups: dict[str, list[str]] = {}
    left = dict(inputs.data.labels)
    while left:
        newest = max(left.values(), key=lambda label: label.record.order).record
        same = [name for name, label in left.items() if lineage(label.record, newest) is not Lineage.DIVERGED]
        groups[f"claim {newest.claim.number}, record {newest.sequence}"] = same
        left = {name: label for name, label in left.items() if name not in same}
    return "; ".join(f"{words(names)} ({what})" for what, names in groups.items())


def _lost_quorum(inputs: AssemblyInputs) -> str:
    assert inputs.data.record is not None
    if inputs.data.one_store:
        away = inputs.data.kept_back
        return f"the owner's store is not here, and not every member is free: {_holders_in_words(inputs, away)}"
    votes = inputs.data.record.votes
    had, missing = inputs.data.votes_by(inputs.data.granted)
    owners = {
        promise.owner_name or "another daemon"
        for name in inputs.data.holders
        if (promise := inputs.promised_elsewhere(name)) is not None
    }
    return (
        f"it was claimed, and {len(had)} of the {needed(len(votes), inputs.quorum)} votes needed were granted; not "
        f"granted: {words_of(missing)}" + (f" (promised to {words(owners)})" if owners else "")
    )


ASSEMBLY_ROWS: tuple[_AssemblyRow, ...] = (
    _row(
        "no-member-yet",
        lambda i: not i.found,
        AssemblyStep.WAIT,
        lambda i: f"no member can be read yet; waiting for {words(i.names)}",
    ),
    _row(
        "mixed-storages",
        lambda i: i.kept is None and len(i.data.storage_ids) > 1,
        AssemblyStep.ASK,
        lambda i: (
            "the members belong to different storages: "
            + ", ".join(
                f"{name} to {_short(found.label.storage_id)}"
                for name, found in sorted(i.found.items())
                if found.label
            )
            + "; correct the topology, or blank the media that may be overwritten"
        ),
    ),
    _row(
        "another-algorithm",
        lambda i: any(label.algorithm != i.algorithm for label in i.data.labels.values()),
        AssemblyStep.ASK,
        lambda i: (
            f"the members are those of a {words(tuple({label.algorithm for label in i.data.labels.values()}))} and "
            f"the topology says {i.algorithm}; correct the topology"
        ),
    ),
    _row(
        "damaged-first-start",
        lambda i: i.data.record is None and any(f.label is None and f.damage for f in i.found.values()),
        AssemblyStep.ASK,
        lambda i: (
            "no storage is known here, and the labels of "
            + words(tuple(n for n, f in i.found.items() if f.label is None and f.damage))
            + " are damaged; nothing is overwritten"
        ),
    ),
    _row(
        "first-start-waits",
        lambda i: i.data.record is None and bool(i.data.missing),
        AssemblyStep.WAIT,
        lambda i: f"a new storage is made when all members are present; waiting for {words(i.data.missing)}",
    ),
    _row(
        "first-start-zero",
        lambda i: i.data.record is None and i.zero is True,
        AssemblyStep.INITIALISE,
        lambda i: "all members are present, unlabelled and zero: a new storage is made",
    ),
    _row(
        "first-start-unknown",
        lambda i: i.data.record is None and i.zero is None,
        AssemblyStep.WAIT,
        lambda i: "reading the unlabelled members to see whether they hold anything",
    ),
    _row(
        "first-start-holds-data",
        lambda i: i.data.record is None,
        AssemblyStep.ASK,
        lambda i: (
            "the members are unlabelled and hold something; say `dst init STORAGE --keep NODE` to adopt one's data "
            "and copy it to the others, or `dst init STORAGE --discard`"
        ),
    ),
    _row(
        "choice-away",
        lambda i: bool(i.keep) and i.keep not in i.data.labels,
        AssemblyStep.WAIT,
        lambda i: (
            f"a person has chosen the history of {i.keep}, which cannot be read; bring it back, or choose again"
        ),
    ),
    _row(
        "diverged",
        lambda i: i.data.undecided,
        AssemblyStep.ASK,
        lambda i: (
            "the members have different histories of this storage, because a person made it go on from an older copy "
            f"while another one went on by itself: {_histories(i)}. Nothing was overwritten; say `dst storage "
            "resolve STORAGE --keep NODE` to go on with the history of that node and lose what only the others have"
        ),
    ),
    _row(
        "same-media-twice",
        lambda i: bool(i.data.twins),
        AssemblyStep.ASK,
        lambda i: (
            f"{words(i.data.twins)} are the same media, or one is a copy of the other with its label, and it is not "
            "known which has the latest data; correct the topology, or blank the label of the copy"
        ),
    ),
    _row(
        "claim-again",
        lambda i: (
            i.granted is not None and i.data.number_max >= i.claim.number > 0 and i.data.record_claim != i.claim
        ),
        AssemblyStep.CLAIM_AGAIN,
        lambda i: (
            f"another daemon has made claim {i.data.number_max} meanwhile, and this one made claim {i.claim.number}; "
            "it is claimed again with a higher one"
        ),
    ),
    (
        "forced",
        lambda i: bool(i.forced) and i.forced in i.data.labels and _may_serve(i, i.forced),
        lambda row, i: _serve(row, f"a person said that {i.forced} has the data", i, (i.forced,), True),
    ),
    _row(
        "forced-not-granted",
        lambda i: bool(i.forced) and i.forced in i.data.labels and not _may_serve(i, i.forced),
        AssemblyStep.CLAIM_AGAIN,
        lambda i: f"a person said that {i.forced} has the data, but {_holders_in_words(i, (i.forced,))}",
    ),
    _row(
        "lost-quorum",
        lambda i: i.granted is not None and not i.data.enough(i.data.granted, i.quorum, i.data.kept_back),
        AssemblyStep.CLAIM_AGAIN,
        lambda i: _lost_quorum(i),
    ),
    _row(
        "owner-record-lost",
        lambda i: bool(i.data.unseen),
        AssemblyStep.WAIT,
        lambda i: (
            "the state directory has no record of this storage, so every member must be seen before it is known who "
            f"has the latest data; waiting for {words(i.data.unseen)}. If they are gone for good, say "
            "`dst mark-clean STORAGE NODE` for the node that has the data"
        ),
    ),
    _row(
        "sources-promised",
        lambda i: not i.data.sources and bool(i.data.unclaimed),
        AssemblyStep.CLAIM_AGAIN,
        lambda i: f"the latest data is on {words(i.data.unclaimed)}, and {_holders_in_words(i, i.data.unclaimed)}",
    ),
    _row(
        "latest-data-away",
        lambda i: not i.data.sources,
        AssemblyStep.WAIT,
        lambda i: (
            f"the latest data is only on {words(i.data.source_names)}, which cannot be read; it is never taken from "
            "an older copy. Bring it back, or say `dst mark-clean STORAGE NODE` to go on with an older copy and lose "
            "what was written since"
        ),
    ),
    (
        "all-sources-retained",
        lambda i: not i.data.source_names and len(i.data.retained) == len(i.data.sources),
        lambda row, i: _serve(row, "every member that has the latest data is here", i, i.data.retained, False),
    ),
    _row(
        "sources-may-come",
        lambda i: not i.waited and bool(i.data.source_names),
        AssemblyStep.WAIT,
        lambda i: f"giving {words(i.data.source_names)} time to appear",
    ),
    (
        "some-sources-retained",
        lambda i: bool(i.data.retained),
        lambda row, i: _serve(
            row, f"{words(i.data.retained)} has the latest data, unflushed writes too", i, i.data.retained, False
        ),
    ),
    (
        "sources-lost-cache",
        lambda i: True,
        lambda row, i: _serve(
            row,
            f"{words(i.data.sources)} has the latest data but restarted: what was not flushed may be lost",
            i,
            i.data.sources,
            True,
        ),
    ),
)


def judge_assembly(inputs: AssemblyInputs) -> AssemblyVerdict:
    """How a storage starts, from what its members and its owner remember."""
    for row, holds, verdict in ASSEMBLY_ROWS:
        if holds(inputs):
            return verdict(row, inputs)
    raise AssertionError("the last row always holds")
