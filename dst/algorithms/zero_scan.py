"""
Whether media holds anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from dst.geometry import BlockStatus
from dst.interfaces import IBlockDevice

__all__ = ["ZERO_SCAN_BYTES_MAX", "all_zero"]

ZERO_SCAN_BYTES_MAX = 1 << 30
"""How much of a new member is read, at most, to see that it holds nothing; beyond that a person is asked."""

_READ_BYTES = 1024 * 1024


async def all_zero(devices: Iterable[IBlockDevice]) -> bool:
    """Whether every device reads as zeroes throughout, as far as can be said without reading for hours."""
    for device in devices:
        if not await _reads_as_zeroes(device):
            return False
    return True


async def _reads_as_zeroes(device: IBlockDevice) -> bool:
    size, at, budget = device.geometry.size, 0, ZERO_SCAN_BYTES_MAX
    while at < size:
        for extent in await device.block_status(at, size - at):
            if not extent.status & BlockStatus.ZERO:
                budget -= extent.length
                if budget < 0 or not await _zero_bytes(device, at, at + extent.length):
                    return False
            at += extent.length
    return True


async def _zero_bytes(device: IBlockDevice, at: int, end: int) -> bool:
    while at < end:
        length = min(_READ_BYTES, end - at)
        data = bytes(await device.read(at, length))
        if data.count(0) != length:
            return False
        at += length
    return True
