"""
What happens in one round: a load, some faults while it runs, everything mended, and every block looked at.

What a fault may cost is decided here too: something that was not flushed may be gone only if every copy was disturbed
in this round, and one of them at least lost its power.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from threading import Timer

from attrs import define, field

from test.campaign.cluster import CampaignCluster
from test.campaign.history import History, Violation
from test.campaign.load import Load, read_everything
from test.campaign.nbd_client import NBDError
from test.campaign.proxy import CableState

__all__ = ["SCENARIOS", "Round", "RoundResult", "scenarios_for"]

HEAL_S_MAX = 60.0
"""The promise is 30 s and what is dirty over the bandwidth; several campaigns share the machine's processors."""

SERVICE_S_MAX = 30.0
READ_S_MAX = 30.0
GRACE_S = 8.0
TAKE_OVER_S_MAX = 20.0
"""The lease (3 s), the patience (2 s), a node that is given up (5 s), and a busy machine."""

RESYNC_LOOK_S = 1.5


@define
class RoundResult:
    """What a round says of itself; plain values only, it travels as JSON."""

    scenario: str
    faults: dict[str, int] = field(factory=dict)
    blocks: int = 0
    answered: int = 0
    writes: int = 0
    flushes: int = 0
    recovery_s: float = 0.0
    gap_s: float = 0.0
    lost_sectors: int = 0
    loss_possible: bool = False
    ages_compared: int = 0
    duration_s: float = 0.0
    errors: dict[str, int] = field(factory=dict)


