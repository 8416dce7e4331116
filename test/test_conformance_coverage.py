"""
No provider escapes its suite.

Every class of the project that provides one of its interfaces is held to it by
a test case that C{trial} finds.  Who adds a provider adds the case, in a line or two.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementedBy, implementer

import dst
import test
from dst.interfaces import (
    IAlgorithm,
    IAlgorithmProvider,
    IBlockDevice,
    IClusterAdmin,
    IExporter,
    IExportProvider,
    IExports,
    INode,
    INodeProvider,
)
from dst.testing import conformance_tests

INTERFACES = (
    IAlgorithm,
    IAlgorithmProvider,
    IBlockDevice,
    IClusterAdmin,
    IExporter,
    IExportProvider,
    IExports,
    INode,
    INodeProvider,
)

EXAMPLES = Path(dst.__file__).parent.parent / "examples"


def modules_below(package: ModuleType) -> Iterator[ModuleType]:
    """C{package} and every module in it, imported."""
    yield package
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        yield importlib.import_module(found.name)


def providers_in(module: ModuleType) -> Iterator[type]:
    """The classes written in C{module} that provide one of the project's interfaces."""
    for _name, found in inspect.getmembers(module, inspect.isclass):
        if found.__module__ == module.__name__ and any(
            interface in INTERFACES for interface in implementedBy(found).flattened()
        ):
            yield found


def uncovered(providers: set[type]) -> list[str]:
    """The providers that no test case holds to their interface, by name."""
    missing = []
    for provider in providers:
        cases = conformance_tests.get(provider, [])
        found_by_trial = [
            case
            for case in cases
            if case.__module__.startswith("test.")
            and getattr(sys.modules[case.__module__], case.__name__, None) is case
            and any(name.startswith("test_") for name in dir(case))
        ]
        if not found_by_trial:
            missing.append(f"{provider.__module__}.{provider.__qualname__}")
    return sorted(missing)


class CoverageTests(SynchronousTestCase):
    """What provides and what is tested."""

    def setUp(self) -> None:
        for _module in modules_below(test):
            pass  # importing the tests is what fills the table

    def test_every_provider(self) -> None:
        """Each provider in the package, its fakes included, passes the suite of its interface."""
        providers = {provider for module in modules_below(dst) for provider in providers_in(module)}
        names = {provider.__name__ for provider in providers}
        self.assertLessEqual(
            {
                "FaultyDevice",
                "FileNode",
                "HTTPAdmin",
                "MemoryDevice",
                "Mirror",
                "NBDExportProvider",
                "NBDServerFactory",
                "NamedExports",
            },
            names,
        )
        self.assertEqual([], uncovered(providers))

    def test_examples(self) -> None:
        """So does each provider in the examples, because people copy them."""
        package_roots = [path.parent for path in EXAMPLES.rglob("__init__.py")]
        self.assertNotEqual([], package_roots)
        for path in package_roots:
            self.addCleanup(sys.path.remove, str(path.parent))
            sys.path.insert(0, str(path.parent))
        modules = [module for path in package_roots for module in modules_below(importlib.import_module(path.name))]
        providers = {provider for module in modules for provider in providers_in(module)}
        self.assertNotEqual(set(), providers)
        self.assertEqual([], uncovered(providers))

    def test_would_be_noticed(self) -> None:
        """A provider without a test case, or with one that trial does not find, is named."""

        @implementer(INode)
        class Escaped:
            """Nobody tests it."""

        class Inherited(Escaped):
            """Nor that it is still a node."""

        class Stranger:
            """Not one of the project's."""

        namespace = ModuleType(__name__)
        namespace.__dict__.update(Escaped=Escaped, Inherited=Inherited, Stranger=Stranger, Interface=Interface)
        self.assertEqual({Escaped, Inherited}, set(providers_in(namespace)))
        hidden = type(
            "HiddenTests", (SynchronousTestCase,), {"test_nothing": lambda self: None, "__module__": __name__}
        )
        conformance_tests[Escaped] = [hidden]
        self.addCleanup(conformance_tests.pop, Escaped)
        self.assertEqual(2, len(uncovered({Escaped, Inherited})))
