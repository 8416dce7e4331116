"""Explanations of storages: every row has its words, and what people read of members and of ownership."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dst
from dst.algorithms.explained import REFUSALS, advice_for
from dst.algorithms.joined import JoinedStorage
from dst.algorithms.joined_places import JoinedOptions
from dst.algorithms.linear import Linear
from dst.algorithms.mirror.explaining_starts import STARTS
from dst.algorithms.stripe import Stripe
from dst.errors import NotSupported
from dst.explaining import Explanation
from dst.explaining_trees import NOBODY
from dst.label.verdict import ASSEMBLY_ROWS, CLAIM_ROWS, MEMBER_ROWS, AssemblyStep, MemberStep
from dst.status import Health
from dst.testing import SimulatedMedia
from test.algorithms.joined_media import JoinedCase
from test.algorithms.owners import Owners
from test.algorithms.test_diverged import SplitCase

RECOVERY = Path(dst.__file__).parent.parent / "docs" / "recovery.rst"


class RowsTests(SynchronousTestCase):
    """The tables of verdicts, in words and in the documentation."""

    def test_every_start_has_words(self) -> None:
        """What follows from each row of a start is said."""
        missing = {row[0] for row in (*CLAIM_ROWS, *ASSEMBLY_ROWS)} - set(STARTS)
        self.assertEqual(set(), missing)

    def test_only_a_person(self) -> None:
        """Where a row waits for a person there is advice with a command, or on what to correct."""
        for row, words in STARTS.items():
            if words.next_step == NOBODY:
                self.assertNotEqual((), words.advice, row)
                self.assertNotEqual("", words.condition, row)

    def test_every_refusal_has_advice(self) -> None:
        """What a person can do about media that is refused is said, with the names filled in."""
        for row, _, step, _ in MEMBER_ROWS:
            if step is MemberStep.REFUSE:
                self.assertIn(row, REFUSALS)
            for sentence in advice_for(row, "vol", "b"):
                self.assertNotIn("{", sentence)

    def test_documented(self) -> None:
        """Every row is in the documentation, under its name."""
        text = RECOVERY.read_text()
        names = {row[0] for row in (*MEMBER_ROWS, *CLAIM_ROWS, *ASSEMBLY_ROWS)}
        self.assertEqual([], sorted(name for name in names if f"\n{name} " not in text))

    def test_steps(self) -> None:
        """No step was added that nothing is said about."""
        self.assertEqual({"WAIT", "ASK", "INITIALISE", "SERVE", "CLAIM_AGAIN"}, {step.name for step in AssemblyStep})


class OwnershipTests(SynchronousTestCase):
    """Two daemons, two members and a witness."""

    def setUp(self) -> None:
        """C{left} owns the storage; C{right1} stands by."""
        self.owners = Owners()
        self.owners.start(0)
        self.owners.advance(3)
        self.owners.start(1)
        self.owners.advance(3)

    def explained(self, n: int) -> Explanation:
        mirror = self.owners.mirrors[n]
        assert mirror is not None
        return mirror.explain()

    def detail(self, n: int) -> dict[str, object]:
        mirror = self.owners.mirrors[n]
        assert mirror is not None
        return mirror.status().detail

    def roles(self, n: int) -> tuple[object, str]:
        """What a daemon says of itself, and whom it takes for the owner."""
        detail = self.detail(n)
        return detail["role"], str(detail["owner"]).partition(" ")[0]

    def test_owner(self) -> None:
        """The owner says by which votes, what each node has promised, and how long its lease runs."""
        explanation = self.explained(0)
        self.assertIs(Health.HEALTHY, explanation.health, explanation)
        seen = " | ".join(explanation.evidence)
        self.assertIn("3 of 3 votes are this daemon's (n0, n1, n2); 2 are needed", seen)
        self.assertIn("its lease runs for", seen)
        self.assertIn("n1 has promised claim", seen)
        detail = self.detail(0)
        self.assertEqual((("owner", "left"), 2), (self.roles(0), detail["quorum"]))
        self.assertEqual([{"name": f"n{n}", "granted": True} for n in range(3)], detail["votes"])

    def test_standby(self) -> None:
        """The standby says who owns the storage, that nothing has to be done, and what takes it over."""
        explanation = self.explained(1)
        self.assertEqual("owned-elsewhere", explanation.row, explanation)
        self.assertIn("left", explanation.summary)
        self.assertIn("`dst storage take-over vol`", " ".join(explanation.advice))
        self.assertEqual(("standby", "left"), self.roles(1))

    def test_standby_takes_over_in_time(self) -> None:
        """When the owner is gone, the storage is served by the standby within the time that was said."""
        explanation = self.explained(1)
        self.owners.kill(0)
        assert explanation.within_s is not None
        mirror = self.owners.mirrors[1]
        assert mirror is not None
        self.owners.advance(explanation.within_s)
        self.assertIsNot(None, mirror.serving)
        self.assertEqual(("owner", "right1"), self.roles(1))

    def test_owner_without_quorum(self) -> None:
        """An owner that hears from too few says whose votes it misses, and serves again when it hears from them."""
        self.owners.cut(1)
        self.owners.cut(0, 1, 2)
        self.owners.advance(6)
        explanation = self.explained(0)
        self.assertIs(Health.FROZEN, explanation.health)
        self.assertIn("no quorum", explanation.summary)
        self.assertIn("2 of n0, n1, n2", explanation.condition)
        self.owners.mend(0)
        assert explanation.within_s is not None
        self.owners.advance(explanation.within_s)
        self.assertEqual("ready", self.explained(0).state)

    def test_take_over_is_told(self) -> None:
        """While a storage is handed over both sides say so; afterwards the roles are exchanged."""
        mirror = self.owners.mirrors[1]
        assert mirror is not None
        self.assertIs(None, self.owners.result(mirror.take_over()))
        self.owners.advance(2)
        self.assertEqual((("owner", "right1"), ("standby", "right1")), (self.roles(1), self.roles(0)))
        for n in (0, 1):
            for each in self.explained(n).walk():
                if each.health is not Health.HEALTHY:
                    self.assertTrue(each.summary and each.next_step and each.evidence, each)


class JoinedTests(JoinedCase):
    """Linear and stripe: every member is needed, and nothing is copied."""

    kind = Linear

    def explained(self, storage: JoinedStorage, name: str = "vol") -> Explanation:
        """The storage's, or that of a member; all that is below the storage is complete."""
        for each in storage.explain().walk():
            if each.health is not Health.HEALTHY:
                self.assertTrue(each.summary and each.next_step and each.evidence, each)
        return next(each for each in storage.explain().walk() if each.name == name)

    def test_healthy(self) -> None:
        """It says how many are there and that all are needed."""
        explanation = self.explained(self.opened())
        self.assertIs(Health.HEALTHY, explanation.health)
        self.assertEqual("", explanation.next_step)
        self.assertIn("3 of its 3 members are at their places", explanation.evidence[0])

    def test_away(self) -> None:
        """A member that is away: who it is, what becomes of operations, and that it goes on by itself in time."""
        storage = self.opened(options=JoinedOptions("error", 30.0))
        self.disks[1].pull()
        self.pass_time(1)
        explanation = self.explained(storage)
        self.assertIn("b: ", explanation.summary)
        self.assertIn("operations that wait fail with an error in ", " ".join(explanation.evidence))
        self.assertEqual("absent", self.explained(storage, "b").state)
        self.disks[1].plug_in()
        self.pass_time(round(explanation.within_s or 0))
        self.assertIs(Health.HEALTHY, self.explained(storage).health)

    def test_blank_media(self) -> None:
        """Blank media at a member's place: the row, and what a person can do."""
        self.made()
        self.media[1] = SimulatedMedia(self.media[1].size)
        storage = self.opened()
        member = self.explained(storage, "b")
        self.assertEqual(("new-media-without-copies", NOBODY), (member.row, member.next_step))
        self.assertIn("its media has no label", member.evidence)
        self.assertNotEqual((), member.advice)
        self.assertEqual(NOBODY, self.explained(storage).next_step)

    def test_holds_data(self) -> None:
        """Where a person has to say that data may be lost, the command is there."""
        self.media[1].write(1000, b"somebody's")
        explanation = self.explained(self.opened())
        self.assertEqual(NOBODY, explanation.next_step)
        self.assertIn("`dst init vol --discard`", explanation.advice[0])

    def test_mixed_up(self) -> None:
        """Members of two storages: each says of which it is, and only a person can correct that."""
        self.made()
        ours = self.media
        self.setUp()
        self.media = [SimulatedMedia(each.size, seed=50 + n) for n, each in enumerate(ours)]
        self.made()
        self.media[:2] = ours[:2]
        storage = self.opened()
        explanation = self.explained(storage)
        self.assertEqual(NOBODY, explanation.next_step)
        self.assertIn("different storages", explanation.summary)
        self.assertIn("its label: storage ", " ".join(self.explained(storage, "c").evidence))

    def test_what_it_has_not(self) -> None:
        """There is nobody to take it from, no history to choose and no resync to pause."""
        storage = self.opened()
        for done in (
            storage.take_over(),
            storage.resolve("a"),
            storage.pause_resync(),
            storage.resume_resync("a"),
        ):
            self.assertIn("a linear ", self.failureResultOf(done, NotSupported).value.message)
        self.assertEqual((), storage.resyncs())


