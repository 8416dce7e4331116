"""
One slow thing harms only its own.

One daemon with two exports, and a modest client that uses one of them.  On the other there is a disturbance: its disk
hangs, its nodes hang, its clients do not read, or flood.  The modest client is measured with it and without it, in
turns, and the ratio is told.

What it can expect is not the same everywhere.  Where something hangs, nobody else wants anything: it should have all
that it has alone.  Where a client floods there are two that want something, and each should have its share: it is
compared with what the modest client has beside one like itself.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

from attrs import asdict, define, field, frozen

from benchmarks.fio import Cell, Client, command_of, fill, measure, row_options
from benchmarks.processes import START_S_MAX, Failed, Processes, free_port, wait_for_export
from benchmarks.record import Record
from benchmarks.report import columns
from benchmarks.rows import Row
from benchmarks.strangers import NBDConnection
from benchmarks.subjects import CHECKOUT, dst_member, twistd

__all__ = ["GOAL", "NAME", "SITUATIONS", "Found", "Situation", "measure_isolation", "table"]

NAME = "isolation"
"""The group's, for the command."""

GOAL = 0.9
"""What of its throughput the modest client keeps, at least."""

MODEST = Row(False, 4096, 4, mixed=True)
"""The client that is measured: what it gets tells how long it waits, and it asks for no more than it needs."""

EXPORT_BYTES = 64 << 20
"""Of each export: all of it is in the page cache, and soon filled."""

SETTLE_S = 0.5
"""From the disturbance until it is measured: what was on its way has come to where it hangs."""

RECOVER_S_MAX = 120.0
"""What hung for some seconds works again long before."""

DISTURBED, CALM = "disturbed", "calm"


@define
class Stage:
    """
    A daemon that serves the export of the modest client, and the other.

    @ivar port: where it serves both.
    @ivar servers: all processes.
    @ivar hanging: processes that may be stopped.
    """

    processes: Processes
    directory: Path
    port: int
    servers: list[str] = field(factory=list)
    hanging: list[str] = field(factory=list)
    _strangers: int = 0

    def client(self, export: str) -> Client:
        """How fio gets there."""
        return Client(f"nbd://127.0.0.1:{self.port}/{export}")

    @contextmanager
    def beside(self, *command: str | Path, says_begun: bool = False) -> Iterator[None]:
        """Another program meanwhile."""
        self._strangers += 1
        name = f"stranger-{self._strangers}"
        self.processes.start(name, *command, environment={"PYTHONPATH": str(CHECKOUT)})
        try:
            if says_begun:
                self._wait(lambda: self._begun(name), name)
            time.sleep(SETTLE_S)
            yield
            self.processes.check(name)
        finally:
            self.processes.stop(name)

    def stranger(self, how: str, export: str, *options: str) -> AbstractContextManager[None]:
        """One of L{benchmarks.strangers}."""
        command = (sys.executable, "-m", "benchmarks.strangers", how, str(self.port), export, *options)
        return self.beside(*command, says_begun=True)

    def twin(self) -> AbstractContextManager[None]:
        """A client like the one that is measured, on the other export."""
        options = row_options(MODEST, 600)
        return self.beside(*command_of(self.client("other"), EXPORT_BYTES, *options))

    @contextmanager
    def hung(self, how: str, export: str, *options: str) -> Iterator[None]:
        """What is below C{export} hangs while a stranger uses it."""
        with ExitStack() as stack:
            stack.callback(self._recovered, export)
            stack.callback(self._signal, signal.SIGCONT)
            with self.stranger(how, export, *options):
                self._signal(signal.SIGSTOP)
                time.sleep(SETTLE_S)
                yield

    def _signal(self, number: int) -> None:
        for name in self.hanging:
            self.processes.signal(name, number)

    def _recovered(self, export: str) -> None:
        """It works again: a write, which comes after all that were stuck, is answered."""

        def works() -> bool:
            try:
                with closing(NBDConnection(self.port, export)) as connection:
                    connection.write(0, bytes(4096), RECOVER_S_MAX)
            except OSError:
                return False
            return True

        self._wait(works, export)

    def _begun(self, name: str) -> bool:
        self.processes.check(name)
        return "begun" in self.processes.log_of(name).read_text(errors="replace")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + RECOVER_S_MAX
        while not condition():
            for server in self.servers:
                self.processes.check(server)
            if time.monotonic() > end:
                raise Failed(f"{what} is not ready after {RECOVER_S_MAX:g} s")
            time.sleep(0.02)


# -- stages


