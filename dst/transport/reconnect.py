"""
Keep trying: exponential backoff with jitter, for every kind of node.

A L{Reconnector} does not know what it connects.  It is given an C{attempt}
that returns a L{Deferred} of something connection-like, and says when there is
one.  Its owner says when that one was lost.  It goes on for ever until it is stopped::

                          +-------- lost --------+
                          v                      |
    idle --start--> attempting --succeeded--> connected
                     |      ^
                   failed   |
                     v      |
                    waiting-+            stop: from every state to stopped

The states are kept by hand: C{connected} and C{failed} call back into the machine, and automat
postpones such inputs, so that they could not return anything.

Two things that are easily got wrong:

  - A peer that accepts and hangs up at once is a failing peer.  The delay goes
    back to the first one only after a connection was up for C{settled_s}.
  - Nothing bounds an attempt from outside (a connection may be accepted and the
    handshake never answered), so it is cancelled after C{attempt_s_max}.

When a switch fails, a daemon loses a thousand nodes in one moment.  Jitter in proportion to the delay does not help
there: the first delays are short, so all would try again within some hundredths of a second.  So those of one process
that look for a connection form a crowd, and the larger it is the further apart they try.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import DeadlinePassed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Reconnector"]

T = TypeVar("T")

_log = Logger()

ATTEMPTS_PER_S: Final = 1000
"""
Of one process: each costs both sides about a millisecond.  A thousand nodes that are lost together are tried within a
second, which leaves most of the time in which what was asked of them is kept.
"""


class _Crowd:
    """
    The reconnectors of one process that have no connection.

    @ivar count: how many they are.
    """

    def __init__(self) -> None:
        self.count = 0


_crowds: WeakKeyDictionary[IReactorTime, _Crowd] = WeakKeyDictionary()


class _State(Enum):
    IDLE = "idle"
    ATTEMPTING = "attempting"
    CONNECTED = "connected"
    WAITING = "waiting"
    STOPPED = "stopped"


class Reconnector(Generic[T]):
    """
    Try to connect until it works, and again whenever the connection is lost.

    C{connected} and C{failed} may be called before C{start} or C{lost} has returned, and may call C{lost} or
    C{stop} themselves.
    """

    def __init__(
        self,
        clock: IReactorTime,
        attempt: Callable[[], Deferred[T]],
        connected: Callable[[T], None],
        failed: Callable[[Failure, float], None],
        *,
        random: Random,
        delay_s_first: float = 0.1,
        delay_s_max: float = 10.0,
        factor: float = 2.0,
        jitter: float = 0.3,
        attempt_s_max: float = 5.0,
        settled_s: float = 5.0,
    ) -> None:
        """
        @param attempt: begins one attempt.  Its Deferred is cancelled when it takes too long or nobody wants
            it any more; then it must give back what it holds and fail.
        @param connected: takes what an attempt gave, and owns it from then on.
        @param failed: told why an attempt failed and how many seconds later the next one begins.
        @param random: spreads the attempts of many clients that lost the same server at the same time.
        @param delay_s_first: before the first repetition.
        @param delay_s_max: the delay grows by C{factor} up to this.
        @param jitter: every delay is changed by up to this share of it, either way, and not above C{delay_s_max};
            then the crowd's share is added.
        @param attempt_s_max: an attempt that takes longer has failed.
        @param settled_s: a connection that lived as long as this was a good one: the delay is the first again.
        """
        assert 0 < delay_s_first <= delay_s_max and factor >= 1 and 0 <= jitter < 1
        self._clock = clock
        self._attempt = attempt
        self._connected = connected
        self._failed = failed
        self._random = random
        self._delay_s_first = self._delay_s = delay_s_first
        self._delay_s_max = delay_s_max
        self._factor = factor
        self._jitter = jitter
        self._attempt_s_max = attempt_s_max
        self._settled_s = settled_s
        self._state = _State.IDLE
        self._connected_at = 0.0
        self._attempting: Deferred[T] | None = None
        self._stops: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None
        self._crowd = _crowds.setdefault(clock, _Crowd())
        self._in_crowd = False

    def start(self) -> None:
        """Begin with an attempt now.  Without effect if it was started before."""
        if self._state is _State.IDLE:
            self._begin()

    def lost(self) -> float:
        """
        The connection that C{connected} was given broke: try again after a delay.

        Without effect while there is no connection.

        @return: the seconds until the next attempt begins.
        """
        if self._state is not _State.CONNECTED:
            return 0.0
        if self._clock.seconds() - self._connected_at >= self._settled_s:
            self._delay_s = self._delay_s_first
        return self._wait()

    def stop(self) -> Deferred[None]:
        """
        Stop trying for good.  A connection that was handed over is the owner's to close.

        @return: fires when no timer and no attempt is left.
        """
        self._state = _State.STOPPED
        self._cancel_timer()
        self._belong(False)
        if self._attempting is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stops.append(stopped)
        self._attempting.cancel()
        return stopped

    def _belong(self, seeking: bool) -> None:
        """It has no connection and wants one, or not."""
        self._crowd.count += seeking - self._in_crowd
        self._in_crowd = seeking

    def _begin(self) -> None:
        self._state = _State.ATTEMPTING
        self._belong(True)
        timed_out = False

        def expire() -> None:
            nonlocal timed_out
            timed_out, self._timer = True, None
            attempting.cancel()

        def succeeded(value: T) -> None:
            self._attempt_ended()
            if self._state is _State.ATTEMPTING:
                self._state = _State.CONNECTED
                self._belong(False)
                self._connected_at = self._clock.seconds()
                self._connected(value)

        def failed(failure: Failure) -> None:
            self._attempt_ended()
            if timed_out and failure.check(CancelledError):
                failure = Failure(DeadlinePassed(f"no connection within {self._attempt_s_max:g} s"))
            if self._state is _State.ATTEMPTING:
                self._failed(failure, self._wait())

        self._timer = self._clock.callLater(self._attempt_s_max, expire)
        attempting = maybeDeferred(self._attempt)
        self._attempting = attempting
        ended = attempting.addCallbacks(succeeded, failed)
        ended.addErrback(lambda failure: _log.failure("the owner of a connection failed", failure))

    def _attempt_ended(self) -> None:
        self._attempting = None
        self._cancel_timer()
        for stopped in self._stops:
            stopped.callback(None)
        self._stops.clear()

    def _wait(self) -> float:
        self._state = _State.WAITING
        self._belong(True)
        least_s = self._delay_s * (1 - self._jitter)
        most_s = min(self._delay_s_max, self._delay_s * (1 + self._jitter))
        delay_s = least_s + self._random.random() * (most_s - least_s)
        delay_s += self._random.random() * (self._crowd.count - 1) / ATTEMPTS_PER_S
        self._delay_s = min(self._delay_s_max, self._delay_s * self._factor)
        self._timer = self._clock.callLater(delay_s, self._due)
        return delay_s

    def _due(self) -> None:
        self._timer = None
        self._begin()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
