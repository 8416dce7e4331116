"""
Nothing waits for what never comes: room that is there already, a copy that nobody else has.
"""

from __future__ import annotations

from dst.status import LinkState
from test.algorithms.test_mirror import MirrorCase
from test.scenarios.world import REGION_BYTES

SECTORS = REGION_BYTES // 512


class WaitingTests(MirrorCase):
    """Found by walks."""

    def test_room_made_by_others(self) -> None:
        """A write that waits for room in the hot set goes on when an idle clear has made it."""
        world = self.served(2, hot_regions=2)
        assert world.mirror is not None and world.mirror.serving is not None
        hot = world.mirror.serving.hot
        self.write(world, 0)
        self.write(world, 3 * SECTORS)
        world.nodes[0].hold("flush")
        world.advance(1)
        self.write(world, 0)
        hot._clear_later([3])
        done = world.write(SECTORS - 8, 16)  # region 0, which is hot, and region 1
        world.advance(0.1)
        assert done is not None
        self.assertNoResult(done)
        world.nodes[0].release()
        self.assertTrue(world.wait_for(done, 20))
        world.check_convergence()

    def test_repair_that_nobody_can_help(self) -> None:
        """A repair ends when the member that had the data has left: nothing waits for its extent any more."""
        world = self.served(2)
        self.write(world, 0)
        assert world.mirror is not None and world.mirror.serving is not None
        serving = world.mirror.serving
        world.nodes[1].pull(LinkState.INTERRUPTED)
        serving.copier.repair(serving.configuration._members[0], 0, 4096)
        world.advance(0.1)
        world.nodes[1].pull()
        done = world.write(0, 8)
        assert done is not None
        self.assertTrue(world.wait_for(done, 5))
        world.nodes[1].plug_in()
        world.check_convergence()
