"""
Opening many devices.

A storage that opens asks its nodes for a promise, each promise is a write to stable media, and an answer is waited
for only so long.  A thousand storages that began at once would wait for each other's writes until nobody was answered
in time, ask again, and never be served.  So only some open at once.  One that waits for nodes that are away, or for
a person, does not keep the others from their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.interfaces import INode

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["OPENING_MAX", "OPEN_S_MAX", "TURN_S", "open_in_turn"]

_log = Logger()

OPEN_S_MAX: Final = 10.0
"""How long the start waits for one device; it goes on opening while the rest of the daemon starts."""

OPENING_MAX: Final = 32
"""At once: a slow disk makes the promises of so many durable in well under a second."""

TURN_S: Final = 1.0
"""Who is not open by then waits for something else than its turn; the next one begins."""


async def open_in_turn(clock: IReactorTime, devices: Sequence[INode], begun: Callable[[INode], None]) -> None:
    """
    Open C{devices}, and wait for all of them; for each only so long.

    @param begun: told of each device before it is opened.
    @raise DSTError: what the first one to fail failed with, at once; nobody else begins then.
    """
    seats = DeferredSemaphore(OPENING_MAX)

    def begin(device: INode, _: DeferredSemaphore) -> Deferred[None]:
        begun(device)
        turn = clock.callLater(TURN_S, seats.release)
        return _opened_in_time(clock, device).addBoth(ended, turn)

    def ended(result: None | Failure, turn: IDelayedCall) -> None | Failure:
        if turn.active():
            turn.cancel()
            if not isinstance(result, Failure):
                seats.release()
        return result

    waiting = [seats.acquire().addCallback(partial(begin, device)) for device in devices]
    try:
        await gatherResults(waiting, consumeErrors=True)
    except FirstError as error:
        for each in waiting:
            each.cancel()
        error.subFailure.raiseException()


def _opened_in_time(clock: IReactorTime, device: INode) -> Deferred[None]:
    """
    C{device} opens.  After a time the start goes on without it; the opening itself is never given up.
    """
    given_up = False

    def give_up(_: Deferred[None]) -> None:
        nonlocal given_up
        given_up = True
        patience.cancel()

    waiting: Deferred[None] = Deferred(give_up)

    def opened(result: object) -> None:
        if not waiting.called:
            patience.cancel()
            waiting.callback(result)  # type: ignore[arg-type]
        elif isinstance(result, Failure) and not given_up:
            _log.failure("{device} could not be opened", result, device=device.name)

    def too_late() -> None:
        _log.warn("{device} is not open after {limit} s; the start goes on", device=device.name, limit=OPEN_S_MAX)
        waiting.callback(None)

    patience = clock.callLater(OPEN_S_MAX, too_late)
    maybeDeferred(device.open).addBoth(opened)
    return waiting
