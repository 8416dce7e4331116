"""Changing what a daemon runs while it runs: real files, signals, and kills between any two steps."""

from __future__ import annotations

import copy
import random
import signal
import stat
import tomllib
from pathlib import Path
from textwrap import dedent
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.admin.client import HTTPAdmin
from dst.administration import OperationState, OperationStatus
from dst.cluster.assembly import running
from dst.cluster.config import check
from dst.cluster.topology import remote
from dst.errors import Conflict, InvalidRequest
from dst.status import Health, StatusTree
from test.integration.daemon_process import DaemonProcess, until_ready

TOPOLOGY = """\
    # what I run
    [daemon]
    state_dir = "state"
    admin = "tcp:0:interface=127.0.0.1"   # any port
    [listeners]
    dst = "tcp:0:interface=127.0.0.1"
    [nodes.a]
    uri = "file:a.img?size=8M"  # the first disk
    [nodes.b]
    uri = "file:b.img?size=8M"
    [storages.vol]
    algorithm = "mirror"
    nodes = ["a", "b"]
    votes = "members"  # so that what a restart knows of matters
    [exports.vol]
    device = "vol"
    """

STEPS = 8
"""How many different files the daemon is killed after; the change below has as many versions of it."""


class ChangingCase(TestCase):
    """A daemon, its file, and an operator."""

    timeout = 240

    def setUp(self) -> None:
        """A file that a person has written."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.path = self.directory / "dst.toml"
        self.path.write_text(dedent(TOPOLOGY))
        self.data = random.Random(2).randbytes(1 << 20)

    @property
    def file(self) -> dict[str, Any]:
        """What the file says."""
        return tomllib.loads(self.path.read_text())

    async def start(self) -> DaemonProcess:
        """Start a daemon with the file as it is now."""
        self.assertEqual([], check(self.path))
        self.daemon = await DaemonProcess(self, "--config", str(self.path)).started
        self.admin = HTTPAdmin.connect(reactor, f"http://127.0.0.1:{self.daemon.ports['admin']}")
        return self.daemon

    async def fill(self) -> None:
        """Write something to the storage, and wait until every member has it."""
        uri = f"dst://127.0.0.1:{self.daemon.ports['dst']}/vol"
        async with running(remote(uri, name="vol"), reactor) as cluster:
            await (await until_ready(cluster["vol"])).write(1 << 20, self.data, fua=True)
        await self.healthy("vol")

    async def healthy(self, storage: str) -> StatusTree:
        """Wait until a storage has everything that it should have."""
        while True:
            trees = {tree.name: tree for tree in await self.admin.status()}
            if trees[storage].health is Health.HEALTHY:
                return trees[storage]
            await deferLater(reactor, 0.1)

    async def ended(self, begun: OperationStatus) -> OperationStatus:
        """Wait for the end of an operation."""
        while begun.state is OperationState.RUNNING:
            await deferLater(reactor, 0.05)
            begun = await self.admin.operation(begun.id)
        return begun

    async def assert_done(self, document: dict[str, Any]) -> None:
        """It can be changed to that; then the file says it, and so does the daemon."""
        status = await self.ended(await self.admin.change(document))
        self.assertIs(OperationState.DONE, status.state, status.sentence)
        self.assertEqual(document, self.file)
        self.assertEqual(document, (await self.admin.configuration()).document)
        self.assertEqual([], check(self.path))

    def assert_media(self, *names: str) -> None:
        """These files have the data, where a mirror has it."""
        for name in names:
            self.assertEqual(self.data, (self.directory / name).read_bytes()[1 << 20 : 2 << 20], name)


def exchanged(document: dict[str, Any]) -> dict[str, Any]:
    """Two other disks, and a spare that is exported."""
    wanted = copy.deepcopy(document)
    wanted["nodes"] = {name: {"uri": f"file:{name}.img?size=8M"} for name in ("c", "d", "spare")}
    wanted["storages"]["vol"]["nodes"] = ["c", "d"]
    wanted["exports"]["spare"] = {"device": "spare", "read_only": True}
    wanted["daemon"]["name"] = "exchanged"
    return wanted


class ChangingTests(ChangingCase):
    """What a person does to a daemon that runs."""

    async def test_exchange(self) -> None:
        """
        Both disks are exchanged under a storage that serves; the file is edited in place, with its owner and mode,
        and what it was is beside it; after a restart everything is as it was wanted.
        """
        self.path.chmod(0o640)
        await self.start()
        await self.fill()
        before = self.path.read_text()
        wanted = exchanged(self.file)
        await self.assert_done(wanted)
        self.assertEqual(["c", "d"], [child.name for child in (await self.healthy("vol")).children])
        text = self.path.read_text()
        for line in ("# what I run\n", 'admin = "tcp:0:interface=127.0.0.1"   # any port\n', "# so that what a"):
            self.assertIn(line, text)
        self.assertEqual(0o640, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual(before, self.path.with_name("dst.toml.before").read_text())
        self.assertEqual(
            ("daemon.name is 'exchanged' from the next start on",), (await self.admin.configuration()).after_restart
        )
        self.assertEqual(-signal.SIGTERM, await self.daemon.stop())
        self.assert_media("c.img", "d.img")
        await self.start()
        self.assertEqual(["c", "d"], [child.name for child in (await self.healthy("vol")).children])
        self.assertEqual((), (await self.admin.configuration()).after_restart)
        self.assertEqual(-signal.SIGTERM, await self.daemon.stop())

    async def test_changed_by_somebody_else(self) -> None:
        """A file that is not what it was when it was read is never written over; SIGHUP reads it again."""
        await self.start()
        wanted = (await self.admin.configuration()).document
        wanted["exports"] = {}
        theirs = self.path.read_text() + '[nodes.spare]\nuri = "file:spare.img?size=8M"\n'
        self.path.write_text(theirs)
        status = await self.ended(await self.admin.change(wanted))
        self.assertEqual((OperationState.FAILED, "conflict"), (status.state, status.error_code), status.sentence)
        self.assertIn("changed by somebody else", status.sentence)
        self.assertEqual(theirs, self.path.read_text())
        self.daemon.signal(signal.SIGHUP)
        while "spare" not in [tree.name for tree in await self.admin.status()]:
            await deferLater(reactor, 0.05)
        for operation in await self.admin.operations():  # the node is there before the change has ended
            await self.ended(operation)
        self.assertEqual(theirs, self.path.read_text())
        self.assertEqual(self.file, (await self.admin.configuration()).document)
        del (wanted := self.file)["exports"]
        await self.assert_done(wanted)
        self.assertEqual(-signal.SIGTERM, await self.daemon.stop())

    async def test_destructive_file(self) -> None:
        """What would cost a copy is not done because of a signal: the log says what asks first."""
        await self.start()
        text = self.path.read_text()
        for change, sentence in (
            ('nodes = ["a"]', "data or redundancy would be given up"),
            ("nodes = 7", "expected"),
        ):
            self.path.write_text(text.replace('nodes = ["a", "b"]', change))
            seen = len(self.daemon.output)
            self.daemon.signal(signal.SIGHUP)
            while "the configuration stays as it was" not in self.daemon.output[seen:]:
                await deferLater(reactor, 0.05)
            self.assertIn(sentence, self.daemon.output[seen:])
        self.assertEqual(["a", "b"], [child.name for child in (await self.healthy("vol")).children])
        self.path.write_text(theirs := text.replace('nodes = ["a", "b"]', 'nodes = ["a"]'))
        await self.assert_done(self.file)  # a person has seen the plan, and says so
        self.assertEqual(theirs, self.path.read_text())
        self.assertEqual(["a"], [child.name for child in (await self.healthy("vol")).children])
        self.assertEqual(-signal.SIGTERM, await self.daemon.stop())

    async def test_replace_is_written_down(self) -> None:
        """A disk that was replaced is the one that the next start takes."""
        await self.start()
        await self.fill()
        await self.admin.replace("vol", "b", "file:new.img?size=8M")
        await self.healthy("vol")
        self.assertEqual({"uri": "file:new.img?size=8M"}, self.file["nodes"]["b"])
        self.assertEqual(-signal.SIGTERM, await self.daemon.stop())
        await self.start()
        await self.healthy("vol")
        self.assertEqual(-signal.SIGTERM, await self.daemon.stop())
        self.assert_media("a.img", "new.img")

    async def test_not_writable(self) -> None:
        """Where the daemon may not write, it says so beforehand; where it runs a script, too."""
        script = self.directory / "dst.py"
        script.write_text(
            "from dst.cluster.topology import memory, topology\n"
            "topology = topology(memory('1M', name='m'), admin='tcp:0:interface=127.0.0.1')\n"
        )
        daemon = await DaemonProcess(self, "--topology", str(script)).started
        admin = HTTPAdmin.connect(reactor, f"http://127.0.0.1:{daemon.ports['admin']}")
        configuration = await admin.configuration()
        self.assertIn("is a Python script", configuration.writable)
        await self.assertFailure(admin.change({**configuration.document, "exports": {}}), InvalidRequest)
        await self.assertFailure(admin.change(configuration.document, "an-old-etag"), Conflict)
        self.assertEqual(-signal.SIGTERM, await daemon.stop())


class KilledTests(ChangingCase):
    """A daemon that is killed in the middle of a change."""

    timeout = 600

    async def test_while_a_disk_is_replaced(self) -> None:
        """Whichever disk the file names then, the next start has the data, and the other one can take its place."""
        await self.start()
        await self.fill()
        for number, delay_s in enumerate((0.0, 0.01, 0.03, 0.1)):
            uri = f"file:new{number}.img?size=8M"
            asking = self.admin.replace("vol", "b", uri)
            asking.addErrback(lambda _: None)  # it may have been cut off
            await deferLater(reactor, delay_s)
            await self.daemon.kill()
            await self.start()
            self.assertEqual(self.file, (await self.admin.configuration()).document)
            if self.file["nodes"]["b"] != {"uri": uri}:
                await self.healthy_or_known("vol")
                await self.admin.replace("vol", "b", uri)
            await self.healthy("vol")
        self.assertEqual(-signal.SIGTERM, await self.daemon.stop())
        self.assert_media("a.img", "new3.img")

    async def test_between_steps(self) -> None:
        """
        After each version of the file that there is, the daemon is killed; the next one starts with the file as it
        is, has every byte, runs what the file says, and can be changed to what was wanted.
        """
        killed_at, chance = [], random.Random(3)
        for kill_after in range(1, STEPS + 1):
            for each in self.directory.iterdir():
                if each.is_file():
                    each.unlink()
                else:
                    for below in sorted(each.rglob("*"), reverse=True):
                        below.rmdir() if below.is_dir() else below.unlink()
                    each.rmdir()
            self.path.write_text(dedent(TOPOLOGY))
            await self.start()
            await self.fill()
            wanted = exchanged(self.file)
            seen, versions = self.path.read_bytes(), 0
            begun = await self.admin.change(wanted)
            asking = self.admin.operation(begun.id)
            while versions < kill_after and not (asking.called and _ended(asking.result)):
                if asking.called:
                    asking = self.admin.operation(begun.id)
                await deferLater(reactor, 0.001)
                now = self.path.read_bytes()
                versions, seen = versions + (now != seen), now
            await deferLater(reactor, chance.choice([0.0, 0.005, 0.02]))  # before, in, or after the step itself
            await self.daemon.kill()
            asking.addErrback(lambda _: None)
            killed_at.append(self.file["storages"]["vol"]["nodes"])
            await self.start()
            configuration = await self.admin.configuration()
            self.assertEqual(self.file, configuration.document)
            self.assertEqual((), configuration.after_restart)
            await self.healthy_or_known("vol")
            await self.assert_done(wanted)
            await self.healthy("vol")
            self.assertEqual(-signal.SIGTERM, await self.daemon.stop())
            self.assert_media("c.img", "d.img")
        self.assertGreaterEqual(len({tuple(nodes) for nodes in killed_at}), 3, killed_at)

    async def healthy_or_known(self, storage: str) -> None:
        """Wait until it serves; a member that the storage has let go already is refused, and named."""
        while True:
            tree = {tree.name: tree for tree in await self.admin.status()}[storage]
            states = {child.state for child in tree.children}
            if tree.state == "ready" and states <= {"in-sync", "refused"}:
                return
            await deferLater(reactor, 0.1)


def _ended(result: object) -> bool:
    return isinstance(result, OperationStatus) and result.state is not OperationState.RUNNING
