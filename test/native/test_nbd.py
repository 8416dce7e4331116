"""Requests of NBD clients, compiled and in Python: each alone, and both against each other."""

from __future__ import annotations

import struct
from importlib import import_module
from random import Random
from struct import pack
from types import ModuleType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dst.native import PURE, nbd, plain_nbd

MAGIC = 0x25609513
RULES = (1 << 20, 511, 1 << 19)
ROOM = 1 << 40


def compiled_nbd() -> ModuleType:
    """The compiled module, also where Python was asked for."""
    try:
        return import_module("dst.native._nbd")
    except ImportError:
        raise SkipTest("dst.native._nbd was not built here") from None


def encode(command: int, cookie: int, offset: int, length: int, data: bytes = b"", *, flags: int = 0) -> bytes:
    """A request as it is on the wire."""
    return pack(">IHHQQI", MAGIC, flags, command, cookie, offset, length) + data


def read(cookie: int, offset: int, length: int, flags: int = 0) -> tuple[Any, ...]:
    return (0, flags, cookie, offset, length, None)


def write(cookie: int, offset: int, data: bytes | None, flags: int = 0) -> tuple[Any, ...]:
    return (1, flags, cookie, offset, 512 if data is None else len(data), data)


def values(requests: list[Any]) -> list[tuple[Any, ...]]:
    """Requests that can be compared, with the kind of their data."""
    return [
        (*request[:5], None if request[5] is None else bytes(request[5]), type(request[5])) for request in requests
    ]


