"""
The writes of several clients to one device, given to it together.

To have a batch of small writes done costs a device little more than one write.  When many clients write at the same
time each has only few, so what comes from all of them in one turn of the reactor is held back to its end.  Nobody
waits for that: the answers of what is written in this turn could not be received before, either.

While one client alone writes nothing is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from dst.errors import DSTError
from dst.interfaces import Buffer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["HELD_BYTES_MAX", "HELD_WRITES_MAX", "SharedWrites"]

HELD_WRITES_MAX: Final = 512
HELD_BYTES_MAX: Final = 4 * 1024 * 1024
"""More than this is not held back: a device has its own limits, and better things to do than to wait for more."""

Errors: TypeAlias = "Sequence[DSTError | None] | None"
_Writes: TypeAlias = "list[tuple[int, Buffer]]"


class SharedWrites:
    """
    What all clients of one device write.

    @ivar users: how many clients there are; kept by who makes them.
    """

    def __init__(self, clock: IReactorTime, write_together: Callable[[_Writes], Deferred[Errors]]) -> None:
        """
        @param write_together: of the device, as L{dst.interfaces.IWritesTogether}.
        """
        self.users = 0
        self._clock = clock
        self._write_together = write_together
        self._last: object = None  # who wrote last
        self._writes: _Writes = []
        self._parts: list[tuple[Deferred[Errors], int]] = []  # whose they are, in order, and how many of each
        self._bytes = 0
        self._turn: IDelayedCall | None = None
        self._telling = False

    def write(self, user: object, writes: _Writes, length: int) -> Deferred[Errors]:
        """
        As L{dst.interfaces.IWritesTogether.write_together}.

        @param user: whose writes they are.
        @param length: the bytes of all of them.
        """
        alone, self._last = user is self._last, user
        if alone and not self._parts:
            return self._write_together(writes)
        answer: Deferred[Errors] = Deferred()
        self._parts.append((answer, len(writes)))
        self._writes += writes
        self._bytes += length
        if len(self._writes) >= HELD_WRITES_MAX or self._bytes >= HELD_BYTES_MAX:
            self.send()
        elif self._turn is None:
            self._turn = self._clock.callLater(0, self._take_turn)
        return answer

    def send(self) -> None:
        """Hold nothing back any longer."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self._parts:
            self._send()

    def _take_turn(self) -> None:
        self._turn = None
        self._send()

    def _send(self) -> None:
        writes, self._writes = self._writes, []
        parts, self._parts = self._parts, []
        self._bytes = 0
        try:
            writing = self._write_together(writes)
        except Exception:  # a device that breaks its promise must not leave clients without an answer
            writing = fail(Failure())
        writing.addBoth(self._answered, parts)

    def _answered(self, result: Errors | Failure, parts: list[tuple[Deferred[Errors], int]]) -> None:
        """
        Tell those whose writes they were.

        Who is told goes on, and may want nothing to be held back any longer. Those whose writes that were are told in
        a turn of their own: else each would be told from within the one before, as deep as there are clients.
        """
        if self._telling:
            self._clock.callLater(0, self._answered, result, parts)
            return
        self._telling = True
        try:
            _tell(result, parts)
        finally:
            self._telling = False


def _tell(result: Errors | Failure, parts: list[tuple[Deferred[Errors], int]]) -> None:
    at = 0
    for answer, count in parts:
        if isinstance(result, Failure):
            answer.errback(result)
        else:
            answer.callback(None if result is None else result[at : at + count])
        at += count
