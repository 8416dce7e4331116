"""
The daemon's own directory: what must survive a restart and is on no node.

Two daemons that share one would undo each other's records, so it is locked while it is in use.
"""

from __future__ import annotations

import fcntl
import os

from dst.errors import AlreadyInUse, ConfigurationError

__all__ = ["StateDir"]


class StateDir:
    """
    A directory of mode 0700 that one process has at a time.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._lock: int | None = None

    def lock(self) -> None:
        """
        Create the directory if it is missing, and take it.

        @raise ConfigurationError: it cannot be used.
        @raise AlreadyInUse: another process has it.
        """
        assert self._lock is None
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            lock = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            if isinstance(error, BlockingIOError):
                who = f" (process {holder})" if holder else ""
                raise AlreadyInUse(
                    f"the state directory {self.path} is in use by another daemon{who}; "
                    "stop that one, or give this one a state_dir of its own"
                ) from None
            raise self._unusable(error) from None
        self._lock = lock
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            self.unlock()
            raise self._unusable(error) from None

    def unlock(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def storage_dir(self, name: str) -> str:
        """The directory of the storage C{name}, which may not exist yet."""
        return os.path.join(self.path, "storages", name)

    @property
    def fences_dir(self) -> str:
        """The directory of what devices have promised, which may not exist yet."""
        return os.path.join(self.path, "fences")

    def create_storage_dir(self, name: str) -> None:
        """
        Make sure that L{storage_dir} is there.

        @raise ConfigurationError: it cannot be created.
        """
        try:
            os.makedirs(self.storage_dir(name), mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"the state directory {self.path} cannot be used ({error.strerror}); "
            "create it for the user that runs the daemon, or change state_dir"
        )
