"""A storage over daemons that are processes of their own, so that each can be killed."""

from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dst.admin.client import HTTPAdmin
from dst.errors import DSTError
from dst.status import StatusTree
from test.integration.daemon_process import DaemonProcess
from test.integration.debian_tools import ENVIRONMENT

__all__ = [
    "MirrorOfThree",
    "Program",
    "differing_bytes",
    "fio",
    "free_ports",
    "in_sync",
    "member",
    "soon",
    "verified",
]

WAIT_S_MAX = 60.0
"""What has not happened by then does not happen: the longest wait in the core is some 20 s."""

POLL_S = 0.1

T = TypeVar("T")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at: a daemon that is started again must be found where it was."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


async def soon(found: Callable[[], Awaitable[T]], complaint: Callable[[], str]) -> T:
    """
    What C{found} returns as soon as that is true.

    @param complaint: asked when it did not become true in time.
    """
    end = reactor.seconds() + WAIT_S_MAX
    while True:
        result = await found()
        if result:
            return result
        if reactor.seconds() > end:
            raise AssertionError(complaint())
        await deferLater(reactor, POLL_S)


def differing_bytes(one: str | Path, other: str | Path, size: int, unit: int = 4096) -> int:
    """How many of the first C{size} bytes of two files differ, in whole units."""
    differ = 0
    with open(one, "rb") as first, open(other, "rb") as second:
        left = mmap.mmap(first.fileno(), size, access=mmap.ACCESS_READ)
        right = mmap.mmap(second.fileno(), size, access=mmap.ACCESS_READ)
    with left, right:
        for chunk in range(0, size, 1 << 20):
            end = min(chunk + (1 << 20), size)
            if left[chunk:end] != right[chunk:end]:
                differ += sum(left[at : at + unit] != right[at : at + unit] for at in range(chunk, end, unit))
    return min(differ * unit, size)


class Program(ProcessProtocol):
    """
    A program that runs beside the test, killed at the end of it if it is still there.

    @ivar output: what it wrote to standard output and standard error.
    """

    def __init__(self, case: Any, *command: str, environment: dict[str, str] | None = None) -> None:
        self.command = command
        self.output = ""
        self.code: int | None = None
        self._ended: Deferred[None] = Deferred()
        program = shutil.which(command[0]) or command[0]
        self._process = reactor.spawnProcess(self, program, command, environment or ENVIRONMENT)
        case.addCleanup(self.kill)

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode("utf-8", "replace")

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.code = os.waitstatus_to_exitcode(reason.value.status)
        self._ended.callback(None)

    @property
    def ended(self) -> Deferred[None]:
        """Fires when it has ended, however."""
        done: Deferred[None] = Deferred()
        self._ended.addCallback(lambda _: done.callback(None))
        return done

    async def success(self) -> str:
        """Wait until it ends, which has to be well; @return: what it wrote."""
        await self._ended
        if self.code != 0:
            raise AssertionError(f"{' '.join(self.command)} ended with {self.code}:\n{self.output}")
        return self.output

    async def kill(self) -> None:
        """End it."""
        if self.code is None:
            self._process.signalProcess("KILL")
        await self._ended


def fio(case: Any, uri: str, *options: str) -> Program:
    """fio as a client that writes and then checks what it reads."""
    return Program(
        case,
        "fio",
        "--name=load",
        "--thread",
        "--ioengine=nbd",
        f"--uri={uri}",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--end_fsync=1",
        "--randrepeat=1",
        "--eta=never",
        "--output-format=json",
        *options,
    )


async def verified(case: TestCase, load: Program) -> dict[str, Any]:
    """Wait for fio; it must have seen no error and have read back all that it wrote."""
    said = await load.success()
    (job,) = json.loads(said[said.index("{") :])["jobs"]
    case.assertEqual(0, job["error"], said)
    case.assertGreater(job["write"]["io_bytes"], 0)
    case.assertGreaterEqual(job["read"]["io_bytes"], job["write"]["io_bytes"])
    return job


NODE = """\
[listeners]
dst = "tcp:{port}:interface=127.0.0.1"
[nodes.{name}]
uri = "file:{name}.img?size={size}"
[exports.{name}]
device = "{name}"
"""

OWNER = """\
[daemon]
state_dir = "state"
admin = "tcp:{admin}:interface=127.0.0.1"
[listeners]
nbd = "tcp:{nbd}:interface=127.0.0.1"
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b", "c"]
region_size = "{region}"
[exports.vol]
device = "vol"
"""

REMOTE = """\
[nodes.{name}]
uri = "dst://127.0.0.1:{port}/{name}"
"""

_COPIED = re.compile(r"(\w+): copied (\d+) bytes, becomes in sync")


