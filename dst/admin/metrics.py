"""
How the cluster is, as numbers in Prometheus' text format.

What is there to be counted is asked of the admin, at most once in L{FRESH_S}: whoever else asks meanwhile gets the
same.  Names and units are part of the interface (C{docs/metrics.rst}): none changes its meaning.

The number of series is bounded.  Where there are more storages, members or exports than the limits say, those that
come first by name are told, and C{dst_metrics_left_out} says how many were not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred

from dst import __version__
from dst.administration import (
    DaemonMeasures,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationState,
    OperationStatus,
    SessionStatus,
    Severity,
    Traffic,
)
from dst.interfaces import IClusterAdmin, IMeasuresItself
from dst.status import Health, LinkState, MemberState, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = [
    "CONTENT_TYPE",
    "EXPORTS_MAX",
    "FINDINGS_MAX",
    "FRESH_S",
    "MEMBERS_MAX",
    "STORAGES_MAX",
    "Metrics",
    "Snapshot",
    "families",
    "render",
]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

FRESH_S: Final = 1.0
"""What is no older is given to whoever asks next: several who ask at once cost as much as one."""

STORAGES_MAX: Final = 500
"""Each is some ten series; and some of each member."""

MEMBERS_MAX: Final = 2000
"""Over all storages; each is some eight series."""

EXPORTS_MAX: Final = 500
"""Each is some fifteen series."""

FINDINGS_MAX: Final = 500
"""More is not read by anybody; their number is told."""

_HEALTH: Final = {Health.HEALTHY: 0, Health.DEGRADED: 1, Health.FROZEN: 2, Health.FAILED: 3}

_T = TypeVar("_T")


@frozen
class Snapshot:
    """
    What is told, all of the same moment.

    @ivar measures: C{None} where they are another process's.
    """

    trees: Sequence[StatusTree] = ()
    exports: Sequence[ExportStatus] = ()
    listeners: Sequence[ListenerStatus] = ()
    sessions: Sequence[SessionStatus] = ()
    operations: Sequence[OperationStatus] = ()
    findings: Sequence[HealthFinding] = ()
    measures: DaemonMeasures | None = None


class Metrics:
    """The numbers of one daemon, for everybody who asks."""

    def __init__(self, admin: IClusterAdmin, clock: IReactorTime) -> None:
        self._admin = admin
        self._clock = clock
        self._text = b""
        self._made: float | None = None
        self._making: list[Deferred[bytes]] | None = None

    def text(self) -> Deferred[bytes]:
        """What Prometheus reads."""
        answer: Deferred[bytes] = Deferred()
        if self._made is not None and 0 <= self._clock.seconds() - self._made < FRESH_S:
            answer.callback(self._text)
            return answer
        if self._making is not None:
            self._making.append(answer)
            return answer
        self._making = [answer]

        def made(result: object) -> None:
            waiting, self._making = self._making or [], None
            if isinstance(result, bytes):
                self._text, self._made = result, self._clock.seconds()
            for each in waiting:
                each.callback(result)  # type: ignore[arg-type]

        render(self._admin).addBoth(made)
        return answer


def render(admin: IClusterAdmin) -> Deferred[bytes]:
    """What Prometheus reads, made now."""
    return Deferred.fromCoroutine(_render(admin))


async def _render(admin: IClusterAdmin) -> bytes:
    # One after the other: in the daemon none of them waits.
    snapshot = Snapshot(
        trees=await admin.status(),
        exports=await admin.exports(),
        listeners=await admin.listeners(),
        sessions=await admin.sessions(),
        operations=await admin.operations(),
        findings=await admin.health(),
        measures=IMeasuresItself(admin).measures() if IMeasuresItself.providedBy(admin) else None,
    )
    return text_of(snapshot)


def text_of(snapshot: Snapshot) -> bytes:
    """C{snapshot} in Prometheus' format, with what the process uses of its machine."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Snapped(snapshot))
    return generate_latest(registry)


