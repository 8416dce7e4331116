"""
A daemon of ours with an operator's door: what it costs, and how soon it answers.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path

from attrs import frozen

from benchmarks.processes import Failed, Processes

__all__ = ["Answer", "Daemon", "daemon_of"]

CHECKOUT = Path(__file__).resolve().parent.parent

START_S_MAX = 180.0
"""A thousand storages open in far less."""

ANSWER_S_MAX = 60.0
"""One answer of REST; who waits for longer has found something."""

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Answer:
    """What REST said, and how long that took."""

    status: int
    body: bytes
    seconds: float

    def plain(self) -> object:
        """It, as JSON says it."""
        return json.loads(self.body)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket: whoever owns the daemon's files may do everything there."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_S_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@frozen
class Daemon:
    """
    One that runs.

    @ivar started_s: from the beginning of the process until it answered an operator.
    """

    processes: Processes
    name: str
    pid: int
    admin: Path
    started_s: float

    def ask(self, path: str, method: str = "GET", body: object = None) -> Answer:
        """One request."""
        connection = _UnixConnection(self.admin)
        begun = time.monotonic()
        try:
            # Without a word about it, events come as a stream without an end.
            headers = {"Accept": "*/*" if path == "/metrics" else "application/json"}
            headers |= {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
        except OSError as error:
            self.processes.check(self.name)
            raise Failed(f"{self.name} did not answer {method} {path}: {error}") from None
        finally:
            connection.close()
        return Answer(response.status, data, time.monotonic() - begun)

    def good(self, path: str, method: str = "GET", body: object = None) -> Answer:
        """
        One request that has to be granted.

        @raise Failed: it was not.
        """
        answer = self.ask(path, method, body)
        if not 200 <= answer.status < 300:
            raise Failed(f"{self.name}: {method} {path} gave {answer.status}: {answer.body[:400]!r}")
        return answer

    def resident_bytes(self, what: str = "VmRSS") -> int:
        """The memory it has now, or C{VmHWM}: the most it has had."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
        raise Failed(f"{self.name} has ended")

    def processor_s(self) -> float:
        """The processor time it has used."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _CLOCK_TICKS


def daemon_of(
    processes: Processes,
    place: Path,
    name: str,
    topology: str,
    *,
    profile: Path | None = None,
    admin: str = "admin.sock",
) -> Daemon:
    """
    Start a daemon, and return when it answers an operator.

    @param topology: without C{[daemon]}.
    @param profile: where what C{cProfile} has seen goes when the daemon ends.
    """
    socket_path = place / f"{name}.sock"
    config = place / f"{name}.toml"
    config.write_text(f'[daemon]\nstate_dir = "state-{name}"\nadmin = "unix:{socket_path}"\n{topology}')
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))}
    twistd = shutil.which("twistd", path=str(Path(sys.executable).parent))
    if twistd is None:
        raise Failed("twistd is not beside this Python; run this in the environment that DST is installed in")
    command = [sys.executable, twistd, "--nodaemon", "--pidfile="]
    if profile is not None:
        command += ["--profile", str(profile), "--profiler=cprofile", "--savestats"]
    begun = time.monotonic()
    processes.start(name, *command, "dst", "--config", config, environment=environment)
    pid = processes.pid_of(name)
    daemon = Daemon(processes, name, pid, socket_path, 0.0)
    while True:
        processes.check(name)
        if socket_path.exists():
            try:
                daemon.good("/healthz")
                break
            except Failed:
                pass
        if time.monotonic() - begun > START_S_MAX:
            raise Failed(f"{name} does not answer after {START_S_MAX:g} s{processes.last_words(name)}")
        time.sleep(0.02)
    return Daemon(processes, name, pid, socket_path, time.monotonic() - begun)
