"""
Disks of simulated hosts, and what C{file:} and C{nbd:} mean there.

A L{Drive} belongs to a host and outlives processes, power and its own faults: the bytes are in
L{SimulatedMedia} with a cache that power loss takes away in part.  A L{DriveNode} is what a process makes of it
with a C{file:} URI; it behaves as C{dst.nodes.file.FileNode} does, also towards a disk that hangs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.errors import ConfigurationError, DeadlinePassed, DSTError, MediaError, NoSpace
from dst.interfaces import IExclusive, INode, INodeProvider
from dst.nodes.settings import Settings
from dst.status import LinkState
from dst.testing.disk import SimulatedDisk
from dst.testing.faulty import CHANGES, FaultyDevice, Operation, _Request
from dst.testing.media import SimulatedMedia

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from dst.simulation.world import Host, Process, World

__all__ = ["Drive", "DriveNode", "DriveProvider", "ExclusiveDriveNode", "ForeignDriveProvider"]

LATENCY_S = (0.00002, 0.0004)
"""What one operation takes: a solid-state disk."""

FLUSH_S = (0.0002, 0.003)

DEADLINE_S = 30.0


@define(eq=False)
class Drive:
    """
    A disk.

    @ivar path: its name on its host.
    @ivar slow: everything takes so many times as long.
    @ivar hangs: nothing comes back.
    @ivar full: no new space can be had.
    @ivar gone: it does not answer at all, as if it had been unplugged.
    @ivar failing: how many of the next operations fail, by kind.
    @ivar bad: extents that cannot be read until they are written again.
    """

    world: World
    host: Host
    path: str
    size: int
    media: SimulatedMedia
    slow: float = 1.0
    hangs: int = 0
    full: int = 0
    gone: int = 0
    failing: dict[str, int] = field(factory=dict)
    bad: list[tuple[int, int]] = field(factory=list)
    node: DriveNode | None = None

    @classmethod
    def on(cls, host: Host, path: str, size: int) -> Drive:
        """The drive of C{host} at C{path}; a new one is all zeroes."""
        found: Drive | None = host.drives.get(path)
        if found is None:
            seed = host.world.generator(f"media {host.name} {path}").getrandbits(32)
            found = host.drives[path] = cls(host.world, host, path, size, SimulatedMedia(size, seed=seed))
        return found

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.host.name}:{self.path.rpartition('/')[2]}"

    # -- faults

    def hang(self) -> None:
        """Nothing comes back from it."""
        self.hangs += 1
        if self.node is not None:
            self.node.drive_hangs()

    def go_on(self) -> None:
        """It answers again."""
        self.hangs -= 1
        if not self.hangs and self.node is not None:
            self.node.drive_goes_on()

    def unplug(self) -> None:
        """It cannot be reached."""
        self.gone += 1
        if self.node is not None and self.gone == 1:
            self.node.pull(LinkState.AWAY, f"{self.path} is not there")

    def plug_in(self) -> None:
        """It is back, with what it holds."""
        self.gone -= 1
        if not self.gone and self.node is not None:
            self.node.plug_in()

    def replace(self) -> None:
        """A new, empty one stands in its place."""
        seed = self.media.randomness.getrandbits(32)
        self.media = SimulatedMedia(self.size, seed=seed)
        self.bad.clear()
        if self.node is not None:
            disk = self.node.inner
            assert isinstance(disk, SimulatedDisk)
            disk.media = self.media

    def lose_power(self) -> None:
        """What it had not flushed is lost, in any part."""
        self.media.lose_unflushed("random")

    # -- what becomes of an operation

    def latency_s(self, operation: Operation) -> float:
        """How long it takes."""
        low, high = FLUSH_S if operation.kind == "flush" or operation.fua else LATENCY_S
        return self.media.randomness.uniform(low, high) * self.slow

    def error_for(self, operation: Operation) -> DSTError | None:
        """Why it fails, if it does."""
        kind = "write" if operation.kind in CHANGES else operation.kind
        left = self.failing.get(kind, 0)
        if left:
            self.failing[kind] = left - 1
            return MediaError(f"input/output error on {self.path}")
        start, end = operation.offset, operation.offset + operation.length
        if kind == "write":
            if self.full and any(hole for _, hole in self.media.holes(start, operation.length)):
                return NoSpace(f"no space left on the device of {self.path}")
            if self.bad:
                self.bad = [each for each in self.bad if not start <= each[0] or not each[0] + each[1] <= end]
        elif kind == "read" and any(start < at + count and at < end for at, count in self.bad):
            return MediaError(f"a sector of {self.path} cannot be read")
        return None


@implementer(INode)
class DriveNode(FaultyDevice):
    """A drive as a process uses it."""

    kind = "file"

    def __init__(self, reactor: IReactorTime, name: str, drive: Drive, process: Process, deadline_s: float) -> None:
        super().__init__(reactor, SimulatedDisk(reactor, name, drive.media))
        self.drive = drive
        self._process = process
        self._deadline_s = deadline_s
        self._hang_timer: IDelayedCall | None = None
        self._late: list[_Request] = []
        self.history.clear()
        process.disks[self] = None

    def open(self) -> Deferred[None]:
        """See L{INode.open}."""
        drive = self.drive
        drive.node = self
        disk = self.inner
        assert isinstance(disk, SimulatedDisk)
        disk.media = drive.media
        if drive.gone:
            self._plugged = False
        if drive.hangs:
            self.drive_hangs()
        return super().open()

    def close(self) -> Deferred[None]:
        """See L{INode.close}."""
        if self.drive.node is self:
            self.drive.node = None
        if self._hang_timer is not None:
            self._hang_timer.cancel()
            self._hang_timer = None
        self._late.clear()
        if self.drive.gone or self.drive.hangs:
            self.inner.link = LinkState.AWAY  # nothing can be flushed
        if self.link is LinkState.CLOSED:
            return succeed(None)
        return super().close()

    def died(self) -> None:
        """Its process was killed: what was given to the kernel may be done, or not."""
        chance = self._process.random
        for request in [*self._running, *self._held, *self._late]:
            if request.operation.kind in CHANGES and chance.random() < 0.5 and not self.drive.gone:
                request.run()
        self._running.clear()
        self._held.clear()
        self._late.clear()
        if self.drive.node is self:
            self.drive.node = None
        self.link = self.inner.link = LinkState.CLOSED
        self.inner.media = SimulatedMedia(0)  # type: ignore[attr-defined]

    # -- a disk that hangs

    def drive_hangs(self) -> None:
        """From now on nothing comes back."""
        self.hold()
        waiting = [request for request in self._running if request.timer is not None]
        for request in waiting:
            del self._running[request]
            request.stop_timer()
        self._held.extend(waiting)
        if self._hang_timer is None:
            self._hang_timer = self.clock.callLater(self._deadline_s, self._deadline)

    def _deadline(self) -> None:
        """It hangs for too long: everything in flight fails, and what was begun may still be done."""
        self._hang_timer = None
        reason = f"the disk of {self.drive.path} hangs: a system call has not returned in time"
        held, self._held = self._held, []
        self._late += [request for request in held if request.operation.kind in CHANGES]
        self._plugged = False
        if self.link is LinkState.READY:
            self.changed(LinkState.AWAY, reason)
        for request in held:
            request.end(Failure(DeadlinePassed(reason)))

    def drive_goes_on(self) -> None:
        """Everything comes back, the late ones first; then it is ready."""
        if self._hang_timer is not None:
            self._hang_timer.cancel()
            self._hang_timer = None
        late, self._late = self._late, []
        for request in late:
            if self._process.random.random() < 0.5:
                request.run()
        self.release()
        if not self._plugged and not self.drive.gone:
            self.plug_in()

    # -- how

    def _start(self, request: _Request) -> None:
        self._running[request] = None
        delay_s = self.drive.latency_s(request.operation)
        request.timer = self.clock.callLater(delay_s, self._run, request)

    def _run(self, request: _Request) -> None:
        operation = request.operation
        error = self.drive.error_for(operation)
        trace = self._process.world.trace
        if trace is not None:
            trace(
                f"{self._process.world.now:.6f} {self._process.name} {self.drive.name} {operation.kind} "
                f"{operation.offset}+{operation.length}{' fua' if operation.fua else ''}"
                f"{f' fails: {error}' if error else ''}"
            )
        if error is None:
            request.timer = None
            request.run().addBoth(self._ran, request)
            return
        request.timer = None
        if operation.kind == "flush" or (operation.fua and isinstance(error, MediaError)):
            # Linux forgets what it could not write.
            self.drive.media.lose_unflushed("random")
            disk = self.inner
            assert isinstance(disk, SimulatedDisk)
            disk.refresh()
            self._follow()
        self._ran(Failure(error), request)

    def _fail_all(self, error: DSTError) -> None:
        self._late.clear()
        super()._fail_all(error)


@implementer(INode, IExclusive)
class ExclusiveDriveNode(DriveNode):
    """One that nobody outside its process can change."""


SizeOf: TypeAlias = "Callable[[Host, str, int | None], int]"
"""Says how large the drive at a path of a host is, given what the topology says."""


@implementer(INodeProvider)
class ForeignDriveProvider:
    """C{nbd://...}: a drive stands in for what the foreign server has.  It cannot be fenced."""

    def __init__(self, real: INodeProvider, process: Process, size_of: SizeOf) -> None:
        """
        @param real: says what is wrong with a URI.
        """
        self.scheme = real.scheme
        self._real = real
        self._process = process
        self._size_of = size_of

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> INode:
        """See L{INodeProvider.node_from_uri}."""
        self._real.node_from_uri(reactor, name, uri, options)
        path, host = f"/{name}.nbd", self._process.host
        drive = Drive.on(host, path, self._size_of(host, path, None))
        return DriveNode(reactor, name, drive, self._process, DEADLINE_S)


@implementer(INodeProvider)
class DriveProvider:
    """
    C{file:/path?size=64M}: a drive of the host of whoever asks, as large as the simulation wants it.
    """

    scheme = "file"

    def __init__(self, process: Process, size_of: SizeOf) -> None:
        self._process = process
        self._size_of = size_of

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> INode:
        """See L{INodeProvider.node_from_uri}."""
        settings = Settings(name, uri, options)
        size = settings.take_size("size")
        settings.take_bool("read_only")
        deadline_s = settings.take_seconds("deadline_s", DEADLINE_S)
        settings.finish()
        if not settings.path or size == 0:
            raise ConfigurationError(f"node {name!r}: {uri} names no file; expected file:path?size=64M")
        host = self._process.host
        drive = Drive.on(host, settings.path, self._size_of(host, settings.path, size))
        return ExclusiveDriveNode(reactor, name, drive, self._process, deadline_s)
