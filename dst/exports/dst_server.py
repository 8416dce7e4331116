"""
Exports over the DST wire protocol (C{docs/specifications/wire.rst}).

One factory serves every export, on any number of ports, to any number of clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from zope.interface import implementer

from dst.administration import SessionStatus, Traffic
from dst.errors import Denied, LimitReached, Unavailable
from dst.exports.dst_limits import Limits, Memory
from dst.exports.dst_session import DSTServerSession
from dst.exports.traffic import Totals, words_for
from dst.interfaces import IExporter, IExports, OpenExport
from dst.transport.peers import Crowd
from dst.wire.handshake import Hello, Terms

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["DSTServerFactory", "Limits"]

_log = Logger()

_REFUSALS_MAX = 16
"""Connections above the limit that are answered with the reason; the others are just closed."""


@implementer(IExporter)
class DSTServerFactory(ServerFactory):
    """
    Serves C{exports}.

    @ivar memory: what they take together.
    """

    noisy = False

    def __init__(
        self, clock: IReactorTime, exports: IExports, *, limits: Limits | None = None, name: str = ""
    ) -> None:
        """
        @param name: how clients see this server called.
        """
        self.limits = Limits() if limits is None else limits
        self.terms = Terms(
            requests_max=self.limits.requests_max,
            bytes_max=self.limits.bytes_max,
            transfer_bytes_max=self.limits.transfer_bytes_max,
            idle_s=self.limits.idle_s,
            server=name,
        )
        self.memory = Memory(clock, self.limits.memory_bytes_max)
        self._sessions: dict[DSTServerSession, None] = {}  # in the order in which they came
        self._count = 0  # of sessions, ever
        self._crowd = Crowd(self.limits.connections_per_address_max)
        self._totals = Totals()
        self._clock = clock
        self._exports = exports
        # Whoever knows another client's token cannot take over from it under another name.
        self._by_token: dict[tuple[str | None, bytes], DSTServerSession] = {}
        self._lingering: set[DSTServerSession] = set()  # closed, with changes that are still being executed
        self._settling: list[tuple[Callable[[], int], Deferred[None]]] = []
        self._admitted: set[DSTServerSession] = set()
        self._drained: list[Deferred[None]] | None = None

    @property
    def connections(self) -> int:
        """How many clients there are now."""
        return len(self._sessions)

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self._drained is not None or len(self._sessions) >= self.limits.connections_max + _REFUSALS_MAX:
            return None
        if not self._crowd.enter(addr):
            _log.warn(
                "{peer} is sent away: {count} come from there already, the most of one address",
                peer=words_for(addr),
                count=self.limits.connections_per_address_max,
            )
            return None
        self._count += 1
        session = DSTServerSession(self._clock, self, addr, f"dst-{self._count}")
        if len(self._sessions) < self.limits.connections_max:
            self._admitted.add(session)
        session.receives_much = len(self._sessions) < self.limits.much_connections
        self._sessions[session] = None
        return session

    def drain(self) -> Deferred[None]:
        """
        Take no more connections and requests, answer what was begun, and close.

        @return: fires when no connection is left: when the devices have done what was asked of them, or after
            C{limits.drain_s_max}.
        """
        drained: Deferred[None] = Deferred()
        if self._drained is None:
            self._drained = []
            for session in list(self._sessions):
                session.drain()
        if not self._sessions:
            drained.callback(None)
            return drained
        self._drained.append(drained)
        patience = self._clock.callLater(self.limits.drain_s_max, self._cut_all)

        def stop(_: None) -> None:
            if patience.active():
                patience.cancel()

        return drained.addCallback(stop)

    def _cut_all(self) -> None:
        for session in list(self._sessions):
            _log.warn(
                "{peer} is cut: {requests} of its requests did not end in time",
                peer=session.peer,
                requests=session.requests.count,
            )
            session.cut()

    def sessions(self) -> list[SessionStatus]:
        """See L{IExporter.sessions}."""
        found = [session.status() for session in self._sessions]
        return [each for each in found if each is not None]

    def end_session(self, id: str) -> bool:
        """See L{IExporter.end_session}."""
        for session in list(self._sessions):
            if session.id == id:
                _log.info("{peer} is cut: an operator ended its session", peer=session.peer)
                session.cut()
                return True
        return False

    def traffic(self) -> dict[str, Traffic]:
        """See L{IExporter.traffic}."""
        live = [(each.export, each.requests.counters) for each in self._sessions if each.export is not None]
        return self._totals.traffic(live)

    # What a session asks.

    def list_exports(self, session: DSTServerSession) -> list[str]:
        return self._exports.list_exports(session.identity)

    async def open_export(self, session: DSTServerSession, hello: Hello) -> OpenExport:
        if session not in self._admitted:
            raise LimitReached(f"this server has {self.limits.connections_max} connections, the most it takes")
        export = self._exports.open_export(hello.export, session.identity)
        current = self._by_token.get((session.identity.name, hello.token))
        if current is not None and current.hello is not None and current.hello.attempt >= hello.attempt:
            raise Denied("a newer connection of the same client is here already")
        self._by_token[session.identity.name, hello.token] = session
        if current is not None:
            _log.info("{peer} takes over from {old}", peer=session.peer, old=current.peer)
            current.cut()
            self._linger(current)

        device = export.node if export.device is None else export.device

        def left() -> int:
            """The changes of earlier connections, whoever's they were, that may still reach the device."""
            return sum(old.requests.changes for old in self._lingering if old.requests.node is device)

        if left():
            await self._wait_until_settled(left)
        return export

    async def _wait_until_settled(self, left: Callable[[], int]) -> None:
        settled: Deferred[None] = Deferred()
        entry = (left, settled)
        self._settling.append(entry)

        def give_up() -> None:
            settled.errback(
                Unavailable(f"{left()} changes of an earlier connection are still being executed; try again")
            )

        patience = self._clock.callLater(self.limits.settle_s_max, give_up)
        try:
            await settled
        finally:
            if entry in self._settling:
                self._settling.remove(entry)
            if patience.active():
                patience.cancel()

    def session_ended(self, session: DSTServerSession) -> None:
        if session in self._sessions:
            del self._sessions[session]
            if session.export is not None:
                self._totals.ended(session.export, session.requests.counters)
        self._admitted.discard(session)
        self._crowd.leave(session.address)
        if session.hello is not None:
            key = (session.identity.name, session.hello.token)
            if self._by_token.get(key) is session:
                del self._by_token[key]
        self._linger(session)
        if self._drained is not None and not self._sessions:
            drained, self._drained = self._drained, []
            for waiting in drained:
                waiting.callback(None)

    def request_settled(self, session: DSTServerSession) -> None:
        if session.requests.changes:
            return
        self._lingering.discard(session)
        for left, settled in list(self._settling):
            if not left() and not settled.called:
                settled.callback(None)

    def _linger(self, session: DSTServerSession) -> None:
        if session.requests.changes:
            self._lingering.add(session)
