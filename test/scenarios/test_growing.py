"""
A mirror that is made larger, interrupted wherever that is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DSTError, InvalidRequest, MediaError, Unavailable
from dst.interfaces import Buffer
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
    @ivar tears: the write that it dies in may have been done in parts.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.taken = 0
        self.tears = False

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

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        if self.budget.left == 0 and self.budget.tears:
            self.budget.tears = False
            for at in range(0, len(data), SECTOR_BYTES):
                if self.media.randomness.random() < 0.5:
                    self.media.write(offset + at, data[at : at + SECTOR_BYTES], fua=True)
        return self.budget.step(lambda: super(MortalDisk, self).write(offset, data, fua=fua))

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

    def unplug(self, n: int) -> None:
        """Member C{n} is away, also when its media grows."""
        self.plugged[n] = False
        self.nodes[n].pull()

    def plug(self, n: int) -> None:
        """It is back."""
        self.plugged[n] = True
        self.nodes[n].plug_in()

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

    def use_new_part(self, world: GrowingWorld, members: Sequence[int] = ()) -> None:
        """It can be written to everywhere, and read."""
        for sector in (OLD_SECTORS, OLD_SECTORS + 200, NEW_SECTORS - 8):
            self.write(world, sector)
        self.write(world, OLD_SECTORS - 4)
        self.flush(world)
        assert world.mirror is not None and world.mirror.serving is not None
        world.until("cold", lambda: not world.mirror.serving.hot.regions)  # type: ignore[union-attr]
        if not members:
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
        keeps: tuple[Keep | None, ...] = (None, "none", "all", "random", "torn")
        for steps in crash_points(counter):
            for keep in keeps:
                sizes.append(self.crash(steps, keep))
        self.assertEqual({OLD_BYTES, NEW_BYTES}, set(sizes))

    def crash(self, steps: int, keep: Keep | None) -> int:
        world = self.served(seed=steps)
        world.media_grows()
        world.budget.left = steps
        world.budget.tears = keep == "torn"
        assert world.mirror is not None
        done: list[object] = []
        world.mirror.grow().addBoth(done.append)
        world.advance(0.1)
        announced = world.mirror.geometry.size
        world.budget.left = 0
        world.crash_owner()
        if keep is not None:
            for media in world.media:
                media.lose_unflushed("random" if keep == "torn" else keep)
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


class MemberTests(GrowingCase):
    """Members that are not there, or fail, while it grows."""

    def test_grown_while_away(self) -> None:
        """One that was away is moved when it returns, gets what it missed, and the new part, and no more."""
        world = self.served(3)
        world.until("cold", lambda: not self.hot(world))
        world.unplug(2)
        world.until("gone", lambda: world.in_sync == [0, 1])
        self.write(world, 64)
        world.media_grows()
        world.grow()
        self.check_size(world, NEW_BYTES)
        self.use_new_part(world, [0, 1])
        world.nodes[2].history.clear()
        world.plug(2)
        world.until("in sync", lambda: world.in_sync == [0, 1, 2])
        copied = {o.offset // REGION_BYTES for o in world.nodes[2].history if o.kind == "write"}
        self.assertNotIn(1, copied)
        world.check_convergence()
        self.use_new_part(world)
        world.end()

    def hot(self, world: World) -> object:
        assert world.mirror is not None and world.mirror.serving is not None
        return world.mirror.serving.hot.regions

    def test_garbage_behind_the_old_end(self) -> None:
        """
        One that returns is told from the others in the region where the data ended, though nothing there was written:
        behind that end it has what its media held, and they have zeroes.
        """
        world = self.served(3)
        world.until("cold", lambda: not self.hot(world))
        world.unplug(2)
        world.until("gone", lambda: world.in_sync == [0, 1])
        world.media_grows()
        world.grow()
        self.assertEqual([0, 1], world.in_sync)
        world.until("cold", lambda: not self.hot(world))
        world.plug(2)
        world.until("in sync", lambda: world.in_sync == [0, 1, 2])
        world.check_convergence()
        world.end()

    def test_leaves_before_it_was_zeroed(self) -> None:
        """The same of one that leaves in the middle: it has the region's new age, or will never have it."""
        for skip in range(4):
            world = self.served(3)
            world.until("cold", lambda world=world: not self.hot(world))  # type: ignore[misc]
            world.media_grows()
            world.nodes[2].fail_next("write_zeroes", MediaError("bad"), skip=skip)
            world.grow()
            self.check_size(world, NEW_BYTES)
            world.until("cold", lambda world=world: not self.hot(world))  # type: ignore[misc]
            world.nodes[2].heal()
            world.until("in sync", lambda world=world: world.in_sync == [0, 1, 2])  # type: ignore[misc]
            world.check_convergence()
            self.use_new_part(world)
            world.end()

    def test_garbage_after_a_crash(self) -> None:
        """The same when the owner dies as soon as it has grown: that the region got longer stands on the media."""
        world = self.served(3)
        world.until("cold", lambda: not self.hot(world))
        world.unplug(2)
        world.until("gone", lambda: world.in_sync == [0, 1])
        world.media_grows()
        world.grow()
        self.assertEqual([0, 1], world.in_sync)
        world.crash_owner()
        world.start_owner()
        world.check_convergence()
        self.check_size(world, NEW_BYTES)
        world.end()

    def test_leaves_after_a_long_time(self) -> None:
        """The same of one that was slow: the region is not cleared before it is known who has grown."""
        world = self.served(3, slow_s=0.0)
        world.until("cold", lambda: not self.hot(world))
        world.media_grows()
        world.nodes[2].hold("write_zeroes")
        assert world.mirror is not None
        growing = world.mirror.grow()
        for _ in range(3):
            world.until("zeroes", lambda: world.nodes[2].held)
            if world.nodes[2].held[0].offset == OLD_BYTES:
                break
            world.nodes[2].release(1)
        world.advance(20)
        world.nodes[2].drop_held(MediaError("bad"))
        world.wait_for(growing)
        self.check_size(world, NEW_BYTES)
        world.nodes[2].release()
        world.check_convergence()
        self.use_new_part(world)
        world.end()

    def test_the_other_one_comes_back(self) -> None:
        """
        One was not made ready and was about to leave, and the one that was is gone before a record says so: the
        storage goes on with the first, as large as it was.
        """
        world = self.served(2)
        world.media_grows()
        world.nodes[1].hold("write_zeroes")
        assert world.mirror is not None and world.mirror.serving is not None
        growing = world.mirror.grow()
        for _ in range(2):
            world.until("zeroes", lambda: world.nodes[1].held)
            if world.nodes[1].held[0].offset == OLD_BYTES:
                break
            world.nodes[1].release(1)
        store, stuck = world.store.store, list[Deferred[None]]()

        def nothing_gets_stable(label: Label) -> Deferred[None]:
            stuck.append(Deferred())
            return stuck[-1]

        world.store.store = nothing_gets_stable  # type: ignore[method-assign]
        world.nodes[1].drop_held(MediaError("bad"))
        world.advance(0.1)
        world.unplug(0)
        world.nodes[1].heal()
        world.nodes[1].release()
        world.advance(3)
        self.assertTrue(stuck)
        world.store.store = store  # type: ignore[method-assign]
        for each in stuck:
            each.errback(MediaError("stuck"))
        with self.assertRaises(Unavailable):
            world.wait_for(growing)
        world.until("the other serves", lambda: world.in_sync == [1])
        self.check_size(world, OLD_BYTES)
        world.plug(0)
        world.check_convergence()
        world.grow()
        self.use_new_part(world)
        world.end()

    def test_every_failure(self) -> None:
        """Whatever one member fails at, done or not, the storage grows without it, and it comes back."""
        for error in (MediaError("bad"), Unavailable("blip")):
            for kind in ("write", "write_zeroes", "flush", "block_status"):
                for executed in (False, True) if kind != "flush" else (False,):
                    for skip in range(6):
                        self.fails(kind, error, skip, executed)

    def fails(self, kind: str, error: DSTError, skip: int, executed: bool) -> None:
        world = self.served(2)
        world.media_grows()
        world.nodes[1].fail_next(kind, error, skip=skip, executed=executed)
        world.grow()
        self.check_size(world, NEW_BYTES)
        world.nodes[1].heal()
        world.check_convergence()
        self.use_new_part(world)
        world.end()

    def test_last_copy_fails(self) -> None:
        """Where the last copy fails it is told, and nothing is lost: it is asked again, and then it grows."""
        told = 0
        for kind in ("write", "write_zeroes", "flush"):
            for executed in (False, True) if kind != "flush" else (False,):
                for skip in range(8):
                    told += self.last_fails(kind, skip, executed)
        self.assertGreater(told, 10)

    def last_fails(self, kind: str, skip: int, executed: bool) -> int:
        world = self.served(1)
        world.media_grows()
        world.nodes[0].flush_keeps = "all"
        world.nodes[0].fail_next(kind, Unavailable("blip"), skip=skip, executed=executed)
        assert world.mirror is not None
        answers: list[object] = []
        world.mirror.grow().addBoth(answers.append)
        world.advance(5)
        world.nodes[0].heal()
        world.unplug(0)
        world.plug(0)
        world.until("serving", lambda: world.in_sync == [0])
        world.until("answered", lambda: answers)
        failed = isinstance(answers[0], Failure)
        if failed:
            answers[0].trap(Unavailable)  # type: ignore[attr-defined]
        if world.mirror.geometry.size == OLD_BYTES:
            world.grow()
        self.check_size(world, NEW_BYTES)
        world.check_convergence()
        self.use_new_part(world)
        world.end()
        return failed

    def test_in_the_middle_of_a_resync(self) -> None:
        """A resync is held up, and goes on afterwards with the new part."""
        world = self.served(2)
        world.unplug(1)
        world.until("gone", lambda: world.in_sync == [0])
        for sector in range(0, OLD_SECTORS - 8, 64):
            self.write(world, sector)
        world.nodes[1].hold("write")
        world.plug(1)
        world.advance(1)
        world.media_grows()
        assert world.mirror is not None
        growing = world.mirror.grow()
        world.wait_for(growing)
        self.check_size(world, NEW_BYTES)
        self.assertEqual([0], world.in_sync)
        world.nodes[1].release()
        world.until("in sync", lambda: world.in_sync == [0, 1])
        world.check_convergence()
        self.use_new_part(world)
        world.end()

    def test_clients_go_on(self) -> None:
        """What is written and read while it grows is not held up, and right."""
        world = self.served(2)
        world.media_grows()
        for node in world.nodes:
            node.delay_s = 0.004
        assert world.mirror is not None
        answers: list[object] = []
        world.mirror.grow().addBoth(answers.append)
        done = 0
        while not answers:
            at = world.random.randrange(OLD_SECTORS - 8)
            self.write(world, at)
            read = world.read(world.random.randrange(OLD_SECTORS - 8), 8)
            assert read is not None
            self.assertTrue(world.wait_for(read))
            done += 1
        self.assertGreater(done, 3)
        self.assertEqual([None], answers)
        world.check_convergence()
        self.use_new_part(world)
        world.end()


