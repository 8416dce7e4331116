"""
Serving exports to NBD clients, over TCP and UNIX sockets: any number of exports, any number of clients, one port.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from zope.interface import implementer

from dst.administration import SessionStatus, Traffic
from dst.errors import NotFound, Unavailable
from dst.exports.nbd_limits import Budget, NBDLimits, Requests
from dst.exports.nbd_session import NBDSession
from dst.exports.nbd_writes import SharedWrites
from dst.exports.traffic import Totals, words_for
from dst.exports.turns import Turn, Turns
from dst.geometry import align_down
from dst.identity import Identity
from dst.interfaces import IExports, INegotiatesTLS, INode, IWritesTogether, OpenExport
from dst.nbd.constants import (
    DEFAULT_TRANSFER_BYTES_MAX,
    FLAG_CAN_MULTI_CONN,
    FLAG_HAS_FLAGS,
    FLAG_READ_ONLY,
    FLAG_ROTATIONAL,
    FLAG_SEND_CACHE,
    FLAG_SEND_FAST_ZERO,
    FLAG_SEND_FLUSH,
    FLAG_SEND_FUA,
    FLAG_SEND_TRIM,
    FLAG_SEND_WRITE_ZEROES,
)
from dst.nbd.server_handshake import ExportInfo
from dst.status import LinkState
from dst.transport.peers import Crowd, identity_at

if TYPE_CHECKING:
    from twisted.internet.interfaces import (
        IAddress,
        IDelayedCall,
        IOpenSSLServerConnectionCreator,
        IProtocolFactory,
        IReactorTime,
        ITransport,
    )

__all__ = ["NBDLimits", "NBDServerFactory"]

CHECKS_PER_STALL: Final = 4
"""How often sessions are looked at while one may become too old: the limit is kept to within a quarter."""

_ALWAYS: Final = (
    FLAG_HAS_FLAGS
    | FLAG_SEND_FLUSH
    | FLAG_SEND_FUA
    | FLAG_SEND_TRIM
    | FLAG_SEND_WRITE_ZEROES
    | FLAG_SEND_CACHE
    | FLAG_SEND_FAST_ZERO
)

_log = Logger()


class _Door(ServerFactory):
    """What a port is given where there is TLS."""

    noisy = False

    def __init__(self, server: NBDServerFactory, options: IOpenSSLServerConnectionCreator, required: bool) -> None:
        self._server = server
        self._options = options
        self._required = required

    def buildProtocol(self, addr: IAddress | None) -> NBDSession | None:
        session = self._server.buildProtocol(addr)
        if session is not None:
            session.offer_tls(self._options, required=self._required)
        return session


@implementer(INegotiatesTLS)
class NBDServerFactory(ServerFactory):
    """
    Makes a session for each client that connects.

    One factory may be given to several ports: limits and draining are then for all of them together.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        exports: IExports,
        *,
        limits: NBDLimits | None = None,
        identify: Callable[[ITransport], Identity | None] = identity_at,
    ) -> None:
        """
        @param identify: who the client at the other end of a transport is, in the terms of C{exports}.
        """
        self.clock = clock
        self.exports = exports
        self.limits = limits or NBDLimits()
        self.identify = identify
        self.crowd = Crowd(self.limits.connections_per_address_max)
        alone = Turn(self.limits.turn_requests_max, self.limits.turn_bytes_max)
        self.budget = Budget(self.limits.bytes_max, Turns(clock, alone))
        self._sessions: dict[NBDSession, None] = {}  # in the order in which they came
        self._count = 0  # of sessions, ever
        self._totals = Totals()
        self._requests: dict[INode, Requests] = {}  # of devices that have users
        self._writes: dict[INode, SharedWrites] = {}  # likewise
        self._checking: IDelayedCall | None = None
        self._draining: list[Deferred[None]] | None = None
        self._drain_limit: IDelayedCall | None = None

    @property
    def connections(self) -> int:
        """How many clients there are now."""
        return len(self._sessions)

    def buildProtocol(self, addr: IAddress | None) -> NBDSession | None:
        if self._draining is not None:
            return None  # Twisted closes the connection
        if len(self._sessions) >= self.limits.connections_max:
            _log.warn(
                "NBD client {peer} was sent away: {count} are here already", peer=addr, count=len(self._sessions)
            )
            return None
        if not self.crowd.enter(addr):
            _log.warn(
                "NBD client {peer} was sent away: {count} come from there already, the most of one address",
                peer=words_for(addr),
                count=self.limits.connections_per_address_max,
            )
            return None
        self._count += 1
        session = NBDSession(self, addr, f"nbd-{self._count}")
        session.factory = self
        return session

    def door(self, options: IOpenSSLServerConnectionCreator, *, required: bool) -> IProtocolFactory:
        """See L{INegotiatesTLS.door}."""
        return _Door(self, options, required)

    def drain(self) -> Deferred[None]:
        """
        Stop serving: no new client, no new request, an answer to every request that was begun.

        @return: fires when no client is left; that is after C{limits.drain_s} at the latest.
        """
        if self._draining is None:
            self._draining = []
        if not self._sessions:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._draining.append(done)
        if self._drain_limit is None:
            self._drain_limit = self.clock.callLater(self.limits.drain_s, self._drain_expired)
        for session in list(self._sessions):
            session.drain()
        return done

    def sessions(self) -> list[SessionStatus]:
        """See L{IExporter.sessions}."""
        found = [session.status() for session in self._sessions]
        return [each for each in found if each is not None]

    def end_session(self, id: str) -> bool:
        """See L{IExporter.end_session}."""
        for session in list(self._sessions):
            if session.id == id:
                session.cut("an operator ended its session")
                return True
        return False

    def traffic(self) -> dict[str, Traffic]:
        """See L{IExporter.traffic}."""
        live = [(each.export, each.counters) for each in self._sessions if each.export is not None]
        return self._totals.traffic(live)

    def describe(self, name: str, identity: Identity | None) -> tuple[ExportInfo, OpenExport]:
        """
        Find an export for a client.

        @param name: C{""} means the only one, where there is only one.
        @raise NotFound: there is none of that name, or no default one.
        @raise Denied: it is not for this identity.
        @raise Unavailable: its device is not ready.
        """
        if name == "":
            names = self.exports.list_exports(identity)
            if len(names) == 1:
                name = names[0]
            elif "" not in names:
                raise NotFound(f"there is no default export among the {len(names)} here; name one")
        opened = self.exports.open_export(name, identity)
        node = opened.node
        if node.link is not LinkState.READY and node.link is not LinkState.INTERRUPTED:
            raise Unavailable(f"the export {name!r} is not ready: {node.reason or node.link.value}; try again later")
        return _info(name, opened), opened

    def share_requests(self, node: INode) -> Requests:
        """What all clients have asked of C{node}, for one more of them."""
        shared = self._requests.get(node)
        if shared is None:
            shared = self._requests[node] = Requests(self.limits.requests_of_all_max)
        shared.users += 1
        return shared

    def unshare_requests(self, node: INode) -> None:
        """One client less; of a device that C{share_requests} was asked for."""
        shared = self._requests[node]
        shared.users -= 1
        if not shared.users:
            assert not shared.used, shared.used
            del self._requests[node]

    def share_writes(self, node: INode) -> SharedWrites | None:
        """What all clients write to C{node}, for one more of them; C{None} if it takes each write by itself."""
        if not IWritesTogether.providedBy(node):
            return None
        shared = self._writes.get(node)
        if shared is None:
            shared = self._writes[node] = SharedWrites(self.clock, cast(IWritesTogether, node).write_together)
        shared.users += 1
        return shared

    def unshare_writes(self, node: INode) -> None:
        """One client less; of a device that C{share_writes} was asked for."""
        shared = self._writes.get(node)
        if shared is not None:
            shared.users -= 1
            if not shared.users:
                shared.send()
                del self._writes[node]

    def session_began(self, session: NBDSession) -> None:
        """A client connected."""
        self._sessions[session] = None
        if self._checking is None:
            self._check_later()

    def session_ended(self, session: NBDSession) -> None:
        """Its connection is gone."""
        self._sessions.pop(session, None)
        self.crowd.leave(session.address)
        if session.export is not None:
            self._totals.ended(session.export, session.counters)
        if self._sessions:
            return
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        if self._drain_limit is not None:
            self._drain_limit.cancel()
            self._drain_limit = None
        if self._draining:
            done, self._draining = self._draining, []
            for each in done:
                each.callback(None)

    def _check_later(self) -> None:
        self._checking = self.clock.callLater(self.limits.stall_s / CHECKS_PER_STALL, self._check)

    def _check(self) -> None:
        self._check_later()
        for session in list(self._sessions):
            session.check()

    def _drain_expired(self) -> None:
        self._drain_limit = None
        for session in list(self._sessions):
            session.cut(f"its requests were not answered within {self.limits.drain_s:g} s of the stop")


def _info(name: str, opened: OpenExport) -> ExportInfo:
    node, geometry = opened.node, opened.node.geometry
    flags = _ALWAYS
    if opened.read_only or geometry.read_only:
        flags |= FLAG_READ_ONLY
    if geometry.rotational:
        flags |= FLAG_ROTATIONAL
    if _can_multi_conn(node):
        flags |= FLAG_CAN_MULTI_CONN
    transfer = min(geometry.transfer_bytes_max, DEFAULT_TRANSFER_BYTES_MAX)
    return ExportInfo(
        name=name,
        size=geometry.size,
        flags=flags,
        block_size=geometry.block_size,
        preferred_block_size=max(512, geometry.preferred_block_size),
        transfer_bytes_max=align_down(transfer, geometry.block_size),
    )


def _can_multi_conn(node: INode) -> bool:
    """
    Whether a client may spread its requests over several connections.

    It may where a write completed on one is seen by reads on all, and a flush on one covers the writes
    completed on all.  That is what L{dst.interfaces.IBlockDevice} promises, and all sessions of a
    process share one device object: so it is true, unless a provider says of itself that it keeps
    something for each caller, with C{multi_conn = False}.
    """
    return bool(getattr(node, "multi_conn", True))
