# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
Every promise of L{dst.interfaces.IAlgorithm} that does not depend on the algorithm, as tests.

A storage is a node, so those of L{dst.testing.node_suite} are among them: once it is open and ready it is a
block device like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from zope.interface.verify import verifyObject

from dst.errors import DSTError, InvalidRequest, NotSupported
from dst.interfaces import IAlgorithm, INode
from dst.status import Health, LinkState
from dst.testing.device_suite import ReadOnlySuite
from dst.testing.disk import SimulatedDisk
from dst.testing.media import SimulatedMedia
from dst.testing.node_suite import NodeSuite
from dst.testing.specimen import Maker, suite_class

__all__ = ["AlgorithmSuite", "algorithm_suite"]


class AlgorithmSuite(NodeSuite):
    """Several nodes behind one algorithm."""

    widens: bool

    @property
    def storage(self) -> IAlgorithm:
        """The storage under test."""
        return cast(IAlgorithm, self.specimen.node)

    def another_node(self) -> INode:
        """A blank node that is large enough for any place."""
        clock = self.specimen.clock
        if clock is None:
            from twisted.internet import reactor  # the real one, because the specimen has no clock

            return SimulatedDisk(cast(Any, reactor), "another", SimulatedMedia(64 << 20))
        return SimulatedDisk(clock, "another", SimulatedMedia(64 << 20))

    async def test_provides_algorithm(self) -> None:
        """It has every attribute and method of the interface, with its arguments."""
        self.assertTrue(verifyObject(IAlgorithm, await self.build()))

    async def test_nodes(self) -> None:
        """The members' nodes are there before and after C{open}, in one order, each under a name of its own."""
        await self.build()
        before = list(self.storage.nodes)
        await self.wait(self.storage.open())
        self.assertGreater(len(before), 0)
        self.assertEqual(before, list(self.storage.nodes))
        self.assertEqual(len(before), len({node.name for node in before}))

    async def test_opens_members(self) -> None:
        """C{open} opens every member."""
        await self.build_open()
        self.assertEqual({LinkState.READY}, {node.link for node in self.storage.nodes})

    async def test_closes_members(self) -> None:
        """C{close} closes every member."""
        await self.build_open()
        await self.wait(self.storage.close())
        self.assertEqual({LinkState.CLOSED}, {node.link for node in self.storage.nodes})

    async def test_status_of_members(self) -> None:
        """The status carries that of every member, in the order of C{nodes}, with its place as the state."""
        await self.build_open()
        tree = self.storage.status()
        self.assertIs(Health.HEALTHY, tree.health)
        self.assertEqual([node.name for node in self.storage.nodes], [child.name for child in tree.children])
        self.assertEqual({"in-sync"}, {child.state for child in tree.children})

    async def test_explains_itself(self) -> None:
        """While it is healthy the explanation says so, of everything that the status has."""
        await self.build_open()
        explanation, tree = self.storage.explain(), self.storage.status()
        self.assertEqual(
            [(each.name, each.kind, each.state) for each in tree.walk()],
            [(each.name, each.kind, each.state) for each in explanation.walk()],
        )
        for each in explanation.walk():
            self.assertIs(Health.HEALTHY, each.health)
            self.assertNotEqual("", each.summary)
            self.assertEqual(("", ()), (each.next_step, each.advice))

    async def test_explains_the_end(self) -> None:
        """Before it is open, and when it is closed, there is a reason, something seen, and what comes next."""
        await self.build()
        self.check_explained()
        await self.wait(self.storage.open())
        await self.wait(self.storage.close())
        self.check_explained()

    def check_explained(self) -> None:
        """It is not healthy, and everything that is not has what an explanation needs."""
        explanation = self.storage.explain()
        self.assertIsNot(Health.HEALTHY, explanation.health)
        for each in explanation.walk():
            if each.health is not Health.HEALTHY:
                self.assertNotEqual("", each.summary, each)
                self.assertNotEqual("", each.next_step, each)
                self.assertNotEqual((), each.evidence, each)

    async def test_no_resync_has_ended(self) -> None:
        """A storage that was only opened has a history that can be asked for; each entry says how it ended."""
        await self.build_open()
        for record in self.storage.resyncs():
            self.assertIn(record.member, [node.name for node in self.storage.nodes])
            self.assertNotEqual("", record.outcome)

    async def test_take_over_what_is_served(self) -> None:
        """What is served here cannot be taken over, and goes on."""
        await self.build_open()
        error = await self.assert_fails(DSTError, self.storage.take_over)
        self.assertIsInstance(error, InvalidRequest | NotSupported)
        self.assertIs(LinkState.READY, self.storage.link)

    async def test_grow_without_room(self) -> None:
        """Where nobody's media has grown it stays as it is, and says so."""
        await self.build_open()
        geometry = self.storage.geometry
        error = await self.assert_fails(DSTError, self.storage.grow)
        self.assertIsInstance(error, InvalidRequest | NotSupported)
        self.assertEqual((geometry, LinkState.READY), (self.storage.geometry, self.storage.link))

    async def test_smaller_than_members(self) -> None:
        """The size and block size are those that the members can carry."""
        await self.build_open()
        geometry = self.storage.geometry
        self.assertLessEqual(geometry.size, sum(node.geometry.size for node in self.storage.nodes))
        for node in self.storage.nodes:
            self.assertEqual(0, geometry.block_size % node.geometry.block_size)

    async def test_initialise_twice(self) -> None:
        """A storage that exists is not initialised again."""
        await self.build_open()
        await self.assert_fails(InvalidRequest, self.storage.initialise, discard=True)
        await self.assert_fails(InvalidRequest, self.storage.initialise, self.storage.nodes[0].name)

    async def test_unknown_member(self) -> None:
        """An operation on a member that is not there fails, and says the name."""
        await self.build_open()
        storage = self.storage
        operations: list[Callable[..., Any]] = [
            storage.suspend,
            storage.resume,
            storage.mark_clean,
            storage.mark_dirty,
            storage.remove_node,
            storage.resolve,
            storage.pause_resync,
            storage.resume_resync,
            lambda name: storage.replace(name, self.another_node()),
        ]
        for operation in operations:
            error = await self.assert_fails(DSTError, operation, "nobody")
            if not isinstance(error, NotSupported):
                self.assertIn("nobody", error.message)

    async def test_width(self) -> None:
        """What cannot be widened or narrowed says so with C{NotSupported}, and changes nothing."""
        await self.build_open()
        if self.widens:
            return  # how a mirror grows and shrinks is tested where mirrors are
        names = [node.name for node in self.storage.nodes]
        await self.assert_fails(NotSupported, self.storage.add_node, self.another_node())
        await self.assert_fails(NotSupported, self.storage.remove_node, names[0])
        self.assertEqual(names, [node.name for node in self.storage.nodes])
        self.assertIs(LinkState.READY, self.storage.link)


def algorithm_suite(provider: type, make: Maker, *, make_read_only: Maker | None = None, widens: bool = False) -> Any:
    """
    A test case that holds C{provider} to L{dst.interfaces.IAlgorithm}; subclass it in a test module.

    @param make: makes a L{dst.testing.Specimen} of a storage that is not open, whose members are all
        there, and which is ready and healthy once it is open; at least 128 KiB large.
    @param make_read_only: the same, of a storage that refuses changes.
    @param widens: C{add_node} and C{remove_node} are supported.
    """
    return suite_class(AlgorithmSuite, provider, make, make_read_only, ReadOnlySuite, widens=widens)
