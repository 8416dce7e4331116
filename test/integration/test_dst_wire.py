"""The DST wire over real sockets: TCP, IPv6, UNIX; many clients, bad clients, cut cables."""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from random import Random
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from dst.exports.dst_server import DSTServerFactory, Limits
from dst.interfaces import INode
from dst.nodes.memory import MemoryDevice
from dst.nodes.remote import RemoteNode
from dst.nodes.remote_provider import RemoteNodeProvider, RemoteUNIXNodeProvider
from dst.status import LinkState
from dst.testing.node_suite import node_suite
from dst.testing.specimen import Specimen
from dst.wire.framing import request_header
from dst.wire.handshake import Hello, encode_hello
from dst.wire.messages import Operation
from test.transport.serving import Exports

reactor: Any = global_reactor


def turn(seconds: float = 0) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)


class Server:
    """A server of one memory device on one port."""

    def __init__(
        self, case: Any, endpoint: IStreamServerEndpoint, size: int, limits: Limits | None, **options: Any
    ) -> None:
        self.device = MemoryDevice(reactor, "vol", size, **options)
        self.device.open()
        self.factory = DSTServerFactory(reactor, Exports(self.device), limits=limits)
        self.endpoint = endpoint
        self.port: IListeningPort
        self.case = case

    async def start(self) -> Server:
        self.port = await self.endpoint.listen(self.factory)
        self.listening = True
        self.case.addCleanup(self.stop)
        return self

    def stop(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self.listening:
            self.listening = False
            await self.port.stopListening()
            await self.factory.drain()

    @property
    def number(self) -> int:
        return self.port.getHost().port  # type: ignore[attr-defined, no-any-return]


async def serve(case: Any, size: int = 16 << 20, limits: Limits | None = None, **options: Any) -> Server:
    return await Server(case, TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), size, limits, **options).start()


async def open_node(case: Any, uri: str, **options: object) -> INode:
    provider = RemoteUNIXNodeProvider() if uri.startswith("dst+unix") else RemoteNodeProvider()
    node = provider.node_from_uri(reactor, "r", uri, options)
    case.addCleanup(node.close)
    await node.open()
    case.assertIs(LinkState.READY, node.link, node.reason)
    return node


async def over_tcp(case: Any) -> Specimen:
    server = await serve(case)
    return specimen(f"dst://127.0.0.1:{server.number}/vol")


async def over_unix(case: Any) -> Specimen:
    directory = tempfile.mkdtemp()  # trial's are longer than the kernel allows for a socket
    case.addCleanup(os.rmdir, directory)
    await Server(case, UNIXServerEndpoint(reactor, f"{directory}/s"), 16 << 20, None).start()
    return specimen(f"dst+unix://{directory}/s?export=vol")


def specimen(uri: str) -> Specimen:
    provider = RemoteUNIXNodeProvider() if uri.startswith("dst+unix") else RemoteNodeProvider()

    def make() -> INode:
        return provider.node_from_uri(reactor, "r", uri, {})

    return Specimen(make(), reopen=make)


class TCPSuite(node_suite(RemoteNode, over_tcp)):  # type: ignore[misc]
    """A remote node over TCP keeps every promise of a node."""


class UNIXSuite(node_suite(RemoteNode, over_unix)):  # type: ignore[misc]
    """And over a UNIX socket."""


class Cable(Protocol):
    """One side of a proxied connection."""

    other: Cable | None = None

    def connectionMade(self) -> None:
        self.early: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            assert self.other.transport is not None
            self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class Proxy(Factory):
    """Passes connections on to a port, and can cut them."""

    noisy = False

    def __init__(self, number: int) -> None:
        self.target = TCP4ClientEndpoint(reactor, "127.0.0.1", number)
        self.cables: list[Cable] = []
        self.cuts = 0

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        near = Cable()

        def connected(far: Any) -> None:
            near.other, far.other = far, near
            self.cables.append(near)
            for data in near.early:
                far.transport.write(data)

        self.target.connect(Factory.forProtocol(Cable)).addCallbacks(connected, lambda _: near.connectionLost())
        return near

    def cut(self) -> None:
        for cable in self.cables:
            if cable.transport is not None and cable.connected:
                self.cuts += 1
                cable.transport.abortConnection()  # type: ignore[attr-defined]
        self.cables.clear()


