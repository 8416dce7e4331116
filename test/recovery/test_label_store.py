"""Tests of L{dst.recovery.label_store}."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import MediaError, Unavailable
from dst.label.format import FoundLabel, Label, encode_slot
from dst.label.zone import LABELS_BYTES, Zone, label_offset
from dst.recovery.label_store import LabelStore
from dst.testing import FaultyDevice, SimulatedDisk, SimulatedMedia
from dst.testing.media import SECTOR_BYTES
from test.label.examples import LABEL, MEDIA_BYTES, REGION_BYTES

OLD = LABEL.evolve(record=evolve(LABEL.record, sequence=5))
NEW = LABEL.evolve(record=evolve(LABEL.record, sequence=6))


def opened(media: SimulatedMedia) -> FaultyDevice:
    """A device on this media, ready."""
    clock = Clock()
    device = FaultyDevice(clock, SimulatedDisk(clock, "d", media))
    device.open()
    return device


class LabelStoreCase(SynchronousTestCase):
    """Media with a store on it."""

    def setUp(self) -> None:
        self.media = SimulatedMedia(MEDIA_BYTES)
        self.device = opened(self.media)
        self.store = LabelStore(self.device)

    def write(self, label: Label, store: LabelStore | None = None) -> None:
        self.successResultOf(Deferred.fromCoroutine((store or self.store).write(label)))

    def begin(self, label: Label) -> Deferred[None]:
        return Deferred.fromCoroutine(self.store.write(label))

    def found(self, *old_sizes: int) -> FoundLabel:
        """What a new store reads from the media."""
        store = LabelStore(opened(self.media))
        return self.successResultOf(Deferred.fromCoroutine(store.read(old_sizes)))

    def sequence(self) -> int | None:
        """That of the record that is read."""
        label = self.found().label
        return None if label is None else label.record.sequence


class LabelStoreTests(LabelStoreCase):
    """Reading and writing."""

    def test_blank(self) -> None:
        """Blank media is unlabelled, media too small for a label too."""
        self.assertTrue(self.found().unlabelled)
        self.media = SimulatedMedia(LABELS_BYTES - 1)
        self.assertTrue(self.found().unlabelled)

    def test_round_trip(self) -> None:
        """A label that was written is read back, with the sequence of the slot that was written last."""
        self.write(OLD)
        found = self.found()
        self.assertEqual(FoundLabel(OLD.evolve(sequence=2), 1), found)
        self.assertEqual(self.store.label, found.label)

    def test_both_slots_forced(self) -> None:
        """A write touches each slot once, each with its own forced write, the older first."""
        self.write(OLD)
        at = label_offset(MEDIA_BYTES)
        zone = Zone.at_end_of(MEDIA_BYTES, REGION_BYTES)
        self.device.history.clear()
        self.write(NEW)
        slots = [zone.slot_offset(0), zone.slot_offset(1)]
        self.assertEqual(slots[0], at)
        self.assertEqual(slots, [operation.offset for operation in self.device.history])
        self.assertEqual({("write", True)}, {(operation.kind, operation.fua) for operation in self.device.history})

    def test_older_slot_first(self) -> None:
        """A store that has read one whole slot writes the other one first."""
        self.write(OLD)
        zone = Zone.at_end_of(MEDIA_BYTES, REGION_BYTES)
        for bad in (0, 1):
            self.media.write(zone.slot_offset(bad) + 70, b"?")
            device = opened(self.media)
            store = LabelStore(device)
            self.successResultOf(Deferred.fromCoroutine(store.read()))
            device.history.clear()
            self.write(NEW, store)
            self.assertEqual(zone.slot_offset(bad), device.history[0].offset)

    def test_waits_for_each_slot(self) -> None:
        """The second slot is not touched before the first is stable, and the write ends after the second."""
        self.write(OLD)
        self.device.hold("write")
        done = self.begin(NEW)
        for n in (0, 1):
            self.assertNoResult(done)
            self.assertEqual(1, len(self.device.held), n)
            self.device.release(1)
        self.successResultOf(done)

    def test_failure(self) -> None:
        """A write that fails says so, and what is read then is the old label or the new one."""
        for skip, executed, expected in ((0, False, 5), (1, False, 6), (0, True, 6), (1, True, 6)):
            self.setUp()
            self.write(OLD)
            self.device.fail_next("write", MediaError("worn out"), skip=skip, executed=executed)
            self.failureResultOf(self.begin(NEW), MediaError)
            self.assertEqual(expected, self.sequence())

    def test_unreadable(self) -> None:
        """Media that cannot be read is not taken for blank."""
        self.device.fail_next("read", MediaError("worn out"))
        self.failureResultOf(Deferred.fromCoroutine(self.store.read()), MediaError)


class FailedWriteTests(LabelStoreCase):
    """A write that failed left its slot unknown."""

    def test_same_slot_again(self) -> None:
        """It is the one that is written again: the other is the only whole one."""
        for skip in (0, 1):
            self.setUp()
            self.write(OLD)
            self.device.fail_next("write", Unavailable("blip"), skip=skip)
            self.failureResultOf(self.begin(NEW), Unavailable)
            failed = self.device.history[-1].offset
            self.device.history.clear()
            self.write(NEW)
            self.assertEqual(failed, self.device.history[0].offset, skip)


class GrownMediaTests(LabelStoreCase):
    """Media that has grown since its label was written."""

    def grow(self) -> None:
        grown = SimulatedMedia(MEDIA_BYTES + 3 * REGION_BYTES)
        grown.write(0, self.media.read(0, MEDIA_BYTES))
        self.media = grown

    def test_found_at_old_end(self) -> None:
        """The label is looked for where the media may have ended."""
        self.write(OLD)
        self.grow()
        self.assertTrue(self.found().unlabelled)
        self.assertEqual(OLD.evolve(sequence=2), self.found(MEDIA_BYTES, 4 * MEDIA_BYTES, 100).label)

    def test_data_is_no_label(self) -> None:
        """Inside what may be data only a label that says it belongs there is one; a damaged one is not."""
        self.write(OLD.evolve(media_size=MEDIA_BYTES))
        self.grow()
        at = label_offset(MEDIA_BYTES)
        for copy in (encode_slot(OLD.evolve(media_size=MEDIA_BYTES * 2)), b"DSTLABEL" + b"?" * 500):
            self.media.write(at, bytes(LABELS_BYTES))
            self.media.write(at, copy)
            self.assertTrue(self.found(MEDIA_BYTES).unlabelled)

    def test_new_end_counts(self) -> None:
        """The label at the end of the media as it is now counts before any other."""
        self.write(OLD)
        self.grow()
        size = self.media.size
        zone = Zone.at_end_of(size, REGION_BYTES)
        self.write(NEW.evolve(media_size=size, zone_offset=zone.offset), LabelStore(opened(self.media)))
        label = self.found(MEDIA_BYTES).label
        self.assertEqual((6, size), (label and label.record.sequence, label and label.media_size))


class MoveTests(LabelStoreCase):
    """The label moves to the new end of media that has grown."""

    GREW = 8 * REGION_BYTES

    def setUp(self) -> None:
        super().setUp()
        members = tuple(evolve(LABEL.record.members[0], name=f"node-{n}" * 8, place=n) for n in range(30))
        self.old = OLD.evolve(record=evolve(OLD.record, members=members))
        self.write(self.old)
        self.media.write(MEDIA_BYTES, b"?" * self.GREW, fua=True)
        self.media.size += self.GREW
        self.device.inner.refresh()  # type: ignore[attr-defined]
        self.zone = Zone.at_end_of(self.media.size, REGION_BYTES)

    def moved(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.store.move(self.zone, 999_424))

    def where(self) -> int:
        """Where the next owner finds it, who knows where the media ended."""
        label = self.found(MEDIA_BYTES).label
        assert label is not None
        self.assertEqual(self.old.record, label.record)
        return label.media_size

    def test_move(self) -> None:
        """It stands at the new end then, and nowhere else; later writes go there, whatever they say."""
        self.successResultOf(self.moved())
        label = self.found().label
        assert label is not None
        self.assertEqual(
            (self.media.size, self.zone.offset, 999_424), (label.media_size, label.zone_offset, label.data_size)
        )
        self.assertEqual(bytes(LABELS_BYTES), self.media.read_stable(label_offset(MEDIA_BYTES), LABELS_BYTES))
        self.write(NEW)
        label = self.found().label
        assert label is not None
        self.assertEqual((self.media.size, NEW.record), (label.media_size, label.record))

    def test_every_await(self) -> None:
        """At each step, and with any part of it done, it is found, at one end or the other; in the end at the new."""
        seen = []
        for step in range(4):
            for seed in range(20):
                self.setUp()
                self.device.hold("write write_zeroes")
                done = self.moved()
                for _ in range(step):
                    self.device.release(1)
                if step < 3:
                    held = self.device.held[0]
                    self.tear(held.offset, held.length if held.kind == "write" else 0, seed)
                    self.device.drop_held(Unavailable("gone"))
                    self.failureResultOf(done, Unavailable)
                else:
                    self.successResultOf(done)
                seen.append((step, self.where() > MEDIA_BYTES))
        self.assertEqual({(0, False), (1, True), (2, True), (3, True)}, set(seen))

    def tear(self, offset: int, length: int, seed: int) -> None:
        """Some sectors of the label's write arrive, and not the first one alone."""
        self.media.randomness.seed(seed)
        image = encode_slot(self.old.evolve(media_size=self.media.size, zone_offset=self.zone.offset, sequence=3))
        for at in range(0, length, SECTOR_BYTES):
            if at == 0 or (at > SECTOR_BYTES and self.media.randomness.random() < 0.5):
                self.media.write(offset + at, image[at : at + SECTOR_BYTES], fua=True)

    def test_damaged_at_both(self) -> None:
        """Where none is whole it is damaged, and not new media."""
        self.media.write(label_offset(self.media.size), b"DSTLABEL" + b"?" * 500)
        self.media.write(label_offset(MEDIA_BYTES), bytes(LABELS_BYTES))
        found = self.found(MEDIA_BYTES)
        self.assertEqual((None, False), (found.label, found.unlabelled))

    def test_failed(self) -> None:
        """After a failure nothing more is written by whoever does not know where it stands."""
        for skip in (0, 1):
            self.setUp()
            self.device.fail_next("write", Unavailable("blip"), skip=skip, executed=True)
            self.failureResultOf(self.moved(), Unavailable)
            self.device.history.clear()
            self.failureResultOf(self.begin(NEW), Unavailable)
            self.failureResultOf(Deferred.fromCoroutine(self.store.set_record(NEW.record)), Unavailable)
            self.assertEqual([], list(self.device.history))
            self.assertGreater(self.where(), MEDIA_BYTES)


