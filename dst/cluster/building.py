"""
From a topology to its devices, not open yet: nothing is touched here.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer

from dst.cluster.fences import Fences
from dst.cluster.providers import Providers
from dst.cluster.rules import Finding, did_you_mean, storage_order
from dst.cluster.toml_lines import Place
from dst.cluster.topology import NodeSpec, SliceSpec, StorageSpec, Topology, absolute_uri
from dst.errors import ConfigurationError
from dst.interfaces import IAlgorithm, INode
from dst.nodes.slice import SliceNode
from dst.recovery.state_files import IStateFiles
from dst.security.security import Security

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Devices", "build", "check_building", "node_from_uri"]

_log = Logger()


@frozen
class Devices:
    """
    What a topology became.

    @ivar by_name: every node, slice and storage.
    @ivar storages: those of them that are storages, each after what is below it.
    @ivar fences: what they promise.
    """

    by_name: dict[str, INode] = field(factory=dict)
    storages: dict[str, IAlgorithm] = field(factory=dict)
    fences: Fences = field(kw_only=True)


def build(
    topology: Topology,
    reactor: IReactorTime,
    providers: Providers,
    storage_dir: Callable[[str], str | None],
    fence_files: Callable[[], IStateFiles] | None = None,
    there: Devices | None = None,
) -> Devices:
    """
    Every device of C{topology}.

    @param storage_dir: the directory that a storage of this name may keep things in.
    @param fence_files: where the daemon may keep what its devices have promised.
    @param there: devices that are there already: what is missing is added to them.
    @raise ConfigurationError: one cannot be made; the sentence names it.
    """
    builder = _Builder(topology, reactor, providers, storage_dir, fence_files, there)
    builder.build()
    if builder.findings:
        raise ConfigurationError(builder.findings[0].sentence)
    return builder.devices


def check_building(topology: Topology, providers: Providers) -> list[Finding]:
    """What the providers have to say against C{topology}; what cannot be asked is left out."""
    reactor = _InertReactor()
    directory = topology.security_dir()
    if directory is not None and os.path.isdir(directory):
        try:
            providers = evolve(providers, security=Security(directory, reactor))
        except ConfigurationError as error:
            return [Finding(("daemon", "security_dir"), error.message)]
    builder = _Builder(topology, reactor, providers, lambda name: None)
    builder.build()
    return builder.findings


def node_from_uri(
    reactor: IReactorTime, providers: Providers, name: str, uri: str, options: dict[str, object]
) -> INode:
    """
    A node that is not open yet.

    @param uri: with an absolute path.
    @raise ConfigurationError: there is no provider, or it cannot.
    """
    scheme = uri.partition(":")[0].lower()
    provider = providers.nodes.get(scheme)
    if provider is None or ":" not in uri:
        known = did_you_mean(scheme, providers.nodes)
        raise ConfigurationError(f"node {name!r}: no plugin makes nodes of {uri!r}{known}")
    try:
        node: INode = provider.node_from_uri(reactor, name, uri, dict(options), **providers.for_security(provider))
    except ConfigurationError:
        raise
    except Exception as error:
        _log.failure("the provider of {scheme}: failed", scheme=scheme)
        raise ConfigurationError(
            f"node {name!r}: the plugin for {scheme}: failed with {type(error).__name__}: {error}"
        ) from error
    return node


class _Builder:
    def __init__(
        self,
        topology: Topology,
        reactor: IReactorTime,
        providers: Providers,
        storage_dir: Callable[[str], str | None],
        fence_files: Callable[[], IStateFiles] | None = None,
        there: Devices | None = None,
    ) -> None:
        self._topology = topology
        self._reactor = reactor
        self._providers = providers
        self._storage_dir = storage_dir
        self.devices = there or Devices(fences=Fences(reactor, fence_files))
        self.findings: list[Finding] = []

    def build(self) -> None:
        for spec in self._topology.nodes:
            if spec.scheme in self._providers.nodes and spec.name not in self.devices.by_name:
                self._try(spec, self._node)
        try:
            order = storage_order(self._topology)
        except ValueError:
            return  # whoever checks the rules has said so
        for above in order:
            below = (above.parent,) if isinstance(above, SliceSpec) else (*above.nodes, *above.witnesses)
            if above.name in self.devices.by_name or not all(name in self.devices.by_name for name in below):
                continue
            if isinstance(above, SliceSpec):
                self._slice(above)
            elif above.algorithm in self._providers.algorithms:
                self._try(above, self._storage)

    def _try(
        self, spec: NodeSpec | StorageSpec, make: Callable[[NodeSpec], None] | Callable[[StorageSpec], None]
    ) -> None:
        try:
            make(spec)  # type: ignore[arg-type]
        except ConfigurationError as error:
            self.findings.append(Finding(_place(spec, error.message), error.message))

    def _node(self, spec: NodeSpec) -> None:
        uri = absolute_uri(spec.uri, self._topology.base_dir)
        self.devices.by_name[spec.name] = node_from_uri(self._reactor, self._providers, spec.name, uri, spec.options)

    def _slice(self, spec: SliceSpec) -> None:
        parent = self.devices.by_name[spec.parent]
        self.devices.by_name[spec.name] = SliceNode(self._reactor, spec.name, parent, spec.start, spec.size)

    def _storage(self, spec: StorageSpec) -> None:
        provider = self._providers.algorithms[spec.algorithm]
        claims = bool(getattr(provider, "claims_nodes", False))
        nodes = [self._below(name, claims) for name in spec.nodes]
        state_dir = self._storage_dir(spec.name)
        owned: dict[str, object] = {}
        if claims:
            owned["witnesses"] = [self._below(name, claims) for name in spec.witnesses]
            owned["owner_name"] = self._topology.daemon.name or platform.node() or "dst"
        elif spec.witnesses:
            raise ConfigurationError(f"storage {spec.name}: a {spec.algorithm} has no votes, so it has no witnesses")
        try:
            made: IAlgorithm = provider.storage(
                self._reactor,
                spec.name,
                nodes,
                dict(spec.options),
                state_dir,
                **owned,
            )
        except ConfigurationError:
            raise
        except Exception as error:
            _log.failure("the provider of the algorithm {algorithm} failed", algorithm=spec.algorithm)
            raise ConfigurationError(
                f"storage {spec.name!r}: the plugin for {spec.algorithm} failed with {type(error).__name__}: {error}"
            ) from error
        self.devices.by_name[spec.name] = self.devices.storages[spec.name] = made

    def _below(self, name: str, claims: bool) -> INode:
        node = self.devices.by_name[name]
        return self.devices.fences.claimable(name, node) if claims else node


def _place(spec: NodeSpec | StorageSpec, sentence: str) -> Place:
    """The key that the provider complains about, as well as that can be told from what it says."""
    table = "nodes" if isinstance(spec, NodeSpec) else "storages"
    named = [key for key in spec.options if re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", sentence)]
    if named:
        return (table, spec.name, min(named, key=sentence.index))
    return (table, spec.name, "uri") if isinstance(spec, NodeSpec) else (table, spec.name)


@implementer(IReactorPluggableNameResolver)
class _InertReactor(Clock):
    """Enough of a reactor to construct a device with; whoever would do something with it has misunderstood."""

    nameResolver = None

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Not used."""
        raise NotImplementedError
