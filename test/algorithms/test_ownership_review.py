"""Orders of events in which an owner must not take its own ownership for granted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail

from dst.algorithms.mirror import Mirror
from dst.errors import DSTError, Unavailable
from dst.geometry import BlockStatus
from dst.ownership import Claim
from dst.status import LinkState, MemberState
from test.algorithms.owners import REGION, Owners
from test.algorithms.test_ownership import OwnersCase, outcome
from test.scenarios.invariant import what_stands_on


class SomebodyElseMeanwhileTests(OwnersCase):
    """Another daemon owned the storage, and is gone when the first one looks again."""

    def test_votes_come_back_one_by_one(self) -> None:
        """
        An owner that was cut off claims nothing again of what another one has had: it may have served with it, and
        what it has left is read first.
        """
        world, left = self.begin()
        right = world.start(1)
        world.cut(0, 1, 2)
        world.cut(1, 0)
        self.until(world, self.serves(right))
        self.assertIsNone(world.result(right.write(0, b"b" * 4096)))
        world.kill(1)
        world.advance(10.0)
        world.links[0][2].plug_in()  # the witness, and not the member with the latest data
        read = outcome(left.read(0, 4096))
        world.advance(20.0)
        self.assertFalse([each for each in read if not isinstance(each, DSTError)])
        self.assertNotEqual(LinkState.READY, left.link)
        world.mend(0)
        self.until(world, self.serves(left))
        self.assertEqual(b"b" * 4096, bytes(world.result(left.read(0, 4096))))

    def test_raised_claim_on_few(self) -> None:
        """
        A claim that was raised because of one node is not written into records before a quorum has granted it:
        another owner, who never hears of it, could not make a higher one.
        """
        world, left = self.begin(3, 0)
        right = world.start(1)
        keeper, links = world.keepers[0], world.links[0]
        keeper.claim, keeper.released = Claim(50, 1, b"x" * 16), True

        def lost(*_: object) -> Any:
            for link in links[1:]:
                link.hold("write")  # and so is all that is told them later
            return fail(Unavailable("lost on its way"))

        for link in links[1:]:
            link.claim = lost  # type: ignore[method-assign]
        self.until(world, lambda: keeper.claim.number > 50)
        world.advance(1.0)
        world.cut(0, 1, 2)
        world.cut(1, 0)
        self.until(world, self.serves(right))
        self.assertIsNone(world.result(right.write(0, b"b" * 4096)))
        world.kill(0)
        world.kill(1)
        world.advance(10.0)
        left = world.start(0)
        self.until(world, self.serves(left))
        self.assertEqual(b"b" * 4096, bytes(world.result(left.read(0, 4096))))

    def test_raised_claim_reaches_everybody(self) -> None:
        """Who has not heard of the higher claim is told with the next renewal, and records are made under it then."""
        world, left = self.begin(3, 0)
        keeper, links = world.keepers[0], world.links[0]
        keeper.claim, keeper.released = Claim(50, 1, b"x" * 16), True
        for link in links[1:]:
            link.claim = lambda *_: fail(Unavailable("lost on its way"))  # type: ignore[method-assign]
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        self.until(world, lambda: keeper.claim.number > 50)
        assert left.serving is not None
        self.assertLess(left.serving.configuration.record.claim.number, 50)
        for link in links[1:]:
            del link.claim  # type: ignore[method-assign]
        self.until(world, lambda: left.serving and left.serving.configuration.record.claim.number > 50)
        self.assertEqual({keeper.claim.number}, {each.claim.number for each in world.keepers})
        self.assertEqual(LinkState.READY, left.link)

    def test_last_copy_was_forced_elsewhere(self) -> None:
        """
        The last copy comes back after another daemon went on from it because a person said so: what it holds by then
        is read before it is used.
        """
        world, left = self.begin()
        right = world.start(1)
        world.cut(1, 1, 2)
        world.cut(0, 1)
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        world.cut(0, 0)
        world.links[0][1].plug_in()  # it has missed that, and votes
        world.advance(8.0)
        right.mark_clean("n0")
        self.until(world, self.serves(right))
        self.assertIsNone(world.result(right.write(3 * REGION, b"b" * 4096)))
        self.assertIsNone(world.result(right.close()))
        world.mend(0)
        self.until(world, self.serves(left))
        self.until(world, lambda: all(member.state is MemberState.IN_SYNC for member in left.members))
        for _ in range(4):  # of any copy
            self.assertEqual(b"b" * 4096, bytes(world.result(left.read(3 * REGION, 4096))))

    def test_copied_state_directory(self) -> None:
        """Two daemons that are one owner to the nodes do not go on side by side, and say why."""
        world, left = self.begin()
        world.stores[1].id, world.stores[1].kept = world.stores[0].id, world.stores[0].kept
        begun_again: list[str] = []
        start_again = left.start_again

        def listen(reason: str, *args: Any) -> None:
            begun_again.append(reason)
            start_again(reason, *args)

        left.start_again = listen  # type: ignore[method-assign]
        right = world.start(1)
        self.until(world, self.serves(right))
        self.until(world, lambda: begun_again)
        self.assertIn("copy of this one's state directory", begun_again[0])

    def test_holes_of_yesterday(self) -> None:
        """What is known of blocks without reading them is not said once the lease is over: it may be data now."""
        world, left = self.begin()
        link = world.links[0][0]
        world.cut(0, 1)
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        self.assertNotEqual(BlockStatus.DATA, world.result(left.block_status(3 * REGION, 4096))[0].status)
        link.hold("block_status")
        asked = outcome(left.block_status(3 * REGION, 4096))
        world.cut(0, 2)
        link.renew = lambda: fail(Unavailable("lost on its way"))  # type: ignore[method-assign]
        world.advance(5.0)
        link.go_on()
        self.until(world, lambda: asked)
        self.assertEqual(BlockStatus.DATA, asked[0][0].status)


class NoQuorumTests(OwnersCase):
    """A storage that has no quorum for a long time."""

    def test_last_copy_is_there_all_the_time(self) -> None:
        """What cannot be sent to it yet waits once, however often it is looked at."""
        world, left = self.begin(2, 1, quorum="all")
        link = world.links[0][1]
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        link.hold("write")
        written = outcome(left.write(0, b"b" * 4096))
        world.advance(0.1)
        world.cut(0, 2)
        world.advance(10.0)
        world.cut(0, 1)
        link.go_on()
        world.advance(1.0)
        link.plug_in()
        world.advance(60.0)
        assert left.serving is not None
        self.assertEqual(1, len(left.serving.data_path._unsent))
        self.assertEqual([], written)
        world.mend(0)
        self.until(world, self.serves(left))
        world.advance(1.0)
        self.assertEqual([None], written)
        self.assertEqual({b"b" * 4096}, {media.read(0, 4096) for media in world.media[:2]})
        self.assertEqual(0, len(left.serving.data_path._unsent))


class LateLabelTests(OwnersCase):
    """The label of a member that leaves is read for its vote, and that takes long."""

    def play(self, meanwhile: Callable[[Mirror], None]) -> None:
        """It is in sync again when the answer comes."""
        world, left = self.begin()
        first, second = world.links[0][:2]
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        first.hold("write")
        second.pull()
        world.advance(0.1)
        second.plug_in()
        read = second.read
        late: list[tuple[Deferred[Any], bytes]] = []

        def slowly(offset: int, length: int) -> Deferred[Any]:
            second.read = read  # type: ignore[method-assign]
            late.append((Deferred(), bytes(world.media[1].read(offset, length))))
            return late[0][0]

        second.read = slowly  # type: ignore[method-assign]
        first.go_on()
        self.until(world, lambda: late)
        meanwhile(left)
        self.until(world, self.serves(left))
        self.until(world, lambda: all(member.state is MemberState.IN_SYNC for member in left.members))
        world.advance(10.0)
        before = what_stands_on(world.media[1])
        answer, data = late[0]
        answer.callback(data)
        world.advance(1.0)
        self.assertEqual(before, what_stands_on(world.media[1]))

    def test_started_again(self) -> None:
        """What the storage has written there since it was started again is not replaced by an older label."""
        self.play(lambda mirror: mirror.start_again("a person wants to see it"))

    def test_back_in_sync(self) -> None:
        """Nor what was written there when it came back."""
        self.play(lambda mirror: None)


class AnotherStoragesTests(OwnersCase):
    """Media of another storage, whose owner is down for a moment."""

    def with_stranger(self, index: int) -> tuple[Owners, Mirror, Claim]:
        """One of the nodes is another storage's by mistake; and what it has promised to that one's owner."""
        stranger = Owners(1, 1)
        stranger.stores[0].id = b"somebody else .."
        stranger.start(0)
        stranger.advance(5.0)
        world, _ = self.begin()
        world.kill(0)
        there = min(index, 1)
        world.media[index], world.keepers[index] = stranger.media[there], stranger.keepers[there]
        world.keepers[index].clock, world.keepers[index].heard = world.clock, -1e9
        theirs = world.keepers[index].claim
        return world, world.start(0), theirs

    def test_member(self) -> None:
        """It is refused, and not claimed, so that its owner has it at once when that is back."""
        world, left, theirs = self.with_stranger(1)
        self.until(world, self.serves(left))
        self.until(world, lambda: left.members[1].state is MemberState.REFUSED)
        self.assertIn("another storage", left.members[1].reason)
        world.advance(10.0)
        self.assertEqual(theirs, world.keepers[1].claim)

    def test_witness(self) -> None:
        """A witness likewise."""
        world, left, theirs = self.with_stranger(2)
        self.until(world, self.serves(left))
        world.advance(10.0)
        self.assertIn("another storage", left.witnesses[0].reason)
        self.assertEqual(theirs, world.keepers[2].claim)

    def test_witness_of_a_new_storage(self) -> None:
        """Beside new media it may be all that is left of a storage: no other one is made, and it is not claimed."""
        stranger = Owners(1, 1)
        stranger.stores[0].id = b"somebody else .."
        stranger.start(0)
        stranger.advance(5.0)
        world = Owners(2, 1)
        world.media[2], world.keepers[2] = stranger.media[1], stranger.keepers[1]
        world.keepers[2].clock, world.keepers[2].heard = world.clock, -1e9
        theirs = world.keepers[2].claim
        left = world.start(0)
        world.advance(10.0)
        self.assertEqual(LinkState.AWAY, left.link)
        self.assertIn("is blank", left.reason)
        self.assertEqual(theirs, world.keepers[2].claim)


class ForcedInVainTests(OwnersCase):
    """A person's word that could not be followed."""

    def test_is_forgotten(self) -> None:
        """
        Said while another daemon owned the storage it decides nothing when that one dies much later: the copy it
        names is an old one by then.
        """
        world, left = self.begin()
        right = world.start(1)
        world.advance(1.0)
        right.mark_clean("n1")
        world.advance(60.0)
        world.cut(0, 1)
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        world.kill(0)
        self.until(world, self.serves(right))
        self.assertEqual(b"a" * 4096, bytes(world.result(right.read(0, 4096))))

    def test_waits_for_a_lease(self) -> None:
        """Said a moment after the owner died it is followed when the lease is over."""
        world, left = self.begin(3, 0, lease_s=30.0)
        self.assertIsNone(world.result(left.write(0, b"a" * 4096)))
        right = world.start(1)
        world.cut(1, 1, 2)
        world.kill(0)
        world.advance(1.0)
        right.mark_clean("n0")
        self.until(world, self.serves(right), 60.0)
        self.assertEqual(b"a" * 4096, bytes(world.result(right.read(0, 4096))))

    def test_take_over_that_is_given_up(self) -> None:
        """Whoever asked for a storage and waits no longer does not get it when its owner can be asked later."""
        world, left = self.begin()
        right = world.start(1)
        world.cut(1)
        asked = right.take_over()
        asked.addErrback(lambda failure: failure.trap(CancelledError))
        world.advance(5.0)
        asked.cancel()
        world.mend(1)
        world.advance(10.0)
        self.assertEqual((LinkState.READY, LinkState.AWAY), (left.link, right.link))
