"""Tests of L{dst.nodes.file} on real files."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SkipTest, TestCase

from dst.errors import (
    AlreadyInUse,
    BadMedia,
    ConfigurationError,
    DeadlinePassed,
    IncarnationChanged,
    InternalError,
    LimitReached,
    MediaError,
    NoSpace,
    Unavailable,
)
from dst.geometry import BlockStatus
from dst.interfaces import Buffer
from dst.native import load
from dst.native.files import PythonWriter, Writer
from dst.nodes import file_crew
from dst.nodes.file import FileNode
from dst.nodes.file_calls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FileCalls
from dst.nodes.file_crew import QUEUED_JOBS_MAX
from dst.nodes.file_media import INCARNATION_XATTR
from dst.status import LinkState
from dst.testing import FailedFlushSuite, Specimen, node_suite
from test.integration.file_faults import NOT_COMPILED, Write, compiled_writer, python_writer

SIZE = 40 << 20


def make(case: TestCase) -> Specimen:
    """A new file, and a second node on it."""
    path = case.mktemp()
    calls = FailsAFlush()
    return Specimen(
        FileNode(reactor, "f", path, size=SIZE, calls=calls),
        reopen=lambda: FileNode(reactor, "f", path),
        fail_flush=lambda: setattr(calls, "failing", True),
    )


class FailsAFlush(FileCalls):
    """The next one, when it is told to."""

    failing = False

    def fdatasync(self, fd: int) -> None:
        if self.failing:
            self.failing = False
            raise OSError(5, "Input/output error")
        os.fdatasync(fd)


def make_read_only(case: TestCase) -> Specimen:
    """A file that is served read-only."""
    path = case.mktemp()
    Path(path).write_bytes(os.urandom(SIZE))
    return Specimen(FileNode(reactor, "f", path, read_only=True))


class WithoutNowait(FileCalls):
    """A file system that can never tell whether a call would wait, and knows no holes."""

    def read_now(self, fd: int, offset: int, length: int) -> None:
        """It might wait."""

    def write(self, fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(95, "Operation not supported")
        return super().write(fd, data, offset)

    def new_writer(self, name: str) -> Writer:
        return PythonWriter(name)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        raise OSError(95, "Operation not supported")


def make_without(case: TestCase) -> Specimen:
    """A file on such a file system."""
    path = case.mktemp()
    return Specimen(
        FileNode(reactor, "f", path, size=4 << 20, calls=WithoutNowait()),
        reopen=lambda: FileNode(reactor, "f", path, calls=WithoutNowait()),
    )


class FileNodeTests(node_suite(FileNode, make, make_read_only=make_read_only), FailedFlushSuite):
    """A file keeps the promises of a node."""


class PlainFileNodeTests(node_suite(FileNode, make_without)):
    """So does one on a file system that can do nothing special."""


def make_loop(case: TestCase) -> Specimen:
    """A loop device."""
    backing = case.mktemp()
    with open(backing, "wb") as file:
        file.truncate(8 << 20)
    try:
        made = subprocess.run(["losetup", "--find", "--show", backing], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SkipTest(f"no loop device can be had here: {error}") from None
    device = made.stdout.strip()
    case.addCleanup(subprocess.run, ["losetup", "--detach", device], check=True)
    return Specimen(FileNode(reactor, "b", device), reopen=lambda: FileNode(reactor, "b", device), remembers=False)


class BlockDeviceTests(node_suite(FileNode, make_loop)):
    """So does a block device."""


class FileCase(TestCase):
    """With a file that does not exist yet."""

    def setUp(self) -> None:
        self.path = self.mktemp()

    async def node(self, **options: object) -> FileNode:
        """A node that was opened."""
        node = FileNode(reactor, "f", self.path, **{"size": 1 << 20, **options})
        self.addCleanup(node.close)
        await node.open()
        return node

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the reactor run until something is so; trial's own timeout bounds it."""
        while not condition():
            await deferLater(reactor, 0.005, lambda: None)

    async def assert_fails(self, expected: type[Exception], deferred: Deferred[object]) -> str:
        """The sentence of the failure."""
        try:
            await deferred
        except expected as error:
            return str(error)
        raise self.failureException(f"expected {expected.__name__}")


