"""What the README and the documentation show is run."""

from __future__ import annotations

import os
import re
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from click import Group
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase, TestCase

import test.examples.test_twin  # noqa: F401 - it imports the example that the documentation shows
from dst.admin.cli import cli
from dst.cluster.config import check
from dst.simulation.faults import catalogue
from test.security.machines import Machines

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst")), *ROOT.glob("examples/**/README.rst")]


@frozen
class Block:
    """A block of code in a document."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> Iterator[Block]:
    """Every block in one of these languages."""
    for path in DOCUMENTS:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            directive = re.fullmatch(r"( *)\.\. code-block:: (\w+)", line)
            if directive is None or directive[2] not in languages:
                continue
            indent = directive[1] + "   "
            body = []
            for each in lines[number + 1 :]:
                if each.strip() and not each.startswith(indent):
                    break
                body.append(each[len(indent) :])
            yield Block(path, number + 2, directive[2], "\n".join(body).strip() + "\n")


class BlocksTests(SynchronousTestCase):
    """Finding what is to be run."""

    def test_found(self) -> None:
        """There is something of every kind, in the README too."""
        for language in ("toml", "python", "console"):
            self.assertIn(ROOT / "README.rst", {block.path for block in blocks(language)})

    def test_known_languages(self) -> None:
        """No block escapes because its language is written differently."""
        for path in DOCUMENTS:
            for language in re.findall(r"code-block:: *(\S*)", path.read_text()):
                self.assertIn(language, ("toml", "python", "console", "text"), path)


class TOMLTests(SynchronousTestCase):
    """Topologies."""

    def test_topologies(self) -> None:
        """Every topology that is shown can be used as it is."""
        import dst.plugins

        self.patch(dst.plugins, "__path__", [*dst.plugins.__path__, str(EXAMPLE_PLUGINS)])
        self.addCleanup(sys.modules.pop, "dst.plugins.twin_plugin", None)
        machines = Machines(self.mktemp())
        machines.add("security")  # where a daemon that others can reach has its certificate
        for number, block in enumerate(blocks("toml")):
            path = os.path.join(machines.root, f"{number}")
            with open(path, "w") as target:
                target.write(block.text)
            if "[[fault]]" in block.text:
                os.rename(path, path + ".toml")
                catalogue(path + ".toml")  # what goes wrong in a rehearsal is no topology
                continue
            self.assertEqual([], [str(problem) for problem in check(path)], str(block))

    def test_examples(self) -> None:
        """So can every topology among the examples."""
        found = sorted(path for path in ROOT.glob("examples/**/*.toml") if path.name != "pyproject.toml")
        self.assertGreater(len(found), 3)
        for path in [*found, ROOT / "examples" / "mirror.py"]:
            self.assertEqual([], [str(problem) for problem in check(path)], str(path))


EXAMPLE_PLUGINS = ROOT / "examples" / "third_party_algorithm" / "dst" / "plugins"


class PythonTests(TestCase):
    """Scripts and tests."""

    def test_scripts(self) -> Deferred[list[object]]:
        """Every script that is shown runs, and every test in one passes."""
        running = []
        for number, block in enumerate(blocks("python")):
            # A suite that is subclassed below `dst` does not count as the test of its provider: nobody finds it here.
            module: dict[str, object] = {"__name__": f"dst.shown_{number}"}
            exec(compile(block.text, str(block), "exec"), module)
            for value in module.values():
                if isinstance(value, type) and issubclass(value, SynchronousTestCase):
                    if value.__module__ == module["__name__"] and not issubclass(value, TestCase):
                        self._run_now(value, str(block))
                    elif value.__module__ == module["__name__"]:
                        running += self._run_soon(value)
        self.assertGreater(len(running), 0)
        return gatherResults(running, consumeErrors=True)

    def _run_now(self, case: type[SynchronousTestCase], where: str) -> None:
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
        result = TestResult()
        suite.run(result)
        problems = [str(failure) for _, failure in [*result.failures, *result.errors]]
        self.assertEqual([], problems, where)
        self.assertGreater(result.testsRun, 0, where)

    def _run_soon(self, case: type[TestCase]) -> list[Deferred[object]]:
        """Tests that need the reactor which runs already: their coroutines, in this test."""
        names = [name for name in dir(case) if name.startswith("test_") and name in vars(case)]
        return [Deferred.fromCoroutine(getattr(case(name), name)()) for name in names]


class ConsoleTests(SynchronousTestCase):
    """Commands."""

    def commands(self) -> Iterator[tuple[Block, list[str]]]:
        """The words of every command that is shown."""
        for block in blocks("console"):
            for line in block.text.splitlines():
                if line.startswith("$ "):
                    for part in re.split(r"[|;]|&&", line[2:]):
                        yield block, part.split()

    def test_commands(self) -> None:
        """C{make} has the goals, C{dst} the commands and C{twistd dst} the options that are shown."""
        makefile = (ROOT / "Makefile").read_text()
        assert isinstance(cli, Group)
        seen = set()
        for block, words in self.commands():
            program = os.path.basename(words[0])
            seen.add(program)
            if program == "make":
                for goal in [word for word in words[1 : (words + ["#"]).index("#")] if "=" not in word]:
                    self.assertRegex(makefile, rf"(?m)^{goal}:", str(block))
            elif program == "dst":
                # Options of the command itself, each with its value, stand before the word that matters.
                known = {name for parameter in cli.params for name in parameter.opts}
                while words[1].startswith("--") and words[1] in known and words[2:]:
                    del words[1:3]
                self.assertIn(words[1], cli.commands, str(block))
            elif program == "python" and words[1].endswith(".py"):
                self.assertTrue((ROOT / words[1]).exists(), f"{block}: {words[1]}")
            elif program == "twistd":
                self.assertIn("dst", words, str(block))
                for word in words[words.index("dst") :]:
                    if word.startswith("--"):
                        self.assertIn(
                            word, ("--config", "--topology", "--check", "--log-format", "--log-file"), str(block)
                        )
        self.assertTrue({"make", "dst", "python", "twistd"} <= seen, seen)
