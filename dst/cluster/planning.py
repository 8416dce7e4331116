"""
From what runs to what is wanted: the steps, in an order in which nothing is lost, or why there are none.

Values in, values out.  The order::

    listeners close, exports go       nobody begins what is about to end
    storages go, then nodes           from the top down
    nodes, slices and storages come   from the bottom up
    members come, then members go     a mirror has more copies meanwhile, never fewer
    exports come and change, listeners open
    what takes effect at the next start only

Each step leads from one configuration that is right to another one; where that cannot be had it is said before
anything is done.  What cannot be changed without losing data is refused, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from attrs import evolve, field, frozen

from dst.administration import PlanStep
from dst.cluster.document import Document, read_document
from dst.cluster.moves import GONE, Edit, Move, edited
from dst.cluster.plan_words import (
    added_member,
    changed_export,
    in_words,
    removed_export,
    removed_member,
    replaced_member,
)
from dst.cluster.rules import Finding, storage_order
from dst.cluster.topology import NodeSpec, SliceSpec, StorageSpec, Topology, absolute_uri
from dst.errors import InvalidRequest

__all__ = ["MOVES_MAX", "Seen", "planned", "same_media"]

MOVES_MAX = 500
"""Steps of one change: each is checked against the rules as a whole, and nobody reads a longer list."""

_SPOKEN_TABLES = ("nodes", "storages", "exports", "listeners")


@frozen
class Seen:
    """
    What is known of the running cluster.

    @ivar sizes: bytes, by device.
    @ivar serving: storages that are served by this daemon now.
    @ivar widening: algorithms whose members can come and go while they serve.
    @ivar clients: how many there are, by export.
    @ivar copy_bytes_per_s: as fast as the last resync was, by storage; missing where nothing was copied yet.
    """

    sizes: Mapping[str, int] = field(factory=dict)
    serving: frozenset[str] = frozenset()
    widening: frozenset[str] = frozenset({"mirror"})
    clients: Mapping[str, int] = field(factory=dict)
    copy_bytes_per_s: Mapping[str, float] = field(factory=dict)


Check = Callable[[Topology], list[Finding]]


def planned(
    running: Document,
    wanted: Document,
    seen: Seen,
    check: Check,
    base_dir: str = ".",
    kept: Document | None = None,
) -> list[Move]:
    """
    The steps from C{running} to C{wanted}, both of which can be run.

    @param check: what is wrong with a topology.
    @param kept: what is kept now, where that is not what runs.
    @raise InvalidRequest: there is no way without losing something; what to do instead.
    """
    planner = _Planner(running, wanted, seen, check, base_dir)
    if kept is not None:
        planner.kept = kept
    moves = []
    for move in planner.moves():
        moves.append(planner.taken(move))
        if len(moves) > MOVES_MAX:
            raise InvalidRequest(f"this needs more than {MOVES_MAX} steps; make it in several changes")
    return moves


def same_media(one: NodeSpec, other: NodeSpec, base_dir: str) -> bool:
    """Whether two nodes are the same media, reached in another way."""
    media = []
    for spec in (one, other):
        uri = absolute_uri(spec.uri, base_dir)
        media.append(uri if "+unix" in spec.scheme else uri.partition("?")[0])
    return media[0] == media[1] and one.scheme != "memory"


class _Planner:
    """
    @ivar live: the document of what runs, after the steps so far.
    @ivar kept: the document that is kept, after the steps so far.
    """

    def __init__(self, running: Document, wanted: Document, seen: Seen, check: Check, base_dir: str) -> None:
        self._base_dir = base_dir
        self._seen = seen
        self._check = check
        self._old_document, self._new_document = running, wanted
        self.live = self.kept = running
        self._old = read_document(running, base_dir).topology
        self._new = read_document(wanted, base_dir).topology
        self._old_devices = {spec.name: spec for spec in self._old.devices()}
        self._new_devices = {spec.name: spec for spec in self._new.devices()}
        self._old_used = self._old.used()
        self._members = {name: spec for spec in self._old.storages for name in (*spec.nodes, *spec.witnesses)}

    def taken(self, move: Move) -> Move:
        """
        C{move}, as a step from where the last one has led.

        One that depends on something that comes with the next start does so itself.
        """
        kept = edited(self.kept, move.edits)
        if move.live:
            live = edited(self.live, move.edits)
            if self._wrong(live):
                sentence = f"{move.step.sentence}, from the next start on"
                move = evolve(move, step=evolve(move.step, after_restart=True, sentence=sentence))
            else:
                self.live = live
        wrong = self._wrong(kept)
        if wrong:
            raise InvalidRequest(
                f"{move.step.sentence}: on the way, {wrong[0].sentence}; make this in two changes, "
                "or stop the daemon and change the file"
            )
        self.kept = kept
        return move

    def _wrong(self, document: Document) -> list[Finding]:
        return self._check(read_document(document, self._base_dir).topology)

    def moves(self) -> Iterator[Move]:
        yield from self._listeners(opening=False)
        yield from self._exports_that_go()
        yield from self._devices_that_go()
        yield from self._devices_that_change()
        yield from self._devices_that_come()
        for spec in self._new.storages:
            before = self._old_devices.get(spec.name)
            if isinstance(before, StorageSpec):
                yield from self._storage(before, spec)
        yield from self._devices_that_go(late=True)
        yield from self._exports_that_come()
        yield from self._listeners(opening=True)
        yield from self._rest()

    # -- listeners

    def _listeners(self, *, opening: bool) -> Iterator[Move]:
        for protocol in dict.fromkeys((*self._old.listeners, *self._new.listeners)):
            old, new = self._old.listeners.get(protocol, ()), self._new.listeners.get(protocol, ())
            now = [each for each in old if each in new] if opening else list(old)
            for listener in [each for each in (new if opening else old) if each not in (old if opening else new)]:
                if opening:
                    now = [*now, listener]
                    sentence = f"{protocol} opens at {listener.endpoint}"
                else:
                    now = [each for each in now if each != listener]
                    sentence = f"{protocol} closes at {listener.endpoint}"
                    if new:
                        sentence += "; clients that are connected stay"
                step = PlanStep("add" if opening else "remove", "listener", protocol, sentence)
                edits = (Edit(("listeners", protocol), [each.plain() for each in now] or GONE),)
                yield Move(step, edits, keep_first=opening, name=protocol, listener=listener)

    # -- exports

    def _exports_that_go(self) -> Iterator[Move]:
        new = {spec.name: spec for spec in self._new.exports}
        for spec in self._old.exports:
            wanted = new.get(spec.name)
            if wanted is None or wanted.device != spec.device:
                sentence = removed_export(spec, wanted, self._seen.clients.get(spec.name, 0))
                step = PlanStep("remove", "export", spec.name, sentence)
                yield Move(step, (Edit(("exports", spec.name), GONE),), keep_first=False, name=spec.name)

    def _exports_that_come(self) -> Iterator[Move]:
        old = {spec.name: spec for spec in self._old.exports}
        for spec in self._new.exports:
            before = old.get(spec.name)
            edits = (self._as_wanted("exports", spec.name),)
            if before is None or before.device != spec.device:
                how = ", read-only" if spec.read_only else ""
                step = PlanStep("add", "export", spec.name, f"{spec.device} is exported as {spec.name}{how}")
                yield Move(step, edits, name=spec.name)
            elif before != spec:
                sentence = changed_export(before, spec, self._seen.clients.get(spec.name, 0))
                yield Move(PlanStep("change", "export", spec.name, sentence), edits, name=spec.name)

    # -- devices

    def _devices_that_go(self, *, late: bool = False) -> Iterator[Move]:
        """
        @param late: those that what leaves a mirror stands on; else all others.
        """
        gone = [name for name in self._old_devices if self._goes(name) and self._goes_late(name) is late]
        above = [spec.name for spec in reversed(storage_order(self._old))]
        for name in sorted(gone, key=lambda name: above.index(name) if name in above else len(above)):
            if self._leaves(name):
                if name in self._new_devices:
                    raise InvalidRequest(
                        f"{name!r} is a member of {self._members[name].name!r} and cannot become something else "
                        "there; give the new device a name of its own"
                    )
            elif isinstance(self._old_devices[name], StorageSpec):
                yield self._closing(name)
            else:
                yield self._removal(name, f"node {name} is closed; what it holds stays there")

    def _leaves(self, name: str) -> bool:
        """It goes as a member of a storage that stays."""
        user = self._members.get(name)
        return user is not None and not self._goes(user.name)

    def _users(self, name: str) -> list[str]:
        slices = [spec.name for spec in self._old.slices if spec.parent == name]
        return [*slices, self._members[name].name] if name in self._members else slices

    def _goes_late(self, name: str) -> bool:
        users = [user for user in self._users(name) if self._goes(user)]
        return any(self._leaves(user) or self._goes_late(user) for user in users)

    def _closing(self, name: str) -> Move:
        sentence = f"storage {name} is closed and served no more; what is on its nodes stays there"
        step = PlanStep("remove", "storage", name, sentence, destructive=True)
        return Move(step, (Edit(("storages", name), GONE),), keep_first=False, name=name)

    def _removal(self, name: str, sentence: str) -> Move:
        return Move(
            PlanStep("remove", "node", name, sentence), (Edit(("nodes", name), GONE),), keep_first=False, name=name
        )

    def _goes(self, name: str) -> bool:
        return type(self._old_devices[name]) is not type(self._new_devices.get(name))

    def _devices_that_come(self) -> Iterator[Move]:
        joining = self._joining()
        for spec in self._new.nodes:
            if self._comes(spec.name) and spec.name not in joining:
                yield self._addition("node", spec.name, f"node {spec.name} is opened: {spec.uri}")
        for above in storage_order(self._new):
            if not self._comes(above.name) or above.name in joining:
                continue
            if isinstance(above, SliceSpec):
                sentence = f"{above.name} is opened: {above.size} bytes of {above.parent} from {above.start}"
                yield self._addition("node", above.name, sentence)
            else:
                members = in_words(above.nodes)
                sentence = f"storage {above.name} is opened: a {above.algorithm} of {members}"
                yield self._addition("storage", above.name, sentence)

    def _addition(self, kind: str, name: str, sentence: str) -> Move:
        edits = (self._as_wanted("storages" if kind == "storage" else "nodes", name),)
        return Move(PlanStep("add", kind, name, sentence), edits, name=name)

    def _comes(self, name: str) -> bool:
        return type(self._new_devices[name]) is not type(self._old_devices.get(name))

    def _joining(self) -> set[str]:
        """New nodes that are opened by the mirror that they become part of."""
        joining: set[str] = set()
        for spec in self._new.storages:
            before = self._old_devices.get(spec.name)
            if isinstance(before, StorageSpec) and self._live_members(before):
                joining |= {name for name in spec.nodes if name not in before.nodes}
                if self._live_witnesses(before, spec):
                    joining |= {name for name in spec.witnesses if name not in before.witnesses}
        return {name for name in joining if isinstance(self._new_devices[name], NodeSpec)}

    def _devices_that_change(self) -> Iterator[Move]:
        for name, spec in self._new_devices.items():
            before = self._old_devices.get(name)
            if isinstance(spec, NodeSpec) and isinstance(before, NodeSpec) and spec != before:
                yield self._node(before, spec)
            elif isinstance(spec, SliceSpec) and isinstance(before, SliceSpec) and spec != before:
                yield self._slice(before, spec)

    def _node(self, before: NodeSpec, spec: NodeSpec) -> Move:
        name, edits = spec.name, (self._as_wanted("nodes", spec.name),)
        storage = self._members.get(name)
        if all(self._goes(user) for user in self._users(name)):
            sentence = f"node {name} is closed and opened again, as {spec.uri}; clients of it are cut off"
            return Move(PlanStep("change", "node", name, sentence), edits, name=name)
        if same_media(before, spec, self._base_dir):
            sentence = f"node {name} is used in another way from the next start on"
            return Move(PlanStep("change", "node", name, sentence, after_restart=True), edits, name=name)
        wanted = self._new_devices.get(storage.name) if storage is not None else None
        if storage is not None and isinstance(wanted, StorageSpec) and name not in (*wanted.nodes, *wanted.witnesses):
            raise InvalidRequest(
                f"nodes.{name}: it leaves {storage.name!r} and becomes {spec.uri} at once; make this in two changes"
            )
        if storage is not None and name in storage.nodes and self._live_members(storage):
            size = self._seen.sizes.get(storage.name, 0)
            rate = self._seen.copy_bytes_per_s.get(storage.name)
            step = PlanStep(
                "replace",
                "member",
                f"{storage.name}/{name}",
                replaced_member(storage.name, name, spec.uri, size),
                destructive=True,
                bytes_to_copy=size,
                seconds_exposed=size / rate if rate else None,
            )
            return Move(step, edits, keep_first=False, name=name, storage=storage.name)
        sentence = f"node {name} is {spec.uri} from the next start on; nothing is copied to it from where it was"
        destructive = not (storage is not None and name in storage.witnesses)
        step = PlanStep("change", "node", name, sentence, destructive=destructive, after_restart=True)
        return Move(step, edits, name=name)

    def _slice(self, before: SliceSpec, spec: SliceSpec) -> Move:
        name, edits = spec.name, (self._as_wanted("nodes", spec.name),)
        moved = (before.parent, before.start) != (spec.parent, spec.start)
        if spec.size < before.size or moved:
            how = "lie elsewhere" if moved else f"have {spec.size} bytes instead of {before.size}"
            raise InvalidRequest(
                f"nodes.{name}: the slice {name!r} would {how}, and what it holds would be lost in silence; "
                "make a new slice beside it, and replace or copy"
            )
        after_restart = name in self._old_used
        sentence = f"slice {name} grows from {before.size} to {spec.size} bytes"
        if after_restart:
            sentence += " from the next start on; `dst storage grow` makes the storage above it use them"
        return Move(PlanStep("change", "node", name, sentence, after_restart=after_restart), edits, name=name)

    # -- storages

    def _live_members(self, storage: StorageSpec) -> bool:
        return storage.algorithm in self._seen.widening and storage.name in self._seen.serving

    def _storage(self, before: StorageSpec, spec: StorageSpec) -> Iterator[Move]:
        name = spec.name
        if spec.algorithm != before.algorithm:
            raise InvalidRequest(
                f"storages.{name}: {name!r} is a {before.algorithm} and cannot become a {spec.algorithm}, its data "
                f"lies in another way there; make a new {spec.algorithm} of other nodes and copy to it (nbdcopy)"
            )
        if set(spec.nodes) != set(before.nodes):
            yield from self._membership(before, spec)
        elif spec.nodes != before.nodes and spec.algorithm not in self._seen.widening:
            raise InvalidRequest(
                f"storages.{name}.nodes: the order of the nodes of a {spec.algorithm} says where its data is; "
                f"leave it as it is: {in_words(before.nodes)}"
            )
        if set(spec.witnesses) != set(before.witnesses):
            yield from self._witnesses(before, spec)
        for key in sorted({*spec.options, *before.options}):
            if spec.options.get(key, GONE) != before.options.get(key, GONE):
                value = spec.options.get(key, GONE)
                said = "is what it is without being said" if value is GONE else f"is {value!r}"
                sentence = f"{key} of {name} {said} from the next start on"
                step = PlanStep("change", "storage", name, sentence, after_restart=True)
                yield Move(step, (Edit(("storages", name, key), value),), name=name)

    def _witnesses(self, before: StorageSpec, spec: StorageSpec) -> Iterator[Move]:
        name = spec.name
        coming = [each for each in spec.witnesses if each not in before.witnesses]
        going = [each for each in before.witnesses if each not in spec.witnesses]
        if not self._live_witnesses(before, spec):
            edit = Edit(("storages", name, "witnesses"), list(spec.witnesses) or GONE)
            sentence = f"the witnesses of {name} are {in_words(spec.witnesses) or 'none'} from the next start on"
            yield Move(PlanStep("change", "witness", name, sentence, after_restart=True), (edit,), storage=name)
            yield from self._left_over(going)
            return
        witnesses = list(before.witnesses)
        for node in coming:
            witnesses = [*witnesses, node]
            edits: tuple[Edit, ...] = (Edit(("storages", name, "witnesses"), list(witnesses)),)
            if node not in self._old_devices and isinstance(self._new_devices[node], NodeSpec):
                edits = (self._as_wanted("nodes", node), *edits)
            sentence = f"{node} becomes a witness of {name}: it votes, and keeps a label at its end"
            yield Move(PlanStep("add", "witness", f"{name}/{node}", sentence), edits, name=node, storage=name)
        for node in going:
            witnesses = [each for each in witnesses if each != node]
            edits = (Edit(("storages", name, "witnesses"), list(witnesses) or GONE),)
            if node not in self._new_devices:
                edits = (*edits, Edit(("nodes", node), GONE))
            step = PlanStep("remove", "witness", f"{name}/{node}", f"{node} votes no more in {name}")
            yield Move(step, edits, keep_first=False, name=node, storage=name)

    def _live_witnesses(self, before: StorageSpec, spec: StorageSpec) -> bool:
        """The storage is one whose members vote, and it remains that after a restart, too."""
        if not self._live_members(before) or any(
            isinstance(self._old_devices.get(each), StorageSpec) for each in before.witnesses
        ):
            return False
        return all(
            each.options.get("votes") == "members" or each.options.get("standby") is True or bool(each.witnesses)
            for each in (before, spec)
        )

    def _membership(self, before: StorageSpec, spec: StorageSpec) -> Iterator[Move]:
        name = spec.name
        if spec.algorithm not in self._seen.widening:
            raise InvalidRequest(
                f"storages.{name}.nodes: the nodes of a {spec.algorithm} are where its data is, none can come or go; "
                "make a new storage and copy to it, or make each of its nodes a mirror"
            )
        coming = [each for each in spec.nodes if each not in before.nodes]
        going = [each for each in before.nodes if each not in spec.nodes]
        edits: tuple[Edit, ...]
        if not self._live_members(before):
            edits = (Edit(("storages", name, "nodes"), list(spec.nodes)),)
            names = in_words(spec.nodes)
            sentence = f"the nodes of {name}, not served here now, are {names} from the next start on"
            step = PlanStep("change", "storage", name, sentence, destructive=bool(going), after_restart=True)
            yield Move(step, edits, name=name)
            yield from self._left_over(going)
            return
        nodes, size = list(before.nodes), self._seen.sizes.get(name, 0)
        for node in coming:
            nodes = [*nodes, node]
            edits = (Edit(("storages", name, "nodes"), list(nodes)),)
            if node not in self._old_devices and isinstance(self._new_devices[node], NodeSpec):
                edits = (self._as_wanted("nodes", node), *edits)
            step = PlanStep(
                "add",
                "member",
                f"{name}/{node}",
                added_member(name, node, size),
                destructive=True,
                bytes_to_copy=size,
            )
            yield Move(step, edits, name=node, storage=name, wait=bool(going))
        for node in going:
            nodes = [each for each in nodes if each != node]
            edits = (Edit(("storages", name, "nodes"), list(nodes)),)
            stays = node in self._new_devices or isinstance(self._old_devices[node], StorageSpec)
            if not stays:
                edits = (*edits, Edit(("nodes", node), GONE))
            step = PlanStep(
                "remove",
                "member",
                f"{name}/{node}",
                removed_member(name, node, len(nodes), len(before.nodes)),
                destructive=True,
            )
            yield Move(step, edits, keep_first=False, name=node, storage=name)
            if node not in self._new_devices and stays:
                yield self._closing(node)

    def _left_over(self, going: list[str]) -> Iterator[Move]:
        for node in going:
            if node not in self._new_devices and not isinstance(self._old_devices[node], StorageSpec):
                sentence = f"node {node} is there no more from the next start on"
                step = PlanStep("remove", "node", node, sentence, after_restart=True)
                yield Move(step, (Edit(("nodes", node), GONE),), name=node)

    # -- what is left

    def _rest(self) -> Iterator[Move]:
        old, new = self._old_document, self._new_document
        for table in sorted({*old, *new} - set(_SPOKEN_TABLES)):
            before, after = old.get(table, {}), new.get(table, {})
            if not isinstance(before, dict) or not isinstance(after, dict):
                if before != after:
                    yield self._setting((table,), new.get(table, GONE))
                continue
            for key in sorted({*before, *after}):
                if before.get(key, GONE) != after.get(key, GONE):
                    yield self._setting((table, key), after.get(key, GONE))

    def _setting(self, place: tuple[str, ...], value: object) -> Move:
        key = ".".join(place)
        if value is GONE:
            sentence = f"{key} is what it is without being said, from the next start on"
        else:
            said = repr(value) if isinstance(value, str | int | float) else "as written"
            sentence = f"{key} is {said} from the next start on"
        return Move(PlanStep("change", "daemon", key, sentence, after_restart=True), (Edit(place, value),))

    def _as_wanted(self, table: str, name: str) -> Edit:
        tables = self._new_document[table]
        assert isinstance(tables, dict)
        return Edit((table, name), tables[name])
