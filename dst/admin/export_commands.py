"""
The commands of C{dst} on what is served, to whom, and where: exports, sessions, listeners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dst.admin.changing import Document, change, change_options, how_of
from dst.admin.completing import complete_device, complete_export, complete_session
from dst.admin.documents import add_table, allow, deny, remove_table, table_of
from dst.admin.listing import listed, one_of
from dst.admin.tools import YES, Tools, json_option, show_lines, sure, told
from dst.administration import ExportStatus, ListenerStatus, SessionStatus

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["export", "listener", "session"]


@click.group(short_help="What is served, and to whom.")
def export() -> None:
    """
    What is served, and to whom.

    \b
    Examples:
      dst export list
      dst export create vol                                serve the storage vol under its name
      dst export allow vol --identity alpha --access write
      dst export delete vol
    """


@export.command("list", short_help="Every export.")
@json_option("the answer of GET /v1/exports")
@click.pass_obj
def list_exports(tools: Tools, as_json: bool) -> None:
    """
    Show every export: what it serves, to whom, and what passed since the daemon began.

    \b
    Example:
      dst export list
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> list[ExportStatus]:
        return await admin.exports()

    listed(tools, "exports", work, _export_lines, "nothing is exported; `dst export create NAME` does", as_json)


def _export_lines(exports: list[ExportStatus], now: float, width: int | None) -> list[Any]:
    from dst.admin.display_tables import export_lines

    return export_lines(exports, width)


@export.command(short_help="One export, with its clients.")
@click.argument("name", shell_complete=complete_export)
@json_option("the export, as in GET /v1/exports, with its sessions")
@click.pass_obj
def show(tools: Tools, name: str, as_json: bool) -> None:
    """
    Show the export NAME and the clients that have it open.

    \b
    Example:
      dst export show vol
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> tuple[ExportStatus, list[SessionStatus]]:
        return one_of(await admin.exports(), name, "export"), await admin.sessions()

    found, sessions = tools.ask(work)
    sessions = [each for each in sessions if each.export == name]
    if as_json:
        from dst.admin.codec import to_json
        from dst.admin.tools import show_json

        show_json({"version": 1, "export": to_json(found), "sessions": to_json(sessions)})
        return
    show_lines(lambda width: _export_lines([found], tools.now(), width))
    if sessions:
        click.echo()
        show_lines(lambda width: _session_lines(sessions, tools.now(), width))


@export.command(short_help="Serve a device.")
@click.argument("name", shell_complete=complete_device)
@click.argument("device", required=False, shell_complete=complete_device)
@click.option("--read-only", is_flag=True, help="Nobody may change it by this name.")
@click.option("--nobody", is_flag=True, help="Nobody may use it yet; `dst export allow` changes that.")
@change_options
@click.pass_obj
def create(tools: Tools, /, name: str, device: str | None, read_only: bool, nobody: bool, **options: Any) -> None:
    """
    Serve DEVICE, a storage or node, to clients as NAME.

    Without DEVICE it is what is called NAME. Who may use it is this machine only, until `dst export allow` says
    otherwise. Data is not touched.

    \b
    Examples:
      dst export create vol
      dst export create backup vol --read-only
    """
    table: Document = {"device": device or name}
    if read_only:
        table["read_only"] = True
    if nobody:
        table["allow"] = []
    change(tools, how_of(options), lambda document: add_table(document, "exports", name, table))


@export.command(short_help="Serve it no more.")
@click.argument("name", shell_complete=complete_export)
@change_options
@click.pass_obj
def delete(tools: Tools, /, name: str, **options: Any) -> None:
    """
    Serve the export NAME no more; clients that use it are cut off when what they asked for is answered.

    The data stays.

    \b
    Example:
      dst export delete backup
    """
    change(tools, how_of(options), lambda document: remove_table(document, "exports", name))


@export.command("allow", short_help="Let somebody use it.")
@click.argument("name", shell_complete=complete_export)
@click.option("--access", type=click.Choice(["read", "write"]), default="write", show_default=True)
@click.option("--identity", metavar="NAME", help="Who: the name in the client's certificate.  [default: anybody]")
@click.option("--network", metavar="CIDR", help="Where from, as 10.0.0.0/8.  [default: anywhere]")
@change_options
@click.pass_obj
def allow_somebody(
    tools: Tools, /, name: str, access: str, identity: str | None, network: str | None, **options: Any
) -> None:
    """
    Let somebody use the export NAME: add a line to its access list.

    An export without a list is for this machine only; with one it is for those in it and nobody else, so add this
    machine (--network 127.0.0.0/8) where it is to stay in. A line about the same people is replaced.

    \b
    Examples:
      dst export allow vol --identity alpha
      dst export allow vol --identity backup --network 10.1.0.0/16 --access read
    """
    if identity is None and network is None:
        raise click.UsageError("say who with --identity, or where from with --network")
    change(
        tools,
        how_of(options),
        lambda document: allow(table_of(document, "exports", name), access, identity, network),
    )


@export.command("deny", short_help="Do not let somebody use it any more.")
@click.argument("name", shell_complete=complete_export)
@click.option("--identity", metavar="NAME", help="Who: as in the line that is to go.")
@click.option("--network", metavar="CIDR", help="Where from: as in the line that is to go.")
@click.option("--nobody", is_flag=True, help="Make the list empty: nobody may use it.")
@click.option("--this-machine", is_flag=True, help="Have no list: this machine only.")
@change_options
@click.pass_obj
def deny_somebody(
    tools: Tools,
    /,
    name: str,
    identity: str | None,
    network: str | None,
    nobody: bool,
    this_machine: bool,
    **options: Any,
) -> None:
    """
    Do not let somebody use the export NAME any more: take a line out of its access list.

    An empty list means nobody.

    \b
    Examples:
      dst export deny vol --identity alpha
      dst export deny vol --nobody
      dst export deny vol --this-machine
    """
    somebody = identity is not None or network is not None
    if somebody + nobody + this_machine != 1:
        raise click.UsageError("say one of: who (--identity, --network), --nobody, --this-machine")

    def edit(document: Document) -> None:
        table = table_of(document, "exports", name)
        if nobody:
            table["allow"] = []
        elif this_machine:
            table.pop("allow", None)
        else:
            deny(table, identity, network)

    change(tools, how_of(options), edit)


# -- sessions and listeners -------------------------------------------------------------


@click.group(short_help="The clients that are connected.")
def session() -> None:
    """
    The clients that have an export open.

    \b
    Examples:
      dst session list
      dst session end nbd-7
    """


@session.command("list", short_help="Every client.")
@click.option("--export", "of", metavar="NAME", shell_complete=complete_export, help="Of this export only.")
@json_option("the answer of GET /v1/sessions")
@click.pass_obj
def list_sessions(tools: Tools, of: str | None, as_json: bool) -> None:
    """
    Show the clients that have an export open: who, from where, for how long, and what passed.

    \b
    Examples:
      dst session list
      dst session list --export vol --json | jq -r '.sessions[].peer'
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> list[SessionStatus]:
        return [each for each in await admin.sessions() if of is None or each.export == of]

    listed(tools, "sessions", work, _session_lines, "no client is connected", as_json)


