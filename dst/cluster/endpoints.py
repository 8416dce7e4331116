"""
Where something listens, as a person writes it: Twisted's endpoint strings, C{kind:argument:key=value}.

Colons and equals signs inside an argument are escaped with a backslash.  Two things are done before Twisted gets
one: a path is made absolute, and a listener that does not say its backlog gets one that fits.
"""

from __future__ import annotations

import os
import re
from typing import Final

from twisted.internet.endpoints import serverFromString
from twisted.internet.task import Clock

__all__ = ["BACKLOG", "absolute_endpoint", "endpoint_words", "with_backlog", "wrong_with_endpoint"]

BACKLOG: Final = 512
"""
Clients that the kernel keeps waiting until they are accepted.  Of Twisted's 50, the others of sixty-four that come at
once are refused on a UNIX socket, and answered after a second on TCP.
"""

_EXAMPLE = "expected a Twisted endpoint string, as tcp:7450:interface=127.0.0.1"
_KINDS = ("tcp", "tcp6", "unix", "systemd")
"""
Twisted knows more. C{ssl} and C{tls} read whatever files they are told to as soon as they are looked at, and check
nobody's certificate; C{haproxy} believes what a client says of where it is.
"""

_PORTS = frozenset({"tcp", "tcp6"})
_KEY = re.compile(r"(([A-Za-z]+)=)(.*)", re.DOTALL)

_ARGUMENTS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog"),
}
"""The order of the arguments that are given without a key."""


def absolute_endpoint(description: str, base_dir: str) -> str:
    """C{description} with the path of a UNIX socket absolute."""
    kind, *arguments = _split(description)
    for index, (name, before, value) in enumerate(_named(kind, arguments)):
        if name == "address" and not value.startswith("/"):
            base = re.sub(r"([\\:=])", r"\\\1", os.path.abspath(base_dir))
            arguments[index] = f"{before}{base}/{value}"
    return ":".join([kind, *arguments])


def with_backlog(description: str) -> str:
    """C{description} with a backlog, where it says none and may."""
    kind, *arguments = _split(description)
    if kind not in _ARGUMENTS or "backlog" in [name for name, _, _ in _named(kind, arguments)]:
        return description
    return f"{description}:backlog={BACKLOG}"


def wrong_with_endpoint(description: str) -> str:
    """Why nothing can listen there, or C{""}."""
    kind, _, rest = description.partition(":")
    if kind not in _KINDS:
        return f"{description[:80]!r} is of no kind that is known here: {', '.join(_KINDS)}; {_EXAMPLE}"
    if kind in _PORTS:
        port = rest.partition(":")[0].removeprefix("port=")
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            return (
                f"{description!r} has the port {port!r}; expected one of 0 to 65535, as tcp:7450:interface=127.0.0.1"
            )
    if kind == "unix" and not rest.removeprefix("address=").partition(":")[0]:
        return f"{description!r} names no socket; expected a path, as unix:nbd.sock"
    try:
        serverFromString(Clock(), description)
    except Exception as error:
        return f"{description!r} is no endpoint ({error}); {_EXAMPLE}"
    return ""


def endpoint_words(description: str) -> tuple[str, dict[str, str]]:
    """The kind of an endpoint, and its arguments by their names, as they were written."""
    kind, *arguments = _split(description)
    return kind, {name: value for name, _, value in _named(kind, arguments) if name}


def _named(kind: str, arguments: list[str]) -> list[tuple[str, str, str]]:
    """Each argument as its name, C{""} if it has none; what stands before its value; and its value."""
    without_key = iter(_ARGUMENTS.get(kind, ()))
    named = []
    for argument in arguments:
        keyed = _KEY.fullmatch(argument)
        named.append((keyed[2], keyed[1], keyed[3]) if keyed else (next(without_key, ""), "", argument))
    return named


def _split(description: str) -> list[str]:
    """The parts between colons that are not escaped, as they were written."""
    parts = [""]
    characters = iter(description)
    for character in characters:
        if character == ":":
            parts.append("")
        else:
            parts[-1] += character + (next(characters, "") if character == "\\" else "")
    return parts
