"""
How certificates and revocation lists are made: values and keys in, signed things out; no file, no clock.

All keys are ECDSA on P-256: OpenSSL, GnuTLS and Go know it, a key and a certificate fit into one packet, and a
handshake costs half a millisecond.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dst.errors import InvalidRequest
from dst.identity import Role
from dst.security.certificates import Kind, check_name

__all__ = [
    "AnyKey",
    "DAYS",
    "DAYS_AUTHORITY",
    "DAYS_MAX",
    "Wanted",
    "certificate_pem",
    "certificates_in",
    "key_pem",
    "load_any_key",
    "host_key",
    "is_local",
    "load_key",
    "make_authority",
    "make_certificate",
    "make_key",
    "make_request",
    "make_revocations",
    "request_key",
]

DAYS: Final = 365
"""How long a certificate is good unless told otherwise: long enough to be renewed in peace."""

DAYS_MAX: Final = 3650
DAYS_AUTHORITY: Final = 3650

_ALREADY: Final = datetime.timedelta(hours=1)
"""A certificate is good from a little before it is made: clocks of machines that join are not exact."""

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
"""Every daemon is asked by people and programs on its own machine."""

_HOST: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I
)
_ADDRESSES_MAX: Final = 64


AnyKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@frozen
class Wanted:
    """
    What a certificate is to say.

    @ivar addresses: and host names at which a daemon can be reached.
    """

    name: str
    kind: Kind = Kind.DAEMON
    role: Role | None = None
    addresses: tuple[str, ...] = ()
    days: float = DAYS

    def check(self) -> None:
        """
        @raise InvalidRequest: no certificate can say that.
        """
        check_name(self.name)
        if not 0 < self.days <= DAYS_MAX:
            raise InvalidRequest(f"{self.days:g} days is no time for a certificate; expected 1 to {DAYS_MAX}")
        if self.kind is Kind.PERSON and self.addresses:
            raise InvalidRequest(f"{self.name} is a person, who serves at no address; only daemons have some")
        if len(self.addresses) > _ADDRESSES_MAX:
            raise InvalidRequest(f"{len(self.addresses)} addresses are too many; the most are {_ADDRESSES_MAX}")
        for address in self.addresses:
            _general_name(address)


def make_key() -> ec.EllipticCurvePrivateKey:
    """A new key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As it stands in a file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_any_key(pem: bytes, path: str) -> AnyKey:
    """
    A key that may be of another make.

    @param path: for the sentence.
    @raise InvalidRequest: it is none that certificates are made for.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidRequest(f"{path} is no key ({error}); restore it, or make a new one") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise InvalidRequest(f"{path} is a key of another kind; expected ECDSA, RSA or Ed25519")
    return key


def load_key(pem: bytes, path: str) -> ec.EllipticCurvePrivateKey:
    """
    @param path: for the sentence.
    @raise InvalidRequest: it is none that is made here.
    """
    key = load_any_key(pem, path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidRequest(f"{path} is no ECDSA key; expected one that `dst ca` or `dst join` has made")
    return key


def certificate_pem(*certificates: x509.Certificate) -> bytes:
    """As they stand in a file."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def certificates_in(pem: bytes, path: str) -> list[x509.Certificate]:
    """
    At least one.

    @raise InvalidRequest: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidRequest(f"{path} has no certificate that can be read ({error})") from None


def make_authority(
    name: str, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, days: float = DAYS_AUTHORITY
) -> x509.Certificate:
    """
    The certificate of an authority, which vouches for itself.

    @param name: for people.  Some digits are added, so that it is told from the one that follows it.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"DST authority {name[:40]} {os.urandom(4).hex()}")])
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(_serial())
        .not_valid_before(now - _ALREADY)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def make_certificate(
    wanted: Wanted,
    public_key: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.Certificate:
    """
    A certificate, which ends no later than the authority's own.

    @raise InvalidRequest: it cannot say what is wanted.
    """
    wanted.check()
    alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"dst:{wanted.kind.value}:{wanted.name}")]
    if wanted.role is not None:
        alternatives.append(x509.UniformResourceIdentifier(f"dst:role:{wanted.role.value}"))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if wanted.kind is Kind.DAEMON:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        hosts = dict.fromkeys([*wanted.addresses, *_LOCAL])
        if _HOST.fullmatch(wanted.name) and not _is_address(wanted.name):
            hosts[wanted.name] = None
        alternatives += [_general_name(each) for each in hosts]
    ends = min(now + datetime.timedelta(days=wanted.days), authority.not_valid_after_utc)
    if ends <= now:
        raise InvalidRequest("this authority has ended; `dst ca rotate` makes the next one")
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.name)]))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(_serial())
        .not_valid_before(now - _ALREADY)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def make_revocations(
    revoked: Iterable[tuple[int, datetime.datetime]],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> bytes:
    """
    A list of serial numbers that are not to be trusted any more, as PEM.

    It does not end before the authority does: a list that was not renewed in time must not stop a storage.
    """
    ends = max(authority.not_valid_after_utc, now + datetime.timedelta(days=1))
    builder = (
        x509.CertificateRevocationListBuilder().issuer_name(authority.subject).last_update(now).next_update(ends)
    )
    for serial, when in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    ).add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_request(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request for a certificate, as DER.  The authority takes the key from it and nothing else."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def request_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """
    The key that a request is for.

    @raise InvalidRequest: whoever sent it does not have that key, or it is of another kind.
    """
    try:
        read = x509.load_der_x509_csr(request)
        good = read.is_signature_valid
        key = read.public_key()
    except Exception as error:  # whatever a parser may say of a stranger's bytes
        raise InvalidRequest(f"the request for a certificate cannot be read: {error}") from None
    if not good:
        raise InvalidRequest("the request for a certificate is not signed with the key that it names")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequest("the request for a certificate has a key of another kind; expected ECDSA on P-256")
    return key


def _serial() -> int:
    """
    63 bits of chance.  A counter would give a number a second time when an authority is restored from an old
    backup, and one of the two could then not be revoked alone.
    """
    return int.from_bytes(os.urandom(8), "big") >> 1 | 1 << 62


def _usage(*, sign: bool) -> x509.KeyUsage:
    # QEMU warns of a server's certificate without key_encipherment, whatever kind of key it has.
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=not sign,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def host_key(host: str) -> str:
    """The same for every way to write one address or name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def is_local(host: str) -> bool:
    """Whether it is every machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise InvalidRequest(f"{host[:80]!r} is neither an address nor a host name, as 192.0.2.7 or alpha.example")
    return x509.DNSName(host.lower())
