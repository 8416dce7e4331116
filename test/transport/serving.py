"""
A DST server over one faulty device, and remote nodes of it, in virtual time.
"""

from __future__ import annotations

from random import Random
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from dst.errors import Denied, NotFound
from dst.exports.dst_server import DSTServerFactory, Limits
from dst.interfaces import IExports, INode, OpenExport
from dst.nodes.memory import MemoryDevice
from dst.nodes.remote import RemoteNode
from dst.testing.faulty import FaultyDevice
from dst.wire.messages import DATA_BYTES_MAX, Frame
from dst.wire.parser import FrameParser
from test.transport.pipes import PipeEndpoint

T = TypeVar("T")


@implementer(IExports)
class Exports:
    """Some nodes under their names; C{"ro-"} before a name opens it read-only."""

    def __init__(self, *nodes: INode) -> None:
        self.nodes = {node.name: node for node in nodes}

    def list_exports(self, identity: object | None) -> list[str]:
        return sorted(self.nodes)

    def open_export(self, name: str, identity: object | None) -> OpenExport:
        if name == "secret":
            raise Denied("secret is not for everybody")
        node = self.nodes.get(name.removeprefix("ro-"))
        if node is None:
            raise NotFound(f"there is no export {name!r} here")
        return OpenExport(node, name.startswith("ro-"))


class Serving:
    """
    @ivar device: what is exported as C{"vol"}, 1 MiB of memory that misbehaves on demand.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        size: int = 1 << 20,
        read_only: bool = False,
        fragment_bytes: int = 1 << 20,
        capacity_bytes: int = 1 << 18,
    ) -> None:
        self.clock = Clock()
        self.memory = MemoryDevice(self.clock, "vol", size, read_only=read_only)
        self.device = FaultyDevice(self.clock, self.memory)
        self.device.open()
        self.exports = Exports(self.device)
        self.limits = limits
        self.server = self.make_server()
        self.endpoint = PipeEndpoint(
            self.clock, lambda: self.server.buildProtocol(None), fragment_bytes, capacity_bytes
        )

    def make_server(self) -> DSTServerFactory:
        return DSTServerFactory(self.clock, self.exports, limits=self.limits)

    def restart_server(self) -> None:
        """Another process, which knows nothing of the first, whose connections are broken."""
        for pipe in self.endpoint.pipes:
            pipe.cut()
        self.server = self.make_server()

    def node(self, name: str = "r", export: str = "vol", **options: object) -> RemoteNode:
        return RemoteNode(self.clock, name, self.endpoint, export, random=Random(1), **options)  # type: ignore[arg-type]

    def open_node(self, name: str = "r", export: str = "vol", **options: object) -> RemoteNode:
        node = self.node(name, export, **options)
        self.result(node.open())
        return node

    def turn(self, count: int = 20) -> None:
        """Some turns of the reactor in no time."""
        for _ in range(count):
            self.clock.advance(0)

    def wait(self, seconds: float, step_s: float = 0.05) -> None:
        """Let time pass, in small steps."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
        self.turn()

    def result(self, deferred: Deferred[T], seconds: float = 0.0) -> T:
        """What C{deferred} fires with, within so much time."""
        fired: list[T] = []
        deferred.addCallback(fired.append)
        errors: list[BaseException] = []
        deferred.addErrback(lambda failure: errors.append(failure.value))
        for _ in range(2000):
            if fired or errors:
                break
            self.clock.advance(seconds / 2000)
        if errors:
            raise errors[0]
        assert fired, "it did not fire"
        return fired[0]


def frames_in(stream: bytes) -> list[Frame]:
    """The frames in everything that one side has sent."""
    parser = FrameParser(DATA_BYTES_MAX)
    frames = parser.receive(bytes(stream))
    assert parser.broken is None, parser.broken
    return frames
