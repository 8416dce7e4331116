"""
What there is, and how it is: nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dst import __version__
from dst.admin.routes.calls import API, Call, Raw, Reply
from dst.admin.routes.shapes import (
    AllOperations,
    Done,
    Explanations,
    Exports,
    Findings,
    Listeners,
    Live,
    Members,
    Nodes,
    OneExport,
    OneMember,
    OneNode,
    OneStorage,
    Resyncs,
    Scrubs,
    Sessions,
    StatusNow,
    Storages,
    Versions,
)
from dst.admin.schema import API_VERSION, is_storage
from dst.administration import Severity
from dst.errors import DSTError, NotFound
from dst.label.format import VERSION as LABEL_VERSION
from dst.status import Health, StatusTree, worst_health
from dst.wire.messages import VERSION as WIRE_VERSION
from dst.wire.messages import Feature

_REMOTE = "remote"
"""What is below such a node is another daemon's."""

LIVE_S = 1.0
"""For so long the answer to C{/healthz} is the same: anybody may ask for it, and it costs a look at everything."""

_WORST_FIRST = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)


async def _trees(api: API) -> list[StatusTree]:
    trees: list[StatusTree] = await api.look(api.admin.status(), "the status")
    return sorted(trees, key=lambda tree: tree.name)


def _found(trees: Iterable[StatusTree], name: str, what: str) -> StatusTree:
    trees = list(trees)
    for tree in trees:
        if tree.name == name:
            return tree
    names = ", ".join(tree.name for tree in trees[:12]) or "none"
    raise NotFound(f"there is no {what} {name[:80]!r} here; there are: {names}")


async def status(api: API, call: Call) -> Reply:
    """Everything."""
    trees = await _trees(api)
    return Reply(
        StatusNow(
            API_VERSION,
            api.now(),
            worst_health(*(tree.health for tree in trees)),
            tuple(tree for tree in trees if is_storage(tree)),
            tuple(tree for tree in trees if not is_storage(tree)),
        )
    )


async def explain(api: API, call: Call) -> Reply:
    """Why everything, or what has that name, is as it is."""
    explained = await api.look(api.admin.explain(call.names.get("name")), "the explanation")
    return Reply(Explanations(API_VERSION, api.now(), tuple(explained)))


# -- storages and nodes


async def storages(api: API, call: Call) -> Reply:
    """Every storage."""
    trees = await _trees(api)
    return Reply(Storages(API_VERSION, api.now(), tuple(tree for tree in trees if is_storage(tree))))


async def _storage(api: API, call: Call) -> StatusTree:
    return _found([tree for tree in await _trees(api) if is_storage(tree)], call.names["name"], "storage")


async def storage(api: API, call: Call) -> Reply:
    """One storage."""
    return Reply(OneStorage(API_VERSION, api.now(), await _storage(api, call)))


async def members(api: API, call: Call) -> Reply:
    """The members of one storage."""
    return Reply(Members(API_VERSION, api.now(), (await _storage(api, call)).children))


async def member(api: API, call: Call) -> Reply:
    """One member of one storage."""
    tree = await _storage(api, call)
    found = _found(tree.children, call.names["node"], f"member of {tree.name}")
    return Reply(OneMember(API_VERSION, api.now(), found))


async def resyncs(api: API, call: Call) -> Reply:
    """The resyncs of one storage that have ended."""
    ended = await api.look(api.admin.resyncs(call.names["name"]), "the history")
    return Reply(Resyncs(API_VERSION, api.now(), tuple(ended)))


async def scrubs(api: API, call: Call) -> Reply:
    """The scrubs of one storage."""
    known = await api.look(api.admin.scrubs(call.names["name"]), "the history")
    return Reply(Scrubs(API_VERSION, api.now(), tuple(known)))


def _own(trees: Iterable[StatusTree], above: str | None = None) -> Iterator[tuple[StatusTree, str | None]]:
    """Every device of this daemon, with the storage above it."""
    for tree in trees:
        yield tree, above
        if tree.kind != _REMOTE:
            yield from _own(tree.children, tree.name if is_storage(tree) else None)


