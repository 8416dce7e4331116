"""
Why a mirror is as it is: what decided, what happens next by itself and when, and what a person can do.

Nothing here decides: it reads what those who decide have kept, down to the table row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from dst.algorithms.explained import identity_in_words, record_in_words
from dst.algorithms.mirror.explaining_members import SETTLE_S, MembersExplained, seconds_until
from dst.algorithms.mirror.explaining_starts import explain_start
from dst.algorithms.mirror.member import members_in
from dst.explaining import Explanation
from dst.explaining_trees import NOBODY, explain_tree, from_below
from dst.status import Health, LinkState, StatusTree

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror
    from dst.algorithms.mirror.serving import Serving

__all__ = ["Explaining"]


class Explaining:
    """Explains one mirror."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._members = MembersExplained(mirror)

    def explanation(self) -> Explanation:
        """See L{IAlgorithm.explain}."""
        mirror = self._mirror
        tree = mirror.status()
        members = [member for member in mirror.members if not member.removed]
        children = tuple(
            self._members.explain(member, child) for member, child in zip(members, tree.children, strict=True)
        )
        explanation = evolve(explain_tree(evolve(tree, children=())), evidence=(), children=children)
        serving = mirror.serving
        if mirror.link is LinkState.CLOSED:
            return evolve(
                explanation,
                evidence=("it was closed in this daemon",),
                next_step=NOBODY,
                advice=("start the daemon again",),
            )
        if serving is None:
            return explain_start(mirror, explanation)
        explanation = evolve(explanation, evidence=self._evidence(serving))
        if serving.configuration.frozen:
            return self._frozen(serving, explanation)
        if tree.health is Health.HEALTHY:
            return evolve(explanation, next_step="", condition="", within_s=None)
        return self._degraded(serving, explanation, tree)

    def _evidence(self, serving: Serving) -> tuple[str, ...]:
        configuration = serving.configuration
        facts = [
            record_in_words(configuration.record),
            f"storage {identity_in_words(serving.label.storage_id)}, "
            f"incarnation {identity_in_words(configuration.record.incarnation)}",
        ]
        hot, unequal = len(serving.hot.regions), len(serving.hot.unreconciled)
        facts.append(f"{hot} regions are hot: written to, or not yet proved stable on every copy")
        if unequal:
            facts.append(
                f"{unequal} regions may differ between copies after an unclean stop; each is made equal before it is "
                "read or written"
            )
        if configuration.trouble:
            facts.append(configuration.trouble)
        return tuple(facts)

    def _frozen(self, serving: Serving, explanation: Explanation) -> Explanation:
        mirror = self._mirror
        configuration = serving.configuration
        last = list(members_in(mirror.members, configuration.in_sync))
        names = " or ".join(member.name for member in last)
        waiting = explanation.evidence
        if serving.data_path.refusing is not None:
            waiting = (*waiting, f"operations fail at once: they waited for freeze_s = {mirror.options.freeze_s:g} s")
        elif mirror.freeze_timer is not None:
            left_s = seconds_until(mirror.freeze_timer, mirror.clock)
            waiting = (*waiting, f"operations wait, and fail in {left_s:.0f} s if they still wait then")
        else:
            waiting = (*waiting, "operations wait for as long as it takes; none is lost")
        return evolve(
            explanation,
            evidence=waiting,
            next_step="it serves again when a copy with the latest data can be used; operations that wait go on",
            condition=f"{names} can be reached",
            within_s=SETTLE_S,
            advice=(
                f"bring back {names}: everything goes on by itself",
                "an older copy is never served by itself. If the latest is lost for ever: restart this daemon "
                f"without it, and `dst mark-clean {mirror.name} NODE` goes on with an older copy; what was written "
                "since is lost",
            ),
        )

    def _degraded(self, serving: Serving, explanation: Explanation, tree: StatusTree) -> Explanation:
        if serving.configuration.trouble:
            return evolve(
                explanation,
                next_step="the record is written again every second; until then a write that a member has missed is "
                "not acknowledged",
                condition="the state directory can be written",
                within_s=SETTLE_S,
                advice=("make room in, or repair, the file system of the state directory",),
            )
        advice = (
            ("nothing more can be lost: bring a member back now",)
            if tree.redundancy == 0
            else (f"{tree.redundancy} more can be lost without losing data",)
        )
        return from_below(evolve(explanation, advice=advice))
