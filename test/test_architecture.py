"""
The layers of the project, kept by reading every import.

Imports go down, never up, and never sideways between the packages of one
layer.  The table is that of C{docs/architecture.rst}; who moves a module changes both.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

import dst

PACKAGE = Path(dst.__file__).parent
CHECKOUT = PACKAGE.parent

VOCABULARY = (
    "dst",
    "dst.administration",
    "dst.asking",
    "dst.checksums",
    "dst.errors",
    "dst.explaining",
    "dst.explaining_trees",
    "dst.geometry",
    "dst.health",
    "dst.identity",
    "dst.interfaces",
    "dst.native",
    "dst.observing",
    "dst.ownership",
    "dst.status",
    "dst.status_json",
    "dst.words",
    "dst.surroundings",
)

LAYERS: list[tuple[str, tuple[str, ...]]] = [
    ("vocabulary", VOCABULARY),
    ("deciding", ("dst.wire", "dst.nbd", "dst.label")),
    ("moving", ("dst.transport", "dst.security")),
    ("healing", ("dst.recovery",)),
    ("acting", ("dst.algorithms", "dst.exports", "dst.nodes")),
    ("assembly", ("dst.cluster", "dst.plugins")),
    ("trying", ("dst.simulation",)),
    ("people", ("dst.admin",)),
    ("process", ("dst.tap", "dst.notify", "dst.logfile")),
]
"""From the lowest to the highest."""

STRANGERS = frozenset({"deciding", "acting"})
"""Layers whose packages do not know each other."""

BESIDE = "dst.testing"
"""Imports the vocabulary only, and is imported by tests and by the simulation only."""

TRIAL = "dst.simulation"
"""Runs whole clusters on devices of L{BESIDE}."""

REACTOR_OWNERS = {
    "dst.tap": "the daemon",
    "dst.admin.cli": "the command: a process of its own",
    "dst.testing.specimen": "suites wait in the real reactor where a node has no clock",
    "dst.testing.algorithm_suite": "the same",
}
"""The only modules that may import the global reactor, and why."""

REACTOR_BY_THE_WAY = {"klein": "dst.admin.rest"}
"""
Packages of others that import the global reactor when they are imported, and so choose it for the whole process;
and the only module of ours that may import each, in a function that is called when a reactor is there already.
"""

NOT_FOR_DECIDERS = ("twisted", "asyncio", "io", "os", "pathlib", "random", "select", "socket", "threading", "time")
"""What those who decide without acting have no use for: reactors, Deferreds, files, clocks, chance."""


@frozen
class Import:
    """One name that a module imports."""

    importer: str
    line: int
    imported: str

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: imports {self.imported}"


def module_name(path: Path, root: Path) -> str:
    """The dotted name of the module in a file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(importer: str, source: str) -> Iterator[Import]:
    """Every import, at the top, in a function or for the type checker only; a relative one fails."""
    for found in ast.walk(ast.parse(source)):
        if isinstance(found, ast.Import):
            for alias in found.names:
                yield Import(importer, found.lineno, alias.name)
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0 and found.module, f"{importer}, line {found.lineno}: write imports in full"
            for alias in found.names:
                yield Import(importer, found.lineno, f"{found.module}.{alias.name}")


def layer_of(module: str) -> tuple[int, str, str] | None:
    """
    The layer's number and name, and the package in it; C{None} if it is in none.

    C{module} may be a name inside a module.
    """
    for number, (name, packages) in reversed(list(enumerate(LAYERS))):
        for package in packages:
            if module == package or module.startswith(package + ".") and package != "dst":
                return number, name, package
    parts = module.split(".")
    return (0, "vocabulary", "dst") if parts[0] == "dst" and len(parts) == 2 and parts[1].startswith("__") else None


def offences(found: Import) -> str | None:
    """What is wrong with one import, if anything."""
    if found.imported.split(".")[0] != "dst":
        return None
    if found.importer == BESIDE or found.importer.startswith(BESIDE + "."):
        target = layer_of(found.imported)
        if found.imported.startswith(BESIDE) or (target is not None and target[1] == "vocabulary"):
            return None
        return f"{found}; {BESIDE} stands on the vocabulary alone"
    if found.imported.startswith(BESIDE):
        return None if found.importer.startswith(TRIAL) else f"{found}; what is for tests is for tests"
    here, there = layer_of(found.importer), layer_of(found.imported)
    if here is None or there is None:
        return f"{found}; {found.importer if here is None else found.imported} is in no layer: give it a place"
    if there[0] > here[0]:
        return f"{found}; {here[1]} does not know {there[1]}"
    if there[0] == here[0] and there[2] != here[2] and here[1] in STRANGERS:
        return f"{found}; siblings do not know each other"
    return None


