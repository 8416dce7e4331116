"""The REST interface byte by byte: what a client of any kind sees on its connection."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.feed import KEEPALIVE_S, LISTENERS_MAX, POLL_S, STALL_S_MAX
from dst.admin.routes.operating import OPERATION_S_MAX, OPERATIONS_MAX
from dst.admin.routes.wanting import CONFIGURATION_BYTES_MAX
from dst.admin.schema import BODY_BYTES_MAX
from dst.admin.site import CLOSE_S_MAX, CONNECTIONS_MAX, DRAIN_BYTES_MAX, IDLE_S_MAX, RECEIVE_S_MAX, make_site
from dst.errors import MediaError, NotSupported, Unavailable
from dst.explaining_trees import CARRIED
from dst.testing.fake_admin import FakeAdmin

HOST = b"Host: 127.0.0.1:7480\r\n"
JSON = b"Content-Type: application/json\r\n"


class Browser:
    """One connection to a site."""

    def __init__(self, site: Any) -> None:
        self.transport = StringTransport()
        self.channel = site.buildProtocol(None)
        self.aborted = False
        self.transport.abortConnection = self._abort  # type: ignore[method-assign]
        self.channel.makeConnection(self.transport)

    def _abort(self) -> None:
        self.aborted = True
        self.transport.loseConnection()

    def send(self, data: bytes) -> bytes:
        self.transport.clear()
        self.channel.dataReceived(data)
        return self.transport.value()

    def gone(self) -> None:
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        self.channel.connectionLost(Failure(ConnectionLost()))


class RestCase(SynchronousTestCase):
    """A site over a fake cluster."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.fake = FakeAdmin()
        self.site = make_site(self.fake, clock=self.clock, now=lambda: 1234.5)

    def ask(self, request: bytes, headers: bytes = HOST, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own."""
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        answer = Browser(self.site).send(request + b" HTTP/1.1\r\n" + headers + length + b"\r\n" + body)
        head, _, content = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        found = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(first.split()[1]), found, content

    def post(self, path: bytes, body: object, headers: bytes = HOST + JSON) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        code, found, content = self.ask(b"POST " + path, headers, data)
        self.assertEqual("application/json", found["content-type"], content)
        return code, json.loads(content)

    def assert_error(self, code: int, error_code: str, answer: tuple[int, Any]) -> str:
        """Every error has a code, a cause and a correction."""
        self.assertEqual((code, error_code), (answer[0], answer[1]["error"]["code"]), answer)
        self.assertEqual(1, answer[1]["version"])
        self.assertNotEqual("", answer[1]["error"]["cause"])
        self.assertNotEqual("", answer[1]["error"]["correction"])
        return str(answer[1]["error"]["cause"])


class StatusTests(RestCase):
    """C{GET /v1/status}"""

    def test_shape(self) -> None:
        """Storages and nodes apart, members with their states, and one word for all of it."""
        code, headers, content = self.ask(b"GET /v1/status")
        status = json.loads(content)
        self.assertEqual((200, "application/json"), (code, headers["content-type"]))
        self.assertEqual(
            (1, 1234.5, "frozen"), (status["version"], status["time"], status["health"]), "the worst counts"
        )
        self.assertEqual(["fresh", "vol"], [tree["name"] for tree in status["storages"]])
        self.assertEqual(["spare"], [tree["name"] for tree in status["nodes"]])
        self.assertEqual(["in-sync"] * 3, [member["state"] for member in status["storages"][1]["members"]])

    def test_resync(self) -> None:
        """The progress of a resync has its percentage and time left worked out."""
        self.fake.mark_dirty("vol", "c")
        status = json.loads(self.ask(b"GET /v1/status")[2])
        resync = status["storages"][1]["members"][2]["resync"]
        self.assertEqual((0.0, None, "full"), (resync["percent"], resync["seconds_left"], resync["kind"]))

    def test_explained_elsewhere(self) -> None:
        """What another daemon explains is for those who ask why, and does not make the status longer."""
        tree = self.fake.trees[2]
        self.fake.trees[2] = evolve(tree, detail={CARRIED: {"summary": "a long story"}, "claim": 7})
        status = json.loads(self.ask(b"GET /v1/status")[2])
        self.assertEqual({"claim": 7}, status["storages"][1]["detail"])
        code, _, content = self.ask(b"GET /v1/explain/vol")
        self.assertEqual("a long story", json.loads(content)["explanations"][0]["summary"])

    def test_head(self) -> None:
        """HEAD says how long the answer would be, and no more."""
        code, headers, content = self.ask(b"HEAD /v1/status")
        self.assertEqual((200, b""), (code, content))
        self.assertEqual(int(headers["content-length"]), len(self.ask(b"GET /v1/status")[2]))

    def test_nothing_is_cached(self) -> None:
        """No cache keeps a status, and no page of another site may read it."""
        headers = self.ask(b"GET /v1/status")[1]
        self.assertEqual("no-store", headers["cache-control"])
        self.assertNotIn("access-control-allow-origin", headers)
        self.assertEqual("nosniff", headers["x-content-type-options"])

    def test_many_requests(self) -> None:
        """One connection serves many requests, also when they come at once."""
        one = b"GET /v1/status HTTP/1.1\r\n" + HOST + b"\r\n"
        answer = Browser(self.site).send(one * 5)
        self.assertEqual(5, answer.count(b"HTTP/1.1 200 OK"))

    def test_unavailable(self) -> None:
        """An error of the cluster has its own HTTP status and says when to come back."""
        self.fake.failing = Unavailable("the owner is away")
        code, headers, content = self.ask(b"GET /v1/status")
        self.assertEqual("the owner is away", self.assert_error(503, "unavailable", (code, json.loads(content))))
        self.assertIn("retry-after", headers)


class PageTests(RestCase):
    """The web page's files, and nothing else."""

    def test_files(self) -> None:
        """The page and what it needs are there, under a policy that lets in nothing from elsewhere."""
        for path, kind in (
            (b"/", "text/html"),
            (b"/index.html", "text/html"),
            (b"/app.js", "text/javascript"),
            (b"/tree.js", "text/javascript"),
            (b"/why.js", "text/javascript"),
            (b"/words.js", "text/javascript"),
            (b"/style.css", "text/css"),
            (b"/icon.svg", "image/svg+xml"),
        ):
            code, headers, content = self.ask(b"GET " + path)
            self.assertEqual((200, True), (code, headers["content-type"].startswith(kind)), path)
            self.assertEqual(int(headers["content-length"]), len(content))
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertNotIn(b"http://", content.replace(b"http://www.w3.org/2000/svg", b""))
            self.assertNotIn(b"https://", content)

    def test_not_modified(self) -> None:
        """A browser that has the file is told so."""
        etag = self.ask(b"GET /app.js")[1]["etag"]
        code, _, content = self.ask(b"GET /app.js", HOST + b"If-None-Match: " + etag.encode() + b"\r\n")
        self.assertEqual((304, b""), (code, content))

    def test_no_way_out(self) -> None:
        """No path leads out of the page's files, however it is written."""
        for path in (
            b"/../rest.py",
            b"/..%2frest.py",
            b"/%2e%2e/rest.py",
            b"/page/../../rest.py",
            b"//etc/passwd",
            b"/etc/passwd",
            b"/app.js/..",
            b"/app.js%00.css",
            b"/.",
            b"/..",
            b"/index.html/",
            b"/page_files.py",
            b"/v1",
            b"/v1/",
            b"/v2/status",
            b"/v1/status/more",
        ):
            code, _, content = self.ask(b"GET " + path)
            self.assert_error(404, "not-found", (code, json.loads(content)))


class OperationTests(RestCase):
    """C{POST /v1/storages/NAME/OPERATION}"""

    def test_done(self) -> None:
        """Each operation reaches the cluster with its arguments."""
        for path, body in (
            (b"fresh/initialise", {"keep": "x"}),
            (b"vol/suspend", {"node": "a"}),
            (b"vol/resume", {"node": "a"}),
            (b"vol/replace", {"node": "b", "uri": "memory:?size=1M"}),
            (b"vol/mark-clean", {"node": "b"}),
            (b"vol/mark-dirty", {"node": "b"}),
        ):
            operation = path.partition(b"/")[2].decode()
            answer = self.post(b"/v1/storages/" + path, body)
            self.assertEqual((200, {"version": 1, "done": operation}), answer)
        self.assertEqual(
            [
                ("initialise", "fresh", "x", ""),
                ("suspend", "vol", "a"),
                ("resume", "vol", "a"),
                ("replace", "vol", "b", "memory:?size=1M"),
                ("mark-clean", "vol", "b"),
                ("mark-dirty", "vol", "b"),
            ],
            self.fake.calls,
        )

    def test_errors(self) -> None:
        """What the cluster refuses has the status of its kind."""
        self.assert_error(404, "not-found", self.post(b"/v1/storages/nothing/suspend", {"node": "a"}))
        self.assert_error(404, "not-found", self.post(b"/v1/storages/vol/suspend", {"node": "z"}))
        self.assert_error(409, "invalid-request", self.post(b"/v1/storages/vol/resume", {"node": "a"}))
        replace = {"node": "a", "uri": "pigeon:x"}
        self.assert_error(400, "configuration-error", self.post(b"/v1/storages/vol/replace", replace))
        self.fake.failing = NotSupported("a stripe cannot suspend")
        self.assert_error(501, "not-supported", self.post(b"/v1/storages/vol/suspend", {"node": "a"}))
        self.fake.failing = MediaError("the label could not be written")
        self.assert_error(500, "media-error", self.post(b"/v1/storages/vol/suspend", {"node": "a"}))

    def test_bad_bodies(self) -> None:
        """A body that is not what it should be is refused with what was expected, and nothing is done."""
        for body in (
            b"",
            b"{",
            b"null",
            b"[]",
            b'"a"',
            b"{}",
            b'{"node": null}',
            b'{"node": 7}',
            b'{"node": true}',
            b'{"node": ["a"]}',
            b'{"node": {"node": "a"}}',
            b'{"node": ""}',
            b'{"node": "a\\u0000"}',
            b'{"node": "a\\nb"}',
            b'{"node": "\\ud800"}',
            b'{"node": "a", "node": "b"}',
            b'{"node": "a", "force": true}',
            b'{"nod": "a"}',
            b'{"node": NaN}',
            b'{"node": "a"} x',
            b'{"node": "\xff"}',
            b"\x00\x01\x02",
            b'{"node": "' + b"a" * 2000 + b'"}',
            b"[" * 30000,
            b'{"node":' * 6000,
            b"1" * 10000,
        ):
            self.assert_error(400, "invalid-request", self.post(b"/v1/storages/vol/suspend", body))
        self.assertEqual([], self.fake.calls)

    def test_initialise_bodies(self) -> None:
        """Nobody's data is given up by a misspelling or a wrong type."""
        for body in (
            {"keeep": "x"},
            {"discard": "yes"},
            {"discard": 1},
            {"keep": True},
            {"keep": "x", "discard": True},
            {"node": "x"},
        ):
            self.assert_error(400, "invalid-request", self.post(b"/v1/storages/fresh/initialise", body))
        self.assertEqual([], self.fake.calls)

    def test_names(self) -> None:
        """A name is looked up as it was meant, and never walked."""
        for quoted, name in (
            (b"a%2Fb", "a/b"),
            (b"%2E%2E", ".."),
            (b"..", ".."),
            (b"a%20b", "a b"),
            (b"v%C3%B6l", "völ"),
            (b"%2576ol", "%76ol"),
            (b"vol%3Fx", "vol?x"),
        ):
            self.fake.calls.clear()
            cause = self.assert_error(
                404, "not-found", self.post(b"/v1/storages/" + quoted + b"/suspend", {"node": "a"})
            )
            self.assertIn(repr(name), cause)
            self.assertEqual([("suspend", name, "a")], self.fake.calls)

    def test_name_of_other_bytes(self) -> None:
        """A name that is no text is refused, and nothing is logged for it."""
        self.assert_error(400, "invalid-request", self.post(b"/v1/storages/%FF/suspend", {"node": "a"}))

    def test_unknown_operation(self) -> None:
        """An operation nobody knows is not found; the answer lists those there are."""
        cause = self.assert_error(404, "not-found", self.post(b"/v1/storages/vol/explode", {}))
        self.assertIn("mark-dirty", cause)
        for path in (b"/v1/storages/vol/__class__", b"/v1/storages/vol/status", b"/v1/storages/vol/mark_dirty"):
            self.assert_error(404, "not-found", self.post(path, {"node": "a"}))

    def test_methods(self) -> None:
        """A method that the address does not have is refused with those it has."""
        for request, allowed in (
            (b"GET /v1/storages/vol/suspend", "POST"),
            (b"POST /v1/status", "GET"),
            (b"DELETE /v1/status", "GET"),
            (b"OPTIONS /v1/storages/vol/suspend", "POST"),
        ):
            code, headers, content = self.ask(request, HOST + JSON)
            self.assert_error(405, "not-supported", (code, json.loads(content)))
            self.assertIn(allowed, headers["allow"])

    def test_other_sites(self) -> None:
        """A page of another site cannot operate anything; ours can."""
        body = {"node": "a"}
        foreign = HOST + JSON + b"Origin: https://evil.example\r\n"
        self.assert_error(403, "denied", self.post(b"/v1/storages/vol/suspend", body, foreign))
        rebound = b"Host: evil.example:7480\r\n" + JSON
        self.assert_error(403, "denied", self.post(b"/v1/storages/vol/suspend", body, rebound))
        form = HOST + b"Content-Type: text/plain\r\n"
        self.assert_error(415, "invalid-request", self.post(b"/v1/storages/vol/suspend", body, form))
        self.assertEqual([], self.fake.calls)
        own = HOST + JSON + b"Origin: http://127.0.0.1:7480\r\n"
        self.assertEqual(200, self.post(b"/v1/storages/vol/suspend", body, own)[0])

    def test_configured_name(self) -> None:
        """A name that the configuration allows is ours."""
        self.site = make_site(self.fake, clock=self.clock, hosts=["NAS"])
        self.assertEqual(200, self.ask(b"GET /v1/status", b"Host: nas:7480\r\n")[0])
        self.assertEqual(403, self.ask(b"GET /v1/status", b"Host: nas.evil.example\r\n")[0])

    def test_client_goes_away(self) -> None:
        """An operation goes on when the one who asked for it does not wait; no timer is left."""
        self.fake.waiting = True
        browser = Browser(self.site)
        body = b'{"node": "a"}'
        browser.send(
            b"POST /v1/storages/vol/suspend HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: %d\r\n\r\n" % 13 + body
        )
        browser.gone()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.fake.release()
        self.assertEqual("suspended", self.fake.trees[2].children[0].state)

    def test_takes_too_long(self) -> None:
        """Nobody waits for ever; the answer says that it may still be going on."""
        self.fake.waiting = True
        browser = Browser(self.site)
        request = b"POST /v1/storages/vol/suspend HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 13\r\n\r\n"
        self.assertEqual(b"", browser.send(request + b'{"node": "a"}'))
        self.clock.advance(OPERATION_S_MAX)
        self.assertIn(b"HTTP/1.1 504", browser.transport.value())
        self.assertIn(b"may still be going on", browser.transport.value())

    def test_too_many(self) -> None:
        """Operations going on at a time are bounded, and there is room again when they end."""
        self.fake.waiting = True
        request = b"POST /v1/storages/vol/suspend HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 13\r\n\r\n"
        for _ in range(OPERATIONS_MAX):
            self.assertEqual(b"", Browser(self.site).send(request + b'{"node": "a"}'))
        self.assert_error(429, "limit-reached", self.post(b"/v1/storages/vol/suspend", {"node": "a"}))
        self.fake.release()
        self.assertEqual(200, self.post(b"/v1/storages/vol/resume", {"node": "a"})[0])


class LimitTests(RestCase):
    """What a connection may cost."""

    def test_body_too_long(self) -> None:
        """A body beyond the limit is read, dropped and refused; one at the limit is only looked at."""
        answer = self.post(b"/v1/storages/vol/suspend", b" " * (BODY_BYTES_MAX + 1))
        self.assert_error(413, "limit-reached", answer)
        self.assert_error(400, "invalid-request", self.post(b"/v1/storages/vol/suspend", b"x" * BODY_BYTES_MAX))

    def test_body_far_too_long(self) -> None:
        """One that is announced to be far beyond it is not waited for."""
        browser = Browser(self.site)
        head = b"POST /v1/storages/vol/suspend HTTP/1.1\r\n" + HOST + JSON
        answer = browser.send(head + b"Content-Length: %d\r\n\r\n" % (DRAIN_BYTES_MAX + 1))
        self.assertIn(b"HTTP/1.1 413", answer)
        self.assertTrue(browser.transport.disconnecting)

    def test_chunks(self) -> None:
        """A body of chunks is bounded as well, and never held in memory beyond the limit."""
        browser = Browser(self.site)
        browser.send(
            b"POST /v1/storages/vol/suspend HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(DRAIN_BYTES_MAX // 0x10000 - 1):
            browser.send(chunk)
        self.assertFalse(browser.transport.disconnecting)
        self.assertLessEqual(browser.channel.requests[0].content.tell(), CONFIGURATION_BYTES_MAX)
        self.assertIn(b"HTTP/1.1 413", browser.send(b"0\r\n\r\n"))
        browser = Browser(self.site)
        browser.send(
            b"POST /v1/storages/vol/suspend HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(DRAIN_BYTES_MAX // 0x10000 + 1):
            browser.send(chunk)
        self.assertTrue(browser.transport.disconnecting)

    def test_head_too_long(self) -> None:
        """So are the line and the headers before it."""
        for head in (b"GET /" + b"a" * 40000, b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 20000, b"X" * 70000):
            browser = Browser(self.site)
            browser.send(head + b"\r\n\r\n")
            self.assertTrue(browser.transport.disconnecting)

    def test_nonsense(self) -> None:
        """What is no HTTP at all ends the connection and nothing else."""
        for data in (
            b"\x00" * 100 + b"\r\n\r\n",
            b"NBDMAGIC\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nbad\r\n\r\n",
        ):
            browser = Browser(self.site)
            browser.send(data)
            self.assertTrue(browser.transport.disconnecting, data)
        self.assertEqual(200, self.ask(b"GET /v1/status")[0])

    def test_no_host(self) -> None:
        """A request that does not say whom it is for is not for us."""
        self.assertEqual(403, self.ask(b"GET /v1/status", b"")[0])

    def test_silence(self) -> None:
        """A client that says nothing is sent away."""
        browser = Browser(self.site)
        self.clock.pump([1] * int(IDLE_S_MAX + 1))
        self.assertTrue(browser.transport.disconnecting)

    def test_drips(self) -> None:
        """So is one that says a byte a second."""
        browser = Browser(self.site)
        for _ in range(int(RECEIVE_S_MAX) + 1):
            browser.channel.dataReceived(b"G")
            self.clock.advance(1)
        self.assertTrue(browser.aborted)

    def test_patience_after_an_answer(self) -> None:
        """The time for a request begins when the one before it was answered."""
        browser = Browser(self.site)
        for _ in range(5):
            self.clock.advance(IDLE_S_MAX - 1)
            self.assertIn(b"200 OK", browser.send(b"GET /v1/status HTTP/1.1\r\n" + HOST + b"\r\n"))
        self.assertFalse(browser.transport.disconnecting)

    def test_connections(self) -> None:
        """Connections are bounded; one too many is told so, and there is room again when one goes."""
        browsers = [Browser(self.site) for _ in range(CONNECTIONS_MAX)]
        one_more = Browser(self.site)
        self.assertIn(b"HTTP/1.1 503", one_more.transport.value())
        self.assertTrue(one_more.transport.disconnecting)
        browsers[7].gone()
        self.assertEqual(200, self.ask(b"GET /v1/status")[0])

    def test_close(self) -> None:
        """When the site closes everybody goes, and no timer is left."""
        browsers = [Browser(self.site) for _ in range(3)]
        browsers[0].send(b"GET /v1/events HTTP/1.1\r\n" + HOST + b"\r\n")
        closed: Deferred[None] = self.site.close()
        self.assertNoResult(closed)
        self.assertEqual([True] * 3, [browser.transport.disconnecting for browser in browsers])
        for browser in browsers:
            browser.gone()
        self.successResultOf(closed)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_close_on_one_who_does_not_read(self) -> None:
        """One who never reads the last bytes is cut off."""
        browser = Browser(self.site)
        closed = self.site.close()
        self.clock.advance(CLOSE_S_MAX)
        self.assertTrue(browser.aborted)
        browser.gone()
        self.successResultOf(closed)
        self.successResultOf(self.site.close())


class EventTests(RestCase):
    """C{GET /v1/events}"""

    def listen(self) -> Browser:
        browser = Browser(self.site)
        browser.first = browser.send(b"GET /v1/events HTTP/1.1\r\n" + HOST + b"\r\n")  # type: ignore[attr-defined]
        browser.transport.clear()
        return browser

    def heard(self, browser: Browser) -> bytes:
        heard = browser.transport.value()
        browser.transport.clear()
        return heard

    def test_first(self) -> None:
        """The status now comes at once, as an event."""
        first = self.listen().first  # type: ignore[attr-defined]
        self.assertIn(b"text/event-stream", first)
        self.assertEqual(1, first.count(b"event: status\ndata: {"))
        self.assertIn(b'"health":"frozen"', first)

    def test_changes(self) -> None:
        """A change is told once to everybody, and nothing else is."""
        listeners = [self.listen(), self.listen()]
        self.clock.pump([POLL_S] * 10)
        self.assertEqual([b"", b""], [self.heard(browser) for browser in listeners])
        self.fake.suspend("vol", "a")
        self.clock.pump([POLL_S] * 10)
        for browser in listeners:
            heard = self.heard(browser)
            self.assertEqual(1, heard.count(b"event: status"))
            self.assertIn(b'"state":"suspended"', heard)

    def test_late_listener(self) -> None:
        """One who comes later begins with what is now."""
        self.listen()
        self.fake.suspend("vol", "a")
        self.clock.advance(POLL_S)
        self.assertIn(b'"state":"suspended"', self.listen().first)  # type: ignore[attr-defined]

    def test_keepalive(self) -> None:
        """While nothing changes a comment is sent now and then."""
        browser = self.listen()
        self.clock.pump([POLL_S] * int(KEEPALIVE_S / POLL_S + 1))
        self.assertIn(b": still here\n\n", self.heard(browser))

    def test_slow_reader(self) -> None:
        """One who is slow gets the newest when it is ready, and holds up nobody."""
        slow, quick = self.listen(), self.listen()
        slow.transport.producer.pauseProducing()
        for change, node in (("suspend", "a"), ("resume", "a"), ("mark_dirty", "b"), ("suspend", "b")):
            getattr(self.fake, change)("vol", node)
            self.clock.advance(POLL_S)
        self.assertEqual(b"", self.heard(slow))
        self.assertEqual(4, self.heard(quick).count(b"event: status"))
        slow.transport.producer.resumeProducing()
        heard = self.heard(slow)
        self.assertEqual(1, heard.count(b"event: status"))
        newest = json.loads(heard.partition(b"data: ")[2])
        self.assertEqual("suspended", newest["storages"][1]["members"][1]["state"])

    def test_reader_that_stopped(self) -> None:
        """One who reads nothing at all is cut off."""
        browser = self.listen()
        browser.transport.producer.pauseProducing()
        self.clock.pump([POLL_S] * int(STALL_S_MAX / POLL_S + 1))
        self.assertTrue(browser.aborted)

    def test_too_many(self) -> None:
        """Listeners are bounded, and the refusal is an error like any other."""
        browsers = [self.listen() for _ in range(LISTENERS_MAX)]
        code, _, content = self.ask(b"GET /v1/events")
        self.assert_error(429, "limit-reached", (code, json.loads(content)))
        browsers[3].gone()
        self.assertIn(b"event: status", self.listen().first)  # type: ignore[attr-defined]

    def test_nobody_listens(self) -> None:
        """When the last one goes nobody is asked any more, and no timer is left."""
        browsers = [self.listen(), self.listen()]
        for browser in browsers:
            browser.gone()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(0, self.site.resource.feed.listeners)

    def test_trouble(self) -> None:
        """A status that cannot be had is told as an error, once; and its end by the status."""
        browser = self.listen()
        self.fake.failing = Unavailable("the owner is away")
        self.clock.pump([POLL_S] * 5)
        heard = self.heard(browser)
        self.assertEqual(1, heard.count(b"event: trouble"))
        self.assertIn(b"the owner is away", heard)
        self.fake.failing = None
        self.clock.pump([POLL_S] * 2)
        self.assertEqual(1, self.heard(browser).count(b"event: status"))

    def test_mistake(self) -> None:
        """A mistake in the daemon is logged once and told without its details."""
        browser = self.listen()
        self.fake.failing = ZeroDivisionError("secret detail")
        self.clock.pump([POLL_S] * 5)
        heard = self.heard(browser)
        self.assertEqual(1, heard.count(b"event: trouble"))
        self.assertNotIn(b"secret", heard)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)), "the status and the events, once each")

    def test_status_that_waits(self) -> None:
        """While a status is waited for no second one is asked for, and readers are kept."""
        browser = self.listen()
        self.fake.waiting = True
        self.clock.pump([POLL_S] * int(KEEPALIVE_S / POLL_S + 1))
        self.assertIn(b": still here", self.heard(browser))
        self.assertEqual(1, len(self.fake._held))

    def test_head(self) -> None:
        """HEAD does not listen."""
        code, headers, content = self.ask(b"HEAD /v1/events")
        self.assertEqual((200, "text/event-stream", b""), (code, headers["content-type"], content))
        self.assertEqual(0, self.site.resource.feed.listeners)

    def test_page_of_another_site(self) -> None:
        """A page of another site cannot even take up the places of listeners."""
        code, _, content = self.ask(b"GET /v1/events", HOST + b"Origin: https://evil.example\r\n")
        self.assert_error(403, "denied", (code, json.loads(content)))