class StripeTests(JoinedTests):
    """The same for a stripe."""

    kind = Stripe
    options = JoinedOptions(unit=64 * 1024)

    def test_what_it_has_not(self) -> None:
        """There is nothing to choose or to pause here either."""
        self.assertEqual((), self.opened().resyncs())


class HistoriesTests(SplitCase):
    """Two histories of one storage: what a person reads before choosing."""

    def test_refused(self) -> None:
        """While one is served, the member with the other says what each choice loses, and how to read and choose."""
        _, left = self.refused()
        storage = left.explain()
        member = next(each for each in storage.children if each.name == "n1")
        self.assertEqual(("diverged", NOBODY), (member.row, member.next_step))
        self.assertIn("loses at most", member.summary)
        advice = " ".join(member.advice)
        self.assertIn("`vol@NODE`", advice)
        self.assertIn("`dst storage resolve vol --keep NODE`", advice)
        self.assertEqual(NOBODY, storage.next_step)
        self.assertIn("n1", " ".join(storage.advice))

    def test_start_waits(self) -> None:
        """At a start nothing is chosen: the storage says so, and each member what the choice of it discards."""
        world, _, _ = self.split(3)
        world.kill(0)
        world.kill(1)
        mirror = world.start(2)
        starter = mirror.starter
        self.until(world, lambda: starter is not None and starter.verdict and starter.verdict.row == "diverged")
        world.advance(2.0)
        storage = mirror.explain()
        self.assertEqual(("diverged", NOBODY), (storage.row, storage.next_step))
        self.assertIn("`dst storage resolve vol --keep NODE`", " ".join(storage.advice))
        for member in storage.children:
            self.assertEqual(NOBODY, member.next_step)
            self.assertIn(f"`dst storage resolve vol --keep {member.name}`", " ".join(member.advice))
            self.assertIn("discards at most", member.summary)
