"""What happens, as it does, and from a number on: C{GET /v1/events}."""

from __future__ import annotations

import json
from typing import Any

from dst.admin.feed import EVENTS_AT_ONCE, POLL_S, STALL_S_MAX
from dst.admin.sse import EventParser
from dst.errors import Unavailable
from test.admin.test_rest import HOST, Browser
from test.admin.test_routes import AskingCase

ACCEPT_JSON = HOST + b"Accept: application/json\r\n"


class Reader(Browser):
    """Somebody who reads events."""

    def __init__(self, site: Any, headers: bytes = b"", query: bytes = b"") -> None:
        super().__init__(site)
        self._parser = EventParser()
        # HTTP/1.0 has no chunks.
        answer = self.send(b"GET /v1/events" + query + b" HTTP/1.0\r\n" + HOST + headers + b"\r\n")
        self.head, _, self._first = answer.partition(b"\r\n\r\n")
        self.transport.clear()

    def raw(self) -> bytes:
        """The bytes that have come since."""
        data, self._first = self._first + self.transport.value(), b""
        self.transport.clear()
        return data

    def heard(self) -> list[tuple[str, Any]]:
        """What has come since, without the status."""
        events = self._parser.receive(self.raw())
        return [(event.kind, json.loads(event.data)) for event in events if event.kind != "status"]

    def numbers(self) -> list[int]:
        """The numbers of the events that have come since, which are all that has."""
        heard = self.heard()
        assert {kind for kind, _ in heard} <= {"event"}, heard
        return [value["number"] for _, value in heard]


