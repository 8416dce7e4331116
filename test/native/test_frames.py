"""Frames, compiled and in Python: each alone, and both against each other."""

from __future__ import annotations

import struct
from importlib import import_module
from random import Random
from types import ModuleType
from typing import Any, ClassVar

import crc32c as package
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dst.native import PURE, plain_frames

NUMBERS = st.integers(0, (1 << 64) - 1)
HEADERS = st.fixed_dictionaries(
    {"status": st.integers(0, 255), "flags": st.integers(0, 0xFFFF), "data": st.binary(max_size=100)},
    optional={"checksum": st.booleans(), "data_crc": st.none() | st.integers(0, 0xFFFFFFFF)},
)


def compiled_frames() -> ModuleType:
    """The compiled module, also where Python was asked for."""
    try:
        return import_module("dst.native._frames")
    except ImportError:
        raise SkipTest("dst.native._frames was not built here") from None


def values(frame: Any) -> tuple[object, ...]:
    numbers = (frame.kind, frame.status, frame.flags, frame.id, frame.offset, frame.length)
    return (*numbers, frame.epoch, bytes(frame.data), frame.intact)


def refuses(function: Any, *arguments: Any, **keywords: Any) -> bool:
    """Whether it raises what is raised for such arguments; in Python that may be another error than in C."""
    try:
        function(*arguments, **keywords)
    except (TypeError, ValueError, OverflowError, AttributeError, struct.error):
        return True
    return False


