"""NBD with everybody else's programs: theirs in front of our server, and our node in front of theirs."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.errors import LimitReached, NotSupported
from dst.exports.nbd_server import NBDServerFactory
from dst.geometry import BlockStatus
from dst.nodes.file import FileNode
from dst.nodes.memory import MemoryDevice
from dst.nodes.nbd import NBDNode
from dst.status import LinkState
from dst.testing import Specimen, node_suite
from test.exports.offered import Offered
from test.integration.debian_tools import Server, needs, run

SIZE = 32 << 20


def short_socket(case: TestCase) -> str:
    """A path for a socket, which may not be as long as those of C{mktemp}."""
    directory = case.mktemp()
    os.makedirs(directory)
    link = f"/tmp/dst-{os.getpid()}-{random.Random().randrange(1 << 32):08x}"
    os.symlink(os.path.abspath(directory), link)
    case.addCleanup(os.unlink, link)
    return f"{link}/s"


class OurServerTestCase(TestCase):
    """A server of C{vol} (a file), C{mem} (memory) and C{ro} (the file, read-only) on a UNIX socket."""

    timeout = 120

    async def setUp(self) -> None:
        self.file = FileNode(reactor, "vol", self.mktemp(), size=SIZE)
        self.memory = MemoryDevice(reactor, "mem", SIZE)
        for node in (self.file, self.memory):
            await node.open()
            self.addCleanup(node.close)
        offered = Offered(vol=self.file, mem=self.memory, ro=self.file)
        offered.read_only.add("ro")
        self.server = NBDServerFactory(reactor, offered)
        self.socket = short_socket(self)
        self.unix = reactor.listenUNIX(self.socket, self.server)
        self.tcp = reactor.listenTCP(0, self.server, interface="127.0.0.1")
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        """Leave nothing."""
        await gatherResults([self.unix.stopListening(), self.tcp.stopListening()])
        await self.server.drain()
        self.assertEqual(0, self.server.budget.used_bytes)

    def uri(self, export: str) -> str:
        """Over the UNIX socket."""
        return f"nbd+unix:///{export}?socket={self.socket}"

    def tcp_uri(self, export: str) -> str:
        """Over TCP."""
        return f"nbd://127.0.0.1:{self.tcp.getHost().port}/{export}"

    def image(self, seed: int = 1) -> str:
        """A file of noise with holes in it, as large as the exports."""
        generator = random.Random(seed)
        path = self.mktemp()
        with open(path, "wb") as file:
            file.truncate(SIZE)
            for _ in range(40):
                file.seek(generator.randrange(0, SIZE - 300_000) & ~511)
                file.write(generator.randbytes(generator.randrange(1, 300_000)))
        return path

    def uris(self) -> list[str]:
        """A file and memory, over both kinds of sockets."""
        return [self.uri("vol"), self.tcp_uri("mem")]


class LibnbdTests(OurServerTestCase):
    """The programs of libnbd."""

    @needs("nbdinfo")
    async def test_nbdinfo(self) -> None:
        """nbdinfo sees every export and what each can do."""
        told = json.loads(await run("nbdinfo", "--json", "--list", self.tcp_uri("")))
        exports = {export["export-name"]: export for export in told["exports"]}
        self.assertEqual({"mem", "ro", "vol"}, set(exports))
        for name, export in exports.items():
            self.assertEqual(SIZE, export["export-size"])
            self.assertEqual(["base:allocation"], export["contexts"])
            self.assertEqual(name == "ro", export["is_read_only"])
            for can in ("cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"):
                self.assertTrue(export[f"can_{can}"], can)
            self.assertEqual(32 << 20, export["block_size_maximum"])
        self.assertEqual("newstyle-fixed", told["protocol"])

    @needs("nbdinfo")
    async def test_refused(self) -> None:
        """Of an export that is not there it shows our sentence."""
        said = await run("nbdinfo", self.uri("nothing"), expect=1)
        self.assertIn("nothing", said)

    @needs("nbdinfo")
    async def test_map(self) -> None:
        """nbdinfo --map shows what was written as data and the rest as holes."""
        for node, uri in ((self.file, self.uri("vol")), (self.memory, self.tcp_uri("mem"))):
            await node.write(1 << 20, random.Random(1).randbytes(1 << 20))
            extents = json.loads(await run("nbdinfo", "--json", "--map", uri))
            found = [(extent["offset"], extent["length"], extent["type"]) for extent in extents]
            self.assertEqual([(0, 1 << 20, 3), (1 << 20, 1 << 20, 0), (2 << 20, SIZE - (2 << 20), 3)], found)

    @needs("nbdcopy")
    async def test_nbdcopy(self) -> None:
        """nbdcopy, with several connections, brings an image there and back unchanged."""
        image = self.image()
        for uri in self.uris():
            back = self.mktemp()
            await run("nbdcopy", "--connections=4", "--requests=64", "--flush", image, uri)
            await run("nbdcopy", "--connections=4", uri, back)
            self.assertTrue(Path(image).read_bytes() == Path(back).read_bytes(), uri)

    @needs("nbdsh")
    async def test_nbdsh(self) -> None:
        """Every command and flag through libnbd, its own checks switched off where we shall refuse."""
        script = """
