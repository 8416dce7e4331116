"""
What a mirror knows of one member.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from dst.algorithms.mirror.flapping import Flaps
from dst.errors import Unavailable
from dst.geometry import Geometry, StatusExtent
from dst.interfaces import Buffer, IBlockDevice, INode, IWritesAndTells, MemberOptions, StopObserving
from dst.label.format import FoundLabel, Label, Record
from dst.label.lineage import Lineage, lineage
from dst.label.region_table import RegionTable
from dst.label.zone import Zone
from dst.recovery.label_store import LabelStore
from dst.recovery.table_store import TableStore
from dst.status import LinkState, MemberState, ResyncProgress, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

__all__ = ["Member", "members_in"]


_T = TypeVar("_T")


@implementer(IBlockDevice)
class CountedDevice:
    """
    A member's node for everything that is not a client's block: labels, tables, copies.

    What has been sent and not ended counts as C{outstanding}, so that a member
    does not return before its old queue is drained (R10).
    """

    def __init__(self, member: Member) -> None:
        self._member = member

    @property
    def geometry(self) -> Geometry:
        """See L{dst.interfaces.IBlockDevice}."""
        return self._member.node.geometry

    @property
    def incarnation(self) -> bytes:
        """See L{dst.interfaces.IBlockDevice}."""
        return self._member.node.incarnation

    def _counted(self, done: Deferred[_T], kind: str) -> Deferred[_T]:
        member = self._member
        member.outstanding += 1
        answer: Deferred[_T] = Deferred()
        member.asked[answer] = (member.tick, kind)

        def ended(result: Any) -> None:
            del member.asked[answer]
            # Whoever waits goes on first and may send more because of this answer: then it is not drained.
            answer.callback(result)
            member.outstanding -= 1
            if not member.outstanding:
                member.drained()

        done.addBoth(ended)
        return answer

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """See L{dst.interfaces.IBlockDevice}."""
        return self._member.node.read(offset, length)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice}."""
        return self._counted(self._member.node.write(offset, data, fua=fua), "write")

    def flush(self) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice}."""
        return self._counted(self._member.node.flush(), "flush")

    def trim(self, offset: int, length: int) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice}."""
        return self._counted(self._member.node.trim(offset, length), "trim")

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        """See L{dst.interfaces.IBlockDevice}."""
        node = self._member.node
        done = node.write_zeroes(offset, length, fua=fua, no_hole=no_hole, fast_only=fast_only)
        return self._counted(done, "write zeroes")

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        """See L{dst.interfaces.IBlockDevice}."""
        return self._member.node.block_status(offset, length)

    def status(self) -> StatusTree:
        """See L{dst.interfaces.IBlockDevice}."""
        return self._member.node.status()