class OpenTests(FileCase):
    """What is made, refused and waited for."""

    async def test_created_sparse(self) -> None:
        """A missing file is created with the size, and takes no space."""
        node = await self.node(size=64 << 20)
        found = os.stat(self.path)
        self.assertEqual((64 << 20, 64 << 20, 0), (node.geometry.size, found.st_size, found.st_blocks))

    async def test_empty_file(self) -> None:
        """An empty file counts as missing."""
        Path(self.path).touch()
        self.assertEqual(1 << 20, (await self.node()).geometry.size)

    async def test_another_size(self) -> None:
        """A file of another size is refused, both sizes are said, and it is not touched."""
        Path(self.path).write_bytes(b"precious")
        node = FileNode(reactor, "f", self.path, size=1 << 20)
        sentence = await self.assert_fails(ConfigurationError, node.open())
        self.assertEqual(
            f"{self.path} has 8 bytes and size= says 1048576; size= only creates: correct it, or leave it out",
            sentence,
        )
        self.assertIs(LinkState.AWAY, node.link)
        await node.close()
        self.assertEqual(b"precious", Path(self.path).read_bytes())

    async def test_size_of_media(self) -> None:
        """Without a size the media says it."""
        Path(self.path).write_bytes(bytes(12345))
        self.assertEqual(12345, (await self.node(size=None)).geometry.size)

    async def test_unusable(self) -> None:
        """What can never be a node is refused with what it is."""
        os.mkdir(self.path)
        fifo = self.mktemp()
        os.mkfifo(fifo)
        empty = self.mktemp()
        Path(empty).touch()
        for path, words in [
            (self.path, "is a directory"),
            (fifo, "is neither"),
            ("/dev/null", "is neither"),
            (empty, "is empty"),
        ]:
            node = FileNode(reactor, "f", path)
            self.assertIn(words, await self.assert_fails(ConfigurationError, node.open()))
            await node.close()

    async def test_permission(self) -> None:
        """A file that may not be opened is refused, with what to do."""

        class NoPermission(FileCalls):
            def open(self, path: str, flags: int, mode: int = 0o777) -> int:
                raise PermissionError(13, "Permission denied")

        Path(self.path).write_bytes(bytes(512))
        node = FileNode(reactor, "f", self.path, calls=NoPermission())
        sentence = await self.assert_fails(ConfigurationError, node.open())
        self.assertIn("may not be read and written by this user; change its permissions", sentence)
        await node.close()

    async def test_missing_then_there(self) -> None:
        """A node whose file is missing is away, says so, and is ready by itself when the file comes."""
        node = await self.node(size=None)
        self.assertIs(LinkState.AWAY, node.link)
        self.assertIn("is not there; create it", node.reason)
        await self.assert_fails(Unavailable, node.read(0, 1))
        Path(self.path).write_bytes(b"here")
        await self.until(lambda: node.link is LinkState.READY)
        self.assertEqual(b"here", bytes(await node.read(0, 4)))

    async def test_close_while_missing(self) -> None:
        """A node that waits for its file can be closed."""
        node = await self.node(size=None)
        await node.close()
        self.assertIs(LinkState.CLOSED, node.link)

    async def test_locked(self) -> None:
        """A second node of the same file is refused, by any path, until the first is closed."""
        first = await self.node()
        link = self.mktemp()
        os.link(self.path, link)
        second = FileNode(reactor, "g", link)
        sentence = await self.assert_fails(AlreadyInUse, second.open())
        self.assertIn("is in use by another node or program", sentence)
        await second.close()
        await first.close()
        await second.open()
        self.assertIs(LinkState.READY, second.link)
        await second.close()

    async def test_locked_by_another_process(self) -> None:
        """So is one of a file that another process has, until that ends."""
        Path(self.path).write_bytes(bytes(4096))
        script = "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f,fcntl.LOCK_EX); print(flush=True); input()"
        other = subprocess.Popen(
            [sys.executable, "-c", script, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert other.stdout is not None
        other.stdout.readline()
        node = FileNode(reactor, "f", self.path)
        await self.assert_fails(AlreadyInUse, node.open())
        other.communicate(b"\n")
        await node.open()
        self.assertIs(LinkState.READY, node.link)
        await node.close()

    async def test_readers_share(self) -> None:
        """Read-only nodes may share a file."""
        Path(self.path).write_bytes(bytes(4096))
        await self.node(size=None, read_only=True)
        second = await self.node(size=None, read_only=True)
        self.assertIs(LinkState.READY, second.link)

    async def test_open_again(self) -> None:
        """A node that was closed can be opened again, and no thread of the first time is left."""
        before = threading.active_count()
        node = await self.node()
        await node.write(0, b"kept")
        await node.close()
        self.assertEqual(before, threading.active_count())
        await node.open()
        self.assertEqual(b"kept", bytes(await node.read(0, 4)))


class HoleTests(FileCase):
    """Space that is taken and given back."""

    async def test_trim_gives_space_back(self) -> None:
        """What is trimmed takes no space on the disk, and is told as a hole."""
        node = await self.node()
        await node.write(0, b"x" * (1 << 20), fua=True)
        self.assertGreaterEqual(os.stat(self.path).st_blocks * 512, 1 << 20)
        await node.trim(0, 1 << 20)
        self.assertEqual(0, os.stat(self.path).st_blocks)
        extents = await node.block_status(0, 1 << 20)
        self.assertEqual([(1 << 20, BlockStatus.HOLE | BlockStatus.ZERO)], [(e.length, e.status) for e in extents])

    async def test_zeroes_that_keep_space(self) -> None:
        """Zeroes without a hole take their space, and are told as zeroes that are not a hole."""
        node = await self.node()
        await node.write_zeroes(65536, 65536, no_hole=True)
        self.assertEqual(65536, os.stat(self.path).st_blocks * 512)
        extents = await node.block_status(0, 262144)
        hole = BlockStatus.HOLE | BlockStatus.ZERO
        self.assertEqual(
            [(65536, hole), (65536, BlockStatus.ZERO), (131072, hole)], [(e.length, e.status) for e in extents]
        )

    async def test_trimmed_while_asked(self) -> None:
        """The answer has a length also where what was data is trimmed while it is looked at."""

        class Trimming(FileCalls):
            def seek(self, fd: int, offset: int, how: int) -> int:
                if how == os.SEEK_HOLE:
                    self.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 65536)
                return os.lseek(fd, offset, how)

        node = await self.node(calls=Trimming())
        await node.write(0, b"x" * 65536)
        extents = await node.block_status(0, 131072)
        self.assertEqual([(131072, BlockStatus.DATA)], [(e.length, e.status) for e in extents])


class Injected(FileCalls):
    """System calls that a test can make fail or hang."""

    def __init__(self, make_writer: Callable[[str, Write], Writer] = python_writer) -> None:
        self._make_writer = make_writer
        self.errors: dict[str, int] = {}
        self.failing_offsets: dict[int, int] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.written: list[int] = []
        self.syncs = 0

    def _fail(self, call: str) -> None:
        if call in self.errors:
            raise OSError(self.errors[call], os.strerror(self.errors[call]))

    def read_now(self, fd: int, offset: int, length: int) -> None:
        """It would wait."""

    def read(self, fd: int, buffer: bytearray | memoryview, offset: int, flags: int = 0) -> int:
        self._fail("read")
        return super().read(fd, buffer, offset)

    def new_writer(self, name: str) -> Writer:
        return self._make_writer(name, self.write)

    def write(self, fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError(11, "would wait")
        self.gate.wait(60)
        self._fail("write")
        if offset in self.failing_offsets:
            raise OSError(self.failing_offsets[offset], "no")
        self.written.append(offset)
        return super().write(fd, data[: 1000 if len(data) == 3000 else None], offset)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        self.gate.wait(60)
        self._fail("fallocate")
        super().fallocate(fd, mode, offset, length)

    def fdatasync(self, fd: int) -> None:
        self.gate.wait(60)
        self.syncs += 1
        self._fail("fdatasync")
        os.fdatasync(fd)

    def setxattr(self, fd: int, name: str, value: bytes) -> None:
        self._fail("setxattr")
        os.setxattr(fd, name, value)

    def close(self, fd: int) -> None:
        os.close(fd)
        self._fail("close")

    def removexattr(self, fd: int, name: str) -> None:
        self._fail("removexattr")
        os.removexattr(fd, name)

    def boot_id(self) -> bytes:
        self._fail("boot_id")
        return super().boot_id()

    def fstat(self, fd: int) -> os.stat_result:
        self._fail("fstat")
        return os.fstat(fd)


class ToldOnce(Injected):
    """Flushes fail as Linux has it: one is told of what could not be written, the next ones that all is well."""

    def __init__(self, make_writer: Callable[[str, Write], Writer] = python_writer) -> None:
        super().__init__(make_writer)
        self.losing = False
        self.begun = threading.Event()
        self.lost = threading.Event()

    def fdatasync(self, fd: int) -> None:
        if self.losing:
            self.losing = False
            self.begun.set()
            self.lost.wait(60)
            raise OSError(5, "Input/output error")
        super().fdatasync(fd)


class FaultCase(FileCase):
    """With system calls that can be made to fail or hang, below a writer in Python."""

    make_writer = staticmethod(python_writer)

    def calls(self) -> Injected:
        """New ones."""
        return Injected(self.make_writer)


class ErrorTests(FaultCase):
    """Errors of the media travel as what they are."""

    async def test_errors(self) -> None:
        """A full disk, a quota and an input/output error are told apart."""
        calls = self.calls()
        node = await self.node(calls=calls)
        for number, expected in [(28, NoSpace), (122, NoSpace), (5, MediaError)]:
            calls.errors = {"write": number, "read": number}
            self.assertIn(
                f"of {self.path} failed: {os.strerror(number)}",
                await self.assert_fails(expected, node.write(0, b"x")),
            )
        await self.assert_fails(MediaError, node.read(0, 1))
        calls.errors = {}
        await node.write(0, b"fine")

    async def test_zeroes_that_are_not_written(self) -> None:
        """Where zeroes have to be written and the system writes none of them, that is an error and has an end."""

        class WritesNothing(WithoutNowait):
            def write(self, fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
                return 0

        node = await self.node(calls=WritesNothing())
        await self.assert_fails(MediaError, node.write_zeroes(0, 4096))

    async def test_short_writes(self) -> None:
        """A write that the system does in parts is completed."""
        node = await self.node(calls=self.calls())
        data = os.urandom(3000)
        await node.write(5, data)
        self.assertEqual(data, bytes(await node.read(5, 3000)))

    async def test_together_errors(self) -> None:
        """Of writes done together each has its own error, and one that fails keeps no other from being done."""
        calls = self.calls()
        node = await self.node(calls=calls)
        calls.failing_offsets = {512: 28, 1536: 5}
        errors = await node.write_together([(number * 512, bytes([number + 1]) * 512) for number in range(5)])
        assert errors is not None
        self.assertEqual([type(None), NoSpace, type(None), MediaError, type(None)], [type(error) for error in errors])
        self.assertIn(f"writing 512 bytes at 512 of {self.path} failed: No space left", str(errors[1]))
        found = bytes(await node.read(0, 2560))
        self.assertEqual([1, 0, 3, 0, 5], list(found[::512]))
        calls.failing_offsets = {}
        self.assertIsNone(await node.write_together([(0, b"fine")]))

    async def test_forced_write_that_fails(self) -> None:
        """A forced write that failed is not flushed and says why; so with zeroes."""
        calls = self.calls()
        node = await self.node(calls=calls)
        calls.errors = {"write": 28, "fallocate": 28}
        await self.assert_fails(NoSpace, node.write(0, b"x", fua=True))
        await self.assert_fails(NoSpace, node.write_zeroes(0, 4096, fua=True))
        self.assertEqual(0, calls.syncs)

    async def test_truncated(self) -> None:
        """A file that was cut off behind our back is bad media, not a short read."""
        node = await self.node()
        os.truncate(self.path, 5000)
        self.assertIn("ends at 5000", await self.assert_fails(BadMedia, node.read(4096, 4096)))

    async def test_failed_flush(self) -> None:
        """A failed flush changes the incarnation before it is told, and a restarted process sees the new one."""
        calls = self.calls()
        node = await self.node(calls=calls)
        before = node.incarnation
        calls.errors = {"fdatasync": 5}
        await self.assert_fails(MediaError, node.flush())
        after = node.incarnation
        self.assertNotEqual(before, after)
        await self.assert_fails(MediaError, node.write(0, b"x", fua=True))
        last = node.incarnation
        self.assertEqual(3, len({before, after, last}))
        calls.errors = {}
        await node.close()
        self.assertEqual(last, (await self.node()).incarnation)

    async def test_forced_while_another_flush_fails(self) -> None:
        """A forced change is not durable if another's flush fails meanwhile, though its own goes well."""
        for force in (
            lambda node: node.write(0, b"x" * 4096, fua=True),
            lambda node: node.write_zeroes(0, 4096, fua=True),
        ):
            calls = ToldOnce(self.make_writer)
            node = await self.node(calls=calls)
            calls.losing = True
            flushing = node.flush()
            await self.until(calls.begun.is_set)
            forcing = force(node)
            calls.lost.set()
            await self.assert_fails(MediaError, flushing)
            await self.assert_fails(IncarnationChanged, forcing)
            await force(node)
            await node.close()

    async def test_nobody_waits_for_failed_flush(self) -> None:
        """The incarnation changes also if whoever asked for the flush that fails does not wait for it any more."""
        calls = ToldOnce(self.make_writer)
        node = await self.node(calls=calls)
        before = node.incarnation
        calls.losing = True
        flushing = node.flush()
        await self.until(calls.begun.is_set)
        flushing.cancel()
        await self.assert_fails(CancelledError, flushing)
        calls.lost.set()
        await node.flush()
        self.assertNotEqual(before, node.incarnation)

    async def test_close_that_fails(self) -> None:
        """An error of the system's C{close} is logged; the node is closed all the same, and can be opened again."""
        calls = self.calls()
        node = await self.node(calls=calls)
        calls.errors = {"close": 5}
        with capturedLogs() as events:
            await node.close()
        told = [formatEvent(event) for event in events]
        self.assertIn(f"{self.path} may have lost data: closing it failed: [Errno 5] Input/output error", told)
        calls.errors = {}
        await node.open()
        self.assertIs(LinkState.READY, node.link)

    async def test_failed_flush_when_all_fails(self) -> None:
        """The same where nothing can be asked any more: no descriptors, a file that is gone."""
        calls = self.calls()
        node = await self.node(calls=calls)
        before = node.incarnation
        calls.errors = {"fdatasync": 5, "boot_id": 24, "fstat": 116, "setxattr": 5}
        sentence = await self.assert_fails(MediaError, node.flush())
        self.assertEqual(f"flushing {self.path} failed: Input/output error", sentence)
        self.assertNotEqual(before, node.incarnation)

    async def test_failed_flush_that_is_not_remembered(self) -> None:
        """When the media can take no new incarnation after a failed flush it has lost the old one."""
        calls = self.calls()
        node = await self.node(calls=calls)
        calls.errors = {"fdatasync": 5, "setxattr": 28}
        await self.assert_fails(MediaError, node.flush())
        calls.errors = {}
        self.assertNotIn(INCARNATION_XATTR, os.listxattr(self.path))

    async def test_old_incarnation_stays(self) -> None:
        """When it cannot even lose that, or has it again, this process knows that it means nothing any more."""
        for errors in ({"setxattr": 30, "removexattr": 30}, {"setxattr": 30}, {}):
            calls = self.calls()
            node = await self.node(calls=calls)
            before = node.incarnation
            kept = os.getxattr(self.path, INCARNATION_XATTR)
            calls.errors = {"fdatasync": 5, **errors}
            await node.close()  # with a flush
            os.setxattr(self.path, INCARNATION_XATTR, kept)  # as after it was mounted again
            node = await self.node()
            after = node.incarnation
            self.assertNotEqual(before, after)
            await node.close()
            node = await self.node()
            self.assertEqual(after, node.incarnation)
            await node.close()

    async def test_media_that_does_not_remember(self) -> None:
        """Media that cannot keep its incarnation has another one each time."""
        seen = set()
        for _ in range(3):
            calls = self.calls()
            calls.errors = {"setxattr": 95}
            node = await self.node(calls=calls)
            seen.add(node.incarnation)
            await node.close()
        self.assertEqual(3, len(seen))

    async def test_another_boot(self) -> None:
        """After another start of the machine the incarnation is another one."""

        class Rebooted(FileCalls):
            def boot_id(self) -> bytes:
                return b"another"

        node = await self.node()
        before = node.incarnation
        await node.close()
        rebooted = await self.node(calls=Rebooted())
        self.assertNotEqual(before, rebooted.incarnation)
        await rebooted.close()
        again = await self.node(calls=Rebooted())
        self.assertEqual(rebooted.incarnation, again.incarnation)

    async def test_new_file(self) -> None:
        """Another file at the same path is another incarnation."""
        node = await self.node()
        before = node.incarnation
        await node.close()
        os.unlink(self.path)
        self.assertNotEqual(before, (await self.node()).incarnation)


class HangTests(FaultCase):
    """A disk that does not answer."""

    async def test_one_flush_for_many(self) -> None:
        """Flushes and forced writes that wait together are served by few system calls."""
        calls = self.calls()
        node = await self.node(calls=calls)
        calls.gate.clear()
        waiting = [node.flush(), *(node.write(number * 512, b"x" * 512, fua=True) for number in range(50))]
        waiting += [node.flush() for _ in range(50)]
        calls.gate.set()
        await gatherResults(waiting)
        self.assertEqual(50, len(calls.written))
        self.assertLess(calls.syncs, 60)

    async def test_hanging(self) -> None:
        """Past the deadline everything fails and the node is away; when the disk is back, so is the node."""
        calls = self.calls()
        node = await self.node(calls=calls, deadline_s=0.2)
        incarnation = node.incarnation
        calls.gate.clear()
        writes = [node.write(number * 512, b"x" * 512) for number in range(3)]
        flushing = node.flush()
        sentence = await self.assert_fails(DeadlinePassed, writes[0])
        self.assertEqual("f did not answer within 0.2 s; its disk hangs", sentence)
        for deferred in (*writes[1:], flushing):
            await self.assert_fails(DeadlinePassed, deferred)
        self.assertIs(LinkState.AWAY, node.link)
        self.assertIn("hangs", node.reason)
        await self.assert_fails(Unavailable, node.write(0, b"y"))
        calls.gate.set()
        await self.until(lambda: node.link is LinkState.READY)
        self.assertEqual([0], calls.written)  # what no thread had begun was never done
        self.assertEqual(incarnation, node.incarnation)
        await node.write(0, b"z")
        self.assertEqual(b"z", bytes(await node.read(0, 1)))

    async def test_slow_zeroes(self) -> None:
        """
        Zeroes that have to be written, longer than the deadline altogether: they get on, so the disk does not hang,
        and what waits behind them has not been waited for yet.
        """

        class Slow(WithoutNowait):
            def write(self, fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
                if len(data) > 4096:
                    time.sleep(0.06)
                return super().write(fd, data, offset, flags)

        node = await self.node(calls=Slow(), deadline_s=0.8, size=SIZE)
        changes = [node.write_zeroes(0, 20 << 20), node.write(0, b"x" * 4096), node.write_zeroes(8192, 8 << 20)]
        await gatherResults([*changes, node.write(8192, b"y" * 4096)])
        self.assertEqual(b"x" * 4096 + bytes(4096) + b"y" * 4096, bytes(await node.read(0, 12288)))
        self.assertIs(LinkState.READY, node.link)

    async def test_hanging_together(self) -> None:
        """What is left of a batch when the disk is found to hang is never done, nor what was to come after it."""
        calls = self.calls()
        node = await self.node(calls=calls, deadline_s=0.2)
        calls.gate.clear()
        batch = node.write_together([(number * 512, b"x" * 512) for number in range(3)])
        second = node.write_together([(4096, b"x")])
        zeroing = node.write_zeroes(8192, 512)
        last = node.write(8192, b"x")
        errors = await batch
        assert errors is not None
        self.assertEqual([DeadlinePassed] * 3, [type(error) for error in errors])
        errors = await second
        assert errors is not None
        self.assertEqual([DeadlinePassed], [type(error) for error in errors])
        for deferred in (zeroing, last):
            await self.assert_fails(DeadlinePassed, deferred)
        calls.gate.set()
        await self.until(lambda: node.link is LinkState.READY)
        self.assertEqual([0], calls.written)
        self.assertIsNone(await node.write_together([(0, b"y"), (1, b"z")]))
        self.assertEqual(b"yzx", bytes(await node.read(0, 3)))

    async def test_order_of_changes(self) -> None:
        """Writes and zeroes of the same place are done in the order in which they were asked for."""
        calls = self.calls()
        node = await self.node(calls=calls)
        calls.gate.clear()
        changes: list[Deferred[Any]] = []
        expected = bytearray(64 * 512)
        randomness = random.Random(5)
        for step in range(60):
            first, count = randomness.randrange(56), randomness.randrange(1, 8)
            offset, length = 512 * first, 512 * count
            kind, data = randomness.randrange(4), bytes([step + 1]) * length
            if kind == 0:
                changes.append(node.write(offset, data))
            elif kind == 1:
                changes.append(node.write(offset, data, fua=True))
            elif kind == 2:
                changes.append(node.write_together([(offset, bytes(length)), (offset, data)]))
            else:
                data = bytes(length)
                changes.append(node.write_zeroes(offset, length, fua=step % 2 == 0))
            expected[offset : offset + length] = data
        calls.gate.set()
        await gatherResults(changes)
        self.assertEqual(bytes(expected), bytes(await node.read(0, 64 * 512)))

    async def test_nothing_is_overtaken(self) -> None:
        """A write that need not wait is not done before those of the same place that do, for it has to stay."""

        class Sometimes(Injected):
            waits = True

            def write(self, fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
                return super().write(fd, data, offset, flags) if self.waits else os.pwrite(fd, data, offset)

        calls = Sometimes(self.make_writer)
        node = await self.node(calls=calls)
        changes = (
            lambda: node.write(0, b"1" * 512),
            lambda: node.write_zeroes(0, 512),
            lambda: node.write_together([(0, b"2" * 512)]),
        )
        for change in changes:
            calls.gate.clear()
            calls.waits = True
            first = change()
            first.addErrback(lambda failure: failure.trap(CancelledError))
            first.cancel()  # nobody knows whether it was done, until it is written again
            calls.waits = False
            second = node.write(0, b"3" * 512)
            calls.gate.set()
            await second
            await node.write_zeroes(4096, 512)  # what comes after all these
            self.assertEqual(b"3" * 512, bytes(await node.read(0, 512)))

    async def test_close_waits(self) -> None:
        """Closing waits for what is in flight, flushes it, and gives every thread and descriptor back."""
        await (await self.node()).close()  # what the reactor opens once is there
        gc.collect()
        before = threading.active_count(), len(os.listdir("/proc/self/fd"))
        tasks = len(os.listdir("/proc/self/task"))
        calls = self.calls()
        node = await self.node(calls=calls)
        calls.gate.clear()
        writing = node.write(0, b"kept", fua=True)
        zeroing = node.write_zeroes(512, 512, fua=True)
        closing = node.close()
        self.assertNoResult(closing)
        calls.gate.set()
        await closing
        await writing
        await zeroing
        self.assertEqual(3, calls.syncs)
        self.assertEqual(before, (threading.active_count(), len(os.listdir("/proc/self/fd"))))
        await self.until(lambda: len(os.listdir("/proc/self/task")) == tasks)  # the kernel takes a moment

    async def test_close_while_hanging(self) -> None:
        """Closing does not wait for ever; the file stays locked until the thread has come back."""
        calls = self.calls()
        node = await self.node(calls=calls, deadline_s=0.2)
        calls.gate.clear()
        write = node.write(0, b"x")
        closing = node.close()
        await self.assert_fails(DeadlinePassed, write)
        await closing
        await self.assert_fails(AlreadyInUse, node.open())
        other = FileNode(reactor, "g", self.path)
        await self.assert_fails(AlreadyInUse, other.open())
        calls.gate.set()
        await self.until(lambda: node._media is None)
        await other.open()
        self.assertIs(LinkState.READY, other.link)
        await other.close()

    async def test_too_many(self) -> None:
        """What only asks is bounded: above the limit it fails and holds nothing. What changes something waits."""
        calls = self.calls()
        node = await self.node(calls=calls, size=64 << 20)
        calls.gate.clear()
        data = bytes(32 << 20)
        self.patch(file_crew, "QUEUED_BYTES_MAX", 16 * len(data))
        waiting: list[Deferred[Any]] = [node.write(0, data) for _ in range(16)]
        self.assertIn("in flight; ask again later", await self.assert_fails(LimitReached, node.read(0, 1)))
        waiting += [node.write(0, b"x"), node.write_together([(0, b"x"), (1, b"y")])]
        waiting += [node.flush(), node.write_zeroes(0, 1), node.trim(0, 1), node.write(0, b"x", fua=True)]
        calls.gate.set()
        self.assertEqual([None] * 22, await gatherResults(waiting))
        await node.read(0, 1)

    async def test_too_many_writes(self) -> None:
        """However many they are, a mirror would have to do without a member that refuses them."""
        node = await self.node(calls=self.calls())
        self.assertIsNone(await node.write_together([(0, b"x")] * (QUEUED_JOBS_MAX + 1)))

    async def test_bad_buffer(self) -> None:
        """A buffer that cannot be written fails its own write, and nobody else's."""
        calls = self.calls()
        node = await self.node(calls=calls)
        bad = memoryview(bytes(1024))[::2]
        await self.assert_fails(InternalError, node.write(0, bad))
        calls.gate.clear()
        zeroing = node.write_zeroes(0, 512)
        behind, good = node.write(0, bad), node.write(0, b"good")
        calls.gate.set()
        await zeroing
        await self.assert_fails(InternalError, behind)
        await good
        self.assertEqual(b"good", bytes(await node.read(0, 4)))
        self.assertEqual(2, len(self.flushLoggedErrors(BufferError)))


class CompiledErrorTests(ErrorTests):
    """The same with the compiled writer."""

    make_writer = staticmethod(compiled_writer)
    skip = None if load("_files") else NOT_COMPILED


class CompiledHangTests(HangTests):
    """The same with the compiled writer."""

    make_writer = staticmethod(compiled_writer)
    skip = None if load("_files") else NOT_COMPILED
