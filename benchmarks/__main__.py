"""
C{python -m benchmarks [--quick] [--rounds N] [--only GROUP] [--output DIR]}
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import dst
from benchmarks.fio import ROWS, Row, check_fio, fill, measure
from benchmarks.processes import Failed, Processes
from benchmarks.report import Results
from benchmarks.subjects import GROUPS, Kind, Subject, missing

DEVICE_BYTES = 256 << 20
"""Small enough for everybody's page cache: it is the servers that are compared, not the disk."""

DEVICE_BYTES_QUICK = 32 << 20


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="DST and its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works, not to compare")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds; the medians are told (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each measurement (default 3)")
    parser.add_argument("--only", choices=sorted(GROUPS), action="append", help="one group of servers")
    parser.add_argument("--row", type=int, action="append", metavar="N", help=f"one row of 1 to {len(ROWS)}")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), help="where the JSON and the plots go"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    if options.rounds < 1 or not 0 < options.seconds <= 600:
        parser.error("--rounds has to be 1 or more, and --seconds above 0 and up to 600")
    if any(not 1 <= number <= len(ROWS) for number in options.row or []):
        parser.error(f"--row has to be 1 to {len(ROWS)}")
    return options


def present(group: str) -> list[Kind]:
    """The servers of a group that can be run here; says which cannot."""
    kinds = []
    for kind in GROUPS[group]:
        absent = missing(kind)
        if absent:
            print(f"not measured: {kind.name}, because {' and '.join(absent)} is not installed")
        else:
            kinds.append(kind)
    return kinds


def run_group(group: str, rows: list[Row], rounds: int, seconds: float, size: int) -> Results:
    """Start the servers of a group, put every load on each in turn, and end them."""
    kinds = present(group)
    results = Results(group, kinds, rows)
    with tempfile.TemporaryDirectory(prefix="dst-benchmark-") as name, Processes(Path(name)) as processes:
        directory = Path(name)
        subjects: list[Subject] = []
        for kind in kinds:
            subjects.append(kind.start(processes, directory, size))
            fill(directory, subjects[-1].uri, size)
        for number in range(rounds):
            for row in rows:
                # Each round begins with another server, so that what one leaves behind falls on each in turn.
                turn = number % len(subjects)
                for subject in subjects[turn:] + subjects[:turn]:
                    results.add(row, subject.kind, measure(directory, subject.uri, size, row, seconds))
                    for server in subject.servers:
                        processes.check(server)
            print(f"{group}: round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return results


def terminated(number: int, frame: object) -> NoReturn:
    """End as if by C{sys.exit}, so that the servers are ended too."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run it; returns the exit status."""
    options = arguments()
    signal.signal(signal.SIGTERM, terminated)
    rows = [ROWS[number - 1] for number in options.row] if options.row else list(ROWS)
    size = DEVICE_BYTES_QUICK if options.quick else DEVICE_BYTES
    found = []
    try:
        fio = check_fio()
        print(f"DST {dst.__version__}, {fio}, {os.cpu_count()} processors, Linux {platform.release()}")
        for group in options.only or GROUPS:
            found.append(run_group(group, rows, options.rounds, options.seconds, size))
            print(f"\n{group}\n{found[-1].table()}\n", flush=True)
    except Failed as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    options.output.mkdir(parents=True, exist_ok=True)
    machine = {
        "dst": dst.__version__,
        "fio": fio,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "device_bytes": size,
    }
    report = {**machine, "groups": [results.plain() for results in found]}
    (options.output / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    for results in found:
        (options.output / f"{results.group}.svg").write_text(results.plot())
    print(f"written: {options.output / 'results.json'} and a plot of each group beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
