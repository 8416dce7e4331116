"""Tests of L{dst.native.files} with real files and threads: the compiled one and its equal in Python."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.native import files, load
from test.integration.file_faults import NOT_COMPILED, Write, compiled_writer, python_writer

PATIENCE_S = 60.0
"""For threads: reached only if they never do what they shall."""

SIZE = 64 * 1024

Batches: TypeAlias = list[tuple[list[tuple[int, bytes]], float]]
"""The writes of each, and how long to wait for it."""

_writes = st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=60)), max_size=6)
_batches = st.lists(st.tuples(_writes, st.sampled_from([0.0, 0.0005, PATIENCE_S])), max_size=12)


def any_batches(test: Any) -> Any:
    """Give a test many lists of batches."""
    return settings(max_examples=60, deadline=None)(given(_batches)(test))


compiled = load("_files")


class FileCase(SynchronousTestCase):
    """With a file."""

    def setUp(self) -> None:
        path = self.mktemp()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.fd)
        os.ftruncate(self.fd, SIZE)


class ReadNowTests(FileCase):
    """What the page cache has, by Python."""

    read_now = staticmethod(files.python_read_now)

    def test_cached(self) -> None:
        """What was just written is there, from any offset, large or small."""
        data = os.urandom(SIZE)
        os.pwrite(self.fd, data, 0)
        for offset, length in [(0, 1), (0, SIZE), (17, 4096), (SIZE - 1, 1), (5, 0)]:
            found = self.read_now(self.fd, offset, length)
            if found is None:
                continue  # this file system cannot tell
            self.assertEqual(data[offset : offset + length], bytes(found))

    def test_not_there(self) -> None:
        """What ends too early, or is no file, is not there; nothing is raised."""
        for fd, offset, length in [(self.fd, SIZE - 1, 2), (self.fd, SIZE, 1), (self.fd, 1 << 62, 1), (-1, 0, 1)]:
            self.assertIsNone(self.read_now(fd, offset, length))

    def test_bad(self) -> None:
        """What has no meaning is refused."""
        self.assertRaises(ValueError, self.read_now, self.fd, -1, 1)
        self.assertRaises(ValueError, self.read_now, self.fd, 0, -1)
        self.assertRaises(OverflowError, self.read_now, self.fd, 1 << 70, 1)
        self.assertRaises(TypeError, self.read_now, self.fd, 0)
        self.assertRaises(TypeError, self.read_now, self.fd, "0", 1)


class CompiledReadNowTests(ReadNowTests):
    """The same, compiled."""

    skip = None if compiled else NOT_COMPILED
    if compiled:
        read_now = staticmethod(compiled.read_now)


class WriterTests(FileCase):
    """A thread that writes, in Python."""

    make_writer: Callable[[str, Write], files.Writer] = staticmethod(python_writer)

    @staticmethod
    def plain_writer() -> files.Writer:
        """One with the real system call."""
        return files.PythonWriter("plain")

    def setUp(self) -> None:
        super().setUp()
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.errors: dict[int, int] = {}
        self.most = SIZE

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """As C{pwrite}, as the test wants it."""
        self.begun.set()
        assert self.gate.wait(PATIENCE_S)
        if offset in self.errors:
            raise OSError(self.errors[offset], "no")
        return os.pwrite(fd, data[: self.most], offset)

    def writer(self) -> files.Writer:
        """One that is stopped in the end."""
        writer = self.make_writer("test", self.write)
        self.addCleanup(writer.stop)
        self.addCleanup(self.gate.set)
        return writer

    def ended(self, writer: files.Writer, count: int) -> list[Any]:
        """Wait for so many batches."""
        outcomes: list[Any] = []
        while len(outcomes) < count:
            ready, _, _ = select.select([writer], [], [], PATIENCE_S)
            self.assertEqual([writer], ready, "it was not told")
            outcomes += writer.reap()
        self.assertEqual([], select.select([writer], [], [], 0)[0])
        return outcomes

    def content(self, length: int) -> bytes:
        """What stands in the file."""
        return os.pread(self.fd, length, 0)

    def test_waited_for(self) -> None:
        """What was waited for and went well is done, and is not told of again."""
        writer = self.writer()
        self.assertTrue(writer.submit(self.fd, [(0, b"ab"), (1, b"cd")], "token", PATIENCE_S))
        self.assertEqual(b"acd\0", self.content(4))
        self.assertEqual([], writer.reap())
        self.assertEqual([], select.select([writer], [], [], 0)[0])

    def test_not_waited_for(self) -> None:
        """What was not waited for is told through the descriptor, in order, with its token."""
        writer = self.writer()
        tokens = [object() for _ in range(50)]
        for number, token in enumerate(tokens):
            self.assertFalse(writer.submit(self.fd, [(number, b"x")], token, 0.0))
        self.assertEqual([(token, None) for token in tokens], self.ended(writer, 50))
        self.assertEqual(b"x" * 50, self.content(50))

    def test_waited_in_vain(self) -> None:
        """Who waits in vain goes on after that time, and the batch is told of as any other."""
        writer = self.writer()
        self.gate.clear()
        self.assertFalse(writer.submit(self.fd, [(0, b"a")], 1, 0.001))
        self.assertFalse(writer.submit(self.fd, [(1, b"b")], 2, 0.0))
        self.gate.set()
        self.assertEqual([(1, None), (2, None)], self.ended(writer, 2))

    def test_waiting_for_all(self) -> None:
        """A wait is for all that was given; what was not waited for before is told of all the same."""
        writer = self.writer()
        self.gate.clear()
        self.assertFalse(writer.submit(self.fd, [(0, b"a")], 1, 0.0))
        self.assertTrue(self.begun.wait(PATIENCE_S))
        opening = threading.Timer(0.01, self.gate.set)
        opening.start()
        self.assertTrue(writer.submit(self.fd, [(1, b"b")], 2, PATIENCE_S))
        opening.join()
        self.assertEqual([(1, None)], self.ended(writer, 1))
        self.assertEqual(b"ab", self.content(2))

    def test_no_writes(self) -> None:
        """An empty batch, and a write of nothing, end like any other."""
        writer = self.writer()
        self.assertTrue(writer.submit(self.fd, [], 1, PATIENCE_S))
        self.assertTrue(writer.submit(self.fd, ((0, b""), (1, b"x")), 1, PATIENCE_S))
        self.assertEqual(b"\0x", self.content(2))

    def test_short(self) -> None:
        """A write that the system does in parts is completed."""
        self.most = 7
        data = os.urandom(1000)
        self.assertTrue(self.writer().submit(self.fd, [(3, data)], None, PATIENCE_S))
        self.assertEqual(data, self.content(1003)[3:])

    def test_no_progress(self) -> None:
        """One that never goes on is an input/output error, not a loop without an end."""
        self.most = 0
        writer = self.writer()
        self.assertFalse(writer.submit(self.fd, [(0, b"x")], 1, PATIENCE_S))
        self.assertEqual([(1, [errno.EIO])], self.ended(writer, 1))

    def test_errors(self) -> None:
        """Each write has its own C{errno}, also if it was waited for, and keeps no other from being done."""
        self.errors = {1: errno.ENOSPC, 3: errno.EIO}
        writer = self.writer()
        writes = [(number, b"x") for number in range(5)]
        for wait_s in (0.0, PATIENCE_S):
            self.assertFalse(writer.submit(self.fd, writes, "t", wait_s))
            self.assertEqual([("t", [0, errno.ENOSPC, 0, errno.EIO, 0])], self.ended(writer, 1))
        self.assertEqual(b"x\0x\0x", self.content(5))

    def test_take_back(self) -> None:
        """What was not begun is never done; of a batch that was begun no further write is."""
        writer = self.writer()
        self.gate.clear()
        self.assertFalse(writer.submit(self.fd, [(0, b"a"), (1, b"a")], 1, 0.0))
        self.assertTrue(self.begun.wait(PATIENCE_S))
        for token in (2, 3):
            self.assertFalse(writer.submit(self.fd, [(token, b"b")], token, 0.0))
        self.assertEqual([2, 3], writer.take_back())
        self.gate.set()
        self.assertEqual([(1, [0, errno.ECANCELED])], self.ended(writer, 1))
        self.assertEqual([], writer.take_back())
        self.assertTrue(writer.submit(self.fd, [(4, b"c")], 4, PATIENCE_S))
        self.assertEqual(b"a\0\0\0c", self.content(5))

    def test_no_thread(self) -> None:
        """Where no thread can be started nothing is begun and every buffer is free; the next one tries again."""
        writer = files.PythonWriter("test", self.write)  # no test can keep the compiled one from having its thread
        self.addCleanup(writer.stop)

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        buffer = bytearray(b"x")
        full = self.patch(threading.Thread, "start", start)
        error = self.assertRaises(OSError, writer.submit, self.fd, [(0, buffer)], 1, 0.0)
        full.restore()
        self.assertEqual(errno.EAGAIN, error.errno)
        buffer.extend(b"y")
        writer.submit(self.fd, [(0, buffer)], 2, 0.0)
        self.assertEqual([(2, None)], self.ended(writer, 1))

    def test_buffers_are_released(self) -> None:
        """A buffer is held while it may be read, and not afterwards."""
        writer = self.writer()
        for wait_s in (0.0, 0.001):
            buffer = bytearray(b"x" * 100)
            self.gate.clear()
            self.begun.clear()
            self.assertFalse(writer.submit(self.fd, [(0, memoryview(buffer)[10:90])], [], wait_s))
            self.assertRaises(BufferError, buffer.extend, b"y")
            self.gate.set()
            self.ended(writer, 1)
            buffer.extend(b"y")
        taken = bytearray(b"x")
        self.gate.clear()
        self.begun.clear()
        writer.submit(self.fd, [(0, b"x")], 1, 0.0)
        self.assertTrue(self.begun.wait(PATIENCE_S))
        writer.submit(self.fd, [(0, memoryview(taken))], 2, 0.0)
        writer.take_back()
        taken.extend(b"y")
        self.gate.set()
        self.ended(writer, 1)  # or it would be written when the file is closed, to another one

    def test_bad(self) -> None:
        """What cannot be written is refused before anything is begun, and every buffer is free."""
        writer = self.writer()
        fine = bytearray(b"x")
        for bad, expected in [
            ((0, memoryview(b"abcd")[::2]), BufferError),
            ((-1, b"x"), ValueError),
            (((1 << 63) - 1, b"x"), ValueError),
            (("0", b"x"), TypeError),
            ((0, "text"), TypeError),
            ((0, None), TypeError),
            ((0,), TypeError),
            ((0, b"x", 1), TypeError),
            ([0, b"x"], TypeError),
            (7, TypeError),
        ]:
            with memoryview(fine) as view:  # which cannot be released while somebody has hold of it
                self.assertRaises(expected, writer.submit, self.fd, [(0, view), bad], 1, 0.0)
        self.assertRaises((ValueError, OverflowError), writer.submit, self.fd, [(1 << 70, b"x")], 1, 0.0)
        for fd in (-1, 1 << 31):
            self.assertRaises(ValueError, writer.submit, fd, [], 1, 0.0)
        self.assertRaises(TypeError, writer.submit, self.fd, None, 1, 0.0)
        self.assertEqual([], writer.reap())
        self.assertEqual(b"\0", self.content(1))

    def test_closed_file(self) -> None:
        """A file that was closed is an error like another."""
        writer = self.plain_writer()
        self.addCleanup(writer.stop)
        fd = os.dup(self.fd)
        os.close(fd)
        self.assertFalse(writer.submit(fd, [(0, b"x")], 1, PATIENCE_S))
        self.assertEqual([(1, [errno.EBADF])], self.ended(writer, 1))

    def test_stop(self) -> None:
        """Nothing can be given to one that was stopped, and to stop it twice does nothing."""
        writer = self.plain_writer()
        self.assertTrue(writer.submit(self.fd, [(0, b"x")], 1, PATIENCE_S))
        writer.stop()
        writer.stop()
        self.assertRaises(RuntimeError, writer.submit, self.fd, [(0, b"x")], 1, 0.0)
        never = self.plain_writer()
        never.stop()

    def test_stop_while_hanging(self) -> None:
        """To stop one that hangs does not wait; it tells of its batch when that has ended."""
        writer = self.writer()
        self.gate.clear()
        self.assertFalse(writer.submit(self.fd, [(0, b"x")], 1, 0.0))
        self.assertTrue(self.begun.wait(PATIENCE_S))
        writer.stop()
        self.gate.set()
        self.assertEqual([(1, None)], self.ended(writer, 1))

    def test_forgotten(self) -> None:
        """Of one that is dropped, idle or with something to tell, no descriptor is left."""
        before = len(os.listdir("/proc/self/fd"))
        for wait_s in (PATIENCE_S, 0.0):
            writer = self.plain_writer()
            writer.submit(self.fd, [(0, b"x")], 1, wait_s)
            if not wait_s:
                select.select([writer], [], [], PATIENCE_S)
            writer.stop()
            del writer
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    @any_batches
    def test_any(self, batches: Batches) -> None:
        """After any batches, waited for or not, the file holds what they say, and each was told of once."""
        self.check(batches)

    def check(self, batches: Batches) -> None:
        """The same of these batches."""
        os.ftruncate(self.fd, 0)
        os.ftruncate(self.fd, SIZE)
        writer = self.plain_writer()
        expected = bytearray(300)
        told = []
        for number, (writes, wait_s) in enumerate(batches):
            if writer.submit(self.fd, writes, number, wait_s):
                told.append(number)
            for offset, data in writes:
                expected[offset : offset + len(data)] = data
        outcomes = self.ended(writer, len(batches) - len(told))
        self.assertEqual({None}, {errors for _token, errors in outcomes} | {None})
        self.assertEqual(list(range(len(batches))), sorted([*told, *(token for token, _errors in outcomes)]))
        self.assertEqual(bytes(expected), self.content(300))
        writer.stop()


class CompiledWriterTests(WriterTests):
    """The same, compiled."""

    skip = None if compiled else NOT_COMPILED
    make_writer = staticmethod(compiled_writer)

    @staticmethod
    def plain_writer() -> files.Writer:
        """One with the real system call."""
        assert compiled is not None
        writer: files.Writer = compiled.Writer("plain")
        return writer

    @any_batches
    def test_any(self, batches: Batches) -> None:
        """After any batches, waited for or not, the file holds what they say, and each was told of once."""
        self.check(batches)

    def test_bad_function(self) -> None:
        """A function that is none is refused, and so is a name that is none."""
        assert compiled is not None
        self.assertRaises(ValueError, compiled.Writer, "x", 0)
        self.assertRaises(TypeError, compiled.Writer, "x", "y")
        self.assertRaises(ValueError, compiled.Writer, "\0")
        self.assertRaises(TypeError, compiled.Writer)


class ChoiceTests(SynchronousTestCase):
    """Which of the two is taken."""

    def test_choice(self) -> None:
        """The compiled one where it was built and Python was not asked for."""
        writer = files.new_writer("a node with a long name, \N{LATIN SMALL LETTER U WITH DIAERESIS} and all")
        self.addCleanup(writer.stop)
        expected = files.PythonWriter if compiled is None else compiled.Writer
        self.assertIs(expected, type(writer))
