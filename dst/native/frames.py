"""
Headers of frames, to bytes and back, and their checksums: compiled, or in Python.

L{dst.native.plain_frames} has the layout of a header; C{_frames.c} has to be told the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dst.native import load
from dst.native.plain_frames import ANSWER, CHECKED_BYTES, HEADER_BYTES, MAGIC, NO_EPOCH, unpack_header

__all__ = [
    "ANSWER",
    "CHECKED_BYTES",
    "HEADER_BYTES",
    "MAGIC",
    "NO_EPOCH",
    "Frame",
    "answer_header",
    "crc32c",
    "cut",
    "done_answers",
    "request_header",
    "unpack_header",
]

if TYPE_CHECKING or load("_frames") is None:
    from dst.native.plain_frames import Frame, answer_header, crc32c, cut, done_answers, request_header
else:
    from dst.native._frames import Frame, answer_header, crc32c, cut, done_answers, request_header
