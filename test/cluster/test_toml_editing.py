"""Tests of L{dst.cluster.toml_editing}."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.toml_editing import edited_toml

TEXT = """\
# my disks

[daemon]
admin = "tcp:7480:interface=127.0.0.1"   # the door

[nodes.a]  # the first one
uri = "file:a.img?size=64M"
# between
[nodes.b]
uri = "file:b.img"   # on the other disk
size = "64M"

[storages.vol]
algorithm = "mirror"
nodes = [
  "a",  # the first one
  "b",
]

[exports.vol]
device = "vol"
allow = [{ access = "write", identity = "alpha" }]  # only alpha
"""

CHANGED = """\
# my disks

[daemon]
admin = "tcp:7480:interface=127.0.0.1"   # the door

[nodes.a]  # the first one
uri = "file:a.img?size=64M"
# between
[nodes.b]
uri = "dst://beta/b"   # on the other disk

[nodes.c]
uri = "file:c.img"

[storages.vol]
algorithm = "mirror"
nodes = [
  "a",  # the first one
  "b",
  "c",
]

[exports.vol]
device = "vol"
allow = [{access = "read"}]  # only alpha
read_only = true
"""


class EditingTests(SynchronousTestCase):
    """A file that a person has written."""

    def edit(self, text: str, document: dict[str, Any]) -> str:
        """The new text; it says what it should."""
        result = edited_toml(text, document)
        self.assertEqual(document, tomllib.loads(result))
        return result

    def test_in_place(self) -> None:
        """Comments, order and the way a list is written stay where nothing has changed."""
        document = tomllib.loads(TEXT)
        document["nodes"]["b"] = {"uri": "dst://beta/b"}
        document["nodes"]["c"] = {"uri": "file:c.img"}
        document["storages"]["vol"]["nodes"].append("c")
        document["exports"]["vol"] |= {"read_only": True, "allow": [{"access": "read"}]}
        self.assertEqual(CHANGED, self.edit(TEXT, document))

    def test_unchanged(self) -> None:
        """What says it already is left alone, to the last space."""
        self.assertEqual(TEXT, self.edit(TEXT, tomllib.loads(TEXT)))

    def test_list_in_another_order(self) -> None:
        """The order of a list is part of what it says."""
        document = tomllib.loads(TEXT)
        document["storages"]["vol"]["nodes"] = ["c", "b", "a"]
        self.edit(TEXT, document)

    def test_every_way_to_write_a_table(self) -> None:
        """Dotted keys, inline tables and tables out of order can be changed as well."""
        text = (
            'nodes.a.uri = "x"\nnodes.b = { uri = "y" }\n[storages.v]\nnodes = ["a"]\n[exports]\ne = {device = "v"}\n'
        )
        document = tomllib.loads(text)
        document["nodes"]["b"]["size"] = 1
        document["nodes"]["a"]["size"] = 2
        document["nodes"]["c"] = {"uri": "z"}
        document["exports"]["f"] = {"device": "v"}
        document["exports"]["e"]["read_only"] = True
        self.edit(text, document)

    def test_lists_of_tables(self) -> None:
        """What stands in C{[[...]]} is changed, added and taken away there, and its comments stay."""
        text = '[[hooks]]  # the first\nurl = "a"\n[[hooks]]\nurl = "b"  # b\n[nodes.a]\nuri = "y"\n'
        document = tomllib.loads(text)
        document["hooks"][1]["url"] = "c"
        document["hooks"].append({"url": "d", "on": ["health"]})
        result = self.edit(text, document)
        self.assertIn("# the first", result)
        self.assertIn('url = "c"  # b', result)
        for hooks in ([{"url": "b"}], [], None):
            document["hooks"] = hooks
            if hooks is None:
                del document["hooks"]
            self.assertIn("[nodes.a]", self.edit(text, document))
        del document["nodes"]
        document["hooks"] = [{"url": "new"}]
        self.assertIn("[[hooks]]", self.edit('[nodes.a]\nuri = "y"\n', {"nodes": {"a": {"uri": "y"}}, **document}))

    def test_type_changes(self) -> None:
        """C{1} and C{true} are equal to Python, and something else in a file."""
        self.assertIn("x = true", self.edit("[daemon]\nx = 1\n", {"daemon": {"x": True}}))

    values = st.one_of(
        st.booleans(),
        st.integers(-5, 5),
        st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=4),
        st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=4),
        st.lists(st.fixed_dictionaries({"access": st.sampled_from(["read", "write"])}), max_size=2),
    )
    tables = st.dictionaries(
        st.sampled_from(["nodes", "exports", "daemon", "hooks"]),
        st.lists(st.dictionaries(st.sampled_from("pq"), values), max_size=3)
        | st.dictionaries(
            st.sampled_from(["x", "y z", "w.v", "1"]),
            values | st.dictionaries(st.sampled_from("pq"), values),
            max_size=4,
        ),
    )

    @given(tables, tables)
    @settings(deadline=None, max_examples=150)
    def test_any(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Whatever it said, it says what it should."""
        before = copy.deepcopy(new)
        self.edit(tomlkit.dumps(old), new)
        self.assertEqual(before, new)
