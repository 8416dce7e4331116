# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
The promises of devices that are quicker than they must be, as tests: L{dst.interfaces.IReadsNow} and
L{dst.interfaces.IWritesTogether}.

They are part of the suite of every provider that implements the interface; one that provides it only now and then is
tested where it does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SkipTest
from zope.interface.verify import verifyObject

from dst.errors import Unavailable
from dst.geometry import align_down
from dst.interfaces import Buffer, INode, IReadsNow, IWritesTogether
from dst.testing.device_suite import BlockDeviceSuite
from dst.testing.specimen import optional_suites

__all__ = ["ReadsNowSuite", "WritesTogetherSuite"]

HISTORY_STEPS = 40
"""Batches in one random history."""

Writes: TypeAlias = Sequence[tuple[int, Buffer]]


class ReadsNowSuite(BlockDeviceSuite):
    """A device that tells at once what it has at hand."""

    async def quick(self) -> Any:
        """A device that is ready."""
        node = await self.build_open()
        if not IReadsNow.providedBy(node):
            raise SkipTest("this one does not read at once")
        return node

    async def test_reads_now_provides(self) -> None:
        """It has the method of the interface, with its arguments."""
        self.assertTrue(verifyObject(IReadsNow, await self.quick()))

    async def test_reads_now(self) -> None:
        """What it tells at once is what a read gives, as often as it tells anything."""
        node = await self.quick()
        data = await self.fill(0, 16 * self.block)
        for first, last in [(0, 1), (3, 4), (2, 9), (0, 16)]:
            found = node.read_now(first * self.block, (last - first) * self.block)
            if found is not None:
                self.assertEqual(data[first * self.block : last * self.block], bytes(found))

    async def test_reads_now_what_was_written(self) -> None:
        """In the very moment when a change is complete, it tells nothing older."""
        node = await self.quick()
        stale: list[int] = []

        def look(_: object, number: int) -> None:
            found = node.read_now(0, self.block)
            if found is not None and bytes(found) != bytes([number]) * self.block:
                stale.append(number)

        for number in range(1, 20):
            await self.wait(node.write(0, bytes([number]) * self.block).addCallback(look, number))
        await self.wait(node.write_zeroes(0, self.block).addCallback(look, 0))
        await self.wait(node.write(0, b"\1" * self.block).addCallback(look, 1))
        await self.wait(node.trim(0, self.block).addCallback(look, 0))
        self.assertEqual([], stale)

    async def test_reads_now_shares_nothing(self) -> None:
        """What it told stays as it was, whatever is written afterwards; and it is the reader's to keep."""
        node = await self.quick()
        await self.wait(node.write(0, b"a" * self.block))
        found = node.read_now(0, self.block)
        if found is None:
            return  # it need not have anything at hand
        await self.wait(node.write(0, b"b" * self.block))
        self.assertEqual(b"a" * self.block, bytes(found))
        if isinstance(found, bytearray):
            found[:] = b"c" * self.block
        self.assertEqual(b"b" * self.block, await self.read_all(0, self.block))

    async def test_reads_now_largest(self) -> None:
        """The largest transfer may be asked for, too."""
        node = await self.quick()
        length = align_down(min(node.geometry.transfer_bytes_max, node.geometry.size), self.block)
        data = await self.fill(0, length)
        found = node.read_now(0, length)
        if found is not None:
            self.assertEqual(data, bytes(found))

    async def test_reads_now_not_ready(self) -> None:
        """Before it is open and after it was closed it has nothing at hand."""
        node = await self.build()
        if not INode.providedBy(node) or not IReadsNow.providedBy(node):
            raise SkipTest("it is always ready, or does not read at once")
        self.assertIsNone(IReadsNow(node).read_now(0, self.block))
        await self.wait(node.open())
        await self.fill(0, self.block)
        await self.wait(node.close())
        self.assertIsNone(IReadsNow(node).read_now(0, self.block))


