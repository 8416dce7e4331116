"""Tests of L{dst.cluster.changing}, and of what it does to a cluster that runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dst.administration import Configuration, OperationState, OperationStatus
from dst.cluster.assembly import Cluster
from dst.cluster.document import Document, etag_of, read_document, to_document
from dst.cluster.rules import findings
from dst.errors import Conflict, DSTError, InvalidRequest, MediaError, NoSpace, NotFound
from dst.interfaces import INode
from dst.status import Health, LinkState, StatusTree
from test.cluster.fixtures import memory_providers

MIB = 1 << 20


class Ledger:
    """
    Where a configuration is kept, for tests: everything that was ever kept, and what happened meanwhile.

    @ivar looks: called each time something is kept.
    """

    path: str | None = "ledger"

    def __init__(self) -> None:
        self.kept: list[Document] = []
        self.refusal = ""
        self.failing: dict[int, DSTError] = {}
        self.begun: list[bool] = []
        self.looks: Callable[[Document], None] = lambda document: None

    def why_not(self) -> str:
        """As the test says."""
        return self.refusal

    def keep(self, document: Document, *, begin: bool) -> Deferred[None]:
        """Remember it, unless it is the one that fails."""
        error = self.failing.pop(len(self.begun), None)
        self.begun.append(begin)
        if error is not None:
            return fail(error)
        self.kept.append(copy.deepcopy(document))
        self.looks(document)
        return succeed(None)


class ChangingCase(SynchronousTestCase):
    """A cluster in memory."""

    document: dict[str, Any] = {
        "nodes": {name: {"uri": "memory:", "size": "8M"} for name in ("a", "b", "spare")},
        "storages": {"vol": {"algorithm": "mirror", "nodes": ["a", "b"]}},
        "exports": {"vol": {"device": "vol"}},
        "listeners": {"nbd": "unix:/nbd.sock"},
    }

    def setUp(self) -> None:
        """It is started, and settled."""
        self.reactor = MemoryReactorClock()
        self.ledger = Ledger()
        self.providers = memory_providers()
        document = copy.deepcopy(self.document)
        topology = read_document(document).topology
        self.cluster = Cluster(self.reactor, topology, self.providers, kept=self.ledger, document=document)
        self.cluster.start()
        self.settle()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Nothing is left."""
        stopping = self.cluster.stop()
        self.settle()
        self.successResultOf(stopping)

    def settle(self, seconds: float = 20.0) -> None:
        """Time goes on."""
        for _ in range(int(seconds * 10)):
            self.reactor.advance(0.1)

    @property
    def configuration(self) -> Configuration:
        """What is wanted."""
        return self.successResultOf(self.cluster.admin.configuration())

    def wanted(self) -> dict[str, Any]:
        """A copy of what is wanted, to change."""
        return copy.deepcopy(self.configuration.document)

    def begin(self, document: dict[str, Any], etag: str | None = None) -> str:
        """Begin a change; its id."""
        return self.successResultOf(self.cluster.admin.change(document, etag)).id

    def operation(self, id: str) -> OperationStatus:
        """How it is."""
        return self.successResultOf(self.cluster.admin.operation(id))

    def change(self, document: dict[str, Any]) -> OperationStatus:
        """Change, to the end."""
        id = self.begin(document)
        self.settle()
        return self.operation(id)

    def assert_done(self, document: dict[str, Any]) -> None:
        """It can be changed to that, and everybody agrees afterwards."""
        status = self.change(document)
        self.assertEqual((OperationState.DONE, None), (status.state, status.error_code), status.sentence)
        self.assert_agreed(document)

    def assert_agreed(self, document: dict[str, Any]) -> None:
        """What is wanted, what is kept, and what runs are one."""
        self.assertEqual(document, self.configuration.document)
        self.assertEqual(document, self.ledger.kept[-1])
        self.assertEqual(etag_of(document), self.configuration.etag)
        topology = read_document(document).topology
        self.assertEqual({spec.name for spec in topology.devices()}, set(self.cluster.devices.by_name))
        self.assertEqual(
            sorted(spec.name for spec in topology.exports),
            [e.name for e in self.successResultOf(self.cluster.admin.exports())],
        )

    def tree(self, name: str) -> StatusTree:
        """The status of what is at the top."""
        trees = self.successResultOf(self.cluster.admin.status())
        return next(tree for tree in trees if tree.name == name)

    def members(self, storage: str = "vol") -> dict[str, str]:
        """The states of the members."""
        return {child.name: child.state for child in self.tree(storage).children}

    def node(self, name: str) -> INode:
        """A device."""
        return self.cluster[name]

    def write(self, data: bytes, device: str = "vol") -> None:
        """Write somewhere."""
        done = self.cluster[device].write(4096, data)
        self.settle(2)
        self.successResultOf(done)

    def read(self, length: int, device: str = "vol") -> bytes:
        """What is there."""
        done = self.cluster[device].read(4096, length)
        self.settle(2)
        return bytes(self.successResultOf(done))


