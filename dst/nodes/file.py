"""
A file or a raw block device as a node.

The reactor never waits for a disk.  A read that the page cache can answer is
served at once (C{RWF_NOWAIT}), and so is a write where the file system can
promise not to wait; everything else goes to the threads of this node alone: changes in the order in which they were
asked for, most of them to one that needs no interpreter; flushes so that one C{fdatasync} serves
all who wait; reads side by side.

When something has not come back within the deadline, the disk counts as
hanging: everything in flight fails with C{DeadlinePassed}, what no thread has begun is never done, and
the node is C{AWAY}, keeping the file and its lock, until every thread has come back; so no late write can
land on a newer one.  Nothing was lost then, and the node is ready again in the same incarnation.

A file or a device that is made larger while it is open is seen to be at the next flush.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.checksums import checksums_refusal
from dst.errors import AlreadyInUse, ConfigurationError, DSTError, IncarnationChanged
from dst.geometry import Geometry, StatusExtent
from dst.interfaces import Buffer, IChecksums, IExclusive, INode, INodeProvider, IReadsNow, IWritesTogether
from dst.nodes.file_calls import FileCalls
from dst.nodes.file_crew import Crew
from dst.nodes.file_media import FileMedia, error_of, open_media
from dst.nodes.settings import Settings
from dst.observing import ObservableNode
from dst.status import LinkState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from dst.nodes.file_crew import Reactor

__all__ = ["DEADLINE_S", "FileNode", "FileNodeProvider"]

DEADLINE_S = 30.0
"""How long the disk may take: longer than a disk that repairs a sector by itself, shorter than people wait."""

READ_THREADS_MAX = 4
"""Reads of what is not cached that are done side by side: enough to keep a disk's queue filled."""

RETRY_S_FIRST = 0.5
RETRY_S_MAX = 30.0
"""A missing file is looked for again after so long, doubling; the most is what a person would wait for."""

_log = Logger()


