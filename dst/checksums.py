"""
What blocks hold, in sixteen bytes each: so that a copy between two machines need only carry what differs.

BLAKE2b, because nobody makes two different blocks with one checksum, even on purpose: equal checksums are taken as
equal data, and a client chooses what stands in its blocks.  It is fast enough: a processor does some 1 GB in a
second, which is more than most links carry.
"""

from __future__ import annotations

from hashlib import blake2b

from dst.errors import InvalidRequest
from dst.interfaces import CHECKSUM_BYTES, Buffer

__all__ = ["CHECKED_BYTES_MAX", "CHECKED_BYTES_MIN", "CHECKSUMS_MAX", "block_checksums", "checksums_refusal"]

CHECKED_BYTES_MIN = 512
CHECKED_BYTES_MAX = 1024 * 1024
"""The blocks that may be asked about: of smaller ones checksums save little, and larger ones are seldom the same."""

CHECKSUMS_MAX = 65536
"""Checksums in one answer: 1 MiB of them."""


def checksums_refusal(length: int, block_bytes: int) -> InvalidRequest | None:
    """Why an extent of C{length} may not be asked about in such blocks, if it may not."""
    if not CHECKED_BYTES_MIN <= block_bytes <= CHECKED_BYTES_MAX or block_bytes & (block_bytes - 1):
        return InvalidRequest(
            f"checksums of blocks of {block_bytes} bytes; expected a power of two from {CHECKED_BYTES_MIN} to"
            f" {CHECKED_BYTES_MAX}"
        )
    if length > CHECKSUMS_MAX * block_bytes:
        return InvalidRequest(f"{length} bytes in blocks of {block_bytes} are more than {CHECKSUMS_MAX} checksums")
    return None


def block_checksums(data: Buffer, block_bytes: int) -> bytes:
    """The checksums of all blocks of C{data}, in order; the last one may be shorter."""
    view = memoryview(data)
    return b"".join(
        [
            blake2b(view[at : at + block_bytes], digest_size=CHECKSUM_BYTES).digest()
            for at in range(0, len(view), block_bytes)
        ]
    )
