"""The daemon as a process: starting, failing to start, stopping."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import tempfile
from textwrap import dedent

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.cluster.assembly import running
from dst.cluster.topology import remote
from test.integration.daemon_process import DaemonProcess, until_ready

MIRROR = """\
    [daemon]
    state_dir = "state"
    admin = "tcp:0:interface=127.0.0.1"
    [listeners]
    dst = "tcp:0:interface=127.0.0.1"
    nbd = "tcp:0:interface=127.0.0.1"
    [nodes.a]
    uri = "file:a.img?size=16M"
    [nodes.b]
    uri = "file:b.img?size=16M"
    [storages.vol]
    algorithm = "mirror"
    nodes = ["a", "b"]
    [exports.vol]
    device = "vol"
    """


class DaemonTests(TestCase):
    """C{twistd dst}, with real files, ports and signals."""

    timeout = 120

    def setUp(self) -> None:
        """A directory for the daemon's files."""
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)

    def file(self, text: str, name: str = "dst.toml") -> str:
        """A topology."""
        path = os.path.join(self.directory, name)
        with open(path, "w") as target:
            target.write(dedent(text))
        return path

    def assert_one_line(self, daemon: DaemonProcess, *words: str) -> None:
        """Standard error has one line, which says this."""
        lines = daemon.errors.splitlines()
        self.assertEqual(1, len(lines), daemon.errors)
        for each in ("dst: ", *words):
            self.assertIn(each, lines[0])

    async def test_life(self) -> None:
        """
        A daemon starts from a file, serves its storage, and ends in order on SIGTERM; what was written is there
        after the next start, with no command given.
        """
        path = self.file(MIRROR)
        data = random.Random(1).randbytes(1 << 20)
        for turn in range(2):
            daemon = await DaemonProcess(self, "--config", path).started
            uri = f"dst://127.0.0.1:{daemon.ports['dst']}/vol"
            async with running(remote(uri, name="vol"), reactor) as cluster:
                volume = await until_ready(cluster["vol"])
                if turn == 0:
                    await volume.write(1 << 20, data)
                    while "becomes in sync" not in daemon.output:  # the second leg, of a storage that is new
                        await deferLater(reactor, 0.05)
                else:
                    self.assertEqual(data, bytes(await volume.read(1 << 20, len(data))))
            await daemon.stop()
            order = [daemon.output.index(f"{step}: stopped") for step in ("admin", "exports", "storages", "nodes")]
            self.assertEqual(sorted(order), order)
            self.assertEqual("", daemon.errors)
        for leg in ("a.img", "b.img"):
            with open(os.path.join(self.directory, leg), "rb") as source:
                source.seek(1 << 20)
                self.assertEqual(data, source.read(len(data)), leg)

    async def test_busy_port(self) -> None:
        """A busy port ends the start with one line and a status, and nothing stays locked."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            path = self.file(MIRROR.replace('nbd = "tcp:0', f'nbd = "tcp:{port}'))
            daemon = DaemonProcess(self, "--config", path)
            self.assertEqual(1, await daemon.ended)
            self.assert_one_line(daemon, f"cannot listen for nbd at tcp:{port}", "Address already in use")
        daemon = await DaemonProcess(self, "--config", path).started
        await daemon.stop()

    async def test_socket_without_directory(self) -> None:
        """A UNIX socket in a directory that is not there ends the start with one line that names it."""
        path = self.file(
            MIRROR.replace('tcp:0:interface=127.0.0.1"\n    [nodes.a]', 'unix:gone/n.sock"\n    [nodes.a]')
        )
        daemon = DaemonProcess(self, "--config", path)
        self.assertEqual(1, await daemon.ended)
        self.assert_one_line(daemon, "cannot listen for nbd at unix:", "gone/n.sock: No such file or directory")

    async def test_locked_file(self) -> None:
        """A file that another daemon has ends the start; the first daemon is not disturbed."""
        text = MIRROR.replace('state_dir = "state"', "")
        first = await DaemonProcess(self, "--config", self.file(text)).started
        second = DaemonProcess(self, "--config", self.file(text, "second.toml"))
        self.assertEqual(1, await second.ended)
        self.assert_one_line(second, ".img")
        await first.stop()
        self.assertEqual("", first.errors)

    async def test_shared_state_directory(self) -> None:
        """Two daemons do not share a state directory."""
        first = await DaemonProcess(self, "--config", self.file(MIRROR)).started
        other = MIRROR.replace(".img", ".other")
        second = DaemonProcess(self, "--config", self.file(other, "second.toml"))
        self.assertEqual(1, await second.ended)
        self.assert_one_line(second, "state directory", "in use by another daemon (process ")
        await first.stop()

    async def test_unusable_state_directory(self) -> None:
        """A state directory that cannot be one is named."""
        self.file("not a directory", "state")
        daemon = DaemonProcess(self, "--config", self.file(MIRROR))
        self.assertEqual(1, await daemon.ended)
        self.assert_one_line(daemon, "the state directory", "cannot be used")

    async def test_absent_member(self) -> None:
        """A member that nobody serves does not keep the daemon from starting."""
        text = MIRROR.replace("file:b.img?size=16M", "dst://127.0.0.1:1/b")
        daemon = await DaemonProcess(self, "--config", self.file(text)).started
        await daemon.stop()
        self.assertEqual("", daemon.errors)

    async def test_killed_and_started_again(self) -> None:
        """A daemon that was killed starts again with nothing in its way: no lock and no socket is left behind."""
        short = tempfile.mkdtemp(prefix="dst-")  # a socket's path is short, and trial's directories are not
        self.addCleanup(shutil.rmtree, short)
        path = self.file(MIRROR.replace('nbd = "tcp:0:interface=127.0.0.1"', f'nbd = "unix:{short}/n.sock"'))
        for _ in range(2):
            daemon = await DaemonProcess(self, "--config", path).started
            self.assertEqual(-signal.SIGKILL, await daemon.kill())

    async def test_script(self) -> None:
        """A topology script is run as a file is, also by C{twist}."""
        path = self.file(
            """\
            from dst.cluster.topology import export, file, mirror, topology

            topology = topology(
                export(mirror("vol", file("a.img", size="16M"), file("b.img", size="16M"))),
                state_dir="state",
                dst="tcp:0:interface=127.0.0.1",
            )
            """,
            "t.py",
        )
        for runner in ("twistd", "twist"):
            daemon = await DaemonProcess(self, "--topology", path, runner=runner).started
            await daemon.stop()
            self.assertTrue(os.path.exists(os.path.join(self.directory, "a.img")))

    async def test_failure_under_twist(self) -> None:
        """C{twist} ends with a status too."""
        self.file("not a directory", "state")
        daemon = DaemonProcess(self, "--config", self.file(MIRROR), runner="twist")
        self.assertEqual(1, await daemon.ended)
        self.assertIn("dst: the state directory", daemon.errors)

    async def test_json_log(self) -> None:
        """The log as JSON is one object a line."""
        daemon = await DaemonProcess(self, "--config", self.file(MIRROR), "--log-format", "json").started
        await daemon.stop()
        events = [json.loads(line) for line in daemon.output.splitlines()]
        self.assertIn("exports", [event.get("step") for event in events])
