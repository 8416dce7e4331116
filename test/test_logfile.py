"""Tests of L{dst.logfile}."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dst.logfile import LogFile, observer_of


class LogFileTests(SynchronousTestCase):
    """A file that others rename, remove or cut short."""

    def setUp(self) -> None:
        """One with a line in it."""
        directory = self.mktemp()
        os.makedirs(directory)
        self.path = os.path.join(directory, "dst.log")
        self.file = LogFile(self.path)
        self.addCleanup(self.file.close)
        self.file.write("one\n")

    def content(self, path: str) -> str:
        """What is in a file."""
        with open(path) as file:
            return file.read()

    def test_appends(self) -> None:
        """What is there already stays; nobody else may read it."""
        again = LogFile(self.path)
        again.write("two\n")
        again.close()
        self.assertEqual("one\ntwo\n", self.content(self.path))
        self.assertEqual(0, stat.S_IMODE(os.stat(self.path).st_mode) & 0o007)

    def test_renamed(self) -> None:
        """What is written between the renaming and the signal is in the renamed file, and no line is lost."""
        os.rename(self.path, self.path + ".1")
        self.file.write("two\n")
        self.file.reopen()
        self.file.write("three\n")
        self.assertEqual(["one\ntwo\n", "three\n"], [self.content(self.path + ".1"), self.content(self.path)])

    def test_cut_short(self) -> None:
        """A file that was cut to nothing has no hole before the next line."""
        os.truncate(self.path, 0)
        self.file.write("two\n")
        self.assertEqual("two\n", self.content(self.path))

    def test_not_opened_again(self) -> None:
        """Where nothing can be opened, the file of before goes on, and says so."""
        os.rename(self.path, self.path + ".1")
        os.mkdir(self.path)
        self.file.reopen()
        self.file.write("two\n")
        self.assertRegex(self.content(self.path + ".1"), r"\Aone\ndst: .* cannot be opened again: .*\ntwo\n\Z")

    def test_full_disk(self) -> None:
        """A disk without room costs lines of the log and nothing else."""
        errors = io.StringIO()
        self.patch(sys, "__stderr__", errors)
        full = LogFile("/dev/full")
        self.addCleanup(full.close)
        full.write("one\n")
        self.assertEqual("dst: /dev/full: No space left on device\n", errors.getvalue())


class ObserverTests(SynchronousTestCase):
    """Events in the file."""

    def test_formats(self) -> None:
        """Each event is a line of text, or an object; the signal opens the file again."""
        for log_format in ("text", "json"):
            handlers: dict[int, Callable[..., Any]] = {}
            path = self.mktemp()
            observer = observer_of(path, log_format, handlers.__setitem__)
            observer({"log_format": "one", "log_time": 1.0, "log_namespace": "x"})
            os.rename(path, path + ".1")
            handlers[signal.SIGUSR1](signal.SIGUSR1, None)
            observer({"log_format": "two", "log_time": 1.0, "log_namespace": "x"})
            with open(path) as new, open(path + ".1") as old:
                lines = old.read().splitlines() + new.read().splitlines()
            self.assertEqual(2, len(lines))
            if log_format == "json":
                lines = [json.loads(line)["log_format"] for line in lines]
            self.assertEqual(["one", "two"], [line[-3:] for line in lines])
