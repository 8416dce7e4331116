"""Tests of L{dst.admin.metrics}."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.metrics import (
    EXPORTS_MAX,
    FINDINGS_MAX,
    FRESH_S,
    MEMBERS_MAX,
    STORAGES_MAX,
    Metrics,
    Snapshot,
    families,
    text_of,
)
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
from dst.errors import Unavailable
from dst.status import Health, MemberState, ResyncProgress, StatusTree
from dst.testing.fake_admin import FakeAdmin

A = StatusTree("a", "memory", Health.HEALTHY, MemberState.IN_SYNC.value)
B = StatusTree(
    "b",
    "memory",
    Health.HEALTHY,
    MemberState.RESYNCING.value,
    dirty_bytes=4096,
    resync=ResyncProgress("partial", "it was away", 1000, 400, 300, 50.0, "it waits"),
    detail={"left_lately": 3},
)
VOL = StatusTree(
    "vol",
    "mirror",
    Health.DEGRADED,
    "ready",
    size=1 << 20,
    dirty_bytes=4096,
    detail={
        "role": "owner",
        "votes": [{"name": "a", "granted": True}, {"name": "b", "granted": False}],
        "quorum": 1,
        "hot_regions": 7,
        "undecided_bytes": 512,
    },
    children=(A, B),
)
STANDBY = StatusTree("other", "mirror", Health.HEALTHY, "away", detail={"role": "standby"}, children=(A,))
SPARE = StatusTree("spare", "memory", Health.HEALTHY, "ready", size=77)
TRAFFIC = Traffic(10, 20, 3, 4, 1000, 2000, 5, 0.5, 2, 0.25, 1)

EVERYTHING = Snapshot(
    trees=(VOL, STANDBY, SPARE),
    exports=(ExportStatus("vol", "vol", False, 1 << 20, None, 2, TRAFFIC),),
    listeners=(ListenerStatus("nbd", "tcp:10809", "127.0.0.1:10809", "off"),),
    sessions=(
        SessionStatus("nbd-1", "nbd", "vol", "127.0.0.1:1", None, False, False, 0.0, 3),
        SessionStatus("nbd-2", "nbd", "vol", "127.0.0.1:2", None, True, False, 0.0, 4),
    ),
    operations=(OperationStatus("1", "replace", "vol/b", OperationState.RUNNING, 0.0),),
    findings=(
        HealthFinding("STORAGE_DEGRADED", Severity.WARNING, "vol", "it is so", 0.0),
        HealthFinding("LAST_COPY", Severity.CRITICAL, "vol", "it is so", 0.0),
    ),
    measures=DaemonMeasures(1000.0, 1.5, 0.5, 42, (("of alpha", 2000.0),), 1 << 30),
)


def samples(snapshot: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """As Prometheus' own parser reads it: no series is there twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text_of(snapshot).decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


