"""
How things are: the status of one request, the link of a node, the state of a
member, the health of a storage, and the tree that carries them all upward.

Everything here is a value.  The numbers of L{Status} are part of the wire
format (C{docs/specifications/wire.rst}) and never change their meaning.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from attrs import field, frozen

__all__ = [
    "Health",
    "LinkState",
    "MemberState",
    "ResyncProgress",
    "Status",
    "StatusTree",
    "worst_health",
]


class Status(enum.IntEnum):
    """How one request ended.  Sent in every answer, so that a media error is never lost on the way up."""

    OK = 0
    INVALID = 1
    OUT_OF_BOUNDS = 2
    READ_ONLY = 3
    MEDIA_ERROR = 4
    NO_SPACE = 5
    UNSUPPORTED = 6
    UNAVAILABLE = 7
    INCARNATION_CHANGED = 8
    DEADLINE_PASSED = 9
    LIMIT_REACHED = 10
    CORRUPT = 11
    DENIED = 12
    NOT_FOUND = 13
    FENCED = 14
    BAD_MEDIA = 15
    PROTOCOL = 16
    INTERNAL = 17


class LinkState(enum.Enum):
    """
    Whether a node can be used now.

    C{INTERRUPTED} is a blip: the node was C{READY}, its transactions are kept
    and will be resent.  C{AWAY} is final for all of them: they have failed.
    """

    CONNECTING = "connecting"
    READY = "ready"
    INTERRUPTED = "interrupted"
    AWAY = "away"
    CLOSED = "closed"


class MemberState(enum.Enum):
    """What a member is to its storage."""

    IN_SYNC = "in-sync"
    RESYNCING = "resyncing"
    ABSENT = "absent"
    SUSPENDED = "suspended"
    REFUSED = "refused"


class Health(enum.Enum):
    """
    How a device is, for its users.

    C{HEALTHY}: everything that should be there is.  C{DEGRADED}: it works, with
    less redundancy than configured.  C{FROZEN}: operations wait, none is lost,
    and they go on by themselves when the reason ends.  C{FAILED}: operations
    end with an error.
    """

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FROZEN = "frozen"
    FAILED = "failed"


_SEVERITY = {Health.HEALTHY: 0, Health.DEGRADED: 1, Health.FROZEN: 2, Health.FAILED: 3}


def worst_health(*healths: Health) -> Health:
    """The worst of C{healths}; C{HEALTHY} when there are none."""
    return max(healths, key=_SEVERITY.__getitem__, default=Health.HEALTHY)


@frozen
class ResyncProgress:
    """
    How far the copying to one member is.

    @ivar kind: C{"full"}, C{"partial"} or C{"reconcile"}.
    @ivar cause: one sentence: why anything is copied at all.
    @ivar bytes_total: what had to be looked at when it began.
    @ivar bytes_left: what is left of that.
    @ivar bytes_copied: what was really sent (areas never written are skipped).
    @ivar bytes_per_s: over the last seconds; 0 while nothing moves.
    @ivar stalled: one sentence why nothing moves, or C{""}.
    """

    kind: str
    cause: str
    bytes_total: int
    bytes_left: int
    bytes_copied: int
    bytes_per_s: float = 0.0
    stalled: str = ""

    @property
    def seconds_left(self) -> float | None:
        """An honest estimate, or C{None} while there is no rate to base one on."""
        if self.bytes_left == 0:
            return 0.0
        return self.bytes_left / self.bytes_per_s if self.bytes_per_s > 0 else None


@frozen
class StatusTree:
    """
    The state of a device and of everything below it.

    @ivar name: its name in the topology of the daemon that runs it.
    @ivar kind: C{"file"}, C{"memory"}, C{"slice"}, C{"remote"}, C{"nbd"}, or the algorithm's name.
    @ivar health: how it is for its users, by the rules of the algorithm; of a node, C{HEALTHY}
        while it is ready, C{FAILED} otherwise.
    @ivar state: the word for its place in the storage above it (L{MemberState}), or of its
        L{LinkState} when it is in none.
    @ivar reason: one sentence, C{""} when there is nothing to explain.
    @ivar since: when C{state} and C{health} last changed, seconds of the epoch, by the daemon that says it.
    @ivar size: bytes; 0 while unknown.
    @ivar redundancy: how many members can still be lost without losing data.
    @ivar dirty_bytes: bytes that some member below has not the same as its storage.
    @ivar resync: what is being copied to this member.
    @ivar detail: further facts, words to plain values (JSON types), for people.
    @ivar children: members of a storage, the parent of a slice, the subtree behind a remote node.
    """

    name: str
    kind: str
    health: Health
    state: str
    reason: str = ""
    since: float = 0.0
    size: int = 0
    redundancy: int = 0
    dirty_bytes: int = 0
    resync: ResyncProgress | None = None
    detail: dict[str, object] = field(factory=dict)
    children: tuple[StatusTree, ...] = ()

    def walk(self) -> Iterator[StatusTree]:
        """This tree and every one below it, top down."""
        yield self
        for child in self.children:
            yield from child.walk()
