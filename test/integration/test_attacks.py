"""
An hour of an attacker, in a minute: what a stranger can do to a real daemon from a network that reaches it.

The daemon has certificates. C{vol} is for C{alpha} to write; C{other} is for C{beta} to read; C{hidden} is for
nobody.  Each attack is refused, the log says who and why, and the answer has nothing in it that the attacker did not
know.  C{docs/threat-model.rst} has the list with the results.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dst.admin.authentication import token_path
from dst.admin.tokens import TokenStore
from dst.identity import Role
from dst.security.certificates import Kind
from dst.wire.framing import request_header
from dst.wire.handshake import Hello, encode_hello
from dst.wire.messages import HELLO_BYTES_MAX, Frame, Operation
from dst.wire.parser import FrameParser
from test.integration.daemon_process import DaemonProcess
from test.integration.debian_tools import run
from test.integration.test_nbd_tools import short_socket
from test.security.machines import Machines

T = TypeVar("T")

ANSWER_S_MAX = 15.0

TOPOLOGY = """
[daemon]
state_dir = "state"
security_dir = "{security}"
admin = {{ endpoint = "tcp:0:interface=127.0.0.1", tls = "required" }}
[listeners]
dst = {{ endpoint = "tcp:0:interface=127.0.0.1", tls = "required" }}
nbd = [{{ endpoint = "tcp:0:interface=127.0.0.1", tls = "required" }}, "unix:{plain}"]
[nodes]
vol = {{ uri = "memory:?size=1M" }}
other = {{ uri = "memory:?size=1M" }}
hidden = {{ uri = "memory:?size=1M" }}
[exports.vol]
device = "vol"
allow = [{{ access = "write", identity = "alpha" }}]
[exports.other]
device = "other"
allow = [{{ access = "read", identity = "beta" }}]
[exports.hidden]
device = "hidden"
allow = []
"""

SECRETS = (b"vol", b"other", b"hidden")
"""The names of the exports: nobody learns them who may not use them."""


class AttackCase(TestCase):
    """A daemon, and strangers with all kinds of papers."""

    timeout = 120

    async def setUp(self) -> None:
        self.machines = Machines(self.mktemp())
        self.machines.add("daemon", addresses=("127.0.0.1", "localhost"))
        self.machines.add("alpha")
        self.machines.add("beta")
        self.machines.add("eve", kind=Kind.PERSON, role=Role.VIEW)
        self.machines.add("norole", kind=Kind.PERSON)
        self.machines.add("mallory")
        now = self.machines.moment
        self.machines.moment = now - 30 * 86400
        self.machines.add("expired", days=1)
        self.machines.moment = now + 86400
        self.machines.add("tomorrow")
        self.machines.moment = now
        self.machines.authority.revoke("mallory")
        self.machines.copy("revoked.crl", "daemon")
        self.plain = short_socket(self)
        self.others = Machines(self.mktemp())
        self.others.add("alpha")
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        self.directory = directory
        (directory / "dst.toml").write_text(TOPOLOGY.format(security=self.machines.path("daemon"), plain=self.plain))
        (directory / "state").mkdir(mode=0o700)
        store = TokenStore(token_path(str(directory / "state")), time.time)
        self.tokens = {role: store.create(role.value, role) for role in Role}
        self.daemon = DaemonProcess(self, "--config", str(directory / "dst.toml"))
        await self.daemon.started
        self.addCleanup(self.assert_well)

    async def assert_well(self) -> None:
        """After it all the daemon serves who may be served, and has made no mistake of its own."""
        self.assertEqual(0, await self.attack(lambda: self.hello(self.context("alpha"), "vol").status))
        for words in ("Traceback", "Unhandled"):
            self.assertNotIn(words, self.daemon.output)
        for token in self.tokens.values():
            self.assertNotIn(token, self.daemon.output)
        await self.daemon.stop()

    # -- tools of an attacker

    def attack(self, work: Callable[[], T]) -> Deferred[T]:
        """Blocking sockets, beside the reactor."""
        return deferToThread(work)

    async def logged(self, *words: str) -> None:
        """A line of the log has all of these words, now or soon."""
        for _ in range(200):
            if any(all(word in line for word in words) for line in self.daemon.output.splitlines()):
                return
            await deferLater(reactor, 0.02)
        self.fail(f"no line with {words} in:\n{self.daemon.output[-3000:]}")

    def connect(self, what: str) -> socket.socket:
        """Plain TCP."""
        client = socket.create_connection(("127.0.0.1", self.daemon.ports[what]), ANSWER_S_MAX)
        client.settimeout(ANSWER_S_MAX)
        return client

    def context(self, who: str | None, machines: Machines | None = None) -> ssl.SSLContext:
        """Somebody with their papers, who does not care who the daemon is."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if who is not None:
            path = (machines or self.machines).path(who)
            context.load_cert_chain(os.path.join(path, "this.crt"), os.path.join(path, "this.key"))
        return context

    def everything(self, client: socket.socket) -> bytes:
        """What comes until the other side hangs up."""
        received = b""
        try:
            while len(received) < 1 << 20:
                data = client.recv(65536)
                if not data:
                    break
                received += data
        except TimeoutError:
            raise AssertionError(f"the connection is still there after {received[:200]!r}") from None
        except OSError:
            pass
        finally:
            client.close()
        return received

    def hello(self, context: ssl.SSLContext, export: str, token: bytes = b"t" * 16, attempt: int = 1) -> Frame:
        """The answer to a hello over TLS; C{ConnectionError} if there is none."""
        client = context.wrap_socket(self.connect("dst"))
        try:
            return self.say_hello(client, export, token, attempt)
        finally:
            client.close()

    def say_hello(self, client: socket.socket, export: str, token: bytes = b"t" * 16, attempt: int = 1) -> Frame:
        """The same on a connection that stays."""
        data = encode_hello(Hello(token=token, attempt=attempt, client="x", export=export))
        client.sendall(request_header(Operation.HELLO, 1, data=data) + data)
        parser = FrameParser(HELLO_BYTES_MAX)
        while True:
            received = client.recv(65536)
            if not received:
                raise ConnectionError("it hung up")
            frames = parser.receive(received)
            if frames:
                return frames[0]

    def refused(self, work: Callable[[], object]) -> None:
        """C{work} gets no further than TLS."""
        try:
            found = work()
        except (OSError, ConnectionError):
            return
        raise AssertionError(f"it was let in: {found!r}")

    def http(self, request: bytes, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        """Status and the whole answer to something that may be a request."""
        client = (context or self.context(None)).wrap_socket(self.connect("admin"))
        client.sendall(request)
        answer = self.everything(client)
        first = answer.split(b"\r\n", 1)[0].split()
        return (int(first[1]) if len(first) > 1 else 0), answer

    def get(
        self, path: bytes, *headers: bytes, token: str | None = None, method: bytes = b"GET"
    ) -> tuple[int, bytes]:
        """One well-formed request."""
        lines = [method + b" " + path + b" HTTP/1.1", b"Connection: close", *headers]
        if not any(line.lower().startswith(b"host:") for line in headers):
            lines.append(b"Host: 127.0.0.1")
        if token is not None:
            lines.append(b"Authorization: Bearer " + token.encode())
        if method in (b"POST", b"PUT"):
            lines += [b"Content-Type: application/json", b"Content-Length: 2", b"", b"{}"]
            return self.http(b"\r\n".join(lines))
        return self.http(b"\r\n".join([*lines, b"", b""]))

    def assert_nothing_told(self, data: bytes) -> None:
        """None of the names is in an answer."""
        for secret in SECRETS:
            self.assertNotIn(secret, data)


class CertificateTests(AttackCase):
    """Wrong papers, at the door of other daemons, of NBD clients, and of operators."""

    async def test_papers(self) -> None:
        """None, of another authority, expired, not yet good, revoked: nobody gets past TLS, and the log says why."""
        shutil.copy(os.path.join(self.machines.path("alpha"), "ca.crt"), self.others.path("alpha"))
        for who, machines, words in (
            (None, None, "showed no certificate"),
            ("alpha", self.others, "authority"),
            ("expired", None, "has ended on"),
            ("tomorrow", None, "is good from"),
            ("mallory", None, "is revoked"),
        ):
            for door in ("dst", "nbd"):
                context = self.context(who, machines)
                before = len(self.daemon.output)
                if door == "dst":
                    await self.attack(lambda context=context: self.refused(lambda: self.hello(context, "vol")))
                else:
                    await self.attack(lambda context=context: self.refused(lambda: self.nbd_list(context)))
                await self.logged("127.0.0.1", "is refused", words)
                self.assertGreater(len(self.daemon.output), before)
        for who in ("expired", "mallory"):
            context = self.context(who)
            await self.attack(
                lambda context=context: self.refused(
                    lambda: self.answered(self.http(b"GET / HTTP/1.0\r\n\r\n", context))
                )
            )

    def answered(self, answer: tuple[int, bytes]) -> tuple[int, bytes]:
        """An empty answer is none."""
        if not answer[0]:
            raise ConnectionError("nothing came")
        return answer

    def nbd_list(self, context: ssl.SSLContext) -> bytes:
        """What a list of exports says over TLS."""
        client = self.connect("nbd")
        client.recv(18)
        client.sendall(pack(">I", 3) + b"IHAVEOPT" + pack(">II", 5, 0))
        self.assertEqual(1, int.from_bytes(client.recv(20)[12:16], "big"))
        secure = context.wrap_socket(client)
        secure.sendall(b"IHAVEOPT" + pack(">II", 3, 0) + b"IHAVEOPT" + pack(">II", 2, 0))
        answer = self.everything(secure)
        if not answer:
            raise ConnectionError("nothing came")
        return answer

    async def test_another_export(self) -> None:
        """A good certificate for one export neither opens the other nor learns that there is one."""
        told = await self.attack(lambda: self.nbd_list(self.context("beta")))
        self.assertIn(b"other", told)
        self.assertNotIn(b"vol", told)
        sentences = []
        for name in ("vol", "hidden", "unknown"):
            frame = await self.attack(lambda name=name: self.hello(self.context("beta"), name))
            self.assertNotEqual(0, frame.status)
            sentences.append((frame.status, bytes(frame.data).replace(name.encode(), b"*")))
        self.assertEqual(1, len(set(sentences)), sentences)
        await self.logged("beta at 127.0.0.1", "was refused the export 'vol'", "no rule of its `allow`")
        await self.logged("beta at 127.0.0.1", "was refused the export 'unknown'", "there is none")

    async def test_revoked_while_connected(self) -> None:
        """Who is revoked is cut off, without a restart."""
        client = await self.attack(lambda: self.context("beta").wrap_socket(self.connect("dst")))
        frame = await self.attack(lambda: self.say_hello(client, "other"))
        self.assertEqual(0, frame.status)
        self.machines.authority.revoke("beta")
        self.machines.copy("revoked.crl", "daemon")
        await self.attack(lambda: self.everything(client))
        await self.logged("beta", "is revoked", "the connection is ended")

    async def test_replayed(self) -> None:
        """A hello that was seen on its way is nothing to who has not its certificate: it cuts nobody off."""
        client = await self.attack(lambda: self.context("alpha").wrap_socket(self.connect("dst")))
        self.assertEqual(0, (await self.attack(lambda: self.say_hello(client, "vol", b"A" * 16))).status)
        frame = await self.attack(lambda: self.hello(self.context("beta"), "other", b"A" * 16, 1000))
        self.assertEqual(0, frame.status)
        ping = request_header(Operation.PING, 2)

        def still_there() -> bytes:
            client.sendall(ping)
            return client.recv(100)

        self.assertNotEqual(b"", await self.attack(still_there))
        frame = await self.attack(lambda: self.hello(self.context("alpha"), "vol", b"A" * 16, 1))
        self.assertNotEqual(0, frame.status)
        await self.logged("a newer connection of the same client is here already")
        client.close()


class WrongProtocolTests(AttackCase):
    """Plain where there is TLS, TLS where there is none, and noise everywhere."""

    async def test_plain_to_tls(self) -> None:
        """Whoever speaks in the clear to a port with TLS is told nothing."""
        data = encode_hello(Hello(token=b"t" * 16, attempt=1, client="x", export="vol"))
        hello = request_header(Operation.HELLO, 1, data=data) + data
        for door, said in (
            ("dst", hello),
            ("admin", b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
            ("dst", b"\0" * 100),
            ("admin", os.urandom(1000)),
        ):

            def send(door: str = door, said: bytes = said) -> bytes:
                client = self.connect(door)
                client.sendall(said)
                return self.everything(client)

            self.assert_nothing_told(await self.attack(send))
        await self.logged("127.0.0.1", "is refused", "does not speak TLS")
        await self.logged("127.0.0.1", "is refused", "it speaks HTTP without TLS; expected https")

    async def test_nbd_in_the_clear(self) -> None:
        """NBD without TLS: no option is answered but with "TLS is required", and no name is told."""

        def options() -> bytes:
            client = self.connect("nbd")
            go = pack(">I", 3) + b"vol" + pack(">H", 0)
            client.sendall(pack(">I", 3))
            for number, data in ((3, b""), (6, go), (7, go), (8, b""), (10, go), (2, b"")):
                client.sendall(b"IHAVEOPT" + pack(">II", number, len(data)) + data)
            return self.everything(client)

        answer = await self.attack(options)
        self.assert_nothing_told(answer)
        self.assertEqual(5, answer.count(pack(">I", 0x80000005)))

    async def test_injection(self) -> None:
        """What is sent behind STARTTLS, before TLS, ends the connection."""

        def inject() -> bytes:
            client = self.connect("nbd")
            client.sendall(pack(">I", 3) + b"IHAVEOPT" + pack(">II", 5, 0) + b"IHAVEOPT" + pack(">II", 3, 0))
            return self.everything(client)

        self.assert_nothing_told(await self.attack(inject))
        await self.logged("NBD client 127.0.0.1", "cut off", "behind the option to begin TLS")

    async def test_tls_to_plain(self) -> None:
        """TLS to a port without it is recognised as nonsense by its first bytes."""

        def speak() -> bytes:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(ANSWER_S_MAX)
            client.connect(self.plain)
            client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
            return self.everything(client)

        self.assert_nothing_told(await self.attack(speak))
        await self.logged("NBD client a local client was cut off", "unknown flags")

    async def test_silence(self) -> None:
        """Who connects and says nothing, or stops in the middle of TLS, is let go after some seconds."""

        def stop(said: bytes) -> bytes:
            client = self.connect("dst")
            client.sendall(said)
            return self.everything(client)

        begun = time.monotonic()
        for said in (b"", b"\x16\x03\x01\x02\x00"):
            self.assert_nothing_told(await self.attack(lambda said=said: stop(said)))
        self.assertLess(time.monotonic() - begun, 2 * ANSWER_S_MAX)
        await self.logged("no hello came within 5 s")

    async def test_old_tls(self) -> None:
        """Versions of TLS that are broken are not spoken."""
        context = self.context("alpha")
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        await self.attack(lambda: self.refused(lambda: self.hello(context, "vol")))


class NameTests(AttackCase):
    """Tricks in names and paths."""

    async def test_export_names(self) -> None:
        """Names that are paths, too long, not text, or look like others, are names that there are not."""
        for name in (
            "../vol",
            "vol/",
            "/vol",
            "./vol",
            "vol\0",
            "VOL",
            "v\u043el",
            "vol@alpha",
            "%76ol",
            "vol ",
            "\u202evol",
        ):
            try:
                frame = await self.attack(lambda name=name: self.hello(self.context("beta"), name))
            except (ConnectionError, OSError):
                continue
            self.assertNotEqual(0, frame.status, name)
            self.assertNotIn(b"hidden", bytes(frame.data))

        def nbd(name: bytes) -> bytes:
            client = self.connect_nbd("beta")
            client.sendall(b"IHAVEOPT" + pack(">II", 7, len(name) + 6) + pack(">I", len(name)) + name + pack(">H", 0))
            client.sendall(b"IHAVEOPT" + pack(">II", 2, 0))
            return self.everything(client)

        for raw in (b"\xff\xfe", b"x" * 5000, b"vol\0other", b"../other", b"vol"):
            answer = await self.attack(lambda raw=raw: nbd(raw))
            self.assertNotIn(pack(">I", 3) + pack(">I", 12), answer)  # no information about an export
            self.assertIn(pack(">I", 0x80000000)[:1], answer)

    def connect_nbd(self, who: str) -> ssl.SSLSocket:
        """An NBD client after STARTTLS."""
        client = self.connect("nbd")
        client.recv(18)
        client.sendall(pack(">I", 3) + b"IHAVEOPT" + pack(">II", 5, 0))
        client.recv(20)
        return self.context(who).wrap_socket(client)

    async def test_paths(self) -> None:
        """No path of the web leads to a file of the machine, or around the roles."""
        secret = (self.directory / "dst.toml").read_bytes()[:40]
        for path in (
            b"/../../etc/passwd",
            b"/..%2f..%2fetc/passwd",
            b"/%2e%2e/%2e%2e/etc/passwd",
            b"/page/../../client.py",
            b"/%00",
            b"/index.html%00.js",
            b"/v1/storages/%2e%2e/%2e%2e/status",
            b"/v1//status",
            b"//v1/status",
            b"/V1/STATUS",
            b"/v1/status/",
            b"/v1/status%20",
            b"/v1/%73tatus",
            b"/v1/explain/" + b"x" * 5000,
            b"/v1/explain/%ff%fe",
            b"/v1/storages/v%E2%80%AEol/members",
            b"http://127.0.0.1/v1/status",
            b"/v1/status?token=" + self.tokens[Role.ADMIN].encode(),
        ):
            code, answer = await self.attack(lambda path=path: self.get(path))
            self.assertIn(code, (400, 401, 403, 404, 414), (path, answer[:300]))
            for content in (b"root:", secret, b"import ", b'"storages": ['):
                self.assertNotIn(content, answer, path)


class HTTPTests(AttackCase):
    """The door of the operators."""

    async def test_nobody(self) -> None:
        """Without a token or a certificate with a role nothing is told, from whatever path."""
        for path in (b"/v1/status", b"/v1/configuration", b"/v1/events", b"/metrics", b"/v1/sessions"):
            code, answer = await self.attack(lambda path=path: self.get(path))
            self.assertEqual(401, code, answer)
            self.assert_nothing_told(answer.partition(b"\r\n\r\n")[2].replace(b"another", b""))
        await self.logged("127.0.0.1 is asked for a token")
        context = self.context("norole")
        request = b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        code, answer = await self.attack(lambda: self.http(request, context))
        self.assertEqual((401, True), (code, b"has no role" in answer))

    async def test_roles(self) -> None:
        """A token or a certificate does what its role may, and no more."""
        post = b"POST /v1/storages/vol/mark-clean"
        for method, path, role, expected in (
            (b"GET", b"/v1/status", Role.VIEW, 200),
            (b"POST", b"/v1/storages/vol/grow", Role.VIEW, 403),
            (b"POST", b"/v1/storages/vol/mark-clean", Role.OPERATE, 403),
            (b"PUT", b"/v1/configuration", Role.OPERATE, 403),
            (b"DELETE", b"/v1/configuration/nodes/vol", Role.OPERATE, 403),
        ):
            code, answer = await self.attack(
                lambda method=method, path=path, role=role: self.get(path, method=method, token=self.tokens[role])
            )
            self.assertEqual(expected, code, (path, answer))
        await self.logged("token operate at 127.0.0.1 may not PUT /v1/configuration")
        context = self.context("eve")
        common = b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        body = b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        self.assertEqual(
            200, (await self.attack(lambda: self.http(b"GET /v1/status" + common + b"\r\n", context)))[0]
        )
        self.assertEqual(403, (await self.attack(lambda: self.http(post + common + body, context)))[0])

    async def test_guessing(self) -> None:
        """Wrong tokens are refused, and soon not even told why; a right one is heard all the same."""
        codes = [(await self.attack(lambda: self.get(b"/v1/status", token="dst_guess")))[0] for _ in range(14)]
        self.assertEqual([401] * 10 + [429] * 4, codes)
        self.assertEqual(200, (await self.attack(lambda: self.get(b"/v1/status", token=self.tokens[Role.VIEW])))[0])
        await self.logged("127.0.0.1 was refused: the token is unknown here, or was revoked")

    async def test_cross_site(self) -> None:
        """Pages of other sites, also where a name was rebound to our address, are not heard, even with a token."""
        token = self.tokens[Role.ADMIN]
        for headers in (
            (b"Host: evil.example",),
            (b"Host: 127.0.0.1.evil.example",),
            (b"Host: \xff\xfe",),
            (b"Host: 127.0.0.1", b"Host: evil.example"),
            (b"Host: 127.0.0.1", b"Origin: https://evil.example"),
            (b"Host: 127.0.0.1", b"Origin: null"),
            (b"Host: 127.0.0.1", b"Origin: \xff"),
            (b"Host: 127.0.0.1", b"Sec-Fetch-Site: cross-site"),
        ):
            for method, path in ((b"GET", b"/v1/status"), (b"POST", b"/v1/storages/vol/grow")):
                code, answer = await self.attack(
                    lambda path=path, headers=headers, method=method: self.get(
                        path, *headers, token=token, method=method
                    )
                )
                self.assertIn(code, (400, 403), (headers, answer))
                self.assertNotIn(b'"storages"', answer)
                self.assertNotIn(b"Access-Control-Allow", answer)
        code, _ = await self.attack(lambda: self.get(b"/v1/status", b"Host: localhost", token=token))
        self.assertEqual(200, code)

    async def test_giants(self) -> None:
        """Heads and bodies without an end are cut off."""

        def send(*pieces: bytes) -> bytes:
            client = self.context(None).wrap_socket(self.connect("admin"))
            try:
                for piece in pieces:
                    client.sendall(piece)
            except OSError:
                pass
            return self.everything(client)

        head = b"POST /v1/storages/vol/grow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        for pieces in (
            (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",),
            (head, *([b"X-Y: " + b"z" * 8000 + b"\r\n"] * 100)),
            (head, *([b"X-Y: z\r\n"] * 20_000)),
            (head + b"Content-Length: 99999999999\r\n\r\n", b"{" * 100_000),
            (head + b"Content-Length: -1\r\n\r\n{}",),
            (head + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
            (head + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",),
            (head + b"Transfer-Encoding: chunked\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"z" * (3 << 20)),
            (b"\r\n" * 10_000,),
        ):
            answer = await self.attack(lambda pieces=pieces: send(*pieces))
            self.assertNotIn(b"200 OK", answer, pieces[0][:100])
        resident = Path(f"/proc/{self.daemon.process_id}/statm").read_text().split()[1]
        self.assertLess(int(resident) * 4096, 400 << 20)

    async def test_crowd(self) -> None:
        """Connections that say nothing fill no more places than there are, and take none from who is served."""

        def fill() -> list[socket.socket]:
            return [self.connect("admin") for _ in range(140)]

        clients = await self.attack(fill)
        self.addCleanup(lambda: [client.close() for client in clients])
        frame = await self.attack(lambda: self.hello(self.context("alpha"), "vol"))
        self.assertEqual(0, frame.status)


class SecretTests(AttackCase):
    """What nobody sees."""

    async def test_secrets(self) -> None:
        """Tokens are in no process list, no file that others can read, no answer."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(self.tokens[Role.ADMIN])
        os.chmod(path, 0o644)
        url = f"https://127.0.0.1:{self.daemon.ports['admin']}"
        ca = os.path.join(self.machines.path("daemon"), "ca.crt")
        command = (os.path.join(os.path.dirname(os.sys.executable), "dst"), "--url", url, "--ca", ca)
        said = await run(*command, "--token-file", path, "status", expect=1)
        self.assertIn("open to others", said)
        os.chmod(path, 0o600)
        told = json.loads(await run(*command, "--token-file", path, "status", "--json"))
        self.assertEqual({"vol", "other", "hidden"}, {node["name"] for node in told["nodes"]})
        said = await run(*command[:3], "--token-file", path, "status", expect=4)
        self.assertIn("do not trust each other", said)
        code, answer = await self.attack(lambda: self.get(b"/v1/configuration", token=self.tokens[Role.ADMIN]))
        self.assertEqual(200, code)
        for token in self.tokens.values():
            self.assertNotIn(token.encode(), answer)
        command_line = Path(f"/proc/{self.daemon.process_id}/cmdline").read_bytes()
        self.assertNotIn(b"dst_", command_line)
