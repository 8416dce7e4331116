"""
What happens in one round: a load, some faults while it runs, everything mended, and every block looked at.

What a fault may cost is decided here too: something that was not flushed may be gone only if every copy was disturbed
in this round, and one of them at least lost its power.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from attrs import define, field

from test.campaign.cluster import CampaignCluster
from test.campaign.history import History, Violation
from test.campaign.load import Load, read_everything
from test.campaign.nbd_client import NBDError
from test.campaign.proxy import CableState

__all__ = ["GRACE_S", "HEAL_S_MAX", "Round", "RoundResult"]

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
        for name in sorted(self._suspended):
            self._resume(name)
        began_s = time.monotonic()
        if self.random.random() < 0.8:
            self.load.calm_down()
        owner = cluster.until_whole(HEAL_S_MAX)
        recovery_s = time.monotonic() - began_s
        self._log(f"whole after {recovery_s:.2f} s, served by {owner}")
        if not self.load.until_answered(30, SERVICE_S_MAX) and self.load.failure is None:
            raise Violation(f"all is well, and the client is not served for {SERVICE_S_MAX:g} s")
        return recovery_s

    def _resume(self, name: str) -> None:
        """It is refused while the storage starts again; a person would say it once more."""
        end_s = time.monotonic() + HEAL_S_MAX
        while time.monotonic() < end_s:
            self.operate("resume", name)
            tree = self.cluster.status(self.the_owner())
            states = {child["name"]: child["state"] for child in tree["members"]} if tree else {}
            if tree and tree["state"] == "ready" and states.get(name) != "suspended":
                return
            time.sleep(0.2)
        raise Violation(f"{name} could not be resumed in {HEAL_S_MAX:g} s")

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
            # An order to die that it has not seen was for this process, not for the next one.
            (self.cluster.directory / f"{name}.img.die").unlink(missing_ok=True)
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
        if operation == "suspend":
            self._suspended.add(node)  # it may be done also if nobody hears of it
        try:
            told = self.cluster.ask(owner, "POST", f"/v1/storages/vol/{operation}", {"node": node}, limit_s=10.0)
        except OSError as error:
            self._log(f"{operation} {node}: {error}")
            return
        if "error" in told:
            self._log(f"{operation} {node}: {told['error']['cause']}")
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

    def lose_media(self, name: str) -> None:
        """A node that is dead comes back with nothing."""
        self._log(f"media of {name} is gone")
        for suffix in ("", ".closed"):
            (self.cluster.directory / f"{name}.img{suffix}").unlink(missing_ok=True)
        self.faults["media lost"] += 1

    def lose_promises(self, name: str) -> None:
        """A node that is dead comes back without its memory of promises."""
        self._log(f"promises of {name} are gone")
        shutil.rmtree(self.cluster.directory / f"{name}-state", ignore_errors=True)
        self.faults["promises lost"] += 1

    def lose_state(self, owner: str) -> None:
        """An owner that is dead comes back as somebody who knows nothing."""
        self._log(f"state directory of {owner} is gone")
        shutil.rmtree(self.cluster.directory / f"{owner}-state", ignore_errors=True)
        self.faults["state directory of owner lost"] += 1

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
