"""
The fence before one device: what it has promised, and whom it lets through.

Everything that wants to use the device goes through an L{Entrance} of its own: each session of the export, and the
node object that a storage of the same daemon has as its member.  An entrance is asked when a request is
I{executed}, and knows how many changes have begun through it and not ended.  A claim is granted in this order:

  1. decide (L{dst.label.promise.judge_fence}): refuse, or go on at once; a claim is never queued;
  2. from now on nothing passes that is not asked for under this claim, but for what its owner asks through the same
     entrance under the one before;
  3. wait until all changes have ended that others had begun;
  4. store the promise; a crash before this has granted nothing, a crash after it forgets nothing;
  5. answer.

A lease is counted on a clock that goes on while the machine is suspended.  The owner counts it from when it sent its
renewal, the fence from when it answered, so that the fence's ends later.  After its own start a fence does not know
when it heard of the owner last: it waits a full lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.errors import BadMedia, Fenced, InvalidRequest, Unavailable
from dst.label.promise import Kept, check_claim, check_name, decode_kept, encode_kept, judge_fence
from dst.ownership import FENCE_BYTES, NO_CLAIM, Claim, Promise
from dst.recovery.state_files import DirectoryFiles, IStateFiles

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["DRAIN_S_MAX", "NO_EPOCH", "WANTED_S", "Entrance", "Fence"]

_log = Logger()

NO_EPOCH = NO_CLAIM.epoch
"""What is asked for under no claim."""

DRAIN_S_MAX = 1.5
"""
How long a claim waits for what others have begun.  With a disk that hangs it is refused then, and may be asked for
again; below the time that owners give a node to answer.
"""

WANTED_S = 15.0
"""How long a wish is remembered: whoever still has it repeats it."""

_EPOCHS_MAX = 8
"""Claims of one owner that may be under way in one session at a time: it does not claim again that often."""


class Entrance:
    """
    One way to a device that is fenced.

    The user compares the epoch of each request with C{passes}, and only where they differ asks L{refusal}.

    @ivar fence: what it leads past.
    @ivar passes: the epoch under which everything may be done now; C{None} if that has to be asked.
    @ivar awaited: somebody waits for the changes that have begun here: call L{settled} when the last one has ended.
    """

    __slots__ = ("_changes", "_epochs", "awaited", "fence", "moved", "passes")

    def __init__(self, fence: Fence, changes: Callable[[], int], moved: Callable[[], None]) -> None:
        self.fence = fence
        self._changes = changes
        self.moved = moved
        self._epochs: tuple[bytes, ...] = ()
        self.passes: bytes | None = None
        self.awaited = False

    @property
    def changes(self) -> int:
        """How many changes have begun here and not ended."""
        return self._changes()

    def refusal(self, epoch: bytes, change: bool) -> Fenced | None:
        """
        Why a request may not be executed now, if it may not.

        @param epoch: of the claim that it is asked for under.
        @param change: it would change the device.
        """
        fence = self.fence
        kept, pending = fence.kept, fence.pending
        if epoch == NO_EPOCH:
            if not change:
                return None
            if pending is None and not kept.held:
                self.passes = epoch
                return None
        elif epoch in self._epochs:
            self.passes = epoch
            return None
        elif pending is None and kept.held and epoch == kept.claim.epoch:
            self._epochs = (epoch,)
            self.passes = epoch
            return None
        return Fenced(fence.refused_because(epoch))

    def claim(self, claim: Claim, lease_s: float, name: str) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.claim}."""
        return Deferred.fromCoroutine(self.fence.claim(self, claim, lease_s, name))

    def settled(self) -> None:
        """The last change that had begun here has ended."""
        self.fence.settled()

    def leave(self) -> None:
        """Nothing is asked here any more, and no change is left."""
        self.fence.forget(self)

    # What its fence calls.

    def withdraw(self) -> None:
        """Whatever could pass here must ask again."""
        self._epochs = ()
        self.passes = None
        self.moved()

    def upgrade(self, *epochs: bytes) -> None:
        """These pass besides those that do already."""
        kept = [epoch for epoch in self._epochs if epoch not in epochs]
        self._epochs = (*kept, *epochs)[-_EPOCHS_MAX:]
        self.passes = None

    def watch(self, awaited: bool) -> None:
        """Somebody waits for its changes, or no longer does."""
        if awaited is not self.awaited:
            self.awaited = awaited
            self.moved()