class NBDTests:
    """What both do."""

    nbd: Any

    def cut(self, data: bytes, at: int = 0, data_bytes_max: int = 1 << 20) -> tuple[int, list[tuple[Any, ...]]]:
        requests: list[Any] = []
        return self.nbd.cut(data, at, data_bytes_max, requests), values(requests)

    def test_cut(self: Any) -> None:
        """Complete requests are cut out; what is behind them stays, whether a header ends early or a write's data."""
        small, large = bytes(range(256)) * 64, bytes(range(256)) * 65
        good = encode(0, 1, 4096, 512) + encode(1, 2, 0, len(small), small) + encode(1, (1 << 64) - 1, 5, 0)
        good += encode(1, 3, (1 << 64) - 1, len(large), large) + encode(65535, 4, 0, (1 << 32) - 1, flags=0xFFFF)
        expected = [
            (0, 0, 1, 4096, 512, None, type(None)),
            (1, 0, 2, 0, len(small), small, bytes),
            (1, 0, (1 << 64) - 1, 5, 0, b"", bytes),
            (1, 0, 3, (1 << 64) - 1, len(large), large, memoryview),
            (65535, 0xFFFF, 4, 0, (1 << 32) - 1, None, type(None)),
        ]
        for rest in (b"", b"\x25", encode(0, 1, 2, 3)[:27], encode(1, 1, 2, 512, bytes(511)), bytes(28)):
            self.assertEqual((len(good), expected), self.cut(good + rest))
            self.assertEqual((len(good) + 9, expected), self.cut(b"something" + good + rest, 9))

    def test_cut_too_long(self: Any) -> None:
        """A write of more than was allowed is left alone, with its data or without; reads may ask for more."""
        header = encode(0, 1, 0, 1 << 30)
        self.assertEqual((28, 1), (lambda at, found: (at, len(found)))(*self.cut(header + encode(1, 2, 0, 9), 0, 8)))
        self.assertEqual(0, self.cut(encode(1, 2, 0, 9, bytes(9)), 0, 8)[0])
        self.assertEqual(37, self.cut(encode(1, 2, 0, 9, bytes(9)), 0, 9)[0])

    def test_cut_refuses(self: Any) -> None:
        """What is no place in the bytes is refused."""
        for at in (-1, 29, 1 << 62):
            self.assertRaises(ValueError, self.nbd.cut, bytes(28), at, 1, [])

    def answer(self, requests: list[Any], **changed: Any) -> tuple[tuple[int, int], list[bytes]]:
        out: list[Any] = []
        arguments: dict[str, Any] = {
            "at": 0,
            "end": 100,
            "room": ROOM,
            "rules": RULES,
            "read_now": lambda offset, length: bytes([1]) * length,
            "structured": False,
        }
        arguments |= changed
        return self.nbd.answer_reads(requests, *arguments.values(), out), [bytes(each) for each in out]

    def test_answers(self: Any) -> None:
        """Reads get the headers of the protocol and their data, in order."""
        requests = [read(7, 512, 512), read((1 << 64) - 1, 0, 1024)]
        expected = [
            bytes.fromhex("67446698 00000000 0000000000000007"),
            bytes([1]) * 512,
            bytes.fromhex("67446698 00000000 ffffffffffffffff"),
            bytes([1]) * 1024,
        ]
        self.assertEqual(((2, 1536), expected), self.answer(requests))
        expected[0] = bytes.fromhex("668e33ef 0001 0001 0000000000000007 00000208 0000000000000200")
        expected[2] = bytes.fromhex("668e33ef 0001 0001 ffffffffffffffff 00000408 0000000000000000")
        self.assertEqual(((2, 1536), expected), self.answer(requests, structured=True))

    def test_holes(self: Any) -> None:
        """Zeroes of a size that is worth it are told as a hole, but not in simple replies."""
        hole = bytes.fromhex("668e33ef 0001 0002 0000000000000001 0000000c 0000000000000200")
        for size, told in ((32768, True), (32768 - 512, False), (1 << 20, True), ((1 << 20) + 512, False)):
            how = {"rules": (1 << 30, 511, 1 << 25), "read_now": lambda _, length: bytearray(length)}
            self.assertEqual(
                told, self.answer([read(1, 512, size)], structured=True, **how)[1] == [hole + pack(">I", size)]
            )
            self.assertEqual(2, len(self.answer([read(1, 512, size)], **how)[1]))
        for place in (0, 1, 20_000, 32767):
            data = bytes(place) + b"x" + bytes(32767 - place)
            found = self.answer([read(1, 0, 32768)], structured=True, read_now=lambda *_, data=data: data)[1]
            self.assertEqual(data, found[-1])

    def test_answers_stop(self: Any) -> None:
        """At whatever is not a plain read with a good extent, is not at hand, or for which there is no room."""
        for odd in (
            read(1, 0, 512, flags=1),
            read(1, 0, 0),
            read(1, 0, 511),
            read(1, 1, 512),
            read(1, 1 << 20, 512),
            read(1, (1 << 64) - 512, 512),
            read(1, 0, (1 << 19) + 512),
            write(1, 0, bytes(512)),
            (3, 0, 1, 0, 512, None),
        ):
            self.assertEqual((1, 512), self.answer([read(0, 0, 512), odd, read(2, 0, 512)])[0], odd)
        three = [read(0, 0, 512), read(1, 512, 1024), read(2, 0, 512)]
        for changed, expected in (
            ({"room": 1535}, (1, 512)),
            ({"room": 1536}, (2, 1536)),
            ({"room": -1}, (0, 0)),
            ({"end": 2}, (2, 1536)),
            ({"at": 1}, (3, 1536)),
            ({"at": 3}, (3, 0)),
            ({"at": 9}, (9, 0)),
            ({"read_now": lambda offset, length: None if offset else bytes(length)}, (1, 512)),
            ({"read_now": lambda offset, length: bytes(512)}, (1, 512)),
        ):
            self.assertEqual(expected, self.answer(three, **changed)[0], changed)

    def test_answers_fail(self: Any) -> None:
        """What the device raises is raised; so is nonsense."""
        self.assertRaises(ZeroDivisionError, self.answer, [read(0, 0, 512)], read_now=lambda *_: 1 // 0)
        self.assertRaises(TypeError, self.answer, [read(0, 0, 512)], read_now=lambda *_: 1)
        self.assertRaises(TypeError, self.answer, [None])
        self.assertRaises((TypeError, ValueError), self.answer, [(1, 2)])

    def test_requests_that_vanish(self: Any) -> None:
        """The list of requests may be emptied while a device is asked: a client may be cut off just then."""
        requests = [read(0, 0, 512), read(1, 0, 512)]

        def read_now(offset: int, length: int) -> bytes:
            requests.clear()
            return bytes(length)

        self.assertEqual((1, 512), self.answer(requests, read_now=read_now)[0])

    def test_gathers(self: Any) -> None:
        """Writes are taken as they are, until something else comes."""
        data = bytes(512), bytearray(1024)
        first, second = write(7, 0, data[0]), write(8, 512, data[1])  # type: ignore[arg-type]
        for odd in (
            None,
            write(1, 0, bytes(512), flags=1),
            write(1, 0, b""),
            write(1, 0, bytes(511)),
            write(1, 1, bytes(512)),
            write(1, 1 << 20, bytes(512)),
            write(1, 0, None),
            read(1, 0, 512),
        ):
            writes: list[Any] = []
            cookies: list[int] = []
            requests = [first, second, *([odd] if odd else [])]
            self.assertEqual((2, 1536), self.nbd.gather_writes(requests, 0, 9, ROOM, RULES, writes, cookies))
            self.assertEqual(([(0, data[0]), (512, data[1])], [7, 8]), (writes, cookies))
            self.assertIs(data[1], writes[1][1])
        for end, room, expected in ((1, ROOM, (1, 512)), (2, 1535, (1, 512)), (2, 511, (0, 0)), (2, -1, (0, 0))):
            self.assertEqual(expected, self.nbd.gather_writes([first, second], 0, end, room, RULES, [], []))

    def test_replies(self: Any) -> None:
        """One simple reply for each cookie."""
        expected = "67446698 00000000 0000000000000001 67446698 00000000 ffffffffffffffff"
        self.assertEqual(bytes.fromhex(expected), self.nbd.simple_replies([1, (1 << 64) - 1]))
        self.assertEqual(b"", self.nbd.simple_replies([]))
        for cookies in ([-1], [1 << 64], ["1"]):
            self.assertRaises((OverflowError, TypeError, struct.error), self.nbd.simple_replies, cookies)

    def test_zeroes(self: Any) -> None:
        """Any byte counts."""
        for size in (1, 2, 7, 8, 9, 4096, 1 << 20):
            for kind in (bytes, bytearray, lambda data: memoryview(data)):
                self.assertTrue(self.nbd.is_zero(kind(bytes(size))))
                for place in {0, size // 2, size - 1}:
                    data = bytearray(size)
                    data[place] = 128
                    self.assertFalse(self.nbd.is_zero(kind(bytes(data))), (size, place))


class PlainNBDTests(NBDTests, SynchronousTestCase):
    """In Python."""

    nbd = plain_nbd


class CompiledNBDTests(NBDTests, SynchronousTestCase):
    """Compiled."""

    def setUp(self) -> None:
        self.nbd = compiled_nbd()


NUMBER = st.integers(0, (1 << 64) - 1) | st.integers(0, 4096).map(lambda block: block * 512)
LENGTH = st.sampled_from([0, 1, 511, 512, 1024, 4096, 20_000]) | st.integers(0, (1 << 32) - 1)
REQUEST = st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2, 9]), st.sampled_from([0, 0, 0, 1, 4]), NUMBER, NUMBER, LENGTH)


