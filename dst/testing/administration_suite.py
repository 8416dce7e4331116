# mypy: disallow-untyped-calls=False
# (trial's assertions have no annotations)
"""
The promises of L{dst.interfaces.IClusterAdmin} on what is wanted, served, asked for and told, as tests.

A part of L{dst.testing.admin_suite}, which says what cluster is under test.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dst.administration import OperationState, OperationStatus
from dst.errors import Conflict, DSTError, InvalidRequest, NotFound
from dst.interfaces import IClusterAdmin
from dst.testing.specimen import WAIT_STEPS_MAX

if TYPE_CHECKING:
    from dst.testing.admin_suite import AdminSpecimen

__all__ = ["AdministrationTests"]

ODD_IDS = (".", "..", "a/b", "../sessions", "%2e", "x?wait=1", "x#y", "ö", " ", '"', "0" * 2000)


class AdministrationTests(TestCase):
    """What an operator wants, and what is served, asked for and told."""

    specimen: AdminSpecimen

    async def build(self) -> IClusterAdmin:
        """A new cluster's admin."""
        raise NotImplementedError

    async def wait(self, deferred: Deferred[Any]) -> Any:
        """The result of C{deferred}, which fires while time goes on."""
        raise NotImplementedError

    async def assert_fails(self, expected: type[DSTError], deferred: Deferred[Any]) -> DSTError:
        """The operation fails with exactly C{expected}, which says something."""
        raise NotImplementedError

    async def with_export(self, admin: IClusterAdmin, name: str = "second") -> tuple[dict[str, Any], str]:
        """What is wanted now and an export more; and the etag of what is wanted now."""
        now = await self.wait(admin.configuration())
        document: dict[str, Any] = deepcopy(now.document)
        document.setdefault("exports", {})[name] = {"device": "vol"}
        return document, now.etag

    async def ended(self, admin: IClusterAdmin, status: OperationStatus) -> OperationStatus:
        """The operation when it has ended; time goes on until then."""
        for _ in range(WAIT_STEPS_MAX):
            if status.state is not OperationState.RUNNING:
                return status
            self.specimen.step()
            status = await self.wait(admin.operation(status.id))
        raise self.failureException(f"{status.kind} did not end: {status.sentence}")

    # -- what is wanted ---------------------------------------------------------

    async def test_configuration(self) -> None:
        """What is wanted is there as tables, and is the same as long as nobody changes it."""
        admin = await self.build()
        one = await self.wait(admin.configuration())
        self.assertEqual(["a", "b", "c"], one.document["storages"]["vol"]["nodes"])
        self.assertEqual({"a", "b", "c", "x", "y", "spare"}, set(one.document["nodes"]))
        self.assertNotEqual("", one.etag)
        self.assertEqual(one, await self.wait(admin.configuration()))

    async def test_configuration_is_a_value(self) -> None:
        """Who changes what they were given, or have given, changes nothing else."""
        admin = await self.build()
        before = await self.wait(admin.configuration())
        before.document["storages"]["vol"]["nodes"].append("nobody")
        del before.document["nodes"]["a"]
        document, etag = await self.with_export(admin)
        await self.ended(admin, await self.wait(admin.change(document, etag)))
        document["storages"]["vol"]["nodes"].append("nobody")
        after = await self.wait(admin.configuration())
        self.assertEqual(["a", "b", "c"], after.document["storages"]["vol"]["nodes"])

    async def test_plan_of_nothing(self) -> None:
        """Where the same is wanted there is nothing to do."""
        admin = await self.build()
        now = await self.wait(admin.configuration())
        plan = await self.wait(admin.plan(now.document))
        self.assertEqual((now.etag, ()), (plan.etag, plan.steps))
        self.assertFalse(plan.destructive)

    async def test_plan(self) -> None:
        """A plan says what would be done, and nothing is."""
        admin = await self.build()
        document, etag = await self.with_export(admin)
        plan = await self.wait(admin.plan(document))
        self.assertEqual([("add", "export", "second")], [(s.action, s.kind, s.subject) for s in plan.steps])
        self.assertNotEqual("", plan.steps[0].sentence)
        self.assertEqual(etag, (await self.wait(admin.configuration())).etag)
        self.assertNotIn("second", [export.name for export in await self.wait(admin.exports())])

    async def test_change(self) -> None:
        """A change is an operation; when it has ended, what is wanted is there."""
        admin = await self.build()
        document, etag = await self.with_export(admin)
        begun = await self.wait(admin.change(document, etag))
        self.assertEqual("change", begun.kind)
        ended = await self.ended(admin, begun)
        self.assertIs(OperationState.DONE, ended.state, ended.sentence)
        now = await self.wait(admin.configuration())
        self.assertIn("second", now.document["exports"])
        self.assertNotEqual(etag, now.etag)
        (export,) = [each for each in await self.wait(admin.exports()) if each.name == "second"]
        self.assertEqual(("vol", False), (export.device, export.read_only))
        self.assertGreater(export.size, 0)

    async def test_change_of_what_was_changed(self) -> None:
        """Who has not seen what is wanted now changes nothing; who does not care what it is does."""
        admin = await self.build()
        document, etag = await self.with_export(admin)
        await self.ended(admin, await self.wait(admin.change(document, etag)))
        other, now = await self.with_export(admin, "third")
        await self.assert_fails(Conflict, admin.change(other, etag))
        self.assertEqual(now, (await self.wait(admin.configuration())).etag)
        await self.ended(admin, await self.wait(admin.change(other)))
        self.assertIn("third", (await self.wait(admin.configuration())).document["exports"])

    async def test_nonsense_is_not_wanted(self) -> None:
        """What cannot be run is not planned and not wanted, and it is said where it is wrong."""
        admin = await self.build()
        now = await self.wait(admin.configuration())
        for key, value, words in (
            ("exports", {"e": {"device": "nobody"}}, "exports.e.device"),
            ("exprots", {}, "exprots"),
            ("exports", [1], "exports"),
            ("nodes", 7, "nodes"),
        ):
            document = {**deepcopy(now.document), key: value}
            for deferred in (admin.plan(document), admin.change(document, now.etag)):
                self.assertIn(words, (await self.assert_fails(InvalidRequest, deferred)).message)
        self.assertEqual(now, await self.wait(admin.configuration()))

    # -- what is served -----------------------------------------------------------

    async def test_exports_and_listeners(self) -> None:
        """What is served and where is listed in order; each export says what device it is."""
        admin = await self.build()
        for name in ("zz", "aa"):
            document, _ = await self.with_export(admin, name)
            await self.ended(admin, await self.wait(admin.change(document)))
        exports = await self.wait(admin.exports())
        names = [export.name for export in exports]
        self.assertEqual(sorted(names), names)
        self.assertLessEqual({"aa", "zz"}, set(names))
        self.assertEqual({"vol"}, {export.device for export in exports if export.name in ("aa", "zz")})
        listeners = await self.wait(admin.listeners())
        self.assertEqual(sorted(listeners, key=lambda each: (each.protocol, each.endpoint)), listeners)

    async def test_sessions(self) -> None:
        """Where nobody is there, nobody can be cut off."""
        admin = await self.build()
        known = {session.id for session in await self.wait(admin.sessions())}
        for id in ODD_IDS:
            self.assertNotIn(id, known)
            await self.assert_fails(NotFound, admin.end_session(id))

    # -- what was asked for ---------------------------------------------------------

    async def test_operations(self) -> None:
        """What was asked for is remembered, the newest first, and each can be looked at."""
        admin = await self.build()
        await self.wait(admin.suspend("vol", "b"))
        await self.wait(admin.resume("vol", "b"))
        newest, before = (await self.wait(admin.operations()))[:2]
        self.assertEqual(("resume", "suspend"), (newest.kind, before.kind))
        self.assertEqual(("vol/b", OperationState.DONE), (before.subject, before.state))
        self.assertNotEqual(newest.id, before.id)
        self.assertEqual(before, await self.wait(admin.operation(before.id)))

    async def test_unknown_operation(self) -> None:
        """An operation that is not known is not found."""
        admin = await self.build()
        for id in ODD_IDS:
            await self.assert_fails(NotFound, admin.operation(id))

    # -- what is told -----------------------------------------------------------------

    async def test_events(self) -> None:
        """What happens has numbers that go up; who knows one of them is told what came after it."""
        admin = await self.build()
        known = await self.wait(admin.events())
        last = known[-1].number if known else 0
        self.assertEqual([], await self.wait(admin.events(last)))
        document, etag = await self.with_export(admin)
        await self.ended(admin, await self.wait(admin.change(document, etag)))
        news = await self.wait(admin.events(last))
        self.assertIn("configuration", {event.kind for event in news})
        numbers = [event.number for event in await self.wait(admin.events())]
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertEqual(news[1:], await self.wait(admin.events(news[0].number)))
        self.assertNotIn("", [event.sentence for event in news])

    async def test_health(self) -> None:
        """What is not as it should be is found, with a code and a sentence; what is healthy is not."""
        admin = await self.build()
        findings = await self.wait(admin.health())
        self.assertIn("fresh", {finding.subject.partition("/")[0] for finding in findings})
        self.assertNotIn("vol", {finding.subject for finding in findings})
        for finding in findings:
            self.assertRegex(finding.code, r"^[A-Z][A-Z_]+$")
            self.assertNotEqual("", finding.sentence)
