"""
What a client has asked and what became of it: the memory that outlives a connection.

A transaction ends in one of four ways: with its answer, by its deadline, because its node gave up, or
because a limit did not let it in.  A connection that breaks ends none; the next one sends all again, in order.

Changes and flushes are always let in.  A mirror sends them to all its members, and one that refuses what others have
done has to leave: it would lose its redundancy for being busy.  What they hold in memory, their data, whoever asks
holds in any case until the last member has answered, and how much that is has been bounded where clients come in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import define
from twisted.internet.defer import Deferred, fail

from dst.errors import CorruptData, DeadlinePassed, DSTError, LimitReached, PeerError, Unavailable
from dst.interfaces import Buffer, TellOfWrite, Write
from dst.status import Status
from dst.wire.bodies import decode_error
from dst.wire.framing import NO_EPOCH, request_header
from dst.wire.messages import ANSWER, CHANGES, DAMAGED, Frame, Operation

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Link", "Transaction", "TransactionTable"]

_READ_ANSWER = Operation.READ | ANSWER
_WRITE = int(Operation.WRITE)
_WRITE_ANSWER = _WRITE | ANSWER
_CORRUPT = Status.CORRUPT

_HASTY_MAX = 16
"""An owner that is answered nothing stops asking before that."""

_ONLY_DONE = frozenset({*CHANGES, int(Operation.FLUSH)})
"""Their answers say that it was done, and nothing else."""


class Link(Protocol):
    """What a table sends through."""

    unread: bool

    def send(self, header: Buffer, data: Buffer = b"") -> None: ...

    def send_all(self, buffers: Sequence[Buffer], *, at_once: bool) -> None: ...


@define(eq=False)
class Transaction:
    """
    One request, from when it was asked until it has ended.

    @ivar length: of the extent.
    @ivar cost_bytes: what it counts for against limits in bytes.
    @ivar deadline: when it has waited too long; set anew whenever it is sent.
    @ivar sends: how often it was sent.
    @ivar damages: how often that was because data did not arrive as it was sent.
    @ivar hasty: it passes those that wait, and its deadline is never set anew.
    """

    id: int
    operation: int
    flags: int
    offset: int
    length: int
    data: Buffer
    cost_bytes: int
    result: Deferred[Any]
    deadline: float
    sends: int = 0
    damages: int = 0
    hasty: bool = False

    def header(self, epoch: bytes, checksum: bool) -> bytes:
        """What is sent before C{data}."""
        return request_header(
            self.operation,
            self.id,
            self.offset,
            self.length,
            flags=self.flags,
            epoch=epoch,
            data=self.data,
            checksum=checksum,
        )

    def end(self, answer: Buffer | None) -> None:
        """It was answered."""
        self.result.callback(answer)

    def refuse(self, error: DSTError) -> None:
        """It has failed."""
        self.result.errback(error)


class _WriteTransaction:
    """As L{Transaction}, for a write that somebody else keeps and is told of."""

    __slots__ = ("cost_bytes", "damages", "deadline", "id", "sends", "told", "write")

    operation: ClassVar[int] = _WRITE
    hasty: ClassVar[bool] = False

    def __init__(self, id: int, write: Write, cost_bytes: int, told: TellOfWrite, deadline: float) -> None:
        self.id = id
        self.write = write
        self.cost_bytes = cost_bytes
        self.told = told
        self.deadline = deadline
        self.sends = self.damages = 0

    @property
    def data(self) -> Buffer:
        """See L{Transaction}."""
        return self.write.data

    @property
    def length(self) -> int:
        """See L{Transaction}."""
        return self.cost_bytes

    def header(self, epoch: bytes, checksum: bool) -> bytes:
        """See L{Transaction.header}."""
        write = self.write
        return request_header(
            _WRITE,
            self.id,
            write.offset,
            self.cost_bytes,
            epoch=epoch,
            data=write.data,
            checksum=checksum,
            data_crc=write.data_crc,
        )

    def end(self, answer: Buffer | None) -> None:
        """See L{Transaction.end}."""
        self.told(self.write, None)

    def refuse(self, error: DSTError) -> None:
        """See L{Transaction.refuse}."""
        self.told(self.write, error)


class TransactionTable:
    """
    The transactions of one node.

    In flight are those that were sent and not answered, as many as the server allows; the
    others wait, first come, first sent.  When there are C{requests_max} or C{bytes_max} of them, nothing is let in
    but changes and flushes.

    @ivar epoch: of the claim that requests are made under when they are sent.
    """

    epoch: bytes = NO_EPOCH

    def __init__(
        self,
        clock: IReactorTime,
        overdue: Callable[[str], None],
        *,
        deadline_s: float,
        requests_max: int = 16 * 1024,
        bytes_max: int = 2 << 30,
        sends_max: int = 16,
        damages_max: int = 3,
    ) -> None:
        """
        @param overdue: called with a sentence when a change that was sent was not answered in time.  It may
            still be executed, so whoever writes there again must first make sure that it is not: cut the connection.
        @param deadline_s: the time for the answer, from when the request was asked or last sent.
        @param requests_max: of more those that only ask are refused: what one daemon's clients have in flight
            together, with room.
        @param bytes_max: the same in bytes; those of a read are held only while it is answered, and of those that are
            no more than the server allows.
        @param sends_max: with every connection breaking in the middle, a request is given up after this many.
        @param damages_max: after so many damaged transfers in a row it is not the wire's mood but the wire.
        """
        self._clock = clock
        self._overdue = overdue
        self._deadline_s = deadline_s
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self._sends_max = sends_max
        self._damages_max = damages_max
        self._last_id = 0
        self._in_flight: dict[int, Transaction | _WriteTransaction] = {}  # in the order in which they were asked
        self._in_flight_bytes = 0
        self._waiting: deque[Transaction | _WriteTransaction] = deque()
        self._hasty: list[Transaction | _WriteTransaction] = []  # those of them that wait for a link
        self._bytes = 0
        self._link: Link | None = None
        self._link_requests_max = 0
        self._link_bytes_max = 0
        self._checksums = True
        self._refusal: Callable[[], DSTError] | None = None
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._in_flight) + len(self._waiting) + len(self._hasty)

    def ask(
        self,
        operation: int,
        offset: int = 0,
        length: int = 0,
        *,
        flags: int = 0,
        data: Buffer = b"",
        cost_bytes: int = 0,
    ) -> Deferred[Any]:
        """
        Begin a transaction.

        @return: the data of the answer, C{None} for changes and flushes; fails with the error the server answered,
            C{DeadlinePassed}, C{LimitReached}, or whatever L{fail_all} is given.
        """
        if operation not in _ONLY_DONE:
            count = len(self._in_flight) + len(self._waiting)
            if count >= self._requests_max or (self._bytes + cost_bytes > self._bytes_max and count):
                return fail(self._too_many())
        self._last_id = request_id = self._last_id + 1
        result: Deferred[Any] = Deferred()
        deadline = self._clock.seconds() + self._deadline_s
        transaction = Transaction(request_id, operation, flags, offset, length, data, cost_bytes, result, deadline)
        self._bytes += cost_bytes
        if self._waiting or not self._may_send(cost_bytes):
            self._waiting.append(transaction)
        else:
            self._in_flight[request_id] = transaction
            self._in_flight_bytes += cost_bytes
            self._send(transaction)
        if self._timer is None:
            self._timer = self._clock.callLater(self._tick_s, self._tick)
        return result

    def write_and_tell(self, writes: Sequence[Write], told: TellOfWrite) -> None:
        """
        Begin a transaction for each of these writes.

        @param told: called with a write, and C{None} or an error as L{ask} gives it, when its transaction has ended.
        """
        deadline = self._clock.seconds() + self._deadline_s
        for write in writes[self._write_at_once(writes, told, deadline) :]:
            cost_bytes = len(write.data)
            self._last_id = request_id = self._last_id + 1
            transaction = _WriteTransaction(request_id, write, cost_bytes, told, deadline)
            self._bytes += cost_bytes
            if self._waiting or not self._may_send(cost_bytes):
                self._waiting.append(transaction)
            else:
                self._in_flight[request_id] = transaction
                self._in_flight_bytes += cost_bytes
                self._send(transaction)
        if self._timer is None and len(self):
            self._timer = self._clock.callLater(self._tick_s, self._tick)

    def _write_at_once(self, writes: Sequence[Write], told: TellOfWrite, deadline: float) -> int:
        """
        Send those that nothing holds up, as a rule all; nobody is told of anything meanwhile.

        @return: how many that were.
        """
        link = self._link
        if link is None or link.unread or self._waiting:
            return 0
        in_flight, epoch, checksums = self._in_flight, self.epoch, self._checksums
        idle = not in_flight
        count = before = len(in_flight)
        requests_max, bytes_left = self._link_requests_max, self._link_bytes_max - self._in_flight_bytes
        request_id, bytes_before = self._last_id, bytes_left
        out: list[Buffer] = []
        for write in writes:
            data = write.data
            length = len(data)
            if count >= requests_max or (length > bytes_left and count):
                break
            count += 1
            bytes_left -= length
            request_id += 1
            in_flight[request_id] = transaction = _WriteTransaction(request_id, write, length, told, deadline)
            transaction.sends = 1
            out.append(transaction.header(epoch, checksums))
            out.append(data)
        self._last_id = request_id
        self._bytes += bytes_before - bytes_left
        self._in_flight_bytes += bytes_before - bytes_left
        if out:
            link.send_all(out, at_once=idle)  # when it is busy more may follow in this turn
        return count - before

    def _too_many(self) -> LimitReached:
        return LimitReached(
            f"{len(self._in_flight) + len(self._waiting)} requests with {self._bytes} bytes wait for an answer"
            f" already; the limits are {self._requests_max} and {self._bytes_max}"
        )

    def ask_in_haste(self, operation: int, data: Buffer, deadline_s: float) -> Deferred[Any]:
        """
        Begin a transaction that passes all that wait: it is small, and worth something only soon.

        @param deadline_s: when it fails with C{DeadlinePassed}, however often it was sent.
        """
        if sum(transaction.hasty for transaction in self._in_flight.values()) + len(self._hasty) >= _HASTY_MAX:
            return fail(LimitReached(f"{_HASTY_MAX} requests in haste wait for an answer already"))
        self._last_id = request_id = self._last_id + 1
        result: Deferred[Any] = Deferred()
        deadline = self._clock.seconds() + deadline_s
        transaction = Transaction(request_id, operation, 0, 0, 0, data, 0, result, deadline, hasty=True)
        if self._link is None:
            self._hasty.append(transaction)
        else:
            self._in_flight[request_id] = transaction
            self._send(transaction)
        if self._timer is None:
            self._timer = self._clock.callLater(self._tick_s, self._tick)
        return result

    def attach(self, link: Link, *, requests_max: int, bytes_max: int, checksums: bool) -> None:
        """
        Send through C{link} from now on, and first, in the old order, what was sent before and not answered.

        @param requests_max: how many may be in flight.
        @param bytes_max: and how many bytes in them; one alone may always be.
        """
        self._link = link
        self._link_requests_max = requests_max
        self._link_bytes_max = bytes_max
        self._checksums = checksums
        # The new server may allow less than the old one did: all wait again, and are sent as it allows.
        self._hasty.extend(each for each in self._in_flight.values() if each.hasty)
        self._waiting.extendleft(reversed([each for each in self._in_flight.values() if not each.hasty]))
        self._in_flight.clear()
        self._in_flight_bytes = 0
        hasty, self._hasty = self._hasty, []
        for transaction in hasty:
            self._in_flight[transaction.id] = transaction
            self._send(transaction)
        if self._refusal is not None:
            self.refuse_changes(self._refusal)  # now: when there is room for them they may be welcome again
        self.pump()

    def detach(self) -> None:
        """The connection broke: send nothing until the next L{attach}."""
        self._link = None

    def fail_all(self, make_error: Callable[[], DSTError]) -> None:
        """End everything with an error."""
        doomed = [*self._in_flight.values(), *self._waiting, *self._hasty]
        self._in_flight.clear()
        self._waiting.clear()
        self._hasty.clear()
        self._in_flight_bytes = self._bytes = 0
        self._stop_timer()
        for transaction in doomed:
            transaction.refuse(make_error())

    def refuse_changes(self, make_error: Callable[[], DSTError] | None) -> None:
        """
        Send no changes from now on, nor any again: they were asked for under a claim that does not stand any more,
        and must not be taken for what is asked for under another one, or none. What was sent is still answered.

        @param make_error: what they fail with; C{None}: they may be sent.
        """
        self._refusal = make_error
        if make_error is not None:
            doomed = [each for each in self._waiting if each.operation in CHANGES]
            if doomed:
                kept = [each for each in self._waiting if each.operation not in CHANGES]
                self._waiting.clear()
                self._waiting.extend(kept)
            for transaction in doomed:
                self._bytes -= transaction.cost_bytes
                transaction.refuse(make_error())

    def answered(self, frame: Frame) -> None:
        """
        Take an answer.  One that belongs to nothing is dropped: its request has ended by its deadline.

        @raise PeerError: it does not answer what was asked.
        """
        transaction = self._in_flight.get(frame.id)
        if transaction is None:
            return
        kind = frame.kind
        if (
            kind == _WRITE_ANSWER
            and transaction.__class__ is _WriteTransaction
            and frame.status == 0
            and frame.intact
        ):
            self._end(transaction)
            transaction.end(None)
            return
        if kind != transaction.operation | ANSWER:
            raise PeerError(f"request {frame.id} was {transaction.operation} and got the answer to {kind & ~ANSWER}")
        status = frame.status
        if status:
            if status == _CORRUPT and frame.flags & DAMAGED:
                self._damaged(transaction)
                return
            self._end(transaction)
            transaction.refuse(decode_error(status, frame.data if frame.intact else b""))
        elif not frame.intact:
            self._damaged(transaction)
        elif kind == _READ_ANSWER and len(frame.data) != transaction.length:
            raise PeerError(f"{transaction.length} bytes were asked for and {len(frame.data)} answered")
        else:
            self._end(transaction)
            transaction.end(None if kind & ~ANSWER in _ONLY_DONE else frame.data)

    def pump(self) -> None:
        """Send what waits, as far as it may be sent now."""
        waiting = self._waiting
        while waiting and self._may_send(waiting[0].cost_bytes):
            transaction = waiting.popleft()
            if self._refusal is not None and transaction.operation in CHANGES:
                self._bytes -= transaction.cost_bytes
                transaction.refuse(self._refusal())
                continue
            if transaction.sends >= self._sends_max:
                self._bytes -= transaction.cost_bytes
                transaction.refuse(
                    Unavailable(f"the connection broke {transaction.sends} times before the request was answered")
                )
                continue
            self._in_flight[transaction.id] = transaction
            self._in_flight_bytes += transaction.cost_bytes
            if transaction.sends:
                transaction.deadline = self._clock.seconds() + self._deadline_s
            self._send(transaction)

    def _may_send(self, cost_bytes: int) -> bool:
        link = self._link
        if link is None or link.unread:
            return False
        in_flight = len(self._in_flight)
        return in_flight < self._link_requests_max and (
            self._in_flight_bytes + cost_bytes <= self._link_bytes_max or not in_flight
        )

    def _send(self, transaction: Transaction | _WriteTransaction) -> None:
        # Always made from the values, never from what was sent before: there is nothing to convert twice.
        header = transaction.header(self.epoch, self._checksums)
        transaction.sends += 1
        assert self._link is not None
        self._link.send(header, transaction.data)

    def _end(self, transaction: Transaction | _WriteTransaction) -> None:
        del self._in_flight[transaction.id]
        self._in_flight_bytes -= transaction.cost_bytes
        self._bytes -= transaction.cost_bytes

    def _damaged(self, transaction: Transaction | _WriteTransaction) -> None:
        transaction.damages += 1
        if transaction.damages > self._damages_max:
            self._end(transaction)
            transaction.refuse(
                CorruptData(
                    f"the data of a request arrived damaged {transaction.damages} times; the network needs repair"
                )
            )
            return
        if self._refusal is not None and transaction.operation in CHANGES:
            self._end(transaction)
            transaction.refuse(self._refusal())
            return
        # Same place in the order: nothing that was asked later may pass it on the next connection.
        if not transaction.hasty:
            transaction.deadline = self._clock.seconds() + self._deadline_s
        self._send(transaction)

    @property
    def _tick_s(self) -> float:
        return min(1.0, self._deadline_s / 8)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        late = [transaction for transaction in self._in_flight.values() if transaction.deadline <= now]
        cut = False
        for transaction in late:
            self._end(transaction)
            cut = cut or transaction.operation in CHANGES
        unsent = [transaction for transaction in self._waiting if transaction.deadline <= now]
        for transaction in unsent:
            self._waiting.remove(transaction)
            self._bytes -= transaction.cost_bytes
        hasty = [transaction for transaction in self._hasty if transaction.deadline <= now]
        for transaction in hasty:
            self._hasty.remove(transaction)
        if len(self):
            self._timer = self._clock.callLater(self._tick_s, self._tick)
        if cut and self._link is not None:
            self._overdue(f"a write was not answered within {self._deadline_s:g} s")
        for transaction in [*late, *unsent, *hasty]:
            name = Operation(transaction.operation).name.lower()
            limit = "in time" if transaction.hasty else f"within {self._deadline_s:g} s"
            transaction.refuse(DeadlinePassed(f"{name} was not answered {limit}"))
        self.pump()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
