"""
What an operator sees and asks besides the status: values that L{dst.interfaces.IClusterAdmin} speaks of.

I{Wanted} is the configuration: what a person wrote down.  I{Actual} is the status and what is listed
here.  A plan is how the one becomes the other.
"""

from __future__ import annotations

import enum

from attrs import field, frozen

__all__ = [
    "Configuration",
    "DaemonMeasures",
    "Event",
    "ExportStatus",
    "HealthFinding",
    "ListenerStatus",
    "OperationState",
    "OperationStatus",
    "Plan",
    "PlanStep",
    "SessionStatus",
    "Severity",
    "Traffic",
]


class Severity(enum.Enum):
    """How soon a person should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@frozen
class Traffic:
    """
    What passed since the daemon began, as counters that only grow.

    @ivar errors: requests that were answered with an error.
    @ivar read_s: the sum of the time that the answered reads took, of those that were timed.
    @ivar reads_timed: how many were timed; C{read_s / reads_timed} is the mean latency.
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


@frozen
class DaemonMeasures:
    """
    How the process itself is.

    @ivar began: seconds of the epoch.
    @ivar late_s: by how much timers were late, all together, since it began.
    @ivar late_worst_s: by how much one was, lately.
    @ivar events: the number of the last event.
    @ivar certificates: until when each is good, seconds of the epoch, by what it is of.
    @ivar state_bytes_free: of the file system of the state directory; C{None} without one.
    """

    began: float
    late_s: float = 0.0
    late_worst_s: float = 0.0
    events: int = 0
    certificates: tuple[tuple[str, float], ...] = ()
    state_bytes_free: int | None = None


@frozen
class ExportStatus:
    """
    @ivar size: bytes; 0 while the device is not known.
    @ivar allow: its access list as the configuration has it; C{None}: this machine only.
    """

    name: str
    device: str
    read_only: bool
    size: int
    allow: tuple[dict[str, str], ...] | None = None
    sessions: int = 0
    traffic: Traffic = Traffic()


@frozen
class ListenerStatus:
    """
    @ivar protocol: C{"dst"}, C{"nbd"}, ..., or C{"admin"}.
    @ivar endpoint: as the configuration has it.
    @ivar address: where it really is, as C{127.0.0.1:10809} or a path.
    @ivar tls: C{"off"}, C{"optional"} or C{"required"}.
    """

    protocol: str
    endpoint: str
    address: str
    tls: str = "off"
    connections: int = 0


@frozen
class SessionStatus:
    """
    A client of an export.

    @ivar identity: what its certificate calls it; C{None} without one.
    @ivar since: seconds of the epoch.
    """

    id: str
    protocol: str
    export: str
    peer: str
    identity: str | None
    encrypted: bool
    read_only: bool
    since: float
    in_flight: int = 0
    traffic: Traffic = Traffic()


@frozen
class Event:
    """
    Something that happened.

    @ivar number: counts up by one, from the daemon's first event on; never reused while its state directory lives.
    @ivar time: seconds of the epoch.
    @ivar kind: C{"health"}, C{"state"}, C{"operation"}, C{"configuration"}, C{"ownership"}, C{"resync"},
        C{"session"}, C{"daemon"}.
    @ivar subject: the storage, C{storage/node}, export, ... it is about; C{""} for the daemon.
    @ivar code: a health code if it is about one.
    @ivar cleared: the health code is over.
    """

    number: int
    time: float
    kind: str
    severity: Severity
    subject: str
    sentence: str
    code: str | None = None
    cleared: bool = False


@frozen
class HealthFinding:
    """
    Something that is not as it should be, now.

    @ivar code: stable, as C{STORAGE_DEGRADED}; each has a page in the manual.
    @ivar subject: as in L{Event}.
    @ivar sentence: what, with its evidence.
    @ivar since: seconds of the epoch.
    """

    code: str
    severity: Severity
    subject: str
    sentence: str
    since: float


class OperationState(enum.Enum):
    """How an operation is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@frozen
class OperationStatus:
    """
    Something that was asked for and takes its time.

    @ivar kind: C{"initialise"}, C{"replace"}, C{"change"}, ...: the word of the interface.
    @ivar began: seconds of the epoch.
    @ivar sentence: what it does now, or why it failed.
    @ivar asked_by: who asked, in words.
    @ivar error_code: of a failed one, the code that a REST error would have.
    """

    id: str
    kind: str
    subject: str
    state: OperationState
    began: float
    ended: float | None = None
    sentence: str = ""
    bytes_total: int | None = None
    bytes_left: int | None = None
    asked_by: str = ""
    error_code: str | None = None


@frozen
class Configuration:
    """
    What is wanted.

    @ivar document: the tables of the topology file: C{daemon}, C{listeners}, C{nodes}, C{storages}, C{exports}, ...
    @ivar etag: changes whenever the document does.
    @ivar file: where it is kept; C{None}: nowhere, a restart does not have it.
    @ivar writable: why it cannot be changed here, or C{""} if it can.
    @ivar after_restart: what differs from what runs, one sentence each, until the daemon is restarted.
    """

    document: dict[str, object]
    etag: str
    file: str | None = None
    writable: str = ""
    after_restart: tuple[str, ...] = ()


@frozen
class PlanStep:
    """
    One thing that is going to be done.

    @ivar action: C{"add"}, C{"remove"}, C{"replace"} or C{"change"}.
    @ivar kind: C{"node"}, C{"storage"}, C{"member"}, C{"witness"}, C{"export"}, C{"listener"} or C{"daemon"}.
    @ivar sentence: what is done, for a person.
    @ivar destructive: data or redundancy is given up.
    @ivar after_restart: it takes effect at the next start only.
    @ivar bytes_to_copy: what has to be copied before redundancy is as before.
    @ivar seconds_exposed: for about how long redundancy is lower; C{None} if it is not, or nobody knows.
    """

    action: str
    kind: str
    subject: str
    sentence: str
    destructive: bool = False
    after_restart: bool = False
    bytes_to_copy: int = 0
    seconds_exposed: float | None = None


@frozen
class Plan:
    """
    @ivar etag: of the configuration it was made for.
    """

    etag: str
    steps: tuple[PlanStep, ...] = field(default=())

    @property
    def destructive(self) -> bool:
        """Whether a person should be asked first."""
        return any(step.destructive for step in self.steps)
