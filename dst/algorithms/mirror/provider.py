"""
The mirror as a plugin: its options, checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from dst.algorithms.mirror.mirror import Mirror
from dst.algorithms.mirror.serving import MirrorOptions
from dst.algorithms.options import Options
from dst.interfaces import IAlgorithm, IAlgorithmProvider, INode
from dst.label.format import MEMBERS_MAX
from dst.label.zone import REGION_BYTES_MIN
from dst.recovery.record_store import FileRecordStore, IRecordStore, NoRecordStore
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads, IReactorTime

__all__ = ["MirrorProvider", "record_store"]

_T = TypeVar("_T")


def record_store(reactor: IReactorTime, state_dir: str | None) -> IRecordStore:
    """Where the owner of a storage keeps its record."""
    if state_dir is None:
        return NoRecordStore()
    threads = cast("IReactorFromThreads", reactor)

    def run_in_thread(work: Callable[[], _T]) -> Deferred[_T]:
        return deferToThreadPool(threads, threads.getThreadPool(), work)  # type: ignore[attr-defined]

    return FileRecordStore(os.path.join(state_dir, "record"), run_in_thread)


@implementer(IAlgorithmProvider)
class MirrorProvider:
    """Makes mirrors."""

    algorithm = "mirror"

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
        chosen = MirrorOptions(
            region_size=given.power_of_two("region_size", 0, REGION_BYTES_MIN, 1 << 30),
            hot_regions=given.integer("hot_regions", 256, 1, 1 << 16),
            on_loss=given.choice("on_loss", "freeze", ("freeze", "error")),
            freeze_s=given.seconds("freeze_s", 30.0),
            start_wait_s=given.seconds("start_wait_s", 3.0),
            grace_s=given.seconds("grace_s", 8.0),
        )
        given.done()
        given.count(len(nodes), 1, MEMBERS_MAX)
        entropy = surroundings_of(reactor).entropy
        return Mirror(reactor, name, nodes, chosen, record_store(reactor, state_dir), entropy=entropy)
