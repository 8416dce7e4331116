"""
Tests of L{dst.recovery.state_files}: plain files below the test's own directory; nothing runs in a thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dst.errors import BadMedia, ConfigurationError, DSTError, MediaError, NoSpace
from dst.recovery.state_files import (
    CHANGES_AT_ONCE_MAX,
    FILE_BYTES_MAX,
    DirectoryFiles,
    IStateFiles,
    MemoryFiles,
    state_files,
)
from dst.surroundings import ISurroundings


class PowerCut(Exception):
    """The process is gone at this step."""


def now(work: Callable[[], Any]) -> Deferred[Any]:
    return maybeDeferred(work)


class Contract:
    """What every kind of state files does."""

    def make(self) -> IStateFiles:
        raise NotImplementedError

    def test_nothing(self) -> None:
        """Where nothing was stored there is nothing, and nothing can be deleted."""
        files = self.make()
        self.assertIs(None, self.successResultOf(files.load("a")))  # type: ignore[attr-defined]
        self.successResultOf(files.delete("a"))  # type: ignore[attr-defined]

    def test_round_trip(self) -> None:
        """What was stored last is loaded, under its own name only, the empty string too."""
        files = self.make()
        for content in (b"first", b"second", b""):
            self.successResultOf(files.store("a", content))  # type: ignore[attr-defined]
            self.assertEqual(content, self.successResultOf(files.load("a")))  # type: ignore[attr-defined]
        self.assertIs(None, self.successResultOf(files.load("b")))  # type: ignore[attr-defined]

    def test_delete(self) -> None:
        """What was deleted is not there, the others are."""
        files = self.make()
        for name in ("a", "b"):
            self.successResultOf(files.store(name, b"x"))  # type: ignore[attr-defined]
        self.successResultOf(files.delete("a"))  # type: ignore[attr-defined]
        self.assertIs(None, self.successResultOf(files.load("a")))  # type: ignore[attr-defined]
        self.assertEqual(b"x", self.successResultOf(files.load("b")))  # type: ignore[attr-defined]


class MemoryFilesTests(Contract, SynchronousTestCase):
    """In memory."""

    def make(self) -> IStateFiles:
        return MemoryFiles()

    def test_broken(self) -> None:
        """Every operation fails as it is told to, and what was there stays."""
        files = MemoryFiles()
        self.successResultOf(files.store("a", b"x"))
        files.broken = NoSpace("full")
        for failing in (files.load("a"), files.store("a", b"y"), files.delete("a")):
            self.failureResultOf(failing, NoSpace)
        self.assertEqual({"a": b"x"}, files.files)


class DirectoryFilesTests(Contract, SynchronousTestCase):
    """In a directory."""

    def setUp(self) -> None:
        self.directory = os.path.join(self.mktemp(), "below")

    def make(self) -> IStateFiles:
        return DirectoryFiles(self.directory, now)

    def test_killed_at_every_step(self) -> None:
        """Killed at any system call of a deletion or replacement, the old content is there or the new state."""
        for call in ("open", "fsync", "replace", "unlink"):
            files = self.make()
            self.successResultOf(files.store("a", b"old"))

            def die(*_: object, **__: object) -> None:
                raise PowerCut

            patch = self.patch(os, call, die)
            for changing in (files.store("a", b"new"), files.delete("a")):
                changing.addErrback(lambda failure: failure.trap(PowerCut))
            patch.restore()
            self.assertIn(self.successResultOf(files.load("a")), (b"old", b"new", None))

    def test_deletion_is_durable(self) -> None:
        """The directory is synced after a file was removed from it."""
        files = self.make()
        self.successResultOf(files.store("a", b"x"))
        synced: list[str] = []
        real = os.fsync

        def note(handle: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{handle}"))
            real(handle)

        self.patch(os, "fsync", note)
        self.successResultOf(files.delete("a"))
        self.assertEqual([os.path.abspath(self.directory)], synced)

    def test_too_large(self) -> None:
        """A file larger than anything that is stored here is refused and not read into memory."""
        os.makedirs(self.directory)
        with open(os.path.join(self.directory, "a"), "wb") as file:
            file.truncate(FILE_BYTES_MAX + 1)
        self.failureResultOf(self.make().load("a"), BadMedia)

    def test_unreadable(self) -> None:
        """What cannot be read is an error, not a file that is missing."""
        os.makedirs(os.path.join(self.directory, "a"))
        error = self.failureResultOf(self.make().load("a"), ConfigurationError).value
        self.assertIn(os.path.join(self.directory, "a"), error.message)

    def test_no_space(self) -> None:
        """A full disk is told as one, any other error of the system as the media's; the sentence has the path."""
        for number, kind in ((errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, MediaError)):

            def fail(*_: object, number: int = number) -> None:
                raise OSError(number, os.strerror(number))

            patch = self.patch(os, "fsync", fail)
            error = self.failureResultOf(self.make().store("a", b"x"), kind).value
            patch.restore()
            self.assertIn(os.path.join(self.directory, "a"), error.message)

    def test_plain_names(self) -> None:
        """A name that would lead somewhere else is our own mistake."""
        files = self.make()
        for name in ("", "..", "a/b", "a.new"):
            self.assertRaises(AssertionError, files.load, name)


