"""
One life of a cluster: it starts, clients use it, things go wrong, everything heals, and it is judged.

Time that would only repeat itself is skipped (see L{dst.simulation.world}): when nothing is wrong, nothing is
under way, every storage was well for L{SETTLED_S}, and the next fault is far away.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from dst.errors import DSTError
from dst.interfaces import INode
from dst.simulation.checks import check_ages, check_equal
from dst.simulation.daemons import Daemon
from dst.simulation.faults import Catalogue, Fault, Targets, schedule
from dst.simulation.history import History
from dst.simulation.injector import Injector
from dst.simulation.network import Network
from dst.simulation.outcome import Outcome
from dst.simulation.topologies import Layout
from dst.simulation.watching import CHECK_S, Watcher
from dst.simulation.workload import Client, read_everything
from dst.simulation.world import BrokenCode, NoConvergence, Process, SimulationFailed, World
from dst.status import LinkState

__all__ = ["HEAL_S_MAX", "SETTLED_S", "live", "schedule_for"]

START_S_MAX = 60.0
HEAL_S_MAX = 400.0
"""After the last fault all must be well within this: the longest time a member is held back, and a resync."""

SETTLED_S = 12.0
"""How long all must have been well before time is skipped: longer than any timer that runs out once."""

LEAD_S = 3.0
"""So long before a fault time runs again, and clients are at work."""

SLICE_S = 0.1
MIDST_SHARE = 0.6
MIDST_S = 0.008
"""What clients have asked for takes about as long, on every way that it goes."""

_BURSTS = (1, 1, 1, 1, 2, 3, 6, 12)
_BURST = sum(_BURSTS) / len(_BURSTS)
"""How many operations come at a time."""

EVENTS_PER_COLLECTION = 400_000


def schedule_for(layout: Layout, of: Catalogue, seed: int, hours: float) -> list[Fault]:
    """The faults of one seed."""
    from random import Random

    return schedule(of, _targets(layout), hours, Random(f"faults {seed}"))


def _targets(layout: Layout) -> Targets:
    drives, members, storages = [], [], []
    for daemon, there in layout.daemons.items():
        drives += [
            f"{daemon}:{spec.uri.partition('?')[0].rpartition('/')[2]}"
            for spec in there.nodes
            if spec.scheme == "file"
        ]
        for storage in there.storages:
            if storage.algorithm == "mirror":
                members += [f"{daemon}/{storage.name}/{node}" for node in storage.nodes]
                if storage.options.get("votes") == "members":
                    storages.append(f"{daemon}/{storage.name}")
    return Targets(tuple(layout.daemons), tuple(drives), tuple(members), tuple(storages))


def live(
    layout: Layout,
    of: Catalogue,
    seed: int,
    *,
    hours: float | None = None,
    faults: Sequence[Fault] | None = None,
    trace: Callable[[str], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Outcome:
    """
    One life, from one seed.

    @param faults: what goes wrong; C{None} for what the catalogue and the seed say.
    @param trace: called with a line for each event.
    @param progress: called now and then with the share that is done.
    """
    span_s = (of.hours if hours is None else hours) * 3600
    chosen = schedule_for(layout, of, seed, span_s / 3600) if faults is None else list(faults)
    collecting = gc.isenabled()
    # What is collected, and when, is decided by the number of events, the same each time.
    gc.disable()
    gc.freeze()
    life = _Life(layout, of, seed, span_s, chosen, trace, progress)
    observer = cast(ILogObserver, life.logged)
    globalLogPublisher.addObserver(observer)
    try:
        life.run()
    except SimulationFailed as error:
        error.__traceback__ = error.__context__ = error.__cause__ = None  # they would keep all of this life
        life.outcome.failure = error
        life.watcher.moment(f"{error.word}: {error.message}")
    finally:
        globalLogPublisher.removeObserver(observer)
        outcome = life.end()
        del life, observer
        _collect()
        gc.unfreeze()
        if collecting:
            gc.enable()
    return outcome


def _collect() -> None:
    """
    Let go of what is no more.  Coroutines of processes that were killed in the middle are closed by this, and some
    would like to wait for something first, which nothing can: that is no news.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook


