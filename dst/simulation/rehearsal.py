"""
One life of a cluster: it starts, clients use it, things go wrong, everything heals, and it is judged.

Time that would only repeat itself is skipped (see L{dst.simulation.world}): when nothing is wrong, nothing is
under way, every storage was well for L{SETTLED_S}, and the next fault is far away.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from dst.errors import DSTError
from dst.interfaces import INode
from dst.simulation.checks import check_ages, check_equal
from dst.simulation.daemons import Daemon
from dst.simulation.excess import different_bytes, drives_of_members
from dst.simulation.faults import Catalogue, Fault, Targets, schedule
from dst.simulation.history import History
from dst.simulation.injector import Injector
from dst.simulation.network import Network
from dst.simulation.topologies import Layout
from dst.simulation.workload import Client, read_everything
from dst.simulation.world import BrokenCode, NoConvergence, Process, SimulationFailed, World
from dst.status import Health, LinkState, MemberState, StatusTree

__all__ = ["HEAL_S_MAX", "SETTLED_S", "Moment", "Outage", "Outcome", "Resync", "live", "schedule_for"]

START_S_MAX = 60.0
HEAL_S_MAX = 400.0
"""After the last fault all must be well within this: the longest time a member is held back, and a resync."""

SETTLED_S = 12.0
"""How long all must have been well before time is skipped: longer than any timer that runs out once."""

LEAD_S = 3.0
"""So long before a fault time runs again, and clients are at work."""

SLICE_S = 0.1
CHECK_S = 1.0
WAITING_S_MAX = 1.0
"""A client that waits for longer than this is not being served."""

MIDST_SHARE = 0.6
MIDST_S = 0.008
"""What clients have asked for takes about as long, on every way that it goes."""

_BURSTS = (1, 1, 1, 1, 2, 3, 6, 12)
_BURST = sum(_BURSTS) / len(_BURSTS)
"""How many operations come at a time."""

EVENTS_PER_COLLECTION = 400_000


@frozen
class Moment:
    """A line of the timeline."""

    at_s: float
    text: str


@frozen
class Outage:
    """A time in which a storage did not serve."""

    storage: str
    at_s: float
    lasts_s: float


@frozen
class Resync:
    """A copying that has ended."""

    member: str
    kind: str
    at_s: float
    lasts_s: float
    bytes_copied: int


@define
class Outcome:
    """
    What became of one life.

    @ivar failure: what went wrong; C{None} when every promise was kept.
    @ivar simulated_s: by the calendar.
    @ivar skipped_s: how much of that was skipped.
    @ivar served_s: for how long clients were there, by the calendar: availability is a share of this.
    @ivar storages: how many they used.
    @ivar missed_bytes: in regions that members had missed when a partial resync of them began.
    @ivar recopied_bytes: in regions that these resyncs looked at.
    @ivar heal_s: from the end of the last fault until all was well.
    """

    seed: int
    faults: list[Fault]
    failure: SimulationFailed | None = None
    simulated_s: float = 0.0
    skipped_s: float = 0.0
    served_s: float = 0.0
    storages: int = 1
    heal_s: float = 0.0
    events: int = 0
    counts: dict[str, int] = field(factory=dict)
    refused: dict[str, int] = field(factory=dict)
    operations: dict[str, int] = field(factory=dict)
    told_losses: int = 0
    regions_compared: int = 0
    outages: list[Outage] = field(factory=list)
    resyncs: list[Resync] = field(factory=list)
    slowest_s: float = 0.0
    missed_bytes: int = 0
    recopied_bytes: int = 0
    timeline: list[Moment] = field(factory=list)


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
        life.outcome.failure = error
        life.moment(f"{error.word}: {error.message}")
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
        self.injector.said = self.moment
        self.histories: dict[str, History] = {}
        self.clients: list[Client] = []
        self.loading = False
        self._load = of.load
        self._progress = progress
        self._due = list(faults)
        self._random = world.generator("load")
        self._well_since: float | None = None
        self._down_since: dict[str, float | None] = {}
        self._begun_s: float | None = None
        self._bottoms = drives_of_members(layout)
        self._states: dict[str, str] = {}
        self._copying: dict[tuple[str, ...], tuple[float, str, int]] = {}
        self._next_check = 0.0
        self._next_collection = EVENTS_PER_COLLECTION
        for storage, places in layout.storages.items():
            served = [self.daemons[name] for name in places]
            history = History(storage, lambda storage=storage: self.describe(storage))  # type: ignore[misc]
            self.histories[storage] = history
            self._down_since[storage] = None
            self.clients += [
                Client(world, number, storage, served, history, of.load) for number in range(of.load.clients)
            ]
        for daemon in self.daemons.values():
            daemon.started = self._started
            daemon.ended = self._ended

    # -- the story

    def run(self) -> None:
        """All of it."""
        world = self.world
        for daemon in self.daemons.values():
            daemon.start()
        self._until("well", self.well, START_S_MAX)
        begin_s = world.calendar_s
        self.moment("everything is well; clients begin")
        self._begun_s = begin_s
        self._due = sorted((fault.at_s + begin_s, fault) for fault in self._due)  # type: ignore[misc]
        self._step_clients()
        end_s = begin_s + self.span_s
        while world.calendar_s < end_s:
            self._slice(begin_s, end_s)
        self.injector.heal()
        self.moment("no more faults")
        healing = world.now
        for target in _targets(self.layout).members:
            self.injector.resume(target)
        self.loading = False
        self._until("well again", self._healed, HEAL_S_MAX)
        self.outcome.heal_s = world.now - healing
        self.outcome.served_s = world.calendar_s - begin_s
        self._begun_s = None
        self._judge()
        self._stop()

    def _slice(self, begin_s: float, end_s: float) -> None:
        """A little time, or a long quiet one."""
        world = self.world
        upcoming: Any = self._due[0] if self._due else None
        next_s = min(end_s, upcoming[0]) if upcoming is not None else end_s
        if upcoming is not None and upcoming[0] <= world.calendar_s:
            self._due.pop(0)
            self._well_since = None
            self._strike(upcoming[1])
            return
        quiet = self._quiet()
        left_s = next_s - world.calendar_s
        if quiet and left_s > LEAD_S + 1.0:
            if self._unanswered():
                self.loading = False
            elif self._well_since is not None and world.now - self._well_since > SETTLED_S:
                self._account()
                world.skip(left_s - LEAD_S)
                self.loading = True
                self._well_since = world.now - SETTLED_S  # still well: it may be skipped again at once
                return
        self.loading = not quiet or left_s <= LEAD_S or self.span_s <= 600
        self._advance(min(SLICE_S, max(0.001, left_s)))
        if self._progress is not None:
            self._progress((world.calendar_s - begin_s) / self.span_s)

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
        return self._well_since is not None and self.world.now - self._well_since > SETTLED_S / 2

    def _advance(self, seconds: float) -> None:
        """Let time pass, and look."""
        world = self.world
        world.advance(seconds)
        self._account()
        if world.now >= self._next_check:
            self._next_check = world.now + CHECK_S
            self._watch()
        if world.events >= self._next_collection:
            self._next_collection = world.events + EVENTS_PER_COLLECTION
            world.graves.clear()
            _collect()

    def _until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        end = self.world.now + seconds
        while not condition():
            if self.world.now >= end:
                state = "; ".join(self.describe(storage) for storage in self.layout.storages)
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
        place = self._random.random() if count > 2 and self._random.random() < 0.6 else None
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

    # -- looking

    def well(self) -> bool:
        """Every storage is served, with everything in sync, wherever it is."""
        return all(self._storage_well(storage) for storage in self.layout.storages) and self._inner_well()

    def _storage_well(self, storage: str) -> bool:
        for name in self.layout.storages[storage]:
            device = self.daemons[name].ready(storage)
            if device is not None and _well(device.status()):
                return True
        return False

    def _inner_well(self) -> bool:
        for daemon in self.daemons.values():
            if daemon.cluster is None or not daemon.running:
                return False
            for name, storage in daemon.cluster.devices.storages.items():
                if name not in self.layout.storages and not _well(storage.status()):
                    return False
        return True

    def _healed(self) -> bool:
        for client in self.clients:
            client.look()
        return self.well() and not self._unanswered()

    def describe(self, storage: str) -> str:
        """How it is everywhere, for the message of a failure."""
        words = []
        for name in self.layout.storages[storage]:
            device = self.daemons[name].device(storage)
            if device is None:
                words.append(f"{storage} at {name}: its daemon is down")
            else:
                tree = device.status()
                members = ", ".join(
                    f"{child.name} {child.state}" + (f" ({child.reason})" if child.reason else "")
                    for child in tree.children
                )
                words.append(f"{storage} at {name}: {tree.health.value}, {tree.reason or tree.state} [{members}]")
        waiting = self._unanswered()
        return "; ".join(words) + (f"; {waiting} operations wait" if waiting else "")

    def _account(self) -> None:
        """Who is served now."""
        now_s = self.world.calendar_s
        if self._begun_s is None:
            return
        for storage, places in self.layout.storages.items():
            served = any(self.daemons[name].ready(storage) is not None for name in places)
            if served:
                waits = [
                    client.waits_since
                    for client in self.clients
                    if client.storage == storage and client.waits_since is not None and not client.stubborn
                ]
                served = not waits or self.world.now - min(waits) <= WAITING_S_MAX
            since = self._down_since[storage]
            if not served and since is None:
                self._down_since[storage] = now_s
                self.moment(f"{storage} does not serve")
            elif served and since is not None:
                self._down_since[storage] = None
                self.outcome.outages.append(Outage(storage, since, now_s - since))
                self.moment(f"{storage} serves again after {now_s - since:.1f} s")

    def _watch(self) -> None:
        """Once a second: the state of everything, and the ages on the media."""
        now = self.world.now
        if self.well():
            self._well_since = now if self._well_since is None else self._well_since
        else:
            self._well_since = None
        if self._well_since is None or now - self._well_since < 2 * CHECK_S:
            for daemon in self.daemons.values():
                if daemon.cluster is not None and daemon.running:
                    for name, storage in daemon.cluster.devices.storages.items():
                        self._watch_storage(daemon.name, name, storage.status())
            self.outcome.regions_compared += check_ages(self.injector.drives().values())

    def _price(self, daemon: str, member: str, bytes_total: int) -> None:
        """A partial resync begins: what it costs, and what it would have to."""
        drives = self.injector.drives()
        target = drives.get(self._bottoms.get((daemon, member), ""))
        different = None if target is None else different_bytes(target, drives)
        if different is not None:
            self.outcome.missed_bytes += different
            self.outcome.recopied_bytes += bytes_total

    def _watch_storage(self, daemon: str, storage: str, tree: StatusTree) -> None:
        state = f"{tree.health.value}{f': {tree.reason}' if tree.reason else ''}"
        shape = re.sub(r"\d+", "#", state)  # numbers that run down are no news
        if self._states.get(f"{storage} at {daemon}") != shape:
            self._states[f"{storage} at {daemon}"] = shape
            self.moment(f"{storage} at {daemon} is {state}")
        for child in tree.children:
            key = (daemon, storage, child.name)
            progress = child.resync
            if progress is not None:
                begun = self._copying.get(key, (self.world.now, "", 0))[0]
                self._copying[key] = (begun, progress.kind, progress.bytes_copied)
            elif key in self._copying:
                begun, kind, copied = self._copying.pop(key)
                lasted = self.world.now - begun
                member = f"{storage}/{child.name}"
                self.outcome.resyncs.append(Resync(member, kind, self.world.calendar_s - lasted, lasted, copied))

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
                raise NoConvergence(f"{storage} is well and a read of it fails: {self.describe(storage)}")
            client.flush()
            self._until("flushed", lambda client=client: not client.unanswered, 60.0)  # type: ignore[misc]
        self._until("well in the end", self.well, HEAL_S_MAX)
        self.outcome.regions_compared += check_ages(self.injector.drives().values())
        check_equal(self.injector.drives().values())
        self.moment("everything was read, and all copies are equal")

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
        for storage, since in self._down_since.items():
            if since is not None and outcome.failure is not None:
                outcome.outages.append(Outage(storage, since, now_s - since))
        outcome.simulated_s = now_s
        outcome.storages = len(self.histories)
        if self._begun_s is not None:
            outcome.served_s = now_s - self._begun_s
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

    def moment(self, text: str) -> None:
        """A line of the timeline."""
        self.outcome.timeline.append(Moment(self.world.calendar_s, text))

    def logged(self, event: dict[str, Any]) -> None:
        """What the code logs: a line of the trace; what it does not expect is a failure."""
        world = self.world
        if event.get("kind") == "partial" and "member" in event and world.current is not None:
            self._price(world.current.name, str(event["member"]), int(event.get("n", 0)))
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


def _well(tree: StatusTree) -> bool:
    """It is healthy, and so is every member of a mirror."""
    if tree.health is not Health.HEALTHY:
        return False
    if tree.kind == "mirror":
        return all(child.state == MemberState.IN_SYNC.value for child in tree.children)
    return True