class _Snapped(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        return families(self._snapshot)

    def describe(self) -> Iterable[Metric]:
        return ()


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every metric there is, with its help and its unit in its name."""
    left_out = _LeftOut()
    storages = left_out.bounded("storages", [t for t in snapshot.trees if _is_storage(t)], STORAGES_MAX)
    alone = left_out.bounded("nodes", [t for t in snapshot.trees if not _is_storage(t)], STORAGES_MAX)
    members = [(storage, member) for storage in storages for member in storage.children]
    exports = left_out.bounded("exports", snapshot.exports, EXPORTS_MAX)
    findings = left_out.bounded("findings", snapshot.findings, FINDINGS_MAX)
    yield from _storages(storages)
    yield from _members(left_out.bounded("members", members, MEMBERS_MAX))
    yield from _nodes(alone)
    yield from _exports(exports)
    yield from _sessions(snapshot.sessions)
    yield from _listeners(snapshot.listeners)
    yield from _findings(findings, snapshot.findings)
    yield from _operations(snapshot.operations)
    yield from _daemon(snapshot.measures)
    yield left_out.family()


class _LeftOut:
    def __init__(self) -> None:
        self._family = _gauge("dst_metrics_left_out", "What is not told because there is too much of it.", ["what"])

    def bounded(self, what: str, things: Sequence[_T], most: int) -> Sequence[_T]:
        self._family.add_metric([what], max(0, len(things) - most))
        return things[:most]

    def family(self) -> Metric:
        return self._family


def _gauge(name: str, help_text: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, labels=list(labels))


def _counter(name: str, help_text: str, labels: Sequence[str] = ()) -> CounterMetricFamily:
    return CounterMetricFamily(name, help_text, labels=list(labels))


def _is_storage(tree: StatusTree) -> bool:
    return "role" in tree.detail or any(child.state in _MEMBER_STATES for child in tree.children)


_MEMBER_STATES = frozenset(state.value for state in MemberState)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# -- what there is


def _storages(trees: Sequence[StatusTree]) -> Iterator[Metric]:
    label = ["storage"]
    health = _gauge(
        "dst_storage_health", "How it is for its users: 0 healthy, 1 degraded, 2 frozen, 3 failed.", label
    )
    served = _gauge("dst_storage_served", "1: this daemon serves it; 0: it is starting, or stands by.", label)
    size = _gauge("dst_storage_size_bytes", "Its size; 0 while unknown.", label)
    redundancy = _gauge("dst_storage_redundancy", "How many members can still be lost without losing data.", label)
    dirty = _gauge("dst_storage_dirty_bytes", "What some member has not the same as the storage.", label)
    votes = _gauge("dst_storage_votes", "How many votes there are.", label)
    granted = _gauge("dst_storage_votes_granted", "How many of them this daemon has.", label)
    quorum = _gauge("dst_storage_votes_needed", "How many of them are needed to serve.", label)
    hot = _gauge("dst_storage_hot_regions", "Regions that are written to, or not yet proved stable.", label)
    undecided = _gauge("dst_storage_scrub_undecided_bytes", "Where copies differ and none is more credible.", label)
    lost = _gauge("dst_storage_scrub_lost_bytes", "What no copy could read.", label)
    for tree in trees:
        name, detail = [tree.name], tree.detail
        health.add_metric(name, _HEALTH[tree.health])
        role = detail.get("role")
        ready = tree.state == LinkState.READY.value
        served.add_metric(name, float(ready and role in (None, "owner")))
        size.add_metric(name, tree.size)
        redundancy.add_metric(name, tree.redundancy)
        dirty.add_metric(name, tree.dirty_bytes)
        votes_known = detail.get("votes")
        if isinstance(votes_known, list):
            votes.add_metric(name, len(votes_known))
            granted.add_metric(name, sum(bool(v.get("granted")) for v in votes_known if isinstance(v, dict)))
        for family, key in (
            (quorum, "quorum"),
            (hot, "hot_regions"),
        ):
            value = _number(detail.get(key))
            if value is not None:
                family.add_metric(name, value)
        undecided.add_metric(name, _number(detail.get("undecided_bytes")) or 0.0)
        lost.add_metric(name, _number(detail.get("lost_bytes")) or 0.0)
    yield from (health, served, size, redundancy, dirty, votes, granted, quorum, hot, undecided, lost)


def _members(members: Sequence[tuple[StatusTree, StatusTree]]) -> Iterator[Metric]:
    label = ["storage", "node"]
    in_sync = _gauge("dst_member_in_sync", "1: it has everything that the storage has.", label)
    state = _gauge("dst_member_state", "1 for the state that it is in.", [*label, "state"])
    dirty = _gauge("dst_member_dirty_bytes", "What it has not the same as the storage.", label)
    total = _gauge("dst_member_resync_bytes", "What its resync had to look at when it began.", label)
    left = _gauge("dst_member_resync_left_bytes", "How much of that is left.", label)
    sent = _gauge("dst_member_resync_sent_bytes", "What was really sent.", label)
    rate = _gauge("dst_member_resync_bytes_per_second", "How fast it goes at the moment.", label)
    stalled = _gauge("dst_member_resync_stalled", "1: its resync does not move.", label)
    departures = _gauge("dst_member_left_lately", "How often it left in the last ten minutes.", label)
    for storage, member in members:
        names = [storage.name, member.name]
        in_sync.add_metric(names, float(member.state == MemberState.IN_SYNC.value))
        state.add_metric([*names, member.state], 1)
        dirty.add_metric(names, member.dirty_bytes)
        departures.add_metric(names, _number(member.detail.get("left_lately")) or 0.0)
        progress = member.resync
        if progress is not None:
            total.add_metric(names, progress.bytes_total)
            left.add_metric(names, progress.bytes_left)
            sent.add_metric(names, progress.bytes_copied)
            rate.add_metric(names, progress.bytes_per_s)
            stalled.add_metric(names, float(bool(progress.stalled)))
    yield from (in_sync, state, dirty, total, left, sent, rate, stalled, departures)


def _nodes(trees: Sequence[StatusTree]) -> Iterator[Metric]:
    ready = _gauge("dst_node_ready", "1: a node that is in no storage can be used.", ["node"])
    size = _gauge("dst_node_size_bytes", "Its size; 0 while unknown.", ["node"])
    for tree in trees:
        ready.add_metric([tree.name], float(tree.state == LinkState.READY.value))
        size.add_metric([tree.name], tree.size)
    yield from (ready, size)


def _exports(exports: Sequence[ExportStatus]) -> Iterator[Metric]:
    label = ["export"]
    size = _gauge("dst_export_size_bytes", "Its size; 0 while unknown.", label)
    sessions = _gauge("dst_export_sessions", "Clients that have it open.", label)
    requests = _counter("dst_export_requests", "Requests that were begun, by kind.", ["export", "kind"])
    data = _counter("dst_export_bytes", "What was asked for, by direction: read or written.", ["export", "direction"])
    errors = _counter("dst_export_errors", "Requests that were answered with an error.", label)
    latency = SummaryMetricFamily(
        "dst_export_latency_seconds",
        "How long the storage took to answer, of the requests that were timed: one in 64 of each kind.",
        labels=["export", "kind"],
    )
    for export in exports:
        name, traffic = export.name, export.traffic
        size.add_metric([name], export.size)
        sessions.add_metric([name], export.sessions)
        for kind, count in _by_kind(traffic):
            requests.add_metric([name, kind], count)
        data.add_metric([name, "read"], traffic.read_bytes)
        data.add_metric([name, "written"], traffic.written_bytes)
        errors.add_metric([name], traffic.errors)
        latency.add_metric([name, "read"], traffic.reads_timed, traffic.read_s)
        latency.add_metric([name, "write"], traffic.writes_timed, traffic.write_s)
    yield from (size, sessions, requests, data, errors, latency)


def _by_kind(traffic: Traffic) -> Iterator[tuple[str, int]]:
    yield "read", traffic.reads
    yield "write", traffic.writes
    yield "flush", traffic.flushes
    yield "discard", traffic.discards


def _sessions(sessions: Sequence[SessionStatus]) -> Iterator[Metric]:
    count = _gauge("dst_sessions", "Clients that have an export open, by protocol.", ["protocol", "encrypted"])
    waiting = _gauge("dst_requests_in_flight", "Requests that clients wait for, by protocol.", ["protocol"])
    counts: dict[tuple[str, str], int] = {}
    in_flight: dict[str, int] = {}
    for session in sessions:
        key = (session.protocol, "yes" if session.encrypted else "no")
        counts[key] = counts.get(key, 0) + 1
        in_flight[session.protocol] = in_flight.get(session.protocol, 0) + session.in_flight
    for key in sorted(counts):
        count.add_metric(list(key), counts[key])
    for protocol in sorted(in_flight):
        waiting.add_metric([protocol], in_flight[protocol])
    yield from (count, waiting)


def _listeners(listeners: Sequence[ListenerStatus]) -> Iterator[Metric]:
    family = _gauge("dst_listener", "1 for each place where clients connect.", ["protocol", "address", "tls"])
    for listener in listeners:
        family.add_metric([listener.protocol, listener.address, listener.tls], 1)
    yield family


def _findings(told: Sequence[HealthFinding], everything: Sequence[HealthFinding]) -> Iterator[Metric]:
    family = _gauge(
        "dst_health_finding", "1 for what is not as it should be, by its code.", ["code", "severity", "subject"]
    )
    counts = _gauge("dst_health_findings", "How many there are of each severity.", ["severity"])
    seen: set[tuple[str, str]] = set()
    for finding in told:
        if (finding.code, finding.subject) not in seen:
            seen.add((finding.code, finding.subject))
            family.add_metric([finding.code, finding.severity.value, finding.subject], 1)
    for severity in Severity:
        counts.add_metric([severity.value], sum(each.severity is severity for each in everything))
    yield from (family, counts)


def _operations(operations: Sequence[OperationStatus]) -> Iterator[Metric]:
    family = _gauge("dst_operations", "What was asked for lately, by how it is.", ["state"])
    for state in OperationState:
        family.add_metric([state.value], sum(each.state is state for each in operations))
    yield family


def _daemon(measures: DaemonMeasures | None) -> Iterator[Metric]:
    info = _gauge("dst_info", "1; the version is a label.", ["version"])
    info.add_metric([__version__], 1)
    yield info
    if measures is None:
        return
    began = _gauge("dst_start_time_seconds", "When the daemon began, in seconds of the epoch.")
    began.add_metric([], measures.began)
    late = _counter("dst_event_loop_late_seconds", "By how much timers were late, all together: how busy it is.")
    late.add_metric([], measures.late_s)
    worst = _gauge("dst_event_loop_late_worst_seconds", "By how much one was late, in the last minute or two.")
    worst.add_metric([], measures.late_worst_s)
    events = _gauge("dst_event_last_number", "The number of the last event.")
    events.add_metric([], measures.events)
    free = _gauge("dst_state_dir_free_bytes", "Room on the file system of the state directory.")
    if measures.state_bytes_free is not None:
        free.add_metric([], measures.state_bytes_free)
    ends = _gauge(
        "dst_certificate_end_time_seconds", "Until when it is good, in seconds of the epoch.", ["certificate"]
    )
    for name, end in measures.certificates:
        ends.add_metric([name], end)
    yield from (began, late, worst, events, free, ends)
