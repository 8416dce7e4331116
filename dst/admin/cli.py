"""
The C{dst} command.

It asks a daemon through REST, and several for what only looks.  What it prints for people is drawn in
C{dst.admin.display*}; for scripts there are C{--json} and the exit codes of L{dst.admin.tools.EXIT_CODES}.

The commands are in C{dst.admin.*_commands}; here they are put together and run.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults

from dst import __version__
from dst.admin.ca_commands import ca
from dst.admin.completing import complete_daemon, completion, places_of
from dst.admin.configuration_commands import apply, configuration
from dst.admin.demo.command import demo
from dst.admin.export_commands import export, listener, session
from dst.admin.happening_commands import event, health, operation
from dst.admin.join_commands import join_command
from dst.admin.member_commands import MEMBER_COMMANDS
from dst.admin.node_commands import STORAGE_COMMANDS, node
from dst.admin.places import DEFAULT_URL, SYSTEM_SOCKET, urls_in
from dst.admin.rehearse import rehearse
from dst.admin.schema import correction_for
from dst.admin.seeing_commands import status, watch
from dst.admin.storage_commands import explain, storage
from dst.admin.token_commands import token
from dst.admin.tools import (
    EXIT_CODES,
    EXIT_USAGE,
    Tools,
    Work,
    error_as_json,
    fail,
    fail_with,
    json_option,
    show_json,
)
from dst.errors import DSTError

if TYPE_CHECKING:
    from dst.admin.reaching import Credentials

__all__ = ["cli", "main"]


def _run_in_reactor(asked: Sequence[tuple[str, Work]], credentials: Credentials | None = None) -> list[Any]:
    """The one place here with the global reactor: a command is a process."""
    from twisted.internet import reactor
    from twisted.internet.task import react

    from dst.admin.client import HTTPAdmin

    outcome: list[list[Any]] = []
    errors: list[BaseException] = []

    async def one(url: str, work: Work) -> Any:
        try:
            return await work(HTTPAdmin.connect(reactor, url, credentials), reactor)
        except DSTError as error:
            return error

    async def run() -> None:
        try:
            each = [Deferred.fromCoroutine(one(url, work)) for url, work in asked]
            outcome.append(await gatherResults(each, consumeErrors=True))
        except FirstError as first:
            errors.append(first.subFailure.value or first)
        except (Exception, SystemExit) as error:
            errors.append(error)

    def main(reactor: Any) -> Deferred[None]:
        running = Deferred.fromCoroutine(run())
        # Whoever is interrupted ends before connections do, and has nothing to say about those.
        reactor.addSystemEventTrigger("before", "shutdown", running.cancel)
        return running

    try:
        react(main)
    except SystemExit:
        pass  # how react() ends; the command ends in its own way
    if errors:
        raise errors[0]
    if not outcome:
        raise CancelledError
    return outcome[0]


class _Group(click.Group):
    """
    All of it.  What is wrong with a command line is told to scripts in their way, too.
    """

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By what a person wants to do, not by the alphabet."""
        sections = {title: [each.name or "" for each in section] for title, section in _SECTIONS.items()}
        known = {name for names in sections.values() for name in names}
        sections["Others"] = sorted(set(self.commands) - known)
        limit = formatter.width - 6 - max(len(name) for name in self.commands)
        for title, names in sections.items():
            shown = [(name, self.commands[name]) for name in names if name in self.commands]
            if shown:
                with formatter.section(title):
                    formatter.write_dl([(name, command.get_short_help_str(limit)) for name, command in shown])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes, as a list."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])

    def main(self, *arguments: Any, **options: Any) -> Any:
        given = options.get("args")
        given = sys.argv[1:] if given is None else list(given)
        if "--json" not in given or not options.get("standalone_mode", True):
            return super().main(*arguments, **options)
        try:
            return super().main(*arguments, **{**options, "standalone_mode": False})
        except click.exceptions.Exit as ended:
            sys.exit(ended.exit_code)
        except click.Abort:
            _fail_as_json("interrupted: nothing more was done", "", "interrupted", 1)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx is not None else "dst"
            _fail_as_json(error.format_message(), f"{path} --help", "usage", EXIT_USAGE)
        except click.ClickException as error:
            _fail_as_json(error.format_message(), "", "failed", error.exit_code)


def _fail_as_json(cause: str, correction: str, code: str, exit_code: int) -> None:
    """For what goes wrong before a command has begun, or outside of any."""
    import json

    from dst.admin.schema import API_VERSION

    told = error_as_json(cause, correction, code, exit_code)
    click.echo(json.dumps({"version": API_VERSION, "error": told}, indent=2), err=True)
    sys.exit(exit_code)


