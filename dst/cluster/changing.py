"""
Carrying out what is wanted while the daemon runs.

Two documents are told apart.  I{Wanted} is what is kept, and what a restart would run.  I{Running} is what runs; it
is behind in what only a restart can change.  A change leads from one wanted document to the next in the steps of
L{dst.cluster.planning}; after each of them what is kept is a configuration that can be started, and what runs is the
same but for what waits for a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger

from dst.administration import Configuration, OperationStatus, Plan, PlanStep
from dst.cluster.config import checked_document, load_file
from dst.cluster.difference import Seen
from dst.cluster.document import Document, dotted, etag_of, read_document, to_document, unwritable
from dst.cluster.keeping import ConfigurationFile, IKeptConfiguration
from dst.cluster.moves import Edit, Move, edited
from dst.cluster.operations import Operation, Operations
from dst.cluster.own_files import OwnFiles
from dst.cluster.planning import planned
from dst.cluster.rules import FINDINGS_MAX, Finding, findings
from dst.cluster.stepping import Stepping
from dst.cluster.topology import Topology
from dst.errors import Conflict, DSTError, InvalidRequest
from dst.status import LinkState

if TYPE_CHECKING:
    from dst.cluster.assembly import Cluster

__all__ = ["Changing"]

_log = Logger()

T = TypeVar("T")

_SERVED = frozenset({LinkState.READY, LinkState.INTERRUPTED})


class Changing:
    """
    The configuration of one cluster.

    @ivar wanted: the document that is kept.
    @ivar after_restart: what differs from what runs, one sentence each.
    @ivar not_saved: one sentence why what runs is not what a restart would have; or C{""}.
    """

    def __init__(
        self,
        cluster: Cluster,
        operations: Operations,
        kept: IKeptConfiguration,
        document: Document | None = None,
        changed: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """
        @param kept: where the configuration is kept.
        @param document: what is kept there; C{None}: what the topology of the cluster says.
        @param changed: told what has become another, in a sentence.
        """
        self._cluster = cluster
        self._operations = operations
        self._kept = kept
        self._changed = changed
        self.wanted = self._running = to_document(cluster.topology) if document is None else document
        self.after_restart: tuple[str, ...] = ()
        self.not_saved = ""
        self._stepping = Stepping(cluster)
        self._now: Operation | None = None
        self._work: Deferred[None] | None = None

    # -- seeing

    def configuration(self) -> Configuration:
        """What is wanted."""
        return Configuration(
            deepcopy(self.wanted), etag_of(self.wanted), self._kept.path, self._kept.why_not(), self.after_restart
        )

    def plan(self, document: Document) -> Plan:
        """
        What would be done.

        @raise InvalidRequest: there is no way.
        """
        return Plan(etag_of(self.wanted), tuple(move.step for move in self._moves(document)))

    def _moves(self, document: Document) -> list[Move]:
        self._check(document)
        providers, base_dir = self._cluster.providers, self._cluster.topology.base_dir

        def check(topology: Topology) -> list[Finding]:
            return findings(topology, providers)

        return planned(self._running, document, self._seen(), check, base_dir, self.wanted)

    def _check(self, document: Document) -> None:
        try:
            wrong = list(unwritable(document))
            if not wrong:
                topology, wrong = checked_document(document, self._cluster.topology.base_dir, self._cluster.providers)
                wrong = wrong or self._wrong_with_own_files(topology)
        except RecursionError:
            raise InvalidRequest("lists or tables are nested too deeply to be a configuration") from None
        if wrong:
            said = list(dict.fromkeys(f"{dotted(each.place)}: {each.sentence}" for each in wrong[:FINDINGS_MAX]))
            if len(wrong) > FINDINGS_MAX:
                said.append(f"... and {len(wrong) - FINDINGS_MAX} more")
            raise InvalidRequest("\n".join(said))

    def _wrong_with_own_files(self, topology: Topology) -> list[Finding]:
        """What is wanted anew, and would make a medium of what belongs to this daemon."""
        running = self._cluster.topology
        known = {spec.name: spec.uri for spec in running.nodes}
        new = tuple(spec for spec in topology.nodes if known.get(spec.name) != spec.uri)
        return list(OwnFiles.of(running, self._kept.path).wrong_with(evolve(topology, nodes=new)))

    def _seen(self) -> Seen:
        cluster = self._cluster
        devices, storages = cluster.devices.by_name, cluster.devices.storages
        clients: dict[str, int] = {}
        for exporter in cluster.exporters.values():
            for session in exporter.sessions():
                clients[session.export] = clients.get(session.export, 0) + 1
        rates: dict[str, float] = {}
        for name, storage in storages.items():
            for record in storage.resyncs():
                if record.seconds > 0 and record.bytes_copied:
                    rates[name] = record.bytes_copied / record.seconds
        algorithms = cluster.providers.algorithms
        return Seen(
            sizes={name: device.geometry.size for name, device in devices.items()},
            serving=frozenset(name for name, storage in storages.items() if storage.link in _SERVED),
            widening=frozenset(name for name, each in algorithms.items() if getattr(each, "changes_members", False)),
            clients=clients,
            copy_bytes_per_s=rates,
        )

    # -- changing

    def change(self, document: Document, etag: str | None = None) -> OperationStatus:
        """
        Begin to make C{document} what is wanted.

        @raise InvalidRequest: as L{plan}, or nothing can be changed here.
        @raise Conflict: it is another one by now, or another change is going on.
        """
        self._check_free(etag)
        why_not = self._kept.why_not()
        if why_not:
            raise InvalidRequest(f"the configuration cannot be changed here: {why_not}")
        self._check(document)
        document = deepcopy(document)  # it is kept, and stays the caller's
        moves = self._moves(document)
        subject = moves[0].step.subject if len(moves) == 1 else ""
        data = self._kept.says_already(document) if isinstance(self._kept, ConfigurationFile) else None
        if data is not None:
            return self._begin_as_in_file(subject, moves, document, data)
        if document.get("hooks") != self.wanted.get("hooks"):
            # Who may configure a daemon must not be able to run programs on its machine by that.
            raise InvalidRequest("hooks: they run programs, and are changed in the file only, by who may write there")
        operation, done = self._begin("change", subject, moves, document, keep=True)
        done.addCallbacks(lambda _: self._saved(), lambda _: None)  # it is in the operation
        return operation.status

    def _begin_as_in_file(self, subject: str, moves: list[Move], document: Document, data: bytes) -> OperationStatus:
        """A person has written C{document} there already: their file is not touched."""
        kept = self._kept
        assert isinstance(kept, ConfigurationFile)
        operation, done = self._begin("change", subject, moves, document, keep=False)

        def accepted(_: None) -> None:
            kept.accept(data)
            self._saved()

        done.addCallbacks(accepted, lambda _: None)  # it is in the operation
        return operation.status

    def _saved(self) -> None:
        self.not_saved = ""

    def replace(self, storage: str, node: str, uri: str) -> Deferred[None]:
        """
        Other media at the place of a member; also where the configuration cannot be kept, because a disk that is
        broken does not wait.

        @return: fires when it has the place, and copying begins.
        @raise DSTError: it cannot have it.
        """
        self._check_free(None)
        edit = Edit(("nodes", node), {"uri": uri})
        document = edited(self.wanted, [edit])
        self._check(document)
        why_not = self._kept.why_not()
        step = PlanStep("replace", "member", f"{storage}/{node}", f"{node} of {storage} becomes {uri}", True)
        move = Move(step, (edit,), keep_first=False, name=node, storage=storage)
        _, done = self._begin("replace", f"{storage}/{node}", [move], document, keep=not why_not)
        if why_not:
            _log.warn(
                "{node} of {storage} is {uri} now; change its uri before the next start: {why}",
                node=node,
                storage=storage,
                uri=uri,
                why=why_not,
            )
            done.addCallback(self._unsaved, f"{node} of {storage} is {uri}, and a restart would not know: {why_not}")
        return done

    def _unsaved(self, result: T, sentence: str) -> T:
        self.not_saved = sentence
        return result

    def reread(self) -> OperationStatus | None:
        """
        Somebody has changed the file; what it says is wanted now, if nothing is lost by that.

        @return: C{None} if it says nothing new.
        @raise DSTError: it cannot be done, or it would cost data or redundancy.
        """
        self._check_free(None)
        if not isinstance(self._kept, ConfigurationFile):
            why_not = self._kept.why_not() or "it is in no file"
            raise InvalidRequest(f"the configuration cannot be read again: {why_not}")
        loaded = load_file(str(self._kept.path), self._cluster.providers)
        if loaded.document == self.wanted:
            self._kept.accept(loaded.data)
            return None
        moves = self._moves(loaded.document)
        for move in moves:
            if move.step.destructive:
                raise InvalidRequest(
                    f"{loaded.path} is not applied, because data or redundancy would be given up: "
                    f"{move.step.sentence}; `dst apply {loaded.path}` asks first"
                )
        return self._begin_as_in_file("", moves, loaded.document, loaded.data)

    def stop(self) -> Deferred[None]:
        """Give up what goes on; the step that is being done is not undone."""
        if self._work is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        work = self._work

        def over(result: T) -> T:
            ended.callback(None)
            return result

        work.addBoth(over)
        work.cancel()
        return ended

    def _check_free(self, etag: str | None) -> None:
        if self._now is not None:
            status = self._now.status
            raise Conflict(
                f"operation {status.id} changes the configuration already ({status.sentence}); ask again when it "
                "has ended"
            )
        if etag is not None and etag != etag_of(self.wanted):
            raise Conflict(
                "the configuration is another one by now than what you have seen; look at it, and ask again"
            )

    def _begin(
        self, kind: str, subject: str, moves: list[Move], document: Document, *, keep: bool
    ) -> tuple[Operation, Deferred[None]]:
        operation = self._now = self._operations.begin(kind, subject)
        count = len(moves)
        done = "nothing had to be done" if not moves else f"done: {count} step{'s' if count > 1 else ''}"
        if any(move.step.after_restart for move in moves):
            done += ", of which some take effect at the next start only"
        work = self._work = Deferred.fromCoroutine(self._carry_out(operation, moves, document, keep))

        def ended(result: T) -> T:
            self._now = self._work = None
            return result

        return operation, self._operations.follow(operation, work.addBoth(ended), done)

    async def _carry_out(self, operation: Operation, moves: list[Move], document: Document, keep: bool) -> None:
        keeping = _Keeping(self, self._kept if keep else None)
        before, done = self.wanted, list[str]()
        try:
            for number, move in enumerate(moves, 1):
                operation.say(f"step {number} of {len(moves)}: {move.step.sentence}")
                await self._do(operation, move, keeping)
                done.append(move.step.sentence)
            await self._cluster.drain_unused()
            await keeping.keep(document)
        except CancelledError:
            raise
        except Exception as error:
            if keep:
                await keeping.settle(self.wanted)
            else:
                self.wanted = self._running if done else before
            self._note_what_waits()
            raise _with_what_was_done(error, moves, done) from error
        self._note_what_waits(moves)
        for sentence in done:
            self._changed(sentence)

    async def _do(self, operation: Operation, move: Move, keeping: _Keeping) -> None:
        """One step, and what it makes of the two documents."""
        before, after = self.wanted, edited(self.wanted, move.edits)
        if not move.live:
            self.wanted = after  # kept with the next step, or in the end
            return
        running = edited(self._running, move.edits)
        topology = self.topology_of(running)
        if move.keep_first:
            await keeping.keep(after)
        try:
            await self._stepping.take(move, topology, operation)
        except CancelledError:
            raise
        except Exception:
            if move.keep_first:
                await keeping.settle(before)
            raise
        self._running = running
        self._cluster.become(topology)
        if not move.keep_first:
            await keeping.keep(after)

    def topology_of(self, document: Document) -> Topology:
        """What C{document}, which is right, says."""
        return read_document(document, self._cluster.topology.base_dir).topology

    def _note_what_waits(self, moves: list[Move] | None = None) -> None:
        """What is wanted and does not run."""
        if moves is None:
            try:
                moves = self._moves(self.wanted)
            except InvalidRequest as error:
                self.after_restart = (error.message,)
                return
        self.after_restart = tuple(move.step.sentence for move in moves if move.step.after_restart)


class _Keeping:
    """What is kept during one change."""

    def __init__(self, changing: Changing, kept: IKeptConfiguration | None) -> None:
        """
        @param kept: C{None}: somebody else keeps it.
        """
        self._changing = changing
        self._kept = kept
        self._begun = False

    async def keep(self, document: Document) -> None:
        """It is wanted from now on."""
        if self._kept is not None:
            await self._kept.keep(document, begin=not self._begun)
            self._begun = True
        self._changing.wanted = document

    async def settle(self, document: Document) -> None:
        """As L{keep}, where something else has failed already."""
        try:
            await self.keep(document)
        except DSTError as error:
            _log.error("what runs now could not be kept: {error}", error=error.message)
            self._changing.wanted = document


def _with_what_was_done(error: Exception, moves: list[Move], done: list[str]) -> Exception:
    if len(moves) == 1 or not isinstance(error, DSTError):
        return error
    kind: type[DSTError] = next(each for each in type(error).__mro__ if each.__module__ == DSTError.__module__)
    what = "; ".join(done) or "nothing"
    return kind(f"{error.message}; what was done: {what}; the rest was not, and is not wanted any more")
