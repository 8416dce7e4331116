"""Many NBD clients of one server at once, some of them a nuisance."""

from __future__ import annotations

import os
import random
import resource
import socket

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.exports.nbd_server import NBDServerFactory
from dst.nbd import constants as nbd
from dst.nbd.replies import encode_request
from dst.nodes.memory import MemoryDevice
from dst.nodes.nbd import NBDNode
from dst.status import LinkState
from test.exports.offered import Offered
from test.exports.test_nbd_server import go, option, write

SIZE = 64 << 20
CLIENTS = 64
SHARE = SIZE // CLIENTS


class CrowdTests(TestCase):
    """Nobody's data is mixed up, nobody waits for a nuisance, and memory stays where it is."""

    timeout = 120

    async def setUp(self) -> None:
        self.device = MemoryDevice(reactor, "vol", SIZE)
        await self.device.open()
        self.server = NBDServerFactory(reactor, Offered(vol=self.device))
        self.path = f"/tmp/dst-{os.getpid()}-{random.Random().randrange(1 << 32):08x}"
        self.port = reactor.listenUNIX(self.path, self.server)
        self.sockets: list[socket.socket] = []
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        """Leave nothing."""
        for each in self.sockets:
            each.close()
        await self.port.stopListening()
        await self.server.drain()
        self.assertEqual((0, 0), (self.server.connections, self.server.budget.used_bytes))

    async def nuisance(self, data: bytes) -> None:
        """A client that says C{data}, as far as it is taken, and then nothing; it never reads."""
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        client.connect(self.path)
        self.sockets.append(client)
        await deferLater(reactor, 0)
        rest = memoryview(data)
        for _ in range(50):
            try:
                rest = rest[client.send(rest) :]
            except BlockingIOError:
                pass
            except OSError:
                return  # cut off
            await deferLater(reactor, 0)

    async def use(self, number: int) -> None:
        """A client that writes and reads its share of the device, often, and compares."""
        node = NBDNode(reactor, f"client-{number}", UNIXClientEndpoint(reactor, self.path), "vol")
        self.addCleanup(node.close)
        await node.open()
        while node.link is not LinkState.READY:  # more connect at once than the kernel keeps waiting
            await deferLater(reactor, 0.01)
        generator = random.Random(number)
        content = bytearray(SHARE)
        start = number * SHARE
        for _ in range(12):
            writes = []
            for index in generator.sample(range(SHARE // 16384), 8):
                data = generator.randbytes(generator.choice((512, 4096, 16384)))
                content[index * 16384 : index * 16384 + len(data)] = data
                writes.append(node.write(start + index * 16384, data, fua=generator.random() < 0.2))
            await gatherResults(writes)
        self.assertTrue(bytes(content) == bytes(await node.read(start, SHARE)), number)
        await node.close()

    async def test_crowd(self) -> None:
        """Sixty-four clients, and beside them some that stall in every way there is."""
        begin = (3).to_bytes(4, "big") + go("vol")
        reads = b"".join(encode_request(nbd.CMD_READ, 0, cookie, 0, 1 << 20) for cookie in range(500))
        for data in (
            b"",
            begin[:7],
            (3).to_bytes(4, "big") + option(nbd.OPT_LIST) * 2000,
            begin + reads,
            begin + write(1, 0, bytes(32 << 20))[: 31 << 20],
            begin + write(1, 0, bytes(512))[:100],
            begin + bytes(100),
            os.urandom(5000),
        ):
            await self.nuisance(data)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # The first share is written to by none of the nuisances: what they began was never finished.
        await gatherResults([ensureDeferred(self.use(number)) for number in range(CLIENTS)])
        self.assertGreaterEqual(self.server.connections, 4)  # those that only wait are still there
        self.assertLess(self.server.budget.used_bytes, self.server.limits.bytes_max)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        # The device itself is 64 MiB, the clients' copies another 64. As clients take turns all are read back at the
        # same time: 64 are being sent, and 64 received; the rest is what the allocator makes of that.
        self.assertLess(grown_kib, 340 * 1024)
