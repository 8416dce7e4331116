"""Tests of L{dst.cluster.planning}."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.difference import Seen
from dst.cluster.document import read_document
from dst.cluster.moves import GONE, Edit, Move, edited
from dst.cluster.planning import MOVES_MAX, planned
from dst.cluster.rules import Finding, findings
from dst.cluster.topology import StorageSpec, Topology
from dst.errors import InvalidRequest
from test.cluster.fixtures import memory_providers

PROVIDERS = memory_providers()
MIB = 1 << 20


def check(topology: Topology) -> list[Finding]:
    """The rules, over memory."""
    return findings(topology, PROVIDERS)


def node(size: str = "8M", uri: str = "memory:") -> dict[str, object]:
    """The table of a node."""
    return {"uri": uri, "size": size} if uri == "memory:" else {"uri": uri}


def mirror(*nodes: str, **more: object) -> dict[str, object]:
    """The table of a mirror."""
    return {"algorithm": "mirror", "nodes": list(nodes), **more}


BASE: dict[str, Any] = {
    "daemon": {"state_dir": "state"},
    "listeners": {"nbd": "unix:nbd.sock"},
    "nodes": {"a": node(), "b": node(), "spare": node(), "f": node(uri="file:f.img")},
    "storages": {"vol": mirror("a", "b")},
    "exports": {"vol": {"device": "vol"}},
}

SEEN = Seen(sizes={"vol": 8 * MIB}, serving=frozenset({"vol"}), clients={"vol": 2}, copy_bytes_per_s={"vol": MIB})


class PlanningCase(SynchronousTestCase):
    """What leads from C{BASE} to something else."""

    def setUp(self) -> None:
        """What is wanted is what runs, until the test says otherwise."""
        self.wanted = copy.deepcopy(BASE)

    def plan(self, seen: Seen = SEEN, running: dict[str, Any] | None = None) -> list[Move]:
        """The steps; they lead to what is wanted."""
        running = BASE if running is None else running
        moves = planned(running, self.wanted, seen, check)
        reached = running
        for move in moves:
            reached = edited(reached, move.edits)
            self.assertEqual([], check(read_document(reached).topology), move.step.sentence)
        self.assertEqual(normal(self.wanted), normal(reached))
        return moves

    def words(self, seen: Seen = SEEN) -> list[str]:
        """The steps in short."""
        return [
            f"{move.step.action} {move.step.kind} {move.step.subject}{' later' if move.step.after_restart else ''}"
            for move in self.plan(seen)
        ]

    def refused(self, *parts: str, seen: Seen = SEEN) -> None:
        """There is no way, and the sentence has these parts."""
        error = self.assertRaises(InvalidRequest, self.plan, seen)
        for part in parts:
            self.assertIn(part, error.message)


def normal(document: dict[str, Any]) -> Topology:
    """What a document means: the order of a mirror's members, and of tables, is not part of it."""
    topology = read_document(document).topology
    by_name = {
        "nodes": tuple(sorted(topology.nodes, key=lambda spec: spec.name)),
        "slices": tuple(sorted(topology.slices, key=lambda spec: spec.name)),
        "exports": tuple(sorted(topology.exports, key=lambda spec: spec.name)),
    }
    storages = [
        StorageSpec(spec.name, spec.algorithm, tuple(sorted(spec.nodes)), spec.options, tuple(sorted(spec.witnesses)))
        for spec in sorted(topology.storages, key=lambda spec: spec.name)
    ]
    listeners = {protocol: tuple(sorted(each, key=str)) for protocol, each in topology.listeners.items() if each}
    return Topology(storages=tuple(storages), listeners=listeners, daemon=topology.daemon, **by_name)  # type: ignore[arg-type]


