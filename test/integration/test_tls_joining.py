"""From nothing to two machines that trust each other, with the commands that a person types; and out again."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dst.cluster.assembly import running
from dst.cluster.topology import node, topology
from dst.status import LinkState
from test.integration.daemon_process import ROOT, DaemonProcess

reactor: Any = global_reactor


class Command(ProcessProtocol):
    """A C{dst} command in a process of its own."""

    def __init__(self, case: JoiningTests, *arguments: str, said: str = "") -> None:
        self.output = ""
        self.errors = ""
        self.ended: Deferred[int] = Deferred()
        self.first_line: Deferred[str] = Deferred()
        self.running = True
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        words = [sys.executable, "-c", "from dst.admin.cli import main; main()", *arguments]
        self.process = reactor.spawnProcess(self, words[0], words, environment, str(case.mktemp_directory()))
        self.process.write(said.encode())
        self.process.closeStdin()
        case.addCleanup(self.kill)

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode()
        if "\n" in self.output and not self.first_line.called:
            self.first_line.callback(self.output.partition("\n")[0])

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode()

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        if not self.first_line.called:
            self.first_line.errback(AssertionError(self.errors))
            self.first_line.addErrback(lambda _: None)
        self.ended.callback(reason.value.exitCode)  # type: ignore[union-attr]

    def kill(self) -> None:
        """At the end of the test."""
        if self.running:
            self.process.signalProcess("KILL")


class JoiningTests(TestCase):
    """Two machines, as two directories."""

    timeout = 120

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        for name in ("alpha", "beta", "gamma"):
            (self.root / name / "state").mkdir(parents=True)

    def mktemp_directory(self) -> Path:
        """Where a command runs."""
        path = Path(self.mktemp()).absolute()
        path.mkdir(parents=True)
        return path

    def security(self, name: str) -> str:
        """The security directory of a machine."""
        return str(self.root / name / "state" / "security")

    async def run_command(self, *arguments: str, said: str = "", exit_code: int = 0) -> Command:
        """A command that ends."""
        command = Command(self, *arguments, said=said)
        self.assertEqual(exit_code, await command.ended, command.errors)
        return command

    async def join(self, *more: str) -> None:
        """Beta joins alpha's cluster: one command on each of the two."""
        inviting = Command(
            self, "ca", "invite", "beta", "--listen", "127.0.0.1:0", "--as", "alpha", "--json", *more,
            "--dir", self.security("alpha"),
        )  # fmt: skip
        token = json.loads(await inviting.first_line)["token"]
        joining = await self.run_command(
            "join", "-", "--json", *more, "--dir", self.security("beta"), said=token + "\n"
        )
        self.assertEqual("beta", json.loads(joining.output)["name"])
        self.assertEqual(0, await inviting.ended, inviting.errors)
        self.assertEqual("beta", json.loads(inviting.output.splitlines()[-1])["joined"])

    async def until(self, true: Any, what: Any) -> None:
        """Wait for something, at most twenty seconds."""
        for _ in range(400):
            if true():
                return
            await deferLater(reactor, 0.05)
        self.fail(what())

    async def test_life(self) -> None:
        """
        Two machines that have nothing trust each other after one command each; a daemon of the one has a node at the
        other over TLS; who is revoked is cut off within seconds, says why, and comes back when it has joined again,
        and no daemon was restarted.
        """
        await self.join()
        config = self.root / "alpha" / "alpha.toml"
        config.write_text(
            '[daemon]\nstate_dir = "state"\n'
            '[listeners]\ndst = { endpoint = "tcp:0:interface=127.0.0.1", tls = "required" }\n'
            '[nodes.a]\nuri = "memory:?size=1M"\n'
            '[exports.vol]\ndevice = "a"\nallow = [{ access = "write", identity = "beta" }]\n'
        )
        alpha = await DaemonProcess(self, "--config", str(config)).started
        beta = running(
            topology(
                node(f"dst://127.0.0.1:{alpha.ports['dst']}/vol?tls=on&peer=alpha&resend_s_max=0.5", name="far"),
                state_dir=str(self.root / "beta" / "state"),
            ),
            reactor,
        )
        await beta.start()
        self.addCleanup(beta.stop)
        far = beta["far"]
        self.assertIs(LinkState.READY, far.link, far.reason)
        await far.write(4096, b"hello" * 100)

        revoked = await self.run_command("ca", "revoke", "beta", "--yes", "--dir", self.security("alpha"))
        self.assertIn("is revoked here", revoked.output)
        await self.until(lambda: far.link is LinkState.AWAY and "revoked" in far.reason, lambda: far.reason)
        self.assertIn("(beta, serial ", alpha.output)

        await self.join("--again")
        await self.until(lambda: far.link is LinkState.READY, lambda: far.reason)
        self.assertEqual(b"hello" * 100, bytes(await far.read(4096, 500)))

    async def test_refused(self) -> None:
        """A token that was used is of no use any more; nothing is written."""
        inviting = Command(
            self, "ca", "invite", "beta", "--listen", "127.0.0.1:0", "--json", "--dir", self.security("alpha")
        )
        token = json.loads(await inviting.first_line)["token"]
        await self.run_command("join", token, "--dir", self.security("beta"))
        await inviting.ended
        late = await self.run_command("join", token, "--dir", self.security("gamma"), exit_code=1)
        self.assertIn("is `dst ca invite` still waiting there", late.errors)
        self.assertEqual([], os.listdir(self.security("gamma")))
