"""
C{twistd} without checksums: what they cost, measured by leaving them out.

DST has no switch for this.  Here every checksum is zero, written and expected, of headers, blocks and labels alike,
so all programs that talk to each other have to be started with this.  For measurements only.
"""

from __future__ import annotations

import crc32c

from dst.native import load


def nothing(data: object, value: int = 0, gil_release_mode: int = -1) -> int:
    """Instead of a checksum; whoever chains parts gets the same."""
    return 0


if __name__ == "__main__":
    crc32c.crc32c = nothing  # before anything else of dst is imported: they take it by name
    frames = load("_frames")
    if frames is not None:
        frames.use_checksum("none")  # which makes them without the package
    from twisted.scripts.twistd import run

    run()
