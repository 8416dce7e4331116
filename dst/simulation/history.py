"""
What clients did and what they may see: the judge of a storage.

It knows nothing of how a storage works, nor who serves it.  For every sector it keeps the versions (each write
has a number, written all over its sectors) that a read may return now, and those that it may return after
clients have been told that unflushed writes may be lost (the storage's incarnation is another one)::

    write 7 is sent          legal {5, 7}
    it is acknowledged       legal {7}            durable {5, 7}
    a flush is acknowledged                       durable {7}
    a read returns 5 later   WrongData

What was read once stays: of several legal versions the one that was read is from then on the only one, but for writes
that were under way meanwhile.  Writes that are under way together get one order, and nobody knows which: until one of
them was read, or a later write was acknowledged, each of them is legal.  A write whose answer never came (its session
was cut) may have happened or not, until the next one to its sectors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from attrs import define, field

from dst.simulation.world import WrongData
from dst.testing.media import SECTOR_BYTES

__all__ = ["History", "Reading", "Snapshot", "Writing", "fill", "versions_in"]

_VERSION = struct.Struct("<Q")


def fill(version: int, sectors: int) -> bytes:
    """Sectors that each say which write they are of."""
    return _VERSION.pack(version) * (SECTOR_BYTES // 8 * sectors)


def versions_in(data: bytes, first: int) -> list[int]:
    """
    The version of each sector.

    @param first: the number of the first sector, for the message.
    @raise WrongData: a sector is of two writes.
    """
    found = []
    for at in range(0, len(data), SECTOR_BYTES):
        sector = data[at : at + SECTOR_BYTES]
        (version,) = _VERSION.unpack_from(sector)
        if sector != _VERSION.pack(version) * (SECTOR_BYTES // 8):
            raise WrongData(f"sector {first + at // SECTOR_BYTES} is mixed: parts of it are of different writes")
        found.append(version)
    return found


@define(eq=False)
class Writing:
    """
    A write, trim or write-zeroes that was sent.

    @ivar beside: versions of writes to the same sectors that were under way at some time while this one was.
    """

    sector: int
    count: int
    version: int
    durable: bool
    beside: set[int] = field(factory=set)
    over: bool = False

    @property
    def sectors(self) -> range:
        """What it writes."""
        return range(self.sector, self.sector + self.count)

    def touches(self, sector: int, count: int) -> bool:
        """It writes some of these."""
        return self.sector < sector + count and sector < self.sector + self.count


@define(eq=False)
class Reading:
    """
    A read that was sent, and what it may return.

    @ivar beside: versions of writes that were under way at some time while it was.
    """

    sector: int
    count: int
    may: dict[int, set[int]]
    beside: set[int]


@define(eq=False)
class Snapshot:
    """A flush that was sent, and what was there then."""

    legal: dict[int, set[int]] = field(factory=dict)


class History:
    """
    One storage as its clients know it.

    @ivar incarnations: those that were seen, in order.
    @ivar told_losses: how often clients were told of losses.
    """

    def __init__(self, name: str, describe: Callable[[], str]) -> None:
        self.name = name
        self.version = 0
        self.incarnations: list[bytes] = []
        self.told_losses = 0
        self.counts: dict[str, int] = {}
        self._describe = describe
        self._legal: dict[int, set[int]] = {}
        self._durable: dict[int, set[int]] = {}
        self._writing: dict[Writing, None] = {}
        self._reading: dict[Reading, None] = {}
        self._flushes: dict[Snapshot, None] = {}

    @property
    def busy(self) -> int:
        """Writes and flushes that are under way."""
        return len(self._writing) + len(self._flushes)

    @property
    def written(self) -> list[int]:
        """Sectors that were ever written."""
        return sorted(self._legal)

    def count(self, what: str) -> None:
        """One more."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def met(self, incarnation: bytes) -> None:
        """A client sees the storage's incarnation: a new one says that unflushed writes may be lost."""
        if not incarnation or incarnation in self.incarnations:
            return
        if self.incarnations:
            self.told_losses += 1
            for sector, versions in self._durable.items():
                self._legal[sector] = self._legal[sector] | versions
        self.incarnations.append(incarnation)

    # -- writes

    def write(self, sector: int, count: int, kind: str, durable: bool) -> Writing:
        """A write is sent."""
        if kind == "write":
            self.version += 1
        version = self.version if kind == "write" else 0
        writing = Writing(sector, count, version, durable)
        for other in self._writing:
            if other.touches(sector, count):
                other.beside.add(version)
                writing.beside.add(other.version)
        for reading in self._reading:
            reading.beside.add(version)
        self._writing[writing] = None
        for each in writing.sectors:
            self._legal.setdefault(each, {0}).add(version)
            self._durable.setdefault(each, {0}).add(version)
            for snapshot in self._flushes:
                snapshot.legal.setdefault(each, {0}).add(version)
        return writing

    def written_well(self, writing: Writing) -> None:
        """It was acknowledged: what stood there before is no more, nor is what was written and ended before."""
        if not self._end(writing):
            return
        version, beside = writing.version, writing.beside
        for each in writing.sectors:
            self._legal[each] = {version} | (self._legal[each] & beside)
            if writing.durable:
                self._durable[each] = {version} | (self._durable[each] & beside)

    def not_written(self, writing: Writing) -> None:
        """It failed, or nobody waits for its answer any more: old or new."""
        self._end(writing)

    def _end(self, writing: Writing) -> bool:
        ended, writing.over = writing.over, True
        self._writing.pop(writing, None)
        return not ended

    def _under_way(self, sector: int) -> set[int]:
        if not self._writing:
            return set()
        return {writing.version for writing in self._writing if writing.touches(sector, 1)}

    # -- reads

    def read(self, sector: int, count: int) -> Reading:
        """A read is sent."""
        legal = self._legal
        may = {each: set(legal.get(each, (0,))) for each in range(sector, sector + count)}
        beside = {writing.version for writing in self._writing if writing.touches(sector, count)}
        reading = Reading(sector, count, may, beside)
        self._reading[reading] = None
        return reading

    def was_read(self, reading: Reading, data: bytes) -> None:
        """
        It was answered.

        @raise WrongData: with what may not be there.
        """
        self._reading.pop(reading, None)
        none = {0}
        for each, version in enumerate(versions_in(data, reading.sector), reading.sector):
            now = self._legal.get(each, none)
            if version not in now and version not in reading.may[each]:
                may = ", ".join(map(str, sorted(now | reading.may[each])))
                raise WrongData(
                    f"{self.name}: sector {each} reads as write {version}, it may be {may}; {self._describe()}"
                )
            if version in now and len(now) > 1:
                self._legal[each] = {version} | (now & reading.beside)

    def not_read(self, reading: Reading) -> None:
        """It failed, or nobody waits for it."""
        self._reading.pop(reading, None)

    # -- flushes

    def flush(self) -> Snapshot:
        """A flush is sent."""
        snapshot = Snapshot({each: set(versions) for each, versions in self._legal.items()})
        self._flushes[snapshot] = None
        return snapshot

    def flushed(self, snapshot: Snapshot) -> None:
        """It was acknowledged."""
        if self._flushes.pop(snapshot, 0) is None:
            for each, versions in snapshot.legal.items():
                self._durable[each] = versions | self._under_way(each)

    def not_flushed(self, snapshot: Snapshot) -> None:
        """It failed, or nobody waits for it."""
        self._flushes.pop(snapshot, None)
