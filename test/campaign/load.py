"""
The client: keeps many requests in flight, goes to whoever serves, and writes everything into the history.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from random import Random

from attrs import define, field

from test.campaign.history import BLOCK_BYTES, History, Snapshot, Violation, block_content
from test.campaign.nbd_client import Answer, NBDClient, NBDError

__all__ = ["Door", "Load", "LoadCounts"]

DEPTH = 32
BLOCKS_PER_WRITE_MAX = 16
DRAIN_S_MAX = 20.0
HOT_BLOCKS = 64
"""Some blocks get a third of all requests, so that regions are written again and again."""

OPS_PER_S_CALM = 300
"""While a round waits for everything to be whole: the client goes on, and leaves the processors to the resync."""

OPS_PER_S_MAX = 3000
"""Several campaigns share a machine with their daemons: faults need time to land between requests."""


@define(frozen=True)
class Door:
    """
    Where a storage may be served.

    @ivar process: which process stands behind it now: another one after each start.
    """

    name: str
    port: int
    process: Callable[[], object]


@define
class LoadCounts:
    """What was done."""

    writes: int = 0
    reads: int = 0
    flushes: int = 0
    zeroes: int = 0
    connections: int = 0
    refused: int = 0
    errors: dict[str, int] = field(factory=dict)
    gap_s_max: float = 0.0


@define
class _Op:
    kind: str
    blocks: list[int]
    versions: list[int]
    fua: bool = False
    snapshot: Snapshot | None = None


_session_numbers = iter(range(1, 1 << 62))


class Load:
    """
    A thread that uses the storage until it is told to stop.

    @ivar failure: what it found that must not be.
    @ivar answered: how many requests were answered well.
    """

    def __init__(
        self,
        history: History,
        doors: list[Door],
        randomness: Random,
        log: Callable[[str], None],
        *,
        patience_s: float,
    ) -> None:
        """@param patience_s: without any answer for so long it hangs up and tries the next door."""
        self.counts = LoadCounts()
        self.failure: BaseException | None = None
        self.answered = 0
        self._history = history
        self._doors = doors
        self._random = randomness
        self._log = log
        self._patience_s = patience_s
        self._busy: set[int] = set()
        self._unresolved: dict[int, object] = {}  # block -> the process that may still execute a change of it
        self._ops: dict[int, _Op] = {}
        self._ops_per_s = OPS_PER_S_MAX
        self._stopping = False
        self._drains = False
        self._last_answer_s = 0.0  # in this session
        self._last_served_s = 0.0  # in any
        self._hot = randomness.randrange(history.blocks)
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def until_answered(self, count: int, limit_s: float) -> bool:
        """Wait until so many more requests are answered."""
        wanted, end = self.answered + count, time.monotonic() + limit_s
        while self.answered < wanted and self.failure is None:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def calm_down(self) -> None:
        """Do less from now on."""
        self._ops_per_s = OPS_PER_S_CALM

    def stop(self, *, must_answer: bool) -> None:
        """
        End it.

        @param must_answer: what is in flight has to be answered, so that nothing is under way afterwards.
        """
        self._drains, self._stopping = must_answer, True
        self._thread.join(DRAIN_S_MAX + 10.0)
        if self._thread.is_alive():
            raise AssertionError("the load does not end")

    # -- the thread

    def _run(self) -> None:
        at = 0
        try:
            while not self._stopping:
                door = self._doors[at % len(self._doors)]
                try:
                    self._use(door)
                except NBDError as error:
                    self._log(f"client: {door.name}: {error}")
                at += 1
                time.sleep(0.05)
        except BaseException as error:  # whoever stops the load hears of it
            self.failure = error

    def _use(self, door: Door) -> None:
        process = door.process()
        try:
            client = NBDClient(door.port, "vol", timeout_s=min(2.0, self._patience_s))
        except NBDError as error:
            self.counts.refused += 1
            if self.counts.refused % 20 == 1:
                self._log(f"client: {door.name}: {error}")
            return
        if client.size != self._history.blocks * BLOCK_BYTES:
            client.close()
            if client.size < self._history.blocks * BLOCK_BYTES:
                raise Violation(
                    f"{door.name} serves {client.size} bytes, expected {self._history.blocks * BLOCK_BYTES}"
                )
        self.counts.connections += 1
        session = next(_session_numbers)
        self._history.session_began(session)
        self._log(f"client: session {session} with {door.name}")
        for block in [block for block, before in self._unresolved.items() if before != process]:
            del self._unresolved[block]
        self._last_answer_s = time.monotonic()
        try:
            self._work(client, session)
        finally:
            client.close(politely=False)
            for op in self._ops.values():
                if op.kind in ("write", "zero"):
                    self._unresolved.update(dict.fromkeys(op.blocks, process))
            self._log(f"client: session {session} ended with {len(self._ops)} in flight")
            self._ops.clear()
            self._busy.clear()

    def _work(self, client: NBDClient, session: int) -> None:
        last_s, allowed = time.monotonic(), float(DEPTH)
        while not self._stopping:
            now_s = time.monotonic()
            allowed = min(allowed + (now_s - last_s) * self._ops_per_s, 2.0 * DEPTH)
            last_s = now_s
            while client.in_flight < DEPTH and allowed >= 1.0:
                self._ask(client, session)
                allowed -= 1.0
            for answer in client.answers(0.02 if client.in_flight >= DEPTH else 0.005):
                self._take(answer, session)
            if time.monotonic() - self._last_answer_s > self._patience_s:
                raise NBDError(f"no answer for {self._patience_s:g} s")
        end_s = time.monotonic() + DRAIN_S_MAX
        while self._drains and self._ops:
            for answer in client.answers(0.1):
                self._take(answer, session)
            if time.monotonic() > end_s:
                raise Violation(
                    f"{len(self._ops)} requests to a healthy storage are not answered in {DRAIN_S_MAX:g} s"
                )

    def _ask(self, client: NBDClient, session: int) -> None:
        history, dice = self._history, self._random.random()
        if dice < 0.03:
            op = _Op("flush", [], [], snapshot=history.flush_issued(session))
            self._ops[client.flush()] = op
            return
        blocks = self._free_blocks(1 if dice < 0.85 else self._random.randrange(2, BLOCKS_PER_WRITE_MAX + 1))
        if not blocks:
            return
        self._busy.update(blocks)
        offset, length = blocks[0] * BLOCK_BYTES, len(blocks) * BLOCK_BYTES
        if dice < 0.28:
            self._ops[client.read(offset, length)] = _Op("read", blocks, [])
        elif 0.78 < dice < 0.85 or dice > 0.97:
            versions = [history.issue(block, zero=True) for block in blocks]
            ask = client.trim if self._random.random() < 0.5 else client.write_zeroes
            self._ops[ask(offset, length)] = _Op("zero", blocks, versions)
        else:
            fua = self._random.random() < 0.06
            versions = [history.issue(block) for block in blocks]
            data = b"".join([block_content(*each) for each in zip(blocks, versions, strict=True)])
            self._ops[client.write(offset, data, fua=fua)] = _Op("write", blocks, versions, fua)

    def _free_blocks(self, count: int) -> list[int]:
        """Neighbours that no request touches, and that none of an earlier session may still change."""
        blocks = self._history.blocks
        if self._random.random() < 0.33:
            start = (self._hot + self._random.randrange(HOT_BLOCKS)) % blocks
        else:
            start = self._random.randrange(blocks)
        found: list[int] = []
        for block in range(start, min(start + count, blocks)):
            if block in self._busy or block in self._unresolved:
                break
            found.append(block)
        return found

    def _take(self, answer: Answer, session: int) -> None:
        op = self._ops.pop(answer.cookie)
        self._busy.difference_update(op.blocks)
        if answer.error:
            if answer.error == errno.ESHUTDOWN:
                raise NBDError("the server is shutting down")
            name = f"{op.kind} {errno.errorcode.get(answer.error, str(answer.error))}"
            self.counts.errors[name] = self.counts.errors.get(name, 0) + 1
            if self.counts.errors[name] == 1:
                self._log(f"client: {op.kind} of blocks {op.blocks[:4]} failed with {name}")
            return
        now_s = time.monotonic()
        if self._last_served_s:
            self.counts.gap_s_max = max(self.counts.gap_s_max, now_s - self._last_served_s)
        self._last_answer_s = self._last_served_s = now_s
        self.answered += 1
        history = self._history
        if op.kind == "flush":
            assert op.snapshot is not None
            self.counts.flushes += 1
            history.flushed(op.snapshot)
        elif op.kind == "read":
            self.counts.reads += 1
            for index, block in enumerate(op.blocks):
                history.check(block, answer.data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES], session)
        else:
            if op.kind == "write":
                self.counts.writes += 1
            else:
                self.counts.zeroes += 1
            for block, version in zip(op.blocks, op.versions, strict=True):
                history.acknowledged(block, version, session, durable=op.fua)


def read_everything(history: History, door: Door, *, limit_s: float, settle: bool, flush: bool) -> bytes:
    """
    Read and check every block, in a new session.

    @param settle: see L{History.check}.
    @param flush: make everything durable afterwards.
    @return: all of it.
    """
    end_s = time.monotonic() + limit_s
    client = NBDClient(door.port, "vol", timeout_s=5.0)
    session = next(_session_numbers)
    content = bytearray(history.blocks * BLOCK_BYTES)
    try:
        step = 16
        todo = list(range(0, history.blocks, step))
        asked: dict[int, int] = {}
        while todo or asked:
            while todo and client.in_flight < DEPTH:
                block = todo.pop()
                count = min(step, history.blocks - block)
                asked[client.read(block * BLOCK_BYTES, count * BLOCK_BYTES)] = block
            for answer in client.answers(0.1):
                first = asked.pop(answer.cookie)
                if answer.error:
                    raise Violation(f"a read of a healthy storage failed with {errno.errorcode.get(answer.error)}")
                content[first * BLOCK_BYTES : first * BLOCK_BYTES + len(answer.data)] = answer.data
                for index in range(len(answer.data) // BLOCK_BYTES):
                    data = answer.data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
                    history.check(first + index, data, session, settle=settle)
            if time.monotonic() > end_s:
                raise Violation(f"a healthy storage could not be read in {limit_s:g} s")
        if settle:
            history.settled()
        if flush:
            answer = client.wait(client.flush(), limit_s)
            if answer.error:
                raise Violation(f"a flush of a healthy storage failed with {errno.errorcode.get(answer.error)}")
            if settle:
                history.all_flushed()
    finally:
        client.close()
    return bytes(content)
