"""
The objects that answers are: what is in them, beside the values of the cluster.

C{version} is that of the interface, C{time} the daemon's clock in seconds of the epoch: who works out how long ago
something was does so without trusting a clock of their own.
"""

from __future__ import annotations

from attrs import frozen

from dst.administration import (
    Event,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationStatus,
    PlanStep,
    SessionStatus,
    Severity,
)
from dst.explaining import Explanation, ResyncRecord, ScrubRecord
from dst.status import Health, StatusTree

__all__ = [
    "AllOperations",
    "ConfigurationNow",
    "Done",
    "ErrorAnswer",
    "ErrorTold",
    "Events",
    "Explanations",
    "Exports",
    "Findings",
    "Gap",
    "Listeners",
    "Live",
    "Members",
    "Nodes",
    "OneExport",
    "OneMember",
    "OneNode",
    "OneOperation",
    "OneStorage",
    "OneTable",
    "Planned",
    "Resyncs",
    "Sessions",
    "StatusNow",
    "Storages",
    "Versions",
]

# -- everything that stands at the top of an answer -----------------------------


@frozen
class StatusNow:
    """
    Everything there is to see.

    @ivar health: the worst of all.
    @ivar storages: those of the topology, sorted by name.
    @ivar nodes: the nodes that are in no storage, sorted by name.
    """

    version: int
    time: float
    health: Health
    storages: tuple[StatusTree, ...]
    nodes: tuple[StatusTree, ...]


@frozen
class Explanations:
    """Why things are as they are."""

    version: int
    time: float
    explanations: tuple[Explanation, ...]


@frozen
class Storages:
    """Every storage of this daemon, sorted by name."""

    version: int
    time: float
    storages: tuple[StatusTree, ...]


@frozen
class OneStorage:
    """One storage."""

    version: int
    time: float
    storage: StatusTree


@frozen
class Members:
    """What a storage is made of, in the order of the configuration."""

    version: int
    time: float
    members: tuple[StatusTree, ...]


@frozen
class OneMember:
    """One member of a storage."""

    version: int
    time: float
    member: StatusTree


@frozen
class Nodes:
    """Every node of this daemon, in a storage or not, sorted by name."""

    version: int
    time: float
    nodes: tuple[StatusTree, ...]


@frozen
class OneNode:
    """
    One node.

    @ivar storages: what it is a member of, sorted.
    """

    version: int
    time: float
    node: StatusTree
    storages: tuple[str, ...]


@frozen
class Resyncs:
    """The last resyncs of a storage that have ended since the daemon was started, the oldest first."""

    version: int
    time: float
    resyncs: tuple[ResyncRecord, ...]


@frozen
class Scrubs:
    """The scrub of a storage that goes on, and the last ones that have ended, the oldest first."""

    version: int
    time: float
    scrubs: tuple[ScrubRecord, ...]


@frozen
class Exports:
    """What is served, sorted by name."""

    version: int
    time: float
    exports: tuple[ExportStatus, ...]


@frozen
class OneExport:
    """One export."""

    version: int
    time: float
    export: ExportStatus


@frozen
class Listeners:
    """Where clients and operators connect."""

    version: int
    time: float
    listeners: tuple[ListenerStatus, ...]


@frozen
class Sessions:
    """The clients that have an export open, the oldest first."""

    version: int
    time: float
    sessions: tuple[SessionStatus, ...]


@frozen
class AllOperations:
    """What was asked for lately, the newest first."""

    version: int
    time: float
    operations: tuple[OperationStatus, ...]


@frozen
class OneOperation:
    """One thing that was asked for."""

    version: int
    time: float
    operation: OperationStatus


@frozen
class Events:
    """
    What happened, in order.

    @ivar gap: there were events between the one asked from and the first of these, and they are not kept any more.
    @ivar more: there are later ones: ask again from the last of these.
    """

    version: int
    time: float
    events: tuple[Event, ...]
    gap: bool
    more: bool


@frozen
class Findings:
    """
    What is not as it should be, the worst first.

    @ivar worst: of all findings; C{null} when there is none.
    """

    version: int
    time: float
    worst: Severity | None
    findings: tuple[HealthFinding, ...]


@frozen
class ConfigurationNow:
    """
    What is wanted.

    @ivar etag: the same as in the header C{ETag}, without the quotes.
    @ivar file: where it is kept; C{null}: nowhere, a restart does not have it.
    @ivar writable: why it cannot be changed here, or C{""} if it can.
    @ivar after_restart: what differs from what runs until the daemon is restarted, one sentence each.
    @ivar document: the tables of the topology file.
    """

    version: int
    etag: str
    file: str | None
    writable: str
    after_restart: tuple[str, ...]
    document: dict[str, object]


@frozen
class OneTable:
    """
    What is wanted of one node, storage or export.

    @ivar etag: of the whole configuration.
    """

    version: int
    etag: str
    table: dict[str, object]


@frozen
class Planned:
    """
    What would be done.

    @ivar etag: of the configuration it was made for.
    @ivar destructive: one of the steps is, so a person should be asked first.
    """

    version: int
    etag: str
    destructive: bool
    steps: tuple[PlanStep, ...]


@frozen
class Done:
    """
    It was done.

    @ivar done: the word of the address.
    """

    version: int
    done: str


@frozen
class Live:
    """
    Whether this daemon serves.

    @ivar ok: everything it has can be used, maybe with less redundancy than wanted.
    """

    version: int
    ok: bool


@frozen
class Versions:
    """
    What this daemon is, and what it speaks.

    @ivar version: of this interface.
    @ivar release: of the program.
    @ivar wire: versions of the protocol between daemons, the lowest and the highest.
    @ivar wire_features: names of what may be agreed on at the beginning of a connection.
    @ivar label: version of what is kept on the media of members.
    @ivar uptime_s: seconds since it was started.
    """

    version: int
    release: str
    wire: tuple[int, ...]
    wire_features: tuple[str, ...]
    label: int
    uptime_s: float


# -- errors, and what else is told in events ------------------------------------


@frozen
class ErrorTold:
    """
    What went wrong.

    @ivar code: never changes its meaning.
    @ivar cause: one sentence.
    @ivar correction: what can be done about it.
    """

    code: str
    cause: str
    correction: str


@frozen
class ErrorAnswer:
    """Every answer that is an error."""

    version: int
    error: ErrorTold


@frozen
class Gap:
    """
    Events were dropped: those after C{after} and before C{next}, or some of them.
    """

    version: int
    after: int
    next: int
