"""Tests of L{dst.nbd.client_handshake} and L{dst.nbd.server_handshake}, each alone and with each other."""

from __future__ import annotations

import random
from struct import pack

from twisted.trial.unittest import SynchronousTestCase

from dst.errors import Denied, DSTError, NotFound, PeerError
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

    def test_names(self) -> None:
        """Names are UTF-8, and may be long."""
        for name in ("größe", "x" * 4096, "a/b c"):
            self.assertIn(name[:100], self.assertRaises(NotFound, self.converse, name).message)
