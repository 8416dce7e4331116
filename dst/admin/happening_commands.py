"""
The commands of C{dst} on what was asked for, what happened, and what is not as it should be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.defer import CancelledError

from dst.admin.changing import followed
from dst.admin.completing import complete_operation
from dst.admin.listing import listed, show_table
from dst.admin.looking import look
from dst.admin.places import Place
from dst.admin.schema import API_VERSION
from dst.admin.tools import Tools, Work, console, fail, json_option, show_json, sleep
from dst.administration import Event, HealthFinding, OperationState, OperationStatus, Severity
from dst.errors import DSTError
from dst.words import printable

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["event", "health", "operation"]

LOOK_S = 1.0
"""How often is looked for new events."""

_SEVERITIES = [each.value for each in Severity]


# -- operations -----------------------------------------------------------------------


@click.group(short_help="What was asked for, and how far it is.")
def operation() -> None:
    """
    What was asked for lately, and how far it is.

    \b
    Examples:
      dst operation list
      dst operation wait 3f2a-7
    """


def _operation_lines(operations: list[OperationStatus], now: float, width: int | None) -> list[Any]:
    from dst.admin.display_tables import operation_lines

    return operation_lines(operations, now=now, width=width)


@operation.command("list", short_help="The latest operations.")
@click.option("--running", is_flag=True, help="Only those that are not done.")
@json_option("the answer of GET /v1/operations")
@click.pass_obj
def list_operations(tools: Tools, running: bool, as_json: bool) -> None:
    """
    Show what was asked for lately, the newest first.

    \b
    Example:
      dst operation list --running
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> list[OperationStatus]:
        operations = await admin.operations()
        return [each for each in operations if not running or each.state is OperationState.RUNNING]

    listed(tools, "operations", work, _operation_lines, "nothing was asked for lately", as_json)


@operation.command(short_help="One operation.")
@click.argument("id", shell_complete=complete_operation)
@json_option("the answer of GET /v1/operations/ID")
@click.pass_obj
def show(tools: Tools, id: str, as_json: bool) -> None:
    """
    Show the operation ID: what it does, how far it is, or why it failed.

    \b
    Example:
      dst operation show 3f2a-7
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> OperationStatus:
        return await admin.operation(id)

    _told(tools, tools.ask(work), as_json)


def _told(tools: Tools, found: OperationStatus, as_json: bool) -> None:
    if as_json:
        from dst.admin.codec import to_json

        show_json({"version": API_VERSION, "time": tools.now(), "operation": to_json(found)})
        return
    show_table(tools, [found], _operation_lines, "")


@operation.command(short_help="Wait until it is done.")
@click.argument("id", shell_complete=complete_operation)
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(1),
    default=3600.0,
    show_default=True,
    help="How long to wait; it goes on without you.",
)
@json_option("the answer of GET /v1/operations/ID")
@click.pass_obj
def wait(tools: Tools, id: str, timeout_s: float, as_json: bool) -> None:
    """
    Wait until the operation ID is done, and show how far it is. If it fails, so does this.

    \b
    Example:
      dst operation wait 3f2a-7 --timeout 600 || echo "not done"
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> OperationStatus:
        found = await admin.operation(id)
        return await followed(tools, admin, clock, found, timeout_s, whole=frozenset())

    found: OperationStatus = tools.ask(work)
    if found.state is OperationState.FAILED:
        fail(
            printable(found.sentence or "it failed"),
            "`dst status` says how things are now",
            code=found.error_code or "failed",
        )
    _told(tools, found, as_json)


# -- events ---------------------------------------------------------------------------


@click.group(short_help="What happened.")
def event() -> None:
    """
    What happened: states that changed, operations, clients, resyncs.

    \b
    Examples:
      dst event list --last 20
      dst event follow
    """


def _matches(event: Event, about: str | None, severity: str | None) -> bool:
    if about is not None and event.subject != about and not event.subject.startswith(about + "/"):
        return False
    return severity is None or _SEVERITIES.index(event.severity.value) >= _SEVERITIES.index(severity)


_ABOUT = click.option("--about", metavar="NAME", help="Only of this storage, node or export.")
_SEVERITY = click.option("--severity", type=click.Choice(_SEVERITIES), help="Only what is at least so grave.")


