"""The client where it takes longer: operations that go on, and events as they happen."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from dst.admin.client import EVENTS_AT_ONCE, OPERATION_S_MAX
from dst.administration import Event
from dst.errors import InvalidRequest, PeerError, Unavailable
from dst.status import StatusTree
from test.admin.test_client import Wired


class OperationTests(SynchronousTestCase):
    """An operation that is not done at once."""

    def setUp(self) -> None:
        self.wired = Wired()
        self.wired.fake.waiting = True

    def wait(self, seconds: float) -> None:
        """Time passes, in steps in which messages arrive."""
        for _ in range(int(seconds * 5)):
            self.wired.pass_time(0.2)

    def test_to_its_end(self) -> None:
        """It is looked at until it has ended, much longer than an answer may take."""
        asked = self.wired.admin.suspend("vol", "a")
        self.wait(3 * OPERATION_S_MAX)
        self.assertNoResult(asked)
        self.wired.fake.release()
        self.wait(1)
        self.assertIsNone(self.successResultOf(asked))
        self.assertEqual([("suspend", "vol", "a")], self.wired.fake.calls, "it is asked for once")

    def test_fails(self) -> None:
        """Its error is raised as itself, with its sentence."""
        asked = self.wired.admin.resume("vol", "a")
        self.wait(5)
        self.wired.fake.release()
        self.wait(1)
        error = self.failureResultOf(asked, InvalidRequest).value
        self.assertIn("not suspended", error.message)

    def test_cancel(self) -> None:
        """Who does not want to wait any more leaves nothing behind, and the operation goes on."""
        asked = self.wired.admin.suspend("vol", "a")
        self.wait(5)
        asked.addErrback(lambda _: None)
        asked.cancel()
        self.wait(40)
        self.assertEqual([], self.wired.clock.getDelayedCalls())
        self.wired.fake.release()
        self.assertEqual("suspended", self.wired.fake.trees[2].children[0].state)

    def test_forgotten(self) -> None:
        """A daemon that does not know it any more was started again: what became of it nobody knows."""
        asked = self.wired.admin.suspend("vol", "a")
        self.wait(3)
        self.wired.fake.asked_for.clear()
        self.wait(25)
        self.assertIn("may or may not", self.failureResultOf(asked, Unavailable).value.message)

    def test_nonsense(self) -> None:
        """An answer that says 202 and not what goes on is the peer's fault."""

        class Odd(Resource):
            isLeaf = True

            def render_POST(self, request: object) -> bytes:
                request.setResponseCode(202)  # type: ignore[attr-defined]
                return b'{"version": 1, "operation": {"id": 7}}'

        self.failureResultOf(Wired(Odd()).admin.suspend("vol", "a"), PeerError)


class EventsTests(SynchronousTestCase):
    """Events of the journal."""

    def setUp(self) -> None:
        self.wired = Wired()

    def follow(self, after: int | None = None) -> tuple[Deferred[None], list[Event], list[list[StatusTree]]]:
        happened: list[Event] = []
        told: list[list[StatusTree]] = []
        following = self.wired.admin.follow(told.append, happened.append, after)
        self.wired.pass_time()
        return following, happened, told

    def test_as_they_happen(self) -> None:
        """They are told once each, besides the status."""
        self.wired.fake.happen("long ago")
        following, happened, told = self.follow()
        self.wired.fake.happen("now")
        for _ in range(5):
            self.wired.pass_time(0.5)
        self.assertEqual(["now"], [event.sentence for event in happened])
        self.assertEqual(self.wired.fake.happened[-1], happened[0])
        self.assertEqual(1, len(told))
        self.assertNoResult(following)

    def test_after(self) -> None:
        """Who names a number begins behind it."""
        for _ in range(4):
            self.wired.fake.happen("it happened")
        self.assertEqual([3, 4], [event.number for event in self.follow(2)[1]])

    def test_very_many(self) -> None:
        """A list is complete, however long it is."""
        for _ in range(EVENTS_AT_ONCE + 3):
            self.wired.fake.happen("it happened")
        found = self.successResultOf(self.wired.admin.events(1))
        self.assertEqual(list(range(2, EVENTS_AT_ONCE + 4)), [event.number for event in found])
