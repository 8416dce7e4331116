"""
Steps about devices: nodes, slices and storages that come, go and change.
"""

from __future__ import annotations

from collections.abc import Iterator

from dst.administration import PlanStep
from dst.cluster.difference import Difference, same_media
from dst.cluster.moves import GONE, Edit, Move
from dst.cluster.plan_words import in_words, replaced_member
from dst.cluster.rules import storage_order
from dst.cluster.topology import NodeSpec, SliceSpec, StorageSpec
from dst.errors import InvalidRequest

__all__ = ["DeviceMoves", "closing"]


def closing(name: str) -> Move:
    """The storage of this name goes."""
    sentence = f"storage {name} is closed and served no more; what is on its nodes stays there"
    step = PlanStep("remove", "storage", name, sentence, destructive=True)
    return Move(step, (Edit(("storages", name), GONE),), keep_first=False, name=name)


class DeviceMoves:
    """
    From the devices that run to those that are wanted, but for what happens inside of a storage.
    """

    def __init__(self, between: Difference) -> None:
        self._between = between

    def devices_that_go(self, *, late: bool = False) -> Iterator[Move]:
        """
        Each before what is below it.

        @param late: those that what leaves a mirror stands on; else all others.
        """
        between = self._between
        gone = [name for name in between.old_devices if between.goes(name) and self._goes_late(name) is late]
        above = [spec.name for spec in reversed(storage_order(self._between.old))]
        for name in sorted(gone, key=lambda name: above.index(name) if name in above else len(above)):
            if self._between.leaves(name):
                if name in self._between.new_devices:
                    raise InvalidRequest(
                        f"{name!r} is a member of {between.members[name].name!r} and cannot become something "
                        "else there; give the new device a name of its own"
                    )
            elif isinstance(self._between.old_devices[name], StorageSpec):
                yield closing(name)
            else:
                yield self._removal(name, f"node {name} is closed; what it holds stays there")

    def _goes_late(self, name: str) -> bool:
        users = [user for user in self._between.users(name) if self._between.goes(user)]
        return any(self._between.leaves(user) or self._goes_late(user) for user in users)

    def _removal(self, name: str, sentence: str) -> Move:
        return Move(
            PlanStep("remove", "node", name, sentence), (Edit(("nodes", name), GONE),), keep_first=False, name=name
        )

    def devices_that_come(self) -> Iterator[Move]:
        """Each after what is below it, but for those that a mirror opens itself."""
        joining = self._joining()
        for spec in self._between.new.nodes:
            if self._between.comes(spec.name) and spec.name not in joining:
                yield self._addition("node", spec.name, f"node {spec.name} is opened: {spec.uri}")
        for above in storage_order(self._between.new):
            if not self._between.comes(above.name) or above.name in joining:
                continue
            if isinstance(above, SliceSpec):
                sentence = f"{above.name} is opened: {above.size} bytes of {above.parent} from {above.start}"
                yield self._addition("node", above.name, sentence)
            else:
                members = in_words(above.nodes)
                sentence = f"storage {above.name} is opened: a {above.algorithm} of {members}"
                yield self._addition("storage", above.name, sentence)

    def _addition(self, kind: str, name: str, sentence: str) -> Move:
        edits = (self._between.as_wanted("storages" if kind == "storage" else "nodes", name),)
        return Move(PlanStep("add", kind, name, sentence), edits, name=name)

    def _joining(self) -> set[str]:
        """New nodes that are opened by the mirror that they become part of."""
        joining: set[str] = set()
        for spec in self._between.new.storages:
            before = self._between.old_devices.get(spec.name)
            if isinstance(before, StorageSpec) and self._between.live_members(before):
                joining |= {name for name in spec.nodes if name not in before.nodes}
                if self._between.live_witnesses(before, spec):
                    joining |= {name for name in spec.witnesses if name not in before.witnesses}
        return {name for name in joining if isinstance(self._between.new_devices[name], NodeSpec)}

    def devices_that_change(self) -> Iterator[Move]:
        """Nodes and slices that stay, and become others."""
        for name, spec in self._between.new_devices.items():
            before = self._between.old_devices.get(name)
            if isinstance(spec, NodeSpec) and isinstance(before, NodeSpec) and spec != before:
                yield self._node(before, spec)
            elif isinstance(spec, SliceSpec) and isinstance(before, SliceSpec) and spec != before:
                yield self._slice(before, spec)

    def _node(self, before: NodeSpec, spec: NodeSpec) -> Move:
        name, edits = spec.name, (self._between.as_wanted("nodes", spec.name),)
        storage = self._between.members.get(name)
        if self._goes_late(name):
            raise InvalidRequest(f"nodes.{name}: what stands on it leaves a mirror; make this in two changes")
        if all(self._between.goes(user) for user in self._between.users(name)):
            sentence = f"node {name} is closed and opened again, as {spec.uri}; clients of it are cut off"
            return Move(PlanStep("change", "node", name, sentence), edits, name=name)
        if same_media(before, spec, self._between.base_dir):
            sentence = f"node {name} is used in another way from the next start on"
            return Move(PlanStep("change", "node", name, sentence, after_restart=True), edits, name=name)
        wanted = self._between.new_devices.get(storage.name) if storage is not None else None
        if storage is not None and isinstance(wanted, StorageSpec) and name not in (*wanted.nodes, *wanted.witnesses):
            raise InvalidRequest(
                f"nodes.{name}: it leaves {storage.name!r} and becomes {spec.uri} at once; make this in two changes"
            )
        if storage is not None and name in storage.nodes and self._between.live_members(storage):
            size = self._between.seen.sizes.get(storage.name, 0)
            rate = self._between.seen.copy_bytes_per_s.get(storage.name)
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
        name, edits = spec.name, (self._between.as_wanted("nodes", spec.name),)
        moved = (before.parent, before.start) != (spec.parent, spec.start)
        if spec.size < before.size or moved:
            how = "lie elsewhere" if moved else f"have {spec.size} bytes instead of {before.size}"
            raise InvalidRequest(
                f"nodes.{name}: the slice {name!r} would {how}, and what it holds would be lost in silence; "
                "make a new slice beside it, and replace or copy"
            )
        after_restart = bool(self._between.users(name))
        sentence = f"slice {name} grows from {before.size} to {spec.size} bytes"
        if after_restart:
            sentence += " from the next start on; `dst storage grow` makes the storage above it use them"
        return Move(PlanStep("change", "node", name, sentence, after_restart=after_restart), edits, name=name)
