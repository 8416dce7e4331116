"""
Owning a storage: claims on its nodes, the lease that they make together, and giving it up.

One object for the life of a mirror; a start claims through it, service renews through it. What it knows of a node is
what the node has promised; what a quorum of promises means is decided by C{dst.label.votes} and C{dst.label.verdict}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import DSTError, Fenced, Unavailable
from dst.interfaces import IFenced, INode
from dst.label.format import Vote
from dst.label.votes import Quorum, has_quorum, lease_end, needed
from dst.ownership import NO_CLAIM, Claim, Promise
from dst.recovery.record_store import IRecordStore
from dst.status import LinkState
from dst.surroundings import REAL

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Holder", "Ownership", "fenced"]

_log = Logger()

_T = TypeVar("_T")

_ANSWER_S_MAX = 2.5
"""How long a node may take for a promise; draining a disk that hangs takes longer, and is tried again."""

_RENEWALS_PER_LEASE = 3
"""So that one that is lost harms nothing."""

_NO_FENCE = bytes(16)


def fenced(node: INode) -> IFenced | None:
    """C{node} as one that fences; C{None} when it cannot, or has not said that it can."""
    return node if IFenced.providedBy(node) and node.fence else None


class Holder(Protocol):
    """
    What can be claimed: a member, or a witness.

    @ivar node_id: the identity on its media; C{b""} while it has none in this storage.
    @ivar granted: its node has promised itself to this owner, or cannot promise anything.
    """

    node: INode
    node_id: bytes
    granted: bool

    @property
    def name(self) -> str:
        """Its node's name."""


