"""TLS of NBD without a network: those who begin it and do not go on."""

from __future__ import annotations

from struct import pack
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from dst.exports.nbd_server import NBDServerFactory
from dst.nodes.memory import MemoryDevice
from test.exports.offered import Offered
from test.security.machines import Machines, World

PEER = IPv4Address("TCP", "192.0.2.9", 4000)


class Transport(StringTransport):
    """One that can be cut."""

    aborted = False

    def abortConnection(self) -> None:
        """As in Twisted."""
        self.aborted = True
        super().abortConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed here."""


class StallTests(SynchronousTestCase):
    """A client that stops."""

    def setUp(self) -> None:
        self.clock = World()
        machines = Machines(self.mktemp())
        machines.add("alpha")
        device = MemoryDevice(self.clock, "vol", 1 << 20)
        device.open()
        self.server = NBDServerFactory(self.clock, Offered(vol=device))
        options = machines.security("alpha", self.clock).server_options()
        self.door: Any = self.server.door(options, required=True)

    def begun(self, *said: bytes) -> Transport:
        """A client that has said so much."""
        transport = Transport(peerAddress=PEER)
        session = self.door.buildProtocol(PEER)
        session.makeConnection(transport)
        for each in said:
            protocol = getattr(transport, "protocol", None) or session
            protocol.dataReceived(each)
        return transport

    def test_time(self) -> None:
        """Wherever it stops, TLS or not, the time for all of the negotiation is the same, and then it is cut."""
        flags, starttls = pack(">I", 3), b"IHAVEOPT" + pack(">II", 5, 0)
        for said in ((), (flags,), (flags, starttls), (flags, starttls, b"\x16\x03\x01\x02\x00")):
            transport = self.begun(*said)
            self.clock.advance(self.server.limits.negotiation_s - 1)
            self.assertFalse(transport.aborted, said)
            with capturedLogs() as events:
                self.clock.advance(1)
            self.assertTrue(transport.aborted, said)
            self.assertIn("192.0.2.9", " ".join(str(formatEvent(event)) for event in events))

    def test_rubbish(self) -> None:
        """What is no TLS where TLS has to begin ends the connection at once, with the reason in the log."""
        with capturedLogs() as events:
            transport = self.begun(
                pack(">I", 3), b"IHAVEOPT" + pack(">II", 5, 0), b"IHAVEOPT" + pack(">II", 3, 0) + bytes(100)
            )
        self.assertTrue(transport.aborted or transport.disconnecting)
        self.assertIn("does not speak TLS", " ".join(str(formatEvent(event)) for event in events))
