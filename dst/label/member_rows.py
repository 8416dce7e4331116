"""
What to do with media at a member's place, as a table.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from attrs import frozen

from dst.label.format import Epoch, FoundLabel, Label, Record
from dst.label.lineage import Lineage, lineage

__all__ = ["MEMBER_ROWS", "MemberInputs", "MemberStep", "MemberVerdict", "judge_member"]


class MemberStep(enum.Enum):
    """What to do with media at a member's place in a storage that runs."""

    COMPARE = "compare ages and copy what differs"
    NEW_MEDIA = "label it and copy everything"
    REFUSE = "leave it alone"


@frozen
class MemberInputs:
    """
    What is known of media at a member's place.

    @ivar record: the highest stable record of the running storage.
    @ivar media_size: bytes of the media now.
    @ivar capacity_needed: bytes of data the storage has on every member.
    @ivar capacity: bytes of data this media can hold.
    @ivar has_copies: the algorithm can make the content again from other members.
    @ivar twin: the name of another member that counts and has the same identity on its media; or C{""}.
    @ivar resolved: a person has said that what only this media has is to be lost.
    """

    storage_id: bytes
    algorithm: str
    record: Record
    found: FoundLabel
    media_size: int
    capacity: int
    capacity_needed: int
    has_copies: bool = True
    twin: str = ""
    resolved: bool = False


@frozen
class MemberVerdict:
    """
    @ivar row: the name of the row that decided.
    @ivar reason: one sentence for people.
    """

    row: str
    step: MemberStep
    reason: str


def _short(identity: bytes) -> str:
    return identity[:4].hex()


_RETURNS = {
    "consistent": "the member returns: what was written while it was away is copied",
    "inconsistent": "the member returns in the middle of a resync: what is left is copied",
    "new": "the member never had the data: everything is copied to it",
}

_MemberRow = tuple[str, Callable[[MemberInputs], bool], MemberStep, Callable[[MemberInputs], str]]


def _label(inputs: MemberInputs) -> Label:
    assert inputs.found.label is not None
    return inputs.found.label


def _listed(inputs: MemberInputs) -> bool:
    return inputs.record.entry(_label(inputs).node_id) is not None


def _line(inputs: MemberInputs) -> Lineage:
    return lineage(_label(inputs).record, inputs.record)


MEMBER_ROWS: tuple[_MemberRow, ...] = (
    (
        "damaged-label",
        lambda i: i.found.label is None and not i.found.unlabelled,
        MemberStep.REFUSE,
        lambda i: (
            f"both label slots are unusable ({i.found.damage}); nothing is overwritten. "
            "If the media holds nothing of value, blank its last 64 KiB or replace the node"
        ),
    ),
    (
        "too-small",
        lambda i: (
            i.capacity < i.capacity_needed and (i.found.label is None or i.found.label.storage_id == i.storage_id)
        ),
        MemberStep.REFUSE,
        lambda i: (
            f"the media has room for {i.capacity} bytes of data and the storage has {i.capacity_needed}; "
            "use media that is at least as large as the other members'"
        ),
    ),
    (
        "new-media",
        lambda i: i.found.unlabelled and i.has_copies,
        MemberStep.NEW_MEDIA,
        lambda i: "the media is unlabelled, so it is new: everything is copied to it",
    ),
    (
        "new-media-without-copies",
        lambda i: i.found.unlabelled,
        MemberStep.REFUSE,
        lambda i: (
            f"the media is unlabelled, and a {i.algorithm} has no second copy of what stood here; "
            "bring the right media back"
        ),
    ),
    (
        "another-storage",
        lambda i: _label(i).storage_id != i.storage_id,
        MemberStep.REFUSE,
        lambda i: (
            f"the media is a member of another storage ({_short(_label(i).storage_id)}, this one is "
            f"{_short(i.storage_id)}); it was not touched. Blank it if it may be used here"
        ),
    ),
    (
        "another-algorithm",
        lambda i: _label(i).algorithm != i.algorithm,
        MemberStep.REFUSE,
        lambda i: f"the media was a member of a {_label(i).algorithm}, this storage is a {i.algorithm}",
    ),
    (
        "truncated",
        lambda i: _label(i).media_size > i.media_size,
        MemberStep.REFUSE,
        lambda i: (
            f"the label was written for media of {_label(i).media_size} bytes and this has {i.media_size}; "
            "it was cut short. Bring the whole media back, or blank it if it may be used here"
        ),
    ),
    (
        "resolved",
        lambda i: i.resolved and _line(i) is Lineage.DIVERGED and i.has_copies and _listed(i),
        MemberStep.COMPARE,
        lambda i: (
            "a person has chosen the history of this storage: what only this media has is lost, and what differs is "
            "copied"
        ),
    ),
    (
        "resolved-as-new",
        lambda i: i.resolved and _line(i) is Lineage.DIVERGED and i.has_copies,
        MemberStep.NEW_MEDIA,
        lambda i: (
            "a person has chosen the history of this storage, in which this media is no member: everything is copied "
            "to it"
        ),
    ),
    (
        "diverged",
        lambda i: _line(i) is Lineage.DIVERGED,
        MemberStep.REFUSE,
        lambda i: (
            "the media has another history of this storage: a person made one of them go on from an older copy while "
            f"the other went on by itself (claim {_label(i).record.claim.number} here, claim "
            f"{i.record.claim.number} in the storage that runs). Nothing was overwritten, and both can be read; to "
            "keep this one loses what was written to the storage since they parted, to keep the other loses what "
            "only this media has"
        ),
    ),
    (
        "newer-record",
        lambda i: _line(i) is Lineage.DESCENDANT,
        MemberStep.REFUSE,
        lambda i: (
            f"the media has seen a newer owner (claim {_label(i).record.claim.number}) than this one "
            f"(claim {i.record.claim.number}); restart this storage so that it starts from there"
        ),
    ),
    (
        "not-listed",
        lambda i: not _listed(i),
        MemberStep.REFUSE,
        lambda i: (
            "the media was a member of this storage and has been replaced or removed since; it was not touched. "
            "Blank it if it may be used here"
        ),
    ),
    (
        "same-media-twice",
        lambda i: bool(i.twin),
        MemberStep.REFUSE,
        lambda i: (
            f"this is the same media as {i.twin}, or a copy of it with its label; correct the topology, or blank "
            "the label of the copy"
        ),
    ),
    (
        "returning",
        lambda i: True,
        MemberStep.COMPARE,
        lambda i: _RETURNS[
            "consistent" if _label(i).consistent else "new" if _label(i).since == Epoch() else "inconsistent"
        ],
    ),
)


def judge_member(inputs: MemberInputs) -> MemberVerdict:
    """What to do with media at a member's place."""
    for row, holds, step, reason in MEMBER_ROWS:
        if holds(inputs):
            return MemberVerdict(row, step, reason(inputs))
    raise AssertionError("the last row always holds")
