"""
Every pair of faults at every pair of moments: two members and a witness, two daemons, one region, two writes.

Random lives miss what needs faults at exact steps. Here a tiny cluster of production mirrors and fences is run again
and again from the same beginning; what happens in it is deterministic, so the n-th thing that happens is a place at
which a fault can be put. All places are tried for the first fault, and for each all later ones for the second. After
that the cluster goes on by itself, the standby takes over where it has to, a client reads and writes once more,
everything heals, and every promise is checked as in the random lives.

::

    python -m test.scenarios.exhaustive             all beginnings, every moment; takes minutes
    python -m test.scenarios.exhaustive --every 4   every fourth moment only
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator

from attrs import define, field
from crc32c import crc32c
from twisted.logger import globalLogBeginner

from dst.errors import MediaError
from test.scenarios.cluster import REGION_BYTES, Cluster, Owner
from test.scenarios.mutations import without

__all__ = ["BEGINNINGS", "FAULTS", "Found", "search"]

MOMENTS_MAX = 48
"""Further than that nothing is on its way any more; only leases are renewed."""

AFTERWARDS_S = 5.0
"""Enough for a lease, a standby's patience and a takeover."""


class Tiny:
    """One run."""

    def __init__(self) -> None:
        self.cluster = Cluster(2, 1, 2, seed=3)
        self.first, self.second = self.cluster.owners
        self.first.start()
        self.cluster.until("whole", self.cluster.whole)
        self.second.start()
        self.cluster.advance(0.1)

    def state(self) -> int:
        """A number for what stands on all media, stable or not."""
        value = 0
        for server in self.cluster.servers:
            size = REGION_BYTES
            zone = server.media.size - size
            for part in (server.media.read(0, size), server.media.read(max(0, zone), size)):
                value = crc32c(part, value)
            value = crc32c(repr(len(server.media.unflushed)).encode(), value)
        return value

    def ask(self, owner: Owner | None) -> None:
        """A client writes twice to the region, overlapping, and flushes."""
        if owner is not None:
            owner.write(0, 8)
            owner.write(64, 8)
            owner.flush()


def _in_sync(tiny: Tiny) -> None:
    """Everybody is in sync, the region is cold."""
    tiny.ask(tiny.first)


def _hot(tiny: Tiny) -> None:
    """The region is hot and stable everywhere."""
    tiny.cluster.wait_for(tiny.first.write(0, 8))  # type: ignore[arg-type]
    tiny.cluster.wait_for(tiny.first.flush())  # type: ignore[arg-type]
    tiny.ask(tiny.first)


def _returning(tiny: Tiny) -> None:
    """A member comes back and has missed something."""
    cluster = tiny.cluster
    cluster.wait_for(tiny.first.write(0, 8))  # type: ignore[arg-type]
    cluster.servers[1].kill()
    cluster.wait_for(tiny.first.write(32, 8))  # type: ignore[arg-type]
    cluster.servers[1].start()
    tiny.ask(tiny.first)


def _owner_gone(tiny: Tiny) -> None:
    """The owner dies with a write on its way: one member has it, the other has not."""
    cluster = tiny.cluster
    cluster.wait_for(tiny.first.write(0, 8))  # type: ignore[arg-type]
    cluster.servers[1].faulty.hold("write")
    tiny.first.write(0, 8)
    cluster.advance(0.01)
    tiny.first.kill()
    cluster.servers[1].faulty.drop_held(MediaError("gone"))
    cluster.servers[1].faulty.hold("")
    cluster.until("served", lambda: tiny.second.mirror and tiny.second.mirror.ownership.claim.number > 1, 20)


BEGINNINGS: dict[str, Callable[[Tiny], None]] = {
    "in sync": _in_sync,
    "hot": _hot,
    "returning": _returning,
    "owner gone": _owner_gone,
}

Fault = Callable[[Tiny], None]


def _power(n: int) -> Fault:
    def fault(tiny: Tiny) -> None:
        tiny.cluster.servers[n].power_cut("none")
        tiny.cluster.servers[n].start()

    return fault


def _dark(n: int) -> Fault:
    return lambda tiny: tiny.cluster.servers[n].power_cut("none")


def _killed(n: int) -> Fault:
    def fault(tiny: Tiny) -> None:
        tiny.cluster.servers[n].kill()
        tiny.cluster.servers[n].start()

    return fault


def _cut(n: int) -> Fault:
    def fault(tiny: Tiny) -> None:
        tiny.first.paths[n].out = tiny.first.paths[n].back = False

    return fault


def _unheard(n: int) -> Fault:
    def fault(tiny: Tiny) -> None:
        tiny.first.paths[n].back = False

    return fault


