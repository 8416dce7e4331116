"""
Makes what follows from the table of health codes and from the metrics, so that none of them is written twice:

  - a page for each health code, and the tables in the manual: C{docs/health/}, C{docs/metrics_table.inc};
  - alert rules for Prometheus: C{packaging/monitoring/dst-alerts.yml};
  - a dashboard for Grafana: C{packaging/monitoring/dst-dashboard.json}.

Run it from the checkout after a change of either: C{python packaging/monitoring/generate.py}.  A test says so when it
was forgotten.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from dst.admin.metrics import Snapshot, families
from dst.administration import DaemonMeasures
from dst.health import CODES, HealthCode

CHECKOUT = Path(__file__).resolve().parent.parent.parent

MADE = ".. Made by packaging/monitoring/generate.py from the table in dst/health/codes.py.\n\n"

_SEVERITIES = {
    "critical": "critical: users notice, or are about to. Look now.",
    "warning": "warning: look today.",
    "info": "info: good to know.",
}

_SUBJECTS = {
    "storage": "a storage",
    "storage/node": "a member or witness, as ``storage/node``",
    "node": "a node that is in no storage",
    "listener": "a listener, as ``protocol address``",
    "certificate": "a certificate",
    "daemon": "the daemon",
}

_ALERT_FOR = {"critical": "0s", "warning": "1m", "info": "15m"}
"""The daemon itself waits before it tells; this is for scrapes that are missed, and for what can wait."""


def main() -> None:
    """Write everything; pages of codes that are no more are removed."""
    made = everything()
    for old in (CHECKOUT / "docs" / "health").glob("*.rst"):
        if old not in made:
            old.unlink()
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def everything() -> dict[Path, str]:
    """What is to be in which file."""
    docs, here = CHECKOUT / "docs", CHECKOUT / "packaging" / "monitoring"
    made = {docs / "health" / f"{each.code}.rst": page(each) for each in CODES}
    made[docs / "health_table.inc"] = health_table()
    made[docs / "metrics_table.inc"] = metrics_table()
    made[here / "dst-alerts.yml"] = alert_rules()
    made[here / "dst-dashboard.json"] = dashboard()
    return made


# -- the manual


def page(code: HealthCode) -> str:
    """The page of one code."""
    steps = "\n".join(
        textwrap.fill(
            step, 120, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for step in code.advice
    )
    when = _delay("It is raised", code.raised_after_s, "has been so") + " "
    when += _delay("It is over", code.cleared_after_s, "has not been so any more")
    return (
        MADE
        + f".. _{code.code}:\n\n{code.code}\n{'=' * len(code.code)}\n\n"
        + f"*{_SEVERITIES[code.severity.value]}* It is about {_SUBJECTS[code.subject]}.\n\n"
        + f"What it means\n-------------\n\n{_filled(code.meaning)}\n\n"
        + f"Where it comes from\n-------------------\n\n{_filled(code.cause)}\n\n"
        + f"What to do\n----------\n\n{steps}\n\n"
        + f"When it is told\n---------------\n\n{_filled(when)}\n"
    )


def _delay(what: str, seconds: float, how: str) -> str:
    return f"{what} when it {how} for {seconds:g} s." if seconds else f"{what} as soon as it is seen that it {how}."


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def health_table() -> str:
    """All codes at a glance."""
    lines = [MADE.rstrip("\n"), "", ".. list-table::", "   :header-rows: 1", "   :widths: 30 12 58", ""]
    lines += ["   * - code", "     - severity", "     - meaning"]
    for each in CODES:
        lines += [
            f"   * - :ref:`{each.code} <{each.code}>`",
            f"     - {each.severity.value}",
            f"     - {each.meaning}",
        ]
    return "\n".join(lines) + "\n"


def metrics_table() -> str:
    """All metrics: what Prometheus calls them, their labels and what they say."""
    lines = [MADE.replace("the table in dst/health/codes.py", "dst/admin/metrics.py").rstrip("\n"), ""]
    lines += [".. list-table::", "   :header-rows: 1", "   :widths: 40 20 10 30", ""]
    lines += ["   * - metric", "     - labels", "     - type", "     - meaning"]
    for name, labels, kind, meaning in metrics():
        lines += [f"   * - ``{name}``", f"     - {', '.join(labels)}", f"     - {kind}", f"     - {meaning}"]
    return "\n".join(lines) + "\n"


def metrics() -> Iterator[tuple[str, tuple[str, ...], str, str]]:
    """Name, labels, type and meaning of every metric of the daemon's own."""
    for family in families(Snapshot(measures=DaemonMeasures(0.0))):
        labels = tuple(getattr(family, "_labelnames", ()))
        names = [family.name]
        if family.type == "counter":
            names = [f"{family.name}_total"]
        elif family.type == "summary":
            names = [f"{family.name}_sum", f"{family.name}_count"]
        for name in names:
            yield name, labels, family.type, family.documentation


