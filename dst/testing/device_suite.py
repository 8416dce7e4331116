# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
Every promise of L{dst.interfaces.IBlockDevice}, as tests.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest
from zope.interface.verify import verifyObject

from dst.errors import DSTError, InvalidRequest, NotSupported, OutOfBounds, ReadOnly
from dst.geometry import BlockStatus, StatusExtent, align_down
from dst.interfaces import Buffer, IBlockDevice, IChecksums, INode
from dst.testing.specimen import Maker, SuiteCase, suite_class

__all__ = ["BlockDeviceSuite", "FailedFlushSuite", "ReadOnlySuite", "block_device_suite"]

WINDOW_BYTES = 2 << 20
"""Tests work in the first so many bytes: enough for every path, little enough to compare as a whole."""

SEEDS = range(6)
"""Random histories that each provider is put through; a failure names its seed."""

HISTORY_STEPS = 60
"""Operations in one random history."""


class BlockDeviceSuite(SuiteCase):
    """What a caller may rely on, whatever is below."""

    # -- what the tests work with --

    @property
    def block(self) -> int:
        """The unit in which the tests ask: aligned for every device, and no sector is shared."""
        return max(512, self.node.geometry.block_size)

    @property
    def window(self) -> int:
        """The part of the device that the tests use."""
        return align_down(min(self.node.geometry.size, WINDOW_BYTES), self.block)

    async def read_all(self, offset: int, length: int) -> bytes:
        """Any extent, in as many reads as it takes."""
        parts = []
        while length:
            step = min(length, align_down(self.node.geometry.transfer_bytes_max, self.block))
            parts.append(bytes(await self.wait(self.node.read(offset, step))))
            offset, length = offset + step, length - step
        return b"".join(parts)

    async def fill(self, offset: int, length: int, seed: int = 0) -> bytes:
        """Write noise, so that zeroes are noticed, and return it."""
        data = random.Random(seed).randbytes(length)
        step = align_down(min(self.node.geometry.transfer_bytes_max, 1 << 20), self.block)
        for at in range(0, length, step):
            await self.wait(self.node.write(offset + at, data[at : at + step]))
        return data

    def extent_operations(self) -> list[Callable[[int, int], Deferred[Any]]]:
        """Every operation that is given an offset and a length."""
        node = self.node

        def write(offset: int, length: int) -> Deferred[None]:
            return node.write(offset, bytes(length))

        return [node.read, write, node.trim, node.write_zeroes, node.block_status]

    # -- form --

    async def test_provides(self) -> None:
        """It has every attribute and method of the interface, with its arguments."""
        self.assertTrue(verifyObject(IBlockDevice, await self.build_open()))

    async def test_geometry(self) -> None:
        """A device that is ready has a size that is a whole number of blocks."""
        geometry = (await self.build_open()).geometry
        self.assertGreater(geometry.size, 0)
        self.assertEqual(0, geometry.size % geometry.block_size)

    async def test_incarnation(self) -> None:
        """A device that is ready has an incarnation of 16 bytes."""
        self.assertEqual(16, len((await self.build_open()).incarnation))

    async def test_status(self) -> None:
        """The status says the name's size and that all is well, without waiting."""
        node = await self.build_open()
        tree = node.status()
        self.assertEqual((node.geometry.size, "healthy", ""), (tree.size, tree.health.value, tree.reason))

    # -- checksums, where it can tell them --

    def checksummed(self) -> IChecksums:
        """The device, if it promises anything here."""
        if not IChecksums.providedBy(self.node):
            raise SkipTest("it does not tell checksums")
        return IChecksums(self.node)

    async def test_checksums(self) -> None:
        """The checksums are those of what a read finds, block by block; the last block may be shorter."""
        await self.build_open()
        node = self.checksummed()
        unit = max(4096, self.block)
        length = 4 * unit + self.block
        data = await self.fill(unit, length)
        await self.wait(self.node.write_zeroes(2 * unit, unit))
        data = data[:unit] + bytes(unit) + data[2 * unit :]
        told = await self.wait(node.checksums(unit, length, unit))
        expected = [blake2b(data[at : at + unit], digest_size=16).digest() for at in range(0, length, unit)]
        self.assertEqual(b"".join(expected), told)

    async def test_checksums_refused(self) -> None:
        """A bad extent, a block size that means nothing and more than one answer can carry are refused."""
        geometry = (await self.build_open()).geometry
        node, unit = self.checksummed(), max(4096, self.block)
        await self.assert_fails(OutOfBounds, node.checksums, geometry.size, unit, unit)
        await self.assert_fails(InvalidRequest, node.checksums, 0, 0, unit)
        for block_bytes in (0, -512, 256, 4097, 2 << 20):
            await self.assert_fails(InvalidRequest, node.checksums, 0, unit, block_bytes)
        too_long = geometry.transfer_bytes_max + self.block
        if geometry.size >= too_long:
            await self.assert_fails(InvalidRequest, node.checksums, 0, too_long, 1 << 20)

    # -- extents --

    async def test_out_of_bounds(self) -> None:
        """An extent that is not inside the device fails with C{OutOfBounds}, whatever the operation."""
        node = await self.build_open()
        size, block = node.geometry.size, self.block
        for offset, length in [(size, block), (size - block, 2 * block), (-block, block), (1 << 62, block)]:
            for operation in self.extent_operations():
                await self.assert_fails(OutOfBounds, operation, offset, length)

    async def test_out_of_bounds_does_nothing(self) -> None:
        """A write over the end leaves what it would have covered as it was."""
        node = await self.build_open()
        offset = node.geometry.size - self.block
        data = await self.fill(offset, self.block)
        await self.assert_fails(OutOfBounds, node.write, offset, bytes(2 * self.block))
        await self.assert_fails(OutOfBounds, node.trim, offset, 2 * self.block)
        self.assertEqual(data, await self.read_all(offset, self.block))

    async def test_no_bytes(self) -> None:
        """A request of no bytes fails with C{InvalidRequest}, whatever the operation."""
        await self.build_open()
        for operation in self.extent_operations():
            await self.assert_fails(InvalidRequest, operation, 0, 0)

    async def test_negative_length(self) -> None:
        """A negative length fails as a bad extent."""
        await self.build_open()
        for operation in [self.extent_operations()[index] for index in (0, 2, 3, 4)]:
            await self.assert_fails(InvalidRequest, operation, self.block, -self.block)

    async def test_not_aligned(self) -> None:
        """An extent that is not a multiple of the block size fails with C{InvalidRequest}."""
        unit = (await self.build_open()).geometry.block_size
        if unit == 1:
            return  # every extent is aligned: nothing is promised
        for offset, length in [(1, unit), (0, unit + 1), (unit - 1, 1), (unit // 2, unit)]:
            for operation in self.extent_operations():
                await self.assert_fails(InvalidRequest, operation, offset, length)

    async def test_smallest(self) -> None:
        """One block, as small as the device allows, is written without harm to its neighbours."""
        node = await self.build_open()
        unit = node.geometry.block_size
        before = await self.fill(0, 4 * self.block)
        offset = 2 * self.block - unit
        await self.wait(node.write(offset, b"\xa5" * unit))
        expected = before[:offset] + b"\xa5" * unit + before[offset + unit :]
        self.assertEqual(expected, await self.read_all(0, 4 * self.block))

    async def test_first_and_last_block(self) -> None:
        """The first and the last block are written and read, each in its place."""
        node = await self.build_open()
        last = node.geometry.size - self.block
        await self.wait(node.write(0, b"first" + bytes(self.block - 5)))
        await self.wait(node.write(last, bytes(self.block - 4) + b"last"))
        self.assertEqual(b"first", (await self.read_all(0, self.block))[:5])
        self.assertEqual(b"last", (await self.read_all(last, self.block))[-4:])

    async def test_largest(self) -> None:
        """A transfer as large as the geometry allows works; with one block more it fails and does nothing."""
        node = await self.build_open()
        length = align_down(min(node.geometry.transfer_bytes_max, node.geometry.size), self.block)
        data = random.Random(1).randbytes(length)
        await self.wait(node.write(0, data))
        self.assertEqual(data, bytes(await self.wait(node.read(0, length))))
        if length + self.block <= node.geometry.size:
            await self.assert_fails(InvalidRequest, node.write, 0, bytes(length + self.block))
            await self.assert_fails(InvalidRequest, node.read, 0, length + self.block)
            self.assertEqual(data, bytes(await self.wait(node.read(0, length))))

    async def test_zeroes_have_no_transfer_limit(self) -> None:
        """The whole device is zeroed in one request, because no data is carried."""
        node = await self.build_open()
        for operation in (node.trim, node.write_zeroes):
            await self.fill(0, self.window)
            await self.fill(node.geometry.size - self.block, self.block)
            await self.wait(operation(0, node.geometry.size))
            self.assertEqual(bytes(self.window), await self.read_all(0, self.window))
            self.assertEqual(bytes(self.block), await self.read_all(node.geometry.size - self.block, self.block))

    # -- data --

    async def test_buffers(self) -> None:
        """Data comes as C{bytes}, C{bytearray} or C{memoryview}, whole or sliced, and all mean the same."""
        node = await self.build_open()
        data = random.Random(2).randbytes(self.block)
        wide = bytearray(b"x" * 7 + data + b"y" * 9)
        buffers: list[Buffer] = [data, bytearray(data), memoryview(data), memoryview(wide)[7:-9]]
        for number, buffer in enumerate(buffers):
            await self.wait(node.write(number * self.block, buffer))
            self.assertEqual(data, bytes(await self.wait(node.read(number * self.block, self.block))))

    async def test_nobody_shares_memory(self) -> None:
        """When a write is complete its buffer is the caller's again; what a read gave is the reader's."""
        node = await self.build_open()
        buffer = bytearray(b"a" * self.block)
        await self.wait(node.write(0, buffer))
        buffer[:] = b"b" * self.block
        found = await self.wait(node.read(0, self.block))
        self.assertEqual(b"a" * self.block, bytes(found))
        await self.wait(node.write(0, b"c" * self.block))
        self.assertEqual(b"a" * self.block, bytes(found))
        if isinstance(found, bytearray):
            found[:] = b"d" * self.block
        self.assertEqual(b"c" * self.block, await self.read_all(0, self.block))

    async def test_read_sees_completed_write(self) -> None:
        """A read asked for in the very moment when a write is complete sees it."""
        node = await self.build_open()
        seen = []
        for number in range(20):
            data = bytes([number + 1]) * self.block
            reading = node.write(0, data).addCallback(lambda _: node.read(0, self.block))
            seen.append(bytes(await self.wait(reading)) == data)
        self.assertEqual([True] * 20, seen)

    async def test_many_in_flight(self) -> None:
        """A hundred writes in flight together all arrive, each in its place; so do a hundred reads."""
        node = await self.build_open()
        count = min(100, self.window // self.block)
        blocks = [random.Random(number).randbytes(self.block) for number in range(count)]
        order = random.Random(3).sample(range(count), count)
        await self.wait_all([node.write(number * self.block, blocks[number]) for number in order])
        found = await self.wait_all([node.read(number * self.block, self.block) for number in order])
        self.assertEqual([blocks[number] for number in order], [bytes(data) for data in found])

    async def test_same_extent_in_flight(self) -> None:
        """Of writes to one extent in flight together one is the last, as a whole, and stays it."""
        node = await self.build_open()
        length = 16 * self.block
        for attempt in range(5):
            datas = [bytes([16 * attempt + number + 1]) * length for number in range(8)]
            await self.wait_all([node.write(0, data) for data in datas])
            found = await self.read_all(0, length)
            self.assertIn(found, datas)
            self.assertEqual(found, await self.read_all(0, length))

    async def test_overlapping_in_flight(self) -> None:
        """Writes and zeroes that overlap in flight leave what some one order of them would have left."""
        node = await self.build_open()
        block = self.block
        for seed in SEEDS:
            randomness = random.Random(seed)
            before = await self.fill(0, 8 * block, seed)
            changes = []
            for number in range(4):
                start = randomness.randrange(8)
                length = randomness.randrange(1, 9 - start) * block
                data = bytes(length) if number == 3 else bytes([number + 1]) * length
                changes.append((start * block, data, number == 3))
            deferreds: list[Deferred[None]] = []
            for offset, data, zeroes in changes:
                deferreds.append(node.trim(offset, len(data)) if zeroes else node.write(offset, data))
            await self.wait_all(deferreds)
            found = await self.read_all(0, 8 * block)
            possible = set()
            for order in itertools.permutations(changes):
                content = bytearray(before)
                for offset, data, _zeroes in order:
                    content[offset : offset + len(data)] = data
                possible.add(bytes(content))
            self.assertIn(found, possible, f"seed {seed}")

    async def test_read_while_writing(self) -> None:
        """A read in flight with a write sees each sector old or new, and nothing else."""
        node = await self.build_open()
        length = 32 * self.block
        await self.wait(node.write(0, b"o" * length))
        writing = node.write(0, b"n" * length)
        found = bytes(await self.wait(node.read(0, length)))
        await self.wait(writing)
        for at in range(0, length, 512):
            self.assertIn(found[at : at + 512], (b"o" * 512, b"n" * 512))

    async def test_cancelled(self) -> None:
        """Cancelling means "I do not care": the device goes on, and others in flight are not harmed."""
        node = await self.build_open()
        data = random.Random(4).randbytes(self.block)
        cancelled: list[Deferred[Any]] = [
            node.write(0, bytes(self.block)),
            node.read(0, self.block),
            node.flush(),
            node.trim(0, self.block),
            node.write_zeroes(0, self.block),
            node.block_status(0, self.block),
        ]
        other = node.write(self.block, data)
        for deferred in cancelled:
            deferred.cancel()
            deferred.addErrback(lambda failure: failure.trap(CancelledError, DSTError))
            await self.wait(deferred)
        await self.wait(other)
        await self.wait(node.write(0, data))
        self.assertEqual(data + data, await self.read_all(0, 2 * self.block))

    async def test_random_histories(self) -> None:
        """After any history of operations, each read gives what the history says, and nothing was told wrongly."""
        for seed in SEEDS:
            await self.build_open()
            try:
                await self._random_history(random.Random(seed))
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error}") from error

    async def _random_history(self, randomness: random.Random) -> None:
        node = self.node
        unit = node.geometry.block_size
        model = bytearray(await self.read_all(0, self.window))
        for _ in range(HISTORY_STEPS):
            longest = randomness.choice([unit, 8 * unit, 4096, 65536, self.window])
            length = max(unit, align_down(randomness.randrange(1, longest + 1), unit))
            length = min(length, node.geometry.transfer_bytes_max, self.window)
            offset = align_down(randomness.randrange(self.window - length + 1), unit)
            end = offset + length
            step = randomness.randrange(10)
            if step < 4:
                data = randomness.randbytes(length)
                await self.wait(node.write(offset, data, fua=randomness.random() < 0.1))
                model[offset:end] = data
            elif step < 6:
                self.assertEqual(model[offset:end], bytes(await self.wait(node.read(offset, length))))
            elif step == 6:
                await self.wait(node.trim(offset, length))
                model[offset:end] = bytes(length)
            elif step == 7:
                flags = {"fua": randomness.random() < 0.2, "no_hole": randomness.random() < 0.4}
                await self.wait(node.write_zeroes(offset, length, **flags))
                model[offset:end] = bytes(length)
            elif step == 8:
                self.assert_told_truly(await self.status_of(offset, length), model[offset:end])
            else:
                await self.wait(node.flush())
        self.assertEqual(bytes(model), await self.read_all(0, self.window))

    # -- zeroes, holes, status --

    async def test_trim_reads_back_zeroes(self) -> None:
        """What was trimmed reads as zeroes, and its neighbours are as they were."""
        node = await self.build_open()
        await self._zeroes(lambda offset, length: node.trim(offset, length))

    async def test_write_zeroes(self) -> None:
        """What was zeroed reads as zeroes, with and without C{fua} and C{no_hole}."""
        node = await self.build_open()
        for fua, no_hole in itertools.product([False, True], repeat=2):
            await self._zeroes(lambda offset, length: node.write_zeroes(offset, length, fua=fua, no_hole=no_hole))  # noqa: B023

    async def test_fast_zeroes(self) -> None:
        """With C{fast_only} zeroes are written, or C{NotSupported} says that nothing was done."""
        node = await self.build_open()
        for no_hole in (False, True):
            data = await self.fill(0, 16 * self.block)
            deferred = self.ask(node.write_zeroes, 0, 16 * self.block, fast_only=True, no_hole=no_hole)
            try:
                await self.wait(deferred)
            except NotSupported:
                self.assertEqual(data, await self.read_all(0, 16 * self.block))
            else:
                self.assertEqual(bytes(16 * self.block), await self.read_all(0, 16 * self.block))

    async def _zeroes(self, zero: Any) -> None:
        length = min(self.window, 200 * self.block)
        for offset, count in [(3 * self.block, self.block), (self.block, length - 2 * self.block)]:
            data = await self.fill(0, length)
            await self.wait(zero(offset, count))
            self.assertEqual(data[:offset] + bytes(count) + data[offset + count :], await self.read_all(0, length))

    async def test_no_hole_is_no_hole(self) -> None:
        """Space that was asked to be kept is not told as a hole."""
        node = await self.build_open()
        if not self.specimen.tells_holes:
            raise SkipTest("the media cannot tell")
        await self.wait(node.trim(0, self.window))
        await self.wait(node.write_zeroes(0, self.window, no_hole=True))
        for extent in await self.status_of(0, self.window):
            self.assertFalse(extent.status & BlockStatus.HOLE, extent)

    async def status_of(self, offset: int, length: int) -> list[StatusExtent]:
        """The status of all of an extent, each answer within the rules."""
        extents = []
        while length:
            some = await self.wait(self.node.block_status(offset, length))
            covered = sum(extent.length for extent in some)
            self.assertGreater(len(some), 0)
            self.assertGreater(min(extent.length for extent in some), 0)
            self.assertLessEqual(covered, length)
            self.assertEqual(0, covered % self.node.geometry.block_size)
            extents += some
            offset, length = offset + covered, length - covered
        return extents

    def assert_told_truly(self, extents: list[StatusExtent], content: bytes | bytearray) -> None:
        """What was told to be zeroes is zeroes."""
        at = 0
        for extent in extents:
            if extent.status & BlockStatus.ZERO:
                self.assertEqual(extent.length, content.count(0, at, at + extent.length), f"{extent} at {at}")
            at += extent.length

    async def test_block_status(self) -> None:
        """The answers cover an extent from its start, never beyond it, and call nothing zeroes that is not."""
        node = await self.build_open()
        await self.wait(node.trim(0, self.window))
        for start in range(0, self.window - self.block, self.window // 8):
            await self.fill(start, self.block)
        content = await self.read_all(0, self.window)
        self.assert_told_truly(await self.status_of(0, self.window), content)
        part = slice(self.block, self.window - self.block)
        self.assert_told_truly(await self.status_of(self.block, self.window - 2 * self.block), content[part])
        await self.status_of(node.geometry.size - self.block, self.block)

    # -- durability --

    async def test_flush(self) -> None:
        """A flush completes when nothing was written, and with writes in flight."""
        node = await self.build_open()
        await self.wait(node.flush())
        writing = node.write(0, b"w" * self.block)
        await self.wait_all([node.flush(), writing, node.flush()])

    async def test_survives_restart(self) -> None:
        """What was flushed, or written with C{fua}, is there after a restart, in the same incarnation."""
        node = await self.build_open()
        if self.specimen.reopen is None:
            raise SkipTest("nothing survives a restart of this device")
        incarnation = node.incarnation
        flushed = await self.fill(0, 4 * self.block)
        await self.wait(node.flush())
        forced = random.Random(5).randbytes(self.block)
        await self.wait(node.write(4 * self.block, forced, fua=True))
        await self.wait(node.write_zeroes(self.block, self.block, fua=True))
        node = await self.reopen()
        self.assertEqual(self.specimen.remembers, incarnation == node.incarnation)
        expected = flushed[: self.block] + bytes(self.block) + flushed[2 * self.block :] + forced
        self.assertEqual(expected, await self.read_all(0, 5 * self.block))


class ReadOnlySuite(BlockDeviceSuite):
    """Added where a provider has devices that refuse changes."""

    async def test_read_only(self) -> None:
        """A read-only device is read, and refuses every change with C{ReadOnly}, doing nothing."""
        node = await self.build_open(type(self).make_read_only)
        self.assertTrue(node.geometry.read_only)
        before = await self.read_all(0, self.block)
        await self.assert_fails(ReadOnly, node.write, 0, b"w" * self.block)
        await self.assert_fails(ReadOnly, node.write, 0, b"w" * self.block, fua=True)
        await self.assert_fails(ReadOnly, node.trim, 0, self.block)
        await self.assert_fails(ReadOnly, node.write_zeroes, 0, self.block)
        self.assertEqual(before, await self.read_all(0, self.block))
        await self.status_of(0, self.block)
        await self.wait(node.flush())


if TYPE_CHECKING:
    _MixedIn = BlockDeviceSuite
else:
    _MixedIn = object  # trial would run it by itself wherever it is imported


class FailedFlushSuite(_MixedIn):
    """A device whose flush can be made to fail: its test case has this as another base."""

    async def test_failed_flush(self) -> None:
        """
        After a flush that failed nobody believes that all is durable: his own fails too, or the incarnation is
        another one in that very moment.
        """
        node = await self.build_open()
        assert self.specimen.fail_flush is not None
        if INode.providedBy(node):
            self.addCleanup(node.observe(lambda node: None))
            for _ in range(3):
                await self.turn()
        await self.fill(0, self.block)
        incarnation = node.incarnation
        believed: list[bool] = []

        def fired(result: object) -> None:
            believed.append(not isinstance(result, Failure) and node.incarnation == incarnation)

        self.specimen.fail_flush()
        await self.wait_all([self.ask(node.flush).addBoth(fired) for _ in range(3)])
        self.assertEqual([False] * 3, believed)


def block_device_suite(provider: type, make: Maker, *, make_read_only: Maker | None = None) -> Any:
    """
    A test case that holds C{provider} to L{dst.interfaces.IBlockDevice}; subclass it in a test module.

    @param make: makes a L{dst.testing.Specimen}, at least 128 KiB large; C{open} is called where it has one.
    @param make_read_only: the same, of a device that refuses changes.
    """
    return suite_class(BlockDeviceSuite, provider, make, make_read_only, ReadOnlySuite)
