"""Tests of L{dst.cluster.ordered_service}."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.ordered_service import OrderedService, Step
from dst.errors import AlreadyInUse


class OrderTests(SynchronousTestCase):
    """One step after the other, and back."""

    def setUp(self) -> None:
        """Three steps that end when the test says so."""
        self.clock = Clock()
        self.events: list[str] = []
        self.pending: dict[str, Deferred[None]] = {}
        self.failures: list[Failure] = []

    def act(self, what: str, at_once: bool) -> Callable[[], Deferred[None]]:
        """One half of a step."""

        def begin() -> Deferred[None]:
            self.events.append(what)
            if at_once:
                return succeed(None)
            self.pending[what] = Deferred()
            return self.pending[what]

        return begin

    def service(self, *, at_once: bool = True, names: str = "abc") -> OrderedService:
        """A service of steps named by letters."""
        steps = [Step(name, self.act(f"+{name}", at_once), self.act(f"-{name}", at_once), 5.0) for name in names]
        return OrderedService(self.clock, steps, self.failures.append)

    def test_order(self) -> None:
        """Steps start in order and stop in the opposite one."""
        service = self.service()
        service.startService()
        self.assertTrue(service.running)
        self.assertIsNone(self.successResultOf(service.stopService()))
        self.assertEqual(["+a", "+b", "+c", "-c", "-b", "-a"], self.events)
        self.assertEqual([], self.failures)

    def test_each_waits(self) -> None:
        """No step begins before the one before it has ended, in either direction."""
        service = self.service(at_once=False)
        started = service.start()
        for name in "abc":
            self.assertEqual(f"+{name}", self.events[-1])
            self.assertNoResult(started)
            self.pending[f"+{name}"].callback(None)
        self.successResultOf(started)
        stopped = service.stopService()
        for name in "cba":
            self.assertEqual(f"-{name}", self.events[-1])
            self.assertNoResult(stopped)
            self.pending[f"-{name}"].callback(None)
        self.successResultOf(stopped)

    def test_failed_start(self) -> None:
        """A step that fails ends the start; it and those before it are stopped, and only then is that told."""
        service = self.service(at_once=False)
        service.startService()
        self.pending["+a"].callback(None)
        self.pending["+b"].errback(AlreadyInUse("the port is busy"))
        self.assertEqual(["+a", "+b", "-b"], self.events)
        self.pending["-b"].callback(None)
        self.assertEqual([], self.failures)
        self.pending["-a"].callback(None)
        self.assertEqual(["the port is busy"], [failure.value.message for failure in self.failures])
        self.successResultOf(service.stopService())
        self.assertEqual(["+a", "+b", "-b", "-a"], self.events)

    def test_step_that_raises(self) -> None:
        """A step that raises instead of failing a Deferred is the same."""

        def broken() -> Deferred[None]:
            raise AlreadyInUse("raised")

        service = OrderedService(self.clock, [Step("a", broken, self.act("-a", True), 1.0)])
        self.failureResultOf(service.start(), AlreadyInUse)
        self.assertEqual(["-a"], self.events)

    def test_stop_while_starting(self) -> None:
        """A stop in the middle of the start cancels the step that goes on and unwinds; that is no failure."""
        service = self.service(at_once=False)
        service.startService()
        self.pending["+a"].callback(None)
        stopped = service.stopService()
        self.assertTrue(self.pending["+b"].called, "it was not cancelled")
        self.assertEqual(["+a", "+b", "-b"], self.events)
        self.assertNoResult(stopped)
        self.pending["-b"].callback(None)
        self.pending["-a"].callback(None)
        self.successResultOf(stopped)
        self.assertEqual(["+a", "+b", "-b", "-a"], self.events)
        self.assertEqual([], self.failures)

    def test_stop_twice(self) -> None:
        """Whoever asks for the stop while it goes on waits for the same one."""
        service = self.service(at_once=False, names="a")
        started = service.start()
        self.pending["+a"].callback(None)
        self.successResultOf(started)
        first, second = service.stopService(), service.stopService()
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.pending["-a"].callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(["+a", "-a"], self.events)

    def test_stop_that_hangs(self) -> None:
        """A step that does not stop in its time is left behind, and the others still stop."""
        service = self.service(at_once=False, names="ab")
        service.start()
        self.pending["+a"].callback(None)
        self.pending["+b"].callback(None)
        stopped = service.stopService()
        self.clock.advance(4.9)
        self.assertEqual("-b", self.events[-1])
        self.clock.advance(0.2)
        self.assertEqual("-a", self.events[-1])
        self.pending["-a"].callback(None)
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_that_fails(self) -> None:
        """A step that cannot stop is logged, and the others still stop."""
        steps = [
            Step("a", self.act("+a", True), self.act("-a", True), 1.0),
            Step("b", self.act("+b", True), lambda: fail(ArithmeticError("no")), 1.0),
        ]
        service = OrderedService(self.clock, steps)
        self.successResultOf(service.start())
        self.successResultOf(service.stopService())
        self.assertEqual(["+a", "+b", "-a"], self.events)
        self.assertEqual(1, len(self.flushLoggedErrors(ArithmeticError)))

    def test_again(self) -> None:
        """What was stopped can be started again."""
        service = self.service(names="a")
        for _ in range(2):
            self.successResultOf(service.start())
            self.successResultOf(service.stopService())
        self.assertEqual(["+a", "-a", "+a", "-a"], self.events)
