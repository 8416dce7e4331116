"""
A cluster that exists only in what it says: for tests of what talks to an admin.

It passes L{dst.testing.admin_suite}, so what works with it works with a daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from attrs import Factory, define, evolve
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dst.errors import ConfigurationError, DSTError, InvalidRequest, NotFound
from dst.explaining import Explanation, ResyncRecord, ScrubRecord
from dst.explaining_trees import explain_tree
from dst.interfaces import IClusterAdmin
from dst.status import Health, MemberState, ResyncProgress, StatusTree
from dst.testing.fake_administration import FakeAdministration

__all__ = ["FakeAdmin", "example_trees"]

_MIB = 1 << 20

T = TypeVar("T")


def _result_of(act: Callable[[], T]) -> Deferred[T]:
    try:
        return succeed(act())
    except DSTError as error:
        return fail(error)


def _subject(storage: str, node: str | None) -> str:
    return storage if node is None else f"{storage}/{node}"


def _member(name: str, state: MemberState, **more: object) -> StatusTree:
    health = Health.HEALTHY if state is MemberState.IN_SYNC else Health.DEGRADED
    return StatusTree(name, "memory", health, state.value, size=64 * _MIB, **more)  # type: ignore[arg-type]


def example_trees() -> list[StatusTree]:
    """
    The topology that L{dst.testing.admin_suite} expects: a mirror C{vol} of C{a}, C{b} and C{c}, in sync; a
    mirror C{fresh} of C{x} and C{y}, not initialised because C{x} holds something; a node C{spare} in none.
    """
    unlabelled = "holds data and no label: initialise the storage with the data to keep, or discard it"
    return [
        StatusTree(
            "fresh",
            "mirror",
            Health.FROZEN,
            "connecting",
            reason="not initialised: node x holds data",
            size=0,
            children=(
                _member("x", MemberState.REFUSED, reason=unlabelled),
                _member("y", MemberState.ABSENT, reason="waits for the storage to be initialised"),
            ),
        ),
        StatusTree("spare", "memory", Health.HEALTHY, "ready", size=64 * _MIB),
        StatusTree(
            "vol",
            "mirror",
            Health.HEALTHY,
            "ready",
            size=63 * _MIB,
            redundancy=2,
            children=tuple(_member(name, MemberState.IN_SYNC) for name in "abc"),
        ),
    ]


@implementer(IClusterAdmin)
@define
class FakeAdmin(FakeAdministration):
    """
    What an operator can see and do, with nothing behind it.

    Resyncs end when L{settle} is called.  Tests set C{trees} to whatever they want to be seen.

    @ivar waiting: when set, calls do not end before C{release}; why that is can be asked, with C{explain}.
    @ivar calls: every operation that was asked for, as tuples of strings.
    @ivar explanations: when set, what C{explain} says instead of what follows from C{trees}.
    @ivar history: what C{resyncs} says; a resync that C{settle} ends is added.
    @ivar owned_elsewhere: the storages that another daemon owns; C{take_over} makes them this one's.
    @ivar diverged: the storages that have two histories; C{resolve} chooses one.
    @ivar scrubbed: the scrubs that have ended; one that goes on ends with L{settle}.
    @ivar room: bytes that the members of a storage have room for, where that is more than it has.
    """

    trees: list[StatusTree] = Factory(example_trees)
    waiting: bool = False
    calls: list[tuple[str, ...]] = Factory(list)
    explanations: list[Explanation] | None = None
    history: list[ResyncRecord] = Factory(list)
    owned_elsewhere: set[str] = Factory(set)
    diverged: set[str] = Factory(set)
    room: dict[str, int] = Factory(dict)
    scrubbed: dict[str, list[ScrubRecord]] = Factory(dict)
    _scrubbing: dict[str, ScrubRecord] = Factory(dict)
    _paused: set[str] = Factory(set)
    _held: list[Callable[[], None]] = Factory(list)

    def status(self) -> Deferred[list[StatusTree]]:
        """See L{IClusterAdmin.status}."""
        return self._answer(lambda: sorted(self.trees, key=lambda tree: tree.name))

    def initialise(self, storage: str, *, keep: str | None = None, discard: bool = False) -> Deferred[None]:
        """See L{IClusterAdmin.initialise}."""
        self.calls.append(("initialise", storage, keep or "", "discard" if discard else ""))

        def act() -> None:
            tree = self._storage(storage)
            if all(member.state != MemberState.REFUSED.value for member in tree.children):
                raise InvalidRequest(f"storage {storage!r} exists already: nothing is initialised twice")
            if keep is None and not discard:
                raise InvalidRequest(f"members of {storage!r} hold data: name the node to keep, or discard it")
            if keep is not None:
                self._member(tree, keep)
            source = keep or tree.children[0].name
            for member in tree.children:
                state = MemberState.IN_SYNC if member.name == source else MemberState.RESYNCING
                self._change(storage, member.name, state, "")

        return self._operate("initialise", storage, lambda: self._answer(act))

    def suspend(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.suspend}."""
        self.calls.append(("suspend", storage, node))

        def act() -> None:
            self._never_the_last(storage, node)
            self._change(storage, node, MemberState.SUSPENDED, "suspended by the operator")

        return self._operate("suspend", f"{storage}/{node}", lambda: self._answer(act))

    def resume(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.resume}."""
        self.calls.append(("resume", storage, node))

        def act() -> None:
            if self._member(self._storage(storage), node).state != MemberState.SUSPENDED.value:
                raise InvalidRequest(f"node {node!r} of {storage!r} is not suspended")
            self._change(storage, node, MemberState.RESYNCING, "")

        return self._operate("resume", f"{storage}/{node}", lambda: self._answer(act))

    def replace(self, storage: str, node: str, uri: str) -> Deferred[None]:
        """See L{IClusterAdmin.replace}."""
        self.calls.append(("replace", storage, node, uri))

        def act() -> None:
            self._never_the_last(storage, node)
            if not uri.startswith(("memory:", "file:", "dst:", "nbd:")):
                raise ConfigurationError(f"no plugin makes nodes of {uri!r}; expected file:, memory:, dst: or nbd:")
            self._change(storage, node, MemberState.RESYNCING, "new media")

        return self._operate("replace", f"{storage}/{node}", lambda: self._answer(act))

    def mark_clean(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.mark_clean}."""
        self.calls.append(("mark-clean", storage, node))

        def act() -> None:
            if self._member(self._storage(storage), node).state == MemberState.IN_SYNC.value:
                raise InvalidRequest(f"node {node!r} of {storage!r} is in sync already")
            self._change(storage, node, MemberState.IN_SYNC, "")

        return self._operate("mark-clean", f"{storage}/{node}", lambda: self._answer(act))

    def mark_dirty(self, storage: str, node: str) -> Deferred[None]:
        """See L{IClusterAdmin.mark_dirty}."""
        self.calls.append(("mark-dirty", storage, node))

        def act() -> None:
            self._never_the_last(storage, node)
            self._change(storage, node, MemberState.RESYNCING, "marked dirty by the operator")

        return self._operate("mark-dirty", f"{storage}/{node}", lambda: self._answer(act))

    def take_over(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.take_over}."""
        self.calls.append(("take-over", storage))

        def act() -> None:
            self._storage(storage)
            if storage not in self.owned_elsewhere:
                raise InvalidRequest(f"{storage!r} is served by this daemon already")
            self.owned_elsewhere.discard(storage)

        return self._operate("take-over", storage, lambda: self._answer(act))

    def resolve(self, storage: str, keep: str) -> Deferred[None]:
        """See L{IClusterAdmin.resolve}."""
        self.calls.append(("resolve", storage, keep))

        def act() -> None:
            self._member(self._storage(storage), keep)
            if storage not in self.diverged:
                raise InvalidRequest(f"{storage!r} has one history: there is nothing to choose")
            self.diverged.discard(storage)

        return self._operate("resolve", storage, lambda: self._answer(act))

    def grow(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.grow}."""
        self.calls.append(("grow", storage))

        def act() -> None:
            tree = self._storage(storage)
            size = self.room.get(storage, 0)
            if size <= tree.size:
                raise InvalidRequest(f"{storage!r} has no room for more on {tree.children[0].name}")
            self.trees = [evolve(each, size=size) if each is tree else each for each in self.trees]

        return self._operate("grow", storage, lambda: self._answer(act))

    def pause_resync(self, storage: str, node: str | None = None) -> Deferred[None]:
        """See L{IClusterAdmin.pause_resync}."""
        self.calls.append(("pause-resync", storage, node or ""))
        return self._operate(
            "pause-resync",
            _subject(storage, node),
            lambda: self._answer(lambda: self._paused.update(self._names(storage, node))),
        )

    def resume_resync(self, storage: str, node: str | None = None) -> Deferred[None]:
        """See L{IClusterAdmin.resume_resync}."""
        self.calls.append(("resume-resync", storage, node or ""))
        return self._operate(
            "resume-resync",
            _subject(storage, node),
            lambda: self._answer(lambda: self._paused.difference_update(self._names(storage, node))),
        )

    def scrub(self, storage: str, *, repair: bool = True) -> Deferred[None]:
        """See L{IClusterAdmin.scrub}."""
        self.calls.append(("scrub", storage, "repair" if repair else ""))

        def act() -> None:
            size = self._storage(storage).size
            if storage in self._scrubbing:
                raise InvalidRequest(f"{storage} is being scrubbed already")
            self._scrubbing[storage] = ScrubRecord("running", 1700000000.0, None, repair, size, size)

        return self._operate("scrub", storage, lambda: self._answer(act))

    def stop_scrub(self, storage: str) -> Deferred[None]:
        """See L{IClusterAdmin.stop_scrub}."""
        self.calls.append(("stop-scrub", storage))

        def act() -> None:
            self._storage(storage)
            running = self._scrubbing.pop(storage, None)
            if running is None:
                raise InvalidRequest(f"{storage} is not being scrubbed")
            self.scrubbed.setdefault(storage, []).append(evolve(running, state="stopped", ended=1700000001.0))

        return self._operate("stop-scrub", storage, lambda: self._answer(act))

    def scrubs(self, storage: str) -> Deferred[list[ScrubRecord]]:
        """See L{IClusterAdmin.scrubs}."""

        def act() -> list[ScrubRecord]:
            self._storage(storage)
            running = self._scrubbing.get(storage)
            return [*self.scrubbed.get(storage, ()), *([running] if running is not None else ())]

        return self._answer(act)

    def explain(self, name: str | None = None) -> Deferred[list[Explanation]]:
        """See L{IClusterAdmin.explain}."""

        def act() -> list[Explanation]:
            explained = self.explanations
            if explained is None:
                explained = [explain_tree(tree) for tree in sorted(self.trees, key=lambda tree: tree.name)]
            if name is None:
                return explained
            found = [each for each in explained if each.name == name]
            found = found or [each for top in explained for each in top.walk() if each.name == name]
            if not found:
                raise NotFound(f"there is no storage or node {name!r} here")
            return found[:1]

        return _result_of(act) if self.failing is None else fail(self.failing)

    def resyncs(self, storage: str) -> Deferred[list[ResyncRecord]]:
        """See L{IClusterAdmin.resyncs}."""

        def act() -> list[ResyncRecord]:
            members = {member.name for member in self._storage(storage).children}
            return [record for record in self.history if record.member in members]

        return self._answer(act)

    # -- for tests --------------------------------------------------------------

    def settle(self) -> None:
        """Every resync that is not paused is complete, and every scrub."""
        for storage, running in self._scrubbing.items():
            self.scrubbed.setdefault(storage, []).append(
                evolve(running, state="done", ended=1700000002.0, bytes_left=0)
            )
        self._scrubbing.clear()
        for tree in list(self.trees):
            for member in tree.children:
                if member.state == MemberState.RESYNCING.value and member.name not in self._paused:
                    self._change(tree.name, member.name, MemberState.IN_SYNC, "")
                    cause = member.resync.cause if member.resync else ""
                    self.history.append(
                        ResyncRecord(member.name, "full", cause, "", 0.0, 1.0, 64 * _MIB, 64 * _MIB, "in-sync")
                    )

    def release(self) -> None:
        """Let the calls go on that were held by C{waiting}."""
        self.waiting = False
        held, self._held = self._held, []
        for go_on in held:
            go_on()

    # -- how --------------------------------------------------------------------

    def _answer(self, act: Callable[[], T]) -> Deferred[T]:
        if self.failing is not None:
            return fail(self.failing)
        if not self.waiting:
            return _result_of(act)
        go_on: Deferred[None] = Deferred()
        self._held.append(lambda: go_on.callback(None))
        return go_on.addCallback(lambda _: _result_of(act))

    def _storage(self, name: str) -> StatusTree:
        for tree in self.trees:
            if tree.name == name and tree.children:
                return tree
        raise NotFound(f"there is no storage {name!r} here")

    def _member(self, tree: StatusTree, name: str) -> StatusTree:
        for member in tree.children:
            if member.name == name:
                return member
        raise NotFound(f"storage {tree.name!r} has no node {name!r}")

    def _names(self, storage: str, node: str | None) -> set[str]:
        tree = self._storage(storage)
        return {self._member(tree, node).name} if node is not None else {member.name for member in tree.children}

    def _never_the_last(self, storage: str, node: str) -> None:
        tree = self._storage(storage)
        member = self._member(tree, node)
        in_sync = [other for other in tree.children if other.state == MemberState.IN_SYNC.value]
        if in_sync == [member]:
            raise InvalidRequest(f"node {node!r} is the last copy of {storage!r} that is in sync")

    def _change(self, storage: str, node: str, state: MemberState, reason: str) -> None:
        tree = self._storage(storage)
        resync = None
        if state is MemberState.RESYNCING:
            resync = ResyncProgress("full", reason or "it was away", 64 * _MIB, 64 * _MIB, 0)
        changed = _member(
            node, state, reason=reason, resync=resync, dirty_bytes=0 if resync is None else resync.bytes_left
        )
        members = tuple(changed if member.name == node else member for member in tree.children)
        in_sync = sum(member.state == MemberState.IN_SYNC.value for member in members)
        healthy = in_sync == len(members)
        self.trees[self.trees.index(tree)] = evolve(
            tree,
            health=Health.HEALTHY if healthy else Health.DEGRADED,
            state="ready",
            reason="" if healthy else f"{len(members) - in_sync} of {len(members)} members are not in sync",
            redundancy=max(0, in_sync - 1),
            dirty_bytes=sum(member.dirty_bytes for member in members),
            size=63 * _MIB,
            children=members,
        )
