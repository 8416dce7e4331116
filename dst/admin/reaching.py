"""
How a client reaches a daemon, and as whom: over HTTP, HTTPS or a UNIX socket, with a token or a certificate.

C{unix:/run/dst/admin.sock} is a daemon's UNIX socket; C{https:} needs the authority's certificate, C{ca.crt} of a
security directory, unless the daemon's comes from one that the system trusts.

A secret is read from a file or the environment, never from the command line, which everybody on the machine can see.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

from dst.errors import ConfigurationError, InvalidRequest
from dst.security.certificates import fits_host

if TYPE_CHECKING:
    from OpenSSL import SSL
    from OpenSSL.crypto import X509
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["UNIX_SCHEME", "Credentials", "make_agent", "url_and_socket"]

UNIX_SCHEME: Final = "unix:"

TOKEN_BYTES_MAX: Final = 4096

CONNECT_S_MAX: Final = 5.0


@frozen
class Credentials:
    """
    Who a client is, and whom it trusts.

    @ivar token: C{None}: none.  Never shown, not even by accident.
    @ivar ca_file: authorities that may have signed the daemon's certificate; C{None}: those of the system.
    @ivar certificate_file: of the client; with C{key_file}.
    """

    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    @classmethod
    def gathered(
        cls,
        environment: Mapping[str, str],
        token_file: str | None = None,
        ca_file: str | None = None,
        certificate_file: str | None = None,
        key_file: str | None = None,
    ) -> Credentials:
        """
        From options and the environment (C{DST_TOKEN}).

        @raise ConfigurationError: a file cannot be used.
        """
        if bool(certificate_file) != bool(key_file):
            raise ConfigurationError("a certificate needs its key, and a key its certificate; give --cert and --key")
        token = read_token(token_file) if token_file else environment.get("DST_TOKEN") or None
        return cls(token, ca_file, certificate_file, key_file)

    def headers(self) -> dict[str, str]:
        """Sent with each request."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def read_token(path: str) -> str:
    """
    The token in a file that nobody else can read.

    @raise ConfigurationError: there is none, or others can read it.
    """
    try:
        with open(path, "rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            data = source.read(TOKEN_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"the token file {path} cannot be read: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"the token file {path} is open to others (mode {stat.S_IMODE(mode):04o}); `chmod 600 {path}`"
        )
    try:
        token = data.decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not token or len(data) > TOKEN_BYTES_MAX or not token.isprintable() or " " in token:
        raise ConfigurationError(f"there is no token in {path}; `dst token create` prints one")
    return token


def url_and_socket(url: str) -> tuple[str, str | None]:
    """
    What to ask for, and the UNIX socket to ask at, if it is one.

    @param url: as a person says it: C{http://...}, C{https://...}, or C{unix:/path}.
    @raise InvalidRequest: the path is none.
    """
    if not url.startswith(UNIX_SCHEME):
        return url, None
    path = url.removeprefix(UNIX_SCHEME)
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    if not path or "\0" in path or len(os.fsencode(path)) > 107:
        raise InvalidRequest(f"{url!r} names no socket; expected one as unix:/run/dst/admin.sock")
    return "http://localhost", os.path.abspath(path)


def make_agent(reactor: Any, credentials: Credentials, socket: str | None) -> IAgent:
    """What makes a connection for each request, so that nothing is left between them."""
    pool = HTTPConnectionPool(reactor, persistent=False)
    agent: IAgent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor, credentials, socket), pool)
    return agent


@implementer(IAgentEndpointFactory)
@frozen
class _Endpoints:
    """Where a request goes."""

    reactor: Any
    credentials: Credentials
    socket: str | None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See L{IAgentEndpointFactory}."""
        if self.socket is not None:
            return UNIXClientEndpoint(self.reactor, self.socket, timeout=CONNECT_S_MAX)
        host = uri.host.decode("ascii").strip("[]")
        endpoint = HostnameEndpoint(self.reactor, host, uri.port, CONNECT_S_MAX)
        if uri.scheme == b"http":
            return endpoint
        return wrapClientTLS(_tls(self.credentials, host), endpoint)


def _tls(credentials: Credentials, host: str) -> IOpenSSLClientConnectionCreator:
    """
    @raise ConfigurationError: a file cannot be used.
    """
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    try:
        if credentials.ca_file is None:
            context.set_default_verify_paths()
        else:
            context.load_verify_locations(credentials.ca_file)
        if credentials.certificate_file is not None and credentials.key_file is not None:
            context.use_certificate_chain_file(credentials.certificate_file)
            context.use_privatekey_file(credentials.key_file)
            context.check_privatekey()
    except (SSL.Error, OSError) as error:
        files = ", ".join(
            each for each in (credentials.ca_file, credentials.certificate_file, credentials.key_file) if each
        )
        words = "; ".join(str(each[-1]) for each in error.args[0] if each[-1]) if _is_list(error) else str(error)
        raise ConfigurationError(f"certificates cannot be used ({files}): {words or 'no such file'}") from None

    def verify(connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
        return bool(ok) and (depth > 0 or fits_host(certificate.to_cryptography(), host))

    context.set_verify(SSL.VERIFY_PEER, verify)
    return _ClientOptions(context, host)


def _is_list(error: Exception) -> bool:
    return bool(error.args) and isinstance(error.args[0], list)


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class _ClientOptions:
    """
    The client's end of connections to one host.

    Twisted's own cannot be used: what it checks names with fails on the URIs of a DST certificate.
    """

    context: SSL.Context
    host: str

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See L{IOpenSSLClientConnectionCreator}."""
        from OpenSSL import SSL

        connection = SSL.Connection(self.context, None)
        connection.set_app_data(tlsProtocol)
        if not isIPAddress(self.host) and not isIPv6Address(self.host):
            connection.set_tlsext_host_name(self.host.encode("ascii"))
        return connection
