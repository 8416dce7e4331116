"""
Several daemons that would like to own one mirror, over the same disks, on one clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.errors import Fenced
from dst.interfaces import Buffer, IFenced
from dst.label.format import Label, decode_slot, encode_slot
from dst.ownership import NO_CLAIM, Claim, Promise
from dst.testing.disk import SimulatedDisk
from dst.testing.faulty import FaultyDevice
from dst.testing.media import SimulatedMedia

__all__ = ["Keeper", "Link", "Owners"]

REGION = 64 * 1024
SIZE = 12 * REGION


class Keeper:
    """What one node's daemon remembers."""

    def __init__(self, clock: Clock, fence: bytes) -> None:
        self.clock = clock
        self.fence = fence
        self.claim = NO_CLAIM
        self.released = True
        self.lease_s = 0.0
        self.heard = -1e9
        self.owner_name = ""
        self.wanted_by = ""

    def promise(self) -> Promise:
        """As it stands."""
        left = 0.0 if self.released else max(0.0, self.heard + self.lease_s - self.clock.seconds())
        return Promise(self.fence, self.claim, self.released, left, self.owner_name, self.wanted_by)


class _Executor(SimulatedDisk):
    """The disk as one owner reaches it: everything is checked when it is executed."""

    keeper: Keeper
    claim_now = NO_CLAIM

    def _fenced(self) -> Fenced | None:
        keeper = self.keeper
        if keeper.released and self.claim_now == NO_CLAIM:
            return None
        if keeper.released or keeper.claim.owner != self.claim_now.owner or keeper.claim < self.claim_now:
            return Fenced(f"{self.name} was claimed by {keeper.owner_name or 'nobody'}")
        return None

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        error = self._fenced() if self.claim_now != NO_CLAIM else None
        return fail(error) if error else super().read(offset, length)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        error = self._fenced()
        return fail(error) if error else super().write(offset, data, fua=fua)

    def flush(self) -> Deferred[None]:
        error = self._fenced()
        return fail(error) if error else super().flush()

    def write_zeroes(self, offset: int, length: int, **options: Any) -> Deferred[None]:
        error = self._fenced()
        return fail(error) if error else super().write_zeroes(offset, length, **options)


@implementer(IFenced)
class Link(FaultyDevice):
    """One owner's way to one disk."""

    def __init__(self, clock: Clock, keeper: Keeper, name: str, media: SimulatedMedia) -> None:
        self.executor = _Executor(clock, name, media)
        self.executor.keeper = keeper
        super().__init__(clock, self.executor)
        self.keeper = keeper
        self.fence = keeper.fence

    def go_on(self) -> None:
        """A disk that hung does not any more; C{release} is about claims here."""
        FaultyDevice.release(self)

    def _told(self, what: Callable[[], None]) -> Deferred[Promise]:
        if not self.usable or not self._plugged:
            return fail(self.unavailable())
        what()
        return succeed(self.keeper.promise())

    def ask(self) -> Deferred[Promise]:
        return self._told(lambda: None)

    def claim(self, claim: Claim, lease_s: float, name: str) -> Deferred[Promise]:
        def decide() -> None:
            keeper = self.keeper
            free = keeper.claim.owner == claim.owner or keeper.promise().held_s <= 0
            if claim >= keeper.claim and free:
                keeper.claim, keeper.released, keeper.lease_s, keeper.owner_name = claim, False, lease_s, name
                keeper.heard = keeper.clock.seconds()
                keeper.wanted_by = ""
                self.executor.claim_now = claim

        return self._told(decide)

    def renew(self) -> Deferred[Promise]:
        def decide() -> None:
            if self.keeper.claim == self.executor.claim_now and not self.keeper.released:
                self.keeper.heard = self.keeper.clock.seconds()

        return self._told(decide)

    def release(self) -> Deferred[Promise]:
        def decide() -> None:
            if self.keeper.claim == self.executor.claim_now:
                self.keeper.released = True
            self.executor.claim_now = NO_CLAIM

        return self._told(decide)

    def want(self, name: str) -> Deferred[Promise]:
        def decide() -> None:
            self.keeper.wanted_by = name

        return self._told(decide)


class _Store:
    """A state directory in memory."""

    def __init__(self, owner: bytes) -> None:
        self.id = owner
        self.kept: bytes | None = None

    def load(self) -> Deferred[Label | None]:
        return succeed(None if self.kept is None else decode_slot(self.kept))

    def store(self, label: Label) -> Deferred[None]:
        self.kept = encode_slot(label)
        return succeed(None)

    def owner(self) -> Deferred[bytes | None]:
        return succeed(self.id)


class Owners:
    """
    @ivar mirrors: of each daemon; C{None} while it is down.
    @ivar links: of each daemon, to the members and then the witnesses.
    """

    def __init__(self, members: int = 2, witnesses: int = 1, daemons: int = 2, **options: Any) -> None:
        self.clock = Clock()
        self.members = members
        sizes = [SIZE] * members + [REGION] * witnesses
        self.media = [SimulatedMedia(size, seed=n) for n, size in enumerate(sizes)]
        self.keepers = [Keeper(self.clock, bytes([n + 1]) * 16) for n in range(len(sizes))]
        self.stores = [_Store(bytes([100 + n]) * 16) for n in range(daemons)]
        self.mirrors: list[Mirror | None] = [None] * daemons
        self.links: list[list[Link]] = [[] for _ in range(daemons)]
        self.options = MirrorOptions(
            **{"region_size": REGION, "start_wait_s": 0.5, "grace_s": 1.0, "votes": "members"} | options
        )

    def start(self, n: int) -> Mirror:
        """A daemon's process begins; all but the first are standbys."""
        self.links[n] = [
            Link(self.clock, keeper, f"n{index}", media)
            for index, (keeper, media) in enumerate(zip(self.keepers, self.media, strict=True))
        ]
        mirror = self.mirrors[n] = Mirror(
            self.clock,
            "vol",
            self.links[n][: self.members],
            evolve(self.options, standby=n > 0),
            self.stores[n],  # type: ignore[arg-type]
            witnesses=self.links[n][self.members :],
            owner_name="left" if n == 0 else f"right{n}",
            now=self.clock.seconds,
        )
        mirror.open()
        return mirror

    def kill(self, n: int) -> None:
        """Its process is gone; what it had sent is lost."""
        for link in self.links[n]:
            link.pull()
            link.executor.media = SimulatedMedia(0)
        mirror = self.mirrors[n]
        self._graves.append(mirror)
        assert mirror is not None
        mirror.closing = True
        mirror.ownership.stop()
        self.mirrors[n] = None

    _graves: list[object] = []

    def cut(self, n: int, *nodes: int) -> None:
        """A daemon cannot reach these nodes, or any."""
        for index in nodes or range(len(self.links[n])):
            self.links[n][index].pull()

    def mend(self, n: int) -> None:
        """It can again."""
        for link in self.links[n]:
            link.plug_in()

    def advance(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)

    def result(self, done: Deferred[Any], seconds: float = 20.0) -> Any:
        """What C{done} fires with; C{None} if it does not."""
        results: list[Any] = []
        done.addBoth(results.append)
        while not results and seconds > 0:
            self.advance(0.05)
            seconds -= 0.05
        if not results:
            return "nothing"
        return results[0].value if isinstance(results[0], Failure) else results[0]
