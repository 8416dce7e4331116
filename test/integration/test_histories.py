"""Two histories of one storage, on real files and over real wires: both can be read, and one is chosen."""

from __future__ import annotations

import filecmp
from pathlib import Path
from random import Random

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase

from dst.admin.client import HTTPAdmin
from dst.errors import ReadOnly
from dst.explaining import Explanation
from dst.nodes.remote import RemoteNode
from dst.status import Health, StatusTree
from test.integration.cluster import free_ports, soon
from test.integration.daemon_process import DaemonProcess, until_ready
from test.integration.debian_tools import needs, run

CONFIG = """\
[daemon]
state_dir = "{state}"
admin = "tcp:{admin}:interface=127.0.0.1"
[listeners]
nbd = "tcp:{nbd}:interface=127.0.0.1"
dst = "tcp:{dst}:interface=127.0.0.1"
[nodes.a]
uri = "file:a.img"
[nodes.b]
uri = "file:b.img"
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b"]
region_size = "64K"
start_wait_s = 0.5
[exports.vol]
device = "vol"
"""

LIST = """
names = []
h.set_opt_mode(True)
h.connect_uri("{uri}")
h.opt_list(lambda name, description: names.append(name))
h.opt_abort()
print(*sorted(names))
"""

MIB = 1 << 20


@needs("nbdcopy", "nbdinfo", "nbdsh", "qemu-io")
class HistoriesTests(TestCase):
    """
    One copy is used where the other cannot be seen, by a daemon that does not know of it; then both are there.
    """

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(parents=True)
        self.admin_port, self.nbd_port, self.dst_port = free_ports(3)
        self.admin = HTTPAdmin.connect(reactor, f"http://127.0.0.1:{self.admin_port}")
        for name in ("a", "b"):
            with open(self.directory / f"{name}.img", "wb") as file:
                file.truncate(8 * MIB)

    async def daemon(self, state: str) -> DaemonProcess:
        """A daemon that remembers what is in C{state}."""
        config = self.directory / f"{state}.toml"
        ports = {"admin": self.admin_port, "nbd": self.nbd_port, "dst": self.dst_port}
        config.write_text(CONFIG.format(state=state, **ports))
        daemon = DaemonProcess(self, "--config", str(config))
        await daemon.started
        return daemon

    def hide(self, name: str) -> None:
        """That disk is somewhere else."""
        (self.directory / f"{name}.img").rename(self.directory / f"{name}.away")

    def bring(self, name: str) -> None:
        """It is back."""
        (self.directory / f"{name}.away").rename(self.directory / f"{name}.img")

    async def tree(self) -> StatusTree:
        """How the storage is."""
        return next(tree for tree in await self.admin.status() if tree.name == "vol")

    async def until(self, what: str, health: Health) -> None:
        """Wait for it."""
        last: list[object] = []

        async def look() -> StatusTree | None:
            tree = await self.tree()
            last[:] = [tree]
            return tree if tree.health is health else None

        await soon(look, lambda: f"not {what}: {last}")

    def uri(self, export: str) -> str:
        """Where it is served."""
        return f"nbd://127.0.0.1:{self.nbd_port}/{export}"

    async def write(self, pattern: int, at: int, length: int) -> None:
        """Over NBD, and flushed."""
        commands = ("-c", f"write -P {pattern} {at} {length}", "-c", "flush")
        await run("qemu-io", "-f", "raw", *commands, self.uri("vol"))

    async def content(self, export: str) -> bytes:
        """All of it, over NBD."""
        copy = self.directory / "copy"
        await run("nbdcopy", self.uri(export), str(copy))
        return copy.read_bytes()

    async def listed(self) -> str:
        """The names of all exports, as a client is told them."""
        return (await run("nbdsh", "-c", LIST.format(uri=self.uri("")))).strip()

    async def diverge(self) -> None:
        """Shared until 1 MiB; then a goes on with 2s, and b, by a person's word and another daemon, with 3s."""
        daemon = await self.daemon("first")
        await self.until("whole", Health.HEALTHY)
        await self.write(1, 0, MIB)
        await daemon.stop()
        self.hide("b")
        daemon = await self.daemon("first")
        await self.until("serving", Health.DEGRADED)
        await self.write(2, MIB // 2, MIB)
        await daemon.stop()
        self.hide("a")
        self.bring("b")
        daemon = await self.daemon("second")
        await self.until("waiting", Health.FROZEN)
        await self.admin.mark_clean("vol", "b")
        await self.until("serving", Health.DEGRADED)
        await self.write(3, 3 * MIB, MIB)
        await daemon.stop()
        self.bring("a")

    def test_histories(self) -> object:
        """
        A daemon that knows nothing lists both, serves both read-only, says what each choice discards, and copies the
        one that is chosen over the other.
        """
        return ensureDeferred(self.histories())

    async def histories(self) -> None:
        """See L{test_histories}."""
        await self.diverge()
        daemon = await self.daemon("third")
        explained: list[Explanation] = []

        async def asks() -> bool:
            explained[:] = await self.admin.explain("vol")
            return explained[0].row == "diverged"

        await soon(asks, lambda: f"does not ask: {explained}")
        before = [(self.directory / f"{name}.img").read_bytes() for name in ("a", "b")]
        self.assertEqual("vol vol@a vol@b", await self.listed())
        for export in ("vol@a", "vol@b"):
            self.assertIn("is_read_only: true", await run("nbdinfo", self.uri(export)))
        of_a, of_b = await self.content("vol@a"), await self.content("vol@b")
        half = MIB // 2
        self.assertEqual(bytes([1]) * half + bytes([2]) * MIB + bytes(half), of_a[: 2 * MIB])
        self.assertEqual(bytes([1]) * MIB + bytes(MIB), of_b[: 2 * MIB])
        self.assertEqual((bytes(MIB), bytes([3]) * MIB), (of_a[3 * MIB : 4 * MIB], of_b[3 * MIB : 4 * MIB]))

        remote = RemoteNode(
            reactor, "history", TCP4ClientEndpoint(reactor, "127.0.0.1", self.dst_port), "vol@b", random=Random(1)
        )
        await remote.open()
        await until_ready(remote)
        self.assertTrue(remote.geometry.read_only)
        self.assertEqual(bytes([3]) * 4096, bytes(await remote.read(3 * MIB, 4096)))
        await self.assertFailure(remote.write(0, b"x" * 4096), ReadOnly)
        await remote.close()

        reasons = {child.name: child.reason for child in (await self.tree()).children}
        self.assertIn("discards at most 1.00 MiB of the others", reasons["a"])
        self.assertIn("discards at most 1.00 MiB of the others", reasons["b"])
        self.assertEqual(before, [(self.directory / f"{name}.img").read_bytes() for name in ("a", "b")])

        await self.admin.resolve("vol", "a")
        await self.until("whole", Health.HEALTHY)
        self.assertEqual(of_a, await self.content("vol"))
        self.assertEqual("vol", await self.listed())
        await daemon.stop()
        size = len(of_a)
        for name in ("a", "b"):
            path = self.directory / f"{name}.data"
            path.write_bytes((self.directory / f"{name}.img").read_bytes()[:size])
        self.assertTrue(filecmp.cmp(self.directory / "a.data", self.directory / "b.data", shallow=False))
