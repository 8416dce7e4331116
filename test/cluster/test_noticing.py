"""Tests of L{dst.cluster.noticing}: what a running cluster notices about itself."""

from __future__ import annotations

import copy
import os
import time
from random import Random
from struct import pack
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dst.cluster.assembly import Cluster
from dst.cluster.document import read_document
from dst.errors import InvalidRequest, NotFound
from dst.interfaces import IMeasuresItself
from dst.surroundings import ISurroundings
from test.cluster.fixtures import memory_providers
from test.cluster.test_changing import ChangingCase, Ledger
from test.exports.test_nbd_server import go
from test.security.machines import Machines


@implementer(ISurroundings)
class Virtual(MemoryReactorClock):
    """A reactor on whose clock everything happens, leases and the calendar too."""

    state_files = None

    def entropy(self, count: int) -> bytes:
        return os.urandom(count)

    def random(self) -> Random:
        return Random(1)

    def wall_clock_s(self) -> float:
        return 1_800_000_000.0 + self.seconds()

    def boot_clock_s(self) -> float:
        return self.seconds()


class WatchedCase(ChangingCase):
    """A cluster that an operator could ask."""

    document: dict[str, Any] = {**ChangingCase.document, "daemon": {"admin": "unix:/admin.sock", "name": "alpha"}}

    def setUp(self) -> None:
        """It is started, and settled."""
        self.reactor = self.make_reactor()
        self.ledger = Ledger()
        self.providers = memory_providers()
        document = copy.deepcopy(self.document)
        topology = read_document(document).topology
        self.cluster = Cluster(self.reactor, topology, self.providers, kept=self.ledger, document=document)
        self.cluster.start()
        self.settle()
        self.addCleanup(self.stop)

    def make_reactor(self) -> Virtual:
        """What it runs on."""
        return Virtual()

    def codes(self) -> dict[str, str]:
        """What is not as it should be: subjects by code."""
        return {each.code: each.subject for each in self.successResultOf(self.cluster.admin.health())}

    def sentences(self, kind: str) -> list[str]:
        """Events of that kind."""
        return [each.sentence for each in self.successResultOf(self.cluster.admin.events()) if each.kind == kind]

    def spare_has_gone(self) -> None:
        """The node that stands alone cannot be used any more."""
        self.cluster.devices.by_name["spare"].close()


class NoticingTests(WatchedCase):
    """Findings and events of a whole cluster."""

    def test_well(self) -> None:
        """Of a cluster that is well there is nothing to say, but that it has started."""
        self.assertEqual({}, self.codes())
        self.assertRegex(self.sentences("daemon")[0], r"the daemon has started: DST \d")

    def test_node_away(self) -> None:
        """A node that is gone is a finding and an event."""
        self.spare_has_gone()
        self.settle()
        self.assertEqual({"NODE_AWAY": "spare"}, self.codes())
        self.assertTrue(any("spare is closed" in sentence for sentence in self.sentences("state")))

    def test_new_devices(self) -> None:
        """What is added while it runs is watched, what is removed is not."""
        document = self.wanted()
        document["nodes"]["late"] = {"uri": "memory:", "size": "1M"}
        self.assert_done(document)
        self.cluster.devices.by_name["late"].close()
        self.settle()
        self.assertEqual({"NODE_AWAY": "late"}, self.codes())

    def test_restart_needed(self) -> None:
        """What waits for a restart is said, until it is wanted no more."""
        document = self.wanted()
        document["daemon"]["name"] = "beta"
        self.change(document)
        self.settle()
        self.assertEqual({"RESTART_NEEDED": ""}, self.codes())
        document["daemon"]["name"] = "alpha"
        self.change(document)
        self.settle()
        self.assertEqual({}, self.codes())

    def test_configuration_not_saved(self) -> None:
        """So is that a disk was replaced where nothing can be written, until something is."""
        self.ledger.refusal = "the file system is read-only"
        done = self.cluster.admin.replace("vol", "b", "memory:?size=9M")
        self.settle()
        self.successResultOf(done)
        self.assertEqual({"CONFIGURATION_NOT_SAVED": ""}, self.codes())
        self.ledger.refusal = ""
        document = self.wanted()
        document["exports"]["again"] = {"device": "vol"}
        self.assert_done(document)
        self.settle()
        self.assertEqual({}, self.codes())

    def test_hooks_are_for_the_file(self) -> None:
        """Who may configure the daemon may not run programs by that."""
        document = self.wanted()
        document["hooks"] = [{"command": ["/bin/sh", "-c", "id"]}]
        refusal = self.failureResultOf(self.cluster.admin.change(document), InvalidRequest)
        self.assertIn("in the file only", refusal.value.message)
        self.assertNotIn("hooks", self.configuration.document)

    def test_session_ended(self) -> None:
        """That an operator has cut a client off is an event."""
        client: Any = self.cluster.exporters["nbd"].buildProtocol(IPv4Address("TCP", "127.0.0.1", 4711))
        transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4711))
        client.makeConnection(transport)
        client.dataReceived(pack(">I", 3) + go("vol"))
        (session,) = self.successResultOf(self.cluster.admin.sessions())
        self.successResultOf(self.cluster.admin.end_session(session.id))
        self.assertTrue(transport.disconnected)
        client.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(["the nbd client 127.0.0.1:4711 was cut off"], self.sentences("session"))
        self.failureResultOf(self.cluster.admin.end_session(session.id), NotFound)
        self.assertEqual(1, len(self.sentences("session")))

    def test_measures(self) -> None:
        """The process is measured."""
        self.assertTrue(verifyObject(IMeasuresItself, self.cluster.admin))
        admin: Any = self.cluster.admin
        measures = admin.measures()
        self.assertEqual(self.cluster.noticing.journal.last, measures.events)
        self.assertGreater(measures.began, 0)

    def test_end(self) -> None:
        """The end is the last event, and what is closed then is no finding."""
        self.settle()
        before = self.cluster.noticing.journal.last
        self.stop()
        events = self.cluster.noticing.journal.after(before)
        self.assertEqual(["the daemon stops"], [event.sentence for event in events if event.kind != "session"])
        self.assertEqual([], self.reactor.getDelayedCalls())


