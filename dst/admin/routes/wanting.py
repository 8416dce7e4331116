"""
The configuration: what is wanted, as a whole and in parts, and how it is changed.

Two people who change it at the same time do not undo each other's work: whoever changes it has to say which one
they have seen, with C{If-Match} and the C{ETag} that came with it.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit

from dst.admin.answers import Refused
from dst.admin.routes.calls import API, Call, Raw, Reply
from dst.admin.routes.operating import ask_as, begun_reply
from dst.admin.routes.shapes import ConfigurationNow, OneTable, Planned
from dst.admin.schema import API_VERSION
from dst.administration import Configuration, Plan
from dst.asking import Asking
from dst.errors import Conflict, InvalidRequest, NotFound
from dst.identity import Role

CONFIGURATION_BYTES_MAX = 1024 * 1024
"""A thousand storages of three nodes are a third of it."""

TABLES = ("nodes", "storages", "exports")
"""What can be wanted one by one."""

HIDDEN = "..."
"""Stands for what is not shown."""

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')


async def _configuration(api: API) -> Configuration:
    found: Configuration = await api.look(api.admin.configuration(), "the configuration")
    return found


def _etag(configuration: Configuration) -> tuple[str, str]:
    return ("ETag", f'"{configuration.etag}"')


def without_secrets(document: dict[str, Any]) -> dict[str, Any]:
    """C{document} as who may not change it sees it: arguments and addresses of hooks are often secrets."""
    hooks = document.get("hooks")
    if not isinstance(hooks, list):
        return document
    return {**document, "hooks": [_shown_hook(hook) for hook in hooks if isinstance(hook, dict)]}


def _shown_hook(hook: dict[str, Any]) -> dict[str, Any]:
    shown = dict(hook)
    command, url = hook.get("command"), hook.get("url")
    if isinstance(command, list | tuple) and len(command) > 1:
        shown["command"] = [command[0], HIDDEN]
    if isinstance(url, str) and url:
        parts = urlsplit(url)
        shown["url"] = f"{parts.scheme}://{parts.hostname or ''}/{HIDDEN}"
    return shown


def _known(call: Call, configuration: Configuration) -> bool:
    """Whether the asker has it already (C{If-None-Match})."""
    header = call.header("if-none-match")
    return header is not None and (header.strip() == "*" or configuration.etag in [tag for _, tag in _tags(header)])


def _tags(header: str) -> list[tuple[bool, str]]:
    """Whether it is weak, and the tag, of each."""
    return [(bool(weak), tag) for weak, tag in _TAG.findall(header)]


def _seen(call: Call, configuration: Configuration) -> str:
    """
    The tag that the asker has seen, which is the one of now.

    @raise Refused: they did not say.
    @raise Conflict: it is another one.
    """
    header = call.header("if-match")
    if header is None:
        raise Refused.because(
            428,
            InvalidRequest("a change has to say which configuration it is a change of, and this one does not"),
            "send the ETag of GET /v1/configuration as If-Match",
        )
    if header.strip() == "*" or (False, configuration.etag) in _tags(header):
        return configuration.etag
    raise Conflict("the configuration is another one by now: somebody has changed it")


async def configuration(api: API, call: Call) -> Reply | Raw:
    """All of it."""
    found = await _configuration(api)
    if _known(call, found):
        return Raw(b"", "application/json", 304, (_etag(found),))
    document = found.document if call.asker.role is Role.ADMIN else without_secrets(found.document)
    value = ConfigurationNow(API_VERSION, found.etag, found.file, found.writable, found.after_restart, document)
    return Reply(value, 200, (_etag(found), ("Cache-Control", "no-cache")))


async def table(api: API, call: Call) -> Reply | Raw:
    """What is wanted of one node, storage or export."""
    found = await _configuration(api)
    wanted = _table(found.document, call)
    if _known(call, found):
        return Raw(b"", "application/json", 304, (_etag(found),))
    return Reply(OneTable(API_VERSION, found.etag, wanted), 200, (_etag(found), ("Cache-Control", "no-cache")))


def _table(document: dict[str, Any], call: Call) -> dict[str, object]:
    kind, name = _kind(call), call.names["name"]
    tables = document.get(kind)
    wanted = tables.get(name) if isinstance(tables, dict) else None
    if not isinstance(wanted, dict):
        raise NotFound(f"the configuration has no [{kind}.{name[:80]}]")
    return wanted


def _kind(call: Call) -> str:
    """The table that the route is about: C{nodes}, C{storages} or C{exports}."""
    kind = call.route.path.split("/")[3]
    assert kind in TABLES
    return kind


async def plan(api: API, call: Call) -> Reply:
    """What a change would do."""
    found: Plan = await api.look(api.admin.plan(call.json_object()), "the plan")
    return Reply(Planned(API_VERSION, found.etag, found.destructive, found.steps))


async def put(api: API, call: Call) -> Reply:
    """Want another configuration."""
    wanted = call.json_object()
    now = await _configuration(api)
    return await _change(api, call, wanted, _seen(call, now))


async def put_table(api: API, call: Call) -> Reply:
    """Want one node, storage or export, or want it otherwise."""
    wanted = call.json_object()
    now = await _configuration(api)
    etag = _seen(call, now)
    document: dict[str, Any] = deepcopy(now.document)
    tables = document.setdefault(_kind(call), {})
    assert isinstance(tables, dict)
    tables[call.names["name"]] = wanted
    return await _change(api, call, document, etag)


async def delete_table(api: API, call: Call) -> Reply:
    """Want one node, storage or export no more."""
    now = await _configuration(api)
    etag = _seen(call, now)
    document: dict[str, Any] = deepcopy(now.document)
    _table(document, call)
    del document[_kind(call)][call.names["name"]]
    return await _change(api, call, document, etag)


async def _change(api: API, call: Call, document: dict[str, object], etag: str) -> Reply:
    status = await api.look(ask_as(lambda: api.admin.change(document, etag), Asking(call.asker.words)), "the change")
    return begun_reply(api, status)
