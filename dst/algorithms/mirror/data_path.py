"""
Reads and writes of a mirror that serves.

A change passes four gates in this order: its regions are in the hot set and
equal on all copies (C{enter}), nothing that came before overlaps it (the extent
order), its regions' flags are stable on every member it goes to (C{go}), and
then it is sent to all of them at once. It is acknowledged when nobody who
counts is left who has not done it (R3). A read waits for overlapping changes
and goes to one member.

Here every step is paid per block: no coroutine, no gathering, no logging.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dst.algorithms.mirror.configuration import FOREVER, Configuration
from dst.algorithms.mirror.hot_set import HotSet
from dst.algorithms.mirror.load import NOT_SAMPLED, Load
from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.operation import Operation
from dst.errors import DeadlinePassed, DSTError, Fenced, IncarnationChanged, MediaError, Unavailable
from dst.interfaces import Buffer, IWritesTogether, TellOfWrite
from dst.label.region_table import RegionTable
from dst.native.frames import crc32c
from dst.recovery.write_order import Extent, ExtentOrder

__all__ = ["DataPath", "ReadWait"]

_READERS_SAMPLED = 4
"""Of more readers than this, the least busy of a few is taken: looking at 200 would cost more than it saves."""


class ReadWait(Extent):
    """A read that waits: for changes that overlap it, for its regions to be made equal, or for a member."""

    __slots__ = ("done", "failure", "late", "tried")

    def __init__(self, offset: int, end: int, shift: int) -> None:
        Extent.__init__(self, offset, end, shift)
        self.done: Deferred[Buffer] = Deferred()
        self.failure: Failure | None = None
        self.tried = 0
        self.late = 0


class _Flush:
    """A client's flush on its way to the receivers."""

    __slots__ = ("done", "pending", "sent", "tick")

    def __init__(self, tick: int) -> None:
        self.pending = 0
        self.sent = 0
        self.tick = tick
        self.done: Deferred[None] = Deferred()


