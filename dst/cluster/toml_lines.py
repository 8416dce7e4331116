"""
Where things stand in a TOML document.

C{tomllib} gives values and no positions, and an error without a line is half an error.  This walks
over a document that C{tomllib} has accepted, so that it need not check anything: it only has to know where a
key begins and where a value ends.  A place is the path of keys and
indices that leads to the value, as in C{("storages", "vol", "nodes", 1)}.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import TypeAlias

__all__ = ["Lines", "Place", "lines_of", "nearest_line"]

Place: TypeAlias = tuple[str | int, ...]
Lines: TypeAlias = dict[Place, int]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> Lines:
    """
    The line (from 1) of every key, table and list element of a valid document.
    """
    return _Walk(text.replace("\r\n", "\n")).document()


def nearest_line(lines: Lines, place: Place) -> int | None:
    """The line of C{place}, or of what is nearest above it; C{None} for the document itself."""
    while place:
        if place in lines:
            return lines[place]
        place = place[:-1]
    return None


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lines: Lines = {}

    def document(self) -> Lines:
        table: Place = ()
        counts: dict[Place, int] = {}
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text.startswith("[[", self._at):
                at = self._at
                self._at += 2
                table = self._key((), at, counts)
                self._at = self._text.index("]]", self._at) + 2
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
                self._note(table, at)
            elif self._text[self._at] == "[":
                at = self._at
                self._at += 1
                table = self._key((), at, counts)
                self._at = self._text.index("]", self._at) + 1
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._lines

    def _skip(self, what: re.Pattern[str]) -> str:
        match = what.match(self._text, self._at)
        assert match is not None, (what.pattern, self._at)
        self._at = match.end()
        return match[0]

    def _note(self, place: Place, at: int) -> None:
        self._lines.setdefault(place, bisect_right(self._starts, at))

    def _key(self, table: Place, at: int, counts: dict[Place, int] | None = None) -> Place:
        """A dotted key, from where it begins to behind its last part; each part is a place of its own."""
        place = table
        while True:
            self._skip(_SPACE)
            if self._text[self._at] == '"':
                part = str(tomllib.loads(f"x={self._skip(_BASIC)}")["x"])
            elif self._text[self._at] == "'":
                part = self._skip(_LITERAL)[1:-1]
            else:
                part = self._skip(_BARE_KEY)
            place = (*place, part)
            self._skip(_SPACE)
            more = self._text.startswith(".", self._at)
            self._note(place, at)
            if not more:
                return place
            if counts is not None and place in counts:
                place = (*place, counts[place])  # a table below the last one of an array of tables
            self._at += 1

    def _pair(self, table: Place) -> None:
        place = self._key(table, self._at)
        assert self._text[self._at] == "=", self._at
        self._at += 1
        self._skip(_SPACE)
        self._value(place)

    def _value(self, place: Place) -> None:
        text, at = self._text, self._at
        if text.startswith('"""', at):
            self._skip(_LONG_BASIC)
        elif text.startswith("'''", at):
            self._skip(_LONG_LITERAL)
        elif text.startswith('"', at):
            self._skip(_BASIC)
        elif text.startswith("'", at):
            self._skip(_LITERAL)
        elif text.startswith("[", at):
            self._list(place)
        elif text.startswith("{", at):
            self._inline_table(place)
        else:
            self._skip(_SCALAR)

    def _list(self, place: Place) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "]":
                break
            self._note((*place, index), self._at)
            self._value((*place, index))
            index += 1
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, place: Place) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "}":
                break
            self._pair(place)
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1
