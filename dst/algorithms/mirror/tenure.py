"""
The time in which this daemon owns a storage: its lease, what it does when somebody else wants it or has it, its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dst.algorithms.mirror.member import Member
from dst.algorithms.mirror.owning import Holder
from dst.errors import DSTError, Fenced, InvalidRequest, Unavailable
from dst.label.format import Vote
from dst.label.lineage import Lineage, lineage
from dst.label.votes import needed, words_of
from dst.ownership import Promise
from dst.recovery.label_store import LabelStore
from dst.status import LinkState

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror
    from dst.algorithms.mirror.serving import Serving

__all__ = ["Tenure"]

_log = Logger()

_HANDED_S = 15.0
"""How long the daemon that a storage was handed over to has the first claim on it; or waits if that failed."""

_CLAIM_LAST_S = 1.0
"""How often the last copy is claimed again while somebody else's claim stands on it."""


class Tenure:
    """
    What one mirror does about its ownership while it serves.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._handover: Deferred[None] | None = None
        self._handed_to = ""
        self._handed_until = 0.0
        self._not_again_until = 0.0
        self._waiting: list[Deferred[None]] = []
        self._claiming_last: set[Member] = set()
        ownership = mirror.ownership
        ownership.told = self._told
        ownership.refused = self._refused
        ownership.reclaimed = self._reclaimed

    @property
    def wanted(self) -> bool:
        """A person wants it to be owned here."""
        return bool(self._waiting)

    @property
    def handing_over(self) -> bool:
        """It is being ended in order, for another daemon."""
        return self._handover is not None

    @property
    def handed_s_left(self) -> float:
        """How much longer the daemon that the storage was handed over to has the first claim on it."""
        return max(0.0, self._handed_until - self._mirror.ownership.now()) if self._handed_to else 0.0

    def handed_to(self) -> str:
        """Who has asked for the storage and is expected to take it now; or C{""}."""
        return self._handed_to if self.handed_s_left else ""

    def begun(self) -> None:
        """The storage is served here."""
        self._handed_to = ""
        serving = self._mirror.serving
        if serving is not None:
            configuration = serving.configuration
            self._mirror.ownership.votes = lambda: configuration.record.votes
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    def closed(self) -> None:
        """The storage is closed here."""
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.errback(Unavailable(f"{self._mirror.name} was closed"))

    def take_over(self) -> Deferred[None]:
        """See L{dst.interfaces.IAlgorithm.take_over}."""
        mirror = self._mirror
        if mirror.link in (LinkState.CONNECTING, LinkState.CLOSED):
            return fail(mirror.unavailable())
        if mirror.serving is not None:
            return fail(InvalidRequest(f"{mirror.name} is served by this daemon already"))
        done: Deferred[None] = Deferred(self._not_wanted)
        self._waiting.append(done)
        if mirror.starter is not None:
            mirror.starter.take_over()
        return done

    def _not_wanted(self, done: Deferred[None]) -> None:
        if done in self._waiting:
            self._waiting.remove(done)
        if not self._waiting and self._mirror.starter is not None:
            self._mirror.starter.want_no_more()

    # -- the lease

    def _told(self) -> None:
        """A lease was prolonged, or not."""
        mirror = self._mirror
        serving = mirror.serving
        if serving is None or mirror.closing:
            return
        configuration, ownership = serving.configuration, mirror.ownership
        votes = configuration.record.votes
        other = ownership.lost_to(votes)
        if other:
            reason = f"{other} owns {mirror.name} now"
            mirror.start_again(reason, Fenced(f"{reason}; this daemon does not serve it any more"))
            return
        if ownership.doubt:
            reason = f"another daemon may have owned {mirror.name} meanwhile: {ownership.doubt}"
            mirror.start_again(reason, Fenced(f"{reason}; what it has left is read first"))
            return
        configuration.lease_until = ownership.lease_end(votes)
        if configuration.lease_over():
            if not configuration.no_quorum:
                configuration.bar(self._no_quorum(votes))
        elif configuration.no_quorum:
            configuration.unbar()
            for member in mirror.members:
                serving.returning.consider(member)
        else:
            serving.data_path.choose_readers()
        wanted_by = ownership.wanted_by()
        asked_too_soon = ownership.now() < self._not_again_until
        if wanted_by and self._handover is None and not configuration.no_quorum and not asked_too_soon:
            self._handover = Deferred.fromCoroutine(self._hand_over(serving, wanted_by)).addErrback(
                lambda failure: _log.failure("handing a storage over failed", failure)
            )

    def _no_quorum(self, votes: Sequence[Vote]) -> str:
        ownership = self._mirror.ownership
        silent = [vote for vote in votes if ownership.lease_end([vote]) <= ownership.now()]
        return (
            f"no quorum: {needed(len(votes), ownership.quorum)} of {len(votes)} votes are needed, and for more than "
            f"{ownership.lease_s:g} s nothing was heard from {words_of(silent)}"
        )

    # -- the end

    async def _hand_over(self, serving: Serving, to: str) -> None:
        """Another daemon has asked for the storage: end cleanly what is under way, and stand by."""
        mirror = self._mirror
        _log.info("{name} is handed over to {to}", name=mirror.name, to=to)
        reason = f"{mirror.name} is handed over to {to}"
        try:
            serving.data_path.refuse_new(Fenced(reason))
            mirror.changed(LinkState.AWAY, reason)
            released = await mirror.release(serving)
        finally:
            self._handover = None
        if serving is mirror.serving and not mirror.closing:
            until = mirror.ownership.now() + _HANDED_S
            if released:
                self._handed_to, self._handed_until = to, until
            else:
                self._not_again_until = until
            if not released:
                reason = f"{reason}, but not everything could be made stable"
            mirror.start_again(reason, Fenced(reason))

    # -- nodes that somebody else has claimed

    def _refused(self, holder: Holder, promise: Promise) -> None:
        """A node that was promised to this daemon is not any more."""
        mirror = self._mirror
        serving = mirror.serving
        if serving is None or mirror.closing:
            return
        if not isinstance(holder, Member):
            serving.witnesses.lost(holder)
            return
        who = promise.owner_name or "another daemon"
        reason = f"it was claimed by {who}" if promise.claim.number else "it has forgotten its promise"
        serving.configuration.fail(holder, reason)
        if mirror.serving is serving:
            self.claim_last(serving, holder)

    def claim_last(self, serving: Serving, member: Member) -> None:
        """If everything waits for C{member}, and it is promised to somebody else, or was: claim it again."""
        if member not in self._claiming_last and self._waits_for(serving, member):
            self._claiming_last.add(member)
            claiming = Deferred.fromCoroutine(self._claim_last(serving, member))
            claiming.addErrback(lambda failure: _log.failure("claiming the last copy failed", failure))
            claiming.addBoth(lambda _: self._claiming_last.discard(member))

    def _waits_for(self, serving: Serving, member: Member) -> bool:
        configuration = serving.configuration
        frozen = self._mirror.serving is serving and configuration.frozen
        return frozen and bool(configuration.in_sync & member.bit) and not member.granted

    async def _claim_last(self, serving: Serving, member: Member) -> None:
        """The last copy was claimed by somebody who got no quorum: it is ours again when that is over."""
        mirror = self._mirror
        while self._waits_for(serving, member):
            await deferLater(mirror.clock, _CLAIM_LAST_S)
            if not member.ready or mirror.serving is not serving:
                continue
            try:
                await mirror.ownership.admit(member)
                member.granted = False  # until it is known what it has become
                as_it_was = await self._is_as_it_was(serving, member)
            except DSTError as error:
                member.reason = str(error)
                continue
            if mirror.serving is not serving:
                return
            if not as_it_was:
                reason = f"another daemon has gone on with {member.name}, the last copy"
                mirror.start_again(reason, Fenced(f"{reason}; what it has left is read first"))
                return
            member.granted = True

    async def _is_as_it_was(self, serving: Serving, member: Member) -> bool:
        """Nobody has served with that copy: without a quorum only a person can have made that happen."""
        assert member.labels is not None
        known, record = member.labels.label, serving.configuration.newest
        found = (await LabelStore(member.device).read([known.media_size] if known is not None else [])).label
        if found is None or known is None or (found.storage_id, found.node_id) != (known.storage_id, known.node_id):
            return False
        return lineage(found.record, record) in (Lineage.SAME, Lineage.ANCESTOR)

    def _reclaimed(self) -> None:
        """The claim was raised: a record says so."""
        if self._mirror.serving is not None:
            self._mirror.serving.configuration.votes_changed()
