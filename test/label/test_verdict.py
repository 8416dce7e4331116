"""
Tests of L{dst.label.verdict}: for each row what leads to it, and what would be decided without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.label import assembly_rows, claim_rows, member_rows
from dst.label.format import Claim, Epoch, FoundLabel, Label, MemberEntry, Record
from dst.label.verdict import (
    ASSEMBLY_ROWS,
    MEMBER_ROWS,
    AssemblyInputs,
    AssemblyStep,
    MemberInputs,
    MemberStep,
    judge_assembly,
    judge_member,
)
from test.label.examples import numbered

MODULES = {"ASSEMBLY_ROWS": assembly_rows, "CLAIM_ROWS": claim_rows, "MEMBER_ROWS": member_rows}

NAMES = ("a", "b", "c")
IDS = dict(zip(NAMES, (numbered(0x20), numbered(0x30), numbered(0x40)), strict=True))
STORAGE, OTHER_STORAGE = numbered(0x10), numbered(0x90)
CAPACITY = 1 << 20
MEDIA = CAPACITY + (1 << 17)
AWAKE, RESTARTED = numbered(0x50), numbered(0x60)
"""The incarnation that records name, and another."""

BLANK = FoundLabel(None)
DAMAGED = FoundLabel(None, damage="the label's checksum does not match")


def record_of(in_sync: str = "abc", *, number: int = 3, sequence: int = 1, members: str = "abc") -> Record:
    """A record of these members, of whom those are in sync."""
    entries = tuple(
        MemberEntry(IDS[name], AWAKE, place, name, in_sync=name in in_sync) for place, name in enumerate(members)
    )
    return Record(Claim(number, 5, numbered(0x70)), sequence, numbered(0x80), entries)


def label_of(name: str, record: Record | None = None, **changes: object) -> Label:
    """The label on a member's media."""
    made = Label(
        1,
        STORAGE,
        IDS[name],
        "mirror",
        0,
        True,
        Epoch(5, 1),
        MEDIA,
        CAPACITY,
        CAPACITY,
        1 << 16,
        0,
        record or record_of(),
    )
    return made.evolve(**changes)


def found(name: str, record: Record | None = None, **changes: object) -> FoundLabel:
    """Media with that label."""
    return FoundLabel(label_of(name, record, **changes), 0)


def member(media: FoundLabel, **changes: Any) -> MemberInputs:
    """Media at a member's place in a storage that runs."""
    return evolve(MemberInputs(STORAGE, "mirror", record_of(), media, MEDIA, CAPACITY, CAPACITY), **changes)


@frozen
class MemberCase:
    """
    @ivar without: the row that decides when C{row} is taken out of the table.
    """

    row: str
    step: MemberStep
    without: str
    inputs: MemberInputs
    says: str


REFUSE, NEW, COMPARE = MemberStep.REFUSE, MemberStep.NEW_MEDIA, MemberStep.COMPARE

MEMBER_CASES = (
    MemberCase("damaged-label", REFUSE, "ERROR", member(DAMAGED), "nothing is overwritten"),
    MemberCase("damaged-label", REFUSE, "too-small", member(DAMAGED, capacity=CAPACITY - 1), "checksum"),
    MemberCase("too-small", REFUSE, "new-media", member(BLANK, capacity=CAPACITY - 1), str(CAPACITY - 1)),
    MemberCase("too-small", REFUSE, "returning", member(found("a"), capacity=CAPACITY - 1), str(CAPACITY)),
    MemberCase("new-media", NEW, "new-media-without-copies", member(BLANK), "everything is copied"),
    MemberCase("new-media-without-copies", REFUSE, "ERROR", member(BLANK, has_copies=False), "no second copy"),
    MemberCase("another-storage", REFUSE, "returning", member(found("a", storage_id=OTHER_STORAGE)), "90919293"),
    MemberCase(
        "another-storage",
        REFUSE,
        "returning",
        member(found("a", storage_id=OTHER_STORAGE), capacity=CAPACITY - 1),
        "another storage",
    ),
    MemberCase("another-algorithm", REFUSE, "returning", member(found("a", algorithm="stripe")), "stripe"),
    MemberCase("newer-record", REFUSE, "returning", member(found("a", record_of(number=4))), "claim 4"),
    MemberCase("newer-record", REFUSE, "returning", member(found("a", record_of(sequence=2))), "newer owner"),
    MemberCase(
        "not-listed", REFUSE, "returning", member(found("c"), record=record_of(members="ab")), "replaced or removed"
    ),
    MemberCase("truncated", REFUSE, "returning", member(found("a"), media_size=MEDIA - 4096), "cut short"),
    MemberCase("returning", COMPARE, "NONE", member(found("a")), "while it was away"),
    MemberCase("returning", COMPARE, "NONE", member(found("a", consistent=False)), "middle of a resync"),
    MemberCase("returning", COMPARE, "NONE", member(found("a", consistent=False, since=Epoch())), "never had"),
    MemberCase("returning", COMPARE, "NONE", member(found("a", record_of(number=2))), "while it was away"),
    MemberCase("returning", COMPARE, "NONE", member(found("a"), media_size=MEDIA + 4096), "while it was away"),
)


