"""A watch over devices of a test, and what it has told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve
from twisted.internet.task import Clock

from dst.administration import Event
from dst.cluster.health_watch import HealthWatch
from dst.cluster.journal import Journal
from dst.health import DaemonFacts
from dst.interfaces import INode

__all__ = ["Watched"]

EPOCH_S = 1_800_000_000.0


class Watched:
    """
    @ivar devices: what is watched.
    @ivar facts: what is known of the daemon.
    @ivar jumped_s: by how much the calendar is ahead of the clock.
    """

    def __init__(self, clock: Clock, devices: Sequence[INode] = ()) -> None:
        self.clock = clock
        self.devices = list(devices)
        self.facts = DaemonFacts()
        self.jumped_s = 0.0
        self.late_s = 0.0
        self.journal = Journal(self.wall_clock_s)
        self.watch = HealthWatch(
            clock,
            self.journal,
            lambda: self.devices,
            lambda: evolve(self.facts, now=self.wall_clock_s()),
            lambda: self.clock.seconds() + self.late_s,
            self.wall_clock_s,
        )
        self.watch.start()

    def wall_clock_s(self) -> float:
        return EPOCH_S + self.clock.seconds() + self.late_s + self.jumped_s

    def codes(self) -> dict[str, str]:
        """What is not as it should be now: subjects by code."""
        return {finding.code: finding.subject for finding in self.watch.findings()}

    def events(self, kind: str, after: int = 0) -> list[Event]:
        """What was told of that kind."""
        return [event for event in self.journal.after(after) if event.kind == kind]

    def told(self, code: str) -> list[bool]:
        """Each time that C{code} was raised (true) or cleared."""
        return [not event.cleared for event in self.events("health") if event.code == code]

    def until(self, condition: Callable[[], bool], advance: Callable[[float], None], seconds: float = 120.0) -> bool:
        """Whether C{condition} came true in time."""
        while not condition() and seconds > 0:
            advance(0.25)
            seconds -= 0.25
        return condition()
