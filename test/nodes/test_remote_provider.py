"""Tests of L{dst.nodes.remote_provider}."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import ConfigurationError
from dst.nodes.remote_provider import RemoteNodeProvider, RemoteUNIXNodeProvider


class ProviderTests(SynchronousTestCase):
    """URIs are read strictly."""

    def connects_to(self, uri: str, **options: object) -> tuple[object, ...]:
        """Where a node of this URI connects to, and the name of its export."""
        reactor = MemoryReactorClock()
        provider = RemoteUNIXNodeProvider() if uri.startswith("dst+unix") else RemoteNodeProvider()
        node = provider.node_from_uri(reactor, "n", uri, dict(options))
        node.open()
        self.addCleanup(node.close)
        if reactor.unixClients:
            return (reactor.unixClients[0][0], node.status().detail["export"])
        return (*reactor.tcpClients[0][:2], node.status().detail["export"])

    def test_addresses(self) -> None:
        """IPv4, IPv6 and UNIX sockets; the port may be left out, the name may be percent-encoded."""
        self.assertEqual(("127.0.0.1", 7451, "vol"), self.connects_to("dst://127.0.0.1:7451/vol"))
        self.assertEqual(("127.0.0.1", 7450, "vol"), self.connects_to("dst://127.0.0.1/vol"))
        self.assertEqual(("::1", 7450, "my vol"), self.connects_to("dst://[::1]:7450/my%20vol"))
        self.assertEqual(("/run/dst.sock", "vol"), self.connects_to("dst+unix:///run/dst.sock?export=vol"))

    def test_settings(self) -> None:
        """Times may stand in the query or in the table."""
        self.connects_to("dst://127.0.0.1/vol?resend_s_max=2&deadline_s=1.5", keepalive_s=9)

    def test_bad(self) -> None:
        """What is wrong is said with what was expected."""
        for uri in (
            "dst:vol",
            "dst://",
            "dst:///vol",
            "dst://h",
            "dst://h/",
            "dst://h/a/b",
            "dst://h:x/vol",
            "dst://h:0/vol",
            "dst://h:70000/vol",
            "dst://[::1/vol",
            "dst://u@h/vol",
            "dst://h/vol#x",
            "dst://h/" + "n" * 256,
            "nbd://h/vol",
        ):
            error = self.assertRaises(
                ConfigurationError, RemoteNodeProvider().node_from_uri, MemoryReactorClock(), "n", uri, {}
            )
            self.assertIn("expected dst://HOST:PORT/EXPORT", error.message)
            self.assertIn(uri, error.message)
        for uri in ("dst+unix:///", "dst+unix:///s", "dst+unix://h/s?export=v", "dst+unix:s?export=v"):
            error = self.assertRaises(
                ConfigurationError, RemoteUNIXNodeProvider().node_from_uri, MemoryReactorClock(), "n", uri, {}
            )
            self.assertIn(uri, error.message)

    def test_long_path(self) -> None:
        """A path that no socket can have is refused when it is read, not when it is used."""
        self.assertEqual(("/" + "p" * 106, "v"), self.connects_to("dst+unix:///" + "p" * 106 + "?export=v"))
        error = self.assertRaises(ConfigurationError, self.connects_to, "dst+unix:///" + "p" * 107 + "?export=v")
        self.assertIn("longer than the 107 bytes of a socket's", error.message)

    def test_bad_settings(self) -> None:
        """Settings that are unknown or no times are refused with the URI as it was written."""
        for query in ("deadline_s=0", "deadline_s=soon", "dedline_s=1", "deadline_s"):
            uri = f"dst://127.0.0.1/vol?{query}"
            error = self.assertRaises(
                ConfigurationError, RemoteNodeProvider().node_from_uri, MemoryReactorClock(), "n", uri, {}
            )
            self.assertIn(query.partition("=")[0], error.message)
