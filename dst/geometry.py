"""
Sizes, extents and the arithmetic on them.  Offsets and lengths are bytes, always.
"""

from __future__ import annotations

import enum
import re

from attrs import evolve, field, frozen

from dst.errors import InvalidRequest, OutOfBounds

__all__ = [
    "SIZE_BYTES_MAX",
    "TRANSFER_BYTES_MAX",
    "BlockStatus",
    "Geometry",
    "StatusExtent",
    "align_down",
    "align_up",
    "coalesce",
    "parse_size",
]

SIZE_BYTES_MAX = 1 << 62
"""No device is larger: offsets stay within signed 64-bit numbers in every protocol and system call."""

TRANSFER_BYTES_MAX = 32 * 1024 * 1024
"""
The most one read or write may carry: what NBD clients expect to be allowed, and what one request may
cost in memory.
"""


def align_down(value: int, unit: int) -> int:
    """The largest multiple of C{unit} that is not above C{value}."""
    return value - value % unit


def align_up(value: int, unit: int) -> int:
    """The smallest multiple of C{unit} that is not below C{value}."""
    return value + -value % unit


@frozen
class Geometry:
    """
    What a device is like.

    @ivar size: bytes.
    @ivar block_size: offsets and lengths must be multiples of it; a power of two, 1 for "any".
    @ivar preferred_block_size: requests aligned to it are fast; a power of two, not below C{block_size}.
    @ivar transfer_bytes_max: the most that one read or write may carry.  Trim, write-zeroes and
        block status carry no data and are bounded by C{size} alone.
    @ivar read_only: changes are refused.
    @ivar rotational: seeks are expensive.
    """

    size: int
    block_size: int = 1
    preferred_block_size: int = 4096
    transfer_bytes_max: int = TRANSFER_BYTES_MAX
    read_only: bool = False
    rotational: bool = False

    def __attrs_post_init__(self) -> None:
        assert 0 <= self.size <= SIZE_BYTES_MAX, self.size
        assert self.block_size > 0 and self.block_size & (self.block_size - 1) == 0, self.block_size
        assert self.preferred_block_size >= self.block_size, self.preferred_block_size
        assert self.transfer_bytes_max > 0, self.transfer_bytes_max

    def check_extent(self, offset: int, length: int) -> None:
        """
        Raise unless C{[offset, offset + length)} may be asked for.

        @raise OutOfBounds: it is not inside the device.
        @raise InvalidRequest: it is empty, or not aligned to C{block_size}.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OutOfBounds.extent(offset, length, self.size)
        if length == 0:
            raise InvalidRequest(f"a request of no bytes at {offset} has no meaning")
        mask = self.block_size - 1
        if mask and (offset | length) & mask:
            raise InvalidRequest(f"the extent {offset}+{length} is not a multiple of {self.block_size} bytes")

    def check_transfer(self, offset: int, length: int) -> None:
        """
        As L{check_extent}, for an operation that carries data.

        @raise InvalidRequest: also when C{length} is above C{transfer_bytes_max}.
        """
        self.check_extent(offset, length)
        if length > self.transfer_bytes_max:
            raise InvalidRequest(f"{length} bytes in one request are more than the {self.transfer_bytes_max} allowed")

    def evolve(self, **changes: object) -> Geometry:
        """A copy with some fields changed."""
        return evolve(self, **changes)  # type: ignore[arg-type]


class BlockStatus(enum.IntFlag):
    """
    What is known of an extent without reading it.  The bits are those of NBD's C{base:allocation}.

    C{HOLE}: no space is allocated.  C{ZERO}: it reads as zeroes.  Neither set: it
    holds data, or nothing is known, which is treated the same.
    """

    DATA = 0
    HOLE = 1
    ZERO = 2


@frozen
class StatusExtent:
    """C{length} bytes that all have the same C{status}."""

    length: int = field()
    status: BlockStatus = field()


def coalesce(extents: list[StatusExtent]) -> list[StatusExtent]:
    """The same extents with equal neighbours merged."""
    merged: list[StatusExtent] = []
    for extent in extents:
        if merged and merged[-1].status == extent.status:
            merged[-1] = StatusExtent(merged[-1].length + extent.length, extent.status)
        else:
            merged.append(extent)
    return merged


_SIZE = re.compile(r"\s*([0-9]+)\s*(?:([KMGTP])(?:iB)?|B)?\s*", re.IGNORECASE | re.ASCII)
_SIZE_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


def parse_size(text: str) -> int:
    """
    The bytes that a person means: C{"4096"}, C{"64M"}, C{"1GiB"}.  Units are powers of 1024.

    @raise ValueError: what was found and what was expected.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a size; expected a whole number of bytes or one with K, M, G, T or P, as 64M"
        )
    size = int(match[1]) << _SIZE_SHIFTS[(match[2] or "").upper()]
    if size > SIZE_BYTES_MAX:
        raise ValueError(f"{text!r} is larger than the largest device, {SIZE_BYTES_MAX} bytes")
    return size