class MemberTests(ChangingCase):
    """Members come and go while the storage serves."""

    def test_add_new(self) -> None:
        """A new node becomes a copy; the file knows it before the storage does."""
        seen: list[dict[str, str]] = []
        self.ledger.looks = lambda document: seen.append(self.members())
        document = self.wanted()
        document["nodes"]["c"] = {"uri": "memory:", "size": "8M"}
        document["storages"]["vol"]["nodes"].append("c")
        self.write(b"data")
        self.assert_done(document)
        self.assertEqual({"a": "in-sync", "b": "in-sync", "c": "in-sync"}, self.members())
        self.assertNotIn("c", seen[0])
        self.assertEqual(2, self.tree("vol").redundancy)
        self.assertEqual(b"data", self.read(4, "c"))

    def test_add_one_that_stands_alone(self) -> None:
        """A spare is closed as that and opened by the storage."""
        document = self.wanted()
        document["storages"]["vol"]["nodes"].append("spare")
        self.assert_done(document)
        self.assertEqual("in-sync", self.members()["spare"])
        trees = self.successResultOf(self.cluster.admin.status())
        self.assertEqual(["vol"], [tree.name for tree in trees])

    def test_remove(self) -> None:
        """A copy leaves, and its node with it; the file knows it afterwards."""
        seen: list[dict[str, str]] = []
        self.ledger.looks = lambda document: seen.append(self.members())
        document = self.wanted()
        document["storages"]["vol"]["nodes"] = ["a"]
        del document["nodes"]["b"]
        self.assert_done(document)
        self.assertEqual({"a": "in-sync"}, self.members())
        self.assertEqual([{"a": "in-sync"}] * len(seen), seen)
        self.assertEqual((Health.HEALTHY, ""), (self.tree("vol").health, self.tree("vol").reason))

    def test_remove_and_keep(self) -> None:
        """A member that leaves can stay as a node, and be used for something else later."""
        document = self.wanted()
        document["storages"]["vol"]["nodes"] = ["a"]
        self.assert_done(document)
        self.assertEqual("ready", self.tree("b").state)
        document = self.wanted()
        document["storages"]["vol"]["nodes"] = ["a"]
        document["nodes"]["b"]["size"] = "16M"
        self.assert_done(document)
        self.assertEqual(16 * MIB, self.node("b").geometry.size)

    def test_exchange_waits_for_the_copy(self) -> None:
        """Nobody leaves before the new one has everything; the operation says how far that is."""
        self.write(b"precious")
        self.successResultOf(self.cluster.admin.pause_resync("vol"))
        document = self.wanted()
        document["storages"]["vol"]["nodes"] = ["spare"]
        del document["nodes"]["a"], document["nodes"]["b"]
        id = self.begin(document)
        self.settle(300)
        status = self.operation(id)
        self.assertIs(OperationState.RUNNING, status.state)
        self.assertIn("spare is copied to", status.sentence)
        self.assertTrue(status.bytes_left)
        self.assertEqual({"a": "in-sync", "b": "in-sync", "spare": "resyncing"}, self.members())
        error = self.failureResultOf(self.cluster.admin.change(document), Conflict).value
        self.assertIn(id, error.message)
        self.successResultOf(self.cluster.admin.resume_resync("vol"))
        self.settle()
        self.assertIs(OperationState.DONE, self.operation(id).state, self.operation(id).sentence)
        self.assert_agreed(document)
        self.assertEqual({"spare": "in-sync"}, self.members())
        self.assertEqual(b"precious", self.read(8))

    def test_too_small(self) -> None:
        """Who is refused leaves again, and the configuration is what it was."""
        before = self.wanted()
        document = self.wanted()
        document["nodes"]["tiny"] = {"uri": "memory:", "size": "1M"}
        document["storages"]["vol"]["nodes"] = ["tiny", "a"]
        status = self.change(document)
        self.assertEqual((OperationState.FAILED, "bad-media"), (status.state, status.error_code))
        self.assertIn("tiny cannot become a member of vol: the media has room for", status.sentence)
        self.assertIn("what was done: nothing", status.sentence)
        self.assert_agreed(before)
        self.assertEqual({"a": "in-sync", "b": "in-sync"}, self.members())

    def test_refused_spare_stands_alone_again(self) -> None:
        """One that stood alone before does so again."""
        document = self.wanted()
        document["nodes"]["tiny"] = {"uri": "memory:", "size": "1M"}
        self.assert_done(document)
        before = self.wanted()
        document = self.wanted()
        document["storages"]["vol"]["nodes"].append("tiny")
        self.assertIs(OperationState.FAILED, self.change(document).state)
        self.assert_agreed(before)
        self.assertEqual("ready", self.tree("tiny").state)

    def test_last_copy(self) -> None:
        """The last copy does not leave, whatever is wanted."""
        self.successResultOf(self.cluster.admin.suspend("vol", "b"))
        before = self.wanted()
        document = self.wanted()
        document["storages"]["vol"]["nodes"] = ["b"]
        status = self.change(document)
        self.assertEqual((OperationState.FAILED, "invalid-request"), (status.state, status.error_code))
        self.assertIn("last copy", status.sentence)
        self.assert_agreed(before)
        self.assertEqual({"a": "in-sync", "b": "suspended"}, self.members())

    def test_replace_is_kept(self) -> None:
        """The old operation does the same: what has taken the place is written down."""
        self.write(b"data")
        done = self.cluster.admin.replace("vol", "b", "memory:?size=9M")
        self.settle()
        self.successResultOf(done)
        self.assertEqual({"uri": "memory:?size=9M"}, self.configuration.document["nodes"]["b"])  # type: ignore[index]
        self.assert_agreed(self.wanted())
        self.assertEqual({"a": "in-sync", "b": "in-sync"}, self.members())
        self.assertEqual(9 * MIB, self.node("b").geometry.size)
        self.assertEqual(b"data", self.read(4, "b"))

    def test_replace_where_nothing_can_be_kept(self) -> None:
        """A disk that is broken does not wait for somebody who may write the file."""
        self.ledger.refusal = "the file system is read-only"
        done = self.cluster.admin.replace("vol", "b", "memory:?size=9M")
        self.settle()
        self.successResultOf(done)
        self.assertEqual([], self.ledger.kept)
        self.assertEqual(9 * MIB, self.node("b").geometry.size)

    def test_again_after_starting_again(self) -> None:
        """A mirror that has lost members goes on without them when it is closed and when it starts again."""
        document = self.wanted()
        document["storages"]["vol"]["nodes"] = ["spare", "a"]
        self.assert_done(document)
        document = self.wanted()
        document["storages"] = {}
        document["exports"] = {}
        self.assert_done(document)
        self.assertEqual({"a", "b", "spare"}, set(self.cluster.devices.by_name))
        for name in ("a", "b", "spare"):
            self.assertIs(LinkState.READY, self.node(name).link, name)