class DataPath:
    """
    The operations in flight of one mirror.
    """

    def __init__(
        self,
        members: Sequence[Member],
        configuration: Configuration,
        order: ExtentOrder,
        shift: int,
        reconcile: Callable[[int], None],
        repair: Callable[[Member, int, int], None],
        load: Load,
    ) -> None:
        """
        @param shift: log2 of the region size.
        @param reconcile: asked to make a region equal; C{reconciled} is called when it is.
        @param repair: told of an extent that one member could not read and another could.
        """
        self._members = members
        self._configuration = configuration
        self._order = order
        self.shift = shift
        self._reconcile = reconcile
        self._repair = repair
        self.load = load
        self.hot: HotSet
        self._in_flight: dict[Operation, None] = {}
        self._unsent: dict[Operation, None] = {}  # each once, however often a member comes back in vain
        self._for_copies: list[Operation] = []
        self._unacknowledged: list[Operation] = []
        self._flushes: dict[_Flush, None] = {}
        self._waiting_for_equal: dict[int, list[Extent]] = {}
        self._waiting_for_member: list[ReadWait] = []
        self._readers: list[Member] = []
        self._turn = 0
        self._teams: dict[int, tuple[tuple[Member, TellOfWrite], ...]] = {}
        self.refusing: DSTError | None = None

    # -- reads

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """One member's content, as new as every acknowledged write."""
        load = self.load
        load.left -= 1
        began = NOT_SAMPLED if load.left > 0 else load.look()
        first = offset >> self.shift
        if (
            first == (offset + length - 1) >> self.shift
            and first not in self._order.by_region
            and first not in self.hot.unreconciled
            and self._readers
        ):
            member = self._pick()
            member.reading += 1
            result = member.node.read(offset, length)
            member.reads[result] = (load.tick, offset)
            args = (member, offset, length, result, began)
            return result.addCallbacks(self._read_done, self._read_failed, args, {}, args, {})
        wait = ReadWait(offset, offset + length, self.shift)
        if began >= 0:
            wait.done.addCallback(self._looked_at, began)
        self._enter_read(wait)
        return wait.done

    def _looked_at(self, data: Buffer, began: float) -> Buffer:
        self.load.ended(began)
        return data

    def _pick(self) -> Member:
        readers = self._readers
        count = len(readers)
        if count == 1:
            return readers[0]
        self._turn = turn = (self._turn + 1) % count
        best = readers[turn]
        for n in range(1, min(count, _READERS_SAMPLED)):
            other = readers[(turn + n) % count]
            if other.reading < best.reading:
                best = other
        return best

    def _read_done(
        self, data: Buffer, member: Member, offset: int, length: int, result: Deferred[Buffer], began: float
    ) -> Buffer | Deferred[Buffer]:
        member.reading -= 1
        del member.reads[result]
        if began >= 0:
            self.load.has_read(member.index, began)
            self.load.ended(began)
        configuration = self._configuration
        if configuration.lease_until is not FOREVER and configuration.lease_over():
            return self._read_later(offset, length)
        if member.node.incarnation == member.incarnation:
            if offset >> self.shift in self._order.by_region:
                wait = ReadWait(offset, offset + length, self.shift)
                if self._withheld(data, wait):
                    return wait.done
            return data
        # It may have lost what it had not flushed before it read this.
        wait = ReadWait(offset, offset + length, self.shift)
        self._retry_read(wait, member, Failure(IncarnationChanged(f"{member.name} restarted while it read")))
        return wait.done

    def _withheld(self, data: Buffer, wait: ReadWait) -> bool:
        """
        Whether C{data} cannot be told yet, because a change that overlaps has begun since it was asked for.

        The member may have done that before it read, and be the only one that has: what one reader has seen
        must not be gone for the next one when this member and this daemon are.  So nobody hears of it until the
        change is on all of them (R7).  Later changes do not matter, so a block that is always being written
        can be read.
        """
        begun = self._order.wait_for_begun(wait, Operation)
        if not begun:
            return False

        def settled() -> None:
            if wait.done.called:
                return
            if any(operation.error is not None for operation in begun) or self._configuration.lease_over():
                self._enter_read(wait)  # what was read may be on no member that counts
            else:
                wait.done.callback(data)

        wait.start = settled
        return True

    def _read_later(self, offset: int, length: int) -> Deferred[Buffer]:
        """Another daemon may own the storage by now, and have written there: ask again when it is known (R9)."""
        wait = ReadWait(offset, offset + length, self.shift)
        self._park(wait)
        return wait.done

    def _park(self, wait: ReadWait) -> None:
        """Until somebody can be asked; nobody ever can where the storage has stopped."""
        if self.refusing is None:
            self._waiting_for_member.append(wait)
        elif not wait.done.called:
            wait.done.errback(self.refusing)

    def _read_failed(
        self, failure: Failure, member: Member, offset: int, length: int, result: Deferred[Buffer], began: float
    ) -> Deferred[Buffer]:
        member.reading -= 1
        del member.reads[result]
        wait = ReadWait(offset, offset + length, self.shift)
        self._retry_read(wait, member, failure)
        return wait.done

    def _enter_read(self, wait: ReadWait) -> None:
        if wait.done.called:
            return  # it was refused while it waited
        if self.refusing is not None:
            wait.done.errback(self.refusing)
        elif not self._parked_for_equal(wait):
            wait.start = lambda: self._send_read(wait)
            if self._order.wait(wait):
                self._send_read(wait)

    def _send_read(self, wait: ReadWait) -> None:
        if wait.done.called:
            return
        if self.refusing is not None:
            wait.done.errback(self.refusing)
            return
        readers = [member for member in self._readers if not wait.tried & member.bit]
        if not readers:
            readers = self._dearer_readers(wait)
        if not readers and wait.late:
            wait.tried, wait.late = wait.tried & ~wait.late, 0  # nobody else can say: its answer is waited for
            readers = self._dearer_readers(wait)
        if not readers:
            if wait.failure is not None and not self._configuration.usable & ~wait.tried:
                wait.done.errback(wait.failure)
            else:
                self._park(wait)
            return
        member = min(readers, key=lambda each: each.reading)
        member.reading += 1
        result = member.node.read(wait.offset, wait.end - wait.offset)
        member.reads[result] = (self.load.tick, wait.offset)
        args = (wait, member, result)
        result.addCallbacks(self._waited_read_done, self._waited_read_failed, args, {}, args, {})

    def _dearer_readers(self, wait: ReadWait) -> list[Member]:
        """Those that are only asked when the ones of the lowest cost could not answer."""
        configuration = self._configuration
        able = configuration.in_sync & configuration.usable & ~wait.tried
        return [member for member in members_in(self._members, able) if member.ready] if wait.failure else []

    def _waited_read_done(self, data: Buffer, wait: ReadWait, member: Member, result: Deferred[Buffer]) -> None:
        member.reading -= 1
        del member.reads[result]
        if self._configuration.lease_over():
            self._park(wait)
            return
        if member.node.incarnation != member.incarnation:
            self._retry_read(wait, member, Failure(IncarnationChanged(f"{member.name} restarted while it read")))
            return
        for other in members_in(self._members, wait.tried & ~wait.late & self._configuration.in_sync):
            self._repair(other, wait.offset, wait.end)
        if not wait.done.called and not self._withheld(data, wait):
            wait.done.callback(data)

    def _waited_read_failed(self, failure: Failure, wait: ReadWait, member: Member, result: Deferred[Buffer]) -> None:
        member.reading -= 1
        del member.reads[result]
        self._retry_read(wait, member, failure)

    def _retry_read(self, wait: ReadWait, member: Member, failure: Failure) -> None:
        """Ask another; the client hears of an error only when nobody is left who could know."""
        if wait.done.called:
            return
        error = failure.value
        if isinstance(error, CancelledError):
            wait.tried |= member.bit
            wait.late |= member.bit
            wait.failure = Failure(DeadlinePassed(f"{member.name} did not answer a read in time"))
        elif isinstance(error, Unavailable | Fenced):
            self._configuration.lost(member, f"a read was not answered: {error}", error)
            if self._configuration.stalled & member.bit or member in self._readers:
                self._park(wait)
                return
        else:
            wait.tried |= member.bit
            wait.failure = failure
        self._enter_read(wait)

    def ask_others(self, member: Member) -> None:
        """C{member} does not answer: what it was asked to read is asked of others. Its answers come too late now."""
        for result in list(member.reads):
            if result in member.reads:
                result.cancel()

    # -- changes

    def submit(self, operation: Operation) -> None:
        """A client's change."""
        load = self.load
        load.left -= 1
        if load.left <= 0:
            operation.asked_s = load.look()
        if not self._withheld_from(operation):
            self.enter(operation)

    def submit_together(self, operations: Sequence[Operation]) -> None:
        """
        Writes of clients, none of them forced.

        Each passes the same gates as one that comes alone; those that pass them at once are sent together.
        """
        operations[0].asked_s = self.load.look_at_one_of(len(operations))
        ready: list[Operation] = []
        for operation in operations:
            if not self._withheld_from(operation) and self._entered(operation):
                ready.append(operation)
        together: list[Operation] = []
        need = 0
        for operation in ready:
            if operation.ended or operation.sent:
                continue
            receivers = self.receivers(operation) if self._configuration.usable else 0
            if receivers and (receivers == need or not together) and self._is_marked(operation, receivers):
                # From here to the sending there is nothing but looking: who is needed cannot change meanwhile.
                need = receivers
                together.append(operation)
                continue
            if together:
                self._send(together, need)
                together = []
            self.go(operation)
        if together:
            self._send(together, need)

    def _is_marked(self, extent: Extent, need: int) -> bool:
        """As the third gate, only looking."""
        regions = self.hot.regions
        if extent.first == extent.last:
            return not need & ~regions[extent.first].marked
        return not any(need & ~regions[region].marked for region in range(extent.first, extent.last + 1))

    def _withheld_from(self, operation: Operation) -> bool:
        """Whether it does not even come to the first gate, now or ever."""
        configuration = self._configuration
        if self.refusing is not None:
            operation.told(operation.argument, self.refusing)
        elif configuration.minimum_copies > 1 and configuration.short_of_copies:
            # Not further: it would stand in the way of the copy that is waited for.
            self._for_copies.append(operation)
        else:
            return False
        return True

    def enter(self, extent: Extent) -> None:
        """The first gate: its regions are hot in memory, and equal."""
        if self._entered(extent):
            self.go(extent)

    def _entered(self, extent: Extent) -> bool:
        """Whether it has passed the first two gates at once; otherwise C{enter} or C{go} is called later."""
        if self._ended(extent) or self._parked_for_equal(extent) or not self.hot.admit(extent):
            return False
        if isinstance(extent, Operation):
            self._in_flight[extent] = None
        if self._order.enter(extent):
            return True
        extent.start = partial(self.go, extent)
        return False

    def _ended(self, extent: Extent) -> bool:
        """The storage stopped while it waited."""
        return isinstance(extent, Operation) and extent.ended

    def _parked_for_equal(self, extent: Extent) -> bool:
        unreconciled = self.hot.unreconciled
        if unreconciled:
            for region in range(extent.first, extent.last + 1):
                if region in unreconciled:
                    self._waiting_for_equal.setdefault(region, []).append(extent)
                    self._reconcile(region)
                    return True
        return False

    def reconciled(self, region: int) -> None:
        """The copies of this region are equal: let in what waited for it."""
        for extent in self._waiting_for_equal.pop(region, ()):
            if isinstance(extent, ReadWait):
                self._enter_read(extent)
            else:
                self.enter(extent)

    def receivers(self, extent: Extent) -> int:
        """Who gets a change of this extent, decided in the turn in which it is sent."""
        configuration = self._configuration
        need = configuration.usable
        if configuration.targets:
            for member in members_in(self._members, configuration.targets & ~need):
                if member.wants(extent.first, extent.last):
                    need |= member.bit
        return need

    def go(self, extent: Extent) -> None:
        """The third gate: marks. Then it is sent."""
        if not isinstance(extent, Operation):
            extent.start()  # a copy of recovery has its own way from here
            return
        if extent.ended or extent.sent:
            return
        if not self._configuration.usable:
            self._unsent[extent] = None
            return
        need = self.receivers(extent)
        if self._is_marked(extent, need) or self.hot.marked(extent, need):
            self._send((extent,), need)

    def _send(self, operations: Sequence[Operation], need: int) -> None:
        """The fourth gate. What is sent together is all plain writes."""
        pending, tick = need | self._configuration.leaving, self.load.tick
        for operation in operations:
            operation.pending = pending
            operation.sent = need
            operation.tick = tick
            if operation.asked_s >= 0:
                operation.sent_s = self.load.now()
        count = len(operations)
        plain = operations[0].plain
        team = self._teams.get(need) or self._make_team(need)
        for member, told in team:
            member.outstanding += count
            write_and_tell = member.write_and_tell
            if write_and_tell is not None and plain:
                if member.bit != need and operations[0].data_crc is None:
                    for operation in operations:  # made once for all of them
                        operation.data_crc = crc32c(operation.data)
                write_and_tell(operations, told)
            elif count > 1 and IWritesTogether.providedBy(member.node):
                writes = [(operation.offset, operation.data) for operation in operations]
                args = (operations, told)
                written = IWritesTogether(member.node).write_together(writes)
                written.addCallbacks(_tell_together, _tell_all_failed, args, {}, args, {})
            else:
                for operation in operations:
                    applied = operation.apply(member.node)
                    applied.addCallbacks(_tell_done, _tell_failed, (operation, told), {}, (operation, told), {})

    def _make_team(self, need: int) -> tuple[tuple[Member, TellOfWrite], ...]:
        members = members_in(self._members, need)
        team = self._teams[need] = tuple((member, partial(self._did, member)) for member in members)
        return team

    def _did(self, member: Member, operation: Operation, error: Exception | None) -> None:
        """C{member} has done it, or says why not."""
        if error is not None:
            self._did_not(member, operation, error)
            return
        member.outstanding -= 1
        if operation.sent_s >= 0:
            self.load.has_written(member.index, operation.sent_s)
        bit = member.bit
        if operation.pending & bit and operation.error is None:
            operation.pending ^= bit
            if not operation.pending:
                self._finish(operation)
        elif not member.outstanding:
            member.drained()

    def _did_not(self, member: Member, operation: Operation, error: Exception) -> None:
        member.outstanding -= 1
        if operation.pending & member.bit:
            if not isinstance(error, DSTError):
                error = MediaError(f"{member.name}: {Failure(error).getErrorMessage()}")
            if self._configuration.usable == member.bit and not isinstance(error, Unavailable | Fenced):
                # The last copy can be reached and says no: that is the answer, once a record says that it is the
                # last. Others may have done it, and nobody may read the one and then the other. The region stays hot.
                operation.error = error
                operation.pending = self._configuration.leaving
                for target in members_in(self._members, operation.sent & self._configuration.targets):
                    # What it did the source may not have done: it is copied again, under a new epoch.
                    self._configuration.fail(target, f"a {operation.change.value} failed on its source")
                if not operation.pending:
                    self._finish(operation)
            else:
                operation.failed |= member.bit
                self._configuration.lost(member, f"a {operation.change.value} failed: {error}", error)
        if not member.outstanding:
            member.drained()

    def _finish(self, operation: Operation) -> None:
        if operation.ended:
            return
        operation.ended = True
        self._in_flight.pop(operation, None)
        self._order.leave(operation)
        self.hot.left()
        configuration = self._configuration
        if operation.error is not None:
            operation.told(operation.argument, operation.error)
        elif configuration.minimum_copies > 1 and configuration.short_of_copies:
            # It is done, and may be copied on: only its word is held back until it is on enough members.
            if operation.told is not _told_already:
                self._unacknowledged.append(operation)
        else:
            if operation.asked_s >= 0:
                self.load.ended(operation.asked_s)
            operation.told(operation.argument, None)

    # -- flush

    def flush(self, *, at_the_end: bool = False) -> Deferred[None]:
        """What had completed when this was asked for is stable on every receiver, targets included, when it fires."""
        flush = _Flush(self.load.tick)
        if self.refusing is not None and not at_the_end:
            flush.done.errback(self.refusing)
            return flush.done
        configuration = self._configuration
        flush.pending = configuration.sent | configuration.targets | configuration.leaving
        self._flushes[flush] = None
        self._send_flush(flush, flush.pending & ~configuration.leaving & ~configuration.stalled)
        return flush.done

    def _send_flush(self, flush: _Flush, members: int) -> None:
        flush.sent |= members
        for member in members_in(self._members, members):
            member.outstanding += 1
            table = member.table
            covered = table.flush_begins()
            member.node.flush().addCallbacks(
                self._flushed, self._not_flushed, (flush, member, table, covered), {}, (flush, member), {}
            )

    def _flushed(
        self, _: None, flush: _Flush, member: Member, table: RegionTable, covered: dict[int, tuple[int, int]]
    ) -> None:
        if member.node.incarnation != member.incarnation:
            # It succeeds because an earlier one failed, and what that one lost is forgotten.
            self._not_flushed(
                Failure(IncarnationChanged(f"{member.name} lost what it had not flushed")), flush, member
            )
            return
        member.outstanding -= 1
        table.flushed(covered)
        if flush.pending & member.bit:
            flush.pending ^= member.bit
            self._flush_may_end(flush)
        if not member.outstanding:
            member.drained()

    def _not_flushed(self, failure: Failure, flush: _Flush, member: Member) -> None:
        member.outstanding -= 1
        if flush.pending & member.bit:
            if self._configuration.usable == member.bit and not failure.check(Unavailable, Fenced):
                self._flushes.pop(flush, None)
                if not flush.done.called:
                    flush.done.errback(failure)
            else:
                reason = f"a flush failed: {failure.getErrorMessage()}"
                self._configuration.lost(member, reason, failure.value)  # type: ignore[arg-type]
        if not member.outstanding:
            member.drained()

    def _flush_may_end(self, flush: _Flush) -> None:
        configuration = self._configuration
        if configuration.minimum_copies > 1 and configuration.short_of_copies:
            return  # looked at again when there are more
        if not flush.pending and flush in self._flushes:
            del self._flushes[flush]
            if not flush.done.called:
                flush.done.callback(None)

    # -- the configuration changes

    def choose_readers(self) -> None:
        """Who is asked to read: in sync, reachable now, and of the lowest cost."""
        configuration = self._configuration
        in_sync = [
            member
            for member in members_in(self._members, configuration.in_sync & ~configuration.leaving)
            if member.ready and not configuration.stalled & member.bit
        ]
        in_sync = [member for member in in_sync if member.late_since is None] or in_sync
        if configuration.no_quorum:
            in_sync = []
        cheapest = min((member.options.cost for member in in_sync), default=0)
        self._readers = [member for member in in_sync if member.options.cost == cheapest]
        if self._readers and self._waiting_for_member:
            waiting, self._waiting_for_member = self._waiting_for_member, []
            for wait in waiting:
                self._enter_read(wait)

    def gone(self, members: int) -> None:
        """A record without these members is stable: nothing waits for them any more."""
        for operation in [each for each in self._in_flight if each.pending & members]:
            operation.pending &= ~members
            operation.failed &= ~members
            if not operation.pending:
                self._finish(operation)
        for flush in [each for each in self._flushes if each.pending & members]:
            flush.pending &= ~members
            self._flush_may_end(flush)
        self.send_unsent()

    def send_unsent(self) -> None:
        """Try again what found nobody to be sent to."""
        if (self._for_copies or self._unacknowledged or self._flushes) and not self._configuration.short_of_copies:
            waiting, self._for_copies = self._for_copies, []
            for operation in waiting:
                self.enter(operation)
            done, self._unacknowledged = self._unacknowledged, []
            for operation in done:
                operation.told(operation.argument, None)
            for flush in list(self._flushes):
                self._flush_may_end(flush)
        if self._unsent and self._configuration.usable:
            unsent, self._unsent = self._unsent, {}
            for operation in unsent:
                self.go(operation)

    def send_again(self, member: Member) -> None:
        """The last copy is back: what it has not answered is sent again, in order."""
        bit = member.bit
        for operation in [each for each in self._in_flight if each.pending & bit]:
            # It failed there, or was sent when others were the last ones. The gate of the marks is for both.
            if operation.failed & bit or not operation.sent & bit or operation.error is not None:
                operation.failed = operation.sent = 0
                operation.error = None
                self.go(operation)
        for flush in [each for each in self._flushes if each.pending & member.bit]:
            self._send_flush(flush, member.bit)
        self.send_unsent()

    def oldest_owed(self, member: Member, flush_patience: float) -> tuple[float, str]:
        """
        For how many ticks C{member} has owed the answer to a change that others have done, and to which kind.

        @param flush_patience: a flush counts as so many times younger.
        """
        bit, tick = member.bit, self.load.tick
        oldest, kind = 0.0, "write"
        for operation in self._in_flight:
            # One that it has failed is over; one that nobody else has done may be slow by itself.
            owed = operation.pending & bit & operation.sent & ~operation.failed
            if owed and operation.sent & ~operation.pending and tick - operation.tick > oldest:
                oldest, kind = tick - operation.tick, operation.change.value
        for flush in self._flushes:
            if flush.pending & bit & flush.sent and flush.sent & ~flush.pending:
                age = (tick - flush.tick) / flush_patience
                if age > oldest:
                    oldest, kind = age, "flush"
        return oldest, kind

    # -- the end

    @property
    def busy(self) -> bool:
        """Something has not been answered yet."""
        waiting = self._waiting_for_equal or self._waiting_for_member
        withheld = self._unacknowledged or self._for_copies
        return bool(self._in_flight or withheld or self._flushes or waiting)

    @property
    def clients_wait(self) -> bool:
        """As L{busy}, with what has not got past the hot set."""
        return self.busy or self.hot.delaying

    def abandon(self, error: DSTError) -> None:
        """Everything that waits fails, and so does what comes from now on."""
        self.refusing = error
        self._readers = []
        self._fail_waiting(error, [*self.hot.stop()])

    def refuse(self, error: DSTError) -> None:
        """
        As L{abandon}, until L{accept}: a storage that answers with errors while it is frozen.

        Changes that were sent to anybody go on to their end, though nobody hears of that any more: one member may
        have done them and another not, and both are in sync when they can be reached again (R7).
        """
        self.refusing = error
        self._fail_waiting(error, self.hot.take_waiting(), sent_go_on=True)

    def refuse_new(self, error: DSTError) -> None:
        """What comes from now on fails; what is under way goes on to its end."""
        self.refusing = error

    def accept(self) -> None:
        """Operations are welcome again."""
        self.refusing = None

    def _fail_waiting(self, error: DSTError, parked: list[Extent], *, sent_go_on: bool = False) -> None:
        withheld = self._unacknowledged + self._for_copies
        self._unacknowledged, self._for_copies = [], []
        for operation in withheld:
            operation.ended = True
            operation.told(operation.argument, error)
        operations = list(self._in_flight)
        waiting: list[Extent] = list(self._waiting_for_member)
        for unequal in self._waiting_for_equal.values():
            waiting += unequal
        self._waiting_for_member, self._waiting_for_equal = [], {}
        for operation in operations:
            if sent_go_on and operation.pending:
                told, operation.told = operation.told, _told_already
                told(operation.argument, error)
            else:
                operation.error = operation.error or error
                self._finish(operation)
        self._unsent = {each: None for each in self._unsent if not each.ended}
        for extent in waiting + parked:
            if isinstance(extent, ReadWait):
                if not extent.done.called:
                    extent.done.errback(error)
            elif isinstance(extent, Operation) and not extent.ended:
                extent.ended = True
                extent.told(extent.argument, error)
        for extents in list(self._order.by_region.values()):
            # What holds these extents may end much later, or never: a copy that waits for a member.
            for read in [each for extent in extents for each in extent.waiters or () if isinstance(each, ReadWait)]:
                if not read.done.called:
                    read.done.errback(error)
        for flush in list(self._flushes):
            self._flushes.pop(flush)
            if not flush.done.called:
                flush.done.errback(error)


def _told_already(argument: object, error: DSTError | None) -> None:
    """Whoever asked has had an error."""


def _tell_done(_: None, operation: Operation, told: TellOfWrite) -> None:
    told(operation, None)


def _tell_failed(failure: Failure, operation: Operation, told: TellOfWrite) -> None:
    told(operation, failure.value)  # type: ignore[arg-type] # whatever it is


def _tell_together(
    errors: Sequence[DSTError | None] | None, operations: Sequence[Operation], told: TellOfWrite
) -> None:
    if errors is None:
        for operation in operations:
            told(operation, None)
    else:
        for operation, error in zip(operations, errors, strict=True):
            told(operation, error)


def _tell_all_failed(failure: Failure, operations: Sequence[Operation], told: TellOfWrite) -> None:
    for operation in operations:
        told(operation, failure.value)  # type: ignore[arg-type] # it was promised not to be anything
