"""
Several daemons that want to own one mirror, its nodes, the network between them, and clients: all in one virtual
time.

Every daemon and every node is a process with a clock of its own, which stops when it is suspended and ends when it
is killed. Time jumps from one thing that happens to the next.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.label.zone import LABELS_BYTES, PAGE_BYTES, Zone
from dst.status import LinkState, MemberState
from dst.testing.media import SECTOR_BYTES, SimulatedMedia
from test.scenarios.checker import Checker, Write, Wrong, fill
from test.scenarios.clients import write_data
from test.scenarios.invariant import check_invariant
from test.scenarios.nodes import Link, Path, Process, Server, StateDirectory

__all__ = ["LEASE_S", "MEDIA_BYTES", "REGION_BYTES", "Cluster", "Owner"]

REGION_BYTES = 64 * 1024
MEDIA_BYTES = 6 * REGION_BYTES + LABELS_BYTES + 2 * PAGE_BYTES
LEASE_S = 1.5

_TRIES = 5

_TURNS_AT_ONCE = 50_000
"""So many turns of every process at one moment are a loop without an end."""


class Owner:
    """
    One daemon that has the storage in its topology.

    @ivar mirror: C{None} while it is down.
    """

    def __init__(self, cluster: Cluster, index: int) -> None:
        self.cluster = cluster
        self.index = index
        self.name = f"owner{index}"
        self.store = StateDirectory(cluster.entropy)
        self.paths = [Path() for _ in cluster.servers]
        self.mirror: Mirror | None = None
        self.links: list[Link] = []
        self.process = Process(cluster.now)
        self.process.alive = False
        self._noticed: object = None
        self._order = 0
        self._serving: object = None
        self.era = 0
        self._eras: list[int] = []

    def start(self, **options: Any) -> None:
        """A new process."""
        cluster = self.cluster
        assert self.mirror is None
        self.process = Process(cluster.now)
        cluster.processes.append(self.process)
        self.links = [
            Link(cluster, self.process, server, path)
            for server, path in zip(cluster.servers, self.paths, strict=True)
        ]
        given = {"standby": self.index > 0} | cluster.options | options
        self.mirror = Mirror(
            self.process.clock,
            "vol",
            self.links[: cluster.members],
            MirrorOptions(**given),
            self.store,
            entropy=cluster.entropy,
            witnesses=self.links[cluster.members :],
            owner_name=self.name,
            now=cluster.boottime,
        )
        self._serving = None
        self._eras = []
        self.mirror.open().addErrback(lambda failure: cluster.surprises.append(failure))

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more. What it has sent may arrive."""
        if self.mirror is None:
            return
        for era in self._eras:
            self.cluster.checker.end_of_user(era)
        self.process.alive = False
        self.cluster.processes.remove(self.process)
        for link in self.links:
            session, link.session = link.session, None
            if session is not None:
                session.broken()
            link.link = LinkState.CLOSED
        self.cluster.graves.append((self.mirror, self.links, self.process))
        self.mirror = None
        self.links = []

    def stop(self) -> None:
        """An orderly stop."""
        mirror = self.mirror
        assert mirror is not None
        closing = mirror.close()
        self.cluster.wait_for(closing)
        self.kill()

    def lose_state(self) -> None:
        """Its state directory is gone, while it is down."""
        assert self.mirror is None
        self.store = StateDirectory(self.cluster.entropy)

    def mended(self) -> None:
        """Some path is better than it was."""
        for link in self.links:
            if link.session is not None:
                link.session.mended()

    # -- as clients see it

    @property
    def serves(self) -> bool:
        """Clients can be served."""
        serving = self._service_with_quorum()
        return serving is not None and self.process.running

    def _service_with_quorum(self) -> Any:
        """The service, once it has had a quorum: what was taken over while the process slept is none before that."""
        serving = self.mirror.serving if self.mirror is not None else None
        if serving is not None and serving is not self._noticed and serving.configuration.no_quorum:
            return None
        return serving

    def notice(self) -> None:
        """Whoever begins to serve later is the newer owner, whether or not a client comes."""
        serving = self._service_with_quorum()
        if serving is not self._noticed:
            self._noticed = serving
            if serving is not None:
                self.cluster.services += 1
                self._order = self.cluster.services

    def seen(self) -> int:
        """The era that its present service is; a client looks."""
        cluster, mirror = self.cluster, self.mirror
        assert mirror is not None and mirror.serving is not None
        self.notice()
        if self._serving is not mirror.serving:
            self._serving = mirror.serving
            self.era = 0  # no client used it before a newer one was used: it must not answer any more
            if self._order > cluster.order_seen:
                cluster.order_seen = self._order
                self.era = cluster.checker.begin_era(mirror.incarnation)
            self._eras.append(self.era)
        cluster.checker.learn(self.era, mirror.incarnation)
        return self.era

    def write(self, sector: int, count: int, *, fua: bool = False, change: str = "write") -> Deferred[bool] | None:
        """
        A client's change of some sectors; C{None} when it cannot be asked for now.

        Fires with whether it was acknowledged.
        """
        checker = self.cluster.checker
        sectors = range(sector, sector + count)
        if not self.serves:
            return None
        era = self.seen()
        if era != checker.era or not checker.may_write(sectors):
            return None
        mirror = self.mirror
        assert mirror is not None
        write: Write = checker.write_begins(era, sectors, zeroes=change != "write")
        offset, length = sector * SECTOR_BYTES, count * SECTOR_BYTES
        fua = fua and change != "trim"
        if change == "write":
            done = write_data(mirror, offset, fill(write.version, count), write.version, fua=fua)
        elif change == "trim":
            done = mirror.trim(offset, length)
        else:
            done = mirror.write_zeroes(offset, length, fua=fua)

        def ended(result: object) -> bool:
            good = not isinstance(result, Failure)
            if mirror is self.mirror:
                self.cluster.judge(lambda: checker.write_ends(write, good, fua=fua, where=self.cluster.describe()))
            return good

        return done.addBoth(ended)

    def read(self, sector: int, count: int) -> Deferred[bool] | None:
        """A client's read. Fires with whether it was answered."""
        if not self.serves:
            return None
        checker, mirror = self.cluster.checker, self.mirror
        assert mirror is not None
        read = checker.read_begins(self.seen(), range(sector, sector + count))

        def ended(result: object) -> bool:
            good = not isinstance(result, Failure)
            if mirror is self.mirror:
                self.cluster.judge(lambda: checker.read_ends(read, result if good else None, self.cluster.describe()))
            return good

        return mirror.read(sector * SECTOR_BYTES, count * SECTOR_BYTES).addBoth(ended)

    def flush(self) -> Deferred[bool] | None:
        """A client's flush."""
        if not self.serves:
            return None
        checker, mirror = self.cluster.checker, self.mirror
        assert mirror is not None
        flush = checker.flush_begins(self.seen())

        def ended(result: object) -> bool:
            good = not isinstance(result, Failure)
            if mirror is self.mirror:
                self.cluster.judge(lambda: checker.flush_ends(flush, good))
            return good

        return mirror.flush().addBoth(ended)