def _failing(n: int) -> Fault:
    def fault(tiny: Tiny) -> None:
        tiny.cluster.servers[n].faulty.flush_keeps = "none"
        tiny.cluster.servers[n].faulty.fail_next("flush", MediaError("bad"))

    return fault


def _owner_killed(tiny: Tiny) -> None:
    tiny.first.kill()
    if tiny.second.serves:
        tiny.second.kill()
        tiny.second.start()


def _owner_asleep(tiny: Tiny) -> None:
    tiny.first.process.suspended = True


FAULTS: dict[str, Fault] = {
    **{f"power cycle of n{n}": _power(n) for n in range(2)},
    **{f"n{n} dark": _dark(n) for n in range(3)},
    **{f"n{n} killed": _killed(n) for n in range(2)},
    **{f"cut from n{n}": _cut(n) for n in range(3)},
    **{f"n{n} not heard": _unheard(n) for n in range(2)},
    **{f"failing flush on n{n}": _failing(n) for n in range(2)},
    "owner killed": _owner_killed,
    "owner asleep": _owner_asleep,
}


@define
class Found:
    """
    What a search saw.

    @ivar schedules: runs.
    @ivar states: of media, when a fault struck or everything was over.
    @ivar broken: the first schedule that broke a promise, and how.
    """

    schedules: int = 0
    states: set[int] = field(factory=set)
    moments: int = 0
    broken: str = ""


def _run(beginning: str, faults: dict[int, list[str]], states: set[int]) -> int:
    """One schedule. @return: how many moments there were."""
    tiny = Tiny()
    cluster = tiny.cluster
    try:
        BEGINNINGS[beginning](tiny)
        moments = 0
        end = cluster.now + 0.5
        last = max(faults, default=-1)
        while moments < MOMENTS_MAX and (cluster.now < end or moments <= last):
            for name in faults.get(moments, ()):
                states.add(tiny.state())
                FAULTS[name](tiny)
                cluster.check_invariant()
            if not cluster.step(end) and moments > last:
                break
            moments += 1
        if faults:
            cluster.check_invariant()
            cluster.advance(AFTERWARDS_S)
            owner = cluster.server
            tiny.ask(owner)
            if owner is not None:
                owner.read(0, 80)
            cluster.advance(0.2)
            cluster.check_invariant()
            tiny.first.process.suspended = False
            cluster.check_convergence()
            states.add(tiny.state())
        return moments
    finally:
        cluster.end()


def _schedules(moments: int, every: int, offset: int, pairs: bool) -> Iterator[dict[int, list[str]]]:
    """All faults at all moments, and all pairs of faults at all pairs of moments."""
    places = range(offset, moments, every)
    for first in places:
        for one in FAULTS:
            yield {first: [one]}
            for second in places if pairs else ():
                for other in FAULTS:
                    if second == first and other != one:
                        yield {first: [one, other]}
                    elif second > first:
                        yield {first: [one], second: [other]}


def search(
    beginnings: tuple[str, ...] = tuple(BEGINNINGS),
    *,
    every: int = 1,
    offset: int = 0,
    stride: int = 1,
    pairs: bool = True,
) -> Found:
    """
    Try every schedule.

    @param every: faults strike at every so many-th moment only.
    @param stride: only every so many-th schedule is tried.
    @param pairs: two faults, too.
    """
    found = Found()
    number = 0
    for beginning in beginnings:
        moments = _run(beginning, {}, set())
        found.moments += moments
        for schedule in _schedules(moments, every, offset, pairs):
            number += 1
            if number % stride:
                continue
            found.schedules += 1
            try:
                _run(beginning, schedule, found.states)
            except AssertionError as error:
                where = "; ".join(f"{' and '.join(names)} at moment {n}" for n, names in schedule.items())
                found.broken = f"{beginning}: {where}: {error}"
                return found
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m test.scenarios.exhaustive")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--single", action="store_true", help="one fault only")
    parser.add_argument("--beginning", action="append", choices=list(BEGINNINGS))
    parser.add_argument("--without", action="append", default=[], metavar="RULE")
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    bad = 0
    for beginning in options.beginning or BEGINNINGS:
        began = time.monotonic()
        with without(*options.without):
            found = search(
                (beginning,),
                every=options.every,
                offset=options.offset,
                stride=options.stride,
                pairs=not options.single,
            )
        seconds = time.monotonic() - began
        print(
            f"{beginning}: {found.moments} moments, {len(FAULTS)} faults, {found.schedules} schedules, "
            f"{len(found.states)} states of media, {seconds:.0f} s; {found.broken or 'nothing broken'}",
            flush=True,
        )
        bad += bool(found.broken)
    os._exit(bool(bad))


if __name__ == "__main__":
    main()
