"""
Nothing waits for what never comes: room that is there already, a copy that nobody else has.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from dst.errors import MediaError
from dst.status import LinkState
from test.algorithms.test_mirror import MirrorCase
from test.scenarios.world import REGION_BYTES, World

SECTORS = REGION_BYTES // 512


class WaitingTests(MirrorCase):
    """Found by walks."""

    def test_room_made_by_others(self) -> None:
        """A write that waits for room in the hot set goes on when an idle clear has made it."""
        world = self.served(2, hot_regions=2)
        assert world.mirror is not None and world.mirror.serving is not None
        hot = world.mirror.serving.hot
        self.write(world, 0)
        self.write(world, 3 * SECTORS)
        world.nodes[0].hold("flush")
        world.advance(1)
        self.write(world, 0)
        clearing = Deferred.fromCoroutine(hot.clear([3]))
        done = world.write(SECTORS - 8, 16)  # region 0, which is hot, and region 1
        world.advance(0.1)
        assert done is not None
        self.assertNoResult(done)
        world.nodes[0].release()
        self.assertTrue(world.wait_for(done, 20))
        self.assertTrue(self.successResultOf(clearing))
        world.check_convergence()

    def test_repair_that_nobody_can_help(self) -> None:
        """A repair ends when the member that had the data has left: nothing waits for its extent any more."""
        world = self.served(2)
        self.write(world, 0)
        assert world.mirror is not None and world.mirror.serving is not None
        serving = world.mirror.serving
        world.nodes[1].pull(LinkState.INTERRUPTED)
        serving.copier.repair(serving.configuration._members[0], 0, 4096)
        world.advance(0.1)
        world.nodes[1].pull()
        done = world.write(0, 8)
        assert done is not None
        self.assertTrue(world.wait_for(done, 5))
        world.nodes[1].plug_in()
        world.check_convergence()

    def overtaken(self) -> tuple[World, list[bytes], Deferred[bool]]:
        """Each member is asked to read; one of them does a later write first, the other has not done it."""
        world = self.served(2)
        self.write(world, 0)
        assert world.mirror is not None
        world.nodes[0].hold("read")
        world.nodes[1].hold("read write")
        told: list[bytes] = []
        for _ in world.nodes:
            world.mirror.read(0, 512).addCallback(lambda data: told.append(bytes(data)))
        done = world.write(0, 1)
        assert done is not None
        world.advance(0.1)
        world.nodes[0].release()
        world.nodes[1].release(1)
        world.advance(0.1)
        return world, told, done

    def test_a_read_that_a_write_has_overtaken(self) -> None:
        """What one reader has seen is on every member: else it could be gone for the next one."""
        world, told, done = self.overtaken()
        self.assertEqual([], told)
        world.nodes[1].release()
        self.assertTrue(world.wait_for(done, 5))
        self.assertEqual(2, len(set(told)))  # either is right: both reads came before the write was over
        world.check_convergence()

    def test_the_one_that_had_it_is_lost(self) -> None:
        """The write is on nobody who is left, and nobody was told that it was ever there."""
        world, told, done = self.overtaken()
        world.nodes[0].pull()
        world.advance(3)  # the record says that the other one is the last
        self.assertEqual([], told)
        world.nodes[1].drop_held(MediaError("it is not done"))
        world.nodes[1].release()
        self.assertFalse(world.wait_for(done, 20))
        world.advance(1)
        self.assertEqual(1, len(set(told)))
        self.assertEqual(2, len(told))
        self.assertEqual(told[0], bytes(world.media[1].read(0, 512)))
        world.check_convergence()

    def test_a_block_that_is_always_being_written(self) -> None:
        """A read waits for the write that has begun, and for none that comes after it."""
        world, told, done = self.overtaken()
        assert world.mirror is not None
        again = world.mirror.write(0, bytes(512))
        world.nodes[1].release(1)
        world.advance(0.1)
        self.successResultOf(done)
        self.assertNoResult(again)
        self.assertEqual(2, len(told))
        world.nodes[1].release()
        world.wait_for(again, 5)

    def test_since_when_it_is_so(self) -> None:
        """The time of a status is when the health last changed, not when the storage began to serve."""
        world = self.served(2)
        assert world.mirror is not None
        began = world.mirror.status().since
        world.advance(20)
        self.assertEqual(began, world.mirror.status().since)
        world.nodes[1].pull()
        world.advance(1)
        degraded = world.mirror.status()
        self.assertGreater(degraded.since, began)
        world.advance(20)
        self.assertEqual(degraded.since, world.mirror.status().since)
