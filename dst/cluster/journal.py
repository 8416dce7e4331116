"""
What has happened: the last events of a daemon, each with a number of its own.

Who follows the events names the last number that it has seen and gets what came after it, also over a restart of the
daemon.  So numbers are not reused: the state directory keeps a number that none has reached yet, and each time they
come near it, a higher one.  A restart begins there, which leaves a gap and no doubt.  The events themselves are kept
in memory, and in the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from dst.administration import Event, Severity
from dst.errors import BadMedia, DSTError
from dst.recovery.state_files import IStateFiles

__all__ = ["EVENTS_MAX", "NUMBERS_KEPT", "SENTENCE_CHARS_MAX", "EventListener", "Journal"]

EVENTS_MAX: Final = 10_000
"""Some 5 MB, and the story of a bad night: a storage that fails and comes back is some twenty events."""

NUMBERS_KEPT: Final = 1000
"""Numbers that are taken from the state directory at a time: one small write for so many events."""

SENTENCE_CHARS_MAX: Final = 1000
"""What is longer is no sentence; part of it may come from a peer."""

_FILE: Final = "event-numbers"

_LEVELS: Final = {Severity.INFO: LogLevel.info, Severity.WARNING: LogLevel.warn, Severity.CRITICAL: LogLevel.error}

EventListener: TypeAlias = Callable[[Event], None]

_log = Logger()


class Journal:
    """
    The events of one daemon.

    @ivar last: the number of the last event; 0 before the first.
    """

    def __init__(self, wall_clock_s: Callable[[], float], *, events_max: int = EVENTS_MAX) -> None:
        self.last = 0
        self._wall_clock_s = wall_clock_s
        self._events: deque[Event] = deque(maxlen=events_max)
        self._listeners: list[EventListener] = []
        self._untold: deque[Event] = deque()
        self._telling = False
        self._files: IStateFiles | None = None
        self._kept = 0  # no event has a higher number before a higher one is on stable media
        self._keeping: Deferred[None] | None = None
        self._failed = False

    async def open(self, files: IStateFiles) -> None:
        """
        Go on counting where the daemon's earlier life ended.  What was recorded before this gets its number now.

        A daemon does not stay down because of this: where the number cannot be known, that of the second is taken,
        which is higher, as events are rarer than seconds.
        """
        try:
            self._begin_after(_number(await files.load(_FILE)))
        except DSTError as error:
            _log.warn("where the numbers of events were is not known: {error}", error=error.message)
            self._begin_after(int(self._wall_clock_s()))
        self._files = files
        self._keep_ahead()
        if self._keeping is not None:
            await self._keeping

    def _begin_after(self, number: int) -> None:
        moved = [evolve(event, number=event.number + number) for event in self._events]
        self._events.clear()
        self._events.extend(moved)
        self.last += number
        self._kept = number

    def record(
        self,
        kind: str,
        subject: str,
        sentence: str,
        *,
        severity: Severity = Severity.INFO,
        code: str | None = None,
        cleared: bool = False,
    ) -> Event:
        """
        It has happened, now.  See L{Event} for the words.
        """
        if len(sentence) > SENTENCE_CHARS_MAX:
            sentence = sentence[: SENTENCE_CHARS_MAX - 1] + "\N{HORIZONTAL ELLIPSIS}"
        self.last += 1
        event = Event(self.last, self._wall_clock_s(), kind, severity, subject, sentence, code, cleared)
        self._events.append(event)
        _log.emit(
            _LEVELS[severity],
            "{about}{sentence}{of}",
            about=f"{subject}: " if subject else "",
            sentence=sentence,
            of="" if code is None else f" [{code}{' is over' if cleared else ''}]",
            event_number=event.number,
        )
        self._keep_ahead()
        self._untold.append(event)
        self._tell()
        return event

    def after(self, number: int = 0) -> list[Event]:
        """
        The events after the one of that number, the oldest first; of those that are too long ago nothing is left.

        A number that no event has had yet is from another daemon, or from before its state was lost: then all are
        news.
        """
        if number > self.last:
            number = 0
        missed = self.last - max(number, 0)
        events = list(self._events)
        return events[max(0, len(events) - missed) :]

    def listen(self, listener: EventListener) -> Callable[[], None]:
        """
        Call C{listener} with each event from now on, in order.  It must not block, and its failure harms nobody else.

        @return: a callable that ends it.
        """
        entry: EventListener = lambda event: listener(event)  # noqa: E731 - each call gets an identity of its own
        self._listeners.append(entry)

        def stop() -> None:
            if entry in self._listeners:
                self._listeners.remove(entry)

        return stop

    def _tell(self) -> None:
        if self._telling:
            return  # a listener has recorded something: everybody hears of it after what there is to hear now
        self._telling = True
        try:
            while self._untold:
                event = self._untold.popleft()
                for listener in list(self._listeners):
                    if listener in self._listeners:
                        try:
                            listener(event)
                        except Exception:
                            _log.failure("a listener failed with event {number}", number=event.number)
        finally:
            self._telling = False

    def _keep_ahead(self) -> None:
        if self._files is None or self._keeping is not None or self._kept - self.last > NUMBERS_KEPT // 2:
            return
        wanted = self.last + NUMBERS_KEPT
        keeping: Deferred[None] = Deferred()
        self._keeping = keeping

        def kept(result: object) -> None:
            self._keeping = None
            if not isinstance(result, Failure):
                self._kept = wanted
            elif not self._failed:
                # It is tried again with the next event.
                _log.failure("the numbers of events cannot be kept; a restart would use some of them again", result)
            self._failed = isinstance(result, Failure)
            keeping.callback(None)

        self._files.store(_FILE, b"%d\n" % wanted).addBoth(kept)


def _number(data: bytes | None) -> int:
    if data is None:
        return 0
    if not data.strip().isdigit() or len(data) > 20:
        raise BadMedia(f"the file {_FILE} of the state directory is not what a daemon wrote")
    return int(data)
