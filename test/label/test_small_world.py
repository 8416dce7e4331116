"""
Every state within a small scope, judged from every side; and each row of the three tables taken out, to see that a
promise breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from types import ModuleType

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dst.label import assembly_rows, claim_rows, member_rows
from dst.label.lineage import Lineage, lineage
from dst.label.verdict import (
    AssemblyInputs,
    AssemblyStep,
    AssemblyVerdict,
    ClaimStep,
    MemberInputs,
    MemberStep,
    judge_assembly,
    judge_claim,
    judge_member,
)
from test.label.small_world import Broken, Scope, SmallWorld
from test.label.test_verdict import (
    AWAKE,
    BLANK,
    CAPACITY,
    DAMAGED,
    FORKED,
    MEDIA,
    OTHER_STORAGE,
    RESTARTED,
    STORAGE,
    WENT_ON,
    found,
    label_of,
    record_of,
)

SCOPES = (
    Scope(writes=1, faults=2, starts=1),
    Scope(witnesses=0, own_store=True, writes=1, faults=2, starts=1),
    Scope(writes=1, faults=1, starts=2, forces=1),
    Scope(members=3, witnesses=0, writes=1, faults=1, starts=1),
)
"""Two members with a witness, two with the owner's own store, two with a person's word, and three."""


QUICK = (
    Scope(writes=1, faults=1, starts=1),
    Scope(witnesses=0, own_store=True, writes=1, faults=1, starts=1),
    Scope(writes=1, faults=1, starts=1, forces=1),
    Scope(writes=1, faults=1, starts=2, forces=1),
)
"""In which it shows soon that a row is missing."""


def explore() -> None:
    """@raise Broken: a promise, somewhere within the quick scopes."""
    for scope in QUICK:
        SmallWorld(scope).explore()


# -- media of every kind, at every place

MEDIA_KINDS = {
    "away": None,
    "blank": BLANK,
    "damaged": DAMAGED,
    "ours": found("a"),
    "stale": found("a", record_of("abc", number=2)),
    "newer": found("a", record_of("b", number=4)),
    "foreign": found("a", storage_id=OTHER_STORAGE),
    "striped": found("a", algorithm="stripe"),
    "twin": found("b"),
}
"""What can stand at the place of one member."""


def starts() -> Iterator[AssemblyInputs]:
    """Two members with media of every kind, and what else decides."""
    for kinds in product(MEDIA_KINDS, repeat=2):
        media = {}
        for name, kind in zip("ab", kinds, strict=True):
            here = MEDIA_KINDS[kind]
            if here is not None:
                whose = {"a": "b", "b": "a"}[name] if kind == "twin" else name
                label = None if here.label is None else here.label.evolve(node_id=label_of(whose).node_id)
                media[name] = evolve(here, label=label)
        for zero, kept, waited in product((None, True, False), (None, label_of("a", record_of("a"))), (True, False)):
            yield AssemblyInputs(("a", "b"), media, dict.fromkeys(media, AWAKE), kept, waited, zero)
            if kinds == ("ours", "ours"):
                yield AssemblyInputs(("a", "b"), media, {"a": AWAKE, "b": RESTARTED}, kept, waited, zero)


def check_start(inputs: AssemblyInputs) -> None:
    """@raise Broken: a promise about what a storage is made of, or is started with."""
    judged = judge_assembly(inputs)
    _check_new(inputs, judged)
    labels = {name: each.label for name, each in inputs.found.items() if each.label is not None}
    used = [labels[name] for name in judged.sources]
    if any(label.storage_id != judged.storage_id or label.algorithm != inputs.algorithm for label in used):
        raise Broken("only media of this storage is used", (), judged)
    if len({label.node_id for label in used}) != len(used):
        raise Broken("one identity is one source", (), judged)
    if judged.row == "latest-data-away" and not inputs.found:
        raise Broken("nobody is told to give up what was not looked for", (), judged)
    ids = {label.storage_id for label in labels.values()}
    if inputs.kept is None and len(ids) > 1 and judged.step is not AssemblyStep.ASK:
        raise Broken("who has to be asked is asked", (), judged)
    handed = judge_claim(evolve(inputs, handed_to="another daemon"))
    if handed.step is not ClaimStep.LOOK and judged.step is AssemblyStep.ASK:
        raise Broken("who has to be asked is asked", (), judged)
    if judge_claim(inputs).step is ClaimStep.CLAIM and not judged.sources:
        raise Broken("a claim is followed by service", (), judged)


def check_choice(inputs: AssemblyInputs) -> None:
    """@raise Broken: a person has chosen the history of b, and another one is used, or it is waited for in vain."""
    judged = judge_assembly(evolve(inputs, keep="b"))
    label = inputs.found["b"].label if "b" in inputs.found else None
    here = label is not None and label.storage_id == inputs.data.storage_id
    if (judged.step is AssemblyStep.SERVE and not here) or (here and judged.row == "choice-away"):
        raise Broken("a person's word counts", (), judged)


def _check_new(inputs: AssemblyInputs, judged: AssemblyVerdict) -> None:
    everybody = set(inputs.found) == set(inputs.names)
    blank = everybody and all(each.unlabelled for each in inputs.found.values()) and inputs.kept is None
    if (judged.step is AssemblyStep.INITIALISE) != (blank and inputs.zero is True):
        raise Broken("a new storage is made of zeroes with nobody asked, and of nothing else", (), judged)
    if blank and (judged.step is AssemblyStep.ASK) != (inputs.zero is False):
        raise Broken("a person is asked about what members hold, when that is known", (), judged)


def members() -> Iterator[MemberInputs]:
    """Media of every kind at a member's place, in a storage of every line."""
    records = (record_of(), FORKED, WENT_ON, record_of(members="bc"), evolve(FORKED, members=FORKED.members[1:]))
    labels = (record_of(), record_of(number=2), record_of(number=4), FORKED, WENT_ON)
    kinds = [BLANK, DAMAGED, *(found("a", record) for record in labels)]
    kinds += [found("a", storage_id=OTHER_STORAGE), found("a", algorithm="stripe")]
    for kind, record, twin, resolved, copies in product(kinds, records, ("", "b"), (False, True), (False, True)):
        for size, capacity in ((MEDIA, CAPACITY), (MEDIA - 4096, CAPACITY), (MEDIA, CAPACITY - 1)):
            yield MemberInputs(
                STORAGE, "mirror", record, kind, size, capacity, CAPACITY, copies, twin=twin, resolved=resolved
            )