class RefusedTests(GrowingCase):
    """What cannot be."""

    def refused(self, world: GrowingWorld, *says: str) -> None:
        assert world.mirror is not None
        with self.assertRaises(InvalidRequest) as caught:
            world.grow()
        for each in says:
            self.assertIn(each, caught.exception.message)
        self.check_size(world, OLD_BYTES)
        world.check_convergence()
        self.check_size(world, OLD_BYTES)
        world.end()

    def test_one_is_too_small(self) -> None:
        """Who has not grown is named, whether in sync or on its way; nothing is done."""
        world = self.served(3)
        world.media_grows(0, 2)
        self.refused(world, "no room for more on n1:")

    def test_too_little(self) -> None:
        """Media that has grown by less than a zone cannot be used: the new zone would overlap the old one."""
        world = self.served(2)
        world.media_grows(size=OLD_MEDIA_BYTES + ZONE_BYTES - PAGE_BYTES)
        self.refused(world, "n0, n1", "by at least")

    def test_least(self) -> None:
        """Media that has grown by a zone and a block is enough."""
        world = self.served(2)
        size = OLD_MEDIA_BYTES + ZONE_BYTES + PAGE_BYTES
        world.media_grows(size=size)
        world.grow()
        self.check_size(world, OLD_MEDIA_BYTES + PAGE_BYTES)
        world.check_convergence()
        world.end()

    def test_who_returns_is_too_small(self) -> None:
        """One that was away and has not grown is not used any more, and says why; when it has grown it is."""
        world = self.served(2)
        world.unplug(1)
        world.until("gone", lambda: world.in_sync == [0])
        world.media_grows(0)
        world.grow()
        world.plug(1)
        assert world.mirror is not None
        world.until("refused", lambda: world.mirror.status().children[1].state == "refused")  # type: ignore[union-attr]
        self.assertIn("room for", world.mirror.status().children[1].reason)
        world.unplug(1)
        world.media_grows(1)
        world.plug(1)
        world.until("in sync", lambda: world.in_sync == [0, 1])
        world.check_convergence()
        self.use_new_part(world)
        world.end()

    def test_again_and_again(self) -> None:
        """It can grow as often as its media does; media that is large already need not."""
        world = self.served(2)
        world.media_grows(1, size=NEW_MEDIA_BYTES + 4 * REGION_BYTES)
        for more in (0, 2, 4):
            world.media_grows(0, size=NEW_MEDIA_BYTES + more * REGION_BYTES)
            world.grow()
            self.check_size(world, NEW_BYTES + more * REGION_BYTES)
            self.use_new_part(world)
        world.crash_owner()
        world.start_owner()
        world.check_convergence()
        self.check_size(world, NEW_BYTES + 4 * REGION_BYTES)
        world.end()

    def test_asked_twice(self) -> None:
        """Who asks while it grows waits for the same; who gives up does not end it."""
        world = self.served(2)
        world.media_grows()
        for node in world.nodes:
            node.delay_s = 0.01
        assert world.mirror is not None
        first, second = world.mirror.grow(), world.mirror.grow()
        first.addErrback(lambda failure: failure.trap(CancelledError))
        first.cancel()
        world.wait_for(second)
        self.check_size(world, NEW_BYTES)
        world.end()

    def test_stopped(self) -> None:
        """A storage that stops in the middle stops; it is whole when it starts, and can be made larger then."""
        for moment in range(12):
            world = self.served(2)
            world.media_grows()
            for node in world.nodes:
                node.delay_s = 0.004
            assert world.mirror is not None
            answers: list[object] = []
            world.mirror.grow().addBoth(answers.append)
            world.advance(0.002 + 0.004 * moment)
            world.stop_owner()
            world.start_owner()
            world.until("serving", lambda world=world: len(world.in_sync) == 2)  # type: ignore[misc]
            if world.mirror.geometry.size == OLD_BYTES:
                world.grow()
            self.check_size(world, NEW_BYTES)
            self.use_new_part(world)
            world.end()
