"""Tests of L{dst.geometry.parse_size}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.geometry import SIZE_BYTES_MAX, parse_size


class ParseSizeTests(SynchronousTestCase):
    """What people write for a number of bytes."""

    def test_sizes(self) -> None:
        """Whole numbers, alone or with a binary unit in either case."""
        for text, size in [
            ("4096", 4096),
            ("0", 0),
            ("512B", 512),
            ("4k", 4096),
            ("64M", 64 << 20),
            ("64 MiB", 64 << 20),
            (" 1G ", 1 << 30),
            ("2TiB", 2 << 40),
            ("4096P", SIZE_BYTES_MAX),
        ]:
            self.assertEqual(size, parse_size(text))

    def test_no_sizes(self) -> None:
        """What has no exact meaning is refused with what was expected."""
        for text in ("", "M", "-1", "1.5G", "64MB", "0x10", "1_000", "64 M M", "\u0664K"):
            error = self.assertRaises(ValueError, parse_size, text)
            self.assertIn(f"{text!r} is not a size; expected", str(error))
        self.assertIn("larger than the largest", str(self.assertRaises(ValueError, parse_size, "4097P")))
