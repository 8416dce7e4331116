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
from dst.label.format import Claim, Epoch, FoundLabel, Label, MemberEntry, Record, Vote
from dst.label.lineage import forced_ancestry
from dst.label.verdict import (
    ASSEMBLY_ROWS,
    CLAIM_ROWS,
    MEMBER_ROWS,
    AssemblyInputs,
    AssemblyStep,
    ClaimStep,
    MemberInputs,
    MemberStep,
    judge_assembly,
    judge_claim,
    judge_member,
)
from dst.ownership import Promise
from test.label.examples import numbered

MODULES = {"ASSEMBLY_ROWS": assembly_rows, "CLAIM_ROWS": claim_rows, "MEMBER_ROWS": member_rows}

NAMES = ("a", "b", "c")
OWNER, OTHER, THIRD = numbered(0xA0), numbered(0xB0), numbered(0xC0)
"""Daemons: the one that judges, and others."""

IDS = dict(zip("abcwo", (numbered(0x20), numbered(0x30), numbered(0x40), numbered(0x48), OWNER), strict=True))
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


FORKED = evolve(
    record_of("b", number=4),
    ancestry=forced_ancestry(label_of("b", record_of()), 9),
    claim=Claim(4, 9, numbered(0x71)),
)
"""A person made the storage go on from b, from the record that all have."""

WENT_ON = record_of("a", number=3, sequence=2)
"""And without that person, a had gone on alone."""


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
    MemberCase(
        "diverged", REFUSE, "returning", member(found("a", record_of(number=4)), record=FORKED), "claim 4 here"
    ),
    MemberCase(
        "diverged", REFUSE, "returning", member(found("a", WENT_ON), record=FORKED), "Nothing was overwritten"
    ),
    MemberCase("diverged", REFUSE, "returning", member(found("b", FORKED), record=WENT_ON), "another history"),
    MemberCase(
        "diverged",
        REFUSE,
        "returning",
        member(found("b", evolve(FORKED, sequence=9)), record=WENT_ON),
        "both can be",
    ),
    MemberCase(
        "diverged",
        REFUSE,
        "returning",
        member(found("a", WENT_ON), record=FORKED, resolved=True, has_copies=False),
        "another history",
    ),
    MemberCase(
        "resolved",
        COMPARE,
        "resolved-as-new",
        member(found("a", WENT_ON), record=FORKED, resolved=True),
        "what only this media has is lost",
    ),
    MemberCase(
        "resolved-as-new",
        NEW,
        "diverged",
        member(found("c", WENT_ON), record=evolve(FORKED, members=FORKED.members[:2]), resolved=True),
        "no member",
    ),
    MemberCase(
        "truncated",
        REFUSE,
        "resolved",
        member(found("a", WENT_ON), record=FORKED, resolved=True, media_size=MEDIA - 4096),
        "cut short",
    ),
    MemberCase("newer-record", REFUSE, "returning", member(found("b", FORKED), record=record_of()), "newer owner"),
    MemberCase("same-media-twice", REFUSE, "returning", member(found("a"), twin="b"), "same media as b"),
    MemberCase("returning", COMPARE, "NONE", member(found("b", record_of()), record=FORKED), "while it was away"),
    MemberCase("returning", COMPARE, "NONE", member(found("a"), resolved=True), "while it was away"),
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


MINE = Claim(9, 77, OWNER)


def fence(name: str) -> bytes:
    """The identity of that node's memory of promises."""
    return numbered(0x40 + 0x10 * "abcw".index(name)) if name in "abcw" else bytes(16)


def vote(name: str) -> Vote:
    """The vote of a member, of the witness w, or (o) of this daemon's own store."""
    return Vote(IDS[name], fence(name), name)


def voting(votes: str, in_sync: str = "abc", **changes: Any) -> Record:
    """A record with these votes."""
    return evolve(record_of(in_sync, **changes), votes=tuple(vote(name) for name in votes))


def cast(names: str) -> frozenset[tuple[bytes, bytes]]:
    """Those votes, granted."""
    return frozenset((vote(name).node_id, vote(name).fence) for name in names)


def free(names: str) -> dict[str, Promise]:
    """Nodes that have promised nothing to anybody."""
    return {name: Promise(fence(name)) for name in names}


