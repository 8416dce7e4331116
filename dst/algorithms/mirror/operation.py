"""
One change on its way to the members of a mirror.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from dst.algorithms.mirror.load import NOT_SAMPLED
from dst.errors import DSTError
from dst.interfaces import Buffer, INode
from dst.recovery.write_order import Extent

__all__ = ["Change", "Operation", "Told", "Together", "tell_deferred"]

Told = Callable[[Any, DSTError | None], None]
"""What is called with an operation's C{argument} when it is acknowledged, or with why it failed."""


class Change(enum.Enum):
    """What an operation does to its extent."""

    WRITE = "write"
    ZERO = "write zeroes"
    TRIM = "trim"


class Operation(Extent):
    """
    A countdown over the members that must have done it.

    @ivar pending: members whose answer the acknowledgement waits for.
    @ivar sent: members it was sent to.
    @ivar failed: members that it failed on and that count still.
    @ivar plain: a write, and no more than that: a L{dst.interfaces.Write}.
    @ivar data_crc: the CRC-32C of C{data}, once somebody wanted to know.
    @ivar told: called once, with C{argument}, when it has ended.
    @ivar ended: it was acknowledged, or failed.
    @ivar asked_s: when a client asked for it, if it is one that is looked at.
    @ivar sent_s: when it was sent, the same.
    @ivar tick: of the watch, when it was sent.
    """

    __slots__ = (
        "argument",
        "asked_s",
        "change",
        "data",
        "data_crc",
        "ended",
        "error",
        "failed",
        "fua",
        "no_hole",
        "pending",
        "plain",
        "sent",
        "sent_s",
        "tick",
        "told",
    )

    def __init__(
        self,
        told: Told,
        argument: Any,
        change: Change,
        offset: int,
        end: int,
        shift: int,
        data: Buffer = b"",
        fua: bool = False,
        no_hole: bool = False,
    ) -> None:
        Extent.__init__(self, offset, end, shift)
        self.told = told
        self.argument = argument
        self.change = change
        self.data = data
        self.data_crc: int | None = None
        self.fua = fua
        self.no_hole = no_hole
        self.plain = change is Change.WRITE and not fua
        self.pending = self.sent = self.failed = self.tick = 0
        self.error: DSTError | None = None
        self.ended = False
        self.asked_s = self.sent_s = NOT_SAMPLED

    def apply(self, node: INode) -> Deferred[None]:
        """Do it to one member's node."""
        if self.change is Change.WRITE:
            return node.write(self.offset, self.data, fua=self.fua)
        if self.change is Change.ZERO:
            return node.write_zeroes(self.offset, self.end - self.offset, fua=self.fua, no_hole=self.no_hole)
        return node.trim(self.offset, self.end - self.offset)


def tell_deferred(done: Deferred[None], error: DSTError | None) -> None:
    """For an operation whose C{argument} is what fires with its end."""
    if error is None:
        done.callback(None)
    else:
        done.errback(error)


class Together:
    """
    A countdown over writes that were asked for together.

    @ivar done: fires when all have ended, as that of C{write_together}.
    """

    __slots__ = ("_count", "_errors", "_left", "done")

    def __init__(self, count: int) -> None:
        self.done: Deferred[Sequence[DSTError | None] | None] = Deferred()
        self._count = self._left = count
        self._errors: dict[int, DSTError] = {}

    def told(self, number: int, error: DSTError | None) -> None:
        """One of them has ended."""
        if error is not None:
            self._errors[number] = error
        self._left -= 1
        if not self._left:
            errors = self._errors
            self.done.callback([errors.get(each) for each in range(self._count)] if errors else None)
