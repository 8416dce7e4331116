"""
Mistakes put in on purpose, each of which whole lives must find.

They are those of L{test.scenarios.mutations}, where members are attached directly; here they hide behind sessions,
servers and a network.
That is the test of the judges: a life that finds nothing must mean that there is nothing.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.simulation.faults import catalogue
from dst.simulation.rehearsal import live
from dst.simulation.topologies import built_in
from test.scenarios.mutations import without

LIVES_MAX = 60
"""A mistake that is found later than this in every topology has become too well hidden."""

EASY = (
    "ack_all",
    "age_at_clear",
    "age_cmp",
    "clear_flushes_all",
    "clear_stable",
    "epoch_leave",
    "hot_flag",
    "hot_source",
    "hot_target",
    "mark_first",
    "one_order",
    "page_in_turn",
    "told",
    "zero_proved",
)
"""Found by a mirror of two within a few lives."""


class MutationTests(SynchronousTestCase):
    """Each rule of recovery that is switched off is missed."""

    def test_found(self) -> None:
        """Every one of these is found, and with it switched on again the same life is a good one."""
        of, layout = catalogue("everything"), built_in("mirror-2")
        for rule in EASY:
            with without(rule):
                for seed in range(1, LIVES_MAX + 1):
                    if live(layout, of, seed).failure is not None:
                        break
                else:
                    raise self.failureException(f"nothing was noticed without {rule} in {LIVES_MAX} lives")
            after = live(layout, of, seed).failure
            self.assertIs(None, after, f"seed {seed} goes wrong with {rule}, too: {after}")
