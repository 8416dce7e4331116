"""
What is made of the table of health codes and of the metrics is as the table and the metrics are now.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import dst
from dst.admin.metrics import Snapshot, text_of
from dst.administration import DaemonMeasures
from dst.health import CODES

CHECKOUT = Path(dst.__file__).parent.parent
MONITORING = CHECKOUT / "packaging" / "monitoring"

_METRIC = re.compile(r"\b(?:dst|process)_[a-z0-9_]+\b")


def generator() -> ModuleType:
    """The program that makes the files."""
    spec = importlib.util.spec_from_file_location("dst_monitoring_generate", MONITORING / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class MadeFilesTests(SynchronousTestCase):
    """Pages, rules and the dashboard."""

    def setUp(self) -> None:
        self.generate = generator()

    def told(self) -> set[str]:
        """The metrics that a daemon tells."""
        names = {name for name, *_ in self.generate.metrics()}
        text = text_of(Snapshot(measures=DaemonMeasures(0.0))).decode()
        return names | set(re.findall(r"^# TYPE (process_\w+)", text, re.MULTILINE))

    def expressions(self) -> Iterator[str]:
        """Every expression in the rules and the dashboard."""
        for line in (MONITORING / "dst-alerts.yml").read_text().splitlines():
            if line.strip().startswith("expr: "):
                yield json.loads(line.partition("expr: ")[2])
        board = json.loads((MONITORING / "dst-dashboard.json").read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield variable["query"]

    def test_as_made(self) -> None:
        """No file was changed by hand, none was forgotten, none is left of a code that is no more."""
        again = "; run: python packaging/monitoring/generate.py"
        made = self.generate.everything()
        for path, text in made.items():
            self.assertTrue(path.exists(), f"{path} is missing{again}")
            self.assertEqual(text, path.read_text(), f"{path} is not as the table says{again}")
        pages = set((CHECKOUT / "docs" / "health").glob("*.rst"))
        self.assertEqual(set(), pages - set(made), f"pages of codes that are no more{again}")

    def test_every_metric_exists(self) -> None:
        """Alerts and panels ask for metrics that there are, and only for labels that these have."""
        told = self.told()
        expressions = list(self.expressions())
        self.assertGreater(len(expressions), len(CODES) + 15)
        for expression in expressions:
            found = _METRIC.findall(re.sub(r'"[^"]*"', '""', expression))
            for name in found:
                self.assertIn(name, told, expression)
        self.assertIn("dst_export_requests_total", told)

    def test_every_label_exists(self) -> None:
        """A misspelt label would silence an alert."""
        labels = {name: set(labels) for name, labels, *_ in self.generate.metrics()}
        usual = {"instance", "job"}
        for expression in self.expressions():
            for name, said in re.findall(r"\b(dst_[a-z0-9_]+)\{([^}]*)\}", expression):
                asked = set(re.findall(r"(\w+)\s*(?:=|!)", re.sub(r'"[^"]*"', '""', said)))
                self.assertLessEqual(asked, labels[name] | usual, expression)

    def test_every_code_has_an_alert(self) -> None:
        """And alerts are for codes that there are."""
        said = re.findall(r'code=\\"([A-Z_]+)\\"', (MONITORING / "dst-alerts.yml").read_text())
        self.assertEqual([each.code for each in CODES], said)

    def test_dashboard(self) -> None:
        """Panels do not overlap, have numbers of their own, and at least one expression."""
        board: dict[str, Any] = json.loads((MONITORING / "dst-dashboard.json").read_text())
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertEqual(set(), cells & taken, panel["title"])
            self.assertLessEqual(max(x for x, _ in cells), 23)
            taken |= cells
            self.assertNotEqual([], panel["targets"])
        self.assertEqual(len(board["panels"]), len({panel["id"] for panel in board["panels"]}))

    def test_manual_names_commands_that_exist(self) -> None:
        """What the pages tell a person to type is there."""
        from dst.admin.cli import main

        said = {
            tuple(words.split()[1:3])
            for code in CODES
            for text in (code.meaning, code.cause, *code.advice)
            for words in re.findall(r"``(dst [a-z-]+(?: [a-z-]+)?)", text)
        }
        self.assertGreater(len(said), 10)
        for words in sorted(said):
            command: Any = main
            for word in words:
                commands = getattr(command, "commands", None)
                if not commands:
                    break
                self.assertIn(word, commands, words)
                command = commands[word]
