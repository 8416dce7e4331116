"""Tests of writes that go to a device together: those of one wake-up, and those of several clients."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from struct import pack
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.administration import Traffic
from dst.errors import DSTError, Fenced, MediaError, NoSpace
from dst.exports.nbd_limits import NBDLimits
from dst.exports.nbd_writes import HELD_BYTES_MAX, HELD_WRITES_MAX, SharedWrites
from dst.interfaces import Buffer
from dst.nbd import constants as nbd
from dst.nodes.memory import MemoryDevice
from test.exports.test_nbd_server import ServerTestCase, request, write

Writes = Sequence[tuple[int, Buffer]]


class SharedWritesTests(SynchronousTestCase):
    """What is held back, for how long, and who hears what."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[Writes] = []
        self.answers: list[Deferred[Any]] = []
        self.shared = SharedWrites(self.clock, self.write_together)

    def write_together(self, writes: Writes) -> Deferred[Any]:
        self.written.append(writes)
        answer: Deferred[Any] = Deferred()
        self.answers.append(answer)
        return answer

    def write(self, user: str, *offsets: int, length: int = 1) -> Deferred[Any]:
        return self.shared.write(user, [(offset, bytes(length)) for offset in offsets], len(offsets) * length)

    def offsets(self) -> list[list[int]]:
        return [[offset for offset, _ in writes] for writes in self.written]

    def test_alone(self) -> None:
        """Nothing of a client that writes alone is held back, after its first time."""
        self.write("a", 1)
        self.clock.advance(0)
        self.write("a", 2, 3)
        self.write("a", 4)
        self.assertEqual([[1], [2, 3], [4]], self.offsets())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_several(self) -> None:
        """What several write in a turn goes to the device in one call, in order, and each hears of its own."""
        error = MediaError("scratched")
        for errors, expected in (
            (None, [None, None, None]),
            ([None, error, None, None, error], [[None, error], [None, None], [error]]),
        ):
            told = [self.write("a", 1, 2), self.write("b", 3, 4), self.write("c", 5)]
            self.assertEqual([], self.written)
            self.clock.advance(0)
            self.assertEqual([[1, 2, 3, 4, 5]], self.offsets())
            self.answers.pop().callback(errors)
            self.assertEqual(expected, [self.successResultOf(each) for each in told])
            self.written.clear()

    def test_not_for_long(self) -> None:
        """More than a device should have to wait for is not held back; nor is anything when nobody wants it to be."""
        for count, length in ((HELD_WRITES_MAX, 1), (2, HELD_BYTES_MAX // 2)):
            self.write("a", *range(count - 1), length=length)
            self.write("b", 0, length=length)
            self.assertEqual(count, len(self.written.pop()))
            self.assertEqual([], self.clock.getDelayedCalls())
        self.write("a", 1)
        self.shared.send()
        self.shared.send()
        self.assertEqual([[1]], self.offsets())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_broken_promises(self) -> None:
        """A device that fails as a whole, or raises, does so for everybody."""
        told = [self.write("a", 1), self.write("b", 2)]
        self.clock.advance(0)
        self.answers[0].errback(Failure(MediaError("scratched")))
        self.assertEqual([True, True], [bool(self.failureResultOf(each, MediaError)) for each in told])
        self.shared = SharedWrites(self.clock, lambda _: 1 // 0)
        told = [self.write("a", 1), self.write("b", 2)]
        self.clock.advance(0)
        self.assertEqual([True, True], [bool(self.failureResultOf(each, ZeroDivisionError)) for each in told])

    def test_not_nested(self) -> None:
        """Those who are told, and want what others wrote done before they go on, are not told within each other."""
        self.shared = SharedWrites(self.clock, lambda _: succeed(None))
        depths: list[int] = []

        def go_on(_: object, user: int) -> None:
            depths.append(len(inspect.stack(0)))
            if user < 100:
                self.write(str(user), user).addCallback(go_on, user + 1)
                self.shared.send()

        go_on(None, 0)
        self.clock.advance(0)
        self.assertEqual(101, len(depths))
        self.assertEqual(1, len(set(depths[3:])), depths)
        self.assertLess(max(depths) - min(depths), 100)


class TogetherDevice(MemoryDevice):
    """A memory device that notes what it is asked for, and answers writes when the test says so."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: list[Any] = []
        self.held: list[tuple[Deferred[Any], Deferred[Any]]] = []
        self.holding = False
        self.errors: list[DSTError | None] | None = None

    def write_together(self, writes: Writes) -> Deferred[Sequence[DSTError | None] | None]:
        self.asked.append([(offset, len(data)) for offset, data in writes])
        done = super().write_together(writes) if self.errors is None else succeed(self.errors)
        if not self.holding:
            return done
        answer: Deferred[Any] = Deferred()
        self.held.append((answer, done))
        return answer

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        self.asked.append(("forced" if fua else "alone", offset, len(data)))
        return super().write(offset, data, fua=fua)

    def flush(self) -> Deferred[None]:
        self.asked.append("flush")
        return super().flush()

    def release(self) -> None:
        """Answer everything."""
        held, self.held = self.held, []
        for answer, done in held:
            done.addBoth(answer.callback)


class TogetherTests(ServerTestCase):
    """A client's writes to a device that takes many at once."""

    device_class = TogetherDevice
    limits = NBDLimits(session_bytes_max=64 * 1024)

    def answered(self, client: Any) -> list[tuple[int, int]]:
        """Error and cookie of all simple replies that have arrived."""
        found = []
        while client.received:
            found.append(self.simple(client))
        return found

    def test_one_wake_up(self) -> None:
        """Those that come together go to the device together, whatever comes between them; each has its answer."""
        client = self.agree()
        between = request(nbd.CMD_READ, 7, 4096, 512)
        self.send(client, write(1, 0, b"a" * 512) + between + write(2, 512, b"b" * 20_000) + write(3, 0, b"c" * 512))
        self.assertEqual([[(0, 512), (512, 20_000), (0, 512)]], self.device.asked)
        self.assertEqual((0, 7), self.simple(client))
        self.assertEqual(bytes(512), client.take(512))
        self.assertEqual([(0, 1), (0, 2), (0, 3)], self.answered(client))
        self.send(client, request(nbd.CMD_READ, 4, 0, 513))
        self.assertEqual((0, 4), self.simple(client))
        self.assertEqual(b"c" * 512 + b"b", client.take(513))

    def test_order(self) -> None:
        """Other changes and flushes go to the device behind the writes that came before them."""
        client = self.agree()
        forced = write(3, 0, b"x" * 512, nbd.CMD_FLAG_FUA)
        self.send(
            client,
            write(1, 0, b"x" * 512)
            + request(nbd.CMD_FLUSH, 2)
            + write(4, 0, b"x" * 512)
            + forced
            + write(5, 0, b"y"),
        )
        expected = [[(0, 512)], "flush", [(0, 512)], ("forced", 0, 512), [(0, 1)]]
        self.assertEqual(expected, self.device.asked)
        self.assertEqual({(0, cookie) for cookie in range(1, 6)}, set(self.answered(client)))

    def test_errors(self) -> None:
        """Each has its own error, and is counted."""
        client = self.agree(structured=True)
        self.device.errors = [None, NoSpace("full"), None, MediaError("scratched")]
        self.send(client, b"".join(write(cookie, 512 * cookie, b"x" * 512) for cookie in range(4)))
        found = {}
        while client.received:
            if client.received.startswith(pack(">I", nbd.SIMPLE_REPLY_MAGIC)):
                errno, cookie = self.simple(client)
            else:
                _, cookie, payload = self.chunk(client)
                errno = int.from_bytes(payload[:4], "big")
            found[cookie] = errno
        self.assertEqual({0: 0, 1: nbd.ENOSPC, 2: 0, 3: nbd.EIO}, found)
        traffic = self.server.traffic()["vol"]
        self.assertEqual((4, 2048, 2), (traffic.writes, traffic.written_bytes, traffic.errors))
        self.assertEqual(0, self.server.budget.used_bytes)

    def test_moved(self) -> None:
        """A device that is another daemon's now ends the session, without an answer to any of them after that."""
        client = self.agree()
        self.device.errors = [None, Fenced("it is another daemon's"), None]
        self.send(client, b"".join(write(cookie, 0, b"x" * 512) for cookie in range(3)))
        self.assert_dropped(client, "moved")
        self.assertEqual(0, self.server.budget.used_bytes)

    def test_moved_while_full(self) -> None:
        """So does one that is asked for writes that are begun because the next one has no room."""
        client = self.agree()
        self.device.holding = True
        self.send(client, write(99, 0, b"x" * 60_000))
        self.device.holding = False
        self.device.errors = [Fenced("it is another daemon's")] * 5
        self.send(client, b"".join(write(cookie, 0, b"x" * 1000) for cookie in range(20)))
        self.assert_dropped(client, "moved")
        self.assertEqual((0, 0), (self.server.budget.used_bytes, len(self.server._requests)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_broken_promise(self) -> None:
        """When the device fails as a whole every write has an answer, and the log says what happened."""
        writing: Deferred[Any] = Deferred()
        self.device.write_together = lambda _: writing
        writing.addCallback(lambda _: 1 // 0)
        client = self.agree()
        self.send(client, write(1, 0, b"x" * 512) + write(2, 0, b"x" * 512))
        writing.callback(None)
        self.settle()
        self.assertEqual([(nbd.EIO, 1), (nbd.EIO, 2)], self.answered(client))
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_limits(self) -> None:
        """They hold what they hold until they are answered, and more is not begun."""
        client = self.agree()
        self.device.holding = True
        self.send(client, b"".join(write(cookie, 0, b"x" * 15_000) for cookie in range(6)))
        self.assertEqual(4, sum(map(len, self.device.asked)))
        self.assertEqual(60_000, self.server.budget.used_bytes)
        self.assertFalse(client.far.reading)
        while self.device.held:
            self.device.release()
            self.settle()
        self.assertEqual([(0, cookie) for cookie in range(6)], self.answered(client))
        self.assertTrue(client.far.reading)
        self.assertEqual(0, self.server.budget.used_bytes)

    def test_limits_of_a_quick_device(self) -> None:
        """What is answered at once makes room at once."""
        client = self.agree()
        self.send(client, b"".join(write(cookie, 0, b"x" * 15_000) for cookie in range(20)))
        self.assertEqual([(0, cookie) for cookie in range(20)], self.answered(client))
        self.assertTrue(client.far.reading)

    def test_several_clients(self) -> None:
        """What several clients write in a turn goes to the device in one call; each has its own answers."""
        clients = [self.agree() for _ in range(3)]
        for client in clients:
            self.send(client, write(0, 0, b"x" * 512))
        self.device.asked.clear()
        for number, client in enumerate(clients):
            client.transport.write(write(number, 512 * number, b"y" * 512))
        self.settle()
        self.assertEqual([[(0, 512), (512, 512), (1024, 512)]], self.device.asked)
        for number, client in enumerate(clients):
            self.assertEqual([(0, 0), (0, number)], self.answered(client))

    def test_vanished(self) -> None:
        """A client that vanishes leaves nothing behind: its writes are done for nobody, and the others' for them."""
        stays, goes = self.agree(), self.agree()
        self.send(stays, write(1, 0, b"x" * 512))
        self.device.holding = True
        self.send(goes, write(2, 0, b"x" * 512))
        self.send(stays, write(3, 0, b"x" * 512))
        goes.near.lose(ConnectionError("vanished"))  # type: ignore[attr-defined]
        self.settle()
        self.device.release()
        self.settle()
        self.assertEqual([(0, 1), (0, 3)], self.answered(stays))
        stays.transport.loseConnection()
        self.settle()
        self.assertEqual((0, 0), (self.server.connections, self.server.budget.used_bytes))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual({}, self.server._writes)

    def test_disconnect(self) -> None:
        """Those that came before a disconnect are done."""
        client = self.agree()
        self.send(client, write(1, 0, b"x" * 512) + write(2, 0, b"x" * 512) + request(nbd.CMD_DISC, 3))
        self.assertEqual([[(0, 512), (0, 512)]], self.device.asked)
        self.assertIsNotNone(client.lost)
        self.assertEqual([(0, 1), (0, 2)], self.answered(client))

    def test_timed(self) -> None:
        """One request in 64 of each kind is timed, also when they come together; reads that are at hand, too."""
        client = self.agree()
        for _ in range(5):
            self.send(client, b"".join(write(cookie, 0, b"x" * 512) for cookie in range(30)))
            self.send(client, b"".join(request(nbd.CMD_READ, cookie, 0, 512) for cookie in range(30)))
        traffic: Traffic = self.server.traffic()["vol"]
        self.assertEqual((150, 150, 150 * 512), (traffic.reads, traffic.writes, traffic.read_bytes))
        self.assertEqual((3, 3), (traffic.reads_timed, traffic.writes_timed))

    def test_timed_one_by_one(self) -> None:
        """No more than that, either, where only now and then something is at hand, so that runs are short."""
        read_now, asked = self.device.read_now, []

        def now_and_then(offset: int, length: int) -> Buffer | None:
            asked.append(offset)
            return None if len(asked) % 3 == 0 else read_now(offset, length)

        self.device.read_now = now_and_then
        client = self.agree()
        self.send(client, b"".join(request(nbd.CMD_READ, cookie, 0, 512) for cookie in range(200)))
        self.assertEqual(200 * 528, len(client.received))
        traffic = self.server.traffic()["vol"]
        self.assertEqual((200, 4), (traffic.reads, traffic.reads_timed))

    def test_cut_off_in_the_middle(self) -> None:
        """A client that is cut off while the device is asked has given everything back."""
        client = self.agree()
        (session,) = self.server._sessions
        read_now = self.device.read_now

        def cut(offset: int, length: int) -> Buffer | None:
            session.cut("just now")
            return read_now(offset, length)

        session._transmission._read_now = cut  # type: ignore[union-attr]
        self.send(client, request(nbd.CMD_READ, 1, 0, 512) + request(nbd.CMD_READ, 2, 0, 512))
        self.assert_dropped(client, "cut")
        self.assertEqual(0, self.server.budget.used_bytes)
