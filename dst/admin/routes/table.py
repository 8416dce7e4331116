"""
Every route there is.

This table is what the server answers by, what says who may ask for what, and what the OpenAPI document is made of;
there is no other description.
"""

from __future__ import annotations

from typing import Any

from dst.admin.metrics import CONTENT_TYPE
from dst.admin.routes import describing, happening, measuring, operating, seeing, shapes, wanting
from dst.admin.routes.calls import Body, Handler, Route
from dst.admin.schema import BODY_BYTES_MAX, OPERATIONS, operation_schema
from dst.identity import Role

__all__ = ["ROUTES", "TAGS"]

TAGS = {
    "status": "How everything is: read only, at once, without waiting for any node.",
    "storages": "What is asked of a storage. What takes long is an operation, see there.",
    "serving": "What is served, where, and to whom.",
    "operations": "What was asked for and takes its time.",
    "events": "What happens, as a list or as a stream.",
    "configuration": "What is wanted, and changing it. Wanted and actual state are separate resources.",
    "daemon": "The daemon itself.",
}
"""The groups, in their order."""


def _get(
    name: str,
    path: str,
    about: str,
    handler: Handler,
    shape: type,
    tag: str,
    errors: tuple[int, ...] = (),
    **more: Any,
) -> Route:
    role = more.pop("role", Role.VIEW)
    return Route(name, "GET", path, about, role, handler, {200: shape}, tag, errors, **more)


_SEEING = (
    _get("status", "/v1/status", "Everything there is to see, as trees.", seeing.status, shapes.StatusNow, "status"),
    _get("explain-all", "/v1/explain", "Why everything is as it is.", seeing.explain, shapes.Explanations, "status"),
    _get(
        "explain",
        "/v1/explain/{name}",
        "Why one storage, member or node is as it is, also behind a remote node.",
        seeing.explain,
        shapes.Explanations,
        "status",
        (404,),
    ),
    _get(
        "health",
        "/v1/health",
        "What is not as it should be, by stable codes.",
        seeing.health,
        shapes.Findings,
        "status",
    ),
    _get("storages", "/v1/storages", "Every storage.", seeing.storages, shapes.Storages, "status"),
    _get("storage", "/v1/storages/{name}", "One storage.", seeing.storage, shapes.OneStorage, "status", (404,)),
    _get(
        "members",
        "/v1/storages/{name}/members",
        "What a storage is made of.",
        seeing.members,
        shapes.Members,
        "status",
        (404,),
    ),
    _get(
        "member",
        "/v1/storages/{name}/members/{node}",
        "One member of a storage.",
        seeing.member,
        shapes.OneMember,
        "status",
        (404,),
    ),
    _get(
        "resyncs",
        "/v1/storages/{name}/resyncs",
        "The resyncs of a storage that have ended since the daemon was started, the oldest first.",
        seeing.resyncs,
        shapes.Resyncs,
        "status",
        (404,),
    ),
    _get(
        "scrubs",
        "/v1/storages/{name}/scrubs",
        "The scrub of a storage that goes on, and the last ones that have ended, the oldest first.",
        seeing.scrubs,
        shapes.Scrubs,
        "status",
        (404,),
    ),
    _get("nodes", "/v1/nodes", "Every node, in a storage or not.", seeing.nodes, shapes.Nodes, "status"),
    _get("node", "/v1/nodes/{name}", "One node.", seeing.node, shapes.OneNode, "status", (404,)),
    _get("exports", "/v1/exports", "What is served.", seeing.exports, shapes.Exports, "serving"),
    _get("export", "/v1/exports/{name}", "One export.", seeing.export, shapes.OneExport, "serving", (404,)),
    _get(
        "listeners",
        "/v1/listeners",
        "Where clients and operators connect.",
        seeing.listeners,
        shapes.Listeners,
        "serving",
    ),
    _get(
        "sessions",
        "/v1/sessions",
        "The clients that have an export open, the oldest first.",
        seeing.sessions,
        shapes.Sessions,
        "serving",
    ),
    Route(
        "end-session",
        "DELETE",
        "/v1/sessions/{id}",
        "Cut a client off; it may come again.",
        Role.OPERATE,
        seeing.end_session,
        {200: shapes.Done},
        "serving",
        (404,),
    ),
)

