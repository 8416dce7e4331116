"""
Tests of L{dst.recovery.record_store}: plain files below the test's own directory; nothing runs in a thread.
"""

from __future__ import annotations

import builtins
import os
import struct
from collections.abc import Callable
from typing import Any

from attrs import evolve
from crc32c import crc32c
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import BadMedia, ConfigurationError, MediaError
from dst.label.format import Label
from dst.label.upgrading import FormatTooNew
from dst.recovery.record_store import NoRecordStore, RecordStore
from dst.recovery.state_files import DirectoryFiles
from test.label.examples import LABEL

NEXT = LABEL.evolve(record=evolve(LABEL.record, sequence=6))


class PowerCut(Exception):
    """The process is gone at this step."""


class RecordStoreTests(SynchronousTestCase):
    """The owner's record in a file."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.path = os.path.join(self.directory, "record")
        self.jobs = 0
        self.store = self.make()

    def make(self) -> RecordStore:
        return RecordStore(DirectoryFiles(self.directory, self.run_now))

    def run_now(self, work: Callable[[], Any]) -> Deferred[Any]:
        self.jobs += 1
        return maybeDeferred(work)

    def keep(self, label: Label) -> None:
        self.successResultOf(self.store.store(label))

    def damage(self, content: bytes) -> str:
        """With this content: the sentence with which the record is refused."""
        with open(self.path, "wb") as file:
            file.write(content)
        return self.failureResultOf(self.store.load(), BadMedia).value.message

    def test_nothing_kept(self) -> None:
        """Where nothing was ever kept, the directory not even made, there is no record."""
        self.assertIs(None, self.successResultOf(self.store.load()))
        self.assertFalse(os.path.exists(self.directory))

    def test_round_trip(self) -> None:
        """What was kept last is loaded, by another store too; the directory is made when it is needed."""
        for label in (LABEL, NEXT):
            self.keep(label)
            self.assertEqual(label, self.successResultOf(self.make().load()))

    def test_private(self) -> None:
        """Nobody else may look into a directory that the store makes."""
        self.keep(LABEL)
        self.assertEqual(0o700, os.stat(self.directory).st_mode & 0o777)

    def test_off_the_reactor(self) -> None:
        """Whatever may block is given to the runner."""
        waiting: list[Callable[[], Any]] = []

        def later(work: Callable[[], Any]) -> Deferred[Any]:
            waiting.append(work)
            return Deferred()

        store = RecordStore(DirectoryFiles(self.directory, later))
        self.assertNoResult(store.store(LABEL))
        self.assertNoResult(store.load())
        self.assertFalse(os.path.exists(self.directory))
        self.assertEqual(2, len(waiting))

    def test_replaced_as_a_whole(self) -> None:
        """Killed at any system call, the old record is there or the new one, and the next one can be kept."""
        calls = ("open", "fsync", "replace")
        survived = set()
        for call in calls:
            self.setUp()
            self.keep(LABEL)

            def die(*_: object, **__: object) -> None:
                raise PowerCut

            patch = self.patch(os, call, die)
            self.failureResultOf(self.store.store(NEXT), PowerCut)
            patch.restore()
            label = self.successResultOf(self.store.load())
            assert label is not None
            survived.add(label.record.sequence)
            self.keep(NEXT)
            self.assertEqual(NEXT, self.successResultOf(self.store.load()))
        self.assertEqual({5, 6}, survived)

    def test_stable_before_it_counts(self) -> None:
        """The file is synced before it takes the name, and the directory after."""
        steps: list[str] = []
        for name in ("fsync", "replace"):
            real = getattr(os, name)

            def note(*arguments: Any, name: str = name, real: Any = real) -> None:
                what = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else arguments[0]
                steps.append(f"{name} {os.path.basename(what)}")
                real(*arguments)

            self.patch(os, name, note)
        self.keep(LABEL)
        self.assertEqual(
            ["fsync record.new", "replace record.new", f"fsync {os.path.basename(self.directory)}"], steps
        )

    def test_left_over(self) -> None:
        """What an interrupted store left is neither loaded nor in the way."""
        self.keep(LABEL)
        with open(self.path + ".new", "wb") as file:
            file.write(b"half a rec")
        self.assertEqual(LABEL, self.successResultOf(self.store.load()))
        self.keep(NEXT)
        self.assertEqual(["record"], os.listdir(self.directory))

    def test_later_release(self) -> None:
        """A record of a later format is not called damaged, and nobody is told to delete it."""
        self.keep(LABEL)
        with open(self.path, "r+b") as file:
            slot = file.read()
            (length,) = struct.unpack_from("<I", slot, 20)
            later = slot[:8] + b"\x63\x00" + slot[10:32] + bytes(4) + slot[36 : 64 + length]
            later = later[:32] + struct.pack("<I", crc32c(later)) + later[36:]
            file.seek(0)
            file.write(later)
        error = self.failureResultOf(self.store.load(), FormatTooNew).value
        self.assertIn("version 99", error.message)
        self.assertIn(self.path, error.message)
        self.assertNotIn("delete", error.message)

    def test_damaged(self) -> None:
        """A record that is damaged, cut short, empty or something else is refused, by the name of its file."""
        self.keep(LABEL)
        with open(self.path, "rb") as file:
            good = file.read()
        for content in (good[:100] + b"?" + good[101:], good[:200], good[:10], b"", b"DSTLABEK" + good[8:]):
            message = self.damage(content)
            self.assertIn(self.path, message)
            self.assertIn("every member is present", message)
        self.keep(NEXT)
        self.assertEqual(NEXT, self.successResultOf(self.store.load()))

    def test_every_byte_flipped(self) -> None:
        """With any byte changed the record is refused or is what was kept."""
        self.keep(LABEL)
        with open(self.path, "rb") as file:
            good = file.read()
        refused = 0
        for at in range(400):
            with open(self.path, "wb") as file:
                file.write(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
            loading = self.store.load()
            outcome: list[object] = []
            loading.addBoth(outcome.append)
            if outcome[0] != LABEL:
                refused += 1
                self.assertIsInstance(getattr(outcome[0], "value", None), BadMedia)
        self.assertGreater(refused, 300)

    def test_not_a_file(self) -> None:
        """A directory in the place of the record is a mistake that is told."""
        os.makedirs(self.path)
        message = self.failureResultOf(self.store.load(), ConfigurationError).value.message
        self.assertIn(self.path, message)

    def test_may_not_be_read(self) -> None:
        """A record that may not be read is a mistake that is told, not a missing one."""
        self.keep(LABEL)

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(builtins, "open", refuse)
        loading = self.store.load()
        self.assertIn("Permission denied", self.failureResultOf(loading, ConfigurationError).value.message)


class UnwritableTests(SynchronousTestCase):
    """The directory cannot be written."""

    def test_error(self) -> None:
        """It is told with the path and what the system said."""
        path = self.mktemp()
        with open(path, "w"):
            pass
        store = RecordStore(DirectoryFiles(os.path.join(path, "below"), lambda work: maybeDeferred(work)))
        error = self.failureResultOf(store.store(LABEL), MediaError).value
        self.assertIn(path, str(error))


class NoRecordStoreTests(SynchronousTestCase):
    """No state directory."""

    def test_keeps_nothing(self) -> None:
        """What is stored is forgotten."""
        store = NoRecordStore()
        self.successResultOf(store.store(LABEL))
        self.assertIs(None, self.successResultOf(store.load()))
