"""What can be asked for, one by one: storages, nodes, exports, sessions, operations, and the daemon itself."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve

from dst import __version__
from dst.admin.routes.calls import Asker
from dst.admin.routes.operating import ASYNC_S
from dst.admin.routes.seeing import LIVE_S
from dst.administration import ExportStatus, ListenerStatus, OperationState, SessionStatus, Severity
from dst.errors import MediaError, Unavailable
from dst.identity import Role
from dst.status import Health, StatusTree
from test.admin.test_rest import HOST, JSON, Browser, RestCase

ASYNC = HOST + JSON + b"Prefer: respond-async\r\n"


class AskingCase(RestCase):
    """Asks for JSON."""

    def get(self, path: str, headers: bytes = HOST) -> dict[str, Any]:
        """An answer that is no error."""
        code, found, content = self.ask(b"GET " + path.encode(), headers)
        self.assertEqual((200, "application/json"), (code, found["content-type"]), content)
        answer: dict[str, Any] = json.loads(content)
        self.assertEqual(1, answer["version"])
        return answer

    def refused(self, code: int, error_code: str, method: bytes, path: str, headers: bytes = HOST) -> str:
        """The sentence of an error."""
        answer = self.ask(method + b" " + path.encode(), headers)
        return self.assert_error(code, error_code, (answer[0], json.loads(answer[2])))


class DeviceTests(AskingCase):
    """Storages, members and nodes."""

    def test_storages(self) -> None:
        """Each storage is there by itself, as it is in the status."""
        everything = self.get("/v1/status")["storages"]
        self.assertEqual(everything, self.get("/v1/storages")["storages"])
        self.assertEqual(everything[1], self.get("/v1/storages/vol")["storage"])

    def test_members(self) -> None:
        """So is each member."""
        members = self.get("/v1/storages/vol/members")["members"]
        self.assertEqual(["a", "b", "c"], [member["name"] for member in members])
        self.assertEqual(members[1], self.get("/v1/storages/vol/members/b")["member"])

    def test_nodes(self) -> None:
        """Nodes are there whether they are in a storage or not; each says in which."""
        nodes = self.get("/v1/nodes")["nodes"]
        self.assertEqual(["a", "b", "c", "spare", "x", "y"], [node["name"] for node in nodes])
        self.assertEqual(["vol"], self.get("/v1/nodes/a")["storages"])
        self.assertEqual([], self.get("/v1/nodes/spare")["storages"])

    def test_nodes_of_others(self) -> None:
        """What is behind a remote node is another daemon's; a node that two storages have is there once."""
        behind = StatusTree("far", "file", Health.HEALTHY, "ready")
        remote = StatusTree("link", "remote", Health.HEALTHY, "in-sync", children=(behind,))
        self.fake.trees = [
            StatusTree(name, "mirror", Health.HEALTHY, "ready", children=(remote,)) for name in ("one", "two")
        ]
        self.assertEqual(["link"], [node["name"] for node in self.get("/v1/nodes")["nodes"]])
        self.assertEqual(["one", "two"], self.get("/v1/nodes/link")["storages"])

    def test_unknown(self) -> None:
        """What is not there is not found, and the answer says what is."""
        for path in (
            "/v1/storages/nothing",
            "/v1/storages/spare",
            "/v1/storages/vol/members/x",
            "/v1/storages/nothing/members",
            "/v1/nodes/vol",
            "/v1/exports/nothing",
            "/v1/operations/nothing",
            "/v1/explain/nothing",
        ):
            self.assertIn("there is no", self.refused(404, "not-found", b"GET", path))
        self.assertIn("fresh, vol", self.refused(404, "not-found", b"GET", "/v1/storages/nothing"))

    def test_names(self) -> None:
        """A name is what was quoted, and never a way to something else."""
        for quoted in ("..", "%2e%2e", "vol%2Fmembers", "vol%2F..", "%00", "v%C3%B6l", "%2576ol", "a%0d%0ab"):
            self.refused(404, "not-found", b"GET", f"/v1/storages/{quoted}")
            self.refused(404, "not-found", b"GET", f"/v1/nodes/{quoted}")
            self.refused(404, "not-found", b"GET", f"/v1/storages/vol/members/{quoted}")
        self.refused(404, "not-found", b"GET", "/v1/storages//members")
        self.refused(404, "not-found", b"GET", "/v1/storages/vol/members/a/b")

    def test_trailing_slash(self) -> None:
        """One slash too many at the end is forgiven."""
        self.assertEqual(self.get("/v1/storages/vol"), self.get("/v1/storages/vol/"))

    def test_query(self) -> None:
        """A parameter that is not known, there twice, or no number is refused with what was expected."""
        for query in (
            "after=x",
            "after=-1",
            "after=1&after=2",
            "limit=0",
            "limit=99999",
            "afer=3",
            "after=",
            "a%FF=1",
        ):
            self.refused(
                400, "invalid-request", b"GET", f"/v1/events?{query}", HOST + b"Accept: application/json\r\n"
            )
        self.assertIn("none", self.refused(400, "invalid-request", b"GET", "/v1/status?x=1"))


