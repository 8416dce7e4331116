"""
What is known when a storage starts, and what all rows of the start's tables have in common.

Values only. A start looks first, and claims what it needs only if service could follow; after the grants it looks
again, because an owner may have gone on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, frozen

from dst.label.format import FoundLabel, Label, Record, Vote
from dst.label.lineage import Lineage, common_ancestry, heads, lineage
from dst.label.votes import Quorum, has_quorum
from dst.ownership import NO_CLAIM, Claim, Promise

__all__ = ["AssemblyInputs", "Evidence", "VoteId", "seconds_in_words", "words"]

VoteId = tuple[bytes, bytes]
"""What a vote is recognised by: the node id on its medium, and the identity of its memory of promises."""

_NO_FENCE = bytes(16)


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
    @ivar witnesses: what the labels of the witnesses that can be read hold, by name.
    @ivar promises: what the nodes that fence have promised, by name, members and witnesses; a node that cannot fence,
        or has not answered, is missing.
    @ivar owner: 16 bytes, this daemon's identity for the storage; C{b""}: that on the label it kept.
    @ivar claim: this daemon's claim, once it has made one.
    @ivar granted: the votes that have granted it, as they are now; C{None} while nothing is claimed.
    @ivar claimed: the names of members that may be written: their node has granted C{claim}, or it cannot fence.
        Means something only where C{granted} is not C{None}.
    @ivar quorum: the setting.
    @ivar standby: another daemon is to own the storage, this one only when that is gone.
    @ivar standby_ready: nobody has owned it for so long that a standby may.
    @ivar wanted: a person has said that it is to be owned here.
    @ivar handed_to: who it was handed over to and is expected to take it now; C{""} when nobody is.
    @ivar keep: of histories that have diverged, a person wants the one that this member has; or C{""}.
    """

    names: tuple[str, ...]
    found: Mapping[str, FoundLabel]
    incarnations: Mapping[str, bytes]
    kept: Label | None = None
    waited: bool = False
    zero: bool | None = None
    forced: str = ""
    algorithm: str = "mirror"
    witnesses: Mapping[str, FoundLabel] = field(factory=dict)
    promises: Mapping[str, Promise] = field(factory=dict)
    owner: bytes = b""
    claim: Claim = NO_CLAIM
    granted: frozenset[VoteId] | None = None
    claimed: frozenset[str] = frozenset()
    quorum: Quorum = "majority"
    standby: bool = False
    standby_ready: bool = False
    wanted: bool = False
    handed_to: str = ""
    keep: str = ""
    data: Evidence = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "data", Evidence.of(self))

    def promised_elsewhere(self, name: str) -> Promise | None:
        """The promise of that node, if another owner may be counting on it."""
        promise = self.promises.get(name)
        if promise is None or promise.claim.owner == self.owner or promise.released or promise.held_s <= 0:
            return None
        return promise


