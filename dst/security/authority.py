"""
The authority of a cluster: the one place that says who belongs to it.

It is a directory on the machine where it was made, and nothing else; no daemon needs it to run::

    security/                 0700   what a daemon reads
        ca.crt                       the authorities that are trusted, one or more
        this.crt, this.key           who this daemon is; the key 0600
        revoked.crl                  whom not to trust any more, one list for each authority
        ca-cert.pem, ...             the same under the names that QEMU, nbdkit and libnbd look for
        authority/            0700   only where the authority was made; keep a copy where no machine can lose it
            ca.crt, ca.key           the one that signs
            earlier/                 those that signed before, until they are retired
            issued.json              what was signed, for whom
            issued/SERIAL.crt        and the certificates, so that they can be renewed without asking anybody

Everything that changes it is done under a lock and file by file, each whole; C{issued.json} comes first, so that
nothing is ever signed that is not written down.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from attrs import asdict, evolve, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from dst.errors import AlreadyInUse, ConfigurationError, InvalidRequest, LimitReached, NotFound
from dst.identity import Role
from dst.security.certificates import Kind, day, serial_text
from dst.security.files import directory_made, locked, read, read_private, refuse_open_directory, write
from dst.security.identity_files import write_other_names
from dst.security.making import (
    Wanted,
    certificate_pem,
    certificates_in,
    host_key,
    is_local,
    key_pem,
    load_key,
    make_authority,
    make_certificate,
    make_key,
    make_revocations,
)

__all__ = ["ISSUED_MAX", "Authority", "Issued", "fingerprint"]

ISSUED_MAX: Final = 3000
"""Certificates that are written down: two hundred bytes each, read as a whole by every command."""

_FORGOTTEN_S: Final = 90 * 86400.0
"""A certificate that ended so long ago is of no interest to anybody."""


@frozen
class Issued:
    """
    A certificate that was signed.

    @ivar began: seconds of the epoch, as C{ends} and C{revoked}.
    @ivar revoked: when it was, or C{None}.
    @ivar authority: the fingerprint of the one that signed it.
    """

    serial: str
    name: str
    kind: Kind
    role: Role | None
    addresses: tuple[str, ...]
    began: float
    ends: float
    authority: str
    revoked: float | None = None

    def good(self, now: float) -> bool:
        """Whether it may be used."""
        return self.revoked is None and self.ends > now


@frozen
class _Signer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate."""
    return certificate.fingerprint(hashes.SHA256())


