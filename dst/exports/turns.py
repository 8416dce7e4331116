"""
How much one client may do in a turn of the reactor when others want to do something, too.

Whoever asks for everything at once would have everybody else wait until all of it is done.  So where several clients
are busy each has small turns: it goes on when the others had theirs, and waits no longer than these take.  What a
client gets depends on how many others there are, then, and not on how much they ask for.  A client that is alone has
long turns, which cost less.

Who is alone is seen from who takes turns: not who does so after another one, nor for a while from then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from dst.transport.stream import RECEIVE_BYTES, receive_bytes_after

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.transport.stream import Stream

__all__ = ["REQUEST_SHIFT", "SHARED", "SHARED_S", "Turn", "Turns"]

SHARED_S: Final = 0.1
"""
After another client was busy, for so long turns are small: a busy client asks again in less, also when the processor
is not its own.
"""

REQUEST_SHIFT: Final = 13
"""A request counts as one, and as one more for each 8 KiB: to move these takes as long."""


@frozen
class Turn:
    """
    What one client may do.

    @ivar requests: so many may be begun.
    @ivar move_bytes: so much may be received or sent with one system call.
    """

    requests: int
    move_bytes: int


SHARED: Final = Turn(8, 64 * 1024)
"""
Some 50 us, which is what a modest client waits for one that floods.  Two busy clients cost the server as much for
each block with turns of 4, 8 and 512 requests, and of 64 KiB and 256 KiB.
"""


class Turns:
    """What the clients of one server share; a client is any object."""

    def __init__(self, clock: IReactorTime, alone: Turn, shared: Turn = SHARED) -> None:
        """
        @param alone: the turns of a client when no other one is busy.
        @param shared: those of each when there are several.
        """
        self._clock = clock
        self._alone = alone
        self._shared = shared if shared.requests < alone.requests else alone
        self._last: object = None
        self._shared_until = 0.0
        self._much: Stream | None = None

    def take(self, client: object) -> Turn:
        """The turn that C{client} has now."""
        last = self._last
        if client is not last:
            self._last = client
            if last is None:
                return self._alone
            self._shared_until = self._clock.seconds() + SHARED_S
        elif not self._shared_until:
            return self._alone
        elif self._clock.seconds() >= self._shared_until:
            self._shared_until = 0.0
            return self._alone
        return self._shared

    def received(self, stream: Stream, length: int, pieces: int) -> None:
        """
        After C{length} bytes, which brought so many requests, say how much a client receives at once: one client at a
        time, and only while it is alone, as much as L{receive_bytes_after} has it.
        """
        wanted = receive_bytes_after(length, pieces) if stream.move_bytes_max > RECEIVE_BYTES else RECEIVE_BYTES
        if wanted > RECEIVE_BYTES and self._much is not stream:
            if self._much is not None:
                self._much.receive_bytes = RECEIVE_BYTES
            self._much = stream
        stream.receive_bytes = wanted

    def leave(self, client: object, stream: Stream) -> None:
        """It is gone, and is not kept by this."""
        if client is self._last:
            self._last = None
        if stream is self._much:
            self._much = None