class WitnessTests(ChangingCase):
    """Witnesses come and go while the storage serves."""

    document: dict[str, Any] = {
        "nodes": {
            **{name: {"uri": "memory:", "size": "8M"} for name in ("a", "b")},
            **{name: {"uri": "memory:", "size": "64K"} for name in ("v", "w")},
        },
        "storages": {"vol": {"algorithm": "mirror", "nodes": ["a", "b"], "witnesses": ["v"]}},
        "exports": {"vol": {"device": "vol"}},
    }

    def test_exchange(self) -> None:
        """One that stood alone becomes a witness, and the other stands alone then."""
        document = self.wanted()
        document["storages"]["vol"]["witnesses"] = ["w"]
        self.assert_done(document)
        trees = self.successResultOf(self.cluster.admin.status())
        self.assertEqual([("v", "ready"), ("vol", "ready")], [(tree.name, tree.state) for tree in trees])
        self.write(b"data")

    def test_new_and_gone(self) -> None:
        """A new node becomes one, and the node of one that goes may go with it."""
        document = self.wanted()
        document["nodes"]["x"] = {"uri": "memory:", "size": "64K"}
        document["storages"]["vol"]["witnesses"] = ["w", "x"]
        del document["nodes"]["v"]
        self.assert_done(document)

    def test_last(self) -> None:
        """Without any the storage would vote in another way after a restart, so that is when the last one goes."""
        document = self.wanted()
        document["storages"]["vol"]["witnesses"] = []
        self.assert_done(document)
        self.assertEqual(("the witnesses of vol are none from the next start on",), self.configuration.after_restart)