class Authority:
    """
    The authority of a security directory.

    @ivar directory: the security directory.
    """

    def __init__(self, directory: str, now: Callable[[], float] = time.time) -> None:
        """
        Nothing is touched.

        @param now: seconds of the epoch.
        """
        self.directory = os.path.abspath(directory)
        self._own = os.path.join(self.directory, "authority")
        self._now = now

    @property
    def exists(self) -> bool:
        """Whether it was made here."""
        return os.path.exists(os.path.join(self._own, "ca.key"))

    def create(self, name: str) -> x509.Certificate:
        """
        Make it.

        @param name: for people.
        @raise AlreadyInUse: there is one, or the directory trusts another one.
        """
        directory_made(self.directory)
        directory_made(self._own, shared=False)
        with locked(self._own):
            if self.exists:
                raise AlreadyInUse(f"{self._own} has an authority already; `dst ca show` tells which")
            if os.path.exists(self._path("ca.crt")):
                raise AlreadyInUse(
                    f"{self.directory} belongs to the authority of another machine; name another directory, or issue "
                    "certificates there"
                )
            directory_made(os.path.join(self._own, "issued"), shared=False)
            signer = self._new_signer(name)
            self._save([])
            self._write_revocations([], [signer])
            write_other_names(self.directory)
            write(self._path("ca.crt"), certificate_pem(signer.certificate))
            self._keep_signer(signer)
            return signer.certificate

    @property
    def certificate(self) -> x509.Certificate:
        """The authority's own, the newest."""
        return self._signer().certificate

    def trusted(self) -> list[x509.Certificate]:
        """Every authority that is trusted here."""
        return certificates_in(self._read("ca.crt"), self._path("ca.crt"))

    def trusted_pem(self) -> bytes:
        """The same as a file."""
        return self._read("ca.crt")

    def revocations_pem(self) -> bytes:
        """The list as a file."""
        return self._read("revoked.crl")

    def issued(self) -> list[Issued]:
        """What was signed, the oldest first."""
        self._check()
        try:
            table = json.loads(read(os.path.join(self._own, "issued.json")))
            return [_issued_from(each) for each in table["issued"]]
        except FileNotFoundError:
            raise ConfigurationError(
                f"{self._own}/issued.json is missing; restore it from the copy of the authority"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self._own}/issued.json cannot be read ({error}); restore it from the copy of the authority"
            ) from None

    def sign(self, wanted: Wanted, public_key: ec.EllipticCurvePublicKey, *, again: bool = False) -> x509.Certificate:
        """
        A certificate.

        @param again: also if there is a good one for that name.
        @raise AlreadyInUse: as L{check}.
        """
        wanted.check()
        with self._changing():
            return self._sign(wanted, public_key, again)

    def check(self, wanted: Wanted, *, again: bool = False) -> None:
        """
        Whether L{sign} would, as things are now.

        @raise AlreadyInUse: there is a good certificate for that name, or for one of the addresses under another.
        """
        wanted.check()
        _refuse(wanted, self.issued(), self._now(), again)

    def other_at(self, place: str, name: str) -> str | None:
        """Who but C{name} has a good certificate for an address or host name; loopback is everybody's."""
        return _other_at(place, name, self.issued(), self._now())

    def renew(self, which: str, days: float) -> x509.Certificate:
        """
        The last certificate of a name once more, from now on, for the same key: nothing secret has to be moved.

        @param which: a name or a serial number.
        @raise NotFound: there is no certificate that may be used.
        """
        with self._changing():
            found = [each for each in self._found(which) if each.revoked is None]
            if not found:
                raise NotFound(f"every certificate of {which!r} is revoked; issue a new one with a new key")
            last = max(found, key=lambda each: each.began)
            path = os.path.join(self._own, "issued", f"{last.serial}.crt")
            try:
                certificate = certificates_in(read(path), path)[0]
            except FileNotFoundError:
                raise NotFound(f"{path} is missing; issue a new certificate for {last.name}") from None
            public_key = certificate.public_key()
            assert isinstance(public_key, ec.EllipticCurvePublicKey)
            wanted = Wanted(last.name, last.kind, last.role, last.addresses, days)
            return self._sign(wanted, public_key, again=True)

    def revoke(self, which: str) -> list[Issued]:
        """
        Trust the certificates of a name, or one by its serial number, no more.

        @return: those that were good until now.
        @raise NotFound: there was none.
        """
        with self._changing():
            now = self._now()
            found = {each.serial for each in self._found(which)}
            before = self.issued()
            after = [
                evolve(each, revoked=now) if each.serial in found and each.revoked is None else each
                for each in before
            ]
            self._save(after)
            self._write_revocations(after, self._signers())
            return [each for each in before if each.serial in found and each.revoked is None]

    def rotate(self, name: str) -> x509.Certificate:
        """
        Sign with a new key from now on, and trust both authorities until the earlier ones are retired.
        """
        with self._changing():
            old = self._signer()
            earlier = os.path.join(self._own, "earlier")
            directory_made(earlier, shared=False)
            kept = os.path.join(earlier, fingerprint(old.certificate).hex()[:16])
            write(f"{kept}.key", key_pem(old.key), private=True)
            write(f"{kept}.crt", certificate_pem(old.certificate))
            trusted = self.trusted()
            signer = self._new_signer(name)
            write(self._path("ca.crt"), certificate_pem(signer.certificate, *trusted))  # before it signs anything
            self._keep_signer(signer)
            self._write_revocations(self.issued(), self._signers())
            return signer.certificate

    def retire(self) -> list[Issued]:
        """
        Trust only the authority that signs now.

        @return: certificates of earlier ones that were good until now.
        """
        with self._changing():
            signer = self._signer()
            own = fingerprint(signer.certificate).hex()
            write(self._path("ca.crt"), certificate_pem(signer.certificate))
            earlier = os.path.join(self._own, "earlier")
            for each in os.listdir(earlier) if os.path.isdir(earlier) else []:
                os.unlink(os.path.join(earlier, each))
            issued, now = self.issued(), self._now()
            self._write_revocations(issued, [signer])
            return [each for each in issued if each.authority != own and each.good(now)]

    def lapsing(self) -> list[Issued]:
        """Good certificates of authorities that do not sign any more."""
        own, now = fingerprint(self.certificate).hex(), self._now()
        latest = {each.name: each for each in self.issued() if each.good(now)}
        return [each for each in latest.values() if each.authority != own]

    # -- how

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _read(self, name: str) -> bytes:
        self._check()
        try:
            return read(self._path(name))
        except FileNotFoundError:
            raise ConfigurationError(f"{self._path(name)} is missing") from None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._check()
        with locked(self._own):
            yield

    def _check(self) -> None:
        refuse_open_directory(self.directory)
        if not self.exists:
            raise NotFound(
                f"there is no authority in {self.directory}: `dst ca init` makes one, or run this where it was made"
            )
        refuse_open_directory(self._own)

    def _moment(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._now(), datetime.UTC).replace(microsecond=0)

    def _new_signer(self, name: str) -> _Signer:
        key = make_key()
        return _Signer(make_authority(name, key, self._moment()), key)

    def _keep_signer(self, signer: _Signer) -> None:
        write(os.path.join(self._own, "ca.crt"), certificate_pem(signer.certificate))
        write(os.path.join(self._own, "ca.key"), key_pem(signer.key), private=True)

    def _signer(self) -> _Signer:
        self._check()
        return _load_signer(os.path.join(self._own, "ca"))

    def _signers(self) -> list[_Signer]:
        earlier = os.path.join(self._own, "earlier")
        stems = (
            sorted(each[:-4] for each in os.listdir(earlier) if each.endswith(".crt"))
            if os.path.isdir(earlier)
            else []
        )
        return [self._signer(), *(_load_signer(os.path.join(earlier, each)) for each in stems)]

    def _found(self, which: str) -> list[Issued]:
        issued = self.issued()
        found = [each for each in issued if each.name == which]
        if not found:
            serial = which.lower().replace(":", "")
            found = [each for each in issued if each.serial == serial]
        if not found:
            names = sorted({each.name for each in issued})
            raise NotFound(
                f"there is no certificate of {which[:80]!r}; there are some of: {', '.join(names[:12]) or 'nobody'}"
            )
        return found

    def _sign(self, wanted: Wanted, public_key: ec.EllipticCurvePublicKey, again: bool) -> x509.Certificate:
        signer, now = self._signer(), self._now()
        issued = [each for each in self.issued() if each.ends > now - _FORGOTTEN_S]
        _refuse(wanted, issued, now, again)
        if len(issued) >= ISSUED_MAX:
            raise LimitReached(f"this authority has {len(issued)} certificates, the most that it keeps account of")
        certificate = make_certificate(wanted, public_key, signer.certificate, signer.key, self._moment())
        serial = serial_text(certificate)
        issued.append(
            Issued(
                serial,
                wanted.name,
                wanted.kind,
                wanted.role,
                wanted.addresses,
                now,
                certificate.not_valid_after_utc.timestamp(),
                fingerprint(signer.certificate).hex(),
            )
        )
        self._save(issued)
        write(os.path.join(self._own, "issued", f"{serial}.crt"), certificate_pem(certificate))
        return certificate

    def _save(self, issued: list[Issued]) -> None:
        table = {
            "version": 1,
            "issued": [asdict(each, value_serializer=lambda _, __, value: _plain(value)) for each in issued],
        }
        write(os.path.join(self._own, "issued.json"), json.dumps(table, indent=1).encode(), private=True)

    def _write_revocations(self, issued: list[Issued], signers: list[_Signer]) -> None:
        now = self._now()
        lists = b""
        for signer in signers:
            own = fingerprint(signer.certificate).hex()
            revoked = [
                (int(each.serial, 16), datetime.datetime.fromtimestamp(each.revoked, datetime.UTC))
                for each in issued
                if each.authority == own and each.revoked is not None and each.ends > now - _FORGOTTEN_S
            ]
            lists += make_revocations(revoked, signer.certificate, signer.key, self._moment())
        write(self._path("revoked.crl"), lists)


