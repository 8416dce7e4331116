"""
Where daemons are on this machine, and which of them a command asks.

The daemon of C{dst.service} listens at C{/run/dst/admin.sock}, that of C{dst@NAME.service} at
C{/run/dst/NAME/admin.sock}.  Whoever gives a busy storage a daemon of its own, and so a processor, has several.

Only the standard library is needed here: a shell that completes a name has no time for more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

from attrs import frozen

from dst.errors import InvalidRequest

__all__ = [
    "DEFAULT_URL",
    "MAIN",
    "RUN_DIRECTORY",
    "SYSTEM_SOCKET",
    "Place",
    "chosen_places",
    "default_places",
    "named",
    "urls_in",
]

DEFAULT_URL: Final = "http://127.0.0.1:7480"

RUN_DIRECTORY: Final = "/run/dst"

_SOCKET: Final = "admin.sock"

SYSTEM_SOCKET: Final = f"{RUN_DIRECTORY}/{_SOCKET}"
"""Where the daemon of a machine is, as it is installed: its directory belongs to the daemon's user alone."""

MAIN: Final = "dst"
"""What the daemon of C{dst.service} is called among several."""

_NAME: Final = re.compile(r"[A-Za-z0-9:_.\\-]+")
"""What systemd takes as the name of an instance."""


@frozen
class Place:
    """
    Where a daemon is asked.

    @ivar name: what people call it: that of its unit, or C{url}.
    """

    name: str
    url: str


def default_places(directory: str = RUN_DIRECTORY) -> tuple[Place, ...]:
    """
    Where daemons are looked for when nobody says where they are: every socket of an installed one, sorted by name,
    the machine's own first; where there is none, L{DEFAULT_URL}.
    """
    names = ["", *_directories(directory)]
    found = [(name, os.path.join(directory, name, _SOCKET)) for name in names]
    there = tuple(Place(name or MAIN, f"unix:{socket}") for name, socket in found if os.path.exists(socket))
    return there or (Place(DEFAULT_URL, DEFAULT_URL),)


def _directories(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(each.name for each in entries if _NAME.fullmatch(each.name) and each.is_dir())
    except OSError:
        return []


def named(name: str, directory: str = RUN_DIRECTORY) -> Place:
    """
    The daemon of the unit C{dst@NAME}, or of C{dst}, whether it runs or not.

    @raise InvalidRequest: no unit can be called so.
    """
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InvalidRequest(f"{name!r} cannot be the name of a daemon; expected that of its unit, NAME of dst@NAME")
    return Place(name, f"unix:{os.path.join(directory, '' if name == MAIN else name, _SOCKET)}")


def urls_in(value: str) -> list[str]:
    """The URLs in a variable of the environment: white space is between them, and may be in a path."""
    return [each for each in re.split(r"\s+(?=unix:|https?://)", value.strip()) if each]


def chosen_places(urls: Iterable[str], daemons: Iterable[str], directory: str = RUN_DIRECTORY) -> tuple[Place, ...]:
    """
    Those that a person has said, each once; where nobody has said any, L{default_places}.

    @raise InvalidRequest: see L{named}.
    """
    said = [*(named(name, directory) for name in daemons), *(Place(url, url) for url in urls)]
    return tuple({place.url: place for place in reversed(said)}.values())[::-1] or default_places(directory)