async def _nodes(api: API) -> dict[str, tuple[StatusTree, set[str]]]:
    found: dict[str, tuple[StatusTree, set[str]]] = {}
    for tree, above in _own(await _trees(api)):
        if not is_storage(tree):
            # As its storage sees it, where it is in one: that knows more than the node itself.
            known = found.get(tree.name)
            if known is None or (above is not None and not known[1]):
                known = found[tree.name] = (tree, known[1] if known else set())
            if above is not None:
                known[1].add(above)
    return dict(sorted(found.items()))


async def nodes(api: API, call: Call) -> Reply:
    """Every node of this daemon."""
    found = await _nodes(api)
    return Reply(Nodes(API_VERSION, api.now(), tuple(tree for tree, _ in found.values())))


async def node(api: API, call: Call) -> Reply:
    """One node of this daemon."""
    found = await _nodes(api)
    tree = _found((tree for tree, _ in found.values()), call.names["name"], "node")
    return Reply(OneNode(API_VERSION, api.now(), tree, tuple(sorted(found[tree.name][1]))))


# -- exports, listeners, sessions


async def exports(api: API, call: Call) -> Reply:
    """What is served."""
    return Reply(Exports(API_VERSION, api.now(), tuple(await api.look(api.admin.exports(), "the exports"))))


async def export(api: API, call: Call) -> Reply:
    """One export."""
    name = call.names["name"]
    for each in await api.look(api.admin.exports(), "the exports"):
        if each.name == name:
            return Reply(OneExport(API_VERSION, api.now(), each))
    raise NotFound(f"there is no export {name[:80]!r} here")


async def listeners(api: API, call: Call) -> Reply:
    """Where clients connect."""
    found = await api.look(api.admin.listeners(), "the listeners")
    return Reply(Listeners(API_VERSION, api.now(), tuple(found)))


async def sessions(api: API, call: Call) -> Reply:
    """The clients that are there."""
    return Reply(Sessions(API_VERSION, api.now(), tuple(await api.look(api.admin.sessions(), "the sessions"))))


async def end_session(api: API, call: Call) -> Reply:
    """Cut one client off."""
    await api.look(api.admin.end_session(call.names["id"]), "the end of the session")
    return Reply(Done(API_VERSION, "end-session"))


async def operations(api: API, call: Call) -> Reply:
    """What was asked for lately."""
    found = await api.look(api.admin.operations(), "the operations")
    return Reply(AllOperations(API_VERSION, api.now(), tuple(found)))


# -- the daemon itself


async def health(api: API, call: Call) -> Reply:
    """What is not as it should be."""
    found = await api.look(api.admin.health(), "the health")
    severities = {finding.severity for finding in found}
    worst = next((severity for severity in _WORST_FIRST if severity in severities), None)
    return Reply(Findings(API_VERSION, api.now(), worst, tuple(found)))


async def live(api: API, call: Call) -> Reply:
    """Whether this daemon serves; for those who balance load or restart what hangs, and without a detail."""
    now = api.clock.seconds()
    if api.live is None or now >= api.live[0] + LIVE_S:
        try:
            worst = worst_health(*(tree.health for tree in await _trees(api)))
        except DSTError:
            worst = Health.FAILED  # why is not for everybody
        api.live = now, worst in (Health.HEALTHY, Health.DEGRADED)
    ok = api.live[1]
    return Reply(Live(API_VERSION, ok), 200 if ok else 503)


async def version(api: API, call: Call) -> Reply:
    """What this daemon is, and what it speaks."""
    return Reply(
        Versions(
            API_VERSION,
            __version__,
            (WIRE_VERSION, WIRE_VERSION),
            tuple(sorted(feature.name.lower().replace("_", "-") for feature in Feature if feature.name)),
            LABEL_VERSION,
            max(0.0, api.clock.seconds() - api.started_s),
        )
    )


async def page(api: API, call: Call) -> Raw:
    """The web page: one of a handful of files read at the start, never a path."""
    file = call.names.get("file", "index.html")
    found = api.page.get(file)
    if found is None:
        raise NotFound(f"there is nothing at /{file[:80]}")
    headers = (("Cache-Control", "no-cache"),)
    if call.request.setETag(found.etag):
        return Raw(b"", found.content_type, 304, headers)
    return Raw(found.content, found.content_type, 200, headers)
