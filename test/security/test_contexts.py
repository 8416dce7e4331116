"""Tests of L{dst.security.contexts} and L{dst.security.security}: both ends in memory, with real TLS."""

from __future__ import annotations

import datetime
import os
import shutil
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, PKey, load_certificate
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import ConfigurationError
from dst.identity import Role
from dst.security.certificates import Kind, holder_at
from dst.security.contexts import ClientOptions
from dst.security.files import write
from dst.security.identity_files import write_identity
from dst.security.making import certificate_pem
from dst.security.reasons import why_lost
from dst.security.security import REFUSALS_PER_MINUTE_MAX, WATCH_S
from test.security.machines import Machines, World, with_tls


class End(Protocol):
    """Says hello and remembers everything."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: str | None = None

    def connectionMade(self) -> None:
        self.transport.write(b"hello")  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost = why_lost(self.transport, reason) or str(reason.value)


class Connection:
    """Two ends, and what passes between them."""

    def __init__(self, clock: World, client_options: Any, server_options: Any) -> None:
        self.clock = clock
        self.client, self.server = End(), End()
        made = []
        for options, end, is_client in ((client_options, self.client, True), (server_options, self.server, False)):
            factory: Any = Factory.forProtocol(lambda end=end: end)
            made.append(with_tls(options, is_client, factory, clock).buildProtocol(None) if options else end)
        near, far = made
        near_transport, far_transport = FakeTransport(near, False), FakeTransport(far, True)
        self.pump = IOPump(near, far, near_transport, far_transport, False, clock=clock)
        far.makeConnection(far_transport)
        near.makeConnection(near_transport)
        self.flush()

    def flush(self) -> None:
        """Until nothing moves any more."""
        for _ in range(30):
            self.clock.advance(0)
            self.pump.pump()


class TLSTestCase(SynchronousTestCase):
    """An authority and two machines."""

    def setUp(self) -> None:
        self.clock = World()
        self.machines = Machines(self.mktemp())
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: Any) -> None:
        """What people see."""
        from twisted.logger import formatEvent

        if str(event.get("log_namespace", "")).startswith("dst."):
            self.logged.append(formatEvent(event))

    def connect(
        self, client: str, server: str, host: str = "10.0.0.1", peer: str | None = None, **options: Any
    ) -> Connection:
        """One machine connects to another."""
        return Connection(
            self.clock,
            self.machines.security(client, self.clock).client_options(host, peer),
            self.machines.security(server, self.clock).server_options(**options),
        )

    def assert_talk(self, connection: Connection) -> None:
        """Both ends have heard each other."""
        self.assertEqual((b"hello", b"hello"), (connection.client.received, connection.server.received))
        self.assertEqual((None, None), (connection.client.lost, connection.server.lost))

    def assert_refused(self, connection: Connection, server_says: str, client_says: str) -> None:
        """The server has heard nothing, and both know why."""
        self.assertEqual(b"", connection.server.received)
        self.assertIn(client_says, connection.client.lost or "still there")
        self.assertIn(server_says, connection.server.lost or "still there")


class HandshakeTests(TLSTestCase):
    """Who may talk to whom, and who may not and why."""

    def setUp(self) -> None:
        super().setUp()
        self.machines.add("alpha", addresses=("10.0.0.1", "alpha.example"))
        self.machines.add("beta", addresses=("10.0.0.2",))

    def test_members(self) -> None:
        """Two machines of one authority talk, with TLS 1.3, and each knows who the other is."""
        connection = self.connect("beta", "alpha")
        self.assert_talk(connection)
        for end, name in ((connection.server, "beta"), (connection.client, "alpha")):
            holder = holder_at(end.transport)
            assert holder is not None
            self.assertEqual((name, Kind.DAEMON, None), (holder.name, holder.kind, holder.role))
            self.assertEqual("TLSv1.3", end.transport.getHandle().get_protocol_version_name())  # type: ignore[union-attr]

    def test_certificates_that_cannot_be_read(self) -> None:
        """A stranger's certificate that OpenSSL can read and we cannot is refused in one line, as any other."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        mallory = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mallory")])
        builder = x509.CertificateBuilder(mallory, mallory, key.public_key(), 5)
        builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        for number in ("1.2.3.4", "1.2.3.5"):
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(number), b"\x04\x00")
            builder = builder.add_extension(extension, False)
        good = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
        for wrong in (
            good.replace(b"\x2a\x03\x05", b"\x2a\x03\x04"),  # an extension twice
            good.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),  # a version that there is not
        ):
            self.assertNotEqual(good, wrong)
            context = SSL.Context(SSL.TLS_METHOD)
            context.use_certificate(load_certificate(FILETYPE_ASN1, wrong))
            context.use_privatekey(PKey.from_cryptography_key(key))
            connection = Connection(
                self.clock,
                ClientOptions(lambda context=context: context, lambda _: None, "10.0.0.1", None),
                self.machines.security("alpha", self.clock).server_options(),
            )
            self.assert_refused(connection, "its certificate cannot be read", "")
            self.assertIn("cannot be read", self.logged[-1])

    def test_host_names(self) -> None:
        """A name is compared without regard to case; one that is not in the certificate is refused."""
        self.assert_talk(self.connect("beta", "alpha", "Alpha.Example"))
        self.assert_talk(self.connect("beta", "alpha", "localhost"))
        self.assert_refused(
            self.connect("beta", "alpha", "beta.example"),
            "refuses this side's certificate",
            "is not for beta.example but for 10.0.0.1, 127.0.0.1",
        )

    def test_wrong_address(self) -> None:
        """A machine at the address of another one is not taken for it."""
        self.assert_refused(
            self.connect("alpha", "beta", "10.0.0.1"),
            "refuses this side's certificate",
            "is not for 10.0.0.1 but for 10.0.0.2",
        )

    def test_expected_peer(self) -> None:
        """Who is expected by name may be at any address; somebody else at the right address is refused."""
        self.assert_talk(self.connect("beta", "alpha", "192.0.2.99", "alpha"))
        self.assert_refused(
            self.connect("beta", "alpha", "10.0.0.1", "gamma"),
            "refuses this side's certificate",
            "is not the one of gamma, who was expected there",
        )

    def test_person_connects(self) -> None:
        """A person may connect, with a role; a person's certificate is not good for a server."""
        self.machines.add("eve", kind=Kind.PERSON, role=Role.OPERATE)
        connection = self.connect("eve", "alpha")
        self.assert_talk(connection)
        holder = holder_at(connection.server.transport)
        assert holder is not None
        self.assertEqual(("eve", Kind.PERSON, Role.OPERATE), (holder.name, holder.kind, holder.role))
        self.assert_refused(
            self.connect("beta", "eve", "10.0.0.1"), "refuses this side's", "it is a person's, who may connect"
        )

    def test_expired(self) -> None:
        """A certificate that has ended is refused, and both ends say so."""
        self.machines.moment -= 10 * 86400
        self.machines.add("old", days=5)
        self.assert_refused(
            self.connect("old", "alpha"),
            "(old, serial ",
            "the other side refuses this side's certificate: it has ended",
        )
        self.assertIn("has ended on ", self.logged[-1])
        self.assert_refused(self.connect("beta", "old", peer="old"), "it has ended", "has ended on ")

    def test_not_yet(self) -> None:
        """A certificate of the future hints at the clocks."""
        self.machines.moment += 10 * 86400
        self.machines.add("early")
        self.assert_refused(
            self.connect("early", "alpha"), "compare the two machines' clocks", "refuses this side's certificate"
        )

    def test_revoked(self) -> None:
        """A revoked certificate is refused by whoever has the list."""
        self.assertEqual(["beta"], [each.name for each in self.machines.authority.revoke("beta")])
        self.machines.copy("revoked.crl", "alpha")
        self.assert_refused(
            self.connect("beta", "alpha"), "is revoked", "refuses this side's certificate: it is revoked"
        )
        self.assert_refused(self.connect("alpha", "beta", "10.0.0.2"), "it is revoked", "(beta, serial ")

    def test_other_authority(self) -> None:
        """A certificate of another authority is refused, by both."""
        others = Machines(self.mktemp())
        others.add("beta", addresses=("10.0.0.2",))
        stranger = others.security("beta", self.clock)
        alpha = self.machines.security("alpha", self.clock)
        self.assert_refused(
            Connection(self.clock, stranger.client_options("10.0.0.1"), alpha.server_options()),
            "authority is not trusted there",
            "is of an authority that is not trusted here: 'CN=DST authority",
        )
        # One that does not care whom it talks to gets no further.
        shutil.copy(os.path.join(self.machines.path("alpha"), "ca.crt"), self.mktemp())
        with open(os.path.join(others.path("beta"), "ca.crt"), "ab") as target:
            target.write(self.machines.authority.trusted_pem())
        careless = others.security("beta", self.clock)
        self.assert_refused(
            Connection(self.clock, careless.client_options("10.0.0.1"), alpha.server_options()),
            "is of an authority that is not trusted here",
            "its authority is not trusted there",
        )

    def test_no_certificate(self) -> None:
        """A client without a certificate is refused where one is demanded, and not where it is not."""
        from twisted.internet.ssl import CertificateOptions

        alpha = self.machines.security("alpha", self.clock)
        nobody = CertificateOptions()
        self.assert_refused(
            Connection(self.clock, nobody, alpha.server_options()),
            "it showed no certificate, which is demanded here",
            "demands a certificate",
        )
        self.assertIn("is refused: it showed no certificate", self.logged[-1])
        connection = Connection(self.clock, nobody, alpha.server_options(certificate_demanded=False))
        self.assert_talk(connection)
        self.assertIs(None, holder_at(connection.server.transport))

    def test_bad_certificate_where_none_is_demanded(self) -> None:
        """Who shows a bad one is refused, though it could have shown none."""
        self.machines.authority.revoke("beta")
        self.machines.copy("revoked.crl", "alpha")
        self.assert_refused(self.connect("beta", "alpha", certificate_demanded=False), "is revoked", "it is revoked")

    def test_old_tls(self) -> None:
        """TLS 1.2 is for those who are allowed to speak it; nothing older is."""
        from OpenSSL import SSL
        from twisted.internet.ssl import CertificateOptions

        class Old(CertificateOptions):
            version = SSL.TLS1_2_VERSION

            def getContext(self) -> Any:
                context = super().getContext()
                context.set_max_proto_version(self.version)
                context.set_cipher_list(b"DEFAULT@SECLEVEL=0")
                return context

        class Older(Old):
            version = SSL.TLS1_1_VERSION

        alpha = self.machines.security("alpha", self.clock)
        demanding = alpha.server_options(certificate_demanded=False)
        self.assert_refused(Connection(self.clock, Old(), demanding), "too old", "another version of TLS")
        lenient = alpha.server_options(certificate_demanded=False, allow_tls_1_2=True)
        self.assert_talk(Connection(self.clock, Old(), lenient))
        connection = Connection(self.clock, Older(), lenient)
        self.assertEqual((b"", b""), (connection.client.received, connection.server.received))
        self.assertIsNot(None, connection.server.lost)

    def test_plain(self) -> None:
        """Who does not speak TLS is told apart, on both sides, and nothing of it reaches the server."""
        alpha = self.machines.security("alpha", self.clock)
        connection = Connection(self.clock, None, alpha.server_options())
        self.assertEqual(b"", connection.server.received)
        connection.client.transport.write(b"GET / HTTP/1.1\r\n\r\n")  # type: ignore[union-attr]
        connection.flush()
        self.assertIn("does not speak TLS", connection.server.lost or "")
        self.assertIn("is refused", self.logged[-1])
        connection = Connection(self.clock, alpha.client_options("10.0.0.1"), None)
        self.assertIn("the other side does not speak TLS", connection.client.lost or "")

    def test_nothing_is_resumed(self) -> None:
        """A session cannot be taken up again: it would go round the checks."""
        beta = self.machines.security("beta", self.clock).client_options("10.0.0.1")
        alpha = self.machines.security("alpha", self.clock)
        connection = Connection(self.clock, beta, alpha.server_options())
        self.assert_talk(connection)
        session = connection.client.transport.getHandle().get_session()  # type: ignore[union-attr]

        class Resuming:
            """Offers the session of before."""

            def clientConnectionForTLS(self, protocol: Any) -> Any:
                made = beta.clientConnectionForTLS(protocol)
                made.set_session(session)
                return made

        from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
        from zope.interface import directlyProvides

        resuming = Resuming()
        directlyProvides(resuming, IOpenSSLClientConnectionCreator)
        self.machines.authority.revoke("beta")
        self.machines.copy("revoked.crl", "alpha")
        self.clock.advance(2)
        self.assert_refused(Connection(self.clock, resuming, alpha.server_options()), "is revoked", "it is revoked")

    def test_log_is_not_filled(self) -> None:
        """Of very many who are refused in a minute only some are in the log, and how many more there were."""
        alpha = self.machines.security("alpha", self.clock)
        options = alpha.server_options()

        def refuse(count: int) -> None:
            for _ in range(count):
                end = with_tls(options, False, Factory.forProtocol(End), self.clock).buildProtocol(None)
                end.makeConnection(StringTransport())
                end.dataReceived(b"GET / HTTP/1.1\r\n\r\n")

        refuse(REFUSALS_PER_MINUTE_MAX + 7)
        self.assertEqual(REFUSALS_PER_MINUTE_MAX, len([each for each in self.logged if "is refused" in each]))
        self.clock.advance(61)
        refuse(1)
        self.assertIn("7 more were refused", self.logged)


