"""
The cluster over HTTP: routes, limits, and nothing that decides.

What is said is in L{dst.admin.schema}, who is heard in L{dst.admin.guard}, how changes are told in
L{dst.admin.feed}, the connections and their limits are in L{dst.admin.site}.

The routes::

    GET  /                                   the web page (and its files)
    GET  /v1/status                          everything
    GET  /v1/events                          everything, again whenever it changes
    GET  /v1/explain                         why everything is as it is
    GET  /v1/explain/NAME                    why one storage or node is
    GET  /v1/storages/NAME/resyncs           the resyncs that have ended
    POST /v1/storages/NAME/OPERATION         initialise suspend resume replace mark-clean mark-dirty
                                             take-over resolve grow pause-resync resume-resync
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define, field
from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from dst.admin.feed import StatusFeed
from dst.admin.guard import Asked, Refusal, check
from dst.admin.page_files import PageFile, load_page
from dst.admin.schema import (
    API_VERSION,
    BODY_BYTES_MAX,
    OPERATIONS,
    envelope,
    error_row,
    error_to_json,
    operation_arguments,
)
from dst.admin.schema_explained import explanations_to_envelope, resyncs_to_envelope
from dst.errors import DeadlinePassed, DSTError, InternalError, InvalidRequest, LimitReached, NotFound, NotSupported

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["OPERATIONS_MAX", "OPERATION_S_MAX", "STATUS_S_MAX", "AdminAPI", "AdminResource", "write_refusal"]

_log = Logger()

STATUS_S_MAX = 10.0
"""The status never waits; if it does, the asker is told rather than left."""

OPERATION_S_MAX = 60.0
"""An operation that takes longer goes on, and its asker looks at the status instead."""

OPERATIONS_MAX = 16
"""Operations going on at a time: one person rarely does two."""

T = TypeVar("T")

_SECURITY_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


def with_deadline(deferred: Deferred[T], clock: IReactorTime, seconds: float, what: str) -> Deferred[T]:
    """
    Fires as C{deferred} does, or with L{DeadlinePassed}.

    Cancelling it, or running out of time, leaves C{deferred} alone: a browser that goes away must not stop
    an operation half way.
    """
    outer: Deferred[T] = Deferred(lambda _: timer.cancel())

    def late() -> None:
        outer.errback(DeadlinePassed(f"{what} was not done in {seconds:g} s; it may still be going on"))

    timer = clock.callLater(seconds, late)

    def done(result: T | Failure) -> None:
        if timer.active():
            timer.cancel()
        if not outer.called:
            outer.callback(result)  # a Failure makes it fail
        elif isinstance(result, Failure):
            _log.info("{what} failed after nobody waited for it: {error}", what=what, error=result.value)

    deferred.addBoth(done)
    return outer


def _answer(request: Any, http_status: int, value: dict[str, object]) -> bytes:
    """Headers for, and the bytes of, a JSON answer."""
    body = json.dumps(value, allow_nan=False).encode() + b"\n"
    request.setResponseCode(http_status)
    request.setHeader("Content-Type", "application/json")
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("Content-Length", str(len(body)))
    return body


def write_refusal(request: Any, refusal: Refusal) -> None:
    """Answer with an error, and finish."""
    for name, header in refusal.headers:
        request.setHeader(name, header)
    request.write(_answer(request, refusal.http_status, error_to_json(refusal.error, refusal.correction)))
    request.finish()


@define(eq=False)
class AdminAPI:
    """
    The routes.  Use L{AdminResource}, which also decides who is heard.

    @ivar now: seconds of the epoch, for people; nothing is decided by it.
    """

    admin: IClusterAdmin
    clock: IReactorTime
    now: Callable[[], float]
    feed: StatusFeed
    _page: dict[str, PageFile] = field(factory=load_page)
    _operations: int = field(default=0, init=False)

    app = Klein()

    @app.route("/v1/status", methods=["GET"], strict_slashes=False)
    async def status(self, request: Any) -> bytes:
        """Everything."""
        trees = await with_deadline(self.admin.status(), self.clock, STATUS_S_MAX, "the status")
        return _answer(request, 200, envelope(trees, self.now()))

    @app.route("/v1/events", methods=["GET"], strict_slashes=False)
    def events(self, request: Any) -> Deferred[None] | bytes:
        """Everything, again whenever it changes."""
        request.setHeader("Content-Type", "text/event-stream")
        request.setHeader("Cache-Control", "no-store")
        if request.method == b"HEAD":
            return b""
        self.feed.listen(request)
        ended: Deferred[None] = request.notifyFinish()
        return ended.addErrback(lambda _: None)  # that the reader went away is how it ends

    @app.route("/v1/explain", methods=["GET"], strict_slashes=False)
    async def explain_all(self, request: Any) -> bytes:
        """Why everything is as it is."""
        return await self._explain(request, None)

    @app.route("/v1/explain/<path:name>", methods=["GET"])
    async def explain_one(self, request: Any, name: str) -> bytes:
        """Why one storage or node is as it is."""
        return await self._explain(request, name)

    async def _explain(self, request: Any, name: str | None) -> bytes:
        explained = await with_deadline(self.admin.explain(name), self.clock, STATUS_S_MAX, "the explanation")
        return _answer(request, 200, explanations_to_envelope(explained, self.now()))

    @app.route("/v1/storages/<path:name>/resyncs", methods=["GET"])
    async def resyncs(self, request: Any, name: str) -> bytes:
        """The resyncs of one storage that have ended."""
        ended = await with_deadline(self.admin.resyncs(name), self.clock, STATUS_S_MAX, "the history")
        return _answer(request, 200, resyncs_to_envelope(ended, self.now()))

    @app.route("/v1/storages/<path:name>/<operation>", methods=["POST"])
    async def operate(self, request: Any, name: str, operation: str) -> bytes:
        """One operation on one storage."""
        if operation not in OPERATIONS:
            raise NotFound(f"there is no operation {operation[:60]!r}; there are {', '.join(OPERATIONS)}")
        body = request.content.read(BODY_BYTES_MAX + 1)
        if len(body) > BODY_BYTES_MAX:
            raise BadBody(413, LimitReached(f"the body has more than the {BODY_BYTES_MAX} bytes allowed"))
        try:
            arguments = operation_arguments(operation, body)
        except InvalidRequest as error:
            raise BadBody(400, error) from error
        await self._operate(name, operation, arguments)
        return _answer(request, 200, {"version": API_VERSION, "done": operation})

    def _operate(self, storage: str, operation: str, arguments: dict[str, object]) -> Deferred[None]:
        if self._operations >= OPERATIONS_MAX:
            raise LimitReached(f"{self._operations} operations are going on already, and no more are begun")
        _log.info("{operation} of {storage}: {arguments}", operation=operation, storage=storage, arguments=arguments)
        act = cast(Callable[..., Deferred[None]], getattr(self.admin, operation.replace("-", "_")))
        deferred = act(storage, **arguments)
        self._operations += 1

        def ended(result: T) -> T:
            self._operations -= 1
            return result

        return with_deadline(deferred.addBoth(ended), self.clock, OPERATION_S_MAX, f"{operation} of {storage!r}")

    @app.route("/", methods=["GET"])
    @app.route("/<file>", methods=["GET"])
    def page(self, request: Any, file: str = "index.html") -> bytes:
        """The web page: one of a handful of files read at the start, never a path."""
        found = self._page.get(file)
        if found is None:
            raise NotFound(f"there is nothing at /{file[:80]}")
        request.setHeader("Content-Type", found.content_type)
        request.setHeader("Cache-Control", "no-cache")
        if request.setETag(found.etag):
            return b""
        request.setHeader("Content-Length", str(len(found.content)))
        return found.content

    @app.handle_errors(Exception)
    def failed(self, request: Any, failure: Failure) -> bytes:
        """Every error is JSON, with a code, the cause and what to do."""
        refusal = _refusal_for(failure)
        for name, header in refusal.headers:
            request.setHeader(name, header)
        return _answer(request, refusal.http_status, error_to_json(refusal.error, refusal.correction))


class BadBody(Exception):
    """The request itself is wrong, whatever the cluster's state."""

    def __init__(self, http_status: int, error: DSTError) -> None:
        super().__init__(error.message)
        self.http_status = http_status
        self.error = error


