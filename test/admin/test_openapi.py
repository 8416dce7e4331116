"""The description of the interface: whole, true, and the same as the manual's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from dst.admin.openapi import document
from dst.admin.rest_manual import FILE_NAME, manual
from dst.admin.routes.calls import Route
from dst.admin.routes.table import ROUTES
from dst.admin.schema import ERRORS, OPERATIONS
from dst.administration import ListenerStatus, SessionStatus
from dst.identity import Role
from test.admin.test_rest import HOST, JSON
from test.admin.test_routes import AskingCase

DOCS = Path(__file__).resolve().parents[2] / "docs"

EXAMPLES = {"name": "vol", "node": "a", "id": "fake-0"}


def listed(method: str) -> list[Route]:
    """The routes of the description with that method."""
    return [route for route in ROUTES if route.listed and route.method == method]


class DocumentTests(AskingCase):
    """The document itself."""

    def test_valid(self) -> None:
        """It is an OpenAPI 3.1 document."""
        validate(json.loads(json.dumps(document())))

    def test_served(self) -> None:
        """It is served, and not again to those who have it."""
        code, headers, content = self.ask(b"GET /v1/openapi.json")
        self.assertEqual((200, "application/json"), (code, headers["content-type"]))
        self.assertEqual(json.loads(json.dumps(document())), json.loads(content))
        code, _, content = self.ask(
            b"GET /v1/openapi.json", HOST + b"If-None-Match: " + headers["etag"].encode() + b"\r\n"
        )
        self.assertEqual((304, b""), (code, content))

    def test_everything(self) -> None:
        """Every route is in it once; every operation of the cluster has a route."""
        described = [(method.upper(), path) for path, methods in document()["paths"].items() for method in methods]
        self.assertEqual(sorted(described), sorted((r.method, r.path) for r in ROUTES if r.listed))
        self.assertEqual(len(ROUTES), len({route.name for route in ROUTES}))
        self.assertLessEqual(set(OPERATIONS), {route.name for route in ROUTES})

    def test_described(self) -> None:
        """Every field of every value has words, or a name that needs none, and every operation a sentence."""
        for name, schema in document()["components"]["schemas"].items():
            words = [schema, *schema.get("properties", {}).values()]
            self.assertTrue(any(each.get("description") for each in words), name)
            self.assertNotRegex(json.dumps(schema), r"@\w+|[A-Z]\{", name)
        for route in ROUTES:
            self.assertRegex(route.about, r"^[A-Z].*\.$", route.name)

    def test_roles(self) -> None:
        """Whoever only looks changes nothing; who changes what is wanted, or loses data, is an administrator."""
        for route in ROUTES:
            if route.method in ("PUT", "DELETE") and "configuration" in route.path:
                self.assertIs(Role.ADMIN, route.role, route.name)
            if route.method != "GET" and route.name != "plan":
                self.assertIn(route.role, (Role.OPERATE, Role.ADMIN), route.name)
        for name in ("initialise", "replace", "mark-clean", "mark-dirty", "resolve"):
            self.assertIs(Role.ADMIN, next(route.role for route in ROUTES if route.name == name))
        everybody = {route.name for route in ROUTES if route.role is None}
        self.assertEqual({"openapi", "live", "page", "page-file"}, everybody)


class AnswerTests(AskingCase):
    """What is answered is what is described."""

    def setUp(self) -> None:
        """One of everything."""
        super().setUp()
        self.fake.mark_dirty("vol", "c")
        self.fake.suspend("vol", "b")
        self.fake.listening = [ListenerStatus("nbd", "tcp:0", "127.0.0.1:10809")]
        self.fake.clients = [SessionStatus("1", "nbd", "vol", "127.0.0.1:3", None, False, False, 900.0)]
        self.fake.happen("it happened")

    def assert_described(self, route: Route, code: int, answer: Any) -> None:
        """The answer is valid by its schema in the document, and says nothing that is not in it."""
        spec = document()
        response = spec["paths"][route.path][route.method.lower()]["responses"][str(code)]
        response = (
            spec["components"]["responses"][response["$ref"].rpartition("/")[2]] if "$ref" in response else response
        )
        schema = {**response["content"]["application/json"]["schema"], "components": spec["components"]}
        problems = [
            f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(answer)
        ]
        self.assertEqual([], problems, route.name)
        name = schema.get("$ref", "").rpartition("/")[2]
        if name:
            self.assertLessEqual(set(answer), set(spec["components"]["schemas"][name]["properties"]), route.name)

    def test_gets(self) -> None:
        """Whatever can be looked at."""
        seen = 0
        for route in listed("GET"):
            if "json" not in route.content_type or route.name in ("openapi", "live"):
                continue
            names = {**EXAMPLES, **({"name": "a"} if "/nodes/" in route.path else {})}
            path = route.path.format(**names)
            code, _, content = self.ask(b"GET " + path.encode(), HOST + b"Accept: application/json\r\n")
            self.assertEqual(200, code, content)
            self.assert_described(route, 200, json.loads(content))
            seen += 1
        self.assertGreater(seen, 20)

    def test_errors(self) -> None:
        """Whatever is not there."""
        for route in ROUTES:
            if not route.listed or 404 not in route.errors or route.name == "want":
                continue
            path = re.sub(r"{\w+}", "nothing", route.path)
            if route.name.startswith("want-"):
                continue  # a new one
            body = b"" if route.body is None else json.dumps(route.body.example).encode()
            headers = HOST + JSON + b"If-Match: *\r\n"
            code, _, content = self.ask(f"{route.method} {path}".encode(), headers, body)
            self.assertEqual(404, code, content)
            self.assert_described(route, 404, json.loads(content))

    def test_examples(self) -> None:
        """Every example of a body is one by its own schema."""
        for route in ROUTES:
            if route.body is not None:
                Draft202012Validator(route.body.schema).validate(route.body.example)

    def test_codes(self) -> None:
        """Every code of an error is there, with the status that it has."""
        responses = document()["components"]["responses"]
        for row in ERRORS:
            examples = responses[f"Error{row.http_status}"]["content"]["application/json"]["examples"]
            self.assertEqual(row.code, examples[row.code]["value"]["error"]["code"])


class ManualTests(AskingCase):
    """The manual has what the description has."""

    def test_tables(self) -> None:
        """Its tables are those of the routes and errors; C{python -m dst.admin.rest_manual docs} makes them anew."""
        self.assertTrue(manual() == (DOCS / FILE_NAME).read_text(), "the tables of the manual are old")
        self.assertIn(f".. include:: {FILE_NAME}", (DOCS / "rest.rst").read_text())

    def test_addresses(self) -> None:
        """What the manual speaks of besides is there, too."""
        known = {
            re.sub(r"{(\w+)}", lambda found: found[1].upper(), f"{r.method} {r.path}") for r in ROUTES if r.listed
        }
        known |= {"POST /v1/storages/NAME/OPERATION", "PUT /v1/configuration/exports/disk"}
        spoken = set(re.findall(r"``((?:GET|POST|PUT|DELETE) /[^`?]*)", (DOCS / "rest.rst").read_text()))
        self.assertEqual(set(), spoken - known)
        self.assertGreater(len(spoken), 5)
