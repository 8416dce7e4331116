"""
One connection of a DST client, seen from the server.

    hello expected --> greeting --> serving --> gone

C{greeting} takes as long as it takes until nothing of an earlier connection can change the device any more.  A
session that is gone may still have requests in the hands of the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.administration import SessionStatus
from dst.errors import DSTError, IncarnationChanged, PeerError, Unavailable
from dst.exports.dst_limits import Limits, Memory
from dst.exports.dst_requests import Requests
from dst.exports.traffic import session_status, words_for
from dst.geometry import Geometry
from dst.identity import Identity
from dst.interfaces import INode, OpenExport, StopObserving
from dst.recovery.fence import Fence
from dst.status import LinkState
from dst.surroundings import surroundings_of
from dst.transport.connection import FrameConnection
from dst.transport.peers import identity_at
from dst.wire.framing import answer_header, error_answer, goodbye, notice
from dst.wire.handshake import Configuration, Hello, Terms, decode_hello, encode_configuration, negotiate
from dst.wire.messages import DATA_BYTES_MAX, Frame, Operation

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

__all__ = ["DSTServerSession", "SessionServer"]

_log = Logger()

_CHECK_S = 5.0
"""How often a connection is looked at for having stalled."""

_UNCOUNTED_BYTES = 64 * 1024
"""Less than this on its way to us is not counted: it comes in one receiving."""

_QUEUE_BYTES = 1024 * 1024
"""What a connection counts for while requests wait in it: as many as come in one receiving, as objects."""

_MOVING_BYTES_PER_S = 64 * 1024
"""A client that sends less than this while others wait for memory stalls."""


class SessionServer(Protocol):
    """What a session needs of the server it belongs to."""

    limits: Limits
    terms: Terms
    memory: Memory

    def list_exports(self, session: DSTServerSession) -> list[str]:
        """The names that it may open."""

    async def open_export(self, session: DSTServerSession, hello: Hello) -> OpenExport:
        """
        Returns when nothing of an earlier connection can change the device any more.

        @raise DSTError: this client is not served, or not now.
        """

    def session_ended(self, session: DSTServerSession) -> None:
        """Its connection is closed; some of its requests may still be executed."""

    def request_settled(self, session: DSTServerSession) -> None:
        """A request of a session whose connection is closed has ended."""


class DSTServerSession(FrameConnection):
    """
    @ivar id: what operators call it.
    @ivar address: where it comes from.
    @ivar identity: who it is; known when it has said hello.
    @ivar hello: what the client said, once it has.
    @ivar requests: what it asked of its device.
    @ivar answered_bytes: what was read for it in this turn, and is counted until it is sent.
    @ivar queued_bytes: what is counted while requests wait here for their turn.
    """

    def __init__(self, clock: IReactorTime, server: SessionServer, address: IAddress | None, id: str) -> None:
        super().__init__(clock)
        self.id = id
        self.address = address
        self.peer = words_for(address)
        self.identity = Identity()
        self.hello: Hello | None = None
        self.answered_bytes = 0
        self._server = server
        self._limits = server.limits
        self._memory = server.memory
        self.requests = Requests(clock, self, server.memory, server.limits.requests_max, server.limits.bytes_max)
        self._since = 0.0
        self._configuration: Configuration | None = None
        self._export_read_only = True
        self._greeting: Deferred[None] | None = None
        self._draining = False
        self._reading_stopped = False
        self._stop_observing: StopObserving | None = None
        # Counted as taken memory, besides: what is on its way from the client and to it.
        self.queued_bytes = 0
        self._arriving_bytes = 0
        self._unsent_bytes = 0
        self._awaited_bytes = 0  # not counted yet: it was announced, and we do not read it
        self._memory_seen = (0, 0)
        self._timer: IDelayedCall | None = None
        self._silent_s = 0.0
        self._unread_s = 0.0
        self._seen = (0, 0)
        self._seen_mid_frame = False

    # What the server asks.

    def say_goodbye(self, error: DSTError) -> None:
        """Close, and tell the client why.  What is being executed goes on and is not answered."""
        if not self.gone:
            self.send(goodbye(error))
            self._forget()
            self.close()

    def cut(self) -> None:
        """Close at once; what was not begun never will be."""
        self._forget()
        self.abort()

    def _forget(self) -> None:
        self.requests.waiting.clear()
        self.requests.attentive = True

    @property
    def export(self) -> str | None:
        """The name of what it has open."""
        return None if self.hello is None or self.requests.node is None else self.hello.export

    def status(self) -> SessionStatus | None:
        """How it is; C{None} while it has no export open."""
        export, requests = self.export, self.requests
        if export is None:
            return None
        return session_status(
            self.id,
            "dst",
            export,
            words_for(self.address),
            self.identity,
            requests.counters,
            read_only=requests.geometry.read_only,
            since=self._since,
            in_flight=requests.count + len(requests.waiting),
        )

    def drain(self) -> None:
        """Begin nothing more, answer what was begun, and close."""
        self._draining = True
        self._forget()
        self._stop_reading()
        if not self.requests.count:
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
                self.requests.waiting.extend(frames)
                if self._arriving_bytes:
                    self._arrived()
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

    def ended(self, reason: Failure) -> None:
        self._forget()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stop_observing is not None:
            self._stop_observing()
            self._stop_observing = None
        if self._greeting is not None:
            self._greeting.cancel()
        self._give_everything_back()
        if self.requests.entrance is not None and not self.requests.changes:
            self.requests.entrance.leave()
        self._server.session_ended(self)

    # Hello

    async def _greet(self, frame: Frame) -> None:
        try:
            self.identity = identity_at(self.transport)  # by now a handshake of TLS is over
            if self.identity.name is not None:
                self.peer = f"{self.identity.name} at {words_for(self.address)}"
            self.hello = hello = decode_hello(frame.data)
            geometry, incarnation, node, fence = Geometry(0), bytes(16), None, None
            if hello.export:
                opened = await self._server.open_export(self, hello)
                node = opened.node
                fence = cast("Fence | None", opened.fence)
                if fence is not None and opened.device is not None:
                    await fence.open()
                    node = opened.device  # the fence is asked here, for each request by its own epoch
                if node.link is not LinkState.READY:
                    raise Unavailable(f"{hello.export} cannot be used now, it is {node.link.value}: {node.reason}")
                self._export_read_only = opened.read_only
                geometry, incarnation = self._permitted(node.geometry), node.incarnation
            configuration = negotiate(hello, self._server.terms, geometry, incarnation, _identity(fence))
        except DSTError as error:
            _log.info("{peer} is not served: {error}", peer=self.peer, error=error.message)
            self.send(error_answer(Operation.HELLO, frame.id, error))
            self.close()
            return
        self._configuration = configuration
        self._since = surroundings_of(self.clock).wall_clock_s()
        self.requests.open(node, configuration.geometry, incarnation)
        if fence is not None:
            self.requests.entrance = fence.enter(lambda: self.requests.changes, self._fence_moved)
        self.requests.checksums = configuration.checksums
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
            entrance = self.requests.entrance
            fence = None if entrance is None else entrance.fence
            permitted = self._permitted(node.geometry)
            changed = negotiate(hello, self._server.terms, permitted, node.incarnation, _identity(fence))
            if changed != configuration:
                self._configuration = changed
                self.requests.open(node, changed.geometry, changed.incarnation)
                self.send(notice(Operation.CONFIGURATION, encode_configuration(changed)))

    # Requests

    def list_exports(self) -> list[str]:
        return self._server.list_exports(self)

    def incarnation_changed(self) -> None:
        assert self.requests.node is not None
        self._node_changed(self.requests.node)

    def _fence_moved(self) -> None:
        """Somebody waits for the end of what was begun here, or no longer does."""
        self._look_at_requests()

    def _look_at_requests(self) -> None:
        entrance = self.requests.entrance
        awaited = entrance is not None and entrance.awaited
        self.requests.attentive = awaited or self.gone or self._draining or bool(self.requests.waiting)

    def request_ended(self) -> None:
        entrance = self.requests.entrance
        if entrance is not None and not self.requests.changes:
            if self.gone:
                entrance.leave()
            elif entrance.awaited:
                entrance.settled()
        if self.gone:
            self._memory.taken -= self.answered_bytes
            self.answered_bytes = 0
            self._server.request_settled(self)
        elif self._draining:
            if not self.requests.count:
                self._drained()
        elif self.requests.waiting:
            self._work()
        if self._memory.short:
            self._memory.wake()

    def _work(self) -> None:
        """Begin what may be begun, and read more only when nothing waits."""
        requests, memory = self.requests, self._memory
        try:
            requests.work(self.queued_bytes)
            if requests.waiting:
                requests.hurry()
        except PeerError as error:
            self.stream_broken(error)
            return
        if requests.waiting:
            requests.attentive = True
            if not self.queued_bytes:
                self._queue(_QUEUE_BYTES)
            self._stop_reading()
            if memory.taken - self.queued_bytes >= memory.bytes_max:
                memory.wait(self)
        elif self.queued_bytes:
            self._look_at_requests()
            memory.taken -= self.queued_bytes
            self.queued_bytes = 0
            self._read_on()

    def _queue(self, count: int) -> None:
        self.queued_bytes += count
        self._memory.taken += count

    def _stop_reading(self) -> None:
        if not self._reading_stopped and not self.gone:
            self._reading_stopped = True
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def _read_on(self) -> None:
        if self._reading_stopped and not self._draining and not self._awaited_bytes and not self.gone:
            self._reading_stopped = False
            self.transport.resumeProducing()  # type: ignore[union-attr]

    # Memory

    def frame_arriving(self, missing_bytes: int) -> None:
        if missing_bytes > _UNCOUNTED_BYTES and not self._arriving_bytes and not self._awaited_bytes:
            self._awaited_bytes = missing_bytes
            self._admit()

    def _admit(self) -> None:
        """Receive the rest of a large frame, when there is memory for it."""
        memory = self._memory
        if memory.taken >= memory.bytes_max:
            self._stop_reading()
            memory.wait(self, to_send=True)
            return
        self._arriving_bytes, self._awaited_bytes = self._awaited_bytes, 0
        memory.taken += self._arriving_bytes
        memory.hold(self)
        if not self.requests.waiting:
            self._read_on()

    def _arrived(self) -> None:
        """It is here: until it is begun it counts as what waits."""
        self.queued_bytes += self._arriving_bytes
        self._arriving_bytes = 0
        if not self._unsent_bytes:
            self._memory.release(self)

    def flush(self) -> None:
        super().flush()
        if self.answered_bytes:
            memory = self._memory
            if self.unread:
                self._unsent_bytes += self.answered_bytes
                memory.hold(self)
            else:
                memory.taken -= self.answered_bytes
                if memory.short:
                    memory.wake()
            self.answered_bytes = 0

    def peer_reads_again(self) -> None:
        if self._unsent_bytes:
            self._memory.taken -= self._unsent_bytes
            self._unsent_bytes = 0
            if not self._arriving_bytes:
                self._memory.release(self)
        self._work()
        if self._memory.short:
            self._memory.wake()

    def memory_freed(self) -> None:
        if self._awaited_bytes:
            self._admit()
        self._work()

    def stalled_bytes(self) -> int:
        seen, self._memory_seen = self._memory_seen, (self.received_bytes, self.progress)
        stalled = 0
        if self.received_bytes - seen[0] < _MOVING_BYTES_PER_S and not self._reading_stopped:
            stalled += self._arriving_bytes
        if self.progress == seen[1]:
            stalled += self._unsent_bytes
        return stalled

    def _give_everything_back(self) -> None:
        memory = self._memory
        memory.taken -= self._arriving_bytes + self.queued_bytes + self._unsent_bytes + self.answered_bytes
        self._arriving_bytes = self._awaited_bytes = self._unsent_bytes = self.queued_bytes = self.answered_bytes = 0
        memory.forget(self)
        if memory.short:
            memory.wake()

    # Time

    def _hello_due(self) -> None:
        if self.hello is None:
            self._timer = None
            self.stream_broken(PeerError(f"no hello came within {self._limits.hello_s_max:g} s"))
            return
        self._check()

    def _check(self) -> None:
        """Look for clients that stopped to be any."""
        self._timer = self.clock.callLater(_CHECK_S, self._check)
        limits = self._limits
        seen, self._seen = self._seen, (self.received_bytes, self.progress)
        seen_mid_frame, self._seen_mid_frame = self._seen_mid_frame, not self.parser.between_frames
        received = self.received_bytes - seen[0]
        slow = received < limits.bytes_per_s_min * _CHECK_S and not self._reading_stopped
        self._unread_s = self._unread_s + _CHECK_S if self.unread and self.progress == seen[1] else 0.0
        self._silent_s = self._silent_s + _CHECK_S if not received and not self._reading_stopped else 0.0
        if self._unread_s >= limits.unread_s_max:
            _log.info("{peer} does not read its answers; the connection is cut", peer=self.peer)
            self.cut()
        elif self._silent_s >= limits.idle_s:
            self.stream_broken(PeerError(f"nothing was heard for {limits.idle_s:g} s"))
        elif self._seen_mid_frame and seen_mid_frame and slow:
            self.stream_broken(PeerError(f"a message comes slower than {limits.bytes_per_s_min} bytes per second"))


def _identity(fence: Fence | None) -> bytes:
    return b"" if fence is None else fence.identity
