"""Tests of L{dst.notify}."""

from __future__ import annotations

import errno

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.ordered_service import OrderedService, Step
from dst.notify import SENTENCE_BYTES_MAX, UNSENT_MAX, Supervisor, in_one_line, spoken_status, supervisor_of
from dst.status import Health, StatusTree


def tree(name: str, health: Health = Health.HEALTHY, reason: str = "") -> StatusTree:
    """The status of a storage."""
    return StatusTree(name=name, kind="mirror", size=1 << 20, state="ready", health=health, reason=reason)


class Socket:
    """The supervisor's end: it has room, or not, or is gone."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.error: OSError | None = None

    def send(self, message: bytes) -> None:
        """One datagram."""
        if self.error is not None:
            raise self.error
        self.received.append(message)

    def taken(self) -> list[bytes]:
        """What has come since the last time."""
        taken, self.received = self.received, []
        return taken


class LifeTests(SynchronousTestCase):
    """What is said from the start to the end."""

    def setUp(self) -> None:
        """A service of two steps, and a supervisor that waits 30 seconds for a sign of life."""
        self.clock = Clock()
        self.socket = Socket()
        self.line = "1 device, healthy"
        self.opening: Deferred[None] = Deferred()
        self.supervisor = Supervisor(self.clock, self.socket.send, 30.0, lambda: self.line)
        self.service = OrderedService(
            self.clock,
            [
                Step("nodes", lambda: self.opening, lambda: succeed(None), 1.0),
                Step("exports", lambda: succeed(None), lambda: succeed(None), 1.0),
            ],
        )
        self.service.observe(self.supervisor.told)

    def test_life(self) -> None:
        """It is ready when the last step has started and not before; the end is announced before anything stops."""
        self.service.startService()
        self.assertEqual([b"WATCHDOG=1", b"STATUS=starting: nodes"], self.socket.taken())
        self.opening.callback(None)
        self.assertEqual([b"STATUS=starting: exports", b"READY=1\nSTATUS=1 device, healthy"], self.socket.taken())
        self.service.stopService()
        self.assertEqual(
            [b"STOPPING=1\nSTATUS=stopping: exports", b"STOPPING=1\nSTATUS=stopping: nodes"], self.socket.taken()
        )
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_watchdog(self) -> None:
        """The watchdog is fed three times in its patience, from the first step on, as long as the reactor turns."""
        self.service.startService()
        self.socket.taken()
        for _ in range(9):
            self.clock.advance(10)
            self.assertEqual([b"WATCHDOG=1"], self.socket.taken())

    def test_status(self) -> None:
        """What becomes of the storages is told within seconds, and only then."""
        self.service.startService()
        self.opening.callback(None)
        self.socket.taken()
        self.clock.advance(6)
        self.assertEqual([], self.socket.taken())
        self.line = "1 device, 0 healthy; vol degraded"
        self.clock.pump([3, 3])
        self.assertIn(b"STATUS=1 device, 0 healthy; vol degraded", self.socket.taken())

    def test_reload(self) -> None:
        """A reload has a beginning, with the time that the supervisor asks for, and an end."""
        self.service.startService()
        self.opening.callback(None)
        self.socket.taken()
        self.supervisor.reloading()
        self.supervisor.ready()
        reloading, ready = self.socket.taken()
        self.assertRegex(reloading, rb"\ARELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+\nSTATUS=")
        self.assertEqual(b"READY=1\nSTATUS=1 device, healthy", ready)
        self.service.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())


class SocketTests(SynchronousTestCase):
    """A supervisor that does not listen as it should."""

    def setUp(self) -> None:
        """One without a watchdog."""
        self.clock = Clock()
        self.socket = Socket()
        self.supervisor = Supervisor(self.clock, self.socket.send)

    def test_full(self) -> None:
        """What does not fit now is sent later, in order; it is bounded, and the newest is kept."""
        self.socket.error = BlockingIOError(errno.EAGAIN, "full")
        for number in range(UNSENT_MAX + 5):
            self.supervisor.say(f"N={number}")
        self.socket.error = None
        self.supervisor.say("READY=1")
        expected = [f"N={number}".encode() for number in range(6, UNSENT_MAX + 5)]
        self.assertEqual([*expected, b"READY=1"], self.socket.taken())

    def test_ready_is_sent_again(self) -> None:
        """The word that a start waits for is not lost because the socket was full."""
        self.socket.error = BlockingIOError(errno.EAGAIN, "full")
        self.supervisor.ready()
        self.socket.error = None
        self.clock.advance(6)
        self.assertEqual(b"READY=1\nSTATUS=", self.socket.taken()[0])

    def test_gone(self) -> None:
        """A supervisor that is gone is no reason to stop, and nothing is kept for it."""
        self.socket.error = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        self.supervisor.say("READY=1")
        self.socket.error = None
        self.supervisor.say("WATCHDOG=1")
        self.assertEqual([b"WATCHDOG=1"], self.socket.taken())


class EnvironmentTests(SynchronousTestCase):
    """Who is told is in the environment."""

    def supervisor(self, **environment: str) -> Supervisor | None:
        """The one that these variables name, in process 7."""
        self.environment = dict(environment, PATH="/bin")
        return supervisor_of(Clock(), self.environment, str, 7)

    def beats(self, supervisor: Supervisor | None) -> bool:
        """Whether its watchdog is fed."""
        assert supervisor is not None
        return supervisor._watchdog_s is not None

    def test_nobody(self) -> None:
        """Without the variable there is nobody, nor with a value that is no socket."""
        self.assertIs(None, self.supervisor())
        self.assertIs(None, self.supervisor(NOTIFY_SOCKET="vsock:2:1234"))

    def test_not_inherited(self) -> None:
        """Commands that the daemon runs do not speak in its name."""
        self.supervisor(NOTIFY_SOCKET="/nowhere", WATCHDOG_USEC="1000000", WATCHDOG_PID="7")
        self.assertEqual({"PATH": "/bin"}, self.environment)

    def test_watchdog(self) -> None:
        """A watchdog that is meant for another process, or whose patience is no number, is not fed."""
        self.assertTrue(self.beats(self.supervisor(NOTIFY_SOCKET="@x", WATCHDOG_USEC="1000000")))
        self.assertTrue(self.beats(self.supervisor(NOTIFY_SOCKET="@x", WATCHDOG_USEC="1000000", WATCHDOG_PID="7")))
        self.assertFalse(self.beats(self.supervisor(NOTIFY_SOCKET="@x", WATCHDOG_USEC="1000000", WATCHDOG_PID="8")))
        for patience in ("", "0", "-1", "soon", "\u0661"):
            self.assertFalse(self.beats(self.supervisor(NOTIFY_SOCKET="@x", WATCHDOG_USEC=patience)), patience)


class SentenceTests(SynchronousTestCase):
    """The line for C{systemctl status}."""

    def test_injection(self) -> None:
        """A reason with a line break in it cannot become another message."""
        self.assertEqual("a READY=1 b", in_one_line("a\nREADY=1\r\n\x00b"))

    def test_long(self) -> None:
        """It is cut between letters, and stays text."""
        line = in_one_line("ä" * 4096)
        self.assertLessEqual(len(line.encode()), SENTENCE_BYTES_MAX)
        self.assertTrue(line.endswith("ä..."))

    def test_words(self) -> None:
        """What is not well is named with its reason."""
        self.assertEqual("nothing to serve", spoken_status([]))
        self.assertEqual("1 device, healthy", spoken_status([tree("a")]))
        self.assertEqual(
            "2 devices, 1 healthy; vol degraded (b absent)",
            spoken_status([tree("a"), tree("vol", Health.DEGRADED, "b absent")]),
        )
