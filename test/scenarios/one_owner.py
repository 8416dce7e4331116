"""
A random life of a mirror with one owner: writes, reads, flushes, and every fault there is, from one seed.

L{test.scenarios.lives} has several owners, L{test.scenarios.walk} runs many of either.
"""

from __future__ import annotations

from dst.errors import DSTError, MediaError, NoSpace
from dst.status import LinkState
from dst.testing.media import SimulatedMedia
from test.scenarios.world import MEDIA_BYTES, World

__all__ = ["walk"]

STEPS = 160


class Walk:
    """One seed."""

    def __init__(self, seed: int, members: int) -> None:
        self.world = World(members, seed)
        self.random = self.world.random
        self.log: list[str] = []
        # Each walk has its own mixture, so that rare faults meet often enough.
        self.weights = {
            name: weight * self.random.choice((0.1, 0.5, 1, 1, 3))
            for name, weight in {
                "write": 30,
                "read": 14,
                "flush": 6,
                "wait": 20,
                "power": 2,
                "pull": 2,
                "blip": 2,
                "plug": 8,
                "crash": 1.5,
                "stop": 0.4,
                "error": 2,
                "hang": 1.5,
                "release": 3,
                "slow": 2,
                "blank": 0.5,
                "blackout": 0.5,
                "suspend": 0.5,
                "resume": 1,
                "dirty": 0.4,
            }.items()
        }

    def note(self, text: str) -> None:
        """One line of the history."""
        self.log.append(text)

    def step(self) -> None:
        """One random thing."""
        world = self.world
        name = self.random.choices(list(self.weights), list(self.weights.values()))[0]
        if world.mirror is None and name not in ("wait", "plug"):
            world.delay_s = self.random.choice((0.0, 0.001, 0.005))
            world.start_owner()
            self.note("start owner")
            return
        getattr(self, f"do_{name}")()

    def member(self) -> int:
        """Any member."""
        return self.random.randrange(len(self.world.media))

    # -- clients

    def do_write(self) -> None:
        """A write, trim or write-zeroes of any length, mostly in few places."""
        count = self.random.choice((1, 8, 8, 8, 64, 200))
        sectors = self.world.data_sectors
        sector = self.random.randrange(sectors - count)
        if self.random.random() < 0.5:
            sector = sector % (sectors // 3) // 8 * 8
        change = self.random.choices(("write", "trim", "zero"), (20, 1, 1))[0]
        fua = self.random.random() < 0.1
        if self.world.write(sector, count, fua=fua, change=change) is not None:
            self.note(f"{change} {sector}+{count} fua={fua} version {self.world.version}")

    def do_read(self) -> None:
        """A read."""
        count = self.random.choice((1, 8, 100))
        sector = self.random.randrange(self.world.data_sectors - count)
        done = self.world.read(sector, count)
        if done is not None:
            done.addErrback(self.failed)

    def failed(self, failure: object) -> None:
        """A read that broke a promise."""
        self.failure = failure

    failure: object = None

    def do_flush(self) -> None:
        """A flush."""
        if self.world.flush() is not None:
            self.note("flush")

    def do_wait(self) -> None:
        """Time passes."""
        self.world.advance(self.random.choice((0.002, 0.004, 0.02, 0.1, 1.2)))

    # -- disks

    def do_power(self) -> None:
        """A disk loses its power."""
        n = self.member()
        node = self.world.nodes[n]
        if node.link in (LinkState.READY, LinkState.INTERRUPTED):
            keep = self.random.choice(("random", "random", "none", "all"))
            self.note(f"power cut n{n} keep {keep}")
            node.power_cut(keep)
            self.world.plugged[n] = False

    def do_pull(self) -> None:
        """A disk cannot be reached, for good."""
        n = self.member()
        self.note(f"pull n{n}")
        self.world.nodes[n].pull()
        self.world.plugged[n] = False

    def do_blip(self) -> None:
        """A disk cannot be reached, for a moment or longer."""
        n = self.member()
        if self.world.nodes[n].link is LinkState.READY:
            self.note(f"interrupt n{n}")
            self.world.nodes[n].pull(LinkState.INTERRUPTED)
            self.world.plugged[n] = False

    def do_plug(self) -> None:
        """A disk is back."""
        n = self.member()
        if not self.world.plugged[n]:
            self.world.plugged[n] = True
            self.note(f"plug in n{n}")
            if self.world.mirror is not None:
                self.world.nodes[n].plug_in()

    def do_error(self) -> None:
        """The next operations of a kind fail on one disk."""
        n = self.member()
        kind, error = self.random.choice(
            (
                ("write", MediaError("bad")),
                ("write", NoSpace("full")),
                ("read", MediaError("bad")),
                ("flush", MediaError("bad")),
            )
        )
        self.note(f"n{n} fails a {kind}")
        self.world.nodes[n].fail_next(kind, error, times=self.random.choice((1, 1, 3)), skip=self.random.randrange(3))

    def do_hang(self) -> None:
        """A disk hangs."""
        n = self.member()
        self.note(f"n{n} hangs")
        self.world.nodes[n].hold()

    def do_release(self) -> None:
        """It goes on."""
        n = self.member()
        self.world.nodes[n].release(self.random.choice((1, 2, None, None)))

    def do_slow(self) -> None:
        """It becomes slower, or faster."""
        self.world.nodes[self.member()].delay_s = self.random.choice((0.0, 0.001, 0.01))

    def do_blank(self) -> None:
        """A disk is replaced by a new one, while another has the data."""
        n = self.member()
        world = self.world
        if [each for each in world.in_sync if each != n and world.plugged[each]] and world.mirror is not None:
            if world.mirror.serving is None or not world.mirror.serving.configuration.usable & ~(1 << n):
                return
            self.note(f"new media n{n}")
            world.nodes[n].pull()
            world.advance(0.1)
            if n in world.in_sync:
                world.plugged[n] = False
                return  # it was the last after all
            world.media[n] = SimulatedMedia(MEDIA_BYTES, seed=self.random.randrange(1 << 30))
            world.nodes[n].inner.media = world.media[n]  # type: ignore[attr-defined]
            world.plugged[n] = True
            world.nodes[n].plug_in()

    def do_blackout(self) -> None:
        """Everything loses its power at once."""
        self.note("blackout")
        for n, node in enumerate(self.world.nodes):
            if node.link in (LinkState.READY, LinkState.INTERRUPTED):
                node.power_cut("random")
            self.world.plugged[n] = self.random.random() < 0.5
        self.world.crash_owner()

    # -- the owner and people

    def do_crash(self) -> None:
        """The owner is killed."""
        self.note("kill the owner")
        self.world.crash_owner()

    def do_stop(self) -> None:
        """The owner is stopped."""
        if self.world.mirror is not None and all(not node.held_kinds for node in self.world.nodes):
            self.note("stop the owner")
            self.world.stop_owner()

    def person(self, what: str) -> None:
        """Somebody types a command; it may be refused."""
        mirror = self.world.mirror
        assert mirror is not None
        n = self.member()
        self.note(f"{what} n{n}")
        getattr(mirror, what)(f"n{n}").addErrback(lambda failure: failure.trap(DSTError))

    def do_suspend(self) -> None:
        """dst suspend."""
        self.person("suspend")

    def do_resume(self) -> None:
        """dst resume."""
        self.person("resume")

    def do_dirty(self) -> None:
        """dst mark-dirty."""
        self.person("mark_dirty")


def walk(seed: int, members: int, steps: int = STEPS) -> Walk:
    """
    Live one life and check it.

    @raise Wrong: a promise was broken.
    """
    run = Walk(seed, members)
    world = run.world
    world.start_owner()
    for n in range(steps):
        run.step()
        world.clock.advance(0)
        if isinstance(run.failure, BaseException) or run.failure is not None:
            run.failure.raiseException()  # type: ignore[attr-defined]
        if n % 4 == 0:
            world.check_invariant()
    world.heal()
    if world.mirror is not None:
        for n in range(members):
            world.mirror.resume(f"n{n}").addErrback(lambda failure: failure.trap(DSTError))
        world.until("serving", lambda: world.mirror is not None and world.mirror.link is LinkState.READY)
        for n in range(members):
            world.mirror.resume(f"n{n}").addErrback(lambda failure: failure.trap(DSTError))
    world.check_convergence()
    world.end()
    return run
