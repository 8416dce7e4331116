"""
Steps about one storage that stays: its members, its witnesses, its options.
"""

from __future__ import annotations

from collections.abc import Iterator

from dst.administration import PlanStep
from dst.cluster.difference import Difference
from dst.cluster.moves import GONE, Edit, Move
from dst.cluster.plan_devices import closing
from dst.cluster.plan_words import added_member, in_words, removed_member
from dst.cluster.topology import NodeSpec, StorageSpec
from dst.errors import InvalidRequest

__all__ = ["StorageMoves"]


class StorageMoves:
    """
    From what a storage is to what it shall be.
    """

    def __init__(self, between: Difference) -> None:
        self._between = between

    def storages(self) -> Iterator[Move]:
        """Of all storages that stay, in the order in which they are wanted."""
        for spec in self._between.new.storages:
            before = self._between.old_devices.get(spec.name)
            if isinstance(before, StorageSpec):
                yield from self._storage(before, spec)

    def _storage(self, before: StorageSpec, spec: StorageSpec) -> Iterator[Move]:
        name = spec.name
        if spec.algorithm != before.algorithm:
            raise InvalidRequest(
                f"storages.{name}: {name!r} is a {before.algorithm} and cannot become a {spec.algorithm}, its data "
                f"lies in another way there; make a new {spec.algorithm} of other nodes and copy to it (nbdcopy)"
            )
        if set(spec.nodes) != set(before.nodes):
            yield from self._membership(before, spec)
        elif spec.nodes != before.nodes and spec.algorithm not in self._between.seen.widening:
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
        if not self._between.live_witnesses(before, spec):
            edit = Edit(("storages", name, "witnesses"), list(spec.witnesses) or GONE)
            sentence = f"the witnesses of {name} are {in_words(spec.witnesses) or 'none'} from the next start on"
            yield Move(PlanStep("change", "witness", name, sentence, after_restart=True), (edit,), storage=name)
            yield from self._left_over(going)
            return
        witnesses = list(before.witnesses)
        for node in coming:
            witnesses = [*witnesses, node]
            edits: tuple[Edit, ...] = (Edit(("storages", name, "witnesses"), list(witnesses)),)
            if node not in self._between.old_devices and isinstance(self._between.new_devices[node], NodeSpec):
                edits = (self._between.as_wanted("nodes", node), *edits)
            sentence = f"{node} becomes a witness of {name}: it votes, and keeps a label at its end"
            yield Move(PlanStep("add", "witness", f"{name}/{node}", sentence), edits, name=node, storage=name)
        for node in going:
            witnesses = [each for each in witnesses if each != node]
            edits = (Edit(("storages", name, "witnesses"), list(witnesses) or GONE),)
            if node not in self._between.new_devices:
                edits = (*edits, Edit(("nodes", node), GONE))
            step = PlanStep("remove", "witness", f"{name}/{node}", f"{node} votes no more in {name}")
            yield Move(step, edits, keep_first=False, name=node, storage=name)

    def _membership(self, before: StorageSpec, spec: StorageSpec) -> Iterator[Move]:
        name = spec.name
        if spec.algorithm not in self._between.seen.widening:
            raise InvalidRequest(
                f"storages.{name}.nodes: the nodes of a {spec.algorithm} are where its data is, none can come or go; "
                "make a new storage and copy to it, or make each of its nodes a mirror"
            )
        coming = [each for each in spec.nodes if each not in before.nodes]
        going = [each for each in before.nodes if each not in spec.nodes]
        edits: tuple[Edit, ...]
        if not self._between.live_members(before):
            edits = (Edit(("storages", name, "nodes"), list(spec.nodes)),)
            names = in_words(spec.nodes)
            sentence = f"the nodes of {name}, not served here now, are {names} from the next start on"
            step = PlanStep("change", "storage", name, sentence, destructive=bool(going), after_restart=True)
            yield Move(step, edits, name=name)
            yield from self._left_over(going)
            return
        nodes, size = list(before.nodes), self._between.seen.sizes.get(name, 0)
        for node in coming:
            nodes = [*nodes, node]
            edits = (Edit(("storages", name, "nodes"), list(nodes)),)
            if node not in self._between.old_devices and isinstance(self._between.new_devices[node], NodeSpec):
                edits = (self._between.as_wanted("nodes", node), *edits)
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
            stays = node in self._between.new_devices or isinstance(self._between.old_devices[node], StorageSpec)
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
            if node not in self._between.new_devices and stays:
                yield closing(node)

    def _left_over(self, going: list[str]) -> Iterator[Move]:
        for node in going:
            if node not in self._between.new_devices and not isinstance(self._between.old_devices[node], StorageSpec):
                sentence = f"node {node} is there no more from the next start on"
                step = PlanStep("remove", "node", node, sentence, after_restart=True)
                yield Move(step, (Edit(("nodes", node), GONE),), name=node)
