"""
Answers: what each is made of, how an error becomes one, and how long one is waited for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.admin.guard import Refusal
from dst.admin.schema import error_row, error_to_json
from dst.errors import DeadlinePassed, DSTError, InternalError, NotFound, NotSupported

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = [
    "SECURITY_HEADERS",
    "NotYet",
    "Refused",
    "json_bytes",
    "refusal_bytes",
    "refusal_for",
    "with_deadline",
    "write_json",
    "write_refusal",
]

_log = Logger()

T = TypeVar("T")

SECURITY_HEADERS = (
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
"""In every answer: what a browser may not do with it."""


class NotYet(DeadlinePassed):
    """What was waited for goes on, and its asker is told."""


class Refused(Exception):
    """A request is answered with this refusal, whatever the cluster's state."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error.message)
        self.refusal = refusal

    @classmethod
    def because(cls, http_status: int, error: DSTError, correction: str = "") -> Refused:
        """Of an error that has another HTTP status here than it has usually."""
        return cls(Refusal(http_status, error, correction))


def with_deadline(deferred: Deferred[T], clock: IReactorTime, seconds: float, what: str) -> Deferred[T]:
    """
    Fires as C{deferred} does, or with L{NotYet}.

    Cancelling it, or running out of time, leaves C{deferred} alone: a browser that goes away must not stop
    an operation half way.
    """
    outer: Deferred[T] = Deferred(lambda _: timer.cancel())

    def late() -> None:
        outer.errback(NotYet(f"{what} was not done in {seconds:g} s; it may still be going on"))

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


def json_bytes(value: object) -> bytes:
    """C{value} as it is sent."""
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def write_json(request: Any, http_status: int, body: bytes) -> None:
    """Headers for a JSON answer; the one who calls sends the body."""
    request.setResponseCode(http_status)
    request.setHeader("Content-Type", "application/json")
    request.setHeader("Content-Length", str(len(body)))
    if not request.responseHeaders.hasHeader("Cache-Control"):
        request.setHeader("Cache-Control", "no-store")


def write_refusal(request: Any, refusal: Refusal) -> None:
    """Answer with an error, and finish."""
    request.write(refusal_bytes(request, refusal))
    request.finish()


def refusal_bytes(request: Any, refusal: Refusal) -> bytes:
    """Headers for, and the bytes of, an answer that is an error."""
    for name, header in refusal.headers:
        request.setHeader(name, header)
    body = json_bytes(error_to_json(refusal.error, refusal.correction))
    write_json(request, refusal.http_status, body)
    return body


def refusal_for(failure: Failure) -> Refusal:
    """Every error is an answer with a code, the cause and what to do; what is our mistake is logged here."""
    from werkzeug.exceptions import HTTPException, MethodNotAllowed

    error = failure.value
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        wrong = NotSupported("this address is there, but not for that method")
        return Refusal(405, wrong, f"use {allowed}", (("Allow", allowed),))
    if isinstance(error, HTTPException):  # no route, or one that is only nearly right and would be redirected
        return Refusal(404, NotFound("there is nothing at this address"), "GET /v1/openapi.json lists what there is")
    if isinstance(error, DSTError):
        row = error_row(error)
        return Refusal(row.http_status, error, "", (("Retry-After", "1"),) if row.http_status in (429, 503) else ())
    _log.failure("a request failed because of a mistake in the daemon", failure)
    return Refusal(500, InternalError("the request failed because of a mistake in the daemon"), "")
