"""
What clients may see of one storage, whoever serves it.

The checker knows nothing of how the storage works. It is told what clients ask for and what they are answered,
sector by sector, and keeps which versions a sector may have now, and which it may have after the storage has told
its users that what was not flushed may be lost.

Each service of the storage is an I{era}: it begins when a client first uses it. Eras have one order, and only the
last one answers; a write that an older one has not answered was done before the next began, or never.
"""

from __future__ import annotations

import struct
from typing import Any

from attrs import define, field

from dst.testing.media import SECTOR_BYTES

__all__ = ["Checker", "Wrong", "fill", "versions_in"]


class Wrong(AssertionError):
    """The storage broke a promise."""


def fill(version: int, sectors: int) -> bytes:
    """Sectors that each say which write they are of."""
    return struct.pack("<Q", version) * (SECTOR_BYTES // 8) * sectors


def versions_in(data: bytes) -> list[int]:
    """The version of each sector; a sector of two halves breaks a promise."""
    found = []
    for at in range(0, len(data), SECTOR_BYTES):
        sector = data[at : at + SECTOR_BYTES]
        version = sector[:8]
        if sector != version * (SECTOR_BYTES // 8):
            raise Wrong(f"the sector at {at} is mixed")
        found.append(int.from_bytes(version, "little"))
    return found


@define(eq=False)
class Write:
    """A change that was asked for. Its C{version} is 0 for zeroes."""

    era: int
    sectors: range
    version: int
    orphan: bool = False


@define(eq=False)
class Read:
    """
    A read.

    @ivar may: what each of its sectors may have been since it was asked for.
    @ivar beside: the versions of the writes there that were under way at any time since. They may come after it,
        though they have ended with an error before it is answered.
    """

    era: int
    sectors: range
    may: list[set[int]]
    beside: list[set[int]]


@define(eq=False)
class Flush:
    """A flush, and what each sector may have been since."""

    era: int
    snapshot: dict[int, set[int]] = field(factory=dict)


_NEVER_WRITTEN = frozenset({0})


class Checker:
    """
    @ivar era: the last one; 0 before there was any.
    @ivar incarnation: that of the storage, as the last era's users know it.
    @ivar told: how many times users were told that what was not flushed may be lost.
    """

    def __init__(self) -> None:
        self.era = 0
        self.incarnation = b""
        self.told = 0
        self.version = 0
        self.acknowledged = 0
        self.legal: dict[int, set[int]] = {}
        self.durable: dict[int, set[int]] = {}
        self.ruled_out: dict[int, set[int]] = {}
        self.writing: dict[int, Write] = {}
        self.writes: set[Write] = set()
        self.reads: set[Read] = set()
        self.flushes: set[Flush] = set()

    # -- eras

    def begin_era(self, incarnation: bytes) -> int:
        """Somebody else serves, or the same one anew."""
        self.era += 1
        for write in self.writes:
            self._orphan(write)
        self.learn(self.era, incarnation)
        return self.era

    def learn(self, era: int, incarnation: bytes) -> None:
        """Users of the last era see this incarnation."""
        if era != self.era or not incarnation or incarnation == self.incarnation:
            return
        if self.incarnation:
            self.told += 1
            for sector, versions in self.durable.items():
                self._add(sector, versions)
        self.incarnation = incarnation

    def end_of_user(self, era: int) -> None:
        """The daemon of this era was killed: nobody waits for its answers any more."""
        for write in [each for each in self.writes if each.era == era]:
            self._orphan(write)
            self.writes.discard(write)
        self.reads = {each for each in self.reads if each.era != era}
        self.flushes = {each for each in self.flushes if each.era != era}

    def _orphan(self, write: Write) -> None:
        write.orphan = True
        for sector in write.sectors:
            if self.writing.get(sector) is write:
                del self.writing[sector]

    def _add(self, sector: int, versions: set[int]) -> None:
        """It may be any of these from now on."""
        self.legal[sector] = self.legal.get(sector, set(_NEVER_WRITTEN)) | versions
        for read in self.reads:
            if sector in read.sectors:
                read.may[sector - read.sectors.start] |= versions

    # -- changes

    def may_write(self, sectors: range) -> bool:
        """No other write of these is under way in the last era."""
        writing = self.writing
        return not any(sector in writing for sector in sectors)

    def write_begins(self, era: int, sectors: range, *, zeroes: bool = False) -> Write:
        """Somebody asked for a change."""
        if not zeroes:
            self.version += 1
        write = Write(era, sectors, 0 if zeroes else self.version)
        self.writes.add(write)
        one = {write.version}
        for sector in sectors:
            self.writing[sector] = write
            self._add(sector, one)
            for read in self.reads:
                if sector in read.sectors:
                    read.beside[sector - read.sectors.start] |= one
            self.durable.setdefault(sector, set(_NEVER_WRITTEN)).add(write.version)
            for flush in self.flushes:
                flush.snapshot.setdefault(sector, set(_NEVER_WRITTEN)).add(write.version)
            ruled_out = self.ruled_out.get(sector)
            if ruled_out:
                ruled_out.discard(write.version)
        return write

    def write_ends(self, write: Write, good: bool, *, fua: bool = False, where: str = "") -> None:
        """It was answered."""
        self.writes.discard(write)
        if good:
            self.acknowledged += 1
        one = {write.version}
        for sector in write.sectors:
            mine = self.writing.get(sector) is write
            if mine:
                del self.writing[sector]
            if not good:
                continue
            if mine:
                self.legal[sector] = set(one)
            elif write.version and write.version in self.ruled_out.get(sector, ()):
                raise Wrong(
                    f"sector {sector}: version {write.version} was read as not done, and acknowledged later: {where}"
                )
            if fua and mine:
                self.durable[sector] = set(one)

    def flush_begins(self, era: int) -> Flush:
        """Somebody asked for a flush."""
        flush = Flush(era, {sector: set(versions) for sector, versions in self.legal.items()})
        self.flushes.add(flush)
        return flush

    def flush_ends(self, flush: Flush, good: bool) -> None:
        """It was answered."""
        self.flushes.discard(flush)
        if good:
            for sector, versions in flush.snapshot.items():
                self.durable[sector] &= versions

    # -- reads

    def read_begins(self, era: int, sectors: range) -> Read:
        """Somebody asked for a read."""
        legal, writing = self.legal, self.writing
        read = Read(
            era,
            sectors,
            [set(legal.get(sector, _NEVER_WRITTEN)) for sector in sectors],
            [{writing[sector].version} if sector in writing else set() for sector in sectors],
        )
        self.reads.add(read)
        return read

    def read_ends(self, read: Read, data: Any, where: str = "") -> None:
        """
        It was answered; C{None} for an error.

        @raise Wrong: with what it never could have been.
        """
        self.reads.discard(read)
        if data is None:
            return
        if read.era != self.era:
            raise Wrong(f"a read of {read.sectors} was answered by the owner before the last: {where}")
        found = zip(read.sectors, versions_in(bytes(data)), read.may, read.beside, strict=True)
        for sector, version, may, beside in found:
            if version not in may:
                raise Wrong(f"sector {sector} reads version {version}, it may be {sorted(may)}: {where}")
            now = self.legal.get(sector)
            if now is None or version not in now:
                continue
            # What was read once stays, unless a write was under way.
            rest = now - {version} - beside
            if rest:
                self.ruled_out.setdefault(sector, set()).update(rest)
                self.legal[sector] = now - rest
