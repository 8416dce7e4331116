"""
What NBD clients may take from a server, all together and each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field, frozen

__all__ = ["Budget", "NBDLimits"]

_MIB = 1024 * 1024


@frozen
class NBDLimits:
    """
    The limits of one server; every one has a reason.

    @ivar connections_max: a connection costs a descriptor and some 100 KiB while it receives.
    @ivar connections_per_address_max: a machine with a dozen disks, of sixteen connections each; of this machine as
        many as there are.
    @ivar requests_max: of one client, unanswered or answered and not read by it: four times what Linux keeps in
        flight.
    @ivar session_bytes_max: data of one client's requests in memory, in either direction, until it has read the
        replies.  One request of the largest size is always allowed, so this bounds what is pipelined.
    @ivar bytes_max: the same for all clients together.  When it is reached a client is still served, with one small
        request at a time, so that a few that stall cannot stop the others.
    @ivar turn_requests_max: requests of one client that are begun before others get their turn.
    @ivar negotiation_s: the handshake takes some round trips; a client that takes longer is not serious.
    @ivar stall_s: a client that does not read its replies, or stops in the middle of a request, keeps memory from
        others. It may have been suspended, so it is given time.
    @ivar drain_s: what has begun may take so long when the server stops; a daemon that stops waits little longer.
    """

    connections_max: int = 1024
    connections_per_address_max: int = 192
    requests_max: int = 512
    session_bytes_max: int = 32 * _MIB
    bytes_max: int = 256 * _MIB
    turn_requests_max: int = 512
    negotiation_s: float = 30.0
    stall_s: float = 120.0
    drain_s: float = 10.0


@define
class Budget:
    """
    Bytes that all clients of a server share.

    @ivar used_bytes: changed by the sessions themselves, on the data path.
    """

    bytes_max: int
    used_bytes: int = 0
    _waiting: deque[Callable[[], None]] = field(factory=deque)

    def wait(self, resume: Callable[[], None]) -> None:
        """Call C{resume} once, when bytes were given back; it must not begin anything before it has returned."""
        if resume not in self._waiting:
            self._waiting.append(resume)

    def give_back(self, count: int) -> None:
        """C{count} bytes are free again."""
        self.used_bytes -= count
        assert self.used_bytes >= 0, self.used_bytes
        while self._waiting:
            self._waiting.popleft()()

    def forget(self, resume: Callable[[], None]) -> None:
        """The one who waited is gone."""
        if resume in self._waiting:
            self._waiting.remove(resume)
