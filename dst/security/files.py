"""
Files that hold keys: who may read them, and how they are replaced.

A key that others can read is no key any more, so it is refused, not repaired: whoever
could read it may have done so.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from dst.errors import ConfigurationError

__all__ = ["FILE_BYTES_MAX", "directory_made", "locked", "read", "read_private", "write"]

FILE_BYTES_MAX = 1024 * 1024
"""A revocation list of ten thousand certificates has half of it; nothing here is larger."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def directory_made(path: str, *, shared: bool = True) -> None:
    """
    C{path} is a directory that only its owner can look into; it is made if there is none.

    @param shared: it belongs to the owner of what is above it: what root makes below a daemon's directory is for the
        user that runs the daemon.  Else it belongs to whoever makes it.
    @raise ConfigurationError: it cannot be, or others can look into the one that there is.
    """
    try:
        if not os.path.isdir(path):
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            os.mkdir(path, mode=0o700)
            if shared:
                _give_directory(path)
    except OSError as error:
        raise ConfigurationError(f"the directory {path} cannot be made: {error.strerror}") from None
    refuse_open_directory(path)


def refuse_open_directory(path: str) -> None:
    """
    @raise ConfigurationError: others can write into the directory, or it is none.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigurationError(
            f"the security directory {path} cannot be used: {error.strerror}; `dst ca init` or `dst join` makes one"
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{path} is no directory; name the one with this.key in it")
    if status.st_mode & _OTHERS:
        raise ConfigurationError(
            f"the security directory {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"`chmod 700 {path}`, and make new keys if anybody else was on this machine"
        )


def read(path: str) -> bytes:
    """
    The content of a file that is no secret.

    @raise FileNotFoundError: there is none.
    @raise ConfigurationError: it cannot be read.
    """
    try:
        with open(path, "rb") as source:
            data = source.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{path} has more than {FILE_BYTES_MAX} bytes; that is not what it should be")
    return data


def read_private(path: str) -> bytes:
    """
    The content of a file that only its owner can read.

    @raise FileNotFoundError: there is none.
    @raise ConfigurationError: others can read it, too, or it cannot be read at all.
    """
    try:
        with open(path, "rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            if mode & _OTHERS:
                raise ConfigurationError(
                    f"the key {path} is open to others (mode {stat.S_IMODE(mode):04o}); "
                    f"`chmod 600 {path}`, and make a new one if anybody else was on this machine"
                )
            data = source.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"the key {path} cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{path} has more than {FILE_BYTES_MAX} bytes; that is no key")
    return data


def write(path: str, data: bytes, *, private: bool = False) -> None:
    """
    C{path} has C{data} and nothing else, or what it had before, whatever happens meanwhile.

    @param private: only its owner can read it, from the first moment on.
    @raise ConfigurationError: it cannot be written.
    """
    beside = f"{path}.{os.getpid()}.new"
    try:
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600 if private else 0o644
        )
        try:
            with os.fdopen(descriptor, "wb") as target:
                os.fchmod(target.fileno(), 0o600 if private else 0o644)
                _give_to_owner_of(os.path.dirname(path) or ".", target.fileno())
                target.write(data)
                target.flush()
                os.fsync(target.fileno())
            os.rename(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
        above = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """
    Nobody else changes what is in C{directory} meanwhile; whoever tries, waits.

    It is held for as long as it takes to sign something and write a few files.
    """
    try:
        lock = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _give_directory(path: str) -> None:
    """
    As L{_give_to_owner_of}, and no other than the directory that was just made: who owns what is above may have put
    something else at its place meanwhile, and must not be given that.
    """
    made = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.listdir(made):
            raise ConfigurationError(f"{path} was changed by somebody else while it was made; look who that is")
        _give_to_owner_of(os.path.dirname(os.path.abspath(path)), made)
    finally:
        os.close(made)


def _give_to_owner_of(above: str, made: int) -> None:
    """As root: what was made belongs to whom the directory belongs."""
    if os.geteuid() == 0:
        owner = os.stat(above)
        os.chown(made, owner.st_uid, owner.st_gid)
