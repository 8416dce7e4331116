"""
Explanations as text: what is, why, what comes next, and what a person can do, in that order.

Values in, L{rich.text.Text} out, as in L{dst.admin.display}.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from dst.explaining import Explanation, ResyncRecord, ScrubRecord
from dst.status import Health, MemberState
from dst.words import duration_in_words, printable, size_in_words

__all__ = ["explanation_lines", "resync_lines"]

_STYLES = {
    Health.HEALTHY: "green",
    Health.DEGRADED: "yellow",
    Health.FROZEN: "bold red",
    Health.FAILED: "bold red",
}

_STANDBY_ROWS = frozenset({"owned-elsewhere", "standing-by", "handed-over"})
"""Another daemon is, was or will be the owner: no trouble, though nothing is served here."""

_MEMBER_STATES = frozenset(state.value for state in MemberState)

_LABEL_CELLS = 9
_TEXT_CELLS_MIN = 24
_INDENT = "   "


def explanation_lines(
    explanations: Iterable[Explanation], *, now: float, width: int | None = None, everything: bool = False
) -> list[Text]:
    """
    The lines that show C{explanations}, each with what is below it that is not well.

    @param now: seconds of the epoch, to say how long something has been so.
    @param width: cells of a line; sentences are wrapped to it.  C{None}: nothing is wrapped.
    @param everything: explain what is healthy as fully as what is not.
    """
    lines: list[Text] = []
    for explanation in explanations:
        if lines:
            lines.append(Text(""))
        lines.extend(_lines(explanation, now, width, "", everything))
    return lines


def _is_well(explanation: Explanation) -> bool:
    return explanation.health is Health.HEALTHY and not explanation.next_step


def _lines(explanation: Explanation, now: float, width: int | None, indent: str, everything: bool) -> Iterator[Text]:
    yield _heading(explanation, now, indent)
    inner = indent + _INDENT
    if everything or not _is_well(explanation):
        yield from _labelled("why", [explanation.summary], "bold", inner, width)
        yield from _labelled("next", [explanation.next_step or "nothing: all is well"], "cyan", inner, width)
        yield from _labelled("when", [_condition(explanation)], "cyan", inner, width)
        yield from _labelled("you can", explanation.advice, "", inner, width)
        yield from _labelled("seen", explanation.evidence, "dim", inner, width)
        row = explanation.row
        yield from _labelled("decided", [f"by the row `{row}`" if row else ""], "dim", inner, width)
    for child in explanation.children:
        yield from _lines(child, now, width, inner, everything)


def _heading(explanation: Explanation, now: float, indent: str) -> Text:
    word = explanation.state
    if explanation.row in _STANDBY_ROWS:
        word = "standby"
    elif explanation.children and explanation.state not in _MEMBER_STATES:
        word = explanation.health.value
    elif explanation.state == MemberState.IN_SYNC.value and explanation.health is not Health.HEALTHY:
        word = f"{explanation.state} ({explanation.health.value})"
    style = "" if word == "standby" else _STYLES[explanation.health]
    if explanation.health is Health.HEALTHY and explanation.next_step:
        style = "yellow"
    text = Text(f"{indent}{printable(explanation.name)}", "bold")
    text.append(f"  {printable(explanation.kind)}  ", "not bold dim")
    text.append(printable(word), f"not bold {style}" if "bold" not in style else style)
    if explanation.since:
        text.append(f"  for {duration_in_words(now - explanation.since)}", "not bold dim")
    return text


def _condition(explanation: Explanation) -> str:
    within_s = explanation.within_s
    time_limit = "" if within_s is None else f"within {duration_in_words(max(1.0, within_s))}"
    if not explanation.condition:
        return time_limit
    return f"{explanation.condition}" + (f" ({time_limit} of that)" if time_limit else "")


def _labelled(label: str, sentences: Sequence[str], style: str, indent: str, width: int | None) -> Iterator[Text]:
    """The sentences beside their label, which stands at the first one only."""
    for sentence in sentences:
        if not sentence:
            continue
        left = f"{indent}{label:<{_LABEL_CELLS}}"
        for line in _wrapped(printable(sentence), None if width is None else width - cell_len(left)):
            yield Text.assemble((left, "dim"), (line, style))
            left = " " * cell_len(left)
        label = ""


def _wrapped(sentence: str, room: int | None) -> Iterator[str]:
    room = None if room is None else max(_TEXT_CELLS_MIN, room)
    line = ""
    for word in sentence.split(" "):
        longer = f"{line} {word}" if line else word
        if room is not None and line and cell_len(longer) > room:
            yield line
            longer = word
        line = longer
    yield line


def resync_lines(records: Iterable[ResyncRecord]) -> list[Text]:
    """One line for every resync that has ended, and one for its cause; the newest last."""
    lines = []
    for record in records:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.began))
        good = record.outcome == MemberState.IN_SYNC.value
        text = Text(f"{began}  {printable(record.member)}  {printable(record.kind)}  ")
        text.append(f"{size_in_words(record.bytes_copied)} of {size_in_words(record.bytes_dirty)} sent", "dim")
        text.append(f" in {duration_in_words(max(1.0, record.seconds))}  ", "dim")
        text.append(printable(record.outcome), "green" if good else "yellow")
        lines.append(text)
        row = f" (row `{printable(record.row)}`)" if record.row else ""
        lines.append(Text(f"{_INDENT}{printable(record.cause)}{row}", "dim"))
    return lines


def scrub_lines(records: Sequence[ScrubRecord]) -> list[Text]:
    """One line for every scrub, and one for each place where nobody can tell; the newest last."""
    lines = []
    for record in records:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.began))
        bad = bool(record.undecided_bytes or record.lost_bytes)
        text = Text(f"{began}  {printable(record.state)}  ")
        seen = record.bytes_total - record.bytes_left
        text.append(f"{size_in_words(seen)} of {size_in_words(record.bytes_total)} compared", "dim")
        if record.ended is not None:
            text.append(f" in {duration_in_words(max(1.0, record.ended - record.began))}", "dim")
        elif record.bytes_per_s > 0:
            text.append(f", {duration_in_words(max(1.0, record.bytes_left / record.bytes_per_s))} left", "dim")
        text.append(f"  {printable(record.sentence)}", "red" if bad else "green")
        if not record.repair:
            text.append("  (only looking)", "dim")
        lines.append(text)
        if record.waits_for:
            lines.append(Text(f"{_INDENT}{printable(record.waits_for)}", "dim"))
        for offset, length, how in record.undecided:
            lines.append(Text(f"{_INDENT}{length} bytes at {offset}: {printable(how)}", "red"))
    if any(record.undecided_bytes for record in records):
        lines.append(Text("If you know which copy is wrong: dst mark-dirty STORAGE NODE copies it again.", "dim"))
    return lines
