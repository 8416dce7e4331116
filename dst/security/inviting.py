"""
The machine that has the authority, while it waits for a new one to join.

Whoever connects is a stranger until it has proved that it has the secret.  It has a few seconds, a few
kilobytes and one attempt for each connection; after some attempts that proved nothing the invitation is over, whoever
made them: a person who has to invite once more is better than one who does not notice that somebody guesses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.errors import DeadlinePassed, Denied, DSTError, PeerError
from dst.security.directory import Credentials
from dst.security.invitation import (
    BINDING_BYTES,
    BINDING_LABEL,
    NONCE_BYTES,
    REQUEST_BYTES_MAX,
    Grant,
    Kind,
    Messages,
    decode_request,
    encode,
    encode_grant,
)
from dst.security.reasons import why_lost
from dst.security.tls import behind_tls
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IReactorTime
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["ATTEMPTS_MAX", "CONNECTIONS_MAX", "CONNECTION_S_MAX", "Inviting", "binding_of"]

ATTEMPTS_MAX: Final = 3
"""Proofs that were wrong, in all."""

CONNECTIONS_MAX: Final = 8
"""At a time: one is expected."""

CONNECTION_S_MAX: Final = 10.0
"""For all of it, from connecting to the certificate."""

_log = Logger()

Signed = Callable[["EllipticCurvePublicKey", str], Grant]
"""Given a key and the address it came from, signs.  @raise DSTError: it does not."""


def binding_of(transport: object) -> bytes:
    """What only the two ends of this TLS connection know."""
    handle = cast("Any", transport).getHandle()
    return cast(bytes, handle.export_keying_material(BINDING_LABEL, BINDING_BYTES, b""))


class Inviting:
    """
    One invitation.

    @ivar joined: fires with the address of the machine that has joined, or fails with why nobody will any more.
    """

    def __init__(
        self,
        clock: IReactorTime,
        credentials: Credentials,
        secret: bytes,
        sign: Signed,
        *,
        minutes: float,
        told: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """
        @param credentials: the inviting machine's.
        @param sign: makes the certificate.
        @param told: one sentence for each who was refused.
        """
        self.joined: Deferred[str] = Deferred(lambda _: self._over())
        self.clock = clock
        self.secret = secret
        self.surroundings = surroundings_of(clock)
        self._sign = sign
        self._told = told
        self._wrong = 0
        self._used = False
        self._connections: set[_Host] = set()
        self._minutes = minutes
        self._timer: IDelayedCall | None = clock.callLater(minutes * 60, self._expired)
        self.factory: IProtocolFactory = behind_tls(_Options(credentials), _Hosts(self), clock)

    @property
    def connections(self) -> int:
        """How many are connected now."""
        return len(self._connections)

    def enter(self, host: _Host) -> bool:
        """Somebody connects. @return: whether there is room."""
        if self._timer is None or len(self._connections) >= CONNECTIONS_MAX:
            return False
        self._connections.add(host)
        return True

    def leave(self, host: _Host) -> None:
        """And is gone."""
        self._connections.discard(host)

    def asked(self, body: bytes, binding: bytes, nonce: bytes, address: str) -> bytes:
        """
        The answer to a request.

        @raise DSTError: it is refused.
        """
        from dst.security.making import request_key

        if self._used or self._timer is None:
            raise Denied("this invitation has been used; invite once more")
        request = decode_request(body, self.secret, binding, nonce)
        if request is None:
            self._wrong += 1
            if self._wrong >= ATTEMPTS_MAX:
                self._fail(
                    Denied(
                        f"{self._wrong} attempts did not know the secret, the last one from {address}; "
                        "invite once more, with a new token"
                    )
                )
            raise Denied("that is not the secret of this invitation")
        grant = self._sign(request_key(request), address)
        self._used = True
        return encode_grant(grant, self.secret, binding, nonce)

    def answered(self, address: str) -> None:
        """The certificate is sent."""
        self._over()
        if not self.joined.called:
            self.joined.callback(address)

    def refused(self, address: str, sentence: str) -> None:
        """Somebody was sent away."""
        _log.warn("{address} is refused: {sentence}", address=address, sentence=sentence)
        self._told(f"{address} is refused: {sentence}")

    def _expired(self) -> None:
        self._timer = None
        self._fail(DeadlinePassed(f"nobody joined within {self._minutes:g} minutes; invite once more"))

    def _fail(self, error: DSTError) -> None:
        self._over()
        if not self.joined.called:
            self.joined.errback(error)

    def _over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.clock.callLater(0, self._cut)

    def _cut(self) -> None:
        for each in list(self._connections):
            each.end()


class _Hosts(Factory):
    noisy = False

    def __init__(self, inviting: Inviting) -> None:
        self._inviting = inviting

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        host = _Host(self._inviting, str(getattr(addr, "host", "a local client")))
        return host if self._inviting.enter(host) else None


@implementer(IHandshakeListener)
class _Host(Protocol):
    """One stranger."""

    def __init__(self, inviting: Inviting, address: str) -> None:
        self._inviting = inviting
        self._address = address
        self._messages = Messages(REQUEST_BYTES_MAX)
        self._nonce = inviting.surroundings.entropy(NONCE_BYTES)
        self._heard = False
        self._granted = False
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._timer = self._inviting.clock.callLater(CONNECTION_S_MAX, self._late)

    def handshakeCompleted(self) -> None:
        """See L{IHandshakeListener}."""
        self._send(encode(Kind.CHALLENGE, self._nonce))

    def dataReceived(self, data: bytes) -> None:
        if self._heard:
            return
        try:
            for kind, body in self._messages.receive(data):
                if kind != Kind.REQUEST or self._heard:
                    raise PeerError("a request was expected, and nothing else")
                self._heard = True
                answer = self._inviting.asked(body, binding_of(self.transport), self._nonce, self._address)
                self._granted = True
                self._send(answer)
                self._close()
        except DSTError as error:
            self._heard = True
            self._inviting.refused(self._address, error.message)
            self._send(encode(Kind.REFUSED, error.message.encode()[:1024]))
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._inviting.leave(self)
        if self._granted:
            self._inviting.answered(self._address)
        elif not self._heard:
            self._inviting.refused(self._address, why_lost(self.transport, reason) or "it went away before it asked")

    def end(self) -> None:
        """The invitation is over."""
        if not self._heard:
            self._heard = True
            cast("Any", self.transport).abortConnection()

    def _send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def _close(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def _late(self) -> None:
        self._timer = None
        if not self._heard:
            self._heard = True
            self._inviting.refused(self._address, f"it took longer than {CONNECTION_S_MAX:g} s")
        cast("Any", self.transport).abortConnection()


@implementer(IOpenSSLServerConnectionCreator)
class _Options:
    """Shows the inviting machine's certificate and the authority's, and asks for none."""

    def __init__(self, credentials: Credentials) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.use_certificate(credentials.certificate)
        context.use_privatekey(credentials.key)
        for authority in credentials.trusted:
            context.add_extra_chain_cert(authority)
        self._context = context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See L{IOpenSSLServerConnectionCreator}."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return connection
