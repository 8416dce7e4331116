"""
A random life of a cluster, from one seed: which members, witnesses and daemons there are, what clients ask for, and
every fault there is.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dst.errors import DSTError, MediaError, NoSpace
from dst.status import LinkState
from dst.testing.media import SimulatedMedia
from test.scenarios.cluster import MEDIA_BYTES, REGION_BYTES, Cluster, Owner
from test.scenarios.invariant import what_stands_on
from test.scenarios.nodes import Server

__all__ = ["REFUSING_SEEDS", "STEPS", "Life", "live", "options_of", "shape_of"]

STEPS = 160

REFUSING_SEEDS = 1_000_000
"""From here on seeds are of storages that answer with errors when they cannot serve, and that want some copies."""

WEIGHTS: dict[str, float] = {
    "write": 34,
    "read": 16,
    "flush": 7,
    "wait": 26,
    # disks
    "power": 2,
    "node_killed": 1.5,
    "node_up": 9,
    "node_suspended": 0.7,
    "error": 2,
    "hang": 1.5,
    "release": 4,
    "slow": 2,
    "new_media": 0.6,
    "witness_wiped": 0.3,
    "blackout": 0.4,
    # the network
    "cut": 2.5,
    "one_way": 2,
    "isolated": 1.2,
    "mend": 9,
    "reset": 2,
    "late": 2,
    # daemons and people
    "kill": 1.5,
    "stop": 0.5,
    "suspend_daemon": 1,
    "wake": 4,
    "start": 8,
    "lose_state": 0.3,
    "take_over": 0.8,
    "failover": 1.6,
    "member_suspended": 0.4,
    "member_resumed": 1,
    "mark_dirty": 0.3,
}


def shape_of(seed: int) -> dict[str, Any]:
    """How many of what a seed's cluster has."""
    chance = random.Random(seed * 7919 + 1)
    members = chance.choice((2, 2, 2, 3, 3, 4, 5))
    return {
        "members": members,
        "witnesses": chance.choice((0, 1, 1)) if members % 2 == 0 else chance.choice((0, 0, 0, 2)),
        "owners": chance.choice((1, 2, 2, 2, 2, 3)),
        "nested": tuple(chance.choice(("mirror", "stripe", "")) for _ in range(2)) if chance.random() < 0.25 else (),
    }


def options_of(seed: int) -> dict[str, Any]:
    """What the topology says of a seed's storage; the seeds below L{REFUSING_SEEDS} stay what they are."""
    options: dict[str, Any] = {
        "flap_hold_s": 0.0 if seed % 4 else 0.5,
        # Several batches of a resync under way, or a set that is always full.
        "hot_regions": 12 if seed % 3 == 1 else 3,
    }
    if seed >= REFUSING_SEEDS:
        chance = random.Random(seed * 7919 + 2)
        members = shape_of(seed)["members"]
        options |= {
            "on_loss": "error",
            "freeze_s": chance.choice((0.1, 0.3, 1.0)),
            "minimum_copies": chance.choice((1, 1, 2, min(3, members))),
        }
    return options


