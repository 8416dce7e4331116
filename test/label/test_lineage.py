"""Tests of L{dst.label.lineage}."""

from __future__ import annotations

import random

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.label.format import ANCESTRY_MAX, Claim, Epoch, Fork, Label, Record
from dst.label.lineage import Lineage, bytes_discarded, common_ancestry, forced_ancestry, heads, lineage
from dst.label.region_table import FIRST_AGE, RegionTable
from dst.ownership import NO_CLAIM
from test.label.examples import STORAGE_ID, numbered
from test.label.test_verdict import label_of, record_of

SAME, ANCESTOR, DESCENDANT, DIVERGED = Lineage.SAME, Lineage.ANCESTOR, Lineage.DESCENDANT, Lineage.DIVERGED

OPPOSITE = {SAME: SAME, ANCESTOR: DESCENDANT, DESCENDANT: ANCESTOR, DIVERGED: DIVERGED}


def at(number: int, sequence: int, *forks: Fork) -> Record:
    """A record of that order, behind these forks."""
    return evolve(record_of(number=number, sequence=sequence), ancestry=forks)


def fork(number: int, sequence: int, tag: int) -> Fork:
    """A person made the storage go on from that record, under the claim with C{tag}."""
    return Fork(Claim(number, 5, numbered(0x70)), sequence, tag)


class LineageTests(SynchronousTestCase):
    """Of any two records it can be said which came of which."""

    def test_one_line(self) -> None:
        """Without a fork between them the order decides."""
        for forks in ((), (fork(1, 1, 7),)):
            self.assertIs(SAME, lineage(at(3, 2, *forks), at(3, 2, *forks)))
            self.assertIs(ANCESTOR, lineage(at(3, 1, *forks), at(3, 2, *forks)))
            self.assertIs(ANCESTOR, lineage(at(2, 9, *forks), at(3, 1, *forks)))
            self.assertIs(DESCENDANT, lineage(at(4, 1, *forks), at(3, 2, *forks)))

    def test_before_and_behind_a_fork(self) -> None:
        """What was written before the fork is an ancestor of what was written behind it, up to the forked record."""
        behind = at(6, 1, fork(5, 3, 7))
        for record in (at(1, 1), at(5, 1), at(5, 3)):
            self.assertIs(ANCESTOR, lineage(record, behind))
            self.assertIs(DESCENDANT, lineage(behind, record))

    def test_line_that_went_on(self) -> None:
        """What the old line wrote after the forked record has diverged, however high or low its claim is."""
        for behind in (at(6, 1, fork(5, 3, 7)), at(99, 1, fork(5, 3, 7))):
            for record in (at(5, 4), at(6, 1), at(98, 1)):
                self.assertIs(DIVERGED, lineage(record, behind))
                self.assertIs(DIVERGED, lineage(behind, record))

    def test_two_forks_of_one_record(self) -> None:
        """Two persons who force one record at two places make two lines, which differ by the tag."""
        self.assertIs(DIVERGED, lineage(at(6, 1, fork(5, 3, 7)), at(6, 1, fork(5, 3, 8))))
        self.assertIs(DIVERGED, lineage(at(6, 1, fork(5, 3, 7)), at(6, 1, fork(5, 2, 7))))

    def test_fork_of_a_fork(self) -> None:
        """A line may be left again: what is between two forks, and before both, is told apart."""
        behind = at(9, 1, fork(5, 3, 7), fork(7, 2, 8))
        self.assertIs(ANCESTOR, lineage(at(5, 3), behind))
        self.assertIs(DIVERGED, lineage(at(5, 4), behind))
        self.assertIs(ANCESTOR, lineage(at(7, 2, fork(5, 3, 7)), behind))
        self.assertIs(DIVERGED, lineage(at(7, 3, fork(5, 3, 7)), behind))
        self.assertEqual(1, common_ancestry(at(7, 2, fork(5, 3, 7)), behind))

    def test_heads(self) -> None:
        """One head for each line, the highest first; ancestors of any are none."""
        main, side = at(8, 1), at(6, 4, fork(5, 3, 7))
        seen = [at(5, 2), at(5, 3), at(7, 1), main, at(6, 1, fork(5, 3, 7)), side, at(6, 4, fork(5, 3, 7))]
        for seed in range(40):
            self.assertEqual((main, side), heads(random.Random(seed).sample(seen, len(seen))))
        self.assertEqual((side,), heads([side, at(5, 3), at(1, 1)]))
        self.assertEqual((), heads([]))


