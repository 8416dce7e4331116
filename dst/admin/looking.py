"""
What only looks, at one daemon or at several: each under its name, and the command ends as the worst of them has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from dst.admin.places import Place
from dst.admin.schema import API_VERSION
from dst.admin.tools import EXIT_NOT_HEALTHY, Tools, Work, error_as_json, fail_with, in_words, show_error, show_json
from dst.errors import DSTError, NotFound
from dst.words import printable

__all__ = ["heading", "look"]


def look(
    tools: Tools,
    work: Work,
    show: Callable[[Any], None],
    told: Callable[[Any], dict[str, Any]],
    as_json: bool,
    *,
    unhealthy: Callable[[Any], bool] = lambda answer: False,
) -> None:
    """
    Ask, and show what was answered.

    Several daemons are shown one after the other, for scripts as C{{"version": 1, "daemons": [{"daemon": NAME,
    "url": URL, ...}, ...]}} with what one daemon would have answered in each, or C{error}.  One that fails does not
    keep the others from being shown; the command ends with its exit code afterwards.

    @param work: that one daemon does not know what was asked for is no failure where another does.
    @param show: an answer to a person.
    @param told: an answer for scripts.
    @param unhealthy: whether the command ends with L{EXIT_NOT_HEALTHY} because of an answer.
    """
    if len(tools.places) == 1:
        answer = tools.ask(work)
        if as_json:
            show_json(told(answer))
        else:
            show(answer)
        if unhealthy(answer):
            sys.exit(EXIT_NOT_HEALTHY)
        return
    outcomes = tools.ask_each(work)
    known = [(place, outcome) for place, outcome in outcomes if not _does_not_know(outcome)]
    if not known:
        fail_with(outcomes[0][1])
    if as_json:
        show_json({"version": API_VERSION, "daemons": [_told(place, outcome, told) for place, outcome in known]})
    else:
        for number, (place, outcome) in enumerate(known):
            _show(place, outcome, show, first=not number)
    failures = [in_words(outcome)[-1] for _, outcome in known if isinstance(outcome, DSTError)]
    if failures:
        sys.exit(failures[0])
    if any(unhealthy(outcome) for _, outcome in known):
        sys.exit(EXIT_NOT_HEALTHY)


def _does_not_know(outcome: Any) -> bool:
    return isinstance(outcome, NotFound) and in_words(outcome)[2] == "not-found"


def _told(place: Place, outcome: Any, told: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    named = {"daemon": place.name, "url": place.url}
    if isinstance(outcome, DSTError):
        return {**named, "error": error_as_json(*in_words(outcome))}
    return {**named, **told(outcome)}


def heading(place: Place) -> tuple[str, str]:
    """What stands above that which one of several daemons has answered: its name, and where it is."""
    return f"# {printable(place.name)}", "" if place.name == place.url else f"  {printable(place.url)}"


def _show(place: Place, outcome: Any, show: Callable[[Any], None], *, first: bool) -> None:
    if not first:
        click.echo()
    name, where = heading(place)
    click.echo(click.style(name, bold=True) + where)
    sys.stdout.flush()  # what stands on standard error belongs below it
    if isinstance(outcome, DSTError):
        cause, correction, _, _ = in_words(outcome)
        show_error(cause, correction)
        sys.stderr.flush()
    else:
        show(outcome)
