"""What is read from fio and from the system, and what is made of it."""

from __future__ import annotations

import json
import os
import time

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.fio import Cell, parse_job, row_options
from benchmarks.flat import Flat
from benchmarks.groups import GROUPS, Group
from benchmarks.machine import busy, source_digest
from benchmarks.processes import Failed
from benchmarks.report import Results, goal_lines
from benchmarks.rows import COPY, PLAIN_ROWS, Row
from benchmarks.subjects import Kind, Served, missing
from benchmarks.usage import Watch, family, parse_peak_bytes, parse_stat

ROW = Row(True, 4096, 32)


def unstarted(*arguments: object) -> Served:
    """The kinds of these tests are only talked about."""
    raise AssertionError("it is not to be started")


OURS = Kind("DST", True, (), unstarted)
SLOW = Kind("slow", False, (), unstarted)
FAST = Kind("fast", False, (), unstarted)
REFERENCE = Kind("other", False, (), unstarted, reference=True)


def cell(per_s: float, *, server_s: float = 1.0, client_s: float = 2.0, peak_bytes: int = 1 << 20) -> Cell:
    """One measurement of a GiB."""
    return Cell(per_s, 1 << 30, server_s, client_s, peak_bytes)


def results(goal: float = 1.0, **rounds: list[float]) -> Results:
    """A group with one row, and what was measured for each server."""
    kinds = [kind for kind in (OURS, SLOW, FAST, REFERENCE) if kind.name in rounds]
    found = Results(Group("group", "it", tuple(kinds), (ROW,), {ROW: goal}), kinds, [ROW])
    for kind in kinds:
        for per_s in rounds[kind.name]:
            found.add(ROW, kind, cell(per_s))
    return found


class FioTests(SynchronousTestCase):
    """Fio's report."""

    def test_lines_before(self) -> None:
        """Text before the report does not matter."""
        report = {"jobs": [{"error": 0, "read": {"iops": 5.0}}]}
        job = parse_job("fio: a warning\n" + json.dumps(report), "nbd://x")
        self.assertEqual({"iops": 5.0}, job["read"])

    def test_offsets(self) -> None:
        """fio is told of the distance between blocks where there is one."""
        self.assertIn("--blockalign=65536", row_options(Row(True, 4096, 32, align_bytes=65536), 1.0))
        self.assertFalse([word for word in row_options(Row(True, 4096, 32), 1.0) if "align" in word])

    def test_runtime(self) -> None:
        """fio is told in milliseconds how long: of seconds it takes whole ones only."""
        told = [row_options(ROW, seconds)[-1] for seconds in (0.3, 0.7, 1.6, 5)]
        self.assertEqual([f"--runtime={ms}ms" for ms in (300, 700, 1600, 5000)], told)

    def test_error(self) -> None:
        """An error of the job ends the benchmark, with the server's address."""
        error = self.assertRaises(Failed, parse_job, json.dumps({"jobs": [{"error": 5}]}), "nbd://x")
        self.assertIn("nbd://x", str(error))

    def test_no_report(self) -> None:
        """Nothing, half a report and a report without a job are refused."""
        for text in ("", "fio: killed", '{"jobs": [{', '{"jobs": []}', "{}"):
            self.assertRaises(Failed, parse_job, text, "nbd://x")