class FramesTests:
    """What both do."""

    frames: Any
    tests: ClassVar[Any]

    def test_checksums(self: Any) -> None:
        """The checksum is CRC-32C, of any length, at any address, of any kind of buffer, and in parts."""
        self.assertEqual(0xE3069283, self.frames.crc32c(b"123456789"))
        data = Random(1).randbytes(40_000)
        view = memoryview(data)
        lengths = [
            *range(70),
            255,
            256,
            *range(1350, 1370),
            *range(4070, 4110),
            8159,
            8160,
            8161,
            12240,
            12241,
            39_000,
        ]
        for length in lengths:
            for start in (0, 1, 7, 512):
                part = view[start : start + length]
                self.assertEqual(package.crc32c(part), self.frames.crc32c(part), (start, length))
        for part in (bytearray(data), data, view[::1]):
            self.assertEqual(package.crc32c(data), self.frames.crc32c(part))
        first = self.frames.crc32c(view[:5000])
        self.assertEqual(package.crc32c(data), self.frames.crc32c(view[5000:], first))

    def test_literal(self: Any) -> None:
        """A read, byte by byte."""
        self.assertEqual(
            bytes.fromhex(
                "44535401 10 00 0000 0700000000000000 0020000000000000 0010000000000000"
                "0000000000000000 0000000000000000 00000000 00000000 00000000 5c449407"
            ),
            self.frames.request_header(16, 7, 8192, 4096),
        )

    def test_every_field(self: Any) -> None:
        """What goes into a header comes out of it."""
        epoch = bytes(range(16))
        header = self.frames.request_header(
            0xFF, (1 << 64) - 1, (1 << 64) - 2, (1 << 64) - 3, status=255, flags=0xFFFF, epoch=epoch, data=b"data"
        )
        ((frame,), position) = self.frames.cut(header + b"data!", 0, 4, True)
        self.assertEqual(68, position)
        self.assertEqual(
            (0xFF, 255, 0xFFFF, (1 << 64) - 1, (1 << 64) - 2, (1 << 64) - 3, epoch, b"data", True), values(frame)
        )

    def test_answer(self: Any) -> None:
        """An answer is of the operation and the id of its request."""
        header = self.frames.answer_header(16, 7, status=3, flags=0x8000, data=b"ab")
        ((frame,), _) = self.frames.cut(header + b"ab", 0, 4, True)
        self.assertEqual((0x90, 3, 0x8000, 7, 0, 0, bytes(16), b"ab", True), values(frame))

    def test_done_answers(self: Any) -> None:
        """Many that were done are answered at once, each as it would be alone."""
        requests = b"".join([self.frames.request_header(17, number, 512, 512) for number in range(1, 40)])
        asked, _ = self.frames.cut(requests, 0, 0, True)
        alone = [self.frames.answer_header(17, number) for number in range(1, 40)]
        self.assertEqual(b"".join(alone), self.frames.done_answers(asked))
        self.assertEqual(b"", self.frames.done_answers([]))

    def test_only_what_is_complete(self: Any) -> None:
        """What is not all there, or not good, is not cut, nor anything after it."""
        good = self.frames.request_header(17, 1, 0, 3, data=b"abc") + b"abc"
        for after in (
            good[:-1],
            good[:64],
            good[:63],
            b"x",
            b"X" + good[1:],
            good[:60] + bytes(4) + good[64:] + good,
        ):
            frames, position = self.frames.cut(b"??" + good + good + after, 2, 100, True)
            self.assertEqual((2, 2 + 2 * len(good)), (len(frames), position), after)
        self.assertEqual(([], 0), self.frames.cut(good, 0, 2, True))
        self.assertEqual(([], 0), self.frames.cut(b"", 0, 2, True))

    def test_damaged_data(self: Any) -> None:
        """Data without its checksum says so, if checksums are looked at."""
        sent = self.frames.request_header(17, 1, 0, 3, data=b"abc") + b"abd"
        for checksums in (True, False):
            ((frame,), _) = self.frames.cut(sent, 0, 100, checksums)
            self.assertIs(not checksums, frame.intact)

    def test_not_copied(self: Any) -> None:
        """Data is a view of what arrived."""
        piece = self.frames.request_header(17, 1, 0, 3, data=b"abc") + b"abc"
        ((frame,), _) = self.frames.cut(piece, 0, 100, True)
        self.assertIs(piece, frame.data.obj)

    def test_nothing_kept(self: Any) -> None:
        """What arrived is given back with the last frame that was cut out of it."""
        piece = bytearray(self.frames.request_header(17, 1, 0, 3, data=b"abc") + b"abc")
        frames, _ = self.frames.cut(piece, 0, 100, True)
        self.assertRaises(BufferError, piece.clear)
        del frames
        piece.clear()

    def test_made_by_hand(self: Any) -> None:
        """A frame can be made of its values."""
        whole = (1, 2, 3, 4, 5, 6, bytes(16), b"data", False)
        frame = self.frames.Frame(*whole)
        self.assertEqual(whole, values(frame))
        self.assertIn("kind=1, status=2, flags=3, id=4, offset=5, length=6", repr(frame))

    def test_own_mistakes(self: Any) -> None:
        """What cannot be put into a header is not cut short."""
        wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((256, 1), {}),
            ((16, 1 << 64), {}),
            ((16, -1), {}),
            ((16, 1, -1), {}),
            ((16, 1, 0, 1 << 64), {}),
            ((16,), {}),
            ((16, 1), {"flags": 0x10000}),
            ((16, 1), {"status": 256}),
            ((16, 1), {"epoch": bytes(15)}),
            ((16, 1), {"epoch": None}),
            ((16, 1), {"data": "text"}),
            ((16, 1), {"data": b"x", "data_crc": 1 << 32}),
            ((16, 1), {"unknown": 1}),
            (("16", 1), {}),
        ]
        for numbers, keywords in wrong:
            self.assertTrue(refuses(self.frames.request_header, *numbers, **keywords))
        self.assertTrue(refuses(self.frames.answer_header, 16, 1, 2))
        self.assertTrue(refuses(self.frames.answer_header, 16, 1, epoch=bytes(16)))
        for arguments in ((b"ab", 3, 1, True), (b"ab", -1, 1, True), ("ab", 0, 1, True), (b"ab", 0, -1), (None,)):
            self.assertTrue(refuses(self.frames.cut, *arguments))
        self.assertTrue(refuses(self.frames.done_answers, [None]))
        self.assertTrue(refuses(self.frames.crc32c, "text"))