class Round:
    """
    One round, with the faults as its methods.

    @ivar random: of this round alone: the same seed and number choose the same faults at the same delays.
    """

    def __init__(
        self, cluster: CampaignCluster, history: History, randomness: Random, log: Callable[[str], None]
    ) -> None:
        self.cluster = cluster
        self.random = randomness
        self.faults: Counter[str] = Counter()
        self.ages_compared = 0
        self._history = history
        self._log = log
        self._disturbed: set[str] = set()
        self._lost_power: set[str] = set()
        self._suspended: set[str] = set()
        self.loss_possible = False
        patience_s = 1.5 if len(cluster.shape.owners) > 1 else 12.0
        self.load = Load(history, cluster.doors, Random(randomness.random()), log, patience_s=patience_s)

    # -- the round

    def run(self, name: str, scenario: Callable[[Round], None]) -> RoundResult:
        """@raise Violation: a promise was broken."""
        began_s = time.monotonic()
        lost_before = self._history.lost_sectors
        self._log(f"scenario {name}")
        self.load.start()
        healed = False
        try:
            self.busy(self.random.choice((50, 200, 600, 1200)))
            scenario(self)
            self.busy(self.random.choice((0, 0, 100)), must=False)
            recovery_s = self._heal()
            healed = True
        finally:
            self.load.stop(must_answer=healed)
        self._no_failure()
        self._verify()
        counts = self.load.counts
        return RoundResult(
            scenario=name,
            faults=dict(self.faults),
            blocks=self._history.blocks,
            answered=self.load.answered,
            writes=counts.writes + counts.zeroes,
            flushes=counts.flushes,
            recovery_s=recovery_s,
            gap_s=counts.gap_s_max,
            lost_sectors=self._history.lost_sectors - lost_before,
            loss_possible=self.loss_possible,
            ages_compared=self.ages_compared,
            duration_s=time.monotonic() - began_s,
            errors=counts.errors,
        )

    def _no_failure(self) -> None:
        if self.load.failure is not None:
            raise self.load.failure

    def _heal(self) -> float:
        """Mend everything; @return: how long it took from then on until all was well."""
        cluster = self.cluster
        self._log("mending everything")
        for cable in cluster.cables.values():
            if cable.state is not CableState.WHOLE:
                cluster.set_cable(cable, CableState.WHOLE, reset=cable.state is not CableState.SLOW)
        for name, daemon in cluster.daemons.items():
            (cluster.directory / f"{name}.img.die").unlink(missing_ok=True)
            if daemon.stopped:
                daemon.signal(signal.SIGCONT)
            if not daemon.running:
                daemon.kill()
        self._judge()
        cluster.start_all()
        for name in list(self._suspended):
            self.operate("resume", name)
        began_s = time.monotonic()
        if self.random.random() < 0.8:
            self.load.calm_down()
        owner = cluster.until_whole(HEAL_S_MAX)
        recovery_s = time.monotonic() - began_s
        self._log(f"whole after {recovery_s:.2f} s, served by {owner}")
        if not self.load.until_answered(30, SERVICE_S_MAX) and self.load.failure is None:
            raise Violation(f"all is well, and the client is not served for {SERVICE_S_MAX:g} s")
        return recovery_s

    def _verify(self) -> None:
        """Nothing is under way any more: read all of it, make it durable, and look at the media."""
        cluster = self.cluster
        self._judge()
        owner = cluster.until_whole(HEAL_S_MAX)
        door = next(door for door in cluster.doors if door.name == owner)
        flush = self.random.random() < 0.7
        try:
            content = read_everything(self._history, door, limit_s=READ_S_MAX, settle=True, flush=flush)
            if flush:
                cluster.compare_media(content)
            elif read_everything(self._history, door, limit_s=READ_S_MAX, settle=True, flush=False) != content:
                raise Violation("a second reading found something else")
        except NBDError as error:
            raise Violation(f"a healthy storage could not be read: {error}") from None
        self._log(f"verified {self._history.blocks} blocks{', flushed, media compared' if flush else ''}")

    def _judge(self) -> None:
        """See the module."""
        if self._lost_power and not set(self.cluster.shape.nodes) - self._disturbed:
            self.loss_possible = True
            self._history.power_lost()

    # -- what scenarios are made of

    def pause(self, least_s: float, most_s: float) -> None:
        time.sleep(self.random.uniform(least_s, most_s))

    def busy(self, requests: int, *, must: bool = True) -> None:
        """Let the client do so much."""
        if not self.load.until_answered(requests, SERVICE_S_MAX if must else 1.0) and must:
            self._no_failure()
            raise Violation(f"the client was not served for {SERVICE_S_MAX:g} s")

    def a_node(self, *not_these: str) -> str:
        return self.random.choice([name for name in self.cluster.shape.nodes if name not in not_these])

    def the_owner(self) -> str:
        """Whoever serves, or ought to."""
        return self.cluster.serving() or self.cluster.shape.owners[0]

    def _about_to_disturb(self, *names: str, power: bool = False) -> None:
        for name in names:
            if name in self.cluster.shape.nodes:
                self._disturbed.add(name)
                if power and self.cluster.fragile(name):
                    self._lost_power.add(name)
        self._judge()

    def kill(self, *names: str) -> None:
        """With C{SIGKILL}, as nearly together as may be."""
        self._about_to_disturb(*names, power=True)
        self._log(f"kill {' '.join(names)}")
        alive = [name for name in names if self.cluster.daemons[name].running]
        for name in alive:
            self.cluster.daemons[name].signal(signal.SIGKILL)
        for name in names:
            self.cluster.daemons[name].kill()
            if name in alive:
                what = "power loss of" if self.cluster.fragile(name) else "kill of"
                kind = "owner" if name in self.cluster.shape.owners else "witness" if name == "witness" else "node"
                self.faults[f"{what} {kind}"] += 1

    def kill_at(self, name: str, *, changes_max: int = 60) -> None:
        """At some change of its media, or of a flush's; after some time in any case."""
        if not self.cluster.fragile(name):
            self.pause(0.0, 0.3)
            self.kill(name)
            return
        self._about_to_disturb(name, power=True)
        at = self.random.randrange(1, changes_max)
        self._log(f"kill {name} at its change {at}")
        part = self.cluster.directory / f"{name}.part"
        part.write_text(str(at))
        os.replace(part, self.cluster.directory / f"{name}.img.die")
        if self.cluster.daemons[name].has_died(2.0):
            self.faults["power loss of node at a chosen write"] += 1
        else:
            self.kill(name)

    def start(self, *names: str) -> None:
        """Again, and wait until they are."""
        self._judge()
        self._log(f"start {' '.join(names)}")
        daemons = [self.cluster.daemons[name] for name in names]
        for daemon in daemons:
            if not daemon.running:
                daemon.kill()
                daemon.start()
        for daemon in daemons:
            daemon.until_started()

    def stop(self, name: str) -> None:
        """C{SIGSTOP}."""
        self._about_to_disturb(name)
        self._log(f"stop {name}")
        self.cluster.daemons[name].signal(signal.SIGSTOP)
        self.faults["owner stopped" if name in self.cluster.shape.owners else "node stopped"] += 1

    def go_on(self, name: str) -> None:
        """C{SIGCONT}."""
        self._log(f"{name} goes on")
        self.cluster.daemons[name].signal(signal.SIGCONT)

    def cable(self, one: str, other: str, state: CableState, delay_s: float = 0.0) -> None:
        """Change a cable; C{"client"} is one end of those of the owners."""
        self._about_to_disturb(other)
        self._log(f"cable {one}-{other}: {state.value}")
        if state is not CableState.WHOLE:
            self.faults[f"cable {state.value}"] += 1
        cable = self.cluster.cables[one, other]
        reset = state is CableState.WHOLE and cable.state not in (CableState.SLOW, CableState.WHOLE)
        self.cluster.set_cable(cable, state, delay_s=delay_s, reset=reset and self.random.random() < 0.5)

    def operate(self, operation: str, node: str) -> None:
        """Over REST; that it may be refused is part of it."""
        self._about_to_disturb(node)
        owner = self.the_owner()
        self._log(f"{operation} {node} at {owner}")
        try:
            told = self.cluster.ask(owner, "POST", f"/v1/storages/vol/{operation}", {"node": node}, limit_s=10.0)
        except OSError as error:
            self._log(f"{operation} {node}: {error}")
            return
        if "error" in told:
            self._log(f"{operation} {node}: {told['error']['cause']}")
        elif operation == "suspend":
            self._suspended.add(node)
        elif operation == "resume":
            self._suspended.discard(node)
        self.faults[f"{operation} by REST"] += 1

    def take_over(self, owner: str) -> None:
        """A person wants the storage to be served there; returns when it is, or was refused."""
        self._log(f"take over at {owner}")
        try:
            told = self.cluster.ask(owner, "POST", "/v1/storages/vol/take-over", {}, limit_s=20.0)
        except OSError as error:
            self._log(f"take over: {error}")
            return
        if "error" in told:
            self._log(f"take over: {told['error']['cause']}")
        self.faults["take over by REST"] += 1

    def the_other(self, owner: str) -> str:
        """The owner that it is not."""
        return next(name for name in self.cluster.shape.owners if name != owner)

    def until_served_by(self, owner: str) -> None:
        """@raise Violation: it does not take over."""
        began_s = time.monotonic()
        while time.monotonic() < began_s + TAKE_OVER_S_MAX:
            tree = self.cluster.status(owner)
            if tree is not None and tree["state"] == "ready":
                self._log(f"{owner} serves after {time.monotonic() - began_s:.2f} s")
                self.faults["taken over by the other owner"] += 1
                return
            time.sleep(0.02)
        raise Violation(f"{owner} did not take over in {TAKE_OVER_S_MAX:g} s: {self.cluster.status(owner)}")

    def isolate(self, owner: str, state: CableState) -> None:
        """Every cable between it and the nodes."""
        for place in self.cluster.places:
            if state is not CableState.WHOLE:
                self._about_to_disturb(place)
            self.cluster.set_cable(self.cluster.cables[owner, place], state)
        self._log(f"cables of {owner}: {state.value}")
        if state is not CableState.WHOLE:
            self.faults[f"owner isolated, {state.value}"] += 1

    def send_client_to(self, owner: str, seconds: float) -> None:
        """For some time the client reaches that one only."""
        for name in self.cluster.shape.owners:
            if name != owner:
                self.cluster.set_cable(self.cluster.cables["client", name], CableState.CUT)
        time.sleep(seconds)
        for name in self.cluster.shape.owners:
            self.cluster.set_cable(self.cluster.cables["client", name], CableState.WHOLE)

    def until_resyncing(self, name: str) -> None:
        """Until it is copied to, if that lasts long enough to be seen."""
        end = time.monotonic() + RESYNC_LOOK_S
        while time.monotonic() < end:
            tree = self.cluster.status(self.the_owner())
            state = next((child["state"] for child in tree["members"] if child["name"] == name), "") if tree else ""
            if state == "resyncing":
                self.faults["struck during resync"] += 1
                return
            time.sleep(0.01)

    def check_ages(self) -> None:
        """Nothing runs: the media must hold the invariant."""
        self.ages_compared += self.cluster.check_ages()

    def everything_off(self) -> None:
        self.kill(*self.cluster.daemons)
        self.check_ages()


