"""Frames as literal bytes, and everything that can be wrong with them."""

from __future__ import annotations

import struct
from random import Random

from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import MediaError
from dst.native import plain_frames
from dst.wire import parser
from dst.wire.framing import HEADER_BYTES, answer_header, error_answer, goodbye, notice, request_header
from dst.wire.messages import ANSWER, DAMAGED, DATA_BYTES_MAX, MESSAGE_BYTES_MAX, Flag, Frame, Operation
from dst.wire.parser import FrameParser

BOTH_WAYS = [HealthCheck.differing_executors]
"""The same tests are made with frames cut in Python and not."""


def values(frame: Frame) -> tuple[object, ...]:
    return (
        frame.kind,
        frame.status,
        frame.flags,
        frame.id,
        frame.offset,
        frame.length,
        frame.epoch,
        bytes(frame.data),
        frame.intact,
    )


def parse(stream: bytes, data_bytes_max: int = DATA_BYTES_MAX) -> tuple[list[tuple[object, ...]], str]:
    parser = FrameParser(data_bytes_max)
    frames = [values(frame) for frame in parser.receive(stream)]
    return frames, "" if parser.broken is None else parser.broken.message


def parse_in_pieces(stream: bytes, cuts: list[int]) -> tuple[list[tuple[object, ...]], str]:
    parser = FrameParser(DATA_BYTES_MAX)
    frames: list[tuple[object, ...]] = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames.extend(values(frame) for frame in parser.receive(stream[begin:end]))
    return frames, "" if parser.broken is None else parser.broken.message


def conversation() -> bytes:
    """One frame of every sort, with and without data."""
    page = bytes(range(256)) * 2
    return b"".join(
        [
            request_header(Operation.READ, 7, 8192, 4096),
            request_header(Operation.WRITE, 8, 512, len(page), flags=Flag.FUA, data=page) + page,
            request_header(Operation.FLUSH, 9),
            answer_header(Operation.READ, 7, data=page) + page,
            error_answer(Operation.WRITE, 8, MediaError("bad disk")),
            notice(Operation.CONFIGURATION, b"configuration"),
            goodbye(MediaError("gone")),
        ]
    )