def _session_lines(sessions: list[SessionStatus], now: float, width: int | None) -> list[Any]:
    from dst.admin.display_tables import session_lines

    return session_lines(sessions, now=now, width=width)


@session.command(short_help="Cut a client off.")
@click.argument("id", shell_complete=complete_session)
@YES
@json_option("what was done")
@click.pass_obj
def end(tools: Tools, id: str, yes: bool, as_json: bool) -> None:
    """
    Cut the client ID off; `dst session list` has the ids.

    What it wrote and was answered stays. It may come again: `dst export deny` keeps it out.

    \b
    Example:
      dst session end nbd-7
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> None:
        found = one_of(await admin.sessions(), id, "session", key="id")
        consequence = f"The client at {found.peer} is cut off from {found.export}, with {found.in_flight} requests."
        sure(tools, yes, consequence)
        await admin.end_session(id)

    tools.ask(work)
    told(f"session {id} has ended", done="end-session", session=id)


@click.group(short_help="Where clients and operators connect.")
def listener() -> None:
    """
    Where clients and operators connect.

    \b
    Example:
      dst listener list
    """


@listener.command("list", short_help="Every listener.")
@json_option("the answer of GET /v1/listeners")
@click.pass_obj
def list_listeners(tools: Tools, as_json: bool) -> None:
    """
    Show where clients and operators connect, and whether that is encrypted.

    \b
    Example:
      dst listener list
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> list[ListenerStatus]:
        return await admin.listeners()

    def lines(listeners: list[ListenerStatus], now: float, width: int | None) -> list[Any]:
        from dst.admin.display_tables import listener_lines

        return listener_lines(listeners, width)

    listed(tools, "listeners", work, lines, "nothing is listened at", as_json)
