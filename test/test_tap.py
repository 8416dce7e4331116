"""Tests of L{dst.tap}: what stands behind C{twistd dst}, before anything runs."""

from __future__ import annotations

import io
import os
import signal
import sys

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dst import __version__
from dst.cluster.ordered_service import OrderedService
from dst.tap import Options, makeService

GOOD = '[nodes.m]\nuri = "memory:?size=1M"\n'


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def setUp(self) -> None:
        """Streams that can be read."""
        self.errors = io.StringIO()
        self.output = io.StringIO()
        self.patch(sys, "__stderr__", self.errors)
        self.patch(sys, "stdout", self.output)

    def file(self, text: str, name: str = "dst.toml") -> str:
        """A file with this in it."""
        directory = self.mktemp()
        os.makedirs(directory)
        path = os.path.join(directory, name)
        with open(path, "w") as target:
            target.write(text)
        return path

    def exit_of(self, *arguments: str, parent: usage.Options | None = None) -> int:
        """The status with which these arguments end the process."""
        options = Options()
        options.parent = parent
        return int(str(self.assertRaises(SystemExit, options.parseOptions, arguments).code))

    def test_found_by_twisted(self) -> None:
        """Twisted's own daemons find the plugin, which leads here."""
        makers = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "dst"]
        self.assertEqual(["dst.tap"], [maker.module for maker in makers])
        self.assertIs(Options, makers[0].options)

    def test_configuration(self) -> None:
        """A good file becomes a service."""
        for option, name, text in [
            ("--config", "dst.toml", GOOD),
            ("-c", "dst.toml", GOOD),
            ("--topology", "dst.py", "from dst.cluster.topology import *\ntopology = memory('1M', name='m')\n"),
        ]:
            options = Options()
            options.parseOptions([option, self.file(text, name)])
            self.assertEqual(["m"], [spec.name for spec in options.loaded.nodes])
            self.assertIsInstance(makeService(options), OrderedService)
        self.assertEqual("", self.errors.getvalue())

    def test_one_of_two(self) -> None:
        """Exactly one topology is expected; anything else is a usage error of its own status."""
        path = self.file(GOOD)
        for arguments in ([], ["--config", path, "--topology", path]):
            self.assertEqual(2, self.exit_of(*arguments))
        self.assertEqual(2, self.errors.getvalue().count("expected --config FILE or --topology FILE.py, one of them"))

    def test_mistakes(self) -> None:
        """Every mistake of the file is a line on standard error, with its line number."""
        path = self.file('[nodes.m]\nurl = "memory:"\n[exports.x]\ndevice = "y"\n')
        self.assertEqual(1, self.exit_of("--config", path))
        lines = self.errors.getvalue().splitlines()
        self.assertEqual(2, len(lines))
        self.assertTrue(lines[0].startswith(f"dst: {path}:1: [nodes.m] has no uri"), lines[0])
        self.assertTrue(lines[1].startswith(f"{path}:4: there is no node or storage 'y'"), lines[1])

    def test_check(self) -> None:
        """C{--check} says that a file is fine, or what is wrong, and starts nothing."""
        path = self.file(GOOD)
        self.assertEqual(0, self.exit_of("--config", path, "--check"))
        self.assertEqual(f"{path}: fine\n", self.output.getvalue())
        self.assertEqual(1, self.exit_of("--config", self.file("x = 1\n"), "--check"))

    def test_log_format(self) -> None:
        """The log as JSON goes to standard output, and is refused where it cannot."""
        path = self.file(GOOD)
        arguments = ["--config", path, "--log-format", "json"]
        self.assertEqual(2, self.exit_of("--config", path, "--log-format", "xml"))
        self.assertEqual(2, self.exit_of(*arguments))
        for unfit in ({"nodaemon": False, "logfile": None}, {"nodaemon": True, "logfile": "x.log"}):
            parent = usage.Options()
            parent.update(logger=None, **unfit)
            self.assertEqual(2, self.exit_of(*arguments, parent=parent))
        parent = usage.Options()
        parent.update(logger=None, nodaemon=True, logfile=None)
        options = Options()
        options.parent = parent
        options.parseOptions(arguments)
        self.assertEqual("dst.tap.json_log", parent["logger"])

    def test_log_file(self) -> None:
        """The log goes to the named file, in either format; where it cannot, that is said before anything starts."""
        path = self.file(GOOD)
        log = os.path.join(os.path.dirname(path), "dst.log")
        arguments = ["--config", path, "--log-file", log]
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        parent = usage.Options()
        parent.update(logger=None, nodaemon=False, logfile="other.log")
        self.assertEqual(2, self.exit_of(*arguments, parent=parent))
        parent["logfile"] = None
        self.assertEqual(1, self.exit_of("--config", path, "--log-file", os.path.dirname(log), parent=parent))
        self.assertIn("Is a directory", self.errors.getvalue())
        options = Options()
        options.parent = parent
        options.parseOptions(arguments)
        self.assertEqual("dst.tap.file_log", parent["logger"])
        self.assertTrue(os.path.exists(log))

    def test_help(self) -> None:
        """The help names every option and shows how it is used."""
        text = str(Options())
        for words in ("--config", "--topology", "--check", "--log-format", "SIGTERM", "--nodaemon --pidfile= dst"):
            self.assertIn(words, text)

    def test_version(self) -> None:
        """The version is DST's."""
        self.assertEqual(0, self.exit_of("--version"))
        self.assertEqual(f"DST {__version__}\n", self.output.getvalue())