class ReloadingTests(TLSTestCase):
    """Files that change under a daemon that runs."""

    def setUp(self) -> None:
        super().setUp()
        self.machines.add("alpha", addresses=("10.0.0.1",))
        self.machines.add("beta", addresses=("10.0.0.2",))
        self.alpha = self.machines.security("alpha", self.clock)
        self.beta = self.machines.security("beta", self.clock)

    def open(self) -> Connection:
        """Beta connects to alpha, both as they are."""
        return Connection(self.clock, self.beta.client_options("10.0.0.1"), self.alpha.server_options())

    def test_renewed(self) -> None:
        """A renewed certificate is used for the next connection; the ones that there are stay."""
        before = self.open()
        self.machines.moment += 100
        certificate = self.machines.authority.renew("beta", 700)
        from dst.security.making import certificate_pem

        with open(os.path.join(self.machines.path("beta"), "this.crt"), "wb") as target:
            target.write(certificate_pem(certificate))
        self.clock.advance(2)
        after = self.open()
        self.assert_talk(after)
        self.assert_talk(before)
        self.assertTrue(690 < self.beta.certificate_days_left() < 701)
        shown = after.server.transport.getPeerCertificate().to_cryptography()  # type: ignore[union-attr]
        self.assertEqual(certificate.serial_number, shown.serial_number)

    def test_revoked_while_connected(self) -> None:
        """The connections of a revoked certificate end by themselves, at both kinds of ends; others stay."""
        self.machines.add("gamma", addresses=("10.0.0.3",))
        gamma = self.machines.security("gamma", self.clock)
        there = self.open()
        outward = Connection(self.clock, self.alpha.client_options("10.0.0.2"), self.beta.server_options())
        other = Connection(self.clock, gamma.client_options("10.0.0.1"), self.alpha.server_options())
        self.alpha.start()
        self.addCleanup(self.alpha.stop)
        self.machines.authority.revoke("beta")
        self.machines.copy("revoked.crl", "alpha")
        self.clock.advance(WATCH_S)
        for connection in (there, outward, other):
            connection.flush()
        self.assertIn("(beta, serial ", there.server.lost or "still there")
        self.assertIn("is revoked", outward.client.lost or "still there")
        self.assertIsNot(None, there.client.lost)
        self.assert_talk(other)

    def test_revoked_while_it_says_who_it_is(self) -> None:
        """Who is revoked in the middle of a handshake gains nothing by going on with it later."""
        near, far = End(), End()
        client = with_tls(self.beta.client_options("10.0.0.1"), True, Factory.forProtocol(lambda: near), self.clock)
        server = with_tls(self.alpha.server_options(), False, Factory.forProtocol(lambda: far), self.clock)
        ends = client.buildProtocol(None), server.buildProtocol(None)
        transports = FakeTransport(ends[0], False), FakeTransport(ends[1], True)
        pump = IOPump(*ends, *transports, False, clock=self.clock)
        ends[1].makeConnection(transports[1])
        ends[0].makeConnection(transports[0])
        pump.pump()
        self.assertFalse(ends[1].getHandle().established)  # type: ignore[union-attr]
        self.alpha.start()
        self.addCleanup(self.alpha.stop)
        self.machines.authority.revoke("beta")
        self.machines.copy("revoked.crl", "alpha")
        self.clock.advance(WATCH_S)
        for _ in range(30):
            self.clock.advance(0)
            pump.pump()
        self.assertEqual((b"", b""), (near.received, far.received))
        self.assertIn("it had not said who it is when the lists changed", " ".join(self.logged))

    def test_authority_retired(self) -> None:
        """When an authority is not trusted any more its connections end."""
        self.machines.authority.rotate("next")
        self.machines.add("gamma", addresses=("10.0.0.3",))
        gamma = self.machines.security("gamma", self.clock)
        self.machines.copy("ca.crt", "alpha")
        self.machines.copy("revoked.crl", "alpha")
        self.clock.advance(2)
        old = self.open()
        new = Connection(self.clock, self.alpha.client_options("10.0.0.3"), gamma.server_options())
        self.assert_talk(old)
        self.assert_talk(new)
        self.assertEqual({"alpha", "beta"}, {each.name for each in self.machines.authority.lapsing()})
        self.machines.add("alpha", addresses=("10.0.0.1",), again=True)
        self.machines.authority.retire()
        for what in ("ca.crt", "revoked.crl"):
            self.machines.copy(what, "alpha")
        self.alpha.look()
        old.flush()
        self.assertEqual("", self.alpha.problem)
        self.assertIn("is not trusted any more", old.server.lost or "still there")
        self.assert_talk(new)

    def test_broken_files(self) -> None:
        """Files that cannot be used are said to be, and those before them still are."""
        path = os.path.join(self.machines.path("alpha"), "this.crt")
        with open(path, "rb") as source:
            good = source.read()
        shutil.copy(os.path.join(self.machines.path("beta"), "this.crt"), path)
        self.clock.advance(2)
        self.assert_talk(self.open())
        self.assertIn("does not belong to", self.alpha.problem)
        self.assertEqual("alpha", self.alpha.name)
        self.assertEqual(1, len([each for each in self.logged if "new certificates are not used" in each]))
        with open(path, "wb") as target:
            target.write(good)
        self.clock.advance(2)
        self.assert_talk(self.open())
        self.assertEqual("", self.alpha.problem)

    def test_stopped(self) -> None:
        """Nothing is left of one that was stopped."""
        self.alpha.start()
        self.alpha.start()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.alpha.stop()
        self.assertEqual([], self.clock.getDelayedCalls())


