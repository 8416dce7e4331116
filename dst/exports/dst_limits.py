"""
What one DST server allows its clients, and the memory that all of them share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen
from twisted.logger import Logger

from dst.geometry import TRANSFER_BYTES_MAX

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["IMemoryUser", "Limits", "Memory"]

_log = Logger()


@frozen
class Limits:
    """
    What one server allows, and why.

    @ivar connections_max: each costs a descriptor of some thousand.
    @ivar connections_per_address_max: a daemon has one for each node, and sometimes two; of this machine as many as
        there are.
    @ivar requests_max: of one connection; twice what the deepest usual queue has.
    @ivar bytes_max: of one connection's requests: reads being answered and writes being done.  One
        request alone is always let in.
    @ivar memory_bytes_max: the same for all connections together, and what is on its way from or to them.  With
        one transfer above it, and what was received at once from every connection and is not counted, less than
        224 MiB.
    @ivar much_connections: so many connections may receive 1 MiB at once, all others 256 KiB.
    @ivar transfer_bytes_max: the most data of one request.
    @ivar hello_s_max: a connection that has not said hello by then is nobody's.
    @ivar idle_s: a client pings at least three times in this time.
    @ivar unread_s_max: a client that does not read its answers for so long is cut.
    @ivar bytes_per_s_min: a client that takes longer over one message is cut.
    @ivar settle_s_max: how long a hello waits for what an earlier connection left behind.  Below the
        time that clients give a connection attempt, so that they get to know the reason.
    @ivar drain_s_max: how long an orderly stop waits for the devices.
    """

    connections_max: int = 256
    connections_per_address_max: int = 64
    requests_max: int = 256
    bytes_max: int = 32 * 1024 * 1024
    memory_bytes_max: int = 96 * 1024 * 1024
    much_connections: int = 32
    transfer_bytes_max: int = TRANSFER_BYTES_MAX
    hello_s_max: float = 5.0
    idle_s: int = 60
    unread_s_max: float = 60.0
    bytes_per_s_min: int = 1024
    settle_s_max: float = 4.0
    drain_s_max: float = 10.0


class IMemoryUser(Protocol):
    """
    Who takes memory, and waits for it.

    @ivar queued_bytes: what of the taken memory is counted for what it waits to do with more.
    """

    peer: str
    queued_bytes: int

    def memory_freed(self) -> None:
        """There may be some now."""

    def stalled_bytes(self) -> int:
        """What it has taken and its peer has done nothing about since this was last asked."""

    def cut(self) -> None:
        """Give it all back, at once."""


_LOOK_S = 1.0
"""
While somebody waits, how often it is looked at who stalls: long enough for a packet that was lost to be
sent again, short enough that a good client waits three seconds at most for bad ones.
"""


class Memory:
    """
    An account of bytes.  It is exceeded by one transfer at most.

    When it is all taken the others wait, and whoever holds a part of it without moving is cut: that is
    what a client looks like that wants to starve the others.

    @ivar taken: bytes.
    @ivar short: somebody waits.
    """

    def __init__(self, clock: IReactorTime, bytes_max: int) -> None:
        self.taken = 0
        self.bytes_max = bytes_max
        self.short = False
        self._clock = clock
        self._holders: dict[IMemoryUser, None] = {}
        # First come, first served; who only wants to be answered comes before who wants to send much.
        self._readers: dict[IMemoryUser, None] = {}
        self._writers: dict[IMemoryUser, None] = {}
        self._timer: IDelayedCall | None = None
        self._waking = False

    def wait(self, user: IMemoryUser, *, to_send: bool = False) -> None:
        """
        Call its C{memory_freed} when there is some.

        @param to_send: its peer is about to send something large.
        """
        (self._writers if to_send else self._readers)[user] = None
        self.short = True
        if self._timer is None:
            for holder in self._holders:
                holder.stalled_bytes()  # counts from now on
            self._timer = self._clock.callLater(_LOOK_S, self._look)

    def wake(self) -> None:
        """Something was given back: let those go on who wait for it, as far as there is some."""
        if self._waking:
            return  # by one who was just let go on: the loop below sees to the others
        self._waking = True
        try:
            for waiting in (self._readers, self._writers):
                for user in list(waiting):
                    if user in waiting and self.taken - user.queued_bytes < self.bytes_max:
                        del waiting[user]
                        user.memory_freed()
        finally:
            self._waking = False
        self._note()

    def _note(self) -> None:
        self.short = bool(self._readers or self._writers)
        if not self.short and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hold(self, user: IMemoryUser) -> None:
        """It depends on C{user}'s peer when some of what it has taken is given back."""
        self._holders[user] = None

    def release(self, user: IMemoryUser) -> None:
        """It does so no longer."""
        self._holders.pop(user, None)

    def forget(self, user: IMemoryUser) -> None:
        """It is gone."""
        self._readers.pop(user, None)
        self._writers.pop(user, None)
        self._holders.pop(user, None)
        self._note()

    def _look(self) -> None:
        self._timer = self._clock.callLater(_LOOK_S, self._look)
        stalled = {holder: holder.stalled_bytes() for holder in self._holders}
        for holder, count in stalled.items():
            if count:
                _log.info(
                    "{peer} is cut: it holds {bytes} bytes that others wait for, and does nothing",
                    peer=holder.peer,
                    bytes=count,
                )
                holder.cut()
