"""Tests of L{dst.cluster.keeping}, on real files."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dst.cluster.config import load_file
from dst.cluster.keeping import ConfigurationFile, KeptNowhere
from dst.errors import ConfigurationError, Conflict

T = TypeVar("T")

TEXT = '[nodes.a]\nuri = "memory:?size=1M"  # mine\n'


def at_once(work: Callable[[], T]) -> Deferred[T]:
    """What a thread would do."""
    return maybeDeferred(work)


class FileTests(SynchronousTestCase):
    """A file that a person has written."""

    def setUp(self) -> None:
        """One node."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "dst.toml"
        self.path.write_text(TEXT)
        self.document: dict[str, Any] = {"nodes": {"a": {"uri": "memory:?size=2M"}}}

    def kept(self, path: Path | None = None) -> ConfigurationFile:
        """As a daemon has it that has read it."""
        return ConfigurationFile(load_file(path or self.path), at_once)

    def test_kept(self) -> None:
        """It says what is wanted, comments stay, what it was is beside it, and nothing else is left."""
        self.path.chmod(0o604)
        self.successResultOf(self.kept().keep(self.document, begin=True))
        self.assertEqual('[nodes.a]\nuri = "memory:?size=2M"  # mine\n', self.path.read_text())
        self.assertEqual(TEXT, (self.directory / "dst.toml.before").read_text())
        self.assertEqual(["dst.toml", "dst.toml.before"], sorted(os.listdir(self.directory)))
        for path in self.directory.iterdir():
            self.assertEqual(0o604, stat.S_IMODE(path.stat().st_mode))

    def test_steps_of_one_change(self) -> None:
        """What is beside it is what it was before the first step that has changed anything."""
        kept = self.kept()
        self.successResultOf(kept.keep(tomllib.loads(TEXT), begin=True))
        self.assertFalse((self.directory / "dst.toml.before").exists())
        for size in ("2M", "3M"):
            document = {"nodes": {"a": {"uri": f"memory:?size={size}"}}}
            self.successResultOf(kept.keep(document, begin=False))
            self.assertEqual(document, tomllib.loads(self.path.read_text()))
        self.assertEqual(TEXT, (self.directory / "dst.toml.before").read_text())

    def test_changed_by_somebody_else(self) -> None:
        """Nothing of theirs is lost, not even a comment."""
        kept = self.kept()
        self.path.write_text(theirs := TEXT + "# theirs\n")
        self.failureResultOf(kept.keep(self.document, begin=True), Conflict)
        self.assertEqual(theirs, self.path.read_text())
        self.assertEqual(["dst.toml"], os.listdir(self.directory))
        kept.accept(theirs.encode())
        self.successResultOf(kept.keep(self.document, begin=True))

    def test_written_already(self) -> None:
        """What somebody else has written is known by what it says."""
        kept = self.kept()
        self.assertIs(None, kept.says_already(tomllib.loads(TEXT)))
        theirs = '# theirs\nnodes = { a = { uri = "memory:?size=2M" } }\n'
        self.path.write_text(theirs)
        self.assertEqual(theirs.encode(), kept.says_already(self.document))
        self.path.write_bytes(b"\xff")
        self.assertIs(None, kept.says_already(self.document))

    def test_gone(self) -> None:
        """A file that is not there any more is not made again."""
        kept = self.kept()
        self.path.unlink()
        error = self.failureResultOf(kept.keep(self.document, begin=True), ConfigurationError).value
        self.assertIn("No such file", error.message)
        self.assertEqual([], os.listdir(self.directory))

    def test_link(self) -> None:
        """A symbolic link stays one."""
        link = self.directory / "link.toml"
        link.symlink_to("dst.toml")
        self.successResultOf(self.kept(link).keep(self.document, begin=True))
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.document, tomllib.loads(self.path.read_text()))

    def test_killed_before(self) -> None:
        """What a daemon that was killed has left behind is in nobody's way, and nobody else's file is followed."""
        victim = self.directory / "victim"
        victim.write_text("precious")
        (self.directory / "dst.toml.new").symlink_to(victim)
        self.successResultOf(self.kept().keep(self.document, begin=True))
        self.assertEqual("precious", victim.read_text())
        self.assertEqual(self.document, tomllib.loads(self.path.read_text()))

    def test_not_ours(self) -> None:
        """Why it cannot be written is known before somebody tries."""
        if os.geteuid() == 0:
            raise SkipTest("root may write everything")
        kept = self.kept()
        self.assertEqual("", kept.why_not())
        self.path.chmod(0o400)
        self.assertIn("cannot be written by this daemon", kept.why_not())
        self.path.chmod(0o600)
        self.directory.chmod(0o500)
        self.addCleanup(self.directory.chmod, 0o700)
        self.assertIn("the directory of", kept.why_not())

    def test_owner(self) -> None:
        """A file of another user stays theirs, where the daemon may give it to them."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        os.chown(self.path, 12, 34)
        self.successResultOf(self.kept().keep(self.document, begin=True))
        for path in self.directory.iterdir():
            self.assertEqual((12, 34), (path.stat().st_uid, path.stat().st_gid))


class NowhereTests(SynchronousTestCase):
    """What is kept in no file."""

    def test_nothing(self) -> None:
        """It may be changed, and a restart does not have it; or it may not, and why is said."""
        self.assertEqual((None, ""), (KeptNowhere().path, KeptNowhere().why_not()))
        self.successResultOf(KeptNowhere().keep({}, begin=True))
        self.assertEqual("a script", KeptNowhere("a script", "x.py").why_not())
