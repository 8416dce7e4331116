"""
The main promise, on real processes: a mirror of three daemons is used while they are killed, and heals by itself.

Each test ends with all copies equal, byte for byte.  What was copied and what had differed are printed: the
first must be little more than the second.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
from functools import partial

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dst.cluster.assembly import running
from dst.cluster.topology import file, mirror
from dst.errors import DSTError
from dst.nodes.nbd import NBDNode
from dst.status import LinkState
from test.integration.cluster import MirrorOfThree, differing_bytes, fio, in_sync, member, soon, verified
from test.integration.debian_tools import needs

MIB = 1 << 20
REGION = 64 << 10
BLOCK = 4096


def told(what: str, copied: int, differed: int, regions: int) -> None:
    """The ratios, for whoever reads the output of the tests."""
    print(
        f"\n  {what}: {copied / MIB:.2f} MiB copied; in blocks of 4 KiB {differed / MIB:.2f} MiB differed "
        f"(ratio {copied / differed:.2f}), in regions of 64 KiB {regions / MIB:.2f} (ratio {copied / regions:.2f})"
    )


@needs("fio")
class NodeTests(TestCase):
    """Nodes die, come back, come back blank, and come back as somebody else's."""

    timeout = 150

    async def test_killed_under_load(self) -> None:
        """
        While fio writes, one node is killed and started again, then another: fio sees no error, and every copy is
        whole in the end.
        """
        cluster = MirrorOfThree(self)
        await cluster.start()
        load = fio(
            self,
            cluster.uri,
            "--rw=randwrite",
            "--bsrange=4k-128k",
            "--iodepth=16",
            "--size=80M",
            "--rate=,4m",
            "--fsync=100",
        )
        for victim, other in (("b", "c"), ("c", "a")):
            await cluster.until_written("a", 4 * MIB)
            before = len(cluster.copied())
            await cluster.kill(victim)
            await cluster.until_state(victim, "absent")
            await cluster.until_written("a", 4 * MIB)
            self.assertIsNone(load.code, "fio has to be at work until the last node is back")
            legs = (cluster.leg(victim), cluster.leg(other), cluster.size)
            differed, regions = differing_bytes(*legs), differing_bytes(*legs, REGION)
            await cluster.launch(victim)
            await cluster.until_state(victim, "in-sync")
            told(
                f"{victim} was away under load (the client writes on while it is copied)",
                await cluster.until_copied(victim, before),
                differed,
                regions,
            )
        await verified(self, load)
        await cluster.until_whole()
        self.assertEqual({}, cluster.unequal_legs())
        await cluster.stop()
        self.assertEqual({}, cluster.unequal_legs())

    async def test_copies_what_differs(self) -> None:
        """What is copied to a node that was away is what was written meanwhile, and hardly more."""
        cluster = MirrorOfThree(self)
        await cluster.start()
        everywhere = ("--rw=write", "--bs=256k", "--iodepth=8", "--size=80M")
        await verified(self, fio(self, cluster.uri, *everywhere))
        for victim, what, options in (
            ("a", "sequential writes", ("--rw=write", "--bs=128k", "--offset=8M", "--size=16M", "--iodepth=8")),
            ("b", "random writes of 64 KiB", ("--rw=randwrite", "--bs=64k", "--size=80M", "--io_size=16M")),
            ("c", "random writes of 4 KiB", ("--rw=randwrite", "--bs=4k", "--size=80M", "--io_size=1M")),
        ):
            idle = await cluster.until("no region is hot", lambda tree: tree.detail["hot_regions"] == 0)
            self.assertEqual({"a", "b", "c"}, in_sync(idle))
            before = len(cluster.copied())
            await cluster.kill(victim)
            await cluster.until_state(victim, "absent")
            load = fio(self, cluster.uri, *options, f"--randseed={ord(victim)}", "--verify_state_save=0")
            await verified(self, load)
            hot = (await cluster.status()).detail["hot_regions"]
            assert isinstance(hot, int)
            other = "b" if victim == "a" else "a"
            legs = (cluster.leg(victim), cluster.leg(other), cluster.size)
            differed, regions = differing_bytes(*legs), differing_bytes(*legs, REGION)
            self.assertGreater(differed, 0)
            await cluster.launch(victim)
            copied = await cluster.until_copied(victim, before)
            told(f"{victim} missed {what}", copied, differed, regions)
            self.assertGreaterEqual(copied, differed)
            self.assertLessEqual(copied, regions + hot * REGION)
            self.assertLessEqual(copied, 1.1 * regions)
            await cluster.until_whole()
            self.assertEqual({}, cluster.unequal_legs())

    async def test_blank_media(self) -> None:
        """A node that comes back with an empty file is filled with everything, and nobody was asked."""
        cluster = MirrorOfThree(self)
        await cluster.start()
        await verified(
            self, fio(self, cluster.uri, "--rw=randwrite", "--bs=64k", "--size=32M", "--offset=4M", "--iodepth=8")
        )
        before = len(cluster.copied())
        await cluster.kill("b")
        cluster.leg("b").unlink()
        load = fio(
            self,
            cluster.uri,
            "--rw=randwrite",
            "--bsrange=4k-64k",
            "--size=24M",
            "--offset=40M",
            "--iodepth=16",
            "--rate=,3m",
        )
        await cluster.until_state("b", "absent")
        await cluster.launch("b")
        copied = await cluster.until_copied("b", before)
        self.assertIn("b: full resync of", cluster.daemons["owner"].output)
        self.assertIn("b: new-media:", cluster.daemons["owner"].output)
        await verified(self, load)
        await cluster.until_whole()
        self.assertEqual({}, cluster.unequal_legs())
        self.assertLess(copied, cluster.size)
        print(
            f"\n  b was blank: {copied / MIB:.2f} MiB copied of {cluster.size / MIB:.2f}; the rest was never written"
        )
        self.assertLessEqual(cluster.leg("b").stat().st_blocks * 512, 1.1 * cluster.leg("a").stat().st_blocks * 512)

    async def test_last_copy(self) -> None:
        """
        One copy is enough for the client. When that dies too operations wait, also when a node is back that has
        missed something; they go on with the last copy, none has failed, and the others are brought up to it.
        """
        cluster = MirrorOfThree(self, size="48M")
        await cluster.start()
        load = fio(
            self,
            cluster.uri,
            "--rw=randwrite",
            "--bsrange=4k-64k",
            "--iodepth=16",
            "--size=40M",
            "--rate=,3m",
            "--fsync=50",
        )
        await cluster.until_written("a", 2 * MIB)
        await cluster.kill("b")
        await cluster.kill("c")
        await cluster.until_state("b", "absent")
        alone = await cluster.until("a is alone", lambda tree: in_sync(tree) == {"a"})
        self.assertEqual(("degraded", 0), (alone.health.value, alone.redundancy))
        await cluster.until_written("a", 2 * MIB)
        await cluster.kill("a")
        await cluster.until("nothing can be reached", lambda tree: tree.health.value == "frozen")
        await cluster.launch("b")
        stale = await cluster.until("b is reached", lambda tree: member(tree, "b").detail.get("link") == "ready")
        self.assertEqual("frozen", stale.health.value)
        self.assertNotEqual("in-sync", member(stale, "b").state)
        self.assertIsNone(load.code)
        await cluster.launch("a")
        await cluster.launch("c")
        await verified(self, load)
        await cluster.until_whole()
        self.assertEqual({}, cluster.unequal_legs())

    async def test_foreign_media(self) -> None:
        """
        A node that comes back with the media of another storage is refused with the reason and not touched; the
        others serve on. When its own media is back, so is the member.
        """
        cluster = MirrorOfThree(self)
        await cluster.start()
        foreign = str(cluster.directory / "foreign.img")
        theirs = mirror("other", file(foreign, size="96M"), file(self.mktemp(), size="96M"))
        async with running(theirs, reactor) as elsewhere:
            await elsewhere["other"].write(MIB, b"precious" * 8192)
            await elsewhere["other"].flush()
        digest = _digest(foreign)
        await verified(self, fio(self, cluster.uri, "--rw=randwrite", "--bs=16k", "--size=8M", "--iodepth=8"))
        await cluster.kill("b")
        own = str(cluster.directory / "own.img")
        os.rename(cluster.leg("b"), own)
        shutil.copyfile(foreign, cluster.leg("b"))
        await cluster.launch("b")
        refused = await cluster.until_state("b", "refused")
        self.assertIn("member of another storage", refused.reason)
        await verified(self, fio(self, cluster.uri, "--rw=randwrite", "--bs=16k", "--size=8M", "--iodepth=8"))
        tree = await cluster.status()
        self.assertEqual(("degraded", {"a", "c"}), (tree.health.value, in_sync(tree)))
        self.assertEqual("refused", member(tree, "b").state)
        self.assertEqual({}, cluster.unequal_legs("ac"))
        await cluster.kill("b")
        self.assertEqual(digest, _digest(str(cluster.leg("b"))))
        os.rename(own, cluster.leg("b"))
        await cluster.launch("b")
        await cluster.until_whole()
        self.assertEqual({}, cluster.unequal_legs())