class _Life:
    def __init__(
        self,
        layout: Layout,
        of: Catalogue,
        seed: int,
        span_s: float,
        faults: list[Fault],
        trace: Callable[[str], None] | None,
        progress: Callable[[float], None] | None,
    ) -> None:
        self.layout = layout
        self.span_s = span_s
        self.outcome = Outcome(seed, faults)
        self.world = world = World(seed, trace)
        self.network = Network(world)
        self.daemons = {
            name: Daemon(world, self.network, name, there, layout.size_of) for name, there in layout.daemons.items()
        }
        self.injector = Injector(world, self.network, self.daemons)
        self.histories: dict[str, History] = {}
        self.clients: list[Client] = []
        self.loading = False
        self._load = of.load
        self._progress = progress
        self._due = list(faults)
        self._random = world.generator("load")
        self._places = [self._random.random() for _ in range(3)]
        self._next_check = 0.0
        self._in_order_at = 0.0
        self._next_collection = EVENTS_PER_COLLECTION
        for storage, places in layout.storages.items():
            served = [self.daemons[name] for name in places]
            history = History(storage, lambda storage=storage: self._describe(storage))  # type: ignore[misc]
            self.histories[storage] = history
            self.clients += [
                Client(world, number, storage, served, history, of.load) for number in range(of.load.clients)
            ]
        self.watcher = Watcher(world, layout, self.daemons, self.clients, self.injector, self.outcome)
        self.injector.said = self.watcher.moment
        for daemon in self.daemons.values():
            daemon.started = self._started
            daemon.ended = self._ended

    # -- the story

    def run(self) -> None:
        """All of it."""
        world = self.world
        for daemon in self.daemons.values():
            daemon.start()
        self._until("well", self.watcher.well, START_S_MAX)
        begin_s = world.calendar_s
        self.watcher.moment("everything is well; clients begin")
        self.watcher.watch()  # what made the storage is no news
        self.watcher.begun_s = begin_s
        self._due = sorted((fault.at_s + begin_s, fault) for fault in self._due)  # type: ignore[misc]
        self._step_clients()
        end_s = begin_s + self.span_s
        while world.calendar_s < end_s:
            self._slice(begin_s, end_s)
        self.injector.heal()
        self.watcher.moment("no more faults")
        healing = world.now
        for target in _targets(self.layout).members:
            self.injector.resume(target)
        self.loading = False
        self._until("well again", self._healed, HEAL_S_MAX)
        self.outcome.heal_s = world.now - healing
        self.outcome.served_s = world.calendar_s - begin_s
        self.watcher.begun_s = None
        self._judge()
        self._stop()

    def _slice(self, begin_s: float, end_s: float) -> None:
        """A little time, or a long quiet one."""
        world = self.world
        upcoming: Any = self._due[0] if self._due else None
        next_s = min(end_s, upcoming[0]) if upcoming is not None else end_s
        if upcoming is not None and upcoming[0] <= world.calendar_s:
            self._due.pop(0)
            self.watcher.well_since = None
            self._strike(upcoming[1])
            return
        self._look_for_the_stuck()
        quiet = self._quiet()
        left_s = next_s - world.calendar_s
        if quiet and left_s > LEAD_S + 1.0:
            if self._unanswered():
                self.loading = False
            elif self.watcher.well_since is not None and world.now - self.watcher.well_since > SETTLED_S:
                self.watcher.account()
                world.skip(left_s - LEAD_S)
                self.loading = True
                self.watcher.well_since = world.now - SETTLED_S  # still well: it may be skipped again at once
                return
        self.loading = not quiet or left_s <= LEAD_S or self.span_s <= 600
        self._advance(min(SLICE_S, max(0.001, left_s)))
        if self._progress is not None:
            self._progress((world.calendar_s - begin_s) / self.span_s)

    def _look_for_the_stuck(self) -> None:
        """Without a fault all must become well, and every operation end, not only when life is over."""
        now, watcher = self.world.now, self.watcher
        waits = [client.waits_since for client in self.clients if client.waits_since is not None]
        if self.injector.active or (watcher.well_since is not None and min(waits, default=now) > now - HEAL_S_MAX):
            self._in_order_at = now
        elif now - self._in_order_at > HEAL_S_MAX:
            self._never("well")

    def _never(self, what: str) -> NoReturn:
        state = "; ".join(self.watcher.describe(storage) for storage in self.layout.storages)
        raise NoConvergence(f"not {what} after {HEAL_S_MAX:.0f} s without a fault: {state}")

    def _strike(self, fault: Fault) -> None:
        """A fault happens; more often than not in the middle of what clients do."""
        if self.loading and self._random.random() < MIDST_SHARE:
            self._burst(self._random.randrange(1, 12))
            self._advance(self._random.random() * MIDST_S)
        self.injector.begin(fault)

    def _quiet(self) -> bool:
        """All is well, and has been for a while; then clients pause as well."""
        if self.injector.active or self.span_s <= 600:
            return False
        return self.watcher.well_since is not None and self.world.now - self.watcher.well_since > SETTLED_S / 2

    def _advance(self, seconds: float) -> None:
        """Let time pass, and look."""
        world = self.world
        world.advance(seconds)
        self.watcher.account()
        if world.now >= self._next_check:
            self._next_check = world.now + CHECK_S
            self.watcher.watch()
        if world.events >= self._next_collection:
            self._next_collection = world.events + EVENTS_PER_COLLECTION
            world.graves.clear()
            _collect()

    def _until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        end = self.world.now + seconds
        while not condition():
            if self.world.now >= end:
                state = "; ".join(self.watcher.describe(storage) for storage in self.layout.storages)
                raise NoConvergence(f"not {what} after {seconds:.0f} s: {state}")
            self._advance(SLICE_S)

    # -- clients

    def _step_clients(self) -> None:
        """One operation of one client, and the next one after a random time."""
        count = self._random.choice(_BURSTS)
        if self.loading:
            self._burst(count)
        rate = self._load.operations_per_s * len(self.histories) / _BURST
        self.world.after(self._random.expovariate(rate), self._step_clients)

    def _burst(self, count: int) -> None:
        """So many operations at once, often all in one place."""
        place = self._random.choice(self._places) if count > 2 and self._random.random() < 0.7 else None
        for _ in range(count):
            self._random.choice(self.clients).step(place)

    def _unanswered(self) -> int:
        return sum(client.unanswered for client in self.clients)

    def _started(self, daemon: Daemon) -> None:
        """Clients of a storage hear of every change of it."""
        for storage, history in self.histories.items():
            device = daemon.device(storage)
            if device is not None:
                device.observe(lambda node, history=history: self._told(node, history))  # type: ignore[misc]

    def _told(self, node: INode, history: History) -> None:
        if node.incarnation and node.link is not LinkState.CLOSED:
            for client in self.clients:
                if client.daemon is not None and client.storage == history.name:
                    client.look()

    def _ended(self, process: Process) -> None:
        for client in self.clients:
            if client.daemon is not None and client.daemon.process is not process:
                client.look()

    def _healed(self) -> bool:
        for client in self.clients:
            client.look()
        return self.watcher.well() and not self._unanswered()

    def _describe(self, storage: str) -> str:
        return self.watcher.describe(storage)

    # -- the judgement

    def _judge(self) -> None:
        """All is well: everything is read, all copies are equal."""
        for storage in self.layout.storages:
            client = next(each for each in self.clients if each.storage == storage)
            device = client.look()
            if device is None:
                raise NoConvergence(f"{storage} is well and nobody can use it")
            failed = client.history.counts.get("failed", 0)
            read_everything(client, device)
            self._until("read", lambda client=client: not client.unanswered, 60.0)  # type: ignore[misc]
            if client.history.counts.get("failed", 0) != failed:
                raise NoConvergence(f"{storage} is well and a read of it fails: {self.watcher.describe(storage)}")
            client.flush()
            self._until("flushed", lambda client=client: not client.unanswered, 60.0)  # type: ignore[misc]
        self._until("well in the end", self.watcher.well, HEAL_S_MAX)
        self.outcome.regions_compared += check_ages(self.injector.drives().values())
        check_equal(self.injector.drives().values())
        self.watcher.moment("everything was read, and all copies are equal")

    def _stop(self) -> None:
        """An orderly stop of everything leaves nothing."""
        for client in self.clients:
            client.leave()
        for daemon in reversed(list(self.daemons.values())):
            daemon.holds += 1
            daemon.stop()
            self._until(f"stopped ({daemon.name})", lambda daemon=daemon: daemon.process is None, 60.0)  # type: ignore[misc]

    def end(self) -> Outcome:
        """Put together what is known, and let go of everything."""
        outcome, world = self.outcome, self.world
        now_s = world.calendar_s
        self.watcher.end()
        outcome.simulated_s = now_s
        outcome.storages = len(self.histories)
        outcome.skipped_s = world.skipped_s
        outcome.events = world.events
        outcome.counts = dict(self.injector.counts)
        outcome.refused = dict(self.injector.refused)
        for history in self.histories.values():
            outcome.told_losses += history.told_losses
            for what, count in history.counts.items():
                outcome.operations[what] = outcome.operations.get(what, 0) + count
        outcome.slowest_s = max((each for client in self.clients for each in client.latencies), default=0.0)
        for daemon in self.daemons.values():
            if daemon.process is not None:
                daemon.ended = _nothing
                daemon.kill()
        return outcome

    # -- what is said

    def logged(self, event: dict[str, Any]) -> None:
        """What the code logs: a line of the trace; what it does not expect is a failure."""
        world = self.world
        if event.get("kind") == "partial" and "member" in event and world.current is not None:
            self.watcher.price(world.current.name, str(event["member"]), int(event.get("n", 0)))
        failure = event.get("log_failure")
        if world.trace is not None:
            who = world.current.name if world.current is not None else "-"
            world.trace(f"{world.now:.6f} {who} says: {formatEvent(event)}")
        if not isinstance(failure, Failure) or event.get("log_level") is not LogLevel.critical:
            return
        if not failure.check(DSTError, CancelledError, ConnectError, ConnectionClosed):
            frames = failure.frames or failure.stack
            where = f" in {frames[-1][0]}, {frames[-1][1].rpartition('/')[2]}:{frames[-1][2]}" if frames else ""
            world.fail(BrokenCode(f"{formatEvent(event)}: {_kind(failure)}: {failure.value}{where}"))


def _kind(failure: Failure) -> str:
    return type(failure.value).__name__


def _nothing(_: object) -> None:
    """Nobody is told."""
