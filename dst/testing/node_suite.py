# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
Every promise of L{dst.interfaces.INode}, as tests; those of C{IBlockDevice} are among them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from dst.errors import DSTError, Unavailable
from dst.interfaces import INode
from dst.status import Health, LinkState
from dst.testing.device_suite import BlockDeviceSuite, ReadOnlySuite
from dst.testing.specimen import Maker, suite_class

__all__ = ["NodeSuite", "node_suite"]


class NodeSuite(BlockDeviceSuite):
    """A block device with a name and a link."""

    async def test_provides_node(self) -> None:
        """It has every attribute and method of the interface, with its arguments."""
        self.assertTrue(verifyObject(INode, await self.build()))

    async def test_before_open(self) -> None:
        """Before C{open} nothing is known and nothing is done: operations fail with C{Unavailable} at once."""
        node = await self.build()
        self.assertEqual(0, node.geometry.size)
        self.assertIsNot(LinkState.READY, node.link)
        self.assertNotEqual("", node.reason)
        await self._every_operation_unavailable()

    async def _every_operation_unavailable(self) -> None:
        node = self.node
        for operation in self.extent_operations():
            await self.assert_fails(Unavailable, operation, 0, 4096)
        await self.assert_fails(Unavailable, node.flush)

    async def test_ready(self) -> None:
        """After C{open} the node is ready and has nothing to explain."""
        node = await self.build_open()
        self.assertEqual((LinkState.READY, ""), (node.link, node.reason))

    async def test_named(self) -> None:
        """The name is a word, and the status says it with the kind of node."""
        node = await self.build_open()
        tree = node.status()
        self.assertNotEqual("", node.name)
        self.assertEqual(node.name, tree.name)
        self.assertNotIn(tree.kind, ("", "node"))

    async def test_closed(self) -> None:
        """After C{close} operations fail with C{Unavailable}, and the status says that it is closed."""
        node = await self.build_open()
        await self.wait(node.close())
        self.assertIs(LinkState.CLOSED, node.link)
        self.assertNotEqual("", node.reason)
        tree = node.status()
        self.assertEqual((Health.FAILED, "closed"), (tree.health, tree.state))
        await self._every_operation_unavailable()

    async def test_close_again(self) -> None:
        """C{close} of a node that is closed, or was never opened, has nothing to do."""
        node = await self.build_open()
        await self.wait_all([node.close(), node.close()])
        await self.wait(node.close())
        await self.wait((await self.build()).close())

    async def test_close_completes_what_is_in_flight(self) -> None:
        """When C{close} fires every operation has ended, one way or the other."""
        node = await self.build_open()
        ended: list[int] = []

        def note(_result: object, number: int) -> None:
            ended.append(number)

        for number in range(40):
            operation: Deferred[Any]
            if number % 2:
                operation = node.read(0, self.block)
            else:
                operation = node.write(number * self.block, bytes(self.block))
            operation.addErrback(lambda failure: failure.trap(DSTError))
            operation.addCallback(note, number)
        await self.wait(node.close())
        self.assertEqual(list(range(40)), sorted(ended))

    async def test_close_leaves_nothing(self) -> None:
        """A turn after C{close} no timer is left."""
        node = await self.build_open()
        node.observe(lambda node: None)
        await self.wait_all([node.write(0, bytes(self.block)), node.flush()])
        await self.wait(node.close())
        await self.turn()
        clock = self.specimen.clock
        if clock is not None:  # the real reactor is looked at by trial
            self.assertEqual([], [str(call) for call in clock.getDelayedCalls()])

    async def test_observers_are_told_later(self) -> None:
        """An observer runs in a later turn than the change, and finds the node as it is by then."""
        node = await self.build()
        seen: list[tuple[bool, LinkState, int]] = []
        calling = True
        node.observe(lambda node: seen.append((calling, node.link, node.geometry.size)))
        opening = node.open()
        calling = False
        await self.wait(opening)
        while not seen or seen[-1][1] is not LinkState.READY:
            await self.turn()
        self.assertFalse(any(inside for inside, _link, _size in seen))
        self.assertEqual(node.geometry.size, seen[-1][2])

    async def test_observers_are_told_once(self) -> None:
        """Once a change was told there is no further call without a further change."""
        node = await self.build_open()
        for _ in range(3):
            await self.turn()
        seen: list[LinkState] = []
        node.observe(lambda node: seen.append(node.link))
        await self.wait(node.write(0, bytes(self.block)))
        for _ in range(3):
            await self.turn()
        self.assertEqual([], seen)

    async def test_observer_that_stopped(self) -> None:
        """An observer that ended its observation is not called; the others are."""
        node = await self.build()
        seen: list[str] = []
        stop = node.observe(lambda node: seen.append("stopped"))
        node.observe(lambda node: seen.append("other"))
        opening = node.open()
        stop()
        await self.wait(opening)
        while not seen:
            await self.turn()
        self.assertEqual({"other"}, set(seen))
        stop()  # a second time does nothing

    async def test_observer_that_fails(self) -> None:
        """An observer that raises is logged and keeps nobody else from being told."""
        node = await self.build()
        seen: list[LinkState] = []

        def bad(node: INode) -> None:
            raise ArithmeticError("an observer's own mistake")

        stop = node.observe(bad)
        node.observe(lambda node: seen.append(node.link))
        await self.wait(node.open())
        while LinkState.READY not in seen:
            await self.turn()
        stop()
        self.assertNotEqual([], self.flushLoggedErrors(ArithmeticError))


def node_suite(provider: type, make: Maker, *, make_read_only: Maker | None = None) -> Any:
    """
    A test case that holds C{provider} to L{dst.interfaces.INode}; subclass it in a test module.

    @param make: makes a L{dst.testing.Specimen} of a node that is not open, at least 128 KiB large.
    @param make_read_only: the same, of a node that refuses changes.
    """
    return suite_class(NodeSuite, provider, make, make_read_only, ReadOnlySuite)
