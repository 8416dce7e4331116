"""
Bytes to frames.

Each piece that arrives is looked at once.  Data that lies whole in one piece is handed out as
a view of it; data that does not is collected and joined once, or, where the connection can do that, received
straight to its place (L{FrameParser.hole}).  Between two calls the parser keeps less than one
frame.  A header that promises 32 MiB reserves nothing; only who asks for a hole does.
"""

from __future__ import annotations

from dst.errors import PeerError
from dst.interfaces import Buffer
from dst.native.files import new_buffer
from dst.native.frames import CHECKED_BYTES, HEADER_BYTES, MAGIC, crc32c, cut, unpack_header
from dst.wire.messages import Frame

__all__ = ["FrameParser"]

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
        self._begun: tuple[int, int, int, int, int, int, bytes] | None = None  # a header that waits for its data
        self._data_crc = 0
        self._pieces: list[Buffer] = []
        self._missing_bytes = 0
        self._target: bytearray | None = None  # all of the data, as far as it is here

    @property
    def missing_bytes(self) -> int:
        """What is still to come of the data of the frame that has begun; 0 between frames."""
        return self._missing_bytes if self._begun is not None else 0

    @property
    def between_frames(self) -> bool:
        """Nothing was received of a frame that is not complete."""
        return self._begun is None and not self._header

    @property
    def hole(self) -> memoryview | None:
        """
        Where the bytes that come next belong, if they are many and belong to the data of one frame.

        Asking for it takes the memory for that data.  What was received there must be told to L{hole_filled}.
        """
        if self._missing_bytes < _HOLE_BYTES_MIN and self._target is None or self._begun is None:
            return None
        target = self._target
        if target is None:
            arrived = sum(map(len, self._pieces))
            self._target = target = new_buffer(arrived + self._missing_bytes)
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
        if self.broken is not None:
            return []
        frames: list[Frame] = []
        position = 0
        if self._begun is not None:
            position = self._collect(memoryview(piece), frames)
        if self._header:
            position = HEADER_BYTES - len(self._header)
            self._header += piece[:position]
            if len(self._header) < HEADER_BYTES:
                return frames
            header, self._header = self._header, b""
            if not self._begin(header, 0):
                return frames
            position += self._collect(memoryview(piece)[position:], frames)
        end = len(piece)
        if position < end:
            whole, position = cut(piece, position, self.data_bytes_max, self.checksums)
            frames = frames + whole if frames else whole
            if end - position >= HEADER_BYTES:
                if self._begin(piece, position):
                    self._keep(memoryview(piece)[position + HEADER_BYTES :])
            elif position < end:
                self._header = piece[position:]
        return frames

    def _begin(self, buffer: bytes, position: int) -> bool:
        """Take the header at C{position}; C{False} if it makes no sense."""
        magic, kind, status, flags, request_id, offset, length, epoch, data_bytes, data_crc, _, header_crc = (
            unpack_header(buffer, position)
        )
        if magic != MAGIC:
            self.broken = PeerError(f"a frame begins with {magic!r}, expected {MAGIC!r}")
        elif crc32c(buffer[position : position + CHECKED_BYTES]) != header_crc:
            self.broken = PeerError("the header of a frame was damaged on the way: its checksum does not match")
        elif data_bytes > self.data_bytes_max:
            self.broken = PeerError(
                f"a frame announces {data_bytes} bytes, at most {self.data_bytes_max} are allowed"
            )
        else:
            self._begun = kind, status, flags, request_id, offset, length, epoch
            self._missing_bytes = data_bytes
            self._data_crc = data_crc
            return True
        return False

    def _collect(self, view: memoryview, frames: list[Frame]) -> int:
        """Add to the data of the frame that has begun; how many bytes that were."""
        taken = min(self._missing_bytes, len(view))
        if self._target is not None:
            start = len(self._target) - self._missing_bytes
            self._target[start : start + taken] = view[:taken]
            self._missing_bytes -= taken
        elif taken:
            self._keep(view[:taken])
        if self._missing_bytes == 0:
            self._complete(frames)
        return taken

    def _complete(self, frames: list[Frame]) -> None:
        """All data of the frame that has begun is here."""
        begun, self._begun = self._begun, None
        assert begun is not None
        target, self._target = self._target, None
        data: Buffer = b"".join(self._pieces) if target is None else target
        self._pieces.clear()
        intact = not self.checksums or not data or crc32c(data) == self._data_crc
        frames.append(Frame(*begun, data, intact))

    def _keep(self, part: memoryview) -> None:
        self._missing_bytes -= len(part)
        if len(part) >= _SMALL_PIECE_BYTES:
            self._pieces.append(part)
        elif self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += part
        else:
            self._pieces.append(bytearray(part))
