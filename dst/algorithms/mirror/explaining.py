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
from dst.algorithms.mirror.explaining_votes import votes_in_words
from dst.algorithms.mirror.member import members_in
from dst.explaining import Explanation
from dst.explaining_trees import NOBODY, explain_tree, from_below, summary_of
from dst.label.votes import needed
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
        explanation = evolve(
            explain_tree(evolve(tree, children=())), summary=summary_of(tree), evidence=(), children=children
        )
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
        if serving.configuration.frozen or serving.configuration.short_of_copies:
            return self._frozen(serving, explanation)
        if tree.health is Health.HEALTHY:
            return evolve(explanation, next_step="", condition="", within_s=None)
        return self._degraded(serving, explanation, tree)

    def _evidence(self, serving: Serving) -> tuple[str, ...]:
        configuration = serving.configuration
        facts = [
            *votes_in_words(self._mirror),
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
        explanation = evolve(explanation, evidence=(*explanation.evidence, self._waiting(serving)))
        if configuration.no_quorum:
            return self._no_quorum(serving, explanation)
        if configuration.usable:
            return self._short_of_copies(serving, explanation)
        last = list(members_in(mirror.members, configuration.in_sync))
        names = " or ".join(member.name for member in last)
        return evolve(
            explanation,
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

    def _waiting(self, serving: Serving) -> str:
        """What becomes of operations meanwhile."""
        mirror = self._mirror
        if serving.data_path.refusing is not None:
            return f"operations fail at once: they waited for freeze_s = {mirror.options.freeze_s:g} s"
        if mirror.freeze_timer is not None:
            left_s = seconds_until(mirror.freeze_timer, mirror.clock)
            return f"operations wait, and fail in {left_s:.0f} s if they still wait then"
        return "operations wait for as long as it takes; none is lost"

    def _no_quorum(self, serving: Serving, explanation: Explanation) -> Explanation:
        mirror = self._mirror
        record = serving.configuration.record
        number = needed(len(record.votes), mirror.ownership.quorum)
        names = ", ".join(sorted(vote.name for vote in record.votes))
        return evolve(
            explanation,
            summary=f"{mirror.name} is frozen: {serving.configuration.no_quorum}",
            next_step="it serves again when enough votes were heard from, unless another daemon was granted them",
            condition=f"{number} of {names} can be reached from here",
            within_s=SETTLE_S + mirror.options.lease_s,
            advice=(
                "look at the network between this daemon and the nodes that are away, and at those nodes",
                "if another daemon owns it by now, this one stands by: nothing has to be done here",
                f"if the votes are gone for good and no other daemon serves it: `dst mark-clean {mirror.name} NODE` "
                "goes on with that copy; what others have written is lost",
            ),
        )

    def _short_of_copies(self, serving: Serving, explanation: Explanation) -> Explanation:
        mirror = self._mirror
        below = from_below(explanation)
        return evolve(
            below,
            next_step=f"changes go on when enough copies are in sync; {below.next_step}",
            advice=(
                "bring a member back: what it missed is copied, and changes go on",
                f"or lower `minimum_copies` of {mirror.name}, now {mirror.options.minimum_copies}, and restart the "
                "daemon: changes are then acknowledged with fewer copies",
            ),
        )

    def _degraded(self, serving: Serving, explanation: Explanation, tree: StatusTree) -> Explanation:
        if serving.configuration.trouble:
            return evolve(
                explanation,
                next_step="the record is written again every second; until then a write that a member has missed is "
                "not acknowledged",
                condition="what the sentence above names has ended",
                within_s=SETTLE_S,
                advice=(
                    "bring back the nodes that vote; if it is the state directory, make room in it or repair its "
                    "file system",
                ),
            )
        advice = (
            ("nothing more can be lost: bring a member back now",)
            if tree.redundancy == 0
            else (f"{tree.redundancy} more can be lost without losing data",)
        )
        return from_below(evolve(explanation, advice=advice))
