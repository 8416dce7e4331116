"""Tests of L{dst.cluster.operations}."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.schema import ERRORS
from dst.administration import OperationState, OperationStatus
from dst.cluster.operations import OPERATIONS_MAX, RUNNING_MAX, Operations
from dst.errors import InvalidRequest, LimitReached, NotFound, code_of


class OperationsTests(SynchronousTestCase):
    """What was asked for and takes its time."""

    def setUp(self) -> None:
        """A registry in the year 2001."""
        self.now = 1e9
        self.ended: list[OperationStatus] = []
        self.operations = Operations(lambda count: b"\x01" * count, lambda: self.now, self.ended.append)

    def test_done(self) -> None:
        """It runs, then it is done, and who waits for it gets the result."""
        work: Deferred[str] = Deferred()
        waiting = self.operations.run("suspend", "vol/b", lambda: work, "alice")
        (status,) = self.operations.all()
        self.assertEqual(
            ("suspend", "vol/b", "alice", OperationState.RUNNING, 1e9, None),
            (status.kind, status.subject, status.asked_by, status.state, status.began, status.ended),
        )
        self.now += 5
        work.callback("result")
        self.assertEqual("result", self.successResultOf(waiting))
        status = self.operations.get(status.id)
        self.assertEqual((OperationState.DONE, 1e9 + 5, None), (status.state, status.ended, status.error_code))
        self.assertEqual([status], self.ended)

    def test_failed(self) -> None:
        """Why it failed is its sentence, with the code that any other answer would have."""
        work: Deferred[None] = Deferred()
        waiting = self.operations.run("suspend", "vol/b", lambda: work)
        work.errback(InvalidRequest("it is the last copy"))
        self.failureResultOf(waiting, InvalidRequest)
        (status,) = self.operations.all()
        self.assertEqual(
            (OperationState.FAILED, "it is the last copy", "invalid-request"),
            (status.state, status.sentence, status.error_code),
        )

    def test_mistake_of_our_own(self) -> None:
        """What DST has done wrong is in the log and not in the answer."""
        work: Deferred[None] = Deferred()
        waiting = self.operations.run("grow", "vol", lambda: work)
        work.errback(ZeroDivisionError("secret"))
        self.failureResultOf(waiting, ZeroDivisionError)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        (status,) = self.operations.all()
        self.assertEqual("internal-error", status.error_code)
        self.assertNotIn("secret", status.sentence)

    def test_refused_at_once(self) -> None:
        """What was never begun is no operation."""

        def refuse() -> Deferred[None]:
            raise NotFound("there is none")

        self.assertRaises(NotFound, self.operations.run, "grow", "vol", refuse)
        self.assertEqual([], self.operations.all())

    def test_progress(self) -> None:
        """Whoever does it says how far it is."""
        operation = self.operations.begin("change", "")
        operation.say("copying", 100, 40)
        (status,) = self.operations.all()
        self.assertEqual(("copying", 100, 40), (status.sentence, status.bytes_total, status.bytes_left))

    def test_forgotten(self) -> None:
        """Only so many are remembered, the newest first; those that go on are never forgotten."""
        first = self.operations.begin("replace", "vol/a").status.id
        for _ in range(OPERATIONS_MAX + 10):
            self.operations.run("grow", "vol", lambda: succeed(None))
        statuses = self.operations.all()
        self.assertEqual(OPERATIONS_MAX, len(statuses))
        self.assertEqual(first, statuses[-1].id)
        self.assertEqual(f"{first.partition('-')[0]}-{OPERATIONS_MAX + 11}", statuses[0].id)
        error = self.assertRaises(NotFound, self.operations.get, first.replace("-1", "-2"))
        self.assertIn("there is no operation", error.message)

    def test_too_many(self) -> None:
        """Nobody begins any number of them."""
        for _ in range(RUNNING_MAX):
            self.operations.begin("grow", "vol")
        self.assertRaises(LimitReached, self.operations.begin, "grow", "vol")

    def test_ids_after_a_restart(self) -> None:
        """An id of an earlier life is not taken for another operation."""
        other = Operations(lambda count: b"\x02" * count, lambda: self.now)
        self.assertNotEqual(self.operations.begin("x", "").status.id, other.begin("x", "").status.id)


class CodeTests(SynchronousTestCase):
    """What programs call an error."""

    def test_as_in_answers(self) -> None:
        """The codes of operations are those of HTTP answers."""
        for row in ERRORS:
            self.assertEqual(row.code, code_of(row.error("x")))

    def test_others(self) -> None:
        """A subclass has the code of its nearest public class; what is not DST's is its own fault."""

        class Special(NotFound):
            pass

        self.assertEqual("not-found", code_of(Special("x")))
        self.assertEqual("internal-error", code_of(ValueError("x")))