def _owner(stage: Stage, topology: str) -> Stage:
    text = f"""
        [daemon]
        state_dir = "state"
        [listeners]
        nbd = "tcp:{stage.port}:interface=127.0.0.1"
        {topology}
    """
    twistd(stage.processes, "daemon", stage.directory, text)
    stage.servers.append("daemon")
    for export in ("vol", "other"):
        wait_for_export(stage.processes, stage.servers, stage.port, export)
        fill(stage.directory, stage.client(export), EXPORT_BYTES)
    return stage


def _files(processes: Processes, directory: Path) -> Stage:
    """Two files."""
    stage = Stage(processes, directory, free_port())
    return _owner(stage, _exports(f'"file:vol.img?size={EXPORT_BYTES}"', f'"file:other.img?size={EXPORT_BYTES}"'))


def _exports(vol: str, other: str) -> str:
    return f"""
        [nodes.vol]
        uri = {vol}
        [nodes.other]
        uri = {other}
        [exports.vol]
        device = "vol"
        [exports.other]
        device = "other"
    """


def _file_that_hangs(processes: Processes, directory: Path) -> Stage:
    """Two files, one of them on a file system whose server can be stopped: then system calls hang in the kernel."""
    stage = Stage(processes, directory, free_port())
    mounted = directory / "mounted"
    mounted.mkdir()
    served = ["[", "nbdkit", "--exit-with-parent", "memory", f"{EXPORT_BYTES}", "]"]
    processes.start("fuse", "nbdfuse", mounted / "disk", *served)
    processes.unmount_in_the_end(mounted)
    end = time.monotonic() + START_S_MAX
    while not (mounted / "disk").exists():
        processes.check("fuse")
        if time.monotonic() > end:
            raise Failed(f"nbdfuse has mounted nothing{processes.last_words('fuse')}")
        time.sleep(0.02)
    stage.hanging.append("fuse")
    return _owner(stage, _exports(f'"file:vol.img?size={EXPORT_BYTES}"', f'"file:{mounted / "disk"}"'))


def _nodes_that_hang(processes: Processes, directory: Path) -> Stage:
    """Two mirrors of two remote nodes each; the daemons of those of one can be stopped."""
    stage = Stage(processes, directory, free_port())
    text = []
    for storage, letters in (("vol", "ab"), ("other", "xy")):
        for letter in letters:
            uri = dst_member(processes, directory, EXPORT_BYTES, "node", letter)
            stage.servers.append(f"node-{letter}")
            text.append(f'[nodes.{letter}]\nuri = "{uri}"')
        listed = ", ".join(f'"{letter}"' for letter in letters)
        text.append(f'[storages.{storage}]\nalgorithm = "mirror"\nnodes = [{listed}]')
        text.append(f'[exports.{storage}]\ndevice = "{storage}"')
    stage.hanging += ["node-x", "node-y"]
    return _owner(stage, "\n".join(text))


# -- situations


@frozen
class Situation:
    """
    A disturbance, and what it is compared with.

    @ivar programs: what has to be installed, beside fio.
    @ivar disturbed: lasts as long as the disturbance.
    @ivar calm: what is there without it.
    """

    name: str
    stage: Callable[[Processes, Path], Stage]
    disturbed: Callable[[Stage], AbstractContextManager[None]]
    calm: Callable[[Stage], AbstractContextManager[None]]
    programs: tuple[str, ...] = ()

    def missing(self) -> str:
        """Why it cannot be measured here, as the end of a sentence; nothing if it can."""
        absent = [program for program in self.programs if shutil.which(program) is None]
        return f"{' and '.join(absent)} is not installed" if absent else ""


@contextmanager
def _nobody(stage: Stage) -> Iterator[None]:
    yield


def _hung(*options: str) -> Callable[[Stage], AbstractContextManager[None]]:
    return lambda stage: stage.hung("flood", "other", "--write", *options)


def _flood(name: str, *options: str) -> Situation:
    return Situation(name, _files, lambda stage: stage.stranger("flood", "other", *options), Stage.twin)


_FUSE = ("nbdfuse", "nbdkit", "fusermount3")
_LARGE = str(32 << 20)
_MANY_LARGE = ("--connections", "16", "--bytes", str(1 << 20))
"""Together they may hold more memory than there is for all clients."""

