"""
C{python -m test.campaign [--rounds 500] [--seed N] [--jobs 3] [--keep DIR]}.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from test.campaign.campaign import ROUNDS_PER_CLUSTER, Campaign
from test.campaign.cluster import ROOT, SHAPES

__all__ = ["Report", "main"]

JOBS = 3
"""A round waits more than it works: leases, grace times, clients that give up."""


class Report:
    """
    What came of all rounds.

    @ivar failures: what the failed rounds said.
    """

    def __init__(self) -> None:
        self.rounds = 0
        self.failures: list[dict[str, Any]] = []
        self.faults: Counter[str] = Counter()
        self.scenarios: Counter[str] = Counter()
        self.shapes: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.recoveries_s: dict[str, list[float]] = {}
        self.gaps_s: dict[str, list[float]] = {}
        self.errors: Counter[str] = Counter()
        self._began_s = time.monotonic()

    def add(self, result: dict[str, Any]) -> None:
        """One round."""
        if "failed" in result:
            self.failures.append(result)
            return
        self.rounds += 1
        self.faults.update(result["faults"])
        self.scenarios[result["scenario"]] += 1
        self.shapes[result["shape"]] += 1
        self.errors.update({f"{result['scenario']}: {what}": count for what, count in result["errors"].items()})
        for key in ("blocks", "answered", "writes", "flushes", "lost_sectors", "loss_possible", "ages_compared"):
            self.sums[key] += result[key]
        self.recoveries_s.setdefault(result["scenario"], []).append(result["recovery_s"])
        self.gaps_s.setdefault(result["scenario"], []).append(result["gap_s"])

    def line(self, wanted: int) -> str:
        """How it goes."""
        took_s = time.monotonic() - self._began_s
        rate = self.rounds / took_s if took_s else 0.0
        left = f", {(wanted - self.rounds) / rate / 60:.0f} min left" if rate else ""
        return (
            f"{self.rounds} of {wanted} rounds, {sum(self.faults.values())} faults, "
            f"{self.sums['blocks']} blocks verified, {len(self.failures)} failed{left}"
        )

    def text(self) -> str:
        """All of it."""
        took_s = time.monotonic() - self._began_s
        lines = [f"{self.rounds} rounds in {took_s / 60:.1f} min, on {dict(self.shapes)}"]
        lines += [f"  {count:6} x {what}" for what, count in self.faults.most_common()]
        lines.append(f"  {sum(self.faults.values()):6} faults in all")
        sums = self.sums
        lines.append(
            f"{sums['blocks']} blocks verified; {sums['answered']} requests answered, {sums['writes']} changes, "
            f"{sums['flushes']} flushes; {sums['ages_compared']} regions of equal age compared on dead media"
        )
        lines.append(
            f"unflushed writes could be lost in {sums['loss_possible']} rounds, and {sums['lost_sectors']} sectors "
            "were, each to a state since the last flush, and equally on all copies"
        )
        if self.recoveries_s:
            recoveries_s = [each for some in self.recoveries_s.values() for each in some]
            lines.append(
                f"from the last repair to full redundancy: median {median(recoveries_s):.2f} s, "
                f"longest {max(recoveries_s):.2f} s"
            )
            lines.append("by scenario: repair (median, longest), longest time without an answer (median, longest)")
            for name, gaps_s in sorted(self.gaps_s.items()):
                some = self.recoveries_s[name]
                lines.append(
                    f"  {median(some):6.2f} s {max(some):6.2f} s   {median(gaps_s):6.2f} s {max(gaps_s):6.2f} s"
                    f"   {name} ({len(gaps_s)})"
                )
        if self.errors:
            lines.append("errors that the client was told:")
            lines += [f"  {count:6} x {what}" for what, count in sorted(self.errors.items())]
        for failed in self.failures:
            lines.append(
                f"FAILED: seed {failed['seed']} round {failed['round']} "
                f"({failed.get('shape')}, {failed.get('scenario')}): {failed['failed']}\n"
                f"  everything is in {failed['directory']}; again: "
                f"python -m test.campaign --seed {failed['seed']} --jobs 1"
            )
        if self.rounds and not self.failures:
            lines.append("nothing flushed was lost, nothing stale was read, every copy was equal")
        return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """@return: the exit status: 0, or 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m test.campaign", description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=JOBS, help="campaigns side by side")
    parser.add_argument(
        "--keep", type=Path, default=None, help="where media and logs are; of a failed round they stay"
    )
    parser.add_argument("--shapes", nargs="*", choices=sorted(SHAPES), default=None)
    parser.add_argument("--scenario", default=None, help="only this one")
    parser.add_argument("--one", action="store_true", help="one campaign in this process, as lines of JSON")
    parser.add_argument("--without", default=None, help="daemons that do not keep this rule: will it be noticed?")
    parser.add_argument("--keep-all", action="store_true", help="media and logs stay also if all went well")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupted)
    seed = secrets.randbelow(100_000) if given.seed is None else given.seed
    directory = given.keep or Path(tempfile.mkdtemp(prefix="dst-crash-"))
    if given.without:
        os.environ["DST_CAMPAIGN_WITHOUT"] = given.without  # to the campaigns, and from them to the daemons
    if given.one:
        campaign = Campaign(seed, directory, shapes=given.shapes, scenario=given.scenario, keep=given.keep_all)
        try:
            return 0 if campaign.run(given.rounds) else 1
        except KeyboardInterrupt:
            return 130
    print(f"crash campaign: {given.rounds} rounds, seed {seed}, in {directory}", flush=True)
    report = Report()
    try:
        _run(report, given, seed, directory)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
    print("\n" + report.text(), flush=True)
    return 1 if report.failures or not report.rounds else 0


