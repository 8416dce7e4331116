"""
Gray failures: members that neither work nor break, and members that come and go.
"""

from __future__ import annotations

from dst.algorithms.mirror.flapping import FREE, SLOW_HELD_S
from dst.algorithms.mirror.slowness import DRAG_S, FLUSH_PATIENCE
from dst.algorithms.mirror.watching import LATE_READ_S, TARGET_PATIENCE, TICK_S
from dst.errors import MediaError
from dst.status import Health, LinkState
from test.scenarios.test_named_traces import SECTORS, TraceCase

SLOW_S = 5.0


class SlowTests(TraceCase):
    """A member that answers too late for too long leaves, and returns by rule (R15)."""

    def test_a_write_waits_no_longer_than_it_must(self) -> None:
        """A member that hangs leaves after slow_s, and the write that waited for it is acknowledged."""
        world = self.served(3)
        self.write(0)
        world.nodes[1].hold("write")
        began = world.clock.seconds()
        self.write(0)
        self.assertLessEqual(world.clock.seconds() - began, SLOW_S + 2 * TICK_S)
        self.assertEqual([0, 2], world.in_sync)
        self.assertIn("too slow: it has not answered a write for 5", self.state(1).reason)

    def test_a_blip_that_clients_wait_for(self) -> None:
        """A member that is interrupted has its grace time, but clients do not wait that long; nor is it held back."""
        world = self.served(2, grace_s=20.0, flap_hold_s=60.0)
        self.write(0)
        world.nodes[1].pull(LinkState.INTERRUPTED)
        world.advance(10)
        self.assertEqual([0, 1], world.in_sync)  # nobody waits
        began = world.clock.seconds()
        self.write(0)
        self.assertLessEqual(world.clock.seconds() - began, SLOW_S + 2 * TICK_S)
        self.assertEqual([0], world.in_sync)
        self.assertIn("clients waited 5 s for it", self.state(1).reason)
        world.nodes[1].plug_in()
        world.until("in sync", lambda: world.in_sync == [0, 1], 5)
        self.all_is_well()

    def test_it_returns_when_it_has_answered_what_it_owes(self) -> None:
        """Not before: what it was sent could be executed after what it is sent then. And not at once."""
        world = self.served(2, flap_hold_s=1.0)
        self.write(0)
        world.nodes[1].hold("write")
        self.write(0)
        self.assertEqual([0], world.in_sync)
        self.write(8)
        world.advance(60)
        self.assertEqual("absent", self.state(1).state)
        self.assertIn("operations that it was sent before", self.state(1).reason)
        world.nodes[1].release()
        world.until("in sync", lambda: world.in_sync == [0, 1], 5)
        self.all_is_well()

    def test_it_is_held_back(self) -> None:
        """Who left for being slow was there all the time: it is not taken back before it had time to get well."""
        world = self.served(2, flap_hold_s=1.0)
        self.write(0)
        world.nodes[1].hold("write")
        self.write(0)
        world.nodes[1].release()
        world.advance(SLOW_HELD_S - 3)
        self.assertEqual("absent", self.state(1).state)
        self.assertIn("it was too slow, and left once in 10 minutes: held back for 30 s", self.state(1).reason)
        self.in_sync()
        self.all_is_well()

    def test_the_last_copy_stays(self) -> None:
        """However long it takes: rather slow than lost."""
        world = self.served(2)
        self.drop(1)
        world.nodes[0].hold("write")
        done = self.started(world.write(0, 8))
        world.advance(60)
        self.assertNoResult(done)
        self.assertEqual([0], world.in_sync)
        world.nodes[0].release()
        self.assertTrue(world.wait_for(done))
        self.back(1)
        self.in_sync()
        self.all_is_well()

    def test_not_below_minimum_copies(self) -> None:
        """Nor one without which fewer copies would be left than must acknowledge."""
        world = self.served(2, minimum_copies=2)
        world.nodes[1].hold("write")
        done = self.started(world.write(0, 8))
        world.advance(60)
        self.assertNoResult(done)
        self.assertEqual([0, 1], world.in_sync)
        world.nodes[1].release()
        self.assertTrue(world.wait_for(done))

    def test_all_hang(self) -> None:
        """When nobody answers it is not one of them."""
        world = self.served(2)
        for node in world.nodes:
            node.hold("write")
        done = self.started(world.write(0, 8))
        world.advance(60)
        self.assertEqual([0, 1], world.in_sync)
        for node in world.nodes:
            node.release()
        self.assertTrue(world.wait_for(done))
        self.all_is_well()

    def test_a_mark_that_hangs(self) -> None:
        """What is written for recovery is waited for no longer than what clients write."""
        world = self.served(2)
        world.nodes[1].hold("write")
        self.write(2 * SECTORS)  # a cold region: nothing is sent before it is marked
        self.assertEqual([0], world.in_sync)
        self.assertIn("too slow", self.state(1).reason)

    def test_a_flush_is_given_more_time(self) -> None:
        """It makes up for what other operations left to it; but not for ever."""
        world = self.served(2)
        self.write(0)
        world.nodes[1].hold("flush")
        began = world.clock.seconds()
        self.flush()
        took = world.clock.seconds() - began
        self.assertGreaterEqual(took, SLOW_S * FLUSH_PATIENCE - 2 * TICK_S)
        self.assertLessEqual(took, SLOW_S * FLUSH_PATIENCE + 2 * TICK_S)
        self.assertEqual([0], world.in_sync)
        self.assertIn("flush", self.state(1).reason)

    def test_dragging(self) -> None:
        """One whose every answer takes a second where the others take none leaves, if that goes on."""
        world = self.served(2)
        world.nodes[1].delay_s = 1.0
        began = world.clock.seconds()
        for n in range(400):
            done = self.started(world.write(8 * (n % 16), 8))
            world.advance(0.1)
            if world.in_sync == [0]:
                break
            if n % 16 == 15:
                world.wait_for(done)
        self.assertEqual([0], world.in_sync)
        self.assertGreaterEqual(world.clock.seconds() - began, DRAG_S)
        self.assertIn("times those of others", self.state(1).reason)

    def test_not_when_told_so(self) -> None:
        """With slow_s = 0 nobody is ever too slow."""
        world = self.served(2, slow_s=0.0)
        world.nodes[1].hold("write")
        done = self.started(world.write(0, 8))
        world.advance(120)
        self.assertNoResult(done)
        world.nodes[1].release()
        self.assertTrue(world.wait_for(done))

    def test_a_stopped_process_blames_nobody(self) -> None:
        """A process that did not run for a minute finds its answers late, and nobody was slow."""
        world = self.served(2)
        self.write(0)
        world.nodes[1].hold("write")
        done = self.started(world.write(0, 8))
        world.advance(1)
        world.clock.advance(60)
        world.nodes[1].release()
        self.assertTrue(world.wait_for(done))
        self.assertEqual([0, 1], world.in_sync)

    def test_a_slow_target(self) -> None:
        """A member that is being resynced and hangs leaves, too, if not as soon: only its resync waits for it."""
        world = self.served(2)
        for sector in range(0, world.data_sectors, 32):
            self.write(sector, min(32, world.data_sectors - sector))
        self.drop(1)
        for region in range(5):
            self.write(region * SECTORS)
        world.nodes[1].delay_s = 0.05
        self.back(1)
        world.until("resyncing", lambda: self.state(1).state == "resyncing")
        world.nodes[1].hold("write write_zeroes")
        world.advance(SLOW_S + 3)
        self.assertEqual("resyncing", self.state(1).state)
        world.advance((TARGET_PATIENCE - 1) * SLOW_S)
        self.assertEqual("absent", self.state(1).state)
        self.assertIn("too slow", self.state(1).reason)
        world.nodes[1].release()
        self.in_sync()
        self.all_is_well()

    def test_nothing_is_looked_at_while_nothing_happens(self) -> None:
        """An idle storage has no timer of this kind."""
        world = self.served(2)
        self.write(0)
        world.advance(30)
        self.assertIsNone(self.serving.watch._timer)
        self.write(0)
        self.assertIsNotNone(self.serving.watch._timer)