class EqualTests(SynchronousTestCase):
    """One cannot be told from the other."""

    def setUp(self) -> None:
        self.compiled = compiled_nbd()

    @settings(max_examples=300, deadline=None)
    @given(st.lists(REQUEST, max_size=12), st.randoms(use_true_random=False), st.integers(0, 30_000))
    def test_streams(self, parts: list[tuple[int, ...]], random: Random, data_bytes_max: int) -> None:
        """Whatever comes, also what is cut off or damaged anywhere."""
        stream = bytearray()
        for command, flags, cookie, offset, length in parts:
            data = random.randbytes(min(length, 30_000)) if command == 1 else b""
            stream += encode(command, cookie, offset, length, data, flags=flags)
        for _ in range(random.choice([0, 0, 1, 3])):
            if stream:
                stream[random.randrange(len(stream))] ^= 1 << random.randrange(8)
        whole = bytes(stream[: random.randint(0, len(stream))] if random.random() < 0.3 else stream)
        at = random.choice([0, 0, 0, random.randint(0, len(whole))])
        found = []
        for module in (self.compiled, plain_nbd):
            requests: list[Any] = []
            found.append((module.cut(whole, at, data_bytes_max, requests), values(requests)))
        self.assertEqual(found[1], found[0])

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(REQUEST, max_size=12),
        st.tuples(st.integers(0, 12), st.integers(0, 14), st.integers(-1, 20_000)),
        st.tuples(NUMBER, st.sampled_from([0, 511, 4095]), st.integers(0, 1 << 25)),
        st.booleans(),
        st.randoms(use_true_random=False),
    )
    def test_runs(
        self,
        parts: list[tuple[int, ...]],
        bounds: tuple[int, int, int],
        rules: tuple[int, int, int],
        structured: bool,
        random: Random,
    ) -> None:
        """Whatever is asked for, and whatever a device has at hand."""
        requests = [(*part, random.randbytes(min(part[4], 30_000)) if part[0] == 1 else None) for part in parts]
        at_hand = {part[3]: random.choice([0, 1, 1, 1, None, -1]) for part in parts}

        def read_now(offset: int, length: int) -> bytes | None:
            byte = at_hand[offset]
            if byte is None or length > 1 << 21:
                return None
            return b"short" if byte < 0 else bytes([byte]) * length

        found = []
        for module in (self.compiled, plain_nbd):
            out: list[Any] = []
            writes: list[Any] = []
            cookies: list[int] = []
            answered = module.answer_reads(requests, *bounds, rules, read_now, structured, out)
            gathered = module.gather_writes(requests, *bounds, rules, writes, cookies)
            found.append((answered, out, gathered, writes, cookies, module.simple_replies(cookies)))
        self.assertEqual(found[1], found[0])


class ChoiceTests(SynchronousTestCase):
    """Which of the two is used."""

    def test_choice(self) -> None:
        """The compiled one where there is one and Python was not asked for."""
        try:
            expected = plain_nbd if PURE else compiled_nbd()
        except SkipTest:
            expected = plain_nbd
        self.assertIs(expected.answer_reads, nbd.answer_reads)
        self.assertEqual((32 * 1024, 1 << 20), (nbd.HOLE_BYTES_MIN, nbd.HOLE_BYTES_MAX))
