"""Tests of invitations: the format with literal bytes, and both sides in memory with real TLS."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dst.errors import DeadlinePassed, Denied, DSTError, InvalidRequest, PeerError, Unavailable
from dst.security.authority import fingerprint
from dst.security.certificates import identity_of
from dst.security.directory import load
from dst.security.invitation import (
    Grant,
    Kind,
    Messages,
    Token,
    decode_grant,
    decode_request,
    encode,
    encode_grant,
    encode_request,
    proof,
)
from dst.security.inviting import ATTEMPTS_MAX, CONNECTION_S_MAX, CONNECTIONS_MAX, Inviting
from dst.security.joining import JOIN_S_MAX, join
from dst.security.making import Wanted, make_key, make_request
from test.security.machines import Machines, World

SECRET = bytes(range(16))
BINDING = bytes(range(32, 64))
NONCE = bytes(range(64, 96))

# As in docs/specifications/invitation.rst.
TOKEN = (
    "dst1-aaaqeayeaudaocajbifqydiob5sgkzthnbuwu23mnvxg64drojzxi5lwo54hs6t3pr6x474aqgbigmjzgixdalrsfyysanzuguy7vhx77a"
)
PROOF = "5f1a9777daff49e437e6bbbf8acea826df684494b0598212aa46f18024fa4af0"
GRANT_PROOF = "eeccce1556c5b2f0e7bc05e2518efcdf97e4bbd60d562c77350cb479ae7acaa7"


class FormatTests(SynchronousTestCase):
    """The bytes are those of the specification."""

    def test_token(self) -> None:
        """A token is one word, of small letters and digits, and says where, whom, and the secret."""
        token = Token("192.0.2.1", 7451, bytes(range(100, 132)), SECRET)
        text = token.encode()
        self.assertEqual(TOKEN, text)
        self.assertEqual(token, Token.decode(text))
        self.assertEqual(token, Token.decode(f"  {text[:40]}\n{text[40:].upper()} "))
        self.assertEqual("2001:db8::1", Token.decode(Token("2001:db8::1", 1, bytes(32), SECRET).encode()).host)

    def test_bad_tokens(self) -> None:
        """One letter too few, too many, or wrong is noticed, and said."""
        text = Token("192.0.2.1", 7451, bytes(32), SECRET).encode()
        for bad in (
            text[:-1],
            text + "a",
            text[:9] + ("b" if text[9] == "a" else "a") + text[10:],
            "dst1-",
            "dst1-1",
        ):
            self.assertIn("copy", self.assertRaises(InvalidRequest, Token.decode, bad).message)
        self.assertRaises(InvalidRequest, Token.decode, "dst1-" + "a" * 5000)
        self.assertRaises(InvalidRequest, Token.decode, "hello")

    @given(st.text(max_size=200))
    def test_random_tokens(self, text: str) -> None:
        """Whatever else is given is refused and nothing worse."""
        self.assertRaises(InvalidRequest, Token.decode, text)
        self.assertRaises(InvalidRequest, Token.decode, "dst1-" + text)

    def test_messages(self) -> None:
        """A message is a header of 12 bytes and its body; proofs are HMACs."""
        self.assertEqual(bytes.fromhex("4453544a 01 01 0000 04000000 61626364"), encode(Kind.CHALLENGE, b"abcd"))
        self.assertEqual(
            PROOF,
            proof(SECRET, "request", BINDING, NONCE, b"key").hex(),
        )
        request = encode_request(b"key", SECRET, BINDING, NONCE)
        self.assertEqual(bytes.fromhex("4453544a 01 02 0000 23000000" + PROOF) + b"key", request)
        self.assertEqual(b"key", decode_request(request[12:], SECRET, BINDING, NONCE))
        grant = encode_grant(Grant(b"c", b"tt", b""), SECRET, BINDING, NONCE)
        self.assertEqual(
            bytes.fromhex("4453544a 01 03 0000 2f000000" + GRANT_PROOF + "01000000 63 02000000 7474 00000000"), grant
        )
        self.assertEqual(Grant(b"c", b"tt", b""), decode_grant(grant[12:], SECRET, BINDING, NONCE))

    def test_worth_nothing_elsewhere(self) -> None:
        """A proof is worth nothing with another secret, connection, number, purpose or content."""
        request = encode_request(b"key", SECRET, BINDING, NONCE)[12:]
        other = bytes(32)
        self.assertIs(None, decode_request(request, bytes(16), BINDING, NONCE))
        self.assertIs(None, decode_request(request, SECRET, other, NONCE))
        self.assertIs(None, decode_request(request, SECRET, BINDING, other))
        self.assertIs(None, decode_request(request + b"x", SECRET, BINDING, NONCE))
        self.assertIs(None, decode_request(b"", SECRET, BINDING, NONCE))
        self.assertRaises(PeerError, decode_grant, request, SECRET, BINDING, NONCE)

    def test_bad_grants(self) -> None:
        """A grant of the wrong length is refused, though it was proved."""
        for parts in (b"", b"\x01\0\0\0", b"\x01\0\0\0a\0\0\0\0\0\0\0\0x", b"\xff\xff\xff\xff" * 3):
            body = proof(SECRET, "grant", BINDING, NONCE, parts) + parts
            self.assertRaises(PeerError, decode_grant, body, SECRET, BINDING, NONCE)

    def test_byte_by_byte(self) -> None:
        """Messages are found however they arrive."""
        sent = encode(1, b"abc") + encode(2, b"")
        messages = Messages(10)
        found = [each for index in range(len(sent)) for each in messages.receive(sent[index : index + 1])]
        self.assertEqual([(1, b"abc"), (2, b"")], found)
        self.assertEqual([(1, b"abc"), (2, b"")], Messages(10).receive(sent))

    def test_bad_messages(self) -> None:
        """Another magic, another version, or too much, is refused at its first bytes."""
        for data, words in (
            (b"GET / HTTP/1.1\r\n", "is no message"),
            (bytes.fromhex("4453544a 02 01 0000 00000000"), "version 2"),
            (bytes.fromhex("4453544a 01 01 0000 0b000000"), "too long"),
            (bytes.fromhex("4453544a 01 01 0000 ffffffff"), "too long"),
        ):
            self.assertIn(words, self.assertRaises(PeerError, Messages(10).receive, data).message)


@implementer(IStreamClientEndpoint)
class Road:
    """Where the one who joins thinks that the other one is."""

    def __init__(self, clock: World, factory: Any) -> None:
        self.clock = clock
        self.factory = factory
        self.pumps: list[IOPump] = []
        self.seen = b""

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See L{IStreamClientEndpoint}."""
        near, far = protocolFactory.buildProtocol(None), self.factory.buildProtocol(None)
        if far is None:
            return fail(Failure(ConnectError(string="refused")))
        near_transport, far_transport = FakeTransport(near, False), FakeTransport(far, True)
        self.pumps.append(IOPump(near, far, near_transport, far_transport, False, clock=self.clock))
        far.makeConnection(far_transport)
        near.makeConnection(near_transport)
        return succeed(near)

    def flush(self) -> None:
        """Until nothing moves any more."""
        for _ in range(20):
            self.clock.advance(0)
            for pump in self.pumps:
                pump.pump()


