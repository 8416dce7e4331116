"""
A topology, running.

Everything has its order.  Start: the state directory is locked, nodes that stand alone open, storages open
(each opens its own members), exports listen, the operator's door opens.  Stop: the other way round, exports
drain first.  What cannot be mended by waiting (a busy port, media that another process holds, a
directory without permission) ends the start, and what was opened is closed again.  A
node that is merely away does not: it is what storages are for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.administration import OperationState, OperationStatus, Severity
from dst.cluster.admin import ClusterAdmin
from dst.cluster.building import build
from dst.cluster.changing import Changing
from dst.cluster.counting import Counted
from dst.cluster.document import Document
from dst.cluster.doors import door
from dst.cluster.endpoints import absolute_endpoint, with_backlog
from dst.cluster.keeping import IKeptConfiguration, KeptNowhere
from dst.cluster.listening import ListenerSpec, host_reaches_out, tls_policy, wrong_with_exposure
from dst.cluster.listing import spoken_address
from dst.cluster.named_exports import NamedExports
from dst.cluster.noticing import NOTICING_S_MAX, Noticing
from dst.cluster.opening import OPEN_S_MAX, open_in_turn
from dst.cluster.operations import Operations
from dst.cluster.ordered_service import OrderedService, Step
from dst.cluster.providers import Providers
from dst.cluster.rules import findings
from dst.cluster.state_dir import StateDir
from dst.cluster.topology import Topology, as_topology
from dst.errors import AlreadyInUse, ConfigurationError, NotFound
from dst.interfaces import IClusterAdmin, IExporter, INode
from dst.recovery.state_files import state_files
from dst.security.security import Security
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = [
    "CLOSE_S_MAX",
    "DRAIN_S_MAX",
    "OPEN_S_MAX",
    "Cluster",
    "Listening",
    "running",
]

_log = Logger()

DRAIN_S_MAX = 15.0
"""
How long clients' requests in flight may take at the end: those of a frozen storage would wait for ever.  The
servers give up a little earlier by themselves.
"""

CLOSE_S_MAX = 60.0
"""How long flushing and closing may take; a disk that hangs must not keep the process for ever."""


AdminSite: TypeAlias = tuple[IProtocolFactory, Callable[[], Deferred[None]]]
"""What is served to operators, and what lets them all go in the end."""


@frozen
class Listening:
    """
    Where something is served.

    @ivar what: the protocol, or C{"admin"}.
    @ivar description: the endpoint string.
    @ivar counted: knows how many connections there are.
    """

    what: str
    description: str
    port: IListeningPort
    counted: Counted

    @property
    def address(self) -> IAddress:
        """The real one, also where the system chose the port."""
        return self.port.getHost()


class Cluster:
    """
    Everything that one topology describes.

    C{cluster["vol"]} is a device by its name.  It is also an asynchronous context manager, see L{running}.

    @ivar topology: what runs now.
    @ivar providers: who makes it.
    @ivar devices: what was built of the topology.
    @ivar exports: what is served.
    @ivar admin: the operator's view.
    @ivar noticing: what has happened, and what is not as it should be.
    @ivar operations: what was asked for, and how far it is.
    @ivar changing: what is wanted, and how it becomes what runs.
    @ivar listening: where something is served now.
    @ivar exporters: who serves, by protocol.
    @ivar opened: the devices that this opened itself and will close: nodes that stand alone, and storages that do.
    @ivar service: starts and stops it all in order.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        topology: Topology,
        providers: Providers,
        *,
        admin_site: Callable[[IClusterAdmin], AdminSite] | None = None,
        failed: Callable[[Failure], None] | None = None,
        make_state_dir: Callable[[str], StateDir] = StateDir,
        kept: IKeptConfiguration | None = None,
        document: Document | None = None,
    ) -> None:
        """
        @param admin_site: makes what is served at the topology's C{admin} endpoint.
        @param failed: told why a start that C{service.startService} began has failed.
        @param make_state_dir: the directory at a path, for one process at a time.
        @param kept: where the configuration is kept; C{None}: nowhere.
        @param document: what is kept there; C{None}: what C{topology} says.
        @raise ConfigurationError: a device cannot be made as the topology says.
        """
        self.reactor = reactor
        self.topology = topology
        security_dir = topology.security_dir()
        self.security = None if security_dir is None else Security(security_dir, reactor)
        self.providers = providers = evolve(providers, security=self.security)
        self._admin_site = admin_site
        self._state_dir: StateDir | None = None
        if topology.daemon.state_dir is not None:
            self._state_dir = make_state_dir(_path(topology.daemon.state_dir, topology.base_dir))
        fence_files = None if self._state_dir is None else partial(state_files, reactor, self._state_dir.fences_dir)
        self.devices = build(topology, reactor, providers, self.storage_dir, fence_files)
        self.exports = NamedExports(topology.exports, self.devices, topology.used(), clock_s=reactor.seconds)
        self.noticing = Noticing(reactor, self)
        surroundings = surroundings_of(reactor)
        self.operations = Operations(surroundings.entropy, surroundings.wall_clock_s, self._operation_ended)
        self.changing = Changing(self, self.operations, kept or KeptNowhere(), document, self._changed)
        self.admin: IClusterAdmin = ClusterAdmin(self)
        self.listening: list[Listening] = []
        self._close_site: Callable[[], Deferred[None]] | None = None
        self.exporters: dict[str, IExporter] = {}
        self.opened: dict[str, list[INode]] = {"nodes": [], "storages": []}
        used = topology.used()
        standing_alone = [device for name, device in self.devices.by_name.items() if name not in used]
        storages = [device for device in standing_alone if device.name in self.devices.storages]
        nodes = [device for device in standing_alone if device.name not in self.devices.storages]
        self.service = OrderedService(
            reactor,
            [
                Step("state directory", self._lock, self._unlock, CLOSE_S_MAX),
                Step("certificates", self._watch_certificates, self._leave_certificates, CLOSE_S_MAX),
                Step("nodes", partial(self.open_devices, "nodes", nodes), partial(self._close, "nodes"), CLOSE_S_MAX),
                Step(
                    "storages",
                    partial(self.open_devices, "storages", storages),
                    partial(self._close, "storages"),
                    CLOSE_S_MAX,
                ),
                Step("noticing", self.noticing.start, self.noticing.stop, NOTICING_S_MAX),
                Step("exports", self._listen, self._drain, DRAIN_S_MAX),
                Step("admin", self._listen_for_admin, self._stop_admin, DRAIN_S_MAX),
                Step("changes", lambda: succeed(None), self.changing.stop, DRAIN_S_MAX),
            ],
            failed,
        )

    def __getitem__(self, name: str) -> INode:
        try:
            return self.devices.by_name[name]
        except KeyError:
            raise NotFound(f"there is no device {name!r}; there are: {', '.join(self.devices.by_name)}") from None

    def start(self) -> Deferred[Cluster]:
        """Start everything; fires with this cluster."""
        return self.service.start().addCallback(lambda _: self)

    def stop(self) -> Deferred[None]:
        """Stop everything; when it fires nothing is left."""
        return self.service.stopService()

    async def __aenter__(self) -> Cluster:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- the steps

    @property
    def state_path(self) -> str | None:
        """The absolute path of the state directory."""
        return None if self._state_dir is None else self._state_dir.path

    def storage_dir(self, name: str) -> str | None:
        """Where the storage of this name may keep things."""
        return None if self._state_dir is None else self._state_dir.storage_dir(name)

    async def _lock(self) -> None:
        if self._state_dir is not None:
            self._state_dir.lock()
            for name in self.devices.storages:
                self._state_dir.create_storage_dir(name)
            await self.devices.fences.open()

    def _unlock(self) -> Deferred[None]:
        if self._state_dir is not None:
            self._state_dir.unlock()
        return succeed(None)

    def _watch_certificates(self) -> Deferred[None]:
        if self.security is not None:
            self.security.start()
            days = self.security.certificate_days_left()
            _log.info("this is {name}, by a certificate for {days:.0f} days", name=self.security.name, days=days)
        return succeed(None)

    def _leave_certificates(self) -> Deferred[None]:
        if self.security is not None:
            self.security.stop()
        return succeed(None)

    def _operation_ended(self, status: OperationStatus) -> None:
        failed = status.state is OperationState.FAILED
        how = f"failed: {status.sentence}" if failed else "is done"
        by = f", asked for by {status.asked_by}," if status.asked_by else ""
        self.noticing.journal.record(
            "operation",
            status.subject,
            f"{status.kind} of {status.subject}{by} {how}" if status.subject else f"{status.kind}{by} {how}",
            severity=Severity.WARNING if failed else Severity.INFO,
        )

    def _changed(self, sentence: str) -> None:
        self.noticing.journal.record("configuration", "", sentence)

    def become(self, topology: Topology) -> None:
        """It is this that runs now; whoever says so has opened and closed what had to be."""
        self.topology = topology
        self.exports.serve(topology.exports, topology.used())

    def create_storage_dir(self, name: str) -> None:
        """Make sure that L{storage_dir} is there. @raise ConfigurationError: it cannot be."""
        if self._state_dir is not None:
            self._state_dir.create_storage_dir(name)

    async def open_devices(self, kind: str, devices: Sequence[INode]) -> None:
        """Open what stands alone; it is closed in the end."""
        await open_in_turn(self.reactor, devices, self.opened[kind].append)
        for device in devices:
            _log.info(
                "{device} is {link}{reason}",
                device=device.name,
                link=device.link.value,
                reason=f": {device.reason}" if device.reason else "",
            )

    async def _close(self, kind: str) -> None:
        closing = []
        while self.opened[kind]:
            device = self.opened[kind].pop()
            closing.append(maybeDeferred(device.close).addErrback(_log_failure, f"{device.name} could not be closed"))
        await gatherResults(closing)

    async def _listen(self) -> None:
        for protocol, listeners in self.topology.listeners.items():
            for listener in listeners:
                await self.open_listener(protocol, listener)

    async def open_listener(self, protocol: str, listener: ListenerSpec) -> None:
        """
        Serve at one place more.

        @raise AlreadyInUse: somebody else listens there.
        """
        exporter = self.exporters.get(protocol)
        if exporter is None:
            exporter = self.exporters[protocol] = self._exporter(protocol)
        await self._listen_at(protocol, listener, exporter)

    async def close_listener(self, protocol: str, listener: ListenerSpec) -> None:
        """Take no more clients there; those that are connected stay."""
        description = absolute_endpoint(listener.endpoint, self.topology.base_dir)
        for listening in [
            each for each in self.listening if (each.what, each.description) == (protocol, description)
        ]:
            self.listening.remove(listening)
            await maybeDeferred(listening.port.stopListening)

    async def drain_unused(self) -> None:
        """Let the clients of every protocol go that listens nowhere any more."""
        used = {listening.what for listening in self.listening}
        for protocol in [each for each in self.exporters if each not in used]:
            await self.exporters.pop(protocol).drain()

    def _exporter(self, protocol: str) -> IExporter:
        try:
            exporter: IExporter = self.providers.exports[protocol].exporter(self.reactor, self.exports)
        except ConfigurationError:
            raise
        except Exception as error:
            _log.failure("the provider of the protocol {protocol} failed", protocol=protocol)
            raise ConfigurationError(
                f"listeners: the plugin for {protocol} failed with {type(error).__name__}: {error}"
            ) from error
        return exporter

    async def _listen_for_admin(self) -> None:
        description = self.topology.daemon.admin
        if self._admin_site is not None and description is not None:
            site, self._close_site = self._admin_site(self.admin)
            listener = ListenerSpec(description, self.topology.daemon.admin_tls)
            await self._listen_at("admin", listener, site, certificate_demanded=False)

    async def _stop_admin(self) -> None:
        await self._stop_listening("admin")
        close, self._close_site = self._close_site, None
        if close is not None:
            await close()

    async def _listen_at(
        self, what: str, listener: ListenerSpec, factory: IProtocolFactory, *, certificate_demanded: bool = True
    ) -> None:
        description = absolute_endpoint(listener.endpoint, self.topology.base_dir)
        policy = tls_policy(listener, self.security is not None)
        counted = Counted(
            door(factory, listener, policy, self.security, self.reactor, certificate_demanded=certificate_demanded)
        )
        try:
            port = await serverFromString(self.reactor, with_backlog(description)).listen(counted)
        except CannotListenError as error:
            cause = error.socketError
            reason = getattr(cause, "strerror", None) or str(cause)
            raise AlreadyInUse(
                f"cannot listen for {what} at {description}: {reason}; "
                "stop what is there, or give this daemon another address"
            ) from None
        except OSError as error:  # a socket in a directory that is not there, or where this user may not write
            raise ConfigurationError(
                f"cannot listen for {what} at {description}: {error.strerror}; "
                "make its directory, for the user of this daemon, or give it another address"
            ) from None
        # Where it really is may be known only now: a socket that was handed down, a name for an interface.
        wrong = wrong_with_exposure(
            evolve(listener, tls=policy),
            secured=self.security is not None,
            open_to_the_network=self.topology.daemon.open_to_the_network,
            outward=host_reaches_out(getattr(port.getHost(), "host", None) or "localhost"),
        )
        if wrong:
            await maybeDeferred(port.stopListening)
            raise ConfigurationError(wrong)
        self.listening.append(Listening(what, description, port, counted))
        _log.info("{what} listens at {address}", what=what, address=spoken_address(port.getHost()))

    async def _drain(self) -> None:
        await self._stop_listening(*self.topology.listeners)
        draining = []
        while self.exporters:
            _, exporter = self.exporters.popitem()
            draining.append(maybeDeferred(exporter.drain).addErrback(_log_failure, "an exporter could not drain"))
        await gatherResults(draining)

    async def _stop_listening(self, *whats: str) -> None:
        for listening in [each for each in self.listening if each.what in whats]:
            self.listening.remove(listening)
            await maybeDeferred(listening.port.stopListening)


def running(
    topology: object, reactor: IReactorTime, providers: Providers | None = None, *, base_dir: str | None = None
) -> Cluster:
    """
    C{topology} as a cluster in this process, for scripts and tests::

        async with running(mirror("vol", memory("1M"), memory("1M")), reactor) as cluster:
            await cluster["vol"].write(0, b"hello")

    Without C{async}, L{Cluster.start} and L{Cluster.stop} return Deferreds.

    @param topology: a L{Topology}, a device or an export.
    @param providers: C{None} for those that are installed.
    @raise ConfigurationError: it cannot be used; the sentence names everything that is wrong.
    """
    checked = as_topology(topology)
    if base_dir is not None:
        checked = evolve(checked, base_dir=base_dir)
    providers = Providers.found() if providers is None else providers
    wrong = findings(checked, providers)
    if wrong:
        raise ConfigurationError("\n".join(each.sentence for each in wrong))
    return Cluster(reactor, checked, providers)


def _log_failure(failure: Failure, sentence: str) -> None:
    _log.failure("{sentence}", failure, sentence=sentence)


def _path(path: str, base_dir: str) -> str:
    return os.path.join(os.path.abspath(base_dir), os.path.expanduser(path))
