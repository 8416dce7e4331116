"""The C{dst} command changes what a daemon runs: both as processes, with a file that says so afterwards."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from test.integration.cluster import free_ports
from test.integration.daemon_process import ROOT, DaemonProcess

COMMAND = "from dst.admin.cli import main; main()"

TOPOLOGY = """\
# a person's comment
[daemon]
state_dir = "state"
admin = "tcp:{admin}:interface=127.0.0.1"
[listeners]
nbd = "tcp:{nbd}:interface=127.0.0.1"
[nodes.a]
uri = "file:a.img?size=8M"
[nodes.b]
uri = "file:b.img?size=8M"
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b"]
"""


class ChangeTests(TestCase):
    """C{dst storage add}, C{dst export create}, C{dst apply} and what undoes them"""

    timeout = 180

    async def setUp(self) -> None:
        admin, nbd = free_ports(2)
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(parents=True)
        self.file = directory / "topology.toml"
        self.file.write_text(TOPOLOGY.format(admin=admin, nbd=nbd))
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DST_")},
            "DST_URL": f"http://127.0.0.1:{admin}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "PYTHONIOENCODING": "utf-8",
        }
        self.daemon = DaemonProcess(self, "--config", str(self.file))
        await self.daemon.started

    async def dst(self, *arguments: str) -> tuple[str, str, int]:
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-c", COMMAND, *arguments], env=self.environment, reactor=reactor
        )
        return out.decode(), err.decode(), code

    async def json(self, *arguments: str) -> Any:
        out, err, code = await self.dst(*arguments, "--json")
        self.assertEqual((0, ""), (code, err), out)
        return json.loads(out)

    async def test_from_nothing_and_back(self) -> None:
        """A member and an export come and go, are in the file, and a restart would have them."""
        told = await self.json("storage", "add", "vol", "c=file:c.img?size=8M", "--wait", "--yes")
        self.assertEqual("done", told["operation"]["state"])
        status = await self.json("status", "vol")
        self.assertEqual(
            [("a", "in-sync"), ("b", "in-sync"), ("c", "in-sync")],
            [(member["name"], member["state"]) for member in status["storages"][0]["members"]],
        )
        await self.json("export", "create", "vol")
        document = tomllib.loads(self.file.read_text())
        self.assertEqual(["a", "b", "c"], document["storages"]["vol"]["nodes"])
        self.assertEqual({"device": "vol"}, document["exports"]["vol"])
        self.assertIn("# a person's comment", self.file.read_text())

        out, err, code = await self.dst("storage", "remove", "vol", "c")
        self.assertEqual((1, ""), (code, out))
        self.assertIn("nothing was done", err)
        await self.json("storage", "remove", "vol", "c", "--delete-node", "--yes")
        await self.json("export", "delete", "vol", "--yes")
        document = tomllib.loads(self.file.read_text())
        self.assertEqual((["a", "b"], {"a", "b"}), (document["storages"]["vol"]["nodes"], set(document["nodes"])))
        kinds = [operation["kind"] for operation in (await self.json("operation", "list"))["operations"]]
        self.assertEqual(["change"] * 4, kinds)
        self.assertEqual([], (await self.json("export", "list"))["exports"])

    async def test_a_file(self) -> None:
        """A whole file is planned, then applied; what is shown is what it says, and applying that changes nothing."""
        wanted = self.file.with_name("wanted.toml")
        wanted.write_text(self.file.read_text() + '[exports.disk]\ndevice = "vol"\nread_only = true\n')
        out, err, code = await self.dst("apply", str(wanted), "--plan")
        self.assertEqual((0, ""), (code, err))
        self.assertIn("disk", out)
        self.assertEqual([], (await self.json("export", "list"))["exports"])
        out, err, code = await self.dst("apply", str(wanted))
        self.assertEqual(0, code, err)
        (export,) = (await self.json("export", "list"))["exports"]
        self.assertEqual(("disk", True), (export["name"], export["read_only"]))
        shown, _, _ = await self.dst("configuration", "show")
        self.assertEqual(tomllib.loads(wanted.read_text()), tomllib.loads(shown))
        wanted.write_text(shown)
        out, err, code = await self.dst("apply", str(wanted), "--yes")
        self.assertEqual((0, "nothing is to be done: it is like that already\n"), (code, out), err)

    def test_ctrl_c_at_the_question(self) -> None:
        """In a terminal the plan is shown and asked for; Ctrl-C there is a no, and nothing is done."""
        here, there = pty.openpty()
        self.addCleanup(os.close, here)
        command = [sys.executable, "-c", COMMAND, "storage", "remove", "vol", "b"]
        environment = {**self.environment, "TERM": "xterm", "COLUMNS": "80"}
        asking = subprocess.Popen(
            command, stdin=there, stdout=there, stderr=there, env=environment, start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # it becomes the terminal of the session
        )  # fmt: skip
        os.close(there)
        self.addCleanup(asking.kill)
        said = self.read_until(here, b"[y/N]")
        self.assertIn(b"(!)", said)
        os.write(here, b"\x03")
        said = self.read_until(here, b"try:")
        self.assertIn(b"nothing was done", said)
        self.assertEqual(1, asking.wait(30))
        self.assertEqual(["a", "b"], tomllib.loads(self.file.read_text())["storages"]["vol"]["nodes"])

    def read_until(self, terminal: int, what: bytes) -> bytes:
        """What the command draws, until it has drawn that."""
        said = b""
        end = time.monotonic() + 60
        while what not in said:
            readable, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
            self.assertTrue(readable, said)
            said += os.read(terminal, 4096)
        return said
