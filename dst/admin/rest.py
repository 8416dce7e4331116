"""
The cluster over HTTP: who is heard, and which route answers.

What there is to ask for is in L{dst.admin.routes}, who is heard in L{dst.admin.guard}, how changes are told in
L{dst.admin.feed}, the connections and their limits are in L{dst.admin.site}.

Klein finds the route.  It imports the global reactor, and so chooses one for the whole process, as soon as it is
imported; that is left to the moment when a site is made: until then whoever owns the process may choose another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, unquote

from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from dst.admin.answers import (
    SECURITY_HEADERS,
    Refused,
    json_bytes,
    refusal_bytes,
    refusal_for,
    write_json,
    write_refusal,
)
from dst.admin.codec import to_json
from dst.admin.feed import EventFeed
from dst.admin.guard import Asked, Refusal, check, check_content
from dst.admin.page_files import load_page
from dst.admin.routes.calls import API, Asker, Call, Raw, Reply, Route, Streaming, header_of, parse_query
from dst.admin.routes.operating import unknown_operation
from dst.admin.routes.table import ROUTES
from dst.errors import DSTError
from dst.identity import Role

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["AdminResource", "Gate", "everybody"]

Gate: TypeAlias = Callable[[Any, Route], Asker]
"""
Asked before each request whether whoever sent it may have what the route gives (C{route.role}), and now and then
while a long answer goes on.  Returns who they are; raises L{dst.admin.answers.Refused}.
"""


def everybody(request: Any, route: Route) -> Asker:
    """Nobody is asked who they are."""
    return Asker("", Role.ADMIN)


class AdminResource(Resource):
    """
    The root of the site: C{admin} over HTTP.

    @ivar feed: stop it when the site stops.
    """

    isLeaf = True

    def __init__(
        self,
        admin: IClusterAdmin,
        clock: IReactorTime,
        *,
        hosts: Collection[str] = (),
        now: Callable[[], float] = time.time,
        gate: Gate = everybody,
    ) -> None:
        """
        @param hosts: names under which the daemon is reached, besides addresses and C{localhost}.
        @param now: seconds of the epoch, for people.
        @param gate: says who may have what.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.feed = EventFeed(admin, clock, now)
        self._api = API(admin, clock, now, self.feed, load_page(), clock.seconds())
        self._hosts = frozenset(host.lower() for host in hosts)
        self._gate = gate
        self._router = self._make_router()

    def _make_router(self) -> Resource:
        from klein import Klein  # not before: see above

        app = Klein()
        for route in ROUTES:
            app.route(route.rule, methods=[route.method], endpoint=route.name, strict_slashes=not route.listed)(
                self._endpoint(route)
            )
        app.handle_errors(Exception)(self._failed)
        router: Resource = app.resource()
        return router

    def render(self, request: Any) -> Any:
        """See L{twisted.web.resource.IResource.render}."""
        for name, value in SECURITY_HEADERS:
            request.setHeader(name, value)
        refusal = check(
            Asked(
                method=request.method,
                path=b"/".join(request.postpath),
                host=header_of(request, "host") or "",
                origin=header_of(request, "origin"),
                fetch_site=header_of(request, "sec-fetch-site"),
                fetch_mode=header_of(request, "sec-fetch-mode"),
            ),
            self._hosts,
        )
        if refusal is not None:
            write_refusal(request, refusal)
            return NOT_DONE_YET
        # A slash that was quoted is part of a name, and stays that until the name is looked up.
        request.postpath = [quote(segment, safe="").encode() for segment in request.postpath]
        return self._router.render(request)

    def _endpoint(self, route: Route) -> Callable[..., Any]:
        async def endpoint(request: Any, **names: str) -> bytes | None:
            asker = self._gate(request, route)
            if route.body is not None:
                refusal = check_content(header_of(request, "content-type"))
                if refusal is not None:
                    raise Refused(refusal)
            query = parse_query(route, request.args)
            unquoted = {key: unquote(name) for key, name in names.items()}
            call = Call(request, route, unquoted, query, asker, lambda: self._gate(request, route))
            answer = await route.handler(self._api, call)
            if isinstance(answer, Streaming):
                await answer.ended
                return None
            for name, value in answer.headers:
                request.setHeader(name, value)
            return _write_raw(request, answer) if isinstance(answer, Raw) else _write_reply(request, answer)

        return endpoint

    def _failed(self, request: Any, failure: Failure) -> bytes:
        """Every error is JSON, with a code, the cause and what to do."""
        refusal = refusal_for(failure)
        if request.method == b"POST" and refusal.http_status == 404 and not isinstance(failure.value, DSTError):
            unknown = unknown_operation(request.path.decode("utf-8", "replace"))
            refusal = refusal if unknown is None else Refusal(404, unknown, refusal.correction)
        return refusal_bytes(request, refusal)


def _write_reply(request: Any, reply: Reply) -> bytes:
    body = json_bytes(to_json(reply.value))
    write_json(request, reply.http_status, body)
    return body


def _write_raw(request: Any, answer: Raw) -> bytes:
    request.setResponseCode(answer.http_status)
    if answer.http_status != 304:
        request.setHeader("Content-Type", answer.content_type)
        if answer.content:
            request.setHeader("Content-Length", str(len(answer.content)))
    return answer.content