# -- Prometheus


def alert_rules() -> str:
    """Alert rules: one for each code, and those that the daemon cannot raise itself."""
    text = (
        "# Alerts for DST. Made by packaging/monitoring/generate.py; load it with rule_files in prometheus.yml.\n"
        "#\n"
        "# Times are short: the daemon waits by itself before it tells, so that a blip is no alert.\n"
        "groups:\n"
        "  - name: dst-health\n"
        "    rules:\n"
    )
    for code in CODES:
        text += _rule(
            "DST" + "".join(word.capitalize() for word in code.code.split("_")),
            f'dst_health_finding{{code="{code.code}"}} == 1',
            _ALERT_FOR[code.severity.value],
            code.severity.value,
            "{{ $labels.subject }} ({{ $labels.instance }}): " + code.code,
            f"{code.meaning} {code.advice[0]}",
        )
    text += "  - name: dst-daemon\n    rules:\n"
    text += _rule(
        "DSTDown",
        'up{job="dst"} == 0',
        "1m",
        "critical",
        "{{ $labels.instance }} does not answer",
        "The daemon does not run, or cannot be reached. Its storages are not served from there; a standby takes over "
        "where there is one.",
    )
    text += _rule(
        "DSTRestarted",
        "changes(dst_start_time_seconds[15m]) > 1",
        "0s",
        "warning",
        "{{ $labels.instance }} was started more than once in a quarter of an hour",
        "Look at its log: why does it end?",
    )
    text += _rule(
        "DSTErrors",
        "rate(dst_export_errors_total[5m]) > 0.1",
        "5m",
        "warning",
        "clients of {{ $labels.export }} ({{ $labels.instance }}) are answered with errors",
        "dst explain says whether the storage below is well; else look at the log for what clients ask.",
    )
    text += _rule(
        "DSTResyncSlow",
        "dst_member_resync_left_bytes / clamp_min(dst_member_resync_bytes_per_second, 1) > 172800",
        "1h",
        "warning",
        "the resync of {{ $labels.node }} of {{ $labels.storage }} takes more than two days",
        "Redundancy is lower meanwhile. resync_ceiling in the topology lets it take more of what there is.",
    )
    text += _rule(
        "DSTMetricsLeftOut",
        "sum by (instance) (dst_metrics_left_out) > 0",
        "15m",
        "info",
        "{{ $labels.instance }} has more than its metrics tell",
        "Watch the rest by their health codes, or divide the daemon.",
    )
    return text


def _rule(alert: str, expression: str, wait: str, severity: str, summary: str, description: str) -> str:
    return (
        f"      - alert: {alert}\n"
        f"        expr: {_quoted(expression)}\n"
        f"        for: {wait}\n"
        f"        labels:\n"
        f"          severity: {severity}\n"
        f"        annotations:\n"
        f"          summary: {_quoted(summary)}\n"
        f"          description: {_quoted(description.replace('``', ''))}\n"
    )


def _quoted(text: str) -> str:
    """A string of YAML; those of JSON are."""
    return json.dumps(text, ensure_ascii=False)


# -- Grafana


def dashboard() -> str:
    """The dashboard, with the data source and the daemons to choose."""
    panels = []
    x = y = height = 0
    for title, kind, unit, width, panel_height, targets in _PANELS:
        if x + width > 24:
            x, y = 0, y + height
        height = panel_height
        panels.append(_panel(len(panels) + 1, title, kind, unit, (x, y, width, panel_height), targets))
        x += width
    board = {
        "title": "DST",
        "uid": "dst-overview",
        "tags": ["dst", "storage"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
                _variable("instance", "Daemon", "label_values(dst_info, instance)"),
                _variable("storage", "Storage", 'label_values(dst_storage_health{instance=~"$instance"}, storage)'),
            ]
        },
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(board, indent=1) + "\n"


_HERE = 'instance=~"$instance"'
_STORAGE = f'{_HERE}, storage=~"$storage"'
_RATE = "[$__rate_interval]"

_Target = tuple[str, str]

