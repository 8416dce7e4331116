"""
How the C{dst} command changes what is wanted: look, edit, show the plan, ask, tell the daemon, follow.

Nothing is changed by halves: a configuration that somebody else has changed since it was looked at is refused by the
daemon, and nothing is done then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NoReturn

import click
from attrs import frozen

from dst.admin.tools import (
    EXIT_GOES_ON,
    YES,
    Tools,
    console,
    fail,
    json_option,
    json_wanted,
    show_json,
    show_lines,
    sleep,
    sure,
)
from dst.administration import Configuration, OperationState, OperationStatus, Plan
from dst.errors import DSTError, InvalidRequest
from dst.status import MemberState, StatusTree
from dst.words import printable

if TYPE_CHECKING:
    from rich.text import Text
    from twisted.internet.interfaces import IReactorTime

    from dst.interfaces import IClusterAdmin

__all__ = ["Document", "How", "change", "change_options", "followed", "how_of"]

LOOK_S = 0.3
"""How often is looked how an operation goes on."""

Document = dict[str, Any]


@frozen
class How:
    """
    What a person said about a change, beside what it is.

    @ivar plan_only: show what would be done, and do nothing.
    @ivar wait: C{"begun"}, C{"done"}, or C{"whole"}: until nothing is left to be copied.
    """

    yes: bool
    plan_only: bool
    wait: str
    timeout_s: float


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command has which changes what is wanted; L{how_of} reads them."""
    for option in reversed(
        (
            click.option("--plan", "plan_only", is_flag=True, help="Show what would be done, and do nothing."),
            click.option("--wait", "whole", is_flag=True, help="Wait until everything is copied, too."),
            click.option("--no-wait", "begun", is_flag=True, help="Do not even wait until it is done."),
            click.option(
                "--timeout",
                "timeout_s",
                metavar="SECONDS",
                type=click.FloatRange(1),
                default=3600.0,
                show_default=True,
                help="How long to wait; it goes on without you.",
            ),
            YES,
            json_option("the plan, and the operation it has become"),
        )
    ):
        command = option(command)
    return command


def how_of(options: dict[str, Any]) -> How:
    """What the options of L{change_options} say."""
    if options["whole"] and options["begun"]:
        raise click.UsageError("say --wait or --no-wait, not both")
    wait = "whole" if options["whole"] else "begun" if options["begun"] else "done"
    return How(options["yes"], options["plan_only"], wait, options["timeout_s"])


def change(tools: Tools, how: How, edit: Callable[[Document], Document | None]) -> None:
    """
    Change what is wanted, from the first look to the last word.

    @param edit: is given a copy of the document, and edits it or returns another one; what it raises ends the
        command.
    """
    tools.ask(lambda admin, clock: _change(tools, admin, clock, how, edit))


async def _change(
    tools: Tools,
    admin: IClusterAdmin,
    clock: IReactorTime,
    how: How,
    edit: Callable[[Document], Document | None],
) -> None:
    configuration = await admin.configuration()
    document = deepcopy(configuration.document)
    edited = edit(document)
    document = document if edited is None else edited
    plan = await admin.plan(document)
    if not json_wanted():
        _show_plan(plan, err=not how.plan_only)
    if how.plan_only or not plan.steps:
        if json_wanted():
            show_json(_outcome(plan, None))
        elif not plan.steps:
            click.echo("nothing is to be done: it is like that already")
        return
    if configuration.writable:
        raise _not_writable(configuration)
    if plan.destructive or tools.can_ask():
        sure(tools, how.yes, "")
    operation = await admin.change(document, configuration.etag)
    if how.wait != "begun":
        storages = _storages_of(plan) if how.wait == "whole" else frozenset()
        operation = await followed(tools, admin, clock, operation, how.timeout_s, whole=storages)
    _conclude(plan, operation)
    if operation.state is OperationState.DONE and not json_wanted():
        _show_storages(tools, plan, await admin.status())


def _storages_of(plan: Plan) -> frozenset[str]:
    """The names of what it is about; among them the storages whose members it is about."""
    return frozenset(step.subject.partition("/")[0] for step in plan.steps)


def _show_storages(tools: Tools, plan: Plan, trees: list[StatusTree]) -> None:
    """How those are now that the plan was about."""
    from dst.admin.display import status_lines

    names = _storages_of(plan)
    concerned = [tree for tree in trees if tree.name in names]
    if concerned:
        click.echo()
        show_lines(lambda width: status_lines(concerned, now=tools.now(), width=width))


def _not_writable(configuration: Configuration) -> DSTError:
    error = InvalidRequest(f"the configuration cannot be changed here: {configuration.writable}")
    error.correction = "change the file, and start the daemon again"  # type: ignore[attr-defined]
    return error


def _show_plan(plan: Plan, *, err: bool) -> None:
    if plan.steps:
        from dst.admin.display_tables import plan_lines

        show_lines(lambda width: plan_lines(plan, width), err=err)


