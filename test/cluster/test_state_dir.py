"""Tests of L{dst.cluster.state_dir}."""

from __future__ import annotations

import os
import stat

from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.state_dir import StateDir
from dst.errors import AlreadyInUse, ConfigurationError


class StateDirTests(SynchronousTestCase):
    """The daemon's own directory."""

    def test_created_for_the_owner_only(self) -> None:
        """A missing directory is created, with mode 0700, and so is that of a storage."""
        path = os.path.join(self.mktemp(), "deep", "state")
        state = StateDir(path)
        state.lock()
        state.create_storage_dir("vol")
        self.addCleanup(state.unlock)
        for each in (path, state.storage_dir("vol")):
            self.assertEqual(0o700, stat.S_IMODE(os.stat(each).st_mode))
        self.assertEqual(os.path.join(os.path.abspath(path), "storages", "vol"), state.storage_dir("vol"))

    def test_one_daemon_at_a_time(self) -> None:
        """A second daemon is refused, with who has it; after the first is gone it may have it."""
        path = self.mktemp()
        first, second = StateDir(path), StateDir(path)
        first.lock()
        error = self.assertRaises(AlreadyInUse, second.lock)
        self.assertIn(f"in use by another daemon (process {os.getpid()})", error.message)
        first.unlock()
        second.lock()
        second.unlock()

    def test_unlock_without_lock(self) -> None:
        """There may be nothing to give back."""
        StateDir(self.mktemp()).unlock()

    def test_something_else_is_there(self) -> None:
        """A file of that name is named as the reason."""
        path = self.mktemp()
        with open(path, "w"):
            pass
        error = self.assertRaises(ConfigurationError, StateDir(path).lock)
        self.assertIn(f"the state directory {os.path.abspath(path)} cannot be used (", error.message)

    def test_no_room_for_a_storage(self) -> None:
        """A storage's directory that cannot be created is an error of the configuration too."""
        state = StateDir(self.mktemp())
        state.lock()
        self.addCleanup(state.unlock)
        with open(os.path.join(state.path, "storages"), "w"):
            pass
        self.assertRaises(ConfigurationError, state.create_storage_dir, "vol")
