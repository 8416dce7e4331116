"""Tests of a topology whose daemon has certificates."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.assembly import Cluster, running
from dst.cluster.config import check
from dst.cluster.providers import Providers
from dst.cluster.topology import memory, node, topology
from dst.errors import ConfigurationError
from test.security.machines import Machines


class SecurityDirTests(SynchronousTestCase):
    """What is found out before anything starts."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.machines = Machines(str(self.root / "machines"))
        self.machines.add("alpha")
        self.path = self.machines.path("alpha")
        self.config = self.root / "dst.toml"

    def problems(self, text: str) -> list[str]:
        """What C{dst check} says."""
        self.config.write_text(text)
        return [str(each).removeprefix(f"{self.config}:") for each in check(str(self.config), Providers.found())]

    def test_good(self) -> None:
        """A node over TLS, and a listener with it, are fine where there are certificates."""
        self.assertEqual(
            [],
            self.problems(
                f'[daemon]\nsecurity_dir = "{self.path}"\n'
                '[nodes.far]\nuri = "dst://192.0.2.1/vol?peer=beta"\n'
                '[listeners]\ndst = "tcp:7450"\n'
            ),
        )

    def test_none(self) -> None:
        """Without certificates TLS is an error, with its line."""
        (problem,) = self.problems('[nodes.far]\nuri = "dst://192.0.2.1/vol?tls=on"\n')
        self.assertTrue(problem.startswith("2: "), problem)
        self.assertIn("this daemon has no certificate", problem)

    def test_unusable(self) -> None:
        """Certificates that cannot be used are an error, with the line that names their directory."""
        os.chmod(os.path.join(self.path, "this.key"), 0o644)
        (problem,) = self.problems(f'[daemon]\nsecurity_dir = "{self.path}"\n')
        self.assertTrue(problem.startswith("2: "), problem)
        self.assertIn("this.key is open to others", problem)
        error = self.assertRaises(
            ConfigurationError,
            running,
            topology(memory("1M"), security_dir=self.path),
            MemoryReactorClock(),
            Providers.found(),
        )
        self.assertIn("this.key is open to others", error.message)

    def test_given_to_nodes(self) -> None:
        """A cluster gives its certificates to those who can use them, and to no other cluster's."""
        providers = Providers.found()
        reactor = MemoryReactorClock()
        built: Cluster = running(
            topology(node("dst://192.0.2.1/vol", name="far"), memory("1M"), security_dir=self.path),
            reactor,
            providers,
        )
        assert built.security is not None
        self.assertEqual("alpha", built.security.name)
        self.assertIs(None, providers.security)
        self.assertIs(built.security, built.providers.security)
        self.assertEqual([], reactor.getDelayedCalls())
