"""
TCP in memory, with everything that a real network does to it.

A connection is two ends.  What one writes is cut at the places where chance says so, travels, waits where
the receiver does not read, and comes out in order.  A sender whose peer does not take what it sends is paused, as
by Twisted's transports.  What goes wrong is asked for by faults:

  - C{cut(a, b)}: nothing from host a reaches host b.  What was sent is kept and sent again, as TCP does; what says
    that a connection is over for good (RST) is lost.  Both ways is a cut cable, one way is what broken switches do.
  - C{slow(a, b)}: another delay, and so many bytes a second.
  - C{reset_one}: a connection breaks in the middle of whatever is on its way.

The kernel speaks for a process that was killed: its peers see a reset.  Nobody speaks for a machine without
power: its peers see nothing, until they send something after it is back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from attrs import define
from twisted.internet import error, main
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IConnector, IListeningPort, IProtocol, ITCPTransport
from twisted.internet.protocol import ClientFactory, ServerFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.simulation.world import Event, Host, Process, World

__all__ = ["SEND_BYTES_MAX", "Connector", "Link", "Network", "Port"]

SEND_BYTES_MAX = 256 * 1024
"""What a sender may have on its way, unread or unacknowledged: a usual socket buffer."""

DELAY_S = (0.00005, 0.0006)
"""From one machine to another, in one rack."""

LOCAL_DELAY_S = (0.00001, 0.00004)

RETRY_S = 1.0
"""After so long a connection attempt that was lost is repeated."""

FRAGMENT_CHANCE = 0.08
"""How often what arrives together is told in two pieces."""

RETRANSMISSION_S_MAX = 1.5
"""After a cut has ended it takes up to so long until TCP tries again."""

_FIN = None


@define
class Link:
    """
    One direction between two hosts.

    @ivar cuts: so many faults cut it now.
    @ivar delay_s: what it takes longer than usual.
    @ivar bytes_per_s: C{None} for as many as anybody wants.
    """

    cuts: int = 0
    delay_s: float = 0.0
    bytes_per_s: float | None = None


class Network:
    """Hosts, the links between them, who listens, and all connections."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.generator("network")
        self.ports: dict[tuple[str, int], Port] = {}
        self.homes: dict[tuple[str, int], Host] = {}  # who listened somewhere once
        self.ends: dict[End, None] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._addresses: dict[str, str] = {}
        self._port = 40_000

    # -- places

    def address_of(self, name: str) -> str:
        """The address of a name: always the same."""
        known = self._addresses.get(name)
        if known is None:
            known = self._addresses[name] = f"198.18.{len(self._addresses) // 250}.{len(self._addresses) % 250 + 1}"
        return known

    def link(self, source: Host, target: Host) -> Link:
        """The way from one host to another."""
        key = (source.name, target.name)
        found = self._links.get(key)
        if found is None:
            found = self._links[key] = Link()
        return found

    def passable(self, source: Host, target: Host) -> bool:
        """What is sent arrives."""
        return source is target or (not self.link(source, target).cuts and target.up and source.up)

    def delay(self, source: Host, target: Host, count: int) -> float:
        """How long so many bytes travel."""
        if source is target:
            return self.random.uniform(*LOCAL_DELAY_S)
        link = self.link(source, target)
        delay_s = self.random.uniform(*DELAY_S) + link.delay_s
        if link.bytes_per_s is not None:
            delay_s += count / link.bytes_per_s
        return delay_s

    # -- faults

    def cut(self, source: Host, target: Host) -> None:
        """Nothing gets through that way."""
        self.link(source, target).cuts += 1

    def mend(self, source: Host, target: Host) -> None:
        """One fault less."""
        link = self.link(source, target)
        link.cuts -= 1
        assert link.cuts >= 0
        if not link.cuts:
            self.wake((source, target))

    def wake(self, hosts: Iterable[Host]) -> None:
        """What waits between these hosts goes on, when TCP tries again."""
        names = {host.name for host in hosts}
        for end in self.ends:
            if end.peer is not None and {end.process.host.name, end.peer.process.host.name} & names:
                end.retry(self.random.random() * RETRANSMISSION_S_MAX)

    def reset_one(self, hosts: tuple[Host, Host] | None = None) -> str:
        """
        Break a connection that is in use.

        @return: between whom, or C{""} when there is none.
        """
        names = None if hosts is None else {host.name for host in hosts}
        candidates = [
            end
            for end in self.ends
            if end.open
            and end.peer is not None
            and end.peer.open
            and end.protocol is not None
            and end.peer.protocol is not None
            and (names is None or {end.process.host.name, end.peer.process.host.name} == names)
        ]
        if not candidates:
            return ""
        chosen = self.random.choice(candidates)
        peer = chosen.peer
        assert peer is not None
        chosen.break_off()
        return f"{chosen.process.name} and {peer.process.name}"

    # -- connections

    def listen(self, process: Process, port: int, factory: ServerFactory, interface: str) -> Port:
        """Somebody takes connections."""
        if not port:
            self._port += 1
            port = self._port
        interface = interface or "0.0.0.0"
        found = Port(self, process, interface, port, factory)
        key = (interface, port)
        if interface == "0.0.0.0":
            key = (f"{process.host.name}:0.0.0.0", port)
        if key in self.ports:
            raise error.CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.ports[key] = found
        self.homes[(interface, port)] = process.host
        found.key = key
        process.sockets[found] = None
        factory.doStart()
        return found

    def find(self, source: Process, host: str, port: int) -> Port | None:
        """Who listens there."""
        found = self.ports.get((host, port))
        if found is not None:
            return found
        same = self.ports.get((f"{source.host.name}:0.0.0.0", port))
        if same is not None and host.startswith("127."):
            return same
        for (where, number), each in self.ports.items():
            if number == port and where.endswith(":0.0.0.0"):
                return each
        return None

    def connect(self, process: Process, host: str, port: int, factory: ClientFactory, timeout_s: float) -> Connector:
        """Somebody wants to be connected."""
        self._port += 1
        connector = Connector(self, process, host, port, factory, timeout_s, self._port)
        connector.connect()
        return connector

    def died(self, process: Process, *, silently: bool) -> None:
        """A process ended: what becomes of its connections."""
        sockets, process.sockets = process.sockets, {}
        for socket in sockets:
            if isinstance(socket, Port):
                self.ports.pop(socket.key, None)
            else:
                socket.died(silently=silently)


