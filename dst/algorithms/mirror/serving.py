"""
The parts of a mirror that exist while it serves, put together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.copying import Copier
from dst.algorithms.mirror.data_path import DataPath
from dst.algorithms.mirror.ground import Started
from dst.algorithms.mirror.hot_set import HotSet, default_hot_regions
from dst.algorithms.mirror.load import Load
from dst.algorithms.mirror.member import Member
from dst.algorithms.mirror.pacing import Pacer
from dst.algorithms.mirror.returning import Returning
from dst.algorithms.mirror.watching import Watch
from dst.algorithms.mirror.witness import Witnesses
from dst.label.format import Label
from dst.label.zone import REGION_BYTES_MIN
from dst.recovery.pace import PaceLimits
from dst.recovery.write_order import ExtentOrder
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror

__all__ = ["MirrorOptions", "Serving"]


@frozen
class MirrorOptions:
    """
    What the topology can say of a mirror.

    @ivar region_size: bytes, a power of two; 0 is the default for the media. Fixed when the storage is made.
    @ivar hot_regions: how many regions may be hot at once; 0 is the default for their size.
    @ivar on_loss: C{"freeze"} or C{"error"}: what happens to operations while no copy can be reached.
    @ivar freeze_s: with C{"error"}: how long they wait first.
    @ivar start_wait_s: how long a start waits for further members that have the latest data.
    @ivar grace_s: how long a member may be interrupted before it leaves.
    @ivar votes: C{"owner"}: this daemon's own store is the only vote, and no other daemon can ever take over;
        C{"members"}: members and witnesses vote.
    @ivar quorum: C{"majority"}, C{"all"}, or how many votes are needed.
    @ivar minimum_copies: changes are acknowledged only while so many members are in sync.
    @ivar lease_s: for how long after its last renewal the storage stays this daemon's.
    @ivar standby: another daemon is to own it; this one does when that is gone.
    @ivar takeover_s: how long a standby waits when there is no owner any more.
    @ivar slow_s: a member that owes an answer for so long, which others have given, leaves; 0: never.
    @ivar flap_hold_s: how long a member is held back that left for the third time in ten minutes, doubling with each
        further one; 0: never.
    @ivar resync_floor: the share of what the members can do that a resync always has.
    @ivar resync_ceiling: the share that it has at most while clients are active.
    @ivar scrub_s: how long after a scrub the next one begins by itself; 0: never.
    """

    region_size: int = 0
    hot_regions: int = 0
    on_loss: str = "freeze"
    freeze_s: float = 30.0
    start_wait_s: float = 3.0
    grace_s: float = 8.0
    votes: str = "owner"
    quorum: str | int = "majority"
    minimum_copies: int = 1
    lease_s: float = 3.0
    standby: bool = False
    takeover_s: float = 2.0
    slow_s: float = 5.0
    flap_hold_s: float = 15.0
    resync_floor: float = 0.10
    resync_ceiling: float = 0.60
    scrub_s: float = 0.0

    def __attrs_post_init__(self) -> None:
        size = self.region_size
        assert size == 0 or (size >= REGION_BYTES_MIN and size & (size - 1) == 0), size
        assert self.hot_regions >= 0, self.hot_regions
        assert self.on_loss in ("freeze", "error"), self.on_loss


class Serving:
    """The parts that exist while a mirror serves."""

    def __init__(self, mirror: Mirror, started: Started) -> None:
        options = mirror.options
        clock, members = mirror.clock, mirror.members
        self.label: Label = started.label
        shift = self.label.region_size.bit_length() - 1
        self.order = ExtentOrder()
        self.configuration = Configuration(
            clock,
            members,
            mirror.store,
            self.label,
            self._committed,
            mirror.configuration_changed,
            mirror.ownership,
            mirror.witnesses,
            options.votes == "members",
            options.minimum_copies,
        )
        load = Load(clock, self._wake)
        self.data_path = DataPath(members, self.configuration, self.order, shift, self._reconcile, self._repair, load)
        self.hot = HotSet(
            clock,
            members,
            self.configuration,
            self.order,
            options.hot_regions or default_hot_regions(self.label.region_size),
            -(-self.label.record.data_size // self.label.region_size),
            self.data_path.enter,
            self.data_path.go,
        )
        self.data_path.hot = self.hot
        limits = PaceLimits(options.resync_floor, options.resync_ceiling)
        self.copier = Copier(
            clock,
            surroundings_of(clock).wall_clock_s,
            members,
            self.configuration,
            self.order,
            self.hot,
            self.data_path,
            Pacer(clock, mirror.name, limits, mirror.scheduler),
            mirror.pauses,
            mirror.ended_resyncs.append,
            mirror.tell_observers,
        )
        self.returning = Returning(
            clock,
            members,
            self.configuration,
            self.hot,
            self.copier,
            self.label,
            mirror.entropy,
            mirror.ownership,
            lambda: mirror.geometry,
            options.flap_hold_s,
        )
        self.watch = Watch(
            clock,
            members,
            self.configuration,
            self.data_path,
            self.copier,
            options.slow_s,
            options.minimum_copies,
            self.returning.too_slow,
        )
        self.witnesses = Witnesses(
            clock,
            mirror.witnesses,
            mirror.ownership,
            self.label,
            lambda: self.configuration.newest,
            self.configuration.votes_changed,
            mirror.entropy,
        )
        self.members = members
        for member in members:
            member.drained = lambda member=member: self.returning.consider(member)  # type: ignore[misc]
        self.hot.start(sorted(started.hot))
        if len(started.sources) > 1:
            self.hot.unreconciled = set(started.hot)

    def _wake(self) -> None:
        self.watch.wake()

    def _reconcile(self, region: int) -> None:
        self.copier.reconcile_soon(region)

    def _repair(self, member: Member, first: int, end: int) -> None:
        self.copier.repair(member, first, end)

    def _committed(self, gone: int) -> None:
        self.hot.forget(gone)
        configuration = self.configuration
        if configuration.in_sync & (configuration.in_sync - 1) == 0:
            # One copy is left: there is nothing it could differ from.
            alone, self.hot.unreconciled = self.hot.unreconciled, set()
            for region in alone:
                self.data_path.reconciled(region)
        self.data_path.gone(gone)
        self.hot.left()
        for member in self.members:
            self.returning.consider(member)
