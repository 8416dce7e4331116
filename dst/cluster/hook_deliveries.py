"""
How one event gets to a program or a URL.

A program is run without a shell, with nothing of the daemon's environment but C{PATH} and C{LANG}, and with the event
on its standard input.  A URL is posted to, and only its status is looked at: redirects are not followed, an answer is
not read beyond what is needed to keep the connection in order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.http_headers import Headers

from dst.cluster.hook_specs import HookSpec
from dst.errors import ConfigurationError, DSTError, InvalidRequest, Unavailable

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

__all__ = ["HEADER_FILE_BYTES_MAX", "OUTPUT_BYTES_MAX", "Deliveries"]

OUTPUT_BYTES_MAX: Final = 2048
"""What a program says is put into a sentence when it fails; nobody needs more of it."""

ANSWER_BYTES_MAX: Final = 64 * 1024
"""What a server answers means nothing here; one that goes on and on is cut off."""

HEADER_FILE_BYTES_MAX: Final = 16 * 1024

KILL_S: Final = 2.0
"""Between asking a program to end and ending it."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Deliveries:
    """Delivers to both; see L{dst.cluster.hooks.Deliver}."""

    def __init__(self, reactor: Any, absolute: Callable[[str], str]) -> None:
        """
        @param absolute: makes a path of the topology absolute.
        """
        self._reactor = reactor
        self._absolute = absolute
        # No connection is kept: events are rare, and a connection that broke meanwhile costs one.
        self._agent = Agent(reactor, connectTimeout=10.0, pool=HTTPConnectionPool(reactor, persistent=False))

    def __call__(self, spec: HookSpec, body: bytes) -> Deferred[None]:
        """Deliver."""
        if spec.command:
            return _Running(self._reactor, spec, body).done
        return Deferred.fromCoroutine(self._post(spec, body))

    async def _post(self, spec: HookSpec, body: bytes) -> None:
        headers = Headers({b"Content-Type": [b"application/json"], b"User-Agent": [b"dst"]})
        for name, value in self._headers_of(spec):
            headers.setRawHeaders(name, [value])
        try:
            asking = self._agent.request(b"POST", spec.url.encode(), headers, FileBodyProducer(BytesIO(body)))
            response: Any = await asking.addTimeout(spec.timeout_s, self._reactor)
            drained: Deferred[None] = Deferred()
            response.deliverBody(_Drain(drained))
            drained.addTimeout(spec.timeout_s, self._reactor)
            drained.addErrback(lambda failure: failure.trap(TimeoutError) and None)
            await drained
        except CancelledError:
            raise
        except TimeoutError:
            raise Unavailable(f"it did not answer within {spec.timeout_s:g} s") from None
        except DSTError:
            raise
        except Exception as error:  # whatever a network can do
            if any(each.check(CancelledError) for each in getattr(error, "reasons", ())):
                raise Unavailable(f"it did not answer within {spec.timeout_s:g} s") from None
            raise Unavailable(_reason(error)) from error
        code = response.code
        if code >= 500 or code in (408, 425, 429):
            raise Unavailable(f"it answered {code}")
        if not 200 <= code < 300:
            raise InvalidRequest(f"it answered {code}; the event is not posted again")

    def _headers_of(self, spec: HookSpec) -> list[tuple[bytes, bytes]]:
        """Read each time: a secret may have been exchanged."""
        if not spec.header_file:
            return []
        path = self._absolute(spec.header_file)
        try:
            with open(path, "rb") as file:
                text = file.read(HEADER_FILE_BYTES_MAX + 1)
        except OSError as error:
            raise ConfigurationError(f"its header_file {path} cannot be read: {error.strerror}") from None
        headers = []
        for line in text.splitlines():
            name, colon, value = line.partition(b":")
            if line.strip():
                if not colon or not name.strip() or len(text) > HEADER_FILE_BYTES_MAX:
                    raise ConfigurationError(f"its header_file {path} has a line that is no header")
                headers.append((name.strip(), value.strip()))
        return headers


class _Drain(Protocol):
    """Reads an answer to its end, or cuts it off."""

    def __init__(self, done: Deferred[None]) -> None:
        self._done = done
        self._left = ANSWER_BYTES_MAX

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0 and self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._done.called:
            self._done.callback(None)


class _Running(ProcessProtocol):
    """One program."""

    def __init__(self, reactor: Any, spec: HookSpec, body: bytes) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._kill())
        self._reactor = reactor
        self._spec = spec
        self._body = body
        self._output = b""
        self._late = False
        self._patience: IDelayedCall | None = None
        environment = {"PATH": _PATH, "LANG": os.environ.get("LANG", "C.UTF-8")}
        try:
            reactor.spawnProcess(
                self, spec.command[0], list(spec.command), environment, "/", childFDs={0: "w", 1: "r", 2: "r"}
            )
        except OSError as error:
            self.done.errback(Unavailable(f"it could not be started: {error.strerror}"))

    # What Twisted calls

    def connectionMade(self) -> None:
        self._patience = self._reactor.callLater(self._spec.timeout_s, self._too_long)
        assert self.transport is not None
        self.transport.write(self._body)
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output = (self._output + data)[-OUTPUT_BYTES_MAX:]

    def processExited(self, reason: Failure) -> None:
        # Not processEnded: something that it has left behind may keep its output open for ever.
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        assert self.transport is not None
        self.transport.loseConnection()
        if self.done.called:
            return
        if self._late:
            self.done.errback(InvalidRequest(f"it did not end within {self._spec.timeout_s:g} s"))
        elif reason.check(ProcessDone):
            self.done.callback(None)
        else:
            said = " ".join(self._output.decode("utf-8", "replace").split())
            said = "".join(each for each in said if each.isprintable())[-200:]
            end = getattr(reason.value, "exitCode", None)
            how = f"it ended with the status {end}" if end is not None else "it was killed"
            self.done.errback(InvalidRequest(how + (f" and said: {said}" if said else "")))

    # What it costs to wait

    def _too_long(self) -> None:
        self._late = True
        self._signal("TERM")
        self._patience = self._reactor.callLater(KILL_S, self._kill)

    def _kill(self) -> None:
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        transport: Any = self.transport
        try:
            transport.signalProcess(name)
        except Exception:
            pass  # it has ended, and this will be told in a moment


def _reason(error: Exception) -> str:
    """Of whatever Twisted's agent fails with; a certificate's fault is inside of it."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        inner = reasons[0].value
        return f"{type(inner).__name__}: {inner}"[:300]
    return f"{type(error).__name__}: {error}"[:300]
