"""The C{dst} command as a process, against a daemon's interface on a real socket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase

from dst.admin.client import HTTPAdmin
from dst.admin.site import make_site
from dst.errors import NotFound, Unavailable
from dst.testing.fake_admin import FakeAdmin
from test.integration.test_nbd_tools import short_socket

COMMAND = "from dst.admin.cli import main; main()"


class _Watching(ProcessProtocol):
    """C{dst watch}, which is interrupted when it has said enough."""

    def __init__(self, enough: bytes, number: int = signal.SIGINT) -> None:
        self.enough = enough
        self.number = number
        self.said = b""
        self.interrupted = False
        self.ended: Deferred[int] = Deferred()
        self.heard: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.said += data
        if b"vol/c: in-sync" in self.said and not self.heard.called:
            self.heard.callback(None)
        if self.enough in self.said and not self.interrupted:
            self.interrupted = True  # a second one would hit a process that is ending already
            self.transport.signalProcess(self.number)

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(reason.value.exitCode)


class CommandTests(TestCase):
    """L{dst.admin.cli.main}"""

    timeout = 60

    async def setUp(self) -> None:
        self.fake = FakeAdmin()
        self.site = make_site(self.fake, clock=reactor)
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.site)
        self.url = f"http://127.0.0.1:{self.port.getHost().port}"

    async def tearDown(self) -> None:
        await maybeDeferred(self.port.stopListening)  # nothing to wait for where the test stopped it
        await self.site.close()

    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("DST_")}
        return {
            **inherited,
            "DST_URL": self.url,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONIOENCODING": "utf-8",
        }

    async def dst(self, *arguments: str) -> tuple[str, str, int]:
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-c", COMMAND, *arguments], env=self.environment(), reactor=reactor
        )
        return out.decode(), err.decode(), code

    async def test_status(self) -> None:
        """The tree for people, and JSON for scripts."""
        out, err, code = await self.dst("status")
        self.assertEqual((0, ""), (code, err))
        self.assertIn("└─ c", out)
        out, err, code = await self.dst("status", "--json", "--exit-code")
        self.assertEqual((3, ""), (code, err))
        self.assertEqual("frozen", json.loads(out)["health"])

    async def test_operation(self) -> None:
        """An operation reaches the daemon, and its refusal comes back."""
        self.assertEqual(0, (await self.dst("suspend", "vol", "b"))[2])
        self.assertEqual([("suspend", "vol", "b")], self.fake.calls)
        out, err, code = await self.dst("suspend", "nothing", "b")
        self.assertEqual((1, ""), (code, out))
        self.assertTrue(err.startswith("error: there is no storage 'nothing' here\n  try: "), err)

    async def test_nobody_there(self) -> None:
        """Where no daemon answers there is one sentence, and what to do."""
        await self.port.stopListening()
        out, err, code = await self.dst("status")
        self.assertEqual((5, ""), (code, out))
        self.assertIn(f"no daemon answers at {self.url} (connection refused)", err)
        self.assertIn("try: start it", err)
        self.assertNotIn("Traceback", err)

    async def test_choice(self) -> None:
        """What asks and then acts does both against a real daemon; without a terminal it wants --yes."""
        self.fake.diverged.add("vol")
        out, err, code = await self.dst("storage", "resolve", "vol", "--keep", "a")
        self.assertEqual((1, ""), (code, out))
        self.assertIn("lost for ever", err)
        self.assertIn("nothing was done", err)
        self.assertEqual([], self.fake.calls)
        out, err, code = await self.dst("storage", "resolve", "vol", "--keep", "a", "--yes")
        self.assertEqual(0, code, err)
        self.assertEqual([("resolve", "vol", "a")], self.fake.calls)

    async def complete(self, *words: str, url: str | None = None) -> list[str]:
        """What bash would be told behind C{words}."""
        environment = {
            **self.environment(),
            "_DST_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("dst", *words)) + " ",
            "COMP_CWORD": str(1 + len(words)),
        }
        if url is not None:
            environment["DST_URL"] = url
        out, err, _ = await getProcessOutputAndValue(
            sys.executable, ["-c", COMMAND], env=environment, reactor=reactor
        )
        self.assertEqual("", err.decode())
        return [line.partition(",")[2] for line in out.decode().splitlines() if line]

    async def test_completion(self) -> None:
        """Names are those that the daemon has, where they belong."""
        self.assertEqual(["fresh", "vol"], await self.complete("storage", "show"))
        self.assertEqual(["a", "b", "c"], await self.complete("suspend", "vol"))
        self.assertEqual(["a", "b", "c", "spare", "x", "y"], await self.complete("node", "show"))
        self.assertEqual(["vol"], await self.complete("export", "show"))
        self.assertIn("status", await self.complete())

    async def test_completion_at_a_socket(self) -> None:
        """The daemon may be at a UNIX socket, where it is when it was installed."""
        path = short_socket(self)
        port = reactor.listenUNIX(path, self.site)
        self.addCleanup(port.stopListening)
        self.assertEqual(["fresh", "vol"], await self.complete("storage", "show", url=f"unix:{path}"))

    async def test_completion_without_a_daemon(self) -> None:
        """Where nobody answers, nothing is completed, and nothing said."""
        self.assertEqual([], await self.complete("storage", "show", url="http://127.0.0.1:1"))
        self.assertEqual([], await self.complete("storage", "show", url="nonsense"))

    async def test_completion_script(self) -> None:
        """The script for bash is one that bash takes, and it completes."""
        out, err, code = await self.dst("completion", "bash")
        self.assertEqual((0, ""), (code, err))
        bash = shutil.which("bash")
        if bash is None:
            raise SkipTest("there is no bash here")
        wrapper = self.mktemp()
        with open(wrapper, "w") as file:
            file.write(f'#!/bin/sh\nexec {sys.executable} -c "{COMMAND}" "$@"\n')
        os.chmod(wrapper, 0o700)
        script = out + (
            "complete -p dst\n"
            "COMP_WORDS=(dst storage show v); COMP_CWORD=3\n"
            f'_dst_completion {os.path.abspath(wrapper)}\necho "${{COMPREPLY[*]}}"\n'
        )
        said, err, code = await getProcessOutputAndValue(
            bash, ["--norc", "-c", script], env=self.environment(), reactor=reactor
        )
        self.assertEqual(["vol"], said.decode().splitlines()[1:], err)

    async def test_wrong_url(self) -> None:
        """A URL that is none is an error, and no traceback."""
        out, err, code = await self.dst("--url", "somewhere", "status")
        self.assertEqual((1, ""), (code, out))
        self.assertTrue(err.startswith("error: 'somewhere' is not the URL"), err)

    async def test_watch(self) -> None:
        """Changes are said as they happen; Ctrl-C ends it in peace."""
        await self.watched_until(signal.SIGINT)

    async def test_watch_terminated(self) -> None:
        """So does a supervisor."""
        await self.watched_until(signal.SIGTERM)

    async def watched_until(self, number: int) -> None:
        """Watch until a change was seen, and end it then."""
        watching = _Watching(b"vol/b: in-sync -> suspended", number)
        arguments = [sys.executable, "-c", COMMAND, "watch", "vol"]
        reactor.spawnProcess(watching, sys.executable, arguments, env=self.environment())
        await watching.heard
        await self.fake.suspend("vol", "b")
        self.assertEqual(0, await watching.ended)
        self.assertNotIn(b"lost", watching.said)
        self.assertNotIn(b"rror", watching.said)


class ClientTests(TestCase):
    """L{HTTPAdmin.connect}, over a real socket."""

    timeout = 30

    async def test_round_trip(self) -> None:
        """Status, operations and errors; and nothing is left of a client."""
        fake = FakeAdmin()
        site = make_site(fake, clock=reactor)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
        admin = HTTPAdmin.connect(reactor, f"http://127.0.0.1:{port.getHost().port}/")
        try:
            self.assertEqual(await fake.status(), await admin.status())
            await admin.suspend("vol", "a")
            with self.assertRaises(NotFound):
                await admin.suspend("..", "a")
            told: Deferred[Any] = Deferred()
            following = admin.follow(lambda trees: told.called or told.callback(trees))
            self.assertEqual(await fake.status(), await told)
        finally:
            await port.stopListening()
            await site.close()
        with self.assertRaises(Unavailable):
            await following
        with self.assertRaises(Unavailable):
            await admin.status()
