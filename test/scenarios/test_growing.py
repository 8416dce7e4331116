"""
A mirror that is made larger, interrupted wherever that is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.label.format import Label
from dst.label.zone import LABELS_BYTES, PAGE_BYTES
from dst.testing.disk import SimulatedDisk
from dst.testing.media import SECTOR_BYTES, Keep
from test.scenarios.invariant import check_invariant, what_stands_on
from test.scenarios.world import REGION_BYTES, MemoryRecordStore, World

ZONE_BYTES = LABELS_BYTES + 2 * PAGE_BYTES
OLD_BYTES = 3 * REGION_BYTES + REGION_BYTES // 2
"""Of data: it ends within a region."""
OLD_MEDIA_BYTES = OLD_BYTES + ZONE_BYTES
NEW_BYTES = 9 * REGION_BYTES + PAGE_BYTES
NEW_MEDIA_BYTES = NEW_BYTES + ZONE_BYTES
OLD_SECTORS, NEW_SECTORS = OLD_BYTES // SECTOR_BYTES, NEW_BYTES // SECTOR_BYTES


class Budget:
    """
    How many more steps the owner lives for. A step is a change or a flush of a member, or a record of its own.

    @ivar left: C{None}: it lives for ever.
    @ivar taken: how many it has made.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.taken = 0

    def step(self, run: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """Do it, or never."""
        if self.left is not None:
            if not self.left:
                return Deferred()
            self.left -= 1
        self.taken += 1
        return run()


class MortalDisk(SimulatedDisk):
    """A disk that does nothing any more for an owner that has died."""

    budget: Budget

    def write(self, *given: Any, **options: Any) -> Deferred[None]:
        return self.budget.step(lambda: super(MortalDisk, self).write(*given, **options))

    def write_zeroes(self, *given: Any, **options: Any) -> Deferred[None]:
        return self.budget.step(lambda: super(MortalDisk, self).write_zeroes(*given, **options))

    def flush(self) -> Deferred[None]:
        return self.budget.step(super().flush)


class MortalStore(MemoryRecordStore):
    """The same for the owner's own record."""

    budget: Budget

    def store(self, label: Label) -> Deferred[None]:
        return self.budget.step(lambda: super(MortalStore, self).store(label))


class GrowingWorld(World):
    """Members whose media can grow, and an owner whose steps are counted."""

    def __init__(self, members: int = 2, seed: int = 0, **options: Any) -> None:
        super().__init__(members, seed, **{"hot_regions": 4} | options)
        self.budget = Budget()
        self.store = MortalStore()
        self.store.budget = self.budget
        for media in self.media:
            media.size = OLD_MEDIA_BYTES

    def start_owner(self) -> None:
        super().start_owner()
        self.make_mortal()

    def make_mortal(self) -> None:
        """Its steps count from now on."""
        for node in self.nodes:
            assert isinstance(node.inner, SimulatedDisk)
            node.inner.__class__ = MortalDisk
            node.inner.budget = self.budget  # type: ignore[attr-defined]

    def media_grows(self, *members: int, size: int = NEW_MEDIA_BYTES) -> None:
        """The media is larger now, and what is new on it is not zero."""
        for n in members or range(len(self.media)):
            media = self.media[n]
            media.write(media.size, b"\xa5" * (size - media.size), fua=True)
            media.size = size
            if self.nodes and self.plugged[n]:
                self.nodes[n].inner.refresh()  # type: ignore[attr-defined]
                self.nodes[n]._follow()
        self.advance(0.1)

    @property
    def data_sectors(self) -> int:
        assert self.mirror is not None
        return self.mirror.geometry.size // SECTOR_BYTES

    def check_invariant(self) -> None:
        check_invariant(self.media, self.describe, [OLD_MEDIA_BYTES])

    def grow(self) -> None:
        """By a person who waits for it."""
        assert self.mirror is not None
        self.wait_for(self.mirror.grow())


class GrowingCase(SynchronousTestCase):
    """The words in which these are told."""

    def served(self, members: int = 2, **options: Any) -> GrowingWorld:
        """Everybody in sync, with something in every region."""
        world = GrowingWorld(members, **options)
        world.start_owner()
        world.until("in sync", lambda: world.in_sync == list(range(members)))
        for sector in range(0, OLD_SECTORS - 8, 64):
            self.write(world, sector)
        self.write(world, OLD_SECTORS - 8, fua=True)
        self.flush(world)
        return world

    def write(self, world: World, sector: int, count: int = 8, **how: Any) -> None:
        """An acknowledged write."""
        done = world.write(sector, count, **how)
        assert done is not None
        self.assertTrue(world.wait_for(done), world.describe())

    def flush(self, world: World) -> None:
        """An acknowledged flush."""
        done = world.flush()
        assert done is not None
        self.assertTrue(world.wait_for(done))

    def check_size(self, world: GrowingWorld, size: int) -> None:
        """That is what users are told, and what is in the record."""
        assert world.mirror is not None and world.mirror.serving is not None
        self.assertEqual(size, world.mirror.geometry.size)
        self.assertEqual(size, world.mirror.serving.configuration.record.data_size)

    def use_new_part(self, world: GrowingWorld) -> None:
        """It can be written to everywhere, and read."""
        for sector in (OLD_SECTORS, OLD_SECTORS + 200, NEW_SECTORS - 8):
            self.write(world, sector)
        self.write(world, OLD_SECTORS - 4)
        self.flush(world)
        assert world.mirror is not None and world.mirror.serving is not None
        world.until("cold", lambda: not world.mirror.serving.hot.regions)  # type: ignore[union-attr]
        world.check_convergence()


class GrowTests(GrowingCase):
    """Nothing goes wrong."""

    def test_grows(self) -> None:
        """It is as large as the members have room for; what it had is there, and the new part is zero."""
        for members in (1, 2, 3):
            world = self.served(members)
            world.media_grows()
            self.check_size(world, OLD_BYTES)
            world.grow()
            self.check_size(world, NEW_BYTES)
            self.assertEqual(list(range(members)), world.in_sync)
            world.check_convergence()
            self.use_new_part(world)
            for media in world.media:
                found = what_stands_on(media)
                assert found is not None
                self.assertEqual((NEW_MEDIA_BYTES, NEW_BYTES), (found[0].media_size, found[0].data_size))
                self.assertTrue(all(not entry.hot and entry.age != (0, 0) for entry in found[1]), found[1])
            world.end()


def crash_points(world: GrowingWorld) -> Iterator[int]:
    """Every number of steps after which the owner can die."""
    assert world.mirror is not None
    before = world.budget.taken
    world.grow()
    steps = world.budget.taken - before
    world.end()
    return iter(range(steps + 1))


class CrashTests(GrowingCase):
    """The owner dies in the middle."""

    def test_grow_crash_at_each_step(self) -> None:
        """
        Wherever the owner dies, with or without the power of the disks, the storage has the old size or the new one,
        with everything that was flushed; it becomes whole by itself, and can be made larger again.
        """
        counter = self.served()
        counter.media_grows()
        sizes = []
        keeps: tuple[Keep | None, ...] = (None, "none", "all", "random")
        for steps in crash_points(counter):
            for keep in keeps:
                sizes.append(self.crash(steps, keep))
        self.assertEqual({OLD_BYTES, NEW_BYTES}, set(sizes))
        self.assertEqual(sizes, sorted(sizes))

    def crash(self, steps: int, keep: Keep | None) -> int:
        world = self.served(seed=steps)
        world.media_grows()
        world.budget.left = steps
        assert world.mirror is not None
        done: list[object] = []
        world.mirror.grow().addBoth(done.append)
        world.advance(0.1)
        announced = world.mirror.geometry.size
        world.budget.left = 0
        world.crash_owner()
        if keep is not None:
            for media in world.media:
                media.lose_unflushed(keep)
        world.budget.left = None
        world.check_invariant()
        world.start_owner()
        world.until("serving", lambda: world.mirror is not None and world.mirror.serving is not None)
        size = world.mirror.geometry.size
        self.assertGreaterEqual(size, announced)
        world.check_convergence()
        self.check_size(world, size)
        if size == OLD_BYTES:
            world.grow()
        self.check_size(world, NEW_BYTES)
        self.use_new_part(world)
        self.assertFalse([each for each in done if isinstance(each, Failure)])
        world.end()
        return size
