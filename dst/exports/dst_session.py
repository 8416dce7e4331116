"""
One connection of a DST client, seen from the server.

    hello expected --> greeting --> serving --> gone

C{greeting} takes as long as it takes until nothing of the client's earlier connections
can reach the device any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import (
    CorruptData,
    DSTError,
    IncarnationChanged,
    InternalError,
    InvalidRequest,
    NotSupported,
    PeerError,
    ReadOnly,
    Unavailable,
)
from dst.geometry import TRANSFER_BYTES_MAX, Geometry, StatusExtent
from dst.interfaces import Buffer, INode, OpenExport, StopObserving
from dst.status import LinkState
from dst.transport.connection import FrameConnection
from dst.wire.bodies import encode_extents, encode_names, encode_status
from dst.wire.framing import answer_header, error_answer, goodbye, notice
from dst.wire.handshake import Configuration, Hello, Terms, decode_hello, encode_configuration, negotiate
from dst.wire.messages import (
    CHANGES,
    DAMAGED,
    DATA_BYTES_MAX,
    NOTICE_FIRST,
    Flag,
    Frame,
    Operation,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["DSTServerSession", "Limits", "SessionServer"]

_log = Logger()

_READ = int(Operation.READ)
_WRITE = int(Operation.WRITE)
_FLUSH = int(Operation.FLUSH)
_FUA = int(Flag.FUA)

_NO_KEYWORDS: dict[str, object] = {}

_FLAGS_ALLOWED = {
    int(Operation.WRITE): int(Flag.FUA),
    int(Operation.WRITE_ZEROES): int(Flag.FUA | Flag.NO_HOLE | Flag.FAST_ONLY),
}
_CHECK_S = 5.0
"""How often a connection is looked at for having stalled."""


@frozen
class Limits:
    """
    What one server allows, and why.

    @ivar connections_max: each may cost C{bytes_max}, and a descriptor of some thousand.
    @ivar requests_max: of one connection; twice what the deepest usual queue has.
    @ivar bytes_max: of one connection's requests: reads being answered and writes being done.  One
        request alone is always let in.
    @ivar transfer_bytes_max: the most data of one request.
    @ivar hello_s_max: a connection that has not said hello by then is nobody's.
    @ivar idle_s: a client pings at least three times in this time.
    @ivar unread_s_max: a client that does not read its answers for so long is cut, for the memory they take.
    @ivar bytes_per_s_min: a client that takes longer over one message is cut, for the same reason.
    @ivar settle_s_max: how long a hello waits for what an earlier connection left behind.  Below the
        time that clients give a connection attempt, so that they get to know the reason.
    @ivar drain_s_max: how long an orderly stop waits for the devices.
    """

    connections_max: int = 256
    requests_max: int = 256
    bytes_max: int = 32 * 1024 * 1024
    transfer_bytes_max: int = TRANSFER_BYTES_MAX
    hello_s_max: float = 5.0
    idle_s: int = 60
    unread_s_max: float = 60.0
    bytes_per_s_min: int = 1024
    settle_s_max: float = 4.0
    drain_s_max: float = 10.0


class SessionServer(Protocol):
    """What a session needs of the server it belongs to."""

    limits: Limits
    terms: Terms

    def list_exports(self) -> list[str]:
        """The names that may be opened."""

    async def open_export(self, session: DSTServerSession, hello: Hello) -> OpenExport:
        """
        Returns when nothing of an earlier connection can reach the device any more.

        @raise DSTError: this client is not served, or not now.
        """

    def session_ended(self, session: DSTServerSession) -> None:
        """Its connection is closed; some of its requests may still be executed."""

    def request_settled(self, session: DSTServerSession) -> None:
        """A request of a session whose connection is closed has ended."""


class DSTServerSession(FrameConnection):
    """
    @ivar hello: what the client said, once it has.
    @ivar node: what it opened, once it has.
    @ivar requests: how many are being executed.
    @ivar changes: how many of them change the device.
    """

    def __init__(self, clock: IReactorTime, server: SessionServer, peer: str) -> None:
        super().__init__(clock)
        self.peer = peer
        self.hello: Hello | None = None
        self.node: INode | None = None
        self.requests = 0
        self.changes = 0
        self._bytes = 0
        self._server = server
        self._limits = server.limits
        self._requests_max = server.limits.requests_max
        self._bytes_max = server.limits.bytes_max
        self._geometry = Geometry(0)
        self._configuration: Configuration | None = None
        self._export_read_only = True
        self._greeting: Deferred[None] | None = None
        self._waiting: deque[Frame] = deque()
        self._working = False
        self._draining = False
        self._reading_stopped = False
        self._stop_observing: StopObserving | None = None
        self._timer: IDelayedCall | None = None
        self._silent_s = 0.0
        self._unread_s = 0.0
        self._seen_bytes = 0
        self._seen_mid_frame = False
        self._seen_progress = 0
        self._handlers: dict[int, Callable[[Frame], None]] = {
            _READ: self._read,
            _WRITE: self._write,
            _FLUSH: self._flush_device,
            int(Operation.TRIM): self._trim,
            int(Operation.WRITE_ZEROES): self._write_zeroes,
            int(Operation.BLOCK_STATUS): self._block_status,
            int(Operation.PING): self._ping,
            int(Operation.LIST_EXPORTS): self._list_exports,
            int(Operation.STATUS): self._status,
        }

    # What the server asks.

    def say_goodbye(self, error: DSTError) -> None:
        """Close, and tell the client why.  What is being executed goes on and is not answered."""
        if not self.gone:
            self.send(goodbye(error))
            self._waiting.clear()
            self.close()

    def cut(self) -> None:
        """Close at once; what was not begun never will be."""
        self._waiting.clear()
        self.abort()

    def drain(self) -> None:
        """Begin nothing more, answer what was begun, and close."""
        self._draining = True
        self._waiting.clear()
        self._stop_reading()
        if not self.requests:
            self._drained()

    def _drained(self) -> None:
        self.say_goodbye(Unavailable("the server is stopping"))

    # FrameConnection

    def connectionMade(self) -> None:
        super().connectionMade()
        self._timer = self.clock.callLater(self._limits.hello_s_max, self._hello_due)

    def frames_received(self, frames: list[Frame]) -> None:
        if self._configuration is not None:
            if not self._draining:
                self._waiting.extend(frames)
                self._work()
        elif self._greeting is not None or len(frames) > 1:
            self.stream_broken(PeerError("a client sent a request before its hello was answered"))
        elif frames[0].kind != Operation.HELLO or not frames[0].id or not frames[0].intact:
            self.stream_broken(PeerError("the first thing a client sends must be a hello"))
        else:
            self._greeting = Deferred.fromCoroutine(self._greet(frames[0]))
            self._greeting.addErrback(self._greeting_failed)

    def stream_broken(self, error: PeerError) -> None:
        _log.info("{peer}: {error}; the connection is closed", peer=self.peer, error=error.message)
        self.say_goodbye(error)

    def peer_reads_again(self) -> None:
        self._work()

    def ended(self, reason: Failure) -> None:
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stop_observing is not None:
            self._stop_observing()
            self._stop_observing = None
        if self._greeting is not None:
            self._greeting.cancel()
        self._server.session_ended(self)

    # Hello

    async def _greet(self, frame: Frame) -> None:
        try:
            self.hello = hello = decode_hello(frame.data)
            geometry, incarnation, node = Geometry(0), bytes(16), None
            if hello.export:
                opened = await self._server.open_export(self, hello)
                node = opened.node
                if node.link is not LinkState.READY:
                    raise Unavailable(f"{hello.export} cannot be used now, it is {node.link.value}: {node.reason}")
                self._export_read_only = opened.read_only
                geometry, incarnation = self._permitted(node.geometry), node.incarnation
            configuration = negotiate(hello, self._server.terms, geometry, incarnation)
        except DSTError as error:
            _log.info("{peer} is not served: {error}", peer=self.peer, error=error.message)
            self.send(error_answer(Operation.HELLO, frame.id, error))
            self.close()
            return
        self.node = node
        self._configuration = configuration
        self._geometry = configuration.geometry
        self._requests_max = min(self._requests_max, configuration.requests_max)
        data = encode_configuration(configuration)
        self.send(answer_header(Operation.HELLO, frame.id, data=data) + data)
        self.parser.data_bytes_max = DATA_BYTES_MAX
        self.parser.checksums = configuration.checksums
        if node is not None:
            self._stop_observing = node.observe(self._node_changed)
        if self._timer is not None:
            self._timer.reset(_CHECK_S)

    def _greeting_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):  # by ended(): nobody is there any more
            _log.failure("{peer} could not be served through a fault of this side", failure, peer=self.peer)
            self.cut()

    def _permitted(self, geometry: Geometry) -> Geometry:
        return geometry.evolve(read_only=True) if self._export_read_only else geometry

    def _node_changed(self, node: INode) -> None:
        configuration, hello = self._configuration, self.hello
        if self.gone or configuration is None or hello is None:
            return
        if node.link is not LinkState.READY and node.link is not LinkState.INTERRUPTED:
            self.say_goodbye(Unavailable(f"{hello.export} is {node.link.value}: {node.reason}"))
        elif node.incarnation != configuration.incarnation:
            self.say_goodbye(IncarnationChanged(f"{hello.export} may have lost what it had not flushed"))
        else:
            changed = negotiate(hello, self._server.terms, self._permitted(node.geometry), node.incarnation)
            if changed != configuration:
                self._configuration = changed
                self._geometry = changed.geometry
                self.send(notice(Operation.CONFIGURATION, encode_configuration(changed)))

    # Requests

    def _work(self) -> None:
        """Begin what waits, as far as the limits allow, and read more only when nothing waits."""
        waiting = self._waiting
        if self._working:
            return
        self._working = True
        try:
            while (
                waiting and not self.unread and self.requests < self._requests_max and self._bytes < self._bytes_max
            ):
                self._begin(waiting.popleft())
        finally:
            self._working = False
        if waiting:
            self._stop_reading()
        elif self._reading_stopped and not self._draining and not self.gone:
            self._reading_stopped = False
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def _stop_reading(self) -> None:
        if not self._reading_stopped and not self.gone:
            self._reading_stopped = True
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def _begin(self, frame: Frame) -> None:
        kind = frame.kind
        try:
            handler = self._handlers.get(kind)
            if handler is None:
                self._unknown(kind)
            elif frame.flags & ~_FLAGS_ALLOWED.get(kind, 0):
                raise NotSupported(f"flags {frame.flags:#x} of operation {kind} are not known here")
            elif frame.data and kind != _WRITE:
                raise InvalidRequest(f"operation {kind} carries no data, {len(frame.data)} bytes came")
            elif kind >= _READ and self.node is None:
                raise InvalidRequest("no export was opened in the hello")
            else:
                handler(frame)
        except PeerError as error:
            self.stream_broken(error)
        except DSTError as error:
            self.send(error_answer(kind, frame.id, error))

    def _unknown(self, kind: int) -> None:
        if kind >= NOTICE_FIRST or kind == Operation.HELLO:
            raise PeerError(f"a client sent a frame of kind {kind}, which only servers send, or not twice")
        raise NotSupported(f"operation {kind} is not known here")

    def _read(self, frame: Frame) -> None:
        offset, length = frame.offset, frame.length
        self._geometry.check_transfer(offset, length)
        self.requests += 1
        self._bytes += length
        result = self.node.read(offset, length)  # type: ignore[union-attr]
        result.addCallbacks(self._read_done, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _read_done(self, data: Buffer, frame: Frame) -> None:
        self.requests -= 1
        self._bytes -= frame.length
        if len(data) != frame.length:
            self._answer_error(frame, InternalError(f"the device read {len(data)} bytes instead of {frame.length}"))
        else:
            self.send(answer_header(_READ, frame.id, data=data, checksum=self.parser.checksums), data)
        if self._waiting or self.gone or self._draining:
            self._request_ended()

    def _write(self, frame: Frame) -> None:
        data = frame.data
        if not frame.intact:
            damaged = CorruptData("the data did not arrive as it was sent; nothing was written")
            self.send(error_answer(_WRITE, frame.id, damaged, flags=DAMAGED))
            return
        length = len(data)
        if length != frame.length:
            raise InvalidRequest(f"a write of {frame.length} bytes came with {length}")
        geometry = self._geometry
        geometry.check_transfer(frame.offset, length)
        if geometry.read_only:
            raise self._read_only()
        self._bytes += length
        self._change(frame, self.node.write(frame.offset, data, fua=bool(frame.flags & _FUA)))  # type: ignore[union-attr]

    def _trim(self, frame: Frame) -> None:
        self._check_change(frame)
        self._change(frame, self.node.trim(frame.offset, frame.length))  # type: ignore[union-attr]

    def _write_zeroes(self, frame: Frame) -> None:
        self._check_change(frame)
        flags = frame.flags
        result = self.node.write_zeroes(  # type: ignore[union-attr]
            frame.offset,
            frame.length,
            fua=bool(flags & Flag.FUA),
            no_hole=bool(flags & Flag.NO_HOLE),
            fast_only=bool(flags & Flag.FAST_ONLY),
        )
        self._change(frame, result)

    def _check_change(self, frame: Frame) -> None:
        self._geometry.check_extent(frame.offset, frame.length)
        if self._geometry.read_only:
            raise self._read_only()

    def _read_only(self) -> ReadOnly:
        return ReadOnly(f"{self.hello.export if self.hello else ''} may not be changed by this client")

    def _change(self, frame: Frame, result: Deferred[None]) -> None:
        self.requests += 1
        self.changes += 1
        result.addCallbacks(self._changed, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _changed(self, _: None, frame: Frame) -> None:
        self.requests -= 1
        self.changes -= 1
        self._bytes -= len(frame.data)
        self.send(answer_header(frame.kind, frame.id))
        if self._waiting or self.gone or self._draining:
            self._request_ended()

    def _flush_device(self, frame: Frame) -> None:
        self.requests += 1
        result = self.node.flush()  # type: ignore[union-attr]
        result.addCallbacks(self._flushed, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _flushed(self, _: None, frame: Frame) -> None:
        self.requests -= 1
        assert self.node is not None and self._configuration is not None
        if self.node.incarnation != self._configuration.incarnation:
            # It flushed what it has now, not what it had when the client's writes were answered.
            self._node_changed(self.node)
        self.send(answer_header(_FLUSH, frame.id))
        self._request_ended()

    def _block_status(self, frame: Frame) -> None:
        self._geometry.check_extent(frame.offset, frame.length)
        self.requests += 1
        result = self.node.block_status(frame.offset, frame.length)  # type: ignore[union-attr]
        result.addCallbacks(self._block_status_done, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _block_status_done(self, extents: list[StatusExtent], frame: Frame) -> None:
        self.requests -= 1
        self._answer(frame, encode_extents(extents))
        self._request_ended()

    def _ping(self, frame: Frame) -> None:
        self.send(answer_header(frame.kind, frame.id))

    def _list_exports(self, frame: Frame) -> None:
        self._answer(frame, encode_names(self._server.list_exports()))

    def _status(self, frame: Frame) -> None:
        assert self.node is not None or frame.kind < _READ
        if self.node is None:
            raise InvalidRequest("no export was opened in the hello")
        self._answer(frame, encode_status(self.node.status()))

    def _answer(self, frame: Frame, data: bytes) -> None:
        self.send(answer_header(frame.kind, frame.id, data=data, checksum=self.parser.checksums), data)

    def _answer_error(self, frame: Frame, error: DSTError) -> None:
        self.send(error_answer(frame.kind, frame.id, error))

    def _failed(self, failure: Failure, frame: Frame) -> None:
        """The device could not do it: the client gets to know exactly that."""
        self.requests -= 1
        if frame.kind in CHANGES:
            self.changes -= 1
            self._bytes -= len(frame.data)
        elif frame.kind == _READ:
            self._bytes -= frame.length
        error = failure.value
        if not isinstance(error, DSTError):
            _log.failure("a device failed with what is no DSTError", failure)
            error = InternalError(f"the device failed unexpectedly: {failure.getErrorMessage()}")
        self._answer_error(frame, error)
        self._request_ended()

    def _request_ended(self) -> None:
        """What is rarely to be done when a request has ended."""
        if self.gone:
            self._server.request_settled(self)
        elif self._draining:
            if not self.requests:
                self._drained()
        elif self._waiting:
            self._work()

    # Time

    def _hello_due(self) -> None:
        if self.hello is None:
            self._timer = None
            self.stream_broken(PeerError(f"no hello came within {self._limits.hello_s_max:g} s"))
            return
        self._check()

    def _check(self) -> None:
        """Look for clients that cost more than they do."""
        self._timer = self.clock.callLater(_CHECK_S, self._check)
        limits = self._limits
        received = self.received_bytes - self._seen_bytes
        self._seen_bytes = self.received_bytes
        progress, mid_frame = self.progress, not self.parser.between_frames
        slow = received < limits.bytes_per_s_min * _CHECK_S and not self._reading_stopped
        self._unread_s = self._unread_s + _CHECK_S if self.unread and progress == self._seen_progress else 0.0
        self._silent_s = self._silent_s + _CHECK_S if not received and not self._reading_stopped else 0.0
        self._seen_progress = progress
        if self._unread_s >= limits.unread_s_max:
            _log.info("{peer} does not read its answers; the connection is cut", peer=self.peer)
            self.cut()
        elif self._silent_s >= limits.idle_s:
            self.stream_broken(PeerError(f"nothing was heard for {limits.idle_s:g} s"))
        elif mid_frame and self._seen_mid_frame and slow:
            self.stream_broken(PeerError(f"a message comes slower than {limits.bytes_per_s_min} bytes per second"))
        self._seen_mid_frame = mid_frame
