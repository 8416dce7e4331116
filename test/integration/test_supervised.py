"""The daemon under a supervisor: what it tells of itself, and when."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from textwrap import dedent

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from test.integration.daemon_process import DaemonProcess

TOPOLOGY = """\
    [daemon]
    state_dir = "state"
    [listeners]
    nbd = "tcp:0:interface=127.0.0.1"
    [nodes.a]
    uri = "file:a.img?size=16M"
    [nodes.b]
    uri = "file:b.img?size=16M"
    [storages.vol]
    algorithm = "mirror"
    nodes = ["a", "b"]
    [exports.vol]
    device = "vol"
    """

STEPS_MAX = 600
"""How often the socket is looked at, 50 ms apart."""


class SupervisedTests(TestCase):
    """C{twistd -n dst} with a socket in C{NOTIFY_SOCKET}, as C{Type=notify} starts it."""

    timeout = 120

    def setUp(self) -> None:
        """A supervisor's socket; its path has to be short, and trial's directories are not."""
        self.directory = tempfile.mkdtemp(prefix="dst-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.supervisor.close)
        self.supervisor.bind(os.path.join(self.directory, "notify"))
        self.supervisor.setblocking(False)
        self.messages: list[str] = []

    def daemon(self, text: str = TOPOLOGY) -> DaemonProcess:
        """A daemon that is watched."""
        path = os.path.join(self.directory, "dst.toml")
        with open(path, "w") as target:
            target.write(dedent(text))
        return DaemonProcess(
            self, "--config", path, NOTIFY_SOCKET=self.supervisor.getsockname(), WATCHDOG_USEC="3000000"
        )

    def receive(self) -> None:
        """What has come."""
        while True:
            try:
                self.messages.append(self.supervisor.recv(65536).decode())
            except BlockingIOError:
                return

    async def until(self, *words: str) -> int:
        """Wait until a message has all of these lines; @return: its number."""
        for _ in range(STEPS_MAX):
            self.receive()
            for number, message in enumerate(self.messages):
                if set(words) <= set(message.split("\n")):
                    return number
            await deferLater(reactor, 0.05)
        raise AssertionError(f"{words} did not come: {self.messages}")

    async def test_life(self) -> None:
        """
        It is ready once its exports can be used, its line says how the storages are, the watchdog is fed, and the
        end is announced before the last message.
        """
        daemon = self.daemon()
        ready = await self.until("READY=1")
        await daemon.started
        with socket.create_connection(("127.0.0.1", daemon.ports["nbd"])) as client:
            self.assertTrue(client.recv(8))
        self.assertIn("STATUS=starting: storages", self.messages[:ready])
        await self.until("STATUS=1 device, healthy")
        self.messages.clear()
        await self.until("WATCHDOG=1")
        self.messages.clear()
        await self.until("WATCHDOG=1")
        await daemon.stop()
        self.receive()
        self.assertIn("STOPPING=1\nSTATUS=stopping: exports", self.messages)
        self.assertEqual("", daemon.errors)

    async def test_reload(self) -> None:
        """SIGHUP is a reload with a beginning and an end, also when the file has become unusable."""
        daemon = self.daemon()
        await self.until("READY=1")
        path = os.path.join(self.directory, "dst.toml")
        for text in (dedent(TOPOLOGY) + '[exports.again]\ndevice = "vol"\nread_only = true\n', "nonsense"):
            self.messages.clear()
            with open(path, "w") as target:
                target.write(text)
            os.kill(daemon.process_id, signal.SIGHUP)
            reloading = await self.until("RELOADING=1")
            self.messages = self.messages[reloading + 1 :]
            await self.until("READY=1")
        await daemon.stop()
        self.assertIn("the configuration was read again", daemon.output)
        self.assertIn("the configuration stays as it was", daemon.output)

    async def test_failed_start(self) -> None:
        """A start that fails is never ready, and its last line says why."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            daemon = self.daemon(TOPOLOGY.replace("tcp:0", f"tcp:{port}"))
            await self.until(
                f"STATUS=could not start: cannot listen for nbd at tcp:{port}:interface=127.0.0.1: Address already "
                "in use; stop what is there, or give this daemon another address"
            )
            self.assertEqual(1, await daemon.ended)
        self.assertEqual([], [message for message in self.messages if "READY=1" in message])
