"""
Errors as the REST interface says them.

Every error is::

    {"version": 1, "error": {"code": "not-found", "cause": "...", "correction": "..."}}

C{code} is one of L{ERRORS} and never changes its meaning, C{cause} is the sentence of the
error, C{correction} what a person can do about it.  The client turns C{code} back into the class, so an
error is the same on both sides.
"""

from __future__ import annotations

from attrs import frozen

from dst.errors import (
    AlreadyInUse,
    BadMedia,
    ConfigurationError,
    Conflict,
    CorruptData,
    DeadlinePassed,
    Denied,
    DSTError,
    Fenced,
    IncarnationChanged,
    InternalError,
    InvalidRequest,
    LimitReached,
    MediaError,
    NoSpace,
    NotFound,
    NotSupported,
    OutOfBounds,
    PeerError,
    ReadOnly,
    Unavailable,
)

__all__ = [
    "API_VERSION",
    "ERRORS",
    "ErrorRow",
    "correction_for",
    "error_from_code",
    "error_from_json",
    "error_row",
    "error_to_json",
]

API_VERSION = 1
"""Of everything that is said."""

_CAUSE_MAX = 8192
"""Characters of the cause of an error: a hundred things that are wrong with a configuration, one sentence each."""


@frozen
class ErrorRow:
    """
    How one class of errors travels.

    @ivar code: its name on the wire.
    @ivar http_status: when the daemon raised it for a request that was well formed.
    @ivar correction: what a person can do, whichever way they asked.
    """

    error: type[DSTError]
    code: str
    http_status: int
    correction: str


_READ_REASONS = "the reasons in `dst status` (GET /v1/status) say what the storage waits for"

ERRORS: tuple[ErrorRow, ...] = (
    ErrorRow(NotFound, "not-found", 404, "`dst status` (GET /v1/status) lists the names that are here"),
    # A well-formed request that means nothing now: the state is in its way, not its form.
    ErrorRow(InvalidRequest, "invalid-request", 409, "`dst status` (GET /v1/status) shows the state it depends on"),
    ErrorRow(OutOfBounds, "out-of-bounds", 400, "ask for an extent inside the device"),
    ErrorRow(ConfigurationError, "configuration-error", 400, "correct what the sentence names and ask again"),
    ErrorRow(
        Conflict, "conflict", 412, "look at what it is now (GET /v1/configuration), and ask again with its etag"
    ),
    ErrorRow(ReadOnly, "read-only", 409, "ask the daemon that may change the device"),
    ErrorRow(NotSupported, "not-supported", 501, "the manual says which algorithm can do it"),
    ErrorRow(Denied, "denied", 403, "ask on the machine of the daemon, at its own address"),
    ErrorRow(AlreadyInUse, "already-in-use", 409, "stop the process that has the media open, or name other media"),
    ErrorRow(Fenced, "fenced", 409, "ask the daemon that owns the storage now"),
    ErrorRow(BadMedia, "bad-media", 409, "look at what is on the media before using it; nothing was overwritten"),
    ErrorRow(LimitReached, "limit-reached", 429, "ask again later, or for less"),
    ErrorRow(Unavailable, "unavailable", 503, _READ_REASONS),
    ErrorRow(IncarnationChanged, "incarnation-changed", 503, _READ_REASONS),
    ErrorRow(DeadlinePassed, "deadline-passed", 504, "it may still be going on: look at `dst status` first"),
    ErrorRow(NoSpace, "no-space", 507, "make room on the media and ask again"),
    ErrorRow(MediaError, "media-error", 500, "look at the system's log for the media, and replace the node"),
    ErrorRow(CorruptData, "corrupt-data", 500, "mark the node dirty, so that it is copied again"),
    ErrorRow(PeerError, "peer-error", 502, "check that both sides run versions of DST that know each other"),
    ErrorRow(InternalError, "internal-error", 500, "the daemon's log has the details; please report it"),
)

_ROW_BY_CLASS = {row.error: row for row in ERRORS}
_ROW_BY_CODE = {row.code: row for row in ERRORS}


def error_row(error: BaseException) -> ErrorRow:
    """The row of the nearest class of C{error}; that of C{InternalError} when there is none."""
    for ancestor in type(error).__mro__:
        row = _ROW_BY_CLASS.get(ancestor)
        if row is not None:
            return row
    return _ROW_BY_CLASS[InternalError]


def correction_for(error: DSTError) -> str:
    """What a person can do about C{error}: what the daemon said, else the usual for its class."""
    said = getattr(error, "correction", "")
    return said if isinstance(said, str) and said else error_row(error).correction


def error_to_json(error: DSTError, correction: str = "") -> dict[str, object]:
    """The body of the answer that tells C{error}."""
    return {
        "version": API_VERSION,
        "error": {
            "code": error_row(error).code,
            "cause": error.message if len(error.message) <= _CAUSE_MAX else error.message[: _CAUSE_MAX - 1] + "…",
            "correction": correction or correction_for(error),
        },
    }


def error_from_code(code: str | None, cause: str) -> DSTError:
    """The error that had this code."""
    row = _ROW_BY_CODE.get(code or "", _ROW_BY_CLASS[InternalError])
    return row.error(cause[:_CAUSE_MAX] or row.code.replace("-", " "))


def error_from_json(value: object) -> DSTError | None:
    """The error that L{error_to_json} told, of the same class; C{None} if C{value} tells none."""
    told = value.get("error") if isinstance(value, dict) else None
    if not isinstance(told, dict):
        return None
    cause = told.get("cause")
    correction = told.get("correction")
    error = error_from_code(str(told.get("code")), cause if isinstance(cause, str) else "")
    if isinstance(correction, str) and correction:
        # Kept with the error, so that what the daemon advised is what the person reads.
        error.correction = correction[:1024]  # type: ignore[attr-defined]
    return error