class DeviceTests(ChangingCase):
    """Nodes, slices and storages come and go."""

    def test_tree(self) -> None:
        """A storage over a storage over a slice comes at once, serves, and goes."""
        document = self.wanted()
        document["nodes"] |= {
            "disk": {"uri": "memory:", "size": "32M"},
            "s": {"parent": "disk", "start": 0, "size": "16M"},
            "t": {"parent": "disk", "start": "16M", "size": "16M"},
        }
        document["storages"] |= {
            "outer": {"algorithm": "mirror", "nodes": ["inner"]},
            "inner": {"algorithm": "mirror", "nodes": ["s"]},
        }
        document["exports"]["outer"] = {"device": "outer"}
        self.assert_done(document)
        self.assertEqual("ready", self.tree("outer").state)
        self.assertEqual("ready", self.tree("t").state)
        self.write(b"deep", "outer")
        del document["storages"]["outer"], document["storages"]["inner"], document["exports"]["outer"]
        del document["nodes"]["s"]
        self.assert_done(document)
        self.assertEqual("ready", self.tree("t").state)

    def test_others_go_on(self) -> None:
        """What is not concerned is not touched: the same devices, and the same storage."""
        before = {name: self.node(name) for name in ("a", "b", "vol")}
        document = self.wanted()
        document["nodes"]["spare"]["size"] = "16M"
        document["nodes"]["new"] = {"uri": "memory:", "size": "1M"}
        self.assert_done(document)
        self.assertEqual(before, {name: self.node(name) for name in before})
        self.assertEqual(16 * MIB, self.tree("spare").size)

    def test_cannot_be_opened(self) -> None:
        """A step that fails says what was done before it, and that is what is wanted then."""
        document = self.wanted()
        document["nodes"]["new"] = {"uri": "memory:", "size": "1M"}
        expected = copy.deepcopy(document)
        document["nodes"]["bad"] = {"uri": "stubborn:"}
        self.providers.nodes["stubborn"] = Stubborn()
        status = self.change(document)
        self.assertEqual((OperationState.FAILED, "media-error"), (status.state, status.error_code))
        self.assertIn("it does not want to; what was done: node new is opened", status.sentence)
        self.assert_agreed(expected)

    def test_cannot_be_opened_in_another_way(self) -> None:
        """What was closed to become something else is opened again as it was."""
        self.providers.nodes["stubborn"] = Stubborn()
        before = self.wanted()
        document = self.wanted()
        document["nodes"]["spare"] = {"uri": "stubborn:"}
        self.assertIs(OperationState.FAILED, self.change(document).state)
        self.assert_agreed(before)
        self.assertEqual(("ready", 8 * MIB), (self.tree("spare").state, self.tree("spare").size))

    def test_storage_cannot_be_opened(self) -> None:
        """So are nodes that were to become part of a storage."""
        self.providers.nodes["stubborn"] = Stubborn(opens=1)
        document = self.wanted()
        document["nodes"]["bad"] = {"uri": "stubborn:"}
        expected = copy.deepcopy(document)
        document["storages"]["new"] = {"algorithm": "mirror", "nodes": ["bad", "spare"]}
        self.write(b"mine", "spare")
        status = self.change(document)
        self.assertIs(OperationState.FAILED, status.state)
        self.assertIn("what was done: node bad is opened", status.sentence)
        self.assert_agreed(expected)
        self.assertEqual("ready", self.tree("spare").state)
        self.assertEqual(b"mine", self.read(4, "spare"))

    def test_not_written(self) -> None:
        """What cannot be kept is not done."""
        before = self.wanted()
        self.ledger.failing[0] = NoSpace("the disk is full")
        document = self.wanted()
        document["nodes"]["new"] = {"uri": "memory:", "size": "1M"}
        status = self.change(document)
        self.assertEqual((OperationState.FAILED, "no-space"), (status.state, status.error_code))
        self.assertNotIn("new", self.cluster.devices.by_name)
        self.assertEqual(before, self.configuration.document)

    def test_each_step_is_kept(self) -> None:
        """Whatever moment a daemon is killed in, the file is one that it can start with."""
        document = self.wanted()
        document["nodes"] |= {f"n{number}": {"uri": "memory:", "size": "8M"} for number in range(3)}
        document["storages"] = {"new": {"algorithm": "mirror", "nodes": ["n0", "n1"]}}
        document["exports"] = {"new": {"device": "new"}}
        self.assert_done(document)
        self.assertGreater(len(self.ledger.kept), 6)
        for kept in self.ledger.kept:
            self.assertEqual([], findings(read_document(kept).topology, self.providers))
        self.assertEqual([True] + [False] * (len(self.ledger.begun) - 1), self.ledger.begun)

    def test_stopped_meanwhile(self) -> None:
        """A daemon that stops gives up what it is waiting for."""
        self.successResultOf(self.cluster.admin.pause_resync("vol"))
        document = self.wanted()
        document["storages"]["vol"]["nodes"] = ["spare"]
        id = self.begin(document)
        self.settle()
        self.stop()
        status = self.operation(id)
        self.assertEqual((OperationState.FAILED, "unavailable"), (status.state, status.error_code))
        self.assertEqual({"a", "b", "spare"}, set(self.ledger.kept[-1]["storages"]["vol"]["nodes"]))  # type: ignore[index]


