"""
Files without the interpreter, and memory that is not made zero before it is written to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

__all__ = ["new_buffer"]

_new_bytearray = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyByteArray_FromStringAndSize", ctypes.pythonapi)
)


def python_new_buffer(length: int) -> bytearray:
    """See L{new_buffer}."""
    if length < 0:
        raise ValueError(f"{length} bytes")
    buffer: bytearray = _new_bytearray(None, length)
    return buffer


new_buffer: Final[Callable[[int], bytearray]] = python_new_buffer
"""
C{new_buffer(length)}: so many bytes, holding anything.  To make 1 MiB zero takes as long as to receive it; whoever
asks for this writes all of it before anybody reads it.
"""
