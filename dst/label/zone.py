"""
Where DST's own zone is on a member.

Data starts at offset 0, so that one copy can be mounted alone; the zone is at
the B{end}, in units of 4 KiB::

    0                       data_size .. zone.offset                        media
    | data                  | unused | table 0 | table 1 | label 0 | label 1 |

Both labels stand at a place that follows from the media's size alone.  Values
in, values out.
"""

from __future__ import annotations

from attrs import frozen

from dst.geometry import align_down, align_up

__all__ = [
    "ENTRIES_PER_PAGE",
    "LABELS_BYTES",
    "PAGE_BYTES",
    "REGIONS_MAX",
    "REGION_BYTES_MIN",
    "SLOT_BYTES",
    "Zone",
    "default_region_size",
    "label_offset",
]

PAGE_BYTES = 4096
"""The unit in which the zone is written: what disks write without a read, and the largest block size of a member."""

SLOT_BYTES = 32 * 1024
"""One label slot: room for the records of 256 members with the longest names."""

LABELS_BYTES = 2 * SLOT_BYTES

ENTRIES_PER_PAGE = 254
"""16-byte entries that fit behind the 32-byte header of a page."""

REGION_BYTES_MIN = 64 * 1024
"""Below this the table costs more than the copying it saves."""

REGIONS_MAX = 1 << 20
"""Keeps a member's table below 16 MiB in memory and 32 MiB on the media, whatever its size."""

_DEFAULT_REGION_BYTES = 1024 * 1024


def default_region_size(media_size: int) -> int:
    """1 MiB, or the power of two that keeps the table of this media within L{REGIONS_MAX}."""
    size = _DEFAULT_REGION_BYTES
    while media_size > size * REGIONS_MAX:
        size *= 2
    return size


def label_offset(media_size: int) -> int:
    """
    Where label slot 0 starts on media of this size; slot 1 follows it.  Negative: too small for a label.
    """
    return align_down(media_size, PAGE_BYTES) - LABELS_BYTES


@frozen
class Zone:
    """
    The places of one member's zone.

    @ivar media_size: bytes of the whole media.
    @ivar offset: where table slot 0 starts, and the end of what can be data.
    @ivar pages: table pages in one slot; 0 where the algorithm keeps no table.
    @ivar region_size: bytes; 0 where there is no table.
    """

    media_size: int
    offset: int
    pages: int
    region_size: int

    @classmethod
    def at_end_of(cls, media_size: int, region_size: int) -> Zone:
        """
        The zone of media of C{media_size} bytes.

        @param region_size: a power of two, or 0 for a zone without a table.
        """
        regions = -(-media_size // region_size) if region_size else 0
        pages = -(-regions // ENTRIES_PER_PAGE)
        return cls(media_size, label_offset(media_size) - 2 * pages * PAGE_BYTES, pages, region_size)

    @property
    def capacity(self) -> int:
        """Bytes of data the media can hold before the zone; 0 when it is too small."""
        return max(0, self.offset)

    @property
    def label_offset(self) -> int:
        """Where label slot 0 starts."""
        return label_offset(self.media_size)

    def slot_offset(self, slot: int) -> int:
        """Where label C{slot} starts."""
        return self.label_offset + slot * SLOT_BYTES

    def page_offset(self, page: int, slot: int) -> int:
        """Where table C{page} stands in table C{slot}."""
        assert 0 <= page < self.pages, page
        return self.offset + (slot * self.pages + page) * PAGE_BYTES

    def regions_of(self, data_size: int) -> int:
        """How many regions C{data_size} bytes of data have."""
        return align_up(data_size, self.region_size) // self.region_size if self.region_size else 0
