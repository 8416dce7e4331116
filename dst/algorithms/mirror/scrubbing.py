"""
Comparing all copies with each other, to find what no disk reports.

A chunk at a time: its extent is held, so that no client writes to it, every copy is asked for checksums, and where
they are the same nothing else is done. Else the copies are read, and the evidence decides, in this order:

  1. A copy that cannot be read is wrong, if another can.
  2. A copy that has it otherwise than most of at least three is wrong.
  3. Otherwise nobody can tell. Nothing is changed, a person is told where.

A scrub survives restarts: it goes on where it was. It gives way to resyncs, which restore redundancy, and keeps the
pace that clients leave to it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from attrs import Attribute, asdict, define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.resync_run import Rate
from dst.algorithms.mirror.sources import HELD_RETRY_S, PIECE_BYTES, checksums_of, start
from dst.checksums import block_checksums
from dst.errors import CorruptData, DSTError, InvalidRequest, MediaError, NotSupported
from dst.explaining import ScrubRecord
from dst.interfaces import Buffer
from dst.recovery.state_files import IStateFiles
from dst.recovery.write_order import Extent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from dst.algorithms.mirror.serving import Serving

__all__ = ["HISTORY_MAX", "Scrubber", "Scrubs"]

_log = Logger()

HISTORY_MAX = 16
"""Scrubs that are remembered: more than a year of monthly ones."""

UNDECIDED_TOLD_MAX = 32
"""Places that are named where nobody can tell; of more it is said how many bytes they are."""

KEEP_S = 30.0
"""How often it is written down how far a scrub is: a restart repeats no more than this."""

GIVE_WAY_S = 1.0
"""How often one that gives way looks again."""

TRIES_AT_ONCE = 5
"""A chunk is done again in a moment when something changed meanwhile; after so many times more slowly."""

_FILE = "scrub"


@define(eq=False)
class _Run:
    """A scrub that goes on; C{region} is the next one."""

    began: float
    repair: bool
    region: int = 0
    bytes_total: int = 0
    bytes_seen: int = 0
    unreadable_bytes: int = 0
    outvoted_bytes: int = 0
    repaired_bytes: int = 0
    undecided_bytes: int = 0
    lost_bytes: int = 0
    undecided: list[tuple[int, int, str]] = field(factory=list)
    waits_for: str = ""
    rate: Rate | None = None

    def take_back(self, before: _Run) -> None:
        """A chunk is done again: what was counted of it does not count, but for what was written."""
        for name in ("unreadable_bytes", "outvoted_bytes", "undecided_bytes", "lost_bytes", "undecided"):
            setattr(self, name, getattr(before, name))

    def record(self, state: str, ended: float | None) -> ScrubRecord:
        """As people see it."""
        return ScrubRecord(
            state,
            self.began,
            ended,
            self.repair,
            self.bytes_total,
            max(0, self.bytes_total - self.bytes_seen),
            self.rate.at(self.bytes_seen) if self.rate is not None and ended is None else 0.0,
            self.unreadable_bytes,
            self.outvoted_bytes,
            self.repaired_bytes,
            self.undecided_bytes,
            self.lost_bytes,
            tuple(self.undecided),
            self.waits_for if ended is None else "",
        )


def _is_kept(attribute: Attribute[object], _: object) -> bool:
    return attribute.name not in ("rate", "waits_for")


class _Mirror(Protocol):
    """What is asked of the mirror."""

    name: str
    clock: IReactorTime
    serving: Serving | None

    def tell_observers(self) -> None: ...


class Scrubs:
    """
    The scrubs of one mirror, over all the times that it serves.
    """

    def __init__(
        self, mirror: _Mirror, wall_clock_s: Callable[[], float], every_s: float, files: IStateFiles | None
    ) -> None:
        """
        @param every_s: how long after one has ended the next one begins by itself; 0: never.
        @param files: where it is kept how far it is; C{None}: nowhere.
        """
        self._mirror = mirror
        self._wall_clock_s = wall_clock_s
        self._every_s = every_s
        self._files = files
        self.run: _Run | None = None
        self._ended: deque[ScrubRecord] = deque(maxlen=HISTORY_MAX)
        self._since = 0.0
        self._scrubber: Scrubber | None = None
        self._timer: IDelayedCall | None = None

    async def load(self) -> None:
        """What was kept; what cannot be read is forgotten, and said."""
        if self._since:
            return
        self._since = self._wall_clock_s()
        if self._files is None:
            return
        try:
            kept = await self._files.load(_FILE)
            if kept is not None:
                self._take(json.loads(kept))
            else:
                self.keep()  # a restart must not put the first one off
        except (DSTError, ValueError, TypeError, KeyError, AssertionError) as error:
            _log.warn("{name}: how far the scrub was is not known: {error}", name=self._mirror.name, error=str(error))

    def _take(self, kept: dict[str, object]) -> None:
        since, running = kept["since"], kept["running"]
        assert isinstance(since, float)
        self._since = since
        if isinstance(running, dict) and self.run is None:
            places = [(int(at), int(length), str(how)) for at, length, how in running.pop("undecided")]
            self.run = _Run(**running, undecided=places)
        ended = kept["ended"]
        assert isinstance(ended, list)
        for each in ended[-HISTORY_MAX:]:
            places = [(int(at), int(length), str(how)) for at, length, how in each.pop("undecided")]
            self._ended.append(ScrubRecord(**each, undecided=tuple(places)))

    def keep(self) -> Deferred[None] | None:
        """Write down how far it is."""
        if self._files is None:
            return None
        value = {
            "since": self._since,
            "running": None if self.run is None else asdict(self.run, filter=_is_kept),
            "ended": [asdict(each) for each in self._ended],
        }
        done = self._files.store(_FILE, json.dumps(value).encode())
        return done.addErrback(
            lambda failure: _log.warn(
                "{name}: how far the scrub is could not be kept: {error}",
                name=self._mirror.name,
                error=failure.getErrorMessage(),
            )
        )

    # -- what a person can do

    def begin(self, repair: bool) -> None:
        """A new one, or on with the one that was stopped by a restart."""
        if self.run is not None:
            raise InvalidRequest(f"{self._mirror.name} is being scrubbed already; `dst storage scrubs` says how far")
        self.run = _Run(self._wall_clock_s(), repair)
        _log.info("{name}: a scrub begins", name=self._mirror.name)
        self.keep()
        self._wake()

    def stop(self) -> None:
        """Not further."""
        if self.run is None:
            raise InvalidRequest(f"{self._mirror.name} is not being scrubbed")
        self.end("stopped")

    def records(self) -> Sequence[ScrubRecord]:
        """The oldest first."""
        running = [] if self.run is None else [self.run.record("running", None)]
        return [*self._ended, *running]

    def end(self, state: str) -> None:
        """It is over."""
        run, self.run = self.run, None
        assert run is not None
        record = run.record(state, self._wall_clock_s())
        self._ended.append(record)
        say = _log.error if record.undecided_bytes or record.lost_bytes else _log.info
        say("{name}: the scrub is {state}: {found}", name=self._mirror.name, state=state, found=record.sentence)
        self.keep()
        self._mirror.tell_observers()
        self._wake()

    # -- while it is served

    def serve(self, serving: Serving) -> None:
        """The mirror serves from now on."""
        self._scrubber = Scrubber(self._mirror, self, serving)
        self._wake()

    def rest(self) -> None:
        """It does not any more."""
        scrubber, self._scrubber = self._scrubber, None
        self._cancel()
        if scrubber is not None:
            scrubber.stop()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._cancel()
        if self._scrubber is None:
            return
        if self.run is not None:
            self._scrubber.begin(self.run)
        elif self._every_s:
            last = max((each.ended or 0.0 for each in self._ended), default=self._since)
            left_s = max(0.0, last + self._every_s - self._wall_clock_s())
            # A clock that was set back must not put it off for ever.
            self._timer = self._mirror.clock.callLater(min(left_s, self._every_s), self._due)

    def _due(self) -> None:
        self._timer = None
        if self.run is None:
            self.begin(repair=True)


@frozen
class _Copy:
    """What one member has of an extent: C{sums} by piece; C{None} where it cannot read all of it."""

    member: Member
    sums: bytes | None


class _Again(Exception):
    """Somebody came, went or restarted meanwhile: what was learned is worth nothing."""


class Scrubber:
    """
    Of one serving mirror.
    """

    def __init__(self, mirror: _Mirror, scrubs: Scrubs, serving: Serving) -> None:
        self._mirror = mirror
        self._scrubs = scrubs
        self._serving = serving
        self._clock = mirror.clock
        self._working: Deferred[None] | None = None
        self._kept_at = 0.0
        self._stopped = False

    def begin(self, run: _Run) -> None:
        """Go on with C{run} until it ends."""
        if self._working is not None:
            return
        self._working = Deferred.fromCoroutine(self._work(run))
        self._working.addErrback(self._failed).addBoth(self._over)

    def stop(self) -> None:
        """Not here any more; the run itself is kept."""
        self._stopped = True
        if self._working is not None:
            self._working.cancel()

    def _goes_on(self, run: _Run) -> bool:
        return self._scrubs.run is run and not self._stopped

    def _failed(self, failure: object) -> None:
        check = failure.check  # type: ignore[attr-defined]
        if not check(CancelledError) and not self._serving.configuration.stopped:
            _log.failure("{name}: the scrub failed", failure, name=self._mirror.name)  # type: ignore[arg-type]

    def _over(self, _: object) -> None:
        self._working = None

    async def _work(self, run: _Run) -> None:
        configuration, label = self._serving.configuration, self._serving.label
        pacer = self._serving.copier.pacer
        run.rate = Rate(self._clock)
        self._kept_at = self._clock.seconds()
        while self._goes_on(run):
            run.bytes_total = configuration.record.data_size
            if run.region * label.region_size >= run.bytes_total:
                run.bytes_seen = run.bytes_total
                self._scrubs.end("done")
                return
            run.waits_for = self._obstacle()
            if run.waits_for:
                self._mirror.tell_observers()
                await deferLater(self._clock, GIVE_WAY_S)
                continue
            pacer.enter(self._serving.copier.redundancy)
            self._serving.data_path.load.wake()
            try:
                while self._goes_on(run) and not self._obstacle():
                    if run.region * label.region_size >= configuration.record.data_size:
                        break
                    await self._region(run, run.region)
                    if self._goes_on(run):
                        run.region += 1
                        self._told(run)
            finally:
                pacer.leave()

    def _obstacle(self) -> str:
        """Why nothing is compared now."""
        configuration = self._serving.configuration
        if configuration.frozen:
            return "it waits until the storage can be used"
        if configuration.leaving or configuration.stalled:
            return "it waits: a member is leaving"
        if self._serving.copier.resyncing:
            return "it gives way to a resync"
        if (configuration.in_sync & configuration.usable).bit_count() < min(2, len(self._serving.members)):
            return "it waits for a second copy"
        return ""

    def _told(self, run: _Run) -> None:
        now = self._clock.seconds()
        if now - self._kept_at >= KEEP_S:
            self._kept_at = now
            self._scrubs.keep()
            self._mirror.tell_observers()

    async def _region(self, run: _Run, region: int) -> None:
        if region in self._serving.hot.unreconciled:
            await self._serving.copier.reconcile(region)
        for first, end in self._serving.copier.chunks(region):
            tried = 0
            while self._goes_on(run):
                counted = evolve(run, undecided=list(run.undecided))
                try:
                    await self._chunk(run, first, end)
                    break
                except _Again:
                    run.take_back(counted)
                    tried += 1
                    soon = tried < TRIES_AT_ONCE and not self._obstacle()
                    await deferLater(self._clock, HELD_RETRY_S if soon else GIVE_WAY_S)
            if self._goes_on(run):
                run.bytes_seen += end - first

    async def _chunk(self, run: _Run, first: int, end: int) -> None:
        copier = self._serving.copier
        await copier.pacer.turn(end - first)
        extent = Extent(first, end, self._serving.data_path.shift)
        await copier.hold(extent)
        copier.pacer.begin()
        try:
            copies = await self._ask_all(first, end)
            if any(copy.sums is None or copy.sums != copies[0].sums for copy in copies):
                await self._judge_all(run, first, end, [copy.member for copy in copies])
        finally:
            copier.pacer.end(end - first)
            self._serving.order.leave(extent)

    async def _ask_all(self, first: int, end: int, *, read: bool = False) -> list[_Copy]:
        """
        What every copy has.

        @param read: as it is read, not as it is told.
        """
        configuration = self._serving.configuration
        asked, departures = self._able(), [member.departures for member in self._serving.members]
        if not asked:
            raise _Again
        answers = await DeferredList(
            [start(self._sums, member, first, end, read) for member in asked], consumeErrors=True
        )
        unchanged = departures == [member.departures for member in self._serving.members]
        if not unchanged or asked != self._able() or configuration.stopped:
            raise _Again
        copies = []
        for member, (good, answer) in zip(asked, answers, strict=True):
            if member.node.incarnation != member.incarnation:
                raise _Again
            if good:
                copies.append(_Copy(member, answer))
            elif answer.check(MediaError, CorruptData):  # type: ignore[attr-defined]
                copies.append(_Copy(member, None))
            else:
                raise _Again
        return copies

    def _able(self) -> list[Member]:
        configuration = self._serving.configuration
        able = configuration.in_sync & configuration.usable
        return [member for member in members_in(self._serving.members, able) if member.ready]

    async def _sums(self, member: Member, first: int, end: int, read: bool) -> bytes:
        if not read:
            try:
                return await member.unless_left(checksums_of(member.node, first, end - first))
            except NotSupported:
                pass
        return block_checksums(await member.unless_left(member.node.read(first, end - first)), PIECE_BYTES)

    async def _judge_all(self, run: _Run, first: int, end: int, members: Sequence[Member]) -> None:
        """Something in the extent is not the same: piece by piece, as it is read."""
        for at in range(first, end, PIECE_BYTES):
            until = min(at + PIECE_BYTES, end)
            copies = await self._ask_all(at, until, read=True)
            if [copy.member for copy in copies] != list(members):
                raise _Again
            if any(copy.sums is None or copy.sums != copies[0].sums for copy in copies):
                await self._judge(run, at, until, copies)

    async def _judge(self, run: _Run, first: int, end: int, copies: list[_Copy]) -> None:
        """What the evidence says of one piece."""
        length = end - first
        groups: dict[bytes, list[Member]] = {}
        unreadable = []
        for copy in copies:
            if copy.sums is None:
                unreadable.append(copy.member)
            else:
                groups.setdefault(copy.sums, []).append(copy.member)
        if not groups:
            run.lost_bytes += length
            _log.error("{name}: no copy of {first}+{n} can be read", name=self._mirror.name, first=first, n=length)
            return
        readable = sum(len(group) for group in groups.values())
        right = max(groups.values(), key=len)
        if len(groups) > 1 and 2 * len(right) <= readable:
            how = " against ".join(sorted(", ".join(each.name for each in group) for group in groups.values()))
            self._cannot_tell(run, first, length, how)
            return
        outvoted = [member for group in groups.values() if group is not right for member in group]
        run.unreadable_bytes += length * len(unreadable)
        run.outvoted_bytes += length * len(outvoted)
        for member in (*unreadable, *outvoted):
            _log.warn(
                "{name}: {member} {what} {first}+{n}",
                name=self._mirror.name,
                member=member.name,
                what="cannot read" if member in unreadable else "has otherwise than most",
                first=first,
                n=length,
            )
        if run.repair:
            data = await right[0].unless_left(right[0].node.read(first, length))
            if block_checksums(data, PIECE_BYTES) != next(sums for sums, group in groups.items() if group is right):
                raise _Again
            for member in (*unreadable, *outvoted):
                await self._mend(member, first, data)
                run.repaired_bytes += length

    async def _mend(self, member: Member, first: int, data: Buffer) -> None:
        """Its flag need not be up: it was wrong before, and if this is lost it is wrong again, and no worse."""
        try:
            await self._serving.copier.write(member, first, data)
        except DSTError as error:
            self._serving.configuration.fail(member, f"{len(data)} bytes at {first} could not be mended: {error}")
            raise _Again from error

    def _cannot_tell(self, run: _Run, first: int, length: int, how: str) -> None:
        run.undecided_bytes += length
        _log.error(
            "{name}: the copies of {first}+{n} differ, and none is more credible: {how}",
            name=self._mirror.name,
            first=first,
            n=length,
            how=how,
        )
        if run.undecided and run.undecided[-1][0] + run.undecided[-1][1] == first and run.undecided[-1][2] == how:
            run.undecided[-1] = (run.undecided[-1][0], run.undecided[-1][1] + length, how)
        elif len(run.undecided) < UNDECIDED_TOLD_MAX:
            run.undecided.append((first, length, how))
