"""
C{python -m dst.simulation}: see C{--help}.
"""

from __future__ import annotations

import sys
import time

import click
from twisted.logger import globalLogBeginner

from dst.cluster.config import load, load_script
from dst.errors import DSTError
from dst.simulation.faults import catalogue, catalogue_names
from dst.simulation.outcome import Outcome
from dst.simulation.rehearsal import live
from dst.simulation.topologies import BUILT_IN, Layout, adapted, built_in

__all__ = ["layout_of", "main"]


def layout_of(name: str) -> Layout:
    """The built-in topology of that name, or the one in a file."""
    if name in BUILT_IN:
        return built_in(name)
    if name.endswith(".toml"):
        return adapted(name, {"daemon": load(name)})
    if name.endswith(".py"):
        return adapted(name, {"daemon": load_script(name)})
    return built_in(name)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--seed", type=int, default=1, show_default=True, help="The first life.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many, one after the other.")
@click.option("--topology", default="mirror-3", show_default=True, help=f"A file, or one of {', '.join(BUILT_IN)}.")
@click.option(
    "--faults", default="everything", show_default=True, help=f"A file, or one of {', '.join(catalogue_names())}."
)
@click.option("--hours", type=float, help="How long, by the calendar of the simulation.")
@click.option("--trace", is_flag=True, help="A line for each event, on standard output.")
@click.option("--timeline", is_flag=True, help="A line for each thing a person would notice.")
def main(seed: int, seeds: int, topology: str, faults: str, hours: float | None, trace: bool, timeline: bool) -> None:
    """
    Live lives of a simulated cluster and judge them.

    \b
    Exit codes: 0 all promises kept, 1 wrong data or broken code, 2 not well again in time.
    """
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    try:
        layout, of = layout_of(topology), catalogue(faults)
    except DSTError as error:
        raise click.ClickException(error.message) from None
    worst = 0
    outcomes: list[Outcome] = []
    totals: dict[str, int] = {}
    operations = events = 0
    begun = time.process_time()
    for each in range(seed, seed + seeds):
        outcome = live(layout, of, each, hours=hours, trace=click.echo if trace else None)
        outcomes.append(outcome)
        for kind, count in outcome.counts.items():
            totals[kind] = totals.get(kind, 0) + count
        operations += sum(outcome.operations.values())
        events += outcome.events
        if timeline:
            for moment in outcome.timeline:
                click.echo(f"{moment.at_s:12.3f}  {moment.text}")
        if outcome.failure is not None:
            worst = max(worst, outcome.failure.exit_code) if worst != 1 else 1
            click.echo(f"seed {each}: {outcome.failure.word}: {outcome.failure.message}", err=True)
    took = time.process_time() - begun
    if not trace:
        missed, gone_through = (
            sum(getattr(each, name) for each in outcomes) for name in ("missed_bytes", "recopied_bytes")
        )
        said = ", ".join(f"{count} {kind}" for kind, count in sorted(totals.items()))
        click.echo(
            f"{seeds} seeds of {topology} in {took:.1f} s of processor time ({seeds / took:.2f} a second, "
            f"{events / took:.0f} events a second, {operations / seeds:.0f} operations each); faults: {said}; "
            f"partial resyncs: {gone_through / 1e6:.1f} MB for {missed / 1e6:.1f} MB that were missed"
        )
    sys.exit(worst)


if __name__ == "__main__":
    main()