def assembly(media: dict[str, FoundLabel], **changes: Any) -> AssemblyInputs:
    """A start of a mirror of a, b and c that sees this media."""
    names = changes.pop("names", NAMES)
    incarnations = changes.pop("incarnations", dict.fromkeys(media, AWAKE))
    return AssemblyInputs(names, media, incarnations, **changes)


ALL = {name: found(name) for name in NAMES}
ALL_BLANK = dict.fromkeys(NAMES, BLANK)
STALE = {"b": found("b", record_of(number=2)), "c": found("c", record_of(number=2))}
ONLY_A = label_of("a", record_of("a", number=3))
"""What the owner keeps after b and c had left."""


@frozen
class AssemblyCase:
    """
    @ivar without: as in L{MemberCase}.
    @ivar sources: the members that are in sync from the start.
    """

    row: str
    step: AssemblyStep
    without: str
    inputs: AssemblyInputs
    says: str
    sources: tuple[str, ...] = ()
    lost_cache: bool = False


WAIT, ASK, INITIALISE, SERVE = AssemblyStep.WAIT, AssemblyStep.ASK, AssemblyStep.INITIALISE, AssemblyStep.SERVE

ASSEMBLY_CASES = (
    AssemblyCase("no-member-yet", WAIT, "first-start-waits", assembly({}), "waiting for a, b, c"),
    AssemblyCase("no-member-yet", WAIT, "latest-data-away", assembly({}, kept=ONLY_A), "no member can be read"),
    AssemblyCase(
        "mixed-storages",
        ASK,
        "first-start-unknown",
        assembly(ALL | {"c": found("c", storage_id=OTHER_STORAGE)}),
        "a to 10111213, b to 10111213, c to 90919293",
    ),
    AssemblyCase(
        "another-algorithm",
        ASK,
        "all-sources-retained",
        assembly({name: found(name, algorithm="stripe") for name in NAMES}),
        "those of a stripe and the topology says mirror",
    ),
    AssemblyCase(
        "damaged-first-start", ASK, "first-start-zero", assembly(ALL_BLANK | {"b": DAMAGED}, zero=True), "labels of b"
    ),
    AssemblyCase("damaged-first-start", ASK, "first-start-waits", assembly({"b": DAMAGED}), "nothing is overwritten"),
    AssemblyCase(
        "first-start-waits", WAIT, "first-start-unknown", assembly({"a": BLANK, "b": BLANK}), "waiting for c"
    ),
    AssemblyCase(
        "first-start-waits", WAIT, "first-start-zero", assembly({"a": BLANK}, zero=True), "waiting for b, c"
    ),
    AssemblyCase("first-start-zero", INITIALISE, "first-start-holds-data", assembly(ALL_BLANK, zero=True), "zero"),
    AssemblyCase("first-start-unknown", WAIT, "first-start-holds-data", assembly(ALL_BLANK), "reading"),
    AssemblyCase("first-start-holds-data", ASK, "latest-data-away", assembly(ALL_BLANK, zero=False), "dst init"),
    AssemblyCase(
        "first-start-holds-data",
        ASK,
        "latest-data-away",
        assembly(ALL_BLANK, zero=False, forced="a"),
        "--keep NODE",
        (),
    ),
    AssemblyCase(
        "forced", SERVE, "latest-data-away", assembly(STALE, kept=ONLY_A, forced="b"), "a person said", ("b",), True
    ),
    AssemblyCase("forced", SERVE, "all-sources-retained", assembly(ALL, forced="c"), "c has the data", ("c",), True),
    AssemblyCase(
        "owner-record-lost", WAIT, "some-sources-retained", assembly({"a": ALL["a"]}, waited=True), "waiting for b, c"
    ),
    AssemblyCase(
        "owner-record-lost",
        WAIT,
        "sources-may-come",
        assembly({"a": ALL["a"], "b": ALL["b"], "c": BLANK}),
        "waiting for c",
    ),
    AssemblyCase(
        "latest-data-away", WAIT, "sources-lost-cache", assembly(STALE, kept=ONLY_A, waited=True), "only on a"
    ),
    AssemblyCase(
        "latest-data-away",
        WAIT,
        "sources-may-come",
        assembly(STALE | {"a": found("a", storage_id=OTHER_STORAGE)}, kept=ONLY_A),
        "only on a",
    ),
    AssemblyCase("all-sources-retained", SERVE, "some-sources-retained", assembly(ALL), "every member", NAMES),
    AssemblyCase(
        "all-sources-retained",
        SERVE,
        "some-sources-retained",
        assembly(STALE | {"a": found("a", ONLY_A.record)}, kept=ONLY_A),
        "every member that has the latest data is here",
        ("a",),
    ),
    AssemblyCase(
        "sources-may-come",
        WAIT,
        "some-sources-retained",
        assembly({"a": ALL["a"]}, kept=label_of("a")),
        "giving b, c time",
    ),
    AssemblyCase(
        "sources-may-come",
        WAIT,
        "sources-lost-cache",
        assembly({"a": ALL["a"]}, kept=label_of("a"), incarnations={"a": RESTARTED}),
        "giving b, c time",
    ),
    AssemblyCase(
        "some-sources-retained",
        SERVE,
        "sources-lost-cache",
        assembly({"a": ALL["a"]}, kept=label_of("a"), waited=True),
        "a has the latest data",
        ("a",),
    ),
    AssemblyCase(
        "some-sources-retained",
        SERVE,
        "sources-lost-cache",
        assembly(ALL, incarnations={"a": RESTARTED, "b": AWAKE, "c": RESTARTED}),
        "b has the latest data",
        ("b",),
    ),
    AssemblyCase(
        "sources-lost-cache",
        SERVE,
        "NONE",
        assembly(ALL, incarnations=dict.fromkeys(NAMES, RESTARTED)),
        "restarted",
        NAMES,
        True,
    ),
    AssemblyCase(
        "sources-lost-cache",
        SERVE,
        "NONE",
        assembly({"b": ALL["b"]}, kept=label_of("b"), incarnations={"b": RESTARTED}, waited=True),
        "what was not flushed may be lost",
        ("b",),
        True,
    ),
)


