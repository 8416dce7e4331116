"""
What can go wrong, one class for each thing a caller can do something about.

Every error is one sentence that says what happened, to what, and what to do.
Each class carries the L{Status} under which it travels in every answer of
every protocol; L{error_for} turns a status that arrived back into its class,
so an error keeps its meaning through any number of daemons.
"""

from __future__ import annotations

import re
from typing import ClassVar

from dst.status import Status

__all__ = [
    "AlreadyInUse",
    "BadMedia",
    "ConfigurationError",
    "Conflict",
    "CorruptData",
    "DSTError",
    "DeadlinePassed",
    "Denied",
    "Fenced",
    "IncarnationChanged",
    "InternalError",
    "InvalidRequest",
    "LimitReached",
    "MediaError",
    "NoSpace",
    "NotFound",
    "NotSupported",
    "OutOfBounds",
    "PeerError",
    "ReadOnly",
    "Unavailable",
    "code_of",
    "error_for",
]


class DSTError(Exception):
    """
    The root of every error DST raises on purpose.

    @cvar status: the status under which the error travels.
    """

    status: ClassVar[Status] = Status.INTERNAL

    @property
    def message(self) -> str:
        """The sentence, as it is shown to people and sent to peers."""
        return str(self.args[0]) if self.args else type(self).__name__


class InternalError(DSTError):
    """DST itself is at fault; report it."""


class InvalidRequest(DSTError):
    """The caller asked for something that has no meaning; asking again will not help."""

    status = Status.INVALID


class OutOfBounds(InvalidRequest):
    """The extent does not lie inside the device."""

    status = Status.OUT_OF_BOUNDS

    @classmethod
    def extent(cls, offset: int, length: int, size: int) -> OutOfBounds:
        """The error for the extent C{[offset, offset + length)} of a device of C{size} bytes."""
        return cls(f"the extent {offset}+{length} is not inside the device of {size} bytes")


class Conflict(DSTError):
    """Somebody else has changed it meanwhile: look at what it is now, and ask again."""

    status = Status.INVALID


class ReadOnly(DSTError):
    """The device, or this client's permission on it, does not allow changes."""

    status = Status.READ_ONLY


class MediaError(DSTError):
    """The media reported an input/output error: the data could not be read or written there."""

    status = Status.MEDIA_ERROR


class NoSpace(DSTError):
    """The media has no room left for the data (disk full, quota)."""

    status = Status.NO_SPACE


class NotSupported(DSTError):
    """The device cannot do this operation, or not in the way that was demanded."""

    status = Status.UNSUPPORTED


class Unavailable(DSTError):
    """
    The device cannot be reached now; the operation may or may not have been
    executed.  It may be asked again when the device is back.
    """

    status = Status.UNAVAILABLE


class IncarnationChanged(Unavailable):
    """
    The device came back, but may have lost what it had not flushed: writes
    that it acknowledged and that were not flushed since are unknown.
    """

    status = Status.INCARNATION_CHANGED


class DeadlinePassed(Unavailable):
    """No answer came in the time allowed for the operation."""

    status = Status.DEADLINE_PASSED


class LimitReached(DSTError):
    """A named limit (requests, bytes, connections) would be passed; ask again later or for less."""

    status = Status.LIMIT_REACHED


class CorruptData(DSTError):
    """A checksum does not match: the data was damaged on the wire or at rest and is not returned."""

    status = Status.CORRUPT


class Denied(DSTError):
    """This identity may not do this."""

    status = Status.DENIED


class NotFound(DSTError):
    """There is no export, node or storage of that name here."""

    status = Status.NOT_FOUND


class Fenced(DSTError):
    """A newer owner has claimed the device; this one must stop using it."""

    status = Status.FENCED


class AlreadyInUse(DSTError):
    """Another process holds the media; two writers would destroy it."""

    status = Status.DENIED


class BadMedia(DSTError):
    """What is on the media is not what it should be (foreign, truncated, damaged)."""

    status = Status.BAD_MEDIA


class ConfigurationError(DSTError):
    """
    The configuration cannot be used as it is written.

    The sentence names the file and line, what was found and what was expected.
    """

    status = Status.INVALID


class PeerError(DSTError):
    """
    The peer broke the protocol.  Never raised for a mistake of our own side:
    the connection it came on cannot be used any further.
    """

    status = Status.PROTOCOL


_BY_STATUS: dict[Status, type[DSTError]] = {
    Status.INVALID: InvalidRequest,
    Status.OUT_OF_BOUNDS: OutOfBounds,
    Status.READ_ONLY: ReadOnly,
    Status.MEDIA_ERROR: MediaError,
    Status.NO_SPACE: NoSpace,
    Status.UNSUPPORTED: NotSupported,
    Status.UNAVAILABLE: Unavailable,
    Status.INCARNATION_CHANGED: IncarnationChanged,
    Status.DEADLINE_PASSED: DeadlinePassed,
    Status.LIMIT_REACHED: LimitReached,
    Status.CORRUPT: CorruptData,
    Status.DENIED: Denied,
    Status.NOT_FOUND: NotFound,
    Status.FENCED: Fenced,
    Status.BAD_MEDIA: BadMedia,
    Status.PROTOCOL: PeerError,
    Status.INTERNAL: InternalError,
}


def error_for(status: Status, message: str) -> DSTError:
    """
    The error that a peer's answer carried.

    @param status: any status but C{OK}.
    @param message: the sentence that came with it; may be empty.
    """
    assert status is not Status.OK
    return _BY_STATUS[status](message or status.name.lower().replace("_", " "))


def code_of(error: BaseException) -> str:
    """
    What programs call an error: the name of its nearest class here, as C{"not-found"}.  One that is none of DST's is
    an C{"internal-error"}.
    """
    for ancestor in type(error).__mro__:
        if ancestor.__module__ == __name__ and ancestor is not DSTError:
            return re.sub("(?<=[a-z])(?=[A-Z])", "-", ancestor.__name__).lower()
    return "internal-error"
