"""
An invitation: what a new machine is given, and what the two say to each other.  Values and bytes; nothing is sent.

The format is that of C{docs/specifications/invitation.rst}.  The token carries a secret that is good for one
certificate, and the fingerprint of the authority, so that neither of the two has to trust the
network between them::

    inviting                                    joining
       |  <------------- TLS ------------------->  |   checks the fingerprint; until then it says nothing
       |  challenge: a number used once            |
       |  ------------------------------------->   |
       |      request: a key, and the proof that   |
       |      whoever sends it has the secret      |
       |  <-------------------------------------   |
       |  grant: the certificate, and the proof    |
       |  ------------------------------------->   |

Each proof is an HMAC with the secret over what it is about, the number of this connection, and what only the two ends
of this TLS connection know.  So the secret is never sent, a proof is worth nothing on any other connection, and
somebody in the middle, even with a certificate of the same authority, has two connections and no proof for either.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import zlib
from typing import Final

from attrs import frozen

from dst.errors import InvalidRequest, PeerError

__all__ = [
    "BODY_BYTES_MAX",
    "BINDING_BYTES",
    "BINDING_LABEL",
    "Grant",
    "Kind",
    "Messages",
    "NONCE_BYTES",
    "SECRET_BYTES",
    "Token",
    "decode_grant",
    "decode_request",
    "encode",
    "encode_grant",
    "encode_request",
    "proof",
]

SECRET_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 32
NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32

BINDING_LABEL: Final = b"EXPORTER-dst-invitation-1"
BINDING_BYTES: Final = 32
"""Keying material of the TLS connection (RFC 8446, 7.5): the same at both ends of one, and nowhere else."""

BODY_BYTES_MAX: Final = 256 * 1024
"""A list of a few thousand revoked certificates has that much; a request has less than 1 KiB."""

REQUEST_BYTES_MAX: Final = 4096

_MAGIC: Final = b"DSTJ"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<4sBBHI")
_TOKEN_PREFIX: Final = "dst1-"
_ADDRESS_BYTES_MAX: Final = 255


class Kind:
    """The messages."""

    CHALLENGE: Final = 1
    REQUEST: Final = 2
    GRANT: Final = 3
    REFUSED: Final = 4


@frozen
class Token:
    """
    What a person carries from one machine to the other.

    @ivar secret: 16 bytes.
    @ivar fingerprint: SHA-256 of the authority's certificate.
    """

    host: str
    port: int
    fingerprint: bytes
    secret: bytes

    def encode(self) -> str:
        """As one word."""
        where = f"{self.host} {self.port}".encode()
        assert len(self.secret) == SECRET_BYTES and len(self.fingerprint) == FINGERPRINT_BYTES
        body = self.secret + self.fingerprint + where
        text = base64.b32encode(body + struct.pack("<I", zlib.crc32(body))).decode().rstrip("=").lower()
        return _TOKEN_PREFIX + text

    @classmethod
    def decode(cls, text: str) -> Token:
        """
        @raise InvalidRequest: it is none, or not the whole of one.
        """
        damaged = InvalidRequest("the token is damaged; copy the whole of it, as `dst ca invite` has printed it")
        text = "".join(text.split()).lower()
        if not text.startswith(_TOKEN_PREFIX):
            raise InvalidRequest(f"a token begins with {_TOKEN_PREFIX}; copy it as `dst ca invite` has printed it")
        word = text[len(_TOKEN_PREFIX) :].upper()
        if len(word) > 1024:
            raise damaged
        try:
            data = base64.b32decode(word + "=" * (-len(word) % 8))
        except (binascii.Error, ValueError):
            raise damaged from None
        body, check = data[:-4], data[-4:]
        least = SECRET_BYTES + FINGERPRINT_BYTES
        if (
            len(body) <= least
            or len(body) > least + _ADDRESS_BYTES_MAX
            or struct.pack("<I", zlib.crc32(body)) != check
        ):
            raise damaged
        try:
            host, _, port = body[least:].decode("ascii").partition(" ")
            number = int(port)
        except ValueError:
            raise damaged from None
        if not host or not 0 < number < 65536:
            raise damaged
        return cls(host, number, body[SECRET_BYTES:least], body[:SECRET_BYTES])


@frozen
class Grant:
    """
    What the new machine gets.

    @ivar certificate: DER.
    @ivar trusted: PEM, as C{revocations}.
    """

    certificate: bytes
    trusted: bytes
    revocations: bytes


def proof(secret: bytes, what: str, binding: bytes, nonce: bytes, body: bytes) -> bytes:
    """
    @param what: C{"request"} or C{"grant"}: one is never taken for the other.
    @param binding: what only the two ends of the connection know.
    """
    assert len(binding) == BINDING_BYTES and len(nonce) == NONCE_BYTES
    message = b"dst invitation 1 " + what.encode() + b"\0" + binding + nonce + body
    return hmac.new(secret, message, hashlib.sha256).digest()


def encode(kind: int, body: bytes) -> bytes:
    """A message."""
    assert len(body) <= BODY_BYTES_MAX
    return _HEADER.pack(_MAGIC, _VERSION, kind, 0, len(body)) + body


def encode_request(request: bytes, secret: bytes, binding: bytes, nonce: bytes) -> bytes:
    """
    @param request: PKCS #10, DER.
    """
    return encode(Kind.REQUEST, proof(secret, "request", binding, nonce, request) + request)


def decode_request(body: bytes, secret: bytes, binding: bytes, nonce: bytes) -> bytes | None:
    """
    @return: the request, or C{None} if whoever sent it has not the secret.
    """
    shown, request = body[:PROOF_BYTES], body[PROOF_BYTES:]
    return request if hmac.compare_digest(shown, proof(secret, "request", binding, nonce, request)) else None


def encode_grant(grant: Grant, secret: bytes, binding: bytes, nonce: bytes) -> bytes:
    """The answer to a request."""
    parts = b"".join(
        struct.pack("<I", len(each)) + each for each in (grant.certificate, grant.trusted, grant.revocations)
    )
    return encode(Kind.GRANT, proof(secret, "grant", binding, nonce, parts) + parts)


def decode_grant(body: bytes, secret: bytes, binding: bytes, nonce: bytes) -> Grant:
    """
    @raise PeerError: it comes from somebody who has not the secret, or is none.
    """
    shown, parts = body[:PROOF_BYTES], body[PROOF_BYTES:]
    if not hmac.compare_digest(shown, proof(secret, "grant", binding, nonce, parts)):
        raise PeerError("the answer to the invitation was not made by the one who invited; nothing of it is used")
    found, position = [], 0
    for _ in range(3):
        if position + 4 > len(parts):
            raise PeerError("the answer to the invitation is too short")
        (length,) = struct.unpack_from("<I", parts, position)
        found.append(parts[position + 4 : position + 4 + length])
        position += 4 + length
    if position != len(parts):
        raise PeerError("the answer to the invitation has the wrong length")
    return Grant(*found)


class Messages:
    """
    Bytes to messages, of which there is one at a time and of a limited size.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._data = bytearray()

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """
        @return: the kind and the body of what is complete.
        @raise PeerError: that is no invitation, or too much.
        """
        self._data += data
        found = []
        while len(self._data) >= _HEADER.size:
            magic, version, kind, _, length = _HEADER.unpack_from(self._data)
            if magic != _MAGIC:
                raise PeerError("what was sent is no message about an invitation")
            if version != _VERSION:
                raise PeerError(f"the invitation is of version {version}, expected {_VERSION}; use the same DST")
            if length > self._body_bytes_max:
                raise PeerError(f"a message of {length} bytes is too long; the most are {self._body_bytes_max}")
            if len(self._data) < _HEADER.size + length:
                break
            found.append((kind, bytes(self._data[_HEADER.size : _HEADER.size + length])))
            del self._data[: _HEADER.size + length]
        if len(self._data) > self._body_bytes_max + _HEADER.size:
            raise PeerError("more was sent than a message has")
        return found
