"""
What a start stands on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from dst.algorithms.mirror.member import Member
from dst.algorithms.mirror.owning import Ownership
from dst.algorithms.mirror.witness import Witness
from dst.label.format import Label
from dst.recovery.record_store import IRecordStore

__all__ = ["Ground", "Started"]


@frozen
class Started:
    """
    A storage that was taken over.

    @ivar label: the storage's facts with the record that is stable.
    @ivar hot: regions that are hot on any source.
    @ivar sources: members in sync.
    """

    label: Label
    hot: frozenset[int]
    sources: tuple[Member, ...]


@frozen
class Ground:
    """
    @ivar region_size: for a new storage; 0 for the default.
    @ivar votes_of_members: of a new storage.
    """

    members: Sequence[Member]
    witnesses: Sequence[Witness]
    store: IRecordStore
    ownership: Ownership
    algorithm: str
    region_size: int
    votes_of_members: bool
    entropy: Callable[[int], bytes]

    @property
    def holders(self) -> list[Member | Witness]:
        """Everybody who can be claimed."""
        return [*self.members, *self.witnesses]
