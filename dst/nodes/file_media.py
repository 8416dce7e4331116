"""
An open file or block device: what is done to it, in terms of system calls that may block.

Everything here is called from the threads of L{dst.nodes.file_lane}, but
C{read_now} and C{write_now}, which never wait; other writes are done by a L{dst.native.files.Writer}.  Errors are
raised as what they mean to the caller: a full disk as C{NoSpace}, an input/output error as C{MediaError}.

What an incarnation is made of
==============================

A node's incarnation changes when it may have lost what was not flushed: the
page cache outlives a process, so a restarted daemon finds everything, but not another
start of the machine, nor a failed C{fdatasync} (Linux forgets the pages that it could not write).  So the file
carries, in the extended attribute C{user.dst.incarnation}, the boot id and a
random number; the incarnation is a digest of both and of the file's identity.  Another
boot id there than the machine's, or none, means a new number; a failed
C{fdatasync} stores a new number at once.  If even that fails the old one is taken away.  If that fails too, or the
file system is mounted again without what it had not written, the old one stands there again: this process
remembers what should, and takes a new number; a process started since does not know better.  A crash of the machine
needs no care, it changes the boot id.

Media that carries no such attributes (block devices, some file systems) gets
a random incarnation each time it is opened: it counts as having lost something then, which costs a partial
resync and is never wrong.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

from attrs import define, field
from twisted.logger import Logger

from dst.checksums import block_checksums
from dst.errors import (
    AlreadyInUse,
    BadMedia,
    ConfigurationError,
    DSTError,
    MediaError,
    NoSpace,
    NotSupported,
    ReadOnly,
)
from dst.geometry import SIZE_BYTES_MAX, BlockStatus, StatusExtent, align_down, align_up, coalesce
from dst.interfaces import Buffer
from dst.native.files import new_buffer
from dst.nodes.file_calls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, FIEMAP_EXTENTS, FileCalls

__all__ = ["INCARNATION_XATTR", "FileMedia", "error_of", "open_media"]

INCARNATION_XATTR = "user.dst.incarnation"

STATUS_EXTENTS_MAX = 1024
"""The most extents one C{block_status} answers: each costs two system calls."""

ZEROED_BYTES = 64 << 20
"""Asked for at once: a disk that has to write them takes a second or so."""

ZEROES_BYTES = 1 << 20
"""How much is written at a time where zeroes have to be written."""

READ_NOW_BYTES_MAX = 2 << 20
"""
More is read in a thread also where it is cached: copying 32 MiB takes 10 ms, in which the reactor would serve nobody
else, and a thread costs nothing beside that.
"""

REMEMBERED_FILES_MAX = 16 * 1024
"""Files whose last incarnation this process knows by itself: more than it has open at a time."""

SECTOR_BYTES = 512
"""What block devices want C{fallocate} to be aligned to; the edges are written."""

_log = Logger()

_NO_SUCH_WAY = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ENOTTY})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def error_of(error: OSError, doing: str, path: str) -> DSTError:
    """What an C{OSError} means to who asked."""
    sentence = f"{doing} {path} failed: {os.strerror(error.errno or 0)}"
    if error.errno in _FULL:
        return NoSpace(f"{sentence}; make room on that file system")
    if error.errno in (errno.EROFS, errno.EPERM, errno.EACCES):
        return ReadOnly(f"{sentence}; the media does not allow changes")
    return MediaError(sentence)


def open_media(
    path: str, *, size: int | None = None, read_only: bool = False, calls: FileCalls | None = None
) -> FileMedia:
    """
    Open and lock what is at C{path}.

    @param size: what it has to be.  A file that is missing or empty is made so large, sparse; one of
        another size is refused and not touched.
    @raise FileNotFoundError: there is none and C{size} was not given; it may come.
    @raise AlreadyInUse: somebody has it locked, or mounted.
    @raise ConfigurationError: it can never be used like that.
    @raise OSError: any other failure to open it; it may end.
    """
    calls = calls or FileCalls()
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC
    try:
        mode = calls.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):  # to open a pipe might wait for ever
            kind = "a directory" if stat.S_ISDIR(mode) else "neither"
            raise ConfigurationError(f"{path} is {kind}; expected a file or a block device")
        if stat.S_ISBLK(mode) and not read_only:
            flags |= os.O_EXCL  # the kernel refuses what is mounted or claimed
    except FileNotFoundError:
        if size is None or read_only:
            raise
        flags |= os.O_CREAT
    try:
        fd = calls.open(path, flags, 0o644)
    except OSError as error:
        refusal = _refusal(error, path, read_only)
        if refusal is None:
            raise
        raise refusal from None
    try:
        return _adopt(calls, fd, path, size, read_only)
    except BaseException:
        calls.close(fd)
        raise


def _refusal(error: OSError, path: str, read_only: bool) -> DSTError | None:
    """The reason for which an C{open} failed, where trying again cannot help."""
    if error.errno == errno.EBUSY:
        return AlreadyInUse(f"{path} is in use: it is mounted, or another program has claimed it")
    if error.errno in (errno.EACCES, errno.EPERM):
        what = "read" if read_only else "read and written"
        return ConfigurationError(f"{path} may not be {what} by this user; change its permissions or its owner")
    if error.errno == errno.EROFS:
        return ConfigurationError(f"{path} is on a read-only file system; say read_only=true, or mount it writable")
    if error.errno == errno.EISDIR:
        return ConfigurationError(f"{path} is a directory; expected a file or a block device")
    return None


def _adopt(calls: FileCalls, fd: int, path: str, size: int | None, read_only: bool) -> FileMedia:
    """Lock it, see what it is and how large."""
    found = calls.fstat(fd)
    block_device = stat.S_ISBLK(found.st_mode)
    try:
        calls.flock(fd, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyInUse(
            f"{path} is in use by another node or program; stop that one, or name another file"
        ) from None
    length = calls.seek(fd, 0, os.SEEK_END) if block_device else calls.fstat(fd).st_size
    if length == 0 and size and not block_device and not read_only:
        calls.ftruncate(fd, size)
        calls.fsync(fd)
        _sync_directory(calls, path)
        length = size
    if size is not None and length != size:
        raise ConfigurationError(
            f"{path} has {length} bytes and size= says {size}; size= only creates: correct it, or leave it out"
        )
    if length == 0:
        raise ConfigurationError(f"{path} is empty; give it a size with ?size=, or put the data there")
    if length > SIZE_BYTES_MAX:
        raise ConfigurationError(f"{path} has {length} bytes, more than the {SIZE_BYTES_MAX} a device may have")
    media = FileMedia(calls, fd, path, length, block_device, read_only)
    media.incarnation = media.known_incarnation()
    return media


def _sync_directory(calls: FileCalls, path: str) -> None:
    """Make the name of a new file as durable as the file."""
    fd = calls.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        calls.fsync(fd)
    finally:
        calls.close(fd)


class _ValidIncarnations:
    """
    What this process has wanted the latest files to remember, whether they could or not.

    Media that fails may keep what it shall not, or have it again when it is mounted once more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # every node flushes in a thread of its own
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def remember(self, identity: tuple[int, int], kept: bytes) -> None:
        """From now on that file has nothing else to remember."""
        with self._lock:
            self._kept[identity] = kept
            self._kept.move_to_end(identity)
            if len(self._kept) > REMEMBERED_FILES_MAX:
                self._kept.popitem(last=False)

    def is_valid(self, identity: tuple[int, int], kept: bytes) -> bool:
        """Nothing is known against what the file remembers."""
        with self._lock:
            return self._kept.get(identity, kept) == kept


