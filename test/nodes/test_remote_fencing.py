"""Remote nodes and their claims: connections that break, servers that forget, and much that is on its way."""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DeadlinePassed, DSTError, Fenced, LimitReached, NotSupported, ReadOnly, Unavailable
from dst.exports.dst_server import Limits
from dst.ownership import Claim
from dst.status import LinkState
from dst.wire.claims import ClaimKind, decode_claim
from dst.wire.messages import Operation
from test.recovery.fencing import WireWorld
from test.transport.serving import Serving, frames_in

A, B = b"a" * 16, b"b" * 16
FIRST, SECOND = Claim(1, 11, A), Claim(2, 22, B)


class ClaimedNodeTests(SynchronousTestCase):
    """A node that holds a claim."""

    def setUp(self) -> None:
        self.world = WireWorld()
        self.node = self.world.node()
        self.world.result(self.node.claim(FIRST, 3.0, "alpha"))

    def requests(self, operation: Operation) -> list[bytes]:
        """The epochs of all that was sent of this kind over the newest connection."""
        frames = frames_in(self.world.endpoint.pipe.client.sent)
        return [frame.epoch for frame in frames if frame.kind == operation]

    def test_epoch(self) -> None:
        """Every request carries the claim that was granted last."""
        self.world.result(self.node.write(0, b"x" * 4096))
        self.world.result(self.node.read(0, 4096))
        self.world.result(self.node.claim(Claim(2, 33, A), 3.0, "alpha"))
        self.world.result(self.node.write(0, b"x" * 4096))
        self.assertEqual([FIRST.epoch, Claim(2, 33, A).epoch], self.requests(Operation.WRITE))
        self.assertEqual([FIRST.epoch], self.requests(Operation.READ))

    def test_blip(self) -> None:
        """After a blip what was not answered is sent again under the claim, and executed."""
        self.world.device.hold("write")
        writing = self.node.write(0, b"x" * 4096)
        self.world.turn()
        self.world.endpoint.pipe.cut()
        self.world.turn()
        self.world.device.release()
        self.world.result(writing, 2.0)
        self.assertEqual([FIRST.epoch], self.requests(Operation.WRITE))
        self.assertEqual(FIRST, self.world.result(self.node.renew()).claim)

    def test_claimed_during_a_blip(self) -> None:
        """If somebody else was granted the node meanwhile, what is sent again is refused."""
        other = self.world.node()
        self.world.wait(3.2)
        self.world.endpoint.pipes[0].cut()
        self.world.turn()
        writing = self.node.write(0, b"x" * 4096)
        writing.addErrback(lambda failure: failure)
        self.assertEqual(SECOND, self.world.result(other.claim(SECOND, 3.0, "beta")).claim)
        self.assertRaises(Fenced, self.world.result, writing, 4.0)

    def test_forgetful_server(self) -> None:
        """
        A server that comes back with another memory is not sent again what the old one would have judged: it fails,
        the node's identity changes, and nothing is changed before another claim.
        """
        before = self.node.fence
        self.world.device.hold("write")
        writing = self.node.write(0, b"x" * 4096)
        self.world.turn()
        self.world.files.files.clear()
        self.world.restart()
        self.world.device.release()
        self.assertRaises(Fenced, self.world.result, writing, 4.0)
        self.assertNotEqual(before, self.node.fence)
        self.assertIs(LinkState.READY, self.node.link)
        self.assertRaises(Fenced, self.world.result, self.node.write(0, b"x" * 4096))
        self.world.result(self.node.read(0, 4096))
        self.world.result(self.node.claim(Claim(1, 44, A), 3.0, "alpha"))
        self.world.result(self.node.write(0, b"x" * 4096))

    def test_renewal_passes_what_waits(self) -> None:
        """With hundreds of writes that wait for a disk that hangs, a renewal is answered at once."""
        self.world.device.hold("write")
        writes = [self.node.write(0, b"x" * 4096) for _ in range(600)]
        self.world.turn()
        self.assertEqual(FIRST, self.world.result(self.node.renew()).claim)
        self.world.device.release()
        for each in writes:
            self.world.result(each)

    def test_renewal_has_a_deadline(self) -> None:
        """A server that says nothing makes a renewal fail soon, and with it nothing else."""
        self.world.endpoint.pipe.stall()
        renewing = self.node.renew()
        renewing.addErrback(lambda failure: failure)
        with self.assertRaises(DeadlinePassed):
            self.world.result(renewing, 3.5)

    def test_renewals_are_bounded(self) -> None:
        """They do not pile up."""
        self.world.endpoint.pipe.stall()
        renewing = [self.node.renew() for _ in range(40)]
        failures: list[DSTError] = []
        for each in renewing:
            each.addErrback(lambda failure: failures.append(failure.value))
        self.assertEqual({LimitReached}, set(map(type, failures)))
        self.assertLess(len(failures), 40)

    def test_away(self) -> None:
        """While the server cannot be reached nothing is asked of it."""
        self.world.endpoint.refusing = True
        self.world.endpoint.pipe.cut()
        self.world.wait(8.0)
        for asked in (self.node.ask(), self.node.renew(), self.node.claim(FIRST, 3.0, "")):
            self.failureResultOf(asked, Unavailable)

    def test_what_a_claim_says(self) -> None:
        """The claim, its lease and the owner's name are in the request."""
        frames = frames_in(self.world.endpoint.pipe.client.sent)
        (asked,) = [decode_claim(frame.data) for frame in frames if frame.kind == Operation.CLAIM]
        self.assertEqual((ClaimKind.CLAIM, FIRST, 3.0, "alpha"), (asked.kind, asked.claim, asked.lease_s, asked.name))

    def test_slow_server_answers_claims_first(self) -> None:
        """A server that begins few requests at a time answers a renewal before those that wait in it."""
        world = WireWorld()
        world.limits = Limits(requests_max=2)
        world.server = world.make_server()
        node = world.node()
        world.result(node.claim(FIRST, 3.0, "alpha"))
        world.device.hold("write")
        writes = [node.write(0, b"x" * 4096) for _ in range(20)]
        world.turn()
        self.assertEqual(FIRST, world.result(node.renew()).claim)
        world.device.release()
        for each in writes:
            world.result(each)

    def test_what_waits_when_it_is_given_back(self) -> None:
        """What was asked for under a claim is never sent under none: it would change what is free by then."""
        world = WireWorld()
        world.limits = Limits(requests_max=2)
        world.server = world.make_server()
        node = world.node()
        world.result(node.claim(FIRST, 3.0, "alpha"))
        world.device.hold("write")
        writes = [node.write(n * 4096, b"x" * 4096) for n in range(6)]
        outcomes: list[object] = []
        for each in writes:
            each.addBoth(outcomes.append)
        world.turn()
        self.assertTrue(world.result(node.release()).released)
        world.device.release()
        world.wait(1.0)
        refused = [each for each in outcomes if isinstance(each, Failure) and each.check(Fenced)]
        self.assertEqual((6, 4), (len(outcomes), len(refused)))
        reader = world.node()
        self.assertEqual(bytes(4 * 4096), bytes(world.result(reader.read(2 * 4096, 4 * 4096))))

    def test_what_was_sent_when_it_is_given_back(self) -> None:
        """Nor is it sent again so over another connection."""
        self.world.device.hold("write")
        writing = self.node.write(0, b"x" * 4096)
        outcomes: list[object] = []
        writing.addBoth(outcomes.append)
        self.world.turn()
        self.world.result(self.node.release())
        self.world.device.drop_held(Unavailable("lost"))
        self.world.endpoint.pipe.cut()
        self.world.wait(3.0)
        self.world.device.release()
        self.world.wait(3.0)
        self.assertEqual([], self.requests(Operation.WRITE))
        self.assertEqual(1, len(outcomes))


class UnfencedTests(SynchronousTestCase):
    """Exports that cannot be claimed."""

    def test_no_fence(self) -> None:
        """An export without a fence has no identity, and every question is answered C{NotSupported}."""
        serving = Serving()
        node = serving.open_node()
        self.assertEqual(b"", node.fence)
        for asked in (node.ask(), node.claim(FIRST, 3.0, ""), node.renew(), node.release(), node.want("x")):
            self.failureResultOf(asked, NotSupported)
        serving.result(node.write(0, b"x" * 4096))

    def test_read_only(self) -> None:
        """A client that may not change the export may ask who has it, and not claim it."""
        world = WireWorld()
        node = world.node(export="ro-vol")
        self.assertEqual(0, world.result(node.ask()).claim.number)
        for asked in (node.claim(FIRST, 3.0, ""), node.want("x")):
            self.assertRaises(ReadOnly, world.result, asked)