import errno
def refused(expected, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except nbd.Error as error:
        assert error.errnum == expected, (error, expected)
    else:
        raise AssertionError("not refused")
h.set_strict_mode(0)
size = h.get_size()
h.pwrite(b"a" * 4096, 0, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 0) == b"a" * 4096
assert h.pread(4096, 0, nbd.CMD_FLAG_DF) == b"a" * 4096
h.zero(1024, 1024, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(1024, 2048, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 0) == b"a" * 1024 + bytes(2048) + b"a" * 1024
h.cache(size, 0)
h.flush()
chunks = []
h.pread_structured(1 << 20, 1 << 20, lambda data, offset, status, error: chunks.append(status))
assert chunks == [nbd.READ_HOLE], chunks
extents = []
h.block_status(size, 0, lambda name, offset, found, error: extents.extend(found))
assert sum(extents[::2]) == size, extents
refused(errno.EINVAL, h.pread, 1, size)
refused(errno.ENOSPC, h.pwrite, b"x", size)
refused(errno.EINVAL, h.pread, 512, 0, 1 << 9)
refused(errno.EINVAL, h.trim, 0, 0)
h.shutdown()
"""
        for uri in self.uris():
            await run("nbdsh", "--base-allocation", "--uri", uri, "-c", script)

    @needs("nbdfuse", "fusermount3")
    async def test_nbdfuse(self) -> None:
        """Mounted with nbdfuse an export is a file like any other."""
        if not os.path.exists("/dev/fuse"):
            self.skipTest("there is no /dev/fuse here")
        directory = self.mktemp()
        os.mkdir(directory)
        mount = Server(self, f"{directory}/nbd", "nbdfuse", directory, self.uri("vol"))
        image = self.image(2)
        try:
            await mount.started()
            await run("dd", f"if={image}", f"of={directory}/nbd", "bs=1M", "conv=notrunc,fsync", "status=none")
            await run("cmp", image, f"{directory}/nbd")
        finally:
            await run("fusermount3", "-u", directory, expect=None)
            await mount.stop()
        written = bytes(await self.file.read(0, SIZE))
        self.assertTrue(Path(image).read_bytes() == written)


class QEMUTests(OurServerTestCase):
    """The programs of QEMU."""

    @needs("qemu-img")
    async def test_qemu_img(self) -> None:
        """qemu-img converts, compares and maps, and sees the size."""
        image = self.image()
        for uri in self.uris():
            info = json.loads(await run("qemu-img", "info", "--output=json", uri))
            self.assertEqual(SIZE, info["virtual-size"])
            await run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, uri)
            await run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri)
            back = self.mktemp()
            await run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, back)
            self.assertTrue(Path(image).read_bytes() == Path(back).read_bytes(), uri)
            extents = json.loads(await run("qemu-img", "map", "--output=json", "-f", "raw", uri))
            self.assertEqual(SIZE, sum(extent["length"] for extent in extents))
            self.assertEqual({True, False}, {extent["zero"] for extent in extents})

    @needs("qemu-io")
    async def test_qemu_io(self) -> None:
        """qemu-io writes, reads, discards, zeroes and flushes, with FUA, aligned and not."""
        commands = (
            "write -P 7 0 1M",
            "read -P 7 0 1M",
            "write -f -P 9 4k 4k",
            "read -P 9 4k 4k",
            "write -P 3 5000 77",
            "read -P 3 5000 77",
            "read -P 9 5077 100",
            "discard 0 64k",
            "read -P 0 0 64k",
            "write -z 128k 128k",
            "read -P 0 128k 128k",
            "write -z -u -f 256k 1000",
            "read -P 0 256k 1000",
            "read -P 7 263144 100",
            "aio_write -P 5 512k 64k",
            "aio_flush",
            "aio_read -P 5 512k 64k",
            "aio_flush",
            "flush",
        )
        arguments = [word for command in commands for word in ("-c", command)]
        for uri in self.uris():
            said = await run("qemu-io", "-f", "raw", uri, *arguments)
            self.assertNotIn("failed", said)
            self.assertNotIn("error", said)
        said = await run("qemu-io", "-f", "raw", "-r", self.uri("ro"), "-c", "read -P 7 65536 512")
        self.assertIn("read 512/512", said)
        await run("qemu-io", "-f", "raw", self.uri("ro"), "-c", "write 0 512", expect=1)

    @needs("qemu-storage-daemon", "qemu-io")
    async def test_qemu_storage_daemon(self) -> None:
        """qemu-storage-daemon uses an export and exports it again."""
        path = short_socket(self)
        server = Server(
            self,
            path,
            "qemu-storage-daemon",
            "--blockdev",
            f"driver=nbd,node-name=far,server.type=unix,server.path={self.socket},export=vol",
            "--nbd-server",
            f"addr.type=unix,addr.path={path}",
            "--export",
            "type=nbd,id=e,node-name=far,name=again,writable=on",
        )
        await server.started()
        uri = f"nbd+unix:///again?socket={path}"
        commands = [word for command in ("write -P 6 1M 1M", "read -P 6 1M 1M", "flush") for word in ("-c", command)]
        said = await run("qemu-io", "-f", "raw", uri, *commands)
        self.assertIn("wrote 1048576/1048576", said)
        self.assertEqual(b"\6" * 512, bytes(await self.file.read(1 << 20, 512)))
        await server.stop()


class FioTests(OurServerTestCase):
    """fio's own NBD client, which checks what it reads."""

    @needs("fio")
    async def test_verify(self) -> None:
        """Random writes of many sizes at depth 32 are read back with their checksums, by two clients at once."""
        jobs = [
            run(
                "fio",
                "--name=t",
                "--ioengine=nbd",
                f"--uri={uri}",
                "--rw=randwrite",
                "--bsrange=4k-128k",
                "--iodepth=32",
                "--size=24M",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--randrepeat=1",
                "--trim_percentage=0",
                "--output-format=json",
            )
            for uri in self.uris()
        ]
        for said in await gatherResults([ensureDeferred(job) for job in jobs]):
            (job,) = json.loads(said[said.index("{") :])["jobs"]
            self.assertEqual(0, job["error"])
            self.assertGreaterEqual(job["write"]["io_bytes"], 24 << 20)
            self.assertGreaterEqual(job["read"]["io_bytes"], 24 << 20)


def _node(path: str, export: str = "", **options: Any) -> NBDNode:
    return NBDNode(reactor, "far", UNIXClientEndpoint(reactor, path), export, address=path, **options)


async def _over(
    case: TestCase, path: str, *command: str, export: str = "", pid_file: str = "", **options: Any
) -> Specimen:
    server = Server(case, path, *command, pid_file=pid_file)
    await server.started()
    # A foreign server has no incarnation, and need not tell holes.
    return Specimen(
        _node(path, export, **options),
        reopen=lambda: _node(path, export, **options),
        remembers=False,
        tells_holes=False,
    )


async def over_nbdkit(case: TestCase) -> Specimen:
    """nbdkit's memory."""
    path = short_socket(case)
    return await _over(case, path, "nbdkit", "--foreground", "--unix", path, "memory", "8M")


async def over_nbdkit_of_sectors(case: TestCase) -> Specimen:
    """nbdkit's memory with a block size, without write-zeroes."""
    path = short_socket(case)
    filters = ["--filter=blocksize-policy", "--filter=nozero"]
    settings = [
        "blocksize-minimum=4096",
        "blocksize-preferred=4096",
        "blocksize-maximum=1M",
        "blocksize-error-policy=error",
    ]
    return await _over(case, path, "nbdkit", "--foreground", "--unix", path, *filters, "memory", "8M", *settings)


async def over_nbdkit_read_only(case: TestCase) -> Specimen:
    """nbdkit, read-only."""
    path = short_socket(case)
    return await _over(case, path, "nbdkit", "--foreground", "--readonly", "--unix", path, "memory", "8M")


async def over_qemu_nbd(case: TestCase) -> Specimen:
    """qemu-nbd on a raw file."""
    path, image = short_socket(case), case.mktemp()
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    return await _over(
        case, path, "qemu-nbd", "--persistent", "--shared=0", "--discard=unmap", "-f", "raw", "-k", path, image
    )


async def over_nbd_server(case: TestCase) -> Specimen:
    """nbd-server on a file."""
    path, image, config = short_socket(case), case.mktemp(), case.mktemp()
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    pid_file = os.path.abspath(case.mktemp())
    Path(config).write_text(
        f"[generic]\nunixsock = {path}\nlistenaddr = 127.0.0.1\nport = 10809\n"
        f"[vol]\nexportname = {os.path.abspath(image)}\nflush = true\nfua = true\ntrim = true\n"
    )
    command = ("nbd-server", "-C", config, "-p", pid_file)
    return await _over(case, path, *command, pid_file=pid_file, export="vol")


@needs("nbdkit")
class NbdkitTests(node_suite(NBDNode, over_nbdkit, make_read_only=over_nbdkit_read_only)):
    """A node of nbdkit keeps the promises of a node."""

    timeout = 120


@needs("nbdkit")
class NbdkitOfSectorsTests(node_suite(NBDNode, over_nbdkit_of_sectors)):
    """So does one with blocks, and without zeroes."""

    timeout = 120


@needs("qemu-nbd")
class QEMUNBDTests(node_suite(NBDNode, over_qemu_nbd)):
    """A node of qemu-nbd keeps the promises of a node."""

    timeout = 120


@needs("nbd-server")
class NBDServerTests(node_suite(NBDNode, over_nbd_server)):
    """A node of nbd-server keeps the promises of a node."""

    timeout = 120


class ForeignServerTests(TestCase):
    """What real servers lack, and how they leave."""

    timeout = 120

    @needs("nbdkit")
    async def test_killed(self) -> None:
        """When nbdkit is killed the node is away; when it is back the node is ready, in another incarnation."""
        path = short_socket(self)
        command = ("nbdkit", "--foreground", "--unix", path, "memory", "8M")
        server = Server(self, path, *command)
        await server.started()
        node = _node(path, delay_s_first=0.05, delay_s_max=0.2)
        self.addCleanup(node.close)
        await node.open()
        before = node.incarnation
        await node.write(0, b"x" * 4096)
        await server.stop()
        await self.link(node, LinkState.AWAY)
        os.unlink(path)
        server = Server(self, path, *command)
        await server.started()
        await self.link(node, LinkState.READY)
        self.assertNotEqual(before, node.incarnation)
        self.assertEqual(bytes(4096), bytes(await node.read(0, 4096)))  # memory: it has lost it, as it may
        await node.close()
        await server.stop()

    async def link(self, node: NBDNode, link: LinkState) -> None:
        """Wait for a link state."""
        for _ in range(400):
            if node.link is link:
                return
            await deferLater(reactor, 0.025)
        self.fail(f"{node.name} is {node.link}: {node.reason}")

    @needs("nbdkit")
    async def test_without_flush(self) -> None:
        """nbdkit without flush: nothing can be made durable, and that is said."""
        path = short_socket(self)
        specimen = await _over(
            self, path, "nbdkit", "--foreground", "--unix", path, "eval", "get_size=echo 65536", "pread=exit 1"
        )
        node = specimen.node
        self.addCleanup(node.close)
        await node.open()
        await self.assertFailure(node.flush(), NotSupported)
        await node.close()

    @needs("nbdkit")
    async def test_errors(self) -> None:
        """An error of nbdkit's plugin arrives with its kind."""
        path = short_socket(self)
        specimen = await _over(
            self,
            path,
            "nbdkit",
            "--foreground",
            "--unix",
            path,
            "eval",
            "get_size=echo 65536",
            "pread=echo ENOMEM no reading here >&2; exit 1",
        )
        node = specimen.node
        self.addCleanup(node.close)
        await node.open()
        await self.assertFailure(node.read(0, 512), LimitReached)
        await node.close()

    @needs("qemu-nbd", "nbdcopy")
    async def test_block_status(self) -> None:
        """The holes of qemu-nbd's file are ours."""
        path, image = short_socket(self), self.mktemp()
        with open(image, "wb") as file:
            file.truncate(8 << 20)
            file.seek(4 << 20)
            file.write(b"x" * (1 << 20))
        specimen = await _over(self, path, "qemu-nbd", "--persistent", "-f", "raw", "-k", path, image)
        node = specimen.node
        self.addCleanup(node.close)
        await node.open()
        first, second = (await node.block_status(3 << 20, 2 << 20))[:2]
        self.assertEqual((1 << 20, 1 << 20), (first.length, second.length))
        self.assertTrue(first.status & BlockStatus.ZERO)
        self.assertEqual(BlockStatus.DATA, second.status)
        await node.close()
