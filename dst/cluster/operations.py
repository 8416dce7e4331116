"""
What was asked of a daemon and takes its time: how it is, and how it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from attrs import define, evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.administration import OperationState, OperationStatus
from dst.asking import asking
from dst.errors import DSTError, LimitReached, NotFound, Unavailable, code_of

__all__ = ["OPERATIONS_MAX", "RUNNING_MAX", "Operation", "Operations"]

_log = Logger()

OPERATIONS_MAX = 200
"""How many are remembered: what a person did today, and a page to read. Running ones are never forgotten."""

RUNNING_MAX = 64
"""How many go on at a time; a script that asks for more does not look at the answers."""

T = TypeVar("T")

Report = Callable[[OperationStatus], None]


@define(eq=False)
class Operation:
    """
    One of them, for whoever does it.

    @ivar status: how it is.
    """

    status: OperationStatus
    _changed: Report

    def say(self, sentence: str, bytes_total: int | None = None, bytes_left: int | None = None) -> None:
        """It does something else now, or has come further."""
        self.status = evolve(self.status, sentence=sentence, bytes_total=bytes_total, bytes_left=bytes_left)


class Operations:
    """
    The last operations of a daemon, and those that go on.
    """

    def __init__(
        self,
        entropy: Callable[[int], bytes],
        wall_clock_s: Callable[[], float],
        ended: Report = lambda status: None,
    ) -> None:
        """
        @param ended: told of each that has ended.
        """
        self._run = entropy(4).hex()  # ids do not come again after a restart
        self._wall_clock_s = wall_clock_s
        self._ended = ended
        self._count = 0
        self._operations: dict[str, Operation] = {}

    def all(self) -> list[OperationStatus]:
        """How they are, the newest first."""
        return [operation.status for operation in reversed(self._operations.values())]

    def get(self, id: str) -> OperationStatus:
        """
        How one is.

        @raise NotFound: there is none, or it was forgotten.
        """
        operation = self._operations.get(id)
        if operation is None:
            raise NotFound(
                f"there is no operation {id[:40]!r}; a daemon remembers the last {OPERATIONS_MAX} since it began"
            )
        return operation.status

    def begin(self, kind: str, subject: str, asked_by: str = "") -> Operation:
        """
        Something was asked for.

        Who asks, and where the id is noted for them, is in L{dst.asking} if it is not said.

        @raise LimitReached: too many go on already.
        """
        asked = asking.get()
        running = sum(each.status.state is OperationState.RUNNING for each in self._operations.values())
        if running >= RUNNING_MAX:
            raise LimitReached(f"{running} operations are going on already, and no more are begun")
        self._count += 1
        id = f"{self._run}-{self._count}"
        if asked is not None:
            asked.operation = id
            asked_by = asked_by or asked.by
        status = OperationStatus(id, kind, subject, OperationState.RUNNING, self._wall_clock_s(), asked_by=asked_by)
        operation = self._operations[id] = Operation(status, self._ended)
        self._forget()
        return operation

    def follow(self, operation: Operation, work: Deferred[T], done: str = "") -> Deferred[T]:
        """
        C{operation} ends as C{work} does.

        @param done: what is said of it when it has ended well.
        """

        def ended(result: T | Failure) -> T | Failure:
            state, sentence, code = OperationState.DONE, done or operation.status.sentence, None
            if isinstance(result, Failure):
                state, sentence, code = OperationState.FAILED, *_words_of(result)
            operation.status = evolve(
                operation.status, state=state, sentence=sentence, ended=self._wall_clock_s(), error_code=code
            )
            self._ended(operation.status)
            return result

        return work.addBoth(ended)

    def run(self, kind: str, subject: str, act: Callable[[], Deferred[T]], asked_by: str = "") -> Deferred[T]:
        """
        Do C{act} as an operation.

        @raise DSTError: as C{act} does; then it was none.
        """
        work = act()
        return self.follow(self.begin(kind, subject, asked_by), work)

    def _forget(self) -> None:
        if len(self._operations) > OPERATIONS_MAX:
            for id, operation in self._operations.items():
                if operation.status.state is not OperationState.RUNNING:
                    del self._operations[id]
                    return


def _words_of(failure: Failure) -> tuple[str, str]:
    error = failure.value
    assert error is not None
    if isinstance(error, DSTError):
        return error.message, code_of(error)
    if isinstance(error, CancelledError):
        return "it was given up because the daemon stops", code_of(Unavailable())
    _log.failure("an operation failed because of a mistake in the daemon", failure)
    return "it failed because of a mistake in the daemon; its log has the details", code_of(error)
