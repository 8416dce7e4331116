"""The fence itself: what is kept when, who is drained, and what a crash leaves, in virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import BadMedia, Fenced, InvalidRequest, MediaError, NoSpace, NotSupported, Unavailable
from dst.interfaces import IReadsNow, IWritesTogether
from dst.label.promise import decode_kept
from dst.nodes.memory import MemoryDevice
from dst.ownership import Claim, Promise
from dst.recovery.fence import DRAIN_S_MAX, NO_EPOCH, Entrance, Fence
from dst.recovery.fenced_device import UnclaimedNode
from dst.recovery.fenced_node import FencedNode
from dst.recovery.state_files import MemoryFiles
from dst.status import LinkState
from dst.testing.faulty import FaultyDevice

A, B = b"a" * 16, b"b" * 16
FIRST, SECOND = Claim(1, 11, A), Claim(2, 22, B)


class SlowFiles(MemoryFiles):
    """
    Stores wait until they are let go on.

    @ivar storing: what waits, the oldest first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.storing: list[tuple[str, bytes, Deferred[None]]] = []

    def store(self, name: str, data: bytes) -> Deferred[None]:
        if not self.slow:
            return super().store(name, data)
        done: Deferred[None] = Deferred()
        self.storing.append((name, data, done))
        return done

    def go_on(self) -> None:
        name, data, done = self.storing.pop(0)
        self.files[name] = data
        done.callback(None)


class User:
    """Something that uses the device; it says how many changes are under way."""

    def __init__(self, fence: Fence) -> None:
        self.changes = 0
        self.moved = 0
        self.entrance: Entrance = fence.enter(lambda: self.changes, self.note)

    def note(self) -> None:
        self.moved += 1

    def may(self, epoch: bytes, change: bool = True) -> bool:
        return self.entrance.refusal(epoch, change) is None

    def end(self) -> None:
        self.changes = 0
        self.entrance.settled()


