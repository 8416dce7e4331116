"""Tests of L{dst.cluster.toml_lines}."""

from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.toml_lines import lines_of, nearest_line

DOCUMENT = '''\
# a comment [with] = things
title = "x"   # 2

[daemon]
state_dir = """
many
lines\\"""" # ends at 7

[nodes."a.b"]      # 9
uri = 'file:#=[]{}"'
'odd key' = { x = 1, "y z" = [1,
  2], w.v = 3 }
[storages.vol]
nodes = [ # 14
  "a", # 15

  [ "b",
    "c" ], ]
dotted.key . more = 1979-05-27 07:32:00
[[listeners.dst]]
p = 1
[[listeners.dst]]
p = 2
[listeners.dst.deep]
q = \'\'\'
\'\'\'\'\'
last = inf
'''


class LinesTests(SynchronousTestCase):
    """A walk over a document that is known to be valid."""

    def test_every_kind_of_value(self) -> None:
        """Keys are found wherever TOML allows them, and nothing inside a value is mistaken for one."""
        tomllib.loads(DOCUMENT)
        lines = lines_of(DOCUMENT)
        self.assertEqual(
            {
                ("title",): 2,
                ("daemon",): 4,
                ("daemon", "state_dir"): 5,
                ("nodes",): 9,
                ("nodes", "a.b"): 9,
                ("nodes", "a.b", "uri"): 10,
                ("nodes", "a.b", "odd key"): 11,
                ("nodes", "a.b", "odd key", "x"): 11,
                ("nodes", "a.b", "odd key", "y z"): 11,
                ("nodes", "a.b", "odd key", "y z", 0): 11,
                ("nodes", "a.b", "odd key", "y z", 1): 12,
                ("nodes", "a.b", "odd key", "w"): 12,
                ("nodes", "a.b", "odd key", "w", "v"): 12,
                ("storages",): 13,
                ("storages", "vol"): 13,
                ("storages", "vol", "nodes"): 14,
                ("storages", "vol", "nodes", 0): 15,
                ("storages", "vol", "nodes", 1): 17,
                ("storages", "vol", "nodes", 1, 0): 17,
                ("storages", "vol", "nodes", 1, 1): 18,
                ("storages", "vol", "dotted"): 19,
                ("storages", "vol", "dotted", "key"): 19,
                ("storages", "vol", "dotted", "key", "more"): 19,
                ("listeners",): 20,
                ("listeners", "dst"): 20,
                ("listeners", "dst", 0): 20,
                ("listeners", "dst", 0, "p"): 21,
                ("listeners", "dst", 1): 22,
                ("listeners", "dst", 1, "p"): 23,
                ("listeners", "dst", 1, "deep"): 24,
                ("listeners", "dst", 1, "deep", "q"): 25,
                ("listeners", "dst", 1, "deep", "last"): 27,
            },
            lines,
        )

    def test_windows_line_ends(self) -> None:
        """A file from another system has the same lines."""
        self.assertEqual(lines_of(DOCUMENT), lines_of(DOCUMENT.replace("\n", "\r\n")))

    def test_nothing(self) -> None:
        """An empty document has no places, with or without a line end."""
        for text in ("", "\n", "# only this", "  \n\t# x\n"):
            self.assertEqual({}, lines_of(text))

    def test_nearest(self) -> None:
        """What has no line of its own is where the table above it is; the document is nowhere."""
        lines = lines_of("[a]\nb = 1\n")
        self.assertEqual(2, nearest_line(lines, ("a", "b")))
        self.assertEqual(1, nearest_line(lines, ("a", "missing", 3)))
        self.assertIsNone(nearest_line(lines, ("c",)))
        self.assertIsNone(nearest_line(lines, ()))


_text = st.text(st.characters(codec="utf-8", exclude_characters="\x7f", min_codepoint=32), max_size=12)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_values = st.recursive(
    st.one_of(
        _text.map(_quoted),
        st.integers(-(2**40), 2**40).map(str),
        st.sampled_from(["true", "1.5e3", "inf", "07:32:00", '"""\n\n"""', "'''a\n'b''c'''", "'#'"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: "[\n" + ",\n".join(parts) + "\n]"),
        st.lists(st.tuples(_text, inner), max_size=3, unique_by=lambda pair: pair[0]).map(
            lambda pairs: "{" + ", ".join(f"{_quoted(key)} = {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)


def _places(value: object, place: tuple[object, ...] = ()) -> set[tuple[object, ...]]:
    found = {place} if place else set()
    if isinstance(value, dict):
        for key, each in value.items():
            found |= _places(each, (*place, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found |= _places(each, (*place, index))
    return found


class RandomDocumentTests(SynchronousTestCase):
    """Whatever C{tomllib} accepts."""

    @given(st.lists(st.tuples(_text, _values), max_size=5, unique_by=lambda pair: pair[0]))
    @settings(max_examples=150, deadline=None)
    def test_same_places(self, pairs: list[tuple[str, str]]) -> None:
        """Every place that C{tomllib} finds has a line, and no other; a key's line is where its text is."""
        text = "".join(f"{_quoted(key)} = {value} # {number}\n" for number, (key, value) in enumerate(pairs))
        lines = lines_of(text)
        self.assertEqual(_places(tomllib.loads(text)), set(lines))
        rows = text.split("\n")
        for place, line in lines.items():
            if isinstance(place[-1], str):
                self.assertIn(_quoted(place[-1]), rows[line - 1])
