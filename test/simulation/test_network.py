"""Tests of L{dst.simulation.network}."""

from __future__ import annotations

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, serverFromString
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.simulation.network import SEND_BYTES_MAX, Network
from dst.simulation.reactor import SimulatedReactor
from dst.simulation.world import Host, Process, World


class Talker(Protocol):
    """Remembers everything."""

    def __init__(self) -> None:
        self.made = False
        self.received = b""
        self.pieces: list[int] = []
        self.lost: list[type] = []
        self.paused = 0

    def connectionMade(self) -> None:
        self.made = True

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.pieces.append(len(data))

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason.type)

    def pauseProducing(self) -> None:
        self.paused += 1

    def resumeProducing(self) -> None:
        self.paused -= 1

    def stopProducing(self) -> None:
        """Not asked for here."""


class NetworkTests(SynchronousTestCase):
    """Two hosts with a process each, and what is between them."""

    def setUp(self) -> None:
        self.world = World(3)
        self.network = Network(self.world)
        self.hosts = [Host(self.world, name) for name in ("a", "b")]
        self.processes = [Process(self.world, host, host.name) for host in self.hosts]
        self.reactors = [SimulatedReactor(process, self.network, lambda _: None) for process in self.processes]
        self.servers: list[Talker] = []

    def serve(self) -> None:
        """The second host listens, through an endpoint of Twisted's."""
        factory = Factory.forProtocol(self.new_server)
        endpoint = serverFromString(self.reactors[1], "tcp:7450:interface=10.0.0.2")
        self.port = self.successResultOf(endpoint.listen(factory))

    def new_server(self) -> Talker:
        """The server's end."""
        self.servers.append(Talker())
        return self.servers[-1]

    def connect(self, **options: float) -> Talker:
        """The first host connects, through an endpoint of Twisted's."""
        endpoint = TCP4ClientEndpoint(self.reactors[0], "10.0.0.2", 7450, **options)
        self.connecting = endpoint.connect(Factory.forProtocol(Talker))
        self.world.advance(0.01)
        client: Talker = self.successResultOf(self.connecting)
        return client

    def pair(self) -> tuple[Talker, Talker]:
        """Both ends of a new connection."""
        self.serve()
        return self.connect(), self.servers[-1]

    def test_both_ways(self) -> None:
        """What one end writes the other receives, in order, whole, and not always in one piece."""
        client, server = self.pair()
        sent = bytes(range(256)) * 40
        for at in range(0, len(sent), 64):
            client.transport.write(sent[at : at + 64])
            self.world.advance(0.001)
        server.transport.write(b"and back")
        self.world.advance(1.0)
        self.assertEqual(sent, server.received)
        self.assertEqual(b"and back", client.received)
        self.assertGreater(len([size for size in server.pieces if size % 64]), 2)

    def test_takes_time(self) -> None:
        """Nothing arrives in the moment in which it is sent."""
        client, server = self.pair()
        client.transport.write(b"x")
        self.world.advance(0.00001)
        self.assertEqual(b"", server.received)
        self.world.advance(0.01)
        self.assertEqual(b"x", server.received)

    def test_names(self) -> None:
        """A name is resolved, and always to the same address."""
        self.assertEqual(self.network.address_of("disk.example"), self.network.address_of("disk.example"))
        address = self.network.address_of("disk.example")
        self.successResultOf(
            serverFromString(self.reactors[1], f"tcp:7450:interface={address}").listen(
                Factory.forProtocol(self.new_server)
            )
        )
        connecting = HostnameEndpoint(self.reactors[0], b"disk.example", 7450).connect(Factory.forProtocol(Talker))
        self.world.advance(0.5)
        self.assertTrue(self.successResultOf(connecting).made)

    def test_refused(self) -> None:
        """Where nobody listens, the machine refuses; also when somebody did before."""
        endpoint = TCP4ClientEndpoint(self.reactors[0], "10.0.0.2", 7450)
        connecting = endpoint.connect(Factory.forProtocol(Talker))
        self.world.advance(0.1)
        self.failureResultOf(connecting, ConnectionRefusedError)
        self.serve()
        self.port.stopListening()
        connecting = endpoint.connect(Factory.forProtocol(Talker))
        self.world.advance(0.1)
        self.failureResultOf(connecting, ConnectionRefusedError)

    def test_dark_host(self) -> None:
        """A machine without power says nothing at all."""
        self.serve()
        self.hosts[1].up = False
        connecting = TCP4ClientEndpoint(self.reactors[0], "10.0.0.2", 7450, timeout=5).connect(
            Factory.forProtocol(Talker)
        )
        self.world.advance(4.9)
        self.assertNoResult(connecting)
        self.world.advance(0.2)
        self.failureResultOf(connecting, TimeoutError)

    def test_connecting_through_a_cut(self) -> None:
        """An attempt that is lost is repeated, and works when the cable is mended."""
        self.serve()
        self.network.cut(*self.hosts)
        connecting = TCP4ClientEndpoint(self.reactors[0], "10.0.0.2", 7450).connect(Factory.forProtocol(Talker))
        self.world.advance(3.0)
        self.assertNoResult(connecting)
        self.network.mend(*self.hosts)
        self.world.advance(2.0)
        self.assertTrue(self.successResultOf(connecting).made)

    def test_cancelled(self) -> None:
        """Who no longer wants to be connected is not."""
        self.serve()
        connecting = TCP4ClientEndpoint(self.reactors[0], "10.0.0.2", 7450).connect(Factory.forProtocol(Talker))
        connecting.cancel()
        self.failureResultOf(connecting)
        self.world.advance(1.0)
        self.assertEqual([], [server for server in self.servers if not server.lost])

    def test_said_goodbye(self) -> None:
        """What was written before the connection is closed arrives; then both ends hear that it is closed."""
        client, server = self.pair()
        client.transport.write(b"last words")
        client.transport.loseConnection()
        client.transport.write(b"too late")
        self.world.advance(0.1)
        self.assertEqual(b"last words", server.received)
        self.assertEqual(([ConnectionDone], [ConnectionDone]), (client.lost, server.lost))
        self.assertEqual({}, self.network.ends)

    def test_aborted(self) -> None:
        """An aborted connection is reset at the other end."""
        client, server = self.pair()
        client.transport.abortConnection()
        self.assertEqual([], client.lost)
        self.world.advance(0.1)
        self.assertEqual(([ConnectionAborted], [ConnectionLost]), (client.lost, server.lost))

    def test_killed(self) -> None:
        """The kernel tells the peers of a process that was killed."""
        client, server = self.pair()
        self.network.died(self.processes[1], silently=False)
        self.world.bury(self.processes[1])
        self.world.advance(0.1)
        self.assertEqual([ConnectionLost], client.lost)
        self.assertEqual([], server.lost)

    def test_power(self) -> None:
        """Nobody tells the peers of a machine without power, until they send something after it is back."""
        client, _ = self.pair()
        self.network.died(self.processes[1], silently=True)
        self.world.bury(self.processes[1])
        self.hosts[1].up = False
        client.transport.write(b"hello?")
        self.world.advance(60.0)
        self.assertEqual([], client.lost)
        self.hosts[1].up = True
        self.network.wake([self.hosts[1]])
        self.world.advance(2.0)
        self.assertEqual([ConnectionLost], client.lost)

    def test_cut(self) -> None:
        """Through a cut cable nothing comes; what was sent arrives when it is mended, once and in order."""
        client, server = self.pair()
        a, b = self.hosts
        self.network.cut(a, b)
        self.network.cut(b, a)
        client.transport.write(b"one ")
        server.transport.write(b"1 ")
        self.world.advance(5.0)
        client.transport.write(b"two")
        self.assertEqual((b"", b""), (server.received, client.received))
        self.network.mend(a, b)
        self.network.mend(b, a)
        self.world.advance(2.0)
        self.assertEqual((b"one two", b"1 "), (server.received, client.received))

    def test_one_way_cut(self) -> None:
        """One way may be cut and the other not; then nothing is acknowledged, and the sender ends up paused."""
        client, server = self.pair()
        a, b = self.hosts
        self.network.cut(b, a)
        server.transport.write(b"lost on the way")
        client.transport.registerProducer(client, True)
        for _ in range(SEND_BYTES_MAX // 65536 + 1):
            client.transport.write(bytes(65536))
            self.world.advance(0.01)
        self.world.advance(2.0)
        self.assertEqual(SEND_BYTES_MAX + 65536, len(server.received))
        self.assertEqual(b"", client.received)
        self.assertEqual(1, client.paused)
        self.network.mend(b, a)
        self.world.advance(2.0)
        self.assertEqual(b"lost on the way", client.received)
        self.assertEqual(0, client.paused)

    def test_reset_is_lost_in_a_cut(self) -> None:
        """An abort does not get through a cut; the peer finds out when it next sends something."""
        client, server = self.pair()
        a, b = self.hosts
        self.network.cut(a, b)
        client.transport.abortConnection()
        self.world.advance(1.0)
        self.network.mend(a, b)
        self.world.advance(5.0)
        self.assertEqual([], server.lost)
        server.transport.write(b"are you there?")
        self.world.advance(1.0)
        self.assertEqual([ConnectionLost], server.lost)

    def test_back_pressure(self) -> None:
        """A sender whose peer does not read is paused, and goes on when it does."""
        client, server = self.pair()
        server.transport.pauseProducing()
        client.transport.registerProducer(client, True)
        for _ in range(5):
            client.transport.write(bytes(SEND_BYTES_MAX // 4))
        self.assertEqual(1, client.paused)
        self.world.advance(5.0)
        self.assertEqual((0, 1), (len(server.received), client.paused))
        server.transport.resumeProducing()
        self.world.advance(1.0)
        self.assertEqual((5 * SEND_BYTES_MAX // 4, 0), (len(server.received), client.paused))

    def test_goodbye_waits_for_the_producer(self) -> None:
        """As with Twisted's own: a connection with a producer is closed when that has unregistered."""
        client, server = self.pair()
        client.transport.registerProducer(client, True)
        client.transport.loseConnection()
        self.world.advance(1.0)
        self.assertEqual([], server.lost)
        client.transport.unregisterProducer()
        self.world.advance(1.0)
        self.assertEqual([ConnectionDone], server.lost)

    def test_slow_link(self) -> None:
        """A slow link takes its time for every byte."""
        client, server = self.pair()
        self.network.link(*self.hosts).bytes_per_s = 10_000.0
        for _ in range(10):
            client.transport.write(bytes(1000))
        self.world.advance(0.55)
        self.assertTrue(4000 <= len(server.received) <= 6000, len(server.received))
        self.world.advance(1.0)
        self.assertEqual(10_000, len(server.received))

    def test_broken_off(self) -> None:
        """A connection breaks in the middle of a message: part of it arrives, and both ends see a reset."""
        client, server = self.pair()
        client.transport.write(bytes(10_000))
        self.assertEqual("a and b", " and ".join(sorted(self.network.reset_one().split(" and "))))
        self.world.advance(1.0)
        self.assertLess(len(server.received), 10_000)
        self.assertEqual(([ConnectionLost], [ConnectionLost]), (client.lost, server.lost))
        self.assertEqual("", self.network.reset_one())

    def test_server_that_stands_still(self) -> None:
        """A process that stands still takes nothing, and its kernel keeps it."""
        client, server = self.pair()
        self.processes[1].stand()
        client.transport.write(b"for later")
        other = TCP4ClientEndpoint(self.reactors[0], "10.0.0.2", 7450).connect(Factory.forProtocol(Talker))
        self.world.advance(5.0)
        self.assertEqual(b"", server.received)
        self.assertTrue(self.successResultOf(other).made)
        self.assertEqual(1, len(self.servers))
        self.processes[1].go_on()
        self.world.advance(1.0)
        self.assertEqual(b"for later", server.received)
        self.assertEqual(2, len(self.servers))
