"""
The operator's view of a cluster, in the process that runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dst.administration import (
    Configuration,
    DaemonMeasures,
    Event,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationStatus,
    Plan,
    SessionStatus,
)
from dst.cluster.building import Devices, node_from_uri
from dst.cluster.listing import list_exports, list_listeners, list_sessions
from dst.cluster.noticing import shown_devices
from dst.cluster.rules import did_you_mean
from dst.cluster.topology import Topology, absolute_uri
from dst.errors import DSTError, InvalidRequest, NotFound, NotSupported
from dst.explaining import Explanation, ResyncRecord, ScrubRecord
from dst.explaining_trees import explain_node
from dst.interfaces import IAlgorithm, IClusterAdmin, IMeasuresItself, INode, IScrubs
from dst.status import StatusTree

if TYPE_CHECKING:
    from dst.cluster.assembly import Cluster

__all__ = ["ClusterAdmin"]


@implementer(IClusterAdmin, IMeasuresItself)
class ClusterAdmin:
    """
    Passes every operation to the storage it is about.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._operations = cluster.operations

    @property
    def _topology(self) -> Topology:
        return self._cluster.topology

    @property
    def _devices(self) -> Devices:
        return self._cluster.devices

    def status(self) -> Deferred[list[StatusTree]]:
        """See L{IClusterAdmin.status}."""
        return succeed([device.status() for device in self._shown()])

    def _shown(self) -> list[INode]:
        """Every storage, and every node that is in none."""
        return shown_devices(self._cluster)

    def initialise(self, storage: str, *, keep: str | None = None, discard: bool = False) -> Deferred[None]:
        """See L{IClusterAdmin.initialise}."""

        def act() -> Deferred[None]:
            found = self._storage(storage) if keep is None else self._with_member(storage, keep)
            return found.initialise(keep, discard=discard)

        return self._operate("initialise", storage, act)

    def suspend(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.suspend}."""
        return self._operate("suspend", f"{storage}/{node}", lambda: self._with_member(storage, node).suspend(node))

    def resume(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.resume}."""
        return self._operate("resume", f"{storage}/{node}", lambda: self._with_member(storage, node).resume(node))

    def mark_clean(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.mark_clean}."""
        subject = f"{storage}/{node}"
        return self._operate("mark-clean", subject, lambda: self._with_member(storage, node).mark_clean(node))

    def mark_dirty(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.mark_dirty}."""
        subject = f"{storage}/{node}"
        return self._operate("mark-dirty", subject, lambda: self._with_member(storage, node).mark_dirty(node))

    def replace(self, storage: str, node: str, uri: str) -> Deferred[None]:
        """
        See L{IClusterAdmin.replace}.

        The new node has the name of the place it takes, and the configuration says so from then on.
        """
        cluster = self._cluster
        try:
            self._with_member(storage, node)
            if node in {spec.parent for spec in self._topology.slices} or node in self._devices.storages:
                raise InvalidRequest(f"{node!r} is a storage or has slices; replace one of the nodes below it")
            if node in {spec.name for spec in self._topology.slices}:
                raise InvalidRequest(f"{node!r} is a slice; add the new node to {storage!r}, and remove this one")
            absolute = absolute_uri(uri, self._topology.base_dir)
            node_from_uri(cluster.reactor, cluster.providers, node, absolute, {})  # what is wrong is said before
            return cluster.changing.replace(storage, node, uri)
        except DSTError as error:
            return fail(error)

    def take_over(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.take_over}."""
        return self._operate("take-over", storage, lambda: self._storage(storage).take_over())

    def resolve(self, storage: str, keep: str) -> Deferred[None]:
        """See L{IClusterAdmin.resolve}."""
        return self._operate("resolve", storage, lambda: self._with_member(storage, keep).resolve(keep))

    def grow(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.grow}."""
        return self._operate("grow", storage, lambda: self._storage(storage).grow())

    def pause_resync(self, storage: str, node: str | None = None) -> Deferred[None]:
        """See L{IClusterAdmin.pause_resync}."""
        subject = storage if node is None else f"{storage}/{node}"
        return self._operate(
            "pause-resync", subject, lambda: self._with_member_if_any(storage, node).pause_resync(node)
        )

    def resume_resync(self, storage: str, node: str | None = None) -> Deferred[None]:
        """See L{IClusterAdmin.resume_resync}."""
        subject = storage if node is None else f"{storage}/{node}"
        return self._operate(
            "resume-resync", subject, lambda: self._with_member_if_any(storage, node).resume_resync(node)
        )

    def scrub(self, storage: str, *, repair: bool = True) -> Deferred[None]:
        """See L{IClusterAdmin.scrub}."""
        return self._operate("scrub", storage, lambda: self._scrubbed(storage).scrub(repair=repair))

    def stop_scrub(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.stop_scrub}."""
        return self._operate("stop-scrub", storage, lambda: self._scrubbed(storage).stop_scrub())

    def scrubs(self, storage: str) -> Deferred[list[ScrubRecord]]:
        """See L{IClusterAdmin.scrubs}."""
        try:
            found = self._storage(storage)
        except DSTError as error:
            return fail(error)
        return succeed(list(found.scrubs()) if IScrubs.providedBy(found) else [])

    def _scrubbed(self, storage: str) -> IScrubs:
        found = self._storage(storage)
        if not IScrubs.providedBy(found):
            raise NotSupported(f"{storage!r} has no copies to compare; scrub the mirrors below it")
        return IScrubs(found)

    def _operate(self, kind: str, subject: str, act: Callable[[], Deferred[None]]) -> Deferred[None]:
        try:
            return self._operations.run(kind, subject, act)
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

    # -- what is wanted

    def configuration(self) -> Deferred[Configuration]:
        """See L{IClusterAdmin.configuration}."""
        return succeed(self._cluster.changing.configuration())

    def plan(self, document: dict[str, object]) -> Deferred[Plan]:
        """See L{IClusterAdmin.plan}."""
        try:
            return succeed(self._cluster.changing.plan(document))
        except DSTError as error:
            return fail(error)

    def change(self, document: dict[str, object], etag: str | None = None) -> Deferred[OperationStatus]:
        """See L{IClusterAdmin.change}."""
        try:
            return succeed(self._cluster.changing.change(document, etag))
        except DSTError as error:
            return fail(error)

    # -- what there is

    def exports(self) -> Deferred[list[ExportStatus]]:
        """See L{IClusterAdmin.exports}."""
        return succeed(list_exports(self._cluster))

    def listeners(self) -> Deferred[list[ListenerStatus]]:
        """See L{IClusterAdmin.listeners}."""
        return succeed(list_listeners(self._cluster))

    def sessions(self) -> Deferred[list[SessionStatus]]:
        """See L{IClusterAdmin.sessions}."""
        return succeed(list_sessions(self._cluster))

    def end_session(self, id: str) -> Deferred[None]:
        """See L{IClusterAdmin.end_session}."""
        known = {session.id: session for session in list_sessions(self._cluster)}
        for exporter in self._cluster.exporters.values():
            if exporter.end_session(id):
                self._cluster.noticing.session_ended(known.get(id))
                return succeed(None)
        return fail(NotFound(f"there is no session {id[:40]!r} now; it may have ended by itself"))

    def operations(self) -> Deferred[list[OperationStatus]]:
        """See L{IClusterAdmin.operations}."""
        return succeed(self._operations.all())

    def operation(self, id: str) -> Deferred[OperationStatus]:
        """See L{IClusterAdmin.operation}."""
        try:
            return succeed(self._operations.get(id))
        except DSTError as error:
            return fail(error)

    def events(self, after: int = 0) -> Deferred[list[Event]]:
        """See L{IClusterAdmin.events}."""
        return succeed(self._cluster.noticing.journal.after(after))

    def health(self) -> Deferred[list[HealthFinding]]:
        """See L{IClusterAdmin.health}."""
        return succeed(self._cluster.noticing.findings())

    def measures(self) -> DaemonMeasures:
        """See L{IMeasuresItself.measures}."""
        return self._cluster.noticing.measures()

    # -- how

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
