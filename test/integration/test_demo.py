"""C{dst demo}, with all its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

COMMAND = "from dst.admin.cli import main; main()"
ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 300.0

CHECKS = [
    "healthy",
    "load",
    "degraded",
    "load-goes-on",
    "healed",
    "partial",
    "load-through-resync",
    "every-block",
    "copy-b",
    "copy-c",
]


class DemoTests(SynchronousTestCase):
    """L{dst.admin.demo.command.demo}"""

    def setUp(self) -> None:
        self.temporary = Path(self.mktemp()).resolve()
        self.temporary.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "PYTHONIOENCODING": "utf-8",
            "TMPDIR": str(self.temporary),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, with its temporary directory in that of the test."""
        demo = subprocess.Popen(
            [sys.executable, "-u", "-c", COMMAND, "demo", "--fast", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            text=True,
            # As from a terminal, also where the tests run in the background of a shell, which ignores it for them.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.addCleanup(self.bury, demo)
        return demo

    def bury(self, demo: subprocess.Popen[str]) -> None:
        """Ended, and its pipes closed."""
        if demo.poll() is None:
            demo.kill()
        demo.communicate()

    def processes(self) -> list[str]:
        """The command lines of all processes that know of the test's directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if str(self.temporary) in line:
                    found.append(line)
        return found

    def assert_nothing_left(self) -> None:
        """No process and no file."""
        end = time.monotonic() + 10
        while self.processes() and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual([], self.processes())
        self.assertEqual([], list(self.temporary.iterdir()))

    def test_told_to_the_end(self) -> None:
        """Everything that is checked is right, and nothing is left."""
        demo = self.start("--json")
        out, err = demo.communicate(timeout=WAIT_S_MAX)
        self.assertEqual((0, ""), (demo.returncode, err), out)
        said = json.loads(out)
        self.assertEqual(CHECKS, [check["name"] for check in said["checks"]], out)
        self.assertTrue(all(check["good"] for check in said["checks"]), out)
        self.assertTrue(said["good"])
        self.assert_nothing_left()

    def test_kept(self) -> None:
        """What is kept is all there, and another demo does not touch it."""
        kept = self.temporary / "kept"
        demo = self.start("--keep", str(kept))
        out, err = demo.communicate(timeout=WAIT_S_MAX)
        self.assertEqual((0, ""), (demo.returncode, err), out)
        self.assertIn("All 10 checks are right", out)
        self.assertIn("kill -9", out)
        self.assertEqual([], self.processes())
        for name in ("a.img", "b.img", "c.img", "a.toml", "mirror.toml", "mirror.log", "state"):
            self.assertTrue((kept / name).exists(), name)
        again = self.start("--keep", str(kept))
        out, err = again.communicate(timeout=WAIT_S_MAX)
        self.assertEqual((1, ""), (again.returncode, out))
        self.assertIn("is not empty", err)

    def test_interrupted(self) -> None:
        """However it is ended while everything runs, nothing is left."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            demo = self.start()
            assert demo.stdout is not None
            for line in demo.stdout:
                if "Somebody uses the disk" in line:
                    break
            self.assertEqual(4, len(self.processes()))
            demo.send_signal(number)
            _, err = demo.communicate(timeout=WAIT_S_MAX)
            self.assertEqual(1, demo.returncode, number)
            self.assertIn("the demo was interrupted", err)
            self.assertNotIn("Traceback", err)
            self.assert_nothing_left()

    def test_killed(self) -> None:
        """Not even SIGKILL leaves a daemon behind."""
        demo = self.start()
        assert demo.stdout is not None
        for line in demo.stdout:
            if "Somebody uses the disk" in line:
                break
        self.assertEqual(4, len(self.processes()))
        demo.kill()
        demo.wait(WAIT_S_MAX)
        end = time.monotonic() + 10
        while self.processes() and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual([], self.processes())
