"""
The small files of a simulated host: what a daemon keeps in its state directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred

from dst.cluster.state_dir import StateDir
from dst.errors import AlreadyInUse

if TYPE_CHECKING:
    from collections.abc import Callable

    from dst.simulation.world import Process

__all__ = ["HostFiles", "HostStateDir"]

_T = TypeVar("_T")

_FILE_S = (0.0002, 0.004)
"""What it takes to replace a small file durably."""


class HostFiles:
    """
    The files in one directory of a host.  They survive kill and power loss; a change that is under way then has taken
    place, or not.
    """

    def __init__(self, process: Process, directory: str) -> None:
        self._process = process
        self._directory = directory
        self._files = process.host.files
        self._under_way: dict[int, Callable[[], object]] = {}
        self._count = 0
        process.disks[self] = None

    def load(self, name: str) -> Deferred[bytes | None]:
        """What was stored last, C{None} if nothing."""
        return self._do(lambda: self._files.get(f"{self._directory}/{name}"))

    def store(self, name: str, data: bytes) -> Deferred[None]:
        """Replace it as a whole; durable when this fires."""

        def replace() -> None:
            self._files[f"{self._directory}/{name}"] = bytes(data)

        return self._do(replace)

    def delete(self, name: str) -> Deferred[None]:
        """It is there no more."""

        def remove() -> None:
            self._files.pop(f"{self._directory}/{name}", None)

        return self._do(remove)

    def died(self) -> None:
        """The process was killed."""
        for change in self._under_way.values():
            if self._process.random.random() < 0.5:
                change()
        self._under_way.clear()

    def _do(self, work: Callable[[], _T]) -> Deferred[_T]:
        done: Deferred[_T] = Deferred()
        self._count += 1
        number = self._count
        self._under_way[number] = work

        def now() -> None:
            del self._under_way[number]
            done.callback(work())

        process = self._process
        process.later(process.random.uniform(*_FILE_S), now)
        return done


class HostStateDir(StateDir):
    """A state directory in a host's files; one process has it at a time."""

    def __init__(self, process: Process, path: str) -> None:
        self.path = path
        self._process = process
        self._held = False

    def lock(self) -> None:
        """See L{StateDir.lock}."""
        locks = self._process.host.locks
        holder = locks.get(self.path)
        if holder is not None and holder.alive:
            raise AlreadyInUse(f"the state directory {self.path} is in use by {holder.name}")
        locks[self.path] = self._process
        self._held = True

    def unlock(self) -> None:
        """See L{StateDir.unlock}."""
        if self._held:
            self._held = False
            self._process.host.locks.pop(self.path, None)

    def create_storage_dir(self, name: str) -> None:
        """There is nothing to create."""
