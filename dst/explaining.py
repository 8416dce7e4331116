"""
Why something is as it is, what happens next, and what a person can do: values.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from dst.status import Health

__all__ = ["Explanation", "ResyncRecord", "ScrubRecord"]


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


@frozen
class ScrubRecord:
    """
    One comparison of all copies, that goes on or has ended.

    @ivar state: C{"running"}, C{"done"} or C{"stopped"}.
    @ivar began: seconds of the epoch.
    @ivar ended: C{None} while it goes on.
    @ivar repair: what is evident is mended.
    @ivar bytes_total: what is to be compared.
    @ivar bytes_left: what is left of that.
    @ivar bytes_per_s: over the last seconds.
    @ivar unreadable_bytes: what one copy could not read and another could.
    @ivar outvoted_bytes: what one copy has otherwise than most of them.
    @ivar repaired_bytes: how much of both was written anew.
    @ivar undecided_bytes: what copies have otherwise, and none of them is more credible. Nothing was changed there.
    @ivar lost_bytes: what no copy can read.
    @ivar undecided: where, as (offset, length, how the copies fall apart); the first ones.
    @ivar waits_for: one sentence while it cannot go on.
    """

    state: str
    began: float
    ended: float | None
    repair: bool
    bytes_total: int
    bytes_left: int
    bytes_per_s: float = 0.0
    unreadable_bytes: int = 0
    outvoted_bytes: int = 0
    repaired_bytes: int = 0
    undecided_bytes: int = 0
    lost_bytes: int = 0
    undecided: tuple[tuple[int, int, str], ...] = ()
    waits_for: str = ""

    @property
    def sentence(self) -> str:
        """What was found, for a person."""
        parts = []
        if self.undecided_bytes:
            parts.append(f"{self.undecided_bytes} bytes differ and no copy is more credible")
        if self.lost_bytes:
            parts.append(f"{self.lost_bytes} bytes no copy can read")
        if self.outvoted_bytes:
            parts.append(f"{self.outvoted_bytes} bytes one copy had otherwise than most")
        if self.unreadable_bytes:
            parts.append(f"{self.unreadable_bytes} bytes one copy could not read")
        if self.repaired_bytes:
            parts.append(f"{self.repaired_bytes} bytes were mended")
        return "; ".join(parts) or "all copies are equal"