class OwnerTests(TestCase):
    """The owner of the mirror dies."""

    timeout = 150

    async def test_killed_under_load(self) -> None:
        """
        The owner is killed in the middle of writes, then together with a node, then when one node has not got what
        the others have. When they are back every write that was acknowledged is there, of any other it was
        the old or the new content, the copies are equal, and it stays so.
        """
        cluster = MirrorOfThree(self)
        await cluster.start()
        history = History(cluster.size // BLOCK)
        for turn, victims in enumerate((("owner",), ("owner", "b"), ("b", "owner"), ("owner", "c"))):
            client = await self.connected(cluster)
            load = Load(client, history, random.Random(turn))
            await load.until_acknowledged(3000)
            behind = turn == 3
            if behind:
                await soon(partial(self.left_behind, cluster, load), cluster.log)
            for victim in victims:
                await cluster.kill(victim)
            await load.ended()
            await client.close()
            differed = differing_bytes(cluster.leg("a"), cluster.leg("c"), cluster.size)
            for victim in reversed(victims):
                await cluster.launch(victim)
            client = await self.connected(cluster)
            print(
                f"\n  {' and '.join(victims)} killed with {load.in_flight_at_end} writes in flight; "
                f"{differed / 1024:.0f} KiB differed between the copies that stayed"
            )
            if behind:
                self.assertGreater(differed, 0)
            found = await history.check(self, client)
            await cluster.until_whole()
            self.assertEqual({}, cluster.unequal_legs())
            self.assertEqual(found, await history.check(self, client))
            await client.close()

    async def left_behind(self, cluster: MirrorOfThree, load: Load) -> int:
        """
        Stop a node, so that it gets nothing from now on and loses what is on its way.

        @return: how much it lacks once nothing moves any more. When that is nothing (what was in flight it had
            already, only the others had not) it goes on, to be stopped at another moment.
        """
        cluster.daemons["c"].signal(signal.SIGSTOP)
        acknowledged = -1
        for _ in range(10):  # later the others go on without it
            if acknowledged == load.acknowledged:
                break
            acknowledged = load.acknowledged
            await deferLater(reactor, 0.3)
        lacking = differing_bytes(cluster.leg("a"), cluster.leg("c"), cluster.size)
        if not lacking:
            cluster.daemons["c"].signal(signal.SIGCONT)
        return lacking

    async def connected(self, cluster: MirrorOfThree) -> NBDNode:
        """A client, once the storage serves."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", cluster.nbd_port)
        client = NBDNode(reactor, "client", endpoint, "vol", delay_s_max=0.5)
        self.addCleanup(client.close)
        await client.open()

        async def ready() -> bool:
            return client.link is LinkState.READY

        await soon(ready, lambda: f"{client.reason}\n{cluster.log()}")
        return client


class History:
    """
    What was written to each block: numbers that rise by one, and which of them must be there.

    @ivar tried: the highest number that was sent, by block.
    @ivar least: the highest number that was acknowledged: no lower one may be seen again.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.tried: dict[int, int] = {}
        self.least: dict[int, int] = {}

    def content(self, block: int, number: int) -> bytes:
        """Unlike that of any other block or number in every sector; number 0 is what was never written."""
        return b"".join(
            block.to_bytes(8, "big") + number.to_bytes(8, "big") + bytes([sector]) * 496 for sector in range(8)
        )

    async def check(self, case: TestCase, client: NBDNode) -> dict[int, int]:
        """Read every block that was written; @return: the numbers that are there, which from now on must stay."""
        wanted = sorted(self.tried)
        for at in range(0, len(wanted), 64):
            some = wanted[at : at + 64]
            results = await DeferredList([client.read(block * BLOCK, BLOCK) for block in some], fireOnOneErrback=True)
            for block, (_, data) in zip(some, results, strict=True):
                number = int.from_bytes(data[8:16], "big")
                expected = self.content(block, number) if number else bytes(BLOCK)
                case.assertTrue(bytes(data) == expected, f"block {block} is mixed: it says {number}")
                case.assertGreaterEqual(number, self.least.get(block, 0), f"an acknowledged write to {block} is lost")
                case.assertLessEqual(number, self.tried[block], f"block {block}")
                self.least[block] = number
        return dict(self.least)


class Load:
    """
    Writes in flight all the time, at most one to a block, and now and then a flush, until the connection breaks.

    @ivar acknowledged: writes that were answered.
    @ivar in_flight_at_end: writes that were never answered.
    """

    DEPTH = 32

    def __init__(self, client: NBDNode, history: History, randomness: random.Random) -> None:
        self._client = client
        self._history = history
        self._random = randomness
        self._busy: set[int] = set()
        self.acknowledged = 0
        self._enough: tuple[int, Deferred[None]] = (0, Deferred())
        self.in_flight_at_end = 0
        self._workers = [Deferred.fromCoroutine(self._work()) for _ in range(self.DEPTH)]

    async def until_acknowledged(self, count: int) -> None:
        """Wait for so many writes from now on; an error before that is the test's."""
        waiting: Deferred[None] = Deferred()
        self._enough = (self.acknowledged + count, waiting)
        all_ended = DeferredList(self._workers)
        all_ended.addCallback(lambda _: None if waiting.called else waiting.errback(AssertionError("the load ended")))
        await waiting

    async def ended(self) -> None:
        """Wait until every worker has seen the connection break."""
        for success, error in await DeferredList(self._workers, consumeErrors=True):
            if not success:
                error.raiseException()

    async def _work(self) -> None:
        history = self._history
        while True:
            block = self._random.randrange(history.blocks)
            if block in self._busy:
                continue
            self._busy.add(block)
            number = history.tried[block] = history.tried.get(block, 0) + 1
            try:
                await self._client.write(block * BLOCK, history.content(block, number))
                history.least[block] = number
                if self._random.randrange(200) == 0:
                    await self._client.flush()
            except DSTError:
                self.in_flight_at_end += 1
                return
            self._busy.discard(block)
            self.acknowledged += 1
            enough, waiting = self._enough
            if self.acknowledged == enough:
                waiting.callback(None)


def _digest(path: str) -> str:
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
