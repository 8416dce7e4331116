"""
What follows from what is found on media: two tables, as data, and the pure functions that read them.

A verdict names the row that decided; it is logged, kept and shown to people.
Rows are tried from the top, the first whose condition holds decides.
No row ever makes a choice that only a person can make: nothing is overwritten
that belongs to another storage or that might be somebody's data.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

from attrs import field, frozen

from dst.label.format import Epoch, FoundLabel, Label, Record

__all__ = [
    "ASSEMBLY_ROWS",
    "MEMBER_ROWS",
    "AssemblyInputs",
    "AssemblyStep",
    "AssemblyVerdict",
    "MemberInputs",
    "MemberStep",
    "MemberVerdict",
    "judge_assembly",
    "judge_member",
]


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
    @ivar place: the place of the member in the record, where that means something.
    @ivar has_copies: the algorithm can make the content again from other members.
    """

    storage_id: bytes
    algorithm: str
    record: Record
    found: FoundLabel
    media_size: int
    capacity: int
    capacity_needed: int
    has_copies: bool = True


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
        "newer-record",
        lambda i: _label(i).record.order > i.record.order,
        MemberStep.REFUSE,
        lambda i: (
            f"the media has seen a newer owner (claim {_label(i).record.claim.number}) than this one "
            f"(claim {i.record.claim.number}); restart this storage so that it starts from there"
        ),
    ),
    (
        "not-listed",
        lambda i: i.record.entry(_label(i).node_id) is None,
        MemberStep.REFUSE,
        lambda i: (
            "the media was a member of this storage and has been replaced or removed since; it was not touched. "
            "Blank it if it may be used here"
        ),
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


class AssemblyStep(enum.Enum):
    """How a storage starts."""

    WAIT = "wait for members"
    ASK = "wait for a person"
    INITIALISE = "make a new storage"
    SERVE = "take over and serve"


@frozen
class AssemblyInputs:
    """
    What is known when a storage starts.

    @ivar names: the members' names in the topology.
    @ivar found: what the labels of the members that can be read hold, by name.
    @ivar incarnations: of the nodes of those members, by name.
    @ivar kept: the label kept by the owner itself (its state directory), if any: the highest record it made stable.
    @ivar waited: members that could still come have been given their time.
    @ivar zero: every member was read and is zero throughout; C{None} while not known.
    @ivar forced: the name of the member a person says has the data, or C{""}.
    @ivar algorithm: of the storage.
    """

    names: tuple[str, ...]
    found: Mapping[str, FoundLabel]
    incarnations: Mapping[str, bytes]
    kept: Label | None = None
    waited: bool = False
    zero: bool | None = None
    forced: str = ""
    algorithm: str = "mirror"
    data: _Evidence = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "data", _Evidence.of(self))


@frozen
class _Evidence:
    """What the rows have in common, worked out once."""

    storage_ids: frozenset[bytes]
    labels: Mapping[str, Label]
    record: Record | None
    storage_id: bytes
    sources: tuple[str, ...]
    retained: tuple[str, ...]
    missing: tuple[str, ...]
    source_names: tuple[str, ...]

    @classmethod
    def of(cls, inputs: AssemblyInputs) -> _Evidence:
        labels = {name: found.label for name, found in inputs.found.items() if found.label is not None}
        ids = frozenset(label.storage_id for label in labels.values())
        storage_id = inputs.kept.storage_id if inputs.kept else next(iter(ids)) if len(ids) == 1 else b""
        ours = {name: label for name, label in labels.items() if label.storage_id == storage_id}
        records = [label.record for label in ours.values()]
        if inputs.kept:
            records.append(inputs.kept.record)
        record = max(records, key=lambda r: r.order, default=None)
        in_sync = {entry.node_id: entry for entry in record.in_sync} if record else {}
        sources = tuple(name for name, label in ours.items() if label.node_id in in_sync)
        retained = tuple(
            name for name in sources if inputs.incarnations.get(name) == in_sync[ours[name].node_id].incarnation
        )
        seen = {ours[name].node_id for name in sources}
        return cls(
            ids,
            ours,
            record,
            storage_id,
            sources,
            retained,
            tuple(name for name in inputs.names if name not in inputs.found),
            tuple(entry.name for node_id, entry in in_sync.items() if node_id not in seen),
        )