@event.command("list", short_help="The latest events.")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="How many, at most.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only those with a greater number.")
@_ABOUT
@_SEVERITY
@json_option("the answer of GET /v1/events")
@click.pass_obj
def list_events(tools: Tools, last: int, after: int, about: str | None, severity: str | None, as_json: bool) -> None:
    """
    Show what happened, the newest last.

    \b
    Examples:
      dst event list --about vol
      dst event list --severity warning --json | jq -r '.events[].sentence'
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> list[Event]:
        return [each for each in await _all_after(admin, after) if _matches(each, about, severity)][-last:]

    def lines(events: list[Event], now: float, width: int | None) -> list[Any]:
        from dst.admin.display_tables import event_lines

        return event_lines(events, width)

    listed(tools, "events", work, lines, "nothing has happened that is still known", as_json)


async def _all_after(admin: IClusterAdmin, after: int) -> list[Event]:
    """However many answers that takes."""
    events: list[Event] = []
    while True:
        more = [each for each in await admin.events(after) if each.number > after or not events]
        if not more:
            return events
        events += more
        if more[-1].number <= after:
            return events  # the daemon has begun to count anew
        after = more[-1].number


@event.command("follow", short_help="What happens, as it happens.")
@click.option("--after", type=click.IntRange(0), help="Begin with those after this number.  [default: now]")
@_ABOUT
@_SEVERITY
@json_option("one event a line")
@click.pass_obj
def follow_events(tools: Tools, after: int | None, about: str | None, severity: str | None, as_json: bool) -> None:
    """
    Show what happens, as it happens, until Ctrl-C.

    \b
    Examples:
      dst event follow
      dst event follow --json | jq --unbuffered -r 'select(.code) | .code'
    """
    screen = console(sys.stdout)

    several = len(tools.places) > 1

    def say(place: Place, events: list[Event]) -> None:
        events = [each for each in events if _matches(each, about, severity)]
        if as_json:
            from dst.admin.codec import to_json

            named = {"daemon": place.name} if several else {}
            for each in events:
                click.echo(json.dumps({**named, **to_json(each)}))
        elif events:
            from dst.admin.display_tables import event_lines

            width = screen.width if screen.is_terminal else None
            name = f"{printable(place.name)}: " if several else ""
            for line in event_lines(
                events, None if width is None else width - len(name), headings=False, number_cells=6
            ):
                screen.print(name, line, sep="", soft_wrap=True)
        sys.stdout.flush()

    def lost(place: Place, error: DSTError) -> None:
        name = f"{place.name}: " if several else ""
        click.echo(f"... {printable(name + error.message)}; it is tried again", err=True)

    def work(place: Place) -> Work:
        told, gone = partial(say, place), partial(lost, place)
        return lambda admin, clock: _follow(admin, clock, after, told, gone, patient=several)

    try:
        tools.follow_each(work)
    except CancelledError:
        pass  # Ctrl-C is how it ends


async def _follow(
    admin: IClusterAdmin,
    clock: IReactorTime,
    after: int | None,
    say: Callable[[list[Event]], None],
    gone: Callable[[DSTError], None],
    *,
    patient: bool,
) -> None:
    been_there = patient
    lost = False
    while True:
        try:
            if after is None:
                known = await _all_after(admin, 0)
                after = known[-1].number if known else 0
            events = await _all_after(admin, after)
        except DSTError as error:
            if not been_there:
                raise
            if not lost:
                gone(error)
            lost = True
        else:
            been_there, lost = True, False
            if events:
                say(events)
                after = events[-1].number
        await sleep(clock, LOOK_S)


# -- health ---------------------------------------------------------------------------


@click.command(short_help="What is not as it should be.")
@click.option("--exit-code", is_flag=True, help="Exit with 3 if there is anything but information.")
@json_option("the answer of GET /v1/health")
@click.pass_obj
def health(tools: Tools, exit_code: bool, as_json: bool) -> None:
    """
    Show what is not as it should be, with a code that never changes its meaning. The manual has a page for each.

    \b
    Examples:
      dst health
      dst health --exit-code || mail -s "DST needs you" root < /dev/null
      dst health --json | jq -r '.findings[].code'
    """

    async def work(admin: IClusterAdmin, clock: IReactorTime) -> list[HealthFinding]:
        return await admin.health()

    def worst(findings: list[HealthFinding]) -> int:
        return max((_SEVERITIES.index(each.severity.value) for each in findings), default=-1)

    def show(findings: list[HealthFinding]) -> None:
        show_table(tools, findings, lines, "everything is as it should be")
        if findings:
            click.echo("\n`dst explain` says why, and what you can do")

    def lines(findings: list[HealthFinding], now: float, width: int | None) -> list[Any]:
        from dst.admin.display_tables import finding_lines

        return finding_lines(findings, now=now, width=width)

    def told(findings: list[HealthFinding]) -> dict[str, Any]:
        from dst.admin.codec import to_json

        word = _SEVERITIES[worst(findings)] if findings else None
        found = [to_json(each) for each in findings]
        return {"version": API_VERSION, "time": tools.now(), "worst": word, "findings": found}

    look(tools, work, show, told, as_json, unhealthy=lambda findings: exit_code and worst(findings) > 0)