def _refuse(wanted: Wanted, issued: list[Issued], now: float, again: bool) -> None:
    for each in issued:
        if each.name != wanted.name or not each.good(now):
            continue
        if each.kind is not wanted.kind:
            raise AlreadyInUse(
                f"{each.name} is a {each.kind.value} already, and access lists know names only; take another"
            )
        if not again:
            raise AlreadyInUse(
                f"{each.name} has a certificate already, {each.serial}, until "
                f"{day(datetime.datetime.fromtimestamp(each.ends, datetime.UTC))}; renew it, revoke it, or "
                "say --again if there may be two"
            )
    if wanted.kind is Kind.DAEMON and not again:
        for place in (*wanted.addresses, wanted.name):
            other = _other_at(place, wanted.name, issued, now)
            if other is not None:
                raise AlreadyInUse(
                    f"{place} is where {other} is reached, and {wanted.name} could be taken for it; revoke the "
                    f"certificate of {other} if it is there no longer, or say --again if both are"
                )


def _other_at(place: str, name: str, issued: list[Issued], now: float) -> str | None:
    """Who else has a good certificate for a place that other machines can reach."""
    if is_local(place):
        return None
    key = host_key(place)
    for each in issued:
        other = each.name != name and each.kind is Kind.DAEMON and each.good(now)
        if other and key in {host_key(known) for known in (*each.addresses, each.name)}:
            return each.name
    return None


def _load_signer(stem: str) -> _Signer:
    try:
        certificate = certificates_in(read(f"{stem}.crt"), f"{stem}.crt")[0]
        key = load_key(read_private(f"{stem}.key"), f"{stem}.key")
    except FileNotFoundError as error:
        raise ConfigurationError(f"{error.filename} is missing; restore the authority from its copy") from None
    if key.public_key() != certificate.public_key():
        raise ConfigurationError(f"{stem}.key does not belong to {stem}.crt; restore the authority from its copy")
    return _Signer(certificate, key)


def _plain(value: object) -> object:
    return value.value if isinstance(value, Kind | Role) else value


def _issued_from(table: dict[str, object]) -> Issued:
    role = table["role"]
    addresses = table["addresses"]
    if not isinstance(addresses, list):
        raise InvalidRequest("addresses are a list")
    return Issued(
        str(table["serial"]),
        str(table["name"]),
        Kind(table["kind"]),
        None if role is None else Role(role),
        tuple(map(str, addresses)),
        float(str(table["began"])),
        float(str(table["ends"])),
        str(table["authority"]),
        None if table["revoked"] is None else float(str(table["revoked"])),
    )
