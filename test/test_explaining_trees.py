"""Tests of L{dst.explaining_trees}: what a status tree alone explains, and how explanations travel in it."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.explaining import Explanation
from dst.explaining_trees import CARRIED, NOBODY, NODE_BACK_S_MAX, carry, explain_node, explain_tree, explained_status
from dst.nodes.memory import MemoryDevice
from dst.status import Health, LinkState, MemberState, ResyncProgress, StatusTree
from dst.status_json import status_tree_from_plain, status_tree_to_plain


def node(state: str, kind: str = "remote", **more: object) -> StatusTree:
    health = Health.HEALTHY if state in ("ready", "in-sync") else Health.FAILED
    return StatusTree("n", kind, health, state, **more)  # type: ignore[arg-type]


def storage(*children: StatusTree, health: Health = Health.DEGRADED, **more: object) -> StatusTree:
    return StatusTree("vol", "mirror", health, "ready", children=children, **more)  # type: ignore[arg-type]


class NodeTests(SynchronousTestCase):
    """Plain nodes, whose link says everything."""

    def test_ready(self) -> None:
        """A node that is ready needs nothing."""
        explanation = explain_tree(node("ready"))
        self.assertEqual(("n is ready", "", ()), (explanation.summary, explanation.next_step, explanation.advice))

    def test_every_broken_link(self) -> None:
        """Every state of a link but ready has a reason, evidence, and what follows from it, for every kind."""
        for kind in ("file", "memory", "slice", "remote", "nbd", "third-party"):
            for state in LinkState:
                if state is not LinkState.READY:
                    explanation = explain_tree(node(state.value, kind, reason="the cable is out"))
                    self.assertIn("the cable is out", explanation.summary)
                    self.assertNotEqual("", explanation.next_step)
                    self.assertNotEqual((), explanation.evidence)

    def test_away(self) -> None:
        """A node that is away is used again by itself, within a known time of its being back."""
        explanation = explain_tree(node("away", detail={"address": "tcp:b:7450", "export": "disk"}))
        self.assertEqual(NODE_BACK_S_MAX, explanation.within_s)
        self.assertIn("export", explanation.condition)
        self.assertIn("its address is tcp:b:7450, the export disk", explanation.evidence)
        self.assertNotEqual((), explanation.advice)

    def test_closed(self) -> None:
        """Nothing happens by itself to what was closed."""
        self.assertEqual(NOBODY, explain_tree(node("closed")).next_step)

    def test_every_member_state(self) -> None:
        """A member whose storage is explained elsewhere, or not at all, gets the usual of its state."""
        for state in MemberState:
            explanation = explain_tree(node(state.value))
            if state is not MemberState.IN_SYNC:
                self.assertNotEqual("", explanation.next_step, state)

    def test_resyncing(self) -> None:
        """How long a resync takes is what its rate says, and what stops it is what it waits for."""
        progress = ResyncProgress("partial", "it was away", 100, 50, 50, 10.0)
        self.assertEqual(5.0, explain_tree(node("resyncing", resync=progress)).within_s)
        stalled = evolve(progress, bytes_per_s=0.0, stalled="the source is away")
        explanation = explain_tree(node("resyncing", resync=stalled))
        self.assertEqual(("the source is away", None), (explanation.condition, explanation.within_s))


class StorageTests(SynchronousTestCase):
    """What those below lead to."""

    def test_waits_for_members(self) -> None:
        """The next step of a storage is that of its members; the slowest says how long it takes."""
        resync = node("resyncing", resync=ResyncProgress("full", "new media", 1000, 1000, 0, 10.0))
        explanation = explain_tree(storage(node("absent"), resync, node("in-sync")))
        self.assertEqual(100.0, explanation.within_s)
        self.assertIn("tried again", explanation.next_step)
        self.assertIn("copied", explanation.next_step)
        self.assertEqual(3, len(explanation.children))

    def test_only_a_person(self) -> None:
        """Where every member waits for a person, so does the storage, which says whom to look at."""
        explanation = explain_tree(storage(node("suspended"), node("in-sync")))
        self.assertEqual(NOBODY, explanation.next_step)
        self.assertIn("n", explanation.advice[0])

    def test_unknown_time(self) -> None:
        """Nobody knows how long it takes if one of them does not."""
        away, resync = node("absent"), node("resyncing", resync=ResyncProgress("full", "new media", 1000, 1000, 0))
        self.assertIs(None, explain_tree(storage(away, resync)).within_s)

    def test_trouble_of_its_own(self) -> None:
        """A storage that is not well although everything below is still says what comes."""
        explanation = explain_tree(storage(node("in-sync"), health=Health.FROZEN, reason="no quorum"))
        self.assertIn("no quorum", explanation.summary)
        self.assertNotEqual("", explanation.next_step)


class TravelTests(SynchronousTestCase):
    """From one daemon to the next, in the status."""

    def setUp(self) -> None:
        self.tree = storage(node("absent"), node("in-sync"))
        self.explanation = evolve(
            explain_tree(self.tree),
            summary="one is away",
            row="some-row",
            evidence=("a label",),
            next_step="it returns",
            condition="it can be reached",
            within_s=12.5,
            advice=("do `this`",),
        )

    def test_round_trip(self) -> None:
        """What was explained there is what is explained here, after the trip through JSON."""
        sent = status_tree_to_plain(carry(self.tree, self.explanation))
        arrived = explain_tree(status_tree_from_plain(sent))
        self.assertEqual(self.explanation, arrived)

    def test_healthy_needs_nothing(self) -> None:
        """What is well is not made longer."""
        tree = storage(node("in-sync"), health=Health.HEALTHY)
        self.assertEqual(tree, carry(tree, explain_tree(tree)))

    def test_nonsense(self) -> None:
        """What another daemon says wrongly is left out, and the usual is said."""
        for nonsense in (
            {"summary": 5, "evidence": "text", "within_s": "soon", "advice": [1, "ok"], "next_step": ["x"]},
            {"within_s": -1},
            {},
        ):
            explanation = explain_tree(evolve(self.tree, detail={CARRIED: nonsense}))
            self.assertIsInstance(explanation, Explanation)
            self.assertIn("vol is degraded", explanation.summary)
            self.assertIs(None, explanation.within_s)
        self.assertEqual(explain_tree(self.tree), explain_tree(evolve(self.tree, detail={CARRIED: "text"})))

    def test_status_of_a_plain_node(self) -> None:
        """A node that is no storage has nothing to add to its status."""
        memory = MemoryDevice(Clock(), "m", 1 << 20)
        self.assertEqual(memory.status(), explained_status(memory))
        self.assertEqual("m", explain_node(memory).name)
