"""Tests of L{dst.recovery.table_store}."""

from __future__ import annotations

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DSTError, IncarnationChanged, MediaError, Unavailable
from dst.label.format import Epoch
from dst.label.region_table import RegionTable
from dst.label.zone import ENTRIES_PER_PAGE, PAGE_BYTES, REGION_BYTES_MIN, Zone
from dst.recovery.label_store import LabelStore
from dst.recovery.table_store import TableStore
from dst.testing import FaultyDevice, SimulatedDisk, SimulatedMedia
from test.label.examples import LABEL, STORAGE_ID

PAGES = 3
MEDIA_BYTES = PAGES * ENTRIES_PER_PAGE * REGION_BYTES_MIN
ZONE = Zone.at_end_of(MEDIA_BYTES, REGION_BYTES_MIN)
REGIONS = ZONE.regions_of(ZONE.capacity)
AGE, NEWER = Epoch(7, 1), Epoch(7, 2)


def on_page(page: int, entry: int = 0) -> int:
    """A region whose entry stands there."""
    return page * ENTRIES_PER_PAGE + entry


class TableStoreCase(SynchronousTestCase):
    """A table of three pages on a device that may misbehave."""

    def setUp(self) -> None:
        self.media = SimulatedMedia(MEDIA_BYTES)
        self.store = self.opened()
        self.store.table.fill(AGE)
        self.successResultOf(Deferred.fromCoroutine(self.store.create()))
        self.device.history.clear()

    def opened(self) -> TableStore:
        """A store of the media's table that has read nothing yet."""
        clock = Clock()
        self.device = FaultyDevice(clock, SimulatedDisk(clock, "d", self.media))
        self.device.open()
        return TableStore(self.device, ZONE, RegionTable(REGIONS, STORAGE_ID))

    def loaded(self) -> TableStore:
        """A store that has."""
        store = self.opened()
        self.assertEqual(0, self.successResultOf(Deferred.fromCoroutine(store.load())))
        return store

    def kinds(self) -> list[str]:
        """What the device was asked for."""
        return [operation.kind + " fua" * operation.fua for operation in self.device.history]

    def mark(self, *regions: int) -> Deferred[None]:
        """Regions are hot, and that shall be stable."""
        for region in regions:
            self.store.table.mark(region)
        return self.store.stabilise(regions)


class WholeTableTests(TableStoreCase):
    """Making and reading all of it."""

    def test_create(self) -> None:
        """A new table is stable, and says what it was made with."""
        self.media.lose_unflushed("none")
        table = self.loaded().table
        self.assertEqual([], list(table.hot_regions()))
        self.assertEqual({AGE}, {table.age(region) for region in range(REGIONS)})

    def test_create_over_another(self) -> None:
        """Nothing of a table that stood there before is read, however high its sequence was."""
        for _ in range(5):
            self.successResultOf(self.mark(*(on_page(page) for page in range(PAGES))))
        store = self.opened()
        self.successResultOf(Deferred.fromCoroutine(store.create()))
        table = self.loaded().table
        self.assertEqual([], list(table.hot_regions()))
        self.assertEqual({Epoch()}, {table.age(region) for region in range(REGIONS)})

    def test_large(self) -> None:
        """A table of more pages than one write carries is made and read in several."""
        size = 300 * ENTRIES_PER_PAGE * REGION_BYTES_MIN
        clock = Clock()
        disk = FaultyDevice(clock, SimulatedDisk(clock, "d", SimulatedMedia(size)))
        disk.open()
        zone = Zone.at_end_of(size, REGION_BYTES_MIN)
        store = TableStore(disk, zone, RegionTable(zone.regions_of(zone.capacity), STORAGE_ID))
        store.table.fill(AGE)
        store.table.mark(299 * ENTRIES_PER_PAGE)
        self.successResultOf(Deferred.fromCoroutine(store.create()))
        self.assertEqual(2, disk.counts["write"])
        again = TableStore(disk, zone, RegionTable(store.table.regions, STORAGE_ID))
        self.assertEqual(0, self.successResultOf(Deferred.fromCoroutine(again.load())))
        self.assertEqual([299 * ENTRIES_PER_PAGE], list(again.table.hot_regions()))
        self.assertEqual(AGE, again.table.age(0))

    def test_unusable_pages(self) -> None:
        """A page that is damaged in both slots is counted, and hot with age none; the others are as they were."""
        for slot in (0, 1):
            self.media.write(ZONE.page_offset(1, slot) + 40, b"?")
        store = self.opened()
        self.assertEqual(1, self.successResultOf(Deferred.fromCoroutine(store.load())))
        bad = range(on_page(1), on_page(2))
        self.assertEqual(list(bad), list(store.table.hot_regions()))
        self.assertEqual({Epoch()}, {store.table.age(region) for region in bad})
        self.assertEqual({AGE}, {store.table.age(region) for region in range(REGIONS) if region not in bad})

    def test_read_from_a_cache(self) -> None:
        """What an owner that was killed had written is made stable before it counts as the last stable image."""
        self.store.table.mark(0)
        self.successResultOf(self.store.write_behind([0]))
        self.loaded()
        self.media.lose_unflushed("none")
        self.assertEqual([0], list(self.loaded().table.hot_regions()))

    def test_lost_while_loading(self) -> None:
        """A member that loses what it had not flushed between the read and its flush is not believed."""
        store = self.opened()
        self.device.hold("flush")
        loading = Deferred.fromCoroutine(store.load())
        self.media.lose_unflushed("none")
        self.device.inner.refresh()  # type: ignore[attr-defined]
        self.device.clock.advance(0)  # type: ignore[attr-defined]
        self.device.release()
        self.failureResultOf(loading, IncarnationChanged)

    def test_unreadable(self) -> None:
        """An error of the media is told."""
        store = self.opened()
        self.device.fail_next("read", MediaError("worn out"))
        self.failureResultOf(Deferred.fromCoroutine(store.load()), MediaError)