class TextTests(SynchronousTestCase):
    """What is told."""

    def setUp(self) -> None:
        self.samples = samples(EVERYTHING)

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def test_storages(self) -> None:
        """Health, size, votes and what differs."""
        self.assertEqual(1, self.value("dst_storage_health", storage="vol"))
        self.assertEqual(1, self.value("dst_storage_served", storage="vol"))
        self.assertEqual(0, self.value("dst_storage_served", storage="other"))
        self.assertEqual(1 << 20, self.value("dst_storage_size_bytes", storage="vol"))
        self.assertEqual(2, self.value("dst_storage_votes", storage="vol"))
        self.assertEqual(1, self.value("dst_storage_votes_granted", storage="vol"))
        self.assertEqual(1, self.value("dst_storage_votes_needed", storage="vol"))
        self.assertEqual(512, self.value("dst_storage_scrub_undecided_bytes", storage="vol"))
        self.assertEqual(77, self.value("dst_node_size_bytes", node="spare"))

    def test_members(self) -> None:
        """State, what is missing, and the resync."""
        self.assertEqual(1, self.value("dst_member_in_sync", storage="vol", node="a"))
        self.assertEqual(0, self.value("dst_member_in_sync", storage="vol", node="b"))
        self.assertEqual(1, self.value("dst_member_state", storage="vol", node="b", state="resyncing"))
        self.assertEqual(400, self.value("dst_member_resync_left_bytes", storage="vol", node="b"))
        self.assertEqual(50, self.value("dst_member_resync_bytes_per_second", storage="vol", node="b"))
        self.assertEqual(1, self.value("dst_member_resync_stalled", storage="vol", node="b"))
        self.assertEqual(3, self.value("dst_member_left_lately", storage="vol", node="b"))

    def test_exports(self) -> None:
        """Counters by kind, and the latency as sum and count."""
        expected = {"read": 10.0, "write": 20.0, "flush": 3.0, "discard": 4.0}
        for kind, count in expected.items():
            self.assertEqual(count, self.value("dst_export_requests_total", export="vol", kind=kind))
        self.assertEqual(2000, self.value("dst_export_bytes_total", export="vol", direction="written"))
        self.assertEqual(5, self.value("dst_export_errors_total", export="vol"))
        self.assertEqual(0.5, self.value("dst_export_latency_seconds_sum", export="vol", kind="read"))
        self.assertEqual(2, self.value("dst_export_latency_seconds_count", export="vol", kind="read"))

    def test_daemon(self) -> None:
        """Clients, findings, and the process."""
        self.assertEqual(1, self.value("dst_sessions", protocol="nbd", encrypted="yes"))
        self.assertEqual(7, self.value("dst_requests_in_flight", protocol="nbd"))
        finding = {"code": "LAST_COPY", "severity": "critical", "subject": "vol"}
        self.assertEqual(1, self.value("dst_health_finding", **finding))
        self.assertEqual(0, self.value("dst_health_findings", severity="info"))
        self.assertEqual(1, self.value("dst_operations", state="running"))
        self.assertEqual(1.5, self.value("dst_event_loop_late_seconds_total"))
        self.assertEqual(2000, self.value("dst_certificate_end_time_seconds", certificate="of alpha"))
        self.assertGreater(self.value("process_resident_memory_bytes"), 1 << 20)
        self.assertEqual(0, self.value("dst_metrics_left_out", what="members"))

    def test_another_process(self) -> None:
        """Where the process is not known nothing is said of it."""
        names = {name for name, _ in samples(evolve(EVERYTHING, measures=None))}
        self.assertNotIn("dst_start_time_seconds", names)
        self.assertIn("dst_info", names)

    def test_names_that_need_quotes(self) -> None:
        """Whatever a subject is made of, what is told can be read."""
        subject = 'a "quoted" \\ name\nwith two lines'
        findings = (HealthFinding("MEMBER_AWAY", Severity.WARNING, subject, "it is so", 0.0),)
        found = [labels for name, labels in samples(Snapshot(findings=findings)) if name == "dst_health_finding"]
        self.assertIn(("subject", subject), found[0])

    def test_bounded(self) -> None:
        """Of very many things the first are told, and how many are not."""
        storages = [evolve(VOL, name=f"s{n:05}", children=(A,) * 5) for n in range(STORAGES_MAX + 100)]
        storages = [
            evolve(each, children=tuple(evolve(A, name=f"m{n}") for n, _ in enumerate(each.children)))
            for each in storages
        ]
        snapshot = Snapshot(
            trees=storages,
            exports=[ExportStatus(f"e{n}", "vol", False, 1) for n in range(EXPORTS_MAX + 7)],
            findings=[HealthFinding("MEMBER_AWAY", Severity.WARNING, f"s/{n}", "x", 0.0) for n in range(9999)],
        )
        counts: dict[str, int] = {}
        left_out: dict[Any, float] = {}
        for family in families(snapshot):
            counts[family.name] = len(family.samples)
            if family.name == "dst_metrics_left_out":
                left_out = {sample.labels["what"]: sample.value for sample in family.samples}
        self.assertEqual(STORAGES_MAX, counts["dst_storage_health"])
        self.assertEqual(MEMBERS_MAX, counts["dst_member_in_sync"])
        self.assertEqual(EXPORTS_MAX, counts["dst_export_errors"])
        self.assertEqual(FINDINGS_MAX, counts["dst_health_finding"])
        self.assertLess(sum(counts.values()), 50_000)
        self.assertEqual(
            {"storages": 100, "nodes": 0, "exports": 7, "findings": 9999 - FINDINGS_MAX, "members": 500}, left_out
        )


class CountedAdmin(FakeAdmin):
    """Answers with the status that the test says; C{asked} is how often it was asked."""

    asked = 0
    answer: Deferred[list[StatusTree]] | None = None

    def status(self) -> Deferred[list[StatusTree]]:
        self.asked += 1
        return super().status() if self.answer is None else self.answer


class AskingTests(SynchronousTestCase):
    """Asking the admin."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.admin = CountedAdmin()
        self.metrics = Metrics(self.admin, self.clock)

    def test_fresh(self) -> None:
        """What is a moment old is told again without asking; what is older is not."""
        first = self.successResultOf(self.metrics.text())
        self.assertIn(b'dst_storage_health{storage="vol"} 0.0', first)
        self.assertIs(first, self.successResultOf(self.metrics.text()))
        self.assertEqual(1, self.admin.asked)
        self.clock.advance(FRESH_S + 0.1)
        self.successResultOf(self.metrics.text())
        self.assertEqual(2, self.admin.asked)

    def test_together(self) -> None:
        """Those who ask meanwhile get the same answer, and a failure too; then it is asked again."""
        self.admin.answer = Deferred()
        answers = [self.metrics.text() for _ in range(3)]
        self.assertEqual(1, self.admin.asked)
        self.admin.answer.errback(Unavailable("the daemon stops"))
        for answer in answers:
            self.failureResultOf(answer, Unavailable)
        self.admin.answer = succeed([])
        self.assertIn(b"dst_info", self.successResultOf(self.metrics.text()))
        self.admin.answer = fail(Unavailable("gone"))
        self.clock.advance(2 * FRESH_S)
        self.failureResultOf(self.metrics.text(), Unavailable)
