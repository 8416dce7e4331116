"""NBD over TLS with everybody else's programs: theirs in front of our server, our node in front of theirs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
from struct import pack
from typing import Any

from attrs import evolve
from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from dst.errors import NotFound
from dst.exports.nbd_server import NBDServerFactory
from dst.identity import Access, AccessRule, Identity, access_for
from dst.interfaces import OpenExport
from dst.nbd.constants import CMD_DISC, CMD_FLUSH, OPT_EXPORT_NAME, OPT_STARTTLS, SIMPLE_REPLY_MAGIC
from dst.nodes.memory import MemoryDevice
from dst.nodes.nbd_provider import NBDSNodeProvider, NBDSUNIXNodeProvider
from dst.security.certificates import Kind
from dst.security.security import Security
from dst.status import LinkState
from test.exports.offered import Offered
from test.exports.test_nbd_server import SlowDevice, option, request
from test.integration.debian_tools import Server, needs, run
from test.integration.test_nbd_tools import short_socket
from test.security.machines import Machines

reactor: Any = global_reactor

SIZE = 8 << 20


class OnlyAlpha(Offered):
    """C{vol} is for C{alpha}; C{mem} is for everybody with any certificate, to be read."""

    def list_exports(self, identity: object | None) -> list[str]:
        return [name for name in super().list_exports(identity) if self._access(name, identity)]

    def open_export(self, name: str, identity: object | None) -> OpenExport:
        access = self._access(name, identity)
        if access is None:
            raise NotFound(f"there is no export {name!r} here that {identity} may use")
        return OpenExport(self.devices[name], access is Access.READ)

    def _access(self, name: str, identity: object | None) -> Access | None:
        assert isinstance(identity, Identity)
        rules = [AccessRule(Access.WRITE, "alpha")] if name == "vol" else [AccessRule(Access.READ)]
        return access_for(identity, rules) if identity.encrypted else None


class TLSTestCase(TestCase):
    """A server with a certificate, and two clients with one each."""

    timeout = 120

    async def setUp(self) -> None:
        self.machines = Machines(self.mktemp())
        self.machines.add("server", addresses=("127.0.0.1", "localhost"))
        self.machines.add("alpha", kind=Kind.PERSON)
        self.machines.add("beta", kind=Kind.PERSON)
        self.devices = [MemoryDevice(reactor, name, SIZE) for name in ("vol", "mem")]
        for device in self.devices:
            await device.open()
            await device.write(0, device.name.encode() * 4096)
        self.offered = OnlyAlpha(vol=self.devices[0], mem=self.devices[1])
        self.server = NBDServerFactory(reactor, self.offered)
        self.security = Security(self.machines.path("server"), reactor)
        options = self.security.server_options(allow_tls_1_2=True)
        self.ports = {
            policy: reactor.listenTCP(
                0, self.server.door(options, required=policy == "required"), interface="127.0.0.1"
            )
            for policy in ("required", "optional")
        }
        self.socket = short_socket(self)
        self.ports["unix"] = reactor.listenUNIX(self.socket, self.server.door(options, required=True))
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        """Leave nothing."""
        for port in self.ports.values():
            await port.stopListening()
        await self.server.drain()
        self.assertEqual((0, 0), (self.server.connections, self.server.budget.used_bytes))

    def uri(self, export: str, who: str, policy: str = "required") -> str:
        """As libnbd wants it."""
        number = self.ports[policy].getHost().port
        return f"nbds://127.0.0.1:{number}/{export}?tls-certificates={self.machines.path(who)}"


class LibnbdTests(TLSTestCase):
    """The programs of libnbd, which speak TLS with GnuTLS."""

    @needs("nbdinfo")
    async def test_nbdinfo(self) -> None:
        """Each client sees what is for it."""
        for policy in ("required", "optional"):
            for who, names in (("alpha", {"vol", "mem"}), ("beta", {"mem"})):
                told = json.loads(await run("nbdinfo", "--json", "--list", self.uri("", who, policy)))
                self.assertTrue(told["TLS"])
                self.assertEqual(names, {export["export-name"] for export in told["exports"]})
            self.assertIn("No such file", await run("nbdinfo", self.uri("vol", "beta", policy), expect=1))
        told = json.loads(await run("nbdinfo", "--json", self.uri("mem", "beta")))
        self.assertTrue(told["exports"][0]["is_read_only"])

    @needs("nbdinfo")
    async def test_unix(self) -> None:
        """Over a UNIX socket as well."""
        uri = f"nbds+unix://localhost/vol?socket={self.socket}&tls-certificates={self.machines.path('alpha')}"
        self.assertIn("vol", await run("nbdinfo", uri))

    @needs("nbdinfo")
    async def test_clear(self) -> None:
        """Without TLS nothing is told where it is required, and where it is not only what is for everybody."""
        number = self.ports["required"].getHost().port
        said = await run("nbdinfo", "--list", f"nbd://127.0.0.1:{number}/", expect=1)
        self.assertNotIn("vol", said)
        said = await run("nbdinfo", f"nbd://127.0.0.1:{number}/mem", expect=1)
        self.assertIn("TLS", said)
        number = self.ports["optional"].getHost().port
        self.assertNotIn("vol", await run("nbdinfo", "--list", f"nbd://127.0.0.1:{number}/"))

    @needs("nbdinfo")
    async def test_stranger(self) -> None:
        """A certificate of another authority, and a revoked one, open nothing; the log says why."""
        others = Machines(self.mktemp())
        others.add("alpha", kind=Kind.PERSON)
        shutil.copy(os.path.join(self.machines.path("alpha"), "ca.crt"), others.path("alpha"))  # it trusts us
        with capturedLogs() as strangers:
            uri = self.uri("vol", "alpha").replace(self.machines.path("alpha"), others.path("alpha"))
            await run("nbdinfo", uri, expect=1)
        self.machines.authority.revoke("beta")
        self.machines.copy("revoked.crl", "server")
        self.security.look()
        with capturedLogs() as revoked:
            await run("nbdinfo", self.uri("mem", "beta"), expect=1)
        for events, words in ((strangers, "is refused: it showed no certificate"), (revoked, "is revoked")):
            self.assertIn(words, " ".join(str(formatEvent(each)) for each in events))

    @needs("nbdcopy")
    async def test_nbdcopy(self) -> None:
        """An image goes there and comes back."""
        path, back = self.mktemp(), self.mktemp()
        content = os.urandom(SIZE)
        with open(path, "wb") as file:
            file.write(content)
        await run("nbdcopy", path, self.uri("vol", "alpha"))
        self.assertTrue(content == bytes(await self.devices[0].read(0, SIZE)))
        await run("nbdcopy", self.uri("vol", "alpha"), back)
        with open(back, "rb") as file:
            self.assertTrue(content == file.read())


class QEMUTests(TLSTestCase):
    """The programs of QEMU."""

    @needs("qemu-img")
    async def test_qemu_img(self) -> None:
        """An image is converted into the export and compared with it."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(os.urandom(SIZE))
        credentials = f"tls-creds-x509,id=tls0,endpoint=client,dir={self.machines.path('alpha')}"
        number = self.ports["required"].getHost().port
        image = f"driver=nbd,host=127.0.0.1,port={number},export=vol,tls-creds=tls0"
        await run(
            "qemu-img", "convert", "-n", "--object", credentials, "-f", "raw", "--target-image-opts", path, image
        )
        await run("qemu-img", "info", "--object", credentials, "--image-opts", image)
        whole = f"driver=raw,file.driver=file,file.filename={path}"
        await run("qemu-img", "compare", "--object", credentials, "--image-opts", whole, image)


