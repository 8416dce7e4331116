"""
A block device in memory, for scripts, tests and scratch space.

It is sparse: only chunks that were written take memory, so that a 16 GiB
device of zeroes costs nothing.  Everything completes at once, in the caller's turn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dst.checksums import block_checksums, checksums_refusal
from dst.errors import ConfigurationError, DSTError, NoSpace
from dst.geometry import TRANSFER_BYTES_MAX, BlockStatus, Geometry, StatusExtent
from dst.interfaces import Buffer, IChecksums, IExclusive, INode, INodeProvider, IReadsNow, IWritesTogether
from dst.nodes.settings import Settings
from dst.observing import ObservableNode
from dst.status import LinkState
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["ALLOCATED_BYTES_MAX", "CHUNK_BYTES", "MemoryDevice", "MemoryNodeProvider"]

CHUNK_BYTES = 64 * 1024
"""The unit of allocation: a few scattered writes stay cheap, and the dictionary of chunks short."""

ALLOCATED_BYTES_MAX = 1 << 30
"""What one device may take unless told otherwise: the rest of the daemon must live on the same machine."""

STATUS_EXTENTS_MAX = 4096
"""The most extents one C{block_status} answers: the caller asks again from where it ends."""

_HOLE = BlockStatus.HOLE | BlockStatus.ZERO


@implementer(INode, IChecksums, IExclusive, IReadsNow, IWritesTogether)
class MemoryDevice(ObservableNode):
    """
    A node whose content lives as long as this object: C{close} and C{open} again lose nothing.

    An extent that would need more memory than the limit allows fails with L{NoSpace}, with nothing done.
    """

    kind = "memory"

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        size: int,
        *,
        block_size: int = 1,
        transfer_bytes_max: int = TRANSFER_BYTES_MAX,
        allocated_bytes_max: int = ALLOCATED_BYTES_MAX,
        read_only: bool = False,
        incarnation: bytes | None = None,
    ) -> None:
        """
        @param size: bytes; a multiple of C{block_size}.
        @param allocated_bytes_max: memory it may take.
        @param incarnation: C{None} for a random one.
        """
        super().__init__(clock, name)
        assert size % block_size == 0, (size, block_size)
        self._geometry = Geometry(
            size,
            block_size=block_size,
            preferred_block_size=max(block_size, 4096),
            transfer_bytes_max=transfer_bytes_max,
            read_only=read_only,
        )
        self._incarnation = os.urandom(16) if incarnation is None else incarnation
        self._chunks: dict[int, bytearray] = {}
        self._chunks_max = -(-allocated_bytes_max // CHUNK_BYTES)

    @property
    def allocated_bytes(self) -> int:
        """The memory that the content takes now."""
        return len(self._chunks) * CHUNK_BYTES

    def open(self) -> Deferred[None]:
        self.changed(LinkState.READY, "", geometry=self._geometry, incarnation=self._incarnation)
        return succeed(None)

    def close(self) -> Deferred[None]:
        self.changed(LinkState.CLOSED, "it was closed")
        return succeed(None)

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        if self.link is not LinkState.READY:
            return fail(self.unavailable())
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        return succeed(self._read(offset, length))

    def read_now(self, offset: int, length: int) -> Buffer | None:
        return self._read(offset, length) if self.link is LinkState.READY else None

    def _read(self, offset: int, length: int) -> Buffer:
        index, start = divmod(offset, CHUNK_BYTES)
        if start + length <= CHUNK_BYTES:
            chunk = self._chunks.get(index)
            return bytes(length) if chunk is None else chunk[start : start + length]
        data = bytearray(length)
        at = 0
        while at < length:
            step = min(CHUNK_BYTES - start, length - at)
            chunk = self._chunks.get(index)
            if chunk is not None:
                data[at : at + step] = memoryview(chunk)[start : start + step]
            at += step
            index += 1
            start = 0
        return data

    def checksums(self, offset: int, length: int, block_bytes: int) -> Deferred[bytes]:
        refusal = checksums_refusal(length, block_bytes)
        if refusal is not None:
            return fail(refusal)
        return self.read(offset, length).addCallback(block_checksums, block_bytes)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        length = len(data)
        refusal = self._refusal(offset, length, transfer=True, change=True)
        if refusal is None:
            refusal = self._write(offset, data)
        return succeed(None) if refusal is None else fail(refusal)

    def write_together(self, writes: Sequence[tuple[int, Buffer]]) -> Deferred[Sequence[DSTError | None] | None]:
        if self.link is not LinkState.READY:
            return succeed([self.unavailable() for _ in writes])
        errors = [self._write(offset, data) for offset, data in writes]
        return succeed(errors if any(errors) else None)

    def _write(self, offset: int, data: Buffer) -> NoSpace | None:
        length = len(data)
        try:
            self._allocate(offset, length)
        except NoSpace as error:
            return error
        index, start = divmod(offset, CHUNK_BYTES)
        if start + length <= CHUNK_BYTES:
            self._chunks[index][start : start + length] = data
            return None
        view = memoryview(data)
        at = 0
        while at < length:
            step = min(CHUNK_BYTES - start, length - at)
            self._chunks[index][start : start + step] = view[at : at + step]
            at += step
            index += 1
            start = 0
        return None

    def flush(self) -> Deferred[None]:
        return succeed(None) if self.link is LinkState.READY else fail(self.unavailable())

    def trim(self, offset: int, length: int) -> Deferred[None]:
        refusal = self._refusal(offset, length, change=True)
        if refusal is not None:
            return fail(refusal)
        for index in self._touched(offset, length):
            start, end = self._part(index, offset, length)
            if end - start == CHUNK_BYTES:
                del self._chunks[index]
            else:
                self._chunks[index][start:end] = bytes(end - start)
        return succeed(None)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        if not no_hole:
            return self.trim(offset, length)
        refusal = self._refusal(offset, length, change=True)
        if refusal is not None:
            return fail(refusal)
        try:
            self._allocate(offset, length)
        except NoSpace as error:
            return fail(error)
        for index in self._touched(offset, length):
            start, end = self._part(index, offset, length)
            self._chunks[index][start:end] = bytes(end - start)
        return succeed(None)

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        if self.link is not LinkState.READY:
            return fail(self.unavailable())
        try:
            self.geometry.check_extent(offset, length)
        except DSTError as error:
            return fail(error)
        extents: list[StatusExtent] = []
        end = offset + length
        data_from = data_to = offset  # the run of chunks that are next to each other
        for index in [*self._touched(offset, length), None]:
            begin = end if index is None else max(offset, index * CHUNK_BYTES)
            if begin > data_to or index is None:
                if data_to > data_from:
                    extents.append(StatusExtent(data_to - data_from, BlockStatus.DATA))
                if begin > data_to:
                    extents.append(StatusExtent(begin - data_to, _HOLE))
                data_from = begin
                if len(extents) >= STATUS_EXTENTS_MAX:
                    break
            data_to = begin if index is None else min(end, (index + 1) * CHUNK_BYTES)
        return succeed(extents)

    def _allocate(self, offset: int, length: int) -> None:
        """Give every chunk of the extent memory, or raise L{NoSpace} before any has it."""
        chunks = self._chunks
        first, last = offset // CHUNK_BYTES, (offset + length - 1) // CHUNK_BYTES
        if first == last and first in chunks:
            return
        wanted = last - first + 1
        if len(chunks) + wanted > self._chunks_max:
            wanted -= len(self._touched(offset, length))
            if len(chunks) + wanted > self._chunks_max:
                limit = self._chunks_max * CHUNK_BYTES
                raise NoSpace(
                    f"{self.name} may take {limit} bytes of memory and has none left; trim or raise its limit"
                )
        for index in range(first, last + 1):
            if index not in chunks:
                chunks[index] = bytearray(CHUNK_BYTES)

    def _touched(self, offset: int, length: int) -> list[int]:
        """The chunks of the extent that have memory, in order; costs the smaller of extent and content."""
        first, last = offset // CHUNK_BYTES, (offset + length - 1) // CHUNK_BYTES
        if last - first < len(self._chunks):
            return [index for index in range(first, last + 1) if index in self._chunks]
        return sorted(index for index in self._chunks if first <= index <= last)

    @staticmethod
    def _part(index: int, offset: int, length: int) -> tuple[int, int]:
        """What of chunk C{index} the extent covers, from the chunk's start."""
        base = index * CHUNK_BYTES
        return max(0, offset - base), min(CHUNK_BYTES, offset + length - base)


@implementer(INodeProvider)
class MemoryNodeProvider:
    """C{memory:?size=64M&allocated_max=1G&read_only=false}; what it holds is gone with the process."""

    scheme = "memory"

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> MemoryDevice:
        settings = Settings(name, uri, options)
        if settings.path:
            raise ConfigurationError(
                f"node {name!r}: {uri} has the path {settings.path!r}; expected memory:?size=64M"
            )
        size = settings.take_size("size")
        allocated_bytes_max = settings.take_size("allocated_max", ALLOCATED_BYTES_MAX)
        read_only = settings.take_bool("read_only")
        settings.finish()
        if size is None:
            raise ConfigurationError(f"node {name!r}: {uri} has no size; expected memory:?size=64M")
        assert allocated_bytes_max is not None
        return MemoryDevice(
            reactor,
            name,
            size,
            allocated_bytes_max=allocated_bytes_max,
            read_only=read_only,
            incarnation=surroundings_of(reactor).entropy(16),
        )