@implementer(INode, IChecksums, IExclusive, IReadsNow, IWritesTogether)
class FileNode(ObservableNode):
    """
    See the module.  After C{close} it may be opened again.
    """

    kind = "file"

    def __init__(
        self,
        reactor: Reactor,
        name: str,
        path: str,
        *,
        size: int | None = None,
        read_only: bool = False,
        deadline_s: float = DEADLINE_S,
        calls: FileCalls | None = None,
        random: Random | None = None,
    ) -> None:
        """
        @param size: create the file with so many bytes if it is missing or empty; one of another size is refused.
        @param deadline_s: how long the disk may take for anything.
        @param calls: the system calls; the real ones if not given.
        """
        super().__init__(reactor, name)
        self.path = path
        calls = calls or FileCalls()
        self._open_media = partial(open_media, path, size=size, read_only=read_only, calls=calls)
        self._size = size
        self._random = random or Random()
        self._media: FileMedia | None = None
        self._retrying: IDelayedCall | None = None
        self._retry_s = RETRY_S_FIRST
        self._opening: Deferred[None] | None = None
        self._closing: list[Deferred[None]] = []
        self._new_crew = partial(
            Crew,
            reactor,
            name,
            deadline_s,
            calls.new_writer,
            hung=self._hung,
            recovered=self._recovered,
            unclaimed=self._unclaimed,
        )
        self._take_crew()

    def _take_crew(self) -> None:
        """Threads of its own; they start when there is something to do."""
        self._crew = self._new_crew()
        self._syncs = self._crew.lane("flushes", together=True)
        self._reads = self._crew.lane("reads", threads_max=READ_THREADS_MAX)

    # -- opening --

    def open(self) -> Deferred[None]:
        assert self._opening is None and not self._closing, f"{self.name} is being opened or closed"
        assert self.link is not LinkState.READY, f"{self.name} is open already"
        if self.link is LinkState.CLOSED:
            if self._crew.hanging:
                sentence = f"a system call on {self.path} from before it was closed has not returned yet"
                return fail(AlreadyInUse(sentence))
            self._take_crew()
        self.changed(LinkState.CONNECTING, f"opening {self.path}")
        self._retry_s = RETRY_S_FIRST
        opening: Deferred[None] = Deferred()
        self._opening = opening
        self._attempt()
        return opening

    def _attempt(self) -> None:
        """Open the media in a thread: a network file system may hang there."""
        self._retrying = None
        self._crew.change(self._open_media).addCallbacks(self._opened, self._not_opened)

    def _opened(self, media: FileMedia) -> None:
        if self._closing:
            media.close()
            return
        self._media = media
        geometry = Geometry(media.size, read_only=media.read_only)
        self.changed(LinkState.READY, "", geometry=geometry, incarnation=media.incarnation)
        self._tell_opener(None)

    def _not_opened(self, failure: Failure) -> None:
        error = failure.value
        if self.link is LinkState.CLOSED:
            return
        final = isinstance(error, AlreadyInUse | ConfigurationError) and self._opening is not None
        if isinstance(error, FileNotFoundError):
            hint = "" if self._size is not None else "; create it, or say how large it shall be with ?size="
            reason = f"{self.path} is not there{hint}"
        elif isinstance(error, OSError):
            reason = error_of(error, "opening", self.path).message
        else:
            reason = str(error)
        self.changed(LinkState.AWAY, reason)
        if final:
            self._tell_opener(failure)
            return
        if not self._crew.hanging:  # otherwise it is tried again when the thread has come back
            self._retrying = self.clock.callLater(self._retry_s * self._random.uniform(0.7, 1.3), self._attempt)
            self._retry_s = min(RETRY_S_MAX, 2 * self._retry_s)
        self._tell_opener(None)

    def _tell_opener(self, result: Failure | None) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.callback(result)

    # -- a disk that hangs --

    def _hung(self) -> None:
        if self.link is not LinkState.CLOSED:
            self.changed(LinkState.AWAY, f"the disk of {self.path} hangs: a system call has not returned in time")

    def _recovered(self) -> None:
        """Every thread is back, so that nothing old can be written any more."""
        if self.link is LinkState.CLOSED:
            self._give_back()
        elif self._media is None:
            self._attempt()
        else:
            self.changed(LinkState.READY, "", incarnation=self._media.incarnation)

    def _unclaimed(self, result: object) -> None:
        """A file that was opened too late."""
        if isinstance(result, FileMedia):
            result.close()

    # -- closing --

    def close(self) -> Deferred[None]:
        if self.link is LinkState.CLOSED and not self._closing:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        if len(self._closing) == 1:
            if self._retrying is not None:
                self._retrying.cancel()
                self._retrying = None
            self.changed(LinkState.CLOSED, "it was closed")
            self._crew.drain().addCallback(lambda _: self._flush_last()).addCallback(self._closed)
        return closed

    def _flush_last(self) -> Deferred[None]:
        """Nothing is in flight: make all of it durable."""
        if self._media is None or self._crew.hanging:
            return succeed(None)
        return self._crew.do(self._syncs, self._media.sync).addErrback(
            lambda failure: _log.error("{name} may have lost data: {why}", name=self.name, why=failure.value)
        )

    def _closed(self, _: None) -> None:
        """A thread that hangs keeps the file and its lock, and gives them back if it ever returns."""
        if not self._crew.hanging:
            self._give_back()
        self._crew.stop()
        self._tell_opener(None)
        closing, self._closing = self._closing, []
        for closed in closing:
            closed.callback(None)

    def _give_back(self) -> None:
        media, self._media = self._media, None
        if media is not None:
            media.close()

    # -- operations --

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        media = self._media
        if media is None or self.link is not LinkState.READY:
            return fail(self.unavailable())
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        data = media.read_now(offset, length)
        if data is not None:
            return succeed(data)
        return self._crew.do(self._reads, media.read, (offset, length), length)

    def read_now(self, offset: int, length: int) -> Buffer | None:
        media = self._media
        return media.read_now(offset, length) if media is not None and self.link is LinkState.READY else None

    def checksums(self, offset: int, length: int, block_bytes: int) -> Deferred[bytes]:
        media = self._media
        refusal = self._refusal(offset, length, transfer=True) or checksums_refusal(length, block_bytes)
        if media is None or refusal is not None:
            return fail(refusal or self.unavailable())
        return self._crew.do(self._reads, media.checksums, (offset, length, block_bytes), length)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        media = self._media
        length = len(data)
        refusal = self._refusal(offset, length, transfer=True, change=True)
        if media is None or refusal is not None:
            return fail(refusal or self.unavailable())
        if not fua and self._crew.idle and media.write_now(offset, data):
            return succeed(None)
        incarnation = media.incarnation
        writing = self._crew.write(media.fd, ((offset, data),), length)
        if writing is None:
            return self._force(None, media, incarnation) if fua else succeed(None)
        written = writing.addCallback(_raise_error, media, offset, length)
        return written.addCallback(self._force, media, incarnation) if fua else written

    def write_together(self, writes: Sequence[tuple[int, Buffer]]) -> Deferred[Sequence[DSTError | None] | None]:
        media = self._media
        if media is None or self.link is not LinkState.READY:
            return succeed([self.unavailable() for _ in writes])
        writing = self._crew.write(media.fd, writes, sum([len(data) for _offset, data in writes]))
        if writing is None:
            return succeed(None)
        return writing.addCallbacks(_errors_of, _failed_for_all, callbackArgs=(media, writes), errbackArgs=(writes,))

    def flush(self) -> Deferred[None]:
        media = self._media
        if media is None or self.link is not LinkState.READY:
            return fail(self.unavailable())
        return self._sync(media)

    def _sync(self, media: FileMedia) -> Deferred[None]:
        return self._crew.do(self._syncs, media.sync, always=True).addCallbacks(self._synced, self._not_synced)

    def _synced(self, _: None) -> None:
        media = self._media
        self._see_incarnation()  # whoever asked for the flush that failed may have stopped waiting for it
        if media is not None and media.size > self.geometry.size and self.link is LinkState.READY:
            self.changed(geometry=self.geometry.evolve(size=media.size))

    def _force(self, _: None, media: FileMedia, incarnation: bytes) -> Deferred[None]:
        """
        The flush that makes a forced change durable; also if the node is being closed, which waits for it.

        @param incarnation: the media's when the change was asked for.
        """
        return self._sync(media).addCallback(self._forced, media, incarnation)

    def _forced(self, _: None, media: FileMedia, incarnation: bytes) -> None:
        """
        Linux tells one flush that pages could not be written, and the next one that all is well.  So another's
        flush that failed since the change was asked for may have lost it.
        """
        if media.incarnation != incarnation:
            raise IncarnationChanged(f"another flush of {self.name} failed and may have lost what was being written")

    def trim(self, offset: int, length: int) -> Deferred[None]:
        return self.write_zeroes(offset, length)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        media = self._media
        refusal = self._refusal(offset, length, change=True)
        if media is None or refusal is not None:
            return fail(refusal or self.unavailable())
        incarnation = media.incarnation
        zeroing = self._crew.change(media.zero, offset, length, no_hole, fast_only, self._crew.goes_on)
        return zeroing.addCallback(self._force, media, incarnation) if fua else zeroing

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        media = self._media
        if media is None or self.link is not LinkState.READY:
            return fail(self.unavailable())
        try:
            self.geometry.check_extent(offset, length)
        except DSTError as error:
            return fail(error)
        return self._crew.do(self._reads, media.extents, (offset, length))

    def _not_synced(self, failure: Failure) -> Failure:
        """Say that something may be lost before anybody hears of the failure."""
        self._see_incarnation()
        return failure

    def _see_incarnation(self) -> None:
        """Have that of the media, which a flush that failed has changed."""
        media = self._media
        if media is not None and media.incarnation != self.incarnation:
            self.changed(incarnation=media.incarnation)


