"""
The hello, its answer, and what two sides agree on.

C{negotiate} decides everything that needs no device: it is a function of the two sides' values.
"""

from __future__ import annotations

import struct

from attrs import evolve, frozen

from dst.errors import NotSupported, PeerError
from dst.geometry import SIZE_BYTES_MAX, TRANSFER_BYTES_MAX, Geometry
from dst.interfaces import Buffer
from dst.ownership import FENCE_BYTES
from dst.wire.messages import NAME_BYTES_MAX, VERSION, Feature

__all__ = [
    "Configuration",
    "Hello",
    "Terms",
    "decode_configuration",
    "decode_hello",
    "encode_configuration",
    "encode_hello",
    "negotiate",
    "read_name",
    "write_name",
]

_HELLO = struct.Struct("<HHQQ16sQIQI")
_CONFIGURATION = struct.Struct("<HHQQIIIIQI16s")
_VERSIONS = struct.Struct("<HH")
_NAME = struct.Struct("<H")

_READ_ONLY = 1
_ROTATIONAL = 2

_BLOCK_SIZE_MAX = 1 << 31


@frozen
class Hello:
    """
    What a client says first.

    @ivar token: 16 bytes, the same in every hello of this client for this export.
    @ivar attempt: counts the connections made with this token.
    @ivar requests_max: how many unanswered requests the client would like to have.
    @ivar bytes_max: and how many bytes in them.
    @ivar transfer_bytes_max: the most data it takes in one answer.
    @ivar client: a name for people.
    @ivar export: what to open; C{""} for nothing.
    """

    token: bytes
    attempt: int
    client: str
    export: str
    version_min: int = VERSION
    version_max: int = VERSION
    features_wanted: int = Feature.CHECKSUMS | Feature.FENCING | Feature.BLOCK_CHECKSUMS
    features_required: int = 0
    requests_max: int = 256
    bytes_max: int = 32 * 1024 * 1024
    transfer_bytes_max: int = TRANSFER_BYTES_MAX


@frozen
class Configuration:
    """
    What the server answers, and sends again when it changes.

    @ivar geometry: that of the device with the permissions of this client.
    @ivar incarnation: 16 bytes.
    @ivar idle_s: a client that is silent for so long is dropped.
    @ivar fence: 16 bytes, the identity of the export's memory of promises; C{b""} if it makes none.
    """

    geometry: Geometry
    incarnation: bytes
    server: str = ""
    version: int = VERSION
    features: int = Feature.CHECKSUMS
    requests_max: int = 256
    bytes_max: int = 32 * 1024 * 1024
    idle_s: int = 60
    fence: bytes = b""

    @property
    def checksums(self) -> bool:
        """Data is checked in both directions."""
        return bool(self.features & Feature.CHECKSUMS)

    @property
    def block_checksums(self) -> bool:
        """The server can be asked for the checksums of blocks."""
        return bool(self.features & Feature.BLOCK_CHECKSUMS)


@frozen
class Terms:
    """
    What a server offers to every client.

    @ivar features: all that it knows.
    """

    requests_max: int = 256
    bytes_max: int = 32 * 1024 * 1024
    transfer_bytes_max: int = TRANSFER_BYTES_MAX
    idle_s: int = 60
    features: int = Feature.CHECKSUMS | Feature.FENCING | Feature.BLOCK_CHECKSUMS
    server: str = ""


def negotiate(
    hello: Hello, terms: Terms, geometry: Geometry, incarnation: bytes, fence: bytes = b""
) -> Configuration:
    """
    What both sides can live with.

    @param geometry: that of the device, read-only if this client may not change it.
    @param fence: the identity of the export's memory of promises, if it makes any.
    @raise NotSupported: the client demands what this side does not have.
    """
    offered = int(terms.features) if fence else int(terms.features) & ~int(Feature.FENCING)
    missing = hello.features_required & ~offered  # the complement of a Flag has only bits that it knows
    if missing:
        raise NotSupported(f"the client demands features that this server does not have: {missing:#x}")
    return Configuration(
        geometry=evolve(
            geometry,
            preferred_block_size=min(_power_below(geometry.preferred_block_size), _BLOCK_SIZE_MAX),
            transfer_bytes_max=min(geometry.transfer_bytes_max, terms.transfer_bytes_max, hello.transfer_bytes_max),
        ),
        incarnation=incarnation,
        server=terms.server,
        features=offered & (hello.features_wanted | hello.features_required),
        requests_max=min(hello.requests_max, terms.requests_max),
        bytes_max=min(hello.bytes_max, terms.bytes_max),
        idle_s=terms.idle_s,
        fence=fence if (hello.features_wanted | hello.features_required) & Feature.FENCING else b"",
    )


def encode_hello(hello: Hello) -> bytes:
    """The data of a hello."""
    assert len(hello.token) == 16 and hello.attempt > 0
    return (
        _HELLO.pack(
            hello.version_min,
            hello.version_max,
            hello.features_wanted,
            hello.features_required,
            hello.token,
            hello.attempt,
            hello.requests_max,
            hello.bytes_max,
            hello.transfer_bytes_max,
        )
        + write_name(hello.client)
        + write_name(hello.export)
    )


