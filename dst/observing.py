"""
What every node does the same way: keep its link state and tell its observers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from dst.errors import DSTError, ReadOnly, Unavailable
from dst.geometry import Geometry
from dst.interfaces import INodeObserver, StopObserving
from dst.status import Health, LinkState, StatusTree
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["ObservableNode"]

_log = Logger()


class ObservableNode:
    """
    The part of L{dst.interfaces.INode} that has nothing to do with blocks.

    A provider derives from it, calls L{changed} and leaves the rest to it.
    Observers run in a later turn, several changes are told in one call, and one
    observer's failure harms no other.
    """

    kind = "node"

    def __init__(self, clock: IReactorTime, name: str) -> None:
        self.clock = clock
        self.name = name
        self.geometry = Geometry(0)
        self.incarnation = b""
        self.link = LinkState.CONNECTING
        self.reason = "not opened yet"
        self._wall_clock_s = surroundings_of(clock).wall_clock_s
        self.since = self._wall_clock_s()
        self._observers: list[INodeObserver] = []
        self._telling: IDelayedCall | None = None

    @property
    def usable(self) -> bool:
        """Operations may be asked for: they are done now, or after a blip."""
        return self.link is LinkState.READY or self.link is LinkState.INTERRUPTED

    def unavailable(self) -> Unavailable:
        """The error for an operation on a node that is not L{usable}."""
        return Unavailable(f"{self.name} is {self.link.value}: {self.reason}")

    def _refusal(self, offset: int, length: int, *, transfer: bool = False, change: bool = False) -> DSTError | None:
        """Why an operation on this extent cannot be done, if it cannot."""
        if not self.usable:
            return self.unavailable()
        try:
            if transfer:
                self.geometry.check_transfer(offset, length)
            else:
                self.geometry.check_extent(offset, length)
        except DSTError as error:
            return error
        return ReadOnly(f"{self.name} is read-only") if change and self.geometry.read_only else None

    def changed(
        self,
        link: LinkState | None = None,
        reason: str | None = None,
        *,
        geometry: Geometry | None = None,
        incarnation: bytes | None = None,
    ) -> None:
        """Take over what is given, and tell the observers if anything is different."""
        different = False
        if link is not None and link is not self.link:
            self.link, self.since, different = link, self._wall_clock_s(), True
        if geometry is not None and geometry != self.geometry:
            self.geometry, different = geometry, True
        if incarnation is not None and incarnation != self.incarnation:
            self.incarnation, different = incarnation, True
        if reason is not None:
            self.reason = reason
        if different:
            self.tell_observers()

    def tell_observers(self) -> None:
        """Call every observer in a later turn, once for all changes until then."""
        if self._observers and self._telling is None:
            self._telling = self.clock.callLater(0, self._tell)

    def observe(self, observer: INodeObserver) -> StopObserving:
        """See L{dst.interfaces.INode.observe}."""
        entry: INodeObserver = lambda node: observer(node)  # noqa: E731 - each call gets an identity of its own
        self._observers.append(entry)

        def stop() -> None:
            if entry in self._observers:
                self._observers.remove(entry)
            if not self._observers and self._telling is not None:
                self._telling.cancel()
                self._telling = None

        return stop

    def _tell(self) -> None:
        self._telling = None
        for observer in list(self._observers):
            if observer not in self._observers:
                continue  # an earlier observer ended this one
            try:
                observer(self)  # type: ignore[arg-type]
            except Exception:
                _log.failure("an observer of {name} failed", name=self.name)

    def status(self) -> StatusTree:
        """A leaf that says how the link is."""
        return StatusTree(
            name=self.name,
            kind=self.kind,
            health=Health.HEALTHY if self.link is LinkState.READY else Health.FAILED,
            state=self.link.value,
            reason="" if self.link is LinkState.READY else self.reason,
            since=self.since,
            size=self.geometry.size,
        )