class BatchTests(TableStoreCase):
    """Many marks, few writes."""

    def test_one_page_is_forced(self) -> None:
        """A mark alone costs one forced write and no flush of the whole member."""
        self.successResultOf(self.mark(5))
        self.assertEqual(["write fua"], self.kinds())
        self.media.lose_unflushed("none")
        self.assertEqual([5], list(self.loaded().table.hot_regions()))

    def test_many_pages_share_a_flush(self) -> None:
        """Marks on several pages cost one write for each page and one flush."""
        marked = [on_page(0), on_page(0, 9), on_page(1), on_page(2), on_page(2, 3)]
        self.successResultOf(self.mark(*marked))
        self.assertEqual(["write"] * 3 + ["flush"], self.kinds())
        self.media.lose_unflushed("none")
        self.assertEqual(marked, list(self.loaded().table.hot_regions()))

    def test_who_comes_meanwhile(self) -> None:
        """All who ask while a batch is under way are the next batch together, and wait for it."""
        self.device.hold("write flush")
        first = self.mark(on_page(0))
        later = [self.mark(on_page(page, entry)) for entry in range(1, 100) for page in range(PAGES)]
        self.assertEqual(["write fua"], self.kinds())
        self.device.release(1)
        self.successResultOf(first)
        self.assertEqual(["write fua"] + ["write"] * 3, self.kinds())
        self.device.release(3)
        self.assertEqual("flush", self.kinds()[-1])
        for each in later:
            self.assertNoResult(each)
        self.device.release(1)
        for each in later:
            self.successResultOf(each)
        self.assertEqual(5, len(self.kinds()))

    def test_one_image_of_a_page_at_a_time(self) -> None:
        """A page is not written while an image of it is under way, whoever asks and however often."""
        self.device.hold("write flush")
        waiting = [self.mark(on_page(0))]
        for entry in range(1, 30):
            waiting.append(self.mark(on_page(0, entry)))
            waiting.append(self.store.write_behind([on_page(0, entry)]))
            self.assertEqual(1, len(self.device.held))
            if not entry % 7:
                self.device.release(1)
        while self.device.held:
            self.device.release(1)
        for each in waiting:
            self.successResultOf(each)

    def test_write_behind(self) -> None:
        """What may become stable later is written and not flushed; a later flush covers it."""
        self.store.table.clear(1, NEWER)
        self.successResultOf(self.store.write_behind([1]))
        self.assertEqual(["write"], self.kinds())
        self.successResultOf(Deferred.fromCoroutine(self.store.flush()))
        self.media.lose_unflushed("none")
        self.assertEqual(NEWER, self.loaded().table.age(1))

    def test_unflushed_clear_is_lost_safely(self) -> None:
        """A clear that a power cut takes leaves the stable mark."""
        self.successResultOf(self.mark(1))
        self.store.table.clear(1, NEWER)
        self.successResultOf(self.store.write_behind([1]))
        self.media.lose_unflushed("none")
        table = self.loaded().table
        self.assertEqual((AGE, True), (table.age(1), table.is_hot(1)))

    def test_entry_of_now(self) -> None:
        """What is written is the entry as it is when the batch starts, not when it was asked for."""
        self.device.hold("write")
        first = self.mark(0)
        second = self.store.stabilise([on_page(1)])
        self.store.table.clear(on_page(1), NEWER)
        self.device.release()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(NEWER, self.loaded().table.age(on_page(1)))


