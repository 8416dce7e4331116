"""
What an NBD client's requests hold, and the answers to them.

What a request holds (its place among the client's requests and the bytes of its data) is given back when its answer
has gone to the kernel, not when it was made: so a client that does not read its answers runs into its own limit, and
reading from it stops.

Answers are collected and sent with one call: at the end of the run that began the requests, or, where a device needs
time, once in the turn of the reactor in which they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import DSTError, Fenced, InternalError
from dst.geometry import StatusExtent
from dst.interfaces import Buffer
from dst.native.nbd import HOLE_BYTES_MIN, is_zero, simple_replies
from dst.nbd.constants import CMD_FLAG_DF, CMD_FLAG_REQ_ONE
from dst.nbd.errno import errno_for
from dst.nbd.requests import block_status_reply, data_chunk_head, error_chunk, hole_chunk, simple_reply
from dst.nbd.server_handshake import META_CONTEXT_ID

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from dst.exports.nbd_limits import Budget, NBDLimits, Requests
    from dst.exports.traffic import Counters
    from dst.transport.stream import Stream

__all__ = ["Answers"]

_log = Logger()


class Answers:
    """The half of a transmission that looks towards the client."""

    def __init__(
        self,
        clock: IReactorTime,
        structured: bool,
        stream: Stream,
        limits: NBDLimits,
        budget: Budget,
        of_all: Requests,
        counters: Counters,
    ) -> None:
        self._clock = clock
        self._counters = counters
        self._structured = structured
        self._stream = stream
        self._requests_max = limits.requests_max
        self._session_bytes_max = limits.session_bytes_max
        self._guaranteed_bytes = limits.guaranteed_bytes
        self._guaranteed_requests = limits.guaranteed_requests
        self._budget = budget
        self._of_all = of_all
        self._requests = 0  # begun and their answers not sent
        self._charged_bytes = 0
        self._answered = 0  # of these, those whose answers are made
        self._answered_bytes = 0
        self._out: list[Buffer] = []
        self._running = False
        self._ended = False
        self._turn: IDelayedCall | None = None

    def _run(self) -> None:
        """Begin what may begin and send what is answered."""
        raise NotImplementedError

    # What is held

    def _admit(self, length: int) -> bool:
        """Whether a request that holds C{length} bytes may begin now."""
        if self._has_room(length):
            return True
        self._flush()  # answers that have gone make room
        return self._has_room(length)

    def _has_room(self, length: int) -> bool:
        if self._requests >= self._requests_max:
            return False
        charged = self._charged_bytes
        if charged and charged + length > self._session_bytes_max:
            return False
        if self._of_all.used >= self._of_all.most and self._requests >= self._guaranteed_requests:
            return False  # its own answers let it go on
        budget = self._budget
        used = budget.used_bytes
        if not used or used + length <= budget.bytes_max or charged + length <= self._guaranteed_bytes:
            return True
        budget.wait(self._schedule, length)
        return False

    def _charge(self, length: int) -> None:
        self._requests += 1
        self._charged_bytes += length
        self._of_all.used += 1
        self._budget.used_bytes += length

    # What is answered

    def _read_done(self, data: Buffer, cookie: int, offset: int, length: int, flags: int) -> None:
        if self._ended:
            return
        if len(data) != length:
            self._fail(InternalError(f"a read of {length} bytes gave {len(data)}"), cookie, length)
            return
        self._answered += 1
        self._answered_bytes += length
        out = self._out
        if self._structured:
            if length >= HOLE_BYTES_MIN and not flags & CMD_FLAG_DF and is_zero(data):
                out.append(hole_chunk(cookie, offset, length))
            else:
                out.append(data_chunk_head(cookie, offset, length))
                out.append(data)
        else:
            out.append(simple_reply(cookie))
            out.append(data)
        if not self._running and self._turn is None:
            self._schedule()

    def _done(self, _: object, cookie: int, length: int) -> None:
        if self._ended:
            return
        self._answered += 1
        self._answered_bytes += length
        self._out.append(simple_reply(cookie))  # also allowed where replies are structured, and shorter
        if not self._running and self._turn is None:
            self._schedule()

    def _status_done(self, extents: list[StatusExtent], cookie: int, length: int, flags: int) -> None:
        if self._ended:
            return
        if not extents:
            self._fail(InternalError("the device said nothing of the extent"), cookie, 0)
            return
        if flags & CMD_FLAG_REQ_ONE:
            extents = extents[:1]
        self._answered += 1
        self._out.append(block_status_reply(cookie, META_CONTEXT_ID, extents, length))
        if not self._running and self._turn is None:
            self._schedule()

    def _all_done(self, cookies: list[int], length: int) -> None:
        """Writes that hold C{length} bytes together are done."""
        if self._ended:
            return
        self._answered += len(cookies)
        self._answered_bytes += length
        self._out.append(simple_replies(cookies))
        if not self._running:
            self._run()

    def _failed(self, failure: Failure, cookie: int, length: int, changing: bool = False) -> None:
        error = failure.value
        if not isinstance(error, DSTError):
            _log.failure("a request of an NBD client failed unexpectedly", failure=failure)
            error = InternalError("the server is at fault; its log says more")
        self._failed_with(error, cookie, length, changing)

    def _failed_with(self, error: DSTError, cookie: int, length: int, changing: bool = False) -> None:
        if isinstance(error, Fenced) and not self._ended:
            # Another daemon serves it now. A client that connects again, there, asks again what was not answered;
            # an error would be taken for the disk's.
            self._moved(error)
            return
        self._fail(error, cookie, length, changing)

    def _moved(self, error: Fenced) -> None:
        """The device is another daemon's: end the session."""
        raise NotImplementedError

    def _fail(self, error: DSTError, cookie: int, length: int, changing: bool = False) -> None:
        if self._ended:
            return
        self._answered += 1
        self._answered_bytes += length
        self._counters.errors += 1
        errno = errno_for(error.status, changing=changing)
        if self._structured:
            self._out.append(error_chunk(cookie, errno, error.message))
        else:
            self._out.append(simple_reply(cookie, errno))
        if not self._running and self._turn is None:
            self._schedule()

    def _schedule(self) -> None:
        """Send in a moment what is answered now, together with whatever else this turn of the reactor brings."""
        if self._turn is None:
            self._turn = self._clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        self._run()

    def _flush(self) -> None:
        if self._out:
            out, self._out = self._out, []
            self._stream.send(out)
        if self._answered and not self._stream.congested:
            self._requests -= self._answered
            self._of_all.used -= self._answered
            self._answered = 0
            given, self._answered_bytes = self._answered_bytes, 0
            if given:
                self._charged_bytes -= given
                self._budget.give_back(given)

    def _give_back_all(self) -> None:
        """The client is gone."""
        self._ended = True
        self._out.clear()
        self._budget.forget(self._schedule)
        self._budget.turns.leave(self, self._stream)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._of_all.used -= self._requests
        self._requests = self._answered = 0
        charged, self._charged_bytes = self._charged_bytes, 0
        self._budget.give_back(charged)
