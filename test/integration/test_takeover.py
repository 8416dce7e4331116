"""
A storage with two owners, on real processes: one dies, stands still, is cut off, or hands over; the other goes on.

A client that reconnects to whichever owner serves writes all the time, and judges all that it reads: nothing that was
acknowledged is lost, nothing stale is read.  The longest time without an answer is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from test.campaign.cluster import SHAPES, CampaignCluster
from test.campaign.history import BLOCK_BYTES, History
from test.campaign.proxy import CableState
from test.campaign.rounds import HEAL_S_MAX, Round, RoundResult

LEASE_S = 3.0
GAP_S_MAX = 15.0
"""Lease, patience, a client that waits for answers for 1.5 s before it goes to the next door, and a busy machine."""


class _Cluster:
    """A cluster of one shape, with what has been written to it."""

    def __init__(self, case: TestCase, shape: str) -> None:
        self.lines: list[str] = []
        self.cluster = CampaignCluster(SHAPES[shape], Path(case.mktemp()).resolve(), 1)
        case.addCleanup(self.cluster.close)
        self.cluster.start_all()
        owner = self.cluster.until_whole(HEAL_S_MAX)
        tree = self.cluster.status(owner)
        assert tree is not None
        self.history = History(tree["size"] // BLOCK_BYTES)

    def round(self, name: str, scenario: Callable[[Round], None], seed: int = 1) -> RoundResult:
        """One round of the campaign with this scenario."""
        try:
            return Round(self.cluster, self.history, Random(seed), self.lines.append).run(name, scenario)
        except BaseException as error:
            log = "\n".join(self.lines[-60:])
            raise AssertionError(f"{error}\n{log}") from error


class TakeoverTests(TestCase):
    """Two owners, three nodes that lose their power when they are killed; and two nodes with a witness."""

    timeout = 180

    def in_thread(self, work: Callable[[], None]) -> Deferred[None]:
        """The campaign's own client blocks."""
        return deferToThread(work)

    def told(self, name: str, result: RoundResult) -> None:
        """What whoever reads the output wants to know."""
        print(
            f"\n  {name}: {result.answered} requests answered, {result.writes} changes; "
            f"longest time without an answer {result.gap_s:.2f} s; {result.blocks} blocks verified"
        )
        self.assertLess(result.gap_s, GAP_S_MAX)
        self.assertEqual(0, result.lost_sectors)

    def test_owner_killed(self) -> Deferred[None]:
        """C{kill -9} of the owner under load: the standby serves after the lease, with all that was acknowledged."""

        def scenario(round: Round) -> None:
            owner = round.the_owner()
            round.kill(owner)
            round.until_served_by(round.the_other(owner))
            round.busy(200)

        def work() -> None:
            result = _Cluster(self, "standby").round("owner killed", scenario)
            self.told("the owner was killed", result)
            self.assertGreater(result.gap_s, LEASE_S / 2)

        return self.in_thread(work)

    def test_owner_stopped(self) -> Deferred[None]:
        """An owner that stood still past its lease with requests under way changes and answers nothing afterwards."""

        def scenario(round: Round) -> None:
            owner = round.the_owner()
            round.stop(owner)
            round.until_served_by(round.the_other(owner))
            round.busy(300)
            round.go_on(owner)
            round.send_client_to(owner, 1.5)
            round.busy(200)

        return self.in_thread(
            lambda: self.told("the owner stood still", _Cluster(self, "standby").round("stopped", scenario))
        )

    def test_owner_cut_off(self) -> Deferred[None]:
        """An owner that has lost its nodes and not its clients answers nothing that may have been overwritten."""

        def scenario(round: Round) -> None:
            owner = round.the_owner()
            round.isolate(owner, CableState.SILENT)
            round.until_served_by(round.the_other(owner))
            round.busy(300)
            round.send_client_to(owner, 2.0)
            round.isolate(owner, CableState.WHOLE)
            round.send_client_to(owner, 1.0)
            round.busy(200)

        return self.in_thread(
            lambda: self.told("the owner was cut off", _Cluster(self, "standby-witness").round("cut off", scenario))
        )

    def test_handed_over(self) -> Deferred[None]:
        """A person moves the storage to and fro; nobody waits for a lease."""

        def scenario(round: Round) -> None:
            for _ in range(3):
                other = round.the_other(round.the_owner())
                round.take_over(other)
                round.until_served_by(other)
                round.busy(200)

        def work() -> None:
            result = _Cluster(self, "standby-witness").round("handed over", scenario)
            self.told("handed over three times", result)
            self.assertEqual(3, result.faults["taken over by the other owner"])

        return self.in_thread(work)
