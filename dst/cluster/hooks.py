"""
Telling others of events: programs that are run, and URLs that are posted to.

Each hook has a queue of its own, and what is in it is delivered one after the other, in order.  A hook that does not
work harms nobody: its queue is bounded, the oldest is given up, and health code C{HOOK_FAILS} says so.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.administration import Event
from dst.cluster.hook_specs import HookSpec
from dst.cluster.journal import Journal
from dst.errors import DSTError, Unavailable

if TYPE_CHECKING:
    from random import Random

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["PAUSE_S_MAX", "QUEUE_MAX", "TRIES", "Deliver", "Hooks", "body_of"]

QUEUE_MAX: Final = 256
"""A bad night's events; whoever was not told of these reads the journal."""

TRIES: Final = 8
"""With pauses that double from a second on: for some two minutes."""

PAUSE_S_MAX: Final = 60.0

_LOOK_S = 0.1

Deliver = Callable[[HookSpec, bytes], "Deferred[None]"]
"""
Deliver one body.  Fails with L{Unavailable} if it may work later, with another L{DSTError} if not; it may be
cancelled.
"""

_log = Logger()


def body_of(event: Event, daemon: str) -> bytes:
    """What is delivered: one JSON object."""
    told = {
        "version": 1,
        "daemon": daemon,
        "number": event.number,
        "time": event.time,
        "kind": event.kind,
        "severity": event.severity.value,
        "subject": event.subject,
        "sentence": event.sentence,
        "code": event.code,
        "cleared": event.cleared,
    }
    return json.dumps(told).encode()


@define(eq=False)
class _Hook:
    """
    @ivar tries: how often the first of those that wait was tried.
    @ivar lost: how many were given up since the log said so last.
    @ivar failing: one sentence why the last delivery failed for good; or C{""}.
    """

    spec: HookSpec
    waiting: deque[bytes] = field(factory=deque)
    delivering: Deferred[None] | None = None
    pause: IDelayedCall | None = None
    tries: int = 0
    lost: int = 0
    failing: str = ""


class Hooks:
    """All hooks of one daemon."""

    def __init__(
        self,
        clock: IReactorTime,
        specs: Sequence[HookSpec],
        journal: Journal,
        daemon: str,
        deliver: Deliver,
        random: Random,
    ) -> None:
        """
        @param daemon: what it is called, for whoever is told by several.
        @param random: for pauses that differ.
        """
        self._clock = clock
        self._hooks = [_Hook(spec) for spec in specs]
        self._journal = journal
        self._daemon = daemon
        self._deliver = deliver
        self._random = random
        self._stop_listening: Callable[[], None] | None = None

    def start(self) -> None:
        """Tell from the next event on."""
        assert self._stop_listening is None
        self._stop_listening = self._journal.listen(self._happened)

    def stop(self) -> None:
        """Tell nothing more; what is under way is cut off, what waits is dropped."""
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        for hook in self._hooks:
            hook.waiting.clear()
            if hook.pause is not None:
                hook.pause.cancel()
                hook.pause = None
            if hook.delivering is not None:
                hook.delivering.cancel()

    async def finish(self, seconds: float) -> None:
        """Let what waits be delivered, if that takes no longer, and stop."""
        left = seconds
        while left > 0 and any(hook.waiting and hook.tries <= 1 for hook in self._hooks):
            await deferLater(self._clock, _LOOK_S)
            left -= _LOOK_S
        self.stop()

    @property
    def failing(self) -> tuple[str, ...]:
        """One sentence for each hook whose last delivery has failed for good."""
        return tuple(hook.failing for hook in self._hooks if hook.failing)

    def _happened(self, event: Event) -> None:
        for hook in self._hooks:
            if hook.spec.wants(event):
                if len(hook.waiting) >= QUEUE_MAX:
                    self._give_up_oldest(hook)
                hook.waiting.append(body_of(event, self._daemon))
                self._next(hook)

    def _give_up_oldest(self, hook: _Hook) -> None:
        """Not the first one: that is being delivered."""
        del hook.waiting[1]
        hook.lost += 1
        if hook.lost == 1 or hook.lost % QUEUE_MAX == 0:
            _log.warn("{hook} is too slow: {lost} events were not told", hook=hook.spec.words, lost=hook.lost)

    def _next(self, hook: _Hook) -> None:
        if hook.delivering is not None or hook.pause is not None or not hook.waiting or not self._stop_listening:
            return
        hook.tries += 1
        hook.delivering = delivering = self._deliver(hook.spec, hook.waiting[0])
        delivering.addBoth(self._ended, hook)

    def _ended(self, result: object, hook: _Hook) -> None:
        hook.delivering = None
        if self._stop_listening is None:
            return  # stopped: whatever it says
        if isinstance(result, Failure):
            self._failed(result, hook)
        else:
            hook.failing, hook.lost = "", 0
            self._done_with_first(hook)

    def _failed(self, failure: Failure, hook: _Hook) -> None:
        if not failure.check(DSTError, CancelledError):
            _log.failure("{hook} failed unexpectedly", failure, hook=hook.spec.words)
        reason = getattr(failure.value, "message", "") or type(failure.value).__name__
        if failure.check(Unavailable) and hook.tries < TRIES:
            pause_s = min(PAUSE_S_MAX, 2.0 ** (hook.tries - 1)) * self._random.uniform(0.75, 1.25)
            hook.pause = self._clock.callLater(pause_s, self._again, hook)
            return
        _log.warn("{hook} was not told of an event: {reason}", hook=hook.spec.words, reason=reason)
        hook.failing = f"{hook.spec.words} could not be told of an event: {reason}"
        self._done_with_first(hook)

    def _again(self, hook: _Hook) -> None:
        hook.pause = None
        self._next(hook)

    def _done_with_first(self, hook: _Hook) -> None:
        hook.waiting.popleft()
        hook.tries = 0
        if hook.waiting:
            # In a later turn: a delivery that ends at once must not build a tower of calls.
            hook.pause = self._clock.callLater(0, self._again, hook)
