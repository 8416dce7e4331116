"""
Two histories of one storage: what each choice would discard, how both can be read, and a person's choice.

They come about when a person makes a storage go on from an older copy while the latest data is alive elsewhere.
Nothing here is done without that person's word (R13); which media has which history is told by C{dst.label.lineage}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from dst.algorithms.mirror.history import HistoryNode
from dst.algorithms.mirror.member import Member, members_in
from dst.errors import DSTError, IncarnationChanged, InvalidRequest, NotFound
from dst.interfaces import INode
from dst.label.format import Label, Record
from dst.label.lineage import Lineage, bytes_discarded, heads, lineage
from dst.label.region_table import RegionTable
from dst.recovery.table_store import TableStore
from dst.status import MemberState
from dst.words import size_in_words

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror
    from dst.algorithms.mirror.serving import Serving
    from dst.algorithms.mirror.starting import Starter
    from dst.algorithms.mirror.witness import Witness

__all__ = ["DIVERGED", "Choices", "Diverged", "losses_in_words"]

_log = Logger()

DIVERGED = "diverged"
"""The row of both tables under which nothing is chosen yet."""


def _found(holder: Member | Witness) -> Label | None:
    """What was found when it was looked at last."""
    return holder.found.label if holder.found is not None else None


def _written(holder: Member | Witness) -> Label | None:
    """What stands on its media since then."""
    return holder.labels.label if holder.labels is not None else None


async def _read_table(member: Member, label: Label) -> RegionTable:
    """What its region table says; nothing is written, and nothing flushed."""
    zone = member.zone_of(label)
    table = RegionTable(zone.regions_of(label.data_size), label.storage_id)
    await TableStore(member.device, zone, table).load(settle=False)
    return table


async def losses_in_words(member: Member, label: Label, source: Member, record: Record) -> str:
    """
    What each choice would lose between the history of C{member}, which was refused, and that of the storage.

    @param source: a member in sync.
    @return: one sentence; C{""} where it cannot be told.
    """
    try:
        table = await _read_table(member, label)
    except DSTError:
        return ""
    kept = source.table
    if table.regions != kept.regions or label.region_size == 0:
        return ""
    sizes = (label.region_size, label.data_size)
    here = bytes_discarded(table, label.record, kept, record, *sizes)
    there = bytes_discarded(kept, record, table, label.record, *sizes)
    return (
        f"To keep this one loses at most {size_in_words(there)}, to keep the other at most {size_in_words(here)}, as "
        "things were when it was found"
    )


class Choices:
    """
    What each choice would discard at a start that waits for one; measured once for the same labels.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._measured: tuple[tuple[str, int], ...] = ()
        self._said: dict[str, str] = {}

    async def say(self, storage_id: bytes) -> None:
        """Each member's reason says what it has."""
        labels = {
            member.name: label
            for member in self._members
            if (label := _found(member)) is not None and label.storage_id == storage_id
        }
        key = tuple((name, label.sequence) for name, label in sorted(labels.items()))
        if key != self._measured:
            self._said = await self._measure(labels)
            self._measured = key
        for member in self._members:
            if member.name in self._said:
                member.become(MemberState.ABSENT, self._said[member.name])

    async def _measure(self, labels: Mapping[str, Label]) -> dict[str, str]:
        lines = heads(label.record for label in labels.values())
        tables: dict[int, tuple[RegionTable, Label]] = {}
        line_of: dict[str, list[int]] = {}
        for member in self._members:
            label = labels.get(member.name)
            if label is None:
                continue
            line_of[member.name] = [
                index
                for index, head in enumerate(lines)
                if lineage(label.record, head) in (Lineage.SAME, Lineage.ANCESTOR)
            ]
            entry = label.record.entry(label.node_id)
            newest = next((index for index in line_of[member.name] if label.record == lines[index]), None)
            if newest is not None and newest not in tables and entry is not None and entry.in_sync:
                try:
                    tables[newest] = (await _read_table(member, label), label)
                except DSTError as error:
                    _log.warn("{member}: its region table cannot be read: {error}", member=member.name, error=error)
        return {name: self._sentence(indices, len(lines), tables) for name, indices in line_of.items()}

    def _sentence(self, indices: list[int], lines: int, tables: Mapping[int, tuple[RegionTable, Label]]) -> str:
        if len(indices) != 1:
            return "it is older than all the histories, and returns to whichever is chosen"
        mine = indices[0]
        words = f"it has one of {lines} histories of the storage"
        others = [index for index in range(lines) if index != mine]
        if mine not in tables or any(index not in tables for index in others):
            return f"{words}; what the choice of it discards cannot be told from what is here"
        kept, label = tables[mine]
        lost = 0
        for index in others:
            table, other = tables[index]
            if table.regions != kept.regions:
                return f"{words}; what the choice of it discards cannot be told, the sizes differ"
            lost += bytes_discarded(table, other.record, kept, label.record, label.region_size, label.data_size)
        return f"{words}; the choice of it discards at most {size_in_words(lost)} of the others"


