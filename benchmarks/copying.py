"""
Copying everything to a new place: a replaced member of a mirror, next to C{nbdcopy} from one nbdkit to another.

Both copy the same bytes over TCP to a new sparse file, and both end with a flush.  The time is a user's: from the
command until it is done.
"""

from __future__ import annotations

import http.client
import json
import mmap
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.fio import Cell, children_s
from benchmarks.processes import Failed, Processes, wait_for_export
from benchmarks.rows import COPY
from benchmarks.subjects import Kind, Served, dst_member, dst_mirror, nbdkit
from benchmarks.usage import Watch

__all__ = ["COPY_KINDS"]

COPY_S_MAX = 600.0
"""256 MiB take a second."""

ASK_INTERVAL_S = 0.02
"""How exactly the end is seen."""


class Operator(http.client.HTTPConnection):
    """REST over the UNIX socket of a daemon."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=COPY_S_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """
        One request.

        @raise Failed: it was refused.
        """
        headers = {} if body is None else {"Content-Type": "application/json"}
        self.request(method, path, None if body is None else json.dumps(body), headers)
        response = self.getresponse()
        data = response.read()
        if response.status >= 300:
            raise Failed(f"{method} {path} gave {response.status}: {data[:400]!r}")
        told: dict[str, object] = json.loads(data)
        return told


def _until(processes: Processes, servers: list[str], what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + COPY_S_MAX
    while not condition():
        for server in servers:
            processes.check(server)
        if time.monotonic() > end:
            raise Failed(f"{servers[-1]}: not {what} after {COPY_S_MAX:g} s")
        time.sleep(ASK_INTERVAL_S)


class _Resync:
    """Replaces the third member of a mirror, again and again."""

    def __init__(self, processes: Processes, place: Path, size: int, name: str) -> None:
        self._processes, self._place, self._size, self._name = processes, place, size, name
        self._admin = place / "admin.sock"
        self._member = "c"
        self._number = 0
        self._owner = f"{name}-owner"
        self.served = dst_mirror(processes, place, size, name, admin=f"unix:{self._admin}")

    def copy(self) -> Cell:
        """Put a new daemon with a new file at the place of the third, and wait until the mirror is whole."""
        self._number += 1
        new = f"c{self._number}"
        uri = dst_member(self._processes, self._place, self._size, self._name, new)
        port = int(uri.rpartition(":")[2].partition("/")[0])
        self._until("listening", lambda: _listens(port))
        operator = Operator(self._admin)
        try:
            self._until("healthy", lambda: _healthy(operator))
            before = len(_resyncs(operator))
            names = [*self.served.servers[:2], self._owner, f"{self._name}-{new}"]
            with_memory(self._size)
            with Watch([self._processes.pid_of(name) for name in names]) as watch:
                begun = time.monotonic()
                operator.ask("POST", "/v1/storages/vol/replace", {"node": "c", "uri": uri})
                self._until("copied", lambda: len(_resyncs(operator)) > before)
                self._until("healthy", lambda: _healthy(operator))
                seconds = time.monotonic() - begun
            record = _resyncs(operator)[-1]
        finally:
            operator.close()
        if record["outcome"] != "in-sync" or int(str(record["bytes_copied"])) < self._size:
            raise Failed(f"{self._name} has not copied everything: {record}")
        old = f"{self._name}-{self._member}"
        self._processes.stop(old)
        self.served.servers[self.served.servers.index(old)] = f"{self._name}-{new}"
        (self._place / f"{self._member}.img").unlink(missing_ok=True)
        self._member = new
        return _cell(self._size, seconds, watch, 0.0)

    def _until(self, what: str, condition: Callable[[], bool]) -> None:
        _until(self._processes, [self._owner], what, condition)


def with_memory(size: int) -> None:
    """
    Have the kernel own at least twice so much free memory that it can hand out at once.

    A virtual machine gives its host free memory back after a second or so, and gets each page again when it touches
    it: that takes a second for 256 MiB, three times as long as to copy them.  Whoever came first would pay for it.
    """
    with mmap.mmap(-1, 2 * size) as memory:
        for at in range(0, 2 * size, mmap.PAGESIZE):
            memory[at] = 1


def _cell(size: int, seconds: float, watch: Watch, client_s: float) -> Cell:
    per_s = size / COPY.block_bytes / seconds
    return Cell(per_s, size, watch.usage.processor_s, client_s, watch.usage.peak_bytes)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def _healthy(operator: Operator) -> bool:
    storages = operator.ask("GET", "/v1/status")["storages"]
    assert isinstance(storages, list)
    return all(storage["health"] == "healthy" for storage in storages)


def _resyncs(operator: Operator) -> list[dict[str, object]]:
    """Those that have ended, the oldest first."""
    records = operator.ask("GET", "/v1/storages/vol/resyncs")["resyncs"]
    assert isinstance(records, list)
    return records


def _resync(processes: Processes, place: Path, size: int, name: str) -> Served:
    resync = _Resync(processes, place, size, name)
    resync.served.copy = resync.copy
    return resync.served


def _nbdcopy(processes: Processes, place: Path, size: int, name: str) -> Served:
    source = nbdkit(processes, place, size, name)
    number = 0

    def copy() -> Cell:
        nonlocal number
        number += 1
        target_name = f"{name}-{number}"
        target = nbdkit(processes, place, size, target_name)
        wait_for_export(processes, target.servers, target.where, target.export)
        ends = [f"nbd://127.0.0.1:{served.where}/" for served in (source, target)]
        before_s = children_s()
        with_memory(size)
        with Watch([processes.pid_of(name), processes.pid_of(target_name)]) as watch:
            begun = time.monotonic()
            command = ["nbdcopy", "--flush", *ends]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COPY_S_MAX, check=False)
            seconds = time.monotonic() - begun
        client_s = children_s() - before_s
        if done.returncode != 0:
            raise Failed(f"nbdcopy failed: {done.stderr.strip()[-400:]}")
        processes.stop(target_name)
        (place / f"{target_name}.img").unlink()
        return _cell(size, seconds, watch, client_s)

    source.copy = copy
    return source


COPY_KINDS = (
    Kind("DST resync", True, (), _resync),
    Kind("nbdcopy", False, ("nbdkit", "nbdcopy"), _nbdcopy),
)
"""The bytes of one device."""
