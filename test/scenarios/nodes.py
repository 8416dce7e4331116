"""
Nodes that serve several owners: processes, what connects them, and a fence before each disk.

There is no wire here: a request is an object that arrives, is executed, and is answered. Everything that may happen
to it on a wire happens: it is late, never arrives, is executed when whoever asked is long gone, its answer is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.algorithms.joined import JoinedOptions
from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.algorithms.stripe import Stripe
from dst.errors import DSTError, Fenced, IncarnationChanged, Unavailable
from dst.geometry import StatusExtent, align_up
from dst.interfaces import Buffer, IFenced, INode, IWritesAndTells, TellOfWrite, Write
from dst.label.format import Label, decode_slot, encode_slot
from dst.label.zone import LABELS_BYTES, PAGE_BYTES
from dst.observing import ObservableNode
from dst.ownership import Claim, Promise
from dst.recovery.fence import Fence
from dst.recovery.held_claim import HeldClaim
from dst.recovery.state_files import MemoryFiles
from dst.status import LinkState
from dst.testing.disk import SimulatedDisk
from dst.testing.faulty import CHANGES, FaultyDevice
from dst.testing.media import SimulatedMedia

if TYPE_CHECKING:
    from test.scenarios.cluster import Cluster

__all__ = ["Link", "Path", "Process", "Server", "StateDirectory"]

_UNIT = 64 * 1024
"""Of a stripe below a member."""

CONNECT_S = 0.2
"""How often a link that is broken is tried again."""

SILENCE_S = 1.0
"""After so long without an answer, where there should be one, a connection is given up."""

STRAGGLE_S_MAX = 8.0
"""How much later than the end of its connection a request may be executed."""


@implementer(IReactorTime)
class ProcessClock:
    """The clock of one process: as C{twisted.internet.task.Clock}, for many processes with few calls each."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._calls: list[tuple[float, int, DelayedCall]] = []
        self._count = 0

    def seconds(self) -> float:
        """The time."""
        return self.now

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> DelayedCall:
        """See L{IReactorTime.callLater}."""
        call = DelayedCall(self.now + delay, callable, args, kw, _cancelled, self._put, self.seconds)
        self._put(call)
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        """See L{IReactorTime.getDelayedCalls}."""
        return [call for _, _, call in self._calls if call.active()]

    def _put(self, call: DelayedCall) -> None:
        self._count += 1
        heappush(self._calls, (call.time, self._count, call))

    def next_s(self) -> float:
        """When the next call is due."""
        calls = self._calls
        while calls:
            time, _, call = calls[0]
            if call.called or call.cancelled or call.time != time:
                heappop(calls)  # it was reset to an earlier time, or is no more
            elif call.delayed_time:
                heappop(calls)
                call.activate_delay()
                self._put(call)
            else:
                return time
        return float("inf")

    def run(self) -> None:
        """Everything that is due."""
        while self.next_s() <= self.now:
            call = heappop(self._calls)[2]
            call.called = 1
            call.func(*call.args, **call.kw)


def _cancelled(call: DelayedCall) -> None:
    """It is found out when its turn comes."""


class Process:
    """
    @ivar clock: its reactor's; does not run while it is suspended, and never again when it is dead.
    """

    def __init__(self, now: float) -> None:
        self.clock = ProcessClock(now)
        self.alive = True
        self.suspended = False

    @property
    def running(self) -> bool:
        """It does anything."""
        return self.alive and not self.suspended

    def next_s(self) -> float:
        """When it does something by itself."""
        return self.clock.next_s() if self.alive and not self.suspended else float("inf")


class Path:
    """
    The network between one owner's machine and one node's.

    @ivar out: what the owner sends arrives.
    @ivar back: what the node sends arrives.
    """

    def __init__(self) -> None:
        self.out = self.back = True
        self.delay_s = 0.0005

    @property
    def good(self) -> bool:
        """Both ways."""
        return self.out and self.back


@define(eq=False)
class Request:
    """One thing that is asked of a node."""

    kind: str
    run: Callable[[INode], Deferred[Any]]
    epoch: bytes
    answer: Deferred[Any]
    claim: Claim | None = None


