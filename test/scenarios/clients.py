"""
How clients write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from dst.errors import DSTError
from dst.testing.media import SECTOR_BYTES

__all__ = ["write_data"]

_PIECES_MAX = 3


def write_data(mirror: Any, offset: int, data: bytes, version: int, *, fua: bool) -> Deferred[None]:
    """
    A write of C{data}: of odd versions in one request, of even ones in up to three that are asked for together.

    What is forced to the media is always one.
    """
    if fua or version % 2:
        asked: Deferred[None] = mirror.write(offset, data, fua=fua)
        return asked
    length = -(-len(data) // SECTOR_BYTES // _PIECES_MAX) * SECTOR_BYTES
    pieces = [(offset + at, data[at : at + length]) for at in range(0, len(data), length)]
    together: Deferred[Sequence[DSTError | None] | None] = mirror.write_together(pieces)
    return together.addCallback(_all_done)


def _all_done(errors: Sequence[DSTError | None] | None) -> None:
    for error in errors or ():
        if error is not None:
            raise error
