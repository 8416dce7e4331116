"""
The mirror as a plugin: its options, checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from zope.interface import implementer

from dst.algorithms.mirror.mirror import Mirror
from dst.algorithms.mirror.serving import MirrorOptions
from dst.algorithms.options import Options
from dst.errors import ConfigurationError
from dst.interfaces import IAlgorithm, IAlgorithmProvider, INode
from dst.label.format import MEMBERS_MAX, VOTES_MAX
from dst.label.votes import valid_quorum
from dst.label.zone import REGION_BYTES_MIN
from dst.recovery.pace import ResyncScheduler
from dst.recovery.record_store import IRecordStore, NoRecordStore, RecordStore
from dst.recovery.state_files import state_files
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["MirrorProvider", "record_store"]

_VOTES = ("owner", "members")

LEASE_S_MIN = 0.5
"""A shorter one would be lost whenever a daemon has much to do at once."""


def record_store(reactor: IReactorTime, state_dir: str | None) -> IRecordStore:
    """Where the owner of a storage keeps its record."""
    if state_dir is None:
        return NoRecordStore()
    return RecordStore(state_files(reactor, state_dir), entropy=surroundings_of(reactor).entropy)


@implementer(IAlgorithmProvider)
class MirrorProvider:
    """Makes mirrors."""

    algorithm = "mirror"

    claims_nodes = True
    """It owns what it stands on: devices of the same daemon are put behind a fence for it."""

    changes_members = True
    """Nodes can come and go while it serves."""

    def __init__(self) -> None:
        self._schedulers: WeakKeyDictionary[object, ResyncScheduler] = WeakKeyDictionary()

    def storage(
        self,
        reactor: IReactorTime,
        name: str,
        nodes: Sequence[INode],
        options: dict[str, object],
        state_dir: str | None,
        *,
        witnesses: Sequence[INode] = (),
        owner_name: str = "",
    ) -> IAlgorithm:
        """See L{IAlgorithmProvider.storage}."""
        given = Options(f"storage {name}", options)
        chosen = MirrorOptions(
            region_size=given.power_of_two("region_size", 0, REGION_BYTES_MIN, 1 << 30),
            hot_regions=given.integer("hot_regions", 0, 1, 1 << 17),
            on_loss=given.choice("on_loss", "freeze", ("freeze", "error")),
            freeze_s=given.seconds("freeze_s", 30.0),
            start_wait_s=given.seconds("start_wait_s", 3.0),
            grace_s=given.seconds("grace_s", 8.0),
            votes=given.choice("votes", "members" if witnesses or options.get("standby") else "owner", _VOTES),
            quorum=given.word_or_integer("quorum", "majority", ("majority", "all"), 1, VOTES_MAX),
            minimum_copies=given.integer("minimum_copies", 1, 1, MEMBERS_MAX),
            lease_s=given.seconds("lease_s", 3.0),
            standby=given.boolean("standby", False),
            takeover_s=given.seconds("takeover_s", 2.0),
            slow_s=given.seconds("slow_s", 5.0),
            flap_hold_s=given.seconds("flap_hold_s", 15.0),
            resync_floor=given.share("resync_floor", 0.10),
            resync_ceiling=given.share("resync_ceiling", 0.60),
            scrub_s=given.days("scrub_days", 30.0) * 86400,
        )
        given.done()
        given.count(len(nodes), 1, MEMBERS_MAX)
        _check_votes(name, len(nodes), len(witnesses), chosen)
        surroundings = surroundings_of(reactor)
        return Mirror(
            reactor,
            name,
            nodes,
            chosen,
            record_store(reactor, state_dir),
            entropy=surroundings.entropy,
            witnesses=witnesses,
            owner_name=owner_name,
            now=surroundings.boot_clock_s,
            # All storages on one reactor are of one daemon.
            scheduler=self._schedulers.setdefault(reactor, ResyncScheduler()),
            files=None if state_dir is None else state_files(reactor, state_dir),
        )


def _check_votes(name: str, nodes: int, witnesses: int, options: MirrorOptions) -> None:
    """What can be known of the votes before any node was seen."""
    where = f"storage {name}"
    if options.votes == "owner" and (witnesses or options.standby):
        raise ConfigurationError(
            f'{where}: votes = "owner" means that no other daemon can ever own the storage; '
            "leave out witnesses and standby, or the votes"
        )
    if options.minimum_copies > nodes:
        raise ConfigurationError(
            f"{where}: minimum_copies = {options.minimum_copies}, and there are only {nodes} nodes: "
            "nothing could be written"
        )
    if options.lease_s < LEASE_S_MIN:
        raise ConfigurationError(f"{where}: lease_s = {options.lease_s:g}, expected {LEASE_S_MIN:g} or more")
    if options.resync_floor > options.resync_ceiling:
        raise ConfigurationError(
            f"{where}: resync_floor = {options.resync_floor:g} is above resync_ceiling = {options.resync_ceiling:g}"
        )
    wrong = ""
    if options.votes == "members" and isinstance(options.quorum, int):
        votes = nodes + witnesses
        wrong = valid_quorum(options.quorum, votes + (votes % 2 == 0))
    if wrong:
        raise ConfigurationError(f"{where}: {wrong}")
