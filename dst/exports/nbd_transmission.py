"""
The transmission phase of one NBD client: its requests are done on a device, the answers go back.

This is the data path.  One wake-up may bring dozens of requests: they are all begun, and whatever has an answer by
then is sent with one call.  A request costs no object of its own; what is in flight is counted, not kept
(L{dst.exports.nbd_answers}).

Most requests are I{plain}: reads and writes without flags that nothing is wrong with.  A run of plain reads is
answered in one call if the device has at hand what they ask for, and the plain writes of one wake-up go to it in one
call, if it is a device that can do so.  Such a call takes less than the limits allow, never more: what does not fit,
is not at hand or is not plain is looked at by itself, and waits if it has to.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import DSTError, Fenced, InvalidRequest, PeerError, ReadOnly
from dst.exports.nbd_answers import Answers
from dst.exports.traffic import TIMED_MASK, Counters, timed_among
from dst.exports.turns import REQUEST_SHIFT
from dst.interfaces import Buffer, INode, IReadsNow, OpenExport
from dst.native.nbd import Request, answer_reads, gather_writes
from dst.nbd.constants import (
    CMD_BLOCK_STATUS,
    CMD_CACHE,
    CMD_DISC,
    CMD_FLAG_DF,
    CMD_FLAG_FAST_ZERO,
    CMD_FLAG_FUA,
    CMD_FLAG_NO_HOLE,
    CMD_FLAG_REQ_ONE,
    CMD_FLUSH,
    CMD_READ,
    CMD_TRIM,
    CMD_WRITE,
    CMD_WRITE_ZEROES,
    COMMAND_NAMES,
)
from dst.nbd.requests import RequestParser
from dst.nbd.server_handshake import Agreement
from dst.status import LinkState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTime

    from dst.exports.nbd_limits import Budget, NBDLimits, Requests
    from dst.exports.nbd_writes import SharedWrites
    from dst.transport.stream import Stream
__all__ = ["ITransmissionOwner", "Transmission"]

CACHE_READ_BYTES: Final = 1024 * 1024
"""What the cache command reads at a time, where the client has a large turn."""

_FLAGS_ALLOWED: Final = {
    CMD_READ: CMD_FLAG_FUA | CMD_FLAG_DF,
    CMD_WRITE: CMD_FLAG_FUA,
    CMD_DISC: CMD_FLAG_FUA,
    CMD_FLUSH: CMD_FLAG_FUA,
    CMD_TRIM: CMD_FLAG_FUA,
    CMD_CACHE: CMD_FLAG_FUA,
    CMD_WRITE_ZEROES: CMD_FLAG_FUA | CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
    CMD_BLOCK_STATUS: CMD_FLAG_FUA | CMD_FLAG_REQ_ONE,
}
"""
FUA is allowed with every command, as the protocol has it, and means something with those that change the
device.
"""

_CHANGING: Final = frozenset({CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES})

_NO_KEYWORDS: Final[dict[str, object]] = {}

_BUFFERS: Final = (bytes, bytearray, memoryview)

_log = Logger()


class ITransmissionOwner(Protocol):
    """What a transmission asks of its session."""

    hole: memoryview | None

    def set_reading(self, reading: bool) -> None:
        """Go on receiving, or stop."""

    def end(self, reason: str) -> None:
        """Cut the connection; C{reason} is for the log."""

    def finish(self) -> None:
        """Close the connection when everything was sent."""


class Transmission(Answers):
    """One client's requests on one device."""

    def __init__(
        self,
        clock: IReactorTime,
        opened: OpenExport,
        agreement: Agreement,
        stream: Stream,
        owner: ITransmissionOwner,
        limits: NBDLimits,
        budget: Budget,
        of_all: Requests,
        counters: Counters,
        shared: SharedWrites | None,
    ) -> None:
        """
        @param of_all: what all clients have asked of the device.
        @param shared: what this and other clients write to the device, if it takes writes together.
        """
        super().__init__(clock, agreement.structured, stream, limits, budget, of_all, counters)
        self._node = opened.node
        self._read_only = opened.read_only or opened.node.geometry.read_only
        self._block_status = agreement.block_status
        self._owner = owner
        self._geometry = opened.node.geometry
        self._incarnation = opened.node.incarnation
        self._transfer_bytes_max = agreement.export.transfer_bytes_max
        self._mask = agreement.export.block_size - 1
        self._parser = RequestParser(agreement.export.transfer_bytes_max)
        node = opened.node
        self._read_now = cast(IReadsNow, node).read_now if IReadsNow.providedBy(node) else None
        self._shared = shared
        self._writes: list[tuple[int, Buffer]] = []  # begun, to go to the device together
        self._written: list[int] = []  # their cookies
        self._waiting: list[Request] = []
        self._next = 0  # the first of them that was not begun; 0 but while some are begun
        self._prepaid = False  # that one, a large write, was charged before it was received
        self._reading = True
        self._finishing = False
        self._received_bytes = 0
        self._bytes_per_s_min = limits.bytes_per_s_min
        self._contended_bytes_per_s_min = limits.contended_bytes_per_s_min
        self._seen: object = (
            None  # what it had kept us waiting with when we last looked, or when it last was fast enough
        )
        self._seen_bytes = 0
        self._seen_at = 0.0
        self._to_cache: deque[tuple[int, int, int]] = deque()  # cookie, offset and length; the first is being read
        self._stop_observing = opened.node.observe(self._node_changed)

    # What arrives

    def receive(self, data: bytes) -> None:
        """Take the next chunk of the stream."""
        if self._finishing:
            return
        self._received_bytes += len(data)
        try:
            requests = self._parser.feed(data)
        except PeerError as error:
            self._owner.end(error.message)
            return
        self._budget.turns.received(self._stream, len(data), len(requests))
        self._waiting += requests
        self._run()

    def filled(self, count: int) -> None:
        """C{count} bytes were received into the owner's hole."""
        if self._finishing:
            return
        self._received_bytes += count
        self._waiting += self._parser.filled(count)
        if self._waiting:
            self._run()
        else:
            self._owner.hole = self._parser.hole

    def drained(self) -> None:
        """The client has read everything."""
        self._run()

    def finish(self) -> None:
        """Take no more requests, answer those that were begun, and close."""
        self._finishing = True
        self._waiting.clear()
        if self._prepaid:  # the write that was being received will not be done
            self._prepaid = False
            self._answered += 1
        self._run()

    @property
    def in_flight(self) -> int:
        """Requests that wait or are begun, and are not answered."""
        return len(self._waiting) + self._requests - self._answered

    @property
    def read_only(self) -> bool:
        """This client may not change the device."""
        return self._read_only

    def lost(self) -> None:
        """The connection is gone: give back everything.  What is still being done is done for nobody."""
        self._stop_observing()
        self._waiting.clear()
        self._to_cache.clear()
        self._give_back_all()

    def stalled_s(self) -> float:
        """
        For how long this client has kept us waiting: with a part of a request, or by not reading, or by doing so
        more slowly than anybody does who means it; 0 while it does none of these.

        Called now and then; the answer is as exact as that.
        """
        if self._stream.congested:
            waits_with: object = self._stream
        else:
            waits_with = self._parser.unfinished if self._reading else None
        if waits_with is None:
            self._seen = None
            return 0.0
        now = self._clock.seconds()
        moved_bytes = self._received_bytes + self._stream.progress
        lowest = self._bytes_per_s_min
        if self._budget.short and self._charged_bytes > self._guaranteed_bytes:
            lowest = self._contended_bytes_per_s_min
        if self._seen is not waits_with or moved_bytes - self._seen_bytes >= lowest * (now - self._seen_at):
            self._seen, self._seen_bytes, self._seen_at = waits_with, moved_bytes, now
        return now - self._seen_at

    # What is begun

    def _run(self) -> None:
        """Begin what may begin, send what is answered, and stop or go on receiving accordingly."""
        if self._ended or self._running:
            return
        self._running = True
        try:
            blocked = self._begin()
            if self._writes and not self._ended:
                self._write()
        finally:
            self._running = False
            del self._waiting[: self._next]
            self._next = 0
        self._settle(blocked)

    def _settle(self, blocked: bool) -> None:
        if self._ended:
            return
        self._flush()
        self._owner.hole = self._parser.hole
        if self._finishing and not self._requests:
            self._owner.finish()
        reading = not (blocked or self._finishing or self._stream.congested)
        if reading is not self._reading:
            self._reading = reading
            self._owner.set_reading(reading)

    def _begin(self) -> bool:
        """
        Begin requests, in order, as long as the limits allow.

        @return: whether something has to wait.
        """
        waiting = self._waiting
        turn = self._budget.turns.take(self)
        self._stream.move_bytes_max = turn.move_bytes
        left = turn.requests
        while not (self._ended or self._finishing):
            if self._next == len(waiting):
                waiting.clear()
                self._next = 0
                if not self._parser.wanted_bytes:
                    return False
                if not self._receive_large():
                    return bool(self._parser.wanted_bytes)
            if left <= 0:
                self._schedule()
                return True
            if not self._prepaid:
                begun = self._begin_plain(left)
                if begun:
                    left -= begun
                    continue
                held_bytes = self._held_bytes(waiting[self._next])
                left -= held_bytes >> REQUEST_SHIFT
                if not self._admit(held_bytes):
                    return True
                self._charge(held_bytes)
            self._prepaid = False
            left -= 1
            self._next += 1
            self._execute(waiting[self._next - 1])
        return False

    def _receive_large(self) -> bool:
        """
        Go on with a write whose data did not arrive in one piece.

        @return: whether it did now. If not, and the parser wants nothing any more, the rest has yet to come.
        """
        wanted_bytes = self._parser.wanted_bytes
        if not self._admit(wanted_bytes):
            return False
        self._charge(wanted_bytes)
        self._prepaid = True
        try:
            self._waiting += self._parser.allow()
        except PeerError as error:
            self._owner.end(error.message)
            return False
        return bool(self._waiting)

    def _begin_plain(self, requests_max: int) -> int:
        """
        Begin the plain requests of one kind that come next and for which there surely is room.

        @return: how many these are, as L{dst.exports.turns} counts.
        """
        waiting, at = self._waiting, self._next
        of_all = self._of_all
        requests = self._requests
        end = min(len(waiting), at + requests_max, at + self._requests_max - requests)
        room = of_all.most - of_all.used
        if end - at > room:
            end = min(end, at + max(room, self._guaranteed_requests - requests))
        if end <= at:
            return 0
        budget = self._budget
        charged = self._charged_bytes
        room_bytes = min(
            self._session_bytes_max - charged,
            max(budget.bytes_max - budget.used_bytes, self._guaranteed_bytes - charged),
            requests_max << REQUEST_SHIFT,
        )
        counters = self._counters
        command = waiting[at][0]
        if command == CMD_READ and self._read_now is not None:
            timed = timed_among(counters.reads, end - at)
            began = self._clock.seconds() if timed else 0.0
            reached, length = answer_reads(
                waiting, at, end, room_bytes, self._rules(), self._read_now, self._structured, self._out
            )
            count = reached - at
            if not count:
                return 0
            if timed and timed_among(counters.reads, count):
                counters.time_reads(self._clock.seconds() - began, count)
            counters.reads += count
            counters.read_bytes += length
            self._answered += count
            self._answered_bytes += length
        elif command == CMD_WRITE and self._shared is not None and not self._read_only:
            reached, length = gather_writes(waiting, at, end, room_bytes, self._rules(), self._writes, self._written)
            count = reached - at
        else:
            return 0
        if self._ended:
            return 1  # the device had the client cut off: everything was given back, and nothing is waiting
        self._next = reached
        self._requests += count
        self._charged_bytes += length
        of_all.used += count
        budget.used_bytes += length
        return count + (length >> REQUEST_SHIFT)

    def _rules(self) -> tuple[int, int, int]:
        """What makes a request's extent a good one, at this moment."""
        return self._node.geometry.size, self._mask, self._transfer_bytes_max

    def _admit(self, length: int) -> bool:
        if self._has_room(length):
            return True
        if self._shared is not None:  # they may be answered at once
            if self._writes:
                self._write()
            self._shared.send()
        return not self._ended and super()._admit(length)  # the device may have had the client cut off

    def _held_bytes(self, request: Request) -> int:
        """The data that a request holds in memory; one that will be refused holds none."""
        command, _, _, _, length, data = request
        if data is not None or (command == CMD_READ and length <= self._transfer_bytes_max):
            return length
        if command == CMD_CACHE:
            return min(length, CACHE_READ_BYTES)
        return 0

    def _execute(self, request: Request) -> None:
        """Begin one request: a plain one of a device that takes one at a time, or that has nothing at hand."""
        command, flags, cookie, offset, length, data = request
        node = self._node
        if (
            command <= CMD_WRITE
            and 0 < length <= self._transfer_bytes_max
            and offset + length <= node.geometry.size
            and not (offset | length) & self._mask
        ):
            if command == CMD_READ:
                if not flags or (flags == CMD_FLAG_DF and self._structured):
                    counters = self._counters
                    counters.reads = count = counters.reads + 1
                    counters.read_bytes += length
                    if count & TIMED_MASK == 1:
                        reading = self._timed_read(offset, length)
                    else:
                        reading = node.read(offset, length)
                    if reading.called and isinstance(reading.result, _BUFFERS):
                        self._read_done(reading.result, cookie, offset, length, flags)
                    else:
                        reading.addCallbacks(
                            self._read_done,
                            self._failed,
                            (cookie, offset, length, flags),
                            _NO_KEYWORDS,
                            (cookie, length),
                            _NO_KEYWORDS,
                        )
                    return
            elif not flags and not self._read_only and data is not None:
                if self._shared is not None:
                    self._writes.append((offset, data))
                    self._written.append(cookie)
                    return
                counters = self._counters
                counters.writes = count = counters.writes + 1
                counters.written_bytes += length
                if count & TIMED_MASK == 1:
                    writing = self._timed_write(offset, data)
                else:
                    writing = node.write(offset, data)
                if writing.called and writing.result is None:
                    self._done(None, cookie, length)
                else:
                    writing.addCallbacks(
                        self._done, self._failed, (cookie, length), _NO_KEYWORDS, (cookie, length, True), _NO_KEYWORDS
                    )
                return
        if self._shared is not None:  # what this may have to come after
            if self._writes:
                self._write()
            self._shared.send()
        self._execute_carefully(command, flags, cookie, offset, length, data)

    def _write(self) -> None:
        """Give the device the writes that are begun."""
        assert self._shared is not None
        writes, self._writes = self._writes, []
        cookies, self._written = self._written, []
        length = sum([len(data) for _, data in writes])
        counters = self._counters
        timed = timed_among(counters.writes, len(writes))
        counters.writes += len(writes)
        counters.written_bytes += length
        began = self._clock.seconds() if timed else 0.0
        writing = self._shared.write(self, writes, length)
        if timed:
            counters.time_write(self._clock, began, writing)
        if writing.called and writing.result is None:
            self._all_done(cookies, length)
        else:
            writing.addCallbacks(
                self._written_together,
                self._not_written,
                (writes, cookies, length),
                _NO_KEYWORDS,
                (writes, cookies),
                _NO_KEYWORDS,
            )

    def _written_together(
        self,
        errors: Sequence[DSTError | None] | None,
        writes: list[tuple[int, Buffer]],
        cookies: list[int],
        length: int,
    ) -> None:
        if errors is None:
            self._all_done(cookies, length)
            return
        for cookie, (_, data), error in zip(cookies, writes, errors, strict=True):
            if error is None:
                self._done(None, cookie, len(data))
            else:
                self._failed_with(error, cookie, len(data), changing=True)

    def _not_written(self, failure: Failure, writes: list[tuple[int, Buffer]], cookies: list[int]) -> None:
        """The device has broken its promise to tell of each."""
        for cookie, (_, data) in zip(cookies, writes, strict=True):
            self._failed(failure, cookie, len(data), changing=True)

    def _execute_carefully(
        self, command: int, flags: int, cookie: int, offset: int, length: int, data: Buffer | None
    ) -> None:
        """Every command, and everything that can be wrong with one."""
        if command == CMD_DISC:
            self._answered += 1  # it has no answer
            self._finishing = True
            self._waiting.clear()
            self._next = 0
            return
        charged = self._held_bytes((command, flags, cookie, offset, length, data))
        try:
            self._check(command, flags, offset, length, data)
        except DSTError as error:
            self._fail(error, cookie, charged, command in _CHANGING)
            return
        fua = bool(flags & CMD_FLAG_FUA)
        node, counters = self._node, self._counters
        doing: Deferred[None]
        if command == CMD_READ:
            counters.reads += 1
            counters.read_bytes += length
            node.read(offset, length).addCallbacks(
                self._read_done,
                self._failed,
                (cookie, offset, length, flags),
                _NO_KEYWORDS,
                (cookie, charged),
                _NO_KEYWORDS,
            )
            return
        if command == CMD_BLOCK_STATUS:
            node.block_status(offset, length).addCallbacks(
                self._status_done, self._failed, (cookie, length, flags), _NO_KEYWORDS, (cookie, 0), _NO_KEYWORDS
            )
            return
        if command == CMD_WRITE:
            assert data is not None
            counters.writes += 1
            counters.written_bytes += length
            doing = self._timed_write(offset, data, fua=fua)
        elif command == CMD_TRIM:
            counters.discards += 1
            doing = node.trim(offset, length)
            if fua:
                doing.addCallback(lambda _: node.flush())
        elif command == CMD_WRITE_ZEROES:
            counters.discards += 1
            no_hole, fast_only = bool(flags & CMD_FLAG_NO_HOLE), bool(flags & CMD_FLAG_FAST_ZERO)
            doing = node.write_zeroes(offset, length, fua=fua, no_hole=no_hole, fast_only=fast_only)
        elif command == CMD_FLUSH:
            counters.flushes += 1
            doing = node.flush()
            fua = True
        else:
            self._to_cache.append((cookie, offset, length))
            if len(self._to_cache) == 1:
                Deferred.fromCoroutine(self._cache())
            return
        done = self._durable if fua else self._done
        changing = command in _CHANGING
        doing.addCallbacks(
            done, self._failed, (cookie, charged), _NO_KEYWORDS, (cookie, charged, changing), _NO_KEYWORDS
        )

    def _timed_read(self, offset: int, length: int) -> Deferred[Buffer]:
        began = self._clock.seconds()
        reading = self._node.read(offset, length)
        self._counters.time_read(self._clock, began, reading)
        return reading

    def _timed_write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        began = self._clock.seconds()
        writing = self._node.write(offset, data, fua=fua)
        self._counters.time_write(self._clock, began, writing)
        return writing

    def _check(self, command: int, flags: int, offset: int, length: int, data: Buffer | None) -> None:
        """Raise why this request cannot be done, if it cannot; the device is not relied on for that."""
        allowed = _FLAGS_ALLOWED.get(command)
        if allowed is None:
            raise InvalidRequest(f"command {command} is not known here")
        if flags & ~allowed or (flags & CMD_FLAG_DF and not self._structured):
            raise InvalidRequest(f"the flags {flags:#x} mean nothing with {COMMAND_NAMES[command]}")
        if command in _CHANGING and self._read_only:
            raise ReadOnly("this export is read-only")
        if command == CMD_FLUSH:
            # Clients exist that send an offset; there is nothing that it could mean.
            return
        geometry = self._node.geometry
        if command in (CMD_READ, CMD_WRITE):
            if length > self._transfer_bytes_max:
                limit = self._transfer_bytes_max
                raise InvalidRequest(f"{length} bytes in one request are more than the {limit} allowed")
            assert command == CMD_READ or data is not None
        elif command == CMD_BLOCK_STATUS and not self._block_status:
            raise InvalidRequest("block status was not negotiated")
        geometry.check_extent(offset, length)

    async def _cache(self) -> None:
        """
        Read for nobody what is to be cached, so that what is below has it at hand.

        It is only advice, and a few bytes ask for gigabytes: so it is one read of this client at a time, no larger
        than others would have in their turns, and after each of them comes everybody else.
        """
        to_cache = self._to_cache
        while to_cache:
            cookie, at, length = to_cache[0]
            charged = min(length, CACHE_READ_BYTES)
            end = at + length
            failure: Failure | None = None
            while at < end and failure is None and not (self._ended or self._finishing):
                turn_bytes = max(self._budget.turns.take(self).move_bytes & ~self._mask, self._mask + 1)
                step = min(turn_bytes, CACHE_READ_BYTES, self._transfer_bytes_max, end - at)
                try:
                    await self._node.read(at, step)
                except Exception:
                    failure = Failure()
                at += step
                await deferLater(self._clock, 0)
            if self._ended:
                return
            to_cache.popleft()
            if failure is None:
                self._done(None, cookie, charged)
            else:
                self._failed(failure, cookie, charged)

    # What happens to the device

    def _durable(self, _: object, cookie: int, length: int) -> None:
        """
        What was asked for is on stable media; but is it so for all that this client believes?

        The device may have come back without what it had acknowledged before, and the turn in which
        observers are told may not have come yet: then success would be a lie.
        """
        if not self._ended and self._node.incarnation != self._incarnation:
            self._node_changed(self._node)
            return
        self._done(None, cookie, length)

    def _moved(self, error: Fenced) -> None:
        self._owner.end(error.message)

    def _node_changed(self, node: INode) -> None:
        """
        Cut the session where what was agreed on is not true any more; the client connects again and learns what
        is.
        """
        if self._ended:
            return
        geometry, agreed = node.geometry, self._geometry
        if node.link is LinkState.CLOSED:
            self._owner.end("the device was closed")
        elif node.incarnation != self._incarnation:
            self._owner.end("the device came back and may have lost what was not flushed; the client must know")
        elif geometry.size < agreed.size:
            self._owner.end(f"the device shrank from {agreed.size} to {geometry.size} bytes")
        elif geometry.evolve(size=0, rotational=False) != agreed.evolve(size=0, rotational=False):
            self._owner.end("the device's block size, limits or permissions changed")
