"""
The part of a cluster that exists only in what it says which is about what is wanted, served, asked for and told.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

from attrs import Factory, define, evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from dst.administration import (
    Configuration,
    Event,
    ExportStatus,
    HealthFinding,
    ListenerStatus,
    OperationState,
    OperationStatus,
    Plan,
    PlanStep,
    SessionStatus,
    Severity,
)
from dst.asking import asking
from dst.errors import Conflict, DSTError, InvalidRequest, NotFound, code_of

__all__ = ["FakeAdministration", "example_document", "example_findings"]

T = TypeVar("T")

_NAMED = ("nodes", "storages", "exports")
_TABLES = ("daemon", "listeners", *_NAMED)


def example_document() -> dict[str, Any]:
    """The configuration of L{dst.testing.fake_admin.example_trees}."""
    return {
        "nodes": {
            **{name: {"uri": "memory:?size=64M"} for name in ("a", "b", "c", "spare", "y")},
            "x": {"uri": "noise:"},
        },
        "storages": {
            "fresh": {"algorithm": "mirror", "nodes": ["x", "y"]},
            "vol": {"algorithm": "mirror", "nodes": ["a", "b", "c"]},
        },
        "exports": {"vol": {"device": "vol"}},
    }


def example_findings() -> list[HealthFinding]:
    """What is not as it should be in L{dst.testing.fake_admin.example_trees}."""
    sentence = "fresh is frozen: node x holds data"
    return [HealthFinding("STORAGE_NOT_INITIALISED", Severity.WARNING, "fresh", sentence, 0.0)]


@define(kw_only=True)
class FakeAdministration:
    """
    What is wanted, what is served, what was asked for, and what happened.

    @ivar failing: when set, every call fails with it.
    @ivar document: the configuration.
    @ivar served: what C{exports} says; C{None}: what follows from C{document}.
    @ivar listening: what C{listeners} says.
    @ivar clients: what C{sessions} says; C{end_session} takes one out.
    @ivar happened: what C{events} says; see L{happen}.
    @ivar findings: what C{health} says.
    @ivar asked_for: every operation, the oldest first.
    @ivar time: seconds of the epoch.
    """

    failing: DSTError | Exception | None = None
    document: dict[str, Any] = Factory(example_document)
    served: list[ExportStatus] | None = None
    listening: list[ListenerStatus] = Factory(list)
    clients: list[SessionStatus] = Factory(list)
    happened: list[Event] = Factory(list)
    findings: list[HealthFinding] = Factory(example_findings)
    asked_for: list[OperationStatus] = Factory(list)
    time: float = 1000.0
    _changes: int = 0

    # -- what is wanted

    def configuration(self) -> Deferred[Configuration]:
        """See L{dst.interfaces.IClusterAdmin.configuration}."""
        return self._said(lambda: Configuration(deepcopy(self.document), str(self._changes)))

    def plan(self, document: dict[str, object]) -> Deferred[Plan]:
        """See L{dst.interfaces.IClusterAdmin.plan}."""
        return self._said(lambda: self._plan(document))

    def _plan(self, document: dict[str, Any]) -> Plan:
        _check(document)
        steps = []
        for kind in _NAMED:
            before, after = self.document.get(kind, {}), document.get(kind, {})
            for name in sorted({*before, *after}):
                action = "add" if name not in before else "remove" if name not in after else "change"
                if action != "change" or before[name] != after[name]:
                    one = kind.removesuffix("s")
                    sentence = f"{action} the {one} {name}"
                    steps.append(PlanStep(action, one, name, sentence, destructive=action == "remove"))
        return Plan(str(self._changes), tuple(steps))

    def change(self, document: dict[str, object], etag: str | None = None) -> Deferred[OperationStatus]:
        """See L{dst.interfaces.IClusterAdmin.change}."""

        def act() -> OperationStatus:
            _check(document)
            if etag is not None and etag != str(self._changes):
                raise Conflict("the configuration is another one by now: somebody has changed it")
            number = self._began("change", "")
            self._changes += 1
            self.document = deepcopy(document)
            self.happen("what is wanted was changed", kind="configuration", subject="")
            self._ended(number, None)
            return self.asked_for[number]

        return self._said(act)

    # -- what there is

    def exports(self) -> Deferred[list[ExportStatus]]:
        """See L{dst.interfaces.IClusterAdmin.exports}."""

        def act() -> list[ExportStatus]:
            if self.served is not None:
                return self.served
            return [
                ExportStatus(name, table["device"], bool(table.get("read_only")), 63 << 20)
                for name, table in sorted(self.document.get("exports", {}).items())
            ]

        return self._said(act)

    def listeners(self) -> Deferred[list[ListenerStatus]]:
        """See L{dst.interfaces.IClusterAdmin.listeners}."""
        return self._said(lambda: sorted(self.listening, key=lambda each: (each.protocol, each.endpoint)))

    def sessions(self) -> Deferred[list[SessionStatus]]:
        """See L{dst.interfaces.IClusterAdmin.sessions}."""
        return self._said(lambda: sorted(self.clients, key=lambda each: (each.since, each.id)))

    def end_session(self, id: str) -> Deferred[None]:
        """See L{dst.interfaces.IClusterAdmin.end_session}."""

        def act() -> None:
            for session in self.clients:
                if session.id == id:
                    self.clients.remove(session)
                    return
            raise NotFound(f"there is no session {id[:40]!r} now; it may have ended by itself")

        return self._said(act)

    def operations(self) -> Deferred[list[OperationStatus]]:
        """See L{dst.interfaces.IClusterAdmin.operations}."""
        return self._said(lambda: list(reversed(self.asked_for)))

    def operation(self, id: str) -> Deferred[OperationStatus]:
        """See L{dst.interfaces.IClusterAdmin.operation}."""

        def act() -> OperationStatus:
            for operation in self.asked_for:
                if operation.id == id:
                    return operation
            raise NotFound(f"there is no operation {id[:40]!r}")

        return self._said(act)

    def events(self, after: int = 0) -> Deferred[list[Event]]:
        """See L{dst.interfaces.IClusterAdmin.events}."""
        last = self.happened[-1].number if self.happened else 0
        first = 0 if after > last else after
        return self._said(lambda: [event for event in self.happened if event.number > first])

    def health(self) -> Deferred[list[HealthFinding]]:
        """See L{dst.interfaces.IClusterAdmin.health}."""
        worst_first = list(reversed(Severity))
        return self._said(lambda: sorted(self.findings, key=lambda each: worst_first.index(each.severity)))

    # -- for tests

    def happen(self, sentence: str, **more: Any) -> Event:
        """Something happens, and is told."""
        number = self.happened[-1].number + 1 if self.happened else 1
        event = Event(number, self.time, "state", Severity.INFO, "vol", sentence)
        self.happened.append(evolve(event, **more))
        return self.happened[-1]

    # -- how

    def _said(self, act: Callable[[], T]) -> Deferred[T]:
        if self.failing is not None:
            return fail(self.failing)
        try:
            return succeed(act())
        except DSTError as error:
            return fail(error)

    def _operate(self, kind: str, subject: str, begin: Callable[[], Deferred[T]]) -> Deferred[T]:
        """What C{begin} does, as an operation that can be looked at."""
        number = self._began(kind, subject)

        def ended(result: T | Failure) -> T | Failure:
            self._ended(number, result)
            return result

        return begin().addBoth(ended)

    def _began(self, kind: str, subject: str) -> int:
        number = len(self.asked_for)
        asked = asking.get()
        status = OperationStatus(f"fake-{number}", kind, subject, OperationState.RUNNING, self.time)
        if asked is not None:
            asked.operation = status.id
            status = evolve(status, asked_by=asked.by)
        self.asked_for.append(status)
        return number

    def _ended(self, number: int, result: object) -> None:
        status = evolve(self.asked_for[number], state=OperationState.DONE, ended=self.time)
        if isinstance(result, Failure):
            error: BaseException = result.value  # type: ignore[assignment]
            sentence = str(error)
            status = evolve(status, state=OperationState.FAILED, sentence=sentence, error_code=code_of(error))
        self.asked_for[number] = status


def _check(document: dict[str, Any]) -> None:
    """As little as makes a difference between what can be run and what cannot."""
    wrong = [f"{key}: there is no such table" for key in document if key not in _TABLES]
    for kind in _NAMED:
        tables = document.get(kind, {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            wrong.append(f"{kind}: expected a table for each name")
    if not wrong:
        devices = {*document.get("nodes", {}), *document.get("storages", {})}
        for name, table in document.get("storages", {}).items():
            for node in table.get("nodes", []):
                if node not in devices:
                    wrong.append(f"storages.{name}.nodes: there is no node or storage {node!r}")
        for name, table in document.get("exports", {}).items():
            if table.get("device") not in devices:
                wrong.append(f"exports.{name}.device: there is no node or storage {table.get('device')!r}")
    if wrong:
        raise InvalidRequest("\n".join(wrong))