class JoiningTests(SynchronousTestCase):
    """Who joins and who does not."""

    def setUp(self) -> None:
        self.clock = World()
        self.machines = Machines(self.mktemp())
        self.machines.add("alpha")
        self.signed: list[str] = []
        self.told: list[str] = []
        self.inviting = self.invite()
        self.road = Road(self.clock, self.inviting.factory)
        self.outcome: list[Any] = []
        self.inviting.joined.addBoth(self.outcome.append)
        self.token = Token("alpha", 7451, fingerprint(self.machines.authority.certificate), SECRET)

    def invite(self, machines: Machines | None = None, name: str = "alpha") -> Inviting:
        """Alpha waits."""
        chosen = machines or self.machines
        credentials = load(chosen.path(name))

        def sign(key: Any, address: str) -> Grant:
            self.signed.append(address)
            certificate = chosen.authority.sign(Wanted("beta"), key)
            authority = chosen.authority
            return Grant(certificate.public_bytes(Encoding.DER), authority.trusted_pem(), authority.revocations_pem())

        inviting = Inviting(self.clock, credentials, SECRET, sign, minutes=10, told=self.told.append)
        self.addCleanup(inviting.joined.addErrback, lambda _: None)
        self.addCleanup(inviting.joined.cancel)
        return inviting

    def join(self, token: Token | None = None, road: Road | None = None) -> Deferred[Any]:
        """Beta accepts; fires with the certificate and the rest."""
        joining = join(self.clock, road or self.road, token or self.token, make_key())
        (road or self.road).flush()
        return joining

    def refused(
        self, kind: type[DSTError], *words: str, token: Token | None = None, road: Road | None = None
    ) -> None:
        """It does not join, for that reason."""
        message = self.failureResultOf(self.join(token, road), kind).value.message
        for each in words:
            self.assertIn(each, message)

    def test_joined(self) -> None:
        """Who has the token gets a certificate for its own key, and whom to trust; nothing is left behind."""
        certificate, grant = self.successResultOf(self.join())
        self.assertEqual("beta", identity_of(certificate)[0])
        self.assertEqual(self.machines.authority.trusted_pem(), grant.trusted)
        self.road.flush()
        self.assertEqual(1, len(self.outcome))
        self.assertNotIsInstance(self.outcome[0], Failure)
        self.assertEqual(0, self.inviting.connections)
        self.assertEqual([], [call for call in self.clock.getDelayedCalls() if call.active()])
        self.assertEqual([], self.told)

    def test_once(self) -> None:
        """A token is good for one certificate."""
        self.successResultOf(self.join())
        self.refused(Unavailable, "cannot be reached")
        self.assertEqual(1, len(self.signed))

    def test_two_at_once(self) -> None:
        """Of two that come together with the same token one is served."""
        first = join(self.clock, self.road, self.token, make_key())
        second = join(self.clock, self.road, self.token, make_key())
        self.road.flush()
        self.successResultOf(first)
        self.failureResultOf(second, Denied, Unavailable)
        self.assertEqual(1, len(self.signed))

    def test_wrong_secret(self) -> None:
        """Who has not the secret is refused; after some attempts the invitation is over, for everybody."""
        wrong = Token("alpha", 7451, self.token.fingerprint, bytes(16))
        for _ in range(ATTEMPTS_MAX - 1):
            self.refused(Denied, "alpha refuses: that is not the secret of this invitation", token=wrong)
        self.assertEqual([], self.outcome)
        self.refused(Denied, "not the secret", token=wrong)
        self.assertIsInstance(self.outcome[0].value, Denied)
        self.assertIn("3 attempts did not know the secret", self.outcome[0].value.message)
        self.refused(Unavailable, "cannot be reached")
        self.assertEqual([], self.signed)
        self.assertEqual(ATTEMPTS_MAX, len(self.told))

    def test_other_authority(self) -> None:
        """Whoever answers with another authority's certificate hears nothing."""
        others = Machines(self.mktemp())
        others.add("alpha")
        fake = Road(self.clock, self.invite(others).factory)
        self.refused(Denied, "is not the one who has invited", "nothing was sent", road=fake)
        self.assertEqual([], self.signed)

    def test_borrowed_authority(self) -> None:
        """Showing the right authority with a certificate that it has not made is not enough."""
        from OpenSSL import SSL
        from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
        from twisted.internet.protocol import Factory

        others = Machines(self.mktemp())
        others.add("alpha")
        stolen = self.machines.authority.certificate
        credentials = load(others.path("alpha"))
        heard = []

        @implementer(IOpenSSLServerConnectionCreator)
        class Options:
            def serverConnectionForTLS(self, protocol: Any) -> Any:
                context = SSL.Context(SSL.TLS_METHOD)
                context.use_certificate(credentials.certificate)
                context.use_privatekey(credentials.key)
                context.add_extra_chain_cert(stolen)
                connection = SSL.Connection(context, None)
                connection.set_accept_state()
                return connection

        class Listener(Protocol):
            def dataReceived(self, data: bytes) -> None:
                heard.append(data)

        from dst.security.tls import behind_tls

        road = Road(self.clock, behind_tls(Options(), Factory.forProtocol(Listener), self.clock))
        self.refused(Denied, "is not the one who has invited", road=road)
        self.assertEqual([], heard)

    def test_member_in_the_middle(self) -> None:
        """
        A member of the cluster that answers in alpha's place, and passes on what it hears, gets nothing signed: the
        proof is for another connection.
        """
        self.machines.add("mallory")
        credentials = load(self.machines.path("mallory"))
        wiretapped: list[bytes] = []

        def sign(key: Any, address: str) -> Grant:
            raise AssertionError("mallory cannot sign")

        middle = Inviting(self.clock, credentials, bytes(16), sign, minutes=1)
        middle.joined.addErrback(lambda _: None)
        self.addCleanup(middle.joined.cancel)

        def asked(body: bytes, binding: bytes, nonce: bytes, address: str) -> bytes:
            wiretapped.append(body)
            raise Denied("later")

        middle.asked = asked  # type: ignore[method-assign]
        self.refused(Denied, "later", road=Road(self.clock, middle.factory))
        replaying = wiretapped[0]
        self.assertNotIn(SECRET, replaying)
        with self.assertRaises(Denied) as caught:
            self.inviting.asked(replaying, bytes(32), bytes(32), "mallory")
        self.assertIn("not the secret", caught.exception.message)

    def test_forged_grant(self) -> None:
        """An answer that was not made with the secret is not used."""
        good = self.inviting.asked

        def asked(body: bytes, binding: bytes, nonce: bytes, address: str) -> bytes:
            answer = bytearray(good(body, binding, nonce, address))
            answer[-1] ^= 1
            return bytes(answer)

        self.inviting.asked = asked  # type: ignore[method-assign]
        self.refused(PeerError, "was not made by the one who invited")

    def test_expired(self) -> None:
        """After its time an invitation is over."""
        self.clock.advance(600)
        self.assertIsInstance(self.outcome[0].value, DeadlinePassed)
        self.refused(Unavailable, "is `dst ca invite` still waiting there")

    def test_slow(self) -> None:
        """Who connects and says nothing is let go; so is who joins and hears nothing."""
        factory: Any = self.inviting.factory
        silent = factory.buildProtocol(None)
        silent.makeConnection(FakeTransport(silent, True))
        self.assertEqual(1, self.inviting.connections)
        self.clock.advance(CONNECTION_S_MAX)
        self.assertTrue(silent.transport.disconnecting or silent.transport.disconnected)
        self.assertIn("took longer than", self.told[0])

        class Nowhere:
            """Never answers."""

            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred()

        joining = join(self.clock, Nowhere(), self.token, make_key())  # type: ignore[arg-type]
        self.clock.advance(JOIN_S_MAX)
        self.failureResultOf(joining, DeadlinePassed)

    def test_crowd(self) -> None:
        """There is room for a few at a time."""
        factory: Any = self.inviting.factory
        for _ in range(CONNECTIONS_MAX):
            each = factory.buildProtocol(None)
            each.makeConnection(FakeTransport(each, True))
        self.assertIs(None, factory.buildProtocol(None))

    def test_nonsense(self) -> None:
        """What is no request is refused, and does not count as an attempt."""
        from twisted.internet.protocol import Factory

        from dst.security.joining import _Options
        from dst.security.tls import TLSEndpoint

        said: list[bytes] = []

        class Talker(Protocol):
            def __init__(self, words: bytes) -> None:
                self.words = words

            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(self.words)

            def dataReceived(self, data: bytes) -> None:
                said.append(data)

        for words in (b"GET / HTTP/1.1\r\n\r\n", encode(3, b""), encode(2, b"x" * 5000), encode(1, bytes(32))):
            TLSEndpoint(_Options(), self.road, self.clock).connect(
                Factory.forProtocol(lambda words=words: Talker(words))
            )
            self.road.flush()
        self.assertEqual(4, len(self.told))
        self.assertEqual(0, self.inviting.connections)
        self.successResultOf(self.join())

    def test_plain(self) -> None:
        """Who does not speak TLS is told apart."""
        factory: Any = self.inviting.factory
        plain = factory.buildProtocol(None)
        plain.makeConnection(FakeTransport(plain, True))
        plain.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        plain.transport.disconnected = True
        plain.connectionLost(Failure(ConnectError()))
        self.assertIn("TLS", self.told[0])

    def test_wrong_key(self) -> None:
        """A certificate for somebody else's key is not taken."""
        from dst.security import joining as module

        other = make_key()
        self.patch(module, "make_request", lambda name, key: make_request(name, other))
        self.refused(PeerError, "not for this machine's key")

    def test_clock(self) -> None:
        """A machine whose clock is far behind is told so."""
        self.clock.began -= 86400
        self.refused(Denied, "this machine's clock is before that")
