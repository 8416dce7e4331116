"""
One step of a change, done on the running cluster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dst.cluster.building import node_from_uri
from dst.cluster.moves import Move
from dst.cluster.operations import Operation
from dst.cluster.reshaping import Reshaping
from dst.cluster.topology import NodeSpec, Topology, absolute_uri
from dst.errors import BadMedia, DeadlinePassed, DSTError, InternalError, InvalidRequest, NotSupported, Unavailable
from dst.interfaces import IAlgorithm, INode, IWitnessed
from dst.status import MemberState, StatusTree

if TYPE_CHECKING:
    from dst.cluster.assembly import Cluster

__all__ = ["ABSENT_S_MAX", "BEGUN_S_MAX", "STEP_S_MAX", "Stepping"]

_log = Logger()

STEP_S_MAX = 60.0
"""A step that only opens, closes or writes a record is done by then, or something is wrong with the nodes."""

BEGUN_S_MAX = 10.0
"""How long a new member may take until it is seen what becomes of it."""

ABSENT_S_MAX = 60.0
"""How long a new member may be away while a step waits for its copy: then the one that it replaces stays."""

_LOOK_S = 0.25


class Stepping:
    """
    Does what a L{Move} says.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._reshaping = Reshaping(cluster)

    async def take(self, move: Move, topology: Topology, operation: Operation) -> None:
        """
        @param topology: what runs after the step.
        @raise DSTError: it was not done.
        """
        step, cluster = move.step, self._cluster
        if step.kind == "listener":
            assert move.listener is not None
            if step.action == "add":
                await cluster.open_listener(move.name, move.listener)
            else:
                await cluster.close_listener(move.name, move.listener)
        elif step.kind == "export":
            cluster.exports.serve(topology.exports, topology.used())
            self._end_sessions({move.name})
        elif step.kind == "member":
            await self._member(move, topology, operation)
        elif step.kind == "witness":
            await self._witness(move, topology)
        elif step.kind in ("node", "storage"):
            await self._reshape(topology, nodes_only=step.kind == "node")
        else:
            raise InternalError(f"{step.action} of a {step.kind} cannot be done while the daemon runs")

    def _end_sessions(self, exports: Collection[str]) -> None:
        for exporter in self._cluster.exporters.values():
            for session in exporter.sessions():
                if session.export in exports:
                    exporter.end_session(session.id)

    async def _reshape(self, topology: Topology, settled: Collection[str] = (), *, nodes_only: bool = False) -> None:
        concerned = self._reshaping.concerned(topology, settled)
        if nodes_only and not concerned.isdisjoint(self._cluster.devices.storages):
            raise InternalError("a storage would be closed because of a node below it; nothing was done")
        self._end_sessions({spec.name for spec in self._cluster.topology.exports if spec.device in concerned})
        try:
            await self._in_time(Deferred.fromCoroutine(self._reshaping.to(topology, settled)), "opening and closing")
        except (CancelledError, DeadlinePassed):
            raise  # the daemon stops, or it goes on
        except Exception:
            try:
                await self._in_time(Deferred.fromCoroutine(self._reshaping.back(topology, settled)), "opening again")
            except DSTError as error:
                _log.error("what was closed for a change could not be opened again: {error}", error=error.message)
            raise

    # -- members

    async def _member(self, move: Move, topology: Topology, operation: Operation) -> None:
        storage = self._cluster.devices.storages[move.storage]
        if move.step.action == "add":
            await self._add(storage, move, topology, operation)
        elif move.step.action == "remove":
            await self._in_time(storage.remove_node(move.name), f"{move.name} leaving {storage.name}")
            await self._has_left(storage, move.name, topology)
        else:
            await self._replace(storage, move.name, topology)

    async def _has_left(self, storage: IAlgorithm, name: str, topology: Topology) -> None:
        """Its node was closed; it may stand alone from now on."""
        self._reshaping.forget_closed(name)
        if name not in {spec.name for spec in topology.devices()}:
            self._cluster.devices.by_name.pop(name, None)
        await self._reshape(topology, {storage.name}, nodes_only=True)

    async def _witness(self, move: Move, topology: Topology) -> None:
        storage, name = self._cluster.devices.storages[move.storage], move.name
        if not IWitnessed.providedBy(storage):
            raise NotSupported(f"{storage.name} has no witnesses")
        if move.step.action == "add":
            what = f"{name} joining {storage.name}"
            await self._joining(name, topology, lambda node: self._in_time(storage.add_witness(node), what))
        else:
            await self._in_time(storage.remove_witness(name), f"{name} leaving {storage.name}")
            await self._has_left(storage, name, topology)

    async def _add(self, storage: IAlgorithm, move: Move, topology: Topology, operation: Operation) -> None:
        name = move.name

        async def join(node: INode) -> None:
            await self._in_time(storage.add_node(node), f"{name} joining {storage.name}")
            try:
                await self._seen_to_join(storage, name, operation, wait=move.wait)
            except CancelledError:
                raise
            except DSTError:
                await self._in_time(storage.remove_node(name), f"{name} leaving {storage.name} again")
                raise

        await self._joining(name, topology, join)

    async def _joining(self, name: str, topology: Topology, join: Callable[[INode], Awaitable[None]]) -> None:
        """C{name} stands below a storage from now on, whether it stood alone before or was nowhere."""
        cluster = self._cluster
        stood_alone = any(device.name == name for devices in cluster.opened.values() for device in devices)
        if stood_alone:
            self._end_sessions({spec.name for spec in cluster.topology.exports if spec.device == name})
            await self._reshaping.close(name)
        try:
            self._reshaping.build(topology)
            await join(cluster.devices.fences.claimable(name, cluster.devices.by_name[name]))
        except CancelledError:
            raise  # the daemon stops: the file says that it is a member, and so it is
        except Exception:
            await self._put_back(name, stood_alone)
            raise

    async def _put_back(self, name: str, stood_alone: bool) -> None:
        """As it was before it should have been a member."""
        try:
            self._reshaping.forget_closed(name)
            if stood_alone:
                self._reshaping.build(self._cluster.topology)
                await self._reshaping.open_alone(name)
            elif name not in {spec.name for spec in self._cluster.topology.devices()}:
                device = self._cluster.devices.by_name.pop(name, None)
                self._cluster.devices.storages.pop(name, None)
                if device is not None:
                    await maybeDeferred(device.close)
        except DSTError as error:
            _log.error("{name} could not be opened again: {error}", name=name, error=error.message)

    async def _seen_to_join(self, storage: IAlgorithm, name: str, operation: Operation, *, wait: bool) -> None:
        """
        The new member is being copied to, or, to C{wait} for, has everything.

        @raise BadMedia: it is refused.
        @raise Unavailable: it is waited for, and cannot be reached.
        """
        clock = self._cluster.reactor
        missed_since = clock.seconds()
        while True:
            member = _child(storage, name)
            state = member.state if member is not None else MemberState.ABSENT.value
            if member is not None and state == MemberState.REFUSED.value:
                raise BadMedia(f"{name} cannot become a member of {storage.name}: {member.reason}")
            if state == MemberState.IN_SYNC.value:
                return
            if member is not None and state == MemberState.RESYNCING.value:
                if not wait:
                    return
                missed_since = clock.seconds()
                progress = member.resync
                if progress is not None:
                    said = f"{name} is copied to, before anybody leaves {storage.name}"
                    operation.say(said, progress.bytes_total, progress.bytes_left)
            elif clock.seconds() - missed_since >= (ABSENT_S_MAX if wait else BEGUN_S_MAX):
                if not wait:
                    return  # it is a member, and copied to whenever it can be
                why = member.reason if member is not None else "it is not there"
                raise Unavailable(f"{name} does not become a copy of {storage.name}: {why}; nobody has left")
            await deferLater(clock, _LOOK_S)

    async def _replace(self, storage: IAlgorithm, name: str, topology: Topology) -> None:
        cluster = self._cluster
        spec = next(spec for spec in topology.devices() if spec.name == name)
        if not isinstance(spec, NodeSpec):
            raise InvalidRequest(f"{name!r} is a storage or has slices; replace one of the nodes below it")
        uri = absolute_uri(spec.uri, topology.base_dir)
        node = node_from_uri(cluster.reactor, cluster.providers, name, uri, spec.options)
        claimable = cluster.devices.fences.claimable(name, node)
        self._end_sessions({each.name for each in cluster.topology.exports if each.device == name})
        await self._in_time(storage.replace(name, claimable), f"{name} being replaced")
        cluster.devices.by_name[name] = node

    def _in_time(self, work: Deferred[None], what: str) -> Deferred[None]:
        """C{work}, which goes on when nobody waits for it any more."""
        return waited_for(self._cluster.reactor, work, STEP_S_MAX, what)


def waited_for(clock: object, work: Deferred[None], seconds: float, what: str) -> Deferred[None]:
    """Fires as C{work} does, or fails with L{DeadlinePassed}."""
    outer: Deferred[None] = Deferred(lambda _: timer.cancel())

    def late() -> None:
        outer.errback(DeadlinePassed(f"{what} was not done in {seconds:g} s; it may still happen"))

    timer = clock.callLater(seconds, late)  # type: ignore[attr-defined]

    def done(result: None | Failure) -> None:
        if timer.active():
            timer.cancel()
        if not outer.called:
            outer.callback(result)
        elif isinstance(result, Failure):
            _log.info("{what} failed after nobody waited for it: {error}", what=what, error=result.value)

    work.addBoth(done)
    return outer


def _child(storage: IAlgorithm, name: str) -> StatusTree | None:
    return next((child for child in storage.status().children if child.name == name), None)
