"""
What the tests of linear and stripe share: disks that outlive the storage on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.joined import JoinedStorage
from dst.algorithms.joined_places import JoinedOptions, Piece
from dst.status import LinkState
from dst.testing import FaultyDevice, SimulatedDisk, SimulatedMedia

__all__ = ["JoinedCase", "check_pieces", "members_bytes"]

T = TypeVar("T")


def members_bytes(storage: JoinedStorage, sizes: Sequence[int]) -> None:
    """Give a storage that was never opened members of these sizes, so that its arithmetic can be asked."""
    storage._sizes = list(sizes)


def check_pieces(case: SynchronousTestCase, storage: JoinedStorage, offset: int, length: int) -> None:
    """
    Pieces and runs of an extent both cover it exactly: the pieces byte for byte in its order, the runs the same
    bytes of the members.
    """
    pieces, runs = storage.pieces(offset, length), storage.runs(offset, length)
    at = 0
    for piece in pieces:
        case.assertEqual(at, piece.start)
        case.assertGreater(piece.length, 0)
        at += piece.length
    case.assertEqual(length, at)
    case.assertEqual(covered(case, storage, pieces), covered(case, storage, runs))
    case.assertEqual(len({run.place for run in runs}), len(runs), "one run for each member")


def covered(case: SynchronousTestCase, storage: JoinedStorage, parts: list[Piece]) -> list[tuple[int, int, int]]:
    """Place, start and end of what the parts touch, adjacent ones merged; no byte is touched twice."""
    merged: list[tuple[int, int, int]] = []
    for place, start, end in sorted((part.place, part.offset, part.offset + part.length) for part in parts):
        case.assertTrue(0 <= start < end <= storage.sizes[place])
        if merged and merged[-1][0] == place:
            case.assertLessEqual(merged[-1][2], start)
            if merged[-1][2] == start:
                merged[-1] = (place, merged[-1][1], end)
                continue
        merged.append((place, start, end))
    return merged


class JoinedCase(SynchronousTestCase):
    """Three disks and storages on them; C{self.disks} are those of the storage that was opened last."""

    kind: type[Any]
    options = JoinedOptions()
    count = 3
    member_bytes = 1 << 20

    def setUp(self) -> None:
        self.media = [SimulatedMedia(self.member_bytes, seed=seed) for seed in range(self.count)]

    def opened(
        self,
        media: Sequence[SimulatedMedia] | None = None,
        *,
        names: str = "abcdefgh",
        away: str = "",
        options: JoinedOptions | None = None,
    ) -> JoinedStorage:
        """
        A storage on this media, after C{open} and some seconds.

        @param away: names of nodes whose cable is pulled.
        """
        self.clock = Clock()
        self.disks = [
            FaultyDevice(self.clock, SimulatedDisk(self.clock, name, each))
            for name, each in zip(names, media or self.media, strict=False)
        ]
        for disk in self.disks:
            if disk.name in away:
                disk.pull()
        storage: JoinedStorage = self.kind(self.clock, "vol", self.disks, options or self.options)
        self.result(storage.open())
        self.pass_time()
        return storage

    def closed(self, storage: JoinedStorage) -> None:
        """The storage and its nodes are gone; the media stays."""
        self.result(storage.close())

    def made(self) -> bytes:
        """A storage was made on the media and closed again; what was written into it."""
        storage = self.opened()
        self.assertIs(LinkState.READY, storage.link, storage.reason)
        content = SimulatedMedia(1, seed=99).randomness.randbytes(storage.geometry.size)
        self.result(storage.write(0, content))
        self.closed(storage)
        return content

    def pass_time(self, seconds: int = 5) -> None:
        """In steps of half a second."""
        for _ in range(2 * seconds):
            self.clock.advance(0.5)

    def result(self, done: Deferred[T]) -> T:
        """What has come of it, some turns later at most."""
        for _ in range(4):
            self.clock.advance(0)
        return self.successResultOf(done)

    def everything(self) -> list[bytes]:
        """What stands on each of the media."""
        return [each.read(0, each.size) for each in self.media]
