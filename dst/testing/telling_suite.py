# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
The promises of devices that write and tell, as tests: L{dst.interfaces.IWritesAndTells}.

They are part of the suite of every provider that implements the interface.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from attrs import define
from crc32c import crc32c
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest
from zope.interface.verify import verifyObject

from dst.errors import DSTError, Unavailable
from dst.geometry import align_down
from dst.interfaces import Buffer, INode, IWritesAndTells
from dst.testing.device_suite import BlockDeviceSuite
from dst.testing.specimen import optional_suites

__all__ = ["WritesAndTellsSuite"]

HISTORY_STEPS = 40
"""Batches in one random history."""


@define(eq=False)
class _Write:
    """
    @ivar told: what was told of it, each time.
    """

    offset: int
    data: Buffer
    data_crc: int | None
    told: list[DSTError | None]


class WritesAndTellsSuite(BlockDeviceSuite):
    """A device that does writes and tells of each."""

    async def telling(self) -> Any:
        """A device that is ready."""
        node = await self.build_open()
        if not IWritesAndTells.providedBy(node):
            raise SkipTest("this one does not tell")
        return node

    def noise(self, blocks: Sequence[int], seed: int = 0) -> list[_Write]:
        """Writes of whole blocks, with noise; of every other one the checksum is known."""
        randomness = random.Random(seed)
        writes = []
        for number in blocks:
            data = randomness.randbytes(self.block)
            writes.append(_Write(number * self.block, data, crc32c(data) if number % 2 else None, []))
        return writes

    async def write_all(self, node: Any, writes: Sequence[_Write]) -> list[DSTError | None]:
        """What was told of each, when all have ended; once of each."""
        left = len(writes)
        ended: Deferred[None] = Deferred()

        def told(write: _Write, error: DSTError | None) -> None:
            nonlocal left
            write.told.append(error)
            left -= 1
            if not left:
                ended.callback(None)

        node.write_and_tell(writes, told)
        if writes:
            await self.wait(ended)
        self.assertEqual([1] * len(writes), [len(write.told) for write in writes])
        return [write.told[0] for write in writes]

    async def test_tells_provides(self) -> None:
        """It has the method of the interface, with its arguments."""
        self.assertTrue(verifyObject(IWritesAndTells, await self.telling()))

    async def test_tells(self) -> None:
        """When it has told of all they are done, each in its place, and a read sees them."""
        node = await self.telling()
        count = min(100, self.window // self.block)
        writes = self.noise(random.Random(1).sample(range(count), count))
        self.assertEqual([None] * count, await self.write_all(node, writes))
        expected = b"".join(bytes(write.data) for write in sorted(writes, key=lambda each: each.offset))
        self.assertEqual(expected, await self.read_all(0, count * self.block))

    async def test_tells_none(self) -> None:
        """No writes at all are told of to nobody."""
        self.assertEqual([], await self.write_all(await self.telling(), []))

    async def test_tells_order(self) -> None:
        """Of writes to one place the last one counts, within a call and in calls one after the other."""
        node = await self.telling()
        for attempt in range(5):
            writes = [_Write(0, bytes([8 * attempt + number + 1]) * self.block, None, []) for number in range(8)]
            await self.write_all(node, writes)
            self.assertEqual(writes[-1].data, await self.read_all(0, self.block))

    async def test_tells_buffers(self) -> None:
        """Data comes as C{bytes}, C{bytearray} or C{memoryview}, whole or sliced, in any sequence."""
        node = await self.telling()
        data = random.Random(2).randbytes(self.block)
        wide = bytearray(b"x" * 7 + data + b"y" * 9)
        buffers: list[Buffer] = [data, bytearray(data), memoryview(data), memoryview(wide)[7:-9]]
        writes = tuple(_Write(number * self.block, each, None, []) for number, each in enumerate(buffers))
        self.assertEqual([None] * 4, await self.write_all(node, writes))
        self.assertEqual(4 * data, await self.read_all(0, 4 * self.block))

    async def test_tells_beside_others(self) -> None:
        """Reads, flushes and other changes between them are done as ever."""
        node = await self.telling()
        first, second = self.noise(range(2)), self.noise(range(2, 4))
        done: list[DSTError | None] = []
        node.write_and_tell(first, lambda write, error: done.append(error))
        others = [node.trim(4 * self.block, self.block), node.flush(), node.write(5 * self.block, b"5" * self.block)]
        self.assertEqual([None] * 2, await self.write_all(node, second))
        await self.wait_all(others)
        expected = b"".join(bytes(write.data) for write in [*first, *second])
        self.assertEqual(expected, await self.read_all(0, 4 * self.block))
        self.assertEqual(bytes(self.block) + b"5" * self.block, await self.read_all(4 * self.block, 2 * self.block))
        self.assertEqual([None] * 2, done)

    async def test_tells_asks_again(self) -> None:
        """Whoever is told may ask for the next one there and then."""
        node = await self.telling()
        ended: Deferred[None] = Deferred()
        writes = self.noise([0] * 50)

        def told(number: int, error: DSTError | None) -> None:
            if error is not None or number + 1 == len(writes):
                ended.callback(None)
            else:
                ask(number + 1)

        def ask(number: int) -> None:
            node.write_and_tell([writes[number]], lambda _, error: told(number, error))

        ask(0)
        await self.wait(ended)
        self.assertEqual(writes[-1].data, await self.read_all(0, self.block))

    async def test_tells_survives_restart(self) -> None:
        """What it told of is durable when a flush that was asked for afterwards has completed."""
        node = await self.telling()
        if self.specimen.reopen is None:
            raise SkipTest("nothing survives a restart of this device")
        writes = self.noise(range(8), seed=3)
        await self.write_all(node, writes)
        await self.wait(node.flush())
        await self.reopen()
        self.assertEqual(b"".join(bytes(write.data) for write in writes), await self.read_all(0, 8 * self.block))

    async def test_tells_not_ready(self) -> None:
        """Before it is open and after it was closed each of the writes fails with C{Unavailable}."""
        node = await self.build()
        if not INode.providedBy(node) or not IWritesAndTells.providedBy(node):
            raise SkipTest("it is always ready, or does not tell")
        self.assertEqual(
            [Unavailable] * 3, [type(error) for error in await self.write_all(node, self.noise(range(3)))]
        )
        await self.wait(node.open())
        await self.wait(node.close())
        self.assertEqual(
            [Unavailable] * 3, [type(error) for error in await self.write_all(node, self.noise(range(3)))]
        )

    async def test_tells_random_histories(self) -> None:
        """After any history of calls that overlap, each read gives what the history says."""
        node = await self.telling()
        randomness = random.Random(4)
        unit = node.geometry.block_size
        model = bytearray(await self.read_all(0, self.window))
        for _ in range(HISTORY_STEPS):
            writes: list[_Write] = []
            for _ in range(randomness.choice([1, 2, 20])):
                longest = randomness.choice([unit, 8 * unit, 4096, 65536])
                length = max(unit, align_down(randomness.randrange(1, longest + 1), unit))
                length = min(length, node.geometry.transfer_bytes_max, self.window)
                offset = align_down(randomness.randrange(self.window - length + 1), unit)
                data = randomness.randbytes(length)
                writes.append(_Write(offset, data, randomness.choice([None, crc32c(data)]), []))
            self.assertEqual([None] * len(writes), await self.write_all(node, writes))
            for write in writes:
                model[write.offset : write.offset + len(write.data)] = write.data
        self.assertEqual(bytes(model), await self.read_all(0, self.window))


optional_suites[IWritesAndTells] = WritesAndTellsSuite
