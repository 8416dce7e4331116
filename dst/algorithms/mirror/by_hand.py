"""
What a person can do to a mirror that serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dst.algorithms.mirror.member import Member, members_in
from dst.algorithms.mirror.witness import Witness
from dst.errors import DSTError, InvalidRequest, NotFound, Unavailable
from dst.interfaces import INode, MemberOptions
from dst.label.format import MEMBERS_MAX, VOTES_MAX
from dst.status import MemberState
from dst.surroundings import surroundings_of

if TYPE_CHECKING:
    from dst.algorithms.mirror.mirror import Mirror
    from dst.algorithms.mirror.serving import Serving

__all__ = ["SUSPENDED", "ByHand"]

SUSPENDED = "suspended by hand; `dst resume` uses it again"


class ByHand:
    """
    Each method fails before anything is done where it would cost the last copy.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def _member(self, name: str) -> Member:
        mirror = self._mirror
        for member in mirror.members:
            if member.name == name and not member.removed:
                return member
        known = ", ".join(node.name for node in mirror.nodes)
        raise NotFound(f"{mirror.name} has no member {name}; its members are {known}")

    def _asked(self, name: str) -> tuple[Serving, Member]:
        mirror = self._mirror
        member = self._member(name)
        if mirror.serving is None:
            raise mirror.unavailable()
        if mirror.serving.configuration.no_quorum:
            raise Unavailable(f"{mirror.name} cannot be changed now: {mirror.serving.configuration.no_quorum}")
        return mirror.serving, member

    def _not_last(self, serving: Serving, member: Member, what: str) -> None:
        mirror = self._mirror
        configuration = serving.configuration
        if configuration.sent & member.bit and not configuration.usable & ~member.bit:
            raise InvalidRequest(
                f"{member.name} has the last copy of {mirror.name} that can be reached: it cannot {what}"
            )

    def _leaves(self, serving: Serving, member: Member, reason: str) -> None:
        """It leaves, and not by its own fault."""
        before = member.departures
        serving.configuration.fail(member, reason)
        member.departures = before

    async def suspend(self, name: str) -> None:
        """See L{IAlgorithm.suspend}."""
        mirror = self._mirror
        serving, member = self._asked(name)
        if member.suspended:
            return
        self._not_last(serving, member, "be suspended")
        member.suspended = True
        self._leaves(serving, member, "suspended by hand")
        await serving.configuration.make_stable()
        if member.suspended:  # nobody resumed it meanwhile
            member.become(MemberState.SUSPENDED, SUSPENDED)
        mirror.tell_observers()

    async def resume(self, name: str) -> None:
        """See L{IAlgorithm.resume}."""
        serving, member = self._asked(name)
        if not member.suspended and member.retry is not None:
            serving.returning.now(member)  # it was held back
            return
        if not member.suspended:
            raise InvalidRequest(f"{name} is not suspended, it is {member.state.value}")
        member.suspended = False
        member.become(MemberState.ABSENT, "resumed" if member.ready else member.node.reason)
        await serving.configuration.make_stable()
        serving.returning.now(member)

    async def mark_dirty(self, name: str) -> None:
        """See L{IAlgorithm.mark_dirty}."""
        serving, member = self._asked(name)
        self._not_last(serving, member, "be marked dirty")
        member.distrusted = True
        if (serving.configuration.sent | serving.configuration.targets) & member.bit:
            self._leaves(serving, member, "marked dirty by hand: it is copied again as a whole")
            await serving.configuration.make_stable()
        serving.returning.consider(member)

    async def mark_clean(self, name: str) -> None:
        """See L{IAlgorithm.mark_clean}."""
        mirror = self._mirror
        member = self._member(name)
        if mirror.starter is not None:
            mirror.starter.force(name)
            return
        if mirror.serving is not None and mirror.serving.configuration.no_quorum:
            # The votes are gone: a person says that they are gone for good, and with whom to go on.
            mirror.force(name)
            return
        serving, member = self._asked(name)
        configuration = serving.configuration
        if configuration.in_sync & member.bit:
            raise InvalidRequest(f"{name} is in sync already")
        if not configuration.targets & member.bit or member.tables is None:
            raise InvalidRequest(
                f"{name} is {member.state.value}: only a member that is being resynced can be marked clean"
            )
        member.table.take_over(self._source(serving).table)
        await member.unless_left(member.tables.stabilise(range(member.table.regions)))
        dirty = member.table.differences(self._source(serving).table)
        for region in serving.hot.regions:
            dirty[region] = 1
        member.dirty = dirty
        member.dirty_count = dirty.count(1)
        # The copier finds what was written meanwhile, copies that, and adds it.

    def _source(self, serving: Serving) -> Member:
        for member in members_in(self._mirror.members, serving.configuration.in_sync & serving.configuration.usable):
            return member
        raise Unavailable(f"no copy of {self._mirror.name} can be reached to compare with")

    async def replace(self, name: str, node: INode) -> None:
        """See L{IAlgorithm.replace}."""
        mirror = self._mirror
        serving, member = self._asked(name)
        self._not_last(serving, member, "be replaced")
        await node.open()
        suspended = member.suspended
        member.going, member.suspended = True, False
        try:
            self._leaves(serving, member, "replaced by hand")
            await serving.configuration.make_stable()
        except DSTError:
            member.going, member.suspended = False, suspended
            await node.close()
            raise
        old = member.node
        member.unobserve()
        await old.close()
        member.take(node)
        member.going = False
        member.unobserve = node.observe(lambda _: mirror.node_changed(member))
        member.become(MemberState.ABSENT, "replaced by hand")
        serving.returning.consider(member)

    async def add_node(self, node: INode, options: MemberOptions) -> None:
        """See L{IAlgorithm.add_node}."""
        mirror = self._mirror
        if mirror.serving is None:
            raise mirror.unavailable()
        if any(each.name == node.name for each in mirror.nodes):
            raise InvalidRequest(f"{mirror.name} has a member {node.name} already")
        if len(mirror.members) >= MEMBERS_MAX:
            raise InvalidRequest(f"{mirror.name} has had {MEMBERS_MAX} members, the most there can be")
        await node.open()
        member = Member(len(mirror.members), node, options, surroundings_of(mirror.clock).wall_clock_s)
        member.drained = lambda: mirror.serving.returning.consider(member) if mirror.serving is not None else None
        mirror.members.append(member)
        member.unobserve = node.observe(lambda _: mirror.node_changed(member))
        mirror.serving.returning.consider(member)

    async def remove_node(self, name: str) -> None:
        """See L{IAlgorithm.remove_node}."""
        mirror = self._mirror
        serving, member = self._asked(name)
        self._not_last(serving, member, "be removed")
        configuration = serving.configuration
        member.going = True
        try:
            configuration.fail(member, "removed by hand")
            await configuration.make_stable()
            await configuration.remove(member)
        except DSTError:
            member.going = False
            raise
        member.removed = True
        member.unobserve()
        await member.node.close()
        mirror.tell_observers()

    async def add_witness(self, node: INode) -> None:
        """See L{IWitnessed.add_witness}."""
        mirror = self._mirror
        if mirror.serving is None:
            raise mirror.unavailable()
        if not mirror.serving.configuration.votes_of_members:
            raise InvalidRequest(
                f'{mirror.name} has one vote, its owner\'s: a witness means nothing there before votes = "members"'
            )
        if node.name in {*(each.name for each in mirror.nodes), *(each.name for each in mirror.witnesses)}:
            raise InvalidRequest(f"{mirror.name} has a node {node.name} already")
        if len(mirror.nodes) + len(mirror.witnesses) >= VOTES_MAX:
            raise InvalidRequest(f"{mirror.name} has {VOTES_MAX} nodes that vote, the most there can be")
        await node.open()
        witness = Witness(node)
        mirror.witnesses.append(witness)
        witness.unobserve = node.observe(lambda _: mirror.witness_changed(witness))
        mirror.witness_changed(witness)

    async def remove_witness(self, name: str) -> None:
        """See L{IWitnessed.remove_witness}."""
        mirror = self._mirror
        witness = next((each for each in mirror.witnesses if each.name == name), None)
        if witness is None:
            known = ", ".join(each.name for each in mirror.witnesses) or "none"
            raise NotFound(f"{mirror.name} has no witness {name}; its witnesses are {known}")
        if mirror.serving is None:
            raise mirror.unavailable()
        if mirror.serving.configuration.no_quorum:
            raise Unavailable(f"{mirror.name} cannot be changed now: {mirror.serving.configuration.no_quorum}")
        witness.removed = True
        try:
            # It goes on keeping records until none counts its vote: one vote changes with each record.
            for _ in range(VOTES_MAX):
                serving = mirror.serving
                if serving is None:
                    raise mirror.unavailable()
                votes = serving.configuration.record.votes
                if all(vote.node_id != witness.node_id for vote in votes):
                    break
                await serving.configuration.make_stable()
            else:
                raise Unavailable(f"{mirror.name} cannot do without the vote of {name} now; nothing was changed")
        except DSTError:
            witness.removed = False
            raise
        mirror.witnesses.remove(witness)
        if mirror.serving is not None:
            mirror.serving.witnesses.forget(witness)
        witness.unobserve()
        await witness.node.close()
        mirror.tell_observers()
