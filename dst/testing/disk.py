"""
A node on simulated media: well-behaved itself, and its media survives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dst.checksums import block_checksums, checksums_refusal
from dst.geometry import TRANSFER_BYTES_MAX, BlockStatus, Geometry, StatusExtent
from dst.interfaces import Buffer, IChecksums, INode
from dst.observing import ObservableNode
from dst.status import LinkState
from dst.testing.media import SimulatedMedia

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["STATUS_BYTES_MAX", "SimulatedDisk"]

STATUS_BYTES_MAX = 64 << 20
"""One answer of block status covers no more: callers have to ask again, as with real servers."""


@implementer(INode, IChecksums)
class SimulatedDisk(ObservableNode):
    """
    A node that completes everything at once.

    @ivar media: where the bytes are; give it to another disk and that one finds them.
    """

    kind = "simulated"

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        media: SimulatedMedia,
        *,
        block_size: int = 1,
        transfer_bytes_max: int = TRANSFER_BYTES_MAX,
        read_only: bool = False,
    ) -> None:
        super().__init__(clock, name)
        self.media = media
        self._geometry = Geometry(
            media.size,
            block_size=block_size,
            preferred_block_size=max(block_size, 4096),
            transfer_bytes_max=transfer_bytes_max,
            read_only=read_only,
        )

    def open(self) -> Deferred[None]:
        self.refresh()
        return succeed(None)

    def refresh(self) -> None:
        """Take over what the media is now, as after a power cut."""
        geometry = self._geometry.evolve(size=self.media.size)
        self.changed(LinkState.READY, "", geometry=geometry, incarnation=self.media.incarnation)

    def close(self) -> Deferred[None]:
        if self.link is LinkState.READY:
            self.media.flush()
        self.changed(LinkState.CLOSED, "it was closed")
        return succeed(None)

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        refusal = self._refusal(offset, length, transfer=True)
        return fail(refusal) if refusal else succeed(self.media.read(offset, length))

    def checksums(self, offset: int, length: int, block_bytes: int) -> Deferred[bytes]:
        refusal = self._refusal(offset, length, transfer=True) or checksums_refusal(length, block_bytes)
        return fail(refusal) if refusal else succeed(block_checksums(self.media.read(offset, length), block_bytes))

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        refusal = self._refusal(offset, len(data), transfer=True, change=True)
        if refusal:
            return fail(refusal)
        self.media.write(offset, data, fua=fua)
        return succeed(None)

    def flush(self) -> Deferred[None]:
        if self.link is not LinkState.READY:
            return fail(self.unavailable())
        self.media.flush()
        return succeed(None)

    def trim(self, offset: int, length: int) -> Deferred[None]:
        return self.write_zeroes(offset, length)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        refusal = self._refusal(offset, length, change=True)
        if refusal:
            return fail(refusal)
        if not no_hole:
            self.media.zero(offset, length, fua=fua)
            return succeed(None)
        step = self.geometry.transfer_bytes_max
        for at in range(offset, offset + length, step):
            self.media.write(at, bytes(min(step, offset + length - at)), fua=fua)
        return succeed(None)

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        refusal = self._refusal(offset, length)
        if refusal:
            return fail(refusal)
        length = min(length, STATUS_BYTES_MAX)
        told = {True: BlockStatus.HOLE | BlockStatus.ZERO, False: BlockStatus.DATA}
        return succeed([StatusExtent(part, told[hole]) for part, hole in self.media.holes(offset, length)])
