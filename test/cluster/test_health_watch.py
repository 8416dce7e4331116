"""Tests of L{dst.cluster.health_watch}: how it looks, and what it tells."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.health_watch import EVENTS_PER_MINUTE, LOOKS_MAX, ROUND_S
from dst.health import DaemonFacts
from dst.nodes.memory import MemoryDevice
from dst.status import Health, LinkState, MemberState, ResyncProgress, StatusTree
from test.algorithms.test_mirror import MirrorCase
from test.cluster.watching import Watched
from test.scenarios.world import World


class Shown(MemoryDevice):
    """A device that shows what the test says; C{looks} is how often it was asked."""

    shown: StatusTree | None = None
    looks = 0
    broken = False

    def status(self) -> StatusTree:
        self.looks += 1
        if self.broken:
            raise ZeroDivisionError("a plugin's mistake")
        return self.shown or super().status()


class WatchCase(SynchronousTestCase):
    """Devices and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()

    def devices(self, count: int) -> list[Shown]:
        made = [Shown(self.clock, f"d{n}", 1 << 20) for n in range(count)]
        for device in made:
            device.open()
        return made

    def watch(self, devices: list[Shown]) -> Watched:
        watched = Watched(self.clock, devices)
        self.addCleanup(watched.watch.stop)
        return watched

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)


class LookingTests(WatchCase):
    """Who is looked at, and when."""

    def test_everybody_in_turn(self) -> None:
        """Whoever never says anything is looked at all the same."""
        devices = self.devices(25)
        self.watch(devices)
        self.advance(2 * ROUND_S + 2)
        self.assertGreaterEqual(min(device.looks for device in devices), 2)
        self.assertLessEqual(max(device.looks for device in devices), 5)

    def test_soon_after_a_change(self) -> None:
        """A device that says that it has changed is looked at soon; several changes at once cost one look."""
        devices = self.devices(25)
        watched = self.watch(devices)
        self.advance(1.5)
        looks = devices[7].looks
        for _ in range(10):
            devices[7].changed(LinkState.AWAY, "gone")
            self.clock.advance(0.01)
            devices[7].changed(LinkState.READY, "")
            self.clock.advance(0.01)
        devices[7].changed(LinkState.AWAY, "gone")
        self.advance(0.3)
        self.assertLessEqual(devices[7].looks - looks, 3)
        self.assertEqual(["d7 is away: gone"], [event.sentence for event in watched.events("state")])

    def test_a_thousand(self) -> None:
        """Never are more looked at together than the limit says, whatever happens; and all are in the end."""
        devices = self.devices(1000)
        self.watch(devices)
        for device in devices:
            device.changed(LinkState.AWAY, "the switch is off")
        before = sum(device.looks for device in devices)
        for _ in range(200):
            self.clock.advance(0.01)
            now = sum(device.looks for device in devices)
            self.assertLessEqual(now - before, 2 * LOOKS_MAX)  # a tick, and what was left over
            before = now
        self.assertGreaterEqual(min(device.looks for device in devices), 1)

    def test_come_and_gone(self) -> None:
        """Devices that are added are watched; what was wrong with one that is removed is over."""
        devices = self.devices(3)
        watched = self.watch(devices[:2])
        devices[0].changed(LinkState.AWAY, "gone")
        self.advance(20)
        self.assertEqual({"NODE_AWAY": "d0"}, watched.codes())
        watched.devices = [devices[1], devices[2]]
        self.advance(ROUND_S + 2)
        self.assertEqual({}, watched.codes())
        self.assertEqual([True, False], watched.told("NODE_AWAY"))
        self.assertEqual([], devices[0]._observers)
        devices[2].changed(LinkState.AWAY, "gone")
        self.advance(10)
        self.assertEqual({"NODE_AWAY": "d2"}, watched.codes())

    def test_a_mistake(self) -> None:
        """A device whose status fails is logged, and the others are looked at."""
        devices = self.devices(3)
        devices[1].broken = True
        watched = self.watch(devices)
        devices[2].changed(LinkState.AWAY, "gone")
        self.advance(10)
        self.assertEqual({"NODE_AWAY": "d2"}, watched.codes())
        self.assertNotEqual([], self.flushLoggedErrors(ZeroDivisionError))

    def test_facts_that_fail(self) -> None:
        """So is a daemon that cannot look at itself."""
        watched = self.watch([])

        def broken() -> DaemonFacts:
            raise OSError("no /proc")

        watched.watch._facts = broken
        self.advance(25)
        self.assertNotEqual([], self.flushLoggedErrors(OSError))
        self.assertTrue(watched.watch.running)

    def test_stop(self) -> None:
        """When it has stopped nothing is left: no timer, no observer."""
        devices = self.devices(3)
        watched = self.watch(devices)
        self.advance(3)
        devices[0].changed(LinkState.AWAY, "gone")
        watched.watch.stop()
        self.advance(0.1)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([[], [], []], [device._observers for device in devices])