class TableCase(SynchronousTestCase):
    """What both tables have in common."""

    def row_without(self, table: str, row: str, judge: Callable[[], Any]) -> str:
        """
        Who decides when C{row} is taken out: the name of a row, C{NONE} when no row holds, C{ERROR} when a
        later one cannot be asked.
        """
        rows = tuple(each for each in getattr(MODULES[table], table) if each[0] != row)
        patch = self.patch(MODULES[table], table, rows)
        try:
            return str(judge().row)
        except AssertionError as error:
            return "NONE" if "always holds" in str(error) else "ERROR"
        finally:
            patch.restore()


class MemberVerdictTests(TableCase):
    """Media at a member's place."""

    def test_rows(self) -> None:
        """Each of these is decided by its row, with its step and a sentence that says what matters."""
        for case in MEMBER_CASES:
            judged = judge_member(case.inputs)
            self.assertEqual((case.row, case.step), (judged.row, judged.step), case)
            self.assertIn(case.says, judged.reason)

    def test_every_row(self) -> None:
        """No row is without a case, and no name stands twice."""
        names = [row[0] for row in MEMBER_ROWS]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(set(names), {case.row for case in MEMBER_CASES})

    def test_no_row_is_idle(self) -> None:
        """Without its row each case is decided otherwise, by the row that is named."""
        for case in MEMBER_CASES:
            without = self.row_without("MEMBER_ROWS", case.row, lambda case=case: judge_member(case.inputs))  # type: ignore[misc]
            self.assertEqual(case.without, without, case)

    def test_only_ours_is_written(self) -> None:
        """Only unlabelled media and members of this storage are ever written to."""
        labels = [DAMAGED, *(found("a", storage_id=OTHER_STORAGE, media_size=size) for size in (1, MEDIA, 1 << 40))]
        for media in labels:
            for copies in (False, True):
                judged = judge_member(member(media, has_copies=copies))
                self.assertIs(MemberStep.REFUSE, judged.step)


