"""What is wanted, over HTTP: seen once, changed by one person at a time."""

from __future__ import annotations

import json
from typing import Any

from dst.admin.routes.wanting import CONFIGURATION_BYTES_MAX
from dst.admin.site import LARGE_BODIES_MAX
from test.admin.test_rest import HOST, JSON, Browser
from test.admin.test_routes import AskingCase

MATCH_ANY = HOST + JSON + b"If-Match: *\r\n"


class ConfigurationTests(AskingCase):
    """C{/v1/configuration}"""

    def send(
        self, method: str, path: str, body: object = None, headers: bytes = MATCH_ANY
    ) -> tuple[int, dict[str, str], Any]:
        """An answer to a change."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        code, found, content = self.ask(f"{method} /v1/configuration{path}".encode(), headers, data)
        return code, found, json.loads(content)

    def match(self, etag: str) -> bytes:
        return HOST + JSON + b"If-Match: " + etag.encode() + b"\r\n"

    def test_get(self) -> None:
        """It is a document with a tag, in a header and in the answer."""
        code, headers, content = self.ask(b"GET /v1/configuration")
        answer = json.loads(content)
        self.assertEqual((200, '"0"'), (code, headers["etag"]))
        self.assertEqual("0", answer["etag"])
        self.assertEqual(self.fake.document, answer["document"])

    def test_not_modified(self) -> None:
        """Who has it already is told so and nothing else, until it is another."""
        for tag in (b'"0"', b'W/"0"', b'"x", "0"', b"*"):
            code, headers, content = self.ask(b"GET /v1/configuration", HOST + b"If-None-Match: " + tag + b"\r\n")
            self.assertEqual((304, b"", '"0"'), (code, content, headers["etag"]), tag)
        self.fake.change(self.fake.document)
        code, _, content = self.ask(b"GET /v1/configuration", HOST + b'If-None-Match: "0"\r\n')
        self.assertEqual((200, "1"), (code, json.loads(content)["etag"]))

    def test_tables(self) -> None:
        """A part of it is there by its name, with the tag of the whole."""
        code, headers, content = self.ask(b"GET /v1/configuration/storages/vol")
        self.assertEqual((200, '"0"'), (code, headers["etag"]))
        self.assertEqual(["a", "b", "c"], json.loads(content)["table"]["nodes"])
        code, _, content = self.ask(b"GET /v1/configuration/nodes/a", HOST + b'If-None-Match: "0"\r\n')
        self.assertEqual((304, b""), (code, content))
        self.refused(404, "not-found", b"GET", "/v1/configuration/nodes/nothing")
        self.refused(404, "not-found", b"GET", "/v1/configuration/daemon/state_dir")

    def test_put(self) -> None:
        """What is wanted is put as a whole; the answer says where it can be looked at how that goes."""
        document = {**self.fake.document, "exports": {}}
        code, headers, answer = self.send("PUT", "", document, self.match('"0"'))
        self.assertEqual((202, "/v1/operations/fake-0"), (code, headers["location"]))
        self.assertEqual("change", answer["operation"]["kind"])
        self.assertEqual(document, self.fake.document)

    def test_put_what_was_got(self) -> None:
        """What was got can be put back as it is."""
        got = json.loads(self.ask(b"GET /v1/configuration")[2])
        self.assertEqual(202, self.send("PUT", "", got["document"], self.match(f'"{got["etag"]}"'))[0])

    def test_somebody_else(self) -> None:
        """Who has not seen what somebody else has made of it meanwhile changes nothing."""
        self.fake.change({**self.fake.document, "exports": {}})
        for method, path, body in (
            ("PUT", "", self.fake.document),
            ("PUT", "/exports/e", {"device": "vol"}),
            ("DELETE", "/nodes/spare", None),
        ):
            code, _, answer = self.send(method, path, body, self.match('"0"'))
            self.assert_error(412, "conflict", (code, answer))
            code, _, answer = self.send(method, path, body, self.match('W/"1"'))
            self.assert_error(412, "conflict", (code, answer))
        self.assertIn("spare", self.fake.document["nodes"])
        self.assertEqual({}, self.fake.document["exports"])

    def test_without_a_word(self) -> None:
        """A change that does not say what it changes is refused, and told what to say."""
        for method, path, body in (
            ("PUT", "", {}),
            ("PUT", "/nodes/n", {"uri": "memory:"}),
            ("DELETE", "/nodes/spare", None),
        ):
            code, _, answer = self.send(method, path, body, HOST + JSON)
            self.assert_error(428, "invalid-request", (code, answer))
            self.assertIn("If-Match", answer["error"]["correction"])
        self.assertIn("spare", self.fake.document["nodes"])

    def test_put_tables(self) -> None:
        """One thing is wanted more, otherwise, or no more; everything else stays."""
        before = json.loads(json.dumps(self.fake.document))
        self.assertEqual(202, self.send("PUT", "/exports/e", {"device": "vol", "read_only": True})[0])
        self.assertEqual({"device": "vol", "read_only": True}, self.fake.document["exports"]["e"])
        self.assertEqual(202, self.send("PUT", "/exports/e", {"device": "spare"})[0])
        self.assertEqual({"device": "spare"}, self.fake.document["exports"]["e"])
        self.assertEqual(202, self.send("DELETE", "/exports/e")[0])
        self.assertEqual(before, self.fake.document)
        code, _, answer = self.send("DELETE", "/exports/e")
        self.assert_error(404, "not-found", (code, answer))

    def test_plan(self) -> None:
        """A plan is made and nothing done."""
        wanted = {**self.fake.document, "exports": {}}
        code, _, answer = self.send("POST", "/plan", wanted, HOST + JSON)
        self.assertEqual((200, True, "0"), (code, answer["destructive"], answer["etag"]))
        self.assertEqual(["remove"], [step["action"] for step in answer["steps"]])
        self.assertIn("vol", self.fake.document["exports"])

    def test_nonsense(self) -> None:
        """What is no document, and what cannot be run, is refused with why."""
        for body in (b"", b"[]", b"{", b'"x"', b"[" * 50000, b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff"):
            for method, path in (("PUT", ""), ("POST", "/plan"), ("PUT", "/nodes/n")):
                code, _, answer = self.send(method, path, body)
                self.assert_error(400, "invalid-request", (code, answer))
        code, _, answer = self.send("PUT", "", {"exprots": {}})
        self.assertIn("exprots", self.assert_error(409, "invalid-request", (code, answer)))
        code, _, answer = self.send("PUT", "", {}, HOST + b"If-Match: *\r\nContent-Type: text/plain\r\n")
        self.assert_error(415, "invalid-request", (code, answer))

    def test_other_sites(self) -> None:
        """A page of another site changes nothing, whatever the method."""
        foreign = MATCH_ANY + b"Origin: https://evil.example\r\n"
        for method, path, body in (("PUT", "", {}), ("DELETE", "/nodes/spare", None), ("POST", "/plan", {})):
            code, _, answer = self.send(method, path, body, foreign)
            self.assert_error(403, "denied", (code, answer))
        self.assertIn("spare", self.fake.document["nodes"])


class LargeBodyTests(AskingCase):
    """A configuration may be long."""

    def put(self, size: int) -> Browser:
        """A body of that many bytes, of which the last is not sent yet."""
        browser = Browser(self.site)
        head = b"PUT /v1/configuration HTTP/1.1\r\n" + MATCH_ANY + b"Content-Length: %d\r\n\r\n" % size
        browser.send(head + b'{"nodes": {}' + b" " * (size - 14) + b"}")
        return browser

    def test_long(self) -> None:
        """It may have a megabyte, and not more."""
        self.assertIn(b"HTTP/1.1 202", self.put(CONFIGURATION_BYTES_MAX).send(b"\n"))
        self.assertEqual({"nodes": {}}, self.fake.document)
        self.assertIn(b"HTTP/1.1 413", self.put(CONFIGURATION_BYTES_MAX + 1).send(b"\n"))

    def test_many(self) -> None:
        """A few may be there at a time, so that nobody fills the memory; when one ends another may come."""
        browsers = [self.put(200_000) for _ in range(LARGE_BODIES_MAX)]
        refused = self.put(200_000).send(b"\n")
        self.assertIn(b"HTTP/1.1 429", refused)
        self.assertIn(b"Retry-After", refused)
        browsers[0].gone()
        self.assertIn(b"HTTP/1.1 202", self.put(200_000).send(b"\n"))
        self.assertIn(b"HTTP/1.1 202", browsers[1].send(b"\n"))
        self.assertEqual(200, self.ask(b"GET /v1/status")[0])
