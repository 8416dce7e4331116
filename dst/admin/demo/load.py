"""
A client that writes and reads over NBD, and knows of every block of the disk what has to be in it.

A block says all over which one it is and how often it was written: one of another place, an old one, and a torn one
are all seen.  The workers have areas of their own, so that no two requests meet in one block and what must be read is
known for certain.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

from dst.admin.tools import sleep
from dst.errors import DSTError
from dst.nodes.nbd_provider import NBDNodeProvider
from dst.status import LinkState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import INode

__all__ = ["BLOCK_BYTES", "Load", "block_content"]

BLOCK_BYTES = 4096

DEPTH = 8
"""Requests in flight: enough to keep the mirror busy, and few enough that two cores are left for five processes."""

RUN_BLOCKS_MAX = 16
"""A request is of 4 to 64 KiB."""

READ_SHARE = 0.3

THINK_S = 0.004
"""
A worker's pause between two requests: without any the client would take whatever the machine has, and what heals
would wait for its share.
"""

SCAN_BYTES = 1024 * 1024
"""In one read, when the whole disk is looked through."""

_WORDS = struct.Struct("<QQ")
_REPEATS = BLOCK_BYTES // _WORDS.size
_ZEROES = bytes(BLOCK_BYTES)


def block_content(number: int, generation: int) -> bytes:
    """What is in a block that was written C{generation} times; zeroes if it never was."""
    return _WORDS.pack(number, generation) * _REPEATS if generation else _ZEROES


class Load:
    """
    The client.

    @ivar requests: answered so far.
    @ivar byte_count: that they moved.
    @ivar wrong: blocks that were not what they had to be, ever.
    @ivar errors: sentences of requests that failed.
    @ivar longest_s: the longest that a request took since this was set to 0.
    """

    def __init__(self, clock: IReactorTime, uri: str, size: int, window: int, seed: int) -> None:
        """
        @param size: of the disk.
        @param window: bytes from its beginning that are written; the rest stays as it is.
        """
        self._clock = clock
        self._node: INode = NBDNodeProvider().node_from_uri(clock, "client", uri, {})
        self._random = Random(seed)
        self._generations = array("L", bytes(array("L").itemsize * (size // BLOCK_BYTES)))
        self._size = size // BLOCK_BYTES * BLOCK_BYTES
        self._area_blocks = min(window, size) // BLOCK_BYTES // DEPTH
        self._workers: list[Deferred[None]] = []
        self._stopping = False
        self.requests = 0
        self.byte_count = 0
        self.wrong = 0
        self.errors: list[str] = []
        self.longest_s = 0.0

    @property
    def blocks_written(self) -> int:
        """How many blocks are not as they were at the beginning."""
        return sum(1 for generation in self._generations if generation)

    @property
    def ready(self) -> bool:
        """Whether the disk can be used."""
        return self._node.link is LinkState.READY

    def connect(self) -> Deferred[None]:
        """Fires when the disk can be used; it is tried again and again until then."""
        return self._node.open()

    def close(self) -> Deferred[None]:
        """Leave the disk."""
        return self._node.close()

    def begin(self) -> None:
        """Write and read, until L{end}."""
        self._stopping = False
        self._workers = [Deferred.fromCoroutine(self._work(number)) for number in range(DEPTH)]

    async def end(self) -> None:
        """Answered is what was asked, and stable is what was written."""
        self._stopping = True
        await gatherResults(self._workers, consumeErrors=True)
        self._workers = []
        try:
            await self._node.flush()
        except DSTError as error:
            self.errors.append(f"flush: {error.message}")

    async def _work(self, worker: int) -> None:
        first = worker * self._area_blocks
        while not self._stopping:
            count = self._random.randint(1, RUN_BLOCKS_MAX)
            number = first + self._random.randrange(max(1, self._area_blocks - count))
            began = self._clock.seconds()
            try:
                if self._random.random() < READ_SHARE:
                    await self._read(number, count)
                else:
                    await self._write(number, count)
            except DSTError as error:
                self.errors.append(f"{count} blocks at {number}: {error.message}")
                return
            self.requests += 1
            self.byte_count += count * BLOCK_BYTES
            self.longest_s = max(self.longest_s, self._clock.seconds() - began)
            await sleep(self._clock, THINK_S)

    async def _write(self, number: int, count: int) -> None:
        places = range(number, number + count)
        data = b"".join(block_content(place, self._generations[place] + 1) for place in places)
        await self._node.write(number * BLOCK_BYTES, data)
        for place in places:
            self._generations[place] += 1

    async def _read(self, number: int, count: int) -> None:
        self._compare(number, bytes(await self._node.read(number * BLOCK_BYTES, count * BLOCK_BYTES)))

    def _compare(self, number: int, data: bytes) -> None:
        for at in range(len(data) // BLOCK_BYTES):
            found = data[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
            if found != block_content(number + at, self._generations[number + at]):
                self.wrong += 1

    async def look_through(self, told: Callable[[int, int], None]) -> int:
        """
        Read the whole disk, and compare every block.

        @param told: called with the bytes that were looked at and all there are.
        @return: how many blocks were compared.
        """
        for offset in range(0, self._size, SCAN_BYTES):
            length = min(SCAN_BYTES, self._size - offset)
            data: Any = await self._node.read(offset, length)
            self._compare(offset // BLOCK_BYTES, bytes(data))
            told(offset + length, self._size)
        return self._size // BLOCK_BYTES
