"""
The commands of C{dst} on the configuration as a whole: see it, edit it, try a file on, make a file true.
"""

from __future__ import annotations

import os
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import click

from dst.admin.changing import Document, change, change_options, how_of
from dst.admin.tools import Tools, json_option, show_json
from dst.administration import Configuration
from dst.errors import InvalidRequest
from dst.words import printable

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["apply", "configuration"]

FILE_BYTES_MAX = 1024 * 1024
"""What a daemon takes; more is not a topology but a mistake."""


@click.group(short_help="What is wanted, as a whole.")
def configuration() -> None:
    """
    What is wanted, as a whole: the topology file, as the daemon has it now.

    \b
    Examples:
      dst configuration show > vol.toml
      dst configuration plan vol.toml      what would be done to make it so
      dst configuration edit               in your editor, then the plan, then a question
    """


@configuration.command(short_help="As it is now.")
@json_option("the answer of GET /v1/configuration")
@click.pass_obj
def show(tools: Tools, as_json: bool) -> None:
    """
    Print the configuration, as a topology file would say it.

    What is true only after the daemon's next start is said on standard error.

    \b
    Examples:
      dst configuration show > vol.toml
      dst configuration show --json | jq .document.exports
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> Configuration:
        return await admin.configuration()

    found: Configuration = tools.ask(work)
    if as_json:
        from dst.admin.codec import to_json

        show_json({"version": 1, **to_json(found)})
        return
    click.echo(_as_toml(found.document), nl=False)
    for sentence in found.after_restart:
        click.echo(f"... at the next start only: {printable(sentence)}", err=True)
    if found.writable:
        click.echo(f"... it cannot be changed here: {printable(found.writable)}", err=True)


def _as_toml(document: Document) -> str:
    import tomlkit

    return tomlkit.dumps(document).rstrip("\n") + "\n"


@configuration.command(short_help="What would be done to make a file true.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@json_option("the plan")
@click.pass_obj
def plan(tools: Tools, file: str, as_json: bool) -> None:
    """
    Show what would be done if FILE (or - for standard input) were the configuration. Nothing is.

    \b
    Example:
      dst configuration plan vol.toml
    """
    options = {"yes": False, "plan_only": True, "whole": False, "begun": False, "timeout_s": 0.0}
    document = _read(file)
    change(tools, how_of(options), lambda _: document)


@click.command("apply", short_help="Make a running daemon be as a file says.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@change_options
@click.pass_obj
def apply(tools: Tools, /, file: str, **options: Any) -> None:
    """
    Make the running daemon be as FILE (or - for standard input) says: a whole topology, in TOML.

    The plan is shown, and what gives up data or redundancy is asked for. What FILE does not mention is removed. The
    daemon keeps it in its own file; relative paths are relative to that one.

    \b
    Examples:
      dst apply vol.toml
      dst apply vol.toml --plan
      ssh other cat vol.toml | dst apply - --yes --wait
    """
    document = _read(file)
    change(tools, how_of(options), lambda _: document)


@configuration.command(short_help="Change it in your editor.")
@change_options
@click.pass_obj
def edit(tools: Tools, /, **options: Any) -> None:
    """
    Open the configuration in your editor ($VISUAL, $EDITOR); when you have saved it, the plan is shown and asked for.

    \b
    Example:
      EDITOR=nano dst configuration edit
    """

    def edited(document: Document) -> Document:
        before = _as_toml(document)
        try:
            after = click.edit(before, extension=".toml", require_save=True)
        except click.ClickException as error:
            raise InvalidRequest(f"the editor could not be used: {error.message}") from None
        return document if after is None else _parsed(after, "what you have saved")

    change(tools, how_of(options), edited)


configuration.add_command(apply)


def _read(file: str) -> Document:
    """
    The document in a file; what is wrong ends the command.
    """
    from dst.admin.tools import fail, fail_with

    name = "standard input" if file == "-" else file
    try:
        if file == "-":
            data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with open(file, "rb") as opened:
                data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        fail(f"{name} cannot be read: {error.strerror}", "name a file that you may read")
    if len(data) > FILE_BYTES_MAX:
        fail(f"{name} has more than {FILE_BYTES_MAX} bytes: that is no topology", "name a topology file")
    if os.path.splitext(file)[1] == ".py":
        fail(f"{name} is a Python script, which only a daemon's start runs", "write it as TOML", code="not-supported")
    try:
        return _parsed(data.decode(), name)
    except UnicodeDecodeError:
        fail(f"{name} is not text in UTF-8", "name a topology file")
    except InvalidRequest as error:
        fail_with(error)


def _parsed(text: str, name: str) -> Document:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{name} is not TOML: {error}") from None
    except RecursionError:
        raise InvalidRequest(f"{name} is nested too deeply to be a topology") from None