class FailureTests(TableStoreCase):
    """The member does not do what it was told."""

    def test_one_page_of_several(self) -> None:
        """One write that fails fails the batch, after all of its writes have ended."""
        self.device.hold("write flush")
        self.device.fail_next("write", MediaError("worn out"))
        marked = self.mark(on_page(0), on_page(1), on_page(2))
        self.device.release(1)
        self.assertNoResult(marked)
        self.device.release(2)
        self.failureResultOf(marked, MediaError)
        self.assertNotIn("flush", self.kinds())

    def test_pages_are_written_again(self) -> None:
        """The pages of a batch that failed are in the next one, because nobody knows what stands there."""
        self.device.fail_next("write", MediaError("worn out"), skip=1)
        self.failureResultOf(self.mark(on_page(0), on_page(1)), MediaError)
        self.device.history.clear()
        self.successResultOf(self.mark(on_page(2)))
        self.assertEqual(["write"] * 3 + ["flush"], self.kinds())
        self.media.lose_unflushed("none")
        self.assertEqual([on_page(0), on_page(1), on_page(2)], list(self.loaded().table.hot_regions()))

    def test_who_waits_behind_a_failure(self) -> None:
        """Those who came meanwhile are served by the next batch, with what the first one owed."""
        self.device.hold("write")
        first = self.mark(on_page(0))
        second = self.mark(on_page(1))
        self.device.fail_next("write", MediaError("worn out"))
        self.device.release()
        self.failureResultOf(first, MediaError)
        self.successResultOf(second)
        self.assertEqual([on_page(0), on_page(1)], list(self.loaded().table.hot_regions()))

    def test_stable_image_survives_retries(self) -> None:
        """However often a write fails half done and is tried again, the last stable image is not touched."""
        self.successResultOf(self.mark(3))
        slots = []
        for _ in range(5):
            self.device.fail_next("write", Unavailable("a blip"), executed=True)
            self.failureResultOf(self.store.stabilise([3]), Unavailable)
            slots.append(self.device.history[-1].offset)
        self.assertEqual(1, len(set(slots)))
        self.media.write(slots[0], b"?" * PAGE_BYTES)
        self.assertEqual([3], list(self.loaded().table.hot_regions()))

    def test_failed_flush(self) -> None:
        """A flush that fails makes nothing stable, and says so."""
        self.device.fail_next("flush", MediaError("worn out"))
        self.failureResultOf(self.mark(on_page(0), on_page(1)), MediaError)

    def test_flush_after_a_failed_one(self) -> None:
        """A flush that succeeds after a failed one proves nothing: it fails, for marks and for everybody."""
        self.store.table.mark(0)
        self.successResultOf(self.store.write_behind([0]))
        self.device.fail_next("flush", MediaError("worn out"))
        self.failureResultOf(Deferred.fromCoroutine(self.store.flush()), MediaError)
        self.failureResultOf(Deferred.fromCoroutine(self.store.flush()), IncarnationChanged)
        self.failureResultOf(self.mark(on_page(0), on_page(1)), IncarnationChanged)
        self.failureResultOf(self.mark(on_page(0)), IncarnationChanged)

    def test_lost_under_a_forced_write(self) -> None:
        """The same where one page is forced: what else was written is gone."""
        self.media.lose_unflushed("none")
        self.device.inner.refresh()  # type: ignore[attr-defined]
        self.device.clock.advance(0)  # type: ignore[attr-defined]
        self.failureResultOf(self.mark(on_page(0)), IncarnationChanged)

    def test_away(self) -> None:
        """While the member is away every request fails at once, and none is forgotten."""
        self.device.pull()
        for page in range(PAGES):
            self.failureResultOf(self.mark(on_page(page)), Unavailable)
        self.device.plug_in()
        self.device.history.clear()
        self.successResultOf(self.mark(on_page(0, 1)))
        self.assertEqual(["write"] * 3 + ["flush"], self.kinds())


