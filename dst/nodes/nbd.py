"""
A node that is an export of any NBD server.

NBD gives less than a node has to promise, and this is what is made of it:

  - B{A server has no incarnation.}  Nobody can tell over NBD whether a server that is back still has what it had
    not flushed.  So every connection is an incarnation of its own: what was in flight fails, and whoever is above
    knows that unflushed writes may be lost.
  - B{Trim promises nothing in NBD}, and zeroes here.  So it is done with write-zeroes, which may punch holes;
    and where there is no such command, zeroes are written.
  - B{A server may have no FUA}: a write and a flush.  It may have no flush: then nobody can say what is durable, and
    flush and FUA are refused, unless the topology says C{durable=true}: "it writes through, I know".
  - B{A request can not be taken back.}  If it is not answered in time the connection is ended.  What a server does
    with requests of an ended connection it alone knows: one that is still executing a write then can overtake a later
    one, and that cannot be prevented over NBD.  Put a DST daemon beside the server where this matters.
"""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING, Final

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.errors import DSTError, NotSupported, ReadOnly
from dst.geometry import TRANSFER_BYTES_MAX, BlockStatus, Geometry, StatusExtent, align_down, coalesce
from dst.interfaces import Buffer, INode
from dst.nbd.client_handshake import Served
from dst.nbd.constants import (
    CMD_BLOCK_STATUS,
    CMD_FLAG_FAST_ZERO,
    CMD_FLAG_FUA,
    CMD_FLAG_NO_HOLE,
    CMD_FLUSH,
    CMD_READ,
    CMD_WRITE,
    CMD_WRITE_ZEROES,
    FLAG_READ_ONLY,
    FLAG_ROTATIONAL,
    FLAG_SEND_FAST_ZERO,
    FLAG_SEND_FLUSH,
    FLAG_SEND_FUA,
    FLAG_SEND_WRITE_ZEROES,
)
from dst.nodes.nbd_connection import NBDConnection
from dst.observing import ObservableNode
from dst.status import LinkState, StatusTree
from dst.transport.reconnect import Reconnector

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime

__all__ = ["NBDNode"]

ZERO_BYTES_MAX: Final = 32 * 1024 * 1024
"""
Zeroes in one request: nbd-server 3.24 clears only the first 64 MiB of a larger one and says that all
went well.
"""

ZERO_WRITE_BYTES_MAX: Final = 1024 * 1024
"""Zeroes in one write, where the server has no command for it."""

STATUS_BYTES_MAX: Final = 1 << 31
"""Bytes in one question for block status; the protocol's lengths have 32 bits."""

CLOSE_S_MAX: Final = 5.0
"""A server that does not close its side within this time after it was told is cut off."""

_ZEROES: Final = bytes(ZERO_WRITE_BYTES_MAX)

_log = Logger()


