"""
The invariant, judged from the bytes on media alone: two members whose entries for a region are cold with equal ages
have equal, stable content there.

The region table is read here as its specification says, not with the code that is being checked.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from attrs import frozen
from crc32c import crc32c

from dst.label.format import Label, find_label
from dst.label.zone import LABELS_BYTES, Zone, label_offset
from dst.testing.media import SimulatedMedia
from test.scenarios.checker import Wrong

__all__ = ["Entry", "check_invariant", "what_stands_on"]

_PAGE_BYTES = 4096
_ENTRIES = 254


@frozen
class Entry:
    """One region's entry; an age of C{(0, 0)} equals nothing."""

    age: tuple[int, int]
    hot: bool


def what_stands_on(media: SimulatedMedia, ends: Sequence[int] = ()) -> tuple[Label, list[Entry]] | None:
    """
    The label and the region table on C{media}; C{None} when it has no label, or that of a witness.

    @param ends: where the media may have ended before.
    """
    label = None
    for size in (media.size, *ends):
        at = label_offset(size)
        found = find_label(media.read(at, LABELS_BYTES)).label if at >= 0 else None
        if found is not None and found.media_size == size:
            label = found
            break
    if label is None or not label.data_size:
        return None
    zone = Zone.at_end_of(label.media_size, label.region_size)
    regions = min(-(-label.record.data_size // label.region_size), zone.pages * _ENTRIES)
    entries: list[Entry] = []
    for page in range(-(-regions // _ENTRIES)):
        count = min(_ENTRIES, regions - page * _ENTRIES)
        images = [media.read(zone.page_offset(page, slot), _PAGE_BYTES) for slot in (0, 1)]
        whole = [image for image in images if _is_whole(image, page, label.storage_id)]
        if not whole:
            entries += [Entry((0, 0), True)] * count
            continue
        newest = max(whole, key=lambda image: struct.unpack_from("<Q", image, 16)[0])
        known = min(count, struct.unpack_from("<I", newest, 12)[0])
        for tag, number, flags in struct.iter_unpack("<QII", newest[32 : 32 + 16 * known]):
            entries.append(Entry((tag, number), bool(flags & 1)))
        entries += [Entry((0, 0), True)] * (count - known)
    return label, entries


def _is_whole(image: bytes, page: int, storage_id: bytes) -> bool:
    magic, checksum, at, entries, _, storage = struct.unpack_from("<4sIIIQ8s", image)
    if magic != b"DSTR" or at != page or entries > _ENTRIES or storage != storage_id[:8]:
        return False
    return bool(crc32c(image[8:], crc32c(bytes(4), crc32c(image[:4]))) == checksum)


def check_invariant(media: Sequence[SimulatedMedia], describe: Callable[[], str], ends: Sequence[int] = ()) -> None:
    """
    @param ends: where media may have ended before.
    @raise Wrong: two members look equal and are not.
    """
    standing = [what_stands_on(each, ends) for each in media]
    for i, one in enumerate(standing):
        for j, other in enumerate(standing[:i]):
            if one is None or other is None or one[0].storage_id != other[0].storage_id:
                continue
            for region, (mine, theirs) in enumerate(zip(one[1], other[1], strict=False)):
                if mine.hot or theirs.hot or mine.age != theirs.age or mine.age == (0, 0):
                    continue
                first = region * one[0].region_size
                size = min(one[0].record.data_size, other[0].record.data_size)
                length = min(one[0].region_size, size - first)
                _check_equal(media[i], media[j], f"n{i} and n{j}: region {region}", first, length, describe)


def _check_equal(
    one: SimulatedMedia, other: SimulatedMedia, what: str, first: int, length: int, describe: Callable[[], str]
) -> None:
    if one.read(first, length) != other.read(first, length):
        raise Wrong(f"{what} is cold with equal ages and differs: {describe()}")
    touched = any(
        write.offset < first + length and first < write.offset + write.length
        for media in (one, other)
        for write in media.unflushed
    )
    if touched and one.read_stable(first, length) != other.read_stable(first, length):
        raise Wrong(f"{what} is cold with equal ages and not stable: {describe()}")
