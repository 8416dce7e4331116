"""Tests of L{dst.transport.eager_poll}."""

from __future__ import annotations

import os
import select
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dst.transport.eager_poll import CREDIT_MAX, EAGER_CREDIT, EAGER_S, LATE_COST, EagerPoll, poll_eagerly

EVENT = (7, 1)


class World:
    """
    A clock, and an epoll object with one event to come.

    @ivar due: when the event comes.
    @ivar slept: the timeouts of polls that had nothing at once and were allowed to sleep.
    @ivar asked: how often it was asked without sleeping.
    @ivar given_way: how often others could have the processor.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: float | None = None
        self.slept: list[float | None] = []
        self.asked = 0
        self.given_way = 0
        self.fd = 3

    def seconds(self) -> float:
        """Every look at the clock takes a microsecond."""
        self.now += 1e-6
        return self.now

    def give_way(self) -> None:
        self.given_way += 1

    def fileno(self) -> int:
        return self.fd

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """As epoll."""
        assert maxevents == 6
        if timeout == 0:
            self.asked += 1
        elif self.due is None or self.now < self.due:
            self.slept.append(timeout)
            wake_at = self.now + (3600.0 if timeout is None else timeout)
            self.now = wake_at if self.due is None else min(self.due, wake_at)
        if self.due is not None and self.now >= self.due:
            self.due = None
            return [EVENT]
        return []


class EagerPollTests(SynchronousTestCase):
    """It asks while events come in time, and sleeps when they do not."""

    def setUp(self) -> None:
        self.world = World()
        self.polling = EagerPoll(self.world, EAGER_S, self.world.seconds, self.world.give_way)

    def event(self, after_s: float, timeout: float | None = 1.0) -> list[tuple[int, int]]:
        """Poll, with an event that comes so much later."""
        self.world.due = self.world.now + after_s
        return self.polling.poll(timeout, 6)

    def make_eager(self) -> None:
        for _ in range(EAGER_CREDIT):
            self.assertEqual([EVENT], self.event(EAGER_S / 2))
        self.world.slept.clear()

    def test_sleeps_first(self) -> None:
        """A reactor that has just begun, or whose events come seldom, sleeps, with the timeout it has."""
        for _ in range(50):
            self.assertEqual([EVENT], self.event(EAGER_S * 2, None))
        self.assertEqual([None] * 50, self.world.slept)
        self.assertEqual(0, self.world.given_way)

    def test_asks(self) -> None:
        """When events come in time it asks, does not sleep, and gives way between two questions."""
        self.make_eager()
        for _ in range(100):
            self.assertEqual([EVENT], self.event(EAGER_S * 0.9))
        self.assertEqual([], self.world.slept)
        self.assertGreater(self.world.given_way, 100)

    def test_stops_asking(self) -> None:
        """When nothing comes any more it asks a few times, and then never."""
        self.make_eager()
        for _ in range(CREDIT_MAX):
            self.event(EAGER_S / 2)
        for _ in range(-(-(CREDIT_MAX - EAGER_CREDIT + 1) // LATE_COST)):
            self.assertEqual([], self.polling.poll(1.0, 6))
        before = self.world.given_way
        for _ in range(100):
            self.assertEqual([], self.polling.poll(1.0, 6))
        self.assertEqual(before, self.world.given_way)

    def test_most_in_time(self) -> None:
        """It goes on while at least two of three come in time; while one of two does it ends."""
        self.make_eager()
        for _ in range(100):
            for after_s in (EAGER_S / 2, EAGER_S / 2, EAGER_S * 2):
                self.event(after_s)
        self.assertEqual(100, len(self.world.slept))
        for _ in range(100):
            self.event(EAGER_S / 2)
            self.event(EAGER_S * 2)
        before = self.world.given_way
        self.event(EAGER_S / 2)
        self.assertEqual(before, self.world.given_way)

    def test_nothing_is_late(self) -> None:
        """A timer is kept: what is left until it ends is the most that is waited, asking or sleeping."""
        self.make_eager()
        began = self.world.now
        self.assertEqual([], self.polling.poll(EAGER_S / 2, 6))
        self.assertEqual([EAGER_S / 2], self.world.slept)
        self.assertLess(self.world.now - began, EAGER_S * 0.6)
        self.assertEqual([], self.polling.poll(0.1, 6))
        self.assertLess(self.world.now - began, 0.1 + EAGER_S * 2)

    def test_at_once(self) -> None:
        """Who does not want to wait does not."""
        self.make_eager()
        began = self.world.now
        self.assertEqual([], self.polling.poll(0, 6))
        self.assertEqual(began, self.world.now)

    def test_rest(self) -> None:
        """Everything else is the epoll object's."""
        self.assertEqual(3, self.polling.fileno())


class InstallingTests(SynchronousTestCase):
    """L{poll_eagerly}"""

    def reactor(self) -> Any:
        """As much of Twisted's as is looked at."""

        class Reactor:
            _poller = select.epoll()

        self.addCleanup(Reactor._poller.close)
        return Reactor()

    def test_epoll(self) -> None:
        """A reactor with epoll is given this, which finds what comes, and a descriptor that is registered there."""
        reactor = self.reactor()
        self.assertTrue(poll_eagerly(reactor))
        self.assertIsInstance(reactor._poller, EagerPoll)
        self.assertFalse(poll_eagerly(reactor), "once is enough")
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        reactor._poller.register(reading, select.EPOLLIN)
        self.assertEqual([], reactor._poller.poll(0.001, 4))
        os.write(writing, b"x")
        self.assertEqual([(reading, select.EPOLLIN)], reactor._poller.poll(1.0, 4))

    def test_others(self) -> None:
        """Another reactor is left as it is."""
        self.assertFalse(poll_eagerly(object()))

    def test_unwanted(self) -> None:
        """The environment has the last word."""
        self.patch(os, "environ", {**os.environ, "DST_EAGER": "0"})
        reactor = self.reactor()
        self.assertFalse(poll_eagerly(reactor))
        self.assertIsInstance(reactor._poller, select.epoll)