SITUATIONS = (
    Situation("a disk hangs", _file_that_hangs, _hung(), _nobody, _FUSE),
    Situation("a disk hangs, 16 clients", _file_that_hangs, _hung(*_MANY_LARGE), _nobody, _FUSE),
    Situation("nodes hang", _nodes_that_hang, _hung(), _nobody),
    Situation("nodes hang, 16 clients", _nodes_that_hang, _hung(*_MANY_LARGE), _nobody),
    Situation(
        "16 clients do not read",
        _files,
        lambda stage: stage.stranger("deaf", "other", *_MANY_LARGE),
        _nobody,
    ),
    _flood("flood of 4 KiB reads"),
    _flood("flood of 4 KiB writes", "--write"),
    _flood("flood of 32 MiB reads", "--bytes", _LARGE),
    _flood("flood of 32 MiB writes", "--bytes", _LARGE, "--write"),
)


@define
class Found:
    """What was measured in one situation, a cell for each round."""

    situation: Situation
    disturbed: list[Cell] = field(factory=list)
    calm: list[Cell] = field(factory=list)

    @property
    def ratios(self) -> list[float]:
        """Of the rounds; each compares neighbours in time."""
        return [one.per_s / other.per_s for one, other in zip(self.disturbed, self.calm, strict=True)]

    def figure(self) -> tuple[str, str, str, bool]:
        """For L{benchmarks.report.goal_lines}."""
        ratio = median(self.ratios)
        return f"{NAME}: {self.situation.name}", f"{ratio:.2f}", f"{GOAL:g}", ratio >= GOAL

    def plain(self) -> dict[str, object]:
        """As JSON types."""
        ratio = median(self.ratios)
        rounds = {DISTURBED: [asdict(cell) for cell in self.disturbed], CALM: [asdict(cell) for cell in self.calm]}
        return {"name": self.situation.name, "ratio": ratio, "goal": GOAL, "met": ratio >= GOAL, "rounds": rounds}


def chosen_situations(words: Sequence[str] | None) -> list[Situation]:
    """Those that were asked for: by number, or by a part of the name; all if nothing was asked."""
    return [
        situation
        for number, situation in enumerate(SITUATIONS, 1)
        if not words
        or any(word == str(number) if word.isdigit() else word.lower() in situation.name.lower() for word in words)
    ]


def measure_isolation(situations: Sequence[Situation], rounds: int, seconds: float, record: Record) -> list[Found]:
    """Measure what the record does not have."""
    found = []
    for situation in situations:
        if reason := situation.missing():
            print(f"{NAME}: {situation.name!r} is not measured, because {reason}")
            continue
        numbers = [number for number in range(rounds) if _kept(record, situation, number) is None]
        if numbers:
            _measure_missing(situation, numbers, seconds, record)
            print(f"{NAME}: {situation.name}: done", file=sys.stderr, flush=True)
        cells = [_kept(record, situation, number) for number in range(rounds)]
        found.append(Found(situation))
        for cell in cells:
            assert cell is not None
            found[-1].disturbed.append(cell[0])
            found[-1].calm.append(cell[1])
    return found


def _kept(record: Record, situation: Situation, number: int) -> tuple[Cell, Cell] | None:
    disturbed = record.get(NAME, situation.name, DISTURBED, number)
    calm = record.get(NAME, situation.name, CALM, number)
    return None if disturbed is None or calm is None else (disturbed, calm)


def _measure_missing(situation: Situation, numbers: list[int], seconds: float, record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="dst-benchmark-") as name, Processes(Path(name)) as processes:
        stage = situation.stage(processes, Path(name))
        for number in numbers:
            turns = [(DISTURBED, situation.disturbed), (CALM, situation.calm)]
            if number % 2:
                turns.reverse()  # what one leaves behind falls on each in turn
            for what, circumstances in turns:
                with circumstances(stage):
                    pids = [processes.pid_of(server) for server in stage.servers]
                    cell = measure(Path(name), stage.client("vol"), EXPORT_BYTES, MODEST, seconds, pids)
                record.put(NAME, situation.name, what, number, cell)
            record.save()


def table(found: Sequence[Found]) -> str:
    """A situation a line."""
    lines = [["a modest client, operations a second", DISTURBED, CALM, "ratio", "of rounds", "p99 ms", "goal", ""]]
    for each in found:
        _name, ratio, goal, met = each.figure()
        sides = (each.disturbed, each.calm)
        p99 = [median(cell.latency_us_p99 for cell in cells) / 1000 for cells in sides]
        lines.append(
            [
                each.situation.name,
                *(f"{median(cell.per_s for cell in cells):,.0f}" for cells in sides),
                ratio,
                f"{min(each.ratios):.2f}-{max(each.ratios):.2f}",
                f"{p99[0]:.1f} / {p99[1]:.1f}",
                goal,
                "met" if met else "NOT MET",
            ]
        )
    return columns(lines)
