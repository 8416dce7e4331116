"""
Many random lives, and what they were made of.

::

    python -m test.scenarios.walk                       200 seeds of the default mixture
    python -m test.scenarios.walk --seeds 10000 --jobs 2
    python -m test.scenarios.walk --first 4711          one seed, with its history when it fails
    python -m test.scenarios.walk --one-owner 3 --seeds 100
    python -m test.scenarios.walk --first 1000000 --seeds 100      storages that answer with errors

The default mixture is mirrors of two to five, with and without witnesses, with one to three daemons that may own
them, some on members that are storages themselves. A seed that fails is printed, the run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from twisted.logger import globalLogBeginner

from test.scenarios.lives import live, shape_of
from test.scenarios.mutations import without
from test.scenarios.one_owner import Walk, walk

__all__ = ["Walk", "run_batch"]

BATCH = 50
"""Seeds that one process lives: what was killed stays in memory until that ends."""


def words_of(shape: dict[str, Any]) -> str:
    """What a cluster is made of."""
    below = " and ".join(each for each in shape["nested"] if each)
    counted = ", ".join(f"{shape[what]} {what}" for what in ("members", "witnesses", "owners") if shape[what])
    return f"{counted}{', below them a ' if below else ''}{below}"


def run_batch(first: int, count: int, one_owner: int = 0, rules_off: tuple[str, ...] = ()) -> dict[str, Any]:
    """Some seeds, one after the other; what broke, and what was done to them."""
    faults: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    broken: dict[int, str] = {}
    simulated_s, acknowledged = 0.0, 0
    for seed in range(first, first + count):
        try:
            with without(*rules_off):
                if one_owner:
                    walk(seed, one_owner)
                    continue
                life = live(seed)
        except Exception as error:
            broken[seed] = f"{type(error).__name__}: {error}"
            continue
        faults.update(life.cluster.faults)
        shapes[words_of(shape_of(seed))] += 1
        simulated_s += life.cluster.now
        acknowledged += life.cluster.checker.acknowledged
    return {
        "broken": broken,
        "faults": faults,
        "shapes": shapes,
        "simulated_s": simulated_s,
        "acknowledged": acknowledged,
        "seeds": count,
    }


def run_many(options: argparse.Namespace) -> int:
    """In C{jobs} processes; prints as it goes. @return: how many were wrong."""
    starts = list(range(options.first, options.first + options.seeds, BATCH))
    running: list[subprocess.Popen[str]] = []
    total: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    wrong = 0
    began = time.monotonic()
    while starts or running:
        if options.seconds and time.monotonic() - began > options.seconds:
            starts = []
        while starts and len(running) < options.jobs:
            first = starts.pop(0)
            count = min(BATCH, options.first + options.seeds - first)
            command = [sys.executable, "-m", "test.scenarios.walk", "--batch", "--first", str(first)]
            command += ["--seeds", str(count), "--one-owner", str(options.one_owner)]
            for rule in options.without:
                command += ["--without", rule]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        if not running:
            break  # the time was over when none was under way
        process = running.pop(0)
        printed, _ = process.communicate()
        if process.returncode or not printed.strip():
            print(f"a batch ended by itself: {process.args}", flush=True)
            wrong += 1
            continue
        result = json.loads(printed)
        for seed, error in result["broken"].items():
            wrong += 1
            print(f"seed {seed}: {error[:600]}", flush=True)
        faults.update(result["faults"])
        shapes.update(result["shapes"])
        total.update({key: result[key] for key in ("simulated_s", "acknowledged", "seeds")})
    seconds = time.monotonic() - began
    print(f"{total['seeds']} lives, {wrong} wrong, {seconds:.0f} s ({total['seeds'] / seconds:.1f} a second)")
    print(f"{total['simulated_s'] / 3600:.1f} h simulated, {total['acknowledged']} writes acknowledged")
    for what, counts in (("faults", faults), ("clusters", shapes)):
        if counts:
            print(f"{what}: " + "; ".join(f"{name} {number}" for name, number in counts.most_common()))
    return wrong


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m test.scenarios.walk")
    parser.add_argument("--first", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no more after that time")
    parser.add_argument("--one-owner", type=int, default=0, metavar="MEMBERS")
    parser.add_argument("--without", action="append", default=[], metavar="RULE")
    parser.add_argument("--batch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    if options.first is not None and options.seeds is None:
        alone(options)
    options.first, options.seeds = options.first or 0, options.seeds or 200
    if options.batch:
        print(json.dumps(run_batch(options.first, options.seeds, options.one_owner, tuple(options.without))))
        sys.stdout.flush()
        os._exit(0)  # nothing is collected: the killed would go on
    sys.exit(bool(run_many(options)))


def alone(options: argparse.Namespace) -> None:
    """One seed, with its history."""
    status = 0
    try:
        with without(*options.without):
            if options.one_owner:
                walk(options.first, options.one_owner)
            else:
                live(options.first)
    except Exception as error:
        status = 1
        life = getattr(error, "life", None)
        if life is not None:
            print(f"{shape_of(options.first)}")
            print("\n".join(life.log))
        print(f"{type(error).__name__}: {error}")
    print("wrong" if status else "well")
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