# -- scenarios


def node_killed(round: Round) -> None:
    """A node dies at any moment, and comes back while the client writes on."""
    victim = round.a_node()
    round.kill_at(victim)
    round.pause(0.0, 1.0)
    round.start(victim)
    round.busy(100, must=False)


def nodes_in_turn(round: Round) -> None:
    """One after the other, the next one perhaps before the first is whole."""
    victim = ""
    for _ in range(round.random.randrange(2, 4)):
        victim = round.a_node(victim)
        round.kill_at(victim, changes_max=20)
        round.start(victim)
        round.pause(0.0, 1.5)


def killed_during_resync(round: Round) -> None:
    """A node dies, misses something, comes back, and something dies while it is copied to."""
    victim = round.a_node()
    round.kill(victim)
    round.busy(round.random.choice((300, 1500)), must=False)
    round.start(victim)
    round.until_resyncing(victim)
    round.pause(0.0, 0.05)
    who = round.random.choice(("target", "source", "owner", "all"))
    if who == "target":
        round.kill_at(victim, changes_max=10)
        round.start(victim)
    elif who == "source":
        other = round.a_node(victim)
        round.kill_at(other, changes_max=10)
        round.pause(0.0, 0.5)
        round.start(other)
    elif who == "owner":
        round.kill(round.the_owner())
    else:
        round.everything_off()


