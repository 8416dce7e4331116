"""
The commands of C{dst} on nodes, and those on which storages there are and what they are made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dst.admin.changing import Document, change, change_options, how_of
from dst.admin.completing import complete_member, complete_node, complete_storage
from dst.admin.documents import add_member, add_table, member_words, options_of, remove_member, remove_table
from dst.admin.listing import show_table
from dst.admin.looking import look
from dst.admin.schema import API_VERSION, is_storage, tree_to_json
from dst.admin.tools import Tools, fail_with, json_option, show_json, show_lines
from dst.errors import NotFound
from dst.status import StatusTree

if TYPE_CHECKING:
    from rich.text import Text
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["STORAGE_COMMANDS", "node"]

_SET = click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Another key of its table; may be given again."
)


async def _status(admin: IClusterAdmin, clock: IReactorTime) -> list[StatusTree]:
    return await admin.status()


# -- nodes ----------------------------------------------------------------------------


@click.group(short_help="The devices that storages are made of.")
def node() -> None:
    """
    The devices that storages are made of: files, disks, exports of other daemons.

    \b
    Examples:
      dst node list
      dst node create d 'file:/srv/d.img?size=64G'
      dst node create far 'dst://10.0.0.7:7450/disk'
      dst node delete d
    """


@node.command("list", short_help="Every node.")
@json_option("the answer of GET /v1/nodes")
@click.pass_obj
def list_nodes(tools: Tools, as_json: bool) -> None:
    """
    Show every node: what it is, how it is, and what it is a member of.

    \b
    Example:
      dst node list
    """

    def show(trees: list[StatusTree]) -> None:
        nothing = "the daemon has no node; `dst node create NAME URI` makes one"
        show_table(tools, _nodes(trees), _node_lines, nothing)

    def told(trees: list[StatusTree]) -> dict[str, Any]:
        nodes = [tree_to_json(tree) for tree, _ in _nodes(trees)]
        return {"version": API_VERSION, "time": tools.now(), "nodes": nodes}

    look(tools, _status, show, told, as_json)


def _nodes(trees: list[StatusTree]) -> list[tuple[StatusTree, list[str]]]:
    """Every node of this daemon, and the storages it is in; what is behind a remote one is not this daemon's."""
    found: dict[str, tuple[StatusTree, list[str]]] = {}
    for tree in trees:
        for each in tree.children if is_storage(tree) else (tree,):
            found.setdefault(each.name, (each, []))
            if is_storage(tree):
                found[each.name][1].append(tree.name)
    storages = {tree.name for tree in trees if is_storage(tree)}
    return [found[name] for name in sorted(found) if name not in storages]


def _node_lines(nodes: list[tuple[StatusTree, list[str]]], now: float, width: int | None) -> list[Text]:
    from dst.admin.display import state_style
    from dst.admin.display_tables import Cell, table_lines
    from dst.words import duration_in_words, size_in_words

    rows: list[list[str | Cell]] = [
        [
            tree.name,
            tree.kind,
            size_in_words(tree.size) if tree.size else "",
            (tree.state, state_style(tree.state)),
            duration_in_words(now - tree.since) if tree.since else "",
            ", ".join(storages),
            tree.reason,
        ]
        for tree, storages in nodes
    ]
    return table_lines(["NAME", "KIND", "SIZE", "STATE", "FOR", "MEMBER OF", "WHY"], rows, width)


@node.command("show", short_help="One node.")
@click.argument("name", shell_complete=complete_node)
@json_option("the node, as in GET /v1/nodes")
@click.pass_obj
def show_node(tools: Tools, name: str, as_json: bool) -> None:
    """
    Show the node NAME: how it is, why, and what is known of it.

    \b
    Example:
      dst node show b
    """
    _show_one(tools, name, [tree for tree, _ in _nodes(tools.ask(_status))], "node", as_json)


