"""
Reading and writing the label on a member's media, in the order that survives a power cut at every step.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import DeferredLock

from dst.errors import BadMedia, Unavailable
from dst.interfaces import IBlockDevice
from dst.label.format import FoundLabel, Label, Record, encode_slot, find_label
from dst.label.lineage import Lineage, lineage
from dst.label.zone import LABELS_BYTES, Zone, label_offset

__all__ = ["LabelStore"]


class LabelStore:
    """
    The two label slots of one member.

    Writes are done one after the other.
    """

    def __init__(self, device: IBlockDevice) -> None:
        self._device = device
        self._slot = 1
        self._writing = DeferredLock()
        self.label: Label | None = None
        self._moving = False

    async def read(self, old_sizes: Iterable[int] = ()) -> FoundLabel:
        """
        What the media says of itself.

        @param old_sizes: sizes that the media may have had: where it has grown since, its label
            stands where it ended then, and it must not be taken for new media.
        """
        size = self._device.geometry.size
        found = FoundLabel(None)
        for media_size in [size, *sorted({old for old in old_sizes if old < size}, reverse=True)]:
            at = label_offset(media_size)
            if at < 0:
                continue
            both = await self._device.read(at, LABELS_BYTES)
            here = find_label(bytes(both))
            if media_size != size and (here.label is None or here.label.media_size != media_size):
                continue  # inside what is data now, only a label that says it belongs here is one
            if here.label is not None:
                found = here
                break
            found = here  # where it is damaged, it may be one that was on its way here from an old end
        self._slot = found.slot
        self.label = found.label
        return found

    async def write(self, label: Label) -> None:
        """
        Make C{label} the media's.  When this returns it is stable in both slots, and at every moment before one
        slot was whole.  Where there is a label of this member it stays at its place, whatever C{label} says of that.
        """
        await self._writing.acquire()
        try:
            self._check_place()
            own = self.label
            if own is not None and own.storage_id == label.storage_id and _is_newer(own.record, label.record):
                label = label.evolve(record=own.record)  # one that came while this waited for its turn
            if own is not None and (own.storage_id, own.node_id) == (label.storage_id, label.node_id):
                label = label.evolve(media_size=own.media_size, zone_offset=own.zone_offset)
            await self._write(label)
        finally:
            self._writing.release()

    async def set_record(self, record: Record, *, resolved: bool = False) -> None:
        """
        As L{write}, with the label that is there and another record; nothing is done if it has a newer one.

        @param resolved: a person has said that another history than that of C{record} is to be lost.
        @raise Unavailable: there is no label, or it is not known where it stands.
        @raise BadMedia: it tells of another history, which nobody has given up.
        """
        await self._writing.acquire()
        try:
            self._check_place()
            if self.label is None:
                raise Unavailable("there is no label to keep a record in")
            known = lineage(self.label.record, record)
            if known is Lineage.DIVERGED and not resolved:
                raise BadMedia("its label tells of another history of the storage; nothing was overwritten")
            if known in (Lineage.ANCESTOR, Lineage.DIVERGED):
                await self._write(self.label.evolve(record=record))
        finally:
            self._writing.release()

    async def move(self, zone: Zone, data_size: int) -> None:
        """
        Put the label at the end of media that has grown, where C{zone} is; the table must stand there already.

        When this fails the label may be at either place, or at both: nothing can be written through this object any
        more, and nobody may go on with the table at either place before the media was read again.

        @param data_size: what the member is to have room for.
        """
        await self._writing.acquire()
        try:
            self._check_place()
            assert self.label is not None and zone.media_size > self.label.media_size
            old = label_offset(self.label.media_size)
            self._slot, self._moving = 1, True
            await self._write(
                self.label.evolve(media_size=zone.media_size, zone_offset=zone.offset, data_size=data_size)
            )
            # The media may grow again, and then it must not be found before the one that counts.
            await self._device.write_zeroes(old, LABELS_BYTES, fua=True)
            self._moving = False
        finally:
            self._writing.release()

    def _check_place(self) -> None:
        if self._moving:
            raise Unavailable("its label was being moved when it failed; where it stands has to be read again")

    async def _write(self, label: Label) -> None:
        zone = Zone.at_end_of(label.media_size, label.region_size)
        sequence = self.label.sequence if self.label is not None else 0
        for _ in range(2):
            slot = 1 - self._slot
            sequence += 1
            stamped = label.evolve(sequence=sequence)
            await self._device.write(zone.slot_offset(slot), encode_slot(stamped), fua=True)
            # Only now: after a failed write the same slot is written again, the other one is the whole one.
            self._slot, self.label = slot, stamped


def _is_newer(own: Record, record: Record) -> bool:
    """C{own} came of C{record}. One of another history has been judged by whoever writes over it."""
    return lineage(own, record) is Lineage.DESCENDANT