class Cluster:
    """
    @ivar now: the time, for everybody; leases count it.
    @ivar surprises: failures that nobody expected; the next step reports them.
    """

    def __init__(
        self, members: int, witnesses: int, owners: int, seed: int = 0, nested: tuple[str, ...] = (), **options: Any
    ) -> None:
        """
        @param nested: what the first members are below: C{"mirror"}, C{"stripe"} or C{""}.
        @param options: of the mirror.
        """
        self.random = random.Random(seed)
        self._entropy = random.Random(~seed)
        self.now = 0.0
        self.members = members
        self.processes: list[Process] = []
        self.graves: list[object] = []
        self.surprises: list[Failure] = []
        self.faults: Counter[str] = Counter()
        self.checker = Checker()
        self.services = self.order_seen = 0
        self.options = {
            "region_size": REGION_BYTES,
            "hot_regions": 3,
            "start_wait_s": 0.5,
            "grace_s": 1.0,
            "votes": "members",
            "lease_s": LEASE_S,
            "takeover_s": 0.5,
            "flap_hold_s": 0.0,
        } | options
        sizes = [MEDIA_BYTES] * members + [REGION_BYTES] * witnesses
        below = [*nested, *[""] * len(sizes)]
        self.servers = [
            Server(self, n, SimulatedMedia(size, seed=seed * 31 + n), below[n]) for n, size in enumerate(sizes)
        ]
        self.owners = [Owner(self, n) for n in range(owners)]

    def entropy(self, count: int) -> bytes:
        """Never repeats."""
        return self._entropy.randbytes(count)

    def boottime(self) -> float:
        """A clock that counts while a process is suspended."""
        return self.now

    @property
    def data_sectors(self) -> int:
        """Size of the storage in sectors."""
        return Zone.at_end_of(MEDIA_BYTES, REGION_BYTES).capacity // PAGE_BYTES * PAGE_BYTES // SECTOR_BYTES

    def judge(self, what: Callable[[], None]) -> None:
        """A verdict inside of a callback is not lost there."""
        try:
            what()
        except Wrong:
            self.surprises.append(Failure())

    # -- time

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while self.step(end):
            pass

    def step(self, end: float) -> bool:
        """Go on to the next moment at which something happens. @return: it is not C{end} yet."""
        processes = self.processes
        due = min([process.next_s() for process in processes], default=float("inf"))
        self.now = now = max(self.now, min(due, end))
        for process in processes:
            process.clock.now = now
        ran = 0
        while due <= now:
            ran += 1
            for process in list(processes):
                if process.next_s() <= now:
                    process.clock.run()
            due = min([process.next_s() for process in processes], default=float("inf"))
            if ran > _TURNS_AT_ONCE:
                raise Wrong(f"it never comes to rest: {self.describe()}")
        for owner in self.owners:
            owner.notice()
        if self.surprises:
            self.surprises[0].raiseException()
        return now < end

    def until(self, what: str, condition: Callable[[], object], seconds: float = 120.0) -> None:
        """Advance until C{condition()}."""
        end = self.now + seconds
        while not condition():
            if not self.step(end) and not condition():
                raise Wrong(f"not {what} after {seconds} s: {self.describe()}")

    def wait_for(self, done: Deferred[Any], seconds: float = 60.0) -> Any:
        """What C{done} fires with."""
        results: list[Any] = []
        done.addBoth(results.append)
        self.until("answered", lambda: results, seconds)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    # -- how it is

    @property
    def server(self) -> Owner | None:
        """The daemon that serves now, if one does."""
        serving = [owner for owner in self.owners if owner.serves]
        return max(serving, key=lambda owner: owner.mirror.ownership.claim, default=None)  # type: ignore[union-attr]

    def describe(self) -> str:
        """For the message of a failure."""
        lines = [f"at {self.now:.3f} s"]
        for owner in self.owners:
            if owner.mirror is None:
                lines.append(f"{owner.name} is down")
                continue
            tree = owner.mirror.status()
            members = ", ".join(f"{each.name} {each.state} ({each.reason})" for each in tree.children)
            witnesses = ", ".join(f"{each.name} ({each.reason})" for each in owner.mirror.witnesses)
            lines.append(
                f"{owner.name}{' suspended' if owner.process.suspended else ''}: {tree.health.value} {tree.state} "
                f"{tree.reason!r} {owner.mirror.ownership.claim.number} [{members}] witnesses [{witnesses}]"
            )
        return "; ".join(lines)

    def check_invariant(self) -> None:
        """See L{test.scenarios.invariant}."""
        check_invariant([server.media for server in self.servers[: self.members] if not server.nested], self.describe)

    # -- the end

    def heal(self) -> None:
        """No more faults: everything runs and is connected."""
        for server in self.servers:
            server.heal()
        for owner in self.owners:
            owner.process.suspended = False
            for path in owner.paths:
                path.out = path.back = True
                path.delay_s = 0.0005
            if owner.mirror is None:
                owner.start()
            owner.mended()

    def whole(self) -> Owner | None:
        """The daemon that serves, when everybody can be reached, is in sync, and every witness votes."""
        owner = self.server
        if owner is None or owner.mirror is None or owner.mirror.link is not LinkState.READY:
            return None
        if any(not member.ready for member in owner.mirror.members):
            return None  # what it lost, if it did, is known when it is back
        children = owner.mirror.status().children
        if any(child.state != MemberState.IN_SYNC.value for child in children):
            return None
        return owner if all(not witness.reason for witness in owner.mirror.witnesses) else None

    def check_convergence(self) -> None:
        """After healing: every member in sync, everything answered, copies equal, all reads right."""
        self.heal()
        checker = self.checker

        def at_rest() -> bool:
            owner = self.whole()
            if owner is None or owner.mirror is None or owner.mirror.serving is None:
                return False
            return not (owner.mirror.serving.hot.unreconciled or checker.writes or checker.reads or checker.flushes)

        self.until("answered and in sync", at_rest, 900)
        owner = self.whole()
        assert owner is not None
        for sector in range(0, self.data_sectors, 64):
            for _ in range(_TRIES):
                self.until("at rest again", at_rest, 900)
                owner = self.whole()
                assert owner is not None
                done = owner.read(sector, min(64, self.data_sectors - sector))
                assert done is not None
                if self.wait_for(done):
                    break  # else somebody who had been asked to take over did so just now
            else:
                raise Wrong(f"reads fail in a healthy storage: {self.describe()}")
        self.until("at rest after all", at_rest, 900)
        size = self.data_sectors * SECTOR_BYTES
        contents = {bytes(self.wait_for(server.device.read(0, size))) for server in self.servers[: self.members]}
        if len(contents) != 1:
            raise Wrong(f"{len(contents)} different copies in a healthy storage: {self.describe()}")
        self.check_invariant()

    def end(self) -> None:
        """The test is over: what still waits is not let go by the collector of garbage."""
        for owner in self.owners:
            owner.kill()
        for server in self.servers:
            server.kill()
        graves.append(self.graves)


graves: list[object] = []
"""
Processes that were killed. A killed process runs nothing any more; objects that are collected do: their
coroutines are closed, which lets go of extents, which starts operations. So they are kept.
"""
