"""
The record as the owner itself keeps it: with it, one surviving copy is enough to start from, because the
owner knows which members its last stable record named.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed

from dst.errors import BadMedia
from dst.label.format import Label, decode_slot, encode_slot
from dst.label.upgrading import FormatTooNew
from dst.recovery.state_files import DirectoryFiles, IStateFiles

__all__ = ["OWNER_BYTES", "IRecordStore", "NoRecordStore", "RecordStore"]

OWNER_BYTES = 16

_OWNER = "owner"


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


class RecordStore:
    """
    The label, and who the owner is, in two state files.
    """

    def __init__(
        self, files: IStateFiles, name: str = "record", *, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        """
        @param name: of the file with the label.
        @param entropy: what the owner's identity is made of, once.
        """
        self._files = files
        self._name = name
        self._entropy = entropy

    def load(self) -> Deferred[Label | None]:
        """See L{IRecordStore.load}."""
        return self._files.load(self._name).addCallback(self._decode)

    def _decode(self, kept: bytes | None) -> Label | None:
        if kept is None:
            return None
        try:
            label = decode_slot(kept)
        except FormatTooNew as error:
            raise FormatTooNew(f"{self._path(self._name)}: {error.message}") from error
        except BadMedia as error:
            raise self._damaged(self._name, error.message) from error
        if label is None:
            raise self._damaged(self._name, "it is not a storage's record")
        return label

    def store(self, label: Label) -> Deferred[None]:
        """See L{IRecordStore.store}."""
        return self._files.store(self._name, encode_slot(label))

    def owner(self) -> Deferred[bytes | None]:
        """See L{IRecordStore.owner}."""
        return Deferred.fromCoroutine(self._owner())

    async def _owner(self) -> bytes:
        kept = await self._files.load(_OWNER)
        if kept is None:
            kept = self._entropy(OWNER_BYTES)
            await self._files.store(_OWNER, kept)
        if len(kept) != OWNER_BYTES:
            raise self._damaged(_OWNER, f"it has {len(kept)} bytes instead of {OWNER_BYTES}")
        return kept

    def _damaged(self, name: str, why: str) -> BadMedia:
        return BadMedia(f"{self._path(name)} is damaged: {why}; if every member is present the file may be deleted")

    def _path(self, name: str) -> str:
        return self._files.path(name) if isinstance(self._files, DirectoryFiles) else name
