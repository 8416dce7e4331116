"""Several daemons of one machine, as processes: the command sees all of them, and a storage moves between them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from dst.nodes.nbd import NBDNode
from test.integration.daemon_process import ROOT, DaemonProcess, until_ready

COMMAND = "from dst.admin.cli import main; main()"

DAEMON = """\
[daemon]
state_dir = "{name}/state"
admin = "unix:{name}/admin.sock"
[listeners]
nbd = "unix:{name}/nbd.sock"
"""

NODE = """\
[nodes.{name}]
uri = "file:{name}.img?size=8M"
"""

VOL = (
    NODE.format(name="a")
    + NODE.format(name="b")
    + """\
[storages.vol]
algorithm = "mirror"
nodes = ["a", "b"]
[exports.vol]
device = "vol"
"""
)

DATA = bytes(range(256)) * 16


class SeveralDaemonsTests(TestCase):
    """The daemons of C{dst.service} and C{dst@web.service}, but for their places"""

    timeout = 180

    async def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(parents=True)
        # The path of a socket must be short.
        self.short = Path(f"/tmp/dst-several-{os.getpid()}")
        self.short.symlink_to(self.directory)
        self.addCleanup(self.short.unlink)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DST_")},
            "DST_URL": f"{self.url('main')} {self.url('web')}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "PYTHONIOENCODING": "utf-8",
        }

    def url(self, name: str) -> str:
        return f"unix:{self.short}/{name}/admin.sock"

    def topology(self, name: str, tables: str) -> str:
        (self.directory / name).mkdir(exist_ok=True)
        file = self.short / f"{name}.toml"
        file.write_text(DAEMON.format(name=name) + tables)
        return str(file)

    async def dst(self, *arguments: str) -> tuple[str, str, int]:
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-c", COMMAND, *arguments], env=self.environment, reactor=reactor
        )
        return out.decode(), err.decode(), code

    async def storages(self) -> dict[str, list[str]]:
        """The names of the storages of each daemon."""
        out, err, code = await self.dst("status", "--json")
        self.assertEqual((0, ""), (code, err), out)
        told = json.loads(out)["daemons"]
        return {Path(each["url"]).parent.name: [tree["name"] for tree in each["storages"]] for each in told}

    async def disk(self, name: str) -> Any:
        """The export C{vol} of that daemon."""
        node = NBDNode(reactor, "vol", UNIXClientEndpoint(reactor, f"{self.short}/{name}/nbd.sock"), "vol")
        await node.open()
        self.addCleanup(node.close)
        await until_ready(node)
        return node

    async def test_a_storage_moves(self) -> None:
        """
        Both are seen in one look.  Without its tables the first daemon lets the storage go while it runs, the second
        has it with what was written.
        """
        first = DaemonProcess(self, "--config", self.topology("main", NODE.format(name="other") + VOL))
        second = DaemonProcess(self, "--config", self.topology("web", NODE.format(name="spare")))
        await first.started
        await second.started
        self.assertEqual({"main": ["vol"], "web": []}, await self.storages())
        disk = await self.disk("main")
        await disk.write(4096, DATA)
        await disk.flush()
        await disk.close()

        file = self.topology("main", NODE.format(name="other"))
        out, err, code = await self.dst("--url", self.url("main"), "apply", file, "--yes", "--wait")
        self.assertEqual(0, code, err)
        self.assertEqual({"main": [], "web": []}, await self.storages())
        file = self.topology("web", NODE.format(name="spare") + VOL)
        out, err, code = await self.dst("--url", self.url("web"), "apply", file, "--wait")
        self.assertEqual(0, code, err)
        self.assertEqual({"main": [], "web": ["vol"]}, await self.storages())
        self.assertEqual(DATA, bytes(await (await self.disk("web")).read(4096, len(DATA))))

        out, err, code = await self.dst("status", "--exit-code")
        self.assertEqual((0, ""), (code, err), out)
        out, err, code = await self.dst("suspend", "vol", "b")
        self.assertEqual((2, ""), (code, out))
        self.assertIn("several daemons could be asked", err)
        out, err, code = await self.dst("--url", self.url("web"), "suspend", "vol", "b")
        self.assertEqual((0, ""), (code, err))

        await first.stop()
        out, err, code = await self.dst("status")
        self.assertEqual(5, code)
        self.assertIn("no daemon answers", err)
        self.assertIn("degraded", out)
