"""
Histories that went wrong once, shortened: each was found by the simulation, and stays.

What is left of them are the faults; the rest of a life has changed since, so each is lived with several seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from dst.simulation.faults import Catalogue, Fault
from dst.simulation.rehearsal import live
from dst.simulation.topologies import built_in

CALM = Catalogue("calm", "nothing goes wrong but what is chosen", 1 / 60, ())


class OnceWrongTests(SynchronousTestCase):
    """Each is named after what was wrong."""

    def lived(self, topology: str, *faults: Fault, seeds: Sequence[int] = (1, 2, 3)) -> None:
        """Nothing goes wrong any more."""
        for seed in seeds:
            outcome = live(built_in(topology), CALM, seed, faults=faults)
            if outcome.failure is not None:
                self.fail(f"seed {seed}: {outcome.failure.word}: {outcome.failure.message}")

    def test_two_leave_together(self) -> None:
        """Two of three members left together, and each waited for the other's vote on the record without it."""
        self.lived(
            "mirror-3-standby",
            Fault(47.955, "power-cut", "n1", 6.3),
            Fault(50.989, "sleep", "n0", 0.555),
            Fault(51.924, "power-cut", "n2", 0.308),
            seeds=(25, 1, 2),
        )

    def test_read_over_a_new_start(self) -> None:
        """A read that was under way when the storage started again was parked where nobody looks any more."""
        self.lived(
            "mirror-2-witness",
            Fault(17.193, "power-cut", "n0", 1.246),
            Fault(17.42, "cut", "n1 and owner", 6.329),
            Fault(18.634, "suspend-member", "owner/vol/on-n0", 1.939),
            seeds=(6, 1, 2),
        )

    def test_stopped_in_the_middle_of_a_claim(self) -> None:
        """A daemon that was stopped while its claim was under way renewed the lease after that."""
        for at_s in (30.0, 30.004, 30.9, 31.004):
            self.lived(
                "mirror-3-standby",
                Fault(20.0, "kill", "owner", 5.0),
                Fault(at_s, "stop", "owner", 3.0),
                Fault(at_s + 0.5, "stop", "standby", 3.0),
                seeds=(1,),
            )

    def test_stopped_while_starting(self) -> None:
        """A daemon that was stopped while it waited for its nodes left the timer of its patience behind."""
        self.lived(
            "mirror-3",
            Fault(4.0, "isolate", "owner", 16.0),
            Fault(5.0, "kill", "owner", 1.0),
            Fault(9.0, "stop", "owner", 2.0),
            seeds=(1, 2),
        )

    def test_stopped_without_a_quorum(self) -> None:
        """A daemon that was stopped while a record got no quorum tried the record again after that."""
        for at_s in (9.0, 9.3, 9.6, 9.9):
            self.lived(
                "mirror-3-standby",
                Fault(5.0, "cut", "owner and n0", 12.0),
                Fault(5.01, "cut", "owner and n1", 12.0),
                Fault(at_s, "stop", "owner", 2.0),
                seeds=(1,),
            )
