"""
What a client was told, block by block, and what it may therefore find.

Every sector that is written says which block and sector it is and which version of the block, so that whatever is
read can be named: the version that has to be there, one that may be, or something that must never be seen.  The rules
are those of the promise in C{docs/recovery.rst}:

  - What was acknowledged is read, by everybody, until something newer is; a read never goes back.
  - What was acknowledged, and then flushed (or was written with FUA), survives everything.
  - What was acknowledged and not flushed may be gone only after every copy lost its power, and only in another
    session than the one that was told of it.  Then each sector has a version that is no older than what was flushed.
  - What was never answered may be there or not, sector by sector, as long as nothing newer was acknowledged; once
    seen it stays.

At most one change of a block is under way at a time, so versions of a block are in order.
"""

from __future__ import annotations

import struct

from attrs import define, frozen

__all__ = ["BLOCK_BYTES", "SECTORS", "History", "Snapshot", "Violation"]

BLOCK_BYTES = 4096
SECTOR_BYTES = 512
SECTORS = BLOCK_BYTES // SECTOR_BYTES

_STAMP = struct.Struct("<8sQQHH4x")  # magic, block, version, sector, sectors
_MAGIC = b"CAMPAIGN"
_REPEATED = SECTOR_BYTES // _STAMP.size
assert _STAMP.size * _REPEATED == SECTOR_BYTES

_ZEROES = bytes(SECTOR_BYTES)
_ZERO_BLOCK = bytes(BLOCK_BYTES)


class Violation(AssertionError):
    """A promise was broken."""


@frozen
class Snapshot:
    """What a flush that is asked for now covers: version by block."""

    versions: dict[int, int]
    flush: str = ""


@define
class _Acknowledged:
    """
    The newest change of a block that is not known to be durable.

    @ivar losses: how often all copies had lost their power when the session began. The answer may have been under way
        for long: an owner that stands still while everybody else dies passes it on when it goes on.
    """

    version: int
    session: int
    losses: int


def sector_content(block: int, version: int, sector: int) -> bytes:
    """Unlike that of any other block, version or sector, in each of its rows of 32 bytes."""
    return _STAMP.pack(_MAGIC, block, version, sector, SECTORS) * _REPEATED


def block_content(block: int, version: int) -> bytes:
    """All sectors of a version."""
    return b"".join([sector_content(block, version, sector) for sector in range(SECTORS)])