def _show_one(tools: Tools, name: str, trees: list[StatusTree], what: str, as_json: bool) -> None:
    from dst.admin.display import status_lines
    from dst.cluster.rules import did_you_mean

    tree = next((tree for tree in trees if tree.name == name), None)
    if tree is None:
        fail_with(NotFound(f"there is no {what} {name!r} here{did_you_mean(name, [each.name for each in trees])}"))
    if as_json:
        show_json({"version": API_VERSION, "time": tools.now(), what: tree_to_json(tree)})
        return
    show_lines(lambda width: status_lines([tree], now=tools.now(), width=width))
    if tree.detail:
        click.echo()
        show_lines(lambda width: _detail_lines(tree, width))


def _detail_lines(tree: StatusTree, width: int | None) -> list[Text]:
    import json

    from dst.admin.display_tables import Cell, table_lines

    rows: list[list[str | Cell]] = [
        [key.replace("_", " "), value if isinstance(value, str) else json.dumps(value)]
        for key, value in sorted(tree.detail.items())
        if key != "explanation" and not isinstance(value, dict)
    ]
    return table_lines(["FACT", "VALUE"], rows, width)


@node.command("create", short_help="Have one more node.")
@click.argument("name")
@click.argument("uri")
@_SET
@change_options
@click.pass_obj
def create_node(tools: Tools, /, name: str, uri: str, settings: tuple[str, ...], **options: Any) -> None:
    """
    Have a node NAME, which is what URI says; it is in no storage yet.

    What it holds stays as it is; a file with ?size= is made if there is none.

    \b
    Examples:
      dst node create d 'file:/srv/d.img?size=64G'
      dst node create far 'dst://10.0.0.7:7450/disk'
      dst node create foreign 'nbd://10.0.0.8/export' --set deadline_s=10
    """

    def edit(document: Document) -> None:
        add_table(document, "nodes", name, {"uri": uri, **options_of(settings)})

    change(tools, how_of(options), edit)


@node.command("delete", short_help="Do not have it any more.")
@click.argument("name", shell_complete=complete_node)
@change_options
@click.pass_obj
def delete_node(tools: Tools, /, name: str, **options: Any) -> None:
    """
    Do not have the node NAME any more. What it holds stays where it is.

    One that is a member of a storage is taken out of that first: `dst storage remove STORAGE NAME --delete-node`.

    \b
    Example:
      dst node delete d
    """
    change(tools, how_of(options), lambda document: remove_table(document, "nodes", name))


# -- storages: in the group that `storage_commands` makes -----------------------------------


@click.command("list", short_help="Every storage.")
@json_option("the answer of GET /v1/storages")
@click.pass_obj
def list_storages(tools: Tools, as_json: bool) -> None:
    """
    Show every storage: how it is, and what it is made of.

    \b
    Example:
      dst storage list
    """

    def show(trees: list[StatusTree]) -> None:
        nothing = "the daemon has no storage; `dst storage create` makes one"
        show_table(tools, list(filter(is_storage, trees)), _storage_lines, nothing)

    def told(trees: list[StatusTree]) -> dict[str, Any]:
        storages = [tree_to_json(tree) for tree in trees if is_storage(tree)]
        return {"version": API_VERSION, "time": tools.now(), "storages": storages}

    look(tools, _status, show, told, as_json)


def _storage_lines(trees: list[StatusTree], now: float, width: int | None) -> list[Text]:
    from dst.admin.display import state_style
    from dst.admin.display_tables import Cell, table_lines
    from dst.words import duration_in_words, size_in_words

    rows: list[list[str | Cell]] = [
        [
            tree.name,
            tree.kind,
            size_in_words(tree.size) if tree.size else "",
            (tree.health.value, state_style(tree.health.value)),
            duration_in_words(now - tree.since) if tree.since else "",
            str(tree.redundancy),
            ", ".join(f"{each.name} ({each.state})" for each in tree.children),
        ]
        for tree in trees
    ]
    return table_lines(["NAME", "KIND", "SIZE", "HEALTH", "FOR", "MAY LOSE", "MEMBERS"], rows, width)


