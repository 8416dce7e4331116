"""Every provider of nodes, algorithms and exports keeps its promises."""

from __future__ import annotations

import sys
from random import Random
from typing import Any

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.task import Clock

import test.examples.test_twin  # noqa: F401 - it imports the example, which is not on the path
from dst.algorithms.linear import LinearProvider
from dst.algorithms.mirror import MirrorProvider
from dst.algorithms.stripe import StripeProvider
from dst.cluster.building import Devices
from dst.cluster.fences import Fences
from dst.cluster.named_exports import NamedExports
from dst.cluster.topology import ExportSpec
from dst.errors import ConfigurationError
from dst.exports.dst_server import DSTServerFactory
from dst.exports.nbd_server import NBDServerFactory
from dst.exports.providers import DSTExportProvider, NBDExportProvider
from dst.identity import Identity
from dst.nodes.file import FileNodeProvider
from dst.nodes.memory import MemoryDevice, MemoryNodeProvider
from dst.nodes.nbd import NBDNode
from dst.nodes.nbd_provider import NBDNodeProvider, NBDSNodeProvider, NBDSUNIXNodeProvider, NBDUNIXNodeProvider
from dst.nodes.remote import RemoteNode
from dst.nodes.remote_provider import RemoteNodeProvider, RemoteUNIXNodeProvider
from dst.testing import (
    DeviceExports,
    algorithm_provider_suite,
    export_provider_suite,
    exports_suite,
    faulty_disk,
    node_provider_suite,
)
from test.security.machines import Machines, World


class MemoryNodeProviderTests(
    node_provider_suite(
        MemoryNodeProvider, ["memory:?size=64M"], ["memory:", "memory:?size=much", "memory:x?size=64M"]
    )
):
    """C{memory:}."""


class FileNodeProviderTests(
    node_provider_suite(FileNodeProvider, ["file:/no/a.img?size=64M"], ["file:", "file:/a?size=0", "file:/a?x=y"])
):
    """C{file:}."""


class RemoteNodeProviderTests(
    node_provider_suite(
        RemoteNodeProvider,
        ["dst://127.0.0.1:7450/a", "dst://[::1]:7450/a", "dst://host.example/a"],
        ["dst:", "dst://", "dst://host:port/a", "dst://127.0.0.1:7450"],
    )
):
    """C{dst://}."""


class RemoteUNIXNodeProviderTests(
    node_provider_suite(
        RemoteUNIXNodeProvider,
        ["dst+unix:///run/dst.sock?export=a"],
        ["dst+unix:", "dst+unix:///a", "dst+unix:///?export=a"],
    )
):
    """C{dst+unix://}."""


class NBDNodeProviderTests(
    node_provider_suite(
        NBDNodeProvider,
        ["nbd://127.0.0.1:10809/a", "nbd://[::1]/a", "nbd://host.example"],
        ["nbd:", "nbd://", "nbd://host:port/a", "nbd://host/a?x=y"],
    )
):
    """C{nbd://}."""


class NBDUNIXNodeProviderTests(
    node_provider_suite(
        NBDUNIXNodeProvider, ["nbd+unix:///a?socket=/run/nbd.sock"], ["nbd+unix:", "nbd+unix:///a", "nbd+unix://h/a"]
    )
):
    """C{nbd+unix://}."""


class _SecuredCase:
    """Gives a provider certificates."""

    def node(self: Any, uri: str, **options: object) -> Any:
        """What the provider makes for a daemon that has a certificate."""
        machines = Machines(self.mktemp())
        machines.add("alpha")
        security = machines.security("alpha", World())
        return self.node_provider.node_from_uri(self.reactor, "some node", uri, dict(options), security=security)

    def test_no_certificate(self: Any) -> None:
        """Without one it is refused: it never falls back to the clear."""
        for uri in self.uris:
            error = self.assertRaises(
                ConfigurationError, self.node_provider.node_from_uri, self.reactor, "some node", uri, {}
            )
            self.assertIn("has no certificate", error.message)


class NBDSNodeProviderTests(
    _SecuredCase,
    node_provider_suite(
        NBDSNodeProvider,
        ["nbds://127.0.0.1:10809/a", "nbds://[::1]/a?peer=beta", "nbds://host.example"],
        ["nbds:", "nbds://", "nbds://host:port/a", "nbds://host/a?x=y"],
    ),
):
    """C{nbds://}."""


class NBDSUNIXNodeProviderTests(
    _SecuredCase,
    node_provider_suite(
        NBDSUNIXNodeProvider, ["nbds+unix:///a?socket=/run/nbd.sock"], ["nbds+unix:", "nbds+unix:///a"]
    ),
):
    """C{nbds+unix://}."""


class TwinProviderTests(algorithm_provider_suite(sys.modules["dst_twin.twin"].TwinProvider)):
    """C{twin}, from the examples."""


class MirrorProviderTests(algorithm_provider_suite(MirrorProvider)):
    """C{mirror}."""


class LinearProviderTests(algorithm_provider_suite(LinearProvider)):
    """C{linear}."""


class StripeProviderTests(algorithm_provider_suite(StripeProvider)):
    """C{stripe}."""


def dst_client(clock: IReactorTime, name: str, endpoint: IStreamClientEndpoint, export: str) -> RemoteNode:
    """Who speaks the DST protocol."""
    return RemoteNode(clock, name, endpoint, export, random=Random(1))


class DSTExportProviderTests(export_provider_suite(DSTExportProvider, DSTServerFactory, dst_client)):
    """C{dst}, the server."""


def nbd_client(clock: IReactorTime, name: str, endpoint: IStreamClientEndpoint, export: str) -> NBDNode:
    """Who speaks NBD."""
    return NBDNode(clock, name, endpoint, export, random=Random(1))


class NBDExportProviderTests(export_provider_suite(NBDExportProvider, NBDServerFactory, nbd_client)):
    """C{nbd}, the server."""


def make_exports() -> tuple[NamedExports, Identity]:
    """Two exports of one device."""
    clock = Clock()
    devices = Devices(by_name={"m": MemoryDevice(clock, "m", 1 << 20)}, fences=Fences(clock, None))
    return NamedExports([ExportSpec("b", "m", False), ExportSpec("a", "m", True)], devices), Identity(user_id=0)


class NamedExportsTests(exports_suite(NamedExports, make_exports)):
    """The exports of a topology."""


def make_device_exports() -> tuple[DeviceExports, None]:
    """Two devices, one of which nobody may change."""
    clock = Clock()
    devices = [faulty_disk(clock, name, 1 << 20) for name in ("b", "a")]
    return DeviceExports(*devices, read_only=frozenset("b")), None


class DeviceExportsTests(exports_suite(DeviceExports, make_device_exports)):
    """The exports that servers are tested with."""
