"""
Starting servers, knowing when they serve, and leaving none behind.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

__all__ = ["START_S_MAX", "Failed", "Processes", "free_port", "wait_for_export"]

START_S_MAX = 30.0
"""A server that does not serve by then does not work."""

STOP_S_MAX = 10.0
"""A server that has not ended by then is killed."""

_IHAVEOPT = b"IHAVEOPT"
_OPT_GO = 7
_REP_ACK = 1
_REP_ERROR_BIT = 1 << 31


class Failed(Exception):
    """The benchmark cannot go on; the sentence says why."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Processes:
    """
    The servers of one run, each with its log, all ended when the C{with} block is left.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def start(self, name: str, *command: str | Path, environment: dict[str, str] | None = None) -> None:
        """Start a server in a process group of its own."""
        with open(self.log_of(name), "wb") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._running[name] = process
        self._stack.callback(_end, process)

    def log_of(self, name: str) -> Path:
        """Where the output of a server goes."""
        return self.directory / f"{name}.log"

    def pid_of(self, name: str) -> int:
        """The process id of a server that L{start} has started."""
        return self._running[name].pid

    def check(self, name: str) -> None:
        """
        @raise Failed: the server has ended; the end of its log is said.
        """
        process = self._running.get(name)
        code = None if process is None else process.poll()
        if code is not None:
            lines = self.log_of(name).read_text(errors="replace").splitlines()[-12:]
            raise Failed(f"{name} ended with status {code}:\n  " + "\n  ".join(lines))

    def start_detached(self, name: str, pid_file: Path, *command: str | Path) -> None:
        """Start a server that knows only how to go into the background, and writes its process id."""
        words = [str(word) for word in command]
        with open(self.log_of(name), "wb") as log:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        end = time.monotonic() + START_S_MAX
        while not (pid_file.exists() and pid_file.read_text().strip()):
            if done.returncode != 0 or time.monotonic() > end:
                lines = self.log_of(name).read_text().splitlines()[-12:]
                raise Failed(f"{name} did not start, status {done.returncode}:\n  " + "\n  ".join(lines))
            time.sleep(0.05)
        self._stack.callback(_end_detached, int(pid_file.read_text()))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the group to end, and make it."""
    for number, patience_s in ((signal.SIGTERM, STOP_S_MAX), (signal.SIGKILL, STOP_S_MAX)):
        if process.poll() is None:
            try:
                os.killpg(process.pid, number)
                process.wait(patience_s)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass


def _end_detached(pid: int) -> None:
    """Make a process end that is not our child, and those that it has started."""
    group = None
    end = time.monotonic() + STOP_S_MAX
    try:
        group = os.getpgid(pid)
        while time.monotonic() < end:
            os.killpg(group, signal.SIGTERM)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended


def wait_for_export(processes: Processes, names: list[str], port: int, export: str) -> None:
    """
    Return when the export can be opened over NBD.

    @param names: the servers that have to be alive meanwhile.
    @raise Failed: one of them ended, or it took too long.
    """
    end = time.monotonic() + START_S_MAX
    problem: Exception | str = "nothing happened"
    while time.monotonic() < end:
        for name in names:
            processes.check(name)
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.settimeout(5)
                if _opens(connection, export):
                    return
            problem = "the export is not there"
        except OSError as error:
            problem = error
        time.sleep(0.1)
    raise Failed(f"{names[-1]} does not serve {export!r} after {START_S_MAX:g} s: {problem}")


def _opens(connection: socket.socket, export: str) -> bool:
    """Whether C{NBD_OPT_GO} is granted."""
    stream = connection.makefile("rb")
    if stream.read(16) != b"NBDMAGIC" + _IHAVEOPT:
        raise OSError("it does not speak fixed newstyle NBD")
    stream.read(2)
    name = export.encode()
    payload = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    connection.sendall(struct.pack(">I", 3) + _IHAVEOPT + struct.pack(">II", _OPT_GO, len(payload)) + payload)
    while True:
        header = stream.read(20)
        if len(header) < 20:
            return False
        _magic, _option, kind, length = struct.unpack(">QIII", header)
        stream.read(length)
        if kind == _REP_ACK:
            return True
        if kind & _REP_ERROR_BIT:
            return False