def held(names: str, held_s: float = 2.0, *, number: int = 5, owner: bytes = OTHER) -> dict[str, Promise]:
    """Nodes that another owner counts on."""
    return {name: Promise(fence(name), Claim(number, 3, owner), False, held_s, "host-b") for name in names}


def witness(record: Record) -> dict[str, FoundLabel]:
    """The media of the witness."""
    return {"w": FoundLabel(label_of("w", record, data_size=0), 0)}


def seen(names: str, record: Record) -> dict[str, FoundLabel]:
    """The media of members, all with that record."""
    return {name: found(name, record) for name in names}


ABW, FIVE, TWO = voting("abw"), voting("abcwo"), voting("abo")
"""Records with three votes, with five, and with two members and the owner's own store."""

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
CLAIM_AGAIN = AssemblyStep.CLAIM_AGAIN


def claimed(media: dict[str, FoundLabel], granted: str = "abcw", **changes: Any) -> AssemblyInputs:
    """The same start after it has claimed everybody, and these have granted it."""
    own = "o" if changes.get("kept") is not None else ""
    changes = {"owner": OWNER, "promises": free("abcw")} | changes
    return assembly(media, claim=MINE, granted=cast(granted + own), claimed=frozenset(granted), **changes)


OTHER_FORK = evolve(FORKED, ancestry=forced_ancestry(label_of("c", record_of()), 10))
"""Somebody else has forced the same record."""


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
    AssemblyCase(
        "diverged",
        ASK,
        "all-sources-retained",
        assembly(seen("a", WENT_ON) | seen("b", FORKED) | seen("c", record_of())),
        "b, c (claim 4, record 1); a (claim 3, record 2)",
    ),
    AssemblyCase(
        "diverged", ASK, "all-sources-retained", assembly(seen("b", FORKED), kept=label_of("a", WENT_ON)), "resolve"
    ),
    AssemblyCase(
        "diverged",
        ASK,
        "all-sources-retained",
        assembly(seen("b", FORKED), kept=label_of("c", OTHER_FORK)),
        "resolve",
    ),
    AssemblyCase(
        "all-sources-retained",
        SERVE,
        "some-sources-retained",
        assembly(seen("a", WENT_ON) | seen("b", FORKED), kept=label_of("b", FORKED)),
        "every member",
        ("b",),
    ),
    AssemblyCase(
        "all-sources-retained",
        SERVE,
        "some-sources-retained",
        assembly(seen("a", WENT_ON) | seen("b", FORKED), keep="a", kept=label_of("b", FORKED)),
        "every member",
        ("a",),
    ),
    AssemblyCase(
        "forced",
        SERVE,
        "all-sources-retained",
        assembly(seen("a", WENT_ON) | seen("b", FORKED), forced="a", kept=label_of("b", FORKED)),
        "a person said",
        ("a",),
        True,
    ),
    AssemblyCase(
        "choice-away",
        WAIT,
        "all-sources-retained",
        assembly(seen("a", WENT_ON), keep="b", kept=label_of("a", WENT_ON)),
        "a person has chosen the history of b",
    ),
    AssemblyCase(
        "same-media-twice",
        ASK,
        "owner-record-lost",
        assembly({"a": found("a", record_of("a")), "b": found("a", record_of("a")), "c": found("c", record_of("a"))}),
        "a, b are the same media",
    ),
    AssemblyCase(
        "claim-again",
        CLAIM_AGAIN,
        "all-sources-retained",
        claimed(seen("abc", evolve(ABW, claim=Claim(9, 3, OTHER)))),
        "claim 9 meanwhile",
    ),
    AssemblyCase(
        "forced-not-granted", CLAIM_AGAIN, "owner-record-lost", claimed(STALE, "", forced="b"), "b has not granted"
    ),
    AssemblyCase(
        "forced-not-granted",
        CLAIM_AGAIN,
        "lost-quorum",
        claimed(
            STALE,
            "ac",
            forced="b",
            promises=free("acw") | held("b"),
            witnesses=witness(voting("abw", "a", number=3)),
        ),
        "b is promised to host-b for 2.0 s more",
    ),
    AssemblyCase(
        "lost-quorum",
        CLAIM_AGAIN,
        "sources-may-come",
        claimed(seen("abc", ABW), "a", witnesses=witness(ABW), promises=free("ac") | held("bw")),
        "1 of the 2 votes needed were granted; not granted: b, w (promised to host-b)",
    ),
    AssemblyCase(
        "lost-quorum",
        CLAIM_AGAIN,
        "some-sources-retained",
        claimed(seen("a", FIVE), "a", kept=label_of("a", FIVE), waited=True),
        "2 of the 3 votes needed were granted; not granted: b, c, w",
    ),
    AssemblyCase(
        "lost-quorum",
        CLAIM_AGAIN,
        "some-sources-retained",
        claimed(seen("abc", voting("o")), "bc", promises=free("bc") | held("a"), waited=True, owner=THIRD),
        "the owner's store is not here, and not every member is free: a is promised to host-b",
    ),
    AssemblyCase(
        "sources-promised",
        CLAIM_AGAIN,
        "latest-data-away",
        claimed(seen("ab", voting("abw", "a")), "bw", witnesses=witness(ABW), promises=free("bw") | held("a")),
        "the latest data is on a, and a is promised to host-b",
    ),
    AssemblyCase(
        "sources-promised",
        CLAIM_AGAIN,
        "latest-data-away",
        claimed(seen("abc", voting("o", "a")), "bc", kept=label_of("a", voting("o", "a")), promises=free("abc")),
        "a has not granted the claim",
    ),
    AssemblyCase(
        "all-sources-retained",
        SERVE,
        "some-sources-retained",
        claimed(seen("abc", ABW), "abcw", witnesses=witness(ABW)),
        "every member",
        NAMES,
    ),
    AssemblyCase(
        "some-sources-retained",
        SERVE,
        "sources-lost-cache",
        claimed(seen("abc", ABW), "acw", witnesses=witness(ABW), promises=free("acw") | held("b"), waited=True),
        "a, c has the latest data",
        ("a", "c"),
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


@frozen
class ClaimCase:
    """
    @ivar without: as in L{MemberCase}.
    """

    row: str
    step: ClaimStep
    without: str
    inputs: AssemblyInputs
    says: str


CLAIM, LOOK, STAND_BY = ClaimStep.CLAIM, ClaimStep.LOOK, ClaimStep.STAND_BY


def before(
    media: dict[str, FoundLabel], promises: dict[str, Promise] | None = None, **changes: Any
) -> AssemblyInputs:
    """A start that has asked everybody, and has claimed nothing."""
    given = {"promises": free("abcw") if promises is None else promises, "owner": OWNER} | changes
    return assembly(media, **given)


HERE = seen("abc", ABW)
MY_OWN = {name: Promise(fence(name), Claim(8, 3, OWNER), False, 2.0, "me") for name in "abcw"}
"""This daemon was killed a moment ago."""

RELEASED = {name: Promise(fence(name), Claim(8, 3, OTHER), True, 0.0, "host-b") for name in "abcw"}
OVER = held("abcw", 0.0)
"""The other owner's lease is over."""

CLAIM_CASES = (
    ClaimCase(
        "nobody-can-decide",
        LOOK,
        "no-quorum",
        before(seen("a", evolve(WENT_ON, votes=ABW.votes)) | seen("b", evolve(FORKED, votes=ABW.votes)), free("c")),
        "resolve",
    ),
    ClaimCase("nobody-can-decide", LOOK, "nothing-to-serve", before(ALL_BLANK, zero=True), "a new storage is made"),
    ClaimCase(
        "owned-elsewhere",
        STAND_BY,
        "claim",
        before(HERE, held("abcw"), witnesses=witness(ABW)),
        "host-b, which keeps its lease",
    ),
    ClaimCase(
        "owned-elsewhere",
        STAND_BY,
        "claim",
        before(HERE, held("abcw"), witnesses=witness(ABW), wanted=True, standby=True, standby_ready=True),
        "keeps its lease",
    ),
    ClaimCase(
        "owned-elsewhere",
        STAND_BY,
        "claim",
        before(HERE, held("ac") | free("bw"), witnesses=witness(voting("abw", "a", number=3, sequence=2))),
        "host-b",
    ),
    ClaimCase(
        "owned-elsewhere",
        STAND_BY,
        "claim",
        before(HERE, held("bw") | free("ac"), witnesses=witness(ABW), forced="a"),
        "host-b",
    ),
    ClaimCase(
        "owned-elsewhere",
        STAND_BY,
        "claim",
        before(seen("abc", voting("o")), free("bc") | held("a"), owner=THIRD),
        "host-b, which keeps its lease",
    ),
    ClaimCase("no-quorum", STAND_BY, "nothing-to-serve", before(seen("a", ABW)), "2 of 3 votes are needed"),
    ClaimCase(
        "no-quorum", STAND_BY, "nothing-to-serve", before(seen("a", ABW)), "b, w cannot be reached, or is blank"
    ),
    ClaimCase(
        "no-quorum",
        STAND_BY,
        "claim",
        before(HERE, free("a") | {"b": Promise(numbered(0xD0))}, waited=True),
        "w cannot be reached, or is blank; b has forgotten what it had promised",
    ),
    ClaimCase(
        "no-quorum", STAND_BY, "claim", before(HERE, free("ab"), quorum="all"), "3 of 3 votes are needed to own it"
    ),
    ClaimCase("no-quorum", STAND_BY, "claim", before(seen("abc", FIVE), free("ac")), "3 of 5 votes"),
    ClaimCase("handed-over", STAND_BY, "claim", before(HERE, RELEASED, handed_to="host-b"), "to host-b"),
    ClaimCase("standing-by", STAND_BY, "claim", before(HERE, OVER, standby=True), "a little longer"),
    ClaimCase("standing-by", STAND_BY, "claim", before(HERE, RELEASED, standby=True), "nobody owns it"),
    ClaimCase("nothing-to-serve", LOOK, "claim", before(STALE, kept=ONLY_A), "only on a"),
    ClaimCase(
        "nothing-to-serve", LOOK, "claim", before(seen("bc", ABW), witnesses=witness(ABW)), "giving a time to appear"
    ),
    ClaimCase("nothing-to-serve", LOOK, "claim", before({"a": ALL["a"]}, waited=True), "every member must be seen"),
    ClaimCase("claim", CLAIM, "NONE", before(HERE, OVER), "a, b"),
    ClaimCase("claim", CLAIM, "NONE", before(HERE, RELEASED, handed_to="host-b", wanted=True), "a, b"),
    ClaimCase("claim", CLAIM, "NONE", before(HERE, OVER, standby=True, standby_ready=True), "a, b"),
    ClaimCase("claim", CLAIM, "NONE", before(HERE, OVER, standby=True, wanted=True), "a, b"),
    ClaimCase("claim", CLAIM, "NONE", before(HERE, MY_OWN, standby=True), "a, b"),
    ClaimCase("claim", CLAIM, "NONE", before(HERE, MY_OWN), "a, b"),
    ClaimCase("claim", CLAIM, "NONE", before(HERE, held("c") | free("ab")), "a, b"),
    ClaimCase(
        "claim", CLAIM, "NONE", before(seen("ab", TWO), free("a"), kept=label_of("a", TWO), waited=True), "a, o"
    ),
    ClaimCase("claim", CLAIM, "NONE", before(seen("a", ABW), forced="a"), "a"),
    ClaimCase("claim", CLAIM, "NONE", before(seen("abc", voting("o")), {}, kept=label_of("a", voting("o"))), "o"),
    ClaimCase("claim", CLAIM, "NONE", before(seen("abc", voting("o")), {}, owner=THIRD), "none"),
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


class ClaimVerdictTests(TableCase):
    """May this daemon own the storage?"""

    def test_rows(self) -> None:
        """Each of these is decided by its row, with its step and a sentence that says what matters."""
        for case in CLAIM_CASES:
            judged = judge_claim(case.inputs)
            self.assertEqual((case.row, case.step), (judged.row, judged.step), case)
            self.assertIn(case.says, judged.reason)

    def test_every_row(self) -> None:
        """No row is without a case, and no name stands twice."""
        names = [row[0] for row in CLAIM_ROWS]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(set(names), {case.row for case in CLAIM_CASES})

    def test_no_row_is_idle(self) -> None:
        """Without its row each case is decided otherwise, by the row that is named."""
        for case in CLAIM_CASES:
            without = self.row_without("CLAIM_ROWS", case.row, lambda case=case: judge_claim(case.inputs))  # type: ignore[misc]
            self.assertEqual(case.without, without, case)

    def test_service_could_follow(self) -> None:
        """What is claimed could be served if all is granted: no claim is made that only keeps others away."""
        for case in CLAIM_CASES:
            if case.step is CLAIM:
                votes = frozenset(case.inputs.data.reachable)
                after = evolve(case.inputs, granted=votes, claimed=frozenset(case.inputs.found), claim=MINE)
                self.assertIs(SERVE, judge_assembly(after).step, case)


class VotesTests(SynchronousTestCase):
    """Which votes count."""

    def test_blank_is_mute(self) -> None:
        """A vote counts if the identity on its medium and that of its memory are the ones in the record, else not."""
        whole = claimed(seen("abc", ABW), "abcw", witnesses=witness(ABW))
        self.assertIs(SERVE, judge_assembly(whole).step)
        without_b = cast("a")
        for granted in (
            without_b,
            without_b | {(numbered(0xE0), fence("b"))},  # its label was lost and it has got another
            without_b | {(IDS["b"], numbered(0xE1))},  # its memory of promises was lost
            without_b | {(IDS["b"], bytes(16))},
            without_b | {(IDS["w"], fence("b"))},
        ):
            self.assertEqual("lost-quorum", judge_assembly(evolve(whole, granted=granted)).row)
        for granted in (cast("ab"), cast("aw"), cast("bw")):
            self.assertIs(SERVE, judge_assembly(evolve(whole, granted=granted)).step)

    def test_votes_of_the_highest_record(self) -> None:
        """The votes of the highest record that is seen count, even where a lower one would have been content."""
        wider = voting("abcwo", sequence=2)
        start = claimed(seen("ab", ABW) | seen("c", wider), "ab", promises=free("abcw"))
        self.assertEqual("lost-quorum", judge_assembly(start).row)
        self.assertIs(SERVE, judge_assembly(evolve(start, granted=cast("abc"), claimed=frozenset("abc"))).step)

    def test_witness_knows_better(self) -> None:
        """The record that a witness has seen counts as one on a member does: the member that left is no source."""
        left = voting("abw", "a", sequence=2)
        start = claimed(seen("b", ABW), "bw", witnesses=witness(left), promises=free("bw"), waited=True)
        judged = judge_assembly(start)
        self.assertEqual(("latest-data-away", left), (judged.row, judged.record))

    def test_all_members_new(self) -> None:
        """Where every member is new media, a witness that knows the storage keeps it from being made again."""
        judged = judge_assembly(assembly(ALL_BLANK, zero=True, witnesses=witness(ABW)))
        self.assertEqual((WAIT, "latest-data-away"), (judged.step, judged.row))

    def test_diverged_is_mute(self) -> None:
        """A vote that has another line has no say in this one, unless a person has chosen this line."""
        forked = evolve(FORKED, votes=ABW.votes)
        start = claimed(seen("a", evolve(WENT_ON, votes=ABW.votes)) | seen("b", forked), "ab", forced="")
        start = evolve(start, kept=label_of("b", forked), owner=OWNER, granted=cast("ab"))
        self.assertEqual("lost-quorum", judge_assembly(start).row)
        self.assertIs(SERVE, judge_assembly(evolve(start, keep="b")).step)

    def test_store_lost(self) -> None:
        """Where the only vote was a store that is lost, whoever sees every member goes on, with new votes."""
        lost = claimed(seen("abc", voting("o")), "abc", owner=THIRD)
        judged = judge_assembly(lost)
        self.assertEqual((SERVE, True), (judged.step, judged.new_votes))
        away = evolve(lost, found=seen("ab", voting("o")), waited=True)
        self.assertEqual("owner-record-lost", judge_assembly(away).row)
        there = claimed(seen("abc", voting("o")), "abc", kept=label_of("o", voting("o")))
        self.assertEqual((SERVE, False), (judge_assembly(there).step, judge_assembly(there).new_votes))


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
