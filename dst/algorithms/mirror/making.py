"""
A new storage.
"""

from __future__ import annotations

from twisted.logger import Logger

from dst.algorithms.mirror.ground import Ground, Started
from dst.algorithms.mirror.member import Member
from dst.algorithms.mirror.owning import fenced
from dst.algorithms.mirror.witness import Witness
from dst.errors import Fenced, InvalidRequest, Unavailable
from dst.geometry import align_down
from dst.label.format import Epoch, FoundLabel, Label, MemberEntry, Record, Vote
from dst.label.region_table import FIRST_AGE, RegionTable
from dst.label.zone import PAGE_BYTES, REGIONS_MAX, Zone, default_region_size
from dst.recovery.label_store import LabelStore
from dst.recovery.table_store import TableStore

__all__ = ["Maker"]

_log = Logger()


class Maker:
    """Makes a storage of members that belong to none."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def make(self, first: Member) -> Started:
        """
        A storage of C{first} alone, with its label as the one step that makes it; the others then come as new media.
        Whenever this is interrupted there is no storage yet, or there is one whose only source is known.

        C{first}'s regions get an age at once: nobody else can have it, so it says no more than the record does,
        and a member that missed nothing since needs no copying later.
        """
        sizes = [member.node.geometry.size for member in self._ground.members]
        region_size = self._ground.region_size or default_region_size(max(sizes))
        if max(sizes) > region_size * REGIONS_MAX:
            raise InvalidRequest(
                f"with regions of {region_size} bytes the table would be too large; use a larger one"
            )
        capacity = min(Zone.at_end_of(size, region_size).capacity for size in sizes)
        data_size = align_down(capacity, PAGE_BYTES)
        await self._claim()
        ownership = self._ground.ownership
        claim = ownership.claim
        for member in self._ground.members:
            member.node_id = self._ground.entropy(16) if member is first else b""
        first.incarnation = first.node.incarnation
        entry = MemberEntry(
            first.node_id, first.incarnation, first.index, first.name, media_size=first.node.geometry.size
        )
        first_fence = fenced(first.node)
        votes: tuple[Vote, ...] = ()
        if first_fence is not None and (self._ground.votes_of_members or ownership.own_vote is None):
            votes = (Vote(first.node_id, first_fence.fence, first.name),)
        elif ownership.own_vote is not None:
            votes = (ownership.own_vote,)
        record = Record(claim, 1, self._ground.entropy(16), (entry,), votes=votes, data_size=data_size)
        storage_id = self._ground.entropy(16)
        label = Label(
            0, storage_id, b"", self._ground.algorithm, 0, True, Epoch(), 0, 0, data_size, region_size, 0, record
        )
        _log.info("a new storage of {size} bytes on {n} members", size=data_size, n=len(self._ground.members))
        await self._label(first, label, Epoch(claim.tag, FIRST_AGE))
        await self._ground.store.store(label.evolve(node_id=claim.owner))
        return Started(label, frozenset(), (first,))

    async def _claim(self) -> None:
        """A storage is made of members that nobody else can be making one of."""
        ownership = self._ground.ownership
        await ownership.claim_all(0, [*self._ground.members, *[w for w in self._ground.witnesses if _is_free(w)]])
        refused = [member for member in self._ground.members if not member.granted]
        if refused:
            promise = ownership.promises.get(refused[0].name)
            who = promise.owner_name if promise is not None else ""
            await ownership.give_back()
            raise Fenced(f"{refused[0].name} is promised to {who or 'another daemon'}; no storage is made of it")
        for member in self._ground.members:
            if fenced(member.node) is not None and not (await LabelStore(member.device).read()).unlabelled:
                await ownership.give_back()
                raise Unavailable(f"{member.name} was labelled by another daemon meanwhile")

    async def _label(self, member: Member, label: Label, age: Epoch) -> None:
        assert member.labels is not None
        size = member.node.geometry.size
        zone = Zone.at_end_of(size, label.region_size)
        table = RegionTable(zone.regions_of(label.data_size), label.storage_id)
        table.fill(age)
        member.tables = TableStore(member.device, zone, table)
        await member.tables.create()
        own = label.evolve(
            node_id=member.node_id,
            place=member.index,
            media_size=size,
            zone_offset=zone.offset,
        )
        await member.labels.write(own)
        member.found = FoundLabel(member.labels.label)


def _is_free(witness: Witness) -> bool:
    """It was read, and is no other storage's; whoever cannot be claimed now is admitted later."""
    return witness.ready and witness.found is not None and witness.found.label is None
