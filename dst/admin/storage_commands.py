"""
The commands of C{dst} that explain, and those on ownership, diverged histories and resyncs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from dst.admin.completing import complete_member, complete_name, complete_storage
from dst.admin.looking import look
from dst.admin.schema_explained import explanations_to_envelope, resyncs_to_envelope, scrubs_to_envelope
from dst.admin.tools import (
    EXIT_GOES_ON,
    YES,
    Tools,
    console,
    fail,
    json_option,
    json_wanted,
    operate,
    show_json,
    sleep,
    sure,
    told,
)
from dst.errors import DeadlinePassed, DSTError, InvalidRequest
from dst.explaining import Explanation, ScrubRecord
from dst.words import printable, size_in_words

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["explain", "storage"]

LOOK_S = 1.0
"""How often is looked how a take-over goes on."""


@click.command()
@click.argument("name", required=False, shell_complete=complete_name)
@json_option("the answer of GET /v1/explain")
@click.option("--all", "everything", is_flag=True, help="Explain what is healthy, too.")
@click.pass_obj
def explain(tools: Tools, name: str | None, as_json: bool, everything: bool) -> None:
    """
    Say why everything, or the storage or node NAME, is as it is.

    For whatever is not healthy: why, what happens next without anybody's help and what that waits for, what
    you can do and what it costs, and what was seen.

    \b
    Examples:
      dst explain
      dst explain vol
      dst explain b --all
      dst explain vol --json | jq -r '.explanations[].next_step'
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> list[Explanation]:
        return await admin.explain(name)

    def show(explanations: list[Explanation]) -> None:
        if explanations:
            _show(tools, explanations, everything or name is not None and not explanations[0].next_step)
        else:
            click.echo("the daemon has no storage and no node")

    look(tools, work, show, lambda found: explanations_to_envelope(found, tools.now()), as_json)


def _show(tools: Tools, explanations: list[Explanation], everything: bool, *, err: bool = False) -> None:
    from dst.admin.display_explained import explanation_lines

    screen = console(sys.stderr if err else sys.stdout)
    width = screen.width if screen.is_terminal else None
    for line in explanation_lines(explanations, now=tools.now(), width=width, everything=everything):
        screen.print(line, soft_wrap=True)


@click.group()
def storage() -> None:
    """
    Operate one storage: owner, histories, resyncs.

    \b
    Examples:
      dst storage take-over vol            own it here, for planned work on the other daemon
      dst storage resolve vol --keep a     choose between two histories
      dst storage grow vol                 be larger: the media has grown
      dst storage pause-resync vol         copy nothing for now
      dst storage history vol              the resyncs that have ended
      dst storage scrub vol                compare all copies
      dst storage scrubs vol               what that found
    """


@storage.command("take-over", short_help="Own it in this daemon.")
@click.argument("name", shell_complete=complete_storage)
@click.option("--wait", "wait_s", type=click.FloatRange(1), default=300.0, show_default=True, help="Seconds.")
@json_option("what was done")
@click.pass_obj
def take_over(tools: Tools, name: str, wait_s: float, as_json: bool) -> None:
    """
    Own the storage NAME in this daemon: ask the one that owns it to hand it over.

    An owner that answers makes everything stable, releases the storage and stands by; nothing is lost and
    operations wait for a moment. One that does not answer is waited for until its lease is over. Ask the daemon
    that is to become the owner, not the one that is.

    \b
    Example:
      dst --url http://127.0.0.1:7481 storage take-over vol
    """
    tools.ask(lambda admin, clock: _take_over(admin, clock, name, wait_s))
    told(f"{name} is owned and served here", done="take-over", storage=name)


async def _take_over(admin: IClusterAdmin, clock: IReactorTime, name: str, wait_s: float) -> None:
    end = clock.seconds() + wait_s
    said = ""
    while True:
        ended: list[object] = []
        taking = admin.take_over(name)
        taking.addBoth(ended.append)
        try:
            while not ended and clock.seconds() < end:
                said = await _say_how_it_is(admin, name, said, ended)
                if not ended:
                    await sleep(clock, LOOK_S)
        finally:
            if not ended:
                taking.cancel()
        result = ended[0] if ended else None
        if isinstance(result, Failure) and result.check(CancelledError) and clock.seconds() >= end:
            fail(
                f"{name!r} was not taken over in {wait_s:g} s; the daemon goes on trying",
                f"`dst explain {name}` says what it waits for",
                code="goes-on",
                exit_code=EXIT_GOES_ON,
            )
        if isinstance(result, Failure) and result.check(DeadlinePassed) and clock.seconds() < end:
            continue  # the daemon goes on, and only its answer had a limit
        if isinstance(result, Failure):
            result.raiseException()
        return


