# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
Every promise of L{dst.interfaces.IClusterAdmin}, as tests: what the daemon says of itself and what its
client says of it is the same.

The cluster under test has the topology of L{dst.testing.fake_admin.example_trees}:

  - a mirror C{vol} of the nodes C{a}, C{b} and C{c}: initialised, ready, every member in sync;
  - a mirror C{fresh} of the nodes C{x} and C{y}: not initialised, because C{x} holds something;
  - a node C{spare} that is in no storage.

C{memory:?size=64M} has to be a URI that a node can be made from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from attrs import define
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from dst.errors import ConfigurationError, DSTError, InvalidRequest, NotFound
from dst.interfaces import IClusterAdmin
from dst.status import Health, MemberState, StatusTree
from dst.testing.administration_suite import AdministrationTests
from dst.testing.specimen import WAIT_STEPS_MAX, conformance_tests

__all__ = ["AdminSpecimen", "AdminSuite", "admin_suite"]

T = TypeVar("T")


@define
class AdminSpecimen:
    """
    One admin under test.

    @ivar admin: of a cluster that is started and has the topology above.
    @ivar step: lets a little time pass (advance the clock, move bytes); called until what the test waits
        for has happened.
    """

    admin: IClusterAdmin
    step: Callable[[], None]


AdminMaker: TypeAlias = Callable[[Any], Any]
"""
Given the running test case; returns an L{AdminSpecimen}, or an awaitable of one, and adds the clean-up itself.
"""