class HistoryTests(SynchronousTestCase):
    """Lineage agrees with histories that are lived: records written, and storages forced, at random."""

    @given(st.integers(0, 2**32))
    @settings(deadline=None, max_examples=300)
    def test_random_trees(self, seed: int) -> None:
        """
        C{lineage} says I{ancestor} only of what is one, and misses one only where more forks were made than an
        ancestry can name.
        """
        dice = random.Random(seed)
        few = dice.random() < 0.7
        root = label_of("a", record_of("a", number=1))
        nodes: list[tuple[Label, int]] = [(root, -1)]  # each with the node that it came from
        for number in range(2, 12 if few else 40):
            parent = dice.randrange(len(nodes))
            label = nodes[parent][0]
            is_tip = all(other != parent for _, other in nodes)
            record = label.record
            if is_tip and dice.random() < 0.6:
                new = evolve(record, sequence=record.sequence + 1)
            else:
                ancestry = forced_ancestry(label, number * 100)
                new = evolve(record, claim=Claim(number, number * 100, numbered(1)), sequence=1, ancestry=ancestry)
            nodes.append((label.evolve(record=new), parent))
        ancestors: list[set[int]] = []
        for index, (_, parent) in enumerate(nodes):
            ancestors.append({index} | (ancestors[parent] if parent >= 0 else set()))
        for one, (a, _) in enumerate(nodes):
            for two, (b, _) in enumerate(nodes):
                said = lineage(a.record, b.record)
                self.assertIs(OPPOSITE[said], lineage(b.record, a.record))
                true = (
                    SAME
                    if one == two
                    else ANCESTOR
                    if one in ancestors[two]
                    else DESCENDANT
                    if two in ancestors[one]
                    else DIVERGED
                )
                if few:
                    self.assertIs(true, said)
                else:
                    self.assertIn(said, (true, DIVERGED))


class ForcedAncestryTests(SynchronousTestCase):
    """What is recorded of a person's choice."""

    def test_from_a_copy_that_was_in_sync(self) -> None:
        """The fork is at the record that the copy itself has."""
        label = label_of("b", at(5, 3, fork(2, 1, 7)))
        self.assertEqual((fork(2, 1, 7), fork(5, 3, 99)), forced_ancestry(label, 99))

    def test_from_a_copy_that_was_not(self) -> None:
        """A copy that was not in sync can lack what any other has: all others have diverged."""
        for changes in ({"record": record_of("a", number=5, sequence=3)}, {"node_id": numbered(0xE0)}):
            label = label_of("b", at(5, 3)).evolve(**changes)
            self.assertEqual((Fork(NO_CLAIM, 0, 99),), forced_ancestry(label, 99))
            behind = evolve(label.record, claim=Claim(6, 99, numbered(1)), ancestry=forced_ancestry(label, 99))
            for number, sequence in ((1, 1), (5, 1), (5, 3), (5, 4), (7, 1)):
                self.assertIs(DIVERGED, lineage(at(number, sequence), behind))

    def test_bounded(self) -> None:
        """More forks than fit are drawn together at the oldest; nobody is taken for an ancestor because of that."""
        label = label_of("a", at(1, 1))
        seen = [label.record]
        for number in range(2, 60):
            if number % 3 == 0:
                seen.append(evolve(label.record, sequence=2))  # the line that is left goes on
            ancestry = forced_ancestry(label, number * 10)
            self.assertLessEqual(len(ancestry), ANCESTRY_MAX)
            record = evolve(
                label.record, claim=Claim(number, number * 10, numbered(1)), sequence=1, ancestry=ancestry
            )
            label = label.evolve(record=record)
            for other in seen:
                went_on = other.sequence == 2
                self.assertIn(lineage(other, record), (DIVERGED,) if went_on else (DIVERGED, ANCESTOR))
            seen.append(record)
        self.assertEqual(ANCESTRY_MAX, len(label.record.ancestry))
        self.assertIs(ANCESTOR, lineage(at(1, 1), label.record), "the first of all is remembered")


REGION = 1 << 16
SHARED, LATER, NEW = 0x11, 0x22, 0x33
"""Tags: of a claim that was over, of the one that was left at the fork, of the one that went on from there."""


