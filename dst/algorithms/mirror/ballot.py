"""
The writes of one record, counted: is it stable?
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.algorithms.mirror.owning import Holder, Ownership
from dst.errors import DSTError
from dst.label.format import Vote

__all__ = ["Ballot", "not_written"]

_log = Logger()


def not_written(failure: Failure) -> bool:
    """A vote that was not cast; the member or witness is judged by those who need it."""
    failure.trap(DSTError)
    return False


class Ballot:
    """
    Everybody who is asked to keep one record.

    @ivar voters: who may vote on it, by the old list or the new one.
    @ivar wanted_failed: one that must have it has not got it.
    """

    def __init__(self, old: Sequence[Vote], new: Sequence[Vote], ownership: Ownership) -> None:
        self._lists = (old, new)
        self._ownership = ownership
        self._cast: set[tuple[bytes, bytes]] = set()
        self._wanted = 0
        self._open = 0
        self._all_added = False
        self._counted: Deferred[None] = Deferred()
        self._first: Deferred[None] | None = None
        self.wanted_failed = False
        self.voters = tuple(dict.fromkeys((*old, *new)))

    def needs(self, vote: Vote | None) -> bool:
        """C{vote} is one of the voters'."""
        return vote is not None and vote in self.voters

    def add(self, written: Deferred[bool], holder: Holder | None, *, wanted: bool) -> None:
        """
        One write that is under way.

        @param written: fires with whether it is there.
        @param holder: C{None} for the owner's own store.
        @param wanted: without it the record cannot be stable, whatever the others say.
        """
        self._open += 1
        self._wanted += wanted
        written.addCallback(self._answered, holder, wanted).addErrback(
            lambda failure: _log.failure("writing a record failed", failure)
        )

    def wanted_answered(self) -> Deferred[None]:
        """Fires when everybody who was added so far and is wanted has answered."""
        self._first = Deferred()
        self._look()
        return self._first

    def result(self) -> Deferred[None]:
        """
        All were added. Fires when everybody who is wanted has answered, and a quorum, or nobody is left to wait for.
        """
        self._all_added = True
        self._look()
        return self._counted

    def _answered(self, good: bool, holder: Holder | None, wanted: bool) -> None:
        self._open -= 1
        self._wanted -= wanted
        if good:
            own = self._ownership.own_vote
            vote = (own.node_id, own.fence) if holder is None and own is not None else None
            if holder is not None:
                vote = self._ownership.vote_of(holder)
            if vote is not None:
                self._cast.add(vote)
        self.wanted_failed = self.wanted_failed or (wanted and not good)
        self._look()

    def _look(self) -> None:
        if self._first is not None and not self._first.called and not self._wanted:
            self._first.callback(None)
        if self._all_added and not self._counted.called and not self._wanted and (not self._open or not self.short):
            self._counted.callback(None)

    def has(self, vote: Vote) -> bool:
        """It was cast."""
        return (vote.node_id, vote.fence) in self._cast

    @property
    def short(self) -> bool:
        """There is no quorum for it, yet."""
        return not all(self._ownership.has_quorum(votes, self._cast) for votes in self._lists)

    @property
    def stable(self) -> bool:
        """Everybody who is wanted has it, and a quorum."""
        return not self.wanted_failed and not self.short
