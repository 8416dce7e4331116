"""
A device of this daemon as a node that fences.

Sessions of the device's export go through the same L{Fence}, so that another daemon may claim from this one, and this
one from another, what they both want to use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.errors import DSTError, NotSupported
from dst.interfaces import IFenced, INode
from dst.ownership import Claim, Promise
from dst.recovery.fence import Entrance, Fence
from dst.recovery.fenced_device import FencedDevice
from dst.recovery.held_claim import HeldClaim
from dst.status import Health, LinkState, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["FencedNode"]

_log = Logger()

_RETRY_S = 5.0
"""How often a fence that cannot be read is looked at again: somebody may have mended the directory."""

_NOTHING_PASSES = b""
"""Equal to no epoch, so that every change asks."""


@implementer(INode, IFenced)
class FencedNode(FencedDevice):
    """
    C{node}, behind C{fence}.

    While the fence cannot be read the node is not opened: nothing is known of what it has promised.
    """

    def __init__(self, clock: IReactorTime, node: INode, fence: Fence) -> None:
        """
        @param fence: that of the device, whoever else uses it.
        """
        super().__init__(clock, node)
        self.name = node.name
        self._fence = fence
        self._held = HeldClaim(node.name)
        self._opening: list[Deferred[None]] = []
        self._retry: IDelayedCall | None = None
        self._closed = False
        self._why_shut = ""

    def _refusal(self, entrance: Entrance) -> DSTError | None:
        return self._held.refusal() if self._held.dismissed else super()._refusal(entrance)

    # -- the node

    @property
    def kind(self) -> str:
        """That of the device."""
        return getattr(self.node, "kind", "node")

    @property
    def link(self) -> LinkState:
        """That of the device, and away while it is not known what it has promised."""
        if self._why_shut:
            return LinkState.CLOSED if self._closed else LinkState.AWAY
        return self.node.link

    @property
    def reason(self) -> str:
        """Why the link is as it is."""
        return self._why_shut or self.node.reason

    def open(self) -> Deferred[None]:
        """See L{dst.interfaces.INode.open}."""
        if self._entrance is not None:
            return self.node.open()
        self._closed = False
        opened: Deferred[None] = Deferred()
        self._opening.append(opened)
        if len(self._opening) == 1 and self._retry is None:
            self._open_fence()
        return opened

    def _open_fence(self) -> None:
        self._retry = None
        self._fence.open().addCallbacks(self._fence_open, self._fence_shut).addErrback(
            lambda failure: _log.failure("opening {name} failed", failure, name=self.name)
        )

    def _fence_open(self, _: None) -> None:
        if self._closed:
            return
        self._why_shut = ""
        self._entrance = self._fence.enter(lambda: self._changes, _nothing)
        opening, self._opening = self._opening, []
        self._tell()
        self.node.open().addBoth(_give, opening)

    def _fence_shut(self, failure: Failure) -> None:
        if self._closed:
            return
        self._retry = self._clock.callLater(_RETRY_S, self._open_fence)
        why = failure.getErrorMessage()
        if why != self._why_shut:
            _log.warn("{name}: {why}", name=self.name, why=why)
            self._why_shut = why
            self._tell()
        opening, self._opening = self._opening, []
        _give(None, opening)

    def close(self) -> Deferred[None]:
        """See L{dst.interfaces.INode.close}."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._why_shut:
            self._why_shut = "it was closed"
        self._closed = True
        opening, self._opening = self._opening, []
        _give(None, opening)

        def closed(result: None | Failure) -> None | Failure:
            entrance, self._entrance = self._entrance, None
            if entrance is not None:
                entrance.leave()
            return result

        return self.node.close().addBoth(closed)

    def status(self) -> StatusTree:
        """That of the device."""
        tree = super().status()
        if self._why_shut:
            return evolve(tree, health=Health.FAILED, state=self.link.value, reason=self._why_shut)
        return tree

    # -- the promise

    @property
    def fence(self) -> bytes:
        """See L{dst.interfaces.IFenced.fence}."""
        return self._fence.identity

    def ask(self) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.ask}."""
        if self._entrance is None:
            return fail(self._cannot())
        return succeed(self._fence.promise()).addCallback(self._learn)

    def claim(self, claim: Claim, lease_s: float, name: str) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.claim}."""
        if self._entrance is None:
            return fail(self._cannot())
        self._held.asking(claim)
        return self._entrance.claim(claim, lease_s, name).addCallback(self._learn)

    def renew(self) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.renew}."""
        if self._entrance is None:
            return fail(self._cannot())
        try:
            return succeed(self._fence.renew(self._held.claim)).addCallback(self._learn)
        except DSTError as error:
            return fail(error)

    def release(self) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.release}."""
        if self._entrance is None:
            return fail(self._cannot())
        given_back = self._held.claim
        self._held.give_up()
        self._follow()
        return Deferred.fromCoroutine(self._fence.release(given_back))

    def want(self, name: str) -> Deferred[Promise]:
        """See L{dst.interfaces.IFenced.want}."""
        if self._entrance is None:
            return fail(self._cannot())
        try:
            return succeed(self._fence.want(name)).addCallback(self._learn)
        except DSTError as error:
            return fail(error)

    def _learn(self, promise: Promise) -> Promise:
        self._held.learn(promise)
        self._follow()
        return promise

    def _follow(self) -> None:
        self._epoch = self._held.epoch
        self._change_epoch = _NOTHING_PASSES if self._held.dismissed else self._epoch

    def _cannot(self) -> NotSupported:
        return NotSupported(f"{self.name} cannot promise anything: {self.reason or 'it is not open'}")


def _give(result: None | Failure, waiting: list[Deferred[None]]) -> None:
    for each in waiting:
        each.callback(result)


def _nothing() -> None:
    """The node object asks each time."""