@frozen
class Evidence:
    """
    What the rows have in common, worked out once.

    @ivar storage_ids: of all labels on members.
    @ivar storage_id: of the storage that is to start; C{b""} if there is none, or no single one.
    @ivar labels: of members of this storage, by name.
    @ivar holders: names of members and witnesses of this storage.
    @ivar record: the highest record of the line that is to go on; C{None} where nothing knows of a storage.
    @ivar number_max: the highest number of a claim in any record of this storage, of whichever line.
    @ivar lines: how many lines of records were seen.
    @ivar undecided: there are several, and nobody has said which is to go on.
    @ivar diverged: names of members whose media has another line.
    @ivar sources: names of members that may be a source: in sync, of this line, and claimed if anything is.
    @ivar retained: those of them that have lost nothing.
    @ivar unclaimed: names of members that would be sources but are not granted.
    @ivar missing: names of members that cannot be read.
    @ivar source_names: names, in the record, of members in sync that are no sources here.
    @ivar twins: names of members that have one identity, of a member in sync.
    @ivar reachable: votes that could be asked for a claim.
    @ivar free: those of them that nobody else counts on.
    @ivar granted: votes that were granted and know the record's line.
    @ivar one_store: the record has no votes, or only an owner's own store: whoever has not that store has to
        see every member instead.
    @ivar unseen: names of those it has not seen then.
    @ivar kept_back: names of members of the record that are promised to somebody else, or have not granted the claim.
    """

    storage_ids: frozenset[bytes]
    labels: Mapping[str, Label]
    holders: tuple[str, ...]
    record: Record | None
    storage_id: bytes
    number_max: int
    lines: int
    undecided: bool
    diverged: tuple[str, ...]
    sources: tuple[str, ...]
    retained: tuple[str, ...]
    unclaimed: tuple[str, ...]
    missing: tuple[str, ...]
    source_names: tuple[str, ...]
    twins: tuple[str, ...]
    reachable: frozenset[VoteId]
    free: frozenset[VoteId]
    granted: frozenset[VoteId]
    one_store: bool
    unseen: tuple[str, ...]
    kept_back: tuple[str, ...]

    @classmethod
    def of(cls, inputs: AssemblyInputs) -> Evidence:
        """The evidence in C{inputs}."""
        labels = _labels(inputs.found)
        ids = frozenset(label.storage_id for label in labels.values())
        storage_id = _storage_id(inputs, ids)
        ours = {name: label for name, label in labels.items() if label.storage_id == storage_id}
        witnesses = {n: label for n, label in _labels(inputs.witnesses).items() if label.storage_id == storage_id}
        known = [*ours.values(), *witnesses.values(), *([inputs.kept] if inputs.kept else [])]
        records = [label.record for label in known]
        found = heads(records)
        record, undecided = _line_to_go_on(inputs, ours, found)
        everybody = {**ours, **witnesses}
        diverged = {
            name
            for name, label in everybody.items()
            if record is not None and lineage(label.record, record) is Lineage.DIVERGED
        }
        in_sync = {entry.node_id: entry for entry in record.in_sync} if record else {}
        candidates = [name for name, label in ours.items() if label.node_id in in_sync and name not in diverged]
        claimed = [name for name in candidates if inputs.granted is None or name in inputs.claimed]
        retained = [
            name for name in claimed if inputs.incarnations.get(name) == in_sync[ours[name].node_id].incarnation
        ]
        seen = {ours[name].node_id for name in claimed}
        node_ids = [ours[name].node_id for name in candidates]
        own = _own_vote(inputs, storage_id)
        votes = _vote_ids(inputs, everybody, set() if inputs.keep else diverged)
        record_votes = record.votes if record else ()
        one_store = all(vote.fence == _NO_FENCE for vote in record_votes)
        silent = {
            (label.node_id, inputs.promises[name].fence)
            for name, label in everybody.items()
            if name in diverged and not inputs.keep and name in inputs.promises
        }
        return cls(
            storage_ids=ids,
            labels=ours,
            holders=tuple(everybody),
            record=record,
            storage_id=storage_id,
            number_max=max((each.claim.number for each in records), default=0),
            lines=len(found),
            undecided=undecided,
            diverged=tuple(name for name in ours if name in diverged),
            sources=tuple(claimed),
            retained=tuple(retained),
            unclaimed=tuple(name for name in candidates if name not in claimed),
            missing=tuple(name for name in inputs.names if name not in inputs.found),
            source_names=tuple(entry.name for node_id, entry in in_sync.items() if node_id not in seen),
            twins=tuple(name for name in candidates if node_ids.count(ours[name].node_id) > 1),
            reachable=frozenset(votes.values()) | own,
            free=frozenset(vote for name, vote in votes.items() if not inputs.promised_elsewhere(name)) | own,
            granted=(inputs.granted or frozenset()) - silent,
            one_store=one_store,
            kept_back=tuple(
                name
                for name, label in ours.items()
                if record is not None
                and record.entry(label.node_id) is not None
                and (
                    inputs.promised_elsewhere(name) is not None
                    if inputs.granted is None
                    else name not in inputs.claimed
                )
            ),
            unseen=_unseen(inputs, record, ours.values(), own) if one_store else (),
        )

    @property
    def record_claim(self) -> Claim:
        """That of C{record}."""
        return self.record.claim if self.record is not None else NO_CLAIM

    def votes_by(self, cast: Iterable[VoteId]) -> tuple[list[Vote], list[Vote]]:
        """The votes of the record that are among C{cast}, and those that are not."""
        cast = frozenset(cast)
        votes = self.record.votes if self.record else ()
        had = [vote for vote in votes if (vote.node_id, vote.fence) in cast]
        return had, [vote for vote in votes if vote not in had]

    def enough(self, cast: frozenset[VoteId], quorum: Quorum, kept_back: tuple[str, ...] = ()) -> bool:
        """
        C{cast} are a quorum of the record's votes. Where the only vote is a store that is not here, every member
        stands for it.

        @param kept_back: members that cannot do that.
        """
        if self.record is None or has_quorum(self.record.votes, cast, quorum):
            return True
        return self.one_store and not kept_back


