"""Tests of who owns a mirror: claims, leases, votes, taking over and handing over."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.mirror import Mirror
from dst.errors import DSTError, Fenced, InvalidRequest
from dst.ownership import Claim
from dst.status import LinkState, MemberState
from dst.testing.media import SimulatedMedia
from test.algorithms.owners import REGION, Owners


def outcome(done: Deferred[Any]) -> list[Any]:
    """What C{done} has fired with, as soon as it has."""
    results: list[Any] = []
    done.addBoth(lambda result: results.append(result.value if isinstance(result, Failure) else result))
    return results


class OwnersCase(SynchronousTestCase):
    """Owners, and what is asked of them again and again."""

    def begin(self, *args: Any, **options: Any) -> tuple[Owners, Mirror]:
        """Owners with the first daemon serving, every vote in the record."""
        world = Owners(*args, **options)
        mirror = world.start(0)
        self.until(world, lambda: len(self.votes(mirror)) == world.members + len(world.media[world.members :]))
        self.until(world, lambda: all(member.state is MemberState.IN_SYNC for member in mirror.members))
        return world, mirror

    def until(self, world: Owners, condition: Any, seconds: float = 30.0) -> float:
        """How long it took until C{condition()}."""
        begun = world.clock.seconds()
        while not condition():
            if world.clock.seconds() > begun + seconds:
                states = [(m.name, m.link.value, m.reason) for m in world.mirrors if m is not None]
                self.fail(f"not within {seconds} s: {states}")
            world.clock.advance(0.01)
        return world.clock.seconds() - begun

    def votes(self, mirror: Mirror) -> list[str]:
        """Whose majority counts now."""
        return [vote.name for vote in mirror.serving.configuration.record.votes] if mirror.serving else []

    def serves(self, mirror: Mirror) -> Any:
        """A condition."""
        return lambda: mirror.link is LinkState.READY


class TakingOverTests(OwnersCase):
    """The owner is gone."""

    def test_killed(self) -> None:
        """A standby serves what was written, some seconds after the owner was killed."""
        world, left = self.begin()
        world.result(left.write(0, b"a" * 4096))
        right = world.start(1)
        world.advance(3.0)
        self.assertEqual(LinkState.AWAY, right.link)
        world.kill(0)
        took = self.until(world, self.serves(right))
        self.assertLess(took, 8.0)
        self.assertEqual(b"a" * 4096, bytes(world.result(right.read(0, 4096))))

    def test_old_owner_comes_back(self) -> None:
        """The old owner finds the storage owned, and stands by; nothing that it does disturbs the new one."""
        world, _ = self.begin()
        right = world.start(1)
        world.kill(0)
        self.until(world, self.serves(right))
        left = world.start(0)
        world.advance(10.0)
        self.assertEqual((LinkState.AWAY, LinkState.READY), (left.link, right.link))
        self.assertIn("right1", left.reason)
        self.assertIsNone(world.result(right.write(0, b"b" * 4096)))

    def test_cut_off(self) -> None:
        """A cut-off owner serves nothing when another can have taken over, and is refused when it is back."""
        world, left = self.begin()
        right = world.start(1)
        world.result(left.write(0, b"a" * 4096))
        world.cut(0)
        self.until(world, self.serves(right))
        stale = outcome(left.read(0, 4096))
        self.assertIsNone(world.result(right.write(0, b"b" * 4096)))
        world.mend(0)
        world.advance(10.0)
        self.assertNotEqual(LinkState.READY, left.link)
        for result in stale:
            self.assertIsInstance(result, DSTError)
        self.assertEqual(b"b" * 4096, bytes(world.result(right.read(0, 4096))))

    def test_cut_off_with_one(self) -> None:
        """Cut off together with one copy it answers no read from there once its lease is over (stale-owner-reads)."""
        world, left = self.begin()
        world.result(left.write(0, b"a" * 4096))
        right = world.start(1)
        world.cut(0, 1, 2)
        world.cut(1, 0)
        self.until(world, self.serves(right))
        self.assertIsNone(world.result(right.write(0, b"b" * 4096)))
        answers = outcome(left.read(0, 4096))
        world.advance(2.0)
        self.assertFalse([answer for answer in answers if not isinstance(answer, DSTError)])

    def test_released(self) -> None:
        """After a clean stop nobody waits for a lease."""
        world, left = self.begin(takeover_s=0.0)
        right = world.start(1)
        world.advance(1.0)
        self.assertIsNone(world.result(left.close()))
        self.assertLess(self.until(world, self.serves(right)), 2.0)

    def test_minority(self) -> None:
        """A daemon that reaches one vote of three takes over nothing (minority-takeover)."""
        world, _ = self.begin()
        right = world.start(1)
        world.cut(1, 0, 2)
        world.kill(0)
        world.advance(20.0)
        self.assertEqual(LinkState.AWAY, right.link)
        self.assertIn("n0", right.reason)

    def test_restarted(self) -> None:
        """The same daemon, started again, need not wait for its own lease."""
        world, _ = self.begin()
        world.kill(0)
        left = world.start(0)
        self.assertLess(self.until(world, self.serves(left)), 1.5)


class HandingOverTests(OwnersCase):
    """A person moves the storage."""

    def test_take_over(self) -> None:
        """The owner ends in order, the other serves, and the first stands by."""
        world, left = self.begin()
        right = world.start(1)
        world.advance(1.0)
        world.result(left.write(0, b"a" * 4096))
        done = outcome(right.take_over())
        took = self.until(world, self.serves(right))
        self.assertLess(took, 4.0)
        self.assertEqual([None], done)
        world.advance(5.0)
        self.assertEqual(LinkState.AWAY, left.link)
        self.assertEqual(b"a" * 4096, bytes(world.result(right.read(0, 4096))))

    def test_owned_already(self) -> None:
        """Whoever serves it cannot take it over."""
        world, left = self.begin()
        self.assertIsInstance(world.result(left.take_over()), InvalidRequest)


class LeaseTests(OwnersCase):
    """The owner and its votes."""

    def test_quorum_lost_and_had_again(self) -> None:
        """Without a quorum nothing is served; with one again everything goes on, and no client sees an error."""
        world, left = self.begin()
        world.cut(0, 1, 2)
        world.advance(5.0)
        self.assertEqual(LinkState.INTERRUPTED, left.link)
        self.assertIn("no quorum", left.reason)
        read, write = outcome(left.read(0, 4096)), outcome(left.write(4096, b"w" * 4096))
        world.advance(5.0)
        self.assertEqual(([], []), (read, write))
        world.mend(0)
        self.until(world, lambda: write and read)
        self.assertEqual([None], write)
        self.assertEqual(bytes(4096), bytes(read[0]))
        self.until(world, lambda: all(member.state is MemberState.IN_SYNC for member in left.members))

    def test_leaves_once(self) -> None:
        """
        A member that cannot be reached while there is no quorum leaves once, however often the other one comes and
        goes; so it is not held back for it.
        """
        world, left = self.begin()
        world.cut(0, 1, 2)
        written = outcome(left.write(0, b"w" * 4096))
        world.advance(5.0)
        self.assertEqual(LinkState.INTERRUPTED, left.link)
        for _ in range(6):
            world.cut(0, 0)
            world.advance(0.3)
            world.links[0][0].plug_in()
            world.advance(0.3)
        world.mend(0)
        self.until(world, lambda: all(member.state is MemberState.IN_SYNC for member in left.members), 5.0)
        self.until(world, lambda: written)
        self.assertEqual([None], written)
        self.assertEqual(1, left.members[1].departures)

    def test_minority_promise(self) -> None:
        """
        A claim that reached a minority is overcome with a higher one, and service does not stop
        (high-promise-on-minority).
        """
        world, left = self.begin()
        keeper = world.keepers[1]
        keeper.claim, keeper.heard, keeper.owner_name = Claim(50, 1, b"x" * 16), world.clock.seconds(), "somebody"
        written = outcome(left.write(0, b"a" * 4096))
        self.until(world, lambda: written)
        self.assertEqual([None], written)
        self.until(world, lambda: all(member.state is MemberState.IN_SYNC for member in left.members))
        assert left.serving is not None
        self.assertGreater(left.serving.configuration.record.claim.number, 50)
        self.assertEqual(LinkState.READY, left.link)

    def test_minority_promise_on_the_last_copy(self) -> None:
        """Where the only copy was claimed, operations wait until it is the owner's again."""
        world, left = self.begin(1, 2)
        keeper = world.keepers[0]
        keeper.claim, keeper.heard, keeper.owner_name = Claim(50, 1, b"x" * 16), world.clock.seconds(), "somebody"
        written = outcome(left.write(0, b"a" * 4096))
        self.until(world, lambda: written)
        self.assertEqual([None], written)