@implementer(IListeningPort)
class Port:
    """Where a process listens."""

    key: tuple[str, int]

    def __init__(self, network: Network, process: Process, interface: str, port: int, factory: ServerFactory) -> None:
        self.network = network
        self.process = process
        self.interface = interface
        self.port = port
        self.factory = factory
        self._stopped = False

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> None:
        """See L{IListeningPort.stopListening}."""
        if not self._stopped:
            self._stopped = True
            self.network.ports.pop(self.key, None)
            self.process.sockets.pop(self, None)
            self.process.later(0.0, self.factory.doStop)

    def getHost(self) -> IPv4Address:
        """See L{IListeningPort.getHost}."""
        return IPv4Address("TCP", self.interface, self.port)


@implementer(IConnector)
class Connector:
    """One attempt to connect, and what it became."""

    def __init__(
        self,
        network: Network,
        process: Process,
        host: str,
        port: int,
        factory: ClientFactory,
        timeout_s: float,
        local_port: int,
    ) -> None:
        self.network = network
        self.process = process
        self.host = host
        self.port = port
        self.factory = factory
        self.timeout_s = timeout_s
        self.local_port = local_port
        self.state = "disconnected"
        self.end: End | None = None
        self._timeout: Event | None = None

    def connect(self) -> None:
        """See L{IConnector.connect}."""
        self.state = "connecting"
        self.factory.doStart()
        self.factory.startedConnecting(self)
        if self.state != "connecting":
            return
        self._timeout = self.process.world.call(
            self.process.world.now + self.timeout_s, self.process, self._timed_out
        )
        self._attempt()

    def getDestination(self) -> IPv4Address:
        """See L{IConnector.getDestination}."""
        return IPv4Address("TCP", self.host, self.port)

    def stopConnecting(self) -> None:
        """See L{IConnector.stopConnecting}."""
        if self.state != "connecting":
            raise error.NotConnectingError("we're not trying to connect")
        self._failed(error.UserError())

    def disconnect(self) -> None:
        """See L{IConnector.disconnect}."""
        if self.state == "connecting":
            self.stopConnecting()
        elif self.end is not None:
            self.end.loseConnection()

    def _attempt(self) -> None:
        """Send a SYN; whatever happens to it happens at the other end."""
        if self.state != "connecting":
            return
        network, process = self.network, self.process
        port = network.find(process, self.host, self.port)
        there = port.process.host if port is not None else None
        if there is None:
            # Its machine refuses, unless its power is off.
            there = network.homes.get((self.host, self.port))
        if there is None:
            process.later(network.random.uniform(*DELAY_S), self._refused)
        elif network.passable(process.host, there) and network.passable(there, process.host):
            delay_s = network.delay(process.host, there, 60)
            network.world.call(network.world.now + delay_s, None, self._arrived, timer=False)
        else:
            process.later(RETRY_S, self._attempt)

    def _arrived(self) -> None:
        """The SYN is there."""
        network, process = self.network, self.process
        if self.state != "connecting" or not process.alive:
            return
        port = network.find(process, self.host, self.port)
        if port is None or not port.process.alive:
            process.later(network.random.uniform(*DELAY_S), self._refused)
            return
        server = End(network, port.process, port.getHost(), IPv4Address("TCP", "client", self.local_port))
        client = End(network, process, IPv4Address("TCP", "client", self.local_port), self.getDestination())
        server.peer, client.peer = client, server
        client.connector = self
        port.process.later(0.0, server.accept, port)
        process.later(network.delay(port.process.host, process.host, 60), self._connected, client)

    def _refused(self) -> None:
        if self.state == "connecting":
            self._failed(error.ConnectionRefusedError())

    def _timed_out(self) -> None:
        self._timeout = None
        if self.state == "connecting":
            self._failed(error.TimeoutError())

    def _connected(self, end: End) -> None:
        if self.state != "connecting":
            end.abortConnection()
            return
        if not end.open:
            self._failed(error.ConnectionRefusedError())
            return
        self._stop_timeout()
        self.state = "connected"
        self.end = end
        protocol = self.factory.buildProtocol(end.getPeer())
        if protocol is None:
            end.loseConnection()
            return
        end.made(protocol)

    def _failed(self, reason: Exception) -> None:
        self.state = "disconnected"
        self._stop_timeout()
        self.process.later(0.0, self._tell_failed, Failure(reason))

    def _tell_failed(self, reason: Failure) -> None:
        self.factory.clientConnectionFailed(self, reason)
        self.factory.doStop()

    def lost(self, reason: Failure) -> None:
        """The connection that it became is closed."""
        self.state = "disconnected"
        self.factory.clientConnectionLost(self, reason)
        self.factory.doStop()

    def _stop_timeout(self) -> None:
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        self._timeout = None


