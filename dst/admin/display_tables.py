"""
Lists as text: columns as wide as they have to be, the last one wrapped where a screen is too narrow.

Values in, L{rich.text.Text} out, as in L{dst.admin.display}.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.text import Text

from dst.administration import (
    Event,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationState,
    OperationStatus,
    Plan,
    PlanStep,
    SessionStatus,
    Severity,
)
from dst.words import duration_in_words, percent_in_words, printable, size_in_words

__all__ = [
    "Cell",
    "event_lines",
    "export_lines",
    "finding_lines",
    "listener_lines",
    "operation_lines",
    "operation_sentence",
    "plan_lines",
    "session_lines",
    "table_lines",
]

Cell = tuple[str, str]
"""Text and style."""

_GAP = "  "
_NUMBER = re.compile(r"\d[\d.]*( [KMGTPE]?i?B)?|")
_CELL_MIN = 8
_LAST_CELLS_MIN = 24

_SEVERITY_STYLES = {Severity.INFO: "", Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}
_STATE_STYLES = {OperationState.RUNNING: "cyan", OperationState.DONE: "green", OperationState.FAILED: "bold red"}


def table_lines(
    headings: Sequence[str], rows: Iterable[Sequence[str | Cell]], width: int | None = None
) -> list[Text]:
    """
    One line for the headings and one or more for each row.

    @param rows: what is in each column; a number is set to the right, everything else to the left.
    @param width: cells of a line.  The last column is wrapped to what is left of it, and where that is too little,
        the widest of the others are cut.  C{None}: neither.
    """
    everything = [[_cell(each) for each in row] for row in rows]
    cells = [
        max([cell_len(heading), *(cell_len(row[column][0]) for row in everything)])
        for column, heading in enumerate(headings)
    ]
    if width is not None:
        _narrow(cells, width)
    right = [all(_is_number(row[column][0]) for row in everything) for column in range(len(cells))]
    lines = list(_row([(heading, "dim") for heading in headings], cells, right, width))
    for row in everything:
        lines.extend(_row(row, cells, right, width))
    return lines


def _cell(value: str | Cell) -> Cell:
    text, style = (value, "") if isinstance(value, str) else value
    return printable(text), style


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _narrow(cells: list[int], width: int) -> None:
    """Make the widest of all but the last column narrower, until the last one has some room."""
    while len(cells) > 1 and sum(cells[:-1]) + len(_GAP) * (len(cells) - 1) + min(cells[-1], _LAST_CELLS_MIN) > width:
        widest = max(range(len(cells) - 1), key=lambda column: cells[column])
        if cells[widest] <= _CELL_MIN:
            return
        cells[widest] -= 1


def _row(row: Sequence[Cell], cells: Sequence[int], right: Sequence[bool], width: int | None) -> list[Text]:
    text = Text()
    for (said, style), room, to_right in list(zip(row, cells, right, strict=True))[:-1]:
        fitted = _fit(said, room)
        text.append(fitted.rjust(room) if to_right else fitted + " " * (room - cell_len(fitted)), style)
        text.append(_GAP)
    said, style = row[-1]
    indent = " " * cell_len(text.plain)
    room_left = None if width is None else max(_LAST_CELLS_MIN, width - len(indent))
    first, *others = wrapped(said, room_left)
    text.append(first.rjust(cells[-1]) if right[-1] else first, style)
    text.rstrip()
    return [text, *(Text.assemble(indent, (line, style)) for line in others)]


def _fit(text: str, cells: int) -> str:
    if cell_len(text) <= cells:
        return text
    while cell_len(text) > cells - 1:
        text = text[:-1]
    return text + "…"


def wrapped(sentence: str, room: int | None) -> list[str]:
    """C{sentence} in lines of C{room} cells; words that are longer stay whole."""
    lines = [""]
    for word in sentence.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if room is not None and lines[-1] and cell_len(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _ago(now: float, then: float) -> str:
    return duration_in_words(now - then) if then else ""


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _moment(moment: float, now: float) -> str:
    """As short as it can be understood."""
    then = time.localtime(moment)
    if time.strftime("%Y-%m-%d", then) == time.strftime("%Y-%m-%d", time.localtime(now)):
        return time.strftime("%H:%M:%S", then)
    return time.strftime("%m-%d %H:%M", then)


# -- what is served ----------------------------------------------------------------


def export_lines(exports: Iterable[ExportStatus], width: int | None = None) -> list[Text]:
    """One line for every export."""
    rows: list[list[str | Cell]] = [
        [
            each.name,
            each.device,
            size_in_words(each.size) if each.size else "",
            "read" if each.read_only else "read, write",
            str(each.sessions),
            size_in_words(each.traffic.read_bytes),
            size_in_words(each.traffic.written_bytes),
            (str(each.traffic.errors), "red" if each.traffic.errors else "dim"),
            allowed_in_words(each.allow),
        ]
        for each in exports
    ]
    return table_lines(
        ["NAME", "DEVICE", "SIZE", "MODE", "CLIENTS", "READ", "WRITTEN", "ERRORS", "WHO MAY USE IT"], rows, width
    )


def allowed_in_words(allow: Sequence[dict[str, str]] | None) -> str:
    """An access list."""
    if allow is None:
        return "this machine"
    if not allow:
        return "nobody"
    said = []
    for rule in allow:
        who = rule.get("identity") or "anybody"
        where = f" at {rule['network']}" if rule.get("network") else ""
        said.append(f"{who}{where}: {rule.get('access', '?')}")
    return "; ".join(said)


def session_lines(sessions: Iterable[SessionStatus], *, now: float, width: int | None = None) -> list[Text]:
    """One line for every client."""
    rows: list[list[str | Cell]] = [
        [
            each.id,
            each.export,
            each.protocol,
            "TLS" if each.encrypted else "plain",
            "read" if each.read_only else "read, write",
            str(each.in_flight),
            size_in_words(each.traffic.read_bytes),
            size_in_words(each.traffic.written_bytes),
            _ago(now, each.since),
            f"{each.identity} at {each.peer}" if each.identity else each.peer,
        ]
        for each in sessions
    ]
    headings = ["ID", "EXPORT", "PROTOCOL", "WIRE", "MODE", "IN FLIGHT", "READ", "WRITTEN", "FOR", "CLIENT"]
    return table_lines(headings, rows, width)


def listener_lines(listeners: Iterable[ListenerStatus], width: int | None = None) -> list[Text]:
    """One line for every place where somebody can connect."""
    rows: list[list[str | Cell]] = [
        [
            each.protocol,
            each.address,
            (each.tls, "green" if each.tls == "required" else ""),
            str(each.connections),
            each.endpoint,
        ]
        for each in listeners
    ]
    return table_lines(["PROTOCOL", "ADDRESS", "TLS", "CONNECTIONS", "AS CONFIGURED"], rows, width)


# -- what was asked for, and what happened --------------------------------------------


def operation_sentence(operation: OperationStatus) -> str:
    """What it does and how far it is."""
    facts = [operation.sentence] if operation.sentence else []
    if operation.bytes_total and operation.bytes_left is not None and operation.state is OperationState.RUNNING:
        done = operation.bytes_total - operation.bytes_left
        facts.append(f"{percent_in_words(done, operation.bytes_total)}, {size_in_words(operation.bytes_left)} left")
    return "; ".join(facts)


def operation_lines(operations: Iterable[OperationStatus], *, now: float, width: int | None = None) -> list[Text]:
    """One line for every operation."""
    rows: list[list[str | Cell]] = [
        [
            each.id,
            each.kind,
            each.subject,
            (each.state.value, _STATE_STYLES[each.state]),
            _moment(each.began, now),
            duration_in_words((now if each.ended is None else each.ended) - each.began),
            operation_sentence(each) + (f" (asked by {each.asked_by})" if each.asked_by else ""),
        ]
        for each in operations
    ]
    return table_lines(["ID", "WHAT", "OF", "STATE", "BEGAN", "TOOK", "HOW IT IS"], rows, width)


def event_lines(
    events: Iterable[Event], width: int | None = None, *, headings: bool = True, number_cells: int = 1
) -> list[Text]:
    """
    One line for every event.

    @param headings: whether there is a line above them: not where they come one by one.
    """
    rows: list[list[str | Cell]] = [
        [
            str(each.number).rjust(number_cells),
            _clock(each.time),
            ("over    ", "green") if each.cleared else (f"{each.severity.value:8}", _SEVERITY_STYLES[each.severity]),
            f"{each.sentence}{f' [{each.code}]' if each.code else ''}",
        ]
        for each in events
    ]
    lines = table_lines(["NUMBER", "TIME", "SEVERITY", "WHAT HAPPENED"], rows, width)
    return lines if headings else lines[1:]


def finding_lines(findings: Iterable[HealthFinding], *, now: float, width: int | None = None) -> list[Text]:
    """One line for everything that is not as it should be."""
    rows: list[list[str | Cell]] = [
        [
            (each.severity.value, _SEVERITY_STYLES[each.severity]),
            each.code,
            each.subject or "the daemon",
            _ago(now, each.since),
            each.sentence,
        ]
        for each in findings
    ]
    return table_lines(["SEVERITY", "CODE", "OF", "FOR", "WHAT"], rows, width)


# -- what is going to be done -----------------------------------------------------------


def plan_lines(plan: Plan, width: int | None = None) -> list[Text]:
    """What is going to be done, step by step, and what it costs."""
    rows: list[list[str | Cell]] = [
        [
            f"{number}.",
            (step.action, "bold red" if step.destructive else "bold"),
            step.kind,
            step.subject,
            _step_in_words(step),
        ]
        for number, step in enumerate(plan.steps, 1)
    ]
    lines = table_lines(["", "DO", "WITH", "OF", "WHAT HAPPENS"], rows, width)
    copied = sum(step.bytes_to_copy for step in plan.steps)
    exposed = sum(step.seconds_exposed or 0.0 for step in plan.steps)
    facts = []
    if copied:
        facts.append(f"{size_in_words(copied)} are copied")
    if exposed:
        facts.append(f"redundancy is lower for about {duration_in_words(max(1.0, exposed))}")
    if any(step.after_restart for step in plan.steps):
        facts.append("some of it takes effect when the daemon is started again")
    if facts:
        lines.append(Text("In all: " + "; ".join(facts) + "."))
    if plan.destructive:
        lines.append(Text("What is marked with (!) gives up data or redundancy.", "bold red"))
    return lines


def _step_in_words(step: PlanStep) -> str:
    sentence = step.sentence.rstrip(".")
    in_bytes = f"{step.bytes_to_copy} bytes"
    facts = [sentence.replace(in_bytes, size_in_words(step.bytes_to_copy))]
    if step.bytes_to_copy and in_bytes not in sentence:
        facts.append(f"{size_in_words(step.bytes_to_copy)} to copy")
    if step.seconds_exposed is not None:
        facts.append(f"redundancy is lower for about {duration_in_words(max(1.0, step.seconds_exposed))}")
    if step.after_restart:
        facts.append("at the next start")
    return ("(!) " if step.destructive else "") + "; ".join(facts)
