"""Tests for L{dst.cluster.opening}."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.opening import OPEN_S_MAX, OPENING_MAX, TURN_S, open_in_turn
from dst.errors import MediaError
from dst.interfaces import INode
from dst.nodes.memory import MemoryDevice


class SlowNode(MemoryDevice):
    """Opens when the test says so."""

    def __init__(self, clock: Clock, name: str) -> None:
        super().__init__(clock, name, 4096)
        self.opening: Deferred[None] = Deferred()

    def open(self) -> Deferred[None]:
        """It never is cancelled: whoever began to open goes on."""
        waiting: Deferred[None] = Deferred()
        self.opening.addBoth(waiting.callback)
        return waiting


class OpeningTests(SynchronousTestCase):
    """Many devices are opened."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.nodes = [SlowNode(self.clock, f"n{number:03}") for number in range(3 * OPENING_MAX)]
        self.begun: list[INode] = []
        self.done = Deferred.fromCoroutine(open_in_turn(self.clock, self.nodes, self.begun.append))

    def test_some_at_once(self) -> None:
        """Only some open at once; each that is open lets the next one begin, and all are waited for."""
        self.assertEqual(self.begun, self.nodes[:OPENING_MAX])
        self.nodes[5].opening.callback(None)
        self.assertEqual(self.begun, self.nodes[: OPENING_MAX + 1])
        for node in self.nodes:
            if not node.opening.called:
                self.assertNoResult(self.done)
                node.opening.callback(None)
        self.assertEqual(self.begun, self.nodes)
        self.assertIsNone(self.successResultOf(self.done))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_those_that_wait(self) -> None:
        """Devices that wait for something keep the others back for a moment only, and the start for so long."""
        self.clock.advance(TURN_S)
        self.assertEqual(self.begun, self.nodes[: 2 * OPENING_MAX])
        self.nodes[0].opening.callback(None)  # its turn is over: nobody else begins in its place
        self.assertEqual(self.begun, self.nodes[: 2 * OPENING_MAX])
        self.clock.advance(TURN_S)
        self.assertEqual(self.begun, self.nodes)
        self.clock.advance(OPEN_S_MAX - TURN_S)
        self.assertNoResult(self.done)
        self.clock.advance(TURN_S)
        self.assertIsNone(self.successResultOf(self.done))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """One that fails ends it at once: nobody begins any more, and no timer is left."""
        self.nodes[3].opening.errback(MediaError("it is broken"))
        self.assertEqual(str(self.failureResultOf(self.done, MediaError).value), "it is broken")
        self.clock.advance(TURN_S)
        self.assertEqual(self.begun, self.nodes[:OPENING_MAX])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """A start that is given up begins nobody any more."""
        self.done.addErrback(lambda failure: failure.trap(CancelledError))
        self.done.cancel()
        self.clock.advance(TURN_S)
        self.assertEqual(self.begun, self.nodes[:OPENING_MAX])
        self.assertEqual(self.clock.getDelayedCalls(), [])