class CertificateTests(WatchedCase):
    """A cluster with certificates, on a day on which they come to an end."""

    def setUp(self) -> None:
        """The machine's certificate is for a hundred days, and it is renewed by hand."""
        self.machines = Machines(self.mktemp())
        self.machines.add("alpha", days=100)
        self.document = copy.deepcopy(self.document)
        self.document["daemon"]["security_dir"] = self.machines.path("alpha")
        self.days = 0.0
        super().setUp()

    def make_reactor(self) -> Virtual:
        """Its calendar is that of the certificates, and some days more."""
        case, began = self, time.time()

        class Calendar(Virtual):
            def wall_clock_s(self) -> float:
                return began + self.seconds() + 86400.0 * case.days

        return Calendar()

    def test_expires(self) -> None:
        """It is said in time, and again when it is too late; with a new certificate it is over."""
        self.assertEqual({}, self.codes())
        self.days = 80.0
        self.settle()
        self.assertEqual("of alpha", self.codes()["CERTIFICATE_EXPIRES"])
        self.days = 101.0
        self.settle()
        self.assertEqual("of alpha", self.codes()["CERTIFICATE_EXPIRED"])
        self.assertNotIn("CERTIFICATE_EXPIRES", self.codes())
        measures = cast(Any, self.cluster.admin).measures()
        self.assertIn("of alpha", dict(measures.certificates))
        self.machines.moment += 101 * 86400.0
        self.machines.add("alpha", days=100, again=True)
        self.settle(700.0)
        self.assertEqual({}, self.codes())

    def test_not_used(self) -> None:
        """Files that are not complete are said, and are over when they are."""
        path = os.path.join(self.machines.path("alpha"), "this.crt")
        with open(path, "rb") as file:
            good = file.read()
        with open(path, "wb") as file:
            file.write(good[:100])
        self.settle()
        self.assertIn("CERTIFICATES_NOT_USED", self.codes())
        with open(path, "wb") as file:
            file.write(good)
        self.settle()
        self.assertEqual({}, self.codes())


class UnwatchedTests(SynchronousTestCase):
    """A cluster in a script."""

    def test_asked_anyway(self) -> None:
        """It has no timer of its own, and tells how it is at the moment when it is asked."""
        reactor = MemoryReactorClock()
        document: dict[str, Any] = copy.deepcopy(ChangingCase.document)
        del document["listeners"]
        cluster = Cluster(reactor, read_document(document).topology, memory_providers())
        cluster.start()
        reactor.pump([0.1] * 200)
        self.assertEqual([], self.successResultOf(cluster.admin.health()))
        self.assertFalse(cluster.noticing.watch.running)
        cluster.devices.by_name["spare"].close()
        self.assertEqual(["NODE_AWAY"], [each.code for each in self.successResultOf(cluster.admin.health())])
        stopping = cluster.stop()
        reactor.pump([0.1] * 200)
        self.successResultOf(stopping)
        self.assertEqual([], reactor.getDelayedCalls())