class LateReadTests(TraceCase):
    """A read is not kept waiting by a member that does not answer, where another one can."""

    def test_another_member_is_asked(self) -> None:
        """After a second."""
        world = self.served(2)
        self.write(0)
        for node in world.nodes:
            node.hold("read")
            began = world.clock.seconds()
            for _ in range(4):
                self.read(0)
            self.assertLessEqual(world.clock.seconds() - began, LATE_READ_S + 2 * TICK_S)
            node.release()
            world.advance(1)
        self.assertEqual([0, 1], world.in_sync)
        self.all_is_well()

    def test_it_is_asked_again_when_it_answers(self) -> None:
        """One that was late for a moment reads again, and has not left."""
        world = self.served(2)
        self.write(0)
        world.nodes[0].hold("read")
        for _ in range(4):
            self.read(0)
        world.nodes[0].release()
        world.advance(1)
        before = world.nodes[0].counts["read"]
        for _ in range(8):
            self.read(0)
        self.assertGreater(world.nodes[0].counts["read"], before)

    def test_one_that_never_answers_leaves(self) -> None:
        """After slow_s, though it is asked for nothing more."""
        world = self.served(2)
        self.write(0)
        world.nodes[0].hold("read")
        for _ in range(4):
            self.read(0)
        world.advance(SLOW_S)
        self.assertEqual([1], world.in_sync)
        self.assertIn("too slow: it has not answered a read", self.state(0).reason)

    def test_when_nobody_else_can_its_answer_is_waited_for(self) -> None:
        """The other one cannot read it: then late is better than never."""
        world = self.served(2)
        self.write(0)
        world.nodes[0].hold("read")
        world.nodes[1].fail_next("read", MediaError("bad"), times=None, extent=(0, 4096))
        done = [self.started(world.read(0, 8)) for _ in range(2)]
        world.advance(2.5)
        world.nodes[0].release()
        for each in done:
            self.assertTrue(world.wait_for(each, 2))

    def test_no_repair_of_what_was_only_late(self) -> None:
        """Nothing is written to a member because it was slow."""
        world = self.served(2)
        self.write(0)
        world.advance(10)
        writes = [node.counts["write"] for node in world.nodes]
        world.nodes[0].hold("read")
        for _ in range(4):
            self.read(0)
        world.nodes[0].release()
        world.advance(2)
        self.assertEqual(writes, [node.counts["write"] for node in world.nodes])


