"""Tests of L{dst.cluster.hooks} and L{dst.cluster.hook_specs}."""

from __future__ import annotations

import json
from random import Random

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.administration import Event, Severity
from dst.cluster.document import read_document, to_document
from dst.cluster.hook_specs import HOOKS_MAX, HookSpec, hook_from_plain
from dst.cluster.hooks import PAUSE_S_MAX, QUEUE_MAX, TRIES, Hooks
from dst.cluster.journal import Journal
from dst.errors import InvalidRequest, Unavailable

COMMAND = HookSpec(on=("health", "daemon"), command=("/bin/page", "secret"))
URL = HookSpec(url="https://example.org/secret?token=1")


class SpecTests(SynchronousTestCase):
    """How a hook is written."""

    def wrong(self, said: object) -> str:
        return str(self.assertRaises(ValueError, hook_from_plain, said))

    def test_read_and_written(self) -> None:
        """What is read is written as it was, without what goes without saying."""
        written: list[dict[str, object]] = [
            {"command": ["/bin/true"]},
            {"url": "http://[::1]:8080/x", "header_file": "h", "timeout_s": 5.0},
            {"on": ["state", "resync"], "severity": "warning", "command": ["/bin/echo", "a b"]},
        ]
        for said in written:
            self.assertEqual(said, hook_from_plain(said).plain())
            document: dict[str, object] = {"hooks": [said, {"url": "https://example.org"}]}
            read = read_document(document)
            self.assertEqual([], read.findings)
            self.assertEqual(2, len(read.topology.hooks))
            self.assertEqual(document, to_document(read.topology))

    def test_wrong(self) -> None:
        """What makes no sense is refused, with what was expected."""
        self.assertIn("one of them", self.wrong({}))
        self.assertIn("one of them", self.wrong({"command": ["/bin/true"], "url": "http://a"}))
        self.assertIn("absolute", self.wrong({"command": ["true"]}))
        self.assertIn("list of texts", self.wrong({"command": "/bin/true -x"}))
        self.assertIn("list of texts", self.wrong({"command": ["/bin/true", ""]}))
        self.assertIn("no 'comand'", self.wrong({"comand": ["/bin/true"]}))
        self.assertIn("kind 'helth'", self.wrong({"on": ["helth"], "url": "http://a"}))
        self.assertIn("on is empty", self.wrong({"on": [], "url": "http://a"}))
        self.assertIn("severity is 'bad'", self.wrong({"severity": "bad", "url": "http://a"}))
        for seconds in (0, -1, 1e9, True, "5", float("nan")):
            self.assertIn("timeout_s", self.wrong({"timeout_s": seconds, "url": "http://a"}))
        for url in ("ftp://a/", "file:///etc/passwd", "http://", "http://a:b/"):
            self.assertIn("url", self.wrong({"url": url}).lower())
        refusal = self.wrong({"url": "https://user:pa55@example.org/"})
        self.assertIn("header_file", refusal)
        self.assertNotIn("pa55", refusal)
        self.assertIn("without a url", self.wrong({"command": ["/bin/true"], "header_file": "x"}))
        self.assertIn("expected", self.wrong("http://a"))

    def test_in_a_document(self) -> None:
        """A mistake is found with its place; a hundred hooks are a mistake."""
        read = read_document({"hooks": [{"url": "http://a"}, {"url": 5}]})
        self.assertEqual([("hooks", 1)], [finding.place for finding in read.findings])
        self.assertIn("list of tables", read_document({"hooks": {"url": "http://a"}}).findings[0].sentence)
        many = read_document({"hooks": [{"url": "http://a"}] * (HOOKS_MAX + 1)})
        self.assertIn("is the most", many.findings[0].sentence)

    def test_words(self) -> None:
        """In logs neither arguments nor what stands behind the host are seen."""
        self.assertEqual("the command /bin/page", COMMAND.words)
        self.assertEqual("the URL https://example.org", URL.words)

    def test_wants(self) -> None:
        """Kinds and severity choose; that something grave is over is as important as the thing itself."""

        def event(kind: str, severity: Severity, code: str | None = None) -> Event:
            return Event(1, 0.0, kind, severity, "vol", "it is so", code)

        spec = HookSpec(on=("health",), url="http://a", severity=Severity.CRITICAL)
        self.assertTrue(spec.wants(event("health", Severity.CRITICAL, "QUORUM_LOST")))
        self.assertTrue(spec.wants(event("health", Severity.INFO, "QUORUM_LOST")))
        self.assertFalse(spec.wants(event("health", Severity.WARNING, "MEMBER_AWAY")))
        self.assertFalse(spec.wants(event("state", Severity.CRITICAL)))


