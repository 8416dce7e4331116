"""
The record as the owner itself keeps it: with it, one surviving copy is enough to start from, because the
owner knows which members its last stable record named.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed

from dst.errors import BadMedia, ConfigurationError, MediaError, NoSpace
from dst.label.format import Label, decode_slot, encode_slot

__all__ = ["FileRecordStore", "IRecordStore", "NoRecordStore", "RunInThread"]

_T = TypeVar("_T")


class RunInThread(Protocol):
    """Runs a callable that may block, off the reactor's thread; fires with what it returns."""

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]: ...


class IRecordStore(Protocol):
    """Where an owner keeps the label of its storage."""

    def load(self) -> Deferred[Label | None]:
        """The label kept last; C{None} when there never was one. Fails with C{BadMedia} when it is damaged."""

    def store(self, label: Label) -> Deferred[None]:
        """Keep C{label}; when this fires it is stable, and at every moment before the one before it was."""

    def owner(self) -> Deferred[bytes | None]:
        """
        16 bytes, the same for as long as this store is not lost: who its owner is to the storage; C{None}
        where nothing is kept.
        """


class NoRecordStore:
    """Nothing is kept: a storage without a state directory needs every member to start."""

    def load(self) -> Deferred[Label | None]:
        """See L{IRecordStore.load}."""
        return succeed(None)

    def store(self, label: Label) -> Deferred[None]:
        """See L{IRecordStore.store}."""
        return succeed(None)

    def owner(self) -> Deferred[bytes | None]:
        """See L{IRecordStore.owner}."""
        return succeed(None)


class FileRecordStore:
    """
    The label in a file, replaced as a whole.
    """

    def __init__(self, path: str, run_in_thread: RunInThread) -> None:
        self.path = path
        self._run = run_in_thread

    def load(self) -> Deferred[Label | None]:
        """See L{IRecordStore.load}."""
        return self._run(self._load)

    def _load(self) -> Label | None:
        try:
            with open(self.path, "rb") as file:
                kept = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"the storage's record {self.path} cannot be read: {error.strerror}") from error
        try:
            label = decode_slot(kept)
        except BadMedia as error:
            raise BadMedia(
                f"{self.path}: {error.message}; if every member is present the file may be deleted"
            ) from error
        if label is None:
            raise BadMedia(f"{self.path} is not a storage's record; if every member is present it may be deleted")
        return label

    def store(self, label: Label) -> Deferred[None]:
        """See L{IRecordStore.store}."""
        slot = encode_slot(label)
        return self._run(lambda: self._store(slot))

    def owner(self) -> Deferred[bytes | None]:
        """See L{IRecordStore.owner}."""
        return self._run(self._owner)

    def _owner(self) -> bytes:
        path = os.path.join(os.path.dirname(self.path), "owner")
        try:
            with open(path, "rb") as file:
                kept = file.read()
        except FileNotFoundError:
            kept = os.urandom(16)
            self._replace(kept, path)
        except OSError as error:
            raise ConfigurationError(f"the owner's identity {path} cannot be read: {error.strerror}") from error
        if len(kept) != 16:
            raise BadMedia(
                f"{path} is damaged: it has {len(kept)} bytes instead of 16; if every member is present it may be deleted"
            )
        return kept

    def _store(self, slot: bytes) -> None:
        try:
            self._replace(slot, self.path)
        except OSError as error:
            kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else MediaError
            raise kind(f"the storage's record {self.path} cannot be written: {error.strerror}") from error

    def _replace(self, slot: bytes, path: str) -> None:
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        temporary = path + ".new"
        with open(temporary, "wb") as file:
            file.write(slot)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