def _labels(found: Mapping[str, FoundLabel]) -> dict[str, Label]:
    return {name: each.label for name, each in found.items() if each.label is not None}


def _storage_id(inputs: AssemblyInputs, ids: frozenset[bytes]) -> bytes:
    if inputs.kept is not None:
        return inputs.kept.storage_id
    if not ids:
        # Members may all be new, and still there was a storage.
        ids = frozenset(label.storage_id for label in _labels(inputs.witnesses).values())
    return next(iter(ids)) if len(ids) == 1 else b""


def _line_to_go_on(
    inputs: AssemblyInputs, ours: Mapping[str, Label], found: tuple[Record, ...]
) -> tuple[Record | None, bool]:
    """The newest record of the line that is to go on, and whether nobody has decided between several."""
    if len(found) <= 1:
        return (found[0] if found else None), False
    for name in (inputs.forced, inputs.keep):
        if name in ours:
            return _newest_after(ours[name].record, found), False
    if inputs.kept is not None:
        mine = _newest_after(inputs.kept.record, found)
        if all(other is mine or _was_left(other, mine) for other in found):
            return mine, False
    return found[0], True


def _newest_after(record: Record, found: tuple[Record, ...]) -> Record:
    """The newest of the heads that C{record} has led to."""
    return next(head for head in found if lineage(record, head) in (Lineage.SAME, Lineage.ANCESTOR))


def _was_left(other: Record, mine: Record) -> bool:
    """C{mine} is of a line that a person made leave the one of C{other}, and not the other way round."""
    common = common_ancestry(other, mine)
    return len(other.ancestry) == common < len(mine.ancestry)


def _own_vote(inputs: AssemblyInputs, storage_id: bytes) -> frozenset[VoteId]:
    """The owner's own store votes while it has the storage's record."""
    if inputs.kept is None or inputs.kept.storage_id != storage_id:
        return frozenset()
    return frozenset({(inputs.owner or inputs.kept.node_id, _NO_FENCE)})


def _vote_ids(inputs: AssemblyInputs, labels: Mapping[str, Label], silent: set[str]) -> dict[str, VoteId]:
    """The votes that could be asked, by the name of the node."""
    return {
        name: (label.node_id, inputs.promises[name].fence)
        for name, label in labels.items()
        if name in inputs.promises and name not in silent
    }


def _unseen(
    inputs: AssemblyInputs, record: Record | None, labels: Iterable[Label], own: frozenset[VoteId]
) -> tuple[str, ...]:
    """Members of the record whose own label was not seen: without the owner's record they could know better."""
    if record is None:
        return ()
    if inputs.kept is not None and (not record.votes or any((v.node_id, v.fence) in own for v in record.votes)):
        return ()
    seen = {label.node_id for label in labels}
    return tuple(entry.name for entry in record.members if entry.node_id not in seen)


def words(names: Iterable[str]) -> str:
    """Names for people, in order."""
    return ", ".join(sorted(set(names))) or "none"


def seconds_in_words(seconds: float) -> str:
    """How long, for people; never none at all."""
    return f"{max(0.1, seconds):.1f} s"
