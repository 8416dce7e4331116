"""
The DST server over a device that reads at once and writes together: everything that it does over any other, and what
is special.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dst.errors import MediaError
from dst.exports.dst_server import Limits
from dst.ownership import Claim
from dst.status import Status
from dst.wire.claims import ClaimKind, ClaimRequest, decode_promise, encode_claim
from dst.wire.framing import request_header
from dst.wire.messages import DAMAGED, Flag, Operation
from test.exports import test_dst_server as ordinary
from test.recovery.fencing import QuickWireWorld
from test.transport.serving import QuickDevice, QuickServing

W, R = Operation.WRITE, Operation.READ


class QuickRequestTests(ordinary.RequestTests):
    """L{ordinary.RequestTests}"""

    serving_type = QuickServing


class QuickPredecessorDefectTests(ordinary.PredecessorDefectTests):
    """L{ordinary.PredecessorDefectTests}"""

    serving_type = QuickServing


class QuickBadRequestTests(ordinary.BadRequestTests):
    """L{ordinary.BadRequestTests}"""

    serving_type = QuickServing


class QuickHostileTests(ordinary.HostileTests):
    """L{ordinary.HostileTests}"""

    serving_type = QuickServing


class QuickLimitTests(ordinary.LimitTests):
    """L{ordinary.LimitTests}"""

    serving_type = QuickServing


class QuickMemoryTests(ordinary.MemoryTests):
    """L{ordinary.MemoryTests}"""

    serving_type = QuickServing


class QuickTakeoverTests(ordinary.TakeoverTests):
    """L{ordinary.TakeoverTests}"""

    serving_type = QuickServing


class QuickDeviceChangeTests(ordinary.DeviceChangeTests):
    """L{ordinary.DeviceChangeTests}"""

    serving_type = QuickServing


class QuickDrainTests(ordinary.DrainTests):
    """L{ordinary.DrainTests}"""

    serving_type = QuickServing


class QuickCase(ordinary.ServerCase):
    serving_type = QuickServing
    device: QuickDevice

    def request(self, id: int, kind: int, block: int = 0, data: bytes = b"", **more: object) -> bytes:
        """A request of one block of 512 bytes."""
        return request_header(kind, id, block * 512, 512, data=data, **more) + data  # type: ignore[arg-type]

    def write(self, id: int, block: int = 0, **more: object) -> bytes:
        """A write of a block of the letter that its id has."""
        return self.request(id, W, block, bytes([64 + id]) * 512, **more)

    def say(self, client: ordinary.RawClient, *requests: bytes) -> None:
        """In one piece."""
        client.say(b"".join(requests))
        self.serving.turn()

    def statuses(self, client: ordinary.RawClient, *ids: int) -> list[int | None]:
        answers = [client.answer(id) for id in ids]
        return [None if answer is None else answer.status for answer in answers]

    @property
    def asked(self) -> str:
        """What reached the device, in order: the first letters."""
        return "".join(operation.kind[0] for operation in self.device.history)


class TogetherTests(QuickCase):
    """The writes of one turn."""

    def test_one_batch(self) -> None:
        """What arrives together is written together, in order, and answered in one write; each has its answer."""
        client = self.open()
        before = self.serving.endpoint.pipe.server.deliveries
        self.say(client, *[self.write(id, id % 5) for id in range(2, 22)])
        self.assertEqual([20], self.device.batches)
        self.assertEqual([0] * 20, self.statuses(client, *range(2, 22)))
        self.assertEqual(1, self.serving.endpoint.pipe.server.deliveries - before)
        last = {id % 5: bytes([64 + id]) * 512 for id in range(2, 22)}
        self.assertEqual(b"".join(last[block] for block in range(5)), self.content(0, 5 * 512))

    def test_last_answer(self) -> None:
        """When nothing is in flight any more the answers are sent at once, those of several turns in one write."""
        client = self.open()
        self.device.hold("write")
        self.say(client, self.write(2), self.write(3, 1))
        self.say(client, self.write(4, 2))
        end = self.serving.endpoint.pipe.server
        before = len(end.sent), end.deliveries
        self.device.release()
        self.assertEqual(before[0] + 3 * 64, len(end.sent))
        self.serving.turn()
        self.assertEqual((before[1] + 1, [0, 0, 0]), (end.deliveries, self.statuses(client, 2, 3, 4)))

    def test_answer_among_others(self) -> None:
        """While more is in flight an answer waits for the end of the turn: others may come."""
        client = self.open()
        self.device.hold("write")
        self.say(client, self.write(2))
        self.say(client, self.write(3, 1))
        end = self.serving.endpoint.pipe.server
        before = len(end.sent)
        self.device.release(1)
        self.assertEqual(before, len(end.sent))
        self.serving.turn()
        self.assertEqual([0, None], self.statuses(client, 2, 3))

    def test_reads_between(self) -> None:
        """Reads among them are answered at once and do not take them apart."""
        client = self.open()
        self.device.hold("write")
        self.say(client, self.write(2), self.request(3, R, 7), self.write(4, 1), self.request(5, R, 7))
        self.assertEqual(([2], 2, "rrww"), (self.device.batches, self.device.read_at_once, self.asked))
        self.assertEqual([None, 0, None, 0], self.statuses(client, 2, 3, 4, 5))

    def test_read_not_at_hand(self) -> None:
        """What is not at hand is read as ever, and the others are not kept waiting."""
        client = self.open()
        self.device.hold("read")
        self.say(client, self.request(2, R), self.write(3))
        self.assertEqual([None, 0], self.statuses(client, 2, 3))
        self.device.release()
        self.serving.turn()
        self.assertEqual(([0], 0), (self.statuses(client, 2), self.device.read_at_once))

    def test_everything_else_in_order(self) -> None:
        """All but reads reaches the device after the writes before it, forced writes too."""
        for between in (
            self.request(3, Operation.FLUSH),
            self.request(3, Operation.TRIM),
            self.request(3, Operation.WRITE_ZEROES),
            self.request(3, Operation.BLOCK_STATUS),
            self.request(3, Operation.CHECKSUMS, data=b"\0\2\0\0"),
            self.write(3, flags=Flag.FUA),
        ):
            client = self.open()
            self.device.history.clear()
            self.device.batches.clear()
            self.say(client, self.write(2), between, self.write(4))
            self.assertEqual([1, 1], self.device.batches)
            self.assertEqual([0, 0, 0], self.statuses(client, 2, 3, 4))
            self.assertEqual(("w", "w"), (self.asked[0], self.asked[-1]))
            self.assertEqual(3, len(self.asked))
            self.assertEqual(b"D" * 512, self.content())

    def test_errors(self) -> None:
        """Each write has its own error."""
        client = self.open()
        self.device.fail_next("write", MediaError("bad sector"), skip=1)
        self.say(client, self.write(2, 0), self.write(3, 1), self.write(4, 2))
        self.assertEqual([3], self.device.batches)
        self.assertEqual([0, Status.MEDIA_ERROR, 0], self.statuses(client, 2, 3, 4))
        self.assertEqual(b"B" * 512 + bytes(512) + b"D" * 512, self.content(0, 1536))
        (session,) = self.serving.server.sessions()
        self.assertEqual(
            (3, 1536, 1), (session.traffic.writes, session.traffic.written_bytes, session.traffic.errors)
        )

    def test_bad_ones_between(self) -> None:
        """What is wrong with one is its own fault: damaged, outside, of another length, with unknown flags."""
        client = self.open()
        damaged = self.write(3)[:-1] + b"?"
        outside = self.write(4, 1 << 40)
        short = request_header(W, 5, 0, 512, data=b"x") + b"x"
        strange = self.write(6, flags=4)
        self.say(client, self.write(2), damaged, outside, short, strange, self.request(7, 40), self.write(8, 1))
        self.assertEqual([2], self.device.batches)
        self.assertEqual(
            [0, Status.CORRUPT, Status.OUT_OF_BOUNDS, Status.INVALID, Status.UNSUPPORTED, Status.UNSUPPORTED, 0],
            self.statuses(client, *range(2, 9)),
        )
        answer = client.answer(3)
        assert answer is not None
        self.assertEqual(DAMAGED, answer.flags)

    def test_nonsense_after_them(self) -> None:
        """What had begun when the client broke the protocol is done."""
        client = self.open()
        self.say(client, self.write(2), self.write(3, 1), self.request(4, 70), self.write(5, 2))
        self.assertIsNotNone(client.lost)
        self.assertEqual(b"B" * 512 + b"C" * 512 + bytes(512), self.content(0, 1536))

    def test_in_flight(self) -> None:
        """An operator sees them as in flight, and as written."""
        client = self.open()
        self.device.hold("write")
        self.say(client, self.write(2), self.write(3))
        (session,) = self.serving.server.sessions()
        self.assertEqual((2, 2), (session.in_flight, session.traffic.writes))
        self.assertEqual(1024, self.serving.server.memory.taken)
        self.device.release()
        self.serving.turn()
        self.assertEqual(0, self.serving.server.memory.taken)

    def test_timed(self) -> None:
        """One of many writes, and of many reads, is timed."""
        client = self.open()
        self.device.hold("write")
        self.say(client, *[self.request(1000 + n, R) for n in range(65)], self.write(2), self.write(3))
        self.serving.wait(0.5)
        self.device.release()
        self.serving.turn()
        (session,) = self.serving.server.sessions()
        self.assertEqual((2, 1), (session.traffic.reads_timed, session.traffic.writes_timed))
        self.assertAlmostEqual(0.5, session.traffic.write_s)

    def test_geometry_changed(self) -> None:
        """A device that has become another since the client was told checks every request by itself."""
        client = self.open()
        small = self.serving.memory.geometry.evolve(size=1024)
        self.serving.memory.geometry = self.device.geometry = small
        self.say(client, self.write(2, 1), self.write(3, 2), self.request(4, R, 1), self.request(5, R, 2))
        outside = Status.OUT_OF_BOUNDS
        self.assertEqual([0, outside, 0, outside], self.statuses(client, 2, 3, 4, 5))
        self.assertEqual(([], 0), (self.device.batches, self.device.read_at_once))
        self.device.geometry = self.serving.memory.geometry = small.evolve(size=1 << 20)
        self.say(client, self.write(6, 2), self.request(7, R, 2))
        self.assertEqual(([1], 1), (self.device.batches, self.device.read_at_once))

    def test_random(self) -> None:
        """Whatever is asked, in whatever pieces, the answers and the content are those of any other device."""
        for seed in range(20):
            random = Random(seed)
            stream = b"".join(self.random_request(random, id) for id in range(2, 150))
            cuts = sorted(random.sample(range(len(stream)), 12))
            pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
            found = []
            for serving in (ordinary.Serving(), QuickServing()):
                self.serving, self.device = serving, serving.device  # type: ignore[assignment]
                self.clock = serving.clock
                client = self.open()
                for piece in pieces:
                    self.say(client, piece)
                answers = sorted(
                    (frame.id, frame.kind, frame.status, bytes(frame.data)) for frame in client.frames[1:]
                )
                found.append((answers, self.content(0, 16 * 512)))
                self.assertEqual(0, serving.server.memory.taken)
            self.assertEqual(found[0], found[1])

    def random_request(self, random: Random, id: int) -> bytes:
        block = random.choice([*range(16)] * 4 + [1 << 30])  # reads are of others: they may pass writes of one piece
        kind = random.choice([W, W, W, W, R, R, Operation.FLUSH, Operation.TRIM, Operation.PING])
        data = random.randbytes(512) if kind == W else b""
        block += 16 * (kind == R)
        request = self.request(id, kind, block, data, flags=random.choice([0, 0, 0, 0, 1, 8]))
        return request[:-1] + b"?" if data and random.random() < 0.05 else request


class TogetherLimitTests(QuickCase):
    limits = Limits(requests_max=8, bytes_max=1 << 20)

    def test_limit(self) -> None:
        """No more are handed over together than may be in flight; the others follow when these have ended."""
        client = self.open()
        self.device.hold("write")
        self.say(client, *[self.write(id, id) for id in range(2, 22)])
        self.assertEqual([8], self.device.batches)
        self.device.release(7)
        self.serving.turn()
        self.assertEqual([8], self.device.batches)
        self.device.release()
        self.serving.turn()
        self.assertEqual([0] * 20, self.statuses(client, *range(2, 22)))
        self.assertEqual([8, 8, 4], self.device.batches)


class FencedTests(QuickCase):
    """Under claims."""

    serving_type = QuickWireWorld  # type: ignore[assignment]
    FIRST = Claim(1, 11, b"a" * 16)

    def claiming(self, id: int) -> bytes:
        data = encode_claim(ClaimRequest(ClaimKind.CLAIM, self.FIRST, 3.0, "alpha"))
        return request_header(Operation.CLAIM, id, data=data) + data

    def test_claim_waits(self) -> None:
        """
        A claim among writes waits for those that came before it, which are handed over first, and refuses those that
        come after it under none.
        """
        client = self.open()
        self.device.hold("write")
        self.say(client, self.write(2), self.write(3, 1), self.claiming(4), self.write(5, 2))
        self.assertEqual([2], self.device.batches)
        self.assertEqual([None, None, None, Status.FENCED], self.statuses(client, 2, 3, 4, 5))
        self.device.release(1)
        self.serving.turn()
        self.assertEqual([None, None, None], self.statuses(client, 2, 3, 4))
        self.device.release()
        self.serving.turn()
        self.assertEqual([0, 0, 0], self.statuses(client, 2, 3, 4))
        answer = client.answer(4)
        assert answer is not None
        self.assertEqual(self.FIRST, decode_promise(answer.data).claim)

    def test_epochs(self) -> None:
        """Each write of a turn is let through, or not, by its own epoch."""
        client = self.open()
        self.say(client, self.claiming(2))
        epoch = self.FIRST.epoch
        self.say(client, self.write(3, epoch=epoch), self.write(4, 1), self.write(5, 2, epoch=epoch))
        self.assertEqual([0, Status.FENCED, 0], self.statuses(client, 3, 4, 5))
        self.assertEqual([2], self.device.batches)
        self.say(client, self.request(6, R), self.request(7, R, epoch=epoch), self.request(8, R, epoch=b"x" * 16))
        self.assertEqual([0, 0, Status.FENCED], self.statuses(client, 6, 7, 8))

    def test_claim_of_another(self) -> None:
        """Somebody else's claim waits for all of them, and none that comes later is begun."""
        client, other = self.open(), self.open()
        self.device.hold("write")
        self.say(client, self.write(2), self.write(3, 1))
        self.say(other, self.claiming(4))
        self.say(client, self.write(5, 2), self.write(6, 3))
        self.assertEqual(([2], [None]), (self.device.batches, self.statuses(other, 4)))
        self.assertEqual([Status.FENCED] * 2, self.statuses(client, 5, 6))
        self.device.release()
        self.serving.turn()
        self.assertEqual([0], self.statuses(other, 4))


class LeftoverTests(SynchronousTestCase):
    def test_all_are_repeated(self) -> None:
        """Every test of the server's requests is made over a quick device, too."""
        without_device = {"ServerCase", "RefusalTests"}
        cases = {name for name, case in vars(ordinary).items() if isinstance(case, type) and "Case" in name + "Case"}
        repeated = {
            base.__name__ for case in globals().values() if isinstance(case, type) for base in case.__mro__[1:]
        }
        tests = {
            name
            for name in cases
            if issubclass(getattr(ordinary, name), ordinary.ServerCase) and name not in without_device
        }
        self.assertEqual(set(), tests - repeated)
