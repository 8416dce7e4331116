"""
TLS with the certificates of a security directory: both sides show who they are.

Nothing is resumed: a resumed session is not verified again, and a client that was locked out could go on with it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import frozen
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface import implementer

from dst.security.certificates import BadCertificate, fits_host, identity_of
from dst.security.directory import Credentials
from dst.security.reasons import HARMLESS, library_words, why_not_trusted, wrong_host, wrong_peer

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["ClientOptions", "Flavour", "ServerOptions", "TLSConnection", "make_context"]

_MODE_ENABLE_PARTIAL_WRITE: Final = 1
"""pyOpenSSL switches it on, and has no name for it."""

_CIPHERS_1_2: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_CIPHERS_1_3: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""AES with 128 bits first: a storage encrypts a lot, and 256 bits are a third slower for nothing that matters."""


@frozen
class Flavour:
    """
    @ivar server: which end.
    @ivar demanded: of a server: a client has to show a certificate.
    """

    server: bool
    demanded: bool = True
    allow_tls_1_2: bool = False


def make_context(credentials: Credentials, flavour: Flavour) -> SSL.Context:
    """What connections of one flavour have in common."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION if flavour.allow_tls_1_2 else SSL.TLS1_3_VERSION)
    context.set_cipher_list(_CIPHERS_1_2)
    context.set_tls13_ciphersuites(_CIPHERS_1_3)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)  # one call encrypts all of what is sent
    context.use_certificate(credentials.certificate)
    context.use_privatekey(credentials.key)
    store = context.get_cert_store()
    assert store is not None
    for authority in credentials.trusted:
        store.add_cert(X509.from_cryptography(authority))
        if flavour.server:
            context.add_client_ca(authority)
    for revocations in credentials.revocations:
        store.add_crl(revocations)
    store.set_flags(X509StoreFlags.CRL_CHECK)
    demanded = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if flavour.server and flavour.demanded else 0
    context.set_verify(SSL.VERIFY_PEER | demanded, _verify)
    return context


class TLSConnection(SSL.Connection):
    """
    One TLS connection that says why it did not come about.

    @ivar established: the handshake is over, and went well.
    @ivar refusal: why the other side was refused, or the connection ended; C{""} if it was not.
    @ivar acceptable: of a certificate that an authority vouches for: why it is refused all the same, or C{""}.
    @ivar told: given the sentence, when a client is refused.
    """

    refusal = ""
    established = False
    acceptable: Callable[[x509.Certificate], str]
    told: Callable[[str], None] | None = None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except SSL.WantReadError:
            raise
        except SSL.Error as error:
            self.refusal = self.refusal or library_words(error)
            if self.told is not None:
                self.told(self.refusal)
            raise
        self.established = True


def _verify(connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
    if error in HARMLESS:
        return True
    assert isinstance(connection, TLSConnection)
    try:
        shown = certificate.to_cryptography()
        if error:
            connection.refusal = why_not_trusted(error, shown, depth)
        elif depth == 0:
            connection.refusal = connection.acceptable(shown)
        else:
            return True
    except Exception as problem:  # whatever a parser may say of a stranger's bytes, which OpenSSL could read
        connection.refusal = f"its certificate cannot be read: {str(problem)[:80]!r}"
    return not connection.refusal


def _acceptable_client(certificate: x509.Certificate) -> str:
    try:
        identity_of(certificate)
    except BadCertificate as error:
        return error.message
    return ""


@implementer(IOpenSSLServerConnectionCreator)
class ServerOptions:
    """Makes the server's end of connections."""

    def __init__(
        self,
        context: Callable[[], SSL.Context],
        began: Callable[[TLSMemoryBIOProtocol], None],
        refused: Callable[[TLSMemoryBIOProtocol, str], None],
    ) -> None:
        """
        @param context: the newest.
        @param began: told of each connection.
        @param refused: told why one did not come about.
        """
        self._context = context
        self._began = began
        self._refused = refused

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See L{IOpenSSLServerConnectionCreator}."""
        connection = TLSConnection(self._context(), None)
        connection.acceptable = _acceptable_client
        connection.told = lambda sentence: self._refused(protocol, sentence)
        connection.set_accept_state()
        self._began(protocol)
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class ClientOptions:
    """Makes the client's end of connections to one server."""

    def __init__(
        self,
        context: Callable[[], SSL.Context],
        began: Callable[[TLSMemoryBIOProtocol], None],
        host: str,
        peer: str | None,
    ) -> None:
        self._context = context
        self._began = began
        self._host = host
        self._peer = peer

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See L{IOpenSSLClientConnectionCreator}."""
        connection = TLSConnection(self._context(), None)
        connection.acceptable = self._acceptable
        if not _is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        connection.set_connect_state()
        self._began(protocol)
        return connection

    def _acceptable(self, certificate: x509.Certificate) -> str:
        try:
            name = identity_of(certificate)[0]
        except BadCertificate as error:
            return error.message
        if self._peer is not None:
            return "" if name == self._peer else wrong_peer(certificate, self._peer)
        return "" if fits_host(certificate, self._host) else wrong_host(certificate, self._host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
