"""
Who asks for an operation, on its way to whoever does it; and what it has become, on the way back.

Both belong to a request and not to the operation: every way of asking would have to carry them through every call
otherwise.
"""

from __future__ import annotations

from contextvars import ContextVar

from attrs import define

__all__ = ["Asking", "asking"]


@define
class Asking:
    """
    One request for something that takes its time.

    @ivar by: who asks, in words.
    @ivar operation: the id of the operation that it has become; C{None} while it has not, or where nobody counts
        them.
    """

    by: str = ""
    operation: str | None = None


asking: ContextVar[Asking | None] = ContextVar("asking", default=None)
"""What is being asked for now; whoever begins an operation notes its id here."""
