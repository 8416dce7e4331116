"""Tests of L{dst.label.region_table}."""

from __future__ import annotations

import random
from copy import deepcopy

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from dst.label.format import Epoch
from dst.label.region_table import PageImage, RegionTable
from dst.label.zone import ENTRIES_PER_PAGE, PAGE_BYTES
from dst.testing import SimulatedMedia
from dst.testing.media import SECTOR_BYTES
from test.label.examples import PAGE_AGES, PAGE_BYTES_SHOWN, STORAGE_ID

NONE = Epoch()
OLD, NEW = Epoch(0x99, 7), Epoch(0x1122334455667788, 3)

ages = st.sampled_from([NONE, OLD, NEW, Epoch(0x99, 8), Epoch(0, 7), Epoch(0x99, 0)])
entries = st.tuples(ages, st.booleans())

Entry = tuple[Epoch, bool]


def table_of(shown: list[Entry] | tuple[Entry, ...]) -> RegionTable:
    """A table with these entries."""
    table = RegionTable(len(shown), STORAGE_ID)
    for region, (age, hot) in enumerate(shown):
        table.set(region, age, hot=hot)
    return table


def entries_of(table: RegionTable) -> list[Entry]:
    """What a table says."""
    return [(table.age(region), table.is_hot(region)) for region in range(table.regions)]


def example_page() -> bytes:
    """The page of the worked example."""
    return PAGE_BYTES_SHOWN.ljust(PAGE_BYTES, b"\0")


class EntryTests(SynchronousTestCase):
    """Ages and hot flags."""

    def test_new(self) -> None:
        """A new table has no ages, and no age equals nothing: it is different from its own twin everywhere."""
        table = RegionTable(600, STORAGE_ID)
        self.assertEqual([(NONE, False)] * 600, entries_of(table))
        self.assertEqual(bytearray(b"\1" * 600), table.differences(RegionTable(600, STORAGE_ID)))
        self.assertEqual(3, table.pages)

    def test_mark_keeps_age(self) -> None:
        """A mark says that writes may be in flight and nothing of the age; a clear sets both."""
        table = table_of([(OLD, False)])
        table.mark(0)
        self.assertEqual([(OLD, True)], entries_of(table))
        table.clear(0, NEW)
        self.assertEqual([(NEW, False)], entries_of(table))

    @given(st.lists(entries, min_size=1, max_size=40), st.data())
    @settings(deadline=None)
    def test_differences(self, shown: list[Entry], data: st.DataObject) -> None:
        """Two tables are the same where both are cold with equal ages that are not none; nowhere else."""
        other = data.draw(st.lists(entries, min_size=len(shown), max_size=len(shown)))
        # Several pages: the middle one is equal and long, so that it is compared as a whole.
        middle = [(NEW, False)] * (2 * ENTRIES_PER_PAGE)
        mine, theirs = shown + middle + shown, other + middle + other
        expected = bytearray(
            not (a == b and not hot_a and not hot_b and a != NONE)
            for (a, hot_a), (b, hot_b) in zip(mine, theirs, strict=True)
        )
        one, two = table_of(mine), table_of(theirs)
        self.assertEqual(expected, one.differences(two))
        self.assertEqual(expected, two.differences(one))
        self.assertEqual(expected, bytearray(not one.same(region, two) for region in range(len(mine))))

    @given(st.lists(entries, max_size=600))
    @settings(deadline=None)
    def test_hot_regions(self, shown: list[Entry]) -> None:
        """All hot regions are told, ascending."""
        hot = [region for region, (_, is_hot) in enumerate(shown) if is_hot]
        self.assertEqual(hot, list(table_of(shown).hot_regions()))

    def test_fill(self) -> None:
        """A table can be made cold as of one age throughout."""
        table = table_of([(OLD, True), (NONE, False), (NEW, True)])
        table.fill(NEW)
        self.assertEqual([(NEW, False)] * 3, entries_of(table))

    def test_take_over(self) -> None:
        """A table can have another's entries; later changes of either are its own."""
        table, other = table_of([(NONE, False)] * 2), table_of([(OLD, True), (NEW, False)])
        table.take_over(other)
        self.assertEqual(entries_of(other), entries_of(table))
        table.mark(1)
        other.clear(0, NEW)
        self.assertEqual([(OLD, True), (NEW, True)], entries_of(table))
        self.assertEqual([(NEW, False), (NEW, False)], entries_of(other))