class Diverged:
    """
    A mirror's histories, while there are several.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._nodes: dict[str, tuple[Label, HistoryNode]] = {}

    # -- to read them

    def histories(self) -> Mapping[str, INode]:
        """A read-only node of each member that has a history of its own, by the member's name; mostly none."""
        members = {member.name: member for member in self._mirror.members if not member.removed}
        for name, (label, node) in list(self._nodes.items()):
            if name not in members or self._history(members[name]) != label:
                del self._nodes[name]
                node.close()
        for name, member in members.items():
            mine = self._history(member)
            if mine is not None and name not in self._nodes:
                self._nodes[name] = (mine, self._node_of(member, mine))
        return {name: node for name, (_, node) in self._nodes.items()}

    def _node_of(self, member: Member, label: Label) -> HistoryNode:
        return HistoryNode(
            self._mirror.clock,
            f"{self._mirror.name}@{member.name}",
            member.node,
            label.data_size,
            lambda: self._history(member) == label,
        )

    def _history(self, member: Member) -> Label | None:
        """The label on its media, if that is left alone because there are several histories."""
        label = _found(member)
        if label is None:
            return None
        if self._mirror.serving is not None:
            return label if member.state is MemberState.REFUSED and member.row == DIVERGED else None
        starter = self._mirror.starter
        verdict = starter.verdict if starter is not None else None
        if verdict is None or verdict.row != DIVERGED or label.storage_id != verdict.storage_id:
            return None
        return label

    def close(self) -> None:
        """Nobody reads them any more."""
        for _, node in self._nodes.values():
            node.close()
        self._nodes = {}

    # -- to choose

    async def resolve(self, keep: str) -> None:
        """See L{dst.interfaces.IAlgorithm.resolve}."""
        mirror = self._mirror
        member = next((each for each in mirror.members if each.name == keep and not each.removed), None)
        if member is None:
            known = ", ".join(node.name for node in mirror.nodes)
            raise NotFound(f"{mirror.name} has no member {keep}; its members are {known}")
        if mirror.serving is not None:
            self._resolve_serving(mirror.serving, member)
        elif mirror.starter is not None:
            self._resolve_start(mirror.starter, member)
        else:
            raise mirror.unavailable()
        mirror.tell_observers()

    def _resolve_serving(self, serving: Serving, member: Member) -> None:
        mirror = self._mirror
        record = serving.configuration.record
        others = self._of_other_lines(record, serving.label.storage_id, _written)
        if not others:
            raise InvalidRequest(f"{mirror.name} has one history only; nothing was changed")
        if member not in others:
            if not serving.configuration.sent & member.bit:
                raise InvalidRequest(
                    f"{member.name} is {member.state.value} and has no history to keep; name a member that is in sync"
                )
            self._give_up(others, _written)
            for other in others:
                if isinstance(other, Member):
                    serving.returning.now(other)
                else:
                    serving.witnesses.consider(other)
            return
        label = _written(member)
        assert label is not None
        if not member.ready:
            raise InvalidRequest(f"{member.name} is {member.node.link.value}: bring it back before it is kept")
        self._give_up(self._of_other_lines(label.record, label.storage_id, _written), _written)
        counted = serving.configuration.sent | serving.configuration.targets
        for each in members_in(mirror.members, counted):
            each.resolved = record  # its label may be about to get that one
        reason = f"a person has chosen the history of {member.name}"
        mirror.start_again(reason, IncarnationChanged(f"{reason}: {mirror.name} does not hold what it held"))
        if mirror.starter is not None:
            mirror.starter.choose(member.name)

    def _resolve_start(self, starter: Starter, member: Member) -> None:
        label = _found(member)
        kept = starter.kept
        if label is None or (kept is not None and kept.storage_id != label.storage_id):
            raise InvalidRequest(f"{member.name} has no history of {self._mirror.name} that could be read yet")
        others = self._of_other_lines(label.record, label.storage_id, _found)
        one_line = not others and (kept is None or lineage(kept.record, label.record) is not Lineage.DIVERGED)
        if one_line and not starter.chosen:
            raise InvalidRequest(f"{self._mirror.name} has one history only; nothing was changed")
        self._give_up(others, _found)
        starter.choose(member.name)

    def _of_other_lines(
        self, record: Record, storage_id: bytes, label_of: Callable[[Member | Witness], Label | None]
    ) -> list[Member | Witness]:
        """Members and witnesses whose label was seen and tells of another history than C{record}."""
        holders: list[Member | Witness] = [*self._mirror.members, *self._mirror.witnesses]
        return [
            holder
            for holder in holders
            if (label := label_of(holder)) is not None
            and label.storage_id == storage_id
            and lineage(label.record, record) is Lineage.DIVERGED
        ]

    def _give_up(
        self, others: Iterable[Member | Witness], label_of: Callable[[Member | Witness], Label | None]
    ) -> None:
        """What they have, as far as it was seen, may be lost."""
        for other in others:
            label = label_of(other)
            assert label is not None
            _log.warn("{other}: a person has given its history up", other=other.name)
            other.resolved = label.record
