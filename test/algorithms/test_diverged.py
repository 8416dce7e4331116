"""Tests of L{dst.algorithms.mirror.diverged}: two histories of one storage."""

from __future__ import annotations

from typing import Any

from dst.algorithms.mirror import Mirror
from dst.errors import DSTError, InvalidRequest, NotFound, ReadOnly, Unavailable
from dst.interfaces import INode
from dst.label.lineage import Lineage, lineage
from dst.status import LinkState, MemberState
from test.algorithms.owners import REGION, Owners
from test.algorithms.test_ownership import OwnersCase

SHARED, LEFT, RIGHT = b"s" * 4096, b"l" * 4096, b"r" * 4096


class SplitCase(OwnersCase):
    """
    The owner goes on with n0 and the witness; a person makes the standby go on with n1, which it alone can reach.
    """

    def split(self, daemons: int = 2) -> tuple[Owners, Mirror, Mirror]:
        world, left = self.begin(2, 1, daemons, takeover_s=0.5)
        self.put(world, left, 0, SHARED)
        self.put(world, left, REGION, SHARED)
        self.settle(world, left)
        right = world.start(1)
        world.advance(1.0)
        world.cut(0, 1)
        world.cut(1, 0, 2)
        self.put(world, left, REGION, LEFT)
        world.advance(5.0)
        self.assertEqual(LinkState.AWAY, right.link)
        self.assertIsNone(world.result(right.mark_clean("n1")))
        self.until(world, self.serves(right))
        self.put(world, right, 2 * REGION, RIGHT)
        self.put(world, right, 3 * REGION, RIGHT)
        self.settle(world, left)
        self.settle(world, right)
        return world, left, right

    def settle(self, world: Owners, mirror: Mirror) -> None:
        """Everything is stable, and no region hot, as it is some time after the last write at the latest."""
        self.assertIsNone(world.result(mirror.flush()))
        assert mirror.serving is not None
        self.assertTrue(world.result(mirror.serving.hot.clear_all()))

    def refused(self) -> tuple[Owners, Mirror]:
        """The other daemon is gone, and its copy has come to the owner."""
        world, left, _ = self.split()
        world.kill(1)
        world.mend(0)
        self.until(world, lambda: left.members[1].state is MemberState.REFUSED)
        world.advance(1.0)
        return world, left

    def put(self, world: Owners, mirror: Mirror, at: int, data: bytes) -> None:
        self.assertIsNone(world.result(mirror.write(at, data)))

    def holds(self, world: Owners, device: Any, *content: bytes) -> None:
        """The first blocks of the first regions."""
        for region, data in enumerate(content):
            self.assertEqual(data, bytes(world.result(device.read(region * REGION, 4096))), region)

    def on_media(self, world: Owners, n: int, *content: bytes) -> None:
        for region, data in enumerate(content):
            self.assertEqual(data, world.media[n].read(region * REGION, 4096), region)

    def in_sync(self, mirror: Mirror) -> Any:
        return lambda: mirror.serving and all(member.state is MemberState.IN_SYNC for member in mirror.members)


LEFT_HAS = (SHARED, LEFT, bytes(4096), bytes(4096))
RIGHT_HAS = (SHARED, SHARED, RIGHT, RIGHT)


