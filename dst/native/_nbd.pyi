from collections.abc import Callable

from dst.interfaces import Buffer
from dst.native.plain_nbd import Request

def cut(data: bytes, at: int, data_bytes_max: int, requests: list[Request], /) -> int: ...
def answer_reads(
    requests: list[Request],
    at: int,
    end: int,
    room_bytes: int,
    rules: tuple[int, int, int],
    read_now: Callable[[int, int], Buffer | None],
    structured: bool,
    out: list[Buffer],
    /,
) -> tuple[int, int]: ...
def gather_writes(
    requests: list[Request],
    at: int,
    end: int,
    room_bytes: int,
    rules: tuple[int, int, int],
    writes: list[tuple[int, Buffer]],
    cookies: list[int],
    /,
) -> tuple[int, int]: ...
def simple_replies(cookies: list[int], /) -> bytes: ...
def is_zero(data: Buffer, /) -> bool: ...