def owner_killed(round: Round) -> None:
    """The owner dies with requests in flight."""
    owner = round.the_owner()
    round.pause(0.0, 0.3)
    round.kill(owner)
    round.pause(0.0, 0.5)
    round.start(owner)


def owner_and_node_killed(round: Round) -> None:
    """Both at once; the node comes back first, or later."""
    owner, node = round.the_owner(), round.a_node()
    round.pause(0.0, 0.3)
    round.kill(owner, node)
    first, second = round.random.sample((owner, node), 2)
    round.start(first)
    round.pause(0.0, 2.0)
    round.start(second)


def all_killed(round: Round) -> None:
    """The power of everything goes at once; what was flushed is there."""
    round.pause(0.0, 0.3)
    round.everything_off()
    order = list(round.cluster.daemons)
    round.random.shuffle(order)
    if round.random.random() < 0.5:
        for name in order:
            round.start(name)


def all_nodes_killed(round: Round) -> None:
    """All nodes at once, under an owner that stays."""
    nodes = list(round.cluster.shape.nodes)
    round.pause(0.0, 0.3)
    round.kill(*nodes)
    round.check_ages()
    round.pause(0.0, 0.5)
    round.random.shuffle(nodes)
    for name in nodes:
        round.start(name)


def killed_at_first_changes(round: Round) -> None:
    """Everything goes off, and a node dies again while it is taken over."""
    round.everything_off()
    nodes = list(round.cluster.shape.nodes)
    round.start(*nodes)
    victim = round.a_node()
    if round.cluster.fragile(victim):
        (round.cluster.directory / f"{victim}.img.die").write_text(str(round.random.randrange(1, 12)))
    round.start(*round.cluster.shape.owners)
    if round.cluster.fragile(victim) and round.cluster.daemons[victim].has_died(4.0):
        round.faults["power loss of node at a chosen write"] += 1


