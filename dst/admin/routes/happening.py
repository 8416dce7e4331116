"""
What happens: the journal as a list, and as a stream.
"""

from __future__ import annotations

from dst.admin.answers import Refused
from dst.admin.routes.calls import API, Call, Parameter, Raw, Reply, Streaming
from dst.admin.routes.shapes import Events
from dst.admin.schema import API_VERSION
from dst.errors import InvalidRequest

LISTED_MAX = 1000
"""Events in one answer, unless more are asked for."""

AFTER = Parameter("after", int, "only events with a greater number", None, 0, 10**18 - 1)
LIMIT = Parameter("limit", int, "at most so many", LISTED_MAX, 1, 10_000)


async def events(api: API, call: Call) -> Reply | Raw | Streaming:
    """
    A stream for whoever reads C{text/event-stream}, or does not say what they read; else a list.
    """
    accepted = call.header("accept")
    if accepted is not None and "text/event-stream" not in accepted:
        return await _list(api, call)
    call.request.setHeader("Content-Type", "text/event-stream")
    call.request.setHeader("Cache-Control", "no-store")
    if call.request.method == b"HEAD":
        return Raw(b"", "text/event-stream")
    return Streaming(api.feed.listen(call.request, _resume_after(call), call.check_again))


def _resume_after(call: Call) -> int | None:
    """The number to go on after. What the reader has seen is newer than what stood in the address at first."""
    seen = call.header("last-event-id")
    if seen is not None and seen != "":
        if not (seen.isascii() and seen.isdigit() and len(seen) <= 18):
            raise Refused.because(
                400, InvalidRequest(f"Last-Event-ID is {seen[:60]!r}, expected the number of an event")
            )
        return int(seen)
    after: int | None = call.query["after"]
    return after


async def _list(api: API, call: Call) -> Reply:
    after: int = call.query["after"] or 0
    limit: int = call.query["limit"]
    found = await api.look(api.admin.events(after), "the events")
    return Reply(
        Events(
            API_VERSION,
            api.now(),
            tuple(found[:limit]),
            bool(found) and found[0].number != after + 1,
            len(found) > limit,
        )
    )