class PlainFramesTests(FramesTests, SynchronousTestCase):
    """In Python."""

    frames = plain_frames


class CompiledFramesTests(FramesTests, SynchronousTestCase):
    """Compiled, with checksums made in the fastest way that there is."""

    def setUp(self) -> None:
        self.frames = compiled_frames()


class TableFramesTests(CompiledFramesTests):
    """Compiled, with checksums made by tables, as where the processor has no instruction for them."""

    way = "table"

    def setUp(self) -> None:
        super().setUp()
        try:
            before = self.frames.use_checksum(self.way)
        except ValueError:
            raise SkipTest(f"the processor cannot make checksums by {self.way}") from None
        self.addCleanup(self.frames.use_checksum, before)


class ProcessorFramesTests(TableFramesTests):
    """Compiled, with checksums made by an instruction of the processor."""

    way = "processor"


class FoldingFramesTests(TableFramesTests):
    """Compiled, with checksums made by multiplying polynomials."""

    way = "folding"


class EqualTests(SynchronousTestCase):
    """Both make the same of everything."""

    def setUp(self) -> None:
        self.compiled = compiled_frames()

    def test_chosen(self) -> None:
        """Where there is a compiled module it is used, unless Python was asked for."""
        from dst.native import frames

        self.assertIs(frames.cut, plain_frames.cut if PURE else self.compiled.cut)

    @settings(deadline=None)
    @given(st.integers(0, 127), NUMBERS, NUMBERS, NUMBERS, st.binary(min_size=16, max_size=16), HEADERS)
    def test_headers(
        self, kind: int, id: int, offset: int, length: int, epoch: bytes, keywords: dict[str, Any]
    ) -> None:
        """Headers."""
        for make in ("request_header", "answer_header"):
            numbers, more = (kind, id), keywords
            if make == "request_header":
                numbers, more = (kind, id, offset, length), {"epoch": epoch, **keywords}  # type: ignore[assignment]
            self.assertEqual(
                getattr(plain_frames, make)(*numbers, **more), getattr(self.compiled, make)(*numbers, **more)
            )

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(st.tuples(st.integers(0, 255), NUMBERS, st.binary(max_size=90)), max_size=6),
        st.binary(max_size=90),
        st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
        st.integers(0, 100),
        st.booleans(),
        st.integers(-2, 70),
    )
    def test_cutting(
        self,
        sent: list[tuple[int, int, bytes]],
        rest: bytes,
        damages: list[tuple[float, int]],
        data_bytes_max: int,
        checksums: bool,
        position: int,
    ) -> None:
        """Streams, also those that were damaged, or are noise from their first byte."""
        parts = [plain_frames.request_header(kind, id, data=data) + data for kind, id, data in sent]
        stream = bytearray(b"".join(parts) + rest)
        for place, byte in damages:
            if stream:
                stream[int(place * (len(stream) - 1))] = byte
        self.assertEqual(
            *[self.cut(each, bytes(stream), position, data_bytes_max, checksums) for each in self.both()]
        )
        self.assertEqual(*[self.cut(each, bytes(stream), 0, data_bytes_max, checksums) for each in self.both()])

    @settings(deadline=None)
    @given(st.binary(max_size=3000), st.integers(0, 0xFFFFFFFF))
    def test_checksums(self, data: bytes, start: int) -> None:
        """Checksums, from wherever they begin."""
        self.assertEqual(plain_frames.crc32c(data, start), self.compiled.crc32c(data, start))

    def both(self) -> tuple[Any, Any]:
        return plain_frames, self.compiled

    def cut(self, frames: Any, stream: bytes, position: int, data_bytes_max: int, checksums: bool) -> object:
        try:
            found, end = frames.cut(stream, position, data_bytes_max, checksums)
        except ValueError as error:
            return str(error)
        return [values(frame) for frame in found], end
