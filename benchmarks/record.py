"""
What has been measured so far, kept in a file after every row, so that a run that was cut short can be continued.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from attrs import asdict

from benchmarks.fio import Cell

__all__ = ["Record"]


class Record:
    """
    Cells by group, row, server and round.

    @param settings: what a figure depends on; cells that were measured with others are left alone and not used.
    """

    def __init__(self, path: Path, settings: dict[str, object]) -> None:
        self._path = path
        self._settings = settings
        self._cells: dict[tuple[str, str, str, int], Cell] = {}

    def load(self) -> str:
        """Take what is there; returns one sentence about it."""
        try:
            kept = json.loads(self._path.read_text())
            if kept["settings"] != json.loads(json.dumps(self._settings)):
                return f"what is in {self._path} was measured with other code or settings: beginning anew"
            cells = {
                (str(group), str(row), str(kind), int(number)): Cell(**cell)
                for group, row, kind, number, cell in kept["cells"]
            }
        except FileNotFoundError:
            return f"there is nothing to continue in {self._path}"
        except (OSError, ValueError, LookupError, TypeError) as error:
            return f"{self._path} cannot be used, beginning anew: {error}"
        self._cells = cells
        return f"continuing with {len(cells)} measurements from {self._path}"

    def get(self, group: str, row: str, kind: str, number: int) -> Cell | None:
        """What was measured."""
        return self._cells.get((group, row, kind, number))

    def put(self, group: str, row: str, kind: str, number: int, cell: Cell) -> None:
        """Note one measurement."""
        self._cells[group, row, kind, number] = cell

    def save(self) -> None:
        """All or nothing is in the file."""
        cells = [[*key, asdict(cell)] for key, cell in self._cells.items()]
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"settings": self._settings, "cells": cells}))
        os.replace(new, self._path)

    def remove(self) -> None:
        """The results are written: nothing is left to be continued."""
        self._path.unlink(missing_ok=True)
