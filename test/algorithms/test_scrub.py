"""
Copies compared with each other: what is evident is mended, and where nobody can tell nothing is changed.
"""

from __future__ import annotations

import json
from typing import Any

from dst.algorithms.mirror import Mirror
from dst.errors import InvalidRequest, MediaError
from dst.explaining import ScrubRecord
from dst.interfaces import IScrubs
from dst.recovery.state_files import MemoryFiles
from test.algorithms.test_mirror import MirrorCase
from test.scenarios.world import REGION_BYTES, World

SECTORS = REGION_BYTES // 512
AT = 5 * 4096


class ScrubCase(MirrorCase):
    """A mirror whose media can rot."""

    def rot(self, world: World, n: int, at: int = AT, length: int = 512, value: bytes = b"\xee") -> None:
        """What no disk reports."""
        media = world.media[n]
        media.write(at, value * length, fua=True)

    def scrubbed(self, world: World, **options: Any) -> ScrubRecord:
        """The end of a scrub."""
        mirror = world.mirror
        assert mirror is not None
        self.successResultOf(mirror.scrub(**options))
        for _ in range(400):
            world.advance(0.1)
            last = mirror.scrubs()[-1]
            if last.state != "running":
                return last
        raise AssertionError(f"it does not end: {mirror.scrubs()[-1]}")

    def content(self, world: World, n: int, at: int = AT, length: int = 4096) -> bytes:
        """What one member's media has."""
        return bytes(world.media[n].read(at, length))


class ScrubTests(ScrubCase):
    """What is found, and what becomes of it."""

    def test_provides(self) -> None:
        """A mirror can be scrubbed."""
        self.assertTrue(IScrubs.implementedBy(Mirror))

    def test_equal(self) -> None:
        """Nothing is found where nothing is wrong, and everything was looked at."""
        world = self.served(3)
        self.write(world, 0, 3 * SECTORS)
        found = self.scrubbed(world)
        assert world.mirror is not None
        self.assertEqual(("done", 0, world.mirror.geometry.size), (found.state, found.bytes_left, found.bytes_total))
        self.assertEqual("all copies are equal", found.sentence)
        world.check_convergence()

    def test_most_are_right(self) -> None:
        """One of three that has something else is mended from the others."""
        world = self.served(3)
        self.write(world, 0, 3 * SECTORS)
        self.rot(world, 1)
        found = self.scrubbed(world)
        self.assertEqual((4096, 4096, 0), (found.outvoted_bytes, found.repaired_bytes, found.undecided_bytes))
        self.assertEqual(self.content(world, 0), self.content(world, 1))
        self.assertEqual("all copies are equal", self.scrubbed(world).sentence)
        world.check_convergence()

    def test_only_looking(self) -> None:
        """Asked not to mend anything it says what it would have mended."""
        world = self.served(3)
        self.write(world, 0, 3 * SECTORS)
        self.rot(world, 1)
        before = self.content(world, 1)
        found = self.scrubbed(world, repair=False)
        self.assertEqual((4096, 0), (found.outvoted_bytes, found.repaired_bytes))
        self.assertEqual(before, self.content(world, 1))

    def test_nobody_can_tell(self) -> None:
        """Of two that differ neither is changed; a person is told where, and chooses."""
        world = self.served(2)
        self.write(world, 0, 3 * SECTORS)
        good = self.content(world, 0)
        self.rot(world, 1)
        self.rot(world, 1, AT + 4096)
        bad = self.content(world, 1)
        found = self.scrubbed(world)
        self.assertEqual((8192, 0), (found.undecided_bytes, found.repaired_bytes))
        self.assertEqual(((AT, 8192, "n0 against n1"),), found.undecided)
        self.assertEqual((good, bad), (self.content(world, 0), self.content(world, 1)))
        assert world.mirror is not None
        detail = world.mirror.status().detail["scrub"]
        assert isinstance(detail, dict)
        self.assertEqual(8192, detail["undecided_bytes"])
        self.successResultOf(world.mirror.mark_dirty("n1"))
        self.until_in_sync(world)
        self.assertEqual(good, self.content(world, 1))
        self.assertEqual("all copies are equal", self.scrubbed(world).sentence)

    def test_three_that_all_differ(self) -> None:
        """There is no majority."""
        world = self.served(3)
        self.write(world, 0, 3 * SECTORS)
        self.rot(world, 1)
        self.rot(world, 2, value=b"\xdd")
        found = self.scrubbed(world)
        self.assertEqual((4096, 0, 0), (found.undecided_bytes, found.outvoted_bytes, found.repaired_bytes))
        self.assertEqual(((AT, 4096, "n0 against n1 against n2"),), found.undecided)

    def test_what_one_cannot_read(self) -> None:
        """It is written anew with what another has, also of two."""
        world = self.served(2)
        self.write(world, 0, 3 * SECTORS)
        world.nodes[1].fail_next("read checksums", MediaError("a bad sector"), extent=(AT, 4096), times=None)
        found = self.scrubbed(world)
        self.assertEqual((4096, 4096, 0), (found.unreadable_bytes, found.repaired_bytes, found.undecided_bytes))
        world.nodes[1].heal()
        world.check_convergence()

    def test_what_nobody_can_read(self) -> None:
        """It is lost, and said to be."""
        world = self.served(2)
        self.write(world, 0, 3 * SECTORS)
        for node in world.nodes:
            node.fail_next("read checksums", MediaError("a bad sector"), extent=(AT, 4096), times=None)
        found = self.scrubbed(world)
        self.assertEqual((4096, 0), (found.lost_bytes, found.repaired_bytes))

    def test_mending_that_fails(self) -> None:
        """A member that cannot be written leaves, as it would for a client."""
        world = self.served(3, flap_hold_s=0.0)
        self.write(world, 0, 3 * SECTORS)
        self.rot(world, 1)
        world.nodes[1].fail_next("write", MediaError("no"), extent=(AT, 512), times=1)
        found = self.scrubbed(world)
        self.assertEqual("done", found.state)
        self.assertEqual(self.content(world, 0), self.content(world, 1))
        world.check_convergence()