def decode_hello(data: Buffer) -> Hello:
    """
    The hello that L{encode_hello} made C{data} from.

    @raise NotSupported: it is in versions that are not spoken here, so that nothing else in it can be read.
    @raise PeerError: it is not one.
    """
    if len(data) >= _VERSIONS.size:
        lowest, highest = _VERSIONS.unpack_from(data)
        if not lowest <= VERSION <= highest:
            raise NotSupported(
                f"the client speaks versions {lowest} to {highest} of the protocol, this server speaks {VERSION}"
            )
    if len(data) < _HELLO.size:
        raise PeerError(f"a hello of {len(data)} bytes is too short")
    lowest, highest, wanted, required, token, attempt, requests_max, bytes_max, transfer_bytes_max = (
        _HELLO.unpack_from(data)
    )
    client, position = read_name(data, _HELLO.size)
    export, position = read_name(data, position)
    if not attempt or not requests_max or not bytes_max or not transfer_bytes_max:
        raise PeerError("a hello has a zero where a positive number is expected")
    return Hello(
        token, attempt, client, export, lowest, highest, wanted, required, requests_max, bytes_max, transfer_bytes_max
    )


def encode_configuration(configuration: Configuration) -> bytes:
    """The data of the answer to a hello, and of the notice."""
    geometry = configuration.geometry
    encoded = _CONFIGURATION.pack(
        configuration.version,
        (_READ_ONLY if geometry.read_only else 0) | (_ROTATIONAL if geometry.rotational else 0),
        configuration.features,
        geometry.size,
        geometry.block_size,
        geometry.preferred_block_size,
        geometry.transfer_bytes_max,
        configuration.requests_max,
        configuration.bytes_max,
        configuration.idle_s,
        configuration.incarnation,
    ) + write_name(configuration.server)
    return encoded + configuration.fence if configuration.features & Feature.FENCING else encoded


def decode_configuration(data: Buffer) -> Configuration:
    """
    The configuration that L{encode_configuration} made C{data} from.

    @raise PeerError: it is not one, or makes no sense.
    """
    if len(data) < _CONFIGURATION.size:
        raise PeerError(f"a configuration of {len(data)} bytes is too short")
    (
        version,
        permissions,
        features,
        size,
        block_size,
        preferred_block_size,
        transfer_bytes_max,
        requests_max,
        bytes_max,
        idle_s,
        incarnation,
    ) = _CONFIGURATION.unpack_from(data)
    server, position = read_name(data, _CONFIGURATION.size)
    fence = b""
    if features & Feature.FENCING:
        fence = bytes(data[position : position + FENCE_BYTES])
        if len(fence) < FENCE_BYTES or not any(fence):
            raise PeerError("the server says that the export fences, and not under which identity")
    if version != VERSION:
        raise PeerError(f"the server answered in version {version}, which was not offered")
    if size > SIZE_BYTES_MAX:
        raise PeerError(f"the server says that the device has {size} bytes, which no device has")
    if not (_is_power(block_size) and _is_power(preferred_block_size) and block_size <= preferred_block_size):
        raise PeerError(f"the server says block sizes {block_size} and {preferred_block_size}, which cannot be")
    if not (transfer_bytes_max and requests_max and bytes_max and idle_s):
        raise PeerError("the server says a limit of 0, with which nothing could be done")
    return Configuration(
        geometry=Geometry(
            size=size,
            block_size=block_size,
            preferred_block_size=preferred_block_size,
            transfer_bytes_max=min(transfer_bytes_max, TRANSFER_BYTES_MAX),
            read_only=bool(permissions & _READ_ONLY),
            rotational=bool(permissions & _ROTATIONAL),
        ),
        incarnation=incarnation,
        server=server,
        version=version,
        features=features,
        requests_max=requests_max,
        bytes_max=bytes_max,
        idle_s=idle_s,
        fence=fence,
    )


def write_name(name: str) -> bytes:
    """C{name} with its length before it."""
    encoded = name.encode()
    assert len(encoded) <= NAME_BYTES_MAX, name
    return _NAME.pack(len(encoded)) + encoded


def read_name(data: Buffer, position: int) -> tuple[str, int]:
    """
    The name at C{position}, and the position after it.

    @raise PeerError: there is none.
    """
    begin = position + _NAME.size
    if begin <= len(data):
        (length,) = _NAME.unpack_from(data, position)
        end = begin + length
        if length <= NAME_BYTES_MAX and end <= len(data):
            try:
                return str(data[begin:end], "utf-8"), end
            except UnicodeDecodeError:
                raise PeerError(f"the name at byte {position} is not UTF-8")
    raise PeerError(f"the name at byte {position} is longer than {NAME_BYTES_MAX} bytes or than the message")


def _power_below(number: int) -> int:
    return 1 << number.bit_length() - 1


def _is_power(number: int) -> bool:
    return 0 < number <= _BLOCK_SIZE_MAX and number & (number - 1) == 0