media = st.sampled_from(
    [
        BLANK,
        DAMAGED,
        *(
            found(name, record_of(in_sync, number=n))
            for name in NAMES
            for in_sync in ("a", "ab", "c")
            for n in (2, 3)
        ),
        found("a", storage_id=OTHER_STORAGE),
        found("a", algorithm="stripe"),
    ]
)
starts = st.builds(
    lambda seen, restarted, **rest: assembly(
        seen, incarnations={name: RESTARTED if name in restarted else AWAKE for name in seen}, **rest
    ),
    st.dictionaries(st.sampled_from(NAMES), media),
    st.sets(st.sampled_from(NAMES)),
    kept=st.none() | st.sampled_from([label_of(name, record_of(name, number=3, sequence=2)) for name in NAMES]),
    waited=st.booleans(),
    zero=st.sampled_from([None, True, False]),
    forced=st.sampled_from(["", "a", "b", "nobody"]),
)


class AssemblyVerdictTests(TableCase):
    """How a storage starts."""

    def test_rows(self) -> None:
        """Each of these is decided by its row, with its step, its sources and a sentence that says what matters."""
        for case in ASSEMBLY_CASES:
            judged = judge_assembly(case.inputs)
            self.assertEqual((case.row, case.step), (judged.row, judged.step), case)
            self.assertIn(case.says, judged.reason)
            self.assertEqual((case.sources, case.lost_cache), (judged.sources, judged.lost_cache), case)

    def test_every_row(self) -> None:
        """No row is without a case, and no name stands twice."""
        names = [row[0] for row in ASSEMBLY_ROWS]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(set(names), {case.row for case in ASSEMBLY_CASES})

    def test_no_row_is_idle(self) -> None:
        """Without its row each case is decided otherwise, by the row that is named."""
        for case in ASSEMBLY_CASES:
            without = self.row_without("ASSEMBLY_ROWS", case.row, lambda case=case: judge_assembly(case.inputs))  # type: ignore[misc]
            self.assertEqual(case.without, without, case)

    def test_order_of_configuration(self) -> None:
        """The order in which members are named or found decides nothing."""
        for case in ASSEMBLY_CASES:
            inputs = evolve(
                case.inputs,
                names=case.inputs.names[::-1],
                found=dict(reversed(case.inputs.found.items())),
                incarnations=dict(reversed(case.inputs.incarnations.items())),
            )
            judged = judge_assembly(inputs)
            self.assertEqual((case.row, set(case.sources)), (judged.row, set(judged.sources)))

    def test_highest_record(self) -> None:
        """The highest record counts, on whomever it was seen, and only its members in sync are sources."""
        seen = ALL | {"b": found("b", record_of("bc", number=3, sequence=9))}
        judged = judge_assembly(assembly(seen))
        self.assertEqual(record_of("bc", number=3, sequence=9), judged.record)
        self.assertEqual({"b", "c"}, set(judged.sources))
        kept = label_of("a", record_of("c", number=4))
        self.assertEqual(("c",), judge_assembly(assembly(seen, kept=kept)).sources)

    def test_foreign_media_beside_ours(self) -> None:
        """An owner that knows its storage starts without the member whose media is another storage's."""
        seen = ALL | {"c": found("c", storage_id=OTHER_STORAGE)}
        judged = judge_assembly(assembly(seen, kept=label_of("a"), waited=True))
        self.assertEqual((AssemblyStep.SERVE, {"a", "b"}), (judged.step, set(judged.sources)))

    @given(starts)
    @settings(deadline=None, max_examples=500)
    def test_promises(self, inputs: AssemblyInputs) -> None:
        """
        Whatever is found: a source has the label of the storage, and is in sync in the highest record or was named
        by a person; a new storage is made only where nobody has ever had one and all is zero.
        """
        judged = judge_assembly(inputs)
        self.assertNotEqual("", judged.reason)
        self.assertEqual(judged.step is AssemblyStep.SERVE, bool(judged.sources))
        labels = {name: seen.label for name, seen in inputs.found.items() if seen.label is not None}
        if judged.step is AssemblyStep.INITIALISE:
            self.assertEqual((set(NAMES), {}, None), (set(inputs.found), labels, inputs.kept))
            self.assertIs(True, inputs.zero)
        records = [
            label.record
            for label in [*labels.values(), inputs.kept]
            if label is not None and label.storage_id == judged.storage_id
        ]
        for name in judged.sources:
            label = labels[name]
            self.assertEqual((judged.storage_id, "mirror"), (label.storage_id, label.algorithm))
            assert judged.record is not None
            self.assertEqual(judged.record.order, max(record.order for record in records))
            entry = judged.record.entry(label.node_id)
            if judged.row != "forced":
                self.assertTrue(entry is not None and entry.in_sync)
                self.assertTrue(judged.lost_cache or inputs.incarnations[name] == AWAKE)
            else:
                self.assertEqual((name,), (inputs.forced,))
