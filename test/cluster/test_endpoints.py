"""Tests of L{dst.cluster.endpoints}."""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.endpoints import BACKLOG, absolute_endpoint, with_backlog, wrong_with_endpoint


class PathTests(SynchronousTestCase):
    """Paths are relative to the file that names them."""

    def test_absolute(self) -> None:
        """That of a UNIX listener becomes absolute, wherever it stands and with what an endpoint string escapes."""
        for text, expected in [
            ("unix:nbd.sock", "unix:/ba\\:se/nbd.sock"),
            ("unix:address=nbd.sock:mode=600", "unix:address=/ba\\:se/nbd.sock:mode=600"),
            ("unix:mode=600:address=nbd.sock", "unix:mode=600:address=/ba\\:se/nbd.sock"),
            ("unix:mode=600:a\\:b\\=c.sock", "unix:mode=600:/ba\\:se/a\\:b\\=c.sock"),
            ("unix:/run/nbd.sock", "unix:/run/nbd.sock"),
            ("unix:address=/run/nbd.sock", "unix:address=/run/nbd.sock"),
            ("tcp:10809", "tcp:10809"),
            ("tls:certificates:7450", "tls:certificates:7450"),
        ]:
            self.assertEqual(expected, absolute_endpoint(text, "/ba:se"))


class BacklogTests(SynchronousTestCase):
    """How many clients the kernel keeps waiting."""

    def backlog(self, description: str) -> int:
        """What the reactor is asked for."""
        reactor = MemoryReactorClock()
        endpoint = serverFromString(cast(Any, reactor), with_backlog(description))
        self.successResultOf(endpoint.listen(Factory()))
        if reactor.unixServers:
            return int(reactor.unixServers[0][2])
        return int(reactor.tcpServers[0][2])

    def test_not_said(self) -> None:
        """It is as large as ours where the description says nothing of it, whatever else it says."""
        for text in (
            "unix:/s",
            "unix:/s\\:backlog\\=3:mode=600",
            "unix:mode=600:address=/s",
            "unix:/s:600",
            "tcp:1",
            "tcp:1:127.0.0.1",
            "tcp:interface=127.0.0.1:port=1",
            "tcp6:1:interface=\\:\\:1",
        ):
            self.assertEqual(BACKLOG, self.backlog(text), text)

    def test_said(self) -> None:
        """What the description says is what is done, with its key or at its place."""
        for text in (
            "unix:/s:backlog=7",
            "unix:backlog=7:address=/s",
            "unix:/s:600:7",
            "tcp:1:127.0.0.1:7",
            "tcp:1:backlog=7",
            "tcp6:1:7",
        ):
            self.assertEqual(7, self.backlog(text), text)

    def test_kinds_that_do_more(self) -> None:
        """Kinds that read files, or believe clients, are refused without being looked at any closer."""
        directory = self.mktemp()
        os.mkdir(directory)
        pipe = os.path.join(directory, "pipe")
        os.mkfifo(pipe)  # to read it would wait for ever
        for text in (
            f"ssl:443:privateKey={pipe}:interface=127.0.0.1",
            f"tls:{directory}:tcp:443",
            "haproxy:tcp:7480:interface=127.0.0.1",
            "stdio:",
            "SSL:443",
            "t\\cp:7450",
        ):
            self.assertIn("is of no kind that is known here", wrong_with_endpoint(text), text)
        self.assertEqual("", wrong_with_endpoint("tcp6:7450:interface=\\:\\:1"))

    def test_others(self) -> None:
        """Kinds of endpoints that we do not know are left as they are."""
        for text in ("tls:certificates:7450", "systemd:domain=INET:index=0"):
            self.assertEqual(text, with_backlog(text))
