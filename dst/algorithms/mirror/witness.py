"""
A witness: a vote with a label and no data.

Any node that fences will do, a file of 64 KiB is enough. It keeps the record, so that a majority can be had where
members alone are an even number, or where both of them cannot be seen by whoever has to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dst.algorithms.mirror.owning import Ownership
from dst.errors import BadMedia, DSTError
from dst.interfaces import INode, StopObserving
from dst.label.format import Epoch, FoundLabel, Label, Record
from dst.label.lineage import Lineage, lineage
from dst.label.zone import LABELS_BYTES
from dst.recovery.label_store import LabelStore
from dst.status import LinkState

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Witness", "Witnesses", "witness_label"]

_log = Logger()

_RETRY_S = 2.0
"""How often a witness that could not be admitted is tried again."""


class Witness:
    """
    @ivar node_id: the identity on its media; C{b""} while it has none in this storage.
    @ivar granted: its node is promised to this owner.
    @ivar found: what its media says, read since its node was ready last.
    @ivar reason: one sentence why it does not vote; C{""} when it does.
    @ivar busy: it is being admitted, perhaps still by the service that was before this one.
    @ivar when_idle: called, once, when that has ended.
    @ivar resolved: a person has given up what it says beside the storage's history, up to this record.
    @ivar removed: its vote is not wanted any more; it is asked as long as it counts.
    """

    def __init__(self, node: INode) -> None:
        self.node = node
        self.removed = False
        self.node_id = b""
        self.granted = False
        self.found: FoundLabel | None = None
        self.incarnation = b""
        self.labels: LabelStore | None = None
        self.reason = "not seen yet"
        self.busy = False
        self.when_idle: Callable[[Witness], None] = _nothing
        self.resolved: Record | None = None
        self.retry: IDelayedCall | None = None
        self.unobserve: StopObserving = _nothing

    @property
    def name(self) -> str:
        """Its node's name."""
        return self.node.name

    @property
    def given_up(self) -> bool:
        """Of what its label says a person knew when another history was chosen."""
        label = self.found.label if self.found is not None else None
        if label is None or self.resolved is None:
            return False
        return lineage(label.record, self.resolved) in (Lineage.SAME, Lineage.ANCESTOR)

    @property
    def ready(self) -> bool:
        """Its node can be used now."""
        return self.node.link is LinkState.READY

    async def look(self) -> None:
        """Read its label; what is wrong with it is its C{reason}."""
        self.labels = LabelStore(self.node)
        self.found = None
        try:
            if self.node.geometry.size < LABELS_BYTES:
                size = self.node.geometry.size
                raise BadMedia(f"{size} bytes are too few for a witness, {LABELS_BYTES} are needed")
            if self.node.geometry.read_only:
                raise BadMedia("it is read-only")
            self.found = await self.labels.read()
            self.incarnation = self.node.incarnation
            self.reason = ""
        except DSTError as error:
            self.reason = str(error)

    def check_storage(self, storage: Label) -> None:
        """
        @raise BadMedia: it is known to be something else than a witness of C{storage}, or new.
        """
        label = self.found.label if self.found is not None else None
        if label is not None and (label.storage_id != storage.storage_id or label.data_size):
            what = "a member" if label.storage_id == storage.storage_id else "part of another storage"
            raise BadMedia(f"it is {what}, not a witness of this storage; it was not touched")

    async def admit(self, storage: Label, record: Record, new_id: Callable[[], bytes]) -> None:
        """
        Make it a witness of C{storage}, which is owned and whose claim it has granted, with C{record}.

        @raise BadMedia: it is something else.
        """
        await self.look()
        found = self.found
        if found is None:
            raise BadMedia(self.reason)
        self.check_storage(storage)
        assert self.labels is not None
        label = found.label
        if found.unlabelled:
            self.node_id = new_id()
            await self.labels.write(witness_label(storage, self, record))
        elif label is None:
            raise BadMedia(f"both its label slots are unusable ({found.damage}); nothing is overwritten")
        elif lineage(label.record, record) is Lineage.DESCENDANT:
            raise BadMedia("it has seen a newer owner of this storage")
        else:
            self.node_id = label.node_id
            await self.labels.set_record(record, resolved=self.given_up)
            self.resolved = None
        self.found = FoundLabel(self.labels.label)


def witness_label(storage: Label, witness: Witness, record: Record) -> Label:
    """The first label of C{witness}."""
    size = witness.node.geometry.size
    return storage.evolve(
        sequence=0,
        node_id=witness.node_id,
        place=0,
        consistent=False,
        since=Epoch(),
        media_size=size,
        zone_offset=size,
        data_size=0,
        region_size=0,
        unit=0,
        record=record,
    )


class Witnesses:
    """
    The witnesses of one serving storage: admitted when they can be reached, and again when that fails.
    """

    def __init__(
        self,
        clock: IReactorTime,
        witnesses: Sequence[Witness],
        ownership: Ownership,
        storage: Label,
        record: Callable[[], Record],
        votes_changed: Callable[[], None],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._clock = clock
        self._witnesses = witnesses
        self._ownership = ownership
        self._storage = storage
        self._record = record
        self._votes_changed = votes_changed
        self._entropy = entropy
        self._admitted: set[Witness] = set()
        self._stopped = False

    def consider_all(self) -> None:
        """Admit everybody who can be."""
        for witness in self._witnesses:
            self.consider(witness)

    def consider(self, witness: Witness) -> None:
        """Something about C{witness} has changed."""
        if not witness.ready:
            witness.found, witness.reason = None, witness.node.reason
            self._admitted.discard(witness)
            return
        current = witness.granted and witness in self._admitted and not witness.reason
        if self._stopped or witness.retry is not None or current:
            return
        if witness.busy:
            witness.when_idle = self.consider
            return
        witness.busy = True
        Deferred.fromCoroutine(self._admit(witness)).addErrback(
            lambda failure: _log.failure("admitting a witness failed", failure)
        )

    async def _admit(self, witness: Witness) -> None:
        self._admitted.discard(witness)
        try:
            if not witness.granted:
                # Not what is another storage's: its owner may be away for a moment only.
                await witness.look()
                witness.check_storage(self._storage)
            await self._ownership.admit(witness)
            await witness.admit(self._storage, self._record(), lambda: self._entropy(16))
            self._admitted.add(witness)
        except DSTError as error:
            witness.found, witness.reason = None, str(error)
            if not self._stopped and witness in self._witnesses:
                witness.retry = self._clock.callLater(_RETRY_S, self._again, witness)
        finally:
            witness.busy = False
        waiting, witness.when_idle = witness.when_idle, _nothing
        waiting(witness)
        if not self._stopped and witness in self._witnesses:
            self.consider(witness)  # it may have gone and come while it was being admitted
            self._votes_changed()

    def lost(self, holder: object) -> None:
        """Its node is not promised to this daemon any more."""
        for witness in self._witnesses:
            if witness is holder:
                witness.found, witness.reason = None, "it was claimed by another daemon"
                self._admitted.discard(witness)
                self.consider(witness)

    def forget(self, witness: Witness) -> None:
        """It is a witness no more."""
        self._admitted.discard(witness)
        if witness.retry is not None:
            witness.retry.cancel()
            witness.retry = None

    def _again(self, witness: Witness) -> None:
        witness.retry = None
        self.consider(witness)

    def stop(self) -> None:
        """Nobody is admitted any more."""
        self._stopped = True
        for witness in self._witnesses:
            if witness.retry is not None:
                witness.retry.cancel()
                witness.retry = None


def _nothing(*_: object) -> None:
    """Nothing is observed, and nobody waits."""