class StepTests(PlanningCase):
    """One kind of change after the other."""

    def test_nothing(self) -> None:
        """What runs already needs no step, in whatever order it is written."""
        self.wanted["storages"]["vol"]["nodes"] = ["b", "a"]
        self.wanted["nodes"] = dict(reversed(self.wanted["nodes"].items()))
        self.assertEqual([], self.plan())

    def test_add_member(self) -> None:
        """A node that is new comes with its membership, in one step that overwrites it."""
        self.wanted["nodes"]["c"] = node()
        self.wanted["storages"]["vol"]["nodes"].append("c")
        (move,) = self.plan()
        self.assertEqual(("add", "member", "vol/c"), (move.step.action, move.step.kind, move.step.subject))
        self.assertEqual((True, 8 * MIB), (move.step.destructive, move.step.bytes_to_copy))
        self.assertTrue(move.keep_first)
        self.assertFalse(move.wait)

    def test_remove_member(self) -> None:
        """A copy is given up; the file follows, so that no record names what a restart would not know."""
        self.wanted["storages"]["vol"]["nodes"] = ["a"]
        del self.wanted["nodes"]["b"]
        (move,) = self.plan()
        self.assertEqual(("remove", "member", "vol/b", True), (*short(move), move.step.destructive))
        self.assertFalse(move.keep_first)

    def test_member_becomes_spare(self) -> None:
        """A member that leaves may stay as a node."""
        self.wanted["storages"]["vol"]["nodes"] = ["a"]
        self.assertEqual(["remove member vol/b"], self.words())

    def test_exchange_members(self) -> None:
        """Who comes is waited for before anybody leaves: there are never fewer copies."""
        self.wanted["storages"]["vol"]["nodes"] = ["spare", "c"]
        self.wanted["nodes"] = {"spare": node(), "c": node(), "f": node(uri="file:f.img")}
        moves = self.plan()
        self.assertEqual(
            ["add member vol/spare", "add member vol/c", "remove member vol/a", "remove member vol/b"], self.words()
        )
        self.assertEqual([True, True, False, False], [move.wait for move in moves])

    def test_replace_under_the_same_name(self) -> None:
        """Other media under the same name: the plan says for how long there is one copy less."""
        self.wanted["nodes"]["b"] = node(uri="file:new.img?size=8M")
        (move,) = self.plan()
        self.assertEqual(("replace", "member", "vol/b"), short(move))
        self.assertEqual(
            (True, 8 * MIB, 8.0), (move.step.destructive, move.step.bytes_to_copy, move.step.seconds_exposed)
        )

    def test_exposure_is_not_guessed(self) -> None:
        """Where nothing was copied yet nobody knows for how long."""
        self.wanted["nodes"]["b"] = node(uri="file:new.img?size=8M")
        (move,) = self.plan(Seen(sizes={"vol": MIB}, serving=frozenset({"vol"})))
        self.assertIs(None, move.step.seconds_exposed)

    def test_same_media_in_another_way(self) -> None:
        """Another option of a member's node is nothing to copy everything for."""
        running = copy.deepcopy(BASE)
        running["nodes"]["b"] = node(uri="file:b.img?size=8M")
        self.wanted["nodes"]["b"] = node(uri="file:b.img?direct=true")
        (move,) = self.plan(running=running)
        self.assertEqual(("change", "node", "b", True), (*short(move), move.step.after_restart))

    def test_not_served_here(self) -> None:
        """Members of a storage that another daemon owns change with the next start: its owner has the say."""
        self.wanted["nodes"]["c"] = node()
        self.wanted["storages"]["vol"]["nodes"] = ["a", "c"]
        del self.wanted["nodes"]["b"]
        self.assertEqual(
            ["add node c", "change storage vol later", "remove node b later"], self.words(Seen(sizes={"vol": MIB}))
        )

    def test_exports(self) -> None:
        """They come, go and change, and who is cut off is counted."""
        self.wanted["exports"] = {"vol": {"device": "vol", "allow": []}, "g": {"device": "spare", "read_only": True}}
        moves = self.plan()
        self.assertEqual(["change export vol", "add export g"], self.words())
        self.assertIn("open to nobody; 2 clients are cut off", moves[0].step.sentence)
        self.wanted["exports"] = {}
        self.assertEqual(["remove export vol"], self.words())

    def test_export_of_another_device(self) -> None:
        """It goes before its device can, and comes when the other one is there."""
        self.wanted["exports"]["vol"]["device"] = "new"
        self.wanted["storages"] = {"new": mirror("c")}
        self.wanted["nodes"]["c"] = node()
        self.assertEqual(
            ["remove export vol", "remove storage vol", "add node c", "add storage new", "add export vol"],
            self.words(),
        )

    def test_storage_and_its_nodes_go(self) -> None:
        """From the top down."""
        self.wanted["exports"] = {}
        self.wanted["storages"] = {}
        self.wanted["nodes"] = {"spare": node(), "f": node(uri="file:f.img")}
        self.assertEqual(["remove export vol", "remove storage vol", "remove node a", "remove node b"], self.words())
        self.assertTrue(self.plan()[1].step.destructive)

    def test_tree_comes(self) -> None:
        """From the bottom up."""
        self.wanted["nodes"] |= {"d": node(), "s": {"parent": "d", "start": 0, "size": "4M"}}
        self.wanted["storages"] |= {"outer": mirror("inner"), "inner": mirror("s")}
        self.assertEqual(["add node d", "add node s", "add storage inner", "add storage outer"], self.words())

    def test_slice_under_a_member(self) -> None:
        """What a member stands on goes after it has left."""
        running = copy.deepcopy(BASE)
        running["nodes"] |= {"d": node(), "s": {"parent": "d", "start": 0, "size": "4M"}}
        running["storages"]["vol"] = mirror("a", "b", "s")
        moves = self.plan(running=running)
        self.assertEqual([("remove", "member", "vol/s"), ("remove", "node", "d")], [short(move) for move in moves])

    def test_listeners(self) -> None:
        """One that changes closes before it opens again; its clients stay."""
        self.wanted["listeners"] = {"nbd": ["unix:other.sock"], "dst": "unix:dst.sock"}
        self.assertEqual(["remove listener nbd", "add listener nbd", "add listener dst"], self.words())
        self.assertIn("clients that are connected stay", self.plan()[0].step.sentence)

    def test_after_restart(self) -> None:
        """What the process itself is, witnesses and options take effect at the next start."""
        self.wanted["daemon"]["name"] = "x"
        self.wanted["storages"]["vol"] |= {"witnesses": ["spare"], "on_loss": "error"}
        self.assertEqual(
            ["change witness vol later", "change storage vol later", "change daemon daemon.name later"], self.words()
        )

    def test_witnesses(self) -> None:
        """Where members vote, before and after a restart, witnesses come, and then others go."""
        running = copy.deepcopy(BASE)
        running["nodes"]["w"] = node("64K")
        running["storages"]["vol"] |= {"witnesses": ["w"]}
        self.wanted["nodes"]["v"] = node("64K")
        self.wanted["storages"]["vol"] |= {"witnesses": ["v"]}
        moves = self.plan(running=running)
        self.assertEqual(
            [("add", "witness", "vol/v", True), ("remove", "witness", "vol/w", False)],
            [(*short(move), move.keep_first) for move in moves],
        )

    def test_last_witness(self) -> None:
        """A storage that would vote in another way after a restart does so with a restart."""
        running = copy.deepcopy(BASE)
        running["nodes"]["w"] = node("64K")
        running["storages"]["vol"] |= {"witnesses": ["w"]}
        moves = self.plan(running=running)
        self.assertEqual(
            [("change", "witness", "vol", True), ("remove", "node", "w", True)],
            [(*short(move), move.step.after_restart) for move in moves],
        )

    def test_depends_on_a_restart(self) -> None:
        """What needs something that comes with the next start comes with it, too."""
        running = copy.deepcopy(BASE)
        del running["daemon"], self.wanted["daemon"]
        self.wanted["storages"]["vol"]["nodes"] = ["a"]
        self.wanted["exports"]["b"] = {"device": "b"}  # which a member of a mirror must not be, without a state_dir
        moves = self.plan(Seen(), running)
        self.assertEqual(
            [("change", "storage", "vol", True), ("add", "export", "b", True)],
            [(*short(move), move.step.after_restart) for move in moves],
        )
        self.assertIn("from the next start on", moves[1].step.sentence)