class Ownership:
    """
    The claims of one daemon on one storage.

    @ivar owner: 16 bytes, this daemon's identity for the storage; kept over restarts where it has a directory.
    @ivar own_vote: that of the owner's own store; C{None} without one.
    @ivar claim: what nodes are asked for: the claim that is held, or was held last, or a higher one.
    @ivar owned: the highest one that a quorum has granted: what records are written under. A record under a claim
        that only a few have granted would be taken for newer than what another owner, who never saw that claim,
        has made of the others.
    @ivar votes: whose promises count now; none while nothing is served.
    @ivar doubt: one sentence why another daemon may have owned the storage meanwhile, though nobody says so; or
        C{""}.
    @ivar held: the nodes are being kept by renewals.
    @ivar promises: what each node, by name, said last.
    """

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        store: IRecordStore,
        holders: Callable[[], Sequence[Holder]],
        *,
        lease_s: float,
        quorum: Quorum,
        owner_name: str,
        entropy: Callable[[int], bytes],
        now: Callable[[], float] = REAL.boot_clock_s,
    ) -> None:
        """
        @param holders: the members and witnesses there are now.
        @param now: the clock that leases are counted on.
        """
        self._clock = clock
        self._name = name
        self._store = store
        self._holders = holders
        self._closed = False
        self._entropy = entropy
        self.lease_s = lease_s
        self.quorum = quorum
        self.owner_name = owner_name
        self.now = now
        self.owner = b""
        self.own_vote: Vote | None = None
        self.claim = self.owned = NO_CLAIM
        self.votes: Callable[[], Collection[Vote]] = tuple
        self.doubt = ""
        self._first = 1
        self.held = False
        self.promises: dict[str, Promise] = {}
        self._heard: dict[str, float] = {}
        self._granted_by: dict[str, bytes] = {}
        self._timer: IDelayedCall | None = None
        self._claiming = DeferredLock()
        self.told: Callable[[], None] = _nothing
        self.refused: Callable[[Holder, Promise], None] = _nothing
        self.reclaimed: Callable[[], None] = _nothing

    async def open(self) -> None:
        """Learn who this daemon is to the storage."""
        if not self.owner:
            kept = await self._store.owner()
            self.owner = kept or self._entropy(16)
            # People may call several daemons the same; who has asked for a storage must be told apart.
            self.owner_name = f"{self.owner_name[:48]} ({self.owner[:3].hex()})"
            if kept:
                self.own_vote = Vote(self.owner, _NO_FENCE, f"state of {self.owner_name}"[:64])

    # -- what is known

    def is_ours(self, promise: Promise) -> bool:
        """It is promised to this daemon."""
        return promise.claim.owner == self.owner and promise.claim.number > 0 and not promise.released

    def other_owner(self, promise: Promise) -> bool:
        """Somebody else may be counting on it."""
        return promise.claim.owner != self.owner and not promise.released and promise.held_s > 0

    def _is_anothers(self, promise: Promise) -> bool:
        """Somebody else was granted it, after this daemon had a quorum."""
        return promise.claim > (self.claim if promise.claim.owner == self.owner else self.owned)

    def _has_stayed_ours(self, promise: Promise) -> bool:
        """It was promised to this daemon in its present time as the owner, and to nobody since."""
        return self.is_ours(promise) and self._first <= promise.claim.number <= self.claim.number

    def vote_of(self, holder: Holder) -> tuple[bytes, bytes] | None:
        """Its vote, if it can cast one now."""
        node = fenced(holder.node)
        if node is None or not holder.granted or not holder.node_id or holder.node.link is not LinkState.READY:
            return None
        if self._granted_by.get(holder.name) != node.fence:
            return None  # it has forgotten what it granted, and was not asked again
        return (holder.node_id, node.fence)

    def lease_end(self, votes: Collection[Vote]) -> float:
        """Until when C{now()} nobody else can have been granted a quorum of C{votes}."""
        names = {
            (holder.node_id, node.fence): holder.name
            for holder in self._holders()
            if (node := fenced(holder.node)) is not None and holder.node_id
        }
        if self.own_vote in votes and needed(len(votes), self.quorum) == 1:
            return float("inf")

        def heard(vote: Vote) -> float:
            if vote == self.own_vote:
                return float("inf")
            return self._heard.get(names.get((vote.node_id, vote.fence), ""), float("-inf"))

        return lease_end(votes, heard, self.lease_s, self.quorum)

    def lease_over(self) -> bool:
        """Another daemon may have been granted a quorum by now."""
        return self.now() >= self.lease_end(self.votes())

    def lost_to(self, votes: Collection[Vote]) -> str:
        """
        Who has been granted so many of C{votes} that this daemon cannot have a quorum any more; or C{""}. When its
        lease is over one is enough: the others may not have been seen since.

        Whether they hold them still makes no difference: they may have served meanwhile, and only a start reads what
        they have left.
        """
        elsewhere: dict[bytes, list[str]] = {}
        taken = 0
        for holder in self._holders():
            promise = self.promises.get(holder.name)
            ours = any(vote.node_id == holder.node_id for vote in votes)
            taken_away = promise is not None and not holder.granted and self._is_anothers(promise)
            if promise is not None and ours and taken_away:
                taken += 1
                elsewhere.setdefault(promise.claim.owner, []).append(promise.owner_name)
        if taken > len(votes) - needed(len(votes), self.quorum) or (taken and self.now() >= self.lease_end(votes)):
            return max(elsewhere.values(), key=len)[0] or "another daemon"
        return ""

    def wanted_by(self) -> str:
        """Who has asked for the storage, if somebody has."""
        for promise in self.promises.values():
            if promise.wanted_by and promise.wanted_by != self.owner_name and self.is_ours(promise):
                return promise.wanted_by
        return ""

    # -- promises

    async def ask(self) -> None:
        """See what the nodes that can be reached have promised."""
        self.promises = {}
        await self._each(self._holders(), lambda node: node.ask())

    async def want(self) -> None:
        """Ask for the storage, wherever it is."""
        await self._each(self._holders(), lambda node: node.want(self.owner_name))

    async def claim_all(self, above: int, holders: Iterable[Holder]) -> None:
        """
        Claim C{holders} with a number above C{above}, and every one that has been seen.

        What was granted says C{granted}. Whoever cannot fence needs no claim.
        """
        for holder in self._holders():
            holder.granted = False
        number = max([above, self.claim.number, *(p.claim.number for p in self.promises.values())]) + 1
        self.claim = Claim(number, int.from_bytes(self._entropy(8), "little") | 1, self.owner)
        self.owned, self._first, self.doubt = self.claim, number, ""  # the start sees who has granted it
        self.votes = tuple
        chosen = []
        for holder in holders:
            if fenced(holder.node) is None:
                holder.granted = True
            else:
                chosen.append(holder)
        self._heard = {}
        claim, sent = self.claim, self.now()
        await self._each(chosen, lambda node: node.claim(claim, self.lease_s, self.owner_name))
        for holder in chosen:
            promise = self.promises.get(holder.name)
            if promise is not None and promise.claim == claim and not promise.released:
                holder.granted = True
                self._granted_by[holder.name] = promise.fence
                self._heard[holder.name] = sent
        self._hold()

    async def admit(self, holder: Holder) -> None:
        """
        Claim one node that has come later.

        @raise Fenced: it is promised to somebody else.
        """
        node = fenced(holder.node)
        if node is None:
            holder.granted = True
            return
        holder.granted = False
        claim = self.claim
        if self.lease_over():
            # Somebody else may have had a quorum, and this node with it: it is asked for what it has promised
            # already, and for nothing that would hide that.
            promise = self.promises[holder.name] = await self._in_time(node.ask())
            if not self._has_stayed_ours(promise):
                raise Fenced(f"{holder.name} is not claimed while the lease on the other votes is over")
            claim = promise.claim
        promise = await self._claim_one(holder, node, claim)
        if not holder.granted and promise.claim >= self.claim:
            # Somebody tried to take over, and got no quorum; or this daemon has given back just this node: what is
            # left of that ends with a higher claim.
            if self.other_owner(promise) or self.lease_over():
                raise self._not_ours(holder, promise)
            await self.claim_again(promise.claim.number)
            promise = await self._claim_one(holder, node, self.claim)
        if not holder.granted:
            raise self._not_ours(holder, promise)

    def _not_ours(self, holder: Holder, promise: Promise) -> Fenced:
        whose = promise.owner_name or "another daemon"
        return Fenced(f"{holder.name} is promised to {whose} for {promise.held_s:.1f} s more")

    async def _claim_one(self, holder: Holder, node: IFenced, claim: Claim) -> Promise:
        sent, had = self.now(), self.promises.get(holder.name)
        promise = await self._in_time(node.claim(claim, self.lease_s, self.owner_name))
        self.promises[holder.name] = promise
        if promise.claim == claim and not promise.released:
            if had is None or had.claim != claim:
                self._was_granted(holder, self.lease_over())
            holder.granted = True
            self._granted_by[holder.name] = promise.fence
            self._heard[holder.name] = sent
            self._hold()
            self._settle()
        return promise

    def _was_granted(self, holder: Holder, too_late: bool) -> None:
        """
        A node has granted what it had not before. While the lease runs nobody else can have had a quorum until then;
        when it is over that is not known, and what the node would have said of it is gone.
        """
        if too_late and any(vote.node_id == holder.node_id for vote in self.votes()):
            self.doubt = f"the lease was over before {holder.name} granted a higher claim"

    async def claim_again(self, above: int) -> None:
        """
        Raise the claim without giving up anything: the same owner is granted at once. Who has not granted the higher
        one is asked again with each renewal; until a quorum has, the older one goes on.
        """
        await self._claiming.acquire()
        try:
            if self.claim.number > above:
                return
            _log.info("{name}: claims again above {above}", name=self._name, above=above)
            self.claim = Claim(above + 1, int.from_bytes(self._entropy(8), "little") | 1, self.owner)
            claim, sent = self.claim, self.now()
            kept = [holder for holder in self._holders() if holder.granted and fenced(holder.node) is not None]
            await self._each(kept, lambda node: node.claim(claim, self.lease_s, self.owner_name))
            too_late = self.lease_over()
            for holder in kept:
                promise = self.promises.get(holder.name)
                if promise is not None and self.is_ours(promise) and promise.claim <= claim:
                    if promise.claim == claim:
                        self._was_granted(holder, too_late)
                    self._heard[holder.name] = sent
        finally:
            self._claiming.release()
        self._settle()

    def _settle(self) -> None:
        """Go on under the raised claim when a quorum has granted it."""
        if self.owned == self.claim:
            return
        own = self.own_vote
        cast = {(own.node_id, own.fence)} if own is not None else set()
        for holder in self._holders():
            promise, vote = self.promises.get(holder.name), self.vote_of(holder)
            if vote is not None and promise is not None and promise.claim == self.claim:
                cast.add(vote)
        if self.has_quorum(self.votes(), cast):
            self.owned = self.claim
            self.reclaimed()

    async def let_go(self, holder: Holder) -> None:
        """
        Ask C{holder} under no claim from now on, where the one that was granted does not stand any more: reading is
        always allowed. Nothing that was sent under it may still be under way.
        """
        node = fenced(holder.node)
        if node is not None and not holder.granted:
            await self._in_time(node.release())

    async def give_back(self) -> None:
        """Release every node that was granted: whoever claims next need not wait."""
        self._end_renewals()
        granted = [holder for holder in self._holders() if holder.granted]
        for holder in granted:
            holder.granted = False
        await self._each(granted, lambda node: node.release())

    def stop(self) -> None:
        """Renew no more, whatever may still be granted: the storage is closed."""
        self._closed = True
        self._end_renewals()

    def _end_renewals(self) -> None:
        self.held = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the lease

    def _hold(self) -> None:
        if self._closed:
            return
        self.held = True
        if self._timer is None and any(fenced(holder.node) is not None for holder in self._holders()):
            self._timer = self._clock.callLater(self.lease_s / _RENEWALS_PER_LEASE, self._renew)

    def renew_now(self) -> None:
        """Something is suspicious: do not wait for the next round."""
        if self.held and self._timer is not None:
            self._timer.reset(0)

    def _renew(self) -> None:
        self._timer = self._clock.callLater(self.lease_s / _RENEWALS_PER_LEASE, self._renew)
        sent = self.now()
        for holder in self._holders():
            node = fenced(holder.node)
            if node is not None and holder.granted and holder.node.link in (LinkState.READY, LinkState.INTERRUPTED):
                had = self.promises.get(holder.name)
                if had is None or had.claim == self.claim or self.lease_over():
                    asked = node.renew()
                else:
                    asked = node.claim(self.claim, self.lease_s, self.owner_name)  # it has not heard of that yet
                self._in_time(asked).addCallbacks(self._renewed, _silent, (holder, sent), {}, (), {}).addErrback(
                    _report
                )
            elif node is not None and not holder.granted and holder.node.link is LinkState.READY:
                # Whoever has it may have a quorum by now.
                self._in_time(node.ask()).addCallbacks(self._seen, _silent, (holder,), {}, (), {}).addErrback(_report)
        self.told()

    def _seen(self, promise: Promise, holder: Holder) -> None:
        if self.held and not holder.granted:
            self.promises[holder.name] = promise
            same = promise.claim == self.claim and self._granted_by.get(holder.name) == promise.fence
            if same and self._has_stayed_ours(promise):
                holder.granted = True  # it did not answer for a while, and has promised nothing to anybody else
            self.told()

    def _renewed(self, promise: Promise, holder: Holder, sent: float) -> None:
        if not self.held:
            return
        had, self.promises[holder.name] = self.promises.get(holder.name), promise
        if self.is_ours(promise) and promise.claim <= self.claim:
            if promise.claim != (had.claim if had is not None else self.owned):
                self._was_granted(holder, self.lease_over())
            self._settle()
            self._heard[holder.name] = max(sent, self._heard.get(holder.name, sent))
        else:
            if self.is_ours(promise):
                self.doubt = f"a daemon that has a copy of this one's state directory has claimed {holder.name}"
            holder.granted = False
            self._heard.pop(holder.name, None)
            self.refused(holder, promise)
        self.told()

    # -- asking nodes

    async def _each(self, holders: Iterable[Holder], what: Callable[[IFenced], Deferred[Promise]]) -> None:
        """Ask all of them at once; what they answer is in C{promises}, and who did not answer is not."""
        asked = [
            (holder, self._in_time(what(node)))
            for holder in holders
            if (node := fenced(holder.node)) is not None and holder.node.link is LinkState.READY
        ]
        answers = await DeferredList([answer for _, answer in asked], consumeErrors=True)
        for (holder, _), (good, answer) in zip(asked, answers, strict=True):
            if good:
                self.promises[holder.name] = answer
            else:
                self.promises.pop(holder.name, None)
                failure: Any = answer
                if not failure.check(DSTError):
                    _log.failure("{node} failed with what is no DSTError", failure, node=holder.name)

    def _in_time(self, answer: Deferred[_T]) -> Deferred[_T]:
        return answer.addTimeout(_ANSWER_S_MAX, self._clock, _too_late)

    def has_quorum(self, votes: Collection[Vote], given: Collection[tuple[bytes, bytes]]) -> bool:
        """C{given} are enough of C{votes} by the setting."""
        return has_quorum(votes, given, self.quorum)


def _too_late(result: object, seconds: float) -> Failure:
    return Failure(Unavailable(f"the node has said nothing of its promise for {seconds:g} s"))


def _silent(failure: Failure) -> None:
    """No renewal: the lease simply is not prolonged."""
    failure.trap(DSTError)


def _report(failure: Failure) -> None:
    _log.failure("renewing a lease failed", failure)


def _nothing(*_: Any) -> None:
    """Nobody is told."""
