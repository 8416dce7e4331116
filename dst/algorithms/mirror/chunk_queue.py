"""
The chunks of one resync: several are copied at once, in order, and the next batch begins while the last of the one
before are on their way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from dst.algorithms.mirror.pacing import Pacer

__all__ = ["ChunkQueue"]


class _Batch:
    """
    @ivar left_bytes: what was not copied yet.
    @ivar busy: chunks of it that are being copied.
    """

    __slots__ = ("busy", "done", "error", "left_bytes")

    def __init__(self, left_bytes: int) -> None:
        self.left_bytes = left_bytes
        self.busy = 0
        self.error: BaseException | None = None
        self.done: Deferred[None] = Deferred()


class ChunkQueue:
    """
    As many chunks in flight as the pacer allows at any moment, and as large.
    """

    def __init__(
        self, pacer: Pacer, step_bytes: Callable[[], int], copy: Callable[[int, int], Coroutine[Any, Any, None]]
    ) -> None:
        """
        @param step_bytes: how long the next chunk may be.
        @param copy: copies one, from its first byte to its end.
        """
        self._pacer = pacer
        self._step_bytes = step_bytes
        self._copy = copy
        self._extents: deque[tuple[int, int, _Batch]] = deque()
        self._workers = 0
        self._working: dict[Deferred[None], None] = {}

    def copied(self, extents: Iterable[tuple[int, int]]) -> Deferred[None]:
        """
        Copy C{extents}, each (first, end), after everything that was asked for before.

        @return: fires when all of it is copied; or with the first error, when nothing of it is being copied any more.
        """
        wanted = list(extents)
        batch = _Batch(sum(end - first for first, end in wanted))
        self._extents.extend([(first, end, batch) for first, end in wanted])
        self._tell(batch)
        while self._extents and self._workers < self._pacer.pace.chunks:
            working = Deferred.fromCoroutine(self._work())
            if not working.called:
                self._working[working] = None
                working.addBoth(self._ended, working)
        return batch.done

    async def stop(self) -> None:
        """Copy nothing more. Returns when nothing is being copied any more."""
        self._extents.clear()
        working = list(self._working)
        for each in working:
            each.cancel()
        await DeferredList(working)

    def _ended(self, _: object, working: Deferred[None]) -> None:
        self._working.pop(working, None)

    async def _work(self) -> None:
        self._workers += 1
        while self._extents and self._workers <= self._pacer.pace.chunks:
            first, end, batch = self._extents.popleft()
            until = min(first + self._step_bytes(), end)
            if until < end:
                self._extents.appendleft((until, end, batch))
            batch.busy += 1
            try:
                await self._pacer.turn(until - first)
                if batch.error is None:
                    await self._copy(first, until)
                    batch.left_bytes -= until - first
            except GeneratorExit:  # it is being thrown away, with whoever waits
                raise
            except BaseException as error:  # whoever waits for the batch is told
                batch.error = batch.error or error
                self._extents = deque(each for each in self._extents if each[2] is not batch)
            batch.busy -= 1
            self._tell(batch)
        self._workers -= 1

    def _tell(self, batch: _Batch) -> None:
        if batch.busy or batch.done.called:
            return
        if batch.error is not None:
            batch.done.errback(batch.error)
        elif not batch.left_bytes:
            batch.done.callback(None)