class FenceCase(SynchronousTestCase):
    """A fence in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.files = SlowFiles()
        self.identities = 0
        self.fence = self.make()
        self.successResultOf(self.fence.open())
        self.a, self.b = User(self.fence), User(self.fence)

    def entropy(self, count: int) -> bytes:
        self.identities += 1
        return bytes([self.identities]) * count

    def make(self) -> Fence:
        return Fence(self.clock, self.clock.seconds, self.files, "m", self.entropy)

    def claim(self, user: User, claim: Claim, lease_s: float = 3.0) -> Deferred[Promise]:
        return user.entrance.claim(claim, lease_s, "")

    def kept(self) -> Claim:
        return decode_kept(self.files.files["m"]).claim


class OpeningTests(FenceCase):
    """What is found when a daemon starts."""

    def test_identity_is_kept_first(self) -> None:
        """A new memory has an identity that is stored before it is said, and is the same ever after."""
        self.assertEqual(b"\x01" * 16, self.fence.identity)
        again = self.make()
        self.successResultOf(again.open())
        self.assertEqual(self.fence.identity, again.identity)
        self.files.files.clear()
        self.files.slow = True
        new = self.make()
        opening = new.open()
        self.assertEqual(b"", new.identity)
        self.files.go_on()
        self.successResultOf(opening)
        self.assertEqual(b"\x02" * 16, new.identity)

    def test_opened_by_many(self) -> None:
        """Whoever opens it gets the same; the file is read once."""
        self.files.files.clear()
        self.files.slow = True
        new = self.make()
        opening = [new.open() for _ in range(3)]
        self.assertEqual(1, len(self.files.storing))
        self.files.go_on()
        for each in opening:
            self.successResultOf(each)

    def test_damaged_at_every_byte(self) -> None:
        """A damaged file is never a new memory: it is refused by its name, kept as it is, and read when mended."""
        self.successResultOf(self.claim(self.a, FIRST))
        good = self.files.files["m"]
        for damaged in (*(good[:end] for end in range(0, len(good), 7)), good[:20] + b"?" + good[21:]):
            self.files.files["m"] = damaged
            fence = self.make()
            error = self.failureResultOf(fence.open(), BadMedia).value
            self.assertIn("m has promised", error.message)
            self.assertEqual((b"", damaged), (fence.identity, self.files.files["m"]))
            self.assertRaises(Unavailable, fence.usable)
            self.files.files["m"] = good
            self.successResultOf(fence.open())
            self.assertEqual(FIRST, fence.promise().claim)

    def test_unreadable(self) -> None:
        """A file that cannot be read is no missing one."""
        self.files.broken = NoSpace("nothing works here")
        fence = self.make()
        self.failureResultOf(fence.open(), NoSpace)
        self.assertIn("nothing works here", str(self.assertRaises(Unavailable, fence.usable)))


class GrantTests(FenceCase):
    """The steps of a grant."""

    def test_stored_before_it_is_answered(self) -> None:
        """A claim is granted when it is stable, and nothing passes before that."""
        self.files.slow = True
        granting = self.claim(self.a, FIRST)
        self.assertNoResult(granting)
        self.assertFalse(self.a.may(FIRST.epoch) or self.b.may(NO_EPOCH))
        self.assertTrue(self.b.may(NO_EPOCH, change=False))
        self.files.go_on()
        self.assertEqual(FIRST, self.successResultOf(granting).claim)
        self.assertTrue(self.a.may(FIRST.epoch))

    def test_crash_at_each_step(self) -> None:
        """Killed while it drains, stores or answers: what is kept is the old promise or the new one, never less."""
        self.successResultOf(self.claim(self.a, FIRST))
        self.clock.advance(3.0)
        self.a.changes = 1
        self.files.slow = True
        self.claim(self.b, SECOND)
        self.assertEqual(FIRST, self.kept())  # killed while draining
        self.a.end()
        self.assertEqual(FIRST, self.kept())  # killed while storing
        self.files.go_on()
        self.assertEqual(SECOND, self.kept())
        restarted = self.make()
        self.successResultOf(restarted.open())
        self.assertEqual(3.0, restarted.promise().held_s)

    def test_cannot_be_stored(self) -> None:
        """A promise that cannot be stored is not made: the claim fails, and the old owner goes on."""
        self.successResultOf(self.claim(self.a, FIRST))
        self.clock.advance(3.0)
        self.files.broken = NoSpace("the disk is full")
        self.failureResultOf(self.claim(self.b, SECOND), NoSpace)
        self.assertTrue(self.a.may(FIRST.epoch))
        self.assertFalse(self.b.may(SECOND.epoch))
        self.assertIs(None, self.fence.pending)
        self.files.broken = None
        self.assertEqual(SECOND, self.successResultOf(self.claim(self.b, SECOND)).claim)

    def test_never_queued(self) -> None:
        """While one claim is being granted another is answered at once with what is promised."""
        self.files.slow = True
        self.claim(self.a, FIRST)
        self.assertEqual(0, self.successResultOf(self.claim(self.b, SECOND)).claim.number)
        self.assertEqual(1, len(self.files.storing))

    def test_stores_in_order(self) -> None:
        """What is stored last is what was promised last, however slow the files are."""
        self.successResultOf(self.claim(self.a, FIRST))
        self.files.slow = True
        releasing = Deferred.fromCoroutine(self.fence.release(FIRST))
        claiming = self.claim(self.b, SECOND)
        self.assertEqual(1, len(self.files.storing))
        self.files.go_on()
        self.successResultOf(releasing)
        self.files.go_on()
        self.assertEqual(SECOND, self.successResultOf(claiming).claim)
        self.assertEqual(SECOND, self.kept())

    def test_drains_everybody(self) -> None:
        """What anybody else has begun is waited for: users without a claim, and users that are gone."""
        third = User(self.fence)
        self.a.changes = third.changes = 1
        granting = self.claim(self.b, SECOND)
        self.assertTrue(self.a.entrance.awaited and third.entrance.awaited)
        self.a.end()
        self.assertNoResult(granting)
        third.changes = 0
        third.entrance.leave()
        self.assertEqual(SECOND, self.successResultOf(granting).claim)
        self.assertFalse(self.a.entrance.awaited or third.entrance.awaited)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_own_changes_without_a_claim(self) -> None:
        """What the claimant itself had begun under no claim is waited for as well."""
        self.a.changes = 1
        granting = self.claim(self.a, FIRST)
        self.assertNoResult(granting)
        self.a.end()
        self.successResultOf(granting)

    def test_drain_is_bounded(self) -> None:
        """After a time the claim is answered, not granted, and everybody is as before."""
        self.a.changes = 1
        granting = self.claim(self.b, SECOND)
        self.clock.advance(DRAIN_S_MAX)
        self.assertEqual(0, self.successResultOf(granting).claim.number)
        self.assertTrue(self.a.may(NO_EPOCH))
        self.assertFalse(self.a.entrance.awaited)
        self.assertEqual(0, decode_kept(self.files.files["m"]).claim.number)

    def test_epochs_of_one_owner(self) -> None:
        """After claims in a row the older epochs still pass where they were claimed, and nowhere else."""
        for number in range(1, 6):
            self.successResultOf(self.claim(self.a, Claim(number, number, A)))
        for number in range(1, 6):
            self.assertTrue(self.a.may(Claim(number, number, A).epoch))
        self.assertFalse(self.b.may(Claim(4, 4, A).epoch))
        self.assertTrue(self.b.may(Claim(5, 5, A).epoch))  # the same owner on another connection

    def test_claims_again_on_a_new_connection(self) -> None:
        """Over a new connection, too, what an owner sent under its claim passes after it has claimed again."""
        self.successResultOf(self.claim(self.a, FIRST))
        self.successResultOf(self.claim(self.b, Claim(2, 2, A)))
        self.assertTrue(self.b.may(FIRST.epoch) and self.b.may(Claim(2, 2, A).epoch))
        self.assertFalse(self.a.may(FIRST.epoch))

    def test_epoch_of_nobody(self) -> None:
        """An epoch that was never granted passes nowhere, reads neither."""
        for granted in (False, True):
            if granted:
                self.successResultOf(self.claim(self.a, FIRST))
            self.assertFalse(self.a.may(SECOND.epoch, change=False))

    def test_wanted_without_a_name(self) -> None:
        """Who wants the storage has to say who that is, in few words."""
        self.assertRaises(InvalidRequest, self.fence.want, "")
        self.assertRaises(InvalidRequest, self.fence.want, "n" * 256)


class ShutNodeTests(FenceCase):
    """A device whose fence cannot be read."""

    def test_not_used(self) -> None:
        """It is away with the reason, is not opened and promises nothing, and is ready when the file is mended."""
        good = self.files.files["m"]
        self.files.files["m"] = good[:30]
        device = MemoryDevice(self.clock, "m", 4096)
        node: Any = FencedNode(self.clock, device, self.make())
        told: list[LinkState] = []
        node.observe(lambda seen: told.append(seen.link))
        self.successResultOf(node.open())
        self.clock.advance(0)
        self.assertEqual((LinkState.AWAY, b""), (node.link, node.fence))
        self.assertIn("damaged", node.reason)
        self.assertIn("damaged", node.status().reason)
        for asked in (node.read(0, 512), node.write(0, b"x")):
            self.failureResultOf(asked, Unavailable)
        for asked in (node.ask(), node.claim(FIRST, 3.0, ""), node.renew(), node.release(), node.want("x")):
            self.failureResultOf(asked, NotSupported)
        self.files.files["m"] = good
        for _ in range(6):
            self.clock.advance(1.0)
        self.assertEqual((LinkState.READY, ""), (node.link, node.reason))
        self.assertEqual([LinkState.AWAY, LinkState.READY], [told[0], told[-1]])
        self.successResultOf(node.close())
        self.clock.advance(0)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.flushLoggedErrors()

    def test_closed_meanwhile(self) -> None:
        """Closed while the file cannot be read, it leaves no timer."""
        self.files.files["m"] = b""
        node: Any = FencedNode(self.clock, MemoryDevice(self.clock, "m", 4096), self.make())
        self.successResultOf(node.open())
        self.successResultOf(node.close())
        self.assertEqual((LinkState.CLOSED, []), (node.link, self.clock.getDelayedCalls()))

    def test_opened_again(self) -> None:
        """A node that was closed and is opened again is behind its fence as before."""
        node: Any = FencedNode(self.clock, MemoryDevice(self.clock, "m", 4096), self.fence)
        self.successResultOf(node.open())
        self.successResultOf(node.close())
        self.successResultOf(self.claim(self.a, FIRST))
        node.open()
        self.clock.advance(0)
        writing = node.write(0, b"x")
        self.assertIsInstance(self.failureResultOf(writing).value, (Fenced, Unavailable))
        self.successResultOf(node.claim(Claim(2, 2, A), 3.0, "again"))

    def test_refused_request_says_who(self) -> None:
        """The error says who has the device."""
        self.successResultOf(self.fence.open())
        self.successResultOf(self.a.entrance.claim(FIRST, 3.0, "alpha"))
        refusal = self.b.entrance.refusal(NO_EPOCH, True)
        self.assertIsInstance(refusal, Fenced)
        assert refusal is not None
        self.assertIn("alpha", refusal.message)


class SlowDevice(MemoryDevice):
    """
    Writes together end when they are told to.

    @ivar writing: those that have not.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, "m", 4096)
        self.writing: list[Deferred[Any]] = []

    def write_together(self, writes: Any) -> Deferred[Any]:
        super().write_together(writes)
        ended: Deferred[Any] = Deferred()
        self.writing.append(ended)
        return ended


