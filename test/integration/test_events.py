"""Events over real sockets, and over the death of the daemon that tells them."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from dst.admin.client import HTTPAdmin
from dst.administration import Event, OperationState
from dst.errors import Unavailable
from test.integration.cluster import free_ports, soon
from test.integration.daemon_process import DaemonProcess

TOPOLOGY = """
[daemon]
state_dir = "state"
admin = "tcp:{admin}:interface=127.0.0.1"
[nodes.a]
uri = "file:a.img?size=8M"
[nodes.b]
uri = "file:b.img?size=8M"
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b"]
"""


class EventsTests(TestCase):
    """Who names the last number that they have seen misses nothing that is known, and hears nothing twice."""

    timeout = 90.0

    async def setUp(self) -> None:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.topology = directory / "dst.toml"
        (port,) = free_ports(1)
        self.topology.write_text(TOPOLOGY.format(admin=port))
        self.admin = HTTPAdmin.connect(reactor, f"http://127.0.0.1:{port}")
        self.happened: list[Event] = []

    def follow(self, after: int | None = None) -> Deferred[None]:
        """Read events until it is cancelled, or the daemon dies."""
        following = self.admin.follow(lambda trees: None, self.happened.append, after)
        following.addErrback(lambda failure: failure.trap(Unavailable, CancelledError))
        self.addCleanup(following.cancel)
        return following

    async def heard(self, words: str) -> Event:
        """The event that says so, as soon as it has been heard."""

        async def look() -> Event | None:
            return next((event for event in self.happened if words in event.sentence), None)

        return await soon(look, lambda: f"nothing says {words!r}: {[event.sentence for event in self.happened]}")

    async def start(self) -> DaemonProcess:
        daemon = DaemonProcess(self, "--config", str(self.topology))
        await daemon.started
        return daemon

    async def test_over_a_restart(self) -> None:
        """The daemon is killed in the middle; afterwards the numbers go on, and so does who follows them."""
        daemon = await self.start()
        following = self.follow(0)
        await self.heard("vol is healthy")
        await self.admin.suspend("vol", "b")
        await self.heard("suspend")
        await daemon.kill()
        await following
        last = self.happened[-1].number
        before = len(self.happened)
        await self.start()
        self.follow(last)
        await self.admin.resume("vol", "b")
        await self.heard("resume")
        numbers = [event.number for event in self.happened]
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertGreater(self.happened[before].number, last)
        listed = await self.admin.events(last)
        self.assertEqual(self.happened[before:], listed[: len(self.happened) - before])
        operations = await self.admin.operations()
        self.assertEqual([("resume", OperationState.DONE)], [(each.kind, each.state) for each in operations])
