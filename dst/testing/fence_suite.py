# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
Every promise of L{dst.interfaces.IFenced}, as tests.

The suite is given a world in virtual time: one device that two owners, who never speak to each other, reach through
node objects of their own, and whose memory of promises survives restarts::

    class FencedNodeFenceTests(fence_suite(FencedNode, LocalWorld)):
        \"\"\"L{FencedNode} fences.\"\"\"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dst.errors import DSTError, Fenced
from dst.interfaces import IFenced
from dst.ownership import NO_CLAIM, Claim, Promise
from dst.testing.faulty import FaultyDevice
from dst.testing.specimen import conformance_tests

__all__ = ["FenceSuite", "FenceWorld", "fence_suite"]

T = TypeVar("T")

LEASE_S = 3.0

OWNER_A = b"a" * 16
OWNER_B = b"b" * 16


class FenceWorld(Protocol):
    """
    @ivar clock: drives everything.
    @ivar device: what is behind the fence; it hangs when it is told to.
    """

    clock: Clock
    device: FaultyDevice

    def node(self) -> Any:
        """Another node object of the device, in the hands of another owner; open, and provides C{IFenced}."""

    def restart(self) -> None:
        """The process with the fence is killed and started again; nodes made before are of no use any more."""

    def suspend(self, seconds: float) -> None:
        """The machine with the fence sleeps for so long: no timer there runs."""


