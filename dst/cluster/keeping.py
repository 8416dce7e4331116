"""
Where the configuration of a daemon is kept: its TOML file, or nowhere.

A file belongs to a person, who may have it open in an editor.  So it is only ever changed when it is still what was
read from it last; it is replaced as a whole, so that a crash at any step leaves the old one or the new one; its owner
and mode stay; and what it was before a change is beside it, in C{FILE.before}.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tomllib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool

from dst.cluster.config import FILE_BYTES_MAX, LoadedTopology
from dst.cluster.document import Document
from dst.cluster.toml_editing import edited_toml, same_values
from dst.errors import ConfigurationError, Conflict, DSTError, MediaError, NoSpace

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

__all__ = ["ConfigurationFile", "IKeptConfiguration", "KeptNowhere", "RunInThread", "in_threads_of"]

_T = TypeVar("_T")


class RunInThread(Protocol):
    """Runs a callable that may block, off the reactor's thread; fires with what it returns."""

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]: ...


class IKeptConfiguration(Protocol):
    """
    Where a configuration is kept.

    @ivar path: the file, for people; C{None} if it is nowhere.
    """

    @property
    def path(self) -> str | None: ...

    def why_not(self) -> str:
        """Why nothing can be kept there, or C{""}."""

    def keep(self, document: Document, *, begin: bool) -> Deferred[None]:
        """
        Keep C{document} from now on.  When this fires it is durable.

        @param begin: it is the first of one change: what is there now is put beside it.

        Fails with C{Conflict} if somebody else has changed what is kept, and with C{NoSpace}, C{MediaError} or
        C{ConfigurationError}; then what was kept before is still there, or C{document} is.
        """


class KeptNowhere:
    """
    A restart does not have it.
    """

    path: str | None = None

    def __init__(self, why_not: str = "", path: str | None = None) -> None:
        """
        @param why_not: why it cannot be changed at all.
        @param path: what it came from.
        """
        self._why_not = why_not
        self.path = path

    def why_not(self) -> str:
        """See L{IKeptConfiguration.why_not}."""
        return self._why_not

    def keep(self, document: Document, *, begin: bool) -> Deferred[None]:
        """See L{IKeptConfiguration.keep}."""
        return succeed(None)


def in_threads_of(reactor: object) -> RunInThread:
    """Blocking work is done by the reactor's threads."""
    threads = cast("IReactorFromThreads", reactor)

    def run_in_thread(work: Callable[[], _T]) -> Deferred[_T]:
        return deferToThreadPool(threads, threads.getThreadPool(), work)  # type: ignore[attr-defined]

    return run_in_thread


class ConfigurationFile:
    """
    A TOML file.

    @ivar path: where it is; a symbolic link stays one, what it leads to is changed.
    """

    def __init__(self, loaded: LoadedTopology, run_in_thread: RunInThread) -> None:
        """
        @param loaded: what was read from it.
        """
        self.path: str | None = loaded.path
        self._real_path = os.path.realpath(loaded.path)
        self._data = loaded.data
        self._run = run_in_thread
        self._put_aside = False

    def accept(self, data: bytes) -> None:
        """It was read again, and what was found is what is wanted now."""
        self._data = data

    def says_already(self, document: Document) -> bytes | None:
        """What is in the file, if somebody else has changed it, and so that it says C{document}."""
        try:
            with open(self._real_path, "rb") as file:
                found = file.read(FILE_BYTES_MAX + 1)
            if found != self._data and same_values(tomllib.loads(found.decode("utf-8-sig")), document):
                return found
        except (OSError, ValueError, RecursionError):
            pass
        return None

    def why_not(self) -> str:
        """See L{IKeptConfiguration.why_not}."""
        path = self._real_path
        if not os.access(path, os.W_OK):
            return f"{self.path} cannot be written by this daemon: let its user write it, or change it there by hand"
        if not os.access(os.path.dirname(path), os.W_OK):
            return (
                f"the directory of {self.path} cannot be written by this daemon, which replaces the file as a whole: "
                "let its user write there, or change the file by hand and send SIGHUP"
            )
        return ""

    def keep(self, document: Document, *, begin: bool) -> Deferred[None]:
        """See L{IKeptConfiguration.keep}."""

        self._put_aside = self._put_aside or begin

        def kept(data: bytes) -> None:
            self._data = data

        return self._run(lambda: self._write(document)).addCallback(kept)

    def _write(self, document: Document) -> bytes:
        path, before = self._real_path, self._data
        try:
            with open(path, "rb") as file:
                found = file.read(FILE_BYTES_MAX + 1)
                mode = os.fstat(file.fileno())
            if found != before:
                raise Conflict(
                    f"{self.path} was changed by somebody else since this daemon has read it: send it SIGHUP "
                    "so that it reads the file again, and ask again"
                )
            text = before.decode("utf-8-sig")
            if same_values(tomllib.loads(text), document):
                return before
            data = edited_toml(text, document).encode()
            if len(data) > FILE_BYTES_MAX:
                raise ConfigurationError(f"{self.path} would have more than {FILE_BYTES_MAX} bytes")
            if self._put_aside:
                _replace(path + ".before", before, mode)
                self._put_aside = False
            _replace(path, data, mode)
        except DSTError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(f"{self.path} cannot be written: {error.strerror}") from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
                raise ConfigurationError(f"{self.path} cannot be written: {error.strerror}") from error
            raise MediaError(f"{self.path} cannot be written: {error.strerror}") from error
        return data


def _replace(path: str, data: bytes, like: os.stat_result) -> None:
    """C{data} under C{path}, with the owner and the mode of C{like}; durable when this returns."""
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a daemon that was killed in the middle of this
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        now = os.fstat(handle)
        if (now.st_uid, now.st_gid) != (like.st_uid, like.st_gid):
            with contextlib.suppress(PermissionError):  # an ordinary user's daemon owns what it writes
                os.fchown(handle, like.st_uid, like.st_gid)
        os.fchmod(handle, stat.S_IMODE(like.st_mode))
        file.write(data)
        file.flush()
        os.fsync(handle)
    os.replace(temporary, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
