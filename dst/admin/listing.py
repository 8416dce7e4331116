"""
Lists, and one out of a list: for people a table, for scripts what the REST interface answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dst.admin.codec import to_json
from dst.admin.looking import look
from dst.admin.schema import API_VERSION
from dst.admin.tools import Tools, Work, show_lines
from dst.errors import NotFound

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["listed", "one_of", "show_table"]

T = TypeVar("T")


def listed(
    tools: Tools,
    kind: str,
    work: Work,
    lines: Callable[[list[Any], float, int | None], list[Text]],
    nothing: str,
    as_json: bool,
) -> None:
    """
    Show what C{work} finds.

    @param kind: the word for it in JSON.
    @param lines: makes the table; given the time now and the cells of a line.
    @param nothing: what is said if there is none.
    """
    look(
        tools,
        work,
        lambda values: show_table(tools, values, lines, nothing),
        lambda values: {"version": API_VERSION, "time": tools.now(), kind: [to_json(each) for each in values]},
        as_json,
    )


def show_table(
    tools: Tools, values: list[Any], lines: Callable[[list[Any], float, int | None], list[Text]], nothing: str
) -> None:
    """C{values} for a person; C{nothing} if there are none."""
    if values:
        show_lines(lambda width: lines(values, tools.now(), width))
    else:
        click.echo(nothing)


def one_of(values: Sequence[T], name: str, what: str, *, key: str = "name") -> T:
    """
    @raise NotFound: none of C{values} is called that; with what there is.
    """
    for value in values:
        if getattr(value, key) == name:
            return value
    from dst.cluster.rules import did_you_mean

    names = [str(getattr(value, key)) for value in values]
    raise NotFound(f"there is no {what} {name!r} here{did_you_mean(name, names)}")
