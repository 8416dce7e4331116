"""
What many lives of one cluster say together: the numbers, and the verdict in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from attrs import field, frozen

from dst.simulation.outcome import Outcome

__all__ = ["Summary", "in_words", "summary_of", "timeline_lines"]


@frozen
class Summary:
    """
    @ivar failed: lives that broke a promise.
    @ivar simulated_s: of all lives together, by their calendars.
    @ivar availability: the share of the time in which every storage served.
    @ivar outages: how many there were.
    @ivar missed_bytes: what returning members had missed, in whole regions.
    @ivar recopied_bytes: what their partial resyncs went through.
    @ivar resync_s: how long resyncs took: the middle one and the longest, 0 when there were none.
    @ivar heal_s: the longest time from the end of the last fault until all was well.
    @ivar told_losses: how often clients were told that unflushed writes may be lost (power was lost on all copies).
    """

    lives: int
    failed: int
    exit_code: int
    simulated_s: float
    skipped_s: float
    availability: float
    outages: int
    longest_outage_s: float
    longest_outage_of: str
    resyncs: int
    resync_s: tuple[float, float]
    resync_bytes: int
    missed_bytes: int
    recopied_bytes: int
    heal_s: float
    slowest_s: float
    told_losses: int
    operations: dict[str, int] = field(factory=dict)
    faults: dict[str, int] = field(factory=dict)
    refused: dict[str, int] = field(factory=dict)


def summary_of(outcomes: Sequence[Outcome]) -> Summary:
    """Of at least one life."""
    outages = [outage for outcome in outcomes for outage in outcome.outages]
    worst = max(outages, key=lambda outage: outage.lasts_s, default=None)
    storage_s = sum(outcome.served_s * max(1, outcome.storages) for outcome in outcomes)
    lasted = sorted(resync.lasts_s for outcome in outcomes for resync in outcome.resyncs)
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    codes = [failure.exit_code for failure in failures]
    return Summary(
        lives=len(outcomes),
        failed=len(failures),
        exit_code=min(codes, default=0),
        simulated_s=sum(outcome.simulated_s for outcome in outcomes),
        skipped_s=sum(outcome.skipped_s for outcome in outcomes),
        availability=1.0 - min(1.0, sum(outage.lasts_s for outage in outages) / storage_s) if storage_s else 0.0,
        outages=len(outages),
        longest_outage_s=worst.lasts_s if worst is not None else 0.0,
        longest_outage_of=worst.storage if worst is not None else "",
        resyncs=len(lasted),
        resync_s=(median(lasted), lasted[-1]) if lasted else (0.0, 0.0),
        resync_bytes=sum(resync.bytes_copied for outcome in outcomes for resync in outcome.resyncs),
        missed_bytes=sum(outcome.missed_bytes for outcome in outcomes),
        recopied_bytes=sum(outcome.recopied_bytes for outcome in outcomes),
        heal_s=max(outcome.heal_s for outcome in outcomes),
        slowest_s=max(outcome.slowest_s for outcome in outcomes),
        told_losses=sum(outcome.told_losses for outcome in outcomes),
        operations=_sum(outcome.operations for outcome in outcomes),
        faults=_sum(outcome.counts for outcome in outcomes),
        refused=_sum(outcome.refused for outcome in outcomes),
    )


def _sum(tables: object) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:  # type: ignore[attr-defined]
        total.update(table)
    return dict(sorted(total.items()))


def in_words(summary: Summary) -> list[str]:
    """For people, a line each."""
    many = summary.lives > 1
    if summary.failed:
        some = f"{summary.failed} of {summary.lives} lives" if many else "this life"
        lines = [f"NOT GOOD: in {some} a promise was broken."]
    else:
        what = f"all {summary.lives} lives" if many else "this life"
        lines = [f"Good: in {what} nothing flushed was lost, nothing stale or mixed was read, and everything healed."]
    lines.append(
        f"Simulated: {_span(summary.simulated_s)}{' together' if many else ''}, "
        f"{summary.operations.get('answered', 0)} operations answered, {summary.operations.get('failed', 0)} failed."
    )
    if summary.outages:
        lines.append(
            f"Available: {_percent(summary.availability)}; {summary.outages} outages, the longest "
            f"{_span(summary.longest_outage_s)} ({summary.longest_outage_of})."
        )
    else:
        lines.append("Available: all the time.")
    if summary.resyncs:
        lines.append(
            f"Resyncs: {summary.resyncs}, half of them within {_span(summary.resync_s[0])}, the longest "
            f"{_span(summary.resync_s[1])}; {summary.resync_bytes / 1e6:.1f} MB copied."
        )
    if summary.missed_bytes:
        lines.append(
            f"Members that came back had missed {summary.missed_bytes / 1e6:.1f} MB; "
            f"{summary.recopied_bytes / 1e6:.1f} MB were looked at, "
            f"{summary.recopied_bytes / summary.missed_bytes:.2f} times that."
        )
    lines.append(f"Healed: {_span(summary.heal_s)} after the last fault at the latest.")
    if summary.told_losses:
        lines.append(
            f"Unflushed writes may be lost {summary.told_losses} times: every copy lost its power; clients were told."
        )
    faults = ", ".join(f"{count} {kind}" for kind, count in summary.faults.items()) or "none"
    lines.append(f"Faults: {faults}.")
    if summary.refused:
        left_out = ", ".join(f"{count} {kind}" for kind, count in summary.refused.items())
        lines.append(f"Left out, since there was nothing to befall or no promise to keep: {left_out}.")
    return lines


def timeline_lines(outcome: Outcome) -> list[str]:
    """What a person would have noticed, a line each, with the time since the beginning."""
    return [f"{_clock(moment.at_s)}  {moment.text}" for moment in outcome.timeline]


def _clock(seconds: float) -> str:
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{f'{int(days)}d ' if days else ''}{int(hours):02}:{int(minutes):02}:{rest:06.3f}"


def _percent(share: float) -> str:
    """As many nines as it takes."""
    text = f"{100 * share:.6f}"
    return (text.rstrip("0").rstrip(".") if share < 1 else "100") + " %"


def _span(seconds: float) -> str:
    for unit, name in ((86_400 * 365, "years"), (86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"