def _outcome(plan: Plan | None, operation: OperationStatus | None) -> dict[str, Any]:
    from dst.admin.codec import to_json
    from dst.admin.schema import API_VERSION

    told: dict[str, Any] = {"version": API_VERSION}
    if plan is not None:
        told["plan"] = {**to_json(plan), "destructive": plan.destructive}
    told["operation"] = None if operation is None else to_json(operation)
    return told


def _conclude(plan: Plan, operation: OperationStatus) -> None:
    if operation.state is OperationState.FAILED:
        _failed(operation)
    if json_wanted():
        show_json(_outcome(plan, operation))
    elif operation.state is OperationState.RUNNING:
        click.echo(f"begun; `dst operation wait {operation.id}` tells when it is done")
    else:
        click.echo(printable(operation.sentence) or "done")


def _failed(operation: OperationStatus) -> None:
    fail(
        printable(operation.sentence or "it failed, and nothing was said about it"),
        f"`dst operation show {operation.id}`, and `dst status` for how things are now",
        code=operation.error_code or "failed",
    )


# -- following ------------------------------------------------------------------------


class _Watcher:
    """What a person sees of an operation: on a terminal it moves; elsewhere every change is a line."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._screen = console(sys.stderr)
        self._live: Any = None
        self._said: list[str] = []

    def __enter__(self) -> _Watcher:
        if self._screen.is_terminal and not json_wanted():
            from rich.live import Live

            self._live = Live(console=self._screen, auto_refresh=False, transient=True, vertical_overflow="crop")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, sentence: str, trees: list[StatusTree]) -> None:
        """
        How it is now.

        @param trees: the storages that are not as they are to be.
        """
        if json_wanted():
            return
        if self._live is not None:
            self._live.update(self._drawn(sentence, trees), refresh=True)
            return
        for line in (sentence, *_copying(trees)):
            if line and line not in self._said:
                self._said.append(line)
                click.echo(f"... {printable(line)}", err=True)

    def _drawn(self, sentence: str, trees: list[StatusTree]) -> Any:
        from rich.console import Group
        from rich.text import Text

        from dst.admin.display import status_lines

        lines: list[Text] = [Text(printable(sentence), "cyan")] if sentence else []
        if trees:
            ascii_only = not self._screen.encoding.lower().startswith("utf")
            lines += status_lines(trees, now=self._tools.now(), width=self._screen.width, ascii_only=ascii_only)
        return Group(*lines)


async def followed(
    tools: Tools,
    admin: IClusterAdmin,
    clock: IReactorTime,
    operation: OperationStatus,
    timeout_s: float,
    *,
    whole: frozenset[str],
) -> OperationStatus:
    """
    The operation when it has ended.  After C{timeout_s} the command ends, and the operation goes on.

    @param whole: storages that are also waited for, until every member of them has everything.
    """
    from dst.admin.display_tables import operation_sentence

    end = clock.seconds() + timeout_s
    with _Watcher(tools) as watcher:
        while True:
            trees = await admin.status()
            unfinished = [tree for tree in trees if tree.name in whole and not _is_whole(tree)]
            if operation.state is OperationState.DONE and not unfinished:
                return operation
            if operation.state is OperationState.FAILED:
                return operation
            if clock.seconds() >= end:
                _goes_on(operation, timeout_s)
            sentence = operation_sentence(operation)
            what = f"{operation.kind} {operation.subject}".strip()
            copied = [tree for tree in trees if _is_copied(tree)]
            watcher.show(f"{what}: {sentence}" if sentence else what, unfinished or copied)
            await sleep(clock, LOOK_S)
            if operation.state is OperationState.RUNNING:
                operation = await admin.operation(operation.id)


def _goes_on(operation: OperationStatus, timeout_s: float) -> NoReturn:
    what = "it is not done"
    if operation.state is not OperationState.RUNNING:
        what = "it is done, but not everything is copied"
    fail(
        f"{what} after {timeout_s:g} s; the daemon goes on",
        f"`dst operation wait {operation.id}`, or `dst watch`",
        code="goes-on",
        exit_code=EXIT_GOES_ON,
    )


def _copying(trees: list[StatusTree]) -> list[str]:
    """How far the copying is, in tens: a line for each is enough in a log."""
    said = []
    for tree in trees:
        for each in tree.walk():
            if each.resync is not None and each.resync.bytes_total > 0:
                tenths = 10 * (each.resync.bytes_total - each.resync.bytes_left) // each.resync.bytes_total
                said.append(f"{tree.name}/{each.name}: {each.resync.kind} resync, {10 * tenths}%")
    return said


def _is_copied(tree: StatusTree) -> bool:
    """Something is copied in it."""
    return any(each.resync is not None for each in tree.walk())


def _is_whole(tree: StatusTree) -> bool:
    """Every member has everything, as far as that depends on time and not on a person."""
    words = (MemberState.ABSENT.value, MemberState.RESYNCING.value)
    return not _is_copied(tree) and not any(member.state in words for member in tree.children)