class DirectoryTests(TLSTestCase):
    """Directories that cannot be used."""

    def setUp(self) -> None:
        super().setUp()
        self.machines.add("alpha")
        self.path = self.machines.path("alpha")

    def assert_unusable(self, words: str) -> None:
        """The directory is refused for that reason."""
        error = self.assertRaises(ConfigurationError, self.machines.security, "alpha", self.clock)
        self.assertIn(words, error.message)

    def test_missing(self) -> None:
        """A missing file is named; so is a missing directory."""
        os.unlink(os.path.join(self.path, "this.key"))
        self.assert_unusable("this.key is missing; `dst join`")
        shutil.rmtree(self.path)
        self.assert_unusable("No such file or directory; `dst ca init` or `dst join` makes one")

    def test_open_to_others(self) -> None:
        """A key or a directory that others can read is refused."""
        os.chmod(os.path.join(self.path, "this.key"), 0o640)
        self.assert_unusable("this.key is open to others (mode 0640)")
        os.chmod(os.path.join(self.path, "this.key"), 0o600)
        os.chmod(self.path, 0o755)
        self.assert_unusable("is open to others (mode 0755)")

    def test_contradictions(self) -> None:
        """What does not belong together is found."""
        others = Machines(self.mktemp())
        others.add("beta")
        shutil.copy(os.path.join(others.path("beta"), "revoked.crl"), self.path)
        self.assert_unusable("was not signed by an authority in ca.crt")
        os.unlink(os.path.join(self.path, "revoked.crl"))
        shutil.copy(os.path.join(others.path("beta"), "ca.crt"), self.path)
        self.assert_unusable("was not signed by an authority in")
        shutil.copy(os.path.join(others.path("beta"), "this.crt"), self.path)
        self.assert_unusable("does not belong to")
        shutil.copy(os.path.join(self.path, "this.crt"), os.path.join(self.path, "ca.crt"))
        shutil.copy(os.path.join(others.path("beta"), "this.key"), self.path)
        self.assert_unusable("is no authority's")

    def test_garbage(self) -> None:
        """So is what is none of it at all."""
        for name, words in (
            ("revoked.crl", "is no revocation list"),
            ("this.key", "is no key"),
            ("this.crt", "no certificate that can be read"),
            ("ca.crt", "no certificate that can be read"),
        ):
            with open(os.path.join(self.path, name), "wb") as target:
                target.write(b"\0garbage" * 10)
            self.assert_unusable(words)

    def test_other_makers(self) -> None:
        """Certificates and keys of other tools, RSA among them, are used as they are."""
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        authority_key = rsa.generate_private_key(65537, 2048)
        authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A Company")])

        def make(name: x509.Name, key: Any, *extensions: x509.ExtensionType) -> x509.Certificate:
            builder = (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(authority_name)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - day)
                .not_valid_after(now + day)
            )
            for each in extensions:
                builder = builder.add_extension(each, critical=False)
            return builder.sign(authority_key, hashes.SHA256())

        authority = make(authority_name, authority_key, x509.BasicConstraints(True, None))
        revoked = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority_name)
            .last_update(now - 2 * day)
            .next_update(now - day)  # nobody has made a new one in time
            .sign(authority_key, hashes.SHA256())
        )
        for name in ("one.example", "two.example"):
            key = rsa.generate_private_key(65537, 2048)
            holder = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            certificate = make(holder, key, x509.SubjectAlternativeName([x509.DNSName(name)]))
            write_identity(
                self.machines.path(name),
                None,
                certificate,
                certificate_pem(authority),
                revoked.public_bytes(Encoding.PEM),
            )
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
            write(os.path.join(self.machines.path(name), "this.key"), pem, private=True)
        connection = self.connect("two.example", "one.example", "one.example")
        self.assert_talk(connection)
        holder_there = holder_at(connection.server.transport)
        assert holder_there is not None
        self.assertEqual(("two.example", None, None), (holder_there.name, holder_there.kind, holder_there.role))

    def test_no_list(self) -> None:
        """Without a list of revoked certificates nobody is revoked."""
        os.unlink(os.path.join(self.path, "revoked.crl"))
        self.machines.add("beta", addresses=("10.0.0.2",))
        self.assert_talk(self.connect("alpha", "beta", "10.0.0.2"))
        self.assert_talk(self.connect("beta", "alpha", "localhost"))
