"""
Named traces with several owners: each broke a promise in a draft of the rules, and may not with real fences.

As in L{test.scenarios.test_named_traces}, each has a rule without which it must fail.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dst.ownership import Claim
from dst.status import Health
from dst.testing.media import SECTOR_BYTES, SimulatedMedia
from test.scenarios.cluster import LEASE_S, REGION_BYTES, Cluster, Owner
from test.scenarios.nodes import Link, Path, Process
from test.scenarios.test_named_traces import proves

SECTORS = REGION_BYTES // SECTOR_BYTES


class _AllOfIt(random.Random):
    """What is on its way when a connection ends is executed, some seconds later."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """The most."""
        return (start if stop is None else stop) - 1

    def random(self) -> float:
        """Late."""
        return 0.9


class OwnerCase(SynchronousTestCase):
    """The words in which traces are told."""

    def served(self, members: int = 2, witnesses: int = 1, **options: Any) -> Cluster:
        """C{owner0} serves, everybody is in sync and votes; C{owner1} stands by."""
        cluster = self.cluster = Cluster(members, witnesses, 2, **options)
        cluster.random = _AllOfIt()
        first, second = cluster.owners
        first.start()
        cluster.until("whole", cluster.whole)
        second.start()
        cluster.advance(0.2)
        self.write(first)
        cluster.wait_for(self.asked(first.flush()))
        return cluster

    def asked(self, done: Deferred[bool] | None) -> Deferred[bool]:
        """It could be asked for."""
        assert done is not None
        return done

    def write(self, owner: Owner, sector: int = 0) -> None:
        """An acknowledged write."""
        self.assertTrue(self.cluster.wait_for(self.asked(owner.write(sector, 8))))

    def read(self, owner: Owner, sector: int = 0) -> None:
        """A read that is answered, and right."""
        self.assertTrue(self.cluster.wait_for(self.asked(owner.read(sector, 8))))

    def cut(self, owner: Owner, *nodes: int) -> None:
        """Nothing arrives between them, and nobody says so."""
        for n in nodes:
            owner.paths[n].out = owner.paths[n].back = False

    def mend(self, owner: Owner) -> None:
        """Everything arrives."""
        for path in owner.paths:
            path.out = path.back = True
        owner.mended()

    def serves(self, owner: Owner, seconds: float = 20.0) -> None:
        """It owns the storage, soon."""
        self.cluster.until(f"served by {owner.name}", lambda: owner.serves, seconds)

    def settle(self, owner: Owner) -> None:
        """Every region is cleared."""

        def cold() -> bool:
            serving = owner.mirror.serving if owner.mirror is not None else None
            return serving is not None and not serving.hot.regions

        self.cluster.until("cold", cold)
        self.cluster.check_invariant()

    def never_serves(self, owner: Owner) -> None:
        """It stands by, and says why."""
        self.cluster.advance(20)
        assert owner.mirror is not None
        self.assertIsNone(owner.mirror.serving)
        self.assertIs(Health.FROZEN, owner.mirror.status().health)
        self.assertTrue(owner.mirror.status().reason)

    def all_is_well(self) -> None:
        """The invariant holds, everything heals, everybody reads what they may."""
        self.cluster.check_invariant()
        self.cluster.check_convergence()
        self.cluster.end()


class LeaseTests(OwnerCase):
    """Two owners never both answer (R9)."""

    def split(self) -> tuple[Owner, Owner]:
        """C{owner0} is left alone with n0; C{owner1} owns the storage with n1 and the witness, and n0 is too far."""
        cluster = self.served()
        first, second = cluster.owners
        self.cut(first, 1, 2)
        self.cut(second, 0)
        second.links[0].interrupt("the network is gone")
        return first, second

    @proves("lease")
    def test_stale_owner_reads(self) -> None:
        """An owner that is cut off with one copy answers no read any more when another one owns the storage."""
        first, second = self.split()
        self.serves(second)
        self.write(second)
        read = self.asked(first.read(0, 8)) if first.serves else None
        self.cluster.advance(3)
        if read is not None:
            self.assertNoResult(read)
        self.all_is_well()

    @proves("lease_at_end")
    def test_suspend_past_lease(self) -> None:
        """An owner that slept longer than its lease answers nothing in the moment in which it wakes."""
        first, second = self.split()
        self.mend(first)
        first.process.suspended = True
        self.serves(second)
        self.write(second)
        first.process.suspended = False
        for _ in range(4):
            self.asked(first.read(0, 8))
        self.cluster.advance(1)
        self.all_is_well()

    @proves("lease_after_start")
    def test_node_restart_grants_at_once(self) -> None:
        """Nodes that have restarted do not grant what the owner whom they promised themselves to still counts on."""
        first, second = self.split()
        for n in (1, 2):
            self.cluster.servers[n].kill()
            self.cluster.servers[n].start()
        self.cluster.advance(LEASE_S * 0.8)
        if second.serves:
            self.write(second)
        for _ in range(3):
            self.asked(first.read(0, 8))
        self.cluster.advance(0.1)
        self.all_is_well()

    @proves("lease_at_node", hidden_by=("lease_at_claimant",))
    def test_granted_while_the_lease_runs(self) -> None:
        """Nobody is granted anything as long as the owner may still answer."""
        first, second = self.split()
        self.cluster.advance(LEASE_S * 0.8)
        if second.serves:
            self.write(second)
        for _ in range(3):
            self.asked(first.read(0, 8))
        self.cluster.advance(0.1)
        self.all_is_well()


class QuorumTests(OwnerCase):
    """Whose word is needed to own the storage (R4, R11)."""

    def gone_on_without_n1(self) -> tuple[Owner, Owner]:
        """C{owner0} wrote when n1 was away, and died."""
        cluster = self.served()
        first, second = cluster.owners
        second.kill()
        cluster.servers[1].kill()
        self.write(first)
        first.kill()
        return first, second

    @proves("quorum")
    def test_minority_takeover(self) -> None:
        """One vote of three does not make an owner."""
        _, second = self.gone_on_without_n1()
        self.cluster.servers[1].start()
        self.cut(second, 0, 2)
        second.start()
        self.never_serves(second)
        self.all_is_well()

    @proves("adopt_highest")
    def test_last_man_dies_other_returns(self) -> None:
        """The record of him who went on alone is on the witness: the other one, with an older record, waits."""
        _, second = self.gone_on_without_n1()
        self.cluster.servers[0].kill()
        self.cluster.servers[1].start()
        second.start()
        self.never_serves(second)
        self.all_is_well()

    @proves("blank_mute", hidden_by=("record_quorum",))
    def test_blank_votes(self) -> None:
        """A witness that has forgotten everything does not vote with an old member: together they know nothing."""
        _, second = self.gone_on_without_n1()
        servers = self.cluster.servers
        servers[0].kill()
        servers[2].forget_everything(SimulatedMedia(REGION_BYTES, seed=77))
        servers[2].start()
        servers[1].start()
        second.start()
        self.never_serves(second)
        self.all_is_well()

    @proves("claim_again")
    def test_high_promise_on_minority(self) -> None:
        """A member was promised to somebody who got no further: its owner claims above that, and serves on."""
        cluster = self.served()
        first, second = cluster.owners
        assert first.mirror is not None
        serving = first.mirror.serving
        self.cut(first, 1)
        cluster.advance(LEASE_S * 2)
        granted = cluster.wait_for(second.links[1].claim(Claim(9, 1, b"somebody else..."), 0.1, "somebody"))
        self.assertEqual(9, granted.claim.number)
        self.mend(first)
        cluster.until("whole", cluster.whole, 60)
        self.assertIs(serving, first.mirror.serving)
        self.assertGreater(first.mirror.ownership.claim.number, 9)
        self.all_is_well()


class FenceTests(OwnerCase):
    """What an old owner has sent is not executed after a new one was granted the node (R8)."""

    def settled_and_asked(self) -> tuple[Owner, Owner, Any]:
        """Region 0 is cold; C{owner0} has marked it again for a write that is acknowledged."""
        cluster = self.served()
        first, second = cluster.owners
        self.settle(first)
        self.write(first)
        return first, second, cluster.servers[1]

    def taken_over_and_written(self, second: Owner) -> None:
        """C{owner1} makes the copies equal and clears them."""
        self.serves(second)
        self.read(second)
        self.write(second)

    @proves("fence")
    def test_old_owner_write_lands_late(self) -> None:
        """A write of the old owner that was in the network for seconds is refused when it arrives."""
        first, second, _ = self.settled_and_asked()
        first.paths[1].out = False
        self.asked(first.write(0, 8))
        self.cluster.advance(0.02)
        first.kill()
        self.taken_over_and_written(second)
        self.cluster.advance(5)
        for _ in range(4):
            self.read(second)
        self.all_is_well()

    @proves("cut")
    def test_late_write_accepted_at_arrival(self) -> None:
        """A node is not granted before what the old owner had begun there has ended."""
        first, second, server = self.settled_and_asked()
        server.faulty.hold("write")
        self.asked(first.write(0, 8))
        self.cluster.advance(0.02)
        server.faulty.hold("")  # only what has begun hangs
        first.kill()
        self.taken_over_and_written(second)
        server.faulty.release()
        self.cluster.advance(1)
        for _ in range(4):
            self.read(second)
        self.all_is_well()

    @proves("claims_differ")
    def test_equal_claims(self) -> None:
        """Two owners with claims that look the same in a request: only one is granted."""
        cluster = self.served()
        for owner in cluster.owners:
            owner.kill()
        cluster.advance(LEASE_S * 2)
        process = Process(cluster.now)
        cluster.processes.append(process)
        links = [Link(cluster, process, cluster.servers[1], Path()) for _ in range(2)]
        for link in links:
            cluster.wait_for(link.open())
        claims = [Claim(9, 5, owner) for owner in (b"a" * 16, b"b" * 16)]
        cluster.wait_for(links[0].claim(claims[0], 0.1, "a"))
        cluster.advance(0.2)
        granted = cluster.wait_for(links[1].claim(claims[1], 0.1, "b"))
        self.assertEqual(claims[0], granted.claim)
        cluster.end()


class RefusingTests(OwnerCase):
    """A storage that answers with errors while it is frozen."""

    def refused(self) -> tuple[Owner, Deferred[bool]]:
        """A write that n0 has done and n1 has not, when there is no quorum and the client has had an error."""
        cluster = self.served(on_loss="error", freeze_s=0.3)
        first, second = cluster.owners
        second.kill()
        cluster.servers[1].faulty.hold("write")
        asked = self.asked(first.write(0, 8))
        cluster.advance(0.05)
        self.cut(first, 1, 2)
        for n in (1, 2):
            first.links[n].interrupt("the network is gone")
        cluster.until("refused", lambda: asked.called, 20)
        cluster.servers[1].kill()  # what hung there is not done
        cluster.servers[1].start()
        return first, asked

    @proves("refused_goes_on")
    def test_everybody_was_in_sync_all_the_time(self) -> None:
        """No copy differs for ever because nobody has left: what one has done the other does when it is back."""
        first, asked = self.refused()
        self.assertFalse(self.successResultOf(asked))
        first.paths[1].out = first.paths[1].back = True
        first.mended()
        self.cluster.advance(0.5)
        self.mend(first)
        self.serves(first)
        for _ in range(4):
            self.read(first)
        self.settle(first)
        self.all_is_well()


class AgeTests(OwnerCase):
    """Ages of two owners are never equal by chance, and losses are told by value."""

    @proves("tag")
    def test_equal_numbers(self) -> None:
        """Two owners count their epochs from one: a member that only knows the first one's is dirty."""
        cluster = self.served()
        first, second = cluster.owners
        self.settle(first)
        cluster.servers[1].kill()
        first.kill()
        self.serves(second)
        self.write(second)
        self.settle(second)
        cluster.servers[1].start()
        self.all_is_well()

    @proves("told")
    def test_incarnation_in_a_minority_record(self) -> None:
        """
        An owner that never served has written on one vote that data may be lost, and died. Whoever serves then finds
        everything as that record says, and tells its users all the same.
        """
        cluster = self.served()
        first, second = cluster.owners
        cluster.servers[0].kill()
        self.write(first)
        first.kill()
        cluster.servers[1].power_cut("none")
        cluster.servers[1].start()
        before = cluster.checker.told

        def on_one_vote() -> bool:
            labels = second.mirror.members[1].labels if second.mirror is not None else None
            return labels is not None and labels.label is not None and labels.label.record.claim.number > 1

        cluster.servers[2].faulty.hold("write")
        cluster.until("a record on one vote", on_one_vote, 60)
        assert second.mirror is not None
        self.assertIsNone(second.mirror.serving)
        second.kill()
        cluster.servers[2].kill()  # what hangs there is not done
        cluster.servers[2].start()
        first.start()
        self.serves(first)
        self.read(first)
        self.assertEqual(before + 1, cluster.checker.told)
        self.all_is_well()
