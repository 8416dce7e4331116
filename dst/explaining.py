"""
Why something is as it is, what happens next, and what a person can do: values.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from dst.status import Health

__all__ = ["Explanation", "ResyncRecord"]


@frozen
class Explanation:
    """
    The state of a device, explained.

    Whatever is not healthy has a C{summary} and a C{next_step}; the next step comes true when its condition does
    and nothing else fails meanwhile.

    @ivar name: in the topology.
    @ivar kind: as in L{dst.status.StatusTree}.
    @ivar state: the word of the status tree.
    @ivar since: when it began, seconds of the epoch.
    @ivar summary: one sentence: how it is and why.
    @ivar row: the name of the table row that decided, or C{""}.
    @ivar evidence: what was seen, one sentence each: labels, records, promises, incarnations, links.
    @ivar next_step: what is done next without anybody's help, or that nothing is.
    @ivar condition: what that waits for; C{""} when it is under way.
    @ivar within_s: how long it will take at most from when the condition holds, or C{None} when that depends on
        others.
    @ivar advice: what a person can do, each with the command and what it costs.
    @ivar children: the members', or what else stands below.
    """

    name: str
    kind: str
    health: Health
    state: str
    since: float
    summary: str
    row: str = ""
    evidence: tuple[str, ...] = ()
    next_step: str = ""
    condition: str = ""
    within_s: float | None = None
    advice: tuple[str, ...] = ()
    children: tuple[Explanation, ...] = ()

    def walk(self) -> Iterator[Explanation]:
        """This one and every one below it, top down."""
        yield self
        for child in self.children:
            yield from child.walk()


@frozen
class ResyncRecord:
    """
    One resync that has ended.

    @ivar member: the member's name.
    @ivar kind: C{"full"}, C{"partial"} or C{"reconcile"}.
    @ivar cause: one sentence.
    @ivar row: the table row that demanded it.
    @ivar began: seconds of the epoch.
    @ivar seconds: how long it took.
    @ivar bytes_dirty: what had to be looked at when it began.
    @ivar bytes_copied: what was sent; areas that are the same on both sides are not.
    @ivar outcome: C{"in-sync"}, or one sentence why it ended before.
    """

    member: str
    kind: str
    cause: str
    row: str
    began: float
    seconds: float
    bytes_dirty: int
    bytes_copied: int
    outcome: str
