"""
C{dst token}: who may operate a daemon without a certificate.

They work on a file in the daemon's state directory, on its machine, and ask no daemon: it notices by itself.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from dst.admin.tools import Tools, fail, fail_with, json_option, show_json
from dst.errors import DSTError
from dst.identity import Role

if TYPE_CHECKING:
    from dst.admin.tokens import TokenStore

__all__ = ["token"]

_STATE_DIR = click.option(
    "--state-dir",
    envvar="DST_STATE_DIR",
    show_envvar=True,
    metavar="DIR",
    help="The daemon's state directory, `state_dir` in its topology.",
)
_CONFIG = click.option(
    "--config",
    envvar="DST_CONFIG",
    show_envvar=True,
    metavar="FILE",
    help="The daemon's topology, which names its state directory.",
)


@click.group()
def token() -> None:
    """
    Say who may operate a daemon over REST and its web page: make, list and revoke tokens.

    While a daemon has none, whoever is on its machine may do everything at its loopback address.  From the first
    token on everybody needs one there, too; over a UNIX socket nobody on the machine does.

    \b
    Examples:
      dst token create grafana --role view --config /etc/dst/dst.toml
      dst token create eve --role operate --days 90 --state-dir /var/lib/dst
      dst token list --state-dir /var/lib/dst
      dst token revoke eve --state-dir /var/lib/dst
    """


def _store(state_dir: str | None, config: str | None, now: Any) -> TokenStore:
    from dst.admin.authentication import token_path
    from dst.admin.tokens import TokenStore

    if bool(state_dir) == bool(config):
        raise click.UsageError("say either --state-dir DIR or --config FILE, those of the daemon")
    if config:
        state_dir = _state_dir_of(config)
    assert state_dir is not None
    if not os.path.isdir(state_dir):
        fail(f"there is no directory {state_dir}", "start the daemon once, or name its state_dir")
    return TokenStore(token_path(state_dir), now)


def _state_dir_of(config: str) -> str:
    from dst.cluster.config import load, load_script

    try:
        topology = load_script(config) if config.endswith(".py") else load(config)
    except DSTError as error:
        fail_with(error)
    if topology.daemon.state_dir is None:
        fail(f"{config} names no state_dir, so its daemon keeps no tokens", 'add state_dir = "state" to [daemon]')
    return topology.path(topology.daemon.state_dir)


@token.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="What it may do: look; also what can be undone; everything.",
)
@click.option("--days", type=float, default=None, help="How long it is good; for ever if this is not said.")
@_STATE_DIR
@_CONFIG
@json_option("the token")
@click.pass_obj
def create(
    tools: Tools, name: str, role: str, days: float | None, state_dir: str | None, config: str | None, as_json: bool
) -> None:
    """
    Make a token called NAME, and show it, once.

    Keep it in a file that only you can read, and name that: dst --token-file FILE, or DST_TOKEN_FILE.

    \b
    Example:
      dst token create eve --role operate --state-dir /var/lib/dst > ~/.dst-token
    """
    try:
        secret = _store(state_dir, config, tools.now).create(name, Role(role), days)
    except DSTError as error:
        fail_with(error)
    if as_json:
        show_json({"name": name, "role": role, "token": secret})
    else:
        click.echo(secret)
        click.echo(f"this is the token {name} ({role}); it is not shown again", err=True)


@token.command("list")
@_STATE_DIR
@_CONFIG
@json_option("the tokens, without themselves")
@click.pass_obj
def list_tokens(tools: Tools, state_dir: str | None, config: str | None, as_json: bool) -> None:
    """
    Show which tokens there are; nobody can see them themselves again.

    \b
    Example:
      dst token list --state-dir /var/lib/dst
    """
    store = _store(state_dir, config, tools.now)
    try:
        tokens = store.tokens()
    except DSTError as error:
        fail_with(error)
    if as_json:
        rows = [{"name": each.name, "role": each.role.value, "made": each.made, "ends": each.ends} for each in tokens]
        show_json({"tokens": rows})
        return
    if not tokens:
        click.echo("there is no token")
    for each in tokens:
        if each.ends is None:
            end = "for ever"
        elif store.has_ended(each):
            end = f"has ended on {_day(each.ends)}"
        else:
            end = f"until {_day(each.ends)}"
        click.echo(f"{each.name:24} {each.role.value:8} made on {_day(each.made)}, {end}")


@token.command("revoke")
@click.argument("name")
@_STATE_DIR
@_CONFIG
@click.pass_obj
def revoke(tools: Tools, name: str, state_dir: str | None, config: str | None) -> None:
    """
    Let the token NAME be nothing, from the daemon's next request on.

    \b
    Example:
      dst token revoke eve --state-dir /var/lib/dst
    """
    try:
        _store(state_dir, config, tools.now).revoke(name)
    except DSTError as error:
        fail_with(error)
    click.echo(f"{name} is no token any more")


def _day(moment_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment_s))
