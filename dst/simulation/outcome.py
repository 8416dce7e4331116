"""
What becomes of one life, as values.
"""

from __future__ import annotations

from attrs import define, field, frozen

from dst.simulation.faults import Fault
from dst.simulation.world import SimulationFailed

__all__ = ["Moment", "Outage", "Outcome", "Resync"]


@frozen
class Moment:
    """A line of the timeline."""

    at_s: float
    text: str


@frozen
class Outage:
    """A time in which a storage did not serve."""

    storage: str
    at_s: float
    lasts_s: float


@frozen
class Resync:
    """A copying that has ended."""

    member: str
    kind: str
    at_s: float
    lasts_s: float
    bytes_copied: int


@define
class Outcome:
    """
    What became of one life.

    @ivar failure: what went wrong; C{None} when every promise was kept.
    @ivar simulated_s: by the calendar.
    @ivar skipped_s: how much of that was skipped.
    @ivar served_s: for how long clients were there, by the calendar: availability is a share of this.
    @ivar storages: how many they used.
    @ivar missed_bytes: in regions that members had missed when a partial resync of them began.
    @ivar recopied_bytes: in regions that these resyncs looked at.
    @ivar heal_s: from the end of the last fault until all was well.
    """

    seed: int
    faults: list[Fault]
    failure: SimulationFailed | None = None
    simulated_s: float = 0.0
    skipped_s: float = 0.0
    served_s: float = 0.0
    storages: int = 1
    heal_s: float = 0.0
    events: int = 0
    counts: dict[str, int] = field(factory=dict)
    refused: dict[str, int] = field(factory=dict)
    operations: dict[str, int] = field(factory=dict)
    told_losses: int = 0
    regions_compared: int = 0
    outages: list[Outage] = field(factory=list)
    resyncs: list[Resync] = field(factory=list)
    slowest_s: float = 0.0
    missed_bytes: int = 0
    recopied_bytes: int = 0
    timeline: list[Moment] = field(factory=list)
