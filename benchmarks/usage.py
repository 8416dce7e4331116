"""
What the servers take: processor time and the most memory, of each process and of those that it has started.

A server that forks for each connection has ended its children when the client is gone, and some never wait for them.
So a thread looks while the load is on; what a child does between the last look and its end is not counted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import frozen

__all__ = ["Usage", "Watch", "family", "parse_peak_bytes", "parse_stat"]

LOOK_INTERVAL_S = 0.1
"""A look at some hundred processes takes 2 ms of processor time, from every server alike."""

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_RESET_PEAK = "5"  # proc(5), clear_refs: VmHWM begins anew


@frozen
class Usage:
    """
    @ivar processor_s: user and system, of all processes.
    @ivar peak_bytes: the sum of the most that each process had in memory; pages that processes share count for each.
    """

    processor_s: float
    peak_bytes: int


def parse_stat(text: str) -> tuple[int, float]:
    """Parent and processor time so far, of one C{/proc/PID/stat}; the name in it may contain anything."""
    words = text.rpartition(")")[2].split()
    return int(words[1]), (int(words[11]) + int(words[12])) / _CLOCK_TICKS


def parse_peak_bytes(text: str) -> int:
    """C{VmHWM} of one C{/proc/PID/status}; 0 for a process that has just ended."""
    for line in text.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def family(parents: Mapping[int, int], roots: Iterable[int]) -> set[int]:
    """The C{roots} that are there, and all that they have started, by who is whose parent."""
    found = {root for root in roots if root in parents}
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found


def _look(roots: Iterable[int]) -> dict[int, float]:
    """Processor time so far, by process."""
    parents, times = {}, {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent, time_s = parse_stat(Path(f"/proc/{name}/stat").read_text())
            except OSError:
                continue  # it has ended meanwhile
            parents[int(name)], times[int(name)] = parent, time_s
    return {pid: times[pid] for pid in family(parents, roots)}


class Watch:
    """
    Watches servers as long as the C{with} block lasts.

    @ivar usage: afterwards, what they took in that time.
    """

    usage = Usage(0.0, 0)

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = tuple(roots)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before: dict[int, float] = {}
        self._times: dict[int, float] = {}
        self._peaks: dict[int, int] = {}

    def __enter__(self) -> Watch:
        self._before = _look(self._roots)
        for pid in self._before:
            try:
                Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)
            except OSError:
                pass  # not allowed: it is the most of its life then
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()
        self._note()
        used = sum(time_s - self._before.get(pid, 0.0) for pid, time_s in self._times.items())
        self.usage = Usage(used, sum(self._peaks.values()))

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_INTERVAL_S):
            self._note()

    def _note(self) -> None:
        for pid, time_s in _look(self._roots).items():
            self._times[pid] = max(time_s, self._times.get(pid, 0.0))
            try:
                peak = parse_peak_bytes(Path(f"/proc/{pid}/status").read_text())
            except OSError:
                continue
            self._peaks[pid] = max(peak, self._peaks.get(pid, 0))