def check_member(inputs: MemberInputs) -> None:
    """@raise Broken: a promise about media at a member's place."""
    judged = judge_member(inputs)
    label = inputs.found.label
    writes = judged.step is not MemberStep.REFUSE
    if writes and inputs.capacity < inputs.capacity_needed:
        raise Broken("media that is written has room", (), judged)
    if label is None:
        new = inputs.found.unlabelled and inputs.has_copies and inputs.capacity >= inputs.capacity_needed
        if writes != new or (writes and judged.step is not MemberStep.NEW_MEDIA):
            raise Broken("new media is resynced with nobody asked, and nothing else is taken for that", (), judged)
        return
    ours = label.storage_id == inputs.storage_id and label.algorithm == inputs.algorithm
    if writes and not ours:
        raise Broken("only media of this storage is used", (), judged)
    line = lineage(label.record, inputs.record)
    given_up = line is Lineage.DIVERGED and inputs.resolved
    if writes and line not in (Lineage.SAME, Lineage.ANCESTOR) and not given_up:
        raise Broken("nothing is overwritten", (), judged)
    listed = inputs.record.entry(label.node_id) is not None
    if judged.step is MemberStep.COMPARE and not listed:
        raise Broken("only members are compared", (), judged)
    if judged.step is MemberStep.NEW_MEDIA and (listed or not inputs.has_copies):
        raise Broken("nothing is copied that is there", (), judged)
    if writes and label.media_size > inputs.media_size:
        raise Broken("media that was cut short is not used", (), judged)
    if judged.step is MemberStep.COMPARE and inputs.twin and not given_up:
        raise Broken("one identity is one member", (), judged)
    whole = inputs.capacity >= inputs.capacity_needed and label.media_size <= inputs.media_size
    if ours and whole and given_up and inputs.has_copies and not writes:
        raise Broken("a person's word counts", (), judged)
    if ours and whole and listed and not inputs.twin and line in (Lineage.SAME, Lineage.ANCESTOR) and not writes:
        raise Broken("a member returns with nobody asked", (), judged)
    told = "another history" in judged.reason or "another storage" in judged.reason
    if ours and whole and line is Lineage.DIVERGED and not writes and not told:
        raise Broken("it is said what stands there", (), judged)
    if ours and whole and line is Lineage.DESCENDANT and "newer owner" not in judged.reason:
        raise Broken("it is said what stands there", (), judged)


def look_at_all_media() -> None:
    """@raise Broken: a promise."""
    for start in starts():
        check_start(start)
        check_choice(start)
    for member in members():
        check_member(member)


TABLES: dict[str, ModuleType] = {
    "CLAIM_ROWS": claim_rows,
    "ASSEMBLY_ROWS": assembly_rows,
    "MEMBER_ROWS": member_rows,
}


class SmallWorldTests(SynchronousTestCase):
    """What is promised holds in every state."""

    def test_every_state(self) -> None:
        """
        No copy that is stale is ever served, nobody is passed over or overwritten, and both ends agree, whatever is
        lost, comes back, dies half-way, is taken over or forced.
        """
        states = served = 0
        for scope in SCOPES:
            world = SmallWorld(scope)
            world.explore()
            states += world.states
            served += world.served
        self.assertGreater(states, 10_000)
        self.assertGreater(served, 5_000)

    def test_every_kind_of_media(self) -> None:
        """Whatever stands at the places of two members is used, refused, waited for or asked about as promised."""
        look_at_all_media()
        self.assertGreater(sum(1 for _ in starts()), 900)
        self.assertGreater(sum(1 for _ in members()), 900)

    def test_each_row_is_needed(self) -> None:
        """Without any one row a promise breaks."""
        for table, module in TABLES.items():
            rows = getattr(module, table)
            for row in [each[0] for each in rows]:
                with self.rows(module, table, tuple(each for each in rows if each[0] != row)):
                    self.assert_breaks(f"{table} without {row}")

    def test_each_condition_is_needed(self) -> None:
        """With any one condition turned round a promise breaks, too."""
        for table, module in TABLES.items():
            rows = getattr(module, table)
            for at, row in enumerate(rows):
                turned = (row[0], lambda i, holds=row[1]: not holds(i), *row[2:])
                with self.rows(module, table, (*rows[:at], turned, *rows[at + 1 :])):
                    self.assert_breaks(f"{table} with {row[0]} turned round")

    @contextmanager
    def rows(self, module: ModuleType, table: str, rows: tuple[object, ...]) -> Iterator[None]:
        """With this table."""
        patch = self.patch(module, table, rows)
        try:
            yield
        finally:
            patch.restore()

    def assert_breaks(self, what: str) -> None:
        """A promise does not hold, or a verdict cannot be reached at all."""
        looks: tuple[Callable[[], None], ...] = (look_at_all_media, explore)
        for look in looks:
            try:
                look()
            except (Broken, AssertionError, ValueError, AttributeError, LookupError):
                return
        self.fail(f"nothing breaks: {what}")