def last_copy(round: Round) -> None:
    """One copy is left, and then none; the stale ones come back first."""
    nodes = round.cluster.shape.nodes
    last = round.a_node()
    others = [name for name in nodes if name != last]
    round.kill(*others)
    round.busy(round.random.choice((50, 300)), must=False)
    round.kill(last)
    round.check_ages()
    round.start(*others)
    round.pause(0.0, 1.0)
    round.start(last)


def node_hangs(round: Round) -> None:
    """A node stands still: a blip, or longer than the grace time."""
    long = round.random.random() < 0.25
    node = round.a_node()
    round.stop(node)
    round.pause(*((GRACE_S + 1.0, GRACE_S + 3.0) if long else (0.1, 3.0)))
    round.go_on(node)


def cable_cut(round: Round) -> None:
    """A cable between the owner and a node is cut, also in the middle of frames, and is whole again."""
    node, owner = round.a_node(), round.the_owner()
    for _ in range(round.random.randrange(1, 4)):
        round.cable(owner, node, CableState.CUT)
        round.pause(0.0, 0.8)
        round.cable(owner, node, CableState.WHOLE)
        round.pause(0.0, 0.5)


def cable_silent(round: Round) -> None:
    """A cable carries nothing, or one way only, and nobody is told."""
    node, owner = round.a_node(), round.the_owner()
    state = round.random.choice((CableState.SILENT, CableState.TO_SERVER_ONLY, CableState.TO_CLIENT_ONLY))
    round.cable(owner, node, state)
    if round.random.random() < 0.3:
        round.pause(0.1, 0.6)
    else:
        round.pause(2.0, 6.0)
    if round.random.random() < 0.3:
        round.kill_at(round.a_node(node))
    round.cable(owner, node, CableState.WHOLE)


def cable_slow(round: Round) -> None:
    """Answers of one node come late, and somebody dies meanwhile."""
    node, owner = round.a_node(), round.the_owner()
    round.cable(owner, node, CableState.SLOW, delay_s=round.random.uniform(0.02, 0.3))
    round.pause(0.2, 1.0)
    victim = round.random.choice((owner, node, round.a_node(node)))
    round.kill(victim)
    round.pause(0.0, 0.3)
    round.start(victim)


def client_cut(round: Round) -> None:
    """The client's connection is reset again and again."""
    owner = round.the_owner()
    for _ in range(3):
        round.cable("client", owner, CableState.CUT)
        round.pause(0.0, 0.2)
        round.cable("client", owner, CableState.WHOLE)
        round.busy(50, must=False)


def by_hand(round: Round) -> None:
    """A person suspends, resumes and distrusts members while something dies."""
    node = round.a_node()
    operation = round.random.choice(("suspend", "mark-dirty"))
    round.operate(operation, node)
    round.busy(round.random.choice((10, 300)), must=False)
    victim = round.random.choice((round.the_owner(), node, round.a_node(node), ""))
    if victim:
        round.kill(victim)
        round.start(victim)
        round.pause(0.0, 1.0)
    if operation == "suspend":
        round.operate("resume", node)


SCENARIOS: dict[str, tuple[Callable[[Round], None], int]] = {
    "node killed": (node_killed, 8),
    "nodes in turn": (nodes_in_turn, 6),
    "killed during resync": (killed_during_resync, 10),
    "owner killed": (owner_killed, 8),
    "owner and node killed": (owner_and_node_killed, 8),
    "all killed": (all_killed, 12),
    "all nodes killed": (all_nodes_killed, 7),
    "killed while taken over": (killed_at_first_changes, 6),
    "last copy": (last_copy, 6),
    "node hangs": (node_hangs, 4),
    "cable cut": (cable_cut, 6),
    "cable silent": (cable_silent, 5),
    "cable slow": (cable_slow, 5),
    "client cut": (client_cut, 3),
    "by hand": (by_hand, 6),
}
"""The scenarios, with how often they are chosen."""


