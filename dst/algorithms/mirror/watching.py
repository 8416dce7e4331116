"""
Looking at a mirror at work, twice a second: who is too slow, and how fast a resync may go.

Ages are counted in ticks of this watch, not in seconds of the clock: a process that did not run for a while finds all
answers in its sockets, and nobody was slow.

A read that a member does not answer within L{LATE_READ_S} is asked of another one, and that member is asked for
nothing more but a I{probe}: what it owes, once. When it answers it may read again; when it does not within C{slow_s}
it leaves like anybody who owes an answer for so long.

While nothing happens nothing is looked at: the watch sleeps, and the next operation wakes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from dst.algorithms.mirror.configuration import Configuration
from dst.algorithms.mirror.copying import Copier
from dst.algorithms.mirror.data_path import DataPath
from dst.algorithms.mirror.load import LoadWindow, MemberTimes
from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.slowness import FLUSH_PATIENCE, Seen, Slowness
from dst.status import LinkState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["LATE_READ_S", "TICK_S", "Watch"]

_log = Logger()

TICK_S = 0.5
"""Short against C{slow_s}, and long enough for a window to hold some operations."""

LATE_READ_S = 1.0
"""After so long another member is asked: longer than a busy disk takes, shorter than people wait."""

PROBE_BYTES = 4096

TARGET_PATIENCE = 4.0
"""What is copied to a resync target may take so many times as long as what is written by clients."""

_SLEEP_TICKS = 10
"""After so many without anything to look at."""


class Watch:
    """
    Of one serving mirror.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Sequence[Member],
        configuration: Configuration,
        data_path: DataPath,
        copier: Copier,
        slow_s: float,
        minimum_copies: int,
        held_back: Callable[[Member], None],
    ) -> None:
        """
        @param slow_s: how long an answer may be owed; 0: nobody is ever too slow.
        @param held_back: told of a member before it leaves for being slow.
        """
        self._clock = clock
        self._members = members
        self._configuration = configuration
        self._data_path = data_path
        self._copier = copier
        self._slow_s = slow_s
        self._minimum_copies = max(1, minimum_copies)
        self._held_back = held_back
        self._slowness = Slowness(slow_s)
        self._load = data_path.load
        self._timer: IDelayedCall | None = None
        self._idle_ticks = 0
        self._stopped = False

    def wake(self) -> None:
        """There is something to look at."""
        self._idle_ticks = 0
        if self._timer is None and not self._stopped:
            self._timer = self._clock.callLater(TICK_S, self._ticked)

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _ticked(self) -> None:
        self._timer = None
        window = self._load.take()
        for member in self._members:
            member.tick = self._load.tick
        self._copier.pacer.observe(window, self._copier.rank)
        self._copier.refresh()
        if self._slow_s and not self._configuration.frozen:
            self._ask_others()
            self._judge(window)
        if self._stopped:
            return
        if window.operations or self._data_path.busy or self._copier.pacer.active or self._owed():
            self._idle_ticks = 0
        else:
            self._idle_ticks += 1
        if self._idle_ticks < _SLEEP_TICKS:
            self._timer = self._clock.callLater(TICK_S, self._ticked)
        else:
            self._load.sleep()

    def _owed(self) -> bool:
        return any(member.reads or member.asked or member.late_since is not None for member in self._members)

    # -- reads that are asked of another member

    def _ask_others(self) -> None:
        configuration, tick = self._configuration, self._load.tick
        for member in members_in(self._members, configuration.in_sync & configuration.usable):
            if not member.reads or member.late_since is not None or not member.ready:
                continue
            since, offset = next(iter(member.reads.values()))
            if (tick - since) * TICK_S < min(LATE_READ_S, self._slow_s / 2):
                continue
            others = members_in(self._members, configuration.in_sync & configuration.usable & ~member.bit)
            if any(other.ready and other.late_since is None for other in others):
                self._is_late(member, since, offset)

    def _is_late(self, member: Member, since: int, offset: int) -> None:
        _log.warn("{member} does not answer a read: others are asked", member=member.name)
        member.late_since = since
        self._data_path.choose_readers()
        length = max(PROBE_BYTES, member.node.geometry.block_size)
        probe = member.node.read(min(offset, max(0, member.node.geometry.size - length)), length)
        probe.addBoth(self._probed, member)
        self._data_path.ask_others(member)

    def _probed(self, _: object, member: Member) -> None:
        """It answers again, whatever it says: the next reads will show what that is worth."""
        member.late_since = None
        if not self._stopped:
            self._data_path.choose_readers()

    # -- members that are too slow

    def _judge(self, window: LoadWindow) -> None:
        configuration = self._configuration
        copies = configuration.in_sync & configuration.usable
        seen = [
            self._seen(member, window.members.get(member.index, MemberTimes()), bool(copies & member.bit))
            for member in members_in(self._members, copies | configuration.targets)
            if member.ready or (member.node.link is LinkState.INTERRUPTED and self._data_path.clients_wait)
        ]
        spare = copies.bit_count() - self._minimum_copies
        for slow in self._slowness.judge(seen, TICK_S, spare):
            member = self._members[slow.index]
            self._slowness.forget(slow.index)
            if member.ready:
                self._held_back(member)
                configuration.fail(member, slow.reason)
            else:  # a blip, but clients have waited for it for long enough
                configuration.fail(member, f"clients waited {self._slow_s:g} s for it: {member.node.reason}")

    def _seen(self, member: Member, times: MemberTimes, copy: bool) -> Seen:
        tick = self._load.tick
        # What is not there is not busy with anything: no reason to be patient.
        flush_patience = FLUSH_PATIENCE if member.ready else 1.0
        ages = [(0.0, "write"), self._data_path.oldest_owed(member, flush_patience)]
        if member.late_since is not None:
            ages.append((float(tick - member.late_since), "read"))
        for since, kind in member.asked.values():
            patience = flush_patience if kind == "flush" else 1.0
            if not copy:
                patience *= TARGET_PATIENCE  # it has much to do, and nobody but the resync waits for this
            ages.append(((tick - since) / patience, kind))
        ticks, what = max(ages)
        return Seen(member.index, times.read_s, times.write_s, ticks * TICK_S, what, copy)