class StandingStillTests(OwnersCase):
    """A process that does nothing for a while, and does not know it."""

    def test_while_it_takes_over(self) -> None:
        """Who wakes up with a storage taken over, and the lease over, serves nothing before it has claimed again."""
        world, left = self.begin()
        ready: list[float] = []
        right = world.start(1)
        right.observe(lambda node: ready.append(world.clock.seconds()) if node.link is LinkState.READY else None)
        serve = right._serve
        late: list[Any] = []
        right._serve = late.append  # type: ignore[method-assign]
        world.kill(0)
        self.until(world, lambda: late)
        now = right.ownership.now
        right.ownership.now = lambda: now() + 60.0
        right._serve = serve  # type: ignore[method-assign]
        serve(late[0])
        self.assertEqual(LinkState.INTERRUPTED, right.link)
        self.assertEqual([], outcome(right.read(0, 4096)))
        self.until(world, self.serves(right))


class VotesTests(OwnersCase):
    """Who votes."""

    def test_own_store_makes_it_odd(self) -> None:
        """Two members without a witness vote together with the owner's own store."""
        world = Owners(2, 0)
        left = world.start(0)
        self.until(world, lambda: len(self.votes(left)) == 3)
        self.assertEqual(["n0", "n1", "state of left (646464)"], sorted(self.votes(left)))

    def test_one_of_two_lost(self) -> None:
        """Then one member can be lost for good, and the owner goes on; over a restart, too."""
        world = Owners(2, 0)
        left = world.start(0)
        self.until(world, lambda: len(self.votes(left)) == 3)
        world.cut(0, 1)
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        world.kill(0)
        left = world.start(0)
        world.cut(0, 1)
        self.until(world, self.serves(left))
        self.assertEqual(b"a" * 4096, bytes(world.result(left.read(0, 4096))))

    def test_blank_witness(self) -> None:
        """A witness that lost its memory is mute, until the owner makes it a new vote (blank-votes)."""
        world, left = self.begin()
        world.kill(0)
        world.media[2] = SimulatedMedia(REGION, seed=99)
        right = world.start(1)
        world.cut(1, 0)
        world.advance(15.0)
        self.assertEqual(LinkState.AWAY, right.link)
        world.mend(1)
        self.until(world, self.serves(right))
        assert right.serving is not None

        def votes_again() -> bool:
            assert right.serving is not None
            ids = {vote.node_id for vote in right.serving.configuration.record.votes}
            return right.witnesses[0].node_id in ids and len(ids) == 3

        self.until(world, votes_again)

    def test_forgotten_promise(self) -> None:
        """A node whose memory of promises is another one becomes a new vote."""
        world, left = self.begin()
        keeper = world.keepers[1]
        keeper.fence, keeper.claim, keeper.released = b"forgotten ......", Claim(), True
        world.links[0][1].fence = keeper.fence
        written = outcome(left.write(0, b"a" * 4096))
        self.until(world, lambda: written)

        def admitted() -> bool:
            assert left.serving is not None
            return keeper.fence in {vote.fence for vote in left.serving.configuration.record.votes}

        self.until(world, admitted)
        self.assertEqual([None], written)
        self.assertEqual(3, len(self.votes(left)))


