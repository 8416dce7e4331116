"""
Requests of NBD clients and the usual answers to them: compiled, or in Python.

L{dst.native.plain_nbd} has the layouts; C{_nbd.c} has to be told the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dst.native import load
from dst.native.plain_nbd import COPIED_BYTES_MAX, HOLE_BYTES_MAX, HOLE_BYTES_MIN, Request

__all__ = [
    "COPIED_BYTES_MAX",
    "HOLE_BYTES_MAX",
    "HOLE_BYTES_MIN",
    "Request",
    "answer_reads",
    "cut",
    "gather_writes",
    "is_zero",
    "simple_replies",
]

if TYPE_CHECKING or load("_nbd") is None:
    from dst.native.plain_nbd import answer_reads, cut, gather_writes, is_zero, simple_replies
else:
    from dst.native._nbd import answer_reads, cut, gather_writes, is_zero, simple_replies
