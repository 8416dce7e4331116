"""
The small files in which a daemon keeps what must survive its own end: records, promises, identities.

Each is replaced as a whole. At every moment, through a crash or a power cut at any step, either what was
stored last is there or what was stored before it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool

from dst.errors import BadMedia, ConfigurationError, DSTError, MediaError, NoSpace
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads, IReactorTime

__all__ = [
    "CHANGES_AT_ONCE_MAX",
    "FILE_BYTES_MAX",
    "DirectoryFiles",
    "IStateFiles",
    "MemoryFiles",
    "RunInThread",
    "state_files",
]

FILE_BYTES_MAX = 64 * 1024
"""What is kept here is one label or less: whatever is larger was not written by DST."""

CHANGES_AT_ONCE_MAX = 4
"""
Files of one directory that are changed at once.  They share the flushes of the disk: a daemon of a thousand storages
keeps its promises in a fifth of the time.  And a disk that hangs takes no more threads than these.
"""

_T = TypeVar("_T")


class RunInThread(Protocol):
    """Runs a callable that may block, off the reactor's thread; fires with what it returns."""

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]: ...


class IStateFiles(Protocol):
    """
    Some files by their names. Names are plain: no slash in them, and not ending in C{.new}.
    """

    def load(self, name: str) -> Deferred[bytes | None]:
        """
        What was stored last; C{None} when nothing ever was.

        Fails with C{ConfigurationError} when there is something that cannot be read, C{BadMedia} when it is too
        large.
        """

    def store(self, name: str, data: bytes) -> Deferred[None]:
        """
        Replace what is there. When this fires it is durable.

        Fails with C{NoSpace} or C{MediaError}; then what was stored before is still there, or C{data} is.
        """

    def delete(self, name: str) -> Deferred[None]:
        """There is nothing under this name any more; when this fires that is durable."""


class DirectoryFiles:
    """
    Files in one directory, which is made when it is needed, for its owner only.
    """

    def __init__(self, directory: str, run_in_thread: RunInThread) -> None:
        self.directory = directory
        self._run = run_in_thread
        self._turns: dict[str, DeferredLock] = {}  # of the files that are being changed
        self._room = DeferredSemaphore(CHANGES_AT_ONCE_MAX)

    def path(self, name: str) -> str:
        """Where the file is."""
        assert name and "/" not in name and not name.endswith(".new") and name not in (".", ".."), name
        return os.path.join(self.directory, name)

    def load(self, name: str) -> Deferred[bytes | None]:
        """See L{IStateFiles.load}."""
        path = self.path(name)
        return self._run(lambda: _load(path))

    def store(self, name: str, data: bytes) -> Deferred[None]:
        """See L{IStateFiles.store}."""
        assert len(data) <= FILE_BYTES_MAX
        path = self.path(name)
        return self._in_turn(name, lambda: _writing(path, lambda: _replace(path, data)))

    def delete(self, name: str) -> Deferred[None]:
        """See L{IStateFiles.delete}."""
        path = self.path(name)
        return self._in_turn(name, lambda: _writing(path, lambda: _delete(path)))

    def _in_turn(self, name: str, work: Callable[[], None]) -> Deferred[None]:
        """
        Changes of one file one after the other, as they were asked for: threads keep no order, and what was stored
        last must be what is there, also where nobody waited for what was stored before.
        """
        turn = self._turns.setdefault(name, DeferredLock())

        def ended(result: _T) -> _T:
            if not turn.locked and self._turns.get(name) is turn:
                del self._turns[name]
            return result

        done: Deferred[None] = turn.run(self._room.run, self._run, work)
        return done.addBoth(ended)


class MemoryFiles:
    """
    Files that are kept as long as this object is: for tests.

    @ivar files: what is there, by name.
    @ivar broken: what every operation fails with, if anything.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: DSTError | None = None

    def load(self, name: str) -> Deferred[bytes | None]:
        """See L{IStateFiles.load}."""
        return self._done(lambda: self.files.get(name))

    def store(self, name: str, data: bytes) -> Deferred[None]:
        """See L{IStateFiles.store}."""
        return self._done(lambda: self.files.__setitem__(name, bytes(data)))

    def delete(self, name: str) -> Deferred[None]:
        """See L{IStateFiles.delete}."""

        def forget() -> None:
            self.files.pop(name, None)

        return self._done(forget)

    def _done(self, work: Callable[[], _T]) -> Deferred[_T]:
        done: Deferred[_T] = Deferred()
        if self.broken is not None:
            done.errback(self.broken)
        else:
            done.callback(work())
        return done


def state_files(reactor: IReactorTime, directory: str) -> IStateFiles:
    """The files in C{directory}, in the world that C{reactor} lives in."""
    make = cast("Callable[[str], IStateFiles] | None", surroundings_of(reactor).state_files)
    if make is not None:
        return make(directory)
    threads = cast("IReactorFromThreads", reactor)

    def run_in_thread(work: Callable[[], _T]) -> Deferred[_T]:
        return deferToThreadPool(threads, threads.getThreadPool(), work)  # type: ignore[attr-defined]

    return DirectoryFiles(directory, run_in_thread)


def _load(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            kept = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(kept) > FILE_BYTES_MAX:
        raise BadMedia(f"{path} is larger than {FILE_BYTES_MAX} bytes: it is not a file of a DST daemon")
    return kept


def _writing(path: str, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else MediaError
        raise kind(f"{path} cannot be written: {error.strerror}") from error


def _replace(path: str, data: bytes) -> None:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    temporary = path + ".new"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync(directory)


def _delete(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    _sync(os.path.dirname(path))


def _sync(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
