"""Hooks in earnest: real programs, and a real HTTP server on loopback."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from dst.cluster.hook_deliveries import ANSWER_BYTES_MAX, Deliveries
from dst.cluster.hook_specs import HookSpec
from dst.errors import ConfigurationError, DSTError, InvalidRequest, Unavailable

reactor: Any = global_reactor
BODY = b'{"version": 1, "sentence": "it is so"}'


class Receiver(Resource):
    """Remembers what was posted, and answers what the test says."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[tuple[bytes, dict[bytes, bytes]]] = []
        self.status = 204
        self.answer = b""
        self.hangs: list[Any] = []
        self.hanging = False
        self.arrived: Deferred[None] = Deferred()

    def render_POST(self, request: Any) -> Any:
        self.posted.append((request.content.read(), request.getAllHeaders()))
        if not self.arrived.called:
            self.arrived.callback(None)
        if self.hanging:
            self.hangs.append(request)
            request.notifyFinish().addErrback(lambda _: None)
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        if self.status == 302:
            request.setHeader(b"Location", b"http://127.0.0.1:1/elsewhere")
        return self.answer


class URLTests(TestCase):
    """Posting."""

    def setUp(self) -> None:
        self.receiver = Receiver()
        self.port = reactor.listenTCP(0, Site(self.receiver), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.deliver = Deliveries(reactor, os.path.abspath)

    def spec(self, **more: Any) -> HookSpec:
        return HookSpec(url=f"http://127.0.0.1:{self.port.getHost().port}/hook?x=1", **more)

    async def fails(self, error: type[DSTError], spec: HookSpec) -> str:
        """It fails like that."""
        failed: Any = await self.assertFailure(self.deliver(spec, BODY), error)
        return str(failed.message)

    async def test_posted(self) -> None:
        """The body arrives as JSON, with the headers of the file."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("Authorization: Bearer abc\n\nX-Team: storage: one\n")
        await self.deliver(self.spec(header_file=path), BODY)
        ((body, headers),) = self.receiver.posted
        self.assertEqual(BODY, body)
        self.assertEqual(b"application/json", headers[b"content-type"])
        self.assertEqual(b"Bearer abc", headers[b"authorization"])
        self.assertEqual(b"storage: one", headers[b"x-team"])

    async def test_answers(self) -> None:
        """What may pass is tried again, what will not is not; redirects are not followed."""
        for status, error in (
            (500, Unavailable),
            (503, Unavailable),
            (429, Unavailable),
            (400, InvalidRequest),
            (404, InvalidRequest),
            (302, InvalidRequest),
        ):
            self.receiver.status = status
            self.assertIn(f"it answered {status}", await self.fails(error, self.spec()))

    async def test_nobody_there(self) -> None:
        """A server that is not there may be there later."""
        spec = self.spec()
        await self.port.stopListening()
        self.assertIn("refused", await self.fails(Unavailable, spec))

    async def test_hangs(self) -> None:
        """A server that does not answer is given so long."""
        self.receiver.hanging = True
        self.assertIn("within 0.2 s", await self.fails(Unavailable, self.spec(timeout_s=0.2)))

    async def test_cancelled(self) -> None:
        """A delivery that is given up leaves nothing."""
        self.receiver.hanging = True
        delivering = self.deliver(self.spec(), BODY)
        await self.receiver.arrived
        delivering.addErrback(lambda failure: None)
        delivering.cancel()
        await delivering

    async def test_long_answer(self) -> None:
        """A server that says much is not listened to."""
        self.receiver.status, self.receiver.answer = 200, bytes(16 * ANSWER_BYTES_MAX)
        await self.deliver(self.spec(), BODY)

    async def test_header_file(self) -> None:
        """One that is not there, or is none, is named; what is in it is not."""
        self.assertIn("cannot be read", await self.fails(ConfigurationError, self.spec(header_file="/no/where")))
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("topsecret\n")
        sentence = await self.fails(ConfigurationError, self.spec(header_file=path))
        self.assertIn("no header", sentence)
        self.assertNotIn("topsecret", sentence)
        self.assertEqual([], self.receiver.posted)


class CommandTests(TestCase):
    """Programs."""

    def setUp(self) -> None:
        self.deliver = Deliveries(reactor, os.path.abspath)

    def python(self, source: str, *arguments: str, **more: Any) -> HookSpec:
        return HookSpec(command=(sys.executable, "-c", source, *arguments), **more)

    async def fails(self, spec: HookSpec) -> str:
        """It fails, and is not to be tried again."""
        failed: Any = await self.assertFailure(self.deliver(spec, BODY), InvalidRequest)
        return str(failed.message)

    async def test_run(self) -> None:
        """The event is on standard input, arguments are passed as they are, the environment is clean."""
        path = os.path.abspath(self.mktemp())
        os.environ["DST_TEST_SECRET"] = "x"
        self.addCleanup(os.environ.pop, "DST_TEST_SECRET")
        source = (
            "import json, os, sys; json.dump([sys.stdin.read(), sys.argv[2:], dict(os.environ), os.getcwd()], "
            "open(sys.argv[1], 'w'))"
        )
        await self.deliver(self.python(source, path, "$(touch /tmp/x)", "a b"), BODY)
        with open(path) as file:
            body, arguments, environment, directory = json.load(file)
        self.assertEqual(BODY.decode(), body)
        self.assertEqual(["$(touch /tmp/x)", "a b"], arguments)
        self.assertLessEqual(set(environment), {"PATH", "LANG", "LC_CTYPE"})
        self.assertEqual("/", directory)

    async def test_fails(self) -> None:
        """What it says last is in the sentence, without what could not be shown."""
        sentence = await self.fails(self.python("import sys; print('no \\x1b[31mpager\\n here'); sys.exit(3)"))
        self.assertEqual("it ended with the status 3 and said: no [31mpager here", sentence)

    async def test_ignores_its_input(self) -> None:
        """A program need not read."""
        await self.deliver(self.python("pass"), b"x" * 1_000_000)

    async def test_hangs(self) -> None:
        """A program that does not end is ended, also one that does not want to."""
        self.assertIn("within 0.3 s", await self.fails(self.python("import time; time.sleep(60)", timeout_s=0.3)))

    async def test_not_there(self) -> None:
        """A program that is not there fails."""
        self.assertIn("it ended with the status 1", await self.fails(HookSpec(command=("/no/such/program",))))

    async def test_leaves_something_behind(self) -> None:
        """One that starts something which keeps running is not waited for beyond its own end."""
        source = (
            "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3)']); "
        )
        began = reactor.seconds()
        await self.deliver(self.python(source), BODY)
        self.assertLess(reactor.seconds() - began, 2.9)

    async def test_cancelled(self) -> None:
        """A delivery that is given up ends the program."""
        path = os.path.abspath(self.mktemp())
        delivering = self.deliver(
            self.python("import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)", path),
            BODY,
        )
        while not os.path.exists(path) or not os.path.getsize(path):
            await deferLater(reactor, 0.02)
        with open(path) as file:
            pid = int(file.read())
        delivering.addErrback(lambda failure: None)
        delivering.cancel()
        await delivering
        for _ in range(250):
            if not os.path.exists(f"/proc/{pid}"):
                return
            await deferLater(reactor, 0.02)
        self.fail("the program still runs")
