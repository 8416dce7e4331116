"""Tests of L{dst.nbd.client_handshake} and L{dst.nbd.server_handshake}, each alone and with each other."""

from __future__ import annotations

import random
from struct import pack

from twisted.trial.unittest import SynchronousTestCase

from dst.errors import Denied, DSTError, NotFound, NotSupported, PeerError
from dst.nbd import constants as nbd
from dst.nbd.client_handshake import REPLIES_MAX, ClientHandshake, Served
from dst.nbd.server_handshake import META_CONTEXT_ID, ExportInfo, ServerHandshake

FLAGS = nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH


class TwoExports:
    """C{small} and C{large}; C{secret} is denied."""

    def list_exports(self) -> list[str]:
        return ["large", "small"]

    def describe_export(self, name: str) -> ExportInfo:
        if name == "secret":
            raise Denied("the export 'secret' is not for you")
        if name not in self.list_exports():
            raise NotFound(f"there is no export {name!r} here")
        size = 1 << 40 if name == "large" else 4096
        return ExportInfo(name, size, FLAGS, 512, 4096, 1 << 20, "an export for tests")


def greeting(flags: int = 3) -> bytes:
    """How a server begins."""
    return b"NBDMAGICIHAVEOPT" + pack(">H", flags)


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    """A reply to an option."""
    return pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data


INFO = reply(7, 3, pack(">HQH", 0, 4096, FLAGS))
ALL = (
    greeting()
    + reply(8, 1)
    + reply(10, 4, pack(">I", 9) + b"base:allocation")
    + reply(10, 1)
    + reply(7, 3, pack(">HIII", 3, 512, 4096, 1 << 20))
    + INFO
    + reply(7, 1)
)


class ClientTests(SynchronousTestCase):
    """The client's side alone."""

    def test_literal_bytes(self) -> None:
        """What it sends, byte for byte."""
        client = ClientHandshake("vol")
        client.receive(ALL)
        expected = (
            "00000003"
            "49484156454f5054 00000008 00000000"
            "49484156454f5054 0000000a 0000001e 00000003 766f6c 00000001 0000000f 626173653a616c6c6f636174696f6e"
            "49484156454f5054 00000007 0000000b 00000003 766f6c 0001 0003"
        )
        self.assertEqual(bytes.fromhex(expected), b"".join(client.outgoing))
        self.assertEqual(Served(4096, FLAGS, 512, 4096, 1 << 20, True, 9), client.served)

    def test_any_cut(self) -> None:
        """However it arrives; what is behind the last answer is left alone."""
        for step in (1, 2, 5, 19, 20, 1000):
            client = ClientHandshake("vol")
            stream = ALL + b"behind"
            for at in range(0, len(stream), step):
                client.receive(stream[at : at + step])
            self.assertEqual((4096, b"behind"), (client.served and client.served.size, client.rest))

    def test_every_byte(self) -> None:
        """Whatever byte is flipped or random: an agreement, an error that says why, or waiting for more."""
        generator = random.Random(2)
        refused = 0
        for at in range(len(ALL)):
            variants = [ALL[:at] + bytes([ALL[at] ^ 1 << bit]) + ALL[at + 1 :] for bit in range(8)]
            for variant in [*variants, ALL[:at] + generator.randbytes(len(ALL) - at)]:
                try:
                    ClientHandshake("vol").receive(variant)
                except DSTError as error:
                    refused += 1
                    self.assertGreater(len(error.message), 15)
        self.assertGreater(refused, len(ALL))

    def test_truncated(self) -> None:
        """A conversation that stops anywhere is no agreement."""
        for cut in range(len(ALL)):
            client = ClientHandshake("vol")
            client.receive(ALL[:cut])
            self.assertIsNone(client.served)

    def test_bad(self) -> None:
        """What no server may say, by name."""
        begin = greeting() + reply(8, nbd.REP_ERR_UNSUP)
        cases = {
            "no NBD": b"SSH-2.0-OpenSSH_9.2",
            "wrong second magic": b"NBDMAGIC" + bytes(8),
            "reply magic": greeting() + bytes(20),
            "reply to another option": greeting() + reply(7, 1),
            "reply too long": greeting() + pack(">QIII", 0x3E889045565A9, 8, 1, 1 << 30),
            "strange reply": greeting() + reply(8, 2),
            "no information": begin + reply(7, 1),
            "short information": begin + reply(7, 3, b"\0"),
            "short export information": begin + reply(7, 3, pack(">HQ", 0, 4096)),
            "short block sizes": begin + reply(7, 3, pack(">HI", 3, 512)),
            "block size 0": begin + reply(7, 3, pack(">HIII", 3, 0, 4096, 4096)),
            "block size 3": begin + reply(7, 3, pack(">HIII", 3, 3, 4096, 4096)),
            "gigantic export": begin + reply(7, 3, pack(">HQH", 0, 1 << 63, FLAGS)),
            "short context": greeting() + reply(8, 1) + reply(10, 4, b"\0"),
            "flood": begin + reply(7, 3, pack(">H", 1) + b"vol") * (REPLIES_MAX + 1),
        }
        for what, stream in cases.items():
            error = self.assertRaises(PeerError, ClientHandshake("vol").receive, stream)
            self.assertIn("NBD server", error.message, what)

    def test_unknown_information(self) -> None:
        """Information of tomorrow, and contexts that were not asked for, are passed over."""
        client = ClientHandshake("vol")
        client.receive(
            greeting()
            + reply(8, 1)
            + reply(10, 4, pack(">I", 1) + b"x-other:thing")
            + reply(10, 1)
            + reply(7, 3, pack(">H", 77) + b"?")
            + INFO
            + reply(7, 1)
        )
        assert client.served is not None
        self.assertEqual((4096, None), (client.served.size, client.served.context_id))


