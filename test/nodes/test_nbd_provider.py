"""Tests of L{dst.nodes.nbd_provider}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dst.errors import ConfigurationError
from dst.interfaces import INodeProvider
from dst.nodes.nbd import NBDNode
from dst.nodes.nbd_provider import NBDNodeProvider, NBDUNIXNodeProvider


class ProviderTests(SynchronousTestCase):
    """URIs are read strictly."""

    def test_interfaces(self) -> None:
        """Both are providers."""
        for provider in (NBDNodeProvider(), NBDUNIXNodeProvider()):
            self.assertTrue(verifyObject(INodeProvider, provider))

    def test_good(self) -> None:
        """Hosts, ports, names and sockets end up where they should."""
        tcp, unix = NBDNodeProvider(), NBDUNIXNodeProvider()
        for provider, uri, address, export in (
            (tcp, "nbd://127.0.0.1/vol", "127.0.0.1:10809", "vol"),
            (tcp, "nbd://far.example:77/a%20b/c", "far.example:77", "a b/c"),
            (tcp, "nbd://[::1]:78/", "[::1]:78", ""),
            (tcp, "nbd://[::1]", "[::1]:10809", ""),
            (unix, "nbd+unix:///vol?socket=/run/nbd.sock", "/run/nbd.sock", "vol"),
            (unix, "nbd+unix:///?socket=/a%20b", "/a b", ""),
        ):
            detail = provider.node_from_uri(Clock(), "n", uri, {}).status().detail
            self.assertEqual((address, export), (detail["address"], detail["export"]), uri)

    def test_options(self) -> None:
        """Options are taken from the table as well as from the URI."""
        node = NBDNodeProvider().node_from_uri(Clock(), "n", "nbd://h/x?durable=true", {"deadline_s": 3})
        assert isinstance(node, NBDNode)
        self.assertEqual((True, 3.0), (node._durable, node._deadline_s))

    def test_bad(self) -> None:
        """Everything else is refused with the URI and what was expected."""
        tcp, unix = NBDNodeProvider(), NBDUNIXNodeProvider()
        for provider, uri in (
            (tcp, "nbd:///vol"),
            (tcp, "nbd://h:0/vol"),
            (tcp, "nbd://h:99999/vol"),
            (tcp, "nbd://h:x/vol"),
            (tcp, "nbd://user@h/vol"),
            (tcp, "nbd://[::1/vol"),
            (tcp, "nbd://h/" + "x" * 4097),
            (tcp, "nbd://h/%ff"),
            (tcp, "nbd://h/vol?read_olny=true"),
            (tcp, "nbd://h/vol?deadline_s=-1"),
            (unix, "nbd+unix:///vol"),
            (unix, "nbd+unix://host/vol?socket=/s"),
        ):
            error = self.assertRaises(ConfigurationError, provider.node_from_uri, Clock(), "n", uri, {})
            self.assertIn("'n'", error.message)
