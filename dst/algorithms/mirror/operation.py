"""
One change on its way to the members of a mirror.
"""

from __future__ import annotations

import enum

from twisted.internet.defer import Deferred

from dst.algorithms.mirror.load import NOT_SAMPLED
from dst.interfaces import Buffer, INode
from dst.recovery.write_order import Extent

__all__ = ["Change", "Operation"]


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
    @ivar done: fires with the acknowledgement.
    @ivar ended: it was acknowledged, or failed.
    @ivar asked_s: when a client asked for it, if it is one that is looked at.
    @ivar sent_s: when it was sent, the same.
    @ivar tick: of the watch, when it was sent.
    """

    __slots__ = (
        "asked_s",
        "change",
        "data",
        "done",
        "ended",
        "error",
        "failed",
        "fua",
        "no_hole",
        "pending",
        "sent",
        "sent_s",
        "tick",
    )

    def __init__(
        self,
        change: Change,
        offset: int,
        end: int,
        shift: int,
        data: Buffer = b"",
        fua: bool = False,
        no_hole: bool = False,
    ) -> None:
        Extent.__init__(self, offset, end, shift)
        self.change = change
        self.data = data
        self.fua = fua
        self.no_hole = no_hole
        self.pending = 0
        self.sent = 0
        self.failed = 0
        self.error: Exception | None = None
        self.ended = False
        self.asked_s = self.sent_s = NOT_SAMPLED
        self.tick = 0
        self.done: Deferred[None] = Deferred()

    def apply(self, node: INode) -> Deferred[None]:
        """Do it to one member's node."""
        if self.change is Change.WRITE:
            return node.write(self.offset, self.data, fua=self.fua)
        if self.change is Change.ZERO:
            return node.write_zeroes(self.offset, self.end - self.offset, fua=self.fua, no_hole=self.no_hole)
        return node.trim(self.offset, self.end - self.offset)
