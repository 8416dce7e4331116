"""
What a table of transactions lets in, and what it sends again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.algorithms.mirror.operation import Change, Operation
from dst.errors import DSTError, Fenced, LimitReached
from dst.exports.nbd_limits import NBDLimits
from dst.interfaces import Buffer
from dst.nodes.memory import MemoryDevice
from dst.status import MemberState
from dst.testing.faulty import FaultyDevice
from dst.transport.transactions import TransactionTable
from dst.wire import messages
from test.algorithms.test_ownership import outcome
from test.transport.serving import Exports, Serving

REQUESTS_MAX = 4
BYTES_MAX = 64 * 1024


class _Link:
    """Takes everything."""

    unread = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, header: Buffer, data: Buffer = b"") -> None:
        """See L{dst.transport.transactions.Link}."""
        self.sent.append(bytes(data))

    def send_all(self, buffers: Sequence[Buffer], *, at_once: bool) -> None:
        """See L{dst.transport.transactions.Link}."""
        self.sent += [bytes(data) for data in buffers[1::2]]


class TransactionTableTests(SynchronousTestCase):
    """Without a connection, or with one that never answers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.table = TransactionTable(
            self.clock, lambda why: None, deadline_s=30, requests_max=REQUESTS_MAX, bytes_max=BYTES_MAX
        )

    def attach(self, requests_max: int = 2) -> _Link:
        """A new connection."""
        link = _Link()
        self.table.attach(link, requests_max=requests_max, bytes_max=1 << 20, checksums=True)
        return link

    def read(self) -> list[Any]:
        """What became of it."""
        return outcome(self.table.ask(messages.Operation.READ, 0, 4096, cost_bytes=4096))

    def write(self, data: Buffer = b"w" * 4096) -> list[Any]:
        """What became of it."""
        return outcome(self.table.ask(messages.Operation.WRITE, 0, len(data), data=data, cost_bytes=len(data)))

    def test_reads_are_bounded(self) -> None:
        """Of more than the limit each is refused at once."""
        answers = [self.read() for _ in range(REQUESTS_MAX + 1)]
        self.assertEqual([[]] * REQUESTS_MAX, answers[:-1])
        self.assertIsInstance(answers[-1][0], LimitReached)

    def test_bytes_are_bounded(self) -> None:
        """Also by what they are about."""
        self.write(bytes(BYTES_MAX))
        self.assertIsInstance(self.read()[0], LimitReached)

    def test_changes_are_let_in(self) -> None:
        """However many there are: a member that refuses one would have to leave its mirror."""
        table, link = self.table, self.attach(requests_max=100)
        for _ in range(REQUESTS_MAX):
            self.read()
        data = bytes(BYTES_MAX)
        told: list[DSTError | None] = []
        writes = [Operation(_nothing, None, Change.WRITE, 0, BYTES_MAX, 20, data) for _ in range(2)]
        asked = [
            self.write(data),
            outcome(table.ask(messages.Operation.FLUSH)),
            outcome(table.ask(messages.Operation.TRIM, 0, 4096)),
            outcome(table.ask(messages.Operation.WRITE_ZEROES, 0, 4096)),
        ]
        table.write_and_tell(writes, lambda write, error: told.append(error))
        self.assertEqual(([[]] * 4, []), (asked, told))
        self.assertEqual(3, link.sent.count(data))
        self.assertIsInstance(self.read()[0], LimitReached)

    def test_what_clients_may_ask_for(self) -> None:
        """As many reads as the clients of an NBD server may have in flight are let in, and more."""
        limits = NBDLimits()
        table = TransactionTable(self.clock, lambda why: None, deadline_s=30)
        of_all = limits.requests_of_all_max + limits.connections_max * limits.guaranteed_requests
        of_all_bytes = limits.bytes_max + limits.connections_max * limits.guaranteed_bytes
        asked = [
            outcome(table.ask(messages.Operation.READ, 0, 4096, cost_bytes=of_all_bytes // of_all))
            for _ in range(of_all * 5 // 4)
        ]
        self.assertEqual([], [each for each in asked if each])

    def test_change_of_a_dismissed_claim(self) -> None:
        """
        What was sent under a claim that does not stand any more fails when it would have to be sent again, and does
        not wait until it could be taken for a change under the next one.
        """
        table = self.table
        self.attach()
        self.read()
        write = self.write()
        table.ask_in_haste(messages.Operation.CLAIM, b"", 2.0).addErrback(lambda _: None)
        table.refuse_changes(lambda: Fenced("another daemon owns it"))
        self.assertEqual([], write)  # it may still be answered
        table.detach()
        link = self.attach()
        table.refuse_changes(None)
        self.clock.pump([0.5] * 6)
        self.assertEqual([], [data for data in link.sent if data])
        self.assertIsInstance(write[0], Fenced)


def _nothing(argument: Any, error: DSTError | None) -> None:
    """Nobody is told."""


class BusyMirrorTests(SynchronousTestCase):
    """A mirror over a network whose clients ask for more than the server works on at a time."""

    def test_no_member_leaves(self) -> None:
        """Clients that each stay within their limits do not cost redundancy, and no write fails."""
        serving = Serving(size=64 << 20)
        clock = serving.clock
        other = FaultyDevice(clock, MemoryDevice(clock, "vol2", 64 << 20))
        other.open()
        serving.exports = Exports(serving.device, other)
        serving.server = serving.make_server()
        nodes = [serving.node("n1", "vol"), serving.node("n2", "vol2")]
        mirror = Mirror(clock, "m", nodes, MirrorOptions(slow_s=0.0))
        mirror.open()
        clock.pump([0.05] * 300)
        self.assertEqual([MemberState.IN_SYNC] * 2, [member.state for member in mirror.members])
        for offset in range(0, 40 << 20, 1 << 20):
            mirror.write(offset, b"m" * 4096)
            clock.pump([0.01] * 5)
        serving.device.hold("write")
        other.hold("write")
        answers = []
        for client in range(17):
            writes = [((client * 512 + n) * 4096, b"x" * 4096) for n in range(512)]
            answers.append(outcome(mirror.write_together(writes)))
            clock.advance(0)
        clock.pump([0.01] * 20)
        self.assertEqual([MemberState.IN_SYNC] * 2, [member.state for member in mirror.members])
        serving.device.release()
        other.release()
        clock.pump([0.05] * 200)
        self.assertEqual([[None]] * 17, answers)
