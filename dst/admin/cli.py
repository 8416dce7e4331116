"""
The C{dst} command.

It asks one daemon through REST.  What it prints for people is drawn in
L{dst.admin.display}; for scripts there are C{--json} and the exit codes:

  - 0: done; with C{status --exit-code}: and everything is healthy
  - 1: an error, which is on standard error with what to do about it
  - 2: the command line is wrong
  - 3: C{status --exit-code}: something is not healthy
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.defer import CancelledError, Deferred

from dst import __version__
from dst.admin.following import follow
from dst.admin.rehearse import rehearse
from dst.admin.schema import correction_for, envelope
from dst.admin.storage_commands import explain, storage
from dst.admin.tools import Tools, Work, console, fail, operate, sure
from dst.errors import DSTError, InvalidRequest, NotFound, Unavailable
from dst.status import Health, StatusTree
from dst.words import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["cli", "main"]

EXIT_NOT_HEALTHY = 3


def _run_in_reactor(url: str, work: Work) -> Any:
    """The one place here with the global reactor: a command is a process."""
    from twisted.internet import reactor
    from twisted.internet.task import react

    from dst.admin.client import HTTPAdmin

    outcome: list[Any] = []
    errors: list[Exception] = []

    async def run() -> None:
        try:
            outcome.append(await work(HTTPAdmin.connect(reactor, url), reactor))
        except Exception as error:
            errors.append(error)

    try:
        react(lambda _: Deferred.fromCoroutine(run()))
    except SystemExit:
        pass  # how react() ends; the command ends in its own way
    if errors:
        raise errors[0]
    if not outcome:
        raise CancelledError
    return outcome[0]


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_SETTINGS)
@click.option(
    "--url",
    envvar="DST_URL",
    default="http://127.0.0.1:7480",
    show_default=True,
    show_envvar=True,
    help="Where the daemon's admin interface is.",
)
@click.version_option(__version__, prog_name="dst")
@click.pass_context
def cli(context: click.Context, url: str) -> None:
    """
    See and operate a DST daemon.

    \b
    Examples:
      dst status                     everything, as a tree
      dst status vol --json          one storage, for scripts
      dst explain vol                why it is so, what comes next, what you can do
      dst watch                      the same, live
      dst init vol --keep a          first start: keep what node a holds
      dst suspend vol b              stop using a member, for maintenance
      dst resume vol b               use it again; what it missed is copied
      dst storage take-over vol      own it here, not where it is owned now
      dst check topology.toml        look for mistakes before starting

    \b
    Exit codes: 0 done, 1 error, 2 wrong usage, 3 not healthy (status --exit-code).
    """
    tools = context.obj or Tools(_run_in_reactor)
    tools.url = url
    context.obj = tools


# -- seeing --------------------------------------------------------------------


@cli.command()
@click.argument("storage", required=False)
@click.option("--json", "as_json", is_flag=True, help="The answer of GET /v1/status, for scripts.")
@click.option("--exit-code", is_flag=True, help="Exit with 3 unless everything that is shown is healthy.")
@click.pass_obj
def status(tools: Tools, storage: str | None, as_json: bool, exit_code: bool) -> None:
    """
    Show the tree of every storage, or of STORAGE.

    \b
    Examples:
      dst status
      dst status vol --exit-code > /dev/null || echo "vol is not healthy"
      dst status --json | jq -r '.storages[] | select(.health != "healthy") | .name + ": " + .reason'
    """
    trees = _chosen(tools.ask(_status), storage)
    if as_json:
        click.echo(json.dumps(envelope(trees, tools.now()), indent=2))
    elif trees:
        screen = console(sys.stdout)
        for line in _lines(screen, trees, tools.now()):
            screen.print(line, soft_wrap=True)
    else:
        click.echo("the daemon has no storage and no node")
    if exit_code and any(tree.health is not Health.HEALTHY for tree in trees):
        sys.exit(EXIT_NOT_HEALTHY)


async def _status(admin: IClusterAdmin, clock: IReactorTime) -> list[StatusTree]:
    return await admin.status()


def _chosen(trees: list[StatusTree], name: str | None) -> list[StatusTree]:
    if name is None:
        return trees
    chosen = [tree for tree in trees if tree.name == name]
    if not chosen:
        error = NotFound(f"there is no storage or node {name!r} at the top of this daemon's tree")
        fail(error.message, "there is " + (", ".join(tree.name for tree in trees) or "none at all"))
    return chosen


def _lines(screen: Console, trees: list[StatusTree], now: float) -> list[Text]:
    from dst.admin.display import status_lines

    return status_lines(
        trees,
        now=now,
        width=screen.width if screen.is_terminal else None,
        ascii_only=not screen.encoding.lower().startswith("utf"),
    )


@cli.command()
@click.argument("storage", required=False)
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
        fail(error.message, correction_for(error))


# -- doing ---------------------------------------------------------------------

_YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@cli.command()
@click.argument("storage")
@click.option("--keep", metavar="NODE", help="Adopt the data of this node and copy it to the others.")
@click.option("--discard", is_flag=True, help="What the nodes hold may be lost.")
@_YES
@click.pass_obj
def init(tools: Tools, storage: str, keep: str | None, discard: bool, yes: bool) -> None:
    """
    Make STORAGE of nodes that hold something already.

    A storage whose nodes are all empty needs no command.  Where one holds data, say which
    node's data is the storage's (--keep), or that none is wanted (--discard).

    \b
    Examples:
      dst init vol --keep a
      dst init scratch --discard --yes
    """
    if (keep is not None) == discard:
        raise click.UsageError("say either --keep NODE or --discard")
    if keep is not None:
        sure(yes, f"The data of node {keep!r} becomes that of {storage!r}; what its other nodes hold is overwritten.")
    else:
        sure(yes, f"What the nodes of {storage!r} hold is lost.")
    operate(
        tools,
        lambda admin: admin.initialise(storage, keep=keep, discard=discard),
        f"{storage} is initialised" + (f" with the data of {keep}" if keep is not None else ""),
    )


@cli.command()
@click.argument("storage")
@click.argument("node")
@click.pass_obj
def suspend(tools: Tools, storage: str, node: str) -> None:
    """
    Stop using NODE in STORAGE, until it is resumed; kept over a restart.

    \b
    Example:
      dst suspend vol b
    """
    operate(
        tools,
        lambda admin: admin.suspend(storage, node),
        f"{node} of {storage} is suspended; `dst resume {storage} {node}` uses it again",
    )


@cli.command()
@click.argument("storage")
@click.argument("node")
@click.pass_obj
def resume(tools: Tools, storage: str, node: str) -> None:
    """
    Use NODE in STORAGE again; what it missed is copied to it.

    \b
    Example:
      dst resume vol b
    """
    operate(tools, lambda admin: admin.resume(storage, node), f"{node} of {storage} is resumed")


@cli.command()
@click.argument("storage")
@click.argument("node")
@click.argument("uri")
@_YES
@click.pass_obj
def replace(tools: Tools, storage: str, node: str, uri: str, yes: bool) -> None:
    """
    Put what URI names at the place of NODE in STORAGE, and copy everything to it.

    \b
    Example:
      dst replace vol b 'file:/srv/new.img?size=64G'
    """
    sure(yes, f"What {uri} holds is overwritten, and node {node!r} is no longer part of {storage!r}.")
    operate(
        tools,
        lambda admin: admin.replace(storage, node, uri),
        f"{node} of {storage} is replaced; `dst watch {storage}` shows the resync",
    )


@cli.command("mark-clean")
@click.argument("storage")
@click.argument("node")
@_YES
@click.pass_obj
def mark_clean(tools: Tools, storage: str, node: str, yes: bool) -> None:
    """
    Take NODE as in sync without copying, because you know that it has the data.

    \b
    Example:
      dst mark-clean vol b
    """
    sure(
        yes, f"If node {node!r} has not the data of {storage!r}, readers will get wrong data and nobody will notice."
    )
    operate(tools, lambda admin: admin.mark_clean(storage, node), f"{node} of {storage} is marked clean")


@cli.command("mark-dirty")
@click.argument("storage")
@click.argument("node")
@_YES
@click.pass_obj
def mark_dirty(tools: Tools, storage: str, node: str, yes: bool) -> None:
    """
    Do not trust NODE's copy: copy everything to it again.

    \b
    Example:
      dst mark-dirty vol b --yes
    """
    sure(
        yes, f"The copy of node {node!r} is given up; {storage!r} has one copy less until all of it is copied again."
    )
    operate(
        tools,
        lambda admin: admin.mark_dirty(storage, node),
        f"{node} of {storage} is marked dirty; `dst watch {storage}` shows the resync",
    )


@cli.command()
@click.argument("file", type=click.Path(dir_okay=False))
def check(file: str) -> None:
    """
    Look for mistakes in a topology FILE, without starting anything.

    \b
    Example:
      dst check topology.toml
    """
    from dst.cluster.config import check as check_config

    try:
        problems = check_config(file)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", "name a file that you may read")
    except DSTError as error:
        fail(error.message, correction_for(error))
    for problem in problems:
        click.echo(str(problem))
    if problems:
        count = f"{len(problems)} mistakes" if len(problems) > 1 else "1 mistake"
        fail(f"{file} has {count}", "correct the lines above and check again")
    click.echo(f"{file} is fine")


cli.add_command(explain)
cli.add_command(storage)
cli.add_command(rehearse)
for _command in (init, suspend, resume, replace, mark_clean, mark_dirty):
    storage.add_command(_command)  # there as well, since they are about a storage


def main() -> None:
    """The entry point of the C{dst} command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to fail
    try:
        cli(prog_name="dst")
    except InvalidRequest as error:  # a URL that is none
        fail(error.message, correction_for(error))
