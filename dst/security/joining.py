"""
The machine that joins: it has a token and nothing else.

Nothing is said before the other side has shown the authority whose fingerprint the token has, and a certificate that
this authority has made.  Nothing is kept before the answer has proved that it comes from whoever made the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from dst.errors import DeadlinePassed, Denied, DSTError, PeerError, Unavailable
from dst.security.authority import fingerprint
from dst.security.certificates import day, holder_of, is_signed_by
from dst.security.invitation import (
    BODY_BYTES_MAX,
    NONCE_BYTES,
    Grant,
    Kind,
    Messages,
    Token,
    decode_grant,
    encode_request,
)
from dst.security.inviting import binding_of
from dst.security.making import certificates_in, make_request
from dst.security.reasons import library_words
from dst.security.tls import TLSEndpoint
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from twisted.internet.interfaces import IReactorTime
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["JOIN_S_MAX", "join"]

JOIN_S_MAX: Final = 15.0
"""For all of it: the other machine is there, or it is not."""


def join(
    clock: IReactorTime, endpoint: IStreamClientEndpoint, token: Token, key: EllipticCurvePrivateKey
) -> Deferred[tuple[x509.Certificate, Grant]]:
    """
    Accept an invitation.

    @param endpoint: where the token says.
    @param key: the new machine's own.
    @return: its certificate, and the rest of what it was given.  Fails with C{Denied}, C{PeerError},
        C{Unavailable} or C{DeadlinePassed}.
    """
    guest = _Guest(token, key, surroundings_of(clock).wall_clock_s)
    timer = clock.callLater(JOIN_S_MAX, guest.fail, DeadlinePassed(f"no answer came within {JOIN_S_MAX:g} s"))
    connecting = TLSEndpoint(_Options(), endpoint, clock).connect(Factory.forProtocol(lambda: guest))

    def unreachable(failure: Failure) -> None:
        guest.fail(
            Unavailable(
                f"{token.host} port {token.port} cannot be reached ({failure.getErrorMessage()}); is `dst ca invite` "
                "still waiting there, and may this machine connect to it?"
            )
        )

    connecting.addErrback(unreachable)

    def over(result: Any) -> Any:
        if timer.active():
            timer.cancel()
        connecting.cancel()
        return result

    return guest.done.addBoth(over)


@implementer(IHandshakeListener)
class _Guest(Protocol):
    """The connection."""

    def __init__(self, token: Token, key: EllipticCurvePrivateKey, wall_clock_s: Any) -> None:
        self.done: Deferred[tuple[x509.Certificate, Grant]] = Deferred(lambda _: self._leave())
        self._token = token
        self._key = key
        self._wall_clock_s = wall_clock_s
        self._messages = Messages(BODY_BYTES_MAX)
        self._nonce = b""
        self._authority: x509.Certificate | None = None

    def handshakeCompleted(self) -> None:
        """See L{IHandshakeListener}: now it is known who is there, and nothing was said."""
        handle = cast("Any", self.transport).getHandle()
        chain: list[x509.Certificate] = handle.get_peer_cert_chain(as_cryptography=True) or []
        authorities = [each for each in chain[1:] if fingerprint(each) == self._token.fingerprint]
        if not authorities or not is_signed_by(chain[0], authorities[0]):
            self.fail(
                Denied(
                    f"whoever answers at {self._token.host} is not the one who has invited: its certificate is of "
                    "another authority; nothing was sent"
                )
            )
        else:
            self._authority = authorities[0]

    def dataReceived(self, data: bytes) -> None:
        if self._authority is None or self.done.called:
            return
        try:
            for kind, body in self._messages.receive(data):
                self._message(kind, body)
        except DSTError as error:
            self.fail(error)

    def _message(self, kind: int, body: bytes) -> None:
        if kind == Kind.REFUSED:
            raise Denied(f"{self._token.host} refuses: {body.decode('utf-8', 'replace')[:1024]}")
        if kind == Kind.CHALLENGE and not self._nonce:
            if len(body) != NONCE_BYTES:
                raise PeerError("the challenge has the wrong length")
            self._nonce = body
            request = make_request("joining", self._key)
            assert self.transport is not None
            self.transport.write(encode_request(request, self._token.secret, binding_of(self.transport), body))
        elif kind == Kind.GRANT and self._nonce:
            grant = decode_grant(body, self._token.secret, binding_of(self.transport), self._nonce)
            certificate = self._accepted(grant)
            self._leave()
            self.done.callback((certificate, grant))
        else:
            raise PeerError(f"a message of the kind {kind} was not expected now")

    def _accepted(self, grant: Grant) -> x509.Certificate:
        try:
            certificate = x509.load_der_x509_certificate(grant.certificate)
        except ValueError as error:
            raise PeerError(f"the certificate that came cannot be read: {error}") from None
        assert self._authority is not None
        if certificate.public_key() != self._key.public_key() or not is_signed_by(certificate, self._authority):
            raise PeerError("the certificate that came is not for this machine's key, or of another authority")
        if self._authority not in certificates_in(grant.trusted, "what came"):
            raise PeerError("what came does not trust the authority that has signed it")
        holder_of(certificate)
        if self._wall_clock_s() < certificate.not_valid_before_utc.timestamp():
            raise Denied(
                f"the certificate that came is good from {day(certificate.not_valid_before_utc)} on, and this "
                "machine's clock is before that; set the clock and join with a new invitation"
            )
        return certificate

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            why = library_words(reason.value) if isinstance(reason.value, SSL.Error) else "the other side hung up"
            self.fail(Unavailable(f"{self._token.host} port {self._token.port}: {why}"))

    def fail(self, error: DSTError) -> None:
        """It did not come about."""
        if not self.done.called:
            self._leave()
            self.done.errback(error)

    def _leave(self) -> None:
        if self.transport is not None:
            cast("Any", self.transport).abortConnection()


@implementer(IOpenSSLClientConnectionCreator)
class _Options:
    """Takes whatever certificate is shown: L{_Guest} looks at it."""

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See L{IOpenSSLClientConnectionCreator}."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        return connection
