"""
Bytes to frames.

Each piece that arrives is looked at once.  Data that lies whole in one piece is handed out as
a view of it; data that does not is collected and joined once, or, where the connection can do that, received
straight to its place (L{FrameParser.hole}).  Between two calls the parser keeps less than one
frame.  A header that promises 32 MiB reserves nothing; only who asks for a hole does.
"""

from __future__ import annotations

import struct

from crc32c import crc32c

from dst.errors import PeerError
from dst.interfaces import Buffer
from dst.wire.framing import CHECKED_BYTES, HEADER_BYTES, MAGIC
from dst.wire.messages import Frame

__all__ = ["FrameParser"]

_unpack_from = struct.Struct("<4sBBHQQQ16sIIII").unpack_from

_SMALL_PIECE_BYTES = 4096
"""
Pieces below this are put together as they come: a list of a million little pieces would take
many times the memory of what is in them.
"""


_HOLE_BYTES_MIN = 64 * 1024
"""Less than this is received as usual, with whatever comes after it."""


class FrameParser:
    """
    One direction of one connection.

    @ivar data_bytes_max: a frame that announces more data breaks the stream.
    @ivar checksums: whether data is compared with its checksum.
    @ivar broken: why nothing after the frames that were given out can be understood, or C{None}.
    """

    def __init__(self, data_bytes_max: int) -> None:
        self.data_bytes_max = data_bytes_max
        self.checksums = True
        self.broken: PeerError | None = None
        self._header = b""  # the beginning of a header, while incomplete
        self._frame: Frame | None = None  # waits for its data
        self._data_crc = 0
        self._pieces: list[Buffer] = []
        self._missing_bytes = 0
        self._target: bytearray | None = None  # all of the data, as far as it is here

    @property
    def missing_bytes(self) -> int:
        """What is still to come of the data of the frame that has begun; 0 between frames."""
        return self._missing_bytes if self._frame is not None else 0

    @property
    def between_frames(self) -> bool:
        """Nothing was received of a frame that is not complete."""
        return self._frame is None and not self._header

    @property
    def hole(self) -> memoryview | None:
        """
        Where the bytes that come next belong, if they are many and belong to the data of one frame.

        Asking for it takes the memory for that data.  What was received there must be told to L{hole_filled}.
        """
        if self._missing_bytes < _HOLE_BYTES_MIN and self._target is None or self._frame is None:
            return None
        target = self._target
        if target is None:
            arrived = sum(map(len, self._pieces))
            self._target = target = bytearray(arrived + self._missing_bytes)
            position = 0
            for part in self._pieces:
                target[position : position + len(part)] = part
                position += len(part)
            self._pieces.clear()
        return memoryview(target)[-self._missing_bytes :]

    def hole_filled(self, count: int) -> list[Frame]:
        """
        The first C{count} bytes of L{hole} are there.

        @return: the frame, if that completes it.
        """
        frames: list[Frame] = []
        self._missing_bytes -= count
        if self._missing_bytes == 0:
            self._complete(frames)
        return frames

    def receive(self, piece: bytes) -> list[Frame]:
        """
        Take what arrived.

        @return: the frames that are complete now.  When the stream cannot be followed beyond them
            L{broken} says why, and whatever is received later is ignored.
        """
        frames: list[Frame] = []
        if self.broken is not None:
            return frames
        position, end = 0, len(piece)
        view = memoryview(piece)
        if self._frame is not None:
            position = self._collect(view, frames)
        if self._header and position < end:
            position = HEADER_BYTES - len(self._header)
            self._header += piece[:position]
            if len(self._header) < HEADER_BYTES:
                return frames
            header, self._header = self._header, b""
            if not self._begin(header, memoryview(header), 0):
                return frames
            position += self._take_data(view, position, end, frames)
        while end - position >= HEADER_BYTES:
            if not self._begin(piece, view, position):
                return frames
            position += HEADER_BYTES
            position += self._take_data(view, position, end, frames)
        if position < end and self._frame is None:
            self._header = piece[position:]
        return frames

    def _begin(self, buffer: bytes, view: memoryview, position: int) -> bool:
        """Take the header at C{position}; C{False} if it makes no sense."""
        magic, kind, status, flags, request_id, offset, length, epoch, data_bytes, data_crc, _, header_crc = (
            _unpack_from(buffer, position)
        )
        if magic != MAGIC:
            self.broken = PeerError(f"a frame begins with {magic!r}, expected {MAGIC!r}")
        elif crc32c(view[position : position + CHECKED_BYTES]) != header_crc:
            self.broken = PeerError("the header of a frame was damaged on the way: its checksum does not match")
        elif data_bytes > self.data_bytes_max:
            self.broken = PeerError(
                f"a frame announces {data_bytes} bytes, at most {self.data_bytes_max} are allowed"
            )
        else:
            self._frame = Frame(kind, status, flags, request_id, offset, length, epoch, b"", True)
            self._missing_bytes = data_bytes
            self._data_crc = data_crc
            return True
        return False

    def _take_data(self, view: memoryview, position: int, end: int, frames: list[Frame]) -> int:
        """Take the data of the frame that has begun, as far as it is here; how many bytes that were."""
        frame, wanted = self._frame, self._missing_bytes
        assert frame is not None
        if wanted <= end - position:
            self._frame = None
            if wanted:
                frame.data = data = view[position : position + wanted]
                if self.checksums:
                    frame.intact = crc32c(data) == self._data_crc
            frames.append(frame)
            return wanted
        if position < end:
            self._keep(view[position:])
        return end - position

    def _collect(self, view: memoryview, frames: list[Frame]) -> int:
        """Add to the data of a frame that began in an earlier piece."""
        taken = min(self._missing_bytes, len(view))
        if self._target is not None:
            start = len(self._target) - self._missing_bytes
            self._target[start : start + taken] = view[:taken]
            self._missing_bytes -= taken
        else:
            self._keep(view[:taken])
        if self._missing_bytes == 0:
            self._complete(frames)
        return taken

    def _complete(self, frames: list[Frame]) -> None:
        """All data of a frame that began in an earlier piece is here."""
        frame, self._frame = self._frame, None
        assert frame is not None
        target, self._target = self._target, None
        frame.data = data = b"".join(self._pieces) if target is None else target
        self._pieces.clear()
        if self.checksums:
            frame.intact = crc32c(data) == self._data_crc
        frames.append(frame)

    def _keep(self, part: memoryview) -> None:
        self._missing_bytes -= len(part)
        if len(part) >= _SMALL_PIECE_BYTES:
            self._pieces.append(part)
        elif self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += part
        else:
            self._pieces.append(bytearray(part))