class FenceSuite(SynchronousTestCase):
    """A node that refuses what an older owner asks for, durably."""

    provider: type
    make_world: Callable[[], FenceWorld]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        provider = getattr(cls, "provider", None)
        if provider is not None and cls.__module__.partition(".")[0] != "dst":
            conformance_tests.setdefault(provider, []).append(cls)

    def setUp(self) -> None:
        self.world = type(self).make_world()
        self.a, self.b = self.world.node(), self.world.node()

    # -- helpers

    def result(self, deferred: Deferred[T], seconds: float = 0.0) -> T:
        """What C{deferred} fires with, within so much time."""
        fired: list[T] = []
        errors: list[BaseException] = []
        deferred.addCallbacks(fired.append, lambda failure: errors.append(failure.value))
        for _ in range(400):
            if fired or errors:
                break
            self.world.clock.advance(seconds / 400)
        if errors:
            raise errors[0]
        self.assertTrue(fired, "it did not fire")
        return fired[0]

    def turn(self) -> None:
        """What can happen without time happens."""
        for _ in range(40):
            self.world.clock.advance(0)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(round(seconds / 0.1)):
            self.world.clock.advance(0.1)
        self.turn()

    def claim(self, node: Any, number: int, tag: int, owner: bytes, name: str = "") -> Promise:
        """Ask for a claim."""
        promise: Promise = self.result(node.claim(Claim(number, tag, owner), LEASE_S, name), 3.0)
        return promise

    def assert_granted(self, promise: Promise, number: int, owner: bytes) -> None:
        """It was."""
        self.assertEqual((number, owner, False), (promise.claim.number, promise.claim.owner, promise.released))

    def assert_works(self, node: Any) -> None:
        """Everything that is asked of C{node} is done."""
        self.result(node.write(0, b"x" * 4096))
        self.result(node.trim(4096, 4096))
        self.result(node.write_zeroes(8192, 4096))
        self.result(node.flush())
        self.assertEqual(4096, len(self.result(node.read(0, 4096))))
        self.result(node.block_status(0, 4096))

    def changes(self, node: Any) -> list[Callable[[], Deferred[Any]]]:
        """Every way to change it."""
        return [
            lambda: node.write(0, b"?" * 4096),
            lambda: node.trim(0, 4096),
            lambda: node.write_zeroes(0, 4096),
        ]

    def assert_refused(self, node: Any) -> None:
        """No change that is asked of C{node} is begun."""
        before = sum(self.world.device.counts[kind] for kind in ("write", "trim", "write_zeroes"))
        for change in self.changes(node):
            with self.assertRaises(Fenced) as caught:
                self.result(change())
            self.assertNotEqual("", caught.exception.message)
        after = sum(self.world.device.counts[kind] for kind in ("write", "trim", "write_zeroes"))
        self.assertEqual(before, after)

    # -- what is promised

    def test_provides(self) -> None:
        """It has every attribute and method of the interface, and an identity."""
        self.assertTrue(verifyObject(IFenced, self.a))
        self.assertEqual(16, len(self.a.fence))
        self.assertEqual(self.a.fence, self.b.fence)

    def test_nothing_promised(self) -> None:
        """At first nothing is promised, and everybody may change the device under no claim."""
        promise = self.result(self.a.ask())
        self.assertEqual(Promise(self.a.fence), promise)
        self.assert_works(self.a)
        self.assert_works(self.b)

    def test_granted(self) -> None:
        """What is granted is told to whoever asks, with the owner's name and how long the lease lasts."""
        self.assert_granted(self.claim(self.a, 1, 11, OWNER_A, "alpha"), 1, OWNER_A)
        self.wait(1.0)
        promise = self.result(self.b.ask())
        self.assert_granted(promise, 1, OWNER_A)
        self.assertEqual("alpha", promise.owner_name)
        self.assertAlmostEqual(LEASE_S - 1.0, promise.held_s, delta=0.2)
        self.assert_works(self.a)

    def test_nobody_else_changes(self) -> None:
        """Under a promise nobody changes the device but its owner; reading under no claim is always allowed."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.assert_refused(self.b)
        self.result(self.b.read(0, 4096))
        self.result(self.b.block_status(0, 4096))
        self.result(self.b.flush())

    def test_lease(self) -> None:
        """Another owner is refused until nothing was heard for the lease time, and granted then."""
        self.claim(self.a, 1, 11, OWNER_A)
        for _ in range(3):
            self.wait(2.0)
            self.assert_granted(self.result(self.a.renew()), 1, OWNER_A)
            self.assert_granted(self.claim(self.b, 2, 22, OWNER_B), 1, OWNER_A)
        self.wait(LEASE_S + 0.2)
        self.assertEqual(0.0, self.result(self.b.ask()).held_s)
        self.assert_granted(self.claim(self.b, 2, 22, OWNER_B), 2, OWNER_B)

    def test_an_owner_alone_keeps_it(self) -> None:
        """When its lease is over and nobody else has claimed, the owner goes on."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.wait(LEASE_S * 3)
        self.assert_works(self.a)
        self.assert_granted(self.result(self.a.renew()), 1, OWNER_A)

    def test_old_owner_refused(self) -> None:
        """Whoever was claimed away from is refused everything, reads and flushes too; once it is told it may read."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.wait(LEASE_S + 0.2)
        self.claim(self.b, 2, 22, OWNER_B)
        self.assert_refused(self.a)
        for asked in (self.a.read(0, 4096), self.a.flush(), self.a.block_status(0, 4096)):
            self.assertRaises(Fenced, self.result, asked)
        self.assert_granted(self.result(self.a.renew()), 2, OWNER_B)
        self.result(self.a.read(0, 4096))
        self.assert_refused(self.a)
        self.assert_works(self.b)

    def test_told_is_not_let_in(self) -> None:
        """An old owner that was told stays out, the new one may have left or not, until it is granted a claim."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.wait(LEASE_S + 0.2)
        self.claim(self.b, 2, 22, OWNER_B)
        self.result(self.a.ask())
        self.result(self.b.release())
        self.assert_refused(self.a)
        self.assert_granted(self.claim(self.a, 3, 33, OWNER_A), 3, OWNER_A)
        self.assert_works(self.a)

    def test_release(self) -> None:
        """What was given back is granted to the next at once, and who gave it back is out."""
        self.claim(self.a, 1, 11, OWNER_A)
        promise = self.result(self.a.release())
        self.assertEqual((1, True, 0.0), (promise.claim.number, promise.released, promise.held_s))
        self.assert_refused(self.a)
        self.result(self.a.read(0, 4096))
        self.assert_granted(self.claim(self.b, 2, 22, OWNER_B), 2, OWNER_B)

    def test_release_of_what_is_another_s(self) -> None:
        """Who has no claim gives nothing back."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.assert_granted(self.result(self.b.release()), 1, OWNER_A)
        self.assert_works(self.a)

    def test_not_above(self) -> None:
        """A claim that is not above the highest is refused, from anybody, also when that was given back."""
        self.claim(self.a, 5, 11, OWNER_A)
        self.result(self.a.release())
        for number in (1, 4, 5):
            self.assertEqual(5, self.claim(self.b, number, 1, OWNER_B).claim.number)
        self.assert_refused(self.a)

    def test_same_owner_above(self) -> None:
        """The same owner is granted a higher claim at once, through another node object too: it was restarted."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.assert_granted(self.claim(self.b, 2, 22, OWNER_A), 2, OWNER_A)
        self.assert_refused(self.a)
        self.assert_works(self.b)

    def test_claims_again_without_a_gap(self) -> None:
        """An owner that claims again keeps what it has under way, and goes on."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.world.device.hold("write")
        writing = self.a.write(0, b"1" * 4096)
        self.turn()
        self.assert_granted(self.claim(self.a, 2, 22, OWNER_A), 2, OWNER_A)
        self.world.device.release()
        self.result(writing)
        self.assert_works(self.a)

    def test_asked_twice(self) -> None:
        """The same claim again is the same answer: the first may have been lost."""
        for _ in range(2):
            self.assert_granted(self.claim(self.a, 1, 11, OWNER_A), 1, OWNER_A)
        self.assert_works(self.a)

    def test_equal_claims(self) -> None:
        """equal-claims: of two owners' claims that look the same only one is ever granted."""
        self.assert_granted(self.claim(self.b, 1, 7, OWNER_A), 1, OWNER_A)
        self.wait(LEASE_S + 0.2)
        self.assert_granted(self.claim(self.a, 1, 7, OWNER_B), 1, OWNER_A)
        self.result(self.b.release())
        self.assertEqual(OWNER_A, self.claim(self.a, 1, 7, OWNER_B).claim.owner)

    def test_old_owner_write_lands_late(self) -> None:
        """old-owner-write-lands-late: what was begun for the old owner has ended before the new one is granted."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.world.device.hold("write")
        late = self.a.write(0, b"o" * 4096)
        self.turn()
        self.wait(LEASE_S + 0.2)
        granted: list[Promise] = []
        self.b.claim(Claim(2, 22, OWNER_B), LEASE_S, "").addCallback(granted.append)
        self.turn()
        self.assertEqual([], granted)
        self.world.device.release()
        self.turn()
        self.assert_granted(granted[0], 2, OWNER_B)
        self.result(late)
        self.result(self.b.write(0, b"n" * 4096))
        self.turn()
        self.assertEqual(b"n" * 4096, bytes(self.result(self.b.read(0, 4096))))

    def test_late_write_accepted_at_arrival(self) -> None:
        """late-write-accepted-at-arrival: what was asked before the claim and is begun after it is refused."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.world.device.hold("write")
        self.a.write(0, b"o" * 4096).addErrback(lambda failure: failure.trap(DSTError))
        self.turn()
        self.wait(LEASE_S + 0.2)
        claiming = self.b.claim(Claim(2, 22, OWNER_B), LEASE_S, "")
        self.turn()
        late = self.a.write(4096, b"l" * 4096)
        self.world.device.release()
        self.assertRaises(Fenced, self.result, late)
        self.assert_granted(self.result(claiming), 2, OWNER_B)
        self.assertNotEqual(b"l" * 4096, bytes(self.result(self.b.read(4096, 4096))))

    def test_disk_hangs(self) -> None:
        """With a disk that hangs a claim is answered in time, and not granted; the owner keeps what it has."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.world.device.hold("write")
        stuck = self.a.write(0, b"o" * 4096)
        self.turn()
        self.wait(LEASE_S + 0.2)
        self.assert_granted(self.claim(self.b, 2, 22, OWNER_B), 1, OWNER_A)
        self.world.device.release()
        self.result(stuck)
        self.assert_works(self.a)
        self.wait(LEASE_S + 0.2)
        self.assert_granted(self.claim(self.b, 2, 22, OWNER_B), 2, OWNER_B)

    def test_cancelled_is_still_under_way(self) -> None:
        """A change that nobody waits for any more is waited for by a claim."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.world.device.hold("write")
        cancelled = self.a.write(0, b"o" * 4096)
        self.turn()
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        self.wait(LEASE_S + 0.2)
        claiming = self.b.claim(Claim(2, 22, OWNER_B), LEASE_S, "")
        self.turn()
        self.assertNoResult(claiming)
        self.world.device.release()
        self.assert_granted(self.result(claiming), 2, OWNER_B)

    def test_no_renewal_while_another_is_granted(self) -> None:
        """An owner that comes back while its node is being given to another one is not told that it still has it."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.world.device.hold("write")
        self.a.write(0, b"o" * 4096).addErrback(lambda failure: failure.trap(DSTError))
        self.turn()
        self.wait(LEASE_S + 0.2)
        claiming = self.b.claim(Claim(2, 22, OWNER_B), LEASE_S, "")
        self.turn()
        self.assertRaises(Fenced, self.result, self.a.renew())
        self.world.device.release()
        self.assert_granted(self.result(claiming), 2, OWNER_B)

    def test_restart_remembers(self) -> None:
        """A promise outlives the process that made it, with its identity; it refuses the same after as before."""
        self.claim(self.a, 1, 11, OWNER_A, "alpha")
        fence = self.a.fence
        self.world.restart()
        self.a, self.b = self.world.node(), self.world.node()
        promise = self.result(self.b.ask())
        self.assert_granted(promise, 1, OWNER_A)
        self.assertEqual((fence, fence, "alpha"), (promise.fence, self.b.fence, promise.owner_name))
        self.assert_refused(self.b)
        self.assertEqual(1, self.claim(self.b, 1, 1, OWNER_B).claim.number)

    def test_node_restart_grants_at_once(self) -> None:
        """node-restart-grants-at-once: after its own start a fence waits a full lease before it grants to others."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.wait(LEASE_S - 0.5)
        self.world.restart()
        self.a, self.b = self.world.node(), self.world.node()
        self.wait(LEASE_S - 0.5)
        self.assert_granted(self.claim(self.b, 2, 22, OWNER_B), 1, OWNER_A)
        self.assert_granted(self.claim(self.a, 2, 33, OWNER_A), 2, OWNER_A)
        self.world.restart()
        self.a, self.b = self.world.node(), self.world.node()
        self.wait(LEASE_S + 0.2)
        self.assert_granted(self.claim(self.b, 3, 22, OWNER_B), 3, OWNER_B)

    def test_restart_remembers_a_release(self) -> None:
        """After a restart what was given back is granted at once."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.result(self.a.release())
        self.world.restart()
        self.b = self.world.node()
        self.assert_granted(self.claim(self.b, 2, 22, OWNER_B), 2, OWNER_B)

    def test_suspend_past_lease(self) -> None:
        """suspend-past-lease: a machine that slept past the lease counts the sleep, though no timer ran."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.world.suspend(LEASE_S + 1.0)
        self.assert_granted(self.claim(self.b, 2, 22, OWNER_B), 2, OWNER_B)
        self.assert_refused(self.a)

    def test_wanted(self) -> None:
        """Who wants the storage is told to its owner with every answer, and forgotten after a while."""
        self.claim(self.a, 1, 11, OWNER_A)
        self.result(self.b.want("beta"))
        self.assertEqual("beta", self.result(self.a.renew()).wanted_by)
        self.wait(14.0)
        self.assertEqual("beta", self.result(self.a.renew()).wanted_by)
        self.wait(1.5)
        self.assertEqual("", self.result(self.a.renew()).wanted_by)

    def test_nonsense(self) -> None:
        """A claim without a number, or with a lease of no time or without end, is refused and changes nothing."""
        claim = Claim(1, 1, OWNER_A)
        for asked, lease_s in ((NO_CLAIM, LEASE_S), (claim, 0.0), (claim, 1e6)):
            self.assertRaises(DSTError, self.result, self.a.claim(asked, lease_s, ""))
        self.assertEqual(NO_CLAIM, self.result(self.a.ask()).claim)
        self.assert_works(self.b)


def fence_suite(provider: type, make_world: Callable[[], FenceWorld]) -> Any:
    """A test case of L{FenceSuite} for C{provider}, to be subclassed in a test module."""
    namespace: dict[str, object] = {
        "provider": provider,
        "make_world": staticmethod(make_world),
        "__module__": FenceSuite.__module__,
        "__doc__": f"L{{{provider.__name__}}} keeps the promises of L{{IFenced}}.",
    }
    return type(f"{provider.__name__}FenceSuite", (FenceSuite,), namespace)
