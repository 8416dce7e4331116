"""Tests of L{dst.simulation.world}."""

from __future__ import annotations

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.trial.unittest import SynchronousTestCase

from dst.simulation import world as module
from dst.simulation.network import Network
from dst.simulation.reactor import SimulatedReactor
from dst.simulation.world import BrokenCode, Host, NoConvergence, Process, World


class WorldTests(SynchronousTestCase):
    """One queue of events, and processes that can stop to be."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        self.world = World(7, self.lines.append)
        self.host = Host(self.world, "h")
        self.process = Process(self.world, self.host, "p")
        self.reactor = SimulatedReactor(self.process, Network(self.world), lambda directory: None)
        self.seen: list[object] = []

    def test_order(self) -> None:
        """Events happen at their time, and those of one time in the order in which they were asked for."""
        self.reactor.callLater(0.2, self.seen.append, "b")
        self.reactor.callLater(0.1, self.seen.append, "a")
        self.reactor.callLater(0.2, self.seen.append, "c")
        self.world.run_until(0.15)
        self.assertEqual(["a"], self.seen)
        self.world.run_until(1.0)
        self.assertEqual(["a", "b", "c"], self.seen)
        self.assertEqual(1.0, self.world.now)

    def test_delayed_call(self) -> None:
        """A delayed call can be put off, brought forward and cancelled, as any reactor's."""
        call = self.reactor.callLater(1.0, self.seen.append, "late")
        self.assertAlmostEqual(self.reactor.seconds() + 1.0, call.getTime())
        call.delay(1.0)
        self.world.run_until(1.5)
        self.assertEqual([], self.seen)
        call.reset(0.1)
        self.world.run_until(1.7)
        self.assertEqual(["late"], self.seen)
        self.assertFalse(call.active())
        self.assertRaises(AlreadyCalled, call.cancel)
        other = self.reactor.callLater(1.0, self.seen.append, "never")
        other.cancel()
        self.assertRaises(AlreadyCancelled, other.reset, 1)
        self.world.run_until(9.0)
        self.assertEqual(["late"], self.seen)

    def test_killed(self) -> None:
        """Nothing of a killed process runs any more, nor what it still asks for."""
        self.reactor.callLater(0.1, self.seen.append, "never")
        self.world.bury(self.process)
        self.reactor.callLater(0.1, self.seen.append, "never")
        self.world.run_until(1.0)
        self.assertEqual([], self.seen)

    def test_stands_still(self) -> None:
        """A process that stands still runs nothing; what was due meanwhile happens when it goes on, in order."""
        for delay in (0.3, 0.1, 2.0):
            self.reactor.callLater(delay, self.seen.append, delay)
        self.process.stand()
        self.world.run_until(1.0)
        self.assertEqual([], self.seen)
        before = self.reactor.seconds()
        self.process.go_on()
        self.world.run_until(1.0)
        self.assertEqual([0.1, 0.3], self.seen)
        self.assertEqual(before, self.reactor.seconds())
        self.world.run_until(2.0)
        self.assertEqual([0.1, 0.3, 2.0], self.seen)

    def test_sleeps(self) -> None:
        """A suspended machine's clock does not see the time, its boot clock does; timers wait as long as before."""
        self.reactor.callLater(0.5, self.seen.append, "timer")
        monotonic, boot = self.reactor.seconds(), self.reactor.boot_clock_s()
        self.process.stand()
        self.world.run_until(10.0)
        self.process.go_on(10.0)
        self.world.run_until(10.0)
        self.assertEqual([], self.seen)
        self.assertAlmostEqual(monotonic, self.reactor.seconds())
        self.assertAlmostEqual(boot + 10.0, self.reactor.boot_clock_s())
        self.world.run_until(10.4)
        self.assertEqual([], self.seen)
        self.world.run_until(10.6)
        self.assertEqual(["timer"], self.seen)

    def test_skips(self) -> None:
        """Skipped time is on the calendar and nowhere else."""
        self.reactor.callLater(1.0, self.seen.append, "timer")
        before = self.reactor.seconds(), self.reactor.boot_clock_s()
        wall = self.reactor.wall_clock_s()
        self.world.skip(3600.0)
        self.world.run_until(0.5)
        self.assertEqual([], self.seen)
        self.assertAlmostEqual(before[0] + 0.5, self.reactor.seconds())
        self.assertAlmostEqual(before[1] + 0.5, self.reactor.boot_clock_s())
        self.assertAlmostEqual(wall + 3600.5, self.reactor.wall_clock_s())
        self.assertAlmostEqual(3600.5, self.world.calendar_s)

    def test_threads(self) -> None:
        """Work in a thread is done a little later, and its result comes back to the reactor."""
        pool = self.reactor.getThreadPool()
        pool.callInThreadWithCallback(lambda good, result: self.seen.append((good, result)), lambda: 1 + 1)
        pool.callInThreadWithCallback(lambda good, result: self.seen.append((good, result.type)), lambda: 1 // 0)
        self.assertEqual([], self.seen)
        self.world.advance(0.1)
        self.assertEqual({(True, 2), (False, ZeroDivisionError)}, set(self.seen))

    def test_unexpected_exception(self) -> None:
        """An exception that nobody expected ends the life, and says whose it was and where."""
        self.reactor.callLater(0.1, lambda: 1 // 0)
        error = self.assertRaises(BrokenCode, self.world.run_until, 1.0)
        self.assertIn("p: ZeroDivisionError", error.message)
        self.assertEqual(1, error.exit_code)

    def test_circles(self) -> None:
        """What goes round in circles without time passing is found."""
        self.patch(module, "EVENTS_PER_SECOND_MAX", 1000)

        def again() -> None:
            self.reactor.callLater(0, again)

        again()
        error = self.assertRaises(NoConvergence, self.world.run_until, 1.0)
        self.assertIn("circles", error.message)
        self.assertEqual(2, error.exit_code)

    def test_chance(self) -> None:
        """Chance depends on the seed and on the name, and on nothing else."""
        same = World(7).generator("x").random()
        self.assertEqual(self.world.generator("x").random(), same)
        self.assertNotEqual(self.world.generator("y").random(), same)
        self.assertNotEqual(World(8).generator("x").random(), same)

    def test_trace(self) -> None:
        """The trace has a line for each event: when, who, what."""
        self.reactor.callLater(0.25, self.seen.append, "x")
        self.world.run_until(1.0)
        self.assertEqual(["0.250000 p list.append"], self.lines)