async def _say_how_it_is(admin: IClusterAdmin, name: str, said: str, ended: list[object]) -> str:
    """On standard error, whenever it has changed."""
    try:
        explained = await admin.explain(name)
    except DSTError as error:
        sentence = error.message
    else:
        sentence = explained[0].summary
        if explained[0].next_step:
            sentence += f"; next: {explained[0].next_step}"
    if sentence != said and not ended and not json_wanted():
        click.echo(f"... {printable(sentence)}", err=True)
    return sentence


@storage.command(short_help="Choose between histories that have diverged.")
@click.argument("name", shell_complete=complete_storage)
@click.option(
    "--keep",
    metavar="NODE",
    required=True,
    help="A member that has the history to go on with.",
    shell_complete=complete_member,
)
@YES
@json_option("what was done")
@click.pass_obj
def resolve(tools: Tools, name: str, keep: str, yes: bool, as_json: bool) -> None:
    """
    Choose between histories of the storage NAME that have diverged.

    It shows what each choice discards, and asks. What only the other histories have is lost.

    \b
    Examples:
      dst storage resolve vol --keep a
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> None:
        explanations = await admin.explain(name)
        if not as_json:
            _show(tools, explanations, False, err=True)
            click.echo(err=True)
        consequence = (
            f"{name!r} goes on with what node {keep!r} has; what only the other histories have is lost for ever."
        )
        sure(tools, yes, consequence)
        await admin.resolve(name, keep)

    tools.ask(work)
    told(
        f"{name} goes on with the history of {keep}; `dst watch {name}` shows the resync",
        done="resolve",
        storage=name,
        keep=keep,
    )


@storage.command(short_help="Make it larger: its media has grown.")
@click.argument("name", shell_complete=complete_storage)
@json_option("what was done")
@click.pass_obj
def grow(tools: Tools, name: str, as_json: bool) -> None:
    """
    Make the storage NAME as large as all its members have room for.

    Make the media of every member larger first. The storage goes on serving meanwhile, and nothing that it holds is
    touched; the new part reads as zeroes. Clients of the NBD protocol see the new size when they connect again.

    \b
    Example:
      dst storage grow vol
    """

    size = tools.ask(lambda admin, clock: _grow(admin, name))
    told(f"{name} has {size_in_words(size)} now ({size} bytes)", done="grow", storage=name, size=size)


async def _grow(admin: IClusterAdmin, name: str) -> int:
    before = await _size(admin, name)
    while True:
        try:
            await admin.grow(name)
        except DeadlinePassed:
            continue  # the daemon goes on, and only its answer had a limit
        except InvalidRequest:
            if await _size(admin, name) == before:
                raise  # otherwise it was done between two answers
        return await _size(admin, name)


async def _size(admin: IClusterAdmin, name: str) -> int:
    return next((tree.size for tree in await admin.status() if tree.name == name), 0)


@storage.command("pause-resync", short_help="Copy nothing more, for now.")
@click.argument("name", shell_complete=complete_storage)
@click.argument("node", required=False, shell_complete=complete_member)
@json_option("what was done")
@click.pass_obj
def pause_resync(tools: Tools, name: str, node: str | None, as_json: bool) -> None:
    """
    Copy nothing more to NODE of the storage NAME, or to any of its members.

    What was copied stays. Until it is resumed the storage has that copy less.

    \b
    Example:
      dst storage pause-resync vol b
    """
    operate(
        tools,
        lambda admin: admin.pause_resync(name, node),
        f"resync of {node or 'every member'} of {name} is paused; `dst storage resume-resync {name}"
        + (f" {node}`" if node else "`")
        + " goes on",
        done="pause-resync",
        storage=name,
        node=node,
    )


@storage.command("resume-resync", short_help="Go on copying.")
@click.argument("name", shell_complete=complete_storage)
@click.argument("node", required=False, shell_complete=complete_member)
@json_option("what was done")
@click.pass_obj
def resume_resync(tools: Tools, name: str, node: str | None, as_json: bool) -> None:
    """
    Go on copying to NODE of the storage NAME, or to all its members.

    \b
    Example:
      dst storage resume-resync vol
    """
    operate(
        tools,
        lambda admin: admin.resume_resync(name, node),
        f"resync of {node or 'every member'} of {name} goes on",
        done="resume-resync",
        storage=name,
        node=node,
    )


@storage.command(short_help="Compare all copies, and mend what is evident.")
@click.argument("name", shell_complete=complete_storage)
@click.option("--no-repair", is_flag=True, help="Only look: nothing is changed.")
@json_option("what was done")
@click.pass_obj
def scrub(tools: Tools, name: str, no_repair: bool, as_json: bool) -> None:
    """
    Compare all copies of the storage NAME, in the background; clients and resyncs come first.

    What one copy cannot read, or has otherwise than most of at least three, is written anew. Where no copy is more
    credible than another nothing is changed: `dst storage scrubs` says where.

    \b
    Examples:
      dst storage scrub vol
      dst storage scrub vol --no-repair
    """
    operate(
        tools,
        lambda admin: admin.scrub(name, repair=not no_repair),
        f"{name} is being scrubbed; `dst storage scrubs {name}` says how far it is",
        done="scrub",
        storage=name,
        repair=not no_repair,
    )


@storage.command("stop-scrub", short_help="Stop the scrub that goes on.")
@click.argument("name", shell_complete=complete_storage)
@json_option("what was done")
@click.pass_obj
def stop_scrub(tools: Tools, name: str, as_json: bool) -> None:
    """
    Stop the scrub of the storage NAME. What it has mended stays.

    \b
    Example:
      dst storage stop-scrub vol
    """
    operate(
        tools,
        lambda admin: admin.stop_scrub(name),
        f"{name} is not being scrubbed any more",
        done="stop-scrub",
        storage=name,
    )


@storage.command(short_help="How far a scrub is, and what the last ones found.")
@click.argument("name", shell_complete=complete_storage)
@json_option("the answer of GET /v1/storages/NAME/scrubs")
@click.pass_obj
def scrubs(tools: Tools, name: str, as_json: bool) -> None:
    """
    Show the scrubs of the storage NAME: how far, what was found, and where nobody can tell which copy is right.

    \b
    Example:
      dst storage scrubs vol
    """
    from dst.admin.display_explained import scrub_lines

    records = tools.ask(lambda admin, clock: _scrubs(admin, name))
    if as_json:
        show_json(scrubs_to_envelope(records, tools.now()))
    elif records:
        screen = console(sys.stdout)
        for line in scrub_lines(records):
            screen.print(line, soft_wrap=True)
    else:
        click.echo(f"{name} has not been scrubbed; `dst storage scrub {name}` begins")


async def _scrubs(admin: IClusterAdmin, name: str) -> list[ScrubRecord]:
    return await admin.scrubs(name)


@storage.command(short_help="The resyncs that have ended, and why they were.")
@click.argument("name", shell_complete=complete_storage)
@json_option("the answer of GET /v1/storages/NAME/resyncs")
@click.pass_obj
def history(tools: Tools, name: str, as_json: bool) -> None:
    """
    Show the resyncs of the storage NAME that have ended: why, how much, how long.

    \b
    Examples:
      dst storage history vol
      dst storage history vol --json | jq '.resyncs[-1]'
    """
    from dst.admin.display_explained import resync_lines

    records = tools.ask(lambda admin, clock: _resyncs(admin, name))
    if as_json:
        show_json(resyncs_to_envelope(records, tools.now()))
    elif records:
        screen = console(sys.stdout)
        for line in resync_lines(records):
            screen.print(line, soft_wrap=True)
    else:
        click.echo(f"no resync of {name} has ended since the daemon was started")


async def _resyncs(admin: IClusterAdmin, name: str) -> object:
    return await admin.resyncs(name)