class UsageTests(SynchronousTestCase):
    """What processes take."""

    def test_stat(self) -> None:
        """A program's name may look like what comes after it."""
        ticks = os.sysconf("SC_CLK_TCK")
        text = f"17 (a) S 1 (b) S 4 5 6 7 8 9 10 11 12 13 {3 * ticks} {2 * ticks} 0 0 20 0\n"
        self.assertEqual((4, 5.0), parse_stat(text))

    def test_peak(self) -> None:
        """The most is told in KiB; who has ended has none."""
        self.assertEqual(2048 * 1024, parse_peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 7 kB\n"))
        self.assertEqual(0, parse_peak_bytes("Name:\tx\nState:\tZ (zombie)\n"))

    def test_family(self) -> None:
        """Children and their children belong to it, others and roots that have ended do not."""
        self.assertEqual({2, 4, 5}, family({1: 0, 2: 1, 3: 1, 4: 2, 5: 4, 6: 3}, [2, 99]))

    def test_watch(self) -> None:
        """What this process takes meanwhile is seen, and what it took before is not."""
        with Watch([os.getpid()]) as watch:
            begun = time.process_time()
            while time.process_time() - begun < 0.1:
                pass
            most = time.process_time() - begun
        self.assertGreaterEqual(watch.usage.processor_s, 0.08)
        self.assertLessEqual(watch.usage.processor_s, most + 1.0)
        self.assertGreater(watch.usage.peak_bytes, 1 << 20)


class ResultsTests(SynchronousTestCase):
    """Medians, ratios and goals."""

    def test_median_and_spread(self) -> None:
        """The median is told, and how far the rounds are apart."""
        found = results(DST=[100.0, 90.0, 500.0])
        self.assertEqual(100.0, found.per_s(ROW, OURS))
        self.assertAlmostEqual(4.1, found.spread(ROW, OURS))

    def test_ratio_of_neighbours(self) -> None:
        """Rounds are compared with each other: a machine that gets slower for all does not change the ratio."""
        ratio = results(DST=[200.0, 20.0, 2.0], fast=[100.0, 10.0, 1.0]).ratio(ROW)
        assert ratio is not None
        self.assertEqual(("fast", 2.0, 2.0, 2.0), (ratio.peer, ratio.middle, ratio.least, ratio.most))

    def test_best_peer(self) -> None:
        """It is the fastest peer that counts, and no reference."""
        ratio = results(DST=[6.0, 9.0, 12.0], slow=[1.0] * 3, fast=[3.0] * 3, other=[50.0] * 3).ratio(ROW)
        assert ratio is not None
        self.assertEqual(("fast", 3.0, 2.0, 4.0), (ratio.peer, ratio.middle, ratio.least, ratio.most))

    def test_nobody_to_compare_with(self) -> None:
        """Without a peer there is no ratio and no goal is met or missed."""
        found = results(DST=[1.0], other=[1.0])
        self.assertIsNone(found.ratio(ROW))
        self.assertEqual([], found.figures())
        self.assertNotIn("met", found.table().lower())

    def test_goals(self) -> None:
        """A figure that is exactly the goal meets it; one below does not, and the table says so."""
        met, missed = results(2.0, DST=[2.0], fast=[1.0]), results(2.0, DST=[1.99], fast=[1.0])
        self.assertEqual([True, False], [each.figures()[0][3] for each in (met, missed)])
        self.assertIn("NOT MET", missed.table())
        self.assertNotIn("NOT MET", met.table())
        text = goal_lines([*met.figures(), *missed.figures()])
        self.assertIn("1 of 2 goals met", text)

    def test_costs(self) -> None:
        """Processor time is for a GiB over all rounds; memory is the most of any."""
        found = results(DST=[])
        found.add(ROW, OURS, cell(1.0, server_s=1.0, client_s=4.0, peak_bytes=5 << 20))
        found.add(ROW, OURS, cell(1.0, server_s=2.0, client_s=5.0, peak_bytes=3 << 20))
        self.assertEqual((1.5, 4.5), found.processor_s_per_gib(ROW, OURS))
        self.assertEqual(5 << 20, found.peak_bytes(ROW, OURS))
        self.assertIn("1.50 + 4.50; 5", found.costs())

    def test_plain(self) -> None:
        """The JSON has every round, the ratio and whether the goal is met."""
        plain = json.loads(json.dumps(results(1.5, DST=[4.0, 2.0], fast=[2.0, 2.0]).plain()))
        (row,) = plain["rows"]
        self.assertEqual([4.0, 2.0], [each["per_s"] for each in row["servers"]["DST"]["rounds"]])
        self.assertEqual((1.5, True, 1.5), (row["ratio"]["middle"], row["ratio"]["met"], row["goal"]))

    def test_memory(self) -> None:
        """Memory that grows is a goal that is not met."""
        figures = Flat("DST", 100, 110, 120).figures()
        self.assertEqual([("1.10", True), ("1.20", False)], [(figure, met) for _name, figure, _goal, met in figures])


class GroupTests(SynchronousTestCase):
    """What is compared."""

    def test_goals(self) -> None:
        """Every row of every group has a goal, one server of ours and one peer at least."""
        for group in GROUPS.values():
            self.assertEqual(set(group.rows), set(group.goals), group.name)
            self.assertEqual(1, sum(kind.ours for kind in group.kinds), group.name)
            self.assertTrue(any(not kind.ours and not kind.reference for kind in group.kinds), group.name)
            self.assertEqual(len(group.kinds), len({kind.name for kind in group.kinds}), group.name)
            self.assertEqual(len(group.rows), len({row.name for row in group.rows}), group.name)

    def test_names(self) -> None:
        """A row is called what it does."""
        self.assertEqual("read 4 KiB depth 1", PLAIN_ROWS[0].name)
        self.assertEqual("write 1 MiB depth 8", PLAIN_ROWS[-1].name)
        self.assertEqual("read 4 KiB depth 4, 16 clients", GROUPS["many"].rows[0].name)
        self.assertEqual((COPY,), GROUPS["resync"].rows)

    def test_missing(self) -> None:
        """A program that is not there is named, and so is another reason."""
        self.assertEqual("", missing(OURS))
        self.assertIn("no-such-program", missing(Kind("x", False, ("no-such-program",), unstarted)))
        self.assertEqual("not today", missing(Kind("x", False, (), unstarted, refusal=lambda: "not today")))


class MachineTests(SynchronousTestCase):
    """Where figures come from."""

    def test_busy(self) -> None:
        """The more processors the more load is none."""
        self.assertEqual([False, True, False], [busy(0.5, 2), busy(0.7, 2), busy(0.7, 8)])

    def test_digest(self) -> None:
        """The same code has the same digest."""
        self.assertEqual(source_digest(), source_digest())
