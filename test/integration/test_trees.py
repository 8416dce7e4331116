"""Storages of storages of storages, over two daemons."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from textwrap import dedent

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dst.admin.client import HTTPAdmin
from dst.cluster.assembly import running
from dst.cluster.topology import remote
from dst.status import StatusTree
from test.integration.cluster import Program, fio, free_ports, soon, verified
from test.integration.daemon_process import ROOT, DaemonProcess, until_ready
from test.integration.debian_tools import needs
from test.integration.tree_conformance import NBD_URI, REMOTE_URI

CHUNK = 1 << 20

FAR = """\
    [listeners]
    dst = "tcp:{far}:interface=127.0.0.1"
    """

FAR_LINEAR = """\
    [nodes.{name}-first]
    uri = "file:{name}-first.img?size=12M"
    [nodes.{name}-second]
    uri = "file:{name}-second.img?size=20M"
    [storages.{name}]
    algorithm = "linear"
    nodes = ["{name}-first", "{name}-second"]
    [exports.{name}]
    device = "{name}"
    """

NEAR = """\
    [daemon]
    state_dir = "state"
    admin = "tcp:{admin}:interface=127.0.0.1"
    [listeners]
    dst = "tcp:0:interface=127.0.0.1"
    nbd = "tcp:0:interface=127.0.0.1"
    [nodes.l1]
    uri = "dst://127.0.0.1:{far}/l1"
    [nodes.l2]
    uri = "dst://127.0.0.1:{far}/l2"
    [nodes.l3]
    uri = "dst://127.0.0.1:{far}/l3"
    [nodes.near]
    uri = "file:near.img?size=32M"
    [storages.left]
    algorithm = "mirror"
    nodes = ["l1", "l2"]
    region_size = "64K"
    [storages.right]
    algorithm = "mirror"
    nodes = ["near", "l3"]
    region_size = "64K"
    [storages.vol]
    algorithm = "stripe"
    nodes = ["left", "right"]
    chunk_size = "16K"
    [exports.vol]
    device = "vol"
    """


class TreeTests(TestCase):
    """
    A stripe of two mirrors, one of two remote linears, the other of a remote linear and a file that is near.
    """

    timeout = 240

    async def setUp(self) -> None:
        """Both daemons, until the whole tree is healthy."""
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(parents=True)
        far, admin = free_ports(2)
        lines = dedent(FAR.format(far=far)) + "".join(
            dedent(FAR_LINEAR.format(name=name)) for name in ("l1", "l2", "l3")
        )
        self.file("far", lines)
        self.file("near", dedent(NEAR.format(far=far, admin=admin)))
        self.far = await self.launch("far")
        self.near = await self.launch("near")
        self.admin = HTTPAdmin.connect(reactor, f"http://127.0.0.1:{admin}")
        await self.until_healthy()
        self.nbd_uri = f"nbd://127.0.0.1:{self.near.ports['nbd']}/vol"
        self.remote_uri = f"dst://127.0.0.1:{self.near.ports['dst']}/vol"

    def file(self, name: str, text: str) -> None:
        """The topology of a daemon."""
        (self.directory / f"{name}.toml").write_text(text)

    async def launch(self, name: str) -> DaemonProcess:
        """A daemon that has started."""
        return await DaemonProcess(self, "--config", str(self.directory / f"{name}.toml")).started

    async def tree(self) -> StatusTree:
        """The status from the top."""
        return next(tree for tree in await self.admin.status() if tree.name == "vol")

    async def until_healthy(self) -> StatusTree:
        """Wait until every part of the tree is, on both machines."""
        seen: list[StatusTree] = []

        async def look() -> StatusTree | None:
            seen[:] = [await self.tree()]
            healths = {part.health.value for part in seen[0].walk()}
            return seen[0] if healths == {"healthy"} and len(list(seen[0].walk())) == 16 else None

        return await soon(look, lambda: f"not healthy: {seen}\n{self.near.output}\n{self.far.output}")

    async def test_shape(self) -> None:
        """The status shows every level, through the remote daemon down to its files."""
        tree = await self.until_healthy()
        paths = []

        def walk(part: StatusTree, above: str) -> None:
            paths.append(f"{above}{part.kind}")
            for child in part.children:
                walk(child, f"{above}{part.kind}/")

        walk(tree, "")
        self.assertEqual(6, paths.count("stripe/mirror/remote/linear/file"), paths)
        self.assertEqual(1, paths.count("stripe/mirror/file"), paths)

    async def test_conformance(self) -> None:
        """The tree keeps every promise of a device, over both protocols."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            REMOTE_URI: self.remote_uri,
            NBD_URI: self.nbd_uri,
        }
        suite = Program(
            self,
            sys.executable,
            "-m",
            "twisted.trial",
            f"--temp-directory={self.directory / 'trial'}",
            "test.integration.tree_conformance",
            environment=environment,
        )
        said = await suite.success()
        found = re.search(r"PASSED \((?:skips=\d+, )?successes=(\d+)\)", said)
        assert found is not None, said
        self.assertGreater(int(found[1]), 80, said)

    @needs("fio")
    async def test_verify(self) -> None:
        """
        fio reads back what it wrote, while the far daemon is killed, which takes away both copies of one half:
        operations wait until it is back and none fails. In the end the copies are equal.
        """
        load = fio(
            self,
            self.nbd_uri,
            "--rw=randwrite",
            "--bsrange=4k-128k",
            "--iodepth=16",
            "--size=56M",
            "--rate=,5m",
            "--fsync=100",
        )
        image = self.directory / "near.img"

        async def written() -> bool:
            return image.stat().st_blocks * 512 > 8 << 20

        await soon(written, lambda: self.near.output)
        await self.far.kill()
        self.assertIsNone(load.code)
        self.far = await self.launch("far")
        await verified(self, load)
        tree = await self.until_healthy()
        left, right = (child.size for child in tree.children)
        await self.near.stop()
        one, other, third = [await self.linear(name) for name in ("l1", "l2", "l3")]
        self.assertEqual([], _differences(one[:left], other[:left]))
        self.assertEqual([], _differences(third[:right], image.read_bytes()[:right]))
        self.assertNotEqual(0, len(one[:left].strip(b"\0")))

    async def linear(self, name: str) -> bytes:
        """All that a storage of the far daemon holds."""
        async with running(remote(f"dst://127.0.0.1:{self.far.ports['dst']}/{name}", name=name), reactor) as cluster:
            node = await until_ready(cluster[name])
            size = node.geometry.size
            return b"".join([bytes(await node.read(at, min(CHUNK, size - at))) for at in range(0, size, CHUNK)])


def _differences(one: bytes, other: bytes) -> list[int]:
    """Where two copies differ, in chunks."""
    assert len(one) == len(other)
    return [at for at in range(0, len(one), CHUNK) if one[at : at + CHUNK] != other[at : at + CHUNK]]
