"""
How a mirror is, for people and for whoever stands above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from dst.algorithms.mirror.explaining_votes import owned_elsewhere, ownership_facts
from dst.algorithms.mirror.facts import member_facts, watched_facts
from dst.algorithms.mirror.member import Member, members_in
from dst.explaining import ScrubRecord
from dst.status import Health, LinkState, MemberState, StatusTree
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror
    from dst.algorithms.mirror.serving import Serving

__all__ = ["Telling"]


class Telling:
    """Makes the status tree of one mirror."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._health_seen: Health | None = None
        self._health_since = 0.0

    def tree(self) -> StatusTree:
        """See L{dst.interfaces.IBlockDevice.status}."""
        children = tuple(self._member_status(member) for member in self._mirror.members if not member.removed)
        health = self._health()
        if health is not self._health_seen:
            if self._health_seen is not None:  # until now it was as it began
                self._health_since = surroundings_of(self._mirror.clock).wall_clock_s()
            self._health_seen = health
        tree = StatusTree(
            name=self._mirror.name,
            kind=self._mirror.kind,
            health=health,
            state=self._mirror.link.value,
            reason=self._reason(),
            since=max(self._mirror.since, self._health_since),
            size=self._mirror.geometry.size,
            detail={**ownership_facts(self._mirror), **watched_facts(self._mirror)},
            children=children,
        )
        serving = self._mirror.serving
        if serving is None:
            return tree
        configuration = serving.configuration
        region_size = serving.label.region_size
        copies = sum(m.ready for m in members_in(self._mirror.members, configuration.in_sync & configuration.usable))
        detail: dict[str, object] = {
            **tree.detail,
            "region_size": region_size,
            "hot_regions": len(serving.hot.regions),
            "unreconciled_regions": len(serving.hot.unreconciled),
            "claim": configuration.record.claim.number,
            "record": configuration.record.sequence,
        }
        if serving.copier.resyncing:
            detail["resync_pace"] = serving.copier.pacer.why_slow or "as fast as the members can"
        scrubs = self._mirror.scrubs()
        if scrubs:
            detail["scrub"] = _scrub_row(scrubs[-1])
        return evolve(
            tree,
            redundancy=max(0, copies - 1),
            dirty_bytes=max((child.dirty_bytes for child in children), default=0),
            detail=detail,
        )

    def _health(self) -> Health:
        if self._mirror.serving is None:
            if owned_elsewhere(self._mirror):
                return Health.HEALTHY  # it is served, and this daemon is there in case that ends
            return Health.FROZEN if self._mirror.link is not LinkState.CLOSED else Health.FAILED
        if self._mirror.serving.configuration.frozen or self._mirror.serving.configuration.short_of_copies:
            return Health.FAILED if self._mirror.serving.data_path.refusing is not None else Health.FROZEN
        everybody = sum(member.bit for member in self._mirror.members if not member.removed)
        configuration = self._mirror.serving.configuration
        below = all(node.status().health is Health.HEALTHY for node in self._mirror.nodes)
        whole = configuration.in_sync & ~configuration.leaving == everybody and below
        return Health.HEALTHY if whole else Health.DEGRADED

    def _reason(self) -> str:
        serving = self._mirror.serving
        if serving is None or serving.configuration.frozen:
            return self._mirror.reason
        if serving.configuration.trouble:
            return serving.configuration.trouble
        in_sync = members_in(self._mirror.members, serving.configuration.in_sync & serving.configuration.usable)
        unreachable = [member.name for member in in_sync if not member.ready]
        words = [f"{', '.join(unreachable)} cannot be reached at the moment"] if unreachable else []
        for state in (MemberState.RESYNCING, MemberState.ABSENT, MemberState.SUSPENDED, MemberState.REFUSED):
            names = [member.name for member in self._mirror.members if member.state is state and not member.removed]
            if names:
                words.append(f"{', '.join(names)} {state.value}")
        return "; ".join(words)

    def _member_status(self, member: Member) -> StatusTree:
        below = member.node.status()
        serving = self._mirror.serving
        dirty = 0
        if serving is not None:
            dirty = self._dirty_regions(serving, member) * serving.label.region_size
        reason = member.reason
        if member.state is MemberState.IN_SYNC and not member.ready:
            reason = reason or member.node.reason
        return evolve(
            below,
            state=member.state.value,
            reason=reason,
            since=member.since,
            dirty_bytes=min(dirty, self._mirror.geometry.size),
            resync=member.progress if member.state is MemberState.RESYNCING else None,
            detail={**below.detail, "link": member.node.link.value, **member_facts(self._mirror, member)},
        )

    def _dirty_regions(self, serving: Serving, member: Member) -> int:
        configuration = serving.configuration
        if configuration.in_sync & member.bit:
            return 0
        if configuration.targets & member.bit:
            return member.dirty_count
        if member.tables is None:
            return serving.hot.count
        source = next(members_in(self._mirror.members, configuration.in_sync), None)
        if source is None or source.tables is None:
            return 0
        differ = member.table.differences(source.table)
        for region in serving.hot.regions:
            differ[region] = 1
        return differ.count(1)


def _scrub_row(scrub: ScrubRecord) -> dict[str, object]:
    """The last one, for people; all of it is told by C{scrubs}."""
    total = scrub.bytes_total
    return {
        "state": scrub.state,
        "began": scrub.began,
        "ended": scrub.ended,
        "percent": round(100 * (total - scrub.bytes_left) / total, 1) if total else 100.0,
        "undecided_bytes": scrub.undecided_bytes,
        "lost_bytes": scrub.lost_bytes,
        "repaired_bytes": scrub.repaired_bytes,
        "found": scrub.waits_for or scrub.sentence,
    }
