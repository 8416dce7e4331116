"""
One NBD client: a handshake, then a transmission, then nothing.

::

    connected --> negotiating --agreed--> transmitting --client disconnects, or drain--> finishing --> lost
                       |                        |                                           |
                       +--- refused, too slow --+------- broken protocol, stalled ----------+--> aborted --> lost

TLS begins in the middle of negotiating, if at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.interfaces import IHandshakeListener, IProtocolFactory, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.administration import SessionStatus
from dst.errors import PeerError
from dst.exports.nbd_transmission import Transmission
from dst.exports.traffic import Counters, session_status, words_for
from dst.identity import Identity
from dst.interfaces import OpenExport
from dst.nbd.server_handshake import ExportInfo, ServerHandshake
from dst.surroundings import surroundings_of
from dst.transport.stream import Stream, stream_over
from dst.transport.tls_stream import GatheringTLS

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IOpenSSLServerConnectionCreator

    from dst.exports.nbd_server import NBDServerFactory

__all__ = ["NBDSession"]

OPTIONS_PER_TURN: Final = 4
"""
Options of one client that are dealt with before everybody else has a turn.  Clients wait for the answer to each;
strangers send thousands at once, from many connections, and some of them take the longer the more exports there are.
"""

_log = Logger()


@implementer(IHandshakeListener)
class NBDSession(Protocol):
    """
    The server's end of one connection.

    @ivar hole: see L{dst.transport.stream.IStreamUser}.
    @ivar id: what operators call it.
    @ivar address: where it comes from.
    @ivar export: the name of what it has open; C{None} before that is agreed on.
    @ivar counters: what it asked for.
    """

    hole: memoryview | None = None

    def __init__(self, server: NBDServerFactory, address: IAddress | None, id: str) -> None:
        self.id = id
        self.address = address
        self.export: str | None = None
        self.counters = Counters()
        self._since = 0.0
        self._server = server
        self._stream: Stream | None = None
        self._handshake: ServerHandshake | None = None
        self._transmission: Transmission | None = None
        self._opened: OpenExport | None = None
        self._identity: Identity | None = None
        self._tls: IOpenSSLServerConnectionCreator | None = None
        self._tls_required = False
        self._timer: IDelayedCall | None = None
        self._turn: IDelayedCall | None = None  # in which it goes on with options that are here already
        self._reading = True
        self._ended = False
        self.peer = ""
        self._who = ""

    def offer_tls(self, options: IOpenSSLServerConnectionCreator, *, required: bool) -> None:
        """There may be TLS, or there has to be; said before the connection is made."""
        self._tls = options
        self._tls_required = required

    # What Twisted calls

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.peer = self._who = words_for(self.transport.getPeer())
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpKeepAlive(True)  # an idle client that has vanished is noticed in the end
        self._stream = stream_over(self.transport, self)
        self._identity = self._server.identify(self.transport)
        policy = "off" if self._tls is None else "required" if self._tls_required else "optional"
        self._handshake = ServerHandshake(self, policy)
        self._timer = self._server.clock.callLater(self._server.limits.negotiation_s, self._negotiation_expired)
        self._server.session_began(self)
        self._handshake.begin()
        self._send_handshake()

    def dataReceived(self, data: bytes) -> None:
        if self._transmission is not None:
            self._transmission.receive(data)
        elif self._handshake is not None and not self._ended:
            self._handshake.receive(data)
            self._negotiate()

    def hole_filled(self, count: int) -> None:
        """See L{dst.transport.stream.IStreamUser}."""
        assert self._transmission is not None
        self._transmission.filled(count)

    def drained(self) -> None:
        """See L{dst.transport.stream.IStreamUser}."""
        if self._transmission is not None:
            self._transmission.drained()
        elif not self._ended:
            self._negotiate()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = True
        self._stop_timer()
        if self._stream is not None:
            self._stream.close()
        if self._transmission is not None:
            assert self._opened is not None
            self._transmission.lost()
            self._server.unshare_writes(self._opened.node)
            self._server.unshare_requests(self._opened.node)
        self._server.session_ended(self)

    # What the handshake asks

    def list_exports(self) -> list[str]:
        """See L{dst.nbd.server_handshake.IOffered}."""
        return self._server.exports.list_exports(self._identity)

    def describe_export(self, name: str) -> ExportInfo:
        """See L{dst.nbd.server_handshake.IOffered}."""
        info, self._opened = self._server.describe(name, self._identity)
        return info

    # What the transmission asks

    def set_reading(self, reading: bool) -> None:
        """See L{dst.exports.nbd_transmission.ITransmissionOwner}."""
        if self._ended or reading is self._reading:
            return
        self._reading = reading
        transport = cast(IPushProducer, self.transport)
        if reading:
            transport.resumeProducing()
        else:
            transport.pauseProducing()

    def end(self, reason: str) -> None:
        """Cut the connection and say why."""
        if not self._ended:
            self.cut(reason)

    def finish(self) -> None:
        """Close the connection when everything was sent."""
        if not self._ended:
            self.set_reading(True)  # TLS ends when it has heard the client's goodbye
            self._ended = True
            assert self.transport is not None
            self.transport.loseConnection()
            # A client that does not read the last replies does not keep the connection.
            self._stop_timer()
            self._timer = self._server.clock.callLater(self._server.limits.drain_s, self._abort)

    # What the server asks

    def drain(self) -> None:
        """Answer what was begun, then close."""
        if self._ended:
            return
        if self._transmission is not None:
            self._transmission.finish()
        else:
            self.finish()

    def cut(self, reason: str) -> None:
        """End it at once, also while it is finishing."""
        self._ended = True
        self._stop_timer()
        _log.warn("NBD client {peer} was cut off: {reason}", peer=self._who, reason=reason)
        if self._transmission is not None:
            self._transmission.lost()
        self._abort()

    def status(self) -> SessionStatus | None:
        """How it is; C{None} while it has no export open."""
        transmission = self._transmission
        if self.export is None or transmission is None:
            return None
        return session_status(
            self.id,
            "nbd",
            self.export,
            self.peer,
            self._identity,
            self.counters,
            read_only=transmission.read_only,
            since=self._since,
            in_flight=transmission.in_flight,
        )

    def check(self) -> None:
        """Called now and then: a client that keeps us waiting too long is cut off."""
        if self._transmission is not None and not self._ended:
            stalled_s = self._transmission.stalled_s()
            if stalled_s >= self._server.limits.stall_s:
                self.end(f"it reads next to nothing, or sends next to nothing of a request, for {stalled_s:.0f} s")

    # The handshake

    def _negotiate(self) -> None:
        handshake = self._handshake
        assert handshake is not None and self._stream is not None
        if self._turn is not None:
            return
        more, left = True, OPTIONS_PER_TURN
        while more and left and not self._stream.congested:
            left -= 1
            try:
                more = handshake.advance()
            except PeerError as error:
                self.end(error.message)
                return
            self._send_handshake()
        if handshake.aborted:
            self.finish()
        elif handshake.starting_tls:
            if self._stream.congested:
                self.set_reading(False)  # until the client has taken what was said in the clear
            else:
                self._start_tls(handshake)
        elif handshake.agreement is not None:
            self._agreed(handshake)
        else:
            if more and not self._stream.congested:
                self._turn = self._server.clock.callLater(0, self._take_turn)
            self.set_reading(self._turn is None and not self._stream.congested)

    def _take_turn(self) -> None:
        self._turn = None
        self._negotiate()

    def _start_tls(self, handshake: ServerHandshake) -> None:
        """Put TLS between this session and its transport."""
        assert self.transport is not None and self._stream is not None and self._tls is not None
        self._stream.release()
        self.set_reading(True)
        factory = TLSMemoryBIOFactory(self._tls, False, cast(IProtocolFactory, self._server), self._server.clock)
        tls = GatheringTLS(factory, self, False)  # type: ignore[no-untyped-call]
        cast(Any, self.transport).protocol = tls
        plain, self.transport = self.transport, tls
        handshake.secured()
        tls.makeConnection(plain)
        self._stream = stream_over(tls, self)

    def handshakeCompleted(self) -> None:
        """TLS is there, and by now it is known who the client is."""
        assert self.transport is not None
        self._identity = self._server.identify(self.transport)
        if self._identity is not None and self._identity.name is not None:
            self._who = f"{self._identity.name} at {self.peer}"

    def _send_handshake(self) -> None:
        assert self._handshake is not None and self._stream is not None
        if self._handshake.outgoing:
            self._stream.send(self._handshake.outgoing)
            self._handshake.outgoing = []

    def _agreed(self, handshake: ServerHandshake) -> None:
        assert handshake.agreement is not None and self._opened is not None and self._stream is not None
        self._stop_timer()
        self.set_reading(True)  # it may have stopped, and the transmission begins with it
        self._handshake = None
        self._transmission = Transmission(
            self._server.clock,
            self._opened,
            handshake.agreement,
            self._stream,
            self,
            self._server.limits,
            self._server.budget,
            self._server.share_requests(self._opened.node),
            self.counters,
            self._server.share_writes(self._opened.node),
        )
        export = handshake.agreement.export
        self.export = export.name
        self._since = surroundings_of(self._server.clock).wall_clock_s()
        _log.info("NBD client {peer} uses {export!r}", peer=self._who, export=export.name)
        self._transmission.receive(handshake.rest)

    def _negotiation_expired(self) -> None:
        self._timer = None
        self.end(f"no export was agreed on within {self._server.limits.negotiation_s:g} s")

    def _abort(self) -> None:
        self._timer = None
        transport = cast(ITCPTransport, self.transport)
        transport.abortConnection()

    def _stop_timer(self) -> None:
        """Nothing more is done by itself."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
