"""
A disk whose power goes when its daemon is killed: a file behind a volatile cache.

What is written stays in the memory of the process, sector by sector, until a flush; with C{SIGKILL} it is gone.  As
in a real disk some of it reaches the platter early, in no order, and a write of several sectors may be torn between
them.  A sector on the platter never goes back: what is written there is what the cache holds of it now.

The incarnation is another one at each opening, but after a close in order, which leaves a mark beside the file.

To die at a chosen point rather than at a chosen time: if there is a file C{PATH.die} with a number N in it, the
process kills itself at the Nth change of the platter from then on, which may be in the middle of a flush, of a label
or of a page of the region table.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from dst.errors import ConfigurationError, DSTError, MediaError
from dst.geometry import BlockStatus, Geometry, StatusExtent
from dst.interfaces import Buffer, IExclusive, INode, INodeProvider
from dst.nodes.settings import Settings
from dst.observing import ObservableNode
from dst.status import LinkState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["SECTOR_BYTES", "FragileNode", "FragileProvider"]

SECTOR_BYTES = 512
"""What a disk writes wholly or not at all."""

CACHED_SECTORS_MAX = 64 * 1024
"""32 MiB, twice the campaign's storages: above that everything is written back, as by a disk that has to."""

LEAKS_PER_WRITE = 0.15
"""How many of all writes are followed by some sectors going to the platter early."""

LEAKED_SECTORS_MAX = 12


