"""
One slow thing harms only its own: what hangs, floods or does not listen has a modest client beside it, in real
processes.

That the client is served at all is what is tested, and that memory has a bound; how fast, C{python -m benchmarks
--only isolation} tells.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from threading import Event

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from benchmarks.strangers import NBDConnection
from test.integration.daemon_process import DaemonProcess
from test.integration.debian_tools import needs

REQUEST = Struct(">IHHQQI")
REQUEST_MAGIC = 0x25609513
REPLY = Struct(">IIQ")
REPLY_GOOD = (0x67446698, 0)
READ, WRITE = 0, 1

ANSWER_S_MAX = 60.0
"""Reached only by what is never answered."""

BLOCK_BYTES = 4096
LARGE_BYTES = 1 << 20
CROWD = 16
"""Clients that together may ask for twice as much memory as there is for all."""

RESIDENT_BYTES_MAX = 512 << 20
"""
256 MiB is what all NBD clients together may hold; the rest is an interpreter, 64 MiB of freed memory that is kept,
what the clients are guaranteed, and what each is receiving.
"""


def request(command: int, cookie: int, offset: int, length: int) -> bytes:
    """The head of a request."""
    return REQUEST.pack(REQUEST_MAGIC, 0, command, cookie, offset, length)


class Client(NBDConnection):
    """A client that blocks, for a thread."""

    def __init__(self, port: int, export: str) -> None:
        super().__init__(port, export)
        self.socket.settimeout(ANSWER_S_MAX)

    def exactly(self, count: int) -> bytes:
        """The next bytes."""
        data = bytearray()
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the server has hung up"
            data += more
        return bytes(data)

    def rounds(self, count: int) -> int:
        """Four blocks at a time are written, then read and compared; returns how many were answered."""
        answered = 0
        for number in range(count):
            blocks = {cookie: os.urandom(16) * (BLOCK_BYTES // 16) for cookie in range(4)}
            at = {cookie: (4 * number + cookie) % 64 * BLOCK_BYTES for cookie in range(4)}
            for cookie, data in blocks.items():
                self.socket.sendall(request(WRITE, cookie, at[cookie], BLOCK_BYTES) + data)
            for _ in blocks:
                assert REPLY.unpack(self.exactly(REPLY.size))[:2] == REPLY_GOOD
            self.socket.sendall(b"".join(request(READ, cookie, at[cookie], BLOCK_BYTES) for cookie in blocks))
            for _ in blocks:
                *good, cookie = REPLY.unpack(self.exactly(REPLY.size))
                assert tuple(good) == REPLY_GOOD
                assert self.exactly(BLOCK_BYTES) == blocks[cookie]
            answered += 2 * len(blocks)
        return answered


def push(clients: list[Client], data: bytes) -> None:
    """Send from all, until the server has taken no more from anybody for a moment."""
    left = {client.socket: memoryview(data) for client in clients}
    with selectors.DefaultSelector() as selector:
        for each in left:
            each.setblocking(False)
            selector.register(each, selectors.EVENT_WRITE)
        while selector.get_map() and (ready := selector.select(0.5)):
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                rest = left[key.fileobj] = left[key.fileobj][key.fileobj.send(left[key.fileobj]) :]
                if not rest:
                    selector.unregister(key.fileobj)


class IsolationTests(TestCase):
    """The daemon serves C{vol} to a modest client, and C{other} to others."""

    timeout = 240

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()

    async def daemon(self, name: str, topology: str) -> DaemonProcess:
        """One that has started."""
        config = self.directory / f"{name}.toml"
        config.write_text(f'[daemon]\nstate_dir = "{self.directory}/state-{name}"\n{topology}')
        daemon = DaemonProcess(self, "--config", str(config))
        await daemon.started
        return daemon

    async def files(self, other: Path) -> DaemonProcess:
        """Two files are served."""
        vol = self.directory / "vol.img"
        return await self.daemon(
            "files",
            f"""
            [listeners]
            nbd = "tcp:0:interface=127.0.0.1"
            [nodes]
            vol = {{ uri = "file:{vol}?size=16M" }}
            other = {{ uri = "file:{other}{"" if other.exists() else "?size=64M"}" }}
            [exports.vol]
            device = "vol"
            [exports.other]
            device = "other"
            """,
        )

    def client(self, daemon: DaemonProcess, export: str) -> Client:
        """One that is closed in the end."""
        client = Client(daemon.ports["nbd"], export)
        self.addCleanup(client.close)
        return client

    def crowd(self, daemon: DaemonProcess) -> list[Client]:
        """Many that use the other export."""
        return [self.client(daemon, "other") for _ in range(CROWD)]

    def resident_bytes(self, daemon: DaemonProcess) -> int:
        """The memory of a daemon."""
        return int(Path(f"/proc/{daemon.process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def assert_served(self, daemon: DaemonProcess, meanwhile: Callable[[], None] = lambda: None) -> None:
        """A modest client is answered, again and again, and the daemon's memory has a bound."""
        client = await deferToThread(self.client, daemon, "vol")
        for _ in range(3):
            self.assertEqual(800, await deferToThread(client.rounds, 100))
            self.assertLess(self.resident_bytes(daemon), RESIDENT_BYTES_MAX)
        meanwhile()
        for words in ("Traceback", "Unhandled"):
            self.assertNotIn(words, daemon.output)

    def suspended(self, process_id: int) -> None:
        """Stop a process, until the test ends at the latest."""
        self.addCleanup(os.kill, process_id, signal.SIGCONT)
        os.kill(process_id, signal.SIGSTOP)

    @needs("nbdfuse", "nbdkit", "fusermount3")
    async def test_disk_hangs(self) -> None:
        """
        System calls on the file of one export hang in the kernel, with more writes on their way than memory allows:
        the other export is served. When the disk works again the writes are answered.
        """
        if not os.access("/dev/fuse", os.W_OK):
            self.skipTest("this user may not mount with FUSE")
        disk = self.file_of_fuse()
        daemon = await self.files(disk)
        crowd = await deferToThread(self.crowd, daemon)
        await deferToThread(crowd[0].write, 0, bytes(BLOCK_BYTES), ANSWER_S_MAX)
        self.suspended(self.fuse.pid)
        writes = b"".join(request(WRITE, cookie, 0, LARGE_BYTES) + bytes(LARGE_BYTES) for cookie in range(40))
        await deferToThread(push, crowd, writes)
        await self.assert_served(daemon, meanwhile=lambda: self.assert_silent(crowd))
        os.kill(self.fuse.pid, signal.SIGCONT)
        for client in crowd:
            client.socket.settimeout(ANSWER_S_MAX)
            replies = await deferToThread(client.exactly, REPLY.size)
            self.assertEqual(REPLY_GOOD, REPLY.unpack(replies)[:2])

    def file_of_fuse(self) -> Path:
        """A file of a file system whose server is C{fuse}."""
        mounted = self.directory / "mounted"
        mounted.mkdir()
        served = ["[", "nbdkit", "--exit-with-parent", "memory", "64M", "]"]
        environment = {**os.environ, "PATH": f"/usr/bin:/bin:{os.environ.get('PATH', '')}"}
        self.fuse = subprocess.Popen(["nbdfuse", str(mounted / "disk"), *served], env=environment)
        self.addCleanup(self.fuse.wait)
        self.addCleanup(self.fuse.terminate)
        self.addCleanup(subprocess.run, [shutil.which("fusermount3") or "", "-u", "-z", "-q", str(mounted)])
        end = time.monotonic() + ANSWER_S_MAX
        while not (mounted / "disk").exists():
            self.assertIsNone(self.fuse.poll(), "nbdfuse has ended")
            self.assertLess(time.monotonic(), end, "nbdfuse has mounted nothing")
            time.sleep(0.02)
        return mounted / "disk"

    def assert_silent(self, clients: list[Client]) -> None:
        """Nobody of them has been answered, or cut off."""
        for client in clients:
            self.assertRaises(BlockingIOError, client.socket.recv, 1)

    async def test_clients_do_not_read(self) -> None:
        """Clients that ask for more than there is memory for, and never read an answer, hold up nobody."""
        daemon = await self.files(self.directory / "other.img")
        crowd = await deferToThread(self.crowd, daemon)
        reads = b"".join(request(READ, cookie, 0, LARGE_BYTES) for cookie in range(400))
        await deferToThread(push, crowd, reads)
        await self.assert_served(daemon)

    async def test_nodes_hang(self) -> None:
        """All daemons of the members of one mirror are stopped, with writes on their way; another one is served."""
        uris = {}
        members = {}
        for letter in "axy":
            node = f'[nodes.{letter}]\nuri = "file:{self.directory}/{letter}.img?size=80M"'
            export = f'[exports.{letter}]\ndevice = "{letter}"'
            members[letter] = await self.daemon(
                letter, f'[listeners]\ndst = "tcp:0:interface=127.0.0.1"\n{node}\n{export}'
            )
            uris[letter] = f"dst://127.0.0.1:{members[letter].ports['dst']}/{letter}"
        nodes = "\n".join(f'[nodes.{letter}]\nuri = "{uri}"' for letter, uri in uris.items())
        owner = await self.daemon(
            "owner",
            f"""
            [listeners]
            nbd = "tcp:0:interface=127.0.0.1"
            {nodes}
            [storages.vol]
            algorithm = "mirror"
            nodes = ["a"]
            [storages.other]
            algorithm = "mirror"
            nodes = ["x", "y"]
            [exports.vol]
            device = "vol"
            [exports.other]
            device = "other"
            """,
        )
        crowd = await deferToThread(self.patient_crowd, owner)
        for letter in "xy":
            self.suspended(members[letter].process_id)
        writes = b"".join(request(WRITE, cookie, 0, LARGE_BYTES) + bytes(LARGE_BYTES) for cookie in range(40))
        await deferToThread(push, crowd, writes)
        await self.assert_served(owner)
        for letter in "xy":
            members[letter].signal(signal.SIGCONT)

    def patient_crowd(self, daemon: DaemonProcess) -> list[Client]:
        """As soon as both storages are served."""
        end = time.monotonic() + ANSWER_S_MAX
        for export in ("vol", "other"):
            while True:
                try:
                    client = Client(daemon.ports["nbd"], export)
                    client.write(0, bytes(BLOCK_BYTES), ANSWER_S_MAX)
                    client.close()
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)
        return self.crowd(daemon)

    async def test_floods(self) -> None:
        """Clients that ask without end, for small and for large blocks, are answered, and so is the modest one."""
        daemon = await self.files(self.directory / "other.img")
        ended = Event()
        floods = []
        for command, length in ((READ, BLOCK_BYTES), (WRITE, BLOCK_BYTES), (READ, 32 << 20), (WRITE, 32 << 20)):
            client = await deferToThread(self.client, daemon, "other")
            floods.append(deferToThread(_flood, client, command, length, ended))
        try:
            await self.assert_served(daemon)
        finally:
            ended.set()
        for flood in floods:
            self.assertGreater(await flood, 0)


def _flood(client: Client, command: int, length: int, ended: Event) -> int:
    """Keep the server busy in a thread; returns how much it has answered."""
    data = bytes(length) if command == WRITE else b""
    burst = (request(command, 7, 0, length) + data) * (512 if length == BLOCK_BYTES else 1)
    rest = memoryview(burst)
    buffer = bytearray(1 << 20)
    answered = 0
    client.socket.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(client.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while not ended.is_set():
            for _, events in selector.select(0.5):
                if events & selectors.EVENT_READ:
                    count = client.socket.recv_into(buffer)
                    assert count, "the server has hung up"
                    answered += count
                if events & selectors.EVENT_WRITE:
                    rest = rest[client.socket.send(rest) :] or memoryview(burst)
    return answered
