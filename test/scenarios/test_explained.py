"""
Every state that a random life reaches and that is not healthy is explained, and what the explanation says will
happen does happen, in the time it says, if nothing new goes wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dst.errors import DSTError
from dst.explaining import Explanation
from dst.explaining_trees import NOBODY
from dst.status import Health, LinkState
from test.algorithms.owners import Owners
from test.scenarios.lives import Life
from test.scenarios.one_owner import Walk
from test.scenarios.world import World, Wrong

SEEDS = 20
"""For each width."""

STEPS = 100
SAMPLE_EVERY = 7
"""Steps between two predictions that are waited for; the life goes on afterwards."""

UNKNOWN_S = 60.0
"""How long something may take whose time the explanation does not know; it must happen all the same."""

SLACK_S = 0.1
LOOK_S = 0.02


def by_path(explanation: Explanation, above: str = "") -> dict[str, Explanation]:
    """Every explanation in the tree by where it stands."""
    path = f"{above}/{explanation.name}"
    found = {path: explanation}
    for child in explanation.children:
        found.update(by_path(child, path))
    return found


def is_well(each: Explanation) -> bool:
    """Nothing is about to happen, and nothing needs to."""
    return each.health is Health.HEALTHY and not each.next_step


def what(each: Explanation) -> tuple[str, str, str]:
    """What an explanation is about, without its numbers."""
    return (each.state, each.row, re.sub(r"[0-9.]+", "", each.next_step + each.condition))


def explained(world: World) -> dict[str, Explanation]:
    """The explanations now."""
    assert world.mirror is not None
    return by_path(world.mirror.explain())


def check_complete(world: World) -> int:
    """See L{check_each}."""
    assert world.mirror is not None
    return check_each(world.mirror.explain())


def check_each(explanation: Explanation) -> int:
    """
    Everything in C{explanation} that is not healthy has all that an explanation needs.

    @return: how many were not.
    """
    troubled = 0
    for path, each in by_path(explanation).items():
        if each.health is not Health.HEALTHY:
            troubled += 1
            if not each.summary or not each.next_step or not each.evidence:
                raise Wrong(f"{path} is {each.health.value} and not explained: {each}")
        if each.next_step == NOBODY and not each.advice:
            raise Wrong(f"{path}: nothing is done without a person, who is not told what: {each}")
    return troubled


def check_comes_true(world: World) -> int:
    """
    No more faults: each next step is taken within its time, and what needs a person stays as it is.

    @return: how many predictions there were.
    """
    world.heal()
    for _ in range(3):
        world.clock.advance(0)  # who is told of the nodes looks at them
    begin = explained(world)
    waiting = {path: each for path, each in begin.items() if not is_well(each) and each.next_step != NOBODY}
    by_hand = {path: each for path, each in begin.items() if each.next_step == NOBODY}
    passed = 0.0
    count = len(waiting)
    while waiting:
        now = explained(world)
        for path, each in list(waiting.items()):
            if is_well(now[path]) or what(now[path]) != what(each):
                del waiting[path]
                continue
            limit_s = UNKNOWN_S if each.within_s is None else each.within_s
            if passed > limit_s + SLACK_S:
                raise Wrong(f"{path}: after {passed:.2f} s it still says what it said: {each} ({world.describe()})")
        for path, each in by_hand.items():
            if what(now[path]) != what(each) and not path.count("/") == 1:
                raise Wrong(f"{path}: without a person it became {now[path]} from {each}")
        world.advance(LOOK_S)
        passed += LOOK_S
    return count


def check_under_way(world: World) -> int:
    """
    What waits for nothing happens in its time, whatever is broken stays broken.

    @return: how many predictions there were.
    """
    begin = explained(world)
    waiting = {path: each for path, each in begin.items() if under_way(each)}
    count = len(waiting)
    passed = 0.0
    while waiting:
        now = explained(world)
        for path, each in list(waiting.items()):
            if path not in now or is_well(now[path]) or what(now[path]) != what(each):
                del waiting[path]
            elif each.within_s is not None and passed > each.within_s + SLACK_S:
                raise Wrong(f"{path}: after {passed:.2f} s it still says what it said: {each} ({world.describe()})")
        world.advance(LOOK_S)
        passed += LOOK_S
    return count


def under_way(each: Explanation) -> bool:
    """Something happens next, at a known time, and waits for nothing."""
    return not is_well(each) and each.next_step != NOBODY and not each.condition and each.within_s is not None


class ExplainedTests(SynchronousTestCase):
    """Random lives, looked at while they are lived."""

    def lives(self, first: int, members: int) -> None:
        """Every seed, named in the message of the one that fails."""
        troubled = predictions = 0
        for seed in range(first, first + SEEDS):
            walk = Walk(seed, members)
            world = walk.world
            world.start_owner()
            try:
                for n in range(STEPS):
                    walk.step()
                    world.clock.advance(0)
                    if world.mirror is not None and world.mirror.link is not LinkState.CLOSED:
                        troubled += check_complete(world)
                        if n % SAMPLE_EVERY == SAMPLE_EVERY - 1:
                            predictions += check_under_way(world)
                            if n % 2:
                                predictions += check_comes_true(world)
            except BaseException as error:
                raise AssertionError(f"seed {seed} with {members} members: {error}") from error
            finally:
                world.end()
        self.assertGreater(troubled, 100, "too little went wrong to prove anything")
        self.assertGreater(predictions, 20, "too little was predicted to prove anything")

    def test_two_members(self) -> None:
        """Mirrors of two."""
        self.lives(300, 2)

    def test_three_members(self) -> None:
        """Mirrors of three."""
        self.lives(700, 3)


class PredictionTests(SynchronousTestCase):
    """Single predictions, to the moment."""

    def setUp(self) -> None:
        """Three members in sync."""
        self.begin()

    def begin(self, **options: float) -> None:
        """A new world."""
        self.world = World(3, seed=1, **options)
        self.addCleanup(self.world.end)
        self.world.start_owner()
        self.until_healthy()

    def until_healthy(self) -> None:
        self.world.until("healthy", lambda: self.explained().health is Health.HEALTHY)

    def explained(self, name: str = "vol") -> Explanation:
        assert self.world.mirror is not None
        return next(each for each in self.world.mirror.explain().walk() if each.name == name)

    def test_healthy(self) -> None:
        """Of what is healthy it is said what it is, who has it, and that nothing is about to happen."""
        explanation = self.explained()
        self.assertEqual("vol is healthy", explanation.summary)
        self.assertEqual(("", "", ()), (explanation.next_step, explanation.condition, explanation.advice))
        self.assertIn("in sync n0, n1, n2", " ".join(explanation.evidence))

    def test_interrupted(self) -> None:
        """A member that is interrupted leaves at the time that is said, not before."""
        self.world.nodes[1].pull(LinkState.INTERRUPTED)
        self.world.advance(0.5)
        explanation = self.explained("n1")
        self.assertIn("it leaves in 0.5 s", explanation.next_step)
        self.world.advance(0.4)
        self.assertEqual("in-sync", self.explained("n1").state)
        self.world.advance(0.2)
        self.assertEqual("absent", self.explained("n1").state)

    def test_absent(self) -> None:
        """A member that is away: the storage says who and what it waits for, and how much may still be lost."""
        self.world.nodes[2].pull()
        self.world.advance(0.1)
        explanation = self.explained()
        self.assertIs(Health.DEGRADED, explanation.health)
        self.assertIn("n2", explanation.condition)
        self.assertIn("1 more can be lost", " ".join(explanation.advice))
        self.world.heal()
        self.until_healthy()

    def test_suspended(self) -> None:
        """Only a person resumes a member, and is told how."""
        assert self.world.mirror is not None
        self.world.wait_for(self.world.mirror.suspend("n0"))
        self.world.advance(0.1)
        member = self.explained("n0")
        self.assertEqual(NOBODY, member.next_step)
        self.assertIn("`dst resume vol n0`", member.advice[0])
        self.assertEqual(NOBODY, self.explained().next_step)

    def test_last_copy_away(self) -> None:
        """A frozen storage names the copies that end it."""
        for node in self.world.nodes:
            node.pull()
        self.world.advance(2.0)
        explanation = self.explained()
        self.assertIs(Health.FROZEN, explanation.health)
        self.assertIn("none is lost", " ".join(explanation.evidence))
        self.assertIn("can be reached", explanation.condition)
        self.world.heal()
        self.until_healthy()

    def test_paused(self) -> None:
        """A resync that a person has paused waits for a person, and says with which command it goes on."""
        assert self.world.mirror is not None
        self.world.wait_for(self.world.mirror.pause_resync("n1"))
        self.world.wait_for(self.world.mirror.mark_dirty("n1"))
        self.world.advance(1.0)
        member = self.explained("n1")
        self.assertEqual(("resyncing", NOBODY), (member.state, member.next_step))
        self.assertIn("`dst storage resume-resync vol n1`", member.advice[0])
        self.world.wait_for(self.world.mirror.resume_resync("n1"))
        self.until_healthy()

    def test_held_back(self) -> None:
        """A member that leaves again and again: for how long it is held back, why, and what takes it back at once."""
        self.begin(flap_hold_s=15.0)
        for _ in range(12):
            self.world.nodes[1].pull()
            self.world.advance(0.1)
            self.world.heal()
            self.world.advance(0.5)
            if "held back" in self.explained("n1").next_step:
                break
        member = self.explained("n1")
        self.assertIn("it is held back for", member.next_step)
        self.assertIn("times in 10 minutes", member.summary)
        self.assertIn("`dst resume vol n1`", " ".join(member.advice))
        assert member.within_s is not None
        self.world.until("back", lambda: self.explained("n1").state == "in-sync", member.within_s)

    def test_start_waits_for_the_latest(self) -> None:
        """A start that waits for the latest data names the row, who has it, and what forcing costs."""
        world = self.world
        world.nodes[0].pull()
        world.advance(0.1)
        done = world.write(0, 8)
        assert done is not None
        world.wait_for(done)
        world.crash_owner()
        world.plugged = [True, False, False]
        world.start_owner()
        world.advance(2.0)
        explanation = self.explained()
        self.assertEqual("latest-data-away", explanation.row)
        self.assertIn("n1, n2", explanation.summary)
        self.assertIn("lost", " ".join(explanation.advice))
        self.assertIn("`dst mark-clean vol NODE`", " ".join(explanation.advice))
        world.heal()
        world.until("serving", lambda: self.explained().state == "ready", explanation.within_s or 0)


class OwnersTests(SynchronousTestCase):
    """Two daemons that would like to own one storage, cut off, killed and started at random."""

    def life(self, seed: int) -> int:
        """
        One life, and then none of it is broken any more.

        @return: how many explanations of something that was not healthy were looked at.
        """
        chance = random.Random(seed)
        owners = Owners()
        owners.start(0)
        owners.advance(2)
        owners.start(1)
        troubled = 0
        for _ in range(25):
            n = chance.randrange(2)
            what_happens = chance.choice(("cut", "cut one", "mend", "mend", "kill", "start", "start", "want", "wait"))
            mirror = owners.mirrors[n]
            if what_happens == "start" and mirror is None:
                owners.start(n)
            elif mirror is None:
                continue
            elif what_happens == "kill":
                owners.kill(n)
            elif what_happens == "cut":
                owners.cut(n)
            elif what_happens == "cut one":
                owners.cut(n, chance.randrange(3))
            elif what_happens == "mend":
                owners.mend(n)
            elif what_happens == "want":
                mirror.take_over().addErrback(lambda failure: failure.trap(DSTError))
            owners.advance(chance.choice((0.05, 0.5, 2, 5)))
            troubled += self.check_complete(owners)
        for n in range(2):
            if owners.mirrors[n] is None:
                owners.start(n)
            owners.mend(n)
        owners.advance(0.05)
        self.check_one_owner_in_time(owners)
        return troubled

    def check_complete(self, owners: Owners) -> int:
        """Of each daemon, everything that is not healthy has all that an explanation needs, and says whose it is."""
        troubled = 0
        for mirror in owners.mirrors:
            if mirror is None or mirror.link is LinkState.CLOSED:
                continue
            troubled += check_each(mirror.explain())
            self.assertIn(mirror.status().detail["role"], ("owner", "standby", "starting"))
        return troubled

    def check_one_owner_in_time(self, owners: Owners) -> None:
        """In the time that one of the two says, it is served; the other one says by whom."""
        explanations = [mirror.explain() for mirror in owners.mirrors if mirror is not None]
        times = [each.within_s for each in explanations if each.within_s is not None]
        limit_s = max(times, default=0.0)
        mirrors = [mirror for mirror in owners.mirrors if mirror is not None]

        def settled() -> bool:
            details = [mirror.status().detail for mirror in mirrors]
            serving = [mirror for mirror in mirrors if mirror.link is LinkState.READY]
            roles = sorted(str(detail["role"]) for detail in details)
            names = {str(detail["owner"]) for detail in details}
            return roles == ["owner", "standby"] and len(names) == 1 and len(serving) == 1

        while not settled():
            if limit_s < -SLACK_S:
                now = [mirror.explain() for mirror in mirrors]
                raise Wrong(f"after the {max(times)} s that were said: {explanations}; it is {now}")
            owners.advance(LOOK_S)
            limit_s -= LOOK_S

    def test_lives(self) -> None:
        """Whatever has happened: everything is explained, and in time one of them serves."""
        troubled = 0
        for seed in range(40):
            try:
                troubled += self.life(seed)
            except BaseException as error:
                raise AssertionError(f"seed {seed}: {error}") from error
        self.assertGreater(troubled, 200, "too little went wrong to prove anything")

    def test_lost_while_cut_off(self) -> None:
        """An owner that lost a majority notices it when it is back, whatever number its own claim has by then."""
        self.life(24)

    def test_lost_to_nodes_it_never_asked(self) -> None:
        """An owner without a quorum asks those that were never granted to it: another may have one with them."""
        self.life(1072)


class ClustersTests(SynchronousTestCase):
    """Random lives of whole clusters: several daemons, links that fail one way, clients, people."""

    def life(self, seed: int) -> tuple[int, int]:
        """
        One life; then nothing is broken any more, and it is served in the time that is said.

        @return: how many explanations of something that was not healthy were looked at, and how many predictions.
        """
        life = Life(seed)
        cluster = life.cluster
        troubled = 0
        try:
            cluster.owners[0].start()
            cluster.until("served", lambda: cluster.server)
            for n in range(60):
                life.step()
                cluster.advance(0)
                for owner in cluster.owners:
                    if owner.mirror is not None and owner.mirror.link is not LinkState.CLOSED:
                        troubled += check_each(owner.mirror.explain())
                if n % SAMPLE_EVERY == SAMPLE_EVERY - 1:
                    self.check_under_way(life)
            cluster.heal()
            cluster.advance(0.05)
            said = [owner.mirror.explain() for owner in cluster.owners if owner.mirror is not None]
            times = [each.within_s for each in said if each.next_step != NOBODY and each.within_s is not None]
            if not times:
                return troubled, 0
            try:
                cluster.until("served", self.served(life), max(times))
            except Wrong as error:
                raise Wrong(f"{error}; what was said: {said}") from error
            return troubled, 1
        finally:
            cluster.end()

    def explained(self, life: Life) -> dict[str, Explanation]:
        """What each daemon that runs says now."""
        found: dict[str, Explanation] = {}
        for owner in life.cluster.owners:
            mirror = owner.mirror
            if mirror is not None and owner.process.running and mirror.link is not LinkState.CLOSED:
                found.update(by_path(mirror.explain(), f"{owner.name} {id(mirror)}"))
        return found

    def check_under_way(self, life: Life) -> None:
        """What waits for nothing happens in its time, whatever is broken stays broken."""
        waiting = {path: each for path, each in self.explained(life).items() if under_way(each)}
        passed = 0.0
        while waiting:
            now = self.explained(life)
            for path, each in list(waiting.items()):
                if path not in now or is_well(now[path]) or what(now[path]) != what(each):
                    del waiting[path]
                elif each.within_s is not None and passed > each.within_s + SLACK_S:
                    raise Wrong(f"{path}: after {passed:.2f} s it still says: {each} ({life.cluster.describe()})")
            life.cluster.advance(LOOK_S)
            passed += LOOK_S

    def served(self, life: Life) -> Callable[[], bool]:
        """A condition."""

        def holds() -> bool:
            owner = life.cluster.server
            return owner is not None and owner.mirror is not None and owner.mirror.link is LinkState.READY

        return holds

    def test_lives(self) -> None:
        """Whatever has happened: everything is explained, and the storage is served when it was said to be."""
        troubled = predicted = 0
        for seed in range(3000, 3030):
            try:
                one, other = self.life(seed)
            except BaseException as error:
                raise AssertionError(f"seed {seed}: {error}") from error
            troubled, predicted = troubled + one, predicted + other
        self.assertGreater(troubled, 1000, "too little went wrong to prove anything")
        self.assertGreater(predicted, 10, "too little was predicted to prove anything")
