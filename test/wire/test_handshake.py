"""Hello and its answer: literal bytes, what is agreed on, and what is refused."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import NotSupported, PeerError
from dst.geometry import Geometry
from dst.wire.handshake import (
    Configuration,
    Hello,
    Terms,
    decode_configuration,
    decode_hello,
    encode_configuration,
    encode_hello,
    negotiate,
)
from dst.wire.messages import HELLO_BYTES_MAX, Feature

HELLO = Hello(bytes(range(16)), 3, "a", "völ", requests_max=64, bytes_max=1 << 33, transfer_bytes_max=65536)
HELLO_BYTES = bytes.fromhex(
    "0100 0100"  # versions
    "0700000000000000 0000000000000000"  # features
    "000102030405060708090a0b0c0d0e0f"  # token
    "0300000000000000"  # attempt
    "40000000 0000000002000000 00000100"  # limits
    "0100 61"  # client
    "0400 76c3b66c"  # export
)

CONFIGURATION = Configuration(
    Geometry(1 << 40, block_size=512, preferred_block_size=4096, transfer_bytes_max=1 << 20, read_only=True),
    bytes(range(0xF0, 0x100)),
    server="s",
    requests_max=128,
    bytes_max=1 << 25,
    idle_s=60,
)
CONFIGURATION_BYTES = bytes.fromhex(
    "0100 0100"  # version, read-only
    "0100000000000000"  # features
    "0000000000010000"  # size
    "00020000 00100000 00001000"  # block sizes, transfer
    "80000000 0000000200000000 3c000000"  # limits
    "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"  # incarnation
    "0100 73"  # server
)


class HelloTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """A hello, byte by byte, there and back."""
        self.assertEqual(HELLO_BYTES, encode_hello(HELLO))
        self.assertEqual(HELLO, decode_hello(HELLO_BYTES))

    def test_fits(self) -> None:
        """With the longest names it is within its limit, with room for what a later version adds."""
        longest = evolve(HELLO, client="c" * 255, export="e" * 255)
        self.assertLess(len(encode_hello(longest)), HELLO_BYTES_MAX - 256)

    def test_later_versions_may_add(self) -> None:
        """What follows the names is ignored."""
        self.assertEqual(HELLO, decode_hello(HELLO_BYTES + b"more"))

    def test_truncated(self) -> None:
        """One that ends early is refused wherever it ends."""
        for end in range(len(HELLO_BYTES)):
            self.assertRaises(PeerError, decode_hello, HELLO_BYTES[:end])

    def test_every_byte(self) -> None:
        """With any byte set to any value it is a hello, another version's, or refused; never anything else."""
        for position in range(len(HELLO_BYTES)):
            for value in range(256):
                changed = bytearray(HELLO_BYTES)
                changed[position] = value
                try:
                    self.assertIsInstance(decode_hello(bytes(changed)), Hello)
                except (PeerError, NotSupported):
                    pass

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_random(self, noise: bytes) -> None:
        """The same with noise."""
        try:
            decode_hello(noise)
        except (PeerError, NotSupported):
            pass

    def test_other_versions(self) -> None:
        """A hello in versions that are not spoken here is told so, even if nothing else in it can be read."""
        for lowest, highest in ((2, 9), (0, 0), (3, 2)):
            data = lowest.to_bytes(2, "little") + highest.to_bytes(2, "little") + b"whatever"
            error = self.assertRaises(NotSupported, decode_hello, data)
            self.assertEqual(
                f"the client speaks versions {lowest} to {highest} of the protocol, this server speaks 1", str(error)
            )

    def test_range_of_versions(self) -> None:
        """A newer client that still speaks version 1 is understood."""
        self.assertEqual(7, decode_hello(HELLO_BYTES[:2] + b"\x07\x00" + HELLO_BYTES[4:]).version_max)

    def test_bad_names(self) -> None:
        """A name that is too long or no UTF-8 is refused."""
        fixed = HELLO_BYTES[:60]
        self.assertRaises(PeerError, decode_hello, fixed + b"\x00\x01" + bytes(256) + b"\x00\x00")
        error = self.assertRaises(PeerError, decode_hello, fixed + b"\x01\x00\xff\x00\x00")
        self.assertEqual("the name at byte 60 is not UTF-8", str(error))

    def test_zero_limits(self) -> None:
        """A client that could not be answered anything is refused."""
        for field in ("attempt", "requests_max", "bytes_max", "transfer_bytes_max"):
            position = {
                "attempt": (36, 8),
                "requests_max": (44, 4),
                "bytes_max": (48, 8),
                "transfer_bytes_max": (56, 4),
            }
            start, size = position[field]
            self.assertRaises(
                PeerError, decode_hello, HELLO_BYTES[:start] + bytes(size) + HELLO_BYTES[start + size :]
            )


class ConfigurationTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """A configuration, byte by byte, there and back."""
        self.assertEqual(CONFIGURATION_BYTES, encode_configuration(CONFIGURATION))
        self.assertEqual(CONFIGURATION, decode_configuration(CONFIGURATION_BYTES))

    def test_rotational(self) -> None:
        """Both permissions have their bits."""
        geometry = Geometry(4096, rotational=True)
        encoded = encode_configuration(evolve(CONFIGURATION, geometry=geometry))
        self.assertEqual(b"\x02\x00", encoded[2:4])
        self.assertEqual(geometry, decode_configuration(encoded).geometry)

    def test_truncated(self) -> None:
        """One that ends early is refused wherever it ends."""
        for end in range(len(CONFIGURATION_BYTES)):
            self.assertRaises(PeerError, decode_configuration, CONFIGURATION_BYTES[:end])

    def test_every_byte(self) -> None:
        """With any byte set to any value it is a configuration that can be used, or refused."""
        for position in range(len(CONFIGURATION_BYTES)):
            for value in range(256):
                changed = bytearray(CONFIGURATION_BYTES)
                changed[position] = value
                try:
                    configuration = decode_configuration(bytes(changed))
                except PeerError:
                    continue
                self.assertGreater(configuration.requests_max * configuration.bytes_max * configuration.idle_s, 0)

    def test_nonsense(self) -> None:
        """Sizes that no device has, and block sizes that are none, are refused with what they were."""
        size = CONFIGURATION_BYTES[:12] + b"\xff" * 8 + CONFIGURATION_BYTES[20:]
        error = self.assertRaises(PeerError, decode_configuration, size)
        self.assertEqual(f"the server says that the device has {2**64 - 1} bytes, which no device has", str(error))
        for block_size in (0, 3, 8192, 1 << 31):
            changed = CONFIGURATION_BYTES[:20] + block_size.to_bytes(4, "little") + CONFIGURATION_BYTES[24:]
            self.assertRaises(PeerError, decode_configuration, changed)


class NegotiateTests(SynchronousTestCase):
    GEOMETRY = Geometry(1 << 30, transfer_bytes_max=1 << 22)

    def test_least_of_both(self) -> None:
        """Each limit is the smaller of what the two sides said; the transfer size also that of the device."""
        agreed = negotiate(HELLO, Terms(requests_max=32, bytes_max=1 << 20), self.GEOMETRY, bytes(16))
        self.assertEqual(
            (32, 1 << 20, 65536), (agreed.requests_max, agreed.bytes_max, agreed.geometry.transfer_bytes_max)
        )
        agreed = negotiate(
            evolve(HELLO, transfer_bytes_max=1 << 25), Terms(transfer_bytes_max=1 << 24), self.GEOMETRY, bytes(16)
        )
        self.assertEqual(
            (64, 1 << 25, 1 << 22), (agreed.requests_max, agreed.bytes_max, agreed.geometry.transfer_bytes_max)
        )

    def test_features(self) -> None:
        """A feature is used if both sides have it; one that is demanded and unknown ends the matter."""
        self.assertTrue(negotiate(HELLO, Terms(), self.GEOMETRY, bytes(16)).checksums)
        unwanted = evolve(HELLO, features_wanted=0)
        self.assertFalse(negotiate(unwanted, Terms(), self.GEOMETRY, bytes(16)).checksums)
        self.assertFalse(negotiate(HELLO, Terms(features=0), self.GEOMETRY, bytes(16)).checksums)
        self.assertTrue(negotiate(HELLO, Terms(), self.GEOMETRY, bytes(16)).block_checksums)
        self.assertFalse(negotiate(HELLO, Terms(features=1), self.GEOMETRY, bytes(16)).block_checksums)
        unknown = evolve(HELLO, features_wanted=Feature.CHECKSUMS | 1 << 40)
        self.assertEqual(Feature.CHECKSUMS, negotiate(unknown, Terms(), self.GEOMETRY, bytes(16)).features)
        demanded = evolve(HELLO, features_required=1 << 40)
        self.assertRaises(NotSupported, negotiate, demanded, Terms(), self.GEOMETRY, bytes(16))

    def test_odd_preferred_block_size(self) -> None:
        """A preference that is no power of two, as that of a stripe over three, is told as the one below."""
        geometry = Geometry(1 << 30, preferred_block_size=3 * 65536)
        agreed = negotiate(HELLO, Terms(), geometry, bytes(16))
        self.assertEqual(131072, agreed.geometry.preferred_block_size)
        self.assertEqual(agreed, decode_configuration(encode_configuration(agreed)))


class FencingTests(SynchronousTestCase):
    """Whether an export makes promises, and under which identity."""

    FENCE = bytes(range(0x10, 0x20))
    WITH_FENCE = evolve(CONFIGURATION, features=Feature.CHECKSUMS | Feature.FENCING, fence=FENCE)

    def test_literal(self) -> None:
        """The identity follows the name, byte by byte, there and back."""
        expected = CONFIGURATION_BYTES[:4] + b"\x03" + CONFIGURATION_BYTES[5:] + self.FENCE
        self.assertEqual(expected, encode_configuration(self.WITH_FENCE))
        self.assertEqual(self.WITH_FENCE, decode_configuration(expected))

    def test_missing(self) -> None:
        """A server that says the export fences and not under which identity is refused."""
        encoded = encode_configuration(self.WITH_FENCE)
        for wrong in (encoded[:-16], encoded[:-1], encoded[:-16] + bytes(16)):
            self.assertRaises(PeerError, decode_configuration, wrong)

    def test_negotiated(self) -> None:
        """It is said to who wants to know, of an export that fences; who demands it gets nothing else."""
        wants, old = HELLO, evolve(HELLO, features_wanted=Feature.CHECKSUMS)
        demands = evolve(HELLO, features_required=int(Feature.FENCING))
        geometry = Geometry(4096)

        def agreed(hello: Hello, fence: bytes) -> tuple[bool, bytes]:
            configuration = negotiate(hello, Terms(), geometry, bytes(16), fence)
            return bool(configuration.features & Feature.FENCING), configuration.fence

        self.assertEqual((True, self.FENCE), agreed(wants, self.FENCE))
        self.assertEqual((False, b""), agreed(wants, b""))
        self.assertEqual((False, b""), agreed(old, self.FENCE))
        self.assertEqual((True, self.FENCE), agreed(demands, self.FENCE))
        self.assertRaises(NotSupported, agreed, demands, b"")