class Stubborn:
    """Nodes that cannot be opened more often than C{opens}."""

    scheme = "stubborn"

    def __init__(self, opens: int = 0) -> None:
        self.opens = opens

    def node_from_uri(self, reactor: object, name: str, uri: str, options: dict[str, object]) -> INode:
        """One of them."""
        node = memory_providers().nodes["memory"].node_from_uri(reactor, name, "memory:?size=1M", {})  # type: ignore[arg-type]
        really = node.open

        def open() -> Deferred[None]:
            self.opens -= 1
            return really() if self.opens >= 0 else fail(MediaError("it does not want to"))

        node.open = open  # type: ignore[method-assign]
        return node


class ExportTests(ChangingCase):
    """What is served, and where."""

    def test_come_and_go(self) -> None:
        """An export is there as soon as it is wanted, and gone as soon as it is not."""
        document = self.wanted()
        document["exports"]["spare"] = {"device": "spare", "allow": [{"access": "write"}]}
        self.assert_done(document)
        self.assertIs(self.node("spare"), self.cluster.exports.open_export("spare", None).node)
        document["exports"]["spare"] = {"device": "spare", "allow": [{"access": "read"}]}
        self.assert_done(document)
        self.assertTrue(self.cluster.exports.open_export("spare", None).read_only)
        del document["exports"]["spare"]
        self.assert_done(document)
        self.assertRaises(NotFound, self.cluster.exports.open_export, "spare", None)

    def test_listeners(self) -> None:
        """A port is opened and closed; who is the last of a protocol drains it."""
        document = self.wanted()
        document["listeners"]["nbd"] = ["unix:/nbd.sock", "unix:/other.sock"]
        self.assert_done(document)
        listed = self.successResultOf(self.cluster.admin.listeners())
        self.assertEqual(["unix:/nbd.sock", "unix:/other.sock"], [each.endpoint for each in listed])
        exporter = self.cluster.exporters["nbd"]
        document["listeners"]["nbd"] = "unix:/other.sock"
        self.assert_done(document)
        self.assertIs(exporter, self.cluster.exporters["nbd"])
        document["listeners"] = {"dst": "unix:/dst.sock"}
        self.assert_done(document)
        self.assertEqual({"dst"}, set(self.cluster.exporters))
        self.assertIs(None, exporter.buildProtocol(None))  # type: ignore[arg-type]