operations = st.one_of(
    st.tuples(st.just("mark"), st.integers(0, PAGES - 1), st.integers(0, 5)),
    st.tuples(st.just("clear"), st.integers(0, PAGES - 1), st.integers(0, 5)),
    st.tuples(st.just("release"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("fail"), st.integers(0, 2), st.just(0)),
)


class GrowingTests(TableStoreCase):
    """The table gets more entries, where it is or at the new end of its media."""

    MORE = 40 * ENTRIES_PER_PAGE * REGION_BYTES_MIN

    def setUp(self) -> None:
        super().setUp()
        self.labels = LabelStore(self.device)
        label = LABEL.evolve(media_size=MEDIA_BYTES, zone_offset=ZONE.offset, region_size=REGION_BYTES_MIN)
        self.successResultOf(Deferred.fromCoroutine(self.labels.write(label)))
        self.media.size = MEDIA_BYTES + self.MORE
        self.device.inner.refresh()  # type: ignore[attr-defined]
        self.zone = Zone.at_end_of(self.media.size, REGION_BYTES_MIN)
        self.regions = self.zone.regions_of(self.zone.capacity)
        self.device.history.clear()

    def move(self) -> Deferred[None]:
        moving = self.store.move(self.zone, self.regions, self.labels, self.zone.capacity)
        return Deferred.fromCoroutine(moving)

    def stands(self) -> RegionTable:
        """What whoever reads the media finds."""
        device = SimulatedDisk(Clock(), "d", self.media)
        device.open()
        labels = LabelStore(device)
        label = self.successResultOf(Deferred.fromCoroutine(labels.read([MEDIA_BYTES]))).label
        assert label is not None
        zone = Zone.at_end_of(label.media_size, REGION_BYTES_MIN)
        regions = min(self.regions, zone.pages * ENTRIES_PER_PAGE)
        store = TableStore(device, zone, RegionTable(regions, STORAGE_ID))
        self.successResultOf(Deferred.fromCoroutine(store.load(settle=False)))
        return store.table

    def check(self, table: RegionTable, *hot: int) -> None:
        """The old entries are as they were, but for marks, and new ones are hot with age none."""
        self.assertEqual(set(hot), {region for region in range(REGIONS) if table.is_hot(region)})
        self.assertTrue(all(table.age(region) == AGE for region in range(REGIONS)))
        news = range(REGIONS, table.regions)
        self.assertTrue(all(table.is_hot(region) and table.age(region) == Epoch() for region in news))

    def test_move(self) -> None:
        """It stands at the new end with more entries, and later marks are written there."""
        self.successResultOf(self.move())
        table = self.stands()
        self.assertEqual(self.regions, table.regions)
        self.check(table)
        self.successResultOf(self.mark(5))
        self.assertGreaterEqual(self.device.history[-1].offset, self.zone.offset)
        self.check(self.stands(), 5)

    def test_who_comes_meanwhile(self) -> None:
        """A batch under way is waited for, and requests wait until it has moved: none is lost."""
        self.device.hold("write")
        before = self.mark(1)
        done = self.move()
        meanwhile = self.mark(2, REGIONS - 1)
        self.assertEqual([ZONE.page_offset(0, 1)], [operation.offset for operation in self.device.held])
        self.device.release()
        for each in (before, done, meanwhile):
            self.successResultOf(each)
        self.check(self.stands(), 1, 2, REGIONS - 1)

    def test_every_failure(self) -> None:
        """
        Before its label is touched a failure changes nothing, and it goes on where it was; after that nothing is
        written any more, and what stands there is what it was.
        """
        outcomes = set()
        for kind in ("write", "write_zeroes", "flush"):
            for skip in range(9):
                self.setUp()
                self.device.flush_keeps = "all"
                self.device.fail_next(kind, MediaError("bad"), skip=skip, executed=skip % 2 == 0 and kind != "flush")
                failed: list[object] = []
                self.move().addErrback(failed.append)
                self.check(self.stands())
                if not failed:
                    continue
                outcomes.add((kind, self.store.lost))
                self.device.heal()
                marked: list[object] = []
                self.mark(7).addErrback(marked.append)
                if self.store.lost:
                    self.assertTrue(marked)
                    self.check(self.stands())
                elif kind != "flush":
                    self.assertEqual([], marked)
                    self.check(self.stands(), 7)
                    self.assertEqual(REGIONS, self.store.table.regions)
                    self.successResultOf(self.move())
                    self.check(self.stands(), 7)
        self.assertEqual(
            {("write", False), ("write", True), ("write_zeroes", False), ("write_zeroes", True), ("flush", False)},
            outcomes,
        )

    def test_left(self) -> None:
        """When the member has left meanwhile nothing is moved."""
        self.device.hold("write")
        self.mark(1).addErrback(lambda _: None)
        done = self.move()
        self.store.abandon()
        self.device.release()
        self.failureResultOf(done, Unavailable)
        self.assertEqual(REGIONS, self.store.table.regions)

    def test_extend(self) -> None:
        """Where the zone has room the entries are added, and are stable; a failure takes them back."""
        self.store.resize(REGIONS - ENTRIES_PER_PAGE - 3)
        self.device.fail_next("write", MediaError("bad"))
        self.failureResultOf(Deferred.fromCoroutine(self.store.extend(REGIONS)), MediaError)
        self.assertEqual(REGIONS - ENTRIES_PER_PAGE - 3, self.store.table.regions)
        self.successResultOf(Deferred.fromCoroutine(self.store.extend(REGIONS)))
        self.media.lose_unflushed("none")
        table = self.loaded().table
        fresh = [region for region in range(REGIONS) if table.is_hot(region)]
        self.assertEqual(list(range(REGIONS - ENTRIES_PER_PAGE - 3, REGIONS)), fresh)


class PowerCutTests(TableStoreCase):
    """Marks that were said to be stable are."""

    @given(st.lists(operations, max_size=40), st.integers(0, 2**32))
    @settings(deadline=None, max_examples=80, phases=[Phase.generate])
    def test_power_cut(self, wanted: list[tuple[str, int, int]], seed: int) -> None:
        """
        Marks, clears, writes that hang and fail in any order, then a power cut: what was told to be stable, and
        was not cleared since, is hot; and an entry that is cold has the age of a clear that was asked for.
        """
        self.setUp()
        self.device.hold("write flush")
        stable: dict[int, int] = {}
        changes: dict[int, int] = {}
        ages: dict[int, set[Epoch]] = {}

        def marked(_: None, region: int, change: int) -> None:
            if changes[region] == change:
                stable[region] = change

        for number, (what, which, entry) in enumerate(wanted):
            region = on_page(which % PAGES, entry)
            if what == "mark":
                change = changes[region] = changes.get(region, 0) + 1
                stable.pop(region, None)
                self.mark(region).addCallbacks(marked, lambda reason: reason.trap(DSTError), (region, change))
            elif what == "clear":
                changes[region] = changes.get(region, 0) + 1
                stable.pop(region, None)
                self.store.table.clear(region, Epoch(8, number + 1))
                ages.setdefault(region, set()).add(Epoch(8, number + 1))
                self.store.write_behind([region]).addErrback(lambda reason: reason.trap(DSTError))
            elif what == "release":
                self.device.release(which)
            else:
                self.device.fail_next("write", MediaError("worn out"), skip=which)
        self.media.randomness.seed(seed)
        self.device.power_cut("random")
        table = self.loaded().table
        for region in stable:
            self.assertTrue(table.is_hot(region), region)
        for region in range(REGIONS):
            self.assertIn(table.age(region), {AGE, *ages.get(region, ())})
            if region not in changes:
                self.assertFalse(table.is_hot(region))
