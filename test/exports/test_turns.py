"""Tests of L{dst.exports.turns}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.exports.turns import SHARED, SHARED_S, Turn, Turns
from dst.transport.stream import RECEIVE_BYTES, RECEIVE_BYTES_OF_LARGE_PIECES

ALONE = Turn(512, 1 << 20)
LARGE = (RECEIVE_BYTES, 4)
"""A chunk that was full, with large requests."""


class Stream:
    """As much of one as is looked at here."""

    def __init__(self, move_bytes_max: int = ALONE.move_bytes) -> None:
        self.move_bytes_max = move_bytes_max
        self.receive_bytes = RECEIVE_BYTES


class TurnsTests(SynchronousTestCase):
    """Who shares has small turns, who is alone has large ones."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.turns = Turns(self.clock, ALONE)
        self.one, self.other = object(), object()
        self.streams: list[Any] = [Stream(), Stream()]

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
        self.turns.leave(self.other, self.streams[1])
        self.assertIs(ALONE, self.turns.take(self.one))
        self.turns.leave(self.other, self.streams[1])
        self.assertIs(ALONE, self.turns.take(self.one))

    def test_never_larger(self) -> None:
        """Where turns are small for everybody sharing does not make them larger."""
        alone = Turn(2, 4096)
        turns = Turns(self.clock, alone)
        for client in (self.one, self.other, self.one):
            self.assertIs(alone, turns.take(client))

    def received(self, index: int, length: int, pieces: int) -> list[int]:
        """How much each receives, after one has received something."""
        self.turns.received(self.streams[index], length, pieces)
        return [stream.receive_bytes for stream in self.streams]

    def test_receives_much(self) -> None:
        """Large requests that come faster than they are received are received more at once; others are not."""
        self.assertEqual(RECEIVE_BYTES, self.received(0, RECEIVE_BYTES // 2, 4)[0])
        self.assertEqual(RECEIVE_BYTES_OF_LARGE_PIECES, self.received(0, *LARGE)[0])
        self.assertEqual(RECEIVE_BYTES, self.received(0, RECEIVE_BYTES, 64)[0])

    def test_one_receives_much(self) -> None:
        """One client of all does, the last who might; who is gone is forgotten."""
        self.assertEqual([RECEIVE_BYTES_OF_LARGE_PIECES, RECEIVE_BYTES], self.received(0, *LARGE))
        self.assertEqual([RECEIVE_BYTES_OF_LARGE_PIECES, RECEIVE_BYTES], self.received(1, 100, 1))
        self.assertEqual([RECEIVE_BYTES, RECEIVE_BYTES_OF_LARGE_PIECES], self.received(1, *LARGE))
        self.turns.leave(self.other, self.streams[1])
        self.assertEqual([RECEIVE_BYTES_OF_LARGE_PIECES] * 2, self.received(0, *LARGE))

    def test_shared_receive_little(self) -> None:
        """Whose turns are small receives little at once."""
        self.streams[0].move_bytes_max = SHARED.move_bytes
        self.assertEqual(RECEIVE_BYTES, self.received(0, *LARGE)[0])
