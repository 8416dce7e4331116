"""
The system calls a file node makes, in one place.

A L{FileCalls} is given to the node, so that a test can give one whose disk is full, fails
or hangs, without patching anything.  One that has a C{read} or C{write} of its own has a C{read_now} or C{new_writer}
of its own as well.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from dst.interfaces import Buffer
from dst.native import files

__all__ = ["FALLOC_KEEP_SIZE", "FALLOC_PUNCH_HOLE", "FALLOC_ZERO_RANGE", "FileCalls"]

FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_ZERO_RANGE = 0x10

_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP_HEADER = struct.Struct("=QQIIII")  # start, length, flags, mapped, count, reserved
_FIEMAP_EXTENT = struct.Struct("=QQQQQIIII")  # logical, physical, length, 2 reserved, flags, 3 reserved

FIEMAP_EXTENTS = 128
"""Extents asked for at once; more are asked for again."""

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_fallocate.restype = ctypes.c_int


class FileCalls:
    """The real ones.  Everything raises C{OSError}; nothing is repeated or completed here."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    stat = staticmethod(os.stat)
    fstat = staticmethod(os.fstat)
    ftruncate = staticmethod(os.ftruncate)
    fsync = staticmethod(os.fsync)
    fdatasync = staticmethod(os.fdatasync)
    getxattr = staticmethod(os.getxattr)
    setxattr = staticmethod(os.setxattr)
    removexattr = staticmethod(os.removexattr)
    seek = staticmethod(os.lseek)
    flock = staticmethod(fcntl.flock)

    def read_now(self, fd: int, offset: int, length: int) -> Buffer | None:
        """See L{dst.native.files.read_now}."""
        return files.read_now(fd, offset, length)

    def new_writer(self, name: str) -> files.Writer:
        """What writes for a node, but for zeroes; see L{dst.native.files.Writer}."""
        return files.new_writer(name)

    def read(self, fd: int, buffer: bytearray | memoryview, offset: int, flags: int = 0) -> int:
        """C{preadv2} into one buffer."""
        return os.preadv(fd, [buffer], offset, flags)

    def write(self, fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
        """C{pwritev2} of one buffer."""
        return os.pwritev(fd, [data], offset, flags)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        """C{fallocate}, which Python knows only without its modes."""
        if _fallocate(fd, mode, offset, length) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def allocated(self, fd: int, offset: int, length: int) -> list[tuple[int, int]]:
        """
        C{(offset, length)} of the extents in which the file system has given space, written or
        not, in order; as many as one call tells.
        """
        buffer = bytearray(_FIEMAP_HEADER.size + FIEMAP_EXTENTS * _FIEMAP_EXTENT.size)
        _FIEMAP_HEADER.pack_into(buffer, 0, offset, length, 0, 0, FIEMAP_EXTENTS, 0)
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, buffer, True)
        extents = []
        for number in range(_FIEMAP_HEADER.unpack_from(buffer)[3]):
            fields = _FIEMAP_EXTENT.unpack_from(buffer, _FIEMAP_HEADER.size + number * _FIEMAP_EXTENT.size)
            extents.append((fields[0], fields[2]))
        return extents

    def boot_id(self) -> bytes:
        """Which start of this machine it is: what was not flushed before another one is gone."""
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip()
