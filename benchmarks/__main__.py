"""
C{python -m benchmarks [--quick] [--rounds N] [--only GROUP] [--row ROW] [--resume] [--profile ROW] [--output DIR]}
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import NoReturn

from benchmarks.fio import Cell, fill, measure
from benchmarks.flat import Flat, measure_flat
from benchmarks.flat import table as flat_table
from benchmarks.groups import GROUPS, Group
from benchmarks.isolation import GOAL as ISOLATION_GOAL
from benchmarks.isolation import NAME as ISOLATION
from benchmarks.isolation import SITUATIONS, Found, chosen_situations, measure_isolation
from benchmarks.isolation import table as isolation_table
from benchmarks.machine import busy, machine
from benchmarks.processes import Failed, Processes
from benchmarks.profiling import profile, py_spy
from benchmarks.record import Record
from benchmarks.report import Results, goal_lines
from benchmarks.rows import Row
from benchmarks.subjects import Kind, Subject, missing

DEVICE_BYTES = 256 << 20
"""Small enough for everybody's page cache: it is the servers that are compared, not the disk."""

DEVICE_BYTES_QUICK = 32 << 20

FLAT = "memory"
"""The group that is not a comparison."""


def chosen(group: Group, words: list[str] | None) -> list[Row]:
    """
    The rows of a group that were asked for: by number, or by a part of the name; all if nothing was asked.
    """
    if not words:
        return list(group.rows)
    return [
        row
        for number, row in enumerate(group.rows, 1)
        if any(word == str(number) if word.isdigit() else word.lower() in row.name.lower() for word in words)
    ]