class History:
    """
    @ivar blocks: how many there are.
    @ivar losses: how often all copies may have lost their power.
    @ivar lost_sectors: sectors that were found older than what had been acknowledged, each time legally.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.losses = 0
        self.lost_sectors = 0
        self._loss_possible = False
        self._issued = [0] * blocks
        self._zero: dict[int, set[int]] = {}  # versions that are zeroes
        self._low = [0] * (blocks * SECTORS)  # what was acknowledged or seen last
        self._floor = [0] * (blocks * SECTORS)  # what is durable
        self._recent: dict[int, list[int]] = {}  # versions issued that may still be there, above the floor
        self._unflushed: dict[int, _Acknowledged] = {}
        self._losses_before: dict[int, int] = {}
        self._made_durable_by: dict[int, str] = {}

    # -- what the client does

    def session_began(self, session: int) -> None:
        """A client is connected from now on."""
        self._losses_before[session] = self.losses

    def issue(self, block: int, *, zero: bool = False) -> int:
        """A change is about to be sent; @return: its version."""
        version = self._issued[block] + 1
        self._issued[block] = version
        self._recent.setdefault(block, []).append(version)
        if zero:
            self._zero.setdefault(block, set()).add(version)
        return version

    def acknowledged(self, block: int, version: int, session: int, *, durable: bool = False) -> None:
        """It was answered; with C{durable} it had been sent with FUA."""
        start = block * SECTORS
        self._low[start : start + SECTORS] = [version] * SECTORS
        if durable:
            self._make_durable(block, version, f"FUA in session {session}")
        else:
            losses = self._losses_before.setdefault(session, self.losses)
            self._unflushed[block] = _Acknowledged(version, session, losses)

    def flush_issued(self, session: int) -> Snapshot:
        """A flush is about to be sent."""
        return Snapshot(
            {
                block: entry.version
                for block, entry in self._unflushed.items()
                if entry.session == session or entry.losses == self.losses
            },
            f"a flush of session {session}",
        )

    def flushed(self, snapshot: Snapshot) -> None:
        """It was answered."""
        for block, version in snapshot.versions.items():
            entry = self._unflushed.get(block)
            where = "" if entry is None else f", acknowledged in session {entry.session} or before"
            self._make_durable(block, version, snapshot.flush + where)

    def _make_durable(self, block: int, version: int, how: str) -> None:
        self._made_durable_by[block] = how
        start = block * SECTORS
        for index in range(start, start + SECTORS):
            if self._floor[index] < version:
                self._floor[index] = version
        recent = self._recent.get(block)
        if recent is not None:
            self._recent[block] = [each for each in recent if each > version]
        entry = self._unflushed.get(block)
        if entry is not None and entry.version <= version:
            del self._unflushed[block]

    # -- what happens to it

    def power_lost(self) -> None:
        """From now on until L{settled} every copy may have lost what was not flushed."""
        self.losses += 1
        self._loss_possible = True

    # -- what it reads

    def check(self, block: int, data: bytes | memoryview, session: int, *, settle: bool = False) -> None:
        """
        A block as it was read while no change of it was under way.

        @param settle: nothing older is under way anywhere any more: what was not found never comes.
        @raise Violation: it must not be so.
        """
        start = block * SECTORS
        low = self._low[start]
        if bytes(data) == self._expected(block, low) and self._low[start : start + SECTORS] == [low] * SECTORS:
            seen = [low] * SECTORS
        else:
            seen = [
                self._check_sector(
                    block, sector, bytes(data[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES]), session
                )
                for sector in range(SECTORS)
            ]
            self._low[start : start + SECTORS] = seen
        if settle and block in self._recent:
            newest = max(seen)
            self._recent[block] = [version for version in self._recent[block] if version <= newest]

    def _expected(self, block: int, version: int) -> bytes:
        if version == 0 or version in self._zero.get(block, ()):
            return _ZERO_BLOCK
        return block_content(block, version)

    def _check_sector(self, block: int, sector: int, data: bytes, session: int) -> int:
        """@return: the version that it is."""
        index = block * SECTORS + sector
        low, floor = self._low[index], self._floor[index]
        recent = self._recent.get(block, [])
        allowed = [low, *(version for version in recent if version > low)]
        if self._loss_possible:
            allowed += sorted((version for version in {floor, *recent} if floor <= version < low), reverse=True)
        if data == _ZEROES:
            zero = {0, *self._zero.get(block, ())}
            version = next((each for each in allowed if each in zero), max(each for each in zero if each <= low))
        else:
            magic, its_block, version, its_sector, _ = _STAMP.unpack_from(data)
            if magic != _MAGIC or data != sector_content(its_block, version, its_sector):
                raise self._violation("is none that was ever written, or a mixture", block, sector, data)
            if (its_block, its_sector) != (block, sector):
                raise self._violation(
                    f"has the content of block {its_block}, sector {its_sector}", block, sector, data
                )
            if version in self._zero.get(block, ()) or version > self._issued[block]:
                raise self._violation(f"has version {version}, which was never written", block, sector, data)
        if version not in allowed:
            what = (
                "is lost, it was flushed" if version < floor else "is stale or lost" if version < low else "came late"
            )
            found = f"version {version}{' (zeroes)' if data == _ZEROES else ''}"
            raise self._violation(f"{what}: {found}, expected one of {allowed[:12]}", block, sector, data)
        if version < low:
            entry = self._unflushed.get(block)
            if entry is not None and entry.session == session and version < entry.version:
                raise self._violation(
                    f"version {version}: lost, and session {session} was not told", block, sector, data
                )
            self.lost_sectors += 1
        return version

    def _violation(self, what: str, block: int, sector: int, data: bytes) -> Violation:
        index = block * SECTORS + sector
        return Violation(
            f"block {block} sector {sector} {what}; acknowledged or seen {self._low[index]}, "
            f"durable {self._floor[index]} by {self._made_durable_by.get(block, 'nothing')}, "
            f"issued {self._issued[block]}, open {self._recent.get(block, [])}, "
            f"a loss was {'possible' if self._loss_possible else 'not possible'}; found {data[:32].hex()}"
        )

    def settled(self) -> None:
        """Every block was checked with C{settle}: what is there is all there is."""
        self._loss_possible = False
        for block, entry in list(self._unflushed.items()):
            there = min(self._low[block * SECTORS : (block + 1) * SECTORS])
            self._unflushed[block] = _Acknowledged(min(entry.version, there), -1, self.losses)

    def all_flushed(self) -> None:
        """After L{settled}: a flush of everything was answered, and nothing was under way."""
        self._floor[:] = self._low
        self._recent.clear()
        self._unflushed.clear()

    @property
    def unflushed(self) -> int:
        """Blocks with an acknowledged change that is not known to be durable."""
        return len(self._unflushed)
