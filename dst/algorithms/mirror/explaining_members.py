"""
Why a member of a mirror is as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from dst.algorithms.explained import advice_for, identity_in_words, label_in_words
from dst.algorithms.mirror.copying import PAUSED
from dst.algorithms.mirror.explaining_votes import owned_elsewhere
from dst.algorithms.mirror.member import members_in
from dst.explaining import Explanation
from dst.explaining_trees import NOBODY, NODE_BACK_S_MAX, explain_node
from dst.label.format import FoundLabel
from dst.status import Health, MemberState, StatusTree, worst_health
from dst.words import duration_in_words, rate_in_words, size_in_words

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from dst.algorithms.mirror.member import Member
    from dst.algorithms.mirror.mirror import Mirror
    from dst.algorithms.mirror.serving import Serving

__all__ = ["SETTLE_S", "MembersExplained", "seconds_until"]

SETTLE_S = NODE_BACK_S_MAX + 5.0
"""
How long a step takes that waits for a node: until the node is noticed, and what is then read and written on it.
"""


_RATE_DOUBT = 2.0
"""A resync gives way to clients: it may take so many times what its present rate says."""


def seconds_until(timer: IDelayedCall | None, clock: IReactorTime) -> float:
    """Until it rings; 0 if there is none."""
    return 0.0 if timer is None or not timer.active() else max(0.0, timer.getTime() - clock.seconds())


class MembersExplained:
    """Explains the members of one mirror."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def explain(self, member: Member, tree: StatusTree) -> Explanation:
        """
        Why C{member} is as it is.

        @param tree: what the mirror's status says of it.
        """
        below = explain_node(member.node)
        in_sync = member.state is MemberState.IN_SYNC
        standby = owned_elsewhere(self._mirror)  # what the member is to the storage, the owner knows
        explanation = evolve(
            below,
            health=worst_health(below.health, Health.HEALTHY if in_sync or standby else Health.DEGRADED),
            state=tree.state,
            since=tree.since,
            summary=below.summary if in_sync and member.ready else _sentence(tree),
            evidence=(*below.evidence, *self._evidence(member, tree)),
        )
        serving = self._mirror.serving
        if serving is None:
            return self._at_start(member, explanation)
        if in_sync:
            return explanation if member.ready else self._in_sync_away(serving, member, explanation)
        if member.state is MemberState.RESYNCING:
            return self._resyncing(serving, member, explanation)
        if member.state is MemberState.SUSPENDED:
            return self._suspended(member, explanation)
        if member.state is MemberState.REFUSED:
            return self._refused(member, explanation)
        return self._absent(serving, member, explanation)

    def _evidence(self, member: Member, tree: StatusTree) -> tuple[str, ...]:
        serving = self._mirror.serving
        facts = [f"its node is {member.node.link.value}" + (f": {member.node.reason}" if member.node.reason else "")]
        written = member.labels.label if member.labels is not None else None
        found = FoundLabel(written) if written is not None else member.found
        if found is not None:
            facts.append(label_in_words(found, serving.label if serving is not None else None))
        if member.incarnation and member.node.incarnation and member.incarnation != member.node.incarnation:
            facts.append(
                f"its incarnation is {identity_in_words(member.node.incarnation)} and was "
                f"{identity_in_words(member.incarnation)}: it restarted, and may have lost what it had not flushed"
            )
        if tree.dirty_bytes:
            facts.append(
                f"{size_in_words(tree.dirty_bytes)} there are not as the storage has them, by the ages of its regions"
            )
        if member.outstanding:
            facts.append(f"{member.outstanding} requests that were sent to it have not ended")
        facts.extend(f"when it came last: {verdict}" for verdict in member.history[-1:])
        return tuple(facts)

    # -- states

    def _at_start(self, member: Member, explanation: Explanation) -> Explanation:
        if member.state is MemberState.REFUSED:
            return self._refused(member, explanation)
        if not member.ready:
            return explanation
        starter = self._mirror.starter
        if starter is not None and starter.verdict is not None and starter.verdict.row == "diverged":
            storage = self._mirror.name
            return evolve(
                explanation,
                row=starter.verdict.row,
                next_step=NOBODY,
                condition="a person chooses the history to go on with",
                within_s=None,
                advice=(
                    f"it can be read: it is exported read-only as `{storage}@{member.name}`",
                    f"`dst storage resolve {storage} --keep {member.name}` goes on with what it has",
                ),
            )
        waits = member.outstanding
        return evolve(
            explanation,
            next_step="it waits for the storage to start",
            condition="what was sent to it before has ended" if waits else "the storage starts",
            within_s=None,
            advice=(),
        )

    def _in_sync_away(self, serving: Serving, member: Member, explanation: Explanation) -> Explanation:
        stalled = serving.configuration.stalled & member.bit
        if stalled:
            return evolve(
                explanation,
                next_step="operations that wait go on with it; if it restarted meanwhile, the storage starts again",
                within_s=SETTLE_S,
            )
        return self._interrupted(member, explanation) or explanation

    def _interrupted(self, member: Member, explanation: Explanation) -> Explanation | None:
        """It counts, and its link has broken a moment ago."""
        if member.grace is None:
            return None
        left_s = seconds_until(member.grace, self._mirror.clock)
        return evolve(
            explanation,
            next_step=f"it leaves in {left_s:.1f} s, and operations go on without it; if it is back before, "
            "nothing has happened",
            condition="",
            within_s=left_s + SETTLE_S,
        )

    def _resyncing(self, serving: Serving, member: Member, explanation: Explanation) -> Explanation:
        interrupted = self._interrupted(member, explanation)
        if interrupted is not None:
            return interrupted
        progress = member.progress
        if progress is None:
            return evolve(explanation, next_step="copying begins", condition="", within_s=SETTLE_S, advice=())
        left_s = progress.seconds_left
        facts = (
            f"{progress.kind} resync, because {progress.cause}: {size_in_words(progress.bytes_left)} of "
            f"{size_in_words(progress.bytes_total)} left, {size_in_words(progress.bytes_copied)} sent, "
            f"{rate_in_words(progress.bytes_per_s)}"
            + (f", {duration_in_words(left_s)} to go at this rate" if left_s is not None else ""),
        )
        configuration = serving.configuration
        sources = members_in(self._mirror.members, configuration.in_sync & configuration.usable)
        condition = progress.stalled
        if not any(source.ready for source in sources):
            condition = "a copy that is in sync can be reached"
        if progress.stalled == PAUSED:
            return evolve(
                explanation,
                row=member.row,
                evidence=(*explanation.evidence, *facts),
                next_step=NOBODY,
                condition="a person resumes the resync",
                within_s=None,
                advice=(f"`dst storage resume-resync {self._mirror.name} {member.name}` goes on with the copying",),
            )
        return evolve(
            explanation,
            row=member.row,
            evidence=(*explanation.evidence, *facts),
            next_step="it becomes in-sync when the rest is copied",
            condition=condition,
            within_s=None if left_s is None else left_s * _RATE_DOUBT + SETTLE_S,
            advice=(),
        )

    def _suspended(self, member: Member, explanation: Explanation) -> Explanation:
        storage = self._mirror.name
        return evolve(
            explanation,
            next_step=NOBODY,
            condition="a person resumes it",
            within_s=None,
            advice=(f"`dst resume {storage} {member.name}` uses it again; what it missed is copied to it",),
        )

    def _refused(self, member: Member, explanation: Explanation) -> Explanation:
        return evolve(
            explanation,
            row=member.row,
            next_step=NOBODY,
            condition="other media stands at its place, or the reason ends",
            within_s=None,
            advice=advice_for(member.row, self._mirror.name, member.name),
        )

    def _absent(self, serving: Serving, member: Member, explanation: Explanation) -> Explanation:
        configuration = serving.configuration
        if configuration.leaving & member.bit:
            waits = "the other copies, and enough of the votes, answer that they have kept the record"
            if configuration.frozen:
                waits = "a copy with the latest data can be reached"
            return evolve(
                explanation,
                next_step="a record without it is made stable, and operations go on without it",
                condition="the record can be written" if configuration.trouble else waits,
                within_s=SETTLE_S,
            )
        if not member.ready:
            return explanation
        if member.outstanding:
            return evolve(
                explanation,
                next_step="it is looked at, and what it missed is copied",
                condition=f"{member.outstanding} requests that were sent to it before have ended",
                within_s=SETTLE_S,
            )
        if configuration.frozen:
            return evolve(
                explanation,
                next_step="it is looked at, and what it missed is copied",
                condition="a copy with the latest data can be reached",
                within_s=SETTLE_S,
            )
        if member.returning:
            return evolve(
                explanation,
                summary=f"{member.name} is absent: it can be reached again, and is being looked at",
                next_step="what stands on it decides how it comes back, and what it missed is copied",
                condition="its node answers what it is asked",
                within_s=SETTLE_S,
            )
        wait_s = seconds_until(member.retry, self._mirror.clock)
        held_s = member.flaps.held_s(self._mirror.clock.seconds())
        if held_s > 0:
            return evolve(
                explanation,
                summary=f"{member.name} is absent: {member.flaps.sentence}",
                next_step=f"it is held back for {duration_in_words(max(1.0, held_s))} more, then looked at, and what "
                "it missed is copied",
                condition="",
                within_s=held_s + SETTLE_S,
                advice=(
                    "find out why it leaves so often: its cable, its disk, its daemon's log",
                    f"`dst resume {self._mirror.name} {member.name}` takes it back now",
                ),
            )
        if member.retry is not None:
            pause = duration_in_words(max(1.0, wait_s))
            return evolve(
                explanation,
                next_step=f"its return is tried again in {pause}, and then with growing pauses",
                condition="what made it fail has ended",
                within_s=wait_s + SETTLE_S,
                advice=(
                    "look what the sentence above says of its disk or its daemon",
                    f"`dst replace {self._mirror.name} {member.name} URI` puts other media at its place",
                ),
            )
        return evolve(
            explanation, next_step="it is looked at, and what it missed is copied", condition="", within_s=SETTLE_S
        )


def _sentence(tree: StatusTree) -> str:
    return f"{tree.name} is {tree.state}" + (f": {tree.reason}" if tree.reason else "")
