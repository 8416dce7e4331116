"""Server-sent events, however they are cut up."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.admin import sse
from dst.admin.sse import Event, EventParser
from dst.errors import PeerError

STREAM = b"retry: 1000\n\n: still here\n\nid: 1\nevent: status\ndata: {}\n\ndata: a\r\ndata: b\r\n\r\nevent: none\n\n"
EVENTS = [Event("status", b"{}"), Event("message", b"a\nb")]


class EventParserTests(SynchronousTestCase):
    """L{EventParser}"""

    def test_whole(self) -> None:
        """Events come out; comments, fields nobody knows and events with no data do not."""
        self.assertEqual(EVENTS, EventParser().receive(STREAM))

    def test_every_cut(self) -> None:
        """Where the stream is cut does not matter."""
        for cut in range(len(STREAM) + 1):
            parser = EventParser()
            self.assertEqual(EVENTS, parser.receive(STREAM[:cut]) + parser.receive(STREAM[cut:]))

    def test_bytes(self) -> None:
        """Not even if it is cut everywhere."""
        parser = EventParser()
        self.assertEqual(EVENTS, [event for byte in STREAM for event in parser.receive(bytes([byte]))])

    def test_too_large(self) -> None:
        """An event beyond the limit is the peer's fault, whether it is one line or many."""
        self.patch(sse, "EVENT_BYTES_MAX", 100)
        for chunk in (b"data: " + b"x" * 20, b"data: xxxxxxxxxx\n", b"event: x\n"):
            parser = EventParser()
            with self.assertRaises(PeerError):
                for _ in range(100):
                    parser.receive(chunk)

    def test_long_stream(self) -> None:
        """The limit is of one event: comments and events may follow each other for ever."""
        self.patch(sse, "EVENT_BYTES_MAX", 100)
        parser = EventParser()
        for _ in range(100):
            self.assertEqual([], parser.receive(b": still here\n\n"))
            self.assertEqual([Event("message", b"x" * 20)], parser.receive(b"data: " + b"x" * 20 + b"\n\n"))