def arguments(command: list[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="DST and its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works, not to compare")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds; the medians are told (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each measurement (default 3)")
    parser.add_argument("--only", choices=[*GROUPS, ISOLATION, FLAT], action="append", help="one group of servers")
    row_help = "one row: its number in the group, or a part of its name"
    parser.add_argument("--row", action="append", metavar="ROW", help=row_help)
    parser.add_argument("--resume", action="store_true", help="go on with a run that was cut short")
    parser.add_argument("--list", action="store_true", help="say which groups and rows there are")
    profile_help = "measure nothing; show where the daemons of ours spend their time under one row of the first group"
    parser.add_argument("--profile", metavar="ROW", help=profile_help)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="where the results go")
    options = parser.parse_args(command)
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    if not 1 <= options.rounds <= 1000 or not 0 < options.seconds <= 600:
        parser.error("--rounds has to be 1 to 1000, and --seconds above 0 and up to 600")
    options.only = list(dict.fromkeys(options.only or ([*GROUPS] if options.row else [*GROUPS, ISOLATION, FLAT])))
    if options.profile:
        options.only, options.row = options.only[:1], [options.profile]
        if options.only[0] not in GROUPS:
            parser.error(f"{options.only[0]} has no rows to be profiled")
    for word in options.row or []:
        situations = chosen_situations([word]) if ISOLATION in options.only else []
        if not situations and not any(chosen(GROUPS[name], [word]) for name in options.only if name in GROUPS):
            parser.error(f"no row of {', '.join(options.only)} is called {word!r}; --list says which there are")
    return options


def present(group: Group) -> list[Kind]:
    """The servers of a group that can be run here; says which cannot."""
    kinds = []
    for kind in group.kinds:
        reason = missing(kind)
        if reason:
            print(f"{group.name}: {kind.name} is not measured, because {reason}")
        else:
            kinds.append(kind)
    return kinds


def _cell(directory: Path, processes: Processes, subject: Subject, row: Row, seconds: float) -> Cell:
    if row.copy:
        assert subject.copy is not None, subject
        return subject.copy()
    servers = [processes.pid_of(server) for server in subject.servers]
    count = partial(processes.syncs, subject.servers)
    return measure(directory, subject.client, subject.size, row, seconds, servers, count)


def _measure_missing(
    group: Group, kinds: list[Kind], rows: list[Row], rounds: int, seconds: float, size: int, record: Record
) -> None:
    """Start the servers of a group, put every load on each in turn, and end them."""
    with tempfile.TemporaryDirectory(prefix="dst-benchmark-") as name, Processes(Path(name)) as processes:
        directory = Path(name)
        subjects: list[Subject] = []
        for kind in kinds:
            subjects.append(kind.start(processes, directory, size))
            if kind.times_as_large == 1:
                fill(directory, subjects[-1].client, size)
        for number in range(rounds):
            # Each round begins with another server, so that what one leaves behind falls on each in turn.
            turn = number % len(subjects)
            for row in rows:
                # A row is measured for all servers, or for none: its ratio compares neighbours in time.
                if any(record.get(group.name, row.name, kind.name, number) is None for kind in kinds):
                    for subject in subjects[turn:] + subjects[:turn]:
                        cell = _cell(directory, processes, subject, row, seconds)
                        for server in subject.servers:
                            processes.check(server)
                        record.put(group.name, row.name, subject.kind.name, number, cell)
                    record.save()
            print(f"{group.name}: round {number + 1} of {rounds} done", file=sys.stderr, flush=True)


def run_group(group: Group, rows: list[Row], rounds: int, seconds: float, size: int, record: Record) -> Results:
    """Measure what the record does not have."""
    kinds = present(group)
    keys = [(row, kind, number) for row in rows for kind in kinds for number in range(rounds)]
    if any(record.get(group.name, row.name, kind.name, number) is None for row, kind, number in keys):
        _measure_missing(group, kinds, rows, rounds, seconds, size, record)
    results = Results(group, kinds, rows)
    for row, kind, number in keys:
        cell = record.get(group.name, row.name, kind.name, number)
        assert cell is not None, (group.name, row.name, kind.name, number)
        results.add(row, kind, cell)
    return results


def terminated(number: int, frame: object) -> NoReturn:
    """End as if by C{sys.exit}, so that the servers are ended too."""
    raise SystemExit(128 + number)


def _profiled(options: argparse.Namespace, size: int) -> None:
    group = GROUPS[options.only[0]]
    row = chosen(group, options.row)[0]
    if py_spy() is None:
        print("py-spy is not installed (pip install py-spy): cProfile it is, which slows the daemons down")
    for path in profile(group, row, options.seconds, size, options.output / "profile"):
        print(f"written: {path}")


def _measured(options: argparse.Namespace, size: int) -> None:
    about = machine()
    for key, value in about.items():
        print(f"{key:20} {value}")
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if busy(load, processors):
        print(f"\nThe machine is busy (load {load:.1f} on {processors} processors): conclude nothing from this.")
    settings = {key: about[key] for key in about if key not in ("load", "time")}
    settings |= {"seconds": options.seconds, "device_bytes": size}
    options.output.mkdir(parents=True, exist_ok=True)
    record = Record(options.output / "partial.json", settings)
    if options.resume:
        print(record.load())
    found: list[Results] = []
    flat: list[Flat] = []
    isolated: list[Found] = []
    failed: list[str] = []
    for name in options.only:
        try:
            if name == FLAT:
                flat = measure_flat(size, options.seconds)
                print(f"\n{FLAT}\n{flat_table(flat)}", flush=True)
            elif name == ISOLATION:
                situations = chosen_situations(options.row)
                isolated = measure_isolation(situations, options.rounds, options.seconds, record)
                print(f"\n{ISOLATION}: one slow thing beside it\n{isolation_table(isolated)}", flush=True)
            elif rows := chosen(GROUPS[name], options.row):
                found.append(run_group(GROUPS[name], rows, options.rounds, options.seconds, size, record))
                print(f"\n{name}: {found[-1].group.what}\n{found[-1].table()}\n\n{found[-1].costs()}", flush=True)
        except Failed as error:
            failed.append(name)
            print(f"\n{name}: not measured: {error}", file=sys.stderr, flush=True)
    figures = [figure for results in found for figure in results.figures()]
    figures += [each.figure() for each in isolated]
    figures += [figure for each in flat for figure in each.figures()]
    print(f"\n{goal_lines(figures)}")
    report = {**about, "rounds": options.rounds, "seconds": options.seconds, "device_bytes": size}
    report |= {"groups": [results.plain() for results in found], FLAT: [each.plain() for each in flat]}
    report |= {ISOLATION: [each.plain() for each in isolated]}
    (options.output / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    for results in found:
        (options.output / f"{results.group.name}.svg").write_text(results.plot())
    print(f"written: {options.output / 'results.json'} and a plot of each group beside it")
    if failed:
        raise Failed(f"not measured: {', '.join(failed)}; --resume measures what is missing")
    record.remove()


def main() -> int:
    """Run it; returns the exit status."""
    options = arguments()
    signal.signal(signal.SIGTERM, terminated)
    size = DEVICE_BYTES_QUICK if options.quick else DEVICE_BYTES
    try:
        if options.list:
            for group in GROUPS.values():
                print(f"{group.name}: {group.what}")
                for number, row in enumerate(group.rows, 1):
                    print(f"  {number}  {row.name:35} goal {group.goals[row]:g}")
            print(f"{ISOLATION}: one slow thing beside a modest client")
            for number, situation in enumerate(SITUATIONS, 1):
                print(f"  {number}  {situation.name:35} goal {ISOLATION_GOAL:g}")
            print(f"{FLAT}: flat in the size of the device and the length of the run")
        elif options.profile:
            _profiled(options, size)
        else:
            _measured(options, size)
    except Failed as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
