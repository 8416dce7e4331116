"""
Every algorithm is held to L{dst.interfaces.IAlgorithm}, over disks and over storages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from dst.algorithms.joined import JoinedOptions
from dst.algorithms.linear import Linear
from dst.algorithms.mirror import Mirror, MirrorOptions
from dst.algorithms.stripe import Stripe
from dst.errors import MediaError
from dst.interfaces import INode
from dst.testing import FailedFlushSuite, FaultyDevice, Specimen, algorithm_suite
from dst.testing.disk import SimulatedDisk
from dst.testing.media import SimulatedMedia

MEMBER_BYTES = 2 << 20


def media(count: int, size: int = MEMBER_BYTES) -> list[SimulatedMedia]:
    """Blank media."""
    return [SimulatedMedia(size, seed=seed) for seed in range(count)]


def disks(clock: Clock, platters: list[SimulatedMedia], prefix: str = "d") -> list[INode]:
    """A node on each."""
    return [FaultyDevice(clock, SimulatedDisk(clock, f"{prefix}{n}", each)) for n, each in enumerate(platters)]


def joined_specimen(clock: Clock, build: Callable[[], Linear | Stripe]) -> Specimen:
    """A storage without copies, the first member of which can be made to fail a flush."""
    storage = build()
    first = storage.nodes[0]
    assert isinstance(first, FaultyDevice)
    error = MediaError("worn out")
    return Specimen(storage, clock=clock, reopen=build, fail_flush=lambda: first.fail_next("flush", error))


def make_mirror(case: Any) -> Specimen:
    """Three members."""
    clock, platters = Clock(), media(3)

    def build() -> Mirror:
        return Mirror(clock, "vol", disks(clock, platters), MirrorOptions(region_size=64 * 1024))

    return Specimen(build(), clock=clock, reopen=build)


def make_linear(case: Any) -> Specimen:
    """Three members of different sizes."""
    clock, platters = Clock(), [SimulatedMedia(MEMBER_BYTES + n * 100_000, seed=n) for n in range(3)]

    def build() -> Linear:
        return Linear(clock, "vol", disks(clock, platters))

    return joined_specimen(clock, build)


def make_stripe(case: Any) -> Specimen:
    """Three members, chunks small enough that most requests touch all of them."""
    clock, platters = Clock(), media(3)

    def build() -> Stripe:
        return Stripe(clock, "vol", disks(clock, platters), JoinedOptions(unit=4096))

    return joined_specimen(clock, build)


def make_tree(case: Any) -> Specimen:
    """A stripe of mirrors of linears."""
    clock = Clock()
    platters = [media(2, 1 << 20) for _ in range(4)]

    def linear(n: int) -> Linear:
        return Linear(clock, f"l{n}", disks(clock, platters[n], f"d{n}"))

    def build() -> Stripe:
        options = MirrorOptions(region_size=64 * 1024)
        mirrors = [Mirror(clock, f"m{n}", [linear(2 * n), linear(2 * n + 1)], options) for n in range(2)]
        return Stripe(clock, "vol", mirrors, JoinedOptions(unit=8192))

    return Specimen(build(), clock=clock, reopen=build)


class MirrorConformanceTests(algorithm_suite(Mirror, make_mirror, widens=True)):
    """A mirror is a storage."""


class LinearConformanceTests(algorithm_suite(Linear, make_linear), FailedFlushSuite):
    """A linear is a storage."""


class StripeConformanceTests(algorithm_suite(Stripe, make_stripe), FailedFlushSuite):
    """A stripe is a storage."""


class TreeConformanceTests(algorithm_suite(Stripe, make_tree)):
    """A stripe of mirrors of linears is a storage."""
