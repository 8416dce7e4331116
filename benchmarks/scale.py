"""
How cost grows: C{python -m benchmarks.scale [--only CASE] [--profile DIR]}.

Each case is a daemon that is started with more and more of one thing (members, storages, sessions, bytes), and asked
what an operator, a page and Prometheus ask.  What it takes of memory and processor is read from the system.  Nothing
is compared with anybody: what counts is how a figure grows from one line to the next.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from attrs import asdict, frozen

from benchmarks.ours import Daemon, daemon_of
from benchmarks.processes import Failed, Processes, free_port

__all__ = ["CASES", "Cost", "main"]

READY_S_MAX = 300.0
"""Storages that are not served by then will not be."""

IDLE_S = 3.0
"""For so long nothing is asked, and the processor time counted all the same."""

ASKED = ("/v1/status", "/v1/explain", "/v1/health", "/v1/exports", "/v1/sessions", "/v1/events", "/metrics")

TIMES_ASKED = 3

MEMBER_BYTES = 4 << 20
REGION_BYTES = 64 << 10

_IHAVEOPT = b"IHAVEOPT"
_NBD_FIXED_NO_ZEROES = 3
_NBD_OPT_GO = 7
_NBD_REP_ACK = 1
_NBD_REP_ERROR = 1 << 31
_NBD_REQUEST = struct.Struct(">IHHQQI")
_NBD_REQUEST_MAGIC = 0x25609513


@frozen
class Cost:
    """
    What one daemon takes.

    @ivar number: of what the case grows.
    @ivar started_s: until it answers an operator.
    @ivar served_s: from then until everything is served.
    @ivar again_s: how long the second start takes, with everything initialised, until everything is served.
    @ivar peak_bytes: the most memory it has had.
    @ivar idle: the part of one processor it takes while nothing is asked.
    @ivar answers: seconds and bytes, by path.
    """

    case: str
    number: int
    started_s: float
    served_s: float
    again_s: float
    resident_bytes: int
    peak_bytes: int
    idle: float
    answers: dict[str, tuple[float, int]]


@frozen
class Case:
    """
    Something that grows.

    @ivar topology: for a number, and the NBD port.
    @ivar use: done once it serves; what it returns is kept until the figures are taken.
    """

    name: str
    what: str
    numbers: tuple[int, ...]
    topology: Callable[[int, int], str]
    use: Callable[[int, int], list[socket.socket]] = lambda number, port: []


# -- what grows


def _export(port: int) -> str:
    return f'[listeners]\nnbd = "tcp:{port}:interface=127.0.0.1"\n[exports.vol]\ndevice = "vol"\n'


def _mirror(name: str, members: list[str], options: str = "") -> str:
    listed = ", ".join(f'"{member}"' for member in members)
    return f'[storages.{name}]\nalgorithm = "mirror"\nnodes = [{listed}]\n{options}\n'


def _members(number: int, port: int) -> str:
    names = [f"m{index:03}" for index in range(number)]
    nodes = "".join(f'[nodes.{name}]\nuri = "memory:?size={MEMBER_BYTES}"\n' for name in names)
    return nodes + _mirror("vol", names, f"region_size = {REGION_BYTES}") + _export(port)


def _storages(number: int, port: int) -> str:
    text = []
    for index in range(number):
        names = [f"n{index:04}{letter}" for letter in "ab"]
        text += [f'[nodes.{name}]\nuri = "memory:?size={MEMBER_BYTES}"\n' for name in names]
        text.append(_mirror("vol" if index == 0 else f"s{index:04}", names, f"region_size = {REGION_BYTES}"))
    return "".join(text) + _export(port)


def _files(number: int, port: int) -> str:
    text = []
    for index in range(number):
        name = f"f{index:04}"
        text.append(f'[nodes.{name}]\nuri = "file:{name}-{number}.img?size={MEMBER_BYTES}"\n')
        text.append(_mirror("vol" if index == 0 else f"s{index:04}", [name], f"region_size = {REGION_BYTES}"))
    return "".join(text) + _export(port)


def _tebibytes(number: int, port: int) -> str:
    nodes = "".join(f'[nodes.{letter}]\nuri = "file:{letter}-{number}.img?size={number}G"\n' for letter in "ab")
    return nodes + _mirror("vol", ["a", "b"]) + _export(port)


def _one(number: int, port: int) -> str:
    return _members(2, port)


def _sessions(number: int, port: int) -> list[socket.socket]:
    """Clients that have opened the export and read one block each."""
    clients = []
    for _ in range(number):
        client = socket.create_connection(("127.0.0.1", port), 30)
        clients.append(client)
        _open_export(client, b"vol")
    for client in clients:
        client.sendall(_NBD_REQUEST.pack(_NBD_REQUEST_MAGIC, 0, 0, 1, 0, 4096))
    for client in clients:
        _receive(client, 16 + 4096)
    return clients


def _receive(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise Failed("the server has hung up on a client")
        data += more
    return data


def _open_export(client: socket.socket, name: bytes) -> None:
    _receive(client, 18)
    payload = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    client.sendall(
        struct.pack(">I", _NBD_FIXED_NO_ZEROES) + _IHAVEOPT + struct.pack(">II", _NBD_OPT_GO, len(payload)) + payload
    )
    while True:
        _magic, _option, kind, length = struct.unpack(">QIII", _receive(client, 20))
        told = _receive(client, length)
        if kind == _NBD_REP_ACK:
            return
        if kind & _NBD_REP_ERROR:
            raise Failed(f"a client was refused: {told!r}")


CASES = [
    Case("members", "members of one mirror, in memory", (2, 20, 100, 200), _members),
    Case("storages", "mirrors of two members in memory", (10, 100, 1000), _storages),
    Case("files", "storages of one file each", (10, 100, 1000), _files),
    Case("device", "GiB, a mirror of two sparse files", (1, 1024, 16 * 1000), _tebibytes),
    Case("sessions", "NBD clients of one mirror", (1, 100, 1000), _one, _sessions),
]


# -- what is measured


def _wait_until_served(daemon: Daemon) -> float:
    """Everything is healthy (a mirror on empty media initialises itself); returns how long it took."""
    begun = time.monotonic()
    while True:
        told = daemon.good("/v1/status").plain()
        assert isinstance(told, dict), told
        words = {storage["health"] for storage in told["storages"]}
        if words == {"healthy"}:
            return time.monotonic() - begun
        if time.monotonic() - begun > READY_S_MAX:
            raise Failed(f"{daemon.name}: not healthy after {READY_S_MAX:g} s: {sorted(words)}")
        time.sleep(0.05)


def measure(case: Case, number: int, profile: Path | None) -> Cost:
    """Start it, make it serve, start it once more, use it, ask it."""
    with tempfile.TemporaryDirectory(prefix="dst-scale-") as directory:
        place = Path(directory)
        port = free_port()
        topology = case.topology(number, port)
        lasting = "memory:" not in topology
        with Processes(place) as processes:
            first = daemon_of(processes, place, case.name, topology, profile=_profile(profile, case, number, "first"))
            served_s = _wait_until_served(first)
            if not lasting:
                return _cost(case, number, port, first, served_s, 0.0)
        with Processes(place) as processes:
            again = daemon_of(processes, place, case.name, topology, profile=_profile(profile, case, number, "again"))
            again_s = again.started_s + _wait_until_served(again)
            return _cost(case, number, port, again, served_s, again_s)


def _profile(profile: Path | None, case: Case, number: int, which: str) -> Path | None:
    return None if profile is None else profile / f"{case.name}-{number}-{which}.pstats"


def _cost(case: Case, number: int, port: int, daemon: Daemon, served_s: float, again_s: float) -> Cost:
    kept = case.use(number, port)
    try:
        begun, before = time.monotonic(), daemon.processor_s()
        time.sleep(IDLE_S)
        idle = (daemon.processor_s() - before) / (time.monotonic() - begun)
        resident = daemon.resident_bytes()
        answers = {}
        for path in ASKED:
            asked = [daemon.good(path) for _ in range(TIMES_ASKED)]
            answers[path] = (median(answer.seconds for answer in asked), len(asked[-1].body))
        peak = daemon.resident_bytes("VmHWM")
    finally:
        for client in kept:
            client.close()
    return Cost(case.name, number, daemon.started_s, served_s, again_s, resident, peak, idle, answers)


def table(case: Case, costs: list[Cost]) -> str:
    """A line for each number."""
    lines = [["", "up s", "served s", "again s", "MiB", "peak MiB", "idle %", *(path for path in ASKED)]]
    for cost in costs:
        line = [f"{cost.number:,}", f"{cost.started_s:.1f}", f"{cost.served_s:.1f}", f"{cost.again_s:.1f}"]
        line += [
            f"{cost.resident_bytes / (1 << 20):.0f}",
            f"{cost.peak_bytes / (1 << 20):.0f}",
            f"{100 * cost.idle:.0f}",
        ]
        line += [f"{seconds * 1000:,.0f} ms {size / 1024:,.0f} K" for seconds, size in cost.answers.values()]
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    told = ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    return f"{case.name}: {case.what}\n" + "\n".join(told)


def _terminated(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="How cost grows.")
    parser.add_argument("--only", choices=[case.name for case in CASES], action="append", help="one case")
    parser.add_argument("--number-max", type=int, metavar="N", help="leave out what is above this number")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="write what cProfile has seen there; slower")
    parser.add_argument("--output", type=Path, help="where the figures go, as JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if options.profile is not None:
        options.profile.mkdir(parents=True, exist_ok=True)
        options.profile = options.profile.resolve()
    found: list[Cost] = []
    try:
        for case in CASES:
            if options.only and case.name not in options.only:
                continue
            costs = []
            for number in case.numbers:
                if options.number_max is None or number <= options.number_max:
                    costs.append(measure(case, number, options.profile))
                    print(f"{case.name} {number:,} done", file=sys.stderr, flush=True)
            found += costs
            print(table(case, costs) + "\n", flush=True)
    except Failed as error:
        print(f"benchmarks.scale: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.output is not None:
        options.output.write_text(json.dumps([asdict(cost) for cost in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
