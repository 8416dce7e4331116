"""
When a finding is told: not before it has lasted, and not as over before it has stayed away.

What is found changes with every blip. What people and alerts are told must not: each code has the times after which
it is raised and cleared (L{dst.health.codes}).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import define, evolve, field, frozen

from dst.administration import HealthFinding
from dst.health.codes import code_named

__all__ = ["FINDINGS_MAX", "Change", "Steady"]

FINDINGS_MAX: Final = 10_000
"""What is remembered at most: nobody reads more, and each of a thousand storages may have some ten members away."""

_SEVERITY = {"critical": 0, "warning": 1, "info": 2}


@frozen
class Change:
    """
    A finding that is told.

    @ivar raised: it begins; otherwise it is over.
    """

    finding: HealthFinding
    raised: bool


@define
class _Kept:
    """
    @ivar first: when it was seen first, on the clock that does not jump.
    @ivar last: when it was seen last.
    @ivar told: it was raised.
    @ivar fading: it was not seen when its owner was looked at last.
    """

    finding: HealthFinding
    owner: str
    first: float
    last: float
    told: bool = False
    fading: bool = False


@define
class Steady:
    """What was found lately, by what it was found on."""

    _kept: dict[tuple[str, str], _Kept] = field(factory=dict)
    _by_owner: dict[str, set[tuple[str, str]]] = field(factory=dict)

    def take(self, owner: str, found: Iterable[HealthFinding], now: float, wall_s: float) -> list[Change]:
        """
        C{owner} was looked at, and this was found: all there is of it.

        @param owner: what was looked at: the name of a device, or C{""} for the daemon.
        @param now: seconds, on a clock that does not jump.
        @param wall_s: seconds of the epoch: since when what is new is so.
        """
        changes: list[Change] = []
        seen = set()
        for finding in found:
            key = (finding.code, finding.subject)
            seen.add(key)
            kept = self._kept.get(key)
            if kept is None:
                if len(self._kept) >= FINDINGS_MAX:
                    continue
                kept = self._kept[key] = _Kept(evolve(finding, since=wall_s), owner, now, now)
                self._by_owner.setdefault(owner, set()).add(key)
            else:
                kept.last, kept.fading = now, False
                if kept.finding.sentence != finding.sentence:
                    kept.finding = evolve(finding, since=kept.finding.since)
            if not kept.told and now - kept.first >= code_named(finding.code).raised_after_s:
                kept.told = True
                changes.append(Change(kept.finding, True))
        for key in self._by_owner.get(owner, set()) - seen:
            kept = self._kept[key]
            kept.fading = True
            if not kept.told or now - kept.last >= code_named(key[0]).cleared_after_s:
                self._drop(key)
                if kept.told:
                    changes.append(Change(kept.finding, False))
        return changes

    def forget(self, owner: str) -> list[Change]:
        """C{owner} is not there any more: what was wrong with it is over."""
        over = []
        for key in list(self._by_owner.get(owner, ())):
            kept = self._kept[key]
            self._drop(key)
            if kept.told:
                over.append(Change(kept.finding, False))
        return over

    def unsettled(self, owner: str) -> bool:
        """Whether time alone may change what is told of C{owner}: look at it again soon."""
        kept = (self._kept[key] for key in self._by_owner.get(owner, ()))
        return any(not each.told or each.fading for each in kept)

    def findings(self) -> list[HealthFinding]:
        """What is told now, the gravest first."""
        told = [kept.finding for kept in self._kept.values() if kept.told]
        return sorted(told, key=lambda each: (_SEVERITY[each.severity.value], each.subject, each.code))

    def _drop(self, key: tuple[str, str]) -> None:
        owner = self._kept.pop(key).owner
        keys = self._by_owner[owner]
        keys.discard(key)
        if not keys:
            del self._by_owner[owner]
