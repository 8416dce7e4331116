"""
How fast a resync may go: decided from what was seen, without clock, timer or device.

Two things are wanted that work against each other: redundancy back soon, and clients that do not notice.  While no
client asks for anything a resync takes all it can get.  While clients are active it takes a I{share} of what
the members can do: more by a constant step while the clients' latency stays what it is without a resync, half when
it does not (what networks do against congestion, and for the same reason: nobody knows beforehand
how much there is).  The share never leaves C{floor}..C{ceiling}, so that neither starves::

    capacity ------------------------------------  nobody asks
     ceiling - - - - - - - -/|- - - - - /|- - - -
                        /    |       /   |   /
                    /        |    /      |/
       floor - -/- - - - - - - - - - - - - - - - -

What the members can do is measured by the way: bytes per second of the time in which something was really being
copied.

The latency without a resync is known from before it, and learnt again at the floor: a workload that
has become heavier by itself is not the resync's fault, and at the floor nothing better can be done for it.

Several resyncs of one daemon share its processors and networks: those of the storages with the least redundancy
left go at full speed, a bounded number of them, and the others at their floor.
"""

from __future__ import annotations

from attrs import define, field, frozen

__all__ = ["FULL_SPEED_MAX", "Pace", "PaceLimits", "PaceWindow", "ResyncScheduler", "Seat"]

FULL_SPEED_MAX = 2
"""Resyncs of one daemon that go at full speed: one that waits for its disks leaves room for another, not for ten."""

CHUNK_BYTES_IDLE = 1024 * 1024
"""One copy step while no client asks for anything: four times as long costs a quarter less processor time."""

CHUNK_BYTES_MAX = 256 * 1024
"""The same while clients work. A client's write to the chunk waits for it, so it must not be long."""

CHUNK_BYTES_MIN = 64 * 1024
"""Smaller ones cost more in processor time than they save in waiting."""

CHUNK_S = 0.005
"""
What one copy step should take at most: a disk that is busy with it answers nobody else, and the first client after a
quiet time waits for it.
"""

CHUNKS_IDLE = 8
"""Chunks in flight while no client asks for anything: what keeps a fast link busy."""

CHUNKS_LOADED = 2
"""The same while clients work: one being read while the other is written."""

QUIET_WINDOWS = 2
"""After so many windows without a request the clients count as quiet."""

INCREASE = 0.05
DECREASE = 0.5
INFLATION = 2.0
INFLATION_S = 0.001
"""Latency has become too long when it is so many times what it was without the resync, and so much more."""

CAPACITY_DECAY = 0.98
"""What the members can do is the most that was seen, which is worth this much less with every window."""

LEARN_QUIET = 0.3
LEARN_FLOOR = 0.1
"""How much a new window counts in the latency without a resync: with none running, and with one at its floor."""


@frozen
class PaceLimits:
    """
    @ivar floor: the share of what the members can do that a resync always has, 0 to 1.
    @ivar ceiling: the share that it has at most while clients are active.
    """

    floor: float = 0.10
    ceiling: float = 0.60

    def __attrs_post_init__(self) -> None:
        assert 0 < self.floor <= self.ceiling <= 1, (self.floor, self.ceiling)


@frozen
class PaceWindow:
    """
    What was seen in one short time, half a second or so.

    @ivar copied_bytes: what was copied.
    @ivar busy_s: for how long something was being copied.
    @ivar client_operations: requests of clients that ended, about; 0 only if there were none.
    @ivar client_latency_s: their median; 0 while not known.
    """

    copied_bytes: int
    busy_s: float
    client_operations: int
    client_latency_s: float


