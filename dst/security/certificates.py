"""
What a certificate says of its holder, and to whom it belongs.

The name stands twice: as the common name, which is what other programs show, and as a URI among the alternative
names, which is what is believed: C{dst:daemon:NAME} or C{dst:person:NAME}.  C{dst:role:ROLE} is what the holder may
do with the daemons it asks.  A certificate without such URIs, made by another tool with an authority that is
trusted here, has its common name and no role.
"""

from __future__ import annotations

import datetime
import enum
import ipaddress
import re
from typing import TYPE_CHECKING, Final, Protocol, cast

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from dst.errors import InvalidRequest
from dst.identity import Role

if TYPE_CHECKING:
    from OpenSSL.crypto import X509
    from twisted.internet.interfaces import ITransport

__all__ = [
    "BadCertificate",
    "Holder",
    "Kind",
    "NAME",
    "addresses_of",
    "check_name",
    "day",
    "fits_host",
    "holder_at",
    "holder_of",
    "identity_of",
    "is_signed_by",
    "serial_text",
]

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
"""As other names of DST: they go into tables on a screen, files, and access lists."""


class Kind(enum.Enum):
    """
    What has a certificate.

    A C{DAEMON} serves and connects; a C{PERSON}, or a program of one, only connects.
    """

    DAEMON = "daemon"
    PERSON = "person"


class BadCertificate(InvalidRequest):
    """A certificate does not say whose it is, or contradicts itself."""


@frozen
class Holder:
    """
    Who a certificate is about.

    @ivar kind: C{None} if it was made by another tool.
    @ivar serial: as L{serial_text} has it.
    @ivar ends: seconds of the epoch.
    """

    name: str
    kind: Kind | None
    role: Role | None
    serial: str
    ends: float


class _HasCertificate(Protocol):
    def getPeerCertificate(self) -> X509 | None:
        """As in Twisted."""


def check_name(name: str) -> str:
    """
    C{name}, if it is one.

    @raise InvalidRequest: it is none.
    """
    if not NAME.fullmatch(name) or name in (".", ".."):
        raise InvalidRequest(
            f"{name[:80]!r} is no name; expected up to 64 letters, digits, dots, hyphens and underscores"
        )
    return name


def serial_text(certificate: x509.Certificate | int) -> str:
    """A serial number as people read and write it: hexadecimal, lower case."""
    return f"{certificate if isinstance(certificate, int) else certificate.serial_number:016x}"


def day(moment: datetime.datetime) -> str:
    """A moment as people want to read it in a sentence."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def identity_of(certificate: x509.Certificate) -> tuple[str, Role | None, Kind | None]:
    """
    The name, role and kind of who a certificate is about.

    @raise BadCertificate: it does not say, or says two things.
    """
    try:
        uris = _alternatives(certificate, x509.UniformResourceIdentifier)
        common = [
            str(each.value)
            for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            if isinstance(each.value, str)
        ]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"the certificate cannot be read: {error}") from None
    names: set[tuple[Kind, str]] = set()
    roles: set[str] = set()
    for uri in uris:
        scheme, _, rest = uri.partition(":")
        what, _, value = rest.partition(":")
        if scheme != "dst":
            continue
        if what == "role":
            roles.add(value)
        elif what in (Kind.DAEMON.value, Kind.PERSON.value):
            names.add((Kind(what), value))
    if len(names) > 1 or len(roles) > 1:
        raise BadCertificate("the certificate has two names or two roles; make a new one")
    kind, name = names.pop() if names else (None, common[0] if len(common) == 1 else "")
    if not NAME.fullmatch(name):
        raise BadCertificate(f"the certificate has the name {name[:80]!r}, which is none that DST knows")
    if not roles or kind is None:
        return name, None, kind
    role = roles.pop()
    try:
        return name, Role(role), kind
    except ValueError:
        raise BadCertificate(f"the certificate of {name} has the role {role[:40]!r}, which there is not") from None


def holder_of(certificate: x509.Certificate) -> Holder:
    """
    Who a certificate is about.

    @raise BadCertificate: it does not say.
    """
    name, role, kind = identity_of(certificate)
    return Holder(name, kind, role, serial_text(certificate), certificate.not_valid_after_utc.timestamp())


def holder_at(transport: ITransport | None) -> Holder | None:
    """
    Who is at the other end of a connection, by the certificate that TLS has checked.

    @param transport: any; may be one of which the handshake is not over yet.
    @return: C{None} without TLS, without a certificate, or while nothing is known.
    """
    if not callable(getattr(transport, "getPeerCertificate", None)):
        return None
    found = cast(_HasCertificate, transport).getPeerCertificate()
    return None if found is None else holder_of(found.to_cryptography())


def fits_host(certificate: x509.Certificate, host: str) -> bool:
    """
    Whether a certificate is for a host.

    @param host: a name or an address. Names are compared as a whole: there are no wildcards in a cluster of machines
        that have names.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        wanted = host.rstrip(".").lower()
        return any(each.rstrip(".").lower() == wanted for each in _alternatives(certificate, x509.DNSName))
    return address in _addresses(certificate)


def addresses_of(certificate: x509.Certificate) -> list[str]:
    """The addresses and host names that it is for."""
    return [str(each) for each in _addresses(certificate)] + list(_alternatives(certificate, x509.DNSName))


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether C{authority} has made C{certificate}."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _alternatives(
    certificate: x509.Certificate, kind: type[x509.UniformResourceIdentifier] | type[x509.DNSName]
) -> list[str]:
    names = _alternative_names(certificate)
    return [] if names is None else [str(each) for each in names.get_values_for_type(kind)]


def _addresses(certificate: x509.Certificate) -> list[object]:
    names = _alternative_names(certificate)
    return [] if names is None else list(names.get_values_for_type(x509.IPAddress))