_GOING_ON = (
    _get(
        "operations",
        "/v1/operations",
        "What was asked for lately, the newest first; a bounded number.",
        seeing.operations,
        shapes.AllOperations,
        "operations",
    ),
    _get(
        "operation",
        "/v1/operations/{id}",
        "One of them, with its progress; with `wait`, the answer comes when it has ended.",
        operating.operation,
        shapes.OneOperation,
        "operations",
        (404,),
        query=(operating.WAIT,),
    ),
    _get(
        "events",
        "/v1/events",
        "What happened, in order.",
        happening.events,
        shapes.Events,
        "events",
        query=(happening.AFTER, happening.LIMIT),
        details="Whoever accepts `text/event-stream`, or does not say what they accept, gets a stream of server-sent "
        "events instead, that goes on after `Last-Event-ID` or `after`: `status` and `trouble` (how everything is, "
        "again "
        "whenever it changes), `event` (with its number as the id), and `gap` (what was dropped).",
    ),
)

_OPERATION_ROLES = {
    "suspend": Role.OPERATE,
    "resume": Role.OPERATE,
    "pause-resync": Role.OPERATE,
    "resume-resync": Role.OPERATE,
    "grow": Role.OPERATE,
    "take-over": Role.OPERATE,
    "scrub": Role.OPERATE,
    "stop-scrub": Role.OPERATE,
}
"""What can be undone, or loses no data; every other is for administrators."""

_ABOUT = {
    "initialise": "Make a storage of nodes that hold something already.",
    "suspend": "Stop using a member until it is resumed; kept over a restart.",
    "resume": "Use a member again; what it missed is copied.",
    "replace": "Put other media at a member's place, and copy everything to it.",
    "mark-clean": "Take a member as in sync without copying.",
    "mark-dirty": "Give a member's copy up and copy everything to it again.",
    "take-over": "Own the storage in this daemon.",
    "resolve": "Go on with one of several histories; what only the others have is lost.",
    "grow": "Make a storage as large as its members' media.",
    "pause-resync": "Copy nothing more to a member, or to any, until it is resumed.",
    "resume-resync": "Go on copying.",
    "scrub": "Compare all copies of a storage, and mend what is evident.",
    "stop-scrub": "Stop the scrub that goes on.",
}

_EXAMPLES: dict[str, dict[str, object]] = {
    "initialise": {"keep": "a"},
    "replace": {"node": "b", "uri": "file:new.img?size=64M"},
    "resolve": {"keep": "a"},
    "take-over": {},
    "grow": {},
    "scrub": {"repair": True},
    "stop-scrub": {},
}

_OPERATING = tuple(
    Route(
        operation,
        "POST",
        f"/v1/storages/{{name}}/{operation}",
        _ABOUT[operation],
        _OPERATION_ROLES.get(operation, Role.ADMIN),
        operating.operate,
        {200: shapes.Done, 202: shapes.OneOperation},
        "storages",
        (400, 404, 409, 413, 415, 501, 502, 507),
        body=Body(
            operation_schema(operation),
            _EXAMPLES.get(operation, {"node": "b"}),
            BODY_BYTES_MAX,
        ),
        details="Answers 200 when it is done. Whoever sends `Prefer: respond-async` gets 202 with `Location` if that "
        "takes "
        "longer than two seconds, or than `wait=N` of them; else the answer is waited for, for a minute.",
    )
    for operation in OPERATIONS
)

_DOCUMENT: dict[str, Any] = {"type": "object", "description": "The tables of a topology file, as JSON."}
_DOCUMENT_EXAMPLE = {
    "daemon": {"state_dir": "state", "admin": "tcp:7480:interface=127.0.0.1"},
    "nodes": {"a": {"uri": "file:a.img?size=64M"}, "b": {"uri": "dst://127.0.0.1:7451/b"}},
    "storages": {"vol": {"algorithm": "mirror", "nodes": ["a", "b"]}},
    "exports": {"vol": {"device": "vol"}},
}
_TABLE_EXAMPLES: dict[str, dict[str, object]] = {
    "nodes": {"uri": "file:c.img?size=64M"},
    "storages": {"algorithm": "mirror", "nodes": ["a", "b"]},
    "exports": {"device": "vol", "read_only": True},
}
_CHANGE_ERRORS = (400, 404, 409, 412, 413, 415, 428, 501)


