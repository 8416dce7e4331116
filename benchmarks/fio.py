"""
One measurement: C{fio} as an NBD client.

The warm-up is a run of its own, so that the processor time of both sides, and the memory of the servers, are those of
the blocks that are counted.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from attrs import evolve, frozen

from benchmarks.processes import Failed
from benchmarks.rows import Row
from benchmarks.usage import Watch

__all__ = ["Cell", "Client", "check_fio", "children_s", "command_of", "fill", "measure", "parse_job", "row_options"]


READ_WARM_UP_S = 0.3
WRITE_WARM_UP_S = 2.0
"""
Load before what is counted.  For writes so long that a mirror of ours has marked the regions that it
writes to: it unmarks them while the other servers have their turn, and marks each again before the first write to it.
"""
SETTLING_TIMES = 4.0
"""Where a load is to be settled, the warm-up is so many times as long as what is counted."""


@frozen
class Client:
    """
    How fio gets to a server.

    @ivar prefix: what the command begins with.
    @ivar environment: beside ours.
    """

    uri: str
    prefix: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@frozen
class Cell:
    """
    What one measurement found.

    @ivar server_s: processor time of the servers.
    @ivar client_s: processor time of the client, its start included.
    @ivar peak_bytes: the most memory of the servers, meanwhile.
    @ivar syncs: how often the servers told a disk to keep what it has; -1 if nobody counted.
    """

    per_s: float
    bytes: int
    server_s: float
    client_s: float
    peak_bytes: int
    latency_us_median: float = 0.0
    latency_us_p99: float = 0.0
    syncs: int = -1


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


def parse_job(text: str, uri: str) -> dict[str, object]:
    """
    The one job of fio's report; lines of text may come before it.

    @raise Failed: there is no report, or the job had an error.
    """
    try:
        job: dict[str, object] = json.loads(text[text.index("{") :])["jobs"][0]
    except (ValueError, LookupError):
        raise Failed(f"fio did not report on {uri}: {text.strip()[-600:]}") from None
    if job.get("error"):
        raise Failed(f"{uri} gave the error {job['error']} to fio")
    return job


def row_options(row: Row, seconds: float) -> list[str]:
    """What fio is told of a load."""
    return [
        f"--rw={'randrw' if row.mixed else 'randwrite' if row.write else 'randread'}",
        *(["--unified_rw_reporting=mixed"] if row.mixed else []),
        f"--bs={row.block_bytes}",
        f"--iodepth={row.depth}",
        f"--numjobs={row.clients}",
        "--group_reporting",
        "--time_based",
        "--randrepeat=0",
        "--norandommap",
        *([f"--blockalign={row.align_bytes}"] if row.align_bytes else []),
        f"--runtime={round(seconds * 1000)}ms",  # fio takes "0.7" for no time, and goes on until all was read once
    ]


def command_of(client: Client, size: int, *options: str) -> list[str]:
    """fio as a client."""
    command = ["fio", "--name=job", "--ioengine=nbd", f"--uri={client.uri}", f"--size={size}", "--output-format=json"]
    return [*client.prefix, *command, *options]


def _run(directory: Path, client: Client, size: int, *options: str, timeout_s: float) -> dict[str, object]:
    """The one job of fio's report."""
    try:
        done = subprocess.run(
            command_of(client, size, *options),
            cwd=directory,
            env={**os.environ, **dict(client.environment)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"fio did not end within {timeout_s:g} s on {client.uri}") from None
    if done.returncode != 0:
        raise Failed(f"fio failed on {client.uri}: {(done.stderr or done.stdout).strip()[-600:]}")
    return parse_job(done.stdout, client.uri)


def fill(directory: Path, client: Client, size: int) -> None:
    """
    Write everything once, so that no server answers from holes.

    In small blocks: after large ones the page cache of some kernels (ext4 on Linux 6.18) consists of large
    folios, and takes 30 us for every small write into one, which hides the differences between servers.
    """
    options = ["--rw=write", "--bs=4k", "--iodepth=32", "--refill_buffers"]
    _run(directory, client, size, *options, timeout_s=600)


def children_s() -> float:
    """Processor time of the children that have been waited for; clients are, servers are not while they run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(
    directory: Path,
    client: Client,
    size: int,
    row: Row,
    seconds: float,
    servers: list[int],
    syncs: Callable[[], int] = lambda: -1,
) -> Cell:
    """
    Put the load of C{row} on a server for so long, after a warm-up.

    @param servers: their process ids.
    @param syncs: how often they have told a disk to keep what it has, so far.
    """
    if row.places:
        row = evolve(row, align_bytes=max(row.block_bytes, size // row.places))
    warm_up_s = min(seconds, WRITE_WARM_UP_S if row.write else READ_WARM_UP_S)
    if row.settled:
        warm_up_s = seconds * SETTLING_TIMES
    _run(directory, client, size, *row_options(row, warm_up_s), timeout_s=warm_up_s + 60)
    before_s, syncs_before = children_s(), syncs()
    with Watch(servers) as watch:
        job = _run(directory, client, size, *row_options(row, seconds), timeout_s=seconds + 60)
    side = job["mixed" if row.mixed else "write" if row.write else "read"]
    assert isinstance(side, dict)
    percentiles = side["clat_ns"].get("percentile", {})
    return Cell(
        side["iops"],
        side["io_bytes"],
        watch.usage.processor_s,
        children_s() - before_s,
        watch.usage.peak_bytes,
        percentiles.get("50.000000", 0) / 1000,
        percentiles.get("99.000000", 0) / 1000,
        syncs() - syncs_before if syncs_before >= 0 else -1,
    )