@implementer(INode, IExclusive)
class FragileNode(ObservableNode):
    """
    See the module.
    """

    kind = "fragile"

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        path: str,
        size: int,
        *,
        randomness: Random,
        die: Callable[[], None] | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param size: of the file, which is made if it is missing.
        @param die: ends the process without anything more being done.
        """
        super().__init__(clock, name)
        self.path = path
        self._size = size
        self._random = randomness
        self._die = die or (lambda: os.kill(os.getpid(), signal.SIGKILL))
        self._entropy = entropy
        self._file = -1
        self._cache: dict[int, bytes] = {}
        self._recent: list[int] = []  # sectors written since the last flush, some of them perhaps leaked already
        self._changes_left: int | None = None

    # -- life

    def open(self) -> Deferred[None]:
        assert self._file < 0, f"{self.name} is open already"
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._file).st_size < self._size:
                os.ftruncate(self._file, self._size)
        except OSError as error:
            return fail(ConfigurationError(f"{self.path} cannot be used: {error.strerror}"))
        geometry = Geometry(self._size, preferred_block_size=4096)
        self.changed(LinkState.READY, "", geometry=geometry, incarnation=self._found_incarnation())
        return succeed(None)

    def _found_incarnation(self) -> bytes:
        """That of before, if it was closed in order."""
        mark = self.path + ".closed"
        try:
            with open(mark, "rb") as source:
                kept = source.read()
            os.unlink(mark)
        except FileNotFoundError:
            kept = b""
        return kept if len(kept) == 16 else self._entropy(16)

    def close(self) -> Deferred[None]:
        if self._file >= 0:
            self._write_back()
            with open(self.path + ".closed", "wb") as target:
                target.write(self.incarnation)
            os.close(self._file)
            self._file = -1
        self.changed(LinkState.CLOSED, "it was closed")
        return succeed(None)

    def power_cut(self) -> None:
        """What C{SIGKILL} does, for tests in one process: the cache is gone."""
        self._cache.clear()
        os.close(self._file)
        self._file = -1

    # -- operations

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        refusal = self._refusal(offset, length, transfer=True)
        if refusal is not None:
            return fail(refusal)
        start = offset - offset % SECTOR_BYTES
        end = -(-(offset + length) // SECTOR_BYTES) * SECTOR_BYTES
        data = self._sectors(start, end)
        if len(data) != end - start:
            return fail(MediaError(f"{self.path} has become too short"))
        return succeed(data if end - start == length else data[offset - start : offset - start + length])

    def _sectors(self, start: int, end: int) -> bytes | bytearray:
        """What whole sectors hold, in the cache or on the platter."""
        data = os.pread(self._file, end - start, start)
        cache = self._cache
        if not cache:
            return data
        first = start // SECTOR_BYTES
        found = [sector for sector in range(first, end // SECTOR_BYTES) if sector in cache]
        if not found:
            return data
        patched = bytearray(data)
        for sector in found:
            at = (sector - first) * SECTOR_BYTES
            patched[at : at + SECTOR_BYTES] = cache[sector]
        return patched

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        refusal = self._refusal(offset, len(data), transfer=True, change=True)
        if refusal is not None:
            return fail(refusal)
        self._put(offset, bytes(data), fua)
        return succeed(None)

    def flush(self) -> Deferred[None]:
        if self.link is not LinkState.READY:
            return fail(self.unavailable())
        self._look_for_death()
        self._write_back()
        return succeed(None)

    def trim(self, offset: int, length: int) -> Deferred[None]:
        return self.write_zeroes(offset, length)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        refusal: DSTError | None = self._refusal(offset, length, change=True)
        if refusal is not None:
            return fail(refusal)
        step = 1 << 20
        for at in range(offset, offset + length, step):
            self._put(at, bytes(min(step, offset + length - at)), fua)
        return succeed(None)

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        refusal = self._refusal(offset, length)
        if refusal is not None:
            return fail(refusal)
        # A new storage is made without being asked if it reads as zeroes: that much must be told quickly.
        first, last = offset // SECTOR_BYTES, -(-(offset + length) // SECTOR_BYTES)
        untouched = not any(first <= sector < last for sector in self._cache)
        try:
            data_at = os.lseek(self._file, offset, os.SEEK_DATA)
        except OSError:
            data_at = offset + length
        if untouched and data_at > offset:
            hole = min(data_at, offset + length) - offset
            return succeed([StatusExtent(hole, BlockStatus.HOLE | BlockStatus.ZERO)])
        return succeed([StatusExtent(length, BlockStatus.DATA)])

    # -- the cache and the platter

    def _put(self, offset: int, data: bytes, fua: bool) -> None:
        self._look_for_death()
        before, after = offset % SECTOR_BYTES, -(offset + len(data)) % SECTOR_BYTES
        if before or after:
            start, end = offset - before, offset + len(data) + after
            whole = bytearray(self._sectors(start, end))
            whole[before : before + len(data)] = data
            offset, data = start, bytes(whole)
        first = offset // SECTOR_BYTES
        cache = self._cache
        count = len(data) // SECTOR_BYTES
        if fua:
            for sector in range(first, first + count):
                cache.pop(sector, None)
            self._change_platter(offset, data)
            return
        for index in range(count):
            cache[first + index] = data[index * SECTOR_BYTES : (index + 1) * SECTOR_BYTES]
        self._recent.extend(range(first, first + count))
        if len(cache) > CACHED_SECTORS_MAX:
            self._write_back()
        elif self._random.random() < LEAKS_PER_WRITE:
            self._leak()

    def _leak(self) -> None:
        """Some sectors reach the platter before anybody asked for it."""
        recent = self._recent
        for _ in range(self._random.randrange(1, LEAKED_SECTORS_MAX)):
            sector = recent[self._random.randrange(len(recent))]
            data = self._cache.pop(sector, None)
            if data is not None:
                self._change_platter(sector * SECTOR_BYTES, data)

    def _write_back(self) -> None:
        """All of the cache, in no order."""
        runs: list[list[int]] = []
        for sector in sorted(self._cache):
            if runs and runs[-1][-1] == sector - 1:
                runs[-1].append(sector)
            else:
                runs.append([sector])
        self._random.shuffle(runs)
        for run in runs:
            self._change_platter(run[0] * SECTOR_BYTES, b"".join([self._cache[sector] for sector in run]))
        self._cache.clear()
        self._recent.clear()

    def _change_platter(self, offset: int, data: bytes) -> None:
        if self._changes_left is not None:
            self._changes_left -= 1
            if self._changes_left <= 0:
                whole = self._random.randrange(len(data) // SECTOR_BYTES + 1) * SECTOR_BYTES
                if whole:
                    os.pwrite(self._file, data[:whole], offset)
                self._die()
        os.pwrite(self._file, data, offset)

    def _look_for_death(self) -> None:
        if self._changes_left is None:
            try:
                with open(self.path + ".die", "rb") as source:
                    self._changes_left = int(source.read() or b"1")
                os.unlink(self.path + ".die")
            except FileNotFoundError:
                pass


@implementer(IPlugin, INodeProvider)
class FragileProvider:
    """C{fragile:/path?size=16M&seed=1}."""

    scheme = "fragile"

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> FragileNode:
        settings = Settings(name, uri, options)
        size = settings.take_size("size")
        seed = settings.take_size("seed", 0)
        settings.finish()
        if not settings.path or not size or size % SECTOR_BYTES:
            raise ConfigurationError(
                f"node {name!r}: {uri} cannot be used; expected fragile:/path?size=16M, of whole sectors"
            )
        return FragileNode(reactor, name, settings.path, size, randomness=Random(f"{seed} {os.getpid()}"))
