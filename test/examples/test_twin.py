"""Tests of C{examples/third_party_algorithm}: an algorithm that is no part of DST."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dst.errors import CorruptData
from dst.nodes.memory import MemoryDevice
from dst.testing import Specimen, algorithm_suite

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "third_party_algorithm"
sys.path.insert(0, str(EXAMPLE))
try:
    from dst_twin import Twin
finally:
    sys.path.remove(str(EXAMPLE))


def make(case: object, **options: object) -> Specimen:
    """Twins of two memory devices."""
    clock = Clock()
    nodes = [MemoryDevice(clock, name, 3 << 20, **options) for name in ("a", "b")]
    return Specimen(Twin(clock, "twins", *nodes), clock=clock, reopen=lambda: Twin(clock, "twins", *nodes))


def make_read_only(case: object) -> Specimen:
    """Twins of two that refuse changes."""
    return make(case, read_only=True)


class TwinTests(algorithm_suite(Twin, make, make_read_only=make_read_only)):
    """An algorithm of a third party keeps the promises of a storage."""


class DisagreementTests(SynchronousTestCase):
    """What twins are for."""

    def test_damage_is_seen(self) -> None:
        """A read where the two do not hold the same fails, one beside it does not."""
        clock = Clock()
        a, b = (MemoryDevice(clock, name, 1 << 20) for name in "ab")
        twins = Twin(clock, "twins", a, b)
        self.successResultOf(twins.open())
        self.successResultOf(twins.write(0, b"same" * 2048))
        self.successResultOf(b.write(4096, b"S"))
        self.assertIn("a and b", self.failureResultOf(twins.read(4096, 4096), CorruptData).value.message)
        self.assertEqual(b"same" * 1024, self.successResultOf(twins.read(0, 4096)))


class FoundTests(SynchronousTestCase):
    """It is enough that the package can be imported."""

    def test_found_as_plugin(self) -> None:
        """A process that has the example's directory on its path knows the algorithm; another one does not."""
        script = "from dst.cluster.providers import Providers; print(*sorted(Providers.found().algorithms))"

        def algorithms(path: str) -> list[str]:
            environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
            run = subprocess.run(
                [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
            )
            return run.stdout.split()

        self.assertIn("twin", algorithms(f"{EXAMPLE}{os.pathsep}{ROOT}"))
        self.assertNotIn("twin", algorithms(str(ROOT)))
