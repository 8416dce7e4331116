"""Tests of L{dst.cluster.assembly}: everything starts and stops in its order."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dst.cluster.assembly import DRAIN_S_MAX, OPEN_S_MAX, Cluster, running
from dst.cluster.building import Devices
from dst.cluster.fences import Fences
from dst.cluster.named_exports import REFUSALS_MAX, REFUSALS_S, NamedExports
from dst.cluster.providers import Providers
from dst.cluster.topology import (
    Device,
    Export,
    ExportSpec,
    export,
    memory,
    mirror,
    node,
    slice_of,
    topology,
)
from dst.errors import AlreadyInUse, ConfigurationError, Fenced, NotFound, Unavailable
from dst.identity import Access, AccessRule, Identity
from dst.interfaces import IAlgorithm, IExporter, IExportProvider, IExports, IFenced, IHistories, INode, INodeProvider
from dst.nodes.memory import MemoryDevice
from dst.ownership import Claim
from dst.recovery.state_files import MemoryFiles
from dst.status import LinkState
from dst.testing.faulty import FaultyDevice
from test.cluster.fixtures import memory_providers

LOCAL = Identity(address="127.0.0.1")


def rule(access: str, identity: str | None = None, network: str | None = None) -> AccessRule:
    """A rule of an access list."""
    return AccessRule(Access(access), identity, None if network is None else ip_network(network))


@implementer(INodeProvider)
class ScriptedNodeProvider:
    """
    C{scripted:}: memory whose C{open} and C{close} are seen, and fail or wait if the URI says so.
    """

    scheme = "scripted"

    def __init__(self) -> None:
        self.events: list[str] = []
        self.waiting: dict[str, Deferred[None]] = {}

    def node_from_uri(self, reactor: IReactorTime, name: str, uri: str, options: dict[str, object]) -> MemoryDevice:
        """A device of 16 MiB."""
        what = uri.partition(":")[2]
        if what == "bug":
            raise ZeroDivisionError("a third party's mistake")
        provider = self

        class Scripted(MemoryDevice):
            """One that tells."""

            def open(self) -> Deferred[None]:
                provider.events.append(f"open {self.name}")
                if what == "locked":
                    return fail(AlreadyInUse(f"{self.name} is in use by another process"))
                if what == "absent":
                    self.changed(LinkState.AWAY, "nobody is there")
                    provider.waiting[self.name] = Deferred()
                    provider.waiting[self.name].callback(None)
                    return provider.waiting[self.name]
                if what == "slow":
                    provider.waiting[self.name] = Deferred()
                    return provider.waiting[self.name]
                return super().open()

            def close(self) -> Deferred[None]:
                if self.link is not LinkState.CLOSED:
                    provider.events.append(f"close {self.name}")
                return super().close()

        return Scripted(reactor, name, 16 << 20)


@implementer(IExporter)
class RollCall(ServerFactory):
    """Serves nothing, and drains when the test says so."""

    def __init__(self, exports: IExports, events: list[str]) -> None:
        self.exports = exports
        self.events = events
        self.drained: Deferred[None] = Deferred()

    def drain(self) -> Deferred[None]:
        """As long as it takes."""
        self.events.append("drain")
        return self.drained.addCallback(lambda result: result)


@implementer(IExportProvider)
class ScriptedExportProvider:
    """C{roll-call}; C{made} is what it made last."""

    protocol = "roll-call"

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.made: RollCall

    def exporter(self, reactor: IReactorTime, exports: IExports) -> IExporter:
        """One that the test can look at."""
        self.made = RollCall(exports, self.events)
        return self.made


@implementer(IExportProvider)
class BuggyExportProvider:
    """Fails as it must not."""

    protocol = "bug"

    def exporter(self, reactor: IReactorTime, exports: IExports) -> IExporter:
        """Never one."""
        raise ZeroDivisionError("a third party's mistake")


class BusyReactor(MemoryReactorClock):
    """A reactor on whose machine one port is taken."""

    busy_port = 0

    def listenTCP(self, port: int, *args: object, **kwargs: object) -> object:
        """As the real one."""
        if port == self.busy_port:
            raise CannotListenError("127.0.0.1", port, OSError(98, "Address already in use"))
        return super().listenTCP(port, *args, **kwargs)


class AssemblyCase(SynchronousTestCase):
    """Runs topologies on a clock."""

    def setUp(self) -> None:
        """A reactor in memory."""
        self.reactor = BusyReactor()
        self.provider = ScriptedNodeProvider()
        self.providers: Providers = memory_providers()
        self.providers.nodes["scripted"] = self.provider

    def cluster(self, *things: Device | Export, **options: str | bool | tuple[str, ...]) -> Cluster:
        """A cluster that is not started."""
        options.setdefault("open_to_the_network", True)  # on a reactor in memory that nobody can reach
        return running(topology(*things, **options), self.reactor, self.providers)

    def wait(self, deferred: Deferred[object], seconds: float = 60.0) -> None:
        """Let time pass until it has fired."""
        for _ in range(int(seconds * 10)):
            if deferred.called:
                return
            self.reactor.advance(0.1)

    def started(self, *things: Device | Export, **options: str | tuple[str, ...]) -> Cluster:
        """A cluster that runs; stopped when the test ends."""
        cluster = self.cluster(*things, **options)
        starting = cluster.start()
        self.wait(starting)
        self.successResultOf(starting)
        self.addCleanup(cluster.stop)
        return cluster


class StartAndStopTests(AssemblyCase):
    """The life of a cluster."""

    def test_storage_in_a_few_lines(self) -> None:
        """A script has a running storage by its name, and nothing is left when it ends."""
        cluster = self.started(mirror("vol", memory("16M"), memory("16M")))
        storage = cluster["vol"]
        self.assertTrue(IAlgorithm.providedBy(storage))
        self.assertIs(LinkState.READY, storage.link)
        writing = storage.write(4096, b"hello" * 1000)
        self.wait(writing)
        self.successResultOf(writing)
        for name in ("vol-1", "vol-2"):
            self.assertEqual(b"hello", bytes(self.successResultOf(cluster[name].read(4096, 5))))
        stopping = cluster.stop()
        self.wait(stopping)
        self.successResultOf(stopping)
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertEqual(LinkState.CLOSED, cluster["vol-1"].link)

    def test_context_manager(self) -> None:
        """C{async with} starts and stops, also when the body fails."""

        async def use() -> None:
            async with self.cluster(memory("1M", name="m")) as cluster:
                self.assertIs(LinkState.READY, cluster["m"].link)
                self.seen = cluster["m"]
                raise ArithmeticError("the body's")

        self.failureResultOf(Deferred.fromCoroutine(use()), ArithmeticError)
        self.assertIs(LinkState.CLOSED, self.seen.link)

    def test_unknown_device(self) -> None:
        """A name that is not there is told with those that are."""
        cluster = self.started(memory("1M", name="m"))
        self.assertIn("there are: m", self.assertRaises(NotFound, cluster.__getitem__, "n").message)

    def test_each_opened_once(self) -> None:
        """Members are opened by their storage, parents by their slices, the others by the cluster: nobody twice."""
        disk = node("scripted:disk", name="disk")
        cluster = self.started(
            mirror("vol", slice_of(disk, 0, "8M", name="s1"), node("scripted:leg", name="leg")),
            slice_of(disk, "8M", "8M", name="s2"),
            node("scripted:alone", name="alone"),
        )
        self.assertEqual(["open alone", "open disk", "open leg"], sorted(self.provider.events))
        self.assertTrue(all(cluster[name].link is LinkState.READY for name in ("vol", "s1", "s2", "disk", "alone")))
        self.provider.events.clear()
        self.wait(cluster.stop())
        self.assertEqual(["close alone", "close disk", "close leg"], sorted(self.provider.events))

    def test_nested(self) -> None:
        """A storage of storages opens from the bottom."""
        cluster = self.started(
            mirror("top", mirror("left", memory("16M")), mirror("right", memory("16M"))),
            export(memory("1M", name="x")),
        )
        self.assertEqual(["left", "right", "top"], list(cluster.devices.storages))
        self.assertIs(LinkState.READY, cluster["top"].link)

    def test_exports_before_nodes_close(self) -> None:
        """Nothing listens any more when the first device closes."""
        cluster = self.started(export(node("scripted:", name="n")), nbd="tcp:10809", dst="tcp:7450")
        self.assertEqual(["nbd", "dst"], [listening.what for listening in cluster.listening])
        self.assertEqual([10809, 7450], [listening.address.port for listening in cluster.listening])
        self.wait(cluster.stop())
        self.assertEqual([], cluster.listening)
        self.assertEqual(["open n", "close n"], self.provider.events)

    def test_any_protocol(self) -> None:
        """A third party's exporter gets its ports and the exports, and is drained before the first device closes."""
        served = ScriptedExportProvider(self.provider.events)
        self.providers.exports["roll-call"] = served
        listeners = {"roll-call": ("tcp:1", "unix:/run/rc")}
        cluster = self.started(export(node("scripted:", name="n"), name="x"), memory("1M", name="m"), **listeners)
        self.assertEqual(["roll-call"] * 2, [listening.what for listening in cluster.listening])
        self.assertIs(self.reactor.tcpServers[0][1].factory, served.made)
        self.assertIs(self.reactor.unixServers[0][1].factory, served.made)
        self.assertEqual(["x"], served.made.exports.list_exports(LOCAL))
        stopping = cluster.stop()
        self.assertEqual([], cluster.listening)
        self.assertEqual(["open n", "drain"], self.provider.events)
        served.made.drained.callback(None)
        self.wait(stopping)
        self.assertEqual(["open n", "drain", "close n"], self.provider.events)

    def test_backlog(self) -> None:
        """Every listener keeps more clients waiting than Twisted's would, unless it says how many."""
        self.started(memory("1M", name="m"), nbd=("unix:/run/a", "unix:/run/b:backlog=7", "tcp:10809"))
        self.assertEqual([512, 7], [backlog for _, _, backlog, _, _ in self.reactor.unixServers])
        self.assertEqual([512], [backlog for _, _, backlog, _ in self.reactor.tcpServers])

    def test_state_directory(self) -> None:
        """The state directory is locked while the cluster runs, and each storage has its own below it."""
        path = self.mktemp()
        first = self.started(node("scripted:", name="a"), state_dir=path)
        second = self.cluster(node("scripted:", name="b"), state_dir=path)
        self.assertIn("in use by another daemon", self.failureResultOf(second.start(), AlreadyInUse).value.message)
        self.assertEqual(["open a"], self.provider.events)
        self.wait(first.stop())
        self.successResultOf(second.start())
        self.wait(second.stop())


