"""The simulation is the same on every machine; its command and that of people, as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parents[2]

OWNER = """
[daemon]
state_dir = "state"
[nodes.a]
uri = "file:a.img?size=10G"
[nodes.b]
uri = "dst://127.0.0.1:7451/b"
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b"]
"""

OTHER = """
[daemon]
state_dir = "state-b"
[listeners]
dst = "tcp:7451:interface=127.0.0.1"
[nodes.b]
uri = "file:b.img?size=10G"
[exports.b]
device = "b"
"""


def run(*arguments: str, hash_seed: str = "0", cwd: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    """A Python process with the checkout on its path."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class RepeatableTests(SynchronousTestCase):
    """One seed, one history."""

    def test_trace(self) -> None:
        """Two processes that hash differently write the same trace, byte for byte; another seed another one."""
        traces = []
        for topology in ("mirror-2", "mirror-2-standby", "tree"):
            arguments = ("-m", "dst.simulation", "--topology", topology, "--trace", "--seed")
            one, other = (run(*arguments, "3", hash_seed=hash_seed) for hash_seed in ("1", "4242"))
            self.assertEqual((0, 0), (one.returncode, other.returncode), one.stderr + other.stderr)
            self.assertGreater(len(one.stdout.splitlines()), 2000)
            self.assertTrue(one.stdout == other.stdout, f"the traces of {topology} differ")
            traces.append(one.stdout)
        self.assertEqual(3, len(set(traces)))
        self.assertNotEqual(
            traces[0], run("-m", "dst.simulation", "--topology", "mirror-2", "--trace", "--seed", "4").stdout
        )


class CommandTests(SynchronousTestCase):
    """C{dst rehearse}, as people run it."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        (self.directory / "owner.toml").write_text(OWNER)
        (self.directory / "other.toml").write_text(OTHER)

    def dst(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, in the directory of the files."""
        return run("-c", "from dst.admin.cli import main; main()", "rehearse", *arguments, cwd=self.directory)

    def test_good(self) -> None:
        """Two daemons of one's own, a few hours of cut power: the verdict, and nothing is touched."""
        before = sorted(path.name for path in self.directory.iterdir())
        done = self.dst("owner.toml", "other.toml", "--faults", "power-cut", "--hours", "4", "--seeds", "2")
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertIn("Good: in all 2 lives", done.stdout)
        self.assertIn("power-cut", done.stdout)
        self.assertEqual("", done.stderr)
        self.assertEqual(before, sorted(path.name for path in self.directory.iterdir()))

    def test_json(self) -> None:
        """The same for scripts; a daemon whose file is not given is simulated."""
        done = self.dst("owner.toml", "--faults", "flaky-network", "--hours", "0.5", "--seeds", "1", "--json")
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        found = json.loads(done.stdout)
        self.assertTrue(found["good"])
        self.assertEqual("flaky-network", found["faults"])
        self.assertTrue(any("127.0.0.1:7451" in sentence for sentence in found["simulated_as"]))
        self.assertGreater(found["summary"]["operations"]["answered"], 50)

    def test_refused(self) -> None:
        """What cannot be rehearsed is refused in a sentence."""
        done = self.dst("owner.toml", "--faults", "weekends")
        self.assertEqual(1, done.returncode)
        self.assertIn("did you mean 'weekend'", done.stderr)
        done = self.dst("other.toml")
        self.assertEqual(1, done.returncode)
        self.assertIn("no storage", done.stderr)
        (self.directory / "bad.toml").write_text("[storages.vol]\nalgorithm = 'mirrow'\nnodes = []\n")
        done = self.dst("bad.toml")
        self.assertEqual(1, done.returncode)
        self.assertIn("mirrow", done.stderr)

    def test_list(self) -> None:
        """The names of the faults that come along."""
        done = self.dst("--list")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("two-owners", done.stdout)
