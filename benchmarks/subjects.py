"""
Who is measured: DST, and the peers that are installed.

Everybody serves a file of the same size on the same file system over TCP on
loopback, with the page cache and without a flush per write; the mirrors keep three copies behind
three servers of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from attrs import define, evolve, frozen

from benchmarks.fio import Cell, Client
from benchmarks.processes import Failed, Processes, free_port, wait_for_export

__all__ = [
    "FAR_KINDS",
    "MIRROR_KINDS",
    "SINGLE_KINDS",
    "TLS_KINDS",
    "WITHOUT_CHECKSUMS",
    "Kind",
    "Served",
    "Subject",
    "dst_member",
    "dst_mirror",
    "missing",
    "new_file",
    "nbdkit",
    "twistd",
]

CHECKOUT = Path(__file__).resolve().parent.parent

MEMBER_EXTRA_BYTES = 16 << 20
"""Room for the label and the region table."""


@define
class Served:
    """
    What a server that was started can be reached by.

    @ivar where: a TCP port of 127.0.0.1, or a UNIX socket.
    @ivar servers: its processes, by the names they were started under.
    @ivar certificates: the directory with those of the client, if it has to speak TLS.
    @ivar copy: copies everything to a new place, if that is what is measured.
    """

    where: int | Path
    export: str
    servers: list[str]
    certificates: Path | None = None
    copy: Callable[[], Cell] | None = None

    def client(self, place: Path) -> Client:
        """How fio gets there."""
        if isinstance(self.where, Path):
            return Client(f"nbd+unix:///{self.export}?socket={self.where}")
        if self.certificates is None:
            return Client(f"nbd://127.0.0.1:{self.where}/{self.export}")
        home = place / "home"
        (home / ".pki").mkdir(parents=True, exist_ok=True)
        if not (home / ".pki" / "libnbd").exists():
            (home / ".pki" / "libnbd").symlink_to(self.certificates.resolve())
        # fio does not let its libnbd be told where the certificates are, and for root that looks below /etc only.
        prefix = ("unshare", "--user", "--map-user=1000") if os.geteuid() == 0 else ()
        return Client(f"nbds://127.0.0.1:{self.where}/{self.export}", prefix, (("HOME", str(home)),))


Starter = Callable[[Processes, Path, int, str], Served]


@frozen
class Subject:
    """
    A server that runs.

    @ivar size: bytes of its device.
    """

    kind: Kind
    client: Client
    size: int
    servers: list[str]
    copy: Callable[[], Cell] | None


@frozen
class Kind:
    """
    Something that can be measured.

    @ivar ours: it is what the goals are about.
    @ivar reference: it is measured to be looked at, and not compared with.
    @ivar programs: what has to be installed.
    @ivar refusal: one sentence why it cannot run here all the same, or nothing.
    @ivar times_as_large: its device is so many times as large as others, and sparse; else it is filled.
    @ivar counting: what it makes its disks keep is counted.
    """

    name: str
    ours: bool
    programs: tuple[str, ...]
    starter: Starter
    reference: bool = False
    refusal: Callable[[], str] = lambda: ""
    times_as_large: int = 1
    counting: bool = False

    def start(self, processes: Processes, directory: Path, size: int) -> Subject:
        """Start it on new files, and return when it serves."""
        name = self.name.replace(" ", "-")
        place = directory / name
        place.mkdir()
        size *= self.times_as_large
        processes.counting = self.counting
        served = self.starter(processes, place, size, name)
        wait_for_export(processes, served.servers, served.where, served.export, tls=served.certificates is not None)
        return Subject(self, served.client(place), size, served.servers, served.copy)


def new_file(path: Path, size: int) -> Path:
    """A sparse file; the first fill gives it its space."""
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def twistd(processes: Processes, name: str, place: Path, topology: str, *, checksums: bool = True) -> None:
    """A daemon of ours, as an operator runs it."""
    config = place / f"{name}.toml"
    config.write_text(topology)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))}
    program = ("-m", "twisted.scripts.twistd") if checksums else ("-m", "benchmarks.without_checksums")
    if checksums and shutil.which("twistd", path=str(Path(sys.executable).parent)):
        program = (str(Path(sys.executable).parent / "twistd"),)
    options = ["--nodaemon", "--pidfile="]
    if processes.profiles is not None:
        options += ["--profile", str(processes.profiles / f"{name}.pstats"), "--profiler=cprofile", "--savestats"]
    command = [sys.executable, *program, *options, "dst", "--config", config]
    processes.start(name, *command, environment=environment)


def _dst_file(
    processes: Processes,
    place: Path,
    size: int,
    name: str,
    *,
    daemon: str = "",
    nbd: str = "",
    certificates: Path | None = None,
) -> Served:
    port = free_port()
    listener = nbd.format(port=port) or f'"tcp:{port}:interface=127.0.0.1"'
    topology = f"""
        [daemon]
        state_dir = "state"
        {daemon}
        [listeners]
        nbd = {listener}
        [nodes.disk]
        uri = "file:disk.img?size={size}"
        [exports.disk]
        device = "disk"
    """
    twistd(processes, name, place, topology)
    return Served(port, "disk", [name], certificates)


def dst_member(
    processes: Processes, place: Path, size: int, name: str, letter: str, *, checksums: bool = True
) -> str:
    """A daemon with one file that is a member of a mirror; returns the address that the mirror is told."""
    port = free_port()
    topology = f"""
        [daemon]
        state_dir = "state-{letter}"
        [listeners]
        dst = "tcp:{port}:interface=127.0.0.1"
        [nodes.{letter}]
        uri = "file:{letter}.img?size={size + MEMBER_EXTRA_BYTES}"
        [exports.{letter}]
        device = "{letter}"
    """
    twistd(processes, f"{name}-{letter}", place, topology, checksums=checksums)
    return f"dst://127.0.0.1:{port}/{letter}"


def dst_mirror(
    processes: Processes,
    place: Path,
    size: int,
    name: str,
    *,
    checksums: bool = True,
    admin: str = "",
    options: str = "",
) -> Served:
    """
    Three daemons with a file each, and one with the mirror.

    @param admin: where the latter answers an operator.
    @param options: more of what the topology says of the mirror.
    """
    uris = {letter: dst_member(processes, place, size, name, letter, checksums=checksums) for letter in "abc"}
    port = free_port()
    nodes = "\n".join(f'[nodes.{letter}]\nuri = "{uri}"' for letter, uri in uris.items())
    topology = f"""
        [daemon]
        state_dir = "state"
        {f'admin = "{admin}"' if admin else ""}
        [listeners]
        nbd = "tcp:{port}:interface=127.0.0.1"
        {nodes}
        [storages.vol]
        algorithm = "mirror"
        nodes = ["a", "b", "c"]
        {options}
        [exports.vol]
        device = "vol"
    """
    twistd(processes, f"{name}-owner", place, topology, checksums=checksums)
    return Served(port, "vol", [*(f"{name}-{letter}" for letter in "abc"), f"{name}-owner"])


def _without_checksums(processes: Processes, place: Path, size: int, name: str) -> Served:
    return dst_mirror(processes, place, size, name, checksums=False)


def nbdkit(processes: Processes, place: Path, size: int, name: str, *options: str) -> Served:
    """Its file plugin on a new file."""
    port = free_port()
    path = new_file(place / f"{name}.img", size)
    processes.start(name, "nbdkit", "--foreground", "--ipaddr=127.0.0.1", f"--port={port}", *options, "file", path)
    return Served(port, "", [name])


def _qemu_nbd(processes: Processes, place: Path, size: int, name: str) -> Served:
    port = free_port()
    path = new_file(place / "disk.img", size)
    options = ["--persistent", "--shared=32", "--format=raw", "--cache=writeback", "--bind=127.0.0.1"]
    processes.start(name, "qemu-nbd", *options, f"--port={port}", path)
    return Served(port, "", [name])


def _nbd_server(processes: Processes, place: Path, size: int, name: str) -> Served:
    port = free_port()
    path = new_file(place / "disk.img", size)
    config = place / "config"
    listening = f"[generic]\nlistenaddr = 127.0.0.1\nport = {port}\n"
    config.write_text(f"{listening}[disk]\nexportname = {path}\nflush = true\n")
    pid_file = place / "pid"
    processes.start_detached(name, pid_file, "nbd-server", "-C", config, "-p", pid_file)
    return Served(port, "disk", [name])


def _quorum(processes: Processes, place: Path, size: int, name: str) -> Served:
    legs = [nbdkit(processes, place, size, f"{name}-{letter}") for letter in "abc"]
    servers = [server for leg in legs for server in leg.servers]
    blockdevs = []
    for number, leg in enumerate(legs):
        wait_for_export(processes, leg.servers, leg.where, leg.export)
        place_of = f"server.type=inet,server.host=127.0.0.1,server.port={leg.where},export={leg.export}"
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
    return Served(port, "vol", [*servers, name])


def _certificates(place: Path) -> Path:
    """An authority, and certificates for both sides, by C{dst ca}; returns where each has a directory."""
    command = [sys.executable, "-m", "dst.admin.cli"]
    if shutil.which("dst", path=str(Path(sys.executable).parent)):
        command = [str(Path(sys.executable).parent / "dst")]
    for words in (
        ("ca", "init", "security", "--as", "server", "--address", "127.0.0.1"),
        ("ca", "issue", "client", "--client", "--dir", "security", "--out", "client"),
    ):
        done = subprocess.run([*command, *words], cwd=place, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise Failed(f"dst {' '.join(words)} failed: {done.stderr.strip()[-400:]}")
    return place


def _dst_tls(processes: Processes, place: Path, size: int, name: str) -> Served:
    daemon = f'security_dir = "{_certificates(place) / "security"}"'
    nbd = '{{ endpoint = "tcp:{port}:interface=127.0.0.1", tls = "required" }}'
    return _dst_file(processes, place, size, name, daemon=daemon, nbd=nbd, certificates=place / "client")


def _nbdkit_tls(processes: Processes, place: Path, size: int, name: str) -> Served:
    options = ("--tls=require", f"--tls-certificates={_certificates(place) / 'security'}", "--tls-verify-peer")
    served = nbdkit(processes, place, size, name, *options)
    return evolve(served, certificates=place / "client")


SINGLE_KINDS = (
    Kind("DST file", True, (), _dst_file),
    Kind("nbdkit", False, ("nbdkit",), nbdkit),
    Kind("qemu-nbd", False, ("qemu-nbd",), _qemu_nbd),
    Kind("nbd-server", False, ("nbd-server",), _nbd_server),
)
"""One exported file."""

MIRROR_KINDS = (
    Kind("DST mirror", True, (), dst_mirror),
    Kind("qemu quorum", False, ("qemu-storage-daemon", "nbdkit"), _quorum),
)
"""Three copies behind three servers."""

_FAR = 256


def _one_mark(processes: Processes, place: Path, size: int, name: str) -> Served:
    return dst_mirror(processes, place, size, name, options='region_size = "1G"')


FAR_KINDS = (
    Kind("DST far", True, (), dst_mirror, times_as_large=_FAR),
    Kind("DST near", False, (), dst_mirror),
    Kind("far, few marks", False, (), _one_mark, reference=True, times_as_large=_FAR),
    Kind("far, counted", False, ("strace",), dst_mirror, reference=True, times_as_large=_FAR, counting=True),
)
"""
Three copies of a large sparse device, and of a small one; and what the large one can do if hardly anything is marked,
because its regions are as large as they can be: the rest is the file system's.  Those whose C{fdatasync} are counted
do a quarter of what they can, so they are other ones than those that are compared.
"""

WITHOUT_CHECKSUMS = Kind("without checksums", False, (), _without_checksums)

TLS_KINDS = (
    Kind("DST TLS", True, ("unshare",), _dst_tls),
    Kind("nbdkit TLS", False, ("nbdkit", "unshare"), _nbdkit_tls),
    Kind("DST file", False, (), _dst_file, reference=True),
    Kind("nbdkit", False, ("nbdkit",), nbdkit, reference=True),
)
"""The same certificates and TLS on both sides, and each side without."""


def missing(kind: Kind) -> str:
    """Why it cannot be measured here, as the end of a sentence; nothing if it can."""
    absent = [program for program in kind.programs if shutil.which(program) is None]
    return f"{' and '.join(absent)} is not installed" if absent else kind.refusal()