class AdminSuite(AdministrationTests):
    """What an operator can see and do."""

    provider: type
    make: AdminMaker
    specimen: AdminSpecimen

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        provider = getattr(cls, "provider", None)
        if provider is not None and cls.__module__.partition(".")[0] != "dst":
            conformance_tests.setdefault(provider, []).append(cls)

    async def build(self) -> IClusterAdmin:
        """A new cluster's admin."""
        made = type(self).make(self)
        self.specimen = made if isinstance(made, AdminSpecimen) else await made
        return self.specimen.admin

    async def wait(self, deferred: Deferred[T]) -> T:
        """The result of C{deferred}, which fires while time goes on."""
        fired: list[bool] = []

        def note(result: T) -> T:
            fired.append(True)
            return result

        deferred.addBoth(note)
        for _ in range(WAIT_STEPS_MAX):
            if fired:
                return await deferred
            self.specimen.step()
        raise self.failureException("a Deferred did not fire")

    async def tree(self, name: str, *below: str) -> StatusTree:
        """The status of a storage or node, or of what is below it by those names."""
        trees = await self.wait(self.specimen.admin.status())
        for part in (name, *below):
            found = [tree for tree in trees if tree.name == part]
            self.assertEqual(1, len(found), f"{part} in {[tree.name for tree in trees]}")
            trees = list(found[0].children)
        return found[0]

    async def wait_for_state(self, storage: str, node: str, state: MemberState) -> StatusTree:
        """Time goes on until the member is in that state."""
        for _ in range(WAIT_STEPS_MAX):
            member = await self.tree(storage, node)
            if member.state == state.value:
                return member
            self.specimen.step()
        raise self.failureException(f"{node} did not become {state.value}: it is {member.state} ({member.reason})")

    async def assert_fails(self, expected: type[DSTError], deferred: Deferred[Any]) -> DSTError:
        """The operation fails with exactly C{expected}, which says something."""
        try:
            await self.wait(deferred)
        except DSTError as error:
            self.assertIs(expected, type(error), error.message)
            self.assertNotEqual("", error.message)
            return error
        raise self.failureException(f"it did what it should have refused with {expected.__name__}")

    # -- seeing ---------------------------------------------------------------

    async def test_provides_admin(self) -> None:
        """It has every method of the interface, with its arguments."""
        self.assertTrue(verifyObject(IClusterAdmin, await self.build()))

    async def test_status(self) -> None:
        """There is one tree for every storage and for every node in none, sorted by name."""
        admin = await self.build()
        trees = await self.wait(admin.status())
        self.assertEqual(["fresh", "spare", "vol"], [tree.name for tree in trees])

    async def test_healthy_storage(self) -> None:
        """A storage with every member in sync is healthy, has a size, redundancy and nothing to explain."""
        await self.build()
        vol = await self.tree("vol")
        self.assertEqual((Health.HEALTHY, "mirror", ""), (vol.health, vol.kind, vol.reason))
        self.assertEqual((2, 0), (vol.redundancy, vol.dirty_bytes))
        self.assertGreater(vol.size, 0)
        self.assertEqual(["a", "b", "c"], [member.name for member in vol.children])
        self.assertEqual({"in-sync"}, {member.state for member in vol.children})

    async def test_storage_that_waits(self) -> None:
        """A storage that nobody has initialised is not healthy and says why."""
        await self.build()
        fresh = await self.tree("fresh")
        self.assertIsNot(Health.HEALTHY, fresh.health)
        self.assertNotEqual("", fresh.reason)

    async def test_status_is_a_value(self) -> None:
        """Asking twice while nothing happens gives equal trees."""
        admin = await self.build()
        self.assertEqual(await self.wait(admin.status()), await self.wait(admin.status()))

    # -- doing ------------------------------------------------------------------

    async def test_suspend_and_resume(self) -> None:
        """A suspended member is not used and the storage degraded, until it is resumed and in sync again."""
        admin = await self.build()
        self.assertIs(None, await self.wait(admin.suspend("vol", "b")))
        member = await self.wait_for_state("vol", "b", MemberState.SUSPENDED)
        self.assertNotEqual("", member.reason)
        vol = await self.tree("vol")
        self.assertEqual((Health.DEGRADED, 1), (vol.health, vol.redundancy))
        self.assertNotEqual("", vol.reason)
        self.assertIs(None, await self.wait(admin.resume("vol", "b")))
        await self.wait_for_state("vol", "b", MemberState.IN_SYNC)
        self.assertIs(Health.HEALTHY, (await self.tree("vol")).health)

    async def test_suspend_last(self) -> None:
        """The last copy in sync is never suspended."""
        admin = await self.build()
        await self.wait(admin.suspend("vol", "a"))
        await self.wait_for_state("vol", "a", MemberState.SUSPENDED)
        await self.wait(admin.suspend("vol", "b"))
        await self.wait_for_state("vol", "b", MemberState.SUSPENDED)
        await self.assert_fails(InvalidRequest, admin.suspend("vol", "c"))
        self.assertEqual("in-sync", (await self.tree("vol", "c")).state)

    async def test_resume_what_runs(self) -> None:
        """There is nothing to resume in a member that is not suspended."""
        admin = await self.build()
        await self.assert_fails(InvalidRequest, admin.resume("vol", "a"))

    async def test_initialise_keep(self) -> None:
        """Initialised with the data of one node, the others are copied from it."""
        admin = await self.build()
        self.assertIs(None, await self.wait(admin.initialise("fresh", keep="x")))
        await self.wait_for_state("fresh", "x", MemberState.IN_SYNC)
        await self.wait_for_state("fresh", "y", MemberState.IN_SYNC)
        self.assertIs(Health.HEALTHY, (await self.tree("fresh")).health)

    async def test_initialise_discard(self) -> None:
        """Initialised with nothing kept, the storage is as good."""
        admin = await self.build()
        self.assertIs(None, await self.wait(admin.initialise("fresh", discard=True)))
        await self.wait_for_state("fresh", "x", MemberState.IN_SYNC)
        await self.wait_for_state("fresh", "y", MemberState.IN_SYNC)

    async def test_initialise_without_choice(self) -> None:
        """Where a member holds something, nothing is done before a person says what to keep."""
        admin = await self.build()
        await self.assert_fails(InvalidRequest, admin.initialise("fresh"))
        self.assertIsNot(Health.HEALTHY, (await self.tree("fresh")).health)

    async def test_initialise_twice(self) -> None:
        """A storage that exists is not initialised again, whatever is said."""
        admin = await self.build()
        await self.assert_fails(InvalidRequest, admin.initialise("vol", keep="a"))
        await self.assert_fails(InvalidRequest, admin.initialise("vol", discard=True))
        self.assertIs(Health.HEALTHY, (await self.tree("vol")).health)

    async def test_mark_dirty(self) -> None:
        """A copy that is not trusted leaves and is copied again."""
        admin = await self.build()
        self.assertIs(None, await self.wait(admin.mark_dirty("vol", "c")))
        await self.wait_for_state("vol", "c", MemberState.IN_SYNC)

    async def test_mark_clean_in_sync(self) -> None:
        """There is nothing to mark clean in a member that is in sync."""
        admin = await self.build()
        await self.assert_fails(InvalidRequest, admin.mark_clean("vol", "a"))

    async def test_replace(self) -> None:
        """A member's place goes to another node, which is resynced."""
        admin = await self.build()
        self.assertIs(None, await self.wait(admin.replace("vol", "b", "memory:?size=64M")))
        await self.wait_for_state("vol", "b", MemberState.IN_SYNC)
        self.assertEqual(3, len((await self.tree("vol")).children))

    async def test_replace_by_nonsense(self) -> None:
        """A URI that no plugin serves is refused and nothing changes."""
        admin = await self.build()
        await self.assert_fails(ConfigurationError, admin.replace("vol", "b", "carrier-pigeon:coop"))
        self.assertEqual("in-sync", (await self.tree("vol", "b")).state)

    # -- names ------------------------------------------------------------------

    async def test_unknown_storage(self) -> None:
        """Every operation on a storage that is not there says so."""
        admin = await self.build()
        for deferred in (
            admin.initialise("nothing", discard=True),
            admin.suspend("nothing", "a"),
            admin.resume("nothing", "a"),
            admin.replace("nothing", "a", "memory:?size=64M"),
            admin.mark_clean("nothing", "a"),
            admin.mark_dirty("nothing", "a"),
            admin.take_over("nothing"),
            admin.resolve("nothing", "a"),
            admin.grow("nothing"),
            admin.pause_resync("nothing"),
            admin.resume_resync("nothing", "a"),
            admin.resyncs("nothing"),
            admin.scrub("nothing"),
            admin.stop_scrub("nothing"),
            admin.scrubs("nothing"),
            admin.explain("nothing"),
        ):
            await self.assert_fails(NotFound, deferred)

    async def test_unknown_node(self) -> None:
        """Every operation on a node that is not a member says so; one of another storage is none."""
        admin = await self.build()
        for name in ("nothing", "spare", "x"):
            for deferred in (
                admin.suspend("vol", name),
                admin.resume("vol", name),
                admin.replace("vol", name, "memory:?size=64M"),
                admin.mark_clean("vol", name),
                admin.mark_dirty("vol", name),
                admin.resolve("vol", name),
                admin.pause_resync("vol", name),
                admin.resume_resync("vol", name),
            ):
                await self.assert_fails(NotFound, deferred)

    async def test_odd_names(self) -> None:
        """A name is only looked up: what would mean something in a path or an address does not here."""
        admin = await self.build()
        for name in (
            ".",
            "..",
            "../vol",
            "vol/",
            "a/b",
            "vol/suspend",
            "%76ol",
            "vol?x=1",
            "vol#x",
            "völ",
            " vol",
            '"',
        ):
            error = await self.assert_fails(NotFound, admin.suspend(name, "a"))
            self.assertNotEqual("", error.message)
            await self.assert_fails(NotFound, admin.explain(name))
            await self.assert_fails(NotFound, admin.resyncs(name))

    # -- explaining ---------------------------------------------------------------

    async def test_explain_everything(self) -> None:
        """Everything that the status has at its top is explained, in the same order and down to the leaves."""
        admin = await self.build()
        explained = await self.wait(admin.explain())
        trees = await self.wait(admin.status())
        self.assertEqual([tree.name for tree in trees], [each.name for each in explained])
        for tree, explanation in zip(trees, explained, strict=True):
            self.assertEqual(
                [(each.name, each.kind, each.state) for each in tree.walk()],
                [(each.name, each.kind, each.state) for each in explanation.walk()],
            )
            self.assertIs(tree.health, explanation.health)

    async def test_explain_healthy(self) -> None:
        """What is healthy says so, and nothing is about to happen to it."""
        admin = await self.build()
        (explanation,) = await self.wait(admin.explain("vol"))
        self.assertIs(Health.HEALTHY, explanation.health)
        self.assertNotEqual("", explanation.summary)
        self.assertEqual(("", ()), (explanation.next_step, explanation.advice))

    async def test_explain_not_healthy(self) -> None:
        """Whatever is not healthy has a summary, evidence and a next step; where only a person can help, advice."""
        admin = await self.build()
        await self.wait(admin.suspend("vol", "b"))
        await self.wait_for_state("vol", "b", MemberState.SUSPENDED)
        for explanation in await self.wait(admin.explain()):
            for each in explanation.walk():
                if each.health is not Health.HEALTHY:
                    self.assertNotEqual("", each.summary, each)
                    self.assertNotEqual("", each.next_step, each)
                    self.assertNotEqual((), each.evidence, each)

    async def test_explain_member(self) -> None:
        """A member is explained as its storage sees it, with the command that helps."""
        admin = await self.build()
        await self.wait(admin.suspend("vol", "b"))
        await self.wait_for_state("vol", "b", MemberState.SUSPENDED)
        (explanation,) = await self.wait(admin.explain("b"))
        self.assertEqual(("b", "suspended"), (explanation.name, explanation.state))
        self.assertIn("dst resume", " ".join(explanation.advice))

    async def test_explain_node(self) -> None:
        """So is a node that is in no storage."""
        admin = await self.build()
        (explanation,) = await self.wait(admin.explain("spare"))
        self.assertEqual(("spare", Health.HEALTHY), (explanation.name, explanation.health))

    # -- ownership and resyncs ------------------------------------------------------

    async def test_take_over_what_is_owned(self) -> None:
        """What is owned here cannot be taken over, and goes on."""
        admin = await self.build()
        await self.assert_fails(InvalidRequest, admin.take_over("vol"))
        self.assertIs(Health.HEALTHY, (await self.tree("vol")).health)

    async def test_resolve_one_history(self) -> None:
        """Where nothing has diverged there is nothing to choose, and nothing is discarded."""
        admin = await self.build()
        await self.assert_fails(InvalidRequest, admin.resolve("vol", "a"))
        self.assertIs(Health.HEALTHY, (await self.tree("vol")).health)

    async def test_grow_without_room(self) -> None:
        """Where nobody's media has grown it stays as it is, and the answer says where there is no room."""
        admin = await self.build()
        size = (await self.tree("vol")).size
        error = await self.assert_fails(InvalidRequest, admin.grow("vol"))
        self.assertIn("no room for more on a", str(error))
        self.assertEqual((size, Health.HEALTHY), ((await self.tree("vol")).size, (await self.tree("vol")).health))

    async def test_resyncs(self) -> None:
        """A resync that has ended is remembered: to whom, why, and how it ended."""
        admin = await self.build()
        known = await self.wait(admin.resyncs("vol"))
        before = len(known)
        await self.wait(admin.mark_dirty("vol", "c"))
        await self.wait_for_state("vol", "c", MemberState.IN_SYNC)
        ended = (await self.wait(admin.resyncs("vol")))[before:]
        self.assertEqual([("c", "full", "in-sync")], [(each.member, each.kind, each.outcome) for each in ended])
        self.assertNotEqual("", ended[0].cause)

    async def test_scrub(self) -> None:
        """Copies that are equal are found to be; what was asked for, and what was found, is remembered."""
        admin = await self.build()
        self.assertEqual([], await self.wait(admin.scrubs("vol")))
        self.assertIs(None, await self.wait(admin.scrub("vol", repair=False)))
        for _ in range(200):
            self.specimen.step()
            (found,) = await self.wait(admin.scrubs("vol"))
            if found.state != "running":
                break
        size = (await self.tree("vol")).size
        self.assertEqual(("done", False, size, 0), (found.state, found.repair, found.bytes_total, found.bytes_left))
        self.assertEqual("all copies are equal", found.sentence)
        await self.assert_fails(InvalidRequest, admin.stop_scrub("vol"))

    async def test_pause_and_resume(self) -> None:
        """A resync that is paused does not end before it is resumed."""
        admin = await self.build()
        self.assertIs(None, await self.wait(admin.pause_resync("vol", "c")))
        await self.wait(admin.mark_dirty("vol", "c"))
        for _ in range(50):
            self.specimen.step()
        self.assertNotEqual("in-sync", (await self.tree("vol", "c")).state)
        self.assertIs(None, await self.wait(admin.resume_resync("vol", "c")))
        await self.wait_for_state("vol", "c", MemberState.IN_SYNC)

    async def test_pause_all(self) -> None:
        """Without a node, all of them are meant."""
        admin = await self.build()
        self.assertIs(None, await self.wait(admin.pause_resync("vol")))
        await self.wait(admin.mark_dirty("vol", "b"))
        for _ in range(50):
            self.specimen.step()
        self.assertNotEqual("in-sync", (await self.tree("vol", "b")).state)
        self.assertIs(None, await self.wait(admin.resume_resync("vol")))
        await self.wait_for_state("vol", "b", MemberState.IN_SYNC)


def admin_suite(provider: type, make: AdminMaker) -> Any:
    """
    A test case that holds C{provider} to L{dst.interfaces.IClusterAdmin}; subclass it in a test module.

    @param make: makes an L{AdminSpecimen} of a cluster with the topology that the module describes.
    """
    return type(
        f"{provider.__name__}AdminSuite",
        (AdminSuite,),
        {
            "provider": provider,
            "make": staticmethod(make),
            "__module__": AdminSuite.__module__,
            "__doc__": f"L{{{provider.__name__}}} keeps the promises that are tested by L{{AdminSuite}}.",
        },
    )
