"""A daemon in a process of its own, for tests."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from dst.interfaces import INode
from dst.status import LinkState

__all__ = ["DaemonProcess", "until_ready"]

ROOT = Path(__file__).resolve().parents[2]

START_S_MAX = 60.0
"""A machine that is busy with other tests is slow; one that needs longer has another problem."""

_LISTENS = re.compile(r"(\w+) listens at (\S+):(\d+)")

RUNNERS = {
    "twistd": "from twisted.scripts.twistd import run; run()",
    "twist": "from twisted.application.twist._twist import Twist; Twist.main()",
}


def until_ready(node: INode) -> Deferred[INode]:
    """Fires when C{node} can be used."""
    ready: Deferred[INode] = Deferred()

    def look(node: INode) -> None:
        if node.link is LinkState.READY and not ready.called:
            stop()
            ready.callback(node)

    stop = node.observe(look)
    look(node)
    return ready


class DaemonProcess(ProcessProtocol):
    """
    C{twistd -n dst ...}, killed at the end of the test if it is still there.

    @ivar output: what it wrote, so far, to standard output.
    @ivar errors: the same of standard error.
    @ivar ports: where it listens, by protocol; known when L{started} has fired.
    @ivar ended: fires with the exit status, or the negative number of the signal.
    """

    def __init__(self, case: Any, *arguments: str, runner: str = "twistd", **variables: str) -> None:
        """
        @param arguments: what stands behind C{dst}.
        @param runner: C{"twistd"} or C{"twist"}.
        @param variables: of its environment, besides those of this process.
        """
        self.output = ""
        self.errors = ""
        self.ports: dict[str, int] = {}
        self.started: Deferred[DaemonProcess] = Deferred()
        self.ended: Deferred[int] = Deferred()
        before = ("--nodaemon", "--pidfile=") if runner == "twistd" else ()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
        directory = os.path.abspath(case.mktemp())
        os.makedirs(directory)
        command = [sys.executable, "-c", RUNNERS[runner], *before, "dst", *arguments]
        self._process = reactor.spawnProcess(self, command[0], command, environment, directory)
        self._exit: int | None = None
        self._patience = reactor.callLater(START_S_MAX, self._too_slow)
        case.addCleanup(self.kill)

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode("utf-8", "replace")
        self.ports.update({what: int(port) for what, _, port in _LISTENS.findall(self.output)})
        if "everything is started" in self.output and not self.started.called:
            self._patience.cancel()
            self.started.callback(self)

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode("utf-8", "replace")
        if "everything is started" in self.errors:  # twist logs there
            self.outReceived(data)

    def processEnded(self, reason: Failure) -> None:
        status = reason.value.status
        self._exit = os.waitstatus_to_exitcode(status)
        if self._patience.active():
            self._patience.cancel()
        if not self.started.called:
            self.started.errback(RuntimeError(f"it ended with {self._exit}: {self.errors}\n{self.output}"))
            self.started.addErrback(lambda _: None)
        self.ended.callback(self._exit)

    def _too_slow(self) -> None:
        self.started.errback(RuntimeError(f"not started after {START_S_MAX} s: {self.errors}\n{self.output}"))
        self._process.signalProcess("KILL")

    @property
    def process_id(self) -> int:
        """Of the process, while it lives."""
        return int(self._process.pid)

    def signal(self, number: int) -> Deferred[int]:
        """Send a signal; fires when the process has ended."""
        if self._exit is None:
            os.kill(self._process.pid, number)
        return self.ended

    def stop(self) -> Deferred[int]:
        """Ask it to end in order."""
        return self.signal(signal.SIGTERM)

    def kill(self) -> Deferred[int]:
        """End it now."""
        return self.signal(signal.SIGKILL)