class RefusedTests(SplitCase):
    """A copy with another history comes to a storage that runs."""

    def test_refused(self) -> None:
        """It is left alone, and its reason says what each choice would lose (forced-on-stale-then-truth-returns)."""
        world, left = self.refused()
        before = world.media[1].read(0, world.media[1].size)
        member = left.members[1]
        self.assertEqual("diverged", member.row)
        self.assertIn("To keep this one loses at most 64.0 KiB, to keep the other at most 128 KiB", member.reason)
        self.put(world, left, 4 * REGION, LEFT)
        world.advance(20.0)
        self.assertEqual(before, world.media[1].read(0, world.media[1].size))
        self.holds(world, left, *LEFT_HAS)

    def test_read_both(self) -> None:
        """What it has can be read beside the storage, and not changed."""
        world, left = self.refused()
        history = left.histories()["n1"]
        self.assertEqual("vol@n1", history.name)
        self.assertEqual(left.geometry.size, history.geometry.size)
        self.holds(world, history, *RIGHT_HAS)
        self.holds(world, left, *LEFT_HAS)
        for refused in (history.write(0, LEFT), history.trim(0, 4096), history.write_zeroes(0, 4096)):
            self.assertIsInstance(world.result(refused), ReadOnly)
        self.assertIsInstance(world.result(history.read(history.geometry.size, 512)), InvalidRequest)
        self.assertIsNone(world.result(history.flush()))
        self.assertIs(history, left.histories()["n1"])

    def test_history_follows_its_node(self) -> None:
        """While the member is away there is nothing to read."""
        world, left = self.refused()
        history = left.histories()["n1"]
        world.cut(0, 1)
        world.advance(0.1)
        self.assertIsInstance(world.result(history.read(0, 4096)), Unavailable)

    def test_keep_the_storage(self) -> None:
        """The copy is given up: what differs is copied over, what is equal by its age is not."""
        world, left = self.refused()
        history = left.histories()["n1"]
        self.assertIsNone(world.result(left.resolve("n0")))
        self.until(world, self.in_sync(left))
        self.holds(world, left, *LEFT_HAS)
        self.on_media(world, 1, *LEFT_HAS)
        self.assertEqual("resolved", left.members[1].row)
        self.assertEqual({}, left.histories())
        self.assertIsInstance(world.result(history.read(0, 4096)), Unavailable)
        copied = left.resyncs()[-1]
        self.assertLessEqual(copied.bytes_dirty, 3 * REGION)
        self.assert_one_line(world, left)

    def test_keep_the_other(self) -> None:
        """The storage goes on from the copy, its users are told, and the others get what that one has."""
        world, left = self.refused()
        incarnation = left.incarnation
        self.assertIsNone(world.result(left.resolve("n1")))
        self.until(world, self.in_sync(left))
        self.assertNotEqual(incarnation, left.incarnation)
        self.holds(world, left, *RIGHT_HAS)
        self.on_media(world, 0, *RIGHT_HAS)
        self.assert_one_line(world, left)
        self.put(world, left, 0, LEFT)
        self.assertIsNone(world.result(left.close()))
        again = world.start(0)
        self.until(world, self.in_sync(again))
        self.holds(world, again, LEFT, *RIGHT_HAS[1:])

    def test_nothing_to_choose(self) -> None:
        """Where there is one history there is no choice, and a member that has none cannot be kept."""
        world, left = self.begin()
        self.assertIsInstance(world.result(left.resolve("n0")), InvalidRequest)
        self.assertIsInstance(world.result(left.resolve("nobody")), NotFound)
        self.assertEqual({}, left.histories())

    def test_went_on_after_the_choice(self) -> None:
        """What the copy got after a person had given it up was not given up: it is asked again."""
        world, left = self.refused()
        world.cut(0, 1)
        self.assertIsNone(world.result(left.resolve("n0")))
        world.advance(1.0)
        right = world.start(1)
        world.cut(1, 0, 2)
        self.until(world, self.serves(right))
        self.put(world, right, 5 * REGION, RIGHT)
        self.assertIsNone(world.result(right.flush()))
        world.kill(1)
        world.mend(0)
        world.advance(10.0)
        self.assertEqual(("diverged", MemberState.REFUSED), (left.members[1].row, left.members[1].state))
        self.holds(world, left.histories()["n1"], *RIGHT_HAS)

    def assert_one_line(self, world: Owners, mirror: Mirror) -> None:
        """Every label tells of one history."""
        world.advance(2.0)
        assert mirror.serving is not None
        record = mirror.serving.configuration.record
        for holder in (*mirror.members, *mirror.witnesses):
            assert holder.labels is not None and holder.labels.label is not None
            self.assertIn(lineage(holder.labels.label.record, record), (Lineage.SAME, Lineage.ANCESTOR))


