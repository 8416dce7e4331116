from collections.abc import Sequence

from dst.interfaces import Buffer
from dst.native.plain_frames import Frame as Frame

def cut(piece: Buffer, position: int, data_bytes_max: int, checksums: bool, /) -> tuple[list[Frame], int]: ...
def request_header(
    operation: int,
    request_id: int,
    offset: int = 0,
    length: int = 0,
    /,
    *,
    status: int = 0,
    flags: int = 0,
    epoch: bytes = ...,
    data: Buffer = ...,
    checksum: bool = True,
    data_crc: int | None = None,
) -> bytes: ...
def answer_header(
    operation: int,
    request_id: int,
    /,
    *,
    status: int = 0,
    flags: int = 0,
    data: Buffer = ...,
    checksum: bool = True,
    data_crc: int | None = None,
) -> bytes: ...
def done_answers(frames: Sequence[Frame], /) -> bytes: ...
def crc32c(data: Buffer, value: int = 0, /) -> int: ...
def use_checksum(way: str, /) -> str: ...
