"""Tests of L{dst.health.steady}."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dst.administration import HealthFinding, Severity
from dst.health import CODES, Steady, code_named
from dst.health.steady import FINDINGS_MAX


def finding(code: str, subject: str = "vol", sentence: str = "it is so") -> HealthFinding:
    return HealthFinding(code, code_named(code).severity, subject, sentence, 0.0)


class SteadyTests(SynchronousTestCase):
    """What is told, and when."""

    def setUp(self) -> None:
        self.steady = Steady()
        self.now = 100.0

    def take(self, *found: HealthFinding, owner: str = "vol", after: float = 0.0) -> list[tuple[bool, str]]:
        """What is told at a look that finds this."""
        self.now += after
        changes = self.steady.take(owner, found, self.now, 1_000_000.0 + self.now)
        return [(change.raised, change.finding.code) for change in changes]

    def test_at_once(self) -> None:
        """A code without patience is raised when it is seen, once, and has begun then."""
        away = finding("MEMBER_REFUSED")
        self.assertEqual([(True, "MEMBER_REFUSED")], self.take(away))
        self.assertEqual([], self.take(away, after=5))
        (told,) = self.steady.findings()
        self.assertEqual(1_000_100.0, told.since)

    def test_patience(self) -> None:
        """One with patience is raised when it has lasted, and its beginning is when it was seen first."""
        frozen = finding("STORAGE_FROZEN")
        self.assertEqual([], self.take(frozen))
        self.assertTrue(self.steady.unsettled("vol"))
        self.assertEqual([], self.take(frozen, after=4.9))
        self.assertEqual([], self.steady.findings())
        self.assertEqual([(True, "STORAGE_FROZEN")], self.take(frozen, after=0.1))
        self.assertEqual(1_000_100.0, self.steady.findings()[0].since)
        self.assertFalse(self.steady.unsettled("vol"))

    def test_a_blip(self) -> None:
        """What was over before it had lasted is never told, and begins anew the next time."""
        frozen = finding("STORAGE_FROZEN")
        for _ in range(20):
            self.assertEqual([], self.take(frozen, after=1))
            self.assertEqual([], self.take(frozen, after=3))
            self.assertEqual([], self.take(after=1))
        self.assertFalse(self.steady.unsettled("vol"))

    def test_comes_and_goes(self) -> None:
        """What comes back before it has stayed away is not told again."""
        away = finding("MEMBER_REFUSED")
        told = self.take(away)
        for _ in range(20):
            told += self.take(after=4)
            self.assertTrue(self.steady.unsettled("vol"))
            told += self.take(away, after=4)
        self.assertEqual([(True, "MEMBER_REFUSED")], told)
        self.assertEqual([], self.take(after=4))
        self.assertEqual([(False, "MEMBER_REFUSED")], self.take(after=10))
        self.assertEqual([], self.steady.findings())

    def test_owners(self) -> None:
        """A look at one device says nothing about another."""
        self.take(finding("MEMBER_REFUSED", "vol/a"))
        self.take(owner="other", after=60)
        self.assertEqual(["vol/a"], [each.subject for each in self.steady.findings()])
        self.assertEqual([], self.steady.forget("other"))
        (over,) = self.steady.forget("vol")
        self.assertFalse(over.raised)
        self.assertEqual([], self.steady.findings())

    def test_sentences(self) -> None:
        """The sentence is that of the last look; a new one is no news."""
        self.take(finding("MEMBER_REFUSED", sentence="one reason"))
        self.assertEqual([], self.take(finding("MEMBER_REFUSED", sentence="another"), after=1))
        self.assertEqual("another", self.steady.findings()[0].sentence)

    def test_order(self) -> None:
        """The gravest come first."""
        self.take(finding("MEMBER_SUSPENDED", "a"), finding("MEMBER_REFUSED", "b"), finding("STORAGE_FAILED", "c"))
        severities = [each.severity for each in self.steady.findings()]
        self.assertEqual([Severity.CRITICAL, Severity.WARNING, Severity.INFO], severities)

    def test_bounded(self) -> None:
        """No more is remembered than anybody could read; there is room again when something is over."""
        many = [finding("MEMBER_REFUSED", f"vol/{n}") for n in range(FINDINGS_MAX + 50)]
        self.assertEqual(FINDINGS_MAX, len(self.take(*many)))
        self.assertEqual(FINDINGS_MAX, len(self.steady.findings()))
        self.assertEqual([], self.take(*many[:10], after=5))
        self.assertEqual(FINDINGS_MAX - 10, len(self.take(*many[:10], after=20)))
        self.assertEqual([(True, "MEMBER_REFUSED")], self.take(*many[:10], many[-1]))

    def test_raised_and_cleared_alternate(self) -> None:
        """Whatever is found and when: each code of each subject is raised and cleared in turns."""
        for seed in range(20):
            random, steady, now = Random(seed), Steady(), 0.0
            told: dict[tuple[str, str], list[bool]] = {}
            codes = [each.code for each in random.sample(CODES, 5)]
            for _ in range(300):
                now += random.choice([0.2, 1.0, 7.0, 40.0])
                owner = random.choice("ab")
                found = [finding(code, owner) for code in codes if random.random() < 0.5]
                for change in steady.take(owner, found, now, now):
                    told.setdefault((change.finding.code, change.finding.subject), []).append(change.raised)
            for key, history in told.items():
                self.assertEqual([n % 2 == 0 for n in range(len(history))], history, (seed, key))
            lasting = {key for key, history in told.items() if history[-1]}
            self.assertEqual(lasting, {(each.code, each.subject) for each in steady.findings()}, seed)


class TableTests(SynchronousTestCase):
    """The table of codes."""

    def test_names(self) -> None:
        """Codes are unique, in capitals, and short enough to be typed."""
        names = [each.code for each in CODES]
        self.assertEqual(sorted(set(names)), sorted(names))
        for name in names:
            self.assertRegex(name, r"\A[A-Z]+(_[A-Z]+)*\Z")
            self.assertLessEqual(len(name), 30)

    def test_complete(self) -> None:
        """Each says what it means, where it comes from and what to do, in sentences."""
        for each in CODES:
            for text in (each.meaning, each.cause, *each.advice):
                self.assertTrue(text[0].isupper() or text[0] == "`", text)
                self.assertTrue(text.rstrip("`)").endswith((".", "?")), text)
                self.assertEqual(0, text.count("``") % 2, text)
            self.assertNotEqual((), each.advice)
