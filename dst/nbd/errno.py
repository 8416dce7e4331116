"""
Between the errors of this project and the few numbers that NBD has for them.

The way out loses detail (a number says less than a status), so servers send the
sentence too where the client takes structured replies.
"""

from __future__ import annotations

from typing import Final

from dst.errors import (
    Denied,
    DSTError,
    InvalidRequest,
    LimitReached,
    MediaError,
    NoSpace,
    NotSupported,
    Unavailable,
)
from dst.nbd.constants import EINVAL, EIO, ENOMEM, ENOSPC, ENOTSUP, EOVERFLOW, EPERM, ESHUTDOWN
from dst.status import Status

__all__ = ["errno_for", "error_from_errno"]

_ERRNO: Final = {
    Status.INVALID: EINVAL,
    Status.OUT_OF_BOUNDS: EINVAL,
    Status.READ_ONLY: EPERM,
    Status.MEDIA_ERROR: EIO,
    Status.NO_SPACE: ENOSPC,
    Status.UNSUPPORTED: ENOTSUP,
    Status.UNAVAILABLE: EIO,
    Status.INCARNATION_CHANGED: EIO,
    Status.DEADLINE_PASSED: EIO,
    Status.LIMIT_REACHED: ENOMEM,
    Status.CORRUPT: EIO,
    Status.DENIED: EPERM,
    Status.NOT_FOUND: EIO,
    Status.FENCED: EPERM,
    Status.BAD_MEDIA: EIO,
    Status.PROTOCOL: EIO,
    Status.INTERNAL: EIO,
}

_ERRORS: Final[dict[int, tuple[type[DSTError], str]]] = {
    EPERM: (Denied, "operation not permitted"),
    EIO: (MediaError, "input/output error"),
    ENOMEM: (LimitReached, "not enough memory"),
    EINVAL: (InvalidRequest, "invalid request"),
    ENOSPC: (NoSpace, "no space left"),
    EOVERFLOW: (InvalidRequest, "too large for one unfragmented reply"),
    ENOTSUP: (NotSupported, "not supported"),
    ESHUTDOWN: (Unavailable, "the server is shutting down"),
}


def errno_for(status: Status, *, changing: bool) -> int:
    """
    The number under which an error goes to a client.

    @param changing: the request was to change the device: the protocol wants ENOSPC, not EINVAL, beyond its end.
    """
    if changing and status is Status.OUT_OF_BOUNDS:
        return ENOSPC
    return _ERRNO[status]


def error_from_errno(errno: int, message: str, subject: str) -> DSTError:
    """
    The error for what a server answered.

    @param message: the sentence it sent along; may be empty.
    @param subject: who failed to do what, the beginning of our sentence.
    """
    kind, words = _ERRORS.get(errno, (MediaError, "an error that the protocol does not define"))
    return kind(f"{subject}: {message or words} (NBD error {errno})")