class TroubleTests(AssemblyCase):
    """What ends a start, and what does not."""

    def test_locked_media(self) -> None:
        """Media that another process has end the start; what was opened is closed again."""
        cluster = self.cluster(
            node("scripted:", name="fine"), node("scripted:locked", name="locked"), nbd="tcp:10809"
        )
        starting = cluster.start()
        self.wait(starting)
        error = self.failureResultOf(starting, AlreadyInUse).value
        self.assertEqual("locked is in use by another process", error.message)
        self.assertIn("close fine", self.provider.events)
        self.assertEqual([], self.reactor.tcpServers)

    def test_locked_member(self) -> None:
        """So does a member of a storage."""
        cluster = self.cluster(mirror("vol", memory("16M"), node("scripted:locked", name="locked")))
        starting = cluster.start()
        self.wait(starting)
        self.failureResultOf(starting, AlreadyInUse)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_busy_port(self) -> None:
        """A busy port ends the start with the address, the reason and a way out."""
        self.reactor.busy_port = 10809
        cluster = self.cluster(node("scripted:", name="n"), nbd=("tcp:10808", "tcp:10809"))
        message = self.failureResultOf(cluster.start(), AlreadyInUse).value.message
        self.assertEqual(
            "cannot listen for nbd at tcp:10809: Address already in use; "
            "stop what is there, or give this daemon another address",
            message,
        )
        self.assertEqual(["open n", "close n"], self.provider.events)
        self.assertEqual([], cluster.listening)

    def test_absent_node(self) -> None:
        """A node that is away does not keep the rest from starting."""
        cluster = self.started(node("scripted:absent", name="away"), memory("1M", name="m"))
        self.assertIs(LinkState.AWAY, cluster["away"].link)
        self.assertIs(LinkState.READY, cluster["m"].link)

    def test_slow_node(self) -> None:
        """The start waits only so long for a device, which goes on opening."""
        cluster = self.cluster(node("scripted:slow", name="slow"), nbd="tcp:10809")
        starting = cluster.start()
        self.reactor.advance(OPEN_S_MAX - 0.1)
        self.assertNoResult(starting)
        self.reactor.advance(0.2)
        self.successResultOf(starting)
        self.assertFalse(self.provider.waiting["slow"].called)
        self.provider.waiting["slow"].errback(ArithmeticError("too late to end the start"))
        self.assertEqual(1, len(self.flushLoggedErrors(ArithmeticError)))
        self.wait(cluster.stop(), DRAIN_S_MAX)

    def test_stop_while_opening(self) -> None:
        """A stop does not wait for a device that does not open."""
        cluster = self.cluster(node("scripted:slow", name="slow"))
        starting = cluster.start()
        starting.addErrback(lambda failure: None)
        stopping = cluster.stop()
        self.wait(stopping, 1.0)
        self.successResultOf(stopping)
        self.assertEqual(["open slow", "close slow"], self.provider.events)
        self.provider.waiting["slow"].callback(None)
        self.reactor.advance(OPEN_S_MAX)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_bad_topology(self) -> None:
        """C{running} tells everything that is wrong, before anything is built."""
        with self.assertRaises(ConfigurationError) as caught:
            self.cluster(mirror("vol", node("flie:a")), nbd="10809")
        self.assertEqual(2, len(caught.exception.message.split("\n")))

    def test_provider_with_a_bug(self) -> None:
        """A provider that fails as it must not is named."""
        message = self.assertRaises(ConfigurationError, self.cluster, node("scripted:bug", name="n")).message
        self.assertEqual(
            "node 'n': the plugin for scripted: failed with ZeroDivisionError: a third party's mistake", message
        )
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_export_provider_with_a_bug(self) -> None:
        """So is one that cannot make its exporter, and what was opened is closed again."""
        self.providers.exports["bug"] = BuggyExportProvider()
        cluster = self.cluster(node("scripted:", name="n"), bug="tcp:1")
        self.assertEqual(
            "listeners: the plugin for bug failed with ZeroDivisionError: a third party's mistake",
            self.failureResultOf(cluster.start(), ConfigurationError).value.message,
        )
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(["open n", "close n"], self.provider.events)

    def test_drain_with_a_bug(self) -> None:
        """An exporter whose C{drain} raises does not keep the devices from closing."""
        served = ScriptedExportProvider(self.provider.events)
        self.providers.exports["roll-call"] = served
        cluster = self.started(node("scripted:", name="n"), **{"roll-call": "tcp:1"})
        served.made.drained = None
        self.wait(cluster.stop())
        self.assertEqual(["open n", "drain", "close n"], self.provider.events)
        self.assertEqual(1, len(self.flushLoggedErrors(AttributeError)))

    def test_provider_refuses(self) -> None:
        """What a provider says against an option is what the user reads."""
        self.assertIn(
            "no size", self.assertRaises(ConfigurationError, self.cluster, node("memory:", name="n")).message
        )


