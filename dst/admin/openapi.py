"""
The OpenAPI 3.1 document: the table of routes and the classes of their answers, in other words.

Every answer that a route can give is in it, errors too: a test that knows nothing else holds the server to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from http import HTTPStatus
from typing import Any

from dst import __version__
from dst.admin.json_schema import Schemas
from dst.admin.page_files import PageFile
from dst.admin.routes import shapes
from dst.admin.routes.calls import Parameter, Route
from dst.admin.routes.table import ROUTES, TAGS
from dst.admin.schema import ERRORS

__all__ = ["document", "document_file"]

_ANY = (400, 403, 405, 429, 500, 503, 504)
"""What any request may be answered with: badly asked, not heard, too much, our mistake, or the cluster's state."""

_KNOWN = (401,)
"""What any request may be answered with that has to say who asks."""

_NAME_ABOUT = {
    "name": "As in the configuration; quoted as one segment of a path.",
    "node": "The name of a member.",
    "id": "As in the list.",
}
_NAME_EXAMPLES = {"name": "vol", "node": "a", "id": "1"}

_ABOUT_ERRORS = {
    400: "It is not what is expected here",
    401: "Nobody said who asks, or it is not known",
    403: "Who asks may not have this",
    404: "There is no such thing",
    405: "The address is there, but not for this method",
    409: "It means nothing in the state that things are in",
    412: "Somebody else has changed it meanwhile",
    413: "The body is too long",
    415: "The body is not JSON",
    428: "It does not say what it is a change of (`If-Match`)",
    429: "A limit is reached; ask again later",
    500: "The media failed, or the daemon made a mistake",
    501: "It cannot be done there",
    502: "Another daemon broke the protocol",
    503: "What is needed is away now",
    504: "It was not done in time; it may still be going on",
    507: "The media is full",
}


@cache
def document() -> dict[str, Any]:
    """The document, as what C{json.dumps} takes."""
    schemas = Schemas()
    schemas.of(shapes.ErrorAnswer)
    schemas.of(shapes.Gap)
    schemas.components["ErrorTold"]["properties"]["code"]["examples"] = [row.code for row in ERRORS]
    listed = [route for route in ROUTES if route.listed]
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    statuses = sorted({status for route in listed for status in _error_statuses(route)})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DST",
            "version": __version__,
            "summary": "One dependable block device out of many undependable ones.",
            "description": "Keys may be added to answers, so ignore those you do not know; what is there keeps its "
            "meaning as long as the version of the interface, 1, is the same. Errors have a code, a cause and a "
            "correction.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {f"Error{status}": _error(status) for status in statuses},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


@cache
def document_file() -> PageFile:
    """The document, as a file."""
    content = json.dumps(document(), indent=1).encode() + b"\n"
    return PageFile(content, "application/json", b'"' + hashlib.sha256(content).hexdigest()[:32].encode() + b'"')


def _error_statuses(route: Route) -> set[int]:
    """Of errors; what is an answer of its own there is none."""
    statuses = {*_ANY, *route.errors}
    if route.role is not None:
        statuses |= {*_KNOWN}
    return statuses - set(route.shapes)


def _error(status: int) -> dict[str, Any]:
    rows = [row for row in ERRORS if row.http_status == status]
    examples = {
        row.code: {
            "value": {
                "version": 1,
                "error": {
                    "code": row.code,
                    "cause": (row.error.__doc__ or "").strip().split("\n")[0],
                    "correction": row.correction,
                },
            }
        }
        for row in rows
    }
    answer: dict[str, Any] = {
        "description": _ABOUT_ERRORS[status] + ".",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}},
    }
    if examples:
        answer["content"]["application/json"]["examples"] = examples
    return answer


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _NAME_ABOUT[name],
            "schema": {"type": "string", "minLength": 1},
            "example": _NAME_EXAMPLES[name],
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [_parameter(parameter) for parameter in route.query]
    if route.validates:
        parameters.append(_header("If-None-Match", "Answer 304 if it still is this one.", '"0"'))
    if route.locks:
        about = "The ETag of the configuration that this is a change of; `*` for whatever it is now."
        parameters.append(_header("If-Match", about, "*", required=True))
    if 202 in route.shapes and route.shapes.get(200) is not None:
        parameters.append(
            _header("Prefer", "`respond-async`, maybe with `wait=SECONDS` (RFC 7240).", "respond-async")
        )
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.about,
        "tags": [route.tag],
        "parameters": parameters,
        "responses": _answers(route, schemas),
    }
    if route.details:
        operation["description"] = route.details
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": route.body.schema, "example": route.body.example}},
        }
    operation["x-role"] = None if route.role is None else route.role.value
    if route.role is not None:
        operation["security"] = [{}, {"token": []}]
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer" if parameter.kind is int else "string"}
    if parameter.default is not None:
        schema["default"] = parameter.default
    for word, value in (("minimum", parameter.minimum), ("maximum", parameter.maximum)):
        if value is not None:
            schema[word] = value
    return {"name": parameter.name, "in": "query", "description": parameter.about, "schema": schema}


def _header(name: str, about: str, example: str, *, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": about,
        "schema": {"type": "string"},
        "example": example,
    }


def _answers(route: Route, schemas: Schemas) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, shape in route.shapes.items():
        answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if shape is not None:
            answer["content"] = {route.content_type: {"schema": schemas.of(shape)}}
            answer["description"] = schemas.components.get(shape.__name__, {}).get("description", "") or route.about
        else:
            answer["content"] = {route.content_type: {"schema": {"type": "string"}}}
        headers = _answer_headers(route, status)
        if headers:
            answer["headers"] = headers
        answers[str(status)] = answer
    if route.name == "events":
        answers["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    if route.validates:
        answers["304"] = {"description": "It still is that one."}
    for status in sorted(_error_statuses(route)):
        answers[str(status)] = {"$ref": f"#/components/responses/Error{status}"}
    return answers


def _answer_headers(route: Route, status: int) -> dict[str, Any]:
    headers = {}
    if status == 202:
        headers["Location"] = {"description": "Where the operation is.", "schema": {"type": "string"}}
    if status == 200 and route.validates:
        headers["ETag"] = {"description": "Changes whenever this does.", "schema": {"type": "string"}}
    return headers
