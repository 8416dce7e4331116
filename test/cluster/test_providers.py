"""Tests of L{dst.cluster.providers}: plugins, good and bad."""

from __future__ import annotations

import os
import sys

from twisted.trial.unittest import SynchronousTestCase

import dst.plugins
from dst.cluster.providers import Providers

BROKEN_LATER = """\
from twisted.plugin import IPlugin
from zope.interface import implementer
from dst.interfaces import INodeProvider

@implementer(IPlugin, INodeProvider)
class Tape:
    scheme = {scheme!r}

tape = Tape()
"""


EXPORT_PROVIDER = """\
from twisted.plugin import IPlugin
from zope.interface import implementer
from dst.interfaces import IExportProvider

@implementer(IPlugin, IExportProvider)
class Serving:
    protocol = {protocol!r}

serving = Serving()
"""


class FoundTests(SynchronousTestCase):
    """What is installed."""

    def setUp(self) -> None:
        """A directory of plugins besides DST's own."""
        self.directory = self.mktemp()
        os.makedirs(self.directory)
        self.patch(dst.plugins, "__path__", [*dst.plugins.__path__, os.path.abspath(self.directory)])

    def add(self, name: str, text: str) -> None:
        """A plugin module, forgotten again at the end."""
        with open(os.path.join(self.directory, f"{name}.py"), "w") as target:
            target.write(text)
        self.addCleanup(sys.modules.pop, f"dst.plugins.{name}", None)

    def test_own(self) -> None:
        """DST's own nodes, algorithms and servers are found as anybody else's."""
        found = Providers.found()
        self.assertTrue({"memory", "file", "dst"} <= set(found.nodes), found.nodes)
        self.assertTrue({"mirror", "linear", "stripe"} <= set(found.algorithms), found.algorithms)
        self.assertEqual({"dst", "nbd"}, set(found.exports))
        self.assertEqual([], found.broken)

    def test_third_party(self) -> None:
        """A module in any directory of plugins is enough."""
        self.add("tape_plugin", BROKEN_LATER.format(scheme="tape"))
        self.assertIn("tape", Providers.found().nodes)

    def test_broken(self) -> None:
        """A module that cannot be imported is logged and keeps nothing else from being found."""
        self.add("tape_broken", "import no_such_module_anywhere\n")
        found = Providers.found()
        self.assertIn("file", found.nodes)
        self.assertEqual(
            ["the plugin module dst.plugins.tape_broken is left out, it cannot be imported"], found.broken
        )
        self.assertEqual(1, len(self.flushLoggedErrors(ModuleNotFoundError)))

    def test_broken_after_it_was_found(self) -> None:
        """A plugin that is in the cache and cannot be loaded any more is named and left out."""
        self.add("tape_gone", BROKEN_LATER.format(scheme="tape"))
        Providers.found()
        path = os.path.join(self.directory, "tape_gone.py")
        with open(path, "w") as target:
            target.write("raise RuntimeError('no licence')\n")
        os.utime(path, (0, 0))  # older than the cache, as files from a package are
        del sys.modules["dst.plugins.tape_gone"]
        found = Providers.found()
        self.assertNotIn("tape", found.nodes)
        self.assertIn("file", found.nodes)
        self.assertEqual(
            ["the plugin dst.plugins.tape_gone.tape is left out, it cannot be loaded: RuntimeError: no licence"],
            found.broken,
        )

    def test_nobody_takes_the_place_of_another(self) -> None:
        """A second provider of a scheme is left out and named; DST's own come first."""
        self.add("a_file", BROKEN_LATER.format(scheme="file"))
        found = Providers.found()
        self.assertEqual("FileNodeProvider", type(found.nodes["file"]).__name__)
        self.assertEqual(1, len(found.broken))
        self.assertIn(
            "the plugin dst.plugins.a_file.tape is left out: dst.nodes.file.FileNodeProvider", found.broken[0]
        )

    def test_without_a_name(self) -> None:
        """A provider that does not say what it provides is left out."""
        self.add("tape_nameless", BROKEN_LATER.format(scheme=None))
        self.assertIn("its scheme is None, expected a name", Providers.found().broken[0])

    def test_words_of_a_topology(self) -> None:
        """A protocol cannot be called as something else that stands beside the protocols in a topology."""
        self.add("tape_admin", EXPORT_PROVIDER.format(protocol="admin"))
        found = Providers.found()
        self.assertNotIn("admin", found.exports)
        self.assertEqual(
            [
                "the plugin dst.plugins.tape_admin.serving is left out: "
                "its protocol is 'admin', which means something else in a topology"
            ],
            found.broken,
        )

    def test_third_party_protocol(self) -> None:
        """Servers of third parties are found as their nodes are."""
        self.add("tape_serving", EXPORT_PROVIDER.format(protocol="tape"))
        self.assertEqual({"dst", "nbd", "tape"}, set(Providers.found().exports))
