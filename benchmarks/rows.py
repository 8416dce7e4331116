"""
What is put on the servers: one kind of load each, and the goal it has.
"""

from __future__ import annotations

from attrs import frozen

__all__ = ["COPY", "FAR_ROWS", "GLUSTER_ROWS", "MANY_ROWS", "PLAIN_ROWS", "TLS_ROWS", "Row"]


@frozen
class Row:
    """
    One kind of load: random offsets, unless it is a copy.

    @ivar clients: connections, each with C{depth} requests.
    @ivar copy: everything is copied to a new place, once; C{block_bytes} is the unit it is told in.
    @ivar mixed: one half reads, one half writes, counted together.
    @ivar settled: it is measured when nothing changes any more, after a long warm-up.
    @ivar align_bytes: offsets are multiples of it; 0: of the block.
    @ivar places: there are so many different offsets, all over the device; 0: as many as there are blocks.
    """

    write: bool
    block_bytes: int
    depth: int
    clients: int = 1
    copy: bool = False
    mixed: bool = False
    settled: bool = False
    align_bytes: int = 0
    places: int = 0

    @property
    def name(self) -> str:
        """As it stands in the table."""
        if self.copy:
            return "copied, MiB/s"
        size = f"{self.block_bytes >> 20} MiB" if self.block_bytes >= 1 << 20 else f"{self.block_bytes >> 10} KiB"
        clients = "" if self.clients == 1 else f", {self.clients} clients"
        places = f", {self.places:,} places" if self.places else ""
        doing = "read and write" if self.mixed else "write" if self.write else "read"
        return f"{doing} {size} depth {self.depth}{clients}{places}"


PLAIN_ROWS = tuple(
    Row(write, block_bytes, depth)
    for block_bytes, depth in ((4096, 1), (4096, 32), (65536, 16), (1 << 20, 8))
    for write in (False, True)
)
MANY_ROWS = tuple(Row(write, 4096, 4, clients=16) for write in (False, True))
TLS_ROWS = tuple(Row(write, size, depth) for size, depth in ((4096, 32), (65536, 16)) for write in (False, True))
GLUSTER_ROWS = (Row(True, 4096, 32), Row(False, 4096, 32), Row(True, 65536, 16))
FAR_ROWS = (Row(True, 4096, 32, settled=True, places=1 << 16), Row(True, 4096, 32, settled=True))
COPY = Row(True, 1 << 20, 0, copy=True)
