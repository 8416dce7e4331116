"""A cluster that shows everything at once: for looking at the page and the command."""

from __future__ import annotations

import time

from dst.status import Health, ResyncProgress, StatusTree

GIB = 1 << 30
MIB = 1 << 20


def everything(now: float | None = None) -> list[StatusTree]:
    """Healthy, degraded with a resync, frozen, refused, a tree over two daemons, and nodes in no storage."""
    now = time.time() if now is None else now

    def member(
        name: str, state: str, ago: float, kind: str = "remote", size: int = 64 * GIB, **more: object
    ) -> StatusTree:
        health = {"in-sync": Health.HEALTHY}.get(state, Health.FAILED)
        return StatusTree(name, kind, health, state, since=now - ago, size=size, **more)  # type: ignore[arg-type]

    return [
        StatusTree(
            "archive",
            "stripe",
            Health.FROZEN,
            "ready",
            reason="node far-b is away and a stripe has no copy of it; operations wait until it is back",
            since=now - 95,
            size=256 * GIB,
            children=(
                member("far-a", "in-sync", 86400 * 3 + 3600, size=128 * GIB),
                member(
                    "far-b",
                    "absent",
                    95,
                    size=128 * GIB,
                    reason="no connection to tcp:192.0.2.17:7450: no route to host; next attempt in 4 s",
                ),
            ),
        ),
        StatusTree(
            "scratch",
            "mirror",
            Health.DEGRADED,
            "ready",
            reason="node other is refused",
            since=now - 7200,
            size=10 * GIB,
            redundancy=0,
            children=(
                member("disk", "in-sync", 90000, "file", 10 * GIB),
                member(
                    "other",
                    "refused",
                    7200,
                    "file",
                    10 * GIB,
                    reason="the media has the label of another storage (vol, 5f2c9a41): nothing is overwritten; "
                    "name other media with `dst replace scratch other URI`",
                ),
            ),
        ),
        StatusTree("spare", "file", Health.HEALTHY, "ready", since=now - 40000, size=64 * GIB),
        StatusTree(
            "usb",
            "file",
            Health.FAILED,
            "away",
            reason="/media/usb/disk.img: no such file or directory",
            since=now - 12,
        ),
        StatusTree(
            "vm",
            "mirror",
            Health.HEALTHY,
            "ready",
            since=now - 86400 * 12,
            size=32 * GIB,
            redundancy=1,
            children=(
                member("left", "in-sync", 86400 * 12, "file", 32 * GIB),
                member("right", "in-sync", 86400 * 12, "nbd", 32 * GIB),
            ),
        ),
        StatusTree(
            "vol",
            "mirror",
            Health.DEGRADED,
            "ready",
            reason="1 of 3 members is not in sync",
            since=now - 340,
            size=64 * GIB - MIB,
            redundancy=1,
            dirty_bytes=7 * GIB + 400 * MIB,
            children=(
                member("a", "in-sync", 86400 * 2, "file"),
                member(
                    "b",
                    "resyncing",
                    340,
                    reason="it was absent for 5 min 12 s",
                    dirty_bytes=7 * GIB + 400 * MIB,
                    resync=ResyncProgress(
                        "partial",
                        "213 regions were written while it was away",
                        13 * GIB,
                        7 * GIB + 400 * MIB,
                        5 * GIB,
                        118.4 * MIB,
                    ),
                    children=(StatusTree("b", "file", Health.HEALTHY, "ready", since=now - 340, size=64 * GIB),),
                ),
                member(
                    "c",
                    "in-sync",
                    86400 * 2,
                    children=(
                        StatusTree(
                            "inner",
                            "linear",
                            Health.HEALTHY,
                            "ready",
                            since=now - 86400 * 2,
                            size=64 * GIB,
                            children=(
                                member("p", "in-sync", 86400 * 2, "file", 32 * GIB),
                                member("q", "in-sync", 86400 * 2, "file", 32 * GIB),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    ]