@implementer(ISurroundings)
class Elsewhere(Clock):
    """A reactor of another world."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, MemoryFiles] = {}

    def state_files(self, directory: str) -> IStateFiles:
        return self.made.setdefault(directory, MemoryFiles())


class StateFilesTests(SynchronousTestCase):
    """Where the files of a reactor's world are."""

    def test_simulated(self) -> None:
        """A reactor that has files of its own is asked for them."""
        reactor = Elsewhere()
        files = state_files(reactor, "/state")
        self.successResultOf(files.store("a", b"x"))
        self.assertEqual({"a": b"x"}, reactor.made["/state"].files)

    def test_real(self) -> None:
        """Any other reactor's are in the file system."""
        self.assertIsInstance(state_files(Clock(), "/state"), DirectoryFiles)


class OrderTests(SynchronousTestCase):
    """Several replacements that nobody waits for."""

    def setUp(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.files = DirectoryFiles(self.mktemp(), self.thread)

    def thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        """It takes its time."""
        done: Deferred[Any] = Deferred()
        self.waiting.append((done, work))
        return done

    def work_on(self, which: int) -> None:
        """One of the threads does what it has to."""
        done, work = self.waiting.pop(which)
        try:
            done.callback(work())
        except DSTError as error:
            done.errback(error)

    def test_one_after_the_other(self) -> None:
        """What was stored last is there in the end, whatever order the threads would have kept."""
        stored = [self.files.store("record", bytes([n])) for n in range(3)]
        while self.waiting:
            self.assertEqual(1, len(self.waiting))
            self.work_on(0)
        self.assertEqual([None] * 3, [self.successResultOf(each) for each in stored])
        with open(self.files.path("record"), "rb") as file:
            self.assertEqual(b"\x02", file.read())

    def test_files_side_by_side(self) -> None:
        """Several files are changed at once, a bounded number, and each of them in the order that was asked for."""
        names = [f"promise-{n}" for n in range(2 * CHANGES_AT_ONCE_MAX)]
        stored = [self.files.store(name, bytes([turn])) for turn in range(2) for name in names]
        self.assertEqual(CHANGES_AT_ONCE_MAX, len(self.waiting))
        while self.waiting:
            self.assertLessEqual(len(self.waiting), CHANGES_AT_ONCE_MAX)
            self.work_on(-1)
        self.assertEqual([None] * len(stored), [self.successResultOf(each) for each in stored])
        for name in names:
            with open(self.files.path(name), "rb") as file:
                self.assertEqual(b"\x01", file.read())

    def test_a_failure_holds_nobody_up(self) -> None:
        """Who could not be stored is told, and what was asked for later is done."""
        os.makedirs(self.files.path("record"))  # a directory cannot be replaced
        first, second = self.files.store("record", b"x"), self.files.store("other", b"y")
        third = self.files.store("record", b"z")
        while self.waiting:
            self.work_on(0)
        self.failureResultOf(first, DSTError)
        self.successResultOf(second)
        self.failureResultOf(third, DSTError)
        os.rmdir(self.files.path("record"))
        last = self.files.store("record", b"w")
        self.work_on(0)
        self.successResultOf(last)
