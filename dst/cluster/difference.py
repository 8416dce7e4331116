"""
What is between two configurations: what runs, and what is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from dst.cluster.document import Document, read_document
from dst.cluster.moves import Edit
from dst.cluster.topology import NodeSpec, StorageSpec, absolute_uri

__all__ = ["Difference", "Seen", "same_media"]


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


def same_media(one: NodeSpec, other: NodeSpec, base_dir: str) -> bool:
    """Whether two nodes are the same media, reached in another way."""
    media = []
    for spec in (one, other):
        uri = absolute_uri(spec.uri, base_dir)
        media.append(uri if "+unix" in spec.scheme else uri.partition("?")[0])
    return media[0] == media[1] and one.scheme != "memory"


class Difference:
    """
    Both of them, and what stays, goes and comes.

    @ivar old: what runs.
    @ivar new: what is wanted.
    @ivar members: the storage that each member or witness of what runs stands below.
    """

    def __init__(self, running: Document, wanted: Document, seen: Seen, base_dir: str) -> None:
        self.base_dir = base_dir
        self.seen = seen
        self.old_document, self.new_document = running, wanted
        self.old = read_document(running, base_dir).topology
        self.new = read_document(wanted, base_dir).topology
        self.old_devices = {spec.name: spec for spec in self.old.devices()}
        self.new_devices = {spec.name: spec for spec in self.new.devices()}
        self.members = {name: spec for spec in self.old.storages for name in (*spec.nodes, *spec.witnesses)}

    def goes(self, name: str) -> bool:
        """It is there no more, or something of another kind."""
        return type(self.old_devices[name]) is not type(self.new_devices.get(name))

    def comes(self, name: str) -> bool:
        """It was not there, or is something of another kind."""
        return type(self.new_devices[name]) is not type(self.old_devices.get(name))

    def leaves(self, name: str) -> bool:
        """It goes as a member of a storage that stays."""
        user = self.members.get(name)
        return user is not None and not self.goes(user.name)

    def users(self, name: str) -> list[str]:
        """What stands on it."""
        slices = [spec.name for spec in self.old.slices if spec.parent == name]
        return [*slices, self.members[name].name] if name in self.members else slices

    def live_members(self, storage: StorageSpec) -> bool:
        """Its members can come and go while it serves."""
        return storage.algorithm in self.seen.widening and storage.name in self.seen.serving

    def live_witnesses(self, before: StorageSpec, spec: StorageSpec) -> bool:
        """The storage is one whose members vote, and it remains that after a restart, too."""
        if not self.live_members(before) or any(
            isinstance(self.old_devices.get(each), StorageSpec) for each in before.witnesses
        ):
            return False
        return all(
            each.options.get("votes") == "members" or each.options.get("standby") is True or bool(each.witnesses)
            for each in (before, spec)
        )

    def as_wanted(self, table: str, name: str) -> Edit:
        """The table is as it is in the wanted document."""
        tables = self.new_document[table]
        assert isinstance(tables, dict)
        return Edit((table, name), tables[name])
