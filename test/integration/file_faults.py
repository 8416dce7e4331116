"""Writers whose system call is a function of the test's, in Python and compiled."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable

from dst.native import load
from dst.native.files import PythonWriter, Writer

__all__ = ["NOT_COMPILED", "Write", "compiled_writer", "python_writer"]

Write = Callable[[int, memoryview, int], int]
"""C{write(fd, data, offset)}: how much was written, or an C{OSError}."""

NOT_COMPILED = "dst.native._files was not built here, or Python was asked for"

_Pwrite = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, use_errno=True
)

_kept: list[object] = []
"""A thread that was left hanging may still call them."""


def python_writer(name: str, write: Write) -> Writer:
    """The one in Python."""
    return PythonWriter(name, write)


def compiled_writer(name: str, write: Write) -> Writer:
    """The compiled one; its thread comes to Python for C{write} alone."""
    compiled = load("_files")
    assert compiled is not None, NOT_COMPILED

    def call(fd: int, address: int, length: int, offset: int) -> int:
        try:
            return write(fd, memoryview((ctypes.c_char * length).from_address(address)).cast("B"), offset)
        except OSError as error:
            ctypes.set_errno(error.errno or errno.EIO)
            return -1

    function = _Pwrite(call)
    _kept.append(function)
    writer: Writer = compiled.Writer(name[:15], ctypes.cast(function, ctypes.c_void_p).value)
    return writer
