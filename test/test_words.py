"""Numbers as people say them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.words import duration_in_words, percent_in_words, printable, size_in_words


class WordsTests(SynchronousTestCase):
    """Sizes, durations and shares."""

    def test_sizes(self) -> None:
        """Three digits and a unit."""
        for count, words in (
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1024, "1.00 KiB"),
            (10 * 1024, "10.0 KiB"),
            (64 << 20, "64.0 MiB"),
            ((64 << 30) - 1, "64.0 GiB"),
            (1000 << 30, "0.98 TiB"),
            (1 << 62, "4.00 EiB"),
        ):
            self.assertEqual(words, size_in_words(count))

    def test_durations(self) -> None:
        """The two largest units."""
        for seconds, words in (
            (0, "0 s"),
            (-5, "0 s"),
            (59.6, "1 min"),
            (61, "1 min 1 s"),
            (3600, "1 h"),
            (3605, "1 h"),
            (90061, "1 d 1 h"),
        ):
            self.assertEqual(words, duration_in_words(seconds))

    def test_percent(self) -> None:
        """Rounding does not announce the end."""
        self.assertEqual("99.9%", percent_in_words(99_999, 100_000))
        self.assertEqual("100%", percent_in_words(100_000, 100_000))
        self.assertEqual("100%", percent_in_words(0, 0))
        self.assertEqual("0.0%", percent_in_words(0, 7))

    def test_printable(self) -> None:
        """What would steer a terminal does not reach it."""
        self.assertEqual("a\ufffd[31mb\ufffdö", printable("a\x1b[31mb\nö"))
