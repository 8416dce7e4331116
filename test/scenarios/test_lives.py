"""
Lives of several owners, a tiny cluster in which every moment is tried, bugs put in on purpose, and what was found.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from dst.ownership import Claim
from dst.testing.media import SimulatedMedia
from test.scenarios.checker import Checker, Wrong, fill
from test.scenarios.cluster import LEASE_S, MEDIA_BYTES, Cluster
from test.scenarios.exhaustive import BEGINNINGS, search
from test.scenarios.hunt import SEEDS_MAX, first_found
from test.scenarios.lives import REFUSING_SEEDS, live, options_of, shape_of
from test.scenarios.mutations import RULES, without
from test.scenarios.nodes import Link, Path, Process
from test.scenarios.test_owner_traces import OwnerCase
from test.scenarios.walk import run_many

SEEDS = 25
"""C{python -m test.scenarios.walk} runs more."""

BUGS = {
    "hot_flag": 2,
    "ack_all": 3,
    "clear_stable": 3,
    "clear_flushes_all": 3,
    "mark_first": 2,
    "insync_only": 7,
    "retained": 7,
    "told": 7,
    "reconcile": 10,
    "fence": 19,
    "epoch_leave": 30,
    "lease": 39,
    "one_order": 45,
    "copy_flush": 45,
    "copy_mark": 45,
    "refused_goes_on": REFUSING_SEEDS + 133,
}
"""Bugs put in on purpose, and a seed that is known to find each; another one does where lives have changed since."""


class LivesTests(SynchronousTestCase):
    """Nothing flushed is lost, nothing stale is read, no two owners answer, and everything converges."""

    def all_live(self, first: int) -> None:
        """L{SEEDS} of them."""
        for seed in range(first, first + SEEDS):
            try:
                live(seed)
            except Exception as error:
                raise AssertionError(f"python -m test.scenarios.walk --first {seed}: {error}") from error

    def test_default_mixture(self) -> None:
        """Seeds of every kind of cluster."""
        self.all_live(0)

    def test_storages_that_refuse(self) -> None:
        """Those that answer with errors while they are frozen, and that want some copies."""
        self.all_live(REFUSING_SEEDS)

    def test_went_wrong_once(self) -> None:
        """Lives that found something, each in its time."""
        for seed in (31324, 305142, 307075, 309290, 309699, 407972, 407107, 407258, 531026, 543737, 1012759):
            live(seed)

    def test_every_kind_of_cluster(self) -> None:
        """Two to five members, with and without witnesses, one to three owners, storages below members."""
        shapes = [shape_of(seed) for seed in range(400)]
        self.assertEqual({2, 3, 4, 5}, {shape["members"] for shape in shapes})
        self.assertEqual({0, 1, 2}, {shape["witnesses"] for shape in shapes})
        self.assertEqual({1, 2, 3}, {shape["owners"] for shape in shapes})
        self.assertEqual({"", "mirror", "stripe"}, {each for shape in shapes for each in shape["nested"]})

    def test_every_kind_of_storage(self) -> None:
        """Some answer with errors and want copies; those that are named by number elsewhere are as they were."""
        options = [options_of(REFUSING_SEEDS + seed) for seed in range(400)]
        self.assertEqual({"error"}, {each["on_loss"] for each in options})
        self.assertEqual({1, 2, 3}, {each["minimum_copies"] for each in options})
        for seed in range(12):
            self.assertEqual({"flap_hold_s", "hot_regions"}, set(options_of(seed)))


class CheckerTests(SynchronousTestCase):
    """What may be read after a write that has failed."""

    def setUp(self) -> None:
        self.checker = Checker()
        self.era = self.checker.begin_era(b"i")
        self.sector = range(5, 6)

    def test_read_beside_a_write_that_fails(self) -> None:
        """A read that was asked for before the write failed may have come before it, whenever it is answered."""
        checker = self.checker
        write = checker.write_begins(self.era, self.sector)
        read = checker.read_begins(self.era, self.sector)
        checker.write_ends(write, False)
        checker.read_ends(read, fill(0, 1))
        checker.read_ends(checker.read_begins(self.era, self.sector), fill(write.version, 1))

    def test_write_that_begins_beside_a_read(self) -> None:
        """The same when the read came first."""
        checker = self.checker
        read = checker.read_begins(self.era, self.sector)
        write = checker.write_begins(self.era, self.sector)
        checker.write_ends(write, False)
        checker.read_ends(read, fill(0, 1))
        checker.read_ends(checker.read_begins(self.era, self.sector), fill(write.version, 1))

    def test_read_after_a_write_that_failed(self) -> None:
        """What is read after that stays."""
        checker = self.checker
        write = checker.write_begins(self.era, self.sector)
        checker.write_ends(write, False)
        checker.read_ends(checker.read_begins(self.era, self.sector), fill(0, 1))
        late = checker.read_begins(self.era, self.sector)
        self.assertRaises(Wrong, checker.read_ends, late, fill(write.version, 1))

    def test_read_that_has_seen_it(self) -> None:
        """And who has seen the write does not see what was there before, though they were asked for together."""
        checker = self.checker
        write = checker.write_begins(self.era, self.sector)
        read = checker.read_begins(self.era, self.sector)
        checker.write_ends(write, False)
        checker.read_ends(read, fill(write.version, 1))
        late = checker.read_begins(self.era, self.sector)
        self.assertRaises(Wrong, checker.read_ends, late, fill(0, 1))


class WalkTests(SynchronousTestCase):
    """C{python -m test.scenarios.walk}."""

    def test_time_is_over(self) -> None:
        """No more is begun, also when nothing is under way."""
        printed = StringIO()
        self.patch(sys, "stdout", printed)
        options = Namespace(first=0, seeds=100, jobs=1, seconds=1e-9, one_owner=0, without=[])
        self.assertEqual(0, run_many(options))
        self.assertIn("0 lives, 0 wrong", printed.getvalue())


class BugsTests(SynchronousTestCase):
    """A checker that finds nothing may be blind."""

    def test_bugs_are_found(self) -> None:
        """Each of at least ten, within 200 seeds."""
        self.assertGreaterEqual(len(BUGS), 10)
        for rule, seed in BUGS.items():
            if first_found(rule, seed, 1) is None:
                found = first_found(rule, REFUSING_SEEDS if seed >= REFUSING_SEEDS else 0, SEEDS_MAX)
                self.assertIsNotNone(found, f"no seed finds what breaks without this: {RULES[rule].says}")


class EveryMomentTests(SynchronousTestCase):
    """Two members and a witness, one region, two writes: C{python -m test.scenarios.exhaustive} tries all."""

    def test_single_faults(self) -> None:
        """Each fault, at every third moment of each beginning."""
        found = search(every=3, stride=6, pairs=False)
        self.assertEqual("", found.broken)
        self.assertGreater(found.schedules, 80)
        self.assertGreater(len(found.states), 10)

    def test_pairs_of_faults(self) -> None:
        """A sample of all pairs at all pairs of moments."""
        found = search(every=4, stride=401)
        self.assertEqual("", found.broken)
        self.assertGreater(found.schedules, 40)

    def test_it_finds_something(self) -> None:
        """Without a rule there is a schedule that breaks a promise."""
        for rule, beginning in (("mark_first", "in sync"), ("mark_first", "returning")):
            assert beginning in BEGINNINGS
            with without(rule):
                found = search((beginning,), every=3, pairs=False)
            self.assertNotEqual("", found.broken, f"nothing breaks without this: {RULES[rule].says}")


class FoundByLivesTests(OwnerCase):
    """What lives have found, told as it happens."""

    def test_standby_before_there_was_a_storage(self) -> None:
        """A standby that was there first takes over a storage that was made since."""
        cluster = self.cluster = Cluster(2, 1, 2)
        first, second = cluster.owners
        second.start()
        cluster.advance(3)
        first.start()
        cluster.until("whole", cluster.whole)
        first.kill()
        self.serves(second)
        self.all_is_well()

    def test_read_that_ends_after_the_service(self) -> None:
        """A read is answered, though its owner has lost the storage when the disk answers."""
        cluster = self.served()
        first, second = cluster.owners
        for server in cluster.servers[:2]:
            server.faulty.hold("read")
        reads = [self.asked(first.read(0, 8)) for _ in range(4)]
        cluster.advance(0.01)
        for server in cluster.servers[:2]:
            server.faulty.hold("")  # only those hang
        self.cut(first, 0, 1, 2)
        self.serves(second)
        self.mend(first)
        cluster.advance(3)
        for server in cluster.servers[:2]:
            server.faulty.release()
        cluster.until("answered", lambda: all(read.called for read in reads), 30)
        self.all_is_well()

    def test_loser_lets_go_of_the_witness(self) -> None:
        """An owner that lost the storage while it still had the witness gives that back, too."""
        cluster = self.served()
        first, second = cluster.owners
        self.cut(first, 0, 1)
        self.cut(second, 2)
        self.serves(second)
        self.mend(first)
        self.mend(second)
        self.all_is_well()

    def test_renewed_under_the_claim_before(self) -> None:
        """An owner that has not heard of its own newer claim keeps its lease, as it believes."""
        cluster = self.served()
        for owner in cluster.owners:
            owner.kill()
        cluster.advance(LEASE_S * 2)
        process = Process(cluster.now)
        cluster.processes.append(process)
        link = Link(cluster, process, cluster.servers[1], Path())
        cluster.wait_for(link.open())
        owner_id = b"one and the same"
        cluster.wait_for(link.claim(Claim(9, 5, owner_id), 1.0, "a"))
        assert link.session is not None
        self.successResultOf(link.session.entrance.claim(Claim(10, 7, owner_id), 1.0, "a"))
        cluster.advance(0.9)
        promise = cluster.wait_for(link.renew())
        self.assertGreater(promise.held_s, 0.9)
        cluster.end()

    def test_forgotten_promise_is_no_vote(self) -> None:
        """A node that was replaced votes only after it was asked again, as what it is now."""
        cluster = self.served()
        first, _ = cluster.owners
        assert first.mirror is not None and first.mirror.serving is not None
        configuration = first.mirror.serving.configuration
        old = first.mirror.members[1].node_id
        cluster.servers[1].forget_everything(SimulatedMedia(MEDIA_BYTES, seed=99))
        cluster.servers[1].start()
        fence = cluster.servers[1].fence.identity

        def whole() -> bool:
            self.assertNotIn((old, fence), {(vote.node_id, vote.fence) for vote in configuration.record.votes})
            return cluster.whole() is not None

        cluster.advance(0.1)
        cluster.until("whole", whole)
        self.all_is_well()
