"""
A client's requests, executed on the device that it has opened.

What is wrong with one request is the error of that request.  The device answers in any order, and so does this.

A device that can is asked without a Deferred for each block: it may have at hand what is read (C{IReadsNow}), and the
writes of one turn are given to it together, in order (C{IWritesTogether}).  They count as begun from when their turn
has come; reads may be answered before they are handed over, and everything else hands them over first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import (
    CorruptData,
    DSTError,
    InternalError,
    InvalidRequest,
    NotSupported,
    PeerError,
)
from dst.exports.dst_limits import Memory
from dst.exports.dst_questions import READING, IClient, Questions, read_only
from dst.exports.traffic import TIMED_MASK
from dst.geometry import Geometry
from dst.interfaces import Buffer, INode, IReadsNow, IWritesTogether
from dst.wire.framing import answer_header, done_answers, error_answer
from dst.wire.messages import CHANGES, DAMAGED, NOTICE_FIRST, Flag, Frame, Operation

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Requests"]

_log = Logger()

_READ = int(Operation.READ)
_WRITE = int(Operation.WRITE)
_FLUSH = int(Operation.FLUSH)
_CHECKSUMS = int(Operation.CHECKSUMS)
_FUA = int(Flag.FUA)
_CLAIM = int(Operation.CLAIM)

_CARRY_DATA = frozenset({_WRITE, _CHECKSUMS, _CLAIM})

_GATHERING = frozenset({_READ, _WRITE})
"""What may be begun while writes are gathered."""

_NO_KEYWORDS: dict[str, object] = {}

_FLAGS_ALLOWED = {
    int(Operation.WRITE): int(Flag.FUA),
    int(Operation.WRITE_ZEROES): int(Flag.FUA | Flag.NO_HOLE | Flag.FAST_ONLY),
}


class Requests(Questions):
    """
    @ivar waiting: those that were not begun yet.
    """

    def __init__(
        self, clock: IReactorTime, client: IClient, memory: Memory, requests_max: int, bytes_max: int
    ) -> None:
        super().__init__(clock, client, memory)
        self.waiting: deque[Frame] = deque()
        self.incarnation = b""
        self.requests_max = requests_max
        self._bytes_max = bytes_max
        self._quick: Any = None  # the node, for what it need not provide
        self._reads_now = False
        self._writes_together = False
        self._checked_geometry: Geometry | None = None  # of the node: what fits ours fits this
        self._send_last = client.send_last
        self._working = False
        self._gathered: list[Frame] = []  # writes that have begun and were not handed over
        self._gathered_began: float | None = None
        self._handlers: dict[int, Callable[[Frame], None]] = {
            _READ: self._read,
            _WRITE: self._write,
            _FLUSH: self._flush,
            int(Operation.TRIM): self._trim,
            int(Operation.WRITE_ZEROES): self._write_zeroes,
            int(Operation.BLOCK_STATUS): self._block_status,
            _CHECKSUMS: self._checksums,
            int(Operation.PING): self._ping,
            int(Operation.LIST_EXPORTS): self._list_exports,
            int(Operation.STATUS): self._status,
            _CLAIM: self._claim,
        }

    def open(self, node: INode | None, geometry: Geometry, incarnation: bytes) -> None:
        """
        From now on requests are of C{node}.

        @param geometry: that of the node with the permissions of this client.
        """
        if self._gathered:
            self._hand_over()
        self.node = self._quick = node
        self._reads_now = IReadsNow.providedBy(node)
        self._writes_together = IWritesTogether.providedBy(node)
        self._checked_geometry = None if node is None else node.geometry
        self.geometry = geometry
        self.incarnation = incarnation

    def work(self, counted_bytes: int) -> None:
        """
        Begin what waits, as far as the limits allow.

        @param counted_bytes: what of the memory that is taken is counted for those that wait.
        @raise PeerError: the client broke the protocol.
        """
        if self._working:
            return
        waiting, memory, client = self.waiting, self._memory, self._client
        self._working = True
        try:
            while True:
                while (
                    waiting and not client.unread and self.count < self.requests_max and self.bytes < self._bytes_max
                ):
                    # The data of a write is here already; that of a read would come to what is here.
                    if memory.taken - counted_bytes >= memory.bytes_max and waiting[0].kind in READING:
                        break
                    self._begin(waiting.popleft())
                if not self._gathered:
                    break
                self._hand_over()  # if they are done at once there is room for more
        finally:
            if self._gathered:
                self._hand_over()
            self._working = False

    def hurry(self) -> None:
        """Answer those that wait and only want to know, renew or change who owns the device: leases do not wait."""
        hasty = [frame for frame in self.waiting if frame.kind == _CLAIM]
        for frame in hasty:
            if frame in self.waiting:  # unless an answer before it has let it go on
                self.waiting.remove(frame)
                self._begin(frame)

    def _begin(self, frame: Frame) -> None:
        kind = frame.kind
        try:
            handler = self._handlers.get(kind)
            if handler is None:
                self._unknown(kind)
            elif frame.flags and frame.flags & ~_FLAGS_ALLOWED.get(kind, 0):
                raise NotSupported(f"flags {frame.flags:#x} of operation {kind} are not known here")
            elif kind != _WRITE and frame.data and kind not in _CARRY_DATA:
                raise InvalidRequest(f"operation {kind} carries no data, {len(frame.data)} bytes came")
            elif kind >= _READ and self.node is None:
                raise InvalidRequest("no export was opened in the hello")
            else:
                entrance = self.entrance
                if entrance is not None and frame.epoch != entrance.passes and kind >= _READ:
                    refusal = entrance.refusal(frame.epoch, kind in CHANGES)
                    if refusal is not None:
                        raise refusal
                if self._gathered and kind not in _GATHERING:
                    self._hand_over()
                handler(frame)
        except PeerError:
            raise
        except DSTError as error:
            self.counters.errors += 1
            self._send(error_answer(kind, frame.id, error))

    def _unknown(self, kind: int) -> None:
        if kind >= NOTICE_FIRST or kind == Operation.HELLO:
            raise PeerError(f"a client sent a frame of kind {kind}, which only servers send, or not twice")
        raise NotSupported(f"operation {kind} is not known here")

    def _read(self, frame: Frame) -> None:
        offset, length = frame.offset, frame.length
        self.geometry.check_transfer(offset, length)
        counters = self.counters
        counters.reads = count = counters.reads + 1
        counters.read_bytes += length
        began = self._clock.seconds() if count & TIMED_MASK == 1 else None
        if self._reads_now and self._as_checked():
            data = self._quick.read_now(offset, length)
            if data is not None:
                if began is not None:
                    counters.time_read(self._clock, began, succeed(None))
                self._memory.taken += length
                self._give_read(frame, data)
                return
        self.count += 1
        self.bytes += length
        self._memory.taken += length
        result = self.node.read(offset, length)  # type: ignore[union-attr]
        if began is not None:
            counters.time_read(self._clock, began, result)
        result.addCallbacks(self._read_done, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _as_checked(self) -> bool:
        """What fits our geometry fits that of the node: else it is a new one, and the node checks by itself."""
        geometry = self._quick.geometry
        if geometry is self._checked_geometry:
            return True
        if geometry != self._checked_geometry:
            return False
        self._checked_geometry = geometry
        return True

    def _read_done(self, data: Buffer, frame: Frame) -> None:
        self.count -= 1
        self.bytes -= frame.length
        self._give_read(frame, data)

    def _give_read(self, frame: Frame, data: Buffer) -> None:
        """It counts as taken memory until it is sent."""
        length = frame.length
        self._client.answered_bytes += length
        if len(data) != length:
            self._answer_error(frame, InternalError(f"the device read {len(data)} bytes instead of {length}"))
        else:
            header = answer_header(_READ, frame.id, data=data, checksum=self.checksums)
            (self._send if self.count or self._working else self._send_last)(header, data)
        if self.attentive or self._memory.short:
            self._client.request_ended()

    def _write(self, frame: Frame) -> None:
        data = frame.data
        if not frame.intact:
            damaged = CorruptData("the data did not arrive as it was sent; nothing was written")
            self._send(error_answer(_WRITE, frame.id, damaged, flags=DAMAGED))
            return
        length = len(data)
        if length != frame.length:
            raise InvalidRequest(f"a write of {frame.length} bytes came with {length}")
        geometry = self.geometry
        geometry.check_transfer(frame.offset, length)
        if geometry.read_only:
            raise read_only()
        self.bytes += length
        self._memory.taken += length
        counters = self.counters
        counters.writes = count = counters.writes + 1
        counters.written_bytes += length
        began = self._clock.seconds() if count & TIMED_MASK == 1 else None
        if self._writes_together and not frame.flags:
            self.count += 1
            self.changes += 1
            self._gathered.append(frame)
            if began is not None:
                self._gathered_began = began
            return
        if self._gathered:
            self._hand_over()
        result = self.node.write(frame.offset, data, fua=bool(frame.flags & _FUA))  # type: ignore[union-attr]
        if began is not None:
            counters.time_write(self._clock, began, result)
        self._change(frame, result)

    def _hand_over(self) -> None:
        """Give the device the writes that were gathered."""
        frames, self._gathered = self._gathered, []
        began, self._gathered_began = self._gathered_began, None
        if not self._as_checked():
            for frame in frames:
                written = self._quick.write(frame.offset, frame.data)
                written.addCallbacks(self._changed, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)
            return
        result = self._quick.write_together([(frame.offset, frame.data) for frame in frames])
        if began is not None:
            self.counters.time_write(self._clock, began, result)
        result.addCallbacks(
            self._written_together, self._not_written, (frames,), _NO_KEYWORDS, (frames,), _NO_KEYWORDS
        )

    def _written_together(self, errors: Sequence[DSTError | None] | None, frames: list[Frame]) -> None:
        count = len(frames)
        self.count -= count
        self.changes -= count
        self._give_back(sum([frame.length for frame in frames]))
        if errors is None:
            (self._send if self.count or self._working else self._send_last)(done_answers(frames))
        else:
            for frame, error in zip(frames, errors, strict=True):
                if error is None:
                    self._send(answer_header(_WRITE, frame.id))
                else:
                    self._answer_error(frame, error)
        if self.attentive or self._memory.short:
            self._client.request_ended()

    def _not_written(self, failure: Failure, frames: list[Frame]) -> None:
        _log.failure("a device failed as a whole to write", failure)
        error = InternalError(f"the device failed unexpectedly: {failure.getErrorMessage()}")
        self._written_together([error] * len(frames), frames)

    def _trim(self, frame: Frame) -> None:
        self._check_change(frame)
        self.counters.discards += 1
        self._change(frame, self.node.trim(frame.offset, frame.length))  # type: ignore[union-attr]

    def _write_zeroes(self, frame: Frame) -> None:
        self._check_change(frame)
        self.counters.discards += 1
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
        self.geometry.check_extent(frame.offset, frame.length)
        if self.geometry.read_only:
            raise read_only()

    def _change(self, frame: Frame, result: Deferred[None]) -> None:
        self.count += 1
        self.changes += 1
        result.addCallbacks(self._changed, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _changed(self, _: None, frame: Frame) -> None:
        self.count -= 1
        self.changes -= 1
        self._give_back(len(frame.data))
        (self._send if self.count or self._working else self._send_last)(answer_header(frame.kind, frame.id))
        if self.attentive or self._memory.short:
            self._client.request_ended()

    def _flush(self, frame: Frame) -> None:
        self.count += 1
        self.counters.flushes += 1
        result = self.node.flush()  # type: ignore[union-attr]
        result.addCallbacks(self._flushed, self._failed, (frame,), _NO_KEYWORDS, (frame,), _NO_KEYWORDS)

    def _flushed(self, _: None, frame: Frame) -> None:
        self.count -= 1
        if self.node is not None and self.node.incarnation != self.incarnation:
            # It flushed what it has now, not what it had when the client's writes were answered.
            self._client.incarnation_changed()
        (self._send if self.count or self._working else self._send_last)(answer_header(_FLUSH, frame.id))
        if self.attentive or self._memory.short:
            self._client.request_ended()