_valid = _ValidIncarnations()


@define(eq=False)
class FileMedia:
    """
    Open and locked until C{close}.

    @ivar size: bytes; C{sync} sees when it has grown.
    @ivar remembers: the media can keep its incarnation over a restart of the process.
    """

    calls: FileCalls
    fd: int
    path: str
    size: int
    block_device: bool
    read_only: bool
    incarnation: bytes = b""
    remembers: bool = False
    _writes_now: bool = field(default=True)
    _extent_map: bool = field(default=True)
    _boot: bytes = field(default=b"")
    _identity: tuple[int, int] = field(default=(0, 0))

    # -- without waiting, in the reactor --

    def read_now(self, offset: int, length: int) -> Buffer | None:
        """The bytes, if they are cached and few; C{None} if reading would wait or this cannot be known."""
        if length > READ_NOW_BYTES_MAX:
            return None
        return self.calls.read_now(self.fd, offset, length)

    def write_now(self, offset: int, data: Buffer) -> bool:
        """Write it if that does not wait.  Most file systems cannot tell (ext4); some can (xfs)."""
        if not self._writes_now:
            return False
        try:
            return self.calls.write(self.fd, data, offset, os.RWF_NOWAIT) == len(data)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in _NO_SUCH_WAY:
                self._writes_now = False
        return False

    # -- in a thread --

    def read(self, offset: int, length: int) -> bytearray:
        """Exactly C{length} bytes."""
        buffer = new_buffer(length)
        view = memoryview(buffer)
        at = 0
        while at < length:
            try:
                count = self.calls.read(self.fd, view[at:], offset + at)
            except OSError as error:
                raise error_of(error, f"reading {length} bytes at {offset} of", self.path) from None
            if count == 0:
                raise BadMedia(f"{self.path} ends at {offset + at}, before its {self.size} bytes: it was truncated")
            at += count
        return buffer

    def checksums(self, offset: int, length: int, block_bytes: int) -> bytes:
        """Of what stands there; computed in the thread, with the interpreter free for others."""
        return block_checksums(self.read(offset, length), block_bytes)

    def error_of_write(self, number: int, offset: int, length: int) -> DSTError | None:
        """What the C{errno} of a write means, 0 for none."""
        if number == 0:
            return None
        return error_of(OSError(number, ""), f"writing {length} bytes at {offset} of", self.path)

    def zero(self, offset: int, length: int, no_hole: bool, fast_only: bool, goes_on: Callable[[], object]) -> None:
        """
        Make it zeroes: as a hole, as reserved space, or by writing them, whichever of these can be had.

        @param goes_on: called now and then, as this may take minutes.
        """
        modes = [FALLOC_ZERO_RANGE] if no_hole else [FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE]
        if self.block_device and fast_only:
            modes = [FALLOC_PUNCH_HOLE]  # of a device ZERO_RANGE may write them one by one
        first, last = offset, offset + length
        if self.block_device:
            first, last = align_up(first, SECTOR_BYTES), max(first, align_down(last, SECTOR_BYTES))
        try:
            if first >= last:
                self._write_zeroes(offset, offset + length, goes_on)
                return
            for start in range(first, last, ZEROED_BYTES):
                end = min(last, start + ZEROED_BYTES)
                if not any(self._fallocate(mode, start, end - start) for mode in modes):
                    if fast_only:
                        raise NotSupported(f"{self.path} cannot make zeroes faster than by writing them")
                    self._write_zeroes(start, end, goes_on)
                goes_on()
            self._write_zeroes(offset, first, goes_on)
            self._write_zeroes(last, offset + length, goes_on)
        except OSError as error:
            raise error_of(error, f"zeroing {length} bytes at {offset} of", self.path) from None

    def _fallocate(self, mode: int, offset: int, length: int) -> bool:
        try:
            self.calls.fallocate(self.fd, mode | FALLOC_KEEP_SIZE, offset, length)
        except OSError as error:
            if error.errno in _NO_SUCH_WAY:
                return False
            raise
        return True

    def _write_zeroes(self, start: int, end: int, goes_on: Callable[[], object]) -> None:
        zeroes = bytes(min(ZEROES_BYTES, max(0, end - start)))
        while start < end:
            count = self.calls.write(self.fd, memoryview(zeroes)[: end - start], start)
            if count == 0:
                raise OSError(errno.EIO, "")  # it would go on for ever
            start += count
            goes_on()

    def sync(self) -> None:
        """All that was written is durable; or it may be lost, and the incarnation is another one."""
        if self.read_only:
            return
        try:
            self.calls.fdatasync(self.fd)
        except OSError as error:
            self._lost()
            raise error_of(error, "flushing", self.path) from None
        self._see_growth()

    def _see_growth(self) -> None:
        """It may have been made larger; what is smaller shows where it is missed."""
        try:
            length = (
                self.calls.seek(self.fd, 0, os.SEEK_END) if self.block_device else self.calls.fstat(self.fd).st_size
            )
        except OSError:
            return
        self.size = max(self.size, min(length, SIZE_BYTES_MAX))

    def extents(self, offset: int, length: int) -> list[StatusExtent]:
        """What is known of an extent from its start, in a bounded number of parts."""
        if self.block_device:
            return [StatusExtent(length, BlockStatus.DATA)]
        try:
            return coalesce(self._extents(offset, offset + length))
        except OSError as error:
            if error.errno in _NO_SUCH_WAY:
                return [StatusExtent(length, BlockStatus.DATA)]
            raise error_of(error, "asking for the holes of", self.path) from None

    def _extents(self, at: int, end: int) -> list[StatusExtent]:
        found: list[StatusExtent] = []
        while at < end and len(found) < STATUS_EXTENTS_MAX:
            try:
                data = min(end, self.calls.seek(self.fd, at, os.SEEK_DATA))
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = end  # nothing but a hole up to the end of the file
            if data > at:
                parts = self._zeroes(at, data)
            else:
                hole = min(end, self.calls.seek(self.fd, at, os.SEEK_HOLE))
                # Where a trim came between the two calls it is a hole by now; to call it data is never wrong.
                parts = [StatusExtent((hole if hole > at else end) - at, BlockStatus.DATA)]
            found += parts
            at += sum(part.length for part in parts)
        return found

    def _zeroes(self, start: int, end: int) -> list[StatusExtent]:
        """Where the file reads as zeroes, tell the space that is reserved from that which is not.

        The parts may end before C{end}.
        """
        hole = BlockStatus.HOLE | BlockStatus.ZERO
        reserved: list[tuple[int, int]] = []
        if self._extent_map:
            try:
                reserved = self.calls.allocated(self.fd, start, end - start)
            except OSError:
                self._extent_map = False  # told as holes then: what is zero is right all the same
        if len(reserved) == FIEMAP_EXTENTS:
            end = min(end, sum(reserved[-1]))  # what comes after was not told
        parts: list[StatusExtent] = []
        at = start
        for offset, length in reserved:
            offset, until = max(at, offset), min(end, offset + length)
            if offset > at:
                parts.append(StatusExtent(offset - at, hole))
            if until > offset:
                parts.append(StatusExtent(until - offset, BlockStatus.ZERO))
                at = until
        if at < end:
            parts.append(StatusExtent(end - at, hole))
        return parts

    def close(self) -> None:
        """Give the file and its lock back, which the system does also where it reports an error."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            try:
                self.calls.close(fd)
            except OSError as error:
                _log.error("{path} may have lost data: closing it failed: {why}", path=self.path, why=error)

    # -- the incarnation --

    def known_incarnation(self) -> bytes:
        """The one that the media remembers, or a new one."""
        self._boot = self.calls.boot_id()
        found = self.calls.fstat(self.fd)
        self._identity = found.st_dev, found.st_ino
        try:
            kept = self.calls.getxattr(self.fd, INCARNATION_XATTR)
        except OSError:
            kept = b""
        if len(kept) > 16 and kept[:-16] == self._boot and _valid.is_valid(self._identity, kept):
            self.remembers = True
            return self._digest(kept)
        return self._new_incarnation()

    def _new_incarnation(self) -> bytes:
        """What it is made of was found at the start: to ask for that now might fail as the flush has."""
        kept = self._boot + os.urandom(16)
        self.remembers = not self.read_only and self._keep(kept)
        return self._digest(kept)

    def _keep(self, kept: bytes) -> bool:
        """Have the media remember it; if that fails, at least no older one."""
        _valid.remember(self._identity, kept)
        try:
            self.calls.setxattr(self.fd, INCARNATION_XATTR, kept)
        except OSError:
            try:
                self.calls.removexattr(self.fd, INCARNATION_XATTR)
            except OSError:
                pass
            return False
        return True

    def _lost(self) -> None:
        """Something that was acknowledged may be gone."""
        self.incarnation = self._new_incarnation()

    def _digest(self, kept: bytes) -> bytes:
        return blake2b(b"%s %d %d" % (kept, *self._identity), digest_size=16).digest()
