# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
The promises of what finds, makes and serves devices, as tests: L{dst.interfaces.INodeProvider},
L{dst.interfaces.IAlgorithmProvider} and L{dst.interfaces.IExports}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dst.errors import ConfigurationError, NotFound
from dst.identity import Identity
from dst.interfaces import IAlgorithm, IAlgorithmProvider, IExports, INode, INodeProvider
from dst.status import LinkState
from dst.testing.disk import SimulatedDisk
from dst.testing.media import SimulatedMedia
from dst.testing.specimen import conformance_tests

__all__ = ["algorithm_provider_suite", "exports_suite", "node_provider_suite"]


class _ProviderCase(SynchronousTestCase):
    """A suite for one class."""

    provider: type

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        provider = getattr(cls, "provider", None)
        if provider is not None and cls.__module__.partition(".")[0] != "dst":
            conformance_tests.setdefault(provider, []).append(cls)


class NodeProviderSuite(_ProviderCase):
    """A plugin that makes nodes of one URI scheme."""

    uris: Sequence[str]
    bad_uris: Sequence[str]

    def setUp(self) -> None:
        self.node_provider: INodeProvider = self.provider()
        self.reactor = MemoryReactorClock()

    def node(self, uri: str, **options: object) -> INode:
        """What the provider makes."""
        return self.node_provider.node_from_uri(cast(Any, self.reactor), "some node", uri, dict(options))

    def test_provides(self) -> None:
        """It has every attribute and method of the interface."""
        self.assertTrue(verifyObject(INodeProvider, self.node_provider))

    def test_scheme(self) -> None:
        """Its scheme is in lower case and stands before every URI it serves."""
        scheme = self.node_provider.scheme
        self.assertEqual(scheme.lower(), scheme)
        self.assertEqual([scheme], sorted({uri.partition(":")[0] for uri in self.uris}))

    def test_node(self) -> None:
        """A node that it makes has the name, is not open, and nothing was touched for it."""
        for uri in self.uris:
            node = self.node(uri)
            self.assertTrue(verifyObject(INode, node))
            self.assertEqual("some node", node.name)
            self.assertIsNot(LinkState.READY, node.link)
            self.assertEqual(0, node.geometry.size)
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertEqual([], [*self.reactor.tcpClients, *self.reactor.unixClients, *self.reactor.sslClients])

    def test_unknown_option(self) -> None:
        """A key that it does not know is refused by name."""
        for uri in self.uris:
            error = self.assertRaises(ConfigurationError, self.node, uri, no_such_key="x")
            self.assertIn("no_such_key", error.message)

    def test_bad(self) -> None:
        """A URI that cannot be used is refused, and the node and the URI are said."""
        self.assertNotEqual(0, len(self.bad_uris))
        for uri in self.bad_uris:
            error = self.assertRaises(ConfigurationError, self.node, uri)
            self.assertIn("some node", error.message)
            self.assertIn(uri, error.message)


class AlgorithmProviderSuite(_ProviderCase):
    """A plugin that makes storages of one algorithm."""

    width: int

    def setUp(self) -> None:
        self.algorithm_provider: IAlgorithmProvider = self.provider()
        self.clock = Clock()

    def nodes(self, count: int) -> list[INode]:
        """Blank disks."""
        return [SimulatedDisk(self.clock, f"d{number}", SimulatedMedia(8 << 20)) for number in range(count)]

    def storage(self, nodes: Sequence[INode], **options: object) -> IAlgorithm:
        """What the provider makes."""
        make = self.algorithm_provider.storage
        return make(cast(Any, self.clock), "vol", nodes, dict(options), None)

    def test_provides(self) -> None:
        """It has every attribute and method of the interface."""
        self.assertTrue(verifyObject(IAlgorithmProvider, self.algorithm_provider))

    def test_name(self) -> None:
        """The algorithm's name is a word in lower case."""
        name = self.algorithm_provider.algorithm
        self.assertTrue(name and name == name.lower() and name.replace("-", "").isalnum(), name)

    def test_storage(self) -> None:
        """A storage that it makes has the name and the nodes in their order, and opened none of them."""
        nodes = self.nodes(self.width)
        storage = self.storage(nodes)
        self.assertTrue(verifyObject(IAlgorithm, storage))
        self.assertEqual("vol", storage.name)
        self.assertEqual(nodes, list(storage.nodes))
        self.assertEqual({LinkState.CONNECTING}, {node.link for node in nodes})
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_unknown_option(self) -> None:
        """An option that it does not know is refused by name."""
        error = self.assertRaises(ConfigurationError, self.storage, self.nodes(self.width), no_such_key=1)
        self.assertIn("no_such_key", error.message)

    def test_no_nodes(self) -> None:
        """A storage of nothing is refused."""
        self.assertRaises(ConfigurationError, self.storage, [])


class ExportsSuite(_ProviderCase):
    """What a server can serve, and to whom."""

    make: Callable[[], tuple[IExports, Identity | None]]

    def setUp(self) -> None:
        self.exports, self.identity = type(self).make()

    def test_provides(self) -> None:
        """It has every method of the interface."""
        self.assertTrue(verifyObject(IExports, self.exports))

    def test_listed_are_open(self) -> None:
        """The names are sorted, and each can be opened: a node, and whether it may be changed."""
        names = self.exports.list_exports(self.identity)
        self.assertGreater(len(names), 0)
        self.assertEqual(sorted(set(names)), names)
        for name in names:
            opened = self.exports.open_export(name, self.identity)
            self.assertTrue(INode.providedBy(opened.node))
            self.assertIsInstance(opened.read_only, bool)

    def test_not_found(self) -> None:
        """A name that is not there fails with C{NotFound}, however long and strange it is."""
        for name in ("", "no such export", "../x", "x" * 100_000, "\0\n\ud800"):
            error = self.assertRaises(NotFound, self.exports.open_export, name, self.identity)
            self.assertLess(len(error.message), 2000)


def node_provider_suite(provider: type, uris: Sequence[str], bad_uris: Sequence[str]) -> Any:
    """
    A test case that holds C{provider} to L{INodeProvider}; subclass it in a test module.

    @param provider: called without arguments.
    @param uris: of nodes that it can make, with nothing at their place.
    @param bad_uris: of its scheme, with no meaning.
    """
    return _suite(NodeProviderSuite, provider, uris=uris, bad_uris=bad_uris)


def algorithm_provider_suite(provider: type, *, width: int = 2) -> Any:
    """
    A test case that holds C{provider} to L{IAlgorithmProvider}; subclass it in a test module.

    @param width: a number of nodes that it makes a storage of.
    """
    return _suite(AlgorithmProviderSuite, provider, width=width)


def exports_suite(provider: type, make: Callable[[], tuple[IExports, Identity | None]]) -> Any:
    """
    A test case that holds C{provider} to L{IExports}; subclass it in a test module.

    @param make: returns an instance with at least one export, and an identity that may open all it sees.
    """
    return _suite(ExportsSuite, provider, make=staticmethod(make))


def _suite(base: type[_ProviderCase], provider: type, **attributes: object) -> Any:
    namespace = {"provider": provider, "__module__": base.__module__, "__doc__": base.__doc__, **attributes}
    return type(f"{provider.__name__}{base.__name__}", (base,), namespace)