class ServingTests(AskingCase):
    """Exports, listeners and sessions."""

    def setUp(self) -> None:
        """One of each."""
        super().setUp()
        self.fake.served = [ExportStatus("disk", "vol", True, 4096, ({"access": "read", "network": "10.0.0.0/8"},))]
        self.fake.listening = [ListenerStatus("nbd", "tcp:0", "127.0.0.1:10809", "required", 1)]
        self.fake.clients = [SessionStatus("n/1", "nbd", "disk", "10.0.0.7:3", "alpha", True, True, 900.0, 2)]

    def test_exports(self) -> None:
        """An export says what it serves, to whom, and what has passed."""
        (export,) = self.get("/v1/exports")["exports"]
        self.assertEqual(("vol", True, 4096), (export["device"], export["read_only"], export["size"]))
        self.assertEqual([{"access": "read", "network": "10.0.0.0/8"}], export["allow"])
        self.assertEqual(0, export["traffic"]["read_bytes"])
        self.assertEqual(export, self.get("/v1/exports/disk")["export"])

    def test_listeners(self) -> None:
        """A listener says where it really is."""
        (listener,) = self.get("/v1/listeners")["listeners"]
        self.assertEqual(("127.0.0.1:10809", "required"), (listener["address"], listener["tls"]))

    def test_sessions(self) -> None:
        """A client can be seen and cut off, whatever its id looks like; then it is gone."""
        (session,) = self.get("/v1/sessions")["sessions"]
        self.assertEqual(("n/1", "alpha", 2), (session["id"], session["identity"], session["in_flight"]))
        code, _, content = self.ask(b"DELETE /v1/sessions/n%2F1", HOST)
        self.assertEqual((200, {"version": 1, "done": "end-session"}), (code, json.loads(content)))
        self.assertEqual([], self.get("/v1/sessions")["sessions"])
        self.refused(404, "not-found", b"DELETE", "/v1/sessions/n%2F1")
        self.refused(405, "not-supported", b"GET", "/v1/sessions/n%2F1")


class OperationTests(AskingCase):
    """What takes its time."""

    def ask_slowly(self, headers: bytes, more: str = "suspend", body: bytes = b'{"node": "a"}') -> Browser:
        self.fake.waiting = True
        browser = Browser(self.site)
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        browser.send(b"POST /v1/storages/vol/" + more.encode() + b" HTTP/1.1\r\n" + headers + length + body)
        return browser

    def test_done(self) -> None:
        """What is done at once is answered so, also where one would rather look again."""
        self.assertEqual(
            (200, "suspend"), self.answer_of(self.post(b"/v1/storages/vol/suspend", {"node": "a"}, ASYNC))
        )

    def answer_of(self, answer: tuple[int, Any]) -> tuple[int, str]:
        return answer[0], answer[1]["done"]

    def test_goes_on(self) -> None:
        """What is not done soon is answered with where it can be looked at; there it ends."""
        browser = self.ask_slowly(ASYNC)
        self.clock.advance(ASYNC_S - 0.1)
        self.assertEqual(b"", browser.transport.value())
        self.clock.advance(0.2)
        head, _, content = browser.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"HTTP/1.1 202 ", head)
        self.assertIn(b"Location: /v1/operations/fake-0", head)
        operation = json.loads(content)["operation"]
        self.assertEqual(
            ("suspend", "vol/a", "running"), (operation["kind"], operation["subject"], operation["state"])
        )
        self.fake.release()
        self.assertEqual("done", self.get("/v1/operations/fake-0")["operation"]["state"])
        self.assertEqual(["fake-0"], [each["id"] for each in self.get("/v1/operations")["operations"]])

    def test_own_patience(self) -> None:
        """Who names how long to wait is answered then."""
        browser = self.ask_slowly(HOST + JSON + b"Prefer: respond-async, wait=10\r\n")
        self.clock.advance(9.9)
        self.assertEqual(b"", browser.transport.value())
        self.clock.advance(0.2)
        self.assertIn(b"HTTP/1.1 202 ", browser.transport.value())

    def test_fails_later(self) -> None:
        """A failure that nobody waited for is told by the operation, with its code."""
        browser = self.ask_slowly(ASYNC, "resume")
        self.clock.advance(ASYNC_S)
        self.assertIn(b"HTTP/1.1 202 ", browser.transport.value())
        self.fake.release()
        operation = self.get("/v1/operations/fake-0")["operation"]
        self.assertEqual(("failed", "invalid-request"), (operation["state"], operation["error_code"]))
        self.assertIn("not suspended", operation["sentence"])

    def test_wait_for_the_end(self) -> None:
        """Who asks to be told of the end is told as soon as it has come, or that it has not in time."""
        self.ask_slowly(ASYNC)
        request = b"GET /v1/operations/fake-0?wait=10 HTTP/1.1\r\n" + HOST + b"\r\n"
        patient, hasty = Browser(self.site), Browser(self.site)
        patient.send(request)
        hasty.send(request.replace(b"wait=10", b"wait=1"))
        self.clock.pump([0.2] * 6)
        self.assertEqual(b"", patient.transport.value())
        self.assertIn(b'"running"', hasty.transport.value())
        self.fake.release()
        self.clock.advance(0.2)
        self.assertIn(b'"done"', patient.transport.value())
        gone = Browser(self.site)
        self.fake.asked_for[0] = evolve(self.fake.asked_for[0], state=OperationState.RUNNING)
        before = len(self.clock.getDelayedCalls()) - 2  # without those that bound the new connection
        gone.send(request)
        gone.gone()
        self.assertEqual(before, len(self.clock.getDelayedCalls()))

    def test_asked_by(self) -> None:
        """An operation says who asked for it, where that is known."""
        self.site.resource._gate = lambda request, route: Asker(f"somebody with {route.role.value}", Role.ADMIN)
        self.post(b"/v1/storages/vol/suspend", {"node": "a"})
        self.assertEqual("somebody with operate", self.get("/v1/operations")["operations"][0]["asked_by"])