class TellingTests(WatchCase):
    """What becomes an event."""

    def tree(self, **more: object) -> StatusTree:
        a = StatusTree("a", "memory", Health.HEALTHY, MemberState.IN_SYNC.value)
        b = StatusTree("b", "memory", Health.HEALTHY, MemberState.IN_SYNC.value)
        values: dict[str, object] = {
            "name": "d0",
            "kind": "mirror",
            "health": Health.HEALTHY,
            "state": "ready",
            "size": 1 << 20,
            "redundancy": 1,
            "detail": {"role": "owner", "owner": "left"},
            "children": (a, b),
        }
        return StatusTree(**{**values, **more})  # type: ignore[arg-type]

    def told(self, *trees: StatusTree) -> list[tuple[str, str, str]]:
        """The events of these looks, one after the other."""
        (device,) = self.devices(1)
        device.shown = trees[0]
        watched = self.watch([device])
        self.advance(0.5)
        for tree in trees[1:]:
            device.shown = tree
            device.tell_observers()
            self.advance(0.5)
        found = [event for event in watched.journal.after() if event.kind != "health"]
        return [(event.kind, event.subject, event.sentence) for event in found]

    def test_nothing(self) -> None:
        """Where nothing changes nothing is told; the first look is not news."""
        self.assertEqual([], self.told(self.tree(), self.tree(), self.tree()))

    def test_members_and_resyncs(self) -> None:
        """A member leaves, and is copied to."""
        a, b = self.tree().children
        away = evolve(b, state=MemberState.ABSENT.value, reason="its cable was pulled")
        progress = ResyncProgress("partial", "it was away", 65536, 65536, 0)
        copied = evolve(b, state=MemberState.RESYNCING.value, resync=progress)
        moved = evolve(copied, resync=evolve(progress, bytes_left=0))
        told = self.told(
            self.tree(),
            self.tree(health=Health.DEGRADED, children=(a, away), reason="b absent"),
            self.tree(health=Health.DEGRADED, children=(a, copied)),
            self.tree(health=Health.DEGRADED, children=(a, moved)),
            self.tree(),
        )
        self.assertEqual(
            [
                ("state", "d0", "d0 is degraded: b absent"),
                ("state", "d0/b", "b of d0 is absent: its cable was pulled"),
                ("state", "d0/b", "b of d0 is resyncing"),
                (
                    "resync",
                    "d0/b",
                    "a partial resync of b of d0 has begun, because it was away: 64.0 KiB to look at",
                ),
                ("state", "d0", "d0 is healthy"),
                ("state", "d0/b", "b of d0 is in-sync"),
            ],
            told,
        )

    def test_ownership_and_size(self) -> None:
        """Who owns it and how large it is are news; who is a member, too."""
        a, b = self.tree().children
        told = self.told(
            self.tree(),
            self.tree(detail={"role": "standby", "owner": "right"}),
            self.tree(size=2 << 20),
            self.tree(size=2 << 20, children=(a,)),
            self.tree(size=2 << 20, children=(a, evolve(b, name="c"))),
        )
        self.assertEqual(
            [
                ("ownership", "d0", "this daemon stands by for d0, which right owns"),
                ("ownership", "d0", "this daemon owns d0"),
                ("state", "d0", "d0 has 2.00 MiB now, and had 1.00 MiB"),
                ("state", "d0/b", "b is no member of d0 any more"),
                ("state", "d0/c", "c is a member of d0 now, and in-sync"),
            ],
            told,
        )

    def test_what_comes_and_goes(self) -> None:
        """A device that changes all the time is told of so often in a minute, and then in one sentence."""
        (device,) = self.devices(1)
        watched = self.watch([device])
        self.advance(1)
        for _ in range(150):
            device.changed(LinkState.AWAY, "gone")
            self.advance(0.3)
            device.changed(LinkState.READY, "")
            self.advance(0.3)
        minutes = 150 * 0.6 / 60
        events = watched.events("state")
        self.assertLessEqual(len(events), (EVENTS_PER_MINUTE + 1) * (minutes + 1))
        self.assertTrue(any("more changes were not told" in event.sentence for event in events))
        self.assertLessEqual(len(watched.events("health")), 2)


class RealTests(MirrorCase):
    """A real mirror."""

    def test_story(self) -> None:
        """A member leaves and comes back: the story is complete, in order, and has the sentences of the storage."""
        world: World = self.served(2)
        assert world.mirror is not None
        watched = Watched(world.clock, [world.mirror])
        self.addCleanup(watched.watch.stop)
        world.advance(2)
        world.nodes[1].pull()
        world.advance(5)
        self.write(world, 0)
        world.nodes[1].plug_in()
        self.until_in_sync(world)
        world.advance(15)
        story = [(event.kind, event.subject, event.code, event.cleared) for event in watched.journal.after()]
        for expected in (
            ("state", "vol/n1", None, False),
            ("health", "vol", "STORAGE_DEGRADED", False),
            ("health", "vol", "LAST_COPY", False),
            ("health", "vol/n1", "MEMBER_AWAY", False),
            ("health", "vol", "LAST_COPY", True),
            ("health", "vol", "STORAGE_DEGRADED", True),
        ):
            self.assertIn(expected, story)
        resyncs = [event.sentence for event in watched.events("resync")]
        self.assertIn("the partial resync of n1 of vol has ended", resyncs[-1])
        numbers = [event.number for event in watched.journal.after()]
        self.assertEqual(list(range(1, len(numbers) + 1)), numbers)
