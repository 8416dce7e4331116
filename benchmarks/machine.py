"""
Where the figures are from: versions, processor, kernel, load.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

import dst
from benchmarks.fio import check_fio

__all__ = ["BUSY_LOAD", "busy", "machine", "source_digest"]

_VERSION_OPTIONS = {
    "nbdkit": "--version",
    "qemu-nbd": "--version",
    "qemu-storage-daemon": "--version",
    "nbd-server": "-V",
    "nbdcopy": "--version",
    "glusterd": "--version",
}

BUSY_LOAD = 0.3
"""Programs that want to run, beside ours, for each processor; above this figures are no figures."""


def _first_line(program: str, option: str) -> str:
    if shutil.which(program) is None:
        return "not installed"
    done = subprocess.run([program, option], capture_output=True, text=True, timeout=20, check=False)
    return ((done.stdout or done.stderr).strip().splitlines() or ["no version"])[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def source_digest() -> str:
    """Of the code of DST; what was measured with other code is not continued."""
    digest = hashlib.sha256()
    for path in sorted(Path(dst.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def busy(load: float, processors: int) -> bool:
    """Whether others want so much of the processors that nothing should be concluded."""
    return load > BUSY_LOAD * processors


def machine() -> dict[str, object]:
    """Everything that a figure depends on and that can be told."""
    return {
        "dst": dst.__version__,
        "source": source_digest(),
        "python": platform.python_version(),
        "fio": check_fio(),
        **{program: _first_line(program, option) for program, option in _VERSION_OPTIONS.items()},
        "kernel": platform.release(),
        "processor": _processor(),
        "processors": os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 2),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
