"""Tests of L{dst.transport.tls_records}: both ways to decrypt and encrypt do the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dst.transport import tls_records
from dst.transport.tls_records import (
    DIRECT,
    INCOMING_BYTES_MAX,
    RECORD_BYTES,
    DirectRecords,
    IRecords,
    OrdinaryRecords,
    outgoing_of,
    records_of,
)
from test.security.machines import Machines, World

NOT_HERE = "this pyOpenSSL, or the binding below it, is made differently, so only the ordinary way is taken"


@contextmanager
def watched_bio_write(records: Any, amounts: list[int]) -> Iterator[None]:
    """Note how much OpenSSL is given at a time."""
    if isinstance(records, OrdinaryRecords):
        own = records._connection

        class Watched:
            def __getattr__(self, name: str) -> Any:
                return getattr(own, name)

            def bio_write(self, data: Any) -> int:
                amounts.append(len(data))
                return own.bio_write(data)

        records._connection = Watched()  # type: ignore[assignment]
        yield
        records._connection = own
        return
    library = tls_records._openssl

    class WatchedLibrary:
        def __getattr__(self, name: str) -> Any:
            return getattr(library, name)

        def BIO_write(self, bio: Any, data: Any, size: int) -> Any:
            amounts.append(size)
            return library.BIO_write(bio, data, size)

    tls_records._openssl = WatchedLibrary()
    try:
        yield
    finally:
        tls_records._openssl = library


class RecordsSuite:
    """For each way."""

    kind: ClassVar[type[OrdinaryRecords] | type[DirectRecords]]

    def setUp(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        clock = World()
        machines = Machines(self.mktemp())
        machines.add("alpha")
        machines.add("beta")
        nobody: Any = Protocol()
        alpha, beta = machines.security("alpha", clock), machines.security("beta", clock)
        self.server = alpha.server_options().serverConnectionForTLS(nobody)
        self.client = beta.client_options("localhost").clientConnectionForTLS(nobody)
        ends = ((self.client, self.server), (self.server, self.client))
        for _ in range(4):
            for here, there in ends:
                try:
                    here.do_handshake()
                except SSL.WantReadError:
                    pass
                moved = outgoing_of(here)
                if moved:
                    there.bio_write(moved)
        self.near: IRecords = self.kind(self.client)
        self.far: IRecords = self.kind(self.server)
        self.assertEqual((b"", None), (self.near.decrypted(), self.near.end))

    def sent(self, *pieces: bytes) -> bytes:
        """What goes over the network for these."""
        for piece in pieces:
            self.assertEqual(len(piece), self.near.encrypt(piece))
        return bytes(self.near.outgoing() or b"")

    def test_nothing(self) -> None:
        """Without anything to send, or to decrypt, there is nothing, and that is no end."""
        self.assertIsNone(self.near.outgoing())
        self.far.receive(b"")
        self.assertEqual(
            (b"", 0, None), (self.far.decrypted(), self.far.fill(memoryview(bytearray(10))), self.far.end)
        )

    def test_all_together(self) -> None:
        """All records that have arrived are decrypted together."""
        self.far.receive(self.sent(b"one", b"two", bytes(40_000)))
        self.assertEqual(b"onetwo" + bytes(40_000), self.far.decrypted())
        self.assertIsNone(self.far.end)

    def test_place(self) -> None:
        """Records are decrypted into a place that is smaller or larger than they are; the rest is told afterwards."""
        data = random.Random(3).randbytes(3 * RECORD_BYTES)
        self.far.receive(self.sent(data))
        place = bytearray(RECORD_BYTES + 100)
        self.assertEqual(len(place), self.far.fill(memoryview(place)))
        rest = bytearray(3 * RECORD_BYTES)
        self.assertEqual(1000, self.far.fill(memoryview(rest)[:1000]))
        self.assertEqual(data, bytes(place + rest[:1000]) + self.far.decrypted())
        self.far.receive(self.sent(b"short"))
        self.assertEqual(5, self.far.fill(memoryview(rest)))
        self.assertEqual(b"short", rest[:5])
        self.assertIsNone(self.far.end)

    def test_much(self) -> None:
        """Much may arrive together; OpenSSL, which keeps its buffer, is never given more than a part of it."""
        data = random.Random(5).randbytes(5 * INCOMING_BYTES_MAX)
        amounts: list[int] = []
        place = bytearray(len(data) // 2)
        with watched_bio_write(self.far, amounts):
            self.far.receive(self.sent(data))
            self.assertEqual(len(place), self.far.fill(memoryview(place)))
            self.assertTrue(data == bytes(place) + self.far.decrypted())
        self.assertGreater(sum(amounts), len(data))
        self.assertEqual(INCOMING_BYTES_MAX, max(amounts))
        self.assertIsNone(self.far.end)

    def test_kept(self) -> None:
        """What is to be sent does not change when more is encrypted."""
        self.near.encrypt(b"first")
        first = self.near.outgoing()
        assert first is not None
        before = bytes(first)
        self.near.encrypt(bytes(50_000))
        self.near.outgoing()
        self.assertEqual(before, bytes(first))

    def test_any_pieces(self) -> None:
        """Whatever is cut into whatever pieces, and decrypted into places or not, arrives as it was."""

        @settings(max_examples=25, deadline=None)
        @given(st.lists(st.integers(1, 150_000), min_size=1, max_size=8), st.integers(1, 700_000), st.integers())
        def check(sizes: list[int], piece: int, seed: int) -> None:
            generator = random.Random(seed)
            data = [generator.randbytes(size) for size in sizes]
            sent = self.sent(*data)
            arrived = b""
            for position in range(0, len(sent), piece):
                self.far.receive(sent[position : position + piece])
                if generator.random() < 0.5:
                    place = bytearray(generator.randrange(1, 30_000))
                    arrived += place[: self.far.fill(memoryview(place))]
                arrived += self.far.decrypted()
            self.assertTrue(b"".join(data) == arrived)
            self.assertIsNone(self.far.end)

        check()

    def test_closed(self) -> None:
        """What was sent before the end is there, then the end; an end is the end for good."""
        self.near.encrypt(b"last")
        self.client.shutdown()
        self.far.receive(self.near.outgoing() or b"")
        self.assertEqual(b"last", self.far.decrypted())
        self.assertIsInstance(self.far.end, SSL.ZeroReturnError)
        self.assertEqual(b"", self.far.decrypted())
        self.assertIsInstance(self.far.end, SSL.ZeroReturnError)

    def test_damaged(self) -> None:
        """A record that was changed on its way is the end, and nothing of it, or of what follows, is told."""
        sent = bytearray(self.sent(b"good", b"bad", b"good again"))
        sent[len(self.sent(b"good")) + 10] ^= 1
        self.far.receive(sent)
        self.assertEqual(b"good", self.far.decrypted())
        self.assertIsInstance(self.far.end, SSL.Error)
        self.assertNotIsInstance(self.far.end, SSL.ZeroReturnError)
        self.assertEqual(b"", self.far.decrypted())
        self.assertNotEqual(None, self.far.outgoing(), "the alert")

    def test_damaged_into_a_place(self) -> None:
        """The same, where records are put to a place."""
        sent = bytearray(self.sent(b"bad"))
        sent[10] ^= 1
        self.far.receive(sent)
        self.assertEqual(0, self.far.fill(memoryview(bytearray(100))))
        self.assertIsInstance(self.far.end, SSL.Error)

    def test_cut(self) -> None:
        """A connection that is lost in the middle of a record is at its end, and not as one that was closed."""
        self.far.receive(self.sent(b"whole") + self.sent(bytes(100))[:50])
        self.assertEqual(b"whole", self.far.decrypted())
        self.assertIsNone(self.far.end)
        self.server.bio_shutdown()
        self.assertEqual(b"", self.far.decrypted())
        self.assertIsInstance(self.far.end, SSL.Error)
        self.assertNotIsInstance(self.far.end, SSL.ZeroReturnError)

    def test_no_tls(self) -> None:
        """Bytes that are no records are the end."""
        self.far.receive(random.Random(1).randbytes(2000))
        self.assertEqual(b"", self.far.decrypted())
        self.assertIsInstance(self.far.end, SSL.Error)

    def test_nothing_after_the_end(self) -> None:
        """Whoever has said that it ends cannot send any more."""
        self.client.shutdown()
        self.assertRaises(SSL.Error, self.near.encrypt, b"more")

    def test_read_only(self) -> None:
        """What is to be sent may be of any kind, and is not changed."""
        data = bytearray(b"some data")
        for buffer in (bytes(data), data, memoryview(data), memoryview(bytes(data))[2:5]):
            self.assertEqual(len(buffer), self.near.encrypt(buffer))
        data.extend(b"nobody holds it any more")
        self.far.receive(memoryview(self.near.outgoing() or b""))
        self.assertEqual(b"some data" * 3 + b"me ", self.far.decrypted())


class OrdinaryTests(RecordsSuite, SynchronousTestCase):
    """With what pyOpenSSL promises."""

    kind = OrdinaryRecords

    def test_chosen(self) -> None:
        """It is taken where the names are not found that the other one needs."""
        self.patch(tls_records, "DIRECT", False)
        self.assertIsInstance(records_of(self.client), OrdinaryRecords)


class DirectTests(RecordsSuite, SynchronousTestCase):
    """With OpenSSL's own functions."""

    kind = DirectRecords

    def setUp(self) -> None:
        if not DIRECT:
            raise SkipTest(NOT_HERE)
        super().setUp()

    def test_chosen(self) -> None:
        """It is taken where it can be."""
        self.assertIsInstance(records_of(self.client), DirectRecords)