def _refusal_for(failure: Failure) -> Refusal:
    error = failure.value
    if isinstance(error, BadBody):
        return Refusal(error.http_status, error.error, "docs/rest.rst describes what each operation takes")
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        wrong = NotSupported("this address is there, but not for that method")
        return Refusal(405, wrong, f"use {allowed}", (("Allow", allowed),))
    if isinstance(error, HTTPException):  # no route, or one that is only nearly right and would be redirected
        return Refusal(404, NotFound("there is nothing at this address"), "GET /v1/status has the status")
    if isinstance(error, DSTError):
        row = error_row(error)
        return Refusal(row.http_status, error, "", (("Retry-After", "1"),) if row.http_status in (429, 503) else ())
    _log.failure("a request failed because of a mistake in the daemon", failure)
    return Refusal(500, InternalError("the request failed because of a mistake in the daemon"), "")


class AdminResource(KleinResource):
    """
    The root of the site: C{admin} over HTTP.

    @ivar feed: stop it when the site stops.
    """

    def __init__(
        self,
        admin: IClusterAdmin,
        clock: IReactorTime,
        *,
        hosts: Collection[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.feed = StatusFeed(admin, clock, now)
        self._api = AdminAPI(admin, clock, now, self.feed)
        super().__init__(self._api.app)
        self._hosts = frozenset(host.lower() for host in hosts)

    def render(self, request: Any) -> Any:
        """See L{twisted.web.resource.IResource.render}."""
        for name, value in _SECURITY_HEADERS:
            request.setHeader(name, value)
        refusal = check(
            Asked(
                method=request.method,
                path=b"/".join(request.postpath),
                host=request.getHeader("host") or "",
                origin=request.getHeader("origin"),
                fetch_site=request.getHeader("sec-fetch-site"),
                fetch_mode=request.getHeader("sec-fetch-mode"),
                content_type=request.getHeader("content-type"),
            ),
            self._hosts,
        )
        if refusal is not None:
            write_refusal(request, refusal)
            return NOT_DONE_YET
        return super().render(request)