class MirrorOfThree:
    """
    Three daemons, each with a file, and a fourth that owns a mirror of them and serves it over NBD.

    Everything is as a person would write it in four files; nothing is told to any of them after its start.

    @ivar size: bytes of the storage, known after L{start}.
    @ivar admin: the owner, as an operator reaches it; at C{admin_url}.
    """

    NODES = ("a", "b", "c")

    def __init__(self, case: Any, *, size: str = "96M", region: str = "64K") -> None:
        """
        @param size: of each node's file.
        @param region: small, because the storage is: the unit in which a member remembers what it has missed.
        """
        self._case = case
        self.directory = Path(case.mktemp()).resolve()
        self.directory.mkdir(parents=True)
        admin, self.nbd_port, *ports = free_ports(2 + len(self.NODES))
        self.uri = f"nbd://127.0.0.1:{self.nbd_port}/vol"
        self.size = 0
        self.daemons: dict[str, DaemonProcess] = {}
        self.said: dict[str, list[DaemonProcess]] = {}
        remotes = ""
        for name, port in zip(self.NODES, ports, strict=True):
            self._config(name).write_text(NODE.format(name=name, port=port, size=size))
            remotes += REMOTE.format(name=name, port=port)
        self._config("owner").write_text(OWNER.format(admin=admin, nbd=self.nbd_port, region=region) + remotes)
        self.admin_url = f"http://127.0.0.1:{admin}"
        self.admin = HTTPAdmin.connect(reactor, self.admin_url)

    def _config(self, name: str) -> Path:
        return self.directory / f"{name}.toml"

    def leg(self, name: str) -> Path:
        """The file of a node."""
        return self.directory / f"{name}.img"

    # -- life

    async def start(self) -> None:
        """Everything, until the new storage is whole."""
        for name in self.NODES:
            await self.launch(name)
        await self.launch("owner")
        await self.until_whole()
        self.size = (await self.status()).size

    async def launch(self, name: str) -> None:
        """One daemon: C{"a"}, C{"b"}, C{"c"} or C{"owner"}."""
        daemon = self.daemons[name] = DaemonProcess(self._case, "--config", str(self._config(name)))
        self.said.setdefault(name, []).append(daemon)
        await daemon.started

    async def kill(self, name: str) -> None:
        """With SIGKILL, until it is dead."""
        await self.daemons[name].kill()

    async def stop(self) -> None:
        """In order, the owner first."""
        for name in ("owner", *self.NODES):
            await self.daemons[name].stop()

    # -- what the owner says

    async def status(self) -> StatusTree:
        """Of the storage."""
        trees = await self.admin.status()
        return next(tree for tree in trees if tree.name == "vol")

    async def until(self, what: str, holds: Callable[[StatusTree], object]) -> StatusTree:
        """Wait until the status is so."""
        last: list[object] = []

        async def look() -> StatusTree | None:
            try:
                tree = await self.status()
            except DSTError as error:
                last[:] = [error]
                return None
            last[:] = [tree]
            return tree if holds(tree) else None

        return await soon(look, lambda: f"not after {WAIT_S_MAX:g} s: {what}; the last status: {last}\n{self.log()}")

    async def until_whole(self) -> StatusTree:
        """Wait until every member is in sync and nothing is left to be done."""
        return await self.until(
            "the storage is healthy and every member in sync",
            lambda tree: (
                tree.health.value == "healthy"
                and in_sync(tree) == set(self.NODES)
                and tree.dirty_bytes == 0
                and tree.detail.get("unreconciled_regions") == 0
            ),
        )

    async def until_state(self, name: str, state: str) -> StatusTree:
        """Wait until a member is so; @return: the member."""
        tree = await self.until(f"{name} is {state}", lambda tree: member(tree, name).state == state)
        return member(tree, name)

    async def until_written(self, name: str, count: int) -> None:
        """Wait until so many more bytes of a node's file are allocated."""
        path = self.leg(name)
        enough = _allocated(path) + count

        async def look() -> bool:
            return _allocated(path) >= enough

        await soon(look, lambda: f"{count} bytes were not written to {name}: {self.log()}")

    def copied(self) -> list[tuple[str, int]]:
        """Each return to sync in the owner's log: the member, and the bytes that were copied to it."""
        return [
            (name, int(count))
            for daemon in self.said.get("owner", ())
            for name, count in _COPIED.findall(daemon.output)
        ]

    async def until_copied(self, name: str, before: int) -> int:
        """Wait until a return to sync is logged after the first C{before} ones; @return: the bytes copied."""

        async def look() -> list[int]:
            return [count + 1 for who, count in self.copied()[before:] if who == name]

        return (await soon(look, self.log))[0] - 1

    def log(self) -> str:
        """The end of what each daemon wrote."""
        parts = []
        for name, daemons in self.said.items():
            for number, daemon in enumerate(daemons, 1):
                lines = [*daemon.output.splitlines(), *daemon.errors.splitlines()]
                parts.append("\n  ".join([f"-- {name}, process {number}:", *lines[-40:]]))
        return "\n".join(parts)

    # -- what is on the media

    def unequal_legs(self, names: Iterable[str] = NODES) -> dict[str, int]:
        """Members that differ from the first of C{names} in the data, with the number of bytes."""
        first, *others = names
        counts = {name: differing_bytes(self.leg(first), self.leg(name), self.size) for name in others}
        return {name: count for name, count in counts.items() if count}


def member(tree: StatusTree, name: str) -> StatusTree:
    """A child of a status."""
    return next(child for child in tree.children if child.name == name)


def in_sync(tree: StatusTree) -> set[str]:
    """The names of the members that are in sync."""
    return {child.name for child in tree.children if child.state == "in-sync"}


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512
