"""
What passes between clients and devices, counted.

The data path adds to plain integers of the session, nothing else; they are added up when somebody asks.  One request
in L{TIMED_EVERY} of each kind is timed, from when it is begun until the device has answered: that is the latency of
the storage, without the network and without the client's own queue.  Of reads that are answered in one call each took
the mean; writes that went to the device together have ended together.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import define, field, fields
from twisted.internet.defer import Deferred

from dst.administration import SessionStatus, Traffic
from dst.identity import Identity

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IReactorTime

__all__ = [
    "EXPORTS_MAX",
    "TIMED_EVERY",
    "TIMED_MASK",
    "Counters",
    "Totals",
    "session_status",
    "timed_among",
    "words_for",
]

TIMED_EVERY: Final = 64
"""A power of two.  At 4 KiB a clock that is read twice for every request would cost a tenth of it."""

TIMED_MASK: Final = TIMED_EVERY - 1

EXPORTS_MAX: Final = 4096
"""Names whose ended sessions are remembered: clients cannot make them up, but an operator may, one after another."""

_T = TypeVar("_T")


@define
class Counters:
    """
    What one session asked for, in the words of L{Traffic}.  A request counts when it is begun; one that fails counts
    as an error besides.
    """

    reads: int = 0
    writes: int = 0
    flushes: int = 0
    discards: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    errors: int = 0
    read_s: float = 0.0
    reads_timed: int = 0
    write_s: float = 0.0
    writes_timed: int = 0

    def traffic(self) -> Traffic:
        """As they are now."""
        return Traffic(*(getattr(self, name) for name in _NAMES))

    def add(self, other: Counters) -> None:
        """Count what C{other} has counted, too."""
        for name in _NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def time_read(self, clock: IReactorTime, began: float, reading: Deferred[_T]) -> None:
        """Count how long it takes; it need not have ended."""
        reading.addCallback(partial(_ended, self._read_took, clock, began))

    def time_reads(self, seconds: float, count: int) -> None:
        """C{count} reads took so long together, one after the other."""
        self._read_took(max(0.0, seconds) / count)

    def time_write(self, clock: IReactorTime, began: float, writing: Deferred[_T]) -> None:
        """Count how long it takes; it need not have ended."""
        writing.addCallback(partial(_ended, self._write_took, clock, began))

    def _read_took(self, seconds: float) -> None:
        self.read_s += seconds
        self.reads_timed += 1

    def _write_took(self, seconds: float) -> None:
        self.write_s += seconds
        self.writes_timed += 1


_NAMES: Final = tuple(each.name for each in fields(Counters))


def _ended(took: Any, clock: IReactorTime, began: float, result: _T) -> _T:
    took(max(0.0, clock.seconds() - began))  # a clock that is set back tells nothing
    return result


def timed_among(counted: int, count: int) -> bool:
    """Whether one of the next C{count} requests is to be timed, after C{counted} of its kind."""
    return (counted + count + TIMED_EVERY - 2) // TIMED_EVERY > (counted + TIMED_EVERY - 2) // TIMED_EVERY


@define
class Totals:
    """What sessions that have ended had counted, by export."""

    _ended: dict[str, Counters] = field(factory=dict)

    def ended(self, export: str, counters: Counters) -> None:
        """A session is no more."""
        kept = self._ended.get(export)
        if kept is None:
            if len(self._ended) >= EXPORTS_MAX:
                return
            kept = self._ended[export] = Counters()
        kept.add(counters)

    def traffic(self, live: Iterable[tuple[str, Counters]]) -> dict[str, Traffic]:
        """With what the sessions that there are have counted until now."""
        sums: dict[str, Counters] = {}
        for export, counters in (*self._ended.items(), *live):
            sums.setdefault(export, Counters()).add(counters)
        return {export: counters.traffic() for export, counters in sums.items()}


def session_status(
    id: str,
    protocol: str,
    export: str,
    peer: str,
    identity: object | None,
    counters: Counters,
    *,
    read_only: bool,
    since: float,
    in_flight: int,
) -> SessionStatus:
    """
    A session, as operators see it.

    @param identity: who the client is, if that is known.
    """
    known = identity if isinstance(identity, Identity) else Identity()
    return SessionStatus(
        id=id,
        protocol=protocol,
        export=export,
        peer=peer,
        identity=known.name,
        encrypted=known.encrypted,
        read_only=read_only,
        since=since,
        in_flight=in_flight,
        traffic=counters.traffic(),
    )


def words_for(addr: IAddress | None) -> str:
    """A client's address as a person writes it."""
    host, port = getattr(addr, "host", None), getattr(addr, "port", None)
    if host is None:
        return "a local client"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