@implementer(INode)
class NBDNode(ObservableNode):
    """An export of an NBD server, of this project's or anybody's."""

    kind = "nbd"

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        endpoint: IStreamClientEndpoint,
        export: str,
        *,
        address: str = "",
        deadline_s: float = 30.0,
        durable: bool = False,
        tls: IOpenSSLClientConnectionCreator | None = None,
        random: Random | None = None,
        delay_s_first: float = 0.1,
        delay_s_max: float = 5.0,
    ) -> None:
        """
        @param export: its name there; C{""} is the server's default export.
        @param address: where that is, for people.
        @param deadline_s: a request that is not answered by then ends the connection.
        @param durable: the server is known to write through, though it has no flush.
        @param tls: demand TLS of the server.
        @param random: spreads the attempts to connect again.
        """
        super().__init__(clock, name)
        self._endpoint = endpoint
        self._export = export
        self._address = address
        self._deadline_s = deadline_s
        self._durable = durable
        self._tls = tls
        self._random = random or Random()
        self._delays_s = (delay_s_first, delay_s_max)
        self._reconnector: Reconnector[NBDConnection] | None = None
        self._connection: NBDConnection | None = None
        self._served = Served()
        self._opening: list[Deferred[None]] = []
        self._closing: list[Deferred[None]] | None = None

    # Its life

    def open(self) -> Deferred[None]:
        if self._reconnector is None:
            self.changed(LinkState.CONNECTING, "connecting for the first time")
            self._reconnector = Reconnector(
                self.clock,
                self._attempt,
                self._connected,
                self._failed,
                random=self._random,
                delay_s_first=self._delays_s[0],
                delay_s_max=self._delays_s[1],
            )
            opened: Deferred[None] = Deferred()
            self._opening.append(opened)
            self._reconnector.start()
            return opened
        if self.link is LinkState.CONNECTING:
            opened = Deferred()
            self._opening.append(opened)
            return opened
        return succeed(None)

    def close(self) -> Deferred[None]:
        if self._closing is not None:
            closed: Deferred[None] = Deferred()
            self._closing.append(closed)
            return closed
        reconnector, self._reconnector = self._reconnector, None
        was_open = self.link is LinkState.READY
        self.changed(LinkState.CLOSED, "it was closed")
        if reconnector is None:
            return succeed(None)
        self._closing = []
        closed = Deferred()
        self._closing.append(closed)
        connection, self._connection = self._connection, None
        stopping = reconnector.stop()
        if connection is not None:
            stopping.addCallback(lambda _: connection.idle())
            if was_open and self._served.flags & FLAG_SEND_FLUSH and not self._served.flags & FLAG_READ_ONLY:
                stopping.addCallback(lambda _: connection.request(CMD_FLUSH, 0, 0, 0))
                stopping.addErrback(self._log_close)
            stopping.addCallback(lambda _: self._disconnect(connection))
        stopping.addErrback(self._log_close)
        stopping.addCallback(lambda _: self._closed())
        return closed

    def _disconnect(self, connection: NBDConnection) -> Deferred[None]:
        connection.disconnect()
        gone = connection.gone()
        limit = self.clock.callLater(CLOSE_S_MAX, connection.end, self.unavailable())

        def note(_: None) -> None:
            if limit.active():
                limit.cancel()

        return gone.addCallback(note)

    def _log_close(self, failure: Failure) -> None:
        _log.warn("{name} was closed and: {reason}", name=self.name, reason=failure.getErrorMessage())

    def _closed(self) -> None:
        self._opened()
        closing, self._closing = self._closing or [], None
        for each in closing:
            each.callback(None)

    def _opened(self) -> None:
        opening, self._opening = self._opening, []
        for each in opening:
            each.callback(None)

    def _attempt(self) -> Deferred[NBDConnection]:
        connection = NBDConnection(self.clock, self.name, self._export, self._deadline_s, self._lost, self._tls)
        connecting: Deferred[IProtocol] = self._endpoint.connect(Factory.forProtocol(lambda: connection))
        # A cancellation goes to whichever of the two is going on.
        return connecting.addCallback(lambda _: connection.ready).addCallback(self._acceptable)

    def _acceptable(self, connection: NBDConnection) -> NBDConnection:
        served = connection.served
        if served.block_size > min(served.transfer_bytes_max, TRANSFER_BYTES_MAX):
            error = NotSupported(f"{self.name}: blocks of {served.block_size} bytes are too large")
            connection.end(error)
            raise error
        return connection

    def _connected(self, connection: NBDConnection) -> None:
        self._connection = connection
        self._served = served = connection.served
        block_size = served.block_size
        preferred = served.preferred_block_size
        if preferred & (preferred - 1) or preferred < block_size:
            preferred = max(4096, block_size)
        geometry = Geometry(
            align_down(served.size, block_size),
            block_size=block_size,
            preferred_block_size=preferred,
            transfer_bytes_max=align_down(min(served.transfer_bytes_max, TRANSFER_BYTES_MAX), block_size),
            read_only=bool(served.flags & FLAG_READ_ONLY),
            rotational=bool(served.flags & FLAG_ROTATIONAL),
        )
        self.changed(LinkState.READY, "", geometry=geometry, incarnation=os.urandom(16))
        self._opened()

    def _failed(self, failure: Failure, delay_s: float) -> None:
        error = failure.value
        why = error.message if isinstance(error, DSTError) else failure.getErrorMessage()
        where = f" at {self._address}" if self._address else ""
        self.changed(LinkState.AWAY, f"no NBD export{where}: {why}; next attempt in {delay_s:.1f} s")
        self._opened()

    def _lost(self, connection: NBDConnection, error: DSTError) -> None:
        """The connection is gone, and what is in flight is about to fail."""
        if connection is not self._connection:
            return  # one that was closed on purpose
        self._connection = None
        assert self._reconnector is not None
        delay_s = self._reconnector.lost()
        self.changed(LinkState.AWAY, f"{error.message}; next attempt in {delay_s:.1f} s")

    # What it is asked

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        connection = self._connection
        if connection is None:
            return fail(self.unavailable())
        try:
            self.geometry.check_transfer(offset, length)
        except DSTError as error:
            return fail(error)
        return connection.request(CMD_READ, 0, offset, length)

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> Deferred[None]:
        connection = self._connection
        if connection is None:
            return fail(self.unavailable())
        length = len(data)
        try:
            self.geometry.check_transfer(offset, length)
            flags = self._check_change(fua)
        except DSTError as error:
            return fail(error)
        writing: Deferred[None] = connection.request(CMD_WRITE, flags, offset, length, data)
        return self._then_flush(writing) if fua and not flags else writing

    def flush(self) -> Deferred[None]:
        connection = self._connection
        if connection is None:
            return fail(self.unavailable())
        if self._served.flags & FLAG_SEND_FLUSH:
            return connection.request(CMD_FLUSH, 0, 0, 0).addErrback(self._flush_failed)
        return succeed(None) if self._durable else fail(self._not_durable())

    def trim(self, offset: int, length: int) -> Deferred[None]:
        return self.write_zeroes(offset, length)

    def write_zeroes(
        self, offset: int, length: int, *, fua: bool = False, no_hole: bool = False, fast_only: bool = False
    ) -> Deferred[None]:
        if self._connection is None:
            return fail(self.unavailable())
        try:
            self.geometry.check_extent(offset, length)
            flags = self._check_change(fua)
            if fast_only and not self._served.flags & FLAG_SEND_FAST_ZERO:
                raise NotSupported(f"{self.name}: its NBD server cannot say whether zeroes are fast")
        except DSTError as error:
            return fail(error)
        flush_after = fua and not flags
        if no_hole:
            flags |= CMD_FLAG_NO_HOLE
        if fast_only:
            flags |= CMD_FLAG_FAST_ZERO
        zeroing = self._zero_pieces(offset, length, flags)
        return self._then_flush(zeroing) if flush_after else zeroing

    def block_status(self, offset: int, length: int) -> Deferred[list[StatusExtent]]:
        connection = self._connection
        if connection is None:
            return fail(self.unavailable())
        try:
            self.geometry.check_extent(offset, length)
        except DSTError as error:
            return fail(error)
        if self._served.context_id is None:
            return succeed([StatusExtent(length, BlockStatus.DATA)])
        return connection.request(CMD_BLOCK_STATUS, 0, offset, min(length, STATUS_BYTES_MAX)).addCallback(coalesce)

    def status(self) -> StatusTree:
        detail: dict[str, object] = {"export": self._export}
        if self._address:
            detail["address"] = self._address
        if self._tls is not None:
            detail["tls"] = True
        if self.link is LinkState.READY:
            flags = self._served.flags
            detail["structured_replies"] = self._served.structured
            detail["block_status"] = self._served.context_id is not None
            detail["zeroes"] = "by command" if flags & FLAG_SEND_WRITE_ZEROES else "written"
            detail["durability"] = self._durability(flags)
        return evolve(super().status(), detail=detail)

    def _durability(self, flags: int) -> str:
        if flags & FLAG_SEND_FLUSH:
            return "flush and FUA" if flags & FLAG_SEND_FUA else "flush; FUA is a write and a flush"
        if self._durable:
            return "taken on trust: the server has no flush and the topology says that it writes through"
        return "none: the server has no flush, so flush and FUA are refused"

    # How it is done

    def _check_change(self, fua: bool) -> int:
        """
        The command flags of a change.

        @raise ReadOnly: it may not be made.
        @raise NotSupported: it cannot be made durable.
        """
        if self.geometry.read_only:
            raise ReadOnly(f"{self.name} is read-only: its NBD server says so")
        if not fua:
            return 0
        flags = self._served.flags
        if flags & FLAG_SEND_FUA:
            return CMD_FLAG_FUA
        if not flags & FLAG_SEND_FLUSH and not self._durable:
            raise self._not_durable()
        return 0

    def _not_durable(self) -> NotSupported:
        return NotSupported(
            f"{self.name}: its NBD server has no flush; if it is known to write through, say durable=true"
        )

    def _then_flush(self, doing: Deferred[None]) -> Deferred[None]:
        return doing.addCallback(lambda _: self.flush())

    def _flush_failed(self, failure: Failure) -> Failure:
        """What was not durable may be lost for good, and asking again would only seem to help."""
        if self._connection is not None:
            self.changed(incarnation=os.urandom(16))
        return failure

    def _zero_pieces(self, offset: int, length: int, flags: int) -> Deferred[None]:
        """Zero an extent of any length, piece after piece."""
        end = offset + length
        by_command = bool(self._served.flags & FLAG_SEND_WRITE_ZEROES)
        limit = ZERO_BYTES_MAX if by_command else min(ZERO_WRITE_BYTES_MAX, self.geometry.transfer_bytes_max)
        # A block may be larger than either limit; it is not larger than one transfer.
        piece_max = max(align_down(limit, self.geometry.block_size), self.geometry.block_size)
        done: Deferred[None] = Deferred()

        def go_on(_: object, at: int) -> None:
            if at == end:
                done.callback(None)
                return
            connection = self._connection
            if connection is None:
                done.errback(self.unavailable())
                return
            piece = min(piece_max, end - at)
            if by_command:
                doing = connection.request(CMD_WRITE_ZEROES, flags, at, piece)
            else:
                zeroes = _ZEROES[:piece] if piece <= len(_ZEROES) else bytes(piece)
                doing = connection.request(CMD_WRITE, flags & CMD_FLAG_FUA, at, piece, zeroes)
            doing.addCallbacks(go_on, done.errback, (at + piece,))

        go_on(None, offset)
        return done