class PageTests(SynchronousTestCase):
    """One page as bytes."""

    def test_literal_bytes(self) -> None:
        """The page of the worked example has the bytes of the worked example."""
        table = table_of(PAGE_AGES)
        for _ in range(9):
            page, slot, sequence, image = table.next_image(0)
        self.assertEqual((0, 0, 9), (page, slot, sequence))
        self.assertEqual(example_page(), image)

    def test_read_literal_bytes(self) -> None:
        """Those bytes in either slot are the entries of the worked example."""
        for images in ([example_page(), bytes(PAGE_BYTES)], [bytes(PAGE_BYTES), example_page()]):
            table = RegionTable(3, STORAGE_ID)
            self.assertTrue(table.load_page(0, images))
            self.assertEqual(list(PAGE_AGES), entries_of(table))

    @given(st.lists(entries, min_size=1, max_size=300))
    @settings(deadline=None)
    def test_round_trip(self, shown: list[Entry]) -> None:
        """Every page that is written is read back."""
        written, read = table_of(shown), RegionTable(len(shown), STORAGE_ID)
        for page in range(written.pages):
            at, slot, _, image = written.next_image(page)
            self.assertEqual((page, PAGE_BYTES), (at, len(image)))
            self.assertTrue(read.load_page(page, [image, b"\xff" * PAGE_BYTES]))
            self.assertEqual(0, slot)
        self.assertEqual(shown, entries_of(read))

    def unusable(self, *images: bytes, page: int = 0, regions: int = 3) -> None:
        """Neither image is taken: its regions are hot with age none."""
        table = RegionTable(regions, STORAGE_ID)
        table.fill(NEW)
        self.assertFalse(table.load_page(page, images))
        first = page * ENTRIES_PER_PAGE
        of_page = range(first, min(regions, first + ENTRIES_PER_PAGE))
        expected = [(NONE, True) if region in of_page else (NEW, False) for region in range(regions)]
        self.assertEqual(expected, entries_of(table))

    def test_every_byte_flipped(self) -> None:
        """A page with any byte changed, and be it one that means nothing, is unusable."""
        good = example_page()
        for at in range(PAGE_BYTES):
            damaged = bytearray(good)
            damaged[at] ^= 1 << at % 8
            self.unusable(bytes(damaged), bytes(PAGE_BYTES))

    def test_truncated(self) -> None:
        """A page of which a part is missing is unusable, whatever stands in its place."""
        good = example_page()
        for length in range(PAGE_BYTES_SHOWN.rstrip(b"\0").__len__()):
            self.unusable(good[:length].ljust(PAGE_BYTES, b"\0"), good[:length].ljust(PAGE_BYTES, b"\xee"))
        for length in range(32, PAGE_BYTES, 97):
            self.unusable(good[:length], good[: length + 1])

    @given(st.binary(max_size=PAGE_BYTES), st.binary(max_size=PAGE_BYTES))
    @settings(deadline=None, max_examples=50)
    def test_random(self, one: bytes, two: bytes) -> None:
        """Noise is unusable, with the right header before it too."""
        if one.strip(b"\0"):
            self.unusable(one.ljust(PAGE_BYTES, b"\0"), two.ljust(PAGE_BYTES, b"\0"))
        if not PAGE_BYTES_SHOWN[32:].startswith(one):
            self.unusable((PAGE_BYTES_SHOWN[:32] + one).ljust(PAGE_BYTES, b"\0")[:PAGE_BYTES], bytes(PAGE_BYTES))

    def test_another_place(self) -> None:
        """A page that was written for another place, or another storage, is unusable here."""
        full = ENTRIES_PER_PAGE
        table = table_of([(NEW, False)] * (2 * full))
        first, second = table.next_image(0)[3], table.next_image(1)[3]
        self.unusable(second, second, regions=2 * full)
        self.unusable(first, first, page=1, regions=2 * full)
        stranger = RegionTable(3, STORAGE_ID[::-1])
        self.unusable(stranger.next_image(0)[3], bytes(PAGE_BYTES))

    def test_newest_whole(self) -> None:
        """The newer whole image counts, in whichever slot; a damaged one counts for nothing."""
        table = table_of([(OLD, False)])
        older = table.next_image(0)[3]
        table.clear(0, NEW)
        newer = table.next_image(0)[3]
        torn = newer[:SECTOR_BYTES] + older[SECTOR_BYTES : PAGE_BYTES - 1] + b"\1"
        for images, age in (
            ([older, newer], NEW),
            ([newer, older], NEW),
            ([older, torn], OLD),
            ([torn, older], OLD),
        ):
            read = RegionTable(1, STORAGE_ID)
            self.assertTrue(read.load_page(0, images))
            self.assertEqual([(age, False)], entries_of(read))


