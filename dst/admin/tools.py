"""What the commands of C{dst} reach the world with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Coroutine
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeAlias

import click
from attrs import define
from twisted.internet.defer import CancelledError, Deferred

from dst.admin.schema import correction_for
from dst.errors import DSTError

if TYPE_CHECKING:
    from rich.console import Console
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["EXIT_ERROR", "Tools", "Work", "console", "fail", "operate", "sure"]

EXIT_ERROR = 1

Work: TypeAlias = "Callable[[IClusterAdmin, IReactorTime], Coroutine[Deferred[Any], Any, Any]]"
"""What a command does, given an admin and a clock."""


@define
class Tools:
    """
    Tests bring their own.

    @ivar run: run C{work} with the admin at a URL; returns its result or raises its error, C{CancelledError} when
        the person has interrupted it.
    @ivar now: seconds of the epoch.
    """

    run: Callable[[str, Work], Any]
    now: Callable[[], float] = time.time
    url: str = ""

    def ask(self, work: Work) -> Any:
        """The result of C{work}; an error ends the command with its sentence."""
        try:
            return self.run(self.url, work)
        except DSTError as error:
            fail(error.message, correction_for(error))
        except CancelledError:
            fail("interrupted: what was asked for may or may not have been done", "look at `dst status`")


def fail(cause: str, correction: str) -> NoReturn:
    """End the command with what happened and what can be done."""
    click.echo(f"error: {cause}", err=True)
    if correction:
        click.echo(f"  try: {correction}", err=True)
    sys.exit(EXIT_ERROR)


def sure(yes: bool, consequence: str) -> None:
    """Ask, unless it was said already."""
    if yes:
        return
    try:
        agreed = click.confirm(f"{consequence}  Go on?", err=True)
    except click.Abort:
        click.echo(err=True)
        agreed = False
    if not agreed:
        fail("nothing was done", "answer y, or say --yes where nobody can be asked")


def operate(tools: Tools, ask: Callable[[IClusterAdmin], Deferred[None]], done: str) -> None:
    """Ask for an operation, and say that it was done."""

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> None:
        await ask(admin)

    tools.ask(work)
    click.echo(done)


def console(file: IO[str]) -> Console:
    """What draws on C{file}; imported when it is needed, since most commands draw nothing."""
    from rich import console

    return console.Console(file=file, highlight=False, markup=False, emoji=False)