class TogetherTests(SynchronousTestCase):
    """Our client and our server."""

    def converse(self, export: str) -> tuple[ClientHandshake, ServerHandshake]:
        """Let them talk until neither has anything to say."""
        client, server = ClientHandshake(export), ServerHandshake(TwoExports())
        server.begin()
        while client.outgoing or server.outgoing:
            to_client, server.outgoing = b"".join(server.outgoing), []
            client.receive(to_client)
            to_server, client.outgoing = b"".join(client.outgoing), []
            server.receive(to_server)
            while server.advance():
                pass
        return client, server

    def test_agree(self) -> None:
        """Both end with the same idea of the export."""
        client, server = self.converse("large")
        agreed = server.agreement
        assert agreed is not None
        expected = Served(1 << 40, FLAGS | nbd.FLAG_SEND_DF, 512, 4096, 1 << 20, True, META_CONTEXT_ID)
        self.assertEqual(expected, client.served)
        self.assertEqual(("large", True, True), (agreed.export.name, agreed.structured, agreed.block_status))

    def test_refused(self) -> None:
        """A refusal arrives as what it is, with its sentence."""
        self.assertIn("no export 'medium'", self.assertRaises(NotFound, self.converse, "medium").message)
        self.assertIn("not for you", self.assertRaises(Denied, self.converse, "secret").message)

    def test_refused_in_many_lines(self) -> None:
        """What a server says is one line of what can be read, as it goes into a log."""
        client = ClientHandshake("vol")
        client.receive(
            nbd.GREETING.pack(nbd.INIT_MAGIC, nbd.OPTION_MAGIC, nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES)
        )
        for option, reply, said in (
            (nbd.OPT_STRUCTURED_REPLY, nbd.REP_ERR_UNSUP, b""),
            (nbd.OPT_GO, nbd.REP_ERR_POLICY, b"no\nalpha has written\x1b[2J"),
        ):
            data = nbd.OPTION_REPLY.pack(nbd.OPTION_REPLY_MAGIC, option, reply, len(said)) + said
            if said:
                error = self.assertRaises(DSTError, client.receive, data)
                self.assertTrue(error.message.isprintable(), error.message)
                self.assertIn("alpha has written", error.message)
            else:
                client.receive(data)

    def test_names(self) -> None:
        """Names are UTF-8, and may be long."""
        for name in ("größe", "x" * 4096, "a/b c"):
            self.assertIn(name[:100], self.assertRaises(NotFound, self.converse, name).message)


