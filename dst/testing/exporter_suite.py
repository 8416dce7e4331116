# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
Every promise of L{dst.interfaces.IExportProvider} and L{dst.interfaces.IExporter}, as tests.

A suite cannot speak every protocol.  It is given a node that does, and
joins it to the exporter with a wire in memory.  What strangers do (say nothing, say nonsense, vanish) needs no node.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias, TypeVar, cast

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dst.errors import DSTError, NotFound
from dst.interfaces import IExporter, IExportProvider, IExports, INode, OpenExport
from dst.status import LinkState
from dst.testing.faulty import FaultyDevice, faulty_disk
from dst.testing.specimen import conformance_tests

__all__ = ["DRAIN_S_MAX", "SILENCE_S_MAX", "ClientMaker", "DeviceExports", "export_provider_suite"]

DRAIN_S_MAX = 12.0
"""What the interface says; a daemon that stops goes on a little later, whatever an exporter does."""

SILENCE_S_MAX = 120.0
"""How long a client that says nothing may be kept."""

SIZE = 1 << 20
STEP_S = 0.05

T = TypeVar("T")

ClientMaker: TypeAlias = Callable[[IReactorTime, str, IStreamClientEndpoint, str], INode]
"""Given a clock, a name, an endpoint and the name of an export: a node that speaks the protocol, not open yet."""


@implementer(IExports)
class DeviceExports:
    """Devices under their own names, for everybody.  C{read_only} are the names of those that nobody may change."""

    def __init__(self, *devices: INode, read_only: frozenset[str] = frozenset()) -> None:
        self.devices = {device.name: device for device in devices}
        self.read_only = read_only

    def list_exports(self, identity: object | None) -> list[str]:
        return sorted(self.devices)

    def open_export(self, name: str, identity: object | None) -> OpenExport:
        if name not in self.devices:
            raise NotFound(f"there is no export {name[:80]!r} here")
        return OpenExport(self.devices[name], name in self.read_only)


class _Wire:
    """
    Two protocols joined by two L{StringTransport}s.

    @ivar lost: it is no connection any more, and both have been told.
    @ivar mute: nothing comes from the client any more, not even that it closes; it has not gone away either.
    """

    def __init__(self, server: IProtocol, client: IProtocol, address: IAddress) -> None:
        self.lost = False
        self.mute = False
        self.ends = [(server, StringTransport(peerAddress=address)), (client, StringTransport(peerAddress=address))]
        for protocol, transport in self.ends:
            protocol.makeConnection(cast(Any, transport))

    def move(self) -> bool:
        """Deliver what is there. @return: something was."""
        moved = False
        for (_, source), (protocol, target) in (self.ends,) if self.mute else (self.ends, self.ends[::-1]):
            data = source.value()
            if not self.lost and data and target.producerState == "producing":
                source.clear()
                protocol.dataReceived(data)
                moved = True
            if source.disconnected or source.disconnecting and not source.value():
                self.cut(ConnectionDone())
        return moved

    def cut(self, reason: Exception | None = None) -> None:
        """The connection ends now; what was not delivered is lost."""
        if not self.lost:
            self.lost = True
            for protocol, transport in self.ends:
                transport.connected = False
                protocol.connectionLost(Failure(reason or ConnectionLost()))


@implementer(IStreamClientEndpoint)
class _WireEndpoint:
    """Reaches an exporter, as a client of some address."""

    def __init__(self, exporter: IExporter, address: IAddress) -> None:
        self.exporter = exporter
        self.address = address
        self.wires: list[_Wire] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        server = self.exporter.buildProtocol(self.address)
        if server is None:
            return fail(ConnectionRefusedError())
        client = protocolFactory.buildProtocol(self.address)
        assert client is not None
        self.wires.append(_Wire(server, client, self.address))
        return succeed(client)


ADDRESSES: tuple[IAddress, ...] = (
    IPv4Address("TCP", "127.0.0.1", 40000),
    IPv6Address("TCP", "::1", 40000),
    UNIXAddress(None),
)