class StreamTests(AskingCase):
    """Events as they happen."""

    def happen(self, count: int) -> None:
        """So many events."""
        for _ in range(count):
            self.fake.happen("it happened")

    def test_from_now_on(self) -> None:
        """Who says nothing else hears of what happens from now on, each thing once."""
        self.happen(3)
        reader = Reader(self.site)
        self.assertIn(b"text/event-stream", reader.head)
        self.assertEqual([], reader.numbers())
        self.happen(2)
        self.clock.advance(POLL_S)
        self.assertEqual([4, 5], reader.numbers())
        self.clock.pump([POLL_S] * 5)
        self.assertEqual([], reader.numbers())

    def test_format(self) -> None:
        """An event has its number as the id, and a status has none: a reader resumes by the last one it was given."""
        reader = Reader(self.site)
        self.assertNotIn(b"id:", reader.raw())
        self.fake.happen("b is away", severity=self.fake.findings[0].severity, code="MEMBER_AWAY")
        self.clock.advance(POLL_S)
        data = reader.raw()
        self.assertTrue(data.startswith(b"id: 1\nevent: event\ndata: {"), data)
        event = json.loads(data.partition(b"data: ")[2])
        self.assertEqual(("warning", "MEMBER_AWAY", False), (event["severity"], event["code"], event["cleared"]))

    def test_resume(self) -> None:
        """Who names the last number that it has seen is told what came after it, at once and in order."""
        self.happen(5)
        for reader in (Reader(self.site, b"Last-Event-ID: 2\r\n"), Reader(self.site, query=b"?after=2")):
            self.assertEqual([3, 4, 5], reader.numbers())
        both = Reader(self.site, b"Last-Event-ID: 4\r\n", b"?after=1")
        self.assertEqual([5], both.numbers(), "what was seen is newer than what stood in the address at first")
        self.assertEqual([1, 2, 3, 4, 5], Reader(self.site, query=b"?after=0").numbers())
        self.assertEqual([], Reader(self.site, query=b"?after=5").numbers())

    def test_resume_among_others(self) -> None:
        """So it is where others have been listening, and nobody hears twice."""
        first = Reader(self.site)
        self.happen(3)
        second = Reader(self.site, query=b"?after=1")
        self.assertEqual([2, 3], second.numbers())
        self.happen(1)
        self.clock.advance(POLL_S)
        self.assertEqual([1, 2, 3, 4], first.numbers())
        self.assertEqual([4], second.numbers())

    def test_gap(self) -> None:
        """What is not known any more is told of as a gap, before what is."""
        self.happen(10)
        del self.fake.happened[:6]
        heard = Reader(self.site, query=b"?after=2").heard()
        self.assertEqual(("gap", {"version": 1, "after": 2, "next": 7}), heard[0])
        self.assertEqual([7, 8, 9, 10], [value["number"] for _, value in heard[1:]])

    def test_of_another_life(self) -> None:
        """A number that no event has had yet is from another daemon: everything is news, after a gap."""
        self.happen(2)
        heard = Reader(self.site, b"Last-Event-ID: 700\r\n").heard()
        self.assertEqual(["gap", "event", "event"], [kind for kind, _ in heard])

    def test_bad_number(self) -> None:
        """What is no number is refused."""
        for said in (b"x", b"-1", b"1.5", b"9" * 30):
            headers = HOST + b"Last-Event-ID: " + said + b"\r\n"
            self.refused(400, "invalid-request", b"GET", "/v1/events", headers)

    def test_slow_reader(self) -> None:
        """One who is slow misses nothing: it is told when it is ready, and holds up nobody."""
        slow, quick = Reader(self.site), Reader(self.site)
        slow.heard()
        slow.transport.producer.pauseProducing()
        for _ in range(3):
            self.happen(2)
            self.clock.advance(POLL_S)
        self.assertEqual([], slow.numbers())
        self.assertEqual([1, 2, 3, 4, 5, 6], quick.numbers())
        slow.transport.producer.resumeProducing()
        self.assertEqual([1, 2, 3, 4, 5, 6], slow.numbers())

    def test_very_many(self) -> None:
        """Of very many only as much is written as a reader takes; it gets all of them in the end."""
        self.happen(3 * EVENTS_AT_ONCE + 5)
        reader = Reader(self.site)
        (listener,) = self.site.resource.feed._listeners
        request, written = listener.request, []

        def write_and_pause(data: bytes) -> None:
            written.append(data)
            type(request).write(request, data)
            listener.pauseProducing()

        request.write = write_and_pause
        listener.position = 0
        listener.resumeProducing()
        self.assertEqual(EVENTS_AT_ONCE, len(reader.numbers()))
        for _ in range(3):
            listener.resumeProducing()
        self.assertEqual(list(range(EVENTS_AT_ONCE + 1, 3 * EVENTS_AT_ONCE + 6)), reader.numbers())
        self.assertEqual(4, len(written))

    def test_never_reads(self) -> None:
        """One who reads nothing at all is let go."""
        reader = Reader(self.site)
        reader.transport.producer.pauseProducing()
        for _ in range(int(STALL_S_MAX / POLL_S) + 1):
            self.happen(1)
            self.clock.advance(POLL_S)
        self.assertTrue(reader.aborted)

    def test_trouble(self) -> None:
        """While events cannot be had none is lost."""
        reader = Reader(self.site)
        reader.heard()
        self.fake.failing = Unavailable("the owner is away")
        self.clock.advance(POLL_S)
        self.assertEqual(["trouble"], [kind for kind, _ in reader.heard()])
        self.happen(2)
        self.clock.advance(POLL_S)
        self.fake.failing = None
        self.clock.advance(POLL_S)
        self.assertEqual([1, 2], reader.numbers())

    def test_everybody_goes(self) -> None:
        """Nothing is left when the last reader is gone."""
        readers = [Reader(self.site), Reader(self.site, query=b"?after=0")]
        for reader in readers:
            reader.gone()
        self.assertEqual([], self.clock.getDelayedCalls())


class ListTests(AskingCase):
    """Events as a list."""

    def test_list(self) -> None:
        """Who reads JSON gets what is known, after a number if one is named."""
        for _ in range(5):
            self.fake.happen("it happened")
        answer = self.get("/v1/events", ACCEPT_JSON)
        self.assertEqual([1, 2, 3, 4, 5], [event["number"] for event in answer["events"]])
        self.assertEqual((False, False), (answer["gap"], answer["more"]))
        answer = self.get("/v1/events?after=3", ACCEPT_JSON)
        self.assertEqual([4, 5], [event["number"] for event in answer["events"]])

    def test_pages(self) -> None:
        """There may be more than one answer holds, and it says so."""
        for _ in range(5):
            self.fake.happen("it happened")
        answer = self.get("/v1/events?limit=2", HOST + b"Accept: */*\r\n")
        self.assertEqual(([1, 2], True), ([event["number"] for event in answer["events"]], answer["more"]))
        answer = self.get("/v1/events?after=4&limit=2", ACCEPT_JSON)
        self.assertEqual(([5], False), ([event["number"] for event in answer["events"]], answer["more"]))

    def test_gap(self) -> None:
        """It says so, too, where something is not known any more."""
        for _ in range(5):
            self.fake.happen("it happened")
        del self.fake.happened[:3]
        self.assertTrue(self.get("/v1/events?after=1", ACCEPT_JSON)["gap"])
        self.assertFalse(self.get("/v1/events?after=3", ACCEPT_JSON)["gap"])
