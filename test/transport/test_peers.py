"""Tests of L{dst.transport.peers}; those on real sockets are in C{test/integration/test_identities.py}."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dst.identity import Identity
from dst.transport.peers import Crowd, identity_at, role_at, user_at


class IdentityTests(SynchronousTestCase):
    """Who is there, without TLS."""

    def test_addresses(self) -> None:
        """The address is what the kernel says; one of IPv4 is one of IPv4 on every kind of socket."""
        for address, expected in (
            (IPv4Address("TCP", "10.0.0.1", 1), "10.0.0.1"),
            (IPv6Address("TCP", "fd00::1", 1), "fd00::1"),
            (IPv6Address("TCP", "::ffff:10.0.0.1", 1), "10.0.0.1"),
            (IPv6Address("TCP", "fe80::1%eth0", 1), "fe80::1"),
            (UNIXAddress(None), None),
        ):
            transport: Any = StringTransport(peerAddress=address)
            self.assertEqual(Identity(address=expected), identity_at(transport))
            self.assertEqual((None, None), (role_at(transport), user_at(transport)))

    def test_unknown(self) -> None:
        """Somebody of whom nothing is known is not on this machine."""
        for transport in (None, StringTransport(peerAddress=UNIXAddress(None))):
            identity = identity_at(transport)  # type: ignore[arg-type]
            self.assertEqual((Identity(), False), (identity, identity.local))


class CrowdTests(SynchronousTestCase):
    """How many come from one address."""

    def test_limit(self) -> None:
        """Each address has so many places, whatever port and kind of socket; who goes makes room."""
        crowd = Crowd(2)
        one, other = IPv4Address("TCP", "10.0.0.1", 1), IPv6Address("TCP", "::ffff:10.0.0.1", 2)
        self.assertEqual([True, True, False], [crowd.enter(one), crowd.enter(other), crowd.enter(one)])
        self.assertTrue(crowd.enter(IPv4Address("TCP", "10.0.0.2", 1)))
        crowd.leave(other)
        self.assertEqual([True, False], [crowd.enter(one), crowd.enter(one)])
        for _ in range(2):
            crowd.leave(one)
        crowd.leave(IPv4Address("TCP", "10.0.0.2", 1))
        self.assertEqual({}, dict(crowd._counts))

    def test_here(self) -> None:
        """This machine is not limited: all its programs come from one address."""
        crowd = Crowd(1)
        for address in (IPv4Address("TCP", "127.0.0.1", 1), IPv6Address("TCP", "::1", 1), UNIXAddress(None), None):
            self.assertEqual([True] * 5, [crowd.enter(address) for _ in range(5)])
            crowd.leave(address)
        self.assertEqual({}, dict(crowd._counts))