class WantingTests(ChangingCase):
    """What is wanted, and by whom it may be changed."""

    def test_etag(self) -> None:
        """Who has seen something else is told so, and nothing is done."""
        seen = self.configuration.etag
        document = self.wanted()
        document["exports"] = {}
        self.begin(document, seen)
        error = self.failureResultOf(self.cluster.admin.change(document, seen), Conflict).value
        self.assertIn("another one by now", error.message)

    def test_mistakes(self) -> None:
        """Everything that is wrong is said, with its place, by plan and by change."""
        document = self.wanted()
        document["storages"]["vol"]["nodes"] = ["a", "bb"]
        document["exports"]["vol"]["read_olny"] = True
        for ask in (self.cluster.admin.plan, self.cluster.admin.change):
            error = self.failureResultOf(ask(document), InvalidRequest).value  # type: ignore[operator]
            self.assertIn("exports.vol.read_olny: [exports.vol] has the unknown key 'read_olny'", error.message)
            self.assertIn("storages.vol.nodes.1: there is no node or storage 'bb'", error.message)

    def test_nonsense(self) -> None:
        """Whatever comes as JSON is answered with a sentence."""
        deep: dict[str, Any] = {}
        for _ in range(5000):
            deep = {"x": deep}
        for document in (
            {"nodes": None},
            {"nodes": []},
            {"x": 1},
            {"nodes": {"a": {"uri": None}}},
            deep,
            {"\ud800": 1},
        ):
            self.failureResultOf(self.cluster.admin.plan(document), InvalidRequest)
        self.assertEqual(self.document, self.configuration.document)

    def test_not_writable(self) -> None:
        """Why it cannot be changed is known before somebody tries."""
        self.ledger.refusal = "it is a Python script"
        self.assertEqual("it is a Python script", self.configuration.writable)
        document = self.wanted()
        document["exports"] = {}
        self.failureResultOf(self.cluster.admin.change(document), InvalidRequest)
        self.assertEqual(1, len(self.successResultOf(self.cluster.admin.plan(document)).steps))

    def test_after_restart(self) -> None:
        """What waits for a restart is kept and said, until it is withdrawn."""
        document = self.wanted()
        document["daemon"] = {"name": "x"}
        status = self.change(document)
        self.assertIn("take effect at the next start only", status.sentence)
        self.assert_agreed(document)
        self.assertEqual(("daemon.name is 'x' from the next start on",), self.configuration.after_restart)
        document = self.wanted()
        document["nodes"]["new"] = {"uri": "memory:", "size": "1M"}
        self.assert_done(document)
        self.assertEqual(("daemon.name is 'x' from the next start on",), self.configuration.after_restart)
        for kept in self.ledger.kept:
            self.assertEqual({"name": "x"}, kept["daemon"])
        del document["daemon"]
        self.assert_done(document)
        self.assertEqual((), self.configuration.after_restart)

    def test_only_written_in_another_way(self) -> None:
        """What means the same is kept as it is written, and nothing is done."""
        document = self.wanted()
        document["exports"]["vol"]["read_only"] = False
        document["listeners"]["nbd"] = ["unix:/nbd.sock"]
        device = self.node("a")
        plan = self.successResultOf(self.cluster.admin.plan(document))
        self.assertEqual((), plan.steps)
        self.assertIs(OperationState.DONE, self.change(document).state)
        self.assertEqual(document, self.ledger.kept[-1])
        self.assertIs(device, self.node("a"))

    def test_told(self) -> None:
        """Each change is an event, and so is the end of the operation."""
        document = self.wanted()
        document["exports"] = {}
        self.change(document)
        events = self.successResultOf(self.cluster.admin.events())
        self.assertEqual(
            [("configuration", "vol is exported no more"), ("operation", "change of vol is done")],
            [(event.kind, event.sentence) for event in events if event.kind in ("configuration", "operation")],
        )

    def test_script(self) -> None:
        """A cluster of a script says what it runs as a document, which says the same."""
        cluster = Cluster(self.reactor, self.cluster.topology, self.providers)
        configuration = self.successResultOf(cluster.admin.configuration())
        self.assertEqual(to_document(self.cluster.topology), configuration.document)
        self.assertEqual((None, ""), (configuration.file, configuration.writable))
