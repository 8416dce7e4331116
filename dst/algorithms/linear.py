"""
Linear: members one after the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from zope.interface import implementer

from dst.algorithms.joined import JoinedOptions, JoinedStorage, Piece
from dst.algorithms.options import Options
from dst.geometry import align_down
from dst.interfaces import IAlgorithm, IAlgorithmProvider, INode
from dst.label.format import MEMBERS_MAX
from dst.label.zone import PAGE_BYTES

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Linear", "LinearProvider"]


@implementer(IAlgorithm)
class Linear(JoinedStorage):
    """The content of the first member, then that of the second, and so on. Members may differ in size."""

    kind = "linear"

    def __init__(
        self, clock: IReactorTime, name: str, nodes: Sequence[INode], options: JoinedOptions | None = None
    ) -> None:
        JoinedStorage.__init__(self, clock, name, nodes, options or JoinedOptions())

    def member_size(self, capacity: int, capacities: list[int]) -> int:
        """See L{JoinedStorage.member_size}."""
        return align_down(capacity, PAGE_BYTES)

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """See L{JoinedStorage.pieces}."""
        ends = list(accumulate(self.sizes))
        place = bisect_right(ends, offset)
        found: list[Piece] = []
        start = 0
        while start < length:
            first = ends[place] - self.sizes[place]
            take = min(length - start, ends[place] - offset - start)
            found.append(Piece(place, offset + start - first, take, start))
            start += take
            place += 1
        return found


@implementer(IAlgorithmProvider)
class LinearProvider:
    """Makes linears."""

    algorithm = "linear"

    def storage(
        self,
        reactor: IReactorTime,
        name: str,
        nodes: Sequence[INode],
        options: dict[str, object],
        state_dir: str | None,
    ) -> IAlgorithm:
        """See L{IAlgorithmProvider.storage}."""
        given = Options(f"storage {name}", options)
        chosen = JoinedOptions(
            given.choice("on_loss", "freeze", ("freeze", "error")), given.seconds("freeze_s", 30.0)
        )
        given.done()
        given.count(len(nodes), 1, MEMBERS_MAX)
        return Linear(reactor, name, nodes, chosen)
