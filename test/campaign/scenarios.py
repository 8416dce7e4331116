"""
What may happen in a round.  Each scenario is a function of the round, whose chance chooses delays and victims.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Timer

from test.campaign.proxy import CableState
from test.campaign.rounds import GRACE_S, Round

__all__ = ["scenarios_for"]


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
    if not round.cluster.fragile(victim):
        return
    if round.cluster.daemons[victim].has_died(4.0):
        round.faults["power loss of node at a chosen write"] += 1
    else:
        round.kill(victim)  # it counts still, and would die when everything is to heal


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


def killed_behind_the_owners_back(round: Round) -> None:
    """All nodes lose their power while the owner stands still: answers from before wait for it when it goes on."""
    owner = round.the_owner()
    round.pause(0.0, 0.3)
    round.stop(owner)
    round.pause(0.1, 0.5)
    nodes = list(round.cluster.shape.nodes)
    round.kill(*nodes)
    round.pause(0.0, 0.5)
    if round.random.random() < 0.5:
        round.start(*nodes)
    round.go_on(owner)
    round.pause(0.0, 1.0)
    round.start(*nodes)


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


def media_lost(round: Round) -> None:
    """A node comes back blank, is copied to in full, and something dies meanwhile."""
    victim = round.a_node()
    round.kill(victim)
    round.lose_media(victim)
    round.start(victim)
    round.until_resyncing(victim)
    round.pause(0.0, 0.3)
    who = round.random.choice(("target", "source", "owner", "all", "nobody"))
    if who == "target":
        round.kill_at(victim, changes_max=40)
        round.start(victim)
    elif who == "source":
        round.kill_at(round.a_node(victim), changes_max=10)
    elif who == "owner":
        owner = round.the_owner()
        round.kill(owner)
        round.start(owner)
    elif who == "all":
        round.everything_off()


def promises_lost(round: Round) -> None:
    """A node comes back without its memory of promises, then the owner dies."""
    victim = round.a_node()
    round.kill(victim)
    round.lose_promises(victim)
    round.start(victim)
    round.pause(0.0, 2.0)
    round.kill(round.the_owner())


def state_lost(round: Round) -> None:
    """An owner comes back without its state directory: it is another owner, and finds everything on the nodes."""
    owner = round.the_owner()
    round.kill(owner)
    round.lose_state(owner)
    round.start(owner)


def storm(round: Round) -> None:
    """One thing after the other, before anything has been mended."""
    cluster = round.cluster
    for _ in range(round.random.randrange(4, 10)):
        down = [name for name, daemon in cluster.daemons.items() if not daemon.running]
        up = [name for name, daemon in cluster.daemons.items() if daemon.running and not daemon.stopped]
        nodes = [name for name in up if name in cluster.shape.nodes]
        stopped = [name for name, daemon in cluster.daemons.items() if daemon.running and daemon.stopped]
        what = round.random.random()
        if down and what < 0.4:
            round.start(round.random.choice(down))
        elif stopped and what < 0.5:
            round.go_on(round.random.choice(stopped))
        elif nodes and what < 0.65:
            round.kill_at(round.random.choice(nodes), changes_max=15)
        elif up and what < 0.75:
            round.kill(round.random.choice(up))
        elif up and what < 0.8:
            round.stop(round.random.choice(up))
        elif what < 0.97:
            ends = round.random.choice([ends for ends in cluster.cables if ends[0] != "client"])
            whole = cluster.cables[ends].state is CableState.WHOLE
            state = round.random.choice(
                (CableState.CUT, CableState.SILENT, CableState.TO_SERVER_ONLY, CableState.SLOW)
            )
            round.cable(*ends, state if whole else CableState.WHOLE, delay_s=0.1)
        elif up:
            round.kill(*up)
            round.check_ages()
        round.pause(0.0, 1.5)


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
    "killed behind the owner's back": (killed_behind_the_owners_back, 4),
    "node hangs": (node_hangs, 4),
    "cable cut": (cable_cut, 6),
    "cable silent": (cable_silent, 5),
    "cable slow": (cable_slow, 5),
    "client cut": (client_cut, 3),
    "by hand": (by_hand, 6),
    "media lost": (media_lost, 8),
    "promises lost": (promises_lost, 3),
    "state lost": (state_lost, 3),
    "storm": (storm, 16),
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


def split(round: Round) -> None:
    """
    The owner is left with one node and its clients, the other one gets the rest: what stands on that one node grows
    old, and must not be read.
    """
    owner = round.the_owner()
    other = round.the_other(owner)
    kept = round.a_node()
    state = round.random.choice((CableState.CUT, CableState.SILENT))
    for place in round.cluster.places:
        round.cable(*((other, place) if place == kept else (owner, place)), state)
    if round.random.random() < 0.8:
        sending = Timer(0.0, round.send_client_to, (owner, round.random.uniform(1.0, 6.0)))
        sending.start()
        round.until_served_by(other)
        sending.join()
    round.until_served_by(other)
    round.busy(round.random.choice((100, 400)))
    for _ in range(3):
        round.send_client_to(owner, 1.0)
        round.busy(100)


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
    "split": (split, 14),
    "handed over": (handed_over, 12),
    "both owners die": (both_owners_die, 6),
    "votes die": (votes_die, 8),
}
"""Those that need a standby."""


def scenarios_for(owners: int) -> dict[str, tuple[Callable[[Round], None], int]]:
    """Those that make sense with so many owners."""
    return {**SCENARIOS, **WITH_ANOTHER} if owners > 1 else SCENARIOS