class Member:
    """
    One member of one mirror.

    @ivar bit: its bit in every mask of members.
    @ivar write_and_tell: that of its node, if it has one.
    @ivar node_id: the identity on its media; C{b""} while it has none in this storage.
    @ivar granted: its node is promised to this owner, or cannot promise anything.
    @ivar state: what it is to the storage, for people; the masks of the configuration decide.
    @ivar reason: one sentence why it is not in sync; C{""} when it is.
    @ivar row: the table row that decided what its media is.
    @ivar labels: its label; C{None} until the media was read.
    @ivar tables: its region table; C{None} until it was read.
    @ivar dirty: 1 for every region it has not, while it is a resync target.
    @ivar copying: regions that a copy to it has marked: they get every write.
    @ivar outstanding: changes sent to its node that have not ended.
    @ivar resolved: a person has given up what it has beside the storage's history, up to this record.
    @ivar suspended: a person does not want it to be used; kept over a restart.
    @ivar going: it is being replaced or removed by this daemon: it is not taken back meanwhile. Nothing is kept of
        that: after a restart it is a member like any other, unless the record has another one at its place.
    @ivar removed: it is no member any more; it keeps its bit.
    @ivar reading: reads sent to its node that have not ended.
    @ivar reads: those of clients, by what fires with the answer: the tick in which each was sent, and its offset.
    @ivar asked: the same for what is counted in C{outstanding} and not a client's: the tick, and what it is.
    @ivar tick: of the watch that looks at how old these are.
    @ivar late_since: the tick since which it owes an answer to a read; it is asked no other meanwhile.
    @ivar departures: how often it has left, ever.
    @ivar flaps: how often it left lately.
    """

    def __init__(
        self, index: int, node: INode, options: MemberOptions, wall_clock_s: Callable[[], float] = time.time
    ) -> None:
        self.index = index
        self.bit = 1 << index
        self.take(node)
        self.options = options
        self.node_id = b""
        self.state = MemberState.ABSENT
        self.reason = "not seen yet"
        self._wall_clock_s = wall_clock_s
        self.since = wall_clock_s()
        self.found: FoundLabel | None = None
        self.labels: LabelStore | None = None
        self.tables: TableStore | None = None
        self.incarnation = b""
        self.dirty = bytearray()
        self.dirty_count = 0
        self.copying: set[int] = set()
        self.outstanding = 0
        self.reading = 0
        self.reads: dict[Deferred[Buffer], tuple[int, int]] = {}
        self.asked: dict[Deferred[Any], tuple[int, str]] = {}
        self.tick = 0
        self.late_since: int | None = None
        self.flaps = Flaps(0.0)
        self.departures = 0
        self.progress: ResyncProgress | None = None
        self.suspended = False
        self.going = False
        self.granted = False
        self.removed = False
        self.distrusted = False
        self.resolved: Record | None = None
        self.returning = False
        self.retry_delay_s = 0.0
        self.retry: IDelayedCall | None = None
        self.grace: IDelayedCall | None = None
        self.unobserve: StopObserving = _nothing
        self.history: list[str] = []
        self.row = ""
        self.device = CountedDevice(self)
        self.drained: Callable[[], None] = _nothing
        self._waits: dict[Deferred[Any], None] = {}

    def take(self, node: INode) -> None:
        """Its node is this one from now on."""
        self.node = node
        self.write_and_tell = node.write_and_tell if IWritesAndTells.providedBy(node) else None

    def unless_left(self, done: Deferred[_T]) -> Deferred[_T]:
        """
        As C{done}, but failing when the member leaves: nobody waits for what hangs on a member that is gone.
        """
        wait: Deferred[_T] = Deferred()
        self._waits[wait] = None

        def ended(result: Any) -> None:
            if wait in self._waits:
                del self._waits[wait]
                wait.callback(result)

        done.addBoth(ended)
        return wait

    def left(self) -> None:
        """It does not count any more."""
        self.departures += 1
        if self.tables is not None:
            self.tables.abandon()
        waits, self._waits = self._waits, {}
        for wait in waits:
            wait.errback(Unavailable(f"{self.name} has left"))

    @property
    def name(self) -> str:
        """Its node's name."""
        return self.node.name

    @property
    def ready(self) -> bool:
        """Its node can be used now."""
        return self.node.link is LinkState.READY

    @property
    def table(self) -> RegionTable:
        """What its region table says."""
        assert self.tables is not None, self.name
        return self.tables.table

    def become(self, state: MemberState, reason: str = "") -> None:
        """Take a state, with the reason people are shown."""
        if state is not self.state:
            self.state, self.since = state, self._wall_clock_s()
        self.reason = reason

    @property
    def given_up(self) -> bool:
        """Of what its media says a person knew when another history was chosen."""
        label = self.found.label if self.found is not None else None
        if label is None or self.resolved is None:
            return False
        return lineage(label.record, self.resolved) in (Lineage.SAME, Lineage.ANCESTOR)

    def zone_of(self, label: Label) -> Zone:
        """Where its zone is, by its own label."""
        return Zone.at_end_of(label.media_size, label.region_size)

    def wants(self, first: int, last: int) -> bool:
        """As a resync target, it is to receive a write that touches these regions."""
        dirty, copying = self.dirty, self.copying
        return any(not dirty[region] or region in copying for region in range(first, last + 1))

    def set_clean(self, region: int) -> None:
        """As a resync target: it has this region now."""
        if self.dirty[region]:
            self.dirty[region] = 0
            self.dirty_count -= 1


def members_in(members: Sequence[Member], mask: int) -> Iterator[Member]:
    """The members whose bit is set in C{mask}, ascending."""
    while mask:
        low = mask & -mask
        yield members[low.bit_length() - 1]
        mask ^= low


def _nothing() -> None:
    """Nothing is observed."""