class QuickDeviceTests(FenceCase):
    """What a device can do at once, or together, behind its fence."""

    def setUp(self) -> None:
        super().setUp()
        self.device = SlowDevice(self.clock)
        self.device.open()
        self.node: Any = UnclaimedNode(self.clock, self.device, self.fence)

    def test_provided_where_the_device_does(self) -> None:
        """Nobody promises what the device cannot do."""
        plain = FaultyDevice(self.clock, self.device)
        for interface in (IReadsNow, IWritesTogether):
            self.assertTrue(interface.providedBy(self.node))
            self.assertFalse(interface.providedBy(UnclaimedNode(self.clock, plain, self.fence)))

    def test_reads_under_a_claim(self) -> None:
        """Who has no claim reads at once what belongs to somebody else, too."""
        self.successResultOf(self.claim(self.a, FIRST))
        self.assertEqual(bytes(4), self.node.read_now(0, 4))

    def test_refused(self) -> None:
        """Each write is refused while the device belongs to somebody else, and none is done."""
        self.successResultOf(self.claim(self.a, FIRST))
        errors = self.successResultOf(self.node.write_together([(0, b"x"), (1, b"y")]))
        self.assertEqual([Fenced, Fenced], [type(error) for error in errors])
        self.assertEqual([], self.device.writing)
        self.assertEqual(bytes(4), self.node.read_now(0, 4))

    def test_refused_when_given_back(self) -> None:
        """A node object that has given its claim back neither writes together nor stops to read at once."""
        node: Any = FencedNode(self.clock, self.device, self.fence)
        node.open()
        self.successResultOf(node.claim(FIRST, 3.0, ""))
        self.successResultOf(node.release())
        (error,) = self.successResultOf(node.write_together([(0, b"x")]))
        self.assertIsInstance(error, Fenced)
        self.assertEqual(bytes(4), node.read_now(0, 4))
        self.successResultOf(node.close())

    def test_waited_for(self) -> None:
        """A claim waits until all writes that were begun have ended, whether anybody still waits for them or not."""
        told: list[Any] = []
        first, second = (self.node.write_together([(number, b"x")]) for number in (0, 1))
        first.addErrback(lambda failure: told.append(failure.type))
        first.cancel()
        self.assertEqual([CancelledError], told)
        granting = self.claim(self.b, SECOND)
        self.device.writing[0].callback(None)
        self.assertNoResult(granting)
        error = MediaError("bad")
        self.device.writing[1].callback([error])
        self.assertEqual([error], self.successResultOf(second))
        self.assertEqual(SECOND, self.successResultOf(granting).claim)
