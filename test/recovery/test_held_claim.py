"""Tests of what a node object knows of its claim."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.ownership import Claim, Promise
from dst.recovery.held_claim import HeldClaim

FENCE = b"f" * 16
FIRST, THEIRS, AGAIN = Claim(1, 1, b"a" * 16), Claim(2, 1, b"b" * 16), Claim(3, 1, b"a" * 16)


class HeldClaimTests(SynchronousTestCase):
    """Answers in every order."""

    def setUp(self) -> None:
        self.held = HeldClaim("n")
        self.held.asking(FIRST)
        self.held.learn(Promise(FENCE, FIRST, False, 3.0))

    def test_answer_that_was_overtaken(self) -> None:
        """
        A claim is learned of though the node said meanwhile that it was still somebody else's: else its owner would
        count on renewals that renew nothing.
        """
        self.held.asking(AGAIN)
        self.held.learn(Promise(FENCE, THEIRS, False, 0.0))
        self.assertTrue(self.held.dismissed)
        self.held.learn(Promise(FENCE, AGAIN, False, 3.0))
        self.assertEqual((AGAIN, AGAIN.epoch, False), (self.held.claim, self.held.epoch, self.held.dismissed))

    def test_given_back(self) -> None:
        """What was given back is not held again because of an answer that comes late."""
        self.held.give_up()
        self.held.learn(Promise(FENCE, FIRST, False, 3.0))
        self.assertTrue(self.held.dismissed)

    def test_somebody_elses(self) -> None:
        """What was asked for before somebody else's was granted does not stand any more, whatever comes late."""
        self.held.learn(Promise(FENCE, THEIRS, False, 3.0))
        self.held.learn(Promise(FENCE, FIRST, False, 3.0))
        self.assertTrue(self.held.dismissed)
