"""The DST wire over TLS on real sockets: the promises of a node, refusals in words, rotation, and back-pressure."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.exports.dst_server import DSTServerFactory, Limits
from dst.interfaces import INode
from dst.nodes.memory import MemoryDevice
from dst.nodes.remote import RemoteNode
from dst.nodes.remote_provider import RemoteNodeProvider
from dst.security.security import Security
from dst.security.tls import behind_tls
from dst.status import LinkState
from dst.testing.node_suite import node_suite
from dst.testing.specimen import Specimen
from test.security.machines import Machines
from test.transport.serving import Exports

reactor: Any = global_reactor

SIZE = 16 << 20


def turn(seconds: float = 0) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)


async def until(case: Any, true: Any, what: Any) -> None:
    """Wait for something, at most ten seconds."""
    for _ in range(1000):
        if true():
            return
        await turn(0.01)
    case.fail(what() if callable(what) else what)


class Server:
    """Alpha, serving one memory device over TLS."""

    def __init__(self, case: Any, machines: Machines, name: str = "alpha", limits: Limits | None = None) -> None:
        self.case = case
        self.device = MemoryDevice(reactor, "vol", SIZE)
        self.device.open()
        self.security = Security(machines.path(name), reactor)
        self.factory = DSTServerFactory(reactor, Exports(self.device), limits=limits)
        self.port: IListeningPort

    async def start(self, number: int = 0) -> Server:
        door = behind_tls(self.security.server_options(), self.factory, reactor)
        self.port = await TCP4ServerEndpoint(reactor, number, interface="127.0.0.1").listen(door)
        self.security.start()
        self.case.addCleanup(self.stop)
        return self

    def stop(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.security.stop()
        await self.port.stopListening()
        await self.factory.drain()

    @property
    def number(self) -> int:
        return self.port.getHost().port  # type: ignore[attr-defined, no-any-return]


def node(machines: Machines, number: int, client: str = "beta", **options: object) -> INode:
    """Beta's node that is alpha's export."""
    security = Security(machines.path(client), reactor)
    return RemoteNodeProvider().node_from_uri(
        reactor, "r", f"dst://127.0.0.1:{number}/vol", {"tls": True, **options}, security
    )


def two_machines(case: Any) -> Machines:
    machines = Machines(case.mktemp())
    machines.add("alpha")
    machines.add("beta")
    return machines


async def over_tls(case: Any) -> Specimen:
    machines = two_machines(case)
    server = await Server(case, machines).start()

    def make() -> INode:
        return node(machines, server.number)

    return Specimen(make(), reopen=make)


class TLSSuite(node_suite(RemoteNode, over_tls)):  # type: ignore[misc]
    """A remote node over TLS keeps every promise of a node."""


class TLSWireTests(TestCase):
    """What is special with TLS."""

    timeout = 60

    def setUp(self) -> None:
        self.machines = two_machines(self)

    async def open(self, server: Server, client: str = "beta", **options: object) -> INode:
        """A node that has been opened, ready or not."""
        made = node(self.machines, server.number, client, **options)
        self.addCleanup(made.close)
        await made.open()
        return made

    def assert_away(self, made: INode, *words: str) -> None:
        """It cannot be used, for that reason."""
        self.assertIs(LinkState.AWAY, made.link)
        for each in words:
            self.assertIn(each, made.reason)

    async def test_data(self) -> None:
        """Small and large, gathered and single, what is written is what is read; many at once."""
        made = await self.open(await Server(self, self.machines).start())
        self.assertIs(LinkState.READY, made.link, made.reason)
        blocks = {offset: os.urandom(4096) for offset in range(0, 1 << 20, 4096)}
        await DeferredList([made.write(offset, data) for offset, data in blocks.items()], fireOnOneErrback=True)
        read = await DeferredList([made.read(offset, 4096) for offset in blocks], fireOnOneErrback=True)
        self.assertEqual(list(blocks.values()), [bytes(data) for _, data in read])
        large = os.urandom(4 << 20)
        for offset in (0, 4096, 1 << 22):
            await made.write(offset, large)
            self.assertEqual(large, bytes(await made.read(offset, len(large))))
        self.assertEqual(large[4096:8192], bytes(await made.read((1 << 22) + 4096, 4096)))

    async def test_expired(self) -> None:
        """A node whose certificate has ended says so, tries again, and is there when it is renewed."""
        self.machines.moment -= 10 * 86400
        self.machines.add("old", days=5)
        server = await Server(self, self.machines).start()
        made = await self.open(server, "old")
        self.assert_away(made, "refuses this side's certificate: it has ended; renew it with `dst ca renew`")
        self.machines.moment += 10 * 86400
        self.machines.add("old", again=True)
        await until(self, lambda: made.link is LinkState.READY, lambda: made.reason)

    async def test_server_expired(self) -> None:
        """So does one whose server's certificate has ended."""
        self.machines.moment -= 10 * 86400
        self.machines.add("old", days=5)
        made = await self.open(await Server(self, self.machines, "old").start())
        self.assert_away(made, "its certificate (old, serial ", "has ended on ", "renew it with `dst ca renew`")

    async def test_not_the_one(self) -> None:
        """Another machine's server is not taken for the one that was expected."""
        server = await Server(self, self.machines).start()
        self.assertIs(LinkState.READY, (await self.open(server, peer="alpha")).link)
        made = await self.open(server, peer="gamma")
        self.assert_away(made, "(alpha, serial ", "is not the one of gamma, who was expected there")

    async def test_stranger(self) -> None:
        """Machines of two authorities do not talk, and both say why."""
        server = await Server(self, self.machines).start()
        others = Machines(self.mktemp())
        others.add("beta")
        made = node(others, server.number)
        self.addCleanup(made.close)
        await made.open()
        self.assert_away(made, "is of an authority that is not trusted here")

    async def test_plain_to_tls(self) -> None:
        """A node without TLS at a server with it is told what to say."""
        server = await Server(self, self.machines).start()
        made = RemoteNodeProvider().node_from_uri(reactor, "r", f"dst://127.0.0.1:{server.number}/vol", {})
        self.addCleanup(made.close)
        await made.open()
        self.assert_away(made, "without a word; if it has TLS, say tls=on")

    async def test_tls_to_plain(self) -> None:
        """A node with TLS at a server without it says so."""
        server = Server(self, self.machines)
        server.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(server.factory)
        self.addCleanup(server.stop)
        made = await self.open(server)
        self.assert_away(made, "the other side does not speak TLS")

    async def test_revoked(self) -> None:
        """A node that is locked out while it is connected is cut off and stays out; its reason says why."""
        server = await Server(self, self.machines).start()
        made = await self.open(server, resend_s_max=0.5)
        self.assertIs(LinkState.READY, made.link, made.reason)
        self.machines.authority.revoke("beta")
        self.machines.copy("revoked.crl", "alpha")
        server.security.look()
        await until(self, lambda: made.link is LinkState.AWAY and "revoked" in made.reason, lambda: made.reason)
        self.assert_away(made, "refuses this side's certificate: it is revoked")
        self.assertEqual(0, server.factory.connections)

    async def test_back_pressure(self) -> None:
        """
        A client that asks for much and reads nothing takes no more of the server's memory than the limit, is cut in
        the end, and harms nobody else.
        """
        limits = Limits(memory_bytes_max=32 << 20, unread_s_max=10.0)
        server = await Server(self, self.machines, limits=limits).start()
        made = await self.open(server)
        other = await self.open(server)
        await made.write(0, os.urandom(4 << 20))
        protocol = made._session  # type: ignore[attr-defined]
        protocol.transport.pauseProducing()
        reading = [made.read(0, 4 << 20) for _ in range(64)]
        for each in reading:
            each.addErrback(lambda _: None)
        peak = 0
        for _ in range(100):
            await turn(0.005)
            peak = max(peak, server.factory.memory.taken)
        self.assertTrue(0 < peak <= (32 << 20) + (8 << 20), peak)
        await other.write(8 << 20, b"x" * 4096)
        self.assertEqual(b"x" * 4096, bytes(await other.read(8 << 20, 4096)))
        protocol.transport.resumeProducing()
        answers = await DeferredList(reading)
        self.assertEqual({4 << 20}, {len(data) for _, data in answers})

    async def test_slow_handshake(self) -> None:
        """Who connects and never begins TLS, or stops in the middle, is let go after a time."""
        server = await Server(self, self.machines, limits=Limits(hello_s_max=0.3)).start()
        silent = socket.create_connection(("127.0.0.1", server.number))
        half = socket.create_connection(("127.0.0.1", server.number))
        for each in (silent, half):
            self.addCleanup(each.close)
        half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        await until(self, lambda: server.factory.connections == 2, "they did not come in")
        await until(self, lambda: server.factory.connections == 0, "they were not let go")
