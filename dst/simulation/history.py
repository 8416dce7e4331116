"""
What clients did and what they may see: the judge of a storage.

It knows nothing of how a storage works, nor who serves it.  For every sector it keeps the versions (each write
has a number, written all over its sectors) that a read may return now, and those that it may return after
clients have been told that unflushed writes may be lost (the storage's incarnation is another one)::

    write 7 is sent          legal {5, 7}
    it is acknowledged       legal {7}            durable {5, 7}
    a flush is acknowledged                       durable {7}
    a read returns 5 later   WrongData

What was read once stays: of several legal versions the one that was read is from then on the only one, unless a
write is under way.  A write whose answer never came (its session was cut) may have happened or not, until the
next one to its sectors.
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
    """A write, trim or write-zeroes that was sent."""

    sector: int
    count: int
    version: int
    durable: bool
    over: bool = False


@define(eq=False)
class Reading:
    """A read that was sent, and what it may return."""

    sector: int
    count: int
    may: dict[int, set[int]]


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
        self._in_flight: dict[int, int] = {}
        self._flushes: dict[Snapshot, None] = {}

    @property
    def busy(self) -> int:
        """Sectors with a write under way, and flushes."""
        return len(self._in_flight) + len(self._flushes)

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

    def write(self, sector: int, count: int, kind: str, durable: bool) -> Writing | None:
        """A write is sent; C{None}: there is one to the same place already, and clients do not do that."""
        sectors = range(sector, sector + count)
        if any(each in self._in_flight for each in sectors):
            return None
        if kind == "write":
            self.version += 1
        version = self.version if kind == "write" else 0
        for each in sectors:
            self._in_flight[each] = version
            self._legal.setdefault(each, {0}).add(version)
            self._durable.setdefault(each, {0}).add(version)
            for snapshot in self._flushes:
                snapshot.legal.setdefault(each, {0}).add(version)
        return Writing(sector, count, version, durable)

    def written_well(self, writing: Writing) -> None:
        """It was acknowledged."""
        if self._end(writing):
            for each in range(writing.sector, writing.sector + writing.count):
                self._legal[each] = {writing.version}
                if writing.durable:
                    self._durable[each] = {writing.version}

    def not_written(self, writing: Writing) -> None:
        """It failed, or nobody waits for its answer any more: old or new."""
        self._end(writing)

    def _end(self, writing: Writing) -> bool:
        if writing.over:
            return False
        writing.over = True
        for each in range(writing.sector, writing.sector + writing.count):
            del self._in_flight[each]
        return True

    # -- reads

    def read(self, sector: int, count: int) -> Reading:
        """A read is sent."""
        legal = self._legal
        return Reading(sector, count, {each: set(legal.get(each, (0,))) for each in range(sector, sector + count)})

    def was_read(self, reading: Reading, data: bytes) -> None:
        """
        It was answered.

        @raise WrongData: with what may not be there.
        """
        none = {0}
        for each, version in enumerate(versions_in(data, reading.sector), reading.sector):
            now = self._legal.get(each, none)
            if version not in now and version not in reading.may[each]:
                may = ", ".join(map(str, sorted(now | reading.may[each])))
                raise WrongData(
                    f"{self.name}: sector {each} reads as write {version}, it may be {may}; {self._describe()}"
                )
            if version in now and len(now) > 1:
                under_way = {self._in_flight[each]} if each in self._in_flight else set()
                self._legal[each] = {version} | under_way

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
                under_way = {self._in_flight[each]} if each in self._in_flight else set()
                self._durable[each] = versions | under_way

    def not_flushed(self, snapshot: Snapshot) -> None:
        """It failed, or nobody waits for it."""
        self._flushes.pop(snapshot, None)
