"""
Who is compared under which load, and what the goal is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import field, frozen

from benchmarks.copying import COPY_KINDS
from benchmarks.gluster import GLUSTER
from benchmarks.rows import COPY, FAR_ROWS, GLUSTER_ROWS, MANY_ROWS, PLAIN_ROWS, TLS_ROWS, Row
from benchmarks.subjects import FAR_KINDS, MIRROR_KINDS, SINGLE_KINDS, TLS_KINDS, WITHOUT_CHECKSUMS, Kind

__all__ = ["GROUPS", "Group"]


@frozen
class Group:
    """
    Servers that are measured in one run, in turns.

    @ivar goals: for each row, the least ratio of ours to the best peer that is good.
    """

    name: str
    what: str
    kinds: tuple[Kind, ...]
    rows: tuple[Row, ...]
    goals: Mapping[Row, float] = field(repr=False)


def _goals(rows: tuple[Row, ...], goal: Callable[[Row], float]) -> dict[Row, float]:
    return {row: goal(row) for row in rows}


def _single(row: Row) -> float:
    return {1: 0.8, 32: 1.2}.get(row.depth, 1.0)


def _mirror(row: Row) -> float:
    return {1: 1.0, 32: 2.5}.get(row.depth, 1.3)


def _gluster(row: Row) -> float:
    return 6.0 if row.write and row.block_bytes == 4096 else 3.0


_DST_MIRROR = MIRROR_KINDS[:1]

GROUPS = {
    group.name: group
    for group in (
        Group("single", "one file", SINGLE_KINDS, PLAIN_ROWS, _goals(PLAIN_ROWS, _single)),
        Group("mirror", "three remote copies", MIRROR_KINDS, PLAIN_ROWS, _goals(PLAIN_ROWS, _mirror)),
        Group("many", "one file, many clients", SINGLE_KINDS, MANY_ROWS, _goals(MANY_ROWS, lambda row: 1.2)),
        Group("tls", "one file over TLS", TLS_KINDS, TLS_ROWS, _goals(TLS_ROWS, lambda row: 1.0)),
        Group(
            "checksums",
            "a mirror with its checksums, and with every checksum left out",
            (*_DST_MIRROR, WITHOUT_CHECKSUMS),
            TLS_ROWS,
            _goals(TLS_ROWS, lambda row: 0.93),
        ),
        Group(
            "gluster",
            "three remote copies, next to GlusterFS replica 3",
            (*_DST_MIRROR, GLUSTER),
            GLUSTER_ROWS,
            _goals(GLUSTER_ROWS, _gluster),
        ),
        Group(
            "far",
            "a mirror of a device 256 times as large, sparse, written all over",
            FAR_KINDS,
            FAR_ROWS,
            _goals(FAR_ROWS, lambda row: 0.6),
        ),
        Group("resync", "a replaced member is copied to", COPY_KINDS, (COPY,), {COPY: 0.8}),
    )
}
"""By name, in the order they are measured in."""