class NamedExportsTests(SynchronousTestCase):
    """What is served under which name."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.files = MemoryFiles()

    def devices(self, *names: str, promising: bool = False) -> Devices:
        """Memory of these names, of a daemon that can keep promises or not."""
        devices = Devices(fences=Fences(self.reactor, (lambda: self.files) if promising else None))
        for name in names:
            devices.by_name[name] = MemoryDevice(self.reactor, name, 4096)
            devices.by_name[name].open()
        return devices

    def test_names_and_permissions(self) -> None:
        """Every export is listed, sorted, and opened with its permission."""
        devices = self.devices("a", "b")
        exports = NamedExports([ExportSpec("x", "b", True), ExportSpec("a", "a")], devices)
        self.assertEqual(["a", "x"], exports.list_exports(LOCAL))
        opened = exports.open_export("x", LOCAL)
        self.assertEqual((devices.by_name["b"], True, None), (opened.node, opened.read_only, opened.fence))
        self.assertFalse(exports.open_export("a", LOCAL).read_only)

    def test_replaced_device(self) -> None:
        """A device that was replaced is served from then on, with and without a fence."""
        for promising in (False, True):
            devices = self.devices("a", promising=promising)
            exports = NamedExports([ExportSpec("a", "a")], devices)
            self.successResultOf(Deferred.fromCoroutine(devices.fences.open()))
            exports.open_export("a", LOCAL)
            devices.by_name["a"] = MemoryDevice(self.reactor, "a", 8192)
            devices.by_name["a"].open()
            self.assertEqual(8192, exports.open_export("a", LOCAL).node.geometry.size)

    def test_unknown(self) -> None:
        """A name that is not there is refused, with those that are."""
        exports = NamedExports([ExportSpec("vol", "vol")], self.devices())
        error = self.assertRaises(NotFound, exports.open_export, "vol2", LOCAL)
        self.assertEqual(
            "there is no export 'vol2' here that 127.0.0.1 may use; there are: vol",
            error.message,
        )

    def test_access(self) -> None:
        """Each client sees and opens what its access list says, and no more."""
        alpha, beta = Identity(name="alpha", address="10.0.0.1"), Identity(name="beta", address="10.0.0.2")
        anybody, here = Identity(address="10.0.0.3"), Identity(user_id=1000)
        exports = NamedExports(
            [
                ExportSpec("here", "vol"),
                ExportSpec("nobody", "vol", allow=()),
                ExportSpec("some", "vol", allow=(rule("write", "alpha"), rule("read", None, "10.0.0.0/30"))),
                ExportSpec("fixed", "vol", True, (rule("write", "alpha"), rule("write", None, "127.0.0.0/8"))),
                ExportSpec("open", "vol", allow=(rule("read"),)),
            ],
            self.devices("vol"),
        )
        for who, expected in (
            (alpha, {"some": False, "fixed": True, "open": True}),
            (beta, {"some": True, "open": True}),
            (anybody, {"some": True, "open": True}),
            (here, {"here": False, "open": True}),
            (LOCAL, {"here": False, "fixed": True, "open": True}),
            (Identity(address="::ffff:127.0.0.1"), {"here": False, "fixed": True, "open": True}),
            (Identity(address="192.0.2.1"), {"open": True}),
            (None, {"open": True}),
        ):
            self.assertEqual(sorted(expected), exports.list_exports(who), who)
            self.assertEqual(expected, {name: exports.open_export(name, who).read_only for name in expected}, who)
            for name in {"here", "nobody", "some", "fixed", "open", "vol", "no such"} - set(expected):
                error = self.assertRaises(NotFound, exports.open_export, name, who)
                self.assertEqual(
                    f"there is no export {name!r} here that {who or Identity()} may use; "
                    f"there are: {', '.join(sorted(expected))}",
                    error.message,
                )

    def test_refusal_is_logged(self) -> None:
        """The log has who was refused what, and why, whether there is such a thing or not."""
        exports = NamedExports(
            [
                ExportSpec("a", "vol"),
                ExportSpec("b", "vol", allow=()),
                ExportSpec("c", "vol", allow=(rule("read", "x"),)),
            ],
            self.devices("vol"),
        )
        with capturedLogs() as events:
            for name in ("a", "b", "c", "d" * 1000):
                self.assertRaises(NotFound, exports.open_export, name, Identity(name="mallory", address="10.6.6.6"))
        said = [formatEvent(event) for event in events]
        for sentence, why in zip(
            said,
            ("for this machine only", "which is nobody", "no rule of its `allow` is about it", "there is none"),
            strict=True,
        ):
            self.assertIn("mallory at 10.6.6.6 was refused the export", sentence)
            self.assertIn(why, sentence)
            self.assertLess(len(sentence), 300)

    def test_refusals_in_the_log(self) -> None:
        """Somebody who is refused again and again does not fill the log, and is not forgotten either."""
        exports = NamedExports([ExportSpec("a", "vol")], self.devices(), clock_s=self.reactor.seconds)
        for _ in range(2):
            with capturedLogs() as events:
                for number in range(500):
                    self.assertRaises(NotFound, exports.open_export, f"{number}", Identity(address="10.6.6.6"))
            self.assertEqual(REFUSALS_MAX, len(events))
            self.assertIn("more of this minute are not told", str(formatEvent(events[-1])))
            self.reactor.advance(REFUSALS_S)

    def test_reader_cannot_claim(self) -> None:
        """Who may only read a device is not given its fence, with which it could keep the owner out."""
        devices = self.devices("a", promising=True)
        exports = NamedExports([ExportSpec("a", "a", allow=(rule("read"), rule("write", "owner")))], devices)
        self.successResultOf(Deferred.fromCoroutine(devices.fences.open()))
        opened = exports.open_export("a", Identity(name="reader", address="10.0.0.1"))
        self.assertEqual((True, None, None), (opened.read_only, opened.fence, opened.device))
        opened = exports.open_export("a", Identity(name="owner", address="10.0.0.1"))
        self.assertFalse(opened.read_only)
        self.assertIsNot(None, opened.fence)

    def test_histories_are_as_their_storage(self) -> None:
        """Who may not read the storage may not read its histories, nor learn that there are any."""
        devices = self.devices("history")
        storage = _Storage(self.reactor, "s")
        storage.many = {"a": devices.by_name["history"]}
        devices.by_name["s"] = devices.storages["s"] = storage  # type: ignore[assignment]
        exports = NamedExports([ExportSpec("vol", "s", allow=(rule("read", "alpha"),))], devices)
        alpha, beta = Identity(name="alpha", address="10.0.0.1"), Identity(name="beta", address="10.0.0.1")
        self.assertEqual(["s@a", "vol"], exports.list_exports(alpha))
        self.assertTrue(exports.open_export("s@a", alpha).read_only)
        self.assertEqual([], exports.list_exports(beta))
        refused = self.assertRaises(NotFound, exports.open_export, "s@a", beta)
        unknown = self.assertRaises(NotFound, exports.open_export, "s@z", beta)
        self.assertEqual(refused.message, unknown.message.replace("s@z", "s@a"))

    def test_claimed(self) -> None:
        """For who cannot claim it, a device that belongs to an owner is read-only, until that gives it back."""
        devices = self.devices("a", promising=True)
        exports = NamedExports([ExportSpec("a", "a")], devices, {"a"})
        self.successResultOf(Deferred.fromCoroutine(devices.fences.open()))
        node = exports.open_export("a", LOCAL).node
        self.assertFalse(node.geometry.read_only)
        member = devices.fences.claimable("a", devices.by_name["a"])
        member.open()
        assert IFenced.providedBy(member)
        told: list[bool] = []
        node.observe(lambda node: told.append(node.geometry.read_only))
        self.successResultOf(member.claim(Claim(1, 2, b"o" * 16), 3.0, "here"))
        self.reactor.advance(0)
        self.failureResultOf(node.write(0, b"x" * 512), Fenced)
        self.successResultOf(node.read(0, 512))
        self.successResultOf(member.write(0, b"y" * 512))
        self.successResultOf(member.release())
        self.reactor.advance(0)
        self.successResultOf(node.write(0, b"x" * 512))
        self.assertEqual([True, False], told)

    def test_part_of_another_device(self) -> None:
        """Where a part of another device cannot be fenced it is served read-only."""
        exports = NamedExports([ExportSpec("a", "a")], self.devices("a"), {"a"})
        self.assertTrue(exports.open_export("a", LOCAL).read_only)

    def test_memory_of_promises_damaged(self) -> None:
        """A device whose promises are damaged is not served, and says so; the others are; once mended it is."""
        devices = self.devices("a", "b", promising=True)
        self.files.files["a.fence"] = b"nonsense"
        exports = NamedExports([ExportSpec("a", "a"), ExportSpec("b", "b")], devices)
        self.successResultOf(Deferred.fromCoroutine(devices.fences.open()))
        error = self.assertRaises(Unavailable, exports.open_export, "a", LOCAL)
        self.assertIn("a.fence", error.message)
        self.assertFalse(exports.open_export("b", LOCAL).read_only)
        self.assertEqual(b"nonsense", self.files.files["a.fence"])
        del self.files.files["a.fence"]
        exports.open_export("a", LOCAL)
        self.flushLoggedErrors()

    def test_same_fence(self) -> None:
        """A storage's member, another storage's and the export of one device meet the same fence."""
        devices = self.devices("a", promising=True)
        exports = NamedExports([ExportSpec("a", "a")], devices)
        self.successResultOf(Deferred.fromCoroutine(devices.fences.open()))
        first, second = (devices.fences.claimable("a", devices.by_name["a"]) for _ in range(2))
        assert IFenced.providedBy(first) and IFenced.providedBy(second)
        opened = exports.open_export("a", LOCAL)
        self.assertEqual({first.fence}, {second.fence, opened.fence.identity})  # type: ignore[union-attr]
        self.assertIs(devices.by_name["a"], opened.device)

    def test_others_can_change_it(self) -> None:
        """A device that others can change is not fenced: a promise about it would be worth nothing."""
        devices = self.devices(promising=True)
        nobody = FaultyDevice(self.reactor, MemoryDevice(self.reactor, "r", 4096))
        self.assertIs(nobody, devices.fences.claimable("r", nobody))
        self.assertIs(None, devices.fences.of("r", nobody))

    def test_histories(self) -> None:
        """
        While a storage that is exported, or one below it, has several histories, each can be opened to be read.
        """
        devices = self.devices("inner", "outer", "other", "a@b", "history")
        history = devices.by_name["history"]
        inner, outer, other = (_Storage(self.reactor, name) for name in ("inner", "outer", "other"))
        for storage in (inner, outer, other):
            devices.by_name[storage.name] = devices.storages[storage.name] = storage  # type: ignore[assignment]
        outer.nodes = [inner]
        exports = NamedExports([ExportSpec("vol", "outer"), ExportSpec("inner@b", "a@b")], devices)
        self.assertEqual(["inner@b", "vol"], exports.list_exports(LOCAL))
        for storage in (inner, outer, other):
            storage.many = {"a": history, "b": history}
        self.assertEqual(["inner@a", "inner@b", "outer@a", "outer@b", "vol"], exports.list_exports(LOCAL))
        opened = exports.open_export("inner@a", LOCAL)
        self.assertEqual((history, True), (opened.node, opened.read_only))
        self.assertIs(devices.by_name["a@b"], exports.open_export("inner@b", LOCAL).node, "the topology's own name")
        self.assertRaises(NotFound, exports.open_export, "other@a", LOCAL)
        inner.many = {}
        error = self.assertRaises(NotFound, exports.open_export, "inner@a", LOCAL)
        self.assertIn("there are: inner@b, outer@a, outer@b, vol", error.message)


@implementer(IHistories)
class _Storage(MemoryDevice):
    """A storage as far as its histories."""

    def __init__(self, clock: Any, name: str) -> None:
        super().__init__(clock, name, 4096)
        self.nodes: list[INode] = []
        self.many: dict[str, INode] = {}

    def histories(self) -> dict[str, INode]:
        """What there is now."""
        return self.many
