"""
Write random data to an exported disk, read it back and compare: something to do while a node is away.

    python examples/fill.py dst://127.0.0.1:7450/vol --megabytes 64
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from typing import Any

from twisted.internet.task import react

from dst.cluster.assembly import running
from dst.cluster.topology import remote
from dst.errors import DSTError

BLOCK_BYTES = 1 << 20


def blocks(seed: int, count: int) -> Iterator[bytes]:
    """The same noise every time for the same seed."""
    noise = random.Random(seed)
    for _ in range(count):
        yield noise.randbytes(BLOCK_BYTES)


async def fill(reactor: Any, uri: str, count: int, seed: int) -> None:
    """Write, flush, read back."""
    async with running(remote(uri, name="disk"), reactor) as cluster:
        disk = cluster["disk"]
        if disk.geometry.size < count * BLOCK_BYTES:
            raise SystemExit(f"{uri}: {disk.reason or f'has only {disk.geometry.size} bytes'}")
        try:
            for number, data in enumerate(blocks(seed, count)):
                await disk.write(number * BLOCK_BYTES, data)
            await disk.flush()
            print(f"{count} MiB written and flushed")
            for number, data in enumerate(blocks(seed, count)):
                if bytes(await disk.read(number * BLOCK_BYTES, BLOCK_BYTES)) != data:
                    raise SystemExit(f"{uri}: MiB {number} is not what was written")
            print(f"{count} MiB read back, all equal")
        except DSTError as error:
            raise SystemExit(f"{uri}: {error.message}") from error


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri", help="the export, as dst://127.0.0.1:7450/vol")
    parser.add_argument("--megabytes", type=int, default=64, help="how much, from the start of the disk")
    parser.add_argument("--seed", type=int, default=1, help="another number is other data")
    chosen = parser.parse_args()
    react(lambda reactor: _deferred(fill(reactor, chosen.uri, chosen.megabytes, chosen.seed)))


def _deferred(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


if __name__ == "__main__":
    main()