@click.command("show", short_help="One storage.")
@click.argument("name", shell_complete=complete_storage)
@json_option("the answer of GET /v1/storages/NAME")
@click.pass_obj
def show_storage(tools: Tools, name: str, as_json: bool) -> None:
    """
    Show the storage NAME: its tree, and what is known of it.

    \b
    Example:
      dst storage show vol
    """
    _show_one(tools, name, [tree for tree in tools.ask(_status) if is_storage(tree)], "storage", as_json)


@click.command("create", short_help="Make a storage of nodes.")
@click.argument("name")
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True, shell_complete=complete_node)
@click.option("--algorithm", default="mirror", show_default=True, help="mirror, stripe, linear.")
@click.option("--witness", "witnesses", metavar="NODE", multiple=True, help="One that votes and has no data.")
@click.option("--export", "exported", is_flag=True, help="Serve it under its name, to this machine.")
@_SET
@change_options
@click.pass_obj
def create_storage(
    tools: Tools,
    /,
    name: str,
    nodes: tuple[str, ...],
    algorithm: str,
    witnesses: tuple[str, ...],
    exported: bool,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """
    Make a storage NAME of nodes. A NODE is the name of one, or NAME=URI to make it, too.

    Nodes that hold something already are never overwritten without `dst init`, which says whose data it is to have.

    \b
    Examples:
      dst storage create vol a b c
      dst storage create vol 'a=file:/srv/a.img?size=64G' 'b=dst://10.0.0.7:7450/b' --export
      dst storage create fast a b --algorithm stripe --set chunk_size=128K
    """

    def edit(document: Document) -> None:
        table: Document = {"algorithm": algorithm, "nodes": member_words(document, nodes)}
        if witnesses:
            table["witnesses"] = member_words(document, witnesses)
        add_table(document, "storages", name, {**table, **options_of(settings)})
        if exported:
            add_table(document, "exports", name, {"device": name})

    change(tools, how_of(options), edit)


@click.command("delete", short_help="Do not have it any more.")
@click.argument("name", shell_complete=complete_storage)
@click.option("--with-exports", is_flag=True, help="Also what serves it.")
@change_options
@click.pass_obj
def delete_storage(tools: Tools, /, name: str, with_exports: bool, **options: Any) -> None:
    """
    Do not have the storage NAME any more.

    Its nodes stay, and so does what they hold: a storage of the same nodes has the same data.

    \b
    Example:
      dst storage delete scratch --with-exports
    """

    def edit(document: Document) -> None:
        remove_table(document, "storages", name, with_exports=with_exports)

    change(tools, how_of(options), edit)


@click.command(short_help="One more member.")
@click.argument("storage", shell_complete=complete_storage)
@click.argument("node", shell_complete=complete_node)
@click.option("--witness", is_flag=True, help="It votes and has no data.")
@change_options
@click.pass_obj
def add(tools: Tools, /, storage: str, node: str, witness: bool, **options: Any) -> None:
    """
    Give STORAGE one more member: NODE is the name of a node, or NAME=URI to make one.

    What the node holds is overwritten with a copy of what the storage has.

    \b
    Examples:
      dst storage add vol d --wait
      dst storage add vol 'd=file:/srv/d.img?size=64G'
      dst storage add vol 'w=dst://10.0.0.9:7450/w' --witness
    """

    def edit(document: Document) -> None:
        add_member(document, storage, node, witness=witness)

    change(tools, how_of(options), edit)


@click.command(short_help="One member less.")
@click.argument("storage", shell_complete=complete_storage)
@click.argument("node", shell_complete=complete_member)
@click.option("--delete-node", is_flag=True, help="Do not have the node any more, either.")
@change_options
@click.pass_obj
def remove(tools: Tools, /, storage: str, node: str, delete_node: bool, **options: Any) -> None:
    """
    Take the member NODE out of STORAGE, for good; what it holds stays where it is.

    The storage has that copy less. For maintenance there is `dst suspend`.

    \b
    Example:
      dst storage remove vol b --delete-node
    """

    def edit(document: Document) -> None:
        remove_member(document, storage, node, with_node=delete_node)

    change(tools, how_of(options), edit)


STORAGE_COMMANDS = (list_storages, show_storage, create_storage, delete_storage, add, remove)
"""They belong below C{dst storage}."""
