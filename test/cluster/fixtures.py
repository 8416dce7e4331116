"""Providers that need nothing but memory, for tests of what stands above them."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from dst.algorithms.mirror import MirrorProvider
from dst.cluster.providers import Providers
from dst.exports.providers import DSTExportProvider, NBDExportProvider
from dst.nodes.file import FileNodeProvider
from dst.nodes.memory import MemoryDevice, MemoryNodeProvider


class NoiseNodeProvider:
    """C{noise:}: memory that holds something already, as a disk that was used before."""

    scheme = "noise"

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> MemoryDevice:
        """A device of 64 MiB with a few bytes of something."""
        device = MemoryDevice(reactor, name, 64 << 20)
        device.open()
        device.write(8192, b"somebody's data")
        device.close()
        return device


def memory_providers() -> Providers:
    """Memory, noise, files and the mirror."""
    return Providers(
        {"memory": MemoryNodeProvider(), "noise": NoiseNodeProvider(), "file": FileNodeProvider()},
        {"mirror": MirrorProvider()},
        {"dst": DSTExportProvider(), "nbd": NBDExportProvider()},
    )
