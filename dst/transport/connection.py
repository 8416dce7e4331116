"""
What both ends of a connection do the same way.

One wake-up serves many messages: everything that is complete in what arrived is
worked on before anything is sent, and what goes out in one turn of the
reactor goes out in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import PeerError
from dst.interfaces import Buffer
from dst.security.reasons import is_handshaking
from dst.transport.stream import Stream, receive_bytes_after, stream_over
from dst.wire.messages import HELLO_BYTES_MAX, Frame
from dst.wire.parser import FrameParser

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.internet.tcp import Connection

__all__ = ["CLOSE_S_MAX", "FrameConnection"]

CLOSE_S_MAX = 5.0
"""How long a connection that is being closed may take to send its last words."""

T = TypeVar("T")

_log = Logger()


class FrameConnection(Protocol):
    """
    A connection that carries frames.

    @ivar parser: turns what arrives into frames.
    @ivar unread: the peer does not read what it was sent; what is sent now only waits.
    @ivar gone: the connection ended, or is as good as ended: nothing is sent or taken any more.
    @ivar received_bytes: how much has arrived, ever.
    @ivar receives_much: it may have a mebibyte in its hands for which nobody was asked, and not only a quarter of it.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.parser = FrameParser(HELLO_BYTES_MAX)
        self.unread = False
        self.gone = False
        self.received_bytes = 0
        self.receives_much = True
        self._out: list[Buffer] = []
        self._in_turn = False
        self._flushing: IDelayedCall | None = None
        self._closing: IDelayedCall | None = None
        self._stream: Stream | None = None

    # What a subclass does.

    def frames_received(self, frames: list[Frame]) -> None:
        """Some frames arrived, at least one."""
        raise NotImplementedError

    def frame_arriving(self, missing_bytes: int) -> None:
        """So many bytes of a frame are still to come; asked again with every piece of it."""

    def stream_broken(self, error: PeerError) -> None:
        """The peer sent what cannot be understood; called after the frames before it."""
        raise NotImplementedError

    def peer_reads_again(self) -> None:
        """C{unread} became false."""

    def ended(self, reason: Failure) -> None:
        """The connection is closed; called once."""

    # What it uses.

    @property
    def progress(self) -> int:
        """Changes whenever the peer has read some of what was waiting for it."""
        return 0 if self._stream is None else self._stream.progress

    def send(self, header: Buffer, data: Buffer = b"") -> None:
        """Send at the end of this turn, together with everything else that is sent in it."""
        if self.gone:
            return
        self._out.append(header)
        if data:
            self._out.append(data)
        if not self._in_turn and self._flushing is None:
            self._flushing = self.clock.callLater(0, self._flush_later)

    def send_all(self, buffers: Sequence[Buffer], *, at_once: bool) -> None:
        """Send headers and data, one after the other; C{at_once}, unless that is what the turn ends with anyway."""
        if self.gone:
            return
        self._out += buffers
        if self._in_turn:
            return
        if at_once:
            self.flush()
        elif self._flushing is None:
            self._flushing = self.clock.callLater(0, self._flush_later)

    def send_last(self, header: Buffer, data: Buffer = b"") -> None:
        """Send it and whatever waits: nothing more is to be sent soon."""
        if self.gone:
            return
        self._out.append(header)
        if data:
            self._out.append(data)
        if not self._in_turn:
            if self._flushing is not None:
                self._flushing.cancel()
                self._flushing = None
            self.flush()

    def close(self, s_max: float = CLOSE_S_MAX) -> None:
        """Send what there is and close; takes nothing more.  After C{s_max} it is closed in any case."""
        if is_handshaking(self.transport):
            self.abort()
        elif not self.gone:
            self.flush()
            self._leave()
            assert self.transport is not None
            self._closing = self.clock.callLater(s_max, self._close_now)
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self._leave()
        if self.transport is not None:
            cast("Connection", self.transport).abortConnection()

    def flush(self) -> None:
        """Hand everything over to the transport."""
        if self._out:
            out, self._out = self._out, []
            stream = self._stream
            assert stream is not None
            stream.send(out)
            self.unread = stream.congested

    # What Twisted calls.

    def connectionMade(self) -> None:
        assert self.transport is not None
        self._stream = stream_over(self.transport, self)

    def dataReceived(self, data: bytes) -> None:
        if not self.gone:
            self.received_bytes += len(data)
            self._work_on(self.parser.receive, data, len(data))

    @property
    def hole(self) -> memoryview | None:
        """Where the next bytes belong: large data is received to its place."""
        return self.parser.hole

    def hole_filled(self, count: int) -> None:
        if not self.gone:
            self.received_bytes += count
            self._work_on(self.parser.hole_filled, count, count)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._stream is not None:
            self._stream.close()
        self.ended(reason)

    def drained(self) -> None:
        self.unread = False
        if not self.gone:
            self._in_turn = True
            try:
                self.peer_reads_again()
            finally:
                self._in_turn = False
                if not self.gone:
                    self.flush()

    def _work_on(self, parse: Callable[[T], list[Frame]], arrived: T, length: int) -> None:
        parser, stream = self.parser, self._stream
        assert stream is not None
        self._in_turn = True
        try:
            frames = parse(arrived)
            if self.receives_much:
                stream.receive_bytes = receive_bytes_after(length, len(frames))
            if frames:
                self.frames_received(frames)
            if parser.broken is not None and not self.gone:
                self.stream_broken(parser.broken)
            elif parser.missing_bytes:
                self.frame_arriving(parser.missing_bytes)
        except Exception:
            _log.failure("a connection failed through a fault of this side and is closed")
            self.abort()
        finally:
            self._in_turn = False
            if self._out and not self.gone:
                self.flush()

    def _flush_later(self) -> None:
        self._flushing = None
        self.flush()

    def _close_now(self) -> None:
        self._closing = None
        self.abort()

    def _leave(self) -> None:
        if self.gone:
            return
        self.gone = True
        self._out.clear()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self.transport is not None:  # a registered producer would hold back loseConnection
            cast("Connection", self.transport).unregisterProducer()