class GoingOnTests(ScrubCase):
    """It gives way, goes on, and comes again."""

    def test_one_at_a_time(self) -> None:
        """A second one is refused, and so is stopping none."""
        world = self.served(2)
        assert world.mirror is not None
        self.failureResultOf(world.mirror.stop_scrub(), InvalidRequest)
        world.nodes[1].delay_s = 1.0
        self.successResultOf(world.mirror.scrub())
        self.failureResultOf(world.mirror.scrub(), InvalidRequest)
        self.successResultOf(world.mirror.stop_scrub())
        self.assertEqual("stopped", world.mirror.scrubs()[-1].state)
        world.nodes[1].delay_s = 0.0
        world.advance(2)
        self.assertEqual("done", self.scrubbed(world).state)
        world.check_convergence()

    def test_writes_go_on(self) -> None:
        """What clients write meanwhile is no difference."""
        world = self.served(3)
        assert world.mirror is not None
        self.write(world, 0, 3 * SECTORS)
        for node in world.nodes:
            node.delay_s = 0.003
        self.successResultOf(world.mirror.scrub())
        for n in range(200):
            world.write(n * 37 % (3 * SECTORS - 64), 16)
            world.advance(0.01)
        while world.mirror.scrubs()[-1].state == "running":
            world.advance(0.1)
        self.assertEqual("all copies are equal", world.mirror.scrubs()[-1].sentence)
        world.check_convergence()

    def test_gives_way(self) -> None:
        """While a member is away or being resynced nothing is compared; then it goes on by itself."""
        world = self.served(2, flap_hold_s=0.0)
        assert world.mirror is not None
        self.write(world, 0, 3 * SECTORS)
        world.nodes[1].pull()
        world.advance(12)
        self.successResultOf(world.mirror.scrub())
        world.advance(3)
        self.assertEqual("it waits for a second copy", world.mirror.scrubs()[-1].waits_for)
        world.nodes[1].plug_in()
        self.until_in_sync(world)
        for _ in range(100):
            world.advance(0.1)
        self.assertEqual("done", world.mirror.scrubs()[-1].state)

    def test_stops_with_the_storage(self) -> None:
        """Nothing of it is left when the mirror is closed, and no timer."""
        world = self.served(2, scrub_s=3600.0)
        assert world.mirror is not None
        world.nodes[1].delay_s = 5.0
        self.successResultOf(world.mirror.scrub())
        world.advance(0.1)
        world.nodes[1].delay_s = 0.0
        world.wait_for(world.mirror.close())
        world.advance(10)
        self.assertEqual([], world.clock.getDelayedCalls())

    def test_by_itself(self) -> None:
        """Some time after the last one the next one begins."""
        world = self.served(2, scrub_s=600.0)
        assert world.mirror is not None
        world.advance(590)
        self.assertEqual([], list(world.mirror.scrubs()))
        world.advance(30)
        self.assertEqual(["done"], [each.state for each in world.mirror.scrubs()])
        world.advance(620)
        self.assertEqual(["done"] * 2, [each.state for each in world.mirror.scrubs()])


