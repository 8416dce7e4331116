"""The client over the real resource and the real HTTP parsers, in memory."""

from __future__ import annotations

from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IAgent
from twisted.web.resource import Resource
from zope.interface import implementer

from dst import errors
from dst.admin.client import ANSWER_BYTES_MAX, OPERATION_S_MAX, SILENCE_S_MAX, STATUS_S_MAX, HTTPAdmin
from dst.admin.reaching import Credentials
from dst.admin.rest import AdminResource
from dst.admin.schema import ERRORS
from dst.errors import DeadlinePassed, DSTError, InvalidRequest, PeerError, Unavailable
from dst.status import Health, StatusTree
from dst.testing.admin_suite import AdminSpecimen, admin_suite
from dst.testing.fake_admin import FakeAdmin

URL = "http://127.0.0.1:7480"


class Wired:
    """A client and a daemon's resource, connected in memory."""

    def __init__(self, resource: Resource | None = None) -> None:
        self.clock = Clock()
        self.fake = FakeAdmin()
        self.agent = RequestTraversalAgent(resource or AdminResource(self.fake, self.clock, now=lambda: 1000.0))
        self.admin = HTTPAdmin(URL, HTTPClient(self.agent), self.clock)

    def pass_time(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.agent.flush()


def make_wired(case: object) -> AdminSpecimen:
    wired = Wired()

    def step() -> None:
        wired.fake.settle()
        wired.pass_time(0.1)

    return AdminSpecimen(wired.admin, step)


class HTTPAdminSuiteTests(admin_suite(HTTPAdmin, make_wired)):
    """L{HTTPAdmin} is a cluster admin."""


class ErrorTests(SynchronousTestCase):
    """What went wrong in the daemon goes wrong in the same way at the client."""

    def test_every_class(self) -> None:
        """Every error there is arrives as its own class, with its sentence."""
        wired = Wired()
        for name in errors.__all__:
            error = getattr(errors, name)
            if not (isinstance(error, type) and issubclass(error, DSTError)) or error is DSTError:
                continue
            wired.fake.failing = error(f"the sentence of {name}")
            arrived = self.failureResultOf(wired.admin.status()).value
            self.assertEqual((error, f"the sentence of {name}"), (type(arrived), arrived.message))

    def test_every_class_has_a_row(self) -> None:
        """No error class is missing in the table, and none shares a code."""
        classes = {
            value
            for value in vars(errors).values()
            if isinstance(value, type) and issubclass(value, DSTError) and value is not DSTError
        }
        self.assertEqual(classes, {row.error for row in ERRORS})
        self.assertEqual(len(ERRORS), len({row.code for row in ERRORS}))
        for row in ERRORS:
            self.assertEqual(errors.code_of(row.error("")), row.code)

    def test_derived_class(self) -> None:
        """An error that only a plugin knows arrives as the nearest one that everybody knows."""

        class Scorched(errors.MediaError):
            """A plugin's own."""

        wired = Wired()
        wired.fake.failing = Scorched("it burns")
        self.failureResultOf(wired.admin.suspend("vol", "a"), errors.MediaError)

    def test_mistake_in_the_daemon(self) -> None:
        """A mistake of the daemon is told as one; its details stay in its log."""
        wired = Wired()
        wired.fake.failing = ZeroDivisionError("secret detail")
        error = self.failureResultOf(wired.admin.status(), errors.InternalError).value
        self.assertNotIn("secret", error.message)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_advice(self) -> None:
        """The daemon's advice arrives with the error."""
        error = self.failureResultOf(Wired().admin.suspend("nothing", "a"), errors.NotFound).value
        self.assertIn("dst status", error.correction)


@implementer(IAgent)
class DeafAgent:
    """Every request ends as it was told, or not at all."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.cancelled = 0

    def request(self, method: bytes, uri: bytes, headers: object = None, bodyProducer: object = None) -> object:
        if self.error is not None:
            return fail(self.error)

        def cancelled(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancelled)


class OnTheWayTests(SynchronousTestCase):
    """What goes wrong between the client and the daemon."""

    def admin(self, agent: DeafAgent) -> tuple[HTTPAdmin, Clock]:
        clock = Clock()
        return HTTPAdmin(URL, HTTPClient(agent), clock), clock

    def test_nobody_there(self) -> None:
        """Where nobody listens the error says where, and what to look at."""
        admin, _ = self.admin(DeafAgent(ConnectionRefusedError(111, "Connection refused")))
        error = self.failureResultOf(admin.status(), Unavailable).value
        self.assertEqual(
            "no daemon answers at http://127.0.0.1:7480 (connection refused): is `twistd dst` running there?",
            error.message,
        )

    def test_connect_takes_too_long(self) -> None:
        """A connection that does not come about is an error of the same kind."""
        admin, _ = self.admin(DeafAgent(TimeoutError()))
        self.assertIn("no daemon answers", self.failureResultOf(admin.status(), Unavailable).value.message)

    def test_no_answer(self) -> None:
        """Nothing waits for ever: a daemon that does not answer is given up, and so is the request."""
        for ask, seconds in ((HTTPAdmin.status, STATUS_S_MAX), (lambda a: a.suspend("vol", "a"), OPERATION_S_MAX)):
            agent = DeafAgent()
            admin, clock = self.admin(agent)
            asked = ask(admin)
            clock.advance(seconds - 0.1)
            self.assertNoResult(asked)
            clock.advance(0.2)
            self.failureResultOf(asked, DeadlinePassed)
            self.assertEqual(1, agent.cancelled)
            self.assertEqual([], clock.getDelayedCalls())

    def test_lost(self) -> None:
        """When the connection breaks, the error does not pretend to know what was done."""
        admin, _ = self.admin(DeafAgent(ConnectionResetError("reset by peer")))
        error = self.failureResultOf(admin.suspend("vol", "a"), Unavailable).value
        self.assertIn("may or may not have been done", error.message)

    def test_foreign_server(self) -> None:
        """What is not DST's admin interface is called that, whatever it answers."""
        for code, content in ((200, b"<html>hello"), (404, b"not here"), (200, b"[]"), (500, b"{}"), (200, b"{}")):

            class Foreign(Resource):
                isLeaf = True

                def render_GET(self, request: object, code: int = code, content: bytes = content) -> bytes:
                    request.setResponseCode(code)  # type: ignore[attr-defined]
                    return content

            error = self.failureResultOf(Wired(Foreign()).admin.status(), PeerError).value
            self.assertIn("not the admin interface", error.message)

    def test_redirect(self) -> None:
        """A redirect is not followed: operations go to the daemon that was named, or nowhere."""

        class Elsewhere(Resource):
            isLeaf = True

            def render_GET(self, request: object) -> bytes:
                request.redirect(b"http://192.0.2.1/v1/status")  # type: ignore[attr-defined]
                return b""

        self.failureResultOf(Wired(Elsewhere()).admin.status(), PeerError)

    def test_answer_too_large(self) -> None:
        """An answer beyond the limit is not read to its end."""

        class Endless(Resource):
            isLeaf = True

            def render_GET(self, request: object) -> bytes:
                return b" " * (ANSWER_BYTES_MAX + 1)

        error = self.failureResultOf(Wired(Endless()).admin.status(), PeerError).value
        self.assertIn("larger than", error.message)

    def test_nonsense_status(self) -> None:
        """A status that is none is the peer's fault and names the place."""
        answers = (
            b'{"version": 2}',
            b'{"version": 1}',
            b'{"version": 1, "storages": [], "nodes": [7]}',
            b'{"version": 1, "storages": [{"name": "a"}], "nodes": []}',
            b'{"version": 1, "storages": [{"name": "a", "kind": "x", "health": "fine", "state": ""}], "nodes": []}',
        )
        for content in answers:

            class Odd(Resource):
                isLeaf = True

                def render_GET(self, request: object, content: bytes = content) -> bytes:
                    return content

            self.failureResultOf(Wired(Odd()).admin.status(), PeerError)

    def test_url(self) -> None:
        """What is no URL of a daemon is refused before anything is sent."""
        client = HTTPClient(DeafAgent())
        for url in ("", "127.0.0.1:7480", "ftp://x", "http://", "http://x:port", "http://x:99999", "http://x/?a=b"):
            self.assertRaises(InvalidRequest, HTTPAdmin, url, client, Clock())
        self.assertEqual("http://[::1]:7480", HTTPAdmin("http://[::1]:7480/", client, Clock()).url)


class TokenTests(SynchronousTestCase):
    """Where a token is sent"""

    def test_in_the_clear(self) -> None:
        """It does not leave this machine but over TLS; without a token everything may be asked."""
        clock, token = Clock(), Credentials("dst-secret")
        for url in (
            "http://192.0.2.1:7480",
            "http://alpha:7480",
            "http://[2001:db8::1]:7480",
            "http://localhost.example",
            "http://127.0.0.1.example",
        ):
            error = self.assertRaises(InvalidRequest, HTTPAdmin.connect, clock, url, token)
            self.assertIn("in the clear", error.message)
            self.assertNotIn("dst-secret", error.message)
            HTTPAdmin.connect(clock, url)
        for url in (
            "https://192.0.2.1:7480",
            "http://127.0.0.1:7480",
            "http://localhost:7480",
            "http://[::1]:7480",
            "unix:/run/dst/admin.sock",
        ):
            HTTPAdmin.connect(clock, url, token)


class FollowTests(SynchronousTestCase):
    """The status as it changes, through the events."""

    def setUp(self) -> None:
        self.wired = Wired()
        self.told: list[list[StatusTree]] = []
        self.following = self.wired.admin.follow(self.told.append)
        self.wired.pass_time()

    def test_first(self) -> None:
        """What is now is told at once."""
        self.assertEqual([["fresh", "spare", "vol"]], [[tree.name for tree in trees] for trees in self.told])

    def test_change(self) -> None:
        """A change is told, once; nothing is told while nothing changes."""
        self.wired.fake.suspend("vol", "b")
        for _ in range(20):
            self.wired.pass_time(0.5)
        self.assertEqual(2, len(self.told))
        self.assertIs(Health.DEGRADED, self.told[1][2].health)

    def test_cancel(self) -> None:
        """Cancelled, it ends, and the daemon is left alone."""
        self.following.addErrback(lambda _: None)
        self.following.cancel()
        self.wired.pass_time(1)
        self.wired.pass_time(1)
        self.assertEqual([], self.wired.clock.getDelayedCalls())

    def test_quiet_daemon_is_not_dead(self) -> None:
        """The daemon's comments keep the connection while nothing changes for long."""
        for _ in range(400):
            self.wired.pass_time(0.5)
        self.assertNoResult(self.following)
        self.assertEqual(1, len(self.told))

    def test_silence(self) -> None:
        """A daemon that says nothing at all any more counts as gone."""
        self.wired.clock.advance(SILENCE_S_MAX + 1)
        self.failureResultOf(self.following, Unavailable)

    def test_trouble(self) -> None:
        """An error of the status is raised as itself."""
        self.wired.fake.failing = errors.MediaError("the disk is gone")
        self.wired.pass_time(0.5)
        self.wired.pass_time(0.5)
        self.failureResultOf(self.following, errors.MediaError)
