"""
What the explanations of all algorithms have in common: labels in words, and what a person can do about media
that is refused.
"""

from __future__ import annotations

from dst.label.format import FoundLabel, Label, Record

__all__ = ["REFUSALS", "advice_for", "identity_in_words", "label_in_words", "record_in_words"]

_BLANK = "blank the last 64 KiB of that media if it may be used here (all that it holds is lost)"
_REPLACE = "`dst replace {storage} {node} URI` puts other media at its place: everything is copied to that"

REFUSALS: dict[str, tuple[str, ...]] = {
    "damaged-label": (
        "look what has written over the end of the media before anything else; nothing was overwritten by DST",
        _REPLACE,
        _BLANK,
    ),
    "too-small": ("bring media that is at least as large as that of the other members", _REPLACE),
    "new-media-without-copies": ("bring the media back that belongs there: there is no second copy of what it held",),
    "another-storage": (
        "two disks were exchanged, or an address in the topology is wrong: correct that and nothing is lost",
        _REPLACE,
        _BLANK,
    ),
    "another-algorithm": ("correct `algorithm` or `nodes` in the topology: nothing was touched", _REPLACE),
    "newer-record": (
        "another daemon has owned {storage} since: look there first, with `dst --url ... explain`",
        "restart this daemon, so that it starts from what that one wrote",
    ),
    "not-listed": ("an old disk is back; leave it, or", _BLANK),
    "truncated": ("bring the whole media back; what was cut off is only there", _REPLACE),
    "coarser-media": (
        "stop this daemon and start it while the member is there: the storage then does only what all members can",
        _REPLACE,
    ),
    "same-media-twice": ("two nodes of the topology lead to one disk: correct the topology",),
    "diverged": (
        "both histories can be read: they are exported read-only as `{storage}@NODE`; compare them",
        "`dst storage resolve {storage} --keep NODE` goes on with one of them; what only the other has is lost",
    ),
}
"""Member row -> what a person can do; C{{storage}} and C{{node}} are filled in."""


def advice_for(row: str, storage: str, node: str) -> tuple[str, ...]:
    """What can be done about media that C{row} refused."""
    advice = REFUSALS.get(row, ("the reason says what stands there; nothing was overwritten", _REPLACE))
    return tuple(sentence.format(storage=storage, node=node) for sentence in advice)


def identity_in_words(identity: bytes) -> str:
    """Enough of 16 random bytes to tell them apart."""
    return identity[:4].hex() if any(identity) else "none"


def record_in_words(record: Record) -> str:
    """Who owns, who is in sync, in one phrase."""
    in_sync = ", ".join(sorted(entry.name for entry in record.in_sync)) or "nobody"
    others = ", ".join(sorted(entry.name for entry in record.members if not entry.in_sync))
    return (
        f"claim {record.claim.number} of owner {identity_in_words(record.claim.owner)}, record {record.sequence}: "
        f"in sync {in_sync}"
        + (f", not {others}" if others else "")
        + (", released cleanly" if record.released else "")
    )


def label_in_words(found: FoundLabel | None, storage: Label | None = None) -> str:
    """
    One sentence on what was found in a member's label slots.

    @param storage: the label of the storage, to tell whether it is the same.
    """
    if found is None:
        return "its label has not been read since it was last away"
    label = found.label
    if label is None:
        return "its media has no label" if found.unlabelled else f"its label cannot be used: {found.damage}"
    ours = storage is not None and storage.storage_id == label.storage_id
    whose = "this storage" if ours else f"storage {identity_in_words(label.storage_id)}"
    state = "consistent" if label.consistent else "inconsistent (a resync to it had not ended)"
    return f"its label: {whose}, member {identity_in_words(label.node_id)}, {state}, {record_in_words(label.record)}"
