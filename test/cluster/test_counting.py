"""Tests of L{dst.cluster.counting}."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dst.cluster.counting import Counted

ADDRESS = IPv4Address("TCP", "127.0.0.1", 1)


class Ending(Protocol):
    """Remembers how its connection ended."""

    why: Failure | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.why = reason


class CountedTests(SynchronousTestCase):
    """Connections are counted from the first to the last of each."""

    def test_provides(self) -> None:
        """It is a factory."""
        self.assertTrue(verifyObject(IProtocolFactory, Counted(Factory())))

    def test_counts(self) -> None:
        """Each connection counts until it is lost, and its protocol is told of that."""
        counted = Counted(Factory.forProtocol(Ending))
        counted.doStart()
        protocols = [counted.buildProtocol(ADDRESS) for _ in range(3)]
        self.assertEqual(3, counted.connections)
        first = protocols[0]
        assert isinstance(first, Ending)
        first.makeConnection(StringTransport())
        first.connectionLost(Failure(ValueError("gone")))
        assert first.why is not None
        self.assertEqual("gone", first.why.getErrorMessage())
        self.assertEqual(2, counted.connections)
        counted.doStop()

    def test_refused(self) -> None:
        """Who is not taken is not counted."""

        class Refusing(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        counted = Counted(Refusing())
        self.assertIs(None, counted.buildProtocol(ADDRESS))
        self.assertEqual(0, counted.connections)
