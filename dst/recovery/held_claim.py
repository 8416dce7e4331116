"""
What a node object knows of the claim that it goes under.

::

    none --claim granted--> held --granted a higher one--> held
                             |
              given back, or the node has promised itself to somebody else
                             v
                          dismissed --claim granted--> held

Under C{none} and C{dismissed} requests are asked for under no claim.  That allows reads, so that a daemon may look
at labels before it claims anything.  Who was dismissed changes nothing more: what an old owner still wanted to write
must not slip through because nobody happens to hold the node now.
"""

from __future__ import annotations

from dst.errors import Fenced
from dst.ownership import NO_CLAIM, Claim, Promise

__all__ = ["HeldClaim"]


class HeldClaim:
    """
    @ivar claim: the one that was granted last and still stands as far as is known; C{NO_CLAIM} if none does.
    @ivar epoch: what requests carry.
    @ivar dismissed: it had a claim, and has none now: changes are refused here.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked = NO_CLAIM
        self.claim = NO_CLAIM
        self.epoch = NO_CLAIM.epoch
        self.dismissed = False

    def asking(self, claim: Claim) -> None:
        """It is about to be asked for; the answer may be lost and the claim be granted all the same."""
        self._asked = claim

    def learn(self, promise: Promise) -> None:
        """Take what the node says of its promise."""
        if not promise.released and promise.claim.number and promise.claim in (self.claim, self._asked):
            self.claim = promise.claim
            self.epoch = promise.claim.epoch
            self.dismissed = False
        else:
            asked = self._asked
            self.give_up()
            if asked > promise.claim:
                self._asked = asked  # this was said before that one was granted, if it is

    def give_up(self) -> None:
        """The claim does not stand any more, if there was one."""
        if self.claim.number:
            self.claim = self._asked = NO_CLAIM
            self.epoch = NO_CLAIM.epoch
            self.dismissed = True

    def refusal(self) -> Fenced:
        """The error for a change when it was dismissed."""
        return Fenced(
            f"{self._name} was given back or claimed by another owner: nothing is changed without a new claim"
        )