class ForcedTests(OwnersCase):
    """The votes are gone for good."""

    def test_half_the_votes_dead(self) -> None:
        """
        Without a quorum nothing is changed by hand; a person can say with which copy to go on
        (remove-with-half-the-votes-dead).
        """
        world, left = self.begin(3, 0)
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        world.cut(0, 1, 2)
        self.until(world, lambda: left.link is not LinkState.READY)
        self.assertIsInstance(world.result(left.remove_node("n1")), DSTError)
        left.mark_clean("n0")
        self.until(world, self.serves(left))
        self.assertEqual(b"a" * 4096, bytes(world.result(left.read(0, 4096))))
        assert left.serving is not None
        self.assertEqual(1, len(left.serving.configuration.record.ancestry))


class MinimumCopiesTests(OwnersCase):
    """Changes are to be on more than one copy."""

    def test_waits(self) -> None:
        """With too few copies changes wait, reads do not, and both go on when there are enough."""
        world, left = self.begin(minimum_copies=2)
        world.cut(0, 1)
        world.advance(3.0)
        written, flushed = outcome(left.write(0, b"a" * 4096)), outcome(left.flush())
        read = outcome(left.read(8192, 4096))
        world.advance(3.0)
        self.assertEqual(([], []), (written, flushed))
        self.assertEqual(1, len(read))
        world.mend(0)
        self.until(world, lambda: written and flushed)
        self.assertEqual(([None], [None]), (written, flushed))

    def test_not_acknowledged_on_fewer(self) -> None:
        """What was under way when a copy left is not acknowledged on what is left."""
        world, left = self.begin(minimum_copies=2)
        world.links[0][1].hold()
        written = outcome(left.write(0, b"a" * 4096))
        world.advance(0.5)
        world.cut(0, 1)
        world.advance(5.0)
        self.assertEqual([], written)
        world.links[0][1].go_on()
        world.mend(0)
        self.until(world, lambda: written)


class RefusedTests(OwnersCase):
    """Nodes that are somebody else's."""

    def test_new_storage(self) -> None:
        """No storage is made of a node that another daemon has claimed."""
        world = Owners(2, 1)
        keeper = world.keepers[0]
        keeper.claim, keeper.released, keeper.lease_s = Claim(5, 1, b"x" * 16), False, 1e9
        keeper.heard, keeper.owner_name = 0.0, "somebody"
        left = world.start(0)
        world.advance(5.0)
        self.assertEqual(LinkState.AWAY, left.link)
        self.assertIn("somebody", left.reason)

    def test_standby_makes_none(self) -> None:
        """A standby never makes a new storage."""
        world = Owners(2, 1)
        right = world.start(1)
        world.advance(10.0)
        self.assertEqual(LinkState.AWAY, right.link)
        self.assertIsNone(world.stores[1].kept)
        left = world.start(0)
        self.until(world, self.serves(left))

    def test_fenced_is_told(self) -> None:
        """What an owner had under way when it lost the storage fails as fenced."""
        world, left = self.begin()
        right = world.start(1)
        world.cut(0)
        self.until(world, self.serves(right))
        written = outcome(left.write(0, b"a" * 4096))
        world.mend(0)
        self.until(world, lambda: written)
        self.assertIsInstance(written[0], Fenced)
