"""
A daemon's certificates at work.

The files are looked at before each connection, and now and then without any.  When they have changed they are read;
what is new holds for the next connection.  What cannot be used is said, and the old goes on: a
renewal that stopped half way must not stop a storage.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from dst.errors import ConfigurationError
from dst.security.contexts import ClientOptions, Flavour, ServerOptions, make_context
from dst.security.directory import Credentials, load, signature
from dst.security.interfaces import ISecurity
from dst.security.reasons import described
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["Security"]

LOOK_S: Final = 1.0
"""The files are not looked at more often, however many connect."""

WATCH_S: Final = 5.0
"""How soon a revoked certificate ends the connections that there are."""

REFUSALS_PER_MINUTE_MAX: Final = 60
"""Lines in the log about those who were refused: strangers must not fill the disk."""

_DAY_S: Final = 86400.0

_log = Logger()


@implementer(ISecurity)
class Security:
    """
    The certificates in a directory.

    @ivar directory: where they are.
    @ivar problem: see L{ISecurity}.
    """

    def __init__(self, directory: str, clock: IReactorTime) -> None:
        """
        The files are read; nothing is started.

        @raise ConfigurationError: they cannot be used.
        """
        self.directory = os.path.abspath(directory)
        self.problem = ""
        self._clock = clock
        self._wall_clock_s = surroundings_of(clock).wall_clock_s
        self._signature = signature(self.directory)
        self._looked = clock.seconds()
        self._credentials: Credentials = load(self.directory)
        self._contexts: dict[Flavour, SSL.Context] = {}
        self._live: WeakSet[TLSMemoryBIOProtocol] = WeakSet()
        self._watching: IDelayedCall | None = None
        self._refusals = 0
        self._refusals_since = clock.seconds()

    @property
    def name(self) -> str:
        """See L{ISecurity.name}."""
        return self._credentials.holder.name

    @property
    def credentials(self) -> Credentials:
        """What is in use."""
        return self._credentials

    def server_options(
        self, *, certificate_demanded: bool = True, allow_tls_1_2: bool = False
    ) -> IOpenSSLServerConnectionCreator:
        """See L{ISecurity.server_options}."""
        flavour = Flavour(True, certificate_demanded, allow_tls_1_2)
        return ServerOptions(lambda: self._context(flavour), self._live.add, self._refused)

    def client_options(
        self, host: str, peer: str | None = None, *, allow_tls_1_2: bool = False
    ) -> IOpenSSLClientConnectionCreator:
        """See L{ISecurity.client_options}."""
        flavour = Flavour(False, allow_tls_1_2=allow_tls_1_2)
        return ClientOptions(lambda: self._context(flavour), self._live.add, host, peer)

    def certificate_days_left(self) -> float:
        """See L{ISecurity.certificate_days_left}."""
        return (self._credentials.holder.ends - self._wall_clock_s()) / _DAY_S

    # Its life

    def start(self) -> None:
        """Look at the files now and then, also when nobody connects."""
        if self._watching is None:
            self._watching = self._clock.callLater(WATCH_S, self._watch)

    def stop(self) -> None:
        """No more."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def look(self) -> None:
        """Read the files if they have changed, and end what they do not allow any more."""
        self._looked = self._clock.seconds()
        found = signature(self.directory)
        if found == self._signature:
            return
        self._signature = found
        try:
            credentials = load(self.directory)
        except ConfigurationError as error:
            if error.message != self.problem:
                _log.error("new certificates are not used: {sentence}", sentence=error.message)
            self.problem = error.message
            return
        self.problem = ""
        old, self._credentials = self._credentials, credentials
        self._contexts.clear()
        _log.info(
            "certificates were read: this is {name}, until {days:.0f} days from now; {count} are revoked",
            name=credentials.holder.name,
            days=self.certificate_days_left(),
            count=len(credentials.revoked),
        )
        if old.revoked != credentials.revoked or old.trusted != credentials.trusted:
            self._end_untrusted()

    # The rest

    def _watch(self) -> None:
        self._watching = self._clock.callLater(WATCH_S, self._watch)
        self.look()

    def _context(self, flavour: Flavour) -> SSL.Context:
        if self._clock.seconds() - self._looked >= LOOK_S:
            self.look()
        context = self._contexts.get(flavour)
        if context is None:
            context = self._contexts[flavour] = make_context(self._credentials, flavour)
        return context

    def _end_untrusted(self) -> None:
        for protocol in list(self._live):
            connection = protocol.getHandle()
            if connection is None:
                continue
            shown = connection.get_peer_certificate(as_cryptography=True)
            if shown is None and connection.established:
                continue
            if shown is None:
                # It would be judged by the lists of before, and by no other ever after.
                sentence = "it had not said who it is when the lists changed; it may connect again"
            elif self._credentials.is_revoked(shown):
                sentence = f"the other side's certificate ({described(shown)}) is revoked"
            elif not self._credentials.is_trusted(shown):
                sentence = (
                    f"the authority of the other side's certificate ({described(shown)}) is not trusted any more"
                )
            else:
                continue
            connection.refusal = sentence
            _log.warn("{peer}: {sentence}; the connection is ended", peer=_place(protocol), sentence=sentence)
            protocol.abortConnection()

    def _refused(self, protocol: TLSMemoryBIOProtocol, sentence: str) -> None:
        now = self._clock.seconds()
        if now - self._refusals_since >= 60:
            if self._refusals > REFUSALS_PER_MINUTE_MAX:
                _log.warn("{count} more were refused", count=self._refusals - REFUSALS_PER_MINUTE_MAX)
            self._refusals, self._refusals_since = 0, now
        self._refusals += 1
        if self._refusals <= REFUSALS_PER_MINUTE_MAX:
            _log.warn("{peer} is refused: {sentence}", peer=_place(protocol), sentence=sentence)


def _place(protocol: TLSMemoryBIOProtocol) -> str:
    peer = protocol.getPeer()
    host, port = getattr(peer, "host", None), getattr(peer, "port", None)
    if host is None:
        return "a local client"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
