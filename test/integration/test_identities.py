"""Who is at the other end of real sockets, and how operators reach a daemon: over UNIX sockets and HTTPS."""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dst.admin.authentication import Doorkeeper, LocalUsers, token_path
from dst.admin.client import HTTPAdmin
from dst.admin.reaching import Credentials
from dst.admin.site import make_site
from dst.admin.tokens import TokenStore
from dst.errors import ConfigurationError, Denied, InvalidRequest, Unavailable
from dst.identity import Identity, Role
from dst.security.certificates import Kind
from dst.security.security import Security
from dst.security.tls import behind_tls
from dst.testing.fake_admin import FakeAdmin
from dst.transport.peers import identity_at
from test.integration.test_nbd_tools import short_socket
from test.security.machines import Machines

reactor: Any = global_reactor


@implementer(IHandshakeListener)
class Guest(Protocol):
    """Tells who is there: at once, or when TLS is."""

    def __init__(self, told: Deferred[Identity], secure: bool) -> None:
        self.told = told
        self.secure = secure

    def connectionMade(self) -> None:
        if not self.secure:
            self.told.callback(identity_at(self.transport))

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        self.told.callback(identity_at(self.transport))


class SocketTests(TestCase):
    """UNIX sockets."""

    timeout = 30

    async def test_user(self) -> None:
        """The kernel says which user has connected, also behind TLS, where the certificate has a name besides."""
        machines = Machines(self.mktemp())
        for name in ("alpha", "beta"):
            machines.add(name)
        alpha, beta = (Security(machines.path(name), reactor) for name in ("alpha", "beta"))
        for secure in (False, True):
            told: Deferred[Identity] = Deferred()
            factory: Any = Factory.forProtocol(lambda told=told, secure=secure: Guest(told, secure))
            if secure:
                factory = behind_tls(alpha.server_options(), factory, reactor)
            path = short_socket(self)
            port = reactor.listenUNIX(path, factory)
            endpoint: Any = UNIXClientEndpoint(reactor, path)
            if secure:
                endpoint = wrapClientTLS(beta.client_options("x", "alpha"), endpoint)
            client = await connectProtocol(endpoint, Protocol())
            expected = Identity("beta" if secure else None, None, os.getuid(), secure)
            self.assertEqual(expected, await told)
            self.assertTrue(expected.local)
            client.transport.abortConnection()
            await port.stopListening()


