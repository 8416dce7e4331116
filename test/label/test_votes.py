"""Tests of L{dst.label.votes}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.label.format import Vote
from dst.label.votes import next_votes
from dst.ownership import FENCE_BYTES


def node(name: str) -> Vote:
    """The vote of a node that fences."""
    return Vote(name.encode().ljust(16, b"."), b"f" * FENCE_BYTES, name)


def store(name: str) -> Vote:
    """The vote of an owner's own store."""
    return Vote(name.encode().ljust(16, b"."), bytes(FENCE_BYTES), name)


class NextVotesTests(SynchronousTestCase):
    """The list of votes changes by one vote per record."""

    def steps(self, present: list[Vote], wanted: list[Vote], available: list[Vote]) -> list[str]:
        """The lists, as words, until nothing changes any more."""
        votes = tuple(present)
        lists = []
        while (following := next_votes(votes, wanted, available)) != votes:
            self.assertEqual(1, len({*votes} ^ {*following}))
            votes = following
            lists.append(" ".join(vote.name for vote in votes))
        return lists

    def test_another_store(self) -> None:
        """The store of the owner before gives way first: with both of them no third owner could have a majority."""
        a, b, old, new = node("a"), node("b"), store("old"), store("new")
        self.assertEqual(["a b", "a b new"], self.steps([a, b, old], [a, b, new], [new, a, b]))

    def test_nodes_come_before_others_go(self) -> None:
        """A vote that can be cast comes before one that is not wanted any more goes."""
        a, b, c = node("a"), node("b"), node("c")
        self.assertEqual(["a b c", "b c"], self.steps([a, b], [b, c], [b, c]))

    def test_only_who_can_vote(self) -> None:
        """A vote that cannot be cast now is not added."""
        a, b, c = node("a"), node("b"), node("c")
        self.assertEqual([], self.steps([a, b], [a, b, c], [a, b]))

    def test_somebody_stays(self) -> None:
        """The last vote is not taken away."""
        self.assertEqual([], self.steps([store("old")], [store("new")], []))
        self.assertEqual(["old a", "a"], self.steps([store("old")], [node("a")], [node("a")]))
        self.assertEqual(["old new", "new"], self.steps([store("old")], [store("new")], [store("new")]))
