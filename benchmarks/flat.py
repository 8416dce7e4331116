"""
Memory has to be flat in the size of the device and in the length of the run.

The same servers of ours, in the same way, but for one thing: a device 64 times as large (sparse; the load goes to
places all over it), and a run five times as long.  What is compared is the most memory that all processes of a server
had.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from attrs import asdict, frozen

from benchmarks.fio import measure
from benchmarks.processes import Processes
from benchmarks.report import columns
from benchmarks.rows import Row
from benchmarks.subjects import MIRROR_KINDS, SINGLE_KINDS, Kind

__all__ = ["GROWTH_MAX", "Flat", "measure_flat", "table"]

GROWTH_MAX = 1.15
"""What an interpreter's memory differs by between two runs of the same."""

TIMES_AS_LARGE = 64
TIMES_AS_LONG = 5
_MIB = 1 << 20

ALIGN_BYTES = 4 << 20
"""
Blocks are written so far apart from each other.  All over a sparse file they would be a hundred thousand extents, and
a file system that is mounted with C{discard} tells the disk of each one when the file is removed, for minutes.
"""

_LOAD = Row(True, 4096, 32, align_bytes=ALIGN_BYTES)


@frozen
class Flat:
    """The most memory of one server: as it was, on a larger device, and after a longer run."""

    kind: str
    base_bytes: int
    larger_bytes: int
    longer_bytes: int

    def figures(self) -> list[tuple[str, str, str, bool]]:
        """For L{benchmarks.report.goal_lines}."""
        told = []
        for what, value in (
            (f"a device {TIMES_AS_LARGE} times as large", self.larger_bytes),
            (f"a run {TIMES_AS_LONG} times as long", self.longer_bytes),
        ):
            growth = value / self.base_bytes
            told.append((f"memory: {self.kind}, {what}", f"{growth:.2f}", f"<= {GROWTH_MAX:g}", growth <= GROWTH_MAX))
        return told

    def plain(self) -> dict[str, object]:
        """As JSON types."""
        return asdict(self)


def _peak_bytes(kind: Kind, size: int, seconds: float) -> int:
    with tempfile.TemporaryDirectory(prefix="dst-benchmark-") as name, Processes(Path(name)) as processes:
        subject = kind.start(processes, Path(name), size)
        servers = [processes.pid_of(server) for server in subject.servers]
        return measure(Path(name), subject.client, size, _LOAD, seconds, servers).peak_bytes


def measure_flat(size: int, seconds: float) -> list[Flat]:
    """Measure one file and a mirror."""
    found = []
    for kind in (SINGLE_KINDS[0], MIRROR_KINDS[0]):
        base = _peak_bytes(kind, size, seconds)
        larger = _peak_bytes(kind, size * TIMES_AS_LARGE, seconds)
        longer = _peak_bytes(kind, size, seconds * TIMES_AS_LONG)
        found.append(Flat(kind.name, base, larger, longer))
    return found


def table(found: list[Flat]) -> str:
    """MiB."""
    lines = [["memory, MiB", "as it is", f"{TIMES_AS_LARGE} times as large", f"{TIMES_AS_LONG} times as long"]]
    for flat in found:
        values = (flat.base_bytes, flat.larger_bytes, flat.longer_bytes)
        lines.append([flat.kind, *(f"{value / _MIB:.0f}" for value in values)])
    return columns(lines)
