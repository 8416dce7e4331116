"""Tests of L{dst.native.files}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dst.native import files, load

compiled = load("_files")


class NewBufferTests(SynchronousTestCase):
    """Memory that was not made zero, made in Python."""

    new_buffer = staticmethod(files.python_new_buffer)

    def test_length(self) -> None:
        """It is as long as was asked for, and is a C{bytearray} like any other."""
        for length in (0, 1, 4096, 1 << 20):
            buffer = self.new_buffer(length)
            self.assertEqual((bytearray, length), (type(buffer), len(buffer)))
            buffer[:] = b"x" * length
            buffer += b"y"
            self.assertEqual(b"x" * length + b"y", bytes(buffer))

    def test_bad(self) -> None:
        """A length that cannot be is refused."""
        self.assertRaises(ValueError, self.new_buffer, -1)
        self.assertRaises(MemoryError, self.new_buffer, 1 << 62)
        self.assertRaises(OverflowError, self.new_buffer, 1 << 70)


class CompiledNewBufferTests(NewBufferTests):
    """The same, compiled."""

    skip = None if compiled else "dst.native._files was not built here, or Python was asked for"
    if compiled:
        new_buffer = staticmethod(compiled.new_buffer)