class Fence:
    """
    @ivar name: of the device.
    @ivar identity: 16 bytes, of this memory; C{b""} while it is not L{open}.
    @ivar reason: why it is not open, once that was tried.
    @ivar kept: what is promised.
    @ivar pending: the claim that is being granted.
    """

    def __init__(
        self,
        clock: IReactorTime,
        boottime: Callable[[], float],
        files: IStateFiles,
        name: str,
        entropy: Callable[[int], bytes],
        *,
        file_name: str | None = None,
    ) -> None:
        """
        @param boottime: seconds on a clock that goes on while the machine is suspended.
        @param files: where the promise is kept.
        @param file_name: under this name, if not under that of the device.
        """
        self._clock = clock
        self._boottime = boottime
        self._files = files
        self._file_name = file_name or name
        self._entropy = entropy
        self._heard = 0.0
        self._wanted_by = ""
        self._wanted_at = 0.0
        self._entrances: dict[Entrance, None] = {}
        self._storing = DeferredLock()
        self._opening: list[Deferred[None]] = []
        self._draining: tuple[list[Entrance], Deferred[bool]] | None = None
        self.name = name
        self.reason = "it was not read yet"
        self.kept = Kept(b"")
        self.pending: Claim | None = None
        self._pending_name = ""

    @property
    def identity(self) -> bytes:
        """See the class."""
        return self.kept.fence

    @property
    def claimed(self) -> bool:
        """Nobody but its owner may change the device."""
        return self.kept.held or self.pending is not None

    def open(self) -> Deferred[None]:
        """
        Read what was promised.  May be called again after it failed, and at any time.

        Fails with C{BadMedia} when that is damaged: then nothing is known of what was promised, and the device must
        not be used; with what the files say when it cannot be read.
        """
        if self.identity:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._opening.append(waiting)
        if len(self._opening) == 1:
            Deferred.fromCoroutine(self._open()).addBoth(self._opened)
        return waiting

    async def _open(self) -> None:
        data = await self._files.load(self._file_name)
        if data is None:
            kept = Kept(self._entropy(FENCE_BYTES))
            await self._files.store(self._file_name, encode_kept(kept))
        else:
            try:
                kept = decode_kept(data)
            except BadMedia as error:
                raise BadMedia(
                    f"what {self.name} has promised to its owners is damaged ({self._path}): {error.message}; "
                    "if no other daemon uses the device the file may be deleted"
                ) from error
        self._heard = self._boottime()
        self.kept = kept

    @property
    def _path(self) -> str:
        return self._files.path(self._file_name) if isinstance(self._files, DirectoryFiles) else self._file_name

    def _opened(self, result: None | Failure) -> None:
        if isinstance(result, Failure):
            self.reason = result.getErrorMessage()
        opening, self._opening = self._opening, []
        for waiting in opening:
            waiting.callback(result)

    def enter(self, changes: Callable[[], int], moved: Callable[[], None]) -> Entrance:
        """
        A new way in.

        @param changes: says how many changes have begun there and not ended.
        @param moved: called when C{passes} or C{awaited} may be different now.
        """
        assert self.identity
        entrance = Entrance(self, changes, moved)
        self._entrances[entrance] = None
        return entrance

    def forget(self, entrance: Entrance) -> None:
        """See L{Entrance.leave}."""
        self._entrances.pop(entrance, None)
        self.settled()

    # -- promises

    def promise(self) -> Promise:
        """See L{dst.interfaces.IFenced.ask}."""
        kept = self.kept
        return Promise(
            fence=kept.fence,
            claim=kept.claim,
            released=kept.released,
            held_s=max(0.0, kept.lease_s - self._silent_s) if kept.held else 0.0,
            owner_name=kept.owner_name,
            wanted_by=self._wanted_by if self._boottime() - self._wanted_at < WANTED_S else "",
        )

    @property
    def _silent_s(self) -> float:
        return self._boottime() - self._heard

    async def claim(self, entrance: Entrance, claim: Claim, lease_s: float, name: str) -> Promise:
        """See L{dst.interfaces.IFenced.claim}: asked for through C{entrance}."""
        check_claim(claim, lease_s, name)
        kept = self.kept
        same_owner = kept.held and kept.claim.owner == claim.owner
        if self.pending is not None:
            if same_owner:
                raise Fenced(self._taken)  # it must not take what it reads for a renewal
            return self.promise()
        if kept.held and claim == kept.claim:
            self._heard = self._boottime()  # asked again: its answer was lost
            return self.promise()
        why = judge_fence(kept, claim, self._silent_s)
        if why:
            if same_owner:
                self._heard = self._boottime()
            _log.debug("{name} does not grant claim {claim}: {why}", name=self.name, claim=claim.number, why=why)
            return self.promise()
        await self._grant(entrance, Kept(kept.fence, claim, False, lease_s, name), same_owner)
        return self.promise()

    async def _grant(self, entrance: Entrance, promised: Kept, same_owner: bool) -> None:
        claim, old = promised.claim, self.kept.claim
        self.pending, self._pending_name = claim, promised.owner_name
        others = [each for each in self._entrances if not (each is entrance and same_owner)]
        try:
            for other in others:
                other.withdraw()
            if same_owner:
                entrance.upgrade(old.epoch)
            if not await self._drained(others):
                _log.warn(
                    "{name} does not grant claim {claim}: what others have begun did not end within {limit} s",
                    name=self.name,
                    claim=claim.number,
                    limit=DRAIN_S_MAX,
                )
                if same_owner:
                    self._heard = self._boottime()
                return
            await self._store(lambda: promised)
            self._heard = self._boottime()
            self.kept = promised
            if self._wanted_by == promised.owner_name:
                self._wanted_by = ""
            entrance.upgrade(claim.epoch)
            _log.info(
                "{name} is promised to {owner} under claim {claim}",
                name=self.name,
                owner=promised.owner_name or "a daemon without a name",
                claim=claim.number,
            )
        finally:
            self.pending, self._pending_name = None, ""
            for other in others:
                other.moved()

    async def _drained(self, entrances: Iterable[Entrance]) -> bool:
        busy = [entrance for entrance in entrances if entrance.changes]
        if not busy:
            return True
        drained: Deferred[bool] = Deferred()
        self._draining = (busy, drained)
        patience = self._clock.callLater(DRAIN_S_MAX, drained.callback, False)
        for entrance in busy:
            entrance.watch(True)
        try:
            return await drained
        finally:
            self._draining = None
            if patience.active():
                patience.cancel()
            for entrance in busy:
                entrance.watch(False)

    def settled(self) -> None:
        """Some changes have ended that somebody may wait for."""
        if self._draining is not None:
            busy, drained = self._draining
            if not drained.called and not any(entrance.changes for entrance in busy):
                drained.callback(True)

    def renew(self, claim: Claim) -> Promise:
        """
        See L{dst.interfaces.IFenced.renew}.

        @raise Fenced: somebody else is being granted it.
        """
        if self.kept.held and claim.owner == self.kept.claim.owner:
            # Under an older claim, too: its owner has not heard of this one, and takes the answer for a renewal.
            if self.pending is not None:
                raise Fenced(self._taken)  # the promise as it still stands would be taken for a renewal
            self._heard = self._boottime()
        return self.promise()

    async def release(self, claim: Claim) -> Promise:
        """See L{dst.interfaces.IFenced.release}."""
        if self.kept.held and claim == self.kept.claim:
            self.kept = evolve(self.kept, released=True)
            for entrance in list(self._entrances):
                entrance.withdraw()
            _log.info("{name} was given back by {owner}", name=self.name, owner=self.kept.owner_name)
            if self.pending is None:  # what is stored for that one comes after this
                await self._store(lambda: self.kept)
        return self.promise()

    def want(self, name: str) -> Promise:
        """See L{dst.interfaces.IFenced.want}."""
        check_name(name)
        if not name:
            raise InvalidRequest("whoever wants a storage must say its name")
        self._wanted_by, self._wanted_at = name, self._boottime()
        return self.promise()

    async def _store(self, what: Callable[[], Kept]) -> None:
        """One after the other: what is stored last must be what was promised last."""
        await self._storing.acquire()
        try:
            await self._files.store(self._file_name, encode_kept(what()))
        finally:
            self._storing.release()

    # -- sentences

    @property
    def _taken(self) -> str:
        return f"{self.name} is being claimed by {self._pending_name or 'another owner'}"

    def refused_because(self, epoch: bytes) -> str:
        """Why a request under this epoch is refused."""
        if self.pending is not None:
            return self._taken
        kept = self.kept
        owner = kept.owner_name or "another owner"
        if epoch == NO_EPOCH:
            return f"{self.name} is a part of a storage that {owner} owns; nobody else may change it"
        if kept.held:
            return f"{self.name} was claimed by {owner} since"
        return f"the claim on {self.name} was given back"

    def usable(self) -> None:
        """
        @raise Unavailable: it is not known what was promised.
        """
        if not self.identity:
            raise Unavailable(f"what {self.name} has promised is not known: {self.reason}")