class BytesDiscardedTests(SynchronousTestCase):
    """How much a choice loses at most."""

    def setUp(self) -> None:
        self.main, self.side = RegionTable(10, STORAGE_ID), RegionTable(10, STORAGE_ID)
        for table in (self.main, self.side):
            table.fill(Epoch(SHARED, 1))
        main_label = label_of("a", evolve(record_of(number=5, sequence=3), claim=Claim(5, LATER, numbered(1))))
        self.main_record = evolve(main_label.record, sequence=4)
        self.side_record = evolve(
            main_label.record, claim=Claim(6, NEW, numbered(2)), ancestry=forced_ancestry(main_label, NEW)
        )

    def lost_with_main(self, size: int = 10 * REGION) -> int:
        return bytes_discarded(self.main, self.main_record, self.side, self.side_record, REGION, size)

    def lost_with_side(self, size: int = 10 * REGION) -> int:
        return bytes_discarded(self.side, self.side_record, self.main, self.main_record, REGION, size)

    def test_nothing(self) -> None:
        """Where nothing was written since they parted nothing is lost."""
        self.assertEqual((0, 0), (self.lost_with_main(), self.lost_with_side()))

    def test_written_on_one(self) -> None:
        """What was written on one line is lost with that one, and not with the other."""
        self.main.clear(3, Epoch(LATER, 9))
        self.side.clear(7, Epoch(NEW, 2))
        self.side.clear(8, Epoch(NEW, 2))
        self.assertEqual((REGION, 2 * REGION), (self.lost_with_main(), self.lost_with_side()))

    def test_hot(self) -> None:
        """A region that is hot may have been written a moment ago."""
        self.main.mark(3)
        self.assertEqual(REGION, self.lost_with_main())
        self.side.mark(3)
        self.side.mark(4)
        self.assertEqual((REGION, 2 * REGION), (self.lost_with_main(), self.lost_with_side()))

    def test_never_written(self) -> None:
        """Age I{none} equals nothing, itself included: it counts on both."""
        for table in (self.main, self.side):
            table.set(0, Epoch(), hot=False)
        self.assertEqual((REGION, REGION), (self.lost_with_main(), self.lost_with_side()))

    def test_written_in_the_claim_that_was_left(self) -> None:
        """
        An age of the claim that was left at the fork is before the fork on the side that left. On the other one it
        was before if the side that left has taken one along that is as new.
        """
        for table in (self.main, self.side):
            table.fill(Epoch(LATER, FIRST_AGE))
            table.clear(1, Epoch(LATER, 1))
            table.clear(2, Epoch(LATER, 2))
            table.clear(5, Epoch(LATER, 2))
        self.side.clear(0, Epoch(NEW, 1))
        self.side.clear(1, Epoch(NEW, 1))
        self.assertEqual((0, 2 * REGION), (self.lost_with_main(), self.lost_with_side()))
        self.main.clear(2, Epoch(NEW + 1, 1))
        self.main.clear(3, Epoch(LATER, 3))
        self.assertEqual((2 * REGION, 2 * REGION), (self.lost_with_main(), self.lost_with_side()))
        self.side.clear(2, Epoch(NEW, 1))
        self.side.clear(3, Epoch(NEW, 1))
        self.assertEqual((2 * REGION, 4 * REGION), (self.lost_with_main(), self.lost_with_side()))

    def test_last_region(self) -> None:
        """The last region is as long as the data that is in it."""
        self.main.mark(9)
        self.assertEqual(4096, self.lost_with_main(9 * REGION + 4096))

    def test_forced_from_half_a_copy(self) -> None:
        """Where it is not known when they parted, everything that differs counts."""
        half = label_of("b", evolve(self.main_record, members=record_of("a").members))
        self.side_record = evolve(self.side_record, ancestry=forced_ancestry(half, NEW))
        self.side.clear(5, Epoch(NEW, 1))
        self.assertEqual((REGION, REGION), (self.lost_with_main(), self.lost_with_side()))

    @given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("mskh")), max_size=30))
    @settings(deadline=None, max_examples=300)
    def test_never_too_little(self, steps: list[tuple[int, str]]) -> None:
        """Whatever is written on both lines, before and after they part: every region that is lost is counted."""
        tables = {"main": RegionTable(10, STORAGE_ID), "side": RegionTable(10, STORAGE_ID)}
        for table in tables.values():
            table.fill(Epoch(SHARED, 1))
        half = len(steps) // 2
        lost: dict[str, set[int]] = {"main": set(), "side": set()}
        for number, (region, what) in enumerate(steps):
            if number < half:  # both in sync, under the claim that is left later
                for table in tables.values():
                    table.clear(region, Epoch(LATER, number + 1))
                continue
            line = "side" if what == "s" else "main"
            lost[line].add(region)
            if what == "h":
                tables[line].mark(region)
            else:
                tables[line].clear(region, Epoch(NEW if line == "side" else LATER, number + 1))
        self.main, self.side = tables["main"], tables["side"]
        self.assertGreaterEqual(self.lost_with_main(), REGION * len(lost["main"]))
        self.assertGreaterEqual(self.lost_with_side(), REGION * len(lost["side"]))