@frozen
class AssemblyVerdict:
    """
    @ivar sources: with C{SERVE}: the names of the members that are in sync from the start.
    @ivar lost_cache: with C{SERVE}: every source may have lost unflushed writes: the storage gets a new incarnation.
    """

    row: str
    step: AssemblyStep
    reason: str
    storage_id: bytes = b""
    record: Record | None = None
    sources: tuple[str, ...] = ()
    lost_cache: bool = False


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(sorted(names)) or "none"


def _serve(row: str, reason: str, inputs: AssemblyInputs, sources: tuple[str, ...], lost: bool) -> AssemblyVerdict:
    data = inputs.data
    return AssemblyVerdict(row, AssemblyStep.SERVE, reason, data.storage_id, data.record, sources, lost)


_AssemblyRow = tuple[str, Callable[[AssemblyInputs], bool], Callable[[str, AssemblyInputs], AssemblyVerdict]]


def _row(
    name: str, holds: Callable[[AssemblyInputs], bool], step: AssemblyStep, reason: Callable[[AssemblyInputs], str]
) -> _AssemblyRow:
    return (
        name,
        holds,
        lambda row, i: AssemblyVerdict(row, step, reason(i), i.data.storage_id, i.data.record),
    )


def _unseen_votes(inputs: AssemblyInputs) -> tuple[str, ...]:
    """Members of the record whose own label was not seen: without the owner's record they could know better."""
    record = inputs.data.record
    if record is None or inputs.kept is not None:
        return ()
    seen = {label.node_id for label in inputs.data.labels.values()}
    return tuple(entry.name for entry in record.members if entry.node_id not in seen)


ASSEMBLY_ROWS: tuple[_AssemblyRow, ...] = (
    _row(
        "no-member-yet",
        lambda i: not i.found,
        AssemblyStep.WAIT,
        lambda i: f"no member can be read yet; waiting for {_words(i.names)}",
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
            f"the members are those of a {_words(tuple({label.algorithm for label in i.data.labels.values()}))} and "
            f"the topology says {i.algorithm}; correct the topology"
        ),
    ),
    _row(
        "damaged-first-start",
        lambda i: i.data.record is None and any(f.label is None and f.damage for f in i.found.values()),
        AssemblyStep.ASK,
        lambda i: (
            "no storage is known here, and the labels of "
            + _words(tuple(n for n, f in i.found.items() if f.label is None and f.damage))
            + " are damaged; nothing is overwritten"
        ),
    ),
    _row(
        "first-start-waits",
        lambda i: i.data.record is None and bool(i.data.missing),
        AssemblyStep.WAIT,
        lambda i: f"a new storage is made when all members are present; waiting for {_words(i.data.missing)}",
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
    (
        "forced",
        lambda i: bool(i.forced) and i.forced in i.data.labels,
        lambda row, i: _serve(row, f"a person said that {i.forced} has the data", i, (i.forced,), True),
    ),
    _row(
        "owner-record-lost",
        lambda i: bool(_unseen_votes(i)),
        AssemblyStep.WAIT,
        lambda i: (
            "the state directory has no record of this storage, so every member must be seen before it is known who "
            f"has the latest data; waiting for {_words(_unseen_votes(i))}. If they are gone for good, say "
            "`dst mark-clean STORAGE NODE` for the node that has the data"
        ),
    ),
    _row(
        "latest-data-away",
        lambda i: not i.data.sources,
        AssemblyStep.WAIT,
        lambda i: (
            f"the latest data is only on {_words(i.data.source_names)}, which cannot be read; it is never taken from "
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
        lambda i: f"giving {_words(i.data.source_names)} time to appear",
    ),
    (
        "some-sources-retained",
        lambda i: bool(i.data.retained),
        lambda row, i: _serve(
            row, f"{_words(i.data.retained)} has the latest data, unflushed writes too", i, i.data.retained, False
        ),
    ),
    (
        "sources-lost-cache",
        lambda i: True,
        lambda row, i: _serve(
            row,
            f"{_words(i.data.sources)} has the latest data but restarted: what was not flushed may be lost",
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
