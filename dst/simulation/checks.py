"""
What must hold of the media, read from their bytes: labels, region tables and data.

None of this asks the storage anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen

from dst.errors import DSTError
from dst.label.format import Label, find_label
from dst.label.region_table import RegionTable
from dst.label.zone import LABELS_BYTES, PAGE_BYTES, Zone, label_offset
from dst.simulation.drives import Drive
from dst.simulation.world import WrongData

__all__ = ["Copy", "check_ages", "check_equal", "copies_on"]


@frozen
class Copy:
    """What a drive's bytes say that it is."""

    drive: Drive
    label: Label
    table: RegionTable | None


def copies_on(drives: Iterable[Drive]) -> dict[bytes, list[Copy]]:
    """The members of mirrors that stand on these drives, by storage."""
    found: dict[bytes, list[Copy]] = {}
    for drive in drives:
        label = _label_on(drive)
        if label is not None and label.region_size and label.data_size:
            found.setdefault(label.storage_id, []).append(Copy(drive, label, _table_on(drive, label)))
    return found


def _label_on(drive: Drive) -> Label | None:
    media = drive.media
    if media.size < LABELS_BYTES:
        return None
    try:
        return find_label(media.read(label_offset(media.size), LABELS_BYTES)).label
    except DSTError:
        return None


def _table_on(drive: Drive, label: Label) -> RegionTable:
    media = drive.media
    zone = Zone.at_end_of(label.media_size, label.region_size)
    table = RegionTable(zone.regions_of(label.data_size), label.storage_id)
    for page in range(table.pages):
        table.load_page(page, [media.read(zone.page_offset(page, slot), PAGE_BYTES) for slot in (0, 1)])
    return table


def check_ages(drives: Iterable[Drive]) -> int:
    """
    Two members whose entries for a region are cold with equal ages have equal, stable content there.

    @return: how many regions were compared.
    @raise WrongData: they have not.
    """
    compared = 0
    for copies in copies_on(drives).values():
        for one, other, region in _same_regions(copies):
            compared += 1
            size = one.label.region_size
            offset = region * size
            length = min(size, one.label.data_size - offset)
            _compare(one, other, offset, length, f"region {region} is cold with equal ages")
            for copy in (one, other):
                _check_stable(copy, offset, length, f"region {region} is cold with an age that another copy has")
    return compared


def _check_stable(copy: Copy, offset: int, length: int, why: str) -> None:
    media = copy.drive.media
    end = offset + length
    if not any(write.offset < end and offset < write.offset + write.length for write in media.unflushed):
        return
    if media.read_stable(offset, length) != media.read(offset, length):
        raise WrongData(f"{copy.drive.name}: {why}, and not stable")


def _same_regions(copies: list[Copy]) -> Iterator[tuple[Copy, Copy, int]]:
    for index, one in enumerate(copies):
        for other in copies[:index]:
            if one.table is None or other.table is None or one.table.regions != other.table.regions:
                continue
            for region in range(one.table.regions):
                if one.table.same(region, other.table):
                    yield one, other, region


def _compare(one: Copy, other: Copy, offset: int, length: int, why: str) -> None:
    left, right = one.drive.media.read(offset, length), other.drive.media.read(offset, length)
    if left != right:
        at = next(n for n in range(length) if left[n] != right[n])
        raise WrongData(
            f"{one.drive.name} and {other.drive.name}: {why} and the byte at {offset + at} differs "
            f"({left[at]:#x} and {right[at]:#x})"
        )


def check_equal(drives: Iterable[Drive]) -> int:
    """
    Every copy of a storage is the same, when all are in sync.

    @return: how many copies were compared with another one.
    @raise WrongData: two differ.
    """
    compared = 0
    for copies in copies_on(drives).values():
        for other in copies[1:]:
            compared += 1
            _compare(copies[0], other, 0, other.label.data_size, "both are in sync")
    return compared