def _interrupted(number: int, frame: object) -> None:
    """No daemon is left behind."""
    raise KeyboardInterrupt


def _run(report: Report, given: argparse.Namespace, seed: int, directory: Path) -> None:
    """Campaigns side by side, each for one cluster's worth of rounds, until there are enough."""
    todo = [min(ROUNDS_PER_CLUSTER, given.rounds - at) for at in range(0, given.rounds, ROUNDS_PER_CLUSTER)]
    selector = selectors.DefaultSelector()
    running: dict[subprocess.Popen[bytes], bytearray] = {}
    try:
        while todo or running:
            while todo and len(running) < given.jobs and not report.failures:
                process = _begin(given, seed, todo.pop(0), directory)
                seed += 1
                running[process] = bytearray()
                selector.register(process.stdout, selectors.EVENT_READ, process)  # type: ignore[arg-type]
            if not running:
                break
            for key, _ in selector.select():
                _hear(report, key.data, running, selector)
            print(f"\r{report.line(given.rounds)}   ", end="" if sys.stdout.isatty() else "\n", flush=True)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _begin(given: argparse.Namespace, seed: int, rounds: int, directory: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "test.campaign", "--one", "--rounds", str(rounds), "--seed", str(seed)]
    command += ["--keep", str(directory)]
    if given.shapes:
        command += ["--shapes", *given.shapes]
    if given.keep_all:
        command += ["--keep-all"]
    if given.scenario:
        command += ["--scenario", given.scenario]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)


def _hear(
    report: Report,
    process: subprocess.Popen[bytes],
    running: dict[subprocess.Popen[bytes], bytearray],
    selector: selectors.BaseSelector,
) -> None:
    assert process.stdout is not None
    data = process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
    received = running[process]
    received += data
    while b"\n" in received:
        line, _, rest = received.partition(b"\n")
        received[:] = rest
        report.add(json.loads(line))
    if not data:
        selector.unregister(process.stdout)
        process.stdout.close()
        status = process.wait()
        del running[process]
        if status and not report.failures:
            report.failures.append(
                {
                    "seed": -1,
                    "round": -1,
                    "failed": f"a campaign ended with {status}",
                    "directory": "its messages above",
                }
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
