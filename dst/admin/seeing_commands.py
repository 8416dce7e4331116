"""
The commands of C{dst} that show how things are: once, and as they change.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import click
from attrs import define
from twisted.internet.defer import CancelledError

from dst.admin.completing import complete_name
from dst.admin.following import follow
from dst.admin.looking import look
from dst.admin.places import Place
from dst.admin.schema import envelope
from dst.admin.tools import Tools, Work, console, json_option
from dst.errors import DSTError, NotFound, Unavailable
from dst.explaining import Explanation
from dst.status import Health, StatusTree
from dst.words import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["chosen", "status", "watch"]


_Answer: TypeAlias = "tuple[list[StatusTree], dict[str, Explanation]]"


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

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> _Answer:
        trees = chosen(await admin.status(), storage)
        return trees, {} if as_json else await _why(admin, trees)

    def show(answer: _Answer) -> None:
        trees, explained = answer
        if not trees:
            click.echo("the daemon has no storage and no node")
            return
        screen = console(sys.stdout)
        for line in _lines(screen, trees, tools.now(), explained):
            screen.print(line, soft_wrap=True)

    def unhealthy(answer: _Answer) -> bool:
        return exit_code and any(tree.health is not Health.HEALTHY for tree in answer[0])

    look(tools, work, show, lambda answer: envelope(answer[0], tools.now()), as_json, unhealthy=unhealthy)


async def _why(admin: IClusterAdmin, trees: list[StatusTree]) -> dict[str, Explanation]:
    """By the names of C{trees}, if there is anything to explain."""
    if all(tree.health is Health.HEALTHY for tree in trees):
        return {}
    try:
        explained = await admin.explain()
    except DSTError:
        return {}  # how it is matters more than why
    return {each.name: each for each in explained}


def chosen(trees: list[StatusTree], name: str | None) -> list[StatusTree]:
    """
    The tree that was named, or all.

    @raise NotFound: there is none; with what there is.
    """
    if name is None:
        return trees
    found = [tree for tree in trees if tree.name == name]
    if not found:
        from dst.cluster.rules import did_you_mean

        names = [tree.name for tree in trees]
        below = [each for tree in trees for child in tree.children for each in child.walk() if each.name == name]
        if below:
            sentence = f"{name!r} is not at the top of this daemon's tree, but a member of something"
            correction = f"`dst node show {name}`, or `dst status` for everything"
        else:
            sentence = f"there is no storage or node {name!r} at the top of this daemon's tree"
            sentence += did_you_mean(name, names)
            correction = "there is " + (", ".join(sorted(names)) or "none at all")
        error = NotFound(sentence)
        error.correction = correction  # type: ignore[attr-defined]
        raise error
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


@define
class _Shown:
    """
    What is on the screen of one daemon.

    @ivar trees: the last that are known; C{None} before there were any.
    @ivar lost: why they may not be true any more, or C{""}.
    """

    trees: list[StatusTree] | None = None
    lost: str = ""


def _watch_live(tools: Tools, storage: str | None, screen: Console) -> None:
    from rich.console import Group
    from rich.live import Live

    shown = {place: _Shown() for place in tools.places}

    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:

        def draw() -> None:
            live.update(Group(*_screen(shown, storage, screen, tools.now())), refresh=True)

        def told(place: Place, trees: list[StatusTree]) -> None:
            shown[place] = _Shown(trees)
            draw()

        def lost(place: Place, error: DSTError) -> None:
            shown[place].lost = printable(_lost_in_words(error))
            draw()

        _follow(tools, storage, told, lost, draw)  # also for the ages, while nothing else changes


def _screen(shown: Mapping[Place, _Shown], storage: str | None, screen: Console, now: float) -> list[Text]:
    from rich.text import Text

    from dst.admin.looking import heading

    lines: list[Text] = []
    for place, each in shown.items():
        if len(shown) > 1:
            if storage is not None and not each.trees and not each.lost:
                continue  # it has no such storage
            name, where = heading(place)
            lines += [*([Text("")] if lines else []), Text.assemble((name, "bold"), where)]
        if each.lost:
            lines.append(Text(each.lost, "bold red"))
            if each.trees is not None:
                lines.append(Text("the last that is known:"))
        if each.trees is not None:
            lines += _lines(screen, each.trees, now)
    return lines or [Text("" if any(each.trees is None for each in shown.values()) else _nobody_has(storage))]


def _nobody_has(storage: str | None) -> str:
    return printable(f"no daemon here has {storage!r} at the top of its tree")


def _watch_lines(tools: Tools, storage: str | None) -> None:
    from dst.admin.display import changes

    seen: dict[Place, list[StatusTree]] = {place: [] for place in tools.places}

    def say(place: Place, line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(tools.now()))
        click.echo(f"{stamp} {f'{printable(place.name)}: ' if len(seen) > 1 else ''}{line}")
        sys.stdout.flush()

    def told(place: Place, trees: list[StatusTree]) -> None:
        for line in changes(seen[place], trees):
            say(place, line)
        seen[place] = trees

    _follow(tools, storage, told, lambda place, error: say(place, printable(_lost_in_words(error))))


def _lost_in_words(error: DSTError) -> str:
    return f"{'connection lost' if isinstance(error, Unavailable) else 'no status'}, retrying: {error.message}"


def _follow(
    tools: Tools,
    storage: str | None,
    told: Callable[[Place, list[StatusTree]], None],
    lost: Callable[[Place, DSTError], None],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """
    Until it is cancelled; then the error is C{CancelledError}, which is how watching ends.

    @param tick: called once a second.
    """
    several = len(tools.places) > 1

    def work(place: Place) -> Work:
        return lambda admin, clock: follow(
            admin,
            clock,
            storage,
            lambda trees: told(place, trees),
            lambda error: lost(place, error),
            tick if place is tools.places[0] else lambda: None,
            patient=several,
        )

    tools.follow_each(work)
