"""A mirror that is made larger while it is used, on real files, over real wires, and with an owner that is killed."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.admin.client import HTTPAdmin
from dst.errors import DSTError, InvalidRequest
from test.integration.cluster import MirrorOfThree, fio, free_ports, soon, verified
from test.integration.daemon_process import DaemonProcess
from test.integration.debian_tools import needs, run

MIB = 1 << 20
OLD_BYTES, NEW_BYTES = 16 * MIB, 40 * MIB
"""Of media; what is new is not zero."""


def make_larger(path: Path) -> None:
    """As a disk array does it: what is there stays, and what is new holds anything."""
    with open(path, "r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"\xa5" * (NEW_BYTES - file.tell()))


@needs("fio", "nbdinfo")
class ClusterTests(TestCase):
    """Three daemons with a file each, and one that owns a mirror of them."""

    timeout = 150

    async def started(self) -> MirrorOfThree:
        cluster = MirrorOfThree(self, size=f"{OLD_BYTES}")
        await cluster.start()
        return cluster

    async def test_under_load(self) -> None:
        """While fio writes it grows; fio sees no error, all copies are equal, and a new client has the new size."""
        cluster = await self.started()
        old = cluster.size
        load = fio(self, cluster.uri, "--rw=randwrite", "--bs=4k", "--iodepth=8", "--size=12M", "--rate=,2m")
        await cluster.until_written("a", MIB)
        for name in ("a", "b"):
            make_larger(cluster.leg(name))
        with self.assertRaises(InvalidRequest) as caught:
            await cluster.admin.grow("vol")
        self.assertIn("no room for more on c:", caught.exception.message)
        make_larger(cluster.leg("c"))
        await cluster.admin.grow("vol")
        self.assertIsNone(load.code, "fio has to be at work until it has grown")
        await verified(self, load)
        size = cluster.size = (await cluster.until_whole()).size
        self.assertGreater(size, old + 23 * MIB)
        self.assertEqual(str(size), (await run("nbdinfo", "--size", cluster.uri)).strip())
        for name in cluster.NODES:
            with open(cluster.leg(name), "rb") as file:
                file.seek(old)
                self.assertEqual(size - old, file.read(size - old).count(0), name)
        self.assertEqual({}, cluster.unequal_legs())
        await verified(self, fio(self, cluster.uri, "--rw=write", "--bs=64k", f"--offset={old}", "--size=8M"))
        await cluster.stop()
        self.assertEqual({}, cluster.unequal_legs())

    async def test_owner_is_killed(self) -> None:
        """Whenever its owner dies, the storage has the old size or the new one, and everything that was written."""
        cluster = await self.started()
        await verified(self, fio(self, cluster.uri, "--rw=write", "--bs=64k", "--size=12M"))
        old = cluster.size
        before = cluster.leg("a").read_bytes()[:old]
        for name in cluster.NODES:
            make_larger(cluster.leg(name))
        for pause_s in (0.0, 0.01, 0.03, 0.06, 0.1):
            growing: Deferred[None] = cluster.admin.grow("vol")
            growing.addErrback(lambda failure: failure.trap(DSTError))
            await deferLater(reactor, pause_s)
            await cluster.kill("owner")
            await growing
            await cluster.launch("owner")
            size = (await cluster.until_whole()).size
            self.assertTrue(size == old or size > old + 23 * MIB, size)
        if size == old:
            await cluster.admin.grow("vol")
        cluster.size = (await cluster.until_whole()).size
        self.assertGreater(cluster.size, old + 23 * MIB)
        self.assertEqual({}, cluster.unequal_legs())
        data = cluster.leg("a").read_bytes()
        self.assertEqual(before, data[:old])
        self.assertEqual(cluster.size - old, data[old : cluster.size].count(0))
        await cluster.stop()


CONFIG = """\
[daemon]
state_dir = "state"
admin = "tcp:{admin}:interface=127.0.0.1"
[listeners]
nbd = "tcp:{nbd}:interface=127.0.0.1"
[nodes.a]
uri = "file:a.img"
[nodes.b]
uri = "file:b.img"
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b"]
[exports.vol]
device = "vol"
"""


class LocalTests(TestCase):
    """One daemon with two files."""

    timeout = 60

    async def test_grows_and_starts_again(self) -> None:
        """Its files are seen to be larger while they are open; what was said holds after a restart."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(parents=True)
        for name in ("a", "b"):
            with open(directory / f"{name}.img", "wb") as file:
                file.truncate(OLD_BYTES)
        admin_port, nbd_port = free_ports(2)
        config = directory / "dst.toml"
        config.write_text(CONFIG.format(admin=admin_port, nbd=nbd_port))
        admin = HTTPAdmin.connect(reactor, f"http://127.0.0.1:{admin_port}")

        async def size() -> int:
            (tree,) = [tree for tree in await admin.status() if tree.name == "vol"]
            return tree.size if {child.state for child in tree.children} == {"in-sync"} else 0

        daemon = DaemonProcess(self, "--config", str(config))
        await daemon.started
        old = await soon(size, lambda: "the storage never became whole")
        for name in ("a", "b"):
            make_larger(directory / f"{name}.img")
        await admin.grow("vol")
        new = await soon(size, lambda: "the storage never became whole")
        self.assertEqual(NEW_BYTES - OLD_BYTES, new - old)
        await daemon.stop()
        daemon = DaemonProcess(self, "--config", str(config))
        await daemon.started
        self.assertEqual(new, await soon(size, lambda: "the storage never became whole"))
        await daemon.stop()
