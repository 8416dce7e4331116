"""
The cluster as seen through HTTP: L{dst.interfaces.IClusterAdmin} over treq.

What goes wrong comes back as the error that the daemon raised.  What goes wrong on the way is
C{Unavailable} when there is nobody, C{DeadlinePassed} when there is no answer, and C{PeerError} when the
answer is not DST's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from dst.admin.schema import error_from_json, load_json, trees_from_envelope
from dst.admin.schema_explained import explanations_from_envelope, resyncs_from_envelope
from dst.admin.sse import EventParser
from dst.errors import DeadlinePassed, DSTError, InvalidRequest, PeerError, Unavailable
from dst.explaining import Explanation, ResyncRecord
from dst.interfaces import IClusterAdmin
from dst.status import StatusTree

if TYPE_CHECKING:
    from treq.client import HTTPClient
    from twisted.internet.interfaces import IReactorTime

__all__ = ["ANSWER_BYTES_MAX", "DEFAULT_URL", "HTTPAdmin", "NoDaemon"]

DEFAULT_URL = "http://127.0.0.1:7480"

ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""What an answer may cost in memory; a status of thousands of entries is a tenth of it."""

CONNECT_S_MAX = 5.0
STATUS_S_MAX = 15.0
OPERATION_S_MAX = 75.0
"""A little more than the daemon allows itself, so that its own words arrive."""

SILENCE_S_MAX = 45.0
"""The daemon says something every 15 s while events are read; after three of those it is gone."""

T = TypeVar("T")


class NoDaemon(Unavailable):
    """Nobody answers where a daemon was expected; one that answers "unavailable" is another matter."""


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


class _Reader(Protocol):
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


