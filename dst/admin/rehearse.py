"""
C{dst rehearse}: what would become of a topology when things go wrong, found out before they do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dst.admin.schema import correction_for
from dst.admin.tools import console, fail
from dst.errors import DSTError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from dst.simulation.faults import Catalogue, Fault
    from dst.simulation.outcome import Outcome
    from dst.simulation.topologies import Layout
    from dst.simulation.verdict import Summary

__all__ = ["rehearse"]

_SHARES = 1000


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--faults", default="weekend", show_default=True, help="What goes wrong: a name, or a TOML file.")
@click.option("--seeds", type=click.IntRange(1, 1_000_000), default=5, show_default=True, help="How many lives.")
@click.option("--seed", type=int, default=1, show_default=True, help="The first one; the same seed is the same life.")
@click.option(
    "--hours", type=click.FloatRange(0.001, 1_000_000), help="How long each lasts.  [default: by the faults]"
)
@click.option("--json", "as_json", is_flag=True, help="The result for scripts.")
@click.option("--timeline", is_flag=True, help="What happens, line by line, of every life.")
@click.option(
    "--list",
    "list_faults",
    is_flag=True,
    help="Show the names of faults that come along, and exit.",
    is_eager=True,
    expose_value=False,
    callback=lambda *given: _list_faults(given[2]),
)
def rehearse(
    files: Sequence[str],
    faults: str,
    seeds: int,
    seed: int,
    hours: float | None,
    as_json: bool,
    timeline: bool,
) -> None:
    """
    Live through bad times with the topology in FILE, on a simulated network and simulated disks.

    It says how that went. Give the files of several daemons to rehearse them together. The daemon behind a remote
    node whose file is not given is simulated as one with a disk. Nothing is started and nothing is touched.

    \b
    Examples:
      dst rehearse owner.toml
      dst rehearse owner.toml a.toml b.toml --faults power-cut --seeds 20
      dst rehearse owner.toml --faults two-owners --hours 2 --json
      dst rehearse owner.toml --faults my-faults.toml --seed 42 --seeds 1 --timeline

    \b
    Exit codes: 0 every promise was kept, 1 wrong data (or the files cannot be used), 2 something did not heal.
    """
    from dst.simulation.faults import catalogue

    try:
        layout, of = _layout(files), catalogue(faults)
    except DSTError as error:
        fail(error.message, correction_for(error))
    _Rehearsal(layout, of, hours, as_json, timeline).run(range(seed, seed + seeds))


def _list_faults(wanted: bool) -> None:
    if wanted:
        from dst.simulation.faults import catalogue, catalogue_names

        for name in catalogue_names():
            click.echo(f"{name:16} {catalogue(name).title}")
        sys.exit(0)


def _layout(files: Sequence[str]) -> Layout:
    from dst.cluster.config import load, load_script
    from dst.simulation.topologies import adapted

    given = {}
    for path in files:
        name = Path(path).stem
        while name in given:
            name += "-2"
        given[name] = (load_script if path.endswith(".py") else load)(path)
    return adapted(" and ".join(files), given)


class _Rehearsal:
    def __init__(self, layout: Layout, of: Catalogue, hours: float | None, as_json: bool, timeline: bool) -> None:
        self.layout = layout
        self.of = of
        self.hours = of.hours if hours is None else hours
        self.as_json = as_json
        self.timeline = timeline
        self.outcomes: list[Outcome] = []

    def run(self, seeds: range) -> None:
        """Live, say how it was, and end the command."""
        from dst.simulation.verdict import summary_of

        try:
            failed = self._live_all(seeds)
            smallest = None if failed is None else self._shrink(failed)
        except KeyboardInterrupt:
            if not self.outcomes:
                fail("interrupted before the first life was over", "give it fewer --hours")
            failed = smallest = None
        summary = summary_of(self.outcomes)
        if self.as_json:
            click.echo(json.dumps(self._as_json(summary, smallest), indent=2))
        else:
            self._say(summary, smallest)
        sys.exit(summary.exit_code)

    def _live_all(self, seeds: range) -> Outcome | None:
        """Until the first that fails."""
        from dst.simulation.rehearsal import live

        with _progress() as progress:
            task = progress.add_task("", total=_SHARES * len(seeds))
            for number, seed in enumerate(seeds):
                faults = sum(sum(outcome.counts.values()) for outcome in self.outcomes)
                words = f"life {number + 1} of {len(seeds)} (seed {seed}), {faults} faults so far"
                progress.update(task, description=words)
                outcome = live(
                    self.layout, self.of, seed, hours=self.hours, progress=_told(progress, task, number * _SHARES)
                )
                self.outcomes.append(outcome)
                progress.update(task, completed=(number + 1) * _SHARES)
                if self.timeline and not self.as_json:
                    self._print_timeline(outcome)
                if outcome.failure is not None:
                    return outcome
        return None

    def _shrink(self, failed: Outcome) -> Outcome:
        """The smallest life that fails in the same way."""
        from dst.simulation.rehearsal import live
        from dst.simulation.shrinking import RUNS_MAX, shrunk

        def again(faults: Sequence[Fault], span_s: float) -> Outcome:
            return live(self.layout, self.of, failed.seed, hours=span_s / 3600, faults=faults)

        with _progress() as progress:
            task = progress.add_task("looking for the shortest history that shows it", total=RUNS_MAX)

            def tried(left: int, runs: int) -> None:
                words = f"looking for the shortest history that shows it: {left} faults"
                progress.update(task, completed=runs, description=words)

            return shrunk(failed, again, tried=tried)

    def _say(self, summary: Summary, smallest: Outcome | None) -> None:
        from dst.simulation.verdict import in_words

        click.echo(f"{self.of.name}: {self.of.title}")
        for sentence in self.layout.said:
            click.echo(f"  (simulated: {sentence})")
        for line in in_words(summary):
            click.echo(line)
        if smallest is not None and smallest.failure is not None:
            click.echo(f"\n{smallest.failure.word}, with the seed {smallest.seed}: {smallest.failure.message}")
            click.echo("\nThe shortest history found that shows it:")
            self._print_timeline(smallest)

    def _print_timeline(self, outcome: Outcome) -> None:
        from dst.simulation.verdict import timeline_lines

        for line in timeline_lines(outcome):
            click.echo(f"  {line}")

    def _as_json(self, summary: Summary, smallest: Outcome | None) -> dict[str, object]:
        from attrs import asdict

        from dst.simulation.verdict import timeline_lines

        found: dict[str, object] = {
            "faults": self.of.name,
            "hours": self.hours,
            "seeds": [outcome.seed for outcome in self.outcomes],
            "simulated_as": list(self.layout.said),
            "good": not summary.failed,
            "summary": asdict(summary),
            "lives": [
                {
                    "seed": outcome.seed,
                    "failure": None if outcome.failure is None else outcome.failure.message,
                    "outages": [asdict(outage) for outage in outcome.outages],
                    "resyncs": [asdict(resync) for resync in outcome.resyncs],
                }
                for outcome in self.outcomes
            ],
        }
        if smallest is not None and smallest.failure is not None:
            found["smallest"] = {
                "seed": smallest.seed,
                "kind": smallest.failure.word,
                "failure": smallest.failure.message,
                "faults": [asdict(fault) for fault in smallest.faults],
                "timeline": timeline_lines(smallest),
            }
        return found


def _told(progress: Progress, task: TaskID, before: int) -> Callable[[float], None]:
    last = -1

    def tell(share: float) -> None:
        nonlocal last
        done = int(share * _SHARES)
        if done != last:
            last = done
            progress.update(task, completed=before + done)

    return tell


def _progress() -> Progress:
    """A line on standard error that moves; nothing where that is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(sys.stderr)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )
