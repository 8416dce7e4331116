"""
Clients: they talk to the storage at whichever daemon serves it, and tell the history what they did and saw.

A client has a session with one daemon.  It ends when the daemon's process dies, when the storage tells that it
may have lost unflushed writes, or when the client has waited for too long and another daemon says that it
serves: then the answers that were still to come mean nothing any more.  One client in three is stubborn and
stays with its daemon, to catch one that answers though it should not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dst.errors import DSTError
from dst.simulation.history import History, Reading, Snapshot, fill
from dst.simulation.world import BrokenCode, SimulationFailed, WrongData
from dst.status import LinkState
from dst.testing.media import SECTOR_BYTES

if TYPE_CHECKING:
    from dst.interfaces import INode
    from dst.simulation.daemons import Daemon
    from dst.simulation.world import Process, World

__all__ = ["Client", "Load"]

PATIENCE_S = 6.0
"""After so long without an answer a client looks for another daemon that serves."""

UNANSWERED_MAX = 16
"""What one client asks for at a time."""


@frozen
class Load:
    """
    What clients do.

    @ivar operations_per_s: of all clients of a storage together.
    @ivar clients: how many there are for each storage.
    @ivar weights: how often each kind of operation comes.
    @ivar lengths: in sectors; one of them is chosen.
    @ivar hot_share: the share of changes that go to few places.
    @ivar sequential_share: the share that goes on where the last one ended.
    """

    operations_per_s: float = 2.0
    clients: int = 2
    weights: tuple[tuple[str, float], ...] = (
        ("write", 50),
        ("read", 30),
        ("flush", 12),
        ("force", 4),
        ("trim", 2),
        ("zero", 2),
    )
    lengths: tuple[int, ...] = (1, 8, 8, 8, 8, 64, 128)
    hot_share: float = 0.5
    sequential_share: float = 0.2


class Client:
    """
    One client of one storage.

    @ivar unanswered: operations of the present session that have not ended.
    @ivar waits_since: since when the oldest of them waits; C{None} when there is none.
    """

    def __init__(
        self, world: World, number: int, storage: str, daemons: Sequence[Daemon], history: History, load: Load
    ) -> None:
        self.world = world
        self.number = number
        self.storage = storage
        self.daemons = daemons
        self.history = history
        self.load = load
        self.random = world.generator(f"client {storage} {number}")
        self.stubborn = number % 3 == 1
        self.daemon: Daemon | None = None
        self.latencies: list[float] = []
        self._process: Process | None = None
        self._device: INode | None = None
        self._incarnation = b""
        self._session = 0
        self._unanswered: dict[int, tuple[float, Callable[[], None]]] = {}
        self._count = 0
        self._next_sector = 0

    @property
    def unanswered(self) -> int:
        """Operations that have not ended."""
        return len(self._unanswered)

    @property
    def waits_since(self) -> float | None:
        """Since when the oldest waits."""
        return next(iter(self._unanswered.values()))[0] if self._unanswered else None

    # -- sessions

    def look(self) -> INode | None:
        """
        The device of the session, a new one if there must be; C{None} while nobody serves.
        """
        daemon = self.daemon
        if daemon is not None and daemon.process is not self._process:
            self._leave("its daemon died")
        device = self._device
        if device is not None and device.incarnation != self._incarnation:
            self._leave("the storage may have lost what was not flushed")
        since = self.waits_since
        impatient = since is not None and self.world.now - since > PATIENCE_S
        gone = self._device is not None and (impatient or self._device.link is LinkState.AWAY)
        if gone and not self.stubborn and self._elsewhere():
            self._leave("another daemon serves")
        if self._device is None:
            self._join()
        return self._device

    def _elsewhere(self) -> bool:
        return any(other.ready(self.storage) for other in self.daemons if other is not self.daemon)

    def _join(self) -> None:
        ready = [daemon for daemon in self.daemons if daemon.ready(self.storage) is not None]
        if ready:
            self.daemon = daemon = self.random.choice(ready)
            self._process = daemon.process
            self._device = device = daemon.device(self.storage)
            assert device is not None
            self._incarnation = device.incarnation
            self.history.met(device.incarnation)
            self.world.note(f"client {self.number}", f"talks to {daemon.name} about {self.storage}")

    def _leave(self, why: str) -> None:
        self.world.note(f"client {self.number}", f"leaves {self.daemon.name if self.daemon else ''}: {why}")
        self._session += 1
        self.daemon = self._process = self._device = None
        given_up, self._unanswered = self._unanswered, {}
        for _, give_up in given_up.values():
            give_up()

    def leave(self) -> None:
        """It is over."""
        self._leave("it is over")

    # -- operations

    def step(self, place: float | None = None) -> bool:
        """
        Ask for something.

        @param place: where, as a share of the storage; C{None} for anywhere.
        @return: whether it did.
        """
        device = self.look()
        sectors = 0 if device is None else device.geometry.size // SECTOR_BYTES
        if device is None or not sectors or len(self._unanswered) >= UNANSWERED_MAX:
            self.history.count("nobody served" if device is None else "held back")
            return False
        kinds = self.load.weights
        kind = self.random.choices([each[0] for each in kinds], [each[1] for each in kinds])[0]
        if kind == "flush":
            self.flush()
            return True
        count = min(self.random.choice(self.load.lengths), sectors)
        if place is None:
            sector = self._place(sectors, count)
        else:
            count = min(count, 16)
            sector = min(int(place * sectors) + self.random.randrange(8), sectors - count)
        if kind == "read":
            self.read(sector, count)
        else:
            self.change(kind, sector, count)
        return True

    def _place(self, sectors: int, count: int) -> int:
        chance = self.random.random()
        if chance < self.load.sequential_share:
            sector = self._next_sector if self._next_sector + count <= sectors else 0
        elif chance < self.load.sequential_share + self.load.hot_share:
            sector = min(self.random.randrange(8) * (sectors // 8) // 8 * 8, sectors - count)
        else:
            sector = self.random.randrange(sectors - count + 1)
        self._next_sector = sector + count
        return sector

    def change(self, kind: str, sector: int, count: int) -> None:
        """A write, a forced one, a trim or zeroes."""
        forced = kind == "force"
        writing = self.history.write(sector, count, "write" if forced else kind, forced)
        device = self._device
        assert device is not None
        offset, length = sector * SECTOR_BYTES, count * SECTOR_BYTES
        if kind == "trim":
            ask = lambda: device.trim(offset, length)  # noqa: E731
        elif kind == "zero":
            ask = lambda: device.write_zeroes(offset, length)  # noqa: E731
        else:
            data = fill(writing.version, count)
            ask = lambda: device.write(offset, data, fua=forced)  # noqa: E731
        self._ask(
            f"{kind} {sector}+{count} as {writing.version}",
            ask,
            lambda _: self.history.written_well(writing),
            lambda: self.history.not_written(writing),
        )

    def read(self, sector: int, count: int) -> None:
        """A read."""
        device = self._device
        assert device is not None
        reading: Reading = self.history.read(sector, count)
        self._ask(
            f"read {sector}+{count}",
            lambda: device.read(sector * SECTOR_BYTES, count * SECTOR_BYTES),
            lambda data: self.history.was_read(reading, bytes(data)),
            lambda: self.history.not_read(reading),
        )

    def flush(self) -> None:
        """A flush."""
        device = self._device
        assert device is not None
        snapshot: Snapshot = self.history.flush()
        self._ask(
            "flush",
            device.flush,
            lambda _: self.history.flushed(snapshot),
            lambda: self.history.not_flushed(snapshot),
        )

    def _ask(
        self,
        words: str,
        ask: Callable[[], Deferred[Any]],
        good: Callable[[Any], None],
        not_known: Callable[[], None],
    ) -> None:
        """Let the daemon's process do it."""
        self._count += 1
        number, session, process, asked = self._count, self._session, self._process, self.world.now
        assert process is not None
        self._unanswered[number] = (asked, not_known)
        self.world.note(f"client {self.number}", words)

        def answered(result: Any) -> None:
            if session != self._session or not process.alive:
                return
            del self._unanswered[number]
            device = self._device
            self.latencies.append(self.world.now - asked)
            if isinstance(result, Failure):
                self.world.note(f"client {self.number}", f"{words}: failed, {result.getErrorMessage()}")
                not_known()
                self.history.count("failed")
                if not result.check(DSTError):
                    self.world.fail(BrokenCode(f"{words} failed with {type(result.value).__name__}: {result.value}"))
                return
            if device is None or device.incarnation != self._incarnation or self._told():
                not_known()  # the session would have been cut before this could be said
                return
            self.history.count("answered")
            self.world.note(f"client {self.number}", f"{words}: done")
            try:
                good(result)
            except SimulationFailed as error:
                self.world.fail(error)

        process.later(0.0, lambda: ask().addBoth(answered))

    def _told(self) -> bool:
        """Another client has been told of losses that this one has not heard of yet."""
        return self._incarnation != self.history.incarnations[-1]


def read_everything(client: Client, device: INode) -> None:
    """Ask for all of it, in pieces."""
    sectors = device.geometry.size // SECTOR_BYTES
    if not sectors:
        raise WrongData(f"{client.storage} has no size any more")
    for sector in range(0, sectors, 256):
        client.read(sector, min(256, sectors - sector))