@implementer(IClusterAdmin)
class HTTPAdmin:
    """
    A daemon's cluster.

    @ivar url: where it is.
    """

    def __init__(self, url: str, http: HTTPClient, clock: IReactorTime) -> None:
        """
        @param url: as C{http://127.0.0.1:7480}.
        @param http: connections are its own matter; see L{connect} for the usual one.
        @raise InvalidRequest: the URL is none that a daemon can have.
        """
        self.url = _check_url(url)
        self._http = http
        self._clock: Any = clock

    @classmethod
    def connect(cls, reactor: Any, url: str = DEFAULT_URL) -> HTTPAdmin:
        """A client that makes a connection for each request, so that nothing is left between them."""
        from treq.client import HTTPClient

        pool = HTTPConnectionPool(reactor, persistent=False)
        agent: IAgent = Agent(reactor, connectTimeout=CONNECT_S_MAX, pool=pool)
        return cls(url, HTTPClient(agent), reactor)

    # -- IClusterAdmin ----------------------------------------------------------

    def status(self) -> Deferred[list[StatusTree]]:
        """See L{IClusterAdmin.status}."""
        return Deferred.fromCoroutine(self._status())

    async def _status(self) -> list[StatusTree]:
        return trees_from_envelope(await self.envelope())

    def envelope(self) -> Deferred[dict[str, object]]:
        """What C{GET /v1/status} says, as it is."""
        return self._ask("GET", "/v1/status", None, STATUS_S_MAX)

    def initialise(self, storage: str, *, keep: str | None = None, discard: bool = False) -> Deferred[None]:
        """See L{IClusterAdmin.initialise}."""
        body: dict[str, object] = {}
        if keep is not None:
            body["keep"] = keep
        if discard:
            body["discard"] = True
        return self._operate(storage, "initialise", body)

    def suspend(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.suspend}."""
        return self._operate(storage, "suspend", {"node": node})

    def resume(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.resume}."""
        return self._operate(storage, "resume", {"node": node})

    def replace(self, storage: str, node: str, uri: str) -> Deferred[None]:
        """See L{IClusterAdmin.replace}."""
        return self._operate(storage, "replace", {"node": node, "uri": uri})

    def mark_clean(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.mark_clean}."""
        return self._operate(storage, "mark-clean", {"node": node})

    def mark_dirty(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.mark_dirty}."""
        return self._operate(storage, "mark-dirty", {"node": node})

    def take_over(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.take_over}."""
        return self._operate(storage, "take-over", {})

    def resolve(self, storage: str, keep: str) -> Deferred[None]:
        """See L{IClusterAdmin.resolve}."""
        return self._operate(storage, "resolve", {"keep": keep})

    def grow(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.grow}."""
        return self._operate(storage, "grow", {})

    def pause_resync(self, storage: str, node: str | None = None) -> Deferred[None]:
        """See L{IClusterAdmin.pause_resync}."""
        return self._operate(storage, "pause-resync", {} if node is None else {"node": node})

    def resume_resync(self, storage: str, node: str | None = None) -> Deferred[None]:
        """See L{IClusterAdmin.resume_resync}."""
        return self._operate(storage, "resume-resync", {} if node is None else {"node": node})

    def explain(self, name: str | None = None) -> Deferred[list[Explanation]]:
        """See L{IClusterAdmin.explain}."""
        path = "/v1/explain" if name is None else f"/v1/explain/{_segment(name)}"
        return self._ask("GET", path, None, STATUS_S_MAX).addCallback(explanations_from_envelope)

    def resyncs(self, storage: str) -> Deferred[list[ResyncRecord]]:
        """See L{IClusterAdmin.resyncs}."""
        asked = self._ask("GET", f"/v1/storages/{_segment(storage)}/resyncs", None, STATUS_S_MAX)
        return asked.addCallback(resyncs_from_envelope)

    def _operate(self, storage: str, operation: str, body: dict[str, object]) -> Deferred[None]:
        asked = self._ask("POST", f"/v1/storages/{_segment(storage)}/{operation}", body, OPERATION_S_MAX)
        return asked.addCallback(lambda _: None)

    # -- what changes -------------------------------------------------------------

    def follow(self, told: Callable[[list[StatusTree]], None]) -> Deferred[None]:
        """
        Call C{told} with the status now, and again whenever it changes.

        @return: never fires with a result: it fails when the daemon is gone (C{Unavailable}) or cannot tell its
            status; cancel it to end it.
        """
        return Deferred.fromCoroutine(self._follow(told))

    async def _follow(self, told: Callable[[list[StatusTree]], None]) -> None:
        parser = EventParser()
        silence: Deferred[None]

        def receive(data: bytes) -> None:
            timer.reset(SILENCE_S_MAX)
            for event in parser.receive(data):
                value = load_json(event.data)
                if event.kind == "status":
                    told(trees_from_envelope(value))
                elif event.kind == "trouble":
                    raise error_from_json(value) or PeerError(
                        f"the daemon at {self.url} is in trouble it cannot name"
                    )

        response = await self._request("GET", "/v1/events", None, CONNECT_S_MAX * 2)
        if response.code != 200:
            raise self._error(response, await self._content(response))
        reader = _Reader(receive)
        silence = reader.ended
        timer = self._clock.callLater(SILENCE_S_MAX, silence.cancel)
        try:
            response.deliverBody(reader)
            await reader.ended
        except CancelledError:
            if timer.active():
                raise
            raise Unavailable(f"the daemon at {self.url} has said nothing for {SILENCE_S_MAX:g} s") from None
        except (ConnectionClosed, ResponseFailed, PotentialDataLoss) as error:
            raise self._lost(error) from error
        finally:
            reader.stop()
            if timer.active():
                timer.cancel()
        raise Unavailable(f"the daemon at {self.url} has ended the stream of events")

    # -- how --------------------------------------------------------------------

    def _ask(
        self, method: str, path: str, body: dict[str, object] | None, seconds: float
    ) -> Deferred[dict[str, object]]:
        def late(result: object, _: float) -> object:
            if isinstance(result, Failure) and result.check(CancelledError, ConnectingCancelledError):
                raise DeadlinePassed(f"the daemon at {self.url} has not answered in {seconds:g} s")
            return result

        asked = Deferred.fromCoroutine(self._answer(method, path, body))
        return asked.addTimeout(seconds, self._clock, onTimeoutCancel=late)  # type: ignore[arg-type]

    async def _answer(self, method: str, path: str, body: dict[str, object] | None) -> dict[str, object]:
        response = await self._request(method, path, body)
        content = await self._content(response)
        if response.code != 200:
            raise self._error(response, content)
        try:
            answer = load_json(content)
        except InvalidRequest:
            answer = None
        if not isinstance(answer, dict) or "version" not in answer:
            raise self._foreign(response)
        return answer

    async def _request(
        self, method: str, path: str, body: dict[str, object] | None, seconds: float | None = None
    ) -> IResponse:
        options: dict[str, Any] = {}
        if body is not None:
            options["data"] = _Body(json.dumps(body).encode())
            options["headers"] = {"Content-Type": "application/json"}
        try:
            asked = self._http.request(
                method, self.url + path, unbuffered=True, allow_redirects=False, reactor=self._clock, **options
            )
            if seconds is not None:
                asked.addTimeout(seconds, self._clock)
            response: IResponse = await asked
        except CancelledError:
            raise
        except (ConnectError, DNSLookupError) as error:
            why = (
                "connection refused" if "refused" in str(error).lower() else str(error).rstrip(".") or "no connection"
            )
            raise _nobody(self.url, why) from error
        except Exception as error:
            raise self._lost(error) from error
        return response

    async def _content(self, response: IResponse) -> bytes:
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
        reader = _Reader(receive)
        response.deliverBody(reader)
        try:
            await reader.ended
        except (ConnectionClosed, ResponseFailed, PotentialDataLoss) as error:
            raise self._lost(error) from error
        return b"".join(chunks)

    def _error(self, response: IResponse, content: bytes) -> DSTError:
        """What an answer that is not 200 says."""
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

    def _lost(self, error: Exception) -> DSTError:
        reason = error
        if isinstance(error, ResponseFailed) and error.reasons:
            reason = error.reasons[-1].value
        return Unavailable(
            f"the connection to the daemon at {self.url} was lost before it had answered "
            f"({str(reason).rstrip('.') or type(reason).__name__}); what was asked for may or may not have been done"
        )


def _segment(name: str) -> str:
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