class FlappingTests(TraceCase):
    """A member that comes and goes is held back, for longer each time."""

    def flap(self, times: int) -> None:
        """n1 goes and comes back so often."""
        for _ in range(times):
            self.drop(1)
            self.world.advance(0.5)
            self.back(1)
            self.world.advance(0.5)

    def test_twice_is_free(self) -> None:
        """A cable may be changed, a machine started again."""
        world = self.served(2, flap_hold_s=10.0)
        self.flap(FREE)
        self.assertEqual([0, 1], world.in_sync)

    def test_more_is_not(self) -> None:
        """The third time it waits, the fourth time twice as long; the reason says why and how long."""
        world = self.served(2, flap_hold_s=10.0)
        self.flap(FREE + 1)
        self.assertEqual([0], world.in_sync)
        reason = "it left 3 times in 10 minutes: held back for 10 s; `dst resume` takes it back now"
        self.assertEqual(reason, self.state(1).reason)
        detail = self.state(1).detail
        self.assertEqual(3, detail["left_lately"])
        self.assertTrue(8 < detail["held_back_s"] <= 10, detail)
        world.advance(8)
        self.assertEqual([0], world.in_sync)
        world.until("in sync", lambda: world.in_sync == [0, 1], 3)
        self.flap(1)
        self.assertIn("left 4 times in 10 minutes: held back for 20 s", self.state(1).reason)
        world.advance(18)
        self.assertEqual([0], world.in_sync)
        world.until("in sync", lambda: world.in_sync == [0, 1], 3)
        self.all_is_well()

    def test_the_reason_survives_another_departure(self) -> None:
        """While it is held back it may go and come: the status still says why nothing happens."""
        world = self.served(2, flap_hold_s=30.0)
        self.flap(FREE + 1)
        world.nodes[1].pull()
        world.advance(0.5)
        self.assertIn("cable", self.state(1).reason)
        self.back(1)
        world.advance(0.5)
        self.assertIn("held back for 30 s", self.state(1).reason)

    def test_good_behaviour(self) -> None:
        """What is older than ten minutes is forgotten."""
        world = self.served(2, flap_hold_s=10.0)
        self.flap(FREE)
        world.clock.pump([60.0] * 11)
        self.flap(FREE)
        self.assertEqual([0, 1], world.in_sync)

    def test_by_hand(self) -> None:
        """A person takes it back at once, and what was is forgotten."""
        world = self.served(2, flap_hold_s=10.0)
        self.flap(FREE + 1)
        assert world.mirror is not None
        self.successResultOf(world.mirror.resume("n1"))
        world.until("in sync", lambda: world.in_sync == [0, 1], 1)
        self.flap(FREE)
        self.assertEqual([0, 1], world.in_sync)

    def test_what_a_person_did_does_not_count(self) -> None:
        """Suspended and resumed four times: that is not the member's fault."""
        world = self.served(2, flap_hold_s=10.0)
        assert world.mirror is not None
        for _ in range(4):
            world.wait_for(world.mirror.suspend("n1"))
            world.wait_for(world.mirror.resume("n1"))
            world.until("in sync", lambda: world.in_sync == [0, 1], 1)
        self.assertEqual(0, world.mirror.members[1].flaps.count(world.clock.seconds()))

    def test_coarser_media(self) -> None:
        """A member whose blocks have become larger than users were told is refused, and does not come and go."""
        world = self.served(2)
        self.write(0)
        self.drop(1)
        inner = world.nodes[1].inner
        inner._geometry = inner._geometry.evolve(block_size=4096)  # type: ignore[attr-defined]
        self.back(1)
        world.advance(30)
        self.assertEqual("refused", self.state(1).state)
        self.assertIn("its blocks are of 4096 bytes, those of the storage of 1", self.state(1).reason)
        self.assertEqual(Health.DEGRADED, world.mirror.status().health)  # type: ignore[union-attr]

    def test_coarser_in_a_blip(self) -> None:
        """The same when it was away for a moment only."""
        world = self.served(2)
        self.write(0)
        world.nodes[1].pull(LinkState.INTERRUPTED)
        world.advance(0.1)
        inner = world.nodes[1].inner
        inner._geometry = inner._geometry.evolve(transfer_bytes_max=65536)  # type: ignore[attr-defined]
        self.back(1)
        world.advance(5)
        self.assertEqual("refused", self.state(1).state)
        self.assertIn("it takes 65536 bytes at once", self.state(1).reason)