class DaemonTests(AskingCase):
    """The daemon itself."""

    def test_live(self) -> None:
        """It is said in one word whether everything can be used; why not is not told to everybody."""
        self.fake.trees = [tree for tree in self.fake.trees if tree.name == "vol"]
        self.assertEqual({"version": 1, "ok": True}, self.get("/healthz"))
        self.fake.trees = [evolve(self.fake.trees[0], health=Health.DEGRADED)]
        self.clock.advance(LIVE_S)
        self.assertEqual({"version": 1, "ok": True}, self.get("/healthz"))
        for health in (Health.FROZEN, Health.FAILED):
            self.fake.trees = [evolve(self.fake.trees[0], health=health, reason="a secret")]
            self.clock.advance(LIVE_S)
            code, _, content = self.ask(b"GET /healthz")
            self.assertEqual((503, {"version": 1, "ok": False}), (code, json.loads(content)))

    def test_live_is_cheap(self) -> None:
        """Whoever asks very often makes the daemon look no more often than once a second."""
        self.fake.trees = [tree for tree in self.fake.trees if tree.name == "vol"]
        self.assertEqual(200, self.ask(b"GET /healthz")[0])
        self.fake.failing = Unavailable("a secret")
        self.assertEqual(200, self.ask(b"GET /healthz")[0])
        self.clock.advance(LIVE_S)
        code, _, content = self.ask(b"GET /healthz")
        self.assertEqual((503, {"version": 1, "ok": False}), (code, json.loads(content)))

    def test_version(self) -> None:
        """It says what it is, what it speaks, and since when."""
        self.clock.advance(12)
        answer = self.get("/v1/version")
        self.assertEqual((__version__, 12.0), (answer["release"], answer["uptime_s"]))
        self.assertEqual(2, len(answer["wire"]))
        self.assertIn("fencing", answer["wire_features"])

    def test_health(self) -> None:
        """What is wrong is listed, the worst first."""
        worse = evolve(self.fake.findings[0], code="STORAGE_FAILED", severity=Severity.CRITICAL, subject="vol")
        self.fake.findings.append(worse)
        answer = self.get("/v1/health")
        self.assertEqual("critical", answer["worst"])
        self.assertEqual(["STORAGE_FAILED", "STORAGE_NOT_INITIALISED"], [each["code"] for each in answer["findings"]])
        self.fake.findings.clear()
        self.assertIs(None, self.get("/v1/health")["worst"])

    def test_trouble(self) -> None:
        """An error of the cluster is the same whatever is asked."""
        for path in ("/v1/storages", "/v1/nodes/a", "/v1/exports", "/v1/configuration", "/v1/operations"):
            self.fake.failing = Unavailable("the owner is away")
            self.refused(503, "unavailable", b"GET", path)
            self.fake.failing = MediaError("the disk is gone")
            self.refused(500, "media-error", b"GET", path)

    def test_allow(self) -> None:
        """An address that has not the method says which it has; one that nobody knows is refused everywhere."""
        for method, path, allowed in (
            (b"PUT", "/v1/storages/vol", "GET, HEAD"),
            (b"PATCH", "/v1/configuration", "GET, HEAD, PUT"),
            (b"OPTIONS", "/v1/configuration/nodes/a", "DELETE, GET, HEAD, PUT"),
            (b"POST", "/v1/storages/vol/members", "GET, HEAD"),
            (b"DELETE", "/healthz", "GET, HEAD"),
        ):
            code, headers, content = self.ask(method + b" " + path.encode(), HOST + JSON)
            self.assert_error(405, "not-supported", (code, json.loads(content)))
            self.assertEqual(allowed, headers["allow"], path)
        self.refused(405, "not-supported", b"BREW", "/v1/status")