def short(move: Move) -> tuple[str, str, str]:
    """What a step is about."""
    return move.step.action, move.step.kind, move.step.subject


class RefusedTests(PlanningCase):
    """What would lose something in silence is refused, with what to do instead."""

    def test_algorithm(self) -> None:
        """A storage stays what it is."""
        PROVIDERS.algorithms["stripe"] = PROVIDERS.algorithms["mirror"]
        self.addCleanup(PROVIDERS.algorithms.pop, "stripe")
        self.wanted["storages"]["vol"]["algorithm"] = "stripe"
        self.refused("storages.vol", "is a mirror and cannot become a stripe", "copy to it")

    def test_members_that_are_the_data(self) -> None:
        """Nodes of other algorithms neither come nor go."""
        seen = Seen(serving=frozenset({"vol"}), widening=frozenset())
        self.wanted["storages"]["vol"]["nodes"] = ["a", "b", "spare"]
        self.refused("where its data is", seen=seen)
        self.wanted["storages"]["vol"]["nodes"] = ["b", "a"]
        self.refused("the order of the nodes", "a and b", seen=seen)

    def test_shrinking(self) -> None:
        """A slice keeps what it holds."""
        for start, size in ((0, "2M"), ("1M", "4M")):
            running = copy.deepcopy(BASE)
            running["nodes"]["s"] = {"parent": "f", "start": 0, "size": "4M"}
            self.wanted["nodes"]["s"] = {"parent": "f", "start": start, "size": size}
            error = self.assertRaises(InvalidRequest, self.plan, SEEN, running)
            self.assertIn("would be lost in silence", error.message)

    def test_leaves_and_changes(self) -> None:
        """A member that leaves is not another medium at the same time."""
        self.wanted["storages"]["vol"]["nodes"] = ["a"]
        self.wanted["nodes"]["b"] = node(uri="file:b.img")
        self.refused("in two changes")

    def test_leaves_and_changes_below(self) -> None:
        """Nor does what it stands on."""
        running = copy.deepcopy(BASE)
        running["nodes"]["s"] = {"parent": "f", "start": 0, "size": "4M"}
        running["storages"]["vol"] = mirror("a", "b", "s")
        self.wanted["nodes"]["f"] = node(uri="file:g.img")
        error = self.assertRaises(InvalidRequest, self.plan, SEEN, running)
        self.assertIn("in two changes", error.message)

    def test_member_becomes_something_else(self) -> None:
        """Nor a storage."""
        self.wanted["nodes"].pop("b")
        self.wanted["nodes"]["b1"] = node()
        self.wanted["storages"]["b"] = mirror("b1")
        self.refused("'b' is a member of 'vol'", "a name of its own")

    def test_media_change_names(self) -> None:
        """The same file under another name would be two nodes of one medium on the way."""
        running = copy.deepcopy(BASE)
        running["storages"]["vol"]["nodes"] = ["a", "f"]
        self.wanted["nodes"].pop("f")
        self.wanted["nodes"]["g"] = node(uri="file:f.img")
        self.wanted["storages"]["vol"]["nodes"] = ["a", "g"]
        error = self.assertRaises(InvalidRequest, self.plan, SEEN, running)
        self.assertIn("already; expected media of its own", error.message)

    def test_too_many(self) -> None:
        """A plan that nobody reads is not made."""
        self.wanted["nodes"] |= {f"n{number}": node() for number in range(MOVES_MAX + 1)}
        self.refused(f"more than {MOVES_MAX} steps")