class WritesTogetherSuite(BlockDeviceSuite):
    """A device that does many writes at once."""

    async def together(self) -> Any:
        """A device that is ready."""
        node = await self.build_open()
        if not IWritesTogether.providedBy(node):
            raise SkipTest("this one does not write together")
        return node

    def noise(self, blocks: Sequence[int], seed: int = 0) -> list[tuple[int, bytes]]:
        """Writes of whole blocks, with noise."""
        randomness = random.Random(seed)
        return [(number * self.block, randomness.randbytes(self.block)) for number in blocks]

    async def test_together_provides(self) -> None:
        """It has the method of the interface, with its arguments."""
        self.assertTrue(verifyObject(IWritesTogether, await self.together()))

    async def test_together(self) -> None:
        """When it has fired all are done, each in its place, and a read sees them."""
        node = await self.together()
        count = min(100, self.window // self.block)
        writes = self.noise(random.Random(1).sample(range(count), count))
        self.assertIsNone(await self.wait(node.write_together(writes)))
        expected = b"".join(data for _offset, data in sorted(writes))
        self.assertEqual(expected, await self.read_all(0, count * self.block))

    async def test_together_none(self) -> None:
        """No writes at all are done."""
        self.assertIsNone(await self.wait((await self.together()).write_together([])))

    async def test_together_order(self) -> None:
        """Of writes to one place the last one counts, within a batch and in batches one after the other."""
        node = await self.together()
        length = 4 * self.block
        for attempt in range(5):
            numbers = [8 * attempt + number + 1 for number in range(8)]
            writes = [(0, bytes([number]) * length) for number in numbers]
            await self.wait(node.write_together(writes))
            self.assertEqual(writes[-1][1], await self.read_all(0, length))

    async def test_together_buffers(self) -> None:
        """Data comes as C{bytes}, C{bytearray} or C{memoryview}, whole or sliced, in any sequence."""
        node = await self.together()
        data = random.Random(2).randbytes(self.block)
        wide = bytearray(b"x" * 7 + data + b"y" * 9)
        buffers: list[Buffer] = [data, bytearray(data), memoryview(data), memoryview(wide)[7:-9]]
        writes = [(number * self.block, buffer) for number, buffer in enumerate(buffers)]
        for batch in (writes, tuple(writes)):
            await self.wait(node.write_zeroes(0, 4 * self.block))
            self.assertIsNone(await self.wait(node.write_together(batch)))
            self.assertEqual(4 * data, await self.read_all(0, 4 * self.block))

    async def test_together_keeps_no_buffer(self) -> None:
        """When it has fired the buffers are the caller's again."""
        node = await self.together()
        buffer = bytearray(b"a" * self.block)
        await self.wait(node.write_together([(0, buffer), (self.block, memoryview(buffer))]))
        buffer[:] = b"b" * self.block
        self.assertEqual(b"a" * 2 * self.block, await self.read_all(0, 2 * self.block))
        buffer += b"it can grow: nobody looks at it any more"

    async def test_together_between_others(self) -> None:
        """Asked for among other changes of the same place, all in flight, it leaves what some order would."""
        node = await self.together()
        possible = {bytes([number]) * self.block for number in (0, 1, 2, 3)}
        for _ in range(5):
            changes = [
                node.write(0, b"\1" * self.block),
                node.write_together([(0, b"\2" * self.block), (self.block, b"\2" * self.block)]),
                node.write_zeroes(0, self.block),
                node.write_together([(0, b"\3" * self.block)]),
            ]
            await self.wait_all(changes)
            found = await self.read_all(0, self.block)
            self.assertIn(found, possible)
            self.assertEqual(found, await self.read_all(0, self.block))

    async def test_together_after_others(self) -> None:
        """What was asked for when another change had ended comes after it."""
        node = await self.together()
        await self.wait(node.write(0, b"\1" * self.block))
        await self.wait(node.write_together([(0, b"\2" * self.block)]))
        self.assertEqual(b"\2" * self.block, await self.read_all(0, self.block))
        await self.wait(node.trim(0, self.block))
        self.assertEqual(bytes(self.block), await self.read_all(0, self.block))
        await self.wait(node.write_together([(0, b"\3" * self.block)]))
        self.assertEqual(b"\3" * self.block, await self.read_all(0, self.block))

    async def test_together_survives_restart(self) -> None:
        """What was written together is durable when a flush that was asked for afterwards has completed."""
        node = await self.together()
        if self.specimen.reopen is None:
            raise SkipTest("nothing survives a restart of this device")
        writes = self.noise(range(8), seed=3)
        await self.wait(node.write_together(writes))
        await self.wait(node.flush())
        await self.reopen()
        self.assertEqual(b"".join(data for _offset, data in writes), await self.read_all(0, 8 * self.block))

    async def test_together_cancelled(self) -> None:
        """Cancelling means "I do not care": the device goes on."""
        node = await self.together()
        cancelled = node.write_together(self.noise(range(8)))
        cancelled.cancel()
        cancelled.addErrback(lambda failure: failure.trap(CancelledError))
        await self.wait(cancelled)
        writes = self.noise(range(8), seed=1)
        self.assertIsNone(await self.wait(node.write_together(writes)))
        self.assertEqual(b"".join(data for _offset, data in writes), await self.read_all(0, 8 * self.block))

    async def test_together_not_ready(self) -> None:
        """Before it is open and after it was closed each of the writes fails with C{Unavailable}."""
        node = await self.build()
        if not INode.providedBy(node) or not IWritesTogether.providedBy(node):
            raise SkipTest("it is always ready, or does not write together")
        await self._unavailable(node)
        await self.wait(node.open())
        await self.wait(node.close())
        await self._unavailable(node)

    async def _unavailable(self, node: Any) -> None:
        errors = await self.wait(self.ask(node.write_together, self.noise(range(3))))
        assert errors is not None, "the writes were done"
        self.assertEqual([Unavailable] * 3, [type(error) for error in errors])

    async def test_together_random_histories(self) -> None:
        """After any history of batches that overlap, each read gives what the history says."""
        node = await self.together()
        randomness = random.Random(4)
        unit = node.geometry.block_size
        model = bytearray(await self.read_all(0, self.window))
        for _ in range(HISTORY_STEPS):
            writes: list[tuple[int, bytes]] = []
            for _ in range(randomness.choice([1, 2, 20])):
                longest = randomness.choice([unit, 8 * unit, 4096, 65536])
                length = max(unit, align_down(randomness.randrange(1, longest + 1), unit))
                length = min(length, node.geometry.transfer_bytes_max, self.window)
                offset = align_down(randomness.randrange(self.window - length + 1), unit)
                writes.append((offset, randomness.randbytes(length)))
            self.assertIsNone(await self.wait(node.write_together(writes)))
            for offset, data in writes:
                model[offset : offset + len(data)] = data
            offset, data = writes[-1]
            self.assertEqual(data, bytes(await self.wait(node.read(offset, len(data)))))
        self.assertEqual(bytes(model), await self.read_all(0, self.window))


optional_suites[IReadsNow] = ReadsNowSuite
optional_suites[IWritesTogether] = WritesTogetherSuite