class StartTests(SplitCase):
    """A start that finds two histories."""

    def asked(self, daemon: int) -> tuple[Owners, Mirror]:
        world, _, _ = self.split(3)
        world.kill(0)
        world.kill(1)
        world.advance(1.0)
        mirror = world.start(daemon)
        self.until(world, lambda: "different histories" in mirror.reason)
        world.advance(1.0)
        return world, mirror

    def test_new_daemon_asks(self) -> None:
        """A daemon that has no part in it waits for a person; both can be read, nothing is written."""
        world, mirror = self.asked(2)
        before = [media.read(0, media.size) for media in world.media]
        world.advance(10.0)
        histories = mirror.histories()
        self.assertEqual({"n0", "n1"}, set(histories))
        self.holds(world, histories["n0"], *LEFT_HAS)
        self.holds(world, histories["n1"], *RIGHT_HAS)
        self.assertEqual(before, [media.read(0, media.size) for media in world.media])
        self.assertIn("discards at most 128 KiB of the others", mirror.members[0].reason)
        self.assertIn("discards at most 64.0 KiB of the others", mirror.members[1].reason)

    def test_old_owner_asks(self) -> None:
        """The owner that went on did not know of the choice: it asks."""
        _, mirror = self.asked(0)
        self.assertEqual(LinkState.AWAY, mirror.link)

    def test_whoever_was_told_goes_on(self) -> None:
        """The daemon through which a person made the choice goes on with it, and refuses the other."""
        world, _, _ = self.split()
        world.kill(0)
        world.kill(1)
        world.advance(1.0)
        right = world.start(1)
        self.until(world, self.serves(right))
        self.holds(world, right, *RIGHT_HAS)
        self.until(world, lambda: right.members[0].row == "diverged")
        self.on_media(world, 0, *LEFT_HAS)

    def test_choose_either(self) -> None:
        """The start goes on with the history that a person chooses, and the other is copied over."""
        for keep, has in (("n0", LEFT_HAS), ("n1", RIGHT_HAS)):
            for daemon in (0, 2):
                world, mirror = self.asked(daemon)
                history = mirror.histories()[keep]
                self.assertIsNone(world.result(mirror.resolve(keep)), (keep, daemon))
                self.until(world, self.in_sync(mirror))
                self.holds(world, mirror, *has)
                self.on_media(world, 0, *has)
                self.on_media(world, 1, *has)
                self.assertIsInstance(world.result(history.read(0, 512)), DSTError)

    def test_chosen_one_goes_away(self) -> None:
        """What was chosen and cannot be read now is waited for, not passed over, until another is chosen."""
        world, mirror = self.asked(2)
        world.cut(2, 1)
        assert mirror.starter is not None
        mirror.starter.choose("n1")  # it went away in this moment
        world.advance(10.0)
        self.assertEqual(LinkState.AWAY, mirror.link)
        self.assertIn("a person has chosen the history of n1", mirror.reason)
        self.on_media(world, 0, *LEFT_HAS)
        self.assertIsNone(world.result(mirror.resolve("n0")))
        self.until(world, self.serves(mirror))
        self.holds(world, mirror, *LEFT_HAS)

    def test_unknown(self) -> None:
        """Only a member can be kept, and only one that was seen."""
        world, mirror = self.asked(2)
        self.assertIsInstance(world.result(mirror.resolve("nobody")), NotFound)
        world.cut(2, 1)
        world.advance(0.2)
        self.assertIsInstance(world.result(mirror.resolve("n1")), InvalidRequest)

    def test_close(self) -> None:
        """When the storage is closed nothing of its histories is left."""
        world, mirror = self.asked(2)
        node: INode = mirror.histories()["n0"]
        self.assertIsNone(world.result(mirror.close()))
        self.assertEqual(LinkState.CLOSED, node.link)
        self.assertEqual({}, mirror.histories())