node_names = st.sampled_from("abcdef")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Small configurations, some of which cannot be run."""
    nodes: dict[str, Any] = {}
    for name in draw(st.lists(node_names, unique=True)):
        nodes[name] = draw(st.sampled_from([node(), node("16M"), node(uri=f"file:{name}.img")]))
    if nodes and draw(st.booleans()):
        size = draw(st.sampled_from(["1M", "2M"]))
        nodes["s"] = {"parent": draw(st.sampled_from(sorted(nodes))), "start": 0, "size": size}
    free, storages = sorted(nodes), {}
    for name in draw(st.lists(st.sampled_from("uvw"), unique=True)):
        members = draw(st.lists(st.sampled_from(free or ["a"]), unique=True, max_size=3))
        free = [each for each in free if each not in members] + [name]
        voting = draw(st.booleans())
        if voting and free[:-1]:
            witness = draw(st.sampled_from(free[:-1]))
            free = [each for each in free if each != witness]
            storages[name] = mirror(*members, witnesses=[witness], votes="members")
        else:
            storages[name] = mirror(*members, **({"votes": "members"} if voting else {}))
    exports = {
        name: {"device": draw(st.sampled_from(free or ["a"])), "read_only": draw(st.booleans())}
        for name in draw(st.lists(st.sampled_from("xy"), unique=True))
    }
    places = draw(st.lists(st.sampled_from(["unix:1", "unix:2", "unix:3"]), unique=True))
    return {"nodes": nodes, "storages": storages, "exports": exports, "listeners": {"nbd": places}, "daemon": {}}


class AnyTests(SynchronousTestCase):
    """From anywhere to anywhere."""

    @given(documents(), documents(), st.booleans())
    @settings(deadline=None, max_examples=120)
    def test_steps_lead_there(self, running: dict[str, Any], wanted: dict[str, Any], served: bool) -> None:
        """
        Either there is a reason why not, or steps that lead there, each to something that can be run, and those that
        are done at once lead to something that runs.
        """
        for document in (running, wanted):
            read = read_document(document)
            assume(not read.findings and not check(read.topology))
        seen = Seen(serving=frozenset("uvw") if served else frozenset())
        try:
            moves = planned(running, wanted, seen, check)
        except InvalidRequest as error:
            self.assertNotEqual("", error.message)
            return
        kept = live = running
        for move in moves:
            kept = edited(kept, move.edits)
            self.assertEqual([], check(read_document(kept).topology))
            if move.live:
                live = edited(live, move.edits)
                self.assertEqual([], check(read_document(live).topology))
        self.assertEqual(normal(wanted), normal(kept))
        self.assertEqual(moves == [], normal(running) == normal(wanted))

    @given(documents())
    @settings(deadline=None, max_examples=30)
    def test_from_nothing_and_back(self, document: dict[str, Any]) -> None:
        """Anything can be begun with, and given up."""
        read = read_document(document)
        assume(not read.findings and not check(read.topology))
        for start, end in (({}, document), (document, {})):
            moves = planned(start, end, Seen(serving=frozenset("uvw")), check)
            self.assertEqual([], [move.step.sentence for move in moves if move.step.after_restart])


class EditTests(SynchronousTestCase):
    """Values at places of a document."""

    def test_new_document(self) -> None:
        """The one that was given stays as it was, and tables that become empty go."""
        document: dict[str, object] = {"nodes": {"a": {"uri": "x"}}, "daemon": {"name": "n"}}
        before = copy.deepcopy(document)
        changed = edited(document, [Edit(("nodes", "a"), GONE), Edit(("exports", "e"), {"device": "d"})])
        self.assertEqual({"daemon": {"name": "n"}, "exports": {"e": {"device": "d"}}}, changed)
        self.assertEqual(before, document)
