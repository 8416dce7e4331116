"""
One campaign: clusters one after the other, rounds on each, and one line of JSON for each round.

Several run side by side, each a process of its own; see L{test.campaign.__main__}.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

from attrs import asdict

from test.campaign.cluster import REGION_BYTES, SHAPES, CampaignCluster, Shape
from test.campaign.history import BLOCK_BYTES, History
from test.campaign.rounds import HEAL_S_MAX, Round, RoundResult
from test.campaign.scenarios import scenarios_for

__all__ = ["Campaign", "ROUNDS_PER_CLUSTER"]

ROUNDS_PER_CLUSTER = 20
"""After so many a new cluster is made: another shape, and media on which nothing is left of what happened."""


class Campaign:
    """Rounds until it is told to stop, or until a promise is broken."""

    def __init__(
        self,
        seed: int,
        directory: Path,
        *,
        shapes: list[str] | None = None,
        scenario: str | None = None,
        keep: bool = False,
    ) -> None:
        """@param keep: leave media and logs also if all went well."""
        self._keep = keep
        self._seed = seed
        self._directory = directory
        self._shapes = [SHAPES[name] for name in shapes or SHAPES]
        self._scenario = scenario
        self._cluster: CampaignCluster | None = None
        self._history: History | None = None
        self._log_file: Any = None

    def run(self, rounds: int) -> bool:
        """@return: nothing was broken."""
        try:
            return all(self._round(number) for number in range(rounds))
        finally:
            self._close(keep=self._keep)

    def _round(self, number: int) -> bool:
        randomness = Random(f"{self._seed} {number}")
        result: dict[str, Any] = {"seed": self._seed, "round": number}
        try:
            if number % ROUNDS_PER_CLUSTER == 0:
                self._next_cluster(number // ROUNDS_PER_CLUSTER)
            cluster, history = self._cluster, self._history
            assert cluster is not None and history is not None
            result["shape"] = cluster.shape.name
            self._log(f"== round {number} of seed {self._seed}, {cluster.shape.name}")
            choice = scenarios_for(len(cluster.shape.owners))
            name = self._scenario or randomness.choices(list(choice), [weight for _, weight in choice.values()])[0]
            result["scenario"] = name
            done: RoundResult = Round(cluster, history, randomness, self._log).run(name, choice[name][0])
            result.update(asdict(done))
        except BaseException as error:
            result["failed"] = f"{type(error).__name__}: {error}"
            result["directory"] = str(self._cluster.directory) if self._cluster else str(self._directory)
            self._log(f"FAILED: {traceback.format_exc()}")
            self._close(keep=True)
            if isinstance(error, KeyboardInterrupt):
                raise
        json.dump(result, sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()
        return "failed" not in result

    def _next_cluster(self, number: int) -> None:
        self._close(keep=self._keep)
        shape: Shape = self._shapes[(self._seed + number) % len(self._shapes)]
        directory = self._directory / f"{shape.name}-{self._seed}-{number}"
        cluster = self._cluster = CampaignCluster(shape, directory, self._seed * 1000 + number)
        self._log_file = (directory / "campaign.log").open("w", buffering=1)  # noqa: SIM115 - as long as the cluster
        cluster.start_all()
        owner = cluster.until_whole(HEAL_S_MAX)
        tree = cluster.status(owner)
        assert tree is not None
        self._history = History(tree["size"] // BLOCK_BYTES)
        self._log(f"{tree['size']} bytes in regions of {REGION_BYTES}")

    def _close(self, *, keep: bool) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()
            self._log_file.close()
            if not keep:
                shutil.rmtree(cluster.directory)

    def _log(self, line: str) -> None:
        if self._log_file is not None and not self._log_file.closed:
            now_s = time.time()
            clock = time.strftime("%H:%M:%S", time.localtime(now_s))
            self._log_file.write(f"{clock}.{int(now_s * 1000) % 1000:03d} {line}\n")
