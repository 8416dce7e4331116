"""Values as JSON and back, whatever is in them."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.admin.codec import from_json, to_json
from dst.admin.routes import shapes
from dst.administration import (
    Configuration,
    Event,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationStatus,
    Plan,
    SessionStatus,
)
from dst.errors import PeerError
from dst.explaining import Explanation, ResyncRecord
from dst.status import Health, StatusTree

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | NUMBERS | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)

st.register_type_strategy(float, NUMBERS)
st.register_type_strategy(object, JSON)

VALUES = (
    Configuration,
    Event,
    ExportStatus,
    Explanation,
    HealthFinding,
    ListenerStatus,
    OperationStatus,
    Plan,
    ResyncRecord,
    SessionStatus,
)


class RoundTripTests(SynchronousTestCase):
    """What is said is what is understood."""

    def test_values(self) -> None:
        """Every value comes back as it was, through JSON."""
        for kind in VALUES:
            self.comes_back(kind)

    def comes_back(self, kind: type) -> None:
        @settings(max_examples=25, deadline=None, database=None, derandomize=True)
        @given(st.from_type(kind))
        def check(value: Any) -> None:
            sent = json.dumps(to_json(value), allow_nan=False)
            self.assertEqual(value, from_json(json.loads(sent), kind, "value"))

        check()

    def test_trees(self) -> None:
        """Trees have their own words for members and are the same afterwards."""
        below = StatusTree("a", "file", Health.HEALTHY, "in-sync", size=7)
        storages = shapes.Storages(
            1, 2.5, (StatusTree("vol", "mirror", Health.DEGRADED, "ready", children=(below,)),)
        )
        sent = to_json(storages)
        self.assertEqual("a", sent["storages"][0]["members"][0]["name"])
        self.assertEqual(storages, from_json(json.loads(json.dumps(sent)), shapes.Storages, "storages"))


GOOD = to_json(ExportStatus("vol", "vol", False, 7, ({"access": "read"},)))


class NonsenseTests(SynchronousTestCase):
    """What is not understood is an error of the one who said it."""

    def assert_refused(self, value: object, kind: type = ExportStatus) -> None:
        error = self.assertRaises(PeerError, from_json, value, kind, "exports")
        self.assertIn("the daemon's exports", error.message)
        self.assertLess(len(error.message), 300)

    def test_wrong_types(self) -> None:
        """Nothing is taken for what it is not."""
        for key, value in (
            ("name", 7),
            ("name", None),
            ("size", "7"),
            ("size", 7.0),
            ("size", True),
            ("read_only", 1),
            ("read_only", "no"),
            ("allow", [{"access": 1}]),
            ("allow", "anybody"),
            ("allow", {}),
            ("allow", ""),
            ("traffic", None),
            ("traffic", {"reads": "many"}),
            ("traffic", {"read_s": math.inf}),
        ):
            self.assert_refused({**GOOD, key: value})

    def test_missing(self) -> None:
        """What has no default has to be there; what has one need not."""
        for key in ("name", "device", "read_only", "size"):
            self.assert_refused({name: value for name, value in GOOD.items() if name != key})
        short = {name: GOOD[name] for name in ("name", "device", "read_only", "size")}
        self.assertEqual(ExportStatus("vol", "vol", False, 7), from_json(short, ExportStatus, "exports"))

    def test_more(self) -> None:
        """What a newer daemon says besides is left aside."""
        self.assertEqual("vol", from_json({**GOOD, "colour": "blue"}, ExportStatus, "exports").name)

    def test_words(self) -> None:
        """A word that is none of those there are is not understood."""
        event = {"number": 1, "time": 0, "kind": "state", "subject": "", "sentence": ""}
        self.assert_refused({**event, "severity": "terrible"}, Event)
        self.assertEqual(1, from_json({**event, "severity": "info"}, Event, "event").number)

    def test_no_object(self) -> None:
        """Nor is what is no object, or nested without end."""
        for value in (None, 7, "x", [], [GOOD]):
            self.assert_refused(value)
        deep: dict[str, Any] = {"name": "x", "kind": "mirror", "health": "healthy", "state": "ready"}
        for _ in range(5000):
            deep = {**{key: deep[key] for key in ("name", "kind", "health", "state")}, "members": [deep]}
        self.assert_refused({"version": 1, "time": 0.0, "storage": deep}, shapes.OneStorage)

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(JSON)
    def test_anything(self, value: Any) -> None:
        """Whatever is said, it is understood or refused."""
        for kind in (*VALUES, shapes.StatusNow, shapes.Events, shapes.OneOperation):
            try:
                from_json({**GOOD, "version": 1, "time": 1, "storages": value, "events": value}, kind, "value")
            except PeerError:
                pass
