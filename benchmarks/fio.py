"""
One measurement: C{fio} as an NBD client.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from attrs import frozen

from benchmarks.processes import Failed

__all__ = ["ROWS", "Cell", "Row", "check_fio", "fill", "measure"]


READ_WARM_UP_S = 0.3
WRITE_WARM_UP_S = 2.0
"""
Load before what is counted.  For writes so long that a mirror of ours has marked the regions that it
writes to: it unmarks them while the other servers have their turn, and marks each again before the first write to it.
"""


@frozen
class Row:
    """One kind of load: random offsets, one connection."""

    write: bool
    block_bytes: int
    depth: int

    @property
    def name(self) -> str:
        """As it stands in the table."""
        size = f"{self.block_bytes >> 20} MiB" if self.block_bytes >= 1 << 20 else f"{self.block_bytes >> 10} KiB"
        return f"{'write' if self.write else 'read'} {size} depth {self.depth}"


ROWS = [
    Row(write, block_bytes, depth)
    for block_bytes, depth in ((4096, 1), (4096, 32), (65536, 16), (1 << 20, 8))
    for write in (False, True)
]


@frozen
class Cell:
    """What one measurement found; latencies in microseconds."""

    per_s: float
    latency_us_median: float
    latency_us_p99: float


def check_fio() -> str:
    """
    The version of fio.

    @raise Failed: there is none, or it has no C{nbd} engine.
    """
    if shutil.which("fio") is None:
        raise Failed("fio is not installed, and nothing can be measured without it (Debian: apt install fio)")
    engines = subprocess.run(["fio", "--enghelp"], capture_output=True, text=True, check=True).stdout
    if "nbd" not in engines.split():
        raise Failed("this fio was built without its nbd engine; Debian's has it")
    return subprocess.run(["fio", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _run(directory: Path, uri: str, size: int, *options: str, timeout_s: float) -> dict[str, object]:
    """The one job of fio's report."""
    command = ["fio", "--name=job", "--ioengine=nbd", f"--uri={uri}", f"--size={size}", "--output-format=json"]
    try:
        done = subprocess.run(
            [*command, *options], cwd=directory, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"fio did not end within {timeout_s:g} s on {uri}") from None
    start = done.stdout.find("{")  # a line of text may come before
    if done.returncode != 0 or start < 0:
        raise Failed(f"fio failed on {uri}: {(done.stderr or done.stdout).strip()[-600:]}")
    job: dict[str, object] = json.loads(done.stdout[start:])["jobs"][0]
    if job.get("error"):
        raise Failed(f"{uri} gave the error {job['error']} to fio")
    return job


def fill(directory: Path, uri: str, size: int) -> None:
    """
    Write everything once, so that no server answers from holes.

    In small blocks: after large ones the page cache of some kernels (ext4 on Linux 6.18) consists of large
    folios, and takes 30 us for every small write into one, which hides the differences between servers.
    """
    options = ["--rw=write", "--bs=4k", "--iodepth=32", "--refill_buffers"]
    _run(directory, uri, size, *options, timeout_s=300)


def measure(directory: Path, uri: str, size: int, row: Row, seconds: float) -> Cell:
    """Put the load of C{row} on a server for so long, after a warm-up that is no longer."""
    warm_up_s = min(seconds, WRITE_WARM_UP_S if row.write else READ_WARM_UP_S)
    job = _run(
        directory,
        uri,
        size,
        f"--rw={'randwrite' if row.write else 'randread'}",
        f"--bs={row.block_bytes}",
        f"--iodepth={row.depth}",
        "--time_based",
        f"--runtime={seconds:g}",
        f"--ramp_time={warm_up_s:g}",
        "--randrepeat=0",
        "--norandommap",
        timeout_s=warm_up_s + seconds + 60,
    )
    side = job["write" if row.write else "read"]
    assert isinstance(side, dict)
    percentiles = side["clat_ns"].get("percentile", {})
    return Cell(side["iops"], percentiles.get("50.000000", 0) / 1000, percentiles.get("99.000000", 0) / 1000)