def _table_routes(kind: str) -> tuple[Route, ...]:
    one, path = kind.removesuffix("s"), f"/v1/configuration/{kind}/{{name}}"
    body = Body(
        {"type": "object", "description": f"What stands in `[{kind}.NAME]` of a topology file."},
        _TABLE_EXAMPLES[kind],
        wanting.CONFIGURATION_BYTES_MAX,
    )
    return (
        _get(
            f"configured-{one}",
            path,
            f"What is wanted of one {one}.",
            wanting.table,
            shapes.OneTable,
            "configuration",
            (404,),
            validates=True,
        ),
        Route(
            f"want-{one}",
            "PUT",
            path,
            f"Want a new {one}, or want it otherwise.",
            Role.ADMIN,
            wanting.put_table,
            {202: shapes.OneOperation},
            "configuration",
            _CHANGE_ERRORS,
            body=body,
            locks=True,
        ),
        Route(
            f"unwant-{one}",
            "DELETE",
            path,
            f"Want a {one} no more.",
            Role.ADMIN,
            wanting.delete_table,
            {202: shapes.OneOperation},
            "configuration",
            tuple(status for status in _CHANGE_ERRORS if status not in (413, 415)),
            locks=True,
        ),
    )


_WANTING = (
    _get(
        "configuration",
        "/v1/configuration",
        "What is wanted.",
        wanting.configuration,
        shapes.ConfigurationNow,
        "configuration",
        validates=True,
    ),
    Route(
        "want",
        "PUT",
        "/v1/configuration",
        "Want another configuration: it is checked, planned and kept, and carrying it out begins.",
        Role.ADMIN,
        wanting.put,
        {202: shapes.OneOperation},
        "configuration",
        _CHANGE_ERRORS,
        body=Body(_DOCUMENT, _DOCUMENT_EXAMPLE, wanting.CONFIGURATION_BYTES_MAX),
        locks=True,
    ),
    Route(
        "plan",
        "POST",
        "/v1/configuration/plan",
        "What would be done if that were wanted; nothing is.",
        Role.ADMIN,  # a document is somebody's guess at what is here, and takes a while to be read
        wanting.plan,
        {200: shapes.Planned},
        "configuration",
        (400, 409, 413, 415, 501),
        body=Body(_DOCUMENT, _DOCUMENT_EXAMPLE, wanting.CONFIGURATION_BYTES_MAX),
    ),
    *(route for kind in wanting.TABLES for route in _table_routes(kind)),
)

_DAEMON = (
    _get(
        "version",
        "/v1/version",
        "What this daemon is, and what it speaks.",
        seeing.version,
        shapes.Versions,
        "daemon",
    ),
    _get(
        "openapi",
        "/v1/openapi.json",
        "This description.",
        describing.openapi,
        dict,
        "daemon",
        role=None,
        validates=True,
    ),
    Route(
        "metrics",
        "GET",
        "/metrics",
        "The daemon, its storages and its exports as numbers, in the text format of Prometheus.",
        Role.VIEW,
        measuring.metrics,
        {200: None},
        "daemon",
        content_type=CONTENT_TYPE,
    ),
    Route(
        "live",
        "GET",
        "/healthz",
        "Whether this daemon serves: 200 while everything it has can be used, 503 otherwise.",
        None,
        seeing.live,
        {200: shapes.Live, 503: shapes.Live},
        "daemon",
        details="For those who balance load; it says nothing else, and asks nobody who they are.",
    ),
)

_UNLISTED = (
    Route("page", "GET", "/", "The web page.", None, seeing.page, {200: None}, "daemon", listed=False),
    Route("page-file", "GET", "/{file}", "A file of it.", None, seeing.page, {200: None}, "daemon", listed=False),
)

ROUTES: tuple[Route, ...] = (*_SEEING, *_OPERATING, *_GOING_ON, *_WANTING, *_DAEMON, *_UNLISTED)
"""In the order in which they are shown."""