class DoorTests(TestCase):
    """A site with a gate over HTTPS and a UNIX socket."""

    timeout = 60

    def setUp(self) -> None:
        self.machines = Machines(self.mktemp())
        self.machines.add("alpha", addresses=("127.0.0.1",))
        self.machines.add("beta", addresses=("192.0.2.1",))
        self.machines.add("eve", kind=Kind.PERSON, role=Role.OPERATE)
        self.machines.add("norole", kind=Kind.PERSON)
        self.others = Machines(self.mktemp())
        self.others.add("alpha", addresses=("127.0.0.1",))
        directory = self.mktemp()
        os.mkdir(directory, 0o700)
        self.store = TokenStore(token_path(directory), time.time)
        self.fake = FakeAdmin()
        gate = Doorkeeper(self.store, LocalUsers(), reactor.seconds)
        self.site = make_site(self.fake, clock=reactor, gate=gate)
        security = Security(self.machines.path("alpha"), reactor)
        door = behind_tls(security.server_options(certificate_demanded=False), self.site, reactor)
        self.ports = [reactor.listenTCP(0, door, interface="127.0.0.1")]
        self.path = short_socket(self)
        self.ports.append(reactor.listenUNIX(self.path, self.site))
        self.url = f"https://127.0.0.1:{self.ports[0].getHost().port}"
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        """Leave nothing."""
        for port in self.ports:
            await port.stopListening()
        await self.site.close()

    def file(self, who: str, name: str) -> str:
        """A file of somebody's security directory."""
        return os.path.join(self.machines.path(who), name)

    def admin(self, who: str | None = None, token: str | None = None, **more: Any) -> HTTPAdmin:
        """A client over HTTPS."""
        files = {"ca_file": self.file("alpha", "ca.crt")}
        if who is not None:
            files |= {"certificate_file": self.file(who, "this.crt"), "key_file": self.file(who, "this.key")}
        return HTTPAdmin.connect(reactor, self.url, Credentials(token, **(files | more)))

    async def test_certificate(self) -> None:
        """A certificate with a role may do what the role may."""
        await self.admin("eve").status()
        await self.admin("eve").suspend("vol", "a")
        error = await self.assertFailure(self.admin("eve").mark_clean("vol", "a"), Denied)
        self.assertIn("eve has 'operate'", error.message)
        error = await self.assertFailure(self.admin("norole").status(), Denied)
        self.assertIn("norole has no role", error.message)
        operations = await self.admin("eve").operations()
        self.assertEqual({"eve"}, {operation.asked_by for operation in operations})

    async def test_token(self) -> None:
        """A token over HTTPS, without a certificate."""
        await self.admin().status()  # this machine, and there are no tokens
        secret = self.store.create("bob", Role.VIEW)
        error = await self.assertFailure(self.admin().status(), Denied)
        self.assertIn("a token or a certificate", error.message)
        await self.admin(token=secret).status()
        await self.assertFailure(self.admin(token=secret).suspend("vol", "a"), Denied)

    async def test_wrong_daemon(self) -> None:
        """A daemon whose certificate is of another authority, or for another address, is not told the token."""
        strange = os.path.join(self.others.path("alpha"), "ca.crt")
        elsewhere = reactor.listenTCP(
            0,
            behind_tls(
                Security(self.machines.path("beta"), reactor).server_options(certificate_demanded=False),
                self.site,
                reactor,
            ),
            interface="127.0.0.2",
        )
        self.ports.append(elsewhere)
        other_address = f"https://127.0.0.2:{elsewhere.getHost().port}"
        for url, ca in ((self.url, strange), (self.url, None), (other_address, self.file("alpha", "ca.crt"))):
            admin = HTTPAdmin.connect(reactor, url, Credentials("dst_secret", ca))
            error = await self.assertFailure(admin.status(), Denied)
            self.assertIn("do not trust each other (certificate verify failed)", error.message)
            self.assertNotIn("dst_secret", error.message)
        for name in ("ca_file", "certificate_file"):
            error = await self.assertFailure(self.admin("eve", **{name: "/nowhere"}).status(), ConfigurationError)

    async def test_socket(self) -> None:
        """Over a UNIX socket the daemon's own user may do everything, also where there are tokens."""
        self.store.create("bob", Role.VIEW)
        admin = HTTPAdmin.connect(reactor, f"unix:{self.path}")
        self.assertEqual(f"unix:{self.path}", admin.url)
        await admin.status()
        await admin.suspend("vol", "a")
        nobody = HTTPAdmin.connect(reactor, "unix:/nowhere/admin.sock")
        error = await self.assertFailure(nobody.status(), Unavailable)
        self.assertIn("unix:/nowhere/admin.sock", error.message)
        self.assertRaises(InvalidRequest, HTTPAdmin.connect, reactor, "unix:")

    def test_credentials(self) -> None:
        """Secrets are read from files that nobody else can read, and shown nowhere."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("dst_abc\n")
        os.chmod(path, 0o640)
        self.assertRaises(ConfigurationError, Credentials.gathered, {}, path)
        os.chmod(path, 0o600)
        credentials = Credentials.gathered({}, path)
        self.assertEqual({"Authorization": "Bearer dst_abc"}, credentials.headers())
        self.assertNotIn("abc", repr(credentials))
        self.assertEqual("dst_x", Credentials.gathered({"DST_TOKEN": "dst_x"}).token)
        for content in ("", "two words", "x" * 5000, "\x00"):
            with open(path, "w") as file:
                file.write(content)
            self.assertRaises(ConfigurationError, Credentials.gathered, {}, path)
        self.assertRaises(ConfigurationError, Credentials.gathered, {}, "/nowhere")
        self.assertRaises(ConfigurationError, Credentials.gathered, {}, None, None, "cert.pem", None)