class HooksTests(SynchronousTestCase):
    """Queues, pauses and limits; the deliveries are the test's."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.journal = Journal(lambda: 1_800_000_000.0)
        self.delivered: list[tuple[HookSpec, dict[str, object]]] = []
        self.answers: list[Deferred[None]] = []
        self.answer_with: Exception | None = None
        self.holding = False

    def start(self, *specs: HookSpec) -> Hooks:
        hooks = Hooks(self.clock, specs, self.journal, "alpha", self.deliver, Random(1))
        hooks.start()
        self.addCleanup(hooks.stop)
        return hooks

    def deliver(self, spec: HookSpec, body: bytes) -> Deferred[None]:
        self.delivered.append((spec, json.loads(body)))
        if self.holding:
            answer: Deferred[None] = Deferred()
            self.answers.append(answer)
            return answer
        return succeed(None) if self.answer_with is None else fail(self.answer_with)

    def happens(self, count: int = 1, kind: str = "health") -> None:
        for number in range(count):
            self.journal.record(kind, "vol", f"thing {number}", code="QUORUM_LOST", severity=Severity.CRITICAL)

    def sentences(self, spec: HookSpec) -> list[object]:
        return [body["sentence"] for each, body in self.delivered if each is spec]

    def test_delivered(self) -> None:
        """Everybody who wants it gets the event, with all there is to know, in order."""
        self.start(COMMAND, URL)
        self.happens()
        self.happens(kind="state")
        self.happens(kind="daemon")
        self.clock.advance(0)
        expected = {
            "version": 1,
            "daemon": "alpha",
            "number": 1,
            "time": 1_800_000_000.0,
            "kind": "health",
            "severity": "critical",
            "subject": "vol",
            "sentence": "thing 0",
            "code": "QUORUM_LOST",
            "cleared": False,
        }
        self.assertEqual(expected, self.delivered[0][1])
        self.assertEqual([1, 3], [body["number"] for spec, body in self.delivered if spec is COMMAND])
        self.assertEqual([1], [body["number"] for spec, body in self.delivered if spec is URL])

    def test_one_after_the_other(self) -> None:
        """Of one hook one delivery is under way at a time; another hook does not wait for it."""
        self.start(COMMAND, URL)
        self.holding = True
        self.happens(3)
        self.assertEqual([COMMAND, URL], [spec for spec, _ in self.delivered])
        self.answers[1].callback(None)
        self.clock.advance(0)
        self.assertEqual(["thing 0", "thing 1"], self.sentences(URL))
        self.assertEqual(["thing 0"], self.sentences(COMMAND))

    def test_tried_again(self) -> None:
        """What may work later is tried again, with growing pauses and not for ever; what comes later waits."""
        hooks = self.start(URL)
        self.answer_with = Unavailable("it answered 503")
        self.happens(2)
        times = []
        for _ in range(4000):
            before = len(self.delivered)
            self.clock.advance(0.1)
            if len(self.delivered) > before and self.sentences(URL)[-1] == "thing 0":
                times.append(self.clock.seconds())
        self.assertEqual(["thing 0"] * TRIES, self.sentences(URL)[:TRIES])
        self.assertEqual("thing 1", self.sentences(URL)[TRIES])
        pauses = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
        self.assertGreater(pauses[-1], 4 * pauses[0])
        self.assertLessEqual(max(pauses), 1.3 * PAUSE_S_MAX)
        self.assertIn("https://example.org could not be told of an event: it answered 503", hooks.failing[0])
        self.answer_with = None
        self.happens()
        self.clock.pump([30.0] * 40)
        self.assertEqual((), hooks.failing)

    def test_not_tried_again(self) -> None:
        """What will not work later either is given up at once."""
        hooks = self.start(COMMAND)
        self.answer_with = InvalidRequest("it ended with the status 3")
        self.happens(2)
        self.clock.advance(1)
        self.assertEqual(["thing 0", "thing 1"], self.sentences(COMMAND))
        sentence = "the command /bin/page could not be told of an event: it ended with the status 3"
        self.assertEqual((sentence,), hooks.failing)

    def test_unexpected(self) -> None:
        """A mistake in a delivery is logged, and the next event is delivered."""
        self.start(COMMAND)
        self.answer_with = ZeroDivisionError()
        self.happens()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.answer_with = None
        self.clock.advance(1)
        self.happens()
        self.assertEqual(2, len(self.delivered))

    def test_bounded(self) -> None:
        """A hook that hangs keeps the newest events, and what is under way."""
        self.start(COMMAND)
        self.holding = True
        self.happens(3 * QUEUE_MAX)
        self.holding = False
        self.answers[0].callback(None)
        for _ in range(2 * QUEUE_MAX):
            self.clock.advance(0)
        told = self.sentences(COMMAND)
        self.assertEqual(QUEUE_MAX, len(told))
        self.assertEqual(["thing 0", f"thing {2 * QUEUE_MAX + 1}"], told[:2])
        self.assertEqual(f"thing {3 * QUEUE_MAX - 1}", told[-1])

    def test_stop(self) -> None:
        """When it stops nothing is left: what is under way is cancelled, no timer, and nothing is told any more."""
        hooks = self.start(COMMAND, URL)
        self.holding = True
        self.happens(3)
        hooks.stop()
        self.happens()
        self.clock.advance(100)
        self.assertEqual([True, True], [answer.called for answer in self.answers])
        self.assertEqual(2, len(self.delivered))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_last_words(self) -> None:
        """What happened last is delivered before the end, if that does not take long."""
        for patient in (True, False):
            self.delivered.clear()
            hooks = self.start(COMMAND)
            self.holding = True
            self.happens(2)
            done = ensureDeferred(hooks.finish(3.0))
            self.clock.advance(0.5)
            self.assertNoResult(done)
            if patient:
                self.holding = False
                self.answers[-1].callback(None)
            self.clock.pump([0.1] * 40)
            self.successResultOf(done)
            self.assertEqual(2 if patient else 1, len(self.delivered))
