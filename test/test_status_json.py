"""Status trees on their way through JSON."""

from __future__ import annotations

import json

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import InvalidRequest
from dst.status import Health, ResyncProgress, StatusTree
from dst.status_json import STATUS_DEPTH_MAX, STATUS_TREES_MAX, status_tree_from_plain, status_tree_to_plain

LEAF = StatusTree("b", "file", Health.HEALTHY, "in-sync", since=17.5, size=4096)
TREE = StatusTree(
    "vol",
    "mirror",
    Health.DEGRADED,
    "ready",
    reason="b is resyncing",
    since=12.25,
    size=1 << 40,
    redundancy=1,
    dirty_bytes=512,
    detail={"epoch": [1, 2], "words": {"a": None, "b": True}},
    children=(
        evolve(LEAF, name="a"),
        evolve(LEAF, state="resyncing", resync=ResyncProgress("partial", "it was away", 100, 40, 60, 12.5, "busy")),
    ),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def chain(depth: int) -> StatusTree:
    tree = LEAF
    for _ in range(depth - 1):
        tree = StatusTree("up", "linear", Health.HEALTHY, "ready", children=(tree,))
    return tree


class StatusTreeJSONTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """A tree comes back equal after it was JSON."""
        self.assertEqual(TREE, status_tree_from_plain(json.loads(json.dumps(status_tree_to_plain(TREE)))))

    def test_literal(self) -> None:
        """The shape of a leaf, in letters: other programs read it."""
        self.assertEqual(
            {
                "name": "b",
                "kind": "file",
                "health": "healthy",
                "state": "in-sync",
                "reason": "",
                "since": 17.5,
                "size": 4096,
                "redundancy": 0,
                "dirty_bytes": 0,
                "resync": None,
                "detail": {},
                "children": [],
            },
            status_tree_to_plain(LEAF),
        )

    def test_unknown_keys_are_ignored(self) -> None:
        """A newer peer may say more."""
        plain = status_tree_to_plain(LEAF) | {"temperature": [1, 2, 3]}
        self.assertEqual(LEAF, status_tree_from_plain(plain))

    def test_missing_keys_have_defaults(self) -> None:
        """Name, kind, health and state are demanded, the rest is not."""
        plain = {"name": "b", "kind": "file", "health": "healthy", "state": "ready"}
        self.assertEqual(StatusTree("b", "file", Health.HEALTHY, "ready"), status_tree_from_plain(plain))
        for key in plain:
            self.assertRaises(InvalidRequest, status_tree_from_plain, {k: v for k, v in plain.items() if k != key})

    def test_errors_name_the_place(self) -> None:
        """The sentence says where it went wrong, what was found and what was expected."""
        plain = status_tree_to_plain(TREE)
        plain["children"][1]["health"] = "well"  # type: ignore[index]
        error = self.assertRaises(InvalidRequest, status_tree_from_plain, plain)
        self.assertEqual(
            "status.children[1].health is 'well', expected one of healthy, degraded, frozen, failed", str(error)
        )

    def test_wrong_types(self) -> None:
        """Every field that has a value of the wrong type, or one beyond its limit, is refused."""
        wrong: dict[str, list[object]] = {
            "name": [1, None, "x" * 5000],
            "health": [None, [], "bad"],
            "since": ["1", float("nan"), float("inf"), -1.0, True, 10**400],
            "size": [1.5, -1, True, 1 << 63, None],
            "resync": [1, {}, {"kind": "full", "bytes_left": -1}],
            "detail": [[], {"a": object()}, {"a": [[[[1]]]]}, {"a": list(range(65))}, {"a": float("nan")}, {1: 2}],
            "children": [{}, None, [1], "ab"],
        }
        for key, values in wrong.items():
            for value in values:
                self.assertRaises(InvalidRequest, status_tree_from_plain, status_tree_to_plain(LEAF) | {key: value})

    def test_too_deep(self) -> None:
        """A tree with too many levels is refused when it comes in, and pruned when it goes out."""
        deep: dict[str, object] = status_tree_to_plain(LEAF)
        for _ in range(STATUS_DEPTH_MAX):
            deep = status_tree_to_plain(LEAF) | {"children": [deep]}
        self.assertRaises(InvalidRequest, status_tree_from_plain, deep)
        pruned = status_tree_from_plain(status_tree_to_plain(chain(STATUS_DEPTH_MAX + 5)))
        levels = list(pruned.walk())
        self.assertEqual(STATUS_DEPTH_MAX, len(levels))
        self.assertEqual({"pruned": 1}, levels[-1].detail)
        self.assertEqual(
            chain(STATUS_DEPTH_MAX), status_tree_from_plain(status_tree_to_plain(chain(STATUS_DEPTH_MAX)))
        )

    def test_too_many(self) -> None:
        """The same for the number of entries in the whole tree."""
        wide = StatusTree("w", "mirror", Health.HEALTHY, "ready", children=(LEAF,) * STATUS_TREES_MAX)
        pruned = status_tree_from_plain(status_tree_to_plain(wide))
        self.assertEqual(STATUS_TREES_MAX, len(list(pruned.walk())))
        self.assertEqual({"pruned": 1}, pruned.detail)
        plain = status_tree_to_plain(LEAF) | {"children": [status_tree_to_plain(LEAF)] * STATUS_TREES_MAX}
        self.assertRaises(InvalidRequest, status_tree_from_plain, plain)

    def test_odd_facts_become_words(self) -> None:
        """A fact that JSON does not know goes out as words, and never makes a status fail."""
        odd = evolve(
            LEAF, detail={"path": b"x", "rate": float("inf"), "deep": [[[[1]]]], "tag": 1 << 63}, reason="r" * 5000
        )
        back = status_tree_from_plain(json.loads(json.dumps(status_tree_to_plain(odd), allow_nan=False)))
        self.assertEqual("b'x'", back.detail["path"])
        self.assertEqual(str(1 << 63), back.detail["tag"])
        self.assertEqual("inf", back.detail["rate"])
        self.assertEqual(1024, len(back.reason))

    @settings(deadline=None)
    @given(json_values)
    def test_anything(self, value: object) -> None:
        """Anything that JSON can say is a tree or an InvalidRequest, at the top and in each field."""
        for plain in [value, *(status_tree_to_plain(TREE) | {key: value} for key in status_tree_to_plain(TREE))]:
            try:
                tree = status_tree_from_plain(plain)
            except InvalidRequest:
                continue
            self.assertEqual(tree, status_tree_from_plain(status_tree_to_plain(tree)))