class Pace:
    """
    How fast the resyncs of one storage may go now.

    @ivar share: of the capacity; 1 means that nothing is held back.
    @ivar capacity: bytes per second that can be copied; 0 while not known.
    @ivar latency_s: the clients' without a resync; 0 while not known.
    """

    def __init__(self, limits: PaceLimits) -> None:
        self._limits = limits
        self.capacity = 0.0
        self.latency_s = 0.0
        self.share = 1.0
        self._loaded_share = limits.floor
        self._quiet_windows = QUIET_WINDOWS

    def observe(self, seen: PaceWindow, *, full_speed: bool = True) -> None:
        """
        Take one window into account.

        @param full_speed: C{False} while other storages need it more.
        """
        if seen.busy_s > 0:
            self.capacity = max(self.capacity * CAPACITY_DECAY, seen.copied_bytes / seen.busy_s)
        if seen.client_operations:
            self._quiet_windows = 0
            self._loaded_share = self._next_share(seen)
        else:
            self._quiet_windows += 1
        self._learn(seen)
        if not full_speed:
            self.share = self._limits.floor
        elif self.loaded:
            self.share = self._loaded_share
        else:
            self.share = 1.0

    @property
    def loaded(self) -> bool:
        """Clients are active."""
        return self._quiet_windows < QUIET_WINDOWS

    def _next_share(self, seen: PaceWindow) -> float:
        floor, ceiling = self._limits.floor, self._limits.ceiling
        if not seen.busy_s or not seen.client_latency_s:
            return self._loaded_share
        if not self.latency_s:
            return floor  # where it will be learnt
        if seen.client_latency_s > INFLATION * self.latency_s + INFLATION_S:
            return max(floor, self._loaded_share * DECREASE)
        return min(ceiling, self._loaded_share + INCREASE)

    def _learn(self, seen: PaceWindow) -> None:
        latency = seen.client_latency_s
        if not latency:
            return
        if not self.latency_s:
            self.latency_s = latency
        elif not seen.busy_s:
            self.latency_s += LEARN_QUIET * (latency - self.latency_s)
        elif latency < self.latency_s:
            self.latency_s = latency
        elif self._loaded_share <= self._limits.floor:
            self.latency_s += LEARN_FLOOR * (latency - self.latency_s)

    @property
    def bytes_per_s(self) -> float:
        """What may be copied in a second; 0 means as much as possible."""
        return self.share * self.capacity if self.share < 1.0 else 0.0

    @property
    def chunks(self) -> int:
        """How many chunks may be in flight."""
        return CHUNKS_IDLE if self.share >= 1.0 else CHUNKS_LOADED

    @property
    def chunk_bytes(self) -> int:
        """How long a copy step is: a power of two."""
        wanted = CHUNK_S * self.capacity
        chunk, least = (CHUNK_BYTES_MAX, CHUNK_BYTES_MIN) if self.loaded else (CHUNK_BYTES_IDLE, CHUNK_BYTES_MAX)
        while wanted and chunk > least and chunk > wanted:
            chunk //= 2
        return chunk


@define(eq=False)
class Seat:
    """
    One storage that resyncs.

    @ivar redundancy: how many members it can still lose; kept up to date by the storage.
    """

    name: str
    order: int
    redundancy: int = 0


class ResyncScheduler:
    """Which of the resyncs of a daemon go at full speed; one for all its storages."""

    def __init__(self, full_speed_max: int = FULL_SPEED_MAX) -> None:
        assert full_speed_max >= 1
        self._full_speed_max = full_speed_max
        self._seats: list[Seat] = []
        self._entered = 0

    def enter(self, name: str, redundancy: int) -> Seat:
        """A storage begins to resync."""
        self._entered += 1
        seat = Seat(name, self._entered, redundancy)
        self._seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """It has ended."""
        if seat in self._seats:
            self._seats.remove(seat)

    def ahead_of(self, seat: Seat) -> list[Seat]:
        """Those that are in greater need: less redundancy, or as little and waiting for longer."""
        mine = (seat.redundancy, seat.order)
        return [other for other in self._seats if (other.redundancy, other.order) < mine]

    def full_speed(self, seat: Seat) -> bool:
        """Whether C{seat} is among the first."""
        return len(self.ahead_of(seat)) < self._full_speed_max


@define
class Worth:
    """
    Whether it pays to ask both sides for checksums before a chunk is copied.

    It does when what it costs is less than what it saves: the share that was the same so far, times what copying
    a chunk costs; and that counts L{SPARED} times, because a copy does not only take time: it takes the link, and
    wears the target's media.  While it does not pay it is tried now and then: the rest of a device need not be
    like its beginning.

    @ivar equal_share: how much of what was compared was the same.
    """

    equal_share: float
    compare_s: float = 0.0
    copy_s: float = 0.0
    _skipped: int = field(default=0)

    def pays(self) -> bool:
        """Decide for one chunk."""
        known = self.compare_s > 0 and self.copy_s > 0
        worth = (
            SPARED * self.equal_share * self.copy_s > self.compare_s
            if known
            else self.equal_share >= EQUAL_SHARE_LEAST
        )
        if worth or self._skipped >= COMPARE_EVERY:
            self._skipped = 0
            return True
        self._skipped += 1
        return False

    def compared(self, equal_share: float, seconds: float) -> None:
        """A chunk was compared."""
        self.equal_share += LEARN_QUIET * (equal_share - self.equal_share)
        self.compare_s = seconds if not self.compare_s else self.compare_s + LEARN_QUIET * (seconds - self.compare_s)

    def copied(self, share: float, seconds: float) -> None:
        """So much of a chunk was copied."""
        if share > 0:
            whole_s = seconds / share
            self.copy_s = whole_s if not self.copy_s else self.copy_s + LEARN_QUIET * (whole_s - self.copy_s)


EQUAL_SHARE_LEAST = 0.25
"""As long as nothing was measured: less than this being the same is not worth asking for."""

SPARED = 4.0
"""How much more a copy costs than its time."""

COMPARE_EVERY = 16
"""While it does not pay, one chunk in so many is compared all the same."""