class TLSServerTests(SynchronousTestCase):
    """The server's side where there may be TLS."""

    def server(self, tls: str) -> ServerHandshake:
        """One that has greeted its client and knows its flags."""
        server = ServerHandshake(TwoExports(), tls)
        server.begin()
        self.say(server, pack(">I", 3))
        return server

    def say(self, server: ServerHandshake, data: bytes) -> bytes:
        """What it answers to C{data}, since it was asked last."""
        server.receive(data)
        while server.advance():
            pass
        said, server.outgoing = b"".join(server.outgoing), []
        return said

    def option(self, number: int, data: bytes = b"") -> bytes:
        """An option as a client sends it."""
        return b"IHAVEOPT" + pack(">II", number, len(data)) + data

    def test_required(self) -> None:
        """Before TLS nothing is answered but that TLS is required, and nothing is told."""
        server = self.server("required")
        go = pack(">I", 5) + b"small" + pack(">H", 0)
        for option, data in ((3, b""), (6, go), (7, go), (8, b""), (9, go), (10, go), (99, b"x")):
            said = self.say(server, self.option(option, data))
            self.assertEqual(pack(">QII", 0x3E889045565A9, option, 0x80000005), said[:16], option)
            self.assertNotIn(b"small", said)
        self.assertRaises(PeerError, self.say, server, self.option(1, b"small"))
        self.assertEqual(reply(2, 1), self.say(self.server("required"), self.option(2)))

    def test_begin(self) -> None:
        """After it everything is as without it."""
        for tls in ("optional", "required"):
            server = self.server(tls)
            self.assertEqual(reply(5, 1), self.say(server, self.option(5)))
            self.assertTrue(server.starting_tls)
            self.assertFalse(server.advance())
            server.secured()
            self.assertIn(b"small", self.say(server, self.option(3)))
            self.assertEqual(0x80000003, int.from_bytes(self.say(server, self.option(5))[12:16], "big"))

    def test_off(self) -> None:
        """Where there is none it is refused, and the client may go on without."""
        server = self.server("off")
        self.assertEqual(0x80000002, int.from_bytes(self.say(server, self.option(5))[12:16], "big"))
        self.assertIn(b"small", self.say(server, self.option(3)))

    def test_injection(self) -> None:
        """What comes behind the option, in one piece with it or alone, may be anybody's: the connection ends."""
        server = self.server("required")
        self.assertRaises(PeerError, self.say, server, self.option(5) + self.option(3))
        server = self.server("required")
        self.say(server, self.option(5))
        self.assertRaises(PeerError, self.say, server, b"\x16")

    def test_forgotten(self) -> None:
        """What was agreed on before TLS counts for nothing after it."""
        server = self.server("optional")
        query = pack(">I", 5) + b"small" + pack(">II", 1, 15) + b"base:allocation"
        self.say(server, self.option(8))
        self.say(server, self.option(10, query))
        self.say(server, self.option(5))
        server.secured()
        self.assertEqual(0x80000003, int.from_bytes(self.say(server, self.option(10, query))[12:16], "big"))
        self.say(server, self.option(7, pack(">I", 5) + b"small" + pack(">H", 0)))
        assert server.agreement is not None
        self.assertEqual((False, False), (server.agreement.structured, server.agreement.block_status))


class TLSClientTests(SynchronousTestCase):
    """The client's side where TLS is demanded."""

    def client(self, flags: int = 3) -> ClientHandshake:
        """One that has been greeted and has asked for TLS."""
        client = ClientHandshake("vol", True)
        client.receive(greeting(flags))
        return client

    def test_begin(self) -> None:
        """TLS is asked for before anything else, and the export's name is not told without it."""
        client = self.client()
        self.assertEqual(b"IHAVEOPT" + pack(">II", 5, 0), client.outgoing[-1])
        self.assertNotIn(b"vol", b"".join(client.outgoing))
        client.outgoing = []
        client.receive(reply(5, 1))
        self.assertTrue(client.starting_tls)
        self.assertEqual([], client.outgoing)
        client.secured()
        client.receive(ALL[len(greeting()) :])
        assert client.served is not None
        self.assertEqual(4096, client.served.size)

    def test_stripped(self) -> None:
        """A server without TLS, or somebody who pretends that it has none, is told nothing."""
        for answer in (reply(5, 0x80000001), reply(5, 0x80000002, b"no TLS here")):
            client = self.client()
            self.assertRaises(Denied, client.receive, answer)
            self.assertNotIn(b"vol", b"".join(client.outgoing))
        self.assertRaises(NotSupported, self.client, 0)

    def test_injection(self) -> None:
        """What comes in the clear behind the agreement is not taken for the server's."""
        client = self.client()
        self.assertRaises(PeerError, client.receive, reply(5, 1) + ALL[len(greeting()) :])
