"""What C{make run} runs: four daemons, one of which dies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 90.0


class RunTests(SynchronousTestCase):
    """C{examples/run_three_nodes.py}, on ports that are free."""

    def setUp(self) -> None:
        """The topologies of the example with other ports, so that a person's own C{make run} is left alone."""
        self.run_dir = Path(self.mktemp()).resolve()
        self.run_dir.mkdir(parents=True)
        ports = {}
        holders = []
        for port in ("7450", "7451", "7452", "7453", "7480", "10809"):
            holder = socket.create_server(("127.0.0.1", 0))
            holders.append(holder)
            ports[port] = str(holder.getsockname()[1])
        for holder in holders:
            holder.close()
        self.ports = ports
        for name in ("a", "b", "c", "mirror"):
            text = (ROOT / "examples" / "three-nodes" / f"{name}.toml").read_text()
            for port, free in ports.items():
                text = text.replace(f":{port}", f":{free}")
            (self.run_dir / f"{name}.toml").write_text(text.replace("size=1G", "size=16M"))
        self.addCleanup(self.kill_all)

    def launch(self) -> subprocess.Popen[str]:
        """Start it; what it says goes to a file."""
        self.output = self.run_dir / "output"
        with open(self.output, "w") as output:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "examples" / "run_three_nodes.py"), str(self.run_dir)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                text=True,
                start_new_session=True,
            )

    def kill_all(self) -> None:
        """Leave no process behind, whatever went wrong."""
        for path in self.run_dir.glob("*.pid"):
            try:
                os.kill(int(path.read_text()), signal.SIGKILL)
            except (OSError, ValueError):
                pass

    def wait_for(self, path: Path, words: str, launcher: subprocess.Popen[str]) -> None:
        """Until these words are in the file."""
        deadline = time.monotonic() + WAIT_S_MAX
        while not path.exists() or words not in path.read_text():
            if time.monotonic() > deadline or launcher.poll() is not None:
                self.fail(f"{words!r} did not come; it said: {self.output.read_text()}")
            time.sleep(0.05)

    def test_node_dies_and_comes_back(self) -> None:
        """
        It says what to try, tells when a node dies, lets another process take the node's place, sees it heal, and
        ends everything when it is told to.
        """
        if not shutil.which("twistd", path=os.path.dirname(sys.executable)):
            self.skipTest("twistd is not installed beside this Python")
        launcher = self.launch()
        self.addCleanup(launcher.kill)
        self.wait_for(self.output, "Ctrl-C stops everything", launcher)
        self.wait_for(self.run_dir / "mirror.log", "c: copied 0 bytes, becomes in sync", launcher)
        os.kill(int((self.run_dir / "b.pid").read_text()), signal.SIGKILL)
        self.wait_for(self.output, "node b was killed by signal 9", launcher)
        fill = [sys.executable, "examples/fill.py", f"dst://127.0.0.1:{self.ports['7450']}/vol", "--megabytes", "4"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        filled = subprocess.run(fill, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S_MAX, env=environment)
        self.assertEqual("4 MiB written and flushed\n4 MiB read back, all equal\n", filled.stdout, filled.stderr)
        twistd = [os.path.join(os.path.dirname(sys.executable), "twistd")]
        where = [f"--pidfile={self.run_dir}/b.pid", f"--logfile={self.run_dir}/b.log"]
        again = [*twistd, *where, "dst", "--config", f"{self.run_dir}/b.toml"]
        subprocess.run(again, cwd=ROOT, check=True, timeout=WAIT_S_MAX, env=environment, capture_output=True)
        self.wait_for(self.run_dir / "mirror.log", "b: partial resync", launcher)
        launcher.send_signal(signal.SIGINT)
        self.assertEqual(0, launcher.wait(WAIT_S_MAX), self.output.read_text())
        self.assertEqual([], list(self.run_dir.glob("*.pid")))
        legs = [(self.run_dir / f"{name}.img").read_bytes()[: 4 << 20] for name in "ac"]
        self.assertEqual(legs[0], legs[1])

    def test_busy_port(self) -> None:
        """A port that is taken is told, and nothing stays."""
        with socket.create_server(("127.0.0.1", int(self.ports["7452"]))):
            launcher = self.launch()
            self.addCleanup(launcher.kill)
            self.assertEqual(1, launcher.wait(WAIT_S_MAX))
        said = self.output.read_text()
        self.assertIn(
            f"cannot listen for dst at tcp:{self.ports['7452']}:interface=127.0.0.1: Address already in", said
        )
        self.assertIn("make run: b could not start, for the reason above", said)
        self.assertEqual([], list(self.run_dir.glob("*.pid")))
