"""Tests of L{dst.cluster.journal}."""

from __future__ import annotations

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from dst.administration import Event, Severity
from dst.cluster.journal import NUMBERS_KEPT, SENTENCE_CHARS_MAX, Journal
from dst.errors import NoSpace
from dst.recovery.state_files import IStateFiles, MemoryFiles


class JournalTests(SynchronousTestCase):
    """Events in memory."""

    def setUp(self) -> None:
        self.now_s = 1_000_000.0
        self.journal = Journal(lambda: self.now_s, events_max=100)

    def record(self, count: int = 1) -> list[Event]:
        return [self.journal.record("daemon", "", f"event {each}") for each in range(count)]

    def test_what_is_recorded(self) -> None:
        """An event says what was recorded, and when that was."""
        event = self.journal.record(
            "health", "vol", "it is degraded", severity=Severity.WARNING, code="STORAGE_DEGRADED", cleared=True
        )
        expected = Event(
            1, 1_000_000.0, "health", Severity.WARNING, "vol", "it is degraded", "STORAGE_DEGRADED", cleared=True
        )
        self.assertEqual(expected, event)
        self.assertEqual([event], self.journal.after())
        self.assertEqual(1, self.journal.last)

    def test_after(self) -> None:
        """Whoever names the last event that it has seen gets those after it, in order."""
        events = self.record(90)
        for number in (0, 1, 50, 89, 90):
            self.assertEqual(events[number:], self.journal.after(number))

    def test_bounded(self) -> None:
        """Old events are forgotten, and whoever was away for too long gets all there are."""
        events = self.record(250)
        self.assertEqual(events[150:], self.journal.after(0))
        self.assertEqual(events[150:], self.journal.after(149))
        self.assertEqual(events[200:], self.journal.after(200))

    def test_number_of_another_life(self) -> None:
        """Who has seen a number that was never given has seen nothing of this daemon."""
        events = self.record(3)
        self.assertEqual(events, self.journal.after(4711))
        self.assertEqual(events, self.journal.after(-5))

    def test_long_sentences(self) -> None:
        """A sentence that has no end is given one."""
        event = self.journal.record("daemon", "", "x" * 100_000)
        self.assertEqual(SENTENCE_CHARS_MAX, len(event.sentence))

    def test_listeners(self) -> None:
        """Listeners hear of every event in order, until they have enough; one that fails harms no other."""
        heard: list[Event] = []

        def fails(event: Event) -> None:
            raise RuntimeError("a listener's own fault")

        self.journal.listen(fails)
        stop = self.journal.listen(heard.append)
        events = self.record(3)
        self.assertEqual(3, len(self.flushLoggedErrors(RuntimeError)))
        stop()
        stop()
        self.record()
        self.flushLoggedErrors(RuntimeError)
        self.assertEqual(events, heard)

    def test_recording_while_listening(self) -> None:
        """What a listener records is told to everybody after what it was told."""
        numbers: list[int] = []

        def records(event: Event) -> None:
            if event.number == 1:
                self.record()

        self.journal.listen(records)
        self.journal.listen(lambda event: numbers.append(event.number))
        self.record()
        self.assertEqual([1, 2], numbers)


class NumberTests(SynchronousTestCase):
    """Numbers over restarts."""

    def setUp(self) -> None:
        self.files = MemoryFiles()

    def begin(self, before: int = 0) -> Journal:
        """A new life of the daemon."""
        journal = Journal(lambda: 1_800_000_000.5)
        for _ in range(before):
            journal.record("daemon", "", "before")
        self.successResultOf(ensureDeferred(journal.open(self.files)))
        return journal

    def test_never_reused(self) -> None:
        """However many events there were, those of the next life have higher numbers."""
        highest = 0
        for count in (0, 1, 400, NUMBERS_KEPT, 5 * NUMBERS_KEPT + 1, 3):
            journal = self.begin()
            for _ in range(count):
                number = journal.record("daemon", "", "something").number
                self.assertGreater(number, highest)
                highest = number

    def test_recorded_before(self) -> None:
        """What was recorded before the state directory could be read is numbered with the rest."""
        self.begin().record("daemon", "", "an earlier life")
        journal = self.begin(before=3)
        numbers = [event.number for event in journal.after()]
        self.assertEqual([NUMBERS_KEPT + 1, NUMBERS_KEPT + 2, NUMBERS_KEPT + 3], numbers)
        self.assertEqual(NUMBERS_KEPT + 4, journal.record("daemon", "", "after").number)

    def test_stored_before_used(self) -> None:
        """At no moment has an event a number that a restart might give again, while files are written in time."""
        journal = self.begin()
        for _ in range(3 * NUMBERS_KEPT):
            number = journal.record("daemon", "", "something").number
            self.assertLessEqual(number, int(self.files.files["event-numbers"]))

    def test_one_write_at_a_time(self) -> None:
        """A state directory that is slow is not asked again before it has answered, and nothing waits for it."""
        journal = self.begin()
        asked: list[Deferred[None]] = []

        class Slow(MemoryFiles):
            def store(self, name: str, data: bytes) -> Deferred[None]:
                asked.append(Deferred())
                return asked[-1]

        slow: IStateFiles = Slow()
        journal._files = slow
        for _ in range(3 * NUMBERS_KEPT):
            journal.record("daemon", "", "something")
        self.assertEqual(1, len(asked))
        asked[0].callback(None)
        journal.record("daemon", "", "something")
        self.assertEqual(2, len(asked))

    def test_damaged(self) -> None:
        """A file that makes no sense does not keep the daemon down, and its numbers are not used again either."""
        self.files.files["event-numbers"] = b"\0" * 512
        journal = self.begin()
        self.assertEqual(1_800_000_001, journal.record("daemon", "", "something").number)
        self.assertEqual(1_800_001_000, int(self.files.files["event-numbers"]))

    def test_full_disk(self) -> None:
        """Without room for the number events go on; it is said once, and tried again."""
        self.files.files["event-numbers"] = b"7000\n"
        journal = self.begin()
        self.files.broken = NoSpace("no room")
        for _ in range(2 * NUMBERS_KEPT):
            journal.record("daemon", "", "something")
        self.assertEqual(1, len(self.flushLoggedErrors(NoSpace)))
        self.files.broken = None
        number = journal.record("daemon", "", "something").number
        self.assertGreater(int(self.files.files["event-numbers"]), number)
