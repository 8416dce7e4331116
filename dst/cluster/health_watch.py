"""
Looking at what a daemon runs: what changes becomes an event, what is wrong a finding.

Devices tell when something about them has changed, and are looked at soon after.  Besides, everybody is looked at in
turn, because some things show only in time: a resync that does not move, a member that comes and goes.  A look is the
making of a status tree; only so many are made at once, so that a daemon of a thousand storages answers its clients
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field
from twisted.logger import Logger

from dst.administration import HealthFinding, Severity
from dst.cluster.journal import Journal
from dst.cluster.state_changes import changes_between
from dst.explaining import ResyncRecord
from dst.health import Change, DaemonFacts, Steady, daemon_findings, device_findings
from dst.interfaces import IAlgorithm, INode, StopObserving
from dst.status import StatusTree
from dst.words import duration_in_words, size_in_words

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["EVENTS_PER_MINUTE", "FACTS_S", "LOOKS_MAX", "PAUSE_S", "ROUND_S", "SOON_S", "TICK_S", "HealthWatch"]

TICK_S: Final = 1.0
"""How often those are looked at whose state time alone may change."""

SOON_S: Final = 0.2
"""After a change: what changes together is looked at together."""

ROUND_S: Final = 10.0
"""Everybody is looked at once in so long, if there are not too many."""

LOOKS_MAX: Final = 64
"""In one turn of the reactor: a look takes some hundred microseconds, clients wait for so long."""

PAUSE_S: Final = 0.02
"""Before the next ones, if there are more: clients have the daemon for longer than this does."""

FACTS_S: Final = 10.0
"""How often the daemon itself is looked at: descriptors, room on disk, certificates."""

LATE_REMEMBERED_S: Final = 60.0
"""The worst delay of a timer is told for so long."""

EVENTS_PER_MINUTE: Final = 30
"""About one device; what comes above that is counted and told in one sentence: it says that it comes and goes."""

_MINUTE_S = 60.0

_log = Logger()


@define(eq=False)
class _Watched:
    """
    @ivar tree: as it was at the last look; C{None} before the first.
    @ivar resync: the last one that had ended by then.
    @ivar minute: when the events of which C{events} were counted began.
    """

    device: INode
    stop: StopObserving
    tree: StatusTree | None = None
    resync: ResyncRecord | None = None
    minute: float = 0.0
    events: int = 0


@define(eq=False)
class _Lateness:
    """
    By how much timers were late.

    @ivar worst_s: of the last minute or two.
    @ivar total_s: ever.
    """

    worst_s: float = 0.0
    total_s: float = 0.0
    _before_s: float = 0.0
    _since: float = 0.0
    _now_s: float = 0.0

    def note(self, late_s: float, now: float) -> None:
        """One timer."""
        self.total_s += late_s
        if now - self._since >= LATE_REMEMBERED_S:
            self._since, self._before_s, self._now_s = now, self._now_s, 0.0
        self._now_s = max(self._now_s, late_s)
        self.worst_s = max(self._now_s, self._before_s)


@define(eq=False)
class HealthWatch:
    """
    Watches devices and the daemon from L{start} until L{stop}.

    @ivar lateness: of its own timers: how busy the daemon is.
    """

    _clock: IReactorTime
    _journal: Journal
    _devices: Callable[[], Iterable[INode]]
    _facts: Callable[[], DaemonFacts]
    _now: Callable[[], float]
    _wall_clock_s: Callable[[], float]
    lateness: _Lateness = field(init=False, factory=_Lateness)
    _steady: Steady = field(init=False, factory=Steady)
    _watched: dict[str, _Watched] = field(init=False, factory=dict)
    _urgent: dict[str, None] = field(init=False, factory=dict)
    _turn: list[str] = field(init=False, factory=list)
    _ticking: IDelayedCall | None = field(init=False, default=None)
    _looking: IDelayedCall | None = field(init=False, default=None)
    _expected: float = field(init=False, default=0.0)
    _facts_at: float = field(init=False, default=float("-inf"))
    _drift_s: float = field(init=False, default=0.0)

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._ticking is not None

    def start(self) -> None:
        """Begin."""
        assert not self.running
        self._drift_s = self._wall_clock_s() - self._now()
        self._tick_later()
        self._look_soon(0.0)

    def stop(self) -> None:
        """Look no more; nothing is left."""
        for timer in (self._ticking, self._looking):
            if timer is not None and timer.active():
                timer.cancel()
        self._ticking = self._looking = None
        while self._watched:
            self._watched.popitem()[1].stop()

    def findings(self) -> list[HealthFinding]:
        """What is not as it should be, the gravest first."""
        return self._steady.findings()

    def look_at_facts(self) -> None:
        """Something about the daemon itself has changed."""
        self._facts_at = float("-inf")
        self._look_soon(SOON_S)

    # -- time

    def _tick_later(self) -> None:
        self._expected = self._now() + TICK_S
        self._ticking = self._clock.callLater(TICK_S, self._ticked)

    def _ticked(self) -> None:
        now = self._now()
        self.lateness.note(max(0.0, now - self._expected), now)
        self._tick_later()
        for name in self._watched:
            if self._steady.unsettled(name):
                self._urgent[name] = None
        self._take_turns()
        self._look()

    def _look_soon(self, delay_s: float) -> None:
        if self.running and (self._looking is None or not self._looking.active()):
            self._looking = self._clock.callLater(delay_s, self._look)

    def _take_turns(self) -> None:
        """Some of those who have not changed, too."""
        if not self._turn:
            self._find_devices()
            self._turn = list(self._watched)
        share = -(-len(self._watched) * TICK_S // ROUND_S)
        for _ in range(min(len(self._turn), LOOKS_MAX, max(1, int(share)))):
            self._urgent.setdefault(self._turn.pop())

    # -- looking

    def _look(self) -> None:
        if not self._watched:
            self._find_devices()
        for _ in range(min(LOOKS_MAX, len(self._urgent))):
            name = next(iter(self._urgent))
            del self._urgent[name]
            watched = self._watched.get(name)
            if watched is not None:
                self._look_at(name, watched)
        if self._now() - self._facts_at >= FACTS_S or self._steady.unsettled(""):
            self._look_at_daemon()
        if self._urgent:
            self._look_soon(PAUSE_S)

    def _find_devices(self) -> None:
        devices = {device.name: device for device in self._devices()}
        for name, watched in list(self._watched.items()):
            if devices.get(name) is not watched.device:
                watched.stop()
                del self._watched[name]
                if name not in devices:
                    self._tell(name, self._steady.forget(name))
        for name, device in devices.items():
            if name not in self._watched:
                self._watched[name] = _Watched(device, device.observe(self._changed))
                self._urgent[name] = None

    def _changed(self, device: INode) -> None:
        self._urgent[device.name] = None
        self._look_soon(SOON_S)

    def _look_at(self, name: str, watched: _Watched) -> None:
        try:
            tree = watched.device.status()
            before, watched.tree = watched.tree, tree
            if before is not None:
                for change in changes_between(before, tree):
                    self._record(watched, change.kind, change.subject, change.sentence)
            self._look_at_resyncs(watched, first=before is None)
            self._tell(name, self._steady.take(name, device_findings(tree), self._now(), self._wall_clock_s()))
        except Exception:
            # A plugin's mistake, or ours; the others are looked at all the same.
            _log.failure("the state of {name} could not be looked at", name=name)

    def _look_at_resyncs(self, watched: _Watched, *, first: bool) -> None:
        if not IAlgorithm.providedBy(watched.device):
            return
        records = list(IAlgorithm(watched.device).resyncs())
        if not records or records[-1] == watched.resync:
            return
        seen = next((at for at, record in enumerate(records) if record == watched.resync), -1)
        watched.resync = records[-1]
        for record in [] if first else records[seen + 1 :]:
            self._record(
                watched, "resync", f"{watched.device.name}/{record.member}", _resync_in_words(watched.device, record)
            )

    def _look_at_daemon(self) -> None:
        now = self._facts_at = self._now()
        wall_s = self._wall_clock_s()
        drift_s = wall_s - now
        jump_s, self._drift_s = drift_s - self._drift_s, drift_s
        try:
            facts = self._facts()
        except Exception:
            _log.failure("the daemon could not look at itself")
            facts = DaemonFacts()
        facts = evolve(facts, now=wall_s, late_s=self.lateness.worst_s, clock_jump_s=jump_s)
        self._tell("", self._steady.take("", daemon_findings(facts), now, wall_s))

    # -- telling

    def _tell(self, name: str, changes: Iterable[Change]) -> None:
        for change in changes:
            finding = change.finding
            self._journal.record(
                "health",
                finding.subject,
                finding.sentence if change.raised else f"it is over that {finding.sentence}",
                severity=finding.severity if change.raised else Severity.INFO,
                code=finding.code,
                cleared=not change.raised,
            )

    def _record(self, watched: _Watched, kind: str, subject: str, sentence: str) -> None:
        now = self._now()
        if now - watched.minute >= _MINUTE_S:
            untold = watched.events - EVENTS_PER_MINUTE
            watched.minute, watched.events = now, 0
            if untold > 0:
                self._journal.record("state", watched.device.name, f"{untold} more changes were not told one by one")
        watched.events += 1
        if watched.events <= EVENTS_PER_MINUTE:
            self._journal.record(kind, subject, sentence)


def _resync_in_words(device: INode, record: ResyncRecord) -> str:
    sent = f"{size_in_words(record.bytes_copied)} were sent in {duration_in_words(max(1.0, record.seconds))}"
    if record.outcome == "in-sync":
        return f"the {record.kind} resync of {record.member} of {device.name} has ended: {sent}"
    return f"the {record.kind} resync of {record.member} of {device.name} did not end: {record.outcome}; {sent}"
