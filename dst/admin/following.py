"""
Following the status as it changes, with a daemon that may go and come back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import DSTError, NotFound
from dst.status import StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["follow"]

_log = Logger()

POLL_S = 1.0
"""How often is looked where nobody tells of changes."""

TICK_S = 1.0
"""How often C{tick} is called."""

RETRY_S = 1.0
"""How soon to try again to reach a daemon that has gone: a person is waiting for it."""


async def follow(
    admin: IClusterAdmin,
    clock: IReactorTime,
    storage: str | None,
    told: Callable[[list[StatusTree]], None],
    lost: Callable[[DSTError], None],
    tick: Callable[[], None],
    *,
    patient: bool = False,
) -> None:
    """
    Go on until cancelled, or until there is an error before anything could be told.

    @param storage: the only one to tell about; C{None} for all.
    @param told: called with the trees now, and again whenever they change.
    @param lost: called when they cannot be had at the moment.
    @param tick: called every L{TICK_S}, whatever happens.
    @param patient: go on after the very first error, too: there are others to be told about.
    """
    been_there = patient

    def chosen(trees: list[StatusTree]) -> None:
        nonlocal been_there
        if storage is not None:
            trees = [tree for tree in trees if tree.name == storage]
            if not trees and not been_there:
                raise NotFound(f"there is no storage or node {storage!r} at the top of this daemon's tree")
        been_there = True
        told(trees)

    ticking = LoopingCall(tick)
    ticking.clock = clock
    ticking.start(TICK_S, now=False).addErrback(_log_mistake)
    try:
        while True:
            try:
                await _each_change(admin, clock, chosen)
            except DSTError as error:
                if not been_there:
                    raise
                lost(error)
            await _sleep(clock, RETRY_S)
    finally:
        if ticking.running:
            ticking.stop()


def _log_mistake(failure: Failure) -> None:
    """Drawing failed: that is our mistake, and what is told is still shown."""
    _log.failure("the status could not be drawn", failure)


async def _each_change(admin: IClusterAdmin, clock: IReactorTime, told: Callable[[list[StatusTree]], None]) -> None:
    """Call C{told} as things change, until there is an error; looks again and again where nobody tells."""
    events = getattr(admin, "follow", None)
    if events is not None:
        await events(told)
        return
    before: list[StatusTree] | None = None
    while True:
        trees = await admin.status()
        if trees != before:
            told(trees)
            before = trees
        await _sleep(clock, POLL_S)


def _sleep(clock: IReactorTime, seconds: float) -> Deferred[None]:
    waited: Deferred[None] = Deferred(lambda _: timer.cancel())
    timer = clock.callLater(seconds, waited.callback, None)
    return waited