class ArchitectureTests(SynchronousTestCase):
    """What the modules of C{dst} import."""

    def sources(self) -> list[tuple[str, str]]:
        """Every module of the package with its text."""
        paths = sorted(PACKAGE.rglob("*.py"))
        self.assertGreater(len(paths), 20)
        return [(module_name(path, CHECKOUT), path.read_text()) for path in paths]

    def imports(self) -> list[Import]:
        """Every import in the package."""
        return [found for name, source in self.sources() for found in imports_of(name, source)]

    def test_layers(self) -> None:
        """Imports go down, never sideways."""
        wrong = [offence for found in self.imports() if (offence := offences(found)) is not None]
        self.assertEqual([], wrong)

    def test_global_reactor(self) -> None:
        """The global reactor is imported by whoever owns a process, and nobody else."""
        importers = {found.importer for found in self.imports() if found.imported == "twisted.internet.reactor"}
        self.assertEqual(set(), importers - set(REACTOR_OWNERS))

    def test_reactor_by_the_way(self) -> None:
        """Nor is it imported by importing something else: whoever owns the process chooses its reactor."""
        for name, source in self.sources():
            tree = ast.parse(source)
            at_the_top = {id(found) for found in tree.body}
            for found in ast.walk(tree):
                if isinstance(found, ast.Import | ast.ImportFrom):
                    for each in imports_of(name, ast.unparse(found)):
                        package = each.imported.split(".")[0]
                        if package in REACTOR_BY_THE_WAY:
                            self.assertEqual(REACTOR_BY_THE_WAY[package], name)
                            self.assertNotIn(id(found), at_the_top, str(each))

    def test_deciders(self) -> None:
        """Who decides without acting imports nothing that acts, and opens no file."""
        wrong = []
        for name, source in self.sources():
            layer = layer_of(name)
            if layer is None or layer[1] != "deciding":
                continue
            wrong += [
                str(found) for found in imports_of(name, source) if found.imported.split(".")[0] in NOT_FOR_DECIDERS
            ]
            for call in ast.walk(ast.parse(source)):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "open":
                    wrong.append(f"{name}, line {call.lineno}: opens a file")
        self.assertEqual([], wrong)

    def test_no_coroutines_on_old_roads(self) -> None:
        """Nothing uses C{inlineCallbacks}: there are Deferreds between objects and coroutines inside methods."""
        names = ("twisted.internet.defer.inlineCallbacks", "twisted.internet.defer.returnValue")
        self.assertEqual([], [str(found) for found in self.imports() if found.imported in names])


class RulesTests(SynchronousTestCase):
    """The rules themselves: that they would notice."""

    def assert_offends(self, importer: str, imported: str, words: str) -> None:
        """The import is refused for that reason."""
        self.assertIn(words, offences(Import(importer, 1, imported)) or "nothing is wrong")

    def test_noticed(self) -> None:
        """Imports that go up, sideways, to or from tests, or nowhere, are noticed."""
        self.assert_offends("dst.wire.parser", "dst.transport.session.Session", "deciding does not know moving")
        self.assert_offends("dst.geometry", "dst.nodes", "vocabulary does not know acting")
        self.assert_offends("dst.nodes.file", "dst.algorithms.mirror", "siblings do not know each other")
        self.assert_offends("dst.wire.parser", "dst.label.format.Label", "siblings do not know each other")
        self.assert_offends("dst.testing.faulty", "dst.nodes.memory.MemoryDevice", "stands on the vocabulary alone")
        self.assert_offends("dst.nodes.memory", "dst.testing.Specimen", "what is for tests is for tests")
        self.assert_offends("dst.cluster.assembly", "dst.simulation.world.World", "assembly does not know trying")
        self.assert_offends("dst.nodes.memory", "dst.wonders.magic", "is in no layer: give it a place")
        self.assert_offends("dst.wonders", "dst.errors.DSTError", "is in no layer: give it a place")

    def test_allowed(self) -> None:
        """Imports that go down, and inside a package, are fine."""
        for importer, imported in [
            ("dst.tap", "dst.cluster.assembly.Assembly"),
            ("dst.nodes.remote", "dst.wire.frames.Frame"),
            ("dst.nodes.file", "dst.nodes.settings.Settings"),
            ("dst.label.format", "dst.errors.DSTError"),
            ("dst.testing.faulty", "dst.interfaces.INode"),
            ("dst.admin.cli", "dst.__version__"),
            ("dst.nodes.file", "os.open"),
            ("dst.simulation.drives", "dst.testing.media.SimulatedMedia"),
            ("dst.simulation.daemons", "dst.cluster.assembly.Cluster"),
        ]:
            self.assertIs(None, offences(Import(importer, 1, imported)))

    def test_every_import_is_seen(self) -> None:
        """Imports inside functions and for the type checker count; relative ones are refused."""
        source = "import a.b\nif T:\n    from c import d\ndef f():\n    from e.f import (g, h)\n"
        self.assertEqual({"a.b", "c.d", "e.f.g", "e.f.h"}, {found.imported for found in imports_of("m", source)})
        self.assertRaises(AssertionError, list, imports_of("m", "from . import x"))
