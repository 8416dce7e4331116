"""A mirror that is asked for many writes at once."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from dst.errors import DSTError, NoSpace, Unavailable
from dst.interfaces import IWritesTogether
from dst.status import LinkState
from dst.testing.media import SECTOR_BYTES
from test.algorithms.test_mirror import MirrorCase
from test.scenarios.world import REGION_BYTES, World

BLOCK_BYTES = 8 * SECTOR_BYTES


def blocks(*numbers: int, fill: bytes = b"x") -> list[tuple[int, bytes]]:
    """Writes of these blocks."""
    return [(number * BLOCK_BYTES, fill * BLOCK_BYTES) for number in numbers]


class TogetherTests(MirrorCase):
    """The gates are those of writes that come alone."""

    def ask(self, world: World, writes: list[tuple[int, bytes]]) -> Deferred[Any]:
        """Asked for together."""
        assert world.mirror is not None
        return IWritesTogether(world.mirror).write_together(writes)

    def content(self, world: World, n: int, number: int) -> bytes:
        """A block on a member's media."""
        return world.media[n].read(number * BLOCK_BYTES, BLOCK_BYTES)

    def all_equal(self, world: World) -> None:
        """All members come to have the same."""
        self.until_in_sync(world)
        self.assertEqual(1, len({media.read(0, world.data_sectors * SECTOR_BYTES) for media in world.media}))

    def test_all_members(self) -> None:
        """All of them are on all members when it fires."""
        world = self.served()
        self.assertIsNone(world.wait_for(self.ask(world, blocks(0, 3, 70, 7))))
        for n in range(3):
            for number in (0, 3, 70, 7):
                self.assertEqual(b"x" * BLOCK_BYTES, self.content(world, n, number))

    def test_waits_for_all(self) -> None:
        """It does not fire before the last member has done the last one."""
        world = self.served()
        world.wait_for(self.ask(world, blocks(0, 1, 2)))
        world.nodes[2].hold("write")
        done = self.ask(world, blocks(0, 1, 2, fill=b"y"))
        world.advance(0.5)
        self.assertNoResult(done)
        world.nodes[2].release(2)
        world.advance(0.5)
        self.assertNoResult(done)
        world.nodes[2].release()
        self.assertIsNone(world.wait_for(done))

    def test_marks_first(self) -> None:
        """Those whose region is not marked wait for that; what is marked is not held up on its way to the members."""
        world = self.served()
        world.wait_for(self.ask(world, blocks(0)))
        far = 3 * REGION_BYTES // BLOCK_BYTES
        for node in world.nodes:
            node.history.clear()
            node.hold("flush")
        done = self.ask(world, blocks(1, far, 2))
        world.advance(0.01)
        sent = {o.offset // BLOCK_BYTES for o in world.nodes[0].history if o.kind == "write" and not o.fua}
        self.assertLessEqual({1, 2}, sent)
        for node in world.nodes:
            node.release()
        self.assertIsNone(world.wait_for(done))
        self.assertEqual(b"x" * BLOCK_BYTES, self.content(world, 1, far))

    def test_one_order(self) -> None:
        """Those that overlap, in one request or in several, leave the same on every member."""
        world = self.served()
        world.delay_s = 0.003
        asked = []
        for fill in (b"1", b"2", b"3"):
            asked.append(
                self.ask(world, [*blocks(5, fill=fill), *blocks(5, fill=fill.upper() * 1), *blocks(6, fill=fill)])
            )
            asked.append(self.ask(world, [(5 * BLOCK_BYTES + SECTOR_BYTES, fill * BLOCK_BYTES)]))
        for each in asked:
            self.assertIsNone(world.wait_for(each))
        for number in (5, 6):
            self.assertEqual(1, len({self.content(world, n, number) for n in range(3)}))
        self.assertEqual(b"3" * BLOCK_BYTES, self.content(world, 0, 5))

    def test_one_fails_everywhere(self) -> None:
        """If the last copy says no to one of them, that one has the error and the others have none."""
        world = self.served(1)
        world.wait_for(self.ask(world, blocks(0, 1, 2)))
        world.nodes[0].fail_next("write", NoSpace("it is full"), extent=(BLOCK_BYTES, BLOCK_BYTES))
        errors = world.wait_for(self.ask(world, blocks(0, 1, 2)))
        self.assertEqual([type(None), NoSpace, type(None)], [type(error) for error in errors])

    def test_member_fails(self) -> None:
        """A member that fails one of them leaves, and all are acknowledged without it."""
        world = self.served()
        world.wait_for(self.ask(world, blocks(0, 1, 2)))
        world.nodes[1].fail_next("write", NoSpace("it is full"), extent=(BLOCK_BYTES, BLOCK_BYTES))
        self.assertIsNone(world.wait_for(self.ask(world, blocks(0, 1, 2, fill=b"z"))))
        assert world.mirror is not None
        self.assertEqual([0, 1, 0], [member.departures for member in world.mirror.members])
        self.all_equal(world)

    def test_only_a_target_can_be_reached(self) -> None:
        """While no copy can be reached they wait, even if a member that is being resynced can be."""
        world = self.served(2)
        world.wait_for(self.ask(world, blocks(0)))
        world.nodes[1].pull()
        far = 3 * REGION_BYTES // BLOCK_BYTES
        world.wait_for(self.ask(world, blocks(0, 1, far)))
        world.advance(5)
        self.assertEqual([0], world.in_sync)
        world.nodes[0].hold("read checksums")  # the resync does not get on
        world.nodes[1].plug_in()
        world.until("a target", lambda: world.mirror.serving.configuration.targets == 2)  # type: ignore[union-attr]
        world.wait_for(self.ask(world, blocks(20, 21)))  # its region is marked on both
        world.nodes[0].pull(LinkState.INTERRUPTED)
        world.advance(3)
        done = self.ask(world, blocks(20, 21, fill=b"y"))
        world.advance(3)
        self.assertNoResult(done)
        world.nodes[0].release()
        world.nodes[0].plug_in()
        self.assertIsNone(world.wait_for(done))
        self.all_equal(world)

    def test_stopped(self) -> None:
        """Those that wait when the storage stops fail, each of them once."""
        world = self.served()
        assert world.mirror is not None
        for node in world.nodes:
            node.pull()
        done = self.ask(world, blocks(0, 1, 2))
        world.advance(3)
        self.assertNoResult(done)
        closing = world.mirror.close()
        errors = world.wait_for(done)
        self.assertEqual([Unavailable] * 3, [type(error) for error in errors])
        world.wait_for(closing)
        errors = self.successResultOf(self.ask(world, blocks(0, 1)))
        self.assertTrue(all(isinstance(error, DSTError) for error in errors))
        self.assertEqual(2, len(errors))

    def test_too_few_copies(self) -> None:
        """They wait for as many copies as the storage wants, like any change."""
        world = self.served(2, minimum_copies=2)
        world.nodes[1].pull()
        world.advance(5)
        done = self.ask(world, blocks(0, 1))
        world.advance(5)
        self.assertNoResult(done)
        world.nodes[1].plug_in()
        self.assertIsNone(world.wait_for(done))

    def test_copies_are_equal_afterwards(self) -> None:
        """Random batches, and a member that comes and goes, leave equal copies."""
        world = self.served()
        for turn in range(30):
            if turn % 10 == 2:
                self.until_in_sync(world)
            numbers = [world.entropy.randrange(30) * 3 for _ in range(1 + turn % 9)]
            asked = self.ask(world, blocks(*numbers, fill=bytes([turn])))
            if turn % 10 == 3:
                world.nodes[turn // 10].pull()
            if turn % 10 == 7:
                world.nodes[turn // 10].plug_in()
            self.assertIsNone(world.wait_for(asked))
        self.all_equal(world)
