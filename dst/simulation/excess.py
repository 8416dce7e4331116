"""
How much more is copied to a returning member than it has missed.

When a partial resync begins, what differs on the media is compared with what is going to be copied.  That nothing
is left out is judged elsewhere (copies are equal in the end); this is about the price.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from dst.cluster.topology import NodeSpec
from dst.label.format import Label
from dst.simulation.checks import Copy, copies_on
from dst.simulation.drives import Drive
from dst.simulation.topologies import Layout

__all__ = ["different_bytes", "drives_of_members"]


def drives_of_members(layout: Layout) -> dict[tuple[str, str], str]:
    """The drive at the bottom of each node that has one, by daemon and node: C{("owner", "on-a")} is C{"a:a.img"}."""
    nodes = {(daemon, spec.name): spec for daemon, there in layout.daemons.items() for spec in there.nodes}
    listening = {
        (_word(listener.endpoint), _port(listener.endpoint)): daemon
        for daemon, there in layout.daemons.items()
        for listener in there.listeners.get("dst", ())
    }
    found = {}
    for (daemon, name), spec in nodes.items():
        there: tuple[str, NodeSpec] | None = (daemon, spec)
        if spec.scheme == "dst":
            parts = urlsplit(spec.uri)
            server = listening.get((parts.hostname or "", parts.port or 0))
            there = None
            if server is not None:
                exports = {export.name: export.device for export in layout.daemons[server].exports}
                device = exports.get(parts.path.lstrip("/"), "")
                if (server, device) in nodes:
                    there = (server, nodes[server, device])
        if there is not None and there[1].scheme == "file":
            found[daemon, name] = f"{there[0]}:{there[1].uri.partition('?')[0].rpartition('/')[2]}"
    return found


def _word(listener: str) -> str:
    return listener.partition("interface=")[2].partition(":")[0]


def _port(listener: str) -> int:
    return int(listener.split(":")[1])


def different_bytes(target: Drive, drives: Mapping[str, Drive]) -> int | None:
    """
    How many bytes there are in the regions in which C{target} differs from a copy that is in sync.

    @return: C{None} if there is none to compare it with.
    """
    for copies in copies_on(drives.values()).values():
        mine = next((copy for copy in copies if copy.drive is target), None)
        if mine is None:
            continue
        newest: Label = max((copy.label for copy in copies), key=lambda label: label.record.order)
        in_sync = {entry.node_id for entry in newest.record.members if entry.in_sync}
        source = next((copy for copy in copies if copy.label.node_id in in_sync and copy is not mine), None)
        return None if source is None else _different(mine, source)
    return None


def _different(mine: Copy, source: Copy) -> int:
    size, end = mine.label.region_size, mine.label.data_size
    different = 0
    for offset in range(0, end, size):
        length = min(size, end - offset)
        if mine.drive.media.read(offset, length) != source.drive.media.read(offset, length):
            different += length
    return different
