"""
Where a block's time goes: the daemons of ours under one load, watched by a profiler.

C{py-spy} looks from outside and costs the daemons next to nothing; it draws a flame graph of Python's frames.
C{perf}, where the kernel allows it, tells the rest: system calls, copies, the interpreter itself.  Without py-spy the
daemons run under C{cProfile}, which slows them down and makes calls look dearer than they are.
"""

from __future__ import annotations

import io
import pstats
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.fio import WRITE_WARM_UP_S, fill, measure
from benchmarks.groups import Group
from benchmarks.processes import Processes
from benchmarks.rows import Row

__all__ = ["profile", "py_spy"]

SAMPLES_PER_S = 400
"""A block takes some 20 us; thousands of samples tell its parts within a percent."""

_LINES = 45


def py_spy() -> str | None:
    """The program, beside this Python or elsewhere."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


def _perf_works(directory: Path) -> bool:
    if shutil.which("perf") is None:
        return False
    command = [
        "perf",
        "record",
        "-q",
        "-g",
        "-o",
        str(directory / "try.perf"),
        "--",
        sys.executable,
        "-c",
        "sum(range(10**6))",
    ]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def profile(group: Group, row: Row, seconds: float, size: int, output: Path) -> list[Path]:
    """
    Profile the servers of ours under the load of one row.

    @return: what was written, for each daemon.
    """
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    kind = next(kind for kind in group.kinds if kind.ours)
    program = py_spy()
    with tempfile.TemporaryDirectory(prefix="dst-benchmark-") as name:
        directory = Path(name)
        with Processes(directory, None if program else directory) as processes:
            subject = kind.start(processes, directory, size)
            fill(directory, subject.client, size)
            pids = {server: processes.pid_of(server) for server in subject.servers}
            watchers, written = _watch(pids, program, directory, output) if program else ([], [])
            try:
                if row.copy:
                    assert subject.copy is not None
                    subject.copy()
                else:
                    measure(directory, subject.client, size, row, max(seconds, WRITE_WARM_UP_S), list(pids.values()))
            finally:
                for watcher in watchers:
                    watcher.send_signal(signal.SIGINT)
                for watcher in watchers:
                    watcher.wait(60)
        if program is None:
            return [_told(directory / f"{server}.pstats", output) for server in pids]
        return [path for path in written if path.exists()] + _perf_told(directory, pids, output)


def _watch(
    pids: dict[str, int], program: str, directory: Path, output: Path
) -> tuple[list[subprocess.Popen[bytes]], list[Path]]:
    """Begin; each ends at SIGINT."""
    watchers, written = [], []
    perf = _perf_works(directory)
    for server, pid in pids.items():
        graph = output / f"{server}.svg"
        command = [program, "record", "--pid", str(pid), "--rate", str(SAMPLES_PER_S), "--output", str(graph)]
        commands = [[*command, "--format", "flamegraph", "--threads", "--nonblocking", "--duration", "unlimited"]]
        if perf:
            commands.append(["perf", "record", "-q", "-g", "-p", str(pid), "-o", str(directory / f"{server}.perf")])
        for words in commands:
            with open(directory / "profilers.log", "ab") as log:
                watchers.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        written.append(graph)
    return watchers, written


def _perf_told(directory: Path, pids: dict[str, int], output: Path) -> list[Path]:
    """The functions of the kernel, the interpreter and the libraries that took most, as text."""
    written = []
    for server in pids:
        data = directory / f"{server}.perf"
        if not data.exists():
            continue
        command = [
            "perf",
            "report",
            "--stdio",
            "--no-children",
            "-g",
            "none",
            "--percent-limit",
            "0.5",
            "-i",
            str(data),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0 and done.stdout.strip():
            written.append(output / f"{server}.perf.txt")
            written[-1].write_text(done.stdout)
    return written


def _told(stats: Path, output: Path) -> Path:
    """What cProfile has seen, the functions that took most by themselves first."""
    text = io.StringIO()
    pstats.Stats(str(stats), stream=text).sort_stats("tottime").print_stats(_LINES)
    path = output / f"{stats.stem}.txt"
    path.write_text(text.getvalue())
    return path
