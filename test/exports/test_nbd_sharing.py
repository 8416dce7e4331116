"""What NBD clients of one server get beside others that want more than there is."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer_only

from dst.exports.nbd_limits import Budget, NBDLimits
from dst.exports.nbd_session import OPTIONS_PER_TURN
from dst.exports.nbd_transmission import CACHE_READ_BYTES
from dst.exports.turns import SHARED, SHARED_S, Turn, Turns
from dst.interfaces import Buffer, INode, IReadsNow, IWritesTogether
from dst.nbd.constants import CMD_CACHE, CMD_DISC, CMD_READ, OPT_LIST, OPT_STRUCTURED_REPLY, REP_ACK
from dst.nodes.memory import MemoryDevice
from test.exports.test_nbd_server import (
    SIZE,
    FailingDevice,
    ServerTestCase,
    SlowDevice,
    TurnClock,
    go,
    option,
    request,
    write,
)

BLOCK = 512


@implementer_only(INode)
class NotingDevice(MemoryDevice):
    """Notes in C{begun} what is read, in order, and answers at once."""

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        self.__dict__.setdefault("begun", []).append(offset)
        return super().read(offset, length)


def reads(count: int, offset: int, length: int = BLOCK) -> bytes:
    """So many reads of the same place."""
    return b"".join(request(CMD_READ, cookie, offset, length) for cookie in range(count))


class FloodTests(ServerTestCase):
    """One client asks for much more than the other."""

    device_class = NotingDevice

    def test_turns(self) -> None:
        """A client with a few requests waits for a turn of one that floods, and not for all that it asks for."""
        greedy, modest = self.agree(), self.agree()
        self.send(greedy, reads(1, 0))
        self.send(modest, reads(1, BLOCK))
        self.device.begun.clear()
        greedy.transport.write(reads(200, 0))
        modest.transport.write(reads(4, BLOCK))
        self.settle(100)
        begun = self.device.begun
        self.assertEqual((200, 4), (begun.count(0), begun.count(BLOCK)))
        last = max(index for index, offset in enumerate(begun) if offset == BLOCK)
        self.assertLess(last, 2 * SHARED.requests + 4)

    def test_large(self) -> None:
        """Large requests count for as many as they take time: one of 64 KiB is a turn."""
        greedy, modest = self.agree(), self.agree()
        self.send(greedy, reads(1, 0))
        self.send(modest, reads(1, BLOCK))
        self.device.begun.clear()
        greedy.transport.write(reads(20, 0, 64 * 1024))
        modest.transport.write(reads(4, BLOCK))
        self.settle(200)
        begun = self.device.begun
        self.assertEqual((20, 4), (begun.count(0), begun.count(BLOCK)))
        self.assertLess(max(index for index, offset in enumerate(begun) if offset == BLOCK), 2 + 4)

    def test_alone(self) -> None:
        """When the other one is quiet everything is begun in one turn again."""
        greedy, modest = self.agree(), self.agree()
        self.send(modest, reads(1, BLOCK))
        self.send(greedy, reads(1, 0))
        self.clock.advance(2 * SHARED_S)
        self.device.begun.clear()
        greedy.transport.write(reads(200, 0))
        while not self.device.begun:
            self.clock.advance(0)
        self.assertEqual(200, len(self.device.begun))


class NegotiationTests(ServerTestCase):
    """Strangers send all the options that one handshake may have at once."""

    clock_class = TurnClock

    def test_turns(self) -> None:
        """Each turn deals with a few of them, and all are answered."""
        listed: list[int] = []
        self.offered.list_exports = lambda identity: (listed.append(1), ["vol"])[1]
        strangers = [self.connect() for _ in range(3)]
        for stranger in strangers:
            stranger.transport.write(option(OPT_LIST) * 200)
        most = 0
        for _ in range(400):
            before = len(listed)
            self.clock.advance(0)
            most = max(most, len(listed) - before)
        self.assertEqual(3 * OPTIONS_PER_TURN, most)
        self.assertEqual(3 * 200, len(listed))
        for stranger in strangers:
            self.assertEqual(200, sum(reply == REP_ACK for reply, _ in self.replies(stranger, OPT_LIST)))

    def test_goes_on(self) -> None:
        """Who sends everything at once is served as everybody else: it is received from again."""
        client = self.connect()
        self.send(client, option(OPT_LIST) * OPTIONS_PER_TURN + option(OPT_STRUCTURED_REPLY) + go("vol"))
        client.received.clear()
        self.send(client, request(CMD_READ, 1, 0, BLOCK))
        self.assertTrue(client.received)

    def test_goodbye(self) -> None:
        """Who is cut off in between has no turn left."""
        for ends in (lambda client: client.near.lose(ConnectionError("vanished")), lambda _: self.server.drain()):
            client = self.connect()
            client.transport.write(option(OPT_LIST) * 200)
            for _ in range(5):
                self.clock.advance(0)
            self.assertIsNotNone(next(iter(self.server._sessions))._turn)
            ends(client)
            self.settle()
            self.assertEqual(0, self.server.connections)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_rubbish_behind(self) -> None:
        """What makes no sense ends it, also in a later turn."""
        client = self.connect()
        self.send(client, option(OPT_LIST) * 20 + b"x" * 16)
        self.assert_dropped(client, "no option")


class GuaranteeTests(ServerTestCase):
    """Others hold all the memory."""

    device_class = SlowDevice
    limits = NBDLimits(session_bytes_max=64 * 1024, bytes_max=128 * 1024, guaranteed_bytes=16 * 1024)

    def test_guarantee(self) -> None:
        """A client has its small requests in flight, side by side, whatever others hold for as long as they like."""
        for _ in range(2):
            self.send(self.agree(), reads(64, 0, 1024))
        self.assertEqual(128 * 1024, self.server.budget.used_bytes)
        modest = self.agree()
        held = len(self.device.held)
        self.send(modest, reads(20, 0, 1024))
        self.assertEqual(held + 16, len(self.device.held))
        others, self.device.held[:] = self.device.held[:held], self.device.held[held:]
        for _ in range(2):
            self.device.release()
            self.settle()
        self.assertEqual(20 * (1024 + 16), len(modest.received))
        self.device.held[:] = others
        self.device.release()
        self.settle()
        self.assertEqual(0, self.server.budget.used_bytes)


class RequestTests(ServerTestCase):
    """Others have begun all the requests that a server may have."""

    device_class = SlowDevice
    limits = NBDLimits(requests_max=40, requests_of_all_max=100, guaranteed_requests=4)

    def used(self) -> int:
        """Requests of all clients."""
        return sum(each.used for each in self.server._requests.values())

    def test_guarantee(self) -> None:
        """All together have so many, and each a few besides, whose answers let it go on with the next."""
        for _ in range(3):
            self.send(self.agree(), reads(40, 0))
        self.assertEqual(100, len(self.device.held))
        modest = self.agree()
        self.send(modest, reads(20, 0))
        self.assertEqual(104, len(self.device.held))
        others, self.device.held[:] = self.device.held[:100], self.device.held[100:]
        for _ in range(5):
            self.device.release()
            self.settle()
        self.assertEqual(20 * (BLOCK + 16), len(modest.received))
        self.device.held[:] = others
        for _ in range(2):
            self.device.release()
            self.settle()
        self.assertEqual((0, 0), (self.server.budget.used_bytes, self.used()))

    def test_room(self) -> None:
        """A client that waited goes on when there is room, and one that is gone or was cut off makes room."""
        clients = [self.agree() for _ in range(3)]
        for client in clients:
            self.send(client, reads(40, 0))
        clients[0].near.lose(ConnectionError("vanished"))
        self.server.end_session(self.server.sessions()[-1].id)
        self.settle()
        self.assertEqual(40, self.used())
        self.send(self.agree(), reads(40, 0))
        self.assertEqual(80, self.used())
        for _ in range(4):
            self.device.release()
            self.settle()
        self.assertEqual(0, self.used())

    def test_another_device(self) -> None:
        """They are those of one device: nobody has less because another one hangs."""
        for _ in range(3):
            self.send(self.agree(), reads(40, 0))
        hangs, self.device = self.device, self.new_device()
        self.offered.devices["other"] = self.device
        client = self.agree("other")
        self.send(client, reads(40, 0))
        self.assertEqual((100, 40), (len(hangs.held), len(self.device.held)))

    def test_answers_unread(self) -> None:
        """What was answered and not read counts on."""
        self.device.holding = False
        client = self.agree()
        client.far.stuck = True
        self.send(client, reads(40, 0, 16 * 1024))
        self.assertEqual(40, self.used())
        client.near.lose(ConnectionError("vanished"))
        self.settle()
        self.assertEqual(0, self.used())


@implementer_only(INode, IReadsNow, IWritesTogether)
class QuickDevice(MemoryDevice):
    """It has everything at hand, and writes when the test says so."""

    def write_together(self, writes: Any) -> Deferred[Any]:
        held: Deferred[Any] = Deferred()
        self.__dict__.setdefault("held", []).append((held, len(writes)))
        return held


class PlainRequestTests(ServerTestCase):
    """The same of those that are begun together."""

    device_class = QuickDevice
    limits = NBDLimits(requests_of_all_max=100, guaranteed_requests=4)

    def used(self) -> int:
        """Requests of all clients."""
        return sum(each.used for each in self.server._requests.values())

    def test_guarantee(self) -> None:
        """No more of one wake-up are begun than there may be, and no fewer than are guaranteed."""
        client, modest = self.agree(), self.agree()
        self.send(client, b"".join(write(cookie, 0, b"x") for cookie in range(150)))
        self.assertEqual(100, self.used())
        self.send(modest, b"".join(write(cookie, 0, b"x") for cookie in range(3)))
        self.send(modest, b"".join(write(cookie, 0, b"x") for cookie in range(30)))
        self.assertEqual(104, self.used())
        self.send(self.agree(), reads(2, 0))
        self.assertEqual(104, self.used())
        while self.device.held:
            held, self.device.held[:] = self.device.held[:], []
            self.assertLessEqual(sum(count for _, count in held), 104)
            for answer, _ in held:
                answer.callback(None)
            self.settle()
        self.assertEqual([150 * 16, 33 * 16], [len(each.received) for each in (client, modest)])
        self.assertEqual(0, self.used())


class SlowClientTests(ServerTestCase):
    """Clients that send a large request, or take its answer, in very small pieces."""

    limits = NBDLimits(session_bytes_max=2 << 20, bytes_max=4 << 20, guaranteed_bytes=512 * 1024)

    def begun(self) -> Any:
        """A client in the middle of a large write."""
        client = self.agree()
        self.send(client, write(1, 0, bytes(SIZE))[:-SIZE])
        return client

    def pass_time(self, minutes: int, *clients: tuple[Any, int]) -> None:
        """They send so many bytes in a second."""
        for _ in range(minutes * 6):
            for client, bytes_per_s in clients:
                self.send(client, bytes(bytes_per_s * 10))
            self.clock.advance(10)

    def test_no_room(self) -> None:
        """
        Who holds memory that others wait for has to move; after a while they have it. Who has no more than is
        guaranteed is not asked.
        """
        modest = self.agree()
        self.send(modest, write(1, 0, bytes(400_000))[:-400_000])
        slow = [self.begun() for _ in range(4)]
        good = self.agree()
        self.send(good, request(CMD_READ, 2, 0, SIZE))
        self.assertEqual(b"", bytes(good.received))
        self.pass_time(3, (modest, 1100), *((client, 4096) for client in slow))
        self.assertEqual([True, True, False, False], [bool(client.lost) for client in slow])  # as many as it takes
        self.assertEqual(SIZE + 16, len(good.received))
        self.assertIsNone(modest.lost)

    def test_phone_line(self) -> None:
        """Who is slow, and in nobody's way, is waited for."""
        client = self.begun()
        self.pass_time(6, (client, 2048))
        self.assertIsNone(client.lost)
        self.send(client, bytes(SIZE - 6 * 60 * 2048))
        self.assertEqual((0, 1), self.simple(client))

    def test_next_to_nothing(self) -> None:
        """Who sends a byte now and then is cut, though nobody waits."""
        client = self.begun()
        self.pass_time(3, (client, 1))
        self.assert_dropped(client, "slow")

    def test_one_after_the_other(self) -> None:
        """Who sends little, but whole requests, may be in the middle of one whenever we look."""
        client = self.agree()
        at, data = 0, b"".join(write(cookie, 0, bytes(1000)) for cookie in range(100))
        for _ in range(40):
            self.send(client, data[at : (at := at + 1500)])
            self.clock.advance(30)
        self.assertIsNone(client.lost)

    def test_unread(self) -> None:
        """Who takes of its answers next to nothing is cut, too, and who takes some is not."""
        clients = [self.agree() for _ in range(2)]
        for client in clients:
            client.far.stuck = True
            self.send(client, request(CMD_READ, 1, 0, SIZE))
        streams = [session._stream for session in self.server._sessions]
        for _ in range(20):
            for stream, taken in zip(streams, (1, 30 * 1024), strict=True):
                self.assertTrue(stream.congested or clients[0].lost)
                stream.progress += taken  # as the kernel would tell it
            self.clock.advance(30)
        self.assertEqual([True, False], [bool(client.lost) for client in clients])


