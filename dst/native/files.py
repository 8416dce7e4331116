"""
Files without the interpreter, and memory that is not made zero before it is written to.

A file is written to by a L{Writer}, a thread of its own.  To write 4 KiB into the page cache takes a microsecond; to
have a thread do it that needs the interpreter takes 25 to 150, as it and the reactor's thread both want it.  So the
compiled one never does, and whoever hands a batch over may wait a little for its end: that costs some six.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final, Protocol, TypeAlias

from attrs import define

from dst.native import load

__all__ = ["PythonWriter", "Writer", "new_buffer", "new_writer", "read_now"]

_Buffer: TypeAlias = bytes | bytearray | memoryview

_compiled = load("_files")

# -- memory --

_resize = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_ssize_t)(
    ("PyByteArray_Resize", ctypes.pythonapi)
)


def python_new_buffer(length: int) -> bytearray:
    """See L{new_buffer}."""
    if not 0 <= length <= sys.maxsize:
        raise ValueError(f"{length} bytes") if length < 0 else OverflowError(f"{length} bytes")
    buffer = bytearray()
    _resize(buffer, length)
    return buffer


new_buffer: Final[Callable[[int], bytearray]] = _compiled.new_buffer if _compiled else python_new_buffer
"""
C{new_buffer(length)}: so many bytes, holding anything.  Whoever asks for them writes all before anybody reads any.
"""

# -- reading --


def python_read_now(fd: int, offset: int, length: int) -> _Buffer | None:
    """See L{read_now}."""
    if offset < 0 or length < 0:
        raise ValueError(f"{length} bytes at {offset} cannot be read")
    buffer = python_new_buffer(length)
    try:
        found = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return buffer if found == length else None


read_now: Final[Callable[[int, int, int], _Buffer | None]] = _compiled.read_now if _compiled else python_read_now
"""
C{read_now(fd, offset, length)}: the bytes, if the page cache has them all.  C{None} if reading would wait, or cannot
be done: what is wrong shows again where it may be waited for.
"""

# -- writing --


class Writer(Protocol):
    """
    A thread that writes, in the order in which it is told to.  It starts with the first batch, and never keeps the
    process from ending.

    All methods are for one thread, the reactor's.
    """

    def submit(self, fd: int, writes: Sequence[tuple[int, _Buffer]], token: object, wait_s: float) -> bool:
        """
        Have all C{(offset, data)} written, each completely, one after the other; one that fails keeps no other from
        being done.

        @param writes: the data must not change until the batch has ended.  The file must stay open until then.
        @param wait_s: wait so long for all that was given to end; 0 for not at all.
        @return: whether it was waited for and went well.  If so that is all.  If not the batch comes with C{reap}.
        """

    def reap(self) -> list[tuple[Any, list[int] | None]]:
        """
        What has ended since the last time, oldest first: C{(token, errors)}.

        @return: the C{errno} of each write, 0 for one that was done, C{ECANCELED} for one that was not begun;
            C{None} if all were done.
        """

    def take_back(self) -> list[Any]:
        """
        Begin nothing more of what was given until now.

        @return: the tokens of the batches of which nothing was begun, which are forgotten.  A batch that was begun
            comes with C{reap} when the write that it is at has ended, if ever.
        """

    def stop(self) -> None:
        """Let the thread end.  Waits for that if all that was given has ended, otherwise it ends afterwards."""

    def fileno(self) -> int:
        """Readable when there is something to reap.  Valid as long as this object."""


@define(eq=False)
class _Batch:
    fd: int
    writes: Sequence[tuple[int, _Buffer]]
    token: object
    errors: list[int] | None = None


class PythonWriter:
    """
    In Python.

    @ivar pwrite: C{pwrite(fd, data, offset)} returns how much it has written, or raises C{OSError}; a test may have
        another one.
    """

    def __init__(self, name: str, pwrite: Callable[[int, _Buffer, int], int] = os.pwrite) -> None:
        self._name = name
        self._pwrite = pwrite
        self._event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._calls: SimpleQueue[bool] = SimpleQueue()  # to the thread: look at what is waiting, or end
        self._gate = threading.Lock()  # released when a submit that waits shall look
        self._mutex = threading.Lock()  # over all that follows
        self._waiting: deque[_Batch] = deque()
        self._done: list[_Batch] = []
        self._in_flight = 0
        self._waited_for = False
        self._told = False
        self._taken_back = False

    def __del__(self) -> None:
        os.close(self._event_fd)

    def submit(self, fd: int, writes: Sequence[tuple[int, _Buffer]], token: object, wait_s: float) -> bool:
        """See L{Writer}."""
        if self._stopped:
            raise RuntimeError("this writer was stopped")
        batch = _Batch(fd, _checked(fd, writes), token)
        if self._thread is None:
            self._start_thread()
        with self._mutex:
            self._waiting.append(batch)
            self._in_flight += 1
            self._waited_for = wait_s > 0
        self._calls.put(True)
        return wait_s > 0 and self._wait(batch, monotonic() + min(wait_s, 3600.0))

    def _start_thread(self) -> None:
        # One that hangs in the kernel must not keep the process from ending.
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from None  # as the compiled one
        self._thread = thread

    def _wait(self, batch: _Batch, deadline: float) -> bool:
        """For everything to end; whether this batch went well."""
        while self._in_flight:
            left = deadline - monotonic()
            if left <= 0:
                break
            self._gate.acquire(timeout=left)
        with self._mutex:
            self._waited_for = False
            ended = batch in self._done and batch.errors is None
            if ended:
                self._done.remove(batch)
            untold = bool(self._done) and not self._told
            self._told |= untold
        if untold:
            os.eventfd_write(self._event_fd, 1)
        return ended

    def reap(self) -> list[tuple[Any, list[int] | None]]:
        """See L{Writer}."""
        try:
            os.eventfd_read(self._event_fd)  # before looking: what ends after that signals again
        except BlockingIOError:
            pass
        with self._mutex:
            done, self._done = self._done, []
            self._told = False
        return [(batch.token, batch.errors) for batch in done]

    def take_back(self) -> list[Any]:
        """See L{Writer}."""
        with self._mutex:
            taken = list(self._waiting)
            self._waiting.clear()
            self._in_flight -= len(taken)
            self._taken_back = self._in_flight > 0
        return [batch.token for batch in taken]

    def stop(self) -> None:
        """See L{Writer}."""
        if not self._stopped:
            self._stopped = True
            self._calls.put(False)
            if self._thread is not None and not self._in_flight:
                self._thread.join()

    def fileno(self) -> int:
        """See L{Writer}."""
        return self._event_fd

    # -- in the thread --

    def _run(self) -> None:
        more = True
        while more:
            more = self._calls.get()
            while True:
                with self._mutex:
                    if not self._waiting:
                        break
                    batch = self._waiting.popleft()
                self._do(batch)
                self._ended(batch)

    def _do(self, batch: _Batch) -> None:
        errors = [
            errno.ECANCELED if self._taken_back else self._write(batch.fd, offset, data)
            for offset, data in batch.writes
        ]
        batch.errors = errors if any(errors) else None
        batch.writes = ()  # the buffers are their owners' again

    def _write(self, fd: int, offset: int, data: _Buffer) -> int:
        """All of it, or the error that ended it."""
        at = 0
        try:
            view = memoryview(data).cast("B")
            while at < len(view):
                count = self._pwrite(fd, view[at:], offset + at)
                if not 0 < count <= len(view) - at:
                    return errno.EIO  # it would go on for ever
                at += count
        except OSError as error:
            return error.errno or errno.EIO
        except MemoryError:
            return errno.ENOMEM
        return 0

    def _ended(self, batch: _Batch) -> None:
        with self._mutex:
            self._done.append(batch)
            self._in_flight -= 1
            self._taken_back = False
            wake = self._waited_for and not self._in_flight
            tell = not self._waited_for and not self._told
            self._told |= tell
        if wake:
            try:
                self._gate.release()
            except RuntimeError:
                pass  # nobody has waited since the last time
        if tell:
            os.eventfd_write(self._event_fd, 1)


def _checked(fd: int, writes: Sequence[tuple[int, _Buffer]]) -> tuple[tuple[int, _Buffer], ...]:
    """A copy of the list; refused like the compiled one does, before anything is begun."""
    if fd < 0 or fd >= 1 << 31:
        raise ValueError(f"{fd} is no file")
    batch = tuple(writes)
    for write in batch:
        if not isinstance(write, tuple) or len(write) != 2:
            raise TypeError("expected writes as (offset, data)")
        offset, data = write
        with memoryview(data) as view:
            if not view.c_contiguous:
                raise BufferError("memoryview: underlying buffer is not C-contiguous")
            if offset < 0 or offset > (1 << 63) - 1 - view.nbytes:
                raise ValueError(f"{view.nbytes} bytes at {offset} are not in any file")
    return batch


def new_writer(name: str) -> Writer:
    """
    A compiled one if there is one.

    @param name: of the thread, for debuggers.
    """
    if _compiled is None:
        return PythonWriter(name)
    writer: Writer = _compiled.Writer(name.encode("ascii", "replace").decode()[:15])
    return writer
