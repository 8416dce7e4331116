"""
Asking for what comes next instead of sleeping until it comes, while it comes at once.

To wake a thread takes the kernel 20 us and more where a processor sleeps, and a block that is asked for alone pays
that twice.  So a reactor whose events come within 200 us, one after the other, asks for the next one again and again
for so long, and sleeps only when there was none; between two questions it gives way to whoever wants the
processor.  One whose events come more seldom sleeps as ever, so an idle daemon costs nothing.

C{DST_EAGER=0} in the environment has it always sleep: that saves processor time where clients ask for one block at a
time, and costs them half of their speed.

It sits between Twisted's epoll reactor and its epoll object, where nobody else has to know of it.
"""

from __future__ import annotations

import os
import select
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EAGER_S", "EagerPoll", "poll_eagerly"]

EAGER_S: Final = 0.0002
"""
How long it is asked.  A client of depth 1 asks again 30 to 60 us after it was answered; another daemon answers in
some 100.
"""

CREDIT_MAX: Final = 16
EAGER_CREDIT: Final = 8
LATE_COST: Final = 2
"""
An event that comes in time is worth one, one that does not costs two: so it is asked as long as two of
three come in time, and a reactor that becomes idle stops after a handful of questions.
"""


class EagerPoll:
    """An epoll object that asks before it sleeps."""

    def __init__(
        self,
        epoll: Any,
        eager_s: float = EAGER_S,
        now: Callable[[], float] = perf_counter,
        give_way: Callable[[], None] | None = None,
    ) -> None:
        """
        @param epoll: does all the work.
        @param now: seconds, from anywhere.
        @param give_way: let others have the processor; C{None}: as the system does.
        """
        self._epoll = epoll
        self._poll: Callable[[float | None, int], list[tuple[int, int]]] = epoll.poll
        self._eager_s = eager_s
        self._now = now
        self._give_way = os.sched_yield if give_way is None else give_way
        self._credit = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """As C{select.epoll.poll}."""
        poll = self._poll
        events = poll(0, maxevents)
        if events or timeout == 0:
            return events
        if timeout is not None and 0 < timeout < self._eager_s:
            return poll(timeout, maxevents)  # a timer is about to end, which says nothing
        now, give_way = self._now, self._give_way
        end = now() + self._eager_s
        if self._credit >= EAGER_CREDIT:
            while now() < end:
                give_way()
                events = poll(0, maxevents)
                if events:
                    self._credit = min(CREDIT_MAX, self._credit + 1)
                    return events
        events = poll(timeout, maxevents)
        if now() < end:
            self._credit = min(CREDIT_MAX, self._credit + 1)
        else:
            self._credit = max(0, self._credit - LATE_COST)
        return events


def poll_eagerly(reactor: object) -> bool:
    """
    Have a reactor ask before it sleeps; for a whole process, so only a program does it, when it starts.

    @return: whether it does now: this reactor is Twisted's with epoll, made as those are that we know, and the
        environment has nothing against it.
    """
    if os.environ.get("DST_EAGER", "") == "0":
        return False
    epoll = getattr(reactor, "_poller", None)
    if not hasattr(select, "epoll") or not isinstance(epoll, select.epoll) or not hasattr(os, "sched_yield"):
        return False
    reactor._poller = EagerPoll(epoll)  # type: ignore[attr-defined]
    return True
