"""
Starting servers, knowing when they serve, and leaving none behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterable
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
_REP_ERR_TLS_REQD = _REP_ERROR_BIT + 5


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

    @ivar profiles: where daemons of ours leave what C{cProfile} has seen, if they are to.
    @ivar counting: C{strace} counts how often servers that are started from now on make a disk keep what it has. It
        stops them at these system calls alone, and makes all others dearer: they do a quarter of what they can.
    """

    counting = False

    def __init__(self, directory: Path, profiles: Path | None = None) -> None:
        self.directory = directory
        self.profiles = profiles
        self._stack = ExitStack()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._detached: dict[str, int] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def start(self, name: str, *command: str | Path, environment: dict[str, str] | None = None) -> None:
        """Start a server in a process group of its own."""
        counter: list[str] = []
        if self.counting and shutil.which("strace") is not None:
            counter = ["strace", "-f", "--seccomp-bpf", "-qqq", "-e", "signal=none", "-e", "trace=fsync,fdatasync"]
            counter += ["-o", str(self._syncs_of(name))]
        with open(self.log_of(name), "wb") as log:
            process = subprocess.Popen(
                [*counter, *(str(word) for word in command)],
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

    def _syncs_of(self, name: str) -> Path:
        return self.directory / f"{name}.syncs"

    def syncs(self, names: Iterable[str]) -> int:
        """How often these servers have made a disk keep what it has; -1 where that is not counted."""
        told = [self._syncs_of(name).read_bytes() for name in names if self._syncs_of(name).exists()]
        return sum(text.count(b"\n") - text.count(b" resumed>") for text in told) if told else -1

    def pid_of(self, name: str) -> int:
        """The process id of a server that L{start} or L{start_detached} has started."""
        return self._running[name].pid if name in self._running else self._detached[name]

    def stop(self, name: str) -> None:
        """End one server that L{start} has started; its name can be used again."""
        _end(self._running.pop(name))

    def signal(self, name: str, number: int) -> None:
        """
        Send a signal to a server that L{start} has started.  What is stopped is made to go on before it is ended.
        """
        process = self._running[name]
        if number == signal.SIGSTOP:
            self._stack.callback(_signalled, process, signal.SIGCONT)
        _signalled(process, number)

    def unmount_in_the_end(self, place: Path) -> None:
        """There may be a file system of a server that cannot unmount it any more."""
        self._stack.callback(_unmount, place)

    def check(self, name: str) -> None:
        """
        @raise Failed: the server has ended; the end of its log is said.
        """
        process = self._running.get(name)
        code = None if process is None else process.poll()
        if code is not None:
            raise Failed(f"{name} ended with status {code}{self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """The end of a server's log, to stand behind a sentence; the log itself goes with everything else."""
        lines = self.log_of(name).read_text(errors="replace").splitlines()[-12:]
        return ":\n  " + "\n  ".join(lines) if lines else ", and has said nothing"

    def start_detached(self, name: str, pid_file: Path, *command: str | Path) -> None:
        """Start a server that knows only how to go into the background, and writes its process id."""
        words = [str(word) for word in command]
        with open(self.log_of(name), "wb") as log:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        end = time.monotonic() + START_S_MAX
        while not (pid_file.exists() and pid_file.read_text().strip()):
            if done.returncode != 0 or time.monotonic() > end:
                raise Failed(f"{name} did not start, status {done.returncode}{self.last_words(name)}")
            time.sleep(0.05)
        self._detached[name] = int(pid_file.read_text())
        self._stack.callback(_end_detached, self._detached[name])


def _signalled(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        process.send_signal(number)


def _unmount(place: Path) -> None:
    subprocess.run(
        ["fusermount3", "-u", "-z", "-q", str(place)], capture_output=True, timeout=STOP_S_MAX, check=False
    )


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


def _connected(where: int | Path) -> socket.socket:
    """A connection to a TCP port of 127.0.0.1, or to a UNIX socket."""
    if isinstance(where, int):
        return socket.create_connection(("127.0.0.1", where), 5)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(5)
        connection.connect(str(where))
    except OSError:
        connection.close()
        raise
    return connection


def wait_for_export(
    processes: Processes, names: list[str], where: int | Path, export: str, *, tls: bool = False
) -> None:
    """
    Return when the export can be opened over NBD.

    @param where: a TCP port of 127.0.0.1, or a UNIX socket.
    @param tls: an answer that it has to be encrypted will do.
    @param names: the servers that have to be alive meanwhile.
    @raise Failed: one of them ended, or it took too long.
    """
    end = time.monotonic() + START_S_MAX
    problem: Exception | str = "nothing happened"
    while time.monotonic() < end:
        for name in names:
            processes.check(name)
        try:
            with _connected(where) as connection:
                connection.settimeout(5)
                if _opens(connection, export, tls):
                    return
            problem = "the export is not there"
        except OSError as error:
            problem = error
        time.sleep(0.1)
    raise Failed(f"{names[-1]} does not serve {export!r} after {START_S_MAX:g} s: {problem}")


def _opens(connection: socket.socket, export: str, tls: bool) -> bool:
    """Whether C{NBD_OPT_GO} is granted, or with C{tls} refused for want of it."""
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
            return tls and kind == _REP_ERR_TLS_REQD
