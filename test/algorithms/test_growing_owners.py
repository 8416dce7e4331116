"""Tests of a mirror that grows while another daemon may take it over."""

from __future__ import annotations

from dst.label.zone import LABELS_BYTES, PAGE_BYTES
from dst.status import MemberState
from dst.testing.faulty import FaultyDevice
from test.algorithms.owners import REGION, SIZE, Owners
from test.algorithms.test_ownership import OwnersCase

OLD_DATA = SIZE - LABELS_BYTES - 2 * PAGE_BYTES
NEW_SIZE = SIZE + 9 * REGION
NEW_DATA = NEW_SIZE - LABELS_BYTES - 2 * PAGE_BYTES


def media_grows(world: Owners) -> None:
    """What is new on it is not zero; every daemon is told."""
    for index in range(world.members):
        media = world.media[index]
        media.write(media.size, b"\xa5" * (NEW_SIZE - media.size), fua=True)
        media.size = NEW_SIZE
        for links in world.links:
            for link in links[index : index + 1]:
                if link.executor.media is media:
                    link.executor.refresh()
    world.advance(0.1)


class GrowingTests(OwnersCase):
    """The owner dies while it makes the storage larger, or does not."""

    def grown(self, steps: int) -> int:
        """@return: the size that the standby finds, when the owner dies after so many operations."""
        world, left = self.begin()
        right = world.start(1)
        world.advance(2.0)
        world.result(left.write(0, b"a" * 4096))
        world.result(left.write(OLD_DATA - 4096, b"z" * 4096, fua=True))
        media_grows(world)
        for link in world.links[0]:
            link.hold("write write_zeroes flush")
        left.grow().addErrback(lambda failure: None)
        for step in range(steps):
            world.advance(0.06)
            held = [link for link in world.links[0] if link.held]
            if held:
                FaultyDevice.release(held[step % len(held)], 1)
        announced = left.geometry.size
        world.kill(0)
        self.until(world, self.serves(right))
        size = right.geometry.size
        self.assertGreaterEqual(size, announced)
        self.assertEqual(b"a" * 4096, bytes(world.result(right.read(0, 4096))))
        self.assertEqual(b"z" * 4096, bytes(world.result(right.read(OLD_DATA - 4096, 4096))))
        self.until(world, lambda: all(member.state is MemberState.IN_SYNC for member in right.members))
        if size == OLD_DATA:
            self.assertIsNone(world.result(right.grow()))
        self.assertEqual(NEW_DATA, right.geometry.size)
        self.assertEqual(bytes(NEW_DATA - OLD_DATA), bytes(world.result(right.read(OLD_DATA, NEW_DATA - OLD_DATA))))
        copies = {media.read(0, NEW_DATA) for media in world.media[: world.members]}
        self.assertEqual(1, len(copies))
        world.kill(1)
        return size

    def test_taken_over_in_the_middle(self) -> None:
        """Whenever the owner dies, a standby serves the old size or the new one, and can go on to the new one."""
        sizes = [self.grown(steps) for steps in range(40)]
        self.assertEqual({OLD_DATA, NEW_DATA}, set(sizes))

    def test_who_has_never_seen_it(self) -> None:
        """A daemon that starts with media that has grown finds the labels with what a witness remembers."""
        world, left = self.begin()
        world.result(left.write(0, b"a" * 4096, fua=True))
        world.kill(0)
        media_grows(world)
        right = world.start(1)
        self.until(world, self.serves(right))
        self.assertEqual(OLD_DATA, right.geometry.size)
        self.assertEqual(b"a" * 4096, bytes(world.result(right.read(0, 4096))))
        self.assertIsNone(world.result(right.grow()))
        self.assertEqual(NEW_DATA, right.geometry.size)
        world.kill(1)
