"""Tests of L{dst.cluster.admin}: the operator's view in the daemon passes the suite that its client passes."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dst.cluster.admin import ClusterAdmin
from dst.cluster.assembly import Cluster, running
from dst.cluster.rules import FINDINGS_MAX
from dst.cluster.topology import memory, mirror, node, slice_of, topology
from dst.errors import InvalidRequest, NotFound
from dst.testing.admin_suite import AdminSpecimen, admin_suite
from test.cluster.fixtures import memory_providers


def start(case: SynchronousTestCase, reactor: MemoryReactorClock, *things: object) -> Cluster:
    """A cluster that has settled; stopped at the end."""
    cluster = running(topology(*things), reactor, memory_providers())  # type: ignore[arg-type]
    cluster.start()
    for _ in range(300):
        reactor.advance(0.1)

    def stop() -> None:
        stopping = cluster.stop()
        for _ in range(300):
            if stopping.called:
                break
            reactor.advance(0.1)

    case.addCleanup(stop)
    return cluster


def make(case: SynchronousTestCase) -> AdminSpecimen:
    """The topology that the suite expects, in memory."""
    reactor = MemoryReactorClock()
    cluster = start(
        case,
        reactor,
        mirror("vol", *(memory("64M", name=name) for name in "abc")),
        mirror("fresh", node("noise:", name="x"), memory("64M", name="y")),
        memory("64M", name="spare"),
    )
    return AdminSpecimen(cluster.admin, lambda: reactor.advance(0.1))


class ClusterAdminTests(admin_suite(ClusterAdmin, make)):
    """The admin of a cluster in this process."""


class TreeTests(SynchronousTestCase):
    """What the suite's topology does not have."""

    def setUp(self) -> None:
        """A storage in a storage, over a slice."""
        self.reactor = MemoryReactorClock()
        disk = memory("64M", name="disk")
        inner = mirror("inner", slice_of(disk, 0, "32M", name="s"), memory("32M", name="m"))
        self.admin = start(self, self.reactor, mirror("outer", inner, memory("32M", name="o"))).admin

    def test_status(self) -> None:
        """Every storage is listed, one that is a member too; nodes only if nothing is above them."""
        trees = self.successResultOf(self.admin.status())
        self.assertEqual(["inner", "outer"], [tree.name for tree in trees])
        self.assertEqual(["inner", "o"], [tree.name for tree in trees[1].children])
        self.assertEqual(["outer", "inner", "s", "disk", "m", "o"], [tree.name for tree in trees[1].walk()])

    def test_unknown_names_are_told_with_known_ones(self) -> None:
        """Whoever misspells a name reads what there is."""
        error = self.failureResultOf(self.admin.suspend("innner", "m"), NotFound).value
        self.assertEqual("there is no storage 'innner' here; did you mean 'inner'?", error.message)
        error = self.failureResultOf(self.admin.suspend("inner", "zz"), NotFound).value
        self.assertEqual("storage 'inner' has no node 'zz'; known are m, s", error.message)

    def test_replace_a_storage(self) -> None:
        """A storage in a storage is not replaced by a node: its own members are."""
        self.failureResultOf(self.admin.replace("outer", "inner", "memory:?size=64M"), InvalidRequest)

    def test_all_wrong(self) -> None:
        """A long document of which all is wrong is refused soon, and in not too many words."""
        count = 3000
        nodes = {f"number{each}": {"uri": "memory:?size=1M"} for each in range(count)}
        storages = {"v": {"algorithm": "mirror", "nodes": [f"numbr{each}" for each in range(count)]}}
        for document in (
            {"nodes": nodes, "storages": storages},
            {"daemon": dict.fromkeys(storages["v"]["nodes"], 1)},
        ):
            error = self.failureResultOf(self.admin.plan(document), InvalidRequest).value
            self.assertLessEqual(len(error.message.splitlines()), FINDINGS_MAX + 1)
            self.assertLess(len(error.message), 50_000)
