"""
What OpenSSL says, in words: who was refused, why, and what to do.

OpenSSL has numbers for what is wrong with a certificate, alerts for what it tells the other side, and
texts of its own for the rest.  A person gets one sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from OpenSSL import SSL

from dst.security.certificates import BadCertificate, addresses_of, day, holder_of, serial_text

if TYPE_CHECKING:
    from twisted.internet.interfaces import ITransport
    from twisted.python.failure import Failure

__all__ = ["HARMLESS", "described", "is_handshaking", "library_words", "why_lost", "why_not_trusted"]

_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_REVOKED: Final = 23
_PURPOSE: Final = 26
_STRANGERS: Final = frozenset({2, 18, 19, 20, 21})

HARMLESS: Final = frozenset({3, 11, 12})
"""
There is no list of revoked certificates, or it is of another time.  A list that nobody has renewed is still right
about whom it names, and must not stop a storage.
"""


def described(certificate: x509.Certificate) -> str:
    """A certificate in a few words."""
    try:
        holder = holder_of(certificate)
    except BadCertificate:
        return f"{certificate.subject.rfc4514_string()[:80]!r}, serial {serial_text(certificate)[:40]}"
    return f"{holder.name}, serial {holder.serial[:40]}"


def why_not_trusted(error: int, certificate: x509.Certificate, depth: int) -> str:
    """
    @param error: the number of OpenSSL's verification.
    @param depth: 0 for the other side's own certificate; above, the authority's.
    """
    if depth:
        who, remedy = "the authority of its certificate", "`dst ca rotate` makes the next authority"
    else:
        who = f"its certificate ({described(certificate)})"
        remedy = "renew it with `dst ca renew` where the authority is"
    if error == _EXPIRED:
        return f"{who} has ended on {day(certificate.not_valid_after_utc)}; {remedy}"
    if error == _NOT_YET_VALID:
        return f"{who} is good from {day(certificate.not_valid_before_utc)} on only; compare the two machines' clocks"
    if error == _REVOKED:
        return f"{who} is revoked"
    if error in _STRANGERS and depth:
        name = certificate.subject.rfc4514_string()[:80]  # a stranger has chosen it
        return f"its certificate is of an authority that is not trusted here: {name!r}"
    if error in _STRANGERS:
        return f"its certificate ({described(certificate)}) is of an authority that is not trusted here"
    if error == _PURPOSE:
        return f"{who} is not for this end of a connection: it is a person's, who may connect and not serve"
    text = x509_error_text(error)
    return f"{who} is not accepted: {text}"


def wrong_host(certificate: x509.Certificate, host: str) -> str:
    """The other side is not where its certificate says."""
    places = ", ".join(addresses_of(certificate)) or "no address"
    return (
        f"its certificate ({described(certificate)}) is not for {host} but for {places}; issue it with "
        "--address, or say in the node's URI whom to expect there, as ?peer=NAME"
    )


def wrong_peer(certificate: x509.Certificate, peer: str) -> str:
    """The other side is somebody else."""
    return f"its certificate ({described(certificate)}) is not the one of {peer}, who was expected there"


def x509_error_text(error: int) -> str:
    """OpenSSL's own words."""
    from OpenSSL._util import ffi, lib

    return str(ffi.string(lib.X509_verify_cert_error_string(error)).decode("ascii", "replace"))


_ALERTS: Final = {
    "certificate expired": "the other side refuses this side's certificate: it has ended; renew it with "
    "`dst ca renew`, or compare the two machines' clocks",
    "certificate revoked": "the other side refuses this side's certificate: it is revoked",
    "unknown ca": "the other side refuses this side's certificate: its authority is not trusted there",
    "certificate required": "the other side demands a certificate, and this side has shown none",
    "bad certificate": "the other side refuses this side's certificate; its log says why",
    "unsupported certificate": "the other side refuses this side's certificate: it is not for this end",
    "certificate unknown": "the other side refuses this side's certificate; its log says why",
    "access denied": "the other side refuses this side; its log says why",
    "alert protocol version": "the other side wants another version of TLS",
    "alert handshake failure": "the other side found no way of encryption that both know",
    # What OpenSSL tells when a check of ours, and none of its own, has refused a certificate.
    "alert internal error": "the other side refuses this side's certificate; its log says why",
    "alert decode error": "the other side did not understand this side's TLS",
    "peer did not return a certificate": "it showed no certificate, which is demanded here",
    "wrong version number": "the other side does not speak TLS",
    "http request": "it speaks HTTP without TLS; expected https",
    "https proxy request": "it speaks HTTP without TLS; expected https",
    "packet length too long": "what it sent is not TLS",
    "record layer failure": "what it sent is not TLS",
    "bad record type": "what it sent is not TLS",
    "unexpected message": "what it sent is not TLS as it should be",
    "unknown protocol": "what it sent is not TLS",
    "unsupported protocol": "it knows only versions of TLS that are too old",
    "no shared cipher": "it knows no way of encryption that is used here",
    "certificate verify failed": "its certificate is not accepted",
    "no suitable signature algorithm": "its certificate has a kind of key that is not used here",
    "no suitable key share": "it knows no way of encryption that is used here",
}


def library_words(error: SSL.Error) -> str:
    """What OpenSSL says happened to a connection, for people."""
    if isinstance(error, SSL.SysCallError):
        return "the connection was lost while TLS began"
    said = error.args[0] if error.args else []
    texts = [str(each[-1]) for each in said] if isinstance(said, list) else [str(said)]
    for text in texts:
        for part, words in _ALERTS.items():
            if part in text:
                return words
    return f"TLS failed: {'; '.join(filter(None, texts)) or type(error).__name__}"


def is_handshaking(transport: ITransport | None) -> bool:
    """Whether nothing can be sent over C{transport} yet, because TLS has not agreed on anything."""
    return not getattr(_handle(transport), "established", True)


def why_lost(transport: ITransport | None, reason: Failure) -> str | None:
    """
    Why a connection over TLS has ended, for people.

    @param transport: the protocol's, in C{connectionLost}.
    @param reason: what C{connectionLost} was given.
    @return: C{None} where TLS has nothing to do with it.
    """
    refusal = getattr(_handle(transport), "refusal", "")
    if isinstance(refusal, str) and refusal:
        return refusal
    return library_words(reason.value) if isinstance(reason.value, SSL.Error) else None


def _handle(transport: ITransport | None) -> object | None:
    """The TLS connection; without TLS there is none."""
    if not callable(getattr(transport, "getPeerCertificate", None)):
        return None
    handle: object = transport.getHandle()  # type: ignore[union-attr]
    return handle
