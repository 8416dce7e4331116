"""A run that was cut short is continued, and only with what belongs to it."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.fio import Cell
from benchmarks.record import Record

CELL = Cell(1.5, 4096, 0.1, 0.2, 1 << 20, 3.0, 4.0)


class RecordTests(SynchronousTestCase):
    """What is kept."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        record = Record(self.path, {"seconds": 3.0, "versions": ("a", "b")})
        record.put("single", "read", "DST", 0, CELL)
        record.save()

    def loaded(self, **changes: object) -> tuple[str, Cell | None]:
        """What another run finds, and what it says."""
        record = Record(self.path, {"seconds": 3.0, "versions": ("a", "b"), **changes})
        told = record.load()
        return told, record.get("single", "read", "DST", 0)

    def test_continued(self) -> None:
        """What was measured is there, exactly as it was, and nothing else."""
        told, cell = self.loaded()
        self.assertEqual(CELL, cell)
        self.assertIn("continuing with 1 measurement", told)
        record = Record(self.path, {"seconds": 3.0, "versions": ("a", "b")})
        record.load()
        self.assertIsNone(record.get("single", "read", "DST", 1))

    def test_other_settings(self) -> None:
        """What was measured in another way is not used."""
        told, cell = self.loaded(seconds=1.0)
        self.assertIsNone(cell)
        self.assertIn("beginning anew", told)

    def test_nothing(self) -> None:
        """Without a file there is nothing to continue, and that is said."""
        Record(self.path, {}).remove()
        Record(self.path, {}).remove()
        told, cell = self.loaded()
        self.assertIsNone(cell)
        self.assertIn("nothing to continue", told)

    def test_damaged(self) -> None:
        """A file that is none of ours is said, and nothing of it is used."""
        whole = self.path.read_text()
        for text in ("", "[]", "{}", whole[:-9], whole.replace("per_s", "per_h"), whole.replace("[[", "[[1, ")):
            self.path.write_text(text)
            told, cell = self.loaded()
            self.assertIsNone(cell, text)
            self.assertIn("beginning anew", told)