class Session:
    """A connection as the node has it."""

    def __init__(self, server: Server, link: Link) -> None:
        self.server = server
        self.link = link
        self.incarnation = server.device.incarnation
        self.changes = 0
        self.closed = False
        self.stalled: list[Request] = []
        self.stalled_answers: list[tuple[Request, object]] = []
        self.entrance = server.fence.enter(lambda: self.changes, lambda: None)
        self._arrives_at = 0.0
        self._idle: list[Callable[[], None]] = []

    # -- on the way there

    def send(self, request: Request) -> None:
        """From the owner's side."""
        clock, path = self.server.process.clock, self.link.path
        self._arrives_at = max(self._arrives_at, clock.seconds() + path.delay_s)
        clock.callLater(self._arrives_at - clock.seconds(), self._arrived, request)

    def _arrived(self, request: Request) -> None:
        if self.closed or not self.server.process.alive:
            return
        if self.link.session is self and not self.link.path.out:
            self.stalled.append(request)
        else:
            self._execute(request)

    def mended(self) -> None:
        """The path is good again: what was sent meanwhile arrives, both ways."""
        if self.link.path.out:
            stalled, self.stalled = self.stalled, []
            for request in stalled:
                self._execute(request)
        if self.link.path.back:
            answers, self.stalled_answers = self.stalled_answers, []
            for request, result in answers:
                self._answered(request, result)

    def broken(self) -> None:
        """The owner's side is gone. A part of what it has sent may still be done, at any time."""
        chance = self.server.cluster.random
        count = len(self.stalled) if chance.random() < 0.5 else chance.randrange(len(self.stalled) + 1)
        straggling, self.stalled = self.stalled[:count], []
        late_s = chance.random() * STRAGGLE_S_MAX
        for request in straggling:
            self.server.process.clock.callLater(late_s, self._arrived, request)
        self.server.process.clock.callLater(late_s + 0.01, self.close)

    # -- there

    def _execute(self, request: Request) -> None:
        kind, entrance = request.kind, self.entrance
        try:
            if kind == "claim":
                assert request.claim is not None
                done = request.run(self)  # type: ignore[arg-type]
            elif kind == "fence":
                done = request.run(self)  # type: ignore[arg-type]
            else:
                change = kind in CHANGES
                if entrance.passes != request.epoch:
                    refusal = entrance.refusal(request.epoch, change)
                    if refusal is not None:
                        raise refusal
                done = request.run(self.server.device)
                if change:
                    self.changes += 1
                    done.addBoth(self._change_ended)
        except DSTError as error:
            done = fail(error)
        done.addBoth(lambda result: self._answer(request, result))

    def _change_ended(self, result: Any) -> Any:
        self.changes -= 1
        if not self.changes:
            if self.entrance.awaited:
                self.entrance.settled()
            idle, self._idle = self._idle, []
            for each in idle:
                each()
        return result

    def close(self) -> None:
        """Nothing that is not executed by now ever will be."""
        if not self.closed:
            self.closed = True
            if self.changes:
                self._idle.append(self.entrance.leave)
            else:
                self.entrance.leave()

    def when_drained(self, drained: Callable[[], None]) -> None:
        """Call it when nothing is being done here any more, nor ever will."""
        self.close()
        if self.changes:
            self._idle.append(drained)
        else:
            drained()

    # -- on the way back

    def _answer(self, request: Request, result: object) -> None:
        if self.server.device.incarnation != self.incarnation and not self.closed:
            # The device may have lost what it had not flushed: this session speaks of one that is no more.
            self.close()
            self.link.reset_by_peer(self)
        if self.link.session is self and self.server.process.alive and not self.closed:
            self.link.clock.callLater(self.link.path.delay_s, self._answered, request, result)
        elif isinstance(result, Failure):
            result.cleanFailure()

    def _answered(self, request: Request, result: object) -> None:
        if self.link.session is not self:
            return
        if not self.link.path.back:
            self.stalled_answers.append((request, result))
        else:
            self.link.answered(request, result)


