"""
What is in a security directory, read and checked: values.

All four files are one thing: a certificate that does not belong to its key, or that no trusted authority has signed,
is found here and not by whoever connects next.
"""

from __future__ import annotations

import os
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from dst.errors import ConfigurationError, InvalidRequest
from dst.security.certificates import Holder, holder_of, is_signed_by
from dst.security.files import read, read_private, refuse_open_directory
from dst.security.making import AnyKey, certificates_in, load_any_key

__all__ = ["FILES", "Credentials", "load", "signature"]

FILES: Final = ("ca.crt", "this.crt", "this.key", "revoked.crl")

_AUTHORITIES_MAX: Final = 16
"""Two are needed while one replaces the other."""


@frozen
class Credentials:
    """
    Who a daemon is, and whom it trusts.

    @ivar certificate: its own.
    @ivar trusted: the authorities.
    @ivar revocations: their lists.
    @ivar revoked: the issuer and the serial number of every certificate in the lists.
    """

    holder: Holder
    certificate: x509.Certificate
    key: AnyKey
    trusted: tuple[x509.Certificate, ...]
    revocations: tuple[x509.CertificateRevocationList, ...]
    revoked: frozenset[tuple[bytes, int]]

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        """Whether a list names it."""
        return (certificate.issuer.public_bytes(), certificate.serial_number) in self.revoked

    def is_trusted(self, certificate: x509.Certificate) -> bool:
        """Whether an authority that is trusted has signed it."""
        return any(is_signed_by(certificate, each) for each in self.trusted)


def signature(directory: str) -> tuple[object, ...]:
    """Changes whenever one of the files does."""
    found: list[object] = []
    for name in FILES:
        try:
            status = os.stat(os.path.join(directory, name))
            found.append((status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode))
        except OSError as error:
            found.append(error.errno)
    return tuple(found)


def load(directory: str) -> Credentials:
    """
    @raise ConfigurationError: what is wrong, with which file, and what to do.
    """
    refuse_open_directory(directory)
    paths = {name: os.path.join(directory, name) for name in FILES}
    try:
        trusted = certificates_in(read(paths["ca.crt"]), paths["ca.crt"])
        certificate = certificates_in(read(paths["this.crt"]), paths["this.crt"])[0]
        key = load_any_key(read_private(paths["this.key"]), paths["this.key"])
        holder = holder_of(certificate)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{error.filename} is missing; `dst join` with an invitation makes it, or `dst ca issue` where the "
            "authority is"
        ) from None
    except InvalidRequest as error:
        raise ConfigurationError(f"{directory}: {error.message}") from None
    if len(trusted) > _AUTHORITIES_MAX:
        raise ConfigurationError(f"{paths['ca.crt']} has {len(trusted)} certificates; expected one or two")
    if key.public_key() != certificate.public_key():
        raise ConfigurationError(
            f"{paths['this.key']} does not belong to {paths['this.crt']}; copy both, or join again"
        )
    for each in trusted:
        if not _is_authority(each):
            raise ConfigurationError(
                f"{paths['ca.crt']} has a certificate in it that is no authority's: {each.subject.rfc4514_string()}"
            )
    if not any(is_signed_by(certificate, each) for each in trusted):
        raise ConfigurationError(
            f"{paths['this.crt']} was not signed by an authority in {paths['ca.crt']}; copy both, or join again"
        )
    revocations = _revocations(paths["revoked.crl"], trusted)
    revoked = {(each.issuer.public_bytes(), entry.serial_number) for each in revocations for entry in each}
    return Credentials(holder, certificate, key, tuple(trusted), tuple(revocations), frozenset(revoked))


_BEGIN: Final = b"-----BEGIN X509 CRL-----"
_END: Final = b"-----END X509 CRL-----"


def _revocations(path: str, trusted: list[x509.Certificate]) -> list[x509.CertificateRevocationList]:
    """The lists in a file; one that no trusted authority has signed is an error: who knows what it leaves out."""
    try:
        data = read(path)
    except FileNotFoundError:
        return []  # of an authority of another make, which has revoked nobody
    lists = []
    for part in data.split(_BEGIN)[1:]:
        try:
            found = x509.load_pem_x509_crl(_BEGIN + part.partition(_END)[0] + _END + b"\n")
        except ValueError as error:
            raise ConfigurationError(f"{path} is no revocation list ({error}); copy it once more") from None
        if not any(each.subject == found.issuer and _signed(found, each) for each in trusted):
            raise ConfigurationError(
                f"{path} has a list that was not signed by an authority in ca.crt: {found.issuer.rfc4514_string()}"
            )
        lists.append(found)
    if data.strip() and not lists:
        raise ConfigurationError(f"{path} is no revocation list; copy it once more")
    return lists


def _signed(revocations: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    known = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    return isinstance(key, known) and revocations.is_signature_valid(key)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
