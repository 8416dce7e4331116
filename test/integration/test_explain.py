"""Explanations and taking over, between real daemons: two that hold nodes, two that would own a mirror of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from dst.admin.client import HTTPAdmin
from dst.errors import DSTError
from dst.explaining import Explanation
from dst.status import Health
from test.integration.cluster import free_ports, soon
from test.integration.daemon_process import DaemonProcess

COMMAND = "from dst.admin.cli import main; main()"

NODES = """
[daemon]
state_dir = "{name}-state"
admin = "tcp:{admin}:interface=127.0.0.1"
[listeners]
dst = "tcp:{dst}:interface=127.0.0.1"
[nodes.a]
uri = "file:{name}-a.img?size=16M"
[nodes.b]
uri = "file:{name}-b.img?size=16M"
[nodes.w]
uri = "file:{name}-w.img?size=128K"
[storages.pair]
algorithm = "mirror"
nodes = ["a", "b"]
[exports.pair]
device = "pair"
read_only = false
[exports.w]
device = "w"
read_only = false
"""

OWNER = """
[daemon]
state_dir = "{name}-state"
admin = "tcp:{admin}:interface=127.0.0.1"
[nodes.left]
uri = "dst://127.0.0.1:{left}/pair"
[nodes.right]
uri = "dst://127.0.0.1:{right}/pair"
[nodes.w]
uri = "dst://127.0.0.1:{left}/w"
[storages.vol]
algorithm = "mirror"
nodes = ["left", "right"]
witnesses = ["w"]
standby = {standby}
"""


class ExplainTests(TestCase):
    """Mirrors of mirrors, over two levels and four daemons."""

    timeout = 120

    async def setUp(self) -> None:
        """Everything runs, and the first owner serves."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(parents=True)
        ports = free_ports(6)
        self.admins: dict[str, HTTPAdmin] = {}
        self.urls: dict[str, str] = {}
        self.daemons: dict[str, DaemonProcess] = {}
        for number, name in enumerate(("left", "right", "one", "two")):
            config = directory / f"{name}.toml"
            if number < 2:
                config.write_text(NODES.format(name=name, admin=ports[number], dst=ports[4 + number]))
            else:
                standby = "true" if name == "two" else "false"
                config.write_text(
                    OWNER.format(name=name, admin=ports[number], left=ports[4], right=ports[5], standby=standby)
                )
            self.urls[name] = f"http://127.0.0.1:{ports[number]}"
            self.admins[name] = HTTPAdmin.connect(reactor, self.urls[name])
            daemon = self.daemons[name] = DaemonProcess(self, "--config", str(config))
            await daemon.started
            if number != 1:
                await self.until(name, "pair" if number < 2 else "vol", "owned-elsewhere" if name == "two" else "")

    async def explained(self, daemon: str, name: str) -> Explanation:
        """What a daemon says of something."""
        (explanation,) = await self.admins[daemon].explain(name)
        return explanation

    async def until(self, daemon: str, name: str, row: str) -> Explanation:
        """Wait until something is healthy, by that row."""
        last: list[object] = []

        async def look() -> Explanation | None:
            try:
                last[:] = [await self.explained(daemon, name)]
            except DSTError as error:
                last[:] = [error]
                return None
            found = last[0]
            assert isinstance(found, Explanation)
            return found if found.health is Health.HEALTHY and found.row == row else None

        found = await soon(look, lambda: f"{name} of {daemon} is not healthy by {row!r}: {last}")
        assert isinstance(found, Explanation)
        return found

    async def dst(self, daemon: str, *arguments: str) -> tuple[str, str, int]:
        """Run the command."""
        environment = {**os.environ, "DST_URL": self.urls[daemon], "PYTHONPATH": os.pathsep.join(sys.path)}
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-c", COMMAND, *arguments], env=environment, reactor=reactor
        )
        return out.decode(), err.decode(), code

    async def test_through_daemons(self) -> None:
        """What another daemon knows of its storage is said here: the member, its state and the command."""
        out, _, code = await self.dst("left", "suspend", "pair", "b")
        self.assertEqual(0, code, out)

        async def told() -> Explanation | None:
            found = await self.explained("one", "left")
            below = [each for each in found.walk() if each.name == "b" and each.state == "suspended"]
            return below[0] if below else None

        member = await soon(told, lambda: "the other daemon's explanation did not arrive")
        assert isinstance(member, Explanation)
        self.assertIn("`dst resume pair b`", member.advice[0])
        self.assertIn("its label: this storage", " ".join(member.evidence))
        out, _, code = await self.dst("one", "explain", "vol")
        self.assertEqual(0, code)
        self.assertIn("`dst resume pair b` uses it again", out)

    async def test_take_over(self) -> None:
        """Planned work: the other daemon is asked, the owner hands over and stands by, and both say so."""
        self.assertIn("vol  mirror  standby", (await self.dst("two", "explain", "vol"))[0])
        out, err, code = await self.dst("two", "storage", "take-over", "vol")
        self.assertEqual((0, "vol is owned and served here\n"), (code, out), err)
        standby = await self.until("one", "vol", "owned-elsewhere")
        self.assertIn("`dst storage take-over vol`", " ".join(standby.advice))
        out, _, code = await self.dst("two", "status", "vol", "--exit-code")
        self.assertEqual(0, code, out)
