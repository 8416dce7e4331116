"""
The status as text: a tree with columns, and below a line what there is to explain.

Values in, L{rich.text.Text} out; nothing here knows a terminal but by its width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen
from rich.cells import cell_len
from rich.text import Text

from dst.admin.schema import is_storage
from dst.explaining import Explanation
from dst.status import Health, MemberState, ResyncProgress, StatusTree
from dst.words import duration_in_words, percent_in_words, printable, rate_in_words, size_in_words

__all__ = ["changes", "state_style", "status_lines"]

_STYLES = {
    "healthy": "green",
    "in-sync": "green",
    "ready": "green",
    "degraded": "yellow",
    "resyncing": "yellow",
    "suspended": "yellow",
    "connecting": "yellow",
    "interrupted": "yellow",
    "frozen": "bold red",
    "failed": "bold red",
    "absent": "red",
    "refused": "bold red",
    "away": "red",
    "closed": "red",
}


def state_style(word: str) -> str:
    """How a state or health is coloured; what it is can be read without."""
    return _STYLES.get(word.partition(" ")[0], "")


_BAR_CELLS = 20
_TEXT_CELLS_MIN = 24
"""However narrow the terminal is, a reason gets so much of a line."""

_NAME_CELLS_MAX = 40
_NAME_CELLS_MIN = 12
_COLUMNS_CELLS = 40
"""About what the other columns need."""

_SAID_ELSEWHERE = ("see below what can be done about", "more can be lost without losing data")
"""Advice of a storage that its members give, and what stands in the line above."""

_ADVICE_MAX = 3
"""What a person can do is said in full by C{dst explain}."""

_MEMBER_STATES = frozenset(state.value for state in MemberState)


@frozen
class _Guides:
    """The characters of the tree and of the bars."""

    branch: str
    last: str
    down: str
    full: str
    empty: str
    dot: str


_LINES = _Guides("├─ ", "└─ ", "│  ", "━", "─", " · ")
_ASCII = _Guides("|- ", "`- ", "|  ", "#", "-", ", ")


@frozen
class _Row:
    """One entry of the tree, in columns; C{below} is said under it, at C{indent}."""

    name: str
    kind: str
    size: str
    word: str
    age: str
    below: Sequence[tuple[str, str]]
    indent: str


_HEADINGS = _Row("NAME", "KIND", "SIZE", "STATE", "FOR", (), "")


def status_lines(
    trees: Iterable[StatusTree],
    *,
    now: float,
    width: int | None = None,
    ascii_only: bool = False,
    explained: Mapping[str, Explanation] | None = None,
) -> list[Text]:
    """
    The lines that show C{trees}.

    @param now: seconds of the epoch, to say how long something has been so.
    @param width: cells of a line; what explains is wrapped to it.  C{None}: nothing is wrapped.
    @param ascii_only: for terminals that cannot show lines.
    @param explained: by the name of a tree: what comes next and what a person can do, said of those that are not
        healthy.
    """
    guides = _ASCII if ascii_only else _LINES
    why = explained or {}
    groups = [list(_rows(tree, now, guides, "", "", top=True, why=why.get(tree.name))) for tree in trees]
    everything = [_HEADINGS, *(row for rows in groups for row in rows)]
    name_cells = min(_name_cells_max(width), max(cell_len(row.name) for row in everything))
    kind_cells, size_cells, word_cells = (
        max(cell_len(getattr(row, column)) for row in everything) for column in ("kind", "size", "word")
    )

    def line(row: _Row, style: str) -> Text:
        text = Text(_fit(row.name, name_cells), style="dim" if row is _HEADINGS else "")
        text.append(f"  {_fit(row.kind, kind_cells)}  {row.size:>{size_cells}}  ", "dim")
        text.append(_fit(row.word, word_cells), style)
        text.append(f"  {row.age}", "dim")
        text.rstrip()
        return text

    lines = [line(_HEADINGS, "dim")]
    for number, rows in enumerate(groups):
        if number and (len(rows) > 1 or len(groups[number - 1]) > 1):
            lines.append(Text(""))
        for row in rows:
            lines.append(line(row, state_style(row.word)))
            for sentence, style in row.below:
                lines.extend(_wrapped(sentence, style, row.indent, width))
    return lines


def _name_cells_max(width: int | None) -> int:
    """Names give way before the states do, which are what a person looks for."""
    return _NAME_CELLS_MAX if width is None else max(_NAME_CELLS_MIN, min(_NAME_CELLS_MAX, width - _COLUMNS_CELLS))


def _rows(
    tree: StatusTree,
    now: float,
    guides: _Guides,
    prefix: str,
    indent: str,
    *,
    top: bool = False,
    why: Explanation | None = None,
) -> Iterator[_Row]:
    down = indent + (guides.down if tree.children else "   ")
    yield _Row(
        name=prefix + printable(tree.name),
        kind=printable(tree.kind),
        size=size_in_words(tree.size) if tree.size else "",
        word=_word(tree, top),
        age=duration_in_words(now - tree.since) if tree.since else "",
        below=[*_below(tree, guides), *_advice(tree, why)],
        indent=down,
    )
    members = {each.name: each for each in why.children} if why is not None else {}
    for number, child in enumerate(tree.children, 1):
        last = number == len(tree.children)
        yield from _rows(
            child,
            now,
            guides,
            indent + (guides.last if last else guides.branch),
            indent + ("   " if last else guides.down),
            why=members.get(child.name),
        )


def _word(tree: StatusTree, top: bool) -> str:
    """Of a member its state, of a storage its health; both where the one does not tell the other."""
    if tree.detail.get("role") == "standby" and tree.state not in _MEMBER_STATES:
        return "standby"
    if tree.children and tree.state not in _MEMBER_STATES and (not top or is_storage(tree)):
        return tree.health.value
    if tree.children and tree.state == MemberState.IN_SYNC.value and tree.health is not Health.HEALTHY:
        return f"{tree.state} ({tree.health.value})"
    return printable(tree.state)


def _below(tree: StatusTree, guides: _Guides) -> list[tuple[str, str]]:
    """What is said under an entry: sentence and style."""
    said = []
    if tree.reason:
        said.append((printable(tree.reason), ""))
    said.extend((sentence, "dim") for sentence in _ownership(tree))
    if tree.children and is_storage(tree) and tree.health is not Health.HEALTHY:
        facts = []
        if tree.health is Health.DEGRADED:
            facts.append(
                f"{tree.redundancy} more can be lost"
                if tree.redundancy
                else "nothing more can be lost without losing data"
            )
        if tree.dirty_bytes:
            facts.append(f"{size_in_words(tree.dirty_bytes)} not the same everywhere")
        if facts:
            said.append((guides.dot.join(facts), "dim"))
    elif tree.dirty_bytes and tree.resync is None and tree.state in _MEMBER_STATES:
        said.append((f"{size_in_words(tree.dirty_bytes)} to copy when it is back", "dim"))
    if tree.resync is not None:
        said.extend(_progress(tree.resync, tree.reason, guides))
    return said


def _advice(tree: StatusTree, why: Explanation | None) -> Iterator[tuple[str, str]]:
    """What comes next and what a person can do, where there is anything to wait for or to do."""
    if why is None or (tree.health is Health.HEALTHY and not why.next_step):
        return
    below = [said for child in why.children for said in (child.next_step, f"{child.name}: {child.next_step}")]
    if why.next_step and why.next_step not in below:
        within = "" if why.within_s is None else f" within {duration_in_words(max(1.0, why.within_s))}"
        yield f"next: {printable(why.next_step)}{within if not why.condition else ''}", "cyan"
    own = [sentence for sentence in why.advice if not any(said in sentence for said in _SAID_ELSEWHERE)]
    for sentence in own[:_ADVICE_MAX]:
        yield f"you can: {printable(sentence)}", "bold"


def _ownership(tree: StatusTree) -> list[str]:
    """Whose it is, where that is not simply this daemon's: the words are those of the mirror's C{detail}."""
    role, owner = tree.detail.get("role"), tree.detail.get("owner")
    votes, needed = tree.detail.get("votes"), tree.detail.get("quorum")
    facts = []
    if role == "standby" and not (owner and str(owner) in tree.reason):
        facts.append(
            f"standby; {printable(str(owner))} is the owner" if owner else "standby; nobody is the owner now"
        )
    if isinstance(votes, list) and len(votes) > 1:
        names = [printable(str(vote.get("name"))) for vote in votes if isinstance(vote, dict)]
        granted = [isinstance(vote, dict) and vote.get("granted") is True for vote in votes]
        missing = [name for name, has in zip(names, granted, strict=False) if not has]
        if role != "standby" and missing:
            facts.append(
                f"{sum(granted)} of {len(votes)} votes, {printable(str(needed))} needed; not {', '.join(missing)}"
            )
    return facts


def _progress(resync: ResyncProgress, reason: str, guides: _Guides) -> Iterator[tuple[str, str]]:
    if resync.cause and resync.cause != reason:
        yield f"{resync.kind} resync: {printable(resync.cause)}", "dim"
    done = resync.bytes_total - resync.bytes_left
    full = _BAR_CELLS * done // resync.bytes_total if resync.bytes_total > 0 else _BAR_CELLS
    bar = guides.full * full + guides.empty * (_BAR_CELLS - full)
    facts = [f"{percent_in_words(done, resync.bytes_total)}", f"{size_in_words(resync.bytes_left)} left"]
    if resync.stalled:
        facts.append(f"waits: {printable(resync.stalled)}")
    else:
        facts.append(rate_in_words(resync.bytes_per_s))
        if resync.seconds_left is not None:
            facts.append(f"{duration_in_words(resync.seconds_left)} to go")
    yield f"{bar} {guides.dot.join(facts)}", "yellow" if resync.stalled else "cyan"


def _fit(text: str, cells: int) -> str:
    """C{text} padded, or cut, to so many cells."""
    if cell_len(text) > cells:
        while cell_len(text) > cells - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (cells - cell_len(text))


def _wrapped(sentence: str, style: str, indent: str, width: int | None) -> Iterator[Text]:
    room = None if width is None else max(_TEXT_CELLS_MIN, width - cell_len(indent) - 2)
    line = ""
    for word in sentence.split(" "):
        longer = f"{line} {word}" if line else word
        if room is not None and line and cell_len(longer) > room:
            yield Text.assemble((indent, ""), ("  " + line, style))
            longer = word
        line = longer
    yield Text.assemble((indent, ""), ("  " + line, style))


def changes(before: Iterable[StatusTree], after: Iterable[StatusTree]) -> list[str]:
    """
    One line for everything whose word has changed, for logs and pipes: C{"vol/b: in-sync -> absent: no answer"}.
    """
    old = dict(_words(before, ""))
    new = dict(_words(after, ""))
    lines = []
    for path, (word, reason) in new.items():
        was = old.get(path, ("", ""))[0]
        if was != word:
            lines.append(f"{path}: {f'{was} -> ' if was else ''}{word}{f': {reason}' if reason else ''}")
    lines.extend(f"{path}: no longer there" for path in old if path not in new)
    return lines


def _words(trees: Iterable[StatusTree], above: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for tree in trees:
        path = above + printable(tree.name)
        yield path, (_word(tree, not above), printable(tree.reason))
        yield from _words(tree.children, path + "/")
