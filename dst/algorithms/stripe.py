"""
Stripe: chunks of the content dealt out to the members in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from zope.interface import implementer

from dst.algorithms.joined import JoinedOptions, JoinedStorage, Piece
from dst.algorithms.options import Options
from dst.errors import BadMedia
from dst.geometry import align_down
from dst.interfaces import IAlgorithm, IAlgorithmProvider, INode
from dst.label.format import MEMBERS_MAX, Label

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["CHUNK_BYTES_DEFAULT", "Stripe", "StripeProvider"]

CHUNK_BYTES_DEFAULT = 64 * 1024


@implementer(IAlgorithm)
class Stripe(JoinedStorage):
    """
    Chunk C{n} of the content is chunk C{n // members} of member C{n % members}.
    """

    kind = "stripe"

    def __init__(
        self, clock: IReactorTime, name: str, nodes: Sequence[INode], options: JoinedOptions | None = None
    ) -> None:
        given = options or JoinedOptions()
        JoinedStorage.__init__(self, clock, name, nodes, evolve(given, unit=given.unit or CHUNK_BYTES_DEFAULT))

    def member_size(self, capacity: int, capacities: list[int]) -> int:
        """See L{JoinedStorage.member_size}."""
        return align_down(min(capacities), self.options.unit)

    def _adopt(self, label: Label) -> None:
        JoinedStorage._adopt(self, label)
        if label.unit != self.options.unit:
            if label.unit <= 0:
                raise BadMedia("the label of the stripe has no chunk size")
            # What is on the media counts: the setting is for a new storage.
            self.options = evolve(self.options, unit=label.unit)

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """See L{JoinedStorage.pieces}."""
        unit, width = self.options.unit, len(self.sizes)
        found: list[Piece] = []
        start = 0
        while start < length:
            chunk, inside = divmod(offset + start, unit)
            take = min(unit - inside, length - start)
            found.append(Piece(chunk % width, chunk // width * unit + inside, take, start))
            start += take
        return found

    def runs(self, offset: int, length: int) -> list[Piece]:
        """The part of an extent on one member is a single run: its first and last chunk are enough to find it."""
        unit, width = self.options.unit, len(self.sizes)
        first, last = offset // unit, (offset + length - 1) // unit
        found: list[Piece] = []
        for chunk in range(first, min(last, first + width - 1) + 1):
            place = chunk % width
            final = last - (last - chunk) % width
            begin = max(offset, chunk * unit) - chunk * unit + chunk // width * unit
            end = min(offset + length, (final + 1) * unit) - final * unit + final // width * unit
            found.append(Piece(place, begin, end - begin, 0))
        return found


@implementer(IAlgorithmProvider)
class StripeProvider:
    """Makes stripes."""

    algorithm = "stripe"

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
            given.choice("on_loss", "freeze", ("freeze", "error")),
            given.seconds("freeze_s", 30.0),
            given.power_of_two("chunk_size", CHUNK_BYTES_DEFAULT, 4096, 1 << 26),
        )
        given.done()
        given.count(len(nodes), 1, MEMBERS_MAX)
        return Stripe(reactor, name, nodes, chosen)