def owner_dies_for_good(round: Round) -> None:
    """The owner dies, perhaps with a node, and the other one takes over."""
    owner = round.the_owner()
    also = [round.a_node()] if round.random.random() < 0.3 else []
    round.pause(0.0, 0.3)
    round.kill(owner, *also)
    if also and round.random.random() < 0.5:
        round.start(*also)
    round.until_served_by(round.the_other(owner))
    round.busy(100)


def owner_stands_still(round: Round) -> None:
    """The owner is stopped past its lease, with requests under way, and goes on when another one serves."""
    owner = round.the_owner()
    other = round.the_other(owner)
    round.pause(0.0, 0.3)
    round.stop(owner)
    round.until_served_by(other)
    round.busy(round.random.choice((10, 300)))
    round.go_on(owner)
    if round.random.random() < 0.6:
        round.send_client_to(owner, 1.0)
    round.busy(50)


def owner_isolated(round: Round) -> None:
    """The owner loses all nodes but no client: it must not answer what the other one has overwritten."""
    owner = round.the_owner()
    other = round.the_other(owner)
    state = round.random.choice(
        (CableState.CUT, CableState.SILENT, CableState.TO_SERVER_ONLY, CableState.TO_CLIENT_ONLY)
    )
    round.isolate(owner, state)
    round.until_served_by(other)
    round.busy(round.random.choice((50, 400)))
    round.send_client_to(owner, round.random.uniform(0.5, 2.0))
    if round.random.random() < 0.5:
        round.isolate(owner, CableState.WHOLE)
        round.send_client_to(owner, 0.5)
    round.busy(50)


def handed_over(round: Round) -> None:
    """A person moves the storage to and fro, and perhaps something dies in the middle."""
    for _ in range(round.random.randrange(1, 4)):
        owner = round.the_owner()
        other = round.the_other(owner)
        victim = round.random.choice(("", "", owner, other, round.a_node()))
        if victim:
            killing = Timer(round.random.uniform(0.0, 0.4), round.kill, (victim,))
            killing.start()
            round.take_over(other)
            killing.join()
            round.start(victim)
        else:
            round.take_over(other)
        round.busy(round.random.choice((20, 200)))


def both_owners_die(round: Round) -> None:
    """Both at once; either may be the next."""
    owners = list(round.cluster.shape.owners)
    round.kill(*owners)
    round.random.shuffle(owners)
    for owner in owners:
        round.start(owner)
        round.pause(0.0, 1.0)


def votes_die(round: Round) -> None:
    """A majority of the votes is gone for a while: nothing is lost, and it goes on."""
    places = list(round.cluster.places)
    round.random.shuffle(places)
    gone = places[: len(places) // 2 + 1]
    round.kill(*gone)
    round.pause(0.0, 2.0)
    if round.random.random() < 0.4:
        round.kill(round.the_owner())
    for name in gone:
        round.start(name)
        round.pause(0.0, 0.5)


WITH_ANOTHER: dict[str, tuple[Callable[[Round], None], int]] = {
    "owner dies for good": (owner_dies_for_good, 14),
    "owner stands still": (owner_stands_still, 12),
    "owner isolated": (owner_isolated, 12),
    "handed over": (handed_over, 12),
    "both owners die": (both_owners_die, 6),
    "votes die": (votes_die, 8),
}
"""Those that need a standby."""


def scenarios_for(owners: int) -> dict[str, tuple[Callable[[Round], None], int]]:
    """Those that make sense with so many owners."""
    return {**SCENARIOS, **WITH_ANOTHER} if owners > 1 else SCENARIOS
