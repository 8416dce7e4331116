"""
Where the demo happens: one directory, and four daemons that are processes of their own.

Whatever happens to the demo, nothing is left of it: the processes are ended by their numbers when it ends, and where
the system can do that (Linux), they die with it even if nobody is left to end them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from attrs import Factory, define

import dst
from dst.errors import InvalidRequest, Unavailable

__all__ = ["NODES", "OWNER", "Stage"]

NODES = ("a", "b", "c")
OWNER = "mirror"

STOP_S_MAX = 30.0
"""A daemon that was asked to end and has not by then is killed."""

_STARTED = "everything is started"

_NODE = """\
# One node: a daemon with a file, served to other daemons.
[listeners]
dst = "tcp:{port}:interface=127.0.0.1"
[nodes.{name}]
uri = "file:{name}.img?size={size}"
[exports.{name}]
device = "{name}"
"""

_OWNER = """\
# The mirror of the three, served to whoever speaks NBD on this machine.
[daemon]
state_dir = "state"
admin = "tcp:{admin}:interface=127.0.0.1"
[listeners]
nbd = "tcp:{nbd}:interface=127.0.0.1"
{remotes}
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b", "c"]
region_size = "64K"
grace_s = 1                  # 8 unless it is said: for how long a node may be interrupted before it leaves
[exports.vol]
device = "vol"
"""

_REMOTE = """\
[nodes.{name}]
uri = "dst://127.0.0.1:{port}/{name}?resend_s_max=1"
"""

_PR_SET_PDEATHSIG = 1


def _free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(holder.getsockname()[1]) for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def _die_with_parent() -> None:
    """In the child, before it becomes the daemon."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        pass  # another system: the demo ends them all the same, unless it is killed itself


@define
class Stage:
    """
    @ivar directory: everything that the daemons write.
    @ivar kept: whether it is left when all is over.
    @ivar processes: the daemons that were started, by name, as far as they were not buried.
    """

    directory: Path
    kept: bool
    node_bytes: int
    admin_port: int
    nbd_port: int
    processes: dict[str, subprocess.Popen[bytes]] = Factory(dict)

    @classmethod
    def prepared(cls, keep: str | None, node_bytes: int) -> Stage:
        """
        Make the directory and write the topologies into it.

        @param keep: where it is to be and to stay; C{None}: where temporary things are, and only until the end.
        @raise InvalidRequest: there is something already.
        """
        if keep is None:
            directory = Path(tempfile.mkdtemp(prefix="dst-demo-"))
        else:
            directory = Path(keep).absolute()
            try:
                directory.mkdir(parents=True, exist_ok=True)
                empty = not any(directory.iterdir())
            except OSError as error:
                raise InvalidRequest(f"{directory} cannot be used: {error.strerror}; name another one") from None
            if not empty:
                raise InvalidRequest(f"{directory} is not empty; the demo wants a directory of its own")
        admin, nbd, *ports = _free_ports(2 + len(NODES))
        stage = cls(directory, keep is not None, node_bytes, admin, nbd)
        places = dict(zip(NODES, ports, strict=True))
        for name, port in places.items():
            stage.topology(name).write_text(_NODE.format(name=name, port=port, size=node_bytes))
        remotes = "".join(_REMOTE.format(name=name, port=port) for name, port in places.items())
        stage.topology(OWNER).write_text(_OWNER.format(admin=admin, nbd=nbd, remotes=remotes))
        return stage

    @property
    def admin_url(self) -> str:
        """Where the mirror's daemon is asked."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def disk_uri(self) -> str:
        """Where the disk is."""
        return f"nbd://127.0.0.1:{self.nbd_port}/vol"

    def topology(self, name: str) -> Path:
        """The file that describes a daemon."""
        return self.directory / f"{name}.toml"

    def image(self, name: str) -> Path:
        """The file that is a node's media."""
        return self.directory / f"{name}.img"

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    # -- processes

    def start(self, name: str) -> None:
        """Start a daemon; L{has_started} tells when it serves."""
        where = str(Path(dst.__file__).resolve().parents[1])
        paths = [where, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        run = "from twisted.scripts.twistd import run; run()"
        command = [sys.executable, "-c", run, "--nodaemon", "--pidfile=", "dst", "--config", str(self.topology(name))]
        with open(self._log(name), "wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the demo, which ends them in its own way
                preexec_fn=_die_with_parent,
            )

    def has_started(self, name: str) -> bool:
        """
        Whether a daemon serves by now.

        @raise Unavailable: it has ended instead.
        """
        status = self.processes[name].poll()
        if status is not None:
            raise Unavailable(f"the daemon of {name} has ended with {status}: {self.last_words(name)}")
        return _STARTED in self._log(name).read_text(errors="replace")

    def last_words(self, name: str) -> str:
        """The last lines of a daemon's log, as one."""
        try:
            lines = self._log(name).read_text(errors="replace").split("\n")
        except OSError:
            return "it has no log"
        return " | ".join(line.strip() for line in lines if line.strip())[-600:] or "its log is empty"

    def number(self, name: str) -> int:
        """Of the process."""
        return self.processes[name].pid

    def kill(self, name: str) -> None:
        """As C{kill -9} does."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def ask_to_end(self, name: str) -> None:
        """As a supervisor does; L{has_ended} tells when it has."""
        self.processes[name].terminate()

    def has_ended(self, name: str) -> bool:
        """Whether a daemon that was asked to end has done so."""
        return self.processes[name].poll() is not None

    # -- the end

    def clear(self) -> None:
        """Leave nothing: no process, and no file unless they were to be kept."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            self._end_all((OWNER, *NODES))
            if not self.kept:
                shutil.rmtree(self.directory, ignore_errors=True)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end_all(self, names: Iterable[str]) -> None:
        """In order where the files are to be used again, at once where not."""
        for name in names:
            process = self.processes.pop(name, None)
            if process is None:
                continue
            if self.kept:
                process.terminate()
                try:
                    process.wait(STOP_S_MAX)
                except subprocess.TimeoutExpired:
                    pass
            if process.poll() is None:
                process.kill()
            process.wait()
