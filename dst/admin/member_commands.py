"""
The commands of C{dst} on the members of a storage: first start, maintenance, a copy that is not what it seems.
"""

from __future__ import annotations

import click

from dst.admin.completing import complete_member, complete_storage
from dst.admin.tools import YES, Tools, json_option, operate, sure

__all__ = ["MEMBER_COMMANDS"]

_DONE = "what was done"


@click.command(short_help="Make a storage of nodes that hold something already.")
@click.argument("storage", shell_complete=complete_storage)
@click.option(
    "--keep",
    metavar="NODE",
    help="Adopt the data of this node and copy it to the others.",
    shell_complete=complete_member,
)
@click.option("--discard", is_flag=True, help="What the nodes hold may be lost.")
@YES
@json_option(_DONE)
@click.pass_obj
def init(tools: Tools, storage: str, keep: str | None, discard: bool, yes: bool, as_json: bool) -> None:
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
        consequence = (
            f"The data of node {keep!r} becomes that of {storage!r}; what its other nodes hold is overwritten."
        )
    else:
        consequence = f"What the nodes of {storage!r} hold is lost."
    sure(tools, yes, consequence)
    operate(
        tools,
        lambda admin: admin.initialise(storage, keep=keep, discard=discard),
        f"{storage} is initialised" + (f" with the data of {keep}" if keep is not None else ""),
        done="initialise",
        storage=storage,
        keep=keep,
    )


@click.command(short_help="Stop using a member, for maintenance.")
@click.argument("storage", shell_complete=complete_storage)
@click.argument("node", shell_complete=complete_member)
@json_option(_DONE)
@click.pass_obj
def suspend(tools: Tools, storage: str, node: str, as_json: bool) -> None:
    """
    Stop using NODE in STORAGE, until it is resumed; kept over a restart.

    Its data stays where it is. The storage has that copy less meanwhile.

    \b
    Example:
      dst suspend vol b
    """
    operate(
        tools,
        lambda admin: admin.suspend(storage, node),
        f"{node} of {storage} is suspended; `dst resume {storage} {node}` uses it again",
        done="suspend",
        storage=storage,
        node=node,
    )


@click.command(short_help="Use a suspended member again.")
@click.argument("storage", shell_complete=complete_storage)
@click.argument("node", shell_complete=complete_member)
@json_option(_DONE)
@click.pass_obj
def resume(tools: Tools, storage: str, node: str, as_json: bool) -> None:
    """
    Use NODE in STORAGE again; what it missed is copied to it.

    \b
    Example:
      dst resume vol b
    """
    operate(
        tools,
        lambda admin: admin.resume(storage, node),
        f"{node} of {storage} is resumed",
        done="resume",
        storage=storage,
        node=node,
    )


@click.command(short_help="Put other media at a member's place.")
@click.argument("storage", shell_complete=complete_storage)
@click.argument("node", shell_complete=complete_member)
@click.argument("uri")
@YES
@json_option(_DONE)
@click.pass_obj
def replace(tools: Tools, storage: str, node: str, uri: str, yes: bool, as_json: bool) -> None:
    """
    Put what URI names at the place of NODE in STORAGE, and copy everything to it.

    What the new media holds is overwritten. What the old one holds stays there, and is no longer used.

    \b
    Example:
      dst replace vol b 'file:/srv/new.img?size=64G'
    """
    sure(tools, yes, f"What {uri} holds is overwritten, and node {node!r} is no longer part of {storage!r}.")
    operate(
        tools,
        lambda admin: admin.replace(storage, node, uri),
        f"{node} of {storage} is replaced; `dst watch {storage}` shows the resync",
        done="replace",
        storage=storage,
        node=node,
        uri=uri,
    )


@click.command("mark-clean", short_help="Take a member as in sync without copying.")
@click.argument("storage", shell_complete=complete_storage)
@click.argument("node", shell_complete=complete_member)
@YES
@json_option(_DONE)
@click.pass_obj
def mark_clean(tools: Tools, storage: str, node: str, yes: bool, as_json: bool) -> None:
    """
    Take NODE as in sync without copying, because you know that it has the data.

    Nothing checks that: if it has not, readers get wrong data.

    \b
    Example:
      dst mark-clean vol b
    """
    consequence = f"If node {node!r} has not the data of {storage!r}, readers will get wrong data unnoticed."
    sure(tools, yes, consequence)
    operate(
        tools,
        lambda admin: admin.mark_clean(storage, node),
        f"{node} of {storage} is marked clean",
        done="mark-clean",
        storage=storage,
        node=node,
    )


@click.command("mark-dirty", short_help="Copy everything to a member again.")
@click.argument("storage", shell_complete=complete_storage)
@click.argument("node", shell_complete=complete_member)
@YES
@json_option(_DONE)
@click.pass_obj
def mark_dirty(tools: Tools, storage: str, node: str, yes: bool, as_json: bool) -> None:
    """
    Do not trust NODE's copy: copy everything to it again.

    The storage has one copy less until that is done.

    \b
    Example:
      dst mark-dirty vol b --yes
    """
    consequence = f"The copy of node {node!r} is given up; {storage!r} has one copy less until it is copied again."
    sure(tools, yes, consequence)
    operate(
        tools,
        lambda admin: admin.mark_dirty(storage, node),
        f"{node} of {storage} is marked dirty; `dst watch {storage}` shows the resync",
        done="mark-dirty",
        storage=storage,
        node=node,
    )


MEMBER_COMMANDS = (init, suspend, resume, replace, mark_clean, mark_dirty)
"""They stand at the top, and below C{dst storage} as well, since they are about a storage."""