class LiteralTests(SynchronousTestCase):
    """The examples of the specification, and the layout, written down once more and independently."""

    READ = bytes.fromhex(
        "44535401 10 00 0000 0700000000000000"
        "0020000000000000 0010000000000000"
        "0000000000000000 0000000000000000"
        "00000000 00000000 00000000"
    )
    READ_FAILED = bytes.fromhex(
        "44535401 90 04 0000 0700000000000000"
        "0000000000000000 0000000000000000"
        "0000000000000000 0000000000000000"
        "08000000 886873cb 00000000"
    )

    def test_request_without_data(self) -> None:
        """A read, byte by byte."""
        self.assertEqual(self.READ + bytes.fromhex("5c449407"), request_header(Operation.READ, 7, 8192, 4096))

    def test_answer_with_error(self) -> None:
        """Its failure, byte by byte: the status is in the header and the sentence is the data."""
        self.assertEqual(
            self.READ_FAILED + bytes.fromhex("9fe0a25c") + b"bad disk",
            error_answer(Operation.READ, 7, MediaError("bad disk")),
        )

    def test_every_field(self) -> None:
        """Each field has its place and size, little-endian."""
        data = b"data"
        header = request_header(
            Operation.WRITE_ZEROES,
            0x0807060504030201,
            0x1817161514131211,
            0x2827262524232221,
            flags=0x3231,
            epoch=bytes(range(0x40, 0x50)),
            data=data,
        )
        self.assertEqual(
            b"DST\x01\x14\x00\x31\x32"
            b"\x01\x02\x03\x04\x05\x06\x07\x08"
            b"\x11\x12\x13\x14\x15\x16\x17\x18"
            b"\x21\x22\x23\x24\x25\x26\x27\x28"
            b"@ABCDEFGHIJKLMNO"
            b"\x04\x00\x00\x00" + struct.pack("<I", crc32c(data)) + bytes(4),
            header[:60],
        )

    def test_known_checksum(self) -> None:
        """The checksum is CRC-32C: the check value of its definition."""
        self.assertEqual(0xE3069283, crc32c(b"123456789"))

    def test_data_unchecked(self) -> None:
        """Where checksums were not agreed on the field is zero."""
        self.assertEqual(bytes(4), answer_header(Operation.READ, 1, data=b"x", checksum=False)[52:56])

    def test_checksum_known_already(self) -> None:
        """Who knows the checksum of the data says it, and it is not made again; without checksums it is not sent."""
        data = bytes(range(256))
        for header in (request_header, answer_header):
            self.assertEqual(header(17, 1, data=data), header(17, 1, data=data, data_crc=crc32c(data)))
            self.assertEqual(b"\x04\x03\x02\x01", header(17, 1, data=data, data_crc=0x01020304)[52:56])
            self.assertEqual(bytes(4), header(17, 1, data=data, data_crc=7, checksum=False)[52:56])
            self.assertEqual(bytes(4), header(17, 1, data_crc=7)[52:56])

    def test_damaged_flag(self) -> None:
        """The answer to a write whose data was damaged says so in the highest bit of its flags."""
        answer = error_answer(Operation.WRITE, 1, MediaError(""), flags=DAMAGED)
        self.assertEqual(b"\x91\x04\x00\x80", answer[4:8])

    def test_goodbye(self) -> None:
        """A goodbye has id 0, a status and a sentence."""
        farewell = goodbye(MediaError("gone"))
        self.assertEqual(b"DST\x01\x41\x04\x00\x00" + bytes(8), farewell[:16])
        self.assertEqual(b"gone", farewell[64:])

    def test_long_sentence(self) -> None:
        """A sentence that is too long is cut, and not in the middle of a character."""
        answer = error_answer(Operation.READ, 1, MediaError("€" * 1000))
        self.assertEqual("€" * (MESSAGE_BYTES_MAX // 3), answer[64:].decode())


class ParserTests(SynchronousTestCase):
    def test_conversation(self) -> None:
        """Frames come out with the values that went in, in order."""
        frames, broken = parse(conversation())
        self.assertEqual("", broken)
        self.assertEqual(
            [16, 17, 18, 16 | ANSWER, 17 | ANSWER, 64, 65],
            [frame[0] for frame in frames],
        )
        self.assertEqual((17, 0, 1, 8, 512, 512, bytes(16), bytes(range(256)) * 2, True), frames[1])
        self.assertEqual((17 | ANSWER, 4, 0, 8, 0, 0, bytes(16), b"bad disk", True), frames[4])

    def test_cut_at_every_byte(self) -> None:
        """Where the stream is cut in two makes no difference."""
        stream = conversation()
        whole = parse(stream)
        for cut in range(len(stream) + 1):
            self.assertEqual(whole, parse_in_pieces(stream, [cut]), cut)

    def test_byte_by_byte(self) -> None:
        """Nor does it when it comes in single bytes."""
        stream = conversation()
        self.assertEqual(parse(stream), parse_in_pieces(stream, list(range(1, len(stream)))))

    @settings(deadline=None, suppress_health_check=BOTH_WAYS)
    @given(st.lists(st.integers(0, len(conversation())), max_size=12))
    def test_pieces(self, cuts: list[int]) -> None:
        """Nor in any other pieces."""
        self.assertEqual(parse(conversation()), parse_in_pieces(conversation(), sorted(cuts)))

    def test_truncated_at_every_byte(self) -> None:
        """Of a stream that ends early the complete frames come out and nothing else; the rest is waited for."""
        stream = conversation()
        whole, _ = parse(stream)
        for end in range(len(stream)):
            frames, broken = parse(stream[:end])
            self.assertEqual("", broken)
            self.assertEqual(whole[: len(frames)], frames)
            self.assertLess(len(frames), len(whole))

    def test_every_bit_flipped(self) -> None:
        """
        A flipped bit is always noticed: one in a header breaks the stream after the frames before it, one in data
        leaves a frame that says that it is not intact, and all the others.
        """
        stream = conversation()
        whole, _ = parse(stream)
        starts, position = [], 0
        for frame in whole:
            starts.append(position)
            position += HEADER_BYTES + len(frame[7])  # type: ignore[arg-type]
        for bit in range(len(stream) * 8):
            flipped = bytearray(stream)
            flipped[bit // 8] ^= 1 << bit % 8
            frames, broken = parse(bytes(flipped))
            index = max(n for n, start in enumerate(starts) if start <= bit // 8)
            if bit // 8 - starts[index] < HEADER_BYTES:
                self.assertNotEqual("", broken)
                self.assertEqual(whole[:index], frames)
            else:
                self.assertEqual("", broken)
                self.assertEqual([n != index for n in range(len(whole))], [frame[8] for frame in frames])
                self.assertEqual(whole[:index] + whole[index + 1 :], frames[:index] + frames[index + 1 :])

    def test_oversized(self) -> None:
        """A frame that announces more data than is allowed breaks the stream before any of it is taken."""
        data = bytes(1025)
        stream = request_header(Operation.HELLO, 1, data=data) + data
        self.assertEqual(1, len(parse(stream, 1025)[0]))
        frames, broken = parse(stream[:HEADER_BYTES], 1024)
        self.assertEqual([], frames)
        self.assertEqual("a frame announces 1025 bytes, at most 1024 are allowed", broken)

    def test_every_announced_length(self) -> None:
        """Whatever length a good header announces, it is waited for or refused, and nothing is reserved for it."""
        for bits in range(33):
            announced = (1 << bits) - 1
            header = struct.pack("<4sBBHQQQ16sIII", b"DST\x01", 17, 0, 0, 1, 0, announced, b"", announced, 0, 0)
            parser = FrameParser(DATA_BYTES_MAX)
            parser.receive(header + struct.pack("<I", crc32c(header)))
            self.assertEqual(announced > DATA_BYTES_MAX, parser.broken is not None)
            self.assertEqual(announced if announced <= DATA_BYTES_MAX else 0, parser.missing_bytes)

    def test_other_protocols(self) -> None:
        """What other programs say is refused with what it was."""
        for words in (b"GET / HTTP/1.1\r\n", b"NBDMAGICIHAVEOPT", b"SSH-2.0-OpenSSH", bytes(64), b"\xff" * 64):
            stream = words.ljust(64, b" ")
            frames, broken = parse(stream)
            self.assertEqual([], frames)
            self.assertEqual(f"a frame begins with {stream[:4]!r}, expected b'DST\\x01'", broken)

    def test_nothing_after_the_break(self) -> None:
        """What comes after a broken frame is ignored, however good it looks."""
        parser = FrameParser(DATA_BYTES_MAX)
        parser.receive(bytes(64))
        self.assertEqual([], parser.receive(conversation()))

    @settings(deadline=None, suppress_health_check=BOTH_WAYS)
    @given(st.binary(max_size=300))
    def test_random_bytes(self, noise: bytes) -> None:
        """Noise is never a frame."""
        frames, _ = parse(noise)
        self.assertEqual([], frames)

    @settings(deadline=None, suppress_health_check=BOTH_WAYS)
    @given(st.binary(max_size=200), st.integers(0, len(conversation())))
    def test_noise_inside(self, noise: bytes, position: int) -> None:
        """Noise in a stream never makes a frame that was not sent, unless it says that it is not intact."""
        stream = conversation()
        sent = parse(stream)[0]
        for frame in parse(stream[:position] + noise + stream[position:])[0]:
            self.assertTrue(frame in sent or not frame[8])

    def test_unchecked_data(self) -> None:
        """Without agreed checksums data is taken as it comes."""
        parser = FrameParser(DATA_BYTES_MAX)
        parser.checksums = False
        (frame,) = parser.receive(answer_header(Operation.READ, 1, data=b"abc", checksum=False) + b"abc")
        self.assertTrue(frame.intact)

    def test_whole_data_is_not_copied(self) -> None:
        """Data that lies in one piece is a view of it."""
        data = bytes(4096)
        piece = request_header(Operation.WRITE, 1, 0, 4096, data=data) + data
        (frame,) = FrameParser(DATA_BYTES_MAX).receive(piece)
        self.assertIsInstance(frame.data, memoryview)
        self.assertIs(piece, frame.data.obj)  # type: ignore[union-attr]

    def test_hole(self) -> None:
        """Large data can be received to its place: in any amounts, and also when some of it comes the other way."""
        data = Random(6).randbytes(300_000)
        stream = request_header(Operation.WRITE, 1, 0, len(data), data=data) + data
        for amounts in ([299_000], [1, 250_000, 48_999], [100_000, -50_000, 149_000]):
            parser = FrameParser(DATA_BYTES_MAX)
            self.assertIsNone(parser.hole)
            self.assertEqual([], parser.receive(stream[:1064]))
            position, frames = 1064, []
            for amount in amounts:
                hole = parser.hole
                assert hole is not None
                self.assertEqual(len(stream) - position, len(hole))
                piece = stream[position : position + abs(amount)]
                if amount > 0:
                    hole[:amount] = piece
                    frames += parser.hole_filled(amount)
                else:
                    frames += parser.receive(piece)
                position += len(piece)
            self.assertEqual([(data, True)], [(bytes(frame.data), frame.intact) for frame in frames])
            self.assertIsNone(parser.hole)
            self.assertEqual(2, parser.receive(request_header(Operation.FLUSH, 2))[0].id)

    def test_no_hole_for_little(self) -> None:
        """Data that is not large is received with what follows it."""
        parser = FrameParser(DATA_BYTES_MAX)
        parser.receive(request_header(Operation.WRITE, 1, 0, 4096, data=bytes(4096)))
        self.assertIsNone(parser.hole)

    def test_little_pieces_do_not_pile_up(self) -> None:
        """Large data in tiny pieces takes about its own size, not a list of a million objects."""
        data = Random(5).randbytes(200_000)
        parser = FrameParser(DATA_BYTES_MAX)
        stream = request_header(Operation.WRITE, 1, 0, len(data), data=data) + data
        frames: list[Frame] = []
        for position in range(0, len(stream), 3):
            frames += parser.receive(stream[position : position + 3])
            self.assertLessEqual(len(parser._pieces), 2)
        self.assertEqual([data], [bytes(frame.data) for frame in frames])


class PlainParserTests(ParserTests):
    """The same, with frames cut in Python."""

    def setUp(self) -> None:
        for name in ("Frame", "crc32c", "cut"):
            self.patch(parser, name, getattr(plain_frames, name))
