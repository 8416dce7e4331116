"""
The commands of C{dst} that show how things are: once, and as they change.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click
from twisted.internet.defer import CancelledError

from dst.admin.completing import complete_name
from dst.admin.following import follow
from dst.admin.schema import envelope
from dst.admin.tools import EXIT_NOT_HEALTHY, Tools, console, fail, fail_with, json_option, show_json
from dst.errors import DSTError, Unavailable
from dst.explaining import Explanation
from dst.status import Health, StatusTree
from dst.words import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["chosen", "status", "watch"]


@click.command(short_help="Everything, as a tree.")
@click.argument("storage", required=False, shell_complete=complete_name)
@json_option("the answer of GET /v1/status")
@click.option("--exit-code", is_flag=True, help="Exit with 3 unless everything that is shown is healthy.")
@click.pass_obj
def status(tools: Tools, storage: str | None, as_json: bool, exit_code: bool) -> None:
    """
    Show the tree of every storage, or of STORAGE.

    Below whatever is not healthy stands why, what happens next by itself, and what you can do.

    \b
    Examples:
      dst status
      dst status vol --exit-code > /dev/null || echo "vol is not healthy"
      dst status --json | jq -r '.storages[] | select(.health != "healthy") | .name + ": " + .reason'
    """
    trees, explained = tools.ask(_trees if as_json else _trees_and_why)
    trees = chosen(trees, storage)
    if as_json:
        show_json(envelope(trees, tools.now()))
    elif trees:
        screen = console(sys.stdout)
        for line in _lines(screen, trees, tools.now(), explained):
            screen.print(line, soft_wrap=True)
    else:
        click.echo("the daemon has no storage and no node")
    if exit_code and any(tree.health is not Health.HEALTHY for tree in trees):
        sys.exit(EXIT_NOT_HEALTHY)


async def _trees(admin: IClusterAdmin, clock: IReactorTime) -> tuple[list[StatusTree], dict[str, Explanation]]:
    return await admin.status(), {}


async def _trees_and_why(
    admin: IClusterAdmin, clock: IReactorTime
) -> tuple[list[StatusTree], dict[str, Explanation]]:
    trees = await admin.status()
    if all(tree.health is Health.HEALTHY for tree in trees):
        return trees, {}
    try:
        explained = await admin.explain()
    except DSTError:
        return trees, {}  # how it is matters more than why
    return trees, {each.name: each for each in explained}


def chosen(trees: list[StatusTree], name: str | None) -> list[StatusTree]:
    """The tree that was named, or all; an unknown name ends the command."""
    if name is None:
        return trees
    found = [tree for tree in trees if tree.name == name]
    if not found:
        from dst.cluster.rules import did_you_mean

        names = [tree.name for tree in trees]
        below = [each for tree in trees for child in tree.children for each in child.walk() if each.name == name]
        if below:
            fail(
                f"{name!r} is not at the top of this daemon's tree, but a member of something",
                f"`dst node show {name}`, or `dst status` for everything",
                code="not-found",
            )
        fail(
            f"there is no storage or node {name!r} at the top of this daemon's tree{did_you_mean(name, names)}",
            "there is " + (", ".join(sorted(names)) or "none at all"),
            code="not-found",
        )
    return found


def _lines(
    screen: Console, trees: list[StatusTree], now: float, explained: Mapping[str, Explanation] | None = None
) -> list[Text]:
    from dst.admin.display import status_lines

    return status_lines(
        trees,
        now=now,
        width=screen.width if screen.is_terminal else None,
        ascii_only=not screen.encoding.lower().startswith("utf"),
        explained=explained,
    )


@click.command(short_help="The same, live.")
@click.argument("storage", required=False, shell_complete=complete_name)
@click.pass_obj
def watch(tools: Tools, storage: str | None) -> None:
    """
    Show the tree of every storage, or of STORAGE, as it changes, until Ctrl-C.

    Where the output is no terminal, every change of a state is one line.

    \b
    Examples:
      dst watch
      dst watch vol | tee -a vol.log
    """
    screen = console(sys.stdout)
    try:
        if screen.is_terminal:
            _watch_live(tools, storage, screen)
        else:
            _watch_lines(tools, storage)
    except CancelledError:
        pass  # Ctrl-C is how it ends


def _watch_live(tools: Tools, storage: str | None, screen: Console) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    latest: list[StatusTree] = []
    known = False

    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:

        def draw(trees: list[StatusTree]) -> None:
            nonlocal known
            known = True
            latest[:] = trees
            live.update(Group(*_lines(screen, trees, tools.now())), refresh=True)

        def lost(error: DSTError) -> None:
            nonlocal known
            known = False
            notice = Text(printable(_lost_in_words(error)), "bold red")
            live.update(
                Group(notice, Text("the last that is known:"), *_lines(screen, latest, tools.now())), refresh=True
            )

        def tick() -> None:
            if known:
                draw(latest)  # for the ages, while nothing else changes

        _follow(tools, storage, draw, lost, tick)


def _watch_lines(tools: Tools, storage: str | None) -> None:
    from dst.admin.display import changes

    seen: list[StatusTree] = []

    def say(line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(tools.now()))
        click.echo(f"{stamp} {line}")
        sys.stdout.flush()

    def told(trees: list[StatusTree]) -> None:
        for line in changes(seen, trees):
            say(line)
        seen[:] = trees

    _follow(tools, storage, told, lambda error: say(printable(_lost_in_words(error))))


def _lost_in_words(error: DSTError) -> str:
    return f"{'connection lost' if isinstance(error, Unavailable) else 'no status'}, retrying: {error.message}"


def _follow(
    tools: Tools,
    storage: str | None,
    told: Callable[[list[StatusTree]], None],
    lost: Callable[[DSTError], None],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Until it is cancelled; then the error is C{CancelledError}, which is how watching ends."""
    try:
        tools.run(tools.url, lambda admin, clock: follow(admin, clock, storage, told, lost, tick))
    except DSTError as error:
        fail_with(error)
