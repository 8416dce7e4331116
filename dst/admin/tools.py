"""
What the commands of C{dst} reach the world with, and how each of them ends.

A command does all its work in one run of the reactor, questions to the person included: a reactor cannot be
started twice in one process.

The exit codes are for scripts and never change their meaning; L{EXIT_CODES} is the table that the help and the
manual show.
"""

from __future__ import annotations

import json
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import click
from attrs import define
from twisted.internet.defer import CancelledError, Deferred

from dst import __version__
from dst.admin.places import Place
from dst.admin.schema import API_VERSION, correction_for, error_row
from dst.errors import Denied, DSTError, NotFound, Unavailable
from dst.words import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = [
    "EXIT_CODES",
    "EXIT_ERROR",
    "EXIT_GOES_ON",
    "EXIT_NOT_ALLOWED",
    "EXIT_NOT_HEALTHY",
    "EXIT_NO_DAEMON",
    "EXIT_USAGE",
    "YES",
    "Tools",
    "Work",
    "console",
    "error_as_json",
    "fail",
    "fail_with",
    "in_words",
    "json_option",
    "json_wanted",
    "operate",
    "show_error",
    "show_json",
    "show_lines",
    "sleep",
    "sure",
    "told",
]

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_HEALTHY = 3
EXIT_NOT_ALLOWED = 4
EXIT_NO_DAEMON = 5
EXIT_GOES_ON = 6

EXIT_CODES: dict[int, str] = {
    0: "done; with --exit-code: and everything that is shown is healthy",
    EXIT_ERROR: "refused or failed; `check` has found mistakes; `demo` has seen something that is not right",
    EXIT_USAGE: "the command line is wrong; `rehearse`: something did not heal",
    EXIT_NOT_HEALTHY: "with --exit-code: something that is shown is not healthy",
    EXIT_NOT_ALLOWED: "this person or machine may not do that",
    EXIT_NO_DAEMON: "no daemon answers",
    EXIT_GOES_ON: "it goes on in the daemon: the time to wait for it is over",
}

_JSON = "dst.json"

_NO_ADDRESS = "there is nothing at this address"
"""How every daemon says that it has no such thing, as opposed to none of that name."""

T = TypeVar("T")

Work: TypeAlias = "Callable[[IClusterAdmin, IReactorTime], Coroutine[Deferred[Any], Any, Any]]"
"""What a command does, given an admin and a clock."""


@define
class Tools:
    """
    Tests bring their own.

    @ivar run: given URLs and what to do with the admin at each, does it, all at once; returns the results in this
        order, or instead of one the L{DSTError} that it ended with; raises C{CancelledError} when the person has
        interrupted it.  Can be called once in the life of a process.
    @ivar now: seconds of the epoch.
    @ivar places: the daemons that are asked.
    @ivar can_ask: whether there is a person who can answer a question.
    """

    run: Callable[[Sequence[tuple[str, Work]]], list[Any]]
    now: Callable[[], float] = time.time
    places: tuple[Place, ...] = ()
    can_ask: Callable[[], bool] = lambda: sys.stdin is not None and sys.stdin.isatty()

    def ask(self, work: Work) -> Any:
        """
        The result of C{work} with the one daemon; an error ends the command with its sentence, and so does it that
        there are several.
        """
        with _interruption_told():
            if len(self.places) > 1:
                names = ", ".join(place.name for place in self.places)
                fail(
                    f"several daemons could be asked ({names}), and this is for one",
                    f"say which: `dst --daemon {self.places[0].name} ...`, or --url",
                    code="several-daemons",
                    exit_code=EXIT_USAGE,
                )
            try:
                ((_, outcome),) = self.each(lambda place: work)
            except DSTError as error:
                outcome = error
            if isinstance(outcome, DSTError):
                fail_with(outcome)
            return outcome

    def ask_each(self, work: Work) -> list[tuple[Place, Any]]:
        """The result of C{work} with each daemon, or the L{DSTError} that it ended with."""
        with _interruption_told():
            return self.each(lambda place: work)

    def follow_each(self, work: Callable[[Place], Work]) -> None:
        """
        Do what has no end by itself; an error ends the command with its sentence.

        @raise CancelledError: the person has seen enough.
        """
        for _, outcome in self.each(work):
            if isinstance(outcome, DSTError):
                fail_with(outcome)

    def each(self, work: Callable[[Place], Work]) -> list[tuple[Place, Any]]:
        """As C{run}, for the daemons that are asked."""
        outcomes = self.run([(place.url, work(place)) for place in self.places])
        return list(zip(self.places, outcomes, strict=True))


@contextmanager
def _interruption_told() -> Iterator[None]:
    """Who is interrupted while it waits for daemons ends the command with a sentence."""
    try:
        yield
    except CancelledError:
        fail(
            "interrupted: what was asked for may or may not have been done",
            "look at `dst status`",
            code="interrupted",
        )


# -- how a command ends ----------------------------------------------------------


def fail(cause: str, correction: str, *, code: str = "failed", exit_code: int = EXIT_ERROR) -> NoReturn:
    """
    End the command with what happened and what can be done, on standard error.

    @param code: for scripts, in C{--json}; the codes of the REST interface and some of the command's own.
    """
    if json_wanted():
        told = error_as_json(cause, correction, code, exit_code)
        click.echo(json.dumps({"version": API_VERSION, "error": told}, indent=2), err=True)
    else:
        show_error(cause, correction)
    sys.exit(exit_code)


