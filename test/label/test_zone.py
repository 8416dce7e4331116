"""Tests of L{dst.label.zone}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.geometry import SIZE_BYTES_MAX
from dst.label.zone import (
    ENTRIES_PER_PAGE,
    LABELS_BYTES,
    PAGE_BYTES,
    REGIONS_MAX,
    SLOT_BYTES,
    Zone,
    default_region_size,
    label_offset,
)
from test.label.examples import LABEL, MEDIA_BYTES, REGION_BYTES

sizes = st.integers(0, SIZE_BYTES_MAX) | st.integers(0, 1 << 24)


class ZoneTests(SynchronousTestCase):
    """The zone is at the end, and nothing in it overlaps."""

    def test_example(self) -> None:
        """The zone of the worked example is where its label says."""
        zone = Zone.at_end_of(MEDIA_BYTES, REGION_BYTES)
        self.assertEqual(LABEL.zone_offset, zone.offset)
        self.assertEqual(1, zone.pages)
        self.assertEqual((1_040_384, 1_044_480), (zone.page_offset(0, 0), zone.page_offset(0, 1)))
        self.assertEqual((1_048_576, 1_081_344), (zone.slot_offset(0), zone.slot_offset(1)))
        self.assertEqual(MEDIA_BYTES, zone.slot_offset(1) + SLOT_BYTES)

    @given(sizes, st.sampled_from([0, *(1 << n for n in range(16, 31))]))
    def test_parts(self, size: int, region_size: int) -> None:
        """Table 0, table 1, label 0 and label 1 follow each other up to the end, each aligned to a page."""
        zone = Zone.at_end_of(size, region_size)
        self.assertEqual(zone.label_offset, zone.offset + 2 * zone.pages * PAGE_BYTES)
        self.assertEqual(zone.slot_offset(1), zone.slot_offset(0) + SLOT_BYTES)
        self.assertEqual(0, zone.offset % PAGE_BYTES)
        self.assertTrue(0 <= size - zone.slot_offset(1) - SLOT_BYTES < PAGE_BYTES)
        self.assertEqual(max(0, zone.offset), zone.capacity)
        if zone.pages:
            last = zone.pages - 1
            self.assertEqual(zone.offset, zone.page_offset(0, 0))
            self.assertEqual(zone.page_offset(0, 1), zone.page_offset(last, 0) + PAGE_BYTES)
            self.assertEqual(zone.label_offset, zone.page_offset(last, 1) + PAGE_BYTES)
        if region_size:
            self.assertGreaterEqual(zone.pages * ENTRIES_PER_PAGE, zone.regions_of(zone.capacity))

    @given(sizes, sizes)
    def test_label_place(self, size: int, other: int) -> None:
        """The labels' place follows from the size alone, and media of another size has it elsewhere."""
        self.assertEqual(label_offset(size), Zone.at_end_of(size, 1 << 20).label_offset)
        if size // PAGE_BYTES != other // PAGE_BYTES:
            self.assertNotEqual(label_offset(size), label_offset(other))

    def test_too_small(self) -> None:
        """Media without room for the labels has a place below 0 and no capacity."""
        self.assertLess(label_offset(LABELS_BYTES - 1), 0)
        self.assertEqual(0, label_offset(LABELS_BYTES))
        self.assertEqual(0, Zone.at_end_of(LABELS_BYTES, 1 << 16).capacity)
        self.assertEqual(0, Zone.at_end_of(100, 0).capacity)

    @given(sizes)
    def test_default_region_size(self, size: int) -> None:
        """Regions are 1 MiB, or as much larger as the table's limit demands and not twice that."""
        region_size = default_region_size(size)
        self.assertEqual(0, region_size & (region_size - 1))
        self.assertLessEqual(size, region_size * REGIONS_MAX)
        self.assertTrue(region_size == 1 << 20 or size > region_size // 2 * REGIONS_MAX)

    def test_regions(self) -> None:
        """The last region may be a part of one; without a table there are none."""
        zone = Zone.at_end_of(MEDIA_BYTES, REGION_BYTES)
        self.assertEqual([0, 1, 1, 2], [zone.regions_of(size) for size in (0, 1, REGION_BYTES, REGION_BYTES + 4096)])
        self.assertEqual(0, Zone.at_end_of(MEDIA_BYTES, 0).regions_of(12345))