@implementer(ITCPTransport)
class End:
    """
    One end of a connection: the transport of a protocol.

    @ivar open: it was not closed, from this side or the other.
    """

    disconnecting = False

    def __init__(self, network: Network, process: Process, host: IPv4Address, peer: IPv4Address) -> None:
        self.network = network
        self.process = process
        self.protocol: IProtocol | None = None
        self.peer: End | None = None
        self.connector: Connector | None = None
        self.open = True
        self._host = host
        self._peer_address = peer
        self._way: deque[tuple[float, bytes | None]] = deque()  # to the peer
        self._way_bytes = 0
        self._unacknowledged = 0
        self._last_due = 0.0
        self._delivery: Event | None = None
        self._producer: Any = None
        self._producer_paused = False
        self._reading = True
        network.ends[self] = None
        process.sockets[self] = None

    # -- life

    def accept(self, port: Port) -> None:
        """The server's process takes it."""
        if not self.open:
            self._forget()
            return
        protocol = port.factory.buildProtocol(self.getPeer()) if not port._stopped else None
        if protocol is None:
            self.loseConnection()
            return
        self.made(protocol)

    def made(self, protocol: IProtocol) -> None:
        """It has a protocol now."""
        self.protocol = protocol
        protocol.makeConnection(self)
        if self.peer is not None and self.open:
            self.peer.retry(0.0)

    def died(self, *, silently: bool) -> None:
        """Its process is gone."""
        peer = self.peer
        self._close()
        if not silently and peer is not None:
            peer.reset_from(self)
        self._forget()

    def reset_from(self, other: End) -> None:
        """Tell this end that the other one is no more, if that gets through."""
        if self.open and self.network.passable(other.process.host, self.process.host):
            delay_s = self.network.delay(other.process.host, self.process.host, 40)
            self.process.later(delay_s, self._was_reset)

    def break_off(self) -> None:
        """Part of what is on its way arrives, then both ends see a reset."""
        peer = self.peer
        assert peer is not None
        for sender, receiver in ((self, peer), (peer, self)):
            data = b"".join(chunk for _, chunk in sender._way if chunk is not None)
            sender._way.clear()
            if data and receiver.open and receiver._reading and receiver.protocol is not None:
                part = data[: self.network.random.randrange(len(data))]
                if part:
                    receiver.process.later(0.0, receiver._receive, part)
            receiver.process.later(0.0, receiver._was_reset)

    def _was_reset(self) -> None:
        if self.open:
            self._lost(error.ConnectionLost("reset by the peer"))

    def _close(self) -> None:
        self.open = False
        self._way.clear()
        if self._delivery is not None and self._delivery.active():
            self._delivery.cancel()
        self._delivery = None

    def _forget(self) -> None:
        self.network.ends.pop(self, None)
        self.process.sockets.pop(self, None)

    def _lost(self, reason: Exception) -> None:
        """Closed, and its protocol hears of it now."""
        if self.open:
            self._close()
        self._tell_lost(reason)

    def _tell_lost(self, reason: Exception) -> None:
        self._forget()
        self._producer = None
        protocol, self.protocol = self.protocol, None
        failure = Failure(reason)
        if protocol is not None:
            protocol.connectionLost(failure)
            if self.connector is not None:
                self.connector.lost(failure)

    # -- ITransport

    def getPeer(self) -> IPv4Address:
        """See L{ITransport.getPeer}."""
        return self._peer_address

    def getHost(self) -> IPv4Address:
        """See L{ITransport.getHost}."""
        return self._host

    def write(self, data: bytes) -> None:
        """See L{ITransport.write}."""
        if not data or not self.open or self.disconnecting:
            return
        self._put(bytes(data))
        if self._pending() > SEND_BYTES_MAX and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See L{ITransport.writeSequence}."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """See L{ITransport.loseConnection}."""
        if self.open and not self.disconnecting:
            self.disconnecting = True
            self._leave_when_sent()

    def abortConnection(self) -> None:
        """See L{ITCPTransport.abortConnection}."""
        if not self.open:
            return
        self._close()
        if self.peer is not None:
            self.peer.reset_from(self)
        self.process.later(0.0, self._tell_lost, error.ConnectionAborted())

    def loseWriteConnection(self) -> None:
        """Nothing here needs it."""
        raise NotImplementedError

    def _leave_when_sent(self) -> None:
        """The kernel takes what fits, and then the connection is closed for the process."""
        if not self.open or self._producer is not None or self._pending() > SEND_BYTES_MAX:
            return
        self._put(_FIN)
        self.open = False
        self.process.later(0.0, self._tell_lost, main.CONNECTION_DONE)

    # -- IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See L{IConsumer.registerProducer}."""
        assert streaming and self._producer is None
        if not self.open:
            producer.stopProducing()
        else:
            self._producer = producer
            self._producer_paused = False

    def unregisterProducer(self) -> None:
        """See L{IConsumer.unregisterProducer}."""
        self._producer = None
        if self.disconnecting:
            self._leave_when_sent()

    # -- IPushProducer

    def pauseProducing(self) -> None:
        """See L{IPushProducer.pauseProducing}."""
        self._reading = False

    def resumeProducing(self) -> None:
        """See L{IPushProducer.resumeProducing}."""
        if not self._reading:
            self._reading = True
            if self.peer is not None:
                self.peer.retry(0.0)

    def stopProducing(self) -> None:
        """See L{IPushProducer.stopProducing}."""
        self.loseConnection()

    # -- ITCPTransport

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It never waits."""

    def getTcpNoDelay(self) -> bool:
        """It never waits."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Not simulated."""

    def getTcpKeepAlive(self) -> bool:
        """Not simulated."""
        return False

    # -- the way to the peer

    def _pending(self) -> int:
        return self._way_bytes + self._unacknowledged

    def _put(self, data: bytes | None) -> None:
        world, peer = self.network.world, self.peer
        assert peer is not None
        count = len(data) if data is not None else 40
        delay_s = self.network.delay(self.process.host, peer.process.host, count)
        link = self.network.link(self.process.host, peer.process.host)
        begin = world.now if link.bytes_per_s is None else max(world.now, self._last_due)
        self._last_due = due = max(self._last_due, begin + delay_s)
        self._way.append((due, data))
        if data is not None:
            self._way_bytes += count
        if self._delivery is None:
            self._schedule(peer, due - world.now)

    def _schedule(self, peer: End, delay_s: float) -> None:
        """In the process of the receiver; if that is dead its kernel answers."""
        if peer.process.alive:
            self._delivery = peer.process.later(delay_s, self._deliver)
        else:
            self._delivery = self.network.world.after(delay_s, self._deliver)

    def retry(self, delay_s: float) -> None:
        """Something that was in the way is so no more."""
        peer = self.peer
        if peer is not None and (self._way or self._unacknowledged):
            if self._delivery is not None and self._delivery.active():
                self._delivery.cancel()
            self._schedule(peer, delay_s)

    def _deliver(self) -> None:
        """In the process of the receiver: take what has arrived."""
        self._delivery = None
        network, receiver = self.network, self.peer
        assert receiver is not None
        here, there = self.process.host, receiver.process.host
        if not network.passable(here, there):
            return  # tried again when the network is mended
        if not receiver.open:
            self._way.clear()
            self._way_bytes = 0
            if self.open and network.passable(there, here):
                self.process.later(network.delay(there, here, 40), self._was_reset)
            return
        if receiver.protocol is None or not receiver._reading:
            return  # tried again when it reads
        way, now = self._way, network.world.now
        chunks: list[bytes] = []
        ended = False
        while way and way[0][0] <= now and not ended:
            chunk = way.popleft()[1]
            if chunk is None:
                ended = True
            else:
                chunks.append(chunk)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(data) > 1 and network.random.random() < FRAGMENT_CHANCE:
            at = network.random.randrange(1, len(data))
            if ended:
                way.appendleft((now, None))
                ended = False
            way.appendleft((now + network.random.random() * 0.0005, data[at:]))
            data = data[:at]
        self._way_bytes -= len(data)
        if way:
            self._schedule(receiver, max(0.0, way[0][0] - now))
        if data:
            self._acknowledge(len(data))
            receiver._receive(data)
        elif self._unacknowledged:
            self._acknowledge(0)
        if ended and receiver.open:
            receiver._lost(main.CONNECTION_DONE)

    def _acknowledge(self, count: int) -> None:
        """So much was read; the sender hears of it if anything gets back to it."""
        self._unacknowledged += count
        peer = self.peer
        assert peer is not None
        if self.network.passable(peer.process.host, self.process.host):
            self._unacknowledged = 0
            if (self._producer_paused or self.disconnecting) and self._pending() <= SEND_BYTES_MAX // 2:
                self.process.later(0.0001, self._writable)

    def _writable(self) -> None:
        if self.disconnecting:
            self._leave_when_sent()
        elif self._producer_paused and self._pending() <= SEND_BYTES_MAX // 2:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def _receive(self, data: bytes) -> None:
        trace = self.network.world.trace
        if trace is not None:
            peer = self.peer
            assert peer is not None
            trace(
                f"{self.network.world.now:.6f} (wire) {len(data)} bytes from {peer.process.name} "
                f"to {self.process.name}, {data[:8].hex()}"
            )
        if self.protocol is not None:
            self.protocol.dataReceived(data)