def error_as_json(cause: str, correction: str, code: str, exit_code: int) -> dict[str, object]:
    """What scripts are told of an error."""
    return {"code": code, "cause": cause, "correction": correction, "exit_code": exit_code}


def show_error(cause: str, correction: str) -> None:
    """On standard error, for people.  The sentences may be those of another machine."""
    click.echo("\n".join(map(printable, f"error: {cause}".split("\n"))), err=True)
    if correction:
        click.echo(f"  try: {printable(correction)}", err=True)


def fail_with(error: DSTError) -> NoReturn:
    """End the command with C{error}."""
    cause, correction, code, exit_code = in_words(error)
    fail(cause, correction, code=code, exit_code=exit_code)


def in_words(error: DSTError) -> tuple[str, str, str, int]:
    """What L{fail} is given for C{error}: the cause, the correction, the code and the exit code."""
    exit_code = EXIT_ERROR
    code = error_row(error).code
    if isinstance(error, NotFound) and _NO_ADDRESS in error.message:
        return (
            f"the daemon does not know what was asked for: it is older than this command ({__version__})",
            "upgrade the daemon; `dst status` and what is about members works with any",
            "not-supported",
            exit_code,
        )
    if isinstance(error, Denied):
        exit_code = EXIT_NOT_ALLOWED
    elif isinstance(error, Unavailable) and _nobody_answers(error):
        exit_code, code = EXIT_NO_DAEMON, "no-daemon"
    return error.message, correction_for(error), code, exit_code


def _nobody_answers(error: Unavailable) -> bool:
    from dst.admin.client import NoDaemon  # here, since it loads a whole HTTP client

    return isinstance(error, NoDaemon)


# -- JSON --------------------------------------------------------------------------


def json_option(of: str) -> Callable[[Any], Any]:
    """
    The option C{--json} of a command, its argument C{as_json}; errors are JSON then, too.

    @param of: what is printed, for the help.
    """

    def noted(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
        if value:
            context.meta[_JSON] = True
        return value

    return click.option("--json", "as_json", is_flag=True, is_eager=True, callback=noted, help=f"For scripts: {of}.")


def json_wanted() -> bool:
    """Whether the command that runs was asked for JSON."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_JSON))


def show_json(value: object) -> None:
    """On standard output."""
    click.echo(json.dumps(value, indent=2))


# -- asking and telling --------------------------------------------------------------

YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def sure(tools: Tools, yes: bool, consequence: str) -> None:
    """
    Ask, unless it was said already; where nobody can be asked, nothing is done.

    @param consequence: what it costs; C{""} where that was shown already.

    It may be called while the reactor runs: everything else waits for the person then.
    """
    if yes:
        return
    agreed = False
    if tools.can_ask():
        try:
            with _interruptible():
                agreed = _confirmed(f"{consequence}  Go on?".strip())
        except click.Abort:
            click.echo(err=True)
    elif consequence:
        click.echo(consequence, err=True)
    if not agreed:
        fail("nothing was done", "answer y, or say --yes where nobody can be asked", code="not-confirmed")


_LOOK_S = 0.2
"""How long a Ctrl-C may go unnoticed that came in the moment before a key was waited for."""

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


def _confirmed(question: str) -> bool:
    """
    As C{click.confirm}, which would wait on if Ctrl-C came just before it began to: then the signal is noted, and
    interrupts nothing.

    @raise click.Abort: by Ctrl-C or the end of the input.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        return click.confirm(question, err=True)
    try:
        while True:
            click.echo(f"{question} [y/N]: ", nl=False, err=True)
            while not select.select([sys.stdin], [], [], _LOOK_S)[0]:
                pass
            line = sys.stdin.readline()
            answer = _ANSWERS.get(line.strip().lower())
            if not line:
                raise click.Abort
            if answer is not None:
                return answer
            click.echo("Please answer y or n.", err=True)
    except KeyboardInterrupt:
        raise click.Abort from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends a question: the reactor only notes it, and is not looking while a person is asked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def operate(tools: Tools, ask: Callable[[IClusterAdmin], Deferred[None]], sentence: str, /, **facts: object) -> None:
    """
    Ask for an operation, and say that it was done.

    @param facts: what C{--json} tells of it.
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> None:
        await ask(admin)

    tools.ask(work)
    told(sentence, **facts)


def told(sentence: str, /, **facts: object) -> None:
    """Say what was done: to a person the sentence, to a script C{facts} as well."""
    if json_wanted():
        show_json({"version": API_VERSION, **facts, "sentence": sentence})
    else:
        click.echo(printable(sentence))


def sleep(clock: IReactorTime, seconds: float) -> Deferred[None]:
    """Fires after so many seconds; can be cancelled."""
    waited: Deferred[None] = Deferred(lambda _: timer.cancel())
    timer = clock.callLater(seconds, waited.callback, None)
    return waited


# -- drawing -------------------------------------------------------------------------


def console(file: IO[str]) -> Console:
    """What draws on C{file}; imported when it is needed, since most commands draw nothing."""
    from rich import console

    return console.Console(file=file, highlight=False, markup=False, emoji=False)


def show_lines(lines: Callable[[int | None], list[Text]], *, err: bool = False) -> None:
    """
    Draw lines that were made for the width of the screen.

    @param lines: makes them, given the cells of a line, or C{None} where nothing is to be cut or wrapped.
    """
    screen = console(sys.stderr if err else sys.stdout)
    for line in lines(screen.width if screen.is_terminal else None):
        screen.print(line, soft_wrap=True)
