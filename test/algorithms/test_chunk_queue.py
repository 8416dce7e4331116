"""
What is copied is copied in order, several chunks at a time, and nothing goes on behind anybody's back.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror.chunk_queue import ChunkQueue
from dst.algorithms.mirror.pacing import Pacer
from dst.errors import MediaError
from dst.recovery.pace import CHUNKS_IDLE, CHUNKS_LOADED, PaceLimits, PaceWindow, ResyncScheduler

STEP = 10


class ChunkQueueTests(SynchronousTestCase):
    """With a copy that ends when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pacer = Pacer(self.clock, "vol", PaceLimits(), ResyncScheduler())
        self.step = STEP
        self.queue = ChunkQueue(self.pacer, lambda: self.step, self.copy)
        self.begun: list[tuple[int, int]] = []
        self.ended: list[tuple[int, int]] = []
        self.pending: dict[int, Deferred[None]] = {}

    async def copy(self, first: int, end: int) -> None:
        """Until L{finish}."""
        self.begun.append((first, end))
        self.pending[first] = done = Deferred()
        try:
            await done
        finally:
            self.ended.append((first, end))

    def finish(self, first: int) -> None:
        """The chunk that begins there is copied."""
        self.pending.pop(first).callback(None)

    def finish_all(self) -> None:
        """Everything is copied as soon as it is begun."""
        while self.pending:
            self.finish(min(self.pending))

    def clients_work(self) -> None:
        """The pacer knows of clients, and not yet of a rate."""
        self.pacer.pace.observe(PaceWindow(0, 0.0, 100, 0.001))

    def test_all_in_order(self) -> None:
        """Each byte is copied once, the first ones first, in steps that do not cross the end of an extent."""
        done = self.queue.copied([(0, 25), (100, 110)])
        self.assertEqual([(0, 10), (10, 20), (20, 25), (100, 110)], self.begun)
        self.assertNoResult(done)
        for first in (100, 10, 0):
            self.finish(first)
        self.assertNoResult(done)
        self.finish(20)
        self.assertIsNone(self.successResultOf(done))

    def test_nothing_to_copy(self) -> None:
        """Nothing takes no time."""
        self.assertIsNone(self.successResultOf(self.queue.copied([])))

    def test_as_many_as_the_pacer_allows(self) -> None:
        """When one has ended the next one begins, of the next batch too."""
        first = self.queue.copied([(0, CHUNKS_IDLE * STEP)])
        second = self.queue.copied([(1000, 1020)])
        self.assertEqual(CHUNKS_IDLE, len(self.begun))
        self.finish(STEP)
        self.assertEqual((1000, 1010), self.begun[-1])
        self.assertEqual(CHUNKS_IDLE, len(self.pending))
        self.finish_all()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_fewer_and_shorter_when_clients_come(self) -> None:
        """What is in flight ends; from then on it is as many and as long as there may be now."""
        done = self.queue.copied([(0, 40 * STEP)])
        self.clients_work()
        self.step = 5
        for _ in range(20):
            self.finish(min(self.pending))
            self.clock.advance(1)
        self.assertEqual(CHUNKS_LOADED, len(self.pending))
        self.assertEqual((5, 5), tuple(end - first for first, end in self.begun[-2:]))
        while self.pending:
            self.finish_all()
            self.clock.advance(1)
        self.successResultOf(done)
        self.assertEqual(40 * STEP, sum(end - first for first, end in self.begun))

    def test_it_waits_for_its_turn(self) -> None:
        """While there is a rate to keep the next chunk is not begun before its time."""
        self.pacer.pace.observe(PaceWindow(100, 1.0, 100, 0.001))  # 100 bytes a second are possible, 10 allowed
        self.queue.copied([(0, 3 * STEP)])
        self.assertEqual(1, len(self.begun))
        self.finish(0)
        for _ in range(3):
            self.assertEqual(1, len(self.begun))
            self.clock.advance(0.25)
        self.clock.advance(0.25)
        self.assertEqual(2, len(self.begun))

    def test_failure(self) -> None:
        """A batch fails when what was begun of it has ended; the rest of it is not begun, other batches go on."""
        first = self.queue.copied([(0, 2 * CHUNKS_IDLE * STEP)])
        second = self.queue.copied([(1000, 1010)])
        self.pending.pop(0).errback(MediaError("bad"))
        self.assertEqual((1000, 1010), self.begun[-1])
        for number in range(1, CHUNKS_IDLE):
            self.assertNoResult(first)
            self.finish(number * STEP)
        self.failureResultOf(first, MediaError)
        self.assertEqual(CHUNKS_IDLE + 1, len(self.begun))
        self.finish(1000)
        self.successResultOf(second)

    def test_stop(self) -> None:
        """When it has stopped nothing is being copied and nothing more will be."""
        done = self.queue.copied([(0, 2 * CHUNKS_IDLE * STEP)])
        self.successResultOf(Deferred.fromCoroutine(self.queue.stop()))
        self.assertEqual(CHUNKS_IDLE, len(self.begun))
        self.assertEqual(sorted(self.begun), sorted(self.ended))
        self.failureResultOf(done, CancelledError)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_whoever_waits_is_cancelled(self) -> None:
        """One who does not wait for a batch any more is told nothing of it, and nothing breaks."""
        done = self.queue.copied([(0, STEP)])
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.finish(0)
        self.assertEqual([(0, STEP)], self.ended)

    def test_many_at_once(self) -> None:
        """Copies that end at once are a loop, not a recursion."""

        async def copy(first: int, end: int) -> None:
            self.ended.append((first, end))

        queue = ChunkQueue(self.pacer, lambda: 1, copy)
        self.successResultOf(queue.copied([(0, 5000)]))
        self.assertEqual([(n, n + 1) for n in range(5000)], self.ended)
