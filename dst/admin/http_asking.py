"""
One request to a daemon and its answer, or the error that says what became of it.

What goes wrong comes back as the error that the daemon raised.  What goes wrong on the way is C{Unavailable} when
there is nobody, C{DeadlinePassed} when there is no answer, and C{PeerError} when the answer is not DST's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IResponse
from zope.interface import implementer

from dst.admin.places import DEFAULT_URL
from dst.admin.schema import error_from_json, load_json
from dst.errors import DeadlinePassed, Denied, DSTError, InvalidRequest, PeerError, Unavailable

if TYPE_CHECKING:
    from treq.client import HTTPClient
    from twisted.internet.interfaces import IReactorTime

__all__ = ["ANSWER_BYTES_MAX", "DEFAULT_URL", "Answer", "Asker", "NoDaemon", "Reader", "segment"]


ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""What an answer may cost in memory; a status of thousands of entries is a tenth of it."""


class NoDaemon(Unavailable):
    """Nobody answers where a daemon was expected; one that answers "unavailable" is another matter."""


@frozen
class Answer:
    """
    What the daemon answered, and it was no error.

    @ivar location: where something is that goes on; C{None} where it said nothing of that.
    """

    http_status: int
    value: dict[str, Any]
    location: str | None = None


@implementer(IBodyProducer)
class _Body:
    """A body that is in memory already."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._content)
        return succeed(None)

    def stopProducing(self) -> None:
        """All of it was produced."""

    def pauseProducing(self) -> None:
        """All of it was produced."""

    def resumeProducing(self) -> None:
        """All of it was produced."""


class Reader(Protocol):
    """Hands over the bytes of an answer, and the end of it."""

    transport: Any

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self.ended: Deferred[None] = Deferred(lambda _: self.stop())
        self._open = True
        self._stopped = False

    def dataReceived(self, data: bytes) -> None:
        if not self._open:
            return
        try:
            self._receive(data)
        except Exception:  # what it means is for the one who waits for the end
            self._end(Failure())
            self.stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone):
            self._end(None)
        else:
            self._end(reason)

    def stop(self) -> None:
        self._open, self._stopped = False, True
        if self.transport is not None:
            self.transport.loseConnection()

    def _end(self, result: Failure | None) -> None:
        self._open = False
        if not self.ended.called and not self._stopped:
            self.ended.callback(result)  # a Failure makes it fail


class Asker:
    """
    Asks one daemon.

    @ivar url: where it is.
    """

    def __init__(
        self,
        url: str,
        http: HTTPClient,
        clock: IReactorTime,
        headers: Mapping[str, str] | None = None,
        spoken: str | None = None,
    ) -> None:
        """
        @param url: as C{http://127.0.0.1:7480}.
        @param http: connections are its own matter.
        @param headers: sent with each request.
        @param spoken: what people call the place, where that is not C{url}.
        @raise InvalidRequest: the URL is none that a daemon can have.
        """
        self._base = _check_url(url)
        self.url = spoken or self._base
        self._http = http
        self._clock: Any = clock
        self._headers = dict(headers or {})

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, object] | None,
        seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> Deferred[Answer]:
        """
        The answer, if it is one.

        @param seconds: how long it may take.
        """

        def late(result: object, _: float) -> object:
            if isinstance(result, Failure) and result.check(CancelledError, ConnectingCancelledError):
                raise DeadlinePassed(f"the daemon at {self.url} has not answered in {seconds:g} s")
            return result

        asked = Deferred.fromCoroutine(self._answer(method, path, body, headers or {}))
        return asked.addTimeout(seconds, self._clock, onTimeoutCancel=late)  # type: ignore[arg-type]

    async def _answer(
        self, method: str, path: str, body: dict[str, object] | None, headers: Mapping[str, str]
    ) -> Answer:
        response = await self.request(method, path, body, headers=headers)
        content = await self.content(response)
        if response.code not in (200, 202):
            raise self.error(response, content)
        try:
            answer = load_json(content)
        except InvalidRequest:
            answer = None
        if not isinstance(answer, dict) or "version" not in answer:
            raise self._foreign(response)
        location = (response.headers.getRawHeaders("Location") or [None])[0]
        return Answer(response.code, answer, location)

    async def request(
        self,
        method: str,
        path: str,
        body: dict[str, object] | None = None,
        seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> IResponse:
        """The beginning of an answer, of whatever kind."""
        options: dict[str, Any] = {}
        sent = {**self._headers, **(headers or {})}
        if body is not None:
            options["data"] = _Body(json.dumps(body).encode())
            sent["Content-Type"] = "application/json"
        if sent:
            options["headers"] = sent
        try:
            asked = self._http.request(
                method, self._base + path, unbuffered=True, allow_redirects=False, reactor=self._clock, **options
            )
            if seconds is not None:
                asked.addTimeout(seconds, self._clock)
            response: IResponse = await asked
        except (CancelledError, DSTError):
            raise
        except (ConnectError, DNSLookupError) as error:
            why = (
                "connection refused" if "refused" in str(error).lower() else str(error).rstrip(".") or "no connection"
            )
            raise _nobody(self.url, why) from error
        except Exception as error:
            raise self.lost(error) from error
        return response

    async def content(self, response: IResponse) -> bytes:
        """All of an answer."""
        chunks: list[bytes] = []
        received = 0

        def receive(data: bytes) -> None:
            nonlocal received
            received += len(data)
            if received > ANSWER_BYTES_MAX:
                raise PeerError(f"the answer of {self.url} is larger than {ANSWER_BYTES_MAX} bytes")
            chunks.append(data)

        if response.length == 0:
            return b""
        if response.length is not UNKNOWN_LENGTH and response.length > ANSWER_BYTES_MAX:
            raise PeerError(f"the answer of {self.url} is larger than {ANSWER_BYTES_MAX} bytes")
        reader = Reader(receive)
        response.deliverBody(reader)
        try:
            await reader.ended
        except (ConnectionClosed, ResponseFailed, PotentialDataLoss) as error:
            raise self.lost(error) from error
        return b"".join(chunks)

    def error(self, response: IResponse, content: bytes) -> DSTError:
        """What an answer that is an error says."""
        try:
            told = error_from_json(load_json(content))
        except InvalidRequest:
            told = None
        return told or self._foreign(response)

    def _foreign(self, response: IResponse) -> DSTError:
        kind = (response.headers.getRawHeaders("Content-Type") or ["of no type"])[0][:60]
        return PeerError(
            f"what answers at {self.url} is not the admin interface of DST (HTTP {response.code}, {kind}): "
            "look at `admin` in the daemon's topology for the address"
        )

    def lost(self, error: Exception) -> DSTError:
        """The connection has ended too early."""
        reason = error
        if isinstance(error, ResponseFailed) and error.reasons:
            reason = error.reasons[-1].value
        if isinstance(reason, SSL.Error):
            return Denied(
                f"the daemon at {self.url} and this command do not trust each other ({_tls_words(reason)}); "
                "name the authority with --ca, and a certificate with --cert and --key if the daemon wants one"
            )
        return Unavailable(
            f"the connection to the daemon at {self.url} was lost before it had answered "
            f"({str(reason).rstrip('.') or type(reason).__name__}); what was asked for may or may not have been done"
        )


def _tls_words(error: Exception) -> str:
    told = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(each[-1]) for each in told if each and each[-1]) or "TLS failed"


def segment(name: str) -> str:
    """C{name} in a path. A step in one (".", "..") would be taken as that on the way, quoted or not."""
    return quote(name, safe="").replace(".", "%2E")


def _nobody(url: str, why: str) -> NoDaemon:
    error = NoDaemon(f"no daemon answers at {url} ({why}): is `twistd dst` running there?")
    error.correction = (  # type: ignore[attr-defined]
        "start it with `twistd -n dst --config FILE`, or say where it is with --url or DST_URL"
    )
    return error


def _check_url(url: str) -> str:
    """C{url} without the slash at its end."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or not url.isascii():
        raise InvalidRequest(f"{url!r} is not the URL of a daemon; expected one like {DEFAULT_URL}")
    return url.rstrip("/")
