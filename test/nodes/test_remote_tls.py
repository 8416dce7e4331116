"""Tests of what a topology says of TLS at a remote node."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dst.errors import ConfigurationError
from dst.nodes.remote_provider import RemoteNodeProvider, RemoteUNIXNodeProvider
from dst.security.interfaces import ISecurity
from dst.security.tls import TLSEndpoint


@implementer(IOpenSSLClientConnectionCreator)
class Options:
    """Makes no connection."""

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        """Not used."""
        raise NotImplementedError


@implementer(ISecurity)
class Asked:
    """Remembers for whom TLS was wanted."""

    name = "beta"
    problem = ""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, str | None]] = []

    def server_options(self, *, certificate_demanded: bool = True, allow_tls_1_2: bool = False) -> Any:
        """Not used."""
        raise NotImplementedError

    def client_options(self, host: str, peer: str | None = None, *, allow_tls_1_2: bool = False) -> Any:
        """See L{ISecurity.client_options}."""
        self.wanted.append((host, peer))
        return Options()

    def certificate_days_left(self) -> float:
        """See L{ISecurity.certificate_days_left}."""
        return 1.0


class TLSSettingsTests(SynchronousTestCase):
    """When there is TLS, and whom it expects."""

    def wanted(self, uri: str, *, certificates: bool = True, **options: object) -> list[tuple[str, str | None]]:
        """For whom TLS is wanted by the node of C{uri}; an empty list for none."""
        security = Asked() if certificates else None
        node: Any = RemoteNodeProvider().node_from_uri(MemoryReactorClock(), "n", uri, options, security)
        self.assertEqual(bool(security and security.wanted), isinstance(node._endpoint, TLSEndpoint))
        return security.wanted if security is not None else []

    def assert_wrong(self, uri: str, words: str, *, certificates: bool = True) -> None:
        """The URI is refused."""
        error = self.assertRaises(ConfigurationError, self.wanted, uri, certificates=certificates)
        self.assertIn(words, error.message)
        self.assertIn("node 'n'", error.message)

    def test_default(self) -> None:
        """With certificates there is TLS to other machines, and none to this one; without there is none."""
        self.assertEqual([("192.0.2.1", None)], self.wanted("dst://192.0.2.1/vol"))
        self.assertEqual([("alpha.example", None)], self.wanted("dst://Alpha.Example:1/vol"))
        self.assertEqual([("2001:db8::1", None)], self.wanted("dst://[2001:db8::1]/vol"))
        for host in ("127.0.0.1", "127.8.9.1", "[::1]", "localhost"):
            self.assertEqual([], self.wanted(f"dst://{host}/vol"), host)
        self.assertEqual([], self.wanted("dst://192.0.2.1/vol", certificates=False))

    def test_said(self) -> None:
        """What is said counts, in the URI or beside it."""
        self.assertEqual([("127.0.0.1", None)], self.wanted("dst://127.0.0.1/vol?tls=on"))
        self.assertEqual([("127.0.0.1", "alpha")], self.wanted("dst://127.0.0.1/vol", tls=True, peer="alpha"))
        self.assertEqual([("192.0.2.1", "alpha")], self.wanted("dst://192.0.2.1/vol?peer=alpha"))
        self.assertEqual([], self.wanted("dst://192.0.2.1/vol?tls=off"))

    def test_wrong(self) -> None:
        """What cannot be kept is refused: TLS without certificates, and a peer that nobody would look at."""
        self.assert_wrong("dst://192.0.2.1/vol?tls=on", "this daemon has no certificate", certificates=False)
        self.assert_wrong("dst://192.0.2.1/vol?tls=off&peer=alpha", "no TLS: without it nobody knows who is there")
        self.assert_wrong("dst://127.0.0.1/vol?peer=alpha", "no TLS: without it nobody knows who is there")
        self.assert_wrong("dst://192.0.2.1/vol?peer=a%20b", "expected the name in the other daemon's certificate")
        self.assert_wrong("dst://192.0.2.1/vol?tls=perhaps", "tls")
        self.assert_wrong("dst://192.0.2.1/vol?tsl=on", "unknown setting 'tsl'")

    def test_unix(self) -> None:
        """A UNIX socket is on this machine, and has no TLS."""
        error = self.assertRaises(
            ConfigurationError,
            RemoteUNIXNodeProvider().node_from_uri,
            MemoryReactorClock(),
            "n",
            "dst+unix:///run/dst.sock?export=vol&tls=on",
            {},
        )
        self.assertIn("unknown setting 'tls'", error.message)
