"""
Nothing waits for what never comes: room that is there already, a copy that nobody else has.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from dst.algorithms.mirror.data_path import DataPath
from dst.errors import MediaError, Unavailable
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


class RefusingTests(MirrorCase):
    """With C{on_loss = "error"} clients hear an error, and what was sent goes on."""

    def refused(self) -> tuple[World, Deferred[None]]:
        """A write that n1 has not done, when there are too few copies and its client has had an error."""
        world = self.served(3, on_loss="error", freeze_s=2.0, minimum_copies=3)
        assert world.mirror is not None
        self.write(world, 0)
        world.nodes[1].hold("write")
        done = world.mirror.write(0, b"x" * 4096)
        world.advance(0.05)
        world.nodes[2].pull()
        world.advance(1)
        self.assertNoResult(done)
        world.advance(1.5)
        return world, done

    def data_path(self, world: World) -> DataPath:
        """The insides."""
        assert world.mirror is not None and world.mirror.serving is not None
        return world.mirror.serving.data_path

    def test_done_by_everybody_in_the_end(self) -> None:
        """It holds its extent until it has ended: nobody reads there what one copy has and another one has not."""
        world, done = self.refused()
        assert world.mirror is not None
        self.fails(Unavailable, done)
        for _ in range(4):
            self.fails(Unavailable, world.mirror.read(0, 512))
        self.assertTrue(self.data_path(world).busy)
        world.nodes[1].release()
        world.advance(0.1)
        self.assertFalse(self.data_path(world).busy)
        self.assertEqual({b"x" * 4096}, {media.read(0, 4096) for media in world.media[:2]})
        world.nodes[2].plug_in()
        self.until_in_sync(world)
        self.assertEqual({b"x" * 4096}, {media.read(0, 4096) for media in world.media})
        self.write(world, 0)
        world.check_convergence()

    def test_refused_again(self) -> None:
        """As long as it lasts nobody is told a second time, and nothing is kept of what comes meanwhile."""
        world, done = self.refused()
        assert world.mirror is not None
        self.fails(Unavailable, done)
        for _ in range(6):
            self.fails(Unavailable, world.mirror.write(0, b"y" * 4096))
            world.advance(1)
        self.assertEqual(1, len(self.data_path(world)._in_flight))
        world.nodes[1].release()
        world.nodes[2].plug_in()
        self.until_in_sync(world)
        self.assertFalse(self.data_path(world).busy)

    def test_last_copies_come_back(self) -> None:
        """What waits for the last copies is sent to them again, and what was never sent has failed for good."""
        world = self.served(2, on_loss="error", freeze_s=1.0)
        assert world.mirror is not None
        self.write(world, 0)
        for node in world.nodes:
            node.hold("write")
        sent = world.mirror.write(0, b"x" * 4096)
        behind = world.mirror.write(0, b"y" * 4096)
        for node in world.nodes:
            node.pull()
        world.advance(2)
        self.fails(Unavailable, sent)
        self.fails(Unavailable, behind)
        for node in world.nodes:
            node.release()
            node.plug_in()
        self.until_in_sync(world)
        world.advance(0.1)
        self.assertFalse(self.data_path(world).busy)
        self.assertEqual({b"x" * 4096}, {media.read(0, 4096) for media in world.media})
        self.write(world, 0)
        world.check_convergence()

    def test_stopped_meanwhile(self) -> None:
        """A stop waits for it as for everything, and ends all the same."""
        world, done = self.refused()
        assert world.mirror is not None
        self.fails(Unavailable, done)
        closing = world.mirror.close()
        world.advance(5)
        self.assertNoResult(closing)
        world.advance(6)
        self.successResultOf(closing)
        world.mirror = None

    def test_read_that_nobody_can_answer_any_more(self) -> None:
        """A read that was refused while it waited for a write fails once."""
        world = self.served(2, on_loss="error", freeze_s=1.0, minimum_copies=2, slow_s=0.0)
        assert world.mirror is not None
        self.write(world, 0)
        for node in world.nodes:
            node.hold("read write")
            node.fail_next("read", MediaError("bad"), extent=(0, 4096))
        read = world.mirror.read(0, 4096)
        first, second = sorted(world.nodes, key=lambda node: not node.held)
        first.release()
        first.hold("write")
        world.advance(0.1)
        written = world.mirror.write(0, b"x" * 4096)
        second.release(1)
        world.advance(0.1)
        self.assertEqual((["write"], ["write"]), tuple([each.kind for each in node.held] for node in world.nodes))
        self.assertNoResult(read)
        self.data_path(world).refuse(Unavailable("too few copies"))
        self.fails(Unavailable, read)
        self.fails(Unavailable, written)
        self.data_path(world).accept()
        for node in world.nodes:
            node.release()
        world.advance(1)
        self.assertEqual([0, 1], world.in_sync)
        self.assertFalse(self.data_path(world).busy)