def _raise_error(numbers: list[int] | None, media: FileMedia, offset: int, length: int) -> None:
    """What the C{errno} of one write means."""
    if numbers is not None:
        error = media.error_of_write(numbers[0], offset, length)
        assert error is not None
        raise error


def _errors_of(
    numbers: list[int] | None, media: FileMedia, writes: Sequence[tuple[int, Buffer]]
) -> Sequence[DSTError | None] | None:
    """What those of many mean."""
    if numbers is None:
        return None
    together = zip(numbers, writes, strict=True)
    return [media.error_of_write(number, offset, len(data)) for number, (offset, data) in together]


def _failed_for_all(failure: Failure, writes: Sequence[tuple[int, Buffer]]) -> Sequence[DSTError | None]:
    """A batch that was refused or ran out of time."""
    failure.trap(DSTError)
    assert isinstance(failure.value, DSTError)
    return [failure.value for _ in writes]


@implementer(INodeProvider)
class FileNodeProvider:
    """
    C{file:/path?size=64M&read_only=true&deadline_s=30}: a file or a block device.

    C{size} creates a missing file, sparse; it never changes the size of one that holds anything.
    """

    scheme = "file"

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> FileNode:
        settings = Settings(name, uri, options)
        size = settings.take_size("size")
        read_only = settings.take_bool("read_only")
        deadline_s = settings.take_seconds("deadline_s", DEADLINE_S)
        settings.finish()
        if not settings.path:
            raise ConfigurationError(f"node {name!r}: {uri} names no file; expected file:path?size=64M")
        if size == 0:
            raise ConfigurationError(f"node {name!r}: {uri} has size=0; expected a size, as 64M")
        return FileNode(
            reactor,  # type: ignore[arg-type]  # a daemon's reactor has threads
            name,
            settings.path,
            size=size,
            read_only=read_only,
            deadline_s=deadline_s,
        )