class Life:
    """
    One seed.

    @ivar log: what was done, a line each.
    """

    def __init__(self, seed: int) -> None:
        self.cluster = Cluster(**shape_of(seed), seed=seed, **options_of(seed))
        self.random = self.cluster.random
        self.log: list[str] = []
        # Each life has its own mixture, so that rare faults meet often enough.
        self.weights = {name: weight * self.random.choice((0.1, 0.5, 1, 1, 3)) for name, weight in WEIGHTS.items()}
        for needed in ("mend", "start", "node_up", "release", "wake", "write", "wait"):
            self.weights[needed] = WEIGHTS[needed]
        self._names, self._chances = list(self.weights), list(self.weights.values())

    def note(self, text: str, fault: str = "") -> None:
        """One line of the history."""
        self.log.append(f"{self.cluster.now:8.3f}  {text}")
        if fault:
            self.cluster.faults[fault] += 1

    def step(self) -> None:
        """One random thing."""
        name = self.random.choices(self._names, self._chances)[0]
        getattr(self, f"do_{name}")()

    # -- who

    def owner(self) -> Owner:
        """Any daemon."""
        return self.random.choice(self.cluster.owners)

    def server(self) -> Server:
        """Any node, a witness now and then."""
        cluster = self.cluster
        return cluster.servers[self.random.randrange(len(cluster.servers))]

    def used(self) -> Owner | None:
        """Whom a client asks: mostly who serves, now and then somebody who may think so."""
        serving = [owner for owner in self.cluster.owners if owner.serves]
        if not serving or self.random.random() < 0.85:
            return self.cluster.server
        return self.random.choice(serving)

    # -- clients

    def do_write(self) -> None:
        """A write, trim or write-zeroes of any length, mostly in few places."""
        owner = self.used()
        if owner is None:
            return
        count = self.random.choice((1, 8, 8, 8, 64, 200))
        sectors = self.cluster.data_sectors
        sector = self.random.randrange(sectors - count)
        if self.random.random() < 0.5:
            sector = sector % (sectors // 3) // 8 * 8
        change = self.random.choices(("write", "trim", "zero"), (20, 1, 1))[0]
        fua = self.random.random() < 0.1
        if owner.write(sector, count, fua=fua, change=change) is not None:
            version = self.cluster.checker.version
            self.note(f"{owner.name}: {change} {sector}+{count}{' fua' if fua else ''} version {version}")

    def do_read(self) -> None:
        """A read."""
        owner = self.used()
        if owner is not None:
            count = self.random.choice((1, 8, 100))
            owner.read(self.random.randrange(self.cluster.data_sectors - count), count)

    def do_flush(self) -> None:
        """A flush."""
        owner = self.used()
        if owner is not None and owner.flush() is not None:
            self.note(f"{owner.name}: flush")

    def do_wait(self) -> None:
        """Time passes."""
        self.cluster.advance(self.random.choice((0.001, 0.002, 0.004, 0.02, 0.1, 0.5, 2.0)))

    # -- nodes

    def do_power(self) -> None:
        """A node loses its power."""
        server = self.server()
        if server.process.alive:
            keep = self.random.choice(("random", "random", "none", "all"))
            self.note(f"power cut {server.name} keep {keep}", "power")
            server.power_cut(keep)

    def do_node_killed(self) -> None:
        """A node's daemon is killed, and perhaps back at once."""
        server = self.server()
        if server.process.alive:
            self.note(f"kill {server.name}", "node_killed")
            server.kill()
            if self.random.random() < 0.5:
                server.start()

    def do_node_up(self) -> None:
        """A node's daemon is back, or goes on."""
        server = self.server()
        if not server.process.alive:
            self.note(f"start {server.name}")
            server.start()
        elif server.process.suspended:
            self.note(f"{server.name} goes on")
            server.process.suspended = False

    def do_node_suspended(self) -> None:
        """A node's machine sleeps."""
        server = self.server()
        if server.process.running:
            self.note(f"suspend {server.name}", "node_suspended")
            server.process.suspended = True

    def do_error(self) -> None:
        """The next operations of a kind fail on one disk."""
        server = self.server()
        kind, error = self.random.choice(
            (
                ("write", MediaError("bad")),
                ("write", NoSpace("full")),
                ("read", MediaError("bad")),
                ("flush", MediaError("bad")),
            )
        )
        self.note(f"{server.name} fails a {kind}", f"{kind}_error")
        self.random.choice(server.disks).fail_next(
            kind, error, times=self.random.choice((1, 1, 3)), skip=self.random.randrange(3)
        )

    def do_hang(self) -> None:
        """A disk hangs."""
        server = self.server()
        self.note(f"{server.name} hangs", "hang")
        self.random.choice(server.disks).hold()

    def do_release(self) -> None:
        """It goes on."""
        self.random.choice(self.server().disks).release(self.random.choice((1, 2, None, None)))

    def do_slow(self) -> None:
        """It becomes slower, or faster."""
        server = self.server()
        server.delay_s = self.random.choice((0.0, 0.001, 0.01))
        for disk in server.disks:
            disk.delay_s = server.delay_s
        self.cluster.faults["slow"] += 1

    def _all_votes_count(self) -> bool:
        """Whoever serves has everybody, so that one may forget everything."""
        owner = self.cluster.whole()
        if owner is None or owner.mirror is None or owner.mirror.serving is None:
            return False
        if any(link.link is not LinkState.READY for link in owner.links) or not all(p.good for p in owner.paths):
            return False
        if any(link.session is None or link.session.closed for link in owner.links):
            return False  # something has happened that it will hear of
        configuration = owner.mirror.serving.configuration
        record, available = configuration.record, configuration.available_votes()
        return (
            len(record.in_sync) == self.cluster.members
            and not configuration.leaving | configuration.stalled
            and self._all_have_labels()
            and {(vote.node_id, vote.fence) for vote in record.votes}
            <= {(vote.node_id, vote.fence) for vote in available}
            and len(record.votes) >= 3
            and len(record.votes) == len(configuration._next_votes())
        )

    def _all_have_labels(self) -> bool:
        """Nobody has been replaced and is not yet missed."""
        members = self.cluster.servers[: self.cluster.members]
        return all(server.nested or what_stands_on(server.media) for server in members)

    def do_new_media(self) -> None:
        """A disk is replaced by a new one, while others have the data."""
        server = self.cluster.servers[self.random.randrange(self.cluster.members)]
        if not server.nested and self._all_votes_count():
            self.note(f"new media {server.name}", "new_media")
            server.forget_everything(SimulatedMedia(MEDIA_BYTES, seed=self.random.randrange(1 << 30)))
            server.start()

    def do_witness_wiped(self) -> None:
        """A witness has lost everything."""
        witnesses = self.cluster.servers[self.cluster.members :]
        if witnesses and self._all_votes_count():
            server = self.random.choice(witnesses)
            self.note(f"wipe {server.name}", "witness_wiped")
            server.forget_everything(SimulatedMedia(REGION_BYTES, seed=self.random.randrange(1 << 30)))
            server.start()

    def do_blackout(self) -> None:
        """Everything loses its power at once."""
        self.note("blackout", "blackout")
        for server in self.cluster.servers:
            server.power_cut("random")
            if self.random.random() < 0.5:
                server.start()
        for owner in self.cluster.owners:
            owner.kill()

    # -- the network

    def do_cut(self) -> None:
        """A daemon and a node cannot reach each other."""
        owner = self.owner()
        n = self.random.randrange(len(owner.paths))
        self.note(f"cut {owner.name} - n{n}", "cut")
        owner.paths[n].out = owner.paths[n].back = False
        self._perhaps_noticed(owner, n)

    def do_one_way(self) -> None:
        """Only one of them hears the other."""
        owner = self.owner()
        n = self.random.randrange(len(owner.paths))
        path = owner.paths[n]
        if self.random.random() < 0.5:
            path.out = False
        else:
            path.back = False
        self.note(f"one-way cut {owner.name} {'<-' if path.back else '->'} n{n}", "one_way")

    def do_isolated(self) -> None:
        """A daemon reaches few nodes, or none."""
        owner = self.owner()
        keep = self.random.choice((0, 0, 1))
        cut = self.random.sample(range(len(owner.paths)), len(owner.paths) - keep)
        self.note(f"isolate {owner.name} from {sorted(cut)}", "isolated")
        noticed = self.random.random() < 0.5
        for n in cut:
            owner.paths[n].out = owner.paths[n].back = False
            if noticed and owner.links:
                owner.links[n].interrupt("the network is gone")

    def _perhaps_noticed(self, owner: Owner, n: int) -> None:
        if owner.links and self.random.random() < 0.5:
            owner.links[n].interrupt("the network is gone")

    def do_mend(self) -> None:
        """The network is whole for a daemon, or for one node of it."""
        owner = self.owner()
        paths = owner.paths if self.random.random() < 0.5 else [self.random.choice(owner.paths)]
        if any(not path.good for path in paths):
            self.note(f"mend {owner.name}")
        for path in paths:
            path.out = path.back = True
        owner.mended()

    def do_reset(self) -> None:
        """A connection breaks, and may be made again at once."""
        owner = self.owner()
        if owner.links:
            n = self.random.randrange(len(owner.links))
            self.note(f"reset {owner.name} - n{n}", "reset")
            owner.links[n].patience_s = self.random.choice((0.2, 1.0, 1.0, 3.0))
            owner.links[n].interrupt("the connection was reset")

    def do_late(self) -> None:
        """A path becomes slower, or faster."""
        self.random.choice(self.owner().paths).delay_s = self.random.choice((0.0, 0.0005, 0.002, 0.02, 0.2))
        self.cluster.faults["late"] += 1

    # -- daemons and people

    def do_kill(self) -> None:
        """A daemon is killed."""
        owner = self.owner()
        if owner.mirror is not None:
            self.note(f"kill {owner.name}", "owner_killed")
            owner.kill()

    def do_stop(self) -> None:
        """A daemon is stopped."""
        owner = self.owner()
        if owner.mirror is not None and owner.process.running:
            self.note(f"stop {owner.name}", "stop")
            owner.stop()

    def do_suspend_daemon(self) -> None:
        """A daemon's machine sleeps."""
        owner = self.owner()
        if owner.process.running:
            self.note(f"suspend {owner.name}", "owner_suspended")
            owner.process.suspended = True

    def do_wake(self) -> None:
        """It wakes."""
        for owner in self.cluster.owners:
            if owner.process.suspended:
                self.note(f"wake {owner.name}")
                owner.process.suspended = False

    def do_start(self) -> None:
        """A daemon is started."""
        down = [owner for owner in self.cluster.owners if owner.mirror is None]
        if down:
            owner = self.random.choice(down)
            self.note(f"start {owner.name}")
            owner.start()

    def do_lose_state(self) -> None:
        """A daemon's directory is lost, while it is down."""
        owner = self.owner()
        if owner.mirror is None and self._all_votes_count():
            self.note(f"{owner.name} loses its state directory", "lose_state")
            owner.lose_state()

    def do_take_over(self) -> None:
        """dst storage take-over."""
        owner = self.owner()
        if owner.mirror is not None and owner.process.running and not owner.serves:
            self.note(f"take over by {owner.name}", "take_over")
            _ignored(owner.mirror.take_over())

    def do_failover(self) -> None:
        """
        The owner is gone with writes on their way, which arrive, or end, when another one has taken over and has
        written at the same place: what single faults would do by chance, and rarely.
        """
        cluster = self.cluster
        owner = cluster.server
        if owner is None:
            return
        n = self.random.randrange(cluster.members)
        late = self.random.random() < 0.6
        for other in cluster.owners:
            if other is not owner and other.mirror is None:
                other.start()
        self.note(f"failover of {owner.name}, n{n} {'hears late' if late else 'hangs'}", "failover")
        sector = self.random.randrange(cluster.data_sectors // 8 - 1) * 8
        owner.write(sector, 8)
        cluster.advance(0.02)
        if late:
            owner.paths[n].out = False
        else:
            for disk in cluster.servers[n].disks:
                disk.hold("write")
        owner.write(sector, 8)
        owner.read(sector, 8)
        cluster.advance(self.random.choice((0.001, 0.01)))
        for disk in cluster.servers[n].disks:
            disk.held_kinds = frozenset()
        if self.random.random() < 0.6:
            owner.kill()
        else:
            for path in owner.paths:
                path.out = path.back = False
        for _ in range(4):
            cluster.advance(self.random.choice((0.5, 1.0, 2.0)))
            server = cluster.server
            if server is not None:
                server.write(sector, 8)
                server.read(sector, 8)
        for disk in cluster.servers[n].disks:
            disk.release()
        if owner.serves:
            owner.read(sector, 8)

    def _person(self, what: str) -> None:
        owner = self.cluster.server
        if owner is not None and owner.mirror is not None:
            n = self.random.randrange(self.cluster.members)
            self.note(f"{what} n{n}", what)
            _ignored(getattr(owner.mirror, what)(f"n{n}"))

    def do_member_suspended(self) -> None:
        """dst suspend; not of what may be the last copy without anybody having noticed."""
        if self._all_have_labels():
            self._person("suspend")

    def do_member_resumed(self) -> None:
        """dst resume."""
        self._person("resume")

    def do_mark_dirty(self) -> None:
        """dst mark-dirty; not of what may be the last copy without anybody having noticed."""
        if self._all_have_labels():
            self._person("mark_dirty")

    # -- the end

    def converge(self) -> None:
        """Everything is well again."""
        cluster = self.cluster
        cluster.heal()
        self.note("heal")
        resumed: set[int] = set()

        def serving() -> bool:
            owner = cluster.server
            if owner is None or owner.mirror is None:
                return False
            if owner.mirror.link is not LinkState.READY and cluster.options.get("minimum_copies", 1) == 1:
                return False  # else it may be waiting for just those that are suspended
            for n, member in enumerate(owner.mirror.members):
                if member.suspended and n not in resumed:
                    resumed.add(n)
                    _ignored(owner.mirror.resume(f"n{n}"), lambda n=n: resumed.discard(n))
            return cluster.whole() is not None

        cluster.until("whole", serving, 900)
        cluster.check_convergence()


def _ignored(done: Deferred[None], failed: object = None) -> None:
    """A person's command may be refused."""

    def refused(failure: Failure) -> None:
        failure.trap(DSTError)
        if callable(failed):
            failed()

    done.addErrback(refused)


def live(seed: int, steps: int = STEPS) -> Life:
    """
    Live one life and check it.

    @raise Wrong: a promise was broken.
    """
    life = Life(seed)
    cluster = life.cluster
    try:
        cluster.owners[0].start()
        cluster.until("served", lambda: cluster.server)
        for n in range(steps):
            life.step()
            cluster.advance(0)
            if n % 4 == 0:
                cluster.check_invariant()
        life.converge()
    except BaseException as error:
        error.life = life  # type: ignore[attr-defined]
        raise
    finally:
        cluster.end()
    return life


def count_of(lives: list[Life]) -> Counter[str]:
    """How many faults of each kind they had."""
    total: Counter[str] = Counter()
    for life in lives:
        total.update(life.cluster.faults)
    return total
