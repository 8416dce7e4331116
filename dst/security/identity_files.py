"""
Who a machine is, written to its security directory.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dst.security.files import directory_made, write
from dst.security.making import certificate_pem, key_pem

__all__ = ["write_identity", "write_other_names"]

_OTHER_NAMES: Final = {
    "ca-cert.pem": "ca.crt",
    "ca-crl.pem": "revoked.crl",
    "server-cert.pem": "this.crt",
    "server-key.pem": "this.key",
    "client-cert.pem": "this.crt",
    "client-key.pem": "this.key",
}


def write_identity(
    directory: str,
    key: ec.EllipticCurvePrivateKey | None,
    certificate: x509.Certificate,
    trusted: bytes,
    revocations: bytes,
) -> None:
    """
    Make C{directory} a security directory.

    The certificate comes last: a daemon that reads meanwhile finds a pair that does not fit, and waits for the rest.

    @param key: C{None} leaves the one that there is.
    """
    directory_made(directory)
    write(os.path.join(directory, "ca.crt"), trusted)
    write(os.path.join(directory, "revoked.crl"), revocations)
    if key is not None:
        write(os.path.join(directory, "this.key"), key_pem(key), private=True)
    write(os.path.join(directory, "this.crt"), certificate_pem(certificate))
    write_other_names(directory)


def write_other_names(directory: str) -> None:
    """The names under which QEMU, nbdkit and libnbd look for the same files."""
    for name, target in _OTHER_NAMES.items():
        path = os.path.join(directory, name)
        if not os.path.lexists(path):
            os.symlink(target, path)
