"""
Frames to bytes.

Data is not copied: a frame is given back as its header, and its data goes out after it as it is.
"""

from __future__ import annotations

from dst.errors import DSTError
from dst.native.frames import HEADER_BYTES, MAGIC, NO_EPOCH, answer_header, done_answers, request_header
from dst.status import Status
from dst.wire.messages import MESSAGE_BYTES_MAX, Operation

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "NO_EPOCH",
    "answer_header",
    "done_answers",
    "error_answer",
    "goodbye",
    "notice",
    "request_header",
]


def error_answer(operation: int, request_id: int, error: DSTError, *, flags: int = 0) -> bytes:
    """The whole answer that says how request C{request_id} failed."""
    message = _sentence(error.message)
    return answer_header(operation, request_id, status=error.status, flags=flags, data=message) + message


def goodbye(error: DSTError) -> bytes:
    """The whole frame with which a server says why it closes the connection."""
    return notice(Operation.GOODBYE, _sentence(error.message), status=error.status)


def notice(operation: Operation, data: bytes, *, status: Status = Status.OK) -> bytes:
    """A whole frame that answers nothing."""
    return request_header(operation, 0, status=status, data=data) + data


def _sentence(text: str) -> bytes:
    """C{text} in UTF-8, cut between characters if it is too long."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > MESSAGE_BYTES_MAX:
        encoded = encoded[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore").encode()
    return encoded