class ResizeTests(SynchronousTestCase):
    """A table that gets more regions, or was to get them."""

    def test_more(self) -> None:
        """New regions are hot with age none, and nothing else has changed."""
        shown = [(NEW, False), (OLD, True)]
        for regions in (3, ENTRIES_PER_PAGE, ENTRIES_PER_PAGE + 1, 600):
            table = table_of(shown)
            table.resize(regions)
            self.assertEqual([*shown, *[(NONE, True)] * (regions - 2)], entries_of(table))
            self.assertEqual(-(-regions // ENTRIES_PER_PAGE), table.pages)
            read = RegionTable(regions, STORAGE_ID)
            for page in range(table.pages):
                self.assertTrue(read.load_page(page, [table.next_image(page)[3], bytes(PAGE_BYTES)]))
            self.assertEqual(entries_of(table), entries_of(read))

    def test_fewer(self) -> None:
        """What was too much is gone, also when it comes again."""
        table = table_of([(NEW, False)] * 600)
        table.written(table.next_image(2))
        table.resize(3)
        self.assertEqual([(NEW, False)] * 3, entries_of(table))
        self.assertEqual({}, table.flush_begins())
        table.resize(600)
        self.assertEqual([(NEW, False)] * 3 + [(NONE, True)] * 597, entries_of(table))
        self.assertEqual((2, 0, 1), table.next_image(2)[:3])

    def test_written_when_smaller(self) -> None:
        """Regions that a page does not know are hot with age none."""
        image = table_of([(NEW, False)] * 2).next_image(0)[3]
        read = RegionTable(5, STORAGE_ID)
        read.fill(OLD)
        self.assertTrue(read.load_page(0, [image, bytes(PAGE_BYTES)]))
        self.assertEqual([(NEW, False)] * 2 + [(NONE, True)] * 3, entries_of(read))

    def test_written_for_more(self) -> None:
        """What a page knows beyond the last region does not count, and comes not back."""
        image = table_of([(NEW, False)] * 5).next_image(0)[3]
        read = RegionTable(2, STORAGE_ID)
        self.assertTrue(read.load_page(0, [image, bytes(PAGE_BYTES)]))
        self.assertEqual([(NEW, False)] * 2, entries_of(read))
        read.resize(5)
        self.assertEqual([(NEW, False)] * 2 + [(NONE, True)] * 3, entries_of(read))

    def test_elsewhere(self) -> None:
        """At another place every page stands in slot 0, newer than here; until it is stable there nothing changes."""
        table = table_of([(NEW, False)] * 300)
        for _ in range(3):
            table.written(table.next_image(0))
            table.flushed(table.flush_begins())
        images = table.images_elsewhere()
        self.assertEqual((0, 1, 4), table.next_image(0)[:3])
        images = table.images_elsewhere()
        table.stands_elsewhere()
        read = RegionTable(300, STORAGE_ID)
        for page, image in enumerate(images):
            self.assertTrue(read.load_page(page, [image, bytes(PAGE_BYTES)]))
        self.assertEqual(entries_of(table), entries_of(read))
        for each in (table, read):
            self.assertEqual((0, 1, 6), each.next_image(0)[:3])
            self.assertEqual((1, 1, 2), each.next_image(1)[:3])


class SlotTests(SynchronousTestCase):
    """Which slot the next image goes to."""

    def test_slot_does_not_follow_parity(self) -> None:
        """
        Two images in a row without a flush never overwrite the stable one: with the first of them lost and
        the second torn, the stable mark is read.
        """
        table = table_of([(OLD, False)])
        media = [bytes(PAGE_BYTES), bytes(PAGE_BYTES)]
        for _ in range(2):
            table.mark(0)
            image = table.next_image(0)
            media[image[1]] = image[3]
            table.written(image)
            table.flushed(table.flush_begins())
        lost = table.next_image(0)
        table.written(lost)
        torn = table.next_image(0)
        media[torn[1]] = torn[3][:SECTOR_BYTES] + b"?" * (PAGE_BYTES - SECTOR_BYTES)
        read = RegionTable(1, STORAGE_ID)
        self.assertTrue(read.load_page(0, media))
        self.assertEqual([(OLD, True)], entries_of(read))

    def test_until_stable(self) -> None:
        """Images go to one slot until a flush has made one stable, then to the other."""
        table = table_of([(OLD, False)])
        slots = []
        for flushed in (False, False, True, False, True, True, False):
            image = table.next_image(0)
            slots.append(image[1])
            table.written(image)
            if flushed:
                table.flushed(table.flush_begins())
        self.assertEqual([0, 0, 0, 1, 1, 0, 1], slots)

    def test_sequence(self) -> None:
        """The sequence goes up with every image, and goes on from the newest that was read."""
        table = table_of([(OLD, False)])
        images = [table.next_image(0) for _ in range(3)]
        self.assertEqual([1, 2, 3], [image[2] for image in images])
        read = RegionTable(1, STORAGE_ID)
        read.load_page(0, [images[0][3], images[2][3]])
        self.assertEqual((0, 4), read.next_image(0)[1:3])

    def test_flush_that_began_before(self) -> None:
        """A flush makes stable what had been written when it was asked for, and not what was written since."""
        table = table_of([(OLD, False)])
        image = table.next_image(0)
        early = table.flush_begins()
        table.written(image)
        table.flushed(early)
        self.assertEqual(image[1], table.next_image(0)[1])

    def test_written_again_during_flush(self) -> None:
        """An image that is overwritten while the flush runs is not stable when it ends."""
        table = table_of([(OLD, False)])
        first = table.next_image(0)
        table.written(first)
        covered = table.flush_begins()
        second = table.next_image(0)
        table.flushed(covered)
        self.assertEqual(first[1], second[1])
        table.written(second)
        table.flushed(covered)
        self.assertEqual(first[1], table.next_image(0)[1])

    def test_torn_table_page_each_slot(self) -> None:
        """
        B{torn-table-page-each-slot.}  Whichever slot is being written when the power goes, and whatever subset of
        its sectors arrives, the last stable image is read, or the new one.
        """
        for turn in range(1, 5):
            for kept in range(1 << PAGE_BYTES // SECTOR_BYTES):
                media = [bytes(PAGE_BYTES), bytes(PAGE_BYTES)]
                table = table_of([(NONE, False)] * ENTRIES_PER_PAGE)
                for number in range(1, turn + 1):
                    table.fill(Epoch(5, number))
                    image = table.next_image(0)
                    media[image[1]] = image[3]
                    table.written(image)
                    table.flushed(table.flush_begins())
                table.fill(Epoch(5, turn + 1))
                _, slot, _, new = table.next_image(0)
                media[slot] = b"".join(
                    (new if kept >> n & 1 else media[slot])[n * SECTOR_BYTES : (n + 1) * SECTOR_BYTES]
                    for n in range(PAGE_BYTES // SECTOR_BYTES)
                )
                read = RegionTable(ENTRIES_PER_PAGE, STORAGE_ID)
                self.assertTrue(read.load_page(0, media), (turn, kept))
                expected = turn + (media[slot] == new)
                self.assertEqual([(Epoch(5, expected), False)] * ENTRIES_PER_PAGE, entries_of(read))


REGIONS = 2 * ENTRIES_PER_PAGE
TOUCHED = (0, 1, ENTRIES_PER_PAGE - 1, ENTRIES_PER_PAGE, REGIONS - 1)
PAGES = (0, 1)

IN_EVERY_SECTOR = tuple(range(10, ENTRIES_PER_PAGE, SECTOR_BYTES // 16))
"""Entries that nobody looks at and that differ from image to image: a torn image is never whole by chance."""

FATES = 8
"""How many ways of losing the cache are looked at for each power cut."""

regions = st.sampled_from(TOUCHED)
pages = st.sampled_from(PAGES)


class TableModel(RuleBasedStateMachine):
    """
    A table on a disk that may lose its power at any moment.

    For every region the model keeps what its entry has been, oldest first, from the last one that is certain to be
    stable. What is read after a power cut must be one of these: then no mark that was stable and still needed
    is ever forgotten. A page that was stable once is always readable.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = RegionTable(REGIONS, STORAGE_ID)
        self.media = SimulatedMedia(2 * len(PAGES) * PAGE_BYTES)
        self.history: dict[int, list[Entry]] = {region: [(NONE, False)] for region in TOUCHED}
        self.stable_once = [False] * len(PAGES)
        self.readable = [False] * len(PAGES)
        self.under_way: dict[int, tuple[PageImage, dict[int, int]]] = {}
        self.written: dict[int, dict[int, int]] = {}
        self.flush: tuple[dict[int, tuple[int, int]], dict[int, dict[int, int]]] | None = None
        self.epoch = 0
        self.images = 0
        self.moments = dict.fromkeys(TOUCHED, 0)  # the index of history[region][0] since the beginning

    def changed(self, region: int) -> None:
        self.history[region].append((self.table.age(region), self.table.is_hot(region)))

    @rule(region=regions)
    def mark(self, region: int) -> None:
        self.table.mark(region)
        self.changed(region)

    @rule(region=regions)
    def clear(self, region: int) -> None:
        self.epoch += 1
        self.table.clear(region, Epoch(77, self.epoch))
        self.changed(region)

    def now(self, page: int) -> dict[int, int]:
        """At which moment of its history each region of a page is."""
        return {
            region: self.moments[region] + len(self.history[region]) - 1
            for region in TOUCHED
            if region // ENTRIES_PER_PAGE == page
        }

    def next_image(self, page: int) -> PageImage:
        self.images += 1
        for region in IN_EVERY_SECTOR:
            self.table.clear(page * ENTRIES_PER_PAGE + region, Epoch(78, self.images))
        return self.table.next_image(page)

    def put(self, image: PageImage, *, fua: bool = False) -> None:
        page, slot, _, data = image
        self.media.write((slot * len(PAGES) + page) * PAGE_BYTES, data, fua=fua)

    @rule(page=pages)
    def begin_write(self, page: int) -> None:
        if page not in self.under_way:
            image = self.next_image(page)
            self.under_way[page] = (image, self.now(page))
            self.written.pop(page, None)

    @rule(page=pages, fails=st.booleans(), seed=st.integers(0, 99))
    def end_write(self, page: int, fails: bool, seed: int) -> None:
        if page not in self.under_way:
            return
        image, moments = self.under_way.pop(page)
        self.put(image)
        if not fails:
            self.table.written(image)
            self.written[page] = moments
            return
        # The content of a failed write is unknown: some of its sectors are anything.
        for sector in random.Random(seed).sample(range(8), 3):
            at = (image[1] * len(PAGES) + page) * PAGE_BYTES + sector * SECTOR_BYTES
            self.media.write(at, b"?" * SECTOR_BYTES)

    @precondition(lambda self: self.flush is None)
    @rule()
    def begin_flush(self) -> None:
        self.flush = (self.table.flush_begins(), dict(self.written))
        self.media.flush()

    @precondition(lambda self: self.flush is not None)
    @rule(fails=st.booleans())
    def end_flush(self, fails: bool) -> None:
        assert self.flush is not None
        (covered, moments), self.flush = self.flush, None
        if fails:
            return
        self.table.flushed(covered)
        for page, at in moments.items():
            if self.written.get(page) is at:
                del self.written[page]
                self.became_stable(page, at)

    @rule(page=pages)
    def write_through(self, page: int) -> None:
        if page not in self.under_way:
            image = self.next_image(page)
            self.written.pop(page, None)
            self.put(image, fua=True)
            self.table.written(image)
            self.table.flushed({page: (image[1], image[2])})
            self.became_stable(page, self.now(page))

    def became_stable(self, page: int, moments: dict[int, int]) -> None:
        self.stable_once[page] = True
        for region, moment in moments.items():
            del self.history[region][: moment - self.moments[region]]
            self.moments[region] = moment

    @rule(page=pages)
    def write(self, page: int) -> None:
        if page not in self.under_way:
            self.begin_write(page)
            self.end_write(page, False, 0)

    @precondition(lambda self: self.flush is None)
    @rule()
    def whole_flush(self) -> None:
        self.begin_flush()
        self.end_flush(False)

    @rule(seed=st.integers(0, 2**32))
    def power_cut(self, seed: int) -> None:
        for image, _ in self.under_way.values():
            self.put(image)  # as much of it may have arrived as of any other
        before = deepcopy(self.media)
        for fate in range(seed, seed + FATES):
            self.media = deepcopy(before)
            self.media.randomness.seed(fate)
            self.media.lose_unflushed("random")
            self.check(self.load())
        self.begin_again()

    @rule(seed=st.integers(0, 2**32))
    def owner_killed(self, seed: int) -> None:
        for page in sorted(self.under_way):
            if seed >> page & 1:
                self.put(self.under_way[page][0])
        self.check(self.load())
        self.media.flush()  # as whoever loads a table does, before it writes to it
        self.begin_again()

    def load(self) -> list[bool]:
        """A new table reads the media; which pages were whole."""
        self.table = RegionTable(REGIONS, STORAGE_ID)
        found = []
        for page in PAGES:
            slots = [self.media.read((slot * len(PAGES) + page) * PAGE_BYTES, PAGE_BYTES) for slot in (0, 1)]
            found.append(self.table.load_page(page, slots))
        return found

    def check(self, whole: list[bool]) -> None:
        """What was read is what may have been there."""
        for region in TOUCHED:
            page = region // ENTRIES_PER_PAGE
            found = (self.table.age(region), self.table.is_hot(region))
            if whole[page]:
                assert found in self.history[region], (region, found, self.history[region])
            else:
                assert not self.stable_once[page], "a page that was stable once has been lost"
                assert found == (NONE, True), found
            self.readable[page] = whole[page]

    def begin_again(self) -> None:
        """What was read is stable now."""
        for region in TOUCHED:
            self.history[region] = [(self.table.age(region), self.table.is_hot(region))]
            self.moments[region] = 0
        self.stable_once = list(self.readable)
        self.under_way, self.written, self.flush = {}, {}, None

    @invariant()
    def says_what_was_said(self) -> None:
        for region in TOUCHED:
            assert (self.table.age(region), self.table.is_hot(region)) == self.history[region][-1]


class TableModelTests(SynchronousTestCase):
    """The table against a model."""

    def test_power_cuts(self) -> None:
        """
        After any power cut, with writes lost, torn, failed, under way and flushed in any order, no entry is older
        than the last one that was stable.
        """
        # Not made smaller when it fails: that takes minutes, and forty steps can be read.
        chosen = settings(max_examples=100, stateful_step_count=40, deadline=None, phases=[Phase.generate])
        run_state_machine_as_test(TableModel, settings=chosen)
