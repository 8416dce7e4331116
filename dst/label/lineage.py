"""
Lines of records: what a person has forked can never be taken for older or newer.

A storage goes on in one line of records until a person makes it go on from an older copy. The ancestry of a record
lists those forks, so that of any two records it can be said which came of which, or that neither did; specified in
C{docs/specifications/label.rst} under "Lines".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

from attrs import evolve

from dst.label.format import ANCESTRY_MAX, Epoch, Fork, Label, Record
from dst.label.region_table import FIRST_AGE, RegionTable
from dst.ownership import NO_CLAIM

__all__ = ["Lineage", "bytes_discarded", "common_ancestry", "forced_ancestry", "heads", "lineage"]


class Lineage(enum.Enum):
    """What one record is to another."""

    SAME = "the same"
    ANCESTOR = "an ancestor of"
    DESCENDANT = "a descendant of"
    DIVERGED = "of another line than"


def common_ancestry(a: Record, b: Record) -> int:
    """How many forks C{a} and C{b} have both gone through."""
    count = 0
    for one, other in zip(a.ancestry, b.ancestry, strict=False):
        if one != other:
            break
        count += 1
    return count


def lineage(a: Record, b: Record) -> Lineage:
    """What C{a} is to C{b}."""
    common = common_ancestry(a, b)
    if len(a.ancestry) > common and len(b.ancestry) > common:
        return Lineage.DIVERGED
    if len(b.ancestry) > common:
        return Lineage.ANCESTOR if _was_left_after(a, b.ancestry[common]) else Lineage.DIVERGED
    if len(a.ancestry) > common:
        return Lineage.DESCENDANT if _was_left_after(b, a.ancestry[common]) else Lineage.DIVERGED
    if a.order == b.order:
        return Lineage.SAME
    return Lineage.ANCESTOR if a.order < b.order else Lineage.DESCENDANT


def _was_left_after(record: Record, fork: Fork) -> bool:
    """C{record} was written before its line was left at C{fork}."""
    return record.order <= (fork.claim, fork.sequence)


def heads(records: Iterable[Record]) -> tuple[Record, ...]:
    """The newest record of each line, the one with the highest order first; one of them unless they have diverged."""
    found: list[Record] = []
    for record in records:
        if any(lineage(record, head) in (Lineage.SAME, Lineage.ANCESTOR) for head in found):
            continue
        found = [head for head in found if lineage(head, record) is not Lineage.ANCESTOR]
        found.append(record)
    return tuple(sorted(found, key=lambda head: head.order, reverse=True))


def forced_ancestry(label: Label, tag: int) -> tuple[Fork, ...]:
    """
    The ancestry of a storage that goes on from the copy that has C{label}, because a person said so.

    Every copy whose record is above the one in C{label} may have what this one lacks, and has diverged. Where
    that record says of the copy itself that it was not in sync, it can lack what the oldest of the others has: then
    all of them have diverged.

    @param tag: of the claim under which it goes on.
    """
    record = label.record
    entry = record.entry(label.node_id)
    whole = entry is not None and entry.in_sync
    fork = Fork(record.claim, record.sequence, tag) if whole else Fork(NO_CLAIM, 0, tag)
    ancestry = (*record.ancestry, fork)
    while len(ancestry) > ANCESTRY_MAX:
        # What left the line at the first fork had left it before the second as well; whoever was between the two
        # counts as diverged from now on.
        first, second, *rest = ancestry
        ancestry = (evolve(first, tag=second.tag), *rest)
    return ancestry


def bytes_discarded(
    losing: RegionTable,
    losing_record: Record,
    keeping: RegionTable,
    keeping_record: Record,
    region_size: int,
    data_size: int,
) -> int:
    """
    At most how many bytes were written on one line since the two have diverged, by the tables of a copy of each: what
    a person loses who keeps the other one.

    A region that is cold on both with the same age holds the same. One whose age was given before they parted has not
    been written since. Any other is counted as a whole.
    """
    was_before = _ages_before(losing_record, keeping, keeping_record)
    last = (data_size - 1) // region_size
    total = 0
    at = -1
    differ = losing.differences(keeping)
    while (at := differ.find(1, at + 1)) >= 0:
        if not losing.is_hot(at) and was_before(losing.age(at)):
            continue
        total += region_size if at < last else data_size - last * region_size
    return total


def _ages_before(losing: Record, keeping_table: RegionTable, keeping: Record) -> Callable[[Epoch], bool]:
    """Tells whether an age on the losing line was certainly given before the two lines parted."""
    common = common_ancestry(losing, keeping)
    left, kept = (
        record.ancestry[common].claim if len(record.ancestry) > common else None for record in (losing, keeping)
    )
    if NO_CLAIM in (left, kept):
        return lambda age: False  # it is not known when that was
    # Tags are random: one that stands on both lines is of a claim that both have had.
    over = set(keeping_table.tags())
    over.discard(0)
    if left is not None:
        over.add(left.tag)
    if kept is None:
        return lambda age: age.tag in over
    # The losing line has gone on under the claim that the other one has left, in a new epoch since it left: what is
    # no newer than anything that it has taken along was before that.
    over.discard(kept.tag)
    newest = keeping_table.newest(kept.tag)

    def was_before(age: Epoch) -> bool:
        return age.tag in over or (age.tag == kept.tag and (age.number <= newest or age.number >= FIRST_AGE))

    return was_before