class ExporterSuite(SynchronousTestCase):
    """Serving devices over one protocol."""

    provider: type
    exporter_class: type
    client: ClientMaker

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if getattr(cls, "provider", None) is not None and cls.__module__.partition(".")[0] != "dst":
            for held in (cls.provider, cls.exporter_class):
                conformance_tests.setdefault(held, []).append(cls)

    def setUp(self) -> None:
        """Two devices, the second of which nobody may change, and an exporter of them."""
        self.reactor = MemoryReactorClock()
        self.devices = [faulty_disk(self.reactor, name, SIZE) for name in ("vol", "fixed")]
        for number, device in enumerate(self.devices, 1):
            device.open()
            device.write(0, bytes([number]) * SIZE)
        self.device: FaultyDevice = self.devices[0]
        self.export_provider: IExportProvider = self.provider()
        exports = DeviceExports(*self.devices, read_only=frozenset(["fixed"]))
        self.exporter: IExporter = self.export_provider.exporter(cast(Any, self.reactor), exports)
        self.endpoints: list[_WireEndpoint] = []
        self.turn()

    # -- what the tests do

    def node(self, export: str, address: IAddress = ADDRESSES[0]) -> INode:
        """A client of C{export} that is not open yet; closed when the test ends."""
        endpoint = _WireEndpoint(self.exporter, address)
        self.endpoints.append(endpoint)
        node = type(self).client(self.reactor, f"client-{len(self.endpoints)}", endpoint, export)
        self.addCleanup(self.close, node)
        return node

    def open_node(self, export: str, address: IAddress = ADDRESSES[0]) -> INode:
        """A client that is ready."""
        node = self.node(export, address)
        self.result(node.open())
        self.assertIs(LinkState.READY, node.link, node.reason)
        return node

    def close(self, node: INode) -> None:
        """The client goes."""
        self.result(node.close())

    def stranger(self, data: bytes = b"") -> _Wire:
        """A client that says C{data}, whatever that is, and listens."""
        server = self.exporter.buildProtocol(ADDRESSES[0])
        assert server is not None
        endpoint = _WireEndpoint(self.exporter, ADDRESSES[0])
        self.endpoints.append(endpoint)
        wire = _Wire(server, Protocol(), ADDRESSES[0])
        endpoint.wires.append(wire)
        wire.ends[1][1].write(data)
        return wire

    def turn(self) -> None:
        """Deliver everything, and let every Deferred fire that is due."""
        for _ in range(1000):
            moved = [wire.move() for endpoint in self.endpoints for wire in endpoint.wires]
            due = [call for call in self.reactor.getDelayedCalls() if call.getTime() <= self.reactor.seconds()]
            self.reactor.advance(0)
            if not any(moved) and not due:
                return
        self.fail("exporter and client do not come to an end")

    def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        for _ in range(round(seconds / STEP_S)):
            self.reactor.advance(STEP_S)
            self.turn()

    def result(self, deferred: Deferred[T], seconds: float = 5.0) -> T:
        """What C{deferred} fires with in so much time."""
        self.turn()
        waited = 0.0
        while not deferred.called and waited < seconds:
            self.reactor.advance(STEP_S)
            self.turn()
            waited += STEP_S
        return self.successResultOf(deferred)

    def assert_serves(self) -> None:
        """Somebody else is served, at once."""
        node = self.open_node("fixed")
        self.assertEqual(b"\2" * 4096, bytes(self.result(node.read(4096, 4096), 0.5)))
        self.close(node)

    def assert_nothing_left(self) -> None:
        """When no client is there, no timer is."""
        self.turn()
        self.assertEqual([], self.reactor.getDelayedCalls())

    # -- the promises

    def test_provides(self) -> None:
        """Provider and exporter have every attribute and method of their interfaces."""
        self.assertTrue(verifyObject(IExportProvider, self.export_provider))
        self.assertTrue(verifyObject(IExporter, self.exporter))
        self.assertIsInstance(self.exporter, self.exporter_class)

    def test_protocol(self) -> None:
        """The protocol is a word in lower case, and none of a topology's own."""
        protocol = self.export_provider.protocol
        self.assertTrue(protocol == protocol.lower() and protocol.replace("-", "").isalnum(), protocol)
        self.assertNotIn(protocol, ("admin", "base_dir", "state_dir"))

    def test_nothing_before_the_first_client(self) -> None:
        """Making an exporter touches no device, listens nowhere and starts no timer."""
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertEqual([], [*self.reactor.tcpServers, *self.reactor.unixServers, *self.reactor.sslServers])
        self.assertEqual(["write"], [operation.kind for operation in self.device.history])

    def test_serves_by_name(self) -> None:
        """Each export is the device of its name, whatever kind of address its client has."""
        for address in ADDRESSES:
            for name, content in (("vol", b"\1"), ("fixed", b"\2")):
                node = self.open_node(name, address)
                self.assertEqual(SIZE, node.geometry.size)
                self.assertEqual(content * 4096, bytes(self.result(node.read(SIZE - 4096, 4096))))
                self.close(node)
        self.assert_nothing_left()

    def test_writes(self) -> None:
        """What one client wrote is on the device, and what the other one reads."""
        one, other = self.open_node("vol"), self.open_node("vol")
        self.result(one.write(8192, b"x" * 4096))
        self.assertEqual(b"x" * 4096, self.device.media.read(8192, 4096))
        self.assertEqual(b"x" * 4096, bytes(self.result(other.read(8192, 4096))))
        self.result(one.flush())
        self.assertEqual([], self.device.media.unflushed)

    def test_read_only(self) -> None:
        """An export that is opened read-only says so and cannot be changed."""
        node = self.open_node("fixed")
        self.assertTrue(node.geometry.read_only)
        self.failureResultOf(node.write(0, b"x" * 4096), DSTError)
        self.assertEqual(b"\2" * 4096, self.devices[1].media.read(0, 4096))
        self.assertFalse(self.open_node("vol").geometry.read_only)

    def test_errors(self) -> None:
        """What the device cannot do fails at the client, who goes on with the next."""
        node = self.open_node("vol")
        self.device.fail_next("read", NotFound("this sector was not found"))
        reading = node.read(0, 4096)
        self.turn()
        self.failureResultOf(reading, DSTError)
        self.assertEqual(b"\1" * 4096, bytes(self.result(node.read(0, 4096))))

    def test_no_such_export(self) -> None:
        """A name that is not there is refused, and everybody else is served."""
        node = self.node("missing")
        node.open()
        self.wait(1.0)
        self.assertIsNot(LinkState.READY, node.link)
        self.assertNotEqual("", node.reason)
        self.assert_serves()

    def test_device_away(self) -> None:
        """An export whose device is away is not served until it is back; no client has to be told."""
        self.device.pull()
        node = self.node("vol")
        node.open()
        self.wait(1.0)
        self.assertIsNot(LinkState.READY, node.link)
        self.assert_serves()
        self.device.plug_in()
        self.wait(30.0)
        self.assertIs(LinkState.READY, node.link, node.reason)
        self.assertEqual(b"\1" * 4096, bytes(self.result(node.read(0, 4096))))

    def test_sessions(self) -> None:
        """Who has an export open is listed, oldest first, with what it asked for; nobody else is."""
        self.assertEqual([], self.exporter.sessions())
        self.assertEqual({}, self.exporter.traffic())
        wire = self.stranger()
        one, other = self.open_node("vol"), self.open_node("fixed", ADDRESSES[1])
        for offset in range(0, 4 * 4096, 4096):
            self.result(one.write(offset, b"x" * 4096))
        self.result(one.read(0, 8192))
        self.result(one.flush())
        first, second = self.exporter.sessions()
        self.assertEqual(("vol", False), (first.export, first.read_only))
        self.assertEqual(("fixed", True), (second.export, second.read_only))
        self.assertEqual(self.export_provider.protocol, first.protocol)
        self.assertIn("127.0.0.1", first.peer)
        self.assertIn("::1", second.peer)
        self.assertNotEqual(first.id, second.id)
        self.assertEqual((False, None), (first.encrypted, first.identity))
        self.assertEqual((4, 4 * 4096), (first.traffic.writes, first.traffic.written_bytes))
        self.assertLessEqual(8192, first.traffic.read_bytes)
        self.assertEqual(1, first.traffic.flushes)
        self.assertEqual((0, 0), (second.traffic.writes, second.traffic.errors))
        self.close(one)
        self.assertEqual([second.id], [each.id for each in self.exporter.sessions()])
        self.close(other)
        self.assertEqual([], self.exporter.sessions())
        wire.cut()
        self.assert_nothing_left()

    def test_in_flight(self) -> None:
        """What a client waits for is counted until it is answered."""
        node = self.open_node("vol")
        self.device.hold()
        waiting = [node.read(offset, 4096) for offset in range(0, 3 * 4096, 4096)]
        self.turn()
        self.assertEqual([3], [each.in_flight for each in self.exporter.sessions()])
        self.device.release()
        for each in waiting:
            self.result(each)
        self.assertEqual([0], [each.in_flight for each in self.exporter.sessions()])

    def test_traffic(self) -> None:
        """What passed is counted by export, over clients that come and go; what failed is counted as such, too."""
        for number in range(1, 4):
            node = self.open_node("vol")
            self.result(node.write(0, b"x" * 8192))
            self.result(node.trim(65536, 65536))
            counted = self.exporter.traffic()["vol"]
            self.assertEqual((number, number * 8192), (counted.writes, counted.written_bytes))
            self.assertEqual(number, counted.discards)
            self.close(node)
            afterwards = self.exporter.traffic()["vol"]  # some clients flush before they go
            self.assertEqual(counted, evolve(afterwards, flushes=counted.flushes))
        node = self.open_node("vol")
        before = self.exporter.traffic()["vol"].errors
        self.device.fail_next("write", NotFound("this sector was not found"))
        writing = node.write(0, b"x" * 4096)
        self.turn()
        self.failureResultOf(writing, DSTError)
        self.assertEqual(before + 1, self.exporter.traffic()["vol"].errors)
        self.assertLessEqual(set(self.exporter.traffic()), {"vol", "fixed"})

    def test_latency(self) -> None:
        """The first request of each kind is timed, so that there is a latency where little is asked for."""
        node = self.open_node("vol")
        self.device.hold()
        writing, reading = node.write(8192, b"x" * 4096), node.read(0, 4096)
        self.turn()
        self.wait(0.5)
        self.device.release()
        self.result(writing)
        self.result(reading)
        counted = self.exporter.traffic()["vol"]
        self.assertEqual((1, 1), (counted.reads_timed, counted.writes_timed))
        self.assertAlmostEqual(0.5, counted.write_s, delta=STEP_S)
        self.assertAlmostEqual(0.5, counted.read_s, delta=STEP_S)

    def test_end_session(self) -> None:
        """A client that is cut off is gone at once, harms nobody, and may come again."""
        node, other = self.open_node("vol"), self.open_node("fixed")
        first, second = self.exporter.sessions()
        self.assertFalse(self.exporter.end_session("nobody"))
        self.assertTrue(self.exporter.end_session(first.id))
        self.turn()
        self.assertNotIn(first.id, [each.id for each in self.exporter.sessions()])
        self.assertIn(second.id, [each.id for each in self.exporter.sessions()])
        self.assertFalse(self.exporter.end_session(first.id))
        self.result(other.read(0, 4096))
        self.wait(30.0)
        self.assertIs(LinkState.READY, node.link, node.reason)
        self.assertEqual(b"\1" * 4096, bytes(self.result(node.read(0, 4096))))

    def test_silence(self) -> None:
        """A client that says nothing, or begins and says nothing more, is let go after a time."""
        for data in (b"", b"\0", bytes(10)):
            wire = self.stranger(data)
            self.turn()
            self.wait(SILENCE_S_MAX)
            self.assertTrue(wire.lost, data)
        self.assert_nothing_left()

    def test_nonsense(self) -> None:
        """A client that sends anything at all harms nobody but itself."""
        for seed in range(20):
            wire = self.stranger(Random(seed).randbytes(Random(-seed).choice((1, 100, 5000, 100_000))))
            self.turn()
            self.assert_serves()
            wire.cut()
        self.assert_nothing_left()
        self.assertEqual(["write"], [operation.kind for operation in self.device.history])

    def test_vanishing(self) -> None:
        """A client that goes away with requests in flight leaves nothing behind when they have ended."""
        node = self.open_node("vol")
        self.device.hold()
        for offset in range(0, 8 * 4096, 4096):
            node.write(offset, b"y" * 4096).addErrback(lambda failure: failure.trap(DSTError))
            node.read(offset, 4096).addErrback(lambda failure: failure.trap(DSTError))
        self.turn()
        self.assertNotEqual([], self.device.held)
        closing = node.close()
        self.endpoints[-1].wires[-1].cut()
        self.assert_serves()
        self.device.release()
        self.result(closing, 30.0)
        self.assert_nothing_left()

    def test_drain_without_clients(self) -> None:
        """With nobody there it is done at once, and may be asked again; nobody is let in any more."""
        for _ in range(2):
            self.successResultOf(self.exporter.drain())
            for address in ADDRESSES:
                self.assertIs(None, self.exporter.buildProtocol(address))
        self.assert_nothing_left()

    def test_drain_closes(self) -> None:
        """Clients that do nothing are sent away, and everybody who asked for it hears when they are gone."""
        self.open_node("vol")
        self.open_node("fixed")
        stranger = self.stranger()
        self.turn()
        draining = [self.exporter.drain(), self.exporter.drain()]
        self.wait(1.0)
        for each in draining:
            self.successResultOf(each)
        self.assertTrue(stranger.lost)
        self.assertTrue(all(wire.lost for endpoint in self.endpoints for wire in endpoint.wires))
        self.assertIs(None, self.exporter.buildProtocol(ADDRESSES[0]))

    def test_drain_answers(self) -> None:
        """What was begun is answered before its client is sent away; nothing new is begun."""
        node = self.open_node("vol")
        self.device.hold("write")
        writing = node.write(0, b"z" * 4096)
        self.turn()
        draining = self.exporter.drain()
        later = node.write(4096, b"z" * 4096)
        later.addErrback(lambda failure: failure.trap(DSTError))
        self.wait(1.0)
        self.assertNoResult(draining)
        self.assertNoResult(writing)
        self.device.release()
        self.result(draining)
        self.result(writing)
        self.assertEqual(b"z" * 4096 + b"\1" * 4096, self.device.media.read(0, 8192))

    def test_drain_is_bounded(self) -> None:
        """A device that hangs does not keep it, however patient the client is."""
        node = self.open_node("vol")
        self.device.hold("write")
        node.write(0, b"z" * 4096).addErrback(lambda failure: failure.trap(DSTError))
        self.turn()
        self.endpoints[-1].wires[0].mute = True
        draining = self.exporter.drain()
        self.result(draining, DRAIN_S_MAX)
        self.assertTrue(self.endpoints[-1].wires[0].lost)
        self.device.release()
        self.close(node)
        self.assert_nothing_left()

    def test_drain_of_one_who_does_not_read(self) -> None:
        """Nor does a client that never reads its answers."""
        node = self.open_node("vol")
        wire = self.endpoints[-1].wires[0]
        wire.ends[1][1].pauseProducing()
        node.read(0, 65536).addErrback(lambda failure: failure.trap(DSTError))
        self.turn()
        wire.mute = True
        self.result(self.exporter.drain(), DRAIN_S_MAX)
        self.assertTrue(wire.lost)


def export_provider_suite(provider: type, exporter: type, client: ClientMaker) -> Any:
    """
    A test case that holds C{provider} to L{IExportProvider}, and what it makes to L{IExporter}; subclass it in a test
    module.

    @param provider: called without arguments.
    @param exporter: the class of what it makes.
    @param client: makes a node that speaks the protocol, of an export of 1 MiB.
    """
    namespace = {
        "provider": provider,
        "exporter_class": exporter,
        "client": staticmethod(client),
        "__module__": ExporterSuite.__module__,
        "__doc__": ExporterSuite.__doc__,
    }
    return type(f"{provider.__name__}{ExporterSuite.__name__}", (ExporterSuite,), namespace)