class SocketTests(TestCase):
    timeout = 60

    async def test_ipv6(self) -> None:
        """A server on IPv6 is reached by its address in brackets."""
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            raise SkipTest("there is no IPv6 on the loopback interface of this machine")
        server = await Server(self, TCP6ServerEndpoint(reactor, 0, interface="::1"), 1 << 20, None).start()
        node = await open_node(self, f"dst://[::1]:{server.number}/vol")
        await node.write(0, b"six" * 100)
        self.assertEqual(b"six" * 100, bytes(await node.read(0, 300)))

    async def test_name(self) -> None:
        """A server is reached by its name."""
        server = await serve(self)
        node = await open_node(self, f"dst://localhost:{server.number}/vol")
        await node.flush()

    async def test_largest_transfer(self) -> None:
        """The largest transfer arrives as it was sent, in both directions."""
        server = await serve(self, 32 << 20)
        node = await open_node(self, f"dst://127.0.0.1:{server.number}/vol")
        data = Random(2).randbytes(32 << 20)
        await node.write(0, data)
        self.assertEqual(data, bytes(await node.read(0, 32 << 20)))

    async def test_64_clients(self) -> None:
        """64 clients at once, each with many requests in flight, all get what they asked for."""
        server = await serve(self)
        nodes = [await open_node(self, f"dst://127.0.0.1:{server.number}/vol") for _ in range(64)]
        self.assertEqual(64, server.factory.connections)

        async def work(number: int, node: INode) -> None:
            base = number * 65536
            await all_of(node.write(base + n * 4096, bytes([number, n]) * 2048) for n in range(16))
            await node.flush()
            for n, data in enumerate(await all_of(node.read(base + n * 4096, 4096) for n in range(16))):
                self.assertEqual(bytes([number, n]) * 2048, bytes(data))

        await all_of(Deferred.fromCoroutine(work(number, node)) for number, node in enumerate(nodes))
        self.assertEqual(0, server.factory.memory.taken)

    async def test_cut_under_load(self) -> None:
        """
        The cable is cut again and again while many requests are in flight: every one of them completes, none fails,
        and the device holds the last thing that was written to each place.
        """
        server = await serve(self)
        proxy = Proxy(server.number)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(proxy)
        self.addCleanup(port.stopListening)
        node = await open_node(self, f"dst://127.0.0.1:{port.getHost().port}/vol")
        random = Random(4)
        expected: dict[int, bytes] = {}

        async def one(place: int) -> None:
            for round_number in range(30):
                data = random.randbytes(16) * random.choice((32, 256, 2048))
                await node.write(place * 65536, data)
                expected[place] = data
                if round_number % 3 == 0:
                    self.assertEqual(data, bytes(await node.read(place * 65536, len(data))))
                if place == 0 and round_number % 10 == 5:
                    proxy.cut()

        await all_of(Deferred.fromCoroutine(one(place)) for place in range(32))
        self.assertGreaterEqual(proxy.cuts, 3)
        self.assertIs(LinkState.READY, node.link)
        for place, data in expected.items():
            self.assertEqual(data, bytes(await server.device.read(place * 65536, len(data))))
        proxy.cut()
        await node.close()

    async def test_clients_that_do_not_read(self) -> None:
        """
        Clients that ask for much and read nothing cost bounded memory, and a good client is served as before.
        """
        limits = Limits(memory_bytes_max=16 << 20)
        server = await serve(self, limits=limits)
        await server.device.write(0, bytes(range(256)) * 4096)
        before = resident_bytes()
        sockets = [deaf_client(server.number) for _ in range(16)]
        for sock in sockets:
            self.addCleanup(sock.close)
        for _ in range(20):
            await turn(0.01)
        self.assertLessEqual(server.factory.memory.taken, limits.memory_bytes_max + (17 << 20))
        self.assertLess(resident_bytes() - before, 100 << 20)
        node = await open_node(self, f"dst://127.0.0.1:{server.number}/vol")
        self.assertEqual(bytes(range(256)), bytes(await node.read(0, 256)))

    async def test_memory_stays_flat(self) -> None:
        """Much traffic leaves no more memory taken than little."""
        server = await serve(self)
        node = await open_node(self, f"dst://127.0.0.1:{server.number}/vol")
        data = bytes(65536)

        async def traffic() -> None:
            for _ in range(20):
                await all_of(node.write(n * 65536, data) for n in range(64))
                await all_of(node.read(n * 65536, 65536) for n in range(64))

        await traffic()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(4):
            await traffic()
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 16 * 1024)
        self.assertEqual(0, server.factory.memory.taken)

    async def test_garbage(self) -> None:
        """Noise on a hundred connections leaves the server as it was."""
        server = await serve(self)
        node = await open_node(self, f"dst://127.0.0.1:{server.number}/vol")
        noise = Random(7)
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", server.number)) as sock:
                sock.sendall(noise.randbytes(noise.randrange(1, 2000)))
            await turn()
        await node.write(0, b"fine" * 128)
        self.assertEqual(b"fine" * 128, bytes(await node.read(0, 512)))
        while server.factory.connections > 1:
            await turn(0.01)

    async def test_drain(self) -> None:
        """A server that stops says goodbye; the client finds its successor and nobody has noticed."""
        server = await serve(self)
        node = await open_node(self, f"dst://127.0.0.1:{server.number}/vol")
        number = server.number
        await server.stop()
        pending = node.write(0, b"later" * 100)
        server.factory = DSTServerFactory(reactor, Exports(server.device))
        server.endpoint = TCP4ServerEndpoint(reactor, number, interface="127.0.0.1")
        await server.start()
        await pending
        self.assertEqual(b"later", bytes(await server.device.read(0, 5)))

    async def test_close_during_attempt(self) -> None:
        """A node that is closed while it waits for the answer to its hello leaves no connection."""
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Silent))
        self.addCleanup(port.stopListening)
        node = RemoteNodeProvider().node_from_uri(reactor, "r", f"dst://127.0.0.1:{port.getHost().port}/vol", {})
        opening = node.open()
        await turn(0.05)
        await node.close()
        await opening
        self.assertIs(LinkState.CLOSED, node.link)


class Silent(Protocol):
    """Accepts, and says nothing."""


def deaf_client(number: int) -> socket.socket:
    """A client that asks for 64 MiB and reads nothing."""
    sock = socket.create_connection(("127.0.0.1", number))
    data = encode_hello(Hello(os.urandom(16), 1, "deaf", "vol"))
    sock.sendall(request_header(Operation.HELLO, 1, data=data) + data)
    sock.setblocking(True)

    def ask() -> None:
        sock.sendall(b"".join(request_header(Operation.READ, n, 0, 1 << 20) for n in range(2, 66)))

    reactor.callLater(0.05, ask)
    return sock


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def all_of(deferreds: Any) -> list[Any]:
    """Every result; the first failure is raised when all have ended."""
    results = await DeferredList(list(deferreds), consumeErrors=True)
    for success, value in results:
        if not success:
            value.raiseException()
    return [value for _, value in results]