_PANELS: tuple[tuple[str, str, str, int, int, tuple[_Target, ...]], ...] = (
    (
        "Findings",
        "stat",
        "none",
        4,
        6,
        ((f"sum by (severity) (dst_health_findings{{{_HERE}}})", "{{severity}}"),),
    ),
    ("Storages: health", "state-timeline", "none", 12, 6, ((f"dst_storage_health{{{_STORAGE}}}", "{{storage}}"),)),
    (
        "Redundancy left",
        "stat",
        "none",
        8,
        6,
        ((f"min by (storage) (dst_storage_redundancy{{{_STORAGE}}})", "{{storage}}"),),
    ),
    (
        "What is not as it should be",
        "table",
        "none",
        24,
        7,
        ((f"dst_health_finding{{{_HERE}}} == 1", "{{code}} {{subject}}"),),
    ),
    (
        "Throughput",
        "timeseries",
        "Bps",
        8,
        8,
        (
            (
                f"sum by (export, direction) (rate(dst_export_bytes_total{{{_HERE}}}{_RATE}))",
                "{{export}} {{direction}}",
            ),
        ),
    ),
    (
        "Requests",
        "timeseries",
        "reqps",
        8,
        8,
        ((f"sum by (export, kind) (rate(dst_export_requests_total{{{_HERE}}}{_RATE}))", "{{export}} {{kind}}"),),
    ),
    (
        "Latency of the storages",
        "timeseries",
        "s",
        8,
        8,
        (
            (
                f"rate(dst_export_latency_seconds_sum{{{_HERE}}}{_RATE}) / "
                f"rate(dst_export_latency_seconds_count{{{_HERE}}}{_RATE})",
                "{{export}} {{kind}}",
            ),
        ),
    ),
    (
        "Members in sync",
        "state-timeline",
        "none",
        12,
        7,
        ((f"dst_member_in_sync{{{_STORAGE}}}", "{{storage}}/{{node}}"),),
    ),
    (
        "Not the same as the storage",
        "timeseries",
        "bytes",
        6,
        7,
        ((f"dst_member_dirty_bytes{{{_STORAGE}}}", "{{node}}"),),
    ),
    (
        "Resync",
        "timeseries",
        "Bps",
        6,
        7,
        ((f"dst_member_resync_bytes_per_second{{{_STORAGE}}}", "{{storage}}/{{node}}"),),
    ),
    (
        "Clients",
        "timeseries",
        "none",
        6,
        7,
        (
            (f"sum by (protocol) (dst_sessions{{{_HERE}}})", "{{protocol}}"),
            (f"sum by (export) (dst_export_sessions{{{_HERE}}})", "{{export}}"),
        ),
    ),
    (
        "In flight",
        "timeseries",
        "none",
        6,
        7,
        ((f"dst_requests_in_flight{{{_HERE}}}", "{{instance}} {{protocol}}"),),
    ),
    ("Errors", "timeseries", "reqps", 6, 7, ((f"rate(dst_export_errors_total{{{_HERE}}}{_RATE})", "{{export}}"),)),
    (
        "Votes that can be lost",
        "timeseries",
        "none",
        6,
        7,
        ((f"dst_storage_votes_granted{{{_STORAGE}}} - dst_storage_votes_needed{{{_STORAGE}}}", "{{storage}}"),),
    ),
    (
        "Processor",
        "timeseries",
        "percentunit",
        6,
        7,
        ((f"rate(process_cpu_seconds_total{{{_HERE}}}{_RATE})", "{{instance}}"),),
    ),
    ("Memory", "timeseries", "bytes", 6, 7, ((f"process_resident_memory_bytes{{{_HERE}}}", "{{instance}}"),)),
    (
        "Timers are late",
        "timeseries",
        "s",
        6,
        7,
        ((f"dst_event_loop_late_worst_seconds{{{_HERE}}}", "{{instance}}"),),
    ),
    (
        "Descriptors",
        "timeseries",
        "percentunit",
        6,
        7,
        ((f"process_open_fds{{{_HERE}}} / process_max_fds{{{_HERE}}}", "{{instance}}"),),
    ),
)
"""Title, kind, unit, width, height, and expressions with their legends."""

_HEALTH_WORDS = {
    "0": {"text": "healthy", "color": "green"},
    "1": {"text": "degraded", "color": "yellow"},
    "2": {"text": "frozen", "color": "orange"},
    "3": {"text": "failed", "color": "red"},
}

_SYNC_WORDS = {"0": {"text": "not in sync", "color": "orange"}, "1": {"text": "in sync", "color": "green"}}


def _panel(
    number: int, title: str, kind: str, unit: str, place: tuple[int, int, int, int], targets: tuple[_Target, ...]
) -> dict[str, object]:
    x, y, width, height = place
    source = {"type": "prometheus", "uid": "${source}"}
    defaults: dict[str, object] = {"unit": unit}
    if kind == "state-timeline":
        words = _HEALTH_WORDS if "health" in title else _SYNC_WORDS
        defaults["mappings"] = [{"type": "value", "options": words}]
    return {
        "id": number,
        "title": title,
        "type": kind,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": source,
                "expr": expression,
                "legendFormat": legend,
                "instant": kind == "table",
                "format": "table" if kind == "table" else "time_series",
            }
            for index, (expression, legend) in enumerate(targets)
        ],
    }


def _variable(name: str, label: str, query: str) -> dict[str, object]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": query,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


if __name__ == "__main__":
    main()
