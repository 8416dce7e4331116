"""
What a shell completes: the names that the daemon has, asked for with little patience.

A person waits for the Tab key, so a daemon that does not answer at once completes nothing, and whatever goes
wrong stays silent: the shell has no place to say it.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from dst.admin.in_the_clear import goes_in_the_clear
from dst.admin.places import Place, chosen_places, default_places
from dst.errors import InvalidRequest

__all__ = [
    "complete_daemon",
    "complete_device",
    "complete_export",
    "complete_member",
    "complete_name",
    "complete_node",
    "complete_operation",
    "complete_session",
    "complete_storage",
    "completion",
    "places_of",
]

ANSWER_S_MAX = 0.7
"""After that a person wonders whether the key was pressed."""

ANSWERS_S_MAX = 2.0
"""Of several daemons; those that would come later are not asked."""

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""A list of names that is longer is not read to its end by anybody."""

TOKEN_CHARACTERS_MAX = 4096
"""A file with more is none with a token."""

_UNIX = "unix:"

SHELLS = ("bash", "zsh", "fish")

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token is for who was asked."""

    def redirect_request(self, *_: Any) -> None:
        """There is no other request."""


class _AtSocket(http.client.HTTPConnection):
    """A daemon at a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S_MAX)
        self.sock.connect(self._path)


def places_of(context: click.Context) -> tuple[Place, ...]:
    """
    The daemons that a command line is about.  What it says goes before what the environment says.

    @raise click.UsageError: no daemon can be called so.
    """
    root = context.find_root()
    said: dict[str, list[str]] = {}
    for key in ("urls", "daemons"):
        source = root.get_parameter_source(key)
        said[key] = list(root.params.get(key) or ()) if source is ParameterSource.COMMANDLINE else []
    if not any(said.values()):
        said = {key: list(root.params.get(key) or ()) for key in said}
    try:
        return chosen_places(said["urls"], said["daemons"])
    except InvalidRequest as error:
        raise click.UsageError(error.message, root) from None


def _answers(context: click.Context, path: str) -> Iterator[dict[str, Any]]:
    """
    What each daemon says; nothing of one that does not.

    They are asked with the standard library: this has to be quick, and a reactor takes longer to load than the answer
    takes to come.
    """
    try:
        places = places_of(context)
    except click.UsageError:
        return
    until = time.monotonic() + ANSWERS_S_MAX
    for place in places:
        if time.monotonic() < until:
            yield _answer(context, place.url, path)


def _answer(context: click.Context, url: str, path: str) -> dict[str, Any]:
    headers = {"Accept": "application/json"}
    token = _token(context)
    if token and not goes_in_the_clear(url):
        headers["Authorization"] = f"Bearer {token}"
    try:
        if url.startswith(_UNIX):
            with closing(_AtSocket(url.removeprefix(_UNIX))) as asking:
                asking.request("GET", path, headers=headers)
                return _table(asking.getresponse().read(ANSWER_BYTES_MAX))
        request = urllib.request.Request(url.rstrip("/") + path, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
        with opener.open(request, timeout=ANSWER_S_MAX) as answer:
            return _table(answer.read(ANSWER_BYTES_MAX))
    except Exception:  # whatever it is: nothing is completed
        return {}


def _table(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    return value if isinstance(value, dict) else {}


def _token(context: click.Context) -> str:
    file = context.find_root().params.get("token_file") or os.environ.get("DST_TOKEN_FILE")
    if not file:
        return os.environ.get("DST_TOKEN", "")
    try:
        with open(file) as opened:
            return opened.read(TOKEN_CHARACTERS_MAX).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _trees(context: click.Context) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every entry of the status at the top, and whether it is a storage."""
    for status in _answers(context, "/v1/status"):
        for kind in ("storages", "nodes"):
            for entry in status.get(kind, ()):
                if isinstance(entry, dict):
                    yield entry, kind == "storages"


def _walk(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield entry
    for member in entry.get("members", ()):
        if isinstance(member, dict):
            yield from _walk(member)


def _items(names: dict[str, str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=said) for name, said in sorted(names.items()) if name.startswith(incomplete)]


def _said(entry: dict[str, Any]) -> str:
    return f"{entry.get('kind', '')}, {entry.get('health', '')}"


def complete_storage(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of storages."""
    return _items({str(entry["name"]): _said(entry) for entry, storage in _trees(context) if storage}, incomplete)


def complete_node(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of nodes, in storages and in none."""
    names = {}
    for top, storage in _trees(context):
        for entry in _walk(top):
            if not (storage and entry is top):
                names[str(entry["name"])] = f"{entry.get('kind', '')}, {entry.get('state', '')}"
    return _items(names, incomplete)


def complete_device(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of everything that can be exported."""
    return _items({str(each["name"]): _said(each) for top, _ in _trees(context) for each in _walk(top)}, incomplete)


complete_name = complete_device


def complete_member(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the members of the storage that was named before."""
    chosen = context.params.get("storage") or context.params.get("name")
    names = {}
    for top, _ in _trees(context):
        if chosen is None or top.get("name") == chosen:
            for entry in top.get("members", ()):
                names[str(entry["name"])] = f"{entry.get('kind', '')}, {entry.get('state', '')}"
    return _items(names, incomplete)


def _listed(path: str, kind: str, key: str, said: str) -> Completer:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        entries = (entry for answer in _answers(context, path) for entry in answer.get(kind, ()))
        names = {str(entry[key]): str(entry.get(said, "")) for entry in entries if isinstance(entry, dict)}
        return _items(names, incomplete)

    return complete


def complete_daemon(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the daemons of this machine."""
    return _items({place.name: place.url for place in default_places() if place.name != place.url}, incomplete)


complete_export = _listed("/v1/exports", "exports", "name", "device")
complete_session = _listed("/v1/sessions", "sessions", "id", "peer")
complete_operation = _listed("/v1/operations", "operations", "id", "kind")


# -- the command that gives a shell its script -----------------------------------------


@click.command(short_help="The script that makes a shell complete this command.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """
    Print the script that makes SHELL complete commands, options, and the names that the daemon has.

    Nothing is changed: put the script where your shell looks for it.

    \b
    Examples:
      dst completion bash > ~/.local/share/bash-completion/completions/dst
      eval "$(dst completion bash)"                    for this shell only
      dst completion zsh > ~/.zfunc/_dst
      dst completion fish > ~/.config/fish/completions/dst.fish
    """
    from click.shell_completion import get_completion_class

    root = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None, shell
    source = kind(root.command, {}, "dst", "_DST_COMPLETE")
    click.echo(_script(shell, source))


def _script(shell: str, source: Any) -> str:
    """
    As click writes it; its own way for bash runs a bash to ask for its version, and refuses where there is none.
    """
    return str(source.source_template % source.source_vars()).replace("\r", "")
