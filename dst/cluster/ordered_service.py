"""
A service that starts step by step and stops in the opposite order.

C{MultiService} starts and stops everything at once.  A storage cannot: exports must
have drained before the storages below them flush, and those before their nodes close.  Each step is
logged, and none can hold up the end for ever.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

__all__ = ["OrderedService", "Phase", "Step"]

_log = Logger()


class Phase(enum.Enum):
    """Where a service is, for whoever observes it."""

    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"


@frozen
class Step:
    """
    One thing that is started, and stopped in the end.

    @ivar name: what it is about, for the log: C{"storages"}.
    @ivar start: fires when the next step may begin; a failure ends the start.
    @ivar stop: gives everything back.  Also called if C{start} failed or was cancelled half way.
    @ivar stop_s_max: how long it may take; whatever is not done by then is left behind.
    """

    name: str
    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    stop_s_max: float


class OrderedService(Service):
    """
    Steps, one after the other.

    If a step fails, those before it are stopped again, last one first, and the failure
    goes to whoever called L{start} or to C{failed}.
    """

    def __init__(
        self, clock: IReactorTime, steps: Sequence[Step], failed: Callable[[Failure], None] | None = None
    ) -> None:
        """
        @param failed: told why a start that C{startService} began has failed, after everything is closed again.
        """
        self._clock = clock
        self._steps = list(steps)
        self._failed = failed
        self._observers: list[Callable[[Phase, str], None]] = []
        self._begun: list[Step] = []
        self._starting: Deferred[None] | None = None
        self._start_goes_on = False
        self._stopping: Deferred[None] | None = None

    def observe(self, observer: Callable[[Phase, str], None]) -> None:
        """
        Have C{observer} told of each step that is started or stopped, by name, and of the end of each (C{""}).
        """
        self._observers.append(observer)

    def _at(self, phase: Phase, step: str = "") -> None:
        for observer in self._observers:
            observer(phase, step)

    def start(self) -> Deferred[None]:
        """Start every step; fires when all have."""
        assert not self._start_goes_on and not self._begun, "started twice"
        self._stopping = None
        super().startService()  # type: ignore[no-untyped-call]
        self._starting = Deferred.fromCoroutine(self._start())
        return self._starting

    def startService(self) -> None:
        """Twisted calls this; what becomes of it, C{failed} is told."""
        self.start().addErrback(self._tell)

    def stopService(self) -> Deferred[None]:
        """Stop every step that was begun; fires when all have, or their time is over."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._stopping is None:
            self._stopping = Deferred.fromCoroutine(self._stop())
        return _end_of(self._stopping)

    def _tell(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if self._failed is None:
            _log.failure("the start failed", failure)
        else:
            self._failed(failure)

    async def _start(self) -> None:
        self._start_goes_on = True
        try:
            for step in self._steps:
                _log.info("{step}: starting", step=step.name)
                self._at(Phase.STARTING, step.name)
                self._begun.append(step)
                await step.start()
            _log.info("everything is started")
            self._at(Phase.STARTED)
        except BaseException:
            await self._unwind()
            raise
        finally:
            self._start_goes_on = False

    async def _stop(self) -> None:
        if self._start_goes_on:
            assert self._starting is not None
            starting = self._starting
            # Cancelling unwinds what was begun; wait for that.
            ended = _end_of(starting)
            starting.cancel()
            await ended
        await self._unwind()

    async def _unwind(self) -> None:
        while self._begun:
            step = self._begun.pop()
            _log.info("{step}: stopping", step=step.name)
            self._at(Phase.STOPPING, step.name)
            try:
                await maybeDeferred(step.stop).addTimeout(step.stop_s_max, self._clock)
            except TimeoutError:
                _log.error("{step}: not stopped after {limit} s; going on", step=step.name, limit=step.stop_s_max)
            except Exception:
                _log.failure("{step}: could not be stopped in order", step=step.name)
            else:
                _log.info("{step}: stopped", step=step.name)
        self._at(Phase.STOPPED)


def _end_of(deferred: Deferred[None]) -> Deferred[None]:
    """Fires when C{deferred} has, however it ended, and leaves its result to others."""
    end: Deferred[None] = Deferred()

    def note(result: None | Failure) -> None | Failure:
        end.callback(None)
        return result

    deferred.addBoth(note)
    return end
