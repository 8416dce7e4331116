"""Tests of L{dst.simulation.rehearsal}: whole lives of whole clusters."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from dst.simulation.faults import Catalogue, Fault, Rule, catalogue
from dst.simulation.outcome import Outcome
from dst.simulation.rehearsal import live, schedule_for
from dst.simulation.topologies import built_in
from dst.simulation.verdict import in_words, summary_of, timeline_lines
from dst.simulation.watching import Watcher
from dst.simulation.world import BrokenCode, NoConvergence, WrongData
from test.scenarios.mutations import without

EVERYTHING = catalogue("everything")
CALM = Catalogue("calm", "nothing goes wrong", 1 / 60, ())


class LifeTests(SynchronousTestCase):
    """A minute of a cluster in which everything goes wrong."""

    def good(self, topology: str, seeds: Sequence[int]) -> list[Outcome]:
        """Every one of these lives keeps every promise."""
        outcomes = [live(built_in(topology), EVERYTHING, seed) for seed in seeds]
        for outcome in outcomes:
            if outcome.failure is not None:
                self.fail(f"seed {outcome.seed} of {topology}: {outcome.failure.word}: {outcome.failure.message}")
        return outcomes

    def test_mirror(self) -> None:
        """A mirror of three."""
        outcomes = self.good("mirror-3", range(1, 6))
        self.assertGreater(sum(sum(outcome.counts.values()) for outcome in outcomes), 15)
        self.assertGreater(sum(outcome.operations["answered"] for outcome in outcomes), 300)
        self.assertGreater(sum(outcome.regions_compared for outcome in outcomes), 500)
        self.assertGreater(sum(len(outcome.resyncs) for outcome in outcomes), 2)
        self.assertTrue(all(outcome.simulated_s > 60 for outcome in outcomes))
        missed = sum(outcome.missed_bytes for outcome in outcomes)
        self.assertGreater(missed, 0)
        self.assertLess(sum(outcome.recopied_bytes for outcome in outcomes), 4 * missed)

    def test_others(self) -> None:
        """A disk here and one there; a tree of storages; a stripe of mirrors."""
        self.good("mirror-2", range(1, 4))
        self.good("tree", range(1, 3))
        self.good("stripe-of-mirrors", range(1, 3))

    def test_calm(self) -> None:
        """A life without a fault has no outage, no resync, and no failed operation."""
        outcome = live(built_in("mirror-3"), CALM, 1)
        self.assertIs(None, outcome.failure)
        self.assertEqual(([], [], 0), (outcome.outages, outcome.resyncs, outcome.operations.get("failed", 0)))

    def test_repeatable(self) -> None:
        """The same seed is the same life, event for event; another one is another."""
        traces: list[list[str]] = [[], [], []]
        for trace, seed in zip(traces, (4, 4, 5), strict=True):
            live(built_in("mirror-2"), EVERYTHING, seed, trace=trace.append)
        self.assertGreater(len(traces[0]), 2000)
        self.assertEqual(traces[0], traces[1])
        self.assertNotEqual(traces[0], traces[2])

    def test_chosen_faults(self) -> None:
        """Somebody may choose the faults; then these happen and no others, and the timeline tells of them."""
        faults = [Fault(5.0, "power-cut", "n0", 3.0), Fault(20.0, "kill", "owner", 2.0)]
        outcome = live(built_in("mirror-3"), CALM, 1, faults=faults)
        self.assertIs(None, outcome.failure)
        self.assertEqual({"power-cut": 1, "kill": 1}, outcome.counts)
        text = "\n".join(timeline_lines(outcome))
        self.assertIn("the machine of n0 loses its power, which is back 3.0 s later", text)
        self.assertIn("vol does not serve", text)
        outage = outcome.outages[-1]
        self.assertTrue(1.5 < outage.lasts_s < 8, outage)

    def test_fault_without_target(self) -> None:
        """A fault that finds nothing to befall is counted as such."""
        outcome = live(built_in("mirror-3"), CALM, 1, faults=[Fault(1.0, "disk-gone", "nowhere:x.img", 2.0)])
        self.assertEqual(({}, {"disk-gone": 1}), (outcome.counts, outcome.refused))

    def test_collector(self) -> None:
        """The collector of garbage is as it was before, whatever happened."""
        self.assertTrue(gc.isenabled())
        live(built_in("mirror-2"), CALM, 1)
        self.assertTrue(gc.isenabled())


class SkippingTests(SynchronousTestCase):
    """Long quiet times are skipped."""

    OF = Catalogue("rare", "two faults in a week", 168, (Rule("kill", 1.0, (5.0, 5.0), at_most=2),))

    def test_week(self) -> None:
        """A week with two faults takes minutes of simulated time; the rest is skipped, and counts as time."""
        outcome = live(built_in("mirror-3"), self.OF, 1)
        self.assertIs(None, outcome.failure)
        self.assertGreater(outcome.simulated_s, 168 * 3600)
        self.assertLess(outcome.simulated_s - outcome.skipped_s, 300)
        self.assertEqual({"kill": 2}, outcome.counts)
        summary = summary_of([outcome])
        self.assertGreater(summary.availability, 0.9999)

    def test_not_while_something_is_wrong(self) -> None:
        """No time is skipped while a fault goes on."""
        faults = [Fault(3600.0, "isolate", "n0", 200.0)]
        outcome = live(built_in("mirror-3"), self.OF, 1, hours=2, faults=faults)
        self.assertGreater(outcome.simulated_s - outcome.skipped_s, 200)


class JudgementTests(SynchronousTestCase):
    """It notices what is wrong."""

    def found(self, rule: str, topology: str, seeds: Sequence[int]) -> Outcome:
        """Without a rule of recovery one of these lives goes wrong."""
        with without(rule):
            for seed in seeds:
                outcome = live(built_in(topology), EVERYTHING, seed)
                if outcome.failure is not None:
                    return outcome
        raise self.failureException(f"nothing was noticed without {rule} in {len(seeds)} lives of {topology}")

    def test_wrong_data(self) -> None:
        """Without the mark before the data, without the flush of all, or with flags alone, data goes wrong."""
        for rule in ("hot_flag", "clear_stable", "age_cmp"):
            outcome = self.found(rule, "mirror-2", range(1, 20))
            self.assertIsInstance(outcome.failure, WrongData)
            self.assertEqual(1, summary_of([outcome]).exit_code)

    def test_no_convergence(self) -> None:
        """Where waiting operations are forgotten, not all is answered."""
        outcome = self.found("evict_lets_in", "mirror-2", range(1, 20))
        self.assertIsInstance(outcome.failure, NoConvergence)
        self.assertEqual(2, summary_of([outcome]).exit_code)
        self.assertIn("operations wait", outcome.failure.message)

    def test_broken_code(self) -> None:
        """A failure that the code logs and did not expect ends the life."""

        def watch(self: object) -> None:
            try:
                raise ValueError("surprise")
            except ValueError:
                Logger().failure("something nobody expected")

        self.patch(Watcher, "watch", watch)
        outcome = live(built_in("mirror-2"), CALM, 1)
        self.flushLoggedErrors(ValueError)
        self.assertIsInstance(outcome.failure, BrokenCode)
        self.assertIn("something nobody expected: ValueError: surprise", outcome.failure.message)


class VerdictTests(SynchronousTestCase):
    """What many lives say together."""

    def test_words(self) -> None:
        """The verdict says what was tried, how available it was, how long resyncs took, and what went wrong."""
        outcomes = [live(built_in("mirror-3"), EVERYTHING, seed) for seed in (1, 2, 3)]
        summary = summary_of(outcomes)
        self.assertEqual((3, 0, 0), (summary.lives, summary.failed, summary.exit_code))
        text = "\n".join(in_words(summary))
        for words in ("Good: in all 3 lives", "operations answered", "Available: ", "Resyncs: ", "Faults: "):
            self.assertIn(words, text)
        self.assertEqual(sum(sum(outcome.counts.values()) for outcome in outcomes), sum(summary.faults.values()))

    def test_bad_words(self) -> None:
        """A broken promise comes first, and wrong data outweighs slow healing."""
        failures = (None, NoConvergence("stuck"), WrongData("lost"))
        outcomes = [Outcome(seed, [], failure) for seed, failure in enumerate(failures)]
        summary = summary_of(outcomes)
        self.assertEqual((2, 1), (summary.failed, summary.exit_code))
        self.assertTrue(in_words(summary)[0].startswith("NOT GOOD: in 2 of 3 lives"))
        self.assertEqual(2, summary_of(outcomes[:2]).exit_code)

    def test_repeatable_schedule(self) -> None:
        """The faults of a seed are known before it is lived."""
        layout = built_in("mirror-3")
        self.assertEqual(schedule_for(layout, EVERYTHING, 9, 1), schedule_for(layout, EVERYTHING, 9, 1))
