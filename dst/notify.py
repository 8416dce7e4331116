"""
What the daemon says to the supervisor that started it, in the protocol of C{sd_notify(3)}.

A supervisor that wants to know names a datagram socket in C{NOTIFY_SOCKET}; each datagram is a few
lines C{KEY=value}.  This is all of the protocol that a storage daemon needs::

    READY=1          everything is started: exports are served, a dependent unit may start
    STATUS=...       one line for C{systemctl status}
    STOPPING=1       the daemon ends, and takes its time to drain and flush
    RELOADING=1      the configuration is read again, until the next READY=1
    WATCHDOG=1       the reactor turns; whoever does not say so for WATCHDOG_USEC is killed and started again

Without the variable nothing is sent and nothing costs anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping, Sequence
from time import CLOCK_MONOTONIC, clock_gettime_ns
from typing import TYPE_CHECKING, Final

from attrs import define, field
from twisted.logger import Logger

from dst.cluster.ordered_service import Phase
from dst.status import Health, StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["SENTENCE_BYTES_MAX", "UNSENT_MAX", "Supervisor", "in_one_line", "spoken_status", "supervisor_of"]

_log = Logger()

SEND_S_MAX: Final = 0.05
"""How long a supervisor that is behind with reading may hold up the daemon; the last words are not said twice."""

SENTENCE_BYTES_MAX: Final = 512
"""A status is one line of a terminal or two, and a datagram must not grow with the number of storages."""

UNSENT_MAX: Final = 16
"""Messages kept while its socket is full: it has room for hundreds, and one that is stuck is not fed."""

BEATS_PER_PATIENCE: Final = 3
"""How often the watchdog is fed while it waits: twice is what its manual asks for; once more for a busy turn."""

STATUS_S: Final = 5.0
"""How old the line of C{systemctl status} may be."""


@define
class Supervisor:
    """
    Whoever waits at the other end of C{NOTIFY_SOCKET}.

    L{told} is given to the daemon's service as its observer; the rest follows from that.

    @ivar send: sends one datagram, or raises C{OSError}.
    @ivar watchdog_s: how long it waits for a sign of life before it kills the daemon; C{None}: for ever.
    @ivar describe: one line about the daemon while it runs.
    """

    _clock: IReactorTime
    _send: Callable[[bytes], object]
    _watchdog_s: float | None = None
    _describe: Callable[[], str] = str
    _unsent: list[bytes] = field(init=False, factory=list)
    _beat: IDelayedCall | None = field(init=False, default=None)
    _look: IDelayedCall | None = field(init=False, default=None)
    _status: str = field(init=False, default="")
    _complained: bool = field(init=False, default=False)

    def told(self, phase: Phase, step: str) -> None:
        """The service is in this phase now; an observer of L{dst.cluster.ordered_service.OrderedService}."""
        if phase is Phase.STARTING:
            self._begin_beating()
            self.say(status=f"starting: {step}")
        elif phase is Phase.STARTED:
            self.ready()
        elif phase is Phase.STOPPING:
            _cancel(self._look)
            self.say("STOPPING=1", status=f"stopping: {step}")
        elif phase is Phase.STOPPED:
            _cancel(self._beat)
            _cancel(self._look)
            self._beat = None

    def ready(self) -> None:
        """Everything that the configuration asks for is served; also the end of L{reloading}."""
        _cancel(self._look)
        self._status = in_one_line(self._describe())
        self.say("READY=1", status=self._status)
        self._look = self._clock.callLater(STATUS_S, self._tell_status)

    def reloading(self) -> None:
        """The configuration is being read again; followed by L{ready}, whether that went well or not."""
        monotonic_us = clock_gettime_ns(CLOCK_MONOTONIC) // 1000
        self.say("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}", status="reading the configuration again")

    def say(self, *lines: str, status: str | None = None) -> None:
        """Send one message now, or with the next one if the socket has no room."""
        if status is not None:
            lines = (*lines, f"STATUS={in_one_line(status)}")
        self._unsent.append("\n".join(lines).encode())
        del self._unsent[:-UNSENT_MAX]
        self._send_all()

    def _send_all(self) -> None:
        while self._unsent:
            try:
                self._send(self._unsent[0])
            except (BlockingIOError, TimeoutError):
                return
            except OSError as error:
                self._unsent.clear()
                if not self._complained:
                    self._complained = True
                    _log.warn("the supervisor cannot be told: {reason}", reason=error.strerror or str(error))
                return
            del self._unsent[0]

    # -- while it runs

    def _begin_beating(self) -> None:
        if self._watchdog_s is not None and self._beat is None:
            self._feed()

    def _feed(self) -> None:
        assert self._watchdog_s is not None
        self._beat = self._clock.callLater(self._watchdog_s / BEATS_PER_PATIENCE, self._feed)
        self.say("WATCHDOG=1")

    def _tell_status(self) -> None:
        self._look = self._clock.callLater(STATUS_S, self._tell_status)
        now = in_one_line(self._describe())
        if now != self._status or self._unsent:
            self._status = now
            self.say(status=now)


def supervisor_of(
    clock: IReactorTime,
    environment: MutableMapping[str, str],
    describe: Callable[[], str],
    process_id: int | None = None,
) -> Supervisor | None:
    """
    The supervisor that C{environment} names, if there is one.

    Its variables are taken out: a command that the daemon runs is another process, and speaks for itself.

    @param process_id: this process, if somebody says so; the watchdog may be meant for another one.
    """
    address = environment.pop("NOTIFY_SOCKET", "")
    patience_us = environment.pop("WATCHDOG_USEC", "")
    meant_for = environment.pop("WATCHDOG_PID", "")
    if not address:
        return None
    if address[0] not in "/@":
        _log.warn("NOTIFY_SOCKET is {address}: expected a path or @name; nobody is told", address=address)
        return None
    watchdog_s = None
    for_us = meant_for in ("", str(os.getpid() if process_id is None else process_id))
    if for_us and patience_us.isascii() and patience_us.isdigit() and int(patience_us) > 0:
        watchdog_s = int(patience_us) / 1_000_000
    target = "\0" + address[1:] if address[0] == "@" else address

    def send(message: bytes) -> None:
        # Not kept open: a supervisor that is started again has a new socket at the same place.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_S_MAX)
            sender.sendto(message, target)

    return Supervisor(clock, send, watchdog_s, describe)


def in_one_line(sentence: str) -> str:
    """C{sentence} as one line that is not too long.  What follows a line break would be read as another key."""
    line = " ".join("".join(c if c.isprintable() else " " for c in sentence).split())
    encoded = line.encode("utf-8", "replace")
    if len(encoded) <= SENTENCE_BYTES_MAX:
        return encoded.decode("utf-8")
    return encoded[: SENTENCE_BYTES_MAX - 3].decode("utf-8", "ignore") + "..."


def spoken_status(trees: Sequence[StatusTree]) -> str:
    """How the storages are: C{"3 storages: 2 healthy; vol degraded"}."""
    if not trees:
        return "nothing to serve"
    ill = [tree for tree in trees if tree.health is not Health.HEALTHY]
    number = "1 device" if len(trees) == 1 else f"{len(trees)} devices"
    if not ill:
        return f"{number}, healthy"
    details = [f"{tree.name} {tree.health.value}" + (f" ({tree.reason})" if tree.reason else "") for tree in ill]
    return f"{number}, {len(trees) - len(ill)} healthy; {'; '.join(details)}"


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
