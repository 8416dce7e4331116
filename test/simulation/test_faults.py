"""Tests of L{dst.simulation.faults}."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dst.errors import ConfigurationError
from dst.simulation.faults import KINDS, Catalogue, Fault, Rule, Targets, catalogue, catalogue_names, schedule
from dst.simulation.injector import Injector

TARGETS = Targets(("a", "b", "c"), ("a:d.img",), ("c/vol/a",), ("c/vol",))


class CatalogueTests(SynchronousTestCase):
    """Faults by names that people understand."""

    def test_those_that_come_along(self) -> None:
        """Every one can be read, says what it is in a sentence, and something happens in it."""
        names = catalogue_names()
        self.assertLessEqual(
            {"weekend", "power-cut", "flaky-network", "dying-disk", "two-owners", "slow-disk", "full-disk", "split"}
            | {"owner-crash", "everything", "year"},
            set(names),
        )
        for name in names:
            found = catalogue(name)
            self.assertGreater(len(found.title), 20, name)
            faults = [fault for seed in range(20) for fault in schedule(found, TARGETS, found.hours, Random(seed))]
            self.assertGreater(len(faults), 10, name)

    def test_everything(self) -> None:
        """The catalogue called everything has every kind there is."""
        self.assertEqual(set(KINDS), {rule.kind for rule in catalogue("everything").rules})

    def test_every_kind_can_be_done(self) -> None:
        """There is somebody who brings about each kind."""
        for kind in KINDS:
            self.assertTrue(callable(getattr(Injector, "_" + kind.replace("-", "_"), None)), kind)

    def test_own_file(self) -> None:
        """A person's own faults come from a file."""
        path = Path(self.mktemp() + ".toml")
        path.write_text(
            'title = "mine"\nhours = 3\nclustered = 0.5\n[load]\nclients = 3\n'
            '[[fault]]\nkind = "kill"\nper_hour = 2\nlasts_s = [1, 10]\nat_most = 4\n'
            '[[fault]]\nkind = "reset"\nper_hour = 1\n'
        )
        found = catalogue(str(path))
        self.assertEqual((Rule("kill", 2.0, (1.0, 10.0), 4), Rule("reset", 1.0)), found.rules)
        self.assertEqual(("mine", 3.0, 0.5, 3), (found.title, found.hours, found.clustered, found.load.clients))

    def test_bad(self) -> None:
        """What makes no sense is refused, with what was expected."""
        path = Path(self.mktemp() + ".toml")
        for text, words in [
            ("[[fault]]\nkind = 'kil'\nper_hour = 1", "did you mean 'kill'"),
            ("[[fault]]\nkind = 'kill'", "per_hour is None"),
            ("[[fault]]\nkind = 'kill'\nper_hour = -1", "expected a number"),
            ("[[fault]]\nkind = 'kill'\nper_hour = 1\nlasts_s = [5, 1]", "shorter time first"),
            ("[[fault]]\nkind = 'kill'\nper_hour = 1\nlasts = 1", "unknown key 'lasts'"),
            ("hour = 1\nfault = []", "did you mean 'hours'"),
            ("hours = 1", "expected [[fault]]"),
            ("hours = ", "Invalid value"),
        ]:
            path.write_text(text)
            self.assertIn(words, self.assertRaises(ConfigurationError, catalogue, str(path)).message)
        self.assertIn("did you mean 'weekend'", self.assertRaises(ConfigurationError, catalogue, "weekends").message)
        self.assertIn("cannot be read", self.assertRaises(ConfigurationError, catalogue, "/no/such.toml").message)


class ScheduleTests(SynchronousTestCase):
    """Faults drawn from a catalogue."""

    def test_repeatable(self) -> None:
        """The same seed is the same schedule, another one is another."""
        of = catalogue("everything")
        self.assertEqual(schedule(of, TARGETS, 1, Random(1)), schedule(of, TARGETS, 1, Random(1)))
        self.assertNotEqual(schedule(of, TARGETS, 1, Random(1)), schedule(of, TARGETS, 1, Random(2)))

    def test_rates(self) -> None:
        """Faults come as often as was said, last as long, and in order."""
        of = Catalogue("x", "x", 1, (Rule("kill", 10, (1.0, 100.0)), Rule("blackout", 200, (5.0, 5.0), 30)))
        counts = []
        for seed in range(50):
            faults = schedule(of, TARGETS, 2, Random(seed))
            self.assertEqual(sorted(faults), faults)
            kills = [fault for fault in faults if fault.kind == "kill"]
            counts.append(len(kills))
            self.assertTrue(all(1 <= fault.lasts_s <= 100 and fault.target in "abc" for fault in kills))
            self.assertEqual([5.0] * 30, [fault.lasts_s for fault in faults if fault.kind == "blackout"])
        self.assertTrue(17 <= sum(counts) / len(counts) <= 23, counts)

    def test_clustered(self) -> None:
        """Misfortunes never come singly, if that was said."""

        def near(of: Catalogue) -> int:
            faults = schedule(of, TARGETS, 100, Random(3))
            return sum(b.at_s - a.at_s < 10 for a, b in zip(faults, faults[1:], strict=False))

        alone = Catalogue("x", "x", 1, (Rule("kill", 1),))
        self.assertLess(near(alone), 5)
        self.assertGreater(near(Catalogue("x", "x", 1, (Rule("kill", 1),), clustered=0.8)), 50)

    def test_nothing_to_befall(self) -> None:
        """What there is nothing for does not happen."""
        self.assertEqual(
            {"kill", "power-cut", "blackout", "stop", "stall", "sleep", "clock-jump", "isolate", "reset", "split"},
            {fault.kind for fault in schedule(catalogue("everything"), Targets(("a",)), 10, Random(1))},
        )

    def test_sentences(self) -> None:
        """Every kind says what happens, in words."""
        self.assertEqual(
            "the cable between a and b is cut and mended 2.5 s later", Fault(1, "cut", "a and b", 2.5).sentence()
        )
        for fault in schedule(catalogue("everything"), TARGETS, 20, Random(4)):
            self.assertNotIn("{", fault.sentence())
            self.assertEqual(fault.sentence().strip(), fault.sentence())