class StateDirectory:
    """What a daemon keeps of its own: the record, and who it is."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self.kept: bytes | None = None
        self.identity = entropy(16)

    def load(self) -> Deferred[Label | None]:
        """What was stored last."""
        return succeed(None if self.kept is None else decode_slot(self.kept))

    def store(self, label: Label) -> Deferred[None]:
        """Keep it, as bytes."""
        self.kept = encode_slot(label)
        return succeed(None)

    def owner(self) -> Deferred[bytes | None]:
        """The same for as long as this is not lost."""
        return succeed(self.identity)


class Server:
    """
    One node's daemon, and what survives it: media, and the fence's memory.

    @ivar device: the device as this process has it; C{faulty} is the same, for those who want it to fail.
    """

    def __init__(self, cluster: Cluster, index: int, media: SimulatedMedia, nested: str = "") -> None:
        """
        @param nested: C{"mirror"} or C{"stripe"}: what the node exports is a storage itself, on two disks; then
            C{media} is only a measure.
        """
        self.cluster = cluster
        self.index = index
        self.name = f"n{index}"
        self.nested = nested
        self.media = media
        self.legs = [media]
        self.store = StateDirectory(cluster.entropy)
        if nested:
            zone = LABELS_BYTES + 2 * PAGE_BYTES
            size = media.size + zone if nested == "mirror" else align_up(media.size, 2 * _UNIT) // 2 + LABELS_BYTES
            self.legs = [SimulatedMedia(size, seed=index * 131 + n) for n in range(2)]
        self.files = MemoryFiles()
        self.sessions: dict[Link, Session] = {}
        self.delay_s = 0.0
        self.start()

    def start(self) -> None:
        """A new process."""
        self.process = Process(self.cluster.now)
        self.cluster.processes.append(self.process)
        clock = self.process.clock
        self.disks = [
            FaultyDevice(clock, SimulatedDisk(clock, f"{self.name}-{n}", media), delay_s=self.delay_s)
            for n, media in enumerate(self.legs)
        ]
        self.faulty = self.disks[0]
        self.device: INode = self.faulty
        if self.nested == "mirror":
            options = MirrorOptions(region_size=64 * 1024, start_wait_s=0.2, grace_s=0.5, flap_hold_s=0.0)
            self.device = Mirror(clock, self.name, self.disks, options, self.store, entropy=self.cluster.entropy)
        elif self.nested == "stripe":
            self.device = Stripe(clock, self.name, self.disks, JoinedOptions(unit=_UNIT))
        self.device.open().addErrback(self.cluster.surprises.append)
        self.fence = Fence(clock, self.cluster.boottime, self.files, self.name, self.cluster.entropy)
        self.fence.open()

    def heal(self) -> None:
        """Its disks are well, and it runs."""
        if not self.process.alive:
            self.start()
        self.process.suspended = False
        self.delay_s = 0.0
        for disk in self.disks:
            disk.heal()
            disk.delay_s = 0.0
            disk.release()
            if disk.link is not LinkState.READY:
                disk.plug_in()

    @property
    def reachable(self) -> bool:
        """Somebody answers there, whose device can be used."""
        return self.process.running and self.device.link is LinkState.READY and bool(self.fence.identity)

    def kill(self) -> None:
        """SIGKILL. What was being done may be done, or not."""
        if not self.process.alive:
            return
        chance = self.cluster.random
        for disk in self.disks:
            for request in [*disk._running, *disk._held]:
                if chance.random() < 0.5 and request.operation.kind in CHANGES:
                    request.run().addErrback(lambda _: None)
        self.process.alive = False
        self.cluster.processes.remove(self.process)
        self.cluster.graves.append((self.process, self.device, self.fence, dict(self.sessions)))
        for disk in self.disks:
            disk.inner.media = SimulatedMedia(0)  # type: ignore[attr-defined]
        for link, session in list(self.sessions.items()):
            session.closed = True
            link.reset_by_peer(session)
        self.sessions.clear()

    def power_cut(self, keep: Any) -> None:
        """The machine is dark, and comes back with C{start}."""
        self.kill()
        for media in self.legs:
            media.lose_unflushed(keep)

    def forget_everything(self, media: SimulatedMedia) -> None:
        """Another machine at the same place: new media, and no memory of promises."""
        self.kill()
        assert not self.nested
        self.media = media
        self.legs = [media]
        self.files = MemoryFiles()

    def accept(self, link: Link, ready: Callable[[Session], None]) -> None:
        """
        A new connection of an owner that may have had one: what is left of that is drained first (R10).
        """
        before = self.sessions.get(link)

        def drained() -> None:
            if self.sessions.get(link) in (None, before) and self.process.alive:
                session = self.sessions[link] = Session(self, link)
                ready(session)

        if before is None:
            drained()
        else:
            before.when_drained(drained)


@implementer(INode, IFenced, IWritesAndTells)
class Link(ObservableNode):
    """
    One owner's way to one node.
    """

    kind = "link"

    def __init__(self, cluster: Cluster, process: Process, server: Server, path: Path) -> None:
        super().__init__(process.clock, server.name)
        self.cluster = cluster
        self.process = process
        self.server = server
        self.path = path
        self.session: Session | None = None
        self.fence = b""
        self.patience_s = 1.0
        self._held = HeldClaim(self.name)
        self._pending: dict[Request, None] = {}
        self._opening: Deferred[None] | None = None
        self._attempt = 0
        self._heard = 0.0
        self._watching = False

    # -- the connection

    def open(self) -> Deferred[None]:
        opened = self._opening = Deferred()
        self.clock.callLater(self.path.delay_s, self._connect, self._attempt)
        return opened

    def close(self) -> Deferred[None]:
        self._attempt += 1
        self._drop_session()
        self.changed(LinkState.CLOSED, "it was closed")
        self._fail_all(Unavailable(f"{self.name} was closed"))
        done: Deferred[None] = Deferred()
        self.clock.callLater(0, done.callback, None)
        return done

    def _connect(self, attempt: int) -> None:
        if attempt != self._attempt or not self.process.alive:
            return
        if self.path.good and self.server.reachable:
            self.server.accept(self, lambda session: self.clock.callLater(0, self._connected, attempt, session))
            self.clock.callLater(3.0, self._connect_late, attempt)
        else:
            self.clock.callLater(CONNECT_S, self._connect, attempt)
            self._first_attempt("nobody answers")

    def _connect_late(self, attempt: int) -> None:
        if attempt == self._attempt:
            self._connect(attempt)

    def _first_attempt(self, reason: str) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            if self.link is LinkState.CONNECTING:
                self.changed(LinkState.AWAY, reason)
            opening.callback(None)

    def _connected(self, attempt: int, session: Session) -> None:
        if attempt != self._attempt or not self.process.alive or session.closed:
            return
        if not self.path.good or self.server.sessions.get(self) is not session:
            self.clock.callLater(CONNECT_S, self._connect, attempt)
            return
        self._attempt += 1
        self.session = session
        device, fence = session.server.device, session.server.fence.identity
        if self.fence and fence != self.fence:
            self.changed(LinkState.AWAY, "it has lost its memory of what it has promised")
            self._held.give_up()
            self._fail_all(Fenced(f"{self.name} came back without memory of what it had promised"))
        self.fence = fence
        if self._pending and self.incarnation != device.incarnation:
            self.changed(LinkState.AWAY, "it may have lost what it had not flushed")
            self._fail_all(IncarnationChanged(f"{self.name} came back, but may have lost what it had not flushed"))
        if self.session is not session:
            return
        self.changed(LinkState.READY, "", geometry=device.geometry, incarnation=device.incarnation)
        kept, self._pending = self._pending, {}
        for request in kept:
            self._send(request)
        self._first_attempt("")

    def _drop_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.broken()

    def reset_by_peer(self, session: Session) -> None:
        """The node's process ended."""
        if self.session is session:
            self.clock.callLater(self.path.delay_s, self._lost, session)

    def _lost(self, session: Session) -> None:
        if self.session is session and self.process.alive:
            self.interrupt("the connection was lost")

    def interrupt(self, reason: str) -> None:
        """The connection is gone; it is tried again for a while before everything fails."""
        if self.link is not LinkState.READY:
            return
        self._attempt += 1
        self._drop_session()
        self.changed(LinkState.INTERRUPTED, reason)
        for request in [each for each in self._pending if each.kind in ("claim", "fence")]:
            del self._pending[request]
            request.answer.errback(Unavailable(f"{self.name}: {reason}"))
        self.clock.callLater(self.path.delay_s, self._connect, self._attempt)
        self.clock.callLater(self.patience_s, self._give_up, self._attempt, reason)

    def _give_up(self, attempt: int, reason: str) -> None:
        if attempt == self._attempt and self.link is LinkState.INTERRUPTED:
            self.changed(LinkState.AWAY, reason)
            self._fail_all(Unavailable(f"{self.name} is away: {reason}"))

    def _fail_all(self, error: DSTError) -> None:
        pending, self._pending = self._pending, {}
        for request in pending:
            request.answer.errback(error)

    def _watch(self) -> None:
        self._watching = False
        if not self._pending or self.session is None:
            return
        silent = self.clock.seconds() - self._heard >= SILENCE_S
        alive = self.path.good and self.server.process.running and self.session.server.process.alive
        if silent and not alive:
            self.interrupt("it does not answer")
        else:
            self._watching = True
            self.clock.callLater(SILENCE_S / 2, self._watch)

    # -- requests

    def _ask(self, kind: str, run: Callable[[Any], Deferred[Any]], claim: Claim | None = None) -> Deferred[Any]:
        if not self.usable or (kind in ("claim", "fence") and self.session is None):
            return fail(self.unavailable())
        if self._held.dismissed and kind in CHANGES:
            return fail(self._held.refusal())
        request = Request(kind, run, self._held.epoch, Deferred(), claim)
        self._send(request)
        return request.answer

    def _send(self, request: Request) -> None:
        if not self._pending:
            self._heard = self.clock.seconds()
        self._pending[request] = None
        if self.session is not None:
            self.session.send(request)
        if not self._watching:
            self._watching = True
            self.clock.callLater(SILENCE_S / 2, self._watch)

    def answered(self, request: Request, result: object) -> None:
        """By the session that is this link's."""
        self._heard = self.clock.seconds()
        if request in self._pending:
            del self._pending[request]
            if isinstance(result, Promise):
                self._held.learn(result)
            # Whoever asked may have cancelled it.
            if not request.answer.called:
                request.answer.callback(result)
        elif isinstance(result, Failure):
            result.cleanFailure()

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        return self._ask("read", lambda device: device.read(offset, length))

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        data = bytes(data)
        return self._ask("write", lambda device: device.write(offset, data, fua=fua))

    def write_and_tell(self, writes: Sequence[Write], told: TellOfWrite) -> None:
        for write in writes:
            self.write(write.offset, write.data).addCallbacks(
                lambda _, write=write: told(write, None), lambda failure, write=write: told(write, failure.value)
            )

    def flush(self) -> Deferred[None]:
        return self._ask("flush", lambda device: device.flush())

    def trim(self, offset: int, length: int) -> Deferred[None]:
        return self._ask("trim", lambda device: device.trim(offset, length))

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        return self._ask(
            "write_zeroes",
            lambda device: device.write_zeroes(offset, length, fua=fua, no_hole=no_hole, fast_only=fast_only),
        )

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        return self._ask("block_status", lambda device: device.block_status(offset, length))

    # -- promises

    def _fence(self, what: Callable[[Session], Promise | Deferred[Promise]]) -> Deferred[Promise]:
        def run(session: Session) -> Deferred[Promise]:
            answer = what(session)
            if isinstance(answer, Deferred):
                return answer
            done: Deferred[Promise] = Deferred()
            done.callback(answer)
            return done

        return self._ask("fence", run)

    def ask(self) -> Deferred[Promise]:
        return self._fence(lambda session: session.server.fence.promise())

    def claim(self, claim: Claim, lease_s: float, name: str) -> Deferred[Promise]:
        self._held.asking(claim)
        return self._ask("claim", lambda session: session.entrance.claim(claim, lease_s, name), claim)

    def renew(self) -> Deferred[Promise]:
        held = self._held.claim
        return self._fence(lambda session: session.server.fence.renew(held))

    def release(self) -> Deferred[Promise]:
        held = self._held.claim
        self._held.give_up()
        return self._fence(lambda session: Deferred.fromCoroutine(session.server.fence.release(held)))

    def want(self, name: str) -> Deferred[Promise]:
        return self._fence(lambda session: session.server.fence.want(name))