class GoodbyeTests(TLSTestCase):
    """How a connection ends."""

    async def test_in_flight(self) -> None:
        """It ends when what was begun is answered and both have said goodbye, whoever began with that."""
        self.server.limits = evolve(self.server.limits, drain_s=1e6)  # which is what it must not take
        device = SlowDevice(reactor, "vol", SIZE)
        await device.open()
        self.offered.devices["vol"] = device
        for disconnects in (True, False):
            client = await deferToThread(self.client)
            client.sendall(request(CMD_FLUSH, 1))
            while not device.__dict__.get("held"):
                await deferLater(reactor, 0.01)
            if disconnects:
                client.sendall(request(CMD_DISC, 2))
                while not self.server._sessions or next(iter(self.server._sessions))._reading:
                    await deferLater(reactor, 0.01)
            else:
                drained = self.server.drain()
            device.release()
            self.assertEqual(pack(">IIQ", SIMPLE_REPLY_MAGIC, 0, 1), await deferToThread(self.last_words, client))
            while self.server.connections:
                await deferLater(reactor, 0.01)
        await drained

    def client(self) -> ssl.SSLSocket:
        """One that uses C{vol}; in a thread."""
        plain = socket.create_connection(("127.0.0.1", self.ports["required"].getHost().port), 60)
        plain.recv(18, socket.MSG_WAITALL)
        plain.sendall(pack(">I", 3) + option(OPT_STARTTLS))
        plain.recv(20, socket.MSG_WAITALL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        path = self.machines.path("alpha")
        context.load_verify_locations(os.path.join(path, "ca.crt"))
        context.load_cert_chain(os.path.join(path, "this.crt"), os.path.join(path, "this.key"))
        client = context.wrap_socket(plain, server_hostname="localhost")
        client.sendall(option(OPT_EXPORT_NAME, b"vol"))
        client.recv(10)
        return client

    def last_words(self, client: ssl.SSLSocket) -> bytes:
        """All that comes, and goodbye; in a thread."""
        said = b""
        while data := client.recv(1 << 16):
            said += data
        with contextlib.suppress(OSError):
            client.unwrap()
        client.close()
        return said


class OurClientTests(TLSTestCase):
    """Our node in front of our server, and of nbdkit."""

    async def opened(self, provider: Any, uri: str, who: str = "alpha") -> Any:
        """A node after its first attempt."""
        node = provider.node_from_uri(reactor, "n", uri, {}, security=Security(self.machines.path(who), reactor))
        self.addCleanup(node.close)
        await node.open()
        return node

    async def test_ours(self) -> None:
        """Much is written and read over TCP and a UNIX socket."""
        number = self.ports["required"].getHost().port
        for provider, uri in (
            (NBDSNodeProvider(), f"nbds://127.0.0.1:{number}/vol"),
            (NBDSNodeProvider(), f"nbds://127.0.0.1:{number}/vol?peer=server"),
            (NBDSUNIXNodeProvider(), f"nbds+unix:///vol?socket={self.socket}"),
        ):
            node = await self.opened(provider, uri)
            self.assertIs(LinkState.READY, node.link, node.reason)
            content = os.urandom(SIZE)
            for offset in range(0, SIZE, 1 << 20):
                await node.write(offset, content[offset : offset + (1 << 20)])
            self.assertTrue(content == bytes(await node.read(0, SIZE)))
            await node.close()

    async def test_wrong_server(self) -> None:
        """A server that is not whom we mean is told nothing, and the reason says so."""
        number = self.ports["required"].getHost().port
        node = await self.opened(NBDSNodeProvider(), f"nbds://127.0.0.1:{number}/vol?peer=gamma")
        self.assertIs(LinkState.AWAY, node.link)
        self.assertIn("gamma", node.reason)
        node = await self.opened(NBDSNodeProvider(), f"nbds://127.0.0.1:{number}/vol", "beta")
        self.assertIn("may use", node.reason)
        plain = reactor.listenTCP(0, self.server, interface="127.0.0.1")
        self.ports["plain"] = plain
        node = await self.opened(NBDSNodeProvider(), f"nbds://127.0.0.1:{plain.getHost().port}/vol")
        self.assertIn("has no TLS, which is demanded of it", node.reason)

    @needs("nbdkit")
    async def test_nbdkit(self) -> None:
        """nbdkit that demands a certificate of us."""
        self.machines.add("kit", addresses=("localhost",))
        path = short_socket(self)
        server = Server(
            self,
            path,
            *("nbdkit", "-f", "-U", path, "--tls=require", f"--tls-certificates={self.machines.path('kit')}"),
            *("--tls-verify-peer", "memory", str(SIZE)),
        )
        await server.started()
        node = await self.opened(NBDSUNIXNodeProvider(), f"nbds+unix:///?socket={path}")
        self.assertIs(LinkState.READY, node.link, node.reason)
        await node.write(4096, b"x" * 65536)
        self.assertEqual(b"x" * 65536, bytes(await node.read(4096, 65536)))
