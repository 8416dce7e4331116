"""
The cluster as seen through HTTP: L{dst.interfaces.IClusterAdmin} over treq.

What goes wrong comes back as the error that the daemon raised.  What goes wrong on the way is
C{Unavailable} when there is nobody, C{DeadlinePassed} when there is no answer, and C{PeerError} when the
answer is not DST's.

An operation that takes long is looked at again and again until it has ended, however long that is: as in the daemon
itself, who does not want to wait any more cancels the Deferred, and the operation goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionClosed
from twisted.web.client import ResponseFailed
from twisted.web.http import PotentialDataLoss
from zope.interface import implementer

from dst.admin.codec import from_json
from dst.admin.http_asking import ANSWER_BYTES_MAX, DEFAULT_URL, Asker, NoDaemon, Reader, segment
from dst.admin.in_the_clear import goes_in_the_clear
from dst.admin.reaching import UNIX_SCHEME, Credentials, make_agent, url_and_socket
from dst.admin.routes import shapes
from dst.admin.schema import error_from_code, error_from_json, load_json, trees_from_envelope
from dst.admin.sse import EventParser
from dst.administration import (
    Configuration,
    Event,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationState,
    OperationStatus,
    Plan,
    SessionStatus,
)
from dst.errors import InvalidRequest, NotFound, PeerError, Unavailable
from dst.explaining import Explanation, ResyncRecord, ScrubRecord
from dst.interfaces import IClusterAdmin
from dst.status import StatusTree

if TYPE_CHECKING:
    from treq.client import HTTPClient
    from twisted.internet.interfaces import IReactorTime

__all__ = ["ANSWER_BYTES_MAX", "DEFAULT_URL", "HTTPAdmin", "NoDaemon"]

CONNECT_S_MAX = 5.0
STATUS_S_MAX = 15.0
OPERATION_S_MAX = 75.0
"""For the first answer to an operation: a little more than the daemon allows itself, so that its own words arrive."""

LOOK_S = 20
"""For so long the daemon is asked to wait for the end of an operation before it says that it still goes on."""

EVENTS_AT_ONCE = 5000
"""Events in one answer; there may be more."""

SILENCE_S_MAX = 45.0
"""The daemon says something every 15 s while events are read; after three of those it is gone."""

T = TypeVar("T")


@implementer(IClusterAdmin)
class HTTPAdmin:
    """
    A daemon's cluster.

    @ivar url: where it is.
    """

    def __init__(
        self,
        url: str,
        http: HTTPClient,
        clock: IReactorTime,
        credentials: Credentials | None = None,
        spoken: str | None = None,
    ) -> None:
        """
        @param url: as C{http://127.0.0.1:7480}.
        @param http: connections are its own matter; see L{connect} for the usual one.
        @param credentials: whose token is sent.
        @param spoken: what people call the place, where that is not C{url}.
        @raise InvalidRequest: the URL is none that a daemon can have.
        """
        self._asker = Asker(url, http, clock, None if credentials is None else credentials.headers(), spoken)
        self.url = self._asker.url
        self._clock: Any = clock

    @classmethod
    def connect(cls, reactor: Any, url: str = DEFAULT_URL, credentials: Credentials | None = None) -> HTTPAdmin:
        """
        A client that makes a connection for each request, so that nothing is left between them.

        @param url: as C{http://127.0.0.1:7480}, C{https://host:7480}, or C{unix:/run/dst/admin.sock}.
        @raise InvalidRequest: C{url} is none, or a token would be sent in the clear to another machine.
        """
        from treq.client import HTTPClient

        credentials = credentials or Credentials()
        asked, socket = url_and_socket(url)
        if socket is None and credentials.token is not None and goes_in_the_clear(asked):
            raise InvalidRequest(
                f"the token would go to {asked[:80]} in the clear, and whoever sees it on the way can use it; ask "
                "over https://, or with ssh on the daemon's own machine"
            )
        http = HTTPClient(make_agent(reactor, credentials, socket))
        return cls(asked, http, reactor, credentials, None if socket is None else f"{UNIX_SCHEME}{socket}")

    # -- IClusterAdmin ----------------------------------------------------------

    def status(self) -> Deferred[list[StatusTree]]:
        """See L{IClusterAdmin.status}."""
        return Deferred.fromCoroutine(self._status())

    async def _status(self) -> list[StatusTree]:
        return trees_from_envelope(await self.envelope())

    def envelope(self) -> Deferred[dict[str, object]]:
        """What C{GET /v1/status} says, as it is."""
        asked = self._asker.ask("GET", "/v1/status", None, STATUS_S_MAX)
        return asked.addCallback(lambda answer: answer.value)

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
        path = "/v1/explain" if name is None else f"/v1/explain/{segment(name)}"
        return self._get(path, shapes.Explanations).addCallback(lambda got: list(got.explanations))

    def scrub(self, storage: str, *, repair: bool = True) -> Deferred[None]:
        """See L{IClusterAdmin.scrub}."""
        return self._operate(storage, "scrub", {"repair": repair})

    def stop_scrub(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.stop_scrub}."""
        return self._operate(storage, "stop-scrub", {})

    def scrubs(self, storage: str) -> Deferred[list[ScrubRecord]]:
        """See L{IClusterAdmin.scrubs}."""
        got = self._get(f"/v1/storages/{segment(storage)}/scrubs", shapes.Scrubs)
        return got.addCallback(lambda got: list(got.scrubs))

    def resyncs(self, storage: str) -> Deferred[list[ResyncRecord]]:
        """See L{IClusterAdmin.resyncs}."""
        got = self._get(f"/v1/storages/{segment(storage)}/resyncs", shapes.Resyncs)
        return got.addCallback(lambda got: list(got.resyncs))

    def configuration(self) -> Deferred[Configuration]:
        """See L{IClusterAdmin.configuration}."""
        return self._get("/v1/configuration", shapes.ConfigurationNow).addCallback(
            lambda got: Configuration(got.document, got.etag, got.file, got.writable, got.after_restart)
        )

    def plan(self, document: dict[str, object]) -> Deferred[Plan]:
        """See L{IClusterAdmin.plan}."""
        asked = self._asker.ask("POST", "/v1/configuration/plan", document, STATUS_S_MAX)
        return asked.addCallback(lambda answer: from_json(answer.value, shapes.Planned, "plan")).addCallback(
            lambda got: Plan(got.etag, got.steps)
        )

    def change(self, document: dict[str, object], etag: str | None = None) -> Deferred[OperationStatus]:
        """See L{IClusterAdmin.change}."""
        headers = {"If-Match": "*" if etag is None else f'"{etag}"'}
        asked = self._asker.ask("PUT", "/v1/configuration", document, STATUS_S_MAX, headers)
        return asked.addCallback(lambda answer: from_json(answer.value, shapes.OneOperation, "operation").operation)

    def exports(self) -> Deferred[list[ExportStatus]]:
        """See L{IClusterAdmin.exports}."""
        return self._get("/v1/exports", shapes.Exports).addCallback(lambda got: list(got.exports))

    def listeners(self) -> Deferred[list[ListenerStatus]]:
        """See L{IClusterAdmin.listeners}."""
        return self._get("/v1/listeners", shapes.Listeners).addCallback(lambda got: list(got.listeners))

    def sessions(self) -> Deferred[list[SessionStatus]]:
        """See L{IClusterAdmin.sessions}."""
        return self._get("/v1/sessions", shapes.Sessions).addCallback(lambda got: list(got.sessions))

    def end_session(self, id: str) -> Deferred[None]:
        """See L{IClusterAdmin.end_session}."""
        asked = self._asker.ask("DELETE", f"/v1/sessions/{segment(id)}", None, STATUS_S_MAX)
        return asked.addCallback(lambda _: None)

    def operations(self) -> Deferred[list[OperationStatus]]:
        """See L{IClusterAdmin.operations}."""
        return self._get("/v1/operations", shapes.AllOperations).addCallback(lambda got: list(got.operations))

    def operation(self, id: str) -> Deferred[OperationStatus]:
        """See L{IClusterAdmin.operation}."""
        return self._get(f"/v1/operations/{segment(id)}", shapes.OneOperation).addCallback(lambda got: got.operation)

    def events(self, after: int = 0) -> Deferred[list[Event]]:
        """See L{IClusterAdmin.events}."""
        return Deferred.fromCoroutine(self._events(after))

    async def _events(self, after: int) -> list[Event]:
        found: list[Event] = []
        while True:
            headers = {"Accept": "application/json"}
            path = f"/v1/events?after={after}&limit={EVENTS_AT_ONCE}"
            got = await self._get(path, shapes.Events, headers)
            found += got.events
            if not got.more:
                return found
            after = found[-1].number

    def health(self) -> Deferred[list[HealthFinding]]:
        """See L{IClusterAdmin.health}."""
        return self._get("/v1/health", shapes.Findings).addCallback(lambda got: list(got.findings))

    # -- how ----------------------------------------------------------------------

    def _get(self, path: str, shape: type[T], headers: dict[str, str] | None = None) -> Deferred[T]:
        asked = self._asker.ask("GET", path, None, STATUS_S_MAX, headers)
        return asked.addCallback(lambda answer: from_json(answer.value, shape, f"answer to GET {path}"))

    def _operate(self, storage: str, operation: str, body: dict[str, object]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._operate_to_the_end(storage, operation, body))

    async def _operate_to_the_end(self, storage: str, operation: str, body: dict[str, object]) -> None:
        path = f"/v1/storages/{segment(storage)}/{operation}"
        answer = await self._asker.ask("POST", path, body, OPERATION_S_MAX, {"Prefer": "respond-async"})
        if answer.http_status != 202:
            return
        status = from_json(answer.value, shapes.OneOperation, "operation").operation
        while status.state is OperationState.RUNNING:
            status = await self._look_again(status.id)
        if status.state is OperationState.FAILED:
            raise error_from_code(status.error_code, status.sentence)

    async def _look_again(self, id: str) -> OperationStatus:
        path = f"/v1/operations/{segment(id)}?wait={LOOK_S}"
        try:
            answer = await self._asker.ask("GET", path, None, LOOK_S + STATUS_S_MAX)
        except NotFound as error:
            raise Unavailable(
                f"the daemon at {self.url} does not know any more what became of the operation: it was started "
                "again, and what was asked for may or may not have been done"
            ) from error
        return from_json(answer.value, shapes.OneOperation, "operation").operation

    # -- what changes -------------------------------------------------------------

    def follow(
        self,
        told: Callable[[list[StatusTree]], None],
        happened: Callable[[Event], None] | None = None,
        after: int | None = None,
    ) -> Deferred[None]:
        """
        Call C{told} with the status now, and again whenever it changes.

        @param happened: called with each event of the journal.
        @param after: begin behind the event of this number; C{None}: with those that are to come.
        @return: never fires with a result: it fails when the daemon is gone (C{Unavailable}) or cannot tell its
            status; cancel it to end it.
        """
        return Deferred.fromCoroutine(self._follow(told, happened, after))

    async def _follow(
        self,
        told: Callable[[list[StatusTree]], None],
        happened: Callable[[Event], None] | None,
        after: int | None,
    ) -> None:
        parser = EventParser()
        silence: Deferred[None]

        def receive(data: bytes) -> None:
            timer.reset(SILENCE_S_MAX)
            for event in parser.receive(data):
                value = load_json(event.data)
                if event.kind == "status":
                    told(trees_from_envelope(value))
                elif event.kind == "event" and happened is not None:
                    happened(from_json(value, Event, "event"))
                elif event.kind == "trouble":
                    raise error_from_json(value) or PeerError(
                        f"the daemon at {self.url} is in trouble it cannot name"
                    )

        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        response = await self._asker.request("GET", "/v1/events", None, CONNECT_S_MAX * 2, headers)
        if response.code != 200:
            raise self._asker.error(response, await self._asker.content(response))
        reader = Reader(receive)
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
            raise self._asker.lost(error) from error
        finally:
            reader.stop()
            if timer.active():
                timer.cancel()
        raise Unavailable(f"the daemon at {self.url} has ended the stream of events")
