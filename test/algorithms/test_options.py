"""Tests of L{dst.algorithms.options}."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dst.algorithms.options import Options
from dst.errors import ConfigurationError

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


def options(**table: object) -> Options:
    return Options("storage vol", table)


class OptionsTests(SynchronousTestCase):
    """Plain values, and an error that says what was expected."""

    def says(self, *words: str, of: Callable[[], object]) -> None:
        """The error names where, what was found and what was expected."""
        with self.assertRaises(ConfigurationError) as caught:
            of()
        for word in ("storage vol", *words):
            self.assertIn(word, caught.exception.message)

    def test_defaults(self) -> None:
        """What is not said has its default; a size may have one that cannot be said."""
        given_none = options()
        self.assertEqual("x", given_none.choice("a", "x", ("x", "z")))
        self.assertEqual(-5, given_none.integer("b", -5, -5, 1))
        self.assertEqual(1.5, given_none.seconds("c", 1.5))
        self.assertEqual(0, given_none.power_of_two("d", 0, 4096, 8192))
        given_none.done()

    def test_choice(self) -> None:
        """One of some words, and nothing near one."""
        words = ("freeze", "error")
        self.assertEqual("error", options(k="error").choice("k", "freeze", words))
        for wrong in ("", "Freeze", "freeze ", 1, None, True, ["freeze"]):
            self.says(
                "k = ",
                repr(wrong),
                '"freeze" or "error"',
                of=lambda w=wrong: options(k=w).choice("k", "freeze", words),
            )

    def test_integer(self) -> None:
        """A whole number between two bounds, which are allowed; truth is no number."""
        for right in (2, 3, 7):
            self.assertEqual(right, options(k=right).integer("k", 5, 2, 7))
        for wrong in (1, 8, 3.0, "3", True, None):
            self.says(repr(wrong), "from 2 to 7", of=lambda w=wrong: options(k=w).integer("k", 5, 2, 7))

    def test_seconds(self) -> None:
        """A time of no more than a day; what is no number or not a real one is refused."""
        for right in (0, 0.25, 86400):
            found = options(k=right).seconds("k", 5)
            self.assertEqual((right, float), (found, type(found)))
        for wrong in (-0.1, 86401, "5", True, None, float("nan"), float("inf")):
            self.says(repr(wrong), "seconds", of=lambda w=wrong: options(k=w).seconds("k", 5))

    def test_power_of_two(self) -> None:
        """A size as a number or as people write it, a power of two between two bounds."""
        for right, size in ((4096, 4096), ("4K", 4096), ("64KiB", 65536), ("1M", 1 << 20)):
            self.assertEqual(size, options(k=right).power_of_two("k", 8192, 4096, 1 << 20))
        for wrong in (2048, 5000, 0, -4096, "2M", "3K", "much", "", "4 KB extra", True, None, 4096.0, [4096]):
            self.says("a power of two", of=lambda w=wrong: options(k=w).power_of_two("k", 8192, 4096, 1 << 20))

    def test_unknown(self) -> None:
        """What is left over is told, together with what there is."""
        left = options(freze=1, zeal=2, freeze_s=3)
        left.seconds("freeze_s", 0)
        left.choice("on_loss", "freeze", ("freeze",))
        self.says("freze, zeal", "freeze_s, on_loss", of=left.done)

    def test_table_is_kept(self) -> None:
        """The table that was given is not changed."""
        table: dict[str, object] = {"k": 3}
        Options("x", table).integer("k", 1, 1, 9)
        self.assertEqual({"k": 3}, table)

    def test_count(self) -> None:
        """Too few nodes or too many are told with how many there may be."""
        for right in (2, 3):
            options().count(right, 2, 3)
        for wrong in (0, 1, 4):
            self.says(f"has {wrong} nodes", "2 to 3", of=lambda w=wrong: options().count(w, 2, 3))

    @given(plain)
    def test_anything(self, value: object) -> None:
        """Whatever stands there is understood or refused with the same kind of error."""
        for take in (
            lambda: options(k=value).choice("k", "a", ("a", "b")),
            lambda: options(k=value).integer("k", 1, 0, 9),
            lambda: options(k=value).seconds("k", 1),
            lambda: options(k=value).power_of_two("k", 4096, 4096, 8192),
        ):
            try:
                take()
            except ConfigurationError as error:
                self.assertIn("expected", error.message)
