"""
The operator's view of a cluster, in the process that runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from dst.cluster.building import Devices, node_from_uri
from dst.cluster.providers import Providers
from dst.cluster.rules import did_you_mean
from dst.cluster.topology import Topology, absolute_uri
from dst.errors import DSTError, InvalidRequest, NotFound
from dst.explaining import Explanation, ResyncRecord
from dst.explaining_trees import explain_node
from dst.interfaces import IAlgorithm, IClusterAdmin, INode
from dst.status import StatusTree

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["ClusterAdmin"]

_log = Logger()


@implementer(IClusterAdmin)
class ClusterAdmin:
    """
    Passes every operation to the storage it is about.
    """

    def __init__(self, reactor: IReactorTime, topology: Topology, devices: Devices, providers: Providers) -> None:
        self._reactor = reactor
        self._topology = topology
        self._devices = devices
        self._providers = providers

    def status(self) -> Deferred[list[StatusTree]]:
        """See L{IClusterAdmin.status}."""
        return succeed([device.status() for device in self._shown()])

    def _shown(self) -> list[INode]:
        """Every storage, and every node that is in none."""
        used = {node.name for storage in self._devices.storages.values() for node in storage.nodes}
        used |= {spec.parent for spec in self._topology.slices}
        used |= {name for spec in self._topology.storages for name in spec.witnesses}
        return [
            device
            for name, device in sorted(self._devices.by_name.items())
            if name not in used or name in self._devices.storages
        ]

    def initialise(self, storage: str, *, keep: str | None = None, discard: bool = False) -> Deferred[None]:
        """See L{IClusterAdmin.initialise}."""
        try:
            found = self._storage(storage)
            if keep is not None:
                self._check_member(found, keep)
        except DSTError as error:
            return fail(error)
        return found.initialise(keep, discard=discard)

    def suspend(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.suspend}."""
        try:
            return self._with_member(storage, node).suspend(node)
        except DSTError as error:
            return fail(error)

    def resume(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.resume}."""
        try:
            return self._with_member(storage, node).resume(node)
        except DSTError as error:
            return fail(error)

    def mark_clean(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.mark_clean}."""
        try:
            return self._with_member(storage, node).mark_clean(node)
        except DSTError as error:
            return fail(error)

    def mark_dirty(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.mark_dirty}."""
        try:
            return self._with_member(storage, node).mark_dirty(node)
        except DSTError as error:
            return fail(error)

    def replace(self, storage: str, node: str, uri: str) -> Deferred[None]:
        """
        See L{IClusterAdmin.replace}.

        The new node has the name of the place it takes, which is also what the topology has to say from
        then on: nothing rewrites a person's file.
        """
        try:
            found = self._with_member(storage, node)
            absolute = absolute_uri(uri, self._topology.base_dir)
            if node in {spec.parent for spec in self._topology.slices} or node in self._devices.storages:
                raise InvalidRequest(f"{node!r} is a storage or has slices; replace one of the nodes below it")
            new = node_from_uri(self._reactor, self._providers, node, absolute, {})
            claimable = self._devices.fences.claimable(node, new)
        except DSTError as error:
            return fail(error)

        def replaced(_: None) -> None:
            self._devices.by_name[node] = new
            _log.warn(
                "{node} of {storage} is {uri} now; change its uri in the topology before the next start",
                node=node,
                storage=storage,
                uri=absolute,
            )

        return found.replace(node, claimable).addCallback(replaced)

    def take_over(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.take_over}."""
        try:
            return self._storage(storage).take_over()
        except DSTError as error:
            return fail(error)

    def resolve(self, storage: str, keep: str) -> Deferred[None]:
        """See L{IClusterAdmin.resolve}."""
        try:
            return self._with_member(storage, keep).resolve(keep)
        except DSTError as error:
            return fail(error)

    def grow(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.grow}."""
        try:
            return self._storage(storage).grow()
        except DSTError as error:
            return fail(error)

    def pause_resync(self, storage: str, node: str | None = None) -> Deferred[None]:
        """See L{IClusterAdmin.pause_resync}."""
        try:
            return self._with_member_if_any(storage, node).pause_resync(node)
        except DSTError as error:
            return fail(error)

    def resume_resync(self, storage: str, node: str | None = None) -> Deferred[None]:
        """See L{IClusterAdmin.resume_resync}."""
        try:
            return self._with_member_if_any(storage, node).resume_resync(node)
        except DSTError as error:
            return fail(error)

    def resyncs(self, storage: str) -> Deferred[list[ResyncRecord]]:
        """See L{IClusterAdmin.resyncs}."""
        try:
            return succeed(list(self._storage(storage).resyncs()))
        except DSTError as error:
            return fail(error)

    def explain(self, name: str | None = None) -> Deferred[list[Explanation]]:
        """
        See L{IClusterAdmin.explain}.

        A member is explained as its storage sees it. What is behind remote nodes is found by its name there.
        """
        explained = [explain_node(device) for device in self._shown()]
        if name is None:
            return succeed(explained)
        found = [each for each in explained if each.name == name]
        found = found or [each for top in explained for each in top.walk() if each.name == name]
        if not found:
            known = sorted({each.name for top in explained for each in top.walk()})
            return fail(NotFound(f"there is no storage or node {name!r} here{did_you_mean(name, known)}"))
        return succeed(found[:1])

    def _storage(self, name: str) -> IAlgorithm:
        storages = self._devices.storages
        if name not in storages:
            raise NotFound(f"there is no storage {name!r} here{did_you_mean(name, storages)}")
        return storages[name]

    def _with_member(self, storage: str, node: str) -> IAlgorithm:
        found = self._storage(storage)
        self._check_member(found, node)
        return found

    def _with_member_if_any(self, storage: str, node: str | None) -> IAlgorithm:
        return self._storage(storage) if node is None else self._with_member(storage, node)

    @staticmethod
    def _check_member(storage: IAlgorithm, name: str) -> INode:
        nodes: dict[str, INode] = {node.name: node for node in storage.nodes}
        if name not in nodes:
            raise NotFound(f"storage {storage.name!r} has no node {name!r}{did_you_mean(name, nodes)}")
        return nodes[name]
