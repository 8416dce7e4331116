"""Tests of L{dst.exports.turns}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.exports.turns import SHARED, SHARED_S, Turn, Turns

ALONE = Turn(512, 1 << 20)


class TurnsTests(SynchronousTestCase):
    """Who shares has small turns, who is alone has large ones."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.turns = Turns(self.clock, ALONE)
        self.one, self.other = object(), object()

    def test_alone(self) -> None:
        """A client that is alone has large turns, from the first one on."""
        for _ in range(3):
            self.assertIs(ALONE, self.turns.take(self.one))

    def test_shared(self) -> None:
        """When another client comes both have small turns, whoever of them has how many in a row."""
        self.turns.take(self.one)
        for client in (self.other, self.other, self.one, self.one, self.one, self.other):
            self.assertIs(SHARED, self.turns.take(client))

    def test_alone_again(self) -> None:
        """When the other one has not been heard of for a while a client counts as alone, and not before."""
        self.turns.take(self.other)
        self.turns.take(self.one)
        self.clock.advance(SHARED_S * 0.9)
        self.assertIs(SHARED, self.turns.take(self.one))
        self.clock.advance(SHARED_S * 0.2)
        self.assertIs(ALONE, self.turns.take(self.one))
        self.assertIs(SHARED, self.turns.take(self.other))

    def test_gone(self) -> None:
        """Who is gone was no company."""
        self.turns.take(self.other)
        self.turns.leave(self.other)
        self.assertIs(ALONE, self.turns.take(self.one))
        self.turns.leave(self.other)
        self.assertIs(ALONE, self.turns.take(self.one))

    def test_never_larger(self) -> None:
        """Where turns are small for everybody sharing does not make them larger."""
        alone = Turn(2, 4096)
        turns = Turns(self.clock, alone)
        for client in (self.one, self.other, self.one):
            self.assertIs(alone, turns.take(client))
