"""
Server-sent events, bytes in, events out.

The format is that of the HTML standard's "Server-sent events": lines C{field: value}, an
empty line ends an event, a line that begins with a colon is a comment.
"""

from __future__ import annotations

from attrs import define, field, frozen

from dst.errors import PeerError

__all__ = ["EVENT_BYTES_MAX", "Event", "EventParser"]

EVENT_BYTES_MAX = 16 * 1024 * 1024
"""One event: a status with as many entries as any tree may have, and reasons for all of them."""


@frozen
class Event:
    """
    @ivar kind: C{"message"} where the sender named none.
    """

    kind: str
    data: bytes


@define(eq=False)
class EventParser:
    """What has arrived of the next event."""

    _line: list[bytes] = field(factory=list)
    _kind: str = ""
    _data: list[bytes] = field(factory=list)
    _bytes: int = 0

    def receive(self, data: bytes) -> list[Event]:
        """
        The events that are complete now.

        @raise PeerError: one is larger than L{EVENT_BYTES_MAX}.
        """
        events = []
        lines = data.split(b"\n")
        for line in lines[:-1]:
            self._line.append(line)
            event = self._take(b"".join(self._line).removesuffix(b"\r"))
            self._line.clear()
            if event is not None:
                events.append(event)
        if lines[-1]:
            self._line.append(lines[-1])
        self._bytes += len(data)
        if events:
            self._bytes = len(lines[-1]) + sum(map(len, self._data))
        elif self._bytes > EVENT_BYTES_MAX:
            raise PeerError(f"the daemon sends an event of more than {EVENT_BYTES_MAX} bytes")
        return events

    def _take(self, line: bytes) -> Event | None:
        if not line:
            event = Event(self._kind or "message", b"\n".join(self._data)) if self._data else None
            self._kind, self._data = "", []
            if event is None:
                self._bytes = 0
            return event
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._kind = value.decode("utf-8", "replace")
        elif name == b"data":
            self._data.append(value)
        return None
