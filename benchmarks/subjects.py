"""
Who is measured: DST, and the peers that are installed.

Everybody serves a file of the same size on the same file system over TCP on
loopback, with the page cache and without a flush per write; the mirrors keep three copies behind
three servers of their own.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from benchmarks.processes import Processes, free_port, wait_for_export

__all__ = ["GROUPS", "Kind", "Subject", "missing"]

CHECKOUT = Path(__file__).resolve().parent.parent


@frozen
class Subject:
    """
    A server that runs.

    @ivar servers: its processes, for their processor time.
    """

    kind: Kind
    uri: str
    servers: list[str]


@frozen
class Kind:
    """
    Something that can be measured.

    @ivar group: C{single} (one file) or C{mirror} (three copies).
    @ivar ours: it is DST.
    @ivar programs: what has to be installed.
    """

    name: str
    group: str
    ours: bool
    programs: tuple[str, ...]
    _start: Callable[[Processes, Path, int, str], tuple[int, str, list[str]]]

    def start(self, processes: Processes, directory: Path, size: int) -> Subject:
        """Start it on new files, and return when it serves."""
        place = directory / self.name.replace(" ", "-")
        place.mkdir()
        port, export, servers = self._start(processes, place, size, self.name.replace(" ", "-"))
        wait_for_export(processes, servers, port, export)
        return Subject(self, f"nbd://127.0.0.1:{port}/{export}", servers)


def _new_file(path: Path, size: int) -> Path:
    """A sparse file; the first fill gives it its space."""
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def _twistd(processes: Processes, name: str, place: Path, topology: str) -> None:
    """A daemon of ours, as an operator runs it."""
    config = place / f"{name}.toml"
    config.write_text(topology)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))}
    command = [sys.executable, "-m", "twisted", "--log-level=warn"]
    if shutil.which("twistd", path=str(Path(sys.executable).parent)):
        command = [str(Path(sys.executable).parent / "twistd"), "--nodaemon", "--pidfile="]
    processes.start(name, *command, "dst", "--config", config, environment=environment)


def _dst_file(processes: Processes, place: Path, size: int, name: str) -> tuple[int, str, list[str]]:
    port = free_port()
    topology = f"""
        [daemon]
        state_dir = "state"
        [listeners]
        nbd = "tcp:{port}:interface=127.0.0.1"
        [nodes.disk]
        uri = "file:disk.img?size={size}"
        [exports.disk]
        device = "disk"
    """
    _twistd(processes, name, place, topology)
    return port, "disk", [name]


def _dst_mirror(processes: Processes, place: Path, size: int, name: str) -> tuple[int, str, list[str]]:
    member_size = size + (16 << 20)  # room for the label and the region table
    uris = {}
    servers = []
    for letter in "abc":
        port = free_port()
        topology = f"""
            [daemon]
            state_dir = "state-{letter}"
            [listeners]
            dst = "tcp:{port}:interface=127.0.0.1"
            [nodes.{letter}]
            uri = "file:{letter}.img?size={member_size}"
            [exports.{letter}]
            device = "{letter}"
        """
        _twistd(processes, f"{name}-{letter}", place, topology)
        servers.append(f"{name}-{letter}")
        uris[letter] = f"dst://127.0.0.1:{port}/{letter}"
    port = free_port()
    nodes = "\n".join(f'[nodes.{letter}]\nuri = "{uri}"' for letter, uri in uris.items())
    topology = f"""
        [daemon]
        state_dir = "state"
        [listeners]
        nbd = "tcp:{port}:interface=127.0.0.1"
        {nodes}
        [storages.vol]
        algorithm = "mirror"
        nodes = ["a", "b", "c"]
        [exports.vol]
        device = "vol"
    """
    _twistd(processes, f"{name}-owner", place, topology)
    return port, "vol", [*servers, f"{name}-owner"]


def _nbdkit(processes: Processes, place: Path, size: int, name: str) -> tuple[int, str, list[str]]:
    port = free_port()
    path = _new_file(place / f"{name}.img", size)
    processes.start(name, "nbdkit", "--foreground", "--ipaddr=127.0.0.1", f"--port={port}", "file", path)
    return port, "", [name]


def _qemu_nbd(processes: Processes, place: Path, size: int, name: str) -> tuple[int, str, list[str]]:
    port = free_port()
    path = _new_file(place / "disk.img", size)
    options = ["--persistent", "--shared=8", "--format=raw", "--cache=writeback", "--bind=127.0.0.1"]
    processes.start(name, "qemu-nbd", *options, f"--port={port}", path)
    return port, "", [name]


def _nbd_server(processes: Processes, place: Path, size: int, name: str) -> tuple[int, str, list[str]]:
    port = free_port()
    path = _new_file(place / "disk.img", size)
    config = place / "config"
    listening = f"[generic]\nlistenaddr = 127.0.0.1\nport = {port}\n"
    config.write_text(f"{listening}[disk]\nexportname = {path}\nflush = true\n")
    pid_file = place / "pid"
    processes.start_detached(name, pid_file, "nbd-server", "-C", config, "-p", pid_file)
    return port, "disk", [name]


def _quorum(processes: Processes, place: Path, size: int, name: str) -> tuple[int, str, list[str]]:
    legs = [_nbdkit(processes, place, size, f"{name}-{letter}") for letter in "abc"]
    servers = [server for _port, _export, names in legs for server in names]
    for leg_port, export, names in legs:
        wait_for_export(processes, names, leg_port, export)
    blockdevs = []
    for number, (leg_port, export, _names) in enumerate(legs):
        place_of = f"server.type=inet,server.host=127.0.0.1,server.port={leg_port},export={export}"
        blockdevs += ["--blockdev", f"driver=nbd,node-name=n{number},{place_of}"]
    children = ",".join(f"children.{number}=n{number}" for number in range(3))
    # As ours: a read asks one copy, a write asks all of them.
    quorum = f"driver=quorum,node-name=vol,vote-threshold=2,read-pattern=fifo,{children}"
    port = free_port()
    processes.start(
        name,
        "qemu-storage-daemon",
        *blockdevs,
        *("--blockdev", quorum),
        *("--nbd-server", f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}"),
        *("--export", "type=nbd,id=vol,node-name=vol,name=vol,writable=on"),
    )
    return port, "vol", [*servers, name]


GROUPS: dict[str, list[Kind]] = {
    "single": [
        Kind("DST file", "single", True, (), _dst_file),
        Kind("nbdkit", "single", False, ("nbdkit",), _nbdkit),
        Kind("qemu-nbd", "single", False, ("qemu-nbd",), _qemu_nbd),
        Kind("nbd-server", "single", False, ("nbd-server",), _nbd_server),
    ],
    "mirror": [
        Kind("DST mirror", "mirror", True, (), _dst_mirror),
        Kind("qemu quorum", "mirror", False, ("qemu-storage-daemon", "nbdkit"), _quorum),
    ],
}
"""One exported file, and three copies on three servers."""


def missing(kind: Kind) -> list[str]:
    """The programs it needs that are not installed."""
    return [program for program in kind.programs if shutil.which(program) is None]