class CacheTests(ServerTestCase):
    """CACHE asks for gigabytes with 28 bytes, and is only advice."""

    clock_class = TurnClock
    device_class = SlowDevice

    def caches(self, count: int, length: int) -> bytes:
        """So many of them."""
        return b"".join(request(CMD_CACHE, cookie, 0, length) for cookie in range(count))

    def test_one_at_a_time(self) -> None:
        """However many a client asks for, one small read is in the hands of the device, and all are charged."""
        client, other = self.agree(), self.agree()
        size = self.device.geometry.size
        self.send(client, self.caches(512, size))
        self.assertEqual(1, len(self.device.held))
        self.assertEqual(32 * CACHE_READ_BYTES // size * size, self.server.budget.used_bytes)
        self.device.holding = False
        self.device.release()
        read_bytes: list[int] = []
        read = self.device.read
        self.device.read = lambda offset, length: (read_bytes.append(length), read(offset, length))[1]
        self.send(other, request(CMD_READ, 1, 0, BLOCK))
        self.assertTrue(other.received)
        before = len(read_bytes)
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual([SHARED.move_bytes] * 3, read_bytes[before:])
        self.settle(512 * (size // SHARED.move_bytes) + 100)
        self.assertEqual(512 * 16, len(client.received))
        self.assertEqual(0, self.server.budget.used_bytes)
        self.assertEqual(512 * size + BLOCK, sum(read_bytes) + SHARED.move_bytes)

    def test_gone(self) -> None:
        """Nothing more is read for a client that is gone."""
        client = self.agree()
        self.send(client, self.caches(512, BLOCK))
        client.near.lose(ConnectionError("vanished"))
        self.device.holding = False
        self.device.release()
        self.device.read = None
        self.settle(4)
        self.assertEqual(0, self.server.budget.used_bytes)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_goodbye(self) -> None:
        """Nor for one that has said goodbye: it gets its answers at once."""
        client = self.agree()
        self.send(client, self.caches(512, BLOCK) + request(CMD_DISC, 0))
        self.device.holding = False
        self.device.release()
        self.settle()
        self.assertEqual(512 * 16, len(client.received))
        self.assertIsNotNone(client.lost)


class FailingCacheTests(ServerTestCase):
    """All of them fail."""

    clock_class = TurnClock
    device_class = FailingDevice

    def test_all_fail(self) -> None:
        """Each is answered, one in a turn."""
        client = self.agree()
        client.transport.write(b"".join(request(CMD_CACHE, cookie, 0, BLOCK) for cookie in range(512)))
        self.settle(100)
        self.assertLess(len(client.received), 100 * 16)
        self.settle(500)
        self.assertEqual(512 * 16, len(client.received))


class BudgetTests(SynchronousTestCase):
    """Who waits for memory."""

    def setUp(self) -> None:
        alone = Turn(512, 1 << 20)
        self.budget = Budget(1000, Turns(Clock(), alone))
        self.woken: list[str] = []

    def waits(self, name: str, count: int) -> None:
        """Somebody waits."""
        self.budget.wait(lambda: self.woken.append(name), count)

    def test_room(self) -> None:
        """Who waits is woken when there is room for what it wants, not whenever anything is given back."""
        self.budget.used_bytes = 1000
        self.waits("a", 500)
        self.waits("b", 100)
        for _ in range(4):
            self.budget.give_back(100)
        self.assertEqual([], self.woken)
        self.budget.give_back(100)
        self.assertEqual(["a"], self.woken)
        self.budget.give_back(100)
        self.assertEqual(["a", "b"], self.woken)

    def test_more_than_there_is(self) -> None:
        """Who wants more than there can be is woken when nobody else has anything."""
        self.budget.used_bytes = 1000
        self.waits("a", 5000)
        self.budget.give_back(999)
        self.assertEqual([], self.woken)
        self.budget.give_back(1)
        self.assertEqual(["a"], self.woken)

    def test_gone(self) -> None:
        """Who is gone holds nobody up who waited behind it."""
        self.budget.used_bytes = 800

        def large() -> None:
            self.woken.append("large")

        self.budget.wait(large, 500)
        self.waits("small", 100)
        self.budget.forget(large)
        self.assertEqual(["small"], self.woken)
