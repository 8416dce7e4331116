"""
Fencing on real processes: two owners reach one export of a daemon over TCP, and the daemon is killed.
"""

from __future__ import annotations

import os
import signal
from random import Random

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase

from dst.errors import DSTError, Fenced, ReadOnly, Unavailable
from dst.nodes.nbd import NBDNode
from dst.nodes.remote import RemoteNode
from dst.ownership import Claim, Promise
from dst.status import LinkState
from test.integration.cluster import soon
from test.integration.daemon_process import DaemonProcess, until_ready

CONFIGURATION = """\
[daemon]
state_dir = "state"

[listeners]
dst = ["tcp:{dst}:interface=127.0.0.1"]
nbd = ["tcp:{nbd}:interface=127.0.0.1"]

[nodes.leg]
uri = "file:leg.img?size=4M"

[exports.leg]
device = "leg"
"""

LEASE_S = 1.5

A, B = b"a" * 16, b"b" * 16


class FencingTests(TestCase):
    """One daemon with one file."""

    timeout = 120

    async def launch(self) -> DaemonProcess:
        """Start the daemon, the second time where it was the first time."""
        ports = {"dst": 0, "nbd": 0} if self.daemon is None else self.daemon.ports
        path = os.path.join(self.directory, "cluster.toml")
        with open(path, "w") as file:
            file.write(CONFIGURATION.format(**ports))
        self.daemon = DaemonProcess(self, "--config", path)
        return await self.daemon.started

    def setUp(self) -> None:
        self.daemon: DaemonProcess | None = None
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)

    async def owner(self, name: str) -> RemoteNode:
        """One that may claim the export."""
        assert self.daemon is not None
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.daemon.ports["dst"])
        node = RemoteNode(reactor, name, endpoint, "leg", random=Random(1), resend_s_max=20.0)
        self.addCleanup(node.close)
        await node.open()
        return await until_ready(node)  # type: ignore[return-value]

    async def claim(self, node: RemoteNode, number: int, owner: bytes) -> Promise:
        return await node.claim(Claim(number, number * 11, owner), LEASE_S, node.name)

    async def claimed(self, node: RemoteNode, number: int, owner: bytes) -> bool:
        try:
            return (await self.claim(node, number, owner)).claim.owner == owner
        except DSTError:
            return False

    async def test_survives_a_kill(self) -> None:
        """
        A claim survives SIGKILL of the daemon: who had it goes on over a new connection, and another owner is refused
        until nothing was heard of it for the lease time, counted from the daemon's start.
        """
        await self.launch()
        a, b = await self.owner("a"), await self.owner("b")
        self.assertEqual(1, (await self.claim(a, 1, A)).claim.number)
        await a.write(0, b"1" * 4096, fua=True)
        fence = a.fence
        for _ in range(2):
            assert self.daemon is not None
            await self.daemon.kill()
            writing = a.write(4096, b"2" * 4096)
            await self.launch()
            await writing  # sent again, under the claim that both sides remember
            await until_ready(b)
            self.assertEqual((fence, fence), (a.fence, b.fence))
            await a.renew()
            self.assertEqual((1, A), ((await self.claim(b, 2, B)).claim.number, (await b.ask()).claim.owner))
            with self.assertRaises(Fenced):
                await b.write(0, b"?" * 4096)
        await soon(lambda: self.claimed(b, 2, B), lambda: f"b has no claim: {b.reason}")
        for refused in (a.write(0, b"?" * 4096), a.read(0, 4096)):
            with self.assertRaises(Fenced):
                await refused
        await b.write(4096, b"3" * 4096)
        self.assertEqual(b"1" * 4096 + b"3" * 4096, bytes(await b.read(0, 8192)))

    async def test_late_writes_of_a_stopped_owner(self) -> None:
        """What an old owner has on its way when it is claimed away from never reaches the file."""
        await self.launch()
        a, b = await self.owner("a"), await self.owner("b")
        await self.claim(a, 1, A)
        await soon(lambda: self.claimed(b, 2, B), lambda: f"b has no claim: {b.reason}")
        await b.write(0, b"b" * 65536)
        late = [a.write(offset, b"a" * 4096) for offset in range(0, 65536, 4096)]
        for each in late:
            with self.assertRaises(Fenced):
                await each
        self.assertEqual(b"b" * 65536, bytes(await b.read(0, 65536)))

    async def test_nbd_client(self) -> None:
        """A client without claims is cut off when the device is claimed, reads on, and writes after the release."""
        daemon = await self.launch()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", daemon.ports["nbd"])
        client = NBDNode(reactor, "client", endpoint, "leg", random=Random(1))
        self.addCleanup(client.close)
        await client.open()
        await client.write(0, b"n" * 4096)
        a = await self.owner("a")
        await self.claim(a, 1, A)

        async def read_only() -> bool:
            return client.link is LinkState.READY and client.geometry.read_only

        await soon(read_only, lambda: f"it may still write: {client.link} {client.reason}")
        self.assertEqual(b"n" * 4096, bytes(await client.read(0, 4096)))
        with self.assertRaises(ReadOnly):
            await client.write(0, b"?" * 4096)
        await a.write(0, b"a" * 4096)
        await a.release()

        async def writable() -> bool:
            return client.link is LinkState.READY and not client.geometry.read_only

        await soon(writable, lambda: f"it may not write: {client.link} {client.reason}")
        await client.write(0, b"m" * 4096)

    async def test_promises_damaged(self) -> None:
        """A daemon whose memory of promises is damaged starts, does not serve that device, and says why."""
        daemon = await self.launch()
        await (await self.owner("a")).close()
        self.assertEqual(-signal.SIGTERM, await daemon.stop())
        path = os.path.join(self.directory, "state", "fences", "leg.fence")
        with open(path, "r+b") as file:
            file.truncate(20)
        daemon = await self.launch()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", daemon.ports["dst"])
        node = RemoteNode(reactor, "a", endpoint, "leg", random=Random(1))
        self.addCleanup(node.close)
        await node.open()
        self.assertIn("leg.fence", node.reason)
        with self.assertRaises(Unavailable):
            await node.read(0, 4096)
        self.assertEqual(20, os.path.getsize(path))
        self.assertEqual(-signal.SIGTERM, await daemon.stop())