class KeptTests(ScrubCase):
    """How far it is survives the daemon."""

    def mirror_of(self, world: World, files: MemoryFiles) -> Mirror:
        """The world's mirror, with files."""
        nodes = world.nodes
        mirror = Mirror(world.clock, "vol", nodes, world.options, world.store, files=files)
        world.mirror = mirror
        mirror.open()
        self.until_in_sync(world)
        return mirror

    def test_goes_on_after_a_restart(self) -> None:
        """From where it was, with what it had found."""
        world = self.served(2)
        assert world.mirror is not None
        self.write(world, 0, 3 * SECTORS)
        self.rot(world, 1)
        world.wait_for(world.mirror.close())
        files = MemoryFiles()
        kept = {
            "since": 5.0,
            "running": {
                "began": 7.0,
                "repair": True,
                "region": 1,
                "bytes_total": 0,
                "bytes_seen": REGION_BYTES,
                "unreadable_bytes": 0,
                "outvoted_bytes": 0,
                "repaired_bytes": 0,
                "undecided_bytes": 4096,
                "lost_bytes": 0,
                "undecided": [[AT, 4096, "n0 against n1"]],
            },
            "ended": [],
        }
        files.store("scrub", json.dumps(kept).encode())
        mirror = self.mirror_of(world, files)
        for _ in range(100):
            world.advance(0.1)
        (found,) = mirror.scrubs()
        self.assertEqual(("done", 7.0, 4096), (found.state, found.began, found.undecided_bytes))
        stored = json.loads(self.successResultOf(files.load("scrub")) or b"")
        self.assertIs(None, stored["running"])
        self.assertEqual("done", stored["ended"][0]["state"])
        world.wait_for(mirror.close())
        again = self.mirror_of(world, files)
        self.assertEqual([found], list(again.scrubs()))

    def test_damaged(self) -> None:
        """What cannot be read is forgotten; the storage serves all the same."""
        world = self.served(2)
        assert world.mirror is not None
        world.wait_for(world.mirror.close())
        for damage in (b"\xff", b"[]", b"{}", b'{"since": 1.0, "running": {}, "ended": []}', b'{"since": "a"}'):
            files = MemoryFiles()
            files.store("scrub", damage)
            mirror = self.mirror_of(world, files)
            self.assertEqual([], list(mirror.scrubs()))
            self.assertEqual("done", self.scrubbed(world).state)
            world.wait_for(mirror.close())