class PowerCutTests(LabelStoreCase):
    """The power goes while a label is being written."""

    def states(self) -> list[bytes]:
        """The zone's labels before, between and after the two steps of a write."""
        at = label_offset(MEDIA_BYTES)
        self.device.hold("write")
        done = self.begin(NEW)
        states = [self.media.read(at, LABELS_BYTES)]
        for _ in range(2):
            self.device.release(1)
            states.append(self.media.read(at, LABELS_BYTES))
        self.successResultOf(done)
        return states

    def torn(self, before: bytes, after: bytes) -> list[bytes]:
        """What may be there while C{before} becomes C{after}: every subset of the sectors that differ."""
        sectors = range(0, LABELS_BYTES, SECTOR_BYTES)
        differ = [at for at in sectors if before[at : at + SECTOR_BYTES] != after[at : at + SECTOR_BYTES]]
        found = []
        for chosen in range(1 << len(differ)):
            mixed = bytearray(before)
            for n, at in enumerate(differ):
                if chosen >> n & 1:
                    mixed[at : at + SECTOR_BYTES] = after[at : at + SECTOR_BYTES]
            found.append(bytes(mixed))
        return found

    def test_torn_label_each_slot(self) -> None:
        """
        B{torn-label-each-slot.}  Whichever slot is being written, and whatever subset of its sectors arrives, the
        label that is read is the old one or the new one.
        """
        members = tuple(evolve(LABEL.record.members[0], name=f"node-{n}" * 8, place=n) for n in range(30))
        old, new = OLD.evolve(record=evolve(OLD.record, members=members)), NEW
        for turn in range(2):
            self.setUp()
            self.write(OLD)
            for _ in range(turn):
                self.write(old)
            states = self.states()
            for step, expected in ((0, {5, 6}), (1, {6})):
                images = self.torn(states[step], states[step + 1])
                self.assertGreater(len(images), 1)
                seen = set()
                for image in images:
                    self.media.write(label_offset(MEDIA_BYTES), image)
                    seen.add(self.sequence())
                self.assertEqual(expected, seen, (turn, step))
            self.assertEqual(new.record, getattr(self.found().label, "record", None))

    def test_every_await(self) -> None:
        """At each step of a write, whatever the cut leaves, the label is the old one or the new one."""
        for step in range(3):
            for seed in range(40):
                self.setUp()
                self.write(OLD)
                self.media.randomness.seed(seed)
                self.device.hold("write")
                done = self.begin(NEW)
                for _ in range(step):
                    self.device.release(1)
                self.device.power_cut("random")
                if step < 2:
                    self.failureResultOf(done, Unavailable)
                    self.assertIn(self.sequence(), (5, 6) if step == 0 else (6,))
                else:
                    self.successResultOf(done)
                    self.assertEqual(6, self.sequence())

    def test_again_after_power_cut(self) -> None:
        """Cut after cut, each time with another torn slot: whoever reads first always has a label to go on from."""
        self.write(OLD)
        at = label_offset(MEDIA_BYTES)
        for turn in range(12):
            before = self.media.read(at, LABELS_BYTES)
            last = self.sequence()
            self.device = opened(self.media)
            self.store = LabelStore(self.device)
            self.successResultOf(Deferred.fromCoroutine(self.store.read()))
            label = LABEL.evolve(record=evolve(LABEL.record, sequence=10 + turn))
            self.device.hold("write")
            done = self.begin(label)
            if turn % 3 == 2:
                self.device.release(1)
                before = self.media.read(at, LABELS_BYTES)
            self.device.release(1)
            after = self.media.read(at, LABELS_BYTES)
            self.device.power_cut("none")
            done.addErrback(lambda _: None)
            torn = self.torn(before, after)
            self.media.write(at, torn[len(torn) // 2])
            self.media.flush()
            self.assertIn(self.sequence(), (last, 10 + turn))
