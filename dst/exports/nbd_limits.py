"""
What NBD clients may take from a server, all together and each.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen

from dst.exports.turns import Turns

__all__ = ["Budget", "NBDLimits", "Requests"]

_MIB = 1024 * 1024


@frozen
class NBDLimits:
    """
    The limits of one server; every one has a reason.

    @ivar connections_max: a connection costs a descriptor and some 100 KiB while it receives.  One that sends nothing
        but heads of requests, and more than it may have begun, costs 2 MiB: as many of them as are received at once.
    @ivar connections_per_address_max: a machine with a dozen disks, of sixteen connections each; of this machine as
        many as there are.
    @ivar requests_max: of one client, unanswered or answered and not read by it: four times what Linux keeps in
        flight.
    @ivar session_bytes_max: data of one client's requests in memory, in either direction, until it has read the
        replies.  One request of the largest size is always allowed, so this bounds what is pipelined.
    @ivar bytes_max: the same for all clients together.
    @ivar requests_of_all_max: of all clients of one device together: a quarter of what a node below takes
        (L{dst.transport.transactions}), which refuses reads that are more.
    @ivar guaranteed_requests: each client may have so many all the same; of all clients that there may be, these are
        another quarter.
    @ivar guaranteed_bytes: each client may have so much all the same: a few whose device hangs, or that do not read,
        cannot slow the others down.  What a usual client has in flight, in small blocks.
    @ivar turn_requests_max: requests of one client that are begun at once when no other client is busy; as many as
        come in one receiving.  Beside others it has smaller turns (L{dst.exports.turns}).
    @ivar turn_bytes_max: likewise received or sent at once; more than kernels take.
    @ivar negotiation_s: the handshake takes some round trips; a client that takes longer is not serious.
    @ivar stall_s: a client that does not read its replies, or stops in the middle of a request, keeps memory from
        others. It may have been suspended, so it is given time.
    @ivar bytes_per_s_min: so does one that takes longer than this over a request, or over its answers, for as long.
    @ivar contended_bytes_per_s_min: the same while somebody waits for memory, of which this one has more than is
        guaranteed: a byte now and then would hold it for hours.
    @ivar drain_s: what has begun may take so long when the server stops; a daemon that stops waits little longer.
    """

    connections_max: int = 1024
    connections_per_address_max: int = 192
    requests_max: int = 512
    session_bytes_max: int = 32 * _MIB
    bytes_max: int = 256 * _MIB
    requests_of_all_max: int = 4096
    guaranteed_requests: int = 4
    guaranteed_bytes: int = _MIB
    turn_requests_max: int = 512
    turn_bytes_max: int = 8 * _MIB
    negotiation_s: float = 30.0
    stall_s: float = 120.0
    bytes_per_s_min: int = 1024
    contended_bytes_per_s_min: int = 64 * 1024
    drain_s: float = 10.0


@define
class Requests:
    """
    Requests that all clients of one device share.  Nobody waits for any: who has none of its own in flight may always
    begin some, and whoever has goes on when they are answered.

    @ivar used: changed by the sessions themselves, on the data path.
    @ivar users: how many clients there are; kept by who makes them.
    """

    most: int
    used: int = 0
    users: int = 0


@define
class Budget:
    """
    Bytes that all clients of a server share, and whose turn it is.

    @ivar used_bytes: changed by the sessions themselves, on the data path.
    """

    bytes_max: int
    turns: Turns
    used_bytes: int = 0
    _waiting: dict[Callable[[], None], int] = field(factory=dict)

    def wait(self, resume: Callable[[], None], count: int) -> None:
        """
        Call C{resume} once, when C{count} bytes may be free; it must not begin anything before it has returned.
        """
        self._waiting.setdefault(resume, count)

    @property
    def short(self) -> bool:
        """Somebody waits."""
        return bool(self._waiting)

    def give_back(self, count: int) -> None:
        """C{count} bytes are free again."""
        self.used_bytes -= count
        assert self.used_bytes >= 0, self.used_bytes
        if self._waiting:
            self._wake()

    def forget(self, resume: Callable[[], None]) -> None:
        """The one who waited is gone."""
        if self._waiting.pop(resume, None) is not None:
            self._wake()

    def _wake(self) -> None:
        """
        Let those go on for whom there is room, first come first served.  The others are left alone: whenever anybody
        gave back a block all of them would look, find no room, and wait again.
        """
        free = self.bytes_max - self.used_bytes
        while self._waiting:
            resume, count = next(iter(self._waiting.items()))
            if count > free and self.used_bytes:
                return
            del self._waiting[resume]
            free -= count
            resume()