class _URLType(click.ParamType):  # type: ignore[type-arg]
    """A URL; white space is between several in the environment, and may be in the path of one."""

    name = "text"

    def split_envvar_value(self, rv: str) -> list[str]:
        """See C{click.ParamType}."""
        return urls_in(rv)


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    cls=_Group,
    context_settings=_SETTINGS,
)
@click.option(
    "--url",
    "urls",
    type=_URLType(),
    envvar="DST_URL",
    multiple=True,
    show_default=f"unix:{SYSTEM_SOCKET} and the sockets of dst@NAME, as far as they are there, else {DEFAULT_URL}",
    show_envvar=True,
    help="Where the daemon's admin interface is: http://, https://, or unix:/path/of/socket. What only looks may be "
    "said of several: --url A --url B.",
)
@click.option(
    "-d",
    "--daemon",
    "daemons",
    envvar="DST_DAEMON",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_daemon,
    show_envvar=True,
    help="The daemon of dst@NAME.service on this machine, or of dst.service: dst.",
)
@click.option(
    "--token-file",
    envvar="DST_TOKEN_FILE",
    show_envvar=True,
    metavar="FILE",
    help="A file with a token of `dst token create` in it; DST_TOKEN is the token itself.",
)
@click.option("--ca", "ca_file", envvar="DST_CA", show_envvar=True, metavar="FILE", help="Whom to trust with https:.")
@click.option(
    "--cert", "cert_file", envvar="DST_CERT", show_envvar=True, metavar="FILE", help="A certificate to show."
)
@click.option("--key", "key_file", envvar="DST_KEY", show_envvar=True, metavar="FILE", help="The key of --cert.")
@click.version_option(__version__, prog_name="dst")
@click.pass_context
def cli(
    context: click.Context,
    urls: tuple[str, ...],
    daemons: tuple[str, ...],
    token_file: str | None,
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
) -> None:
    """
    See and operate a DST daemon.

    \b
    Examples:
      dst demo                       a mirror is made, loaded, broken and heals, before your eyes
      dst status                     everything, as a tree
      dst status vol --json          one storage, for scripts
      dst explain vol                why it is so, what comes next, what you can do
      dst watch                      the same, live
      dst init vol --keep a          first start: keep what node a holds
      dst suspend vol b              stop using a member, for maintenance
      dst resume vol b               use it again; what it missed is copied
      dst storage take-over vol      own it here, not where it is owned now
      dst check topology.toml        look for mistakes before starting
      dst apply topology.toml        make a running daemon be as the file says
      dst -d web status              that of dst@web.service, of several here
    """

    def run(asked: Sequence[tuple[str, Work]]) -> list[Any]:
        from dst.admin.reaching import Credentials

        credentials = Credentials.gathered(os.environ, token_file, ca_file, cert_file, key_file)
        return _run_in_reactor(asked, credentials)

    tools = context.obj or Tools(run)
    tools.places = places_of(context)
    context.obj = tools


@click.command(short_help="Look for mistakes in a topology file.")
@click.argument("file", type=click.Path(dir_okay=False))
@json_option("what is wrong, and where")
def check(file: str, as_json: bool) -> None:
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
        fail_with(error)
    if as_json:
        found = [{"path": each.path, "line": each.line, "sentence": each.sentence} for each in problems]
        show_json({"version": 1, "file": file, "problems": found})
    for problem in () if as_json else problems:
        click.echo(str(problem))
    if problems:
        count = f"{len(problems)} mistakes" if len(problems) > 1 else "1 mistake"
        fail(f"{file} has {count}", "correct the lines above and check again")
    if not as_json:
        click.echo(f"{file} is fine")


_SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "See": (status, watch, health, explain, event, operation, session, listener),
    "Change": (node, storage, export, configuration, apply),
    "Maintain": MEMBER_COMMANDS,
    "Trust": (ca, token, join_command),
    "Without a daemon": (demo, check, rehearse, completion),
}
"""What the help shows under which heading; a command that is in none stands under the last one."""

for _command in (each for section in _SECTIONS.values() for each in section):
    cli.add_command(_command)
for _command in (*STORAGE_COMMANDS, *MEMBER_COMMANDS):
    storage.add_command(_command)


def main() -> None:
    """The entry point of the C{dst} command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to fail
    try:
        cli(prog_name="dst", complete_var="_DST_COMPLETE")
    except DSTError as error:  # a URL that is none
        _end(error)
    except KeyboardInterrupt:
        click.echo(err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("DST_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        _end_with(
            f"a mistake in this command itself: {what}",
            "please report it, with what DST_TRACEBACK=1 shows in addition",
        )


def _end(error: DSTError) -> None:
    _end_with(error.message, correction_for(error))


def _end_with(cause: str, correction: str) -> None:
    if "--json" in sys.argv:
        _fail_as_json(cause, correction, "failed", 1)
    fail(cause, correction)
