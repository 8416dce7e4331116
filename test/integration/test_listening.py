"""Many clients that come at the same moment."""

from __future__ import annotations

import shutil
import socket
import tempfile

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.cluster.assembly import running
from dst.cluster.topology import export, memory, topology

CLIENTS = 64


class CrowdTests(TestCase):
    """The kernel keeps them until they are accepted."""

    timeout = 60

    async def test_sixty_four_at_once(self) -> None:
        """A UNIX listener refuses none of sixty-four that connect before it has had a turn, and greets them all."""
        directory = tempfile.mkdtemp(prefix="dst-")  # a socket's path is short
        self.addCleanup(shutil.rmtree, directory)
        described = topology(export(memory("1M", name="vol")), nbd="unix:nbd.sock", base_dir=directory)
        async with running(described, reactor):
            clients = []
            for _ in range(CLIENTS):
                client = socket.socket(socket.AF_UNIX)
                self.addCleanup(client.close)
                client.setblocking(False)
                client.connect(f"{directory}/nbd.sock")  # BlockingIOError where the backlog is full
                clients.append(client)
            waiting = clients
            while waiting:
                await deferLater(reactor, 0)
                waiting = [client for client in waiting if not self.greeted(client)]
            for client in clients:
                client.close()

    def greeted(self, client: socket.socket) -> bool:
        """The server has said who it is."""
        try:
            greeting = client.recv(18)
        except BlockingIOError:
            return False
        self.assertEqual(b"NBDMAGICIHAVEOPT", greeting[:16])
        return True
