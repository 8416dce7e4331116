"""Tests of L{test.campaign.fragile}."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.testing import Specimen, node_suite
from test.campaign.fragile import FragileNode, FragileProvider

MIB = 1 << 20


def make(case: SynchronousTestCase) -> Specimen:
    """One on a new file."""
    clock = Clock()
    path = case.mktemp()

    def another() -> FragileNode:
        return FragileNode(clock, "f", path, 2 * MIB, randomness=Random(1))

    return Specimen(another(), clock=clock, reopen=another)


class FragileNodeTests(node_suite(FragileNode, make)):
    """It keeps the promises of a node as long as its process lives, and after a close in order."""


class Died(Exception):
    """Instead of the process."""


def die() -> None:
    raise Died


class PowerTests(SynchronousTestCase):
    """What is left when the process is killed."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.node = self.opened()

    def opened(self, seed: int = 1) -> FragileNode:
        """The same media in another process."""
        node = FragileNode(Clock(), "f", self.path, MIB, randomness=Random(seed), die=die)
        self.successResultOf(node.open())
        self.addCleanup(node.close)
        return node

    def after_power_loss(self) -> FragileNode:
        """The media, when the power is back."""
        self.node.power_cut()
        return self.opened()

    def test_flushed(self) -> None:
        """What was flushed, or written with FUA, is there."""
        self.successResultOf(self.node.write(0, b"a" * 4096))
        self.successResultOf(self.node.flush())
        self.successResultOf(self.node.write(4096, b"b" * 4096, fua=True))
        node = self.after_power_loss()
        self.assertEqual(b"a" * 4096 + b"b" * 4096, bytes(self.successResultOf(node.read(0, 8192))))

    def test_unflushed(self) -> None:
        """Of what was not, most is lost, some is there, and some is torn; each sector is old or new."""
        fates = set()
        for block in range(200):
            self.successResultOf(self.node.write(block * 4096, b"n" * 4096))
        node = self.after_power_loss()
        for block in range(200):
            data = bytes(self.successResultOf(node.read(block * 4096, 4096)))
            sectors = [data[at : at + 512] for at in range(0, 4096, 512)]
            self.assertTrue({*sectors} <= {bytes(512), b"n" * 512})
            fates.add(len({*sectors}))
        lost = sum(
            not any(self.successResultOf(node.read(block * 4096, 4096)))  # type: ignore[arg-type]
            for block in range(200)
        )
        self.assertEqual({1, 2}, fates)
        self.assertGreater(lost, 50)
        self.assertLess(lost, 200)

    def test_newest_survives(self) -> None:
        """A sector that reached the platter never goes back to what was written before."""
        for number in range(1, 200):
            self.successResultOf(self.node.write(0, bytes([number]) * 512))
        self.successResultOf(self.node.flush())
        self.assertEqual(bytes([199]) * 512, bytes(self.successResultOf(self.after_power_loss().read(0, 512))))

    def test_incarnation(self) -> None:
        """It is another one after a loss of power, and the same after a close in order."""
        before = self.node.incarnation
        node = self.after_power_loss()
        self.assertNotEqual(before, node.incarnation)
        self.successResultOf(node.close())
        again = self.opened()
        self.assertEqual(node.incarnation, again.incarnation)
        again.power_cut()
        self.assertNotEqual(node.incarnation, self.opened().incarnation)

    def test_dies_in_the_middle(self) -> None:
        """Told to die at a change of the platter, it does so in the middle of a flush, with a part of it done."""
        for block in range(0, 20, 2):
            self.successResultOf(self.node.write(block * 4096, b"n" * 4096))
        with open(self.path + ".die", "w") as target:
            target.write("4")
        self.assertRaises(Died, self.node.flush)
        node = self.after_power_loss()
        there = [any(self.successResultOf(node.read(block * 4096, 4096))) for block in range(0, 20, 2)]  # type: ignore[arg-type]
        self.assertIn(True, there)
        self.assertIn(False, there)


class FragileProviderTests(SynchronousTestCase):
    """C{fragile:}."""

    def test_node(self) -> None:
        """It is made of a path and a size, and touches nothing."""
        path = self.mktemp()
        node = FragileProvider().node_from_uri(Clock(), "f", f"fragile:{path}?size=1M&seed=3", {})
        self.assertEqual((path, "f", 0), (node.path, node.name, node.geometry.size))
