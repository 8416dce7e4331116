"""
Media as disks really are: a volatile cache over what is stable, and power that can go.

A write lands in the cache and is read back from there at once.  It is stable
only after a flush, or when the cache ran full and wrote it back.  At a power
cut each unflushed write is kept, lost, or torn between sectors, in any
combination, so that a later write may survive while an earlier one is lost;
sectors themselves are atomic.  L{SimulatedMedia} outlives the node on top of it, as
a disk outlives a process.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen

__all__ = ["SECTOR_BYTES", "UNFLUSHED_BYTES_MAX", "CachedWrite", "Keep", "SimulatedMedia", "SparseBytes"]

SECTOR_BYTES = 512
"""What a disk writes wholly or not at all."""

UNFLUSHED_BYTES_MAX = 64 << 20
"""The cache of the disk: above this the oldest writes become stable by themselves."""

PAGE_BYTES = 16 * 1024


class SparseBytes:
    """Bytes at any offset; what was never written is zero and takes no memory."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def read(self, offset: int, length: int) -> bytes:
        """C{length} bytes."""
        data = bytearray(length)
        at = 0
        while at < length:
            index, start = divmod(offset + at, PAGE_BYTES)
            step = min(PAGE_BYTES - start, length - at)
            page = self._pages.get(index)
            if page is not None:
                data[at : at + step] = page[start : start + step]
            at += step
        return bytes(data)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put C{data} there."""
        at = 0
        while at < len(data):
            index, start = divmod(offset + at, PAGE_BYTES)
            step = min(PAGE_BYTES - start, len(data) - at)
            page = self._pages.get(index)
            if page is None:
                page = self._pages[index] = bytearray(PAGE_BYTES)
            page[start : start + step] = data[at : at + step]
            at += step

    def zero(self, offset: int, length: int) -> None:
        """Make it zeroes, and forget whole pages."""
        end = offset + length
        first, last = offset // PAGE_BYTES, (end - 1) // PAGE_BYTES
        if last - first < len(self._pages):
            indices = [index for index in range(first, last + 1) if index in self._pages]
        else:
            indices = [index for index in self._pages if first <= index <= last]
        for index in indices:
            start, stop = max(offset, index * PAGE_BYTES), min(end, (index + 1) * PAGE_BYTES)
            if stop - start == PAGE_BYTES:
                del self._pages[index]
            else:
                base = index * PAGE_BYTES
                self._pages[index][start - base : stop - base] = bytes(stop - start)

    def copy(self) -> SparseBytes:
        """The same bytes, once more."""
        twin = SparseBytes()
        twin._pages = {index: bytearray(page) for index, page in self._pages.items()}
        return twin

    def holes(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """C{(length, is a hole)} of the parts of an extent, in order."""
        parts: list[tuple[int, bool]] = []
        end = offset + length
        while offset < end:
            index = offset // PAGE_BYTES
            step = min(end, (index + 1) * PAGE_BYTES) - offset
            hole = index not in self._pages
            if parts and parts[-1][1] == hole:
                parts[-1] = (parts[-1][0] + step, hole)
            else:
                parts.append((step, hole))
            offset += step
        return parts


@frozen
class CachedWrite:
    """
    A change that is in the cache.

    @ivar data: C{None} for zeroes.
    @ivar forced: written with C{fua}: it is stable, and stands here only for its place in the order.
    """

    offset: int
    length: int
    data: bytes | None
    forced: bool = False


Keep: TypeAlias = str | Callable[[CachedWrite], bool]
"""
What survives a power cut: C{"all"}, C{"none"}, C{"random"} (each write wholly, not, or torn) or a function that
is asked for each write, in order.
"""


class SimulatedMedia:
    """
    A disk's platter and cache.

    @ivar size: bytes.
    @ivar incarnation: changes with everything that may have lost unflushed writes.
    @ivar ignores_flushes: flushes and C{fua} are acknowledged and do nothing, as some disks do.
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self.size = size
        self.randomness = random.Random(seed)
        self.incarnation = self.randomness.randbytes(16)
        self.ignores_flushes = False
        self._current = SparseBytes()
        self._stable = SparseBytes()
        self._cache: deque[CachedWrite] = deque()
        self._cache_bytes = 0

    @property
    def unflushed(self) -> list[CachedWrite]:
        """What a power cut could take, oldest first."""
        return [write for write in self._cache if not write.forced]

    def read(self, offset: int, length: int) -> bytes:
        """What was written last, stable or not."""
        return self._current.read(offset, length)

    def read_stable(self, offset: int, length: int) -> bytes:
        """What would be there if the power were cut now and the whole cache lost."""
        stable = self._stable.copy()
        for write in self._cache:
            if write.forced:
                _apply(stable, write)
        return stable.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False) -> None:
        """Put data into the cache, or through it."""
        self._put(CachedWrite(offset, len(data), bytes(data), fua and not self.ignores_flushes))

    def zero(self, offset: int, length: int, *, fua: bool = False) -> None:
        """The same with zeroes."""
        self._put(CachedWrite(offset, length, None, fua and not self.ignores_flushes))

    def holes(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """See L{SparseBytes.holes}."""
        return self._current.holes(offset, length)

    def flush(self) -> None:
        """All that is in the cache becomes stable."""
        if not self.ignores_flushes:
            self._write_back(0)

    def lose_unflushed(self, keep: Keep = "random") -> None:
        """The cache is gone, but for what C{keep} says; another incarnation begins."""
        for write in self._cache:
            for survivor in self._survivors(write, keep):
                _apply(self._stable, survivor)
        self._cache.clear()
        self._cache_bytes = 0
        self._current = self._stable.copy()
        self.incarnation = self.randomness.randbytes(16)

    def rot(self, offset: int, length: int = 1) -> None:
        """Flip a bit in each byte of the extent, as decaying media does: nothing tells."""
        for content in (self._current, self._stable):
            content.write(offset, bytes(byte ^ 1 for byte in content.read(offset, length)))

    def _put(self, write: CachedWrite) -> None:
        _apply(self._current, write)
        self._cache.append(write)
        self._cache_bytes += _cost(write)
        self._write_back(UNFLUSHED_BYTES_MAX)

    def _write_back(self, bytes_max: int) -> None:
        while self._cache and self._cache_bytes > bytes_max:
            write = self._cache.popleft()
            self._cache_bytes -= _cost(write)
            _apply(self._stable, write)

    def _survivors(self, write: CachedWrite, keep: Keep) -> list[CachedWrite]:
        """The parts of one write that are still there."""
        if write.forced or keep == "all":
            return [write]
        if keep == "none":
            return []
        if callable(keep):
            return [write] if keep(write) else []
        assert keep == "random", keep
        fate = self.randomness.randrange(3)
        if fate < 2:
            return [write] if fate else []
        return [part for part in _sectors(write) if self.randomness.random() < 0.5]


def _apply(content: SparseBytes, write: CachedWrite) -> None:
    if write.data is None:
        content.zero(write.offset, write.length)
    else:
        content.write(write.offset, write.data)


def _cost(write: CachedWrite) -> int:
    """What a write takes in the cache; never nothing, so that many empty ones are bounded too."""
    return 64 + (0 if write.data is None else len(write.data))


def _sectors(write: CachedWrite) -> list[CachedWrite]:
    """
    One write as the writes of its sectors.  A long run of zeroes is cut more coarsely, into
    some thousand parts.
    """
    unit = SECTOR_BYTES
    if write.data is None:
        unit *= max(1, write.length // (1024 * SECTOR_BYTES))
    parts = []
    at = write.offset
    end = write.offset + write.length
    while at < end:
        step = min(end, at - at % unit + unit) - at
        start = at - write.offset
        data = None if write.data is None else write.data[start : start + step]
        parts.append(CachedWrite(at, step, data))
        at += step
    return parts
