"""
Who may ask at all.

On loopback a daemon without tokens asks nobody who they are (L{dst.admin.authentication}).  So a web page that the
operator happens to look at must not be able to use the operator's browser as its hands:

  - B{DNS rebinding}: a page of C{evil.example} makes that name resolve to 127.0.0.1 and then talks to
    us as its own origin.  The browser still sends C{Host: evil.example}; an address written in digits cannot be
    rebound, so the C{Host} has to be one, or C{localhost}, or a name that the configuration allows.
  - B{Cross-site requests}: a page of another origin posts to us.  The browser says so in
    C{Origin} and C{Sec-Fetch-Site}; both have to be our own.  A client that is no browser sends neither.
  - B{Forms} can be posted without asking us first, but not with C{application/json}; so that is demanded.

Values in, a verdict out; nothing here knows a request object.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from attrs import frozen

from dst.errors import Denied, DSTError, InvalidRequest, NotSupported

__all__ = ["METHODS", "Asked", "Refusal", "check", "check_content", "host_is_allowed"]

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
"""Those that mean something somewhere: that an address has not one of them is said by its route."""


@frozen
class Asked:
    """
    What of a request decides whether it is heard.

    @ivar host: the C{Host} header, C{""} when there is none; the others are C{None} then.
    """

    method: bytes
    path: bytes
    host: str
    origin: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None


@frozen
class Refusal:
    """Why a request is not heard, and how it has to be asked."""

    http_status: int
    error: DSTError
    correction: str
    headers: tuple[tuple[str, str], ...] = ()


def check(asked: Asked, hosts: Collection[str] = ()) -> Refusal | None:
    """
    C{None} if the request may go on.

    @param hosts: names, besides addresses and C{localhost}, under which the daemon is reached; in lower case.
    """
    if asked.method.decode("latin-1") not in METHODS:
        return Refusal(
            405,
            NotSupported(f"the method {asked.method[:20].decode('latin-1')!r} means nothing here"),
            "use GET, POST, PUT or DELETE, as the address has it",
            (("Allow", ", ".join(METHODS)),),
        )
    try:
        asked.path.decode("utf-8")
    except UnicodeDecodeError:
        return Refusal(400, InvalidRequest("the path is not UTF-8"), "quote the path's UTF-8 bytes")
    if not host_is_allowed(asked.host, hosts):
        return Refusal(
            403,
            Denied(f"the request is for the host {asked.host[:80]!r}, which is not known to be this daemon"),
            "use the daemon's address in digits, as http://127.0.0.1:7480",
        )
    return _check_site(asked)


def host_is_allowed(host: str, hosts: Collection[str] = ()) -> bool:
    """Whether a C{Host} header names us by an address, as C{localhost}, or by one of C{hosts}."""
    name = _without_port(host.strip().lower())
    if name is None:
        return False
    if name == "localhost" or name in hosts:
        return True
    try:
        if name.startswith("["):
            ipaddress.IPv6Address(name[1:-1])
        else:
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str | None:
    """The name or address in C{host}, brackets kept; C{None} if it is neither."""
    if host.startswith("["):
        address, bracket, rest = host.partition("]")
        if not bracket:
            return None
        name = address + bracket
    else:
        name, colon, port = host.partition(":")
        rest = colon + port
    if rest and not (rest[0] == ":" and rest[1:].isascii() and rest[1:].isdigit()):
        return None
    return name or None


def _check_site(asked: Asked) -> Refusal | None:
    navigation = (
        asked.method in (b"GET", b"HEAD") and asked.fetch_mode == "navigate"
    )  # somebody followed a link to us
    foreign = asked.fetch_site is not None and asked.fetch_site not in ("same-origin", "none") and not navigation
    if asked.origin is not None:
        foreign = foreign or asked.origin.lower().partition("://")[2] != asked.host.strip().lower()
    if not foreign:
        return None
    return Refusal(
        403,
        Denied(f"the request comes from a page of another site ({(asked.origin or 'not named')[:80]})"),
        "use the daemon's own page, or the `dst` command",
    )


def check_content(content_type: str | None) -> Refusal | None:
    """C{None} if that is what a form cannot send; for every request that carries something."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return None
    return Refusal(
        415,
        InvalidRequest(f"the body is {kind[:60] or 'of no type'}, expected application/json"),
        "send the header Content-Type: application/json",
    )
