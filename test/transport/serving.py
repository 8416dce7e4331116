"""
A DST server over one faulty device, and remote nodes of it, in virtual time.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import Clock
from zope.interface import implementer

from dst.errors import Denied, DSTError, NotFound
from dst.exports.dst_server import DSTServerFactory, Limits
from dst.interfaces import Buffer, IExports, INode, IReadsNow, IWritesTogether, OpenExport
from dst.nodes.memory import MemoryDevice
from dst.nodes.remote import RemoteNode
from dst.status import LinkState
from dst.testing.faulty import FaultyDevice, Operation
from dst.wire.messages import DATA_BYTES_MAX, Frame
from dst.wire.parser import FrameParser
from test.transport.pipes import PipeEndpoint

T = TypeVar("T")


@implementer(IReadsNow, IWritesTogether)
class QuickDevice(FaultyDevice):
    """
    A device that misbehaves on demand, and reads at once and writes together when it does not.

    @ivar batches: how many writes were asked for together, each time.
    @ivar read_at_once: how many reads were.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.batches: list[int] = []
        self.read_at_once = 0

    def read_now(self, offset: int, length: int) -> Buffer | None:
        if self._rules or self.delay_s or "read" in self.held_kinds or self.link is not LinkState.READY:
            return None
        self.history.append(Operation("read", offset, length))
        self.counts["read"] += 1
        self.read_at_once += 1
        inner: Any = self.inner
        found: Buffer | None = inner.read_now(offset, length)
        return found

    def write_together(self, writes: Sequence[tuple[int, Buffer]]) -> Deferred[Sequence[DSTError | None] | None]:
        self.batches.append(len(writes))
        ended: Deferred[Any] = DeferredList([self.write(*write) for write in writes], consumeErrors=True)
        return ended.addCallback(_errors)


def _errors(results: list[tuple[bool, Any]]) -> Sequence[DSTError | None] | None:
    errors = [None if done else result.value for done, result in results]
    return errors if any(errors) else None


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

    device_type: ClassVar[type[FaultyDevice]] = FaultyDevice

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
        self.device = self.device_type(self.clock, self.memory)
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


class QuickServing(Serving):
    """The same over a device that needs no Deferred for each block."""

    device: QuickDevice
    device_type = QuickDevice


def frames_in(stream: bytes) -> list[Frame]:
    """The frames in everything that one side has sent."""
    parser = FrameParser(DATA_BYTES_MAX)
    frames = parser.receive(bytes(stream))
    assert parser.broken is None, parser.broken
    return frames
