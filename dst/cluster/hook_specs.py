"""
Who is told of events, as a topology says it::

    [[hooks]]
    on = ["health", "ownership"]
    severity = "warning"
    command = ["/usr/local/bin/page-me", "--team", "storage"]

    [[hooks]]
    url = "https://alerts.example.org/dst"
    header_file = "/etc/dst/alerts.header"      # Authorization: Bearer ...
    timeout_s = 5
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from attrs import fields, frozen

from dst.administration import Event, Severity
from dst.health import code_named

__all__ = ["HOOKS_MAX", "KINDS", "TIMEOUT_S_MAX", "HookSpec", "hook_from_plain"]

HOOKS_MAX: Final = 16
"""Each may run a process at any time."""

TIMEOUT_S_MAX: Final = 300.0
"""Events wait for the one before them; who needs longer puts a queue of their own behind it."""

KINDS: Final = ("health", "state", "operation", "configuration", "ownership", "resync", "session", "daemon")
"""As in L{Event}."""

_ORDER = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
_EXAMPLE = 'expected { on = ["health"], command = ["/usr/local/bin/page-me"] } or { on = [...], url = "https://..." }'


@frozen
class HookSpec:
    """
    One of them.

    @ivar on: kinds of events.
    @ivar command: a program and its arguments, without a shell; or empty.
    @ivar url: where JSON is posted to; or C{""}.
    @ivar severity: nothing is told of what matters less.  What is over is told like its beginning.
    @ivar header_file: a file with headers to send along, one a line: secrets stay out of the topology.
    @ivar timeout_s: how long one delivery may take.
    """

    on: tuple[str, ...] = ("health",)
    command: tuple[str, ...] = ()
    url: str = ""
    severity: Severity = Severity.INFO
    header_file: str = ""
    timeout_s: float = 10.0

    def wants(self, event: Event) -> bool:
        """Whether it is told of C{event}."""
        severity = event.severity
        if event.code is not None:
            severity = code_named(event.code).severity  # that something grave is over is as important
        return event.kind in self.on and _ORDER[severity] >= _ORDER[self.severity]

    @property
    def words(self) -> str:
        """What it is, for logs: no argument and nothing behind the host, which may be secret."""
        if self.command:
            return f"the command {self.command[0]}"
        parts = urlsplit(self.url)
        return f"the URL {parts.scheme}://{parts.hostname or ''}"

    def plain(self) -> dict[str, object]:
        """As it is written in a topology; what is as if nothing were said is left out."""
        said: dict[str, object] = {}
        for each in fields(HookSpec):
            value = getattr(self, each.name)
            if value != each.default:
                plain = list(value) if isinstance(value, tuple) else value
                said[each.name] = plain.value if isinstance(plain, Severity) else plain
        return said


def hook_from_plain(value: object) -> HookSpec:
    """
    A hook as it is written.

    @raise ValueError: it is none; the argument is what was found and expected.
    """
    if isinstance(value, HookSpec):
        return value
    if not isinstance(value, dict):
        raise ValueError(_EXAMPLE)
    known = [each.name for each in fields(HookSpec)]
    for key in value:
        if key not in known:
            raise ValueError(f"a hook has no {key!r:.40}; known are {', '.join(known)}")
    command, url = _texts(value, "command"), _text(value, "url")
    if bool(command) == bool(url):
        raise ValueError(f"a hook has a command or a url, one of them; {_EXAMPLE}")
    if command and not command[0].startswith("/"):
        raise ValueError(f"the command {command[0]!r:.80} is not found by any path; expected an absolute one")
    if url:
        _check_url(url)
    header_file = _text(value, "header_file")
    if header_file and not url:
        raise ValueError("header_file means nothing without a url")
    on = _texts(value, "on") if "on" in value else ("health",)
    for kind in on:
        if kind not in KINDS:
            raise ValueError(f"there are no events of the kind {kind!r:.40}; known are {', '.join(KINDS)}")
    if not on:
        raise ValueError(f"on is empty; expected some of {', '.join(KINDS)}")
    return HookSpec(on, command, url, _severity(value), header_file, _timeout(value))


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{url!r:.80} is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the url is not one of http or https with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the url has a password in it; put an Authorization header into a header_file")


def _text(table: dict[str, object], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{key} is {value!r:.40}; expected a text")
    return value


def _texts(table: dict[str, object], key: str) -> tuple[str, ...]:
    value = table.get(key, ())
    if not isinstance(value, list | tuple) or not all(
        isinstance(each, str) and each and "\0" not in each for each in value
    ):
        raise ValueError(f"{key} is {value!r:.40}; expected a list of texts")
    return tuple(value)


def _severity(table: dict[str, object]) -> Severity:
    value = table.get("severity", Severity.INFO.value)
    try:
        return Severity(value)
    except ValueError:
        names = ", ".join(each.value for each in Severity)
        raise ValueError(f"severity is {value!r:.40}; expected one of {names}") from None


def _timeout(table: dict[str, object]) -> float:
    value = table.get("timeout_s", 10.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= TIMEOUT_S_MAX:
        raise ValueError(f"timeout_s is {value!r:.40}; expected seconds, up to {TIMEOUT_S_MAX:g}")
    return float(value)
